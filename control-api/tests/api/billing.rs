//! Plans, coupons, subscriptions and what payment providers report (BL, EN-1).

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use control_api::billing::Status;
use control_api::billing::payment::{
    Change, Order, PaymentError, PaymentProvider, Pending, Placed, Report, ReportError, Reported,
};
use control_api::jobs;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::account::futures;
use crate::harness::{Api, Client, settings};

/// A payment provider that does what the payment method says, and remembers what it was asked.
#[derive(Default)]
pub struct Mock {
    asked: Mutex<Vec<String>>,
}

impl Mock {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl PaymentProvider for Mock {
    fn name(&self) -> &'static str {
        "mock"
    }

    fn needs_payment_method(&self) -> bool {
        true
    }

    fn create<'a>(&'a self, order: &'a Order) -> Pending<'a, Placed> {
        self.note(format!(
            "create {} {:?}",
            order.priced.price_cents,
            order.discount.as_ref().map(|off| off.percent_off)
        ));
        let status = match order.payment_method.as_deref() {
            Some("declined") => return Box::pin(async { Err(PaymentError::Declined) }),
            Some("away") => return Box::pin(async { Err(PaymentError::Upstream("does not answer")) }),
            Some("confirm") => Status::Incomplete,
            _ if order.trial_end.is_some() => Status::Trialing,
            _ => Status::Active,
        };
        Box::pin(async move {
            Ok(Placed {
                reference: Some(format!("ref-{}", order.subscription)),
                customer: Some(format!("customer-{}", order.user)),
                status,
                period_end: None,
                client_secret: (status == Status::Incomplete).then(|| "secret".to_owned()),
            })
        })
    }

    fn update<'a>(&'a self, reference: &'a str, change: &'a Change) -> Pending<'a, ()> {
        self.note(format!("update {reference}"));
        let is_good = change.payment_method.as_deref() != Some("declined");
        Box::pin(async move { is_good.then_some(()).ok_or(PaymentError::Declined) })
    }

    fn cancel<'a>(&'a self, reference: &'a str) -> Pending<'a, ()> {
        self.note(format!("cancel {reference}"));
        Box::pin(async { Ok(()) })
    }

    fn report(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Report, ReportError> {
        if header("x-mock-signature").as_deref() != Some("good") {
            return Err(ReportError::Signature);
        }
        let body: Value = serde_json::from_slice(body).map_err(|_| ReportError::Content)?;
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        let reported = match body["what"].as_str() {
            Some("paid") => Some(Reported::Paid(Some(now + TimeDelta::days(40)))),
            Some("failed") => Some(Reported::Failed),
            Some("ended") => Some(Reported::Ended),
            _ => None,
        };
        Ok(Report {
            id: text("id").ok_or(ReportError::Content)?,
            kind: "mock".to_owned(),
            reference: text("reference"),
            subscription: None,
            reported,
        })
    }
}

fn plan(name: &str) -> Value {
    json!({
        "name": name, "price": 9.99, "currency": "EUR", "billing_cycle": "monthly", "max_profiles": 5,
        "max_concurrent_streams": 2, "max_devices": 3, "max_quality": "FHD", "has_downloads": false, "tier": 1,
    })
}

async fn with_mock() -> (Api, Arc<Mock>) {
    let mut settings = settings();
    settings.billing.provider = "mock".to_owned();
    let mock = Arc::new(Mock::default());
    (Api::with_payments(settings, vec![mock.clone()]).await, mock)
}

async fn made(admin: &Client<'_>, plan: Value) -> String {
    let made = admin.post("/admin/plans").json(plan).expect(201).await;
    made["id"].as_str().unwrap().to_owned()
}

async fn tick(api: &Api) {
    jobs::tick(Arc::clone(&api.app), Arc::default()).await;
}

fn order(plan: &str, method: &str) -> Value {
    json!({ "plan_id": plan, "payment_method": method })
}

