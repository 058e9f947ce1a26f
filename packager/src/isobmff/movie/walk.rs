//! The walk over a file's top-level boxes: few small reads, never a media byte on purpose.

use bytes::Bytes;

use crate::isobmff::{BoxError, BoxHeader, BoxReader, FourCc};
use crate::limits::{MOOF_SIZE_BYTES_MAX, MOOV_SIZE_BYTES_MAX, TOP_LEVEL_BOX_COUNT_MAX};
use crate::source::{ReadAt, ReadError};

use super::MovieError;

/// Read when nothing says more is needed: `ftyp` and the header behind it, or the headers of `free` and `mdat`.
const HEADER_READ_SIZE_BYTES: usize = 64;

/// More than this is not read ahead for a fragment whose predecessor was as large.
const READ_AHEAD_SIZE_BYTES_MAX: usize = 256 << 10;

/// One box of the top level.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopBox {
    pub fourcc: FourCc,
    /// Where its header starts.
    pub offset: u64,
    /// Where its payload starts.
    pub payload_offset: u64,
    /// Where the next box starts: by its size field, so possibly past the end of the source.
    pub end: u64,
}

/// Walks the top level of a source, keeping the bytes last read.
pub(super) struct Walk<'a> {
    source: &'a dyn ReadAt,
    size: u64,
    position: u64,
    window: Bytes,
    window_offset: u64,
    box_count: usize,
    /// Bytes to ask for where a fragment may start.
    read_ahead: usize,
    /// The last box was a `moof`, so that media follows.
    before_media: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(source: &'a dyn ReadAt) -> Walk<'a> {
        Walk {
            source,
            size: source.size(),
            position: 0,
            window: Bytes::new(),
            window_offset: 0,
            box_count: 0,
            read_ahead: HEADER_READ_SIZE_BYTES,
            before_media: false,
        }
    }

    /// The next box of the top level, or `None` at the end of the source or where what follows is no box (junk).
    pub(super) fn next(&mut self) -> Result<Option<TopBox>, MovieError> {
        let left = self.size.saturating_sub(self.position);
        if left < 8 {
            return Ok(None);
        }
        self.box_count += 1;
        if self.box_count > TOP_LEVEL_BOX_COUNT_MAX {
            return Err(MovieError::TooManyBoxes { offset: self.position });
        }
        let offset = self.position;
        let header = self.bytes(offset, left.min(16) as usize)?;
        let Ok(header) = BoxHeader::parse(&header, offset) else {
            return Ok(None);
        };
        if !header.fourcc.0.iter().all(|byte| matches!(byte, b' '..=b'~' | 0xa9)) {
            return Ok(None);
        }
        let end = match header.size {
            None => self.size,
            Some(size) => offset.saturating_add(size),
        };
        self.position = end;
        self.before_media = &header.fourcc.0 == b"moof";
        Ok(Some(TopBox {
            fourcc: header.fourcc,
            offset,
            payload_offset: offset + u64::from(header.header_size),
            end,
        }))
    }

    /// The payload of a box in one read, or what of it the last read already brought.
    pub(super) fn payload(&mut self, found: &TopBox) -> Result<Bytes, MovieError> {
        let size_max = match &found.fourcc.0 {
            b"moov" => MOOV_SIZE_BYTES_MAX,
            _ => MOOF_SIZE_BYTES_MAX,
        };
        let size = found.end.saturating_sub(found.offset);
        if found.end > self.size {
            return Err(MovieError::Box(BoxError::Truncated {
                fourcc: found.fourcc,
                offset: found.offset,
                want: size,
                have: self.size.saturating_sub(found.offset),
            }));
        }
        if size > size_max {
            return Err(MovieError::TooLarge {
                fourcc: found.fourcc,
                offset: found.offset,
                size,
                size_max,
            });
        }
        if &found.fourcc.0 == b"moof" {
            // The next fragment is probably about as large; one read then brings it whole.
            self.read_ahead =
                (size as usize + size as usize / 16 + HEADER_READ_SIZE_BYTES).min(READ_AHEAD_SIZE_BYTES_MAX);
        }
        let payload_size = found.end.saturating_sub(found.payload_offset) as usize;
        if let Some(bytes) = self.windowed(found.payload_offset, payload_size) {
            return Ok(bytes);
        }
        let have = self.window_end().saturating_sub(found.payload_offset) as usize;
        match self.windowed(found.payload_offset, have) {
            // Much of a fragment was read ahead: only the rest is asked for.
            Some(start) if have > HEADER_READ_SIZE_BYTES => {
                let rest = self
                    .source
                    .read_at(found.payload_offset + have as u64, payload_size - have)?;
                Ok(Bytes::from([&start[..], &rest[..]].concat()))
            }
            _ => Ok(self.source.read_at(found.payload_offset, payload_size)?),
        }
    }

    /// Where the bytes last read end in the source.
    fn window_end(&self) -> u64 {
        self.window_offset.saturating_add(self.window.len() as u64)
    }

    fn windowed(&self, offset: u64, size: usize) -> Option<Bytes> {
        let start = usize::try_from(offset.checked_sub(self.window_offset)?).ok()?;
        let end = start.checked_add(size)?;
        (end <= self.window.len()).then(|| self.window.slice(start..end))
    }

    fn bytes(&mut self, offset: u64, size: usize) -> Result<Bytes, ReadError> {
        if let Some(bytes) = self.windowed(offset, size) {
            return Ok(bytes);
        }
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let ahead = if self.before_media {
            HEADER_READ_SIZE_BYTES
        } else {
            self.read_ahead
        };
        self.window = self.source.read_at(offset, ahead.max(size).min(left))?;
        self.window_offset = offset;
        self.windowed(offset, size).ok_or(ReadError::PastEnd {
            offset,
            want: size as u64,
            size: self.size,
        })
    }
}

/// A reader over the payload of a top-level box.
pub(super) fn reader<'b>(found: &TopBox, payload: &'b [u8]) -> BoxReader<'b> {
    BoxReader::new(found.fourcc, found.offset, found.payload_offset, payload)
}
