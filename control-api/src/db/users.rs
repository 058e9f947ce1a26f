//! Rows of users.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

use crate::auth::{Account, Role};
use crate::call::TenantId;
use crate::page::PageRequest;

/// Subscriptions that cover something, as SQL over `subscriptions s`.
const LIVE: &str = "s.status in ('active', 'trialing', 'past_due')";

/// What every request needs of a user.
pub async fn account(pool: &PgPool, user: Uuid) -> Result<Option<Account>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!(
        "select u.id, u.tenant_id, u.role, u.status, t.status = 'suspended' as tenant_suspended,
           p.rate_limit_per_minute, p.id is not null as has_plan, p.tier
         from users u join tenants t on t.id = u.tenant_id
         left join subscriptions s on s.user_id = u.id and {LIVE}
         left join plans p on p.id = s.plan_id
         where u.id = $1"
    ));
    let row = sqlx::query(sql).bind(user).fetch_optional(pool).await?;
    row.map(|row| {
        let tier: Option<i32> = row.try_get(7)?;
        let rate: Option<i32> = row.try_get(5)?;
        // Tiers 0 and 1 (Free, Starter) 100 a minute, those above 1,000, unless the plan says otherwise.
        let usual = tier.map(|tier| if tier >= 2 { 1_000 } else { 100 });
        Ok(Account {
            user_id: row.try_get(0)?,
            tenant: TenantId(row.try_get(1)?),
            role: Role::of(row.try_get(2)?),
            status: row.try_get(3)?,
            tenant_suspended: row.try_get(4)?,
            key_rate: rate.and_then(|rate| u32::try_from(rate).ok()).or(usual),
            has_plan: row.try_get(6)?,
        })
    })
    .transpose()
}

/// A user, with what is needed to sign in.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct UserRow {
    /// Who.
    pub id: Uuid,
    /// Of which tenant.
    pub tenant_id: Uuid,
    /// Their name.
    pub name: String,
    /// As they write it.
    pub email: String,
    /// As a PHC string.
    pub password_hash: Option<String>,
    /// What they may do.
    pub role: String,
    /// `active`, `suspended` or `banned`.
    pub status: String,
    /// When the e-mail was verified.
    pub email_verified_at: Option<DateTime<Utc>>,
    /// Whether they may upload.
    pub can_upload: bool,
    /// Whether they may have URLs fetched.
    pub remote_download_enabled: bool,
    /// How much they may store.
    pub storage_quota_bytes: Option<i64>,
    /// How much they store.
    pub storage_used_bytes: i64,
    /// When they signed in last.
    pub last_login_at: Option<DateTime<Utc>>,
    /// When the account was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    pub updated_at: DateTime<Utc>,
    /// Of the row.
    pub row_version: i64,
    /// Name of the plan.
    pub plan: Option<String>,
}

impl UserRow {
    /// As it is shown.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "id": self.id, "name": self.name, "email": self.email, "role": self.role, "status": self.status,
            "plan": self.plan, "email_verified": self.email_verified_at.is_some(), "can_upload": self.can_upload,
            "remote_download_enabled": self.remote_download_enabled, "storage_quota_bytes": self.storage_quota_bytes,
            "storage_used_bytes": self.storage_used_bytes, "created_at": self.created_at,
            "updated_at": self.updated_at, "last_login_at": self.last_login_at,
        })
    }

    /// As it is shown in token replies.
    pub fn to_brief(&self) -> serde_json::Value {
        serde_json::json!({
            "id": self.id, "name": self.name, "email": self.email, "role": self.role, "plan": self.plan,
        })
    }
}

fn select(end: &str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!("select {} from users t {end}", columns()))
}

fn columns() -> String {
    format!(
        "t.id, t.tenant_id, t.name, t.email, t.password_hash, t.role, t.status, t.email_verified_at, t.can_upload,
           t.remote_download_enabled, t.storage_quota_bytes, t.storage_used_bytes, t.last_login_at, t.created_at,
           t.updated_at, t.row_version,
           (select p.name from subscriptions s join plans p on p.id = s.plan_id
            where s.user_id = t.id and {LIVE} limit 1) as plan"
    )
}

/// What e-mails are compared by: one account has one. Made here alone, since databases have other small letters.
pub fn email_key(email: &str) -> String {
    email.to_lowercase()
}

