use proptest::prelude::*;

use super::*;
use crate::source::Orientation;
use crate::source::tests::video;

fn rows(choice: &Choice) -> Vec<(u32, u32, u32, Preset)> {
    let row = |made: &Rendition| (made.width, made.height, made.bitrate_kbps, made.preset);
    choice.renditions.iter().map(row).collect()
}

#[test]
fn usual_sources_have_usual_ladders() {
    use Preset::{Fast, Slow};
    let check = |size: (u32, u32), expected: &[(u32, u32, u32, Preset)]| {
        let choice = Ladder::default().choose(&video(size.0, size.1)).unwrap();
        assert_eq!(rows(&choice), expected, "{size:?}");
    };
    let low = [(854, 480, 1_200, Fast), (640, 360, 600, Fast)];
    let with = |top: &[(u32, u32, u32, Preset)]| [top, &low].concat();
    let full = [(1920, 1080, 5_000, Fast), (1280, 720, 2_500, Fast)];
    check((1920, 1080), &with(&full));
    check(
        (3840, 2160),
        &with(&[&[(3840, 2160, 18_000, Slow)], &full[..]].concat()),
    );
    let eight = [(7680, 4320, 40_000, Slow), (3840, 2160, 18_000, Slow)];
    check((7680, 4320), &with(&[&eight[..], &full[..]].concat()));
    // Between steps: its own height, with a rate between theirs and the work of the one above.
    check((2560, 1440), &with(&[&[(2560, 1440, 8_370, Slow)], &full[..]].concat()));
    check((1024, 576), &with(&[(1024, 576, 1_657, Fast)]));
    // Just above a step: its own height instead.
    check(
        (1920, 1088),
        &[
            (1920, 1088, 5_064, Slow),
            (1270, 720, 2_500, Fast),
            (848, 480, 1_200, Fast),
            (636, 360, 600, Fast),
        ],
    );
    // Wide and tall.
    check(
        (1920, 800),
        &[
            (1920, 800, 2_969, Fast),
            (1728, 720, 2_500, Fast),
            (1152, 480, 1_200, Fast),
            (864, 360, 600, Fast),
        ],
    );
    check(
        (1080, 1920),
        &[
            (1080, 1920, 5_000, Fast),
            (720, 1280, 2_500, Fast),
            (480, 854, 1_200, Fast),
            (360, 640, 600, Fast),
        ],
    );
    // Smaller than every step.
    check((320, 240), &[(320, 240, 266, Fast)]);
    check((33, 17), &[(32, 16, 80, Fast)]);
    check((641, 361), &[(640, 360, 600, Fast)]);
}

#[test]
fn turned_and_stretched_sources_are_seen_as_they_should_be() {
    let check = |size: (u32, u32), sample_aspect_ratio, orientation, expected: (u32, u32)| {
        let source = VideoSource {
            sample_aspect_ratio,
            orientation,
            ..video(size.0, size.1)
        };
        let first = Ladder::default().choose(&source).unwrap().renditions.remove(0);
        assert_eq!((first.width, first.height), expected);
    };
    check((1440, 1080), (4, 3), Orientation::Rotate0, (1920, 1080));
    check((720, 576), (16, 15), Orientation::Rotate0, (768, 576));
    check((720, 480), (8, 9), Orientation::Rotate0, (720, 540));
    check((1920, 1080), (1, 1), Orientation::Rotate90, (1080, 1920));
}

#[test]
fn hdr_is_kept_or_mapped() {
    let hdr = VideoSource {
        video_range: VideoRange::Pq,
        bit_depth: 10,
        ..video(1920, 1080)
    };
    let kept = Ladder::default().choose(&hdr).unwrap();
    assert!(
        kept.renditions
            .iter()
            .all(|made| made.codec == VideoCodec::Hevc && made.bit_depth == 10 && !made.maps_tones)
    );
    let mut mixed = Ladder::default();
    mixed.steps.truncate(3);
    mixed.steps[2].codec = Some(VideoCodec::Avc);
    let mapped = mixed.choose(&hdr).unwrap().renditions.remove(0);
    assert_eq!((mapped.bit_depth, mapped.maps_tones), (8, true));
    mixed.steps[2].codec = Some(VideoCodec::Av1);
    assert_eq!(mixed.choose(&hdr).unwrap().renditions[0].bit_depth, 10);
    // Eight bits stay eight.
    let plain = mixed.choose(&video(1920, 1080)).unwrap().renditions.remove(0);
    assert_eq!((plain.bit_depth, plain.maps_tones), (8, false));
}

#[test]
fn what_people_write_is_checked() {
    let check = |change: fn(&mut Ladder), expected: LadderError| {
        let mut ladder = Ladder::default();
        change(&mut ladder);
        assert_eq!(ladder.choose(&video(1280, 720)).unwrap_err(), expected);
    };
    let step = |height, what| LadderError::Step { height, what };
    check(|ladder| ladder.steps.clear(), LadderError::StepCount(0));
    check(|ladder| ladder.gop_duration_ms = 0, LadderError::GopDuration(0));
    check(
        |ladder| ladder.steps[0].height = 0,
        step(0, "height is outside 16 to 8192"),
    );
    check(
        |ladder| ladder.steps[0].bitrate_kbps = 0,
        step(4320, "bitrate_kbps is outside 80 to 400000"),
    );
    check(
        |ladder| ladder.steps[0].quality = Some(99),
        step(4320, "quality is outside 1 to 63"),
    );
    let error = Ladder::default().choose(&video(8, 9)).unwrap_err();
    assert_eq!(error, LadderError::Size { width: 8, height: 9 });
}

proptest! {
    #[test]
    fn nothing_is_enlarged_and_everything_can_be_coded(
        width in 1u32..20_000,
        height in 1u32..20_000,
        aspect in (0u32..300, 0u32..300),
        turned in any::<bool>(),
        own_height in any::<bool>(),
        steps in prop::collection::vec((16u32..8_000, 80u32..100_000), 1..8),
    ) {
        let source = VideoSource {
            sample_aspect_ratio: aspect,
            orientation: if turned { Orientation::Rotate90 } else { Orientation::Rotate0 },
            ..video(width, height)
        };
        let ladder = Ladder {
            steps: steps.iter().map(|(height, bitrate_kbps)| Step {
                height: *height,
                bitrate_kbps: *bitrate_kbps,
                preset: Preset::Fast,
                codec: None,
                quality: None,
            }).collect(),
            own_height,
            ..Ladder::default()
        };
        let (seen_width, seen_height) = source.display_size();
        let Ok(choice) = ladder.choose(&source) else { return Ok(()) };
        let mut last = u32::MAX;
        for made in &choice.renditions {
            prop_assert!(made.width % 2 == 0 && made.height % 2 == 0);
            prop_assert!((SIDE_MIN..=SIDE_MAX).contains(&made.width) && (SIDE_MIN..=SIDE_MAX).contains(&made.height));
            let lines = made.width.min(made.height);
            prop_assert!(lines <= seen_width.min(seen_height));
            prop_assert!(lines <= last);
            last = lines;
            prop_assert!(made.bitrate_kbps >= BITRATE_KBPS_MIN);
            prop_assert_eq!(made.width >= made.height, seen_width >= seen_height || made.width == made.height);
            // The shape stays, to within what even sides allow.
            let (long, short) = (made.width.max(made.height) as i64, lines as i64);
            let (seen_long, seen_short) = (seen_width.max(seen_height) as i64, seen_width.min(seen_height) as i64);
            prop_assert!((long * seen_short - seen_long * short).abs() <= seen_short * 2 + seen_long * 2);
        }
    }
}
