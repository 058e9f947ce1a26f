//! From block timestamps to a track's timeline.
//!
//! Matroska states one presentation time a block, in ticks that are usually milliseconds, and no decode time. What the
//! coding and the frame rate say is finer, so times are rebuilt:
//!
//! * Sound runs at its sampling rate. Frames last what their coding says and follow one another from the first
//!   timestamp; where a block's timestamp is off by more than two ticks and half a frame, there is a real gap (the frame
//!   before it is lengthened) or an overlap (the frames before it are shortened), and counting starts afresh.
//! * Pictures that all lie within one tick of a steady frame rate are put on it exactly, in a timescale where a frame is
//!   a whole number of ticks (24000/1001 becomes 24000 with 1001 a frame). Others keep their ticks where a second is a
//!   whole number of them (milliseconds: 1000), else they are brought to 90,000, to the nearest.
//! * Decode times are the presentation times in ascending order: the n-th frame of the file is decoded when the n-th
//!   picture is shown. Composition offsets are negative for pictures shown before their place in the file; no offset
//!   makes a whole track late. Equal timestamps are moved apart by one tick.

use crate::index::{IndexError, IndexWriter, NewSample, TrackIndex};
use crate::time::Timescale;

const NANOSECONDS: i128 = 1_000_000_000;

/// Smallest ticks a second in which a steady frame rate is expressed, so that a track's start is still precise.
const GRID_TIMESCALE_MIN: u64 = 10_000;

/// Shortest frame for which a steady rate is looked for: 1000 a second.
const FRAME_NS_MIN: u64 = 1_000_000;

/// Nanoseconds by which a timestamp may always miss its grid, for timestamps that come from 90 kHz or microseconds.
const MISFIT_NS_MIN: i128 = 12_000;

/// Nanoseconds by which a DefaultDuration may miss the rate it means: half of one by rounding, and some by computing.
const DEFAULT_DURATION_NS_OFF: i128 = 3;

/// Finest container tick that is kept as it is for pictures that have no steady rate: durations and offsets of 32 bits
/// then still span half an hour.
const TICK_TIMESCALE_MAX: u64 = 1_000_000;

/// Pictures shown this much before a place that was already shown mean a timeline that starts over, not reordering.
const REORDER_NS_MAX: i128 = 10 * NANOSECONDS;

/// Sound whose timestamps jump back by this much starts over.
const OVERLAP_NS_MAX: i128 = NANOSECONDS;

/// A frame as the walk finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawFrame {
    /// First byte in the source.
    pub offset: u64,
    /// Container ticks; [`RawFrame::NO_TIMESTAMP`] for the second and later frames of a lace.
    pub timestamp: i64,
    pub size: u32,
    /// Sound: samples it lasts. Pictures: container ticks of its BlockDuration, 0 without one.
    pub duration: u32,
    pub sync: bool,
}

impl RawFrame {
    /// A frame whose time follows from the frame before it.
    pub(super) const NO_TIMESTAMP: i64 = i64::MIN;
}

/// A track whose times are rebuilt.
#[derive(Debug)]
pub(super) struct Timeline {
    pub index: TrackIndex,
    /// What had to be changed, for people.
    pub notes: Vec<String>,
}

/// Why a track's times can not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TimelineError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("pictures {0} and {1} are too far apart")]
    GapTooLong(usize, usize),
    #[error("timestamps start over at sample {0}")]
    StartsOver(usize),
}

/// Divides, to the nearest; halves go up. `divisor` is positive.
fn div_nearest(value: i128, divisor: i128) -> i128 {
    (value * 2 + divisor).div_euclid(divisor * 2)
}

/// A steady frame rate: `frame_ticks` of `timescale` a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub timescale: Timescale,
    pub frame_ticks: u32,
}

impl Grid {
    /// The grid of `frames` in `seconds`, its timescale large enough for a precise start.
    fn new(frames: u64, seconds: u64) -> Option<Grid> {
        let factor = match frames {
            GRID_TIMESCALE_MIN.. => 1,
            _ => GRID_TIMESCALE_MIN.div_ceil(frames.max(1)).next_multiple_of(1_000),
        };
        Some(Grid {
            timescale: Timescale::new(u32::try_from(frames.checked_mul(factor)?).ok()?)?,
            frame_ticks: u32::try_from(seconds.checked_mul(factor)?).ok()?,
        })
    }
}

/// Container ticks and what a track's own times are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Nanoseconds a container tick.
    pub timestamp_scale: u64,
    /// Container tick that is zero on the timeline that all tracks share.
    pub zero: i64,
}

