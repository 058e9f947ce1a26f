//! `age` identity: tenants' keys wrapped as files that the `age` program opens too (age-encryption.org/v1, X25519).
//!
//! Whoever knows the recipient can write such a file, but only the identity opens one. The format is some lines around
//! primitives that are here already; the crate that reads all of it brings sixty others for its messages' languages.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use packager::crypto::wrap::{Secret32, WrapError};
use zeroize::Zeroizing;

use super::{KekError, Opened, bech32, id_of, secret_of};

const VERSION_LINE: &str = "age-encryption.org/v1\n";
const STANZA: &str = "-> X25519 ";
const MAC_MARK: &str = "---";
const WRAP_INFO: &[u8] = b"age-encryption.org/v1/X25519";

const TAG_SIZE: usize = 16;
const FILE_KEY_SIZE: usize = 16;
const PAYLOAD_NONCE_SIZE: usize = 16;
/// Recipients of one file; we write one.
const STANZA_COUNT_MAX: usize = 16;

/// A private key and its public half. It has no `Debug`.
pub struct AgeIdentity {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl AgeIdentity {
    /// Whether a file looks like one with an identity.
    pub fn is_one(text: &str) -> bool {
        text.lines()
            .any(|line| line.trim_start().starts_with("AGE-SECRET-KEY-"))
    }

    /// Reads an identity file: one identity, lines that begin with `#` and blank ones.
    pub fn parse(text: &str) -> Result<AgeIdentity, KekError> {
        let lines = text.lines().map(str::trim);
        let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(KekError::Identity);
        };
        let bytes = bech32::decode("age-secret-key-", line).ok_or(KekError::Identity)?;
        let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| KekError::Identity)?;
        let secret = Zeroizing::new(*bytes);
        let public = public_of(&secret).ok_or(KekError::Identity)?;
        Ok(AgeIdentity { secret, public })
    }

    /// Public id: of the recipient, so that it is the same wherever the identity is.
    pub fn kek_id(&self) -> String {
        id_of(&["age", &STANDARD_NO_PAD.encode(self.public)])
    }

    /// Encrypts a tenant's key to the identity's own recipient.
    pub fn wrap(&self, tenant_key: &Secret32) -> Result<Vec<u8>, KekError> {
        self.try_wrap(tenant_key).ok_or(KekError::Unusable)
    }

    fn try_wrap(&self, tenant_key: &Secret32) -> Option<Vec<u8>> {
        let ephemeral = random::<32>()?;
        let share = public_of(&ephemeral)?;
        let file_key = random::<FILE_KEY_SIZE>()?;
        let wrap_key = self.wrap_key(&ephemeral, &self.public, &share)?;
        let body = seal(&wrap_key, [0; 12], file_key.as_slice())?;
        let share = STANDARD_NO_PAD.encode(share);
        let body = STANDARD_NO_PAD.encode(body);
        let header = format!("{VERSION_LINE}{STANZA}{share}\n{body}\n{MAC_MARK}");
        let mac = hmac::sign(&mac_key(file_key.as_slice())?, header.as_bytes());
        let mut out = format!("{header} {}\n", STANDARD_NO_PAD.encode(mac.as_ref())).into_bytes();
        let nonce = random::<PAYLOAD_NONCE_SIZE>()?;
        out.extend_from_slice(nonce.as_slice());
        let payload_key = derive(nonce.as_slice(), file_key.as_slice(), b"payload")?;
        out.extend(seal(&payload_key, LAST_CHUNK, tenant_key.expose())?);
        Some(out)
    }

    /// Undoes [`AgeIdentity::wrap`], and what `age` itself wrote of 32 bytes.
    pub fn unwrap(&self, wrapped: &[u8]) -> Opened {
        let file = AgeFile::read(wrapped).ok_or(WrapError::Integrity)?;
        let file_key = file.stanzas.iter().find_map(|stanza| self.file_key(stanza));
        let file_key = file_key.ok_or(WrapError::Integrity)?;
        let opened = file.open(&file_key).ok_or(WrapError::Integrity)?;
        secret_of(&opened)
    }

    fn file_key(&self, stanza: &Stanza) -> Option<Zeroizing<Vec<u8>>> {
        let wrap_key = self.wrap_key(&self.secret, &stanza.share, &stanza.share)?;
        open(&wrap_key, [0; 12], &stanza.body).filter(|key| key.len() == FILE_KEY_SIZE)
    }

    /// The key that wraps a file key, from either end: the secret of one side and the public half of the other.
    fn wrap_key(&self, secret: &[u8; 32], peer: &[u8; 32], share: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let secret = PrivateKey::from_private_key(&X25519, secret).ok()?;
        let salt = [share.as_slice(), self.public.as_slice()].concat();
        // A share of low order, which would give everyone the same secret, is refused there.
        agree(&secret, UnparsedPublicKey::new(&X25519, peer), (), |shared| {
            derive(&salt, shared, WRAP_INFO).ok_or(())
        })
        .ok()
    }
}

