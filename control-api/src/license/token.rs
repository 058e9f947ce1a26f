//! Token: a viewer's entitlement as a licence vendor reads it, and where in a request it stands.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{IssueRequest, Keep, LicenseError, LicenseSystem, rfc3339};
use crate::key_exchange::content_key_api::LENIENT;
use crate::key_exchange::delivery::encrypt_cbc;
use crate::outbound::{Ask, with_query};

/// How long a token may be used: it is sent at once.
const LIFE_S: u64 = 120;
/// Longest token that is sent: what servers take of a header.
const SIZE_BYTES_MAX: usize = 16 << 10;

/// A token, and where it stands.
pub struct Carrier {
    /// What makes it.
    pub maker: Maker,
    /// Where it stands.
    pub place: Place,
}

/// Where a token stands.
pub enum Place {
    /// In this header, in lower case.
    Header(String),
    /// In `Authorization`, as a Bearer token.
    Bearer,
    /// In the query, under this name.
    Query(String),
}

/// What makes a token. Keys are wiped when dropped.
pub enum Maker {
    /// Axinom's licence service message: a JWT around an entitlement message, version 2.
    Axinom {
        /// `com_key_id`
        key_id: String,
        /// The communication key.
        key: Zeroizing<Vec<u8>>,
    },
    /// DoveRunner's licence token, formerly PallyCon's: JSON in base64 with an encrypted policy and a hash.
    DoveRunner {
        /// `site_id`
        site_id: String,
        /// AES-256 key of policies: 32 characters.
        site_key: Zeroizing<[u8; 32]>,
        /// What the hash begins with.
        access_key: Zeroizing<String>,
    },
    /// A JWT (RFC 7519) signed with HMAC-SHA-256, with claims from a template.
    Jwt {
        /// Claims; see [`fill`] for what is filled in.
        claims: Value,
        /// `kid` of the header.
        key_id: Option<String>,
        /// The key.
        key: Zeroizing<Vec<u8>>,
    },
}

impl Carrier {
    /// Puts the token for `request` where it stands.
    pub fn put(&self, ask: &mut Ask, request: &IssueRequest<'_>, system: LicenseSystem) -> Result<(), LicenseError> {
        let unfit = LicenseError::Upstream("a token that can not be sent");
        let token = self
            .maker
            .make(request, system)
            .filter(|token| token.len() <= SIZE_BYTES_MAX);
        let Some(token) = token else {
            return Err(unfit);
        };
        let put = match &self.place {
            Place::Header(name) => ask.secret_header(name, &token),
            Place::Bearer => ask.bearer(&token),
            Place::Query(name) => with_query(&ask.url, name, &token).map(|url| ask.url = url),
        };
        put.ok_or(unfit)
    }
}

impl Maker {
    /// The token for `request`.
    pub fn make(&self, request: &IssueRequest<'_>, system: LicenseSystem) -> Option<Zeroizing<String>> {
        match self {
            Maker::Axinom { key_id, key } => jwt(&axinom(request, key_id), None, key),
            Maker::DoveRunner {
                site_id,
                site_key,
                access_key,
            } => dove_runner(request, system, site_id, site_key, access_key),
            Maker::Jwt { claims, key_id, key } => {
                let mut claims = claims.clone();
                fill(&mut claims, request, system);
                jwt(&claims, key_id.as_deref(), key)
            }
        }
    }
}

/// A key as vendors hand it out: base64.
pub fn key_from_base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let key = Zeroizing::new(LENIENT.decode(text.trim()).ok()?);
    (!key.is_empty()).then_some(key)
}

/// The message that tells Axinom's service which keys may be given, and for how long.
fn axinom(request: &IssueRequest<'_>, key_id: &str) -> Value {
    let terms = request.terms;
    let keys: Vec<Value> = request
        .keys
        .iter()
        .map(|key| json!({ "id": key.key_id.to_string() }))
        .collect();
    json!({
        "version": 1,
        "id": request.request_id,
        "com_key_id": key_id,
        "begin_date": rfc3339(request.now),
        "expiration_date": rfc3339(request.now.saturating_add(LIFE_S)),
        "message": {
            "type": "entitlement_message",
            "version": 2,
            "license": {
                "start_datetime": rfc3339(request.now),
                "expiration_datetime": rfc3339(terms.expires),
                "duration": terms.duration_s,
                "allow_persistence": terms.keep == Keep::Device,
            },
            "content_keys_source": { "inline": keys },
        },
    })
}

