#![allow(clippy::indexing_slicing, clippy::expect_used)]

use super::*;

#[test]
fn headers() {
    for (bytes, version, layer, bitrate, rate, channels, samples, size) in [
        (
            [0xff, 0xfb, 0x90, 0x64],
            Version::Mpeg1,
            3,
            128_000,
            44_100,
            2,
            1_152,
            417,
        ),
        (
            [0xff, 0xfb, 0x92, 0x64],
            Version::Mpeg1,
            3,
            128_000,
            44_100,
            2,
            1_152,
            418,
        ),
        (
            [0xff, 0xfb, 0xe4, 0xc4],
            Version::Mpeg1,
            3,
            320_000,
            48_000,
            1,
            1_152,
            960,
        ),
        ([0xff, 0xf3, 0x80, 0xc4], Version::Mpeg2, 3, 64_000, 22_050, 1, 576, 208),
        ([0xff, 0xe3, 0x18, 0xc4], Version::Mpeg25, 3, 8_000, 8_000, 1, 576, 72),
        (
            [0xff, 0xfd, 0xc4, 0x00],
            Version::Mpeg1,
            2,
            256_000,
            48_000,
            2,
            1_152,
            768,
        ),
        (
            [0xff, 0xff, 0xe6, 0x00],
            Version::Mpeg1,
            1,
            448_000,
            48_000,
            2,
            384,
            452,
        ),
    ] {
        let header = FrameHeader::parse(&bytes).expect("valid");
        assert_eq!(
            (header.version, header.layer, header.bitrate_bps),
            (version, layer, bitrate)
        );
        assert_eq!((header.sampling_rate, header.channels), (rate, channels));
        assert_eq!(
            (header.sample_count, header.frame_size_bytes),
            (samples, size),
            "{bytes:?}"
        );
        for cut in 0..4 {
            assert!(FrameHeader::parse(&bytes[..cut]).is_err());
        }
    }
    for broken in [
        [0xff, 0xfb, 0x00, 0x64], // free format
        [0xff, 0xfb, 0xf0, 0x64], // bit rate
        [0xff, 0xfb, 0x9c, 0x64], // sampling rate
        [0xff, 0xeb, 0x90, 0x64], // version
        [0xff, 0xf9, 0x90, 0x64], // layer: ADTS
        [0xff, 0x1b, 0x90, 0x64], // sync
    ] {
        assert!(FrameHeader::parse(&broken).is_err(), "{broken:x?}");
    }
}

#[test]
fn strings() {
    let layer_3 = FrameHeader::parse(&[0xff, 0xfb, 0x90, 0x64]).expect("valid");
    let low_rate = FrameHeader::parse(&[0xff, 0xf3, 0x80, 0xc4]).expect("valid");
    let layer_2 = FrameHeader::parse(&[0xff, 0xfd, 0xc4, 0x00]).expect("valid");
    assert_eq!(
        (layer_3.rfc6381(), layer_3.object_type_indication()),
        ("mp4a.40.34".into(), 0x6b)
    );
    assert_eq!(
        (low_rate.rfc6381(), low_rate.object_type_indication()),
        ("mp4a.40.34".into(), 0x69)
    );
    assert_eq!(
        (layer_2.rfc6381(), layer_2.object_type_indication()),
        ("mp4a.40.33".into(), 0x6b)
    );
    assert!(layer_3.continues(&layer_3) && !layer_3.continues(&layer_2));
}

#[test]
fn xing_and_vbri_tables() {
    let bytes = [0xff, 0xfb, 0x90, 0x64];
    let header = FrameHeader::parse(&bytes).expect("valid");
    let mut frame = bytes.to_vec();
    frame.resize(36, 0);
    let empty = frame.clone();
    frame.extend(b"Info");
    frame.extend(15_u32.to_be_bytes());
    frame.extend(1_234_u32.to_be_bytes());
    frame.extend(56_789_u32.to_be_bytes());
    frame.extend([0; 104]);
    frame.extend(b"LAME3.100");
    frame.extend([0; 12]);
    frame.extend([0x24, 0x04, 0x68]); // 576 and 1128
    let table = StreamTable::find(&frame, &header).expect("present");
    assert_eq!(table.kind, StreamTableKind::Info);
    assert_eq!(
        (table.frame_count, table.stream_size_bytes),
        (Some(1_234), Some(56_789))
    );
    assert_eq!((table.encoder_delay, table.encoder_padding), (Some(576), Some(1_128)));
    for cut in 0..frame.len() {
        let table = StreamTable::find(&frame[..cut], &header);
        assert_eq!(table.is_some(), cut >= 44);
    }
    let mut frame = empty.clone();
    frame.extend(b"VBRI\0\x01\0\0\0\0\0\0\x10\0\0\0\0\x20");
    let table = StreamTable::find(&frame, &header).expect("present");
    assert_eq!((table.kind, table.frame_count), (StreamTableKind::Vbri, Some(32)));
    assert_eq!(StreamTable::find(&empty, &header), None);
}
