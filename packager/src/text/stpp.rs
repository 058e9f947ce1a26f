//! `stpp`: TTML documents as samples of an ISO BMFF track (ISO/IEC 14496-30:2018 clause 6), in the IMSC1 text profile.
//!
//! Times in a document are times of the track, not of the sample, so a cue keeps its whole times in every sample.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;

use super::join::DocumentJoiner;
use super::markup::{self, Color, Token};
use super::{Cue, DropReason, Encoding, Parsed, TextError, TextSample, TextTrack, timestamp, ttml};
use crate::isobmff::BoxWriter;
use crate::limits::TEXT_SIZE_BYTES_MAX;

/// RFC 6381 string of the track: TTML in the IMSC1 text profile.
pub const CODECS: &str = "stpp.ttml.im1t";

/// The namespace its sample entry names.
pub const NAMESPACE: &str = "http://www.w3.org/ns/ttml";

/// The `stpp` sample entry (ISO/IEC 14496-30:2018 6.4), data reference 1, without schema location or auxiliary types.
pub fn sample_entry() -> Bytes {
    let mut out = BoxWriter::default();
    out.write_box(b"stpp", |out| {
        out.zeros(6);
        out.u16(1);
        out.bytes(NAMESPACE.as_bytes());
        out.zeros(3);
    });
    out.finish().into()
}

/// The one sample that shows `start_ms..end_ms`. A document without cues is valid; `language` is a BCP 47 tag, empty
/// for unknown.
///
/// Ruby becomes text in parentheses, which the profile has no other form for; identifiers are left out.
pub fn sample(track: &TextTrack, start_ms: u64, end_ms: u64, language: &str) -> TextSample {
    let mut regions = Regions::default();
    let mut body = String::new();
    for cue in track.window(start_ms, end_ms) {
        write_paragraph(&mut body, cue, regions.index(&cue.settings));
    }
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<tt");
    for (name, value) in [
        ("xmlns", NAMESPACE),
        ("xmlns:ttp", "http://www.w3.org/ns/ttml#parameter"),
        ("xmlns:tts", "http://www.w3.org/ns/ttml#styling"),
        ("ttp:profile", "http://www.w3.org/ns/ttml/profile/imsc1/text"),
        ("ttp:timeBase", "media"),
        ("xml:space", "preserve"),
        ("xml:lang", language),
    ] {
        write_attribute(&mut out, name, value);
    }
    out.push_str(">\n");
    if body.is_empty() {
        out.push_str("<head/>\n<body/>\n</tt>\n");
    } else {
        out.push_str("<head>\n<layout>\n");
        regions.write(&mut out);
        out.push_str("</layout>\n</head>\n<body>\n<div>\n");
        out.push_str(&body);
        out.push_str("</div>\n</body>\n</tt>\n");
    }
    TextSample {
        start_ms,
        duration_ms: end_ms.saturating_sub(start_ms),
        bytes: out.into(),
    }
}

/// Reads consecutive samples back into cues. A cue that several samples repeat is there once; a cue that was cut where
/// samples meet is whole again.
///
/// # Errors
/// As [`ttml::parse`].
pub fn parse(samples: &[TextSample]) -> Result<Parsed, TextError> {
    let mut parsed = Parsed::default();
    let mut joiner = DocumentJoiner::default();
    let mut header = Vec::new();
    let mut size_bytes = 0u64;
    for (sample, number) in samples.iter().zip(1u64..) {
        size_bytes = size_bytes.saturating_add(sample.bytes.len() as u64);
        if size_bytes > TEXT_SIZE_BYTES_MAX {
            return Err(TextError::TooLarge { size_bytes });
        }
        let (start_ms, end_ms) = (sample.start_ms, sample.end_ms());
        let document = parse_sample(sample)?;
        for dropped in &document.dropped {
            parsed.drop_at(number, dropped.reason);
        }
        let listed_count = document.dropped.len();
        parsed.dropped_count = parsed
            .dropped_count
            .saturating_add(document.dropped_count.saturating_sub(listed_count));
        if document.encoding != Encoding::Utf8 {
            parsed.encoding = document.encoding;
        }
        parsed.language = parsed.language.or(document.language);
        for block in document.track.header() {
            if !header.contains(block) {
                header.push(block.clone());
            }
        }
        joiner.document(start_ms, end_ms, document.track.cues())?;
    }
    parsed.track = TextTrack::new(header, joiner.finish());
    Ok(parsed)
}

