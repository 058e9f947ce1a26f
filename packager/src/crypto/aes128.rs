//! HLS `METHOD=AES-128`: a whole segment as one AES-128-CBC chain with PKCS #7 padding (RFC 8216 4.3.2.4, RFC 5652 6.3).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::ops::Range;

use aes::Aes128;
use aes::cipher::KeyInit;
use aes::cipher::array::Array;

use super::chains::{self, BLOCK_SIZE, Chain};
use super::{ContentKey, Pattern};

/// Bytes of a segment of `clear_size` bytes once it is encrypted: 1 to 16 bytes of padding are added. `None` past what
/// 64 bits hold.
pub fn encrypted_size(clear_size: u64) -> Option<u64> {
    let block = BLOCK_SIZE as u64;
    clear_size.checked_add(block - clear_size % block)
}

/// A whole segment to encrypt where it lies.
pub struct WholeSegment<'b> {
    /// Its initialisation vector.
    pub iv: [u8; 16],
    /// Clear bytes, replaced by [`encrypted_size`] encrypted ones.
    pub bytes: &'b mut Vec<u8>,
}

/// Encrypts segments of one key side by side, several times faster than one by one.
pub fn encrypt_many(key: &ContentKey, segments: &mut [WholeSegment<'_>]) {
    let mut parts: Vec<SegmentPart<'_>> = Vec::with_capacity(segments.len());
    for segment in segments {
        pad(segment.bytes);
        parts.push(SegmentPart {
            iv: segment.iv,
            encrypted_size: 0,
            bytes: segment.bytes,
        });
    }
    SegmentCipher::new(key).advance(&mut parts, usize::MAX);
}

/// Appends the padding of a whole segment.
pub fn pad(segment: &mut Vec<u8>) {
    let padding_size = BLOCK_SIZE - segment.len() % BLOCK_SIZE;
    let padded_size = segment.len().saturating_add(padding_size);
    segment.resize(padded_size, padding_size as u8);
}

/// A padded segment that is encrypted step by step where it lies.
pub struct SegmentPart<'b> {
    /// Its initialisation vector.
    pub iv: [u8; 16],
    /// So many of its first bytes are encrypted, a multiple of 16.
    pub encrypted_size: usize,
    /// All of it.
    pub bytes: &'b mut [u8],
}

/// Encrypts segments of one key side by side, step by step. The expansion of the key is wiped when this is dropped.
pub struct SegmentCipher(Aes128);

impl SegmentCipher {
    /// A cipher with `key`.
    pub fn new(key: &ContentKey) -> SegmentCipher {
        SegmentCipher(Aes128::new(&Array(*key.expose())))
    }

    /// Encrypts up to `step_size` more bytes of each of `segments`, whole blocks.
    pub fn advance(&self, segments: &mut [SegmentPart<'_>], step_size: usize) {
        let step_count = step_size / BLOCK_SIZE;
        let chains = segments.iter_mut().map(|segment| {
            let (blocks, _) = segment.bytes.as_chunks_mut();
            let first = segment.encrypted_size / BLOCK_SIZE;
            let last = first.saturating_add(step_count).min(blocks.len());
            segment.encrypted_size = last.max(first) * BLOCK_SIZE;
            let (before, rest) = blocks.split_at_mut_checked(first).unwrap_or_default();
            Chain {
                iv: before.last().copied().unwrap_or(segment.iv),
                blocks: rest.get_mut(..last.saturating_sub(first)).unwrap_or_default(),
            }
        });
        chains::encrypt_many(&self.0, Pattern::NONE, chains);
    }
}

/// Chains that one part of a segment is encrypted in, side by side.
const PART_LANE_COUNT: usize = 8;

/// What lets parts of a segment be encrypted without those before them: blocks of the chain that was once gone through.
///
/// Between known blocks the chain can be taken up in many places at once, so that a part costs a fraction of what the
/// chain cost.
#[derive(Clone, Debug)]
pub struct SegmentParts {
    parts: Vec<PartStart>,
    /// Where the last part ends, padding and all.
    end: u64,
    clear_size: u64,
}

#[derive(Clone, Debug)]
struct PartStart {
    /// Where its clear bytes begin.
    clear_start: u64,
    /// The clear bytes of its first block that belong to the part before.
    carry: [u8; BLOCK_SIZE],
    ivs: [[u8; BLOCK_SIZE]; PART_LANE_COUNT],
}

impl PartStart {
    fn carry_size(&self) -> usize {
        (self.clear_start % BLOCK_SIZE as u64) as usize
    }

