//! Sign-ins: families of refresh tokens, codes of OAuth, and tokens sent by mail.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::call::TenantId;

/// A new sign-in.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id, `sid` in tokens.
    pub id: Uuid,
    /// Who.
    pub user_id: Uuid,
    /// When.
    pub now: DateTime<Utc>,
    /// With what.
    pub user_agent: Option<String>,
    /// From where.
    pub ip: String,
    /// By which OAuth client.
    pub client_id: Option<String>,
    /// What it asked for.
    pub scope: Option<String>,
}

/// Stores a sign-in.
pub async fn insert(connection: &mut PgConnection, tenant: TenantId, session: &NewSession) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into auth_sessions (id, tenant_id, user_id, family_started_at, user_agent, ip, client_id, scope)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(session.id)
    .bind(tenant.0)
    .bind(session.user_id)
    .bind(session.now)
    .bind(&session.user_agent)
    .bind(&session.ip)
    .bind(&session.client_id)
    .bind(&session.scope)
    .execute(connection)
    .await?;
    Ok(())
}

/// Stores a refresh token of a sign-in.
pub async fn add_token(
    connection: &mut PgConnection,
    session: Uuid,
    hash: [u8; 32],
    expires_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query("insert into refresh_tokens (id, session_id, token_sha256, expires_at) values ($1, $2, $3, $4)")
        .bind(Uuid::now_v7())
        .bind(session)
        .bind(&hash[..])
        .bind(expires_at)
        .execute(connection)
        .await?;
    Ok(())
}

/// A refresh token with its sign-in.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct RefreshRow {
    /// Of the token.
    pub id: Uuid,
    /// The sign-in.
    pub session_id: Uuid,
    /// Whose.
    pub tenant_id: Uuid,
    /// Who.
    pub user_id: Uuid,
    /// When it was exchanged for the next.
    pub rotated_at: Option<DateTime<Utc>>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// When its family began.
    pub family_started_at: DateTime<Utc>,
    /// When the family ended.
    pub revoked_at: Option<DateTime<Utc>>,
    /// OAuth client of the family.
    pub client_id: Option<String>,
    /// What it asked for.
    pub scope: Option<String>,
}

/// The token with this hash. Nobody else exchanges a token of its family until the transaction ends.
pub async fn lock_token(connection: &mut PgConnection, hash: [u8; 32]) -> Result<Option<RefreshRow>, sqlx::Error> {
    sqlx::query_as(
        "select r.id, r.session_id, s.tenant_id, s.user_id, r.rotated_at, r.expires_at, s.family_started_at, s.revoked_at,
           s.client_id, s.scope
         from refresh_tokens r join auth_sessions s on s.id = r.session_id
         where r.token_sha256 = $1 for update of r, s",
    )
    .bind(&hash[..])
    .fetch_optional(connection)
    .await
}

/// Writes that a token was exchanged.
pub async fn rotate(connection: &mut PgConnection, token: Uuid, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query("update refresh_tokens set rotated_at = $2 where id = $1")
        .bind(token)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Which sign-ins of a user end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// This one.
    One(Uuid),
    /// All.
    All,
    /// All save this one.
    Others(Uuid),
}

/// Ends sign-ins of a user; those that ended now.
pub async fn revoke(
    connection: &mut PgConnection,
    user: Uuid,
    which: Which,
    now: DateTime<Utc>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let (one, others) = match which {
        Which::One(id) => (Some(id), None),
        Which::All => (None, None),
        Which::Others(id) => (None, Some(id)),
    };
    sqlx::query_scalar(
        "update auth_sessions set revoked_at = $2
         where user_id = $1 and revoked_at is null and ($3::uuid is null or id = $3) and ($4::uuid is null or id <> $4)
         returning id",
    )
    .bind(user)
    .bind(now)
    .bind(one)
    .bind(others)
    .fetch_all(connection)
    .await
}

/// Sign-ins that ended since `since`.
pub async fn revoked_since(pool: &PgPool, since: DateTime<Utc>) -> Result<Vec<(Uuid, DateTime<Utc>)>, sqlx::Error> {
    sqlx::query_as("select id, revoked_at from auth_sessions where revoked_at > $1")
        .bind(since)
        .fetch_all(pool)
        .await
}

/// What a token sent by mail is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To show that an e-mail is one's own.
    VerifyEmail,
    /// To choose a new password.
    ResetPassword,
}

impl Purpose {
    /// As it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Purpose::VerifyEmail => "verify_email",
            Purpose::ResetPassword => "reset_password",
        }
    }
}

