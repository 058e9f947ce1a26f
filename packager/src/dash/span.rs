//! What of a presentation one Period shows.

use std::ops::Range;

use crate::presentation::Representation;
use crate::protection::{Protection, SegmentList};
use crate::segment::{Segment, TrickFrame};
use crate::time::{MediaTime, Rounding, Timescale};

/// What of a presentation a Period shows.
#[derive(Clone, Copy)]
pub(super) struct Span<'a> {
    pub(super) protection: Option<&'a Protection>,
    /// Which of its key periods, 0-based.
    pub(super) period: usize,
    /// Where it begins on the presentation's timeline.
    pub(super) start: MediaTime,
    /// Where the next begins.
    pub(super) end: MediaTime,
    /// The presentation has no other Period.
    pub(super) is_only: bool,
}

impl Span<'_> {
    /// `Period@id`
    pub(super) fn id(&self) -> String {
        (self.period + 1).to_string()
    }

    /// Numbers of the segments that lie in it.
    pub(super) fn numbers(&self, rep: &Representation, list: SegmentList) -> Range<u32> {
        match self.protection {
            Some(protection) => protection.segments(rep, list, self.period),
            None => {
                let count = match list {
                    SegmentList::Media => rep.segments.segments().len(),
                    SegmentList::Trick => rep.trick_frames.len(),
                };
                1..u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1)
            }
        }
    }

    /// Its start in ticks of `scale`: what is to be taken from media times (`@presentationTimeOffset`).
    pub(super) fn offset(&self, scale: Timescale) -> u64 {
        u64::try_from(self.start.to_scale(scale, Rounding::Nearest)).unwrap_or(0)
    }

    /// Name of the CMAF header of a representation.
    pub(super) fn header_name(&self, rep: &Representation) -> String {
        match self.protection {
            Some(protection) => protection.header_name(rep, self.period),
            None => "init.mp4".into(),
        }
    }

    /// Whether `rep` goes on from the Period before. Its header must be the same (5.3.2.4): so what is under another key
    /// does not, though its timeline does.
    pub(super) fn goes_on(&self, rep: &Representation) -> bool {
        let (Some(protection), Some(before)) = (self.protection, self.period.checked_sub(1)) else {
            return false;
        };
        let header = |period| protection.header_period(rep, period);
        header(before) == header(self.period) && !protection.segments(rep, SegmentList::Media, before).is_empty()
    }
    /// Its segments of `rep`.
    pub(super) fn segments<'r>(&self, rep: &'r Representation) -> &'r [Segment] {
        let numbers = self.numbers(rep, SegmentList::Media);
        rep.segments.segments().get(indexes(&numbers)).unwrap_or_default()
    }

    /// Its trick-play frames of `rep`.
    pub(super) fn frames<'r>(&self, rep: &'r Representation) -> &'r [TrickFrame] {
        let numbers = self.numbers(rep, SegmentList::Trick);
        rep.trick_frames.get(indexes(&numbers)).unwrap_or_default()
    }
}

/// Positions of what is numbered from 1.
fn indexes(numbers: &Range<u32>) -> Range<usize> {
    let index = |number: u32| number.saturating_sub(1) as usize;
    index(numbers.start)..index(numbers.end)
}
