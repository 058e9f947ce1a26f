//! What runs of samples have in common, found block by block.

use super::column::BLOCK;
use super::even::Extremes;
use super::layout::Layout;
use super::writer::{STORED_BIAS, stored_offset};
use super::{TrackIndex, clamp_offset};

/// Spans of runs of samples, one after the other: what one unpacked of a block, the next finds.
#[derive(Debug)]
pub(crate) struct Spans<'a> {
    index: &'a TrackIndex,
    sizes: Unpacked,
    durations: Unpacked,
    compositions: Unpacked,
    /// A sample, and how many sync samples come before it.
    sync: (u32, u32),
}

/// The values of one block.
#[derive(Debug)]
struct Unpacked {
    block: Option<usize>,
    values: [u32; BLOCK],
}

impl Unpacked {
    const NONE: Unpacked = Unpacked {
        block: None,
        values: [0; BLOCK],
    };

    /// Those of `block`, which `unpack` unpacks where they are not at hand.
    #[inline]
    fn of(&mut self, block: usize, unpack: impl FnOnce(usize, &mut [u32; BLOCK])) -> &[u32; BLOCK] {
        if self.block != Some(block) {
            unpack(block, &mut self.values);
            self.block = Some(block);
        }
        &self.values
    }
}

impl Spans<'_> {
    /// See [`TrackIndex::span`].
    pub(crate) fn span(&mut self, range: std::ops::Range<u32>) -> Span {
        let index = self.index;
        let header = &index.header;
        let end = range.end.min(header.sample_count);
        let first = range.start.min(end);
        let mut span = Span::EMPTY;
        if first >= end {
            return span;
        }
        span.base_decode_time = index.decode_time_of(first);
        let mut decode_time = span.base_decode_time as i64 - header.media_time as i64;
        span.first_size = index.layout.size(first);
        (span.size_bytes, span.sizes_differ) = self.sizes(first, end, span.first_size);
        span.first_duration = index.durations.value(first);
        let mut at = first;
        while at < end {
            let block = at as usize / BLOCK;
            let stop = end.min(((block + 1) * BLOCK) as u32);
            let within = at as usize % BLOCK..(stop - 1) as usize % BLOCK + 1;
            match (index.durations.constant(block), index.compositions.constant(block)) {
                (Some(duration), Some(composition)) => {
                    // All of a track that is even throughout is one run.
                    let stop = match (index.durations.constant_of_all(), index.compositions.constant_of_all()) {
                        (Some(_), Some(_)) => end,
                        _ => stop,
                    };
                    let offset = clamp_offset(i64::from(composition) + header.composition_bias);
                    let ticks = i64::from(duration) * i64::from(stop - at);
                    span.durations_differ |= duration != span.first_duration;
                    span.take(offset, decode_time + offset, decode_time + ticks + offset);
                    decode_time += ticks;
                    at = stop;
                    continue;
                }
                (duration, _) => {
                    let unpack = |block, values: &mut [u32; BLOCK]| index.compositions.block(block, values);
                    let compositions = &self.compositions.of(block, unpack)[within.clone()];
                    let extremes = duration.and_then(|duration| {
                        let extremes = Extremes::of_even(duration, compositions, stored_offset)?;
                        // Stored values are those of the source, which lie elsewhere by so much.
                        let shift = header.composition_bias.checked_add(STORED_BIAS)?;
                        let offsets = extremes.offsets.map(|offset| i64::from(offset) + shift);
                        let is_clamped = offsets.iter().any(|offset| clamp_offset(*offset) != *offset);
                        (!is_clamped).then_some((
                            duration,
                            offsets,
                            extremes.shown.map(|shown| i64::from(shown) + shift),
                        ))
                    });
                    if let Some((duration, offsets, [earliest, latest])) = extremes {
                        let duration_wide = i64::from(duration);
                        span.durations_differ |= duration != span.first_duration;
                        let latest_end = decode_time + latest + duration_wide;
                        offsets
                            .iter()
                            .for_each(|offset| span.take(*offset, decode_time + earliest, latest_end));
                        decode_time += duration_wide * i64::from(stop - at);
                        at = stop;
                        continue;
                    }
                    let mut take = |duration: u32, composition: u32| {
                        let offset = clamp_offset(i64::from(composition).wrapping_add(header.composition_bias));
                        // Far from the ends of the range, see `IndexWriter`.
                        let next = decode_time.wrapping_add(i64::from(duration));
                        span.durations_differ |= duration != span.first_duration;
                        span.take(offset, decode_time.wrapping_add(offset), next.wrapping_add(offset));
                        decode_time = next;
                    };
                    match duration {
                        Some(duration) => compositions.iter().for_each(|composition| take(duration, *composition)),
                        None => {
                            let unpack = |block, values: &mut [u32; BLOCK]| index.durations.block(block, values);
                            let durations = &self.durations.of(block, unpack)[within];
                            let both = durations.iter().zip(compositions);
                            both.for_each(|(duration, composition)| take(*duration, *composition));
                        }
                    }
                }
            }
            at = stop;
        }
        match header.all_sync {
            true => (span.sync_count, span.first_is_sync) = (end - first, true),
            false => {
                let before = match self.sync.0 == first {
                    true => self.sync.1,
                    false => index.sync_position(first),
                };
                let before_end = index.sync_position(end);
                span.sync_count = before_end - before;
                span.first_is_sync = index.sync_sample(before) == first;
                self.sync = (end, before_end);
            }
        }
        span
    }

    /// Bytes of samples `first..end`, and whether not all are of `first_size`.
    fn sizes(&mut self, first: u32, end: u32, first_size: u32) -> (u64, bool) {
        let layout = &self.index.layout;
        let (mut bytes, mut difference) = (0u64, 0);
        if let Layout::Listed(listed) = layout {
            for size in listed.sizes().get(first as usize..end as usize).unwrap_or_default() {
                let size = u32::from_be_bytes(*size);
                difference |= size ^ first_size;
                bytes = bytes.wrapping_add(u64::from(size));
            }
            return (bytes, difference != 0);
        }
        let mut at = first;
        while at < end {
            let block = at as usize / BLOCK;
            let stop = end.min(((block + 1) * BLOCK) as u32);
            match layout.constant_size(block) {
                Some(size) => {
                    difference |= size ^ first_size;
                    bytes += u64::from(size) * u64::from(stop - at);
                }
                None => {
                    let within = at as usize % BLOCK..(stop - 1) as usize % BLOCK + 1;
                    for size in &self.sizes.of(block, |block, sizes| layout.sizes(block, sizes))[within] {
                        difference |= size ^ first_size;
                        bytes = bytes.wrapping_add(u64::from(*size));
                    }
                }
            }
            at = stop;
        }
        (bytes, difference != 0)
    }
}

