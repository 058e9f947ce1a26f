//! Auth: accounts that people make themselves, signing in and staying signed in, tokens sent by mail, OAuth 2.

mod oauth;
mod sign_in;

use std::sync::Arc;

use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use uuid::Uuid;

use self::sign_in::{Transport, begin_family, check_login, token_reply, tokens};
pub use self::sign_in::{end_sign_ins, send_action_token};
use crate::app::App;
use crate::auth::{Role, Via, check_status};
use crate::call::Call;
use crate::db::sessions::{self, Purpose, Which};
use crate::db::users::{self, NewUser};
use crate::error::{ApiError, Code, breaks};
use crate::operation::{Answer, Caller, Endpoint, get, post};
use crate::reply::Reply;
use crate::schema::{Format, Schema, absent, date_time, formatted, integer, object, optional, required, text, uuid};
use crate::secrets::sha256;
use crate::work::Work;

/// Life of a token that verifies an e-mail.
const VERIFY_TTL: TimeDelta = TimeDelta::days(2);
/// Life of a token that resets a password.
const RESET_TTL: TimeDelta = TimeDelta::hours(1);
/// Mails that are looked into at once after their requests were answered; more wait with their answer.
static MAILING: Semaphore = Semaphore::const_new(32);

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    let email = || formatted(Format::Email, 3, 254);
    let token = || formatted(Format::Secret, 1, 200);
    let mut endpoints = vec![
        post("auth.register", "/auth/register", Caller::Public, register)
            .summary("Make an account and sign in")
            .json(object([
                required("name", text(1, 200)),
                required("email", email()),
                required("password", password_schema()),
            ]))
            .header("X-Session-Transport", transport_schema())
            .reply(201, token_reply_schema())
            .errors(&[Code::EmailTaken, Code::RegistrationDisabled])
            .cache_control("no-store")
            .rules("AU-2, AU-3"),
        post("auth.login", "/auth/login", Caller::Public, login)
            .summary("Sign in")
            .json(object([
                absent("email", text(1, 254)),
                absent("username", text(1, 254)),
                required("password", formatted(Format::Secret, 1, 256)),
            ]))
            .header("X-Session-Transport", transport_schema())
            .reply(200, token_reply_schema())
            .errors(&[Code::InvalidCredentials, Code::EmailNotVerified, Code::TooManyAttempts])
            .cache_control("no-store")
            .rules("AU-4, AU-5, AU-6, AU-7"),
        post("auth.refresh", "/auth/refresh", Caller::Public, refresh)
            .summary("Exchange a refresh token for new tokens")
            .optional_json(object([absent("refresh_token", token())]))
            .header("X-Session-Transport", transport_schema())
            .reply(200, token_reply_schema())
            .errors(&[Code::RefreshTokenInvalid, Code::RefreshTokenReused])
            .cache_control("no-store")
            .rules("AU-5"),
        post("auth.logout", "/auth/logout", Caller::Jwt, logout)
            .summary("End this sign-in, or all")
            .optional_json(object([absent("all", Schema::Bool)]))
            .empty(204)
            .idempotent(),
        get("auth.check", "/auth/check", Caller::Public, check)
            .summary("Who the caller is taken for")
            .reply(
                200,
                object([
                    required("authenticated", Schema::Bool),
                    optional("user", brief_user_schema()),
                    optional("auth_method", Schema::Enum(&["jwt", "api_key"])),
                    optional("expires_at", date_time()),
                ]),
            )
            .cache_control("no-store"),
        post("auth.verify_email", "/auth/email/verify", Caller::Public, verify_email)
            .summary("Show that an e-mail address is one's own")
            .json(object([required("token", token())]))
            .empty(204)
            .errors(&[Code::ActionTokenInvalid]),
        post(
            "auth.resend_verification",
            "/auth/email/resend",
            Caller::Public,
            resend_verification,
        )
        .summary("Send the verification mail again")
        .json(object([required("email", email())]))
        .empty(202)
        .errors(&[Code::TooManyAttempts]),
        post("auth.forgot", "/auth/password/forgot", Caller::Public, forgot)
            .summary("Ask for a mail to choose a new password with")
            .json(object([required("email", email())]))
            .empty(202)
            .errors(&[Code::TooManyAttempts]),
        post("auth.reset", "/auth/password/reset", Caller::Public, reset)
            .summary("Choose a new password with the token from the mail")
            .json(object([
                required("token", token()),
                required("password", password_schema()),
            ]))
            .empty(204)
            .errors(&[Code::ActionTokenInvalid])
            .rules("AU-13"),
    ];
    endpoints.extend(oauth::endpoints());
    endpoints
}

