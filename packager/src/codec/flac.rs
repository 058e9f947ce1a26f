//! FLAC (RFC 9639): `dfLa`, STREAMINFO, frame headers and where frames end.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::CodecError;
use super::bits::BitReader;

/// Bytes of a STREAMINFO block without its header.
pub const STREAM_INFO_SIZE_BYTES: usize = 34;

/// STREAMINFO metadata block (RFC 9639 8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamInfo {
    /// Fewest samples of a block but the last.
    pub block_samples_min: u16,
    /// Most samples of a block.
    pub block_samples_max: u16,
    /// Fewest bytes of a frame, 0 when unknown.
    pub frame_size_bytes_min: u32,
    /// Most bytes of a frame, 0 when unknown.
    pub frame_size_bytes_max: u32,
    /// Samples per second, above zero.
    pub sampling_rate: u32,
    /// 1 to 8.
    pub channels: u8,
    /// 4 to 32.
    pub bits_per_sample: u8,
    /// Samples per channel of the stream, 0 when unknown.
    pub sample_count: u64,
    /// MD5 of the unencoded sound, zero when unknown.
    pub md5: [u8; 16],
}

impl StreamInfo {
    /// Reads the 34 bytes of the block.
    pub fn parse(block: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(block, "STREAMINFO");
        let block_samples_min = reader.read_u16(16)?;
        let block_samples_max = reader.read_u16(16)?;
        if block_samples_max < 16 || block_samples_min > block_samples_max {
            return Err(reader.invalid("maximum block size", u64::from(block_samples_max)));
        }
        let frame_size_bytes_min = reader.read(24)?;
        let frame_size_bytes_max = reader.read(24)?;
        let sampling_rate = reader.read(20)?;
        if sampling_rate == 0 {
            return Err(reader.invalid("sample rate", 0));
        }
        let channels = reader.read_u8(3)? + 1;
        let bits_per_sample = reader.read_u8(5)? + 1;
        if bits_per_sample < 4 {
            return Err(reader.invalid("bits per sample", u64::from(bits_per_sample)));
        }
        let sample_count = reader.read_u64(36)?;
        let mut md5 = [0; 16];
        for byte in &mut md5 {
            *byte = reader.read_u8(8)?;
        }
        Ok(StreamInfo {
            block_samples_min,
            block_samples_max,
            frame_size_bytes_min,
            frame_size_bytes_max,
            sampling_rate,
            channels,
            bits_per_sample,
            sample_count,
            md5,
        })
    }

    /// Reads the payload of `dfLa`, version and flags included (Encapsulation of FLAC in ISO BMFF 3.3.2).
    pub fn parse_dfla(payload: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(payload, "dfLa");
        let version = reader.read_u8(8)?;
        if version != 0 {
            return Err(reader.invalid("version", u64::from(version)));
        }
        reader.skip(24)?;
        Self::read_first_block(&mut reader)
    }

    /// Reads the start of a `.flac` file and returns the STREAMINFO with the offset of the first frame: `fLaC`, then
    /// metadata blocks. `file` must reach past the metadata, which pictures can make long.
    pub fn parse_file(file: &[u8]) -> Result<(Self, usize), CodecError> {
        let mut reader = BitReader::new(file, "flac file");
        let marker = reader.read(32)?;
        if marker != u32::from_be_bytes(*b"fLaC") {
            return Err(reader.invalid("marker", u64::from(marker)));
        }
        let mut last = reader.clone().flag()?;
        let info = Self::read_first_block(&mut reader)?;
        while !last {
            last = reader.flag()?;
            reader.skip(7)?;
            let size_bytes = reader.read(24)?;
            reader.skip(u64::from(size_bytes) * 8)?;
        }
        let frames_offset = usize::try_from(reader.position_bits() / 8).unwrap_or(usize::MAX);
        Ok((info, frames_offset))
    }

