//! Cuts tracks into segments: number ↔ time ↔ samples.
//!
//! Video decides where a presentation is cut: boundaries are sync samples, shared by every rendition that has sync
//! samples at the same instants. Audio and text follow the video's boundaries, audio-only presentations are cut on an
//! even grid. Each segment's start and duration are exact in its own track's ticks, so playlists, MPDs and `tfdt` are
//! written from the same numbers (packaging bugs B4 to B6, B11).

use std::ops::Range;

use crate::index::{Span, TrackIndex};
use crate::time::{MediaTime, Rounding, Timescale, rescale};

/// How long segments should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct SegmentTarget {
    /// Wanted duration, 1,000 to 20,000 ms.
    millis: u32,
}

impl SegmentTarget {
    /// 4 s: two 2 s GOPs, the compromise between request count and start-up that Apple's authoring rules allow.
    pub const DEFAULT: SegmentTarget = SegmentTarget { millis: 4_000 };

    /// `None` outside 1 to 20 s.
    pub fn from_millis(millis: u32) -> Option<SegmentTarget> {
        (1_000..=20_000).contains(&millis).then_some(SegmentTarget { millis })
    }

    /// Wanted duration in milliseconds.
    pub fn millis(self) -> u32 {
        self.millis
    }

    /// A last segment shorter than this joins the one before it (B6).
    fn tail_millis_min(self) -> u32 {
        (self.millis / 4).min(500)
    }
}

/// One segment of one track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Samples in decode order; empty for text made of cues.
    pub samples: Range<u32>,
    /// Earliest presentation time in track ticks, after edits, never below zero.
    pub start: u64,
    /// Ticks to the start of the next segment, or to the end of the last sample.
    pub duration: u64,
}

impl Segment {
    /// First tick after the segment.
    pub fn end(&self) -> u64 {
        self.start + self.duration
    }
}

/// All segments of a track, in order. Segment numbers start at 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentTable {
    timescale: Timescale,
    segments: Vec<Segment>,
}

impl SegmentTable {
    /// Ticks per second of every time here.
    pub fn timescale(&self) -> Timescale {
        self.timescale
    }

    /// The segments, the first of which has number 1.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Segment `number` (1-based), or `None`.
    pub fn get(&self, number: u32) -> Option<&Segment> {
        self.segments.get(number.checked_sub(1)? as usize)
    }

    /// Number of the segment that starts exactly at `start` ticks (`$Time$` addressing).
    pub fn number_at(&self, start: u64) -> Option<u32> {
        let at = self
            .segments
            .binary_search_by_key(&start, |segment| segment.start)
            .ok()?;
        u32::try_from(at + 1).ok()
    }

    /// End of the last segment.
    pub fn end(&self) -> MediaTime {
        MediaTime::new(
            self.segments.last().map_or(0, |segment| segment.end() as i64),
            self.timescale,
        )
    }

    /// Longest segment, in ticks.
    pub fn duration_max(&self) -> u64 {
        self.segments.iter().map(|segment| segment.duration).max().unwrap_or(0)
    }

    /// Start of every segment but the first: where followers of this track are cut.
    pub fn boundaries(&self) -> Vec<MediaTime> {
        self.segments
            .iter()
            .skip(1)
            .map(|segment| MediaTime::new(segment.start as i64, self.timescale))
            .collect()
    }

    /// Cuts video at `boundaries`, which [`choose_boundaries`] chose among its [`sync_times`].
    pub fn of_video(index: &TrackIndex, boundaries: &[MediaTime]) -> SegmentTable {
        Cut::of_video(index, boundaries).0.table
    }

    /// Cuts audio, see [`Cut::of_audio`].
    pub fn of_audio(index: &TrackIndex, boundaries: &[MediaTime], target: SegmentTarget) -> SegmentTable {
        Cut::of_audio(index, boundaries, target).table
    }

