#![allow(clippy::indexing_slicing, clippy::expect_used, clippy::unusual_byte_groupings)]

use super::*;
use crate::codec::bits::BitWriter;
use crate::codec::tests::hex;

/// Words per frame at 48, 44.1 and 32 kHz by `frmsizecod`, ETSI TS 102 366 table 4.13.
const FRAME_WORDS: [[u16; 3]; 38] = [
    [64, 69, 96],
    [64, 70, 96],
    [80, 87, 120],
    [80, 88, 120],
    [96, 104, 144],
    [96, 105, 144],
    [112, 121, 168],
    [112, 122, 168],
    [128, 139, 192],
    [128, 140, 192],
    [160, 174, 240],
    [160, 175, 240],
    [192, 208, 288],
    [192, 209, 288],
    [224, 243, 336],
    [224, 244, 336],
    [256, 278, 384],
    [256, 279, 384],
    [320, 348, 480],
    [320, 349, 480],
    [384, 417, 576],
    [384, 418, 576],
    [448, 487, 672],
    [448, 488, 672],
    [512, 557, 768],
    [512, 558, 768],
    [640, 696, 960],
    [640, 697, 960],
    [768, 835, 1_152],
    [768, 836, 1_152],
    [896, 975, 1_344],
    [896, 976, 1_344],
    [1_024, 1_114, 1_536],
    [1_024, 1_115, 1_536],
    [1_152, 1_253, 1_728],
    [1_152, 1_254, 1_728],
    [1_280, 1_393, 1_920],
    [1_280, 1_394, 1_920],
];

/// First bytes of an AC-3 frame: 3/2 with LFE, bsid 8.
fn ac3_head(fscod: u8, frame_size_code: u8) -> Vec<u8> {
    vec![0x0b, 0x77, 0, 0, (fscod << 6) | frame_size_code, 8 << 3, 0b111_00_00_1]
}

#[test]
fn frame_sizes_follow_table_4_13() {
    for (code, words) in FRAME_WORDS.iter().enumerate() {
        for (fscod, (&words, rate)) in words.iter().zip([48_000, 44_100, 32_000]).enumerate() {
            let frame = SyncFrame::parse(&ac3_head(fscod as u8, code as u8)).expect("valid");
            assert_eq!(
                (frame.frame_size_bytes, frame.sampling_rate),
                (usize::from(words) * 2, rate),
                "{code}"
            );
            assert_eq!((frame.channels(), frame.channel_locations()), (6, 0xf801));
        }
    }
    assert!(SyncFrame::parse(&ac3_head(0, 38)).is_err());
    assert!(SyncFrame::parse(&ac3_head(3, 0)).is_err());
    let head = ac3_head(0, 0);
    for cut in 0..head.len() {
        assert!(SyncFrame::parse(&head[..cut]).is_err());
    }
}

#[test]
fn channels_of_each_mode() {
    for (acmod, bits, channels) in [
        (0, 0, 2),
        (1, 0, 1),
        (2, 2, 2),
        (3, 2, 3),
        (4, 2, 3),
        (5, 4, 4),
        (6, 2, 4),
        (7, 4, 5),
    ] {
        for lfe in [false, true] {
            let mut writer = BitWriter::new();
            writer.bytes(&[0x0b, 0x77, 0, 0, 0, 8 << 3]);
            writer.write(acmod, 3);
            writer.write(0, bits);
            writer.flag(lfe);
            let frame = SyncFrame::parse(&writer.into_bytes()).expect("valid");
            assert_eq!(
                (frame.lfe, frame.channels()),
                (lfe, channels + u8::from(lfe)),
                "{acmod}"
            );
        }
    }
}

/// Fields of a test frame in Enhanced AC-3.
struct Eac3 {
    stream_type: u64,
    id: u64,
    block_code: u64,
    channel_map: Option<u64>,
    joc: Option<u64>,
}

const MAIN: Eac3 = Eac3 {
    stream_type: 0,
    id: 0,
    block_code: 3,
    channel_map: None,
    joc: None,
};

