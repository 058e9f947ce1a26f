//! The boxes of a `moov` that say what its one track is: shared by the CMAF header and the stored form.
//!
//! Movie and track share one timescale, and creation times are zero: the same track gives the same bytes anywhere.

use super::{BoxWriter, language};
use crate::codec::{Codec, MediaKind};
use crate::time::Timescale;
use crate::track::{MediaDescription, TrackDescription, VideoDescription};

/// The number of the only track in every file written here.
pub(super) const TRACK_ID: u32 = 1;

const IDENTITY_MATRIX: [i32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// How long a track is, in ticks of its timescale; zero where fragments follow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Durations {
    /// With edits applied.
    pub presentation: u64,
    /// Sum of the sample durations.
    pub media: u64,
}

/// One entry of an edit list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edit {
    /// Ticks; zero in a file whose fragments follow.
    pub segment_duration: u64,
    pub start: EditStart,
}

/// Where in the track's media an edit starts.
#[derive(Clone, Copy, Debug)]
pub(super) enum EditStart {
    /// Nothing is presented.
    Empty,
    /// Composition time in ticks.
    MediaTime(u64),
}

/// ISO/IEC 14496-12:2022 8.2.2 (`mvhd`).
pub(super) fn write_mvhd(w: &mut BoxWriter, timescale: Timescale, duration: u64) {
    let version = version_for(duration);
    w.write_full_box(b"mvhd", version, 0, |w| {
        write_time_fields(w, version, timescale, duration);
        w.u32(0x0001_0000); // rate 1.0
        w.u16(0x0100); // volume 1.0
        w.zeros(10);
        write_matrix(w, &IDENTITY_MATRIX);
        w.zeros(24);
        w.u32(TRACK_ID + 1); // next_track_ID
    });
}

/// ISO/IEC 14496-12:2022 8.3.1 (`trak`); `sample_tables` writes what follows `stsd` in `stbl`.
pub(super) fn write_trak(
    w: &mut BoxWriter,
    description: &TrackDescription,
    durations: Durations,
    edits: &[Edit],
    sample_tables: impl FnOnce(&mut BoxWriter),
) {
    w.write_box(b"trak", |w| {
        write_tkhd(w, description, durations.presentation);
        write_edts(w, edits);
        w.write_box(b"mdia", |w| {
            write_mdhd(w, description, durations.media);
            write_hdlr(w, description.codec);
            write_elng(w, &description.language);
            w.write_box(b"minf", |w| {
                write_media_header(w, description.codec);
                write_dinf(w);
                w.write_box(b"stbl", |w| {
                    w.write_full_box(b"stsd", 0, 0, |w| {
                        w.u32(1);
                        w.bytes(&description.sample_entry);
                    });
                    sample_tables(w);
                });
            });
        });
    });
}

/// Width and height of the picture as it is to be shown, in 16.16 pixels: the coded width is scaled by the sample
/// aspect ratio, rounded to nearest (ISO/IEC 14496-12:2022 8.3.2).
fn display_size(video: &VideoDescription) -> (u32, u32) {
    let (horizontal, vertical) = match video.sample_aspect_ratio {
        (0, _) | (_, 0) => (1, 1),
        ratio => ratio,
    };
    let numerator = (u128::from(video.width) << 16) * u128::from(horizontal);
    let divisor = u128::from(vertical);
    let width = (numerator * 2 + divisor) / (divisor * 2);
    let height = u128::from(video.height) << 16;
    let saturate = |size: u128| u32::try_from(size).unwrap_or(u32::MAX);
    (saturate(width), saturate(height))
}

/// ISO/IEC 14496-12:2022 8.3.2 (`tkhd`): enabled, in movie, in preview.
fn write_tkhd(w: &mut BoxWriter, description: &TrackDescription, duration: u64) {
    let version = version_for(duration);
    w.write_full_box(b"tkhd", version, 7, |w| {
        w.zeros(if version == 1 { 16 } else { 8 }); // creation and modification time
        w.u32(TRACK_ID);
        w.u32(0);
        write_u32_or_u64(w, version, duration);
        w.zeros(8);
        w.u16(0); // layer
        w.u16(0); // alternate_group
        w.u16(match description.kind() {
            MediaKind::Audio => 0x0100,
            MediaKind::Video | MediaKind::Text => 0,
        });
        w.u16(0);
        match &description.media {
            MediaDescription::Video(video) => {
                write_matrix(w, video.matrix.as_ref().unwrap_or(&IDENTITY_MATRIX));
                let (width, height) = display_size(video);
                w.u32(width);
                w.u32(height);
            }
            MediaDescription::Audio(_) | MediaDescription::Text(_) => {
                write_matrix(w, &IDENTITY_MATRIX);
                w.zeros(8);
            }
        }
    });
}

