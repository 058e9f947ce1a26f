//! Keys at rest: AES key wrap (RFC 3394), and content keys sealed for one tenant, one title and one use.
//!
//! A key encryption key wraps a tenant's data encryption key; that one seals content keys with AES-256-GCM. What the key
//! is for is authenticated with it, so a row that was moved to another tenant or key id does not open.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use aes::cipher::array::Array;
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use aes_kw::{KwAes128, KwAes192, KwAes256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{ContentKey, KeyId};

/// What a wrapped or sealed key grows by.
const WRAP_SIZE: usize = 8;

const TAG_SIZE: usize = 16;

/// A wrapped [`Secret32`].
pub const WRAPPED_SIZE: usize = 32 + WRAP_SIZE;

/// A sealed content key: its ciphertext, then the tag.
pub const SEALED_SIZE: usize = 16 + TAG_SIZE;

/// Longest key that is wrapped, in bytes.
const WRAP_SIZE_MAX: usize = 4_096;

/// A secret 256-bit key. Wiped when dropped; it has no `Debug`, so it can not reach a log.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret32([u8; 32]);

impl Secret32 {
    /// Takes the key's bytes.
    pub fn new(bytes: [u8; 32]) -> Secret32 {
        Secret32(bytes)
    }

    /// The bytes, for a cipher.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Why a key was not wrapped, opened or sealed. Says nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// The wrapping key is not of 16, 24 or 32 bytes.
    #[error("a wrapping key of {size} bytes")]
    WrappingKey {
        /// Its bytes.
        size: usize,
    },
    /// A key to wrap is two or more times eight bytes; a wrapped one has eight more; a sealed one has 32.
    #[error("{size} bytes are no key, or no wrapped one")]
    Size {
        /// Bytes given.
        size: usize,
    },
    /// The bytes were not made with this key, for this use, or were changed since.
    #[error("the key does not open: wrong key, wrong use, or damaged")]
    Integrity,
    /// A part of the use has a `|`, which separates parts.
    #[error("{part} has a separator in it")]
    Separator {
        /// Which part.
        part: &'static str,
    },
}

/// What a content key is for: authenticated with it, not stored in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse<'a> {
    /// Format of the file that it is kept in: 1, or 2, in which a MAC vouches for states.
    pub format: u32,
    /// Whose.
    pub tenant: &'a str,
    /// Which title.
    pub content: &'a str,
    /// The key's public name.
    pub key_id: KeyId,
    /// Protection scheme or method, by name.
    pub scheme: &'a str,
    /// Track type, as `AUDIO` or `HD`.
    pub track: &'a str,
    /// Key period.
    pub period: u64,
}

impl KeyUse<'_> {
    /// `v2|tenant|content|kid|scheme|track|period`, the key id as 32 hexadecimal digits.
    fn associated_data(&self) -> Result<Vec<u8>, WrapError> {
        for (part, text) in [
            ("tenant", self.tenant),
            ("content", self.content),
            ("scheme", self.scheme),
            ("track", self.track),
        ] {
            if text.contains('|') {
                return Err(WrapError::Separator { part });
            }
        }
        let KeyUse {
            format,
            tenant,
            content,
            key_id,
            scheme,
            track,
            period,
        } = self;
        let key_id = key_id.hex();
        Ok(format!("v{format}|{tenant}|{content}|{key_id}|{scheme}|{track}|{period}").into_bytes())
    }
}

/// Wraps a key with a key of 16, 24 or 32 bytes (RFC 3394 2.2.1).
pub fn wrap(wrapping_key: &[u8], key: &[u8]) -> Result<Vec<u8>, WrapError> {
    let size = key.len();
    if !size.is_multiple_of(WRAP_SIZE) || !(2 * WRAP_SIZE..=WRAP_SIZE_MAX).contains(&size) {
        return Err(WrapError::Size { size });
    }
    let mut wrapped = vec![0; size + WRAP_SIZE];
    let done = match wrapping_key.len() {
        16 => KwAes128::new_from_slice(wrapping_key).map(|cipher| cipher.wrap_key(key, &mut wrapped).is_ok()),
        24 => KwAes192::new_from_slice(wrapping_key).map(|cipher| cipher.wrap_key(key, &mut wrapped).is_ok()),
        _ => KwAes256::new_from_slice(wrapping_key).map(|cipher| cipher.wrap_key(key, &mut wrapped).is_ok()),
    };
    match done {
        Ok(true) => Ok(wrapped),
        Ok(false) => Err(WrapError::Size { size }),
        Err(_) => Err(WrapError::WrappingKey {
            size: wrapping_key.len(),
        }),
    }
}

