//! Sizes and places of samples as `stbl` lists them (ISO/IEC 14496-12:2022 8.7), asked where they lie.
//!
//! Such an index is there at once. It holds the tables as they came, a few times what a packed one takes, and looks through
//! `stsc` for each place: enough for playlists, and for the first answers until it is packed.

use bytes::Bytes;

use super::column::BLOCK;
use super::layout::Stretch;
use crate::limits::{SAMPLE_COUNT_MAX, SAMPLE_SIZE_BYTES_MAX};

/// Entries of `stsz`, `stsc`, and `stco` or `co64`, big-endian.
#[derive(Clone, Debug)]
pub(crate) struct SampleTables {
    /// The header that all of it is part of.
    pub(crate) header: Bytes,
    /// u32 each.
    pub(crate) sizes: Bytes,
    /// First chunk (1-based), samples per chunk, sample description index: u32 each.
    pub(crate) chunk_runs: Bytes,
    pub(crate) chunk_offsets: ChunkOffsets,
}

/// Where chunks begin in the source.
#[derive(Clone, Debug)]
pub(crate) enum ChunkOffsets {
    /// u32 each, as `stco` has them.
    Short(Bytes),
    /// u64 each, as `co64` has them.
    Long(Bytes),
}

/// Chunks that hold as many samples each.
struct Run {
    /// Number of the entry.
    number: u32,
    /// 0-based.
    chunks: std::ops::Range<u32>,
    per_chunk: u32,
    /// First sample of the first chunk; possibly behind the last there is.
    first: u64,
}

impl Run {
    /// Samples up to and with this run.
    fn end(&self) -> u64 {
        self.first + u64::from(self.per_chunk) * self.chunks.len() as u64
    }

    /// Chunk `index`, which is one of them.
    fn chunk(&self, index: u32, sample_count: u32) -> Chunk {
        let first = self.first + u64::from(index - self.chunks.start) * u64::from(self.per_chunk);
        Chunk::new(index, self.number, first, self.per_chunk, sample_count)
    }
}

/// A chunk and its samples.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    index: u32,
    run: u32,
    first: u32,
    /// First sample behind it.
    end: u32,
}

impl Chunk {
    fn new(index: u32, run: u32, first: u64, per_chunk: u32, sample_count: u32) -> Chunk {
        let within = |sample: u64| sample.min(u64::from(sample_count)) as u32;
        Chunk {
            index,
            run,
            first: within(first),
            end: within(first + u64::from(per_chunk)),
        }
    }
}

/// 0-based, of an entry of `stsc`; behind all chunks where a damaged one has zero.
fn first_chunk(entry: &[u8; 12]) -> u32 {
    let [a, b, c, d, ..] = *entry;
    u32::from_be_bytes([a, b, c, d]).wrapping_sub(1)
}

/// Where the first value is that is `wanted`, looked for a block at a time.
fn position_in_blocks<T>(values: &[T], wanted: impl Fn(&T) -> bool) -> Option<usize> {
    let has = |block: &[T]| block.iter().fold(false, |has, value| has | wanted(value));
    let block = values.chunks(BLOCK).position(has)?;
    let within = values.get(block * BLOCK..)?.iter().position(wanted)?;
    Some(block * BLOCK + within)
}

/// Tables that were checked: every sample lies in a chunk, and every chunk in the source.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    tables: SampleTables,
    sample_count: u32,
    chunk_count: u32,
    /// The chunk of the last sample.
    last: Chunk,
}

impl Listed {
    /// `None` where some sample is empty or too large, has no chunk or reaches past `source_size` bytes, where they hold
    /// more than `total_size_max` bytes together, or runs are out of order.
    pub(super) fn new(tables: SampleTables, source_size: u64, total_size_max: u64) -> Option<Listed> {
        let sizes = tables.sizes.as_chunks::<4>().0;
        let sample_count = u32::try_from(sizes.len()).ok()?;
        if sample_count == 0 || sample_count as usize > SAMPLE_COUNT_MAX {
            return None;
        }
        // In a form that the compiler can do many of at once. No size is above `size_bits`, nor is the greatest below half of it.
        let (mut has_empty, mut size_bits, mut total) = (false, 0, 0u64);
        for size in sizes {
            let size = u32::from_be_bytes(*size);
            has_empty |= size == 0;
            size_bits |= size;
            // At most 50 million numbers of 32 bits: they fit.
            total = total.wrapping_add(u64::from(size));
        }
        let greatest = match size_bits <= SAMPLE_SIZE_BYTES_MAX {
            true => size_bits,
            false => sizes
                .iter()
                .fold(0, |greatest, size| greatest.max(u32::from_be_bytes(*size))),
        };
        if has_empty || greatest > SAMPLE_SIZE_BYTES_MAX || total > total_size_max {
            return None;
        }
        let chunk_count = match &tables.chunk_offsets {
            ChunkOffsets::Short(offsets) => offsets.len() / 4,
            ChunkOffsets::Long(offsets) => offsets.len() / 8,
        };
        let mut listed = Listed {
            tables,
            sample_count,
            last: Chunk::new(0, 0, 0, 0, 0),
            chunk_count: u32::try_from(chunk_count).ok().filter(|count| *count < u32::MAX)?,
        };
        let chunk_size_max = listed.check_runs()?.checked_mul(u64::from(greatest))?;
        listed.lies_within(source_size, chunk_size_max).then_some(listed)
    }

