//! AAC (ISO/IEC 14496-3): `AudioSpecificConfig` and its codec string.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod adts;
pub mod esds;
pub mod latm;

use super::CodecError;
use super::bits::{BitReader, BitWriter};

/// `samplingFrequencyIndex` (ISO/IEC 14496-3 table 1.18), 0 to 12.
const SAMPLING_RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
];

/// Sampling rate of an index, `None` for reserved ones and for 15 (written out).
#[must_use]
pub fn sampling_rate(index: u8) -> Option<u32> {
    SAMPLING_RATES.get(usize::from(index)).copied()
}

/// Index of a sampling rate, `None` when the table has no such rate.
#[must_use]
pub fn sampling_rate_index(rate: u32) -> Option<u8> {
    SAMPLING_RATES
        .iter()
        .position(|&listed| listed == rate)
        .map(|index| index as u8)
}

/// Channels of a `channelConfiguration` (table 1.19, amended); `None` for 0 (written out) and reserved values.
#[must_use]
pub fn channel_count(channel_configuration: u8) -> Option<u8> {
    match channel_configuration {
        1..=6 => Some(channel_configuration),
        7 | 12 | 14 => Some(8),
        11 => Some(7),
        13 => Some(24),
        _ => None,
    }
}

/// Audio object types the packager tells apart.
pub mod object_type {
    /// AAC Main.
    pub const MAIN: u8 = 1;
    /// AAC Low Complexity.
    pub const LC: u8 = 2;
    /// Spectral band replication: HE-AAC.
    pub const SBR: u8 = 5;
    /// Error resilient AAC LC.
    pub const ER_LC: u8 = 17;
    /// Error resilient BSAC, which extends channel configurations.
    pub const ER_BSAC: u8 = 22;
    /// Error resilient AAC Low Delay.
    pub const ER_LD: u8 = 23;
    /// Parametric stereo: HE-AAC v2.
    pub const PS: u8 = 29;
    /// MPEG-1/2 layer III in MPEG-4.
    pub const LAYER_3: u8 = 34;
    /// Error resilient AAC Enhanced Low Delay.
    pub const ER_ELD: u8 = 39;
    /// Unified speech and audio coding: xHE-AAC.
    pub const USAC: u8 = 42;
}

/// `AudioSpecificConfig` (ISO/IEC 14496-3 1.6.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// Audio object type of the core coder; 5 and 29 never appear here, see `sbr` and `ps`.
    pub object_type: u8,
    /// Sampling rate of the core coder in Hz. For xHE-AAC, the rate its own configuration states.
    pub sampling_rate: u32,
    /// `channelConfiguration`, 0 when the channels are written out.
    pub channel_configuration: u8,
    /// Channels of the core coder.
    pub channels: u8,
    /// Samples per frame of the core coder: 1024 or 960, 512 or 480 in low delay; for xHE-AAC, of the output.
    pub frame_length: u16,
    /// Spectral band replication: `Some` when signalled either way, `None` when only the frames tell.
    pub sbr: Option<bool>,
    /// Parametric stereo: `Some` when signalled either way, `None` when only the frames tell.
    pub ps: Option<bool>,
    /// Output sampling rate in Hz that comes with signalled band replication.
    pub extension_sampling_rate: Option<u32>,
}

impl AudioSpecificConfig {
    /// Reads a configuration that fills `data`, such as a `DecoderSpecificInfo`.
    pub fn parse(data: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(data, "AudioSpecificConfig");
        let mut config = Self::read(&mut reader)?;
        config.read_sync_extension(&mut reader);
        Ok(config)
    }

