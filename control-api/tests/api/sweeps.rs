//! Sweeps: what must hold of every operation there is, made of the table of operations.

use std::collections::BTreeMap;

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control_api::auth::Role;
use control_api::operation::{Caller, Operation, Payload, Place};
use control_api::schema::{Format, Schema};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Api, Client, Got, settings};
use crate::playback::scene;

/// Rows of one tenant, by the names of the parameters that lead to them.
struct House<'a> {
    /// Whose they are.
    owner: Client<'a>,
    ids: BTreeMap<&'static str, String>,
}

/// What belongs to one user alone.
const OWNED: [&str; 9] = [
    "device_id",
    "profile",
    "key_id",
    "webhook_id",
    "delivery_id",
    "subscription_id",
    "upload_id",
    "media_id",
    "session_id",
];

/// Tables whose rows a refused request must leave alone.
const TABLES: [&str; 15] = [
    "users",
    "profiles",
    "devices",
    "api_keys",
    "webhooks",
    "webhook_deliveries",
    "plans",
    "coupons",
    "subscriptions",
    "uploads",
    "assets",
    "movies",
    "shows",
    "stream_sessions",
    "encoding_jobs",
];

fn id(body: &Value) -> String {
    body["id"]
        .as_str()
        .unwrap_or_else(|| panic!("an id in {body}"))
        .to_owned()
}

async fn house(api: &Api) -> House<'_> {
    let scene = scene(api, 3).await;
    let (admin, owner) = (api.admin().await, scene.viewer.clone());
    let session = scene.start().await["session_id"].as_str().unwrap().to_owned();
    let made = async |path: &str, body: Value| id(&owner.post(path).json(body).expect(201).await);
    let profile = made("/profiles", json!({ "name": "Second" })).await;
    let key = made("/api-keys", json!({ "name": "key" })).await;
    let webhook = json!({ "url": "https://8.8.8.8/x", "events": ["device.registered"], "scope": "own" });
    let webhook = made("/webhooks", webhook).await;
    let upload =
        json!({ "asset_type": "video_master", "filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 9 });
    let upload = made("/uploads", upload).await;
    let show = json!({ "title": "Show", "status": "published", "drm_required": false, "content_rating": "PG" });
    let show = id(&scene.moderator.post("/admin/shows").json(show).expect(201).await);
    let coupon = json!({ "code": "HALF", "percent_off": 50, "is_active": true });
    let coupon = id(&admin.post("/admin/coupons").json(coupon).expect(201).await);
    let (delivery, media, user) = (Uuid::now_v7(), Uuid::now_v7(), owner.user_id);
    api.sql(&format!(
        "insert into webhook_deliveries (id, tenant_id, endpoint_id, event_id, event_type, body, status)
           select '{delivery}', tenant_id, id, '{delivery}', 'ping', '{{}}', 'failed' from webhooks where id = '{webhook}';
         insert into assets (id, tenant_id, owner_id, type, title, status, playable, delivery_policy)
           select '{media}', tenant_id, id, 'video_master', 'master', 'ready', true, 'signed' from users where id = '{user}'"
    ))
    .await;
    let one = async |sql: &str| api.value::<Uuid>(sql).await.to_string();
    let ids = BTreeMap::from([
        ("device_id", owner.header_value("x-device-id").unwrap().to_owned()),
        ("profile", profile),
        ("key_id", key),
        ("webhook_id", webhook),
        ("delivery_id", delivery.to_string()),
        ("subscription_id", one("select id from subscriptions").await),
        ("upload_id", upload),
        ("media_id", media.to_string()),
        ("session_id", session),
        ("movie_id", scene.movie.clone()),
        ("show_id", show),
        ("plan_id", one("select id from plans").await),
        ("coupon_id", coupon),
        ("user_id", user.to_string()),
        ("log_id", one("select id from audit_log limit 1").await),
        ("content_id", scene.movie.clone()),
    ]);
    House { owner, ids }
}

impl House<'_> {
    /// The path of an operation with these rows in it, and the names that were put in.
    fn path(&self, operation: &Operation) -> (String, Vec<String>) {
        let mut names = Vec::new();
        let parts: Vec<String> = operation
            .path
            .split('/')
            .map(
                |part| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                    None => part.to_owned(),
                    Some("content_type") => "movie".to_owned(),
                    Some("provider") => "manual".to_owned(),
                    Some(name) => {
                        names.push(name.to_owned());
                        let id = self.ids.get(name);
                        id.unwrap_or_else(|| panic!("{}: no row for {name}", operation.id))
                            .clone()
                    }
                },
            )
            .collect();
        let mut path = format!("/{}", parts.join("/"));
        let needed = operation
            .parameters
            .iter()
            .filter(|parameter| parameter.required && parameter.place == Place::Query);
        for (at, parameter) in needed.enumerate() {
            let value = match example(&parameter.schema) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            path += &format!("{}{}={value}", if at == 0 { '?' } else { '&' }, parameter.name);
        }
        (path, names)
    }

    /// Asks for an operation as the table says that one may.
    async fn ask(&self, client: &Client<'_>, operation: &Operation) -> Got {
        let mut ask = client.ask(operation.method.clone(), &self.path(operation).0);
        let by_device = operation
            .parameters
            .iter()
            .any(|parameter| parameter.name == "X-Device-Id");
        if by_device && client.header_value("x-device-id").is_none() {
            ask = ask.header("x-device-id", &self.ids["device_id"]);
        }
        let ask = match &operation.payload {
            Payload::Json(schema) => ask.json(example(schema)),
            Payload::Form(schema) => {
                let body = example(schema);
                let members = body.as_object().unwrap();
                let pairs: Vec<(&str, &str)> = members
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))
                    .collect();
                ask.form(&pairs)
            }
            Payload::Stream if operation.id.contains("tus") => ask
                .header("tus-resumable", "1.0.0")
                .header("upload-offset", "0")
                .bytes("application/offset+octet-stream", b"x"),
            _ if operation.id.contains("tus") => ask.header("tus-resumable", "1.0.0"),
            _ => ask,
        };
        ask.send().await
    }
}

