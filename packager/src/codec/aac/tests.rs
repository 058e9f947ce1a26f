#![allow(clippy::indexing_slicing, clippy::expect_used, clippy::unusual_byte_groupings)]

use super::adts::AdtsHeader;
use super::esds::Esds;
use super::latm::{LatmReader, parse_sync_header};
use super::*;
use crate::codec::tests::hex;

#[test]
fn configurations() {
    // Bytes, codec string, core rate, output rate, core channels, output channels, frame length, sbr, ps.
    for (bytes, codec, rate, output_rate, channels, output_channels, length, sbr, ps) in [
        ("1210", "mp4a.40.2", 44_100, 44_100, 2, 2, 1_024, None, None),
        (
            "119056e500",
            "mp4a.40.2",
            48_000,
            48_000,
            2,
            2,
            1_024,
            Some(false),
            None,
        ),
        ("1308", "mp4a.40.2", 24_000, 24_000, 1, 1, 1_024, None, None),
        ("1214", "mp4a.40.2", 44_100, 44_100, 2, 2, 960, None, None),
        ("2b118800", "mp4a.40.5", 24_000, 48_000, 2, 2, 1_024, Some(true), None),
        (
            "eb098800",
            "mp4a.40.29",
            24_000,
            48_000,
            1,
            2,
            1_024,
            Some(true),
            Some(true),
        ),
        ("139056e5a0", "mp4a.40.5", 22_050, 44_100, 2, 2, 1_024, Some(true), None),
        (
            "138856e5a54880",
            "mp4a.40.29",
            22_050,
            44_100,
            1,
            2,
            1_024,
            Some(true),
            Some(true),
        ),
        (
            "138856e5a54800",
            "mp4a.40.5",
            22_050,
            44_100,
            1,
            1,
            1_024,
            Some(true),
            Some(false),
        ),
        ("1780562210", "mp4a.40.2", 44_100, 44_100, 2, 2, 1_024, None, None),
        ("1190ffff", "mp4a.40.2", 48_000, 48_000, 2, 2, 1_024, None, None),
        ("11b8", "mp4a.40.2", 48_000, 48_000, 8, 8, 1_024, None, None),
        (
            "f94824211cc0185000200097084730b0",
            "mp4a.40.42",
            44_100,
            44_100,
            1,
            1,
            1_024,
            Some(false),
            Some(false),
        ),
    ] {
        let config = AudioSpecificConfig::parse(&hex(bytes)).expect(bytes);
        assert_eq!(config.rfc6381(), codec, "{bytes}");
        assert_eq!(
            (config.sampling_rate, config.output_sampling_rate()),
            (rate, output_rate),
            "{bytes}"
        );
        assert_eq!(
            (config.channels, config.output_channels()),
            (channels, output_channels),
            "{bytes}"
        );
        assert_eq!(
            (config.frame_length, config.sbr, config.ps),
            (length, sbr, ps),
            "{bytes}"
        );
    }
    let he = AudioSpecificConfig::parse(&hex("2b118800")).expect("valid");
    assert_eq!(he.output_frame_length(), 2_048);
}

#[test]
fn impossible_configurations_are_refused() {
    for bytes in [
        "",
        "12",
        "1680",       // reserved rate
        "1240",       // channel configuration 8
        "0210",       // object type 0
        "1780000010", // written-out rate of zero
        "f940",       // xHE-AAC without its configuration
    ] {
        assert!(AudioSpecificConfig::parse(&hex(bytes)).is_err(), "{bytes}");
    }
}

#[test]
fn written_out_channels_are_counted() {
    let mut writer = BitWriter::new();
    for (value, count) in [
        (2, 5),
        (3, 4),
        (0, 4),
        (0, 3), // LC, 48 kHz, written out
        (0, 4),
        (1, 2),
        (3, 4),
        (2, 4),
        (0, 4),
        (1, 4),
        (1, 2),
        (0, 3),
        (0, 4), // two front, one back, one LFE
        (0b1_0101, 5),
        (0b1_0110, 5),
        (0b1_101, 4), // three mixdowns
        (0, 1),
        (0, 4),
        (1, 1),
        (0, 4),
        (1, 1),
        (1, 4),
        (0, 4), // single, pair, pair, LFE
    ] {
        writer.write(value, count);
    }
    writer.align();
    writer.bytes(&[2, b'h', b'i']);
    let bytes = writer.into_bytes();
    let config = AudioSpecificConfig::parse(&bytes).expect("valid");
    assert_eq!((config.channels, config.channel_configuration), (6, 0));
    for cut in 0..bytes.len() {
        assert!(AudioSpecificConfig::parse(&bytes[..cut]).is_err(), "{cut}");
    }
    assert!(AdtsHeader::write(&config, 100).is_err());
    assert_eq!(config.serialise(), None);
}

