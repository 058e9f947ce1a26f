//! Signing in and staying signed in (AU).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use control_api::auth::Role;
use control_api::config::OauthClient;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Api, Got, PASSWORD, settings};

fn registration(email: &str) -> Value {
    json!({ "name": "Ada", "email": email, "password": "long enough" })
}

#[tokio::test]
async fn au_1_protected_operations_need_credentials() {
    let api = Api::start().await;
    let stranger = api.stranger();
    stranger.post("/auth/logout").refused("UNAUTHORIZED").await;
    for credentials in ["", "x", "a.b.c", "ak_", "ak_unknown", &"a".repeat(5000)] {
        stranger
            .with_credentials(credentials)
            .post("/auth/logout")
            .refused("UNAUTHORIZED")
            .await;
    }
    stranger
        .post("/auth/logout")
        .header("authorization", "Basic YTpi")
        .refused("UNAUTHORIZED")
        .await;
    let got = stranger.post("/auth/logout").send().await.is(401);
    assert_eq!(got.header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn au_2_registration_signs_in() {
    let api = Api::start().await;
    let stranger = api.stranger();
    let body = stranger
        .post("/auth/register")
        .json(registration("Ada@Example.org"))
        .expect(201)
        .await;
    assert_eq!(
        (body["user"]["role"].as_str(), body["user"]["email"].as_str()),
        (Some("user"), Some("Ada@Example.org"))
    );
    let ada = stranger.with_credentials(body["access_token"].as_str().unwrap());
    let check = ada.get("/auth/check").expect(200).await;
    assert_eq!(
        (check["authenticated"].as_bool(), check["auth_method"].as_str()),
        (Some(true), Some("jwt"))
    );
    stranger
        .post("/auth/register")
        .json(registration("aDA@example.ORG"))
        .refused("EMAIL_TAKEN")
        .await;
    let short = json!({ "name": "Ada", "email": "b@example.org", "password": "1234567" });
    let body = stranger
        .post("/auth/register")
        .json(short)
        .refused("VALIDATION_ERROR")
        .await;
    assert_eq!(body["details"][0]["field"], "password");
    assert_eq!(api.events().await, ["user.created", "user.registered"]);
    assert_eq!(
        api.value::<i64>("select count(*) from profiles where is_default").await,
        1
    );
    assert!(
        api.value::<String>("select password_hash from users")
            .await
            .starts_with("$argon2id$v=19$m=19456,t=2,p=1$")
    );
}

#[tokio::test]
async fn registration_can_be_off() {
    let mut closed = settings();
    closed.registration.enabled = false;
    let api = Api::with(closed).await;
    api.stranger()
        .post("/auth/register")
        .json(registration("a@example.org"))
        .refused("REGISTRATION_DISABLED")
        .await;
}

#[tokio::test]
async fn au_3_weaker_hashes_are_made_anew_at_login() {
    let api = Api::start().await;
    let user = api.user().await;
    let before: String = api.value("select password_hash from users").await;
    let mut section = api.app.config.section.clone();
    section.password_memory_kib = 20_000;
    let strong = control_api::password::Passwords::new(20_000, 1);
    assert_eq!(
        strong.verify(PASSWORD, Some(&before)).await.unwrap(),
        control_api::password::Verdict::RightButWeak
    );
    let login = json!({ "email": user.email, "password": PASSWORD });
    api.stranger().post("/auth/login").json(login).expect(200).await;
    assert_eq!(
        api.value::<String>("select password_hash from users").await,
        before,
        "strong enough as it is"
    );
}

#[tokio::test]
async fn au_4_access_tokens_last_an_hour() {
    let api = Api::start().await;
    let user = api.user().await;
    let login = json!({ "username": user.email, "password": PASSWORD });
    let body = api.stranger().post("/auth/login").json(login).expect(200).await;
    assert_eq!(
        (body["expires_in"].as_i64(), body["refresh_expires_in"].as_i64()),
        (Some(3600), Some(604_800))
    );
    let token = body["access_token"].as_str().unwrap();
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    for name in ["iss", "aud", "sub", "tid", "role", "sid", "iat", "exp", "jti"] {
        assert!(!claims[name].is_null(), "{name}");
    }
    let client = api.stranger().with_credentials(token);
    client.get("/auth/check").expect(200).await;
    api.app.advance(TimeDelta::seconds(3601));
    client.post("/auth/logout").refused("TOKEN_EXPIRED").await;
    let check = client.get("/auth/check").expect(200).await;
    assert_eq!(check["authenticated"], false);
    // Two keys while they change: tokens of the one before hold.
    let user = api.user().await;
    let other = api.user_of(control_api::db::DEFAULT_TENANT, Role::User).await;
    api.app.rotate_token_keys().await.unwrap();
    let keys = api.stranger().get("//.well-known/jwks.json").expect(200).await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    assert!(keys["keys"].as_array().unwrap().iter().all(|key| key["d"].is_null()));
    let _ = (user, other);
}

#[tokio::test]
async fn au_5_refresh_tokens_change_at_every_use() {
    let api = Api::start().await;
    let user = api.user().await;
    let stranger = api.stranger();
    let login = json!({ "email": user.email, "password": PASSWORD });
    let first = stranger.post("/auth/login").json(login).expect(200).await;
    let refresh = |token: &Value| stranger.post("/auth/refresh").json(json!({ "refresh_token": token }));
    let second = refresh(&first["refresh_token"]).expect(200).await;
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    let holder = stranger.with_credentials(second["access_token"].as_str().unwrap());
    holder
        .post("/auth/logout")
        .json(json!({ "unknown": 1 }))
        .refused("VALIDATION_ERROR")
        .await;
    // The first comes back: the family ends, its access tokens too.
    refresh(&first["refresh_token"]).refused("REFRESH_TOKEN_REUSED").await;
    refresh(&second["refresh_token"]).refused("REFRESH_TOKEN_INVALID").await;
    holder.post("/auth/logout").refused("UNAUTHORIZED").await;
    refresh(&json!("rt_unknown")).refused("REFRESH_TOKEN_INVALID").await;
    assert!(api.audit().await.contains(&"auth.refresh_reused".to_owned()));
}

#[tokio::test]
async fn au_5_two_at_once_end_the_family() {
    let api = Api::start().await;
    let user = api.user().await;
    let login = json!({ "email": user.email, "password": PASSWORD });
    let first = api.stranger().post("/auth/login").json(login).expect(200).await;
    let ask = || {
        api.stranger()
            .post("/auth/refresh")
            .json(json!({ "refresh_token": first["refresh_token"] }))
            .send()
    };
    let (one, other) = tokio::join!(ask(), ask());
    let mut found = [one.status, other.status];
    found.sort_unstable();
    assert_eq!(found, [200, 401]);
}

#[tokio::test]
async fn au_5_families_last_ninety_days() {
    let api = Api::start().await;
    let user = api.user().await;
    let login = json!({ "email": user.email, "password": PASSWORD });
    let mut token = api.stranger().post("/auth/login").json(login).expect(200).await["refresh_token"].clone();
    for day in (6..90).step_by(6) {
        api.app.advance(TimeDelta::days(6));
        let body = api
            .stranger()
            .post("/auth/refresh")
            .json(json!({ "refresh_token": token }))
            .expect(200)
            .await;
        token = body["refresh_token"].clone();
        if day == 84 {
            // Cut to the family's end, which some seconds of testing bring nearer.
            let left = body["refresh_expires_in"].as_i64().unwrap();
            assert!((6 * 86_400 - 300..=6 * 86_400).contains(&left), "{left}");
        }
    }
    api.app.advance(TimeDelta::days(6));
    api.stranger()
        .post("/auth/refresh")
        .json(json!({ "refresh_token": token }))
        .refused("REFRESH_TOKEN_INVALID")
        .await;
}

#[tokio::test]
async fn au_5_the_cookie_is_out_of_reach_of_scripts() {
    let api = Api::start().await;
    let user = api.user().await;
    let login = json!({ "email": user.email, "password": PASSWORD });
    let got = api
        .stranger()
        .post("/auth/login")
        .header("x-session-transport", "cookie")
        .json(login)
        .send()
        .await
        .is(200);
    assert!(got.json()["refresh_token"].is_null());
    let cookie = got.header("set-cookie").to_owned();
    for part in ["HttpOnly", "Secure", "SameSite=Strict", "Path=/api/v1/auth"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let pair = cookie.split(';').next().unwrap();
    let got = api
        .stranger()
        .post("/auth/refresh")
        .header("cookie", &format!("a=b; {pair}"))
        .send()
        .await
        .is(200);
    assert!(got.header("set-cookie").starts_with("refresh_token=rt_"));
    api.stranger()
        .post("/auth/refresh")
        .refused("REFRESH_TOKEN_INVALID")
        .await;
}

#[tokio::test]
async fn au_6_ten_failures_pause() {
    let api = Api::start().await;
    let user = api.user().await;
    let wrong = json!({ "email": user.email, "password": "wrong password" });
    for _ in 0..10 {
        api.stranger()
            .post("/auth/login")
            .json(wrong.clone())
            .refused("INVALID_CREDENTIALS")
            .await;
    }
    let got = api
        .stranger()
        .post("/auth/login")
        .json(json!({ "email": user.email, "password": PASSWORD }))
        .send()
        .await
        .is(429);
    assert_eq!(got.json()["code"], "TOO_MANY_ATTEMPTS");
    assert!(!got.header("retry-after").is_empty());
    let nobody = json!({ "email": "nobody@example.org", "password": "wrong password" });
    api.stranger()
        .post("/auth/login")
        .json(nobody)
        .refused("INVALID_CREDENTIALS")
        .await;
}

#[tokio::test]
async fn au_6_many_at_once_are_no_more_than_ten() {
    let api = Api::start().await;
    let user = api.user().await;
    let login = |password: &str| {
        let body = json!({ "email": user.email, "password": password });
        api.stranger().post("/auth/login").json(body).send()
    };
    // Right ones at once are nobody's failures, whoever of them has to wait.
    let right = join_all((0..12).map(|_| login(PASSWORD))).await;
    let (good, waiting): (Vec<Got>, Vec<Got>) = right.into_iter().partition(|got| got.status == 200);
    assert!(good.len() >= 10, "{}", good.len());
    assert!(waiting.iter().all(|got| got.header("retry-after") == "1"));
    let wrong = join_all((0..60).map(|_| login("wrong password"))).await;
    let of = |code: &str| wrong.iter().filter(|got| got.json()["code"] == code).count();
    let (evaluated, paused) = (of("INVALID_CREDENTIALS"), of("TOO_MANY_ATTEMPTS"));
    assert_eq!((evaluated, paused), (10, 50));
    let wait_s: u32 = login(PASSWORD).await.is(429).header("retry-after").parse().unwrap();
    assert!(wait_s > 800, "{wait_s}");
}

#[tokio::test]
async fn emails_are_told_apart_one_way() {
    let api = Api::start().await;
    let user = api.user().await;
    // Postgres and Rust have other small letters for this one.
    let mail = |local: &str| format!("{local}@example.org");
    let change = json!({ "email": mail("\u{130}rem"), "current_password": PASSWORD });
    user.patch("/account").json(change).expect(200).await;
    let login = json!({ "email": mail("\u{130}REM"), "password": PASSWORD });
    api.stranger().post("/auth/login").json(login).expect(200).await;
    api.stranger()
        .post("/auth/register")
        .json(registration(&mail("\u{130}Rem")))
        .refused("EMAIL_TAKEN")
        .await;
    // Another case of one's own is no other address.
    api.sql("update users set email_verified_at = now()").await;
    let mails = api.value::<i64>("select count(*) from mail_queue").await;
    let change = json!({ "email": mail("\u{130}REM"), "current_password": PASSWORD });
    let changed = user.patch("/account").json(change).expect(200).await;
    assert_eq!(changed["email_verified"], true);
    assert_eq!(api.value::<i64>("select count(*) from mail_queue").await, mails);
}

/// An answer that came before anybody looked for the account can not tell of it, nor can the time that it took.
#[tokio::test]
async fn mails_are_looked_into_after_the_answer() {
    let api = Api::start().await;
    let user = api.user().await;
    let mut locked = api.app.db.begin().await.unwrap();
    sqlx::query("lock table users, action_tokens in access exclusive mode")
        .execute(&mut *locked)
        .await
        .unwrap();
    for path in ["/auth/password/forgot", "/auth/email/resend"] {
        for email in [user.email.as_str(), "nobody@example.org"] {
            let asked = api.stranger().post(path).json(json!({ "email": email })).send();
            let got = tokio::time::timeout(std::time::Duration::from_secs(20), asked).await;
            got.unwrap_or_else(|_| panic!("{path} waits for the database")).is(202);
        }
    }
    locked.rollback().await.unwrap();
    api.mail(1).await;
}

#[tokio::test]
async fn au_7_suspended_and_banned_accounts_are_refused() {
    for (status, code) in [("suspended", "ACCOUNT_SUSPENDED"), ("banned", "ACCOUNT_BANNED")] {
        let api = Api::start().await;
        let user = api.user().await;
        let login = json!({ "email": user.email, "password": PASSWORD });
        let body = api.stranger().post("/auth/login").json(login.clone()).expect(200).await;
        api.sql(&format!("update users set status = '{status}'")).await;
        api.app.caches.clear();
        user.post("/auth/logout").refused(code).await;
        api.stranger().post("/auth/login").json(login).refused(code).await;
        let refresh = json!({ "refresh_token": body["refresh_token"] });
        api.stranger().post("/auth/refresh").json(refresh).refused(code).await;
        assert_eq!(user.get("/auth/check").expect(200).await["authenticated"], false);
    }
}

#[tokio::test]
async fn logging_out_ends_this_sign_in_or_all() {
    let api = Api::start().await;
    let user = api.user().await;
    let login = || {
        api.stranger()
            .post("/auth/login")
            .json(json!({ "email": user.email, "password": PASSWORD }))
    };
    let (one, other) = (login().expect(200).await, login().expect(200).await);
    let client = |body: &Value| api.stranger().with_credentials(body["access_token"].as_str().unwrap());
    client(&one).post("/auth/logout").expect(204).await;
    client(&one).post("/auth/logout").refused("UNAUTHORIZED").await;
    let refresh = json!({ "refresh_token": one["refresh_token"] });
    api.stranger()
        .post("/auth/refresh")
        .json(refresh)
        .refused("REFRESH_TOKEN_INVALID")
        .await;
    client(&other)
        .post("/auth/logout")
        .json(json!({ "all": true }))
        .expect(204)
        .await;
    user.post("/auth/logout").refused("UNAUTHORIZED").await;
}

#[tokio::test]
async fn emails_are_verified_by_a_token_once() {
    let mut strict = settings();
    strict.registration.require_verified_email = true;
    let api = Api::with(strict).await;
    let stranger = api.stranger();
    stranger
        .post("/auth/register")
        .json(registration("a@example.org"))
        .expect(201)
        .await;
    let login = json!({ "email": "a@example.org", "password": "long enough" });
    stranger
        .post("/auth/login")
        .json(login.clone())
        .refused("EMAIL_NOT_VERIFIED")
        .await;
    let first = api.mailed().await;
    stranger
        .post("/auth/email/resend")
        .json(json!({ "email": "a@example.org" }))
        .expect(202)
        .await;
    stranger
        .post("/auth/email/resend")
        .json(json!({ "email": "nobody@example.org" }))
        .expect(202)
        .await;
    let token = api.mail(2).await;
    stranger
        .post("/auth/email/verify")
        .json(json!({ "token": first }))
        .refused("ACTION_TOKEN_INVALID")
        .await;
    stranger
        .post("/auth/password/reset")
        .json(json!({ "token": token, "password": "long enough" }))
        .refused("ACTION_TOKEN_INVALID")
        .await;
    stranger
        .post("/auth/email/verify")
        .json(json!({ "token": token }))
        .expect(204)
        .await;
    stranger
        .post("/auth/email/verify")
        .json(json!({ "token": token }))
        .refused("ACTION_TOKEN_INVALID")
        .await;
    stranger.post("/auth/login").json(login).expect(200).await;
    assert_eq!(api.events().await.last().unwrap(), "user.email_verified");
    for _ in 0..10 {
        stranger
            .post("/auth/email/resend")
            .json(json!({ "email": "b@example.org" }))
            .send()
            .await;
    }
    stranger
        .post("/auth/email/resend")
        .json(json!({ "email": "b@example.org" }))
        .refused("TOO_MANY_ATTEMPTS")
        .await;
}

#[tokio::test]
async fn au_13_a_new_password_ends_all_sign_ins() {
    let api = Api::start().await;
    let user = api.user().await;
    let stranger = api.stranger();
    let body = stranger
        .post("/auth/login")
        .json(json!({ "email": user.email, "password": PASSWORD }))
        .expect(200)
        .await;
    stranger
        .post("/auth/password/forgot")
        .json(json!({ "email": user.email }))
        .expect(202)
        .await;
    stranger
        .post("/auth/password/forgot")
        .json(json!({ "email": "nobody@example.org" }))
        .expect(202)
        .await;
    let token = api.mail(1).await;
    let reset = json!({ "token": token, "password": "another password" });
    stranger
        .post("/auth/password/reset")
        .json(reset.clone())
        .expect(204)
        .await;
    stranger
        .post("/auth/password/reset")
        .json(reset)
        .refused("ACTION_TOKEN_INVALID")
        .await;
    user.post("/auth/logout").refused("UNAUTHORIZED").await;
    stranger
        .post("/auth/refresh")
        .json(json!({ "refresh_token": body["refresh_token"] }))
        .refused("REFRESH_TOKEN_INVALID")
        .await;
    stranger
        .post("/auth/login")
        .json(json!({ "email": user.email, "password": PASSWORD }))
        .refused("INVALID_CREDENTIALS")
        .await;
    stranger
        .post("/auth/login")
        .json(json!({ "email": user.email, "password": "another password" }))
        .expect(200)
        .await;
    // An hour, not more.
    stranger
        .post("/auth/password/forgot")
        .json(json!({ "email": user.email }))
        .expect(202)
        .await;
    let late = api.mail(2).await;
    api.app.advance(TimeDelta::minutes(61));
    let late = json!({ "token": late, "password": "another password" });
    stranger
        .post("/auth/password/reset")
        .json(late)
        .refused("ACTION_TOKEN_INVALID")
        .await;
}

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// S256 of the verifier (RFC 7636 appendix B).
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const REDIRECT: &str = "https://app.example/back";

async fn with_client() -> Api {
    let mut settings = settings();
    settings.auth.oauth_clients.push(OauthClient {
        client_id: "app".to_owned(),
        name: "The <App>".to_owned(),
        redirect_uris: vec![REDIRECT.to_owned()],
    });
    Api::with(settings).await
}

fn authorize(method: &str) -> String {
    format!(
        "/oauth/authorize?response_type=code&client_id=app&redirect_uri={REDIRECT}&code_challenge={CHALLENGE}\
         &code_challenge_method={method}&state=s%20t&scope=openid&nonce=n"
    )
}

async fn code(api: &Api, email: &str) -> String {
    let page = api.stranger().get(&authorize("S256")).send().await.is(200);
    let html = String::from_utf8(page.bytes.clone()).unwrap();
    assert!(
        html.contains("The &lt;App&gt;")
            && page
                .header("content-security-policy")
                .contains("frame-ancestors 'none'")
    );
    let csrf = html
        .split("name=csrf value=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let mut form = vec![
        ("email", email),
        ("password", PASSWORD),
        ("csrf", &csrf),
        ("response_type", "code"),
        ("client_id", "app"),
        ("redirect_uri", REDIRECT),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("state", "s t"),
        ("scope", "openid"),
        ("nonce", "n"),
    ];
    let got = api.stranger().post("/oauth/authorize").form(&form).send().await.is(303);
    let location = got.header("location").to_owned();
    assert!(
        location.starts_with("https://app.example/back?code=oc_") && location.ends_with("&state=s%20t"),
        "{location}"
    );
    form[2].1 = "1.00";
    api.stranger()
        .post("/oauth/authorize")
        .form(&form)
        .refused("INVALID_PARAMETER")
        .await;
    form[2].1 = &csrf;
    form[1].1 = "wrong";
    api.stranger()
        .post("/oauth/authorize")
        .form(&form)
        .refused("INVALID_CREDENTIALS")
        .await;
    location
        .split("code=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap()
        .to_owned()
}

fn exchange<'a>(code: &'a str, verifier: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("code_verifier", verifier),
        ("redirect_uri", REDIRECT),
        ("client_id", "app"),
    ]
}

#[tokio::test]
async fn au_11_codes_need_their_verifier_and_hold_once() {
    let api = with_client().await;
    let user = api.user().await;
    let stranger = api.stranger();
    let first = code(&api, &user.email).await;
    let wrong = stranger
        .post("/oauth/token")
        .form(&exchange(&first, "wrong"))
        .expect(400)
        .await;
    assert_eq!(wrong["error"], "invalid_grant");
    let body = stranger
        .post("/oauth/token")
        .form(&exchange(&first, VERIFIER))
        .expect(200)
        .await;
    let holder = stranger.with_credentials(body["access_token"].as_str().unwrap());
    assert_eq!(holder.get("/auth/check").expect(200).await["authenticated"], true);
    let id_token = body["id_token"].as_str().unwrap();
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(id_token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    assert_eq!(
        (claims["aud"].as_str(), claims["nonce"].as_str()),
        (Some("app"), Some("n"))
    );
    stranger
        .with_credentials(id_token)
        .post("/auth/logout")
        .refused("UNAUTHORIZED")
        .await;
    // Its refresh token is the client's: not for auth.refresh.
    let refresh = body["refresh_token"].as_str().unwrap();
    stranger
        .post("/auth/refresh")
        .json(json!({ "refresh_token": refresh }))
        .refused("REFRESH_TOKEN_INVALID")
        .await;
    let pairs = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh),
        ("client_id", "app"),
    ];
    let next = stranger.post("/oauth/token").form(&pairs).expect(200).await;
    // A code that comes twice ends what it was used for.
    assert_eq!(
        stranger
            .post("/oauth/token")
            .form(&exchange(&first, VERIFIER))
            .expect(400)
            .await["error"],
        "invalid_grant"
    );
    let holder = stranger.with_credentials(next["access_token"].as_str().unwrap());
    assert_eq!(holder.get("/auth/check").expect(200).await["authenticated"], false);
    let late = code(&api, &user.email).await;
    api.app.advance(TimeDelta::seconds(61));
    assert_eq!(
        stranger
            .post("/oauth/token")
            .form(&exchange(&late, VERIFIER))
            .expect(400)
            .await["error"],
        "invalid_grant"
    );
    let body = stranger
        .post("/oauth/token")
        .form(&[("grant_type", "password")])
        .expect(400)
        .await;
    assert_eq!(body["error"], "unsupported_grant_type");
}

#[tokio::test]
async fn au_11_plain_challenges_and_unknown_places_are_refused() {
    let api = with_client().await;
    let got = api.stranger().get(&authorize("plain")).send().await.is(302);
    assert_eq!(
        got.header("location"),
        "https://app.example/back?error=invalid_request&state=s%20t"
    );
    for (from, to) in [
        ("client_id=app", "client_id=other"),
        ("back", "back2"),
        ("https://app", "https://evil"),
    ] {
        api.stranger()
            .get(&authorize("S256").replace(from, to))
            .refused("INVALID_PARAMETER")
            .await;
    }
}

#[tokio::test]
async fn au_11_token_requests_are_read_as_rfc_6749_says() {
    let api = with_client().await;
    let user = api.user().await;
    let ask = |form: &[(&str, &str)]| api.stranger().post("/oauth/token").form(form).send();
    let refused = async |form: &[(&str, &str)], error: &str| {
        let got = ask(form).await.is(400);
        assert_eq!(got.json()["error"], error, "{form:?}: {}", got.json());
    };
    let first = code(&api, &user.email).await;
    let good = exchange(&first, VERIFIER);
    refused(&[], "invalid_request").await;
    refused(&[("grant_type", "")], "invalid_request").await;
    refused(&good[1..], "invalid_request").await;
    refused(&[&good[..], &good[..1]].concat(), "invalid_request").await;
    refused(&[&good[..], &[("code", "twice")]].concat(), "invalid_request").await;
    let long = "x".repeat(10_000);
    refused(&[("grant_type", long.as_str())], "unsupported_grant_type").await;
    // What is known and what is not beside what is needed.
    let more = [("scope", "openid"), ("resource", "https://api.example"), ("empty", "")];
    ask(&[&good[..], &more[..]].concat()).await.is(200);
    let got = api.stranger().post("/oauth/revoke").form(&[]).expect(400).await;
    assert_eq!(got["error"], "invalid_request");
    let unknown = [("token", "unknown"), ("client_secret", "none")];
    api.stranger().post("/oauth/revoke").form(&unknown).expect(200).await;
}

#[tokio::test]
async fn tokens_are_revoked_by_whoever_has_them() {
    let api = with_client().await;
    let user = api.user().await;
    let first = code(&api, &user.email).await;
    let body = api
        .stranger()
        .post("/oauth/token")
        .form(&exchange(&first, VERIFIER))
        .expect(200)
        .await;
    let token = body["refresh_token"].as_str().unwrap();
    api.stranger()
        .post("/oauth/revoke")
        .form(&[("token", token)])
        .expect(200)
        .await;
    api.stranger()
        .post("/oauth/revoke")
        .form(&[("token", "unknown")])
        .expect(200)
        .await;
    let holder = api.stranger().with_credentials(body["access_token"].as_str().unwrap());
    assert_eq!(holder.get("/auth/check").expect(200).await["authenticated"], false);
    let metadata = api
        .stranger()
        .get("//.well-known/openid-configuration")
        .expect(200)
        .await;
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
}
