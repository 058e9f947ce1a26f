//! Segments made part by part: what must be known of one is found once; its media is read, made and sent for each who
//! asks.
//!
//! A reader holds one part, not a segment, and what is made is still in the core's cache when it is sent. Who stands still
//! holds none (`tray`).

use std::sync::Arc;

use bytes::Bytes;
use packager::index::Extent;

use super::{Answer, CachePolicy};
use crate::content::{Content, Layout, Made, Maker, Piece, Ready};
use crate::hot::Hot;
use crate::pool::Buffer;
use crate::read::SourceFile;

/// Turns media into parts of a segment.
pub trait Recipe: Send + Sync + 'static {
    /// Part `part` of what was read of all its sources, one after the other. None of it may be sent after an error.
    fn make(&self, part: usize, media: Buffer) -> Result<Buffer, String>;
    /// Memory that is taken by what is known, in bytes.
    fn weight_bytes(&self) -> usize;
}

/// A file that a segment is made of.
pub struct Source {
    file: Arc<SourceFile>,
    extents: Vec<Extent>,
    /// The first extent of each part, and the end.
    firsts: Vec<usize>,
}

impl Source {
    /// What each part takes from `file`.
    pub fn new(file: Arc<SourceFile>, parts: impl IntoIterator<Item = Vec<Extent>>) -> Source {
        let (mut extents, mut firsts) = (Vec::new(), vec![0]);
        for part in parts {
            extents.extend(part);
            firsts.push(extents.len());
        }
        Source { file, extents, firsts }
    }

    fn part(&self, part: usize) -> &[Extent] {
        let ends = self.firsts.get(part).zip(self.firsts.get(part + 1));
        let extents = ends.and_then(|(first, end)| self.extents.get(*first..*end));
        extents.unwrap_or_default()
    }
}

/// A segment of which all is known but the media itself. It holds nothing of its title but the open files.
pub struct Parts {
    /// What comes before the first part.
    pub head: Bytes,
    /// Where each part begins, in bytes, and the end.
    pub starts: Vec<u64>,
    /// The files, in the order that the recipe takes them.
    pub sources: Vec<Source>,
    /// How parts are made.
    pub recipe: Box<dyn Recipe>,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Strong validator.
    pub etag: String,
    /// For the log.
    pub what: String,
    /// All of it, while many want it.
    pub hot: Hot,
}

impl Parts {
    /// The answer that makes it.
    pub fn answer(self: &Arc<Self>) -> Answer {
        self.answer_of(Content::Virtual(self.clone()))
    }

    /// The answer for the one for whom its bytes were `made` first. Those that are not sent soon are let go, and made again.
    pub fn answer_ready(self: &Arc<Self>, made: Vec<Bytes>) -> Answer {
        // What is encrypted as a whole lies in one piece.
        let (mut made, mut rest) = (made.into_iter(), Bytes::new());
        let parts = self.starts.iter().zip(self.starts.iter().skip(1));
        let ready = parts.map(|(start, end)| {
            if rest.is_empty() {
                rest = made.next().unwrap_or_default();
            }
            let size = end.saturating_sub(*start) as usize;
            Ready::new(0, rest.split_to(size.min(rest.len())))
        });
        let first = First {
            ready: ready.collect(),
            parts: self.clone(),
        };
        self.answer_of(Content::Virtual(Arc::new(first)))
    }

    /// The answer with its bytes, which can not be made again.
    pub fn answer_made(&self, made: Vec<Bytes>) -> Answer {
        let pieces = std::iter::once(self.head.clone()).chain(made);
        self.answer_of(Content::Pieces(pieces.map(Piece::Memory).collect()))
    }

    fn answer_of(&self, content: Content) -> Answer {
        Answer {
            content,
            content_type: self.content_type,
            etag: self.etag.clone(),
            cache: CachePolicy::Immutable,
            gzip: None,
        }
    }

    /// Memory that is taken by what is known, in bytes.
    pub fn weight_bytes(&self) -> usize {
        let of = |source: &Source| size_of_val(source.extents.as_slice()) + size_of_val(source.firsts.as_slice());
        let sources: usize = self.sources.iter().map(of).sum();
        self.head.len() + size_of_val(self.starts.as_slice()) + sources + self.recipe.weight_bytes() + 512
    }
}

/// Section 0 is the head; section `n` is part `n - 1`.
impl Layout for Parts {
    fn size(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    fn section_count(&self) -> usize {
        self.starts.len()
    }

    fn section_at(&self, offset: u64) -> (usize, u64) {
        match self.starts.partition_point(|start| *start <= offset) {
            0 => (0, 0),
            section => (section, self.starts.get(section - 1).copied().unwrap_or(0)),
        }
    }

    fn section(self: Arc<Self>, section: usize) -> Vec<Piece> {
        let part = section.checked_sub(1);
        let start = part.and_then(|part| self.starts.get(part)).copied().unwrap_or(0);
        // Where all of it is at hand, what follows comes with it.
        if let Some(pieces) = self.hot.pieces(start..self.size()) {
            return pieces;
        }
        if section == usize::from(self.head.is_empty()) {
            self.hot.count_viewer();
        }
        let Some(part) = part else {
            return vec![Piece::Memory(self.head.clone())];
        };
        let end = self.starts.get(section).copied().unwrap_or(start);
        vec![Piece::Made(Made {
            maker: self,
            part,
            range: 0..end - start,
            ready: Ready::default(),
        })]
    }

    fn is_made(&self) -> bool {
        !self.hot.is_kept()
    }

    fn memory_size(&self) -> usize {
        self.weight_bytes()
    }
}

/// The same for the first who asked.
struct First {
    parts: Arc<Parts>,
    /// Of each part.
    ready: Vec<Ready>,
}

impl Layout for First {
    fn size(&self) -> u64 {
        self.parts.size()
    }

    fn section_count(&self) -> usize {
        self.parts.section_count()
    }

    fn section_at(&self, offset: u64) -> (usize, u64) {
        self.parts.section_at(offset)
    }

    fn section(self: Arc<Self>, section: usize) -> Vec<Piece> {
        let mut pieces = self.parts.clone().section(section);
        for piece in &mut pieces {
            if let Piece::Made(made) = piece {
                made.ready = self.ready.get(made.part).cloned().unwrap_or_default();
            }
        }
        pieces
    }

    fn is_made(&self) -> bool {
        self.parts.is_made()
    }

    fn ready(&self) -> &[Ready] {
        &self.ready
    }

    fn memory_size(&self) -> usize {
        self.parts.memory_size() + self.ready.iter().map(|ready| ready.size() + 64).sum::<usize>()
    }
}

impl Maker for Parts {
    fn source_count(&self) -> usize {
        self.sources.len()
    }

    fn source(&self, part: usize, source: usize) -> Option<(&Arc<SourceFile>, &[Extent])> {
        let source = self.sources.get(source)?;
        Some((&source.file, source.part(part)))
    }

    fn make(&self, part: usize, media: Buffer) -> std::io::Result<Buffer> {
        let failed = |error| std::io::Error::other(format!("{}: {error}", self.what));
        self.recipe.make(part, media).map_err(failed)
    }
}
