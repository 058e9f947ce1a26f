//! Encrypted sources: how each sample of a file is protected, and the way back (ISO/IEC 23001-7:2023 7, 9 and 10).
//!
//! Samples are told apart by where they lie in the file, so that edits, clips and any range of samples find theirs. The
//! table is a side table of the index: media stays in the file as it is and is decrypted when it is read.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use super::cenc::{CipherError, SampleCipher};
use super::{ContentKey, KeyId, Pattern, ProtectionScheme, Subsample};
use crate::limits::{ENCRYPTED_SAMPLE_COUNT_MAX, FILE_AUXILIARY_SIZE_BYTES_MAX, SAMPLE_PROTECTION_COUNT_MAX};

/// Bytes of a subsample in `senc`: BytesOfClearData and BytesOfProtectedData.
const SUBSAMPLE_SIZE: usize = 6;

/// Where the keys of encrypted sources are.
pub trait SourceKeys {
    /// The key of this name; `None` when there is none, or none that may be used. An error says why keys can not be had,
    /// without secrets.
    fn key(&self, key_id: KeyId) -> Result<Option<ContentKey>, String>;
}

/// No keys: whatever is encrypted stays so.
pub struct NoKeys;

impl SourceKeys for NoKeys {
    fn key(&self, _: KeyId) -> Result<Option<ContentKey>, String> {
        Ok(None)
    }
}

impl SourceKeys for BTreeMap<KeyId, ContentKey> {
    fn key(&self, key_id: KeyId) -> Result<Option<ContentKey>, String> {
        Ok(self.get(&key_id).cloned())
    }
}

/// Where the initialisation vector of a sample comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SampleIv {
    /// Each sample brings one of so many bytes: 8 or 16.
    PerSample(u8),
    /// One for all. Eight bytes are followed by zeros.
    Constant([u8; 16]),
}

/// How samples are protected, as `tenc` says for a track and `seig` for a group of its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SampleProtection {
    /// `schm` scheme type.
    pub scheme: ProtectionScheme,
    /// Encrypted and clear blocks.
    pub pattern: Pattern,
    /// Name of the key.
    pub key_id: KeyId,
    /// Where initialisation vectors come from.
    pub iv: SampleIv,
}

/// Why a table of encrypted samples was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceEncryptionError {
    /// What is told of a sample does not fit it.
    #[error("sample at byte {offset}: {error}")]
    Sample {
        /// Where the sample starts.
        offset: u64,
        /// What does not fit.
        error: CipherError,
    },
    /// A row of `senc` has not the form that the sample's protection asks for.
    #[error("sample at byte {offset}: {size} bytes of auxiliary information, which is no row of {scheme}")]
    Row {
        /// Where the sample starts.
        offset: u64,
        /// Bytes of the row.
        size: usize,
        /// The scheme's name.
        scheme: &'static str,
    },
    /// Two samples are the same bytes, encrypted in two ways.
    #[error("the sample at byte {offset} is encrypted in two ways")]
    Ambiguous {
        /// Where the sample starts.
        offset: u64,
    },
    /// More than is kept.
    #[error("more than {count_max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        count_max: usize,
    },
}

/// Why samples were not decrypted. Their bytes must not be served then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// There is no key of this name.
    #[error("no key {key_id}")]
    MissingKey {
        /// Its name.
        key_id: KeyId,
    },
    /// Keys can not be had.
    #[error("{reason}")]
    Keys {
        /// Why.
        reason: String,
    },
    /// A sample is not what the table says of it.
    #[error("sample at byte {offset}: {error}")]
    Cipher {
        /// Where the sample starts.
        offset: u64,
        /// What does not fit.
        error: CipherError,
    },
    /// The bytes given are not those of the samples.
    #[error("{given} bytes are not those of the samples")]
    Size {
        /// Bytes given.
        given: usize,
    },
}

/// A sample of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    /// Where the sample starts.
    offset: u64,
    /// Where its IV and subsamples start in [`EncryptedSamples::bytes`].
    start: u32,
    subsample_count: u16,
    /// Which of [`EncryptedSamples::protections`], or [`CLEAR`].
    protection: u16,
}

/// [`Row::protection`] of a sample that is clear among encrypted ones.
const CLEAR: u16 = u16::MAX;
const _: () = assert!(SAMPLE_PROTECTION_COUNT_MAX < CLEAR as usize);

/// How the samples of one track, or of all encrypted tracks of one file, are protected.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EncryptedSamples {
    protections: Vec<SampleProtection>,
    /// Their places in `protections`.
    numbers: BTreeMap<SampleProtection, u16>,
    rows: Vec<Row>,
    /// Of each row its own IV, if it has one, and its subsamples as `senc` has them.
    bytes: Vec<u8>,
}

