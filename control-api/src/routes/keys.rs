//! API keys: made, listed, revoked, and what each was used for (AK).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::app::App;
use crate::auth::KEY_PREFIX;
use crate::call::Call;
use crate::db;
use crate::db::keys::{self, ApiKey};
use crate::error::{ApiError, Code, breaks};
use crate::operation::{Answer, Caller, Endpoint, delete, get, post};
use crate::page::NEWEST;
use crate::reply::Reply;
use crate::schema::{Schema, absent, array, data, date_time, integer, object, optional, page, required, text, uuid};
use crate::secrets::{new_token, sha256};
use crate::work::Work;

/// Most keys of a user.
const COUNT_MAX: i64 = 50;
/// How much of a key is shown again: `ak_` and 8 characters.
const PREFIX_SIZE: usize = 11;

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    let scopes = || array(Schema::Enum(&["read", "write"]), 1, 2);
    vec![
        get("keys.list", "/api-keys", Caller::Jwt, list)
            .summary("One's own API keys")
            .list()
            .reply(200, page(schema(false)))
            .rules("AK-3, AK-4"),
        post("keys.create", "/api-keys", Caller::Jwt, create)
            .summary("Make an API key, which is shown once")
            .json(object([
                required("name", text(1, 100)),
                absent("scopes", scopes()),
                absent("access", Schema::Enum(&["own", "tenant"])),
                optional("expires_at", date_time()),
            ]))
            .reply(201, schema(true))
            .errors(&[Code::NameTaken, Code::Conflict])
            .idempotent()
            .cache_control("no-store")
            .rules("AK-1, AK-3, AK-8, AK-9"),
        delete("keys.delete", "/api-keys/{key_id}", Caller::Jwt, revoke)
            .summary("Revoke a key and delete the log of its requests")
            .empty(204)
            .rules("AK-3, AK-5"),
        get("keys.audit", "/api-keys/{key_id}/audit", Caller::Jwt, audit)
            .summary("The last 100 requests of a key")
            .reply(200, data(request_schema()))
            .rules("AK-3, AK-6"),
    ]
}

fn schema(with_key: bool) -> Schema {
    let mut fields = vec![
        required("id", uuid()),
        required("name", text(1, 100)),
        required("prefix", text(1, 20)),
        required("scopes", array(Schema::Enum(&["read", "write"]), 0, 2)),
        required("access", Schema::Enum(&["own", "tenant"])),
        required("last_used_at", date_time().or_null()),
        required("expires_at", date_time().or_null()),
        required("created_at", date_time()),
    ];
    if with_key {
        fields.push(required("key", text(1, 100)));
    }
    object(fields).named(if with_key { "NewApiKey" } else { "ApiKey" })
}

fn request_schema() -> Schema {
    object([
        required("at", date_time()),
        required("method", text(1, 20)),
        required("path", text(1, 1024)),
        required("status", integer(100, 999)),
        required("duration_ms", integer(0, i64::MAX)),
        required("ip_address", text(0, 64).or_null()),
        required("user_agent", text(0, 512).or_null()),
        required("request_id", uuid()),
    ])
    .named("ApiKeyRequest")
}

async fn list(app: Arc<App>, call: Call) -> Answer {
    let page = call.page(&NEWEST, "api-keys")?;
    let mut connection = app.db.acquire().await?;
    let (rows, total) = keys::list(&mut connection, call.tenant, call.user_id()?, &page).await?;
    page.answer(rows, total, &call.target)
}

#[derive(Deserialize)]
struct NewKey {
    name: String,
    scopes: Option<Vec<String>>,
    access: Option<String>,
    expires_at: Option<DateTime<Utc>>,
}

async fn create(app: Arc<App>, call: Call) -> Answer {
    let user = call.user_id()?;
    let wanted: NewKey = call.body()?;
    let access = wanted.access.unwrap_or_else(|| "own".to_owned());
    if access == "tenant" && !call.moderates() {
        return Err(ApiError::with(
            Code::Forbidden,
            "only moderators make keys for the whole tenant",
        ));
    }
    if wanted.expires_at.is_some_and(|end| end <= call.now) {
        return Err(ApiError::invalid("expires_at", "must be in the future"));
    }
    let mut scopes = wanted
        .scopes
        .unwrap_or_else(|| vec!["read".to_owned(), "write".to_owned()]);
    scopes.sort_unstable();
    scopes.dedup();
    let secret = new_token(KEY_PREFIX).map_err(ApiError::internal)?;
    let key = ApiKey {
        id: Uuid::now_v7(),
        name: wanted.name,
        prefix: secret.chars().take(PREFIX_SIZE).collect(),
        scopes,
        access,
        last_used_at: None,
        expires_at: wanted.expires_at,
        created_at: call.now,
    };
    let mut work = Work::begin(&app, &call).await?;
    db::profiles::lock_account(work.connection(), user).await?;
    if keys::count(work.connection(), user).await? >= COUNT_MAX {
        return Err(ApiError::with(
            Code::Conflict,
            format!("an account has at most {COUNT_MAX} keys"),
        ));
    }
    let hash = sha256(secret.as_bytes());
    match keys::insert(work.connection(), call.tenant, user, &key, hash).await {
        Err(error) if breaks(&error, "api_keys_name") => return Err(Code::NameTaken.into()),
        other => other?,
    }
    // A key that was tried before it was there is remembered as unknown.
    work.invalidate("api_key", key.id, 0).await?;
    let metadata = json!({ "name": key.name, "scopes": key.scopes, "access": key.access });
    work.audit("api_key.created", "api_key", Some(key.id), metadata).await?;
    let mut body = serde_json::to_value(&key).map_err(ApiError::internal)?;
    body["key"] = json!(*secret);
    let reply = Reply::created(&format!("/api/v1/api-keys/{}", key.id), &body)?;
    work.finish(reply).await
}

/// The key in the path, which must be the caller's own, or any of the tenant for admins.
async fn reach(connection: &mut sqlx::PgConnection, call: &Call) -> Result<Uuid, ApiError> {
    let id = call.path_id("key_id")?;
    match keys::owner(connection, call.tenant, id).await? {
        Some(owner) if owner == call.user_id()? || call.administrates() => Ok(id),
        Some(_) => Err(Code::NotFound.into()),
        None => Err(db::missing(connection, "api_keys", id, call).await),
    }
}

async fn revoke(app: Arc<App>, call: Call) -> Answer {
    let mut work = Work::begin(&app, &call).await?;
    let id = reach(work.connection(), &call).await?;
    keys::delete(work.connection(), call.tenant, id).await?;
    work.invalidate("api_key", id, 0).await?;
    work.audit("api_key.revoked", "api_key", Some(id), json!({})).await?;
    work.finish(Reply::empty(204)).await
}

async fn audit(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let id = reach(&mut connection, &call).await?;
    let rows = keys::requests(&mut connection, id).await?;
    Reply::json(200, &json!({ "data": rows }))
}
