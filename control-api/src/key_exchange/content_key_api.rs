//! Widevine's key API (`getcontentkey`): signed requests for the keys of a title by track type, both sides.
//!
//! As Google's public packager speaks it: `{"request":…,"signature":…,"signer":…}` around JSON in base64, answered with
//! HTTP 200 and a status inside, whatever it is.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use packager::crypto::playready::{self, SignalledKey};
use packager::crypto::widevine::WidevineData;
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};
use rsa::pkcs8::DecodePublicKey;
use rsa::pss::{Signature, VerifyingKey};
use rsa::signature::Verifier;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use zeroize::{Zeroize, Zeroizing};

use super::delivery::encrypt_cbc;
use super::{Contract, Key, KeySet, KeySourceError, TrackType, Wanted, WantedKey};

/// Bytes of a request's body.
pub const REQUEST_SIZE_BYTES_MAX: usize = 65_536;
/// Bytes of a response's body.
pub const RESPONSE_SIZE_BYTES_MAX: usize = 1 << 20;
/// Track types of a request.
const TRACK_COUNT_MAX: usize = 16;
/// Crypto periods of a request; Google's packager asks for ten.
const PERIOD_COUNT_MAX: u32 = 100;
/// Bytes of a content id.
const CONTENT_ID_SIZE_BYTES_MAX: usize = 256;
/// Track types that there are.
const TRACK_TYPES: [&str; 5] = ["AUDIO", "SD", "HD", "UHD1", "UHD2"];

/// Base64 with or without padding.
pub(crate) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Keys are in the response.
    #[error("OK")]
    Ok,
    /// Unknown signer, or not signed by it.
    #[error("SIGNATURE_FAILED")]
    SignatureFailed,
    /// No `content_id`.
    #[error("CONTENT_ID_MISSING")]
    ContentIdMissing,
    /// A policy that the signer has not.
    #[error("POLICY_UNKNOWN")]
    PolicyUnknown,
    /// No `tracks`.
    #[error("TRACK_TYPE_MISSING")]
    TrackTypeMissing,
    /// A track type that there is not.
    #[error("TRACK_TYPE_UNKNOWN")]
    TrackTypeUnknown,
    /// Not a request, or one for something that is not offered.
    #[error("MALFORMED_REQUEST")]
    MalformedRequest,
    /// The title is not the signer's.
    #[error("ACCESS_DENIED")]
    AccessDenied,
    /// The only one that is worth another try.
    #[error("INTERNAL_ERROR")]
    InternalError,
    /// `pssh_data` is not Widevine's.
    #[error("INVALID_WIDEVINE_PSSH")]
    InvalidWidevinePssh,
    /// A title named in more than one way.
    #[error("TOO_MANY_CONTENT_SPECIFIERS")]
    TooManyContentSpecifiers,
    /// A title by a name that is not known here.
    #[error("ASSET_NOT_FOUND")]
    AssetNotFound,
    /// A title without the key.
    #[error("ASSET_MISSING_KEY")]
    AssetMissingKey,
    /// Not answered by this server.
    #[error("CONTENT_ID_MISMATCH")]
    ContentIdMismatch,
    /// A key that serves something else.
    #[error("KEY_ID_MISMATCH")]
    KeyIdMismatch,
    /// Not answered by this server.
    #[error("INVALID_GROUP_TRACK_TYPE")]
    InvalidGroupTrackType,
    /// Keys that rotate, for a system that does not.
    #[error("KEY_ROTATION_WITH_UNSUPPORTED_DRM_TYPE")]
    KeyRotationWithUnsupportedDrmType,
    /// Rotation without a period.
    #[error("NO_REQUESTED_CRYPTO_PERIODS")]
    NoRequestedCryptoPeriods,
}

impl Status {
    /// Whether the same request may go better later.
    pub fn is_retryable(self) -> bool {
        self == Status::InternalError
    }
}

impl From<KeySourceError> for Status {
    fn from(error: KeySourceError) -> Status {
        match error {
            KeySourceError::NoKeys => Status::AssetNotFound,
            KeySourceError::KeyInUse(_) => Status::KeyIdMismatch,
            KeySourceError::ReadOnly | KeySourceError::Unavailable => Status::InternalError,
        }
    }
}

