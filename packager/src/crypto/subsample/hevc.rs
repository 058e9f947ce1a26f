//! Subsamples of HEVC: what follows a slice segment header is protected.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{Entries, SubsampleError};
use crate::codec::CodecError;
use crate::codec::bits::{annex_b_units, nal_units};
use crate::codec::hevc::{NalType, ParameterSets, SliceSegmentHeader, layer_id};

/// Follows the parameter sets of a track.
#[derive(Debug, Clone)]
pub(super) struct Scanner {
    nal_length_size: u8,
    sets: ParameterSets,
}

impl Scanner {
    /// `parameter_sets` as an Annex B byte stream.
    pub(super) fn new(nal_length_size: u8, parameter_sets: &[u8]) -> Result<Scanner, CodecError> {
        let mut sets = ParameterSets::default();
        annex_b_units(parameter_sets).try_for_each(|nal| sets.insert(nal))?;
        Ok(Scanner { nal_length_size, sets })
    }

    /// Layers above the base and reserved types stay clear: they are not the video.
    pub(super) fn scan(&mut self, sample: &[u8], entries: &mut Entries<'_>) -> Result<(), SubsampleError> {
        let mut units = nal_units(sample, self.nal_length_size);
        let mut has_slice = sample.is_empty();
        loop {
            let offset_bytes = units.offset_bytes();
            let in_unit = SubsampleError::unit(offset_bytes);
            let Some(nal) = units.next() else {
                return if has_slice {
                    Ok(())
                } else {
                    Err(SubsampleError::without("a slice segment"))
                };
            };
            let nal = nal.map_err(&in_unit)?;
            if layer_id(nal) != Some(0) {
                continue;
            }
            match NalType::of(nal) {
                Some(NalType::SPS | NalType::PPS) => self.sets.insert(nal).map_err(in_unit)?,
                Some(NalType(0..=9 | 16..=21)) => {
                    let header = SliceSegmentHeader::parse(nal, &self.sets).map_err(in_unit)?;
                    has_slice = true;
                    let end = units.offset_bytes();
                    entries.protect(end - nal.len().saturating_sub(header.size_bytes), end)?;
                }
                _ => {}
            }
        }
    }
}
