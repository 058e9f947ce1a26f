//! System: configuration for apps, health, version, metrics, the document of the API.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::{API_VERSION, App};
use crate::call::Call;
use crate::db;
use crate::error::{ApiError, Code};
use crate::operation::{Answer, Caller, Endpoint, get};
use crate::reply::Reply;
use crate::schema::{Schema, date_time, list, object, optional, required, text, uri};

/// Longest that a component may take to say how it is.
const CHECK_TIMEOUT: Duration = Duration::from_millis(900);

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    let platforms = Schema::Enum(&["ios", "android", "tvos", "web", "roku", "firetv"]);
    vec![
        get("system.config", "/system/config", Caller::Public, config)
            .summary("What apps need to know first")
            .query_required("platform", platforms)
            .reply(200, config_schema())
            .etag()
            .cache_control("public, max-age=60")
            .rules("SY-3"),
        get("system.health", "/system/health", Caller::Public, health)
            .summary("How the parts are, for people")
            .reply(200, health_schema())
            .reply(503, health_schema())
            .cache_control("no-store")
            .bare()
            .rules("SY-1"),
        get("system.ready", "/system/ready", Caller::Public, ready)
            .summary("Whether requests may be sent here")
            .reply(
                200,
                object([required("ready", Schema::Bool), required("checks", Schema::Any)]),
            )
            .cache_control("no-store")
            .bare()
            .rules("SY-2"),
        get("system.version", "/system/version", Caller::Public, version)
            .summary("Version of the API and of the build")
            .reply(200, version_schema())
            .cache_control("public, max-age=60"),
        get("system.openapi", "/openapi.json", Caller::Public, openapi)
            .summary("This API as an OpenAPI 3.1 document")
            .reply(200, Schema::Any)
            .etag()
            .cache_control("public, max-age=60"),
        get("system.docs", "/docs", Caller::Public, docs)
            .summary("This API as a page")
            .media_type("text/html")
            .reply(200, Schema::Any)
            .cache_control("public, max-age=60"),
        get("system.healthz", "//healthz", Caller::Public, healthz)
            .summary("Whether the process is alive")
            .media_type("text/plain")
            .reply(200, Schema::Any)
            .cache_control("no-store")
            .bare(),
        get("system.readyz", "//readyz", Caller::Public, readyz)
            .summary("Whether requests may be sent here, as text")
            .media_type("text/plain")
            .reply(200, Schema::Any)
            .cache_control("no-store")
            .bare()
            .rules("SY-2"),
    ]
}

fn config_schema() -> Schema {
    let maintenance = object([
        required("active", Schema::Bool),
        optional("message", text(0, 1000)),
        optional("starts_at", date_time()),
        optional("ends_at", date_time()),
    ]);
    let oauth = object([required("issuer", uri()), optional("client_id", text(0, 200))]);
    let public = object([
        required("site_name", text(0, 200)),
        required("registration_enabled", Schema::Bool),
        required("captcha_required_for", list(text(0, 50))),
        required("upload_limits", Schema::Any),
        required("oauth", oauth),
        required("default_player", text(0, 50)),
    ]);
    object([
        required("minimum_app_version", Schema::Map(Box::new(text(0, 50)))),
        required("feature_flags", Schema::Map(Box::new(Schema::Bool))),
        required("cdn_base_url", uri()),
        required("maintenance", maintenance),
        required("supported_locales", list(text(2, 35))),
        required("config_version", text(1, 64)),
        required("public", public),
    ])
    .named("AppConfig")
}

fn health_schema() -> Schema {
    let component = object([
        required("status", Schema::Enum(&["ok", "degraded", "down"])),
        optional(
            "latency_ms",
            Schema::Number {
                min: 0.0,
                max: f64::INFINITY,
            },
        ),
        optional("message", text(0, 200)),
    ]);
    object([
        required("status", Schema::Enum(&["ok", "degraded", "down"])),
        required("version", text(1, 50)),
        required("timestamp", date_time()),
        required("components", Schema::Map(Box::new(component))),
    ])
    .named("Health")
}

fn version_schema() -> Schema {
    object([
        required("api_version", text(1, 20)),
        required("build_date", text(0, 40)),
        required("commit_sha", text(0, 64)),
    ])
    .named("VersionInfo")
}