/// A new password.
pub fn password_schema() -> Schema {
    formatted(Format::Secret, 8, 256)
}

fn transport_schema() -> Schema {
    Schema::Enum(&["cookie", "body"])
}

fn brief_user_schema() -> Schema {
    object([
        required("id", uuid()),
        required("name", text(1, 200)),
        required("email", text(1, 254)),
        required("role", Schema::Enum(&["user", "moderator", "admin"])),
        required("plan", text(0, 100).or_null()),
    ])
}

fn token_reply_schema() -> Schema {
    object([
        required("access_token", text(1, 4096)),
        required("token_type", Schema::Enum(&["Bearer"])),
        required("expires_in", integer(1, i64::MAX)),
        absent("refresh_token", text(1, 200)),
        required("refresh_expires_in", integer(1, i64::MAX)),
        required("user", brief_user_schema()),
    ])
    .named("TokenReply")
}

#[derive(Deserialize)]
struct Registration {
    name: String,
    email: String,
    password: String,
}

async fn register(app: Arc<App>, call: Call) -> Answer {
    if !app.settings().registration.enabled {
        return Err(Code::RegistrationDisabled.into());
    }
    let wanted: Registration = call.body()?;
    let user = NewUser {
        id: Uuid::now_v7(),
        password_hash: Some(app.passwords.hash(&wanted.password).await?),
        name: wanted.name,
        email: wanted.email,
        role: Role::User,
        email_verified_at: None,
        now: call.now,
    };
    let mut work = Work::begin(&app, &call).await?;
    work.actor.id = Some(user.id);
    make_user(&mut work, &user).await?;
    let payload = json!({ "id": user.id, "name": user.name, "email": user.email });
    work.emit("user.created", Some(user.id), payload.clone()).await?;
    work.emit("user.registered", Some(user.id), payload).await?;
    send_action_token(&app, &mut work, user.id, &user.email, Purpose::VerifyEmail, VERIFY_TTL).await?;
    work.audit("auth.registered", "user", Some(user.id), json!({})).await?;
    let row = users::get(work.connection(), call.tenant, user.id).await?;
    let row = row.ok_or_else(|| ApiError::internal("a new user is not there"))?;
    let transport = Transport::of(&call);
    let family = begin_family(&app, &call, &mut work, &row, None, None).await?;
    let reply = token_reply(&app, &call, 201, &row, &family, transport)?;
    work.finish(reply).await
}

/// Makes a user, or says that the e-mail is taken.
pub async fn make_user(work: &mut Work, user: &NewUser) -> Result<(), ApiError> {
    let tenant = work.tenant;
    match users::insert(work.connection(), tenant, user).await {
        Err(error) if breaks(&error, "users_email") => Err(Code::EmailTaken.into()),
        other => Ok(other?),
    }
}

#[derive(Deserialize)]
struct Login {
    email: Option<String>,
    username: Option<String>,
    password: String,
}

async fn login(app: Arc<App>, call: Call) -> Answer {
    let wanted: Login = call.body()?;
    let email = match (&wanted.email, &wanted.username) {
        (Some(email), None) | (None, Some(email)) => email,
        _ => return Err(ApiError::invalid("email", "either email or username must be there")),
    };
    let user = check_login(&app, &call, email, &wanted.password).await?;
    let mut work = Work::begin(&app, &call).await?;
    work.actor.id = Some(user.id);
    users::signed_in(work.connection(), user.id, call.now).await?;
    work.audit("auth.login", "user", Some(user.id), json!({})).await?;
    let family = begin_family(&app, &call, &mut work, &user, None, None).await?;
    let reply = token_reply(&app, &call, 200, &user, &family, Transport::of(&call))?;
    work.finish(reply).await
}

async fn refresh(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    let sent = members.get("refresh_token").and_then(serde_json::Value::as_str);
    let (token, transport) = match sent {
        Some(token) => (token.to_owned(), Transport::of(&call)),
        None => (
            Transport::cookie(&call).ok_or(Code::RefreshTokenInvalid)?,
            Transport::Cookie,
        ),
    };
    let (user, tokens) = tokens(&app, &call, &token, None).await?;
    token_reply(&app, &call, 200, &user, &tokens, transport)
}

async fn logout(app: Arc<App>, call: Call) -> Answer {
    let user = call.user_id()?;
    let all = call
        .members()
        .get("all")
        .and_then(serde_json::Value::as_bool)
        .unwrap_or(false);
    let which = match (all, call.session_id()) {
        (false, Some(session)) => Which::One(session),
        _ => Which::All,
    };
    let mut work = Work::begin(&app, &call).await?;
    end_sign_ins(&mut work, user, which).await?;
    work.audit("auth.logout", "user", Some(user), json!({ "all": all }))
        .await?;
    work.finish(Transport::forget(Reply::empty(204))?).await
}

