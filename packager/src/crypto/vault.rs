//! The key vault: which tenants there are, under which key encryption key, and the names in its files.
//!
//! `vault.json` holds each tenant's data encryption key, wrapped; `titles/{content}.json` a title's content keys, sealed
//! ([`title`]). Changing the key encryption key touches the first alone. Nothing here can open a key without being given
//! the key above it.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod states;
pub mod title;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use self::title::{NewKey, OpenKey, SealedKey, TitleKeys};
use super::wrap::{Secret32, WrapError, unwrap_tenant_key, wrap_tenant_key};
use super::{ContentKey, KeyId};
use crate::form::Form;
use crate::limits;

/// What tells a key encryption key's public id from other hashes of it.
const KEK_ID_LABEL: &[u8] = b"headwater kek 1";

/// Format number of the first file.
const FORMAT: u32 = 1;

/// Which key a track is encrypted under: the track types of Widevine's key API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TrackClass {
    /// Sound.
    Audio,
    /// Pictures of up to 768 × 576 pixels.
    Sd,
    /// Up to 1920 × 1080.
    Hd,
    /// Up to 4096 × 2160.
    Uhd1,
    /// Larger ones.
    Uhd2,
}

impl TrackClass {
    /// Every class.
    pub const ALL: [TrackClass; 5] = [
        TrackClass::Audio,
        TrackClass::Sd,
        TrackClass::Hd,
        TrackClass::Uhd1,
        TrackClass::Uhd2,
    ];

    /// `AUDIO`, `SD`, `HD`, `UHD1`, `UHD2`.
    pub fn name(self) -> &'static str {
        match self {
            TrackClass::Audio => "AUDIO",
            TrackClass::Sd => "SD",
            TrackClass::Hd => "HD",
            TrackClass::Uhd1 => "UHD1",
            TrackClass::Uhd2 => "UHD2",
        }
    }

    /// What [`TrackClass::name`] wrote.
    pub fn from_name(name: &str) -> Option<TrackClass> {
        TrackClass::ALL.into_iter().find(|class| class.name() == name)
    }

    /// The class of pictures of this many pixels, whatever their shape.
    pub fn of_picture(width: u32, height: u32) -> TrackClass {
        match u64::from(width) * u64::from(height) {
            0..=442_368 => TrackClass::Sd,
            442_369..=2_073_600 => TrackClass::Hd,
            2_073_601..=8_847_360 => TrackClass::Uhd1,
            _ => TrackClass::Uhd2,
        }
    }
}

/// What a content key may still do. It goes down this list alone, never up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Encrypts, and is given to players.
    Active,
    /// Encrypts nothing new; players that hold what it encrypted still get it.
    Retired,
    /// Is given to nobody.
    Revoked,
    /// Is gone: its sealed bytes were wiped.
    Destroyed,
}

impl KeyState {
    /// `active`, `retired`, `revoked`, `destroyed`.
    pub fn name(self) -> &'static str {
        match self {
            KeyState::Active => "active",
            KeyState::Retired => "retired",
            KeyState::Revoked => "revoked",
            KeyState::Destroyed => "destroyed",
        }
    }

    /// Whether media may be encrypted under such a key.
    pub fn encrypts(self) -> bool {
        self == KeyState::Active
    }

    /// Whether such a key may be given to players: licences and key requests.
    pub fn licenses(self) -> bool {
        matches!(self, KeyState::Active | KeyState::Retired)
    }
}

