#![allow(clippy::indexing_slicing, clippy::expect_used)]

use super::*;
use crate::codec::vui::{FrameRate, SampleAspectRatio};
use crate::codec::{ColorInfo, tests::hex};

/// High 3.1 1080x720 at 29.97, from x264.
const HIGH: &str = "0164001fffe100196764001facd9404405be5f011000003e90000ea600f183196001000668ebe3cb22c0";
/// Constrained Baseline 3.0 at 24.
const BASELINE: &str = "0142c01effe100176742c01e9a720283f60220000003002000000611e2c5c901000568ce06cb20";
/// High 4:4:4 Predictive 704x576 with sample aspect ratio, from x264.
const HIGH_444: &str = "01f40016ffe1001a67f40016919b2816024d80880000030008000003001078b16cb001000568ebe3c448";
/// High 2x2, PQ colour.
const PQ: &str = "0164000affe1001c6764000aacd95f8888c05a848804a0000003002000000641e244b2c001000668ebe3cb22c0fdf8f800";
/// Main 640x428, BT.601 colour.
const BT601: &str = "014d001effe1000f274d001eab60501bfdcd418041808001000428ee3c80";

fn parse(avcc: &str) -> (AvcConfig, Sps) {
    let config = AvcConfig::parse(&hex(avcc)).expect("valid avcC");
    let sps = Sps::parse(&config.sps[0]).expect("valid sps");
    (config, sps)
}

#[test]
fn configurations_of_real_files() {
    let rate = |num, den, fixed| Some(FrameRate { num, den, fixed });
    for (avcc, codec, size, depth, chroma, frame_rate, reorder) in [
        (
            HIGH,
            "avc1.64001F",
            (1080, 720),
            8,
            1,
            rate(30_000, 1_001, false),
            Some(2),
        ),
        (BASELINE, "avc1.42C01E", (320, 240), 8, 1, rate(24, 1, true), Some(0)),
        (HIGH_444, "avc1.F40016", (704, 576), 8, 3, rate(1, 1, false), Some(2)),
        (PQ, "avc1.64000A", (2, 2), 8, 1, rate(25, 1, false), Some(2)),
        (BT601, "avc1.4D001E", (640, 428), 8, 1, None, None),
    ] {
        let (config, sps) = parse(avcc);
        assert_eq!(config.rfc6381("avc1"), codec);
        assert_eq!(sps.rfc6381("avc1"), codec);
        assert_eq!((sps.width, sps.height), size, "{codec}");
        assert_eq!(
            (sps.bit_depth_luma, sps.bit_depth_chroma, sps.chroma_format),
            (depth, depth, chroma)
        );
        assert_eq!(sps.frame_rate, frame_rate, "{codec}");
        assert_eq!(sps.reorder_frame_count_max, reorder, "{codec}");
        assert_eq!(config.nal_length_size, 4);
        let pps = Pps::parse(&config.pps[0]).expect("valid pps");
        assert_eq!((pps.id, pps.sps_id, pps.slice_group_count), (0, 0, 1));
        assert_eq!(pps.cabac, config.profile != 66);
    }
    let color = |primaries, transfer, matrix| {
        Some(ColorInfo {
            primaries,
            transfer,
            matrix,
            full_range: false,
        })
    };
    assert_eq!(parse(PQ).1.color, color(9, 16, 9));
    assert_eq!(parse(BT601).1.color, color(6, 1, 6));
    assert_eq!(parse(HIGH).1.sar, Some(SampleAspectRatio::SQUARE));
}

#[test]
fn serialising_gives_the_bytes_back() {
    for avcc in [BASELINE, PQ, BT601] {
        let bytes = hex(avcc);
        assert_eq!(
            AvcConfig::parse(&bytes).and_then(|config| config.serialise()),
            Ok(bytes)
        );
    }
    // These two leave out what the High profiles add; building puts it in.
    for avcc in [HIGH, HIGH_444] {
        let (config, sps) = parse(avcc);
        assert_eq!(config.serialise().as_deref(), Ok(&hex(avcc)[..]));
        let built = AvcConfig::build(&[&config.sps[0]], &[&config.pps[0]]).expect("complete");
        let tail = [0xfc | sps.chroma_format, 0xf8, 0xf8, 0];
        assert_eq!(built.serialise(), Ok([hex(avcc), tail.to_vec()].concat()));
    }
    assert!(AvcConfig::build(&[], &[]).is_err());
    let (mut config, _) = parse(HIGH);
    config.sps = vec![config.sps[0].clone(); 32];
    assert!(config.serialise().is_err());
    config.sps = vec![vec![0; 65_536]];
    assert!(config.serialise().is_err());
}

#[test]
fn every_truncation_is_refused() {
    let bytes = hex(PQ);
    for cut in 0..bytes.len() {
        let parsed = AvcConfig::parse(&bytes[..cut]);
        // The four bytes of the High extension are the only part that may be missing.
        assert_eq!(parsed.is_ok(), (bytes.len() - 4..bytes.len()).contains(&cut), "{cut}");
    }
    let (config, _) = parse(PQ);
    for cut in 0..config.sps[0].len() - 1 {
        assert!(Sps::parse(&config.sps[0][..cut]).is_err(), "{cut}");
    }
}

#[test]
fn nal_types() {
    assert!(is_idr(&[0x65, 0x88]) && !is_idr(&[0x41, 0x9a]) && !is_idr(&[]));
    assert_eq!(NalType::of(&ACCESS_UNIT_DELIMITER), Some(NalType::AccessUnitDelimiter));
    assert!(NalType::of(&[0x21]).is_some_and(NalType::is_vcl));
    let i_slice = SliceStart::parse(&[0x65, 0x88, 0x84, 0x00]).expect("slice");
    assert_eq!(
        i_slice,
        SliceStart {
            first_mb: 0,
            slice_type: SliceType::I,
            pps_id: 0
        }
    );
    assert!(SliceStart::parse(&[0x65]).is_err() && SliceStart::parse(&[]).is_err());
}

#[test]
fn random_access_needs_an_intra_slice() {
    let idr: &[u8] = &[0x65, 0x88, 0x84];
    let i_slice: &[u8] = &[0x41, 0x88, 0x84];
    let p_slice: &[u8] = &[0x41, 0x9a, 0x00];
    // Buffering period first, then recovery_frame_cnt 0, exact_match_flag 1.
    let sei: &[u8] = &[0x06, 0x00, 0x01, 0x80, 0x06, 0x01, 0xc4, 0x80];
    let point = RecoveryPoint {
        frame_count: 0,
        exact_match: true,
        broken_link: false,
    };
    for (units, expected) in [
        (vec![sei, idr], RandomAccess::Idr),
        (vec![sei, i_slice], RandomAccess::Recovery(point)),
        (vec![i_slice], RandomAccess::None),
        (vec![sei, p_slice], RandomAccess::None),
        (vec![sei], RandomAccess::None),
        (vec![], RandomAccess::None),
    ] {
        assert_eq!(random_access(units), expected);
    }
    assert!(is_recovery_point(sei));
    for cut in 0..sei.len() - 1 {
        assert!(!is_recovery_point(&sei[..cut]));
    }
}
