#![allow(clippy::indexing_slicing, clippy::expect_used, clippy::unusual_byte_groupings)]

use super::*;
use crate::codec::bits::BitWriter;
use crate::codec::vui::{FrameRate, SampleAspectRatio};
use crate::codec::{ColorInfo, VideoRange, tests::hex};

/// Main 10 1920x1080, HLG.
const HLG: &str = "01022000000000000000000099f000fcfdfafa00000303a00001001840010c01ffff02200000030000030000030000030\
                   0992c09a10001002842010102200000030000030000030000030099a003c0801107cada2d2bb04bb9a848904815c50a40\
                   a20001000a4401c06670c8640cc640";
/// Main 10 1920x1080 with a Dolby Vision profile 8.4 layer.
const DOLBY: &str = "010220000000b0000000000078f000fcfdfafa00000b04a00001001840010c01ffff022000000300b000000300000300\
                     7815c090a100010024420101022000000300b00000030000030078a003c0801107cad8815ee45954d424482402a20001\
                     00084401c02cb86414c9a70001000d4e019408002fe9a03d13404280";
fn parse(hvcc: &str) -> (HevcConfig, Sps) {
    let config = HevcConfig::parse(&hex(hvcc)).expect("valid hvcC");
    let sps = Sps::parse(config.units(NalType::SPS).next().expect("one")).expect("valid sps");
    (config, sps)
}

#[test]
fn configurations_of_real_files() {
    for (hvcc, codec, size, depth, rate) in [
        (HLG, "hvc1.2.4.L153", (1920, 1080), 10, None),
        (DOLBY, "hvc1.2.4.L120.B0", (1920, 1080), 10, None),
    ] {
        let (config, sps) = parse(hvcc);
        assert_eq!(config.rfc6381("hvc1"), codec);
        assert_eq!(sps.profile, config.profile);
        assert_eq!((sps.width, sps.height), size);
        assert_eq!(
            (sps.bit_depth_luma, config.bit_depth_luma, sps.chroma_format),
            (depth, depth, 1)
        );
        assert_eq!(sps.frame_rate, rate, "{codec}");
        let vps = Vps::parse(config.units(NalType::VPS).next().expect("one")).expect("valid vps");
        assert_eq!((vps.profile, vps.layer_count), (config.profile.clone(), 1));
        let pps = Pps::parse(config.units(NalType::PPS).next().expect("one")).expect("valid pps");
        assert_eq!((pps.id, pps.sps_id), (0, 0));
        assert_eq!(sps.color.expect("described").video_range(), VideoRange::Hlg);
    }
}

#[test]
fn building_gives_the_writers_record() {
    for hvcc in [HLG, DOLBY] {
        let (config, _) = parse(hvcc);
        let mut units: Vec<&[u8]> = config
            .arrays
            .iter()
            .flat_map(|array| array.units.iter().map(Vec::as_slice))
            .collect();
        units.reverse();
        let built = HevcConfig::build(&units).expect("complete");
        let mut expected = config.clone();
        expected.arrays.retain(|array| array.nal_type.is_parameter_set());
        expected.arrays.iter_mut().for_each(|array| array.complete = true);
        expected.temporal_id_nested = built.temporal_id_nested;
        expected.temporal_layer_count = built.temporal_layer_count;
        assert_eq!(built, expected);
        assert_eq!(HevcConfig::parse(&built.serialise().expect("fits")), Ok(built));
    }
    assert!(HevcConfig::build(&[]).is_err());
}

