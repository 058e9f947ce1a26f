//! HEVC (H.265, ISO/IEC 23008-2): `hvcC`, NAL unit types, codec strings.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pps;
mod profile;
mod reference;
mod slice;
mod sps;

pub use pps::Pps;
pub use profile::ProfileTierLevel;
pub use reference::ShortTermRefPicSet;
pub use slice::{ParameterSets, SliceSegmentHeader};
pub use sps::{Sps, Vps};

use super::CodecError;
use super::bits::{BitReader, BitWriter, unescape_rbsp};

/// An access unit delimiter NAL unit that allows any slice type.
pub const ACCESS_UNIT_DELIMITER: [u8; 3] = [0x46, 0x01, 0x50];

/// `nal_unit_type` (ISO/IEC 23008-2 table 7-1), 0 to 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NalType(pub u8);

impl NalType {
    /// Broken link access with leading pictures, the first of three BLA types (16 to 18).
    pub const BLA_W_LP: NalType = NalType(16);
    /// Instantaneous decoding refresh that may have decodable leading pictures.
    pub const IDR_W_RADL: NalType = NalType(19);
    /// Instantaneous decoding refresh without leading pictures.
    pub const IDR_N_LP: NalType = NalType(20);
    /// Clean random access: leading pictures may be undecodable after a start here.
    pub const CRA: NalType = NalType(21);
    /// Video parameter set.
    pub const VPS: NalType = NalType(32);
    /// Sequence parameter set.
    pub const SPS: NalType = NalType(33);
    /// Picture parameter set.
    pub const PPS: NalType = NalType(34);
    /// Access unit delimiter.
    pub const ACCESS_UNIT_DELIMITER: NalType = NalType(35);
    /// SEI before the picture.
    pub const PREFIX_SEI: NalType = NalType(39);
    /// SEI after the picture.
    pub const SUFFIX_SEI: NalType = NalType(40);
    /// Dolby Vision RPU (an unspecified type that Dolby uses).
    pub const DOLBY_VISION_RPU: NalType = NalType(62);
    /// Dolby Vision enhancement layer (an unspecified type that Dolby uses).
    pub const DOLBY_VISION_EL: NalType = NalType(63);

    /// Type of a NAL unit; `None` when it is shorter than its two-byte header.
    #[must_use]
    pub fn of(nal: &[u8]) -> Option<Self> {
        match nal {
            [first, _, ..] => Some(NalType((first >> 1) & 0x3f)),
            _ => None,
        }
    }

    /// Whether the unit holds coded picture data (0 to 31).
    #[must_use]
    pub fn is_vcl(self) -> bool {
        self.0 < 32
    }

    /// Intra random access point: BLA, IDR, CRA and the two reserved types (16 to 23).
    #[must_use]
    pub fn is_irap(self) -> bool {
        (16..=23).contains(&self.0)
    }

    /// Instantaneous decoding refresh.
    #[must_use]
    pub fn is_idr(self) -> bool {
        self == NalType::IDR_W_RADL || self == NalType::IDR_N_LP
    }

    /// Clean random access.
    #[must_use]
    pub fn is_cra(self) -> bool {
        self == NalType::CRA
    }

    /// Broken link access.
    #[must_use]
    pub fn is_bla(self) -> bool {
        (16..=18).contains(&self.0)
    }

    /// Random access decodable leading picture.
    #[must_use]
    pub fn is_radl(self) -> bool {
        matches!(self.0, 6 | 7)
    }

    /// Random access skipped leading picture: not decodable after a start at its CRA or BLA picture.
    #[must_use]
    pub fn is_rasl(self) -> bool {
        matches!(self.0, 8 | 9)
    }

    /// VPS, SPS or PPS.
    #[must_use]
    pub fn is_parameter_set(self) -> bool {
        (32..=34).contains(&self.0)
    }
}

/// `nuh_layer_id` of a NAL unit, 0 for the base layer; `None` when it is shorter than its header.
#[must_use]
pub fn layer_id(nal: &[u8]) -> Option<u8> {
    match nal {
        [first, second, ..] => Some(((first & 1) << 5) | (second >> 3)),
        _ => None,
    }
}