/// A frame of 64 bytes, 48 kHz, 3/2 with LFE.
fn eac3(frame: &Eac3) -> Vec<u8> {
    let mut writer = BitWriter::new();
    writer.write(0x0b77, 16);
    writer.write(frame.stream_type, 2);
    writer.write(frame.id, 3);
    writer.write(31, 11);
    writer.write(0, 2);
    writer.write(frame.block_code, 2);
    writer.write(0b1111, 4); // acmod 7, lfeon
    writer.write(16, 5);
    writer.write(0, 5); // dialnorm
    writer.write(0b1_1010_1010, 9); // compr
    if frame.stream_type == 1 {
        writer.flag(frame.channel_map.is_some());
        writer.write(
            frame.channel_map.unwrap_or(0),
            if frame.channel_map.is_some() { 16 } else { 0 },
        );
    }
    writer.flag(true); // mixing metadata
    writer.write(0, 2 + 6 + 6);
    writer.write(0b1_00000, 6); // lfemixlevcod
    if frame.stream_type == 0 {
        writer.write(0b1_000000, 7); // pgmscl
        writer.flag(false); // extpgmscl
        writer.write(0b11, 2);
        writer.write(1, 5); // mixdata of three bytes
        writer.write(0, 24);
        writer.flag(true); // frmmixcfginfo
        let blocks = if frame.block_code == 3 { 6 } else { frame.block_code + 1 };
        if blocks == 1 {
            writer.write(0, 5);
        }
        for _ in 0..if blocks == 1 { 0 } else { blocks } {
            writer.write(0b1_00000, 6);
        }
    }
    writer.flag(true); // informational metadata
    writer.write(0b010_00, 5); // bsmod 2
    writer.write(0, 2); // dsurexmod
    writer.write(0b1_0000_0000, 9); // audio production
    writer.flag(false); // sourcefscod
    if frame.stream_type == 0 && frame.block_code != 3 {
        writer.flag(false); // convsync
    }
    writer.flag(frame.joc.is_some());
    if let Some(complexity) = frame.joc {
        writer.write(1, 6);
        writer.write(1, 8);
        writer.write(complexity, 8);
    }
    let mut bytes = writer.into_bytes();
    bytes.resize(64, 0);
    bytes
}

