//! Subsamples of HEVC: what follows a slice segment header is protected.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{Entries, SubsampleError};
use crate::codec::CodecError;
use crate::codec::bits::{annex_b_units, nal_units};
use crate::codec::hevc::{NalType, ParameterSets, SliceSegmentHeader, layer_id};

/// ITU-T H.265 7.3.1.2.
const NAL_HEADER_SIZE_BYTES: usize = 2;

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

    /// Slice segments of layers above the base (a second view, MV-HEVC) are protected from behind their NAL unit headers
    /// on: how long their own headers are is told by parameter sets that no sample entry of ours carries, so nobody who
    /// decodes what we serve reads them either. Reserved types stay clear.
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
                if let Some(NalType(0..=9 | 16..=21)) = NalType::of(nal) {
                    let end = units.offset_bytes();
                    entries.protect(end - nal.len().saturating_sub(NAL_HEADER_SIZE_BYTES), end)?;
                }
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
