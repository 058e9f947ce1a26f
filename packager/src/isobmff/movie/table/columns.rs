//! Sample tables copied into an index column by column: what the usual file needs, without looking at each sample.

use bytes::Bytes;

use super::{ChunkOffsets, REUSE_MAX, Run, SampleTable, Sizes, u32_at};
use crate::index::{self, IndexWriter, NewSizes, SampleTables};

/// Samples that are copied at once: a block of the index.
const BLOCK: usize = 64;

/// Tracks of so many samples are listed rather than copied at first: more than a quarter of an hour of pictures. What a fuzzer
/// tries is shorter.
const LISTED_SAMPLE_COUNT_MIN: u32 = if cfg!(fuzzing) { 8 } else { 1 << 15 };

/// What has to be known of the times of a track that was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::isobmff::movie) struct CopiedTimes {
    /// Composition time of the last sample in decode order.
    pub last: i64,
    /// Earliest composition time from the second sync sample on; `i64::MAX` without one.
    pub second_sync_min: i64,
}

impl SampleTable<'_> {
    /// Copies all samples into `writer`, which is empty. `None` where the tables need a closer look, sample by sample:
    /// samples that are missing, empty, not listed in order or not led by a sync sample, times out of range. What was
    /// copied until then is of no use.
    pub(in crate::isobmff::movie) fn copy_columns(&self, writer: &mut IndexWriter) -> Option<CopiedTimes> {
        match self.sample_count >= LISTED_SAMPLE_COUNT_MIN && matches!(self.sizes, Sizes::Table(32, _)) {
            true => self.list_places(writer)?,
            false => self.copy_places(writer)?,
        }
        let second_sync = self.copy_sync(writer)?;
        self.copy_times(writer, second_sync)
    }

    /// Leaves sizes and chunks where they lie in `moov`.
    fn list_places(&self, writer: &mut IndexWriter) -> Option<()> {
        let Sizes::Table(32, sizes) = self.sizes else {
            return None;
        };
        let tables = SampleTables {
            header: self.movie.clone(),
            sizes: self.part(sizes)?,
            chunk_runs: self.part(self.chunk_runs)?,
            chunk_offsets: match self.chunk_offsets {
                ChunkOffsets::Short(offsets) => index::ChunkOffsets::Short(self.part(offsets)?),
                ChunkOffsets::Long(offsets) => index::ChunkOffsets::Long(self.part(offsets)?),
            },
        };
        writer.list(tables, self.source_size, self.source_size.saturating_mul(REUSE_MAX))
    }

    /// A table, which is part of `moov`, to be held beyond the reading of it.
    fn part(&self, table: &[u8]) -> Option<Bytes> {
        let start = (table.as_ptr() as usize).checked_sub(self.movie.as_ptr() as usize)?;
        let end = start.checked_add(table.len())?;
        (end <= self.movie.len()).then(|| self.movie.slice(start..end))
    }

    fn copy_places(&self, writer: &mut IndexWriter) -> Option<()> {
        let sizes = match self.sizes {
            Sizes::Constant(0) => return None,
            Sizes::Constant(size) => NewSizes::Even(size, self.sample_count),
            Sizes::Table(32, table) => {
                let sizes = table.as_chunks::<4>().0;
                if sizes.contains(&[0; 4]) {
                    return None;
                }
                NewSizes::Listed(sizes)
            }
            Sizes::Table(..) => return None,
        };
        let mut places = writer.push_sizes(sizes)?;
        let mut bytes_left = self.source_size.saturating_mul(REUSE_MAX);
        let runs = self.chunk_runs.as_chunks::<12>().0;
        let first_chunk = |run: usize| runs.get(run).map_or(Some(u32::MAX), |run| u32_at(run, 0));
        let (mut run, skipped) = (0, first_chunk(0)?.checked_sub(1)?);
        for chunk_index in skipped as usize..self.chunk_offsets.len() {
            if places.left() == 0 {
                break;
            }
            // First chunks ascend, so that there is at most one step, which need not be foreseen.
            run += usize::from(first_chunk(run + 1)? as usize <= chunk_index + 1);
            let per_chunk = u32_at(runs.get(run)?, 1)?;
            let offset = self.chunk_offsets.get(chunk_index)?;
            let size = places.push(offset, per_chunk)?;
            if offset.checked_add(size)? > self.source_size {
                return None;
            }
            bytes_left = bytes_left.checked_sub(size)?;
        }
        places.finish()
    }

    /// Returns the second sync sample, or a number that no sample has.
    fn copy_sync(&self, writer: &mut IndexWriter) -> Option<u32> {
        let Some(sync) = self.sync else {
            writer.push_sync_run(self.sample_count);
            return Some(1);
        };
        let mut previous = 0;
        let mut second = None;
        for number in sync.as_chunks::<4>().0 {
            let number = u32::from_be_bytes(*number);
            if number <= previous || number > self.sample_count || previous == 0 && number != 1 {
                return None;
            }
            if previous > 0 {
                second.get_or_insert(number - 1);
            }
            writer.push_sync(number - 1);
            previous = number;
        }
        (previous > 0).then_some(second.unwrap_or(u32::MAX))
    }

    fn copy_times(&self, writer: &mut IndexWriter, second_sync: u32) -> Option<CopiedTimes> {
        let (mut durations, mut compositions) = (Run::default(), Run::default());
        let mut times = CopiedTimes {
            last: 0,
            second_sync_min: i64::MAX,
        };
        if !self.compositions.is_empty() {
            writer.reserve_times(self.sample_count);
        }
        let mut offsets = [0; BLOCK];
        let (mut at, mut decode_time) = (0, 0i64);
        while at < self.sample_count {
            let left = match at < second_sync {
                true => self.sample_count.min(second_sync) - at,
                false => self.sample_count - at,
            };
            let (duration, even) = durations.next_run(self.durations, |last| last);
            let duration = i32::try_from(duration).ok()?;
            let (composition, equal) = compositions.next_run(self.compositions, |_| 0);
            let equal = left.min(even).min(equal);
            let (count, earliest, last) = match equal as usize >= BLOCK {
                true => {
                    let composition = composition as i32;
                    compositions.skip(equal);
                    writer.push_times(duration as u32, composition, equal).ok()?;
                    (equal, decode_time + i64::from(composition), composition)
                }
                // Pictures out of order: nearly each has an offset of its own.
                false => {
                    // Up to where a block of the index ends.
                    let count = left.min(even).min(BLOCK as u32 - at % BLOCK as u32);
                    let offsets = offsets.split_at_mut(count as usize).0;
                    compositions.fill(self.compositions, 0, offsets);
                    let earliest = writer.push_even_times(duration as u32, offsets).ok()?;
                    (count, earliest, offsets.last().copied().unwrap_or(0))
                }
            };
            durations.skip(count);
            if at >= second_sync {
                times.second_sync_min = times.second_sync_min.min(earliest);
            }
            decode_time += i64::from(duration) * i64::from(count);
            times.last = decode_time - i64::from(duration) + i64::from(last);
            at += count;
        }
        Some(times)
    }
}
