//! Where samples lie whose sizes come in one table and whose places come chunk by chunk, as sample tables have them.

use super::column::BLOCK;
use super::extent::Place;
use super::{ANCHOR_SAMPLE_COUNT, IndexWriter};

/// Sizes of samples, for [`IndexWriter::push_sizes`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum NewSizes<'a> {
    /// So many samples of one size.
    Even(u32, u32),
    /// Big-endian, as `stsz` has them.
    Listed(&'a [[u8; 4]]),
}

impl NewSizes<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            NewSizes::Even(_, count) => *count as usize,
            NewSizes::Listed(sizes) => sizes.len(),
        }
    }

    /// Takes away the first `count`, or all there are: how many those are, and their bytes.
    #[inline]
    fn take(&mut self, count: u32) -> (u32, u64) {
        match self {
            NewSizes::Even(size, left) => {
                let taken = count.min(*left);
                *left -= taken;
                (taken, u64::from(*size) * u64::from(taken))
            }
            // Chunks of one or two samples take turns where tracks are interleaved: no branch could be foreseen.
            NewSizes::Listed([first, second, ..]) if count.wrapping_sub(1) < 2 => {
                let second = u64::from(u32::from_be_bytes(*second)) * u64::from(count - 1);
                let bytes = u64::from(u32::from_be_bytes(*first)) + second;
                self.skip(count);
                (count, bytes)
            }
            NewSizes::Listed(sizes) => {
                let (taken, left) = sizes.split_at((count as usize).min(sizes.len()));
                *sizes = left;
                // At most 50 million numbers of 32 bits: they fit.
                let bytes = taken
                    .iter()
                    .fold(0u64, |sum, size| sum.wrapping_add(u64::from(u32::from_be_bytes(*size))));
                (taken.len() as u32, bytes)
            }
        }
    }

    /// Leaves out the first `count`.
    #[inline]
    fn skip(&mut self, count: u32) {
        match self {
            NewSizes::Even(_, left) => *left = left.saturating_sub(count),
            NewSizes::Listed(sizes) => *sizes = sizes.get(count as usize..).unwrap_or_default(),
        }
    }
}

/// Chunks one behind the other in decode order.
#[derive(Debug)]
pub(super) struct Chunks {
    /// How many.
    pub(super) count: usize,
    pub(super) sample_counts: [u32; BLOCK],
    /// Where each begins in the source.
    pub(super) offsets: [u64; BLOCK],
    /// Where it ends.
    pub(super) ends: [u64; BLOCK],
}

/// Samples whose sizes are in an index, and whose places come chunk by chunk; see [`IndexWriter::push_sizes`].
#[derive(Debug)]
pub(crate) struct Places<'w, 's> {
    writer: &'w mut IndexWriter,
    /// Sizes of samples that have no place yet.
    rest: NewSizes<'s>,
    /// Chunks that are not in the index yet, and sizes from their first sample on.
    chunks: Chunks,
    sizes: NewSizes<'s>,
}

impl<'w, 's> Places<'w, 's> {
    pub(super) fn new(writer: &'w mut IndexWriter, sizes: NewSizes<'s>) -> Places<'w, 's> {
        Places {
            writer,
            rest: sizes,
            chunks: Chunks {
                count: 0,
                sample_counts: [0; BLOCK],
                offsets: [0; BLOCK],
                ends: [0; BLOCK],
            },
            sizes,
        }
    }

    /// Samples that have no place yet.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` samples, or as many as are left, lie together from `offset` on; returns their bytes, or `None`
    /// where they leave the range.
    #[inline]
    pub(crate) fn push(&mut self, offset: u64, count: u32) -> Option<u64> {
        let (taken, size) = self.rest.take(count);
        if taken > 0 {
            let at = self.chunks.count % BLOCK;
            self.chunks.sample_counts[at] = taken;
            self.chunks.offsets[at] = offset;
            self.chunks.ends[at] = offset.checked_add(size)?;
            self.chunks.count = at + 1;
            if self.chunks.count == BLOCK {
                self.flush();
            }
        }
        Some(size)
    }

    /// Puts the last chunks into the index; `None` where samples are left.
    pub(crate) fn finish(mut self) -> Option<()> {
        self.flush();
        (self.left() == 0).then_some(())
    }

