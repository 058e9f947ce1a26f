//! The sample index of one track: where every sample lies, when it is decoded and shown, which are sync samples.
//!
//! An index is one immutable buffer, the same in memory and on disk, so a stored track is opened without parsing.
//! [`IndexWriter`] builds it sample by sample; [`TrackIndex`] checks a buffer once and then answers without fail.
//!
//! Times are on the track's own served timeline: decode times start at [`TrackIndex::first_decode_time`] and grow by
//! the sample durations alone; the presentation time of a sample is
//! `decode_time + composition_offset - media_time`. `media_time` is what an edit list in the header must still say
//! (audio priming, video pre-roll); it is zero for everything else, because readers fold edits into the times.

mod column;

use bytes::Bytes;

use self::column::{BLOCK, Column, ColumnWriter};
use crate::limits::{SAMPLE_COUNT_MAX, SAMPLE_SIZE_BYTES_MAX};
use crate::time::{MediaTime, Timescale};

/// Extents restart at least this often, so that finding a sample never sums more sizes than this.
const EXTENT_SAMPLE_COUNT_MAX: u32 = 256;

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

/// Builds a [`TrackIndex`] from samples in decode order.
#[derive(Debug)]
pub struct IndexWriter {
    timescale: Timescale,
    sizes: ColumnWriter,
    durations: ColumnWriter,
    /// Biased by 2^31 so that they are unsigned.
    compositions: ColumnWriter,
    extents: Vec<(u32, u64)>,
    next_offset: u64,
    decode_time: u64,
    decode_anchors: Vec<u64>,
    /// Sync samples; empty while all so far are.
    sync: Vec<u32>,
    /// So many samples from the first on are sync samples, while `sync` is empty.
    leading_sync_count: u32,
    count: u32,
    /// Samples whose times are known; differs from `count` while columns are pushed one after the other.
    timed_count: u32,
    /// Over all samples: smallest composition time, greatest end of composition.
    composition_min: i64,
    composition_end: i64,
}

const COMPOSITION_BIAS: i64 = 1 << 31;

impl IndexWriter {
    /// An empty index of a track with `timescale`.
    pub fn new(timescale: Timescale) -> IndexWriter {
        IndexWriter {
            timescale,
            sizes: ColumnWriter::default(),
            durations: ColumnWriter::default(),
            compositions: ColumnWriter::default(),
            extents: Vec::new(),
            next_offset: 0,
            decode_time: 0,
            decode_anchors: Vec::new(),
            sync: Vec::new(),
            leading_sync_count: 0,
            count: 0,
            timed_count: 0,
            composition_min: i64::MAX,
            composition_end: i64::MIN,
        }
    }

    /// Replaces the scale, for a track whose ticks are known before what they count.
    pub fn set_timescale(&mut self, timescale: Timescale) {
        self.timescale = timescale;
    }

    /// Samples so far.
    pub fn sample_count(&self) -> u32 {
        self.count
    }

    /// Appends the next sample in decode order.
    pub fn push(&mut self, sample: NewSample) -> Result<(), IndexError> {
        self.push_place(sample.offset, [sample.size])?;
        self.push_times(sample.duration, sample.composition_offset, 1)?;
        if sample.sync {
            self.push_sync(self.count - 1);
        }
        Ok(())
    }

    /// Places of the next samples, which lie together from `offset` on. With [`IndexWriter::push_times`] and
    /// [`IndexWriter::push_sync`] the same as [`IndexWriter::push`] of each, for sources whose tables are columns.
    pub(crate) fn push_place(
        &mut self,
        offset: u64,
        sizes: impl IntoIterator<Item = u32, IntoIter: ExactSizeIterator>,
    ) -> Result<(), IndexError> {
        let mut sizes = sizes.into_iter();
        let end = u64::from(self.count) + sizes.len() as u64;
        if end > SAMPLE_COUNT_MAX as u64 {
            return Err(IndexError::TooManySamples);
        }
        let mut offset = offset;
        while sizes.len() > 0 {
            let first = match self.extents.last() {
                Some((first, _)) if offset == self.next_offset && self.count - first < EXTENT_SAMPLE_COUNT_MAX => {
                    *first
                }
                _ => {
                    self.extents.push((self.count, offset));
                    self.count
                }
            };
            let room = (EXTENT_SAMPLE_COUNT_MAX - (self.count - first)) as usize;
            let taken = room.min(sizes.len());
            // At most 256 numbers of 32 bits: they fit.
            let (mut sum, mut size_max) = (0u64, 0);
            for size in sizes.by_ref().take(taken) {
                sum = sum.wrapping_add(u64::from(size));
                size_max = size_max.max(size);
                self.sizes.push(size);
            }
            if size_max > SAMPLE_SIZE_BYTES_MAX {
                return Err(IndexError::SampleTooLarge {
                    sample_index: self.count,
                    size: size_max,
                });
            }
            offset = offset.checked_add(sum).ok_or(IndexError::TimeOverflow {
                sample_index: self.count,
            })?;
            self.next_offset = offset;
            self.count += taken as u32;
        }
        Ok(())
    }

