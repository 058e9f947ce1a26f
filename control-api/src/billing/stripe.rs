//! A payment provider of Stripe's shape: customers, products and subscriptions by forms over HTTP; signed reports.

use aws_lc_rs::hmac;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::payment::{
    Change, Discount, Order, PaymentError, PaymentProvider, Pending, Placed, Priced, Report, ReportError, Reported,
};
use super::{Cycle, Status};
use crate::outbound::{Ask, Outbound, Repeat, Reply, Url};
use crate::secrets::unhex;

/// How old a report's signature may be, and how far ahead of our clock.
const SIGNATURE_AGE_MAX: TimeDelta = TimeDelta::minutes(5);

/// Its two secrets. No `Debug`: they can not reach a log.
pub struct Secrets {
    /// What we are known by.
    pub api_key: Zeroizing<String>,
    /// What it signs its reports with.
    pub signing_secret: Zeroizing<String>,
}

/// The provider.
pub struct Stripe {
    base: String,
    secrets: Secrets,
    outbound: Outbound,
}

impl Stripe {
    /// At `base`: `https://api.stripe.com`, or whoever speaks as it does.
    pub fn new(base: &Url, secrets: Secrets, outbound: Outbound) -> Stripe {
        Stripe {
            base: base.to_string().trim_end_matches('/').to_owned(),
            secrets,
            outbound,
        }
    }

    fn ask(&self, path: &str, form: &Form, key: Option<&str>) -> Option<Ask> {
        let url = format!("{}/v1/{path}", self.base).parse().ok()?;
        // With a key of idempotency asking twice does what asking once does.
        let repeat = match key {
            Some(_) => Repeat::WhenUnanswered,
            None => Repeat::WhenUnsent,
        };
        let mut ask = Ask::post(url, Zeroizing::new(form.0.clone().into_bytes()), repeat);
        ask.header("content-type", "application/x-www-form-urlencoded");
        ask.bearer(&self.secrets.api_key)?;
        if let Some(key) = key {
            ask.secret_header("idempotency-key", key)?;
        }
        Some(ask)
    }

    async fn send(&self, ask: Option<Ask>) -> Result<Reply, PaymentError> {
        let ask = ask.ok_or(PaymentError::Upstream("can not be asked"))?;
        let sent = self.outbound.send(&ask).await;
        sent.map_err(|_| PaymentError::Upstream("does not answer"))
    }

    async fn post(&self, path: &str, form: &Form, key: Option<&str>) -> Result<Value, PaymentError> {
        read(&self.send(self.ask(path, form, key)).await?)
    }

