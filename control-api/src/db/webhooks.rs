//! Rows of webhooks and their deliveries.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, QueryBuilder, Row as _};
use uuid::Uuid;

use crate::call::TenantId;
use crate::page::PageRequest;

/// An endpoint.
#[derive(Clone, Debug, serde::Serialize, sqlx::FromRow)]
pub struct Webhook {
    /// Which.
    pub id: Uuid,
    /// Where to.
    pub url: String,
    /// What it is, for people.
    pub description: Option<String>,
    /// What it is told of.
    pub events: Vec<String>,
    /// `active`, `disabled`.
    pub status: String,
    /// The end of its secret.
    #[serde(rename = "signing_secret_hint")]
    pub secret_hint: String,
    /// Events in a row that could not be delivered.
    pub failure_count: i32,
    /// When something was sent last.
    pub last_delivery_at: Option<DateTime<Utc>>,
    /// Whose events: `own`, `tenant`.
    pub scope: String,
    /// Whose it is.
    pub owner_id: Uuid,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    pub updated_at: DateTime<Utc>,
    /// Of the row.
    #[serde(skip)]
    pub row_version: i64,
}

const COLUMNS: &str =
    "t.id, t.url, t.description, t.events, t.status, t.secret_hint, t.failure_count, t.last_delivery_at,
  t.scope, t.owner_id, t.created_at, t.updated_at, t.row_version";

/// One.
pub async fn get(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<Option<Webhook>, sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from webhooks t where t.tenant_id = $1 and t.id = $2"
    )))
    .bind(tenant.0)
    .bind(id)
    .fetch_optional(connection)
    .await
}

/// A page of an owner's, or of those of the whole tenant.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    owner: Option<Uuid>,
    page: &PageRequest,
) -> Result<super::Rows<Webhook>, sqlx::Error> {
    let filter = |query: &mut QueryBuilder<sqlx::Postgres>| {
        query.push(" from webhooks t where t.tenant_id = ").push_bind(tenant.0);
        match owner {
            Some(owner) => query.push(" and t.scope = 'own' and t.owner_id = ").push_bind(owner),
            None => query.push(" and t.scope = 'tenant'"),
        };
    };
    super::page(connection, COLUMNS, page, filter).await
}

/// How many endpoints somebody has.
pub async fn count(connection: &mut PgConnection, owner: Uuid) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from webhooks where owner_id = $1")
        .bind(owner)
        .fetch_one(connection)
        .await
}

/// Stores one.
pub async fn insert(
    connection: &mut PgConnection,
    tenant: TenantId,
    webhook: &Webhook,
    secret_encrypted: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into webhooks (id, tenant_id, owner_id, scope, url, description, events, secret_encrypted, secret_hint)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(webhook.id)
    .bind(tenant.0)
    .bind(webhook.owner_id)
    .bind(&webhook.scope)
    .bind(&webhook.url)
    .bind(&webhook.description)
    .bind(&webhook.events)
    .bind(secret_encrypted)
    .bind(&webhook.secret_hint)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes what its owner may change. Active, it has not failed yet.
pub async fn update(connection: &mut PgConnection, webhook: &Webhook) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update webhooks set url = $2, description = $3, events = $4, status = $5, failure_count = $6 where id = $1",
    )
    .bind(webhook.id)
    .bind(&webhook.url)
    .bind(&webhook.description)
    .bind(&webhook.events)
    .bind(&webhook.status)
    .bind(webhook.failure_count)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes one, with what waits for it.
pub async fn delete(connection: &mut PgConnection, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("delete from webhooks where id = $1")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// A delivery, as it is shown.
#[derive(Clone, Debug, serde::Serialize, sqlx::FromRow)]
pub struct Delivery {
    /// Which.
    pub id: Uuid,
    /// To which endpoint.
    pub endpoint_id: Uuid,
    /// Of which event.
    pub event_type: String,
    /// Its id.
    pub event_id: Uuid,
    /// `pending`, `delivered`, `failed`, `retrying`.
    pub status: String,
    /// What the endpoint answered.
    pub http_status: Option<i32>,
    /// The beginning of its answer, or why there was none.
    pub response_snippet: Option<String>,
    /// Attempts so far.
    pub attempt_count: i32,
    /// When the next one is.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// When it arrived.
    pub delivered_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was asked for again.
    #[serde(skip)]
    pub redelivered_at: Option<DateTime<Utc>>,
}

const DELIVERY: &str = "t.id, t.endpoint_id, t.event_type, t.event_id, t.status, t.http_status, t.response_snippet,
  t.attempt_count, case when t.status in ('pending', 'retrying') then t.next_retry_at end as next_retry_at, t.delivered_at,
  t.created_at, t.redelivered_at";

/// A page of an endpoint's deliveries.
pub async fn deliveries(
    connection: &mut PgConnection,
    endpoint: Uuid,
    status: Option<&str>,
    page: &PageRequest,
) -> Result<super::Rows<Delivery>, sqlx::Error> {
    let filter = |query: &mut QueryBuilder<sqlx::Postgres>| {
        query
            .push(" from webhook_deliveries t where t.endpoint_id = ")
            .push_bind(endpoint);
        if let Some(status) = status {
            query.push(" and t.status = ").push_bind(status.to_owned());
        }
    };
    super::page(connection, DELIVERY, page, filter).await
}

/// A delivery of an endpoint, that nobody else changes meanwhile.
pub async fn lock_delivery(
    connection: &mut PgConnection,
    endpoint: Uuid,
    id: Uuid,
) -> Result<Option<Delivery>, sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {DELIVERY} from webhook_deliveries t where t.endpoint_id = $1 and t.id = $2 for update"
    )))
    .bind(endpoint)
    .bind(id)
    .fetch_optional(connection)
    .await
}

