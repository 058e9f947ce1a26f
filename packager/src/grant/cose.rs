//! COSE_Mac0 (RFC 9052 6.2) around claims: one HMAC-SHA-256 over what is protected, a key named by `kid`.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::cbor::{Reader, Writer};
use super::{GrantKey, GrantRefusal};

/// CBOR tag of a CWT (RFC 8392 6), outermost.
const TAG_CWT: u64 = 61;
/// CBOR tag of a COSE_Mac0 (RFC 9052 2).
const TAG_MAC0: u64 = 17;
/// Header parameters (RFC 9052 3.1).
const HEADER_ALG: i64 = 1;
const HEADER_KID: i64 = 4;
/// HMAC 256/256 (RFC 9053 3.1): SHA-256, nothing cut off.
const ALG_HMAC_256: i64 = 5;

/// A message as it was read; nothing of it is believed before [`Mac0::verify`].
pub(super) struct Mac0<'a> {
    protected: &'a [u8],
    payload: &'a [u8],
    tag: &'a [u8],
    /// Which key it names.
    pub(super) kid: &'a [u8],
}

impl<'a> Mac0<'a> {
    /// Reads a tagged message, inside the CWT tag or without it. `alg` must be protected; `kid` may stand in either
    /// header; any other parameter is refused, since none is understood.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Mac0<'a>, GrantRefusal> {
        let mut reader = Reader::new(bytes);
        reader.tag(TAG_CWT)?;
        if !reader.tag(TAG_MAC0)? {
            return Err(GrantRefusal::Malformed("not a COSE_Mac0"));
        }
        if reader.array()? != 4 {
            return Err(GrantRefusal::Malformed("COSE_Mac0 is an array of four"));
        }
        let protected = reader.bytes()?;
        let mut headers = Headers::default();
        let mut inner = Reader::new(protected);
        headers.read(&mut inner)?;
        inner.end()?;
        if headers.alg != Some(ALG_HMAC_256) {
            return Err(GrantRefusal::Malformed("alg is not HMAC 256/256"));
        }
        // An `alg` here would be a repetition.
        headers.read(&mut reader)?;
        let payload = reader.bytes()?;
        let tag = reader.bytes()?;
        reader.end()?;
        let kid = headers.kid.ok_or(GrantRefusal::UnknownKey)?;
        Ok(Mac0 {
            protected,
            payload,
            tag,
            kid,
        })
    }

    /// The claims, once `key` has proved them; compared in constant time.
    pub(super) fn verify(&self, key: &GrantKey) -> Result<&'a [u8], GrantRefusal> {
        mac(key, self.protected, self.payload)
            .verify_slice(self.tag)
            .map_err(|_| GrantRefusal::BadSignature)?;
        Ok(self.payload)
    }
}

#[derive(Default)]
struct Headers<'a> {
    alg: Option<i64>,
    kid: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), GrantRefusal> {
        for _ in 0..reader.map()? {
            match reader.integer()? {
                HEADER_ALG if self.alg.is_none() => self.alg = Some(reader.integer()?),
                HEADER_KID if self.kid.is_none() => self.kid = Some(reader.bytes()?),
                _ => return Err(GrantRefusal::Malformed("a header parameter is repeated or not known")),
            }
        }
        Ok(())
    }
}

/// MAC_structure of RFC 9052 6.3, without external data.
fn mac(key: &GrantKey, protected: &[u8], payload: &[u8]) -> Hmac<Sha256> {
    let mut structure = Writer::default();
    structure.array(4);
    structure.text("MAC0");
    structure.bytes(protected);
    structure.bytes(&[]);
    structure.bytes(payload);
    let mut mac = key.hmac();
    mac.update(&structure.finish());
    mac
}

/// `payload` under `key`, with both tags, `alg` protected and `kid` beside it.
pub(super) fn write(key: &GrantKey, payload: &[u8]) -> Vec<u8> {
    let mut protected = Writer::default();
    protected.map(1);
    protected.integer(HEADER_ALG);
    protected.integer(ALG_HMAC_256);
    let protected = protected.finish();
    let tag = mac(key, &protected, payload).finalize().into_bytes();
    let mut out = Writer::default();
    out.tag(TAG_CWT);
    out.tag(TAG_MAC0);
    out.array(4);
    out.bytes(&protected);
    out.map(1);
    out.integer(HEADER_KID);
    out.bytes(key.kid());
    out.bytes(payload);
    out.bytes(&tag);
    out.finish()
}
