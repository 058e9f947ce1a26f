//! Media playlists: the segments of one representation, or its trick-play frames.

use super::{VERSION, micros, push_number, push_seconds, segment_extension};
use crate::codec::MediaKind;
use crate::crypto::signal::{KeyTagName, write_key_tags};
use crate::form::{Form, SegmentFormat};
use crate::presentation::Representation;
use crate::protection::{Protection, SegmentList, TrackProtection};
use crate::time::Timescale;

/// The media playlist of `representation` in `form`. URIs are relative to the playlist: `init.mp4`, `1.m4s`, …
pub fn render(representation: &Representation, form: Form) -> Vec<u8> {
    write(representation, form, None)
}

/// The same of a protected presentation, in the form of `protection`, with EXT-X-KEY tags.
pub fn render_protected(representation: &Representation, protection: &Protection) -> Vec<u8> {
    write(representation, protection.form(), protection.track(representation))
}

fn write(representation: &Representation, form: Form, protection: Option<&TrackProtection>) -> Vec<u8> {
    let table = &representation.segments;
    let rows = table.segments().iter().map(|segment| (segment.start, segment.end()));
    let mut out = Vec::with_capacity(256 + table.segments().len() * 32);
    let map = form.format() == SegmentFormat::Cmaf && representation.kind() != MediaKind::Text;
    push_head(
        &mut out,
        target_duration(rows.clone(), table.timescale()),
        map,
        IFramesOnly::No,
    );
    let keys = Keys::new(protection, form, SegmentList::Media);
    keys.push_head(&mut out);
    push_segments(
        &mut out,
        rows,
        table.timescale(),
        b"",
        segment_extension(representation, form),
        keys,
    );
    out
}

/// The I-frame playlist of a video in `form`: `iframe-1.m4s`, … (RFC 8216bis 4.4.3.6).
pub fn render_trick(representation: &Representation, form: Form) -> Vec<u8> {
    write_trick(representation, form, None)
}

/// The same of a protected presentation, in the form of `protection`.
pub fn render_protected_trick(representation: &Representation, protection: &Protection) -> Vec<u8> {
    write_trick(representation, protection.form(), protection.track(representation))
}

fn write_trick(representation: &Representation, form: Form, protection: Option<&TrackProtection>) -> Vec<u8> {
    let frames = &representation.trick_frames;
    let scale = representation.segments.timescale();
    let rows = frames.iter().map(|frame| (frame.start, frame.start + frame.duration));
    let mut out = Vec::with_capacity(256 + frames.len() * 40);
    push_head(
        &mut out,
        target_duration(rows.clone(), scale),
        form.format() == SegmentFormat::Cmaf,
        IFramesOnly::Yes,
    );
    let keys = Keys::new(protection, form, SegmentList::Trick);
    keys.push_head(&mut out);
    push_segments(
        &mut out,
        rows,
        scale,
        b"iframe-",
        segment_extension(representation, form),
        keys,
    );
    out
}

/// The EXT-X-KEY tags of a playlist: at its head, or in front of each segment that is encrypted as a whole, so that each
/// has an initialisation vector of its own.
#[derive(Clone, Copy)]
struct Keys<'a> {
    protection: Option<&'a TrackProtection>,
    list: SegmentList,
    each: bool,
}

impl<'a> Keys<'a> {
    fn new(protection: Option<&'a TrackProtection>, form: Form, list: SegmentList) -> Keys<'a> {
        Keys {
            protection,
            list,
            each: form == Form::TsAes128,
        }
    }

    fn push_head(&self, out: &mut Vec<u8>) {
        if let Some(protection) = self.protection.filter(|_| !self.each) {
            write_key_tags(out, KeyTagName::Key, protection.tags());
        }
    }

    fn push_segment(&self, out: &mut Vec<u8>, number: u64) {
        if let Some(protection) = self.protection.filter(|_| self.each) {
            // A playlist has fewer segments than 31 bits count.
            protection
                .segment_tag(self.list, number as u32)
                .write(out, KeyTagName::Key);
        }
    }
}

/// Whether a playlist lists trick-play frames.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IFramesOnly {
    Yes,
    No,
}

fn push_head(out: &mut Vec<u8>, target_duration: u64, map: bool, iframes_only: IFramesOnly) {
    out.extend_from_slice(b"#EXTM3U\n#EXT-X-VERSION:");
    push_number(out, VERSION.into());
    out.extend_from_slice(b"\n#EXT-X-TARGETDURATION:");
    push_number(out, target_duration);
    out.extend_from_slice(b"\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    if iframes_only == IFramesOnly::Yes {
        out.extend_from_slice(b"#EXT-X-I-FRAMES-ONLY\n");
    }
    if map {
        out.extend_from_slice(b"#EXT-X-MAP:URI=\"init.mp4\"\n");
    }
}

fn push_segments(
    out: &mut Vec<u8>,
    rows: impl Iterator<Item = (u64, u64)>,
    scale: Timescale,
    prefix: &[u8],
    extension: &str,
    keys: Keys<'_>,
) {
    for ((start, end), number) in rows.zip(1u64..) {
        keys.push_segment(out, number);
        out.extend_from_slice(b"#EXTINF:");
        push_seconds(out, micros(end, scale) - micros(start, scale));
        out.extend_from_slice(b",\n");
        out.extend_from_slice(prefix);
        push_number(out, number);
        out.push(b'.');
        out.extend_from_slice(extension.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"#EXT-X-ENDLIST\n");
}

/// Longest EXTINF as written, rounded to the nearest second, at least 1 (RFC 8216bis 4.4.3.1).
fn target_duration(rows: impl Iterator<Item = (u64, u64)>, scale: Timescale) -> u64 {
    let longest = rows
        .map(|(start, end)| micros(end, scale) - micros(start, scale))
        .max()
        .unwrap_or(0);
    ((longest + 500_000) / 1_000_000).max(1)
}