/// The cues of one sample that overlap it, with the times its document gives them; lines of [`Parsed::dropped`] are the
/// document's. An empty sample has no cues.
///
/// # Errors
/// As [`ttml::parse`].
pub fn parse_sample(sample: &TextSample) -> Result<Parsed, TextError> {
    if sample.bytes.is_empty() {
        return Ok(Parsed::default());
    }
    let (start_ms, end_ms) = (sample.start_ms, sample.end_ms());
    let mut parsed = ttml::parse_within(&sample.bytes, Some((start_ms, end_ms)))?;
    let inside: Vec<Cue> = parsed.track.window(start_ms, end_ms).cloned().collect();
    let outside_count = parsed.track.cues().len().saturating_sub(inside.len());
    for _ in 0..outside_count {
        parsed.drop_at(1, DropReason::OutsideSample);
    }
    if outside_count > 0 {
        parsed.track = TextTrack::new(parsed.track.header().to_vec(), inside);
    }
    Ok(parsed)
}

/// The regions a document needs: one for each set of cue settings.
#[derive(Default)]
struct Regions<'t> {
    indexes: BTreeMap<&'t str, usize>,
    settings: Vec<&'t str>,
}

impl<'t> Regions<'t> {
    fn index(&mut self, settings: &'t str) -> usize {
        let next = self.settings.len();
        let index = *self.indexes.entry(settings).or_insert(next);
        if index == next {
            self.settings.push(settings);
        }
        index
    }

    fn write(&self, out: &mut String) {
        for (index, settings) in self.settings.iter().enumerate() {
            let place = Place::new(settings);
            let _ = write!(out, "<region xml:id=\"r{index}\"");
            write_attribute(
                out,
                "tts:origin",
                &format!("{} {}", percent(place.left), percent(place.top)),
            );
            write_attribute(
                out,
                "tts:extent",
                &format!("{} {}", percent(place.width), percent(place.height)),
            );
            write_attribute(out, "tts:displayAlign", place.display_align);
            write_attribute(out, "tts:textAlign", place.text_align);
            if let Some(writing_mode) = place.writing_mode {
                write_attribute(out, "tts:writingMode", writing_mode);
            }
            // Lines that are too long show nevertheless, as they do in WebVTT.
            write_attribute(out, "tts:overflow", "visible");
            out.push_str("/>\n");
        }
    }
}

/// Where a cue is shown, in hundredths of a percent.
struct Place {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    display_align: &'static str,
    text_align: &'static str,
    writing_mode: Option<&'static str>,
}

impl Place {
    const WHOLE: u32 = 10_000;
    /// What stays free at each side of a cue that says nothing.
    const MARGIN: u32 = 1_000;
    /// A line of text is about as high as WebVTT makes it (5.33 % of the height).
    const LINE: u32 = 533;

    /// About what a WebVTT renderer would make of the settings.
    fn new(settings: &str) -> Self {
        let setting = |name: &str| {
            settings
                .split(' ')
                .find_map(|setting| setting.strip_prefix(name)?.strip_prefix(':'))
        };
        let text_align = match setting("align") {
            Some("start") => "start",
            Some("left") => "left",
            Some("right") => "right",
            Some("end") => "end",
            _ => "center",
        };
        let writing_mode = match setting("vertical") {
            Some("rl") => Some("tbrl"),
            Some("lr") => Some("tblr"),
            _ => None,
        };
        let inner = Self::WHOLE - 2 * Self::MARGIN;
        let mut place = Self {
            left: Self::MARGIN,
            top: Self::MARGIN,
            width: inner,
            height: inner,
            display_align: "after",
            text_align,
            writing_mode,
        };
        // The axes of vertical text are exchanged; such cues keep the whole safe area.
        if writing_mode.is_none() {
            place.set_horizontal(setting("position"), setting("size"));
            place.set_vertical(setting("line"));
        }
        place
    }

