//! Whether keys fit: what samples of each coding begin with, or can not contain, tells noise from media.
//!
//! Common Encryption has no checksum, so a wrong key shows by what comes out of it alone: at once in most sound, after
//! some hundred slices in AVC and HEVC, not at all in AV1 and VP9.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::codec::Codec;
use crate::codec::aac::AudioSpecificConfig;
use crate::codec::bits::nal_units;
use crate::crypto::KeyId;
use crate::crypto::source::{EncryptedSamples, SourceKeys};
use crate::index::NewSample;
use crate::limits::SAMPLE_SIZE_BYTES_MAX;
use crate::source::{ReadAt, ReadError};
use crate::track::TrackDescription;

/// Samples under each key that are looked at, and their bytes together.
const SAMPLE_COUNT_MAX: u32 = 512;
const SIZE_BYTES_MAX: u64 = 16 << 20;
/// Keys that are tried.
const KEY_COUNT_MAX: usize = 16;

/// Reads and decrypts one sample.
pub(super) fn read_sample(
    source: &dyn ReadAt,
    keys: &dyn SourceKeys,
    encrypted: &EncryptedSamples,
    sample: &NewSample,
) -> Result<Bytes, ReadError> {
    let failed = |reason: String| ReadError::Storage {
        offset: sample.offset,
        want: u64::from(sample.size),
        reason,
    };
    if sample.size > SAMPLE_SIZE_BYTES_MAX {
        return Err(failed(format!("at most {SAMPLE_SIZE_BYTES_MAX} are one sample")));
    }
    let mut bytes = source.read_at(sample.offset, sample.size as usize)?.to_vec();
    encrypted
        .decrypt(keys, [(sample.offset, sample.size)], &mut bytes)
        .map_err(|error| failed(error.to_string()))?;
    Ok(Bytes::from(bytes))
}

/// What was seen of samples under one key.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    size_bytes: u64,
    sample_count: u32,
    /// Units (NAL units; else samples) that were looked at.
    unit_count: u32,
    /// Units that no encoder writes.
    impossible_count: u32,
    /// Units that hardly any writes but in a wrong framing, where all are so.
    odd_count: u32,
}

impl Tally {
    fn contradicts(&self) -> bool {
        // Of noise one AVC slice in 256 ends oddly. Where more do, it is a habit of whoever framed them.
        let odd_count = match self.odd_count * 20 > self.unit_count {
            true => 0,
            false => self.odd_count,
        };
        // A single one may be damage.
        self.impossible_count + odd_count > 1
    }
}

/// Says by `Err`, for people, which key does not fit.
pub(super) fn check(
    source: &dyn ReadAt,
    keys: &dyn SourceKeys,
    encrypted: &EncryptedSamples,
    description: &TrackDescription,
    samples: impl Iterator<Item = NewSample>,
) -> Result<(), String> {
    let mut tallies: BTreeMap<KeyId, Tally> = BTreeMap::new();
    for sample in samples {
        let Some(protection) = encrypted.protection(sample.offset) else {
            continue;
        };
        if !tallies.contains_key(&protection.key_id) && tallies.len() >= KEY_COUNT_MAX {
            break;
        }
        let tally = tallies.entry(protection.key_id).or_default();
        if tally.sample_count >= SAMPLE_COUNT_MAX || tally.size_bytes >= SIZE_BYTES_MAX {
            continue;
        }
        tally.sample_count += 1;
        tally.size_bytes += u64::from(sample.size);
        let bytes = read_sample(source, keys, encrypted, &sample).map_err(|error| error.to_string())?;
        look(description, &bytes, tally);
    }
    match tallies.iter().find(|(_, tally)| tally.contradicts()) {
        Some((key_id, _)) => {
            let scheme = encrypted.scheme().map_or("", |scheme| scheme.name());
            Err(format!(
                "encrypted ({scheme}, KID {}): the key does not fit",
                key_id.hex()
            ))
        }
        None => Ok(()),
    }
}

fn look(description: &TrackDescription, sample: &[u8], tally: &mut Tally) {
    // Shorter ones can be clear in the chaining schemes.
    const ENCRYPTED_SIZE_MIN: usize = 16;
    if sample.len() < ENCRYPTED_SIZE_MIN {
        return;
    }
    let first = |mask: u16| sample.first_chunk::<2>().map(|start| u16::from_be_bytes(*start) & mask);
    let possible = match description.codec {
        Codec::Ac3 | Codec::Eac3 => first(0xffff) == Some(0x0b77),
        Codec::Mp3 => first(0xffe0) == Some(0xffe0),
        Codec::Flac => first(0xfffe) == Some(0xfff8),
        Codec::Opus => opus_packet(sample),
        Codec::Aac => aac_frame(description, sample),
        Codec::Avc | Codec::Hevc => {
            let nal_length_size = description.video().map_or(4, |video| video.nal_length_size);
            for nal in nal_units(sample, nal_length_size).map_while(Result::ok) {
                tally.unit_count += 1;
                let is_over = nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                let body = nal.get(..is_over).unwrap_or_default();
                tally.impossible_count += u32::from(has_forbidden_bytes(body));
                tally.odd_count += u32::from(is_over < nal.len());
            }
            return;
        }
        _ => true,
    };
    tally.unit_count += 1;
    tally.impossible_count += u32::from(!possible);
}

/// Three bytes that a NAL unit must not hold (ITU-T H.264 7.4.1): an encoder puts a byte between them.
fn has_forbidden_bytes(nal: &[u8]) -> bool {
    nal.windows(3).any(|bytes| matches!(bytes, [0, 0, 0..=2]))
}

/// Whether a frame can begin so (ISO/IEC 14496-3 4.4.2.1): with its first channels, or what may stand before them.
fn aac_frame(description: &TrackDescription, sample: &[u8]) -> bool {
    const COUPLING: u8 = 2;
    const LOW_FREQUENCIES: u8 = 3;
    const END: u8 = 7;
    let config = description
        .audio()
        .map(|audio| AudioSpecificConfig::parse(&audio.decoder_config));
    match config {
        Some(Ok(config)) if (1..=4).contains(&config.object_type) && config.channel_configuration > 0 => {
            let element = sample.first().map_or(END, |byte| byte >> 5);
            !matches!(element, COUPLING | LOW_FREQUENCIES | END)
        }
        _ => true,
    }
}

/// Whether a packet can be framed so (RFC 6716 3.2): two frames of one length, or frames of at most 120 ms together.
fn opus_packet(sample: &[u8]) -> bool {
    let Some((toc, rest)) = sample.split_first() else {
        return true;
    };
    match toc & 3 {
        1 => rest.len().is_multiple_of(2),
        3 => rest.first().is_some_and(|frames| (1..=48).contains(&(frames & 0x3f))),
        _ => true,
    }
}
