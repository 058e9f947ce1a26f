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
    write(representation, protection.form(), Some(protection))
}

fn write(representation: &Representation, form: Form, protection: Option<&Protection>) -> Vec<u8> {
    let table = &representation.segments;
    let rows = table.segments().iter().map(|segment| (segment.start, segment.end()));
    let mut out = Vec::with_capacity(256 + table.segments().len() * 32);
    let duration = target_duration(rows.clone(), table.timescale());
    push_head(
        &mut out,
        duration,
        IFramesOnly::No,
        representation.has_independent_segments(),
    );
    let changes = Changes::new(representation, form, protection, SegmentList::Media);
    let extension = segment_extension(representation, form);
    push_segments(&mut out, rows, table.timescale(), b"", extension, changes);
    out
}

/// The I-frame playlist of a video in `form`: `iframe-1.m4s`, … (RFC 8216bis 4.4.3.6).
pub fn render_trick(representation: &Representation, form: Form) -> Vec<u8> {
    write_trick(representation, form, None)
}

/// The same of a protected presentation, in the form of `protection`.
pub fn render_protected_trick(representation: &Representation, protection: &Protection) -> Vec<u8> {
    write_trick(representation, protection.form(), Some(protection))
}

fn write_trick(representation: &Representation, form: Form, protection: Option<&Protection>) -> Vec<u8> {
    let frames = &representation.trick_frames;
    let scale = representation.segments.timescale();
    let rows = frames.iter().map(|frame| (frame.start, frame.start + frame.duration));
    let mut out = Vec::with_capacity(256 + frames.len() * 40);
    push_head(&mut out, target_duration(rows.clone(), scale), IFramesOnly::Yes, true);
    let changes = Changes::new(representation, form, protection, SegmentList::Trick);
    let extension = segment_extension(representation, form);
    push_segments(&mut out, rows, scale, b"iframe-", extension, changes);
    out
}

/// What stands in front of segments: the CMAF header that serves them, and the EXT-X-KEY tags of the key they are under.
///
/// Where the key changes there are new tags and another header, whose `tenc` names the new key, and no
/// EXT-X-DISCONTINUITY: timeline, tracks and encoding go on (RFC 8216bis 4.4.4.3), and hls.js and shaka-player append
/// the header wherever EXT-X-MAP changes, while a discontinuity would make both set up their buffers anew.
struct Changes<'a> {
    representation: &'a Representation,
    form: Form,
    protection: Option<&'a Protection>,
    list: SegmentList,
    has_header: bool,
    /// By falling number: the segments in front of which the key changes, and the key periods that begin there.
    pending: Vec<(u32, usize)>,
    /// Under which key the segments at hand are.
    track: Option<&'a TrackProtection>,
}

impl<'a> Changes<'a> {
    fn new(
        representation: &'a Representation,
        form: Form,
        protection: Option<&'a Protection>,
        list: SegmentList,
    ) -> Changes<'a> {
        let mut pending: Vec<(u32, usize)> = Vec::new();
        for period in 0..protection.map_or(1, Protection::period_count) {
            let segments = protection.map_or(1..2, |protection| protection.segments(representation, list, period));
            let header = |period| protection.map_or(0, |protection| protection.header_period(representation, period));
            let goes_on = pending.last().is_some_and(|(_, last)| header(*last) == header(period));
            if !segments.is_empty() && !goes_on {
                pending.push((segments.start, period));
            }
        }
        pending.reverse();
        Changes {
            representation,
            form,
            protection,
            list,
            has_header: form.format() == SegmentFormat::Cmaf && representation.kind() != MediaKind::Text,
            pending,
            track: None,
        }
    }

    fn push(&mut self, out: &mut Vec<u8>, number: u64) {
        if let Some((_, period)) = self.pending.pop_if(|(first, _)| u64::from(*first) <= number) {
            self.push_change(out, period);
        }
        // Segments that are encrypted as a whole have an initialisation vector each.
        if let Some(track) = self.track.filter(|_| self.form == Form::TsAes128) {
            // A playlist has fewer segments than 31 bits count.
            track.segment_tag(self.list, number as u32).write(out, KeyTagName::Key);
        }
    }

    fn push_change(&mut self, out: &mut Vec<u8>, period: usize) {
        let period_of = self.protection.map(|protection| protection.period(period));
        self.track = period_of.and_then(|period| period.track(self.representation));
        match self.track {
            Some(track) => write_key_tags(out, KeyTagName::Key, track.tags()),
            // A playlist is clear until a tag says otherwise; what is to come says it for all to see.
            None if period_of.is_some_and(|period| period.is_clear())
                && self.representation.kind() != MediaKind::Text =>
            {
                out.extend_from_slice(b"#EXT-X-KEY:METHOD=NONE\n");
            }
            None => {}
        }
        if self.has_header {
            let name = self.protection;
            let name = name.map(|protection| protection.header_name(self.representation, period));
            out.extend_from_slice(b"#EXT-X-MAP:URI=\"");
            out.extend_from_slice(name.as_deref().unwrap_or("init.mp4").as_bytes());
            out.extend_from_slice(b"\"\n");
        }
    }
}

/// Whether a playlist lists trick-play frames.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IFramesOnly {
    Yes,
    No,
}

fn push_head(out: &mut Vec<u8>, target_duration: u64, iframes_only: IFramesOnly, independent: bool) {
    out.extend_from_slice(b"#EXTM3U\n#EXT-X-VERSION:");
    push_number(out, VERSION.into());
    out.extend_from_slice(b"\n#EXT-X-TARGETDURATION:");
    push_number(out, target_duration);
    out.extend_from_slice(b"\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PLAYLIST-TYPE:VOD\n");
    if independent {
        out.extend_from_slice(b"#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    if iframes_only == IFramesOnly::Yes {
        out.extend_from_slice(b"#EXT-X-I-FRAMES-ONLY\n");
    }
}

fn push_segments(
    out: &mut Vec<u8>,
    rows: impl Iterator<Item = (u64, u64)>,
    scale: Timescale,
    prefix: &[u8],
    extension: &str,
    mut changes: Changes<'_>,
) {
    for ((start, end), number) in rows.zip(1u64..) {
        changes.push(out, number);
        if number == 1 && changes.representation.dated {
            push_date(out, micros(start, scale));
        }
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

/// The instant of the next segment, as one of the first of January 1970, which is what the presentation's time zero is
/// taken for (RFC 8216bis 4.4.4.6).
///
/// Players that look into segments find times there. shaka-player takes the first segments of all playlists for
/// simultaneous unless they are dated, and plays sound that begins a second late a second early.
fn push_date(out: &mut Vec<u8>, micros: u64) {
    const DAY_MILLIS: u64 = 86_400_000;
    // Nothing that plays begins later than a day after its presentation.
    let millis = ((micros + 500) / 1_000).min(DAY_MILLIS - 1);
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let date = format!("#EXT-X-PROGRAM-DATE-TIME:1970-01-01T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z\n");
    out.extend_from_slice(date.as_bytes());
}

/// Longest EXTINF as written, rounded to the nearest second, at least 1 (RFC 8216bis 4.4.3.1).
fn target_duration(rows: impl Iterator<Item = (u64, u64)>, scale: Timescale) -> u64 {
    let longest = rows
        .map(|(start, end)| micros(end, scale) - micros(start, scale))
        .max()
        .unwrap_or(0);
    ((longest + 500_000) / 1_000_000).max(1)
}
