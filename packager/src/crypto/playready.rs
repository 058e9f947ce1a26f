//! PlayReady's object (PRO) and header in versions 4.0, 4.2 and 4.3, key checksums, and keys made from a seed.
//!
//! "PlayReady Header" and "PlayReady Key Seed" specifications. The header is canonical XML: `xmlns` first, attributes in
//! alphabetical order, no empty-element tags; clients compare it byte by byte.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::pssh::{Pssh, SystemId};
use super::{ContentKey, KeyId, ProtectionScheme};
use crate::limits;

/// Record that holds a header.
const RECORD_HEADER: u16 = 1;
/// Bytes of an object before its records: length, record count.
const OBJECT_HEADER_SIZE_BYTES: usize = 6;
/// Bytes of a record before its value: type, length.
const RECORD_HEADER_SIZE_BYTES: usize = 4;

/// What is said of a key in public: its name, and a checksum by which PlayReady tells that a licence is for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalledKey {
    /// The key's name.
    pub key_id: KeyId,
    /// First eight bytes of the name encrypted with the key (AES-128-ECB).
    pub checksum: Option<[u8; 8]>,
}

impl SignalledKey {
    /// With the checksum of `key`.
    pub fn new(key_id: KeyId, key: &ContentKey) -> SignalledKey {
        let mut block = guid(key_id).into();
        Aes128::new(key.expose().into()).encrypt_block(&mut block);
        SignalledKey {
            key_id,
            checksum: block.first_chunk().copied(),
        }
    }

    /// Without: PlayReady then finds out at its first sample.
    pub fn unchecked(key_id: KeyId) -> SignalledKey {
        SignalledKey { key_id, checksum: None }
    }
}

/// Why an object is not written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlayReadyError {
    /// A header is for one key or more.
    #[error("a PlayReady header without a key")]
    NoKeys,
    /// Objects are at most 15 KiB.
    #[error("a PlayReady object of {0} bytes, {max} are allowed", max = limits::PLAYREADY_OBJECT_SIZE_BYTES_MAX)]
    TooLarge(usize),
    /// Not an object.
    #[error("not a PlayReady object: {0}")]
    Malformed(&'static str),
}

/// A key id as PlayReady stores it: a GUID, whose first three parts are little-endian.
pub fn guid(key_id: KeyId) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = key_id.0;
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

/// The WRMHEADER for `keys` of one scheme: 4.0 for one counter key, 4.2 for several, 4.3 for chained ones, where
/// checksums are forbidden.
pub fn header(scheme: ProtectionScheme, keys: &[SignalledKey], la_url: Option<&str>) -> Result<String, PlayReadyError> {
    let (version, protection) = match (scheme.is_counter(), keys) {
        (_, []) => return Err(PlayReadyError::NoKeys),
        (true, [key]) => ("4.0.0.0", single(key)),
        (true, _) => ("4.2.0.0", list(keys, "AESCTR")),
        (false, _) => ("4.3.0.0", list(keys, "AESCBC")),
    };
    let url = la_url.map_or(String::new(), |url| format!("<LA_URL>{}</LA_URL>", escaped(url)));
    Ok(format!(
        "<WRMHEADER xmlns=\"http://schemas.microsoft.com/DRM/2007/03/PlayReadyHeader\" version=\"{version}\">\
         <DATA>{protection}{url}</DATA></WRMHEADER>"
    ))
}

/// PROTECTINFO, KID and CHECKSUM of version 4.0.
fn single(key: &SignalledKey) -> String {
    let kid = STANDARD.encode(guid(key.key_id));
    let checksum = key.checksum.map_or(String::new(), |checksum| {
        format!("<CHECKSUM>{}</CHECKSUM>", STANDARD.encode(checksum))
    });
    format!("<PROTECTINFO><KEYLEN>16</KEYLEN><ALGID>AESCTR</ALGID></PROTECTINFO><KID>{kid}</KID>{checksum}")
}

/// PROTECTINFO of versions 4.2 and 4.3.
fn list(keys: &[SignalledKey], algorithm: &str) -> String {
    let mut out = "<PROTECTINFO><KIDS>".to_owned();
    for key in keys {
        out += "<KID ALGID=\"";
        out += algorithm;
        if let Some(checksum) = key.checksum.filter(|_| algorithm == "AESCTR") {
            out += "\" CHECKSUM=\"";
            STANDARD.encode_string(checksum, &mut out);
        }
        out += "\" VALUE=\"";
        STANDARD.encode_string(guid(key.key_id), &mut out);
        out += "\"></KID>";
    }
    out + "</KIDS></PROTECTINFO>"
}

