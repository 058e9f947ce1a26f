//! Payment: the boundary to whoever takes the money. Cards and accounts are never seen here.

use std::future::Future;
use std::pin::Pin;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Cycle, Status};

/// What a provider's answer comes as.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, PaymentError>> + Send + 'a>>;

/// Why a provider did not do it. Says nothing of credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// It declined: the customer's matter.
    #[error("declined")]
    Declined,
    /// It failed, or does not take our credentials.
    #[error("the payment provider: {0}")]
    Upstream(&'static str),
}

/// What is bought.
#[derive(Clone, Debug)]
pub struct Priced {
    /// The plan.
    pub plan: Uuid,
    /// Its name.
    pub name: String,
    /// In hundredths of the currency.
    pub price_cents: i64,
    /// ISO 4217.
    pub currency: String,
    /// How often.
    pub cycle: Cycle,
}

/// What is taken off.
#[derive(Clone, Debug)]
pub struct Discount {
    /// The coupon.
    pub coupon: Uuid,
    /// Percent.
    pub percent_off: Option<i32>,
    /// Or hundredths of the currency.
    pub amount_off_cents: Option<i64>,
    /// For how many periods; for ever without.
    pub cycles: Option<i32>,
}

/// A new subscription.
#[derive(Clone, Debug)]
pub struct Order {
    /// Our id of it; what repeats of the same order are known by.
    pub subscription: Uuid,
    /// Who buys.
    pub user: Uuid,
    /// Where they are written to.
    pub email: String,
    /// Who they are to the provider, if they bought before.
    pub customer: Option<String>,
    /// What.
    pub priced: Priced,
    /// When the trial ends, if there is one.
    pub trial_end: Option<DateTime<Utc>>,
    /// What is taken off.
    pub discount: Option<Discount>,
    /// The provider's name of what is paid with.
    pub payment_method: Option<String>,
}

/// What a provider says of a subscription it made.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its name of it.
    pub reference: Option<String>,
    /// Its name of the customer.
    pub customer: Option<String>,
    /// What it is in.
    pub status: Status,
    /// When the period ends, if it says so.
    pub period_end: Option<DateTime<Utc>>,
    /// What the client confirms the payment with.
    pub client_secret: Option<String>,
}

/// A change of a subscription that the provider knows.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Another plan.
    pub priced: Option<Priced>,
    /// Whether it ends with its period.
    pub cancel_at_period_end: Option<bool>,
    /// Paid with something else.
    pub payment_method: Option<String>,
}

/// What a provider reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Its id of the report: each counts once.
    pub id: String,
    /// Its name for what happened.
    pub kind: String,
    /// Its name of the subscription.
    pub reference: Option<String>,
    /// Our id of it, where it was told.
    pub subscription: Option<Uuid>,
    /// What happened, where it matters here.
    pub reported: Option<Reported>,
}

/// What happened to a subscription.
#[derive(Clone, Debug, PartialEq)]
pub enum Reported {
    /// It was paid for, until then.
    Paid(Option<DateTime<Utc>>),
    /// A payment failed.
    Failed,
    /// It is in this state.
    Is {
        /// Which.
        status: Status,
        /// When the period ends.
        period_end: Option<DateTime<Utc>>,
        /// Whether it ends with it.
        cancel_at_period_end: bool,
    },
    /// It is over.
    Ended,
}

/// Why a report is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Its signature is missing, wrong or too old.
    #[error("the signature is missing, wrong or too old")]
    Signature,
    /// Signed, but not what was agreed on.
    #[error("not a report")]
    Content,
}

/// Whoever takes the money.
pub trait PaymentProvider: Send + Sync + 'static {
    /// What it is called in paths and rows.
    fn name(&self) -> &'static str;

    /// Whether it needs to know what is paid with.
    fn needs_payment_method(&self) -> bool;

    /// Makes a subscription. The same order twice makes one.
    fn create<'a>(&'a self, order: &'a Order) -> Pending<'a, Placed>;

    /// Changes one.
    fn update<'a>(&'a self, reference: &'a str, change: &'a Change) -> Pending<'a, ()>;

    /// Ends one now.
    fn cancel<'a>(&'a self, reference: &'a str) -> Pending<'a, ()>;

    /// Reads a report. `header` has what came with it.
    fn report(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Report, ReportError>;
}

/// Nobody: whoever operates this takes the money somewhere else. Subscriptions hold at once and renew themselves.
pub struct Manual;

impl PaymentProvider for Manual {
    fn name(&self) -> &'static str {
        "manual"
    }

    fn needs_payment_method(&self) -> bool {
        false
    }

    fn create<'a>(&'a self, order: &'a Order) -> Pending<'a, Placed> {
        let status = match order.trial_end {
            Some(_) => Status::Trialing,
            None => Status::Active,
        };
        Box::pin(async move {
            Ok(Placed {
                reference: None,
                customer: None,
                status,
                period_end: None,
                client_secret: None,
            })
        })
    }

    fn update<'a>(&'a self, _: &'a str, _: &'a Change) -> Pending<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn cancel<'a>(&'a self, _: &'a str) -> Pending<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn report(&self, _: &dyn Fn(&str) -> Option<String>, _: &[u8], _: DateTime<Utc>) -> Result<Report, ReportError> {
        Err(ReportError::Signature)
    }
}
