//! The sample tables of `stbl`, read where they lie: an iterator over samples that allocates nothing.

mod columns;

use bytes::Bytes;

use crate::index::NewSample;
use crate::isobmff::{BoxError, BoxReader};
use crate::limits::SAMPLE_COUNT_MAX;

/// A table may name the same bytes twice, but not without end: samples of one track together hold at most this many
/// times the bytes of the source.
const REUSE_MAX: u64 = 4;

/// The tables of one track, checked against the bytes that hold them (ISO/IEC 14496-12:2022 8.6, 8.7).
#[derive(Clone, Copy, Debug)]
pub(super) struct SampleTable<'a> {
    /// The payload of `moov`, in which all of it lies.
    movie: &'a Bytes,
    sample_count: u32,
    sizes: Sizes<'a>,
    /// Entries of sample count and delta.
    durations: &'a [u8],
    /// Entries of sample count and offset; empty without `ctts`.
    compositions: &'a [u8],
    /// Entries of first chunk, samples per chunk, sample description index.
    chunk_runs: &'a [u8],
    chunk_offsets: ChunkOffsets<'a>,
    /// 1-based sample numbers; `None` without `stss`: every sample is a sync sample.
    sync: Option<&'a [u8]>,
    source_size: u64,
}

#[derive(Clone, Copy, Debug)]
enum Sizes<'a> {
    Constant(u32),
    /// Field size in bits (4, 8, 16 or 32) and the table.
    Table(u32, &'a [u8]),
}

#[derive(Clone, Copy, Debug)]
enum ChunkOffsets<'a> {
    Short(&'a [u8]),
    Long(&'a [u8]),
}

fn u32_at(bytes: &[u8], index: usize) -> Option<u32> {
    let start = index.checked_mul(4)?;
    let word = bytes.get(start..start.checked_add(4)?)?;
    word.try_into().ok().map(u32::from_be_bytes)
}

/// Entry `index` of a table of pairs.
fn pair_at(bytes: &[u8], index: usize) -> Option<(u32, u32)> {
    let first = index.checked_mul(2)?;
    Some((u32_at(bytes, first)?, u32_at(bytes, first.checked_add(1)?)?))
}

impl Sizes<'_> {
    fn get(&self, sample_index: u32) -> Option<u32> {
        let index = sample_index as usize;
        match *self {
            Sizes::Constant(size) => Some(size),
            Sizes::Table(32, table) => u32_at(table, index),
            Sizes::Table(16, table) => {
                let start = index.checked_mul(2)?;
                let word = table.get(start..start.checked_add(2)?)?;
                word.try_into().ok().map(|word| u32::from(u16::from_be_bytes(word)))
            }
            Sizes::Table(8, table) => table.get(index).map(|byte| u32::from(*byte)),
            Sizes::Table(_, table) => table.get(index / 2).map(|byte| match index % 2 {
                0 => u32::from(byte >> 4),
                _ => u32::from(byte & 15),
            }),
        }
    }
}

impl ChunkOffsets<'_> {
    fn get(&self, chunk_index: usize) -> Option<u64> {
        match *self {
            ChunkOffsets::Short(table) => u32_at(table, chunk_index).map(u64::from),
            ChunkOffsets::Long(table) => {
                let (high, low) = pair_at(table, chunk_index)?;
                Some(u64::from(high) << 32 | u64::from(low))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            ChunkOffsets::Short(table) => table.len() / 4,
            ChunkOffsets::Long(table) => table.len() / 8,
        }
    }
}

/// `count` entries of `entry_size_bytes` behind version, flags and count.
fn entries<'a>(mut reader: BoxReader<'a>, entry_size_bytes: usize) -> Result<&'a [u8], BoxError> {
    reader.version_and_flags()?;
    let count = reader.entry_count(entry_size_bytes, SAMPLE_COUNT_MAX)?;
    reader.bytes(count * entry_size_bytes)
}

