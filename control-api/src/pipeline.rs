//! The way of every request: who asks, whether they may, whether it is well formed, the handler, the reply.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, FromRequestParts as _, RawPathParams, Request};
use axum::http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, HeaderName, IF_MATCH, IF_NONE_MATCH,
};
use axum::http::header::{RETRY_AFTER, USER_AGENT, VARY, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::app::{API_VERSION, App};
use crate::auth::{self, Principal, Role, Via};
use crate::call::{Call, Content, Peer, TenantId};
use crate::db;
use crate::db::keys::KeyRequest;
use crate::device_log;
use crate::error::{ApiError, Code};
use crate::idempotency::{self, Begun, Ticket};
use crate::operation::{Answer, Caller, Endpoint, Operation, Payload, Place};
use crate::rate_limit::{Allowance, Counted, Standing};
use crate::reply::{ByteStream, Reply, ReplyContent, if_none_match};
use crate::schema::Schema;
use crate::secrets::sha256;

/// Headers that most replies have besides their own.
const HEADER_COUNT: usize = 10;
/// Largest JSON or form body.
pub const BODY_SIZE_BYTES_MAX: usize = 1 << 20;
/// Deepest that JSON may nest is serde_json's own limit, 128. This is the longest that a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_API_VERSION: HeaderName = HeaderName::from_static("x-api-version");
const RATE_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const RATE_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RATE_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What is known of a request as it goes along; what the log and the reply need even if it is refused.
struct Journey {
    request_id: Uuid,
    begun: Instant,
    now: DateTime<Utc>,
    peer: Peer,
    /// Whether a trusted proxy says that it came over HTTPS.
    is_https: bool,
    principal: Option<Principal>,
    standing: Option<Standing>,
    method: Method,
    path: String,
}

/// Answers a request for `endpoint`.
pub async fn run(app: Arc<App>, endpoint: Endpoint, request: Request) -> Response {
    let mut journey = Journey::begin(&app, &request);
    let operation = Arc::clone(&endpoint.operation);
    let if_none_match = request.headers().get(IF_NONE_MATCH).cloned();
    let origin = allowed_origin(&app, request.headers());
    let answer = walk(&app, &endpoint, request, &mut journey).await;
    let mut response = journey.end(&app, operation.id, Some(&operation), answer, if_none_match);
    cors(response.headers_mut(), origin);
    journey.log(&app, operation.id, response.status().as_u16());
    response
}

/// Whether a browser asks if a page of another site may ask.
pub fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key("access-control-request-method")
}

