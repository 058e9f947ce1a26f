//! Webhooks: where events are told, and what became of each (WH).

use std::sync::Arc;

use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::call::Call;
use crate::db;
use crate::db::webhooks::{self, Webhook};
use crate::error::{ApiError, Code};
use crate::operation::{Answer, Caller, Endpoint, delete, get, patch, post};
use crate::page::NEWEST;
use crate::reply::Reply;
use crate::schema::{
    Field, Schema, absent, array, date_time, integer, object, optional, page, required, text, uri, uuid,
};
use crate::secrets::new_token;
use crate::webhook::{self, EVENTS, PING, UrlRefusal};
use crate::work::Work;

/// Most endpoints of one owner.
const COUNT_MAX: i64 = 50;
/// Deliveries of an endpoint that may be asked for again in a minute.
const REDELIVERY_COUNT_MAX: i64 = 10;
const SCOPES: &[&str] = &["own", "tenant"];
const STATUSES: &[&str] = &["active", "disabled"];
const DELIVERY_STATUSES: &[&str] = &["pending", "delivered", "failed", "retrying"];
/// What a change may write.
const WRITTEN: [&str; 4] = ["url", "description", "events", "status"];
const URL_ERRORS: &[Code] = &[Code::WebhookUrlNotHttps, Code::UrlNotAllowed];

/// Their operations.
pub fn endpoints() -> Vec<Endpoint> {
    let events = || array(Schema::Enum(EVENTS), 1, EVENTS.len());
    let mut with_secret = fields();
    with_secret.push(required("signing_secret", text(1, 100)));
    vec![
        get("webhooks.list", "/webhooks", Caller::Any, list)
            .summary("One's own webhooks, or those of the tenant")
            .list()
            .query("scope", Schema::Enum(SCOPES))
            .reply(200, page(schema()))
            .rules("WH-8"),
        post("webhooks.create", "/webhooks", Caller::Any, create)
            .summary("Be told of events. The secret is shown once")
            .json(object([
                required("url", uri()),
                optional("description", text(0, 255)),
                required("events", events()),
                absent("scope", Schema::Enum(SCOPES)),
            ]))
            .reply(201, object(with_secret).named("NewWebhook"))
            .errors(URL_ERRORS)
            .errors(&[Code::Conflict])
            .idempotent()
            .cache_control("no-store")
            .rules("WH-1, WH-2, WH-8, WH-9"),
        get("webhooks.get", "/webhooks/{webhook_id}", Caller::Any, one)
            .summary("A webhook")
            .reply(200, schema())
            .etag()
            .rules("WH-2"),
        patch("webhooks.update", "/webhooks/{webhook_id}", Caller::Any, update)
            .summary("Change a webhook, or take it up again")
            .json(object(schema().besides(&WRITTEN).into_iter().chain([
                absent("url", uri()),
                optional("description", text(0, 255)),
                absent("events", events()),
                absent("status", Schema::Enum(STATUSES)),
            ])))
            .reply(200, schema())
            .errors(URL_ERRORS)
            .rules("WH-1, WH-5, WH-9"),
        delete("webhooks.delete", "/webhooks/{webhook_id}", Caller::Any, remove)
            .summary("Be told no more; what waits is dropped")
            .empty(204),
        post("webhooks.test", "/webhooks/{webhook_id}/test", Caller::Any, test)
            .summary("Send a ping now and wait for the answer")
            .reply(200, delivery_schema())
            .idempotent()
            .rules("WH-6"),
        get(
            "webhooks.deliveries",
            "/webhooks/{webhook_id}/deliveries",
            Caller::Any,
            deliveries,
        )
        .summary("What became of each event, for 30 days")
        .list()
        .query("status", Schema::Enum(DELIVERY_STATUSES))
        .reply(200, page(delivery_schema()))
        .rules("WH-4"),
        post(
            "webhooks.redeliver",
            "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
            Caller::Any,
            redeliver,
        )
        .summary("Try a failed delivery again")
        .reply(202, delivery_schema())
        .errors(&[Code::DeliveryNotFailed, Code::RedeliveryRateLimited])
        .idempotent()
        .rules("WH-7"),
    ]
}

fn fields() -> Vec<Field> {
    vec![
        required("id", uuid()),
        required("url", uri()),
        optional("description", text(0, 255)),
        required("events", array(text(1, 100), 1, EVENTS.len())),
        required("status", Schema::Enum(STATUSES)),
        required("signing_secret_hint", text(4, 4)),
        required("failure_count", integer(0, i64::MAX)),
        optional("last_delivery_at", date_time()),
        required("scope", Schema::Enum(SCOPES)),
        required("owner_id", uuid()),
        required("created_at", date_time()),
        required("updated_at", date_time()),
    ]
}

