//! Licences (DR): to whom, for how long, and that keys are nowhere else.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use control_api::admin::{Fixture, load};
use packager::grant::GrantScheme;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Api, KEY_HD, KEY_ID_HD, KEY_ID_UHD, settings};
use crate::playback::{Scene, grant_of, on_device, scene};

async fn api() -> Api {
    let mut settings = settings();
    settings.drm.allow_clearkey = true;
    Api::with(settings).await
}

async fn drm_scene(api: &Api) -> Scene<'_> {
    let scene = scene(api, 3).await;
    api.sql("update movies set drm_required = true").await;
    scene
}

fn clear_key_request(key_ids: &[[u8; 16]]) -> Vec<u8> {
    let kids: Vec<String> = key_ids.iter().map(|id| URL_SAFE_NO_PAD.encode(id)).collect();
    json!({ "kids": kids, "type": "temporary" }).to_string().into_bytes()
}

fn wish(scene: &Scene<'_>, system: &str, challenge: &[u8]) -> Value {
    json!({
        "content_id": scene.movie, "content_type": "movie", "drm_system": system,
        "license_request_bytes": STANDARD.encode(challenge),
    })
}

/// Starts the title, and wishes for a licence for this very session.
async fn named_wish(scene: &Scene<'_>) -> Value {
    let session = scene.start().await;
    let mut wish = wish(scene, "clearkey", &clear_key_request(&[KEY_ID_HD]));
    wish["session_id"] = session["session_id"].clone();
    wish
}

fn time(value: &Value) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap().to_utc()
}

#[tokio::test]
async fn dr_1_protected_titles_are_told_and_clear_forms_stay_closed() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    let body = scene.start().await;
    assert_eq!(
        body["drm"],
        json!({ "required": true, "systems": ["widevine", "clearkey"], "license_url": "/api/v1/drm/license" })
    );
    let grant = grant_of(&api, &body);
    assert!(!grant.allows_scheme(GrantScheme::Clear));
    api.sql("update movies set drm_required = false").await;
    let body = scene.start().await;
    assert_eq!(
        (body["drm"]["required"].clone(), body["drm"]["systems"].clone()),
        (json!(false), json!([]))
    );
    let grant = grant_of(&api, &body);
    assert!(grant.allows_scheme(GrantScheme::Clear) && grant.allows_scheme(GrantScheme::Aes128));
}

