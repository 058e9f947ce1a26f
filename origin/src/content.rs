//! What an answer is made of: bytes from memory and ranges of source files, known to the byte before any is read.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use packager::index::Extent;

use crate::fetch;
use crate::pool::Buffer;
use crate::read::SourceFile;

/// Some bytes of an answer.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Held in memory: headers, boxes, built segments.
    Memory(Bytes),
    /// A range of a source file, not read yet.
    File {
        /// The file; kept open as long as the piece lives.
        file: Arc<SourceFile>,
        /// First byte.
        offset: u64,
        /// Bytes; not zero.
        size: u64,
    },
    /// Made of a range of a source file when the answer gets there.
    Made(Made),
}

/// Makes parts of an answer out of ranges of source files.
pub trait Maker: Send + Sync + 'static {
    /// How many files it is made of.
    fn source_count(&self) -> usize;
    /// File `source`, and what of it part `part` is made of, in order.
    fn source(&self, part: usize, source: usize) -> Option<(&Arc<SourceFile>, &[Extent])>;
    /// Turns what was read for part `part`, one source after the other, into what is sent. None of it may be sent after an
    /// error.
    fn make(&self, part: usize, media: Buffer) -> std::io::Result<Buffer>;
}

/// Bytes of a part of an answer that is made on the way.
#[derive(Clone)]
pub struct Made {
    /// Who makes it.
    pub maker: Arc<dyn Maker>,
    /// Which part it is.
    pub part: usize,
    /// Bytes of the part.
    pub range: Range<u64>,
    /// Bytes of the part that were made before.
    pub ready: Ready,
}

/// Bytes of a part that were made before they are sent: to be had once, or let go before that, and then made again.
#[derive(Clone, Default)]
pub struct Ready {
    /// Where in the part they begin.
    start: u64,
    bytes: Option<Arc<Mutex<Bytes>>>,
}

/// Lets go of bytes that are ready.
pub struct LetGo(Weak<Mutex<Bytes>>);

impl Ready {
    /// `bytes` of a part, from its byte `start` on.
    pub fn new(start: u64, bytes: Bytes) -> Ready {
        Ready {
            start,
            bytes: Some(Arc::new(Mutex::new(bytes))),
        }
    }

    /// Bytes that are here yet.
    pub fn size(&self) -> usize {
        self.bytes.as_ref().map_or(0, |bytes| lock(bytes).len())
    }

    /// What lets go of the bytes without taking them; `None` where there never were any.
    pub fn let_go(&self) -> Option<LetGo> {
        self.bytes.as_ref().map(|bytes| LetGo(Arc::downgrade(bytes)))
    }

    /// The bytes of `range` of the part; none of them is here after that.
    fn take(&self, range: &Range<u64>) -> Option<Bytes> {
        let bytes = std::mem::take(&mut *lock(self.bytes.as_ref()?));
        let start = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        (start < end && end <= bytes.len()).then(|| bytes.slice(start..end))
    }
}

fn lock(bytes: &Mutex<Bytes>) -> MutexGuard<'_, Bytes> {
    bytes.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LetGo {
    /// True while somebody may still ask for the bytes.
    pub fn is_wanted(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Lets go of them. Returns how many they were.
    pub fn now(&self) -> usize {
        let bytes = self.0.upgrade().map(|bytes| std::mem::take(&mut *lock(&bytes)));
        bytes.map_or(0, |bytes| bytes.len())
    }
}

impl Made {
    /// Its bytes, if they are ready; to be had once.
    pub(crate) fn take_ready(&self) -> Option<Bytes> {
        self.ready.take(&self.range)
    }

    /// What follows its first `count` bytes; `bytes` are all of it, and stay ready.
    pub(crate) fn rest(&self, count: u64, bytes: Bytes) -> Made {
        Made {
            range: self.range.start + count..self.range.end,
            ready: Ready::new(self.range.start, bytes),
            ..self.clone()
        }
    }

    /// The files and their ranges that it is made of.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&Arc<SourceFile>, &[Extent])> {
        let sources = (0..self.maker.source_count()).filter_map(|source| self.maker.source(self.part, source));
        sources.filter(|(_, extents)| !extents.is_empty())
    }

    /// Makes it of what was read.
    pub(crate) fn make(&self, media: Buffer) -> std::io::Result<Bytes> {
        let bytes = self.maker.make(self.part, media)?.into_bytes();
        let range = self.range.start as usize..(self.range.end as usize).min(bytes.len());
        Ok(bytes.slice(range))
    }

    /// Reads and makes it. Blocking.
    pub fn read(&self) -> std::io::Result<Bytes> {
        let mut buffer = Buffer::filled(self.sources().map(|(_, extents)| fetch::size(extents)).sum());
        let mut rest: &mut [u8] = &mut buffer;
        for (file, extents) in self.sources() {
            let of_file = rest.split_off_mut(..fetch::size(extents)).unwrap_or_default();
            fetch::rest(file, extents, 0, of_file)?;
        }
        self.make(buffer)
    }
}

