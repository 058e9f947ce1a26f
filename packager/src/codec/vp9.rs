//! VP9 (VP9 Bitstream & Decoding Process Specification 0.7): frame header, superframe index, `vpcC`, codec strings.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod header;

pub use header::{ReferenceSizes, uncompressed_header_size};

use super::bits::{BitReader, BitWriter};
use super::{CodecError, ColorInfo};
use std::ops::Range;

/// The first fields of `uncompressed_header()` (6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Profile, 0 to 3.
    pub profile: u8,
    /// `show_existing_frame`: no frame of its own.
    pub show_existing_frame: bool,
    /// `show_frame`.
    pub show_frame: bool,
    /// `frame_type` is KEY_FRAME.
    pub key_frame: bool,
    /// What key frames and intra-only frames say of the sequence; `None` for others.
    pub format: Option<FrameFormat>,
}

/// Sample format and size, from key frames and intra-only frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameFormat {
    /// Bits per sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// `color_space`, 0 to 7; intra-only frames of profile 0 have BT.601.
    pub color_space: u8,
    /// `color_range`: full range.
    pub full_range: bool,
    /// `subsampling_x`.
    pub subsampling_x: bool,
    /// `subsampling_y`.
    pub subsampling_y: bool,
    /// Luma samples per row.
    pub width: u32,
    /// Luma rows.
    pub height: u32,
}

impl FrameHeader {
    /// Reads the header of one frame (not of a superframe: see [`frames`]).
    pub fn parse(frame: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(frame, "vp9 frame header");
        let marker = reader.read(2)?;
        if marker != 2 {
            return Err(reader.invalid("frame_marker", u64::from(marker)));
        }
        let profile = reader.read_u8(1)? | (reader.read_u8(1)? << 1);
        if profile == 3 && reader.flag()? {
            return Err(reader.invalid("reserved_zero", 1));
        }
        let mut header = FrameHeader {
            profile,
            show_existing_frame: reader.flag()?,
            show_frame: true,
            key_frame: false,
            format: None,
        };
        if header.show_existing_frame {
            return Ok(header);
        }
        header.key_frame = !reader.flag()?;
        header.show_frame = reader.flag()?;
        let error_resilient = reader.flag()?;
        if header.key_frame {
            read_sync_code(&mut reader)?;
            let mut format = FrameFormat::read_color_config(&mut reader, profile)?;
            format.read_size(&mut reader)?;
            header.format = Some(format);
        } else if !header.show_frame && reader.flag()? {
            if !error_resilient {
                reader.skip(2)?; // reset_frame_context
            }
            read_sync_code(&mut reader)?;
            let mut format = if profile > 0 {
                FrameFormat::read_color_config(&mut reader, profile)?
            } else {
                FrameFormat::INTRA_ONLY_PROFILE_0
            };
            reader.skip(8)?; // refresh_frame_flags
            format.read_size(&mut reader)?;
            header.format = Some(format);
        }
        Ok(header)
    }
}

fn read_sync_code(reader: &mut BitReader<'_>) -> Result<(), CodecError> {
    match reader.read(24)? {
        0x49_8342 => Ok(()),
        other => Err(reader.invalid("frame_sync_code", u64::from(other))),
    }
}

impl FrameFormat {
    const INTRA_ONLY_PROFILE_0: FrameFormat = FrameFormat {
        bit_depth: 8,
        color_space: 1,
        full_range: false,
        subsampling_x: true,
        subsampling_y: true,
        width: 0,
        height: 0,
    };

    /// `color_config()` (6.2.2).
    fn read_color_config(reader: &mut BitReader<'_>, profile: u8) -> Result<Self, CodecError> {
        let bit_depth = match profile {
            0 | 1 => 8,
            _ if reader.flag()? => 12,
            _ => 10,
        };
        let color_space = reader.read_u8(3)?;
        let odd = profile % 2 == 1;
        let (mut full_range, mut subsampling) = (true, (false, false));
        if color_space == 7 {
            if !odd {
                return Err(reader.invalid("color_space", 7));
            }
        } else {
            full_range = reader.flag()?;
            subsampling = if odd {
                (reader.flag()?, reader.flag()?)
            } else {
                (true, true)
            };
        }
        if odd && reader.flag()? {
            return Err(reader.invalid("reserved_zero", 1));
        }
        let (subsampling_x, subsampling_y) = subsampling;
        Ok(FrameFormat {
            bit_depth,
            color_space,
            full_range,
            subsampling_x,
            subsampling_y,
            width: 0,
            height: 0,
        })
    }

    fn read_size(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        self.width = reader.read(16)? + 1;
        self.height = reader.read(16)? + 1;
        Ok(())
    }

