//! Secrets at rest: sealed under a key that the database never sees. Also random bytes and their names.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Seals and opens what is secret in rows.
pub struct SecretBox {
    aead: LessSafeKey,
    hmac: hmac::Key,
}

/// A secret that can not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Neither this key's nor this place's, or changed.
    #[error("a sealed value does not open: was the secret key exchanged?")]
    Sealed,
    /// No randomness.
    #[error("the system has no random bytes")]
    Randomness,
    /// The key's file.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    /// What is in the key's file.
    #[error("{0}: {1}")]
    Key(String, &'static str),
}

impl SecretBox {
    /// From a key. Signing and sealing have keys of their own, made of it.
    pub fn new(key: &[u8; 32]) -> Result<SecretBox, SecretError> {
        let derive = |label: &[u8]| {
            let root = hmac::Key::new(hmac::HMAC_SHA256, key);
            hmac::sign(&root, label)
        };
        let sealing = derive(b"headwater control: sealing");
        let unbound = UnboundKey::new(&AES_256_GCM, sealing.as_ref()).map_err(|_| SecretError::Sealed)?;
        Ok(SecretBox {
            aead: LessSafeKey::new(unbound),
            hmac: hmac::Key::new(hmac::HMAC_SHA256, derive(b"headwater control: naming").as_ref()),
        })
    }

    /// Reads the key of `path`, 64 hexadecimal digits; makes it where there is none.
    pub fn open_file(path: &Path) -> Result<SecretBox, SecretError> {
        let name = path.display().to_string();
        let fails = |error| SecretError::File(name.clone(), error);
        let mut made = false;
        let new = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match new {
            Ok(mut file) => {
                let key = Zeroizing::new(random::<32>()?);
                let line = Zeroizing::new(hex(&*key) + "\n");
                file.write_all(line.as_bytes()).map_err(fails)?;
                file.sync_all().map_err(fails)?;
                made = true;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(fails(error)),
        }
        if made {
            tracing::info!(file = %name, "made the key that secrets in the database are sealed under; keep a copy of it");
        }
        let file = std::fs::File::open(path).map_err(fails)?;
        if file.metadata().map_err(fails)?.mode() & 0o077 != 0 {
            return Err(SecretError::Key(name, "group or others may read it; chmod 600 it"));
        }
        let mut text = Zeroizing::new(String::with_capacity(80));
        file.take(1024).read_to_string(&mut text).map_err(fails)?;
        let key = unhex::<32>(text.trim()).ok_or(SecretError::Key(name, "must be 64 hexadecimal digits"))?;
        SecretBox::new(&Zeroizing::new(key))
    }

    /// Seals `plain` for one `place`, which opening must name.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, SecretError> {
        let nonce = random::<NONCE_LEN>()?;
        let mut bytes = plain.to_vec();
        self.aead
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.as_bytes()),
                &mut bytes,
            )
            .map_err(|_| SecretError::Sealed)?;
        let mut sealed = nonce.to_vec();
        sealed.append(&mut bytes);
        Ok(sealed)
    }

    /// Opens what was sealed for this `place`.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SecretError::Sealed)?;
        let mut bytes = Zeroizing::new(rest.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let size = self
            .aead
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut bytes)
            .map_err(|_| SecretError::Sealed)?
            .len();
        bytes.truncate(size);
        Ok(bytes)
    }

    /// A name of `bytes` that only holders of the key can make.
    pub fn keyed_hash(&self, place: &str, bytes: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.hmac);
        context.update(place.as_bytes());
        context.update(&[0]);
        context.update(bytes);
        context.sign().as_ref().to_vec()
    }

    /// Whether `tag` is [`SecretBox::keyed_hash`] of `bytes`, in constant time.
    pub fn verify(&self, place: &str, bytes: &[u8], tag: &[u8]) -> bool {
        use subtle::ConstantTimeEq as _;
        self.keyed_hash(place, bytes).ct_eq(tag).into()
    }
}

impl std::fmt::Debug for SecretBox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SecretBox")
    }
}

/// Random bytes.
pub fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| SecretError::Randomness)?;
    Ok(bytes)
}

/// 32 random bytes as base64url: a token of which the database has the hash alone.
pub fn new_token(prefix: &str) -> Result<Zeroizing<String>, SecretError> {
    let bytes = Zeroizing::new(random::<32>()?);
    Ok(Zeroizing::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(*bytes))))
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    hash
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What [`hex`] wrote, in any case.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != N * 2 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok().filter(|_| !pair.contains('+'))?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_values_open_at_their_place_alone() {
        let secrets = SecretBox::new(&[7; 32]).unwrap();
        let sealed = secrets.seal("jwt:1", b"secret").unwrap();
        assert_eq!(&secrets.open("jwt:1", &sealed).unwrap()[..], b"secret");
        assert!(secrets.open("jwt:2", &sealed).is_err());
        assert!(SecretBox::new(&[8; 32]).unwrap().open("jwt:1", &sealed).is_err());
        for end in 0..sealed.len() {
            assert!(secrets.open("jwt:1", &sealed[..end]).is_err(), "{end}");
        }
        assert_ne!(
            sealed,
            secrets.seal("jwt:1", b"secret").unwrap(),
            "a nonce of its own each time"
        );
    }

    #[test]
    fn digits() {
        assert_eq!(unhex::<2>("0aFf"), Some([10, 255]));
        assert_eq!(unhex::<2>("0aF"), None);
        assert_eq!(unhex::<2>("+a+f"), None);
        assert_eq!(unhex::<2>("äöü"), None);
        assert_eq!(hex(&[10, 255]), "0aff");
    }
}
