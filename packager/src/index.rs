//! The sample index of one track: where every sample lies, when it is decoded and shown, which are sync samples.
//!
//! A stored index is one immutable buffer, the same in memory and on disk, so a stored track is opened without parsing.
//! [`IndexWriter`] builds it sample by sample; [`TrackIndex`] checks a buffer once and then answers without fail. An index
//! that was just read from a long `moov` has sizes and places as they lie there, until [`TrackIndex::pack`].
//!
//! Times are on the track's own served timeline: decode times start at [`TrackIndex::first_decode_time`] and grow by
//! the sample durations alone; the presentation time of a sample is
//! `decode_time + composition_offset - media_time`. `media_time` is what an edit list in the header must still say
//! (audio priming, video pre-roll); it is zero for everything else, because readers fold edits into the times.

mod column;
mod even;
mod extent;
mod header;
mod layout;
mod listed;
mod places;
mod samples;
mod span;
mod writer;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use self::column::{BLOCK, Column};
use self::extent::{Extents, Place};
pub use self::header::MAGIC;
use self::header::{HEADER_SIZE, Header};
use self::layout::{Layout, Packed, Stretch};
use self::listed::Listed;
pub(crate) use self::listed::{ChunkOffsets, SampleTables};
pub(crate) use self::places::NewSizes;
pub use self::samples::Samples;
pub use self::span::{EvenRun, Span};
pub use self::writer::IndexWriter;
use crate::limits::{SAMPLE_COUNT_MAX, SAMPLE_SIZE_BYTES_MAX};
use crate::time::{MediaTime, Timescale};

/// Each so many samples, decode time and place are stored, so that finding a sample never sums more than these.
const ANCHOR_SAMPLE_COUNT: u32 = 256;

/// One access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// First byte in the source file.
    pub offset: u64,
    /// Bytes.
    pub size: u32,
    /// Decode time in track ticks.
    pub decode_time: u64,
    /// Ticks until the next sample is decoded.
    pub duration: u32,
    /// Composition time minus decode time, in ticks; may be negative (`trun` version 1).
    pub composition_offset: i32,
    /// Decoding can start here (SAP type 1 or 2).
    pub sync: bool,
}

/// Bytes of a source that lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte in the source file.
    pub offset: u64,
    /// Bytes; never zero.
    pub size: u64,
}

/// A sample as a reader of source files hands it to the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSample {
    /// First byte in the source file.
    pub offset: u64,
    /// Bytes, at most [`SAMPLE_SIZE_BYTES_MAX`].
    pub size: u32,
    /// Ticks until the next sample is decoded.
    pub duration: u32,
    /// Composition time minus decode time, in ticks.
    pub composition_offset: i32,
    /// Decoding can start here.
    pub sync: bool,
}

/// Why an index could not be built or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The track holds no sample.
    #[error("track has no samples")]
    NoSamples,
    /// More samples than [`SAMPLE_COUNT_MAX`].
    #[error("more than {SAMPLE_COUNT_MAX} samples")]
    TooManySamples,
    /// A sample larger than [`SAMPLE_SIZE_BYTES_MAX`].
    #[error("sample {sample_index} has {size} bytes, at most {SAMPLE_SIZE_BYTES_MAX} are served")]
    SampleTooLarge {
        /// 0-based.
        sample_index: u32,
        /// Bytes.
        size: u32,
    },
    /// A time does not fit.
    #[error("times at sample {sample_index} leave the 63-bit range")]
    TimeOverflow {
        /// 0-based.
        sample_index: u32,
    },
    /// A stored index is damaged.
    #[error("index damaged at byte {offset}: {what}")]
    Damaged {
        /// Where in the index.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// Little-endian word at `position`, which the caller has checked.
fn u32_at(bytes: &[u8], position: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[position..position + 4]);
    u32::from_le_bytes(word)
}

/// Little-endian word at `position`, which the caller has checked.
fn u64_at(bytes: &[u8], position: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[position..position + 8]);
    u64::from_le_bytes(word)
}

/// The sample index of one track; cheap to clone.
#[derive(Clone)]
pub struct TrackIndex {
    /// The stored form; of a listed one what of it is there: all but sizes and places.
    bytes: Bytes,
    header: Header,
    /// Sample numbers of sync samples, u32 each; empty where all are.
    sync: Bytes,
    /// When each 256th sample is decoded, u64 each.
    anchors: Bytes,
    /// Both columns of times as stored.
    times: Bytes,
    durations: Column,
    compositions: Column,
    layout: Layout,
}

