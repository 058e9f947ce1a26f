//! Billing: what payment providers report and what the clock brings to subscriptions (BL-4, BL-5).

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::Value;

use crate::app::App;
use crate::billing::payment::{ReportError, Reported};
use crate::billing::{self, Cycle, Happening, INCOMPLETE_MAX, Status, TRIAL_NOTICE};
use crate::call::{Call, Content, TenantId};
use crate::db::coupons;
use crate::db::subscriptions::{self, Subscription};
use crate::error::{ApiError, Code};
use crate::operation::{Answer, Caller, Endpoint, post};
use crate::reply::Reply;
use crate::routes::subscriptions::{locked, told};
use crate::work::{Actor, Work};

/// Longest report of a payment provider.
const REPORT_SIZE_BYTES_MAX: usize = 256 << 10;

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        post(
            "billing.callback",
            "/billing/callbacks/{provider}",
            Caller::Public,
            callback,
        )
        .summary("What a payment provider reports")
        .bytes(REPORT_SIZE_BYTES_MAX)
        .empty(200)
        .errors(&[Code::SignatureInvalid])
        .unmetered()
        .rules("BL-4, BL-5"),
    ]
}

/// What follows from something that happened to a subscription. Whether anything did.
pub async fn happen(work: &mut Work, row: &Subscription, happening: Happening) -> Result<bool, ApiError> {
    let status = Status::of(&row.status).ok_or_else(|| ApiError::internal("a subscription in an unknown state"))?;
    let Some((status, event)) = billing::after(status, happening) else {
        return Ok(false);
    };
    let (tenant, now) = (work.tenant, work.now);
    subscriptions::set_status(work.connection(), row.id, status.name(), now).await?;
    let row = locked(work, tenant, row.id).await?;
    work.invalidate("subscription", row.user_id, 0).await?;
    work.emit(event, Some(row.user_id), told(&row)?).await?;
    Ok(true)
}

async fn callback(app: Arc<App>, call: Call) -> Answer {
    let provider = app.payment(call.path_text("provider")?).ok_or(Code::NotFound)?;
    let Content::Bytes(body) = &call.content else {
        return Err(Code::SignatureInvalid.into());
    };
    let header = |name: &str| call.header(name).map(str::to_owned);
    let report = provider.report(&header, body, call.now).map_err(|error| match error {
        ReportError::Signature => ApiError::from(Code::SignatureInvalid),
        ReportError::Content => Code::BadRequest.into(),
    })?;
    let payload: Value = serde_json::from_slice(body).map_err(|_| Code::BadRequest)?;
    let mut work = Work::begin_as(&app, call.tenant, Actor::system()).await?;
    work.now = call.now;
    let name = provider.name();
    if !subscriptions::add_report(work.connection(), name, &report.id, &report.kind, &payload).await? {
        return Ok(Reply::empty(200));
    }
    let reference = report.reference.as_deref();
    let row = subscriptions::lock_reported(work.connection(), name, reference, report.subscription).await?;
    if let (Some(row), Some(reported)) = (row, &report.reported) {
        work.tenant = TenantId(row.tenant_id);
        if let (None, Some(reference)) = (&row.provider_ref, reference) {
            subscriptions::set_reference(work.connection(), row.id, reference).await?;
        }
        apply(&mut work, &row, reported).await?;
        subscriptions::report_done(work.connection(), name, &report.id, row.tenant_id, call.now).await?;
    }
    // Only now is it answered: what was not written is reported again.
    work.commit().await?;
    Ok(Reply::empty(200))
}

