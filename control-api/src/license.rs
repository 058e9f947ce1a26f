//! Licences: what a player's DRM module asks for, and whoever may issue it.
//!
//! Nothing here issues licences of Widevine, PlayReady or FairPlay: a challenge is opaque and goes, with what the viewer
//! is entitled to, to a service of the operator's that holds the system's credentials. A [`LicenseBackend`] is the pure
//! half: it writes the vendor's request and reads the vendor's reply. [`Issuer`] sends. Clear Key alone is answered here.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod clear_key;
mod desk;
pub mod fairplay_ksm;
mod gate;
mod http;
mod instant;
mod issuer;
pub mod multidrm;
pub mod playready_http;
mod policy;
pub mod token;
pub mod widevine_cloud;

use std::fmt;

use packager::crypto::vault::TrackClass;
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};
use zeroize::Zeroizing;

use crate::outbound::{Ask, Reply};

pub use desk::{Desk, DeskError, Issued, Title, TitleError, Titles, Wish};
pub use gate::{Gate, GateRefusal};
pub use http::{Licensing, router};
pub use instant::rfc3339;
pub use issuer::Issuer;
pub use policy::{LicensePolicy, entitled};

/// Bytes of a challenge: the largest, those of devices with long certificate chains, have a quarter of it.
pub const CHALLENGE_SIZE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a licence, and of a service's reply around it.
pub const LICENSE_SIZE_BYTES_MAX: usize = 256 << 10;

/// A DRM system that licences are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LicenseSystem {
    /// Google's.
    Widevine,
    /// Microsoft's.
    PlayReady,
    /// Apple's.
    FairPlay,
    /// The W3C's, which protects nothing from whoever holds the player.
    ClearKey,
}

impl LicenseSystem {
    /// All of them.
    pub const ALL: [LicenseSystem; 4] = [
        LicenseSystem::Widevine,
        LicenseSystem::PlayReady,
        LicenseSystem::FairPlay,
        LicenseSystem::ClearKey,
    ];

    /// `widevine`, `playready`, `fairplay`, `clearkey`.
    pub fn name(self) -> &'static str {
        match self {
            LicenseSystem::Widevine => "widevine",
            LicenseSystem::PlayReady => "playready",
            LicenseSystem::FairPlay => "fairplay",
            LicenseSystem::ClearKey => "clearkey",
        }
    }

    /// What [`LicenseSystem::name`] wrote.
    pub fn from_name(name: &str) -> Option<LicenseSystem> {
        LicenseSystem::ALL.into_iter().find(|system| system.name() == name)
    }

    /// Whether its modules decrypt this scheme at all.
    pub fn decrypts(self, scheme: ProtectionScheme) -> bool {
        match self {
            LicenseSystem::FairPlay => scheme == ProtectionScheme::Cbcs,
            _ => true,
        }
    }
}

impl fmt::Display for LicenseSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A content key that a viewer is entitled to. It has no `Debug`: it can not reach a log.
#[derive(Clone)]
pub struct LicensedKey {
    /// Its public name.
    pub key_id: KeyId,
    /// The key.
    pub key: ContentKey,
    /// What it encrypts for.
    pub scheme: ProtectionScheme,
    /// Which tracks.
    pub track: TrackClass,
}

/// Digital output protection that a picture needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub enum Hdcp {
    /// None.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Version 1.
    #[serde(rename = "1")]
    V1,
    /// Version 2.
    #[serde(rename = "2")]
    V2,
    /// Version 2.1.
    #[serde(rename = "2.1")]
    V2_1,
    /// Version 2.2.
    #[serde(rename = "2.2")]
    V2_2,
}

/// What is demanded of a player for tracks of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackTerms {
    /// Which.
    pub track: TrackClass,
    /// Widevine's `security_level`, 1 (software) to 5 (all in hardware).
    pub widevine_level: u8,
    /// PlayReady's security level: 150, 2000 or 3000. Sound is never above 2000.
    pub playready_level: u16,
    /// Output protection.
    pub hdcp: Hdcp,
}

impl TrackTerms {
    /// The least: software decoding, any output.
    pub fn least(track: TrackClass) -> TrackTerms {
        TrackTerms {
            track,
            widevine_level: 1,
            playready_level: 2_000,
            hdcp: Hdcp::None,
        }
    }
}

/// How a licence is renewed while it is in use. Seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewalTerms {
    /// From the licence's beginning to the first renewal.
    pub delay_s: u64,
    /// Between attempts.
    pub retry_s: u64,
    /// How long playback goes on without one.
    pub recovery_s: u64,
}

/// What a licence is asked for. A licence itself is opaque: these are the values requested, not values read from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// First second, since the Unix epoch, in which it holds no more: never after the entitlement.
    pub expires: u64,
    /// Seconds it holds from now on, at least 1.
    pub duration_s: u64,
    /// Seconds it holds from the first picture on.
    pub playback_duration_s: Option<u64>,
    /// Whether a device may keep it.
    pub keep: Keep,
    /// How it is renewed; it is not, without.
    pub renewal: Option<RenewalTerms>,
    /// Demands, a class each; a class that is not here has the least.
    pub tracks: Vec<TrackTerms>,
}

