//! Events: what webhooks are told, and what other nodes are told about their caches.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::cache::CacheEvent;
use crate::call::TenantId;

/// Writes an event to the outbox.
pub async fn emit(
    connection: &mut PgConnection,
    tenant: TenantId,
    event: &str,
    subject: Option<Uuid>,
    payload: Value,
    at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query("select emit_event($1, $2, $3, $4, $5, $6)")
        .bind(Uuid::now_v7())
        .bind(tenant.0)
        .bind(event)
        .bind(subject)
        .bind(payload)
        .bind(at)
        .execute(connection)
        .await?;
    Ok(())
}

/// Tells all nodes at commit.
pub async fn tell_caches(connection: &mut PgConnection, event: &CacheEvent) -> Result<(), sqlx::Error> {
    sqlx::query("select tell_caches($1, $2, $3, $4)")
        .bind(&event.kind)
        .bind(event.tenant.0)
        .bind(&event.reference)
        .bind(event.version)
        .execute(connection)
        .await?;
    Ok(())
}

/// Puts list pages made before out of reach.
pub async fn raise_catalogue(connection: &mut PgConnection, tenant: TenantId) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select raise_catalogue($1)")
        .bind(tenant.0)
        .fetch_one(connection)
        .await
}

/// Events after `seq`, and those of the last 30 s, whose transactions may have been open when `seq` was seen.
pub async fn since(pool: &PgPool, seq: i64) -> Result<Vec<(i64, CacheEvent)>, sqlx::Error> {
    let rows: Vec<(i64, String, Uuid, String, i64)> = sqlx::query_as(
        "select seq, kind, tenant_id, ref, version from cache_events
         where seq > $1 or at > clock_timestamp() - interval '30 seconds' order by seq",
    )
    .bind(seq)
    .fetch_all(pool)
    .await?;
    let event = |(seq, kind, tenant, reference, version)| {
        let tenant = TenantId(tenant);
        let event = CacheEvent {
            kind,
            tenant,
            reference,
            version,
        };
        (seq, event)
    };
    Ok(rows.into_iter().map(event).collect())
}

/// Whether events after `seq` may have been dropped already.
pub async fn is_too_old(pool: &PgPool, seq: i64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select coalesce(min(seq) > $1 + 1, false) from cache_events")
        .bind(seq)
        .fetch_one(pool)
        .await
}

/// Drops events that no node needs any more.
pub async fn trim(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let done = sqlx::query("delete from cache_events where at < clock_timestamp() - interval '10 minutes'")
        .execute(pool)
        .await?;
    Ok(done.rows_affected())
}
