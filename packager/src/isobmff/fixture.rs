//! Tracks made up for the tests of the box writers.

use bytes::Bytes;

use super::BoxWriter;
use crate::codec::{Codec, VideoRange};
use crate::index::{IndexWriter, NewSample, TrackIndex};
use crate::time::Timescale;
use crate::track::{AudioDescription, MediaDescription, TextDescription, TrackDescription, VideoDescription};

pub fn scale(ticks_per_second: u32) -> Timescale {
    Timescale::new(ticks_per_second).unwrap()
}

pub fn video_media() -> VideoDescription {
    VideoDescription {
        width: 1280,
        height: 720,
        sample_aspect_ratio: (1, 1),
        matrix: None,
        color: None,
        video_range: VideoRange::Sdr,
        nal_length_size: 4,
        parameter_sets: Bytes::new(),
        supplemental_codecs: None,
    }
}

/// A visual sample entry whose codec configuration starts with `config`.
pub fn visual_entry(entry: &[u8; 4], config_box: &[u8; 4], config: &[u8]) -> Bytes {
    let mut w = BoxWriter::default();
    w.write_box(entry, |w| {
        w.zeros(7);
        w.u8(1); // data_reference_index
        w.zeros(16);
        w.u16(1280);
        w.u16(720);
        w.u32(72 << 16);
        w.u32(72 << 16);
        w.u32(0);
        w.u16(1);
        w.zeros(32);
        w.u16(24);
        w.u16(0xffff);
        w.write_box(config_box, |w| w.bytes(config));
    });
    Bytes::from(w.finish())
}

/// AVC High at level 3.1.
pub fn video() -> TrackDescription {
    let config = [
        1, 100, 0, 31, 0xff, 0xe1, 0, 4, 0x67, 100, 0, 31, 1, 0, 2, 0x68, 0xce, 0xfd, 0xf8, 0xf8, 0,
    ];
    TrackDescription {
        source_track_id: 1,
        codec: Codec::Avc,
        rfc6381: "avc1.64001f".into(),
        timescale: scale(90_000),
        language: "und".into(),
        label: None,
        sample_entry: visual_entry(b"avc1", b"avcC", &config),
        media: MediaDescription::Video(video_media()),
    }
}

/// AAC-LC, stereo, 48 kHz.
pub fn audio() -> TrackDescription {
    let decoder_config = [0x11, 0x90];
    let mut w = BoxWriter::default();
    w.write_box(b"mp4a", |w| {
        w.zeros(7);
        w.u8(1);
        w.zeros(8);
        w.u16(2);
        w.u16(16);
        w.u32(0);
        w.u32(48_000 << 16);
        w.write_full_box(b"esds", 0, 0, |w| {
            w.bytes(&[3, 25, 0, 1, 0, 4, 17, 0x40, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xf4, 0]);
            w.bytes(&[5, 2]);
            w.bytes(&decoder_config);
            w.bytes(&[6, 1, 2]);
        });
    });
    TrackDescription {
        codec: Codec::Aac,
        rfc6381: "mp4a.40.2".into(),
        timescale: scale(48_000),
        language: "pt-BR".into(),
        sample_entry: Bytes::from(w.finish()),
        media: MediaDescription::Audio(AudioDescription {
            sample_rate: 48_000,
            channel_count: 2,
            joc_complexity: None,
            decoder_config: Bytes::copy_from_slice(&decoder_config),
        }),
        ..video()
    }
}

pub fn text(codec: Codec, rfc6381: &str) -> TrackDescription {
    let mut w = BoxWriter::default();
    w.write_box(if codec == Codec::Stpp { b"stpp" } else { b"wvtt" }, |w| {
        w.zeros(7);
        w.u8(1);
        match codec {
            Codec::Stpp => w.bytes(b"http://www.w3.org/ns/ttml\0\0\0"),
            _ => w.write_box(b"vttC", |w| w.bytes(b"WEBVTT")),
        }
    });
    TrackDescription {
        codec,
        rfc6381: rfc6381.into(),
        timescale: scale(1000),
        language: "deu".into(),
        sample_entry: Bytes::from(w.finish()),
        media: MediaDescription::Text(TextDescription { config: String::new() }),
        ..video()
    }
}

/// An index of samples that lie one behind the other from `offset`: (size, duration, composition offset, sync).
pub fn index(offset: u64, samples: &[(u32, u32, i32, bool)], edit_offset: i64) -> TrackIndex {
    let mut writer = IndexWriter::new(scale(90_000));
    let mut offset = offset;
    for (size, duration, composition_offset, sync) in samples.iter().copied() {
        writer
            .push(NewSample {
                offset,
                size,
                duration,
                composition_offset,
                sync,
            })
            .unwrap();
        offset += u64::from(size);
    }
    writer.finish(edit_offset).unwrap()
}
