//! States of a title's keys, vouched for: a MAC over all that its file says.
//!
//! The key is derived from the tenant's, so whoever can write the vault's files and not open them can not make a revoked
//! key active again, move a period, or drop a row. What it does not do: it says that a file was written by a holder of the
//! tenant's key, not that it is the last one. Whoever kept an older file of the title can put it back, with the states of
//! then. A process that runs remembers the highest sequence number it saw and refuses lower ones; one that was started
//! since can not know. Destroying a key for good means to destroy copies of the file too, or the tenant's key.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use serde::Serialize;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::crypto::wrap::Secret32;

/// Bytes of a MAC.
pub(super) const MAC_SIZE: usize = 32;

/// What the key is derived for (RFC 5869, `info`).
const LABEL: &[u8] = b"headwater vault states 2";

/// HMAC-SHA-256 over the compact JSON of `said`, begun with the derived key.
fn begun(tenant_key: &Secret32, said: &impl Serialize) -> Hmac<Sha256> {
    // A block of the hash: what follows the 32 bytes is what HMAC would fill up with (RFC 2104 2).
    let mut key = Zeroizing::new([0; 64]);
    if let Some(half) = key.first_chunk_mut::<32>() {
        // 32 bytes are always to be had (RFC 5869 2.3).
        let _ = Hkdf::<Sha256>::new(None, tenant_key.expose()).expand(LABEL, half);
    }
    let mut mac: Hmac<Sha256> = Mac::new((&*key).into());
    // Strings, numbers and lists of them alone: there is nothing that could fail.
    mac.update(&serde_json::to_vec(said).unwrap_or_default());
    mac
}

/// The MAC over what a file says, without the MAC itself.
pub(super) fn mac(tenant_key: &Secret32, said: &impl Serialize) -> [u8; MAC_SIZE] {
    begun(tenant_key, said).finalize().into_bytes().into()
}

/// Whether `mac` is the one over `said`. Takes as long whatever it is.
pub(super) fn proves(tenant_key: &Secret32, said: &impl Serialize, mac: &[u8; MAC_SIZE]) -> bool {
    begun(tenant_key, said).verify(mac.into()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_those_of_another_implementation() {
        // By Python's hmac: HKDF-SHA-256 without salt over 32 bytes of 9, then HMAC-SHA-256 of `["a",1]`.
        let expected = [
            0xd9, 0x91, 0xc5, 0x8d, 0xf1, 0xe5, 0x6e, 0xbd, 0xc8, 0x1c, 0x83, 0x10, 0xf4, 0x47, 0x62, 0x11, 0x5f, 0xb2,
            0x3f, 0xd1, 0x28, 0x3f, 0xa3, 0x61, 0x7e, 0x83, 0x34, 0x4e, 0x05, 0xf7, 0x2f, 0xfa,
        ];
        let key = Secret32::new([9; 32]);
        assert_eq!(mac(&key, &("a", 1)), expected);
        assert!(proves(&key, &("a", 1), &expected));
        assert!(!proves(&key, &("a", 2), &expected));
        assert!(!proves(&Secret32::new([8; 32]), &("a", 1), &expected));
    }
}