async fn apply(work: &mut Work, row: &Subscription, reported: &Reported) -> Result<(), ApiError> {
    let (happening, period_end) = match reported {
        Reported::Paid(end) => (Some(Happening::Paid), *end),
        Reported::Failed => (Some(Happening::PaymentFailed), None),
        Reported::Ended => (Some(Happening::Ended), None),
        Reported::Is {
            status,
            period_end,
            cancel_at_period_end,
        } => {
            if *cancel_at_period_end != row.cancel_at_period_end {
                subscriptions::set_ending(work.connection(), row.id, *cancel_at_period_end).await?;
            }
            let happening = match status {
                Status::Incomplete => None,
                Status::Active => Some(Happening::Paid),
                Status::Trialing => Some(Happening::TrialBegan),
                Status::PastDue => Some(Happening::PaymentFailed),
                Status::Canceled => Some(Happening::Ended),
                Status::Expired => Some(Happening::NeverPaid),
            };
            (happening, *period_end)
        }
    };
    // A period only moves on: reports may come in any order.
    if let Some(end) = period_end.filter(|end| *end > row.current_period_end) {
        subscriptions::set_period(work.connection(), row.id, row.current_period_end, end).await?;
    }
    if let Some(happening) = happening {
        happen(work, row, happening).await?;
    }
    Ok(())
}

/// What the clock brings to subscriptions: periods that end, grace that is over, trials that are about to end.
pub async fn clock(app: &Arc<App>) -> Result<(), ApiError> {
    let grace = TimeDelta::days(app.settings().billing.grace_days);
    let due = subscriptions::due(&app.db, app.now(), grace, INCOMPLETE_MAX, TRIAL_NOTICE).await?;
    for (tenant, id) in due {
        let mut work = Work::begin_as(app, TenantId(tenant), Actor::system()).await?;
        let Some(row) = subscriptions::lock(work.connection(), TenantId(tenant), id).await? else {
            continue;
        };
        turn(&mut work, &row, grace).await?;
        work.commit().await?;
    }
    Ok(())
}

async fn turn(work: &mut Work, row: &Subscription, grace: TimeDelta) -> Result<(), ApiError> {
    let now = work.now;
    let is_over = row.current_period_end <= now;
    match Status::of(&row.status) {
        Some(Status::Incomplete) if row.created_at + INCOMPLETE_MAX <= now => {
            if let Some(coupon) = row.coupon_id {
                coupons::redeem(work.connection(), coupon, -1).await?;
            }
            work.cancel_payment(row);
            happen(work, row, Happening::NeverPaid).await?;
        }
        Some(Status::PastDue) if row.current_period_end + grace <= now => {
            work.cancel_payment(row);
            happen(work, row, Happening::Ended).await?;
        }
        Some(Status::Active | Status::Trialing) if is_over && row.cancel_at_period_end => {
            happen(work, row, Happening::Ended).await?;
        }
        Some(Status::Active | Status::Trialing) if is_over && row.provider == "manual" => {
            renew(work, row).await?;
        }
        Some(Status::Trialing) if row.trial_end.is_some_and(|end| end <= now + TRIAL_NOTICE) => {
            tell_trial(work, row).await?;
        }
        _ => {}
    }
    Ok(())
}

/// Tells once that a trial is about to end.
async fn tell_trial(work: &mut Work, row: &Subscription) -> Result<(), ApiError> {
    match subscriptions::tell_trial(work.connection(), row.id).await? {
        true => {
            work.emit("subscription.trial_ending", Some(row.user_id), told(row)?)
                .await
        }
        false => Ok(()),
    }
}

/// A new period where nobody reports one.
async fn renew(work: &mut Work, row: &Subscription) -> Result<(), ApiError> {
    let (cycle, now) = (Cycle::of(&row.billing_cycle), work.now);
    let (mut start, mut end) = (row.current_period_start, row.current_period_end);
    while end <= now {
        (start, end) = (end, cycle.end(end));
    }
    subscriptions::set_period(work.connection(), row.id, start, end).await?;
    if !happen(work, row, Happening::Paid).await? {
        let tenant = work.tenant;
        let row = locked(work, tenant, row.id).await?;
        work.emit("subscription.updated", Some(row.user_id), told(&row)?)
            .await?;
    }
    Ok(())
}
