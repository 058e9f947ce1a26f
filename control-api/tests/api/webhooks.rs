//! Webhooks against a server that keeps what it was told (WH).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::TimeDelta;
use control_api::auth::Role;
use control_api::outbound::{Outbound, Reach};
use control_api::webhook::{self, Sender};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Api, Client, settings};

/// A server that is told.
#[derive(Clone, Default)]
struct Receiver {
    told: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    /// What it answers next; 200 when there is nothing.
    answers: Arc<Mutex<VecDeque<u16>>>,
}

async fn receive(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(&'static str, &'static str); 1], &'static str) {
    receiver.told.lock().unwrap().push((headers, body));
    let status = receiver.answers.lock().unwrap().pop_front().unwrap_or(200);
    (
        StatusCode::from_u16(status).unwrap(),
        [("location", "/elsewhere")],
        "what it said",
    )
}

impl Receiver {
    async fn start() -> (Receiver, String) {
        let receiver = Receiver::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    fn told(&self) -> Vec<Value> {
        let told = self.told.lock().unwrap();
        told.iter()
            .map(|(_, body)| serde_json::from_slice(body).unwrap())
            .collect()
    }

    fn kinds(&self) -> Vec<String> {
        self.told()
            .iter()
            .map(|body| body["event"].as_str().unwrap().to_owned())
            .collect()
    }

    fn answer(&self, statuses: impl IntoIterator<Item = u16>) {
        self.answers.lock().unwrap().extend(statuses);
    }
}

/// An API whose webhooks may go to this machine.
async fn api() -> Api {
    let outbound = Outbound::new(Reach::Private, None, None).unwrap();
    Api::with_webhooks(settings(), Sender::reaching(Reach::Private, outbound).unwrap()).await
}

fn wanted(events: &[&str], scope: &str) -> Value {
    json!({ "url": "https://hooks.example.org/x", "events": events, "scope": scope })
}

/// A webhook that leads to the receiver: without TLS, which no client could ask for.
async fn made(api: &Api, client: &Client<'_>, url: &str, events: &[&str], scope: &str) -> (String, Value) {
    let made = client.post("/webhooks").json(wanted(events, scope)).expect(201).await;
    let id = made["id"].as_str().unwrap().to_owned();
    api.sql(&format!("update webhooks set url = '{url}' where id = '{id}'"))
        .await;
    (format!("/webhooks/{id}"), made)
}

async fn deliver(api: &Api) {
    webhook::fan_out(&api.app).await.unwrap();
    webhook::begin(&api.app).await.unwrap().join_all().await;
    // A request that was refused may hold its row for a moment longer, and rows that are held are passed over.
    let due = "select count(*) from webhook_deliveries d join webhooks w on w.id = d.endpoint_id and w.status = 'active'
        where d.status in ('pending', 'retrying') and d.next_retry_at <= $1 and (d.lease_until is null or d.lease_until < $1)";
    let is_due = async || {
        let count: i64 = sqlx::query_scalar(due)
            .bind(api.app.now())
            .fetch_one(&api.app.db)
            .await
            .unwrap();
        count > 0
    };
    while is_due().await {
        webhook::begin(&api.app).await.unwrap().join_all().await;
    }
}

async fn happens(user: &Client<'_>, number: u32) {
    user.post("/devices")
        .json(crate::account::device(number))
        .expect(201)
        .await;
}

#[tokio::test]
async fn wh_1_only_https_to_the_whole_internet() {
    let api = Api::start().await;
    let user = api.user().await;
    let mut body = wanted(&["device.registered"], "own");
    for (url, code) in [
        ("http://hooks.example.org/x", "WEBHOOK_URL_NOT_HTTPS"),
        ("https://127.0.0.1/x", "URL_NOT_ALLOWED"),
        ("https://169.254.169.254/latest", "URL_NOT_ALLOWED"),
        ("https://[::1]:8443/x", "URL_NOT_ALLOWED"),
        ("https://localhost/x", "URL_NOT_ALLOWED"),
        ("https://user:word@8.8.8.8/x", "URL_NOT_ALLOWED"),
        ("nowhere", "VALIDATION_ERROR"),
    ] {
        body["url"] = json!(url);
        user.post("/webhooks").json(body.clone()).refused(code).await;
    }
    body["url"] = json!("https://8.8.8.8/x");
    let made = user.post("/webhooks").json(body).expect(201).await;
    let path = format!("/webhooks/{}", made["id"].as_str().unwrap());
    user.patch(&path)
        .json(json!({ "url": "http://8.8.8.8/x" }))
        .refused("WEBHOOK_URL_NOT_HTTPS")
        .await;
    user.patch(&path)
        .json(json!({ "url": "https://10.0.0.1/x" }))
        .refused("URL_NOT_ALLOWED")
        .await;
    // What got there in another way is not sent to either.
    let (receiver, url) = Receiver::start().await;
    api.sql(&format!("update webhooks set url = '{url}'")).await;
    let tested = user.post(&format!("{path}/test")).expect(200).await;
    assert_eq!(
        (tested["status"].as_str(), tested["http_status"].clone()),
        (Some("failed"), json!(null))
    );
    assert!(receiver.told().is_empty());
}

#[tokio::test]
async fn wh_2_secrets_are_shown_once() {
    let api = api().await;
    let user = api.user().await;
    let ask = || {
        user.post("/webhooks")
            .header("idempotency-key", "k")
            .json(wanted(&["device.registered"], "own"))
    };
    let made = ask().expect(201).await;
    assert_eq!(ask().expect(201).await, made);
    let secret = made["signing_secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() == 6 + 43, "{secret}");
    assert_eq!(
        made["signing_secret_hint"].as_str().unwrap(),
        &secret[secret.len() - 4..]
    );
    let path = format!("/webhooks/{}", made["id"].as_str().unwrap());
    let got = user.get(&path).expect(200).await;
    assert_eq!(got.get("signing_secret"), None);
    for table in ["webhooks", "audit_log", "idempotency_keys"] {
        let text: String = api
            .value(&format!("select string_agg(t::text, ' ') from {table} t"))
            .await;
        assert!(!text.contains(secret), "{table}");
    }
}

#[tokio::test]
async fn wh_3_deliveries_are_signed_over_the_raw_body() {
    let api = api().await;
    let user = api.user().await;
    let (receiver, url) = Receiver::start().await;
    let (path, made) = made(&api, &user, &url, &["device.registered"], "own").await;
    happens(&user, 1).await;
    deliver(&api).await;
    let (headers, body) = receiver.told.lock().unwrap().remove(0);
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let event: Value = serde_json::from_slice(&body).unwrap();
    let secret = made["signing_secret"].as_str().unwrap();
    assert_eq!(header("x-signature-256"), webhook::signature(secret.as_bytes(), &body));
    assert_eq!(
        (header("x-webhook-id"), header("x-webhook-event")),
        (event["id"].as_str().unwrap().to_owned(), "device.registered".to_owned())
    );
    assert_eq!(header("x-webhook-timestamp"), event["timestamp"].as_str().unwrap());
    assert_eq!(header("content-type"), "application/json; charset=utf-8");
    assert_eq!(
        (event["api_version"].as_str(), event["event"].as_str()),
        (Some("1.0"), Some("device.registered"))
    );
    assert!(event["data"]["id"].is_string() && event["tenant_id"].is_string());
    let log = user
        .get(&format!("{path}/deliveries?include_total=true"))
        .expect(200)
        .await;
    let row = &log["data"][0];
    assert_eq!(
        (
            row["status"].as_str(),
            row["http_status"].as_i64(),
            log["meta"]["total"].as_i64()
        ),
        (Some("delivered"), Some(200), Some(1))
    );
    assert_eq!(
        (row["response_snippet"].as_str(), row["attempt_count"].as_i64()),
        (Some("what it said"), Some(1))
    );
    assert_eq!(row["event_id"], event["id"]);
}

#[tokio::test]
async fn wh_4_what_fails_is_tried_again_and_then_given_up() {
    let api = api().await;
    let user = api.user().await;
    let (receiver, url) = Receiver::start().await;
    let (path, _) = made(&api, &user, &url, &["device.registered"], "own").await;
    // A redirect is not followed, and is no delivery.
    receiver.answer([302, 500]);
    happens(&user, 1).await;
    deliver(&api).await;
    let log = async || user.again().await.get(&format!("{path}/deliveries")).expect(200).await["data"][0].clone();
    let row = log().await;
    assert_eq!(
        (row["status"].as_str(), row["http_status"].as_i64()),
        (Some("retrying"), Some(302))
    );
    deliver(&api).await;
    assert_eq!(receiver.told().len(), 1, "not before its time");
    api.app.advance(TimeDelta::seconds(31));
    deliver(&api).await;
    assert_eq!(
        (log().await["status"].as_str(), receiver.told().len()),
        (Some("retrying"), 2)
    );
    api.app.advance(TimeDelta::seconds(121));
    deliver(&api).await;
    let row = log().await;
    assert_eq!(
        (row["status"].as_str(), row["attempt_count"].as_i64()),
        (Some("delivered"), Some(3))
    );
    // The same event each time, by its id; nothing is sent to /elsewhere.
    let ids: Vec<Value> = receiver.told().iter().map(|body| body["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    let (receiver, url) = Receiver::start().await;
    api.sql(&format!("update webhooks set url = '{url}'")).await;
    receiver.answer([500; 20]);
    happens(&user.again().await, 2).await;
    for seconds in [0, 31, 121, 601, 3_601, 10_801, 21_601, 43_201, 100_000] {
        api.app.advance(TimeDelta::seconds(seconds));
        deliver(&api).await;
    }
    let row = log().await;
    assert_eq!(
        (
            row["status"].as_str(),
            row["attempt_count"].as_i64(),
            receiver.told().len()
        ),
        (Some("failed"), Some(8), 8)
    );
    assert_eq!(row["next_retry_at"], json!(null));
    let hook = user.again().await.get(&path).expect(200).await;
    assert_eq!(
        (hook["failure_count"].as_i64(), hook["status"].as_str()),
        (Some(1), Some("active"))
    );
    // A lost node's delivery is taken up when its lease ends.
    happens(&user.again().await, 3).await;
    webhook::fan_out(&api.app).await.unwrap();
    let claimed = control_api::db::webhooks::claim(&api.app.db, api.app.now(), TimeDelta::seconds(30), 10)
        .await
        .unwrap();
    assert_eq!(claimed.len(), 1);
    deliver(&api).await;
    assert_eq!(receiver.told().len(), 8);
    api.app.advance(TimeDelta::seconds(31));
    deliver(&api).await;
    assert_eq!(receiver.told().len(), 9);
}

#[tokio::test]
async fn wh_5_fifty_failures_in_a_row_disable() {
    let api = api().await;
    let user = api.user().await;
    let (receiver, url) = Receiver::start().await;
    let (path, _) = made(&api, &user, &url, &["device.registered"], "own").await;
    api.sql("update webhooks set failure_count = 49").await;
    receiver.answer([500, 200]);
    happens(&user, 1).await;
    webhook::fan_out(&api.app).await.unwrap();
    api.sql("update webhook_deliveries set attempt_count = 7").await;
    deliver(&api).await;
    let hook = user.get(&path).expect(200).await;
    assert_eq!(
        (hook["status"].as_str(), hook["failure_count"].as_i64()),
        (Some("disabled"), Some(50))
    );
    happens(&user, 2).await;
    deliver(&api).await;
    assert_eq!(receiver.told().len(), 1);
    let hook = user.patch(&path).json(json!({ "status": "active" })).expect(200).await;
    assert_eq!(
        (hook["status"].as_str(), hook["failure_count"].as_i64()),
        (Some("active"), Some(0))
    );
    api.sql("update webhooks set failure_count = 49").await;
    happens(&user, 3).await;
    deliver(&api).await;
    assert_eq!(
        user.get(&path).expect(200).await["failure_count"],
        0,
        "a success begins anew"
    );
}

#[tokio::test]
async fn wh_6_tests_are_sent_now_and_answered() {
    let api = api().await;
    let user = api.user().await;
    let (receiver, url) = Receiver::start().await;
    let (path, _) = made(&api, &user, &url, &["device.registered"], "own").await;
    receiver.answer([200, 418]);
    let good = user.post(&format!("{path}/test")).expect(200).await;
    assert_eq!(
        (good["status"].as_str(), good["event_type"].as_str()),
        (Some("delivered"), Some("ping"))
    );
    assert_eq!(receiver.kinds(), ["ping"]);
    let bad = user.post(&format!("{path}/test")).expect(200).await;
    assert_eq!(
        (
            bad["status"].as_str(),
            bad["http_status"].as_i64(),
            bad["next_retry_at"].clone()
        ),
        (Some("failed"), Some(418), json!(null))
    );
    // Nor again by itself; nor does it count.
    api.app.advance(TimeDelta::minutes(10));
    deliver(&api).await;
    assert_eq!(receiver.told().len(), 2);
    assert_eq!(user.get(&path).expect(200).await["failure_count"], 0);
    api.sql("update webhooks set url = 'http://127.0.0.1:1/x'").await;
    let away = user.post(&format!("{path}/test")).expect(200).await;
    assert_eq!(
        (away["status"].as_str(), away["response_snippet"].as_str()),
        (Some("failed"), Some("no connection"))
    );
}

#[tokio::test]
async fn wh_7_failed_deliveries_are_asked_for_again_now_and_then() {
    let api = api().await;
    let user = api.user().await;
    // A plan with places for many devices.
    crate::movies::subscribe(&api, user.user_id, 1, 1).await;
    let (receiver, url) = Receiver::start().await;
    let (path, _) = made(&api, &user, &url, &["device.registered"], "own").await;
    receiver.answer([500; 13]);
    for number in 0..12 {
        happens(&user, number).await;
    }
    webhook::fan_out(&api.app).await.unwrap();
    api.sql("update webhook_deliveries set attempt_count = 7").await;
    deliver(&api).await;
    let failed = user
        .get(&format!("{path}/deliveries?status=failed&limit=100"))
        .expect(200)
        .await;
    let again: Vec<String> = failed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{path}/deliveries/{}/redeliver", row["id"].as_str().unwrap()))
        .collect();
    assert_eq!(again.len(), 12);
    let pending = user.post(&again[0]).expect(202).await;
    assert_eq!(pending["status"], "pending");
    user.post(&again[0]).refused("DELIVERY_NOT_FAILED").await;
    // It fails once more, and must wait.
    deliver(&api).await;
    let limited = user.post(&again[0]).send().await;
    assert_eq!(
        (limited.json()["code"].as_str(), limited.header("retry-after")),
        (Some("REDELIVERY_RATE_LIMITED"), "60")
    );
    for path in &again[1..10] {
        user.post(path).expect(202).await;
    }
    user.post(&again[10]).refused("REDELIVERY_RATE_LIMITED").await;
    deliver(&api).await;
    user.post(&again[1]).refused("DELIVERY_NOT_FAILED").await;
    api.app.advance(TimeDelta::seconds(61));
    user.post(&again[0]).expect(202).await;
    deliver(&api).await;
    let row = user
        .get(&format!("{path}/deliveries?status=delivered&limit=100"))
        .expect(200)
        .await;
    assert_eq!(row["data"].as_array().unwrap().len(), 10);
    user.post(&format!("{path}/deliveries/{}/redeliver", Uuid::now_v7()))
        .refused("NOT_FOUND")
        .await;
}

#[tokio::test]
async fn wh_8_one_s_own_events_or_the_tenant_s() {
    let api = api().await;
    let (user, other, admin) = (api.user().await, api.user().await, api.admin().await);
    let (own, own_url) = Receiver::start().await;
    let (all, all_url) = Receiver::start().await;
    let (elsewhere, elsewhere_url) = Receiver::start().await;
    let events = ["device.registered", "profile.created"];
    let (path, _) = made(&api, &user, &own_url, &events, "own").await;
    let (tenant_path, _) = made(&api, &admin, &all_url, &events, "tenant").await;
    let tenant = api.tenant("other").await;
    let stranger = api.user_of(tenant, Role::Admin).await;
    made(&api, &stranger, &elsewhere_url, &events, "tenant").await;
    happens(&user, 1).await;
    happens(&other, 2).await;
    deliver(&api).await;
    assert_eq!((own.told().len(), all.told().len(), elsewhere.told().len()), (1, 2, 0));
    // The tenant's are for admins, by token alone.
    let tenants = || wanted(&events, "tenant");
    user.post("/webhooks").json(tenants()).refused("FORBIDDEN").await;
    let key = admin
        .post("/api-keys")
        .json(json!({ "name": "hooks" }))
        .expect(201)
        .await;
    let by_key = admin.with_credentials(key["key"].as_str().unwrap());
    by_key.post("/webhooks").json(tenants()).refused("FORBIDDEN").await;
    by_key.get(&tenant_path).refused("NOT_FOUND").await;
    by_key.post("/webhooks").json(wanted(&events, "own")).expect(201).await;
    user.get("/webhooks?scope=tenant").refused("FORBIDDEN").await;
    assert_eq!(
        admin.get("/webhooks?scope=tenant").expect(200).await["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        user.get("/webhooks").expect(200).await["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // Others' are nobody's business.
    for client in [&other, &admin] {
        client.get(&path).refused("NOT_FOUND").await;
        client.delete(&path).refused("NOT_FOUND").await;
        client.post(&format!("{path}/test")).refused("NOT_FOUND").await;
    }
    stranger.get(&path).refused("WRONG_TENANT").await;
    // What waits goes with the endpoint.
    happens(&user, 3).await;
    webhook::fan_out(&api.app).await.unwrap();
    user.delete(&path).expect(204).await;
    deliver(&api).await;
    assert_eq!(own.told().len(), 1);
}

#[tokio::test]
async fn wh_9_events_are_known_and_some() {
    let api = api().await;
    let user = api.user().await;
    for events in [
        json!([]),
        json!(["device.exploded"]),
        json!(["ping"]),
        json!("device.registered"),
    ] {
        let body = json!({ "url": "https://8.8.8.8/x", "events": events });
        user.post("/webhooks").json(body).refused("VALIDATION_ERROR").await;
    }
    let twice = wanted(&["device.removed", "device.registered", "device.removed"], "own");
    let made = user.post("/webhooks").json(twice).expect(201).await;
    assert_eq!(made["events"], json!(["device.registered", "device.removed"]));
    let path = format!("/webhooks/{}", made["id"].as_str().unwrap());
    user.patch(&path)
        .json(json!({ "events": [] }))
        .refused("VALIDATION_ERROR")
        .await;
    let changed = user
        .patch(&path)
        .json(json!({ "events": ["user.deleted"], "description": "Mine" }))
        .expect(200)
        .await;
    assert_eq!(
        (changed["events"].clone(), changed["description"].as_str()),
        (json!(["user.deleted"]), Some("Mine"))
    );
    let got = user.get(&path).send().await.is(200);
    let again = user.get(&path).header("if-none-match", got.header("etag")).send().await;
    assert_eq!(again.status, 304);
}
