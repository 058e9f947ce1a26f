//! Sample tables copied into an index column by column: what the usual file needs, without looking at each sample.

use super::{Run, SampleTable, Sizes, u32_at};
use crate::index::{IndexError, IndexWriter};

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
        self.copy_places(writer)?;
        let second_sync = self.copy_sync(writer)?;
        self.copy_times(writer, second_sync)
    }

    fn copy_places(&self, writer: &mut IndexWriter) -> Option<()> {
        let mut left = self.sample_count as usize;
        let sizes = match self.sizes {
            Sizes::Constant(0) => return None,
            Sizes::Constant(_) => &[],
            Sizes::Table(32, table) => table.as_chunks::<4>().0,
            Sizes::Table(..) => return None,
        };
        if sizes.contains(&[0; 4]) {
            return None;
        }
        let mut rest = sizes;
        let mut bytes_left = self.source_size.saturating_mul(super::REUSE_MAX);
        let mut runs = self.chunk_runs.as_chunks::<12>().0.iter().peekable();
        let mut per_chunk = 0;
        for chunk_index in 0..self.chunk_offsets.len() {
            if left == 0 {
                break;
            }
            while let Some(run) =
                runs.next_if(|run| u32_at(*run, 0).is_some_and(|first| first as usize <= chunk_index + 1))
            {
                per_chunk = u32_at(run, 1)? as usize;
            }
            let taken = per_chunk.min(left);
            if taken == 0 {
                continue;
            }
            left -= taken;
            let offset = self.chunk_offsets.get(chunk_index)?;
            let copied: Result<u64, IndexError> = match self.sizes {
                Sizes::Constant(size) => writer
                    .push_place(offset, std::iter::repeat_n(size, taken))
                    .map(|()| u64::from(size).saturating_mul(taken as u64)),
                Sizes::Table(..) => {
                    let (chunk, behind) = rest.split_at_checked(taken)?;
                    rest = behind;
                    let sizes = chunk.iter().map(|size| u32::from_be_bytes(*size));
                    // At most 50 million numbers of 32 bits: they fit.
                    let size = sizes.clone().fold(0u64, |sum, size| sum.wrapping_add(u64::from(size)));
                    writer.push_place(offset, sizes).map(|()| size)
                }
            };
            let size = copied.ok()?;
            if offset.checked_add(size)? > self.source_size {
                return None;
            }
            bytes_left = bytes_left.checked_sub(size)?;
        }
        (left == 0).then_some(())
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
        let (mut at, mut decode_time) = (0, 0i64);
        while at < self.sample_count {
            let left = match at < second_sync {
                true => self.sample_count.min(second_sync) - at,
                false => self.sample_count - at,
            };
            let (duration, even) = durations.next_run(self.durations, |last| last);
            let (composition, equal) = compositions.next_run(self.compositions, |_| 0);
            let count = left.min(even).min(equal);
            durations.skip(count);
            compositions.skip(count);
            let (duration, composition) = (i32::try_from(duration).ok()?, composition as i32);
            writer.push_times(duration as u32, composition, count).ok()?;
            if at >= second_sync {
                times.second_sync_min = times.second_sync_min.min(decode_time + i64::from(composition));
            }
            decode_time += i64::from(duration) * i64::from(count);
            times.last = decode_time - i64::from(duration) + i64::from(composition);
            at += count;
        }
        Some(times)
    }
}
