//! VP8 (RFC 6386): key frame header.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::bits::BitReader;
use super::vp9::{self, VpConfig};
use super::{CodecError, ColorInfo};

/// Frame tag and, in key frames, the size (RFC 6386 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// `version`, 0 to 3: which filters are used.
    pub version: u8,
    /// `show_frame`.
    pub show_frame: bool,
    /// Width and height in luma samples; `Some` exactly in key frames.
    pub key_frame_size: Option<(u16, u16)>,
}

impl FrameHeader {
    /// Reads the header of one frame.
    pub fn parse(frame: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(frame, "vp8 frame header");
        // The tag's 24 bits are little-endian, its fields start at the least significant bit.
        let tag = reader.read(8)?;
        reader.skip(16)?; // rest of first_part_size
        let version = (tag >> 1) as u8 & 7;
        if version > 3 {
            return Err(reader.invalid("version", u64::from(version)));
        }
        let mut key_frame_size = None;
        if tag & 1 == 0 {
            let start_code = reader.read(24)?;
            if start_code != 0x9d_012a {
                return Err(reader.invalid("start code", u64::from(start_code)));
            }
            // The upper two bits of each are a scaling hint.
            let width = reader.read_u16(16)?.swap_bytes() & 0x3fff;
            let height = reader.read_u16(16)?.swap_bytes() & 0x3fff;
            if width == 0 || height == 0 {
                return Err(reader.invalid("width or height", 0));
            }
            key_frame_size = Some((width, height));
        }
        Ok(FrameHeader {
            version,
            show_frame: tag & 0x10 != 0,
            key_frame_size,
        })
    }

    /// Whether decoding can start here.
    #[must_use]
    pub fn is_key_frame(&self) -> bool {
        self.key_frame_size.is_some()
    }
}

/// The `vpcC` record of a VP8 track, built from a key frame: 8 bits, 4:2:0, BT.601 matrix (RFC 6386 9.2). VP8 has no
/// levels of its own; those of VP9 are stated, as the binding's codec string wants one.
pub fn config(key_frame: &[u8], frame_rate_num: u64, frame_rate_den: u64) -> Result<VpConfig, CodecError> {
    let header = FrameHeader::parse(key_frame)?;
    let (width, height) = header.key_frame_size.ok_or(CodecError::Missing {
        what: "vpcC",
        field: "a key frame",
    })?;
    Ok(VpConfig {
        profile: header.version,
        level: vp9::level_for(u32::from(width), u32::from(height), frame_rate_num, frame_rate_den),
        bit_depth: 8,
        chroma_subsampling: 1,
        color: ColorInfo::UNSPECIFIED,
    })
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_state_their_size() {
        let frame = [0x50, 0x2b, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x40];
        let header = FrameHeader::parse(&frame).expect("valid");
        assert_eq!(
            (header.version, header.show_frame, header.key_frame_size),
            (0, true, Some((320, 240)))
        );
        assert_eq!(
            config(&frame, 30, 1).expect("key frame").rfc6381("vp08"),
            "vp08.00.20.08"
        );
        for cut in 0..frame.len() {
            assert!(FrameHeader::parse(&frame[..cut]).is_err(), "{cut}");
        }
        assert!(!FrameHeader::parse(&[0x51, 0, 0]).expect("inter frame").is_key_frame());
        assert!(config(&[0x51, 0, 0], 30, 1).is_err());
        for (at, value) in [(0, 0x58), (3, 0x9c), (6, 0)] {
            let mut broken = frame;
            broken[at] = value;
            broken[7] = if at == 6 { 0 } else { 1 };
            assert!(FrameHeader::parse(&broken).is_err(), "{at}");
        }
    }
}
