//! WebVTT: whole files in, whole files and HLS segments out.
//!
//! Reads as a browser does (W3C WebVTT 6.1, "WebVTT parser algorithm"): what is malformed is skipped, here counted too.

use std::fmt::Write;

use bytes::Bytes;

use super::lines::Lines;
use super::{
    Cue, DropReason, HeaderBlock, Parsed, TextError, TextTrack, check_size, encoding, push_cue, times_fault, timestamp,
};

/// Ties cue times to the media timestamps of the segments beside them (RFC 8216 3.5, X-TIMESTAMP-MAP).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampMap {
    /// MPEG-2 timestamp in 90 kHz ticks, modulo 2^33.
    pub mpegts: u64,
    /// Cue time, in milliseconds, that is shown at that timestamp.
    pub local_ms: u64,
}

/// Reads a WebVTT file or one WebVTT segment.
///
/// # Errors
/// [`TextError::NoSignature`] when the first line is not WEBVTT's; otherwise only the limits. Bad cues are dropped.
pub fn parse(bytes: &[u8]) -> Result<Parsed, TextError> {
    check_size(bytes)?;
    let (text, encoding) = encoding::utf8_replaced(bytes);
    let mut lines = Lines::new(&text);
    let signature = lines
        .next_line()
        .unwrap_or_default()
        .strip_prefix("WEBVTT")
        .ok_or(TextError::NoSignature)?;
    if !signature.is_empty() && !signature.starts_with([' ', '\t']) {
        return Err(TextError::NoSignature);
    }
    let mut parsed = Parsed {
        encoding,
        ..Parsed::default()
    };
    parse_header(&mut lines, &mut parsed);
    let mut header = Vec::new();
    let mut cues = Vec::new();
    while !lines.is_done() {
        match parse_block(&mut lines, &mut parsed, cues.is_empty()) {
            Some(Block::Cue(cue)) => push_cue(&mut cues, cue)?,
            Some(Block::Header(block)) => header.push(block),
            None => {}
        }
    }
    parsed.track = TextTrack::new(header, cues);
    Ok(parsed)
}

/// The whole track as one file.
pub fn write(track: &TextTrack) -> Bytes {
    let mut out = String::from("WEBVTT\n");
    write_body(&mut out, track, track.cues().iter());
    out.into()
}

/// The segment that shows `start_ms..end_ms`: every cue that overlaps it, with its whole times, so that a player that
/// meets a cue in two segments recognises it. A segment without cues is valid.
///
/// A track that runs longer than the 26.5 h after which 90 kHz timestamps repeat needs a `local_ms` near `start_ms`:
/// a player cannot know how often the timestamp has wrapped since `local_ms`.
pub fn segment(track: &TextTrack, start_ms: u64, end_ms: u64, map: TimestampMap) -> Bytes {
    let mut out = String::from("WEBVTT\n");
    let _ = write!(out, "X-TIMESTAMP-MAP=MPEGTS:{},LOCAL:", map.mpegts);
    timestamp::write(&mut out, map.local_ms);
    out.push('\n');
    write_body(&mut out, track, track.window(start_ms, end_ms));
    out.into()
}

/// Signature and header blocks, as the `vttC` of a `wvtt` sample entry holds them.
pub(super) fn write_config(track: &TextTrack) -> String {
    let mut out = String::from("WEBVTT");
    for block in track.header() {
        let _ = write!(out, "\n\n{}\n{}", block.keyword(), block.text());
    }
    out
}

fn write_body<'t>(out: &mut String, track: &TextTrack, cues: impl Iterator<Item = &'t Cue>) {
    for block in track.header() {
        let _ = write!(out, "\n{}\n{}\n", block.keyword(), block.text());
    }
    for cue in cues {
        out.push('\n');
        if !cue.id.is_empty() {
            out.push_str(&cue.id);
            out.push('\n');
        }
        timestamp::write(out, cue.start_ms);
        out.push_str(" --> ");
        timestamp::write(out, cue.end_ms);
        if !cue.settings.is_empty() {
            out.push(' ');
            out.push_str(&cue.settings);
        }
        out.push('\n');
        if !cue.payload.is_empty() {
            out.push_str(&cue.payload);
            out.push('\n');
        }
    }
}

