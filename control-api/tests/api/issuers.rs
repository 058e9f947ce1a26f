//! Tokens of other issuers (AU-12), whose keys a server of the test's own has.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use control_api::config::{Settings, TrustedIssuer};
use serde_json::{Value, json};

use crate::harness::{Api, Client, settings};

const ISSUER: &str = "https://id.example";

/// An issuer: its keys by name, and how often it was asked for them.
#[derive(Clone, Default)]
struct Issuer {
    keys: Arc<Mutex<Vec<(String, EcdsaKeyPair)>>>,
    asked: Arc<AtomicU32>,
    away: Arc<Mutex<bool>>,
}

async fn answer(State(issuer): State<Issuer>) -> (StatusCode, String) {
    issuer.asked.fetch_add(1, Ordering::Relaxed);
    if *issuer.away.lock().unwrap() {
        return (StatusCode::INTERNAL_SERVER_ERROR, String::new());
    }
    let jwk = |(kid, pair): &(String, EcdsaKeyPair)| {
        let point = &pair.public_key().as_ref()[1..];
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": text(&point[..32]), "y": text(&point[32..]) })
    };
    let keys: Vec<Value> = issuer.keys.lock().unwrap().iter().map(jwk).collect();
    (StatusCode::OK, json!({ "keys": keys }).to_string())
}

impl Issuer {
    /// It, and settings that trust it.
    async fn start() -> (Issuer, Settings) {
        let issuer = Issuer::default();
        issuer.add("first");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let jwks_url = format!("http://{}/keys", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut settings = settings();
        settings.auth.trusted_issuers = vec![TrustedIssuer {
            issuer: ISSUER.to_owned(),
            audience: "headwater".to_owned(),
            jwks_url,
            provision: true,
            role_claim: Some("groups".to_owned()),
            roles: [("owners", "admin")]
                .map(|(claim, role)| (claim.to_owned(), role.to_owned()))
                .into(),
            ..TrustedIssuer::default()
        }];
        (issuer, settings)
    }

    fn add(&self, kid: &str) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        self.keys.lock().unwrap().push((kid.to_owned(), pair));
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    /// A token for `subject`, with these claims besides.
    fn token(&self, api: &Api, kid: &str, subject: &str, more: Value) -> String {
        let now = api.app.now().timestamp();
        let mut claims = json!({
            "iss": ISSUER, "aud": "headwater", "sub": subject, "iat": now, "exp": now + 3600,
            "email": format!("{subject}@example.org"), "email_verified": true, "name": subject,
        });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let text = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", text(json!({ "alg": "ES256", "kid": kid })), text(claims));
        let keys = self.keys.lock().unwrap();
        let (_, pair) = keys.iter().find(|(name, _)| name == kid).unwrap();
        let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn client<'a>(&self, api: &'a Api, subject: &str, more: Value) -> Client<'a> {
        api.stranger()
            .with_credentials(&self.token(api, "first", subject, more))
    }
}

#[tokio::test]
async fn au_12_subjects_of_trusted_issuers_get_accounts() {
    let (issuer, settings) = Issuer::start().await;
    let api = Api::with(settings).await;
    let ada = issuer.client(&api, "ada", json!({}));
    let account = ada.get("/account").expect(200).await;
    assert_eq!(
        (
            account["email"].as_str(),
            account["role"].as_str(),
            account["email_verified"].as_bool()
        ),
        (Some("ada@example.org"), Some("user"), Some(true))
    );
    // The same person by another token, on another node too.
    let other = api.beside().await;
    let again = issuer.client(&other, "ada", json!({ "email": "new@example.org" }));
    assert_eq!(again.get("/account").expect(200).await["id"], account["id"]);
    assert_eq!(api.events().await, ["user.created"]);
    assert_eq!(api.audit().await, ["user.created"]);
    // Accounts that are there are nobody's to take.
    let local = api.user().await;
    let thief = issuer.client(&api, "thief", json!({ "email": local.email }));
    thief.get("/account").refused("UNAUTHORIZED").await;
    issuer
        .client(&api, "x", json!({ "email": null }))
        .get("/account")
        .refused("UNAUTHORIZED")
        .await;
    // Two at once make one.
    let twin = issuer.client(&api, "twin", json!({}));
    let (one, two) = tokio::join!(twin.get("/account").expect(200), twin.get("/account").expect(200));
    assert_eq!(one["id"], two["id"]);
}