#[tokio::test]
async fn dr_2_and_3_licences_need_a_session_of_this_very_device() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    let wish = wish(&scene, "clearkey", &clear_key_request(&[KEY_ID_HD]));
    let ask = || scene.viewer.post("/drm/license").json(wish.clone());
    ask().refused("NO_ACTIVE_SESSION").await;
    let session = scene.start().await;
    let licence = ask().expect(200).await;
    // The browser's own format, in base64.
    let keys: Value =
        serde_json::from_slice(&STANDARD.decode(licence["license_bytes"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(keys["keys"][0]["kid"], json!(URL_SAFE_NO_PAD.encode(KEY_ID_HD)));
    assert_eq!(keys["keys"][0]["k"], json!(URL_SAFE_NO_PAD.encode(KEY_HD)));
    // Not without a device, nor with one that nobody knows, nor with another one of the account.
    let mut bare = scene.viewer.clone();
    bare.forget_header("x-device-id");
    bare.post("/drm/license")
        .json(wish.clone())
        .refused("DEVICE_ID_REQUIRED")
        .await;
    let unknown = scene.viewer.with_header("x-device-id", &Uuid::now_v7().to_string());
    unknown
        .post("/drm/license")
        .json(wish.clone())
        .refused("DEVICE_NOT_REGISTERED")
        .await;
    let second = on_device(&scene.viewer, 2).await;
    second
        .post("/drm/license")
        .json(wish.clone())
        .refused("DEVICE_MISMATCH")
        .await;
    let mut named = wish.clone();
    named["session_id"] = session["session_id"].clone();
    second
        .post("/drm/license")
        .json(named.clone())
        .refused("DEVICE_MISMATCH")
        .await;
    scene.viewer.post("/drm/license").json(named.clone()).expect(200).await;
    named["session_id"] = json!(Uuid::now_v7());
    scene
        .viewer
        .post("/drm/license")
        .json(named)
        .refused("NO_ACTIVE_SESSION")
        .await;
    // Nor somebody else, on a device of their own.
    let other = on_device(&api.user().await, 9).await;
    other
        .post("/drm/license")
        .json(wish.clone())
        .refused("NO_ACTIVE_SESSION")
        .await;
    // Nor for another title, nor when the session is over.
    let mut elsewhere = wish.clone();
    elsewhere["content_id"] = json!(Uuid::now_v7());
    scene
        .viewer
        .post("/drm/license")
        .json(elsewhere)
        .refused("NO_ACTIVE_SESSION")
        .await;
    let path = format!("/playback/sessions/{}", session["session_id"].as_str().unwrap());
    scene.viewer.delete(&path).expect(204).await;
    ask().refused("NO_ACTIVE_SESSION").await;
}

#[tokio::test]
async fn dr_2_a_silent_session_gets_no_licence() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    scene.start().await;
    let wish = wish(&scene, "clearkey", &clear_key_request(&[KEY_ID_HD]));
    api.app.advance(TimeDelta::seconds(95));
    scene.viewer.post("/drm/license").json(wish.clone()).expect(200).await;
    api.app.advance(TimeDelta::seconds(6));
    scene
        .viewer
        .post("/drm/license")
        .json(wish)
        .refused("NO_ACTIVE_SESSION")
        .await;
}

#[tokio::test]
async fn dr_4_keys_leave_inside_licences_alone() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    scene.start().await;
    let wish = wish(&scene, "clearkey", &clear_key_request(&[KEY_ID_HD]));
    scene.viewer.post("/drm/license").json(wish.clone()).expect(200).await;
    let hidden = [
        STANDARD.encode(KEY_HD),
        URL_SAFE_NO_PAD.encode(KEY_HD),
        "5a5a5a5a5a5a5a5a".to_owned(),
    ];
    for table in [
        "audit_log",
        "drm_licences",
        "outbox_events",
        "idempotency_keys",
        "stream_sessions",
        "api_key_requests",
    ] {
        let text: String = api
            .value(&format!("select coalesce(string_agg(t::text, ' '), '') from {table} t"))
            .await;
        assert!(!hidden.iter().any(|key| text.contains(key)), "{table}: {text}");
    }
    // Off unless the operator wants it.
    let plain = Api::start().await;
    let scene = drm_scene(&plain).await;
    let body = scene.start().await;
    assert_eq!(body["drm"]["systems"], json!(["widevine"]));
    let mut wish = wish;
    wish["content_id"] = json!(scene.movie);
    let refused = scene
        .viewer
        .post("/drm/license")
        .json(wish.clone())
        .refused("VALIDATION_ERROR")
        .await;
    assert_eq!(refused["details"][0]["field"], "drm_system");
    // Nor is anything that nobody issues.
    wish["drm_system"] = json!("fairplay");
    scene
        .viewer
        .post("/drm/license")
        .json(wish)
        .refused("VALIDATION_ERROR")
        .await;
}