/// Bytes of an answer that are read when it gets there, and can be read again.
#[derive(Clone, Debug)]
pub enum Reading {
    /// What is made of what is read.
    Made(Made),
    /// Ranges of a file as they are, one behind the other.
    Ranges {
        /// The file.
        file: Arc<SourceFile>,
        /// The ranges.
        extents: Vec<Extent>,
    },
}

impl Reading {
    /// The files and their ranges that are read.
    pub(crate) fn sources(&self) -> Vec<(&Arc<SourceFile>, &[Extent])> {
        match self {
            Reading::Made(made) => made.sources().collect(),
            Reading::Ranges { file, extents } => vec![(file, extents)],
        }
    }

    /// What is sent, of what was read.
    pub(crate) fn finish(&self, media: Buffer) -> std::io::Result<Bytes> {
        match self {
            Reading::Made(made) => made.make(media),
            Reading::Ranges { .. } => Ok(media.into_bytes()),
        }
    }
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Made(part {}, bytes {:?})", self.part, self.range)
    }
}

impl Piece {
    /// Bytes in this piece.
    pub fn size(&self) -> u64 {
        match self {
            Piece::Memory(bytes) => bytes.len() as u64,
            Piece::File { size, .. } => *size,
            Piece::Made(made) => made.range.end - made.range.start,
        }
    }

    /// Its bytes. Blocking.
    pub fn read(&self) -> std::io::Result<Bytes> {
        match self {
            Piece::Memory(bytes) => Ok(bytes.clone()),
            Piece::File { file, offset, size } => {
                let mut buffer = Buffer::filled(*size as usize);
                file.read_exact_at(&mut buffer, *offset)?;
                Ok(buffer.into_bytes())
            }
            Piece::Made(made) => made.read(),
        }
    }

    /// Bytes `range` of this piece; the range lies within it.
    pub(crate) fn slice(self, range: Range<u64>) -> Piece {
        match self {
            Piece::Memory(bytes) => Piece::Memory(bytes.slice(range.start as usize..range.end as usize)),
            Piece::File { file, offset, .. } => Piece::File {
                file,
                offset: offset + range.start,
                size: range.end - range.start,
            },
            Piece::Made(made) => Piece::Made(Made {
                range: made.range.start + range.start..made.range.start + range.end,
                ..made
            }),
        }
    }
}

/// Makes the pieces of part of an answer when the answer gets there.
pub trait Layout: Send + Sync + 'static {
    /// Bytes in all sections.
    fn size(&self) -> u64;
    /// How many sections there are.
    fn section_count(&self) -> usize;
    /// The section that holds byte `offset`, and where that section starts.
    fn section_at(&self, offset: u64) -> (usize, u64);
    /// The pieces of one section; none when it can not be had after all.
    fn section(self: Arc<Self>, section: usize) -> Vec<Piece>;
    /// True when sending it takes memory that it is made in.
    fn is_made(&self) -> bool {
        false
    }
    /// Bytes of its parts that are made already.
    fn ready(&self) -> &[Ready] {
        &[]
    }
    /// Memory that it takes, in bytes: tables of a few bytes for each section, unless it says otherwise.
    fn memory_size(&self) -> usize {
        self.section_count() * 16
    }
}

/// The whole of an answer.
#[derive(Clone)]
pub enum Content {
    /// A short list of pieces.
    Pieces(Vec<Piece>),
    /// Something long whose pieces are made on the way.
    Virtual(Arc<dyn Layout>),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} bytes)", self.size())
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Content {
        Content::Pieces(vec![Piece::Memory(bytes)])
    }
}

impl Content {
    /// Bytes in the whole.
    pub fn size(&self) -> u64 {
        match self {
            Content::Pieces(pieces) => pieces.iter().map(Piece::size).sum(),
            Content::Virtual(layout) => layout.size(),
        }
    }