#[test]
fn serialising_is_parsing_backwards() {
    for bytes in ["1210", "2b118800", "eb098800", "1308", "178055f010", "11b8"] {
        let config = AudioSpecificConfig::parse(&hex(bytes)).expect(bytes);
        assert_eq!(config.serialise(), Some(hex(bytes)), "{bytes}");
    }
    assert!(AudioSpecificConfig::plain(5, 48_000, 2).is_err());
    assert!(AudioSpecificConfig::plain(2, 0, 2).is_err());
    assert!(AudioSpecificConfig::plain(2, 48_000, 0).is_err());
}

#[test]
fn adts_headers() {
    let config = AudioSpecificConfig::parse(&hex("1210")).expect("valid");
    let bytes = AdtsHeader::write(&config, 364).expect("fits");
    assert_eq!(bytes, [0xff, 0xf1, 0x50, 0x80, 0x2e, 0x7f, 0xfc]);
    let header = AdtsHeader::parse(&bytes).expect("valid");
    assert_eq!(
        (
            header.header_size_bytes,
            header.frame_size_bytes,
            header.raw_block_count
        ),
        (7, 371, 1)
    );
    assert_eq!(
        (header.mpeg2, header.object_type, header.sampling_rate),
        (false, 2, 44_100)
    );
    assert_eq!(header.audio_specific_config(), Ok(config.clone()));
    // With CRC, and with CRC over four blocks.
    let crc = [0xff, 0xf0, 0x50, 0x80, 0x2e, 0x7f, 0xfc];
    assert_eq!(AdtsHeader::parse(&crc).expect("valid").header_size_bytes, 9);
    let blocks = [0xff, 0xf0, 0x50, 0x80, 0x2e, 0x7f, 0xff];
    assert_eq!(AdtsHeader::parse(&blocks).expect("valid").header_size_bytes, 15);
    for cut in 0..7 {
        assert!(AdtsHeader::parse(&bytes[..cut]).is_err());
    }
    for broken in [
        [0xff, 0xe1, 0x50, 0x80, 0x2e, 0x7f, 0xfc], // sync
        [0xff, 0xf3, 0x50, 0x80, 0x2e, 0x7f, 0xfc], // layer: MP3
        [0xff, 0xf1, 0x74, 0x80, 0x2e, 0x7f, 0xfc], // rate
        [0xff, 0xf1, 0x50, 0x80, 0x00, 0xdf, 0xfc], // shorter than its header
    ] {
        assert!(AdtsHeader::parse(&broken).is_err(), "{broken:x?}");
    }
    assert!(AdtsHeader::write(&config, 8_184).is_ok() && AdtsHeader::write(&config, 8_185).is_err());
    let xhe = AudioSpecificConfig::parse(&hex("f94824211cc0185000200097084730b0")).expect("valid");
    assert!(AdtsHeader::write(&xhe, 100).is_err());
    let odd = AudioSpecificConfig::plain(2, 44_000, 2).expect("valid");
    assert!(AdtsHeader::write(&odd, 100).is_err());
}

