//! MP3 files (ISO/IEC 11172-3 layer III): frames one after the other between tags.
//!
//! A first frame that holds a Xing, Info or VBRI table carries no sound and is left out. Where a LAME tag in it tells
//! the encoder's delay, that and the decoder's own 529 samples lie before the first sample to be heard, as players have
//! it (ffmpeg's `start_time`): they become the track's priming. Padding at the end shortens the last frame.

use super::scan::{self, Frame, Scan};
use super::{ElementaryError, facts, push, tag};
use crate::codec::mpeg_audio::{FrameHeader, StreamTable, Version};
use crate::index::IndexWriter;
use crate::isobmff::sample_entry;
use crate::source::{ReadAt, SourceTracks};
use crate::track::Track;

/// Largest frame of layer III: 320 kbit/s at 32 kHz with padding.
const FRAME_SIZE_MAX: usize = 1_441;

/// Samples by which every layer III decoder is late.
const DECODER_DELAY: u32 = 529;

/// Whether the first 4 KiB of a file start an MP3 stream. A tag that fills them all is taken to stand before one, for
/// that is where long tags (with pictures) are found.
pub fn recognises(first_bytes: &[u8]) -> bool {
    let behind_tags = tag::skip_leading(first_bytes);
    behind_tags > 0 && behind_tags >= first_bytes.len() as u64
        || scan::recognises(first_bytes, |bytes| frame(bytes).filter(|frame| layer_of(frame) == 3))
}

fn frame(bytes: &[u8]) -> Option<Frame> {
    let header = FrameHeader::parse(bytes).ok()?;
    let version = match header.version {
        Version::Mpeg1 => 1,
        Version::Mpeg2 => 2,
        Version::Mpeg25 => 3,
    };
    Some(Frame {
        size: header.frame_size_bytes,
        lead: 0,
        samples: u32::from(header.sample_count),
        kind: u64::from(header.sampling_rate) << 16 | version << 8 | u64::from(header.layer),
    })
}

fn layer_of(frame: &Frame) -> u64 {
    frame.kind & 0xff
}

/// Indexes a file where it lies.
pub fn read(source: &dyn ReadAt) -> Result<SourceTracks, ElementaryError> {
    let mut scan = Scan::new(source, 4)?;
    let Some((first_offset, first)) = scan.next(frame)? else {
        return Err(ElementaryError::NoFrames {
            what: "MPEG audio frames",
        });
    };
    let bytes = scan.peek(first_offset, first.size.min(FRAME_SIZE_MAX))?;
    let header = FrameHeader::parse(bytes).map_err(|source| ElementaryError::Header {
        offset: first_offset,
        source,
    })?;
    if header.layer != 3 {
        let what = format!("MPEG audio of layer {} is not served", header.layer);
        return Err(ElementaryError::Unusable { what });
    }
    let table = StreamTable::find(bytes, &header);
    let facts = facts(header.sampling_rate)?;
    let description = sample_entry::mp3(&facts, header.sampling_rate, u16::from(header.channels))?;
    let mut writer = IndexWriter::new(facts.timescale);
    let mut next = match table {
        Some(_) => scan.next(frame)?,
        None => Some((first_offset, first)),
    };
    let padding = table
        .and_then(|table| table.encoder_padding)
        .map_or(0, u32::from)
        .saturating_sub(DECODER_DELAY);
    while let Some((offset, frame)) = next {
        next = scan.next(self::frame)?;
        let duration = match next {
            Some(_) => frame.samples,
            None => frame.samples.saturating_sub(padding).max(1),
        };
        push(&mut writer, offset, frame.size, duration)?;
    }
    let delay = table
        .and_then(|table| table.encoder_delay)
        .map_or(0, |delay| u32::from(delay) + DECODER_DELAY);
    let index = writer.finish(i64::from(delay))?;
    Ok(SourceTracks {
        tracks: vec![Track { description, index }],
        encryption: None,
        has_encrypted: false,
        refused: scan.into_notes(),
    })
}
