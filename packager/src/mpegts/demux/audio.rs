//! An audio track: frames found in the elementary stream, one sample each, in ticks of the sampling rate.
//!
//! The first time stamp places the first frame; from there frames follow each other without rounding for as long as
//! later time stamps agree. A time stamp that is off by more than [`TOLERANCE_PER_SECOND`] of a second moves the track:
//! forward over a gap, or back, where frames are left out until there is room for them again.

use std::collections::VecDeque;

use super::coding::Coding;
use super::frames::{Format, Found, Frame, FrameReader};
use super::timeline::Stamp;
use super::{Reason, Sample};
use crate::isobmff::sample_entry::TrackFacts;
use crate::time::{Rounding, Timescale, rescale};
use crate::track::TrackDescription;

/// 1/250 s, 4 ms: well above the rounding of time stamps to 90 kHz or to milliseconds, and nothing anyone sees.
const TOLERANCE_PER_SECOND: i64 = 250;

/// PES packets whose first frame has not begun; more are not waited for.
const MARK_COUNT_MAX: usize = 64;

/// Longest run of bytes held while no frame is complete; AC-3 and its siblings stay below 64 KiB.
const HELD_SIZE_MAX: usize = 128 << 10;

/// One audio stream under way.
pub(super) struct AudioTrack {
    facts: TrackFacts,
    reader: FrameReader,
    held: Vec<u8>,
    /// Bytes of `held` that are done with.
    at: usize,
    /// Bytes of the stream before `held`.
    position: u64,
    /// A frame starts at `at`, as the one before it or its PES packet said.
    locked: bool,
    /// Presentation times of PES packets, by where their data starts.
    marks: VecDeque<(u64, i64)>,
    clock: Option<Clock>,
    description: Option<TrackDescription>,
    left_out: LeftOut,
}

/// What the first frame said, and where the track stands since.
struct Clock {
    format: Format,
    scale: Timescale,
    /// When the next frame is due by the stream's time stamps; `None` before the first.
    due: Option<i64>,
    /// Where what has been given ends.
    given: Option<i64>,
}

/// What is not passed on, counted.
#[derive(Default)]
struct LeftOut {
    bytes: u64,
    overlapping: u64,
    other_format: u64,
    without_time: u64,
}

impl AudioTrack {
    pub(super) fn new(coding: Coding, facts: TrackFacts) -> AudioTrack {
        AudioTrack {
            facts,
            reader: FrameReader::new(coding),
            held: Vec::new(),
            at: 0,
            position: 0,
            locked: false,
            marks: VecDeque::new(),
            clock: None,
            description: None,
            left_out: LeftOut::default(),
        }
    }

    pub(super) fn take_description(&mut self) -> Option<TrackDescription> {
        self.description.take()
    }

    pub(super) fn end_90k(&self) -> Option<i64> {
        let clock = self.clock.as_ref()?;
        Some(rescale(
            clock.given?,
            clock.scale,
            Timescale::MPEG_TS,
            Rounding::Nearest,
        ))
    }

    pub(super) fn held_size(&self) -> usize {
        self.held.len()
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let counted = [
            (self.left_out.bytes, "bytes between frames are left out"),
            (
                self.left_out.overlapping,
                "frames overlap with what came before, and are left out",
            ),
            (
                self.left_out.other_format,
                "frames have another sampling rate or layout than the first, and are left out",
            ),
            (
                self.left_out.without_time,
                "frames before the first time stamp are left out",
            ),
        ];
        let counted = counted.iter().filter(|(count, _)| *count > 0);
        counted.map(|(count, what)| format!("{count} {what}")).collect()
    }

    pub(super) fn stamp(&mut self, stamp: Stamp) {
        if let Some(times) = stamp.times {
            if self.marks.len() >= MARK_COUNT_MAX {
                self.marks.pop_front();
            }
            let end = self.position + self.held.len() as u64;
            self.marks.push_back((end, times.presentation_90k));
        }
    }

    pub(super) fn data(&mut self, bytes: &[u8], samples: &mut Vec<Sample>) -> Result<(), Reason> {
        self.held.extend_from_slice(bytes);
        self.frames(false, samples)
    }