/// Why a vault's file is not read, or a key not added or opened. Says nothing of any key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The file is larger than any vault writes.
    #[error("{what} of {size} bytes, of at most {size_max}")]
    Size {
        /// Which file.
        what: &'static str,
        /// Its bytes.
        size: usize,
        /// Most that is read.
        size_max: usize,
    },
    /// The file is not the JSON it should be.
    #[error("{what}, line {line}, column {column}: {reason}")]
    Json {
        /// Which file.
        what: &'static str,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there, without what stands there.
        reason: &'static str,
    },
    /// The file is of a later format.
    #[error("{what} has format {format}, not {FORMAT}")]
    Format {
        /// Which file.
        what: &'static str,
        /// What it claims.
        format: u32,
    },
    /// A tenant or a title has a name that can be no file's, or a scheme is not known.
    #[error("{what}: not a name")]
    Name {
        /// What was named.
        what: &'static str,
    },
    /// A key encryption key is 64 hexadecimal digits.
    #[error("a key encryption key is 64 hexadecimal digits and nothing else")]
    Kek,
    /// The vault is wrapped with another key encryption key than the one at hand.
    #[error("the vault is wrapped with key encryption key {expected}, not with {found}")]
    OtherKek {
        /// Id of the one that opens it.
        expected: String,
        /// Id of the one given.
        found: String,
    },
    /// The tenant has no key in this vault.
    #[error("no tenant {tenant}")]
    NoTenant {
        /// Its name.
        tenant: String,
    },
    /// A tenant's key does not open.
    #[error("the key of tenant {tenant}: {source}")]
    Tenant {
        /// Its name.
        tenant: String,
        /// Why.
        source: WrapError,
    },
    /// A content key does not seal or open.
    #[error("key {key_id}: {source}")]
    Sealed {
        /// Its name.
        key_id: KeyId,
        /// Why.
        source: WrapError,
    },
    /// A wiped key that is not destroyed, or a destroyed one that is not wiped.
    #[error("key {key_id}: {state} does not fit what is kept of it", state = state.name())]
    Wiped {
        /// Its name.
        key_id: KeyId,
        /// What it is said to be.
        state: KeyState,
    },
    /// Two keys of one name.
    #[error("key {key_id} is in this title already")]
    KeyIdTaken {
        /// The name.
        key_id: KeyId,
    },
    /// Two active keys for one use.
    #[error("{scheme} {track} of period {period} has an active key already: {key_id}", track = track.name())]
    UseTaken {
        /// Its scheme.
        scheme: String,
        /// Its class.
        track: TrackClass,
        /// Its period.
        period: u64,
        /// The key that is there.
        key_id: KeyId,
    },
    /// One random value for two keys.
    #[error("key {key_id}: its nonce was used before")]
    Nonce {
        /// Name of the key that was to be sealed.
        key_id: KeyId,
    },
    /// The title has no such key.
    #[error("no key {key_id}")]
    NoKey {
        /// The name asked for.
        key_id: KeyId,
    },
    /// A key comes back from no later state.
    #[error("key {key_id} is {from} and can not become {to}", from = from.name(), to = to.name())]
    State {
        /// Its name.
        key_id: KeyId,
        /// What it is.
        from: KeyState,
        /// What it should have become.
        to: KeyState,
    },
    /// What the file says of its keys was not written by a holder of the tenant's key.
    #[error("what it says of its keys was changed by something else than `headwater keys`")]
    States,
    /// The file is of the format before, in which nothing vouched for the states of keys.
    #[error("is of an older format, in which nothing vouches for the states of keys; run `headwater keys upgrade`")]
    NoMac,
    /// More keys or tenants than a vault's file holds.
    #[error("more than {count_max} {what}")]
    Count {
        /// Of what.
        what: &'static str,
        /// Most there may be.
        count_max: usize,
    },
}

/// Public id of a key encryption key: 16 hexadecimal digits of a hash of it.
pub fn kek_id(kek: &Secret32) -> String {
    let mut hash = Sha256::new();
    hash.update(KEK_ID_LABEL);
    hash.update(kek.expose());
    to_hex(hash.finalize().get(..8).unwrap_or_default())
}

/// Reads a key encryption key: 64 hexadecimal digits, with white space around them or none.
pub fn parse_kek(text: &str) -> Result<Secret32, VaultError> {
    let bytes = Zeroizing::new(from_hex::<32>(text.trim_ascii()).ok_or(VaultError::Kek)?);
    Ok(Secret32::new(*bytes))
}

/// Writes what [`parse_kek`] reads, with a line feed.
pub fn kek_text(kek: &Secret32) -> Zeroizing<String> {
    // Room for everything: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(65));
    push_hex(&mut text, kek.expose());
    text.push('\n');
    text
}

/// Reads a content key: 32 hexadecimal digits and nothing else.
pub fn parse_content_key(text: &str) -> Option<ContentKey> {
    let bytes = from_hex::<16>(text).map(Zeroizing::new)?;
    Some(ContentKey::new(*bytes))
}

/// Whether a tenant or a title can be called this: 1 to 128 letters, digits, `-`, `_` and `.`, of which `.` is not the
/// first. Such a name is a file's name too and has no separator of [`super::wrap::KeyUse`].
pub fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Whether `scheme` is what some form's keys are for ([`Form::key_scheme`]).
pub fn is_scheme(scheme: &str) -> bool {
    Form::ALL.into_iter().any(|form| form.key_scheme() == Some(scheme))
}

/// What a key is for that opens an encrypted source; what it opens is served encrypted alone.
pub const SOURCE_SCHEME: &str = "source";

/// The same, where what the key opens may be served in the clear too.
pub const SOURCE_CLEAR_SCHEME: &str = "source-clear";

/// Whether keys of `scheme` open encrypted sources. They encrypt nothing and no player gets them.
pub fn is_source_scheme(scheme: &str) -> bool {
    scheme == SOURCE_SCHEME || scheme == SOURCE_CLEAR_SCHEME
}

