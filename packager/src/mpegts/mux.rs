//! The muxer: one HLS segment of MPEG-2 transport stream from samples (RFC 8216bis 3.1.1, ISO/IEC 13818-1).
//!
//! Segments are built one by one, in any order, by any process, and must still play as one stream when a player reads
//! them in turn. Continuity counters are where that goes wrong: starting from zero makes ffmpeg mark the first picture
//! of each segment as corrupt, and GStreamer drop data. Two ways out were rejected. A `discontinuity_indicator` on the
//! PID of the PCR announces a new system clock (ISO/IEC 13818-1 2.4.3.5), which there is not, and receivers restart
//! theirs. Packets that hold an adaptation field alone do not count (2.4.3.3), so they cannot fill up a counter. What
//! works: every elementary PID sends a multiple of 16 packets with payload in a segment, so that each segment starts and
//! ends at zero, whichever came before. The packets that are missing from a multiple of 16 are gained by spreading the
//! end of a PES packet over more of them, 1.4 kB a track on average. PAT and PMT are one packet a segment; they count
//! segments.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod layout;
mod packet;
mod schedule;
mod stream;

pub use self::layout::SegmentLayout;
use super::elementary::Form;
use super::{PACKET_SIZE, PAYLOAD_SIZE, SampleFault, sample_aes};
use crate::crypto::sample_aes::SampleAes;
use crate::limits::SEGMENT_SIZE_BYTES_MAX;
use crate::time::Timescale;
use crate::track::TrackDescription;

/// How far the program clock runs behind decode times: half a second, which is time enough for any picture to arrive.
/// Decode times below this make a clock that wraps at the start of the presentation, which players take badly.
pub const PCR_DELAY_90K: i64 = 45_000;

const FIRST_ELEMENTARY_PID: u16 = 0x100;

/// A sample of a segment.
#[derive(Clone, Copy, Debug)]
pub struct MuxSample<'a> {
    /// When it is shown, in ticks of 90 kHz on the transport stream's timeline; written modulo 2^33.
    pub presentation_time_90k: i64,
    /// When it is decoded, at most `presentation_time_90k`. Where composition offsets are negative, the caller has moved
    /// all decode times of the track back by [`crate::index::TrackIndex::decode_delay`].
    pub decode_time_90k: i64,
    /// Decoding can start here.
    pub sync: bool,
    /// The sample as CMAF stores it.
    pub data: &'a [u8],
}

/// A track's part of a segment.
#[derive(Clone, Copy, Debug)]
pub struct MuxTrack<'a> {
    /// What the samples are.
    pub description: &'a TrackDescription,
    /// In decode order.
    pub samples: &'a [MuxSample<'a>],
}

/// One segment to build. A single sync sample of a video track makes an I-frame segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Number of the segment in its presentation; neighbours differ by one.
    pub number: u64,
    /// Tracks of the program, the same in every segment. The first video track carries the clock, or the first track.
    pub tracks: &'a [MuxTrack<'a>],
}

/// Why a segment was not built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MuxError {
    /// The track's coding does not go into this container.
    #[error("track {track}: {reason}")]
    NotCarried {
        /// 0-based, as given.
        track: usize,
        /// For people.
        reason: &'static str,
    },
    /// A sample can not be written.
    #[error("track {track}, sample {sample}")]
    Sample {
        /// 0-based, as given.
        track: usize,
        /// 0-based in the segment.
        sample: usize,
        /// What is wrong with it.
        #[source]
        fault: SampleFault,
    },
    /// The program map does not fit its packet.
    #[error("{count} tracks do not fit the program map")]
    TooManyTracks {
        /// How many there are.
        count: usize,
    },
    /// More than [`SEGMENT_SIZE_BYTES_MAX`].
    #[error("segment of {size_bytes} bytes, at most {SEGMENT_SIZE_BYTES_MAX} are built")]
    TooLarge {
        /// Bytes it would have.
        size_bytes: u64,
    },
    /// What is written now is not what was laid out.
    #[error("the samples are not those that the segment was laid out for")]
    Changed,
}

/// Whether the muxer takes a track, or the reason it does not, for people.
pub fn carries(description: &TrackDescription) -> Result<(), &'static str> {
    Form::of(description).map(|_| ())
}

/// Whether the muxer can encrypt a track, or the reason it can not, for people.
pub fn carries_encrypted(description: &TrackDescription) -> Result<(), &'static str> {
    carries(description).and_then(|()| sample_aes::carries(description))
}

/// Transport packets of a picture of `size` bytes, to within one: PES header with both time stamps, clock, delimiter.
pub fn picture_packet_count(size: u32) -> u32 {
    const OVERHEAD: u32 = 19 + 8 + 7;
    size.wrapping_add(OVERHEAD + PAYLOAD_SIZE as u32 - 1) / PAYLOAD_SIZE as u32
}

/// Size in bytes of a segment of pictures that take `packet_count` packets, with its tables.
pub fn pictures_size_bytes(description: &TrackDescription, packet_count: u64) -> u64 {
    let parameter_sets = description.video().map_or(0, |video| video.parameter_sets.len());
    let parameter_sets = parameter_sets.div_ceil(PAYLOAD_SIZE) as u64;
    ((packet_count + parameter_sets).next_multiple_of(16) + 2) * PACKET_SIZE as u64
}

/// What `sample_count` frames of sound of `size_bytes`, which last `duration` ticks, add to a segment of pictures, in bytes.
/// Frames are taken for equally long.
pub fn sound_size_bytes(sample_count: u64, size_bytes: u64, duration: u64, timescale: Timescale) -> u64 {
    const PES_HEADER_SIZE: u64 = 14;
    const FRAME_HEADER_SIZE: u64 = 7;
    let ticks_90k = u128::from(duration) * 90_000 / u128::from(timescale.get());
    let frame_90k = u64::try_from(ticks_90k).unwrap_or(u64::MAX) / sample_count.max(1);
    let together = (stream::AUDIO_SPAN_MAX_90K as u64 / frame_90k.max(1)).clamp(1, sample_count.max(1));
    let units = sample_count.div_ceil(together);
    let unit_size = size_bytes.div_ceil(units.max(1)) + PES_HEADER_SIZE + together * FRAME_HEADER_SIZE;
    (units * unit_size.div_ceil(PAYLOAD_SIZE as u64)).next_multiple_of(16) * PACKET_SIZE as u64
}

impl<'a> Segment<'a> {
    /// The segment's bytes: PAT, PMT, then PES packets of all tracks in order of decode time.
    pub fn write(&self) -> Result<Vec<u8>, MuxError> {
        self.lay_out(usize::MAX)?.write_all(self)
    }

    /// The same with all samples encrypted, for HLS `METHOD=SAMPLE-AES`.
    pub fn write_encrypted(&self, cipher: &SampleAes) -> Result<Vec<u8>, MuxError> {
        self.lay_out_encrypted(cipher, usize::MAX)?.write_all(self)
    }

    /// Gives every packet its place. Parts take `part_size` bytes of media each, unless one picture has more.
    pub fn lay_out(&self, part_size: usize) -> Result<SegmentLayout, MuxError> {
        SegmentLayout::of(self, None, part_size)
    }

    /// The same for a segment with all samples encrypted.
    pub fn lay_out_encrypted(&self, cipher: &SampleAes, part_size: usize) -> Result<SegmentLayout, MuxError> {
        SegmentLayout::of(self, Some(cipher), part_size)
    }
}

#[cfg(test)]
#[allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods
)]
mod tests;
