//! OAuth 2: authorization code with PKCE (RFC 6749, RFC 7636), revocation (RFC 7009), discovery (OpenID Connect).

use std::sync::Arc;

use axum::http::header::{CONTENT_SECURITY_POLICY, LOCATION};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::sign_in::{Tokens, begin_family, check_login, end_sign_ins, tokens};
use crate::app::App;
use crate::call::{Call, TenantId};
use crate::config::OauthClient;
use crate::db::sessions::{self, OauthCode, Which};
use crate::db::users::{self, UserRow};
use crate::error::{ApiError, Code};
use crate::openapi::escape;
use crate::operation::{Answer, Caller, Endpoint, get, post};
use crate::pipeline::{BODY_SIZE_BYTES_MAX, escape_query};
use crate::reply::Reply;
use crate::schema::{Format, Schema, absent, formatted, list, object, required, text, uri};
use crate::secrets::{new_token, sha256};
use crate::work::Work;

/// Life of a code.
const CODE_TTL: TimeDelta = TimeDelta::seconds(60);
/// How long the sign-in form holds.
const FORM_TTL_S: i64 = 600;

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    let authorize = get("oauth.authorize", "/oauth/authorize", Caller::Public, authorize)
        .summary("Sign in for another application")
        .query_required("response_type", text(1, 50))
        .query_required("client_id", text(1, 200))
        .query_required("redirect_uri", text(1, 2048))
        .query_required("code_challenge", text(1, 128))
        .query_required("code_challenge_method", text(1, 20))
        .query("state", text(0, 1000))
        .query("scope", text(0, 500))
        .query("nonce", text(0, 500))
        .media_type("text/html")
        .reply(200, Schema::Any)
        .empty(302)
        .errors(&[Code::InvalidParameter])
        .cache_control("no-store")
        .rules("AU-11");
    let submit = post("oauth.authorize_submit", "/oauth/authorize", Caller::Public, submit)
        .summary("The sign-in form's own way back")
        .form(object([
            required("email", text(1, 254)),
            required("password", formatted(Format::Secret, 1, 256)),
            required("csrf", text(1, 200)),
            required("response_type", text(1, 50)),
            required("client_id", text(1, 200)),
            required("redirect_uri", text(1, 2048)),
            required("code_challenge", text(1, 128)),
            required("code_challenge_method", text(1, 20)),
            absent("state", text(0, 1000)),
            absent("scope", text(0, 500)),
            absent("nonce", text(0, 500)),
        ]))
        .empty(303)
        .errors(&[Code::InvalidCredentials, Code::EmailNotVerified, Code::TooManyAttempts])
        .cache_control("no-store")
        .rules("AU-6, AU-11");
    let token_body = object([
        required("access_token", text(1, 4096)),
        required("token_type", Schema::Enum(&["Bearer"])),
        required("expires_in", crate::schema::integer(1, i64::MAX)),
        required("refresh_token", text(1, 200)),
        absent("scope", text(0, 500)),
        absent("id_token", text(1, 4096)),
    ]);
    vec![
        authorize,
        submit,
        post("oauth.token", "/oauth/token", Caller::Public, token)
            .summary("Exchange a code or a refresh token")
            .form(object(
                TOKEN_REQUEST.map(|name| absent(name, text(0, BODY_SIZE_BYTES_MAX))),
            ))
            .reply(200, token_body)
            .reply(400, oauth_error())
            .cache_control("no-store")
            .rules("AU-5, AU-11"),
        post("oauth.revoke", "/oauth/revoke", Caller::Public, revoke)
            .summary("End a sign-in by one of its tokens")
            .form(object(
                REVOCATION_REQUEST.map(|name| absent(name, text(0, BODY_SIZE_BYTES_MAX))),
            ))
            .empty(200)
            .reply(400, oauth_error())
            .cache_control("no-store"),
        get("oauth.jwks", "//.well-known/jwks.json", Caller::Public, jwks)
            .summary("Keys that access tokens are verified with")
            .reply(200, object([required("keys", list(Schema::Any))]))
            .cache_control("public, max-age=300")
            .rules("AU-4"),
        get(
            "oauth.metadata",
            "//.well-known/openid-configuration",
            Caller::Public,
            metadata,
        )
        .summary("OpenID Connect discovery")
        .reply(
            200,
            object(
                [required("issuer", uri())]
                    .into_iter()
                    .chain(METADATA.iter().map(|name| required(name, Schema::Any))),
            ),
        )
        .cache_control("public, max-age=300"),
    ]
}