/// Metadata lines between the signature and the first empty line; an arrow ends them too.
fn parse_header(lines: &mut Lines<'_>, parsed: &mut Parsed) {
    loop {
        let before = lines.clone();
        let Some(line) = lines.next_line() else { return };
        if line.is_empty() {
            return;
        }
        if line.contains("-->") {
            *lines = before;
            return;
        }
        if let Some(map) = line.strip_prefix("X-TIMESTAMP-MAP=") {
            parsed.timestamp_map = parse_timestamp_map(map).or(parsed.timestamp_map);
        }
    }
}

/// `MPEGTS:900000,LOCAL:00:00:00.000`, in either order.
fn parse_timestamp_map(map: &str) -> Option<TimestampMap> {
    let (mut mpegts, mut local_ms) = (None, None);
    for part in map.split(',') {
        match part.trim().split_once(':')? {
            ("MPEGTS", value) => mpegts = value.trim().parse().ok(),
            ("LOCAL", value) => local_ms = timestamp::read(value.trim()).map(|(time_ms, _)| time_ms),
            _ => {}
        }
    }
    Some(TimestampMap {
        mpegts: mpegts?,
        local_ms: local_ms?,
    })
}

enum Block {
    Cue(Cue),
    Header(HeaderBlock),
}

/// What the lines of a block have turned out to be.
enum Kind {
    Unknown,
    /// A line of times that cannot be read: its lines belong to nothing.
    BadCue,
    Cue(Cue),
    Style,
    Region,
    LateHeader,
}

/// W3C WebVTT 6.1, "collect a WebVTT block", outside the header.
fn parse_block(lines: &mut Lines<'_>, parsed: &mut Parsed, before_first_cue: bool) -> Option<Block> {
    let first_number = lines.number().saturating_add(1);
    let mut kind = Kind::Unknown;
    let mut buffer = String::new();
    let mut seen_arrow = false;
    let mut line_count = 0u64;
    loop {
        let before = lines.clone();
        let Some(line) = lines.next_line() else { break };
        line_count = line_count.saturating_add(1);
        if line.contains("-->") {
            if line_count != 1 && (line_count != 2 || seen_arrow) {
                // The next block begins here, though no empty line says so.
                *lines = before;
                break;
            }
            seen_arrow = true;
            kind = match parse_times(line) {
                Ok((start_ms, end_ms, settings)) => {
                    let (id, settings) = (std::mem::take(&mut buffer), settings.to_owned());
                    Kind::Cue(Cue {
                        start_ms,
                        end_ms,
                        id,
                        settings,
                        payload: String::new(),
                    })
                }
                Err(reason) => {
                    parsed.drop_at(lines.number(), reason);
                    Kind::BadCue
                }
            };
            continue;
        }
        if line.is_empty() {
            break;
        }
        if line_count == 2 && matches!(kind, Kind::Unknown) {
            let keyword = buffer.trim_end_matches(|c: char| c.is_ascii_whitespace());
            let header = match keyword {
                "STYLE" => Some(Kind::Style),
                "REGION" => Some(Kind::Region),
                _ => None,
            };
            if let Some(header) = header {
                kind = if before_first_cue { header } else { Kind::LateHeader };
                buffer.clear();
            }
        }
        if !buffer.is_empty() {
            buffer.push('\n');
        }
        buffer.push_str(line);
    }
    match kind {
        Kind::Cue(cue) => return Some(Block::Cue(Cue { payload: buffer, ..cue })),
        Kind::Style => return Some(Block::Header(HeaderBlock::Style(buffer))),
        Kind::Region => return Some(Block::Header(HeaderBlock::Region(buffer))),
        Kind::LateHeader => parsed.drop_at(first_number, DropReason::LateHeaderBlock),
        Kind::Unknown if !buffer.is_empty() && !is_comment(&buffer) => {
            parsed.drop_at(first_number, DropReason::StrayText);
        }
        Kind::Unknown | Kind::BadCue => {}
    }
    None
}

fn is_comment(block: &str) -> bool {
    block
        .strip_prefix("NOTE")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n']))
}