/// The vault's first file, `vault.json`: tenants' keys, wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultHead {
    kek_id: String,
    tenants: BTreeMap<String, Vec<u8>>,
    previous: Option<PreviousKek>,
}

/// The key encryption key before this one, while both open the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PreviousKek {
    kek_id: String,
    tenants: BTreeMap<String, Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadJson {
    format: u32,
    kek_id: String,
    tenants: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<PreviousJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviousJson {
    kek_id: String,
    tenants: BTreeMap<String, String>,
}

impl VaultHead {
    /// A vault without tenants under the key encryption key with this id.
    pub fn new(kek_id: &str) -> Result<VaultHead, VaultError> {
        Ok(VaultHead {
            kek_id: checked_kek_id(kek_id)?.to_owned(),
            tenants: BTreeMap::new(),
            previous: None,
        })
    }

    /// Reads `vault.json`. Members that are not known are refused.
    pub fn parse(json: &[u8]) -> Result<VaultHead, VaultError> {
        let what = "vault.json";
        let head: HeadJson = parse_json(json, what, limits::VAULT_HEAD_SIZE_BYTES_MAX)?;
        check_format(head.format, what)?;
        let previous = match head.previous {
            None => None,
            Some(previous) => Some(PreviousKek {
                kek_id: checked_kek_id(&previous.kek_id)?.to_owned(),
                tenants: tenants_of(&previous.tenants)?,
            }),
        };
        Ok(VaultHead {
            kek_id: checked_kek_id(&head.kek_id)?.to_owned(),
            tenants: tenants_of(&head.tenants)?,
            previous,
        })
    }

    /// Writes what [`VaultHead::parse`] reads.
    pub fn to_json(&self) -> String {
        let hex = |tenants: &BTreeMap<String, Vec<u8>>| -> BTreeMap<String, String> {
            tenants.iter().map(|(name, key)| (name.clone(), to_hex(key))).collect()
        };
        write_json(&HeadJson {
            format: FORMAT,
            kek_id: self.kek_id.clone(),
            tenants: hex(&self.tenants),
            previous: self.previous.as_ref().map(|previous| PreviousJson {
                kek_id: previous.kek_id.clone(),
                tenants: hex(&previous.tenants),
            }),
        })
    }

    /// Id of the key encryption key.
    pub fn kek_id(&self) -> &str {
        &self.kek_id
    }

    /// Id of the key encryption key that opens the vault besides, until [`VaultHead::finish_rotation`].
    pub fn previous_kek_id(&self) -> Option<&str> {
        self.previous.as_ref().map(|previous| previous.kek_id.as_str())
    }

    /// Names of the tenants, in order.
    pub fn tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.keys().map(String::as_str)
    }

    /// A tenant's key as wrapped by the key encryption key with this id.
    pub fn wrapped(&self, kek_id: &str, tenant: &str) -> Result<&[u8], VaultError> {
        let tenants = match &self.previous {
            _ if self.kek_id == kek_id => &self.tenants,
            Some(previous) if previous.kek_id == kek_id => &previous.tenants,
            _ => {
                return Err(VaultError::OtherKek {
                    expected: self.kek_id.clone(),
                    found: kek_id.to_owned(),
                });
            }
        };
        let wrapped = tenants.get(tenant).ok_or_else(|| VaultError::NoTenant {
            tenant: tenant.to_owned(),
        })?;
        Ok(wrapped)
    }

    /// Adds a tenant's key, wrapped by the key encryption key of [`VaultHead::kek_id`]. The previous one, if it still
    /// opens the vault, does not open this tenant.
    pub fn insert(&mut self, tenant: &str, wrapped: Vec<u8>) -> Result<(), VaultError> {
        check_tenant(tenant, &wrapped)?;
        if !self.tenants.contains_key(tenant) && self.tenants.len() >= limits::VAULT_TENANT_COUNT_MAX {
            return Err(VaultError::Count {
                what: "tenants",
                count_max: limits::VAULT_TENANT_COUNT_MAX,
            });
        }
        self.tenants.insert(tenant.to_owned(), wrapped);
        Ok(())
    }

    /// Puts the vault under the key encryption key `kek_id`, which wraps the tenants' keys as in `tenants`: all of them and
    /// no others. Both open the vault until [`VaultHead::finish_rotation`].
    pub fn begin_rotation(&mut self, kek_id: &str, tenants: BTreeMap<String, Vec<u8>>) -> Result<(), VaultError> {
        for (tenant, wrapped) in &tenants {
            check_tenant(tenant, wrapped)?;
        }
        let missing = self.tenants.keys().find(|tenant| !tenants.contains_key(*tenant));
        let unknown = tenants.keys().find(|tenant| !self.tenants.contains_key(*tenant));
        if let Some(tenant) = missing.or(unknown) {
            return Err(VaultError::NoTenant { tenant: tenant.clone() });
        }
        let kek_id = checked_kek_id(kek_id)?.to_owned();
        self.previous = Some(PreviousKek {
            kek_id: std::mem::replace(&mut self.kek_id, kek_id),
            tenants: std::mem::replace(&mut self.tenants, tenants),
        });
        Ok(())
    }

    /// The previous key encryption key opens the vault no more. Says whether there was one.
    pub fn finish_rotation(&mut self) -> bool {
        self.previous.take().is_some()
    }

    /// Adds a tenant with the key `tenant_key`, wrapped with `kek`.
    pub fn wrap_tenant(&mut self, kek: &Secret32, tenant: &str, tenant_key: &Secret32) -> Result<(), VaultError> {
        let found = kek_id(kek);
        if found != self.kek_id {
            return Err(VaultError::OtherKek {
                expected: self.kek_id.clone(),
                found,
            });
        }
        let wrapped = wrap_tenant_key(kek, tenant_key).map_err(|source| VaultError::Tenant {
            tenant: tenant.to_owned(),
            source,
        })?;
        self.insert(tenant, wrapped.to_vec())
    }

    /// A tenant's key, by a key encryption key that opens the vault.
    pub fn tenant_key(&self, kek: &Secret32, tenant: &str) -> Result<Secret32, VaultError> {
        let wrapped = self.wrapped(&kek_id(kek), tenant)?;
        unwrap_tenant_key(kek, wrapped).map_err(|source| VaultError::Tenant {
            tenant: tenant.to_owned(),
            source,
        })
    }
}

