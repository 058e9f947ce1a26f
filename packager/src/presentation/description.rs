//! What people say about a ladder folder: which files belong together, their languages, names and roles.

use serde::{Deserialize, Serialize};

use super::variant::Variant;

/// Purpose of a track: the values of the DASH role scheme (ISO/IEC 23009-1 5.8.5.5) that players act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The component that plays when nothing else is asked for.
    Main,
    /// Another version of the same.
    Alternate,
    /// Adds to the main component.
    Supplementary,
    /// Somebody talks about the programme.
    Commentary,
    /// Spoken in another language than the original.
    Dub,
    /// For viewers who do not see: what happens is said.
    Description,
    /// Dialogue as text, for viewers who hear.
    Subtitle,
    /// All sound as text, for viewers who do not hear.
    Caption,
    /// Text that is shown even when subtitles are off.
    ForcedSubtitle,
    /// Dialogue stands out from the other sound.
    EnhancedAudioIntelligibility,
}

impl Role {
    /// The value in the DASH role scheme.
    pub fn name(self) -> &'static str {
        match self {
            Role::Main => "main",
            Role::Alternate => "alternate",
            Role::Supplementary => "supplementary",
            Role::Commentary => "commentary",
            Role::Dub => "dub",
            Role::Description => "description",
            Role::Subtitle => "subtitle",
            Role::Caption => "caption",
            Role::ForcedSubtitle => "forced-subtitle",
            Role::EnhancedAudioIntelligibility => "enhanced-audio-intelligibility",
        }
    }

    /// The HLS media characteristic that says the same (RFC 8216bis 4.4.6.1, CHARACTERISTICS), where there is one.
    pub fn hls_characteristics(self) -> &'static [&'static str] {
        match self {
            Role::Description => &["public.accessibility.describes-video"],
            Role::Caption => &[
                "public.accessibility.transcribes-spoken-dialog",
                "public.accessibility.describes-music-and-sound",
            ],
            Role::EnhancedAudioIntelligibility => &["public.accessibility.enhances-speech-intelligibility"],
            _ => &[],
        }
    }
}

/// A ladder folder's `ladder.toml` or `ladder.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LadderDescription {
    /// Name for people; the folder's name when absent.
    pub title: Option<String>,
    /// Wanted segment duration, 1,000 to 20,000 ms; the origin's setting when absent.
    pub segment_duration_ms: Option<u32>,
    /// The files, best video first. At least one.
    #[serde(rename = "track")]
    pub tracks: Vec<LadderTrack>,
    /// What only HLS can say.
    #[serde(default)]
    pub hls: HlsDescription,
}

/// Additions to the HLS multivariant playlist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HlsDescription {
    /// EXT-X-START (RFC 8216bis 4.4.2.2).
    pub start: Option<Start>,
    /// EXT-X-DEFINE (RFC 8216bis 4.4.2.3), in order.
    #[serde(default)]
    pub define: Vec<Define>,
    /// EXT-X-SESSION-DATA (RFC 8216bis 4.4.6.4). The title is always there.
    #[serde(default)]
    pub session_data: Vec<SessionData>,
}

/// Where players should begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Milliseconds from the start; negative counts from the end.
    pub offset_ms: i64,
    /// Whether samples before the offset are to be hidden.
    #[serde(default)]
    pub precise: bool,
}

/// A playlist variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Define {
    /// NAME and VALUE.
    Value {
        /// Letters, digits, `-` and `_`.
        name: String,
        /// Any text on one line.
        value: String,
    },
    /// QUERYPARAM: the value of a query parameter of the playlist's own URL, without which players refuse the playlist.
    QueryParameter {
        /// Name of the parameter.
        query_parameter: String,
    },
}

/// One piece of session data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionData {
    /// Reverse-DNS name.
    pub id: String,
    /// Text for players.
    pub value: String,
    /// BCP 47 tag of the text.
    pub language: Option<String>,
}

/// One file of a ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LadderTrack {
    /// Name of a file in the same folder, without any path.
    pub file: String,
    /// BCP 47 tag; the file's own when absent.
    pub language: Option<String>,
    /// Name for people; the file's own when absent.
    pub label: Option<String>,
    /// One role.
    pub role: Option<Role>,
    /// Several roles.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// Chosen when the viewer has no preference.
    #[serde(default)]
    pub default: bool,
    /// One of two watermark variants of the same track: the first file of `a` and the first of `b` are a pair, and so on.
    #[serde(default)]
    pub variant: Option<Variant>,
}

impl LadderTrack {
    /// All roles named.
    pub fn all_roles(&self) -> Vec<Role> {
        self.role.into_iter().chain(self.roles.iter().copied()).collect()
    }
}
