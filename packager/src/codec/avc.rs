//! AVC (H.264, ISO/IEC 14496-10): `avcC`, NAL unit types, slices' first fields, recovery points, codec strings.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pps;
mod slice;
mod sps;

pub use pps::Pps;
pub use slice::{ParameterSets, SliceHeader};
pub use sps::{PicOrderCnt, Sps};

use super::bits::{BitReader, BitWriter, unescape_rbsp};
use super::{CodecError, sei};

/// An access unit delimiter NAL unit that allows any slice type.
pub const ACCESS_UNIT_DELIMITER: [u8; 2] = [0x09, 0xf0];

/// `nal_unit_type` (ISO/IEC 14496-10 table 7-1), as far as packaging cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NalType {
    /// 1: slice of a non-IDR picture.
    Slice,
    /// 2 to 4: slice data partition A, B or C.
    Partition,
    /// 5: slice of an IDR picture.
    Idr,
    /// 6.
    Sei,
    /// 7.
    Sps,
    /// 8.
    Pps,
    /// 9.
    AccessUnitDelimiter,
    /// 10.
    EndOfSequence,
    /// 11.
    EndOfStream,
    /// 12.
    Filler,
    /// 13.
    SpsExtension,
    /// 14: prefix NAL unit of SVC or MVC.
    Prefix,
    /// 15.
    SubsetSps,
    /// 19: slice of an auxiliary picture.
    Auxiliary,
    /// 20: slice extension of SVC or MVC.
    SliceExtension,
    /// Anything else.
    Other(u8),
}

impl NalType {
    /// Type of a NAL unit; `None` when it is empty.
    #[must_use]
    pub fn of(nal: &[u8]) -> Option<Self> {
        Some(match nal.first()? & 0x1f {
            1 => NalType::Slice,
            2..=4 => NalType::Partition,
            5 => NalType::Idr,
            6 => NalType::Sei,
            7 => NalType::Sps,
            8 => NalType::Pps,
            9 => NalType::AccessUnitDelimiter,
            10 => NalType::EndOfSequence,
            11 => NalType::EndOfStream,
            12 => NalType::Filler,
            13 => NalType::SpsExtension,
            14 => NalType::Prefix,
            15 => NalType::SubsetSps,
            19 => NalType::Auxiliary,
            20 => NalType::SliceExtension,
            other => NalType::Other(other),
        })
    }

    /// Whether the unit holds coded picture data (`nal_unit_type` 1 to 5).
    #[must_use]
    pub fn is_vcl(self) -> bool {
        matches!(self, NalType::Slice | NalType::Partition | NalType::Idr)
    }
}

/// Whether the NAL unit is a slice of an IDR picture.
#[must_use]
pub fn is_idr(nal: &[u8]) -> bool {
    NalType::of(nal) == Some(NalType::Idr)
}

/// `slice_type` modulo 5 (ISO/IEC 14496-10 table 7-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SliceType {
    /// Predicted.
    P,
    /// Bi-predicted.
    B,
    /// Intra.
    I,
    /// Switching predicted.
    Sp,
    /// Switching intra.
    Si,
}

/// The first three fields of a slice header, which no parameter set is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceStart {
    /// `first_mb_in_slice`; 0 begins a picture in streams without arbitrary slice order.
    pub first_mb: u32,
    /// What the slice may refer to.
    pub slice_type: SliceType,
    /// `pic_parameter_set_id`.
    pub pps_id: u8,
}

impl SliceStart {
    /// Reads the start of a slice NAL unit (types 1, 2 and 5).
    pub fn parse(nal: &[u8]) -> Result<Self, CodecError> {
        // Three Exp-Golomb codes of at most 63 bits each: 24 bytes, and half as many again of prevention bytes.
        let head = unescape_rbsp(nal.get(1..nal.len().min(40)).unwrap_or_default());
        let mut reader = BitReader::new(&head, "avc slice header");
        let first_mb = reader.ue()?;
        let slice_type = match reader.ue_max("slice_type", 9)? % 5 {
            0 => SliceType::P,
            1 => SliceType::B,
            2 => SliceType::I,
            3 => SliceType::Sp,
            _ => SliceType::Si,
        };
        let pps_id = reader.ue_max("pic_parameter_set_id", 255)? as u8;
        Ok(SliceStart {
            first_mb,
            slice_type,
            pps_id,
        })
    }
}

/// Recovery point SEI message (ISO/IEC 14496-10 D.2.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryPoint {
    /// Frames, in `frame_num` increments, until output is correct; 0 is an open-GOP random access point.
    pub frame_count: u32,
    /// Pictures after the point match those of decoding from the start exactly.
    pub exact_match: bool,
    /// Pictures that precede the point in output order may be damaged (edited stream).
    pub broken_link: bool,
}

