//! Going through the samples of a track in decode order.

use super::column::BLOCK;
use super::{Sample, Stretch, TrackIndex, clamp_offset};

/// Samples of a track in decode order; see [`TrackIndex::samples`].
#[derive(Debug)]
pub struct Samples<'a> {
    index: &'a TrackIndex,
    next: u32,
    end: u32,
    decode_time: u64,
    /// What `next` lies in, and where.
    stretch: Stretch,
    offset: u64,
    next_sync: u32,
    next_sync_at: u32,
    /// Columns of the block that `next` lies in.
    sizes: [u32; BLOCK],
    durations: [u32; BLOCK],
    compositions: [u32; BLOCK],
}

impl<'a> Samples<'a> {
    pub(super) fn new(index: &'a TrackIndex, range: std::ops::Range<u32>) -> Samples<'a> {
        let end = range.end.min(index.header.sample_count);
        let first = range.start.min(end);
        let mut samples = Samples {
            index,
            next: first,
            end,
            decode_time: 0,
            stretch: Stretch::BEHIND_ALL,
            offset: 0,
            next_sync: 0,
            next_sync_at: u32::MAX,
            sizes: [0; BLOCK],
            durations: [0; BLOCK],
            compositions: [0; BLOCK],
        };
        if first >= end {
            return samples;
        }
        samples.decode_time = index.decode_time_of(first);
        samples.stretch = index.layout.stretch(first);
        samples.offset = samples.stretch.offset;
        if !index.header.all_sync {
            samples.next_sync = index.sync_position(first);
            samples.next_sync_at = index.sync_sample(samples.next_sync);
        }
        samples.fill();
        samples
    }

    fn fill(&mut self) {
        let block = self.next as usize / BLOCK;
        self.index.layout.sizes(block, &mut self.sizes);
        self.index.durations.block(block, &mut self.durations);
        self.index.compositions.block(block, &mut self.compositions);
    }
}

impl Iterator for Samples<'_> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        if self.next >= self.end {
            return None;
        }
        let index = self.index;
        if self.next == self.stretch.end {
            self.stretch = index.layout.stretch_behind(&self.stretch, self.offset);
            self.offset = self.stretch.offset;
        }
        let is_sync_listed = self.next == self.next_sync_at;
        if is_sync_listed {
            self.next_sync += 1;
            self.next_sync_at = index.sync_sample(self.next_sync);
        }
        let in_block = self.next as usize % BLOCK;
        let composition = i64::from(self.compositions[in_block]) + index.header.composition_bias;
        let sample = Sample {
            offset: self.offset,
            size: self.sizes[in_block],
            decode_time: self.decode_time,
            duration: self.durations[in_block],
            composition_offset: clamp_offset(composition) as i32,
            sync: index.header.all_sync || is_sync_listed,
        };
        self.offset = self.offset.wrapping_add(u64::from(sample.size));
        self.decode_time += u64::from(sample.duration);
        self.next += 1;
        if in_block + 1 == BLOCK && self.next < self.end {
            self.fill();
        }
        Some(sample)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.end - self.next) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Samples<'_> {}
