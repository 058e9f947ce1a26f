//! `dac3` and `dec3` (ETSI TS 102 366 annex F, joint object coding extension in ETSI TS 103 420).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{AccessUnit, BITRATES_KBPS, StreamType, SyncFrame, channel_count, locations_of};
use crate::codec::CodecError;
use crate::codec::bits::{BitReader, BitWriter};

fn sampling_rate_of(fscod: u8) -> Option<u32> {
    match fscod {
        0 => Some(48_000),
        1 => Some(44_100),
        2 => Some(32_000),
        _ => None,
    }
}

/// `AC3SpecificBox`, the payload of `dac3` (F.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dac3 {
    /// `fscod`, 0 to 2.
    pub fscod: u8,
    /// `bsid`.
    pub bsid: u8,
    /// `bsmod`.
    pub bsmod: u8,
    /// `acmod`.
    pub acmod: u8,
    /// `lfeon`.
    pub lfe: bool,
    /// `bit_rate_code`: index of the nominal bit rate.
    pub bitrate_code: u8,
}

impl Dac3 {
    /// Reads the payload of `dac3`.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(payload, "dac3");
        let dac3 = Dac3 {
            fscod: reader.read_u8(2)?,
            bsid: reader.read_u8(5)?,
            bsmod: reader.read_u8(3)?,
            acmod: reader.read_u8(3)?,
            lfe: reader.flag()?,
            bitrate_code: reader.read_u8(5)?,
        };
        reader.skip(5)?; // reserved
        Ok(dac3)
    }

    /// Builds the record from an AC-3 syncframe.
    pub fn build(frame: &SyncFrame) -> Result<Self, CodecError> {
        let bitrate_code = frame.bitrate_code.ok_or(CodecError::Missing {
            what: "dac3",
            field: "an AC-3 syncframe",
        })?;
        let SyncFrame {
            fscod,
            bsid,
            bsmod,
            acmod,
            lfe,
            ..
        } = *frame;
        Ok(Dac3 {
            fscod,
            bsid,
            bsmod,
            acmod,
            lfe,
            bitrate_code,
        })
    }

    /// The payload of `dac3`.
    #[must_use]
    pub fn serialise(&self) -> Vec<u8> {
        let mut writer = BitWriter::new();
        writer.write(u64::from(self.fscod & 3), 2);
        writer.write(u64::from(self.bsid & 31), 5);
        writer.write(u64::from(self.bsmod & 7), 3);
        writer.write(u64::from(self.acmod & 7), 3);
        writer.flag(self.lfe);
        writer.write(u64::from(self.bitrate_code & 31), 5);
        writer.write(0, 5);
        writer.into_bytes()
    }

    /// Samples per second; `None` for a reserved `fscod`.
    #[must_use]
    pub fn sampling_rate(&self) -> Option<u32> {
        sampling_rate_of(self.fscod).map(|rate| rate >> self.bsid.clamp(8, 10).saturating_sub(8))
    }

    /// Nominal bit rate; `None` for a reserved code.
    #[must_use]
    pub fn bitrate_bps(&self) -> Option<u32> {
        let kbps = BITRATES_KBPS.get(usize::from(self.bitrate_code))?;
        Some((kbps * 1_000) >> self.bsid.clamp(8, 10).saturating_sub(8))
    }

    /// Channels, LFE included.
    #[must_use]
    pub fn channels(&self) -> u8 {
        channel_count(self.channel_locations())
    }

    /// Channel locations in the bits of `chanmap`, which DASH writes as four hexadecimal digits (`F801` is 5.1).
    #[must_use]
    pub fn channel_locations(&self) -> u16 {
        locations_of(self.acmod, self.lfe)
    }
}

/// `EC3SpecificBox`, the payload of `dec3` (F.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dec3 {
    /// `data_rate` in kbit/s, of all substreams together.
    pub data_rate_kbps: u16,
    /// Independent substreams, 1 to 8.
    pub substreams: Vec<IndependentSubstream>,
    /// Complexity index when the stream carries joint object coding (Atmos).
    pub joc_complexity: Option<u8>,
}

