//! Account, API keys, profiles, devices (AU, AK, PD, DV), and idempotency, which all of them use.

use chrono::TimeDelta;
use control_api::auth::Role;
use serde_json::{Value, json};

use crate::harness::{Api, Client, PASSWORD};

async fn key_of<'a>(user: &Client<'a>, body: Value) -> Client<'a> {
    let made = user.post("/api-keys").json(body).expect(201).await;
    user.with_credentials(made["key"].as_str().unwrap())
}

#[tokio::test]
async fn au_8_people_change_what_is_theirs() {
    let api = Api::start().await;
    let user = api.user().await;
    let got = user.get("/account").send().await.is(200);
    assert_eq!(got.json()["limits"]["max_devices"], 5);
    let etag = got.header("etag").to_owned();
    user.get("/account").header("if-none-match", &etag).expect(304).await;
    assert_eq!(
        user.patch("/account").json(json!({ "name": "New" })).expect(200).await["name"],
        "New"
    );
    for change in [json!({ "role": "admin" }), json!({ "status": "banned" })] {
        user.patch("/account").json(change).refused("FORBIDDEN").await;
    }
    // What was read may be sent back.
    let mut whole = got.json();
    whole["name"] = json!("Newer");
    whole["storage_quota_bytes"] = json!(1);
    let after = user.patch("/account").json(whole.clone()).expect(200).await;
    assert_eq!(
        (after["name"].as_str(), &after["storage_quota_bytes"]),
        (Some("Newer"), &Value::Null)
    );
    key_of(&user, json!({ "name": "k" }))
        .await
        .patch("/account")
        .json(whole)
        .expect(200)
        .await;
    user.patch("/account")
        .json(json!({ "email": "n@example.org" }))
        .refused("VALIDATION_ERROR")
        .await;
    let wrong = json!({ "email": "n@example.org", "current_password": "wrong" });
    user.patch("/account").json(wrong).refused("INVALID_CREDENTIALS").await;
    let right = json!({ "email": "n@example.org", "current_password": PASSWORD });
    assert_eq!(
        user.patch("/account").json(right).expect(200).await["email_verified"],
        false
    );
    let other = api.user().await;
    let taken = json!({ "email": "N@example.org", "current_password": PASSWORD });
    other.patch("/account").json(taken).refused("EMAIL_TAKEN").await;
}

#[tokio::test]
async fn au_13_a_change_of_password_ends_sign_ins_and_keeps_keys() {
    let api = Api::start().await;
    let user = api.user().await;
    let key = key_of(&user, json!({ "name": "k" })).await;
    let wrong = json!({ "current_password": "wrong", "new_password": "another one" });
    user.post("/account/password")
        .json(wrong)
        .refused("INVALID_CREDENTIALS")
        .await;
    let right = json!({ "current_password": PASSWORD, "new_password": "another one" });
    user.post("/account/password").json(right).expect(204).await;
    user.get("/account").refused("UNAUTHORIZED").await;
    key.get("/account").expect(200).await;
}

#[tokio::test]
async fn accounts_are_deleted_for_ever() {
    let api = Api::start().await;
    let (user, admin) = (api.user().await, api.admin().await);
    let key = key_of(&user, json!({ "name": "k" })).await;
    user.delete("/account")
        .json(json!({ "current_password": PASSWORD }))
        .refused("CONFIRMATION_REQUIRED")
        .await;
    let sure = |password: &str| json!({ "current_password": password, "confirmation": "DELETE_ACCOUNT" });
    user.delete("/account")
        .json(sure("wrong"))
        .refused("INVALID_CREDENTIALS")
        .await;
    user.delete("/account").json(sure(PASSWORD)).expect(204).await;
    user.get("/account").refused("UNAUTHORIZED").await;
    key.get("/account").refused("UNAUTHORIZED").await;
    assert_eq!(api.value::<i64>("select count(*) from users").await, 1);
    assert!(api.events().await.contains(&"user.deleted".to_owned()));
    admin
        .delete("/account")
        .json(sure(PASSWORD))
        .refused("LAST_ADMIN")
        .await;
}

