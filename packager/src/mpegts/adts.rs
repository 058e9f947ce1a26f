//! ADTS headers for the frames of one track: written once, then only the length changes.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::codec::aac::adts::{AdtsHeader, FRAME_SIZE_BYTES_MAX, HEADER_SIZE_BYTES};
use crate::codec::aac::{AudioSpecificConfig, sampling_rate_index};

/// What the headers of one stream have in common. HE-AAC is described by its core: decoders find SBR by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AdtsTemplate {
    header: [u8; HEADER_SIZE_BYTES],
    /// Of the core coder, in Hz.
    pub(super) sample_rate: u32,
}

impl AdtsTemplate {
    /// The template for an `AudioSpecificConfig`, or why there is none.
    pub(super) fn new(config: &[u8]) -> Result<AdtsTemplate, &'static str> {
        let config = AudioSpecificConfig::parse(config).map_err(|_| "the AAC configuration is damaged")?;
        let reason = match config.object_type {
            1..=4 if config.frame_length != 1_024 => "AAC frames of 960 samples cannot be carried in ADTS",
            1..=4 if sampling_rate_index(config.sampling_rate).is_none() => {
                "this AAC sampling rate cannot be carried in ADTS"
            }
            1..=4 => "this AAC channel configuration cannot be carried in ADTS",
            _ => "this AAC object type cannot be carried in ADTS",
        };
        let header = AdtsHeader::write(&config, 0).map_err(|_| reason)?;
        Ok(AdtsTemplate {
            header,
            sample_rate: config.sampling_rate,
        })
    }

    /// The header of a frame that is `frame_size` bytes with it, at most [`FRAME_SIZE_BYTES_MAX`].
    pub(super) fn header(&self, frame_size: usize) -> [u8; HEADER_SIZE_BYTES] {
        let size = frame_size.min(FRAME_SIZE_BYTES_MAX) as u16;
        let [a, b, c, d, _, f, g] = self.header;
        // `aac_frame_length`: 13 bits from the 31st on.
        [
            a,
            b,
            c,
            d & 0xfc | (size >> 11) as u8,
            (size >> 3) as u8,
            f & 0x1f | (size << 5) as u8,
            g,
        ]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_length_differs() {
        let config = AudioSpecificConfig::parse(&[0x11, 0x90]).unwrap();
        let template = AdtsTemplate::new(&[0x11, 0x90]).unwrap();
        for size in [0, 1, 7, 8, 255, 256, 2_047, 2_048, 8_184] {
            let expected = AdtsHeader::write(&config, size).unwrap();
            assert_eq!(template.header(size + HEADER_SIZE_BYTES), expected, "{size}");
        }
    }
}
