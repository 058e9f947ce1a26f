//! Plans and coupons: what is on offer, and what admins make of it (BL-1, BL-6).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::billing::CYCLES;
use crate::call::Call;
use crate::db;
use crate::db::coupons::{self, Coupon};
use crate::db::plans::{self, Plan};
use crate::error::{ApiError, Code, breaks};
use crate::operation::{Answer, Caller, Endpoint, delete, get, post, put};
use crate::page::NEWEST;
use crate::reply::Reply;
use crate::schema::{
    Field, Format, Schema, absent, array, data, date_time, formatted, integer, object, optional, page, read_only,
    required, text, uuid,
};
use crate::work::Work;

/// Most that anything costs.
const PRICE_MAX: f64 = 9_999_999_999.99;
const QUALITIES: &[&str] = &["SD", "HD", "FHD", "UHD"];

/// Their operations.
pub fn endpoints() -> Vec<Endpoint> {
    let currency = || formatted(Format::Currency, 3, 3);
    let counted = |count: Field| object(plan_fields().into_iter().chain([count]));
    let subscribers = || integer(0, i64::MAX);
    vec![
        get("plans.list", "/plans", Caller::Public, list)
            .summary("Plans on offer")
            .query("currency", currency())
            .query("billing_cycle", Schema::Enum(CYCLES))
            .reply(200, data(plan_schema()))
            .etag()
            .rules("BL-1"),
        get("plans.get", "/plans/{plan_id}", Caller::Public, one)
            .summary("A plan")
            .reply(200, plan_schema())
            .etag()
            .rules("BL-1"),
        get("plans.admin_list", "/admin/plans", Caller::Admin, list_all)
            .summary("All plans, and how many have each")
            .list()
            .reply(
                200,
                page(counted(required("subscriber_count", subscribers())).named("CountedPlan")),
            ),
        post("plans.create", "/admin/plans", Caller::Admin, create)
            .summary("Make a plan")
            .json(plan_schema())
            .reply(201, plan_schema())
            .errors(&[Code::NameTaken])
            .idempotent(),
        put("plans.update", "/admin/plans/{plan_id}", Caller::Admin, replace)
            .summary("Replace a plan. What it costs is fixed once somebody has it")
            .json(counted(read_only("subscriber_count", subscribers())).named("PlanReplacement"))
            .reply(200, plan_schema())
            .errors(&[Code::NameTaken, Code::PlanInUse])
            .if_match()
            .rules("BL-6"),
        delete("plans.delete", "/admin/plans/{plan_id}", Caller::Admin, remove)
            .summary("Delete a plan that nobody has")
            .empty(204)
            .errors(&[Code::PlanInUse])
            .if_match(),
        get("coupons.list", "/admin/coupons", Caller::Admin, list_coupons)
            .summary("Coupons")
            .list()
            .query("is_active", Schema::Bool)
            .reply(200, page(coupon_schema())),
        post("coupons.create", "/admin/coupons", Caller::Admin, create_coupon)
            .summary("Make a coupon")
            .json(coupon_schema())
            .reply(201, coupon_schema())
            .errors(&[Code::NameTaken])
            .idempotent(),
        put(
            "coupons.update",
            "/admin/coupons/{coupon_id}",
            Caller::Admin,
            replace_coupon,
        )
        .summary("Replace a coupon")
        .json(coupon_schema())
        .reply(200, coupon_schema())
        .errors(&[Code::NameTaken])
        .if_match(),
        delete(
            "coupons.delete",
            "/admin/coupons/{coupon_id}",
            Caller::Admin,
            remove_coupon,
        )
        .summary("Delete a coupon; redeemed ones stay in force")
        .empty(204)
        .if_match(),
    ]
}

