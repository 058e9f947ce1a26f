//! Protected streams: samples encrypted for HLS `METHOD=SAMPLE-AES`, and how the program map and ID3 tags name them.
//!
//! "MPEG-2 Stream Encryption Format for HTTP Live Streaming", 2.4 and 3, which knows AVC, AAC, AC-3 and E-AC-3.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::SampleFault;
use super::elementary::nal_fault;
use super::psi::{self, stream_type};
use crate::codec::aac::{AudioSpecificConfig, object_type};
use crate::codec::bits::nal_units;
use crate::codec::{Codec, ac3};
use crate::crypto::sample_aes::{SampleAes, is_slice};
use crate::track::TrackDescription;

/// Bytes of a NAL unit's length in a sample that is encrypted here, whatever it was before: escaping makes them longer.
pub(super) const NAL_LENGTH_SIZE: u8 = 4;

/// Start of an AC-3 syncframe, which is what AC-3 is set up with (2.4.3.2). It stays clear.
const AC3_SETUP_SIZE: usize = 10;

/// Whether a track that MPEG-TS carries can be protected, or the reason it can not, for people.
pub(super) fn carries(description: &TrackDescription) -> Result<(), &'static str> {
    match description.codec {
        Codec::Avc | Codec::Ac3 | Codec::Eac3 => Ok(()),
        Codec::Aac if aac_type(description).is_some() => Ok(()),
        Codec::Aac => Err("sample encryption knows AAC-LC and HE-AAC alone"),
        _ => Err("sample encryption in MPEG-TS is defined for AVC, AAC, AC-3 and E-AC-3"),
    }
}

/// What must be known of a track to encrypt its samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampleCoding {
    codec: Codec,
    nal_length_size: u8,
}

impl SampleCoding {
    pub(super) fn of(description: &TrackDescription) -> SampleCoding {
        SampleCoding {
            codec: description.codec,
            nal_length_size: description.video().map_or(0, |video| video.nal_length_size),
        }
    }
}

/// A sample as CMAF stores it, encrypted; NAL units have lengths of [`NAL_LENGTH_SIZE`].
pub(super) fn encrypted(cipher: &SampleAes, coding: SampleCoding, sample: &[u8]) -> Result<Vec<u8>, SampleFault> {
    match coding.codec {
        Codec::Avc => {
            let mut out = Vec::with_capacity(sample.len() + sample.len() / 32);
            let mut has_slice = sample.is_empty();
            for unit in nal_units(sample, coding.nal_length_size) {
                let unit = unit.map_err(nal_fault)?;
                has_slice |= is_slice(unit);
                let start = out.len();
                out.extend_from_slice(&[0; NAL_LENGTH_SIZE as usize]);
                cipher.avc_nal_unit(unit, &mut out);
                let unit_size = out.len() - start - usize::from(NAL_LENGTH_SIZE);
                let length = u32::try_from(unit_size).map_err(|_| SampleFault::TooLarge {
                    size: unit_size,
                    size_max: u32::MAX as usize,
                })?;
                if let Some(prefix) = out.get_mut(start..).and_then(|unit| unit.first_chunk_mut()) {
                    *prefix = length.to_be_bytes();
                }
            }
            match has_slice {
                true => Ok(out),
                false => Err(SampleFault::NoSlice),
            }
        }
        Codec::Ac3 | Codec::Eac3 => {
            let mut out = sample.to_vec();
            let mut rest = out.as_mut_slice();
            for frame in ac3::sync_frames(sample) {
                let offset = sample.len() - rest.len();
                let (_, bytes) = frame.map_err(|_| SampleFault::Syncframe { offset })?;
                if let Some(frame) = rest.split_off_mut(..bytes.len()) {
                    cipher.audio_frame(frame);
                }
            }
            Ok(out)
        }
        _ => {
            let mut out = sample.to_vec();
            cipher.audio_frame(&mut out);
            Ok(out)
        }
    }
}

/// `stream_type` and descriptors of the program map's line (3). `first_sample` may be empty when there is none.
pub(super) fn signalling(description: &TrackDescription, first_sample: &[u8]) -> (u8, Vec<u8>) {
    let (stream_type, indicator) = match description.codec {
        Codec::Avc => (stream_type::ENCRYPTED_AVC, b"zavc"),
        Codec::Ac3 => (stream_type::ENCRYPTED_AC3, b"ac3d"),
        Codec::Eac3 => (stream_type::ENCRYPTED_EAC3, b"ec3d"),
        _ => (stream_type::ENCRYPTED_AAC_ADTS, b"aacd"),
    };
    let mut descriptors = psi::private_data_indicator(indicator);
    if description.audio().is_some() {
        descriptors.extend(psi::registration_with(
            b"apad",
            &audio_setup_information(description, first_sample),
        ));
    }
    (stream_type, descriptors)
}