/// One independent substream of [`Dec3`] and what its dependents add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndependentSubstream {
    /// `fscod`, 0 to 3.
    pub fscod: u8,
    /// `bsid`.
    pub bsid: u8,
    /// `asvc`: associated service.
    pub associated_service: bool,
    /// `bsmod`.
    pub bsmod: u8,
    /// `acmod`.
    pub acmod: u8,
    /// `lfeon`.
    pub lfe: bool,
    /// `num_dep_sub`, 0 to 15.
    pub dependent_count: u8,
    /// `chan_loc`: nine bits, from Lc/Rc in the least significant to LFE2; 0 without dependents.
    pub channel_location: u16,
}

impl IndependentSubstream {
    /// Channel locations with those of the dependents, in the bits of `chanmap`.
    #[must_use]
    pub fn channel_locations(&self) -> u16 {
        locations_of(self.acmod, self.lfe) | locations_of_chan_loc(self.channel_location)
    }
}

/// `chan_loc` (table F.6.1, first entry in bit 0) of a set of `chanmap` locations (table E.1.4, first entry in bit 15).
/// What `chan_loc` has no bit for is left away.
fn chan_loc_of(locations: u16) -> u16 {
    (0..8).map(|bit| ((locations >> (10 - bit)) & 1) << bit).sum::<u16>() | (((locations >> 1) & 1) << 8)
}

fn locations_of_chan_loc(chan_loc: u16) -> u16 {
    (0..8).map(|bit| ((chan_loc >> bit) & 1) << (10 - bit)).sum::<u16>() | (((chan_loc >> 8) & 1) << 1)
}

