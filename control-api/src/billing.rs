//! Billing: periods, coupons, and what becomes of a subscription when something is reported. Pure, but for the boundary
//! to whoever takes the money ([`payment`]).

pub mod payment;
pub mod stripe;

use chrono::{DateTime, Months, TimeDelta, Utc};
use uuid::Uuid;

/// How long before a trial ends its owner is told.
pub const TRIAL_NOTICE: TimeDelta = TimeDelta::days(3);
/// How long a subscription may wait for its first payment.
pub const INCOMPLETE_MAX: TimeDelta = TimeDelta::hours(24);

/// What a subscription is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Waits for its first payment.
    Incomplete,
    /// Paid.
    Active,
    /// Not paid for yet, on purpose.
    Trialing,
    /// A payment failed.
    PastDue,
    /// Over: by its owner, an admin or for want of payment.
    Canceled,
    /// Over: never paid.
    Expired,
}

impl Status {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Status::Incomplete => "incomplete",
            Status::Active => "active",
            Status::Trialing => "trialing",
            Status::PastDue => "past_due",
            Status::Canceled => "canceled",
            Status::Expired => "expired",
        }
    }

    /// What is written `name`.
    pub fn of(name: &str) -> Option<Status> {
        let all = [
            Status::Incomplete,
            Status::Active,
            Status::Trialing,
            Status::PastDue,
            Status::Canceled,
            Status::Expired,
        ];
        all.into_iter().find(|status| status.name() == name)
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        matches!(self, Status::Canceled | Status::Expired)
    }
}

/// Something that happens to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It was paid for.
    Paid,
    /// Its trial began.
    TrialBegan,
    /// A payment failed.
    PaymentFailed,
    /// Its owner, an admin or the provider ended it, or its time was up.
    Ended,
    /// It waited too long for its first payment.
    NeverPaid,
}

/// What becomes of a subscription (BL-5): its new status and the event that tells of it. `None`: nothing.
pub fn after(status: Status, happening: Happening) -> Option<(Status, &'static str)> {
    use Happening::{Ended, NeverPaid, Paid, PaymentFailed, TrialBegan};
    use Status::{Active, Canceled, Expired, Incomplete, PastDue, Trialing};
    match (status, happening) {
        (Canceled | Expired, _) => None,
        (Incomplete | Trialing | PastDue, Paid) => Some((Active, "subscription.updated")),
        (Incomplete, TrialBegan) => Some((Trialing, "subscription.updated")),
        (Active | Trialing, PaymentFailed) => Some((PastDue, "subscription.payment_failed")),
        (_, Ended) => Some((Canceled, "subscription.canceled")),
        (Incomplete, NeverPaid) => Some((Expired, "subscription.canceled")),
        (Active, Paid | TrialBegan | NeverPaid) => None,
        (Trialing | PastDue, TrialBegan | NeverPaid) => None,
        (Incomplete | PastDue, PaymentFailed) => None,
    }
}

/// How often is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cycle {
    /// Each month.
    Monthly,
    /// Each 3.
    Quarterly,
    /// Each 6.
    SemiAnnual,
    /// Each 12.
    Annual,
}

/// Names of cycles.
pub const CYCLES: &[&str] = &["monthly", "quarterly", "semi_annual", "annual"];

impl Cycle {
    /// What is written `name`; what is not known is monthly.
    pub fn of(name: &str) -> Cycle {
        match name {
            "quarterly" => Cycle::Quarterly,
            "semi_annual" => Cycle::SemiAnnual,
            "annual" => Cycle::Annual,
            _ => Cycle::Monthly,
        }
    }

    /// Months of it.
    pub fn months(self) -> u32 {
        match self {
            Cycle::Monthly => 1,
            Cycle::Quarterly => 3,
            Cycle::SemiAnnual => 6,
            Cycle::Annual => 12,
        }
    }

