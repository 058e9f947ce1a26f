//! The fixed part in front of a stored index.

use super::{ANCHOR_SAMPLE_COUNT, IndexError, u32_at, u64_at};
use crate::limits::SAMPLE_COUNT_MAX;
use crate::time::Timescale;

/// Fixed part of a stored index, little-endian.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) timescale: Timescale,
    pub(super) sample_count: u32,
    pub(super) first_decode_time: u64,
    pub(super) media_time: u64,
    /// Added to a stored composition value gives the composition offset.
    pub(super) composition_bias: i64,
    /// Sum of sample durations.
    pub(super) duration: u64,
    /// When the sample that is shown last ends.
    pub(super) presentation_end: i64,
    pub(super) all_sync: bool,
    pub(super) sync_count: u32,
    /// Zero while sizes and places are listed.
    pub(super) extent_count: u32,
}

/// First bytes of a stored index; other versions are refused.
pub const MAGIC: [u8; 8] = *b"hwindex5";
pub(super) const HEADER_SIZE: usize = 72;

impl Header {
    /// Bytes of the table of sync samples.
    pub(super) fn sync_size(&self) -> usize {
        match self.all_sync {
            true => 0,
            false => self.sync_count as usize * size_of::<u32>(),
        }
    }

    /// How many samples have their decode time stored, and their place.
    pub(super) fn anchor_count(&self) -> usize {
        self.sample_count.div_ceil(ANCHOR_SAMPLE_COUNT) as usize
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.timescale.get().to_le_bytes());
        out.extend_from_slice(&self.sample_count.to_le_bytes());
        out.extend_from_slice(&self.first_decode_time.to_le_bytes());
        out.extend_from_slice(&self.media_time.to_le_bytes());
        out.extend_from_slice(&self.composition_bias.to_le_bytes());
        out.extend_from_slice(&self.duration.to_le_bytes());
        out.extend_from_slice(&u32::from(self.all_sync).to_le_bytes());
        out.extend_from_slice(&self.sync_count.to_le_bytes());
        out.extend_from_slice(&self.extent_count.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.presentation_end.to_le_bytes());
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Header, IndexError> {
        let damaged = |offset, what| IndexError::Damaged { offset, what };
        if bytes.len() < HEADER_SIZE {
            return Err(damaged(bytes.len(), "shorter than its header"));
        }
        if bytes[..8] != MAGIC {
            return Err(damaged(0, "not a track index of this version"));
        }
        let header = Header {
            timescale: Timescale::new(u32_at(bytes, 8)).ok_or_else(|| damaged(8, "timescale is zero"))?,
            sample_count: u32_at(bytes, 12),
            first_decode_time: u64_at(bytes, 16),
            media_time: u64_at(bytes, 24),
            composition_bias: u64_at(bytes, 32) as i64,
            duration: u64_at(bytes, 40),
            presentation_end: u64_at(bytes, 64) as i64,
            all_sync: u32_at(bytes, 48) == 1,
            sync_count: u32_at(bytes, 52),
            extent_count: u32_at(bytes, 56),
        };
        let time_max = i64::MAX as u64 / 4;
        if header.sample_count == 0 || header.sample_count as usize > SAMPLE_COUNT_MAX {
            return Err(damaged(12, "sample count out of range"));
        }
        if [header.first_decode_time, header.media_time, header.duration]
            .iter()
            .any(|time| *time > time_max)
            || header.composition_bias.unsigned_abs() > time_max
            || header.presentation_end.unsigned_abs() > i64::MAX as u64 / 2
        {
            return Err(damaged(16, "time out of range"));
        }
        if header.extent_count == 0
            || header.extent_count > header.sample_count
            || header.sync_count > header.sample_count
        {
            return Err(damaged(52, "table larger than the track"));
        }
        Ok(header)
    }
}
