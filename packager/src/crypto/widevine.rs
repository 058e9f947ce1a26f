//! Widevine's `pssh` data: a protobuf message of five fields, as public packagers write it.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::pssh::{Pssh, SystemId};
use super::{KeyId, ProtectionScheme};
use crate::limits;

const FIELD_KEY_ID: u64 = 2;
const FIELD_PROVIDER: u64 = 3;
const FIELD_CONTENT_ID: u64 = 4;
const FIELD_CRYPTO_PERIOD_INDEX: u64 = 7;
const FIELD_PROTECTION_SCHEME: u64 = 9;

/// Wire types of protobuf.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

/// What a Widevine `pssh` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WidevineData {
    /// Keys.
    pub key_ids: Vec<KeyId>,
    /// Who is asked for them.
    pub provider: Option<String>,
    /// The provider's name for the title.
    pub content_id: Option<Vec<u8>>,
    /// Which of a row of keys, where keys rotate.
    pub crypto_period_index: Option<u32>,
    /// Scheme as its four characters; left out for `cenc`, which is what is meant without it.
    pub protection_scheme: Option<ProtectionScheme>,
}

/// Why data is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("widevine pssh data: {0}")]
pub struct WidevineError(&'static str);

impl WidevineData {
    /// The message.
    pub fn serialise(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for id in &self.key_ids {
            push_bytes(&mut out, FIELD_KEY_ID, &id.0);
        }
        if let Some(provider) = &self.provider {
            push_bytes(&mut out, FIELD_PROVIDER, provider.as_bytes());
        }
        if let Some(content_id) = &self.content_id {
            push_bytes(&mut out, FIELD_CONTENT_ID, content_id);
        }
        if let Some(index) = self.crypto_period_index {
            push_number(&mut out, FIELD_CRYPTO_PERIOD_INDEX, index.into());
        }
        if let Some(scheme) = self.protection_scheme {
            let fourcc = u32::from_be_bytes(scheme.fourcc());
            push_number(&mut out, FIELD_PROTECTION_SCHEME, fourcc.into());
        }
        out
    }

    /// The box around it.
    pub fn pssh(&self) -> Pssh {
        Pssh {
            system_id: SystemId::WIDEVINE,
            key_ids: None,
            data: self.serialise(),
        }
    }

    /// Reads a message. Fields that are not known are passed over.
    pub fn parse(data: &[u8]) -> Result<WidevineData, WidevineError> {
        let mut found = WidevineData::default();
        let mut rest = data;
        while !rest.is_empty() {
            let tag = take_varint(&mut rest)?;
            match (tag >> 3, tag & 7) {
                (0, _) => return Err(WidevineError("field 0")),
                (FIELD_KEY_ID, LENGTH_DELIMITED) => {
                    let id = take_bytes(&mut rest)?;
                    let id = id.try_into().map_err(|_| WidevineError("a key id is not 16 bytes"))?;
                    if found.key_ids.len() == limits::SIGNALLED_KEY_COUNT_MAX {
                        return Err(WidevineError("too many key ids"));
                    }
                    found.key_ids.push(KeyId(id));
                }
                (FIELD_PROVIDER, LENGTH_DELIMITED) => {
                    let text = std::str::from_utf8(take_bytes(&mut rest)?);
                    found.provider = Some(text.map_err(|_| WidevineError("provider is not UTF-8"))?.to_owned());
                }
                (FIELD_CONTENT_ID, LENGTH_DELIMITED) => found.content_id = Some(take_bytes(&mut rest)?.to_vec()),
                (FIELD_CRYPTO_PERIOD_INDEX, VARINT) => found.crypto_period_index = Some(take_u32(&mut rest)?),
                (FIELD_PROTECTION_SCHEME, VARINT) => {
                    let fourcc = take_u32(&mut rest)?.to_be_bytes();
                    let scheme = ProtectionScheme::ALL
                        .into_iter()
                        .find(|scheme| scheme.fourcc() == fourcc);
                    found.protection_scheme = Some(scheme.ok_or(WidevineError("unknown protection scheme"))?);
                }
                (_, VARINT) => drop(take_varint(&mut rest)?),
                (_, FIXED_64) => drop(take(&mut rest, 8)?),
                (_, LENGTH_DELIMITED) => drop(take_bytes(&mut rest)?),
                (_, FIXED_32) => drop(take(&mut rest, 4)?),
                _ => return Err(WidevineError("unknown wire type")),
            }
        }
        Ok(found)
    }
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn push_number(out: &mut Vec<u8>, field: u64, value: u64) {
    push_varint(out, field << 3 | VARINT);
    push_varint(out, value);
}

fn push_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    push_varint(out, field << 3 | LENGTH_DELIMITED);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], WidevineError> {
    let (taken, after) = rest.split_at_checked(count).ok_or(WidevineError("cut short"))?;
    *rest = after;
    Ok(taken)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], WidevineError> {
    let size = take_varint(rest)?;
    take(rest, usize::try_from(size).map_err(|_| WidevineError("cut short"))?)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, WidevineError> {
    u32::try_from(take_varint(rest)?).map_err(|_| WidevineError("a number is too large"))
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, WidevineError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?.first().copied().unwrap_or(0);
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(WidevineError("a number is too large"))
}