#[test]
fn descriptors_of_real_files() {
    for (esds, codec, average, rate) in [
        (
            "000000000380808025000200048080801740150000000000bc930000bc930580808005119056e500068080800102",
            "mp4a.40.2",
            48_275,
            Some(48_000),
        ),
        (
            "000000000319000000041140150018000001f4000001f40005021210060102",
            "mp4a.40.2",
            128_000,
            Some(44_100),
        ),
        (
            "0000000003808080300000000480808022401500030000011bf800003e7d0580808010f94824211cc0185000200097084730\
             b0068080800102",
            "mp4a.40.42",
            15_997,
            Some(44_100),
        ),
        (
            "000000000315000000040d6b1500020b00000000000270e8060102",
            "mp4a.6B",
            159_976,
            None,
        ),
        (
            "00000000038080801b000100048080800da9150000000005dc000005dc00068080800102",
            "mp4a.A9",
            384_000,
            None,
        ),
    ] {
        let bytes = hex(esds);
        let parsed = Esds::parse(&bytes).expect(esds);
        assert_eq!(parsed.rfc6381().expect("known"), codec);
        assert_eq!((parsed.stream_type, parsed.bitrate_bps_average), (5, average));
        let config = parsed.audio_specific_config().expect("valid");
        assert_eq!(config.map(|config| config.sampling_rate), rate);
        let written = parsed.serialise().expect("fits");
        assert_eq!(Esds::parse(&written), Ok(parsed));
        for cut in 0..bytes.len() {
            // Never a panic; whole once the decoder specific info is there.
            let _ = Esds::parse(&bytes[..cut]);
        }
    }
    // Same bytes as a writer of short sizes.
    let short = hex("000000000319000000041140150018000001f4000001f40005021210060102");
    assert_eq!(Esds::parse(&short).and_then(|esds| esds.serialise()), Ok(short));
    assert!(Esds::parse(&hex("0000000006010203")).is_err());
    assert!(Esds::parse(&hex("000000000380808080808080")).is_err());
}

#[test]
fn long_descriptors_get_long_sizes() {
    for size in [1, 127, 128, 16_383, 16_384] {
        let esds = Esds {
            object_type_indication: 0x40,
            stream_type: 5,
            buffer_size_bytes: 0,
            bitrate_bps_max: 0,
            bitrate_bps_average: 0,
            decoder_specific_info: vec![7; size],
        };
        assert_eq!(Esds::parse(&esds.serialise().expect("fits")), Ok(esds));
    }
}

/// One frame in an `AudioSyncStream` with its configuration: version 0, one sub-frame.
fn sync_element(config: &[u8], config_bits: u32, frame: &[u8]) -> Vec<u8> {
    let mut element = BitWriter::new();
    element.write(0b001, 3); // useSameStreamMux, audioMuxVersion, allStreamsSameTimeFraming
    element.write(0, 13); // one sub-frame, program, layer
    let mut reader = BitReader::new(config, "t");
    for _ in 0..config_bits {
        element.flag(reader.flag().expect("inside"));
    }
    element.write(0, 3); // frameLengthType
    element.write(0xff, 8);
    element.write(0, 2); // otherDataPresent, crcCheckPresent
    for _ in 0..frame.len() / 255 {
        element.write(255, 8);
    }
    element.write((frame.len() % 255) as u64, 8);
    for &byte in frame {
        element.write(u64::from(byte), 8);
    }
    let element = element.into_bytes();
    let mut stream = BitWriter::new();
    stream.write(0x2b7, 11);
    stream.write(element.len() as u64, 13);
    stream.bytes(&element);
    stream.into_bytes()
}

#[test]
fn latm_frames_come_out_whole() {
    let frame: Vec<u8> = (0..700).map(|index| (index * 7) as u8).collect();
    let stream = sync_element(&hex("1210"), 16, &frame);
    let size = parse_sync_header(&stream).expect("sync");
    let element = &stream[latm::SYNC_HEADER_SIZE_BYTES..];
    assert_eq!(size, element.len());
    let mut reader = LatmReader::new();
    assert_eq!(reader.frames(&[0x80, 0]), Ok(vec![]));
    assert_eq!(reader.frames(element), Ok(vec![frame]));
    assert_eq!(reader.config_bytes(), Some(&hex("1210")[..]));
    assert_eq!(reader.config().map(|config| config.sampling_rate), Some(44_100));
    // The same configuration again, and three bytes.
    assert_eq!(
        reader.frames(&[0x81, 0x80, 0x91, 0x11, 0x80]),
        Ok(vec![vec![0x01, 0x22, 0x23]])
    );
    for cut in 0..element.len() {
        assert!(LatmReader::new().frames(&element[..cut]).is_err(), "{cut}");
    }
}