    /// Reads a configuration whose length is not known beforehand; backward-compatible extensions are not looked for.
    pub(crate) fn read(reader: &mut BitReader<'_>) -> Result<Self, CodecError> {
        let start_bits = reader.position_bits();
        let mut object_type = read_object_type(reader)?;
        let sampling_rate = read_sampling_rate(reader)?;
        let mut channel_configuration = reader.read_u8(4)?;
        let (mut sbr, mut ps, mut extension_sampling_rate) = (None, None, None);
        if matches!(object_type, object_type::SBR | object_type::PS) {
            sbr = Some(true);
            ps = (object_type == object_type::PS).then_some(true);
            extension_sampling_rate = Some(read_sampling_rate(reader)?);
            object_type = read_object_type(reader)?;
            if object_type == object_type::ER_BSAC {
                channel_configuration = reader.read_u8(4)?;
            }
        }
        let mut config = AudioSpecificConfig {
            object_type,
            sampling_rate,
            channel_configuration,
            channels: channel_count(channel_configuration).unwrap_or(0),
            frame_length: 1_024,
            sbr,
            ps,
            extension_sampling_rate,
        };
        match object_type {
            1..=4 | 6 | 7 | 17 | 19..=23 => config.read_general_audio(reader, start_bits)?,
            object_type::ER_ELD => config.read_low_delay(reader)?,
            object_type::USAC => config.read_usac(reader)?,
            32..=34 => config.frame_length = 1_152,
            other => {
                return Err(CodecError::Unsupported {
                    what: "AudioSpecificConfig",
                    feature: "audio object type",
                    value: u64::from(other),
                });
            }
        }
        if matches!(object_type, 17 | 19..=27) {
            let error_protection = reader.read(2)?;
            if error_protection > 1 {
                return Err(CodecError::Unsupported {
                    what: "AudioSpecificConfig",
                    feature: "epConfig",
                    value: u64::from(error_protection),
                });
            }
        }
        if config.channels == 0 {
            return Err(reader.invalid("channelConfiguration", u64::from(channel_configuration)));
        }
        Ok(config)
    }

    /// `GASpecificConfig` (4.4.1).
    fn read_general_audio(&mut self, reader: &mut BitReader<'_>, start_bits: u64) -> Result<(), CodecError> {
        let short = reader.flag()?;
        self.frame_length = match (self.object_type, short) {
            (object_type::ER_LD, false) => 512,
            (object_type::ER_LD, true) => 480,
            (_, false) => 1_024,
            (_, true) => 960,
        };
        if reader.flag()? {
            reader.skip(14)?; // coreCoderDelay
        }
        let extension = reader.flag()?;
        if self.channel_configuration == 0 {
            self.channels = read_program_config_element(reader, start_bits)?;
        }
        if matches!(self.object_type, 6 | 20) {
            reader.skip(3)?; // layerNr
        }
        if extension {
            match self.object_type {
                object_type::ER_BSAC => reader.skip(16)?, // numOfSubFrame, layer_length
                17 | 19 | 20 | 23 => reader.skip(3)?,     // three resilience flags
                _ => {}
            }
            reader.skip(1)?; // extensionFlag3
        }
        Ok(())
    }

    /// `ELDSpecificConfig` (4.6.20.3), as far as it decides rates and frame length.
    fn read_low_delay(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        self.frame_length = if reader.flag()? { 480 } else { 512 };
        reader.skip(3)?; // resilience flags
        let sbr = reader.flag()?;
        if sbr {
            let double_rate = reader.flag()?;
            self.sbr = Some(true);
            let output_rate = if double_rate {
                self.sampling_rate.saturating_mul(2)
            } else {
                self.sampling_rate
            };
            self.extension_sampling_rate = Some(output_rate);
        }
        Ok(())
    }

    /// `UsacConfig` (ISO/IEC 23003-3 5.2), its first fields. The sampling rate there is that of the output.
    fn read_usac(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        self.sampling_rate = match reader.read_u8(5)? {
            0x1f => reader.read(24)?,
            index => usac_sampling_rate(index)
                .ok_or_else(|| reader.invalid("usacSamplingFrequencyIndex", u64::from(index)))?,
        };
        if self.sampling_rate == 0 {
            return Err(reader.invalid("usacSamplingFrequency", 0));
        }
        self.frame_length = match reader.read(3)? {
            0 => 768,
            1 => 1_024,
            2 | 3 => 2_048,
            4 => 4_096,
            reserved => return Err(reader.invalid("coreSbrFrameLengthIndex", u64::from(reserved))),
        };
        self.channels = match reader.read(5)? {
            0 => {
                let count = read_escaped_value(reader, 5, 8, 16)?;
                u8::try_from(count).map_err(|_| reader.invalid("numOutChannels", u64::from(count)))?
            }
            configuration @ 1..=6 => configuration as u8,
            7 | 12 => 8,
            8 => 2,
            9 => 3,
            10 => 4,
            11 => 7,
            13 => 24,
            reserved => return Err(reader.invalid("channelConfigurationIndex", u64::from(reserved))),
        };
        // Band replication is part of the configuration and already counted in rate and frame length.
        (self.sbr, self.ps) = (Some(false), Some(false));
        Ok(())
    }

