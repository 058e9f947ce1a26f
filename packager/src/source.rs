//! Bytes of a source at an offset: the one way in which pure code asks its caller for input.

use std::sync::Arc;

use bytes::Bytes;

use crate::crypto::source::EncryptedSamples;
use crate::track::Track;

/// Why bytes of a source could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The source ends before the range does.
    #[error("source ends at {size}: wanted {want} bytes at {offset}")]
    PastEnd {
        /// First byte wanted.
        offset: u64,
        /// Bytes wanted.
        want: u64,
        /// Bytes in the source.
        size: u64,
    },
    /// The caller's storage failed.
    #[error("reading {want} bytes at {offset}: {reason}")]
    Storage {
        /// First byte wanted.
        offset: u64,
        /// Bytes wanted.
        want: u64,
        /// What the storage said.
        reason: String,
    },
}

/// A source of known size that is read in ranges. Implemented by the I/O side for files, and here for memory.
pub trait ReadAt {
    /// Bytes in the source.
    fn size(&self) -> u64;

    /// Exactly `size` bytes at `offset`, or an error; never short.
    fn read_at(&self, offset: u64, size: usize) -> Result<Bytes, ReadError>;
}

impl ReadAt for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, size: usize) -> Result<Bytes, ReadError> {
        let past_end = ReadError::PastEnd {
            offset,
            want: size as u64,
            size: self.len() as u64,
        };
        let start = usize::try_from(offset).map_err(|_| past_end.clone())?;
        match start.checked_add(size) {
            Some(end) if end <= self.len() => Ok(self.slice(start..end)),
            _ => Err(past_end),
        }
    }
}

/// Something in a source that is not served, and why. Never silent: `headwater inspect` and the library list show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is left out, for people: `track 3 (DTS audio)`, `file`.
    pub what: String,
    /// The reason, for people.
    pub why: String,
}

/// What a source file holds that can be indexed where it lies.
#[derive(Debug, Clone, Default)]
pub struct SourceTracks {
    /// Served tracks, in the order of the file. All share one presentation timeline that starts at zero.
    pub tracks: Vec<Track>,
    /// Tracks that are not served.
    pub refused: Vec<Refusal>,
    /// How samples of encrypted tracks are protected; `None` where all are clear.
    pub encryption: Option<Arc<EncryptedSamples>>,
    /// What was found depends on which keys are known: something is encrypted, or was refused because it is.
    pub has_encrypted: bool,
}
