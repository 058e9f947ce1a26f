//! Who is calling: tokens and API keys become a principal, whose record is what counts.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::app::App;
use crate::call::TenantId;
use crate::db;
use crate::db::users::NewUser;
use crate::error::{ApiError, Code, breaks};
use crate::issuer::{Foreign, Refusal};
use crate::operation::Caller;
use crate::schema::Format;
use crate::secrets::sha256;
use crate::token::TokenError;
use crate::work::{Actor, Work};

/// What API keys begin with.
pub const KEY_PREFIX: &str = "ak_";
/// Longest `Authorization` that is looked at.
const CREDENTIALS_SIZE_BYTES_MAX: usize = 4_200;

/// What a user may do, more from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Their own account.
    User,
    /// The catalogue, too.
    Moderator,
    /// Everything in the tenant.
    Admin,
}

impl Role {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Moderator => "moderator",
            Role::Admin => "admin",
        }
    }

    /// What [`Role::name`] wrote; the least for anything else.
    pub fn of(name: &str) -> Role {
        match name {
            "admin" => Role::Admin,
            "moderator" => Role::Moderator,
            _ => Role::User,
        }
    }
}

/// A user's record, as far as every request needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Who.
    pub user_id: Uuid,
    /// Of which tenant.
    pub tenant: TenantId,
    /// What they may do.
    pub role: Role,
    /// `active`, `suspended` or `banned`.
    pub status: String,
    /// Whether the tenant itself is suspended.
    pub tenant_suspended: bool,
    /// Requests a minute of API keys, where the owner's plan says so.
    pub key_rate: Option<u32>,
    /// Whether the owner has a plan.
    pub has_plan: bool,
}

/// An API key's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Which.
    pub key_id: Uuid,
    /// Whose.
    pub user_id: Uuid,
    /// Of which tenant.
    pub tenant: TenantId,
    /// `read`, `write`.
    pub scopes: Vec<String>,
    /// Whether it reaches everybody's library items.
    pub tenant_access: bool,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
}

/// How a principal proved who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// By an access token.
    Token {
        /// The sign-in.
        session_id: Uuid,
        /// When the token ends.
        expires_at: DateTime<Utc>,
    },
    /// By an API key.
    Key(KeyRecord),
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who.
    pub user_id: Uuid,
    /// Of which tenant.
    pub tenant: TenantId,
    /// What they may do. An API key acts as a user.
    pub role: Role,
    /// How they proved it.
    pub via: Via,
    /// Requests a minute of keys.
    pub key_rate: Option<u32>,
    /// Whether they have a plan.
    pub has_plan: bool,
}

impl Principal {
    /// What idempotency keys and rate limits are counted for.
    pub fn id(&self) -> Uuid {
        match &self.via {
            Via::Token { .. } => self.user_id,
            Via::Key(key) => key.key_id,
        }
    }

    /// What they are called in audit rows.
    pub fn actor_role(&self) -> &'static str {
        match self.via {
            Via::Token { .. } => self.role.name(),
            Via::Key(_) => "api_key",
        }
    }
}

/// Finds out who calls. `Ok(None)` is a stranger without credentials.
pub async fn authenticate(
    app: &Arc<App>,
    headers: &HeaderMap,
    now: DateTime<Utc>,
) -> Result<Option<Principal>, ApiError> {
    let Some(header) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let text = header
        .to_str()
        .ok()
        .filter(|text| text.len() <= CREDENTIALS_SIZE_BYTES_MAX);
    let credentials = text.and_then(|text| {
        let (scheme, rest) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(rest.trim())
    });
    let credentials = credentials.ok_or(Code::Unauthorized)?;
    let principal = match credentials.starts_with(KEY_PREFIX) {
        true => by_key(app, credentials, now).await?,
        false => by_token(app, credentials, now).await?,
    };
    Ok(Some(principal))
}

async fn by_key(app: &Arc<App>, key: &str, now: DateTime<Utc>) -> Result<Principal, ApiError> {
    let hash = sha256(key.as_bytes());
    let record = app
        .caches
        .api_key(hash, || app.pulse.asked(db::keys::find(&app.db, hash)))
        .await?;
    let record = record.ok_or(Code::Unauthorized)?;
    if record.expires_at.is_some_and(|end| end <= now) {
        return Err(Code::Unauthorized.into());
    }
    let account = account(app, record.user_id).await?;
    Ok(Principal {
        user_id: record.user_id,
        tenant: record.tenant,
        role: Role::User,
        key_rate: account.key_rate,
        has_plan: account.has_plan,
        via: Via::Key(record),
    })
}