/// The least value that a schema takes.
fn example(schema: &Schema) -> Value {
    match schema {
        Schema::Any | Schema::Map(_) => json!({}),
        Schema::Bool => json!(false),
        Schema::Integer { min, max } => json!((*min).max(1).min(*max)),
        Schema::Number { min, max } => json!(min.max(1.0).min(*max)),
        Schema::Enum(words) => json!(words[0]),
        Schema::Array { items, min, .. } => Value::Array(vec![example(items); *min]),
        Schema::Nullable(inner) | Schema::Named(_, inner) => example(inner),
        Schema::Object(_) => {
            let fields = schema
                .fields()
                .iter()
                .filter(|field| field.required && !field.read_only);
            fields
                .map(|field| (field.name.to_owned(), example(&field.schema)))
                .collect()
        }
        Schema::Text { min, format, .. } => json!(match format {
            Format::Uuid => Uuid::nil().to_string(),
            Format::DateTime => "2030-01-01T00:00:00Z".to_owned(),
            Format::Date => "2030-01-01".to_owned(),
            Format::Email => "a@example.org".to_owned(),
            Format::Uri | Format::HttpsUri => "https://8.8.8.8/".to_owned(),
            Format::Country => "DE".to_owned(),
            Format::Language => "de".to_owned(),
            Format::Currency => "EUR".to_owned(),
            Format::Base64 => "AAAA".to_owned(),
            Format::Hex => "0".repeat((*min).max(1)),
            Format::Free | Format::Slug | Format::Secret => "x".repeat((*min).max(1)),
        }),
    }
}

async fn rows(api: &Api) -> Vec<String> {
    let mut all = Vec::new();
    for table in TABLES {
        let sql = format!("select coalesce(string_agg(x::text, '|' order by x::text), '') from {table} x");
        all.push(format!("{table}: {}", api.value::<String>(&sql).await));
    }
    all
}

