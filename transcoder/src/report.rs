//! What is known of a finished job: `report.json` beside the tracks, for people and the control plane.

use serde::{Deserialize, Serialize};

use crate::ladder::Rendition;
use crate::loudness::Loudness;
use crate::order::AudioRendition;
use crate::source::{Refused, SourceInfo};

/// Name of the file.
pub const FILE_NAME: &str = "report.json";

/// `report.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What the source holds.
    pub source: SourceInfo,
    /// What was left out, and why.
    pub refused: Vec<Refused>,
    /// Which encoder was taken for each coding, and why.
    pub encoders: Vec<String>,
    /// Pictures, by file.
    pub video: Vec<VideoReport>,
    /// Sound, by file.
    pub audio: Vec<AudioReport>,
}

/// What became of one rendition of pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoReport {
    /// `v1.mp4`.
    pub file: String,
    /// What was asked for.
    pub rendition: Rendition,
    /// The element that encoded it.
    pub encoder: String,
    /// Pictures.
    pub frame_count: u64,
    /// Bytes of them all.
    pub size_bytes: u64,
    /// Times lie on the grid of a constant rate.
    pub constant_rate: bool,
    /// So much earlier than in the source the first picture is shown, in milliseconds, because sound begins then.
    #[serde(default)]
    pub first_picture_earlier_ms: u64,
    /// The source's samples as they are.
    #[serde(default)]
    pub passed_through: bool,
    /// Why, or why not.
    #[serde(default)]
    pub passed_through_why: String,
}

/// What became of one rendition of sound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioReport {
    /// `a1.mp4`.
    pub file: String,
    /// What was asked for.
    pub rendition: AudioRendition,
    /// How loud it is; what is passed through is not measured.
    pub loudness: Option<Loudness>,
    /// Silence that was put before what the source has, so that it begins with the pictures, in milliseconds.
    #[serde(default)]
    pub silence_before_ms: u64,
    /// And after it, because no picture came before its end.
    #[serde(default)]
    pub silence_after_ms: u64,
    /// The source's samples as they are.
    #[serde(default)]
    pub passed_through: bool,
}
