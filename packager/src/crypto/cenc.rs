//! Samples of Common Encryption, protected in place (ISO/IEC 23001-7:2023 9 and 10).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::ops::Range;

use aes::Aes128;
use aes::cipher::array::Array;
use aes::cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::CtrCore;
use ctr::flavors::Ctr64BE;

use super::chains::{self, BLOCK_SIZE, Chain};
use super::{ContentKey, Pattern, ProtectionScheme, Subsample};

/// Why bytes were not encrypted or decrypted. None of them was touched then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// The scheme has no patterns, or the pattern encrypts nothing, or a count does not fit its four bits.
    #[error("pattern {crypt}:{skip} is not one of scheme {scheme}")]
    Pattern {
        /// The scheme's name.
        scheme: &'static str,
        /// `crypt_byte_block`.
        crypt: u8,
        /// `skip_byte_block`.
        skip: u8,
    },
    /// The subsamples do not add up to the sample.
    #[error("subsamples of {mapped} bytes for a sample of {size}")]
    Map {
        /// Bytes of all subsamples.
        mapped: u64,
        /// Bytes of the sample.
        size: u64,
    },
    /// In `cbc1` the chain runs on from subsample to subsample, so each must protect whole blocks (10.2).
    #[error("subsample {subsample} protects {protected} bytes, not a multiple of 16")]
    PartialBlock {
        /// 0-based in the sample.
        subsample: usize,
        /// What it protects, in bytes.
        protected: u32,
    },
    /// Samples lie outside the bytes given, or are not in ascending order.
    #[error("sample {sample} at bytes {start} to {end} of {size}")]
    Range {
        /// 0-based, as given.
        sample: usize,
        /// Its first byte.
        start: usize,
        /// The byte after its last.
        end: usize,
        /// Bytes there are.
        size: usize,
    },
}

/// A sample among others in one buffer.
#[derive(Clone, Debug)]
pub struct SampleRange<'a> {
    /// Eight-byte vectors are followed by eight zero bytes.
    pub iv: [u8; 16],
    /// As in [`SampleCipher::encrypt`].
    pub subsamples: &'a [Subsample],
    /// Where the sample lies.
    pub bytes: Range<usize>,
}

/// One scheme under one key. The key is expanded once; the expansion is wiped when this is dropped.
#[derive(Clone)]
pub struct SampleCipher {
    aes: Aes128,
    scheme: ProtectionScheme,
    pattern: Pattern,
}

impl SampleCipher {
    /// A cipher for the samples of a track. `pattern` is what its `tenc` says: [`Pattern::NONE`] for `cenc` and `cbc1`;
    /// for `cens` and `cbcs` it means all whole blocks (9.7).
    pub fn new(scheme: ProtectionScheme, pattern: Pattern, key: &ContentKey) -> Result<SampleCipher, CipherError> {
        let has_pattern = matches!(scheme, ProtectionScheme::Cens | ProtectionScheme::Cbcs);
        let fits = (1..=15).contains(&pattern.crypt) && pattern.skip <= 15;
        if pattern != Pattern::NONE && !(has_pattern && fits) {
            return Err(CipherError::Pattern {
                scheme: scheme.name(),
                crypt: pattern.crypt,
                skip: pattern.skip,
            });
        }
        Ok(SampleCipher {
            aes: Aes128::new(&Array(*key.expose())),
            scheme,
            pattern,
        })
    }

    /// Encrypts a sample in place. Without subsamples all of it is protected; with them they must add up to it. Eight-byte
    /// vectors are followed by eight zero bytes.
    pub fn encrypt(&self, iv: &[u8; 16], subsamples: &[Subsample], sample: &mut [u8]) -> Result<(), CipherError> {
        self.check(subsamples, sample.len())?;
        self.apply(iv, subsamples, sample, chains::encrypt);
        Ok(())
    }

    /// Undoes [`SampleCipher::encrypt`].
    pub fn decrypt(&self, iv: &[u8; 16], subsamples: &[Subsample], sample: &mut [u8]) -> Result<(), CipherError> {
        self.check(subsamples, sample.len())?;
        self.apply(iv, subsamples, sample, chains::decrypt);
        Ok(())
    }

