//! Rows of subscriptions, and what payment providers reported of them.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, QueryBuilder};
use uuid::Uuid;

use crate::call::TenantId;
use crate::page::PageRequest;

/// A subscription.
#[derive(Clone, Debug, serde::Serialize, sqlx::FromRow)]
pub struct Subscription {
    /// Which.
    pub id: Uuid,
    /// To which plan.
    pub plan_id: Uuid,
    /// Its name.
    pub plan: String,
    /// What it is in.
    pub status: String,
    /// When the period began.
    pub current_period_start: DateTime<Utc>,
    /// When it ends.
    pub current_period_end: DateTime<Utc>,
    /// Whether the subscription ends with it.
    pub cancel_at_period_end: bool,
    /// When the trial ends.
    pub trial_end: Option<DateTime<Utc>>,
    /// What was redeemed.
    pub coupon_code: Option<String>,
    /// Who takes the money.
    pub provider: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    pub canceled_at: Option<DateTime<Utc>>,
    /// Whose.
    #[serde(skip)]
    pub user_id: Uuid,
    /// Of which tenant.
    #[serde(skip)]
    pub tenant_id: Uuid,
    /// The provider's name of it.
    #[serde(skip)]
    pub provider_ref: Option<String>,
    /// Whether an admin gave it.
    #[serde(skip)]
    pub is_gift: bool,
    /// The coupon.
    #[serde(skip)]
    pub coupon_id: Option<Uuid>,
    /// How often is paid.
    #[serde(skip)]
    pub billing_cycle: String,
    /// Of the row.
    #[serde(skip)]
    pub row_version: i64,
}

const COLUMNS: &str = "t.id, t.plan_id, p.name as plan, t.status, t.current_period_start, t.current_period_end,
  t.cancel_at_period_end, t.trial_end, t.coupon_code, t.provider, t.created_at, t.updated_at, t.canceled_at, t.user_id,
  t.tenant_id, t.provider_ref, t.is_gift, t.coupon_id, p.billing_cycle, t.row_version";
const FROM: &str = "from subscriptions t join plans p on p.id = t.plan_id";
const LIVE: &str = "t.status in ('incomplete', 'active', 'trialing', 'past_due')";

/// The account's present one.
pub async fn current(connection: &mut PgConnection, user: Uuid) -> Result<Option<Subscription>, sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} {FROM} where t.user_id = $1 and {LIVE}"
    )))
    .bind(user)
    .fetch_optional(connection)
    .await
}

/// One of a tenant, that nobody else changes meanwhile.
pub async fn lock(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: Uuid,
) -> Result<Option<Subscription>, sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} {FROM} where t.tenant_id = $1 and t.id = $2 for update of t"
    )))
    .bind(tenant.0)
    .bind(id)
    .fetch_optional(connection)
    .await
}

/// The one that a provider speaks of, by its name or ours, that nobody else changes meanwhile.
pub async fn lock_reported(
    connection: &mut PgConnection,
    provider: &str,
    reference: Option<&str>,
    id: Option<Uuid>,
) -> Result<Option<Subscription>, sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} {FROM} where t.provider = $1
           and (t.provider_ref = $2 or (t.provider_ref is null and t.id = $3)) for update of t"
    )))
    .bind(provider)
    .bind(reference)
    .bind(id)
    .fetch_optional(connection)
    .await
}

/// Whether an account ever had a trial.
pub async fn had_trial(connection: &mut PgConnection, user: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select 1 from subscriptions where user_id = $1 and trial_end is not null)")
        .bind(user)
        .fetch_one(connection)
        .await
}

/// A new one.
#[derive(Clone, Debug)]
pub struct NewSubscription<'a> {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub user: Uuid,
    /// To which plan.
    pub plan: Uuid,
    /// What it is in.
    pub status: &'a str,
    /// Who takes the money.
    pub provider: &'a str,
    /// When the period begins.
    pub start: DateTime<Utc>,
    /// When it ends.
    pub end: DateTime<Utc>,
    /// Whether the subscription ends with it.
    pub cancel_at_period_end: bool,
    /// Whether an admin gives it.
    pub is_gift: bool,
    /// When the trial ends.
    pub trial_end: Option<DateTime<Utc>>,
    /// What was redeemed: id, code, for how many periods.
    pub coupon: Option<(Uuid, String, Option<i32>)>,
}

