//! The gate that all decoded pictures pass: it keeps those of the chunk and asks for key frames.
//!
//! Every rendition gets the same pictures and the same requests, in the same order, so key frames are at identical
//! instants whatever the encoders are.

use std::sync::{Arc, Mutex};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;

use crate::captions;
use crate::pipeline::{DROPPED, lock, stream_time};

/// Behind the gate, zero of the source is here, and nothing else is said of time. Encoders whose decode times precede
/// presentation times move everything by 1000 hours, but tell key frames apart by times from before they did: what is that
/// late already is left alone.
pub(crate) const ORIGIN_NS: i64 = 2_000 * 3_600 * 1_000_000_000;

/// What lies in a chunk, and how far pictures have come.
pub(crate) struct Gate {
    /// First instant in it, in nanoseconds; `None` from the very first picture on.
    pub(crate) start_ns: Option<i64>,
    /// First instant no longer in it.
    pub(crate) end_ns: Option<i64>,
    pub(crate) gop_duration_ns: i64,
    /// What is taken from times to get the source's.
    shift_ns: i64,
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
    /// When the latest of them is shown, in nanoseconds on the source's timeline.
    pub(crate) kept_ns: i64,
    /// Records of the captions that came with them.
    pub(crate) captions: Vec<u8>,
    /// All of the chunk has passed.
    ended: bool,
    told: bool,
}

impl Gate {
    pub(crate) fn new(
        start_ns: Option<i64>,
        end_ns: Option<i64>,
        gop_duration_ns: i64,
        shift_ns: i64,
    ) -> Arc<Mutex<Gate>> {
        Arc::new(Mutex::new(Gate {
            start_ns,
            end_ns,
            gop_duration_ns: gop_duration_ns.max(1),
            shift_ns,
            pad: None,
            barrier: None,
            segment: gst::FormattedSegment::new(),
            next_key_ns: None,
            seen: 0,
            kept: 0,
            kept_ns: 0,
            captions: Vec::new(),
            ended: false,
            told: false,
        }))
    }

    /// Puts the gate on `pad`, which all decoded pictures pass. Closed, it holds everything back until it is opened.
    pub(crate) fn install(gate: &Arc<Mutex<Gate>>, pad: &gst::Pad, entry: Entry) {
        let segments = gate.clone();
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(event) = info.event()
                && let gst::EventView::Segment(event) = event.view()
                && let Some(segment) = event.segment().downcast_ref::<gst::ClockTime>()
            {
                lock(&segments).segment = segment.clone();
                let mut plain = gst::FormattedSegment::<gst::ClockTime>::new();
                plain.set_start(gst::ClockTime::ZERO);
                let plain = gst::event::Segment::builder(&plain).seqnum(event.seqnum()).build();
                info.data = Some(gst::PadProbeData::Event(plain));
            }
            gst::PadProbeReturn::Ok
        });
        let buffers = gate.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data else {
                return gst::PadProbeReturn::Ok;
            };
            let Some(time) = buffer.pts() else {
                return DROPPED;
            };
            let duration = buffer.duration().unwrap_or(gst::ClockTime::ZERO);
            // Events are sent without the lock: they come back through the gate.
            let (time_ns, is_key) = match lock(&buffers).judge(time, duration) {
                Verdict::Drop => return DROPPED,
                Verdict::Keep(time_ns) => (time_ns, false),
                Verdict::KeepAsKey(time_ns) => (time_ns, true),
            };
            let Some(time) = time_ns.checked_add(ORIGIN_NS).and_then(|time| u64::try_from(time).ok()) else {
                return DROPPED;
            };
            note_captions(&buffers, buffer, time_ns);
            let time = gst::ClockTime::from_nseconds(time);
            let buffer = buffer.make_mut();
            buffer.set_pts(time);
            buffer.set_dts(None);
            if is_key {
                // At this very picture: of requests without a time, only one is heard until the encoder has answered, and
                // encoders look ahead further than from one key frame to the next.
                let event = gst_video::DownstreamForceKeyUnitEvent::builder()
                    .running_time(time)
                    .all_headers(true)
                    .build();
                pad.send_event(event);
            }
            gst::PadProbeReturn::Ok
        });
        let mut opened = lock(gate);
        opened.pad = Some(pad.clone());
        if entry == Entry::Closed {
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

    fn judge(&mut self, time: gst::ClockTime, duration: gst::ClockTime) -> Verdict {
        self.seen += 1;
        if self.ended {
            return Verdict::Drop;
        }
        let Some(time) = stream_time(&self.segment, time) else {
            return Verdict::Drop;
        };
        // What is shown before zero is hidden by an edit; what is still shown then begins at zero.
        let mut time = time.saturating_sub(self.shift_ns);
        if time < 0 {
            if time.saturating_add_unsigned(duration.nseconds()) <= 0 {
                return Verdict::Drop;
            }
            time = 0;
        }
        if self.start_ns.is_some_and(|start| time < start) {
            return Verdict::Drop;
        }
        if self.end_ns.is_some_and(|end| time >= end) {
            self.ended = true;
            return Verdict::Drop;
        }
        self.kept += 1;
        self.kept_ns = self.kept_ns.max(time);
        // Counted from zero, so that all chunks of a film have one grid.
        let due = self.next_key_ns.is_none_or(|next| time >= next);
        if !due {
            return Verdict::Keep(time);
        }
        self.next_key_ns = Some((time.div_euclid(self.gop_duration_ns) + 1) * self.gop_duration_ns);
        Verdict::KeepAsKey(time)
    }
}