    /// Encrypts samples that lie in `bytes`, in ascending order, as [`SampleCipher::encrypt`] would one by one. Nothing
    /// is touched unless all are sound. In `cbcs` several subsamples are encrypted side by side.
    pub fn encrypt_segment(&self, samples: &[SampleRange<'_>], bytes: &mut [u8]) -> Result<(), CipherError> {
        let mut end = 0;
        for (index, sample) in samples.iter().enumerate() {
            let Range { start, end: sample_end } = sample.bytes;
            if start < end || sample_end < start || bytes.len() < sample_end {
                return Err(CipherError::Range {
                    sample: index,
                    start,
                    end: sample_end,
                    size: bytes.len(),
                });
            }
            self.check(sample.subsamples, sample_end - start)?;
            end = sample_end;
        }
        let mut rest = bytes;
        let mut position = 0;
        let ranges = samples.iter().map(move |sample| {
            let _gap = rest.split_off_mut(..sample.bytes.start - position);
            position = sample.bytes.end;
            let bytes = rest.split_off_mut(..sample.bytes.end - sample.bytes.start);
            (sample, bytes.unwrap_or_default())
        });
        if self.scheme == ProtectionScheme::Cbcs {
            let chains = ranges.flat_map(|(sample, bytes)| {
                protected(sample.subsamples, bytes).map(|bytes| Chain {
                    iv: sample.iv,
                    blocks: bytes.as_chunks_mut().0,
                })
            });
            chains::encrypt_many(&self.aes, self.pattern, chains);
        } else {
            for (sample, bytes) in ranges {
                self.apply(&sample.iv, sample.subsamples, bytes, chains::encrypt);
            }
        }
        Ok(())
    }

    fn check(&self, subsamples: &[Subsample], sample_size: usize) -> Result<(), CipherError> {
        check(self.scheme, subsamples.iter().copied(), sample_size)
    }

    /// Counting is its own inverse; `chain` is the direction of the chaining schemes.
    fn apply(
        &self,
        iv: &[u8; 16],
        subsamples: &[Subsample],
        sample: &mut [u8],
        chain: impl Fn(&Aes128, &mut [u8; BLOCK_SIZE], &mut [[u8; BLOCK_SIZE]]),
    ) {
        match self.scheme {
            ProtectionScheme::Cenc => {
                let mut keystream = self.keystream(iv);
                for bytes in protected(subsamples, sample) {
                    keystream.apply_keystream(bytes);
                }
            }
            ProtectionScheme::Cens => {
                let mut keystream = self.keystream(iv);
                for bytes in protected(subsamples, sample) {
                    for run in chains::runs(self.pattern, bytes.as_chunks_mut().0) {
                        keystream.apply_keystream(run.as_flattened_mut());
                    }
                }
            }
            ProtectionScheme::Cbc1 => {
                let mut state = *iv;
                for bytes in protected(subsamples, sample) {
                    chain(&self.aes, &mut state, bytes.as_chunks_mut().0);
                }
            }
            ProtectionScheme::Cbcs => {
                for bytes in protected(subsamples, sample) {
                    let mut state = *iv;
                    for run in chains::runs(self.pattern, bytes.as_chunks_mut().0) {
                        chain(&self.aes, &mut state, run);
                    }
                }
            }
        }
    }

    /// A 64-bit block counter in the last eight bytes (9.3). No sample is long enough to see it come round.
    fn keystream(&self, iv: &[u8; 16]) -> StreamCipherCoreWrapper<CtrCore<&Aes128, Ctr64BE>> {
        StreamCipherCoreWrapper::from_core(CtrCore::inner_iv_init(&self.aes, &Array(*iv)))
    }
}

/// Whether `subsamples` are a map of a sample of `sample_size` bytes in `scheme`; none at all always are.
pub(super) fn check(
    scheme: ProtectionScheme,
    subsamples: impl ExactSizeIterator<Item = Subsample>,
    sample_size: usize,
) -> Result<(), CipherError> {
    if subsamples.len() == 0 {
        return Ok(());
    }
    let mut mapped = 0_u64;
    let mut partial = None;
    for (index, subsample) in subsamples.enumerate() {
        mapped = mapped.saturating_add(u64::from(subsample.clear) + u64::from(subsample.protected));
        if !subsample.protected.is_multiple_of(BLOCK_SIZE as u32) {
            partial = partial.or(Some((index, subsample.protected)));
        }
    }
    if mapped != sample_size as u64 {
        return Err(CipherError::Map {
            mapped,
            size: sample_size as u64,
        });
    }
    match partial {
        Some((subsample, protected)) if scheme == ProtectionScheme::Cbc1 => {
            Err(CipherError::PartialBlock { subsample, protected })
        }
        _ => Ok(()),
    }
}

/// The protected bytes of each subsample of a sample that the map fits; all of them where there is no map.
fn protected<'a>(subsamples: &'a [Subsample], sample: &'a mut [u8]) -> impl Iterator<Item = &'a mut [u8]> {
    let whole = subsamples.is_empty().then_some((0, sample.len()));
    let mapped = subsamples
        .iter()
        .map(|subsample| (usize::from(subsample.clear), subsample.protected as usize));
    let mut rest = sample;
    whole.into_iter().chain(mapped).map(move |(clear, protected)| {
        let _clear = rest.split_off_mut(..clear);
        rest.split_off_mut(..protected).unwrap_or_default()
    })
}
