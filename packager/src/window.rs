//! A window over a source that is read forward: headers are looked at, payloads are jumped over.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use bytes::Bytes;

use crate::source::{ReadAt, ReadError};

/// Bytes read after a jump: enough for a few headers, little enough that jumping over large payloads stays cheap.
const SIZE_AFTER_JUMP: usize = 4 << 10;

/// Reads a source in windows that grow while reading goes straight on and shrink after a jump.
pub(crate) struct Window<'a> {
    source: &'a dyn ReadAt,
    source_size: u64,
    start: u64,
    bytes: Bytes,
    size: usize,
    size_max: usize,
}

impl<'a> Window<'a> {
    /// A window of at most `size_max` bytes.
    pub(crate) fn new(source: &'a dyn ReadAt, size_max: usize) -> Window<'a> {
        Window {
            source,
            source_size: source.size(),
            start: 0,
            bytes: Bytes::new(),
            size: SIZE_AFTER_JUMP / 2,
            size_max,
        }
    }

    /// Bytes in the source.
    pub(crate) fn source_size(&self) -> u64 {
        self.source_size
    }

    /// `size` bytes at `offset`, fewer only where the source ends.
    pub(crate) fn peek(&mut self, offset: u64, size: usize) -> Result<&[u8], ReadError> {
        let ahead = self.ahead(offset, size)?;
        Ok(ahead.get(..size).unwrap_or(ahead))
    }

    /// At least `size` bytes at `offset`, and whatever else of the window lies behind them; fewer only where the source
    /// ends.
    pub(crate) fn ahead(&mut self, offset: u64, size: usize) -> Result<&[u8], ReadError> {
        let left = self.source_size.saturating_sub(offset);
        let want = left.min(size as u64);
        if want == 0 {
            return Ok(&[]);
        }
        if self.held(offset).is_none_or(|held| (held.len() as u64) < want) {
            self.fill(offset, size, left)?;
        }
        Ok(self.held(offset).unwrap_or_default())
    }

    /// What the window holds from `offset` on.
    fn held(&self, offset: u64) -> Option<&[u8]> {
        let skip = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(skip..)
    }

    fn fill(&mut self, offset: u64, size: usize, left: u64) -> Result<(), ReadError> {
        let end = self.start + self.bytes.len() as u64;
        // Where little is jumped over, reading it costs less than another read.
        let straight_on = offset >= self.start && offset <= end + self.bytes.len() as u64 / 4;
        self.size = match straight_on {
            true => self.size.saturating_mul(2).min(self.size_max),
            false => SIZE_AFTER_JUMP.min(self.size_max),
        };
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.size.max(size));
        self.bytes = self.source.read_at(offset, want)?;
        self.start = offset;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Keeps a list of the reads made.
    struct Recorded {
        bytes: Bytes,
        reads: RefCell<Vec<(u64, usize)>>,
    }

    impl ReadAt for Recorded {
        fn size(&self) -> u64 {
            self.bytes.size()
        }

        fn read_at(&self, offset: u64, size: usize) -> Result<Bytes, ReadError> {
            self.reads.borrow_mut().push((offset, size));
            self.bytes.read_at(offset, size)
        }
    }

    #[test]
    fn reads_grow_ahead_and_shrink_after_a_jump() {
        let source = Recorded {
            bytes: (0..400_000u32).map(|at| (at % 251) as u8).collect(),
            reads: RefCell::default(),
        };
        let mut window = Window::new(&source, 64 << 10);
        for offset in (0..100_000u64).step_by(100) {
            assert_eq!(window.peek(offset, 4).unwrap(), &source.bytes[offset as usize..][..4]);
        }
        for offset in [250_000, 399_998, 500_000] {
            let end = source.bytes.len().min(offset as usize + 4);
            let expected = source.bytes.get(offset as usize..end).unwrap_or_default();
            assert_eq!(window.peek(offset, 4).unwrap(), expected);
        }
        let reads = source.reads.borrow();
        let expected = [
            (0, 4096),
            (4_100, 8_192),
            (12_300, 16_384),
            (28_700, 32_768),
            (61_500, 65_536),
            (250_000, 4_096),
            (399_998, 2),
        ];
        assert_eq!(reads.as_slice(), expected);
    }

    #[test]
    fn a_window_is_never_larger_than_asked() {
        let bytes = Bytes::from(vec![0; 1 << 20]);
        let mut window = Window::new(&bytes, 1000);
        assert_eq!(window.ahead(0, 10).unwrap().len(), 1000);
        assert_eq!(window.ahead(5, 5000).unwrap().len(), 5000);
        assert!(window.ahead(u64::MAX, 5).unwrap().is_empty());
    }
}
