//! Protection: keys, schemes, initialisation vectors, and which bytes of a sample they touch.
//!
//! ISO/IEC 23001-7:2023 (Common Encryption) for fragments; RFC 8216 4.3.2.4 and Apple's sample encryption for MPEG-TS.
//! Everything works in place on bytes that the caller owns; keys and nonces are arguments.

pub mod aes128;
pub mod cenc;
mod chains;
pub mod clear_key;
pub mod fairplay;
pub mod output;
pub mod playready;
pub mod pssh;
pub mod sample_aes;
pub mod signal;
pub mod source;
pub mod subsample;
pub mod vault;
pub mod widevine;
pub mod wrap;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Public name of a content key (`KID`), 16 bytes in the order of its UUID text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 16]);

impl KeyId {
    /// 32 hexadecimal digits, hyphens anywhere or nowhere.
    pub fn parse(text: &str) -> Option<KeyId> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        let (pairs, rest) = digits.as_chunks::<2>();
        if pairs.len() != 16 || !rest.is_empty() {
            return None;
        }
        let mut id = [0; 16];
        for (byte, [high, low]) in id.iter_mut().zip(pairs) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            *byte = (digit(*high)? * 16 + digit(*low)?) as u8;
        }
        Some(KeyId(id))
    }

    /// 32 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// As a UUID: `8-4-4-4-12` lower-case hexadecimal digits.
impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A secret 128-bit key. Wiped when dropped; it has no `Debug`, so it can not reach a log.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ContentKey([u8; 16]);

impl ContentKey {
    /// Takes the key's bytes.
    pub fn new(bytes: [u8; 16]) -> ContentKey {
        ContentKey(bytes)
    }

    /// The bytes, for a cipher or for a response that may hold them.
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A protection scheme of ISO/IEC 23001-7:2023 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtectionScheme {
    /// AES-CTR, whole subsamples.
    Cenc,
    /// AES-CTR, pattern.
    Cens,
    /// AES-CBC, whole subsamples.
    Cbc1,
    /// AES-CBC, pattern, constant IV.
    Cbcs,
}

impl ProtectionScheme {
    /// Every scheme.
    pub const ALL: [ProtectionScheme; 4] = [
        ProtectionScheme::Cenc,
        ProtectionScheme::Cens,
        ProtectionScheme::Cbc1,
        ProtectionScheme::Cbcs,
    ];

    /// What [`ProtectionScheme::name`] wrote.
    pub fn from_name(name: &str) -> Option<ProtectionScheme> {
        ProtectionScheme::ALL.into_iter().find(|scheme| scheme.name() == name)
    }

    /// `schm` scheme type.
    pub fn fourcc(self) -> [u8; 4] {
        match self {
            ProtectionScheme::Cenc => *b"cenc",
            ProtectionScheme::Cens => *b"cens",
            ProtectionScheme::Cbc1 => *b"cbc1",
            ProtectionScheme::Cbcs => *b"cbcs",
        }
    }

    /// The scheme's name, as `fourcc`.
    pub fn name(self) -> &'static str {
        match self {
            ProtectionScheme::Cenc => "cenc",
            ProtectionScheme::Cens => "cens",
            ProtectionScheme::Cbc1 => "cbc1",
            ProtectionScheme::Cbcs => "cbcs",
        }
    }

    /// True for the two that count (CTR); the others chain (CBC).
    pub fn is_counter(self) -> bool {
        matches!(self, ProtectionScheme::Cenc | ProtectionScheme::Cens)
    }

    /// The pattern that a track of this kind gets: 1:9 for video of the pattern schemes (9.6), none for all others.
    pub fn pattern(self, video: bool) -> Pattern {
        match self {
            ProtectionScheme::Cens | ProtectionScheme::Cbcs if video => Pattern { crypt: 1, skip: 9 },
            _ => Pattern::NONE,
        }
    }
}

/// `crypt_byte_block` and `skip_byte_block` of `tenc`, in blocks of 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// Encrypted blocks, 0 to 15.
    pub crypt: u8,
    /// Clear blocks that follow them, 0 to 15.
    pub skip: u8,
}

