//! Source of keys for encryptors: the vault on disk, asked through key exchange.

use std::path::{Path, PathBuf};

use anyhow::Context;
use control_api::key_exchange::{Contract, Key, KeySet, KeySource, KeySourceError, TrackType, Wanted, WantedKey};
use packager::crypto::vault::{KeyState, NewKey, OpenKey, SealedKey, TitleKeys, TrackClass, is_name};
use packager::crypto::wrap::Secret32;
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::disk::{Vault, random};
use super::kek::Kek;
use super::{now, random_key_id};

/// Where an asker names no scheme, as in SPEKE 1: its encryptors chain (AES-128, SAMPLE-AES, FairPlay), and a key that
/// chained must never count.
const UNNAMED_SCHEME: ProtectionScheme = ProtectionScheme::Cbcs;

/// A vault on disk as a source of keys. Each question opens the vault, so commands and other servers take their turns
/// with it, and what they change is seen.
pub struct VaultSource {
    vault: PathBuf,
    kek: Kek,
}

impl VaultSource {
    /// The vault in this folder, opened with `kek`.
    pub fn new(vault: &Path, kek: Kek) -> VaultSource {
        VaultSource {
            vault: vault.to_owned(),
            kek,
        }
    }

    fn existing(&self, tenant: &str, content_id: &str) -> anyhow::Result<KeySet> {
        let vault = Vault::open(&self.vault)?;
        let title = vault.title(&title_name(tenant, content_id))?;
        // Another tenant's title is none, as far as this one is told.
        let title = title.filter(|title| title.tenant() == tenant);
        let title = title.ok_or(KeySourceError::NoKeys)?;
        let opened = title.open(&vault.tenant_key(&vault.head()?, &self.kek, tenant)?)?;
        let active = opened.iter().filter(|key| key.encrypts());
        let keys: Vec<Key> = active.filter_map(exchanged).collect();
        match keys.is_empty() {
            true => Err(KeySourceError::NoKeys.into()),
            false => Ok(KeySet { keys }),
        }
    }

    /// The keys of `wanted`; what is missing is made. Nothing is written unless there are answers to all.
    fn wanted(&self, tenant: &str, content_id: &str, wanted: &[WantedKey]) -> anyhow::Result<KeySet> {
        let vault = Vault::open(&self.vault)?;
        let mut title = Change::begin(&vault, &self.kek, tenant, content_id)?;
        let mut keys = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let opened = match title.find(wanted)? {
                Some(key) => key,
                None => title.make(wanted)?,
            };
            keys.push(Key {
                key_id: opened.key_id,
                key: opened.key,
                scheme: wanted.scheme,
                track_type: wanted.track_type.clone(),
                period: wanted.period,
                // The vault keeps none; an asker that uses one says so each time.
                iv: wanted.iv,
            });
        }
        title.end()?;
        Ok(KeySet { keys })
    }

    fn take_in(&self, tenant: &str, content_id: &str, keys: &KeySet) -> anyhow::Result<()> {
        let vault = Vault::open(&self.vault)?;
        let mut title = Change::begin(&vault, &self.kek, tenant, content_id)?;
        for key in &keys.keys {
            title.take_in(key)?;
        }
        title.end()
    }
}

impl KeySource for VaultSource {
    fn keys(&self, contract: &Contract) -> Result<KeySet, KeySourceError> {
        let (tenant, content_id) = (contract.tenant.as_str(), contract.content_id.as_str());
        told(match &contract.wanted {
            Wanted::Existing => self.existing(tenant, content_id),
            Wanted::Keys(wanted) => self.wanted(tenant, content_id, wanted),
        })
    }

    fn store(&self, tenant: &str, content_id: &str, keys: &KeySet) -> Result<(), KeySourceError> {
        told(self.take_in(tenant, content_id, keys))
    }
}

