//! Segment timelines: runs of equal segments, and whether one duration describes them all.

use super::xml::XmlWriter;
use crate::time::Timescale;

/// Segments in a row that follow each other without a gap and last equally long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: u64,
    duration: u64,
    count: u64,
}

/// (start, duration) of each segment as runs, in order.
fn runs(rows: impl Iterator<Item = (u64, u64)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (start, duration) in rows {
        match runs.last_mut() {
            Some(last) if last.duration == duration && last.start + last.duration * last.count == start => {
                last.count += 1
            }
            _ => runs.push(Run {
                start,
                duration,
                count: 1,
            }),
        }
    }
    runs
}

/// Writes a `SegmentTimeline` (ISO/IEC 23009-1 5.3.9.6). `@t` stands only where it does not follow from what came
/// before.
pub(super) fn write(w: &mut XmlWriter, rows: impl Iterator<Item = (u64, u64)>) {
    w.element("SegmentTimeline").children(|w| {
        let mut expected = None;
        for run in runs(rows) {
            let mut tag = w.element("S");
            if expected != Some(run.start) {
                tag = tag.number("t", run.start);
            }
            tag = tag.number("d", run.duration);
            if run.count > 1 {
                tag = tag.number("r", run.count - 1);
            }
            tag.empty();
            expected = Some(run.start + run.duration * run.count);
        }
    });
}

/// The one duration that tells a player where segment n is, to within half of it (ISO/IEC 23009-1 7.2.1), and how many
/// segments there are in a period of `period_micros`, which is all it has to count them by (5.3.9.5.3); `None` when no
/// such duration exists.
pub(super) fn nominal_duration(rows: &[(u64, u64)], timescale: Timescale, period_micros: u64) -> Option<u64> {
    let (last_start, _) = *rows.last()?;
    let count = rows.len() as u64;
    let wanted = match count - 1 {
        0 => rows.first()?.1,
        intervals => last_start / intervals,
    };
    // In millionths of a tick: the period need not end on a tick of this track.
    let period = u128::from(period_micros) * u128::from(timescale.get());
    let micro_ticks = |segments: u64, duration: u64| u128::from(segments) * u128::from(duration) * 1_000_000;
    let least = u64::try_from(period.div_ceil(u128::from(count) * 1_000_000)).ok()?;
    let duration = wanted.max(least);
    let counts = micro_ticks(count - 1, duration) < period;
    let fits = (0u64..)
        .zip(rows)
        .all(|(before, (start, _))| start.abs_diff(before * duration) * 2 <= duration);
    // What `@duration` can say is an xs:unsignedInt.
    let writable = duration > 0 && u32::try_from(duration).is_ok();
    (writable && counts && fits).then_some(duration)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_neighbours_merge() {
        let rows = [(0, 4), (4, 4), (8, 4), (12, 3), (20, 3), (23, 4)];
        let merged: Vec<_> = runs(rows.into_iter())
            .iter()
            .map(|run| (run.start, run.duration, run.count))
            .collect();
        assert_eq!(merged, [(0, 4, 3), (12, 3, 1), (20, 3, 1), (23, 4, 1)]);
    }

    #[test]
    fn one_duration_describes_even_segments_only() {
        let check = |rows: &[(u64, u64)], period_micros, expected| {
            let scale = Timescale::new(1_000).unwrap();
            assert_eq!(
                nominal_duration(rows, scale, period_micros),
                expected,
                "{rows:?} in {period_micros}"
            );
        };
        check(&[(0, 4), (4, 4), (8, 2)], 10_000, Some(4));
        check(&[(0, 4), (4, 40), (44, 4)], 48_000, None);
        check(&[(0, 3)], 3_000, Some(3));
        check(&[], 3_000, None);
        check(&[(0, 1 << 32)], 1 << 42, None);
    }

    /// Players ask for as many segments as cover the period: one too many would not be there.
    #[test]
    fn one_duration_counts_the_segments_of_the_period() {
        let check = |rows: &[(u64, u64)], period_micros, expected| {
            let scale = Timescale::new(1_000).unwrap();
            assert_eq!(
                nominal_duration(rows, scale, period_micros),
                expected,
                "{rows:?} in {period_micros}"
            );
        };
        check(&[(0, 5), (5, 4), (9, 5), (14, 1)], 15_000, Some(4));
        // Another track is longer, or starts earlier.
        check(&[(0, 30)], 32_000, Some(32));
        check(&[(2, 30)], 32_000, Some(32));
        check(&[(0, 40), (40, 42)], 82_000, Some(41));
        // The period ends between two ticks.
        check(&[(0, 30)], 30_001, Some(31));
        check(&[(0, 30)], 29_999, Some(30));
        // A track that ends long before the period does.
        check(&[(0, 40), (40, 40)], 200_000, None);
        // One that starts long after it.
        check(&[(60, 10)], 70_000, None);
        // Fewer segments than these cover the period.
        check(&[(0, 40), (40, 1)], 40_000, None);
    }

    proptest! {
        #[test]
        fn timelines_expand_to_what_they_were(rows in prop::collection::vec((1u64..5, 0u64..2), 1..50)) {
            let mut at = 0;
            let rows: Vec<(u64, u64)> = rows.into_iter().map(|(duration, gap)| {
                at += gap * 10;
                let row = (at, duration);
                at += duration;
                row
            }).collect();
            let expanded: Vec<(u64, u64)> = runs(rows.iter().copied())
                .iter()
                .flat_map(|run| (0..run.count).map(|n| (run.start + n * run.duration, run.duration)))
                .collect();
            prop_assert_eq!(expanded, rows);
        }
    }
}
