//! Movies: what viewers see, and how titles get there (VS, PB, DL, GE).

use chrono::TimeDelta;
use control_api::auth::Role;
use control_api::config::{EntitlementMode, Section};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Api, Client, settings};

pub fn movie(title: &str) -> Value {
    json!({
        "title": title, "status": "draft", "drm_required": false, "runtime_minutes": 90, "content_rating": "PG-13",
        "release_year": 1999, "cast": [{ "name": "Ada", "role": "Lead" }, { "name": "Bo", "character": "Himself" }],
    })
}

/// A plan and a subscription of `user` to it.
pub async fn subscribe(api: &Api, user: Uuid, tier: i32, streams: i32) -> Uuid {
    let plan = Uuid::now_v7();
    let (id, tenant) = (Uuid::now_v7(), control_api::db::DEFAULT_TENANT.0);
    api.sql(&format!(
        "insert into plans (id, tenant_id, name, price, currency, billing_cycle, max_profiles, max_concurrent_streams,
           max_devices, max_quality, has_downloads, tier)
         values ('{plan}', '{tenant}', 'Plan {plan}', 9.99, 'EUR', 'monthly', 5, {streams}, 20, 'FHD', false, {tier});
         insert into subscriptions (id, tenant_id, user_id, plan_id, status, provider, current_period_start, current_period_end)
         values ('{id}', '{tenant}', '{user}', '{plan}', 'active', 'manual', now(), now() + interval '30 days')"
    ))
    .await;
    api.app.caches.clear();
    id
}

/// A video that is ready, attached to a title.
pub async fn attach(api: &Api, owner: Uuid, title: &str, playable: bool) -> Uuid {
    let (id, tenant) = (Uuid::now_v7(), control_api::db::DEFAULT_TENANT.0);
    let status = if playable { "ready" } else { "transcoding" };
    api.sql(&format!(
        "insert into assets (id, tenant_id, owner_id, type, title, status, playable, delivery_policy, target_type, target_id)
         values ('{id}', '{tenant}', '{owner}', 'video_master', 'master', '{status}', {playable}, 'session', 'movie', '{title}')"
    ))
    .await;
    id
}

/// A published movie; its id.
pub async fn published(api: &Api, moderator: &Client<'_>, body: Value) -> String {
    let id = moderator.post("/admin/movies").json(body).expect(201).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    attach(api, moderator.user_id, &id, true).await;
    moderator.post(&format!("/admin/movies/{id}/publish")).expect(200).await;
    id
}

