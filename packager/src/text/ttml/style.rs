//! Style properties of TTML that have a counterpart in WebVTT (TTML2 10.2), and what becomes of regions.

use std::collections::BTreeMap;

use super::super::markup::Color;
use super::attributes::Attributes;

/// Longest chain of styles that refer to one another.
const REFERENCE_DEPTH_MAX: usize = 32;

/// `tts:textAlign`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextAlign {
    Start,
    Left,
    Center,
    Right,
    End,
}

impl TextAlign {
    fn setting(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Left => "left",
            Self::Center => "center",
            Self::Right => "right",
            Self::End => "end",
        }
    }
}

/// `tts:displayAlign`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DisplayAlign {
    Before,
    Center,
    After,
}

/// `tts:ruby`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruby {
    Container,
    Base,
    BaseContainer,
    Text,
    TextContainer,
    Delimiter,
}

/// A horizontal and a vertical length in hundredths of a percent of the root container.
type Pair = (u32, u32);

/// The whole of a length.
const WHOLE: u32 = 10_000;

/// Specified properties; `None` where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Style {
    pub italic: Option<bool>,
    pub bold: Option<bool>,
    pub underline: Option<bool>,
    /// `Some(None)` is transparent.
    pub color: Option<Option<Color>>,
    pub background: Option<Option<Color>>,
    pub text_align: Option<TextAlign>,
    /// `tts:visibility`.
    pub visible: Option<bool>,
    /// `tts:display` other than `none`.
    pub displayed: Option<bool>,
    pub ruby: Option<Ruby>,
    pub origin: Option<Pair>,
    pub extent: Option<Pair>,
    pub display_align: Option<DisplayAlign>,
    /// `vertical` setting for `tts:writingMode`; `Some(None)` is horizontal.
    pub vertical: Option<Option<&'static str>>,
}

impl Style {
    /// What `over` says, and where it is silent, what `self` says.
    pub(super) fn overlaid(self, over: Self) -> Self {
        Self {
            italic: over.italic.or(self.italic),
            bold: over.bold.or(self.bold),
            underline: over.underline.or(self.underline),
            color: over.color.or(self.color),
            background: over.background.or(self.background),
            text_align: over.text_align.or(self.text_align),
            visible: over.visible.or(self.visible),
            displayed: over.displayed.or(self.displayed),
            ruby: over.ruby.or(self.ruby),
            origin: over.origin.or(self.origin),
            extent: over.extent.or(self.extent),
            display_align: over.display_align.or(self.display_align),
            vertical: over.vertical.or(self.vertical),
        }
    }

    /// What a child takes over from its parent.
    pub(super) fn inherited(self) -> Self {
        Self {
            background: None,
            displayed: None,
            ruby: None,
            origin: None,
            extent: None,
            display_align: None,
            vertical: None,
            ..self
        }
    }