async fn config(app: Arc<App>, call: Call) -> Answer {
    let settings = app.settings();
    let oauth_client = settings
        .auth
        .oauth_clients
        .first()
        .map(|client| client.client_id.as_str());
    let mut body = json!({
        "minimum_app_version": settings.apps.minimum_app_version,
        "feature_flags": settings.apps.feature_flags,
        "cdn_base_url": app.config.section.delivery_url,
        "maintenance": settings.maintenance,
        "supported_locales": settings.apps.supported_locales,
        "public": {
            "site_name": settings.site.name,
            "registration_enabled": settings.registration.enabled,
            "captcha_required_for": [],
            "upload_limits": {
                "panel_bytes": settings.media.upload_max_bytes_panel, "api_bytes": settings.media.upload_max_bytes_api,
            },
            "oauth": { "issuer": app.config.section.public_url, "client_id": oauth_client },
            "default_player": "shaka",
        },
    });
    let platform = call.query_text("platform").unwrap_or_default();
    let hash = crate::secrets::sha256(format!("{platform}{body}").as_bytes());
    body["config_version"] = json!(crate::secrets::hex(&hash)[..16]);
    Reply::json(200, &body)?.weak()
}

/// How the database is: milliseconds it took to answer.
async fn database(app: &App) -> Result<f64, ApiError> {
    let begun = Instant::now();
    match tokio::time::timeout(CHECK_TIMEOUT, db::system::version(&app.db)).await {
        Ok(Ok(_)) => Ok((begun.elapsed().as_secs_f64() * 1e6).round() / 1e3),
        Ok(Err(error)) => Err(ApiError::unavailable(error)),
        Err(_) => Err(ApiError::unavailable("the database does not answer")),
    }
}

async fn health(app: Arc<App>, call: Call) -> Answer {
    let (status, component) = match database(&app).await {
        Ok(latency_ms) => ("ok", json!({ "status": "ok", "latency_ms": latency_ms })),
        Err(_) => ("down", json!({ "status": "down", "message": "does not answer" })),
    };
    let heard = !app.caches.is_deaf();
    let cache = if heard { "ok" } else { "degraded" };
    let status = if status == "ok" { cache } else { status };
    let body = json!({
        "status": status, "version": env!("CARGO_PKG_VERSION"), "timestamp": call.now,
        "components": { "database": component, "cache": { "status": cache } },
    });
    Reply::json(if status == "down" { 503 } else { 200 }, &body)
}

async fn ready(app: Arc<App>, _call: Call) -> Answer {
    database(&app).await?;
    Reply::json(
        200,
        &json!({ "ready": true, "checks": { "database": true, "cache": true, "drm": true } }),
    )
}

async fn readyz(app: Arc<App>, _call: Call) -> Answer {
    database(&app).await?;
    Ok(Reply::bytes(200, "text/plain; charset=utf-8", "ok\n"))
}

async fn healthz(_app: Arc<App>, _call: Call) -> Answer {
    Ok(Reply::bytes(200, "text/plain; charset=utf-8", "ok\n"))
}

async fn version(_app: Arc<App>, _call: Call) -> Answer {
    let built = option_env!("HEADWATER_BUILD_DATE").unwrap_or("");
    let commit = option_env!("HEADWATER_COMMIT").unwrap_or("");
    Reply::json(
        200,
        &json!({ "api_version": API_VERSION, "build_date": built, "commit_sha": commit }),
    )
}

async fn openapi(app: Arc<App>, _call: Call) -> Answer {
    let document: &Value = &app.openapi;
    Reply::json(200, document)?.weak()
}

async fn docs(app: Arc<App>, _call: Call) -> Answer {
    let page = crate::openapi::page(&app.endpoints);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
    Reply::bytes(200, "text/html; charset=utf-8", page).with(axum::http::header::CONTENT_SECURITY_POLICY, policy)
}

/// `/metrics`, which is served on an address of its own.
pub fn metrics(app: &App) -> Result<String, ApiError> {
    app.metrics
        .text()
        .map_err(|error| ApiError::with(Code::InternalError, error.to_string()))
}