fn titles(body: &Value) -> Vec<&str> {
    body["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["title"].as_str())
        .collect()
}

#[tokio::test]
async fn pb_1_publishing_needs_its_fields_and_a_video() {
    let api = Api::start().await;
    let moderator = api.moderator().await;
    let bare = json!({ "title": "Bare", "status": "draft", "drm_required": true });
    let id = moderator.post("/admin/movies").json(bare).expect(201).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/admin/movies/{id}/publish");
    let body = moderator.post(&path).refused("PUBLISH_VALIDATION_FAILED").await;
    let fields: Vec<&str> = body["details"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["field"].as_str())
        .collect();
    assert_eq!(fields, ["runtime_minutes", "content_rating", "assets"]);
    let mut published = movie("Now");
    published["status"] = json!("published");
    moderator
        .post("/admin/movies")
        .json(published)
        .refused("PUBLISH_VALIDATION_FAILED")
        .await;
    moderator
        .put(&format!("/admin/movies/{id}"))
        .json(movie("Full"))
        .expect(200)
        .await;
    attach(&api, moderator.user_id, &id, false).await;
    moderator.post(&path).refused("PUBLISH_VALIDATION_FAILED").await;
    // Attached is enough for later.
    let later = (api.app.now() + TimeDelta::hours(1)).to_rfc3339();
    let body = moderator
        .post(&path)
        .json(json!({ "available_from": later }))
        .expect(200)
        .await;
    assert_eq!(body["status"], "scheduled");
    api.sql("update assets set status = 'ready', playable = true").await;
    assert_eq!(moderator.post(&path).expect(200).await["status"], "published");
    // While published, what publishing needs stays.
    let mut less = movie("Full");
    less["status"] = json!("published");
    less.as_object_mut().unwrap().remove("runtime_minutes");
    moderator
        .put(&format!("/admin/movies/{id}"))
        .json(less)
        .refused("PUBLISH_VALIDATION_FAILED")
        .await;
}

#[tokio::test]
async fn pb_2_and_4_moves_and_what_they_tell() {
    let api = Api::start().await;
    let moderator = api.moderator().await;
    let id = published(&api, &moderator, movie("One")).await;
    let path = format!("/admin/movies/{id}");
    moderator
        .post(&format!("{path}/publish"))
        .refused("INVALID_STATE_TRANSITION")
        .await;
    moderator
        .put(&path)
        .json(movie("One"))
        .refused("INVALID_STATE_TRANSITION")
        .await;
    moderator.post(&format!("{path}/unpublish")).expect(200).await;
    moderator
        .post(&format!("{path}/unpublish"))
        .refused("INVALID_STATE_TRANSITION")
        .await;
    moderator.post(&format!("{path}/publish")).expect(200).await;
    assert_eq!(
        api.events().await,
        ["content.published", "content.unpublished", "content.published"]
    );
    let got = moderator.get(&path).send().await.is(200);
    let etag = got.header("etag").to_owned();
    moderator
        .post(&format!("{path}/unpublish"))
        .header("if-match", "\"1\"")
        .refused("PRECONDITION_FAILED")
        .await;
    moderator
        .post(&format!("{path}/unpublish"))
        .header("if-match", &etag)
        .expect(200)
        .await;
    api.user()
        .await
        .post(&format!("{path}/publish"))
        .refused("FORBIDDEN")
        .await;
}

#[tokio::test]
async fn pb_3_scheduled_titles_go_live_by_themselves() {
    let api = Api::start().await;
    let (moderator, user) = (api.moderator().await, api.user().await);
    subscribe(&api, user.user_id, 2, 1).await;
    let id = moderator.post("/admin/movies").json(movie("Soon")).expect(201).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    attach(&api, moderator.user_id, &id, false).await;
    let later = (api.app.now() + TimeDelta::minutes(10)).to_rfc3339();
    moderator
        .post(&format!("/admin/movies/{id}/publish"))
        .json(json!({ "available_from": later }))
        .expect(200)
        .await;
    assert_eq!(
        user.get(&format!("/movies/{id}")).expect(200).await["status"],
        "scheduled"
    );
    assert!(titles(&user.get("/movies").expect(200).await).is_empty());
    let due = || control_api::routes::movies::publish_due(&api.app);
    due().await.unwrap();
    assert_eq!(
        user.get(&format!("/movies/{id}")).expect(200).await["status"],
        "scheduled"
    );
    api.app.advance(TimeDelta::minutes(11));
    // Its video is not ready: it stays, and the log says so once.
    due().await.unwrap();
    due().await.unwrap();
    assert_eq!(
        api.audit()
            .await
            .iter()
            .filter(|action| *action == "content.publish_failed")
            .count(),
        1
    );
    api.sql("update assets set status = 'ready', playable = true").await;
    due().await.unwrap();
    assert_eq!(titles(&user.get("/movies").expect(200).await), ["Soon"]);
    assert_eq!(api.events().await, ["content.published"]);
}

#[tokio::test]
async fn dl_1_and_11_only_hidden_titles_are_deleted() {
    let api = Api::start().await;
    let (moderator, admin) = (api.moderator().await, api.admin().await);
    let id = published(&api, &moderator, movie("Gone")).await;
    let path = format!("/admin/movies/{id}");
    moderator.delete(&path).refused("FORBIDDEN").await;
    admin.delete(&path).refused("CONTENT_NOT_DELETABLE").await;
    moderator.post(&format!("{path}/unpublish")).expect(200).await;
    admin
        .delete(&path)
        .header("if-match", "\"1\"")
        .refused("PRECONDITION_FAILED")
        .await;
    admin.delete(&path).expect(204).await;
    admin.get(&path).refused("NOT_FOUND").await;
    assert_eq!(
        api.value::<i64>("select count(*) from assets where target_id is null")
            .await,
        1
    );
    assert_eq!(api.value::<i64>("select count(*) from playables").await, 0);
    let id = moderator.post("/admin/movies").json(movie("Gone")).expect(201).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    attach(&api, moderator.user_id, &id, true).await;
    admin
        .delete(&format!("/admin/movies/{id}?delete_assets=true"))
        .expect(204)
        .await;
    assert_eq!(api.value::<i64>("select count(*) from assets").await, 1);
}

#[tokio::test]
async fn vs_1_lists_hold_what_the_caller_may_watch() {
    let api = Api::start().await;
    let (moderator, user) = (api.moderator().await, api.user().await);
    published(&api, &moderator, movie("Standard")).await;
    let mut premium = movie("Premium");
    premium["is_premium"] = json!(true);
    published(&api, &moderator, premium).await;
    let mut over = movie("Over");
    over["available_until"] = json!((api.app.now() + TimeDelta::hours(1)).to_rfc3339());
    published(&api, &moderator, over).await;
    moderator.post("/admin/movies").json(movie("Draft")).expect(201).await;
    let list = async |query: &str| user.get(&format!("/movies?sort=title{query}")).expect(200).await;
    assert!(titles(&list("").await).is_empty());
    assert_eq!(titles(&list("&entitled=false").await), ["Over", "Premium", "Standard"]);
    subscribe(&api, user.user_id, 1, 1).await;
    assert_eq!(titles(&list("").await), ["Over", "Standard"]);
    assert!(titles(&list("&is_premium=true").await).is_empty());
    api.sql("update plans set tier = 2").await;
    assert_eq!(titles(&list("").await), ["Over", "Premium", "Standard"]);
    api.app.advance(TimeDelta::hours(2));
    let user = api.user().await;
    subscribe(&api, user.user_id, 2, 1).await;
    assert_eq!(
        titles(&user.get("/movies?sort=-title").expect(200).await),
        ["Standard", "Premium"]
    );
    api.stranger().get("/movies").refused("UNAUTHORIZED").await;
}

#[tokio::test]
async fn vs_1_strangers_see_a_public_catalogue() {
    let mut open = settings();
    open.catalogue.public_read = true;
    let api = Api::with(open).await;
    let moderator = api.moderator().await;
    let id = published(&api, &moderator, movie("Public")).await;
    let body = api.stranger().get("/movies").expect(200).await;
    assert_eq!(
        (titles(&body), body["data"][0]["entitled"].as_bool()),
        (vec!["Public"], Some(false))
    );
    api.stranger().get(&format!("/movies/{id}")).expect(200).await;
    let other = api.tenant("other").await;
    api.user_of(other, Role::User)
        .await
        .get(&format!("/movies/{id}"))
        .refused("WRONG_TENANT")
        .await;
    api.stranger()
        .get(&format!("/movies/{id}"))
        .header("host", "other.example")
        .refused("NOT_FOUND")
        .await;
}

#[tokio::test]
async fn vs_2_and_3_hidden_titles_are_for_their_makers() {
    let api = Api::start().await;
    let (moderator, user) = (api.moderator().await, api.user().await);
    let made = moderator
        .post("/admin/movies")
        .json(movie("The Draft"))
        .expect(201)
        .await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["slug"], "the-draft");
    user.get(&format!("/movies/{id}")).refused("NOT_FOUND").await;
    user.get("/movies/slug:the-draft").refused("NOT_FOUND").await;
    user.get("/movies/1").refused("NOT_FOUND").await;
    assert_eq!(
        titles(&moderator.get("/admin/movies?status=draft&q=draft").expect(200).await),
        ["The Draft"]
    );
    let second = moderator
        .post("/admin/movies")
        .json(movie("The Draft"))
        .expect(201)
        .await;
    assert_eq!(second["slug"], "the-draft-2");
    attach(&api, moderator.user_id, id, true).await;
    moderator.post(&format!("/admin/movies/{id}/publish")).expect(200).await;
    let body = user.get("/movies/slug:the-draft?fields=title,cast").expect(200).await;
    assert_eq!(body["cast"][0]["name"], "Ada");
    assert!(body["synopsis"].is_null() && body["id"].is_string());
    user.get(&format!("/movies/{id}?fields=secret"))
        .refused("INVALID_FIELDS")
        .await;
    let got = user.get(&format!("/movies/{id}")).send().await.is(200);
    user.get(&format!("/movies/{id}"))
        .header("if-none-match", got.header("etag"))
        .expect(304)
        .await;
    assert_eq!(got.header("vary"), "Authorization, X-Profile-Id, Accept-Language");
}

