//! SubRip: SRT files in.
//!
//! There is no standard; this reads what players read. Cue numbers are optional and not kept.

use super::lines::Lines;
use super::markup::{self, Color, Ink, Palette};
use super::timestamp::digits;
use super::{Cue, DropReason, HeaderBlock, Parsed, TextError, TextTrack, check_size, encoding, push_cue, times_fault};

/// Tags open at once in one cue; more are stripped. Each may have to be closed and opened again for another.
const OPEN_TAG_COUNT_MAX: usize = 8;

/// Longest tag or override block; beyond, its first bracket is text.
const TAG_SIZE_BYTES_MAX: usize = 512;

/// Reads an SRT file. UTF-8, UTF-16 with a byte order mark, or else Windows-1252, which [`Parsed::encoding`] tells.
///
/// # Errors
/// [`TextError::NoCueTimes`] when no line has times, so that a file of another kind is not taken for an empty track.
pub fn parse(bytes: &[u8]) -> Result<Parsed, TextError> {
    check_size(bytes)?;
    let (text, encoding) = encoding::unicode_or_windows_1252(bytes)?;
    let mut parsed = Parsed {
        encoding,
        ..Parsed::default()
    };
    let mut palette = Palette::default();
    let mut cues = Vec::new();
    let mut lines = Lines::new(&text);
    let mut pending = Pending::default();
    let mut seen_times = false;
    while let Some(line) = lines.next_line() {
        match parse_times(line) {
            Times::None => pending.lines.push(line),
            Times::Bad => {
                pending.take_number();
                finish_cue(&mut pending, &mut cues, &mut palette, &mut parsed)?;
                parsed.drop_at(lines.number(), DropReason::BadTimes);
                pending.begin(lines.number(), Begun::BadTimes);
            }
            Times::Good(start_ms, end_ms) => {
                seen_times = true;
                pending.take_number();
                finish_cue(&mut pending, &mut cues, &mut palette, &mut parsed)?;
                let begun = match times_fault(start_ms, end_ms) {
                    Some(reason) => {
                        parsed.drop_at(lines.number(), reason);
                        Begun::BadTimes
                    }
                    None => Begun::Cue(start_ms, end_ms),
                };
                pending.begin(lines.number(), begun);
            }
        }
    }
    if !seen_times {
        return Err(TextError::NoCueTimes {
            line_count: lines.number(),
        });
    }
    // A number at the very end announces a cue that was cut off.
    if pending.ends_with_number() {
        pending.lines.pop();
    }
    finish_cue(&mut pending, &mut cues, &mut palette, &mut parsed)?;
    parsed.track = TextTrack::new(palette.into_header(), cues);
    Ok(parsed)
}

/// Makes WebVTT cue text of SubRip text whose times stand elsewhere, such as in Matroska blocks.
#[derive(Default)]
pub(crate) struct CueTexts {
    palette: Palette,
}

impl CueTexts {
    /// Settings and payload of the text of one cue; the payload is empty when there is nothing to show.
    pub(crate) fn convert(&mut self, text: &str) -> (&'static str, String) {
        let mut lines = Lines::new(text);
        let lines: Vec<&str> = std::iter::from_fn(|| lines.next_line()).collect();
        cue_text(&lines, &mut self.palette)
    }

    /// The blocks that what was converted refers to.
    pub(crate) fn into_header(self) -> Vec<HeaderBlock> {
        self.palette.into_header()
    }
}

/// What the lines since the last times belong to.
#[derive(Default, Clone, Copy, PartialEq)]
enum Begun {
    /// Nothing: they stand before the first cue.
    #[default]
    Nothing,
    /// A cue that was dropped.
    BadTimes,
    Cue(u64, u64),
}

/// Lines since the last times.
#[derive(Default)]
struct Pending<'a> {
    begun: Begun,
    /// Of the times, from 1.
    line_number: u64,
    lines: Vec<&'a str>,
    /// Number of the last cue that had one.
    cue_number: Option<u64>,
}