/// What a signer signs with. Wiped when dropped.
pub enum SigningKey {
    /// SHA-1 of the request, padded, under AES-256-CBC with a fixed initialisation vector.
    Aes {
        /// The key.
        key: Zeroizing<[u8; 32]>,
        /// The initialisation vector.
        iv: Zeroizing<[u8; 16]>,
    },
    /// RSASSA-PSS with SHA-1 and a salt of 20 bytes, verified alone.
    Rsa(VerifyingKey<Sha1>),
}

impl SigningKey {
    /// A symmetric key.
    pub fn aes(key: [u8; 32], iv: [u8; 16]) -> SigningKey {
        SigningKey::Aes {
            key: Zeroizing::new(key),
            iv: Zeroizing::new(iv),
        }
    }

    /// The public half of an RSA key, PEM (`BEGIN PUBLIC KEY`). `None` when it is not one.
    pub fn rsa(pem: &str) -> Option<SigningKey> {
        let key = rsa::RsaPublicKey::from_public_key_pem(pem).ok()?;
        Some(SigningKey::Rsa(VerifyingKey::new(key)))
    }

    /// The signature of `message`; `None` where the private half is not here.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            SigningKey::Aes { key, iv } => encrypt_cbc(key, **iv, &Sha1::digest(message)),
            SigningKey::Rsa(_) => None,
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            SigningKey::Aes { .. } => self
                .sign(message)
                .is_some_and(|own| verify_slices_are_equal(&own, signature).is_ok()),
            SigningKey::Rsa(key) => {
                Signature::try_from(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
        }
    }
}

/// Whoever asks for keys.
pub struct Signer {
    /// `signer` of an envelope, and the last part of the URL.
    pub name: String,
    /// Whose titles it may ask for.
    pub tenant: String,
    /// What it signs with.
    pub key: SigningKey,
    /// Policies it may name; the empty one is always known.
    pub policies: Vec<String>,
}

/// The envelope of a request.
#[derive(Serialize, Deserialize)]
struct Envelope {
    request: String,
    #[serde(default)]
    signature: String,
    #[serde(default)]
    signer: String,
}

/// The envelope of a response.
#[derive(Serialize, Deserialize)]
struct ResponseEnvelope {
    response: String,
}

/// A request, in the protocol's own words. What is not listed is not offered and passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContentKeyRequest {
    /// The title, base64.
    pub content_id: String,
    /// The policy for its licences.
    pub policy: String,
    /// Track types.
    pub tracks: Vec<Track>,
    /// Systems that `pssh` data is wanted for.
    pub drm_types: Vec<String>,
    /// The first period, where keys rotate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_crypto_period_index: Option<u32>,
    /// How many periods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crypto_period_count: Option<u32>,
    /// Seconds of a period; informative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crypto_period_seconds: Option<u32>,
    /// `CENC`, `CENS`, `CBC1`, `CBCS`; `CENC` without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protection_scheme: Option<String>,
    /// Another way to name a title, by a `pssh`; not offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pssh_data: Option<String>,
    /// Another way to name a title; not offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset_id: Option<serde_json::Value>,
    /// Keys of a group of titles; not offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// Entitlement keys; not offered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable_entitlement_license: bool,
}

/// A track type of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Track {
    /// `AUDIO`, `SD`, `HD`, `UHD1`, `UHD2`.
    #[serde(rename = "type")]
    pub track_type: String,
}

/// A response, in the protocol's own words.
#[derive(Serialize, Deserialize)]
struct ContentKeyResponse {
    status: Status,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    drm: Vec<ResponseDrm>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tracks: Vec<ResponseTrack>,
}

#[derive(Serialize, Deserialize)]
struct ResponseDrm {
    #[serde(rename = "type")]
    drm_type: String,
    #[serde(default)]
    system_id: String,
}

