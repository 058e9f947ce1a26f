//! Image media playlists: thumbnails in HLS (Image Media Playlist 0.4, a convention that RFC 8216bis does not have).
//!
//! Players that do not know the tags pass over them, as RFC 8216bis 6.3.1 asks.

use super::{push_number, push_quoted, push_seconds};
use crate::images::{ImageTrack, REPRESENTATION_ID};

/// The convention was written for this version of the protocol.
const VERSION: u32 = 7;

/// The playlist of the sheets: `1.jpg`, … Each says how it is cut up, right before its URI, where players look for it.
pub fn render(track: &ImageTrack) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + track.sheets.len() * 96);
    out.extend_from_slice(b"#EXTM3U\n#EXT-X-VERSION:");
    push_number(&mut out, VERSION.into());
    out.extend_from_slice(b"\n#EXT-X-TARGETDURATION:");
    let longest = track.spans_ms().map(|(start, end)| end - start).max().unwrap_or(0);
    push_number(&mut out, ((longest + 500) / 1_000).max(1));
    out.extend_from_slice(b"\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-IMAGES-ONLY\n");
    for ((start, end), number) in track.spans_ms().zip(1u64..) {
        out.extend_from_slice(b"#EXTINF:");
        push_seconds(&mut out, (end - start).saturating_mul(1_000));
        out.extend_from_slice(b",\n#EXT-X-TILES:RESOLUTION=");
        push_size(&mut out, track.tile_width, track.tile_height);
        out.extend_from_slice(b",LAYOUT=");
        push_size(&mut out, track.columns, track.rows);
        out.extend_from_slice(b",DURATION=");
        push_seconds(&mut out, u64::from(track.interval_ms) * 1_000);
        out.push(b'\n');
        push_number(&mut out, number);
        out.extend_from_slice(b".jpg\n");
    }
    out.extend_from_slice(b"#EXT-X-ENDLIST\n");
    out
}

/// The line of the multivariant playlist that leads there. RESOLUTION is that of a tile.
pub(super) fn push_stream(out: &mut Vec<u8>, track: &ImageTrack, base: &str) {
    out.extend_from_slice(b"#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=");
    push_number(out, track.bandwidth_bps());
    out.extend_from_slice(b",RESOLUTION=");
    push_size(out, track.tile_width, track.tile_height);
    out.extend_from_slice(b",CODECS=\"jpeg\",URI=");
    push_quoted(out, &format!("{base}{REPRESENTATION_ID}/index.m3u8"));
    out.push(b'\n');
}

fn push_size(out: &mut Vec<u8>, width: u32, height: u32) {
    push_number(out, width.into());
    out.push(b'x');
    push_number(out, height.into());
}
