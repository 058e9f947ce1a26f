//! Builds a [`TrackIndex`] from samples in decode order, one by one or column by column.

use bytes::Bytes;

use super::column::{BLOCK, ColumnWriter};
use super::even::Extremes;
use super::extent::{ExtentWriter, Place};
use super::header::{HEADER_SIZE, Header};
use super::listed::{Listed, SampleTables};
use super::places::{NewSizes, Places};
use super::{ANCHOR_SAMPLE_COUNT, IndexError, NewSample, TrackIndex};
use crate::limits::{SAMPLE_COUNT_MAX, SAMPLE_SIZE_BYTES_MAX};
use crate::time::Timescale;

/// Builds a [`TrackIndex`] from samples in decode order.
#[derive(Debug)]
pub struct IndexWriter {
    timescale: Timescale,
    sizes: ColumnWriter,
    durations: ColumnWriter,
    /// As [`biased`] makes them.
    compositions: ColumnWriter,
    pub(super) extents: ExtentWriter,
    /// Of each 256th sample.
    pub(super) places: Vec<Place>,
    /// Sizes and places of all samples, instead of columns of them.
    pub(super) listed: Option<Listed>,
    decode_time: u64,
    /// When each 256th sample is decoded.
    decode_anchors: Vec<u64>,
    /// Sync samples; empty while all so far are.
    sync: Vec<u32>,
    /// So many samples from the first on are sync samples, while `sync` is empty.
    leading_sync_count: u32,
    pub(super) count: u32,
    /// Samples whose times are known; differs from `count` while columns are pushed one after the other.
    timed_count: u32,
    /// Over all samples: smallest composition time, greatest end of composition.
    composition_min: i64,
    composition_end: i64,
}

/// Composition offsets are stored so much greater, so that they are unsigned.
pub(super) const STORED_BIAS: i64 = 1 << 31;

/// A composition offset as it is stored.
fn biased(composition_offset: i32) -> u32 {
    (composition_offset as u32).wrapping_add(STORED_BIAS as u32)
}

/// The composition offset, as the source has it, that is stored as `value`.
pub(super) fn stored_offset(value: u32) -> i32 {
    value.wrapping_sub(STORED_BIAS as u32) as i32
}

/// Appends little-endian words.
fn write_words<const SIZE: usize>(out: &mut Vec<u8>, words: impl ExactSizeIterator<Item = [u8; SIZE]>) {
    let start = out.len();
    out.resize(start + words.len() * SIZE, 0);
    let (slots, _) = out.split_at_mut(start).1.as_chunks_mut::<SIZE>();
    for (slot, word) in slots.iter_mut().zip(words) {
        *slot = word;
    }
}

impl IndexWriter {
    /// An empty index of a track with `timescale`.
    pub fn new(timescale: Timescale) -> IndexWriter {
        IndexWriter {
            timescale,
            sizes: ColumnWriter::default(),
            durations: ColumnWriter::default(),
            compositions: ColumnWriter::default(),
            extents: ExtentWriter::default(),
            places: Vec::new(),
            listed: None,
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
        self.push_place(sample.offset, sample.size)?;
        self.push_times(sample.duration, sample.composition_offset, 1)?;
        if sample.sync {
            self.push_sync(self.count - 1);
        }
        Ok(())
    }

    fn push_place(&mut self, offset: u64, size: u32) -> Result<(), IndexError> {
        if self.count as usize >= SAMPLE_COUNT_MAX {
            return Err(IndexError::TooManySamples);
        }
        if size > SAMPLE_SIZE_BYTES_MAX {
            return Err(IndexError::SampleTooLarge {
                sample_index: self.count,
                size,
            });
        }
        self.sizes.push(size);
        let end_offset = offset.checked_add(u64::from(size)).ok_or(IndexError::TimeOverflow {
            sample_index: self.count,
        })?;
        self.extents.extend(self.count, offset, end_offset);
        if self.count.is_multiple_of(ANCHOR_SAMPLE_COUNT) {
            self.places.push(self.extents.place(offset));
        }
        self.count += 1;
        Ok(())
    }

    /// Places of samples, at first only their sizes, for sources that list those in one table. With
    /// [`IndexWriter::push_times`] and [`IndexWriter::push_sync`] the same as [`IndexWriter::push`] of each. `None`
    /// where a size or the count is too large.
    pub(crate) fn push_sizes<'a>(&mut self, sizes: NewSizes<'a>) -> Option<Places<'_, 'a>> {
        if self.count as usize + sizes.len() > SAMPLE_COUNT_MAX {
            return None;
        }
        let size_max = match sizes {
            NewSizes::Even(size, count) => {
                self.sizes.push_run(size, count);
                size
            }
            NewSizes::Listed(sizes) => self.sizes.push_listed(sizes),
        };
        (size_max <= SAMPLE_SIZE_BYTES_MAX).then(|| Places::new(self, sizes))
    }

