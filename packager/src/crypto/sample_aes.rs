//! Apple's sample encryption for MPEG-2 streams (HLS `METHOD=SAMPLE-AES` outside fragments): NAL units and audio frames.
//!
//! "MPEG-2 Stream Encryption Format for HTTP Live Streaming", 2: AES-128-CBC without padding. The initialisation vector
//! starts again with each NAL unit and each audio frame.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use aes::Aes128;
use aes::cipher::KeyInit;
use aes::cipher::array::Array;

use super::chains::{self, BLOCK_SIZE, Chain};
use super::{ContentKey, Pattern};

/// Clear bytes at the start of an AVC slice, its header byte included (2.2).
const NAL_LEADER_SIZE: usize = 32;

/// One block encrypted, nine clear.
const NAL_PATTERN: Pattern = Pattern { crypt: 1, skip: 9 };

/// Clear bytes at the start of an audio frame, behind the ADTS header where there is one (2.3).
const FRAME_LEADER_SIZE: usize = 16;

/// One key and its constant initialisation vector. The key is expanded once; the expansion is wiped when this is dropped.
#[derive(Clone)]
pub struct SampleAes {
    aes: Aes128,
    iv: [u8; 16],
}

impl SampleAes {
    /// A cipher for the segments of a track. `iv` is what `EXT-X-KEY` says.
    pub fn new(key: &ContentKey, iv: [u8; 16]) -> SampleAes {
        SampleAes {
            aes: Aes128::new(&Array(*key.expose())),
            iv,
        }
    }

    /// Appends an AVC NAL unit, encrypted if it is a slice (types 1 and 5) of more than 48 bytes.
    ///
    /// What is encrypted is the NAL unit as a byte stream has it, with its emulation prevention bytes; the result then
    /// gets emulation prevention of its own, which a reader takes off before it decrypts. Zeros that some writers leave
    /// behind a slice are dropped: who finds NAL units by start codes does not see them (ISO/IEC 14496-10 B.1.1), and
    /// whether the last block is encrypted depends on where the NAL unit ends.
    pub fn avc_nal_unit(&self, unit: &[u8], out: &mut Vec<u8>) {
        let is_slice = is_slice(unit);
        let unit = match is_slice {
            true => without_zeros(unit),
            false => unit,
        };
        if !is_slice || unit.len() <= NAL_LEADER_SIZE + BLOCK_SIZE {
            out.extend_from_slice(unit);
            return;
        }
        let mut encrypted = unit.to_vec();
        // The last bytes stay clear, so that no NAL unit ends in a zero byte.
        let end = encrypted.len() - 1;
        let body = encrypted.get_mut(NAL_LEADER_SIZE..end).unwrap_or_default();
        let chain = Chain {
            iv: self.iv,
            blocks: body.as_chunks_mut().0,
        };
        chains::encrypt_many(&self.aes, NAL_PATTERN, [chain]);
        escape(&encrypted, out);
    }

    /// Encrypts an audio frame in place: AAC without its ADTS header, or a syncframe of AC-3 or E-AC-3.
    pub fn audio_frame(&self, frame: &mut [u8]) {
        let body = frame.get_mut(FRAME_LEADER_SIZE..).unwrap_or_default();
        chains::encrypt(&self.aes, &mut self.iv.clone(), body.as_chunks_mut().0);
    }
}

/// True for AVC NAL units that are encrypted: slices of one piece.
pub fn is_slice(unit: &[u8]) -> bool {
    unit.first().is_some_and(|header| matches!(header & 0x1f, 1 | 5))
}

fn without_zeros(unit: &[u8]) -> &[u8] {
    let last = unit.iter().rposition(|byte| *byte != 0);
    last.and_then(|last| unit.get(..=last)).unwrap_or_default()
}

