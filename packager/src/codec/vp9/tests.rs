#![allow(clippy::indexing_slicing, clippy::expect_used, clippy::single_range_in_vec_init)]

use super::*;
use crate::codec::tests::hex;

#[test]
fn records_of_real_files_are_completed() {
    for (vpcc, size, rate, codec) in [
        (
            "01000000001e800202020000",
            (800, 640),
            30,
            "vp09.00.30.08.00.02.02.02.00",
        ),
        ("01000000001f820101010000", (1280, 720), 25, "vp09.00.31.08"),
        ("010000000000820202020000", (320, 240), 10, "vp09.00.20.08"),
        (
            "010000000200a20910090000",
            (1920, 1080),
            60,
            "vp09.02.41.10.01.09.16.09.00",
        ),
    ] {
        let bytes = hex(vpcc);
        let config = VpConfig::parse(&bytes).expect("valid");
        assert_eq!(config.serialise(), bytes);
        let (width, height) = size;
        assert_eq!(config.complete(width, height, rate, 1).rfc6381("vp09"), codec);
        for cut in 0..bytes.len() {
            assert!(VpConfig::parse(&bytes[..cut]).is_err());
        }
    }
    assert!(VpConfig::parse(&[0; 12]).is_err());
}

#[test]
fn levels_follow_the_table() {
    for (width, height, num, den, level) in [
        (256, 144, 15, 1, 10),
        (256, 144, 30, 1, 11),
        (640, 360, 30, 1, 21),
        (1280, 720, 30_000, 1_001, 31),
        (1280, 720, 60, 1, 40),
        (1920, 1080, 30, 1, 40),
        (1920, 1080, 60, 1, 41),
        (3840, 2160, 30, 1, 50),
        (3840, 2160, 60, 1, 51),
        (3840, 2160, 120, 1, 52),
        (7680, 4320, 60, 1, 61),
        (1024, 16, 1, 1, 21),
        (65_536, 65_536, 120, 1, 62),
    ] {
        assert_eq!(
            level_for(width, height, num, den),
            level,
            "{width}x{height}@{num}/{den}"
        );
    }
}

/// A key frame header: profile 0, 8 bits, BT.709, 320x240.
const KEY_FRAME: [u8; 9] = [0x82, 0x49, 0x83, 0x42, 0x40, 0x13, 0xf0, 0x0e, 0xf0];

#[test]
fn key_frame_header() {
    let header = FrameHeader::parse(&KEY_FRAME).expect("valid");
    let format = header.format.expect("key frame");
    assert_eq!((header.profile, header.key_frame, header.show_frame), (0, true, true));
    assert_eq!((format.width, format.height, format.bit_depth), (320, 240, 8));
    assert_eq!(format.color().matrix, 1);
    assert_eq!(
        VpConfig::build(&KEY_FRAME, 30, 1).expect("key").rfc6381("vp09"),
        "vp09.00.20.08"
    );
    for cut in 0..KEY_FRAME.len() {
        assert!(FrameHeader::parse(&KEY_FRAME[..cut]).is_err(), "{cut}");
    }
    assert!(!FrameHeader::parse(&[0x86, 0]).expect("inter").key_frame);
    assert!(FrameHeader::parse(&[0x88]).expect("shown again").show_existing_frame);
    assert!(VpConfig::build(&[0x86, 0], 30, 1).is_err());
}

#[test]
fn superframes_are_split_by_their_index() {
    // Two frames of three and two bytes, sizes in one byte each.
    let sample = [1, 2, 3, 4, 5, 0xc1, 3, 2, 0xc1];
    assert_eq!(frames(&sample), Ok(vec![0..3, 3..5]));
    let hidden = [1, 2, 3, 4, 5, 0xc1, 3, 0, 0xc1];
    assert_eq!(frames(&hidden), Ok(vec![0..3]));
    // Sizes in two bytes, the lower first.
    let long = [&[7; 300][..], &[0xc9, 0x00, 0x01, 44, 0, 0xc9]].concat();
    assert_eq!(frames(&long), Ok(vec![0..256, 256..300]));
    assert!(frames(&[1, 2, 0xc1, 3, 2, 0xc1]).is_err());
    // A last byte that only looks like a marker.
    assert_eq!(frames(&[1, 2, 3, 0xc1]), Ok(vec![0..4]));
    assert_eq!(frames(&[0xff]), Ok(vec![0..1]));
    assert_eq!(frames(&[]), Ok(vec![]));
    assert!(is_key_frame(&[]).is_err());
    assert_eq!(is_key_frame(&KEY_FRAME), Ok(true));
}