impl TrackIndex {
    /// What samples `range` have in common, and their span, found block by block; a range past the end is cut.
    pub fn span(&self, range: std::ops::Range<u32>) -> Span {
        self.spans().span(range)
    }

    /// For many of them, in order.
    pub(crate) fn spans(&self) -> Spans<'_> {
        Spans {
            index: self,
            sizes: Unpacked::NONE,
            durations: Unpacked::NONE,
            compositions: Unpacked::NONE,
            sync: (0, 0),
        }
    }

    /// All samples as runs of even times.
    pub fn even_runs(&self) -> impl Iterator<Item = EvenRun> + '_ {
        let count = self.header.sample_count;
        let block_count = (count as usize).div_ceil(BLOCK);
        let mut decode_time = self.header.first_decode_time as i64 - self.header.media_time as i64;
        let mut at = 0;
        let (mut durations, mut compositions) = ([0; BLOCK], [0; BLOCK]);
        let mut unpacked = None;
        std::iter::from_fn(move || {
            if at >= count {
                return None;
            }
            let block = at as usize / BLOCK;
            let constant = |block| Some((self.durations.constant(block)?, self.compositions.constant(block)?));
            let (stop, duration, composition) = match constant(block) {
                Some(even @ (duration, composition)) if self.header.all_sync => {
                    let mut next = block + 1;
                    while next < block_count && constant(next) == Some(even) {
                        next += 1;
                    }
                    (count.min((next * BLOCK) as u32), duration, composition)
                }
                _ => {
                    if unpacked != Some(block) {
                        self.durations.block(block, &mut durations);
                        self.compositions.block(block, &mut compositions);
                        unpacked = Some(block);
                    }
                    (
                        at + 1,
                        durations[at as usize % BLOCK],
                        compositions[at as usize % BLOCK],
                    )
                }
            };
            let run = EvenRun {
                first: at,
                count: stop - at,
                start: decode_time + clamp_offset(i64::from(composition) + self.header.composition_bias),
                duration,
                sync: self.header.all_sync || self.sync_sample(self.sync_position(at)) == at,
            };
            decode_time += i64::from(duration) * i64::from(run.count);
            at = stop;
            Some(run)
        })
    }
}

/// Samples one after the other that last equally long; see [`TrackIndex::even_runs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvenRun {
    /// The first sample.
    pub first: u32,
    /// How many; at least one, and one only unless all of the track are sync samples.
    pub count: u32,
    /// Presentation time of the first, in track ticks; each further one is shown a `duration` later.
    pub start: i64,
    /// Ticks that each lasts.
    pub duration: u32,
    /// All of them are sync samples.
    pub sync: bool,
}

