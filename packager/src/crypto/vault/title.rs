//! A title's content keys, sealed: one row a key, each for one scheme, one class of tracks and one key period.

use serde::{Deserialize, Serialize};

use super::{
    KeyState, TrackClass, VaultError, check_format, from_hex, is_name, is_scheme, parse_json, to_hex, write_json,
};
use crate::crypto::wrap::{KeyUse, SEALED_SIZE, Secret32, open, seal};
use crate::crypto::{ContentKey, KeyId};
use crate::limits;

const WHAT: &str = "a title's keys";

/// `titles/{content}.json`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TitleKeys {
    tenant: String,
    content: String,
    keys: Vec<SealedKey>,
}

/// A content key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKey {
    /// Its public name.
    pub key_id: KeyId,
    /// What it encrypts for ([`crate::form::Form::key_scheme`]).
    pub scheme: String,
    /// Which tracks.
    pub track: TrackClass,
    /// Key period, 0-based.
    pub period: u64,
    /// Where the period begins, in milliseconds of presentation time; `None` is the beginning.
    pub starts_ms: Option<u64>,
    /// When it was made, in seconds since the Unix epoch.
    pub created: u64,
    state: KeyState,
    /// Nonce and sealed bytes; `None` once destroyed.
    sealed: Option<([u8; 12], [u8; SEALED_SIZE])>,
}

impl SealedKey {
    /// What it may still do.
    pub fn state(&self) -> KeyState {
        self.state
    }
}

/// A content key to be sealed.
pub struct NewKey<'a> {
    /// Its public name, drawn at random or given by who made the key.
    pub key_id: KeyId,
    /// The key.
    pub key: &'a ContentKey,
    /// What it encrypts for ([`crate::form::Form::key_scheme`]).
    pub scheme: &'a str,
    /// Which tracks.
    pub track: TrackClass,
    /// Key period, 0-based.
    pub period: u64,
    /// Where the period begins, in milliseconds of presentation time; `None` is the beginning.
    pub starts_ms: Option<u64>,
    /// Now, in seconds since the Unix epoch.
    pub created: u64,
    /// Drawn at random; never used before under this tenant's key.
    pub nonce: [u8; 12],
}

/// An opened content key. It has no `Debug`: it can not reach a log.
#[derive(Clone)]
pub struct OpenKey {
    /// Its public name.
    pub key_id: KeyId,
    /// What it encrypts for ([`crate::form::Form::key_scheme`]).
    pub scheme: String,
    /// Which tracks.
    pub track: TrackClass,
    /// Key period, 0-based.
    pub period: u64,
    /// Where the period begins, in milliseconds of presentation time; `None` is the beginning.
    pub starts_ms: Option<u64>,
    /// Active or retired: no other key opens.
    pub state: KeyState,
    /// The key.
    pub key: ContentKey,
}