fn schema() -> Schema {
    object(fields()).named("Webhook")
}

fn delivery_schema() -> Schema {
    object([
        required("id", uuid()),
        required("endpoint_id", uuid()),
        required("event_type", text(1, 100)),
        required("event_id", uuid()),
        required("status", Schema::Enum(DELIVERY_STATUSES)),
        optional("http_status", integer(100, 999)),
        optional("response_snippet", text(0, 1024)),
        required("attempt_count", integer(0, i64::MAX)),
        optional("next_retry_at", date_time()),
        optional("delivered_at", date_time()),
        required("created_at", date_time()),
    ])
    .named("Delivery")
}

/// The endpoint in the path, if the caller may have it: their own, or one of the tenant for admins by token.
async fn reach(connection: &mut PgConnection, call: &Call) -> Result<Webhook, ApiError> {
    let id = call.path_id("webhook_id")?;
    let user = call.user_id()?;
    match webhooks::get(connection, call.tenant, id).await? {
        Some(webhook) if webhook.scope == "own" && webhook.owner_id == user => Ok(webhook),
        Some(webhook) if webhook.scope == "tenant" && call.administrates() => Ok(webhook),
        Some(_) => Err(Code::NotFound.into()),
        None => Err(db::missing(connection, "webhooks", id, call).await),
    }
}

fn shown(webhook: &Webhook) -> Answer {
    Reply::json(200, webhook)?.version(webhook.row_version, None)
}

/// Endpoints of the whole tenant are for its admins by token.
fn guard_scope(call: &Call, scope: &str) -> Result<(), ApiError> {
    match scope == "tenant" && !call.administrates() {
        true => Err(ApiError::with(
            Code::Forbidden,
            "only admins are told of the whole tenant's events, by token",
        )),
        false => Ok(()),
    }
}

async fn admit(app: &App, url: &str) -> Result<(), ApiError> {
    let section = &app.config.section;
    let own = [section.public_url.as_str(), section.delivery_url.as_str()];
    app.webhooks.admit(url, own).await.map_err(|refusal| match refusal {
        UrlRefusal::NotHttps => ApiError::new(Code::WebhookUrlNotHttps),
        UrlRefusal::NotAllowed(_) => ApiError::new(Code::UrlNotAllowed).detail("url", refusal.to_string()),
    })
}

fn sorted(mut events: Vec<String>) -> Vec<String> {
    events.sort_unstable();
    events.dedup();
    events
}

async fn list(app: Arc<App>, call: Call) -> Answer {
    let scope = call.query_text("scope").unwrap_or("own");
    guard_scope(&call, scope)?;
    let owner = match scope {
        "tenant" => None,
        _ => Some(call.user_id()?),
    };
    let page = call.page(&NEWEST, &format!("webhooks {owner:?}"))?;
    let mut connection = app.db.acquire().await?;
    let (rows, total) = webhooks::list(&mut connection, call.tenant, owner, &page).await?;
    page.answer(rows, total, &call.target)
}

#[derive(Deserialize)]
struct NewWebhook {
    url: String,
    description: Option<String>,
    events: Vec<String>,
    scope: Option<String>,
}

async fn create(app: Arc<App>, call: Call) -> Answer {
    let wanted: NewWebhook = call.body()?;
    let scope = wanted.scope.unwrap_or_else(|| "own".to_owned());
    guard_scope(&call, &scope)?;
    admit(&app, &wanted.url).await?;
    let (id, owner) = (Uuid::now_v7(), call.user_id()?);
    let secret = new_token("whsec_").map_err(ApiError::internal)?;
    let sealed = app
        .secrets
        .seal(&webhook::place(id), secret.as_bytes())
        .map_err(ApiError::internal)?;
    let new = Webhook {
        id,
        url: wanted.url,
        description: wanted.description,
        events: sorted(wanted.events),
        status: "active".to_owned(),
        secret_hint: secret.chars().skip(secret.chars().count().saturating_sub(4)).collect(),
        failure_count: 0,
        last_delivery_at: None,
        scope,
        owner_id: owner,
        created_at: call.now,
        updated_at: call.now,
        row_version: 1,
    };
    let mut work = Work::begin(&app, &call).await?;
    db::profiles::lock_account(work.connection(), owner).await?;
    if webhooks::count(work.connection(), owner).await? >= COUNT_MAX {
        return Err(ApiError::with(
            Code::Conflict,
            format!("an account has at most {COUNT_MAX} webhooks"),
        ));
    }
    webhooks::insert(work.connection(), call.tenant, &new, &sealed).await?;
    let stored = webhooks::get(work.connection(), call.tenant, id).await?;
    let stored = stored.ok_or_else(|| ApiError::internal("a stored webhook is gone"))?;
    let metadata = json!({ "url": stored.url, "events": stored.events, "scope": stored.scope });
    work.audit("webhook.created", "webhook", Some(id), metadata).await?;
    let mut body = serde_json::to_value(&stored).map_err(ApiError::internal)?;
    body["signing_secret"] = json!(*secret);
    let reply = Reply::created(&format!("/api/v1/webhooks/{id}"), &body)?;
    work.finish(reply).await
}

