//! AV1 (AV1 Bitstream & Decoding Process Specification): OBUs, `av1C`, codec strings, key frames.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod frame;
mod sequence;
mod tile;

pub use frame::{FrameHeader, References};
pub use sequence::{DecoderModel, OperatingPoint, SequenceHeader};
pub use tile::TileGrid;

use super::bits::{BitReader, BitWriter};
use super::{CodecError, ColorInfo};
use std::ops::Range;

/// `obu_type` (5.3.2 of the specification, table in 6.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObuType(pub u8);

impl ObuType {
    /// Sequence header.
    pub const SEQUENCE_HEADER: ObuType = ObuType(1);
    /// Temporal delimiter; not stored in ISO BMFF samples.
    pub const TEMPORAL_DELIMITER: ObuType = ObuType(2);
    /// Frame header.
    pub const FRAME_HEADER: ObuType = ObuType(3);
    /// Tile group.
    pub const TILE_GROUP: ObuType = ObuType(4);
    /// Metadata (HDR, timecode, T.35).
    pub const METADATA: ObuType = ObuType(5);
    /// Frame header and tile group in one.
    pub const FRAME: ObuType = ObuType(6);
    /// Repeated frame header; should not be in ISO BMFF samples.
    pub const REDUNDANT_FRAME_HEADER: ObuType = ObuType(7);
    /// Tile list of large-scale tile decoding; must not be in ISO BMFF samples.
    pub const TILE_LIST: ObuType = ObuType(8);
    /// Padding; should not be in ISO BMFF samples.
    pub const PADDING: ObuType = ObuType(15);
}

/// One open bitstream unit, located in the slice it was found in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obu<'a> {
    /// What the unit is.
    pub obu_type: ObuType,
    /// `temporal_id`, 0 without extension.
    pub temporal_id: u8,
    /// `spatial_id`, 0 without extension.
    pub spatial_id: u8,
    /// `obu_has_size_field`; false only for the last unit of a sample.
    pub has_size: bool,
    /// Bytes of the whole unit, header and size field included.
    pub range: Range<usize>,
    /// What follows header and size field.
    pub payload: &'a [u8],
}

/// The OBUs of a temporal unit or sample in low-overhead format (5.2). The first error ends the iteration.
#[must_use]
pub fn obus(data: &[u8]) -> Obus<'_> {
    Obus {
        data,
        offset_bytes: 0,
        failed: false,
    }
}

/// Iterator of [`obus`].
#[derive(Debug, Clone)]
pub struct Obus<'a> {
    data: &'a [u8],
    offset_bytes: usize,
    failed: bool,
}

impl<'a> Obus<'a> {
    fn obu(&mut self) -> Result<Obu<'a>, CodecError> {
        let rest = self.data.get(self.offset_bytes..).unwrap_or_default();
        let mut reader = BitReader::new(rest, "obu header");
        if reader.flag()? {
            return Err(reader.invalid("obu_forbidden_bit", 1));
        }
        let obu_type = ObuType(reader.read_u8(4)?);
        let has_extension = reader.flag()?;
        let has_size = reader.flag()?;
        reader.skip(1)?; // obu_reserved_1bit
        let (mut temporal_id, mut spatial_id) = (0, 0);
        if has_extension {
            temporal_id = reader.read_u8(3)?;
            spatial_id = reader.read_u8(2)?;
            reader.skip(3)?;
        }
        let payload = if has_size {
            let size_bytes = leb128(&mut reader)?;
            reader.bytes(size_bytes as usize)?
        } else {
            reader.rest()?
        };
        let start = self.offset_bytes;
        self.offset_bytes += usize::try_from(reader.position_bits() / 8).unwrap_or(rest.len());
        let range = start..self.offset_bytes;
        Ok(Obu {
            obu_type,
            temporal_id,
            spatial_id,
            has_size,
            range,
            payload,
        })
    }
}

impl<'a> Iterator for Obus<'a> {
    type Item = Result<Obu<'a>, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.offset_bytes >= self.data.len() {
            return None;
        }
        let obu = self.obu();
        self.failed = obu.is_err();
        Some(obu)
    }
}

/// `leb128()` (4.10.5): at most eight bytes and at most 2^32 - 1.
fn leb128(reader: &mut BitReader<'_>) -> Result<u32, CodecError> {
    let mut value = 0_u64;
    for index in 0..8 {
        let more = reader.flag()?;
        value |= u64::from(reader.read(7)?) << (index * 7);
        if !more {
            return u32::try_from(value).map_err(|_| reader.invalid("leb128", value));
        }
    }
    Err(reader.invalid("leb128 size", 9))
}