    /// Cuts a timeline without samples (text made of cues) from zero to `end` at `boundaries`, in milliseconds.
    pub fn of_cues(boundaries: &[MediaTime], end: MediaTime, target: SegmentTarget) -> SegmentTable {
        let end = end.to_millis(Rounding::Ceil).max(1) as u64;
        let tail_min = u64::from(target.tail_millis_min());
        let mut starts = vec![0u64];
        let given = boundaries
            .iter()
            .map(|boundary| boundary.to_millis(Rounding::Nearest).max(0) as u64);
        for start in given {
            if starts.last().is_some_and(|last| start > *last) && start + tail_min <= end {
                starts.push(start);
            }
        }
        while let Some(next) = starts.last().map(|last| last + u64::from(target.millis))
            && (boundaries.is_empty() || next < end)
            && next + tail_min <= end
        {
            starts.push(next);
        }
        let ends = starts.iter().skip(1).copied().chain([end]);
        let segments = starts
            .iter()
            .zip(ends)
            .map(|(start, end)| Segment {
                samples: 0..0,
                start: *start,
                duration: end - start,
            })
            .collect();
        SegmentTable {
            timescale: Timescale::MILLIS,
            segments,
        }
    }
}

/// A track cut into segments, and what the samples of each have in common.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) table: SegmentTable,
    /// As many as segments.
    pub(crate) spans: Vec<Span>,
}

impl Cut {
    /// Cuts a sample track before each sample in `first_samples` (ascending, without 0). Starts come from the samples:
    /// a segment starts at its earliest presentation time, which for open GOPs lies before its sync sample's.
    fn from_first_samples(index: &TrackIndex, first_samples: &[u32]) -> Cut {
        let mut segments: Vec<Segment> = Vec::with_capacity(first_samples.len() + 1);
        let mut kept: Vec<Span> = Vec::with_capacity(first_samples.len() + 1);
        let firsts = std::iter::once(0).chain(first_samples.iter().copied());
        let stops = first_samples.iter().copied().chain([index.sample_count()]);
        let mut found = index.spans();
        let mut spans = firsts
            .zip(stops)
            .map(|(first, stop)| (first..stop, found.span(first..stop)))
            .peekable();
        while let Some((samples, span)) = spans.next() {
            let end = spans.peek().map_or(span.end, |(_, next)| next.start);
            let start = span.start.max(0);
            let duration = end.saturating_sub(start);
            match segments.last_mut() {
                // Nothing of this span is ever shown (all of it is pre-roll, or its pictures lie before its
                // predecessor's): it belongs to its neighbour, because a segment has a duration.
                Some(last) if duration <= 0 || start as u64 <= last.start => {
                    last.samples.end = samples.end;
                    last.duration = (end.max(0) as u64).saturating_sub(last.start).max(last.duration);
                    if let Some(kept) = kept.last_mut() {
                        *kept = index.span(last.samples.clone());
                    }
                }
                _ => {
                    segments.push(Segment {
                        samples,
                        start: start as u64,
                        duration: duration.max(0) as u64,
                    });
                    kept.push(span);
                }
            }
        }
        // A leading span without duration joins what follows it.
        if segments.len() > 1 && segments[0].duration == 0 {
            let first = segments.remove(0);
            segments[0].samples.start = first.samples.start;
            kept.remove(0);
            kept[0] = index.span(segments[0].samples.clone());
        }
        Cut {
            table: SegmentTable {
                timescale: index.timescale(),
                segments,
            },
            spans: kept,
        }
    }

    /// Cuts video: `boundaries` are [`sync_times`] chosen by [`choose_boundaries`]. Also those of them that segments start
    /// at, which other video of the ladder is to be cut at too.
    pub(crate) fn of_video(index: &TrackIndex, boundaries: &[MediaTime]) -> (Cut, Vec<MediaTime>) {
        let times = sync_times(index);
        let tolerance = sync_tolerance(index);
        let mut first_samples: Vec<u32> = Vec::with_capacity(boundaries.len());
        let mut found: Vec<MediaTime> = Vec::with_capacity(boundaries.len());
        let mut syncs = times.iter().peekable();
        for boundary in boundaries {
            let at = boundary.to_scale(index.timescale(), Rounding::Nearest);
            while syncs.next_if(|(_, time)| *time < at - tolerance).is_some() {}
            if let Some((sample_index, _)) = syncs.next_if(|(_, time)| (*time - at).abs() <= tolerance)
                && *sample_index > 0
            {
                first_samples.push(*sample_index);
                found.push(*boundary);
            }
        }
        let cut = Cut::from_first_samples(index, &first_samples);
        let mut starts = cut.table.segments().iter().skip(1).peekable();
        let kept = first_samples
            .iter()
            .zip(found)
            .filter(|(first, _)| starts.next_if(|segment| segment.samples.start == **first).is_some())
            .map(|(_, boundary)| boundary)
            .collect();
        (cut, kept)
    }

