//! Sign-ins: a password checked, a family of refresh tokens, and the reply that carries them.

use std::sync::Arc;

use axum::http::header::SET_COOKIE;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::App;
use crate::auth::check_status;
use crate::call::{Call, TenantId};
use crate::db::sessions::{self, NewMail, NewSession, Purpose, RefreshRow, Which};
use crate::db::users::{self, UserRow, email_key};
use crate::error::{ApiError, Code};
use crate::password::Verdict;
use crate::reply::Reply;
use crate::secrets::{new_token, sha256};
use crate::token::{AUDIENCE, Claims};
use crate::work::Work;

/// Longest that a family of refresh tokens goes on.
const FAMILY_TTL: TimeDelta = TimeDelta::days(90);
/// Name of the cookie that holds a refresh token.
const COOKIE: &str = "refresh_token";

/// What a sign-in is given.
pub struct Tokens {
    /// The sign-in.
    pub session_id: Uuid,
    /// The access token.
    pub access: String,
    /// The refresh token.
    pub refresh: Zeroizing<String>,
    /// How long it lasts.
    pub refresh_ttl: TimeDelta,
    /// What an OAuth client asked for.
    pub scope: Option<String>,
}

/// How a refresh token travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In the body.
    Body,
    /// In a cookie that scripts can not read.
    Cookie,
}

impl Transport {
    /// As the caller asks.
    pub fn of(call: &Call) -> Transport {
        match call.header("x-session-transport") {
            Some("cookie") => Transport::Cookie,
            _ => Transport::Body,
        }
    }

    /// The token in the caller's cookie.
    pub fn cookie(call: &Call) -> Option<String> {
        let cookies = call.header("cookie")?;
        let found = cookies
            .split(';')
            .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        found.map(str::to_owned)
    }

    /// Deletes the cookie.
    pub fn forget(reply: Reply) -> Result<Reply, ApiError> {
        reply.with(SET_COOKIE, &cookie("", 0))
    }
}

fn cookie(token: &str, seconds: i64) -> String {
    format!("{COOKIE}={token}; HttpOnly; Secure; SameSite=Strict; Path=/api/v1/auth; Max-Age={seconds}")
}

/// Checks an e-mail and a password. One answer for both being wrong, in the same time.
pub async fn check_login(app: &Arc<App>, call: &Call, email: &str, password: &str) -> Result<UserRow, ApiError> {
    // Counted before the password is hashed: meanwhile, others of this name must not get in.
    let attempt = app
        .logins
        .attempt(email, call.peer.ip)
        .map_err(|seconds| ApiError::new(Code::TooManyAttempts).retry_after(seconds))?;
    let (user, verdict) = match verify(app, call.tenant, email, password).await {
        Ok(found) => found,
        Err(error) => {
            attempt.give_back();
            return Err(error);
        }
    };
    let Some(user) = user.filter(|_| verdict != Verdict::Wrong) else {
        drop(attempt);
        let mut work = Work::begin(app, call).await?;
        let metadata = json!({ "email_sha256": crate::secrets::hex(&sha256(email_key(email).as_bytes())) });
        work.audit("auth.login_failed", "user", None, metadata).await?;
        work.commit().await?;
        return Err(Code::InvalidCredentials.into());
    };
    attempt.succeeded();
    check_status(&user.status)?;
    if app.settings().registration.require_verified_email && user.email_verified_at.is_none() {
        return Err(Code::EmailNotVerified.into());
    }
    if verdict == Verdict::RightButWeak {
        let hash = app.passwords.hash(password).await?;
        let mut connection = app.db.acquire().await?;
        users::set_password(&mut connection, user.id, &hash).await?;
    }
    Ok(user)
}

/// The user of an e-mail, and whether the password is theirs; as long for nobody's.
async fn verify(
    app: &App,
    tenant: TenantId,
    email: &str,
    password: &str,
) -> Result<(Option<UserRow>, Verdict), ApiError> {
    // The connection is given back before the password is hashed: that takes long.
    let user = {
        let mut connection = app.db.acquire().await?;
        users::by_email(&mut connection, tenant, email).await?
    };
    let stored = user.as_ref().and_then(|user| user.password_hash.as_deref());
    let verdict = app.passwords.verify(password, stored).await?;
    Ok((user, verdict))
}

/// Begins a family of refresh tokens.
pub async fn begin_family(
    app: &Arc<App>,
    call: &Call,
    work: &mut Work,
    user: &UserRow,
    client_id: Option<String>,
    scope: Option<String>,
) -> Result<Tokens, ApiError> {
    let session = NewSession {
        id: Uuid::now_v7(),
        user_id: user.id,
        now: call.now,
        user_agent: call.peer.user_agent.clone(),
        ip: call.peer.ip.to_string(),
        client_id,
        scope: scope.clone(),
    };
    sessions::insert(work.connection(), TenantId(user.tenant_id), &session).await?;
    next(app, work, user, session.id, call.now, call.now, scope).await
}

