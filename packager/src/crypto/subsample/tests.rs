#![allow(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

use super::*;
use crate::codec::bits::BitWriter;
use crate::codec::tests::hex;
use crate::isobmff::sample_entry::{self, TrackFacts, VideoFacts};
use crate::time::Timescale;
use ProtectionScheme::{Cbc1, Cbcs, Cenc, Cens};

const SCHEMES: [ProtectionScheme; 4] = [Cenc, Cens, Cbc1, Cbcs];

/// Real samples, three or four of each coding, behind the configuration that goes with them.
const SEEDS: &[(Codec, &str, &[&str])] = &[
    (
        Codec::Avc,
        "0164000affe100176764000aace425b011000003000100000300320f12251201000668ebe04d2c8bfdf8f800",
        &[
            "000000266588\
             84019f663f01872cd78b9cae293e1ddb36a4826aba4c8ce5efde9400836543d18d3ee27f0000001a656221005725a943a2cb427229\
             475bde59d4be530c40bc3cc019",
            "00000008419a29b119ffe3800000000841668a6c467fe380",
            "00000007019e45e467f181000000080167917919fff181",
        ],
    ),
    (
        Codec::Hevc,
        "0101600000009000000000001ef000fcfdf8f800000f03200001001840010c01ffff01600000030090000003000003001e913024210001\
         002842010101600000030090000003000003001ea0420859644eaf2bc05a02000003000200000300321022000100064401c173d089",
        &[
            "000000482801af0618fe1244b797f068c63c2f899479d9d766f33832bb262f829d97ca199eeadeb7aaee7cd2ff9af61572fb76c17e\
             1752cb97f763af02548dd76d6e04af644273c669595518",
            "0000000c0201d0115784318304fb2730",
            "0000000a0001e024bf860cb007f8",
        ],
    ),
    (
        Codec::Vp9,
        "01000000000a820202020000",
        &[
            "824983420001f001f60038241c18f60000306000007e911fef19afb7ab6b937077d87649296f22adae3d42fffcf6db04876623fc3b\
             6fe0dad62241adb1766dc547bddc801d94ae06585572e9db0158309ff5c23974fcdfaf81d8dbc178ab3e018550e139e04e46fa1648\
             18eaaeea383e867995aff727ad7cdebdd89f0a9d9f3d2b537da6636cdc27c6f447f6948b6935bea5c86787cac50f4a7a41ec30bcf3",
            "860040921c00590000036000004340",
            "860040929c00580000036000004340",
        ],
    ),
    (
        Codec::Av1,
        "81000c000a0a0000000227fe6d7c8020",
        &[
            "0a0a0000000227fe6d7c80203279140022e00000800ba0d182c4766e86a3fd02c22b369efb8171b8fbfd2031433059b400125bdc36\
             88b6438d631521f4a1ab08e3385458da99d7761fd652ca2353058b159e998649b883a98583439ab5c36c6cb366a9aac134f6c08b78\
             def70ae4703c26076cdea50d512d41d25a0a221a2b3a3e0e20e97aab8e",
            "32113301e040000006e4000002c00020008c70",
            "32113302e082000006e4000002c00020009010",
            "32113303c102020006e4000002c00020008b98",
        ],
    ),
];

fn describe(codec: Codec, config: &[u8]) -> TrackDescription {
    let track = TrackFacts {
        source_track_id: 1,
        timescale: Timescale::new(90_000).expect("not zero"),
        language: "und".into(),
        label: None,
    };
    let video = VideoFacts {
        size: Some((32, 32)),
        ..VideoFacts::default()
    };
    let description = match codec {
        Codec::Avc => sample_entry::avc(&track, config, &video),
        Codec::Hevc => sample_entry::hevc(&track, config, &video),
        Codec::Vp9 => sample_entry::vp9(&track, config, &video),
        Codec::Av1 => sample_entry::av1(&track, config, &video),
        _ => panic!("{codec:?}"),
    };
    description.expect("valid")
}

fn scanner(codec: Codec, config: &[u8]) -> SubsampleScanner {
    SubsampleScanner::new(&describe(codec, config)).expect("valid")
}

