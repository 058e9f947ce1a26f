//! Bodies: the forms in which players and applications send a challenge.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use packager::crypto::{KeyId, ProtectionScheme};
use packager::limits;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::answer::Code;
use crate::key_exchange::content_key_api::LENIENT;
use crate::license::{CHALLENGE_SIZE_BYTES_MAX, License, LicenseSystem};

/// Longest that a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a body that holds a challenge in base64, every character of it escaped at most once.
pub(super) const JSON_SIZE_BYTES_MAX: usize = CHALLENGE_SIZE_BYTES_MAX * 4 + 8_192;

/// What is asked for.
pub(super) struct Asked {
    pub content_id: String,
    /// Names of keys; all that can be had, without any.
    pub key_ids: Vec<KeyId>,
    pub scheme: Option<ProtectionScheme>,
    pub challenge: Zeroizing<Vec<u8>>,
}

fn scheme_of(name: &str) -> Result<ProtectionScheme, Code> {
    let found = ProtectionScheme::from_name(name);
    found.ok_or(Code::InvalidParameter("scheme is one of cenc, cens, cbc1, cbcs"))
}

fn key_id_of(text: &str) -> Result<KeyId, Code> {
    KeyId::parse(text).ok_or(Code::InvalidParameter("key_id is not a UUID"))
}

impl Asked {
    /// `content_id`, `key_id` (any number of them), `scheme`.
    pub(super) fn from_query(query: &str) -> Result<Asked, Code> {
        let mut asked = Asked {
            content_id: String::new(),
            key_ids: Vec::new(),
            scheme: None,
            challenge: Zeroizing::default(),
        };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("content_id", value)) if asked.content_id.is_empty() => asked.content_id = value.to_owned(),
                Some(("key_id", value)) if asked.key_ids.len() < limits::SIGNALLED_KEY_COUNT_MAX => {
                    asked.key_ids.push(key_id_of(value)?);
                }
                Some(("scheme", value)) if asked.scheme.is_none() => asked.scheme = Some(scheme_of(value)?),
                _ => return Err(Code::InvalidParameter("content_id, key_id and scheme are known")),
            }
        }
        Ok(asked)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestJson {
    content_id: String,
    content_type: ContentType,
    drm_system: LicenseSystem,
    license_request_bytes: String,
    #[serde(default)]
    session_id: Option<String>,
    #[serde(default)]
    key_ids: Vec<String>,
    #[serde(default)]
    scheme: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ContentType {
    Movie,
    Episode,
    Channel,
}

/// Whether the body says that it is JSON.
pub(super) fn check_json(headers: &HeaderMap) -> Result<(), Code> {
    match media_type(headers).as_deref() {
        Some("application/json") => Ok(()),
        _ => Err(Code::UnsupportedMediaType),
    }
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = text.split(';').next().unwrap_or_default();
    Some(kind.trim().to_ascii_lowercase())
}

/// An application's request.
pub(super) fn parse_json(bytes: &[u8]) -> Result<(LicenseSystem, Asked), Code> {
    let request: RequestJson = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Code::Validation("a member is missing, not known or of another kind"),
        _ => Code::BadRequest("the body is not JSON"),
    })?;
    // The grant says which session it is, and titles are told apart by their ids alone.
    let (_, ContentType::Movie | ContentType::Episode | ContentType::Channel) =
        (&request.session_id, &request.content_type);
    if request.key_ids.len() > limits::SIGNALLED_KEY_COUNT_MAX {
        return Err(Code::Validation("too many key_ids"));
    }
    let key_ids = request.key_ids.iter().map(|text| key_id_of(text));
    let asked = Asked {
        content_id: request.content_id,
        key_ids: key_ids.collect::<Result<_, _>>()?,
        scheme: request.scheme.as_deref().map(scheme_of).transpose()?,
        challenge: decoded(&request.license_request_bytes)?,
    };
    Ok((request.drm_system, asked))
}

/// A challenge in base64.
fn decoded(text: &str) -> Result<Zeroizing<Vec<u8>>, Code> {
    let challenge = LENIENT.decode(text).map(Zeroizing::new);
    let challenge = challenge.map_err(|_| Code::InvalidLicenseRequest("not base64"))?;
    match challenge.len() {
        0..=CHALLENGE_SIZE_BYTES_MAX => Ok(challenge),
        _ => Err(Code::BodyTooLarge),
    }
}

