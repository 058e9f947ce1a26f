//! FLAC files (RFC 9639): metadata blocks, then frames that do not say how long they are.
//!
//! A frame ends where its CRC-16 comes out even and the header of the next one follows, whose CRC-8 is right too. A
//! damaged frame is left out together with what lies before the next header that fits; where frame numbers tell that
//! sound is missing, the frame before the gap is lengthened.

use super::{ElementaryError, WINDOW_SIZE_BYTES, facts, push, tag};
use crate::codec::flac::{FrameHeader, STREAM_INFO_SIZE_BYTES, StreamInfo, frame_size_bytes};
use crate::index::IndexWriter;
use crate::isobmff::sample_entry;
use crate::source::{ReadAt, ReadError, Refusal, SourceTracks};
use crate::track::Track;
use crate::window::Window;

/// Longest frame header, its CRC-8 included.
const FRAME_HEADER_SIZE_MAX: usize = 16;

/// Bytes in which the end of a frame is looked for first.
const LOOK_SIZE: usize = 32 << 10;

/// Metadata blocks that are jumped over.
const METADATA_BLOCK_COUNT_MAX: usize = 4_096;

/// Damaged frames after which the rest of a file is left out: each costs a search over several frames.
const DAMAGE_COUNT_MAX: usize = 64;

/// Bytes looked through for the next header after a damaged frame.
const RESYNC_SIZE_BYTES_MAX: u64 = 8 << 20;

/// Missing sound is told by a longer frame up to this many samples; beyond, frame numbers are damage.
const GAP_SAMPLES_MAX: u64 = 1 << 30;

/// Whether the first 4 KiB of a file start a FLAC stream.
pub fn recognises(first_bytes: &[u8]) -> bool {
    let start = usize::try_from(tag::skip_leading(first_bytes)).unwrap_or(usize::MAX);
    first_bytes.get(start..).is_some_and(|bytes| bytes.starts_with(b"fLaC"))
}

/// Indexes a file where it lies.
pub fn read(source: &dyn ReadAt) -> Result<SourceTracks, ElementaryError> {
    let mut window = Window::new(source, WINDOW_SIZE_BYTES);
    let start = tag::leading_end(&mut window)?;
    let end = tag::trailing_start(&mut window)?;
    let marker = window.peek(start, 8 + STREAM_INFO_SIZE_BYTES)?;
    if !marker.starts_with(b"fLaC") {
        return Err(ElementaryError::NoFrames { what: "FLAC marker" });
    }
    let info = marker.get(8..).unwrap_or_default();
    let info = StreamInfo::parse(info).map_err(|source| ElementaryError::Header { offset: start, source })?;
    let facts = facts(info.sampling_rate)?;
    let description = sample_entry::flac(&facts, &info.serialise_dfla())?;
    let mut frames = Frames {
        position: frames_start(&mut window, start + 4)?,
        window,
        end,
        info,
        damage_count: 0,
        notes: Vec::new(),
    };
    let mut writer = IndexWriter::new(facts.timescale);
    let mut missing = 0u64;
    let mut next = frames.next()?;
    while let Some(frame) = next {
        next = frames.next()?;
        let gap = next.as_ref().map_or(0, |next| frame.gap_before(next, &info));
        missing += gap;
        let duration = u64::from(frame.header.block_samples) + gap;
        push(
            &mut writer,
            frame.offset,
            frame.size,
            u32::try_from(duration).unwrap_or(u32::MAX),
        )?;
    }
    if writer.sample_count() == 0 {
        return Err(ElementaryError::NoFrames { what: "FLAC frames" });
    }
    let index = writer.finish(0)?;
    let mut refused = frames.notes;
    if missing > 0 {
        refused.push(Refusal {
            what: format!("{missing} samples of sound"),
            why: "frame numbers tell that they are missing; the frames before them are lengthened".to_owned(),
        });
    }
    Ok(SourceTracks {
        tracks: vec![Track { description, index }],
        encryption: None,
        has_encrypted: false,
        refused,
    })
}

/// First byte behind the metadata blocks that start at `offset`.
fn frames_start(window: &mut Window<'_>, mut offset: u64) -> Result<u64, ElementaryError> {
    for _ in 0..METADATA_BLOCK_COUNT_MAX {
        let [flags, size @ ..] = window.peek(offset, 4)? else {
            break;
        };
        let Ok([high, middle, low]) = <[u8; 3]>::try_from(size) else {
            break;
        };
        let last = flags & 0x80 != 0;
        offset += 4 + u64::from(u32::from_be_bytes([0, high, middle, low]));
        if last {
            return Ok(offset);
        }
    }
    Err(ElementaryError::NoFrames {
        what: "end of the FLAC metadata",
    })
}

