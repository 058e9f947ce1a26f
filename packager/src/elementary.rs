//! Elementary streams of sound in files of their own, indexed where they lie: each frame becomes a byte range.
//!
//! Such files have no clock: time is counted in samples from the first frame. Bytes between frames are jumped over up
//! to a bound, and what was left out is told.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod ac3;
pub mod adts;
pub mod flac;
pub mod mpeg_audio;
mod scan;
mod tag;

use crate::codec::CodecError;
use crate::index::{IndexError, IndexWriter, NewSample};
use crate::isobmff::sample_entry::{SampleEntryError, TrackFacts};
use crate::source::ReadError;
use crate::time::Timescale;

/// Largest read while going over frames.
const WINDOW_SIZE_BYTES: usize = 1 << 20;

/// Why a file can not be indexed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElementaryError {
    /// Nothing in the file, or in as much of it as is looked through, is such a stream.
    #[error("no {what}")]
    NoFrames {
        /// What was looked for.
        what: &'static str,
    },
    /// The stream can not be served.
    #[error("{what}")]
    Unusable {
        /// The reason, for people.
        what: String,
    },
    /// A header says what can not be.
    #[error("at {offset}: {source}")]
    Header {
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        source: CodecError,
    },
    /// The sample entry could not be made.
    #[error(transparent)]
    SampleEntry(#[from] SampleEntryError),
    /// The index could not be built.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Bytes could not be had.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What such a file says of its one track beside its coding: nothing.
fn facts(sampling_rate: u32) -> Result<TrackFacts, ElementaryError> {
    let unusable = || ElementaryError::Unusable {
        what: "sampling rate is zero".to_owned(),
    };
    Ok(TrackFacts {
        source_track_id: 1,
        timescale: Timescale::new(sampling_rate).ok_or_else(unusable)?,
        language: "und".to_owned(),
        label: None,
    })
}

/// Appends a frame of sound.
fn push(writer: &mut IndexWriter, offset: u64, size: usize, duration: u32) -> Result<(), ElementaryError> {
    writer.push(NewSample {
        offset,
        size: u32::try_from(size).unwrap_or(u32::MAX),
        duration,
        composition_offset: 0,
        sync: true,
    })?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