    /// Cuts audio at the samples nearest to `boundaries`; after the last of them, on an even grid. A tail that would be
    /// too short is not cut off.
    pub(crate) fn of_audio(index: &TrackIndex, boundaries: &[MediaTime], target: SegmentTarget) -> Cut {
        let scale = index.timescale();
        let grid = rescale(i64::from(target.millis), Timescale::MILLIS, scale, Rounding::Nearest).max(1);
        let tail_min = rescale(
            i64::from(target.tail_millis_min()),
            Timescale::MILLIS,
            scale,
            Rounding::Floor,
        );
        let end = index.presentation_end();
        let mut cuts = boundaries
            .iter()
            .map(|boundary| boundary.to_scale(scale, Rounding::Nearest))
            .peekable();
        let mut next = cuts.next().unwrap_or(grid);
        let mut first_samples = Vec::new();
        let mut has_shown_sample = false;
        for run in index.even_runs() {
            let duration = i64::from(run.duration);
            let mut at = 0;
            while let Some(position) = run.first_at_or_after(at, next - duration / 2) {
                let time = run.start + duration * i64::from(position);
                // Skip boundaries that this track has already passed (it starts late, or has a gap).
                let mut passed = next;
                while passed <= time + duration / 2 {
                    next = passed;
                    passed = cuts.next().unwrap_or(next + grid);
                }
                next = passed;
                // What is shown before time zero is no segment of its own.
                let has_shown_sample = match position {
                    0 => has_shown_sample,
                    _ => has_shown_sample || time > 0,
                };
                if has_shown_sample && end - time >= tail_min {
                    first_samples.push(run.first + position);
                }
                at = position + 1;
            }
            has_shown_sample |= run.start + duration * i64::from(run.count) > 0;
        }
        Cut::from_first_samples(index, &first_samples)
    }
}

/// Index and presentation time (track ticks) of every sync sample.
pub fn sync_times(index: &TrackIndex) -> Vec<(u32, i64)> {
    match index.all_sync() {
        true => (0u32..)
            .zip(index.iter())
            .map(|(at, sample)| (at, index.presentation_time(&sample)))
            .collect(),
        false => index
            .sync_samples()
            .filter_map(|at| Some((at, index.presentation_time_of(at)?)))
            .collect(),
    }
}

/// Half the shortest usual frame: sync samples this near to each other are the same instant in different scales.
fn sync_tolerance(index: &TrackIndex) -> i64 {
    let average = index.duration().ticks / i64::from(index.sample_count());
    (average / 2).min(rescale(4, Timescale::MILLIS, index.timescale(), Rounding::Ceil))
}

/// What a ladder's video tracks have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alignment {
    /// Every track can be cut at these instants.
    Aligned(Vec<MediaTime>),
    /// Track `track` lacks the sync samples that the first track has, so players can not switch at these boundaries.
    Unaligned {
        /// Position among the tracks given.
        track: usize,
        /// Boundaries of the first track alone.
        first: Vec<MediaTime>,
    },
}

/// Chooses boundaries for a ladder: from each boundary, the sync sample nearest to one target further, forward or back,
/// among those that every track has. `indexes` holds at least one video track; the first is the reference.
pub fn choose_boundaries(indexes: &[&TrackIndex], target: SegmentTarget) -> Alignment {
    let Some((reference, others)) = indexes.split_first() else {
        return Alignment::Aligned(Vec::new());
    };
    let scale = reference.timescale();
    // Sorted: composition offsets of a damaged file can put them into any order.
    let mut own: Vec<i64> = sync_times(reference).into_iter().map(|(_, time)| time).collect();
    own.sort_unstable();
    let end = reference.presentation_end();
    let alone = pick(&own, end, scale, target);
    if others.is_empty() {
        return Alignment::Aligned(times_of(alone, scale));
    }
    let mut common = own;
    for (position, other) in others.iter().enumerate() {
        let mut times: Vec<i64> = sync_times(other)
            .into_iter()
            .map(|(_, time)| rescale(time, other.timescale(), scale, Rounding::Nearest))
            .collect();
        times.sort_unstable();
        let tolerance = sync_tolerance(reference).max(1);
        common.retain(|time| {
            let at = times.partition_point(|other| *other < time - tolerance);
            times.get(at).is_some_and(|other| (other - time).abs() <= tolerance)
        });
        // A switch must be possible about as often as the reference alone would allow.
        if pick(&common, end, scale, target).len() * 2 < alone.len() {
            return Alignment::Unaligned {
                track: position + 1,
                first: times_of(alone, scale),
            };
        }
    }
    Alignment::Aligned(times_of(pick(&common, end, scale, target), scale))
}

