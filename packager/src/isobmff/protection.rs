//! Common Encryption boxes: protected sample entries, `pssh`, and a fragment's auxiliary information
//! (ISO/IEC 23001-7:2023 8, 10; ISO/IEC 14496-12:2022 8.7.8, 8.7.9, 8.12).

use std::ops::Range;

use bytes::Bytes;

use super::BoxWriter;
use crate::crypto::cenc::{CipherError, SampleCipher, SampleRange};
use crate::crypto::subsample::{SubsampleError, SubsampleScanner};
use crate::crypto::{ContentKey, IvSeed, KeyId, Pattern, ProtectionScheme, Subsample};
use crate::index::TrackIndex;
use crate::track::TrackDescription;

/// How the samples of one representation are protected; all but the key itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackEncryption {
    /// `schm` scheme type.
    pub scheme: ProtectionScheme,
    /// Encrypted and clear blocks.
    pub pattern: Pattern,
    /// `default_KID`.
    pub key_id: KeyId,
    /// Where initialisation vectors come from.
    pub seed: IvSeed,
    /// Who is told the key.
    pub naming: KeyNaming,
}

/// Where the key of a fragment is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyNaming {
    /// In the header alone, which each key has its own of: weak devices stumble over sample groups.
    #[default]
    Header,
    /// In each fragment too, by a sample group (`seig`), for players that keep a header over several keys.
    Fragments,
}

impl TrackEncryption {
    /// Bytes of initialisation vector that each sample carries: eight in the counter schemes, sixteen in `cbc1`, none
    /// in `cbcs`, whose IV is constant (CMAF 8.2.3.1).
    pub fn iv_size(&self) -> usize {
        match self.scheme {
            ProtectionScheme::Cenc | ProtectionScheme::Cens => 8,
            ProtectionScheme::Cbc1 => 16,
            ProtectionScheme::Cbcs => 0,
        }
    }

    /// The initialisation vector of sample `sample_number` (0-based in the source track), as a cipher takes it: eight
    /// bytes are followed by the block counter's zeros.
    pub fn iv(&self, sample_number: u32) -> [u8; 16] {
        match self.scheme {
            ProtectionScheme::Cenc | ProtectionScheme::Cens => {
                let mut iv = [0; 16];
                iv[..8].copy_from_slice(&self.seed.counter(sample_number));
                iv
            }
            ProtectionScheme::Cbc1 => self.seed.numbered(sample_number),
            ProtectionScheme::Cbcs => self.seed.constant(),
        }
    }

    fn has_pattern(&self) -> bool {
        matches!(self.scheme, ProtectionScheme::Cens | ProtectionScheme::Cbcs)
    }

    /// ISO/IEC 23001-7:2023 8.2 (`tenc`): version 1 where there is room for a pattern.
    fn write_tenc(&self, w: &mut BoxWriter) {
        w.write_full_box(b"tenc", u8::from(self.has_pattern()), 0, |w| self.write_parameters(w));
    }

    /// What `tenc` and the sample group `seig` say alike (8.2, 6): so the pattern of the one is always that of the other.
    fn write_parameters(&self, w: &mut BoxWriter) {
        w.u8(0);
        w.u8(match self.has_pattern() {
            true => self.pattern.crypt << 4 | self.pattern.skip & 0x0f,
            false => 0,
        });
        w.u8(1); // isProtected
        w.u8(self.iv_size() as u8);
        w.bytes(&self.key_id.0);
        if self.iv_size() == 0 {
            w.u8(16);
            w.bytes(&self.seed.constant());
        }
    }

    /// Bytes of [`TrackEncryption::write_parameters`].
    fn parameters_size(&self) -> usize {
        match self.iv_size() {
            0 => 20 + 1 + 16,
            _ => 20,
        }
    }

    /// ISO/IEC 14496-12:2022 8.12.1 (`sinf`).
    fn write_sinf(&self, w: &mut BoxWriter, original_format: &[u8]) {
        w.write_box(b"sinf", |w| {
            w.write_box(b"frma", |w| w.bytes(original_format));
            w.write_full_box(b"schm", 0, 0, |w| {
                w.bytes(&self.scheme.fourcc());
                w.u32(0x0001_0000);
            });
            w.write_box(b"schi", |w| self.write_tenc(w));
        });
    }
}