/// The user with this e-mail, in any case.
pub async fn by_email(
    connection: &mut PgConnection,
    tenant: TenantId,
    email: &str,
) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as(select("where t.tenant_id = $1 and t.email_lower = $2"))
        .bind(tenant.0)
        .bind(email_key(email))
        .fetch_optional(connection)
        .await
}

/// The user with this id.
pub async fn get(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as(select("where t.tenant_id = $1 and t.id = $2"))
        .bind(tenant.0)
        .bind(id)
        .fetch_optional(connection)
        .await
}

/// The user with this id; nobody else changes it until the transaction ends.
pub async fn lock(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as(select("where t.tenant_id = $1 and t.id = $2 for update of t"))
        .bind(tenant.0)
        .bind(id)
        .fetch_optional(connection)
        .await
}

/// A new user.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Who.
    pub id: Uuid,
    /// Their name.
    pub name: String,
    /// As they write it.
    pub email: String,
    /// As a PHC string; none until the invitation is answered.
    pub password_hash: Option<String>,
    /// What they may do.
    pub role: Role,
    /// When the e-mail was verified.
    pub email_verified_at: Option<DateTime<Utc>>,
    /// When.
    pub now: DateTime<Utc>,
}

/// Makes a user with a default profile. The constraint `users_email` says that the e-mail is taken.
pub async fn insert(connection: &mut PgConnection, tenant: TenantId, user: &NewUser) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into users (id, tenant_id, name, email, email_lower, password_hash, role, email_verified_at, created_at,
           updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
    )
    .bind(user.id)
    .bind(tenant.0)
    .bind(&user.name)
    .bind(&user.email)
    .bind(email_key(&user.email))
    .bind(&user.password_hash)
    .bind(user.role.name())
    .bind(user.email_verified_at)
    .bind(user.now)
    .execute(&mut *connection)
    .await?;
    let profile: String = user.name.chars().take(50).collect();
    sqlx::query("insert into profiles (id, tenant_id, user_id, name, is_default) values ($1, $2, $3, $4, true)")
        .bind(Uuid::now_v7())
        .bind(tenant.0)
        .bind(user.id)
        .bind(profile)
        .execute(connection)
        .await?;
    Ok(())
}

/// The user that an issuer knows as `subject`.
pub async fn by_identity(
    connection: &mut PgConnection,
    tenant: TenantId,
    issuer: &str,
    subject: &str,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select user_id from user_identities where tenant_id = $1 and issuer = $2 and subject = $3")
        .bind(tenant.0)
        .bind(issuer)
        .bind(subject)
        .fetch_optional(connection)
        .await
}

/// Says who an issuer's `subject` is. False: somebody is already.
pub async fn add_identity(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: Uuid,
    issuer: &str,
    subject: &str,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "insert into user_identities (id, tenant_id, user_id, issuer, subject) values ($1, $2, $3, $4, $5)
         on conflict (tenant_id, issuer, subject) do nothing",
    )
    .bind(Uuid::now_v7())
    .bind(tenant.0)
    .bind(user)
    .bind(issuer)
    .bind(subject)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Fields to change; `None` leaves one as it is.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// Name.
    pub name: Option<String>,
    /// E-mail, unverified from then on.
    pub email: Option<String>,
    /// Role.
    pub role: Option<String>,
    /// Status.
    pub status: Option<String>,
    /// Whether they may upload.
    pub can_upload: Option<bool>,
    /// Whether they may have URLs fetched.
    pub remote_download_enabled: Option<bool>,
    /// How much they may store; the inner one is what it becomes.
    pub storage_quota_bytes: Option<Option<i64>>,
}

/// Changes fields of a user.
pub async fn update(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: Uuid,
    change: &UserChange,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update users set name = coalesce($3, name), email = coalesce($4, email),
           email_lower = coalesce($11, email_lower),
           email_verified_at = case when $11 is null or $11 = email_lower then email_verified_at end,
           role = coalesce($5, role), status = coalesce($6, status), can_upload = coalesce($7, can_upload),
           remote_download_enabled = coalesce($8, remote_download_enabled),
           storage_quota_bytes = case when $9 then $10 else storage_quota_bytes end
         where tenant_id = $1 and id = $2",
    )
    .bind(tenant.0)
    .bind(id)
    .bind(&change.name)
    .bind(&change.email)
    .bind(&change.role)
    .bind(&change.status)
    .bind(change.can_upload)
    .bind(change.remote_download_enabled)
    .bind(change.storage_quota_bytes.is_some())
    .bind(change.storage_quota_bytes.flatten())
    .bind(change.email.as_deref().map(email_key))
    .execute(connection)
    .await?;
    Ok(())
}

