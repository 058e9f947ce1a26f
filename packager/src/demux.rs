//! Sources whose samples do not lie in one piece (MPEG-TS, Ogg): taken apart packet by packet and stored anew.
//!
//! A demuxer is fed bytes in order and gives packets; it never asks for more and never waits. What it finds becomes a
//! stored presentation: the packets' bytes back to back in one file a track, and an index beside it.

use bytes::Bytes;

use crate::source::Refusal;
use crate::track::TrackDescription;

/// One sample of a demuxed track, in the form CMAF stores it (NAL units behind 4-byte lengths, raw AAC frames, …).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Which of [`Demuxer::tracks`]; a track's number never changes.
    pub track: usize,
    /// Presentation time in track ticks, unwrapped: it never jumps back by a counter's wrap.
    pub presentation_time: i64,
    /// Decode time in track ticks; strictly increasing within a track.
    pub decode_time: i64,
    /// Ticks this sample lasts, where the coding says so (audio frames); `None` lasts until the next.
    pub duration: Option<u32>,
    /// Decoding can start here.
    pub sync: bool,
    /// The sample.
    pub data: Bytes,
}

/// Why a source can not be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at {offset}: {what}")]
pub struct DemuxError {
    /// Where in the source.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// A track that a demuxer has found.
#[derive(Debug, Clone)]
pub struct DemuxedTrack {
    /// Known once enough of the stream has been seen; `None` until then, and at the end for a track that never showed
    /// what it is.
    pub description: Option<TrackDescription>,
    /// Presentation time that maps to this track's zero when it differs from its first packet (Opus pre-skip): ticks to
    /// take from every presentation time.
    pub media_time: i64,
}

/// A push demuxer.
pub trait Demuxer {
    /// Takes the next bytes of the source and appends the packets they complete. The caller drains `packets` between
    /// calls; what a demuxer itself holds back is bounded.
    fn push(&mut self, bytes: &[u8], packets: &mut Vec<Packet>) -> Result<(), DemuxError>;

    /// The source has ended: appends what was held back.
    fn finish(&mut self, packets: &mut Vec<Packet>) -> Result<(), DemuxError>;

    /// Tracks found so far.
    fn tracks(&self) -> &[DemuxedTrack];

    /// What was found but is not served.
    fn refused(&self) -> &[Refusal];
}
