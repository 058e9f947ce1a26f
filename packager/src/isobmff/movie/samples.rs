//! Samples of one track as the file lists them, before its edits: from the header's tables, or gathered from fragments.

use crate::index::{IndexError, IndexWriter, NewSample, Samples, TrackIndex};
use crate::time::Timescale;

use super::edit::TIME_MAX;
use super::table::{SampleTable, TableSamples};

/// All samples of a track in decode order, to be gone through more than once.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum RawSamples<'a> {
    /// Where they lie in `moov`.
    Table(SampleTable<'a>),
    /// Gathered from fragments.
    Gathered {
        index: TrackIndex,
        /// Decode time of the first sample.
        first_decode_time: i64,
    },
}

impl RawSamples<'_> {
    /// Decode time of the first sample.
    pub(super) fn first_decode_time(&self) -> i64 {
        match self {
            RawSamples::Table(_) => 0,
            RawSamples::Gathered { first_decode_time, .. } => *first_decode_time,
        }
    }

    /// At least as many samples as there are.
    pub(super) fn sample_count_max(&self) -> u32 {
        match self {
            RawSamples::Table(table) => table.sample_count(),
            RawSamples::Gathered { index, .. } => index.sample_count(),
        }
    }

    /// In decode order.
    pub(super) fn iter(&self) -> RawIter<'_> {
        match self {
            RawSamples::Table(table) => RawIter::Table(table.iter()),
            RawSamples::Gathered { index, .. } => RawIter::Gathered(index, index.iter()),
        }
    }
}

/// Iterator of [`RawSamples::iter`].
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum RawIter<'a> {
    Table(TableSamples<'a>),
    Gathered(&'a TrackIndex, Samples<'a>),
}

impl Iterator for RawIter<'_> {
    type Item = NewSample;

    fn next(&mut self) -> Option<NewSample> {
        match self {
            RawIter::Table(samples) => samples.next(),
            RawIter::Gathered(index, samples) => {
                let sample = samples.next()?;
                let decode_time = (sample.decode_time - index.first_decode_time()) as i64;
                Some(NewSample {
                    offset: sample.offset,
                    size: sample.size,
                    duration: sample.duration,
                    // Fits: it is what was pushed.
                    composition_offset: (index.presentation_time(&sample) - decode_time) as i32,
                    sync: sample.sync,
                })
            }
        }
    }
}

/// Gathers a track's samples from fragments, closing gaps and overlaps between them.
#[derive(Debug)]
pub(super) struct Gatherer {
    writer: IndexWriter,
    pending: Option<NewSample>,
    first_decode_time: Option<i64>,
    next_decode_time: i64,
}

impl Gatherer {
    pub(super) fn new(timescale: Timescale) -> Gatherer {
        Gatherer {
            writer: IndexWriter::new(timescale),
            pending: None,
            first_decode_time: None,
            next_decode_time: 0,
        }
    }

    /// Whether no sample has come yet.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_none()
    }

    /// The next sample is decoded at `decode_time` (`tfdt`): the sample before lasts until then.
    pub(super) fn seek(&mut self, decode_time: u64) -> Result<(), String> {
        let decode_time = i64::try_from(decode_time)
            .ok()
            .filter(|decode_time| *decode_time <= TIME_MAX)
            .ok_or_else(|| format!("decode time {decode_time} is out of range"))?;
        if let Some(pending) = &mut self.pending {
            let duration = i64::from(pending.duration) + decode_time - self.next_decode_time;
            pending.duration = match u32::try_from(duration) {
                // A sample may last nothing by its own word.
                Ok(duration) if duration > 0 || pending.duration == 0 => duration,
                _ if duration <= 0 => {
                    let overlap = self.next_decode_time - decode_time;
                    return Err(format!(
                        "a fragment at decode time {decode_time} starts {overlap} ticks before the one in front ends"
                    ));
                }
                _ => {
                    return Err(format!(
                        "a gap of {duration} ticks in front of decode time {decode_time}"
                    ));
                }
            };
        }
        self.next_decode_time = decode_time;
        Ok(())
    }

    pub(super) fn push(&mut self, sample: NewSample) -> Result<(), IndexError> {
        self.first_decode_time.get_or_insert(self.next_decode_time);
        self.next_decode_time = self.next_decode_time.saturating_add(i64::from(sample.duration));
        match self.pending.replace(sample) {
            Some(before) => self.writer.push(before),
            None => Ok(()),
        }
    }

    pub(super) fn finish(mut self) -> Result<RawSamples<'static>, IndexError> {
        if let Some(last) = self.pending.take() {
            self.writer.push(last)?;
        }
        Ok(RawSamples::Gathered {
            index: self.writer.finish(0)?,
            first_decode_time: self.first_decode_time.unwrap_or(0),
        })
    }
}
