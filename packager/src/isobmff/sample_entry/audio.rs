//! Sample entries of sound.

use bytes::Bytes;

use super::ac4::Dac4;
use super::{SampleEntryError, TrackFacts, unusable, write_entry};
use crate::codec::aac::esds::{Esds, object_type_indication};
use crate::codec::aac::{AudioSpecificConfig, object_type};
use crate::codec::ac3::{Dac3, Dec3};
use crate::codec::flac::StreamInfo;
use crate::codec::opus::{self, OpusConfig};
use crate::codec::{Codec, mpeg_audio};
use crate::track::{AudioDescription, MediaDescription, TrackDescription};

/// `streamType` of sound (ISO/IEC 14496-1 table 6).
const STREAM_TYPE_AUDIO: u8 = 5;

/// What is written for a kind of audio.
struct Entry<'a> {
    codec: Codec,
    fourcc: &'a [u8; 4],
    rfc6381: String,
    sample_rate: u32,
    channel_count: u16,
    joc_complexity: Option<u8>,
    /// Bits of a sample before coding; 16 where the coding has no such thing.
    sample_size_bits: u16,
    config_fourcc: &'a [u8; 4],
    /// Payload of the configuration box.
    config: &'a [u8],
    /// What the decoder is set up with, when that is not the configuration box's payload.
    decoder_config: Option<Bytes>,
}

impl Entry<'_> {
    /// `AudioSampleEntry` version 0 (ISO/IEC 14496-12:2022 12.2.3).
    fn describe(self, track: &TrackFacts) -> Result<TrackDescription, SampleEntryError> {
        if self.sample_rate == 0 {
            return Err(unusable(format!("{} without a sampling rate", self.codec.name())));
        }
        if self.channel_count == 0 {
            return Err(unusable(format!("{} without channels", self.codec.name())));
        }
        let entry = write_entry(self.fourcc, |w| {
            w.zeros(8);
            w.u16(self.channel_count);
            w.u16(self.sample_size_bits);
            w.zeros(4);
            // 16.16; a rate that does not fit is left to the configuration.
            w.u32(u16::try_from(self.sample_rate).map_or(0, |rate| u32::from(rate) << 16));
            w.write_box(self.config_fourcc, |w| w.bytes(self.config));
        });
        let media = MediaDescription::Audio(AudioDescription {
            sample_rate: self.sample_rate,
            channel_count: self.channel_count,
            joc_complexity: self.joc_complexity,
            decoder_config: self
                .decoder_config
                .unwrap_or_else(|| Bytes::copy_from_slice(self.config)),
        });
        Ok(track.describe(self.codec, self.rfc6381, entry, media))
    }
}

/// Bit rates are left out: those of a source are seldom right, and nothing downstream asks for them.
fn esds(object_type_indication: u8, decoder_specific_info: &[u8]) -> Result<Vec<u8>, SampleEntryError> {
    let esds = Esds {
        object_type_indication,
        stream_type: STREAM_TYPE_AUDIO,
        buffer_size_bytes: 0,
        bitrate_bps_max: 0,
        bitrate_bps_average: 0,
        decoder_specific_info: decoder_specific_info.to_vec(),
    };
    Ok(esds.serialise()?)
}

/// AAC from an AudioSpecificConfig.
pub fn aac(track: &TrackFacts, audio_specific_config: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    let config = AudioSpecificConfig::parse(audio_specific_config)?;
    if matches!(config.object_type, 32..=34) {
        return Err(unusable("MPEG audio layers in an MPEG-4 configuration"));
    }
    if !matches!(
        config.object_type,
        1..=4 | object_type::ER_LC | object_type::ER_LD | object_type::ER_ELD | object_type::USAC
    ) {
        return Err(unusable(format!("MPEG-4 audio object type {}", config.object_type)));
    }
    let esds = esds(object_type_indication::MPEG4_AUDIO, audio_specific_config)?;
    Entry {
        codec: Codec::Aac,
        fourcc: b"mp4a",
        rfc6381: config.rfc6381(),
        sample_rate: config.output_sampling_rate(),
        channel_count: u16::from(config.output_channels()),
        joc_complexity: None,
        sample_size_bits: 16,
        config_fourcc: b"esds",
        config: &esds,
        decoder_config: Some(Bytes::copy_from_slice(audio_specific_config)),
    }
    .describe(track)
}

