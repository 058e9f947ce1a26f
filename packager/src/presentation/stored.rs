//! The manifest of a stored presentation, `presentation.json`: what whoever publishes writes and the origin reads.

use serde::{Deserialize, Serialize};

use super::{HlsDescription, Role};
use crate::track::TrackDescription;

/// Name of the file that makes its folder a stored presentation.
pub const FILE_NAME: &str = "presentation.json";
/// Value of [`Manifest::format`]; others are refused.
pub const FORMAT: &str = "headwater-presentation-1";

/// `presentation.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Name for people.
    pub title: String,
    /// Wanted segment duration, 1,000 to 20,000.
    pub segment_duration_ms: u32,
    /// Additions to the HLS multivariant playlist.
    #[serde(default)]
    pub hls: HlsDescription,
    /// The tracks.
    pub tracks: Vec<ManifestTrack>,
    /// What was left out when it was made.
    #[serde(default)]
    pub refused: Vec<ManifestRefusal>,
}

/// One track of a stored presentation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestTrack {
    /// `v1.mp4` or `t1.vtt`, in the same folder.
    pub file: String,
    /// BCP 47 tag.
    pub language: String,
    /// Name for people.
    pub label: Option<String>,
    /// Purposes.
    pub roles: Vec<Role>,
    /// Chosen when the viewer has no preference.
    pub default: bool,
    /// Absent for text.
    pub description: Option<TrackDescription>,
}

/// Something left out, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRefusal {
    /// What, for people.
    pub what: String,
    /// The reason, for people.
    pub why: String,
}