    /// True when sending it takes memory that it is made in.
    pub fn is_made(&self) -> bool {
        match self {
            Content::Pieces(pieces) => pieces.iter().any(|piece| matches!(piece, Piece::Made(_))),
            Content::Virtual(layout) => layout.is_made(),
        }
    }

    /// Bytes held in memory, as far as it is known.
    pub fn memory_size(&self) -> usize {
        match self {
            Content::Pieces(pieces) => {
                let held = pieces.iter().map(|piece| match piece {
                    Piece::Memory(bytes) => bytes.len(),
                    Piece::File { .. } | Piece::Made(_) => 0,
                });
                held.sum::<usize>() + size_of_val(pieces.as_slice())
            }
            Content::Virtual(layout) => layout.memory_size(),
        }
    }

    /// The pieces of bytes `range`, which lies within the whole.
    pub fn range(self, range: Range<u64>) -> Pieces {
        let (source, position) = match self {
            Content::Pieces(pieces) => (
                Source::Listed,
                Pending {
                    pieces: pieces.into(),
                    at: 0,
                },
            ),
            Content::Virtual(layout) => {
                let (section, at) = layout.section_at(range.start);
                (
                    Source::Sections { layout, next: section },
                    Pending {
                        pieces: Default::default(),
                        at,
                    },
                )
            }
        };
        Pieces {
            source,
            pending: position,
            range,
        }
    }
}

enum Source {
    Listed,
    Sections { layout: Arc<dyn Layout>, next: usize },
}

struct Pending {
    pieces: std::collections::VecDeque<Piece>,
    /// Where the first pending piece starts in the whole.
    at: u64,
}

/// The pieces of a range of a [`Content`], in order, cut to the range.
pub struct Pieces {
    source: Source,
    pending: Pending,
    range: Range<u64>,
}

impl Pieces {
    /// Bytes not given out yet.
    pub fn remaining(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// What lets go of bytes of it that are ready.
    pub fn let_go(&self) -> impl Iterator<Item = LetGo> {
        let ready = match &self.source {
            Source::Listed => &[],
            Source::Sections { layout, .. } => layout.ready(),
        };
        ready.iter().filter_map(Ready::let_go)
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        while !self.range.is_empty() {
            let Some(piece) = self.pending.pieces.pop_front() else {
                match &mut self.source {
                    Source::Listed => return None,
                    Source::Sections { layout, next } if *next < layout.section_count() => {
                        self.pending.pieces = layout.clone().section(*next).into();
                        // What follows a section that is missing must not take its place.
                        let missing = self.pending.pieces.is_empty();
                        *next = if missing { layout.section_count() } else { *next + 1 };
                        continue;
                    }
                    Source::Sections { .. } => return None,
                }
            };
            let (start, size) = (self.pending.at, piece.size());
            self.pending.at += size;
            let from = self.range.start.max(start);
            let to = self.range.end.min(start + size);
            if from >= to {
                continue;
            }
            self.range.start = to;
            return Some(piece.slice(from - start..to - start));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting;

    impl Layout for Counting {
        fn size(&self) -> u64 {
            100
        }
        fn section_count(&self) -> usize {
            10
        }
        fn section_at(&self, offset: u64) -> (usize, u64) {
            ((offset / 10) as usize, offset / 10 * 10)
        }
        fn section(self: Arc<Self>, section: usize) -> Vec<Piece> {
            let first = section as u8 * 10;
            vec![
                Piece::Memory(Bytes::from_iter(first..first + 4)),
                Piece::Memory(Bytes::new()),
                Piece::Memory(Bytes::from_iter(first + 4..first + 10)),
            ]
        }
    }

    fn collect(content: Content, range: Range<u64>) -> Vec<u8> {
        let pieces = content.range(range);
        pieces
            .flat_map(|piece| match piece {
                Piece::Memory(bytes) => bytes.to_vec(),
                _ => unreachable!("only memory here"),
            })
            .collect()
    }

    #[test]
    fn every_range_is_exact() {
        let whole: Vec<u8> = (0..100).collect();
        let listed = Content::Pieces(
            (0..10)
                .flat_map(|section| Arc::new(Counting).section(section))
                .collect(),
        );
        for start in 0..=100 {
            for end in start..=100 {
                let want = &whole[start..end];
                let range = start as u64..end as u64;
                assert_eq!(collect(listed.clone(), range.clone()), want, "listed {range:?}");
                if start < 100 {
                    assert_eq!(
                        collect(Content::Virtual(Arc::new(Counting)), range.clone()),
                        want,
                        "virtual {range:?}"
                    );
                }
            }
        }
    }
}