impl std::fmt::Debug for TrackIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrackIndex")
            .field("header", &self.header)
            .field("is_packed", &self.is_packed())
            .field("memory_bytes", &self.memory_bytes())
            .finish()
    }
}

/// Takes the next `size` bytes of `bytes` from `at` on.
fn table(bytes: &Bytes, at: &mut usize, size: usize) -> Result<Bytes, IndexError> {
    let end = at.saturating_add(size);
    if end > bytes.len() {
        return Err(IndexError::Damaged {
            offset: bytes.len(),
            what: "tables reach past the end",
        });
    }
    let table = bytes.slice(*at..end);
    *at = end;
    Ok(table)
}

impl TrackIndex {
    /// Checks a stored index once; every later question has an answer.
    pub fn open(bytes: Bytes) -> Result<TrackIndex, IndexError> {
        let index = TrackIndex::of_tables(bytes)?;
        index.check_tables()?;
        Ok(index)
    }

    /// An index whose tables are in order, because [`IndexWriter`] wrote them just now.
    fn of_tables(bytes: Bytes) -> Result<TrackIndex, IndexError> {
        let header = Header::parse(&bytes)?;
        let count = header.sample_count as usize;
        let mut at = HEADER_SIZE;
        let sync = table(&bytes, &mut at, header.sync_size())?;
        let anchors = table(&bytes, &mut at, header.anchor_count() * size_of::<u64>())?;
        let places = table(&bytes, &mut at, header.anchor_count() * Place::SIZE)?;
        let (sizes, durations_at) = Column::open(&bytes, at, count)?;
        let (durations, compositions_at) = Column::open(&bytes, durations_at, count)?;
        let (compositions, extents_at) = Column::open(&bytes, compositions_at, count)?;
        let extents = Extents::open(&bytes, extents_at, header.extent_count)?;
        Ok(TrackIndex {
            header,
            sync,
            anchors,
            times: bytes.slice(durations_at..extents_at),
            durations,
            compositions,
            layout: Layout::Packed(Packed { sizes, places, extents }),
            bytes,
        })
    }

    /// An index whose sizes and places are `listed`; `bytes` has sync samples, anchors and columns of times, which
    /// [`IndexWriter`] wrote just now.
    fn of_listed(header: Header, bytes: Bytes, listed: Listed) -> Result<TrackIndex, IndexError> {
        let count = header.sample_count as usize;
        let mut at = 0;
        let sync = table(&bytes, &mut at, header.sync_size())?;
        let anchors = table(&bytes, &mut at, header.anchor_count() * size_of::<u64>())?;
        let (durations, compositions_at) = Column::open(&bytes, at, count)?;
        let (compositions, end) = Column::open(&bytes, compositions_at, count)?;
        Ok(TrackIndex {
            header,
            sync,
            anchors,
            times: bytes.slice(at..end),
            durations,
            compositions,
            layout: Layout::Listed(listed),
            bytes,
        })
    }

    /// Whether it is in the stored form, which takes the least room and finds a place the fastest.
    pub fn is_packed(&self) -> bool {
        matches!(self.layout, Layout::Packed(_))
    }

    /// The same index in the stored form.
    pub fn pack(&self) -> Result<TrackIndex, IndexError> {
        match &self.layout {
            Layout::Packed(_) => Ok(self.clone()),
            Layout::Listed(listed) => writer::pack(self, listed),
        }
    }

    /// Bytes it holds by itself; a listed one holds its [`TrackIndex::header`] too.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The source's header that sizes and places of a listed index are part of; other tracks of the file hold the same.
    pub fn header(&self) -> Option<&Bytes> {
        match &self.layout {
            Layout::Packed(_) => None,
            Layout::Listed(listed) => Some(listed.header()),
        }
    }