    fn set_horizontal(&mut self, position: Option<&str>, size: Option<&str>) {
        let position = position.and_then(|position| hundredths(position.split(',').next()?));
        let size = size.and_then(hundredths);
        self.width = size.unwrap_or(self.width);
        match self.text_align {
            "start" | "left" => {
                self.left = position.unwrap_or(self.left);
                self.width = self.width.min(Self::WHOLE - self.left);
            }
            "end" | "right" => {
                let right = position.unwrap_or(Self::WHOLE - Self::MARGIN);
                self.width = self.width.min(right);
                self.left = right - self.width;
            }
            _ => {
                let middle = position.unwrap_or(Self::WHOLE / 2);
                self.width = self.width.min(2 * middle.min(Self::WHOLE - middle));
                self.left = middle - self.width / 2;
            }
        }
    }

    fn set_vertical(&mut self, line: Option<&str>) {
        let Some(line) = line else { return };
        let (line, align) = line.split_once(',').unwrap_or((line, "start"));
        let (top, bottom) = match (hundredths(line), line.parse::<i32>()) {
            (Some(at), _) if align == "end" => (0, at),
            (Some(at), _) if align == "center" => {
                let half = at.min(Self::WHOLE - at);
                self.display_align = "center";
                self.top = at - half;
                self.height = 2 * half;
                return;
            }
            (Some(at), _) => (at, Self::WHOLE),
            (None, Ok(number)) => {
                // Lines count from the top, negative ones from the bottom, each within the margin there.
                let steps = u32::try_from(if number < 0 {
                    -1 - i64::from(number)
                } else {
                    i64::from(number)
                });
                let offset = steps.unwrap_or(u32::MAX).min(16).saturating_mul(Self::LINE) + Self::LINE;
                if number < 0 {
                    (0, Self::WHOLE - offset)
                } else {
                    (offset, Self::WHOLE)
                }
            }
            (None, Err(_)) => return,
        };
        self.display_align = if top == 0 && bottom < Self::WHOLE {
            "after"
        } else {
            "before"
        };
        (self.top, self.height) = (top, bottom - top);
    }
}

/// A percentage in hundredths of a percent, rounded down; `None` for anything else or more than the whole.
fn hundredths(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digit = |index: usize| match fraction.as_bytes().get(index) {
        None => Some(0),
        Some(digit) => digit.checked_sub(b'0').filter(|digit| *digit < 10).map(u32::from),
    };
    let value = whole
        .parse::<u32>()
        .ok()?
        .checked_mul(100)?
        .checked_add(digit(0)? * 10 + digit(1)?)?;
    if value <= Place::WHOLE { Some(value) } else { None }
}

fn percent(value: u32) -> String {
    match value % 100 {
        0 => format!("{}%", value / 100),
        rest => format!("{}.{rest:02}%", value / 100),
    }
}

/// What tags around a piece of cue text have set.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Look {
    italic: bool,
    bold: bool,
    underline: bool,
    color: Option<Color>,
    background: Option<Color>,
}

/// Tags open at once in one cue; those nested deeper change nothing.
const OPEN_TAG_COUNT_MAX: usize = 64;