const METADATA: [&str; 11] = [
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "jwks_uri",
    "response_types_supported",
    "grant_types_supported",
    "code_challenge_methods_supported",
    "token_endpoint_auth_methods_supported",
    "subject_types_supported",
    "id_token_signing_alg_values_supported",
    "scopes_supported",
];

/// What is heard of a token request. What is wrong with it is told as RFC 6749 5.2 has it, so the schema lets all of it in.
const TOKEN_REQUEST: [&str; 7] = [
    "grant_type",
    "code",
    "code_verifier",
    "redirect_uri",
    "client_id",
    "refresh_token",
    "scope",
];

/// What is heard of a revocation (RFC 7009 2.1).
const REVOCATION_REQUEST: [&str; 3] = ["token", "token_type_hint", "client_id"];

fn oauth_error() -> Schema {
    let fields = [
        required("error", text(1, 50)),
        absent("error_description", text(0, 500)),
    ];
    object(fields).named("OauthError")
}

/// What an application asks for.
struct Wish<'a> {
    client: &'a OauthClient,
    redirect_uri: String,
    challenge: String,
    state: Option<String>,
    scope: Option<String>,
    nonce: Option<String>,
}

/// An error of OAuth in the redirect: what is wrong with the wish, but not with where its answer goes.
struct Refused {
    error: &'static str,
    location: String,
}

/// Reads a wish. An unknown client or redirect is never redirected to.
fn wish<'a>(app: &'a App, values: &Map<String, Value>) -> Result<Result<Wish<'a>, Refused>, ApiError> {
    let text = |name: &str| values.get(name).and_then(Value::as_str).map(str::to_owned);
    let need = |name: &str| text(name).ok_or_else(|| ApiError::parameter(name, "is missing"));
    let (id, redirect_uri) = (need("client_id")?, need("redirect_uri")?);
    let client = app
        .settings()
        .auth
        .oauth_clients
        .iter()
        .find(|client| client.client_id == id);
    let client = client.ok_or_else(|| ApiError::parameter("client_id", "is not known"))?;
    if !client.redirect_uris.contains(&redirect_uri) {
        return Err(ApiError::parameter("redirect_uri", "is not one of the client's"));
    }
    let state = text("state");
    let challenge = text("code_challenge").unwrap_or_default();
    let error = match (
        text("response_type").as_deref(),
        text("code_challenge_method").as_deref(),
    ) {
        (Some("code"), Some("S256")) if is_digest(&challenge) => None,
        (Some("code"), _) => Some("invalid_request"),
        _ => Some("unsupported_response_type"),
    };
    if let Some(error) = error {
        let mut pairs = vec![("error", error)];
        pairs.extend(state.as_deref().map(|state| ("state", state)));
        return Ok(Err(Refused {
            error,
            location: with_query(&redirect_uri, &pairs),
        }));
    }
    Ok(Ok(Wish {
        client,
        redirect_uri,
        challenge,
        state,
        scope: text("scope"),
        nonce: text("nonce"),
    }))
}

fn is_digest(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

fn with_query(uri: &str, pairs: &[(&str, &str)]) -> String {
    let mut out = uri.to_owned();
    for (at, (name, value)) in pairs.iter().enumerate() {
        out.push(if at == 0 && !uri.contains('?') { '?' } else { '&' });
        out.push_str(&format!("{name}={}", escape_query(value)));
    }
    out
}

async fn authorize(app: Arc<App>, call: Call) -> Answer {
    let wish = match wish(&app, &call.query)? {
        Ok(wish) => wish,
        Err(refused) => return refuse(&refused),
    };
    if let Some(url) = &app.settings().auth.login_url {
        let pairs: Vec<(&str, &str)> = call
            .query
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
            .collect();
        return Reply::empty(302).with(LOCATION, &with_query(url, &pairs));
    }
    let end = call.now.timestamp().saturating_add(FORM_TTL_S);
    let csrf = format!(
        "{end}.{}",
        crate::secrets::hex(&app.secrets.keyed_hash(&csrf_place(&wish), end.to_string().as_bytes()))
    );
    let mut hidden = String::new();
    for (name, value) in call
        .query
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_str()?)))
    {
        hidden += &format!(
            "<input type=hidden name=\"{}\" value=\"{}\">",
            escape(name),
            escape(value)
        );
    }
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Sign in</title><meta name=viewport content=\"width=device-width\">\
         <h1>Sign in to {}</h1><p>For {}.</p><form method=post action=/api/v1/oauth/authorize>{hidden}\
         <input type=hidden name=csrf value=\"{csrf}\">\
         <p><label>E-mail <input name=email type=email autocomplete=username required></label>\
         <p><label>Password <input name=password type=password autocomplete=current-password required></label>\
         <p><button>Sign in</button></form>",
        escape(&app.settings().site.name),
        escape(&wish.client.name),
    );
    // Browsers hold redirects after a form to form-action, too.
    let policy = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'";
    Reply::bytes(200, "text/html; charset=utf-8", page).with(CONTENT_SECURITY_POLICY, policy)
}

