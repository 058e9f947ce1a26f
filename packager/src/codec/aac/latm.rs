//! LOAS/LATM transport of AAC (ISO/IEC 14496-3 1.7), MPEG-TS stream type 0x11.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::AudioSpecificConfig;
use crate::codec::CodecError;
use crate::codec::bits::BitReader;

const WHAT: &str = "AudioMuxElement";

/// Size of the header of `AudioSyncStream()`.
pub const SYNC_HEADER_SIZE_BYTES: usize = 3;

/// Bytes of the `AudioMuxElement` behind a LOAS header at the start of `data` (1.7.2, `AudioSyncStream`).
pub fn parse_sync_header(data: &[u8]) -> Result<usize, CodecError> {
    let mut reader = BitReader::new(data, "AudioSyncStream");
    let sync = reader.read(11)?;
    if sync != 0x2b7 {
        return Err(reader.invalid("syncword", u64::from(sync)));
    }
    reader.read(13).map(|size_bytes| size_bytes as usize)
}

/// Takes frames out of `AudioMuxElement`s; remembers the configuration, which only some of them carry.
#[derive(Debug, Clone, Default)]
pub struct LatmReader {
    mux: Option<StreamMuxConfig>,
}

/// `StreamMuxConfig()` of a stream with one program and one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StreamMuxConfig {
    config: AudioSpecificConfig,
    config_bytes: Vec<u8>,
    /// `numSubFrames` + 1, 1 to 64.
    sub_frame_count: u32,
    /// Bits of each frame when fixed (`frameLengthType` 1), else each states its bytes.
    fixed_frame_bits: Option<u64>,
    /// Bits of other data behind the frames.
    other_data_bits: u64,
}

impl LatmReader {
    /// A reader that knows no configuration yet.
    #[must_use]
    pub fn new() -> Self {
        LatmReader::default()
    }

    /// The configuration in force; `None` before the first element that carries one.
    #[must_use]
    pub fn config(&self) -> Option<&AudioSpecificConfig> {
        self.mux.as_ref().map(|mux| &mux.config)
    }

    /// The bytes of the `AudioSpecificConfig` in force, moved to a byte boundary.
    #[must_use]
    pub fn config_bytes(&self) -> Option<&[u8]> {
        self.mux.as_ref().map(|mux| mux.config_bytes.as_slice())
    }

    /// The raw frames of one `AudioMuxElement(1)`, in order, moved to byte boundaries. Empty before the first
    /// configuration.
    pub fn frames(&mut self, element: &[u8]) -> Result<Vec<Vec<u8>>, CodecError> {
        let mut reader = BitReader::new(element, WHAT);
        if !reader.flag()? {
            self.mux = Some(StreamMuxConfig::read(&mut reader)?);
        }
        let Some(mux) = &self.mux else { return Ok(Vec::new()) };
        let mut frames = Vec::new();
        for _ in 0..mux.sub_frame_count {
            let size_bits = match mux.fixed_frame_bits {
                Some(bits) => bits,
                None => read_slot_size_bytes(&mut reader)? * 8,
            };
            let start_bits = reader.position_bits();
            reader.skip(size_bits)?;
            frames.push(reader.copy_since(start_bits));
        }
        // Other data carries no sound; that it fits is the check that the frames were read right.
        reader.skip(mux.other_data_bits)?;
        Ok(frames)
    }
}

/// `PayloadLengthInfo()` of one layer.
fn read_slot_size_bytes(reader: &mut BitReader<'_>) -> Result<u64, CodecError> {
    let mut size_bytes = 0;
    loop {
        let byte = reader.read(8)?;
        size_bytes += u64::from(byte);
        if byte != 255 {
            return Ok(size_bytes);
        }
    }
}

impl StreamMuxConfig {
    fn read(reader: &mut BitReader<'_>) -> Result<Self, CodecError> {
        let unsupported = |feature, value| CodecError::Unsupported {
            what: WHAT,
            feature,
            value,
        };
        let version_1 = reader.flag()?;
        if version_1 && reader.flag()? {
            return Err(unsupported("audioMuxVersionA", 1));
        }
        if version_1 {
            read_latm_value(reader)?; // taraBufferFullness
        }
        if !reader.flag()? {
            return Err(unsupported("allStreamsSameTimeFraming", 0));
        }
        let sub_frame_count = reader.read(6)? + 1;
        let programs = reader.read(4)? + 1;
        let layers = reader.read(3)? + 1;
        if programs * layers != 1 {
            return Err(unsupported("layer count", u64::from(programs * layers)));
        }
        let (config, config_bytes) = if version_1 {
            Self::read_sized_config(reader)?
        } else {
            Self::read_config(reader)?
        };
        let frame_length_type = reader.read(3)?;
        let fixed_frame_bits = match frame_length_type {
            0 => {
                reader.skip(8)?; // latmBufferFullness
                None
            }
            1 => Some((u64::from(reader.read(9)?) + 20) * 8),
            other => return Err(unsupported("frameLengthType", u64::from(other))),
        };
        let mut other_data_bits = 0;
        if reader.flag()? {
            if version_1 {
                other_data_bits = u64::from(read_latm_value(reader)?);
            } else {
                // Four bytes hold more than the 13-bit element length can.
                for index in 0.. {
                    if index == 4 {
                        return Err(reader.invalid("otherDataLenBits", other_data_bits));
                    }
                    let more = reader.flag()?;
                    other_data_bits = (other_data_bits << 8) | u64::from(reader.read(8)?);
                    if !more {
                        break;
                    }
                }
            }
        }
        if reader.flag()? {
            reader.skip(8)?; // crcCheckSum
        }
        Ok(StreamMuxConfig {
            config,
            config_bytes,
            sub_frame_count,
            fixed_frame_bits,
            other_data_bits,
        })
    }

    fn read_config(reader: &mut BitReader<'_>) -> Result<(AudioSpecificConfig, Vec<u8>), CodecError> {
        let start_bits = reader.position_bits();
        let config = AudioSpecificConfig::read(reader)?;
        Ok((config, reader.copy_since(start_bits)))
    }

    fn read_sized_config(reader: &mut BitReader<'_>) -> Result<(AudioSpecificConfig, Vec<u8>), CodecError> {
        let size_bits = read_latm_value(reader)?;
        let start_bits = reader.position_bits();
        reader.skip(u64::from(size_bits))?;
        let config_bytes = reader.copy_since(start_bits);
        Ok((AudioSpecificConfig::parse(&config_bytes)?, config_bytes))
    }
}

/// `LatmGetValue()`.
fn read_latm_value(reader: &mut BitReader<'_>) -> Result<u32, CodecError> {
    let byte_count = reader.read(2)? + 1;
    reader.read(8 * byte_count)
}
