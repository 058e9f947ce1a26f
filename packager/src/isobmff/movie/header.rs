//! `moov`: what a movie's header says of its tracks, before any sample is looked at.

use std::collections::BTreeMap;

use crate::isobmff::{BoxError, BoxReader, FourCc};
use crate::limits::{EDIT_COUNT_MAX, TRACK_COUNT_MAX};
use crate::source::Refusal;
use crate::time::Timescale;

use super::language;

/// The parts of `moov` that concern us.
#[derive(Debug, Default)]
pub(super) struct MovieHeader<'a> {
    /// `None` when missing or zero; edit lists have no meaning then.
    pub timescale: Option<Timescale>,
    /// In the order of the file.
    pub tracks: Vec<TrackHeader<'a>>,
    /// Tracks whose header is damaged, and the rest of a `moov` that breaks off.
    pub refused: Vec<Refusal>,
    /// `mvex` is there: samples come in fragments.
    pub fragmented: bool,
    /// Defaults of fragments, by track.
    pub track_extends: BTreeMap<u32, TrackExtends>,
}

/// `trex` (ISO/IEC 14496-12:2022 8.8.3).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TrackExtends {
    /// 1-based.
    pub description_index: u32,
    pub duration: u32,
    pub size: u32,
    pub flags: u32,
}

/// The header of one track.
#[derive(Debug)]
pub(super) struct TrackHeader<'a> {
    pub id: u32,
    /// When not the identity.
    pub matrix: Option<[i32; 9]>,
    /// `None` when zero.
    pub timescale: Option<Timescale>,
    /// BCP 47.
    pub language: String,
    pub handler: FourCc,
    pub label: Option<String>,
    pub edits: Vec<Edit>,
    pub sample_table: Option<BoxReader<'a>>,
    /// Tracks that hold this one's chapters.
    pub chapter_tracks: Vec<u32>,
}

/// One entry of `elst` (ISO/IEC 14496-12:2022 8.6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    /// Movie ticks; 0 lasts to the end.
    pub duration: u64,
    /// Track ticks; -1 shows nothing.
    pub media_time: i64,
    /// 16.16; 1.0 plays.
    pub rate: i32,
}

