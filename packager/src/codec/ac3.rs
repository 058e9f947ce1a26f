//! AC-3 and Enhanced AC-3 (ETSI TS 102 366): syncframe headers, access units, channel locations.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod boxes;

pub use boxes::{Dac3, Dec3, IndependentSubstream};

use super::CodecError;
use super::bits::BitReader;

/// Samples of one audio block.
pub const BLOCK_SAMPLES: u32 = 256;

/// Blocks of an access unit: what one sample of an `ec-3` track holds of each substream.
const ACCESS_UNIT_BLOCKS: u32 = 6;

/// Bit rates of AC-3 in kbit/s by `frmsizecod / 2` (table 4.13).
const BITRATES_KBPS: [u32; 19] = [
    32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640,
];

/// `strmtyp` (E.1.3.1.1). AC-3 frames count as independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamType {
    /// 0: a programme by itself.
    Independent,
    /// 1: adds channels to the independent substream before it.
    Dependent,
    /// 2: independent, converted from AC-3.
    Converted,
}

/// Header of a syncframe of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncFrame {
    /// Bytes of the frame, header included.
    pub frame_size_bytes: usize,
    /// Samples per second.
    pub sampling_rate: u32,
    /// `fscod`, 0 to 3; 3 only in Enhanced AC-3 at half rates.
    pub fscod: u8,
    /// Audio blocks of 256 samples: 1, 2, 3 or 6.
    pub block_count: u8,
    /// `acmod`, 0 to 7: full-bandwidth channels.
    pub acmod: u8,
    /// `lfeon`: low-frequency effects channel.
    pub lfe: bool,
    /// `bsid`: up to 10 AC-3, 11 to 16 Enhanced AC-3.
    pub bsid: u8,
    /// `bsmod`: kind of service; 0 (complete main) when an Enhanced AC-3 frame does not say.
    pub bsmod: u8,
    /// `frmsizecod / 2` of AC-3: index of the nominal bit rate.
    pub bitrate_code: Option<u8>,
    /// Kind of substream.
    pub stream_type: StreamType,
    /// `substreamid`, 0 to 7.
    pub substream_id: u8,
    /// `chanmap` of a dependent substream.
    pub channel_map: Option<u16>,
    /// Complexity index of joint object coding (Atmos), from `addbsi` (ETSI TS 103 420 8.3.1).
    pub joc_complexity: Option<u8>,
}

impl SyncFrame {
    /// Reads the header of the syncframe at the start of `data`.
    pub fn parse(data: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(data, "ac-3 syncframe");
        let sync = reader.read(16)?;
        if sync != 0x0b77 {
            return Err(reader.invalid("syncword", u64::from(sync)));
        }
        // bsid stands at the same place in both syntaxes.
        let mut ahead = reader.clone();
        ahead.skip(24)?;
        match ahead.read_u8(5)? {
            bsid @ 0..=10 => Self::read_ac3(&mut reader, bsid),
            bsid @ 11..=16 => Self::read_eac3(&mut reader, bsid),
            bsid => Err(ahead.invalid("bsid", u64::from(bsid))),
        }
    }

