//! AC-4 (ETSI TS 103 190): `dac4` and codec strings.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::CodecError;
use super::bits::BitReader;

/// `ac4_dsi_v1()`, the payload of `dac4` (ETSI TS 103 190-2 E.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dac4 {
    /// `bitstream_version`.
    pub bitstream_version: u8,
    /// Samples per second: 44,100 or 48,000.
    pub sampling_rate: u32,
    /// `frame_rate_index`, 0 to 15.
    pub frame_rate_index: u8,
    /// `bit_rate` in bit/s, 0 when unknown.
    pub bitrate_bps: u32,
    /// Presentations, the default first; at least one.
    pub presentations: Vec<Presentation>,
}

/// One presentation of [`Dac4`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presentation {
    /// `presentation_version`: 0, 1, or 2 for immersive stereo.
    pub version: u8,
    /// `mdcompat`: decoder compatibility, 0 to 7.
    pub mdcompat: u8,
    /// `presentation_channel_mask_v1` (table A.27 gives the groups); `None` for object audio and version 0.
    pub channel_mask: Option<u32>,
}

impl Dac4 {
    const WHAT: &'static str = "dac4";

    /// Reads the payload of `dac4`.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(payload, Self::WHAT);
        let version = reader.read(3)?;
        if version != 1 {
            return Err(CodecError::Unsupported {
                what: Self::WHAT,
                feature: "ac4_dsi_version",
                value: u64::from(version),
            });
        }
        let bitstream_version = reader.read_u8(7)?;
        let sampling_rate = if reader.flag()? { 48_000 } else { 44_100 };
        let frame_rate_index = reader.read_u8(4)?;
        let presentation_count = reader.read(9)?;
        if presentation_count == 0 {
            return Err(reader.invalid("n_presentations", 0));
        }
        if bitstream_version > 1 && reader.flag()? {
            reader.skip(16)?; // short_program_id
            if reader.flag()? {
                reader.skip(128)?; // program_uuid
            }
        }
        reader.skip(2)?; // bit_rate_mode
        let bitrate_bps = reader.read(32)?;
        reader.skip(32)?; // bit_rate_precision
        reader.align()?;
        let mut presentations = Vec::new();
        for _ in 0..presentation_count {
            let version = reader.read_u8(8)?;
            let mut size_bytes = reader.read(8)?;
            if size_bytes == 255 {
                size_bytes += reader.read(16)?;
            }
            let body = reader.bytes(size_bytes as usize)?;
            presentations.push(Presentation::parse(version, body)?);
        }
        Ok(Dac4 {
            bitstream_version,
            sampling_rate,
            frame_rate_index,
            bitrate_bps,
            presentations,
        })
    }

    /// Channels of the default presentation; `None` when it is not channel-based.
    #[must_use]
    pub fn channels(&self) -> Option<u8> {
        self.presentations.first()?.channels()
    }

    /// RFC 6381 string `ac-4.bb.pp.mm` of the default presentation (ETSI TS 103 190-2 E.13).
    #[must_use]
    pub fn rfc6381(&self) -> String {
        let (version, mdcompat) = self
            .presentations
            .first()
            .map_or((0, 0), |first| (first.version, first.mdcompat));
        format!("ac-4.{:02}.{version:02}.{mdcompat:02}", self.bitstream_version)
    }
}

impl Presentation {
    /// Reads `ac4_presentation_v0_dsi()` or `ac4_presentation_v1_dsi()` as far as the channel mask. Later versions say
    /// nothing that could be read here.
    fn parse(version: u8, body: &[u8]) -> Result<Self, CodecError> {
        let mut presentation = Presentation {
            version,
            mdcompat: 0,
            channel_mask: None,
        };
        if version > 2 {
            return Ok(presentation);
        }
        let mut reader = BitReader::new(body, "dac4 presentation");
        let configuration = reader.read(5)?;
        if configuration == 6 {
            return Ok(presentation); // only additional metadata substreams
        }
        presentation.mdcompat = reader.read_u8(3)?;
        if version == 0 {
            return Ok(presentation);
        }
        if reader.flag()? {
            reader.skip(5)?; // presentation_id
        }
        reader.skip(2 + 2 + 5 + 10)?; // frame rate multiply and fraction, emdf version, key id
        if reader.flag()? {
            let channel_mode = reader.read(5)?;
            if (11..=14).contains(&channel_mode) {
                reader.skip(3)?; // pres_b_4_back_channels_present, pres_top_channel_pairs
            }
            presentation.channel_mask = Some(reader.read(24)?);
        }
        Ok(presentation)
    }

    /// Channels of a channel-based presentation.
    #[must_use]
    pub fn channels(&self) -> Option<u8> {
        // Speaker groups that are pairs: L/R, Ls/Rs, Lb/Rb, Tfl/Tfr, Tbl/Tbr, Tl/Tr, Tsl/Tsr, Bfl/Bfr, Lscr/Rscr,
        // Lw/Rw and Vhl/Vhr.
        const PAIRS: u32 = 0b111_0010_0001_1011_1101;
        /// Bit 23 marks an object-based presentation.
        const OBJECTS: u32 = 1 << 23;
        let mask = self.channel_mask.filter(|mask| mask & OBJECTS == 0)?;
        Some((mask.count_ones() + (mask & PAIRS).count_ones()) as u8)
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::codec::tests::hex;

    #[test]
    fn box_of_a_real_file() {
        let bytes = hex(
            "20a402400000001fffffffe00212f880000042000002501000000310995ba0800112f8800000420000025010000003\
                         10995b8080",
        );
        let dac4 = Dac4::parse(&bytes).expect("valid");
        assert_eq!(
            (dac4.bitstream_version, dac4.sampling_rate, dac4.frame_rate_index),
            (2, 48_000, 2)
        );
        assert_eq!((dac4.rfc6381().as_str(), dac4.channels()), ("ac-4.02.02.00", Some(2)));
        let versions: Vec<_> = dac4
            .presentations
            .iter()
            .map(|one| (one.version, one.channel_mask))
            .collect();
        assert_eq!(versions, [(2, Some(1)), (1, Some(1))]);
        for cut in 0..bytes.len() {
            assert!(Dac4::parse(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn channels_of_a_mask() {
        let channels = |mask| {
            Presentation {
                version: 1,
                mdcompat: 0,
                channel_mask: Some(mask),
            }
            .channels()
        };
        for (mask, count) in [
            (0x1, 2),
            (0x2, 1),
            (0x7, 5),
            (0x47, 6),
            (0x4f, 8),
            (0x7f, 12),
            (1 << 23, 0),
        ] {
            assert_eq!(channels(mask), Some(count).filter(|&count| count > 0), "{mask:#x}");
        }
    }

    #[test]
    fn impossible_boxes_are_refused() {
        assert!(Dac4::parse(&hex("00a402400000001fffffffe0")).is_err());
        assert!(Dac4::parse(&hex("20a400400000001fffffffe0")).is_err());
        assert!(Dac4::parse(&[0xff; 40]).is_err());
    }
}
