//! A video track: NAL units put together into access units, one sample each (ITU-T H.264 7.4.1.2, H.265 7.4.2.4).
//!
//! Time stamps belong to the first access unit that begins in their PES packet, wherever PES packets are cut. Access unit
//! delimiters, filler, layers above the base and parameter sets that the configuration has are left out; both fields of
//! a frame make one sample (ISO/IEC 14496-15 5.2.3). Nothing is given before the first picture at which decoding can
//! start, nor pictures that follow it in decoding but are shown before it and refer to what is missing.

use std::collections::VecDeque;

use super::byte_stream::ByteStream;
use super::coding::Coding;
use super::nal::{Leading, NalReader, Picture};
use super::timeline::{Stamp, StampTimes};
use super::{Reason, Sample};
use crate::isobmff::sample_entry::TrackFacts;
use crate::limits::SAMPLE_SIZE_BYTES_MAX;
use crate::track::TrackDescription;

/// PES packets whose first access unit has not begun; more are not waited for.
const MARK_COUNT_MAX: usize = 64;

/// How long a picture lasts while nothing says so: 1/25 s.
const STEP_90K: i64 = 3_600;

/// One video stream under way.
pub(super) struct VideoTrack {
    facts: TrackFacts,
    reader: NalReader,
    bytes: ByteStream,
    /// Stamps of PES packets, by where their data starts.
    marks: VecDeque<(u64, Stamp)>,
    unit: AccessUnit,
    /// A first field that waits for its second.
    first_field: Option<AccessUnit>,
    start: Start,
    last: Option<StampTimes>,
    step_90k: i64,
    description: Option<TrackDescription>,
    left_out: LeftOut,
}

/// Whether decoding has started.
enum Start {
    Waiting,
    /// It has, at a picture shown at this time which the ones after may still refer past.
    Leading {
        presentation_90k: i64,
    },
    Running,
}

/// What is not passed on, counted.
#[derive(Default)]
struct LeftOut {
    before_start: u64,
    leading: u64,
    too_large: u64,
    without_time: u64,
}

/// An access unit under way.
#[derive(Default)]
struct AccessUnit {
    begun: bool,
    stamp: Option<Stamp>,
    /// NAL units behind 4-byte lengths.
    data: Vec<u8>,
    too_large: bool,
    picture: Picture,
}

impl AccessUnit {
    fn append(&mut self, unit: &[u8]) {
        if self.data.len() + unit.len() + 4 > SAMPLE_SIZE_BYTES_MAX as usize {
            self.too_large = true;
            return;
        }
        self.data.extend_from_slice(&(unit.len() as u32).to_be_bytes());
        self.data.extend_from_slice(unit);
    }

    /// Whether `second` is the other field of the frame this is the first field of.
    fn pairs_with(&self, second: &AccessUnit) -> bool {
        match (self.picture.field, second.picture.field) {
            (Some(first), Some(second)) => first.pairs_with(second),
            _ => false,
        }
    }
}

impl VideoTrack {
    pub(super) fn new(coding: Coding, facts: TrackFacts) -> VideoTrack {
        VideoTrack {
            facts,
            reader: NalReader::new(coding),
            bytes: ByteStream::default(),
            marks: VecDeque::new(),
            unit: AccessUnit::default(),
            first_field: None,
            start: Start::Waiting,
            last: None,
            step_90k: STEP_90K,
            description: None,
            left_out: LeftOut::default(),
        }
    }

    pub(super) fn take_description(&mut self) -> Option<TrackDescription> {
        self.description.take()
    }

    pub(super) fn held_size(&self) -> usize {
        let first_field = self.first_field.as_ref().map_or(0, |unit| unit.data.len());
        self.bytes.held_size() + self.unit.data.len() + first_field
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let counted = [
            (
                self.left_out.before_start,
                "pictures before the first at which decoding can start are left out",
            ),
            (
                self.left_out.leading,
                "pictures that refer to before the start are left out",
            ),
            (
                self.left_out.too_large,
                "pictures are larger than any that are served, and left out",
            ),
            (
                self.left_out.without_time,
                "pictures without a time stamp before the first that has one are left out",
            ),
            (
                self.reader.sets().change_count(),
                "parameter sets change midway, and stay in band",
            ),
        ];
        let counted = counted.iter().filter(|(count, _)| *count > 0);
        counted.map(|(count, what)| format!("{count} {what}")).collect()
    }

    pub(super) fn stamp(&mut self, stamp: Stamp) {
        // A packet that says nothing takes nothing from the one before, whose access unit may begin a byte later.
        if stamp.times.is_none() && !stamp.random_access {
            return;
        }
        if self.marks.len() >= MARK_COUNT_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((self.bytes.end(), stamp));
    }

    pub(super) fn data(&mut self, bytes: &[u8], samples: &mut Vec<Sample>) -> Result<(), Reason> {
        let mut stream = std::mem::take(&mut self.bytes);
        stream.push(bytes);
        let mut result = Ok(());
        while let Some(unit) = stream.next() {
            result = self.nal_unit(unit.position, unit.bytes, samples);
            if result.is_err() {
                break;
            }
        }
        stream.compact();
        if stream.held_size() > SAMPLE_SIZE_BYTES_MAX as usize {
            stream.last();
            stream.compact();
            self.unit.too_large = true;
        }
        self.bytes = stream;
        result
    }