    /// Goes through runs up to the last sample's, which becomes known; returns how many samples a chunk has at most.
    fn check_runs(&mut self) -> Option<u64> {
        let entries = self.tables.chunk_runs.as_chunks::<12>().0;
        let (mut start, mut samples, mut most) = (entries.first().map(first_chunk)?, 0u64, 0);
        if start != 0 {
            return None;
        }
        for (number, entry) in (0u32..).zip(entries) {
            let [_, _, _, _, a, b, c, d, ..] = *entry;
            let per_chunk = u32::from_be_bytes([a, b, c, d]);
            let next = entries.get(number as usize + 1).map_or(self.chunk_count, first_chunk);
            let next = next.min(self.chunk_count);
            if next <= start {
                return None;
            }
            // A 32-bit number of chunks of 32 bits each: it fits.
            let end = samples.wrapping_add(u64::from(next - start).wrapping_mul(u64::from(per_chunk)));
            most = most.max(per_chunk);
            if end >= u64::from(self.sample_count) {
                let run = Run {
                    number,
                    chunks: start..next,
                    per_chunk,
                    first: samples,
                };
                self.last = self.chunk_in(&run, self.sample_count - 1)?;
                return Some(u64::from(most));
            }
            (start, samples) = (next, end);
        }
        None
    }

    /// Whether all chunks, none of which is longer than `chunk_size_max`, lie in the first `source_size` bytes.
    fn lies_within(&self, source_size: u64, chunk_size_max: u64) -> bool {
        // Where a chunk of that size would end at the end of the source.
        let far = source_size.checked_sub(chunk_size_max);
        let position = match (&self.tables.chunk_offsets, far) {
            (_, None) => Some(0),
            (ChunkOffsets::Short(offsets), Some(far)) => {
                let far = u32::try_from(far).unwrap_or(u32::MAX);
                position_in_blocks(offsets.as_chunks::<4>().0, |offset| u32::from_be_bytes(*offset) > far)
            }
            (ChunkOffsets::Long(offsets), Some(far)) => {
                position_in_blocks(offsets.as_chunks::<8>().0, |offset| u64::from_be_bytes(*offset) > far)
            }
        };
        // Those that do not surely lie within are added up: the last few of a film, or all of a forged one.
        position.is_none_or(|first| {
            self.chunks_from(first as u32).all(|chunk| {
                let end = self.offset(chunk.index).checked_add(self.sum(chunk.first, chunk.end));
                chunk.first >= chunk.end || end.is_some_and(|end| end <= source_size)
            })
        })
    }

    /// Sizes of all samples, big-endian.
    pub(super) fn sizes(&self) -> &[[u8; 4]] {
        self.tables.sizes.as_chunks::<4>().0
    }

    /// Size of sample `at`; zero past the end.
    pub(super) fn size(&self, at: u32) -> u32 {
        self.sizes()
            .get(at as usize)
            .map_or(0, |size| u32::from_be_bytes(*size))
    }

    /// Sizes of block `block`, as [`super::column::Column::block`] tells them.
    pub(super) fn block(&self, block: usize, values: &mut [u32; BLOCK]) {
        let sizes = self.sizes().get(block * BLOCK..).unwrap_or_default();
        for (value, size) in values.iter_mut().zip(sizes) {
            *value = u32::from_be_bytes(*size);
        }
    }

    /// Sum of sizes `from..to`.
    pub(super) fn sum(&self, from: u32, to: u32) -> u64 {
        let sizes = self.sizes().get(from as usize..to as usize).unwrap_or_default();
        sizes.iter().fold(0, |sum: u64, size| {
            sum.wrapping_add(u64::from(u32::from_be_bytes(*size)))
        })
    }

