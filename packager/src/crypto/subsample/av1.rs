//! Subsamples of AV1: tiles are protected, each in an entry of its own (AV1 in ISOBMFF 4).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{Entries, SubsampleError};
use crate::codec::CodecError;
use crate::codec::av1::{Av1Config, FrameHeader, Obu, ObuType, References, SequenceHeader, TileGrid, obus};
use crate::codec::bits::BitReader;
use crate::isobmff::visual_config;

/// Follows a track's sequence headers and reference frames.
#[derive(Debug, Clone)]
pub(super) struct Scanner {
    sequence: Option<SequenceHeader>,
    references: References,
    /// Tiles of the frame that more tile groups belong to.
    tiles: Option<TileGrid>,
}

impl Scanner {
    /// For a track whose sample entry may hold its first sequence header.
    pub(super) fn new(sample_entry: &[u8]) -> Result<Scanner, CodecError> {
        let config = visual_config(sample_entry, b"av1C");
        let sequence = match config {
            Some(config) => Av1Config::parse(config.remaining())?.sequence_header()?,
            None => None,
        };
        Ok(Scanner {
            sequence,
            references: References::default(),
            tiles: None,
        })
    }

    pub(super) fn scan(&mut self, sample: &[u8], entries: &mut Entries<'_>) -> Result<(), SubsampleError> {
        self.tiles = None;
        let mut offset_bytes = 0;
        let mut has_frame = sample.is_empty();
        for obu in obus(sample) {
            let obu = obu.map_err(SubsampleError::unit(offset_bytes))?;
            self.scan_obu(&obu, entries)?;
            offset_bytes = obu.range.end;
            has_frame |= matches!(obu.obu_type, ObuType::FRAME | ObuType::FRAME_HEADER);
        }
        if has_frame {
            Ok(())
        } else {
            Err(SubsampleError::without("a frame header"))
        }
    }

    fn scan_obu(&mut self, obu: &Obu<'_>, entries: &mut Entries<'_>) -> Result<(), SubsampleError> {
        let in_unit = SubsampleError::unit(obu.range.start);
        match obu.obu_type {
            ObuType::SEQUENCE_HEADER => {
                self.sequence = Some(SequenceHeader::parse(obu.payload).map_err(in_unit)?);
            }
            // A second header of a frame whose tiles are not all there yet is a copy.
            ObuType::FRAME_HEADER if self.tiles.is_none() => {
                let mut reader = BitReader::new(obu.payload, "av1 frame header");
                self.tiles = self.read_header(&mut reader, obu).map_err(in_unit)?;
            }
            ObuType::FRAME => {
                let mut reader = BitReader::new(obu.payload, "av1 frame");
                let missing = CodecError::Missing {
                    what: "av1 frame",
                    field: "tiles",
                };
                let tiles = self.read_header(&mut reader, obu).map_err(&in_unit)?;
                reader.align().map_err(&in_unit)?;
                self.protect(tiles.ok_or(in_unit(missing))?, &mut reader, obu, entries)?;
            }
            ObuType::TILE_GROUP => {
                let missing = CodecError::Missing {
                    what: "av1 tile group",
                    field: "its frame header",
                };
                let mut reader = BitReader::new(obu.payload, "av1 tile group");
                self.protect(self.tiles.ok_or(in_unit(missing))?, &mut reader, obu, entries)?;
            }
            // Tiles in a form of their own, which samples must not have.
            ObuType::TILE_LIST => {
                return Err(in_unit(CodecError::Unsupported {
                    what: "av1 sample",
                    feature: "obu_type",
                    value: u64::from(obu.obu_type.0),
                }));
            }
            _ => {}
        }
        Ok(())
    }

    fn read_header(&mut self, reader: &mut BitReader<'_>, obu: &Obu<'_>) -> Result<Option<TileGrid>, CodecError> {
        let sequence = self.sequence.as_ref().ok_or(CodecError::Missing {
            what: "av1 frame header",
            field: "its sequence header",
        })?;
        let layer = (obu.temporal_id, obu.spatial_id);
        Ok(FrameHeader::read(reader, sequence, layer, &mut self.references)?.tiles)
    }

    fn protect(
        &mut self,
        tiles: TileGrid,
        reader: &mut BitReader<'_>,
        obu: &Obu<'_>,
        entries: &mut Entries<'_>,
    ) -> Result<(), SubsampleError> {
        let payload_offset = obu.range.end.saturating_sub(obu.payload.len());
        let mut protected = Ok(());
        let last = tiles
            .read_group(reader, |range| {
                if protected.is_ok() {
                    protected = entries.protect(payload_offset + range.start, payload_offset + range.end);
                }
            })
            .map_err(SubsampleError::unit(obu.range.start))?;
        self.tiles = (!last).then_some(tiles);
        protected
    }
}
