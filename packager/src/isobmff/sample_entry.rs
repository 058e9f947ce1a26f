//! Sample entries (`stsd`): from bare codec configurations to complete track descriptions.
//!
//! Whatever the source container, a track ends up with a sample entry written here from parsed facts: nothing of a
//! source's entry is passed on unread. Where the bit stream and the container disagree, the bit stream wins for colour
//! and size, the container for the sample aspect ratio (ISO/IEC 14496-12:2022 12.1.4: `pasp` is for display, and editors
//! correct it there).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use bytes::Bytes;

use super::BoxError;
use crate::codec::ColorInfo;
use crate::time::Timescale;
use crate::track::TrackDescription;

/// What a container says of a track, whatever its coding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackFacts {
    /// Number of the track in its source file; 1 where the format has none.
    pub source_track_id: u32,
    /// Ticks per second.
    pub timescale: Timescale,
    /// BCP 47 tag, `und` when the source says nothing.
    pub language: String,
    /// Name for people, if the source has one.
    pub label: Option<String>,
}

/// What a container says of pictures. All of it is optional; what the bit stream says is not asked for here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VideoFacts {
    /// Width and height in luma samples, for codings whose configuration may lack them (VP8, VP9, AV1 without a
    /// sequence header in `av1C`).
    pub size: Option<(u32, u32)>,
    /// Sample aspect ratio; `None` leaves it to the bit stream.
    pub sample_aspect_ratio: Option<(u32, u32)>,
    /// `tkhd` matrix, when it is not the identity.
    pub matrix: Option<[i32; 9]>,
    /// Colour description, used when the bit stream has none.
    pub color: Option<ColorInfo>,
    /// Payload of `mdcv`: mastering display colour volume.
    pub mastering_display: Option<[u8; 24]>,
    /// Payload of `clli`: content light level, MaxCLL and MaxFALL.
    pub content_light_level: Option<[u8; 4]>,
    /// Payload of `dvcC`, `dvvC` or `dvwC` (`DOVIDecoderConfigurationRecord`, 24 bytes).
    pub dolby_vision: Option<Bytes>,
}

/// Why a sample entry could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleEntryError {
    /// The source's sample entry is damaged.
    #[error(transparent)]
    Box(#[from] BoxError),
    /// The configuration, or what it says, can not be served.
    #[error("{what}")]
    Unusable {
        /// The reason, for people.
        what: String,
    },
}

fn pending(what: &str) -> SampleEntryError {
    SampleEntryError::Unusable { what: what.to_owned() }
}

/// AVC from the payload of `avcC`. Served as `avc1` when the record carries SPS and PPS, else as `avc3`.
pub fn avc(_track: &TrackFacts, _avcc: &[u8], _video: &VideoFacts) -> Result<TrackDescription, SampleEntryError> {
    Err(pending("AVC"))
}

/// HEVC from the payload of `hvcC`. Served as `hvc1` (Dolby Vision profile 5: `dvh1`) when the record carries VPS, SPS
/// and PPS, else as `hev1` (`dvhe`).
pub fn hevc(_track: &TrackFacts, _hvcc: &[u8], _video: &VideoFacts) -> Result<TrackDescription, SampleEntryError> {
    Err(pending("HEVC"))
}

/// AV1 from the payload of `av1C`.
pub fn av1(_track: &TrackFacts, _av1c: &[u8], _video: &VideoFacts) -> Result<TrackDescription, SampleEntryError> {
    Err(pending("AV1"))
}

/// VP9 from the payload of `vpcC`, version and flags included. `video.size` is needed.
pub fn vp9(_track: &TrackFacts, _vpcc: &[u8], _video: &VideoFacts) -> Result<TrackDescription, SampleEntryError> {
    Err(pending("VP9"))
}

/// VP8, whose configuration is always the same. `video.size` is needed.
pub fn vp8(_track: &TrackFacts, _video: &VideoFacts) -> Result<TrackDescription, SampleEntryError> {
    Err(pending("VP8"))
}

/// AAC from an AudioSpecificConfig.
pub fn aac(_track: &TrackFacts, _audio_specific_config: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    Err(pending("AAC"))
}

/// MP3 from what a frame header says: sampling rate in Hz and channels.
pub fn mp3(_track: &TrackFacts, _sample_rate: u32, _channel_count: u16) -> Result<TrackDescription, SampleEntryError> {
    Err(pending("MP3"))
}

/// AC-3 from the payload of `dac3`.
pub fn ac3(_track: &TrackFacts, _dac3: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    Err(pending("AC-3"))
}

/// E-AC-3 from the payload of `dec3`.
pub fn eac3(_track: &TrackFacts, _dec3: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    Err(pending("E-AC-3"))
}

/// AC-4 from the payload of `dac4`.
pub fn ac4(_track: &TrackFacts, _dac4: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    Err(pending("AC-4"))
}

/// Opus from the payload of `dOps` (big-endian; not the little-endian `OpusHead`).
pub fn opus(_track: &TrackFacts, _dops: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    Err(pending("Opus"))
}

/// FLAC from the payload of `dfLa`: version and flags, then metadata blocks with STREAMINFO first.
pub fn flac(_track: &TrackFacts, _dfla: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    Err(pending("FLAC"))
}