    /// The first metadata block, which must be STREAMINFO (RFC 9639 8.1).
    fn read_first_block(reader: &mut BitReader<'_>) -> Result<Self, CodecError> {
        reader.skip(1)?; // last-metadata-block flag
        let block_type = reader.read(7)?;
        if block_type != 0 {
            return Err(reader.invalid("first metadata block type", u64::from(block_type)));
        }
        let size_bytes = reader.read(24)? as usize;
        if size_bytes != STREAM_INFO_SIZE_BYTES {
            return Err(reader.invalid("STREAMINFO size", size_bytes as u64));
        }
        Self::parse(reader.bytes(size_bytes)?)
    }

    /// The 34 bytes of the block.
    #[must_use]
    pub fn serialise(&self) -> Vec<u8> {
        let mut writer = super::bits::BitWriter::new();
        writer.write(u64::from(self.block_samples_min), 16);
        writer.write(u64::from(self.block_samples_max), 16);
        writer.write(u64::from(self.frame_size_bytes_min & 0xff_ffff), 24);
        writer.write(u64::from(self.frame_size_bytes_max & 0xff_ffff), 24);
        writer.write(u64::from(self.sampling_rate & 0xf_ffff), 20);
        writer.write(u64::from(self.channels.saturating_sub(1) & 7), 3);
        writer.write(u64::from(self.bits_per_sample.saturating_sub(1) & 31), 5);
        writer.write(self.sample_count & 0xf_ffff_ffff, 36);
        writer.bytes(&self.md5);
        writer.into_bytes()
    }

    /// The payload of `dfLa` with this block alone, version and flags included.
    #[must_use]
    pub fn serialise_dfla(&self) -> Vec<u8> {
        let mut payload = vec![0, 0, 0, 0, 0x80, 0, 0, STREAM_INFO_SIZE_BYTES as u8];
        payload.extend(self.serialise());
        payload
    }
}

/// Frame header (RFC 9639 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Blocks vary in size: `number` counts samples, else frames.
    pub variable_block_size: bool,
    /// First sample's number or frame's number.
    pub number: u64,
    /// Samples per channel, 1 to 65,536.
    pub block_samples: u32,
    /// Samples per second; `None` refers to STREAMINFO.
    pub sampling_rate: Option<u32>,
    /// 1 to 8.
    pub channels: u8,
    /// Bits per sample; `None` refers to STREAMINFO.
    pub bits_per_sample: Option<u8>,
    /// Bytes of the header, its CRC-8 included.
    pub header_size_bytes: usize,
}

impl FrameHeader {
    /// Reads a header at the start of `data` and checks its CRC-8.
    pub fn parse(data: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(data, "flac frame header");
        let sync = reader.read(15)?;
        if sync != 0x7ffc {
            return Err(reader.invalid("sync code", u64::from(sync)));
        }
        let variable_block_size = reader.flag()?;
        let block_size_code = reader.read(4)?;
        let rate_code = reader.read(4)?;
        let channel_code = reader.read_u8(4)?;
        let channels = match channel_code {
            0..=7 => channel_code + 1,
            8..=10 => 2,
            _ => return Err(reader.invalid("channel bits", u64::from(channel_code))),
        };
        let bits_per_sample = match reader.read(3)? {
            0 => None,
            1 => Some(8),
            2 => Some(12),
            4 => Some(16),
            5 => Some(20),
            6 => Some(24),
            7 => Some(32),
            reserved => return Err(reader.invalid("bit depth bits", u64::from(reserved))),
        };
        if reader.flag()? {
            return Err(reader.invalid("reserved bit", 1));
        }
        let number = read_coded_number(&mut reader)?;
        let block_samples = match block_size_code {
            0 => return Err(reader.invalid("block size bits", 0)),
            1 => 192,
            2..=5 => 144 << block_size_code,
            6 => reader.read(8)? + 1,
            7 => reader.read(16)? + 1,
            _ => 1 << block_size_code,
        };
        let sampling_rate = match rate_code {
            0 => None,
            1 => Some(88_200),
            2 => Some(176_400),
            3 => Some(192_000),
            4 => Some(8_000),
            5 => Some(16_000),
            6 => Some(22_050),
            7 => Some(24_000),
            8 => Some(32_000),
            9 => Some(44_100),
            10 => Some(48_000),
            11 => Some(96_000),
            12 => Some(reader.read(8)? * 1_000),
            13 => Some(reader.read(16)?),
            14 => Some(reader.read(16)? * 10),
            reserved => return Err(reader.invalid("sample rate bits", u64::from(reserved))),
        };
        let crc = reader.read_u8(8)?;
        let header_size_bytes = usize::try_from(reader.position_bits() / 8).unwrap_or(usize::MAX);
        // A CRC over data and its CRC is zero.
        if data.get(..header_size_bytes).is_none_or(|header| crc8(header) != 0) {
            return Err(reader.invalid("CRC-8", u64::from(crc)));
        }
        Ok(FrameHeader {
            variable_block_size,
            number,
            block_samples,
            sampling_rate,
            channels,
            bits_per_sample,
            header_size_bytes,
        })
    }

