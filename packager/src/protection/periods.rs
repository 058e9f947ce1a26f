//! Where key periods begin: at segment boundaries that all representations share.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::codec::MediaKind;
use crate::crypto::KeyId;
use crate::form::Form;
use crate::presentation::{Presentation, Representation};
use crate::time::{MediaTime, Rounding, Timescale};

/// Boundaries of different representations this near to each other, in milliseconds, are the same: sound is cut between
/// its own frames, the longest of which have 120 ms.
const SHARED_TOLERANCE_MS: i64 = 100;
/// Starts are whole milliseconds: a boundary is meant by one that is so much later.
const START_TOLERANCE_MS: i64 = 1;

/// Which keys hold from which boundary on.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut {
    /// At least one; the first begins at zero.
    pub(super) periods: Vec<CutPeriod>,
    /// By representation.
    pub(super) spans: BTreeMap<String, Numbers>,
}

/// A key period that begins at a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CutPeriod {
    /// Which set of keys; `None` where nothing is encrypted.
    pub(super) set: Option<usize>,
    pub(super) start: MediaTime,
}

/// What a representation has of each period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Number of its first segment there; one past the last where it has none.
    pub(super) first_segments: Vec<u32>,
    /// The period whose header serves it.
    pub(super) headers: Vec<usize>,
}

/// The segments of one playlist by period.
pub(super) struct Spans {
    /// Number of the first segment of each period; none means that all are in the first.
    pub(super) first_numbers: Vec<u32>,
    pub(super) count: u32,
}

impl Spans {
    pub(super) fn segments(&self, period: usize) -> Range<u32> {
        let first = |period: usize| match self.first_numbers.get(period) {
            Some(number) => *number,
            None if period == 0 => 1,
            None => self.count.saturating_add(1),
        };
        first(period)..first(period.saturating_add(1))
    }

    pub(super) fn period_of(&self, number: u32) -> usize {
        let begun = self.first_numbers.partition_point(|first| *first <= number);
        begun.saturating_sub(1)
    }
}

impl Cut {
    /// Cuts the sets of keys that begin at `starts_ms`, and a clear beginning, to the boundaries of `presentation`, whose
    /// time zero is `begins_ms` on the timeline of the starts. Each begins at the first boundary at or after its start
    /// that all representations share; where two fall together the later one holds.
    pub(super) fn of(
        presentation: &Presentation,
        form: Form,
        starts_ms: &[u64],
        clear_lead_ms: u64,
        begins_ms: u64,
        key_of: impl Fn(usize, &str) -> Option<KeyId>,
    ) -> Cut {
        let boundaries = Boundaries::of(presentation, form);
        // (boundary, set), the first at the beginning; `None` is past the end.
        let mut cut: Vec<(usize, Option<usize>)> = Vec::new();
        for (set, start_ms) in starts_ms.iter().enumerate() {
            let first = if set == 0 {
                0
            } else {
                start_ms.saturating_sub(begins_ms)
            };
            match (boundaries.at_or_after(first), cut.last_mut()) {
                (None, _) => break,
                (Some(at), Some(last)) if last.0 >= at => last.1 = Some(set),
                (Some(at), _) => cut.push((at, Some(set))),
            }
        }
        let lead_ms = clear_lead_ms.saturating_sub(begins_ms);
        if let Some(end) = boundaries.at_or_after(lead_ms).filter(|end| *end > 0) {
            let held = cut.iter().rev().find(|(at, _)| *at <= end).and_then(|(_, set)| *set);
            cut.retain(|(at, _)| *at > end);
            cut.splice(0..0, [(0, None), (end, held)]);
        }
        let periods: Vec<CutPeriod> = cut
            .into_iter()
            .map(|(at, set)| CutPeriod {
                set,
                start: boundaries.time(at),
            })
            .collect();
        let spans = presentation.representations.iter().map(|rep| {
            let numbers = Numbers::of(rep, &periods, |set| key_of(set, &rep.id));
            (rep.id.clone(), numbers)
        });
        let spans = spans.collect();
        Cut { periods, spans }
    }
}