/// The vector that policies are encrypted with; part of the contract.
const DOVE_RUNNER_IV: [u8; 16] = *b"0123456789abcdef";

fn dove_runner(
    request: &IssueRequest<'_>,
    system: LicenseSystem,
    site_id: &str,
    site_key: &[u8; 32],
    access_key: &str,
) -> Option<Zeroizing<String>> {
    let drm_type = match system {
        LicenseSystem::Widevine => "Widevine",
        LicenseSystem::PlayReady => "PlayReady",
        LicenseSystem::FairPlay => "FairPlay",
        LicenseSystem::ClearKey => return None,
    };
    let terms = request.terms;
    let mut playback = json!({
        "persistent": terms.keep == Keep::Device,
        "license_duration": terms.duration_s,
    });
    if let (Some(seconds), Value::Object(playback)) = (terms.playback_duration_s, &mut playback) {
        playback.insert("playback_duration".to_owned(), seconds.into());
    }
    let policy = json!({ "policy_version": 2, "playback_policy": playback }).to_string();
    let policy = STANDARD.encode(encrypt_cbc(site_key, DOVE_RUNNER_IV, policy.as_bytes())?);
    let user_id = request.session.unwrap_or("LICENSETOKEN");
    let (cid, timestamp) = (request.content_id, rfc3339(request.now));
    let mut hash = Sha256::new();
    for part in [access_key, drm_type, site_id, user_id, cid, &policy, &timestamp] {
        hash.update(part);
    }
    let token = json!({
        "drm_type": drm_type,
        "site_id": site_id,
        "user_id": user_id,
        "cid": cid,
        "policy": policy,
        "response_format": "original",
        "key_rotation": false,
        "timestamp": timestamp,
        "hash": STANDARD.encode(hash.finalize()),
    });
    Some(Zeroizing::new(STANDARD.encode(token.to_string())))
}

/// Fills in every string of a template that is one of: `{content_id}`, `{tenant}`, `{session}`, `{request_id}`,
/// `{system}`, `{now}`, `{token_expires}` and `{expires}` (numbers), `{duration_s}`, `{expires_at}` (RFC 3339),
/// `{key_ids}` (a list), `{persist}`. Other strings stay as they are.
pub fn fill(template: &mut Value, request: &IssueRequest<'_>, system: LicenseSystem) {
    // Templates come from the operator's configuration, whose parser bounds their depth.
    match template {
        Value::String(text) => {
            if let Some(value) = value_of(text, request, system) {
                *template = value;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, request, system)),
        Value::Object(members) => members.values_mut().for_each(|value| fill(value, request, system)),
        _ => {}
    }
}

fn value_of(name: &str, request: &IssueRequest<'_>, system: LicenseSystem) -> Option<Value> {
    let terms = request.terms;
    let value = match name {
        "{content_id}" => request.content_id.into(),
        "{tenant}" => request.tenant.into(),
        "{session}" => request.session.into(),
        "{request_id}" => request.request_id.into(),
        "{system}" => system.name().into(),
        "{now}" => request.now.into(),
        "{token_expires}" => request.now.saturating_add(LIFE_S).into(),
        "{expires}" => terms.expires.into(),
        "{duration_s}" => terms.duration_s.into(),
        "{expires_at}" => rfc3339(terms.expires).into(),
        "{key_ids}" => request.keys.iter().map(|key| key.key_id.to_string()).collect(),
        "{persist}" => (terms.keep == Keep::Device).into(),
        _ => return None,
    };
    Some(value)
}

/// A JSON Web Token in compact form (RFC 7515 3.1), HS256.
fn jwt(claims: &Value, key_id: Option<&str>, key: &[u8]) -> Option<Zeroizing<String>> {
    let header = match key_id {
        Some(key_id) => json!({ "alg": "HS256", "typ": "JWT", "kid": key_id }),
        None => json!({ "alg": "HS256", "typ": "JWT" }),
    };
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
    Some(Zeroizing::new(format!(
        "{signed}.{}",
        URL_SAFE_NO_PAD.encode(tag.as_ref())
    )))
}