/// `entry` (a whole sample entry box of a video or audio track) as a protected one: `encv` or `enca` with a `sinf` behind
/// its other boxes.
pub fn protected_sample_entry(entry: &[u8], is_video: bool, encryption: &TrackEncryption) -> Bytes {
    const HEADER_SIZE: usize = 8;
    let Some((header, body)) = entry.split_at_checked(HEADER_SIZE) else {
        return Bytes::copy_from_slice(entry);
    };
    let mut w = BoxWriter::with_capacity(entry.len() + 128);
    w.write_box(if is_video { b"encv" } else { b"enca" }, |w| {
        w.bytes(body);
        encryption.write_sinf(w, &header[4..]);
    });
    Bytes::from(w.finish())
}

/// The auxiliary information of a fragment's samples: initialisation vectors and subsamples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleAuxiliary {
    iv_size: usize,
    /// One after the other, `iv_size` bytes each.
    ivs: Vec<u8>,
    /// Entries of each sample; empty when no sample has any.
    counts: Vec<u16>,
    subsamples: Vec<Subsample>,
    sample_count: u32,
    /// What the sample group says, where there is one.
    group: Option<TrackEncryption>,
}

/// Bytes of a `senc` row's subsample: BytesOfClearData and BytesOfProtectedData.
const SUBSAMPLE_SIZE: usize = 6;
const FULL_BOX_HEADER_SIZE: usize = 12;

impl SampleAuxiliary {
    /// Empty, for samples encrypted by `encryption`.
    pub fn new(encryption: &TrackEncryption) -> SampleAuxiliary {
        SampleAuxiliary {
            iv_size: encryption.iv_size(),
            group: Some(*encryption).filter(|encryption| encryption.naming == KeyNaming::Fragments),
            ..SampleAuxiliary::default()
        }
    }

    /// The next sample: its initialisation vector as a cipher takes it, and its subsamples (none: all of it is
    /// protected).
    pub fn push(&mut self, iv: &[u8; 16], subsamples: &[Subsample]) {
        self.ivs.extend_from_slice(&iv[..self.iv_size]);
        self.counts.push(subsamples.len() as u16);
        self.subsamples.extend_from_slice(subsamples);
        self.sample_count += 1;
    }

    /// Memory that this takes, in bytes.
    pub fn weight_bytes(&self) -> usize {
        self.ivs.len() + size_of_val(self.counts.as_slice()) + size_of_val(self.subsamples.as_slice())
    }

    /// True when there is nothing to say: samples protected as a whole under a constant IV. Then CMAF 8.2.2.1 wants none
    /// of the three boxes.
    pub fn is_empty(&self) -> bool {
        self.iv_size == 0 && self.subsamples.is_empty()
    }

    fn has_subsamples(&self) -> bool {
        !self.subsamples.is_empty()
    }

    /// Bytes of the row of a sample with `count` subsamples.
    fn row_size(&self, count: u16) -> usize {
        let subsamples = match self.has_subsamples() {
            true => 2 + SUBSAMPLE_SIZE * usize::from(count),
            false => 0,
        };
        self.iv_size + subsamples
    }

    fn constant_row_size(&self) -> Option<u8> {
        let first = self.row_size(*self.counts.first()?);
        let constant = self.counts.iter().all(|count| self.row_size(*count) == first);
        u8::try_from(first).ok().filter(|size| constant && *size > 0)
    }

    fn senc_size(&self) -> usize {
        let rows: usize = self.counts.iter().map(|count| self.row_size(*count)).sum();
        FULL_BOX_HEADER_SIZE + 4 + rows
    }

    fn saiz_size(&self) -> usize {
        match self.constant_row_size() {
            Some(_) => FULL_BOX_HEADER_SIZE + 5,
            None => FULL_BOX_HEADER_SIZE + 5 + self.counts.len(),
        }
    }

    const SAIO_SIZE: usize = FULL_BOX_HEADER_SIZE + 8;

    /// Bytes of `sgpd`, `sbgp`, `saiz`, `saio` and `senc` together, as far as they are there.
    pub fn size(&self) -> usize {
        if self.is_empty() {
            return self.group_size();
        }
        self.group_size() + self.saiz_size() + SampleAuxiliary::SAIO_SIZE + self.senc_size()
    }

