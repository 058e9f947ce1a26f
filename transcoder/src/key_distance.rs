//! Where `av1enc` puts key frames: GStreamer 1.22 does not hand on to libaom what is asked of it. At each key frame it is told
//! how many pictures later the next one is; libaom takes no other word on the way.

use std::sync::Mutex;

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::encoder::{AOM_KEY_DISTANCE, AOM_KEY_DISTANCE_MAX};
use crate::pipeline::{PipelineError, lock};

const SECOND_NS: i128 = 1_000_000_000;
/// Times of pictures are rounded down by less than this.
const ROUNDING_NS: i128 = 1_000;

/// Tells `element`, which gets pictures `frame_rate` times a second, of which that at `origin_ns` is the source's zero.
pub(crate) fn tell(
    element: &gst::Element,
    frame_rate: (u32, u32),
    gop_duration_ms: u32,
    origin_ns: i64,
) -> Result<(), PipelineError> {
    let pad = element
        .static_pad("sink")
        .ok_or_else(|| PipelineError::Element(format!("{} has no pad", element.name())))?;
    let weak = element.downgrade();
    // Pictures until the next key frame.
    let left = Mutex::new(0);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let mut left = lock(&left);
        if *left == 0
            && let Some(time) = info.buffer().and_then(|buffer| buffer.pts())
            && let Some(element) = weak.upgrade()
        {
            let time_ns = i64::try_from(time.nseconds())
                .unwrap_or(i64::MAX)
                .saturating_sub(origin_ns);
            *left = until_next(time_ns, frame_rate, gop_duration_ms);
            element.set_property(AOM_KEY_DISTANCE, *left);
        }
        *left = (*left - 1).max(0);
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// Pictures from that at `time_ns` to the next that the gate wants to be a key frame.
fn until_next(time_ns: i64, (numerator, denominator): (u32, u32), gop_duration_ms: u32) -> i32 {
    let gop_ns = i128::from(gop_duration_ms.max(1)) * 1_000_000;
    let time_ns = i128::from(time_ns);
    let next_ns = (time_ns.div_euclid(gop_ns) + 1) * gop_ns;
    let (numerator, period) = (i128::from(numerator), i128::from(denominator.max(1)) * SECOND_NS);
    // The first that is not before.
    let count = ((next_ns - time_ns - ROUNDING_NS) * numerator + period - 1).div_euclid(period);
    i32::try_from(count)
        .unwrap_or(AOM_KEY_DISTANCE_MAX)
        .clamp(1, AOM_KEY_DISTANCE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_are_where_the_gate_wants_them() {
        let check = |frame_rate: (u32, u32), gop_ms: u32, expected: &[i64]| {
            // As containers in nanoseconds have it.
            let time = |index: i64| index * i64::from(frame_rate.1) * 1_000_000_000 / i64::from(frame_rate.0);
            let mut keys = vec![0];
            while keys.len() < expected.len() {
                let last = keys[keys.len() - 1];
                keys.push(last + i64::from(until_next(time(last), frame_rate, gop_ms)));
            }
            assert_eq!(keys, expected, "{frame_rate:?}");
            // The gate's rule.
            for pair in keys.windows(2) {
                let gop_ns = i64::from(gop_ms) * 1_000_000;
                let due = (time(pair[0]) / gop_ns + 1) * gop_ns;
                let first = (pair[0]..).find(|index| time(*index) >= due).unwrap();
                assert!(
                    first - pair[1] <= 1 && time(pair[1]) >= due - 1_000,
                    "{frame_rate:?} {pair:?}"
                );
            }
        };
        check((25, 1), 2_000, &[0, 50, 100, 150]);
        check((30_000, 1_001), 2_000, &[0, 60, 120, 180]);
        check((24_000, 1_001), 2_000, &[0, 48, 96, 144]);
        check((30, 1), 1_900, &[0, 57, 114, 171]);
        check((50, 1), 500, &[0, 25, 50]);
        assert_eq!(until_next(1_960_000_000, (25, 1), 2_000), 1);
        assert_eq!(until_next(-40_000_000, (25, 1), 2_000), 1);
        assert_eq!(until_next(i64::MAX, (u32::MAX, 1), u32::MAX), AOM_KEY_DISTANCE_MAX);
        assert_eq!(until_next(0, (1, u32::MAX), 1), 1);
    }
}