    /// Times of the next `count` samples, which all last as long and have one composition offset.
    pub(crate) fn push_times(&mut self, duration: u32, composition_offset: i32, count: u32) -> Result<(), IndexError> {
        if count == 0 {
            return Ok(());
        }
        let overflow = IndexError::TimeOverflow {
            sample_index: self.timed_count,
        };
        let first = self.decode_time;
        let end = u64::from(duration)
            .checked_mul(u64::from(count))
            .and_then(|ticks| ticks.checked_add(first))
            .filter(|end| *end <= i64::MAX as u64 / 4)
            .ok_or(overflow)?;
        // Below a quarter of the range, as is every decode time: neither sum overflows.
        let composition_offset_wide = i64::from(composition_offset);
        self.composition_min = self.composition_min.min(first as i64 + composition_offset_wide);
        self.composition_end = self.composition_end.max(end as i64 + composition_offset_wide);
        let mut anchored = self.timed_count.next_multiple_of(EXTENT_SAMPLE_COUNT_MAX);
        while anchored < self.timed_count.saturating_add(count) {
            let ticks = u64::from(duration) * u64::from(anchored - self.timed_count);
            self.decode_anchors.push(first + ticks);
            anchored += EXTENT_SAMPLE_COUNT_MAX;
        }
        self.durations.push_run(duration, count);
        let biased = (composition_offset_wide + COMPOSITION_BIAS) as u32;
        self.compositions.push_run(biased, count);
        self.decode_time = end;
        self.timed_count += count;
        Ok(())
    }

    /// Sample `sample_index` is a sync sample; ascending.
    pub(crate) fn push_sync(&mut self, sample_index: u32) {
        if self.sync.is_empty() {
            if sample_index == self.leading_sync_count {
                self.leading_sync_count += 1;
                return;
            }
            self.sync.extend(0..self.leading_sync_count);
        }
        self.sync.push(sample_index);
    }

    /// The first `count` samples are sync samples.
    pub(crate) fn push_sync_run(&mut self, count: u32) {
        self.leading_sync_count = count;
    }

    /// Greatest end of composition so far, where the first sample is decoded at zero.
    pub(crate) fn composition_end(&self) -> i64 {
        self.composition_end
    }

    /// Smallest composition time so far, where the first sample is decoded at zero.
    pub(crate) fn composition_min(&self) -> i64 {
        self.composition_min
    }