    /// Tells it from indexes of other samples: two of the same samples at the same times are alike, listed or packed, as
    /// long as the first sample and the last lie where they lay.
    pub(crate) fn identity(&self) -> u128 {
        let mut hash = Xxh3::new();
        let mut header = Vec::with_capacity(HEADER_SIZE);
        let header_alike = Header {
            extent_count: 0,
            ..self.header
        };
        header_alike.write(&mut header);
        hash.update(&header);
        hash.update(&self.sync);
        hash.update(&self.times);
        let count = self.header.sample_count;
        for sample_index in [0, count - 1] {
            hash.update(&self.layout.stretch(sample_index).offset.to_le_bytes());
        }
        match &self.layout {
            Layout::Listed(listed) => hash.update(listed.sizes().as_flattened()),
            Layout::Packed(packed) => {
                let mut sizes = [0; BLOCK];
                for block in 0..(count as usize).div_ceil(BLOCK) {
                    packed.sizes.block(block, &mut sizes);
                    let within = BLOCK.min(count as usize - block * BLOCK);
                    hash.update(sizes.map(u32::to_be_bytes)[..within].as_flattened());
                }
            }
        }
        hash.digest128()
    }

    fn check_tables(&self) -> Result<(), IndexError> {
        let damaged = |offset, what| Err(IndexError::Damaged { offset, what });
        let count = self.header.sample_count;
        let mut previous = None;
        for sync_index in 0..if self.header.all_sync {
            0
        } else {
            self.header.sync_count
        } {
            let sample_index = u32_at(&self.sync, sync_index as usize * 4);
            if sample_index >= count || previous.is_some_and(|previous| sample_index <= previous) {
                return damaged(HEADER_SIZE, "sync samples out of order");
            }
            previous = Some(sample_index);
        }
        if let Layout::Packed(packed) = &self.layout {
            packed.check(count, HEADER_SIZE + self.sync.len() + self.anchors.len())?;
        }
        self.check_times()
    }

    /// What is stored of times can be derived, and must be what the durations say: segments are cut by it.
    fn check_times(&self) -> Result<(), IndexError> {
        let damaged = |offset, what| Err(IndexError::Damaged { offset, what });
        let count = self.header.sample_count;
        let (mut decode_time, mut first) = (0u64, 0);
        for anchor_index in 0..count.div_ceil(ANCHOR_SAMPLE_COUNT) {
            if u64_at(&self.anchors, anchor_index as usize * 8) != decode_time {
                return damaged(
                    HEADER_SIZE + self.sync.len(),
                    "decode times are not the sum of durations",
                );
            }
            let stop = count.min(first + ANCHOR_SAMPLE_COUNT);
            // At most 50 million numbers of 32 bits: they fit.
            decode_time += self.durations.sum(first, stop);
            first = stop;
        }
        if decode_time != self.header.duration {
            return damaged(40, "duration is not the sum of durations");
        }
        match self.span(0..count).end == self.header.presentation_end {
            true => Ok(()),
            false => damaged(64, "the end is not that of the samples"),
        }
    }

    /// The index as it is stored; packs one that is listed.
    pub fn to_stored(&self) -> Result<Bytes, IndexError> {
        self.pack().map(|packed| packed.bytes)
    }

    /// Ticks per second of every time here.
    pub fn timescale(&self) -> Timescale {
        self.header.timescale
    }

    /// Samples in the track; at least one.
    pub fn sample_count(&self) -> u32 {
        self.header.sample_count
    }

    /// Decode time of the first sample; above zero when the track starts late.
    pub fn first_decode_time(&self) -> u64 {
        self.header.first_decode_time
    }

    /// What an edit list in the header must subtract from composition times; zero needs no edit list.
    pub fn media_time(&self) -> u64 {
        self.header.media_time
    }

    /// Ticks by which all decode times have to be moved back so that no sample is presented before it is decoded, which
    /// MPEG-TS needs; zero where composition offsets are not negative and nothing is cut from the front. One 64th of the
    /// samples' offsets is looked at.
    pub fn decode_delay(&self) -> u64 {
        let offset_min = i64::from(self.compositions.min()) + self.header.composition_bias;
        (self.header.media_time as i64).saturating_sub(offset_min).max(0) as u64
    }

    /// Sum of all sample durations.
    pub fn duration(&self) -> MediaTime {
        MediaTime::new(self.header.duration as i64, self.header.timescale)
    }

    /// Every sample is a sync sample (audio, text, intra-only video).
    pub fn all_sync(&self) -> bool {
        self.header.all_sync
    }

