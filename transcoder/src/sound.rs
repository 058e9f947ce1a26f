//! Which renditions are made of a sound stream. Pure.

use packager::codec::Codec;

use crate::order::AudioRendition;
use crate::source::AudioSource;

/// Rates that are kept as they are; others become 48 kHz.
const RATES_KEPT: [u32; 8] = [48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 8_000];

/// AAC-LC in mono or stereo for everybody, and in 5.1 where the source has that many channels. Where other sound of the film
/// is not `mono`, none is: players switch languages among sound of as many channels.
pub fn choose(source: &AudioSource, mono: bool) -> Vec<AudioRendition> {
    let sample_rate = match source.sample_rate {
        rate if RATES_KEPT.contains(&rate) => rate,
        88_200 | 176_400 => 44_100,
        _ => 48_000,
    };
    let rendition = |channels: u32, bitrate_bps: u32| AudioRendition {
        channels,
        sample_rate,
        // Half the samples need about half the bits.
        bitrate_bps: (u64::from(bitrate_bps) * u64::from(sample_rate.clamp(12_000, 48_000)) / 48_000) as u32,
    };
    let mut renditions = match source.channels {
        1 if mono => vec![rendition(1, 96_000)],
        _ => vec![rendition(2, 160_000)],
    };
    if source.channels >= 6 {
        renditions.push(rendition(6, 384_000));
    }
    renditions
}

/// Whether sound of this coding is kept as it is beside AAC: receivers take it apart themselves.
pub fn is_kept(codec: Codec) -> bool {
    matches!(codec, Codec::Ac3 | Codec::Eac3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_stereo_and_cinemas_their_channels() {
        let check_beside = |mono, channels, sample_rate, expected: &[(u32, u32, u32)]| {
            let source = AudioSource {
                stream_id: String::new(),
                coding: String::new(),
                channels,
                sample_rate,
                language: None,
                title: None,
            };
            let rows: Vec<_> = choose(&source, mono)
                .iter()
                .map(|made| (made.channels, made.sample_rate, made.bitrate_bps))
                .collect();
            assert_eq!(rows, expected, "{channels} at {sample_rate}");
        };
        let check = |channels, sample_rate, expected: &[(u32, u32, u32)]| {
            check_beside(true, channels, sample_rate, expected);
        };
        check_beside(false, 1, 48_000, &[(2, 48_000, 160_000)]);
        check(1, 48_000, &[(1, 48_000, 96_000)]);
        check(2, 44_100, &[(2, 44_100, 147_000)]);
        check(2, 96_000, &[(2, 48_000, 160_000)]);
        check(2, 8_000, &[(2, 8_000, 40_000)]);
        check(6, 48_000, &[(2, 48_000, 160_000), (6, 48_000, 384_000)]);
        check(8, 88_200, &[(2, 44_100, 147_000), (6, 44_100, 352_800)]);
    }
}