impl Dec3 {
    /// Reads the payload of `dec3`.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(payload, "dec3");
        let data_rate_kbps = reader.read_u16(13)?;
        let count = reader.read(3)? + 1;
        let mut substreams = Vec::new();
        for _ in 0..count {
            let fscod = reader.read_u8(2)?;
            let bsid = reader.read_u8(5)?;
            reader.skip(1)?; // reserved
            let associated_service = reader.flag()?;
            let bsmod = reader.read_u8(3)?;
            let acmod = reader.read_u8(3)?;
            let lfe = reader.flag()?;
            reader.skip(3)?; // reserved
            let dependent_count = reader.read_u8(4)?;
            let mut channel_location = 0;
            if dependent_count > 0 {
                channel_location = reader.read_u16(9)?;
            } else {
                reader.skip(1)?; // reserved
            }
            substreams.push(IndependentSubstream {
                fscod,
                bsid,
                associated_service,
                bsmod,
                acmod,
                lfe,
                dependent_count,
                channel_location,
            });
        }
        let mut joc_complexity = None;
        if reader.bits_left() >= 16 {
            reader.skip(7)?; // reserved
            if reader.flag()? {
                joc_complexity = Some(reader.read_u8(8)?);
            }
        }
        Ok(Dec3 {
            data_rate_kbps,
            substreams,
            joc_complexity,
        })
    }

    /// Builds the record from one access unit. The data rate is that of this unit, rounded up to whole kbit/s.
    pub fn build(unit: &AccessUnit) -> Result<Self, CodecError> {
        let missing = |field| CodecError::Missing { what: "dec3", field };
        let mut substreams: Vec<(u8, IndependentSubstream)> = Vec::new();
        let mut joc_complexity = None;
        let first = unit.frames.first().ok_or(missing("a syncframe"))?;
        // Units of short frames repeat every substream until six blocks are full; the first round tells all.
        let round_blocks = u32::from(first.block_count);
        let mut blocks = 0;
        for frame in &unit.frames {
            if frame.begins_access_unit() {
                blocks += u32::from(frame.block_count);
            }
            if blocks > round_blocks {
                break;
            }
            joc_complexity = joc_complexity.or(frame.joc_complexity);
            if frame.stream_type == StreamType::Dependent {
                let (_, parent) = substreams.last_mut().ok_or(missing("an independent substream"))?;
                parent.dependent_count = (parent.dependent_count + 1).min(15);
                parent.channel_location |= chan_loc_of(frame.channel_locations());
            } else if !substreams.iter().any(|(id, _)| *id == frame.substream_id) {
                let substream = IndependentSubstream {
                    fscod: frame.fscod,
                    bsid: frame.bsid,
                    associated_service: false,
                    bsmod: frame.bsmod,
                    acmod: frame.acmod,
                    lfe: frame.lfe,
                    dependent_count: 0,
                    channel_location: 0,
                };
                substreams.push((frame.substream_id, substream));
            }
        }
        let sample_count = u64::from(unit.sample_count());
        let bits = (unit.size_bytes as u64)
            .saturating_mul(8)
            .saturating_mul(u64::from(first.sampling_rate));
        if sample_count == 0 || substreams.is_empty() {
            return Err(missing("an independent substream"));
        }
        let data_rate_kbps = bits.div_ceil(sample_count * 1_000).min(0x1fff) as u16;
        let substreams = substreams.into_iter().map(|(_, substream)| substream).collect();
        Ok(Dec3 {
            data_rate_kbps,
            substreams,
            joc_complexity,
        })
    }

    /// The payload of `dec3`. Fails without substreams or with more than eight.
    pub fn serialise(&self) -> Result<Vec<u8>, CodecError> {
        if !(1..=8).contains(&self.substreams.len()) {
            return Err(CodecError::Invalid {
                what: "dec3",
                field: "num_ind_sub",
                offset_bits: 13,
                value: self.substreams.len() as u64,
            });
        }
        let mut writer = BitWriter::new();
        writer.write(u64::from(self.data_rate_kbps & 0x1fff), 13);
        writer.write(self.substreams.len() as u64 - 1, 3);
        for substream in &self.substreams {
            writer.write(u64::from(substream.fscod & 3), 2);
            writer.write(u64::from(substream.bsid & 31), 5);
            writer.write(0, 1);
            writer.flag(substream.associated_service);
            writer.write(u64::from(substream.bsmod & 7), 3);
            writer.write(u64::from(substream.acmod & 7), 3);
            writer.flag(substream.lfe);
            writer.write(0, 3);
            writer.write(u64::from(substream.dependent_count & 15), 4);
            if substream.dependent_count & 15 > 0 {
                writer.write(u64::from(substream.channel_location & 0x1ff), 9);
            } else {
                writer.write(0, 1);
            }
        }
        if let Some(complexity) = self.joc_complexity {
            writer.write(1, 8); // reserved, flag_ec3_extension_type_a
            writer.write(u64::from(complexity), 8);
        }
        Ok(writer.into_bytes())
    }

    /// Samples per second; `None` when the first substream has a half rate, which only its frames tell.
    #[must_use]
    pub fn sampling_rate(&self) -> Option<u32> {
        self.substreams
            .first()
            .and_then(|substream| sampling_rate_of(substream.fscod))
    }

    /// Channels of the first programme, LFE included; objects are not counted.
    #[must_use]
    pub fn channels(&self) -> u8 {
        channel_count(self.channel_locations())
    }

    /// Channel locations of the first programme in the bits of `chanmap`.
    #[must_use]
    pub fn channel_locations(&self) -> u16 {
        self.substreams
            .first()
            .map_or(0, IndependentSubstream::channel_locations)
    }

    /// Value of the HLS `CHANNELS` attribute: `16/JOC` for Atmos of complexity 16, else the channel count.
    #[must_use]
    pub fn hls_channels(&self) -> String {
        match self.joc_complexity {
            Some(complexity) => format!("{complexity}/JOC"),
            None => self.channels().to_string(),
        }
    }
}