    /// When a period that begins at `start` ends: the same day of the month, or its last.
    pub fn end(self, start: DateTime<Utc>) -> DateTime<Utc> {
        let end = start.checked_add_months(Months::new(self.months()));
        end.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// A coupon, as far as it decides.
#[derive(Clone, Debug)]
pub struct CouponTerms {
    /// Whether it is on.
    pub is_active: bool,
    /// Until when it may be redeemed.
    pub valid_until: Option<DateTime<Utc>>,
    /// How often it may be.
    pub redemptions_max: Option<i32>,
    /// How often it was.
    pub redeemed: i32,
    /// For which plans; all where there are none.
    pub plan_ids: Vec<Uuid>,
    /// Of which currency, where it takes off an amount.
    pub currency: Option<String>,
}

impl CouponTerms {
    /// Whether it may be redeemed for a plan.
    pub fn is_valid(&self, plan: Uuid, currency: &str, now: DateTime<Utc>) -> bool {
        self.is_active
            && self.valid_until.is_none_or(|until| now < until)
            && self.redemptions_max.is_none_or(|max| self.redeemed < max)
            && (self.plan_ids.is_empty() || self.plan_ids.contains(&plan))
            && self.currency.as_deref().is_none_or(|own| own == currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn bl_5_what_becomes_of_subscriptions() {
        use Happening::{Ended, NeverPaid, Paid, PaymentFailed, TrialBegan};
        use Status::{Active, Canceled, Expired, Incomplete, PastDue, Trialing};
        let check = |from, happening, expected: Option<(Status, &str)>| {
            assert_eq!(after(from, happening), expected, "{from:?} {happening:?}");
        };
        check(Incomplete, Paid, Some((Active, "subscription.updated")));
        check(Incomplete, TrialBegan, Some((Trialing, "subscription.updated")));
        check(Incomplete, PaymentFailed, None);
        check(Incomplete, NeverPaid, Some((Expired, "subscription.canceled")));
        check(Trialing, Paid, Some((Active, "subscription.updated")));
        check(Trialing, PaymentFailed, Some((PastDue, "subscription.payment_failed")));
        check(Active, PaymentFailed, Some((PastDue, "subscription.payment_failed")));
        check(Active, Paid, None);
        check(Active, NeverPaid, None);
        check(PastDue, Paid, Some((Active, "subscription.updated")));
        check(PastDue, PaymentFailed, None);
        check(PastDue, Ended, Some((Canceled, "subscription.canceled")));
        for over in [Canceled, Expired] {
            for happening in [Paid, TrialBegan, PaymentFailed, Ended, NeverPaid] {
                check(over, happening, None);
            }
        }
    }

    #[test]
    fn periods_end_on_the_same_day_or_the_month_s_last() {
        let check = |name, start, end| assert_eq!(Cycle::of(name).end(at(start)), at(end), "{name} {start}");
        check("monthly", "2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z");
        check("monthly", "2026-12-15T10:00:00Z", "2027-01-15T10:00:00Z");
        check("quarterly", "2026-11-30T00:00:00Z", "2027-02-28T00:00:00Z");
        check("semi_annual", "2026-08-31T00:00:00Z", "2027-02-28T00:00:00Z");
        check("annual", "2028-02-29T00:00:00Z", "2029-02-28T00:00:00Z");
        assert_eq!(Cycle::Annual.end(DateTime::<Utc>::MAX_UTC), DateTime::<Utc>::MAX_UTC);
    }

    #[test]
    fn coupons_hold_for_what_they_say() {
        let plan = Uuid::from_u128(1);
        let now = at("2026-11-22T00:00:00Z");
        let good = CouponTerms {
            is_active: true,
            valid_until: None,
            redemptions_max: None,
            redeemed: 7,
            plan_ids: Vec::new(),
            currency: None,
        };
        let check = |change: &dyn Fn(&mut CouponTerms), expected| {
            let mut coupon = good.clone();
            change(&mut coupon);
            assert_eq!(coupon.is_valid(plan, "EUR", now), expected, "{coupon:?}");
        };
        check(&|_| {}, true);
        check(&|coupon| coupon.is_active = false, false);
        check(&|coupon| coupon.valid_until = Some(now), false);
        check(&|coupon| coupon.valid_until = Some(now + TimeDelta::seconds(1)), true);
        check(&|coupon| coupon.redemptions_max = Some(7), false);
        check(&|coupon| coupon.redemptions_max = Some(8), true);
        check(&|coupon| coupon.plan_ids = vec![Uuid::from_u128(2)], false);
        check(&|coupon| coupon.plan_ids = vec![Uuid::from_u128(2), plan], true);
        check(&|coupon| coupon.currency = Some("USD".to_owned()), false);
        check(&|coupon| coupon.currency = Some("EUR".to_owned()), true);
    }
}