/// ISO/IEC 14496-12:2022 8.6.6 (`elst`); nothing without edits.
fn write_edts(w: &mut BoxWriter, edits: &[Edit]) {
    if edits.is_empty() {
        return;
    }
    let is_wide = |edit: &Edit| {
        let media_time = match edit.start {
            EditStart::Empty => 0,
            EditStart::MediaTime(ticks) => ticks,
        };
        edit.segment_duration > u64::from(u32::MAX) || media_time > i32::MAX as u64
    };
    let version = u8::from(edits.iter().any(is_wide));
    w.write_box(b"edts", |w| {
        w.write_full_box(b"elst", version, 0, |w| {
            w.u32(edits.len() as u32);
            for edit in edits {
                write_u32_or_u64(w, version, edit.segment_duration);
                match edit.start {
                    EditStart::Empty => write_u32_or_u64(w, version, u64::MAX),
                    EditStart::MediaTime(ticks) => write_u32_or_u64(w, version, ticks),
                }
                w.u32(0x0001_0000); // media_rate 1.0
            }
        });
    });
}

/// ISO/IEC 14496-12:2022 8.4.2 (`mdhd`).
fn write_mdhd(w: &mut BoxWriter, description: &TrackDescription, duration: u64) {
    let version = version_for(duration);
    w.write_full_box(b"mdhd", version, 0, |w| {
        write_time_fields(w, version, description.timescale, duration);
        w.u16(language::pack(&description.language));
        w.u16(0);
    });
}

/// ISO/IEC 14496-12:2022 8.4.3 (`hdlr`); handlers of timed text by ISO/IEC 14496-30:2018 5.4 and 7.4.
fn write_hdlr(w: &mut BoxWriter, codec: Codec) {
    let (handler, name): (&[u8; 4], &[u8]) = match (codec.kind(), codec) {
        (MediaKind::Video, _) => (b"vide", b"Video\0"),
        (MediaKind::Audio, _) => (b"soun", b"Audio\0"),
        (MediaKind::Text, Codec::Stpp) => (b"subt", b"Subtitles\0"),
        (MediaKind::Text, _) => (b"text", b"Subtitles\0"),
    };
    w.write_full_box(b"hdlr", 0, 0, |w| {
        w.u32(0);
        w.bytes(handler);
        w.zeros(12);
        w.bytes(name);
    });
}

/// ISO/IEC 14496-12:2022 8.4.6 (`elng`): the whole tag, which `mdhd` cannot hold.
fn write_elng(w: &mut BoxWriter, tag: &str) {
    if tag != "und" && language::is_tag(tag) {
        w.write_full_box(b"elng", 0, 0, |w| {
            w.bytes(tag.as_bytes());
            w.u8(0);
        });
    }
}

/// ISO/IEC 14496-12:2022 12.1.2 (`vmhd`), 12.2.2 (`smhd`), 12.6.2 (`sthd`), 8.4.5.2 (`nmhd`).
fn write_media_header(w: &mut BoxWriter, codec: Codec) {
    match (codec.kind(), codec) {
        (MediaKind::Video, _) => w.write_full_box(b"vmhd", 0, 1, |w| w.zeros(8)),
        (MediaKind::Audio, _) => w.write_full_box(b"smhd", 0, 0, |w| w.zeros(4)),
        (MediaKind::Text, Codec::Stpp) => w.write_full_box(b"sthd", 0, 0, |_| {}),
        (MediaKind::Text, _) => w.write_full_box(b"nmhd", 0, 0, |_| {}),
    }
}

/// ISO/IEC 14496-12:2022 8.7.1 (`dinf`): the media is in this file.
fn write_dinf(w: &mut BoxWriter) {
    w.write_box(b"dinf", |w| {
        w.write_full_box(b"dref", 0, 0, |w| {
            w.u32(1);
            w.write_full_box(b"url ", 0, 1, |_| {});
        });
    });
}

fn version_for(duration: u64) -> u8 {
    u8::from(duration > u64::from(u32::MAX))
}

/// Creation and modification time, timescale, duration.
fn write_time_fields(w: &mut BoxWriter, version: u8, timescale: Timescale, duration: u64) {
    w.zeros(if version == 1 { 16 } else { 8 });
    w.u32(timescale.get());
    write_u32_or_u64(w, version, duration);
}

/// `value` in 64 bits for version 1, in its low 32 bits for version 0.
fn write_u32_or_u64(w: &mut BoxWriter, version: u8, value: u64) {
    match version {
        0 => w.u32(value as u32),
        _ => w.u64(value),
    }
}

fn write_matrix(w: &mut BoxWriter, matrix: &[i32; 9]) {
    for entry in matrix {
        w.i32(*entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isobmff::fixture;

    /// Width and height in 1/65536 pixel.
    #[test]
    fn pictures_are_shown_in_their_aspect_ratio() {
        let check = |width, height, sample_aspect_ratio, expected: (u32, u32)| {
            let video = VideoDescription {
                width,
                height,
                sample_aspect_ratio,
                ..fixture::video_media()
            };
            assert_eq!(display_size(&video), expected);
        };
        check(1920, 1080, (1, 1), (1920 << 16, 1080 << 16));
        check(1440, 1080, (4, 3), (1920 << 16, 1080 << 16));
        // 1047.2727... pixels.
        check(720, 576, (16, 11), (68_634_065, 576 << 16));
        check(720, 576, (0, 0), (720 << 16, 576 << 16));
        check(u32::MAX, u32::MAX, (u32::MAX, 1), (u32::MAX, u32::MAX));
    }
}