/// The recovery point of an SEI NAL unit, if it holds one. Damaged SEI counts as none, for nothing depends on it.
#[must_use]
pub fn recovery_point(sei_nal: &[u8]) -> Option<RecoveryPoint> {
    let rbsp = unescape_rbsp(sei_nal.get(1..)?);
    let payload = sei::payload(&rbsp, sei::RECOVERY_POINT)?;
    let mut reader = BitReader::new(payload, "avc recovery point");
    Some(RecoveryPoint {
        frame_count: reader.ue().ok()?,
        exact_match: reader.flag().ok()?,
        broken_link: reader.flag().ok()?,
    })
}

/// Whether an SEI NAL unit holds a recovery point message.
#[must_use]
pub fn is_recovery_point(sei_nal: &[u8]) -> bool {
    NalType::of(sei_nal) == Some(NalType::Sei) && recovery_point(sei_nal).is_some()
}

/// How an access unit lends itself to starting playback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RandomAccess {
    /// An IDR picture: nothing after it refers to anything before it.
    Idr,
    /// A recovery point with an I slice first: decodable from here, but leading pictures may be lost.
    Recovery(RecoveryPoint),
    /// Not a place to start.
    None,
}

/// Classifies an access unit by its NAL units.
pub fn random_access<'a>(units: impl IntoIterator<Item = &'a [u8]>) -> RandomAccess {
    let mut recovery = None;
    for nal in units {
        match NalType::of(nal) {
            Some(NalType::Idr) => return RandomAccess::Idr,
            Some(NalType::Sei) => recovery = recovery.or_else(|| recovery_point(nal)),
            Some(NalType::Slice | NalType::Partition) => {
                let intra = SliceStart::parse(nal).is_ok_and(|slice| slice.slice_type == SliceType::I);
                return match recovery {
                    Some(point) if intra || point.frame_count > 0 => RandomAccess::Recovery(point),
                    _ => RandomAccess::None,
                };
            }
            _ => {}
        }
    }
    RandomAccess::None
}

/// RFC 6381 string `avc1.PPCCLL`: sample entry, then `profile_idc`, constraint flags and `level_idc` in hexadecimal.
#[must_use]
pub fn rfc6381(sample_entry: &str, profile: u8, constraints: u8, level: u8) -> String {
    format!("{sample_entry}.{profile:02X}{constraints:02X}{level:02X}")
}

/// `AVCDecoderConfigurationRecord`, the payload of `avcC` (ISO/IEC 14496-15:2022 5.3.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvcConfig {
    /// `AVCProfileIndication`.
    pub profile: u8,
    /// `profile_compatibility`: the constraint flags byte of the SPS.
    pub constraints: u8,
    /// `AVCLevelIndication`.
    pub level: u8,
    /// Bytes of each NAL unit's length prefix: 1, 2 or 4.
    pub nal_length_size: u8,
    /// SPS NAL units, at most 31; empty in `avc3` tracks.
    pub sps: Vec<Vec<u8>>,
    /// PPS NAL units, at most 255.
    pub pps: Vec<Vec<u8>>,
    /// Written for profiles 100, 110, 122 and 144 (and 244); old files leave it out.
    pub high: Option<HighProfile>,
}

/// What `avcC` adds for the High profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HighProfile {
    /// `chroma_format_idc`, 0 to 3.
    pub chroma_format: u8,
    /// Bits per luma sample, 8 to 15.
    pub bit_depth_luma: u8,
    /// Bits per chroma sample, 8 to 15.
    pub bit_depth_chroma: u8,
    /// SPS extension NAL units (alpha).
    pub sps_ext: Vec<Vec<u8>>,
}

impl AvcConfig {
    const WHAT: &'static str = "avcC";