/// A frame and where it lies.
struct Frame {
    offset: u64,
    size: usize,
    header: FrameHeader,
}

impl Frame {
    /// Samples missing between this frame and `next`, by their numbers.
    fn gap_before(&self, next: &Frame, info: &StreamInfo) -> u64 {
        let (this, other) = (&self.header, &next.header);
        if this.variable_block_size != other.variable_block_size {
            return 0;
        }
        let gap = match this.variable_block_size {
            true => other
                .number
                .checked_sub(this.number.saturating_add(u64::from(this.block_samples))),
            false => other
                .number
                .checked_sub(this.number.saturating_add(1))
                .and_then(|frames| frames.checked_mul(u64::from(info.block_samples_max))),
        };
        gap.filter(|gap| *gap <= GAP_SAMPLES_MAX).unwrap_or(0)
    }
}

/// Goes from frame to frame.
struct Frames<'a> {
    window: Window<'a>,
    position: u64,
    end: u64,
    info: StreamInfo,
    damage_count: usize,
    notes: Vec<Refusal>,
}

impl Frames<'_> {
    fn next(&mut self) -> Result<Option<Frame>, ElementaryError> {
        while self.position < self.end {
            let offset = self.position;
            let header = FrameHeader::parse(self.window.peek(offset, FRAME_HEADER_SIZE_MAX)?);
            let found = match header {
                Ok(header) if header.fits(&self.info) => self.size_of_frame(offset)?.map(|size| (header, size)),
                _ => None,
            };
            if let Some((header, size)) = found {
                self.position = offset + size as u64;
                return Ok(Some(Frame { offset, size, header }));
            }
            self.recover(offset)?;
        }
        Ok(None)
    }

    /// Bytes of the frame at `offset`, or `None` when its end is not found within the largest frame there can be.
    fn size_of_frame(&mut self, offset: u64) -> Result<Option<usize>, ReadError> {
        let left = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        let size_max = self.frame_size_max().min(left);
        let mut look = LOOK_SIZE;
        loop {
            let look_size = look.min(size_max + FRAME_HEADER_SIZE_MAX).min(left);
            let bytes = self.window.peek(offset, look_size)?;
            let whole = bytes.len() >= left;
            match frame_size_bytes(bytes, &self.info) {
                // Where the window ends by chance, no next header confirms the end.
                Some(size) if size < bytes.len() || whole => return Ok(Some(size)),
                _ if whole || look >= size_max => return Ok(None),
                _ => look = look.saturating_mul(4),
            }
        }
    }

    /// Twice what uncompressed sound takes, and some room; STREAMINFO's largest frame where that is more.
    fn frame_size_max(&self) -> usize {
        let bits = u64::from(self.info.bits_per_sample) + 1;
        let verbatim = u64::from(self.info.block_samples_max) * u64::from(self.info.channels) * bits / 8;
        let size = (2 * verbatim + 256).max(u64::from(self.info.frame_size_bytes_max));
        usize::try_from(size).unwrap_or(usize::MAX)
    }

    /// Goes to the next header that fits behind the damaged frame at `offset`.
    fn recover(&mut self, offset: u64) -> Result<(), ReadError> {
        self.damage_count += 1;
        let scan_end = self.end.min(offset.saturating_add(RESYNC_SIZE_BYTES_MAX));
        let mut position = offset + 1;
        let mut next = self.end;
        while position < scan_end && self.damage_count <= DAMAGE_COUNT_MAX {
            let bytes = self.window.ahead(position, FRAME_HEADER_SIZE_MAX)?;
            let fits =
                |bytes: &[u8]| FrameHeader::parse(bytes).is_ok_and(|header: FrameHeader| header.fits(&self.info));
            let candidates = bytes
                .windows(2)
                .enumerate()
                .filter(|(_, pair)| matches!(pair, [0xff, 0xf8 | 0xf9]));
            let found = candidates
                .map(|(at, _)| at)
                .find(|at| bytes.get(*at..).is_some_and(fits));
            match found {
                Some(at) => {
                    next = (position + at as u64).min(self.end);
                    break;
                }
                // A header may lie across the end of the window.
                None => position += (bytes.len().saturating_sub(FRAME_HEADER_SIZE_MAX - 1).max(1)) as u64,
            }
        }
        self.notes.push(Refusal {
            what: format!("{} bytes at {offset}", next - offset),
            why: match next == self.end {
                true => "cut off, damaged or no sound".to_owned(),
                false => "damaged".to_owned(),
            },
        });
        self.position = next;
        Ok(())
    }
}