#[tokio::test]
async fn vs_6_profiles_are_kept_from_what_is_not_for_them() {
    let api = Api::start().await;
    let (moderator, user) = (api.moderator().await, api.user().await);
    subscribe(&api, user.user_id, 2, 1).await;
    let id = published(&api, &moderator, movie("Grown up")).await;
    let kids = user
        .post("/profiles")
        .json(json!({ "name": "Kids", "is_kids": true }))
        .expect(201)
        .await;
    let child = user.with_header("x-profile-id", kids["id"].as_str().unwrap());
    child.get(&format!("/movies/{id}")).refused("PROFILE_RESTRICTED").await;
    assert!(titles(&child.get("/movies").expect(200).await).is_empty());
    assert_eq!(titles(&user.get("/movies").expect(200).await), ["Grown up"]);
    let foreign = user.with_header("x-profile-id", &Uuid::now_v7().to_string());
    foreign.get("/movies").refused("INVALID_PROFILE").await;
    user.with_header("x-profile-id", "x")
        .get("/movies")
        .refused("INVALID_PROFILE")
        .await;
}

#[tokio::test]
async fn ge_1_and_3_rules_of_countries() {
    let mut here = settings();
    here.geo.country_header = Some("x-country".to_owned());
    here.entitlement.mode = EntitlementMode::Open;
    let section = Section {
        require_https: false,
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        settings: here,
        ..Section::default()
    };
    let api = Api::with_section(section).await;
    let (moderator, user) = (api.moderator().await, api.user().await);
    let tenant = control_api::db::DEFAULT_TENANT.0;
    let (allow, block) = (Uuid::now_v7(), Uuid::now_v7());
    api.sql(&format!(
        "insert into geo_rules (id, tenant_id, name, policy, territories) values
           ('{allow}', '{tenant}', 'a', 'allow_list', '{{DE,AT}}'), ('{block}', '{tenant}', 'b', 'block_list', '{{AT}}')"
    ))
    .await;
    let mut body = movie("Here");
    body["geo_restrictions"] = json!({ "rule_id": allow });
    let id = published(&api, &moderator, body).await;
    api.sql(&format!("insert into geo_rule_targets values ('{block}', '{id}')"))
        .await;
    let from = async |country: &str| {
        let viewer = user.with_header("x-country", country);
        let status = viewer.get(&format!("/movies/{id}")).send().await.status;
        (status, titles(&viewer.get("/movies").expect(200).await).len())
    };
    assert_eq!(from("de").await, (200, 1));
    assert_eq!(from("AT").await, (403, 0));
    assert_eq!(from("FR").await, (403, 0));
    // Unknown: in no allow-list.
    assert_eq!(from("").await, (403, 0));
    api.sql(&format!("delete from geo_rule_targets where rule_id = '{allow}'"))
        .await;
    // Unknown counts as blocked by default.
    assert_eq!(from("").await, (403, 0));
    assert_eq!(from("FR").await, (200, 1));
    user.with_header("x-country", "AT")
        .get(&format!("/movies/{id}"))
        .refused("GEO_RESTRICTED")
        .await;
    let mut body = movie("Where");
    body["geo_restrictions"] = json!({ "rule_id": Uuid::now_v7() });
    moderator
        .post("/admin/movies")
        .json(body)
        .refused("VALIDATION_ERROR")
        .await;
}

