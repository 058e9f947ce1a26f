//! Answers: licences as players and applications read them, and refusals with the register's codes.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Issued, LicenseSystem, Shape, request_id, rfc3339};
use crate::license::playready_http;
use crate::license::{License, LicenseError};

/// When a service that does not answer may be asked again, in seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Refusals, by their codes in the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    BadRequest(&'static str),
    InvalidParameter(&'static str),
    MediaTokenRequired,
    MediaTokenInvalid,
    Forbidden,
    NotFound,
    BodyTooLarge,
    UnsupportedMediaType,
    Validation(&'static str),
    ClearKeyOff,
    InvalidLicenseRequest(&'static str),
    Internal,
    Upstream,
    Unavailable,
}

impl Code {
    /// Code, status and message.
    fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Code::BadRequest(message) => ("BAD_REQUEST", StatusCode::BAD_REQUEST, message),
            Code::InvalidParameter(message) => ("INVALID_PARAMETER", StatusCode::BAD_REQUEST, message),
            Code::MediaTokenRequired => ("MEDIA_TOKEN_REQUIRED", StatusCode::UNAUTHORIZED, "a grant is needed"),
            Code::MediaTokenInvalid => (
                "MEDIA_TOKEN_INVALID",
                StatusCode::FORBIDDEN,
                "the grant does not open this title",
            ),
            Code::Forbidden => (
                "FORBIDDEN",
                StatusCode::FORBIDDEN,
                "no licence for these keys, or for this player",
            ),
            Code::NotFound => ("NOT_FOUND", StatusCode::NOT_FOUND, "no such licences"),
            Code::BodyTooLarge => (
                "BODY_TOO_LARGE",
                StatusCode::PAYLOAD_TOO_LARGE,
                "a challenge has at most 65536 bytes",
            ),
            Code::UnsupportedMediaType => (
                "UNSUPPORTED_MEDIA_TYPE",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not a content type of this request",
            ),
            Code::Validation(message) => ("VALIDATION_ERROR", StatusCode::UNPROCESSABLE_ENTITY, message),
            Code::ClearKeyOff => (
                "VALIDATION_ERROR",
                StatusCode::UNPROCESSABLE_ENTITY,
                "clearkey is not offered here",
            ),
            Code::InvalidLicenseRequest(message) => {
                ("INVALID_LICENSE_REQUEST", StatusCode::UNPROCESSABLE_ENTITY, message)
            }
            Code::Internal => (
                "INTERNAL_ERROR",
                StatusCode::INTERNAL_SERVER_ERROR,
                "the title's keys do not open",
            ),
            Code::Upstream => (
                "UPSTREAM_ERROR",
                StatusCode::BAD_GATEWAY,
                "the licence service did not issue a licence",
            ),
            Code::Unavailable => (
                "SERVICE_UNAVAILABLE",
                StatusCode::SERVICE_UNAVAILABLE,
                "the licence service does not answer",
            ),
        }
    }
}

/// Why there is no licence.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// In our words.
    Code(Code),
    /// In the service's own.
    Fault(Vec<u8>),
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Refusal {
        Refusal::Code(code)
    }
}

impl From<LicenseError> for Refusal {
    fn from(error: LicenseError) -> Refusal {
        let code = match error {
            LicenseError::Challenge(reason) => Code::InvalidLicenseRequest(reason),
            LicenseError::NotEntitled | LicenseError::Denied => Code::Forbidden,
            LicenseError::Credentials | LicenseError::Upstream(_) => Code::Upstream,
            LicenseError::Unavailable | LicenseError::Again => Code::Unavailable,
            LicenseError::Fault(bytes) => return Refusal::Fault(bytes),
        };
        code.into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = match self {
            Refusal::Code(code) => code,
            Refusal::Fault(_) => Code::Upstream,
        };
        let (name, status, message) = code.parts();
        let id = request_id();
        let body = json!({ "code": name, "message": message, "request_id": id });
        let mut response = respond(status, JSON, body.to_string());
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("x-request-id", id);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S);
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

/// A licence as the player's own request expects it.
pub(super) fn licence(license: &License, shape: Shape) -> Response {
    let (content_type, bytes) = shape.put(license);
    respond(StatusCode::OK, HeaderValue::from_static(content_type), bytes)
}

/// A SOAP fault, which SOAP 1.1 sends with status 500.
pub(super) fn fault(bytes: Vec<u8>) -> Response {
    let content_type = HeaderValue::from_static(playready_http::CONTENT_TYPE);
    respond(StatusCode::INTERNAL_SERVER_ERROR, content_type, bytes)
}

/// A licence for applications. Times are those that were asked for: what is in a licence nobody here can read.
pub(super) fn wrapped(issued: &Issued, system: LicenseSystem) -> Response {
    let terms = &issued.terms;
    let key_ids: Vec<String> = issued.key_ids.iter().map(ToString::to_string).collect();
    let body = json!({
        "license_bytes": STANDARD.encode(&issued.license.bytes),
        "drm_system": system.name(),
        "expires_at": rfc3339(terms.expires),
        "offline_enabled": false,
        "renewal_before": rfc3339(terms.expires.saturating_sub(terms.duration_s / 10)),
        "key_ids": key_ids,
    });
    respond(StatusCode::OK, JSON, body.to_string())
}

/// Players run on pages of other origins and send a header with the grant; they send no cookies along.
pub(super) async fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type, soapaction"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    with_cors(response)
}

pub(super) fn with_cors(mut response: Response) -> Response {
    let any = HeaderValue::from_static("*");
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response
}