    /// Writes the boxes; the first of them starts `offset` bytes behind the start of the `moof`. Rows fit the eight bits
    /// that `saiz` has for their size: [`ProtectionScheme::subsample_count_max`].
    pub fn write(&self, w: &mut BoxWriter, offset: usize) {
        self.write_group(w);
        if self.is_empty() {
            return;
        }
        self.write_saiz(w);
        let first_row =
            offset + self.group_size() + self.saiz_size() + SampleAuxiliary::SAIO_SIZE + FULL_BOX_HEADER_SIZE + 4;
        w.write_full_box(b"saio", 0, 0, |w| {
            w.u32(1);
            // Fits: a fragment's header has far less than 4 GiB.
            w.u32(first_row as u32);
        });
        self.write_senc(w);
    }

    fn group_size(&self) -> usize {
        let of = |group: &TrackEncryption| {
            let description = FULL_BOX_HEADER_SIZE + 12 + group.parameters_size();
            let samples = FULL_BOX_HEADER_SIZE + 16;
            description + samples
        };
        self.group.as_ref().map_or(0, of)
    }

    /// ISO/IEC 14496-12:2022 8.9.3 (`sgpd`), 8.9.2 (`sbgp`): all samples are in one group, which the fragment describes
    /// itself (8.9.4).
    fn write_group(&self, w: &mut BoxWriter) {
        const FIRST_OF_FRAGMENT: u32 = 0x1_0001;
        let Some(group) = &self.group else { return };
        w.write_full_box(b"sgpd", 1, 0, |w| {
            w.bytes(b"seig");
            w.u32(group.parameters_size() as u32);
            w.u32(1);
            group.write_parameters(w);
        });
        w.write_full_box(b"sbgp", 0, 0, |w| {
            w.bytes(b"seig");
            w.u32(1);
            w.u32(self.sample_count);
            w.u32(FIRST_OF_FRAGMENT);
        });
    }

    /// ISO/IEC 14496-12:2022 8.7.8 (`saiz`).
    fn write_saiz(&self, w: &mut BoxWriter) {
        w.write_full_box(b"saiz", 0, 0, |w| match self.constant_row_size() {
            Some(size) => {
                w.u8(size);
                w.u32(self.sample_count);
            }
            None => {
                w.u8(0);
                w.u32(self.sample_count);
                for count in &self.counts {
                    w.u8(self.row_size(*count) as u8);
                }
            }
        });
    }

    /// ISO/IEC 23001-7:2023 7.2 (`senc`).
    fn write_senc(&self, w: &mut BoxWriter) {
        const USE_SUBSAMPLES: u32 = 2;
        let flags = if self.has_subsamples() { USE_SUBSAMPLES } else { 0 };
        w.write_full_box(b"senc", 0, flags, |w| {
            w.u32(self.sample_count);
            let mut subsamples = self.subsamples.iter();
            for (at, count) in self.counts.iter().enumerate() {
                w.bytes(&self.ivs[at * self.iv_size..(at + 1) * self.iv_size]);
                if self.has_subsamples() {
                    w.u16(*count);
                    for subsample in subsamples.by_ref().take(usize::from(*count)) {
                        w.u16(subsample.clear);
                        w.u32(subsample.protected);
                    }
                }
            }
        });
    }
}

/// Why a fragment was not encrypted. Its bytes must not be served then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncryptError {
    /// A sample could not be taken apart.
    #[error("sample {sample_index}: {error}")]
    Subsamples {
        /// 0-based in the track.
        sample_index: u32,
        /// What is wrong with it.
        error: SubsampleError,
    },
    /// What was found of the samples does not fit them.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// The bytes given are not those of the samples.
    #[error("{given} bytes for samples of {wanted}")]
    Size {
        /// Bytes given.
        given: usize,
        /// Bytes that the samples have.
        wanted: u64,
    },
}

/// Encrypts the samples of one representation.
#[derive(Clone)]
pub struct FragmentCipher {
    encryption: TrackEncryption,
    cipher: SampleCipher,
    /// As its sample entry describes it, before any sample.
    scanner: SubsampleScanner,
}

impl FragmentCipher {
    /// For samples of `description` under `key`, whose name is in `encryption`.
    pub fn new(
        description: &TrackDescription,
        encryption: &TrackEncryption,
        key: &ContentKey,
    ) -> Result<FragmentCipher, EncryptError> {
        let scanner =
            SubsampleScanner::new(description).map_err(|error| EncryptError::Subsamples { sample_index: 0, error })?;
        Ok(FragmentCipher {
            encryption: *encryption,
            cipher: SampleCipher::new(encryption.scheme, encryption.pattern, key)?,
            scanner,
        })
    }

