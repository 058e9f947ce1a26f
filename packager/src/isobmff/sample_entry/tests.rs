//! Sample entries built from bare configurations and from sources' entries.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

use bytes::Bytes;

use super::*;
use crate::codec::{MediaKind, VideoRange};
use crate::isobmff::{BoxReader, FourCc};

/// High at level 1.0, 100x60, as x264 writes it.
const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x0a, 0xac, 0xd9, 0x47, 0x27, 0x9e, 0xf0, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03,
    0x00, 0x30, 0x0f, 0x12, 0x25, 0x96,
];
const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];

fn track() -> TrackFacts {
    TrackFacts {
        source_track_id: 7,
        timescale: Timescale::new(90_000).unwrap(),
        language: "de".to_owned(),
        label: Some("Kommentar".to_owned()),
    }
}

/// `avcC` with the given parameter sets and profile bytes.
fn avcc(profile: [u8; 3], sps: &[&[u8]], pps: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![1, profile[0], profile[1], profile[2], 0xff];
    for (mark, units) in [(0xe0, sps), (0, pps)] {
        bytes.push(mark | units.len() as u8);
        for unit in units {
            bytes.extend((unit.len() as u16).to_be_bytes());
            bytes.extend(*unit);
        }
    }
    bytes.extend([0xfd, 0xf8, 0xf8, 0]);
    bytes
}

/// Names of the boxes in a written entry, behind `fixed` bytes of fields.
fn children(entry: &Bytes, fixed: usize) -> Vec<String> {
    let mut reader = BoxReader::new(FourCc(*b"stsd"), 0, 0, entry);
    let mut entry = reader.child().unwrap().unwrap();
    assert!(reader.is_empty());
    let mut names = vec![entry.fourcc.to_string()];
    entry.skip(fixed).unwrap();
    while let Some(child) = entry.child().unwrap() {
        names.push(child.fourcc.to_string());
    }
    names
}

const VISUAL: usize = 78;
const AUDIO: usize = 28;

#[test]
fn avc_takes_profile_and_size_from_its_parameter_sets() {
    let description = avc(&track(), &avcc([66, 0, 30], &[SPS], &[PPS]), &VideoFacts::default()).unwrap();
    assert_eq!(description.rfc6381, "avc1.64000A");
    assert_eq!(
        (description.source_track_id, description.label.as_deref()),
        (7, Some("Kommentar"))
    );
    let video = description.video().unwrap();
    assert_eq!((video.width, video.height, video.nal_length_size), (100, 60, 4));
    let annex_b = [&[0, 0, 0, 1][..], SPS, &[0, 0, 0, 1], PPS].concat();
    assert_eq!(video.parameter_sets, annex_b);
    assert_eq!(children(&description.sample_entry, VISUAL), ["avc1", "avcC"]);
}

#[test]
fn avc_without_parameter_sets_stays_avc3() {
    let facts = VideoFacts {
        size: Some((640, 360)),
        ..VideoFacts::default()
    };
    let description = avc(&track(), &avcc([100, 0, 30], &[], &[]), &facts).unwrap();
    assert_eq!(description.rfc6381, "avc3.64001E");
    assert_eq!(children(&description.sample_entry, VISUAL), ["avc3", "avcC"]);
    let error = avc(&track(), &avcc([100, 0, 30], &[], &[]), &VideoFacts::default()).unwrap_err();
    assert_eq!(error.to_string(), "AVC without a picture size");
}

#[test]
fn the_container_fills_in_what_the_bit_stream_leaves_open() {
    let check = |color: Option<ColorInfo>, expected: Option<(u8, u8, u8)>, range: VideoRange| {
        let facts = VideoFacts {
            color,
            sample_aspect_ratio: Some((4, 3)),
            ..VideoFacts::default()
        };
        let description = avc(&track(), &avcc([100, 0, 10], &[SPS], &[PPS]), &facts).unwrap();
        let video = description.video().unwrap();
        assert_eq!(
            video.color.map(|color| (color.primaries, color.transfer, color.matrix)),
            expected
        );
        assert_eq!((video.video_range, video.sample_aspect_ratio), (range, (4, 3)));
        let names = children(&description.sample_entry, VISUAL);
        assert_eq!(names.contains(&"colr".to_owned()), expected.is_some());
        assert!(names.contains(&"pasp".to_owned()));
    };
    let points = |primaries, transfer, matrix| ColorInfo {
        primaries,
        transfer,
        matrix,
        full_range: false,
    };
    check(None, None, VideoRange::Sdr);
    check(Some(points(2, 2, 2)), None, VideoRange::Sdr);
    check(Some(points(9, 16, 9)), Some((9, 16, 9)), VideoRange::Pq);
    check(Some(points(9, 18, 9)), Some((9, 18, 9)), VideoRange::Hlg);
    // VP9 knows its matrix and nothing else: the bit stream's point stays, the container's join it.
    let vpcc = [1, 0, 0, 0, 0, 20, 0x82, 2, 2, 5, 0, 0];
    let facts = VideoFacts {
        size: Some((320, 240)),
        color: Some(points(1, 1, 1)),
        ..VideoFacts::default()
    };
    let description = vp9(&track(), &vpcc, &facts).unwrap();
    let color = description.video().unwrap().color.unwrap();
    assert_eq!((color.primaries, color.transfer, color.matrix), (1, 1, 5));
}