#[derive(Serialize, Deserialize)]
struct ResponseTrack {
    #[serde(rename = "type")]
    track_type: String,
    key_id: String,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iv: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pssh: Vec<ResponsePssh>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crypto_period_index: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct ResponsePssh {
    #[serde(default)]
    drm_type: String,
    #[serde(default)]
    data: String,
    /// Whole `pssh` boxes around `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boxes: Option<String>,
}

/// Opens an envelope: finds its signer among `signers`, checks its signature, and reads the request inside.
/// `signer` is the URL's; the envelope's must be the same, or empty.
pub fn open<'a>(body: &[u8], signer: &str, signers: &'a [Signer]) -> Result<(&'a Signer, ContentKeyRequest), Status> {
    if body.len() > REQUEST_SIZE_BYTES_MAX {
        return Err(Status::MalformedRequest);
    }
    let envelope: Envelope = serde_json::from_slice(body).map_err(|_| Status::MalformedRequest)?;
    let message = LENIENT
        .decode(&envelope.request)
        .map_err(|_| Status::MalformedRequest)?;
    let signature = LENIENT
        .decode(&envelope.signature)
        .map_err(|_| Status::SignatureFailed)?;
    let named = envelope.signer.is_empty() || envelope.signer == signer;
    let signer = signers.iter().find(|known| named && known.name == signer);
    let signer = signer.ok_or(Status::SignatureFailed)?;
    if !signer.key.verifies(&message, &signature) {
        return Err(Status::SignatureFailed);
    }
    let request = serde_json::from_slice(&message).map_err(|_| Status::MalformedRequest)?;
    Ok((signer, request))
}

/// A request as a contract, with what the response needs of it.
pub struct Order {
    /// What to ask the source for.
    pub contract: Contract,
    content_id: Vec<u8>,
    scheme: ProtectionScheme,
    rotates: bool,
    widevine: bool,
    playready: bool,
}

impl ContentKeyRequest {
    /// A request for nothing yet of this title.
    pub fn of_title(content_id: &str) -> ContentKeyRequest {
        ContentKeyRequest {
            content_id: STANDARD.encode(content_id),
            ..ContentKeyRequest::default()
        }
    }

    /// What the request asks for, on behalf of `signer`.
    pub fn order(&self, signer: &Signer) -> Result<Order, Status> {
        let others = [
            self.pssh_data.is_some(),
            self.asset_id.is_some(),
            self.group_id.is_some(),
        ];
        match (
            self.content_id.is_empty(),
            others.into_iter().filter(|other| *other).count(),
        ) {
            (true, 0) => return Err(Status::ContentIdMissing),
            (false, 0) => {}
            (true, 1) => return Err(Status::AssetNotFound),
            _ => return Err(Status::TooManyContentSpecifiers),
        }
        let content_id = LENIENT.decode(&self.content_id).map_err(|_| Status::MalformedRequest)?;
        if content_id.is_empty() || content_id.len() > CONTENT_ID_SIZE_BYTES_MAX {
            return Err(Status::ContentIdMissing);
        }
        if !self.policy.is_empty() && !signer.policies.contains(&self.policy) {
            return Err(Status::PolicyUnknown);
        }
        if self.enable_entitlement_license {
            return Err(Status::MalformedRequest);
        }
        let scheme = match self.protection_scheme.as_deref() {
            None | Some("" | "UNSPECIFIED" | "CENC") => ProtectionScheme::Cenc,
            Some("CENS") => ProtectionScheme::Cens,
            Some("CBC1") => ProtectionScheme::Cbc1,
            Some("CBCS") => ProtectionScheme::Cbcs,
            Some(_) => return Err(Status::MalformedRequest),
        };
        let (mut widevine, mut playready) = (self.drm_types.is_empty(), false);
        for drm_type in &self.drm_types {
            match drm_type.as_str() {
                "WIDEVINE" => widevine = true,
                "PLAYREADY" => playready = true,
                _ => return Err(Status::MalformedRequest),
            }
        }
        let rotates = self.first_crypto_period_index.is_some();
        if rotates && playready {
            return Err(Status::KeyRotationWithUnsupportedDrmType);
        }
        Ok(Order {
            contract: Contract {
                tenant: signer.tenant.clone(),
                content_id: content_name(&content_id),
                wanted: Wanted::Keys(self.wanted(scheme)?),
            },
            content_id,
            scheme,
            rotates,
            widevine,
            playready,
        })
    }