    /// `syncinfo()` and `bsi()` of AC-3 (4.3.1, 4.3.2).
    fn read_ac3(reader: &mut BitReader<'_>, bsid: u8) -> Result<Self, CodecError> {
        reader.skip(16)?; // crc1
        let fscod = reader.read_u8(2)?;
        let frame_size_code = reader.read_u8(6)?;
        let bitrate_code = frame_size_code / 2;
        let bitrate_kbps = *BITRATES_KBPS
            .get(usize::from(bitrate_code))
            .ok_or_else(|| reader.invalid("frmsizecod", u64::from(frame_size_code)))?;
        // Words of 16 bits in 1,536 samples. At 44.1 kHz that is not whole: odd codes have one word more.
        let (full_rate, words) = match fscod {
            0 => (48_000, bitrate_kbps * 2),
            1 => (44_100, bitrate_kbps * 320 / 147 + u32::from(frame_size_code % 2)),
            2 => (32_000, bitrate_kbps * 3),
            _ => return Err(reader.invalid("fscod", u64::from(fscod))),
        };
        reader.skip(5)?; // bsid
        let bsmod = reader.read_u8(3)?;
        let acmod = reader.read_u8(3)?;
        if acmod & 1 != 0 && acmod != 1 {
            reader.skip(2)?; // cmixlev
        }
        if acmod & 4 != 0 {
            reader.skip(2)?; // surmixlev
        }
        if acmod == 2 {
            reader.skip(2)?; // dsurmod
        }
        Ok(SyncFrame {
            frame_size_bytes: words as usize * 2,
            // bsid 9 and 10: the same stream at a half and a quarter of the rate.
            sampling_rate: full_rate >> bsid.saturating_sub(8),
            fscod,
            block_count: 6,
            acmod,
            lfe: reader.flag()?,
            bsid,
            bsmod,
            bitrate_code: Some(bitrate_code),
            stream_type: StreamType::Independent,
            substream_id: 0,
            channel_map: None,
            joc_complexity: None,
        })
    }

    /// `bsi()` of Enhanced AC-3 (E.1.2.2).
    fn read_eac3(reader: &mut BitReader<'_>, bsid: u8) -> Result<Self, CodecError> {
        let stream_type = match reader.read(2)? {
            0 => StreamType::Independent,
            1 => StreamType::Dependent,
            2 => StreamType::Converted,
            reserved => return Err(reader.invalid("strmtyp", u64::from(reserved))),
        };
        let substream_id = reader.read_u8(3)?;
        let frame_size_bytes = (reader.read(11)? as usize + 1) * 2;
        let fscod = reader.read_u8(2)?;
        let (sampling_rate, block_count) = if fscod == 3 {
            let rate = match reader.read(2)? {
                0 => 24_000,
                1 => 22_050,
                2 => 16_000,
                reserved => return Err(reader.invalid("fscod2", u64::from(reserved))),
            };
            (rate, 6)
        } else {
            let rate = match fscod {
                0 => 48_000,
                1 => 44_100,
                _ => 32_000,
            };
            let blocks = match reader.read(2)? {
                3 => 6,
                code => code as u8 + 1,
            };
            (rate, blocks)
        };
        let acmod = reader.read_u8(3)?;
        let lfe = reader.flag()?;
        reader.skip(5)?; // bsid
        let mut frame = SyncFrame {
            frame_size_bytes,
            sampling_rate,
            fscod,
            block_count,
            acmod,
            lfe,
            bsid,
            bsmod: 0,
            bitrate_code: None,
            stream_type,
            substream_id,
            channel_map: None,
            joc_complexity: None,
        };
        frame.read_metadata(reader)?;
        Ok(frame)
    }

    /// What follows `bsid` in Enhanced AC-3, up to `addbsi`.
    fn read_metadata(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        let programmes = if self.acmod == 0 { 2 } else { 1 };
        for _ in 0..programmes {
            reader.skip(5)?; // dialnorm
            skip_if(reader, 8)?; // compr
        }
        if self.stream_type == StreamType::Dependent && reader.flag()? {
            self.channel_map = Some(reader.read_u16(16)?);
        }
        if reader.flag()? {
            self.skip_mixing(reader, programmes)?;
        }
        if reader.flag()? {
            self.bsmod = reader.read_u8(3)?;
            reader.skip(2)?; // copyrightb, origbs
            if self.acmod == 2 {
                reader.skip(4)?; // dsurmod, dheadphonmod
            }
            if self.acmod >= 6 {
                reader.skip(2)?; // dsurexmod
            }
            for _ in 0..programmes {
                skip_if(reader, 8)?; // mixlevel, roomtyp, adconvtyp
            }
            if self.fscod < 3 {
                reader.skip(1)?; // sourcefscod
            }
        }
        if self.stream_type == StreamType::Independent && self.block_count != 6 {
            reader.skip(1)?; // convsync
        }
        if self.stream_type == StreamType::Converted && (self.block_count == 6 || reader.flag()?) {
            reader.skip(6)?; // frmsizecod
        }
        if reader.flag()? {
            let size_bytes = reader.read(6)? + 1;
            reader.skip(7)?;
            if reader.flag()? && size_bytes > 1 {
                self.joc_complexity = Some(reader.read_u8(8)?);
            }
        }
        Ok(())
    }