impl Pending<'_> {
    fn begin(&mut self, line_number: u64, begun: Begun) {
        self.begun = begun;
        self.line_number = line_number;
        self.lines.clear();
    }

    /// Removes the line before the next cue's times if it is that cue's number.
    fn take_number(&mut self) {
        if self.ends_with_number() {
            self.cue_number = self.lines.pop().and_then(number);
        }
    }

    /// Whether the last line is the number of a cue: digits after an empty line, or the very number that is next.
    fn ends_with_number(&self) -> bool {
        let mut last = self.lines.iter().rev();
        let Some(found) = last.next().copied().and_then(number) else {
            return false;
        };
        match last.next() {
            None => self.begun == Begun::Nothing,
            Some(line) if line.trim().is_empty() => true,
            Some(_) => self.cue_number.and_then(|cue_number| cue_number.checked_add(1)) == Some(found),
        }
    }
}

fn number(line: &str) -> Option<u64> {
    let line = line.trim();
    if line.bytes().all(|byte| byte.is_ascii_digit()) {
        line.parse().ok()
    } else {
        None
    }
}

fn finish_cue(
    pending: &mut Pending<'_>,
    cues: &mut Vec<Cue>,
    palette: &mut Palette,
    parsed: &mut Parsed,
) -> Result<(), TextError> {
    let line_number = pending.line_number;
    match pending.begun {
        Begun::BadTimes => Ok(()),
        Begun::Nothing => {
            if pending.lines.iter().any(|line| !line.trim().is_empty()) {
                parsed.drop_at(line_number.saturating_add(1), DropReason::StrayText);
            }
            Ok(())
        }
        Begun::Cue(start_ms, end_ms) => {
            let (settings, payload) = cue_text(&pending.lines, palette);
            if payload.is_empty() {
                parsed.drop_at(line_number, DropReason::NoText);
                return Ok(());
            }
            push_cue(
                cues,
                Cue {
                    start_ms,
                    end_ms,
                    id: String::new(),
                    settings: settings.to_owned(),
                    payload,
                },
            )
        }
    }
}

enum Times {
    /// Not a line of times.
    None,
    /// A line of times that cannot be read.
    Bad,
    Good(u64, u64),
}

/// `00:00:01,000 --> 00:00:02,000`, with whatever follows (SubRip's coordinates) ignored.
fn parse_times(line: &str) -> Times {
    let Some((start, end)) = line.split_once("-->") else {
        return Times::None;
    };
    let start = start.trim();
    match (parse_time(start), parse_time(end.trim_start())) {
        (Some((start_ms, "")), Some((end_ms, _))) => Times::Good(start_ms, end_ms),
        // An arrow in dialogue is text; after what looks like a number it is a broken time.
        _ if start.starts_with(|c: char| c.is_ascii_digit() || c == '-') => Times::Bad,
        _ => Times::None,
    }
}

/// `[HH:]MM:SS[,mmm]`, the comma or a point; one or two digits after it count milliseconds, as players have it.
fn parse_time(text: &str) -> Option<(u64, &str)> {
    let (first, rest) = digits(text)?;
    let (second, rest) = digits(rest.strip_prefix(':')?)?;
    let (hours, minutes, seconds, rest) = match rest.strip_prefix(':') {
        Some(rest) => {
            let (third, rest) = digits(rest)?;
            (first, second, third, rest)
        }
        None => ("0", first, second, rest),
    };
    let (millis, rest) = match rest.strip_prefix([',', '.']) {
        Some(rest) => digits(rest)?,
        None => ("0", rest),
    };
    let millis = millis.get(..3).unwrap_or(millis);
    let unit = |digits: &str, unit_ms: u64| digits.parse::<u64>().ok()?.checked_mul(unit_ms);
    let time_ms = unit(hours, 3_600_000)?
        .checked_add(unit(minutes, 60_000)?)?
        .checked_add(unit(seconds, 1_000)?)?
        .checked_add(unit(millis, 1)?)?;
    Some((time_ms, rest))
}

/// A tag SubRip players know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tag {
    Italic,
    Bold,
    Underline,
    Font,
}

/// A tag that is open: how it is written, or `None` when it leaves no trace.
struct OpenTag {
    tag: Tag,
    start: Option<String>,
}

