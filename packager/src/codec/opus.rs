//! Opus (RFC 6716): `dOps`, `OpusHead` and packet durations.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::CodecError;
use super::bits::BitReader;

/// Opus always decodes to 48 kHz; durations and pre-skip count in this rate.
pub const SAMPLING_RATE: u32 = 48_000;

/// Longest packet: 120 ms.
const PACKET_SAMPLES_MAX: u32 = 5_760;

/// Identification of a stream: `dOps` in ISO BMFF (big-endian), `OpusHead` in Ogg and Matroska (little-endian).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpusConfig {
    /// `OutputChannelCount`, above zero.
    pub channels: u8,
    /// Samples at 48 kHz to drop at the start.
    pub pre_skip: u16,
    /// Sampling rate before encoding, for display only; 0 when unknown.
    pub input_sampling_rate: u32,
    /// Output gain in dB, 8 fractional bits.
    pub output_gain: i16,
    /// `ChannelMappingFamily`: 0 mono or stereo, 1 Vorbis order, 2 and 3 ambisonics, 255 none.
    pub mapping_family: u8,
    /// Stream layout of families other than 0.
    pub mapping: Option<ChannelMapping>,
}

/// How coded streams become output channels (RFC 7845 5.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelMapping {
    /// `StreamCount`.
    pub stream_count: u8,
    /// `CoupledCount`: those of the streams that are stereo.
    pub coupled_count: u8,
    /// One entry per output channel; family 3 has its demixing matrix here instead.
    pub mapping: Vec<u8>,
}

impl OpusConfig {
    /// Reads the payload of `dOps` (Encapsulation of Opus in ISO BMFF 4.3.2).
    pub fn parse_dops(payload: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(payload, "dOps");
        let version = reader.read_u8(8)?;
        if version != 0 {
            return Err(reader.invalid("Version", u64::from(version)));
        }
        let channels = reader.read_u8(8)?;
        let pre_skip = reader.read_u16(16)?;
        let input_sampling_rate = reader.read(32)?;
        let output_gain = reader.read_u16(16)?.cast_signed();
        Self::read_mapping(&mut reader, channels, pre_skip, input_sampling_rate, output_gain)
    }

    /// Reads an `OpusHead` packet (RFC 7845 5.1).
    pub fn parse_head(packet: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(packet, "OpusHead");
        if reader.bytes(8)? != b"OpusHead" {
            return Err(reader.invalid("magic signature", 0));
        }
        let version = reader.read_u8(8)?;
        // The upper half is the major version; minor ones stay compatible.
        if version >> 4 != 0 {
            return Err(reader.invalid("version", u64::from(version)));
        }
        let channels = reader.read_u8(8)?;
        let pre_skip = reader.read_u16(16)?.swap_bytes();
        let input_sampling_rate = reader.read(32)?.swap_bytes();
        let output_gain = reader.read_u16(16)?.swap_bytes().cast_signed();
        Self::read_mapping(&mut reader, channels, pre_skip, input_sampling_rate, output_gain)
    }

    /// The part without byte order.
    fn read_mapping(
        reader: &mut BitReader<'_>,
        channels: u8,
        pre_skip: u16,
        input_sampling_rate: u32,
        output_gain: i16,
    ) -> Result<Self, CodecError> {
        let mapping_family = reader.read_u8(8)?;
        let channels_max = if mapping_family == 0 { 2 } else { 255 };
        if channels == 0 || channels > channels_max {
            return Err(reader.invalid("OutputChannelCount", u64::from(channels)));
        }
        let mut mapping = None;
        if mapping_family != 0 {
            let stream_count = reader.read_u8(8)?;
            let coupled_count = reader.read_u8(8)?;
            let decoded = u16::from(stream_count) + u16::from(coupled_count);
            if stream_count == 0 || coupled_count > stream_count || decoded > 255 {
                return Err(reader.invalid("StreamCount", u64::from(stream_count)));
            }
            let size_bytes = match mapping_family {
                // Demixing matrix of 16-bit entries, RFC 8486 3.2.
                3 => 2 * usize::from(channels) * usize::from(decoded),
                _ => usize::from(channels),
            };
            let table = reader.bytes(size_bytes)?;
            let unknown = table.iter().find(|&&index| index != 255 && u16::from(index) >= decoded);
            if let (false, Some(&index)) = (mapping_family == 3, unknown) {
                return Err(reader.invalid("ChannelMapping", u64::from(index)));
            }
            mapping = Some(ChannelMapping {
                stream_count,
                coupled_count,
                mapping: table.to_vec(),
            });
        }
        Ok(OpusConfig {
            channels,
            pre_skip,
            input_sampling_rate,
            output_gain,
            mapping_family,
            mapping,
        })
    }

    /// The payload of `dOps`. `InputSampleRate` says 48 kHz, as the sample entry does, whatever the rate before encoding was:
    /// Chromium refuses to play where the two differ, and nobody else looks.
    #[must_use]
    pub fn serialise_dops(&self) -> Vec<u8> {
        let mut bytes = vec![0, self.channels];
        bytes.extend(self.pre_skip.to_be_bytes());
        bytes.extend(SAMPLING_RATE.to_be_bytes());
        bytes.extend(self.output_gain.to_be_bytes());
        self.extend_mapping(bytes)
    }

    /// An `OpusHead` packet, version 1.
    #[must_use]
    pub fn serialise_head(&self) -> Vec<u8> {
        let mut bytes = b"OpusHead\x01".to_vec();
        bytes.push(self.channels);
        bytes.extend(self.pre_skip.to_le_bytes());
        bytes.extend(self.input_sampling_rate.to_le_bytes());
        bytes.extend(self.output_gain.to_le_bytes());
        self.extend_mapping(bytes)
    }

    fn extend_mapping(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.push(self.mapping_family);
        if let Some(mapping) = &self.mapping {
            bytes.extend([mapping.stream_count, mapping.coupled_count]);
            bytes.extend(&mapping.mapping);
        }
        bytes
    }
}

/// Samples at 48 kHz of a packet, by its table-of-contents byte (RFC 6716 3.1 and 3.2).
pub fn packet_samples(packet: &[u8]) -> Result<u32, CodecError> {
    let mut reader = BitReader::new(packet, "opus packet");
    let configuration = reader.read(5)?;
    reader.skip(1)?; // stereo
    let frame_count = match reader.read(2)? {
        0 => 1,
        1 | 2 => 2,
        _ => {
            reader.skip(2)?; // variable rate, padding
            reader.read(6)?
        }
    };
    let frame_samples = match configuration {
        0..=11 => *[480, 960, 1_920, 2_880].get(configuration as usize % 4).unwrap_or(&0),
        12..=15 => 480 << (configuration % 2),
        _ => 120 << (configuration % 4),
    };
    let samples = frame_count * frame_samples;
    if frame_count == 0 || samples > PACKET_SAMPLES_MAX {
        return Err(reader.invalid("frame count", u64::from(frame_count)));
    }
    Ok(samples)
}

#[cfg(test)]
#[path = "opus/tests.rs"]
mod tests;