/// Stores a new password.
pub async fn set_password(connection: &mut PgConnection, id: Uuid, hash: &str) -> Result<(), sqlx::Error> {
    sqlx::query("update users set password_hash = $2, token_epoch = token_epoch + 1 where id = $1")
        .bind(id)
        .bind(hash)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes that a user signed in.
pub async fn signed_in(connection: &mut PgConnection, id: Uuid, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query("update users set last_login_at = $2 where id = $1")
        .bind(id)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes that an e-mail is verified.
pub async fn verify_email(connection: &mut PgConnection, id: Uuid, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query("update users set email_verified_at = coalesce(email_verified_at, $2) where id = $1")
        .bind(id)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether there is an active admin beside this user. Until the end of the transaction nobody else takes one away.
pub async fn has_other_admin(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1::text, 2))")
        .bind(tenant.0)
        .execute(&mut *connection)
        .await?;
    sqlx::query_scalar(
        "select exists (select 1 from users where tenant_id = $1 and id <> $2 and role = 'admin' and status = 'active')",
    )
    .bind(tenant.0)
    .bind(id)
    .fetch_one(connection)
    .await
}

/// Deletes a user and all that is theirs.
pub async fn delete(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("delete from users where tenant_id = $1 and id = $2")
        .bind(tenant.0)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether a user owns an asset that published or scheduled titles play.
pub async fn owns_published(connection: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select 1 from assets a join playables p on p.content_id = a.target_id
           where a.owner_id = $1 and (p.status_visible or p.scheduled))",
    )
    .bind(id)
    .fetch_one(connection)
    .await
}

/// Gives a user's library items to another user.
pub async fn transfer_library(connection: &mut PgConnection, from: Uuid, to: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("update assets set owner_id = $2 where owner_id = $1")
        .bind(from)
        .bind(to)
        .execute(&mut *connection)
        .await?;
    sqlx::query("update uploads set owner_id = $2 where owner_id = $1")
        .bind(from)
        .bind(to)
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes a user's library items. Bytes on disk go once nobody refers to them.
pub async fn delete_library(connection: &mut PgConnection, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update blobs b set ref_count = greatest(b.ref_count - gone.number, 0)
         from (select source_blob, count(*)::integer as number from assets
               where owner_id = $1 and source_blob is not null group by source_blob) gone
         where b.id = gone.source_blob",
    )
    .bind(id)
    .execute(&mut *connection)
    .await?;
    sqlx::query("delete from assets where owner_id = $1")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Which users are asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Role.
    pub role: Option<String>,
    /// Status.
    pub status: Option<String>,
    /// In the name or e-mail.
    pub search: Option<String>,
    /// Plan they have.
    pub plan_id: Option<Uuid>,
}

fn push_filter(query: &mut QueryBuilder<Postgres>, tenant: TenantId, filter: &Filter) {
    query.push(" where t.tenant_id = ").push_bind(tenant.0);
    if let Some(role) = &filter.role {
        query.push(" and t.role = ").push_bind(role.clone());
    }
    if let Some(status) = &filter.status {
        query.push(" and t.status = ").push_bind(status.clone());
    }
    if let Some(search) = &filter.search {
        let pattern = format!(
            "%{}%",
            search.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
        );
        query.push(" and (t.name || ' ' || t.email) ilike ").push_bind(pattern);
    }
    if let Some(plan) = filter.plan_id {
        query.push(format!(
            " and exists (select 1 from subscriptions s where s.user_id = t.id and {LIVE} and s.plan_id = "
        ));
        query.push_bind(plan).push(")");
    }
}

/// A page of users, and how many there are where that is asked.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    filter: &Filter,
    page: &PageRequest,
) -> Result<super::Rows<UserRow>, sqlx::Error> {
    super::page(connection, &columns(), page, |query| {
        query.push(" from users t");
        push_filter(query, tenant, filter);
    })
    .await
}