#[tokio::test]
async fn dr_4_keys_above_the_session_s_height_stay_closed() {
    let api = api().await;
    // FHD is this plan's best.
    let scene = drm_scene(&api).await;
    scene.start().await;
    let both = wish(&scene, "clearkey", &clear_key_request(&[KEY_ID_HD, KEY_ID_UHD]));
    let licence = scene.viewer.post("/drm/license").json(both).expect(200).await;
    let keys: Value =
        serde_json::from_slice(&STANDARD.decode(licence["license_bytes"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    let above = wish(&scene, "clearkey", &clear_key_request(&[KEY_ID_UHD]));
    scene.viewer.post("/drm/license").json(above).refused("FORBIDDEN").await;
}

#[tokio::test]
async fn dr_5_licences_last_as_their_title_says_and_end_with_it() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    let wish = wish(&scene, "clearkey", &clear_key_request(&[KEY_ID_HD]));
    let lasts = async || {
        let now = api.app.now();
        let licence = scene.viewer.post("/drm/license").json(wish.clone()).expect(200).await;
        let (end, renewal) = (time(&licence["expires_at"]), time(&licence["renewal_before"]));
        ((end - now).num_seconds(), (end - renewal).num_seconds())
    };
    scene.start().await;
    let close = |(got, tenth): (i64, i64), expected: i64| {
        assert!(
            (expected - 2..=expected).contains(&got) && (tenth - expected / 10).abs() <= 1,
            "{got} {tenth}"
        );
    };
    close(lasts().await, 86_400);
    api.sql("update movies set license_duration_seconds = 600").await;
    close(lasts().await, 600);
    api.sql("update movies set available_until = now() + interval '100 seconds'")
        .await;
    close(lasts().await, 100);
}

#[tokio::test]
async fn dr_6_each_licence_is_in_the_audit_log() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    let session = scene.start().await;
    for _ in 0..2 {
        let wish = wish(&scene, "clearkey", &clear_key_request(&[KEY_ID_HD]));
        scene.viewer.post("/drm/license").json(wish).expect(200).await;
    }
    let written = api.audit().await;
    assert_eq!(
        written.iter().filter(|action| *action == "drm.license_issued").count(),
        2
    );
    let row: Value = api
        .value("select to_jsonb(a) from audit_log a where action = 'drm.license_issued' limit 1")
        .await;
    assert_eq!(
        (row["resource_type"].as_str(), row["resource_id"].as_str()),
        (Some("movie"), Some(scene.movie.as_str()))
    );
    assert_eq!(row["actor_id"], json!(scene.viewer.user_id));
    assert_eq!(row["metadata"]["session_id"], session["session_id"]);
    assert_eq!(row["metadata"]["drm_system"], "clearkey");
    assert_eq!(
        row["metadata"]["device_id"].as_str(),
        scene.viewer.header_value("x-device-id")
    );
    assert_eq!(api.value::<i64>("select count(*) from drm_licences").await, 2);
    // A refusal leaves nothing.
    let wish = wish(&scene, "widevine", b"deny");
    scene.viewer.post("/drm/license").json(wish).refused("FORBIDDEN").await;
    assert_eq!(api.value::<i64>("select count(*) from drm_licences").await, 2);
}

#[tokio::test]
async fn dr_7_nothing_may_be_kept_on_a_device() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    scene.start().await;
    let wish = |challenge: &[u8]| wish(&scene, "clearkey", challenge);
    let asked = clear_key_request(&[KEY_ID_HD]);
    let licence = scene.viewer.post("/drm/license").json(wish(&asked)).expect(200).await;
    assert_eq!(licence["offline_enabled"], json!(false));
    let keeping = String::from_utf8(asked)
        .unwrap()
        .replace("temporary", "persistent-license");
    scene
        .viewer
        .post("/drm/license")
        .json(wish(keeping.as_bytes()))
        .refused("FORBIDDEN")
        .await;
}

#[tokio::test]
async fn dr_8_each_licence_asks_again_whether_one_may() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    scene.start().await;
    let ask = || {
        let wish = wish(&scene, "clearkey", &clear_key_request(&[KEY_ID_HD]));
        scene.viewer.post("/drm/license").json(wish)
    };
    ask().expect(200).await;
    // What was begun may be seen to its end.
    scene
        .moderator
        .post(&format!("/admin/movies/{}/unpublish", scene.movie))
        .expect(200)
        .await;
    ask().expect(200).await;
    api.sql("update movies set available_until = now() - interval '1 minute'")
        .await;
    ask().refused("AVAILABILITY_ENDED").await;
    api.sql("update movies set available_until = null").await;
    api.sql("update subscriptions set status = 'canceled'").await;
    ask().refused("SUBSCRIPTION_REQUIRED").await;
    api.sql("update subscriptions set status = 'active'").await;
    api.sql("update movies set is_premium = true").await;
    ask().refused("SUBSCRIPTION_REQUIRED").await;
    api.sql("update movies set is_premium = false").await;
    ask().expect(200).await;
    let rule = Uuid::now_v7();
    api.sql(&format!(
        "insert into geo_rules (id, tenant_id, name, policy, territories)
           select '{rule}', tenant_id, 'Nowhere', 'allow_list', array['AQ'] from movies limit 1;
         insert into geo_rule_targets (rule_id, content_id) select '{rule}', id from movies"
    ))
    .await;
    ask().refused("GEO_RESTRICTED").await;
}