    /// Encrypts samples `range` of `index` in place; `media` holds them one after the other. `source_sample` is what the
    /// first sample of `index` is numbered in its source: initialisation vectors are told by that number, so that a part
    /// of a track is the same bytes as the whole. Returns what the fragment's header has to say of them.
    pub fn encrypt(
        &self,
        index: &TrackIndex,
        range: Range<u32>,
        source_sample: u32,
        media: &mut [u8],
    ) -> Result<SampleAuxiliary, EncryptError> {
        let mut fragment = self.start();
        self.encrypt_next(&mut fragment, index, range, source_sample, media)?;
        Ok(fragment.auxiliary)
    }

    /// Starts a fragment whose samples come in several runs.
    pub fn start(&self) -> FragmentSamples {
        FragmentSamples {
            scanner: self.scanner.clone(),
            auxiliary: SampleAuxiliary::new(&self.encryption),
        }
    }

    /// As [`FragmentCipher::encrypt`], the next run of a fragment's samples. After an error the fragment is of no use.
    pub fn encrypt_next(
        &self,
        fragment: &mut FragmentSamples,
        index: &TrackIndex,
        range: Range<u32>,
        source_sample: u32,
        media: &mut [u8],
    ) -> Result<(), EncryptError> {
        check_size(index, range.clone(), media)?;
        let mut subsamples = Vec::new();
        // First byte of each sample, and its first subsample.
        let mut places = Vec::with_capacity(range.len());
        let mut at = 0;
        for (sample_index, size) in range.clone().zip(index.sizes(range.clone())) {
            let end = at + size as usize;
            let sample = media.get(at..end).unwrap_or_default();
            let first = subsamples.len();
            fragment
                .scanner
                .append(self.encryption.scheme, sample, &mut subsamples)
                .map_err(|error| EncryptError::Subsamples { sample_index, error })?;
            places.push((at..end, first..subsamples.len()));
            at = end;
        }
        let mut samples = Vec::with_capacity(places.len());
        for (sample_index, (bytes, own)) in range.zip(places) {
            let iv = self.encryption.iv(source_sample.saturating_add(sample_index));
            let subsamples = subsamples.get(own).unwrap_or_default();
            fragment.auxiliary.push(&iv, subsamples);
            samples.push(SampleRange { iv, subsamples, bytes });
        }
        self.cipher.encrypt_segment(&samples, media)?;
        Ok(())
    }

    /// Encrypts samples of `sizes` bytes once more. `auxiliary` is what was found of their fragment, in which the first of
    /// them is sample `position` (0-based); in its source it is sample `source_sample`. The bytes are those of the first
    /// time.
    pub fn encrypt_again(
        &self,
        auxiliary: &SampleAuxiliary,
        position: usize,
        source_sample: u32,
        sizes: &[u32],
        media: &mut [u8],
    ) -> Result<(), EncryptError> {
        let mut counts = auxiliary.counts.iter().map(|count| usize::from(*count));
        let mut first: usize = counts.by_ref().take(position).sum();
        let mut samples = Vec::with_capacity(sizes.len());
        let mut at = 0_usize;
        for ((number, size), count) in (source_sample..=u32::MAX).zip(sizes).zip(counts) {
            let end = at.saturating_add(*size as usize);
            samples.push(SampleRange {
                iv: self.encryption.iv(number),
                subsamples: auxiliary.subsamples.get(first..first + count).unwrap_or_default(),
                bytes: at..end,
            });
            first += count;
            at = end;
        }
        // Bytes of samples that the fragment does not have would stay clear.
        if at != media.len() || samples.len() != sizes.len() {
            return Err(EncryptError::Size {
                given: media.len(),
                wanted: at as u64,
            });
        }
        self.cipher.encrypt_segment(&samples, media)?;
        Ok(())
    }
}

fn check_size(index: &TrackIndex, range: Range<u32>, media: &[u8]) -> Result<(), EncryptError> {
    let wanted = index.size_bytes(range);
    if media.len() as u64 != wanted {
        return Err(EncryptError::Size {
            given: media.len(),
            wanted,
        });
    }
    Ok(())
}

/// A fragment's samples as far as they are encrypted.
#[derive(Clone)]
pub struct FragmentSamples {
    scanner: SubsampleScanner,
    auxiliary: SampleAuxiliary,
}

impl FragmentSamples {
    /// What the fragment's header has to say of the samples so far.
    pub fn into_auxiliary(self) -> SampleAuxiliary {
        self.auxiliary
    }
}
