//! Times of a coded track: from nanoseconds as a decoder gave them to exact ticks. Pure.
//!
//! Decode times follow from presentation times alone: within closed GOPs the n-th picture decoded takes the place of the
//! n-th picture shown, so the durations are those of what is seen and composition offsets say the rest. What an encoder
//! calls its decode time is not asked.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use packager::time::Timescale;

use crate::table::CodedSample;

/// Times of one sample, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleTime {
    /// Until the next one is decoded.
    pub duration: u32,
    /// Presentation minus decode time.
    pub composition_offset: i32,
}

/// All times of a video track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackTimes {
    /// What a tick is.
    pub timescale: Timescale,
    /// When the first picture is shown, in ticks.
    pub start: i64,
    /// One a sample, in decode order.
    pub samples: Vec<SampleTime>,
    /// Times were brought to the grid of a constant rate.
    pub constant_rate: bool,
}

/// Why times make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// There is no picture.
    #[error("not one picture in it")]
    Empty,
    /// A picture is further from its neighbours than a track can say.
    #[error("a gap of more than {0} s between pictures")]
    Gap(u64),
}

/// How far a picture may be from the grid of the stated rate before the rate counts as variable: containers that count
/// milliseconds are up to one off.
const GRID_TOLERANCE_NS: i64 = 1_600_000;
/// Ticks a second where there is no rate.
const SCALE_VARIABLE: Timescale = Timescale::MPEG_TS;
/// Ticks a second are at least this, so that other tracks' times are near one.
const SCALE_MIN: u32 = 10_000;

/// Times of `samples` in decode order; `frame_rate` is what the source states, if it does.
pub fn of_video(samples: &[CodedSample], frame_rate: Option<(u32, u32)>) -> Result<TrackTimes, TimingError> {
    let mut shown: Vec<i64> = samples.iter().map(|sample| sample.presentation_ns).collect();
    shown.sort_unstable();
    let first = *shown.first().ok_or(TimingError::Empty)?;
    let grid = frame_rate.and_then(|rate| Grid::of(rate, first, &shown));
    let (timescale, ticks_of): (Timescale, Box<dyn Fn(i64) -> i64>) = match grid {
        Some(grid) => (grid.timescale, Box::new(move |time| grid.ticks(time))),
        None => (SCALE_VARIABLE, Box::new(|time| ticks(time, SCALE_VARIABLE))),
    };
    // Two pictures at one tick would make a sample without duration: the later one moves.
    let mut times: Vec<i64> = Vec::with_capacity(shown.len());
    for time in &shown {
        let tick = ticks_of(*time);
        times.push(times.last().map_or(tick, |last: &i64| tick.max(last + 1)));
    }
    let last_duration = match (grid, samples.iter().max_by_key(|sample| sample.presentation_ns)) {
        (Some(grid), _) => i64::from(grid.frame_ticks),
        (None, Some(last)) if last.duration_ns > 0 => {
            ticks(i64::try_from(last.duration_ns).unwrap_or(i64::MAX), timescale)
        }
        _ => match times.as_slice() {
            [.., before, last] => last - before,
            _ => i64::from(timescale.get()) / 25,
        },
    };
    let gap = TimingError::Gap(u64::from(u32::MAX / timescale.get()));
    // Where each stands in the order of showing; of equal times the one decoded first.
    let mut order: Vec<(i64, usize)> = samples.iter().map(|sample| sample.presentation_ns).zip(0..).collect();
    order.sort_unstable();
    let mut presentations = vec![0; samples.len()];
    for ((_, sample_index), time) in order.iter().zip(&times) {
        if let Some(presentation) = presentations.get_mut(*sample_index) {
            *presentation = *time;
        }
    }
    let mut made = Vec::with_capacity(samples.len());
    let mut next = times.iter().skip(1);
    for (presentation, decode) in presentations.into_iter().zip(&times) {
        let duration = next.next().map_or(last_duration, |next| next - decode).max(1);
        made.push(SampleTime {
            duration: u32::try_from(duration).map_err(|_| gap.clone())?,
            composition_offset: i32::try_from(presentation - decode).map_err(|_| gap.clone())?,
        });
    }
    Ok(TrackTimes {
        timescale,
        start: times.first().copied().unwrap_or(0),
        samples: made,
        constant_rate: grid.is_some(),
    })
}

impl TrackTimes {
    /// Shows the first picture from `start` on, in ticks, where that is earlier, and all others when they were. False where
    /// another one is decoded first, whose place it would take, and where the gap is too long for a track.
    pub fn begin_at(&mut self, start: i64) -> bool {
        let Some(first) = self.samples.first_mut().filter(|first| first.composition_offset == 0) else {
            return false;
        };
        let earlier = self.start.saturating_sub(start).max(0);
        let Some(duration) = u32::try_from(earlier)
            .ok()
            .and_then(|earlier| first.duration.checked_add(earlier))
        else {
            return false;
        };
        first.duration = duration;
        self.start -= earlier;
        true
    }
}