/// Records of captions of one chunk: a day of two fields at 60 Hz.
const CAPTIONS_SIZE_BYTES_MAX: usize = 128 << 20;

/// Keeps the captions that came with a picture which is shown at `time_ns`.
fn note_captions(gate: &Mutex<Gate>, buffer: &gst::BufferRef, time_ns: i64) {
    for meta in buffer.iter_meta::<gst_video::VideoCaptionMeta>() {
        if meta.caption_type() != gst_video::VideoCaptionType::Cea708Raw {
            continue;
        }
        let records: Vec<u8> = captions::of_triplets(time_ns, meta.data())
            .flat_map(captions::Pair::to_record)
            .collect();
        let mut gate = lock(gate);
        if gate.captions.len() + records.len() <= CAPTIONS_SIZE_BYTES_MAX {
            gate.captions.extend(records);
        }
    }
}

/// Whether pictures may pass at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// They are those of the chunk, or come shortly before.
    Open,
    /// The source has yet to be moved to the chunk.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Drop,
    /// At this time of the source, in nanoseconds.
    Keep(i64),
    KeepAsKey(i64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Kind {
        Drop,
        Keep,
        KeepAsKey,
    }

    impl Kind {
        fn of(verdict: Verdict) -> Kind {
            match verdict {
                Verdict::Drop => Kind::Drop,
                Verdict::Keep(_) => Kind::Keep,
                Verdict::KeepAsKey(_) => Kind::KeepAsKey,
            }
        }
    }

    #[test]
    fn a_chunk_keeps_its_own_pictures_and_no_others() {
        gst::init().unwrap();
        let check = |shift_ms, range: (Option<i64>, Option<i64>), times_ms: &[u64], expected: &[Kind]| {
            let ns = |ms: i64| ms * 1_000_000;
            let gate = Gate::new(range.0.map(ns), range.1.map(ns), ns(2_000), ns(shift_ms));
            let mut gate = gate.lock().unwrap();
            let verdicts: Vec<_> = times_ms
                .iter()
                .map(|ms| Kind::of(gate.judge(gst::ClockTime::from_mseconds(*ms), gst::ClockTime::from_mseconds(40))))
                .collect();
            assert_eq!(verdicts, expected, "{range:?} {times_ms:?}");
        };
        use Kind::{Drop, Keep, KeepAsKey};
        check(
            0,
            (None, None),
            &[0, 1_000, 1_999, 2_000, 2_001, 4_100, 5_999],
            &[KeepAsKey, Keep, Keep, KeepAsKey, Keep, KeepAsKey, Keep],
        );
        check(
            0,
            (Some(2_000), Some(4_000)),
            &[1_000, 1_999, 2_010, 3_999, 4_000, 3_000],
            &[Drop, Drop, KeepAsKey, Keep, Drop, Drop],
        );
        // A film that starts late, and one with a gap.
        check(
            0,
            (None, Some(4_000)),
            &[1_900, 2_000, 2_100, 9_000],
            &[KeepAsKey, KeepAsKey, Keep, Drop],
        );
        check(
            0,
            (None, None),
            &[0, 6_500, 7_000, 8_000],
            &[KeepAsKey, KeepAsKey, Keep, KeepAsKey],
        );
        // Two pictures that an edit hides, and one of which it hides the beginning.
        check(
            100,
            (None, None),
            &[0, 40, 80, 120, 2_099, 2_100],
            &[Drop, Drop, KeepAsKey, Keep, Keep, KeepAsKey],
        );
    }
}
