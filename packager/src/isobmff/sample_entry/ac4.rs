//! `dac4`: the decoder configuration of AC-4 (ETSI TS 103 190-2 annex E), as far as signalling needs it.

use crate::codec::CodecError;
use crate::codec::bits::BitReader;

/// What `ac4_dsi_v1` says of the first presentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dac4 {
    pub bitstream_version: u8,
    pub presentation_version: u8,
    pub md_compat: u8,
    /// Hz.
    pub sample_rate: u32,
    /// `None` for objects.
    pub channel_count: Option<u16>,
}

/// Channels by `dsi_presentation_ch_mode` (table E.14), LFE included.
const MODE_CHANNELS: [u16; 16] = [1, 2, 3, 5, 6, 7, 8, 7, 8, 7, 8, 11, 12, 13, 14, 24];

impl Dac4 {
    /// Reads the payload of `dac4`. A record whose presentations are of no known form is read up to them.
    pub(super) fn parse(payload: &[u8]) -> Result<Dac4, CodecError> {
        let mut reader = BitReader::new(payload, "dac4");
        let version = reader.read_u8(3)?;
        if version != 1 {
            return Err(CodecError::Unsupported {
                what: "dac4",
                feature: "ac4_dsi_version",
                value: u64::from(version),
            });
        }
        let bitstream_version = reader.read_u8(7)?;
        let sample_rate = if reader.flag()? { 48_000 } else { 44_100 };
        reader.skip(4)?; // frame_rate_index
        let presentation_count = reader.read_u16(9)?;
        if bitstream_version > 1 && reader.flag()? {
            reader.skip(16)?; // short_program_id
            if reader.flag()? {
                reader.skip(128)?; // program_uuid
            }
        }
        reader.skip(2 + 32 + 32)?; // ac4_bitrate_dsi
        reader.align()?;
        let mut config = Dac4 {
            bitstream_version,
            presentation_version: 0,
            md_compat: 0,
            sample_rate,
            channel_count: None,
        };
        if presentation_count > 0 {
            config.presentation_version = reader.read_u8(8)?;
            if reader.read(8)? == 255 {
                reader.skip(16)?; // add_pres_bytes
            }
            if matches!(config.presentation_version, 1 | 2) {
                config.read_presentation(&mut reader)?;
            }
        }
        Ok(config)
    }

    /// The start of `ac4_presentation_v1_dsi` (E.10).
    fn read_presentation(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        if reader.read(5)? == 6 {
            return Ok(()); // only extensible metadata
        }
        self.md_compat = reader.read_u8(3)?;
        if reader.flag()? {
            reader.skip(5)?; // presentation_id
        }
        reader.skip(2 + 2 + 5 + 10)?; // frame rate factors, EMDF version and key
        if reader.flag()? {
            let mode = reader.read_u8(5)?;
            self.channel_count = MODE_CHANNELS.get(usize::from(mode)).copied();
        }
        Ok(())
    }

    /// `ac-4.bb.pp.mm` in hexadecimal (ETSI TS 103 190-2 E.13).
    pub(super) fn rfc6381(&self) -> String {
        format!(
            "ac-4.{:02x}.{:02x}.{:02x}",
            self.bitstream_version, self.presentation_version, self.md_compat
        )
    }
}