/// WebVTT cue text in the making, its tags always properly nested.
#[derive(Default)]
struct CueText {
    out: String,
    open: Vec<OpenTag>,
    settings: &'static str,
}

impl CueText {
    fn open_tag(&mut self, tag: Tag, start: Option<String>) {
        if self.open.len() < OPEN_TAG_COUNT_MAX {
            self.out.push_str(start.as_deref().unwrap_or_default());
            self.open.push(OpenTag { tag, start });
        }
    }

    /// Closes the innermost such tag; those opened inside it are closed and opened again, as WebVTT needs nesting.
    fn close_tag(&mut self, tag: Tag) {
        let Some(index) = self.open.iter().rposition(|open| open.tag == tag) else {
            return;
        };
        let inner = self.open.split_off(index);
        for open in inner.iter().rev() {
            self.write_end(open);
        }
        for open in inner.into_iter().skip(1) {
            self.open_tag(open.tag, open.start);
        }
    }

    fn write_end(&mut self, open: &OpenTag) {
        let end = match (&open.start, open.tag) {
            (None, _) => "",
            (Some(_), Tag::Italic) => "</i>",
            (Some(_), Tag::Bold) => "</b>",
            (Some(_), Tag::Underline) => "</u>",
            (Some(_), Tag::Font) => "</c>",
        };
        self.out.push_str(end);
    }

    /// Characters as they are, except that what is already an escape of WebVTT stays one.
    fn push_text(&mut self, text: &str) {
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('&') {
            markup::escape_into(&mut self.out, before);
            match markup::escape(after) {
                Some((_, unescaped)) => {
                    let length = after.len() - unescaped.len();
                    self.out.push('&');
                    self.out.push_str(after.get(..length).unwrap_or_default());
                    rest = unescaped;
                }
                None => {
                    self.out.push_str("&amp;");
                    rest = after;
                }
            }
        }
        markup::escape_into(&mut self.out, rest);
    }

    /// `{\an8}` and what else Advanced SubStation leaves in SRT files: position and basic styles are kept.
    fn override_codes(&mut self, codes: &str) {
        for code in codes.split('\\') {
            match code.trim() {
                "i1" => self.open_tag(Tag::Italic, Some("<i>".into())),
                "b1" => self.open_tag(Tag::Bold, Some("<b>".into())),
                "u1" => self.open_tag(Tag::Underline, Some("<u>".into())),
                "i0" => self.close_tag(Tag::Italic),
                "b0" => self.close_tag(Tag::Bold),
                "u0" => self.close_tag(Tag::Underline),
                "an1" => self.settings = "align:start position:5%",
                "an3" => self.settings = "align:end position:95%",
                "an4" => self.settings = "line:50% align:start position:5%",
                "an5" => self.settings = "line:50%",
                "an6" => self.settings = "line:50% align:end position:95%",
                "an7" => self.settings = "line:0 align:start position:5%",
                "an8" => self.settings = "line:0",
                "an9" => self.settings = "line:0 align:end position:95%",
                _ => {}
            }
        }
    }

    /// Whether `tag` (without its brackets) is one that players act on or ignore; anything else is text.
    fn html_tag(&mut self, tag: &str, palette: &mut Palette) -> bool {
        let (closing, tag) = match tag.strip_prefix('/') {
            Some(tag) => (true, tag),
            None => (false, tag),
        };
        let tag = tag.trim_end_matches('/').trim();
        let (name, attributes) = tag.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((tag, ""));
        let (tag, start) = match name.to_ascii_lowercase().as_str() {
            "i" | "em" => (Tag::Italic, Some("<i>".to_owned())),
            "b" | "strong" => (Tag::Bold, Some("<b>".to_owned())),
            "u" => (Tag::Underline, Some("<u>".to_owned())),
            "font" => (
                Tag::Font,
                font_class(attributes, palette).map(|class| format!("<c.{class}>")),
            ),
            "br" => {
                self.out.push('\n');
                return true;
            }
            "s" | "strike" | "span" | "p" | "div" | "small" | "big" => return true,
            _ => return false,
        };
        if closing {
            self.close_tag(tag)
        } else {
            self.open_tag(tag, start)
        }
        true
    }
}