    /// Mixing metadata (`mixmdate` set).
    fn skip_mixing(&self, reader: &mut BitReader<'_>, programmes: u32) -> Result<(), CodecError> {
        if self.acmod > 2 {
            reader.skip(2)?; // dmixmod
        }
        if self.acmod & 1 != 0 && self.acmod > 2 {
            reader.skip(6)?; // ltrtcmixlev, lorocmixlev
        }
        if self.acmod & 4 != 0 {
            reader.skip(6)?; // ltrtsurmixlev, lorosurmixlev
        }
        if self.lfe {
            skip_if(reader, 5)?; // lfemixlevcod
        }
        if self.stream_type != StreamType::Independent {
            return Ok(());
        }
        for _ in 0..programmes {
            skip_if(reader, 6)?; // pgmscl
        }
        skip_if(reader, 6)?; // extpgmscl
        match reader.read(2)? {
            1 => reader.skip(5)?,  // premixcmpsel, drcsrc, premixcmpscl
            2 => reader.skip(12)?, // mixdata
            3 => {
                let size_bytes = u64::from(reader.read(5)?) + 2;
                reader.skip(size_bytes * 8)?;
            }
            _ => {}
        }
        if self.acmod < 2 {
            for _ in 0..programmes {
                skip_if(reader, 14)?; // panmean, paninfo
            }
        }
        if reader.flag()? {
            if self.block_count == 1 {
                reader.skip(5)?; // blkmixcfginfo
            } else {
                for _ in 0..self.block_count {
                    skip_if(reader, 5)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the frame has the syntax of Enhanced AC-3.
    #[must_use]
    pub fn is_enhanced(&self) -> bool {
        self.bsid > 10
    }

    /// Samples per channel.
    #[must_use]
    pub fn sample_count(&self) -> u32 {
        u32::from(self.block_count) * BLOCK_SAMPLES
    }

    /// Channels of this substream alone, LFE included.
    #[must_use]
    pub fn channels(&self) -> u8 {
        channel_count(self.channel_locations())
    }

    /// Channel locations of this substream alone, in the bits of `chanmap` (table E.1.4): `0xf801` is 5.1.
    #[must_use]
    pub fn channel_locations(&self) -> u16 {
        self.channel_map.unwrap_or_else(|| locations_of(self.acmod, self.lfe))
    }

    /// Whether an access unit begins here: the first independent substream.
    #[must_use]
    pub fn begins_access_unit(&self) -> bool {
        self.stream_type != StreamType::Dependent && self.substream_id == 0
    }
}

/// Passes over a field of `bits` when the flag before it says it is there.
fn skip_if(reader: &mut BitReader<'_>, bits: u64) -> Result<(), CodecError> {
    if reader.flag()? { reader.skip(bits) } else { Ok(()) }
}

/// Locations of `acmod` and `lfeon` in the bits of `chanmap`; 1+1 counts as left and right.
fn locations_of(acmod: u8, lfe: bool) -> u16 {
    const LEFT: u16 = 1 << 15;
    const CENTRE: u16 = 1 << 14;
    const RIGHT: u16 = 1 << 13;
    const LEFT_SURROUND: u16 = 1 << 12;
    const RIGHT_SURROUND: u16 = 1 << 11;
    const CENTRE_SURROUND: u16 = 1 << 8;
    let full_band = match acmod {
        1 => CENTRE,
        0 | 2 => LEFT | RIGHT,
        3 => LEFT | CENTRE | RIGHT,
        4 => LEFT | RIGHT | CENTRE_SURROUND,
        5 => LEFT | CENTRE | RIGHT | CENTRE_SURROUND,
        6 => LEFT | RIGHT | LEFT_SURROUND | RIGHT_SURROUND,
        _ => LEFT | CENTRE | RIGHT | LEFT_SURROUND | RIGHT_SURROUND,
    };
    full_band | u16::from(lfe)
}

/// Channels of a set of `chanmap` locations; six of the bits stand for a pair.
#[must_use]
pub fn channel_count(locations: u16) -> u8 {
    const PAIRS: u16 = (1 << 10) | (1 << 9) | (1 << 6) | (1 << 5) | (1 << 4) | (1 << 2);
    (locations.count_ones() + (locations & PAIRS).count_ones()) as u8
}

/// The syncframes that follow each other in `data`, each with its bytes. The first error ends the iteration.
#[must_use]
pub fn sync_frames(data: &[u8]) -> SyncFrames<'_> {
    SyncFrames {
        rest: data,
        failed: false,
    }
}

/// Iterator of [`sync_frames`].
#[derive(Debug, Clone)]
pub struct SyncFrames<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Iterator for SyncFrames<'a> {
    type Item = Result<(SyncFrame, &'a [u8]), CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let frame = SyncFrame::parse(self.rest).and_then(|frame| {
            let truncated = CodecError::Truncated {
                what: "ac-3 syncframe",
                offset_bits: 0,
                want_bits: frame.frame_size_bytes as u64 * 8,
                have_bits: self.rest.len() as u64 * 8,
            };
            let (bytes, rest) = self.rest.split_at_checked(frame.frame_size_bytes).ok_or(truncated)?;
            self.rest = rest;
            Ok((frame, bytes))
        });
        self.failed = frame.is_err();
        Some(frame)
    }
}

