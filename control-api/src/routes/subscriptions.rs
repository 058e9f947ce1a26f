//! Subscriptions: bought, changed, ended by their owners; given by admins (BL).

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::billing::payment::{Change, Discount, Order, PaymentError, PaymentProvider, Placed, Priced};
use crate::billing::{Cycle, Happening, Status};
use crate::call::{Call, TenantId};
use crate::db;
use crate::db::coupons::{self, Coupon};
use crate::db::plans::{self, Plan};
use crate::db::subscriptions::{self, NewSubscription, Subscription};
use crate::db::{profiles, users};
use crate::error::{ApiError, Code, breaks};
use crate::operation::{Answer, Caller, Endpoint, delete, get, patch, post};
use crate::page::NEWEST;
use crate::reply::Reply;
use crate::routes::billing::happen;
use crate::schema::{Schema, absent, date_time, object, optional, page, read_only, required, text, uuid};
use crate::work::Work;

const STATUSES: &[&str] = &["incomplete", "active", "trialing", "past_due", "canceled", "expired"];

/// Their operations.
pub fn endpoints() -> Vec<Endpoint> {
    let created = object([
        required("subscription_id", uuid()),
        optional("client_secret", text(1, 500)),
        required("status", Schema::Enum(STATUSES)),
        required("subscription", schema()),
    ]);
    vec![
        get("subs.current", "/subscriptions/current", Caller::Any, current)
            .summary("One's present subscription")
            .reply(200, schema())
            .errors(&[Code::NoActiveSubscription]),
        post("subs.create", "/subscriptions", Caller::Jwt, create)
            .summary("Subscribe to a plan")
            .json(object([
                required("plan_id", uuid()),
                optional("payment_method", text(1, 255)),
                optional("coupon_code", text(1, 40)),
            ]))
            .reply(201, created.named("NewSubscription"))
            .errors(&[
                Code::SubscriptionExists,
                Code::PaymentFailed,
                Code::CouponInvalid,
                Code::UpstreamError,
            ])
            .idempotent()
            .cache_control("no-store")
            .rules("BL-2, BL-3, BL-5"),
        patch("subs.update", "/subscriptions/{subscription_id}", Caller::Jwt, update)
            .summary("Change plan, payment or end of one's subscription")
            .json(changeable())
            .reply(200, schema())
            .errors(&[Code::PaymentFailed, Code::UpstreamError, Code::InvalidStateTransition])
            .if_match()
            .idempotent()
            .rules("BL-2, BL-5, BL-6"),
        delete("subs.cancel", "/subscriptions/{subscription_id}", Caller::Jwt, cancel)
            .summary("End one's subscription now")
            .reply(200, schema())
            .errors(&[Code::InvalidStateTransition, Code::UpstreamError])
            .rules("BL-5"),
        get("subs.admin_list", "/admin/subscriptions", Caller::Admin, list)
            .summary("Subscriptions of the tenant")
            .list()
            .query("status", Schema::Enum(STATUSES))
            .query("plan_id", uuid())
            .query("user_id", uuid())
            .reply(200, page(schema())),
        post("subs.grant", "/admin/subscriptions", Caller::Admin, grant)
            .summary("Give somebody a subscription that ends by itself")
            .json(object([
                required("user_id", uuid()),
                required("plan_id", uuid()),
                required("current_period_end", date_time()),
            ]))
            .reply(201, schema())
            .errors(&[Code::SubscriptionExists])
            .idempotent()
            .rules("BL-3"),
    ]
}

fn changeable() -> Schema {
    let ignored = [
        "id",
        "plan",
        "status",
        "current_period_start",
        "current_period_end",
        "trial_end",
        "coupon_code",
        "provider",
        "created_at",
        "updated_at",
        "canceled_at",
    ];
    let fields = vec![
        absent("plan_id", uuid()),
        absent("cancel_at_period_end", Schema::Bool),
        absent("payment_method", text(1, 255)),
    ];
    object(
        fields
            .into_iter()
            .chain(ignored.map(|name| read_only(name, Schema::Any))),
    )
}