/// Answers what no operation is for: 404, or 405 with the methods that there are.
pub async fn refuse(app: Arc<App>, request: Request, allowed: &[Method]) -> Response {
    let mut journey = Journey::begin(&app, &request);
    let origin = allowed_origin(&app, request.headers());
    if request.method() == Method::OPTIONS && !allowed.is_empty() {
        let mut response = preflight(allowed, origin);
        journey.mark(response.headers_mut());
        return response;
    }
    let code = if allowed.is_empty() {
        Code::NotFound
    } else {
        Code::MethodNotAllowed
    };
    let answer = match journey.check_transport(&app, false) {
        Ok(()) => count(&app, &mut journey, None).and(Err(code.into())),
        Err(error) => Err(error),
    };
    let mut response = journey.end(&app, "none", None, answer, None);
    cors(response.headers_mut(), origin);
    if !allowed.is_empty()
        && let Ok(value) = HeaderValue::from_str(&names(allowed))
    {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

fn names(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

fn allowed_origin(app: &App, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get("origin")?;
    let allowed = &app.settings().cors.allowed_origins;
    allowed
        .iter()
        .any(|known| known.as_bytes() == origin.as_bytes())
        .then(|| origin.clone())
}

fn preflight(allowed: &[Method], origin: Option<HeaderValue>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let methods = HeaderValue::from_str(&names(allowed)).ok();
    let set = [
        ("access-control-allow-methods", methods.clone()),
        (
            "access-control-allow-headers",
            Some(HeaderValue::from_static(CORS_HEADERS)),
        ),
        ("access-control-max-age", Some(HeaderValue::from_static("600"))),
    ];
    if origin.is_some() {
        for (name, value) in set {
            headers.extend(value.map(|value| (HeaderName::from_static(name), value)));
        }
    }
    headers.extend(methods.map(|value| (ALLOW, value)));
    cors(headers, origin);
    response
}

const CORS_HEADERS: &str = "authorization, content-range, content-type, idempotency-key, if-match, if-none-match, x-device-id, \
    x-profile-id, x-request-id, x-captcha-token, x-session-transport, tus-resumable, upload-length, upload-metadata, \
    upload-offset, upload-checksum";

const EXPOSED_HEADERS: &str = "etag, link, location, range, retry-after, x-request-id, x-ratelimit-limit, \
    x-ratelimit-remaining, x-ratelimit-reset, idempotency-replayed, tus-resumable, tus-version, tus-extension, tus-max-size, \
    tus-checksum-algorithm, upload-offset, upload-length, upload-expires";

fn cors(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    let Some(origin) = origin else { return };
    headers.insert("access-control-allow-origin", origin);
    headers.insert("access-control-allow-credentials", HeaderValue::from_static("true"));
    // With credentials a star would mean a header of that name.
    headers.insert(
        "access-control-expose-headers",
        HeaderValue::from_static(EXPOSED_HEADERS),
    );
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

/// The steps, in order. Each may refuse.
async fn walk(app: &Arc<App>, endpoint: &Endpoint, request: Request, journey: &mut Journey) -> Answer {
    let operation = &endpoint.operation;
    let (mut parts, body) = request.into_parts();
    journey.check_transport(app, operation.bare)?;
    let identified = match operation.caller {
        Caller::Signed => Ok(None),
        _ => {
            app.pulse
                .unless_away(auth::authenticate(app, &parts.headers, journey.now))
                .await
        }
    };
    journey.principal = match identified {
        Ok(principal) => principal,
        // Whoever signs in again or refreshes sends what no longer holds; that must not be in the way.
        Err(error) if operation.caller == Caller::Public && error.code.status() < 500 => None,
        Err(error) => {
            count(app, journey, Some(operation))?;
            return Err(error);
        }
    };
    count(app, journey, Some(operation))?;
    check_maintenance(app, journey, operation)?;
    let writes = !matches!(operation.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let public_catalogue = app.settings().catalogue.public_read;
    auth::authorise(journey.principal.as_ref(), operation.caller, writes, public_catalogue)?;
    if let Some(principal) = &journey.principal {
        device_log::hear(app, principal.user_id, &parts.headers, journey.now);
    }
    let tenant = match &journey.principal {
        Some(principal) => principal.tenant,
        None => app.pulse.unless_away(tenant_of(app, &parts.headers, operation)).await?,
    };
    let path = RawPathParams::from_request_parts(&mut parts, &())
        .await
        .map_err(|_| Code::NotFound)?;
    let path: Vec<(String, String)> = path
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for name in operation.path_names().filter(|name| name.ends_with("_id")) {
        let found = path.iter().find(|(known, _)| known == name);
        let is_id = |text: &str| (text.len() == 36 && Uuid::try_parse(text).is_ok()) || text.starts_with("slug:");
        if !found.is_some_and(|(_, value)| is_id(value)) {
            return Err(Code::NotFound.into());
        }
    }
    let query = read_query(operation, parts.uri.query().unwrap_or_default())?;
    check_headers(operation, &parts.headers)?;
    if operation.if_match && app.settings().api.require_if_match && !parts.headers.contains_key(IF_MATCH) {
        return Err(Code::PreconditionRequired.into());
    }
    let (content, body_sha256) = read_body(operation, &parts.headers, body).await?;
    let call = Call {
        operation: Arc::clone(operation),
        request_id: journey.request_id,
        now: journey.now,
        tenant,
        principal: journey.principal.clone(),
        peer: journey.peer.clone(),
        target: parts.uri.path().to_owned(),
        headers: parts.headers,
        path,
        query,
        content,
        idempotency: None,
    };
    // Nothing waits for a database that does not answer; what is answered from memory does not wait.
    app.pulse.unless_away(handle(app, endpoint, call, body_sha256)).await
}

async fn handle(app: &Arc<App>, endpoint: &Endpoint, mut call: Call, body_sha256: [u8; 32]) -> Answer {
    let operation = &endpoint.operation;
    let Some(ticket) = ticket(operation, &call)? else {
        return (endpoint.handler)(Arc::clone(app), call).await;
    };
    // Bodies may hold passwords: what is stored of them must not be a digest that anybody could try them against.
    let body_sha256 = app.secrets.keyed_hash("idempotency body", &body_sha256);
    let (method, request_id) = (operation.method.as_str(), call.request_id);
    match idempotency::begin(app, ticket, method, &call.target, sha256(&body_sha256), call.now).await? {
        Begun::Replay(reply) => Ok(reply),
        Begun::Run(ticket) => {
            call.idempotency = Some(ticket.clone());
            let answer = (endpoint.handler)(Arc::clone(app), call).await;
            keep(app, &ticket, request_id, answer).await
        }
    }
}

/// Keeps the reply of a request under its key, where the handler's own transaction did not.
async fn keep(app: &Arc<App>, ticket: &Ticket, request_id: Uuid, answer: Answer) -> Answer {
    let status = match &answer {
        Ok(reply) => reply.status,
        Err(error) => error.code.status(),
    };
    let kept = match idempotency::is_retried(status) {
        true => idempotency::forget(app, ticket).await,
        false => {
            let refusal = match &answer {
                Ok(_) => None,
                Err(error) => Some(refusal(error, request_id)),
            };
            let reply = refusal.as_ref().or(answer.as_ref().ok());
            let mut connection = app.db.acquire().await?;
            match reply {
                Some(reply) => idempotency::finish(app, &mut connection, ticket, reply)
                    .await
                    .map(|_| ()),
                None => Ok(()),
            }
        }
    };
    if let Err(error) = kept {
        // The lease ends by itself; the reply stands.
        tracing::warn!(request.id = %request_id, cause = ?error.cause, "a reply was not kept under its idempotency key");
    }
    answer
}

fn ticket(operation: &Operation, call: &Call) -> Result<Option<Ticket>, ApiError> {
    let (true, Some(principal)) = (operation.idempotent, &call.principal) else {
        return Ok(None);
    };
    let Some(header) = call.headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let key = header.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    let key = key.ok_or_else(|| ApiError::parameter("Idempotency-Key", "must have 1 to 255 characters"))?;
    Ok(Some(Ticket {
        tenant: call.tenant,
        principal: principal.id(),
        key: key.to_owned(),
        id: Uuid::now_v7(),
    }))
}

fn count(app: &App, journey: &mut Journey, operation: Option<&Operation>) -> Result<(), ApiError> {
    if operation.is_some_and(|operation| !operation.metered || operation.is_stream()) {
        return Ok(());
    }
    let limits = &app.settings().rate_limits;
    let (who, allowance) = match &journey.principal {
        None => {
            let allowance = Allowance {
                per_minute: limits.anonymous_per_minute,
                burst: 0,
            };
            (Counted::address(journey.peer.ip), allowance)
        }
        Some(principal) => {
            let per_minute = match principal.via {
                Via::Token { .. } => limits.user_per_minute,
                Via::Key(_) => principal.key_rate.unwrap_or(limits.key_per_minute),
            };
            let allowance = Allowance {
                per_minute,
                burst: limits.burst_per_second,
            };
            (Counted::Principal(principal.id()), allowance)
        }
    };
    let standing = app.limits.take(who, allowance);
    journey.standing = Some(standing);
    match standing.allowed {
        true => Ok(()),
        false => Err(ApiError::new(Code::RateLimited).retry_after(standing.retry_s)),
    }
}

fn check_maintenance(app: &App, journey: &Journey, operation: &Operation) -> Result<(), ApiError> {
    let maintenance = &app.settings().maintenance;
    let is_admin = journey
        .principal
        .as_ref()
        .is_some_and(|principal| principal.role == Role::Admin);
    // Admins must be able to sign in.
    let is_exempt = operation.bare || operation.id.starts_with("system.") || operation.id.starts_with("auth.");
    if !maintenance.active || is_admin || is_exempt {
        return Ok(());
    }
    let error = match &maintenance.message {
        Some(message) => ApiError::with(Code::Maintenance, message.clone()),
        None => Code::Maintenance.into(),
    };
    Err(error.retry_after(60))
}

async fn tenant_of(app: &App, headers: &HeaderMap, operation: &Operation) -> Result<TenantId, ApiError> {
    // What is asked for when the database is away must not ask it.
    if operation.bare {
        return Ok(db::DEFAULT_TENANT);
    }
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let host = host
        .rsplit_once(':')
        .map_or(host, |(name, _)| name)
        .to_ascii_lowercase();
    app.caches
        .tenant_of_host(&host, || db::system::tenant_of_host(&app.db, &host))
        .await
}

/// Reads the parameters that the operation knows; others are nobody's business.
fn read_query(operation: &Operation, query: &str) -> Result<Map<String, Value>, ApiError> {
    let pairs = form_pairs(query).ok_or_else(|| ApiError::with(Code::BadRequest, "the query can not be read"))?;
    let mut values = Map::new();
    for parameter in operation
        .parameters
        .iter()
        .filter(|parameter| parameter.place == Place::Query)
    {
        let texts: Vec<&str> = pairs
            .iter()
            .filter(|(name, _)| name == parameter.name)
            .map(|(_, value)| value.as_str())
            .collect();
        let value = match (&parameter.schema, texts.as_slice()) {
            (_, []) if parameter.required => return Err(ApiError::parameter(parameter.name, "is missing")),
            (_, []) => continue,
            (Schema::Array { .. }, texts) => {
                let items = texts.iter().flat_map(|text| text.split(','));
                Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
            }
            (schema, [text]) => typed(schema, text),
            (_, _) => return Err(ApiError::parameter(parameter.name, "is there twice")),
        };
        if let Some(detail) = parameter.schema.check(&value).into_iter().next() {
            return Err(ApiError::parameter(parameter.name, detail.message));
        }
        values.insert(parameter.name.to_owned(), value);
    }
    // Here, since a list without rows has nothing to hold them against.
    let fields = values.get("fields").and_then(Value::as_str).unwrap_or("id");
    match fields
        .split(',')
        .all(|name| operation.has_field(name.trim()) || name == "id")
    {
        true => Ok(values),
        false => Err(Code::InvalidFields.into()),
    }
}

fn typed(schema: &Schema, text: &str) -> Value {
    let value = match schema {
        Schema::Bool => text.parse().ok().map(Value::Bool),
        Schema::Integer { .. } => text.parse::<i64>().ok().map(Value::from),
        Schema::Number { .. } => text
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .map(Value::from),
        _ => None,
    };
    // Left a text, it is refused for what it is not.
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Names and values of a query or form. `None` if an escape or the text is broken.
pub fn form_pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((unescape(name)?, unescape(value)?))
    });
    pairs.collect()
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Text as it stands in a query, so that it is read back as it was.
pub fn escape_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn check_headers(operation: &Operation, headers: &HeaderMap) -> Result<(), ApiError> {
    for parameter in operation
        .parameters
        .iter()
        .filter(|parameter| parameter.place == Place::Header)
    {
        let Some(value) = headers.get(parameter.name) else {
            continue;
        };
        let text = value
            .to_str()
            .map_err(|_| ApiError::parameter(parameter.name, "must be ASCII"))?;
        if let Some(detail) = parameter
            .schema
            .check(&typed(&parameter.schema, text))
            .into_iter()
            .next()
        {
            return Err(match parameter.name {
                "X-Device-Id" => Code::DeviceIdRequired.into(),
                name => ApiError::parameter(name, detail.message),
            });
        }
    }
    Ok(())
}

async fn read_body(operation: &Operation, headers: &HeaderMap, body: Body) -> Result<(Content, [u8; 32]), ApiError> {
    // What only a key asks for.
    let kept = operation.idempotent && headers.contains_key(IDEMPOTENCY_KEY);
    let hash = |bytes: &[u8]| if kept { sha256(bytes) } else { [0; 32] };
    let (schema, media_type, optional) = match &operation.payload {
        Payload::None => return Ok((Content::None, [0; 32])),
        Payload::Stream => return Ok((Content::Stream(ByteStream::new(body)), [0; 32])),
        Payload::Bytes(size_max) => {
            let bytes = read_all(body, *size_max).await?;
            let hash = hash(&bytes);
            return Ok((Content::Bytes(bytes), hash));
        }
        Payload::Json(schema) => (schema, "application/json", false),
        Payload::OptionalJson(schema) => (schema, "application/json", true),
        Payload::Form(schema) => (schema, "application/x-www-form-urlencoded", false),
    };
    let bytes = read_all(body, BODY_SIZE_BYTES_MAX).await?;
    let hash = hash(&bytes);
    if bytes.is_empty() && optional {
        return Ok((Content::None, hash));
    }
    let found = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let found = found.split(';').next().unwrap_or_default().trim();
    if !found.eq_ignore_ascii_case(media_type) {
        return Err(ApiError::with(
            Code::UnsupportedMediaType,
            format!("Content-Type must be {media_type}"),
        ));
    }
    let value = match &operation.payload {
        Payload::Form(_) => {
            let pairs = std::str::from_utf8(&bytes).ok().and_then(form_pairs);
            let pairs = pairs.ok_or_else(|| ApiError::with(Code::BadRequest, "the form can not be read"))?;
            form_object(schema, &pairs)
        }
        _ => serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::with(Code::BadRequest, format!("not JSON: {error}")))?,
    };
    let details = schema.check(&value);
    match details.is_empty() {
        true => Ok((Content::Json(value), hash)),
        false => Err(ApiError {
            details,
            ..ApiError::new(Code::ValidationError)
        }),
    }
}

/// The members of a form that `schema` knows. What it does not know or has no value is as if it were not there (RFC 6749 3.1,
/// 3.2); neither is what is there twice, which must not be.
fn form_object(schema: &Schema, pairs: &[(String, String)]) -> Value {
    let value = |wanted: &str| {
        let mut values = pairs.iter().filter(|(name, _)| name == wanted);
        match (values.next(), values.next()) {
            (Some((_, value)), None) if !value.is_empty() => Some(Value::String(value.clone())),
            _ => None,
        }
    };
    let members = schema.fields().iter();
    members
        .filter_map(|field| Some((field.name.to_owned(), value(field.name)?)))
        .collect()
}

async fn read_all(body: Body, size_max: usize) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, size_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Code::BodyTooLarge.into()),
        Err(_) => Err(ApiError::with(Code::BadRequest, "the body took too long to come")),
    }
}

