//! TTML: TTML1, TTML2, IMSC1 text profile and EBU-TT-D documents in.
//!
//! Reads what WebVTT can show: times, line breaks, italic, bold, underline, colours, ruby, and about where a region is.
//! Elements and attributes of other namespaces, animation and metadata are passed over. XML is read without a document
//! type, so there are no entities to expand. Times are rounded to the nearest millisecond once they are absolute.

mod attributes;
mod paragraph;
mod style;
mod time;
mod timing;

use std::borrow::Cow;
use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::Event;

use self::attributes::{Attributes, Namespaces, image, is_ttml};
use self::paragraph::{Content, Look, Paragraph, RubyPlace, Run};
use self::style::{Ruby, Style, Styles, Units};
use self::time::Clock;
use self::timing::Timing;
use super::markup::Palette;
use super::{Cue, DropReason, Parsed, TextError, TextTrack, check_size, encoding, push_cue};

/// Nesting of elements; real documents use about ten levels.
const DEPTH_MAX: usize = 64;

/// Reads a TTML document. Content that never ends is dropped.
///
/// # Errors
/// XML that is not well-formed or has a document type; a root that is not `tt`; time bases other than media and
/// non-drop SMPTE; images instead of text.
pub fn parse(bytes: &[u8]) -> Result<Parsed, TextError> {
    parse_within(bytes, None)
}

/// Reads the document of a sample that shows from `within.0` to `within.1`, in milliseconds: content that never ends
/// does so with the sample, and then does not begin before it either.
pub(super) fn parse_within(bytes: &[u8], within: Option<(u64, u64)>) -> Result<Parsed, TextError> {
    check_size(bytes)?;
    let (text, encoding) = encoding::unicode(bytes)?;
    let mut document = Document {
        text: &text,
        line: (0, 1),
        within,
        parsed: Parsed {
            encoding,
            ..Parsed::default()
        },
        ..Document::default()
    };
    document.read()?;
    let mut parsed = document.parsed;
    parsed.track = TextTrack::new(document.palette.into_header(), document.cues);
    Ok(parsed)
}

/// What an open element means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tt,
    Head,
    Styling,
    Layout,
    Region,
    Body,
    Div,
    P,
    Span,
    Br,
    /// Read for its attributes, or not at all, and what it holds neither.
    Passed,
}

/// An open element.
#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: Kind,
    /// `None` when it is not known: times that cannot be read, or a sibling before it in a sequence that never ends.
    timing: Option<Timing>,
    /// What is specified here or inherited.
    style: Style,
    /// What the region it is shown in specifies.
    region: Option<Style>,
    preserved: bool,
    ruby: Option<RubyPlace>,
    ruby_container: Option<u64>,
    /// Not shown, whatever its times.
    is_hidden: bool,
}

impl Frame {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            timing: Some(Timing::ROOT),
            style: Style::default(),
            region: None,
            preserved: false,
            ruby: None,
            ruby_container: None,
            is_hidden: false,
        }
    }
}

/// The document being read.
#[derive(Default)]
struct Document<'t> {
    text: &'t str,
    /// Offset in the text and the number of the line it is on.
    line: (usize, u64),
    within: Option<(u64, u64)>,
    parsed: Parsed,
    clock: Clock,
    units: Units,
    styles: Styles,
    regions: BTreeMap<String, Style>,
    /// The region whose children are being read.
    region: Option<String>,
    frames: Vec<Frame>,
    namespaces: Namespaces,
    seen_root: bool,
    element_count: u64,
    paragraph: Option<Paragraph>,
    palette: Palette,
    work_size_bytes: u64,
    cues: Vec<Cue>,
}