    /// The frame under way will not be completed.
    pub(super) fn gap(&mut self, samples: &mut Vec<Sample>) -> Result<(), Reason> {
        self.frames(true, samples)?;
        self.position += self.held.len() as u64;
        self.held.clear();
        self.locked = false;
        Ok(())
    }

    pub(super) fn finish(&mut self, samples: &mut Vec<Sample>) -> Result<(), Reason> {
        self.gap(samples)
    }

    /// Gives the frames that are complete; `at_end` also one whose end nothing behind it confirms.
    fn frames(&mut self, at_end: bool, samples: &mut Vec<Sample>) -> Result<(), Reason> {
        let held = std::mem::take(&mut self.held);
        let mut result = Ok(());
        while result.is_ok() {
            let rest = held.get(self.at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let position = self.position + self.at as u64;
            // PES packets of most muxers start with a frame, which helps where one is looked for.
            let locked = self.locked || self.marks.iter().any(|(at, _)| *at == position);
            match self.reader.find(rest, locked, at_end) {
                Found::Frame(size) => {
                    let bytes = rest.get(..size).unwrap_or(rest);
                    self.locked = true;
                    self.at += bytes.len().max(1);
                    result = self.frame(position, bytes, samples);
                }
                Found::Nothing(size) => {
                    self.locked = false;
                    self.left_out.bytes += size.max(1) as u64;
                    self.at += size.max(1);
                }
                Found::Short if rest.len() > HELD_SIZE_MAX => {
                    self.locked = false;
                    self.left_out.bytes += 1;
                    self.at += 1;
                }
                Found::Short => break,
            }
        }
        self.held = held;
        let done = self.at.min(self.held.len());
        self.held.drain(..done);
        self.position += done as u64;
        self.at = 0;
        result
    }

    fn frame(&mut self, position: u64, bytes: &[u8], samples: &mut Vec<Sample>) -> Result<(), Reason> {
        let mut mark_90k = None;
        while let Some((_, presentation_90k)) = self.marks.pop_front_if(|(at, _)| *at <= position) {
            mark_90k = Some(presentation_90k);
        }
        let frames = self.reader.take(bytes)?;
        for frame in frames {
            self.sample(frame, mark_90k.take(), samples)?;
        }
        Ok(())
    }

    fn sample(&mut self, frame: Frame, mark_90k: Option<i64>, samples: &mut Vec<Sample>) -> Result<(), Reason> {
        if self.clock.is_none() {
            let scale = Timescale::new(frame.format.sampling_rate).ok_or("its sampling rate is zero")?;
            self.facts.timescale = scale;
            self.description = Some(self.reader.describe(&self.facts)?);
            self.clock = Some(Clock {
                format: frame.format,
                scale,
                due: None,
                given: None,
            });
        }
        let Some(clock) = &mut self.clock else {
            return Ok(());
        };
        if clock.format != frame.format {
            self.left_out.other_format += 1;
            return Ok(());
        }
        let Some(time) = clock.place(mark_90k, frame.duration) else {
            match clock.due {
                None => self.left_out.without_time += 1,
                Some(_) => self.left_out.overlapping += 1,
            }
            return Ok(());
        };
        samples.push(Sample {
            presentation_time: time,
            decode_time: time,
            duration: Some(frame.duration),
            sync: true,
            data: frame.data,
        });
        Ok(())
    }
}

impl Clock {
    /// When a frame is presented, `None` if there is no time or no room for it.
    fn place(&mut self, mark_90k: Option<i64>, duration: u32) -> Option<i64> {
        let tolerance = i64::from(self.scale.get()) / TOLERANCE_PER_SECOND;
        if let Some(mark_90k) = mark_90k {
            let mark = rescale(mark_90k, Timescale::MPEG_TS, self.scale, Rounding::Nearest);
            if self.due.is_none_or(|due| due.abs_diff(mark) > tolerance.unsigned_abs()) {
                self.due = Some(mark);
            }
        }
        let due = self.due?;
        let given = self.given.unwrap_or(due);
        if due < given.saturating_sub(tolerance) {
            self.due = Some(due.saturating_add(i64::from(duration)));
            return None;
        }
        let time = due.max(given);
        let end = time.saturating_add(i64::from(duration));
        self.due = Some(end);
        self.given = Some(end);
        Some(time)
    }
}