    /// Where its encrypted bytes begin.
    fn start(&self) -> u64 {
        self.clear_start - self.carry_size() as u64
    }
}

impl SegmentParts {
    /// The parts of a clear segment that begin at `starts`, in ascending order, the first at zero. Before they can be
    /// encrypted, [`SegmentParts::learn`] must see the whole.
    pub fn new(starts: &[u64], clear: &[u8]) -> SegmentParts {
        let part = |clear_start: &u64| {
            let mut part = PartStart {
                clear_start: *clear_start,
                carry: [0; BLOCK_SIZE],
                ivs: [[0; BLOCK_SIZE]; PART_LANE_COUNT],
            };
            let carried = clear
                .get(part.start() as usize..*clear_start as usize)
                .unwrap_or_default();
            part.carry.iter_mut().zip(carried).for_each(|(to, from)| *to = *from);
            part
        };
        let clear_size = clear.len() as u64;
        SegmentParts {
            parts: starts.iter().map(part).collect(),
            end: encrypted_size(clear_size).unwrap_or(clear_size),
            clear_size,
        }
    }

    /// Takes what must be known from the whole segment, encrypted and padded.
    pub fn learn(&mut self, iv: [u8; 16], encrypted: &[u8]) {
        let ranges: Vec<_> = (0..self.parts.len()).map(|part| self.range(part)).collect();
        for (part, range) in self.parts.iter_mut().zip(ranges) {
            let stride = lane_size((range.end - range.start) as usize);
            for (lane, chain) in part.ivs.iter_mut().enumerate() {
                let at = range.start as usize + lane * stride;
                let block = at.checked_sub(BLOCK_SIZE).and_then(|before| encrypted.get(before..at));
                *chain = block.and_then(|block| block.try_into().ok()).unwrap_or(iv);
            }
        }
    }

    /// The bytes of part `part` in the encrypted segment, whole blocks.
    pub fn range(&self, part: usize) -> Range<u64> {
        let start = self.parts.get(part).map_or(self.end, PartStart::start);
        let next = self.parts.get(part.saturating_add(1));
        start..next.map_or(self.end, PartStart::start)
    }

    /// Begins part `part` in `out`, which is empty; its clear bytes are to be appended.
    pub fn begin(&self, part: usize, out: &mut Vec<u8>) {
        if let Some(part) = self.parts.get(part) {
            out.extend_from_slice(part.carry.get(..part.carry_size()).unwrap_or_default());
        }
    }

    /// Encrypts part `part`, which [`SegmentParts::begin`] began and whose clear bytes follow in `out`. False when they are
    /// not as many as they were.
    pub fn encrypt(&self, cipher: &SegmentCipher, part: usize, out: &mut Vec<u8>) -> bool {
        let Some(start) = self.parts.get(part) else {
            return false;
        };
        let range = self.range(part);
        let next = self.parts.get(part.saturating_add(1));
        let clear_end = next.map_or(self.clear_size, |next| next.clear_start);
        if out.len() as u64 != clear_end - start.start() {
            return false;
        }
        match next {
            // What is left of its last block goes with the next part.
            Some(_) => out.truncate((range.end - range.start) as usize),
            None => pad(out),
        }
        let stride = lane_size(out.len());
        let mut lanes: Vec<SegmentPart<'_>> = Vec::with_capacity(PART_LANE_COUNT);
        for (bytes, iv) in out.chunks_mut(stride).zip(start.ivs) {
            lanes.push(SegmentPart {
                iv,
                encrypted_size: 0,
                bytes,
            });
        }
        cipher.advance(&mut lanes, usize::MAX);
        true
    }

    /// Memory it takes, in bytes.
    pub fn weight_bytes(&self) -> usize {
        size_of_val(self.parts.as_slice())
    }
}

/// Bytes of one chain of a part of `size` bytes, whole blocks.
fn lane_size(size: usize) -> usize {
    size.div_ceil(BLOCK_SIZE).div_ceil(PART_LANE_COUNT).max(1) * BLOCK_SIZE
}

/// Why a segment did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Not one or more whole blocks.
    #[error("{size} bytes are not an encrypted segment")]
    Size {
        /// Bytes given.
        size: usize,
    },
    /// The key or the IV is wrong, or the bytes are damaged.
    #[error("the padding is damaged")]
    Padding,
}