#[tokio::test]
async fn au_12_roles_need_a_mapping_and_the_record() {
    let (issuer, settings) = Issuer::start().await;
    let api = Api::with(settings).await;
    let owner = issuer.client(&api, "owner", json!({ "groups": ["owners"] }));
    owner.get("/admin/users").expect(200).await;
    let plain = issuer.client(&api, "owner", json!({ "role": "admin" }));
    plain.get("/admin/users").refused("FORBIDDEN").await;
    let user = issuer.client(&api, "user", json!({}));
    user.get("/account").expect(200).await;
    let claims = issuer.client(&api, "user", json!({ "groups": ["owners"] }));
    claims.get("/admin/users").refused("FORBIDDEN").await;
}

#[tokio::test]
async fn au_12_what_does_not_hold_is_refused() {
    let (issuer, settings) = Issuer::start().await;
    let api = Api::with(settings.clone()).await;
    for (more, code) in [
        (json!({ "aud": "other" }), "UNAUTHORIZED"),
        (json!({ "iss": "https://other.example" }), "UNAUTHORIZED"),
        (json!({ "iss": api.app.config.section.public_url }), "UNAUTHORIZED"),
        (json!({ "exp": api.app.now().timestamp() }), "TOKEN_EXPIRED"),
        (json!({ "nbf": api.app.now().timestamp() + 3000 }), "UNAUTHORIZED"),
    ] {
        issuer
            .client(&api, "ada", more.clone())
            .get("/account")
            .refused(code)
            .await;
    }
    assert_eq!(api.value::<i64>("select count(*) from users").await, 0);
    let ada = issuer.client(&api, "ada", json!({}));
    ada.get("/account").expect(200).await;
    api.sql("update users set status = 'suspended'").await;
    api.app.caches.clear();
    ada.get("/account").refused("ACCOUNT_SUSPENDED").await;
    // Nobody gets an account where that is off.
    let mut closed = settings;
    closed.auth.trusted_issuers[0].provision = false;
    let api = Api::with(closed).await;
    issuer
        .client(&api, "ada", json!({}))
        .get("/account")
        .refused("UNAUTHORIZED")
        .await;
}

#[tokio::test]
async fn au_12_given_up_tokens_stay_given_up() {
    let (issuer, settings) = Issuer::start().await;
    let api = Api::with(settings).await;
    let ada = issuer.client(&api, "ada", json!({}));
    ada.post("/auth/logout").expect(204).await;
    ada.get("/account").refused("UNAUTHORIZED").await;
    issuer
        .client(&api, "ada", json!({ "jti": "2" }))
        .get("/account")
        .expect(200)
        .await;
}

#[tokio::test]
async fn au_12_keys_are_kept_and_asked_for_now_and_then() {
    let (issuer, settings) = Issuer::start().await;
    let api = Api::with(settings).await;
    let first = || issuer.client(&api, "ada", json!({}));
    for _ in 0..3 {
        first().get("/account").expect(200).await;
    }
    assert_eq!(issuer.asked(), 1);
    // A key that is not known is asked for, at most once a minute.
    issuer.add("second");
    let second = || {
        api.stranger()
            .with_credentials(&issuer.token(&api, "second", "ada", json!({})))
    };
    second().get("/account").refused("UNAUTHORIZED").await;
    assert_eq!(issuer.asked(), 1);
    api.app.advance(TimeDelta::seconds(61));
    second().get("/account").expect(200).await;
    assert_eq!(issuer.asked(), 2);
    // After ten minutes they are asked for again: one that was taken away holds no more.
    let old = issuer.token(&api, "first", "ada", json!({}));
    issuer.keys.lock().unwrap().remove(0);
    let old = api.stranger().with_credentials(&old);
    old.get("/account").expect(200).await;
    api.app.advance(TimeDelta::minutes(10));
    old.get("/account").refused("UNAUTHORIZED").await;
    assert_eq!(issuer.asked(), 3);
    // An issuer that is away is no fault of the caller's.
    *issuer.away.lock().unwrap() = true;
    second().get("/account").expect(200).await;
    api.app.advance(TimeDelta::minutes(10));
    second().get("/account").refused("SERVICE_UNAVAILABLE").await;
    second().get("/account").refused("SERVICE_UNAVAILABLE").await;
    assert_eq!(issuer.asked(), 4);
    *issuer.away.lock().unwrap() = false;
    api.app.advance(TimeDelta::seconds(6));
    second().get("/account").expect(200).await;
}