/// A recipient of a file: the sender's share, and the file key under what both know.
struct Stanza {
    share: [u8; 32],
    body: Vec<u8>,
}

/// A file, taken apart and not believed.
struct AgeFile<'a> {
    /// What the MAC covers.
    header: &'a str,
    mac: Vec<u8>,
    stanzas: Vec<Stanza>,
    payload: &'a [u8],
}

impl AgeFile<'_> {
    fn read(bytes: &[u8]) -> Option<AgeFile<'_>> {
        let mark = bytes.windows(5).position(|window| window == b"\n--- ")?;
        let (header, rest) = bytes.split_at_checked(mark + 4)?;
        let header = std::str::from_utf8(header).ok()?;
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (mac, payload) = rest.split_at_checked(end)?;
        let mac = STANDARD_NO_PAD.decode(mac.strip_prefix(b" ")?).ok()?;
        let mut lines = header.strip_prefix(VERSION_LINE)?.lines();
        let mut stanzas = Vec::new();
        for count in 0.. {
            let line = lines.next()?;
            if line == MAC_MARK {
                break;
            }
            // Bodies of our kind are shorter than a line; stanzas of other kinds, whose may not be, are not for us.
            let (share, body) = (line.strip_prefix(STANZA)?, lines.next()?);
            if count == STANZA_COUNT_MAX {
                return None;
            }
            let share = STANDARD_NO_PAD.decode(share).ok()?;
            stanzas.push(Stanza {
                share: share.try_into().ok()?,
                body: STANDARD_NO_PAD.decode(body).ok()?,
            });
        }
        Some(AgeFile {
            header,
            mac,
            stanzas,
            payload: payload.get(1..)?,
        })
    }

    /// One chunk, the last.
    fn open(&self, file_key: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        hmac::verify(&mac_key(file_key)?, self.header.as_bytes(), &self.mac).ok()?;
        let (nonce, chunk) = self.payload.split_at_checked(PAYLOAD_NONCE_SIZE)?;
        open(&*derive(nonce, file_key, b"payload")?, LAST_CHUNK, chunk)
    }
}

/// Nonce of a payload's only chunk: number zero, and the last.
const LAST_CHUNK: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn random<const N: usize>() -> Option<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    rand::fill(bytes.as_mut_slice()).ok()?;
    Some(bytes)
}

fn public_of(secret: &[u8; 32]) -> Option<[u8; 32]> {
    let secret = PrivateKey::from_private_key(&X25519, secret).ok()?;
    secret.compute_public_key().ok()?.as_ref().try_into().ok()
}

struct Okm32;

impl KeyType for Okm32 {
    fn len(&self) -> usize {
        32
    }
}

/// HKDF-SHA-256 (RFC 5869).
fn derive(salt: &[u8], secret: &[u8], info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let key = Salt::new(HKDF_SHA256, salt).extract(secret);
    let mut out = Zeroizing::new([0; 32]);
    key.expand(&[info], Okm32).ok()?.fill(out.as_mut_slice()).ok()?;
    Some(out)
}

fn mac_key(file_key: &[u8]) -> Option<hmac::Key> {
    let key = derive(b"", file_key, b"header")?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
}

fn cipher(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, key).ok().map(LessSafeKey::new)
}

fn seal(key: &[u8; 32], nonce: [u8; 12], clear: &[u8]) -> Option<Vec<u8>> {
    // Room for the tag too: growing would leave a copy behind.
    let mut bytes = Vec::with_capacity(clear.len() + TAG_SIZE);
    bytes.extend_from_slice(clear);
    let nonce = Nonce::assume_unique_for_key(nonce);
    cipher(key)?
        .seal_in_place_append_tag(nonce, Aad::empty(), &mut bytes)
        .ok()?;
    Some(bytes)
}

