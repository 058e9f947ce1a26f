//! Key encryption keys that are not a plain file: an `age` identity, and a key service over HTTP.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod age;
mod bech32;
pub mod transit;

use packager::crypto::wrap::{Secret32, WrapError};
use sha2::{Digest, Sha256};

/// Why a key encryption key can not be used. Says nothing of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KekError {
    /// Not an `age` identity of the X25519 kind.
    #[error("not an age identity of the X25519 kind")]
    Identity,
    /// No randomness from the system, or a key that no cipher takes.
    #[error("the key can not be used")]
    Unusable,
    /// The key service can not be asked.
    #[error("the key service: {0}")]
    Unavailable(&'static str),
    /// The key service says no: to us, or to the key's name.
    #[error("the key service refuses with HTTP status {0}")]
    Refused(u16),
}

/// A tenant's key, or why the bytes given do not open.
pub type Opened = Result<Secret32, WrapError>;

/// Public id of a key encryption key by its public name: 16 hexadecimal digits of a hash.
fn id_of(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"headwater kek 2");
    for part in parts {
        hash.update([0]);
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .take(8)
        .fold(String::new(), |out, byte| out + &format!("{byte:02x}"))
}

/// 32 bytes as a tenant's key.
fn secret_of(bytes: &[u8]) -> Opened {
    let size = bytes.len();
    let bytes: &[u8; 32] = bytes.try_into().map_err(|_| WrapError::Size { size })?;
    Ok(Secret32::new(*bytes))
}