fn csrf_place(wish: &Wish<'_>) -> String {
    format!(
        "oauth-form:{}:{}:{}",
        wish.client.client_id, wish.redirect_uri, wish.challenge
    )
}

fn refuse(refused: &Refused) -> Answer {
    tracing::debug!(error = refused.error, "an OAuth request was refused");
    Reply::empty(302).with(LOCATION, &refused.location)
}

async fn submit(app: Arc<App>, call: Call) -> Answer {
    let values = call.members();
    let text = |name: &str| values.get(name).and_then(Value::as_str).unwrap_or_default();
    let wish = match wish(&app, &values)? {
        Ok(wish) => wish,
        Err(refused) => return Reply::empty(303).with(LOCATION, &refused.location),
    };
    let (end, tag) = text("csrf").split_once('.').unwrap_or_default();
    let tag = crate::secrets::unhex::<32>(tag).unwrap_or_default();
    let in_time = end.parse::<i64>().is_ok_and(|end| end > call.now.timestamp());
    if !in_time || !app.secrets.verify(&csrf_place(&wish), end.as_bytes(), &tag) {
        return Err(ApiError::parameter(
            "csrf",
            "the form is too old; go back and begin again",
        ));
    }
    let user = check_login(&app, &call, text("email"), text("password")).await?;
    let code = new_token("oc_").map_err(ApiError::internal)?;
    let row = OauthCode {
        id: Uuid::now_v7(),
        tenant_id: user.tenant_id,
        user_id: user.id,
        client_id: wish.client.client_id.clone(),
        challenge: wish.challenge,
        redirect_uri: wish.redirect_uri.clone(),
        scope: wish.scope,
        nonce: wish.nonce,
        expires_at: call.now + CODE_TTL,
        used_at: None,
        session_id: None,
    };
    let mut work = Work::begin(&app, &call).await?;
    work.actor.id = Some(user.id);
    users::signed_in(work.connection(), user.id, call.now).await?;
    sessions::add_code(work.connection(), &row, sha256(code.as_bytes())).await?;
    work.audit(
        "auth.login",
        "user",
        Some(user.id),
        json!({ "client_id": row.client_id }),
    )
    .await?;
    let mut pairs = vec![("code", code.as_str())];
    pairs.extend(wish.state.as_deref().map(|state| ("state", state)));
    let reply = Reply::empty(303).with(LOCATION, &with_query(&wish.redirect_uri, &pairs))?;
    work.finish(reply).await
}

fn refusal(error: &str, description: &str) -> Answer {
    Reply::json(400, &json!({ "error": error, "error_description": description }))
}

async fn token(app: Arc<App>, call: Call) -> Answer {
    let values = call.members();
    let text = |name: &str| values.get(name).and_then(Value::as_str);
    match text("grant_type") {
        None => refusal("invalid_request", "grant_type must be there, once"),
        Some("authorization_code") => {
            let parts = (
                text("code"),
                text("code_verifier"),
                text("redirect_uri"),
                text("client_id"),
            );
            let (Some(code), Some(verifier), Some(redirect_uri), Some(client_id)) = parts else {
                return refusal(
                    "invalid_request",
                    "code, code_verifier, redirect_uri and client_id must be there",
                );
            };
            exchange(&app, &call, code, verifier, redirect_uri, client_id).await
        }
        Some("refresh_token") => {
            let (Some(token), Some(client)) = (text("refresh_token"), text("client_id")) else {
                return refusal("invalid_request", "refresh_token and client_id must be there");
            };
            match tokens(&app, &call, token, Some(client)).await {
                Ok((user, tokens)) => token_body(&app, &call, &user, &tokens, client, None),
                Err(error) if error.code.status() < 500 => refusal("invalid_grant", "the refresh token holds no more"),
                Err(error) => Err(error),
            }
        }
        _ => refusal("unsupported_grant_type", "authorization_code or refresh_token"),
    }
}

