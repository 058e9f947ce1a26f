//! AC-3 and Enhanced AC-3 files (ETSI TS 102 366): a sample is an access unit, that is six blocks of every substream.

use super::scan::{self, Frame, Scan};
use super::{ElementaryError, facts, push};
use crate::codec::ac3::{AccessUnit, Dac3, Dec3, SyncFrame};
use crate::index::IndexWriter;
use crate::isobmff::sample_entry;
use crate::source::{ReadAt, SourceTracks};
use crate::track::Track;

/// Bytes looked at for an access unit and the start of the next: usual ones are below 6 KiB, eight programmes with
/// eight dependent substreams each would fill this.
const LOOK_SIZE: usize = 288 << 10;

/// Whether the first 4 KiB of a file start an AC-3 or E-AC-3 stream.
pub fn recognises(first_bytes: &[u8]) -> bool {
    scan::recognises(first_bytes, |bytes| {
        let frame = SyncFrame::parse(bytes).ok()?;
        Some(Frame {
            size: frame.frame_size_bytes,
            lead: 0,
            samples: frame.sample_count(),
            kind: kind_of(&frame),
        })
    })
}

/// Coding and sampling rate, made a number.
fn kind_of(frame: &SyncFrame) -> u64 {
    u64::from(frame.sampling_rate) << 1 | u64::from(frame.is_enhanced())
}

fn unit(bytes: &[u8]) -> Option<Frame> {
    // Most bytes after damage are no sync word, and a whole access unit is much to parse in vain.
    let first = SyncFrame::parse(bytes).ok().filter(SyncFrame::begins_access_unit)?;
    let bytes = bytes.get(..LOOK_SIZE).unwrap_or(bytes);
    match AccessUnit::parse(bytes) {
        Ok(Some(unit)) => Some(Frame {
            size: unit.size_bytes,
            lead: 0,
            samples: unit.sample_count(),
            kind: kind_of(&first),
        }),
        // Damage behind the six blocks is the next unit's.
        _ => single(bytes, first),
    }
}

/// The access unit when it is one frame of six blocks and something else than a frame follows.
fn single(bytes: &[u8], first: SyncFrame) -> Option<Frame> {
    let bytes = bytes.get(..first.frame_size_bytes)?;
    let unit = AccessUnit::parse(bytes).ok()??;
    Some(Frame {
        size: unit.size_bytes,
        lead: 0,
        samples: unit.sample_count(),
        kind: kind_of(&first),
    })
}

/// Indexes a file where it lies.
pub fn read(source: &dyn ReadAt) -> Result<SourceTracks, ElementaryError> {
    let mut scan = Scan::new(source, LOOK_SIZE)?;
    if scan.peek(0, 2)? == [0x77, 0x0b] {
        let what = "its bytes are swapped in pairs, which no player takes".to_owned();
        return Err(ElementaryError::Unusable { what });
    }
    let Some((first_offset, first)) = scan.next(unit)? else {
        return Err(ElementaryError::NoFrames { what: "AC-3 frames" });
    };
    let at_first = |source| ElementaryError::Header {
        offset: first_offset,
        source,
    };
    let bytes = scan.peek(first_offset, first.size)?;
    let frame = SyncFrame::parse(bytes).map_err(at_first)?;
    let facts = facts(frame.sampling_rate)?;
    let description = match frame.is_enhanced() {
        false => sample_entry::ac3(&facts, &Dac3::build(&frame).map_err(at_first)?.serialise())?,
        true => {
            let unit = AccessUnit::parse(bytes).map_err(at_first)?;
            let unit = unit.ok_or(ElementaryError::NoFrames {
                what: "whole E-AC-3 access unit",
            })?;
            let dec3 = Dec3::build(&unit).and_then(|dec3| dec3.serialise()).map_err(at_first)?;
            sample_entry::eac3(&facts, &dec3)?
        }
    };
    let mut writer = IndexWriter::new(facts.timescale);
    let mut next = Some((first_offset, first));
    while let Some((offset, unit)) = next {
        push(&mut writer, offset, unit.size, unit.samples)?;
        next = scan.next(self::unit)?;
    }
    let index = writer.finish(0)?;
    Ok(SourceTracks {
        tracks: vec![Track { description, index }],
        encryption: None,
        has_encrypted: false,
        refused: scan.into_notes(),
    })
}