    /// Reads the payload of `avcC`.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(payload, Self::WHAT);
        let version = reader.read_u8(8)?;
        if version != 1 {
            return Err(reader.invalid("configurationVersion", u64::from(version)));
        }
        let profile = reader.read_u8(8)?;
        let constraints = reader.read_u8(8)?;
        let level = reader.read_u8(8)?;
        // Reserved bits are not checked: writers exist that leave them zero.
        reader.skip(6)?;
        let nal_length_size = reader.read_u8(2)? + 1;
        if nal_length_size == 3 {
            return Err(reader.invalid("lengthSizeMinusOne", 2));
        }
        reader.skip(3)?;
        let sps_count = reader.read(5)?;
        let sps = read_units(&mut reader, sps_count)?;
        let pps_count = reader.read(8)?;
        let pps = read_units(&mut reader, pps_count)?;
        let high = match profile {
            66 | 77 | 88 => None,
            _ if reader.bits_left() < 32 => None,
            _ => Some(Self::parse_high(&mut reader)?),
        };
        Ok(AvcConfig {
            profile,
            constraints,
            level,
            nal_length_size,
            sps,
            pps,
            high,
        })
    }

    fn parse_high(reader: &mut BitReader<'_>) -> Result<HighProfile, CodecError> {
        reader.skip(6)?;
        let chroma_format = reader.read_u8(2)?;
        reader.skip(5)?;
        let bit_depth_luma = reader.read_u8(3)? + 8;
        reader.skip(5)?;
        let bit_depth_chroma = reader.read_u8(3)? + 8;
        let count = reader.read(8)?;
        let sps_ext = read_units(reader, count)?;
        Ok(HighProfile {
            chroma_format,
            bit_depth_luma,
            bit_depth_chroma,
            sps_ext,
        })
    }

    /// Builds the record from parameter set NAL units, with four-byte length prefixes. Profile and level come from the
    /// first SPS.
    pub fn build(sps: &[&[u8]], pps: &[&[u8]]) -> Result<Self, CodecError> {
        let first = sps.first().ok_or(CodecError::Missing {
            what: Self::WHAT,
            field: "a sequence parameter set",
        })?;
        if pps.is_empty() {
            return Err(CodecError::Missing {
                what: Self::WHAT,
                field: "a picture parameter set",
            });
        }
        let parsed = Sps::parse(first)?;
        let high = (!matches!(parsed.profile, 66 | 77 | 88)).then_some(HighProfile {
            chroma_format: parsed.chroma_format,
            bit_depth_luma: parsed.bit_depth_luma,
            bit_depth_chroma: parsed.bit_depth_chroma,
            sps_ext: Vec::new(),
        });
        Ok(AvcConfig {
            profile: parsed.profile,
            constraints: parsed.constraints,
            level: parsed.level,
            nal_length_size: 4,
            sps: sps.iter().map(|unit| unit.to_vec()).collect(),
            pps: pps.iter().map(|unit| unit.to_vec()).collect(),
            high,
        })
    }

    /// The payload of `avcC`. Fails when there are more units, or longer ones, than the record can hold.
    pub fn serialise(&self) -> Result<Vec<u8>, CodecError> {
        let mut writer = BitWriter::new();
        writer.bytes(&[1, self.profile, self.constraints, self.level]);
        if !matches!(self.nal_length_size, 1 | 2 | 4) {
            return Err(too_many("lengthSizeMinusOne", usize::from(self.nal_length_size)));
        }
        writer.write(0b11_1111, 6);
        writer.write(u64::from(self.nal_length_size - 1), 2);
        writer.write(0b111, 3);
        if self.sps.len() > 31 {
            return Err(too_many("numOfSequenceParameterSets", self.sps.len()));
        }
        writer.write(self.sps.len() as u64, 5);
        write_units(&mut writer, &self.sps)?;
        if self.pps.len() > 255 {
            return Err(too_many("numOfPictureParameterSets", self.pps.len()));
        }
        writer.write(self.pps.len() as u64, 8);
        write_units(&mut writer, &self.pps)?;
        if let Some(high) = &self.high {
            if high.sps_ext.len() > 255 {
                return Err(too_many("numOfSequenceParameterSetExt", high.sps_ext.len()));
            }
            writer.write(0b11_1111, 6);
            writer.write(u64::from(high.chroma_format & 3), 2);
            for depth in [high.bit_depth_luma, high.bit_depth_chroma] {
                writer.write(0b1_1111, 5);
                writer.write(u64::from(depth.saturating_sub(8).min(7)), 3);
            }
            writer.write(high.sps_ext.len() as u64, 8);
            write_units(&mut writer, &high.sps_ext)?;
        }
        Ok(writer.into_bytes())
    }

    /// RFC 6381 string for the given sample entry (`avc1` or `avc3`).
    #[must_use]
    pub fn rfc6381(&self, sample_entry: &str) -> String {
        rfc6381(sample_entry, self.profile, self.constraints, self.level)
    }
}

fn too_many(field: &'static str, count: usize) -> CodecError {
    CodecError::Invalid {
        what: AvcConfig::WHAT,
        field,
        offset_bits: 0,
        value: count as u64,
    }
}

/// `count` NAL units, each behind a 16-bit length; `count` is at most 255 by its field.
fn read_units(reader: &mut BitReader<'_>, count: u32) -> Result<Vec<Vec<u8>>, CodecError> {
    (0..count)
        .map(|_| {
            let size_bytes = reader.read(16)?;
            // Copied: parameter sets outlive the box they came in, and are some tens of bytes.
            reader.bytes(size_bytes as usize).map(<[u8]>::to_vec)
        })
        .collect()
}

fn write_units(writer: &mut BitWriter, units: &[Vec<u8>]) -> Result<(), CodecError> {
    for unit in units {
        let size_bytes = u16::try_from(unit.len()).map_err(|_| too_many("parameterSetLength", unit.len()))?;
        writer.bytes(&size_bytes.to_be_bytes());
        writer.bytes(unit);
    }
    Ok(())
}

#[cfg(test)]
#[path = "avc/tests.rs"]
mod tests;
