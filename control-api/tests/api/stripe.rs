//! The provider of Stripe's shape, against a server that answers as Stripe documents it (BL-2, BL-4).

use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use chrono::{DateTime, Utc};
use control_api::billing::payment::{
    Change, Discount, Order, PaymentError, PaymentProvider, Priced, ReportError, Reported,
};
use control_api::billing::stripe::{Secrets, Stripe};
use control_api::billing::{Cycle, Status};
use control_api::outbound::{Outbound, Reach, check_url};
use serde_json::{Value, json};
use uuid::Uuid;

type Log = Arc<Mutex<Vec<String>>>;

async fn answer(
    State(log): State<Log>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let body = String::from_utf8_lossy(&body).into_owned();
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("-")
            .to_owned()
    };
    log.lock()
        .unwrap()
        .push(format!("{method} {} {} {body}", uri.path(), header("idempotency-key")));
    if header("authorization") != "Bearer sk_test" {
        return (StatusCode::UNAUTHORIZED, json!({ "error": {} }).to_string());
    }
    let (status, body) = match (method.as_str(), uri.path()) {
        ("POST", "/v1/customers") => (200, json!({ "id": "cus_1" })),
        ("POST", "/v1/payment_methods/pm_declined/attach") => (402, json!({ "error": { "code": "card_declined" } })),
        ("POST", "/v1/payment_methods/pm_good/attach") => (200, json!({ "id": "pm_good" })),
        ("POST", "/v1/products") => (400, json!({ "error": { "code": "resource_already_exists" } })),
        ("POST", "/v1/coupons") => (200, json!({ "id": "co_1" })),
        ("POST", "/v1/subscriptions") => (
            200,
            json!({
                "id": "sub_1", "status": "incomplete", "current_period_end": 1_800_000_000,
                "latest_invoice": { "payment_intent": { "client_secret": "pi_secret" } },
            }),
        ),
        ("GET", "/v1/subscriptions/sub_1") => (200, json!({ "items": { "data": [{ "id": "si_1" }] } })),
        ("POST" | "DELETE", "/v1/subscriptions/sub_1") => (200, json!({ "id": "sub_1" })),
        _ => (404, json!({ "error": {} })),
    };
    (StatusCode::from_u16(status).unwrap(), body.to_string())
}

