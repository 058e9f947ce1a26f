//! The order in which a segment's PES packets go out, and the clock packets between them.

use super::PCR_DELAY_90K;
use super::stream::Unit;

/// ISO/IEC 13818-1 2.7.2: the clock is sent at least every 100 ms.
const PCR_INTERVAL_MAX_90K: i64 = 9_000;

/// A minute without a sample is a gap, not a slow picture rate: the clock jumps.
const PCR_GAP_MAX_90K: i64 = 60 * 90_000;

/// Clock packets in a segment; five minutes of them.
const CLOCK_PACKET_COUNT_MAX: usize = 3_000;

/// The next thing to write.
#[derive(Clone, Debug)]
pub(super) enum Emission {
    /// A packet with the clock alone, on the PID of `track`.
    Clock { track: usize, pcr_90k: i64 },
    /// A PES packet.
    Unit(Unit),
}

impl Emission {
    pub(super) fn track(&self) -> usize {
        match self {
            Emission::Clock { track, .. } => *track,
            Emission::Unit(unit) => unit.track,
        }
    }

    /// Transport packets it takes.
    pub(super) fn packet_count(&self) -> u64 {
        match self {
            Emission::Clock { .. } => 1,
            Emission::Unit(unit) => unit.packet_count as u64,
        }
    }
}

/// Merges tracks by decode time; a track keeps its order whatever its times are. The track with the clock goes first
/// among equals, and at the start unless it is late.
pub(super) fn schedule(tracks: Vec<Vec<Unit>>) -> Vec<Emission> {
    let mut schedule = Vec::with_capacity(tracks.iter().map(Vec::len).sum());
    let mut clock = Clock {
        last_90k: None,
        packets_left: CLOCK_PACKET_COUNT_MAX,
        units_left: tracks.iter().flatten().filter(|unit| unit.pcr_90k().is_some()).count(),
        track: tracks
            .iter()
            .flatten()
            .find(|unit| unit.pcr_90k().is_some())
            .map(|unit| unit.track),
    };
    let mut heads: Vec<std::vec::IntoIter<Unit>> = tracks.into_iter().map(IntoIterator::into_iter).collect();
    loop {
        let next = heads
            .iter_mut()
            .filter(|head| !head.as_slice().is_empty())
            .min_by_key(|head| {
                let Some(unit) = head.as_slice().first() else {
                    return (i64::MAX, true);
                };
                let head_start_90k = match (unit.pcr_90k(), clock.last_90k) {
                    (Some(_), None) => PCR_DELAY_90K / 2,
                    _ => 0,
                };
                (
                    unit.decode_time_90k.saturating_sub(head_start_90k),
                    unit.pcr_90k().is_none(),
                )
            });
        let Some(unit) = next.and_then(Iterator::next) else {
            return schedule;
        };
        clock.before(&unit, &mut schedule);
        schedule.push(Emission::Unit(unit));
    }
}

/// The clock as a receiver has heard it.
struct Clock {
    last_90k: Option<i64>,
    packets_left: usize,
    /// Units to come that carry the clock. After the last one it rests: the next segment goes on from there.
    units_left: usize,
    track: Option<usize>,
}

impl Clock {
    /// Adds the clock packets that are due before `unit`.
    fn before(&mut self, unit: &Unit, schedule: &mut Vec<Emission>) {
        let now_90k = unit.decode_time_90k.saturating_sub(PCR_DELAY_90K);
        if let Some(track) = self.track.filter(|_| self.units_left > 0) {
            let mut send = |pcr_90k| schedule.push(Emission::Clock { track, pcr_90k });
            match self.last_90k {
                None if unit.pcr_90k().is_none() => {
                    send(now_90k);
                    self.last_90k = Some(now_90k);
                }
                Some(mut last_90k) if now_90k.saturating_sub(last_90k) <= PCR_GAP_MAX_90K => {
                    while now_90k.saturating_sub(last_90k) > PCR_INTERVAL_MAX_90K && self.packets_left > 0 {
                        self.packets_left -= 1;
                        last_90k += PCR_INTERVAL_MAX_90K;
                        send(last_90k);
                    }
                    self.last_90k = Some(last_90k);
                }
                _ => {}
            }
        }
        if unit.pcr_90k().is_some() {
            self.last_90k = Some(now_90k);
            self.units_left = self.units_left.saturating_sub(1);
        }
    }
}
