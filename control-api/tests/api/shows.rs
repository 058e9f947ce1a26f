//! Shows: what viewers see, and how shows get there (VS, PB, DL, GE).

use control_api::config::EntitlementMode;
use serde_json::{Value, json};

use crate::harness::{Api, Client, settings};
use crate::movies::subscribe;

fn show(title: &str) -> Value {
    json!({
        "title": title, "status": "draft", "drm_required": false, "content_rating": "TV-14", "network": "ARD",
        "first_air_date": "2019-12-31", "language": "de", "cast": [{ "name": "Ada", "role": "Lead" }],
    })
}

async fn made(moderator: &Client<'_>, body: Value) -> String {
    let body = moderator.post("/admin/shows").json(body).expect(201).await;
    body["id"].as_str().unwrap().to_owned()
}

async fn published(moderator: &Client<'_>, body: Value) -> String {
    let id = made(moderator, body).await;
    moderator.post(&format!("/admin/shows/{id}/publish")).expect(200).await;
    id
}

fn titles(body: &Value) -> Vec<&str> {
    let rows = body["data"].as_array().unwrap().iter();
    rows.filter_map(|row| row["title"].as_str()).collect()
}

fn open() -> control_api::config::Settings {
    let mut settings = settings();
    settings.entitlement.mode = EntitlementMode::Open;
    settings
}

#[tokio::test]
async fn pb_6_and_7_publication_and_airing_are_two_facts() {
    let api = Api::with(open()).await;
    let moderator = api.moderator().await;
    let mut bare = show("Bare");
    bare.as_object_mut().unwrap().remove("content_rating");
    let id = made(&moderator, bare.clone()).await;
    let path = format!("/admin/shows/{id}");
    let refused = moderator
        .post(&format!("{path}/publish"))
        .refused("PUBLISH_VALIDATION_FAILED")
        .await;
    assert_eq!(refused["details"][0]["field"], "content_rating");
    bare["status"] = json!("ongoing");
    moderator
        .post("/admin/shows")
        .json(bare)
        .refused("PUBLISH_VALIDATION_FAILED")
        .await;
    let put = async |status: &str| {
        let mut body = show("Full");
        body["status"] = json!(status);
        moderator.put(&path).json(body).expect(200).await["status"].clone()
    };
    assert_eq!(put("draft").await, "draft");
    moderator
        .post(&format!("{path}/unpublish"))
        .refused("INVALID_STATE_TRANSITION")
        .await;
    assert_eq!(
        moderator.post(&format!("{path}/publish")).expect(200).await["status"],
        "published"
    );
    moderator
        .post(&format!("{path}/publish"))
        .refused("INVALID_STATE_TRANSITION")
        .await;
    for status in ["ongoing", "ended", "canceled", "published", "ended"] {
        assert_eq!(put(status).await, *status);
    }
    // Taken back, the airing is kept, and is there again afterwards.
    assert_eq!(
        moderator.post(&format!("{path}/unpublish")).expect(200).await["status"],
        "draft"
    );
    assert_eq!(
        moderator.post(&format!("{path}/publish")).expect(200).await["status"],
        "ended"
    );
    // Moves among visible states tell nobody; the others do.
    assert_eq!(
        api.events().await,
        ["content.published", "content.unpublished", "content.published"]
    );
    // What publishing needs stays while it is published.
    let mut less = show("Full");
    less["status"] = json!("ended");
    less.as_object_mut().unwrap().remove("content_rating");
    moderator
        .put(&path)
        .json(less)
        .refused("PUBLISH_VALIDATION_FAILED")
        .await;
}

#[tokio::test]
async fn pb_8_a_status_in_a_body_is_a_request_of_shows_too() {
    let api = Api::start().await;
    let moderator = api.moderator().await;
    let mut body = show("Now");
    body["status"] = json!("ongoing");
    let id = made(&moderator, body.clone()).await;
    assert_eq!(api.events().await, ["content.published"]);
    body["status"] = json!("draft");
    let path = format!("/admin/shows/{id}");
    assert_eq!(
        moderator.put(&path).json(body.clone()).expect(200).await["status"],
        "draft"
    );
    assert_eq!(api.events().await, ["content.published", "content.unpublished"]);
    body["last_air_date"] = json!("2019-12-30");
    moderator
        .put(&path)
        .json(body.clone())
        .refused("VALIDATION_ERROR")
        .await;
    body["last_air_date"] = json!("2019-02-30");
    moderator
        .put(&path)
        .json(body.clone())
        .refused("VALIDATION_ERROR")
        .await;
    body["last_air_date"] = json!(null);
    moderator
        .put(&path)
        .header("if-match", "\"1\"")
        .json(body.clone())
        .refused("PRECONDITION_FAILED")
        .await;
    body["genres"] = json!(["none"]);
    moderator.put(&path).json(body).refused("VALIDATION_ERROR").await;
    let same = made(&moderator, show("Now")).await;
    let slug = moderator.get(&format!("/admin/shows/{same}")).expect(200).await["slug"].clone();
    assert_eq!(slug, "now-2");
    api.user().await.get("/admin/shows").refused("FORBIDDEN").await;
}

