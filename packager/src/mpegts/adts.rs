//! ADTS: the header that lets a raw AAC frame stand alone (ISO/IEC 14496-3 1.A.3.2).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

/// Bytes of a header without CRC.
pub(super) const ADTS_HEADER_SIZE: usize = 7;

/// `aac_frame_length` has 13 bits and counts the header.
pub(super) const FRAME_SIZE_MAX: usize = (1 << 13) - 1;

/// `samplingFrequencyIndex` values 0 to 12, in Hz.
const SAMPLE_RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
];

/// What the headers of one stream have in common. HE-AAC is described by its core: decoders find SBR by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AdtsHeader {
    /// `audioObjectType - 1`, 2 bits.
    profile: u8,
    sample_rate_index: u8,
    channel_configuration: u8,
    /// Of the core coder, in Hz.
    pub(super) sample_rate: u32,
}

impl AdtsHeader {
    /// The header for an `AudioSpecificConfig` (ISO/IEC 14496-3 1.6.2.1), or why there is none.
    pub(super) fn new(config: &[u8]) -> Result<AdtsHeader, &'static str> {
        let mut fields = Fields { bytes: config, at: 0 };
        let object_type = fields.object_type()?;
        let (sample_rate_index, sample_rate) = fields.sample_rate()?;
        let channel_configuration = fields.take(4)?;
        let object_type = if matches!(object_type, 5 | 29) {
            fields.sample_rate()?;
            fields.object_type()?
        } else {
            object_type
        };
        if !(1..=4).contains(&object_type) {
            return Err("this AAC object type cannot be carried in ADTS");
        }
        if !(1..=7).contains(&channel_configuration) {
            return Err("this AAC channel configuration cannot be carried in ADTS");
        }
        if fields.take(1)? == 1 {
            return Err("AAC frames of 960 samples cannot be carried in ADTS");
        }
        Ok(AdtsHeader {
            profile: (object_type - 1) as u8,
            sample_rate_index,
            channel_configuration: channel_configuration as u8,
            sample_rate,
        })
    }

    /// The header of a frame that is `frame_size` bytes with it, at most [`FRAME_SIZE_MAX`].
    pub(super) fn bytes(&self, frame_size: usize) -> [u8; ADTS_HEADER_SIZE] {
        let size = frame_size.min(FRAME_SIZE_MAX) as u16;
        [
            0xff,
            // MPEG-4, layer 0, no CRC.
            0xf1,
            self.profile << 6 | self.sample_rate_index << 2 | self.channel_configuration >> 2,
            (self.channel_configuration & 3) << 6 | (size >> 11) as u8,
            (size >> 3) as u8,
            // Buffer fullness 0x7ff: variable bit rate. One raw data block.
            (size as u8) << 5 | 0x1f,
            0xfc,
        ]
    }
}

/// Bit fields of a configuration.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take(&mut self, count: u32) -> Result<u32, &'static str> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self
                .bytes
                .get(self.at / 8)
                .ok_or("the AAC configuration is cut short")?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }

    fn object_type(&mut self) -> Result<u32, &'static str> {
        match self.take(5)? {
            31 => Ok(32 + self.take(6)?),
            object_type => Ok(object_type),
        }
    }

    /// Index and rate; a rate written out is accepted when the table has it.
    fn sample_rate(&mut self) -> Result<(u8, u32), &'static str> {
        let rate = match self.take(4)? {
            15 => self.take(24)?,
            index => SAMPLE_RATES.get(index as usize).copied().unwrap_or_default(),
        };
        let index = SAMPLE_RATES.iter().position(|known| *known == rate);
        let index = index.ok_or("this AAC sampling rate cannot be carried in ADTS")?;
        Ok((index as u8, rate))
    }
}
