//! HTTP of key exchange: who asks, how much is read, and what an error looks like (RFC 9457).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use zeroize::Zeroizing;

use super::cpix::{self, Document, KeyValue, Version};
use super::delivery::DeliveryError;
use super::speke::{self, SpekeError, SpekeVersion, USER_AGENT, VERSION_HEADER};
use super::{Client, Contract, Credentials, KeySet, KeySource, KeySourceError, Wanted, content_key_api};

/// Longest that a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// When a source that is not available may be asked again.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");

const XML: HeaderValue = HeaderValue::from_static("application/xml");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

struct Exchange {
    source: Arc<dyn KeySource>,
    credentials: Credentials,
}

/// Routes of key exchange: `POST /v1/keys/speke`, `POST /v1/keys/cenc/getcontentkey/{signer}`,
/// `GET` and `POST /v1/keys/cpix/{content}`. The source is asked on threads that may block.
pub fn router(source: Arc<dyn KeySource>, credentials: Credentials) -> Router {
    Router::new()
        .route("/v1/keys/speke", post(speke))
        .route("/v1/keys/cenc/getcontentkey/{signer}", post(content_key))
        .route("/v1/keys/cpix/{content}", get(export).post(import))
        .with_state(Arc::new(Exchange { source, credentials }))
}

/// An error as its answer.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let detail = detail.into();
        Problem { status, detail }
    }
}

impl From<KeySourceError> for Problem {
    fn from(error: KeySourceError) -> Problem {
        let status = match error {
            KeySourceError::NoKeys => StatusCode::NOT_FOUND,
            KeySourceError::KeyInUse(_) => StatusCode::CONFLICT,
            KeySourceError::ReadOnly => StatusCode::FORBIDDEN,
            KeySourceError::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, error.to_string())
    }
}

impl From<SpekeError> for Problem {
    fn from(error: SpekeError) -> Problem {
        let status = match error {
            SpekeError::Source(error) => return error.into(),
            SpekeError::ClearDelivery => StatusCode::FORBIDDEN,
            SpekeError::Delivery(DeliveryError::Randomness) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Problem::new(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = respond(self.status, PROBLEM, body.to_string());
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"keys\""));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_AFTER_S);
        }
        response
    }
}

fn respond(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = (status, body.into()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whoever sent the headers; found out before a byte of the body is read.
fn client<'e>(exchange: &'e Exchange, headers: &HeaderMap) -> Result<&'e Client, Problem> {
    let found = exchange
        .credentials
        .client(text(headers, "x-api-key"), text(headers, AUTHORIZATION.as_str()));
    found.ok_or_else(|| {
        tracing::info!("key exchange: not authenticated");
        Problem::new(StatusCode::UNAUTHORIZED, "an API key or Basic credentials are needed")
    })
}

async fn read(body: Body, size_max: usize) -> Result<Zeroizing<Vec<u8>>, Problem> {
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, size_max)).await {
        Ok(Ok(bytes)) => Ok(Zeroizing::new(bytes.into())),
        Ok(Err(_)) => {
            let detail = format!("a body of at most {size_max} bytes is read");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in time",
        )),
    }
}

/// Asks the source where it may block.
async fn ask<T: Send + 'static>(
    exchange: &Exchange,
    work: impl FnOnce(&dyn KeySource) -> Result<T, KeySourceError> + Send + 'static,
) -> Result<T, KeySourceError> {
    let source = Arc::clone(&exchange.source);
    let done = tokio::task::spawn_blocking(move || work(source.as_ref())).await;
    done.unwrap_or(Err(KeySourceError::Unavailable))
}

/// One line a request: who, and how it went. Nothing of what it is about.
fn log(who: &str, what: &'static str, status: StatusCode) {
    tracing::info!(client = who, status = status.as_u16(), "key exchange: {what}");
}

async fn speke(State(exchange): State<Arc<Exchange>>, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let client = client(&exchange, &head.headers)?;
    let answered = match speke_of(&exchange, client, &head.headers, body).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    };
    log(&client.name, "speke", answered.status());
    Ok(answered)
}

async fn speke_of(exchange: &Exchange, client: &Client, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    // What is no text is no version either, and not the absence of one.
    let header = headers
        .get(VERSION_HEADER)
        .map(|value| value.to_str().unwrap_or_default());
    let version = SpekeVersion::from_header(header)?;
    let body = read(body, speke::BODY_SIZE_BYTES_MAX).await?;
    let request = speke::read_request(version, &body, &client.tenant)?;
    request.check_delivery(&client.signals, &client.delivery)?;
    let contract = request.contract.clone();
    let keys = ask(exchange, move |source| source.keys(&contract)).await?;
    let document = request.respond(&keys, &client.signals, &client.delivery)?;
    let mut response = respond(StatusCode::OK, XML, document.as_str().to_owned());
    let headers = response.headers_mut();
    headers.insert(version.user_agent_header(), HeaderValue::from_static(USER_AGENT));
    if let Some(version) = version.header() {
        headers.insert(VERSION_HEADER, HeaderValue::from_static(version));
    }
    Ok(response)
}