async fn exchange(
    app: &Arc<App>,
    call: &Call,
    code: &str,
    verifier: &str,
    redirect_uri: &str,
    client_id: &str,
) -> Answer {
    let invalid = || {
        refusal(
            "invalid_grant",
            "the code holds no more, or was given for something else",
        )
    };
    let mut work = Work::begin(app, call).await?;
    let Some(row) = sessions::lock_code(work.connection(), sha256(code.as_bytes())).await? else {
        return invalid();
    };
    work.tenant = TenantId(row.tenant_id);
    work.actor.id = Some(row.user_id);
    if let (Some(_), Some(session)) = (row.used_at, row.session_id) {
        // Used twice: somebody intercepted it, and what it was used for ends (RFC 6749 4.1.2).
        end_sign_ins(&mut work, row.user_id, Which::One(session)).await?;
        work.commit().await?;
        return invalid();
    }
    let challenge = URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes()));
    let proven = bool::from(challenge.as_bytes().ct_eq(row.challenge.as_bytes()));
    if !proven || row.expires_at <= call.now || row.redirect_uri != redirect_uri || row.client_id != client_id {
        return invalid();
    }
    let Some(user) = users::get(work.connection(), TenantId(row.tenant_id), row.user_id).await? else {
        return invalid();
    };
    if crate::auth::check_status(&user.status).is_err() {
        return invalid();
    }
    let family = begin_family(
        app,
        call,
        &mut work,
        &user,
        Some(row.client_id.clone()),
        row.scope.clone(),
    )
    .await?;
    sessions::use_code(work.connection(), row.id, family.session_id, call.now).await?;
    let reply = token_body(app, call, &user, &family, client_id, row.nonce.as_deref())?;
    work.finish(reply).await
}

fn token_body(app: &App, call: &Call, user: &UserRow, tokens: &Tokens, client_id: &str, nonce: Option<&str>) -> Answer {
    let mut body = json!({
        "access_token": tokens.access, "token_type": "Bearer", "expires_in": app.settings().auth.access_ttl_seconds,
        "refresh_token": *tokens.refresh,
    });
    let scope = tokens.scope.as_deref().unwrap_or_default();
    if !scope.is_empty() {
        body["scope"] = json!(scope);
    }
    if scope.split(' ').any(|word| word == "openid") {
        let now = call.now.timestamp();
        let mut claims = json!({
            "iss": app.config.section.public_url, "aud": client_id, "sub": user.id, "iat": now,
            "exp": now.saturating_add(app.settings().auth.access_ttl_seconds), "name": user.name, "email": user.email,
            "email_verified": user.email_verified_at.is_some(),
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        let keys = app.token_keys.load();
        let token = keys.current().and_then(|key| key.sign(&claims));
        body["id_token"] = json!(token.ok_or_else(|| ApiError::internal("an id token was not signed"))?);
    }
    Reply::json(200, &body)
}

async fn revoke(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    let Some(token) = members.get("token").and_then(Value::as_str) else {
        return refusal("invalid_request", "token must be there, once");
    };
    let mut work = Work::begin(&app, &call).await?;
    let by_refresh = sessions::lock_token(work.connection(), sha256(token.as_bytes())).await?;
    let found = by_refresh
        .map(|row| (row.user_id, row.session_id, row.tenant_id))
        .or_else(|| {
            let claims = app
                .token_keys
                .load()
                .verify(token, &app.config.section.public_url, 0)
                .ok()?;
            Some((claims.sub, claims.sid, claims.tid))
        });
    if let Some((user, session, tenant)) = found {
        work.tenant = TenantId(tenant);
        end_sign_ins(&mut work, user, Which::One(session)).await?;
    }
    work.finish(Reply::empty(200)).await
}

async fn jwks(app: Arc<App>, _call: Call) -> Answer {
    Reply::json(200, &app.token_keys.load().jwks())
}

async fn metadata(app: Arc<App>, _call: Call) -> Answer {
    let issuer = app.config.section.public_url.trim_end_matches('/');
    let body = json!({
        "issuer": app.config.section.public_url,
        "authorization_endpoint": format!("{issuer}/api/v1/oauth/authorize"),
        "token_endpoint": format!("{issuer}/api/v1/oauth/token"),
        "revocation_endpoint": format!("{issuer}/api/v1/oauth/revoke"),
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "scopes_supported": ["openid"],
    });
    Reply::json(200, &body)
}