    /// The header that its tables are part of.
    pub(super) fn header(&self) -> &Bytes {
        &self.tables.header
    }

    /// Where chunk `index` begins; at the end of everything past the last.
    fn offset(&self, index: u32) -> u64 {
        let index = index as usize;
        match &self.tables.chunk_offsets {
            ChunkOffsets::Short(offsets) => {
                let offset = offsets.as_chunks::<4>().0.get(index);
                offset.map_or(u64::MAX, |offset| u64::from(u32::from_be_bytes(*offset)))
            }
            ChunkOffsets::Long(offsets) => {
                let offset = offsets.as_chunks::<8>().0.get(index);
                offset.map_or(u64::MAX, |offset| u64::from_be_bytes(*offset))
            }
        }
    }

    /// First chunk (0-based) and samples of each, of run `number`.
    fn entry(&self, number: u32) -> Option<(u32, u32)> {
        let entry = self.tables.chunk_runs.as_chunks::<12>().0.get(number as usize)?;
        let [_, _, _, _, a, b, c, d, ..] = *entry;
        Some((first_chunk(entry), u32::from_be_bytes([a, b, c, d])))
    }

    /// In order. Those behind the last chunk are empty.
    fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let (mut number, mut first) = (0, 0);
        let mut entry = self.entry(0);
        std::iter::from_fn(move || {
            let (start, per_chunk) = entry?;
            entry = self.entry(number + 1);
            let end = entry.map_or(self.chunk_count, |(start, _)| start.min(self.chunk_count));
            let run = Run {
                number,
                chunks: start.min(self.chunk_count)..end,
                per_chunk,
                first,
            };
            number += 1;
            first = run.end();
            Some(run)
        })
    }

    fn chunks_from(&self, index: u32) -> impl Iterator<Item = Chunk> + '_ {
        let first = self
            .runs()
            .find(|run| run.chunks.contains(&index))
            .map(|run| run.chunk(index, self.sample_count));
        std::iter::successors(first, |chunk| self.chunk_behind(chunk))
    }

    fn chunk_behind(&self, chunk: &Chunk) -> Option<Chunk> {
        let index = chunk.index + 1;
        if index >= self.chunk_count || chunk.end >= self.sample_count {
            return None;
        }
        // First chunks ascend, so that there is at most one step.
        let next = self.entry(chunk.run + 1).filter(|(first, _)| *first <= index);
        let (run, per_chunk) = match next {
            Some((_, per_chunk)) => (chunk.run + 1, per_chunk),
            None => (chunk.run, self.entry(chunk.run)?.1),
        };
        Some(Chunk::new(
            index,
            run,
            u64::from(chunk.end),
            per_chunk,
            self.sample_count,
        ))
    }

    /// All chunks that hold samples: where each begins, and how many.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let chunks = self.chunks_from(0).filter(|chunk| chunk.first < chunk.end);
        chunks.map(|chunk| (self.offset(chunk.index), chunk.end - chunk.first))
    }

    /// The chunk of sample `sample_index`, which exists, from that sample on.
    pub(super) fn stretch(&self, sample_index: u32) -> Stretch {
        let chunk = match sample_index >= self.last.first {
            true => Some(self.last),
            false => self
                .runs()
                .find(|run| u64::from(sample_index) < run.end())
                .and_then(|run| self.chunk_in(&run, sample_index)),
        };
        self.stretch_of(chunk, sample_index)
    }

    /// The chunk of `run` that sample `sample_index`, which lies in front of its end, is in.
    fn chunk_in(&self, run: &Run, sample_index: u32) -> Option<Chunk> {
        let behind = u64::from(sample_index).checked_sub(run.first)?;
        let chunk = behind.checked_div(u64::from(run.per_chunk))?;
        Some(run.chunk(run.chunks.start + chunk as u32, self.sample_count))
    }

    /// The one behind `stretch`; without end past the last.
    pub(super) fn stretch_behind(&self, stretch: &Stretch) -> Stretch {
        let chunk = Chunk {
            index: stretch.number,
            run: stretch.run,
            first: stretch.end,
            end: stretch.end,
        };
        let mut chunks = std::iter::successors(self.chunk_behind(&chunk), |chunk| self.chunk_behind(chunk));
        self.stretch_of(chunks.find(|chunk| chunk.first < chunk.end), stretch.end)
    }

    fn stretch_of(&self, chunk: Option<Chunk>, sample_index: u32) -> Stretch {
        let Some(chunk) = chunk else {
            return Stretch::BEHIND_ALL;
        };
        Stretch {
            offset: self
                .offset(chunk.index)
                .wrapping_add(self.sum(chunk.first, sample_index)),
            end: chunk.end,
            number: chunk.index,
            run: chunk.run,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::{IndexWriter, NewSample, TrackIndex};
    use crate::time::Timescale;

    /// What a film's tables say.
    #[derive(Clone, Debug)]
    struct Film {
        /// Samples of each chunk, and how far it lies behind the one before it.
        chunks: Vec<(u32, i64)>,
        sizes: Vec<u32>,
        /// The last chunk promises more samples than there are.
        promises_more: bool,
        is_long: bool,
    }

    impl Film {
        /// Where each chunk begins, and its samples.
        fn places(&self) -> Vec<(u64, &[u32])> {
            let (mut offset, mut rest) = (1u64 << 20, self.sizes.as_slice());
            let mut places = Vec::new();
            for (count, gap) in &self.chunks {
                offset = offset.wrapping_add_signed(*gap) % (1 << 31);
                let (chunk, later) = rest.split_at((*count as usize).min(rest.len()));
                places.push((offset, chunk));
                offset += chunk.iter().map(|size| u64::from(*size)).sum::<u64>();
                rest = later;
            }
            places
        }

        fn source_size(&self) -> u64 {
            let places = self.places();
            let ends = places.iter().filter(|(_, chunk)| !chunk.is_empty());
            let ends = ends.map(|(offset, chunk)| offset + chunk.iter().map(|size| u64::from(*size)).sum::<u64>());
            ends.max().unwrap_or(0)
        }

        fn tables(&self) -> SampleTables {
            let places = self.places();
            let mut runs: Vec<[u32; 3]> = Vec::new();
            for (number, (count, _)) in (1..).zip(&self.chunks) {
                let is_last = number as usize == self.chunks.len();
                let count = count + u32::from(is_last && self.promises_more);
                if runs.last().is_none_or(|run| run[1] != count) {
                    runs.push([number, count, 1]);
                }
            }
            let words =
                |words: Vec<u32>| Bytes::from(words.into_iter().flat_map(u32::to_be_bytes).collect::<Vec<u8>>());
            SampleTables {
                header: Bytes::from_static(b"moov"),
                sizes: words(self.sizes.clone()),
                chunk_runs: words(runs.concat()),
                chunk_offsets: match self.is_long {
                    true => {
                        let offsets = places.iter().flat_map(|(offset, _)| offset.to_be_bytes());
                        ChunkOffsets::Long(offsets.collect::<Vec<u8>>().into())
                    }
                    false => ChunkOffsets::Short(words(places.iter().map(|(offset, _)| *offset as u32).collect())),
                },
            }
        }

        fn index(&self, lay: impl FnOnce(&mut IndexWriter)) -> TrackIndex {
            let mut writer = IndexWriter::new(Timescale::MILLIS);
            lay(&mut writer);
            let count = self.sizes.len() as u32;
            if writer.listed.is_some() {
                writer.push_sync_run(count.min(3));
                writer.push_times(40, 80, count).unwrap();
            }
            writer.finish(0).unwrap()
        }

        fn listed(&self) -> TrackIndex {
            self.index(|writer| writer.list(self.tables(), self.source_size(), u64::MAX).unwrap())
        }

        fn one_by_one(&self) -> TrackIndex {
            self.index(|writer| {
                for (mut offset, chunk) in self.places() {
                    for size in chunk {
                        let sync = writer.sample_count() < 3;
                        let sample = NewSample {
                            offset,
                            size: *size,
                            duration: 40,
                            composition_offset: 80,
                            sync,
                        };
                        writer.push(sample).unwrap();
                        offset += u64::from(*size);
                    }
                }
            })
        }
    }

    fn film() -> impl Strategy<Value = Film> {
        let count = prop_oneof![8 => 1u32..4, 1 => Just(0), 1 => 60u32..300];
        let gap = prop_oneof![30 => 0i64..9_000, 3 => Just(0), 1 => -90_000i64..90_000];
        let chunks = prop::collection::vec((count, gap), 1..200)
            .prop_filter("no samples", |chunks| chunks.iter().any(|(count, _)| *count > 0));
        (chunks, any::<u32>(), any::<bool>(), any::<bool>()).prop_map(|(chunks, seed, promises_more, is_long)| {
            let count: u32 = chunks.iter().map(|(count, _)| count).sum();
            let size = |sample: u32| 1 + (sample.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 19);
            Film {
                chunks,
                sizes: (0..count).map(size).collect(),
                promises_more,
                is_long,
            }
        })
    }

    proptest! {
        #[test]
        fn listed_is_the_same_as_one_by_one(film in film(), from in 0u32..1_000, length in 0u32..400) {
            let (listed, one_by_one) = (film.listed(), film.one_by_one());
            prop_assert!(!listed.is_packed() && one_by_one.is_packed());
            prop_assert!(listed.iter().eq(one_by_one.iter()));
            let from = from % film.sizes.len() as u32;
            let range = from..from + length;
            prop_assert!(listed.samples(range.clone()).eq(one_by_one.samples(range.clone())));
            prop_assert_eq!(listed.extents(range.clone()), one_by_one.extents(range.clone()));
            prop_assert_eq!(listed.size_bytes(range.clone()), one_by_one.size_bytes(range.clone()));
            prop_assert_eq!(listed.span(range.clone()), one_by_one.span(range.clone()));
            prop_assert!(listed.sizes(range.clone()).eq(one_by_one.sizes(range)));
            prop_assert_eq!(listed.identity(), one_by_one.identity());
            prop_assert!(listed.to_stored() == one_by_one.to_stored());
            prop_assert_eq!(listed.header(), Some(&Bytes::from_static(b"moov")));
            prop_assert_eq!(one_by_one.header(), None);
        }

        #[test]
        fn what_lies_past_the_end_is_not_listed(film in film()) {
            let has = |source_size| Listed::new(film.tables(), source_size, u64::MAX).is_some();
            prop_assert!(has(film.source_size()));
            prop_assert!(has(u64::MAX));
            prop_assert!(!has(film.source_size() - 1));
            prop_assert!(!has(0));
        }

        /// Whatever tables say: what is taken is in order, and answers.
        #[test]
        fn forged_tables_are_refused_or_harmless(
            sizes in prop::collection::vec(any::<u32>().prop_map(|size| size >> 12), 1..200),
            runs in prop::collection::vec(prop_oneof![0u32..9, any::<u32>()], 0..30),
            offsets in prop::collection::vec(prop_oneof![4 => 0u32..9_000, 1 => any::<u32>()], 0..30),
            ordered in any::<bool>(),
        ) {
            let mut runs = runs;
            if ordered {
                for (number, run) in (1..).zip(runs.chunks_mut(3)) {
                    run[0] = number;
                }
            }
            let words = |words: &[u32]| Bytes::from(words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>());
            let tables = SampleTables {
                header: Bytes::new(),
                sizes: words(&sizes),
                chunk_runs: words(&runs),
                chunk_offsets: ChunkOffsets::Short(words(&offsets)),
            };
            let mut writer = IndexWriter::new(Timescale::MILLIS);
            let source_size = 1 << 31;
            if writer.list(tables, source_size, 1 << 33).is_some() {
                writer.push_sync_run(sizes.len() as u32);
                writer.push_times(1, 0, sizes.len() as u32).unwrap();
                let index = writer.finish(0).unwrap();
                let samples: Vec<_> = index.iter().collect();
                prop_assert_eq!(samples.len(), sizes.len());
                prop_assert!(samples.iter().all(|sample| sample.offset + u64::from(sample.size) <= source_size));
                let packed = index.pack().unwrap();
                prop_assert!(packed.iter().eq(samples));
                prop_assert!(TrackIndex::open(packed.to_stored().unwrap()).is_ok());
            }
        }
    }

    #[test]
    fn empty_and_great_samples_are_not_listed() {
        let has = |sizes: &[u32], total_size_max| {
            let film = Film {
                chunks: vec![(9, 0)],
                sizes: sizes.to_vec(),
                promises_more: false,
                is_long: false,
            };
            Listed::new(film.tables(), u64::MAX, total_size_max).is_some()
        };
        assert!(has(&[1, 2, SAMPLE_SIZE_BYTES_MAX], u64::MAX));
        assert!(!has(&[1, 0, 2], u64::MAX));
        assert!(!has(&[1, 2, SAMPLE_SIZE_BYTES_MAX + 1], u64::MAX));
        assert!(has(&[1, 2], 3));
        assert!(!has(&[1, 2], 2));
        assert!(!has(&[], u64::MAX));
        // More samples than chunks hold.
        assert!(has(&[7; 9], u64::MAX));
        assert!(!has(&[7; 10], u64::MAX));
    }
}