/// Another tenant's rows are refused by name, whoever asks and however much they may do at home (TN-1, AK-7).
#[tokio::test]
async fn tn_1_and_ak_7_sweep_of_every_operation() {
    let api = Api::start().await;
    let house = house(&api).await;
    let other = api.tenant("other").await;
    let foreign = api.user_of(other, Role::Admin).await;
    let made = foreign
        .post("/api-keys")
        .json(json!({ "name": "k", "access": "tenant" }))
        .expect(201)
        .await;
    let key = foreign.with_credentials(made["key"].as_str().unwrap());
    let before = rows(&api).await;
    let mut asked = 0;
    for endpoint in &api.app.endpoints {
        let operation = &endpoint.operation;
        let names = house.path(operation).1;
        if names.is_empty() || operation.caller == Caller::Signed {
            continue;
        }
        asked += 1;
        for client in [&foreign, &key] {
            let by_key = client.credentials == key.credentials;
            if by_key && operation.caller >= Caller::Jwt {
                continue;
            }
            let got = house.ask(client, operation).await;
            let code = got.json()["code"].as_str().unwrap_or_default().to_owned();
            let refused = match operation.method == Method::HEAD {
                true => got.status == 403,
                false => code == "WRONG_TENANT",
            };
            // A session of somebody else's is none, wherever they are (PL-15).
            let unknown = operation.id.starts_with("playback.") && code == "SESSION_NOT_FOUND";
            assert!(
                refused || unknown,
                "{} by key {by_key}: {} {}",
                operation.id,
                got.status,
                got.json()
            );
        }
    }
    assert!(asked > 50, "{asked}");
    assert_eq!(rows(&api).await, before);
    // A stranger is not even told that there is one (1.9).
    for endpoint in &api.app.endpoints {
        let operation = &endpoint.operation;
        if operation.caller != Caller::Public || house.path(operation).1.is_empty() {
            continue;
        }
        let got = house
            .ask(&api.stranger().with_header("host", "other.example"), operation)
            .await;
        assert_eq!(got.status, 404, "{}: {}", operation.id, got.json());
    }
}

/// What is one user's is nobody else's.
#[tokio::test]
async fn sweep_owners() {
    let api = Api::start().await;
    let house = house(&api).await;
    let other = api.user().await;
    let made = other.post("/api-keys").json(json!({ "name": "k" })).expect(201).await;
    let key = other.with_credentials(made["key"].as_str().unwrap());
    let before = rows(&api).await;
    let mut asked = 0;
    for endpoint in &api.app.endpoints {
        let operation = &endpoint.operation;
        let names = house.path(operation).1;
        if operation.caller == Caller::Signed || !names.iter().any(|name| OWNED.contains(&name.as_str())) {
            continue;
        }
        asked += 1;
        for client in [&other, &key] {
            let got = house.ask(client, operation).await;
            assert!(
                [403, 404].contains(&got.status),
                "{}: {} {}",
                operation.id,
                got.status,
                got.json()
            );
            let told = String::from_utf8_lossy(&got.bytes).contains(&house.owner.user_id.to_string());
            assert!(!told, "{}", operation.id);
        }
    }
    assert!(asked > 25, "{asked}");
    assert_eq!(rows(&api).await, before);
    // Ids in bodies are no way around.
    let (movie, session) = (house.ids["movie_id"].clone(), house.ids["session_id"].clone());
    let beat = json!({ "session_id": session, "position_seconds": 1 });
    other
        .post("/playback/heartbeat")
        .json(beat)
        .refused("SESSION_NOT_FOUND")
        .await;
    let wish = json!({
        "content_id": movie, "content_type": "movie", "drm_system": "widevine", "license_request_bytes": "AAAA",
        "session_id": session,
    });
    let device = house.ids["device_id"].clone();
    let ask = other.post("/drm/license").header("x-device-id", &device).json(wish);
    ask.refused("DEVICE_NOT_REGISTERED").await;
    assert_eq!(rows(&api).await, before);
}