async fn one(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    shown(&reach(&mut connection, &call).await?)
}

async fn update(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    if let Some(url) = members.get("url").and_then(Value::as_str) {
        admit(&app, url).await?;
    }
    let mut work = Work::begin(&app, &call).await?;
    let mut webhook = reach(work.connection(), &call).await?;
    let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
    webhook.url = text("url").unwrap_or(webhook.url);
    if members.contains_key("description") {
        webhook.description = text("description");
    }
    if let Some(events) = members.get("events") {
        let events = serde_json::from_value(events.clone()).map_err(ApiError::internal)?;
        webhook.events = sorted(events);
    }
    if let Some(status) = text("status") {
        // Sent back as it was read, it takes nothing up again.
        if status == "active" && webhook.status != "active" {
            webhook.failure_count = 0;
        }
        webhook.status = status;
    }
    webhooks::update(work.connection(), &webhook).await?;
    let metadata = json!({ "url": webhook.url, "events": webhook.events, "status": webhook.status });
    work.audit("webhook.updated", "webhook", Some(webhook.id), metadata)
        .await?;
    let webhook = reach(work.connection(), &call).await?;
    work.finish(shown(&webhook)?).await
}

async fn remove(app: Arc<App>, call: Call) -> Answer {
    let mut work = Work::begin(&app, &call).await?;
    let webhook = reach(work.connection(), &call).await?;
    webhooks::delete(work.connection(), webhook.id).await?;
    work.audit(
        "webhook.deleted",
        "webhook",
        Some(webhook.id),
        json!({ "url": webhook.url }),
    )
    .await?;
    work.finish(Reply::empty(204)).await
}

/// Nothing is locked while the endpoint is waited for.
async fn test(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let webhook = reach(&mut connection, &call).await?;
    let event = Uuid::now_v7();
    let body = webhook::body(event, PING, call.tenant.0, &json!({ "id": webhook.id }));
    let (tenant, id) = (call.tenant, webhook.id);
    let claimed = webhooks::insert_claimed(&mut connection, tenant, id, (event, PING), &body, call.now).await?;
    drop(connection);
    let outcome = webhook::attempt(&app, &claimed, true).await?;
    let mut work = Work::begin(&app, &call).await?;
    let written = webhooks::write(work.connection(), &claimed, &outcome).await?;
    work.audit(
        "webhook.tested",
        "webhook",
        Some(id),
        json!({ "status": outcome.status }),
    )
    .await?;
    let delivery = written.ok_or(Code::NotFound)?;
    work.finish(Reply::json(200, &delivery)?).await
}

async fn deliveries(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let webhook = reach(&mut connection, &call).await?;
    let status = call.query_text("status");
    let page = call.page(&NEWEST, &format!("deliveries {} {status:?}", webhook.id))?;
    let (rows, total) = webhooks::deliveries(&mut connection, webhook.id, status, &page).await?;
    page.answer(rows, total, &call.target)
}

async fn redeliver(app: Arc<App>, call: Call) -> Answer {
    let id = call.path_id("delivery_id")?;
    let mut work = Work::begin(&app, &call).await?;
    let webhook = reach(work.connection(), &call).await?;
    let minute_ago = call.now - TimeDelta::minutes(1);
    let recent = webhooks::redelivered_since(work.connection(), webhook.id, minute_ago).await?;
    let delivery = webhooks::lock_delivery(work.connection(), webhook.id, id).await?;
    let delivery = delivery.ok_or(Code::NotFound)?;
    if delivery.status != "failed" {
        return Err(Code::DeliveryNotFailed.into());
    }
    let is_again = delivery.redelivered_at.is_some_and(|at| at > minute_ago);
    if is_again || recent >= REDELIVERY_COUNT_MAX {
        return Err(ApiError::new(Code::RedeliveryRateLimited).retry_after(60));
    }
    webhooks::redeliver(work.connection(), id, call.now).await?;
    work.audit(
        "webhook.redelivered",
        "webhook",
        Some(webhook.id),
        json!({ "delivery_id": id }),
    )
    .await?;
    let delivery = webhooks::lock_delivery(work.connection(), webhook.id, id).await?;
    let reply = Reply::json(202, &delivery.ok_or(Code::NotFound)?)?;
    work.finish(reply).await
}