/// Type of the first base-layer slice of an access unit; what is random access is decided by it alone.
pub fn picture_type<'a>(units: impl IntoIterator<Item = &'a [u8]>) -> Option<NalType> {
    units
        .into_iter()
        .filter(|nal| layer_id(nal) == Some(0))
        .filter_map(NalType::of)
        .find(|nal_type| nal_type.is_vcl())
}

/// `first_slice_segment_in_pic_flag`: whether a slice NAL unit begins a picture.
#[must_use]
pub fn is_first_slice(slice_nal: &[u8]) -> bool {
    NalType::of(slice_nal).is_some_and(NalType::is_vcl) && slice_nal.get(2).is_some_and(|byte| byte & 0x80 != 0)
}

/// `HEVCDecoderConfigurationRecord`, the payload of `hvcC` (ISO/IEC 14496-15:2022 8.3.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HevcConfig {
    /// General profile, tier and level.
    pub profile: ProfileTierLevel,
    /// `min_spatial_segmentation_idc`, 0 to 4,095.
    pub min_spatial_segmentation: u16,
    /// `parallelismType`: 0 unknown or mixed, 1 slices, 2 tiles, 3 wavefront.
    pub parallelism_type: u8,
    /// `chroma_format_idc`, 0 to 3.
    pub chroma_format: u8,
    /// Bits per luma sample, 8 to 15.
    pub bit_depth_luma: u8,
    /// Bits per chroma sample, 8 to 15.
    pub bit_depth_chroma: u8,
    /// Frames in 256 seconds, 0 when unspecified.
    pub avg_frame_rate: u16,
    /// `constantFrameRate`: 0 unknown, 1 constant, 2 constant in each temporal layer.
    pub constant_frame_rate: u8,
    /// `numTemporalLayers`, 0 when unknown.
    pub temporal_layer_count: u8,
    /// `temporalIdNested`.
    pub temporal_id_nested: bool,
    /// Bytes of each NAL unit's length prefix: 1, 2 or 4.
    pub nal_length_size: u8,
    /// NAL units by type.
    pub arrays: Vec<NalArray>,
}

/// NAL units of one type in `hvcC`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NalArray {
    /// `array_completeness`: no unit of this type is in the samples; true in `hvc1`, may be false in `hev1`.
    pub complete: bool,
    /// `NAL_unit_type`.
    pub nal_type: NalType,
    /// The units, two-byte headers included.
    pub units: Vec<Vec<u8>>,
}

impl HevcConfig {
    const WHAT: &'static str = "hvcC";

