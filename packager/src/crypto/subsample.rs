//! Subsamples: which bytes of a sample stay clear (ISO/IEC 23001-7:2023 9.5 and 9.6).
//!
//! What a decoder must read before it decrypts, and what it is told by, stays clear: lengths, headers, everything that is
//! not coded picture data. The schemes without pattern, and `cens`, protect whole blocks; what does not fill one joins the
//! clear bytes before, so that each entry begins where a unit does. `cbcs` protects from the first byte after a header on,
//! but in VP9.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod av1;
mod avc;
mod hevc;
mod vp9;

use super::{ProtectionScheme, Subsample};
use crate::codec::{Codec, CodecError};
use crate::limits::SAMPLE_AUXILIARY_SIZE_BYTES_MAX;
use crate::track::TrackDescription;

/// Bytes of a cipher block.
const BLOCK_SIZE_BYTES: usize = 16;

/// Why a sample could not be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubsampleError {
    /// The track's sample entry or its parameter sets can not be read.
    #[error("sample entry: {0}")]
    Description(CodecError),
    /// A unit of the sample can not be read.
    #[error("unit at byte {offset_bytes}: {error}")]
    Unit {
        /// Where the unit begins in its sample.
        offset_bytes: usize,
        /// What is wrong with it; its offsets count from the unit's first byte, emulation prevention left out.
        error: CodecError,
    },
    /// The picture is cut into more slices or tiles than `saiz` can tell of: one byte holds what a sample's entries take.
    /// Their headers must stay clear, so entries can not be joined.
    #[error("too many slices or tiles: {count_max} subsamples, the most a sample may have, end at byte {offset_bytes}")]
    TooMany {
        /// Entries a sample may have, [`ProtectionScheme::subsample_count_max`].
        count_max: usize,
        /// Bytes of the sample that those account for.
        offset_bytes: usize,
    },
}

impl SubsampleError {
    /// For `map_err`: names the unit that an error is of.
    fn unit(offset_bytes: usize) -> impl Fn(CodecError) -> SubsampleError {
        move |error| SubsampleError::Unit { offset_bytes, error }
    }

    /// For a sample in which nothing was found to protect, though it is no frame's repetition: where a writer framed units
    /// wrongly, all of a picture would stay clear.
    fn without(field: &'static str) -> SubsampleError {
        SubsampleError::Unit {
            offset_bytes: 0,
            error: CodecError::Missing { what: "sample", field },
        }
    }
}

impl ProtectionScheme {
    /// Entries that one sample may have: what is told of it in `senc`, its IV and a count before them, must be of a size
    /// that fits the byte `saiz` has for it (ISO/IEC 14496-12:2022 8.7.8).
    #[must_use]
    pub fn subsample_count_max(self) -> usize {
        let iv_size_bytes = match self {
            ProtectionScheme::Cenc | ProtectionScheme::Cens => 8,
            ProtectionScheme::Cbc1 => 16,
            ProtectionScheme::Cbcs => 0,
        };
        (SAMPLE_AUXILIARY_SIZE_BYTES_MAX - iv_size_bytes - 2) / 6
    }
}

/// Knows how the samples of one track split into clear and protected bytes.
///
/// It follows what changes within a track: parameter sets and sequence headers in samples, sizes of reference frames. So
/// samples are to come in decode order, from a sync sample on.
#[derive(Debug, Clone)]
pub struct SubsampleScanner {
    format: Format,
}

#[derive(Debug, Clone)]
enum Format {
    /// Sound, words and VP8: nothing in a sample needs to be clear.
    Whole,
    Avc(avc::Scanner),
    Hevc(hevc::Scanner),
    Vp9(vp9::Scanner),
    Av1(Box<av1::Scanner>),
}

impl SubsampleScanner {
    /// A scanner that knows the configuration of the track's sample entry and has seen no sample yet.
    pub fn new(description: &TrackDescription) -> Result<SubsampleScanner, SubsampleError> {
        let missing = SubsampleError::Description(CodecError::Missing {
            what: "subsamples",
            field: "a description of video",
        });
        let video = || description.video().ok_or(missing);
        let format = match description.codec {
            Codec::Avc => {
                let video = video()?;
                Format::Avc(
                    avc::Scanner::new(video.nal_length_size, &video.parameter_sets)
                        .map_err(SubsampleError::Description)?,
                )
            }
            Codec::Hevc => {
                let video = video()?;
                Format::Hevc(
                    hevc::Scanner::new(video.nal_length_size, &video.parameter_sets)
                        .map_err(SubsampleError::Description)?,
                )
            }
            Codec::Vp9 => Format::Vp9(vp9::Scanner::default()),
            Codec::Av1 => Format::Av1(Box::new(
                av1::Scanner::new(&description.sample_entry).map_err(SubsampleError::Description)?,
            )),
            _ => Format::Whole,
        };
        Ok(SubsampleScanner { format })
    }