/// Settings and payload of a cue; empty lines are left out, as WebVTT has none.
fn cue_text(lines: &[&str], palette: &mut Palette) -> (&'static str, String) {
    let mut text = CueText::default();
    let mut shown = false;
    for line in lines.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty()) {
        if !text.out.is_empty() {
            text.out.push('\n');
        }
        let mut rest = line;
        while let Some(at) = rest.find(['<', '{']) {
            let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
            shown |= !before.trim().is_empty();
            text.push_text(before);
            rest = match from.strip_prefix("{\\").and_then(|from| split_tag(from, '{', '}')) {
                Some((codes, after)) => {
                    text.override_codes(codes);
                    after
                }
                None => match from.strip_prefix('<').and_then(|from| split_tag(from, '<', '>')) {
                    Some((tag, after)) if text.html_tag(tag, palette) => after,
                    _ => {
                        let (bracket, after) = from.split_at_checked(1).unwrap_or((from, ""));
                        shown = true;
                        text.push_text(bracket);
                        after
                    }
                },
            };
        }
        shown |= !rest.trim().is_empty();
        text.push_text(rest);
    }
    for open in std::mem::take(&mut text.open).iter().rev() {
        text.write_end(open);
    }
    if shown {
        (text.settings, text.out)
    } else {
        ("", String::new())
    }
}

/// A tag's content and what follows its closing bracket; a tag that another begins in is none.
fn split_tag(text: &str, open: char, close: char) -> Option<(&str, &str)> {
    let length = text.find([open, close]).filter(|length| *length < TAG_SIZE_BYTES_MAX)?;
    let (tag, from) = text.split_at_checked(length)?;
    Some((tag, from.strip_prefix(close)?))
}