#[tokio::test]
async fn challenges_that_are_none_and_services_that_fail() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    scene.start().await;
    let ask = |system: &str, challenge: &[u8]| scene.viewer.post("/drm/license").json(wish(&scene, system, challenge));
    ask("clearkey", b"{}").refused("INVALID_LICENSE_REQUEST").await;
    ask("clearkey", &[b'x'; 64 * 1024])
        .refused("INVALID_LICENSE_REQUEST")
        .await;
    let mut long = wish(&scene, "clearkey", b"x");
    long["license_request_bytes"] = json!(STANDARD.encode(vec![0; 64 * 1024 + 1]));
    scene
        .viewer
        .post("/drm/license")
        .json(long.clone())
        .refused("INVALID_LICENSE_REQUEST")
        .await;
    long["license_request_bytes"] = json!("====");
    scene
        .viewer
        .post("/drm/license")
        .json(long.clone())
        .refused("INVALID_LICENSE_REQUEST")
        .await;
    long["license_request_bytes"] = json!("a text");
    scene
        .viewer
        .post("/drm/license")
        .json(long)
        .refused("VALIDATION_ERROR")
        .await;
    let licence = ask("widevine", b"good").expect(200).await;
    assert_eq!(licence["drm_system"], "widevine");
    ask("widevine", b"unreadable").refused("INVALID_LICENSE_REQUEST").await;
    ask("widevine", b"upstream").refused("UPSTREAM_ERROR").await;
    ask("widevine", b"credentials").refused("UPSTREAM_ERROR").await;
    let got = ask("widevine", b"away").send().await.is(503);
    assert!(!got.header("retry-after").is_empty());
}

#[tokio::test]
async fn dr_8_what_is_kept_of_titles_counts_until_word_of_a_change() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    let wish = named_wish(&scene).await;
    let ask = || scene.viewer.post("/drm/license").json(wish.clone());
    // Behind the API's back, and nobody tells it: what it knew counts.
    let quietly = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(&api.app.db).await.unwrap();
    };
    ask().expect(200).await;
    quietly("update movies set is_premium = true").await;
    ask().expect(200).await;
    let path = format!("/admin/movies/{}", scene.movie);
    let mut movie = scene.moderator.get(&path).expect(200).await;
    movie["synopsis"] = json!("Another one.");
    scene.moderator.put(&path).json(movie).expect(200).await;
    ask().refused("SUBSCRIPTION_REQUIRED").await;
    // A refusal is never kept: it is looked for anew.
    quietly("update movies set is_premium = false").await;
    ask().expect(200).await;
    // The session's own row is looked at each time.
    quietly("update stream_sessions set expires_at = expires_at - interval '1 day'").await;
    ask().refused("NO_ACTIVE_SESSION").await;
    quietly("update stream_sessions set expires_at = expires_at + interval '1 day'").await;
    ask().expect(200).await;
    quietly("delete from stream_sessions").await;
    ask().refused("NO_ACTIVE_SESSION").await;
    assert_eq!(api.value::<i64>("select count(*) from drm_licences").await, 4);
}

