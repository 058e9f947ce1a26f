//! `esds`: the MPEG-4 elementary stream descriptor of an audio sample entry (ISO/IEC 14496-1 7.2.6, 14496-14 6.7.2).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::AudioSpecificConfig;
use crate::codec::CodecError;
use crate::codec::bits::{BitReader, BitWriter};

/// `objectTypeIndication` values of audio.
pub mod object_type_indication {
    /// ISO/IEC 14496-3 audio: an `AudioSpecificConfig` says which.
    pub const MPEG4_AUDIO: u8 = 0x40;
    /// ISO/IEC 13818-7 AAC Main.
    pub const MPEG2_AAC_MAIN: u8 = 0x66;
    /// ISO/IEC 13818-7 AAC Low Complexity.
    pub const MPEG2_AAC_LC: u8 = 0x67;
    /// ISO/IEC 13818-7 AAC Scalable Sampling Rate.
    pub const MPEG2_AAC_SSR: u8 = 0x68;
    /// ISO/IEC 13818-3 audio: MP3 at low sampling rates.
    pub const MPEG2_AUDIO: u8 = 0x69;
    /// ISO/IEC 11172-3 audio: MP3.
    pub const MPEG1_AUDIO: u8 = 0x6b;
}

/// `ES_DescrTag`, `DecoderConfigDescrTag`, `DecSpecificInfoTag`, `SLConfigDescrTag`.
const TAGS: (u8, u8, u8, u8) = (3, 4, 5, 6);

/// Nested descriptors looked at; a stream has three.
const DESCRIPTOR_COUNT_MAX: usize = 16;

/// What an elementary stream descriptor says of its decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Esds {
    /// `objectTypeIndication`.
    pub object_type_indication: u8,
    /// `streamType`: 5 for audio.
    pub stream_type: u8,
    /// `bufferSizeDB` in bytes, 24 bits.
    pub buffer_size_bytes: u32,
    /// `maxBitrate`, 0 when unknown.
    pub bitrate_bps_max: u32,
    /// `avgBitrate`, 0 when variable or unknown.
    pub bitrate_bps_average: u32,
    /// `DecoderSpecificInfo`; for MPEG-4 audio the `AudioSpecificConfig`. Empty when absent.
    pub decoder_specific_info: Vec<u8>,
}

impl Esds {
    const WHAT: &'static str = "esds";