    /// Every track type, in every period.
    fn wanted(&self, scheme: ProtectionScheme) -> Result<Vec<WantedKey>, Status> {
        match self.tracks.len() {
            0 => return Err(Status::TrackTypeMissing),
            1..=TRACK_COUNT_MAX => {}
            _ => return Err(Status::MalformedRequest),
        }
        let periods = match (self.first_crypto_period_index, self.crypto_period_count) {
            (None, _) => 0..1,
            (Some(_), Some(0)) => return Err(Status::NoRequestedCryptoPeriods),
            (Some(_), Some(count)) if count > PERIOD_COUNT_MAX => return Err(Status::MalformedRequest),
            (Some(first), count) => {
                let end = first.checked_add(count.unwrap_or(1)).ok_or(Status::MalformedRequest)?;
                u64::from(first)..u64::from(end)
            }
        };
        let mut wanted = Vec::new();
        for period in periods {
            for track in &self.tracks {
                if !TRACK_TYPES.contains(&track.track_type.as_str()) {
                    return Err(Status::TrackTypeUnknown);
                }
                wanted.push(WantedKey {
                    key_id: None,
                    scheme: Some(scheme),
                    track_type: TrackType::parse(&track.track_type).ok_or(Status::TrackTypeUnknown)?,
                    period,
                    iv: None,
                });
            }
        }
        Ok(wanted)
    }

    /// The request's bytes in an envelope that `signer` signed. `None` when it can not sign.
    pub fn sign(&self, signer: &Signer) -> Option<Vec<u8>> {
        let message = serde_json::to_vec(self).ok()?;
        sign_envelope(&message, &signer.name, &signer.key).map(|body| body.to_vec())
    }
}

/// `message` in an envelope that `signer` signed, as licence requests are sent too. `None` when `key` can not sign.
pub(crate) fn sign_envelope(message: &[u8], signer: &str, key: &SigningKey) -> Option<Zeroizing<Vec<u8>>> {
    let signature = STANDARD.encode(key.sign(message)?);
    let mut envelope = Envelope {
        request: STANDARD.encode(message),
        signature,
        signer: signer.to_owned(),
    };
    // Room for everything: growing would leave copies of keys behind.
    let mut out = Zeroizing::new(Vec::with_capacity(envelope.request.len() + signer.len() * 6 + 256));
    let written = serde_json::to_writer(&mut *out, &envelope);
    envelope.request.zeroize();
    written.ok().map(|()| out)
}

/// A content id as text: itself where it is text, `hex-` and its digits where it is not or could be taken for that.
fn content_name(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with("hex-") && !text.contains(|c: char| c.is_control() || c == '|') => {
            text.to_owned()
        }
        _ => bytes
            .iter()
            .fold("hex-".to_owned(), |out, byte| out + &format!("{byte:02x}")),
    }
}

impl Order {
    /// The response's body, which holds the keys in the clear.
    pub fn respond(&self, keys: &KeySet) -> Zeroizing<Vec<u8>> {
        let wanted = match &self.contract.wanted {
            Wanted::Keys(wanted) => wanted.as_slice(),
            Wanted::Existing => &[],
        };
        if !keys.answers(wanted) {
            return refuse(Status::InternalError);
        }
        let systems = [("WIDEVINE", self.widevine), ("PLAYREADY", self.playready)];
        let drm = systems
            .into_iter()
            .filter(|(_, wanted)| *wanted)
            .map(|(drm_type, _)| ResponseDrm {
                drm_type: drm_type.to_owned(),
                system_id: String::new(),
            });
        let tracks = keys
            .keys
            .iter()
            .zip(wanted)
            .map(|(key, wanted)| self.track(key, wanted));
        let response = tracks.collect::<Option<Vec<_>>>().map(|tracks| ContentKeyResponse {
            status: Status::Ok,
            drm: drm.collect(),
            tracks,
        });
        response
            .as_ref()
            .and_then(envelope)
            .unwrap_or_else(|| refuse(Status::InternalError))
    }