/// An access unit: six blocks (1,536 samples) of every substream, one sample of an `ac-3` or `ec-3` track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// Headers of its syncframes, in order.
    pub frames: Vec<SyncFrame>,
    /// Bytes of all of them.
    pub size_bytes: usize,
    /// The next access unit's first frame was seen, so no substream of this one is missing.
    pub is_closed: bool,
}

impl AccessUnit {
    /// Finds the access unit at the start of `data`. When `data` ends before the next one begins, `is_closed` is false
    /// and more substreams may follow; `None` when `data` ends before six blocks are complete.
    pub fn parse(data: &[u8]) -> Result<Option<Self>, CodecError> {
        let mut unit = AccessUnit {
            frames: Vec::new(),
            size_bytes: 0,
            is_closed: false,
        };
        let mut blocks = 0;
        let mut rest = data;
        while !rest.is_empty() {
            let frame = match SyncFrame::parse(rest) {
                Ok(frame) => frame,
                Err(CodecError::Truncated { .. }) => break,
                Err(error) => return Err(error),
            };
            if frame.begins_access_unit() {
                if blocks >= ACCESS_UNIT_BLOCKS {
                    unit.is_closed = true;
                    break;
                }
                blocks += u32::from(frame.block_count);
            } else if unit.frames.is_empty() {
                return Err(CodecError::Invalid {
                    what: "ac-3 access unit",
                    field: "first substreamid",
                    offset_bits: 0,
                    value: u64::from(frame.substream_id),
                });
            }
            let Some(next) = rest.get(frame.frame_size_bytes..) else {
                break;
            };
            unit.size_bytes += frame.frame_size_bytes;
            unit.frames.push(frame);
            rest = next;
        }
        Ok((blocks >= ACCESS_UNIT_BLOCKS && !unit.frames.is_empty()).then_some(unit))
    }

    /// Samples per channel of the first substream.
    #[must_use]
    pub fn sample_count(&self) -> u32 {
        self.frames
            .iter()
            .filter(|frame| frame.begins_access_unit())
            .map(SyncFrame::sample_count)
            .sum()
    }
}

#[cfg(test)]
#[path = "ac3/tests.rs"]
mod tests;