/// `dvcC` payload.
fn dolby(profile: u8, level: u8, compatibility_id: u8) -> Option<Bytes> {
    let mut payload = vec![1, 0, profile << 1 | level >> 5, level << 3 | 5, compatibility_id << 4];
    payload.resize(24, 0);
    Some(Bytes::from(payload))
}

/// `hvcC` without parameter sets: Main 10, level 4.1.
fn hvcc() -> Vec<u8> {
    let mut bytes = vec![1, 2, 0x20, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 123];
    bytes.extend([0xf0, 0, 0xfc, 0xfd, 0xfa, 0xfa, 0, 0, 0x0f, 0]);
    bytes
}

#[test]
fn dolby_vision_stands_alone_or_beside_its_base_layer() {
    let check = |dolby_vision, transfer, expected: (&str, Option<(&str, &str)>, VideoRange, &[&str])| {
        let color = ColorInfo {
            primaries: 9,
            transfer,
            matrix: 9,
            full_range: false,
        };
        let facts = VideoFacts {
            size: Some((1920, 1080)),
            dolby_vision,
            color: Some(color),
            ..VideoFacts::default()
        };
        let description = hevc(&track(), &hvcc(), &facts).unwrap();
        let video = description.video().unwrap();
        let supplemental = video.supplemental_codecs.as_ref();
        let supplemental = supplemental.map(|codecs| (codecs.rfc6381.as_str(), codecs.brand.as_str()));
        assert_eq!(
            (description.rfc6381.as_str(), supplemental, video.video_range),
            (expected.0, expected.1, expected.2)
        );
        assert_eq!(children(&description.sample_entry, VISUAL), expected.3);
    };
    let base = "hev1.2.4.L123.B0";
    check(
        dolby(5, 6, 0),
        2,
        ("dvhe.05.06", None, VideoRange::Pq, &["dvhe", "hvcC", "dvcC", "colr"]),
    );
    check(
        dolby(8, 6, 1),
        16,
        (
            base,
            Some(("dvh1.08.06", "db1p")),
            VideoRange::Pq,
            &["hev1", "hvcC", "dvvC", "colr"],
        ),
    );
    check(
        dolby(8, 7, 4),
        18,
        (
            base,
            Some(("dvh1.08.07", "db4h")),
            VideoRange::Hlg,
            &["hev1", "hvcC", "dvvC", "colr"],
        ),
    );
    check(
        dolby(8, 7, 4),
        14,
        (
            base,
            Some(("dvh1.08.07", "db4g")),
            VideoRange::Hlg,
            &["hev1", "hvcC", "dvvC", "colr"],
        ),
    );
    check(
        dolby(8, 33, 2),
        1,
        (
            base,
            Some(("dvh1.08.33", "db2g")),
            VideoRange::Sdr,
            &["hev1", "hvcC", "dvvC", "colr"],
        ),
    );
    // An enhancement layer that nobody streams: the base layer alone.
    check(
        dolby(7, 6, 6),
        16,
        (base, None, VideoRange::Pq, &["hev1", "hvcC", "colr"]),
    );
    check(
        Some(Bytes::from_static(b"\x01")),
        16,
        (base, None, VideoRange::Pq, &["hev1", "hvcC", "colr"]),
    );
}