fn write_paragraph(out: &mut String, cue: &Cue, region_index: usize) {
    out.push_str("<p begin=\"");
    timestamp::write(out, cue.start_ms);
    out.push_str("\" end=\"");
    timestamp::write(out, cue.end_ms);
    let _ = write!(out, "\" region=\"r{region_index}\">");
    let mut look = Look::default();
    // Names of the tags that are open, with the look outside each.
    let mut open: Vec<(&str, Look)> = Vec::new();
    let mut ignored_count = 0usize;
    for token in markup::tokens(&cue.payload) {
        match token {
            Token::Text(text) => write_text(out, &text, look),
            // Inner times only tell past from future text; without a style for that, all of it shows at once.
            Token::Timestamp(_) => {}
            Token::Start { .. } if open.len() >= OPEN_TAG_COUNT_MAX => {
                ignored_count = ignored_count.saturating_add(1);
            }
            Token::Start { name, classes, .. } => {
                open.push((name, look));
                match name {
                    "i" => look.italic = true,
                    "b" => look.bold = true,
                    "u" => look.underline = true,
                    "rt" => write_text(out, "(", look),
                    _ => {}
                }
                for class in classes {
                    match class.strip_prefix("bg_") {
                        Some(class) => look.background = Color::of_class(class).or(look.background),
                        None => look.color = Color::of_class(class).or(look.color),
                    }
                }
            }
            Token::End(_) if ignored_count > 0 => ignored_count = ignored_count.saturating_sub(1),
            Token::End(name) => {
                if let Some(index) = open.iter().rposition(|(open, _)| *open == name) {
                    if name == "rt" {
                        write_text(out, ")", look);
                    }
                    let outside = open.get(index).map(|(_, outside)| *outside).unwrap_or_default();
                    open.truncate(index);
                    look = outside;
                }
            }
        }
    }
    out.push_str("</p>\n");
}

fn write_text(out: &mut String, text: &str, look: Look) {
    if text.is_empty() {
        return;
    }
    let is_plain = look == Look::default();
    if !is_plain {
        out.push_str("<span");
        let fixed = [
            (look.italic, "tts:fontStyle", "italic"),
            (look.bold, "tts:fontWeight", "bold"),
            (look.underline, "tts:textDecoration", "underline"),
        ];
        for (_, name, value) in fixed.into_iter().filter(|(set, _, _)| *set) {
            write_attribute(out, name, value);
        }
        for (name, color) in [("tts:color", look.color), ("tts:backgroundColor", look.background)] {
            if let Some(color) = color {
                write_attribute(out, name, &color.hex());
            }
        }
        out.push('>');
    }
    for (line, index) in text.split('\n').zip(0usize..) {
        if index > 0 {
            out.push_str("<br/>");
        }
        escape_into(out, line);
    }
    if !is_plain {
        out.push_str("</span>");
    }
}

fn write_attribute(out: &mut String, name: &str, value: &str) {
    out.extend([" ", name, "=\""]);
    escape_into(out, value);
    out.push('"');
}

