//! Idempotency keys: a request that comes again gets the reply of the first.

use axum::http::header::{HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::call::TenantId;
use crate::db::idempotency as rows;
use crate::error::{ApiError, Code};
use crate::reply::{Reply, ReplyContent};

/// How long a reply is kept.
const KEPT: TimeDelta = TimeDelta::hours(24);
/// How long a first request may run before another takes over.
const LEASE: TimeDelta = TimeDelta::seconds(60);
/// Largest reply that is kept.
const REPLY_SIZE_BYTES_MAX: usize = 256 << 10;

/// The right to run a request under its key.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Whose rows.
    pub tenant: TenantId,
    /// Who asked.
    pub principal: Uuid,
    /// The key.
    pub key: String,
    /// This run of it.
    pub id: Uuid,
}

/// What a key says about a request.
#[derive(Debug)]
pub enum Begun {
    /// It is the first: run it.
    Run(Ticket),
    /// It was run: answer this.
    Replay(Reply),
}

#[derive(Serialize, Deserialize)]
struct Kept {
    headers: Vec<(String, String)>,
    body: Option<String>,
}

/// Finds out whether a request is to be run. `body_sha256` is of the bytes as they came.
pub async fn begin(
    app: &App,
    ticket: Ticket,
    method: &str,
    path: &str,
    body_sha256: [u8; 32],
    now: DateTime<Utc>,
) -> Result<Begun, ApiError> {
    let request = rows::Request {
        method,
        path,
        body_sha256,
        now,
        lease_until: now + LEASE,
        expires_at: now + KEPT,
    };
    let Some(row) = rows::begin(&app.db, &ticket, &request).await? else {
        return Ok(Begun::Run(ticket));
    };
    if row.method != method || row.path != path || row.body_sha256 != body_sha256 {
        return Err(Code::IdempotencyKeyReused.into());
    }
    let (Some(status), Some(sealed)) = (row.status, row.sealed) else {
        return Err(ApiError::new(Code::IdempotencyInProgress).retry_after(1));
    };
    let plain = app.secrets.open(&place(&ticket), &sealed).map_err(ApiError::internal)?;
    let kept: Kept = serde_json::from_slice(&plain).map_err(ApiError::internal)?;
    let mut reply = Reply::empty(u16::try_from(status).unwrap_or(500));
    for (name, value) in kept.headers {
        let name = HeaderName::try_from(name).map_err(ApiError::internal)?;
        let value = HeaderValue::try_from(value).map_err(ApiError::internal)?;
        reply.headers.insert(name, value);
    }
    if let Some(body) = kept.body {
        let bytes = STANDARD.decode(body).map_err(ApiError::internal)?;
        reply.content = ReplyContent::Bytes(bytes.into());
    }
    reply.headers.insert(
        HeaderName::from_static("idempotency-replayed"),
        HeaderValue::from_static("true"),
    );
    Ok(Begun::Replay(reply))
}

/// Keeps the reply. `false` if somebody else took the request over meanwhile.
pub async fn finish(
    app: &App,
    connection: &mut PgConnection,
    ticket: &Ticket,
    reply: &Reply,
) -> Result<bool, ApiError> {
    let body = match &reply.content {
        ReplyContent::Bytes(bytes) if bytes.len() <= REPLY_SIZE_BYTES_MAX => Some(STANDARD.encode(bytes)),
        ReplyContent::Empty => None,
        ReplyContent::Bytes(_) | ReplyContent::Stream(_) => {
            return rows::forget(connection, ticket).await.map_err(ApiError::from);
        }
    };
    let headers = reply.headers.iter();
    let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    let kept = Kept {
        headers: headers.collect(),
        body,
    };
    let plain = serde_json::to_vec(&kept).map_err(ApiError::internal)?;
    let sealed = app.secrets.seal(&place(ticket), &plain).map_err(ApiError::internal)?;
    Ok(rows::finish(connection, ticket, reply.status, &sealed).await?)
}

/// Forgets a request that ended in a way that is worth another try.
pub async fn forget(app: &App, ticket: &Ticket) -> Result<(), ApiError> {
    let mut connection = app.db.acquire().await?;
    rows::forget(&mut connection, ticket).await?;
    Ok(())
}

/// Whether a reply of this status is not kept.
pub fn is_retried(status: u16) -> bool {
    matches!(status, 401 | 408 | 429) || status >= 500
}

fn place(ticket: &Ticket) -> String {
    format!("idempotency:{}:{}:{}", ticket.tenant.0, ticket.principal, ticket.key)
}
