//! Rows of idempotency keys.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use crate::idempotency::Ticket;

/// A request under a key.
#[derive(Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path.
    pub path: &'a str,
    /// Hash of its body.
    pub body_sha256: [u8; 32],
    /// When it came.
    pub now: DateTime<Utc>,
    /// Until when nobody takes it over.
    pub lease_until: DateTime<Utc>,
    /// Until when its reply is kept.
    pub expires_at: DateTime<Utc>,
}

/// What there is under a key already.
#[derive(Debug, sqlx::FromRow)]
pub struct Row {
    /// Of the first request.
    pub method: String,
    /// Of the first request.
    pub path: String,
    /// Of the first request.
    pub body_sha256: Vec<u8>,
    /// Of its reply.
    pub status: Option<i32>,
    /// Its reply.
    pub sealed: Option<Vec<u8>>,
}

/// Takes the key, also from a run whose lease is over, and from a reply that is no longer kept. What is there otherwise.
pub async fn begin(pool: &PgPool, ticket: &Ticket, request: &Request<'_>) -> Result<Option<Row>, sqlx::Error> {
    loop {
        let taken = sqlx::query(
            "insert into idempotency_keys as kept (tenant_id, principal_id, key, method, path, body_sha256, state, ticket,
               lease_until, expires_at)
             values ($1, $2, $3, $4, $5, $6, 'running', $7, $8, $9)
             on conflict (tenant_id, principal_id, key) do update set
               method = excluded.method, path = excluded.path, body_sha256 = excluded.body_sha256, state = 'running',
               ticket = excluded.ticket, lease_until = excluded.lease_until, expires_at = excluded.expires_at,
               status = null, sealed = null
             where kept.expires_at <= $10
               or (kept.state = 'running' and kept.lease_until <= $10 and kept.method = excluded.method
                 and kept.path = excluded.path and kept.body_sha256 = excluded.body_sha256)",
        )
        .bind(ticket.tenant.0)
        .bind(ticket.principal)
        .bind(&ticket.key)
        .bind(request.method)
        .bind(request.path)
        .bind(&request.body_sha256[..])
        .bind(ticket.id)
        .bind(request.lease_until)
        .bind(request.expires_at)
        .bind(request.now)
        .execute(pool)
        .await?;
        if taken.rows_affected() > 0 {
            return Ok(None);
        }
        let row: Option<Row> = sqlx::query_as(
            "select method, path, body_sha256, status, sealed from idempotency_keys
             where tenant_id = $1 and principal_id = $2 and key = $3",
        )
        .bind(ticket.tenant.0)
        .bind(ticket.principal)
        .bind(&ticket.key)
        .fetch_optional(pool)
        .await?;
        // Gone in between: its request ended in a way that is worth another try.
        if row.is_some() {
            return Ok(row);
        }
    }
}

/// Keeps the reply, if the key is still this run's.
pub async fn finish(
    connection: &mut PgConnection,
    ticket: &Ticket,
    status: u16,
    sealed: &[u8],
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "update idempotency_keys set state = 'done', status = $5, sealed = $6
         where tenant_id = $1 and principal_id = $2 and key = $3 and ticket = $4",
    )
    .bind(ticket.tenant.0)
    .bind(ticket.principal)
    .bind(&ticket.key)
    .bind(ticket.id)
    .bind(i32::from(status))
    .bind(sealed)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Frees the key, if it is still this run's.
pub async fn forget(connection: &mut PgConnection, ticket: &Ticket) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "delete from idempotency_keys where tenant_id = $1 and principal_id = $2 and key = $3 and ticket = $4",
    )
    .bind(ticket.tenant.0)
    .bind(ticket.principal)
    .bind(&ticket.key)
    .bind(ticket.id)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Drops replies that are no longer kept.
pub async fn trim(pool: &PgPool, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let done = sqlx::query("delete from idempotency_keys where expires_at <= $1")
        .bind(now)
        .execute(pool)
        .await?;
    Ok(done.rows_affected())
}