/// Byte ranges of a temporal unit to keep in an ISO BMFF sample: all but temporal delimiters, padding, redundant frame
/// headers and tile lists (AV1 in ISOBMFF 2.4). Neighbouring ranges are joined.
pub fn sample_ranges(temporal_unit: &[u8]) -> Result<Vec<Range<usize>>, CodecError> {
    const DROPPED: [ObuType; 4] = [
        ObuType::TEMPORAL_DELIMITER,
        ObuType::PADDING,
        ObuType::REDUNDANT_FRAME_HEADER,
        ObuType::TILE_LIST,
    ];
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for obu in obus(temporal_unit) {
        let obu = obu?;
        if DROPPED.contains(&obu.obu_type) {
            continue;
        }
        match ranges.last_mut() {
            Some(last) if last.end == obu.range.start => last.end = obu.range.end,
            _ => ranges.push(obu.range),
        }
    }
    Ok(ranges)
}

/// What a temporal unit offers to someone who starts there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporalUnit {
    /// The sequence header it carries, if any.
    pub sequence_header: Option<SequenceHeader>,
    /// Its first frame is a key frame with `show_frame` = 1.
    pub shown_key_frame: bool,
    /// Its first frame is a key frame with `show_frame` = 0: a delayed random access point.
    pub hidden_key_frame: bool,
}

impl TemporalUnit {
    /// Reads sequence header and first frame header. `sequence_header` is the one in force before this unit, needed when
    /// the unit has none itself.
    pub fn parse(data: &[u8], sequence_header: Option<&SequenceHeader>) -> Result<Self, CodecError> {
        let mut unit = TemporalUnit {
            sequence_header: None,
            shown_key_frame: false,
            hidden_key_frame: false,
        };
        for obu in obus(data) {
            let obu = obu?;
            match obu.obu_type {
                ObuType::SEQUENCE_HEADER => unit.sequence_header = Some(SequenceHeader::parse(obu.payload)?),
                ObuType::FRAME_HEADER | ObuType::FRAME => {
                    let reduced = unit
                        .sequence_header
                        .as_ref()
                        .or(sequence_header)
                        .is_some_and(|header| header.reduced_still_picture_header);
                    unit.read_frame_header(obu.payload, reduced)?;
                    return Ok(unit);
                }
                _ => {}
            }
        }
        Ok(unit)
    }

    fn read_frame_header(&mut self, payload: &[u8], reduced_still_picture_header: bool) -> Result<(), CodecError> {
        if reduced_still_picture_header {
            self.shown_key_frame = true;
            return Ok(());
        }
        let mut reader = BitReader::new(payload, "av1 frame header");
        if reader.flag()? {
            return Ok(()); // show_existing_frame: its key frame was decoded earlier
        }
        let key_frame = reader.read(2)? == 0;
        let show_frame = reader.flag()?;
        self.shown_key_frame = key_frame && show_frame;
        self.hidden_key_frame = key_frame && !show_frame;
        Ok(())
    }

    /// Whether the unit may be marked as sync sample (AV1 in ISOBMFF 2.5): a shown key frame, its sequence header along.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        self.shown_key_frame && self.sequence_header.is_some()
    }
}

/// `AV1CodecConfigurationRecord`, the payload of `av1C` (AV1 in ISOBMFF 2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Av1Config {
    /// `seq_profile`, 0 Main, 1 High, 2 Professional.
    pub profile: u8,
    /// `seq_level_idx_0`, 0 to 31; 31 means no bound.
    pub level: u8,
    /// `seq_tier_0`: high tier.
    pub high_tier: bool,
    /// Bits per sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// `monochrome`.
    pub monochrome: bool,
    /// `chroma_subsampling_x`.
    pub subsampling_x: bool,
    /// `chroma_subsampling_y`.
    pub subsampling_y: bool,
    /// `chroma_sample_position`: 0 unknown, 1 vertical, 2 co-located.
    pub chroma_sample_position: u8,
    /// `initial_presentation_delay_minus_one`, when present.
    pub initial_presentation_delay_minus_one: Option<u8>,
    /// OBUs valid for the whole track: at most one sequence header, first, and metadata.
    pub config_obus: Vec<u8>,
}