impl Terms {
    /// What is demanded for tracks of this class.
    pub fn of(&self, track: TrackClass) -> TrackTerms {
        let found = self.tracks.iter().find(|terms| terms.track == track);
        found.copied().unwrap_or_else(|| TrackTerms::least(track))
    }
}

/// Whether a device may keep a licence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Until the player's session ends.
    #[default]
    Session,
    /// On disk, for use without a network.
    Device,
}

/// What a licence is issued for. It has no `Debug`: challenge and keys are secret.
pub struct IssueRequest<'a> {
    /// Our name for the title, which is sent in place of whatever the challenge says.
    pub content_id: &'a str,
    /// Whose title it is.
    pub tenant: &'a str,
    /// The viewer's session, in hexadecimal digits, where the grant has one.
    pub session: Option<&'a str>,
    /// An id of this request alone.
    pub request_id: &'a str,
    /// What the player's module wrote.
    pub challenge: &'a [u8],
    /// The keys that the viewer is entitled to and that were asked for: at least one.
    pub keys: &'a [LicensedKey],
    /// What is asked for.
    pub terms: &'a Terms,
    /// Seconds since the Unix epoch.
    pub now: u64,
}

/// What a challenge says of keys to whoever may not open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// Nothing.
    Opaque,
    /// It asks for these; a licence for any of them must be one that the viewer may have.
    All(Vec<KeyId>),
    /// It asks for those of these that can be had.
    Any(Vec<KeyId>),
}

/// A licence. It may hold keys in the clear, so it has no `Debug` and is wiped when dropped.
pub struct License {
    /// As the player's module reads it.
    pub bytes: Zeroizing<Vec<u8>>,
    /// What it is, in HTTP's words.
    pub content_type: &'static str,
}

/// What follows from a request.
pub enum Step {
    /// The licence is made.
    Issued(License),
    /// Somebody else must be asked; the reply goes to [`LicenseBackend::read`].
    Ask(Box<Ask>),
}

/// Why there is no licence. Says nothing of challenges, keys and tokens.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LicenseError {
    /// The challenge is not one.
    #[error("the challenge is not one: {0}")]
    Challenge(&'static str),
    /// The challenge asks for keys that the viewer may not have, or none of those asked for may be had.
    #[error("the viewer is not entitled to the keys that are asked for")]
    NotEntitled,
    /// The service refuses the player.
    #[error("the licence service refuses this player")]
    Denied,
    /// The service does not take our credentials: somebody must look.
    #[error("the licence service refuses the operator's credentials")]
    Credentials,
    /// The service did not answer as its contract says.
    #[error("the licence service: {0}")]
    Upstream(&'static str),
    /// The service can not answer now.
    #[error("the licence service is not available")]
    Unavailable,
    /// The same request may go better at once.
    #[error("the licence service asks for another try")]
    Again,
    /// The service's own refusal, which PlayReady's clients read: a SOAP fault.
    #[error("the licence service answers with a fault")]
    Fault(Vec<u8>),
}

/// Whoever issues licences of one system, without the sending.
pub trait LicenseBackend: Send + Sync + 'static {
    /// Which system.
    fn system(&self) -> LicenseSystem;

    /// What it is called in configuration and logs.
    fn name(&self) -> &'static str;

    /// What can lawfully be read in a challenge.
    fn inspect(&self, challenge: &[u8]) -> Result<Named, LicenseError>;

    /// Issues the licence, or writes what to ask.
    fn begin(&self, request: &IssueRequest<'_>) -> Result<Step, LicenseError>;

    /// Reads the reply to what [`LicenseBackend::begin`] asked.
    fn read(&self, request: &IssueRequest<'_>, reply: &Reply) -> Result<License, LicenseError>;

    /// The certificate that players ask for beforehand.
    fn certificate(&self) -> Option<&[u8]> {
        None
    }
}

/// What the status of a reply means where the contract says nothing else. Credentials are ours, so that they are refused
/// is nobody's fault but the operator's.
fn check_status(reply: &Reply) -> Result<(), LicenseError> {
    match reply.status {
        200 => Ok(()),
        400 | 422 => Err(LicenseError::Challenge("the licence service can not read it")),
        401 | 403 | 407 => Err(LicenseError::Credentials),
        408 | 429 | 502..=504 => Err(LicenseError::Unavailable),
        300..=399 => Err(LicenseError::Upstream("redirects, which are not followed")),
        _ => Err(LicenseError::Upstream("answered with an error")),
    }
}

/// A reply's body as a licence; an empty one is none.
fn whole_body(reply: &Reply, content_type: &'static str) -> Result<License, LicenseError> {
    match reply.body.is_empty() {
        true => Err(LicenseError::Upstream("answered with nothing")),
        false => Ok(License {
            bytes: reply.body.clone(),
            content_type,
        }),
    }
}
