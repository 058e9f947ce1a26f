//! Rows of coupons.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::billing::CouponTerms;
use crate::call::TenantId;
use crate::page::PageRequest;

/// A coupon.
#[derive(Clone, Debug, serde::Serialize, sqlx::FromRow)]
pub struct Coupon {
    /// Which.
    pub id: Uuid,
    /// What people type.
    pub code: String,
    /// Percent that it takes off.
    pub percent_off: Option<i32>,
    /// Or an amount.
    pub amount_off: Option<f64>,
    /// Of this currency.
    pub currency: Option<String>,
    /// For which plans; all where there are none.
    pub plan_ids: Vec<Uuid>,
    /// For how many periods; for ever without.
    pub duration_cycles: Option<i32>,
    /// How often it may be redeemed.
    pub max_redemptions: Option<i32>,
    /// How often it was.
    pub redeemed_count: i32,
    /// Until when it may be.
    pub valid_until: Option<DateTime<Utc>>,
    /// Whether it is on.
    pub is_active: bool,
    /// Of the row.
    #[serde(skip)]
    pub row_version: i64,
}

impl Coupon {
    /// As far as it decides.
    pub fn terms(&self) -> CouponTerms {
        CouponTerms {
            is_active: self.is_active,
            valid_until: self.valid_until,
            redemptions_max: self.max_redemptions,
            redeemed: self.redeemed_count,
            plan_ids: self.plan_ids.clone(),
            currency: self.currency.clone(),
        }
    }
}

const COLUMNS: &str = "t.id, t.code, t.percent_off, t.amount_off::float8 as amount_off, t.currency, t.plan_ids,
  t.duration_cycles, t.max_redemptions, t.redeemed_count, t.valid_until, t.is_active, t.row_version";

/// One, that nobody else changes meanwhile.
pub async fn lock(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<Option<Coupon>, sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from coupons t where t.tenant_id = $1 and t.id = $2 for update"
    )))
    .bind(tenant.0)
    .bind(id)
    .fetch_optional(connection)
    .await
}

/// The one with this code, that nobody else redeems meanwhile.
pub async fn lock_code(
    connection: &mut PgConnection,
    tenant: TenantId,
    code: &str,
) -> Result<Option<Coupon>, sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from coupons t where t.tenant_id = $1 and t.code = upper($2) for update"
    )))
    .bind(tenant.0)
    .bind(code)
    .fetch_optional(connection)
    .await
}

/// Counts a redemption, or takes one back.
pub async fn redeem(connection: &mut PgConnection, id: Uuid, by: i32) -> Result<(), sqlx::Error> {
    sqlx::query("update coupons set redeemed_count = greatest(redeemed_count + $2, 0) where id = $1")
        .bind(id)
        .bind(by)
        .execute(connection)
        .await?;
    Ok(())
}

/// A page of them.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    is_active: Option<bool>,
    page: &PageRequest,
) -> Result<super::Rows<Coupon>, sqlx::Error> {
    super::page(connection, COLUMNS, page, |query| {
        query.push(" from coupons t where t.tenant_id = ").push_bind(tenant.0);
        if let Some(is_active) = is_active {
            query.push(" and t.is_active = ").push_bind(is_active);
        }
    })
    .await
}

/// Stores one: a new row, or the one with this id anew. How often it was redeemed stays.
pub async fn put(connection: &mut PgConnection, tenant: TenantId, coupon: &Coupon) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into coupons (id, tenant_id, code, percent_off, amount_off, currency, plan_ids, duration_cycles,
           max_redemptions, valid_until, is_active)
         values ($1, $2, $3, $4, $5::float8::numeric(12,2), $6, $7, $8, $9, $10, $11)
         on conflict (id) do update set code = excluded.code, percent_off = excluded.percent_off,
           amount_off = excluded.amount_off, currency = excluded.currency, plan_ids = excluded.plan_ids,
           duration_cycles = excluded.duration_cycles, max_redemptions = excluded.max_redemptions,
           valid_until = excluded.valid_until, is_active = excluded.is_active",
    )
    .bind(coupon.id)
    .bind(tenant.0)
    .bind(&coupon.code)
    .bind(coupon.percent_off)
    .bind(coupon.amount_off)
    .bind(&coupon.currency)
    .bind(&coupon.plan_ids)
    .bind(coupon.duration_cycles)
    .bind(coupon.max_redemptions)
    .bind(coupon.valid_until)
    .bind(coupon.is_active)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes one. What was redeemed stays in force.
pub async fn delete(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("delete from coupons where tenant_id = $1 and id = $2")
        .bind(tenant.0)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}