#[tokio::test]
async fn bl_1_plans_on_offer_are_public() {
    let api = Api::start().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let cheap = made(&admin, plan("Starter")).await;
    let mut other = plan("Professional");
    other["sort_order"] = json!(-1);
    other["currency"] = json!("usd");
    other["description"] = json!("More");
    let dear = made(&admin, other.clone()).await;
    let got = api.stranger().get("/plans").send().await.is(200);
    let listed = got.json();
    let names: Vec<&str> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plan| plan["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Professional", "Starter"]);
    assert_eq!(
        (
            listed["data"][0]["currency"].as_str(),
            listed["data"][1]["price"].as_f64()
        ),
        (Some("USD"), Some(9.99))
    );
    let again = api
        .stranger()
        .get("/plans")
        .header("if-none-match", got.header("etag"))
        .send()
        .await;
    assert_eq!(again.status, 304);
    let euros = api.stranger().get("/plans?currency=EUR").expect(200).await;
    assert_eq!(euros["data"].as_array().unwrap().len(), 1);
    let yearly = api.stranger().get("/plans?billing_cycle=annual").expect(200).await;
    assert_eq!(yearly["data"].as_array().unwrap().len(), 0);
    // Retired: for who has it, and for admins.
    let subscription = user
        .post("/subscriptions")
        .json(json!({ "plan_id": dear }))
        .expect(201)
        .await;
    assert_eq!(subscription["status"], "active");
    other["is_active"] = json!(false);
    let path = format!("/admin/plans/{dear}");
    admin
        .put(&path)
        .header("if-match", "\"7\"")
        .json(other.clone())
        .refused("PRECONDITION_FAILED")
        .await;
    admin.put(&path).json(other.clone()).expect(200).await;
    let path = format!("/plans/{dear}");
    api.stranger().get(&path).refused("NOT_FOUND").await;
    api.user().await.get(&path).refused("NOT_FOUND").await;
    user.get(&path).expect(200).await;
    admin.get(&path).expect(200).await;
    assert_eq!(
        api.stranger().get("/plans").expect(200).await["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // What it costs is fixed while somebody has it; so is that it is there.
    other["price"] = json!(1);
    admin
        .put(&format!("/admin/plans/{dear}"))
        .json(other)
        .refused("PLAN_IN_USE")
        .await;
    admin
        .delete(&format!("/admin/plans/{dear}"))
        .refused("PLAN_IN_USE")
        .await;
    admin
        .post("/admin/plans")
        .json(plan("Starter"))
        .refused("NAME_TAKEN")
        .await;
    let counted = admin.get("/admin/plans?include_total=true").expect(200).await;
    assert_eq!(counted["meta"]["total"], 2);
    let row = counted["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == json!(dear))
        .unwrap();
    assert_eq!(row["subscriber_count"], 1);
    admin.delete(&format!("/admin/plans/{cheap}")).expect(204).await;
    user.post("/admin/plans").json(plan("Own")).refused("FORBIDDEN").await;
}

#[tokio::test]
async fn bl_2_subscribing_pays() {
    let (api, mock) = with_mock().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let plan_id = made(&admin, plan("Starter")).await;
    user.get("/subscriptions/current")
        .refused("NO_ACTIVE_SUBSCRIPTION")
        .await;
    user.post("/subscriptions")
        .json(json!({ "plan_id": plan_id }))
        .refused("VALIDATION_ERROR")
        .await;
    user.post("/subscriptions")
        .json(order(&Uuid::now_v7().to_string(), "good"))
        .refused("VALIDATION_ERROR")
        .await;
    // What failed leaves nothing.
    user.post("/subscriptions")
        .json(order(&plan_id, "declined"))
        .refused("PAYMENT_FAILED")
        .await;
    user.post("/subscriptions")
        .json(order(&plan_id, "away"))
        .refused("UPSTREAM_ERROR")
        .await;
    user.get("/subscriptions/current")
        .refused("NO_ACTIVE_SUBSCRIPTION")
        .await;
    assert_eq!(api.value::<i64>("select count(*) from subscriptions").await, 0);
    // A payment that the client has to confirm.
    let made = user
        .post("/subscriptions")
        .json(order(&plan_id, "confirm"))
        .expect(201)
        .await;
    assert_eq!(
        (made["status"].as_str(), made["client_secret"].as_str()),
        (Some("incomplete"), Some("secret"))
    );
    assert_eq!(api.events().await.last().unwrap(), "subscription.created");
    let got = user.get("/subscriptions/current").expect(200).await;
    assert_eq!(
        (got["status"].as_str(), got["provider"].as_str()),
        (Some("incomplete"), Some("mock"))
    );
    // The same request again is the same subscription.
    let other = api.user().await;
    let once = || {
        other
            .post("/subscriptions")
            .header("idempotency-key", "k")
            .json(order(&plan_id, "good"))
    };
    assert_eq!(once().expect(201).await, once().expect(201).await);
    assert_eq!(
        mock.asked().iter().filter(|asked| asked.starts_with("create")).count(),
        4
    );
    let account = other.get("/account").expect(200).await;
    assert_eq!(
        (account["plan"].as_str(), account["subscription"]["status"].as_str()),
        (Some("Starter"), Some("active"))
    );
    assert_eq!(account["limits"]["max_devices"], 3);
    // What costs nothing asks nobody.
    let mut free = plan("Free");
    free["price"] = json!(0);
    let free = self::made(&admin, free).await;
    let made = api
        .user()
        .await
        .post("/subscriptions")
        .json(json!({ "plan_id": free }))
        .expect(201)
        .await;
    assert_eq!(
        (made["status"].as_str(), made["subscription"]["provider"].as_str()),
        (Some("active"), Some("manual"))
    );
}

#[tokio::test]
async fn bl_2_coupons_are_counted_and_checked() {
    let (api, mock) = with_mock().await;
    let admin = api.admin().await;
    let (plan_id, other) = (made(&admin, plan("Starter")).await, made(&admin, plan("Other")).await);
    let coupon = json!({ "code": "HALF", "percent_off": 50, "max_redemptions": 1, "plan_ids": [plan_id] });
    for wrong in [
        json!({ "code": "half", "percent_off": 50 }),
        json!({ "code": "HALF" }),
        json!({ "code": "HALF", "percent_off": 50, "amount_off": 1, "currency": "EUR" }),
        json!({ "code": "HALF", "amount_off": 1 }),
        json!({ "code": "HALF", "percent_off": 50, "plan_ids": [Uuid::now_v7()] }),
    ] {
        admin
            .post("/admin/coupons")
            .json(wrong)
            .refused("VALIDATION_ERROR")
            .await;
    }
    let made = admin.post("/admin/coupons").json(coupon.clone()).expect(201).await;
    admin
        .post("/admin/coupons")
        .json(coupon.clone())
        .refused("NAME_TAKEN")
        .await;
    let buy = async |user: &Client<'_>, plan: &str, method: &str, code: &str| {
        let mut body = order(plan, method);
        body["coupon_code"] = json!(code);
        user.post("/subscriptions").json(body).send().await
    };
    let user = api.user().await;
    for (plan, code) in [(&plan_id, "NONE"), (&other, "HALF")] {
        assert_eq!(buy(&user, plan, "good", code).await.json()["code"], "COUPON_INVALID");
    }
    // What was not paid for was not redeemed.
    assert_eq!(
        buy(&user, &plan_id, "declined", "HALF").await.json()["code"],
        "PAYMENT_FAILED"
    );
    let got = buy(&user, &plan_id, "good", "half").await.is(201).json();
    assert_eq!(got["subscription"]["coupon_code"], "HALF");
    assert_eq!(mock.asked().last().unwrap(), "create 999 Some(Some(50))");
    assert_eq!(
        buy(&api.user().await, &plan_id, "good", "HALF").await.json()["code"],
        "COUPON_INVALID"
    );
    let path = format!("/admin/coupons/{}", made["id"].as_str().unwrap());
    let mut change = coupon;
    change["max_redemptions"] = json!(null);
    admin
        .put(&path)
        .header("if-match", "\"99\"")
        .json(change.clone())
        .refused("PRECONDITION_FAILED")
        .await;
    assert_eq!(admin.put(&path).json(change).expect(200).await["redeemed_count"], 1);
    assert_eq!(
        admin.get("/admin/coupons?is_active=true").expect(200).await["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    admin.delete(&path).expect(204).await;
    // What was redeemed stays in force.
    assert_eq!(
        user.get("/subscriptions/current").expect(200).await["coupon_code"],
        "HALF"
    );
    admin.delete(&path).refused("NOT_FOUND").await;
}

#[tokio::test]
async fn bl_3_an_account_has_one_subscription() {
    let api = Api::start().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let plan_id = made(&admin, plan("Starter")).await;
    let buy = || user.post("/subscriptions").json(json!({ "plan_id": plan_id }));
    let both = futures((0..8).map(|_| buy().send())).await;
    assert_eq!(both.iter().filter(|status| **status == 201).count(), 1);
    assert!(both.iter().all(|status| [201, 409].contains(status)), "{both:?}");
    buy().refused("SUBSCRIPTION_EXISTS").await;
    let end = api.app.now() + TimeDelta::days(7);
    let gift = |user: Uuid| json!({ "user_id": user, "plan_id": plan_id, "current_period_end": end });
    admin
        .post("/admin/subscriptions")
        .json(gift(user.user_id))
        .refused("SUBSCRIPTION_EXISTS")
        .await;
    let other = api.user().await;
    let given = admin
        .post("/admin/subscriptions")
        .json(gift(other.user_id))
        .expect(201)
        .await;
    assert_eq!(
        (given["status"].as_str(), given["cancel_at_period_end"].as_bool()),
        (Some("active"), Some(true))
    );
    admin
        .post("/admin/subscriptions")
        .json(gift(Uuid::now_v7()))
        .refused("VALIDATION_ERROR")
        .await;
    let listed = admin
        .get(&format!("/admin/subscriptions?user_id={}&status=active", other.user_id))
        .expect(200)
        .await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    // A gift ends by itself.
    api.app.advance(TimeDelta::days(8));
    tick(&api).await;
    let (user, other) = (api.again(&user).await, api.again(&other).await);
    other
        .get("/subscriptions/current")
        .refused("NO_ACTIVE_SUBSCRIPTION")
        .await;
    assert_eq!(api.events().await.last().unwrap(), "subscription.canceled");
    // The one that was bought goes on.
    assert_eq!(user.get("/subscriptions/current").expect(200).await["status"], "active");
}

async fn report(api: &Api, id: &str, reference: &str, what: &str) -> crate::harness::Got {
    let body = json!({ "id": id, "reference": reference, "what": what }).to_string();
    api.stranger()
        .post("/billing/callbacks/mock")
        .header("x-mock-signature", "good")
        .bytes("application/json", body.as_bytes())
        .send()
        .await
}

#[tokio::test]
async fn bl_4_reports_are_signed_and_count_once() {
    let (api, _) = with_mock().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let plan_id = made(&admin, plan("Starter")).await;
    let made = user
        .post("/subscriptions")
        .json(order(&plan_id, "confirm"))
        .expect(201)
        .await;
    let reference = format!("ref-{}", made["subscription_id"].as_str().unwrap());
    let body = json!({ "id": "1", "reference": reference, "what": "paid" }).to_string();
    let unsigned = api
        .stranger()
        .post("/billing/callbacks/mock")
        .bytes("application/json", body.as_bytes());
    unsigned.refused("SIGNATURE_INVALID").await;
    let nobody = api
        .stranger()
        .post("/billing/callbacks/nobody")
        .bytes("application/json", body.as_bytes());
    nobody.refused("NOT_FOUND").await;
    let manual = api
        .stranger()
        .post("/billing/callbacks/manual")
        .bytes("application/json", body.as_bytes());
    manual.refused("SIGNATURE_INVALID").await;
    assert_eq!(
        user.get("/subscriptions/current").expect(200).await["status"],
        "incomplete"
    );
    report(&api, "1", &reference, "paid").await.is(200);
    let paid = user.get("/subscriptions/current").expect(200).await;
    assert_eq!(paid["status"], "active");
    let told = api.events().await.len();
    for _ in 0..3 {
        report(&api, "1", &reference, "ended").await.is(200);
    }
    assert_eq!(user.get("/subscriptions/current").expect(200).await, paid);
    // Of nobody's subscription: taken, and nothing comes of it.
    report(&api, "2", "ref-unknown", "ended").await.is(200);
    assert_eq!(api.events().await.len(), told);
    assert_eq!(
        api.value::<i64>("select count(*) from billing_events where processed_at is null")
            .await,
        1
    );
}

#[tokio::test]
async fn bl_5_subscriptions_go_through_their_states() {
    let (api, mock) = with_mock().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let mut trial = plan("Starter");
    trial["trial_days"] = json!(10);
    let plan_id = made(&admin, trial).await;
    let status = async || {
        let user = api.again(&user).await;
        let got = user.get("/subscriptions/current").send().await.json();
        got["status"].as_str().unwrap_or("none").to_owned()
    };
    let last = async || api.events().await.last().unwrap().clone();
    let made = user
        .post("/subscriptions")
        .json(order(&plan_id, "good"))
        .expect(201)
        .await;
    assert_eq!(made["status"], "trialing");
    let reference = format!("ref-{}", made["subscription_id"].as_str().unwrap());
    tick(&api).await;
    assert_eq!(last().await, "subscription.created");
    api.app.advance(TimeDelta::days(8));
    tick(&api).await;
    tick(&api).await;
    let told = api.events().await;
    assert_eq!(
        told.iter()
            .filter(|event| *event == "subscription.trial_ending")
            .count(),
        1
    );
    report(&api, "1", &reference, "paid").await.is(200);
    assert_eq!(
        (status().await.as_str(), last().await.as_str()),
        ("active", "subscription.updated")
    );
    report(&api, "2", &reference, "failed").await.is(200);
    assert_eq!(
        (status().await.as_str(), last().await.as_str()),
        ("past_due", "subscription.payment_failed")
    );
    report(&api, "3", &reference, "paid").await.is(200);
    assert_eq!(status().await, "active");
    report(&api, "4", &reference, "failed").await.is(200);
    // Until the period and the days of grace are over.
    api.app.advance(TimeDelta::days(42));
    tick(&api).await;
    assert_eq!(status().await, "past_due");
    api.app.advance(TimeDelta::days(2));
    tick(&api).await;
    assert_eq!(
        (status().await.as_str(), last().await.as_str()),
        ("none", "subscription.canceled")
    );
    for _ in 0..200 {
        if mock.asked().iter().any(|asked| *asked == format!("cancel {reference}")) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(*mock.asked().last().unwrap(), format!("cancel {reference}"));
    // Over is over.
    report(&api, "5", &reference, "paid").await.is(200);
    assert_eq!(status().await, "none");
    // A second subscription has no second trial.
    let token = api.again(&user).await;
    let made = token
        .post("/subscriptions")
        .json(order(&plan_id, "good"))
        .expect(201)
        .await;
    assert_eq!(made["status"], "active");
    let path = format!("/subscriptions/{}", made["subscription_id"].as_str().unwrap());
    let other = api.user().await;
    other.patch(&path).json(json!({})).refused("NOT_FOUND").await;
    token
        .patch(&path)
        .json(json!({ "payment_method": "declined" }))
        .refused("PAYMENT_FAILED")
        .await;
    let ending = token
        .patch(&path)
        .json(json!({ "cancel_at_period_end": true }))
        .expect(200)
        .await;
    assert_eq!(ending["cancel_at_period_end"], true);
    let canceled = token.delete(&path).expect(200).await;
    assert_eq!(canceled["status"], "canceled");
    token.delete(&path).refused("INVALID_STATE_TRANSITION").await;
    token
        .patch(&path)
        .json(json!({}))
        .refused("INVALID_STATE_TRANSITION")
        .await;
}

#[tokio::test]
async fn bl_5_what_is_never_paid_expires() {
    let (api, _) = with_mock().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let plan_id = made(&admin, plan("Starter")).await;
    user.post("/subscriptions")
        .json(order(&plan_id, "confirm"))
        .expect(201)
        .await;
    user.patch(&format!("/subscriptions/{}", Uuid::now_v7()))
        .json(json!({}))
        .refused("NOT_FOUND")
        .await;
    api.app.advance(TimeDelta::hours(25));
    tick(&api).await;
    let status: String = api.value("select status from subscriptions").await;
    assert_eq!(status, "expired");
}

#[tokio::test]
async fn bl_5_manual_subscriptions_renew_themselves_and_end_when_told() {
    let api = Api::start().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let plan_id = made(&admin, plan("Starter")).await;
    let made = user
        .post("/subscriptions")
        .json(json!({ "plan_id": plan_id }))
        .expect(201)
        .await;
    let path = format!("/subscriptions/{}", made["subscription_id"].as_str().unwrap());
    api.app.advance(TimeDelta::days(70));
    tick(&api).await;
    let user = api.again(&user).await;
    let row = user.get("/subscriptions/current").expect(200).await;
    let end = DateTime::parse_from_rfc3339(row["current_period_end"].as_str().unwrap()).unwrap();
    assert!(
        end > api.app.now() && end < api.app.now() + TimeDelta::days(32),
        "{row}"
    );
    user.patch(&path)
        .json(json!({ "cancel_at_period_end": true }))
        .expect(200)
        .await;
    api.app.advance(TimeDelta::days(32));
    tick(&api).await;
    let user = api.again(&user).await;
    user.get("/subscriptions/current")
        .refused("NO_ACTIVE_SUBSCRIPTION")
        .await;
}

#[tokio::test]
async fn bl_6_a_lower_plan_takes_nothing_away() {
    let api = Api::start().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let high = made(&admin, plan("High")).await;
    let mut low = plan("Low");
    low["max_devices"] = json!(1);
    low["max_profiles"] = json!(1);
    let low = made(&admin, low).await;
    let made = user
        .post("/subscriptions")
        .json(json!({ "plan_id": high }))
        .expect(201)
        .await;
    for number in 0..3 {
        user.post("/devices")
            .json(crate::account::device(number))
            .expect(201)
            .await;
    }
    user.post("/profiles")
        .json(json!({ "name": "Second" }))
        .expect(201)
        .await;
    let path = format!("/subscriptions/{}", made["subscription_id"].as_str().unwrap());
    let moved = user.patch(&path).json(json!({ "plan_id": low })).expect(200).await;
    assert_eq!(moved["plan"], "Low");
    assert_eq!(api.events().await.last().unwrap(), "subscription.updated");
    let devices = user.get("/devices").expect(200).await;
    assert_eq!(
        (devices["data"].as_array().unwrap().len(), devices["limit"].as_i64()),
        (3, Some(1))
    );
    assert_eq!(
        user.get("/profiles").expect(200).await["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    user.post("/devices")
        .json(crate::account::device(7))
        .refused("DEVICE_LIMIT_REACHED")
        .await;
    user.post("/profiles")
        .json(json!({ "name": "Third" }))
        .refused("PROFILE_LIMIT_REACHED")
        .await;
}

#[tokio::test]
async fn bl_and_tn_1_money_stays_in_its_tenant() {
    let api = Api::start().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let tenant = api.tenant("other").await;
    let stranger = api.user_of(tenant, control_api::auth::Role::Admin).await;
    let plan_id = made(&admin, plan("Starter")).await;
    let made = user
        .post("/subscriptions")
        .json(json!({ "plan_id": plan_id }))
        .expect(201)
        .await;
    stranger.get(&format!("/plans/{plan_id}")).refused("WRONG_TENANT").await;
    stranger
        .put(&format!("/admin/plans/{plan_id}"))
        .json(plan("Taken"))
        .refused("WRONG_TENANT")
        .await;
    stranger
        .post("/subscriptions")
        .json(json!({ "plan_id": plan_id }))
        .refused("WRONG_TENANT")
        .await;
    let path = format!("/subscriptions/{}", made["subscription_id"].as_str().unwrap());
    stranger.delete(&path).refused("WRONG_TENANT").await;
    assert_eq!(
        stranger.get("/admin/subscriptions").expect(200).await["data"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    // An account that goes ends what it pays.
    user.delete("/account")
        .json(json!({ "current_password": crate::harness::PASSWORD, "confirmation": "DELETE_ACCOUNT" }))
        .expect(204)
        .await;
    assert!(api.events().await.contains(&"subscription.canceled".to_owned()));
}

/// A plan that costs nothing.
fn free(name: &str) -> Value {
    let mut plan = plan(name);
    plan["price"] = json!(0);
    plan
}

#[tokio::test]
async fn bl_2_what_cost_nothing_is_not_changed_into_what_costs() {
    let (api, mock) = with_mock().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let (none, other) = (made(&admin, free("Free")).await, made(&admin, free("Other")).await);
    let paid = made(&admin, plan("Starter")).await;
    let body = json!({ "plan_id": none });
    let bought = user.post("/subscriptions").json(body).expect(201).await;
    let path = format!("/subscriptions/{}", bought["subscription_id"].as_str().unwrap());
    let change = |body: Value| user.patch(&path).json(body);
    change(json!({ "plan_id": paid })).refused("PAYMENT_FAILED").await;
    change(order(&paid, "good")).refused("PAYMENT_FAILED").await;
    let now = user.get("/subscriptions/current").expect(200).await;
    assert_eq!(now["plan_id"], json!(none));
    // All else may be changed.
    assert_eq!(
        change(json!({ "plan_id": other })).expect(200).await["plan_id"],
        json!(other)
    );
    for ends in [true, false] {
        let body = change(json!({ "cancel_at_period_end": ends })).expect(200).await;
        assert_eq!(body["cancel_at_period_end"], json!(ends));
    }
    assert!(mock.asked().is_empty(), "{:?}", mock.asked());
    // What is paid for is changed where it is paid.
    user.delete(&path).expect(200).await;
    let bought = user.post("/subscriptions").json(order(&paid, "good")).expect(201).await;
    let path = format!("/subscriptions/{}", bought["subscription_id"].as_str().unwrap());
    let dear = made(&admin, plan("Professional")).await;
    user.patch(&path).json(json!({ "plan_id": dear })).expect(200).await;
    assert!(mock.asked().last().unwrap().starts_with("update ref-"));
    // Nor does it become something else where its provider is gone.
    api.sql("update subscriptions set provider = 'gone' where status = 'active'")
        .await;
    let back = user.patch(&path).json(json!({ "plan_id": paid }));
    back.refused("PAYMENT_FAILED").await;
}

#[tokio::test]
async fn bl_5_gifts_stay_what_they_were_given_as() {
    let (api, mock) = with_mock().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let (given, dear) = (
        made(&admin, plan("Starter")).await,
        made(&admin, plan("Professional")).await,
    );
    let end = api.app.now() + TimeDelta::days(7);
    let gift = json!({ "user_id": user.user_id, "plan_id": given, "current_period_end": end });
    let gift = admin.post("/admin/subscriptions").json(gift).expect(201).await;
    let path = format!("/subscriptions/{}", gift["id"].as_str().unwrap());
    for (change, at) in [
        (json!({ "plan_id": dear }), &api),
        (json!({ "cancel_at_period_end": false }), &api),
        // Nor where nobody takes money for anything.
        (json!({ "plan_id": dear }), &api.beside_with(settings()).await),
        (
            json!({ "cancel_at_period_end": false }),
            &api.beside_with(settings()).await,
        ),
    ] {
        let ask = user.at(at).patch(&path).json(change);
        ask.refused("INVALID_STATE_TRANSITION").await;
    }
    // What says the same again is no change.
    let same = json!({ "plan_id": given, "cancel_at_period_end": true });
    let got = user.patch(&path).json(same).expect(200).await;
    assert_eq!(
        (&got["plan_id"], &got["cancel_at_period_end"]),
        (&json!(given), &json!(true))
    );
    assert_eq!(got["current_period_end"], gift["current_period_end"]);
    assert!(mock.asked().is_empty(), "{:?}", mock.asked());
    api.app.advance(TimeDelta::days(8));
    tick(&api).await;
    let user = api.again(&user).await;
    user.get("/subscriptions/current")
        .refused("NO_ACTIVE_SUBSCRIPTION")
        .await;
}

#[tokio::test]
async fn subscriptions_are_sent_back_as_they_were_read() {
    let api = Api::start().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let plan = made(&admin, plan("Starter")).await;
    let body = json!({ "plan_id": plan });
    user.post("/subscriptions").json(body).expect(201).await;
    let mut read = user.get("/subscriptions/current").expect(200).await;
    let path = format!("/subscriptions/{}", read["id"].as_str().unwrap());
    read["cancel_at_period_end"] = json!(true);
    let status = read["status"].take();
    read["status"] = json!("expired");
    read["trial_end"] = json!(null);
    let got = user.patch(&path).json(read).expect(200).await;
    assert_eq!((&got["cancel_at_period_end"], &got["status"]), (&json!(true), &status));
    user.patch(&path)
        .json(json!({ "color": "red" }))
        .refused("VALIDATION_ERROR")
        .await;
}
