//! ADTS frame header of AAC (ISO/IEC 13818-7 6.2, ISO/IEC 14496-3 1.A.2).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{AudioSpecificConfig, sampling_rate, sampling_rate_index};
use crate::codec::CodecError;
use crate::codec::bits::{BitReader, BitWriter};

/// Size of the header without CRC.
pub const HEADER_SIZE_BYTES: usize = 7;

/// Longest frame the 13-bit length field can state, header included.
pub const FRAME_SIZE_BYTES_MAX: usize = 8_191;

/// `adts_fixed_header()` and `adts_variable_header()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdtsHeader {
    /// `ID`: MPEG-2 AAC, else MPEG-4.
    pub mpeg2: bool,
    /// Audio object type (`profile_ObjectType` + 1), 1 to 4.
    pub object_type: u8,
    /// Sampling rate of the core coder in Hz.
    pub sampling_rate: u32,
    /// `channel_configuration`, 0 to 7; 0 puts the channels in the frame itself.
    pub channel_configuration: u8,
    /// Bytes of header and CRC, before the first raw data block.
    pub header_size_bytes: usize,
    /// `aac_frame_length`: bytes of the whole frame, header included.
    pub frame_size_bytes: usize,
    /// `number_of_raw_data_blocks_in_frame` + 1, 1 to 4; each has 1024 samples.
    pub raw_block_count: u8,
}

impl AdtsHeader {
    /// Reads a header at the start of `data`.
    pub fn parse(data: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(data, "adts header");
        let sync = reader.read(12)?;
        if sync != 0xfff {
            return Err(reader.invalid("syncword", u64::from(sync)));
        }
        let mpeg2 = reader.flag()?;
        let layer = reader.read(2)?;
        if layer != 0 {
            return Err(reader.invalid("layer", u64::from(layer)));
        }
        let protection_absent = reader.flag()?;
        let object_type = reader.read_u8(2)? + 1;
        let rate_index = reader.read_u8(4)?;
        let sampling_rate = sampling_rate(rate_index)
            .ok_or_else(|| reader.invalid("sampling_frequency_index", u64::from(rate_index)))?;
        reader.skip(1)?; // private_bit
        let channel_configuration = reader.read_u8(3)?;
        reader.skip(4)?; // original_copy, home, two copyright bits
        let frame_size_bytes = reader.read(13)? as usize;
        reader.skip(11)?; // adts_buffer_fullness
        let raw_block_count = reader.read_u8(2)? + 1;
        // With CRC, the positions of all but the first block come before it.
        let check_size_bytes = if protection_absent {
            0
        } else {
            2 * usize::from(raw_block_count)
        };
        let header_size_bytes = HEADER_SIZE_BYTES + check_size_bytes;
        if frame_size_bytes < header_size_bytes {
            return Err(reader.invalid("aac_frame_length", frame_size_bytes as u64));
        }
        Ok(AdtsHeader {
            mpeg2,
            object_type,
            sampling_rate,
            channel_configuration,
            header_size_bytes,
            frame_size_bytes,
            raw_block_count,
        })
    }

    /// The configuration of a track made of such frames. Fails when the channels are in the frame (configuration 0).
    pub fn audio_specific_config(&self) -> Result<AudioSpecificConfig, CodecError> {
        AudioSpecificConfig::plain(self.object_type, self.sampling_rate, self.channel_configuration)
    }

    /// The header, without CRC, of an MPEG-4 frame with one raw data block of `payload_size_bytes`. Extensions are
    /// signalled by the frames alone, as ADTS has no field for them. Fails when the stream has no ADTS form.
    pub fn write(config: &AudioSpecificConfig, payload_size_bytes: usize) -> Result<[u8; 7], CodecError> {
        let unsupported = |feature, value| CodecError::Unsupported {
            what: "adts header",
            feature,
            value,
        };
        if !(1..=4).contains(&config.object_type) || config.frame_length != 1_024 {
            return Err(unsupported("audio object type", u64::from(config.object_type)));
        }
        let rate_index = sampling_rate_index(config.sampling_rate)
            .ok_or_else(|| unsupported("sampling rate", u64::from(config.sampling_rate)))?;
        if !(1..=7).contains(&config.channel_configuration) {
            return Err(unsupported(
                "channel configuration",
                u64::from(config.channel_configuration),
            ));
        }
        let frame_size_bytes = payload_size_bytes.saturating_add(HEADER_SIZE_BYTES);
        if frame_size_bytes > FRAME_SIZE_BYTES_MAX {
            return Err(unsupported("frame size", frame_size_bytes as u64));
        }
        let mut writer = BitWriter::new();
        writer.write(0xfff1, 16); // sync, MPEG-4, layer 0, no CRC
        writer.write(u64::from(config.object_type - 1), 2);
        writer.write(u64::from(rate_index), 4);
        writer.write(0, 1);
        writer.write(u64::from(config.channel_configuration), 3);
        writer.write(0, 4);
        writer.write(frame_size_bytes as u64, 13);
        writer.write(0x7ff, 11); // buffer fullness: variable rate
        writer.write(0, 2);
        let bytes: Result<[u8; 7], _> = writer.into_bytes().try_into();
        bytes.map_err(|_| unsupported("header size", 0))
    }
}