impl Numbers {
    fn of(rep: &Representation, periods: &[CutPeriod], key_of: impl Fn(usize) -> Option<KeyId>) -> Numbers {
        let mut first_segments = vec![1];
        for period in periods.iter().skip(1) {
            let first = first_from(rep, period.start);
            first_segments.push(u32::try_from(first + 1).unwrap_or(u32::MAX));
        }
        let key = |period: &CutPeriod| period.set.and_then(&key_of);
        let mut headers: Vec<usize> = Vec::with_capacity(periods.len());
        for (at, period) in periods.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|before| periods.get(before));
            let same = before.is_some_and(|before| key(before) == key(period));
            headers.push(match headers.last() {
                Some(header) if same => *header,
                _ => at,
            });
        }
        // A period without a segment of it needs no header; the next one's may then be its first.
        Numbers {
            first_segments,
            headers,
        }
    }
}

/// The first segment that begins at `start`, or later: 0-based.
fn first_from(rep: &Representation, start: MediaTime) -> usize {
    let table = &rep.segments;
    let earliest = millis_from(start);
    table
        .segments()
        .partition_point(|segment| millis(segment.start, table.timescale()) < earliest)
}

fn millis_from(start: MediaTime) -> i64 {
    start.to_millis(Rounding::Nearest).saturating_sub(SHARED_TOLERANCE_MS)
}

fn millis(ticks: u64, scale: Timescale) -> i64 {
    MediaTime::new(i64::try_from(ticks).unwrap_or(i64::MAX), scale).to_millis(Rounding::Nearest)
}

/// The boundaries of the representation that the others are cut like, and all that are to be cut.
struct Boundaries<'a> {
    times: Vec<MediaTime>,
    carried: Vec<&'a Representation>,
}

impl<'a> Boundaries<'a> {
    fn of(presentation: &'a Presentation, form: Form) -> Boundaries<'a> {
        let carried: Vec<&Representation> = [MediaKind::Video, MediaKind::Audio]
            .into_iter()
            .flat_map(|kind| presentation.carried(form, kind))
            .collect();
        let mut times = vec![MediaTime::from_millis(0)];
        times.extend(carried.first().map(|rep| rep.segments.boundaries()).unwrap_or_default());
        Boundaries { times, carried }
    }

    fn time(&self, at: usize) -> MediaTime {
        self.times.get(at).copied().unwrap_or(MediaTime::from_millis(0))
    }

    /// The first boundary at or after `start_ms` that all share; the first at all in ladders that share none.
    fn at_or_after(&self, start_ms: u64) -> Option<usize> {
        if start_ms == 0 {
            return Some(0);
        }
        let start_ms = i64::try_from(start_ms)
            .unwrap_or(i64::MAX)
            .saturating_sub(START_TOLERANCE_MS);
        let first = self
            .times
            .partition_point(|time| time.to_millis(Rounding::Nearest) < start_ms)
            .max(1);
        let later = first..self.times.len();
        later
            .clone()
            .find(|at| self.carried.iter().all(|rep| is_shared(rep, self.time(*at))))
            .or(later.into_iter().next())
    }
}

/// Whether `rep` begins a segment at `time`, or has nothing there to be cut.
fn is_shared(rep: &Representation, time: MediaTime) -> bool {
    let table = &rep.segments;
    let at = first_from(rep, time);
    match table.segments().get(at) {
        None => table.end().to_millis(Rounding::Nearest) <= time.to_millis(Rounding::Nearest) + SHARED_TOLERANCE_MS,
        Some(_) if at == 0 => true,
        Some(segment) => {
            millis(segment.start, table.timescale())
                <= time.to_millis(Rounding::Nearest).saturating_add(SHARED_TOLERANCE_MS)
        }
    }
}
