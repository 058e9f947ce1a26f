//! AAC in ADTS frames (ISO/IEC 14496-3 1.A.2), as in `.aac` files: a sample is a frame without its header.

use super::scan::{self, Frame, Scan};
use super::{ElementaryError, facts, push};
use crate::codec::aac::adts::AdtsHeader;
use crate::index::IndexWriter;
use crate::isobmff::sample_entry;
use crate::source::{ReadAt, SourceTracks};
use crate::track::Track;

/// Bytes looked at for a header, its CRC included.
const HEADER_SIZE_MAX: usize = 16;

/// Samples of a raw data block.
const BLOCK_SAMPLES: u32 = 1_024;

/// Whether the first 4 KiB of a file start an ADTS stream.
pub fn recognises(first_bytes: &[u8]) -> bool {
    scan::recognises(first_bytes, frame)
}

fn frame(bytes: &[u8]) -> Option<Frame> {
    let header = AdtsHeader::parse(bytes).ok()?;
    let kind = u64::from(header.sampling_rate) << 16
        | u64::from(header.object_type) << 8
        | u64::from(header.channel_configuration);
    Some(Frame {
        size: header.frame_size_bytes,
        lead: header.header_size_bytes,
        samples: BLOCK_SAMPLES * u32::from(header.raw_block_count),
        kind,
    })
}

/// Indexes a file where it lies. Frames with several raw data blocks are refused: where each starts is known to a
/// decoder alone.
pub fn read(source: &dyn ReadAt) -> Result<SourceTracks, ElementaryError> {
    let mut scan = Scan::new(source, HEADER_SIZE_MAX)?;
    let Some((first_offset, first)) = scan.next(frame)? else {
        return Err(ElementaryError::NoFrames { what: "ADTS frames" });
    };
    let at_first = |source| ElementaryError::Header {
        offset: first_offset,
        source,
    };
    let header = AdtsHeader::parse(scan.peek(first_offset, HEADER_SIZE_MAX)?).map_err(at_first)?;
    let config = header.audio_specific_config().map_err(at_first)?;
    let bytes = config.serialise().ok_or_else(|| ElementaryError::Unusable {
        what: "its AAC configuration can not be written".to_owned(),
    })?;
    let facts = facts(config.output_sampling_rate())?;
    let description = sample_entry::aac(&facts, &bytes)?;
    let mut writer = IndexWriter::new(facts.timescale);
    let mut next = Some((first_offset, first));
    while let Some((offset, frame)) = next {
        if frame.samples != BLOCK_SAMPLES {
            let what = format!("the frame at {offset} has several raw data blocks");
            return Err(ElementaryError::Unusable { what });
        }
        push(
            &mut writer,
            offset + frame.lead as u64,
            frame.size - frame.lead,
            frame.samples,
        )?;
        next = scan.next(self::frame)?;
    }
    let index = writer.finish(0)?;
    Ok(SourceTracks {
        tracks: vec![Track { description, index }],
        encryption: None,
        has_encrypted: false,
        refused: scan.into_notes(),
    })
}