/// Reads a body of at most `size_max` bytes.
pub(super) async fn read(body: Body, size_max: usize) -> Result<Zeroizing<Vec<u8>>, Code> {
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, size_max)).await {
        Ok(Ok(bytes)) => Ok(Zeroizing::new(bytes.into())),
        Ok(Err(_)) => Err(Code::BodyTooLarge),
        Err(_) => Err(Code::BadRequest("the body did not come in time")),
    }
}

/// How a player's request holds its challenge, and so how its licence is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The challenge itself; the licence itself.
    Bytes,
    /// `spc=` in a form; the licence in base64 inside `<ckc>`.
    Form,
    /// `{"spc":"…"}`, or Apple's own request with one key; the licence likewise.
    Json,
}

#[derive(Deserialize)]
struct SpcJson {
    spc: Option<String>,
    #[serde(rename = "fairplay-streaming-request")]
    request: Option<StreamingRequest>,
}

#[derive(Deserialize)]
struct StreamingRequest {
    #[serde(rename = "streaming-keys")]
    keys: Vec<StreamingKey>,
}

#[derive(Deserialize)]
struct StreamingKey {
    spc: String,
    /// The playlist's URI, which names the key.
    #[serde(default)]
    uri: String,
}

const MALFORMED: Code = Code::InvalidLicenseRequest("no SPC in the body");

impl Shape {
    /// FairPlay's players differ in what they send; those of other systems do not.
    pub(super) fn of(system: LicenseSystem, headers: &HeaderMap) -> Result<Shape, Code> {
        match (system, media_type(headers).as_deref()) {
            (LicenseSystem::FairPlay, Some("application/x-www-form-urlencoded")) => Ok(Shape::Form),
            (LicenseSystem::FairPlay, Some("application/json")) => Ok(Shape::Json),
            (LicenseSystem::FairPlay, None | Some("application/octet-stream")) => Ok(Shape::Bytes),
            (LicenseSystem::FairPlay, Some(_)) => Err(Code::UnsupportedMediaType),
            _ => Ok(Shape::Bytes),
        }
    }

    pub(super) fn size_max(self) -> usize {
        match self {
            Shape::Bytes => CHALLENGE_SIZE_BYTES_MAX,
            Shape::Form | Shape::Json => JSON_SIZE_BYTES_MAX,
        }
    }

    /// Takes the challenge out of a body.
    pub(super) fn take(self, body: &[u8], asked: &mut Asked) -> Result<(), Code> {
        asked.challenge = match self {
            Shape::Bytes => Zeroizing::new(body.to_vec()),
            Shape::Form => decoded(&form_value(body, "spc").ok_or(MALFORMED)?)?,
            Shape::Json => {
                let json: SpcJson = serde_json::from_slice(body).map_err(|_| MALFORMED)?;
                let nested = json.request.map(|request| request.keys).unwrap_or_default();
                match (json.spc, nested.as_slice()) {
                    (Some(spc), []) => decoded(&spc)?,
                    (None, [key]) => {
                        let named = key.uri.strip_prefix("skd://").and_then(KeyId::parse);
                        asked.key_ids.extend(named);
                        decoded(&key.spc)?
                    }
                    _ => return Err(MALFORMED),
                }
            }
        };
        Ok(())
    }

    /// The licence in the form of the request.
    pub(super) fn put(self, license: &License) -> (&'static str, Vec<u8>) {
        let text = || STANDARD.encode(&license.bytes);
        match self {
            Shape::Bytes => (license.content_type, license.bytes.to_vec()),
            Shape::Form => ("text/plain", format!("<ckc>{}</ckc>", text()).into_bytes()),
            Shape::Json => {
                let keys = json!([{ "id": 1, "ckc": text() }]);
                let json = json!({ "fairplay-streaming-response": { "streaming-keys": keys } });
                ("application/json", json.to_string().into_bytes())
            }
        }
    }
}

/// The value of a form's field, its escapes undone. A `+` stays one: base64 has it, and players forget to escape it.
fn form_value(body: &[u8], name: &str) -> Option<Zeroizing<String>> {
    let text = std::str::from_utf8(body).ok()?;
    let mut pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    let mut out = Zeroizing::new(String::with_capacity(value.len()));
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let character = match byte {
            b'%' => {
                let digit = |digit: Option<u8>| char::from(digit?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                char::from_u32(high * 16 + low)?
            }
            b' ' => '+',
            byte => char::from(byte),
        };
        out.push(character);
    }
    Some(out)
}