fn plan_fields() -> Vec<Field> {
    let count = |least| integer(least, i32::MAX.into());
    vec![
        read_only("id", uuid()),
        required("name", text(1, 100)),
        optional("description", text(0, 2000)),
        required(
            "price",
            Schema::Number {
                min: 0.0,
                max: PRICE_MAX,
            },
        ),
        required("currency", formatted(Format::Currency, 3, 3)),
        required("billing_cycle", Schema::Enum(CYCLES)),
        required("max_profiles", count(1)),
        required("max_concurrent_streams", count(1)),
        required("max_devices", count(1)),
        required("max_quality", Schema::Enum(QUALITIES)),
        required("has_downloads", Schema::Bool),
        absent("allow_download_count", count(0)),
        absent("has_ads", Schema::Bool),
        absent("has_hdr", Schema::Bool),
        absent("has_dolby_atmos", Schema::Bool),
        absent("trial_days", integer(0, 3650)),
        absent("is_active", Schema::Bool),
        absent("features", array(text(1, 200), 0, 100)),
        required("tier", integer(0, 9)),
        optional("rate_limit_per_minute", count(1)),
        absent("sort_order", integer(i32::MIN.into(), i32::MAX.into())),
        optional("max_dvr_hours", count(0)),
        read_only("created_at", date_time()),
        read_only("updated_at", date_time()),
    ]
}

fn plan_schema() -> Schema {
    object(plan_fields()).named("Plan")
}

fn coupon_schema() -> Schema {
    let amount = Schema::Number {
        min: 0.01,
        max: PRICE_MAX,
    };
    object([
        read_only("id", uuid()),
        required("code", text(3, 40)),
        optional("percent_off", integer(1, 100)),
        optional("amount_off", amount),
        optional("currency", formatted(Format::Currency, 3, 3)),
        absent("plan_ids", array(uuid(), 0, 100)),
        optional("duration_cycles", integer(1, 1200)),
        optional("max_redemptions", integer(1, i32::MAX.into())),
        read_only("redeemed_count", integer(0, i64::MAX)),
        optional("valid_until", date_time()),
        absent("is_active", Schema::Bool),
    ])
    .named("Coupon")
}

async fn list(app: Arc<App>, call: Call) -> Answer {
    let currency = call.query_text("currency").map(str::to_uppercase);
    let mut connection = app.db.acquire().await?;
    let cycle = call.query_text("billing_cycle");
    let rows = plans::offered(&mut connection, call.tenant, currency.as_deref(), cycle).await?;
    Reply::json(200, &json!({ "data": rows }))?.weak()
}

async fn one(app: Arc<App>, call: Call) -> Answer {
    let id = call.path_id("plan_id")?;
    let mut connection = app.db.acquire().await?;
    let Some(plan) = plans::get(&mut connection, call.tenant, id).await? else {
        return Err(db::missing(&mut connection, "plans", id, &call).await);
    };
    if !plan.is_active && !call.administrates() {
        let has = match call.user_id() {
            Ok(user) => plans::has(&mut connection, id, user).await?,
            Err(_) => false,
        };
        if !has {
            return Err(Code::NotFound.into());
        }
    }
    shown(&plan)
}

fn shown(plan: &Plan) -> Answer {
    Reply::json(200, plan)?.version(plan.row_version, None)
}

async fn list_all(app: Arc<App>, call: Call) -> Answer {
    let page = call.page(&NEWEST, "plans")?;
    let mut connection = app.db.acquire().await?;
    let (rows, total) = plans::list(&mut connection, call.tenant, &page).await?;
    page.answer(rows, total, &call.target)
}

#[derive(Deserialize)]
struct PlanBody {
    name: String,
    description: Option<String>,
    price: f64,
    currency: String,
    billing_cycle: String,
    max_profiles: i32,
    max_concurrent_streams: i32,
    max_devices: i32,
    max_quality: String,
    has_downloads: bool,
    #[serde(default)]
    allow_download_count: i32,
    #[serde(default)]
    has_ads: bool,
    #[serde(default)]
    has_hdr: bool,
    #[serde(default)]
    has_dolby_atmos: bool,
    #[serde(default)]
    trial_days: i32,
    is_active: Option<bool>,
    #[serde(default)]
    features: Vec<String>,
    tier: i32,
    rate_limit_per_minute: Option<i32>,
    #[serde(default)]
    sort_order: i32,
    max_dvr_hours: Option<i32>,
}