fn entries(scanner: &mut SubsampleScanner, scheme: ProtectionScheme, sample: &[u8]) -> Vec<(u16, u32)> {
    let mut out = Vec::new();
    scanner.append(scheme, sample, &mut out).expect("valid");
    out.iter().map(|entry| (entry.clear, entry.protected)).collect()
}

#[test]
fn samples_of_each_coding() {
    let check = |codec: Codec, scheme, expected: &[&[(u16, u32)]]| {
        let (_, config, samples) = SEEDS.iter().find(|seed| seed.0 == codec).expect("there");
        let mut scanner = scanner(codec, &hex(config));
        for (sample, expected) in samples.iter().zip(expected) {
            assert_eq!(
                entries(&mut scanner, scheme, &hex(sample)),
                *expected,
                "{codec:?} {scheme:?}"
            );
        }
    };
    // Where headers end is what FFmpeg's `trace_headers` says of these samples.
    check(
        Codec::Avc,
        Cbcs,
        &[&[(9, 33), (9, 21)], &[(10, 2), (10, 2)], &[(9, 2), (10, 2)]],
    );
    check(Codec::Hevc, Cbcs, &[&[(9, 67)], &[(13, 3)], &[(12, 2)]]);
    check(Codec::Av1, Cbcs, &[&[(23, 112)], &[(17, 2)], &[(17, 2)], &[(17, 2)]]);
    for scheme in SCHEMES {
        check(Codec::Vp9, scheme, &[&[(31, 128)], &[(15, 0)], &[(15, 0)]]);
    }
    for scheme in [Cenc, Cens, Cbc1] {
        check(Codec::Avc, scheme, &[&[(10, 32), (14, 16)], &[(24, 0)], &[(23, 0)]]);
        check(Codec::Hevc, scheme, &[&[(12, 64)], &[(16, 0)], &[(14, 0)]]);
        check(Codec::Av1, scheme, &[&[(23, 112)], &[(19, 0)], &[(19, 0)], &[(19, 0)]]);
    }
}

#[test]
fn further_views_are_protected_behind_their_headers() {
    let check = |codec: Codec, unit: &str, cbcs: &[(u16, u32)], blocks: &[(u16, u32)]| {
        let (_, config, samples) = SEEDS.iter().find(|seed| seed.0 == codec).expect("there");
        for (scheme, expected) in [(Cbcs, cbcs), (Cenc, blocks)] {
            let mut scanner = scanner(codec, &hex(config));
            let mut sample = hex(samples[0]);
            let unit = hex(unit);
            sample.extend((unit.len() as u32 + 40).to_be_bytes());
            sample.extend(&unit);
            sample.extend([0x5a; 40]);
            assert_eq!(entries(&mut scanner, scheme, &sample), expected, "{codec:?} {scheme:?}");
        }
    };
    // Layer 1 of MV-HEVC: a slice segment, then a prefix SEI message, which stays clear.
    check(Codec::Hevc, "0209", &[(9, 67), (6, 40)], &[(12, 64), (14, 32)]);
    check(Codec::Hevc, "4e09", &[(9, 67), (46, 0)], &[(12, 64), (46, 0)]);
    // MVC's slice extension and an auxiliary picture's slice, then a subset SPS.
    check(
        Codec::Avc,
        "74400001",
        &[(9, 33), (9, 21), (8, 40)],
        &[(10, 32), (14, 16), (16, 32)],
    );
    check(
        Codec::Avc,
        "73a0b0c0",
        &[(9, 33), (9, 21), (8, 40)],
        &[(10, 32), (14, 16), (16, 32)],
    );
    check(
        Codec::Avc,
        "6f400001",
        &[(9, 33), (9, 21), (48, 0)],
        &[(10, 32), (14, 16), (48, 0)],
    );
}

