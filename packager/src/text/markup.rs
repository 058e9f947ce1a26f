//! Markup: WebVTT cue text as tokens, its escapes, and the classes that stand for colours.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{HeaderBlock, timestamp};

/// Piece of a cue's text (WebVTT 6.4, "WebVTT cue text tokenizer").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Characters, escapes resolved.
    Text(String),
    /// `<name.class annotation>`.
    Start {
        name: &'a str,
        classes: Vec<&'a str>,
        annotation: String,
    },
    /// `</name>`.
    End(&'a str),
    /// `<00:00:00.000>`: what follows shows from this time on.
    Timestamp(u64),
}

/// Tokens of a cue's payload, in order; never fails, as a browser never does.
pub(super) fn tokens(payload: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (token, after) = match rest.strip_prefix('<') {
            Some(tag) => {
                // A tag that is never closed extends to the end.
                let (tag, after) = tag.split_once('>').unwrap_or((tag, ""));
                (tag_token(tag), after)
            }
            None => {
                let length = rest.find('<').unwrap_or(rest.len());
                let (text, after) = rest.split_at_checked(length)?;
                (Token::Text(unescaped(text)), after)
            }
        };
        rest = after;
        Some(token)
    })
}

/// Whether parts of the payload appear at times of their own.
pub(super) fn has_timestamps(payload: &str) -> bool {
    payload.contains('<') && tokens(payload).any(|token| matches!(token, Token::Timestamp(_)))
}

fn tag_token(tag: &str) -> Token<'_> {
    if let Some(name) = tag.strip_prefix('/') {
        return Token::End(name.trim());
    }
    if tag.starts_with(|c: char| c.is_ascii_digit())
        && let Some((time_ms, _)) = timestamp::read(tag)
    {
        return Token::Timestamp(time_ms);
    }
    let (dotted, annotation) = tag.split_once([' ', '\t', '\n']).unwrap_or((tag, ""));
    let mut parts = dotted.split('.');
    let name = parts.next().unwrap_or_default();
    Token::Start {
        name,
        classes: parts.filter(|class| !class.is_empty()).collect(),
        annotation: unescaped(annotation.trim()),
    }
}

/// Resolves the escapes WebVTT defines and numeric ones; anything else stays as it is.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        match escape(after) {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The character an escape stands for (`text` begins after its `&`), and what follows it.
pub(super) fn escape(text: &str) -> Option<(char, &str)> {
    // The longest name that matters has four characters, numbers at most nine.
    let length = text.bytes().take(10).position(|byte| byte == b';')?;
    let (name, after) = text.split_at_checked(length)?;
    let after = after.strip_prefix(';')?;
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        "lrm" => '\u{200e}',
        "rlm" => '\u{200f}',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code).filter(|&c| c != '\0')?
        }
    };
    Some((c, after))
}

/// Appends characters so that they are read as themselves in cue text.
pub(super) fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
}

/// An sRGB colour; how opaque it is says nothing a WebVTT class can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Color(pub [u8; 3]);

/// The classes WebVTT gives a colour by default (WebVTT 5.1, "default CSS classes").
const NAMED: [(&str, Color); 8] = [
    ("white", Color([255, 255, 255])),
    ("lime", Color([0, 255, 0])),
    ("cyan", Color([0, 255, 255])),
    ("red", Color([255, 0, 0])),
    ("yellow", Color([255, 255, 0])),
    ("magenta", Color([255, 0, 255])),
    ("blue", Color([0, 0, 255])),
    ("black", Color([0, 0, 0])),
];

impl Color {
    pub(super) const WHITE: Self = Self([255, 255, 255]);
    pub(super) const BLACK: Self = Self([0, 0, 0]);

    /// `#rgb`, `#rrggbb`, `#rrggbbaa`, `rgb(r,g,b)`, `rgba(r,g,b,a)` or a name of TTML or HTML's sixteen; `None` for what
    /// cannot be read and what is fully transparent.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if let Some(hex) = text.strip_prefix('#') {
            let value = u32::from_str_radix(hex, 16).ok()?;
            let [r, g, b, a] = match hex.len() {
                3 => {
                    let [high, low] = [(value >> 8) & 0xf, value & 0xff];
                    ((((high << 24) | ((low >> 4) << 16) | ((low & 0xf) << 8)) * 0x11) | 0xff).to_be_bytes()
                }
                6 => ((value << 8) | 0xff).to_be_bytes(),
                8 => value.to_be_bytes(),
                _ => return None,
            };
            return if a == 0 { None } else { Some(Self([r, g, b])) };
        }
        if let Some(list) = text
            .strip_prefix("rgb")
            .and_then(|rest| rest.trim_start_matches('a').strip_prefix('('))
        {
            let mut parts = list
                .trim_end_matches(')')
                .split(',')
                .map(|part| part.trim().parse::<u8>().ok());
            let mut part = || parts.next().flatten();
            let color = Self([part()?, part()?, part()?]);
            return if part() == Some(0) { None } else { Some(color) };
        }
        let named = |name: &str| NAMED.iter().find(|(n, _)| *n == name).map(|&(_, color)| color);
        match text.as_str() {
            "aqua" => named("cyan"),
            "fuchsia" => named("magenta"),
            "green" => Some(Self([0, 128, 0])),
            "gray" | "grey" => Some(Self([128, 128, 128])),
            "silver" => Some(Self([192, 192, 192])),
            "maroon" => Some(Self([128, 0, 0])),
            "navy" => Some(Self([0, 0, 128])),
            "olive" => Some(Self([128, 128, 0])),
            "purple" => Some(Self([128, 0, 128])),
            "teal" => Some(Self([0, 128, 128])),
            "orange" => Some(Self([255, 165, 0])),
            name => named(name),
        }
    }

    /// The colour of a class, `bg_` already removed.
    pub(super) fn of_class(class: &str) -> Option<Self> {
        match class.strip_prefix("rgb_") {
            Some(hex) if hex.len() == 6 => {
                let [_, r, g, b] = u32::from_str_radix(hex, 16).ok()?.to_be_bytes();
                Some(Self([r, g, b]))
            }
            _ => NAMED.iter().find(|(name, _)| *name == class).map(|&(_, color)| color),
        }
    }

    /// `#rrggbb`.
    pub(super) fn hex(self) -> String {
        let [r, g, b] = self.0;
        format!("#{r:02x}{g:02x}{b:02x}")
    }
}

