//! What holds for any text track, wherever it was read from.

use packager::text::webvtt::TimestampMap;
use packager::text::{TextSample, TextTrack, webvtt, wvtt};

const SEGMENT_MS: u64 = 4_000;

/// Writes the track in every form; what is written is read back as the same cues.
pub fn check(track: &TextTrack) {
    let file = webvtt::parse(&webvtt::write(track)).expect("what is written can be read");
    assert_eq!(file.dropped, [], "nothing that is written is dropped");
    assert_eq!(&file.track, track);

    let first_ms = track.cues().first().map_or(0, |cue| cue.start_ms);
    check_window(track, first_ms, first_ms + SEGMENT_MS);
    check_window(track, first_ms.saturating_sub(1), track.end_ms() + 1);
}

fn check_window(track: &TextTrack, start_ms: u64, end_ms: u64) {
    let map = TimestampMap {
        mpegts: (1 << 33) - 1,
        local_ms: start_ms,
    };
    let segment = webvtt::parse(&webvtt::segment(track, start_ms, end_ms, map)).expect("a segment can be read");
    assert_eq!(segment.timestamp_map, Some(map));
    assert!(segment.track.cues().iter().eq(track.window(start_ms, end_ms)));

    let Ok(samples) = wvtt::samples(track, start_ms, end_ms) else {
        return;
    };
    check_gapless(&samples, start_ms, end_ms);
    let config = wvtt::config(track);
    let parsed = wvtt::parse(&config, &samples).expect("wvtt samples can be read");
    assert_eq!(
        parsed.track.end_ms().min(end_ms),
        window_end_ms(track, start_ms, end_ms)
    );
}

/// Samples follow each other from the start of their window to its end.
pub fn check_gapless(samples: &[TextSample], start_ms: u64, end_ms: u64) {
    let mut at_ms = start_ms;
    for sample in samples {
        assert_eq!(sample.start_ms, at_ms);
        assert!(sample.duration_ms > 0);
        at_ms = sample.end_ms();
    }
    assert_eq!(at_ms, end_ms);
}

fn window_end_ms(track: &TextTrack, start_ms: u64, end_ms: u64) -> u64 {
    track
        .window(start_ms, end_ms)
        .map(|cue| cue.end_ms.min(end_ms))
        .max()
        .unwrap_or(0)
}
