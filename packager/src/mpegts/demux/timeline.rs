//! One timeline for all tracks of a program: 33-bit time stamps unwrapped, and breaks in the stream's clock closed.
//!
//! A time stamp is read as the nearest one to the last of any track, so it does not matter which track, or which of PTS
//! and DTS, passes the wrap first. Where the decode times of a track jump by more than ten seconds, run back, or step
//! aside after an announced discontinuity, the stream has been edited: what follows is an *epoch* of its own, and is
//! moved to go on where all tracks together ended. Data of other tracks that still belongs to the epoch before finds
//! its way by being nearer to it.

use super::super::TIMESTAMP_WRAP;
use super::pes::Times;

/// A longer step than this is an edit.
const JUMP_MAX_90K: i64 = 10 * 90_000;

/// Decode times that run back further than this are an edit; less is jitter.
const BACK_MAX_90K: i64 = 45_000;

/// After an announced discontinuity a step of more than this is one.
const ANNOUNCED_STEP_MAX_90K: i64 = 45_000;

/// Longest time a PES packet is believed to last.
const STEP_MAX_90K: i64 = 90_000;

/// Times of a PES packet on the timeline, in ticks of 90 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// `None` where the packet has no time stamp.
    pub(super) times: Option<StampTimes>,
    /// The transport stream says that decoding can start here.
    pub(super) random_access: bool,
}

/// Presentation and decode time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StampTimes {
    pub(super) presentation_90k: i64,
    pub(super) decode_90k: i64,
}

/// A run of time stamps on one clock.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// Last time stamp, unwrapped.
    last_raw_90k: i64,
    /// From unwrapped time stamps to the timeline.
    shift_90k: i64,
}

/// Where a track stands.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    last_90k: Option<i64>,
    step_90k: i64,
    /// A discontinuity was announced since.
    announced: bool,
}

#[derive(Default)]
pub(super) struct Timeline {
    /// PID of the program's clock, whose packets announce discontinuities.
    pub(super) clock_pid: u16,
    current: Option<Epoch>,
    previous: Option<Epoch>,
    tracks: Vec<Progress>,
}

impl Timeline {
    /// The clock is about to change (`discontinuity_indicator`).
    pub(super) fn announce(&mut self) {
        for progress in &mut self.tracks {
            progress.announced = true;
        }
    }

    /// A track's samples so far end here, by their own durations.
    pub(super) fn reached(&mut self, track: usize, end_90k: i64) {
        if let Some(progress) = self.tracks.get_mut(track)
            && let Some(last_90k) = progress.last_90k
        {
            progress.step_90k = end_90k.saturating_sub(last_90k).clamp(0, STEP_MAX_90K);
        }
    }

    /// Places a PES packet of track number `track`.
    pub(super) fn stamp(&mut self, track: usize, times: Times, random_access: bool) -> Stamp {
        let times = times.presentation.map(|presentation| {
            let decode = times.decode.unwrap_or(presentation);
            let decode_90k = self.place(track, decode as i64);
            let lead_90k = nearest(presentation as i64, decode as i64) - decode as i64;
            // Nobody reorders pictures over ten seconds: such a decode time is a mistake.
            let lead_90k = if lead_90k.abs() > JUMP_MAX_90K { 0 } else { lead_90k };
            StampTimes {
                presentation_90k: decode_90k.saturating_add(lead_90k),
                decode_90k,
            }
        });
        Stamp { times, random_access }
    }

    fn place(&mut self, track: usize, raw: i64) -> i64 {
        if self.tracks.len() <= track {
            self.tracks.resize(track + 1, Progress::default());
        }
        let progress = self.tracks.get(track).copied().unwrap_or_default();
        let current = *self.current.get_or_insert(Epoch {
            last_raw_90k: raw,
            shift_90k: 0,
        });
        let here = fit(current, raw, &progress);
        let before = self.previous.and_then(|previous| fit(previous, raw, &progress));
        let placed = match (here, before) {
            (Some(here), before) if before.is_none_or(|before| here.distance_90k <= before.distance_90k) => {
                self.current = Some(here.epoch);
                here
            }
            // The epoch before becomes the current one, so that a single wrong time stamp can not oust it.
            (_, Some(before)) => {
                self.previous = Some(current);
                self.current = Some(before.epoch);
                before
            }
            (_, None) => {
                let epoch = Epoch {
                    last_raw_90k: raw,
                    shift_90k: self.end_90k().saturating_sub(raw),
                };
                self.previous = Some(current);
                self.current = Some(epoch);
                Fit {
                    epoch,
                    placed_90k: self.end_90k(),
                    distance_90k: 0,
                }
            }
        };
        let placed_90k = placed.placed_90k;
        if let Some(progress) = self.tracks.get_mut(track) {
            if let Some(last_90k) = progress.last_90k {
                let step_90k = placed_90k.saturating_sub(last_90k);
                if (1..=STEP_MAX_90K).contains(&step_90k) {
                    progress.step_90k = step_90k;
                }
            }
            progress.last_90k = Some(placed_90k);
            progress.announced = false;
        }
        placed_90k
    }

    /// Where all tracks have ended.
    fn end_90k(&self) -> i64 {
        let ends = self.tracks.iter().filter_map(Progress::end_90k);
        ends.max().unwrap_or(0)
    }
}

impl Progress {
    /// When its last PES packet is over.
    fn end_90k(&self) -> Option<i64> {
        self.last_90k.map(|last_90k| last_90k.saturating_add(self.step_90k))
    }
}

/// A time stamp read in an epoch.
#[derive(Clone, Copy)]
struct Fit {
    epoch: Epoch,
    placed_90k: i64,
    /// From where the track was expected to go on.
    distance_90k: u64,
}

/// Reads `raw` in `epoch`, if a track that has come as far as `progress` can go on there.
fn fit(epoch: Epoch, raw: i64, progress: &Progress) -> Option<Fit> {
    let unwrapped = nearest(raw, epoch.last_raw_90k);
    let placed_90k = unwrapped.saturating_add(epoch.shift_90k);
    let distance_90k = progress.end_90k().map_or(0, |end_90k| placed_90k.abs_diff(end_90k));
    let runs_back = progress
        .last_90k
        .is_some_and(|last_90k| placed_90k < last_90k.saturating_sub(BACK_MAX_90K));
    let steps_aside = progress.announced && distance_90k > ANNOUNCED_STEP_MAX_90K.unsigned_abs();
    if unwrapped.abs_diff(epoch.last_raw_90k) > JUMP_MAX_90K.unsigned_abs() || runs_back || steps_aside {
        return None;
    }
    Some(Fit {
        epoch: Epoch {
            last_raw_90k: unwrapped,
            ..epoch
        },
        placed_90k,
        distance_90k,
    })
}

/// The time congruent to `raw` modulo 2^33 that is nearest to `anchor`.
fn nearest(raw: i64, anchor: i64) -> i64 {
    let ahead = raw.wrapping_sub(anchor).rem_euclid(TIMESTAMP_WRAP);
    let step = if ahead >= TIMESTAMP_WRAP / 2 {
        ahead - TIMESTAMP_WRAP
    } else {
        ahead
    };
    anchor.saturating_add(step)
}