    /// Reads the payload of `esds`, version and flags included.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(payload, Self::WHAT);
        reader.skip(32)?;
        let stream = find_descriptor(&mut reader, TAGS.0)?;
        let mut stream = BitReader::new(stream, Self::WHAT);
        stream.skip(16)?; // ES_ID
        let depends_on = stream.flag()?;
        let url = stream.flag()?;
        let clock = stream.flag()?;
        stream.skip(5)?; // streamPriority
        if depends_on {
            stream.skip(16)?;
        }
        if url {
            let size_bytes = stream.read(8)?;
            stream.skip(u64::from(size_bytes) * 8)?;
        }
        if clock {
            stream.skip(16)?;
        }
        let decoder = find_descriptor(&mut stream, TAGS.1)?;
        let mut decoder = BitReader::new(decoder, Self::WHAT);
        let object_type_indication = decoder.read_u8(8)?;
        let stream_type = decoder.read_u8(6)?;
        decoder.skip(2)?; // upStream, reserved
        let buffer_size_bytes = decoder.read(24)?;
        let bitrate_bps_max = decoder.read(32)?;
        let bitrate_bps_average = decoder.read(32)?;
        let specific = if decoder.bits_left() == 0 {
            Ok(&[][..])
        } else {
            find_descriptor(&mut decoder, TAGS.2)
        };
        let decoder_specific_info = match specific {
            Ok(info) => info.to_vec(),
            Err(CodecError::Missing { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Esds {
            object_type_indication,
            stream_type,
            buffer_size_bytes,
            bitrate_bps_max,
            bitrate_bps_average,
            decoder_specific_info,
        })
    }

    /// The payload of `esds`, version and flags included. Fails when the decoder specific info passes what the size
    /// fields hold (2^28 bytes).
    pub fn serialise(&self) -> Result<Vec<u8>, CodecError> {
        let mut decoder = BitWriter::new();
        decoder.write(u64::from(self.object_type_indication), 8);
        decoder.write(u64::from(self.stream_type & 0x3f), 6);
        decoder.write(0b01, 2); // downstream, reserved
        decoder.write(u64::from(self.buffer_size_bytes & 0xff_ffff), 24);
        decoder.write(u64::from(self.bitrate_bps_max), 32);
        decoder.write(u64::from(self.bitrate_bps_average), 32);
        if !self.decoder_specific_info.is_empty() {
            write_descriptor(&mut decoder, TAGS.2, &self.decoder_specific_info)?;
        }
        let mut stream = BitWriter::new();
        // ISO/IEC 14496-14 4.1.2: in a file ES_ID is 0, the track tells the stream.
        stream.write(0, 24);
        write_descriptor(&mut stream, TAGS.1, &decoder.into_bytes())?;
        // Predefined 2: the synchronisation layer of MP4 files.
        write_descriptor(&mut stream, TAGS.3, &[2])?;
        let mut payload = BitWriter::new();
        payload.write(0, 32);
        write_descriptor(&mut payload, TAGS.0, &stream.into_bytes())?;
        Ok(payload.into_bytes())
    }

    /// The audio configuration; `None` unless the stream is MPEG-4 audio or MPEG-2 AAC with decoder specific info.
    pub fn audio_specific_config(&self) -> Result<Option<AudioSpecificConfig>, CodecError> {
        match self.object_type_indication {
            0x40 | 0x66..=0x68 if !self.decoder_specific_info.is_empty() => {
                AudioSpecificConfig::parse(&self.decoder_specific_info).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// RFC 6381 string: `mp4a.40.N` for MPEG-4 audio, else `mp4a.` and the object type indication (RFC 6381 3.3).
    pub fn rfc6381(&self) -> Result<String, CodecError> {
        if self.object_type_indication != object_type_indication::MPEG4_AUDIO {
            return Ok(format!("mp4a.{:02X}", self.object_type_indication));
        }
        let missing = CodecError::Missing {
            what: Self::WHAT,
            field: "an AudioSpecificConfig",
        };
        Ok(self.audio_specific_config()?.ok_or(missing)?.rfc6381())
    }
}

/// Body of the next descriptor with tag `wanted`, those before it passed over.
fn find_descriptor<'a>(reader: &mut BitReader<'a>, wanted: u8) -> Result<&'a [u8], CodecError> {
    for _ in 0..DESCRIPTOR_COUNT_MAX {
        if reader.bits_left() == 0 {
            break;
        }
        let tag = reader.read_u8(8)?;
        let mut size_bytes = 0_usize;
        for index in 0.. {
            // Four size bytes of seven bits are the most ISO/IEC 14496-1 8.3.3 allows.
            if index == 4 {
                return Err(reader.invalid("sizeOfInstance", size_bytes as u64));
            }
            let more = reader.flag()?;
            size_bytes = (size_bytes << 7) | reader.read(7)? as usize;
            if !more {
                break;
            }
        }
        // Some writers state the enclosing descriptors longer than the box: what is there is all they can hold.
        let left = usize::try_from(reader.bits_left() / 8).unwrap_or(usize::MAX);
        let body = reader.bytes(if tag == TAGS.2 {
            size_bytes
        } else {
            size_bytes.min(left)
        })?;
        if tag == wanted {
            return Ok(body);
        }
    }
    Err(CodecError::Missing {
        what: Esds::WHAT,
        field: match wanted {
            3 => "an ES_Descriptor",
            4 => "a DecoderConfigDescriptor",
            _ => "a DecoderSpecificInfo",
        },
    })
}

fn write_descriptor(writer: &mut BitWriter, tag: u8, body: &[u8]) -> Result<(), CodecError> {
    let size_bytes = body.len() as u64;
    if size_bytes >= 1 << 28 {
        return Err(CodecError::Invalid {
            what: Esds::WHAT,
            field: "sizeOfInstance",
            offset_bits: 0,
            value: size_bytes,
        });
    }
    writer.write(u64::from(tag), 8);
    // As few size bytes as hold it; the long form is legal too, but some televisions read only one byte.
    let count = (1..4).find(|&count| size_bytes < 1 << (7 * count)).unwrap_or(4);
    for index in (0..count).rev() {
        writer.flag(index > 0);
        writer.write((size_bytes >> (7 * index)) & 0x7f, 7);
    }
    writer.bytes(body);
    Ok(())
}