/// `audio_setup_information()` (2.4.3): what a player sets its decoder up with, as it can not look into the frames.
pub(super) fn audio_setup_information(description: &TrackDescription, first_sample: &[u8]) -> Vec<u8> {
    let config = description.audio().map(|audio| audio.decoder_config.as_ref());
    let (audio_type, setup_data) = match description.codec {
        Codec::Ac3 => (b"zac3", first_sample.get(..AC3_SETUP_SIZE)),
        Codec::Eac3 => (b"zec3", config),
        _ => (aac_type(description).unwrap_or(b"zaac"), config),
    };
    // The length is one byte. No configuration of these codings is near that long.
    let setup_data = setup_data
        .filter(|data| data.len() <= SETUP_SIZE_MAX)
        .unwrap_or_default();
    let mut information = audio_type.to_vec();
    // No priming is told here; version 1.
    information.extend_from_slice(&[0, 0, 1, setup_data.len() as u8]);
    information.extend_from_slice(setup_data);
    information
}

/// Fits a descriptor behind its format identifier, and an ID3 frame's single-byte size.
const SETUP_SIZE_MAX: usize = 64;

fn aac_type(description: &TrackDescription) -> Option<&'static [u8; 4]> {
    let config = AudioSpecificConfig::parse(&description.audio()?.decoder_config).ok()?;
    match config.signalled_object_type() {
        object_type::LC => Some(b"zaac"),
        object_type::SBR => Some(b"zach"),
        object_type::PS => Some(b"zacp"),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::VideoRange;
    use crate::crypto::ContentKey;
    use crate::mpegts::mux::{self, MuxError, MuxTrack, Segment};
    use crate::mpegts::packed_audio;
    use crate::time::Timescale;
    use crate::track::{AudioDescription, MediaDescription, VideoDescription};

    fn description(codec: Codec, media: MediaDescription) -> TrackDescription {
        TrackDescription {
            source_track_id: 1,
            codec,
            rfc6381: String::new(),
            timescale: Timescale::MPEG_TS,
            language: "und".to_owned(),
            label: None,
            sample_entry: Bytes::new(),
            media,
        }
    }

    fn audio(codec: Codec, decoder_config: &'static [u8]) -> TrackDescription {
        let media = MediaDescription::Audio(AudioDescription {
            sample_rate: 48_000,
            channel_count: 2,
            joc_complexity: None,
            decoder_config: Bytes::from_static(decoder_config),
        });
        description(codec, media)
    }

    fn video(codec: Codec) -> TrackDescription {
        let media = MediaDescription::Video(VideoDescription {
            width: 16,
            height: 16,
            sample_aspect_ratio: (1, 1),
            matrix: None,
            color: None,
            video_range: VideoRange::Sdr,
            nal_length_size: 2,
            parameter_sets: Bytes::new(),
            supplemental_codecs: None,
        });
        description(codec, media)
    }

    fn cipher() -> SampleAes {
        SampleAes::new(&ContentKey::new(*b"sixteen byte key"), [7; 16])
    }

    /// A syncframe of E-AC-3, 64 bytes.
    fn syncframe() -> Vec<u8> {
        let mut frame = vec![0x0b, 0x77, 0x00, 0x1f, 0x34, 0x87, 0xc0];
        frame.resize(64, 0x55);
        frame
    }

    #[test]
    fn streams_are_named_as_encrypted() {
        let check = |description: &TrackDescription, stream_type: u8, descriptors: &[u8]| {
            let found = signalling(description, b"\x0b\x77345678901234");
            assert_eq!(found, (stream_type, descriptors.to_vec()));
        };
        check(&video(Codec::Avc), 0xdb, b"\x0f\x04zavc");
        check(
            &audio(Codec::Aac, &[0x11, 0x90]),
            0xcf,
            b"\x0f\x04aacd\x05\x0eapadzaac\0\0\x01\x02\x11\x90",
        );
        check(
            &audio(Codec::Ac3, &[1, 2, 3]),
            0xc1,
            b"\x0f\x04ac3d\x05\x16apadzac3\0\0\x01\x0a\x0b\x7734567890",
        );
        check(
            &audio(Codec::Eac3, &[1, 2, 3, 4, 5]),
            0xc2,
            b"\x0f\x04ec3d\x05\x11apadzec3\0\0\x01\x05\x01\x02\x03\x04\x05",
        );
        // HE-AAC, signalled.
        let he_aac = audio(Codec::Aac, &[0x2b, 0x11, 0x88, 0x00]);
        assert_eq!(audio_setup_information(&he_aac, &[])[..4], *b"zach");
        assert_eq!(audio_setup_information(&audio(Codec::Ac3, &[]), &[1; 9])[7..], [0]);
    }

    #[test]
    fn what_apple_does_not_name_is_refused() {
        let check = |description: &TrackDescription, reason| {
            assert_eq!(mux::carries(description), Ok(()));
            assert_eq!(mux::carries_encrypted(description), Err(reason));
            let tracks = [MuxTrack {
                description,
                samples: &[],
            }];
            let segment = Segment {
                number: 0,
                tracks: &tracks,
            };
            let expected = MuxError::NotCarried { track: 0, reason };
            assert_eq!(segment.write_encrypted(&cipher()), Err(expected));
        };
        let others = "sample encryption in MPEG-TS is defined for AVC, AAC, AC-3 and E-AC-3";
        check(&video(Codec::Hevc), others);
        check(&audio(Codec::Mp3, &[]), others);
        let main = audio(Codec::Aac, &[0x09, 0x90]);
        check(&main, "sample encryption knows AAC-LC and HE-AAC alone");
        assert!(packed_audio::segment_encrypted(&main, 0, &[], &cipher()).is_err());
        assert!(packed_audio::carries_encrypted(&audio(Codec::Aac, &[0x11, 0x90])).is_ok());
        assert!(packed_audio::carries_encrypted(&video(Codec::Avc)).is_err());
    }

    #[test]
    fn every_syncframe_starts_the_chain_again() {
        let frame = syncframe();
        let sample = [frame.clone(), frame].concat();
        let encrypted = encrypted(&cipher(), SampleCoding::of(&audio(Codec::Eac3, &[])), &sample).unwrap();
        assert_eq!(encrypted[..16], sample[..16]);
        assert_ne!(encrypted[16..32], sample[16..32]);
        assert_eq!(encrypted[..64], encrypted[64..]);
    }

    #[test]
    fn damaged_samples_are_refused_not_passed_in_the_clear() {
        let description = audio(Codec::Eac3, &[]);
        let sample = [syncframe(), syncframe()].concat();
        for size in (1..sample.len()).filter(|size| *size != 64) {
            let offset = size / 64 * 64;
            let fault = encrypted(&cipher(), SampleCoding::of(&description), &sample[..size]).unwrap_err();
            assert_eq!(fault, SampleFault::Syncframe { offset });
        }
        let fault = packed_audio::segment_encrypted(&description, 0, &[&sample, &[0; 70]], &cipher());
        assert!(matches!(
            fault,
            Err(packed_audio::PackedAudioError::Sample { sample: 1, .. })
        ));

        let unit = [[0, 60].as_slice(), &[0x65; 60]].concat();
        for size in 1..unit.len() {
            let fault = encrypted(&cipher(), SampleCoding::of(&video(Codec::Avc)), &unit[..size]).unwrap_err();
            assert!(matches!(fault, SampleFault::NalLength { .. }), "{size}: {fault:?}");
        }
        let whole = encrypted(&cipher(), SampleCoding::of(&video(Codec::Avc)), &unit).unwrap();
        assert_eq!((&whole[..4], &whole[4..36]), ([0, 0, 0, 60].as_slice(), &unit[2..34]));
        assert_ne!(whole[36..52], unit[34..50]);
        // A slice data partition, and the prefix of a slice alone.
        for header in [2, 14] {
            let fault = encrypted(&cipher(), SampleCoding::of(&video(Codec::Avc)), &[0, 2, header, 7]).unwrap_err();
            assert_eq!(fault, SampleFault::NoSlice);
        }
        assert_eq!(
            encrypted(&cipher(), SampleCoding::of(&video(Codec::Avc)), &[]),
            Ok(Vec::new())
        );
    }
}
