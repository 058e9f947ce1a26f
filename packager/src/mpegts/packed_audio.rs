//! Packed audio: HLS segments of bare audio frames behind a time stamp (RFC 8216bis 3.1.3).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::elementary::Form;
use super::sample_aes::SampleCoding;
use super::{SampleFault, sample_aes, wrapped};
use crate::codec::{Codec, MediaKind};
use crate::crypto::sample_aes::SampleAes;
use crate::limits::SEGMENT_SIZE_BYTES_MAX;
use crate::track::TrackDescription;

/// Owner of the ID3 private frame that holds what an encrypted segment's decoder is set up with.
const SETUP_OWNER: &[u8] = b"com.apple.streaming.audioDescription\0";

/// Owner of the ID3 private frame that holds the time stamp.
const OWNER: &[u8] = b"com.apple.streaming.transportStreamTimestamp\0";

/// Why a segment was not built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackedAudioError {
    /// The track's coding has no packed form.
    #[error("{reason}")]
    NotCarried {
        /// For people.
        reason: &'static str,
    },
    /// A sample can not be written.
    #[error("sample {sample}")]
    Sample {
        /// 0-based in the segment.
        sample: usize,
        /// What is wrong with it.
        #[source]
        fault: SampleFault,
    },
    /// More than [`SEGMENT_SIZE_BYTES_MAX`].
    #[error("segment of {size_bytes} bytes, at most {SEGMENT_SIZE_BYTES_MAX} are built")]
    TooLarge {
        /// Bytes it would have.
        size_bytes: u64,
    },
}

/// Whether a track has a packed form, or the reason it has none, for people.
pub fn carries(description: &TrackDescription) -> Result<(), &'static str> {
    form(description).map(|_| ())
}

/// Whether a track has a packed form that can be encrypted, or the reason it has none, for people.
pub fn carries_encrypted(description: &TrackDescription) -> Result<(), &'static str> {
    carries(description).and_then(|()| sample_aes::carries(description))
}

/// File name extension of a coding's packed form (RFC 8216bis 3.1.3), without the dot; `None` where there is none.
pub fn extension(codec: Codec) -> Option<&'static str> {
    match codec {
        Codec::Aac => Some("aac"),
        Codec::Mp3 => Some("mp3"),
        Codec::Ac3 => Some("ac3"),
        Codec::Eac3 => Some("ec3"),
        _ => None,
    }
}

/// A segment of `samples`, the first of which is presented at `first_presentation_time_90k` of the presentation's
/// MPEG-2 timeline (written modulo 2^33).
pub fn segment(
    description: &TrackDescription,
    first_presentation_time_90k: i64,
    samples: &[&[u8]],
) -> Result<Vec<u8>, PackedAudioError> {
    write(description, &timestamp_tag(first_presentation_time_90k), samples)
}

/// The same with all samples encrypted, for HLS `METHOD=SAMPLE-AES`.
pub fn segment_encrypted(
    description: &TrackDescription,
    first_presentation_time_90k: i64,
    samples: &[&[u8]],
    cipher: &SampleAes,
) -> Result<Vec<u8>, PackedAudioError> {
    carries_encrypted(description).map_err(|reason| PackedAudioError::NotCarried { reason })?;
    let size_bytes = samples.iter().map(|data| data.len() as u64).sum();
    if size_bytes > SEGMENT_SIZE_BYTES_MAX {
        return Err(PackedAudioError::TooLarge { size_bytes });
    }
    let first = samples.iter().find(|data| !data.is_empty()).copied();
    let setup = sample_aes::audio_setup_information(description, first.unwrap_or_default());
    let mut encrypted = Vec::with_capacity(samples.len());
    for (sample, data) in samples.iter().enumerate() {
        let bytes = sample_aes::encrypted(cipher, SampleCoding::of(description), data)
            .map_err(|fault| PackedAudioError::Sample { sample, fault })?;
        encrypted.push(bytes);
    }
    let encrypted: Vec<&[u8]> = encrypted.iter().map(Vec::as_slice).collect();
    let time = wrapped(first_presentation_time_90k).to_be_bytes();
    let tag = id3_tag(&[(OWNER, &time), (SETUP_OWNER, &setup)]);
    write(description, &tag, &encrypted)
}

fn write(description: &TrackDescription, tag: &[u8], samples: &[&[u8]]) -> Result<Vec<u8>, PackedAudioError> {
    let form = form(description).map_err(|reason| PackedAudioError::NotCarried { reason })?;
    let mut layouts = Vec::with_capacity(samples.len());
    let mut size_bytes = tag.len() as u64;
    for (sample, data) in samples.iter().enumerate() {
        let layout = form
            .layout(data, true)
            .map_err(|fault| PackedAudioError::Sample { sample, fault })?;
        size_bytes += layout.size as u64;
        layouts.push(layout);
    }
    if size_bytes > SEGMENT_SIZE_BYTES_MAX {
        return Err(PackedAudioError::TooLarge { size_bytes });
    }
    let mut out = Vec::with_capacity(size_bytes as usize);
    out.extend_from_slice(tag);
    for (data, layout) in samples.iter().zip(layouts) {
        form.write(data, layout, |piece| out.extend_from_slice(piece));
    }
    Ok(out)
}

