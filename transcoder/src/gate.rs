//! The gate that all decoded pictures pass: it keeps those of the chunk and asks for key frames.
//!
//! Every rendition gets the same pictures and the same requests, in the same order, so key frames are at identical
//! instants whatever the encoders are.

use std::sync::{Arc, Mutex};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;

use crate::pipeline::{lock, stream_time};

/// What lies in a chunk, and how far pictures have come.
pub(crate) struct Gate {
    /// First instant in it, in nanoseconds; `None` from the very first picture on.
    pub(crate) start_ns: Option<i64>,
    /// First instant no longer in it.
    pub(crate) end_ns: Option<i64>,
    pub(crate) gop_duration_ns: i64,
    /// Where it stands, once there are pictures.
    pad: Option<gst::Pad>,
    /// Holds everything back until the chunk is entered.
    barrier: Option<gst::PadProbeId>,
    segment: gst::FormattedSegment<gst::ClockTime>,
    next_key_ns: Option<i64>,
    /// Something has come, whether it was kept or not.
    pub(crate) seen: u64,
    /// Pictures kept.
    pub(crate) kept: u64,
    /// All of the chunk has passed.
    ended: bool,
    told: bool,
}

impl Gate {
    pub(crate) fn new(start_ns: Option<i64>, end_ns: Option<i64>, gop_duration_ns: i64) -> Arc<Mutex<Gate>> {
        Arc::new(Mutex::new(Gate {
            start_ns,
            end_ns,
            gop_duration_ns: gop_duration_ns.max(1),
            pad: None,
            barrier: None,
            segment: gst::FormattedSegment::new(),
            next_key_ns: None,
            seen: 0,
            kept: 0,
            ended: false,
            told: false,
        }))
    }

    /// Puts the gate on `pad`, which all decoded pictures pass. A chunk that is entered in its middle is closed at first.
    pub(crate) fn install(gate: &Arc<Mutex<Gate>>, pad: &gst::Pad) {
        let segments = gate.clone();
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(event) = info.event()
                && let gst::EventView::Segment(event) = event.view()
                && let Some(segment) = event.segment().downcast_ref::<gst::ClockTime>()
            {
                lock(&segments).segment = segment.clone();
            }
            gst::PadProbeReturn::Ok
        });
        let buffers = gate.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let Some(time) = info.buffer().and_then(|buffer| buffer.pts()) else {
                return gst::PadProbeReturn::Drop;
            };
            // Events are sent without the lock: they come back through the gate.
            let verdict = lock(&buffers).judge(time);
            match verdict {
                Verdict::Drop => gst::PadProbeReturn::Drop,
                Verdict::Keep => gst::PadProbeReturn::Ok,
                Verdict::KeepAsKey => {
                    let event = gst_video::DownstreamForceKeyUnitEvent::builder()
                        .all_headers(true)
                        .build();
                    pad.send_event(event);
                    gst::PadProbeReturn::Ok
                }
            }
        });
        let mut opened = lock(gate);
        opened.pad = Some(pad.clone());
        if opened.start_ns.is_some() {
            let seen = gate.clone();
            // Comes before the probe above: what blocks is asked first.
            opened.barrier = pad.add_probe(gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER, move |_, _| {
                lock(&seen).seen += 1;
                gst::PadProbeReturn::Ok
            });
        }
    }

    /// Lets pictures pass from now on.
    pub(crate) fn open(gate: &Mutex<Gate>) {
        let (pad, barrier) = {
            let mut gate = lock(gate);
            (gate.pad.clone(), gate.barrier.take())
        };
        if let (Some(pad), Some(barrier)) = (pad, barrier) {
            pad.remove_probe(barrier);
        }
    }

    /// Tells the encoders that nothing more comes, once all of the chunk has passed.
    pub(crate) fn tell_end(gate: &Mutex<Gate>) {
        let pad = {
            let mut gate = lock(gate);
            if !gate.ended || gate.told {
                return;
            }
            gate.told = true;
            gate.pad.clone()
        };
        if let Some(pad) = pad {
            pad.send_event(gst::event::Eos::new());
        }
    }

    fn judge(&mut self, time: gst::ClockTime) -> Verdict {
        self.seen += 1;
        if self.ended {
            return Verdict::Drop;
        }
        let Some(time) = stream_time(&self.segment, time) else {
            return Verdict::Drop;
        };
        if self.start_ns.is_some_and(|start| time < start) {
            return Verdict::Drop;
        }
        if self.end_ns.is_some_and(|end| time >= end) {
            self.ended = true;
            return Verdict::Drop;
        }
        self.kept += 1;
        // Counted from zero, so that all chunks of a film have one grid.
        let due = self.next_key_ns.is_none_or(|next| time >= next);
        if !due {
            return Verdict::Keep;
        }
        self.next_key_ns = Some((time.div_euclid(self.gop_duration_ns) + 1) * self.gop_duration_ns);
        Verdict::KeepAsKey
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Drop,
    Keep,
    KeepAsKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_keeps_its_own_pictures_and_no_others() {
        gst::init().unwrap();
        let check = |range: (Option<i64>, Option<i64>), times_ms: &[u64], expected: &[Verdict]| {
            let ns = |ms: i64| ms * 1_000_000;
            let gate = Gate::new(range.0.map(ns), range.1.map(ns), ns(2_000));
            let mut gate = gate.lock().unwrap();
            let verdicts: Vec<_> = times_ms
                .iter()
                .map(|ms| gate.judge(gst::ClockTime::from_mseconds(*ms)))
                .collect();
            assert_eq!(verdicts, expected, "{range:?} {times_ms:?}");
        };
        use Verdict::{Drop, Keep, KeepAsKey};
        check(
            (None, None),
            &[0, 1_000, 1_999, 2_000, 2_001, 4_100, 5_999],
            &[KeepAsKey, Keep, Keep, KeepAsKey, Keep, KeepAsKey, Keep],
        );
        check(
            (Some(2_000), Some(4_000)),
            &[1_000, 1_999, 2_010, 3_999, 4_000, 3_000],
            &[Drop, Drop, KeepAsKey, Keep, Drop, Drop],
        );
        // A film that starts late, and one with a gap.
        check(
            (None, Some(4_000)),
            &[1_900, 2_000, 2_100, 9_000],
            &[KeepAsKey, KeepAsKey, Keep, Drop],
        );
        check(
            (None, None),
            &[0, 6_500, 7_000, 8_000],
            &[KeepAsKey, KeepAsKey, Keep, KeepAsKey],
        );
    }
}
