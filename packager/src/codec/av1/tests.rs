#![allow(clippy::indexing_slicing, clippy::expect_used)]

use super::*;
use crate::codec::tests::hex;
use crate::codec::vui::FrameRate;

#[test]
fn configurations_of_real_files() {
    for (av1c, codec, size, depth, rate) in [
        (
            "81050c000a0b0000002d4c37b3dfff9804",
            "av01.0.05M.08",
            (1080, 720),
            8,
            None::<FrameRate>,
        ),
        (
            "81050c000a0b0000002d4cffb3dfff9804",
            "av01.0.05M.08",
            (1280, 720),
            8,
            None,
        ),
        ("81000c000a0a00000003b4fd97ffe601", "av01.0.00M.08", (160, 90), 8, None),
        (
            "81080c000a0b00000042abbfc3700be001",
            "av01.0.08M.08",
            (1920, 1080),
            8,
            None,
        ),
        (
            "81094c000a0b0000004aabbfc377ffe701",
            "av01.0.09M.10",
            (1920, 1080),
            10,
            None,
        ),
        (
            "81094c000a0e0000004aabbfc3776fe342440241",
            "av01.0.09M.10.0.110.09.16.09.0",
            (1920, 1080),
            10,
            None,
        ),
    ] {
        let bytes = hex(av1c);
        let config = Av1Config::parse(&bytes).expect("valid");
        let header = config.sequence_header().expect("valid").expect("present");
        assert_eq!(config.rfc6381(header.color), codec);
        assert_eq!(header.rfc6381(), codec);
        assert_eq!((header.width, header.height), size);
        assert_eq!(
            (header.bit_depth, config.bit_depth, header.frame_rate),
            (depth, depth, rate)
        );
        assert_eq!(config.serialise(), bytes);
        assert_eq!(Av1Config::build(&config.config_obus), Ok(config.clone()));
        for cut in 0..config.config_obus.len() - 1 {
            assert!(Av1Config::build(&config.config_obus[..cut]).is_err(), "{cut}");
        }
        for cut in 0..4 {
            assert!(Av1Config::parse(&bytes[..cut]).is_err(), "{cut}");
        }
    }
}

#[test]
fn sequence_header_without_size_field_gets_one() {
    let config = Av1Config::parse(&hex("81050c000a0b0000002d4c37b3dfff9804")).expect("valid");
    let without = [&[0x08][..], &config.config_obus[2..]].concat();
    let built = Av1Config::build(&without).expect("valid");
    assert_eq!(built.sequence_header(), config.sequence_header());
    assert_eq!(built.config_obus[..3], [0x0a, 0x8b, 0x00]);
}

#[test]
fn optional_string_fields_go_together() {
    let base = Av1Config {
        profile: 0,
        level: 8,
        high_tier: false,
        bit_depth: 8,
        monochrome: false,
        subsampling_x: true,
        subsampling_y: true,
        chroma_sample_position: 0,
        initial_presentation_delay_minus_one: None,
        config_obus: Vec::new(),
    };
    let color = |primaries, transfer, matrix, full_range| ColorInfo {
        primaries,
        transfer,
        matrix,
        full_range,
    };
    for (config, color, expected) in [
        (base.clone(), color(1, 1, 1, false), "av01.0.08M.08"),
        (base.clone(), ColorInfo::UNSPECIFIED, "av01.0.08M.08"),
        (base.clone(), color(1, 1, 1, true), "av01.0.08M.08.0.110.01.01.01.1"),
        (
            Av1Config {
                profile: 1,
                high_tier: true,
                level: 19,
                ..base.clone()
            },
            color(9, 18, 9, false),
            "av01.1.19H.08.0.110.09.18.09.0",
        ),
        (
            Av1Config {
                bit_depth: 10,
                monochrome: true,
                chroma_sample_position: 2,
                ..base
            },
            color(1, 1, 1, false),
            "av01.0.08M.10.1.112.01.01.01.0",
        ),
    ] {
        assert_eq!(config.rfc6381(color), expected);
    }
}

#[test]
fn samples_drop_what_iso_bmff_forbids() {
    // Temporal delimiter, sequence header, padding, frame.
    let unit = hex("12000a0b0000002d4c37b3dfff98047a0200003203100000");
    let ranges = sample_ranges(&unit).expect("valid");
    assert_eq!(ranges, [2..15, 19..24]);
    let parsed = TemporalUnit::parse(&unit, None).expect("valid");
    assert!(parsed.is_sync() && parsed.shown_key_frame && !parsed.hidden_key_frame);
    // The same frame as inter frame, hidden key frame, and shown again.
    for (first, shown, hidden) in [(0x30, false, false), (0x00, false, true), (0x80, false, false)] {
        let unit = [0x32, 3, first, 0, 0];
        let parsed = TemporalUnit::parse(&unit, None).expect("valid");
        assert_eq!((parsed.shown_key_frame, parsed.hidden_key_frame), (shown, hidden));
        assert!(!parsed.is_sync());
    }
}

#[test]
fn obu_sizes_are_bounded() {
    for broken in [
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f][..],
        &[0x0a, 0x80],
        &[0x0a, 2, 0],
        &[0x8a, 0],
        &[0x0e],
    ] {
        assert!(obus(broken).last().is_some_and(|obu| obu.is_err()), "{broken:?}");
        assert!(sample_ranges(broken).is_err());
    }
    let nine = [0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
    assert!(sample_ranges(&nine).is_err());
    assert_eq!(sample_ranges(&[]), Ok(vec![]));
}
