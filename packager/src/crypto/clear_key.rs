//! Clear Key licences: the JSON that a browser asks with and the JSON that answers it.
//!
//! Encrypted Media Extensions, 9.1.3 "License Request Format" and 9.1.4 "License Format".
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{ContentKey, KeyId};
use crate::limits;

/// How long a client may keep a licence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionType {
    /// Until the session ends.
    #[default]
    Temporary,
    /// On disk.
    PersistentLicense,
}

impl SessionType {
    fn name(self) -> &'static str {
        match self {
            SessionType::Temporary => "temporary",
            SessionType::PersistentLicense => "persistent-license",
        }
    }
}

/// A licence request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LicenceRequest {
    /// Keys asked for, each once.
    pub key_ids: Vec<KeyId>,
    /// For how long.
    pub session_type: SessionType,
}

/// Why a request is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("clear key request: {0}")]
pub struct LicenceRequestError(&'static str);

#[derive(Deserialize)]
struct RequestJson<'a> {
    #[serde(borrow)]
    kids: Vec<std::borrow::Cow<'a, str>>,
    #[serde(default, rename = "type")]
    session_type: SessionType,
}

impl LicenceRequest {
    /// Reads `{"kids":["…"],"type":"temporary"}`; members that are not known are passed over.
    pub fn parse(json: &[u8]) -> Result<LicenceRequest, LicenceRequestError> {
        if json.len() > limits::LICENCE_REQUEST_SIZE_BYTES_MAX {
            return Err(LicenceRequestError("too large"));
        }
        let request: RequestJson<'_> =
            serde_json::from_slice(json).map_err(|_| LicenceRequestError("not the JSON of a request"))?;
        if request.kids.is_empty() || request.kids.len() > limits::SIGNALLED_KEY_COUNT_MAX {
            return Err(LicenceRequestError("no keys or too many"));
        }
        let mut key_ids = Vec::with_capacity(request.kids.len());
        for text in &request.kids {
            let id = parse_kid(text).ok_or(LicenceRequestError("a kid is not 16 bytes in base64url"))?;
            if !key_ids.contains(&id) {
                key_ids.push(id);
            }
        }
        Ok(LicenceRequest {
            key_ids,
            session_type: request.session_type,
        })
    }
}

fn parse_kid(text: &str) -> Option<KeyId> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    bytes.try_into().ok().map(KeyId)
}

/// The licence that holds `keys`. It is as secret as they are, and wiped when dropped.
pub fn licence(keys: &[(KeyId, ContentKey)], session_type: SessionType) -> Zeroizing<Vec<u8>> {
    // Room for everything: growing would leave copies of keys behind.
    let mut out = Zeroizing::new(Vec::with_capacity(64 + 96 * keys.len()));
    out.extend_from_slice(b"{\"keys\":[");
    for (at, (id, key)) in keys.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"kty\":\"oct\",\"k\":\"");
        push_base64(&mut out, key.expose());
        out.extend_from_slice(b"\",\"kid\":\"");
        push_base64(&mut out, &id.0);
        out.extend_from_slice(b"\"}");
    }
    out.extend_from_slice(b"],\"type\":\"");
    out.extend_from_slice(session_type.name().as_bytes());
    out.extend_from_slice(b"\"}");
    out
}

fn push_base64(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes));
    out.extend_from_slice(text.as_bytes());
}