#[test]
fn sizes_around_a_block() {
    let check = |protected: usize, whole_blocks: &[(u16, u32)], all: &[(u16, u32)]| {
        for scheme in SCHEMES {
            let mut out = Vec::new();
            let mut entries = Entries::new(scheme, &mut out);
            entries.protect(5, 5 + protected).expect("room");
            entries.finish(protected + 7).expect("room");
            let out: Vec<_> = out.iter().map(|entry| (entry.clear, entry.protected)).collect();
            assert_eq!(
                out,
                if scheme == Cbcs { all } else { whole_blocks },
                "{scheme:?} {protected}"
            );
        }
    };
    check(0, &[(7, 0)], &[(7, 0)]);
    check(1, &[(8, 0)], &[(5, 1), (2, 0)]);
    check(15, &[(22, 0)], &[(5, 15), (2, 0)]);
    check(16, &[(5, 16), (2, 0)], &[(5, 16), (2, 0)]);
    check(17, &[(6, 16), (2, 0)], &[(5, 17), (2, 0)]);
    check(31, &[(20, 16), (2, 0)], &[(5, 31), (2, 0)]);
    check(32, &[(5, 32), (2, 0)], &[(5, 32), (2, 0)]);
    check(33, &[(6, 32), (2, 0)], &[(5, 33), (2, 0)]);
}

#[test]
fn long_clear_bytes_take_several_entries() {
    let check = |clear: usize, expected: &[(u16, u32)]| {
        let mut out = Vec::new();
        let mut entries = Entries::new(Cenc, &mut out);
        entries.protect(clear, clear + 16).expect("room");
        entries.finish(clear + 16).expect("room");
        let out: Vec<_> = out.iter().map(|entry| (entry.clear, entry.protected)).collect();
        assert_eq!(out, expected, "{clear}");
    };
    check(65_535, &[(65_535, 16)]);
    check(65_536, &[(65_535, 0), (1, 16)]);
    check(131_070, &[(65_535, 0), (65_535, 16)]);
    check(131_071, &[(65_535, 0), (65_535, 0), (1, 16)]);
}

/// A picture of four tiles beside each other.
mod four_tiles {
    use super::*;

    /// `av1C` with the header of a still picture of 256x64 luma samples, without chroma.
    pub(super) fn config() -> Vec<u8> {
        let mut header = BitWriter::new();
        header.write(0, 3); // seq_profile
        header.write(0b11, 2); // still_picture, reduced_still_picture_header
        header.write(0, 5); // seq_level_idx
        header.write(15, 4);
        header.write(15, 4);
        header.write(255, 16);
        header.write(63, 16);
        header.write(0, 3); // superblocks of 64, no intra tools
        header.write(0, 3); // no superres, cdef, restoration
        header.write(0b01, 2); // 8 bits, mono_chrome
        header.write(0, 2); // color_description_present_flag, color_range
        header.write(0, 1); // film_grain_params_present
        header.write(1, 1); // trailing bit
        let header = obu(1, &header.into_bytes());
        let mut config = hex("81001c00");
        config.extend(header);
        config
    }

    pub(super) fn obu(obu_type: u8, payload: &[u8]) -> Vec<u8> {
        assert!(payload.len() < 128, "one byte of leb128");
        [&[obu_type << 3 | 2, payload.len() as u8], payload].concat()
    }

    /// The picture's header, five bytes with nothing behind the last bit.
    pub(super) fn header() -> BitWriter {
        let mut header = BitWriter::new();
        header.write(0, 3); // disable_cdf_update, allow_screen_content_tools, render_and_frame_size_different
        header.write(0b111, 3); // uniform tiles, of one superblock each
        header.write(0, 4); // context_update_tile_id, tile_size_bytes_minus_1
        header.write(100, 8); // base_q_idx
        header.write(0, 4); // no delta, matrix, segmentation, delta_q
        header.write(0, 16); // no loop filter
        header.write(0, 2); // tx_mode_select, reduced_tx_set
        header
    }

    /// What follows a header: the tiles from `first` on.
    pub(super) fn group(first: u64, sizes: &[usize]) -> Vec<u8> {
        let mut group = BitWriter::new();
        let last = first + sizes.len() as u64 - 1;
        group.flag(sizes.len() < 4);
        if sizes.len() < 4 {
            group.write(first, 2);
            group.write(last, 2);
        }
        for (index, size) in sizes.iter().enumerate() {
            if index + 1 < sizes.len() {
                group.bytes(&[*size as u8 - 1]);
            }
            group.bytes(&vec![0xaa; *size]);
        }
        group.into_bytes()
    }

    /// Header and tiles in one unit.
    pub(super) fn frame(sizes: [usize; 4]) -> Vec<u8> {
        let mut header = header();
        header.bytes(&group(0, &sizes));
        obu(6, &header.into_bytes())
    }

