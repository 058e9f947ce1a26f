//! Media playlists: the segments of one representation, or its trick-play frames.

use super::{VERSION, micros, push_number, push_seconds, segment_extension};
use crate::codec::MediaKind;
use crate::form::Form;
use crate::presentation::Representation;
use crate::time::Timescale;

/// The media playlist of `representation` in `form`. URIs are relative to the playlist: `init.mp4`, `1.m4s`, …
pub fn render(representation: &Representation, form: Form) -> Vec<u8> {
    let table = &representation.segments;
    let rows = table.segments().iter().map(|segment| (segment.start, segment.end()));
    let mut out = Vec::with_capacity(256 + table.segments().len() * 32);
    let map = form == Form::Cmaf && representation.kind() != MediaKind::Text;
    push_head(
        &mut out,
        target_duration(rows.clone(), table.timescale()),
        map,
        IFramesOnly::No,
    );
    push_segments(
        &mut out,
        rows,
        table.timescale(),
        b"",
        segment_extension(representation, form),
    );
    out
}

/// The I-frame playlist of a video in `form`: `iframe-1.m4s`, … (RFC 8216bis 4.4.3.6).
pub fn render_trick(representation: &Representation, form: Form) -> Vec<u8> {
    let frames = &representation.trick_frames;
    let scale = representation.segments.timescale();
    let rows = frames.iter().map(|frame| (frame.start, frame.start + frame.duration));
    let mut out = Vec::with_capacity(256 + frames.len() * 40);
    push_head(
        &mut out,
        target_duration(rows.clone(), scale),
        form == Form::Cmaf,
        IFramesOnly::Yes,
    );
    push_segments(
        &mut out,
        rows,
        scale,
        b"iframe-",
        segment_extension(representation, form),
    );
    out
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
) {
    for ((start, end), number) in rows.zip(1u64..) {
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