impl PlanBody {
    fn into_plan(self, id: Uuid, now: DateTime<Utc>) -> Plan {
        Plan {
            id,
            name: self.name,
            description: self.description,
            // As the database keeps it.
            price: (self.price * 100.0).round() / 100.0,
            currency: self.currency.to_uppercase(),
            billing_cycle: self.billing_cycle,
            max_profiles: self.max_profiles,
            max_concurrent_streams: self.max_concurrent_streams,
            max_devices: self.max_devices,
            max_quality: self.max_quality,
            has_downloads: self.has_downloads,
            allow_download_count: self.allow_download_count,
            has_ads: self.has_ads,
            has_hdr: self.has_hdr,
            has_dolby_atmos: self.has_dolby_atmos,
            trial_days: self.trial_days,
            is_active: self.is_active.unwrap_or(true),
            features: self.features,
            tier: self.tier,
            rate_limit_per_minute: self.rate_limit_per_minute,
            sort_order: self.sort_order,
            max_dvr_hours: self.max_dvr_hours,
            created_at: now,
            updated_at: now,
            row_version: 1,
        }
    }
}

async fn store(work: &mut Work, plan: &Plan) -> Result<Plan, ApiError> {
    let tenant = work.tenant;
    match plans::put(work.connection(), tenant, plan).await {
        Err(error) if breaks(&error, "plans_name") => return Err(Code::NameTaken.into()),
        other => other?,
    }
    let stored = plans::get(work.connection(), tenant, plan.id).await?;
    let stored = stored.ok_or_else(|| ApiError::internal("a stored plan is gone"))?;
    work.invalidate("plan", stored.id, stored.row_version).await?;
    Ok(stored)
}

async fn create(app: Arc<App>, call: Call) -> Answer {
    let plan = call.body::<PlanBody>()?.into_plan(Uuid::now_v7(), call.now);
    let mut work = Work::begin(&app, &call).await?;
    let plan = store(&mut work, &plan).await?;
    work.audit("plan.created", "plan", Some(plan.id), json!({ "name": plan.name }))
        .await?;
    let reply = Reply::created(&format!("/api/v1/plans/{}", plan.id), &plan)?.version(plan.row_version, None)?;
    work.finish(reply).await
}

/// The plan in the path, locked, as the caller thinks it is.
async fn locked(connection: &mut PgConnection, call: &Call) -> Result<Plan, ApiError> {
    let id = call.path_id("plan_id")?;
    let Some(plan) = plans::lock(connection, call.tenant, id).await? else {
        return Err(db::missing(connection, "plans", id, call).await);
    };
    call.check_version(plan.row_version)?;
    Ok(plan)
}

async fn replace(app: Arc<App>, call: Call) -> Answer {
    let wanted: PlanBody = call.body()?;
    let mut work = Work::begin(&app, &call).await?;
    let before = locked(work.connection(), &call).await?;
    let plan = wanted.into_plan(before.id, call.now);
    let is_dearer = (plan.price - before.price).abs() > 0.001
        || plan.currency != before.currency
        || plan.billing_cycle != before.billing_cycle;
    if is_dearer && plans::is_in_use(work.connection(), before.id).await? {
        return Err(ApiError::with(
            Code::PlanInUse,
            "Price, currency and cycle are fixed while somebody has the plan.",
        ));
    }
    let plan = store(&mut work, &plan).await?;
    work.audit("plan.updated", "plan", Some(plan.id), json!({ "name": plan.name }))
        .await?;
    work.finish(shown(&plan)?).await
}

async fn remove(app: Arc<App>, call: Call) -> Answer {
    let mut work = Work::begin(&app, &call).await?;
    let plan = locked(work.connection(), &call).await?;
    match plans::delete(work.connection(), call.tenant, plan.id).await {
        // Who had it once still names it.
        Err(error) if breaks(&error, "subscriptions_plan_id_fkey") => return Err(Code::PlanInUse.into()),
        other => other?,
    }
    work.invalidate("plan", plan.id, plan.row_version + 1).await?;
    work.audit("plan.deleted", "plan", Some(plan.id), json!({ "name": plan.name }))
        .await?;
    work.finish(Reply::empty(204)).await
}

#[derive(Deserialize)]
struct CouponBody {
    code: String,
    percent_off: Option<i32>,
    amount_off: Option<f64>,
    currency: Option<String>,
    #[serde(default)]
    plan_ids: Vec<Uuid>,
    duration_cycles: Option<i32>,
    max_redemptions: Option<i32>,
    valid_until: Option<DateTime<Utc>>,
    is_active: Option<bool>,
}