    /// What came so far is all there is of it. The access unit is passed on as far as it came.
    pub(super) fn gap(&mut self, samples: &mut Vec<Sample>) -> Result<(), Reason> {
        let mut stream = std::mem::take(&mut self.bytes);
        let result = match stream.last() {
            Some(unit) => self.nal_unit(unit.position, unit.bytes, samples),
            None => Ok(()),
        };
        stream.compact();
        self.bytes = stream;
        result?;
        self.end_unit(samples)
    }

    pub(super) fn finish(&mut self, samples: &mut Vec<Sample>) -> Result<(), Reason> {
        self.gap(samples)?;
        match self.first_field.take() {
            Some(unit) => self.give(unit, samples),
            None => Ok(()),
        }
    }

    fn nal_unit(&mut self, position: u64, bytes: &[u8], samples: &mut Vec<Sample>) -> Result<(), Reason> {
        if self.reader.begins(bytes, &self.unit.picture) {
            self.end_unit(samples)?;
        }
        if !self.unit.begun {
            self.unit.begun = true;
            self.unit.stamp = self.take_mark(position);
        }
        if self.reader.read(bytes, &mut self.unit.picture)? {
            self.unit.append(bytes);
        }
        Ok(())
    }

    fn end_unit(&mut self, samples: &mut Vec<Sample>) -> Result<(), Reason> {
        let unit = std::mem::take(&mut self.unit);
        if !unit.picture.coded {
            return Ok(());
        }
        match self.first_field.take() {
            Some(mut first) if first.pairs_with(&unit) => {
                first.data.extend_from_slice(&unit.data);
                first.too_large |= unit.too_large || first.data.len() > SAMPLE_SIZE_BYTES_MAX as usize;
                return self.give(first, samples);
            }
            Some(first) => self.give(first, samples)?,
            None => {}
        }
        if unit.picture.field.is_some() {
            self.first_field = Some(unit);
            return Ok(());
        }
        self.give(unit, samples)
    }

    fn give(&mut self, unit: AccessUnit, samples: &mut Vec<Sample>) -> Result<(), Reason> {
        let Some(times) = self.times(unit.stamp) else {
            self.left_out.without_time += 1;
            return Ok(());
        };
        if unit.too_large {
            self.left_out.too_large += 1;
            return Ok(());
        }
        let sync = unit
            .picture
            .is_sync(unit.stamp.is_some_and(|stamp| stamp.random_access));
        match self.start {
            Start::Waiting => {
                if !sync || !self.describe()? {
                    self.left_out.before_start += 1;
                    return Ok(());
                }
                self.start = match unit.picture.refresh {
                    true => Start::Running,
                    false => Start::Leading {
                        presentation_90k: times.presentation_90k,
                    },
                };
            }
            Start::Leading { .. } if sync => self.start = Start::Running,
            Start::Leading { presentation_90k } => {
                let lost = match unit.picture.leading {
                    Leading::Skipped => true,
                    Leading::Decodable => false,
                    Leading::Unknown => times.presentation_90k < presentation_90k,
                };
                if lost {
                    self.left_out.leading += 1;
                    return Ok(());
                }
            }
            Start::Running => {}
        }
        samples.push(Sample {
            presentation_time: times.presentation_90k,
            decode_time: times.decode_90k,
            duration: None,
            sync,
            data: unit.data,
        });
        Ok(())
    }

    /// Makes the description, if all parameter sets have come.
    fn describe(&mut self) -> Result<bool, Reason> {
        self.description = self.reader.describe(&self.facts)?;
        Ok(self.description.is_some())
    }

    /// When an access unit is decoded and shown. One without a time stamp goes on from the one before, which is right
    /// where pictures are not reordered; streams that reorder them carry all time stamps (ISO/IEC 13818-1 2.7.5).
    fn times(&mut self, stamp: Option<Stamp>) -> Option<StampTimes> {
        let mut times = match (stamp.and_then(|stamp| stamp.times), self.last) {
            (Some(times), _) => times,
            (None, Some(last)) => {
                let decode_90k = last.decode_90k.saturating_add(self.step_90k);
                StampTimes {
                    presentation_90k: decode_90k,
                    decode_90k,
                }
            }
            (None, None) => return None,
        };
        if let Some(last) = self.last {
            let step_90k = times.decode_90k.saturating_sub(last.decode_90k);
            if (1..=90_000).contains(&step_90k) {
                self.step_90k = step_90k;
            }
            times.decode_90k = times.decode_90k.max(last.decode_90k.saturating_add(1));
        }
        self.last = Some(times);
        Some(times)
    }

    /// The stamp of the last PES packet that starts at or before `position`, unless it has been taken.
    fn take_mark(&mut self, position: u64) -> Option<Stamp> {
        let mut found = None;
        while let Some((_, stamp)) = self.marks.pop_front_if(|(at, _)| *at <= position) {
            found = Some(stamp);
        }
        found
    }
}