/// The class of `color="…"`; white is what cues are without one.
fn font_class(attributes: &str, palette: &mut Palette) -> Option<String> {
    let at = attributes.to_ascii_lowercase().find("color")?;
    let value = attributes.get(at..)?.split_once('=')?.1.trim_start();
    let value = match value.strip_prefix(['"', '\'']) {
        Some(quoted) => quoted.split(['"', '\'']).next()?,
        None => value.split_ascii_whitespace().next()?,
    };
    let color = Color::parse(value).or_else(|| Color::parse(&format!("#{value}")))?;
    if color == Color::WHITE {
        None
    } else {
        palette.class(Ink::Text, color)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Cues as (start, end, settings, payload).
    fn cues(text: &str) -> Vec<(u64, u64, String, String)> {
        let parsed = parse(text.as_bytes()).unwrap();
        parsed
            .track
            .cues()
            .iter()
            .map(|c| (c.start_ms, c.end_ms, c.settings.clone(), c.payload.clone()))
            .collect()
    }

    fn check_times(text: &str, expected: &[(u64, u64, &str)]) {
        let found = cues(text);
        let found: Vec<_> = found
            .iter()
            .map(|(start, end, _, payload)| (*start, *end, payload.as_str()))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn times_and_numbers_are_read() {
        check_times("1\n00:00:01,000 --> 00:00:02,500\nx\n\n", &[(1_000, 2_500, "x")]);
        check_times(
            "\r\n\r\n1\r\n00:00:01.000 --> 00:00:02.500\r\nx\r\ny\r\n",
            &[(1_000, 2_500, "x\ny")],
        );
        check_times("00:01,000-->00:02,5 X1:1 X2:2\nx", &[(1_000, 2_005, "x")]);
        check_times("100:00:01 --> 100:00:02,1234\nx", &[(360_001_000, 360_002_123, "x")]);
    }

    #[test]
    fn numbers_are_told_from_text() {
        let a = "00:00:01,000 --> 00:00:02,000\n";
        let b = "00:00:03,000 --> 00:00:04,000\n";
        let check = |text: String, first: &str| check_times(&text, &[(1_000, 2_000, first), (3_000, 4_000, "b")]);
        check(format!("1\n{a}a\n\n2\n{b}b"), "a");
        check(format!("1\n{a}a\n2\n{b}b"), "a");
        check(format!("1\n{a}42\n\n2\n{b}b"), "42");
        check(format!("{a}42\n\n{b}b"), "42");
        check(format!("{a}42\n{b}b"), "42");
        check(format!("1\n{a}a\n\nmore\n\n2\n{b}b\n\n3\n"), "a\nmore");
        check(format!("1\n{a}a --> b\n\n2\n{b}b"), "a --&gt; b");
    }

    #[test]
    fn markup_becomes_webvtt() {
        let check = |line: &str, settings: &str, payload: &str| {
            let found = cues(&format!("1\n00:00:01,000 --> 00:00:02,000\n{line}\n"));
            assert_eq!(
                found,
                [(1_000, 2_000, settings.to_owned(), payload.to_owned())],
                "{line}"
            );
        };
        check(
            "<i>a</i> <B>b</B> <u>c</u> <s>d</s>",
            "",
            "<i>a</i> <b>b</b> <u>c</u> d",
        );
        check("<b><i>a</b>b</i>", "", "<b><i>a</i></b><i>b</i>");
        check("<i>a", "", "<i>a</i>");
        check("a</i>", "", "a");
        check("<font color=\"cyan\">a</font>", "", "<c.cyan>a</c>");
        check("<font face='x' color=#FF8800>a</font>", "", "<c.rgb_ff8800>a</c>");
        check("<font color=ffff00>a</font>", "", "<c.yellow>a</c>");
        check("<font color=white size=3>a</font>", "", "a");
        check(
            "<3 & <laughs> > &amp; &lt; &x; é<",
            "",
            "&lt;3 &amp; &lt;laughs&gt; &gt; &amp; &lt; &amp;x; é&lt;",
        );
        check("{\\an8}a", "line:0", "a");
        check(
            "{\\an1\\i1\\fad(1,2)}a{\\i0}b{c}",
            "align:start position:5%",
            "<i>a</i>b{c}",
        );
        check("a<br>b<br/>c", "", "a\nb\nc");
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let check = |text: &str, cue_count: usize, expected: &[(u64, DropReason)]| {
            let parsed = parse(text.as_bytes()).unwrap();
            assert_eq!(parsed.track.cues().len(), cue_count, "{text}");
            let found: Vec<_> = parsed
                .dropped
                .iter()
                .map(|dropped| (dropped.line, dropped.reason))
                .collect();
            assert_eq!(found, expected, "{text}");
        };
        let good = "00:00:01,000 --> 00:00:02,000\nx\n\n";
        check(&format!("hello\n\n1\n{good}"), 1, &[(1, DropReason::StrayText)]);
        check(
            &format!("{good}00:00:0x,000 --> 00:00:02,000\ny\n\n{good}"),
            2,
            &[(4, DropReason::BadTimes)],
        );
        check(
            &format!("{good}-1:00:00,000 --> 00:00:02,000\ny\n"),
            1,
            &[(4, DropReason::BadTimes)],
        );
        check(
            &format!("{good}00:00:02,000 --> 00:00:02,000\ny\n"),
            1,
            &[(4, DropReason::EndsBeforeStart)],
        );
        check(
            &format!("{good}00:00:02,000 --> 00:00:03,000\n\n"),
            1,
            &[(4, DropReason::NoText)],
        );
        check(
            &format!("{good}00:00:02,000 --> 00:00:03,000\n<i> </i>\n"),
            1,
            &[(4, DropReason::NoText)],
        );
        check(
            &format!("{good}00:00:02,000 --> 99999999999:00:00,000\ny\n"),
            1,
            &[(4, DropReason::TimeOutOfRange)],
        );
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let check =
            |text: &str, line_count: u64| assert_eq!(parse(text.as_bytes()), Err(TextError::NoCueTimes { line_count }));
        check("", 1);
        check("just\ntext\n", 2);
        check("a --> b", 1);
        check("0:0 --> x", 1);
    }

    #[test]
    fn a_guessed_encoding_is_told() {
        let parsed = parse(b"1\n00:00:01,000 --> 00:00:02,000\n\xE9\n").unwrap();
        assert_eq!(parsed.encoding, super::super::Encoding::Windows1252Guessed);
        assert_eq!(parsed.track.cues().first().unwrap().payload, "é");
    }
}
