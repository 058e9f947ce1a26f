//! FairPlay by a key security module: SPCs forwarded in Apple's JSON to a server of the operator's that runs Apple's SDK.
//!
//! `{"fairplay-streaming-request":{"version":1,"streaming-keys":[{"id":1,"uri":"skd://…","spc":"…"}]}}`, answered with
//! `{"fairplay-streaming-response":{"streaming-keys":[{"ckc":"…"}]}}`. What an SPC asks for is encrypted; the URI is made
//! from the vault's own key id, so that the module looks up nothing else.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use packager::crypto::fairplay;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use super::{
    IssueRequest, LICENSE_SIZE_BYTES_MAX, License, LicenseBackend, LicenseError, LicenseSystem, Named, Step,
    check_status,
};
use crate::key_exchange::content_key_api::LENIENT;
use crate::outbound::{Ask, Repeat, Reply};

/// Version, reserved, initialisation vector, wrapped key, hash of the certificate and length of what follows.
const SPC_HEAD_SIZE: usize = 4 + 4 + 16 + 128 + 20 + 4;
/// Where the hash of the certificate is in versions 1 and 2.
const CERTIFICATE_HASH_AT: usize = 4 + 4 + 16 + 128;

/// A key security module.
pub struct FairPlayKsm {
    /// Where it listens: on this machine, or behind TLS that knows us by our certificate.
    pub url: Uri,
    /// The application certificate (DER) that players fetch and encrypt their SPCs to.
    pub certificate: Option<Vec<u8>>,
    /// How key URIs are written ([`fairplay::fill`]); the origin's playlists must say the same.
    pub uri_template: String,
}

#[derive(Serialize)]
struct Envelope {
    #[serde(rename = "fairplay-streaming-request")]
    request: StreamingRequest,
}

#[derive(Serialize)]
struct StreamingRequest {
    version: u32,
    #[serde(rename = "streaming-keys")]
    keys: [StreamingKey; 1],
}

#[derive(Serialize)]
struct StreamingKey {
    id: u32,
    uri: String,
    spc: String,
}

#[derive(Deserialize)]
struct ReplyEnvelope {
    #[serde(rename = "fairplay-streaming-response")]
    response: StreamingResponse,
}

#[derive(Deserialize)]
struct StreamingResponse {
    #[serde(rename = "streaming-keys")]
    keys: Vec<ResponseKey>,
}

#[derive(Deserialize)]
struct ResponseKey {
    #[serde(default)]
    id: Option<u32>,
    #[serde(default)]
    ckc: Option<String>,
}

/// What of an SPC's outside can be checked by anyone.
pub fn check_spc(spc: &[u8], certificate: Option<&[u8]>) -> Result<(), LicenseError> {
    let version = spc.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    match version {
        Some(1..=3) => {}
        // DER begins so: players that fail to make an SPC were seen to send this.
        Some(first) if first >> 16 == 0x3082 => {
            return Err(LicenseError::Challenge("a certificate in place of an SPC"));
        }
        _ => return Err(LicenseError::Challenge("not an SPC of a known version")),
    }
    let length = spc
        .get(SPC_HEAD_SIZE - 4..SPC_HEAD_SIZE)
        .and_then(|bytes| bytes.first_chunk::<4>());
    let length = length.ok_or(LicenseError::Challenge("an SPC that is cut short"))?;
    // Later versions are Apple's to describe.
    let payload = spc.len().saturating_sub(SPC_HEAD_SIZE);
    if version == Some(1) && usize::try_from(u32::from_be_bytes(*length)) != Ok(payload) {
        return Err(LicenseError::Challenge("an SPC of another length than it says"));
    }
    let hash = spc.get(CERTIFICATE_HASH_AT..CERTIFICATE_HASH_AT + 20);
    let known = |certificate: &[u8]| hash == Some(Sha1::digest(certificate).as_slice());
    match matches!(version, Some(1 | 2)) && !certificate.is_none_or(known) {
        true => Err(LicenseError::Challenge("an SPC for another certificate")),
        false => Ok(()),
    }
}

impl LicenseBackend for FairPlayKsm {
    fn system(&self) -> LicenseSystem {
        LicenseSystem::FairPlay
    }

    fn name(&self) -> &'static str {
        "fairplay-ksm"
    }

    fn inspect(&self, challenge: &[u8]) -> Result<Named, LicenseError> {
        check_spc(challenge, self.certificate.as_deref())?;
        Ok(Named::Opaque)
    }

    fn begin(&self, request: &IssueRequest<'_>) -> Result<Step, LicenseError> {
        // One SPC is one key. Which, the player says by its URI before we are called.
        let [key] = request.keys else {
            return Err(LicenseError::Challenge("which key it is for is not said: key_id"));
        };
        let uri = fairplay::fill(&self.uri_template, key.key_id, None);
        let json = Envelope {
            request: StreamingRequest {
                version: 1,
                keys: [StreamingKey {
                    id: 1,
                    uri: uri.map_err(|_| LicenseError::Upstream("a key URI that can not be written"))?,
                    spc: STANDARD.encode(request.challenge),
                }],
            },
        };
        let body =
            serde_json::to_vec(&json).map_err(|_| LicenseError::Upstream("a request that can not be written"))?;
        // The same SPC gives the same CKC: the module keeps no state.
        let mut ask = Ask::post(self.url.clone(), body.into(), Repeat::WhenUnanswered);
        ask.header("content-type", "application/json");
        ask.reply_size_max = LICENSE_SIZE_BYTES_MAX;
        Ok(Step::Ask(Box::new(ask)))
    }

    fn read(&self, _request: &IssueRequest<'_>, reply: &Reply) -> Result<License, LicenseError> {
        check_status(reply)?;
        let not_one = LicenseError::Upstream("answered with something else than a CKC");
        let Ok(envelope) = serde_json::from_slice::<ReplyEnvelope>(&reply.body) else {
            return Err(not_one);
        };
        let [key] = envelope.response.keys.as_slice() else {
            return Err(not_one);
        };
        let ours = key.id.is_none_or(|id| id == 1);
        let ckc = key
            .ckc
            .as_ref()
            .filter(|_| ours)
            .and_then(|text| LENIENT.decode(text).ok());
        let bytes = ckc.filter(|bytes| !bytes.is_empty()).ok_or(not_one)?;
        Ok(License {
            bytes: Zeroizing::new(bytes),
            content_type: "application/octet-stream",
        })
    }

    fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }
}