/// Refusals are the protocol's own, with HTTP 200; only what is not the protocol is answered otherwise.
async fn content_key(
    State(exchange): State<Arc<Exchange>>,
    Path(signer): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let body = read(request.into_body(), content_key_api::REQUEST_SIZE_BYTES_MAX).await?;
    let answer = match content_key_api::open(&body, &signer, &exchange.credentials.signers) {
        Ok((signer, request)) => match request.order(signer) {
            Ok(order) => {
                let contract = order.contract.clone();
                match ask(&exchange, move |source| source.keys(&contract)).await {
                    Ok(keys) => order.respond(&keys),
                    Err(error) => content_key_api::refuse(error.into()),
                }
            }
            Err(status) => content_key_api::refuse(status),
        },
        Err(status) => {
            tracing::info!(%status, "key exchange: getcontentkey refused");
            content_key_api::refuse(status)
        }
    };
    Ok(respond(StatusCode::OK, JSON, answer.to_vec()))
}

/// What `?…` of an export says.
fn export_options(query: &str) -> Option<(Version, bool)> {
    let (mut version, mut encrypted) = (Version::V2_4, true);
    for option in query.split('&').filter(|option| !option.is_empty()) {
        match option {
            "version=2.3" => version = Version::V2_3,
            "version=2.4" => version = Version::V2_4,
            "encrypted=true" => encrypted = true,
            "encrypted=false" => encrypted = false,
            _ => return None,
        }
    }
    Some((version, encrypted))
}

async fn export(
    State(exchange): State<Arc<Exchange>>,
    Path(content): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let client = client(&exchange, request.headers())?;
    let options = export_options(request.uri().query().unwrap_or_default());
    let options = options.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "version=2.3|2.4, encrypted=true|false"));
    let answered = match export_of(&exchange, client, content, options?).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    };
    log(&client.name, "cpix export", answered.status());
    Ok(answered)
}

async fn export_of(
    exchange: &Exchange,
    client: &Client,
    content: String,
    (version, encrypted): (Version, bool),
) -> Result<Response, Problem> {
    let policy = &client.delivery;
    let recipients = if encrypted { policy.recipients.as_slice() } else { &[] };
    let allowed = if encrypted {
        !recipients.is_empty()
    } else {
        policy.clear_keys
    };
    if !allowed {
        return Err(SpekeError::ClearDelivery.into());
    }
    let contract = Contract {
        tenant: client.tenant.clone(),
        content_id: content.clone(),
        wanted: Wanted::Existing,
    };
    let keys = ask(exchange, move |source| source.keys(&contract)).await?;
    if keys.keys.is_empty() {
        return Err(KeySourceError::NoKeys.into());
    }
    let document = Document::export(version, &content, &keys, recipients).map_err(SpekeError::from)?;
    Ok(respond(StatusCode::OK, XML, cpix::write(&document, version)))
}

async fn import(
    State(exchange): State<Arc<Exchange>>,
    Path(content): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let client = client(&exchange, &head.headers)?;
    let answered = match import_of(&exchange, client, content, body).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    };
    log(&client.name, "cpix import", answered.status());
    Ok(answered)
}

async fn import_of(exchange: &Exchange, client: &Client, content: String, body: Body) -> Result<Response, Problem> {
    if !client.may_import {
        return Err(Problem::new(StatusCode::FORBIDDEN, "this client may not bring keys"));
    }
    let body = read(body, speke::BODY_SIZE_BYTES_MAX).await?;
    let keys = imported(exchange, client, &content, &body)?;
    let tenant = client.tenant.clone();
    ask(exchange, move |source| source.store(&tenant, &content, &keys)).await?;
    Ok(respond(StatusCode::NO_CONTENT, XML, Body::empty()))
}

fn imported(exchange: &Exchange, client: &Client, content: &str, body: &[u8]) -> Result<KeySet, SpekeError> {
    let document = cpix::read(body)?;
    if document.content_id.as_deref().is_some_and(|id| id != content) {
        return Err(SpekeError::OtherContent);
    }
    if document.keys.is_empty() {
        return Err(SpekeError::Missing("ContentKey"));
    }
    let clear = document.keys.iter().any(|key| matches!(key.value, KeyValue::Plain(_)));
    if clear && !client.delivery.clear_keys {
        return Err(SpekeError::ClearDelivery);
    }
    Ok(document.key_set(exchange.credentials.delivery_key.as_ref())?)
}
