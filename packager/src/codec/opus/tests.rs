#![allow(clippy::indexing_slicing, clippy::expect_used)]

use super::*;
use crate::codec::tests::hex;

#[test]
fn boxes_of_real_files() {
    for (dops, channels, pre_skip, family) in [
        ("000201380000bb80000000", 2, 312, 0),
        ("000401380000bb80000002040000010203", 4, 312, 2),
        ("00019c00c05d0000000000", 1, 39_936, 0),
    ] {
        let bytes = hex(dops);
        let config = OpusConfig::parse_dops(&bytes).expect("valid");
        assert_eq!(
            (config.channels, config.pre_skip, config.mapping_family),
            (channels, pre_skip, family)
        );
        // Whatever it was before encoding, it is decoded at 48 kHz.
        let mut written = bytes.clone();
        written[4..8].copy_from_slice(&SAMPLING_RATE.to_be_bytes());
        assert_eq!(config.serialise_dops(), written);
        let head = config.serialise_head();
        assert_eq!(OpusConfig::parse_head(&head), Ok(config));
        for cut in 0..bytes.len() {
            assert!(OpusConfig::parse_dops(&bytes[..cut]).is_err(), "{cut}");
        }
        for cut in 0..head.len() {
            assert!(OpusConfig::parse_head(&head[..cut]).is_err(), "{cut}");
        }
    }
}

#[test]
fn byte_order_differs_between_the_two() {
    let config = OpusConfig {
        channels: 2,
        pre_skip: 0x0138,
        input_sampling_rate: 48_000,
        output_gain: -256,
        mapping_family: 0,
        mapping: None,
    };
    assert_eq!(
        config.serialise_dops(),
        [0, 2, 0x01, 0x38, 0, 0, 0xbb, 0x80, 0xff, 0x00, 0]
    );
    assert_eq!(
        config.serialise_head()[8..],
        [1, 2, 0x38, 0x01, 0x80, 0xbb, 0, 0, 0x00, 0xff, 0]
    );
}

#[test]
fn impossible_layouts_are_refused() {
    for dops in [
        "000001380000bb80000000",           // no channels
        "000301380000bb80000000",           // three in family 0
        "010201380000bb80000000",           // version
        "000301380000bb8000000100000000",   // no streams
        "000301380000bb80000001010200",     // more coupled than streams
        "000301380000bb80000001020100ff05", // index beyond the decoded channels
    ] {
        assert!(OpusConfig::parse_dops(&hex(dops)).is_err(), "{dops}");
    }
}

#[test]
fn packet_durations_follow_table_2() {
    for (packet, samples) in [
        (&[0x00][..], Some(480)),
        (&[0x08], Some(960)),
        (&[0x18], Some(2_880)),
        (&[0x60], Some(480)),
        (&[0x68], Some(960)),
        (&[0x80], Some(120)),
        (&[0xf8], Some(960)),
        (&[0xf9], Some(1_920)),
        (&[0xfb, 0x03], Some(2_880)),
        (&[0xfb, 0x06], Some(5_760)),
        (&[0xfb, 0x07], None),
        (&[0xfb, 0x40], None),
        (&[0xfb], None),
        (&[], None),
    ] {
        assert_eq!(packet_samples(packet).ok(), samples, "{packet:?}");
    }
}