impl Av1Config {
    /// Reads the payload of `av1C`.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(payload, "av1C");
        let marker_and_version = reader.read_u8(8)?;
        if marker_and_version != 0x81 {
            return Err(reader.invalid("marker and version", u64::from(marker_and_version)));
        }
        let profile = reader.read_u8(3)?;
        let level = reader.read_u8(5)?;
        let high_tier = reader.flag()?;
        let high_bit_depth = reader.flag()?;
        let twelve_bit = reader.flag()?;
        let monochrome = reader.flag()?;
        let subsampling_x = reader.flag()?;
        let subsampling_y = reader.flag()?;
        let chroma_sample_position = reader.read_u8(2)?;
        reader.skip(3)?;
        let delay_present = reader.flag()?;
        let delay = reader.read_u8(4)?;
        Ok(Av1Config {
            profile,
            level,
            high_tier,
            bit_depth: match (high_bit_depth, twelve_bit) {
                (true, true) => 12,
                (true, false) => 10,
                (false, _) => 8,
            },
            monochrome,
            subsampling_x,
            subsampling_y,
            chroma_sample_position,
            initial_presentation_delay_minus_one: delay_present.then_some(delay),
            config_obus: reader.rest()?.to_vec(),
        })
    }

    /// Builds the record from a sequence header OBU, its header and size field included.
    pub fn build(sequence_header_obu: &[u8]) -> Result<Self, CodecError> {
        let missing = CodecError::Missing {
            what: "av1C",
            field: "a sequence header",
        };
        let obu = obus(sequence_header_obu).next().ok_or(missing)??;
        if obu.obu_type != ObuType::SEQUENCE_HEADER {
            return Err(missing);
        }
        let header = SequenceHeader::parse(obu.payload)?;
        let mut config_obus = Vec::new();
        if obu.has_size {
            config_obus.extend_from_slice(sequence_header_obu.get(obu.range).unwrap_or_default());
        } else {
            // configOBUs need a size field (2.3.4). A sequence header is far below 128 bytes, but leb128 may take two.
            let mut writer = BitWriter::new();
            writer.write(0x0a, 8); // sequence header, with size field
            let size = obu.payload.len() as u64 & 0x3fff;
            writer.write(0x80 | (size & 0x7f), 8);
            writer.write(size >> 7, 8);
            writer.bytes(obu.payload);
            config_obus = writer.into_bytes();
        }
        Ok(Av1Config {
            profile: header.profile,
            level: header.level(),
            high_tier: header.high_tier(),
            bit_depth: header.bit_depth,
            monochrome: header.monochrome,
            subsampling_x: header.subsampling_x,
            subsampling_y: header.subsampling_y,
            chroma_sample_position: header.chroma_sample_position,
            initial_presentation_delay_minus_one: None,
            config_obus,
        })
    }

    /// The payload of `av1C`.
    #[must_use]
    pub fn serialise(&self) -> Vec<u8> {
        let mut writer = BitWriter::new();
        writer.write(0x81, 8);
        writer.write(u64::from(self.profile & 7), 3);
        writer.write(u64::from(self.level & 31), 5);
        writer.flag(self.high_tier);
        writer.flag(self.bit_depth > 8);
        writer.flag(self.bit_depth > 10);
        writer.flag(self.monochrome);
        writer.flag(self.subsampling_x);
        writer.flag(self.subsampling_y);
        writer.write(u64::from(self.chroma_sample_position & 3), 2);
        writer.write(0, 3);
        writer.flag(self.initial_presentation_delay_minus_one.is_some());
        writer.write(
            u64::from(self.initial_presentation_delay_minus_one.unwrap_or(0) & 15),
            4,
        );
        writer.bytes(&self.config_obus);
        writer.into_bytes()
    }

    /// The sequence header among the configuration OBUs; `None` when the track leaves it to the samples.
    pub fn sequence_header(&self) -> Result<Option<SequenceHeader>, CodecError> {
        for obu in obus(&self.config_obus) {
            let obu = obu?;
            if obu.obu_type == ObuType::SEQUENCE_HEADER {
                return SequenceHeader::parse(obu.payload).map(Some);
            }
        }
        Ok(None)
    }

    /// RFC 6381 string; `color` comes from the sequence header.
    #[must_use]
    pub fn rfc6381(&self, color: ColorInfo) -> String {
        let chroma = (self.subsampling_x, self.subsampling_y, self.chroma_sample_position);
        rfc6381(
            self.profile,
            self.level,
            self.high_tier,
            self.bit_depth,
            self.monochrome,
            chroma,
            color,
        )
    }
}

/// `av01.P.LLT.BB[.M.CCC.cp.tc.mc.F]` (AV1 in ISOBMFF section 5). The optional fields go together and are left out when
/// each has its default (`0.110.01.01.01.0`); a colour description that says nothing counts as default.
fn rfc6381(
    profile: u8,
    level: u8,
    high_tier: bool,
    bit_depth: u8,
    monochrome: bool,
    (subsampling_x, subsampling_y, chroma_sample_position): (bool, bool, u8),
    color: ColorInfo,
) -> String {
    let tier = if high_tier { 'H' } else { 'M' };
    let mut text = format!("av01.{profile}.{level:02}{tier}.{bit_depth:02}");
    let position = if subsampling_x && subsampling_y {
        chroma_sample_position
    } else {
        0
    };
    let tail = format!(
        ".{}.{}{}{position}.{:02}.{:02}.{:02}.{}",
        u8::from(monochrome),
        u8::from(subsampling_x),
        u8::from(subsampling_y),
        color.primaries,
        color.transfer,
        color.matrix,
        u8::from(color.full_range)
    );
    if !matches!(tail.as_str(), ".0.110.01.01.01.0" | ".0.110.02.02.02.0") {
        text.push_str(&tail);
    }
    text
}

#[cfg(test)]
#[path = "av1/tests.rs"]
mod tests;