/// Stores one.
pub async fn insert(
    connection: &mut PgConnection,
    tenant: TenantId,
    new: &NewSubscription<'_>,
) -> Result<(), sqlx::Error> {
    let coupon = new.coupon.as_ref();
    sqlx::query(
        "insert into subscriptions (id, tenant_id, user_id, plan_id, status, provider, current_period_start,
           current_period_end, cancel_at_period_end, trial_end, coupon_id, coupon_code, coupon_cycles_left, is_gift)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(new.id)
    .bind(tenant.0)
    .bind(new.user)
    .bind(new.plan)
    .bind(new.status)
    .bind(new.provider)
    .bind(new.start)
    .bind(new.end)
    .bind(new.cancel_at_period_end)
    .bind(new.trial_end)
    .bind(coupon.map(|(id, _, _)| id))
    .bind(coupon.map(|(_, code, _)| code))
    .bind(coupon.and_then(|(_, _, cycles)| *cycles))
    .bind(new.is_gift)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes one back that nobody ever paid for.
pub async fn delete(connection: &mut PgConnection, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("delete from subscriptions where id = $1")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes what a provider calls it.
pub async fn set_reference(connection: &mut PgConnection, id: Uuid, reference: &str) -> Result<(), sqlx::Error> {
    sqlx::query("update subscriptions set provider_ref = $2 where id = $1")
        .bind(id)
        .bind(reference)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes what it is in. What is over says when; what is unpaid, since when.
pub async fn set_status(
    connection: &mut PgConnection,
    id: Uuid,
    status: &str,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update subscriptions set status = $2,
           canceled_at = case when $2 in ('canceled', 'expired') then $3 else canceled_at end,
           past_due_since = case when $2 = 'past_due' then coalesce(past_due_since, $3) end
         where id = $1",
    )
    .bind(id)
    .bind(status)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes its period.
pub async fn set_period(
    connection: &mut PgConnection,
    id: Uuid,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query("update subscriptions set current_period_start = $2, current_period_end = $3 where id = $1")
        .bind(id)
        .bind(start)
        .bind(end)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes whether it ends with its period.
pub async fn set_ending(connection: &mut PgConnection, id: Uuid, ends: bool) -> Result<(), sqlx::Error> {
    sqlx::query("update subscriptions set cancel_at_period_end = $2 where id = $1")
        .bind(id)
        .bind(ends)
        .execute(connection)
        .await?;
    Ok(())
}

/// Moves it to another plan.
pub async fn set_plan(connection: &mut PgConnection, id: Uuid, plan: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("update subscriptions set plan_id = $2 where id = $1")
        .bind(id)
        .bind(plan)
        .execute(connection)
        .await?;
    Ok(())
}

/// A page of a tenant's.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    status: Option<&str>,
    plan: Option<Uuid>,
    user: Option<Uuid>,
    page: &PageRequest,
) -> Result<super::Rows<Subscription>, sqlx::Error> {
    let filter = |query: &mut QueryBuilder<sqlx::Postgres>| {
        query.push(format!(" {FROM} where t.tenant_id = ")).push_bind(tenant.0);
        if let Some(status) = status {
            query.push(" and t.status = ").push_bind(status.to_owned());
        }
        if let Some(plan) = plan {
            query.push(" and t.plan_id = ").push_bind(plan);
        }
        if let Some(user) = user {
            query.push(" and t.user_id = ").push_bind(user);
        }
    };
    super::page(connection, COLUMNS, page, filter).await
}

/// Who an account is to a provider.
pub async fn customer(
    connection: &mut PgConnection,
    user: Uuid,
    provider: &str,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("select customer_ref from billing_customers where user_id = $1 and provider = $2")
        .bind(user)
        .bind(provider)
        .fetch_optional(connection)
        .await
}

/// Writes who an account is to a provider.
pub async fn set_customer(
    connection: &mut PgConnection,
    user: Uuid,
    provider: &str,
    customer: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into billing_customers (user_id, provider, customer_ref) values ($1, $2, $3)
         on conflict (user_id, provider) do update set customer_ref = excluded.customer_ref",
    )
    .bind(user)
    .bind(provider)
    .bind(customer)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes a report down. Whether it is a new one.
pub async fn add_report(
    connection: &mut PgConnection,
    provider: &str,
    id: &str,
    kind: &str,
    payload: &Value,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "insert into billing_events (id, provider, provider_event_id, type, payload) values ($1, $2, $3, $4, $5)
         on conflict on constraint billing_events_provider do nothing",
    )
    .bind(Uuid::now_v7())
    .bind(provider)
    .bind(id)
    .bind(kind)
    .bind(payload)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes down that something came of a report.
pub async fn report_done(
    connection: &mut PgConnection,
    provider: &str,
    id: &str,
    tenant: Uuid,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update billing_events set tenant_id = $3, processed_at = $4 where provider = $1 and provider_event_id = $2",
    )
    .bind(provider)
    .bind(id)
    .bind(tenant)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Subscriptions for which the clock has something: tenant and id.
pub async fn due(
    pool: &PgPool,
    now: DateTime<Utc>,
    grace: TimeDelta,
    incomplete_max: TimeDelta,
    trial_notice: TimeDelta,
) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
    sqlx::query_as(
        "select tenant_id, id from subscriptions where
           (status in ('active', 'trialing') and current_period_end <= $1
             and (cancel_at_period_end or provider = 'manual'))
           or (status = 'past_due' and current_period_end <= $2)
           or (status = 'incomplete' and created_at <= $3)
           or (status = 'trialing' and not trial_ending_told and trial_end <= $4)
         order by id limit 500",
    )
    .bind(now)
    .bind(now - grace)
    .bind(now - incomplete_max)
    .bind(now + trial_notice)
    .fetch_all(pool)
    .await
}

/// Writes down that the owner was told of the trial's end. Whether they were not before.
pub async fn tell_trial(connection: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("update subscriptions set trial_ending_told = true where id = $1 and not trial_ending_told")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}