    /// A header and units of tiles behind it.
    pub(super) fn groups(groups: &[&[usize]]) -> Vec<u8> {
        let mut header = header();
        header.flag(true); // trailing bit
        let mut sample = obu(3, &header.into_bytes());
        let mut first = 0;
        for sizes in groups {
            sample.extend(obu(4, &group(first, sizes)));
            first += sizes.len() as u64;
        }
        sample
    }
}

#[test]
fn each_tile_of_av1_is_a_subsample() {
    let check = |sample: &[u8], whole_blocks: &[(u16, u32)], all: &[(u16, u32)]| {
        for scheme in SCHEMES {
            let mut scanner = scanner(Codec::Av1, &four_tiles::config());
            let expected = if scheme == Cbcs { all } else { whole_blocks };
            assert_eq!(entries(&mut scanner, scheme, sample), expected, "{scheme:?}");
        }
    };
    // Eight bytes of headers; each size but the last takes one.
    check(
        &four_tiles::frame([15, 16, 17, 33]),
        &[(25, 16), (2, 16), (1, 32)],
        &[(9, 15), (1, 16), (1, 17), (0, 33)],
    );
    check(
        &four_tiles::frame([1, 31, 32, 1]),
        &[(26, 16), (1, 32), (1, 0)],
        &[(9, 1), (1, 31), (1, 32), (0, 1)],
    );
    check(
        &four_tiles::frame([1, 2, 3, 4]),
        &[(21, 0)],
        &[(9, 1), (1, 2), (1, 3), (0, 4)],
    );
    // Eight bytes of header unit, three before the tiles of each group.
    check(
        &four_tiles::groups(&[&[16, 20], &[32], &[15]]),
        &[(12, 16), (4, 16), (3, 32), (18, 0)],
        &[(12, 16), (0, 20), (3, 32), (3, 15)],
    );
    // A group of all tiles says neither which is first nor which is last.
    check(
        &four_tiles::groups(&[&[16, 16, 16, 16]]),
        &[(12, 16), (1, 16), (1, 16), (0, 16)],
        &[(12, 16), (1, 16), (1, 16), (0, 16)],
    );
    // A header said again between groups is a copy.
    let header = &four_tiles::groups(&[])[..];
    let [first, second] = [&[16, 16][..], &[16, 16]].map(|sizes| sizes.to_vec());
    let groups = four_tiles::groups(&[&first, &second]);
    let (before, after) = groups.split_at(groups.len() - 36);
    check(
        &[before, header, after].concat(),
        &[(12, 16), (0, 16), (12, 16), (0, 16)],
        &[(12, 16), (0, 16), (12, 16), (0, 16)],
    );
}

#[test]
fn what_av1_can_not_be_read_without() {
    let check = |sample: &[u8], expected: &str| {
        let mut scanner = scanner(Codec::Av1, &four_tiles::config());
        let error = scanner.append(Cenc, sample, &mut Vec::new()).expect_err("refused");
        assert_eq!(error.to_string(), expected);
    };
    let group = four_tiles::obu(4, &four_tiles::group(0, &[16; 4]));
    check(&group, "unit at byte 0: av1 tile group needs its frame header");
    let twice = [four_tiles::frame([16; 4]), group].concat();
    check(&twice, "unit at byte 75: av1 tile group needs its frame header");
    check(
        &four_tiles::obu(8, &[0; 8]),
        "unit at byte 0: av1 sample: obu_type 8 is not supported",
    );
    let mut reversed = four_tiles::groups(&[&[16, 16]]);
    reversed[10] = 0b1100_1000;
    check(
        &reversed,
        "unit at byte 8: av1 tile group at bit 5: tg_end must not be 1",
    );
}