/// Deliveries of an endpoint that were asked for again since then. The endpoint is locked: two at once are counted.
pub async fn redelivered_since(
    connection: &mut PgConnection,
    endpoint: Uuid,
    since: DateTime<Utc>,
) -> Result<i64, sqlx::Error> {
    sqlx::query("select 1 from webhooks where id = $1 for update")
        .bind(endpoint)
        .execute(&mut *connection)
        .await?;
    sqlx::query_scalar("select count(*) from webhook_deliveries where endpoint_id = $1 and redelivered_at > $2")
        .bind(endpoint)
        .bind(since)
        .fetch_one(connection)
        .await
}

/// Puts a delivery in line once more.
pub async fn redeliver(connection: &mut PgConnection, id: Uuid, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update webhook_deliveries set status = 'pending', next_retry_at = $2, redelivered_at = $2, lease_until = null
         where id = $1",
    )
    .bind(id)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// A delivery that is this node's to make.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Claimed {
    /// Which.
    pub id: Uuid,
    /// To which endpoint.
    pub endpoint_id: Uuid,
    /// Where that is.
    pub url: String,
    /// What it is signed with.
    pub secret_encrypted: Vec<u8>,
    /// Of which event.
    pub event_type: String,
    /// Its id.
    pub event_id: Uuid,
    /// What is sent.
    pub body: Vec<u8>,
    /// Attempts so far.
    pub attempt_count: i32,
}

/// Makes a delivery that only who asked for it makes, at once.
pub async fn insert_claimed(
    connection: &mut PgConnection,
    tenant: TenantId,
    endpoint: Uuid,
    event: (Uuid, &str),
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<Claimed, sqlx::Error> {
    sqlx::query_as(
        "with made as (
           insert into webhook_deliveries (id, tenant_id, endpoint_id, event_id, event_type, body, status, created_at)
           values ($1, $2, $3, $4, $5, $6, 'pending', $7) returning *
         )
         select made.id, made.endpoint_id, w.url, w.secret_encrypted, made.event_type, made.event_id, made.body,
           made.attempt_count from made join webhooks w on w.id = made.endpoint_id",
    )
    .bind(Uuid::now_v7())
    .bind(tenant.0)
    .bind(endpoint)
    .bind(event.0)
    .bind(event.1)
    .bind(body)
    .bind(now)
    .fetch_one(connection)
    .await
}

/// Takes deliveries that are due. Nobody else takes them until the lease ends.
pub async fn claim(
    pool: &PgPool,
    now: DateTime<Utc>,
    lease: TimeDelta,
    limit: i64,
) -> Result<Vec<Claimed>, sqlx::Error> {
    sqlx::query_as(
        "with due as (
           select d.id from webhook_deliveries d join webhooks w on w.id = d.endpoint_id
           where d.status in ('pending', 'retrying') and d.next_retry_at <= $1
             and (d.lease_until is null or d.lease_until < $1) and w.status = 'active'
           order by d.next_retry_at limit $3 for update of d skip locked
         )
         update webhook_deliveries d set lease_until = $2 from due, webhooks w
         where d.id = due.id and w.id = d.endpoint_id
         returning d.id, d.endpoint_id, w.url, w.secret_encrypted, d.event_type, d.event_id, d.body, d.attempt_count",
    )
    .bind(now)
    .bind(now + lease)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// What came of an attempt.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the delivery is in now.
    pub status: &'static str,
    /// What the endpoint answered.
    pub http_status: Option<i32>,
    /// The beginning of its answer, or why there was none.
    pub snippet: Option<String>,
    /// Attempts so far.
    pub attempts: i32,
    /// When the next one is.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub at: DateTime<Utc>,
}

