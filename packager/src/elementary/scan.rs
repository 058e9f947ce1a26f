//! Goes from frame to frame of a stream whose frames say how long they are, and finds the way back after junk.

use super::{ElementaryError, WINDOW_SIZE_BYTES, tag};
use crate::source::{ReadAt, ReadError, Refusal};
use crate::window::Window;

/// Bytes in one place that are looked through for the next frame.
const JUNK_SIZE_BYTES_MAX: u64 = 1 << 20;

/// Places with junk after which the rest of a file is left out.
const JUNK_COUNT_MAX: usize = 10_000;

/// A frame as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Bytes from this frame to the next.
    pub size: usize,
    /// Bytes of them that stand before the sample.
    pub lead: usize,
    /// Samples per channel.
    pub samples: u32,
    /// What must not change within a stream, made a number.
    pub kind: u64,
}

/// Where the stream of a file lies and how far it has been read.
pub(super) struct Scan<'a> {
    window: Window<'a>,
    position: u64,
    end: u64,
    /// Bytes a header needs.
    look: usize,
    /// What the first frame was.
    kind: Option<u64>,
    synced: bool,
    junk_size: u64,
    junk_count: usize,
    first_junk: u64,
    cut_size: u64,
}

impl<'a> Scan<'a> {
    /// A scan of what lies between the tags of `source`; a header needs `look` bytes.
    pub(super) fn new(source: &'a dyn ReadAt, look: usize) -> Result<Scan<'a>, ReadError> {
        let mut window = Window::new(source, WINDOW_SIZE_BYTES);
        let position = tag::leading_end(&mut window)?;
        let end = tag::trailing_start(&mut window)?;
        Ok(Scan {
            window,
            position,
            end,
            look,
            kind: None,
            synced: false,
            junk_size: 0,
            junk_count: 0,
            first_junk: 0,
            cut_size: 0,
        })
    }

    /// Up to `size` bytes at `offset`.
    pub(super) fn peek(&mut self, offset: u64, size: usize) -> Result<&[u8], ReadError> {
        self.window.peek(offset, size)
    }

    /// The next frame and where it starts; `None` at the end. `parse` reads a frame at the start of the bytes it gets:
    /// as many as a header needs or more, fewer only at the end of the stream.
    pub(super) fn next(
        &mut self,
        parse: impl Fn(&[u8]) -> Option<Frame>,
    ) -> Result<Option<(u64, Frame)>, ElementaryError> {
        let mut junk_start = self.position;
        while self.position < self.end {
            let offset = self.position;
            if let Some(frame) = self.frame_at(offset, &parse)? {
                let next = offset + frame.size as u64;
                if next > self.end && self.synced {
                    self.cut_size = self.end - offset;
                    self.position = self.end;
                    return Ok(None);
                }
                if next <= self.end && (self.synced || self.is_confirmed(next, &parse, frame.kind)?) {
                    self.note_junk(junk_start, offset);
                    self.synced = true;
                    self.kind = Some(frame.kind);
                    self.position = next;
                    return Ok(Some((offset, frame)));
                }
            }
            self.synced = false;
            match tag::id3v2_size(self.window.peek(offset, 10)?) {
                // Segments of packed audio put end to end have a tag each.
                Some(size) => {
                    self.note_junk(junk_start, offset);
                    self.position = offset.saturating_add(size);
                    junk_start = self.position;
                }
                None => self.position = offset + 1,
            }
            if self.position - junk_start > JUNK_SIZE_BYTES_MAX || self.junk_count > JUNK_COUNT_MAX {
                self.position = self.end;
            }
        }
        self.note_junk(junk_start, self.end);
        Ok(None)
    }

    fn note_junk(&mut self, start: u64, end: u64) {
        if end > start {
            if self.junk_count == 0 {
                self.first_junk = start;
            }
            self.junk_count += 1;
            self.junk_size += end - start;
        }
    }

    fn frame_at(&mut self, offset: u64, parse: impl Fn(&[u8]) -> Option<Frame>) -> Result<Option<Frame>, ReadError> {
        let left = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = self.window.ahead(offset, self.look)?;
        let bytes = bytes.get(..left).unwrap_or(bytes);
        Ok(parse(bytes).filter(|frame| frame.size > frame.lead && self.kind.is_none_or(|kind| kind == frame.kind)))
    }

    /// Whether a frame of the same kind or a tag starts at `offset`, or the stream ends there.
    fn is_confirmed(
        &mut self,
        offset: u64,
        parse: impl Fn(&[u8]) -> Option<Frame>,
        kind: u64,
    ) -> Result<bool, ReadError> {
        if offset == self.end || tag::id3v2_size(self.window.peek(offset, 10)?).is_some() {
            return Ok(true);
        }
        Ok(self.frame_at(offset, parse)?.is_some_and(|frame| frame.kind == kind))
    }

    /// What was left out.
    pub(super) fn into_notes(self) -> Vec<Refusal> {
        let mut notes = Vec::new();
        if self.junk_count > 0 {
            notes.push(Refusal {
                what: format!("{} bytes", self.junk_size),
                why: format!(
                    "in {} places, the first at {}, there are no frames",
                    self.junk_count, self.first_junk
                ),
            });
        }
        if self.cut_size > 0 {
            notes.push(Refusal {
                what: format!("{} bytes", self.cut_size),
                why: "the last frame is cut off".to_owned(),
            });
        }
        notes
    }
}

/// Whether `first_bytes` hold two frames in a row, or one up to their end, behind their tags.
pub(super) fn recognises(first_bytes: &[u8], parse: impl Fn(&[u8]) -> Option<Frame>) -> bool {
    let start = usize::try_from(tag::skip_leading(first_bytes)).unwrap_or(usize::MAX);
    let Some(first) = first_bytes.get(start..).and_then(&parse) else {
        return false;
    };
    match first_bytes.get(start + first.size..) {
        None | Some([]) => true,
        Some(rest) => parse(rest).is_some_and(|second| second.kind == first.kind),
    }
}
