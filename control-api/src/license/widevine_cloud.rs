//! Widevine Cloud: licence requests signed as a provider's proxy does, `POST …/cenc/getlicense/{provider}`.
//!
//! The challenge is opaque. Title and keys are ours, named explicitly, so that a challenge for another title opens
//! nothing: the service is never left to trust what stands in it.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use super::{
    Hdcp, IssueRequest, Keep, LICENSE_SIZE_BYTES_MAX, License, LicenseBackend, LicenseError, LicenseSystem, Named,
    Step, check_status,
};
use crate::key_exchange::content_key_api::{LENIENT, SigningKey, sign_envelope};
use crate::outbound::{Ask, Repeat, Reply};

/// Who has the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyOwner {
    /// The service, which gave them to the encryptor (`getcontentkey`): licences name track types alone.
    #[default]
    Service,
    /// We: keys go along with the request, protected by its TLS.
    Us,
}

/// What a status of the service means. The complete list is the provider's to know, so statuses are open strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusMeaning {
    /// The player may not have a licence.
    Denied,
    /// The challenge is not one.
    Challenge,
    /// Our credentials are refused.
    Credentials,
    /// Try again.
    Again,
}

/// Widevine's licence service, or another that speaks its protocol.
pub struct WidevineCloud {
    /// `https://license.widevine.com/cenc/getlicense/{provider}`
    pub url: Uri,
    /// The provider, which signs.
    pub provider: String,
    /// What it signs with.
    pub key: SigningKey,
    /// Who has the keys.
    pub owner: KeyOwner,
    /// A policy that the provider registered.
    pub policy: Option<String>,
    /// Where players renew licences, if they do.
    pub renewal_url: Option<String>,
    /// Meanings of statuses besides those that are published.
    pub statuses: BTreeMap<String, StatusMeaning>,
}

#[derive(Serialize)]
struct RequestJson<'a> {
    payload: String,
    content_id: String,
    provider: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_name: Option<&'a str>,
    content_key_specs: Vec<KeySpec>,
    policy_overrides: PolicyOverrides<'a>,
    use_policy_overrides_exclusively: bool,
}

#[derive(Serialize)]
struct KeySpec {
    track_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    key: Option<Zeroizing<String>>,
    security_level: u8,
    required_output_protection: OutputProtection,
}

#[derive(Serialize)]
struct OutputProtection {
    hdcp: &'static str,
}

#[derive(Serialize)]
struct PolicyOverrides<'a> {
    can_play: bool,
    can_persist: bool,
    can_renew: bool,
    license_duration_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    playback_duration_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal_server_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal_delay_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal_retry_interval_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal_recovery_duration_seconds: Option<u64>,
}

/// What is read of a reply; the rest is the service's.
#[derive(Deserialize)]
struct ReplyJson {
    status: String,
    #[serde(default)]
    license: Option<String>,
    #[serde(default)]
    license_metadata: Option<Metadata>,
    #[serde(default)]
    supported_tracks: Vec<SupportedTrack>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    content_id: Option<String>,
}

#[derive(Deserialize)]
struct SupportedTrack {
    #[serde(default)]
    key_id: Option<String>,
}

fn as_text<S: Serializer>(text: &Option<Zeroizing<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_ref().map(|text| text.as_str()).serialize(serializer)
}

fn hdcp_name(hdcp: Hdcp) -> &'static str {
    match hdcp {
        Hdcp::None => "HDCP_NONE",
        Hdcp::V1 => "HDCP_V1",
        Hdcp::V2 => "HDCP_V2",
        Hdcp::V2_1 => "HDCP_V2_1",
        Hdcp::V2_2 => "HDCP_V2_2",
    }
}