    /// Reads the style attributes of an element. Their namespace is not looked at: it changed with every edition.
    pub(super) fn new(attributes: &Attributes<'_>, units: &Units) -> Self {
        let mut style = Self::default();
        for (name, value) in attributes.styling() {
            let value = value.trim();
            match name {
                "fontStyle" => style.italic = Some(matches!(value, "italic" | "oblique")),
                "fontWeight" => style.bold = Some(value == "bold"),
                "textDecoration" => {
                    style.underline = decoration(value).or(style.underline);
                }
                "color" => style.color = Some(Color::parse(value)),
                "backgroundColor" => style.background = Some(Color::parse(value)),
                "textAlign" => style.text_align = text_align(value).or(style.text_align),
                "visibility" => style.visible = Some(value != "hidden"),
                "display" => style.displayed = Some(value != "none"),
                "ruby" => style.ruby = ruby(value).or(style.ruby),
                "origin" => style.origin = units.pair(value).or(style.origin),
                "extent" => style.extent = units.pair(value).or(style.extent),
                "displayAlign" => style.display_align = display_align(value).or(style.display_align),
                "writingMode" => {
                    style.vertical = Some(match value {
                        "tbrl" | "tb" => Some("rl"),
                        "tblr" => Some("lr"),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        style
    }

    /// Cue settings that show text about where a region of this style would.
    ///
    /// A centred region that is wide and reaches far down is where WebVTT shows cues without settings, so it needs none,
    /// and cues then make room for one another.
    pub(super) fn settings(&self) -> String {
        let mut settings = Vec::new();
        if let Some(vertical) = self.vertical.flatten() {
            settings.push(format!("vertical:{vertical}"));
        } else if self.origin.is_some() || self.extent.is_some() {
            self.box_settings(&mut settings);
        } else {
            match self.display_align {
                Some(DisplayAlign::Before) => settings.push("line:0".to_owned()),
                Some(DisplayAlign::Center) => settings.push("line:50%".to_owned()),
                Some(DisplayAlign::After) | None => {}
            }
        }
        let in_region = !settings.is_empty() || self.origin.is_some() || self.extent.is_some();
        let align = self.text_align.or(in_region.then_some(TextAlign::Start));
        if let Some(align) = align.filter(|&align| align != TextAlign::Center) {
            settings.push(format!("align:{}", align.setting()));
        }
        settings.join(" ")
    }

    fn box_settings(&self, settings: &mut Vec<String>) {
        let (left, top) = self.origin.unwrap_or((0, 0));
        let (width, height) = self.extent.unwrap_or((WHOLE, WHOLE));
        // A region may not reach out of the root container; those that do are cut.
        let (left, top) = (left.min(WHOLE), top.min(WHOLE));
        let (width, height) = (width.min(WHOLE - left), height.min(WHOLE - top));
        let (right, bottom) = (left + width, top + height);
        let align = self.text_align.unwrap_or(TextAlign::Start);
        let is_centered = align == TextAlign::Center && left.abs_diff(WHOLE - right) <= 100;
        match self.display_align.unwrap_or(DisplayAlign::Before) {
            DisplayAlign::After if bottom >= WHOLE * 8 / 10 && width >= WHOLE * 8 / 10 => {}
            DisplayAlign::After => settings.push(format!("line:{},end", percent(bottom))),
            DisplayAlign::Center => settings.push(format!("line:{},center", percent(top + height / 2))),
            DisplayAlign::Before => settings.push(format!("line:{}", percent(top))),
        }
        match align {
            TextAlign::Center if is_centered => {}
            TextAlign::Center => settings.push(format!("position:{}", percent(left + width / 2))),
            TextAlign::Start | TextAlign::Left if left > 0 => settings.push(format!("position:{}", percent(left))),
            TextAlign::End | TextAlign::Right if right < WHOLE => settings.push(format!("position:{}", percent(right))),
            _ => {}
        }
        if width < WHOLE && width > 0 && !(is_centered && width >= WHOLE * 8 / 10) {
            settings.push(format!("size:{}", percent(width)));
        }
    }
}

/// Hundredths of a percent as text, without needless zeros.
fn percent(value: u32) -> String {
    let text = format!("{}.{:02}", value / 100, value % 100);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn decoration(value: &str) -> Option<bool> {
    value.split_ascii_whitespace().fold(None, |underline, word| match word {
        "underline" => Some(true),
        "none" | "noUnderline" => Some(false),
        _ => underline,
    })
}

fn text_align(value: &str) -> Option<TextAlign> {
    match value {
        "start" | "justify" => Some(TextAlign::Start),
        "left" => Some(TextAlign::Left),
        "center" => Some(TextAlign::Center),
        "right" => Some(TextAlign::Right),
        "end" => Some(TextAlign::End),
        _ => None,
    }
}

fn display_align(value: &str) -> Option<DisplayAlign> {
    match value {
        "before" => Some(DisplayAlign::Before),
        "center" => Some(DisplayAlign::Center),
        "after" => Some(DisplayAlign::After),
        _ => None,
    }
}

fn ruby(value: &str) -> Option<Ruby> {
    match value {
        "container" => Some(Ruby::Container),
        "base" => Some(Ruby::Base),
        "baseContainer" => Some(Ruby::BaseContainer),
        "text" => Some(Ruby::Text),
        "textContainer" => Some(Ruby::TextContainer),
        "delimiter" => Some(Ruby::Delimiter),
        _ => None,
    }
}

/// What lengths of a document are measured in: `tts:extent` of `tt` for pixels, `ttp:cellResolution` for cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Units {
    root_px: Option<(u64, u64)>,
    cells: (u64, u64),
}

impl Default for Units {
    fn default() -> Self {
        Self {
            root_px: None,
            cells: (32, 15),
        }
    }
}

impl Units {
    /// Reads the attributes of `tt`; what is malformed keeps its default.
    pub(super) fn new(tt: &Attributes<'_>) -> Self {
        let numbers = |name: &str, unit: &str| -> Option<(u64, u64)> {
            let mut parts = tt
                .any(name)?
                .split_ascii_whitespace()
                .map(|part| part.strip_suffix(unit)?.parse().ok());
            let pair: (u64, u64) = (parts.next()??, parts.next()??);
            if pair.0 == 0 || pair.1 == 0 { None } else { Some(pair) }
        };
        Self {
            root_px: numbers("extent", "px"),
            cells: numbers("cellResolution", "").unwrap_or((32, 15)),
        }
    }

    fn pair(&self, text: &str) -> Option<Pair> {
        let mut parts = text.split_ascii_whitespace();
        let root_px = self.root_px.unzip();
        let horizontal = length(parts.next()?, root_px.0, self.cells.0)?;
        Some((horizontal, length(parts.next()?, root_px.1, self.cells.1)?))
    }
}

/// A length in hundredths of a percent, rounded down, at most ten times the whole.
fn length(text: &str, root_px: Option<u64>, cells: u64) -> Option<u32> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '+' && c != '-')?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let number = number.strip_prefix('+').unwrap_or(number);
    // What begins left of or above the root container is cut there.
    if number.starts_with('-') {
        return Some(0);
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let hundredth = |index: usize| {
        fraction
            .as_bytes()
            .get(index)
            .map_or(0, |digit| u64::from(digit.wrapping_sub(b'0')))
    };
    let value = whole.checked_mul(100)?.checked_add(hundredth(0) * 10 + hundredth(1))?;
    let of_whole = match unit {
        "%" => Some(value),
        "px" => value.checked_mul(100)?.checked_div(root_px?),
        "c" => value.checked_mul(100)?.checked_div(cells),
        // Root container relative units are percents already (TTML2 8.2.13).
        "rw" | "rh" => Some(value),
        _ => None,
    }?;
    u32::try_from(of_whole.min(u64::from(WHOLE) * 10)).ok()
}

/// The styles of `styling`, each with the styles it refers to worked in.
#[derive(Debug, Default)]
pub(super) struct Styles {
    defined: BTreeMap<String, (String, Style)>,
    resolved: BTreeMap<String, Style>,
    /// Of `initial` elements: what holds when nothing is said.
    pub(super) initial: Style,
}

impl Styles {
    /// A `style` element: its identifier, the identifiers it refers to, and what it says itself. A style that has been
    /// referred to stays as it was.
    pub(super) fn define(&mut self, id: &str, references: &str, own: Style) {
        self.defined.insert(id.to_owned(), (references.to_owned(), own));
    }

    /// What a list of references says, later ones winning, and whether all of them are defined.
    pub(super) fn referenced(&mut self, references: &str) -> (Style, bool) {
        self.referenced_at(references, 0)
    }

    fn referenced_at(&mut self, references: &str, depth: usize) -> (Style, bool) {
        let mut style = Style::default();
        let mut all_defined = true;
        for id in references.split_ascii_whitespace() {
            match self.resolve(id, depth) {
                Some(found) => style = style.overlaid(found),
                None => all_defined = false,
            }
        }
        (style, all_defined)
    }

    fn resolve(&mut self, id: &str, depth: usize) -> Option<Style> {
        if let Some(&style) = self.resolved.get(id) {
            return Some(style);
        }
        let (references, own) = self.defined.get(id).cloned()?;
        // A loop finds what its first member says itself.
        self.resolved.insert(id.to_owned(), own);
        let style = if depth < REFERENCE_DEPTH_MAX {
            self.referenced_at(&references, depth.saturating_add(1)).0.overlaid(own)
        } else {
            own
        };
        self.resolved.insert(id.to_owned(), style);
        Some(style)
    }
}