fn refusal(error: &ApiError, request_id: Uuid) -> Reply {
    let body = error.body(&request_id.to_string()).to_string();
    Reply::bytes(error.code.status(), "application/json; charset=utf-8", body)
}

impl Journey {
    fn begin(app: &App, request: &Request) -> Journey {
        let headers = request.headers();
        let own = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        let request_id = own
            .and_then(|text| Uuid::try_parse(text).ok())
            .unwrap_or_else(Uuid::now_v7);
        let user_agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let socket = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let mut ip = socket.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |info| info.0.ip().to_canonical());
        let (mut country, mut is_https) = (None, false);
        if is_trusted(app, ip) {
            is_https = headers
                .get("x-forwarded-proto")
                .is_some_and(|value| value.as_bytes() == b"https");
            let forwarded = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
            // From the right: what trusted proxies added, up to the first address that is not theirs.
            for part in forwarded.unwrap_or_default().rsplit(',') {
                let Ok(earlier) = part.trim().parse::<IpAddr>() else {
                    break;
                };
                ip = earlier.to_canonical();
                if !is_trusted(app, ip) {
                    break;
                }
            }
            let header = app.settings().geo.country_header.as_deref();
            let named = header
                .and_then(|name| headers.get(name))
                .and_then(|value| value.to_str().ok());
            let is_country = |text: &&str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
            country = named.filter(is_country).map(str::to_ascii_uppercase);
        }
        Journey {
            request_id,
            begun: Instant::now(),
            now: app.now(),
            peer: Peer {
                ip,
                country,
                user_agent: user_agent.map(|text| text.chars().take(512).collect()),
            },
            is_https,
            principal: None,
            standing: None,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
        }
    }

    /// Refuses plain HTTP: a redirect would invite clients to send their token in clear first.
    fn check_transport(&self, app: &App, bare: bool) -> Result<(), ApiError> {
        match !app.config.section.require_https || bare || self.is_https {
            true => Ok(()),
            false => Err(Code::HttpsRequired.into()),
        }
    }

    fn end(
        &self,
        app: &App,
        id: &str,
        operation: Option<&Operation>,
        answer: Answer,
        if_none_match_header: Option<HeaderValue>,
    ) -> Response {
        let outcome = answer.as_ref().err().map_or("ok", |error| error.code.name());
        app.metrics.answered(id, outcome, self.begun.elapsed().as_secs_f64());
        let request_id = self.request_id;
        let (mut reply, retry_after) = match answer {
            Ok(reply) => (reply, None),
            Err(error) => {
                match (error.code.status(), &error.cause) {
                    (500, cause) => tracing::error!(request.id = %request_id, operation = id, ?cause, "failed"),
                    (503, cause) => tracing::warn!(request.id = %request_id, operation = id, ?cause, "not available"),
                    _ => {}
                }
                (refusal(&error, self.request_id), error.retry_after_s)
            }
        };
        let etag = reply.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
        let asked = if_none_match_header.as_ref().and_then(|value| value.to_str().ok());
        let is_read = matches!(self.method, Method::GET | Method::HEAD);
        if let (true, 200, Some(etag), Some(asked)) = (is_read, reply.status, etag, asked)
            && if_none_match(asked, etag)
        {
            reply.status = 304;
            reply.headers.remove(CONTENT_TYPE);
            reply.content = ReplyContent::Empty;
        }
        let body = match reply.content {
            ReplyContent::Empty => Body::empty(),
            ReplyContent::Bytes(bytes) => Body::from(bytes),
            ReplyContent::Stream(stream) => stream.take().unwrap_or_default(),
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        *headers = reply.headers;
        headers.reserve(HEADER_COUNT);
        let good = reply.status < 400;
        if !headers.contains_key(CACHE_CONTROL) {
            let value = operation
                .filter(|_| good)
                .map_or("no-store", |operation| operation.cache_control);
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
        }
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        headers.insert(
            VARY,
            HeaderValue::from_static("Authorization, X-Profile-Id, Accept-Language"),
        );
        self.mark(headers);
        for (name, value) in operation.iter().flat_map(|operation| &operation.headers) {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if reply.status == 401 {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(standing) = &self.standing {
            let reset = self.now.timestamp().saturating_add(i64::from(standing.reset_s));
            headers.insert(RATE_LIMIT, HeaderValue::from(standing.limit));
            headers.insert(RATE_REMAINING, HeaderValue::from(standing.remaining));
            headers.insert(RATE_RESET, HeaderValue::from(reset));
        }
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// What every reply bears.
    fn mark(&self, headers: &mut HeaderMap) {
        let mut text = Uuid::encode_buffer();
        let request_id = HeaderValue::from_str(self.request_id.hyphenated().encode_lower(&mut text)).ok();
        headers.extend(request_id.map(|value| (REQUEST_ID, value)));
        headers.insert(X_API_VERSION, HeaderValue::from_static(API_VERSION));
    }

    fn log(&self, app: &App, id: &str, status: u16) {
        let duration_ms = i32::try_from(self.begun.elapsed().as_millis()).unwrap_or(i32::MAX);
        tracing::debug!(request.id = %self.request_id, operation = id, status, duration_ms, "answered");
        if let Some(Principal { via: Via::Key(key), .. }) = &self.principal {
            app.key_log.add(
                key.key_id,
                KeyRequest {
                    at: self.now,
                    method: self.method.to_string(),
                    path: self.path.chars().take(1024).collect(),
                    status: i32::from(status),
                    duration_ms,
                    ip: Some(self.peer.ip.to_string()),
                    user_agent: self.peer.user_agent.clone(),
                    request_id: self.request_id,
                },
            );
        }
    }
}

fn is_trusted(app: &App, ip: IpAddr) -> bool {
    app.config.section.trusted_proxies.contains(&ip)
}

/// Whether a request carries credentials at all.
pub fn has_credentials(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_hold_what_is_known_once() {
        use crate::schema::{absent, object, required, text};
        let schema = object([
            required("a", text(1, 9)),
            absent("b", text(1, 9)),
            absent("c", text(1, 9)),
        ]);
        let check = |form: &str, expected: Value| {
            let found = form_object(&schema, &form_pairs(form).unwrap());
            assert_eq!(found, expected, "{form}");
        };
        check("a=1&x=2&b=", serde_json::json!({ "a": "1" }));
        check("a=1&b=2&b=2&c=3", serde_json::json!({ "a": "1", "c": "3" }));
        check("b=2&b=2&b=2", serde_json::json!({}));
    }

    #[test]
    fn queries_are_read_back_as_they_were() {
        for text in ["", "a", "a b+c&d=e%", "ä€\u{1f3ac}", "/?#[]~"] {
            let pairs = form_pairs(&format!("a={}", escape_query(text)));
            assert_eq!(pairs, Some(vec![("a".to_owned(), text.to_owned())]));
        }
    }

    #[test]
    fn forms_are_unescaped() {
        let check = |text: &str, expected: Option<&[(&str, &str)]>| {
            let expected = expected.map(|pairs| {
                pairs
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_string()))
                    .collect()
            });
            assert_eq!(form_pairs(text), expected, "{text}");
        };
        check("", Some(&[]));
        check("a=b&c", Some(&[("a", "b"), ("c", "")]));
        check("a=%C3%A4+%2B&&a=b=c", Some(&[("a", "ä +"), ("a", "b=c")]));
        check("a=%", None);
        check("a=%4", None);
        check("a=%GG", None);
        check("a=%FF", None);
    }
}