    /// The plan as a product of theirs, by our id: one that is there already is as good.
    async fn make_product(&self, priced: &Priced) -> Result<(), PaymentError> {
        let mut form = Form::default();
        form.put("id", &priced.plan.to_string()).put("name", &priced.name);
        let reply = self.send(self.ask("products", &form, None)).await?;
        match read(&reply) {
            Err(_) if code_of(&reply) == Some("resource_already_exists".to_owned()) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// A coupon of theirs for this order alone: how often it may be redeemed was counted here.
    async fn make_coupon(&self, order: &Order, discount: &Discount) -> Result<String, PaymentError> {
        let mut form = Form::default();
        match (discount.percent_off, discount.amount_off_cents) {
            (Some(percent), _) => form.put("percent_off", &percent.to_string()),
            (None, Some(cents)) => form
                .put("amount_off", &cents.to_string())
                .put("currency", &order.priced.currency.to_lowercase()),
            (None, None) => &mut form,
        };
        match discount.cycles {
            None => form.put("duration", "forever"),
            Some(1) => form.put("duration", "once"),
            Some(cycles) => {
                let months = i64::from(cycles).saturating_mul(order.priced.cycle.months().into());
                form.put("duration", "repeating")
                    .put("duration_in_months", &months.to_string())
            }
        };
        let key = format!("{}-coupon", order.subscription);
        let made = self.post("coupons", &form, Some(&key)).await?;
        text(&made, "id").ok_or(PaymentError::Upstream("made a coupon without a name"))
    }

    async fn place(&self, order: &Order) -> Result<Placed, PaymentError> {
        let customer = match &order.customer {
            Some(customer) => customer.clone(),
            None => {
                let mut form = Form::default();
                form.put("email", &order.email)
                    .put("metadata[user_id]", &order.user.to_string());
                let key = format!("{}-customer", order.user);
                let made = self.post("customers", &form, Some(&key)).await?;
                text(&made, "id").ok_or(PaymentError::Upstream("made a customer without a name"))?
            }
        };
        if let Some(method) = &order.payment_method {
            let mut form = Form::default();
            form.put("customer", &customer);
            let path = format!("payment_methods/{}/attach", escaped(method));
            self.post(&path, &form, None).await?;
        }
        self.make_product(&order.priced).await?;
        let mut form = Form::default();
        form.put("customer", &customer)
            .price("items[0]", &order.priced)
            .put("metadata[subscription_id]", &order.subscription.to_string())
            .put("payment_behavior", "default_incomplete")
            .put("expand[0]", "latest_invoice.payment_intent");
        if let Some(method) = &order.payment_method {
            form.put("default_payment_method", method);
        }
        if let Some(end) = order.trial_end {
            form.put("trial_end", &end.timestamp().to_string());
        }
        if let Some(discount) = &order.discount {
            let coupon = self.make_coupon(order, discount).await?;
            form.put("discounts[0][coupon]", &coupon);
        }
        let made = self
            .post("subscriptions", &form, Some(&order.subscription.to_string()))
            .await?;
        let status = text(&made, "status").and_then(|status| status_of(&status));
        Ok(Placed {
            reference: Some(text(&made, "id").ok_or(PaymentError::Upstream("made a subscription without a name"))?),
            customer: Some(customer),
            status: status.ok_or(PaymentError::Upstream("made a subscription in an unknown state"))?,
            period_end: period_end(&made),
            client_secret: made
                .pointer("/latest_invoice/payment_intent/client_secret")
                .and_then(Value::as_str)
                .map(str::to_owned),
        })
    }

    async fn change(&self, reference: &str, change: &Change) -> Result<(), PaymentError> {
        let path = format!("subscriptions/{}", escaped(reference));
        let mut form = Form::default();
        if let Some(priced) = &change.priced {
            self.make_product(priced).await?;
            let now = self.get(&path).await?;
            let item = now.pointer("/items/data/0/id").and_then(Value::as_str);
            let item = item.ok_or(PaymentError::Upstream("has a subscription of nothing"))?;
            form.put("items[0][id]", item).price("items[0]", priced);
        }
        if let Some(ends) = change.cancel_at_period_end {
            form.put("cancel_at_period_end", if ends { "true" } else { "false" });
        }
        if let Some(method) = &change.payment_method {
            form.put("default_payment_method", method);
        }
        self.post(&path, &form, None).await.map(|_| ())
    }

    async fn get(&self, path: &str) -> Result<Value, PaymentError> {
        self.without_body(path, Ask::get).await
    }

    async fn without_body(&self, path: &str, make: fn(Url, Repeat) -> Ask) -> Result<Value, PaymentError> {
        let ask = format!("{}/v1/{path}", self.base).parse().ok().and_then(|url| {
            let mut ask = make(url, Repeat::WhenUnanswered);
            ask.bearer(&self.secrets.api_key)?;
            Some(ask)
        });
        read(&self.send(ask).await?)
    }

    fn check_signature(&self, header: &str, body: &[u8], now: DateTime<Utc>) -> Option<()> {
        let pairs = || header.split(',').filter_map(|pair| pair.trim().split_once('='));
        let (_, time) = pairs().find(|(name, _)| *name == "t")?;
        let at = DateTime::from_timestamp(time.parse().ok()?, 0)?;
        if (now - at).abs() > SIGNATURE_AGE_MAX {
            return None;
        }
        let mut signed = format!("{time}.").into_bytes();
        signed.extend_from_slice(body);
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secrets.signing_secret.as_bytes());
        let mut tags = pairs()
            .filter(|(name, _)| *name == "v1")
            .filter_map(|(_, tag)| unhex::<32>(tag));
        tags.any(|tag| hmac::verify(&key, &signed, &tag).is_ok()).then_some(())
    }
}

impl PaymentProvider for Stripe {
    fn name(&self) -> &'static str {
        "stripe"
    }

    fn needs_payment_method(&self) -> bool {
        true
    }

    fn create<'a>(&'a self, order: &'a Order) -> Pending<'a, Placed> {
        Box::pin(self.place(order))
    }