/// Appends characters as XML; those XML 1.0 cannot hold become U+FFFD.
fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\r' => out.push_str("&#13;"),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cue(start_ms: u64, end_ms: u64, settings: &str, payload: &str) -> Cue {
        Cue {
            start_ms,
            end_ms,
            id: String::new(),
            settings: settings.into(),
            payload: payload.into(),
        }
    }

    fn document(cues: &[Cue], start_ms: u64, end_ms: u64) -> String {
        let track = TextTrack::new(Vec::new(), cues.to_vec());
        String::from_utf8(sample(&track, start_ms, end_ms, "en").bytes.to_vec()).unwrap()
    }

    const TT: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<tt xmlns=\"http://www.w3.org/ns/ttml\" \
        xmlns:ttp=\"http://www.w3.org/ns/ttml#parameter\" xmlns:tts=\"http://www.w3.org/ns/ttml#styling\" \
        ttp:profile=\"http://www.w3.org/ns/ttml/profile/imsc1/text\" ttp:timeBase=\"media\" xml:space=\"preserve\" \
        xml:lang=\"en\">\n";

    #[test]
    fn a_document_has_the_cues_of_its_window_with_their_whole_times() {
        let cues = [cue(1_000, 5_000, "", "a\nb"), cue(6_000, 7_000, "", "c")];
        let expected = "<head>\n<layout>\n<region xml:id=\"r0\" tts:origin=\"10% 10%\" tts:extent=\"80% 80%\" \
            tts:displayAlign=\"after\" tts:textAlign=\"center\" tts:overflow=\"visible\"/>\n</layout>\n</head>\n<body>\n\
            <div>\n<p begin=\"00:00:01.000\" end=\"00:00:05.000\" region=\"r0\">a<br/>b</p>\n</div>\n</body>\n</tt>\n";
        assert_eq!(document(&cues, 4_000, 6_000), format!("{TT}{expected}"));
        assert_eq!(document(&cues, 5_000, 6_000), format!("{TT}<head/>\n<body/>\n</tt>\n"));
    }

    #[test]
    fn markup_becomes_spans() {
        let check = |payload: &str, expected: &str| {
            let document = document(&[cue(1_000, 5_000, "", payload)], 0, 6_000);
            let found = document
                .split_once("region=\"r0\">")
                .unwrap()
                .1
                .split_once("</p>")
                .unwrap()
                .0;
            assert_eq!(found, expected, "{payload}");
        };
        check("a &amp; &lt;b&gt; \"c\"", "a &amp; &lt;b&gt; &quot;c&quot;");
        check("<i>a</i>b", "<span tts:fontStyle=\"italic\">a</span>b");
        check(
            "<b>a<i>b</b>c",
            "<span tts:fontWeight=\"bold\">a</span><span tts:fontStyle=\"italic\" tts:fontWeight=\"bold\">b</span>c",
        );
        check(
            "<c.yellow.bg_blue>a</c>",
            "<span tts:color=\"#ffff00\" tts:backgroundColor=\"#0000ff\">a</span>",
        );
        check("<c.rgb_ff8800.other>a</c>", "<span tts:color=\"#ff8800\">a</span>");
        check(
            "<v Esme><u>a</u></v>",
            "<span tts:textDecoration=\"underline\">a</span>",
        );
        check("a<00:00:02.500>b", "ab");
        check("<ruby>x<rt>y</rt></ruby>", "x(y)");
        check("a\u{1}b\tc", "a\u{fffd}b&#9;c");
    }

    #[test]
    fn settings_become_regions_and_back() {
        let check = |settings: &str, place: &str, back: &str| {
            let cues = [cue(1_000, 5_000, settings, "a")];
            let document = document(&cues, 0, 6_000);
            assert!(document.contains(place), "{settings}: {document}");
            let track = TextTrack::new(Vec::new(), cues.to_vec());
            let read = parse(&[sample(&track, 0, 6_000, "")]).unwrap();
            assert_eq!(read.track.cues(), [cue(1_000, 5_000, back, "a")], "{settings}");
        };
        check(
            "",
            "origin=\"10% 10%\" tts:extent=\"80% 80%\" tts:displayAlign=\"after\" tts:textAlign=\"center\"",
            "",
        );
        check(
            "line:0",
            "origin=\"10% 5.33%\" tts:extent=\"80% 94.67%\" tts:displayAlign=\"before\"",
            "line:5.33%",
        );
        check(
            "line:-1",
            "origin=\"10% 0%\" tts:extent=\"80% 94.67%\" tts:displayAlign=\"after\"",
            "",
        );
        check(
            "line:40%,end",
            "origin=\"10% 0%\" tts:extent=\"80% 40%\" tts:displayAlign=\"after\"",
            "line:40%,end",
        );
        check(
            "line:75%,center",
            "origin=\"10% 50%\" tts:extent=\"80% 50%\" tts:displayAlign=\"center\"",
            "line:75%,center",
        );
        check(
            "line:20%",
            "origin=\"10% 20%\" tts:extent=\"80% 80%\" tts:displayAlign=\"before\"",
            "line:20%",
        );
        let left = "origin=\"20% 10%\" tts:extent=\"30.5% 80%\" tts:displayAlign=\"after\" tts:textAlign=\"start\"";
        check(
            "position:20% size:30.5% align:start",
            &left.replace("30.5", "30.50"),
            "line:90%,end position:20% size:30.5% align:start",
        );
        let right = "origin=\"0% 10%\" tts:extent=\"50% 80%\" tts:displayAlign=\"after\" tts:textAlign=\"end\"";
        check(
            "position:50% align:end",
            right,
            "line:90%,end position:50% size:50% align:end",
        );
        check(
            "position:30% align:center",
            "origin=\"0% 10%\" tts:extent=\"60% 80%\"",
            "line:90%,end position:30% size:60%",
        );
        check("vertical:rl", "tts:writingMode=\"tbrl\"", "vertical:rl");
        check(
            "line:x position:200% size:-1% align:odd",
            "origin=\"10% 10%\" tts:extent=\"80% 80%\"",
            "",
        );
        check("line:-99999999999 position:,", "origin=\"10% 10%\"", "");
        check("line:2147483647", "origin=\"10% 90.61%\"", "line:90.61%");
        check("line:-2147483648", "tts:extent=\"80% 9.39%\"", "line:9.39%,end");
    }

    #[test]
    fn cues_are_whole_whether_samples_repeat_or_cut_them() {
        let sample = |start_ms: u64, end_ms: u64, body: &str| TextSample {
            start_ms,
            duration_ms: end_ms - start_ms,
            bytes: format!("<tt xmlns='http://www.w3.org/ns/ttml'><body><div>{body}</div></body></tt>").into(),
        };
        let check = |samples: &[TextSample], expected: &[(u64, u64, &str)], dropped_count: usize| {
            let parsed = parse(samples).unwrap();
            let cues = parsed.track.cues().iter();
            assert_eq!(
                cues.map(|c| (c.start_ms, c.end_ms, c.payload.as_str()))
                    .collect::<Vec<_>>(),
                expected
            );
            assert_eq!(parsed.dropped_count, dropped_count);
        };
        let whole = "<p begin='1s' end='5s'>a</p>";
        check(
            &[
                sample(0, 2_000, whole),
                sample(2_000, 4_000, whole),
                sample(4_000, 6_000, whole),
            ],
            &[(1_000, 5_000, "a")],
            0,
        );
        let cut = [
            sample(0, 2_000, "<p begin='1s' end='2s'>a</p>"),
            sample(2_000, 4_000, "<p begin='2s' end='4s'>a</p>"),
            sample(4_000, 6_000, "<p begin='4s' end='5s'>a</p>"),
        ];
        check(&cut, &[(1_000, 5_000, "a")], 0);
        check(
            &[cut[0].clone(), cut[2].clone()],
            &[(1_000, 2_000, "a"), (4_000, 5_000, "a")],
            0,
        );
        // Content without times shows as long as its sample.
        check(
            &[sample(0, 2_000, "<p>a</p>"), sample(2_000, 4_000, "<p>a</p>")],
            &[(0, 4_000, "a")],
            0,
        );
        check(&[sample(0, 2_000, "<p begin='500ms'>a</p>")], &[(500, 2_000, "a")], 0);
        let twice = "<p begin='0s' end='2s'>a</p><p begin='0s' end='2s'>a</p>";
        check(
            &[sample(0, 1_000, twice), sample(1_000, 2_000, twice)],
            &[(0, 2_000, "a"), (0, 2_000, "a")],
            0,
        );
        check(&[sample(10_000, 12_000, whole)], &[], 1);
        check(
            &[TextSample {
                start_ms: 0,
                duration_ms: 1_000,
                bytes: Bytes::new(),
            }],
            &[],
            0,
        );
    }

    #[test]
    fn the_sample_entry_names_the_namespace() {
        let expected = b"\0\0\0\x2cstpp\0\0\0\0\0\0\0\x01http://www.w3.org/ns/ttml\0\0\0";
        assert_eq!(sample_entry(), &expected[..]);
    }
}