    /// Indexes of sync samples, ascending.
    pub fn sync_samples(&self) -> impl Iterator<Item = u32> + '_ {
        let count = if self.header.all_sync {
            self.header.sample_count
        } else {
            self.header.sync_count
        };
        (0..count).map(|sync_index| match self.header.all_sync {
            true => sync_index,
            false => u32_at(&self.sync, sync_index as usize * 4),
        })
    }

    /// Presentation time of a sample of this track, in track ticks; negative for priming and pre-roll.
    pub fn presentation_time(&self, sample: &Sample) -> i64 {
        sample.decode_time as i64 + i64::from(sample.composition_offset) - self.header.media_time as i64
    }

    /// When the sample that is shown last ends, in track ticks; at most zero when nothing of the track is shown.
    pub fn presentation_end(&self) -> i64 {
        self.header.presentation_end
    }

    /// Presentation time of sample `sample_index`, in track ticks, or `None` past the end. Looks at what lies between
    /// the sample and the anchor before it, at most 256 durations.
    pub fn presentation_time_of(&self, sample_index: u32) -> Option<i64> {
        if sample_index >= self.header.sample_count {
            return None;
        }
        let offset = i64::from(self.compositions.value(sample_index)) + self.header.composition_bias;
        let decode_time = self.decode_time_of(sample_index) as i64;
        Some(decode_time + clamp_offset(offset) - self.header.media_time as i64)
    }

    /// Decode time of sample `sample_index`, which exists.
    fn decode_time_of(&self, sample_index: u32) -> u64 {
        let anchor = sample_index / ANCHOR_SAMPLE_COUNT;
        u64_at(&self.anchors, anchor as usize * 8)
            + self.header.first_decode_time
            + self.durations.sum(anchor * ANCHOR_SAMPLE_COUNT, sample_index)
    }

    /// Sizes of samples `range`, in decode order.
    pub fn sizes(&self, range: std::ops::Range<u32>) -> impl Iterator<Item = u32> + '_ {
        let end = range.end.min(self.header.sample_count);
        let mut values = [0; BLOCK];
        let first = range.start.min(end);
        (first..end).map(move |at| {
            if at == first || (at as usize).is_multiple_of(BLOCK) {
                self.layout.sizes(at as usize / BLOCK, &mut values);
            }
            values[at as usize % BLOCK]
        })
    }

    /// [`Iterator::fold`] over the sizes of samples `range`, block by block; a range past the end is cut.
    pub(crate) fn fold_sizes<T>(&self, range: std::ops::Range<u32>, first: T, mut take: impl FnMut(T, u32) -> T) -> T {
        let end = range.end.min(self.header.sample_count) as usize;
        let mut at = (range.start as usize).min(end);
        let (mut value, mut sizes) = (first, [0; BLOCK]);
        while at < end {
            let stop = end.min((at / BLOCK + 1) * BLOCK);
            self.layout.sizes(at / BLOCK, &mut sizes);
            for size in &sizes[at % BLOCK..=(stop - 1) % BLOCK] {
                value = take(value, *size);
            }
            at = stop;
        }
        value
    }

    /// Samples `range` in decode order; a range past the end is cut.
    pub fn samples(&self, range: std::ops::Range<u32>) -> Samples<'_> {
        Samples::new(self, range)
    }

    /// All samples in decode order.
    pub fn iter(&self) -> Samples<'_> {
        self.samples(0..self.header.sample_count)
    }

    /// Sample `sample_index`, or `None` past the end.
    pub fn sample(&self, sample_index: u32) -> Option<Sample> {
        self.samples(sample_index..sample_index.saturating_add(1)).next()
    }

    /// Bytes of all samples in `range` together.
    pub fn size_bytes(&self, range: std::ops::Range<u32>) -> u64 {
        let end = range.end.min(self.header.sample_count);
        self.layout.sum(range.start.min(end), end)
    }

    /// The source bytes of samples `range`, in decode order, neighbours merged.
    pub fn extents(&self, range: std::ops::Range<u32>) -> Vec<Extent> {
        let end = range.end.min(self.header.sample_count);
        let mut at = range.start.min(end);
        let mut extents: Vec<Extent> = Vec::new();
        if at == end {
            return extents;
        }
        let mut stretch = self.layout.stretch(at);
        loop {
            let stop = stretch.end.min(end);
            let (offset, size) = (stretch.offset, self.layout.sum(at, stop));
            match extents.last_mut() {
                Some(before) if before.offset + before.size == offset => before.size += size,
                _ if size == 0 => {}
                _ => extents.push(Extent { offset, size }),
            }
            if stop == end {
                break;
            }
            stretch = self.layout.stretch_behind(&stretch, offset.wrapping_add(size));
            at = stop;
        }
        extents
    }

    /// Sync sample number `sync_index`, or a number no sample has.
    fn sync_sample(&self, sync_index: u32) -> u32 {
        match sync_index < self.header.sync_count {
            true => u32_at(&self.sync, sync_index as usize * 4),
            false => u32::MAX,
        }
    }

    /// How many sync samples lie before `sample_index`.
    fn sync_position(&self, sample_index: u32) -> u32 {
        let (mut low, mut high) = (0, self.header.sync_count);
        while low < high {
            let middle = low + (high - low) / 2;
            match u32_at(&self.sync, middle as usize * 4) < sample_index {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}

/// A composition offset as it is served.
fn clamp_offset(offset: i64) -> i64 {
    offset.clamp(i64::from(i32::MIN), i64::from(i32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scale() -> Timescale {
        Timescale::new(90_000).unwrap()
    }

    fn build(samples: &[NewSample], edit_offset: i64) -> TrackIndex {
        let mut writer = IndexWriter::new(scale());
        for sample in samples {
            writer.push(*sample).unwrap();
        }
        writer.finish(edit_offset).unwrap()
    }

    fn frames(composition_offsets: &[i32]) -> Vec<NewSample> {
        let mut offset = 100;
        composition_offsets
            .iter()
            .enumerate()
            .map(|(i, composition_offset)| {
                let sample = NewSample {
                    offset,
                    size: 10,
                    duration: 3000,
                    composition_offset: *composition_offset,
                    sync: i == 0,
                };
                offset += 10;
                sample
            })
            .collect()
    }

    /// One track of an interleaved film, each sample by itself, takes a few bytes a sample.
    #[test]
    fn interleaved_samples_take_little_room() {
        let mut samples = frames(&[0; 64_000]);
        for (at, sample) in samples.iter_mut().enumerate() {
            sample.size = 4_000 + at as u32 % 1024;
            sample.offset = 5_500 * at as u64;
        }
        let size = build(&samples, 0).to_stored().unwrap().len();
        assert!(size < samples.len() * 4, "{size} bytes of {} samples", samples.len());
    }

    /// first decode time, media time, presentation time of each sample
    fn check_edit(compositions: &[i32], edit_offset: i64, expected: (u64, u64, &[i64])) {
        let index = build(&frames(compositions), edit_offset);
        let late = |sample: Sample| sample.decode_time as i64 - index.presentation_time(&sample);
        assert_eq!(
            index.decode_delay() as i64,
            index.iter().map(late).max().unwrap().max(0)
        );
        let times: Vec<i64> = index.iter().map(|sample| index.presentation_time(&sample)).collect();
        assert_eq!(
            (index.first_decode_time(), index.media_time(), times.as_slice()),
            expected
        );
        assert_eq!(index.sample(0).unwrap().decode_time, index.first_decode_time());
    }

    #[test]
    fn edits_are_folded_into_times() {
        // B-frame shift, edit list says so.
        check_edit(&[6000, 12000, 3000], 6000, (0, 0, &[0, 9000, 3000]));
        // No edit list: the track starts late by its composition offset.
        check_edit(&[6000, 12000, 3000], 0, (6000, 0, &[6000, 15000, 9000]));
        // Priming.
        check_edit(&[0, 0, 0], 1024, (0, 1024, &[-1024, 1976, 4976]));
        // Empty edit and priming: no edit is left when the delay covers the priming.
        check_edit(&[0, 0, 0], 1024 - 5000, (3976, 0, &[3976, 6976, 9976]));
        // Negative composition offsets.
        check_edit(&[0, 3000, -3000], 0, (0, 0, &[0, 6000, 3000]));
    }

    #[test]
    fn extents_merge_and_break() {
        let mut samples = frames(&[0; 6]);
        samples[3].offset += 1000;
        samples[4].offset += 1000;
        samples[5].offset += 1000;
        let index = build(&samples, 0);
        let extents = index.extents(1..5);
        assert_eq!(
            extents,
            [Extent { offset: 110, size: 20 }, Extent { offset: 1130, size: 20 }]
        );
        assert_eq!(index.size_bytes(1..5), 40);
    }

    #[test]
    fn a_damaged_index_is_refused_or_harmless() {
        let index = build(&frames(&[0; 600]), 0);
        let good = index.to_stored().unwrap().to_vec();
        for end in 0..good.len() {
            assert!(
                TrackIndex::open(Bytes::copy_from_slice(&good[..end])).is_err(),
                "cut at {end}"
            );
        }
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..3 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (seed >> 33) as usize % bad.len();
                bad[at] = (seed >> 25) as u8;
            }
            if let Ok(index) = TrackIndex::open(Bytes::from(bad)) {
                let _ = index
                    .iter()
                    .map(|sample| index.presentation_time(&sample))
                    .fold(0i64, i64::wrapping_add);
                let _ = index.extents(0..u32::MAX);
            }
        }
    }

    /// Whoever forges an index can not make a track last for ever, or have two answers to where a sample lies.
    #[test]
    fn forged_times_and_places_are_refused() {
        let index = build(&frames(&[6000; 600]), 6000);
        let good = index.to_stored().unwrap().to_vec();
        assert!(TrackIndex::open(Bytes::from(good.clone())).is_ok());
        let check = |at: usize, what: &str| {
            let mut forged = good.clone();
            forged[at + 5] ^= 1;
            let refused = TrackIndex::open(Bytes::from(forged)).map(|_| ());
            assert!(refused.is_err_and(|error| error.to_string().ends_with(what)), "{at}");
        };
        check(40, "duration is not the sum of durations");
        check(64, "the end is not that of the samples");
        let anchors_at = HEADER_SIZE + index.sync.len();
        let places_at = anchors_at + index.anchors.len();
        for anchor in 0..3 {
            check(anchors_at + anchor * 8, "decode times are not the sum of durations");
            check(places_at + anchor * Place::SIZE, "place of another sample");
            check(places_at + anchor * Place::SIZE + 8, "place of another sample");
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            rows in prop::collection::vec(
                (0u32..200_000, 0u32..5000, -9000i32..9000, any::<bool>(), prop_oneof![
                    8 => Just(None), 2 => (1u64..300).prop_map(Some), 1 => (0u64..1 << 40).prop_map(Some),
                ]),
                1..700,
            ),
            start in 0u32..700, len in 0u32..700, steady in any::<bool>(),
        ) {
            let mut rows = rows;
            if steady {
                // As sound is: nothing differs for some blocks, then these do, then something does.
                for (at, row) in rows.iter_mut().enumerate() {
                    let duration = match at {
                        0..128 => 1024,
                        128..256 => 960,
                        _ => row.1,
                    };
                    *row = (row.0, duration, 0, true, row.4);
                }
            }
            let mut offset = 0;
            // Near behind the sample before, or anywhere, further back too.
            let samples: Vec<NewSample> = rows.iter().map(|(size, duration, composition_offset, sync, gap)| {
                offset = match gap {
                    Some(gap @ ..300) => offset + gap,
                    Some(elsewhere) => *elsewhere,
                    None => offset,
                };
                let sample = NewSample {
                    offset, size: *size, duration: *duration, composition_offset: *composition_offset, sync: *sync,
                };
                offset += u64::from(*size);
                sample
            }).collect();
            let index = build(&samples, 0);
            let range = start.min(rows.len() as u32)..(start + len).min(rows.len() as u32);
            let mut decode_time = index.first_decode_time()
                + samples[..range.start as usize].iter().map(|sample| u64::from(sample.duration)).sum::<u64>();
            let source_start: i64 = samples[..range.start as usize].iter().map(|s| i64::from(s.duration)).sum();
            let mut source_time = source_start;
            let got: Vec<Sample> = index.samples(range.clone()).collect();
            prop_assert_eq!(got.len(), range.len());
            for (sample, want) in got.iter().zip(&samples[range.start as usize..]) {
                prop_assert_eq!((sample.offset, sample.size, sample.duration, sample.sync),
                    (want.offset, want.size, want.duration, want.sync));
                prop_assert_eq!(sample.decode_time, decode_time);
                prop_assert_eq!(index.presentation_time(sample), source_time + i64::from(want.composition_offset));
                decode_time += u64::from(want.duration);
                source_time += i64::from(want.duration);
            }
            let mut next = 0;
            for run in index.even_runs() {
                prop_assert_eq!(run.first, next);
                prop_assert!(run.count == 1 || steady);
                for position in 0..run.count {
                    let sample = index.sample(next).unwrap();
                    let start = run.start + i64::from(position) * i64::from(run.duration);
                    prop_assert_eq!((start, run.duration, run.sync),
                        (index.presentation_time(&sample), sample.duration, sample.sync));
                    next += 1;
                }
            }
            prop_assert_eq!(next, index.sample_count());
        }
    }
}