impl OpenKey {
    /// Whether media may be encrypted under it; if not, it is for licences alone.
    pub fn encrypts(&self) -> bool {
        self.state.encrypts()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TitleJson {
    format: u32,
    tenant: String,
    content: String,
    keys: Vec<KeyJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyJson {
    key_id: String,
    scheme: String,
    track: TrackClass,
    period: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    starts_ms: Option<u64>,
    state: KeyState,
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
}

impl TitleKeys {
    /// No keys yet, of title `content` of `tenant`.
    pub fn new(tenant: &str, content: &str) -> Result<TitleKeys, VaultError> {
        for (what, name) in [("tenant", tenant), ("title", content)] {
            if !is_name(name) {
                return Err(VaultError::Name { what });
            }
        }
        Ok(TitleKeys {
            tenant: tenant.to_owned(),
            content: content.to_owned(),
            keys: Vec::new(),
        })
    }

    /// Reads a title's file. Members that are not known are refused.
    pub fn parse(json: &[u8]) -> Result<TitleKeys, VaultError> {
        let read: TitleJson = parse_json(json, WHAT, limits::TITLE_KEYS_SIZE_BYTES_MAX)?;
        check_format(read.format, WHAT)?;
        let mut title = TitleKeys::new(&read.tenant, &read.content)?;
        for row in read.keys {
            let key_id = KeyId::parse(&row.key_id).ok_or(VaultError::Name { what: "key id" })?;
            let sealed = match (&row.nonce, &row.sealed) {
                (None, None) => None,
                (nonce, sealed) => {
                    let nonce = nonce.as_deref().and_then(from_hex);
                    let sealed = sealed.as_deref().and_then(from_hex);
                    Some(nonce.zip(sealed).ok_or(VaultError::Name {
                        what: "nonce or sealed key",
                    })?)
                }
            };
            if sealed.is_none() != (row.state == KeyState::Destroyed) {
                return Err(VaultError::Wiped {
                    key_id,
                    state: row.state,
                });
            }
            title.push(SealedKey {
                key_id,
                scheme: row.scheme,
                track: row.track,
                period: row.period,
                starts_ms: row.starts_ms,
                created: row.created,
                state: row.state,
                sealed,
            })?;
        }
        Ok(title)
    }

    /// Writes what [`TitleKeys::parse`] reads.
    pub fn to_json(&self) -> String {
        let keys = self.keys.iter().map(|key| KeyJson {
            key_id: key.key_id.to_string(),
            scheme: key.scheme.clone(),
            track: key.track,
            period: key.period,
            starts_ms: key.starts_ms,
            state: key.state,
            created: key.created,
            nonce: key.sealed.map(|(nonce, _)| to_hex(&nonce)),
            sealed: key.sealed.map(|(_, sealed)| to_hex(&sealed)),
        });
        write_json(&TitleJson {
            format: super::FORMAT,
            tenant: self.tenant.clone(),
            content: self.content.clone(),
            keys: keys.collect(),
        })
    }

    /// Whose title it is.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Which title: its media id.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// All keys, in the order they were made in.
    pub fn keys(&self) -> &[SealedKey] {
        &self.keys
    }

    /// The active key of this use.
    pub fn find(&self, scheme: &str, track: TrackClass, period: u64) -> Option<&SealedKey> {
        self.keys.iter().find(|key| {
            key.state == KeyState::Active && key.scheme == scheme && key.track == track && key.period == period
        })
    }

    /// The key of this name, whatever its state.
    pub fn key(&self, key_id: KeyId) -> Option<&SealedKey> {
        self.keys.iter().find(|key| key.key_id == key_id)
    }

    /// Seals a key and adds it as the active one of its use.
    pub fn seal_new(&mut self, tenant_key: &Secret32, new: &NewKey<'_>) -> Result<(), VaultError> {
        let key_id = new.key_id;
        let nonces = self.keys.iter().filter_map(|key| key.sealed.map(|(nonce, _)| nonce));
        if nonces.into_iter().any(|nonce| nonce == new.nonce) {
            return Err(VaultError::Nonce { key_id });
        }
        let mut row = SealedKey {
            key_id,
            scheme: new.scheme.to_owned(),
            track: new.track,
            period: new.period,
            starts_ms: new.starts_ms,
            created: new.created,
            state: KeyState::Active,
            sealed: None,
        };
        let sealed = seal(tenant_key, &new.nonce, &self.key_use(&row), new.key);
        let sealed = sealed.map_err(|source| VaultError::Sealed { key_id, source })?;
        row.sealed = Some((new.nonce, sealed));
        self.push(row)
    }

    /// Opens every key that may be given to players. One that does not open spoils all: the file was tampered with.
    pub fn open(&self, tenant_key: &Secret32) -> Result<Vec<OpenKey>, VaultError> {
        let licensed = self.keys.iter().filter(|key| key.state.licenses());
        let opened = licensed.map(|row| {
            let key_id = row.key_id;
            let (nonce, sealed) = row.sealed.as_ref().ok_or(VaultError::Wiped {
                key_id,
                state: row.state,
            })?;
            let key = open(tenant_key, nonce, &self.key_use(row), sealed)
                .map_err(|source| VaultError::Sealed { key_id, source })?;
            Ok(OpenKey {
                key_id,
                scheme: row.scheme.clone(),
                track: row.track,
                period: row.period,
                starts_ms: row.starts_ms,
                state: row.state,
                key,
            })
        });
        opened.collect()
    }

    /// Takes a key down to `state`; destroying wipes its sealed bytes. Says whether it was not there already.
    pub fn set_state(&mut self, key_id: KeyId, state: KeyState) -> Result<bool, VaultError> {
        let found = self.keys.iter_mut().find(|key| key.key_id == key_id);
        let row = found.ok_or(VaultError::NoKey { key_id })?;
        if state < row.state {
            return Err(VaultError::State {
                key_id,
                from: row.state,
                to: state,
            });
        }
        if state == KeyState::Destroyed {
            row.sealed = None;
        }
        Ok(std::mem::replace(&mut row.state, state) != state)
    }

    fn key_use<'a>(&'a self, row: &'a SealedKey) -> KeyUse<'a> {
        KeyUse {
            tenant: &self.tenant,
            content: &self.content,
            key_id: row.key_id,
            scheme: &row.scheme,
            track: row.track.name(),
            period: row.period,
        }
    }

    fn push(&mut self, row: SealedKey) -> Result<(), VaultError> {
        if self.keys.len() >= limits::TITLE_KEY_COUNT_MAX {
            return Err(VaultError::Count {
                what: "keys in one title",
                count_max: limits::TITLE_KEY_COUNT_MAX,
            });
        }
        if !is_scheme(&row.scheme) {
            return Err(VaultError::Name { what: "scheme" });
        }
        if self.key(row.key_id).is_some() {
            return Err(VaultError::KeyIdTaken { key_id: row.key_id });
        }
        let active = self.find(&row.scheme, row.track, row.period);
        if let Some(active) = active.filter(|_| row.state == KeyState::Active) {
            return Err(VaultError::UseTaken {
                scheme: row.scheme.clone(),
                track: row.track,
                period: row.period,
                key_id: active.key_id,
            });
        }
        self.keys.push(row);
        Ok(())
    }
}