    /// Whether the header fits the stream: what it states itself equals STREAMINFO.
    #[must_use]
    pub fn fits(&self, info: &StreamInfo) -> bool {
        self.channels == info.channels
            && self.sampling_rate.is_none_or(|rate| rate == info.sampling_rate)
            && self.bits_per_sample.is_none_or(|bits| bits == info.bits_per_sample)
            && self.block_samples <= u32::from(info.block_samples_max)
    }
}

/// Size of the frame at the start of `data`, found by its CRC-16: the frame ends where the checksum comes out even and
/// the next header (or the end of `data`) follows. `None` when `data` holds no whole frame.
///
/// Call with `data` to the end of the file, or with enough of it to hold the next frame's header.
#[must_use]
pub fn frame_size_bytes(data: &[u8], info: &StreamInfo) -> Option<usize> {
    let header = FrameHeader::parse(data).ok()?;
    // A frame's smallest: header, one byte of each subframe's header, CRC-16.
    let smallest = header.header_size_bytes + usize::from(header.channels) + 2;
    let mut crc = 0_u16;
    for (index, &byte) in data.iter().enumerate() {
        let size_bytes = index + 1;
        crc = crc16_step(crc, byte);
        if crc != 0 || size_bytes < smallest {
            continue;
        }
        let rest = data.get(size_bytes..).unwrap_or_default();
        if rest.is_empty() || FrameHeader::parse(rest).is_ok_and(|next| next.fits(info)) {
            return Some(size_bytes);
        }
    }
    None
}

/// Coded number of a frame header, the UTF-8 scheme stretched to 36 bits (RFC 9639 9.1.5).
fn read_coded_number(reader: &mut BitReader<'_>) -> Result<u64, CodecError> {
    let first = reader.read_u8(8)?;
    let ones = first.leading_ones();
    let follow_count = match ones {
        0 => return Ok(u64::from(first)),
        2..=7 => ones - 1,
        _ => return Err(reader.invalid("coded number", u64::from(first))),
    };
    let mut number = u64::from(first & (0x7f_u8 >> ones));
    for _ in 0..follow_count {
        let byte = reader.read_u8(8)?;
        if byte >> 6 != 0b10 {
            return Err(reader.invalid("coded number", u64::from(byte)));
        }
        number = (number << 6) | u64::from(byte & 0x3f);
    }
    Ok(number)
}

/// CRC-8 with polynomial x^8 + x^2 + x + 1.
fn crc8(data: &[u8]) -> u8 {
    data.iter().fold(0, |crc, &byte| {
        (0..8).fold(
            crc ^ byte,
            |crc, _| if crc & 0x80 != 0 { (crc << 1) ^ 0x07 } else { crc << 1 },
        )
    })
}

/// One byte of CRC-16 with polynomial x^16 + x^15 + x^2 + 1.
fn crc16_step(crc: u16, byte: u8) -> u16 {
    (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
        if crc & 0x8000 != 0 {
            (crc << 1) ^ 0x8005
        } else {
            crc << 1
        }
    })
}

#[cfg(test)]
#[path = "flac/tests.rs"]
mod tests;