async fn next(
    app: &App,
    work: &mut Work,
    user: &UserRow,
    session_id: Uuid,
    family_started_at: DateTime<Utc>,
    now: DateTime<Utc>,
    scope: Option<String>,
) -> Result<Tokens, ApiError> {
    let settings = &app.settings().auth;
    let end = (now + TimeDelta::days(settings.refresh_ttl_days)).min(family_started_at + FAMILY_TTL);
    let refresh = new_token("rt_").map_err(ApiError::internal)?;
    sessions::add_token(work.connection(), session_id, sha256(refresh.as_bytes()), end).await?;
    let claims = Claims {
        iss: app.config.section.public_url.clone(),
        aud: AUDIENCE.to_owned(),
        sub: user.id,
        tid: user.tenant_id,
        role: user.role.clone(),
        sid: session_id,
        iat: now.timestamp(),
        exp: now.timestamp().saturating_add(settings.access_ttl_seconds),
        jti: Uuid::now_v7(),
    };
    let keys = app.token_keys.load();
    let access = keys.current().and_then(|key| key.sign(&claims));
    Ok(Tokens {
        session_id,
        access: access.ok_or_else(|| ApiError::internal("an access token was not signed"))?,
        refresh,
        refresh_ttl: end - now,
        scope,
    })
}

/// Exchanges a refresh token for the next of its family (AU-5). `client` is the OAuth client it must belong to.
pub async fn tokens(
    app: &Arc<App>,
    call: &Call,
    token: &str,
    client: Option<&str>,
) -> Result<(UserRow, Tokens), ApiError> {
    let mut work = Work::begin(app, call).await?;
    let row = sessions::lock_token(work.connection(), sha256(token.as_bytes())).await?;
    let row: RefreshRow = row
        .filter(|row| row.client_id.as_deref() == client)
        .ok_or(Code::RefreshTokenInvalid)?;
    work.tenant = TenantId(row.tenant_id);
    work.actor.id = Some(row.user_id);
    if row.rotated_at.is_some() && row.revoked_at.is_none() {
        // Somebody has it who should not: whoever it is, the family ends.
        end_sign_ins(&mut work, row.user_id, Which::One(row.session_id)).await?;
        work.audit(
            "auth.refresh_reused",
            "user",
            Some(row.user_id),
            json!({ "session_id": row.session_id }),
        )
        .await?;
        work.commit().await?;
        return Err(Code::RefreshTokenReused.into());
    }
    let user = users::get(work.connection(), TenantId(row.tenant_id), row.user_id).await?;
    let user = user.ok_or(Code::RefreshTokenInvalid)?;
    // First: suspension ended the family, and is what must be told.
    check_status(&user.status)?;
    let too_old = row.expires_at <= call.now || row.family_started_at + FAMILY_TTL <= call.now;
    if row.revoked_at.is_some() || row.rotated_at.is_some() || too_old {
        return Err(Code::RefreshTokenInvalid.into());
    }
    sessions::rotate(work.connection(), row.id, call.now).await?;
    let tokens = next(
        app,
        &mut work,
        &user,
        row.session_id,
        row.family_started_at,
        call.now,
        row.scope,
    )
    .await?;
    work.commit().await?;
    Ok((user, tokens))
}

/// Ends sign-ins: their refresh tokens at once, their access tokens on every node.
pub async fn end_sign_ins(work: &mut Work, user: Uuid, which: Which) -> Result<(), ApiError> {
    let now = work.now;
    let mut ended = sessions::revoke(work.connection(), user, which, now).await?;
    // A sign-in elsewhere has no row here; its token is given up all the same.
    if let Which::One(session) = which
        && !ended.contains(&session)
    {
        ended.push(session);
    }
    for session in ended {
        work.invalidate("session", session, 0).await?;
    }
    Ok(())
}

/// The reply that carries tokens.
pub fn token_reply(
    app: &App,
    _call: &Call,
    status: u16,
    user: &UserRow,
    tokens: &Tokens,
    transport: Transport,
) -> Result<Reply, ApiError> {
    let seconds = tokens.refresh_ttl.num_seconds().max(1);
    let mut body = json!({
        "access_token": tokens.access, "token_type": "Bearer", "expires_in": app.settings().auth.access_ttl_seconds,
        "refresh_expires_in": seconds, "user": user.to_brief(),
    });
    match transport {
        Transport::Body => {
            body["refresh_token"] = json!(*tokens.refresh);
            Reply::json(status, &body)
        }
        Transport::Cookie => Reply::json(status, &body)?.with(SET_COOKIE, &cookie(&tokens.refresh, seconds)),
    }
}

/// Makes a token, stores its hash, and queues the mail that carries it.
pub async fn send_action_token(
    app: &App,
    work: &mut Work,
    user: Uuid,
    email: &str,
    purpose: Purpose,
    ttl: TimeDelta,
) -> Result<(), ApiError> {
    let token = new_token("at_").map_err(ApiError::internal)?;
    let (tenant, end) = (work.tenant, work.now + ttl);
    sessions::add_action_token(work.connection(), tenant, user, purpose, sha256(token.as_bytes()), end).await?;
    let id = Uuid::now_v7();
    let sealed = app
        .secrets
        .seal(&format!("mail:{id}"), token.as_bytes())
        .map_err(ApiError::internal)?;
    let mail = NewMail {
        user_id: Some(user),
        recipient: email,
        template: purpose.name(),
        sealed,
    };
    sessions::queue_mail(work.connection(), tenant, id, &mail).await?;
    Ok(())
}