#[test]
fn audio_entries_have_one_configuration_box() {
    let check = |made: Result<TrackDescription, SampleEntryError>, expected: (&str, u32, u16, &[&str])| {
        let description = made.unwrap();
        let audio = description.audio().unwrap();
        assert_eq!(
            (description.rfc6381.as_str(), audio.sample_rate, audio.channel_count),
            (expected.0, expected.1, expected.2)
        );
        assert_eq!(children(&description.sample_entry, AUDIO), expected.3);
    };
    let track = track();
    check(aac(&track, &[0x11, 0x90]), ("mp4a.40.2", 48_000, 2, &["mp4a", "esds"]));
    check(
        aac(&track, &[0x2b, 0x11, 0x88, 0x00]),
        ("mp4a.40.5", 48_000, 2, &["mp4a", "esds"]),
    );
    check(mp3(&track, 44_100, 2), ("mp4a.40.34", 44_100, 2, &["mp4a", "esds"]));
    check(ac3(&track, &[0x10, 0x3d, 0xe0]), ("ac-3", 48_000, 6, &["ac-3", "dac3"]));
    check(
        opus(&track, &[0, 2, 1, 56, 0, 0, 0xac, 0x44, 0, 0, 0]),
        ("opus", 48_000, 2, &["Opus", "dOps"]),
    );
    assert!(aac(&track, &[]).is_err());
    assert!(ac4(&track, &[0x20]).is_err());
    assert_eq!(
        mp3(&track, 0, 2).unwrap_err().to_string(),
        "MP3 without a sampling rate"
    );
}

#[test]
fn text_entries_carry_their_header() {
    let description = wvtt(&track(), "WEBVTT - header").unwrap();
    assert_eq!(children(&description.sample_entry, 8), ["wvtt", "vttC"]);
    let ttml = "http://www.w3.org/ns/ttml";
    let description = stpp(&track(), ttml, "", "").unwrap();
    assert_eq!(description.rfc6381, "stpp.ttml.im1t");
    assert!(description.sample_entry.ends_with(b"/ttml\0\0\0"));
    assert_eq!(stpp(&track(), ttml, "", "image/png").unwrap().rfc6381, "stpp.ttml.im1i");
    assert!(wvtt(&track(), &"x".repeat(1 << 20)).is_err());
}

/// A source's entry, described with a first sample.
fn from_source(kind: MediaKind, entry: &[u8], sample: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    let mut reader = BoxReader::new(FourCc(*b"stsd"), 0, 0, entry);
    let entry = reader.child()?.unwrap();
    let entry = SourceEntry::parse(entry, kind, None)?;
    let sample = Bytes::copy_from_slice(sample);
    describe(&track(), &entry, &|size| Ok(sample.slice(..sample.len().min(size))))
}

fn visual(name: &[u8; 4], fill: impl FnOnce(&mut BoxWriter)) -> Vec<u8> {
    write_entry(name, |w| {
        w.zeros(16);
        w.u16(640);
        w.u16(360);
        w.zeros(50);
        fill(w);
    })
}

#[test]
fn parameter_sets_come_from_the_first_sample_where_the_record_has_none() {
    let entry = visual(b"avc3", |w| {
        w.write_box(b"avcC", |w| w.bytes(&avcc([100, 0, 10], &[], &[])))
    });
    let sample: Vec<u8> = [SPS, PPS, &[0x65, 0x88]]
        .iter()
        .flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], unit].concat())
        .collect();
    let description = from_source(MediaKind::Video, &entry, &sample).unwrap();
    assert_eq!(description.rfc6381, "avc1.64000A");
    assert_eq!(description.video().unwrap().width, 100);
    // Without any in the sample either, it stays as it is, with the size of the container.
    let description = from_source(MediaKind::Video, &entry, &[]).unwrap();
    assert_eq!(
        (description.rfc6381.as_str(), description.video().unwrap().width),
        ("avc3.64000A", 640)
    );
}

#[test]
fn quicktime_sound_becomes_an_iso_entry() {
    let esds = {
        let description = aac(&track(), &[0x11, 0x90]).unwrap();
        description.sample_entry.slice(8 + AUDIO..)
    };
    for version in [1u16, 2] {
        let entry = write_entry(b"mp4a", |w| {
            w.u16(version);
            w.zeros(18);
            // Samples per packet and the like; nothing that looks like a box.
            let more = if version == 1 { 4 } else { 9 };
            for word in 0..more {
                w.u32(1_024 + word);
            }
            w.write_box(b"wave", |w| {
                w.write_box(b"frma", |w| w.bytes(b"mp4a"));
                w.write_box(b"mp4a", |w| w.zeros(4));
                w.bytes(&esds);
                w.u32(8);
                w.u32(0);
            });
        });
        let description = from_source(MediaKind::Audio, &entry, &[]).unwrap();
        assert_eq!(
            children(&description.sample_entry, AUDIO),
            ["mp4a", "esds"],
            "version {version}"
        );
        assert_eq!(description.audio().unwrap().decoder_config, [0x11, 0x90][..]);
    }
}