    fn flush(&mut self) {
        let writer = &mut *self.writer;
        let sample_counts = &self.chunks.sample_counts[..self.chunks.count];
        let first_extent = writer.extents.count();
        let opened = writer.extents.open_all(writer.count, &self.chunks);
        let mut anchored = writer.count.next_multiple_of(ANCHOR_SAMPLE_COUNT);
        // The first sample of a chunk, and that which `sizes` begins with.
        let (mut first, mut passed) = (writer.count, writer.count);
        for (at, sample_count) in sample_counts.iter().enumerate() {
            let end = first + sample_count;
            let offset = self.chunks.offsets[at];
            if !opened {
                writer.extents.extend(first, offset, self.chunks.ends[at]);
            }
            if anchored < end {
                let start = match opened {
                    true => Place {
                        offset,
                        extent_index: first_extent + at as u32,
                        extent_first: first,
                    },
                    false => writer.extents.place(offset),
                };
                self.sizes.skip(first - passed);
                passed = first;
                let mut offset = offset;
                while anchored < end {
                    offset += self.sizes.take(anchored - passed).1;
                    writer.places.push(Place { offset, ..start });
                    passed = anchored;
                    anchored += ANCHOR_SAMPLE_COUNT;
                }
            }
            first = end;
        }
        self.sizes.skip(first - passed);
        writer.count = first;
        self.chunks.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::NewSample;
    use crate::time::Timescale;

    /// Sample counts of chunks, and how far each lies behind the end of the one before it.
    fn chunks() -> impl Strategy<Value = Vec<(u32, i64)>> {
        let count = prop_oneof![8 => 1u32..4, 1 => Just(0), 1 => 200u32..600];
        let far =
            prop_oneof![30 => 1i64..9_000, 1 => Just(0), 1 => Just(-700), 1 => Just(1 << 33), 1 => Just(-(1 << 33))];
        let even = (1u32..3).prop_flat_map(|count| prop::collection::vec((Just(count), 1i64..9_000), 150..400));
        prop_oneof![even, prop::collection::vec((count, far), 1..300)]
    }

    proptest! {
        #[test]
        fn chunks_are_their_samples(chunks in chunks(), even in any::<bool>(), seed in any::<u32>()) {
            let size_of = |sample: u32| match even {
                true => 700,
                false => sample.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 19,
            };
            let sample_count: u32 = chunks.iter().map(|(count, _)| count).sum();
            let sizes: Vec<[u8; 4]> = (0..sample_count).map(|sample| size_of(sample).to_be_bytes()).collect();
            let new_sizes = match even {
                true => NewSizes::Even(700, sample_count),
                false => NewSizes::Listed(&sizes),
            };
            let (mut one_by_one, mut by_chunk) = (IndexWriter::new(Timescale::MILLIS), IndexWriter::new(Timescale::MILLIS));
            let mut places = by_chunk.push_sizes(new_sizes).unwrap();
            let (mut offset, mut sample) = (1u64 << 40, 0);
            for (count, gap) in &chunks {
                offset = offset.wrapping_add_signed(*gap);
                let start = offset;
                for _ in 0..*count {
                    let size = size_of(sample);
                    let new = NewSample { offset, size, duration: 40, composition_offset: 0, sync: true };
                    one_by_one.push(new).unwrap();
                    offset += u64::from(size);
                    sample += 1;
                }
                prop_assert_eq!(places.push(start, *count), Some(offset - start));
            }
            prop_assert_eq!(places.left(), 0);
            prop_assert!(places.finish().is_some());
            if sample_count > 0 {
                by_chunk.push_sync_run(sample_count);
                by_chunk.push_times(40, 0, sample_count).unwrap();
                let (one_by_one, by_chunk) = (one_by_one.finish(0).unwrap(), by_chunk.finish(0).unwrap());
                prop_assert!(one_by_one.to_stored() == by_chunk.to_stored());
            }
        }
    }

    #[test]
    fn samples_without_a_place_are_missed() {
        let mut writer = IndexWriter::new(Timescale::MILLIS);
        let mut places = writer.push_sizes(NewSizes::Even(7, 9)).unwrap();
        assert_eq!(places.push(100, 8), Some(56));
        assert_eq!(places.left(), 1);
        assert_eq!(places.finish(), None);
    }
}