/// The owner may: the rows of the sweeps are real ones.
#[tokio::test]
async fn sweep_rows_are_there() {
    let api = Api::start().await;
    let house = house(&api).await;
    let admin = api.admin().await;
    for endpoint in &api.app.endpoints {
        let operation = &endpoint.operation;
        let names = house.path(operation).1;
        if operation.method != Method::GET || names.is_empty() {
            continue;
        }
        let owned = names.iter().any(|name| OWNED.contains(&name.as_str()));
        let client = if owned && operation.caller < Caller::Moderator {
            &house.owner
        } else {
            &admin
        };
        let got = house.ask(client, operation).await;
        assert_eq!(got.status, 200, "{}: {}", operation.id, got.json());
    }
}

/// Bodies that are too large, of another type, broken, too deep, or with members that nobody knows.
#[tokio::test]
async fn sweep_bodies() {
    let api = Api::start().await;
    let (house, admin) = (house(&api).await, api.admin().await);
    let large = vec![b' '; control_api::pipeline::BODY_SIZE_BYTES_MAX + 1];
    let deep = "[".repeat(200);
    let before = rows(&api).await;
    let mut asked = 0;
    for endpoint in &api.app.endpoints {
        let operation = &endpoint.operation;
        let (media_type, is_json) = match &operation.payload {
            Payload::Json(_) | Payload::OptionalJson(_) => ("application/json", true),
            Payload::Form(_) => ("application/x-www-form-urlencoded", false),
            Payload::Bytes(_) => ("application/octet-stream", false),
            Payload::None | Payload::Stream => continue,
        };
        if operation.caller == Caller::Signed {
            continue;
        }
        asked += 1;
        let path = house.path(operation).0;
        let ask = || admin.ask(operation.method.clone(), &path);
        let check = async |media_type: &str, body: &[u8], code: &str| {
            let got = ask().bytes(media_type, body).send().await;
            // Replies of OAuth are those of RFC 6749.
            let found = got.json()["code"].as_str().unwrap_or_default().to_owned();
            assert_eq!(found, code, "{}: {} {}", operation.id, got.status, got.json());
        };
        check(media_type, &large, "BODY_TOO_LARGE").await;
        if !is_json {
            continue;
        }
        check("text/plain", b"{}", "UNSUPPORTED_MEDIA_TYPE").await;
        check(media_type, b"{", "BAD_REQUEST").await;
        check(media_type, b"{\"a\":\"\xff\"}", "BAD_REQUEST").await;
        check(media_type, deep.as_bytes(), "BAD_REQUEST").await;
        check(media_type, br#"{"nobody_knows_this":1}"#, "VALIDATION_ERROR").await;
        check(media_type, b"[]", "VALIDATION_ERROR").await;
    }
    assert!(asked > 35, "{asked}");
    assert_eq!(rows(&api).await, before);
}

/// Parameters out of their bounds, each by its own code.
#[tokio::test]
async fn sweep_parameters() {
    let api = Api::start().await;
    let (house, admin) = (house(&api).await, api.admin().await);
    for endpoint in &api.app.endpoints {
        let operation = &endpoint.operation;
        if operation.caller == Caller::Signed {
            continue;
        }
        let path = house.path(operation).0;
        let mark = if path.contains('?') { '&' } else { '?' };
        let client = if operation.caller < Caller::Moderator {
            &house.owner
        } else {
            &admin
        };
        let check = async |query: String, code: &str| {
            let got = client
                .ask(operation.method.clone(), &format!("{path}{mark}{query}"))
                .send()
                .await;
            assert_eq!(
                got.json()["code"],
                json!(code),
                "{} {query}: {}",
                operation.id,
                got.json()
            );
        };
        for parameter in operation
            .parameters
            .iter()
            .filter(|parameter| parameter.place == Place::Query)
        {
            let name = parameter.name;
            if parameter.required {
                continue;
            }
            match (&parameter.schema, name) {
                (_, "cursor") => check(format!("{name}=nonsense"), "INVALID_CURSOR").await,
                (_, "sort") => check(format!("{name}=nonsense"), "INVALID_SORT").await,
                (_, "fields" | "include") => check(format!("{name}=nonsense"), "INVALID_FIELDS").await,
                (Schema::Integer { max, .. }, _) => {
                    check(format!("{name}=x"), "INVALID_PARAMETER").await;
                    check(format!("{name}=-1"), "INVALID_PARAMETER").await;
                    check(format!("{name}={max}0"), "INVALID_PARAMETER").await;
                    check(format!("{name}=1&{name}=2"), "INVALID_PARAMETER").await;
                }
                (Schema::Bool | Schema::Enum(_) | Schema::Number { .. }, _) => {
                    check(format!("{name}=nonsense"), "INVALID_PARAMETER").await;
                }
                (Schema::Text { max, .. }, _) if *max < 4096 => {
                    check(format!("{name}={}", "x".repeat(max + 1)), "INVALID_PARAMETER").await;
                    check(format!("{name}=%00"), "INVALID_PARAMETER").await;
                }
                _ => {}
            }
            check(format!("{name}=%f"), "BAD_REQUEST").await;
        }
    }
}

/// Whoever changes what admins and moderators change may say what they take it for, and is refused where it is not (1.4).
#[tokio::test]
async fn sweep_changes_of_what_is_another_by_now() {
    let api = Api::start().await;
    let (house, admin) = (house(&api).await, api.admin().await);
    let before = rows(&api).await;
    let mut asked = 0;
    for endpoint in &api.app.endpoints {
        let operation = &endpoint.operation;
        let changes = [Method::PUT, Method::PATCH, Method::DELETE].contains(&operation.method);
        if changes && operation.caller >= Caller::Moderator && operation.caller != Caller::Signed {
            assert!(operation.if_match, "{} hears no If-Match", operation.id);
        }
        if !operation.if_match {
            continue;
        }
        asked += 1;
        let owned = operation.caller < Caller::Moderator;
        let client = if owned { &house.owner } else { &admin };
        let got = house
            .ask(&client.with_header("if-match", "\"987654\""), operation)
            .await;
        let code = got.json()["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!(code, "PRECONDITION_FAILED", "{}: {}", operation.id, got.json());
    }
    assert!(asked > 15, "{asked}");
    assert_eq!(rows(&api).await, before);
}

/// What is asked for with POST by somebody known may be asked for again under its key, save what 1.5 exempts: beats, OAuth,
/// and transfers of bytes.
#[tokio::test]
async fn sweep_posts_hear_keys() {
    let api = Api::start().await;
    let mut found = 0;
    for endpoint in &api.app.endpoints {
        let operation = &endpoint.operation;
        let is_bytes = matches!(operation.payload, Payload::Stream | Payload::Bytes(_)) || operation.id.contains("tus");
        let is_exempt = is_bytes || operation.id.starts_with("oauth.") || operation.id == "playback.heartbeat";
        let is_known = operation.caller > Caller::Public && operation.caller != Caller::Signed;
        if operation.method == Method::POST && is_known && !is_exempt {
            found += 1;
            assert!(operation.idempotent, "{} hears no Idempotency-Key", operation.id);
        }
    }
    assert!(found > 20, "{found}");
}

/// What GET shows, PUT and PATCH at the same place take back (2.1).
#[tokio::test]
async fn sweep_changes_take_what_is_shown() {
    let api = Api::start().await;
    let operations: Vec<_> = api.app.endpoints.iter().map(|endpoint| &endpoint.operation).collect();
    let mut compared = 0;
    for change in &operations {
        let Payload::Json(body) = &change.payload else { continue };
        let is_change = [Method::PUT, Method::PATCH].contains(&change.method);
        let same = |shown: &&&std::sync::Arc<Operation>| shown.method == Method::GET && shown.path == change.path;
        let Some(shown) = operations.iter().find(same).filter(|_| is_change) else {
            continue;
        };
        let (_, schema) = &shown.replies[0];
        compared += 1;
        for field in schema.as_ref().unwrap().fields() {
            let is_taken = body.fields().iter().any(|taken| taken.name == field.name);
            assert!(is_taken, "{} refuses {} of {}", change.id, field.name, shown.id);
        }
    }
    assert!(compared > 5, "{compared}");
}

/// Headers that are too long or not what they must be.
#[tokio::test]
async fn sweep_headers() {
    let mut strict = settings();
    strict.api.require_if_match = true;
    let api = Api::start().await;
    let (house, admin) = (house(&api).await, api.admin().await);
    let long = "x".repeat(300);
    for endpoint in &api.app.endpoints {
        let operation = &endpoint.operation;
        if operation.caller == Caller::Signed {
            continue;
        }
        let path = house.path(operation).0;
        let ask = || {
            let ask = admin.ask(operation.method.clone(), &path);
            match &operation.payload {
                Payload::Json(schema) => ask.json(example(schema)),
                _ => ask,
            }
        };
        if operation.idempotent {
            for key in ["", &long] {
                ask().header("idempotency-key", key).refused("INVALID_PARAMETER").await;
            }
        }
        for parameter in operation
            .parameters
            .iter()
            .filter(|parameter| parameter.place == Place::Header)
        {
            let code = match parameter.name {
                "X-Device-Id" => "DEVICE_ID_REQUIRED",
                _ => "INVALID_PARAMETER",
            };
            if matches!(&parameter.schema, Schema::Text { max, .. } if *max < long.len()) {
                ask().header(parameter.name, &long).refused(code).await;
            }
        }
        if operation.method == Method::GET {
            let got = ask().header("x-request-id", "not an id").send().await;
            assert!(Uuid::try_parse(got.header("x-request-id")).is_ok(), "{}", operation.id);
        }
    }
    // Where changes must say what they change, each one must.
    let strict = api.beside_with(strict).await;
    let admin = admin.at(&strict);
    let mut asked = 0;
    for endpoint in &api.app.endpoints {
        let operation = &endpoint.operation;
        if operation.if_match {
            asked += 1;
            let got = house.ask(&admin, operation).await;
            let found = (got.status, got.json()["code"].as_str().unwrap_or_default().to_owned());
            assert_eq!(found, (428, "PRECONDITION_REQUIRED".to_owned()), "{}", operation.id);
        }
    }
    assert!(asked > 10, "{asked}");
}

/// Tokens that somebody made to look like ours.
#[tokio::test]
async fn forged_tokens_are_refused_everywhere() {
    let api = Api::start().await;
    let user = api.user().await;
    let good = user.credentials.clone().unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let decode = |part: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
    let (header, claims) = (decode(parts[0]), decode(parts[1]));
    let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let keys = api.app.token_keys.load();
    let signed = |claims: &Value| keys.current().unwrap().sign(claims).unwrap();
    let with = |value: &Value, name: &str, new: Value| {
        let mut value = value.clone();
        value[name] = new;
        value
    };
    let attacker = control_api::token::SigningKey::generate().unwrap();
    let kid = header["kid"].as_str().unwrap();
    let attacker = control_api::token::SigningKey::from_pkcs8(kid, &attacker).unwrap();
    let by_attacker = attacker.sign(&claims).unwrap();
    let attacker_signature = by_attacker.rsplit('.').next().unwrap();
    // The public key as a secret: what a verifier does that takes the token's word for the algorithm.
    let jwks = api.stranger().get("//.well-known/jwks.json").expect(200).await;
    let confused = {
        let signed = format!("{}.{}", text(&json!({ "alg": "HS256", "kid": kid })), parts[1]);
        let secret = jwks["keys"][0].to_string();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes()))
        )
    };
    let headed = |header: Value| format!("{}.{}.{}", text(&header), parts[1], parts[2]);
    let own_key = json!({ "alg": "ES256", "kid": kid, "jwk": jwks["keys"][0] });
    let elsewhere = json!({ "alg": "ES256", "kid": kid, "jku": "https://evil.example/keys" });
    let now = api.app.now().timestamp();
    let forged = [
        (
            "alg none",
            format!("{}.{}.", text(&json!({ "alg": "none", "kid": kid })), parts[1]),
        ),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        (
            "alg None with the signature",
            headed(json!({ "alg": "None", "kid": kid })),
        ),
        ("alg HS256 of the public key", confused),
        ("another kid", headed(with(&header, "kid", json!("../../etc/passwd")))),
        ("no kid", headed(json!({ "alg": "ES256" }))),
        ("crit", headed(with(&header, "crit", json!(["exp"])))),
        (
            "a key of its own",
            format!("{}.{}.{attacker_signature}", text(&own_key), parts[1]),
        ),
        (
            "keys elsewhere",
            format!("{}.{}.{attacker_signature}", text(&elsewhere), parts[1]),
        ),
        ("signed by another", by_attacker.clone()),
        (
            "claims changed",
            format!(
                "{}.{}.{}",
                parts[0],
                text(&with(&claims, "role", json!("admin"))),
                parts[2]
            ),
        ),
        (
            "another issuer",
            signed(&with(&claims, "iss", json!("https://evil.example"))),
        ),
        ("another audience", signed(&with(&claims, "aud", json!("other")))),
        ("another tenant", signed(&with(&claims, "tid", json!(Uuid::now_v7())))),
        ("nobody", signed(&with(&claims, "sub", json!(Uuid::now_v7())))),
        ("exp a text", signed(&with(&claims, "exp", json!("never")))),
        ("exp missing", signed(&with(&claims, "exp", Value::Null))),
        ("twice", format!("{good}.{}", parts[2])),
        ("cut", good[..good.len() - 2].to_owned()),
    ];
    for (kind, token) in &forged {
        let got = user.with_credentials(token).get("/account").send().await;
        let found = (got.status, got.json()["code"].as_str().unwrap_or_default().to_owned());
        assert_eq!(found, (401, "UNAUTHORIZED".to_owned()), "{kind}");
    }
    for exp in [now, now - 1, 0, -1] {
        let token = signed(&with(&claims, "exp", json!(exp)));
        user.with_credentials(&token)
            .get("/account")
            .refused("TOKEN_EXPIRED")
            .await;
    }
    user.get("/account").expect(200).await;
    // None of them is more than nobody at any operation.
    let house = house(&api).await;
    for endpoint in &api.app.endpoints {
        let operation = &endpoint.operation;
        if operation.caller <= Caller::Public || operation.caller == Caller::Signed {
            continue;
        }
        let got = house.ask(&user.with_credentials(&by_attacker), operation).await;
        assert_eq!(got.status, 401, "{}", operation.id);
    }
}