#[tokio::test]
async fn ak_1_keys_are_shown_once_and_stored_as_hashes() {
    let api = Api::start().await;
    let user = api.user().await;
    let made = user.post("/api-keys").json(json!({ "name": "k" })).expect(201).await;
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("ak_") && key.len() == 46, "{key}");
    assert_eq!(made["prefix"].as_str(), key.get(..11));
    let listed = user.get("/api-keys").expect(200).await;
    assert!(!listed.to_string().contains(&key[11..]));
    let stored: String = api.value("select row_to_json(api_keys)::text from api_keys").await;
    assert!(!stored.contains(&key[11..]));
    user.post("/api-keys")
        .json(json!({ "name": "k" }))
        .refused("NAME_TAKEN")
        .await;
}

#[tokio::test]
async fn ak_2_and_3_keys_change_no_security() {
    let api = Api::start().await;
    let user = api.user().await;
    let key = key_of(&user, json!({ "name": "k" })).await;
    key.get("/account").expect(200).await;
    key.patch("/account")
        .json(json!({ "name": "By key" }))
        .expect(200)
        .await;
    for ask in [
        key.patch("/account")
            .json(json!({ "email": "k@example.org", "current_password": PASSWORD })),
        key.post("/account/password")
            .json(json!({ "current_password": PASSWORD, "new_password": "another one" })),
        key.delete("/account")
            .json(json!({ "current_password": PASSWORD, "confirmation": "DELETE_ACCOUNT" })),
        key.get("/api-keys"),
        key.post("/api-keys").json(json!({ "name": "l" })),
        key.post("/auth/logout"),
        key.get("/admin/users"),
    ] {
        ask.refused("API_KEY_NOT_ALLOWED").await;
    }
    // A moderator's key acts as a user.
    let key = key_of(&api.moderator().await, json!({ "name": "k" })).await;
    key.get("/admin/movies").refused("API_KEY_NOT_ALLOWED").await;
}

#[tokio::test]
async fn ak_4_and_6_uses_are_listed() {
    let api = Api::start().await;
    let user = api.user().await;
    let made = user.post("/api-keys").json(json!({ "name": "k" })).expect(201).await;
    let key = user.with_credentials(made["key"].as_str().unwrap());
    for _ in 0..105 {
        key.get("/account?secret=1").expect(200).await;
    }
    key.get("/api-keys").refused("API_KEY_NOT_ALLOWED").await;
    control_api::key_log::flush(&api.app).await.unwrap();
    let path = format!("/api-keys/{}/audit", made["id"].as_str().unwrap());
    let rows = user.get(&path).expect(200).await;
    let rows = rows["data"].as_array().unwrap();
    assert_eq!(rows.len(), 100);
    assert_eq!(
        (rows[0]["path"].as_str(), rows[0]["status"].as_i64()),
        (Some("/api/v1/api-keys"), Some(403))
    );
    assert!(!user.get("/api-keys").expect(200).await["data"][0]["last_used_at"].is_null());
    api.user().await.get(&path).refused("NOT_FOUND").await;
}

#[tokio::test]
async fn ak_5_revoked_keys_stop_at_once() {
    let api = Api::start().await;
    let user = api.user().await;
    let made = user.post("/api-keys").json(json!({ "name": "k" })).expect(201).await;
    let path = format!("/api-keys/{}", made["id"].as_str().unwrap());
    let key = user.with_credentials(made["key"].as_str().unwrap());
    key.get("/account").expect(200).await;
    api.user().await.delete(&path).refused("NOT_FOUND").await;
    api.admin().await.delete(&path).expect(204).await;
    key.get("/account").refused("UNAUTHORIZED").await;
    user.delete(&path).refused("NOT_FOUND").await;
    assert_eq!(api.value::<i64>("select count(*) from api_key_requests").await, 0);
    assert!(
        api.audit()
            .await
            .ends_with(&["api_key.created".to_owned(), "api_key.revoked".to_owned()])
    );
}