    fn track(&self, key: &Key, wanted: &WantedKey) -> Option<ResponseTrack> {
        let period = self.rotates.then(|| u32::try_from(key.period).ok()).flatten();
        let mut pssh = Vec::new();
        if self.widevine {
            let data = WidevineData {
                key_ids: vec![key.key_id],
                provider: None,
                content_id: Some(self.content_id.clone()),
                crypto_period_index: period,
                protection_scheme: (self.scheme != ProtectionScheme::Cenc).then_some(self.scheme),
            };
            pssh.push(response_pssh("WIDEVINE", &data.serialise(), data.pssh().serialise()));
        }
        if self.playready {
            let signalled = [SignalledKey::new(key.key_id, &key.key)];
            let header = playready::header(self.scheme, &signalled, None).ok()?;
            let object = playready::object(&header).ok()?;
            let boxes = playready::pssh(object.clone()).serialise();
            pssh.push(response_pssh("PLAYREADY", &object, boxes));
        }
        Some(ResponseTrack {
            track_type: wanted.track_type.name().to_owned(),
            key_id: STANDARD.encode(key.key_id.0),
            key: STANDARD.encode(key.key.expose()),
            iv: key.iv.map(|iv| STANDARD.encode(iv)),
            pssh,
            crypto_period_index: period,
        })
    }
}

fn response_pssh(drm_type: &str, data: &[u8], boxes: Vec<u8>) -> ResponsePssh {
    ResponsePssh {
        drm_type: drm_type.to_owned(),
        data: STANDARD.encode(data),
        boxes: Some(STANDARD.encode(boxes)),
    }
}

fn envelope(response: &ContentKeyResponse) -> Option<Zeroizing<Vec<u8>>> {
    let message = Zeroizing::new(serde_json::to_vec(response).ok()?);
    let envelope = ResponseEnvelope {
        response: STANDARD.encode(&message),
    };
    serde_json::to_vec(&envelope).ok().map(Zeroizing::new)
}

/// The body of a response that says no.
pub fn refuse(status: Status) -> Zeroizing<Vec<u8>> {
    let response = ContentKeyResponse {
        status,
        drm: Vec::new(),
        tracks: Vec::new(),
    };
    envelope(&response).unwrap_or_default()
}

/// Why a response has no keys for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The server says no.
    #[error("the key server answered {0}")]
    Refused(Status),
    /// Not a response.
    #[error("not a response of a key server")]
    Malformed,
    /// A response without something that was asked for.
    #[error("the key server left a key out")]
    Missing,
}

/// Reads the response to `request`: a key for every track type in every period, in the order they were asked for.
pub fn read_response(body: &[u8], request: &ContentKeyRequest) -> Result<KeySet, ResponseError> {
    if body.len() > RESPONSE_SIZE_BYTES_MAX {
        return Err(ResponseError::Malformed);
    }
    let envelope: ResponseEnvelope = serde_json::from_slice(body).map_err(|_| ResponseError::Malformed)?;
    let message = LENIENT
        .decode(&envelope.response)
        .map_err(|_| ResponseError::Malformed)?;
    let message = Zeroizing::new(message);
    let response: ContentKeyResponse = serde_json::from_slice(&message).map_err(|_| ResponseError::Malformed)?;
    if response.status != Status::Ok {
        return Err(ResponseError::Refused(response.status));
    }
    let scheme = match request.protection_scheme.as_deref() {
        Some("CBCS") => ProtectionScheme::Cbcs,
        Some("CBC1") => ProtectionScheme::Cbc1,
        Some("CENS") => ProtectionScheme::Cens,
        _ => ProtectionScheme::Cenc,
    };
    let wanted = request.wanted(scheme).map_err(ResponseError::Refused)?;
    let rotates = request.first_crypto_period_index.is_some();
    let mut set = KeySet::default();
    for wanted in wanted {
        let track = response.tracks.iter().find(|track| {
            track.track_type == wanted.track_type.name()
                && (!rotates || track.crypto_period_index.map(u64::from) == Some(wanted.period))
        });
        let track = track.ok_or(ResponseError::Missing)?;
        let sixteen = |text: &str| {
            let bytes = Zeroizing::new(LENIENT.decode(text).map_err(|_| ResponseError::Malformed)?);
            <[u8; 16]>::try_from(bytes.as_slice()).map_err(|_| ResponseError::Malformed)
        };
        set.keys.push(Key {
            key_id: KeyId(sixteen(&track.key_id)?),
            key: ContentKey::new(sixteen(&track.key)?),
            scheme: wanted.scheme,
            track_type: wanted.track_type,
            period: wanted.period,
            iv: track.iv.as_deref().map(sixteen).transpose()?,
        });
    }
    Ok(set)
}