/// Writes what came of an attempt, and what that means for the endpoint: too many events in a row that failed disable it.
pub async fn finish(pool: &PgPool, claimed: &Claimed, outcome: &Outcome, failed_max: i32) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    write(&mut transaction, claimed, outcome).await?;
    sqlx::query(
        "update webhooks set last_delivery_at = $2,
           failure_count = case $3 when 'delivered' then 0 when 'failed' then failure_count + 1 else failure_count end,
           status = case when $3 = 'failed' and failure_count + 1 >= $4 then 'disabled' else status end
         where id = $1",
    )
    .bind(claimed.endpoint_id)
    .bind(outcome.at)
    .bind(outcome.status)
    .bind(failed_max)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// Writes what came of an attempt alone; the delivery as it is then.
pub async fn write(
    connection: &mut PgConnection,
    claimed: &Claimed,
    outcome: &Outcome,
) -> Result<Option<Delivery>, sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(format!(
        "update webhook_deliveries t set status = $2, http_status = $3, response_snippet = $4, attempt_count = $5,
           next_retry_at = $6, lease_until = null, delivered_at = case when $2 = 'delivered' then $7 else delivered_at end
         where t.id = $1 returning {DELIVERY}"
    )))
    .bind(claimed.id)
    .bind(outcome.status)
    .bind(outcome.http_status)
    .bind(&outcome.snippet)
    .bind(outcome.attempts)
    .bind(outcome.next_retry_at)
    .bind(outcome.at)
    .fetch_optional(connection)
    .await
}

/// Events in one go.
const EVENT_COUNT_MAX: i64 = 500;

/// Turns events into deliveries to the endpoints that want them; `body` is what is stored of one. Whether there may be more.
pub async fn fan_out(
    pool: &PgPool,
    now: DateTime<Utc>,
    body: fn(Uuid, &str, Uuid, &Value) -> Vec<u8>,
) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let events = sqlx::query(
        "select created_at, seq, id, tenant_id, event_type, subject_user_id, payload from outbox_events
         where fanned_out_at is null order by seq limit $1 for update skip locked",
    )
    .bind(EVENT_COUNT_MAX)
    .fetch_all(&mut *transaction)
    .await?;
    if events.is_empty() {
        return Ok(false);
    }
    let (mut at, mut seqs) = (Vec::new(), Vec::new());
    for event in &events {
        at.push(event.try_get::<DateTime<Utc>, _>(0)?);
        seqs.push(event.try_get::<i64, _>(1)?);
        let (id, tenant, kind): (Uuid, Uuid, String) = (event.try_get(2)?, event.try_get(3)?, event.try_get(4)?);
        let endpoints: Vec<Uuid> = sqlx::query_scalar(
            "select id from webhooks where tenant_id = $1 and status = 'active' and events @> array[$2]
               and (scope = 'tenant' or owner_id = $3)",
        )
        .bind(tenant)
        .bind(&kind)
        .bind(event.try_get::<Option<Uuid>, _>(5)?)
        .fetch_all(&mut *transaction)
        .await?;
        if endpoints.is_empty() {
            continue;
        }
        let bytes = body(id, &kind, tenant, &event.try_get(6)?);
        let ids: Vec<Uuid> = endpoints.iter().map(|_| Uuid::now_v7()).collect();
        sqlx::query(
            "insert into webhook_deliveries (id, tenant_id, endpoint_id, event_id, event_type, body, next_retry_at, created_at)
             select new.id, $3, new.endpoint, $4, $5, $6, $7, $7 from unnest($1::uuid[], $2::uuid[]) as new (id, endpoint)
             on conflict on constraint webhook_deliveries_event do nothing",
        )
        .bind(&ids)
        .bind(&endpoints)
        .bind(tenant)
        .bind(id)
        .bind(&kind)
        .bind(&bytes)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
    }
    sqlx::query(
        "update outbox_events o set fanned_out_at = $3 from unnest($1::timestamptz[], $2::bigint[]) as done (at, seq)
         where o.created_at = done.at and o.seq = done.seq",
    )
    .bind(&at)
    .bind(&seqs)
    .bind(now)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(i64::try_from(events.len()).is_ok_and(|count| count == EVENT_COUNT_MAX))
}

/// Drops deliveries that were made before.
pub async fn trim(pool: &PgPool, before: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let done = sqlx::query("delete from webhook_deliveries where created_at < $1")
        .bind(before)
        .execute(pool)
        .await?;
    Ok(done.rows_affected())
}