fn times_of(ticks: Vec<i64>, scale: Timescale) -> Vec<MediaTime> {
    ticks.into_iter().map(|ticks| MediaTime::new(ticks, scale)).collect()
}

/// Boundaries among `candidates`, which ascend.
fn pick(candidates: &[i64], end: i64, scale: Timescale, target: SegmentTarget) -> Vec<i64> {
    let step = rescale(i64::from(target.millis), Timescale::MILLIS, scale, Rounding::Nearest).max(1);
    let tail_min = rescale(
        i64::from(target.tail_millis_min()),
        Timescale::MILLIS,
        scale,
        Rounding::Floor,
    );
    let mut chosen = Vec::new();
    let mut last = candidates.first().copied().unwrap_or(0).max(0);
    let mut from = candidates.partition_point(|time| *time <= last);
    while let Some(rest) = candidates.get(from..).filter(|rest| !rest.is_empty()) {
        let wanted = last + step;
        // A few key frames further at most, nearly always.
        let after = rest.iter().take_while(|time| **time < wanted).count();
        let nearest = match (after.checked_sub(1).and_then(|at| rest.get(at)), rest.get(after)) {
            // Of two equally near, the earlier: segments rather short than long.
            (Some(before), Some(next)) if wanted - before <= next - wanted => *before,
            // The end is a boundary too.
            (Some(before), None) if wanted - before < (end - wanted).abs() => *before,
            (Some(_), None) => break,
            (_, Some(next)) => *next,
            (None, None) => break,
        };
        if end - nearest < tail_min {
            break;
        }
        chosen.push(nearest);
        last = nearest;
        from += rest.iter().take_while(|time| **time <= last).count();
    }
    chosen
}

/// One picture of a trick-play (I-frame) track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrickFrame {
    /// The sync sample.
    pub sample_index: u32,
    /// Presentation time in track ticks, never below zero.
    pub start: u64,
    /// Ticks until the next trick frame, or the end of the track.
    pub duration: u64,
}