    /// Backward-compatible signalling behind the configuration (1.6.6.1). Anything else there is not an extension, so
    /// running out of bits is no error: what was not signalled stays unknown.
    pub(crate) fn read_sync_extension(&mut self, reader: &mut BitReader<'_>) {
        if self.sbr.is_some() || reader.bits_left() < 16 {
            return;
        }
        let mut extension = || -> Result<(bool, Option<u32>, Option<bool>), CodecError> {
            if reader.read(11)? != 0x2b7 || read_object_type(reader)? != object_type::SBR {
                return Err(reader.invalid("syncExtensionType", 0));
            }
            if !reader.flag()? {
                return Ok((false, None, None));
            }
            let rate = read_sampling_rate(reader)?;
            let mut ps = None;
            if reader.bits_left() >= 12 && reader.read(11)? == 0x548 {
                ps = Some(reader.flag()?);
            }
            Ok((true, Some(rate), ps))
        };
        if let Ok((sbr, rate, ps)) = extension() {
            self.sbr = Some(sbr);
            self.extension_sampling_rate = rate;
            self.ps = ps;
        }
    }

    /// The plain configuration of an AAC stream without signalled extensions, for instance from ADTS. Fails for object
    /// types above 4 and channel layouts that need writing out.
    pub fn plain(object_type: u8, sampling_rate: u32, channel_configuration: u8) -> Result<Self, CodecError> {
        let invalid = |field, value| CodecError::Invalid {
            what: "AudioSpecificConfig",
            field,
            offset_bits: 0,
            value,
        };
        if !(1..=4).contains(&object_type) {
            return Err(invalid("audioObjectType", u64::from(object_type)));
        }
        if sampling_rate == 0 || sampling_rate >= 1 << 24 {
            return Err(invalid("samplingFrequency", u64::from(sampling_rate)));
        }
        let channels = channel_count(channel_configuration)
            .ok_or_else(|| invalid("channelConfiguration", u64::from(channel_configuration)))?;
        Ok(AudioSpecificConfig {
            object_type,
            sampling_rate,
            channel_configuration,
            channels,
            frame_length: 1_024,
            sbr: None,
            ps: None,
            extension_sampling_rate: None,
        })
    }

    /// Writes the configuration of a general audio object type (1 to 4) with 1024 samples per frame, band replication
    /// signalled hierarchically. `None` for others: keep the bytes they came in.
    #[must_use]
    pub fn serialise(&self) -> Option<Vec<u8>> {
        if !(1..=4).contains(&self.object_type) || self.frame_length != 1_024 || self.channel_configuration == 0 {
            return None;
        }
        let mut writer = BitWriter::new();
        if self.sbr == Some(true) {
            let wrapper = if self.ps == Some(true) {
                object_type::PS
            } else {
                object_type::SBR
            };
            writer.write(u64::from(wrapper), 5);
        } else {
            writer.write(u64::from(self.object_type), 5);
        }
        write_sampling_rate(&mut writer, self.sampling_rate)?;
        writer.write(u64::from(self.channel_configuration & 15), 4);
        if self.sbr == Some(true) {
            write_sampling_rate(&mut writer, self.output_sampling_rate())?;
            writer.write(u64::from(self.object_type), 5);
        }
        writer.write(0, 3); // frameLengthFlag, dependsOnCoreCoder, extensionFlag
        Some(writer.into_bytes())
    }

    /// Sampling rate after signalled band replication, in Hz. Where `sbr` is `None` the output may still turn out to have
    /// twice this rate.
    #[must_use]
    pub fn output_sampling_rate(&self) -> u32 {
        self.extension_sampling_rate.unwrap_or(self.sampling_rate)
    }

    /// Channels after signalled parametric stereo.
    #[must_use]
    pub fn output_channels(&self) -> u8 {
        if self.ps == Some(true) && self.channels == 1 {
            2
        } else {
            self.channels
        }
    }

    /// Samples of the output per frame, in ticks of [`output_sampling_rate`](Self::output_sampling_rate).
    #[must_use]
    pub fn output_frame_length(&self) -> u32 {
        let scaled = u64::from(self.frame_length) * u64::from(self.output_sampling_rate());
        scaled
            .checked_div(u64::from(self.sampling_rate))
            .map_or(0, |samples| samples as u32)
    }