impl Clock {
    /// Container ticks in ticks of `timescale`, to the nearest.
    fn ticks(&self, container_ticks: i64, timescale: Timescale) -> i128 {
        let nanoseconds = i128::from(container_ticks) * i128::from(self.timestamp_scale);
        div_nearest(nanoseconds * i128::from(timescale.get()), NANOSECONDS)
    }
}

/// The timescale a picture track gets and, when it is steady, its grid.
///
/// `timestamps` are all presentation times in ascending order.
pub(super) fn video_timescale(
    timestamps: &[i64],
    timestamp_scale: u64,
    default_duration: Option<u64>,
) -> (Timescale, Option<Grid>) {
    if let Some(grid) = grid(timestamps, timestamp_scale, default_duration) {
        return (grid.timescale, Some(grid));
    }
    let per_second = 1_000_000_000 / timestamp_scale.max(1);
    let exact = per_second.saturating_mul(timestamp_scale) == 1_000_000_000 && per_second <= TICK_TIMESCALE_MAX;
    let timescale = match exact {
        true => u32::try_from(per_second).ok().and_then(Timescale::new),
        false => None,
    };
    (timescale.unwrap_or(Timescale::MPEG_TS), None)
}

/// The steady rate on which every timestamp lies within one container tick, the best fit of the likely ones.
fn grid(timestamps: &[i64], timestamp_scale: u64, default_duration: Option<u64>) -> Option<Grid> {
    let (first, last) = (*timestamps.first()?, *timestamps.last()?);
    let count = timestamps.len() as u64;
    let mean = match count {
        0 | 1 => None,
        _ => {
            let span = i128::from(last.checked_sub(first)?) * i128::from(timestamp_scale);
            u64::try_from(div_nearest(span, i128::from(count - 1))).ok()
        }
    };
    let mut best: Option<(i128, Grid)> = None;
    for frame_ns in [default_duration, mean].into_iter().flatten() {
        // A frame of a few ticks would fit any grid.
        if frame_ns < timestamp_scale.saturating_mul(4).max(FRAME_NS_MIN) || frame_ns > 1_000_000_000 {
            continue;
        }
        for (frames, seconds) in rates(frame_ns) {
            let Some(misfit) = misfit(timestamps, timestamp_scale, frames, seconds) else {
                continue;
            };
            let grid = Grid::new(frames, seconds)?;
            // A stated rate that fits is believed, though few pictures may fit another one better.
            let stated = i128::from(seconds) * NANOSECONDS - i128::from(frame_ns) * i128::from(frames);
            if default_duration == Some(frame_ns) && stated.abs() <= DEFAULT_DURATION_NS_OFF * i128::from(frames) {
                return Some(grid);
            }
            if best.is_none_or(|(least, _)| misfit < least) {
                best = Some((misfit, grid));
            }
        }
    }
    best.map(|(_, grid)| grid)
}

/// Likely rates near one frame every `frame_ns`, as (frames, in so many seconds): whole, half, and whole over 1.001.
fn rates(frame_ns: u64) -> [(u64, u64); 3] {
    let nearest = |numerator: u64| (numerator + frame_ns / 2) / frame_ns;
    [
        (nearest(1_000_000_000), 1),
        (nearest(1_001_000_000) * 1000, 1001),
        (nearest(2_000_000_000), 2),
    ]
}

/// How far the worst timestamp lies from the grid, in nanoseconds times `frames`; `None` when one is off by more than a
/// tick or two share a place.
fn misfit(timestamps: &[i64], timestamp_scale: u64, frames: u64, seconds: u64) -> Option<i128> {
    if frames == 0 {
        return None;
    }
    let first = *timestamps.first()?;
    let frame = i128::from(seconds) * NANOSECONDS;
    let tick = i128::from(timestamp_scale) * i128::from(frames);
    let tolerance = tick.max(MISFIT_NS_MIN * i128::from(frames));
    let mut worst = 0;
    let mut previous = -1;
    for timestamp in timestamps {
        let time = (i128::from(*timestamp) - i128::from(first)) * tick;
        let place = div_nearest(time, frame);
        let off = (time - place * frame).abs();
        if off > tolerance || place <= previous {
            return None;
        }
        previous = place;
        worst = worst.max(off);
    }
    Some(worst)
}

/// Ticks of each frame since the first, in the order of `frames`; strictly ascending when sorted.
struct Presentation {
    ticks: Vec<i64>,
    sorted: Vec<i64>,
    moved: usize,
}