/// The trick-play frames of a video track: every sync sample that is shown, at most one each half second so that
/// intra-only material does not become a second full track.
pub fn trick_frames(index: &TrackIndex) -> Vec<TrickFrame> {
    let spacing = rescale(500, Timescale::MILLIS, index.timescale(), Rounding::Floor) as u64;
    let end = index.presentation_end().max(0) as u64;
    let mut frames: Vec<TrickFrame> = Vec::new();
    for (sample_index, time) in sync_times(index) {
        let start = time.max(0) as u64;
        if let Some(last) = frames.last_mut() {
            if start < last.start + spacing {
                continue;
            }
            last.duration = start - last.start;
        }
        frames.push(TrickFrame {
            sample_index,
            start,
            duration: end.saturating_sub(start).max(1),
        });
    }
    frames
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::{IndexWriter, NewSample};

    fn target(millis: u32) -> SegmentTarget {
        SegmentTarget::from_millis(millis).unwrap()
    }

    /// A track of `I` (sync) and `.` samples of `duration` ticks at `per_second`.
    fn track(pattern: &str, duration: u32, per_second: u32, edit_offset: i64) -> TrackIndex {
        let mut writer = IndexWriter::new(Timescale::new(per_second).unwrap());
        for (at, kind) in pattern.chars().filter(|c| *c != ' ').enumerate() {
            writer
                .push(NewSample {
                    offset: at as u64 * 10,
                    size: 10,
                    duration,
                    composition_offset: 0,
                    sync: kind == 'I',
                })
                .unwrap();
        }
        writer.finish(edit_offset).unwrap()
    }

    fn rows(table: &SegmentTable) -> Vec<(Range<u32>, u64, u64)> {
        table
            .segments()
            .iter()
            .map(|s| (s.samples.clone(), s.start, s.duration))
            .collect()
    }

    fn cut_alone(index: &TrackIndex, target: SegmentTarget) -> SegmentTable {
        match choose_boundaries(&[index], target) {
            Alignment::Aligned(boundaries) => SegmentTable::of_video(index, &boundaries),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn last_segment_is_short() {
        let index = track("I.... I.... I..", 1000, 1000, 0);
        assert_eq!(
            rows(&cut_alone(&index, target(5000))),
            [(0..5, 0, 5000), (5..10, 5000, 5000), (10..13, 10000, 3000)]
        );
    }

    #[test]
    fn boundaries_are_nearest_forward_or_back() {
        // Sync every 2.5 s, wanted 4 s: 5 s is nearer than 2.5 s.
        let index = track(&"I....".repeat(8), 500, 1000, 0);
        let starts: Vec<u64> = cut_alone(&index, target(4000))
            .segments()
            .iter()
            .map(|s| s.start)
            .collect();
        assert_eq!(starts, [0, 5000, 10000, 15000]);
        // Sync every 3 s, wanted 4 s: 3 s is nearer than 6 s.
        let index = track(&"I..".repeat(4), 1000, 1000, 0);
        let starts: Vec<u64> = cut_alone(&index, target(4000))
            .segments()
            .iter()
            .map(|s| s.start)
            .collect();
        assert_eq!(starts, [0, 3000, 6000, 9000]);
    }

    /// Pictures in front of an open GOP's sync sample come in its segment and are shown before it.
    #[test]
    fn open_gops_are_cut_as_often_as_closed_ones() {
        let mut writer = IndexWriter::new(Timescale::MILLIS);
        for at in 0..100 {
            // I2 B0 B1 P5 B3 B4 …: each second a sync sample two pictures after the first of its segment.
            let shown = [2, 0, 1][at % 3] + at as i32 / 3 * 3;
            writer
                .push(NewSample {
                    offset: 0,
                    size: 1,
                    duration: 100,
                    composition_offset: (shown - at as i32) * 100,
                    sync: at % 30 == 0,
                })
                .unwrap();
        }
        let index = writer.finish(0).unwrap();
        let rows: Vec<_> = rows(&cut_alone(&index, target(3000)));
        assert_eq!(
            rows,
            [
                (0..30, 0, 3000),
                (30..60, 3000, 3000),
                (60..90, 6000, 3000),
                (90..100, 9000, 1200)
            ]
        );
    }

    #[test]
    fn sync_samples_shown_out_of_order_are_cut_once() {
        let mut writer = IndexWriter::new(Timescale::MILLIS);
        for composition_offset in [0, 90_000, 40_000, -2_000, 70_000, 0] {
            writer
                .push(NewSample {
                    offset: 0,
                    size: 1,
                    duration: 5_000,
                    composition_offset,
                    sync: true,
                })
                .unwrap();
        }
        let index = writer.finish(0).unwrap();
        let samples: u32 = cut_alone(&index, target(4_000))
            .segments()
            .iter()
            .map(|segment| segment.samples.len() as u32)
            .sum();
        assert_eq!(samples, index.sample_count());
    }

    #[test]
    fn a_tiny_tail_joins_the_last_segment() {
        let index = track("I... I... I", 100, 100, 0);
        assert_eq!(
            cut_alone(&index, target(4000)).segments().len(),
            3,
            "one second stands alone"
        );
        let index = track("I... I... I", 100, 1000, 0);
        assert_eq!(
            cut_alone(&index, target(1000)).segments().len(),
            1,
            "a tenth of a second does not"
        );
        // 30.0005 s of audio (B6).
        let audio = track(&"I".repeat(60_001), 1, 2000, 0);
        let table = SegmentTable::of_audio(&audio, &[], target(4000));
        assert_eq!(table.segments().len(), 8);
        assert_eq!(table.segments().last().map(|s| s.duration), Some(4001));
    }

    #[test]
    fn audio_follows_video_boundaries() {
        let video = track(&"I...".repeat(6), 1001, 1000, 0);
        let table = cut_alone(&video, target(4000));
        let audio = track(&"I".repeat(1200), 1024, 48_000, 1024);
        let cut = SegmentTable::of_audio(&audio, &table.boundaries(), target(4000));
        for (segment, boundary) in cut.segments().iter().skip(1).zip(table.boundaries()) {
            let apart = segment.start as i64 - boundary.to_scale(cut.timescale(), Rounding::Nearest);
            assert!(apart.abs() <= 512, "{apart}");
        }
        assert_eq!(cut.segments()[0].start, 0, "priming is not shown");
        assert_eq!(cut.segments()[0].samples.start, 0, "but it is sent");
    }

    #[test]
    fn a_late_track_starts_late() {
        let audio = track(&"I".repeat(10), 1000, 1000, -7000);
        let boundaries = [4000, 8000, 12000].map(MediaTime::from_millis);
        let table = SegmentTable::of_audio(&audio, &boundaries, target(4000));
        assert_eq!(
            rows(&table),
            [
                (0..1, 7000, 1000),
                (1..5, 8000, 4000),
                (5..9, 12000, 4000),
                (9..10, 16000, 1000)
            ]
        );
    }

    #[test]
    fn cues_tile_the_timeline() {
        let boundaries = [4004, 8008].map(MediaTime::from_millis);
        let table = SegmentTable::of_cues(&boundaries, MediaTime::from_millis(10_000), target(4000));
        assert_eq!(rows(&table), [(0..0, 0, 4004), (0..0, 4004, 4004), (0..0, 8008, 1992)]);
        let table = SegmentTable::of_cues(&[], MediaTime::from_millis(8_200), target(4000));
        assert_eq!(rows(&table), [(0..0, 0, 4000), (0..0, 4000, 4200)]);
    }

    #[test]
    fn ladders_without_common_sync_samples_are_told_apart() {
        let first = track(&"I...".repeat(10), 1000, 1000, 0);
        let same = track(&"I...".repeat(10), 90_000, 90_000, 0);
        let other = track(&"I......".repeat(6), 1000, 1000, 0);
        let check = |tracks: &[&TrackIndex], aligned: bool| {
            let alignment = choose_boundaries(tracks, target(4000));
            assert_eq!(matches!(alignment, Alignment::Aligned(_)), aligned, "{alignment:?}");
        };
        check(&[&first, &same], true);
        check(&[&first, &other], false);
    }

    #[test]
    fn trick_frames_last_until_the_next() {
        let index = track("I.. I. I", 1000, 1000, 0);
        let frames: Vec<_> = trick_frames(&index)
            .iter()
            .map(|f| (f.sample_index, f.start, f.duration))
            .collect();
        assert_eq!(frames, [(0, 0, 3000), (3, 3000, 2000), (5, 5000, 1000)]);
    }

    proptest! {
        /// Whatever the GOPs: every sample in exactly one segment, no empty segment, starts and durations tile, each
        /// segment starts with a sync sample (B4, B6).
        #[test]
        fn segments_tile_any_gop_structure(
            gops in prop::collection::vec(1u32..80, 1..60),
            duration in prop::sample::select(vec![1001u32, 512, 3000, 40]),
            reorder in 0i32..3,
            millis in 1000u32..20_000,
            edit_frames in 0i64..4,
        ) {
            let mut writer = IndexWriter::new(Timescale::new(24_000).unwrap());
            let mut offset = 0;
            for gop in &gops {
                for at in 0..*gop {
                    // Closed GOPs whose pictures are shown in pairs swapped by `reorder` frames.
                    let shift = if at == 0 { reorder } else if at % 2 == 1 && at + 1 < *gop { reorder + 1 }
                        else if at % 2 == 0 { reorder - 1 } else { reorder };
                    writer.push(NewSample {
                        offset, size: at + 1, duration, composition_offset: shift * duration as i32, sync: at == 0,
                    }).unwrap();
                    offset += u64::from(at) + 1;
                }
            }
            let index = writer.finish(edit_frames * i64::from(duration)).unwrap();
            let table = cut_alone(&index, target(millis));
            let segments = table.segments();
            prop_assert_eq!(segments.first().map(|s| s.samples.start), Some(0));
            prop_assert_eq!(segments.last().map(|s| s.samples.end), Some(index.sample_count()));
            for pair in segments.windows(2) {
                prop_assert_eq!(pair[0].samples.end, pair[1].samples.start);
                prop_assert_eq!(pair[0].end(), pair[1].start);
                prop_assert!(index.sample(pair[1].samples.start).unwrap().sync);
            }
            for segment in segments {
                prop_assert!(!segment.samples.is_empty() && (segment.duration > 0 || segments.len() == 1));
            }
            let audio = SegmentTable::of_audio(&index, &table.boundaries(), target(millis));
            for pair in audio.segments().windows(2) {
                prop_assert_eq!(pair[0].end(), pair[1].start);
                prop_assert!(pair[0].duration > 0);
            }
        }
    }
}