/// Rates that films have, in pictures a second.
const RATES: [(u32, u32); 14] = [
    (24_000, 1_001),
    (24, 1),
    (25, 1),
    (30_000, 1_001),
    (30, 1),
    (48, 1),
    (50, 1),
    (60_000, 1_001),
    (60, 1),
    (12, 1),
    (15, 1),
    (10, 1),
    (100, 1),
    (120, 1),
];

/// The rate on whose grid pictures shown at `times_ns` lie: one that films have, before what they are on average, which is
/// given too where there is no grid. `None` for less than two pictures.
pub fn rate_of(mut times_ns: Vec<i64>) -> Option<(u32, u32)> {
    times_ns.sort_unstable();
    let (first, last) = (*times_ns.first()?, *times_ns.last()?);
    let span = u128::try_from(last.checked_sub(first)?).ok().filter(|span| *span > 0)?;
    let count = times_ns.len() as u128 - 1;
    // In thousandths of a picture a second.
    let average = u32::try_from((count * 1_000_000_000_000 + span / 2) / span)
        .ok()
        .filter(|rate| *rate > 0)?;
    let mut near: Vec<_> = RATES
        .iter()
        .map(|rate| ((rate.0 * 1_000 / rate.1).abs_diff(average), *rate))
        // Pictures may be missing.
        .filter(|(off, _)| *off <= average / 20)
        .collect();
    near.sort_unstable();
    let on_grid = |rate: &(u32, u32)| Grid::of(*rate, first, &times_ns).is_some();
    let known = near.into_iter().map(|(_, rate)| rate).find(on_grid);
    let divisor = greatest_common_divisor(average, 1_000);
    known.or(Some((average / divisor, 1_000 / divisor)))
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    match b {
        0 => a.max(1),
        _ => greatest_common_divisor(b, a % b),
    }
}

/// Nanoseconds in ticks, to the nearest.
pub fn ticks(time_ns: i64, timescale: Timescale) -> i64 {
    const NS: i128 = 1_000_000_000;
    let doubled = i128::from(time_ns) * i128::from(timescale.get()) * 2 + NS;
    i64::try_from(doubled.div_euclid(NS * 2)).unwrap_or(0)
}

/// Instants of a constant rate.
#[derive(Clone, Copy)]
struct Grid {
    timescale: Timescale,
    frame_ticks: u32,
    rate: (u32, u32),
    first_ns: i64,
    first_ticks: i64,
}

impl Grid {
    /// The grid of `rate` from the first picture on, if every picture lies on it and no two at one place.
    fn of(rate: (u32, u32), first_ns: i64, shown: &[i64]) -> Option<Grid> {
        let (numerator, denominator) = rate;
        if numerator == 0 || denominator == 0 {
            return None;
        }
        let factor = SCALE_MIN.div_ceil(numerator);
        let timescale = Timescale::new(numerator.checked_mul(factor)?)?;
        let grid = Grid {
            timescale,
            frame_ticks: denominator.checked_mul(factor)?,
            rate,
            first_ns,
            first_ticks: ticks(first_ns, timescale),
        };
        let tolerance = GRID_TOLERANCE_NS.min(grid.instant(1) / 4);
        let mut last = -1;
        for time in shown {
            let place = grid.place(*time);
            let off = time.checked_sub(first_ns)?.checked_sub(grid.instant(place))?.abs();
            if off > tolerance || place <= last {
                return None;
            }
            last = place;
        }
        Some(grid)
    }

    /// Nanoseconds from the first picture to the one at `place`.
    fn instant(&self, place: i64) -> i64 {
        let (numerator, denominator) = self.rate;
        let ns = i128::from(place) * i128::from(denominator) * 1_000_000_000 / i128::from(numerator);
        i64::try_from(ns).unwrap_or(i64::MAX)
    }

    /// The place nearest to `time`.
    fn place(&self, time_ns: i64) -> i64 {
        let (numerator, denominator) = self.rate;
        let since = i128::from(time_ns) - i128::from(self.first_ns);
        let frame = i128::from(denominator) * 1_000_000_000;
        let doubled = since * i128::from(numerator) * 2 + frame;
        i64::try_from(doubled.div_euclid(frame * 2)).unwrap_or(0)
    }