fn form(description: &TrackDescription) -> Result<Form, &'static str> {
    match description.kind() {
        MediaKind::Audio => Form::of(description),
        _ => Err("packed segments hold audio alone"),
    }
}

/// A tag with the time stamp alone: 33 bits of 90 kHz in 8 bytes, big-endian.
fn timestamp_tag(time_90k: i64) -> Vec<u8> {
    id3_tag(&[(OWNER, &wrapped(time_90k).to_be_bytes())])
}

/// An ID3v2.4 tag of private frames, each an owner and data.
fn id3_tag(frames: &[(&[u8], &[u8])]) -> Vec<u8> {
    let body_size = frames.iter().map(|(owner, data)| 10 + owner.len() + data.len()).sum();
    let mut tag = Vec::with_capacity(10 + body_size);
    tag.extend_from_slice(b"ID3\x04\0\0");
    tag.extend_from_slice(&synchsafe(body_size));
    for (owner, data) in frames {
        tag.extend_from_slice(b"PRIV");
        tag.extend_from_slice(&synchsafe(owner.len() + data.len()));
        tag.extend_from_slice(&[0, 0]);
        tag.extend_from_slice(owner);
        tag.extend_from_slice(data);
    }
    tag
}

/// A size in 7 bits a byte (ID3v2.4 6.2); those here have few of its 28 bits.
fn synchsafe(size: usize) -> [u8; 4] {
    [21, 14, 7, 0].map(|shift| (size >> shift) as u8 & 0x7f)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::time::Timescale;
    use crate::track::{AudioDescription, MediaDescription};

    fn description(codec: Codec, decoder_config: &'static [u8]) -> TrackDescription {
        TrackDescription {
            source_track_id: 1,
            codec,
            rfc6381: String::new(),
            timescale: Timescale::MPEG_TS,
            language: "und".to_owned(),
            label: None,
            sample_entry: Bytes::new(),
            media: MediaDescription::Audio(AudioDescription {
                sample_rate: 48_000,
                channel_count: 2,
                joc_complexity: None,
                decoder_config: Bytes::from_static(decoder_config),
            }),
        }
    }

    #[test]
    fn a_time_stamp_of_33_bits_goes_first() {
        let check = |time_90k, expected: [u8; 8]| {
            let segment = segment(&description(Codec::Ac3, b""), time_90k, &[b"frame", b"", b"next"]).unwrap();
            let head = b"ID3\x04\0\0\0\0\0\x3fPRIV\0\0\0\x35\0\0com.apple.streaming.transportStreamTimestamp\0";
            assert_eq!(segment, [head.as_slice(), &expected, b"framenext"].concat());
        };
        check(126_000, [0, 0, 0, 0, 0, 1, 0xec, 0x30]);
        check((1 << 33) - 1, [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        check(1 << 33, [0; 8]);
        // 60 hours on.
        check(60 * 3_600 * 90_000, [0, 0, 0, 0, 0x86, 0xb6, 0xdc, 0x00]);
        check(-1, [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn aac_gets_a_header_a_frame() {
        let segment = segment(&description(Codec::Aac, &[0x11, 0x90]), 0, &[&[0x21; 93]]).unwrap();
        // MPEG-4 AAC-LC, 48 kHz, stereo, 100 bytes.
        assert_eq!(segment.get(73..80).unwrap(), [0xff, 0xf1, 0x4c, 0x80, 0x0c, 0x9f, 0xfc]);
        assert_eq!(segment.len(), 173);
    }

    #[test]
    fn what_has_no_packed_form_is_refused() {
        assert!(carries(&description(Codec::Eac3, b"")).is_ok());
        let check = |codec, expected: &str| {
            let error = segment(&description(codec, b""), 0, &[]).unwrap_err();
            assert_eq!((error.to_string().as_str(), extension(codec)), (expected, None));
        };
        check(Codec::Opus, "HLS defines this audio coding in fMP4 only");
        check(Codec::Avc, "packed segments hold audio alone");
        let error = segment(&description(Codec::Aac, &[0x11, 0x90]), 0, &[&[1], &[0; 9_000]]).unwrap_err();
        let fault = SampleFault::TooLarge {
            size: 9_000,
            size_max: 8_184,
        };
        assert_eq!(error, PackedAudioError::Sample { sample: 1, fault });
    }
}
