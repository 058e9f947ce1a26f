//! Video usability information that AVC and HEVC share: sample aspect ratio and frame rate.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::bits::BitReader;
use super::{CodecError, ColorInfo};

/// Sample (pixel) aspect ratio in lowest terms; both sides above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SampleAspectRatio {
    /// Horizontal size, arbitrary units.
    pub width: u16,
    /// Vertical size, same units.
    pub height: u16,
}

impl SampleAspectRatio {
    /// Square samples.
    pub const SQUARE: SampleAspectRatio = SampleAspectRatio { width: 1, height: 1 };

    /// From `aspect_ratio_idc` (ISO/IEC 14496-10 table E-1, ISO/IEC 23008-2 table E.1); `None` for 0 (unspecified),
    /// 255 (extended, written out) and reserved values.
    #[must_use]
    pub fn from_idc(aspect_ratio_idc: u8) -> Option<Self> {
        let (width, height) = match aspect_ratio_idc {
            1 => (1, 1),
            2 => (12, 11),
            3 => (10, 11),
            4 => (16, 11),
            5 => (40, 33),
            6 => (24, 11),
            7 => (20, 11),
            8 => (32, 11),
            9 => (80, 33),
            10 => (18, 11),
            11 => (15, 11),
            12 => (64, 33),
            13 => (160, 99),
            14 => (4, 3),
            15 => (3, 2),
            16 => (2, 1),
            _ => return None,
        };
        Some(SampleAspectRatio { width, height })
    }

    /// Reads `aspect_ratio_info_present_flag` and what follows it. An extended ratio with a zero side is unspecified.
    pub(crate) fn read(reader: &mut BitReader<'_>) -> Result<Option<Self>, CodecError> {
        if !reader.flag()? {
            return Ok(None);
        }
        match reader.read_u8(8)? {
            255 => {
                let (width, height) = (reader.read_u16(16)?, reader.read_u16(16)?);
                // In lowest terms: encoders exist that write 65535:65535.
                Ok(
                    common_divisor(u64::from(width), u64::from(height)).map(|divisor| SampleAspectRatio {
                        width: (u64::from(width) / divisor) as u16,
                        height: (u64::from(height) / divisor) as u16,
                    }),
                )
            }
            idc => Ok(Self::from_idc(idc)),
        }
    }
}

/// Frames per second as a fraction in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameRate {
    /// Frames in `den` seconds, above zero.
    pub num: u64,
    /// Seconds, above zero.
    pub den: u64,
    /// The bit stream promises that this rate does not change.
    pub fixed: bool,
}

impl FrameRate {
    /// `num / den` in lowest terms; `None` when either is zero.
    #[must_use]
    pub fn new(num: u64, den: u64, fixed: bool) -> Option<Self> {
        common_divisor(num, den).map(|divisor| FrameRate {
            num: num / divisor,
            den: den / divisor,
            fixed,
        })
    }
}

/// Greatest common divisor; `None` when either number is zero.
fn common_divisor(one: u64, other: u64) -> Option<u64> {
    let (mut greater, mut lesser) = (one, other);
    while lesser != 0 {
        (greater, lesser) = (lesser, greater % lesser);
    }
    (one > 0 && other > 0).then_some(greater)
}

/// Reads `video_signal_type_present_flag` and what follows it.
pub(crate) fn read_video_signal_type(reader: &mut BitReader<'_>) -> Result<Option<ColorInfo>, CodecError> {
    if !reader.flag()? {
        return Ok(None);
    }
    reader.skip(3)?; // video_format
    let full_range = reader.flag()?;
    let mut color = ColorInfo {
        full_range,
        ..ColorInfo::UNSPECIFIED
    };
    if reader.flag()? {
        color.primaries = reader.read_u8(8)?;
        color.transfer = reader.read_u8(8)?;
        color.matrix = reader.read_u8(8)?;
    }
    Ok(Some(color))
}

#[cfg(test)]
mod tests {
    use super::super::bits::BitWriter;
    use super::*;

    #[test]
    fn frame_rate_is_in_lowest_terms() {
        assert_eq!(
            FrameRate::new(60_000, 2_002, true),
            Some(FrameRate {
                num: 30_000,
                den: 1_001,
                fixed: true
            })
        );
        assert_eq!(FrameRate::new(0, 1, true), None);
        assert_eq!(FrameRate::new(1, 0, false), None);
    }

    #[test]
    fn aspect_ratio_table() {
        assert_eq!(
            SampleAspectRatio::from_idc(14),
            Some(SampleAspectRatio { width: 4, height: 3 })
        );
        assert_eq!(SampleAspectRatio::from_idc(0), None);
        assert_eq!(SampleAspectRatio::from_idc(17), None);
        for ((width, height), sar) in [
            ((64, 33), Some(SampleAspectRatio { width: 64, height: 33 })),
            ((0xffff, 0xffff), Some(SampleAspectRatio::SQUARE)),
            ((0, 33), None),
            ((64, 0), None),
        ] {
            let mut writer = BitWriter::new();
            writer.write(0x1ff, 9);
            writer.write(width, 16);
            writer.write(height, 16);
            let bytes = writer.into_bytes();
            assert_eq!(SampleAspectRatio::read(&mut BitReader::new(&bytes, "t")), Ok(sar));
        }
    }
}