#[tokio::test]
async fn lists_are_sorted_filtered_and_paged() {
    let mut open = settings();
    open.entitlement.mode = EntitlementMode::Open;
    let api = Api::with(open).await;
    let (moderator, user) = (api.moderator().await, api.user().await);
    let tenant = control_api::db::DEFAULT_TENANT.0;
    api.sql(&format!(
        "insert into genres (id, tenant_id, name, slug, content_types) values
           ('{}', '{tenant}', 'Action', 'action', '{{movie}}'), ('{}', '{tenant}', 'Drama', 'drama', '{{movie}}')",
        Uuid::now_v7(),
        Uuid::now_v7()
    ))
    .await;
    for (number, title) in ["Alpha", "Beta", "Gamma", "Delta", "Epsilon"].iter().enumerate() {
        let mut body = movie(title);
        body["release_year"] = if number == 3 { Value::Null } else { json!(2000 + number) };
        body["genres"] = if number < 2 {
            json!(["action"])
        } else {
            json!(["drama", "action"])
        };
        body["audio_languages"] = json!(["en", "de"]);
        body["imdb_rating"] = json!(7.0 + number as f64 / 10.0);
        published(&api, &moderator, body).await;
    }
    let mut unknown = movie("Unknown");
    unknown["genres"] = json!(["opera"]);
    moderator
        .post("/admin/movies")
        .json(unknown)
        .refused("VALIDATION_ERROR")
        .await;
    for (query, expected) in [
        ("sort=title", "Alpha Beta Delta Epsilon Gamma"),
        ("sort=-release_year", "Epsilon Gamma Beta Alpha Delta"),
        ("sort=-imdb_rating&limit=2", "Epsilon Delta"),
        ("sort=title&genre=drama", "Delta Epsilon Gamma"),
        ("sort=title&release_year=2001", "Beta"),
        ("sort=title&q=alpha", "Alpha"),
        ("sort=title&language=fr", ""),
        ("sort=title&content_rating=R", ""),
        ("sort=title&offset=3", "Epsilon Gamma"),
    ] {
        let body = user.get(&format!("/movies?{query}")).expect(200).await;
        assert_eq!(titles(&body).join(" "), expected, "{query}");
    }
    for sort in [
        "title",
        "-title",
        "release_year",
        "-release_date",
        "-imdb_rating",
        "newest",
        "top_rated",
        "most_viewed",
        "runtime_minutes",
        "created_at",
    ] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let body = user
                .get(&format!("/movies?limit=2&include_total=true&sort={sort}{cursor}"))
                .expect(200)
                .await;
            assert_eq!(body["meta"]["total"], 5);
            seen.extend(titles(&body).iter().map(|title| title.to_string()));
            match body["meta"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let whole = user.get(&format!("/movies?sort={sort}")).expect(200).await;
        assert_eq!(seen, titles(&whole), "{sort}");
    }
    user.get("/movies?sort=synopsis").refused("INVALID_SORT").await;
    let got = user.get("/movies").send().await.is(200);
    assert!(got.header("etag").starts_with("W/"));
    user.get("/movies")
        .header("if-none-match", got.header("etag"))
        .expect(304)
        .await;
}