fn present(frames: &[RawFrame], clock: Clock, timescale: Timescale, grid: Option<Grid>) -> Option<Presentation> {
    let first = frames.iter().map(|frame| frame.timestamp).min()?;
    let to_ticks = |timestamp: i64| -> Option<i64> {
        let since = timestamp.checked_sub(first)?;
        let ticks = match grid {
            None => clock.ticks(since, timescale),
            Some(grid) => {
                let time = i128::from(since) * i128::from(clock.timestamp_scale) * i128::from(grid.timescale.get());
                let frame = i128::from(grid.frame_ticks) * NANOSECONDS;
                div_nearest(time, frame) * i128::from(grid.frame_ticks)
            }
        };
        i64::try_from(ticks).ok().filter(|ticks| *ticks < i64::MAX / 8)
    };
    let mut ticks = frames
        .iter()
        .map(|frame| to_ticks(frame.timestamp))
        .collect::<Option<Vec<i64>>>()?;
    let mut order: Vec<u32> = (0..u32::try_from(frames.len()).ok()?).collect();
    order.sort_by_key(|at| ticks.get(*at as usize).copied());
    let mut sorted = Vec::with_capacity(ticks.len());
    let mut moved = 0;
    let mut previous = -1;
    for at in order {
        let Some(tick) = ticks.get_mut(at as usize) else {
            continue;
        };
        if *tick <= previous {
            *tick = previous + 1;
            moved += 1;
        }
        previous = *tick;
        sorted.push(*tick);
    }
    Some(Presentation { ticks, sorted, moved })
}

/// Rebuilds the times of a picture track. `frames` are in decode order, at least one, all with a timestamp.
pub(super) fn video(
    frames: &[RawFrame],
    clock: Clock,
    default_duration: Option<u64>,
) -> Result<Timeline, TimelineError> {
    let mut timestamps: Vec<i64> = frames.iter().map(|frame| frame.timestamp).collect();
    check_order(&timestamps, clock.timestamp_scale)?;
    timestamps.sort_unstable();
    let (timescale, grid) = video_timescale(&timestamps, clock.timestamp_scale, default_duration);
    let overflow = TimelineError::Index(IndexError::TimeOverflow { sample_index: 0 });
    let first = *timestamps.first().ok_or(IndexError::NoSamples)?;
    drop(timestamps);
    let shown = present(frames, clock, timescale, grid).ok_or(overflow.clone())?;
    let mut writer = IndexWriter::new(timescale);
    let mut usual = last_duration(frames, clock, timescale, grid, default_duration, &shown.sorted);
    for (at, (frame, presentation)) in frames.iter().zip(&shown.ticks).enumerate() {
        let decode = shown.sorted.get(at).copied().unwrap_or(*presentation);
        let duration = match shown.sorted.get(at + 1) {
            Some(next) => u32::try_from(next - decode).map_err(|_| TimelineError::GapTooLong(at, at + 1))?,
            None => std::mem::take(&mut usual),
        };
        writer.push(NewSample {
            offset: frame.offset,
            size: frame.size,
            duration,
            composition_offset: i32::try_from(presentation - decode).map_err(|_| TimelineError::StartsOver(at))?,
            sync: frame.sync,
        })?;
    }
    let start = clock.ticks(first.saturating_sub(clock.zero), timescale);
    let edit_offset = i64::try_from(-start).map_err(|_| overflow)?;
    let mut notes = Vec::new();
    if shown.moved > 0 {
        notes.push(format!(
            "{} pictures share a timestamp and were moved apart by one tick",
            shown.moved
        ));
    }
    Ok(Timeline {
        index: writer.finish(edit_offset)?,
        notes,
    })
}

/// Refuses a timeline that starts over: sorted by time, its pictures would be mixed.
fn check_order(timestamps: &[i64], timestamp_scale: u64) -> Result<(), TimelineError> {
    let mut latest = i64::MIN;
    for (at, timestamp) in timestamps.iter().enumerate() {
        latest = latest.max(*timestamp);
        let back = (i128::from(latest) - i128::from(*timestamp)) * i128::from(timestamp_scale);
        if back > REORDER_NS_MAX {
            return Err(TimelineError::StartsOver(at));
        }
    }
    Ok(())
}