    /// The object type that codec strings state: 29 with parametric stereo, 5 with band replication, else the core's.
    #[must_use]
    pub fn signalled_object_type(&self) -> u8 {
        match (self.object_type, self.sbr, self.ps) {
            (1..=4, Some(true), Some(true)) => object_type::PS,
            (1..=4, Some(true), _) => object_type::SBR,
            (core, ..) => core,
        }
    }

    /// RFC 6381 string `mp4a.40.N` (RFC 6381 3.3).
    #[must_use]
    pub fn rfc6381(&self) -> String {
        format!("mp4a.40.{}", self.signalled_object_type())
    }
}

/// `GetAudioObjectType()`.
fn read_object_type(reader: &mut BitReader<'_>) -> Result<u8, CodecError> {
    match reader.read_u8(5)? {
        31 => Ok(32 + reader.read_u8(6)?),
        object_type => Ok(object_type),
    }
}

fn read_sampling_rate(reader: &mut BitReader<'_>) -> Result<u32, CodecError> {
    let index = reader.read_u8(4)?;
    let rate = if index == 15 {
        Some(reader.read(24)?)
    } else {
        sampling_rate(index)
    };
    rate.filter(|&rate| rate > 0)
        .ok_or_else(|| reader.invalid("samplingFrequencyIndex", u64::from(index)))
}

fn write_sampling_rate(writer: &mut BitWriter, rate: u32) -> Option<()> {
    match sampling_rate_index(rate) {
        Some(index) => writer.write(u64::from(index), 4),
        None if rate < 1 << 24 => {
            writer.write(15, 4);
            writer.write(u64::from(rate), 24);
        }
        None => return None,
    }
    Some(())
}

/// `escapedValue(a, b, c)` (ISO/IEC 23003-3 5.2).
fn read_escaped_value(reader: &mut BitReader<'_>, a: u32, b: u32, c: u32) -> Result<u32, CodecError> {
    let mut value = reader.read(a)?;
    if value == (1 << a) - 1 {
        let more = reader.read(b)?;
        value += more;
        if more == (1 << b) - 1 {
            value += reader.read(c)?;
        }
    }
    Ok(value)
}

fn usac_sampling_rate(index: u8) -> Option<u32> {
    match index {
        0..=12 => sampling_rate(index),
        0x0f => Some(57_600),
        0x10 => Some(51_200),
        0x11 => Some(40_000),
        0x12 => Some(38_400),
        0x13 => Some(34_150),
        0x14 => Some(28_800),
        0x15 => Some(25_600),
        0x16 => Some(20_000),
        0x17 => Some(19_200),
        0x18 => Some(17_075),
        0x19 => Some(14_400),
        0x1a => Some(12_800),
        0x1b => Some(9_600),
        _ => None,
    }
}

/// `program_config_element()` (4.4.1.1): channels, LFE included. Its padding counts from `start_bits`.
fn read_program_config_element(reader: &mut BitReader<'_>, start_bits: u64) -> Result<u8, CodecError> {
    reader.skip(10)?; // element_instance_tag, object_type, sampling_frequency_index
    let mut main_elements = 0;
    for _ in 0..3 {
        main_elements += reader.read(4)?; // front, side, back
    }
    let lfe_elements = reader.read_u8(2)?;
    let data_elements = reader.read(3)?;
    let coupling_elements = reader.read(4)?;
    for mixdown_bits in [4, 4, 3] {
        if reader.flag()? {
            reader.skip(mixdown_bits)?;
        }
    }
    let mut channels = lfe_elements;
    for _ in 0..main_elements {
        channels += if reader.flag()? { 2 } else { 1 };
        reader.skip(4)?;
    }
    reader.skip(u64::from(
        4 * (u32::from(lfe_elements) + data_elements) + 5 * coupling_elements,
    ))?;
    let misaligned = (reader.position_bits() - start_bits) % 8;
    reader.skip((8 - misaligned) % 8)?;
    let comment_size_bytes = reader.read(8)?;
    reader.skip(u64::from(comment_size_bytes) * 8)?;
    Ok(channels)
}

#[cfg(test)]
#[path = "aac/tests.rs"]
mod tests;