/// Counts alone: tables are long.
impl std::fmt::Debug for EncryptedSamples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncryptedSamples")
            .field("protections", &self.protections)
            .field("samples", &self.rows.len())
            .finish_non_exhaustive()
    }
}

impl EncryptedSamples {
    /// True when nothing is known of any sample.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Memory that the table holds, in bytes.
    pub fn weight_bytes(&self) -> usize {
        size_of_val(self.protections.as_slice()) + size_of_val(self.rows.as_slice()) + self.bytes.len()
    }

    /// Names of the keys that samples are encrypted under, each once.
    pub fn key_ids(&self) -> Vec<KeyId> {
        let mut ids: Vec<KeyId> = self.protections.iter().map(|protection| protection.key_id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The scheme of the first encrypted sample.
    pub fn scheme(&self) -> Option<ProtectionScheme> {
        self.protections.first().map(|protection| protection.scheme)
    }

    /// How the sample at byte `offset` is protected; `None` when it is clear or not of an encrypted track.
    pub fn protection(&self, offset: u64) -> Option<&SampleProtection> {
        self.protections.get(usize::from(self.row(offset)?.protection))
    }

    fn row(&self, offset: u64) -> Option<&Row> {
        let at = self.rows.binary_search_by_key(&offset, |row| row.offset).ok()?;
        self.rows.get(at)
    }

    /// Adds a sample of `size` bytes at byte `offset`, clear without a `protection`. `auxiliary` is what its row of `senc`
    /// holds: its own IV if samples have one, then subsamples without their count; none means that all is protected.
    pub fn push(
        &mut self,
        offset: u64,
        size: u32,
        protection: Option<&SampleProtection>,
        auxiliary: &[u8],
    ) -> Result<(), SourceEncryptionError> {
        // Nothing to decrypt, and the next sample starts there too.
        if size == 0 {
            return Ok(());
        }
        if self.rows.len() >= ENCRYPTED_SAMPLE_COUNT_MAX {
            return Err(SourceEncryptionError::TooMany {
                what: "encrypted samples",
                count_max: ENCRYPTED_SAMPLE_COUNT_MAX,
            });
        }
        let Some(protection) = protection else {
            self.rows.push(Row {
                offset,
                start: 0,
                subsample_count: 0,
                protection: CLEAR,
            });
            return Ok(());
        };
        let bad_row = || SourceEncryptionError::Row {
            offset,
            size: auxiliary.len(),
            scheme: protection.scheme.name(),
        };
        let iv_size = match protection.iv {
            SampleIv::PerSample(size) => usize::from(size),
            SampleIv::Constant(_) => 0,
        };
        let subsamples = auxiliary.get(iv_size..).ok_or_else(bad_row)?;
        let (entries, rest) = subsamples.as_chunks::<SUBSAMPLE_SIZE>();
        if !rest.is_empty() {
            return Err(bad_row());
        }
        let count = u16::try_from(entries.len()).map_err(|_| bad_row())?;
        super::cenc::check(protection.scheme, entries.iter().map(subsample), size as usize)
            .map_err(|error| SourceEncryptionError::Sample { offset, error })?;
        if self.bytes.len() + auxiliary.len() > FILE_AUXILIARY_SIZE_BYTES_MAX {
            return Err(SourceEncryptionError::TooMany {
                what: "bytes of auxiliary information",
                count_max: FILE_AUXILIARY_SIZE_BYTES_MAX,
            });
        }
        let row = Row {
            offset,
            // Fits, by the bound above.
            start: self.bytes.len() as u32,
            subsample_count: count,
            protection: self.number_of(protection)?,
        };
        self.bytes.extend_from_slice(auxiliary);
        self.rows.push(row);
        Ok(())
    }

    fn number_of(&mut self, protection: &SampleProtection) -> Result<u16, SourceEncryptionError> {
        if let Some(number) = self.numbers.get(protection) {
            return Ok(*number);
        }
        if self.protections.len() >= SAMPLE_PROTECTION_COUNT_MAX {
            return Err(SourceEncryptionError::TooMany {
                what: "ways of protection",
                count_max: SAMPLE_PROTECTION_COUNT_MAX,
            });
        }
        // Fits, by the bound above.
        let number = self.protections.len() as u16;
        self.protections.push(*protection);
        self.numbers.insert(*protection, number);
        Ok(number)
    }

    /// Adds all of `other`.
    pub fn append(&mut self, other: EncryptedSamples) -> Result<(), SourceEncryptionError> {
        // The usual file has one encrypted track.
        if self.is_empty() {
            *self = other;
            return Ok(());
        }
        for row in &other.rows {
            let protection = other.protections.get(usize::from(row.protection));
            let auxiliary = other.auxiliary(row);
            // Its own size fits, so the sample's is not looked at again.
            let number = match protection {
                Some(protection) => self.number_of(protection)?,
                None => CLEAR,
            };
            if self.rows.len() >= ENCRYPTED_SAMPLE_COUNT_MAX
                || self.bytes.len() + auxiliary.len() > FILE_AUXILIARY_SIZE_BYTES_MAX
            {
                return Err(SourceEncryptionError::TooMany {
                    what: "encrypted samples",
                    count_max: ENCRYPTED_SAMPLE_COUNT_MAX,
                });
            }
            self.rows.push(Row {
                start: self.bytes.len() as u32,
                protection: number,
                ..*row
            });
            self.bytes.extend_from_slice(auxiliary);
        }
        Ok(())
    }

    /// Makes the table fit to be asked: call it when all samples are there.
    pub fn finish(&mut self) -> Result<(), SourceEncryptionError> {
        if !self.rows.is_sorted_by_key(|row| row.offset) {
            self.rows.sort_by_key(|row| row.offset);
        }
        let twice = self.rows.windows(2).find_map(|pair| match pair {
            [first, second] if first.offset == second.offset && !self.is_same(first, second) => Some(first.offset),
            _ => None,
        });
        if let Some(offset) = twice {
            return Err(SourceEncryptionError::Ambiguous { offset });
        }
        self.rows.dedup_by_key(|row| row.offset);
        self.rows.shrink_to_fit();
        self.bytes.shrink_to_fit();
        Ok(())
    }

    fn is_same(&self, first: &Row, second: &Row) -> bool {
        first.protection == second.protection && self.auxiliary(first) == self.auxiliary(second)
    }

    /// IV and subsamples of a row.
    fn auxiliary(&self, row: &Row) -> &[u8] {
        let Some(protection) = self.protections.get(usize::from(row.protection)) else {
            return &[];
        };
        let iv_size = match protection.iv {
            SampleIv::PerSample(size) => usize::from(size),
            SampleIv::Constant(_) => 0,
        };
        let start = row.start as usize;
        let size = iv_size + usize::from(row.subsample_count) * SUBSAMPLE_SIZE;
        self.bytes.get(start..start.saturating_add(size)).unwrap_or_default()
    }

    /// Decrypts samples in place: `samples` are their first bytes in the file and their sizes, `media` holds them one after
    /// the other. Samples of tracks that are not encrypted stay as they are. After an error what `media` holds is of no use.
    pub fn decrypt(
        &self,
        keys: &dyn SourceKeys,
        samples: impl IntoIterator<Item = (u64, u32)>,
        media: &mut [u8],
    ) -> Result<(), DecryptError> {
        let given = media.len();
        let mut ciphers: BTreeMap<u16, SampleCipher> = BTreeMap::new();
        let mut rest = media;
        let mut subsamples = Vec::new();
        for (offset, size) in samples {
            let sample = rest
                .split_off_mut(..size as usize)
                .ok_or(DecryptError::Size { given })?;
            let Some(row) = self.row(offset).filter(|_| size > 0) else {
                continue;
            };
            let Some(protection) = self.protections.get(usize::from(row.protection)) else {
                continue;
            };
            let cipher = match ciphers.entry(row.protection) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    let key_id = protection.key_id;
                    let key = keys.key(key_id).map_err(|reason| DecryptError::Keys { reason })?;
                    let key = key.ok_or(DecryptError::MissingKey { key_id })?;
                    let cipher = SampleCipher::new(protection.scheme, protection.pattern, &key)
                        .map_err(|error| DecryptError::Cipher { offset, error })?;
                    place.insert(cipher)
                }
            };
            let auxiliary = self.auxiliary(row);
            let (iv, entries) = match protection.iv {
                SampleIv::PerSample(size) => {
                    let (own, entries) = auxiliary.split_at_checked(usize::from(size)).unwrap_or_default();
                    let mut iv = [0; 16];
                    for (byte, own) in iv.iter_mut().zip(own) {
                        *byte = *own;
                    }
                    (iv, entries)
                }
                SampleIv::Constant(iv) => (iv, auxiliary),
            };
            subsamples.clear();
            subsamples.extend(entries.as_chunks::<SUBSAMPLE_SIZE>().0.iter().map(subsample));
            cipher
                .decrypt(&iv, &subsamples, sample)
                .map_err(|error| DecryptError::Cipher { offset, error })?;
        }
        match rest.is_empty() {
            true => Ok(()),
            false => Err(DecryptError::Size { given }),
        }
    }
}

fn subsample(entry: &[u8; SUBSAMPLE_SIZE]) -> Subsample {
    let [a, b, c, d, e, f] = *entry;
    Subsample {
        clear: u16::from_be_bytes([a, b]),
        protected: u32::from_be_bytes([c, d, e, f]),
    }
}

#[cfg(test)]
#[path = "source/tests.rs"]
mod tests;