/// Appends `unit` with emulation prevention (ISO/IEC 14496-10 7.4.1): a 3 before each byte below 4 that follows two zeros.
fn escape(unit: &[u8], out: &mut Vec<u8>) {
    out.reserve(unit.len() + unit.len() / 64);
    let (mut written, mut at) = (0, 2);
    // A byte above 3 can be neither escaped nor one of the zeros before the next two.
    while let Some(three) = unit.get(at - 2..=at) {
        match three {
            [_, _, 4..=255] => at += 3,
            // The zeros must both come after the last emulation prevention byte.
            [0, 0, _] if at >= written + 2 => {
                out.extend_from_slice(unit.get(written..at).unwrap_or_default());
                out.push(3);
                written = at;
                at += 1;
            }
            _ => at += 1,
        }
    }
    out.extend_from_slice(unit.get(written..).unwrap_or_default());
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::codec::bits::unescape_rbsp;

    fn cipher() -> SampleAes {
        SampleAes::new(&ContentKey::new(*b"sixteen byte key"), [7; 16])
    }

    #[test]
    fn escaping_is_what_unescaping_takes_off() {
        let check = |unit: &[u8], expected: &[u8]| {
            let mut out = b"x".to_vec();
            escape(unit, &mut out);
            assert_eq!(out[1..], *expected, "{unit:?}");
        };
        check(&[], &[]);
        check(&[0, 0], &[0, 0]);
        check(&[0, 0, 0], &[0, 0, 3, 0]);
        check(&[0, 0, 0, 0, 0, 1], &[0, 0, 3, 0, 0, 3, 0, 1]);
        check(&[0, 0, 0, 0, 1], &[0, 0, 3, 0, 0, 3, 1]);
        check(&[0, 0, 3, 1], &[0, 0, 3, 3, 1]);
        check(&[5, 0, 0, 4, 0, 0, 2], &[5, 0, 0, 4, 0, 0, 3, 2]);
        check(&[0, 1, 0, 0, 1], &[0, 1, 0, 0, 3, 1]);
        // Every string of five small bytes, and one large one anywhere.
        for number in 0..6_u32.pow(7) {
            let unit: Vec<u8> = (0..7).map(|digit| (number / 6_u32.pow(digit) % 6) as u8).collect();
            let mut out = Vec::new();
            escape(&unit, &mut out);
            let emulates = |three: &[u8]| matches!(three, [0, 0, 0..=2]);
            assert!(!out.windows(3).any(emulates), "{unit:?}");
            assert_eq!(*unescape_rbsp(&out), unit);
        }
    }

    /// Listing 2-1 read backwards: what a player does.
    fn decrypted(encrypted: &[u8]) -> Vec<u8> {
        let cipher = cipher();
        let mut unit = unescape_rbsp(encrypted).into_owned();
        let (mut at, mut chain) = (32, cipher.iv);
        while at < unit.len() {
            if unit.len() - at > 16 {
                chains::decrypt(&cipher.aes, &mut chain, unit[at..at + 16].as_chunks_mut().0);
                at += 16;
            }
            at += 144.min(unit.len() - at);
        }
        unit
    }

    #[test]
    fn slices_are_encrypted_one_block_in_ten() {
        for size in (1..700).chain([5_000, 5_001]) {
            for header in [0x41, 0x65] {
                // Long runs of zeros, escaped as in a real NAL unit.
                let mut unit = vec![header];
                escape(
                    &(1..size).map(|at| u8::from(at % 5 == 0)).collect::<Vec<_>>(),
                    &mut unit,
                );
                unit.push(0x80);
                let mut out = Vec::new();
                cipher().avc_nal_unit(&unit, &mut out);
                assert_eq!(out == unit, unit.len() <= 48, "{size}");
                if unit.len() > 48 {
                    assert_eq!(decrypted(&out), unit);
                    assert!(!out.windows(3).any(|three| matches!(three, [0, 0, 0..=2])));
                }
            }
        }
        // Zeros behind it are not of the slice, however many: blocks would move in and out of what is encrypted.
        let slice = [&[0x65], [9; 200].as_slice()].concat();
        let mut expected = Vec::new();
        cipher().avc_nal_unit(&slice, &mut expected);
        for count in 1..40 {
            let mut out = Vec::new();
            cipher().avc_nal_unit(&[slice.as_slice(), &vec![0; count]].concat(), &mut out);
            assert_eq!(out, expected, "{count} zeros");
        }
        for header in [0x02, 0x06, 0x67, 0x68, 0x09, 0x74] {
            let unit = [&[header], [9; 300].as_slice()].concat();
            let mut out = Vec::new();
            cipher().avc_nal_unit(&unit, &mut out);
            assert_eq!(out, unit);
        }
    }

    #[test]
    fn frames_keep_sixteen_bytes_and_their_tail() {
        for size in 0..200_usize {
            let clear: Vec<u8> = (0..size).map(|at| at as u8).collect();
            let mut frame = clear.clone();
            cipher().audio_frame(&mut frame);
            let encrypted_size = size.saturating_sub(16) / 16 * 16;
            let end = 16.min(size) + encrypted_size;
            assert_eq!(frame[..16.min(size)], clear[..16.min(size)]);
            assert_eq!(frame[end..], clear[end..]);
            let mut chain = cipher().iv;
            let body = &mut frame[16.min(size)..end];
            assert_eq!(encrypted_size > 0, *body != clear[16.min(size)..end]);
            chains::decrypt(&cipher().aes, &mut chain, body.as_chunks_mut().0);
            assert_eq!(frame, clear);
        }
    }
}