async fn by_token(app: &Arc<App>, token: &str, now: DateTime<Utc>) -> Result<Principal, ApiError> {
    let keys = app.token_keys.load();
    let claims = app
        .caches
        .claims(token, || keys.verify(token, &app.config.section.public_url, i64::MIN));
    let claims = match (claims, app.issuers.of(token)) {
        (Ok(claims), _) => claims,
        (Err(_), Some((issuer, _))) => return by_issuer(app, issuer, token, now).await,
        (Err(_), None) => return Err(Code::Unauthorized.into()),
    };
    if claims.exp <= now.timestamp() {
        return Err(ApiError::with(Code::TokenExpired, TokenError::Expired.to_string()));
    }
    // First: suspension ended the sign-in, and is what must be told (AU-7).
    let account = account(app, claims.sub).await?;
    if account.tenant.0 != claims.tid {
        return Err(Code::Unauthorized.into());
    }
    if app.caches.is_revoked(claims.sid) {
        return Err(ApiError::with(Code::Unauthorized, "this sign-in has ended"));
    }
    Ok(Principal {
        user_id: account.user_id,
        tenant: account.tenant,
        role: account.role,
        via: Via::Token {
            session_id: claims.sid,
            expires_at: DateTime::from_timestamp(claims.exp, 0).unwrap_or(now),
        },
        key_rate: account.key_rate,
        has_plan: account.has_plan,
    })
}

/// Who a token of another issuer is of (AU-12). It gives no more than the user's record does, and no more than its claims.
async fn by_issuer(app: &Arc<App>, issuer: usize, token: &str, now: DateTime<Utc>) -> Result<Principal, ApiError> {
    let foreign = match app.issuers.verify(issuer, token, now).await? {
        Ok(foreign) => foreign,
        Err(Refusal::Expired) => return Err(ApiError::with(Code::TokenExpired, Refusal::Expired.to_string())),
        Err(refusal) => return Err(ApiError::with(Code::Unauthorized, refusal.to_string())),
    };
    // It has no sign-in here, but can be given up like one.
    let hash = sha256(token.as_bytes());
    let session_id = Uuid::from_slice(&hash[..16]).unwrap_or_default();
    if app.caches.is_revoked(session_id) {
        return Err(ApiError::with(Code::Unauthorized, "this sign-in has ended"));
    }
    let user_id = match app.issuers.user(issuer, &foreign.subject) {
        Some(user_id) => user_id,
        None => subject(app, token, &foreign, now).await?,
    };
    let account = account(app, user_id).await.inspect_err(|error| {
        if error.code == Code::Unauthorized {
            app.issuers.forget(issuer, &foreign.subject);
        }
    })?;
    app.issuers.remember(issuer, &foreign.subject, user_id);
    Ok(Principal {
        user_id: account.user_id,
        tenant: account.tenant,
        role: account.role.min(foreign.role),
        via: Via::Token {
            session_id,
            expires_at: DateTime::from_timestamp(foreign.expires_at, 0).unwrap_or(now),
        },
        key_rate: account.key_rate,
        has_plan: account.has_plan,
    })
}

/// The user of another issuer's subject; made on first sight where the configuration says so.
async fn subject(app: &Arc<App>, token: &str, foreign: &Foreign, now: DateTime<Utc>) -> Result<Uuid, ApiError> {
    let (_, issuer) = app.issuers.of(token).ok_or(Code::Unauthorized)?;
    let tenant = db::DEFAULT_TENANT;
    let mut connection = app.db.acquire().await?;
    if let Some(known) = db::users::by_identity(&mut connection, tenant, &issuer.issuer, &foreign.subject).await? {
        return Ok(known);
    }
    drop(connection);
    if !issuer.provision {
        return Err(ApiError::with(Code::Unauthorized, "nobody here is known by this token"));
    }
    let email = foreign
        .email
        .as_ref()
        .filter(|email| Format::Email.holds(email) && email.len() <= 254);
    let email = email.ok_or_else(|| ApiError::with(Code::Unauthorized, "the token names no e-mail address"))?;
    let name = foreign.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(email);
    let user = NewUser {
        id: Uuid::now_v7(),
        name: name.chars().take(200).collect(),
        email: email.clone(),
        password_hash: None,
        role: foreign.role,
        email_verified_at: foreign.email_verified.then_some(now),
        now,
    };
    let mut work = Work::begin_as(app, tenant, Actor::system()).await?;
    match db::users::insert(work.connection(), tenant, &user).await {
        // Another account's: who may sign in there must not be decided elsewhere.
        Err(error) if breaks(&error, "users_email") => {
            drop(work);
            let mut connection = app.db.acquire().await?;
            let known = db::users::by_identity(&mut connection, tenant, &issuer.issuer, &foreign.subject).await?;
            let taken = "an account of another kind has this e-mail address";
            return known.ok_or_else(|| ApiError::with(Code::Unauthorized, taken));
        }
        other => other?,
    }
    if !db::users::add_identity(work.connection(), tenant, user.id, &issuer.issuer, &foreign.subject).await? {
        // Two first requests at once: the other one made the account.
        drop(work);
        let mut connection = app.db.acquire().await?;
        let known = db::users::by_identity(&mut connection, tenant, &issuer.issuer, &foreign.subject).await?;
        return known.ok_or_else(|| Code::Unauthorized.into());
    }
    let payload = serde_json::json!({ "id": user.id, "name": user.name, "email": user.email });
    work.emit("user.created", Some(user.id), payload).await?;
    let metadata = serde_json::json!({ "role": user.role.name(), "issuer": issuer.issuer });
    work.audit("user.created", "user", Some(user.id), metadata).await?;
    work.invalidate("user", user.id, 0).await?;
    work.commit().await?;
    Ok(user.id)
}