    /// Appends the `senc` entries of one sample to `out`; together they account for each of its bytes. Nothing is appended
    /// where the whole sample is protected. After an error `out` is as before, and the next sample should be a sync sample.
    pub fn append(
        &mut self,
        scheme: ProtectionScheme,
        sample: &[u8],
        out: &mut Vec<Subsample>,
    ) -> Result<(), SubsampleError> {
        let before = out.len();
        let mut entries = Entries::new(scheme, out);
        let scanned = match &mut self.format {
            Format::Whole => return Ok(()),
            Format::Avc(scanner) => scanner.scan(sample, &mut entries),
            Format::Hevc(scanner) => scanner.scan(sample, &mut entries),
            Format::Vp9(scanner) => scanner.scan(sample, &mut entries),
            Format::Av1(scanner) => scanner.scan(sample, &mut entries),
        };
        let finished = scanned.and_then(|()| entries.finish(sample.len()));
        if finished.is_err() {
            out.truncate(before);
        }
        finished
    }
}

/// The entries of one sample, as they are found from its first byte to its last.
struct Entries<'a> {
    scheme: ProtectionScheme,
    out: &'a mut Vec<Subsample>,
    /// Length of `out` that must not be exceeded.
    end: usize,
    /// Bytes of the sample that entries account for.
    told_bytes: usize,
}

impl<'a> Entries<'a> {
    fn new(scheme: ProtectionScheme, out: &'a mut Vec<Subsample>) -> Entries<'a> {
        Entries {
            scheme,
            end: out.len().saturating_add(scheme.subsample_count_max()),
            out,
            told_bytes: 0,
        }
    }

    /// Bytes `start` to `end` of the sample may be protected; all since the last such range stay clear. Ranges come in
    /// order and lie in the sample.
    fn protect(&mut self, start: usize, end: usize) -> Result<(), SubsampleError> {
        match self.scheme {
            ProtectionScheme::Cbcs if start < end => self.push(start, end - start),
            ProtectionScheme::Cbcs => Ok(()),
            ProtectionScheme::Cenc | ProtectionScheme::Cens | ProtectionScheme::Cbc1 => self.protect_blocks(start, end),
        }
    }

    /// As [`Entries::protect`], whole blocks alone, the last of them at `end`.
    fn protect_blocks(&mut self, start: usize, end: usize) -> Result<(), SubsampleError> {
        let size = end.saturating_sub(start);
        match size - size % BLOCK_SIZE_BYTES {
            0 => Ok(()),
            protected => self.push(end - protected, protected),
        }
    }

    /// Tells of the clear bytes up to `clear_end` and of `protected` ones behind them.
    fn push(&mut self, clear_end: usize, protected: usize) -> Result<(), SubsampleError> {
        let mut clear = clear_end.saturating_sub(self.told_bytes);
        while clear > usize::from(u16::MAX) {
            self.push_entry(u16::MAX, 0)?;
            clear -= usize::from(u16::MAX);
        }
        // A sample is smaller than 2^32 bytes: `limits::SAMPLE_SIZE_BYTES_MAX`.
        self.push_entry(clear as u16, u32::try_from(protected).unwrap_or(u32::MAX))
    }

    fn push_entry(&mut self, clear: u16, protected: u32) -> Result<(), SubsampleError> {
        if self.out.len() >= self.end {
            return Err(SubsampleError::TooMany {
                count_max: self.scheme.subsample_count_max(),
                offset_bytes: self.told_bytes,
            });
        }
        self.out.push(Subsample { clear, protected });
        self.told_bytes += usize::from(clear) + protected as usize;
        Ok(())
    }

    /// Tells of the clear bytes at the sample's end.
    fn finish(mut self, sample_size_bytes: usize) -> Result<(), SubsampleError> {
        if self.told_bytes < sample_size_bytes {
            self.push(sample_size_bytes, 0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "subsample/tests.rs"]
mod tests;