#[tokio::test]
async fn ak_7_and_tn_1_tenants_are_apart() {
    let api = Api::start().await;
    let other = api.tenant("other").await;
    let (user, foreign) = (api.user().await, api.user_of(other, Role::Admin).await);
    let made = user.post("/api-keys").json(json!({ "name": "k" })).expect(201).await;
    let device = user.post("/devices").json(device(1)).expect(201).await;
    foreign
        .delete(&format!("/api-keys/{}", made["id"].as_str().unwrap()))
        .refused("WRONG_TENANT")
        .await;
    foreign
        .get(&format!("/devices/{}", device["id"].as_str().unwrap()))
        .refused("WRONG_TENANT")
        .await;
    foreign
        .get(&format!("/admin/users/{}", user.user_id))
        .refused("WRONG_TENANT")
        .await;
    foreign
        .delete(&format!("/admin/users/{}", user.user_id))
        .refused("WRONG_TENANT")
        .await;
    assert_eq!(
        foreign.get("/admin/users").expect(200).await["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // The same e-mail in two tenants, by their hosts.
    let body = json!({ "name": "A", "email": user.email, "password": "long enough" });
    api.stranger()
        .post("/auth/register")
        .header("host", "other.example")
        .json(body.clone())
        .expect(201)
        .await;
    api.stranger()
        .post("/auth/register")
        .header("host", "unknown.example")
        .json(body)
        .refused("EMAIL_TAKEN")
        .await;
    for key in ["ak_", "ak_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        user.with_credentials(key).get("/account").refused("UNAUTHORIZED").await;
    }
}

#[tokio::test]
async fn ak_8_and_9_access_and_scopes() {
    let api = Api::start().await;
    let (user, moderator) = (api.user().await, api.moderator().await);
    user.post("/api-keys")
        .json(json!({ "name": "t", "access": "tenant" }))
        .refused("FORBIDDEN")
        .await;
    moderator
        .post("/api-keys")
        .json(json!({ "name": "t", "access": "tenant" }))
        .expect(201)
        .await;
    let reader = key_of(&user, json!({ "name": "r", "scopes": ["read"] })).await;
    reader.get("/account").expect(200).await;
    reader
        .patch("/account")
        .json(json!({ "name": "R" }))
        .refused("INSUFFICIENT_SCOPE")
        .await;
    let writer = key_of(&user, json!({ "name": "w", "scopes": ["write"] })).await;
    writer.get("/account").refused("INSUFFICIENT_SCOPE").await;
    let end = (api.app.now() + TimeDelta::hours(1)).to_rfc3339();
    let short = key_of(&user, json!({ "name": "s", "expires_at": end })).await;
    short.get("/account").expect(200).await;
    api.app.advance(TimeDelta::minutes(61));
    short.get("/account").refused("UNAUTHORIZED").await;
}

#[tokio::test]
async fn keys_are_fifty_at_most() {
    let api = Api::start().await;
    let user = api.user().await;
    for number in 0..50 {
        user.post("/api-keys")
            .json(json!({ "name": number.to_string() }))
            .expect(201)
            .await;
    }
    user.post("/api-keys")
        .json(json!({ "name": "51" }))
        .refused("CONFLICT")
        .await;
    let first = user.get("/api-keys?limit=30&include_total=true").send().await.is(200);
    let body = first.json();
    assert_eq!(
        (body["meta"]["total"].as_i64(), body["meta"]["has_more"].as_bool()),
        (Some(50), Some(true))
    );
    assert!(first.header("link").contains("rel=\"next\""));
    let cursor = body["meta"]["next_cursor"].as_str().unwrap();
    let rest = user
        .get(&format!("/api-keys?limit=30&cursor={cursor}"))
        .expect(200)
        .await;
    assert_eq!(
        (
            rest["data"].as_array().unwrap().len(),
            rest["meta"]["next_cursor"].is_null()
        ),
        (20, true)
    );
    let page = user.get("/api-keys?offset=40&limit=20").send().await.is(200);
    assert_eq!(page.json()["data"].as_array().unwrap().len(), 10);
    assert!(page.header("link").contains("rel=\"prev\""));
    for (query, code) in [
        ("limit=0", "INVALID_PARAMETER"),
        ("limit=101", "INVALID_PARAMETER"),
        ("limit=x", "INVALID_PARAMETER"),
        ("limit=1&limit=2", "INVALID_PARAMETER"),
        ("offset=10001", "INVALID_PARAMETER"),
        ("cursor=x", "INVALID_CURSOR"),
    ] {
        user.get(&format!("/api-keys?{query}")).refused(code).await;
    }
    user.get(&format!("/api-keys?offset=1&cursor={cursor}"))
        .refused("INVALID_PARAMETER")
        .await;
}

#[tokio::test]
async fn pd_1_and_5_profiles_are_limited_and_the_default_stays() {
    let api = Api::start().await;
    let user = api.user().await;
    let default = user.get("/profiles/default").expect(200).await;
    assert_eq!(default["is_default"], true);
    let kids = json!({ "name": "Kids", "is_kids": true, "max_content_rating": "PG", "language": "de" });
    let made = user.post("/profiles").json(kids).send().await.is(201);
    let path = format!("/profiles/{}", made.json()["id"].as_str().unwrap());
    assert_eq!(made.header("location"), format!("/api/v1{path}"));
    user.post("/profiles")
        .json(json!({ "name": "kIDS" }))
        .refused("NAME_TAKEN")
        .await;
    for number in 0..3 {
        user.post("/profiles")
            .json(json!({ "name": format!("P{number}") }))
            .expect(201)
            .await;
    }
    user.post("/profiles")
        .json(json!({ "name": "Sixth" }))
        .refused("PROFILE_LIMIT_REACHED")
        .await;
    assert_eq!(user.get("/profiles").expect(200).await["limit"], 5);
    let etag = user.get(&path).send().await.is(200).header("etag").to_owned();
    let change = json!({ "max_content_rating": null, "name": "Children" });
    let body = user
        .patch(&path)
        .header("if-match", &etag)
        .json(change.clone())
        .expect(200)
        .await;
    assert_eq!(
        (body["max_content_rating"].is_null(), body["is_kids"].as_bool()),
        (true, Some(true))
    );
    user.patch(&path)
        .header("if-match", &etag)
        .json(change)
        .refused("PRECONDITION_FAILED")
        .await;
    user.delete("/profiles/default").refused("LAST_PROFILE").await;
    api.user().await.get(&path).refused("NOT_FOUND").await;
    user.delete(&path).expect(204).await;
    user.get(&path).refused("NOT_FOUND").await;
    user.get("/profiles/nonsense").refused("NOT_FOUND").await;
    assert_eq!(
        api.events()
            .await
            .iter()
            .filter(|event| event.starts_with("profile."))
            .count(),
        5
    );
}

pub fn device(number: u32) -> Value {
    json!({ "name": format!("TV {number}"), "device_type": "smart_tv", "fingerprint": format!("{number:064x}") })
}

#[tokio::test]
async fn devices_that_are_heard_of_are_active() {
    let api = Api::start().await;
    let (user, other) = (api.user().await, api.user().await);
    let made = user.post("/devices").json(device(1)).expect(201).await;
    let id = made["id"].as_str().unwrap();
    let path = format!("/devices/{id}");
    let active = async || user.get(&path).expect(200).await["last_active_at"].clone();
    for client in [&user, &other] {
        api.app.advance(TimeDelta::minutes(1));
        let client = client.with_header("x-device-id", id);
        client.get("/account").expect(200).await;
        client.get("/account").expect(200).await;
        client
            .with_header("x-device-id", "no id")
            .get("/account")
            .expect(200)
            .await;
    }
    assert_eq!(active().await, made["last_active_at"], "not written with each request");
    control_api::device_log::flush(&api.app).await.unwrap();
    let at = |text: &Value| chrono::DateTime::parse_from_rfc3339(text.as_str().unwrap()).unwrap();
    let after = at(&active().await) - at(&made["last_active_at"]);
    // By its owner, a minute after; what others say of it does not count.
    assert!((60..110).contains(&after.num_seconds()), "{after}");
    let version: i64 = api.value("select row_version from devices").await;
    control_api::device_log::flush(&api.app).await.unwrap();
    assert_eq!(api.value::<i64>("select row_version from devices").await, version);
}

#[tokio::test]
async fn what_was_read_may_be_sent_back() {
    let api = Api::start().await;
    let (user, admin) = (api.user().await, api.admin().await);
    let mut read = user.post("/devices").json(device(1)).expect(201).await;
    let path = format!("/devices/{}", read["id"].as_str().unwrap());
    read["name"] = json!("Renamed");
    read["is_trusted"] = json!(true);
    let after = user.patch(&path).json(read).expect(200).await;
    assert_eq!(
        (after["name"].as_str(), after["is_trusted"].as_bool()),
        (Some("Renamed"), Some(false))
    );
    let webhook = json!({ "url": "https://8.8.8.8/x", "events": ["device.registered"] });
    let made = user.post("/webhooks").json(webhook).expect(201).await;
    let path = format!("/webhooks/{}", made["id"].as_str().unwrap());
    api.sql("update webhooks set failure_count = 7").await;
    let mut read = user.get(&path).expect(200).await;
    read["description"] = json!("Mine");
    read["owner_id"] = json!(admin.user_id);
    read["failure_count"] = json!(0);
    let after = user.patch(&path).json(read).expect(200).await;
    assert_eq!(
        (after["description"].as_str(), after["failure_count"].as_i64()),
        (Some("Mine"), Some(7))
    );
    let plan = json!({
        "name": "Plan", "price": 1.0, "currency": "EUR", "billing_cycle": "monthly", "max_profiles": 1,
        "max_concurrent_streams": 1, "max_devices": 1, "max_quality": "HD", "has_downloads": false, "tier": 1,
    });
    admin.post("/admin/plans").json(plan).expect(201).await;
    let mut read = admin.get("/admin/plans").expect(200).await["data"][0].clone();
    read["name"] = json!("Renamed");
    let path = format!("/admin/plans/{}", read["id"].as_str().unwrap());
    assert_eq!(admin.put(&path).json(read).expect(200).await["name"], "Renamed");
}

#[tokio::test]
async fn dv_1_3_and_5_devices_are_limited_and_known_again() {
    let api = Api::start().await;
    let user = api.user().await;
    let first = user.post("/devices").json(device(0)).expect(201).await;
    let again = user.post("/devices").json(device(0)).expect(200).await;
    assert_eq!(first["id"], again["id"]);
    for number in 1..5 {
        user.post("/devices").json(device(number)).expect(201).await;
    }
    user.post("/devices")
        .json(device(5))
        .refused("DEVICE_LIMIT_REACHED")
        .await;
    user.post("/devices").json(device(4)).expect(200).await;
    let listed = user.get("/devices").expect(200).await;
    assert_eq!(
        (listed["data"].as_array().unwrap().len(), listed["limit"].as_i64()),
        (5, Some(5))
    );
    let path = format!("/devices/{}", first["id"].as_str().unwrap());
    assert_eq!(
        user.patch(&path).json(json!({ "name": "Den" })).expect(200).await["name"],
        "Den"
    );
    api.user().await.get(&path).refused("NOT_FOUND").await;
    user.delete(&path).expect(204).await;
    user.delete(&path).refused("NOT_FOUND").await;
    user.post("/devices").json(device(5)).expect(201).await;
    let events = api.events().await;
    assert_eq!(events.iter().filter(|event| *event == "device.registered").count(), 6);
    assert_eq!(events.iter().filter(|event| *event == "device.removed").count(), 1);
}

#[tokio::test]
async fn dv_1_the_limit_holds_for_many_at_once() {
    let api = Api::start().await;
    let user = api.user().await;
    let asks = (0..12).map(|number| user.post("/devices").json(device(number)).send());
    let mut statuses = Vec::new();
    for task in futures(asks).await {
        statuses.push(task);
    }
    assert_eq!(
        statuses.iter().filter(|status| **status == 201).count(),
        5,
        "{statuses:?}"
    );
}

/// Runs all of them at once; their statuses.
pub async fn futures<F: Future<Output = crate::harness::Got>>(asks: impl Iterator<Item = F>) -> Vec<u16> {
    let mut waiting: Vec<std::pin::Pin<Box<F>>> = asks.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|ask| match ask.as_mut().poll(context) {
            std::task::Poll::Ready(got) => {
                done.push(got.status);
                false
            }
            std::task::Poll::Pending => true,
        });
        match waiting.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done
}

#[tokio::test]
async fn dv_2_raw_identifiers_are_refused_and_never_shown() {
    let api = Api::start().await;
    let user = api.user().await;
    for raw in ["356938035643809", "00:1B:44:11:3A:B7", "C02XL0GYJGH6"] {
        let mut body = device(1);
        body["fingerprint"] = json!(raw);
        user.post("/devices").json(body).refused("RAW_DEVICE_IDENTIFIER").await;
    }
    let got = user.post("/devices").json(device(7)).expect(201).await;
    assert!(got["fingerprint"].is_null());
    let stored: String = api.value("select encode(fingerprint_hmac, 'hex') from devices").await;
    assert!(!stored.ends_with("7") || stored.len() == 64 && !stored.starts_with("0000"));
}

#[tokio::test]
async fn idempotency_keys_replay_the_first_reply() {
    let api = Api::start().await;
    let user = api.user().await;
    let ask = |name: &str| {
        user.post("/api-keys")
            .header("idempotency-key", "k-1")
            .json(json!({ "name": name }))
    };
    let first = ask("one").send().await.is(201);
    let again = ask("one").send().await.is(201);
    assert_eq!(
        (first.json(), again.header("idempotency-replayed")),
        (again.json(), "true")
    );
    assert_eq!(first.header("location"), again.header("location"));
    ask("two").refused("IDEMPOTENCY_KEY_REUSED").await;
    assert_eq!(api.value::<i64>("select count(*) from api_keys").await, 1);
    // The secret is not in the row that replays it.
    let secret = first.json()["key"].as_str().unwrap().to_owned();
    let stored: String = api
        .value("select row_to_json(idempotency_keys)::text from idempotency_keys")
        .await;
    assert!(!stored.contains(&secret));
    // A refusal is kept as well; another's key is another key.
    let refused = user
        .post("/api-keys")
        .header("idempotency-key", "k-2")
        .json(json!({ "name": "one" }));
    refused.refused("NAME_TAKEN").await;
    let other = api.user().await;
    other
        .post("/api-keys")
        .header("idempotency-key", "k-1")
        .json(json!({ "name": "other" }))
        .expect(201)
        .await;
    user.post("/api-keys")
        .header("idempotency-key", "")
        .json(json!({ "name": "x" }))
        .refused("INVALID_PARAMETER")
        .await;
    api.app.advance(TimeDelta::minutes(50));
    ask("one").expect(201).await;
    api.sql("update idempotency_keys set expires_at = now()").await;
    ask("three").expect(201).await;
}

#[tokio::test]
async fn idempotent_requests_run_once_at_a_time() {
    let api = Api::start().await;
    let user = api.user().await;
    let asks = (0..8).map(|_| {
        user.post("/api-keys")
            .header("idempotency-key", "k")
            .json(json!({ "name": "one" }))
            .send()
    });
    let statuses = futures(asks).await;
    assert!(
        statuses.iter().all(|status| matches!(status, 201 | 409)) && statuses.contains(&201),
        "{statuses:?}"
    );
    assert_eq!(api.value::<i64>("select count(*) from api_keys").await, 1);
    // What a crash left running is taken over once its lease is over.
    api.sql("update idempotency_keys set state = 'running', status = null, sealed = null, lease_until = now() + interval '1 minute'").await;
    api.sql("delete from api_keys").await;
    let ask = || {
        user.post("/api-keys")
            .header("idempotency-key", "k")
            .json(json!({ "name": "one" }))
    };
    let got = ask().send().await.is(409);
    assert_eq!(
        (got.json()["code"].as_str(), got.header("retry-after")),
        (Some("IDEMPOTENCY_IN_PROGRESS"), "1")
    );
    api.app.advance(TimeDelta::seconds(61));
    ask().expect(201).await;
}