    /// Sizes and places of all samples as the source lists them, of an index that is empty. They are left as they lie until
    /// [`TrackIndex::pack`]. `None` where some sample is empty or too large, does not lie in the first `source_size` bytes,
    /// or they have more than `total_size_max` together.
    pub(crate) fn list(&mut self, tables: SampleTables, source_size: u64, total_size_max: u64) -> Option<()> {
        let listed = Listed::new(tables, source_size, total_size_max)?;
        self.count = listed.sizes().len() as u32;
        self.listed = Some(listed);
        Some(())
    }

    /// Makes room for composition offsets of `count` samples.
    pub(crate) fn reserve_times(&mut self, count: u32) {
        self.compositions.reserve(count);
    }

    /// Times of the next `count` samples, which all last as long and have one composition offset.
    pub(crate) fn push_times(&mut self, duration: u32, composition_offset: i32, count: u32) -> Result<(), IndexError> {
        if count == 0 {
            return Ok(());
        }
        let first = self.push_durations(duration, count)? as i64;
        // Below a quarter of the range, as is every decode time: neither sum overflows.
        let composition_offset_wide = i64::from(composition_offset);
        self.composition_min = self.composition_min.min(first + composition_offset_wide);
        self.composition_end = self
            .composition_end
            .max(self.decode_time as i64 + composition_offset_wide);
        self.compositions.push_run(biased(composition_offset), count);
        Ok(())
    }

    /// Times of the next samples, at most as many as a block has, which all last as long and have these composition
    /// offsets. Returns the earliest composition time among them, where the first sample of all is decoded at zero.
    pub(crate) fn push_even_times(&mut self, duration: u32, composition_offsets: &[i32]) -> Result<i64, IndexError> {
        debug_assert!(composition_offsets.len() <= BLOCK);
        let first = self.push_durations(duration, composition_offsets.len() as u32)? as i64;
        let (earliest, latest) = match Extremes::of_even(duration, composition_offsets, |offset| offset) {
            Some(Extremes { shown, .. }) => (first + i64::from(shown[0]), first + i64::from(shown[1])),
            None => {
                let (mut earliest, mut latest) = (i64::MAX, i64::MIN);
                let mut decode_time = first;
                for composition_offset in composition_offsets {
                    // Far from the ends of the range, as above.
                    let shown = decode_time.wrapping_add(i64::from(*composition_offset));
                    earliest = earliest.min(shown);
                    latest = latest.max(shown);
                    decode_time = decode_time.wrapping_add(i64::from(duration));
                }
                (earliest, latest)
            }
        };
        let mut stored = [0; BLOCK];
        for (slot, composition_offset) in stored.iter_mut().zip(composition_offsets) {
            *slot = biased(*composition_offset);
        }
        self.compositions.push_slice(&stored[..composition_offsets.len()]);
        self.composition_min = self.composition_min.min(earliest);
        self.composition_end = self.composition_end.max(latest.saturating_add(i64::from(duration)));
        Ok(earliest)
    }