impl<'a> SampleTable<'a> {
    /// Reads the children of `stbl`, which is part of `movie`. A table that is not there counts as empty where a movie without samples in its
    /// header (a fragmented one) may lack it.
    pub(super) fn parse(
        mut stbl: BoxReader<'a>,
        movie: &'a Bytes,
        source_size: u64,
    ) -> Result<SampleTable<'a>, BoxError> {
        let invalid = stbl;
        let mut table = SampleTable {
            movie,
            sample_count: 0,
            sizes: Sizes::Constant(0),
            durations: &[],
            compositions: &[],
            chunk_runs: &[],
            chunk_offsets: ChunkOffsets::Short(&[]),
            sync: None,
            source_size,
        };
        while let Some(mut child) = stbl.child()? {
            match &child.fourcc.0 {
                b"stts" => table.durations = entries(child, 8)?,
                b"ctts" => table.compositions = entries(child, 8)?,
                b"stsc" => table.chunk_runs = entries(child, 12)?,
                b"stco" => table.chunk_offsets = ChunkOffsets::Short(entries(child, 4)?),
                b"co64" => table.chunk_offsets = ChunkOffsets::Long(entries(child, 8)?),
                b"stss" => table.sync = Some(entries(child, 4)?),
                b"stsz" => {
                    child.version_and_flags()?;
                    match child.u32()? {
                        0 => {
                            let count = child.entry_count(4, SAMPLE_COUNT_MAX)?;
                            table.sizes = Sizes::Table(32, child.bytes(count * 4)?);
                            table.sample_count = count as u32;
                        }
                        size => {
                            table.sizes = Sizes::Constant(size);
                            table.sample_count = child.entry_count(0, SAMPLE_COUNT_MAX)? as u32;
                        }
                    }
                }
                b"stz2" => {
                    child.version_and_flags()?;
                    let bits = child.u32()? & 0xff;
                    if !matches!(bits, 4 | 8 | 16) {
                        return Err(child.invalid(format!("field size of {bits} bits")));
                    }
                    let count = child.entry_count(0, SAMPLE_COUNT_MAX)?;
                    table.sizes = Sizes::Table(bits, child.bytes((count * bits as usize).div_ceil(8))?);
                    table.sample_count = count as u32;
                }
                _ => {}
            }
        }
        if table.sample_count > 0 {
            if table.durations.is_empty() {
                return Err(invalid.invalid(format!("{} samples without times (stts)", table.sample_count)));
            }
            if table.chunk_runs.is_empty() || table.chunk_offsets.len() == 0 {
                return Err(invalid.invalid(format!("{} samples without chunks (stsc, stco)", table.sample_count)));
            }
        }
        table.check_chunk_runs(&invalid)?;
        table.check_durations(&invalid)?;
        Ok(table)
    }

    fn check_chunk_runs(&self, stbl: &BoxReader<'_>) -> Result<(), BoxError> {
        let mut previous = 0;
        for entry in self.chunk_runs.chunks_exact(12) {
            let first_chunk = u32_at(entry, 0).unwrap_or(0);
            if first_chunk <= previous {
                return Err(stbl.invalid(format!("stsc goes from chunk {previous} to chunk {first_chunk}")));
            }
            previous = first_chunk;
        }
        Ok(())
    }

    /// A delta is signed in the wild; only the last sample's, which nothing follows, may be that absurd.
    fn check_durations(&self, stbl: &BoxReader<'_>) -> Result<(), BoxError> {
        let mut sample_index = 0u64;
        for entry in self.durations.chunks_exact(8) {
            let (count, delta) = pair_at(entry, 0).unwrap_or((0, 0));
            let last = u64::from(self.sample_count).saturating_sub(1);
            if delta > i32::MAX as u32 && count > 0 && sample_index < last {
                return Err(stbl.invalid(format!("sample {sample_index} lasts {} ticks", delta as i32)));
            }
            sample_index += u64::from(count);
        }
        Ok(())
    }

    /// Samples the tables promise.
    pub(super) fn sample_count(&self) -> u32 {
        self.sample_count
    }

    /// Sample description indexes (1-based) that chunks with samples use.
    pub(super) fn description_indexes(&self) -> impl Iterator<Item = u32> + 'a {
        let chunk_count = self.chunk_offsets.len();
        let mut previous = None;
        self.chunk_runs
            .chunks_exact(12)
            .filter(move |entry| u32_at(entry, 0).is_some_and(|first| first as usize <= chunk_count))
            .filter_map(|entry| u32_at(entry, 2))
            .filter(move |index| previous.replace(*index) != Some(*index))
    }

    /// How many samples each chunk holds, in turn; the last may promise more than there are.
    pub(super) fn samples_per_chunk(&self) -> impl Iterator<Item = u32> + 'a {
        let runs = self.chunk_runs;
        let mut run = 0;
        (1..=self.chunk_offsets.len() as u64).map(move |chunk_number| {
            while u32_at(runs, (run + 1) * 3).is_some_and(|first| u64::from(first) <= chunk_number) {
                run += 1;
            }
            u32_at(runs, run * 3 + 1).unwrap_or(0)
        })
    }

    /// Samples in decode order, up to the first that does not lie in the source.
    pub(super) fn iter(&self) -> TableSamples<'a> {
        TableSamples {
            table: *self,
            sample_index: 0,
            duration_run: Run::default(),
            composition_run: Run::default(),
            next_chunk: 0,
            chunk_run: 0,
            samples_left: 0,
            offset: 0,
            next_sync: 0,
            bytes_left: self.source_size.saturating_mul(REUSE_MAX),
        }
    }
}