#[tokio::test]
async fn dl_2_and_11_only_drafts_are_deleted() {
    let api = Api::start().await;
    let (moderator, admin) = (api.moderator().await, api.admin().await);
    let id = published(&moderator, show("One")).await;
    let path = format!("/admin/shows/{id}");
    moderator.delete(&path).refused("FORBIDDEN").await;
    admin.delete(&path).refused("CONTENT_NOT_DELETABLE").await;
    moderator.post(&format!("{path}/unpublish")).expect(200).await;
    let tenant = control_api::db::DEFAULT_TENANT.0;
    api.sql(&format!(
        "insert into assets (id, tenant_id, owner_id, type, title, status, target_type, target_id)
         values (uuid_v7(), '{tenant}', '{}', 'trailer', 't', 'ready', 'show', '{id}')",
        admin.user_id
    ))
    .await;
    admin.delete(&path).expect(204).await;
    admin.get(&path).refused("NOT_FOUND").await;
    assert_eq!(
        api.value::<i64>("select count(*) from assets where target_id is null")
            .await,
        1
    );
    assert_eq!(api.value::<i64>("select count(*) from content_cast").await, 0);
    assert!(api.audit().await.contains(&"content.deleted".to_owned()));
}

#[tokio::test]
async fn vs_4_viewers_see_shows_that_are_published() {
    let api = Api::start().await;
    let (moderator, user) = (api.moderator().await, api.user().await);
    subscribe(&api, user.user_id, 1, 1).await;
    let draft = made(&moderator, show("Draft")).await;
    let mut states = Vec::new();
    for status in ["published", "ongoing", "ended", "canceled"] {
        let mut body = show(status);
        body["status"] = json!(status);
        states.push(made(&moderator, body).await);
    }
    let mut premium = show("Premium");
    premium["is_premium"] = json!(true);
    let premium = published(&moderator, premium).await;
    let all = user.get("/shows?sort=title").expect(200).await;
    assert_eq!(titles(&all), ["canceled", "ended", "ongoing", "published"]);
    assert_eq!(titles(&user.get("/shows?status=ended").expect(200).await), ["ended"]);
    assert_eq!(
        titles(&user.get("/shows?entitled=false&is_premium=true").expect(200).await),
        ["Premium"]
    );
    assert_eq!(
        user.get(&format!("/shows/{premium}")).expect(200).await["entitled"],
        false
    );
    user.get(&format!("/shows/{draft}")).refused("NOT_FOUND").await;
    user.get("/shows?sort=size").refused("INVALID_SORT").await;
    let one = user
        .get(&format!("/shows/{}?include=seasons,episodes", states[1]))
        .expect(200)
        .await;
    assert_eq!((&one["status"], &one["seasons"]), (&json!("ongoing"), &json!([])));
    user.get(&format!("/shows/{}?include=everything", states[1]))
        .refused("INVALID_FIELDS")
        .await;
    let fields = user.get("/shows/slug:ended?fields=title,network").expect(200).await;
    assert_eq!(fields.as_object().unwrap().len(), 3);
    // A validator holds until something changes.
    let got = user.get(&format!("/shows/{}", states[1])).send().await.is(200);
    let again = user
        .get(&format!("/shows/{}", states[1]))
        .header("if-none-match", got.header("etag"));
    again.send().await.is(304);
    // Admins see all of them.
    assert_eq!(
        titles(&moderator.get("/admin/shows?status=draft").expect(200).await),
        ["Draft"]
    );
    assert_eq!(
        moderator.get("/admin/shows?include_total=true").expect(200).await["meta"]["total"],
        6
    );
}

#[tokio::test]
async fn vs_6_and_ge_1_shows_are_kept_from_whom_they_are_not_for() {
    let mut settings = open();
    settings.geo.country_header = Some("x-country".to_owned());
    let section = control_api::config::Section {
        require_https: false,
        trusted_proxies: vec![std::net::IpAddr::from([127, 0, 0, 1])],
        settings,
        ..Default::default()
    };
    let api = Api::with_section(section).await;
    let (moderator, user) = (api.moderator().await, api.user().await);
    let id = published(&moderator, show("One")).await;
    let profile = json!({ "name": "Kid", "max_content_rating": "TV-PG" });
    let profile = user.post("/profiles").json(profile).expect(201).await;
    let kid = user.with_header("x-profile-id", profile["id"].as_str().unwrap());
    kid.get(&format!("/shows/{id}")).refused("PROFILE_RESTRICTED").await;
    assert!(titles(&kid.get("/shows").expect(200).await).is_empty());
    let (rule, tenant) = (uuid::Uuid::now_v7(), control_api::db::DEFAULT_TENANT.0);
    api.sql(&format!(
        "insert into geo_rules (id, tenant_id, name, policy, territories) values ('{rule}', '{tenant}', 'r', 'allow_list', '{{DE}}');
         insert into geo_rule_targets (rule_id, content_id) values ('{rule}', '{id}')"
    ))
    .await;
    user.with_header("x-country", "FR")
        .get(&format!("/shows/{id}"))
        .refused("GEO_RESTRICTED")
        .await;
    assert!(titles(&user.with_header("x-country", "FR").get("/shows").expect(200).await).is_empty());
    user.with_header("x-country", "DE")
        .get(&format!("/shows/{id}"))
        .expect(200)
        .await;
    assert_eq!(
        titles(&user.with_header("x-country", "DE").get("/shows").expect(200).await),
        ["One"]
    );
}