/// Undoes [`wrap`] (RFC 3394 2.2.2).
pub fn unwrap(wrapping_key: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, WrapError> {
    let size = wrapped.len();
    if !size.is_multiple_of(WRAP_SIZE) || !(3 * WRAP_SIZE..=WRAP_SIZE_MAX + WRAP_SIZE).contains(&size) {
        return Err(WrapError::Size { size });
    }
    let mut key = Zeroizing::new(vec![0; size - WRAP_SIZE]);
    let done = match wrapping_key.len() {
        16 => KwAes128::new_from_slice(wrapping_key).map(|cipher| cipher.unwrap_key(wrapped, &mut key).is_ok()),
        24 => KwAes192::new_from_slice(wrapping_key).map(|cipher| cipher.unwrap_key(wrapped, &mut key).is_ok()),
        _ => KwAes256::new_from_slice(wrapping_key).map(|cipher| cipher.unwrap_key(wrapped, &mut key).is_ok()),
    };
    match done {
        Ok(true) => Ok(key),
        Ok(false) => Err(WrapError::Integrity),
        Err(_) => Err(WrapError::WrappingKey {
            size: wrapping_key.len(),
        }),
    }
}

/// Wraps a tenant's data encryption key with the key encryption key.
pub fn wrap_tenant_key(kek: &Secret32, tenant_key: &Secret32) -> Result<[u8; WRAPPED_SIZE], WrapError> {
    let wrapped = wrap(kek.expose(), tenant_key.expose())?;
    let size = wrapped.len();
    wrapped.try_into().map_err(|_| WrapError::Size { size })
}

/// Undoes [`wrap_tenant_key`].
pub fn unwrap_tenant_key(kek: &Secret32, wrapped: &[u8]) -> Result<Secret32, WrapError> {
    let size = wrapped.len();
    if size != WRAPPED_SIZE {
        return Err(WrapError::Size { size });
    }
    let key = unwrap(kek.expose(), wrapped)?;
    let mut secret = Secret32([0; 32]);
    for (to, from) in secret.0.iter_mut().zip(key.iter()) {
        *to = *from;
    }
    Ok(secret)
}

/// Seals a content key with AES-256-GCM. `nonce` must never come twice under one tenant key: draw it at random.
pub fn seal(
    tenant_key: &Secret32,
    nonce: &[u8; 12],
    key_use: &KeyUse<'_>,
    key: &ContentKey,
) -> Result<[u8; SEALED_SIZE], WrapError> {
    let associated_data = key_use.associated_data()?;
    let mut bytes = Zeroizing::new(*key.expose());
    let tag = Aes256Gcm::new(&Array(*tenant_key.expose()))
        .encrypt_inout_detached(&Array(*nonce), &associated_data, bytes.as_mut_slice().into())
        .map_err(|_| WrapError::Integrity)?;
    let mut sealed = [0; SEALED_SIZE];
    for (to, from) in sealed.iter_mut().zip(bytes.iter().chain(tag.iter())) {
        *to = *from;
    }
    Ok(sealed)
}

/// Opens what [`seal`] made with the same key, nonce and use.
pub fn open(
    tenant_key: &Secret32,
    nonce: &[u8; 12],
    key_use: &KeyUse<'_>,
    sealed: &[u8],
) -> Result<ContentKey, WrapError> {
    let associated_data = key_use.associated_data()?;
    let size = sealed.len();
    let (sealed, tag) = sealed
        .split_first_chunk::<16>()
        .and_then(|(sealed, tag)| Some((sealed, <[u8; TAG_SIZE]>::try_from(tag).ok()?)))
        .ok_or(WrapError::Size { size })?;
    let mut bytes = Zeroizing::new(*sealed);
    Aes256Gcm::new(&Array(*tenant_key.expose()))
        .decrypt_inout_detached(
            &Array(*nonce),
            &associated_data,
            bytes.as_mut_slice().into(),
            &Array(tag),
        )
        .map_err(|_| WrapError::Integrity)?;
    Ok(ContentKey::new(*bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const USE: KeyUse<'static> = KeyUse {
        format: 2,
        tenant: "acme",
        content: "film-1",
        key_id: KeyId([0xab; 16]),
        scheme: "cbcs",
        track: "UHD1",
        period: 7,
    };

    fn error<T>(result: Result<T, WrapError>) -> Option<WrapError> {
        result.err()
    }

    #[test]
    fn the_use_is_written_as_designed() {
        assert_eq!(
            String::from_utf8(USE.associated_data().unwrap()).unwrap(),
            "v2|acme|film-1|abababababababababababababababab|cbcs|UHD1|7"
        );
    }

    #[test]
    fn an_envelope_opens_for_its_own_use_alone() {
        let (kek, tenant_key) = (Secret32::new([1; 32]), Secret32::new([2; 32]));
        let wrapped = wrap_tenant_key(&kek, &tenant_key).unwrap();
        let opened = unwrap_tenant_key(&kek, &wrapped).unwrap();
        assert_eq!(opened.expose(), tenant_key.expose());
        let nonce = [3; 12];
        let sealed = seal(&opened, &nonce, &USE, &ContentKey::new(*b"sixteen byte key")).unwrap();
        assert_eq!(
            open(&tenant_key, &nonce, &USE, &sealed).unwrap().expose(),
            b"sixteen byte key"
        );

        let refuses = |tenant_key: &Secret32, nonce: [u8; 12], key_use: KeyUse<'_>, sealed: &[u8]| {
            let error = error(open(tenant_key, &nonce, &key_use, sealed));
            assert_eq!(error, Some(WrapError::Integrity), "{key_use:?}");
        };
        refuses(&kek, nonce, USE, &sealed);
        refuses(&tenant_key, [4; 12], USE, &sealed);
        refuses(&tenant_key, nonce, KeyUse { tenant: "acm", ..USE }, &sealed);
        refuses(&tenant_key, nonce, KeyUse { format: 1, ..USE }, &sealed);
        refuses(
            &tenant_key,
            nonce,
            KeyUse {
                content: "film-2",
                ..USE
            },
            &sealed,
        );
        refuses(
            &tenant_key,
            nonce,
            KeyUse {
                key_id: KeyId([0; 16]),
                ..USE
            },
            &sealed,
        );
        refuses(&tenant_key, nonce, KeyUse { scheme: "cenc", ..USE }, &sealed);
        refuses(&tenant_key, nonce, KeyUse { track: "HD", ..USE }, &sealed);
        refuses(&tenant_key, nonce, KeyUse { period: 8, ..USE }, &sealed);
        for at in 0..sealed.len() {
            let mut damaged = sealed;
            damaged[at] ^= 0x10;
            refuses(&tenant_key, nonce, USE, &damaged);
        }
        for at in 0..wrapped.len() {
            let mut damaged = wrapped;
            damaged[at] ^= 1;
            assert_eq!(error(unwrap_tenant_key(&kek, &damaged)), Some(WrapError::Integrity));
        }
        for size in 0..sealed.len() {
            let error = error(open(&tenant_key, &nonce, &USE, &sealed[..size]));
            assert_eq!(error, Some(WrapError::Size { size }));
        }
        for size in 0..wrapped.len() {
            assert_eq!(
                error(unwrap_tenant_key(&kek, &wrapped[..size])),
                Some(WrapError::Size { size })
            );
        }
    }

    #[test]
    fn what_could_be_read_two_ways_is_refused() {
        let key = Secret32::new([2; 32]);
        for (part, key_use) in [
            ("tenant", KeyUse { tenant: "a|b", ..USE }),
            ("content", KeyUse { content: "|", ..USE }),
            ("scheme", KeyUse { scheme: "c|", ..USE }),
            ("track", KeyUse { track: "|c", ..USE }),
        ] {
            let error = error(seal(&key, &[0; 12], &key_use, &ContentKey::new([0; 16])));
            assert_eq!(error, Some(WrapError::Separator { part }));
        }
        let check = |wrapping_key: usize, size: usize, expected| {
            assert_eq!(error(wrap(&vec![0; wrapping_key], &vec![0; size])), Some(expected));
        };
        check(15, 16, WrapError::WrappingKey { size: 15 });
        check(32, 8, WrapError::Size { size: 8 });
        check(32, 17, WrapError::Size { size: 17 });
        check(32, 1 << 20, WrapError::Size { size: 1 << 20 });
        assert_eq!(error(unwrap(&[0; 32], &[0; 16])), Some(WrapError::Size { size: 16 }));
        assert_eq!(
            error(unwrap(&[0; 31], &[0; 24])),
            Some(WrapError::WrappingKey { size: 31 })
        );
    }
}