#[tokio::test]
async fn ge_1_rules_and_genres_come_from_a_file() {
    let api = Api::start().await;
    let (moderator, user) = (api.moderator().await, api.user().await);
    subscribe(&api, user.user_id, 1, 1).await;
    let id = published(&api, &moderator, movie("Film")).await;
    let load = async |fixture: Value| {
        let fixture = serde_json::from_value(fixture).unwrap();
        control_api::admin::load(&api.app, &fixture)
            .await
            .map_err(|error| error.message.into_owned())
    };
    let genres = |rows: Value| json!({ "genre": rows });
    let (drama, noir) = (
        json!({ "slug": "drama", "name": "Drama" }),
        json!({ "slug": "noir", "name": "Noir", "parent": "drama" }),
    );
    load(genres(json!([drama, noir]))).await.unwrap();
    let mut body = movie("Dark");
    body["genres"] = json!(["noir"]);
    moderator.post("/admin/movies").json(body.clone()).expect(201).await;
    body["genres"] = json!(["opera"]);
    moderator
        .post("/admin/movies")
        .json(body)
        .refused("VALIDATION_ERROR")
        .await;
    // Again is a change; a genre is never below itself.
    load(genres(json!([{ "slug": "drama", "name": "Dramas" }])))
        .await
        .unwrap();
    assert_eq!(
        api.value::<String>("select string_agg(name, ',' order by name) from genres")
            .await,
        "Dramas,Noir"
    );
    for wrong in [
        json!({ "slug": "drama", "name": "Drama", "parent": "noir" }),
        json!({ "slug": "drama", "name": "Drama", "parent": "drama" }),
        json!({ "slug": "x", "name": "X", "parent": "nothing" }),
        json!({ "slug": "Capital", "name": "X" }),
        json!({ "slug": "x", "name": "" }),
        json!({ "slug": "x", "name": "X", "content_types": ["opera"] }),
    ] {
        assert!(load(genres(json!([wrong]))).await.is_err(), "{wrong}");
    }
    assert_eq!(
        api.value::<i64>("select count(*) from genres").await,
        2,
        "all or nothing"
    );
    let rule = |territories: Value, applies: Value| json!({ "geo_rule": [{ "name": "R", "policy": "allow_list", "territories": territories, "applies_to": applies }] });
    let path = format!("/movies/{id}");
    user.get(&path).expect(200).await;
    let made = load(rule(json!(["de"]), json!([id]))).await.unwrap();
    user.get(&path).refused("GEO_RESTRICTED").await;
    let admin = moderator.get(&format!("/admin/movies/{id}")).expect(200).await;
    assert_eq!(admin["geo_restrictions"]["rule_id"], json!(made[0].1));
    assert_eq!(admin["geo_restrictions"]["territories"], json!(["DE"]));
    for wrong in [
        rule(json!([]), json!([])),
        rule(json!(["DEU"]), json!([])),
        rule(json!(["DE"]), json!([Uuid::now_v7()])),
    ] {
        assert!(load(wrong.clone()).await.is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn im_1_images_are_at_https_addresses() {
    let api = Api::start().await;
    let moderator = api.moderator().await;
    for (uri, status) in [
        ("https://cdn.example/a.jpg", 201),
        ("http://cdn.example/a.jpg", 422),
        ("/a.jpg", 422),
        ("javascript:alert(1)", 422),
        ("data:image/png;base64,AAAA", 422),
    ] {
        let mut body = movie("Film");
        body["images"] = json!({ "poster": uri });
        let got = moderator.post("/admin/movies").json(body).send().await.is(status);
        if status == 201 {
            assert_eq!(got.json()["images"], json!({ "poster": uri }));
        }
    }
    let mut body = movie("Film");
    body["images"] = json!({ "portrait": "https://cdn.example/a.jpg" });
    moderator
        .post("/admin/movies")
        .json(body)
        .refused("VALIDATION_ERROR")
        .await;
}

#[tokio::test]
async fn what_is_sent_back_is_taken() {
    let api = Api::start().await;
    let moderator = api.moderator().await;
    let made = moderator.post("/admin/movies").json(movie("Twice")).expect(201).await;
    let path = format!("/admin/movies/{}", made["id"].as_str().unwrap());
    let again = moderator.put(&path).json(made.clone()).expect(200).await;
    for name in ["title", "cast", "status", "runtime_minutes", "slug", "images"] {
        assert_eq!(made[name], again[name], "{name}");
    }
    let mut window = movie("Window");
    window["available_from"] = json!("2030-01-02T00:00:00Z");
    window["available_until"] = json!("2030-01-01T00:00:00Z");
    moderator.put(&path).json(window).refused("VALIDATION_ERROR").await;
    let mut script = movie("<script>alert(1)</script>");
    script["images"] = json!({ "poster": "javascript:alert(1)" });
    moderator.put(&path).json(script).refused("VALIDATION_ERROR").await;
}

#[tokio::test]
async fn titles_of_one_name_at_once_get_slugs_of_their_own() {
    let api = Api::start().await;
    let (moderator, beside) = (api.moderator().await, api.beside().await);
    for path in ["/admin/movies", "/admin/shows"] {
        let asks = (0..8).map(|at| {
            let client = if at % 2 == 0 {
                moderator.clone()
            } else {
                moderator.at(&beside)
            };
            async move {
                client
                    .post(path)
                    .json(json!({ "title": "The Same", "drm_required": false, "status": "draft" }))
                    .expect(201)
                    .await
            }
        });
        let made = futures_util::future::join_all(asks).await;
        let mut slugs: Vec<&str> = made.iter().map(|body| body["slug"].as_str().unwrap()).collect();
        slugs.sort_unstable();
        let expected: Vec<String> = (2..9).map(|number| format!("the-same-{number}")).collect();
        assert_eq!(
            (slugs[0], &slugs[1..]),
            ("the-same", &expected.iter().map(String::as_str).collect::<Vec<_>>()[..])
        );
    }
}
