//! Sample entries (`stsd`): from bare codec configurations to complete track descriptions.
//!
//! Whatever the source container, a track ends up with a sample entry written here from parsed facts: nothing of a
//! source's entry is passed on unread. Where the bit stream and the container disagree, the bit stream wins for size,
//! profile and colour (each code point it leaves unspecified is taken from the container), and the container for the
//! sample aspect ratio, which editors correct there (ISO/IEC 14496-12:2022 12.1.4).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod ac4;
mod audio;
mod dolby_vision;
mod encrypted;
mod source;
mod text;
mod video;

pub use audio::{aac, ac3, ac4, eac3, flac, mp3, opus};
pub use encrypted::{EntryProtection, read_seig};
pub use source::{SourceEntry, clear_form, describe};
pub use text::{stpp, tx3g, wvtt};
pub use video::{av1, avc, hevc, vp8, vp9};

use bytes::Bytes;

use super::{BoxError, BoxWriter};
use crate::codec::{Codec, CodecError, ColorInfo};
use crate::time::Timescale;
use crate::track::{MediaDescription, TrackDescription};

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

impl TrackFacts {
    /// The description of this track, coded so.
    fn describe(
        &self,
        codec: Codec,
        rfc6381: String,
        sample_entry: Vec<u8>,
        media: MediaDescription,
    ) -> TrackDescription {
        TrackDescription {
            source_track_id: self.source_track_id,
            codec,
            rfc6381,
            timescale: self.timescale,
            language: self.language.clone(),
            label: self.label.clone(),
            sample_entry: Bytes::from(sample_entry),
            media,
        }
    }
}

/// What a container says of pictures. All of it is optional; what the bit stream says is not asked for here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VideoFacts {
    /// Width and height in luma samples, for codings whose configuration may lack them (VP8, VP9, AV1 without a
    /// sequence header in `av1C`).
    pub size: Option<(u32, u32)>,
    /// Pictures in so many seconds (first in second), on average; completes VP9 and VP8 configurations without a level.
    pub frame_rate: Option<(u64, u64)>,
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
    /// The codec configuration is damaged, or says something that is not read.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A sample that had to be looked at could not be read.
    #[error(transparent)]
    Read(#[from] crate::source::ReadError),
    /// What the entry says can not be served.
    #[error("{what}")]
    Unusable {
        /// The reason, for people.
        what: String,
    },
}

fn unusable(what: impl Into<String>) -> SampleEntryError {
    SampleEntryError::Unusable { what: what.into() }
}

/// The fields every sample entry starts with (ISO/IEC 14496-12:2022 8.5.2).
fn write_entry(fourcc: &[u8; 4], fill: impl FnOnce(&mut BoxWriter)) -> Vec<u8> {
    let mut writer = BoxWriter::with_capacity(256);
    writer.write_box(fourcc, |w| {
        w.zeros(6);
        w.u16(1); // data reference
        fill(w);
    });
    writer.finish()
}

#[cfg(test)]
mod tests;