fn checked_kek_id(kek_id: &str) -> Result<&str, VaultError> {
    let known = kek_id.len() == 16 && kek_id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    known.then_some(kek_id).ok_or(VaultError::Name {
        what: "id of a key encryption key",
    })
}

fn check_tenant(tenant: &str, wrapped: &[u8]) -> Result<(), VaultError> {
    if !is_name(tenant) {
        return Err(VaultError::Name { what: "tenant" });
    }
    if !(1..=limits::WRAPPED_KEY_SIZE_BYTES_MAX).contains(&wrapped.len()) {
        return Err(VaultError::Tenant {
            tenant: tenant.to_owned(),
            source: WrapError::Size { size: wrapped.len() },
        });
    }
    Ok(())
}

fn tenants_of(tenants: &BTreeMap<String, String>) -> Result<BTreeMap<String, Vec<u8>>, VaultError> {
    if tenants.len() > limits::VAULT_TENANT_COUNT_MAX {
        return Err(VaultError::Count {
            what: "tenants",
            count_max: limits::VAULT_TENANT_COUNT_MAX,
        });
    }
    let tenants = tenants.iter().map(|(tenant, digits)| {
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let bytes = pairs.iter().map(|pair| byte_of(*pair)).collect::<Option<Vec<u8>>>();
        let wrapped = bytes.filter(|_| rest.is_empty()).ok_or_else(|| VaultError::Tenant {
            tenant: tenant.clone(),
            source: WrapError::Size { size: digits.len() / 2 },
        })?;
        check_tenant(tenant, &wrapped)?;
        Ok((tenant.clone(), wrapped))
    });
    tenants.collect()
}

fn check_format(format: u32, what: &'static str) -> Result<(), VaultError> {
    match format {
        FORMAT => Ok(()),
        _ => Err(VaultError::Format { what, format }),
    }
}

/// Reads bounded JSON. What stands in the file is not repeated: it may be a key that someone put into the wrong file.
fn parse_json<'de, T: Deserialize<'de>>(json: &'de [u8], what: &'static str, size_max: usize) -> Result<T, VaultError> {
    if json.len() > size_max {
        return Err(VaultError::Size {
            what,
            size: json.len(),
            size_max,
        });
    }
    serde_json::from_slice(json).map_err(|error| VaultError::Json {
        what,
        line: error.line(),
        column: error.column(),
        reason: match error.classify() {
            serde_json::error::Category::Data => "a member that is missing, not known or of another kind",
            serde_json::error::Category::Eof => "cut short",
            _ => "not JSON",
        },
    })
}

fn write_json(value: &impl Serialize) -> String {
    // Strings, numbers and maps of strings alone: there is nothing that could fail.
    let mut json = serde_json::to_string_pretty(value).unwrap_or_default();
    json.push('\n');
    json
}

fn byte_of([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = byte_of(*pair)?;
    }
    Some(bytes)
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