impl EvenRun {
    /// Position in the run, from `position` on, of the first sync sample that is shown at `time` or later.
    pub fn first_at_or_after(&self, position: u32, time: i64) -> Option<u32> {
        if !self.sync || position >= self.count {
            return None;
        }
        let ahead = time.saturating_sub(self.start);
        let steps = match (ahead, self.duration) {
            (..=0, _) => 0,
            (_, 0) => return None,
            (ahead, duration) => u32::try_from((ahead - 1) / i64::from(duration) + 1).ok()?,
        };
        Some(steps.max(position)).filter(|steps| *steps < self.count)
    }
}

/// What a run of samples has in common; see [`TrackIndex::span`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Earliest presentation time, in track ticks; `i64::MAX` without samples.
    pub start: i64,
    /// Latest end of presentation, in track ticks; `i64::MIN` without samples.
    pub end: i64,
    /// Decode time of the first sample.
    pub base_decode_time: u64,
    /// Bytes of all samples.
    pub size_bytes: u64,
    /// Size of the first sample.
    pub first_size: u32,
    /// Duration of the first sample.
    pub first_duration: u32,
    /// Not all sizes are that of the first.
    pub sizes_differ: bool,
    /// Not all durations are that of the first.
    pub durations_differ: bool,
    /// Smallest and greatest composition offset.
    pub composition_offsets: (i64, i64),
    /// How many are sync samples.
    pub sync_count: u32,
    /// The first is one.
    pub first_is_sync: bool,
}

impl Span {
    const EMPTY: Span = Span {
        start: i64::MAX,
        end: i64::MIN,
        base_decode_time: 0,
        size_bytes: 0,
        first_size: 0,
        first_duration: 0,
        sizes_differ: false,
        durations_differ: false,
        composition_offsets: (i64::MAX, i64::MIN),
        sync_count: 0,
        first_is_sync: true,
    };

    fn take(&mut self, offset: i64, start: i64, end: i64) {
        self.start = self.start.min(start);
        self.end = self.end.max(end);
        self.composition_offsets.0 = self.composition_offsets.0.min(offset);
        self.composition_offsets.1 = self.composition_offsets.1.max(offset);
    }
}

#[cfg(test)]
mod tests {
    use crate::index::{IndexWriter, NewSample, Sample};
    use crate::time::Timescale;

    #[test]
    fn one_after_the_other_is_each_alone() {
        let mut writer = IndexWriter::new(Timescale::MPEG_TS);
        for at in 0..1_000u32 {
            let sample = NewSample {
                offset: u64::from(at) * 5_000,
                size: 1 + at * 37 % 4_001,
                // Even for a while, so that some blocks are constant.
                duration: if at < 300 { 3_000 } else { 2_990 + at % 17 },
                composition_offset: if at < 500 { (at as i32 * 7 % 5) * 3_000 } else { 0 },
                sync: at % 48 == 0,
            };
            writer.push(sample).unwrap();
        }
        let index = writer.finish(0).unwrap();
        let mut spans = index.spans();
        let bounds = [0, 48, 50, 63, 64, 120, 300, 640, 641, 990, 1_000, 2_000];
        let in_order = bounds.windows(2).map(|pair| (pair[0], pair[1]));
        for (first, end) in in_order.chain([(10, 700), (0, 5), (5, 5), (5, 64), (0, 1_000)]) {
            let got = spans.span(first..end);
            let samples: Vec<_> = index.samples(first..end).collect();
            assert_eq!(got, index.span(first..end), "{first}..{end}");
            assert_eq!(
                got.size_bytes,
                samples.iter().map(|sample| u64::from(sample.size)).sum::<u64>()
            );
            assert_eq!(
                got.sync_count as usize,
                samples.iter().filter(|sample| sample.sync).count()
            );
            let starts = samples.iter().map(|sample| index.presentation_time(sample));
            assert_eq!(got.start, starts.min().unwrap_or(i64::MAX), "{first}..{end}");
            let ends = samples
                .iter()
                .map(|sample| index.presentation_time(sample) + i64::from(sample.duration));
            assert_eq!(got.end, ends.max().unwrap_or(i64::MIN), "{first}..{end}");
            let offsets = || samples.iter().map(|sample| i64::from(sample.composition_offset));
            let extremes = (offsets().min().unwrap_or(i64::MAX), offsets().max().unwrap_or(i64::MIN));
            assert_eq!(got.composition_offsets, extremes, "{first}..{end}");
            let differ = |of: fn(&Sample) -> u32| samples.iter().any(|sample| of(sample) != of(&samples[0]));
            assert_eq!(got.sizes_differ, differ(|sample| sample.size), "{first}..{end}");
            assert_eq!(got.durations_differ, differ(|sample| sample.duration), "{first}..{end}");
            assert_eq!(got.first_is_sync, samples.first().is_none_or(|sample| sample.sync));
        }
    }
}
