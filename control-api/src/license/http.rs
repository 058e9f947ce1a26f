//! HTTP of licences: who asks, what may be had, and how it is refused.
//!
//! Statuses and codes are those of the control plane's error register; `no-store` is on everything.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod answer;
mod body;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use packager::crypto::KeyId;
use packager::crypto::vault::is_name;
use packager::grant::Grant;
use sha2::{Digest, Sha256};

use self::answer::{Code, Refusal, licence, preflight, with_cors};
use self::body::{Asked, Shape};
use super::{Desk, DeskError, Gate, Issued, LicenseSystem, Wish, rfc3339};

/// Name of the cookie that carries a grant.
const COOKIE_NAME: &str = "headwater_media";

/// Everything that licences are given out with.
pub struct Licensing {
    /// Who gets in.
    pub gate: Gate,
    /// Who makes them.
    pub desk: Desk,
}

/// Routes of licences: `POST /api/v1/drm/license` (JSON), `POST /api/v1/drm/{system}/license` and
/// `POST /vod/{content_id}/{~token}/license/{system}` (as players send them), `GET /api/v1/drm/{system}/certificate`.
pub fn router(licensing: Licensing) -> Router {
    Router::new()
        .route("/api/v1/drm/license", post(wrapped).options(preflight))
        .route("/api/v1/drm/{system}/license", post(raw).options(preflight))
        .route(
            "/vod/{content_id}/{token}/license/{system}",
            post(in_path).options(preflight),
        )
        .route("/api/v1/drm/{system}/certificate", get(certificate).options(preflight))
        .with_state(Arc::new(licensing))
}

async fn wrapped(State(licensing): State<Arc<Licensing>>, request: Request) -> Response {
    let answer = async {
        let (head, content) = request.into_parts();
        let token = token_of(&head.headers, None).ok_or(Code::MediaTokenRequired)?;
        body::check_json(&head.headers)?;
        let content = body::read(content, body::JSON_SIZE_BYTES_MAX).await?;
        let (system, asked) = body::parse_json(&content)?;
        let issued = licensing.issue(&token, system, &asked).await?;
        Ok(answer::wrapped(&issued, system))
    };
    with_cors(answer.await.unwrap_or_else(|refusal: Refusal| refusal.into_response()))
}

async fn raw(State(licensing): State<Arc<Licensing>>, Path(system): Path<String>, request: Request) -> Response {
    with_cors(licensing.raw(&system, None, None, request).await)
}

async fn in_path(
    State(licensing): State<Arc<Licensing>>,
    Path((content_id, token, system)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let answer = licensing.raw(&system, Some(&content_id), Some(&token), request).await;
    with_cors(answer)
}

async fn certificate(
    State(licensing): State<Arc<Licensing>>,
    Path(system): Path<String>,
    headers: HeaderMap,
) -> Response {
    let system = LicenseSystem::from_name(&system);
    let found = system.and_then(|system| licensing.desk.issuer(system)?.backend().certificate());
    let Some(certificate) = found else {
        return with_cors(Refusal::from(Code::NotFound).into_response());
    };
    let digest = Sha256::digest(certificate);
    let tag = digest
        .iter()
        .take(8)
        .fold(String::from("\""), |tag, byte| tag + &format!("{byte:02x}"))
        + "\"";
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut response = match known == Some(tag.as_str()) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => {
            let mut response = certificate.to_vec().into_response();
            let kind = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    with_cors(response)
}

/// The grant: in the path, else in `Authorization: Bearer`, else in the cookie. Never in the query.
fn token_of(headers: &HeaderMap, segment: Option<&str>) -> Option<String> {
    if let Some(segment) = segment {
        return segment.strip_prefix('~').map(str::to_owned);
    }
    let text = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = text.and_then(|text| text.split_once(' '));
    if let Some((_, token)) = bearer.filter(|(method, _)| method.eq_ignore_ascii_case("bearer")) {
        return Some(token.trim().to_owned());
    }
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE_NAME).then(|| value.to_owned()))
}

impl Licensing {
    /// Answers a player's own request: the challenge is the body, as the system's modules send it.
    async fn raw(&self, system: &str, content_id: Option<&str>, segment: Option<&str>, request: Request) -> Response {
        match self.try_raw(system, content_id, segment, request).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn try_raw(
        &self,
        system: &str,
        content_id: Option<&str>,
        segment: Option<&str>,
        request: Request,
    ) -> Result<Response, Refusal> {
        let system = LicenseSystem::from_name(system).ok_or(Code::NotFound)?;
        let (head, content) = request.into_parts();
        let token = token_of(&head.headers, segment).ok_or(Code::MediaTokenRequired)?;
        let mut asked = Asked::from_query(head.uri.query().unwrap_or_default())?;
        if let Some(content_id) = content_id {
            asked.content_id = content_id.to_owned();
        }
        // Before a byte of the body is read.
        self.admit(&token, system, &asked.content_id)?;
        let shape = Shape::of(system, &head.headers)?;
        let content = body::read(content, shape.size_max()).await?;
        shape.take(&content, &mut asked)?;
        let issued = match self.issue(&token, system, &asked).await {
            // The client reads the server's own words.
            Err(Refusal::Fault(fault)) => return Ok(answer::fault(fault)),
            issued => issued?,
        };
        Ok(licence(&issued.license, shape))
    }

    fn admit(&self, token: &str, system: LicenseSystem, content_id: &str) -> Result<Grant, Refusal> {
        let admitted = match is_name(content_id) {
            true => self.gate.admit(token, content_id, system, now()),
            false => return Err(Code::NotFound.into()),
        };
        admitted.map_err(|refusal| {
            tracing::info!(%system, reason = refusal.label(), "licences: grant refused");
            Code::MediaTokenInvalid.into()
        })
    }

    /// The order of it matters: who asks, and only then what for.
    async fn issue(&self, token: &str, system: LicenseSystem, asked: &Asked) -> Result<Issued, Refusal> {
        let now = now();
        let grant = self.admit(token, system, &asked.content_id)?;
        let wish = Wish {
            content_id: &asked.content_id,
            system,
            grant: &grant,
            policy: &self.desk.policy,
            challenge: &asked.challenge,
            key_ids: &asked.key_ids,
            scheme: asked.scheme,
            request_id: &request_id(),
            now,
        };
        let issued = self.desk.issue(&wish).await;
        issued.map_err(|error| match error {
            DeskError::NotOffered if system == LicenseSystem::ClearKey => Code::ClearKeyOff.into(),
            DeskError::NotOffered | DeskError::NoTitle => Code::NotFound.into(),
            DeskError::Foreign => Code::MediaTokenInvalid.into(),
            DeskError::Title(_) => Code::Internal.into(),
            DeskError::License(error) => error.into(),
        })
    }
}

/// By a clock from before 1970 nothing holds any more.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(u64::MAX, |since| since.as_secs())
}

/// A random UUID (RFC 9562 5.4).
fn request_id() -> String {
    let mut bytes = [0; 16];
    // Nothing rests on it being random.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    let number = u128::from_be_bytes(bytes) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    KeyId(number.to_be_bytes()).to_string()
}
