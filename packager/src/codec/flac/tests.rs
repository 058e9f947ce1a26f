#![allow(clippy::indexing_slicing, clippy::expect_used)]

use super::*;
use crate::codec::tests::hex;

const DFLA: &str = "0000000080000022100010000024a000600c0bb8037001b4dbf03ee54c7da568b20fbdd5d6b1a1423919";

#[test]
fn box_of_a_real_file() {
    let bytes = hex("0000000080000022100010000024a000600c0bb8017001b4dbf0c5ee54c7da568b20fbdd5d6b1a14239100");
    let mut payload = bytes[..42].to_vec();
    let info = StreamInfo::parse_dfla(&payload).expect("valid");
    assert_eq!((info.sampling_rate, info.channels), (48_000, 1));
    payload.truncate(41);
    assert!(StreamInfo::parse_dfla(&payload).is_err());

    let info = StreamInfo::parse_dfla(&hex(DFLA)).expect("valid");
    assert_eq!(
        (info.sampling_rate, info.channels, info.bits_per_sample),
        (48_000, 2, 24)
    );
    assert_eq!((info.block_samples_min, info.block_samples_max), (4_096, 4_096));
    assert_eq!(info.serialise_dfla(), hex(DFLA));
    for cut in 0..42 {
        assert!(StreamInfo::parse_dfla(&hex(DFLA)[..cut]).is_err(), "{cut}");
    }
}

/// Header bytes with a right CRC-8.
fn with_crc(mut header: Vec<u8>) -> Vec<u8> {
    header.push(crc8(&header));
    header
}

#[test]
fn frame_headers() {
    let fixed = with_crc(vec![0xff, 0xf8, 0xc9, 0x18, 0x07]);
    let header = FrameHeader::parse(&fixed).expect("valid");
    assert_eq!((header.block_samples, header.sampling_rate), (4_096, Some(44_100)));
    assert_eq!(
        (header.channels, header.bits_per_sample, header.number),
        (2, Some(16), 7)
    );
    assert!(!header.variable_block_size);
    // A sample number of 36 bits, block size and rate written out.
    let long = with_crc(vec![
        0xff, 0xf9, 0x7d, 0xa0, 0xfe, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0x0f, 0xff, 0xac, 0x44,
    ]);
    let header = FrameHeader::parse(&long).expect("valid");
    assert_eq!(
        (header.number, header.block_samples, header.sampling_rate),
        ((1 << 36) - 1, 4_096, Some(44_100))
    );
    for cut in 0..long.len() {
        assert!(FrameHeader::parse(&long[..cut]).is_err(), "{cut}");
    }
    for flipped in 0..fixed.len() * 8 {
        let mut broken = fixed.clone();
        broken[flipped / 8] ^= 1 << (flipped % 8);
        assert!(FrameHeader::parse(&broken).is_err(), "{flipped}");
    }
}

#[test]
fn frames_end_where_the_checksum_says() {
    let info = StreamInfo::parse_dfla(&hex(DFLA)).expect("valid");
    let frame = |number: u8, body: &[u8]| {
        let mut bytes = with_crc(vec![0xff, 0xf8, 0xca, 0x1c, number]);
        bytes.extend(body);
        let crc = bytes.iter().fold(0, |crc, &byte| crc16_step(crc, byte));
        bytes.extend(crc.to_be_bytes());
        bytes
    };
    let (first, second) = (frame(0, &[1, 2, 3, 0xff, 0xf8, 5]), frame(1, &[9; 20]));
    let both = [first.clone(), second.clone()].concat();
    assert_eq!(frame_size_bytes(&both, &info), Some(first.len()));
    assert_eq!(frame_size_bytes(&both[first.len()..], &info), Some(second.len()));
    assert_eq!(frame_size_bytes(&first[..first.len() - 1], &info), None);
    assert_eq!(frame_size_bytes(&[], &info), None);
}

#[test]
fn checksums_have_their_catalogued_check_values() {
    assert_eq!(crc8(b"123456789"), 0xf4);
    assert_eq!(b"123456789".iter().fold(0, |crc, &byte| crc16_step(crc, byte)), 0xfee8);
}

#[test]
fn block_sizes_and_rates_by_code() {
    for (code, samples) in [(1, 192), (2, 576), (5, 4_608), (8, 256), (15, 32_768)] {
        let header = FrameHeader::parse(&with_crc(vec![0xff, 0xf8, code << 4, 0x18, 0])).expect("valid");
        assert_eq!((header.block_samples, header.sampling_rate), (samples, None), "{code}");
    }
    for (code, rate) in [(1, 88_200), (3, 192_000), (4, 8_000), (10, 48_000), (11, 96_000)] {
        let header = FrameHeader::parse(&with_crc(vec![0xff, 0xf8, 0xc0 | code, 0x18, 0])).expect("valid");
        assert_eq!(header.sampling_rate, Some(rate), "{code}");
    }
    for broken in [
        [0xff, 0xf8, 0x09, 0x18, 0],
        [0xff, 0xf8, 0xcf, 0x18, 0],
        [0xff, 0xf8, 0xc9, 0xb8, 0],
    ] {
        assert!(FrameHeader::parse(&with_crc(broken.to_vec())).is_err(), "{broken:x?}");
    }
}