    /// The next `count` samples last `duration` each; returns when the first of them is decoded.
    fn push_durations(&mut self, duration: u32, count: u32) -> Result<u64, IndexError> {
        let first = self.decode_time;
        let end = u64::from(duration)
            .checked_mul(u64::from(count))
            .and_then(|ticks| ticks.checked_add(first))
            .filter(|end| *end <= i64::MAX as u64 / 4)
            .ok_or(IndexError::TimeOverflow {
                sample_index: self.timed_count,
            })?;
        let mut anchored = self.timed_count.next_multiple_of(ANCHOR_SAMPLE_COUNT);
        while anchored < self.timed_count.saturating_add(count) {
            let ticks = u64::from(duration) * u64::from(anchored - self.timed_count);
            self.decode_anchors.push(first + ticks);
            anchored += ANCHOR_SAMPLE_COUNT;
        }
        self.durations.push_run(duration, count);
        self.decode_time = end;
        self.timed_count += count;
        Ok(first)
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
        let mut header = Header {
            timescale: self.timescale,
            sample_count: self.count,
            first_decode_time: first_decode_time as u64,
            media_time: media_time as u64,
            composition_bias: shift.checked_sub(STORED_BIAS).ok_or(overflow)?,
            duration: self.decode_time,
            presentation_end: self
                .composition_end
                .saturating_sub(edit_offset)
                .clamp(-i64::MAX / 2, i64::MAX / 2),
            all_sync,
            sync_count: if all_sync { self.count } else { self.sync.len() as u32 },
            extent_count: 0,
        };
        let (durations, compositions) = (self.durations, self.compositions);
        let times_size = durations.size_bytes() + compositions.size_bytes();
        let mut times = Vec::with_capacity(header.sync_size() + header.anchor_count() * size_of::<u64>() + times_size);
        if !header.all_sync {
            let sync = self.sync.iter().map(|sample_index| sample_index.to_le_bytes());
            write_words(&mut times, sync);
        }
        write_words(
            &mut times,
            self.decode_anchors.iter().map(|anchor| anchor.to_le_bytes()),
        );
        let columns_at = times.len();
        durations.write(&mut times);
        compositions.write(&mut times);
        if let Some(listed) = self.listed {
            return TrackIndex::of_listed(header, Bytes::from(times), listed);
        }
        header.extent_count = self.extents.count();
        let (sync_and_anchors, columns) = times.split_at(columns_at);
        let stored = Stored {
            header,
            sync_and_anchors,
            places: &self.places,
            sizes: self.sizes,
            times: columns,
            extents: self.extents,
        };
        TrackIndex::of_tables(stored.write())
    }
}

/// Parts of a stored index.
struct Stored<'a> {
    header: Header,
    sync_and_anchors: &'a [u8],
    places: &'a [Place],
    sizes: ColumnWriter,
    times: &'a [u8],
    extents: ExtentWriter,
}

impl Stored<'_> {
    fn write(self) -> Bytes {
        let extents = self.extents.finish(self.header.sample_count);
        let extents_size: usize = extents.iter().map(ColumnWriter::size_bytes).sum();
        let places_size = size_of_val(self.places);
        let tables_size = self.sync_and_anchors.len() + places_size + self.sizes.size_bytes() + self.times.len();
        let mut bytes = Vec::with_capacity(HEADER_SIZE + tables_size + extents_size);
        self.header.write(&mut bytes);
        bytes.extend_from_slice(self.sync_and_anchors);
        write_words(&mut bytes, self.places.iter().copied().map(Place::to_bytes));
        self.sizes.write(&mut bytes);
        bytes.extend_from_slice(self.times);
        for column in extents {
            column.write(&mut bytes);
        }
        Bytes::from(bytes)
    }
}

/// `index` as it is stored, sizes and places of which are `listed`.
pub(super) fn pack(index: &TrackIndex, listed: &Listed) -> Result<TrackIndex, IndexError> {
    let mut writer = IndexWriter::new(index.header.timescale);
    let damaged = IndexError::Damaged {
        offset: 0,
        what: "chunks are not those of the samples",
    };
    let mut places = writer
        .push_sizes(NewSizes::Listed(listed.sizes()))
        .ok_or(damaged.clone())?;
    for (offset, count) in listed.chunks() {
        places.push(offset, count).ok_or(damaged.clone())?;
    }
    places.finish().ok_or(damaged)?;
    let stored = Stored {
        header: Header {
            extent_count: writer.extents.count(),
            ..index.header
        },
        sync_and_anchors: &[&index.sync[..], &index.anchors[..]].concat(),
        places: &writer.places,
        sizes: writer.sizes,
        times: &index.times,
        extents: writer.extents,
    };
    TrackIndex::of_tables(stored.write())
}