/// A subscription.
pub fn schema() -> Schema {
    object([
        required("id", uuid()),
        required("plan_id", uuid()),
        required("plan", text(1, 100)),
        required("status", Schema::Enum(STATUSES)),
        required("current_period_start", date_time()),
        required("current_period_end", date_time()),
        required("cancel_at_period_end", Schema::Bool),
        optional("trial_end", date_time()),
        optional("coupon_code", text(1, 40)),
        required("provider", text(1, 50)),
        required("created_at", date_time()),
        required("updated_at", date_time()),
        optional("canceled_at", date_time()),
    ])
    .named("Subscription")
}

async fn current(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let found = subscriptions::current(&mut connection, call.user_id()?).await?;
    shown(&found.ok_or(Code::NoActiveSubscription)?)
}

fn shown(row: &Subscription) -> Answer {
    Reply::json(200, row)?.version(row.row_version, None)
}

/// What is told of a subscription.
pub fn told(row: &Subscription) -> Result<Value, ApiError> {
    let mut payload = serde_json::to_value(row).map_err(ApiError::internal)?;
    payload["user_id"] = json!(row.user_id);
    Ok(payload)
}

fn priced(plan: &Plan) -> Priced {
    Priced {
        plan: plan.id,
        name: plan.name.clone(),
        price_cents: cents(plan.price),
        currency: plan.currency.clone(),
        cycle: Cycle::of(&plan.billing_cycle),
    }
}

fn cents(amount: f64) -> i64 {
    // Bounded by the schema far below what an integer holds.
    #[allow(clippy::cast_possible_truncation)]
    let cents = (amount * 100.0).round() as i64;
    cents
}

fn failed(error: &PaymentError) -> ApiError {
    match error {
        PaymentError::Declined => Code::PaymentFailed.into(),
        PaymentError::Upstream(_) => ApiError {
            cause: Some(error.to_string()),
            ..ApiError::new(Code::UpstreamError)
        },
    }
}

/// A plan that may be subscribed to.
async fn plan_on_offer(connection: &mut PgConnection, call: &Call, id: Uuid) -> Result<Plan, ApiError> {
    match plans::hold(connection, call.tenant, id).await? {
        Some(plan) if plan.is_active => Ok(plan),
        Some(_) => Err(ApiError::invalid("plan_id", "is not on offer")),
        None => Err(not_a_plan(connection, call, id).await),
    }
}

async fn not_a_plan(connection: &mut PgConnection, call: &Call, id: Uuid) -> ApiError {
    match db::missing(connection, "plans", id, call).await {
        error if error.code == Code::NotFound => ApiError::invalid("plan_id", "is not a plan"),
        error => error,
    }
}

/// Redeems a coupon, if it may be.
async fn redeemed(work: &mut Work, code: &str, plan: &Plan) -> Result<Coupon, ApiError> {
    let (tenant, now) = (work.tenant, work.now);
    let found = coupons::lock_code(work.connection(), tenant, code).await?;
    let valid = found.filter(|coupon| coupon.terms().is_valid(plan.id, &plan.currency, now));
    let coupon = valid.ok_or(Code::CouponInvalid)?;
    coupons::redeem(work.connection(), coupon.id, 1).await?;
    Ok(coupon)
}

#[derive(Deserialize)]
struct Wanted {
    plan_id: Uuid,
    payment_method: Option<String>,
    coupon_code: Option<String>,
}

/// Buying is two transactions where somebody else takes the money: the place is taken first, then they are asked, then
/// what they said is written. Nothing is locked while they are asked.
async fn create(app: Arc<App>, call: Call) -> Answer {
    let wanted: Wanted = call.body()?;
    let mut work = Work::begin(&app, &call).await?;
    let (order, provider) = reserve(&app, &mut work, &call, wanted).await?;
    if provider.name() == "manual" {
        let placed = provider.create(&order).await.map_err(|error| failed(&error))?;
        return settle(work, &order, &placed).await;
    }
    work.commit().await?;
    match provider.create(&order).await {
        Ok(placed) => settle(Work::begin(&app, &call).await?, &order, &placed).await,
        Err(error) => {
            let mut work = Work::begin(&app, &call).await?;
            let (tenant, id) = (work.tenant, order.subscription);
            let row = subscriptions::lock(work.connection(), tenant, id).await?;
            if row.is_some_and(|row| row.status == Status::Incomplete.name()) {
                subscriptions::delete(work.connection(), id).await?;
                if let Some(discount) = &order.discount {
                    coupons::redeem(work.connection(), discount.coupon, -1).await?;
                }
                work.commit().await?;
            }
            Err(failed(&error))
        }
    }
}