impl CouponBody {
    /// What a schema can not say: the letters of a code, and that exactly one kind of discount is named.
    fn check(self, id: Uuid) -> Result<Coupon, ApiError> {
        let is_letter = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        if !self.code.bytes().all(is_letter) {
            return Err(ApiError::invalid("code", "must be of A to Z, 0 to 9, _ and -"));
        }
        if self.percent_off.is_some() == self.amount_off.is_some() {
            return Err(ApiError::invalid(
                "percent_off",
                "exactly one of percent_off and amount_off",
            ));
        }
        if self.amount_off.is_some() != self.currency.is_some() {
            return Err(ApiError::invalid("currency", "goes with amount_off"));
        }
        Ok(Coupon {
            id,
            code: self.code,
            percent_off: self.percent_off,
            amount_off: self.amount_off,
            currency: self.currency.map(|currency| currency.to_uppercase()),
            plan_ids: self.plan_ids,
            duration_cycles: self.duration_cycles,
            max_redemptions: self.max_redemptions,
            redeemed_count: 0,
            valid_until: self.valid_until,
            is_active: self.is_active.unwrap_or(true),
            row_version: 1,
        })
    }
}

async fn list_coupons(app: Arc<App>, call: Call) -> Answer {
    let is_active = call.query_flag("is_active");
    let page = call.page(&NEWEST, &format!("coupons {is_active:?}"))?;
    let mut connection = app.db.acquire().await?;
    let (rows, total) = coupons::list(&mut connection, call.tenant, is_active, &page).await?;
    page.answer(rows, total, &call.target)
}

async fn store_coupon(work: &mut Work, coupon: &Coupon) -> Result<Coupon, ApiError> {
    let tenant = work.tenant;
    for plan in &coupon.plan_ids {
        if plans::get(work.connection(), tenant, *plan).await?.is_none() {
            return Err(ApiError::invalid("plan_ids", format!("{plan} is not a plan")));
        }
    }
    match coupons::put(work.connection(), tenant, coupon).await {
        Err(error) if breaks(&error, "coupons_code") => return Err(Code::NameTaken.into()),
        other => other?,
    }
    let stored = coupons::lock(work.connection(), tenant, coupon.id).await?;
    stored.ok_or_else(|| ApiError::internal("a stored coupon is gone"))
}

async fn create_coupon(app: Arc<App>, call: Call) -> Answer {
    let coupon = call.body::<CouponBody>()?.check(Uuid::now_v7())?;
    let mut work = Work::begin(&app, &call).await?;
    let coupon = store_coupon(&mut work, &coupon).await?;
    work.audit(
        "coupon.created",
        "coupon",
        Some(coupon.id),
        json!({ "code": coupon.code }),
    )
    .await?;
    let location = format!("/api/v1/admin/coupons/{}", coupon.id);
    let reply = Reply::created(&location, &coupon)?.version(coupon.row_version, None)?;
    work.finish(reply).await
}

/// The coupon in the path, locked, as the caller thinks it is.
async fn locked_coupon(connection: &mut PgConnection, call: &Call) -> Result<Coupon, ApiError> {
    let id = call.path_id("coupon_id")?;
    match coupons::lock(connection, call.tenant, id).await? {
        Some(coupon) => {
            call.check_version(coupon.row_version)?;
            Ok(coupon)
        }
        None => Err(db::missing(connection, "coupons", id, call).await),
    }
}

async fn replace_coupon(app: Arc<App>, call: Call) -> Answer {
    let wanted: CouponBody = call.body()?;
    let mut work = Work::begin(&app, &call).await?;
    let before = locked_coupon(work.connection(), &call).await?;
    let coupon = store_coupon(&mut work, &wanted.check(before.id)?).await?;
    work.audit(
        "coupon.updated",
        "coupon",
        Some(coupon.id),
        json!({ "code": coupon.code }),
    )
    .await?;
    let reply = Reply::json(200, &coupon)?.version(coupon.row_version, None)?;
    work.finish(reply).await
}

async fn remove_coupon(app: Arc<App>, call: Call) -> Answer {
    let mut work = Work::begin(&app, &call).await?;
    let coupon = locked_coupon(work.connection(), &call).await?;
    coupons::delete(work.connection(), call.tenant, coupon.id).await?;
    work.audit(
        "coupon.deleted",
        "coupon",
        Some(coupon.id),
        json!({ "code": coupon.code }),
    )
    .await?;
    work.finish(Reply::empty(204)).await
}
