//! Paragraph: the content of one `p`, each piece with the time it shows, made into cues.

use std::collections::BTreeSet;

use super::super::markup::{self, Color, Ink, Palette};
use super::super::{Cue, TextError};
use super::style::Ruby;

/// Pieces of one paragraph; the longest real ones (a time for every syllable) have some hundreds.
const RUN_COUNT_MAX: usize = 65_536;

/// Bytes looked at to make all cues of a document: what its paragraphs hold times how often each changes.
pub(super) const WORK_SIZE_BYTES_MAX: u64 = 256 << 20;

/// How a run looks, as far as WebVTT can show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Look {
    pub italic: bool,
    pub bold: bool,
    pub underline: bool,
    pub color: Option<Color>,
    pub background: Option<Color>,
}

/// Where a run stands in ruby text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RubyPlace {
    /// Of the element that is the container.
    pub container: u64,
    /// Of the element that is the base or the text: several bases pair with as many texts.
    pub part: u64,
    /// `Base` or `Text`.
    pub role: Ruby,
}

/// What a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Characters; white space collapses unless `preserved`.
    Text { text: String, preserved: bool },
    /// `br`.
    Break,
}

/// A piece of a paragraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub content: Content,
    pub start_ms: u64,
    pub end_ms: u64,
    pub look: Look,
    pub ruby: Option<RubyPlace>,
}

/// The paragraph being read.
#[derive(Debug, Default)]
pub(super) struct Paragraph {
    /// `xml:id`.
    id: String,
    settings: String,
    /// Whether it has been told that content was left out.
    pub is_reported: bool,
    runs: Vec<Run>,
}

impl Paragraph {
    pub(super) fn new(id: String, settings: String) -> Self {
        Self {
            id,
            settings,
            ..Self::default()
        }
    }

    /// Adds a piece; `false` when there are too many.
    #[must_use]
    pub(super) fn push(&mut self, run: Run) -> bool {
        if self.runs.len() >= RUN_COUNT_MAX {
            return false;
        }
        self.runs.push(run);
        true
    }

    /// One cue for every interval in which the same text shows; `work_size_bytes` adds up over a document.
    pub(super) fn into_cues(
        self,
        palette: &mut Palette,
        work_size_bytes: &mut u64,
        mut push: impl FnMut(Cue) -> Result<(), TextError>,
    ) -> Result<bool, TextError> {
        let mut edges: Vec<u64> = self.runs.iter().flat_map(|run| [run.start_ms, run.end_ms]).collect();
        edges.sort_unstable();
        edges.dedup();
        let size_bytes = self.runs.iter().fold(0u64, |size, run| match &run.content {
            Content::Text { text, .. } => size.saturating_add(text.len() as u64).saturating_add(32),
            Content::Break => size.saturating_add(32),
        });
        *work_size_bytes = work_size_bytes.saturating_add(size_bytes.saturating_mul(edges.len() as u64));
        if *work_size_bytes > WORK_SIZE_BYTES_MAX {
            return Ok(false);
        }
        let mut pending: Option<Cue> = None;
        let mut id = self.id;
        for (&start_ms, &end_ms) in edges.iter().zip(edges.iter().skip(1)) {
            let active = self
                .runs
                .iter()
                .filter(|run| run.start_ms <= start_ms && run.end_ms >= end_ms);
            let payload = payload(active, palette);
            if payload.is_empty() {
                continue;
            }
            match &mut pending {
                Some(cue) if cue.end_ms == start_ms && cue.payload == payload => cue.end_ms = end_ms,
                _ => {
                    let settings = self.settings.clone();
                    let cue = Cue {
                        start_ms,
                        end_ms,
                        id: std::mem::take(&mut id),
                        settings,
                        payload,
                    };
                    if let Some(done) = pending.replace(cue) {
                        push(done)?;
                    }
                }
            }
        }
        if let Some(done) = pending {
            push(done)?;
        }
        Ok(true)
    }
}

/// A stretch of characters that look the same, white space already dealt with.
struct Piece {
    text: String,
    look: Look,
    ruby: Option<RubyPlace>,
}

/// Cue text of the runs that show together; empty when they hold nothing to see.
fn payload<'r>(runs: impl Iterator<Item = &'r Run>, palette: &mut Palette) -> String {
    let runs: Vec<&Run> = runs.collect();
    let place = |run: &Run, role: Ruby| run.ruby.filter(|place| place.role == role).map(|place| place.container);
    let with_base: BTreeSet<u64> = runs.iter().filter_map(|run| place(run, Ruby::Base)).collect();
    // Ruby text that shows without its base says nothing.
    let has_base = |run: &&Run| place(run, Ruby::Text).is_none_or(|container| with_base.contains(&container));
    let pieces = collapsed(runs.into_iter().filter(has_base));
    let mut out = String::new();
    let mut rest = pieces.as_slice();
    while let Some(piece) = rest.first() {
        let same = |other: &Piece| match (piece.ruby, other.ruby) {
            (None, None) => other.look == piece.look,
            (Some(a), Some(b)) => a.container == b.container,
            _ => false,
        };
        let count = rest.iter().take_while(|other| same(other)).count();
        let (group, after) = rest.split_at_checked(count.max(1)).unwrap_or((rest, &[]));
        if piece.ruby.is_some() {
            write_ruby(&mut out, group, palette)
        } else {
            write_pieces(&mut out, group, palette)
        }
        rest = after;
    }
    out
}