    fn ticks(&self, time_ns: i64) -> i64 {
        let ticks = i128::from(self.place(time_ns)) * i128::from(self.frame_ticks) + i128::from(self.first_ticks);
        i64::try_from(ticks).unwrap_or(0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn samples(times_ns: &[i64]) -> Vec<CodedSample> {
        let sample = |presentation_ns: &i64| CodedSample {
            presentation_ns: *presentation_ns,
            duration_ns: 40_000_000,
            size: 1,
            sync: false,
        };
        times_ns.iter().map(sample).collect()
    }

    fn check(times_ms: &[i64], rate: Option<(u32, u32)>, scale: u32, expected: &[(u32, i32)]) {
        let times_ns: Vec<i64> = times_ms.iter().map(|ms| ms * 1_000_000).collect();
        let times = of_video(&samples(&times_ns), rate).unwrap();
        let rows: Vec<_> = times
            .samples
            .iter()
            .map(|row| (row.duration, row.composition_offset))
            .collect();
        assert_eq!(
            (times.timescale.get(), rows.as_slice()),
            (scale, expected),
            "{times_ms:?}"
        );
    }

    #[test]
    fn a_constant_rate_is_exact() {
        check(&[0, 40, 80], Some((25, 1)), 10_000, &[(400, 0); 3]);
        // Milliseconds of 23.976 Hz, with B-frames: I0 P3 B1 B2.
        check(
            &[0, 125, 42, 83],
            Some((24_000, 1_001)),
            24_000,
            &[(1_001, 0), (1_001, 2_002), (1_001, -1_001), (1_001, -1_001)],
        );
        // A picture is missing: the one before it stays longer.
        check(&[0, 40, 120], Some((25, 1)), 10_000, &[(400, 0), (800, 0), (400, 0)]);
    }

    #[test]
    fn rates_are_recognised() {
        let check = |times_ms: &[i64], expected| {
            let times = times_ms.iter().map(|ms| ms * 1_000_000).collect();
            assert_eq!(rate_of(times), expected, "{times_ms:?}");
        };
        check(&[0, 40, 80, 120], Some((25, 1)));
        check(&[0, 42, 83, 125, 167, 208], Some((24, 1)));
        check(&[80, 0, 160, 40, 120], Some((25, 1)));
        check(&[0, 17, 33, 50, 67, 83, 100], Some((60, 1)));
        // One is missing.
        let missing: Vec<i64> = (0..100)
            .filter(|number| *number != 50)
            .map(|number| number * 40)
            .collect();
        check(&missing, Some((25, 1)));
        check(&[0, 30, 80, 90], Some((33_333, 1_000)));
        check(&[0, 1_000, 2_000], Some((1, 1)));
        check(&[7], None);
        check(&[7, 7], None);
        check(&[], None);
    }

    #[test]
    fn a_variable_rate_is_kept() {
        check(
            &[0, 30, 80],
            Some((25, 1)),
            90_000,
            &[(2_700, 0), (4_500, 0), (3_600, 0)],
        );
        check(&[0, 30], None, 90_000, &[(2_700, 0), (3_600, 0)]);
        check(&[5, 5, 5], None, 90_000, &[(1, 0), (1, 0), (3_600, 0)]);
        check(&[5], Some((0, 1)), 90_000, &[(3_600, 0)]);
    }

    #[test]
    fn a_late_start_is_kept() {
        let times = of_video(&samples(&[1_500_000_000, 1_540_000_000]), Some((25, 1))).unwrap();
        assert_eq!((times.start, times.constant_rate), (15_000, true));
        assert_eq!(of_video(&[], None), Err(TimingError::Empty));
        let hour = 3_600_000_000_000;
        assert_eq!(of_video(&samples(&[0, hour * 20]), None), Err(TimingError::Gap(47_721)));
    }

    #[test]
    fn the_first_picture_is_shown_earlier_and_no_other() {
        let check = |times_ms: &[i64], start, expected: Option<&[(u32, i32)]>| {
            let times_ns: Vec<i64> = times_ms.iter().map(|ms| ms * 1_000_000).collect();
            let before = of_video(&samples(&times_ns), Some((25, 1))).unwrap();
            let mut times = before.clone();
            assert_eq!(times.begin_at(start), expected.is_some(), "{times_ms:?} {start}");
            let rows: Vec<_> = times
                .samples
                .iter()
                .map(|row| (row.duration, row.composition_offset))
                .collect();
            match expected {
                None => assert_eq!(times, before, "{times_ms:?} {start}"),
                Some(expected) => assert_eq!((times.start, rows.as_slice()), (start.min(before.start), expected)),
            }
        };
        check(&[400, 440, 480], 0, Some(&[(4_400, 0), (400, 0), (400, 0)]));
        check(
            &[400, 520, 440, 480],
            1_000,
            Some(&[(3_400, 0), (400, 800), (400, -400), (400, -400)]),
        );
        check(&[400, 440], 4_000, Some(&[(400, 0), (400, 0)]));
        check(&[400, 440], 9_000, Some(&[(400, 0), (400, 0)]));
        // Another picture is shown before the one that is decoded first.
        check(&[440, 400], 0, None);
        check(&[400, 440], i64::MIN, None);
    }
}