async fn account(app: &Arc<App>, user_id: Uuid) -> Result<Account, ApiError> {
    let account = app
        .caches
        .account(user_id, || app.pulse.asked(db::users::account(&app.db, user_id)))
        .await?;
    let account = account.ok_or(Code::Unauthorized)?;
    check_status(&account.status)?;
    match account.tenant_suspended {
        true => Err(Code::AccountSuspended.into()),
        false => Ok(account),
    }
}

/// Refuses accounts that are not active (AU-7).
pub fn check_status(status: &str) -> Result<(), ApiError> {
    match status {
        "suspended" => Err(Code::AccountSuspended.into()),
        "banned" => Err(Code::AccountBanned.into()),
        _ => Ok(()),
    }
}

/// Whether `principal` may call an operation that is for `caller`.
pub fn authorise(
    principal: Option<&Principal>,
    caller: Caller,
    writes: bool,
    public_catalogue: bool,
) -> Result<(), ApiError> {
    let Some(principal) = principal else {
        return match caller {
            Caller::Public | Caller::Signed => Ok(()),
            Caller::Catalogue if public_catalogue => Ok(()),
            _ => Err(Code::Unauthorized.into()),
        };
    };
    let least = match caller {
        Caller::Public | Caller::Signed => return Ok(()),
        Caller::Catalogue | Caller::Any => None,
        Caller::Jwt => Some(Role::User),
        Caller::Moderator => Some(Role::Moderator),
        Caller::Admin | Caller::Platform => Some(Role::Admin),
    };
    match (&principal.via, least) {
        (Via::Key(_), Some(_)) => Err(Code::ApiKeyNotAllowed.into()),
        (Via::Key(key), None) => {
            let needed = if writes { "write" } else { "read" };
            match key.scopes.iter().any(|scope| scope == needed) {
                true => Ok(()),
                false => Err(ApiError::with(
                    Code::InsufficientScope,
                    format!("the key lacks the scope \"{needed}\""),
                )),
            }
        }
        (Via::Token { .. }, Some(least)) if principal.role < least => Err(Code::Forbidden.into()),
        (Via::Token { .. }, _) if caller == Caller::Platform && principal.tenant != db::DEFAULT_TENANT => {
            Err(Code::Forbidden.into())
        }
        (Via::Token { .. }, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(role: Role, scopes: Option<&[&str]>) -> Principal {
        let tenant = TenantId(Uuid::from_u128(1));
        let via = match scopes {
            Some(scopes) => Via::Key(KeyRecord {
                key_id: Uuid::nil(),
                user_id: Uuid::nil(),
                tenant,
                scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
                tenant_access: false,
                expires_at: None,
            }),
            None => Via::Token {
                session_id: Uuid::nil(),
                expires_at: DateTime::UNIX_EPOCH,
            },
        };
        Principal {
            user_id: Uuid::nil(),
            tenant,
            role,
            via,
            key_rate: None,
            has_plan: false,
        }
    }

    #[test]
    fn who_may_call_what() {
        use Caller::{Admin, Any, Catalogue, Jwt, Moderator, Platform, Public};
        let (user, moderator, admin) = (
            principal(Role::User, None),
            principal(Role::Moderator, None),
            principal(Role::Admin, None),
        );
        let (reader, writer) = (
            principal(Role::User, Some(&["read"])),
            principal(Role::User, Some(&["write"])),
        );
        let home = Principal {
            tenant: db::DEFAULT_TENANT,
            ..admin.clone()
        };
        let cases = [
            (None, Public, false, None),
            (None, Catalogue, false, Some(Code::Unauthorized)),
            (None, Any, false, Some(Code::Unauthorized)),
            (None, Admin, false, Some(Code::Unauthorized)),
            (Some(&user), Any, true, None),
            (Some(&user), Jwt, true, None),
            (Some(&user), Moderator, false, Some(Code::Forbidden)),
            (Some(&moderator), Moderator, true, None),
            (Some(&moderator), Admin, true, Some(Code::Forbidden)),
            (Some(&admin), Admin, true, None),
            (Some(&admin), Platform, true, Some(Code::Forbidden)),
            (Some(&home), Platform, true, None),
            (Some(&reader), Any, false, None),
            (Some(&reader), Any, true, Some(Code::InsufficientScope)),
            (Some(&writer), Catalogue, false, Some(Code::InsufficientScope)),
            (Some(&writer), Jwt, true, Some(Code::ApiKeyNotAllowed)),
            (Some(&reader), Moderator, false, Some(Code::ApiKeyNotAllowed)),
            (Some(&reader), Admin, false, Some(Code::ApiKeyNotAllowed)),
        ];
        for (who, caller, writes, expected) in cases {
            let found = authorise(who, caller, writes, false).err().map(|error| error.code);
            assert_eq!(found, expected, "{who:?} {caller:?} {writes}");
        }
        assert!(authorise(None, Catalogue, false, true).is_ok());
    }
}