    fn update<'a>(&'a self, reference: &'a str, change: &'a Change) -> Pending<'a, ()> {
        Box::pin(self.change(reference, change))
    }

    fn cancel<'a>(&'a self, reference: &'a str) -> Pending<'a, ()> {
        Box::pin(async move {
            let path = format!("subscriptions/{}", escaped(reference));
            self.without_body(&path, Ask::delete).await.map(|_| ())
        })
    }

    fn report(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Report, ReportError> {
        let signature = header("stripe-signature").ok_or(ReportError::Signature)?;
        self.check_signature(&signature, body, now)
            .ok_or(ReportError::Signature)?;
        let event: Value = serde_json::from_slice(body).map_err(|_| ReportError::Content)?;
        let (id, kind) = text(&event, "id")
            .zip(text(&event, "type"))
            .ok_or(ReportError::Content)?;
        let object = event.pointer("/data/object").ok_or(ReportError::Content)?;
        let is_invoice = kind.starts_with("invoice.");
        let told = match is_invoice {
            true => object.pointer("/subscription_details/metadata/subscription_id"),
            false => object.pointer("/metadata/subscription_id"),
        };
        let reported = match kind.as_str() {
            "invoice.paid" | "invoice.payment_succeeded" => {
                Some(Reported::Paid(time(object.pointer("/lines/data/0/period/end"))))
            }
            "invoice.payment_failed" => Some(Reported::Failed),
            "customer.subscription.deleted" => Some(Reported::Ended),
            "customer.subscription.created" | "customer.subscription.updated" => text(object, "status")
                .and_then(|status| status_of(&status))
                .map(|status| Reported::Is {
                    status,
                    period_end: period_end(object),
                    cancel_at_period_end: object["cancel_at_period_end"].as_bool().unwrap_or(false),
                }),
            _ => None,
        };
        Ok(Report {
            id,
            reference: text(object, if is_invoice { "subscription" } else { "id" }),
            subscription: told.and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok()),
            reported,
            kind,
        })
    }
}

/// A body of `name=value` pairs.
#[derive(Default)]
struct Form(String);

impl Form {
    fn put(&mut self, name: &str, value: &str) -> &mut Form {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(&escaped(name));
        self.0.push('=');
        self.0.push_str(&escaped(value));
        self
    }

    fn price(&mut self, item: &str, priced: &Priced) -> &mut Form {
        let (interval, count) = match priced.cycle {
            Cycle::Annual => ("year", 1),
            cycle => ("month", cycle.months()),
        };
        let name = |rest: &str| format!("{item}[price_data]{rest}");
        self.put(&name("[currency]"), &priced.currency.to_lowercase())
            .put(&name("[unit_amount]"), &priced.price_cents.to_string())
            .put(&name("[product]"), &priced.plan.to_string())
            .put(&name("[recurring][interval]"), interval)
            .put(&name("[recurring][interval_count]"), &count.to_string())
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

fn time(value: Option<&Value>) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(value?.as_i64()?, 0)
}

/// On the subscription, or on its items in newer versions of the contract.
fn period_end(object: &Value) -> Option<DateTime<Utc>> {
    let old = object.get("current_period_end");
    time(old.or_else(|| object.pointer("/items/data/0/current_period_end")))
}

fn status_of(name: &str) -> Option<Status> {
    Some(match name {
        "incomplete" => Status::Incomplete,
        "trialing" => Status::Trialing,
        "active" => Status::Active,
        "past_due" | "unpaid" | "paused" => Status::PastDue,
        "canceled" => Status::Canceled,
        "incomplete_expired" => Status::Expired,
        _ => return None,
    })
}

fn code_of(reply: &Reply) -> Option<String> {
    let body: Value = serde_json::from_slice(&reply.body).ok()?;
    body.pointer("/error/code")?.as_str().map(str::to_owned)
}

/// A good reply's body. What is not good is the customer's matter, or ours.
fn read(reply: &Reply) -> Result<Value, PaymentError> {
    match reply.status {
        200..=299 => serde_json::from_slice(&reply.body).map_err(|_| PaymentError::Upstream("answers something else")),
        402 => Err(PaymentError::Declined),
        401 | 403 => Err(PaymentError::Upstream("refuses our credentials")),
        429 | 500.. => Err(PaymentError::Upstream("is not available")),
        _ => Err(PaymentError::Upstream("refuses the request")),
    }
}