#[tokio::test]
async fn dr_3_what_is_kept_of_sessions_is_held_against_their_rows() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    let wish = named_wish(&scene).await;
    let ask = || scene.viewer.post("/drm/license").json(wish.clone());
    ask().expect(200).await;
    // Each as if another node had seen to it that the session is another one by now.
    let changes = [
        ("device_id = gen_random_uuid()", "DEVICE_MISMATCH"),
        (
            "user_id = (select id from users where id <> user_id limit 1)",
            "NO_ACTIVE_SESSION",
        ),
        ("content_id = gen_random_uuid()", "NO_ACTIVE_SESSION"),
    ];
    for (change, code) in changes {
        let sql = format!("update stream_sessions set {change}");
        let kept = "create table before as select * from stream_sessions";
        let back = "delete from stream_sessions; insert into stream_sessions select * from before; drop table before";
        sqlx::raw_sql(kept).execute(&api.app.db).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&api.app.db)
            .await
            .unwrap();
        ask().refused(code).await;
        sqlx::raw_sql(back).execute(&api.app.db).await.unwrap();
        ask().expect(200).await;
    }
    // What it says now counts, not what was kept: lower pictures alone.
    sqlx::raw_sql("update stream_sessions set max_height = 100")
        .execute(&api.app.db)
        .await
        .unwrap();
    ask().refused("FORBIDDEN").await;
}

#[tokio::test]
async fn country_rules_that_are_loaded_count_at_the_next_licence() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    scene.start().await;
    let wish = wish(&scene, "clearkey", &clear_key_request(&[KEY_ID_HD]));
    let ask = || scene.viewer.post("/drm/license").json(wish.clone());
    ask().expect(200).await;
    let fixture: Fixture = serde_json::from_value(json!({ "geo_rule": [{
        "name": "Nowhere", "policy": "allow_list", "territories": ["AQ"], "applies_to": [scene.movie],
    }] }))
    .unwrap();
    load(&api.app, &fixture).await.unwrap();
    ask().refused("GEO_RESTRICTED").await;
}

#[tokio::test]
async fn dr_2_and_8_a_title_goes_by_its_own_type_alone() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    let session = scene.start().await;
    let mut wish = wish(&scene, "clearkey", &clear_key_request(&[KEY_ID_HD]));
    // What would be refused by its own name, and what would not.
    for sql in [
        "select 1",
        "update movies set available_until = now() - interval '1 hour'",
        "update subscriptions set status = 'canceled'",
    ] {
        api.sql(sql).await;
        for content_type in ["episode", "channel"] {
            wish["content_type"] = json!(content_type);
            for id in [json!(null), session["session_id"].clone()] {
                wish["session_id"] = id;
                let ask = scene.viewer.post("/drm/license").json(wish.clone());
                ask.refused("NO_ACTIVE_SESSION").await;
            }
        }
    }
    wish["content_type"] = json!("movie");
    let ask = scene.viewer.post("/drm/license").json(wish);
    ask.refused("AVAILABILITY_ENDED").await;
    assert_eq!(api.value::<i64>("select count(*) from drm_licences").await, 0);
}

#[tokio::test]
async fn licences_are_given_once_for_a_key() {
    let api = api().await;
    let scene = drm_scene(&api).await;
    scene.start().await;
    let wish = wish(&scene, "clearkey", &clear_key_request(&[KEY_ID_HD]));
    let ask = |wish: &Value| {
        let ask = scene.viewer.post("/drm/license").header("idempotency-key", "k");
        ask.json(wish.clone()).send()
    };
    let first = ask(&wish).await.is(200);
    let again = ask(&wish).await.is(200);
    assert_eq!(
        (again.header("idempotency-replayed"), &again.bytes),
        ("true", &first.bytes)
    );
    assert_eq!(api.value::<i64>("select count(*) from drm_licences").await, 1);
    let mut other = wish.clone();
    other["session_id"] = json!(Uuid::now_v7());
    assert_eq!(ask(&other).await.json()["code"], "IDEMPOTENCY_KEY_REUSED");
    // What is kept is sealed (DR-4).
    let kept: String = api
        .value("select string_agg(t::text, ' ') from idempotency_keys t")
        .await;
    assert!(!kept.contains(&URL_SAFE_NO_PAD.encode(KEY_HD)) && !kept.contains(&STANDARD.encode(&first.bytes)));
}