/// Ticks the picture shown last stays: what its block says, else the frame rate, else as long as the one before it.
fn last_duration(
    frames: &[RawFrame],
    clock: Clock,
    timescale: Timescale,
    grid: Option<Grid>,
    default_duration: Option<u64>,
    sorted: &[i64],
) -> u32 {
    let positive = |ticks: i128| u32::try_from(ticks).ok().filter(|ticks| *ticks > 0);
    let last = frames.iter().max_by_key(|frame| frame.timestamp);
    let stated = last.and_then(|frame| positive(clock.ticks(i64::from(frame.duration), timescale)));
    let by_default = default_duration.and_then(|duration| {
        positive(div_nearest(
            i128::from(duration) * i128::from(timescale.get()),
            NANOSECONDS,
        ))
    });
    let before = match sorted {
        [.., before, last] => positive(i128::from(last - before)),
        _ => None,
    };
    let steady = grid.map(|grid| grid.frame_ticks);
    steady
        .or(stated)
        .or(by_default)
        .or(before)
        .unwrap_or(timescale.get() / 25 + 1)
}

/// What is particular to a track of sound.
#[derive(Clone, Copy, Debug)]
pub(super) struct AudioClock {
    /// Sampling rate.
    pub timescale: Timescale,
    /// Samples that are decoded before the first to be heard.
    pub delay: u32,
    /// Nanoseconds at the end of the last frame that are not to be heard.
    pub discard_padding: u64,
}

/// Rebuilds the times of a sound track. `frames` are at least one; the first has a timestamp.
pub(super) fn audio(frames: &mut [RawFrame], clock: Clock, audio: AudioClock) -> Result<Timeline, TimelineError> {
    let mut notes = Vec::new();
    let counted = count_samples(frames, clock, audio.timescale)?;
    if counted.gaps > 0 {
        notes.push(format!(
            "{} gaps in the sound; the frame before each is lengthened",
            counted.gaps
        ));
    }
    if counted.overlaps > 0 {
        notes.push(format!(
            "{} overlaps in the sound; frames before them are shortened",
            counted.overlaps
        ));
    }
    if counted.restarts > 0 {
        notes.push(format!(
            "timestamps of the sound jump back {} times; it is played on without a gap",
            counted.restarts
        ));
    }
    let padding = div_nearest(
        i128::from(audio.discard_padding) * i128::from(audio.timescale.get()),
        NANOSECONDS,
    );
    if let Some(last) = frames.last_mut() {
        let padding = u32::try_from(padding).unwrap_or(u32::MAX);
        last.duration = last.duration.saturating_sub(padding).max(1);
    }
    let mut writer = IndexWriter::new(audio.timescale);
    for frame in frames.iter() {
        writer.push(NewSample {
            offset: frame.offset,
            size: frame.size,
            duration: frame.duration,
            composition_offset: 0,
            sync: true,
        })?;
    }
    let first = frames.first().map_or(clock.zero, |frame| frame.timestamp);
    let start = clock.ticks(first.saturating_sub(clock.zero), audio.timescale);
    let edit_offset =
        i64::try_from(i128::from(audio.delay) - start).map_err(|_| IndexError::TimeOverflow { sample_index: 0 })?;
    Ok(Timeline {
        index: writer.finish(edit_offset)?,
        notes,
    })
}

#[derive(Default)]
struct Counted {
    gaps: usize,
    overlaps: usize,
    restarts: usize,
}

/// Counts samples from the first timestamp on and changes durations where the container's clock insists.
fn count_samples(frames: &mut [RawFrame], clock: Clock, timescale: Timescale) -> Result<Counted, TimelineError> {
    let mut counted = Counted::default();
    let Some(mut origin) = frames.first().map(|frame| frame.timestamp) else {
        return Ok(counted);
    };
    let two_ticks = clock.ticks(2, timescale);
    let overlap_max = OVERLAP_NS_MAX * i128::from(timescale.get()) / NANOSECONDS;
    // Samples since `origin`, by the frames' own durations.
    let mut position: i128 = 0;
    for at in 1..frames.len() {
        let Some([before, frame]) = frames.get_mut(at - 1..=at) else {
            break;
        };
        position += i128::from(before.duration);
        if frame.timestamp == RawFrame::NO_TIMESTAMP {
            continue;
        }
        let stated = clock.ticks(frame.timestamp.saturating_sub(origin), timescale);
        let off = stated - position;
        let tolerance = two_ticks + i128::from(before.duration / 2);
        if off > tolerance {
            let longer = u32::try_from(off).ok().and_then(|off| before.duration.checked_add(off));
            before.duration = longer.ok_or(TimelineError::GapTooLong(at - 1, at))?;
            position = stated;
            counted.gaps += 1;
        } else if off < -overlap_max {
            origin = frame.timestamp;
            position = 0;
            counted.restarts += 1;
        } else if off < -tolerance {
            let shorter = i128::from(before.duration).saturating_add(off).max(1);
            position += shorter - i128::from(before.duration);
            before.duration = u32::try_from(shorter).unwrap_or(1);
            counted.overlaps += 1;
        }
    }
    Ok(counted)
}