/// MP3 from what a frame header says: sampling rate in Hz and channels.
pub fn mp3(track: &TrackFacts, sample_rate: u32, channel_count: u16) -> Result<TrackDescription, SampleEntryError> {
    // ISO/IEC 14496-1 table 5: 0x6b for the three rates of MPEG-1, 0x69 for lower ones.
    let object_type_indication = if sample_rate >= 32_000 { 0x6b } else { 0x69 };
    let esds = esds(object_type_indication, &[])?;
    Entry {
        codec: Codec::Mp3,
        fourcc: b"mp4a",
        rfc6381: "mp4a.40.34".to_owned(),
        sample_rate,
        channel_count,
        joc_complexity: None,
        sample_size_bits: 16,
        config_fourcc: b"esds",
        config: &esds,
        decoder_config: Some(Bytes::new()),
    }
    .describe(track)
}

/// MP3 from a frame; other layers are refused by name.
pub(super) fn mpeg_audio(track: &TrackFacts, frame: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    let header = mpeg_audio::FrameHeader::parse(frame)?;
    if header.layer != 3 {
        return Err(unusable(format!("MPEG audio layer {}", header.layer)));
    }
    mp3(track, header.sampling_rate, u16::from(header.channels))
}

/// AC-3 from the payload of `dac3`.
pub fn ac3(track: &TrackFacts, dac3: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    let config = Dac3::parse(dac3)?;
    let config_bytes = config.serialise();
    Entry {
        codec: Codec::Ac3,
        fourcc: b"ac-3",
        rfc6381: "ac-3".to_owned(),
        sample_rate: config.sampling_rate().unwrap_or(0),
        channel_count: u16::from(config.channels()),
        joc_complexity: None,
        sample_size_bits: 16,
        config_fourcc: b"dac3",
        config: &config_bytes,
        decoder_config: None,
    }
    .describe(track)
}

/// E-AC-3 from the payload of `dec3`.
pub fn eac3(track: &TrackFacts, dec3: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    let config = Dec3::parse(dec3)?;
    let config_bytes = config.serialise()?;
    Entry {
        codec: Codec::Eac3,
        fourcc: b"ec-3",
        rfc6381: "ec-3".to_owned(),
        // Half rates are not told by the record; the timescale of such a track is its rate.
        sample_rate: config.sampling_rate().unwrap_or(track.timescale.get()),
        channel_count: u16::from(config.channels()),
        joc_complexity: config.joc_complexity,
        sample_size_bits: 16,
        config_fourcc: b"dec3",
        config: &config_bytes,
        decoder_config: None,
    }
    .describe(track)
}

/// AC-4 from the payload of `dac4`.
pub fn ac4(track: &TrackFacts, dac4: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    let config = Dac4::parse(dac4)?;
    Entry {
        codec: Codec::Ac4,
        fourcc: b"ac-4",
        rfc6381: config.rfc6381(),
        sample_rate: config.sample_rate,
        channel_count: config.channel_count.unwrap_or(2),
        joc_complexity: None,
        sample_size_bits: 16,
        config_fourcc: b"dac4",
        config: dac4,
        decoder_config: None,
    }
    .describe(track)
}

/// Opus from the payload of `dOps` (big-endian; not the little-endian `OpusHead`).
pub fn opus(track: &TrackFacts, dops: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    let config = OpusConfig::parse_dops(dops)?;
    let config_bytes = config.serialise_dops();
    Entry {
        codec: Codec::Opus,
        fourcc: b"Opus",
        rfc6381: "opus".to_owned(),
        sample_rate: opus::SAMPLING_RATE,
        channel_count: u16::from(config.channels),
        joc_complexity: None,
        sample_size_bits: 16,
        config_fourcc: b"dOps",
        config: &config_bytes,
        decoder_config: None,
    }
    .describe(track)
}

/// FLAC from the payload of `dfLa`: version and flags, then metadata blocks with STREAMINFO first. Other blocks
/// (tags, pictures) are left out.
pub fn flac(track: &TrackFacts, dfla: &[u8]) -> Result<TrackDescription, SampleEntryError> {
    let info = StreamInfo::parse_dfla(dfla)?;
    let config_bytes = info.serialise_dfla();
    Entry {
        codec: Codec::Flac,
        fourcc: b"fLaC",
        rfc6381: "fLaC".to_owned(),
        sample_rate: info.sampling_rate,
        channel_count: u16::from(info.channels),
        joc_complexity: None,
        sample_size_bits: u16::from(info.bits_per_sample),
        config_fourcc: b"dfLa",
        config: &config_bytes,
        decoder_config: None,
    }
    .describe(track)
}
