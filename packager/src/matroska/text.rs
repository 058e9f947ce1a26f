//! Text tracks (RFC 9559 subtitle codec mappings): SubRip, WebVTT and SubStation Alpha blocks as cues.
//!
//! Text is not served in place but read whole. SubStation keeps words, line breaks, position and the basic styles;
//! drawings, animation and style sheets are left out.

use super::block::Block;
use super::cluster::Walk;
use super::coding::Coding;
use super::ebml::Element;
use super::header::{self, Encoding, TrackEntry, TrackType};
use super::{MatroskaError, WINDOW_SIZE_BYTES, id};
use crate::codec::MediaKind;
use crate::limits::{CUE_COUNT_MAX, TEXT_SIZE_BYTES_MAX};
use crate::source::ReadAt;
use crate::text::srt::CueTexts;
use crate::text::{Cue, TextTrack, webvtt};
use crate::window::Window;

/// Longest text of one cue; longer blocks are left out.
const CUE_SIZE_BYTES_MAX: u32 = 64 << 10;

/// Milliseconds a cue without a duration shows when no other follows.
const LAST_CUE_MS: u64 = 5_000;

/// A text track that [`read_text`] can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextEntry {
    /// Track number in the file.
    pub number: u64,
    /// What the cues are written in, for people.
    pub format: &'static str,
    /// BCP 47 tag, `und` when the source says nothing.
    pub language: String,
    /// Name for people, if the source has one.
    pub label: Option<String>,
    /// FlagDefault: to be shown unless the viewer chooses otherwise.
    pub is_default: bool,
    /// FlagForced: only translates what everyone should understand, such as signs.
    pub is_forced: bool,
    /// FlagHearingImpaired.
    pub is_hearing_impaired: bool,
}

/// How the blocks of a text track are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    SubRip,
    /// Cue text in the block, settings and id in BlockAdditions.
    WebVtt,
    /// Id, settings and cue text, a line each, in the block (WebM's first mapping).
    WebVttInBlock,
    SubStation,
}

impl Format {
    /// The format of a track, or `None` when it is not read.
    pub(super) fn of(entry: &TrackEntry) -> Option<Format> {
        if entry.track_type != TrackType::Subtitle || !entry.enabled || entry.scaled {
            return None;
        }
        if !matches!(entry.encodings.as_slice(), [] | [Encoding::HeaderStripping(_)]) {
            return None;
        }
        match entry.codec_id.as_str() {
            "S_TEXT/UTF8" | "S_TEXT/ASCII" => Some(Format::SubRip),
            "S_TEXT/WEBVTT" => Some(Format::WebVtt),
            "S_TEXT/ASS" | "S_TEXT/SSA" | "S_ASS" | "S_SSA" => Some(Format::SubStation),
            id if id.starts_with("D_WEBVTT/") => Some(Format::WebVttInBlock),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::SubRip => "SubRip",
            Format::WebVtt | Format::WebVttInBlock => "WebVTT",
            Format::SubStation => "SubStation Alpha",
        }
    }
}

/// The text tracks of a file, in its order.
pub fn text_entries(source: &dyn ReadAt) -> Result<Vec<TextEntry>, MatroskaError> {
    let mut window = Window::new(source, WINDOW_SIZE_BYTES);
    let header = header::read(&mut window)?;
    let entries = header.entries.iter().filter_map(|entry| {
        Some(TextEntry {
            number: entry.number,
            format: Format::of(entry)?.name(),
            language: entry.language.clone(),
            label: entry.name.clone(),
            is_default: entry.flags.default,
            is_forced: entry.flags.forced,
            is_hearing_impaired: entry.flags.hearing_impaired,
        })
    });
    Ok(entries.collect())
}

