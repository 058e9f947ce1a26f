//! What an answer is made of: bytes from memory and ranges of source files, known to the byte before any is read.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

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
}

impl Piece {
    /// Bytes in this piece.
    pub fn size(&self) -> u64 {
        match self {
            Piece::Memory(bytes) => bytes.len() as u64,
            Piece::File { size, .. } => *size,
        }
    }

    /// Bytes `range` of this piece; the range lies within it.
    fn slice(self, range: Range<u64>) -> Piece {
        match self {
            Piece::Memory(bytes) => Piece::Memory(bytes.slice(range.start as usize..range.end as usize)),
            Piece::File { file, offset, .. } => Piece::File {
                file,
                offset: offset + range.start,
                size: range.end - range.start,
            },
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
    /// The pieces of one section.
    fn section(&self, section: usize) -> Vec<Piece>;
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

    /// Bytes held in memory, as far as it is known.
    pub fn memory_size(&self) -> usize {
        match self {
            Content::Pieces(pieces) => {
                let held = pieces.iter().map(|piece| match piece {
                    Piece::Memory(bytes) => bytes.len(),
                    Piece::File { .. } => 0,
                });
                held.sum::<usize>() + size_of_val(pieces.as_slice())
            }
            // Tables of a few bytes for each section.
            Content::Virtual(layout) => layout.section_count() * 16,
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
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        while !self.range.is_empty() {
            let Some(piece) = self.pending.pieces.pop_front() else {
                match &mut self.source {
                    Source::Listed => return None,
                    Source::Sections { layout, next } if *next < layout.section_count() => {
                        self.pending.pieces = layout.section(*next).into();
                        *next += 1;
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
        fn section(&self, section: usize) -> Vec<Piece> {
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
                Piece::File { .. } => unreachable!("only memory here"),
            })
            .collect()
    }

    #[test]
    fn every_range_is_exact() {
        let whole: Vec<u8> = (0..100).collect();
        let listed = Content::Pieces((0..10).flat_map(|section| Counting.section(section)).collect());
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