const IDENTITY: [i32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

impl<'a> MovieHeader<'a> {
    /// Reads `moov`. What is damaged inside one track refuses that track alone.
    pub(super) fn parse(mut moov: BoxReader<'a>) -> MovieHeader<'a> {
        let mut movie = MovieHeader::default();
        let mut track_count = 0;
        loop {
            let child = match moov.child() {
                Ok(Some(child)) => child,
                Ok(None) => break,
                Err(error) => {
                    movie.refuse("rest of the movie header", &error);
                    break;
                }
            };
            match &child.fourcc.0 {
                b"mvhd" => match movie_timescale(child) {
                    Ok(timescale) => movie.timescale = timescale,
                    Err(error) => movie.refuse("movie header box", &error),
                },
                b"trak" => {
                    track_count += 1;
                    if track_count == TRACK_COUNT_MAX + 1 {
                        let why = format!("more than {TRACK_COUNT_MAX} tracks");
                        movie.refuse("further tracks", &why);
                    }
                    if track_count <= TRACK_COUNT_MAX {
                        movie.track(child);
                    }
                }
                b"mvex" => {
                    movie.fragmented = true;
                    if let Err(error) = movie.movie_extends(child) {
                        movie.refuse("fragment defaults", &error);
                    }
                }
                b"cmov" => movie.refuse("file", &"compressed movie header (cmov)"),
                _ => {}
            }
        }
        movie
    }

    fn refuse(&mut self, what: &str, why: &dyn std::fmt::Display) {
        self.refused.push(Refusal {
            what: what.to_owned(),
            why: why.to_string(),
        });
    }

    fn track(&mut self, trak: BoxReader<'a>) {
        match TrackHeader::parse(trak) {
            Ok(track) if self.tracks.iter().any(|other| other.id == track.id) => {
                self.refuse(&format!("second track {}", track.id), &"track number used twice");
            }
            Ok(track) => self.tracks.push(track),
            Err((id, error)) => self.refuse(&id.map_or("a track".to_owned(), |id| format!("track {id}")), &error),
        }
    }

    fn movie_extends(&mut self, mut mvex: BoxReader<'a>) -> Result<(), BoxError> {
        while let Some(mut child) = mvex.child()? {
            if &child.fourcc.0 != b"trex" || self.track_extends.len() >= TRACK_COUNT_MAX {
                continue;
            }
            child.version_and_flags()?;
            let track_id = child.u32()?;
            let extends = TrackExtends {
                description_index: child.u32()?,
                duration: child.u32()?,
                size: child.u32()?,
                flags: child.u32()?,
            };
            self.track_extends.insert(track_id, extends);
        }
        Ok(())
    }
}

/// Timescale of `mvhd` or `mdhd`, whose first fields are alike; leaves the reader behind the duration.
fn timescale(reader: &mut BoxReader<'_>) -> Result<Option<Timescale>, BoxError> {
    let (version, _) = reader.version_and_flags()?;
    let (times, duration) = if version == 1 { (16, 8) } else { (8, 4) };
    reader.skip(times)?;
    let timescale = Timescale::new(reader.u32()?);
    reader.skip(duration)?;
    Ok(timescale)
}

fn movie_timescale(mut mvhd: BoxReader<'_>) -> Result<Option<Timescale>, BoxError> {
    timescale(&mut mvhd)
}

/// Numbers of the tracks that hold a track's chapters (`chap` of `tref`, QuickTime File Format).
fn chapter_tracks(mut tref: BoxReader<'_>) -> Result<Vec<u32>, BoxError> {
    let mut tracks = Vec::new();
    while let Some(mut child) = tref.child()? {
        if &child.fourcc.0 == b"chap" {
            while child.remaining().len() >= 4 && tracks.len() < TRACK_COUNT_MAX {
                tracks.push(child.u32()?);
            }
        }
    }
    Ok(tracks)
}

impl<'a> TrackHeader<'a> {
    /// Reads `trak`; an error comes with the track's number where that was found first.
    fn parse(mut trak: BoxReader<'a>) -> Result<TrackHeader<'a>, (Option<u32>, BoxError)> {
        let whole = trak;
        let mut track = TrackHeader {
            id: 0,
            matrix: None,
            timescale: None,
            language: language::UNDETERMINED.to_owned(),
            handler: FourCc(*b"\0\0\0\0"),
            label: None,
            edits: Vec::new(),
            sample_table: None,
            chapter_tracks: Vec::new(),
        };
        let mut id = None;
        let mut media = None;
        let mut name = None;
        while let Some(mut child) = trak.child().map_err(|error| (id, error))? {
            match &child.fourcc.0 {
                b"tkhd" => {
                    track.header(child).map_err(|error| (id, error))?;
                    id = Some(track.id);
                }
                b"mdia" => media = Some(child),
                // An edit list is a promise about time: a damaged one refuses the track.
                b"edts" => {
                    while let Some(list) = child.child().map_err(|error| (id, error))? {
                        if &list.fourcc.0 == b"elst" {
                            track.edits = edits(list).map_err(|error| (id, error))?;
                        }
                    }
                }
                b"udta" => name = user_name(child),
                // What is named there is a decoration: a damaged list names nobody.
                b"tref" => track.chapter_tracks = chapter_tracks(child).unwrap_or_default(),
                _ => {}
            }
        }
        if track.id == 0 {
            return Err((None, whole.invalid("no track number (tkhd)")));
        }
        let Some(media) = media else {
            return Err((id, whole.invalid("no media (mdia)")));
        };
        track.media(media).map_err(|error| (id, error))?;
        track.label = name.or(track.label);
        Ok(track)
    }

    fn header(&mut self, mut tkhd: BoxReader<'_>) -> Result<(), BoxError> {
        let (version, _) = tkhd.version_and_flags()?;
        tkhd.skip(if version == 1 { 16 } else { 8 })?;
        self.id = tkhd.u32()?;
        tkhd.skip(if version == 1 { 12 } else { 8 })?;
        // reserved, layer, alternate group, volume, reserved
        tkhd.skip(8 + 2 + 2 + 2 + 2)?;
        let mut matrix = [0; 9];
        for value in &mut matrix {
            *value = tkhd.i32()?;
        }
        // All zeros is what writers leave who know no matrix.
        self.matrix = (matrix != IDENTITY && matrix != [0; 9]).then_some(matrix);
        Ok(())
    }

    fn media(&mut self, mut mdia: BoxReader<'a>) -> Result<(), BoxError> {
        let mut extended_language = None;
        while let Some(mut child) = mdia.child()? {
            match &child.fourcc.0 {
                b"mdhd" => {
                    self.timescale = timescale(&mut child)?;
                    self.language = language::from_packed(child.u16()?);
                }
                b"elng" => {
                    child.version_and_flags()?;
                    extended_language = std::str::from_utf8(child.remaining()).ok().and_then(language::from_tag);
                }
                b"hdlr" => {
                    child.skip(8)?;
                    self.handler = child.fourcc()?;
                    child.skip(12)?;
                    self.label = label(handler_name(child.remaining()));
                }
                b"minf" => {
                    while let Some(part) = child.child()? {
                        if &part.fourcc.0 == b"stbl" {
                            self.sample_table = Some(part);
                        }
                    }
                }
                _ => {}
            }
        }
        if let Some(tag) = extended_language {
            self.language = tag;
        }
        Ok(())
    }
}

fn edits(mut elst: BoxReader<'_>) -> Result<Vec<Edit>, BoxError> {
    let (version, _) = elst.version_and_flags()?;
    let entry_size_bytes = if version == 1 { 20 } else { 12 };
    let count = elst.entry_count(entry_size_bytes, EDIT_COUNT_MAX)?;
    (0..count)
        .map(|_| {
            let (duration, media_time) = match version {
                1 => (elst.u64()?, elst.u64()? as i64),
                _ => (u64::from(elst.u32()?), i64::from(elst.i32()?)),
            };
            Ok(Edit {
                duration,
                media_time,
                rate: elst.i32()?,
            })
        })
        .collect()
}

/// `udta`'s `name`: text alone in QuickTime, behind a size and a language number when written as international text.
fn user_name(mut udta: BoxReader<'_>) -> Option<String> {
    while let Ok(Some(child)) = udta.child() {
        if &child.fourcc.0 == b"name" {
            return std::str::from_utf8(child.remaining()).ok().and_then(label);
        }
    }
    None
}

/// A handler's name: zero-terminated by ISO/IEC 14496-12, counted by its first byte in QuickTime files.
fn handler_name(bytes: &[u8]) -> &str {
    let counted = bytes
        .split_first()
        .filter(|(count, rest)| usize::from(**count) <= rest.len() && rest.len() - usize::from(**count) <= 1)
        .map(|(count, rest)| rest.get(..usize::from(*count)).unwrap_or_default());
    let text = counted.unwrap_or_else(|| bytes.split(|byte| *byte == 0).next().unwrap_or_default());
    std::str::from_utf8(text).unwrap_or_default()
}

/// Longest label kept, in characters.
const LABEL_LEN_MAX: usize = 128;

/// Names that programs put in, which say nothing about the track: parts of them, in lower case.
const BOILERPLATE_PARTS: &[&str] = &[
    "handle",
    "media file produced",
    "core media",
    "mainconcept",
    "gpac",
    "l-smash",
    "bento4",
    "imported with",
    "muxer",
    "vireo",
    "#trackid=",
    "#video",
    "#audio",
    ".264",
    ".265",
    ".aac",
    "googl",
    "twitter",
    "ffmpeg",
    "lavf",
    "usp video",
    "usp audio",
    "telestream",
    "unified streaming",
];

/// The same, when they are the whole name.
const BOILERPLATE: &[&str] = &[
    "video",
    "audio",
    "sound",
    "text",
    "subtitle",
    "subtitles",
    "vide",
    "soun",
    "subt",
    "sbtl",
    "clcp",
    "meta",
    "und",
    "(null)",
    "null",
    "unknown",
    "video track",
    "audio track",
    "video media",
    "audio media",
    "mp4",
    "main",
    "track",
];

/// `text` as a label for people, unless it is empty or a program's own name.
fn label(text: &str) -> Option<String> {
    let text = text.trim_matches(|character: char| character.is_control() || character.is_whitespace());
    let lower = text.to_ascii_lowercase();
    let empty = text.is_empty() || text.chars().any(char::is_control);
    let boilerplate =
        BOILERPLATE.contains(&lower.as_str()) || BOILERPLATE_PARTS.iter().any(|part| lower.contains(part));
    (!empty && !boilerplate).then(|| text.chars().take(LABEL_LEN_MAX).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_for_people() {
        let check = |bytes: &[u8], expected: Option<&str>| {
            assert_eq!(label(handler_name(bytes)).as_deref(), expected, "{bytes:?}");
        };
        check(b"VideoHandler\0", None);
        check(b"\x12SubtitleCommentary", Some("SubtitleCommentary"));
        check(b"Director's commentary\0", Some("Director's commentary"));
        check(b"\x0bSurround 51", Some("Surround 51"));
        check(b"ISO Media file produced by Google Inc.\0", None);
        check(b"movie_track1.264#trackID=1:fps=24 - Imported with GPAC 0.5\0", None);
        check(b"", None);
        check(b"\0", None);
        check(b"Deutsch", Some("Deutsch"));
        check(b"bad \xff utf-8\0", None);
    }
}