/// The cues of text track `number`, on the timeline that the tracks of [`super::read`] share, to the nearest
/// millisecond. Cues that end before its zero are left out; a cue without a duration shows until the next starts.
pub fn read_text(source: &dyn ReadAt, number: u64) -> Result<TextTrack, MatroskaError> {
    let mut window = Window::new(source, WINDOW_SIZE_BYTES);
    let header = header::read(&mut window)?;
    let entry = header
        .entries
        .iter()
        .find(|entry| entry.number == number && Format::of(entry).is_some());
    let entry = entry.ok_or(MatroskaError::NoTextTrack { number })?;
    let format = Format::of(entry).ok_or(MatroskaError::NoTextTrack { number })?;
    let mut start = Start::new(&header.entries);
    let mut reader = CueReader {
        format,
        stripped: match entry.encodings.first() {
            Some(Encoding::HeaderStripping(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        },
        texts: CueTexts::default(),
        cues: Vec::new(),
        size_bytes: 0,
    };
    let mut walk = Walk::new(&mut window, header.segment_start, header.segment_end);
    let mut block = Block::default();
    while walk.next_block(&mut block)? {
        start.see(&block);
        if block.track_number == number {
            reader.take(&mut walk, &block)?;
        }
    }
    let zero = start.earliest.unwrap_or(0);
    let ticks_to_ms = |ticks: i64| {
        let nanoseconds = i128::from(ticks) * i128::from(header.timestamp_scale);
        (nanoseconds + 500_000).div_euclid(1_000_000)
    };
    let mut cues = Vec::with_capacity(reader.cues.len());
    let starts: Vec<i64> = reader.cues.iter().map(|raw| raw.timestamp).collect();
    for (at, raw) in reader.cues.into_iter().enumerate() {
        let start_ms = ticks_to_ms(raw.timestamp.saturating_sub(zero));
        let end_ms = match raw.duration {
            Some(duration) => ticks_to_ms(raw.timestamp.saturating_sub(zero).saturating_add_unsigned(duration)),
            None => match starts.get(at + 1).filter(|next| **next > raw.timestamp) {
                Some(next) => ticks_to_ms(next.saturating_sub(zero)),
                None => start_ms + i128::from(LAST_CUE_MS),
            },
        };
        if let (Ok(start_ms), Ok(end_ms)) = (u64::try_from(start_ms.max(0)), u64::try_from(end_ms)) {
            cues.push(Cue {
                start_ms,
                end_ms,
                id: raw.id,
                settings: raw.settings,
                payload: raw.payload,
            });
        }
    }
    let mut blocks = reader.texts.into_header();
    if matches!(format, Format::WebVtt | Format::WebVttInBlock)
        && let Ok(parsed) = webvtt::parse(&entry.codec_private)
    {
        blocks.extend_from_slice(parsed.track.header());
    }
    Ok(TextTrack::new(blocks, cues))
}

/// Finds the zero of the shared timeline as [`super::read`] does: the earliest block of any served track, pictures
/// before a track's first key frame aside.
struct Start {
    /// Number of each served track, and whether its blocks count yet.
    tracks: Vec<(u64, bool)>,
    earliest: Option<i64>,
}

impl Start {
    fn new(entries: &[TrackEntry]) -> Start {
        let served = entries.iter().filter_map(|entry| {
            let coding = Coding::of(entry).ok()?;
            Some((entry.number, coding.kind() != MediaKind::Video))
        });
        Start {
            tracks: served.collect(),
            earliest: None,
        }
    }

    fn see(&mut self, block: &Block) {
        let Some((_, counts)) = self.tracks.iter_mut().find(|(number, _)| *number == block.track_number) else {
            return;
        };
        *counts |= block.keyframe;
        if *counts && !block.frames.is_empty() {
            self.earliest = Some(self.earliest.unwrap_or(i64::MAX).min(block.timestamp));
        }
    }
}

/// A cue as its block has it.
struct RawCue {
    timestamp: i64,
    duration: Option<u64>,
    id: String,
    settings: String,
    payload: String,
}

struct CueReader {
    format: Format,
    /// What every block starts with but does not store.
    stripped: String,
    texts: CueTexts,
    cues: Vec<RawCue>,
    size_bytes: u64,
}

impl CueReader {
    fn take(&mut self, walk: &mut Walk<'_, '_>, block: &Block) -> Result<(), MatroskaError> {
        let Some((offset, size)) = block
            .frames
            .first()
            .copied()
            .filter(|(_, size)| *size <= CUE_SIZE_BYTES_MAX)
        else {
            return Ok(());
        };
        self.size_bytes += u64::from(size);
        if self.cues.len() >= CUE_COUNT_MAX || self.size_bytes > TEXT_SIZE_BYTES_MAX {
            return Ok(());
        }
        let stored = String::from_utf8_lossy(walk.peek(offset, size as usize)?).into_owned();
        let text = format!("{}{}", self.stripped, stored.trim_end_matches('\0'));
        let (id, settings, payload) = match self.format {
            Format::SubRip => {
                let (settings, payload) = self.texts.convert(&text);
                (String::new(), settings.to_owned(), payload)
            }
            Format::SubStation => {
                let (settings, payload) = self.texts.convert(&sub_station_text(&text));
                (String::new(), settings.to_owned(), payload)
            }
            Format::WebVtt => {
                let additional = additional(walk, block)?;
                let mut lines = additional.lines().map(str::to_owned);
                let settings = lines.next().unwrap_or_default();
                (lines.next().unwrap_or_default(), settings, text)
            }
            Format::WebVttInBlock => {
                let mut parts = text.splitn(3, '\n').map(|part| part.trim_end_matches('\r').to_owned());
                let mut part = || parts.next().unwrap_or_default();
                (part(), part(), part())
            }
        };
        if !payload.trim().is_empty() {
            self.cues.push(RawCue {
                timestamp: block.timestamp,
                duration: block.duration,
                id,
                settings,
                payload,
            });
        }
        Ok(())
    }
}

/// The first BlockAdditional of a block, empty when it has none.
fn additional(walk: &mut Walk<'_, '_>, block: &Block) -> Result<String, MatroskaError> {
    let Some((offset, size)) = block
        .additions
        .filter(|(_, size)| *size <= u64::from(CUE_SIZE_BYTES_MAX))
    else {
        return Ok(String::new());
    };
    let additions = Element {
        id: id::BLOCK_ADDITIONS,
        offset,
        payload_offset: offset,
        payload: walk.peek(offset, size as usize)?,
    };
    let more = additions.children().flatten().filter(|more| more.id == id::BLOCK_MORE);
    let additional = more
        .flat_map(|more| more.children().flatten())
        .find(|child| child.id == id::BLOCK_ADDITIONAL);
    Ok(additional.map(|additional| additional.string()).unwrap_or_default())
}

/// The words of a SubStation event as Matroska stores it: eight fields, then text in which `\N` breaks a line. Braces
/// without a backslash are comments, and what stands between `{\p1}` and `{\p0}` draws a picture.
fn sub_station_text(event: &str) -> String {
    let text = event.splitn(9, ',').nth(8).unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    let mut drawing = false;
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('{') {
        if !drawing {
            out.push_str(before);
        }
        let Some((codes, after)) = from.split_once('}') else {
            rest = "";
            break;
        };
        for code in codes.split('\\').skip(1) {
            if let Some(scale) = code
                .strip_prefix('p')
                .and_then(|scale| scale.trim().parse::<u32>().ok())
            {
                drawing = scale > 0;
            }
        }
        if codes.contains('\\') {
            out.push('{');
            out.push_str(codes);
            out.push('}');
        }
        rest = after;
    }
    if !drawing {
        out.push_str(rest);
    }
    out.replace("\\N", "\n").replace("\\n", "\n").replace("\\h", "\u{a0}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn sub_station_events_become_words() {
        let check = |event: &str, expected: &str| {
            let (settings, payload) = CueTexts::default().convert(&sub_station_text(event));
            assert_eq!(format!("{settings}|{payload}"), expected, "{event}");
        };
        check("0,0,Default,,0,0,0,,Hello, world", "|Hello, world");
        check(
            "0,0,Default,,0,0,0,,{\\an8}{\\i1}up{\\i0}\\Ndown",
            "line:0|<i>up</i>\ndown",
        );
        check(
            "0,0,Default,,0,0,0,,{a comment}{\\fad(1,2)\\pos(3,4)}x\\hy",
            "|x\u{a0}y",
        );
        check("0,0,Default,,0,0,0,,{\\p1}m 0 0 l 5 5{\\p0}text", "|text");
        check("0,0,Default,,0,0,0,,open {brace", "|open");
        check("too,few,fields", "|");
    }
}
