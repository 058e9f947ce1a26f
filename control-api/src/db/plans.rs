//! Rows of plans.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::call::TenantId;
use crate::page::PageRequest;

/// A plan.
#[derive(Clone, Debug, serde::Serialize, sqlx::FromRow)]
pub struct Plan {
    /// Which.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: Option<String>,
    /// In the currency's major unit.
    pub price: f64,
    /// ISO 4217.
    pub currency: String,
    /// How often is paid.
    pub billing_cycle: String,
    /// Profiles.
    pub max_profiles: i32,
    /// Streams at once.
    pub max_concurrent_streams: i32,
    /// Devices.
    pub max_devices: i32,
    /// Best quality.
    pub max_quality: String,
    /// Whether it has downloads.
    pub has_downloads: bool,
    /// How many.
    pub allow_download_count: i32,
    /// Whether it has advertisements.
    pub has_ads: bool,
    /// Whether it has high dynamic range.
    pub has_hdr: bool,
    /// Whether it has Dolby Atmos.
    pub has_dolby_atmos: bool,
    /// Days of a trial.
    pub trial_days: i32,
    /// Whether it is on offer.
    pub is_active: bool,
    /// What else it has, for people.
    pub features: Vec<String>,
    /// What it covers.
    pub tier: i32,
    /// Requests a minute of API keys.
    pub rate_limit_per_minute: Option<i32>,
    /// Where it stands among others.
    pub sort_order: i32,
    /// Hours of recordings.
    pub max_dvr_hours: Option<i32>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    pub updated_at: DateTime<Utc>,
    /// Of the row.
    #[serde(skip)]
    pub row_version: i64,
}

/// A plan and how many have it.
#[derive(Clone, Debug, serde::Serialize, sqlx::FromRow)]
pub struct Counted {
    /// The plan.
    #[serde(flatten)]
    #[sqlx(flatten)]
    pub plan: Plan,
    /// Live subscriptions to it.
    pub subscriber_count: i64,
}

const COLUMNS: &str = "t.id, t.name, t.description, t.price::float8 as price, t.currency, t.billing_cycle, t.max_profiles,
  t.max_concurrent_streams, t.max_devices, t.max_quality, t.has_downloads, t.allow_download_count, t.has_ads, t.has_hdr,
  t.has_dolby_atmos, t.trial_days, t.is_active, t.features, t.tier, t.rate_limit_per_minute, t.sort_order, t.max_dvr_hours,
  t.created_at, t.updated_at, t.row_version";
const LIVE: &str = "s.status in ('incomplete', 'active', 'trialing', 'past_due')";

/// Plans on offer.
pub async fn offered(
    connection: &mut PgConnection,
    tenant: TenantId,
    currency: Option<&str>,
    cycle: Option<&str>,
) -> Result<Vec<Plan>, sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from plans t where t.tenant_id = $1 and t.is_active and ($2::text is null or t.currency = $2)
           and ($3::text is null or t.billing_cycle = $3) order by t.sort_order, t.price, t.id"
    )))
    .bind(tenant.0)
    .bind(currency)
    .bind(cycle)
    .fetch_all(connection)
    .await
}

/// One.
pub async fn get(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<Option<Plan>, sqlx::Error> {
    one(connection, tenant, id, "").await
}

/// One, that nobody else changes meanwhile.
pub async fn lock(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<Option<Plan>, sqlx::Error> {
    one(connection, tenant, id, "for update").await
}

/// One, that nobody takes away meanwhile.
pub async fn hold(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<Option<Plan>, sqlx::Error> {
    one(connection, tenant, id, "for share").await
}

async fn one(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: Uuid,
    how: &str,
) -> Result<Option<Plan>, sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from plans t where t.tenant_id = $1 and t.id = $2 {how}"
    )))
    .bind(tenant.0)
    .bind(id)
    .fetch_optional(connection)
    .await
}

/// A page of all plans.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    page: &PageRequest,
) -> Result<super::Rows<Counted>, sqlx::Error> {
    let columns = format!(
        "{COLUMNS}, (select count(*) from subscriptions s where s.plan_id = t.id and {LIVE}) as subscriber_count"
    );
    super::page(connection, &columns, page, |query| {
        query.push(" from plans t where t.tenant_id = ").push_bind(tenant.0);
    })
    .await
}

/// Whether somebody has it now.
pub async fn is_in_use(connection: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(format!(
        "select exists (select 1 from subscriptions s where s.plan_id = $1 and {LIVE})"
    )))
    .bind(id)
    .fetch_one(connection)
    .await
}

/// Whether this account has it now.
pub async fn has(connection: &mut PgConnection, id: Uuid, user: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(format!(
        "select exists (select 1 from subscriptions s where s.plan_id = $1 and s.user_id = $2 and {LIVE})"
    )))
    .bind(id)
    .bind(user)
    .fetch_one(connection)
    .await
}

/// Stores one: a new row, or the one with this id anew.
pub async fn put(connection: &mut PgConnection, tenant: TenantId, plan: &Plan) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into plans (id, tenant_id, name, description, price, currency, billing_cycle, max_profiles,
           max_concurrent_streams, max_devices, max_quality, has_downloads, allow_download_count, has_ads, has_hdr,
           has_dolby_atmos, trial_days, is_active, features, tier, rate_limit_per_minute, sort_order, max_dvr_hours)
         values ($1, $2, $3, $4, $5::float8::numeric(12,2), $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
           $19, $20, $21, $22, $23)
         on conflict (id) do update set name = excluded.name, description = excluded.description, price = excluded.price,
           currency = excluded.currency, billing_cycle = excluded.billing_cycle, max_profiles = excluded.max_profiles,
           max_concurrent_streams = excluded.max_concurrent_streams, max_devices = excluded.max_devices,
           max_quality = excluded.max_quality, has_downloads = excluded.has_downloads,
           allow_download_count = excluded.allow_download_count, has_ads = excluded.has_ads, has_hdr = excluded.has_hdr,
           has_dolby_atmos = excluded.has_dolby_atmos, trial_days = excluded.trial_days, is_active = excluded.is_active,
           features = excluded.features, tier = excluded.tier, rate_limit_per_minute = excluded.rate_limit_per_minute,
           sort_order = excluded.sort_order, max_dvr_hours = excluded.max_dvr_hours",
    )
    .bind(plan.id)
    .bind(tenant.0)
    .bind(&plan.name)
    .bind(&plan.description)
    .bind(plan.price)
    .bind(&plan.currency)
    .bind(&plan.billing_cycle)
    .bind(plan.max_profiles)
    .bind(plan.max_concurrent_streams)
    .bind(plan.max_devices)
    .bind(&plan.max_quality)
    .bind(plan.has_downloads)
    .bind(plan.allow_download_count)
    .bind(plan.has_ads)
    .bind(plan.has_hdr)
    .bind(plan.has_dolby_atmos)
    .bind(plan.trial_days)
    .bind(plan.is_active)
    .bind(&plan.features)
    .bind(plan.tier)
    .bind(plan.rate_limit_per_minute)
    .bind(plan.sort_order)
    .bind(plan.max_dvr_hours)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes one. Fails where somebody ever had it.
pub async fn delete(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("delete from plans where tenant_id = $1 and id = $2")
        .bind(tenant.0)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}