/// Stores a token that is sent by mail; those sent before for the same end.
pub async fn add_action_token(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: Uuid,
    purpose: Purpose,
    hash: [u8; 32],
    expires_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from action_tokens where user_id = $1 and purpose = $2")
        .bind(user)
        .bind(purpose.name())
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "insert into action_tokens (id, tenant_id, user_id, purpose, token_sha256, expires_at) values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(Uuid::now_v7())
    .bind(tenant.0)
    .bind(user)
    .bind(purpose.name())
    .bind(&hash[..])
    .bind(expires_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Uses a token sent by mail, once; whose it was.
pub async fn use_action_token(
    connection: &mut PgConnection,
    tenant: TenantId,
    purpose: Purpose,
    hash: [u8; 32],
    now: DateTime<Utc>,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "update action_tokens set used_at = $4
         where tenant_id = $1 and purpose = $2 and token_sha256 = $3 and used_at is null and expires_at > $4
         returning user_id",
    )
    .bind(tenant.0)
    .bind(purpose.name())
    .bind(&hash[..])
    .bind(now)
    .fetch_optional(connection)
    .await
}

/// A mail to be sent.
#[derive(Clone, Debug)]
pub struct NewMail<'a> {
    /// To whom.
    pub user_id: Option<Uuid>,
    /// Their address.
    pub recipient: &'a str,
    /// Which text.
    pub template: &'a str,
    /// What goes into it, sealed for the place `mail:{id}`.
    pub sealed: Vec<u8>,
}

/// Puts a mail into the queue.
pub async fn queue_mail(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: Uuid,
    mail: &NewMail<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into mail_queue (id, tenant_id, user_id, recipient, template, sealed) values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id)
    .bind(tenant.0)
    .bind(mail.user_id)
    .bind(mail.recipient)
    .bind(mail.template)
    .bind(&mail.sealed)
    .execute(connection)
    .await?;
    Ok(())
}

/// A code of OAuth.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct OauthCode {
    /// Of the row.
    pub id: Uuid,
    /// Whose.
    pub tenant_id: Uuid,
    /// Who.
    pub user_id: Uuid,
    /// For which client.
    pub client_id: String,
    /// SHA-256 of the verifier, base64url.
    pub challenge: String,
    /// Where it was sent.
    pub redirect_uri: String,
    /// What was asked for.
    pub scope: Option<String>,
    /// What goes into the id token.
    pub nonce: Option<String>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// When it was used.
    pub used_at: Option<DateTime<Utc>>,
    /// The sign-in that it was used for.
    pub session_id: Option<Uuid>,
}

/// Stores a code.
pub async fn add_code(connection: &mut PgConnection, code: &OauthCode, hash: [u8; 32]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into oauth_codes (id, tenant_id, user_id, client_id, code_sha256, challenge, redirect_uri, scope, nonce, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(code.id)
    .bind(code.tenant_id)
    .bind(code.user_id)
    .bind(&code.client_id)
    .bind(&hash[..])
    .bind(&code.challenge)
    .bind(&code.redirect_uri)
    .bind(&code.scope)
    .bind(&code.nonce)
    .bind(code.expires_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// The code with this hash. Nobody else uses it until the transaction ends.
pub async fn lock_code(connection: &mut PgConnection, hash: [u8; 32]) -> Result<Option<OauthCode>, sqlx::Error> {
    sqlx::query_as(
        "select id, tenant_id, user_id, client_id, challenge, redirect_uri, scope, nonce, expires_at, used_at, session_id
         from oauth_codes where code_sha256 = $1 for update",
    )
    .bind(&hash[..])
    .fetch_optional(connection)
    .await
}

/// Writes what a code was used for.
pub async fn use_code(
    connection: &mut PgConnection,
    id: Uuid,
    session: Uuid,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query("update oauth_codes set used_at = $2, session_id = $3 where id = $1")
        .bind(id)
        .bind(now)
        .bind(session)
        .execute(connection)
        .await?;
    Ok(())
}

/// Drops what has ended long ago.
pub async fn trim(pool: &PgPool, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let before = now - chrono::TimeDelta::days(7);
    sqlx::query("delete from refresh_tokens where expires_at < $1")
        .bind(before)
        .execute(pool)
        .await?;
    sqlx::query("delete from action_tokens where expires_at < $1")
        .bind(before)
        .execute(pool)
        .await?;
    sqlx::query("delete from oauth_codes where expires_at < $1")
        .bind(before)
        .execute(pool)
        .await?;
    Ok(())
}