#[test]
fn arrays_are_written_in_order() {
    let (mut config, _) = parse(DOLBY);
    let straight = config.serialise().expect("fits");
    config.arrays.reverse();
    config.arrays.rotate_left(1);
    assert_eq!(config.serialise(), Ok(straight.clone()));
    let written = hex(DOLBY);
    // The file states version and reserved bits the same way, so nothing differs.
    assert_eq!(straight, written);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = hex(DOLBY);
    for cut in 0..bytes.len() {
        assert!(HevcConfig::parse(&bytes[..cut]).is_err(), "{cut}");
    }
    let (config, _) = parse(DOLBY);
    let sps = config.units(NalType::SPS).next().expect("one");
    for cut in 0..sps.len() - 1 {
        assert!(Sps::parse(&sps[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn codec_strings() {
    let check = |profile: ProfileTierLevel, expected: &str| assert_eq!(profile.rfc6381("hvc1"), expected);
    let main = ProfileTierLevel {
        space: 0,
        high_tier: false,
        profile: 1,
        compatibility: 0x6000_0000,
        constraints: [0xb0, 0, 0, 0, 0, 0],
        level: 93,
    };
    check(main.clone(), "hvc1.1.6.L93.B0");
    check(
        ProfileTierLevel {
            constraints: [0; 6],
            ..main.clone()
        },
        "hvc1.1.6.L93",
    );
    check(
        ProfileTierLevel {
            constraints: [0x90, 0, 8, 0, 0, 0],
            ..main.clone()
        },
        "hvc1.1.6.L93.90.0.8",
    );
    check(
        ProfileTierLevel {
            space: 1,
            high_tier: true,
            profile: 2,
            compatibility: 0x2000_0000,
            level: 153,
            ..main
        },
        "hvc1.A2.4.H153.B0",
    );
}

#[test]
fn nal_types() {
    for (nal_type, irap, idr, rasl, radl) in [
        (1, false, false, false, false),
        (6, false, false, false, true),
        (8, false, false, true, false),
        (16, true, false, false, false),
        (19, true, true, false, false),
        (20, true, true, false, false),
        (21, true, false, false, false),
        (32, false, false, false, false),
    ] {
        let nal = [nal_type << 1, 1, 0x80];
        let found = NalType::of(&nal).expect("header");
        assert_eq!(
            (found.is_irap(), found.is_idr(), found.is_rasl(), found.is_radl()),
            (irap, idr, rasl, radl)
        );
        assert_eq!(is_first_slice(&nal), nal_type < 32);
    }
    assert_eq!(
        NalType::of(&ACCESS_UNIT_DELIMITER),
        Some(NalType::ACCESS_UNIT_DELIMITER)
    );
    assert_eq!((NalType::of(&[0x40]), layer_id(&[0x41, 0x09])), (None, Some(33)));
    let cra: &[u8] = &[42, 1, 0x80];
    let other_layer: &[u8] = &[38, 9, 0x80];
    assert_eq!(picture_type([other_layer, cra]), Some(NalType::CRA));
}

/// `(delta, used)` pairs of a set, negative side first.
type Sides = (Vec<(i32, bool)>, Vec<(i32, bool)>);

#[test]
fn predicted_reference_sets_follow_equations_7_61_and_7_62() {
    let reference = ShortTermRefPicSet {
        negative: vec![(-4, true), (-8, true)],
        positive: vec![(4, true)],
    };
    // delta_rps, flags (used, use_delta) of each reference entry and of the reference picture itself.
    let check = |delta_rps: i32, flags: &[(bool, bool)], expected: Sides| {
        let mut writer = BitWriter::new();
        writer.flag(true);
        writer.flag(delta_rps < 0);
        let code = u64::from(delta_rps.unsigned_abs());
        let bits = 64 - code.leading_zeros();
        writer.write(code, 2 * bits - 1);
        for &(used, use_delta) in flags {
            writer.flag(used);
            if !used {
                writer.flag(use_delta);
            }
        }
        let bytes = writer.into_bytes();
        let mut reader = BitReader::new(&bytes, "t");
        let set = ShortTermRefPicSet::read_in_sps(&mut reader, std::slice::from_ref(&reference)).expect("valid");
        assert_eq!((set.negative, set.positive), expected);
    };
    let all = [(true, true); 4];
    check(-2, &all, (vec![(-2, true), (-6, true), (-10, true)], vec![(2, true)]));
    check(2, &all, (vec![(-2, true), (-6, true)], vec![(2, true), (6, true)]));
    // An entry that lands on the picture itself drops out.
    check(4, &all, (vec![(-4, true)], vec![(4, true), (8, true)]));
    let some = [(false, false), (true, true), (false, true), (false, true)];
    check(-4, &some, (vec![(-4, false), (-12, true)], vec![]));
    // What moves to the other side comes nearest last there, for it was nearest before.
    let ahead = ShortTermRefPicSet {
        negative: vec![],
        positive: vec![(1, true), (3, true)],
    };
    let mut reader = BitReader::new(&[0b1_1_00101_1, 0b1_1_000000], "t");
    let set = ShortTermRefPicSet::read_in_sps(&mut reader, &[ahead]).expect("valid");
    assert_eq!(
        (set.negative, set.positive),
        (vec![(-2, true), (-4, true), (-5, true)], vec![])
    );
}

#[test]
fn sequence_parameter_sets_of_x265() {
    let rate = |num| {
        Some(FrameRate {
            num,
            den: 1,
            fixed: false,
        })
    };
    for (nal, size, sar, color, frame_rate) in [
        (
            "420101016000000300900000030000030078a002d08010e596566924cafff0005000268080000003008000000c8422",
            (1440, 1080),
            Some(SampleAspectRatio { width: 5, height: 2 }),
            Some(ColorInfo::UNSPECIFIED),
            rate(25),
        ),
        (
            "42010101600000030090000003000003003fa00462014165959a4932bc05a808080f08000003000800000300f04022",
            (560, 320),
            Some(SampleAspectRatio::SQUARE),
            Some(ColorInfo {
                primaries: 1,
                transfer: 1,
                matrix: 1,
                full_range: false,
            }),
            rate(30),
        ),
    ] {
        let sps = Sps::parse(&hex(nal)).expect("valid");
        assert_eq!((sps.width, sps.height), size);
        assert_eq!((sps.sar, sps.frame_rate), (sar, frame_rate));
        assert_eq!(
            sps.color.filter(|color| color.is_described()),
            color.filter(|color| color.is_described())
        );
    }
}

/// x265: 4:2:2 10 bits, two temporal layers, PQ in full range, constant bit rate.
const LAYERED: &str = "4201020408000003009d0800000300003c0000b00b480484d965652b2c9272bc05b848804820000003002000000303cc0292cdc001\
                       e848003d09f0007a12000f4264";

#[test]
fn sub_layers_and_hrd() {
    let sps = Sps::parse(&hex(LAYERED)).expect("valid");
    assert_eq!(
        (sps.width, sps.height, sps.chroma_format, sps.bit_depth_luma),
        (360, 288, 2, 10)
    );
    assert_eq!(
        (sps.profile.profile, sps.profile.level, sps.temporal_layer_count),
        (4, 60, 2)
    );
    assert_eq!(
        (sps.reorder_picture_count_max, sps.sar),
        (2, Some(SampleAspectRatio::SQUARE))
    );
    assert_eq!(
        sps.frame_rate,
        Some(FrameRate {
            num: 30,
            den: 1,
            fixed: true
        })
    );
    assert_eq!(
        sps.color,
        Some(ColorInfo {
            primaries: 9,
            transfer: 16,
            matrix: 9,
            full_range: true
        })
    );
    let vps = Vps::parse(&hex("40010c02ffff0408000003009d0800000300003c00009594aca048")).expect("valid");
    assert_eq!((vps.profile, vps.temporal_layer_count), (sps.profile, 2));
}

/// [`LAYERED`] with bits replaced: at each place, counted in the unescaped NAL unit, the given number of bits makes room
/// for the given ones.
fn spliced(edits: &[(u64, u64, Vec<bool>)]) -> Vec<u8> {
    let nal = unescape_rbsp(&hex(LAYERED)).into_owned();
    let mut reader = BitReader::new(&nal, "t");
    let mut writer = BitWriter::new();
    for (place, removed, bits) in edits {
        while reader.position_bits() < *place {
            writer.flag(reader.flag().expect("inside"));
        }
        reader.skip(*removed).expect("inside");
        bits.iter().for_each(|&bit| writer.flag(bit));
    }
    while let Ok(bit) = reader.flag() {
        writer.flag(bit);
    }
    let mut escaped = Vec::new();
    for byte in writer.into_bytes() {
        if byte <= 3 && escaped.ends_with(&[0, 0]) {
            escaped.push(3);
        }
        escaped.push(byte);
    }
    escaped
}

#[test]
fn scaling_list_data_is_passed_over() {
    let mut data = vec![true];
    for list in 0..20 {
        // The first of each size is written out: a DC value above 8x8, then deltas of zero. The others are predicted.
        data.push(matches!(list, 0 | 6 | 12 | 18));
        let codes = match list {
            0 => 16,
            6 => 64,
            12 | 18 => 65,
            _ => 1,
        };
        data.extend(vec![true; codes]);
    }
    // sps_scaling_list_data_present_flag stands at bit 228.
    assert_eq!(Sps::parse(&spliced(&[(228, 1, data)])), Sps::parse(&hex(LAYERED)));
}

#[test]
fn decoding_unit_hrd_is_passed_over() {
    let edits = [
        (351, 1, [vec![true], vec![false; 19]].concat()), // sub_pic_hrd_params_present_flag and its four fields
        (360, 0, vec![true; 4]),                          // cpb_size_du_scale
        (432, 0, vec![true; 2]),                          // size and rate per decoding unit, of each layer
        (490, 0, vec![true; 2]),
    ];
    assert_eq!(Sps::parse(&spliced(&edits)), Sps::parse(&hex(LAYERED)));
}