/// Decrypts a whole segment where it lies, and takes its padding off. Its bytes are undefined after an error.
pub fn decrypt(key: &ContentKey, iv: [u8; 16], bytes: &mut Vec<u8>) -> Result<(), SegmentError> {
    let size = bytes.len();
    let (blocks, rest) = bytes.as_chunks_mut();
    if blocks.is_empty() || !rest.is_empty() {
        return Err(SegmentError::Size { size });
    }
    let mut chain = iv;
    chains::decrypt(&Aes128::new(&Array(*key.expose())), &mut chain, blocks);
    let last = bytes.last().copied().unwrap_or_default();
    let padding_size = usize::from(last);
    let clear_size = size.checked_sub(padding_size).ok_or(SegmentError::Padding)?;
    let padding = bytes.get(clear_size..).unwrap_or_default();
    if !(1..=BLOCK_SIZE).contains(&padding_size) || padding.iter().any(|byte| *byte != last) {
        return Err(SegmentError::Padding);
    }
    bytes.truncate(clear_size);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use aes::cipher::{BlockModeEncrypt, InnerIvInit};

    use super::*;

    fn key() -> ContentKey {
        ContentKey::new(*b"sixteen byte key")
    }

    fn clear(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at * 7 % 251) as u8).collect()
    }

    /// What the `cbc` crate makes of it, block after block.
    fn expected(clear: &[u8]) -> Vec<u8> {
        let padding_size = 16 - clear.len() % 16;
        let mut bytes = clear.to_vec();
        bytes.extend(vec![padding_size as u8; padding_size]);
        let aes = Aes128::new(&Array(*key().expose()));
        let mut cbc = cbc::Encryptor::inner_iv_init(aes, &Array([9; 16]));
        for block in bytes.as_chunks_mut().0 {
            cbc.encrypt_block(Array::cast_from_core_mut(block));
        }
        bytes
    }

    #[test]
    fn sizes_and_lanes_make_no_difference() {
        for size in (0..70).chain([188 * 5, 4_096]) {
            let clear = clear(size);
            let mut bytes = clear.clone();
            encrypt_many(
                &key(),
                &mut [WholeSegment {
                    iv: [9; 16],
                    bytes: &mut bytes,
                }],
            );
            assert_eq!(bytes, expected(&clear), "{size} bytes");
            assert_eq!(bytes.len() as u64, encrypted_size(size as u64).unwrap());
            decrypt(&key(), [9; 16], &mut bytes).unwrap();
            assert_eq!(bytes, clear);
        }
        let mut many: Vec<Vec<u8>> = (0..19).map(|at| clear(at * 37)).collect();
        let mut segments: Vec<WholeSegment<'_>> = many
            .iter_mut()
            .map(|bytes| WholeSegment { iv: [9; 16], bytes })
            .collect();
        encrypt_many(&key(), &mut segments);
        for (at, bytes) in many.iter().enumerate() {
            assert_eq!(*bytes, expected(&clear(at * 37)), "segment {at}");
        }
    }

    #[test]
    fn steps_make_no_difference() {
        for step_size in [16, 40, 160, 1 << 20] {
            let mut many: Vec<Vec<u8>> = (0..11).map(|at| clear(at * 53)).collect();
            let mut reached = vec![0; many.len()];
            many.iter_mut().for_each(pad);
            while many.iter().zip(&reached).any(|(bytes, reached)| *reached < bytes.len()) {
                let mut parts: Vec<SegmentPart<'_>> = std::iter::zip(&mut many, &reached)
                    .map(|(bytes, reached)| SegmentPart {
                        iv: [9; 16],
                        encrypted_size: *reached,
                        bytes,
                    })
                    .collect();
                SegmentCipher::new(&key()).advance(&mut parts, step_size);
                reached = parts.iter().map(|part| part.encrypted_size).collect();
            }
            for (at, bytes) in many.iter().enumerate() {
                assert_eq!(*bytes, expected(&clear(at * 53)), "{step_size}, segment {at}");
            }
        }
    }

    #[test]
    fn parts_are_the_whole() {
        for size in [0, 1, 15, 16, 17, 188, 752, 5_003, 70_000] {
            let clear = clear(size);
            let whole = expected(&clear);
            for cuts in [
                vec![],
                vec![188, 376],
                vec![16, 17, 31, 32, 33, 752],
                (1..70).map(|at| at * 1_000).collect(),
            ] {
                let inside = cuts.into_iter().filter(|cut| *cut < size as u64);
                let starts: Vec<u64> = std::iter::once(0).chain(inside).collect();
                let mut parts = SegmentParts::new(&starts, &clear);
                parts.learn([9; 16], &whole);
                let cipher = SegmentCipher::new(&key());
                for part in (0..starts.len()).rev() {
                    let end = starts.get(part + 1).map_or(size, |next| *next as usize);
                    let clear = &clear[starts[part] as usize..end];
                    let mut out = Vec::new();
                    parts.begin(part, &mut out);
                    out.extend_from_slice(clear);
                    let mut more = out.clone();
                    more.push(0);
                    assert!(!parts.encrypt(&cipher, part, &mut more));
                    assert!(parts.encrypt(&cipher, part, &mut out));
                    let range = parts.range(part);
                    assert_eq!(
                        out,
                        whole[range.start as usize..range.end as usize],
                        "part {part} of {starts:?}, {size} bytes"
                    );
                }
                assert_eq!(parts.range(starts.len()), whole.len() as u64..whole.len() as u64);
                assert_eq!(parts.range(0).start, 0);
            }
        }
    }

    #[test]
    fn damage_is_told() {
        let check = |bytes: &[u8], expected| {
            assert_eq!(decrypt(&key(), [9; 16], &mut bytes.to_vec()), Err(expected));
        };
        check(&[], SegmentError::Size { size: 0 });
        check(&[0; 17], SegmentError::Size { size: 17 });
        let mut bytes = expected(&clear(20));
        bytes[31] ^= 1;
        check(&bytes, SegmentError::Padding);
        assert_eq!(encrypted_size(u64::MAX - 3), None);
    }
}