#[test]
fn enhanced_headers() {
    let frame = SyncFrame::parse(&eac3(&Eac3 { joc: Some(16), ..MAIN })).expect("valid");
    assert_eq!(
        (frame.frame_size_bytes, frame.sampling_rate, frame.sample_count()),
        (64, 48_000, 1_536)
    );
    assert_eq!((frame.bsid, frame.bsmod, frame.joc_complexity), (16, 2, Some(16)));
    assert!(frame.is_enhanced() && frame.begins_access_unit());
    assert_eq!(SyncFrame::parse(&eac3(&MAIN)).expect("valid").joc_complexity, None);
    for (block_code, samples) in [(0, 256), (1, 512), (2, 768)] {
        let frame = SyncFrame::parse(&eac3(&Eac3 {
            block_code,
            joc: Some(5),
            ..MAIN
        }))
        .expect("valid");
        assert_eq!((frame.sample_count(), frame.joc_complexity), (samples, Some(5)));
    }
    let dependent = Eac3 {
        stream_type: 1,
        channel_map: Some(0x1a00),
        ..MAIN
    };
    let frame = SyncFrame::parse(&eac3(&dependent)).expect("valid");
    assert_eq!(
        (frame.stream_type, frame.channel_locations(), frame.channels()),
        (StreamType::Dependent, 0x1a00, 4)
    );
    let bytes = eac3(&Eac3 { joc: Some(16), ..MAIN });
    for cut in 0..25 {
        assert!(SyncFrame::parse(&bytes[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn access_units_hold_six_blocks_of_every_substream() {
    let main = eac3(&MAIN);
    let dependent = eac3(&Eac3 {
        stream_type: 1,
        channel_map: Some(0x1a00),
        ..MAIN
    });
    let stream = [&main[..], &dependent, &main, &dependent].concat();
    let unit = AccessUnit::parse(&stream).expect("valid").expect("whole");
    assert_eq!(
        (unit.size_bytes, unit.frames.len(), unit.is_closed, unit.sample_count()),
        (128, 2, true, 1_536)
    );
    let last = AccessUnit::parse(&stream[128..]).expect("valid").expect("whole");
    assert_eq!((last.size_bytes, last.is_closed), (128, false));
    assert_eq!(AccessUnit::parse(&main[..40]), Ok(None));
    assert!(AccessUnit::parse(&dependent).is_err());
    let short = eac3(&Eac3 { block_code: 1, ..MAIN });
    let unit = AccessUnit::parse(&[&short[..]; 4].concat())
        .expect("valid")
        .expect("whole");
    assert_eq!((unit.size_bytes, unit.frames.len(), unit.is_closed), (192, 3, true));
    assert_eq!(AccessUnit::parse(&[&short[..]; 2].concat()), Ok(None));
    assert_eq!(sync_frames(&stream).filter(Result::is_ok).count(), 4);
    assert!(sync_frames(&stream[..100]).last().is_some_and(|frame| frame.is_err()));
}

#[test]
fn ac3_boxes() {
    let dac3 = Dac3::parse(&hex("0c3dc0")).expect("valid");
    assert_eq!(
        (dac3.sampling_rate(), dac3.channels(), dac3.bitrate_bps()),
        (Some(48_000), 6, Some(384_000))
    );
    assert_eq!(dac3.serialise(), hex("0c3dc0"));
    let frame = SyncFrame::parse(&ac3_head(1, 29)).expect("valid");
    let built = Dac3::build(&frame).expect("AC-3");
    assert_eq!(
        (built.sampling_rate(), built.bitrate_bps()),
        (Some(44_100), Some(384_000))
    );
    assert_eq!(Dac3::parse(&built.serialise()), Ok(built));
    assert!(Dac3::build(&SyncFrame::parse(&eac3(&MAIN)).expect("valid")).is_err());
    assert!(Dac3::parse(&[0; 2]).is_err());
}

#[test]
fn eac3_boxes() {
    for (bytes, rate, channels) in [("1f40200f00", 1_000, "6"), ("1400200f000110", 640, "16/JOC")] {
        let dec3 = Dec3::parse(&hex(bytes)).expect("valid");
        assert_eq!((dec3.data_rate_kbps, dec3.hls_channels().as_str()), (rate, channels));
        assert_eq!(
            (dec3.channels(), dec3.channel_locations(), dec3.sampling_rate()),
            (6, 0xf801, Some(48_000))
        );
        assert_eq!(dec3.serialise(), Ok(hex(bytes)));
        for cut in 0..5 {
            assert!(Dec3::parse(&hex(bytes)[..cut]).is_err());
        }
    }
}

#[test]
fn dec3_of_an_access_unit() {
    // 7.1: the dependent substream replaces the surrounds and adds the rear pair.
    let main = eac3(&Eac3 { joc: Some(16), ..MAIN });
    let dependent = eac3(&Eac3 {
        stream_type: 1,
        channel_map: Some(0x1a00),
        ..MAIN
    });
    let unit = AccessUnit::parse(&[&main[..], &dependent].concat())
        .expect("valid")
        .expect("whole");
    let dec3 = Dec3::build(&unit).expect("complete");
    assert_eq!(
        (dec3.data_rate_kbps, dec3.channels(), dec3.joc_complexity),
        (32, 8, Some(16))
    );
    assert_eq!(
        (dec3.substreams[0].dependent_count, dec3.substreams[0].channel_location),
        (1, 0b10)
    );
    assert_eq!(Dec3::parse(&dec3.serialise().expect("fits")), Ok(dec3));
    // The same in frames of three blocks: the second round tells nothing further.
    let main = eac3(&Eac3 { block_code: 2, ..MAIN });
    let dependent = eac3(&Eac3 {
        stream_type: 1,
        block_code: 2,
        channel_map: Some(0x1a00),
        ..MAIN
    });
    let unit = AccessUnit::parse(&[&main[..], &dependent, &main, &dependent].concat())
        .expect("valid")
        .expect("whole");
    let dec3 = Dec3::build(&unit).expect("complete");
    assert_eq!(
        (
            dec3.substreams.len(),
            dec3.substreams[0].dependent_count,
            dec3.channels()
        ),
        (1, 1, 8)
    );
    // Two programmes in frames of three blocks, each frame twice.
    let first = eac3(&Eac3 { block_code: 2, ..MAIN });
    let second = eac3(&Eac3 {
        block_code: 2,
        id: 1,
        ..MAIN
    });
    let unit = AccessUnit::parse(&[&first[..], &second, &first, &second].concat())
        .expect("valid")
        .expect("whole");
    let dec3 = Dec3::build(&unit).expect("complete");
    assert_eq!(
        (unit.frames.len(), dec3.substreams.len(), dec3.data_rate_kbps),
        (4, 2, 64)
    );
    assert!(
        Dec3 {
            substreams: Vec::new(),
            ..dec3
        }
        .serialise()
        .is_err()
    );
}

#[test]
fn chan_loc_bits() {
    // Least significant bit first: Lc/Rc is bit 0, Lrs/Rrs bit 1, LFE2 bit 8.
    let substream = |channel_location| IndependentSubstream {
        fscod: 0,
        bsid: 16,
        associated_service: false,
        bsmod: 0,
        acmod: 2,
        lfe: false,
        dependent_count: 1,
        channel_location,
    };
    for (bit, locations) in [(0, 0x0400), (1, 0x0200), (2, 0x0100), (7, 0x0008), (8, 0x0002)] {
        assert_eq!(substream(1 << bit).channel_locations(), 0xa000 | locations, "{bit}");
    }
}