async fn server(api_key: &str) -> (Stripe, Log) {
    let log = Log::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(log.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let url = check_url(&format!("http://{address}"), Reach::Public).unwrap();
    let secrets = Secrets {
        api_key: api_key.to_owned().into(),
        signing_secret: "whsec".to_owned().into(),
    };
    (
        Stripe::new(&url, secrets, Outbound::new(Reach::Public, None, None).unwrap()),
        log,
    )
}

fn order(method: &str) -> Order {
    Order {
        subscription: Uuid::from_u128(1),
        user: Uuid::from_u128(2),
        email: "a+b@example.org".to_owned(),
        customer: None,
        priced: Priced {
            plan: Uuid::from_u128(3),
            name: "Starter & more".to_owned(),
            price_cents: 999,
            currency: "EUR".to_owned(),
            cycle: Cycle::Quarterly,
        },
        trial_end: DateTime::from_timestamp(1_700_000_000, 0),
        discount: Some(Discount {
            coupon: Uuid::from_u128(4),
            percent_off: Some(50),
            amount_off_cents: None,
            cycles: Some(2),
        }),
        payment_method: Some(method.to_owned()),
    }
}

#[tokio::test]
async fn bl_2_stripe_is_asked_as_it_documents() {
    let (stripe, log) = server("sk_test").await;
    let placed = stripe.create(&order("pm_good")).await.unwrap();
    assert_eq!(
        (placed.reference.as_deref(), placed.customer.as_deref()),
        (Some("sub_1"), Some("cus_1"))
    );
    assert_eq!(
        (placed.status, placed.client_secret.as_deref()),
        (Status::Incomplete, Some("pi_secret"))
    );
    assert_eq!(placed.period_end, DateTime::from_timestamp(1_800_000_000, 0));
    let id = |number: u128| Uuid::from_u128(number).to_string();
    let expected = [
        format!(
            "POST /v1/customers {}-customer email=a%2Bb%40example.org&metadata%5Buser_id%5D={}",
            id(2),
            id(2)
        ),
        "POST /v1/payment_methods/pm_good/attach - customer=cus_1".to_owned(),
        format!("POST /v1/products - id={}&name=Starter%20%26%20more", id(3)),
        format!(
            "POST /v1/coupons {}-coupon percent_off=50&duration=repeating&duration_in_months=6",
            id(1)
        ),
        format!(
            "POST /v1/subscriptions {} customer=cus_1&items%5B0%5D%5Bprice_data%5D%5Bcurrency%5D=eur&items%5B0%5D%5B\
             price_data%5D%5Bunit_amount%5D=999&items%5B0%5D%5Bprice_data%5D%5Bproduct%5D={}&items%5B0%5D%5Bprice_data\
             %5D%5Brecurring%5D%5Binterval%5D=month&items%5B0%5D%5Bprice_data%5D%5Brecurring%5D%5Binterval_count%5D=3&\
             metadata%5Bsubscription_id%5D={}&payment_behavior=default_incomplete&expand%5B0%5D=latest_invoice.\
             payment_intent&default_payment_method=pm_good&trial_end=1700000000&discounts%5B0%5D%5Bcoupon%5D=co_1",
            id(1),
            id(3),
            id(1)
        ),
    ];
    assert_eq!(*log.lock().unwrap(), expected);
    log.lock().unwrap().clear();
    let change = Change {
        priced: Some(order("").priced),
        cancel_at_period_end: Some(true),
        payment_method: None,
    };
    stripe.update("sub_1", &change).await.unwrap();
    stripe.cancel("sub_1").await.unwrap();
    let asked = log.lock().unwrap().clone();
    assert_eq!(asked.len(), 4);
    assert!(asked[2].contains("items%5B0%5D%5Bid%5D=si_1") && asked[2].ends_with("cancel_at_period_end=true"));
    assert_eq!(asked[3], "DELETE /v1/subscriptions/sub_1 - ");
    assert_eq!(
        stripe.create(&order("pm_declined")).await.unwrap_err(),
        PaymentError::Declined
    );
    let (stripe, _) = server("sk_wrong").await;
    let refused = stripe.create(&order("pm_good")).await.unwrap_err();
    assert_eq!(refused, PaymentError::Upstream("refuses our credentials"));
}

fn signed(secret: &str, time: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{time}.{body}").as_bytes());
    let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={time},v0=00,v1={digits}")
}

fn event(kind: &str, object: Value) -> String {
    json!({ "id": "evt_1", "type": kind, "data": { "object": object } }).to_string()
}

#[tokio::test]
async fn bl_4_stripe_s_reports_are_believed_when_they_are_signed() {
    let (stripe, _) = server("sk_test").await;
    let now = DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap();
    let read = |signature: Option<String>, body: &str| {
        let header = |name: &str| (name == "stripe-signature").then(|| signature.clone()).flatten();
        stripe.report(&header, body.as_bytes(), now)
    };
    let body = event("customer.subscription.deleted", json!({ "id": "sub_1" }));
    let time = now.timestamp();
    for wrong in [
        None,
        Some(String::new()),
        Some("t=x,v1=00".to_owned()),
        Some(signed("other", time, &body)),
        Some(signed("whsec", time - 301, &body)),
        Some(signed("whsec", time + 301, &body)),
        Some(signed("whsec", time, "{}")),
        Some(signed("whsec", time, &body).replace("v1=", "v2=")),
        Some(signed("whsec", time, &body).replace(&time.to_string(), &(time + 1).to_string())),
    ] {
        assert_eq!(
            read(wrong.clone(), &body).unwrap_err(),
            ReportError::Signature,
            "{wrong:?}"
        );
    }
    let good = |body: &str| read(Some(signed("whsec", time, body)), body);
    for wrong in ["", "{}", "[]", "{\"id\":\"e\",\"type\":1}"] {
        assert_eq!(good(wrong).unwrap_err(), ReportError::Content, "{wrong}");
    }
    let report = good(&body).unwrap();
    assert_eq!(
        (report.reported, report.reference.as_deref()),
        (Some(Reported::Ended), Some("sub_1"))
    );
    let end = DateTime::from_timestamp(1_900_000_000, 0);
    let metadata = json!({ "subscription_id": Uuid::from_u128(1) });
    let check = |kind: &str, object: Value, expected: Option<Reported>| {
        let report = good(&event(kind, object)).unwrap();
        assert_eq!(report.reported, expected, "{kind}");
        assert_eq!(
            (report.reference.as_deref(), report.subscription),
            (Some("sub_1"), Some(Uuid::from_u128(1)))
        );
    };
    let invoice = json!({
        "subscription": "sub_1", "subscription_details": { "metadata": metadata },
        "lines": { "data": [{ "period": { "end": 1_900_000_000 } }] },
    });
    check("invoice.paid", invoice.clone(), Some(Reported::Paid(end)));
    check("invoice.payment_failed", invoice.clone(), Some(Reported::Failed));
    check("invoice.created", invoice, None);
    let is = |status, cancel_at_period_end| {
        Some(Reported::Is {
            status,
            period_end: end,
            cancel_at_period_end,
        })
    };
    let object = |status: &str| {
        json!({
            "id": "sub_1", "metadata": metadata, "status": status, "cancel_at_period_end": true,
            "items": { "data": [{ "current_period_end": 1_900_000_000 }] },
        })
    };
    let updated = "customer.subscription.updated";
    check(updated, object("active"), is(Status::Active, true));
    check(updated, object("unpaid"), is(Status::PastDue, true));
    check(updated, object("incomplete_expired"), is(Status::Expired, true));
    check(updated, object("something new"), None);
}