async fn check(app: Arc<App>, call: Call) -> Answer {
    let Some(principal) = &call.principal else {
        return Reply::json(200, &json!({ "authenticated": false }));
    };
    let mut connection = app.db.acquire().await?;
    let user = users::get(&mut connection, principal.tenant, principal.user_id).await?;
    let (method, expires_at) = match &principal.via {
        Via::Token { expires_at, .. } => ("jwt", Some(*expires_at)),
        Via::Key(key) => ("api_key", key.expires_at),
    };
    let body = json!({
        "authenticated": user.is_some(), "user": user.map(|user| user.to_brief()), "auth_method": method,
        "expires_at": expires_at,
    });
    Reply::json(200, &body)
}

fn text_of(call: &Call, name: &str) -> String {
    let members = call.members();
    members
        .get(name)
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

async fn verify_email(app: Arc<App>, call: Call) -> Answer {
    let hash = sha256(text_of(&call, "token").as_bytes());
    let mut work = Work::begin(&app, &call).await?;
    let used = sessions::use_action_token(work.connection(), call.tenant, Purpose::VerifyEmail, hash, call.now).await?;
    let user = used.ok_or(Code::ActionTokenInvalid)?;
    users::verify_email(work.connection(), user, call.now).await?;
    work.actor.id = Some(user);
    work.emit("user.email_verified", Some(user), json!({ "id": user }))
        .await?;
    work.audit("auth.email_verified", "user", Some(user), json!({})).await?;
    work.finish(Reply::empty(204)).await
}

/// Sends a token by mail if there is such an account. Whether there is one is looked up once this is answered: neither the
/// answer nor how long it takes says so.
async fn send_if_known(app: Arc<App>, call: Call, purpose: Purpose, ttl: TimeDelta) -> Answer {
    let email = text_of(&call, "email");
    let bucket = format!("mail:{}:{email}", purpose.name());
    // Never given back: each counts.
    let counted = app.logins.attempt(&bucket, call.peer.ip).map(drop);
    counted.map_err(|seconds| ApiError::new(Code::TooManyAttempts).retry_after(seconds))?;
    if app.pulse.is_away() {
        return Err(ApiError::unavailable("the database does not answer"));
    }
    let place = MAILING.acquire().await.map_err(ApiError::internal)?;
    tokio::spawn(async move {
        let queued = app.pulse.unless_away(queue_if_known(&app, &call, &email, purpose, ttl));
        if let Err(error) = queued.await {
            tracing::warn!(request.id = %call.request_id, cause = ?error.cause, "a mail was not queued");
        }
        drop(place);
    });
    Ok(Reply::empty(202))
}

async fn queue_if_known(
    app: &Arc<App>,
    call: &Call,
    email: &str,
    purpose: Purpose,
    ttl: TimeDelta,
) -> Result<(), ApiError> {
    let mut work = Work::begin(app, call).await?;
    let user = users::by_email(work.connection(), call.tenant, email).await?;
    let wanted = user.filter(|user| purpose == Purpose::ResetPassword || user.email_verified_at.is_none());
    let Some(user) = wanted.filter(|user| check_status(&user.status).is_ok()) else {
        return Ok(());
    };
    work.actor.id = Some(user.id);
    send_action_token(app, &mut work, user.id, &user.email, purpose, ttl).await?;
    work.commit().await
}

async fn resend_verification(app: Arc<App>, call: Call) -> Answer {
    send_if_known(app, call, Purpose::VerifyEmail, VERIFY_TTL).await
}

async fn forgot(app: Arc<App>, call: Call) -> Answer {
    send_if_known(app, call, Purpose::ResetPassword, RESET_TTL).await
}

async fn reset(app: Arc<App>, call: Call) -> Answer {
    let hash = sha256(text_of(&call, "token").as_bytes());
    let password = app.passwords.hash(&text_of(&call, "password")).await?;
    let mut work = Work::begin(&app, &call).await?;
    let used =
        sessions::use_action_token(work.connection(), call.tenant, Purpose::ResetPassword, hash, call.now).await?;
    let user = used.ok_or(Code::ActionTokenInvalid)?;
    work.actor.id = Some(user);
    users::set_password(work.connection(), user, &password).await?;
    end_sign_ins(&mut work, user, Which::All).await?;
    work.audit("auth.password_reset", "user", Some(user), json!({})).await?;
    work.finish(Reply::empty(204)).await
}