fn open(key: &[u8; 32], nonce: [u8; 12], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let size = cipher(key)?.open_in_place(nonce, Aad::empty(), &mut bytes).ok()?.len();
    bytes.truncate(size);
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    // Made by age-keygen 1.1.1, and 32 bytes of 0x2a encrypted by age: to it alone, and to another recipient too.
    const IDENTITY: &str = "# created: 2026-11-22T07:14:51Z\n# public key: age1d8hhvh8cz2xu47kqetnewjtlfh7tehs2k33dskzzsljjtpt7yfts0y6h2s\nAGE-SECRET-KEY-13TV0Z2YQH32PVVVY4KDP8TU2SP8A7EAFYDS8N7M06WE9893YFMNQF857P6";
    const FILE: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBkd2g2alc0MTcxMkVpS0w3alQ4czdQYXkxeUNBSithb092NlAxRmkrRzBjCnd3VEtCTXhBNWY1b0NJSFFvOWJSTWpwR0U3QXBqNENZRmE5MkJDcXRnSFEKLS0tIExMcHNkQytsblRNblRHYXgwcE9BQlpiZm9HTGZIMjhpS3hEazF4NlNZVHMKnfbb2aLQwnQiu28eSQpJtazrrSIIIL4c7y0kUF/DTByLLP9Lz89hSeUHp37FOKLMlTZ8rJ41uKcBGWv/9Ajgkg==";
    const SHARED_FILE: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBFd2FtNHFLNmdCZEg1MjNCTWlwT0s4UjVqekd1MDRqTWFpQW5DeVhjMzJ3Ckd1OEVyVEFUMWsvandZaDJ4anlWdEpyMVNLOGNhdUozSHpQT0Z4TjBQczQKLT4gWDI1NTE5IFBHYnczZ3hONEhCL2dkRmVxbFBvWFl3Rkd4SzljWnVkMVNDMzFZejdEMGcKUUVZL3o1aU4wY24ycU93UWhkcHRnVENJSlUxM2tlZ3AzbGdmd3lCUmdGWQotLS0gVDRZRSt6Qkp5MmJGNEpuS2I2WVE0QnU0dFdsRnUvV3FtbEtKQnMwcHVjbwoWMVbV8vaEN4XfUTB9Zh9dqJnWc9/ghno5GN6y/fwn44LtDV/GDQwXkCnCvVOsgsTgyb3Htnreegv+v9QCx87z";

    #[test]
    fn what_age_wrote_opens() {
        let identity = AgeIdentity::parse(IDENTITY).unwrap();
        for file in [FILE, SHARED_FILE] {
            let opened = identity.unwrap(&STANDARD.decode(file).unwrap()).unwrap();
            assert_eq!(opened.expose(), &[0x2a; 32]);
        }
    }

    #[test]
    fn what_is_wrapped_opens_whole_and_for_us_alone() {
        let identity = AgeIdentity::parse(IDENTITY).unwrap();
        let wrapped = identity.wrap(&Secret32::new([7; 32])).unwrap();
        assert_eq!(identity.unwrap(&wrapped).unwrap().expose(), &[7; 32]);
        assert_ne!(identity.wrap(&Secret32::new([7; 32])).unwrap(), wrapped);
        for at in 0..wrapped.len() {
            let mut damaged = wrapped.clone();
            damaged[at] ^= 1;
            assert!(identity.unwrap(&damaged).is_err(), "{at}");
            assert!(identity.unwrap(&wrapped[..at]).is_err(), "{at}");
        }
        let longer = [wrapped.as_slice(), b"x"].concat();
        assert!(identity.unwrap(&longer).is_err());
        let secret = Zeroizing::new([9; 32]);
        let public = public_of(&secret).unwrap();
        let other = AgeIdentity { secret, public };
        assert_ne!(other.kek_id(), identity.kek_id());
        assert!(other.unwrap(&wrapped).is_err());
    }

    #[test]
    fn an_identity_file_holds_one() {
        let line = IDENTITY.lines().last().unwrap();
        assert!(AgeIdentity::parse(line).is_ok() && AgeIdentity::is_one(IDENTITY));
        let (twice, cut) = (format!("{line}\n{line}"), &line[..line.len() - 1]);
        for wrong in ["", "# x", &twice, cut, &"0".repeat(64), &line.replace("AGE", "AGF")] {
            assert_eq!(AgeIdentity::parse(wrong).err(), Some(KekError::Identity), "{wrong}");
        }
        assert!(!AgeIdentity::is_one(&"0".repeat(64)));
    }
}
