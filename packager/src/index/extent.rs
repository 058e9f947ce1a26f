//! Extents: runs of samples that lie together in the source, each told by how many samples it has and how far it lies
//! behind the end of the one before it. Three columns, for the gap may take 64 bits.
//!
//! In files whose tracks are interleaved an extent often holds one sample, so each has to be small; a [`Place`] for
//! each 256th sample says where to begin to count.

use bytes::Bytes;

use super::column::{BLOCK, Column, ColumnWriter};
use super::places::Chunks;
use super::{IndexError, u32_at, u64_at};

/// Where a sample lies: its offset, and which extent it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) extent_index: u32,
    /// First sample of the extent.
    pub(super) extent_first: u32,
}

impl Place {
    /// Bytes of a stored one.
    pub(super) const SIZE: usize = 16;

    pub(super) fn to_bytes(self) -> [u8; Place::SIZE] {
        let mut bytes = [0; Place::SIZE];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.extent_index.to_le_bytes());
        bytes[12..].copy_from_slice(&self.extent_first.to_le_bytes());
        bytes
    }

    /// The one at `position`, which the caller has checked.
    pub(super) fn at(bytes: &[u8], position: usize) -> Place {
        Place {
            offset: u64_at(bytes, position),
            extent_index: u32_at(bytes, position + 8),
            extent_first: u32_at(bytes, position + 12),
        }
    }
}

/// Collects extents.
#[derive(Debug, Default)]
pub(super) struct ExtentWriter {
    counts: ColumnWriter,
    gaps_low: ColumnWriter,
    gaps_high: ColumnWriter,
    /// Extents so far, the last of which is open.
    count: u32,
    /// First sample of the open one.
    first: u32,
    /// Where the open one ends.
    end_offset: u64,
    /// Gaps at the end of `gaps_high` that are to be pushed yet: all zero, as nearly all are.
    small_gap_count: u32,
}

impl ExtentWriter {
    /// Samples from `sample_index` on lie from `offset` to `end_offset`.
    #[inline]
    pub(super) fn extend(&mut self, sample_index: u32, offset: u64, end_offset: u64) {
        if offset != self.end_offset || self.count == 0 {
            self.open(sample_index, offset);
        }
        self.end_offset = end_offset;
    }

    /// The same for all of `chunks`, of which the first begins with sample `sample_index`, where each of them opens an
    /// extent behind a usual gap; else does nothing and returns `false`.
    pub(super) fn open_all(&mut self, sample_index: u32, chunks: &Chunks) -> bool {
        let Some(last) = chunks.count.checked_sub(1).filter(|_| self.count > 0) else {
            return false;
        };
        let mut gaps = [0; BLOCK];
        let mut end_offset = self.end_offset;
        let (mut all_apart, mut high) = (true, 0);
        for (gap, (offset, end)) in gaps
            .iter_mut()
            .zip(chunks.offsets.iter().zip(&chunks.ends))
            .take(last + 1)
        {
            let wide = zigzag(offset.wrapping_sub(end_offset));
            all_apart &= wide != 0;
            high |= wide >> 32;
            *gap = wide as u32;
            end_offset = *end;
        }
        if !all_apart || high != 0 {
            return false;
        }
        let closed = &chunks.sample_counts[..last];
        self.counts.push(sample_index - self.first);
        self.counts.push_slice(closed);
        self.gaps_low.push_slice(&gaps[..=last]);
        self.small_gap_count += chunks.count as u32;
        self.first = sample_index + closed.iter().sum::<u32>();
        self.count += chunks.count as u32;
        self.end_offset = end_offset;
        true
    }

    fn open(&mut self, sample_index: u32, offset: u64) {
        let mut gap = 0;
        if self.count > 0 {
            self.counts.push(sample_index - self.first);
            gap = zigzag(offset.wrapping_sub(self.end_offset));
        }
        self.gaps_low.push(gap as u32);
        match gap >> 32 {
            0 => self.small_gap_count += 1,
            high => {
                self.gaps_high.push_run(0, self.small_gap_count);
                self.gaps_high.push(high as u32);
                self.small_gap_count = 0;
            }
        }
        self.first = sample_index;
        self.count += 1;
    }

    /// Of a sample in the open extent, at `offset`.
    pub(super) fn place(&self, offset: u64) -> Place {
        Place {
            offset,
            extent_index: self.count.saturating_sub(1),
            extent_first: self.first,
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Columns of sample counts, and of the lower and higher words of gaps, of `sample_count` samples.
    pub(super) fn finish(mut self, sample_count: u32) -> [ColumnWriter; 3] {
        self.counts.push(sample_count - self.first);
        self.gaps_high.push_run(0, self.small_gap_count);
        [self.counts, self.gaps_low, self.gaps_high]
    }
}

/// Small numbers for small distances, forward or back.
fn zigzag(distance: u64) -> u64 {
    (distance << 1) ^ ((distance as i64 >> 63) as u64)
}

fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

/// Extents of an index.
#[derive(Clone, Debug)]
pub(super) struct Extents {
    counts: Column,
    gaps_low: Column,
    gaps_high: Column,
    count: u32,
}

impl Extents {
    /// Those of `count` at `position` of `bytes`.
    pub(super) fn open(bytes: &Bytes, position: usize, count: u32) -> Result<Extents, IndexError> {
        let (counts, low_at) = Column::open(bytes, position, count as usize)?;
        let (gaps_low, high_at) = Column::open(bytes, low_at, count as usize)?;
        let (gaps_high, _) = Column::open(bytes, high_at, count as usize)?;
        Ok(Extents {
            counts,
            gaps_low,
            gaps_high,
            count,
        })
    }

    /// Sample count and gap of each, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let (mut counts, mut low) = (self.counts.cursor(), self.gaps_low.cursor());
        let mut high = self.gaps_high.cursor();
        (0..self.count).map(move |at| {
            let gap = u64::from(high.value(at)) << 32 | u64::from(low.value(at));
            (counts.value(at), unzigzag(gap))
        })
    }

    /// Samples in extent `extent_index`; without end past the last.
    pub(super) fn sample_count(&self, extent_index: u32) -> u32 {
        match extent_index < self.count {
            true => self.counts.value(extent_index),
            false => u32::MAX,
        }
    }

    /// What is to be added, modulo 2^64, to where the extent before `extent_index` ends.
    pub(super) fn gap(&self, extent_index: u32) -> u64 {
        match extent_index < self.count {
            true => {
                let high = u64::from(self.gaps_high.value(extent_index)) << 32;
                unzigzag(high | u64::from(self.gaps_low.value(extent_index)))
            }
            false => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn distances_survive(distance in prop_oneof![any::<u64>(), 0u64..9, (u64::MAX - 9)..]) {
            prop_assert_eq!(unzigzag(zigzag(distance)), distance);
        }
    }

    #[test]
    fn near_is_small() {
        let check = |distance: i64, expected: u64| assert_eq!(zigzag(distance as u64), expected, "{distance}");
        check(0, 0);
        check(-1, 1);
        check(1, 2);
        check(-300, 599);
    }
}