impl WidevineCloud {
    /// The bytes that are signed.
    fn message(&self, request: &IssueRequest<'_>) -> Result<Zeroizing<Vec<u8>>, LicenseError> {
        let terms = request.terms;
        let mut specs: Vec<KeySpec> = Vec::new();
        for key in request.keys {
            let track_type = key.track.name();
            let of_track = terms.of(key.track);
            let ours = self.owner == KeyOwner::Us;
            // The service knows one key a track type.
            if !ours && specs.iter().any(|spec| spec.track_type == track_type) {
                continue;
            }
            specs.push(KeySpec {
                track_type,
                key_id: ours.then(|| STANDARD.encode(key.key_id.0)),
                key: ours.then(|| Zeroizing::new(STANDARD.encode(key.key.expose()))),
                security_level: of_track.widevine_level,
                required_output_protection: OutputProtection {
                    hdcp: hdcp_name(of_track.hdcp),
                },
            });
        }
        let renewal = terms.renewal.filter(|_| self.renewal_url.is_some());
        let json = RequestJson {
            payload: STANDARD.encode(request.challenge),
            content_id: STANDARD.encode(request.content_id),
            provider: &self.provider,
            policy_name: self.policy.as_deref(),
            content_key_specs: specs,
            policy_overrides: PolicyOverrides {
                can_play: true,
                can_persist: terms.keep == Keep::Device,
                can_renew: renewal.is_some(),
                license_duration_seconds: terms.duration_s,
                playback_duration_seconds: terms.playback_duration_s,
                renewal_server_url: self.renewal_url.as_deref().filter(|_| renewal.is_some()),
                renewal_delay_seconds: renewal.map(|renewal| renewal.delay_s),
                renewal_retry_interval_seconds: renewal.map(|renewal| renewal.retry_s),
                renewal_recovery_duration_seconds: renewal.map(|renewal| renewal.recovery_s),
            },
            // A registered policy is completed by what is said here, and never left to say more.
            use_policy_overrides_exclusively: self.policy.is_none(),
        };
        // Room for everything: growing would leave copies of keys behind.
        let mut out = Zeroizing::new(Vec::with_capacity(
            request.challenge.len() * 4 / 3 + 512 * (request.keys.len() + 4),
        ));
        let written = serde_json::to_writer(&mut *out, &json);
        written.map_err(|_| LicenseError::Upstream("a request that can not be written"))?;
        Ok(out)
    }

    fn meaning(&self, status: &str) -> LicenseError {
        let known = self.statuses.get(status).copied().or(match status {
            "SIGNATURE_FAILED" | "POLICY_UNKNOWN" => Some(StatusMeaning::Credentials),
            "MALFORMED_REQUEST" => Some(StatusMeaning::Challenge),
            "ACCESS_DENIED" => Some(StatusMeaning::Denied),
            "INTERNAL_ERROR" => Some(StatusMeaning::Again),
            _ => None,
        });
        match known {
            Some(StatusMeaning::Denied) => LicenseError::Denied,
            Some(StatusMeaning::Challenge) => LicenseError::Challenge("the licence service can not read it"),
            Some(StatusMeaning::Credentials) => LicenseError::Credentials,
            Some(StatusMeaning::Again) => LicenseError::Again,
            None => LicenseError::Upstream("answered with a status that is not known here"),
        }
    }
}

impl LicenseBackend for WidevineCloud {
    fn system(&self) -> LicenseSystem {
        LicenseSystem::Widevine
    }

    fn name(&self) -> &'static str {
        "widevine-cloud"
    }

    fn inspect(&self, challenge: &[u8]) -> Result<Named, LicenseError> {
        match challenge.is_empty() {
            true => Err(LicenseError::Challenge("empty")),
            false => Ok(Named::Opaque),
        }
    }

    fn begin(&self, request: &IssueRequest<'_>) -> Result<Step, LicenseError> {
        let message = self.message(request)?;
        let body = sign_envelope(&message, &self.provider, &self.key);
        let body = body.ok_or(LicenseError::Upstream("a key that can not sign"))?;
        // The same challenge again is the same question, and the service says itself when to repeat it.
        let mut ask = Ask::post(self.url.clone(), body, Repeat::WhenUnanswered);
        ask.header("content-type", "application/json");
        ask.reply_size_max = LICENSE_SIZE_BYTES_MAX;
        Ok(Step::Ask(Box::new(ask)))
    }

    fn read(&self, request: &IssueRequest<'_>, reply: &Reply) -> Result<License, LicenseError> {
        check_status(reply)?;
        let not_one = LicenseError::Upstream("answered with something else than a licence");
        let Ok(json) = serde_json::from_slice::<ReplyJson>(&reply.body) else {
            return Err(not_one);
        };
        if json.status != "OK" {
            return Err(self.meaning(&json.status));
        }
        let titled = json.license_metadata.and_then(|metadata| metadata.content_id);
        let same_title = |text: &String| LENIENT.decode(text).is_ok_and(|id| id == request.content_id.as_bytes());
        if !titled.as_ref().is_none_or(same_title) {
            return Err(LicenseError::Upstream("answered for another title"));
        }
        // Keys of the service's own have names that only it knows; ours must be ours.
        let ours = |text: &String| {
            let id = LENIENT.decode(text).unwrap_or_default();
            request.keys.iter().any(|key| key.key_id.0.as_slice() == id.as_slice())
        };
        let mut named = json.supported_tracks.iter().filter_map(|track| track.key_id.as_ref());
        if self.owner == KeyOwner::Us && !named.all(ours) {
            return Err(LicenseError::Upstream("answered for another key"));
        }
        let license = json.license.and_then(|text| LENIENT.decode(text.as_bytes()).ok());
        let bytes = license.filter(|bytes| !bytes.is_empty()).ok_or(not_one)?;
        Ok(License {
            bytes: Zeroizing::new(bytes),
            content_type: "application/octet-stream",
        })
    }
}