    /// What the bit stream says of colour, in CICP code points: the matrix, for VP9 knows no transfer function; sRGB
    /// implies all three.
    #[must_use]
    pub fn color(&self) -> ColorInfo {
        let (primaries, transfer, matrix) = match self.color_space {
            1 => (2, 2, 5),
            2 => (2, 2, 1),
            3 => (2, 2, 6),
            4 => (2, 2, 7),
            5 => (2, 2, 9),
            7 => (1, 13, 0),
            _ => (2, 2, 2),
        };
        ColorInfo {
            primaries,
            transfer,
            matrix,
            full_range: self.full_range,
        }
    }
}

/// The frames of a superframe (annex B), in decoding order; one range when there is no index. Frames without bytes are
/// left out.
pub fn frames(sample: &[u8]) -> Result<Vec<Range<usize>>, CodecError> {
    let whole = || {
        if sample.is_empty() {
            Vec::new()
        } else {
            std::iter::once(0..sample.len()).collect()
        }
    };
    let Some(&marker) = sample.last() else {
        return Ok(whole());
    };
    if marker & 0xe0 != 0xc0 {
        return Ok(whole());
    }
    let frame_count = usize::from(marker & 7) + 1;
    let size_bytes = usize::from((marker >> 3) & 3) + 1;
    let index_size_bytes = 2 + frame_count * size_bytes;
    let Some(index_start) = sample.len().checked_sub(index_size_bytes) else {
        return Ok(whole());
    };
    let index = sample.get(index_start..).unwrap_or_default();
    // Without the marker on both ends the last byte is frame data.
    if index.first() != Some(&marker) {
        return Ok(whole());
    }
    let mut ranges = Vec::with_capacity(frame_count);
    let mut start = 0_usize;
    for size in index
        .get(1..)
        .unwrap_or_default()
        .chunks_exact(size_bytes)
        .take(frame_count)
    {
        let size = size
            .iter()
            .rev()
            .fold(0_usize, |size, &byte| (size << 8) | usize::from(byte));
        let end = start
            .checked_add(size)
            .filter(|&end| end <= index_start)
            .ok_or(CodecError::Truncated {
                what: "vp9 superframe",
                offset_bits: start as u64 * 8,
                want_bits: (size as u64).saturating_mul(8),
                have_bits: index_start.saturating_sub(start) as u64 * 8,
            })?;
        if size > 0 {
            ranges.push(start..end);
        }
        start = end;
    }
    Ok(ranges)
}

/// Whether a sample begins with a key frame.
pub fn is_key_frame(sample: &[u8]) -> Result<bool, CodecError> {
    let missing = CodecError::Missing {
        what: "vp9 sample",
        field: "a frame",
    };
    let first = frames(sample)?.into_iter().next().ok_or(missing)?;
    Ok(FrameHeader::parse(sample.get(first).unwrap_or_default())?.key_frame)
}

/// Lowest level that allows this picture size and rate (VP9 levels, annex A of the specification), as ten times the level;
/// 62 when none does. The luma sample rate is compared exactly: `width * height * rate_num / rate_den`.
#[must_use]
pub fn level_for(width: u32, height: u32, frame_rate_num: u64, frame_rate_den: u64) -> u8 {
    // Level, luma samples per second, luma picture size, longest side.
    const LEVELS: [(u8, u64, u64, u32); 14] = [
        (10, 829_440, 36_864, 512),
        (11, 2_764_800, 73_728, 768),
        (20, 4_608_000, 122_880, 960),
        (21, 9_216_000, 245_760, 1_344),
        (30, 20_736_000, 552_960, 2_048),
        (31, 36_864_000, 983_040, 2_752),
        (40, 83_558_400, 2_228_224, 4_160),
        (41, 160_432_128, 2_228_224, 4_160),
        (50, 311_951_360, 8_912_896, 8_384),
        (51, 588_251_136, 8_912_896, 8_384),
        (52, 1_176_502_272, 8_912_896, 8_384),
        (60, 1_176_502_272, 35_651_584, 16_832),
        (61, 2_353_004_544, 35_651_584, 16_832),
        (62, 4_706_009_088, 35_651_584, 16_832),
    ];
    let picture = u64::from(width) * u64::from(height);
    let samples = u128::from(picture) * u128::from(frame_rate_num);
    LEVELS
        .iter()
        .find(|&&(_, rate_max, picture_max, side_max)| {
            picture <= picture_max
                && width.max(height) <= side_max
                && samples <= u128::from(rate_max) * u128::from(frame_rate_den)
        })
        .map_or(62, |&(level, ..)| level)
}