/// Collapses white space over the borders of runs (TTML2 8.1.3, xml:space) and removes what stands at the ends of lines;
/// an empty line between others becomes a no-break space, since WebVTT cues have none.
fn collapsed<'r>(runs: impl Iterator<Item = &'r Run>) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut gap: Option<Gap> = None;
    for run in runs {
        let mut piece = Piece {
            text: String::new(),
            look: run.look,
            ruby: run.ruby,
        };
        let begun = |gap: &mut Option<Gap>| {
            *gap.get_or_insert(Gap {
                break_count: 0,
                look: run.look,
                ruby: run.ruby,
            })
        };
        let (text, preserved) = match &run.content {
            Content::Break => ("\n", true),
            Content::Text { text, preserved } => (text.as_str(), *preserved),
        };
        for c in text.chars() {
            match c {
                '\n' | '\r' if preserved => {
                    let found = begun(&mut gap);
                    gap = Some(Gap {
                        break_count: found.break_count.saturating_add(1),
                        ..found
                    });
                }
                ' ' | '\t' | '\n' | '\r' if !preserved => {
                    begun(&mut gap);
                }
                c => {
                    // Before the first character white space would only be empty lines.
                    let is_first = pieces.is_empty() && piece.text.is_empty();
                    if let Some(gap) = gap.take().filter(|_| !is_first) {
                        if (gap.look, gap.ruby) == (piece.look, piece.ruby) {
                            piece.text.push_str(&gap.text());
                        } else {
                            let next = Piece {
                                text: String::new(),
                                ..piece
                            };
                            let ended = std::mem::replace(&mut piece, next);
                            pieces.extend(Some(ended).filter(|piece| !piece.text.is_empty()));
                            pieces.push(Piece {
                                text: gap.text(),
                                look: gap.look,
                                ruby: gap.ruby,
                            });
                        }
                    }
                    piece.text.push(c);
                }
            }
        }
        if !piece.text.is_empty() {
            pieces.push(piece);
        }
    }
    if pieces.iter().all(|piece| piece.text.chars().all(char::is_whitespace)) {
        Vec::new()
    } else {
        pieces
    }
}

/// White space between characters: a space, or breaks. It looks as what it first stood in.
#[derive(Clone, Copy)]
struct Gap {
    break_count: usize,
    look: Look,
    ruby: Option<RubyPlace>,
}

impl Gap {
    /// Empty lines in a row; more say no more.
    const EMPTY_LINE_COUNT_MAX: usize = 8;

    fn text(self) -> String {
        match self.break_count.checked_sub(1) {
            None => " ".to_owned(),
            Some(empty_count) => format!("\n{}", "\u{a0}\n".repeat(empty_count.min(Self::EMPTY_LINE_COUNT_MAX))),
        }
    }
}

fn write_pieces(out: &mut String, pieces: &[Piece], palette: &mut Palette) {
    let Some(first) = pieces.first() else { return };
    let look = first.look;
    // White on black is what cues are without a class.
    let color = look
        .color
        .filter(|&color| color != Color::WHITE)
        .and_then(|color| palette.class(Ink::Text, color));
    let background = look
        .background
        .filter(|&color| color != Color::BLACK)
        .and_then(|color| palette.class(Ink::Background, color));
    let classes: String = color
        .iter()
        .chain(&background)
        .flat_map(|class| [".", class.as_str()])
        .collect();
    let tags = [(look.bold, "b"), (look.italic, "i"), (look.underline, "u")];
    if !classes.is_empty() {
        out.push_str("<c");
        out.push_str(&classes);
        out.push('>');
    }
    for (_, tag) in tags.iter().filter(|(set, _)| *set) {
        out.extend(["<", tag, ">"]);
    }
    for piece in pieces {
        markup::escape_into(out, &piece.text);
    }
    for (_, tag) in tags.iter().rev().filter(|(set, _)| *set) {
        out.extend(["</", tag, ">"]);
    }
    if !classes.is_empty() {
        out.push_str("</c>");
    }
}

/// Bases and texts of one ruby container, paired in order; a text too many is dropped.
fn write_ruby(out: &mut String, group: &[Piece], palette: &mut Palette) {
    let parts = |role: Ruby| {
        let mut parts: Vec<(u64, Vec<&Piece>)> = Vec::new();
        for piece in group {
            let Some(place) = piece.ruby.filter(|place| place.role == role) else {
                continue;
            };
            match parts.last_mut() {
                Some((part, pieces)) if *part == place.part => pieces.push(piece),
                _ => parts.push((place.part, vec![piece])),
            }
        }
        parts
    };
    let (bases, texts) = (parts(Ruby::Base), parts(Ruby::Text));
    let write_part = |out: &mut String, part: &[&Piece], palette: &mut Palette| {
        for piece in part {
            write_pieces(out, std::slice::from_ref(*piece), palette);
        }
    };
    if texts.is_empty() {
        bases.iter().for_each(|(_, base)| write_part(out, base, palette));
        return;
    }
    out.push_str("<ruby>");
    for (index, (_, base)) in bases.iter().enumerate() {
        write_part(out, base, palette);
        if let Some((_, text)) = texts.get(index) {
            out.push_str("<rt>");
            write_part(out, text, palette);
            out.push_str("</rt>");
        }
    }
    out.push_str("</ruby>");
}