/// What the asker is told. Anything but a refusal is the operator's to look at.
fn told<T>(result: anyhow::Result<T>) -> Result<T, KeySourceError> {
    result.map_err(|error| match error.downcast::<KeySourceError>() {
        Ok(refusal) => refusal,
        Err(error) => {
            tracing::error!("key vault: {error:#}");
            KeySourceError::Unavailable
        }
    })
}

/// A title under change, while nobody else has the vault.
struct Change<'v> {
    vault: &'v Vault,
    title: TitleKeys,
    tenant_key: Secret32,
    opened: Vec<OpenKey>,
    changed: bool,
}

impl<'v> Change<'v> {
    fn begin(vault: &'v Vault, kek: &Kek, tenant: &str, content_id: &str) -> anyhow::Result<Change<'v>> {
        let name = title_name(tenant, content_id);
        let mut title = match vault.title(&name)? {
            Some(title) if title.tenant() != tenant => {
                tracing::warn!(tenant, title = name, "key vault: another tenant has this title");
                return Err(KeySourceError::NoKeys.into());
            }
            Some(title) => title,
            None => {
                if name != content_id {
                    // Whoever reads the vault later knows the title by this name alone.
                    tracing::info!(
                        tenant,
                        title = name,
                        ?content_id,
                        "key vault: a title under another name"
                    );
                }
                TitleKeys::new(tenant, &name)?
            }
        };
        let tenant_key = vault.tenant_key_or_new(kek, tenant)?;
        // Adding to keys that do not open would hide that something is wrong with them.
        title.prove(&tenant_key).with_context(|| name.clone())?;
        let opened = title.open(&tenant_key).with_context(|| name.clone())?;
        Ok(Change {
            vault,
            title,
            tenant_key,
            opened,
            changed: false,
        })
    }

    /// The key that is there already: by its name also one that is retired, since whoever has begun with it goes on.
    fn find(&self, wanted: &WantedKey) -> Result<Option<OpenKey>, KeySourceError> {
        let scheme = wanted.scheme.unwrap_or(UNNAMED_SCHEME).name();
        let track = class_of(&wanted.track_type);
        let row = match wanted.key_id {
            Some(key_id) => self.title.key(key_id),
            None => self.title.find(scheme, track, wanted.period),
        };
        let Some(row) = row else { return Ok(None) };
        let same_scheme = wanted.scheme.is_none() || row.scheme == scheme;
        let same_use = same_scheme && row.track == track && row.period == wanted.period;
        let opened = self.opened.iter().find(|key| key.key_id == row.key_id);
        match opened.filter(|_| same_use) {
            Some(key) => Ok(Some(key.clone())),
            None => Err(KeySourceError::KeyInUse(row.key_id)),
        }
    }

    fn make(&mut self, wanted: &WantedKey) -> anyhow::Result<OpenKey> {
        let key_id = match wanted.key_id {
            Some(key_id) => key_id,
            None => random_key_id()?,
        };
        let key = ContentKey::new(*Zeroizing::new(random()?));
        let scheme = wanted.scheme.unwrap_or(UNNAMED_SCHEME).name();
        self.seal(key_id, key, scheme, class_of(&wanted.track_type), wanted.period)
    }

    /// Seals a key. One use has one active key; an encryptor that brings another name for it, as for the second of two
    /// track types of one class, gets a key that is for players alone on our side.
    fn seal(
        &mut self,
        key_id: KeyId,
        key: ContentKey,
        scheme: &str,
        track: TrackClass,
        period: u64,
    ) -> anyhow::Result<OpenKey> {
        let new = NewKey {
            key_id,
            key: &key,
            scheme,
            track,
            period,
            starts_ms: None,
            created: now()?,
            nonce: random()?,
        };
        let state = match self.title.find(scheme, track, period) {
            Some(_) => {
                self.title.seal_for_players(&self.tenant_key, &new)?;
                KeyState::Retired
            }
            None => {
                self.title.seal_new(&self.tenant_key, &new)?;
                KeyState::Active
            }
        };
        let opened = OpenKey {
            key_id,
            scheme: scheme.to_owned(),
            track,
            period,
            starts_ms: None,
            state,
            key,
        };
        self.opened.push(opened.clone());
        self.changed = true;
        Ok(opened)
    }

    /// Adds a key that was made elsewhere, unless it is there.
    fn take_in(&mut self, key: &Key) -> anyhow::Result<()> {
        let wanted = WantedKey {
            key_id: Some(key.key_id),
            scheme: key.scheme,
            track_type: key.track_type.clone(),
            period: key.period,
            iv: None,
        };
        if let Some(held) = self.find(&wanted)? {
            return match held.key.expose() == key.key.expose() {
                true => Ok(()),
                false => Err(KeySourceError::KeyInUse(key.key_id).into()),
            };
        }
        let scheme = key.scheme.unwrap_or(UNNAMED_SCHEME).name();
        let track = class_of(&key.track_type);
        // Whoever brings a key means it to be the one.
        let taken: Option<&SealedKey> = self.title.find(scheme, track, key.period);
        if let Some(taken) = taken {
            return Err(KeySourceError::KeyInUse(taken.key_id).into());
        }
        self.seal(key.key_id, key.key.clone(), scheme, track, key.period)?;
        Ok(())
    }

    /// Writes the title if keys were added, as a whole.
    fn end(mut self) -> anyhow::Result<()> {
        match self.changed {
            true => self.vault.save_title(&mut self.title, &self.tenant_key),
            false => Ok(()),
        }
    }
}

/// A key as it is handed over. Those of AES-128 and SAMPLE-AES have no scheme there and would be taken for others.
fn exchanged(open: &OpenKey) -> Option<Key> {
    let scheme = ProtectionScheme::from_name(&open.scheme)?;
    Some(Key {
        key_id: open.key_id,
        key: open.key.clone(),
        scheme: Some(scheme),
        track_type: TrackType::parse(open.track.name())?,
        period: open.period,
        iv: None,
    })
}

/// The vault's name for a title: the asker's where it can be a file's name, a hash of tenant and name otherwise.
fn title_name(tenant: &str, content_id: &str) -> String {
    if is_name(content_id) {
        return content_id.to_owned();
    }
    let mut hash = Sha256::new();
    hash.update(tenant);
    hash.update([0]);
    hash.update(content_id);
    let digits = hash
        .finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    format!("x-{digits}")
}

/// The class that a track type's key is kept under: HD where that is one of its classes, else the lowest of them.
///
/// `ALL`, `VIDEO`, `SD+HD1` are more than a class, and names that encryptor and server agreed upon are none. HD is what
/// most titles have; no sound is encrypted under such a key here, and by its name it is found again.
fn class_of(track_type: &TrackType) -> TrackClass {
    let classes = track_type.classes();
    match classes.contains(&TrackClass::Hd) {
        true => TrackClass::Hd,
        false => classes.first().copied().unwrap_or(TrackClass::Hd),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn track_types_have_classes() {
        let check = |name, expected| assert_eq!(class_of(&TrackType::parse(name).unwrap()), expected, "{name}");
        for class in TrackClass::ALL {
            check(class.name(), class);
        }
        check("STEREO_AUDIO", TrackClass::Audio);
        check("MULTICHANNEL_AUDIO_3_6", TrackClass::Audio);
        check("MULTICHANNEL_AUDIO_7", TrackClass::Audio);
        check("VIDEO", TrackClass::Hd);
        check("SD+HD1", TrackClass::Hd);
        check("UHD", TrackClass::Uhd1);
        check("ALL", TrackClass::Hd);
        check("own", TrackClass::Hd);
    }

    #[test]
    fn names_of_titles_are_stable() {
        assert_eq!(title_name("acme", "film-1"), "film-1");
        // By coreutils: `printf 'acme\0film 1' | sha256sum`.
        assert_eq!(title_name("acme", "film 1"), "x-c54e256729e2e3b41023fe66b7574471");
        assert_ne!(title_name("acme", "../film"), title_name("other", "../film"));
        assert!(is_name(&title_name("acme", "")));
    }
}
