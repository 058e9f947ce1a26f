//! Rows of devices.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::call::TenantId;

/// A device as it is shown: without what it is known by.
#[derive(Clone, Debug, serde::Serialize, sqlx::FromRow)]
pub struct Device {
    /// Which.
    pub id: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// What kind it is.
    pub device_type: String,
    /// Its platform.
    pub platform: Option<String>,
    /// Version of that.
    pub os_version: Option<String>,
    /// Version of the app on it.
    pub app_version: Option<String>,
    /// Whether its owner trusts it.
    pub is_trusted: bool,
    /// When it was last heard of.
    pub last_active_at: Option<DateTime<Utc>>,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    pub updated_at: DateTime<Utc>,
    /// Of the row.
    #[serde(skip)]
    pub row_version: i64,
}

const COLUMNS: &str =
    "id, name, device_type, platform, os_version, app_version, is_trusted, last_active_at, created_at,
  updated_at, row_version";

fn devices(end: &str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from devices where tenant_id = $1 and user_id = $2 and removed_at is null {end}"
    ))
}

/// All devices of an account.
pub async fn list(connection: &mut PgConnection, tenant: TenantId, user: Uuid) -> Result<Vec<Device>, sqlx::Error> {
    sqlx::query_as(devices("order by created_at, id"))
        .bind(tenant.0)
        .bind(user)
        .fetch_all(connection)
        .await
}

/// One device of an account.
pub async fn get(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: Uuid,
    id: Uuid,
) -> Result<Option<Device>, sqlx::Error> {
    sqlx::query_as(devices("and id = $3"))
        .bind(tenant.0)
        .bind(user)
        .bind(id)
        .fetch_optional(connection)
        .await
}

/// The device of an account that is known by this fingerprint.
pub async fn by_fingerprint(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: Uuid,
    fingerprint: &[u8],
) -> Result<Option<Device>, sqlx::Error> {
    sqlx::query_as(devices("and fingerprint_hmac = $3"))
        .bind(tenant.0)
        .bind(user)
        .bind(fingerprint)
        .fetch_optional(connection)
        .await
}

/// How many devices an account has.
pub async fn count(connection: &mut PgConnection, user: Uuid) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from devices where user_id = $1 and removed_at is null")
        .bind(user)
        .fetch_one(connection)
        .await
}

/// Stores a device.
pub async fn insert(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: Uuid,
    device: &Device,
    fingerprint: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into devices (id, tenant_id, user_id, name, device_type, platform, os_version, app_version, fingerprint_hmac,
           last_active_at, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $10)",
    )
    .bind(device.id)
    .bind(tenant.0)
    .bind(user)
    .bind(&device.name)
    .bind(&device.device_type)
    .bind(&device.platform)
    .bind(&device.os_version)
    .bind(&device.app_version)
    .bind(fingerprint)
    .bind(device.created_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes when devices were last heard of: of each its user, itself, and when. Those of others are left alone, and so are
/// those that somebody else is writing.
pub async fn seen(pool: &PgPool, devices: &[((Uuid, Uuid), DateTime<Utc>)]) -> Result<(), sqlx::Error> {
    let (who, at): (Vec<(Uuid, Uuid)>, Vec<DateTime<Utc>>) = devices.iter().copied().unzip();
    let (users, ids): (Vec<Uuid>, Vec<Uuid>) = who.into_iter().unzip();
    sqlx::query(
        "with mine as (
           select d.id, s.at from devices d join unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) as s (user_id, id, at)
             on s.id = d.id and s.user_id = d.user_id
           where d.removed_at is null and (d.last_active_at is null or d.last_active_at < s.at)
           for no key update of d skip locked)
         update devices d set last_active_at = mine.at from mine where d.id = mine.id",
    )
    .bind(users)
    .bind(ids)
    .bind(at)
    .execute(pool)
    .await?;
    Ok(())
}

/// Renames a device.
pub async fn rename(connection: &mut PgConnection, tenant: TenantId, id: Uuid, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("update devices set name = $3 where tenant_id = $1 and id = $2")
        .bind(tenant.0)
        .bind(id)
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes a device; its fingerprint may be registered again.
pub async fn remove(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: Uuid,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query("update devices set removed_at = $3 where tenant_id = $1 and id = $2")
        .bind(tenant.0)
        .bind(id)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}