impl Pattern {
    /// Every whole block is encrypted.
    pub const NONE: Pattern = Pattern { crypt: 0, skip: 0 };
}

/// One entry of a sample's `senc` row (7.2): clear bytes, then protected ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subsample {
    /// BytesOfClearData.
    pub clear: u16,
    /// BytesOfProtectedData.
    pub protected: u32,
}

/// Initialisation vectors as a function of what is encrypted alone: the same URL gives the same bytes on every machine.
///
/// The counter schemes take eight bytes, a 38-bit prefix and the sample's number in 26 bits; the prefix is a hash of
/// what the samples are and of the key. So no counter block is used twice under a key, within a track, among the tracks
/// that share the key, or among versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IvSeed([u8; 16]);

/// Bits of a sample's number in a counter scheme's IV: [`crate::limits::SAMPLE_COUNT_MAX`] fits.
const SAMPLE_NUMBER_BITS: u32 = 26;
const _: () = assert!(crate::limits::SAMPLE_COUNT_MAX < 1 << SAMPLE_NUMBER_BITS);

impl IvSeed {
    /// The seed of representation `representation` of version `version`, encrypted under `key_id` as `form`.
    pub fn new(version: &str, representation: &str, form: &str, key_id: KeyId) -> IvSeed {
        let mut hash = Sha256::new();
        for part in [
            b"headwater iv 1".as_slice(),
            version.as_bytes(),
            representation.as_bytes(),
            form.as_bytes(),
            &key_id.0,
        ] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut seed = [0; 16];
        seed.copy_from_slice(&hash.finalize()[..16]);
        IvSeed(seed)
    }

    /// The 38 bits that tell this track's counter blocks from those of all others under its key.
    pub fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> SAMPLE_NUMBER_BITS
    }

    /// IV of sample `sample_index` (0-based in the track) in a counter scheme (ISO/IEC 23001-7 9.2: eight bytes, the
    /// block counter in the other eight starts at zero).
    pub fn counter(&self, sample_index: u32) -> [u8; 8] {
        ((self.prefix() << SAMPLE_NUMBER_BITS) | u64::from(sample_index)).to_be_bytes()
    }

    /// The constant IV of a chaining scheme, and of the segments of sample encryption in MPEG-TS.
    pub fn constant(&self) -> [u8; 16] {
        self.0
    }

    /// IV of something chained that has a number of its own: a sample in `cbc1`, a whole segment in AES-128.
    pub fn numbered(&self, number: u32) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(number.to_le_bytes());
        let mut iv = [0; 16];
        iv.copy_from_slice(&hash.finalize()[..16]);
        iv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ids_are_read_and_written_as_uuids() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(
                KeyId::parse(text).map(|id| id.to_string()).as_deref(),
                expected,
                "{text}"
            );
        };
        let uuid = "00112233-4455-6677-8899-aabbccddeeff";
        check(uuid, Some(uuid));
        check("00112233445566778899AABBCCDDEEFF", Some(uuid));
        check("00112233445566778899AABBCCDDEE", None);
        check("00112233445566778899AABBCCDDEEFG", None);
        check("", None);
        check("é0112233445566778899AABBCCDDEEF", None);
    }

    #[test]
    fn counters_hold_the_sample_number_in_their_last_bits() {
        let seed = IvSeed::new("v", "v1", "cmaf-cenc", KeyId([7; 16]));
        let at = |sample_index| u64::from_be_bytes(seed.counter(sample_index));
        assert_eq!(at(5) - at(0), 5);
        assert_eq!(at(49_999_999) >> 26, seed.prefix());
        for (version, representation, form, key) in [
            ("w", "v1", "cmaf-cenc", 7),
            ("v", "v2", "cmaf-cenc", 7),
            ("v", "v1", "cmaf-cens", 7),
            ("v", "v1", "cmaf-cenc", 8),
        ] {
            let other = IvSeed::new(version, representation, form, KeyId([key; 16]));
            assert_ne!(other.prefix(), seed.prefix());
        }
        assert_ne!(seed.numbered(1), seed.numbered(2));
    }
}