    /// Reads the payload of `hvcC`.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(payload, Self::WHAT);
        let version = reader.read_u8(8)?;
        // Version 0 was written before the standard was final, with the same layout.
        if version > 1 {
            return Err(reader.invalid("configurationVersion", u64::from(version)));
        }
        let mut profile = ProfileTierLevel::read_general(&mut reader)?;
        profile.level = reader.read_u8(8)?;
        reader.skip(4)?;
        let min_spatial_segmentation = reader.read_u16(12)?;
        reader.skip(6)?;
        let parallelism_type = reader.read_u8(2)?;
        reader.skip(6)?;
        let chroma_format = reader.read_u8(2)?;
        reader.skip(5)?;
        let bit_depth_luma = reader.read_u8(3)? + 8;
        reader.skip(5)?;
        let bit_depth_chroma = reader.read_u8(3)? + 8;
        let avg_frame_rate = reader.read_u16(16)?;
        let constant_frame_rate = reader.read_u8(2)?;
        let temporal_layer_count = reader.read_u8(3)?;
        let temporal_id_nested = reader.flag()?;
        let nal_length_size = reader.read_u8(2)? + 1;
        if nal_length_size == 3 {
            return Err(reader.invalid("lengthSizeMinusOne", 2));
        }
        let array_count = reader.read(8)?;
        let arrays = (0..array_count)
            .map(|_| NalArray::read(&mut reader))
            .collect::<Result<_, _>>()?;
        Ok(HevcConfig {
            profile,
            min_spatial_segmentation,
            parallelism_type,
            chroma_format,
            bit_depth_luma,
            bit_depth_chroma,
            avg_frame_rate,
            constant_frame_rate,
            temporal_layer_count,
            temporal_id_nested,
            nal_length_size,
            arrays,
        })
    }

    /// Builds the record from base-layer parameter set NAL units in any order, with four-byte length prefixes and every
    /// array complete. Other units and layers are left out. Where several SPS differ, the record states what a decoder
    /// of all of them needs (8.3.3.1.3).
    pub fn build(units: &[&[u8]]) -> Result<Self, CodecError> {
        let of_type = |wanted: NalType| {
            let base = units
                .iter()
                .filter(move |nal| layer_id(nal) == Some(0) && NalType::of(nal) == Some(wanted));
            base.copied().collect::<Vec<_>>()
        };
        let (vps, sps, pps) = (of_type(NalType::VPS), of_type(NalType::SPS), of_type(NalType::PPS));
        for (units, field) in [
            (&vps, "a video parameter set"),
            (&sps, "a sequence parameter set"),
            (&pps, "a picture parameter set"),
        ] {
            if units.is_empty() {
                return Err(CodecError::Missing {
                    what: Self::WHAT,
                    field,
                });
            }
        }
        let parsed = sps.iter().map(|nal| Sps::parse(nal)).collect::<Result<Vec<_>, _>>()?;
        let first = parsed.first().ok_or(CodecError::Missing {
            what: Self::WHAT,
            field: "a sequence parameter set",
        })?;
        let mut profile = first.profile.clone();
        for other in &parsed {
            profile.widen(&other.profile);
        }
        let min_spatial_segmentation = parsed.iter().map(|sps| sps.min_spatial_segmentation).min().unwrap_or(0);
        let parallelism_type = if min_spatial_segmentation == 0 {
            0
        } else {
            let mut kinds = Vec::new();
            for nal in &pps {
                kinds.push(Pps::parse(nal)?.parallelism_type());
            }
            kinds.dedup();
            if let [one] = kinds[..] { one } else { 0 }
        };
        let arrays = [(NalType::VPS, vps), (NalType::SPS, sps), (NalType::PPS, pps)]
            .into_iter()
            .map(|(nal_type, units)| NalArray {
                complete: true,
                nal_type,
                units: units.into_iter().map(<[u8]>::to_vec).collect(),
            })
            .collect();
        Ok(HevcConfig {
            profile,
            min_spatial_segmentation,
            parallelism_type,
            chroma_format: first.chroma_format,
            bit_depth_luma: first.bit_depth_luma,
            bit_depth_chroma: first.bit_depth_chroma,
            avg_frame_rate: 0,
            constant_frame_rate: 0,
            temporal_layer_count: first.temporal_layer_count,
            temporal_id_nested: first.temporal_id_nesting,
            nal_length_size: 4,
            arrays,
        })
    }

    /// The payload of `hvcC`, arrays in the order VPS, SPS, PPS, then the others as they stand. Fails when there are
    /// more units, or longer ones, than the record can hold.
    pub fn serialise(&self) -> Result<Vec<u8>, CodecError> {
        let mut writer = BitWriter::new();
        writer.write(1, 8);
        self.profile.write_general(&mut writer);
        writer.write(u64::from(self.profile.level), 8);
        writer.write(0b1111, 4);
        writer.write(u64::from(self.min_spatial_segmentation & 0xfff), 12);
        writer.write(0b11_1111, 6);
        writer.write(u64::from(self.parallelism_type & 3), 2);
        writer.write(0b11_1111, 6);
        writer.write(u64::from(self.chroma_format & 3), 2);
        for depth in [self.bit_depth_luma, self.bit_depth_chroma] {
            writer.write(0b1_1111, 5);
            writer.write(u64::from(depth.saturating_sub(8).min(7)), 3);
        }
        writer.write(u64::from(self.avg_frame_rate), 16);
        writer.write(u64::from(self.constant_frame_rate & 3), 2);
        writer.write(u64::from(self.temporal_layer_count & 7), 3);
        writer.flag(self.temporal_id_nested);
        if !matches!(self.nal_length_size, 1 | 2 | 4) {
            return Err(too_many("lengthSizeMinusOne", usize::from(self.nal_length_size)));
        }
        writer.write(u64::from(self.nal_length_size - 1), 2);
        let array_count = u8::try_from(self.arrays.len()).map_err(|_| too_many("numOfArrays", self.arrays.len()))?;
        writer.write(u64::from(array_count), 8);
        let mut arrays: Vec<&NalArray> = self.arrays.iter().collect();
        // Stable: only the three parameter set types are moved, to the front.
        arrays.sort_by_key(|array| {
            if array.nal_type.is_parameter_set() {
                array.nal_type.0
            } else {
                u8::MAX
            }
        });
        for array in arrays {
            array.write(&mut writer)?;
        }
        Ok(writer.into_bytes())
    }

    /// All units of one type, in order.
    pub fn units(&self, nal_type: NalType) -> impl Iterator<Item = &[u8]> {
        self.arrays
            .iter()
            .filter(move |array| array.nal_type == nal_type)
            .flat_map(|array| array.units.iter().map(Vec::as_slice))
    }

    /// RFC 6381 string for the given sample entry (`hvc1` or `hev1`).
    #[must_use]
    pub fn rfc6381(&self, sample_entry: &str) -> String {
        self.profile.rfc6381(sample_entry)
    }
}

