//! The two keys that grants are made and proved with.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::limits;

/// A secret of 256 bits and its public name. Wiped when dropped; it has no `Debug`, so it can not reach a log.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct GrantKey {
    kid: Vec<u8>,
    secret: [u8; 32],
}

/// Why keys can not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantKeyError {
    /// Not `64 hexadecimal digits` and not `name:64 hexadecimal digits`.
    #[error("line {0}: a key is 64 hexadecimal digits, with or without `name:` before them")]
    Syntax(usize),
    /// The name is empty or longer than [`limits::GRANT_KEY_NAME_SIZE_BYTES_MAX`].
    #[error("a key's name has 1 to {} bytes", limits::GRANT_KEY_NAME_SIZE_BYTES_MAX)]
    Name,
    /// None, or more than the two of a rotation.
    #[error("there must be one key or two, found {0}")]
    Count(usize),
    /// Both keys go by one name.
    #[error("both keys have the same name")]
    SameName,
}

impl GrantKey {
    /// A key named `kid`, 1 to 32 bytes.
    pub fn new(kid: &[u8], secret: [u8; 32]) -> Result<GrantKey, GrantKeyError> {
        let key = GrantKey {
            kid: kid.to_owned(),
            secret,
        };
        match kid.len() {
            1..=limits::GRANT_KEY_NAME_SIZE_BYTES_MAX => Ok(key),
            _ => Err(GrantKeyError::Name),
        }
    }

    /// A key named by eight digits of a hash of itself, so that every machine calls it the same.
    pub fn unnamed(secret: [u8; 32]) -> GrantKey {
        let mut hash = Sha256::new();
        hash.update(b"headwater grant key name 1");
        hash.update(secret);
        let kid = hash.finalize().into_iter().take(4).map(|byte| format!("{byte:02x}"));
        GrantKey {
            kid: kid.collect::<String>().into_bytes(),
            secret,
        }
    }

    /// Its public name.
    pub fn kid(&self) -> &[u8] {
        &self.kid
    }

    /// HMAC-SHA-256 under it, begun.
    pub(super) fn hmac(&self) -> Hmac<Sha256> {
        // A key shorter than a block of the hash is filled up with zeros (RFC 2104 2), so this can not fail.
        let mut block = Zeroizing::new([0; 64]);
        for (to, from) in block.iter_mut().zip(self.secret) {
            *to = from;
        }
        Hmac::new((&*block).into())
    }

    fn parse(line: &str) -> Option<GrantKey> {
        let (kid, digits) = match line.rsplit_once(':') {
            Some((kid, digits)) => (Some(kid), digits),
            None => (None, line),
        };
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return None;
        }
        let mut secret = Zeroizing::new([0u8; 32]);
        for (byte, [high, low]) in secret.iter_mut().zip(pairs) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            *byte = (digit(*high)? * 16 + digit(*low)?) as u8;
        }
        match kid {
            Some(kid) => GrantKey::new(kid.as_bytes(), *secret).ok(),
            None => Some(GrantKey::unnamed(*secret)),
        }
    }
}

/// The key that mints, and while keys are exchanged another one that is also believed.
#[derive(Clone)]
pub struct GrantKeys {
    current: GrantKey,
    other: Option<GrantKey>,
}

impl GrantKeys {
    /// `current` mints; `other` is the one before it or the one after it.
    pub fn new(current: GrantKey, other: Option<GrantKey>) -> Result<GrantKeys, GrantKeyError> {
        if other.as_ref().is_some_and(|other| other.kid == current.kid) {
            return Err(GrantKeyError::SameName);
        }
        Ok(GrantKeys { current, other })
    }

    /// Reads a key file: a key a line, the current one first; blank lines and lines that begin with `#` say nothing.
    pub fn parse(text: &str) -> Result<GrantKeys, GrantKeyError> {
        let mut keys = Vec::with_capacity(2);
        let mut count = 0;
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            count += 1;
            if count <= 2 {
                keys.push(GrantKey::parse(line).ok_or(GrantKeyError::Syntax(number))?);
            }
        }
        let mut keys = keys.into_iter();
        match (keys.next(), count) {
            (Some(current), 1 | 2) => GrantKeys::new(current, keys.next()),
            _ => Err(GrantKeyError::Count(count)),
        }
    }

    /// The one that mints.
    pub fn current(&self) -> &GrantKey {
        &self.current
    }

    /// The one named `kid`. Names are public, so comparing them may take any time.
    pub(super) fn find(&self, kid: &[u8]) -> Option<&GrantKey> {
        [Some(&self.current), self.other.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.kid == kid)
    }
}