/// `start --> end settings` (WebVTT 6.3, "collect WebVTT cue timings and settings").
fn parse_times(line: &str) -> Result<(u64, u64, &str), DropReason> {
    let read = || {
        let (start_ms, rest) = timestamp::read(skip_whitespace(line))?;
        let (end_ms, settings) = timestamp::read(skip_whitespace(skip_whitespace(rest).strip_prefix("-->")?))?;
        Some((start_ms, end_ms, settings))
    };
    let (start_ms, end_ms, settings) = read().ok_or(DropReason::BadTimes)?;
    match times_fault(start_ms, end_ms) {
        Some(reason) => Err(reason),
        None => Ok((start_ms, end_ms, settings)),
    }
}

fn skip_whitespace(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_ascii_whitespace())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(u64, u64, &str, &str, &str)], dropped: &[(u64, DropReason)]) -> Parsed {
        let parsed = parse(text.as_bytes()).unwrap();
        let found: Vec<_> = parsed
            .track
            .cues()
            .iter()
            .map(|c| {
                (
                    c.start_ms,
                    c.end_ms,
                    c.id.as_str(),
                    c.settings.as_str(),
                    c.payload.as_str(),
                )
            })
            .collect();
        assert_eq!(found, expected, "{text}");
        let found: Vec<_> = parsed
            .dropped
            .iter()
            .map(|dropped| (dropped.line, dropped.reason))
            .collect();
        assert_eq!(found, dropped, "{text}");
        assert_eq!(parsed.dropped_count, dropped.len());
        parsed
    }

    const T: &str = "00:01.000 --> 00:02.000";

    #[test]
    fn the_signature_is_needed() {
        for text in [
            "",
            "WEBVT",
            "WEBVTTx",
            "webvtt",
            " WEBVTT",
            "1\n00:01.000 --> 00:02.000\nx",
        ] {
            assert_eq!(parse(text.as_bytes()), Err(TextError::NoSignature), "{text}");
        }
        for text in [
            "WEBVTT",
            "WEBVTT\n",
            "WEBVTT\r\n\r\n",
            "WEBVTT x",
            "WEBVTT\tx\n",
            "\u{feff}WEBVTT",
        ] {
            check(text, &[], &[]);
        }
    }

    #[test]
    fn blocks_are_read_as_a_browser_does() {
        check(
            &format!("WEBVTT\n\n{T}\na\nb\n\n"),
            &[(1_000, 2_000, "", "", "a\nb")],
            &[],
        );
        check(
            &format!("WEBVTT\r\n\r\nid\r\n{T}\r\na\r\n"),
            &[(1_000, 2_000, "id", "", "a")],
            &[],
        );
        check(&format!("WEBVTT\r\rid\r{T}\ra"), &[(1_000, 2_000, "id", "", "a")], &[]);
        check(&format!("WEBVTT\n{T}\na"), &[(1_000, 2_000, "", "", "a")], &[]);
        check(&format!("WEBVTT\n\n{T}\n"), &[(1_000, 2_000, "", "", "")], &[]);
        check(
            &format!("WEBVTT\n\n{T}  line:0   align:start bad\na"),
            &[(1_000, 2_000, "", "line:0 align:start", "a")],
            &[],
        );
        check(
            "WEBVTT\n\n\t00:01.000-->00:02.000line:0\na",
            &[(1_000, 2_000, "", "line:0", "a")],
            &[],
        );
        check(
            &format!("WEBVTT\n\n{T}\na\n{T}\nb"),
            &[(1_000, 2_000, "", "", "a"), (1_000, 2_000, "", "", "b")],
            &[],
        );
        check(
            &format!("WEBVTT\n\nNOTE x\nid\n{T}\na"),
            &[(1_000, 2_000, "", "", "a")],
            &[],
        );
        check(
            &format!("WEBVTT\n\nNOTE x\n{T}\na"),
            &[(1_000, 2_000, "NOTE x", "", "a")],
            &[],
        );
        check(
            &format!("WEBVTT\n\n{T}\na\0b"),
            &[(1_000, 2_000, "", "", "a\u{fffd}b")],
            &[],
        );
        check(
            &format!("WEBVTT\n\n{T}\n{T}\na"),
            &[(1_000, 2_000, "", "", ""), (1_000, 2_000, "", "", "a")],
            &[],
        );
        let swapped = "WEBVTT\n\n00:03.000 --> 00:04.000\nb\n\n00:01.000 --> 00:09.000\na";
        check(
            swapped,
            &[(1_000, 9_000, "", "", "a"), (3_000, 4_000, "", "", "b")],
            &[],
        );
    }

    #[test]
    fn what_is_left_out_is_counted() {
        check("WEBVTT\n\nx --> y\na\n", &[], &[(3, DropReason::BadTimes)]);
        check(
            "WEBVTT\n\n\n00:02.000 --> 00:01.000\na\n",
            &[],
            &[(4, DropReason::EndsBeforeStart)],
        );
        check(
            "WEBVTT\n\n00:02.000 --> 00:02.000\na\n",
            &[],
            &[(3, DropReason::EndsBeforeStart)],
        );
        check(
            "WEBVTT\n\n00:02.000 --> 99999999999:00:00.000\na\n",
            &[],
            &[(3, DropReason::TimeOutOfRange)],
        );
        check(
            "WEBVTT\n\nstray\ntext\n\nNOTE fine\n\nNOTEx",
            &[],
            &[(3, DropReason::StrayText), (8, DropReason::StrayText)],
        );
        let late = format!("WEBVTT\n\n{T}\na\n\nSTYLE\nb {{}}\n");
        check(
            &late,
            &[(1_000, 2_000, "", "", "a")],
            &[(6, DropReason::LateHeaderBlock)],
        );
        let bad: String = (0..2_000).map(|_| "\n\nx --> y").collect();
        let parsed = parse(format!("WEBVTT{bad}").as_bytes()).unwrap();
        assert_eq!((parsed.dropped.len(), parsed.dropped_count), (1_000, 2_000));
    }

    #[test]
    fn header_blocks_are_kept_in_files_and_segments() {
        let text = "WEBVTT\n\nSTYLE\n::cue { color: red }\n\nREGION\nid:fred\nwidth:40%\n\n00:01.000 --> 00:02.000 region:fred\na\n";
        let parsed = check(text, &[(1_000, 2_000, "", "region:fred", "a")], &[]);
        let header = [
            HeaderBlock::Style("::cue { color: red }".into()),
            HeaderBlock::Region("id:fred\nwidth:40%".into()),
        ];
        assert_eq!(parsed.track.header(), header);
        assert_eq!(parsed.track.cues().first().unwrap().region(), Some("fred"));
        let written = write(&parsed.track);
        assert_eq!(
            written,
            text.replace("00:01.000 --> 00:02", "00:00:01.000 --> 00:00:02")
        );
        let map = TimestampMap {
            mpegts: (1 << 33) - 1,
            local_ms: 400_000_000,
        };
        let empty = segment(&parsed.track, 2_000, 4_000, map);
        let expected = "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:8589934591,LOCAL:111:06:40.000\n\nSTYLE\n::cue { color: red }\n\nREGION\nid:fred\nwidth:40%\n";
        assert_eq!(empty, expected);
        let read = parse(&empty).unwrap();
        assert_eq!((read.timestamp_map, read.track.header()), (Some(map), &header[..]));
    }

    #[test]
    fn a_cue_is_repeated_whole_in_every_segment_it_overlaps() {
        let parsed = parse(b"WEBVTT\n\n1\n00:01.000 --> 00:04.001 line:0\na").unwrap();
        let check = |start_ms: u64, end_ms: u64, cue_count: usize| {
            let bytes = segment(
                &parsed.track,
                start_ms,
                end_ms,
                TimestampMap {
                    mpegts: 900_000,
                    local_ms: 0,
                },
            );
            let read = parse(&bytes).unwrap();
            assert_eq!(read.track.cues().len(), cue_count, "{start_ms}..{end_ms}");
            assert!(read.track.cues().iter().all(|cue| parsed.track.cues().contains(cue)));
            assert!(bytes.starts_with(b"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000\n"));
        };
        check(0, 1_000, 0);
        check(0, 1_001, 1);
        check(2_000, 4_000, 1);
        check(4_000, 6_000, 1);
        check(4_001, 6_000, 0);
        check(0, u64::MAX, 1);
    }
}