    /// Finishes an index whose first sample is decoded at source time zero and whose presentation time is
    /// `composition time - edit_offset` (source ticks; positive: the first edit's `media_time`; negative: the track
    /// starts late by that much, empty edits included).
    ///
    /// The edit is folded into the times: a late or B-frame-shifted track gets adjusted decode times and composition
    /// offsets and no edit; only samples that would be shown before zero (priming, pre-roll) leave a
    /// [`TrackIndex::media_time`].
    pub fn finish(mut self, edit_offset: i64) -> Result<TrackIndex, IndexError> {
        if self.count == 0 {
            return Err(IndexError::NoSamples);
        }
        debug_assert_eq!(self.count, self.timed_count);
        let all_sync = self.sync.is_empty() && self.leading_sync_count == self.count;
        if self.sync.is_empty() && !all_sync {
            self.sync.extend(0..self.leading_sync_count);
        }
        let overflow = IndexError::TimeOverflow {
            sample_index: self.count,
        };
        let presentation_min = self.composition_min.checked_sub(edit_offset).ok_or(overflow.clone())?;
        let first_decode_time = presentation_min.max(0);
        let media_time = presentation_min.saturating_neg().max(0);
        if first_decode_time > i64::MAX / 4 || media_time > i64::MAX / 4 {
            return Err(overflow);
        }
        // presentation = source decode + source offset - edit
        //              = (source decode + first_decode_time) + offset - media_time
        let shift = media_time - edit_offset - first_decode_time;
        let tables_size = self.sync.len() * 4 + self.extents.len() * 12 + self.decode_anchors.len() * 8;
        let columns = [self.sizes, self.durations, self.compositions];
        let columns_size: usize = columns.iter().map(ColumnWriter::size_bytes).sum();
        let mut bytes = Vec::with_capacity(HEADER_SIZE + tables_size + columns_size);
        let header = Header {
            timescale: self.timescale,
            sample_count: self.count,
            first_decode_time: first_decode_time as u64,
            media_time: media_time as u64,
            composition_bias: shift.checked_sub(COMPOSITION_BIAS).ok_or(overflow)?,
            duration: self.decode_time,
            presentation_end: self
                .composition_end
                .saturating_sub(edit_offset)
                .clamp(-i64::MAX / 2, i64::MAX / 2),
            all_sync,
            sync_count: if all_sync { self.count } else { self.sync.len() as u32 },
            extent_count: self.extents.len() as u32,
        };
        header.write(&mut bytes);
        if !header.all_sync {
            for sample_index in &self.sync {
                bytes.extend_from_slice(&sample_index.to_le_bytes());
            }
        }
        for (first_sample, _) in &self.extents {
            bytes.extend_from_slice(&first_sample.to_le_bytes());
        }
        for (_, offset) in &self.extents {
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        for anchor in &self.decode_anchors {
            bytes.extend_from_slice(&anchor.to_le_bytes());
        }
        for column in columns {
            column.write(&mut bytes);
        }
        TrackIndex::of_tables(Bytes::from(bytes))
    }
}

/// Fixed part of a stored index, little-endian.
#[derive(Clone, Copy, Debug)]
struct Header {
    timescale: Timescale,
    sample_count: u32,
    first_decode_time: u64,
    media_time: u64,
    /// Added to a stored composition value gives the composition offset.
    composition_bias: i64,
    /// Sum of sample durations.
    duration: u64,
    /// When the sample that is shown last ends.
    presentation_end: i64,
    all_sync: bool,
    sync_count: u32,
    extent_count: u32,
}

/// First bytes of a stored index; other versions are refused.
pub const MAGIC: [u8; 8] = *b"hwindex3";
const HEADER_SIZE: usize = 72;

impl Header {
    fn write(&self, out: &mut Vec<u8>) {
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

    fn parse(bytes: &[u8]) -> Result<Header, IndexError> {
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
    bytes: Bytes,
    header: Header,
    /// Byte positions of the tables in `bytes`.
    sync_at: usize,
    extent_sample_at: usize,
    extent_offset_at: usize,
    anchor_at: usize,
    sizes: Column,
    durations: Column,
    compositions: Column,
}

impl std::fmt::Debug for TrackIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrackIndex")
            .field("header", &self.header)
            .field("size_bytes", &self.bytes.len())
            .finish()
    }
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
        let extent_count = header.extent_count as usize;
        let sync_at = HEADER_SIZE;
        let sync_size = if header.all_sync {
            0
        } else {
            header.sync_count as usize * 4
        };
        let extent_sample_at = sync_at + sync_size;
        let extent_offset_at = extent_sample_at + extent_count * 4;
        let anchor_at = extent_offset_at + extent_count * 8;
        let columns_at = anchor_at + count.div_ceil(EXTENT_SAMPLE_COUNT_MAX as usize) * 8;
        if columns_at > bytes.len() {
            return Err(IndexError::Damaged {
                offset: bytes.len(),
                what: "tables reach past the end",
            });
        }
        let (sizes, durations_at) = Column::open(&bytes, columns_at, count)?;
        let (durations, compositions_at) = Column::open(&bytes, durations_at, count)?;
        let (compositions, _) = Column::open(&bytes, compositions_at, count)?;
        Ok(TrackIndex {
            header,
            sync_at,
            extent_sample_at,
            extent_offset_at,
            anchor_at,
            sizes,
            durations,
            compositions,
            bytes,
        })
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
            let sample_index = u32_at(&self.bytes, self.sync_at + sync_index as usize * 4);
            if sample_index >= count || previous.is_some_and(|previous| sample_index <= previous) {
                return damaged(self.sync_at, "sync samples out of order");
            }
            previous = Some(sample_index);
        }
        let mut previous = None;
        for extent_index in 0..self.header.extent_count {
            let first_sample = self.extent_first_sample(extent_index);
            let in_order = match previous {
                None => first_sample == 0,
                Some(previous) => {
                    first_sample > previous
                        && first_sample - previous <= EXTENT_SAMPLE_COUNT_MAX
                        && first_sample < count
                }
            };
            if !in_order {
                return damaged(self.extent_sample_at, "extents out of order");
            }
            if self.extent_offset(extent_index) > u64::MAX / 2 {
                return damaged(self.extent_offset_at, "extent offset out of range");
            }
            previous = Some(first_sample);
        }
        if previous.is_some_and(|previous| count - previous > EXTENT_SAMPLE_COUNT_MAX) {
            return damaged(self.extent_sample_at, "last extent too long");
        }
        for anchor_index in 0..(count as usize).div_ceil(EXTENT_SAMPLE_COUNT_MAX as usize) {
            if u64_at(&self.bytes, self.anchor_at + anchor_index * 8) > i64::MAX as u64 / 4 {
                return damaged(self.anchor_at, "decode time out of range");
            }
        }
        self.check_times()
    }

    /// What is stored of times can be derived, and must be what the durations say: segments are cut by it.
    fn check_times(&self) -> Result<(), IndexError> {
        let damaged = |offset, what| Err(IndexError::Damaged { offset, what });
        let count = self.header.sample_count;
        let (mut decode_time, mut first) = (0u64, 0);
        for anchor_index in 0..count.div_ceil(EXTENT_SAMPLE_COUNT_MAX) {
            if u64_at(&self.bytes, self.anchor_at + anchor_index as usize * 8) != decode_time {
                return damaged(self.anchor_at, "decode times are not the sum of durations");
            }
            let stop = count.min(first + EXTENT_SAMPLE_COUNT_MAX);
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

    fn extent_first_sample(&self, extent_index: u32) -> u32 {
        u32_at(&self.bytes, self.extent_sample_at + extent_index as usize * 4)
    }

    fn extent_offset(&self, extent_index: u32) -> u64 {
        u64_at(&self.bytes, self.extent_offset_at + extent_index as usize * 8)
    }

    /// The index as it is stored.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
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
            false => u32_at(&self.bytes, self.sync_at + sync_index as usize * 4),
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
        let anchor = sample_index / EXTENT_SAMPLE_COUNT_MAX;
        u64_at(&self.bytes, self.anchor_at + anchor as usize * 8)
            + self.header.first_decode_time
            + self.durations.sum(anchor * EXTENT_SAMPLE_COUNT_MAX, sample_index)
    }

    /// What samples `range` have in common, and their span, found block by block; a range past the end is cut.
    pub fn span(&self, range: std::ops::Range<u32>) -> Span {
        let end = range.end.min(self.header.sample_count);
        let first = range.start.min(end);
        let mut span = Span::EMPTY;
        if first >= end {
            return span;
        }
        let mut decode_time = self.decode_time_of(first) as i64 - self.header.media_time as i64;
        span.base_decode_time = (decode_time + self.header.media_time as i64) as u64;
        span.first_size = self.sizes.value(first);
        span.first_duration = self.durations.value(first);
        let (mut sizes, mut durations, mut compositions) = ([0; BLOCK], [0; BLOCK], [0; BLOCK]);
        let mut at = first;
        while at < end {
            let block = at as usize / BLOCK;
            let stop = end.min(((block + 1) * BLOCK) as u32);
            let within = at as usize % BLOCK..(stop - 1) as usize % BLOCK + 1;
            match self.sizes.constant(block) {
                Some(size) => {
                    span.sizes_differ |= size != span.first_size;
                    span.size_bytes += u64::from(size) * u64::from(stop - at);
                }
                None => {
                    self.sizes.block(block, &mut sizes);
                    for size in &sizes[within.clone()] {
                        span.sizes_differ |= *size != span.first_size;
                        span.size_bytes = span.size_bytes.wrapping_add(u64::from(*size));
                    }
                }
            }
            match (self.durations.constant(block), self.compositions.constant(block)) {
                (Some(duration), Some(composition)) => {
                    let offset = clamp_offset(i64::from(composition) + self.header.composition_bias);
                    let ticks = i64::from(duration) * i64::from(stop - at);
                    span.durations_differ |= duration != span.first_duration;
                    span.take(offset, decode_time + offset, decode_time + ticks + offset);
                    decode_time += ticks;
                }
                _ => {
                    self.durations.block(block, &mut durations);
                    self.compositions.block(block, &mut compositions);
                    for (duration, composition) in durations[within.clone()].iter().zip(&compositions[within]) {
                        let offset = clamp_offset(i64::from(*composition) + self.header.composition_bias);
                        let shown = decode_time + offset;
                        span.durations_differ |= *duration != span.first_duration;
                        decode_time += i64::from(*duration);
                        span.take(offset, shown, decode_time + offset);
                    }
                }
            }
            at = stop;
        }
        span.sync_count = match self.header.all_sync {
            true => end - first,
            false => self.sync_position(end) - self.sync_position(first),
        };
        span.first_is_sync = self.header.all_sync || self.sync_sample(self.sync_position(first)) == first;
        span
    }

    /// All samples as runs of even times.
    pub fn even_runs(&self) -> impl Iterator<Item = EvenRun> + '_ {
        let count = self.header.sample_count;
        let mut decode_time = self.header.first_decode_time as i64 - self.header.media_time as i64;
        let mut at = 0;
        let (mut durations, mut compositions) = ([0; BLOCK], [0; BLOCK]);
        let mut unpacked = None;
        std::iter::from_fn(move || {
            if at >= count {
                return None;
            }
            let block = at as usize / BLOCK;
            let constant = (self.durations.constant(block), self.compositions.constant(block));
            let (stop, duration, composition) = match constant {
                (Some(duration), Some(composition)) if self.header.all_sync => {
                    (count.min(((block + 1) * BLOCK) as u32), duration, composition)
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

    /// Sizes of samples `range`, in decode order.
    pub fn sizes(&self, range: std::ops::Range<u32>) -> impl Iterator<Item = u32> + '_ {
        let end = range.end.min(self.header.sample_count);
        let mut values = [0; BLOCK];
        let first = range.start.min(end);
        (first..end).map(move |at| {
            if at == first || (at as usize).is_multiple_of(BLOCK) {
                self.sizes.block(at as usize / BLOCK, &mut values);
            }
            values[at as usize % BLOCK]
        })
    }

    /// Samples `range` in decode order; a range past the end is cut.
    pub fn samples(&self, range: std::ops::Range<u32>) -> Samples<'_> {
        let end = range.end.min(self.header.sample_count);
        let first = range.start.min(end);
        let mut samples = Samples {
            index: self,
            next: first,
            end,
            decode_time: 0,
            extent_index: 0,
            next_extent_at: u32::MAX,
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
        let anchor = first / EXTENT_SAMPLE_COUNT_MAX;
        samples.decode_time = u64_at(&self.bytes, self.anchor_at + anchor as usize * 8) + self.header.first_decode_time;
        samples.decode_time += self.durations.sum(anchor * EXTENT_SAMPLE_COUNT_MAX, first);
        samples.extent_index = self.extent_of(first);
        samples.offset = self.extent_offset(samples.extent_index);
        samples.offset += self.sizes.sum(self.extent_first_sample(samples.extent_index), first);
        samples.next_extent_at = self.extent_end(samples.extent_index);
        if !self.header.all_sync {
            samples.next_sync = self.sync_position(first);
            samples.next_sync_at = self.sync_sample(samples.next_sync);
        }
        samples.fill();
        samples
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
        self.sizes.sum(range.start.min(end), end)
    }

    /// The source bytes of samples `range`, in decode order, neighbours merged.
    pub fn extents(&self, range: std::ops::Range<u32>) -> Vec<Extent> {
        let end = range.end.min(self.header.sample_count);
        let mut first = range.start.min(end);
        let mut extents: Vec<Extent> = Vec::new();
        let mut extent_index = self.extent_of(first);
        while first < end {
            let extent_first = self.extent_first_sample(extent_index);
            let last = self.extent_end(extent_index).min(end);
            let offset = self.extent_offset(extent_index) + self.sizes.sum(extent_first, first);
            let size = self.sizes.sum(first, last);
            match extents.last_mut() {
                Some(before) if before.offset + before.size == offset => before.size += size,
                _ if size == 0 => {}
                _ => extents.push(Extent { offset, size }),
            }
            first = last;
            extent_index += 1;
        }
        extents
    }

    /// First sample after the extent.
    fn extent_end(&self, extent_index: u32) -> u32 {
        match extent_index + 1 < self.header.extent_count {
            true => self.extent_first_sample(extent_index + 1),
            false => self.header.sample_count,
        }
    }

    /// Sync sample number `sync_index`, or a number no sample has.
    fn sync_sample(&self, sync_index: u32) -> u32 {
        match sync_index < self.header.sync_count {
            true => u32_at(&self.bytes, self.sync_at + sync_index as usize * 4),
            false => u32::MAX,
        }
    }

    /// The last extent that starts at or before `sample_index`.
    fn extent_of(&self, sample_index: u32) -> u32 {
        let (mut low, mut high) = (0, self.header.extent_count);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.extent_first_sample(middle) <= sample_index {
                true => low = middle,
                false => high = middle,
            }
        }
        low
    }

    /// How many sync samples lie before `sample_index`.
    fn sync_position(&self, sample_index: u32) -> u32 {
        let (mut low, mut high) = (0, self.header.sync_count);
        while low < high {
            let middle = low + (high - low) / 2;
            match u32_at(&self.bytes, self.sync_at + middle as usize * 4) < sample_index {
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

/// Samples of a track in decode order; see [`TrackIndex::samples`].
#[derive(Debug)]
pub struct Samples<'a> {
    index: &'a TrackIndex,
    next: u32,
    end: u32,
    decode_time: u64,
    extent_index: u32,
    next_extent_at: u32,
    offset: u64,
    next_sync: u32,
    next_sync_at: u32,
    /// Columns of the block that `next` lies in.
    sizes: [u32; BLOCK],
    durations: [u32; BLOCK],
    compositions: [u32; BLOCK],
}

impl Samples<'_> {
    fn fill(&mut self) {
        let block = self.next as usize / BLOCK;
        self.index.sizes.block(block, &mut self.sizes);
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
        if self.next == self.next_extent_at {
            self.extent_index += 1;
            self.offset = index.extent_offset(self.extent_index);
            self.next_extent_at = index.extent_end(self.extent_index);
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
        self.offset += u64::from(sample.size);
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
        let good = index.as_bytes().to_vec();
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

    /// Whoever forges an index can not make a track last for ever.
    #[test]
    fn forged_times_are_refused() {
        let index = build(&frames(&[6000; 600]), 6000);
        let good = index.as_bytes().to_vec();
        assert!(TrackIndex::open(Bytes::from(good.clone())).is_ok());
        let check = |at: usize, what: &str| {
            let mut forged = good.clone();
            forged[at + 5] ^= 1;
            let refused = TrackIndex::open(Bytes::from(forged)).map(|_| ());
            assert!(refused.is_err_and(|error| error.to_string().ends_with(what)), "{at}");
        };
        check(40, "duration is not the sum of durations");
        check(64, "the end is not that of the samples");
        for anchor in 0..3 {
            check(
                index.anchor_at + anchor * 8,
                "decode times are not the sum of durations",
            );
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            rows in prop::collection::vec((0u32..200_000, 0u32..5000, -9000i32..9000, any::<bool>(), 0u64..3), 1..700),
            start in 0u32..700, len in 0u32..700,
        ) {
            let mut offset = 0;
            let samples: Vec<NewSample> = rows.iter().map(|(size, duration, composition_offset, sync, gap)| {
                offset += gap * 7;
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
        }
    }
}
