//! Segment timelines: runs of equal segments, and whether one duration describes them all.

use super::xml::XmlWriter;

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

/// The one duration that tells a player where segment n is, to within half of it (ISO/IEC 23009-1 7.2.1); `None` when
/// no such duration exists.
pub(super) fn nominal_duration(rows: &[(u64, u64)]) -> Option<u64> {
    let (last_start, _) = *rows.last()?;
    let intervals = rows.len() as u64 - 1;
    let duration = match intervals {
        0 => rows.first()?.1,
        _ => last_start / intervals,
    };
    let fits = (0u64..)
        .zip(rows)
        .all(|(before, (start, _))| start.abs_diff(before * duration) * 2 <= duration);
    (duration > 0 && fits).then_some(duration)
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
        let check = |rows: &[(u64, u64)], expected| assert_eq!(nominal_duration(rows), expected, "{rows:?}");
        check(&[(0, 4), (4, 4), (8, 2)], Some(4));
        check(&[(0, 5), (5, 4), (9, 5), (14, 1)], Some(4));
        check(&[(0, 4), (4, 40), (44, 4)], None);
        check(&[(0, 3)], Some(3));
        check(&[], None);
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