/// Takes the account's place for a subscription, and says what is to be bought of whom.
async fn reserve(
    app: &Arc<App>,
    work: &mut Work,
    call: &Call,
    wanted: Wanted,
) -> Result<(Order, Arc<dyn PaymentProvider>), ApiError> {
    let user = call.user_id()?;
    profiles::lock_account(work.connection(), user).await?;
    let account = users::get(work.connection(), call.tenant, user)
        .await?
        .ok_or(Code::Unauthorized)?;
    if subscriptions::current(work.connection(), user).await?.is_some() {
        return Err(Code::SubscriptionExists.into());
    }
    let plan = plan_on_offer(work.connection(), call, wanted.plan_id).await?;
    // What costs nothing needs nobody to take it.
    let name = match plan.price > 0.0 {
        true => app.settings().billing.provider.as_str(),
        false => "manual",
    };
    let provider = app
        .payment(name)
        .ok_or_else(|| ApiError::internal("no such payment provider"))?;
    if provider.needs_payment_method() && wanted.payment_method.is_none() {
        return Err(ApiError::invalid("payment_method", "is missing"));
    }
    let coupon = match &wanted.coupon_code {
        Some(code) => Some(redeemed(work, code, &plan).await?),
        None => None,
    };
    // One trial an account.
    let is_trial = plan.trial_days > 0 && !subscriptions::had_trial(work.connection(), user).await?;
    let trial_end = is_trial.then(|| call.now + TimeDelta::days(plan.trial_days.into()));
    let priced = priced(&plan);
    let new = NewSubscription {
        id: Uuid::now_v7(),
        user,
        plan: plan.id,
        status: Status::Incomplete.name(),
        provider: provider.name(),
        start: call.now,
        end: trial_end.unwrap_or_else(|| priced.cycle.end(call.now)),
        cancel_at_period_end: false,
        is_gift: false,
        trial_end,
        coupon: coupon
            .as_ref()
            .map(|coupon| (coupon.id, coupon.code.clone(), coupon.duration_cycles)),
    };
    insert(work, &new).await?;
    let order = Order {
        subscription: new.id,
        user,
        email: account.email,
        customer: subscriptions::customer(work.connection(), user, provider.name()).await?,
        priced,
        trial_end,
        discount: coupon.map(|coupon| Discount {
            coupon: coupon.id,
            percent_off: coupon.percent_off,
            amount_off_cents: coupon.amount_off.map(cents),
            cycles: coupon.duration_cycles,
        }),
        payment_method: wanted.payment_method,
    };
    Ok((order, provider))
}

async fn insert(work: &mut Work, new: &NewSubscription<'_>) -> Result<(), ApiError> {
    let tenant = work.tenant;
    match subscriptions::insert(work.connection(), tenant, new).await {
        Err(error) if breaks(&error, "subscriptions_live") => Err(Code::SubscriptionExists.into()),
        other => Ok(other?),
    }
}