/// `VPCodecConfigurationRecord`, the payload of `vpcC` (VP Codec ISO Media File Format Binding 1.0), for VP8 and VP9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VpConfig {
    /// Profile, 0 to 3.
    pub profile: u8,
    /// Ten times the level; 0 when the writer did not know, which FFmpeg's does not.
    pub level: u8,
    /// Bits per sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// 0 4:2:0 vertical, 1 4:2:0 co-located with luma (0,0), 2 4:2:2, 3 4:4:4.
    pub chroma_subsampling: u8,
    /// Colour description.
    pub color: ColorInfo,
}

impl VpConfig {
    const WHAT: &'static str = "vpcC";

    /// Reads the payload of `vpcC`, version and flags included.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(payload, Self::WHAT);
        let version = reader.read_u8(8)?;
        reader.skip(24)?;
        if version != 1 {
            // Version 0 was a draft with other fields in the same places.
            return Err(CodecError::Unsupported {
                what: Self::WHAT,
                feature: "version",
                value: u64::from(version),
            });
        }
        let profile = reader.read_u8(8)?;
        let level = reader.read_u8(8)?;
        let bit_depth = reader.read_u8(4)?;
        let chroma_subsampling = reader.read_u8(3)?;
        let full_range = reader.flag()?;
        let color = ColorInfo {
            primaries: reader.read_u8(8)?,
            transfer: reader.read_u8(8)?,
            matrix: reader.read_u8(8)?,
            full_range,
        };
        reader.skip(16)?; // codecInitializationDataSize, which must be zero for both codecs
        Ok(VpConfig {
            profile,
            level,
            bit_depth,
            chroma_subsampling,
            color,
        })
    }

    /// Builds a complete VP9 record from a key frame. Chroma is taken as co-located, the binding's default, because the
    /// bit stream does not say; the level is the lowest that allows size and rate.
    pub fn build(key_frame: &[u8], frame_rate_num: u64, frame_rate_den: u64) -> Result<Self, CodecError> {
        let header = FrameHeader::parse(key_frame)?;
        let format = header.format.ok_or(CodecError::Missing {
            what: Self::WHAT,
            field: "a key frame",
        })?;
        Ok(VpConfig {
            profile: header.profile,
            level: level_for(format.width, format.height, frame_rate_num, frame_rate_den),
            bit_depth: format.bit_depth,
            chroma_subsampling: match (format.subsampling_x, format.subsampling_y) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => {
                    return Err(CodecError::Unsupported {
                        what: Self::WHAT,
                        feature: "4:4:0 profile",
                        value: 1,
                    });
                }
            },
            color: format.color(),
        })
    }

    /// This record with its level computed when it has none.
    #[must_use]
    pub fn complete(mut self, width: u32, height: u32, frame_rate_num: u64, frame_rate_den: u64) -> Self {
        if self.level == 0 {
            self.level = level_for(width, height, frame_rate_num, frame_rate_den);
        }
        self
    }

    /// The payload of `vpcC`, version 1 and flags included.
    #[must_use]
    pub fn serialise(&self) -> Vec<u8> {
        let mut writer = BitWriter::new();
        writer.bytes(&[1, 0, 0, 0, self.profile, self.level]);
        writer.write(u64::from(self.bit_depth & 15), 4);
        writer.write(u64::from(self.chroma_subsampling & 7), 3);
        writer.flag(self.color.full_range);
        writer.bytes(&[self.color.primaries, self.color.transfer, self.color.matrix, 0, 0]);
        writer.into_bytes()
    }

    /// RFC 6381 string `vp09.PP.LL.BB[.CC.cp.tc.mc.FF]` for sample entry `vp09` or `vp08`. The optional fields go
    /// together and are left out when each has its default (`01.01.01.01.00`) or says nothing.
    #[must_use]
    pub fn rfc6381(&self, sample_entry: &str) -> String {
        let mut text = format!(
            "{sample_entry}.{:02}.{:02}.{:02}",
            self.profile, self.level, self.bit_depth
        );
        let ColorInfo {
            primaries,
            transfer,
            matrix,
            full_range,
        } = self.color;
        let is_default = [primaries, transfer, matrix]
            .iter()
            .all(|&point| matches!(point, 1 | 2))
            && !full_range;
        if self.chroma_subsampling != 1 || !is_default {
            text.push_str(&format!(
                ".{:02}.{primaries:02}.{transfer:02}.{matrix:02}.{:02}",
                self.chroma_subsampling,
                u8::from(full_range)
            ));
        }
        text
    }
}

#[cfg(test)]
#[path = "vp9/tests.rs"]
mod tests;
