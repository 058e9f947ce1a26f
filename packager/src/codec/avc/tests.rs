#![allow(clippy::indexing_slicing, clippy::expect_used)]

use super::*;
use crate::codec::bits::BitWriter;
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
fn picture_parameter_set_of_x264() {
    let pps = Pps::parse(&hex("68ebe3cb22c0")).expect("valid");
    let expected = Pps {
        id: 0,
        sps_id: 0,
        cabac: true,
        bottom_field_pic_order_present: false,
        slice_group_count: 1,
        slice_group_map_type: 0,
        slice_group_change_rate: 0,
        ref_idx_l0_default_count: 3,
        ref_idx_l1_default_count: 1,
        weighted_pred: true,
        weighted_bipred_idc: 2,
        deblocking_control_present: true,
        redundant_pic_cnt_present: false,
    };
    assert_eq!(pps, expected);
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

#[test]
fn interlaced_stream_with_hrd() {
    // x264: 720x576 fields at 25 frames, 16:15 samples, constant bit rate.
    let sps = Sps::parse(&hex(
        "6764001eacd940b424dff8008000788000000300800000193020007a12000f427261807c50a658",
    ))
    .expect("valid");
    assert_eq!((sps.width, sps.height, sps.frame_mbs_only), (720, 576, false));
    assert_eq!(sps.sar, Some(SampleAspectRatio { width: 16, height: 15 }));
    assert_eq!(
        sps.frame_rate,
        Some(FrameRate {
            num: 25,
            den: 1,
            fixed: false
        })
    );
    let delays = sps.hrd_delay_bits.expect("present");
    assert_eq!((delays.cpb_removal, delays.dpb_output), (13, 7));
    assert!(sps.pic_struct_present);
    assert_eq!(sps.reorder_frame_count_max, Some(2));
}

#[test]
fn scaling_lists_are_passed_over() {
    let mut writer = BitWriter::new();
    writer.bytes(&[0x67, 244, 0, 30]);
    let one = |writer: &mut BitWriter| writer.write(1, 1); // ue(v) 0, or a flag that is set
    one(&mut writer); // id
    writer.write(0b0_0100, 5); // chroma_format_idc 3
    writer.write(0, 1); // separate_colour_plane_flag
    one(&mut writer);
    one(&mut writer); // bit depths
    writer.write(0, 1); // transform bypass
    one(&mut writer); // scaling matrix present
    one(&mut writer); // first list: sixteen deltas of zero
    writer.write(0xffff, 16);
    one(&mut writer); // second list: -8 ends it
    writer.write(0b0_0001_0001, 9);
    writer.write(0, 4); // four lists absent
    one(&mut writer); // an 8x8 list
    writer.write(u64::MAX, 64);
    writer.write(0, 5); // five lists absent
    one(&mut writer); // log2_max_frame_num_minus4
    writer.write(0b011, 3); // pic_order_cnt_type 2
    one(&mut writer); // max_num_ref_frames
    writer.write(0, 1);
    writer.write(0b0_0101, 5); // five macroblocks wide
    writer.write(0b0_0100, 5); // four high
    writer.write(0b11, 2); // frame_mbs_only, direct_8x8_inference
    writer.write(0b001, 3); // no cropping, no VUI, stop bit
    let sps = Sps::parse(&writer.into_bytes()).expect("valid");
    assert_eq!((sps.width, sps.height, sps.chroma_format), (80, 64, 3));
    assert_eq!(
        (sps.pic_order_cnt, sps.reorder_frames_max()),
        (PicOrderCnt::DecodingOrder, 0)
    );
}