/// Writes what the provider said of a new subscription. Its reports may have been faster.
async fn settle(mut work: Work, order: &Order, placed: &Placed) -> Answer {
    let (tenant, id, now) = (work.tenant, order.subscription, work.now);
    let row = locked(&mut work, tenant, id).await?;
    if let Some(reference) = &placed.reference {
        subscriptions::set_reference(work.connection(), id, reference).await?;
    }
    if let Some(customer) = &placed.customer {
        subscriptions::set_customer(work.connection(), order.user, &row.provider, customer).await?;
    }
    if let Some(end) = placed.period_end {
        subscriptions::set_period(work.connection(), id, row.current_period_start, end).await?;
    }
    if row.status == Status::Incomplete.name() && placed.status != Status::Incomplete {
        subscriptions::set_status(work.connection(), id, placed.status.name(), now).await?;
    }
    let row = locked(&mut work, tenant, id).await?;
    begun(&mut work, &row).await?;
    let mut body = json!({ "subscription_id": id, "status": row.status, "subscription": row });
    if let Some(secret) = &placed.client_secret {
        body["client_secret"] = json!(secret);
    }
    let reply = Reply::created(&format!("/api/v1/subscriptions/{id}"), &body)?;
    work.finish(reply).await
}

async fn begun(work: &mut Work, row: &Subscription) -> Result<(), ApiError> {
    work.invalidate("subscription", row.user_id, 0).await?;
    work.emit("subscription.created", Some(row.user_id), told(row)?).await?;
    let metadata = json!({ "plan_id": row.plan_id, "user_id": row.user_id, "provider": row.provider });
    work.audit("subscription.created", "subscription", Some(row.id), metadata)
        .await
}

/// One that is there, locked.
pub async fn locked(work: &mut Work, tenant: TenantId, id: Uuid) -> Result<Subscription, ApiError> {
    let row = subscriptions::lock(work.connection(), tenant, id).await?;
    row.ok_or_else(|| ApiError::internal("a subscription is gone"))
}

/// The caller's subscription in the path, locked, while it may be changed.
async fn own(work: &mut Work, call: &Call) -> Result<Subscription, ApiError> {
    let id = call.path_id("subscription_id")?;
    let row = match subscriptions::lock(work.connection(), call.tenant, id).await? {
        Some(row) if row.user_id == call.user_id()? => row,
        Some(_) => return Err(Code::NotFound.into()),
        None => return Err(db::missing(work.connection(), "subscriptions", id, call).await),
    };
    call.check_version(row.row_version)?;
    match Status::of(&row.status) {
        Some(status) if !status.is_over() => Ok(row),
        _ => Err(Code::InvalidStateTransition.into()),
    }
}

#[derive(Deserialize)]
struct Wish {
    plan_id: Option<Uuid>,
    cancel_at_period_end: Option<bool>,
    payment_method: Option<String>,
}

/// Refuses changes of a subscription of which no provider can be asked, where one would have to be (BL-2), and of a gift what
/// it was not given for.
fn check_unasked(app: &App, row: &Subscription, plan: Option<&Plan>, ends: Option<bool>) -> Result<(), ApiError> {
    let has_price = plan.is_some_and(|plan| plan.price > 0.0);
    if row.is_gift && (has_price || ends == Some(false)) {
        let message = "A gift ends when it was given to end, on a plan without a price or its own.";
        return Err(ApiError::with(Code::InvalidStateTransition, message));
    }
    let is_paid_elsewhere = row.provider == "manual" && app.settings().billing.provider == "manual";
    if has_price && !is_paid_elsewhere {
        let message = "Nothing pays for this subscription: end it, and subscribe to the plan.";
        return Err(ApiError::with(Code::PaymentFailed, message));
    }
    Ok(())
}

