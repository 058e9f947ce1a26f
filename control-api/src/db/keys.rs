//! API keys and the keys that tokens are signed with.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use crate::auth::KeyRecord;
use crate::call::TenantId;
use crate::page::PageRequest;

/// The record of the key with this hash.
pub async fn find(pool: &PgPool, hash: [u8; 32]) -> Result<Option<KeyRecord>, sqlx::Error> {
    let row =
        sqlx::query("select id, user_id, tenant_id, scopes, access, expires_at from api_keys where key_sha256 = $1")
            .bind(&hash[..])
            .fetch_optional(pool)
            .await?;
    row.map(|row| {
        Ok(KeyRecord {
            key_id: row.try_get(0)?,
            user_id: row.try_get(1)?,
            tenant: TenantId(row.try_get(2)?),
            scopes: row.try_get(3)?,
            tenant_access: row.try_get::<String, _>(4)? == "tenant",
            expires_at: row.try_get(5)?,
        })
    })
    .transpose()
}

/// A key as it is shown.
#[derive(Clone, Debug, serde::Serialize, sqlx::FromRow)]
pub struct ApiKey {
    /// Its id.
    pub id: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// How it begins.
    pub prefix: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Whose library items it reaches.
    pub access: String,
    /// When it was used last, up to some seconds.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

const COLUMNS: &str = "t.id, t.name, t.prefix, t.scopes, t.access, t.last_used_at, t.expires_at, t.created_at";

/// A page of a user's keys.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: Uuid,
    page: &PageRequest,
) -> Result<super::Rows<ApiKey>, sqlx::Error> {
    super::page(connection, COLUMNS, page, |query| {
        query.push(" from api_keys t where t.tenant_id = ").push_bind(tenant.0);
        query.push(" and t.user_id = ").push_bind(user);
    })
    .await
}

/// How many keys a user has.
pub async fn count(connection: &mut PgConnection, user: Uuid) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from api_keys where user_id = $1")
        .bind(user)
        .fetch_one(connection)
        .await
}

/// Stores a new key.
pub async fn insert(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: Uuid,
    key: &ApiKey,
    hash: [u8; 32],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into api_keys (id, tenant_id, user_id, name, prefix, key_sha256, scopes, access, expires_at, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(key.id)
    .bind(tenant.0)
    .bind(user)
    .bind(&key.name)
    .bind(&key.prefix)
    .bind(&hash[..])
    .bind(&key.scopes)
    .bind(&key.access)
    .bind(key.expires_at)
    .bind(key.created_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whose key it is.
pub async fn owner(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select user_id from api_keys where tenant_id = $1 and id = $2")
        .bind(tenant.0)
        .bind(id)
        .fetch_optional(connection)
        .await
}

/// Deletes a key, with the log of its requests.
pub async fn delete(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("delete from api_keys where tenant_id = $1 and id = $2")
        .bind(tenant.0)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// A request that a key made.
#[derive(Clone, Debug, serde::Serialize, sqlx::FromRow)]
pub struct KeyRequest {
    /// When.
    pub at: DateTime<Utc>,
    /// How.
    pub method: String,
    /// What, without the query.
    pub path: String,
    /// What came of it.
    pub status: i32,
    /// How long it took.
    pub duration_ms: i32,
    /// From where.
    #[serde(rename = "ip_address")]
    pub ip: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
    /// Its id.
    pub request_id: Uuid,
}

/// The requests that a key made last, newest first.
pub async fn requests(connection: &mut PgConnection, id: Uuid) -> Result<Vec<KeyRequest>, sqlx::Error> {
    sqlx::query_as(
        "select at, method, path, status, duration_ms, ip, user_agent, request_id from api_key_requests
         where key_id = $1 order by at desc limit 100",
    )
    .bind(id)
    .fetch_all(connection)
    .await
}

/// Stores requests of keys and trims each key's to 100. Keys that are gone meanwhile are left out.
pub async fn log_requests(pool: &PgPool, requests: &[(Uuid, KeyRequest)]) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let mut rows = sqlx::QueryBuilder::new(
        "insert into api_key_requests (key_id, at, method, path, status, duration_ms, ip, user_agent, request_id)
         select v.* from (",
    );
    rows.push_values(requests, |mut row, (key, request)| {
        row.push_bind(*key)
            .push_bind(request.at)
            .push_bind(request.method.clone())
            .push_bind(request.path.clone())
            .push_bind(request.status)
            .push_bind(request.duration_ms)
            .push_bind(request.ip.clone())
            .push_bind(request.user_agent.clone())
            .push_bind(request.request_id);
    });
    rows.push(") v (key_id, at, method, path, status, duration_ms, ip, user_agent, request_id) join api_keys k on k.id = v.key_id");
    rows.build().execute(&mut *transaction).await?;
    let ids: Vec<Uuid> = requests.iter().map(|(key, _)| *key).collect();
    let latest = requests.iter().map(|(_, request)| request.at).max();
    sqlx::query("update api_keys set last_used_at = greatest(last_used_at, $2) where id = any ($1)")
        .bind(&ids)
        .bind(latest)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "delete from api_key_requests r using (
           select distinct k as key_id, (select at from api_key_requests o where o.key_id = k
             order by at desc offset 99 limit 1) as oldest
           from unnest($1::uuid[]) k) kept
         where r.key_id = kept.key_id and r.at < kept.oldest",
    )
    .bind(&ids)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// A stored signing key.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredKey {
    /// Its public name.
    pub kid: String,
    /// Sealed.
    pub private_encrypted: Vec<u8>,
    /// When it begins to sign.
    pub active_from: DateTime<Utc>,
}

/// Signing keys for a purpose that are not retired, newest first.
pub async fn signing_keys(
    connection: &mut PgConnection,
    purpose: &str,
    now: DateTime<Utc>,
) -> Result<Vec<StoredKey>, sqlx::Error> {
    sqlx::query_as(
        "select kid, private_encrypted, active_from from signing_keys
         where purpose = $1 and (retire_at is null or retire_at > $2) order by active_from desc, kid",
    )
    .bind(purpose)
    .bind(now)
    .fetch_all(connection)
    .await
}

/// Stores a signing key, and sets when those before it retire.
pub async fn add_signing_key(
    connection: &mut PgConnection,
    purpose: &str,
    alg: &str,
    key: &StoredKey,
    public: &[u8],
    others_retire_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query("update signing_keys set retire_at = $2 where purpose = $1 and retire_at is null")
        .bind(purpose)
        .bind(others_retire_at)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "insert into signing_keys (id, kid, purpose, alg, private_encrypted, public, active_from)
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(Uuid::now_v7())
    .bind(&key.kid)
    .bind(purpose)
    .bind(alg)
    .bind(&key.private_encrypted)
    .bind(public)
    .bind(key.active_from)
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets one node at a time make signing keys; until the end of the transaction.
pub async fn lock_signing_keys(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_xact_lock(7402111)")
        .execute(connection)
        .await?;
    Ok(())
}
