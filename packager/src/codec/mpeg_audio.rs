//! MPEG audio, layers I to III (ISO/IEC 11172-3 2.4.2.3, 13818-3, and MPEG-2.5): frame header and Xing/VBRI tables.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::CodecError;
use super::bits::BitReader;

/// Which standard a frame follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// ISO/IEC 11172-3: 32, 44.1 and 48 kHz.
    Mpeg1,
    /// ISO/IEC 13818-3: half of those rates.
    Mpeg2,
    /// Fraunhofer's extension: a quarter of those rates.
    Mpeg25,
}

/// Frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Standard.
    pub version: Version,
    /// Layer, 1 to 3.
    pub layer: u8,
    /// Bits per second.
    pub bitrate_bps: u32,
    /// Samples per second.
    pub sampling_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    /// Samples per channel in the frame.
    pub sample_count: u16,
    /// Bytes of the whole frame, header included.
    pub frame_size_bytes: usize,
    /// A 16-bit CRC follows the header.
    pub has_crc: bool,
}

impl FrameHeader {
    /// Reads a header at the start of `data`. Free-format streams (bit rate index 0) are refused: their frame size is
    /// known from the next frame only.
    pub fn parse(data: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(data, "mpeg audio header");
        let sync = reader.read(11)?;
        if sync != 0x7ff {
            return Err(reader.invalid("syncword", u64::from(sync)));
        }
        let version = match reader.read(2)? {
            0 => Version::Mpeg25,
            2 => Version::Mpeg2,
            3 => Version::Mpeg1,
            reserved => return Err(reader.invalid("ID", u64::from(reserved))),
        };
        let layer = match reader.read_u8(2)? {
            0 => return Err(reader.invalid("layer", 0)),
            coded => 4 - coded,
        };
        let has_crc = !reader.flag()?;
        let bitrate_index = reader.read_u8(4)?;
        let bitrate_kbps = bitrate_kbps(version, layer, bitrate_index)
            .ok_or_else(|| reader.invalid("bitrate_index", u64::from(bitrate_index)))?;
        let full_rate = match reader.read(2)? {
            0 => 44_100,
            1 => 48_000,
            2 => 32_000,
            reserved => return Err(reader.invalid("sampling_frequency", u64::from(reserved))),
        };
        let sampling_rate = match version {
            Version::Mpeg1 => full_rate,
            Version::Mpeg2 => full_rate / 2,
            Version::Mpeg25 => full_rate / 4,
        };
        let padding = reader.read(1)?;
        reader.skip(1)?; // private_bit
        let mode = reader.read(2)?;
        reader.skip(6)?; // mode_extension, copyright, original, emphasis
        let sample_count: u16 = match (layer, version) {
            (1, _) => 384,
            (2, _) | (3, Version::Mpeg1) => 1_152,
            _ => 576,
        };
        let bitrate_bps = bitrate_kbps * 1_000;
        // Layer I counts in slots of four bytes, the others in bytes; both round down.
        let frame_size_bytes = if layer == 1 {
            (12 * bitrate_bps / sampling_rate + padding) * 4
        } else {
            u32::from(sample_count) / 8 * bitrate_bps / sampling_rate + padding
        };
        Ok(FrameHeader {
            version,
            layer,
            bitrate_bps,
            sampling_rate,
            channels: if mode == 3 { 1 } else { 2 },
            sample_count,
            frame_size_bytes: frame_size_bytes as usize,
            has_crc,
        })
    }

    /// Whether two headers can belong to one stream: standard, layer and sampling rate do not change within it.
    #[must_use]
    pub fn continues(&self, earlier: &FrameHeader) -> bool {
        (self.version, self.layer, self.sampling_rate) == (earlier.version, earlier.layer, earlier.sampling_rate)
    }

    /// `objectTypeIndication` of a track of such frames: 0x6b for MPEG-1, 0x69 for lower sampling rates.
    #[must_use]
    pub fn object_type_indication(&self) -> u8 {
        if self.version == Version::Mpeg1 { 0x6b } else { 0x69 }
    }

    /// RFC 6381 string by MPEG-4 audio object type: `mp4a.40.34` for layer III, 33 for II, 32 for I.
    #[must_use]
    pub fn rfc6381(&self) -> String {
        format!("mp4a.40.{}", 31 + self.layer)
    }
}