impl NalArray {
    fn read(reader: &mut BitReader<'_>) -> Result<Self, CodecError> {
        let complete = reader.flag()?;
        reader.skip(1)?;
        let nal_type = NalType(reader.read_u8(6)?);
        let count = reader.read(16)?;
        let mut units = Vec::new();
        for _ in 0..count {
            let size_bytes = reader.read(16)?;
            // Copied: parameter sets outlive the box they came in, and are some tens of bytes.
            units.push(reader.bytes(size_bytes as usize)?.to_vec());
        }
        Ok(NalArray {
            complete,
            nal_type,
            units,
        })
    }

    fn write(&self, writer: &mut BitWriter) -> Result<(), CodecError> {
        writer.flag(self.complete);
        writer.write(0, 1);
        writer.write(u64::from(self.nal_type.0 & 0x3f), 6);
        let count = u16::try_from(self.units.len()).map_err(|_| too_many("numNalus", self.units.len()))?;
        writer.bytes(&count.to_be_bytes());
        for unit in &self.units {
            let size_bytes = u16::try_from(unit.len()).map_err(|_| too_many("nalUnitLength", unit.len()))?;
            writer.bytes(&size_bytes.to_be_bytes());
            writer.bytes(unit);
        }
        Ok(())
    }
}

fn too_many(field: &'static str, count: usize) -> CodecError {
    CodecError::Invalid {
        what: HevcConfig::WHAT,
        field,
        offset_bits: 0,
        value: count as u64,
    }
}

/// The RBSP of a parameter set and a reader behind its NAL unit header; refuses other types and layers above the base.
fn parameter_set<'a>(
    nal: &'a [u8],
    wanted: NalType,
    what: &'static str,
) -> Result<std::borrow::Cow<'a, [u8]>, CodecError> {
    let truncated = CodecError::Truncated {
        what,
        offset_bits: 0,
        want_bits: 16,
        have_bits: nal.len() as u64 * 8,
    };
    let nal_type = NalType::of(nal).ok_or(truncated)?;
    let layer = layer_id(nal).ok_or(truncated)?;
    if nal_type != wanted {
        return Err(CodecError::Invalid {
            what,
            field: "nal_unit_type",
            offset_bits: 1,
            value: u64::from(nal_type.0),
        });
    }
    if layer != 0 {
        return Err(CodecError::Unsupported {
            what,
            feature: "nuh_layer_id",
            value: u64::from(layer),
        });
    }
    Ok(unescape_rbsp(nal.get(2..).unwrap_or_default()))
}

#[cfg(test)]
#[path = "hevc/tests.rs"]
mod tests;