#[test]
fn nothing_is_taken_for_clear_because_it_was_not_found() {
    let check = |codec: Codec, sample: &[u8], expected: Option<&str>| {
        let (_, config, _) = SEEDS.iter().find(|seed| seed.0 == codec).expect("there");
        for scheme in SCHEMES {
            let error = scanner(codec, &hex(config))
                .append(scheme, sample, &mut Vec::new())
                .err();
            assert_eq!(error.map(|error| error.to_string()).as_deref(), expected, "{codec:?}");
        }
    };
    // A prefix unit that spans the whole sample, start codes and slice in it.
    let prefix = hex("0000000d6e80800f00000001658884019f");
    check(Codec::Avc, &prefix, Some("unit at byte 0: sample needs a slice"));
    let delimiter = hex("00000003460150");
    check(
        Codec::Hevc,
        &delimiter,
        Some("unit at byte 0: sample needs a slice segment"),
    );
    check(
        Codec::Av1,
        &hex("2a00"),
        Some("unit at byte 0: sample needs a frame header"),
    );
    for codec in [Codec::Avc, Codec::Hevc, Codec::Vp9, Codec::Av1] {
        check(codec, &[], None);
    }
}

#[test]
fn more_tiles_than_saiz_has_room_for() {
    let sample = four_tiles::frame([16; 4]).repeat(12);
    for scheme in SCHEMES {
        let mut scanner = scanner(Codec::Av1, &four_tiles::config());
        let mut out = vec![Subsample { clear: 1, protected: 2 }];
        let size = sample.len() / 12;
        let fits = scheme.subsample_count_max() / 4 * size;
        scanner.append(scheme, &sample[..fits], &mut Vec::new()).expect("fits");
        let error = scanner.append(scheme, &sample, &mut out).expect_err("does not fit");
        assert!(
            matches!(error, SubsampleError::TooMany { count_max, .. } if count_max == scheme.subsample_count_max()),
            "{error}"
        );
        assert_eq!(out.len(), 1, "as before");
    }
}

/// What holds for whatever is accepted.
fn check_accepted(scheme: ProtectionScheme, sample: &[u8], entries: &[Subsample]) {
    let total: u64 = entries
        .iter()
        .map(|entry| u64::from(entry.clear) + u64::from(entry.protected))
        .sum();
    assert_eq!(total, sample.len() as u64, "{scheme:?} {sample:x?}");
    assert!(entries.len() <= scheme.subsample_count_max());
    if scheme != Cbcs {
        assert!(entries.iter().all(|entry| entry.protected % 16 == 0));
    }
}

fn scan_damaged(mut scanner: SubsampleScanner, sample: &[u8]) {
    for scheme in SCHEMES {
        let mut out = vec![Subsample { clear: 1, protected: 2 }];
        match scanner.append(scheme, sample, &mut out) {
            Ok(()) => check_accepted(scheme, sample, &out[1..]),
            Err(_) => assert_eq!(out.len(), 1, "as before"),
        }
    }
}

/// Each sample, with a scanner that has seen those before it.
fn seeds() -> impl Iterator<Item = (SubsampleScanner, Vec<u8>)> {
    let real = SEEDS.iter().flat_map(|(codec, config, samples)| {
        let mut scanner = scanner(*codec, &hex(config));
        samples.iter().map(move |sample| {
            let before = scanner.clone();
            let sample = hex(sample);
            scanner.append(Cenc, &sample, &mut Vec::new()).expect("valid");
            (before, sample)
        })
    });
    let tiles = [
        four_tiles::frame([15, 16, 17, 33]),
        four_tiles::groups(&[&[16, 20], &[32], &[15]]),
    ];
    real.chain(tiles.map(|sample| (scanner(Codec::Av1, &four_tiles::config()), sample)))
}

#[test]
fn cut_at_every_byte() {
    for (scanner, sample) in seeds() {
        for cut in 0..=sample.len() {
            scan_damaged(scanner.clone(), &sample[..cut]);
        }
    }
}

#[test]
fn mutated_with_a_fixed_seed() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound.max(1) as u64) as usize
    };
    for (scanner, sample) in seeds() {
        for _ in 0..3_000 {
            let mut damaged = sample.clone();
            for _ in 0..=random(4) {
                // Headers are at the front.
                let at = match random(2) {
                    0 => random(sample.len().min(24)),
                    _ => random(sample.len()),
                };
                damaged[at] = match random(3) {
                    0 => damaged[at] ^ 1 << random(8),
                    1 => [0, 0xff, 0x80, 0x7f][random(4)],
                    _ => random(256) as u8,
                };
            }
            scan_damaged(scanner.clone(), &damaged);
        }
    }
}