/// `bitrate_index` in kbit/s; `None` for 0 (free format) and 15 (forbidden).
fn bitrate_kbps(version: Version, layer: u8, index: u8) -> Option<u32> {
    const MPEG1: [[u32; 14]; 3] = [
        [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
        [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
        [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    ];
    const MPEG2: [[u32; 14]; 2] = [
        [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
        [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    ];
    let row = usize::from(layer.checked_sub(1)?);
    let table = match version {
        Version::Mpeg1 => MPEG1.get(row),
        _ => MPEG2.get(row.min(1)),
    };
    table?.get(usize::from(index.checked_sub(1)?)).copied()
}

/// What an encoder wrote into a first frame that carries no sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamTable {
    /// Which table it is.
    pub kind: StreamTableKind,
    /// Frames of the stream, the table's own not counted.
    pub frame_count: Option<u32>,
    /// Bytes of the stream, the table's own frame counted by most writers.
    pub stream_size_bytes: Option<u32>,
    /// Samples to drop at the start, from a LAME tag; the decoder's own delay of 529 samples is not in it.
    pub encoder_delay: Option<u16>,
    /// Samples to drop at the end, from a LAME tag.
    pub encoder_padding: Option<u16>,
}

/// The kinds of [`StreamTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamTableKind {
    /// `Xing`: variable bit rate.
    Xing,
    /// `Info`: constant bit rate.
    Info,
    /// Fraunhofer's `VBRI`.
    Vbri,
}

impl StreamTable {
    /// Looks for a table in a layer III frame; `None` when the frame has none, that is, carries sound.
    #[must_use]
    pub fn find(frame: &[u8], header: &FrameHeader) -> Option<Self> {
        if header.layer != 3 {
            return None;
        }
        let side_info_size_bytes = match (header.version, header.channels) {
            (Version::Mpeg1, 1) => 17,
            (Version::Mpeg1, _) => 32,
            (_, 1) => 9,
            _ => 17,
        };
        // Writers disagree whether a CRC moves the tag.
        let offsets = if header.has_crc { [0, 2] } else { [0, 0] };
        offsets
            .iter()
            .find_map(|crc_size_bytes| Self::parse_xing(frame.get(4 + side_info_size_bytes + crc_size_bytes..)?))
            .or_else(|| Self::parse_vbri(frame.get(36..)?))
    }

    fn parse_xing(tag: &[u8]) -> Option<Self> {
        let kind = match tag.get(..4)? {
            b"Xing" => StreamTableKind::Xing,
            b"Info" => StreamTableKind::Info,
            _ => return None,
        };
        let mut reader = BitReader::new(tag, "xing");
        reader.skip(32).ok()?;
        let flags = reader.read(32).ok()?;
        let mut table = StreamTable {
            kind,
            frame_count: None,
            stream_size_bytes: None,
            encoder_delay: None,
            encoder_padding: None,
        };
        if flags & 1 != 0 {
            table.frame_count = reader.read(32).ok();
        }
        if flags & 2 != 0 {
            table.stream_size_bytes = reader.read(32).ok();
        }
        let seek_table_and_quality_bits = if flags & 4 != 0 { 800 } else { 0 } + if flags & 8 != 0 { 32 } else { 0 };
        let _ = table.read_lame(&mut reader, seek_table_and_quality_bits);
        Some(table)
    }

    /// The LAME tag behind the Xing fields; libavformat writes the same layout under its own name.
    fn read_lame(&mut self, reader: &mut BitReader<'_>, skip_bits: u64) -> Result<(), CodecError> {
        reader.skip(skip_bits)?;
        let encoder = reader.bytes(9)?;
        if !(encoder.starts_with(b"LAME") || encoder.starts_with(b"Lavf") || encoder.starts_with(b"Lavc")) {
            return Ok(());
        }
        reader.skip(12 * 8)?; // revision, low pass, peak, gains, flags, bit rate
        self.encoder_delay = Some(reader.read_u16(12)?);
        self.encoder_padding = Some(reader.read_u16(12)?);
        Ok(())
    }

    fn parse_vbri(tag: &[u8]) -> Option<Self> {
        if tag.get(..4)? != b"VBRI" {
            return None;
        }
        let mut reader = BitReader::new(tag, "vbri");
        reader.skip(80).ok()?; // tag, version, delay, quality
        let stream_size_bytes = reader.read(32).ok();
        let frame_count = reader.read(32).ok();
        Some(StreamTable {
            kind: StreamTableKind::Vbri,
            frame_count,
            stream_size_bytes,
            encoder_delay: None,
            encoder_padding: None,
        })
    }
}

#[cfg(test)]
#[path = "mpeg_audio/tests.rs"]
mod tests;
