//! What the system asks of the database for itself.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::DEFAULT_TENANT;
use crate::call::TenantId;

/// Whether the database answers, and its version as a number (150012).
pub async fn version(pool: &PgPool) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("select current_setting('server_version_num')::integer")
        .fetch_one(pool)
        .await
}

/// The tenant of a host name; the default one for unknown hosts.
pub async fn tenant_of_host(pool: &PgPool, host: &str) -> Result<TenantId, sqlx::Error> {
    let found: Option<Uuid> =
        sqlx::query_scalar("select id from tenants where domains @> array[$1] order by id limit 1")
            .bind(host)
            .fetch_optional(pool)
            .await?;
    Ok(found.map_or(DEFAULT_TENANT, TenantId))
}

/// Makes the partitions of the months and days to come.
pub async fn make_partitions(pool: &PgPool, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query("select make_partitions($1)")
        .bind(now)
        .execute(pool)
        .await?;
    Ok(())
}

/// Writes that a node is alive.
pub async fn beat(pool: &PgPool, node: Uuid, version: &str, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into nodes (node_id, started_at, heartbeat_at, version) values ($1, $2, $2, $3)
         on conflict (node_id) do update set heartbeat_at = excluded.heartbeat_at",
    )
    .bind(node)
    .bind(now)
    .bind(version)
    .execute(pool)
    .await?;
    Ok(())
}

/// Sends a notice to ourselves, which tells whether notices arrive at all.
pub async fn notify_self(pool: &PgPool, text: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_notify('cache', $1)")
        .bind(text)
        .execute(pool)
        .await?;
    Ok(())
}