async fn update(app: Arc<App>, call: Call) -> Answer {
    let wish: Wish = call.body()?;
    let mut work = Work::begin(&app, &call).await?;
    let row = own(&mut work, &call).await?;
    if row.status == Status::Incomplete.name() {
        return Err(Code::InvalidStateTransition.into());
    }
    let plan = match wish.plan_id.filter(|plan| *plan != row.plan_id) {
        Some(id) => Some(plan_on_offer(work.connection(), &call, id).await?),
        None => None,
    };
    if let (Some(reference), Some(provider)) = (&row.provider_ref, app.payment(&row.provider)) {
        drop(work);
        let change = Change {
            priced: plan.as_ref().map(priced),
            cancel_at_period_end: wish.cancel_at_period_end,
            payment_method: wish.payment_method,
        };
        provider
            .update(reference, &change)
            .await
            .map_err(|error| failed(&error))?;
        work = Work::begin(&app, &call).await?;
        locked(&mut work, call.tenant, row.id).await?;
    } else {
        check_unasked(&app, &row, plan.as_ref(), wish.cancel_at_period_end)?;
    }
    if let Some(plan) = &plan {
        subscriptions::set_plan(work.connection(), row.id, plan.id).await?;
    }
    if let Some(ends) = wish.cancel_at_period_end {
        subscriptions::set_ending(work.connection(), row.id, ends).await?;
    }
    let row = locked(&mut work, call.tenant, row.id).await?;
    work.invalidate("subscription", row.user_id, 0).await?;
    work.emit("subscription.updated", Some(row.user_id), told(&row)?)
        .await?;
    let metadata = json!({ "plan_id": row.plan_id, "cancel_at_period_end": row.cancel_at_period_end });
    work.audit("subscription.updated", "subscription", Some(row.id), metadata)
        .await?;
    work.finish(shown(&row)?).await
}

async fn cancel(app: Arc<App>, call: Call) -> Answer {
    let mut work = Work::begin(&app, &call).await?;
    let row = own(&mut work, &call).await?;
    if let (Some(reference), Some(provider)) = (&row.provider_ref, app.payment(&row.provider)) {
        drop(work);
        provider.cancel(reference).await.map_err(|error| failed(&error))?;
        work = Work::begin(&app, &call).await?;
    }
    // A report of it may have been faster: then nothing more comes of it.
    let row = locked(&mut work, call.tenant, row.id).await?;
    happen(&mut work, &row, Happening::Ended).await?;
    work.audit("subscription.canceled", "subscription", Some(row.id), json!({}))
        .await?;
    let row = locked(&mut work, call.tenant, row.id).await?;
    work.finish(shown(&row)?).await
}

async fn list(app: Arc<App>, call: Call) -> Answer {
    let (status, plan, user) = (
        call.query_text("status"),
        call.query_id("plan_id"),
        call.query_id("user_id"),
    );
    let page = call.page(&NEWEST, &format!("subscriptions {status:?} {plan:?} {user:?}"))?;
    let mut connection = app.db.acquire().await?;
    let (rows, total) = subscriptions::list(&mut connection, call.tenant, status, plan, user, &page).await?;
    page.answer(rows, total, &call.target)
}

#[derive(Deserialize)]
struct Gift {
    user_id: Uuid,
    plan_id: Uuid,
    current_period_end: DateTime<Utc>,
}

async fn grant(app: Arc<App>, call: Call) -> Answer {
    let gift: Gift = call.body()?;
    if gift.current_period_end <= call.now {
        return Err(ApiError::invalid("current_period_end", "must be in the future"));
    }
    let mut work = Work::begin(&app, &call).await?;
    if users::lock(work.connection(), call.tenant, gift.user_id)
        .await?
        .is_none()
    {
        return Err(
            match db::missing(work.connection(), "users", gift.user_id, &call).await {
                error if error.code == Code::NotFound => ApiError::invalid("user_id", "is not a user"),
                error => error,
            },
        );
    }
    if subscriptions::current(work.connection(), gift.user_id).await?.is_some() {
        return Err(Code::SubscriptionExists.into());
    }
    if plans::hold(work.connection(), call.tenant, gift.plan_id)
        .await?
        .is_none()
    {
        return Err(not_a_plan(work.connection(), &call, gift.plan_id).await);
    }
    let new = NewSubscription {
        id: Uuid::now_v7(),
        user: gift.user_id,
        plan: gift.plan_id,
        status: Status::Active.name(),
        provider: "manual",
        start: call.now,
        end: gift.current_period_end,
        cancel_at_period_end: true,
        is_gift: true,
        trial_end: None,
        coupon: None,
    };
    insert(&mut work, &new).await?;
    let row = locked(&mut work, call.tenant, new.id).await?;
    begun(&mut work, &row).await?;
    let reply = Reply::created(&format!("/api/v1/subscriptions/{}", row.id), &row)?.version(row.row_version, None)?;
    work.finish(reply).await
}