#[test]
fn what_is_not_served_says_why() {
    let check = |kind, entry: Vec<u8>, expected: &str| {
        assert_eq!(from_source(kind, &entry, &[]).unwrap_err().to_string(), expected);
    };
    let sound = |name: &[u8; 4]| write_entry(name, |w| w.zeros(20));
    check(MediaKind::Audio, sound(b"alac"), "ALAC audio is not served");
    check(
        MediaKind::Audio,
        sound(b"sowt"),
        "uncompressed (PCM) audio is not served",
    );
    check(MediaKind::Audio, sound(b"dtse"), "DTS audio is not served");
    check(MediaKind::Audio, sound(b"drms"), "encrypted (FairPlay)");
    check(MediaKind::Audio, sound(b"mp4a"), "no esds in its sample entry");
    check(MediaKind::Video, visual(b"apch", |_| ()), "ProRes video is not served");
    check(
        MediaKind::Video,
        visual(b"ab\0c", |_| ()),
        "coding ab\\x00c is not served",
    );
    let encrypted = visual(b"encv", |w| {
        w.write_box(b"sinf", |w| {
            w.write_box(b"frma", |w| w.bytes(b"avc1"));
            w.write_full_box(b"schm", 0, 0, |w| w.bytes(b"cbcs\0\0\0\0"));
            w.write_box(b"schi", |w| {
                w.write_full_box(b"tenc", 0, 0, |w| {
                    w.u32(0x100);
                    w.bytes(&[0xab; 16]);
                });
            });
        });
    });
    let expected = "encrypted (cbcs, KID abababababababababababababababab): tenc at 134: wants 1 bytes, has 0";
    check(MediaKind::Video, encrypted, expected);
    check(MediaKind::Video, visual(b"encv", |_| ()), "encrypted (unknown scheme)");
}

#[test]
fn vp9_metadata_becomes_that_of_iso() {
    let entry = visual(b"vp09", |w| {
        w.write_box(b"vpcC", |w| w.bytes(&[1, 0, 0, 0, 2, 41, 0xa2, 9, 16, 9, 0, 0]));
        w.write_full_box(b"SmDm", 0, 0, |w| {
            for value in [0xae14u16, 0x51ec, 0x4397, 0xb0a4, 0x2666, 0x0f5c, 0x500d, 0x5439] {
                w.u16(value);
            }
            w.u32(1_000 << 8);
            w.u32(82);
        });
        w.write_full_box(b"CoLL", 0, 0, |w| {
            w.u16(1_000);
            w.u16(400);
        });
    });
    let description = from_source(MediaKind::Video, &entry, &[]).unwrap();
    assert_eq!(
        children(&description.sample_entry, VISUAL),
        ["vp09", "vpcC", "colr", "mdcv", "clli"]
    );
    let position = description
        .sample_entry
        .windows(4)
        .position(|name| name == b"mdcv")
        .unwrap();
    let payload = &description.sample_entry[position + 4..position + 28];
    let values: Vec<u32> = payload[..16]
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .collect();
    // Display P3 in the order green, blue, red, white.
    assert_eq!(values, [13_201, 34_500, 7_500, 3_000, 34_000, 16_000, 15_635, 16_450]);
    assert_eq!(payload[16..20], 10_000_000u32.to_be_bytes());
    assert_eq!(payload[20..], 50u32.to_be_bytes());
}

#[test]
fn cut_configurations_are_errors() {
    type Build = fn(&TrackFacts, &[u8]) -> Result<TrackDescription, SampleEntryError>;
    let builders: [(&str, Build); 8] = [
        ("avc", |track, bytes| avc(track, bytes, &VideoFacts::default())),
        ("hevc", |track, bytes| hevc(track, bytes, &VideoFacts::default())),
        ("av1", |track, bytes| av1(track, bytes, &VideoFacts::default())),
        ("aac", aac),
        ("eac3", eac3),
        ("ac4", ac4),
        ("opus", opus),
        ("flac", flac),
    ];
    let whole = avcc([100, 0, 10], &[SPS], &[PPS]);
    for end in 0..whole.len() {
        for (name, build) in &builders {
            if let Ok(description) = build(&track(), &whole[..end]) {
                assert!(!description.rfc6381.is_empty(), "{name} cut at {end}");
            }
        }
    }
    let error = avc(&track(), &whole[..20], &VideoFacts::default()).unwrap_err();
    assert!(matches!(error, SampleEntryError::Codec(_)), "{error}");
}