/// A position in a table of runs (count, value).
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    next_entry: usize,
    left: u32,
    value: u32,
}

impl Run {
    /// The next value and how many times it follows, at least once; see [`Run::next`].
    fn next_run(&mut self, table: &[u8], after_end: impl Fn(u32) -> u32) -> (u32, u32) {
        while self.left == 0 {
            let Some((count, value)) = pair_at(table, self.next_entry) else {
                return (after_end(self.value), u32::MAX);
            };
            (self.left, self.value) = (count, value);
            self.next_entry += 1;
        }
        (self.value, self.left)
    }

    /// Leaves out `count` values of the run that [`Run::next_run`] told.
    fn skip(&mut self, count: u32) {
        self.left = self.left.saturating_sub(count);
    }

    /// Fills `values` with the next ones; past the end of the table, with `after_end`.
    fn fill(&mut self, table: &[u8], after_end: u32, values: &mut [i32]) {
        let entries = table.as_chunks::<8>().0;
        // Kept out of memory while it goes on.
        let mut run = *self;
        for slot in values {
            while run.left == 0 {
                let Some([a, b, c, d, value @ ..]) = entries.get(run.next_entry) else {
                    (run.left, run.value) = (u32::MAX, after_end);
                    break;
                };
                run.left = u32::from_be_bytes([*a, *b, *c, *d]);
                run.value = u32::from_be_bytes(*value);
                run.next_entry += 1;
            }
            run.left -= 1;
            *slot = run.value as i32;
        }
        *self = run;
    }

    /// The next value; past the end of the table, `after_end` of the last one.
    fn next(&mut self, table: &[u8], after_end: impl Fn(u32) -> u32) -> u32 {
        while self.left == 0 {
            let Some((count, value)) = pair_at(table, self.next_entry) else {
                return after_end(self.value);
            };
            (self.left, self.value) = (count, value);
            self.next_entry += 1;
        }
        self.left -= 1;
        self.value
    }
}

/// Iterator of [`SampleTable::iter`].
#[derive(Clone, Debug)]
pub(super) struct TableSamples<'a> {
    table: SampleTable<'a>,
    sample_index: u32,
    duration_run: Run,
    composition_run: Run,
    next_chunk: usize,
    chunk_run: usize,
    samples_left: u32,
    offset: u64,
    next_sync: usize,
    bytes_left: u64,
}

impl TableSamples<'_> {
    /// Enters the next chunk that holds samples; `None` when the chunks are used up.
    fn next_chunk(&mut self) -> Option<()> {
        let runs = self.table.chunk_runs;
        let first_chunk = |run: usize| u32_at(runs, run.checked_mul(3)?);
        while self.samples_left == 0 {
            let chunk_number = self.next_chunk as u64 + 1;
            while first_chunk(self.chunk_run + 1).is_some_and(|first| u64::from(first) <= chunk_number) {
                self.chunk_run += 1;
            }
            self.offset = self.table.chunk_offsets.get(self.next_chunk)?;
            self.samples_left = u32_at(runs, self.chunk_run * 3 + 1)?;
            self.next_chunk += 1;
        }
        Some(())
    }

    fn is_sync(&mut self) -> bool {
        let Some(sync) = self.table.sync else { return true };
        let number = self.sample_index + 1;
        while let Some(next) = u32_at(sync, self.next_sync) {
            if next >= number {
                return next == number;
            }
            self.next_sync += 1;
        }
        false
    }
}

impl Iterator for TableSamples<'_> {
    type Item = NewSample;

    fn next(&mut self) -> Option<NewSample> {
        if self.sample_index >= self.table.sample_count {
            return None;
        }
        self.next_chunk()?;
        let size = self.table.sizes.get(self.sample_index)?;
        let end = self.offset.checked_add(u64::from(size))?;
        if end > self.table.source_size {
            return None;
        }
        self.bytes_left = self.bytes_left.checked_sub(u64::from(size))?;
        let duration = self.duration_run.next(self.table.durations, |last| last);
        // Beyond 31 bits only the last sample's can be, see `check_durations`: nothing depends on it.
        let duration = if duration > i32::MAX as u32 { 1 } else { duration };
        // Version 0 is unsigned by the standard, but writers of QuickTime files put negative offsets there too; none
        // needs more than 31 bits.
        let composition_offset = self.composition_run.next(self.table.compositions, |_| 0) as i32;
        let sample = NewSample {
            offset: self.offset,
            size,
            duration,
            composition_offset,
            sync: self.is_sync(),
        };
        self.offset = end;
        self.samples_left -= 1;
        self.sample_index += 1;
        Some(sample)
    }
}