/// Whether a colour is that of letters or what lies behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ink {
    Text,
    Background,
}

/// Classes a track needs beyond WebVTT's own, with the STYLE block that gives them their colour.
#[derive(Debug, Default)]
pub(super) struct Palette {
    classes: BTreeMap<(Ink, Color), ()>,
}

impl Palette {
    /// More colours than this in one track are no longer told apart.
    const COLOR_COUNT_MAX: usize = 64;

    /// The class for a colour; `None` when the track has too many.
    pub(super) fn class(&mut self, ink: Ink, color: Color) -> Option<String> {
        let prefix = match ink {
            Ink::Text => "",
            Ink::Background => "bg_",
        };
        if let Some((name, _)) = NAMED.iter().find(|(_, named)| *named == color) {
            return Some(format!("{prefix}{name}"));
        }
        if !self.classes.contains_key(&(ink, color)) {
            if self.classes.len() >= Self::COLOR_COUNT_MAX {
                return None;
            }
            self.classes.insert((ink, color), ());
        }
        let hex = color.hex();
        Some(format!("{prefix}rgb_{}", hex.trim_start_matches('#')))
    }

    /// The STYLE block, when a colour needs one.
    pub(super) fn into_header(self) -> Vec<HeaderBlock> {
        let mut css = String::new();
        for (ink, color) in self.classes.into_keys() {
            let hex = color.hex();
            let digits = hex.trim_start_matches('#');
            let _ = match ink {
                Ink::Text => writeln!(css, "::cue(.rgb_{digits}) {{ color: {hex}; }}"),
                Ink::Background => writeln!(css, "::cue(.bg_rgb_{digits}) {{ background-color: {hex}; }}"),
            };
        }
        if css.is_empty() {
            Vec::new()
        } else {
            vec![HeaderBlock::Style(css)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cue_text_is_tokenized() {
        let text = |text: &str| Token::Text(text.to_owned());
        let start = |name, classes: &[&'static str], annotation: &str| Token::Start {
            name,
            classes: classes.to_vec(),
            annotation: annotation.to_owned(),
        };
        let check = |payload: &'static str, expected: &[Token<'static>]| {
            assert_eq!(tokens(payload).collect::<Vec<_>>(), expected, "{payload}");
        };
        check("", &[]);
        check(
            "a &amp; b &lt;i&gt; &nbsp;&lrm;&#233;&#xE9;",
            &[text("a & b <i> \u{a0}\u{200e}éé")],
        );
        check("a & b &unknown; &#0; &;", &[text("a & b &unknown; &#0; &;")]);
        check("<i>x</i>", &[start("i", &[], ""), text("x"), Token::End("i")]);
        check(
            "<v.first.loud Esme &amp; Jo>x",
            &[start("v", &["first", "loud"], "Esme & Jo"), text("x")],
        );
        check("a<00:00:01.500>b", &[text("a"), Token::Timestamp(1_500), text("b")]);
        check("a<b", &[text("a"), start("b", &[], "")]);
        check("<>", &[start("", &[], "")]);
        check("é<c.é>", &[text("é"), start("c", &["é"], "")]);
    }

    #[test]
    fn colors_are_read() {
        let check =
            |text: &str, expected: Option<[u8; 3]>| assert_eq!(Color::parse(text), expected.map(Color), "{text}");
        check("#ff8000", Some([255, 128, 0]));
        check("#FF8000c2", Some([255, 128, 0]));
        check("#ff800000", None);
        check("#f80", Some([255, 136, 0]));
        check("#f8001", None);
        check("#é0000", None);
        check("rgb(1, 2,3)", Some([1, 2, 3]));
        check("rgba(1,2,3,100)", Some([1, 2, 3]));
        check("rgba(1,2,3,0)", None);
        check("rgb(256,0,0)", None);
        check("Cyan", Some([0, 255, 255]));
        check("transparent", None);
        check("", None);
    }

    #[test]
    fn only_colors_without_a_class_need_a_style() {
        let mut palette = Palette::default();
        assert_eq!(palette.class(Ink::Text, Color::WHITE).as_deref(), Some("white"));
        assert_eq!(
            palette.class(Ink::Background, Color([0, 0, 0])).as_deref(),
            Some("bg_black")
        );
        assert_eq!(
            palette.class(Ink::Text, Color([1, 2, 255])).as_deref(),
            Some("rgb_0102ff")
        );
        assert_eq!(Color::of_class("rgb_0102ff"), Some(Color([1, 2, 255])));
        assert_eq!(
            palette.into_header(),
            [HeaderBlock::Style("::cue(.rgb_0102ff) { color: #0102ff; }\n".into())]
        );
        assert_eq!(Palette::default().into_header(), []);
    }
}