/// Places that nothing may be sent to, wherever a client names one.
#[tokio::test]
async fn sweep_of_places_that_nothing_is_sent_to() {
    let api = Api::start().await;
    let user = api.user().await;
    let body = |url: &str| json!({ "url": url, "events": ["device.registered"], "scope": "own" });
    let made = user.post("/webhooks").json(body("https://8.8.8.8/x")).expect(201).await;
    let path = format!("/webhooks/{}", id(&made));
    for host in [
        "127.0.0.1",
        "127.0.0.1:443",
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "0",
        "0.0.0.0",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "[ff02::1]",
        "user@8.8.8.8",
        "8.8.8.8@127.0.0.1",
        "127.0.0.1#@8.8.8.8",
        "127.0.0.1\\@8.8.8.8",
    ] {
        let url = format!("https://{host}/x");
        for ask in [
            user.post("/webhooks").json(body(&url)),
            user.patch(&path).json(json!({ "url": url })),
        ] {
            let got = ask.send().await;
            let code = got.json()["code"].as_str().unwrap_or_default().to_owned();
            let refused = ["URL_NOT_ALLOWED", "VALIDATION_ERROR"].contains(&code.as_str());
            assert!(refused, "{url}: {} {}", got.status, got.json());
        }
    }
    for scheme in ["http", "ftp", "file", "gopher", "javascript", "data"] {
        let got = user
            .post("/webhooks")
            .json(body(&format!("{scheme}://8.8.8.8/x")))
            .send()
            .await;
        assert_eq!(got.status, 422, "{scheme}");
    }
}
