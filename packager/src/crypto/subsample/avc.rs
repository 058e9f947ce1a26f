//! Subsamples of AVC: what follows a slice header is protected.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{Entries, SubsampleError};
use crate::codec::CodecError;
use crate::codec::avc::{NalType, ParameterSets, SliceHeader};
use crate::codec::bits::{annex_b_units, nal_units};

/// `nal_unit_type` of slices of 3D-AVC.
const DEPTH_SLICE_EXTENSION: u8 = 21;
/// NAL unit header with the three bytes that further views and layers have (ITU-T H.264 7.3.1).
const EXTENDED_NAL_HEADER_SIZE_BYTES: usize = 4;

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

    /// Slices of auxiliary pictures and of further views or layers (types 19 to 21) are protected from behind their NAL
    /// unit headers on: how long their own headers are is told by parameter sets that no sample entry of ours carries, so
    /// nobody who decodes what we serve reads them either.
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
                    Err(SubsampleError::without("a slice"))
                };
            };
            let nal = nal.map_err(&in_unit)?;
            match NalType::of(nal) {
                Some(NalType::Sps | NalType::Pps) => self.sets.insert(nal).map_err(in_unit)?,
                Some(NalType::Slice | NalType::Idr) => {
                    let header = SliceHeader::parse(nal, &self.sets).map_err(in_unit)?;
                    has_slice = true;
                    let end = units.offset_bytes();
                    entries.protect(end - nal.len().saturating_sub(header.size_bytes), end)?;
                }
                Some(NalType::Auxiliary | NalType::SliceExtension | NalType::Other(DEPTH_SLICE_EXTENSION)) => {
                    let end = units.offset_bytes();
                    entries.protect(end - nal.len().saturating_sub(EXTENDED_NAL_HEADER_SIZE_BYTES), end)?;
                }
                // Partitions B and C name no parameter set, and without one their headers can not be read.
                Some(NalType::Partition) => {
                    return Err(in_unit(CodecError::Unsupported {
                        what: "avc sample",
                        feature: "nal_unit_type",
                        value: u64::from(nal.first().copied().unwrap_or(0) & 0x1f),
                    }));
                }
                _ => {}
            }
        }
    }
}