/// Text of a canonical XML element; control characters, which XML has no place for, are left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            control if control.is_control() || matches!(control, '\u{fffe}' | '\u{ffff}') => {}
            _ => out.push(character),
        }
    }
    out
}

/// The object around `header`: one record, UTF-16 little-endian.
pub fn object(header: &str) -> Result<Vec<u8>, PlayReadyError> {
    let value: Vec<u8> = header.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let size = OBJECT_HEADER_SIZE_BYTES + RECORD_HEADER_SIZE_BYTES + value.len();
    if size > limits::PLAYREADY_OBJECT_SIZE_BYTES_MAX {
        return Err(PlayReadyError::TooLarge(size));
    }
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(&(size as u32).to_le_bytes());
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(&RECORD_HEADER.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(&value);
    Ok(out)
}

/// The header inside an object. Other records (embedded licence stores) are passed over.
pub fn parse_object(object: &[u8]) -> Result<String, PlayReadyError> {
    if object.len() > limits::PLAYREADY_OBJECT_SIZE_BYTES_MAX {
        return Err(PlayReadyError::TooLarge(object.len()));
    }
    let cut = PlayReadyError::Malformed("cut short");
    let (size, rest) = object.split_first_chunk::<4>().ok_or(cut)?;
    if u32::from_le_bytes(*size) as usize != object.len() {
        return Err(PlayReadyError::Malformed("its length is not its size"));
    }
    let (count, mut rest) = rest.split_first_chunk::<2>().ok_or(cut)?;
    let mut header = None;
    for _ in 0..u16::from_le_bytes(*count) {
        let (kind, after) = rest.split_first_chunk::<2>().ok_or(cut)?;
        let (size, after) = after.split_first_chunk::<2>().ok_or(cut)?;
        let (value, after) = after.split_at_checked(u16::from_le_bytes(*size).into()).ok_or(cut)?;
        rest = after;
        if u16::from_le_bytes(*kind) == RECORD_HEADER {
            header = Some(utf16(value)?);
        }
    }
    match (rest, header) {
        ([], Some(header)) => Ok(header),
        ([], None) => Err(PlayReadyError::Malformed("no header")),
        _ => Err(PlayReadyError::Malformed("bytes after the last record")),
    }
}

fn utf16(value: &[u8]) -> Result<String, PlayReadyError> {
    let (pairs, rest) = value.as_chunks::<2>();
    let units = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
    let text = char::decode_utf16(units).collect::<Result<String, _>>().ok();
    text.filter(|_| rest.is_empty())
        .ok_or(PlayReadyError::Malformed("a header that is not UTF-16"))
}

/// The box around an object.
pub fn pssh(object: Vec<u8>) -> Pssh {
    Pssh {
        system_id: SystemId::PLAYREADY,
        key_ids: None,
        data: object,
    }
}

/// A secret from which content keys follow from their names alone. Whoever has it has every key made from it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KeySeed([u8; 30]);

impl KeySeed {
    /// The first 30 bytes of `seed`; `None` when it has fewer.
    pub fn new(seed: &[u8]) -> Option<KeySeed> {
        seed.first_chunk().copied().map(KeySeed)
    }

    /// The key that goes by `key_id`.
    pub fn content_key(&self, key_id: KeyId) -> ContentKey {
        let guid = guid(key_id);
        let mut hash = Sha256::new();
        let mut key = Zeroizing::new([0u8; 16]);
        // Three hashes: of seed and id; of that and the seed again; of that and the id again. All halves are folded
        // into one.
        let rounds: [&[&[u8]]; 3] = [&[&self.0, &guid], &[&self.0], &[&guid]];
        for parts in rounds {
            parts.iter().for_each(|part| hash.update(part));
            let mut digest: [u8; 32] = hash.clone().finalize().into();
            for (at, byte) in digest.iter().enumerate() {
                if let Some(folded) = key.get_mut(at % 16) {
                    *folded ^= byte;
                }
            }
            digest.zeroize();
        }
        ContentKey::new(*key)
    }
}