impl Document<'_> {
    fn read(&mut self) -> Result<(), TextError> {
        let mut reader = Reader::from_str(self.text);
        reader.config_mut().expand_empty_elements = true;
        loop {
            let offset = reader.buffer_position();
            let xml = |what: Cow<'static, str>| TextError::Xml { offset, what };
            let event = match reader.read_event() {
                Ok(found) => found,
                Err(error) => {
                    let what = error.to_string().into();
                    return Err(TextError::Xml {
                        offset: reader.error_position(),
                        what,
                    });
                }
            };
            match event {
                Event::Start(element) => {
                    if self.frames.len() >= DEPTH_MAX {
                        return Err(xml("elements are nested too deep".into()));
                    }
                    self.line = line_at(self.text, self.line, offset);
                    let attributes = Attributes::new(&element).map_err(xml)?;
                    self.namespaces
                        .declare(self.frames.len(), &attributes)
                        .map_err(|what| xml(what.into()))?;
                    let (name, prefix) = element.name().decompose();
                    let prefix = prefix.map(|prefix| prefix.into_inner()).unwrap_or_default();
                    let namespace = self.namespaces.resolve(prefix).to_owned();
                    self.start(name.into_inner(), &namespace, &attributes, offset)?;
                }
                Event::End(_) => self.end(offset)?,
                Event::Text(text) => self.characters(&text.xml10_content(), offset)?,
                Event::CData(text) => self.characters(&text.xml10_content(), offset)?,
                Event::GeneralRef(reference) => {
                    let c = match reference.resolve_char_ref() {
                        Ok(Some(c)) => c,
                        Ok(None) => {
                            predefined(&reference).ok_or_else(|| xml("reference to an unknown entity".into()))?
                        }
                        Err(error) => return Err(xml(error.to_string().into())),
                    };
                    self.characters(c.encode_utf8(&mut [0; 4]), offset)?;
                }
                Event::DocType(_) => return Err(xml("document types are refused".into())),
                Event::Eof => break,
                // Empty elements are expanded into a start and an end.
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
        let offset = reader.buffer_position();
        if !self.frames.is_empty() {
            return Err(TextError::Xml {
                offset,
                what: "document ends inside an element".into(),
            });
        }
        if !self.seen_root {
            return Err(TextError::Xml {
                offset,
                what: "document has no element".into(),
            });
        }
        Ok(())
    }

    fn start(
        &mut self,
        name: &str,
        namespace: &str,
        attributes: &Attributes<'_>,
        offset: u64,
    ) -> Result<(), TextError> {
        self.element_count = self.element_count.saturating_add(1);
        if let Some(what) = image(name, namespace, attributes) {
            return Err(TextError::ImageSubtitles { offset, what });
        }
        let is_ttml = is_ttml(namespace);
        let Some(parent) = self.frames.last().copied() else {
            return self.start_root(name, is_ttml, attributes, offset);
        };
        let kind = if is_ttml { kind(parent.kind, name) } else { Kind::Passed };
        let frame = match kind {
            Kind::Body | Kind::Div | Kind::P | Kind::Span => self.start_content(kind, &parent, attributes),
            Kind::Br => {
                self.push_run(&parent, Content::Break, offset)?;
                Frame::new(kind)
            }
            Kind::Region => {
                self.start_region(attributes);
                Frame::new(kind)
            }
            Kind::Passed if is_ttml => {
                self.read_style(parent.kind, name, attributes);
                Frame::new(kind)
            }
            Kind::Tt | Kind::Head | Kind::Styling | Kind::Layout | Kind::Passed => Frame::new(kind),
        };
        self.frames.push(frame);
        Ok(())
    }

    fn start_root(
        &mut self,
        name: &str,
        is_ttml: bool,
        attributes: &Attributes<'_>,
        offset: u64,
    ) -> Result<(), TextError> {
        if std::mem::replace(&mut self.seen_root, true) {
            return Err(TextError::Xml {
                offset,
                what: "document has more than one root".into(),
            });
        }
        if !is_ttml || name != "tt" {
            return Err(TextError::Ttml {
                offset,
                what: "root is not the tt element of TTML".into(),
            });
        }
        let ttml = |what: &'static str| TextError::Ttml {
            offset,
            what: what.into(),
        };
        self.clock = Clock::new(|name| attributes.any(name)).map_err(ttml)?;
        self.units = Units::new(attributes);
        self.parsed.language = attributes
            .xml("lang")
            .filter(|language| !language.is_empty())
            .map(str::to_owned);
        self.frames.push(Frame {
            preserved: attributes.xml("space") == Some("preserve"),
            ..Frame::new(Kind::Tt)
        });
        Ok(())
    }

    /// `style` and `initial` in the head.
    fn read_style(&mut self, parent: Kind, name: &str, attributes: &Attributes<'_>) {
        let own = Style::new(attributes, &self.units);
        match (parent, name) {
            (Kind::Styling, "initial") => self.styles.initial = self.styles.initial.overlaid(own),
            (Kind::Styling, "style") => {
                // Drafts had an id without prefix.
                if let Some(id) = attributes.xml("id").or(attributes.own("id")) {
                    self.styles.define(id, attributes.own("style").unwrap_or_default(), own);
                }
            }
            (Kind::Region, "style") => {
                let style = self.referenced(attributes).overlaid(own);
                if let Some(region) = self.region.as_ref().and_then(|id| self.regions.get_mut(id)) {
                    // What the region says itself wins over its style children.
                    *region = style.overlaid(*region);
                }
            }
            _ => {}
        }
    }

    fn start_region(&mut self, attributes: &Attributes<'_>) {
        let style = self
            .referenced(attributes)
            .overlaid(Style::new(attributes, &self.units));
        self.region = attributes.xml("id").or(attributes.own("id")).map(str::to_owned);
        if let Some(id) = &self.region {
            self.regions.insert(id.clone(), style);
        }
    }

    fn referenced(&mut self, attributes: &Attributes<'_>) -> Style {
        let (style, all_defined) = self.styles.referenced(attributes.own("style").unwrap_or_default());
        if !all_defined {
            self.parsed.drop_at(self.line.1, DropReason::UndefinedReference);
        }
        style
    }

    fn start_content(&mut self, kind: Kind, parent: &Frame, attributes: &Attributes<'_>) -> Frame {
        let own = self
            .referenced(attributes)
            .overlaid(Style::new(attributes, &self.units));
        let (style, background) = (parent.style.inherited().overlaid(own), own.background);
        // Backgrounds are not inherited, but a span lies on that of the span around it.
        let background = if kind == Kind::Span {
            background.or(parent.style.background)
        } else {
            None
        };
        let timing = match parent.timing.map(|timing| timing.child(attributes, &self.clock)) {
            None => None,
            Some(Ok(timing)) => timing,
            Some(Err(reason)) => {
                if !parent.is_hidden {
                    self.parsed.drop_at(self.line.1, reason);
                }
                None
            }
        };
        let mut frame = Frame {
            timing,
            style: Style { background, ..style },
            region: attributes
                .own("region")
                .map_or(parent.region, |id| self.region_style(id)),
            preserved: attributes
                .xml("space")
                .map_or(parent.preserved, |space| space == "preserve"),
            is_hidden: parent.is_hidden || timing.is_none() || own.displayed == Some(false),
            ruby: parent.ruby,
            ruby_container: parent.ruby_container,
            ..Frame::new(kind)
        };
        self.place_in_ruby(&mut frame, own.ruby);
        if kind == Kind::P {
            self.start_paragraph(&frame, attributes);
        }
        frame
    }

    fn region_style(&mut self, id: &str) -> Option<Style> {
        let style = self.regions.get(id).copied();
        if style.is_none() {
            self.parsed.drop_at(self.line.1, DropReason::UndefinedReference);
        }
        style
    }

    fn place_in_ruby(&self, frame: &mut Frame, ruby: Option<Ruby>) {
        match (ruby, frame.ruby_container) {
            (None, _) => {}
            (Some(Ruby::Container), _) => {
                frame.ruby_container = Some(self.element_count);
                frame.ruby = None;
            }
            // What stands in for ruby where there is none is not for us.
            (Some(Ruby::Delimiter), _) | (Some(Ruby::Text | Ruby::TextContainer), None) => frame.is_hidden = true,
            (Some(role @ (Ruby::Base | Ruby::Text)), Some(container)) => {
                frame.ruby = Some(RubyPlace {
                    container,
                    part: self.element_count,
                    role,
                });
            }
            (Some(Ruby::Base | Ruby::BaseContainer), None) => {}
            (Some(Ruby::BaseContainer | Ruby::TextContainer), Some(_)) => frame.ruby = None,
        }
    }

    fn start_paragraph(&mut self, frame: &Frame, attributes: &Attributes<'_>) {
        let region = self.styles.initial.overlaid(frame.region.unwrap_or_default());
        // What a region says of text holds for its paragraphs unless they say otherwise.
        let settings = region.overlaid(Style {
            text_align: frame.style.text_align,
            ..Style::default()
        });
        self.paragraph = Some(Paragraph::new(
            attributes.xml("id").unwrap_or_default().to_owned(),
            settings.settings(),
        ));
    }

    fn characters(&mut self, text: &str, offset: u64) -> Result<(), TextError> {
        let Some(frame) = self.frames.last().copied() else {
            let is_blank = text.chars().all(char::is_whitespace);
            let what = Cow::Borrowed("text outside the root element");
            return if is_blank {
                Ok(())
            } else {
                Err(TextError::Xml { offset, what })
            };
        };
        if !matches!(frame.kind, Kind::P | Kind::Span) {
            return Ok(());
        }
        let is_blank = text.chars().all(char::is_whitespace);
        // Between the parts of a ruby container only white space is allowed, and it is not for showing.
        if frame.ruby_container.is_some() && frame.ruby.is_none() && is_blank {
            return Ok(());
        }
        if !is_blank && let Some(timing) = self.frames.last_mut().and_then(|frame| frame.timing.as_mut()) {
            timing.hold_text();
        }
        self.push_run(
            &frame,
            Content::Text {
                text: text.to_owned(),
                preserved: frame.preserved,
            },
            offset,
        )
    }

    /// Adds to the paragraph what stands directly in `frame`.
    fn push_run(&mut self, frame: &Frame, content: Content, offset: u64) -> Result<(), TextError> {
        let region = frame.region.unwrap_or_default();
        let style = self.styles.initial.overlaid(region).inherited().overlaid(frame.style);
        let is_hidden = frame.is_hidden || style.visible == Some(false) || region.displayed == Some(false);
        let Some(timing) = frame.timing.filter(|timing| timing.shows_text() && !is_hidden) else {
            return Ok(());
        };
        let is_blank = match &content {
            Content::Text { text, .. } => text.chars().all(char::is_whitespace),
            Content::Break => true,
        };
        let line = self.line.1;
        let Some(paragraph) = &mut self.paragraph else {
            return Ok(());
        };
        let (start_ms, end_ms) = match timing.span_ms(self.within) {
            Ok(span) => span,
            Err(reason) => {
                if !is_blank && !std::mem::replace(&mut paragraph.is_reported, true) {
                    self.parsed.drop_at(line, reason);
                }
                return Ok(());
            }
        };
        let look = Look {
            italic: style.italic.unwrap_or(false),
            bold: style.bold.unwrap_or(false),
            underline: style.underline.unwrap_or(false),
            color: style.color.flatten(),
            background: frame.style.background.flatten(),
        };
        if paragraph.push(Run {
            content,
            start_ms,
            end_ms,
            look,
            ruby: frame.ruby,
        }) {
            Ok(())
        } else {
            Err(TextError::Ttml {
                offset,
                what: "paragraph has too many parts".into(),
            })
        }
    }

    fn end(&mut self, offset: u64) -> Result<(), TextError> {
        let Some(frame) = self.frames.pop() else {
            return Err(TextError::Xml {
                offset,
                what: "element ends that has not begun".into(),
            });
        };
        match frame.kind {
            Kind::Region => self.region = None,
            Kind::P => {
                let paragraph = self.paragraph.take().unwrap_or_default();
                let cues = &mut self.cues;
                let push = |cue| push_cue(cues, cue);
                if !paragraph.into_cues(&mut self.palette, &mut self.work_size_bytes, push)? {
                    return Err(TextError::Ttml {
                        offset,
                        what: "content changes too often for its size".into(),
                    });
                }
            }
            _ => {}
        }
        if matches!(frame.kind, Kind::Body | Kind::Div | Kind::P | Kind::Span)
            && let Some(parent) = self.frames.last_mut().and_then(|parent| parent.timing.as_mut())
            && let Some(timing) = &frame.timing
        {
            parent.end_child(timing);
        }
        Ok(())
    }
}

/// What an element of TTML is where it stands; elements in the wrong place are passed over.
fn kind(parent: Kind, name: &str) -> Kind {
    match (parent, name) {
        (Kind::Tt, "head") => Kind::Head,
        (Kind::Tt, "body") => Kind::Body,
        (Kind::Head, "styling") => Kind::Styling,
        (Kind::Head, "layout") => Kind::Layout,
        (Kind::Layout, "region") => Kind::Region,
        (Kind::Body | Kind::Div, "div") => Kind::Div,
        (Kind::Body | Kind::Div, "p") => Kind::P,
        (Kind::P | Kind::Span, "span") => Kind::Span,
        (Kind::P | Kind::Span, "br") => Kind::Br,
        _ => Kind::Passed,
    }
}

/// The character of an entity that XML itself defines.
fn predefined(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

/// The line an offset is on, counted on from a known offset before it.
fn line_at(text: &str, known: (usize, u64), offset: u64) -> (usize, u64) {
    let (known_offset, line) = known;
    let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    let passed = text.as_bytes().get(known_offset..offset).unwrap_or_default();
    let line_count = passed.iter().filter(|&&byte| byte == b'\n').count() as u64;
    (offset.max(known_offset), line.saturating_add(line_count))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
