//! Keys of encrypted sources: where they are looked for, and the decryption of what is read.
//!
//! Keys are asked for each time samples are read, so one that is revoked opens nothing from then on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use packager::crypto::source::{DecryptError, EncryptedSamples, SourceKeys};
use packager::crypto::vault::SOURCE_CLEAR_SCHEME;
use packager::crypto::{ContentKey, KeyId};
use packager::index::TrackIndex;

use crate::error::ServeError;
use crate::keys::{KeyStore, OpenTitle};

/// Where keys of encrypted sources are looked for. It has no `Debug`: it holds keys.
#[derive(Clone, Default)]
pub struct SourceKeyring {
    named: Arc<BTreeMap<KeyId, ContentKey>>,
    vault: Option<Arc<KeyStore>>,
}

impl SourceKeyring {
    /// Keys that a person names for a command: what they open may be written in the clear.
    pub fn named(keys: BTreeMap<KeyId, ContentKey>) -> SourceKeyring {
        SourceKeyring {
            named: Arc::new(keys),
            vault: None,
        }
    }

    /// The same, and behind them those that the vault has for each title.
    #[must_use]
    pub fn and_vault(self, vault: Arc<KeyStore>) -> SourceKeyring {
        SourceKeyring {
            vault: Some(vault),
            ..self
        }
    }

    /// The keys for the sources of `media_id`.
    pub(crate) fn of(&self, media_id: &str) -> TitleKeyring {
        TitleKeyring {
            keyring: self.clone(),
            media_id: media_id.to_owned(),
            trouble: Arc::default(),
        }
    }
}

/// What came of the search for keys while a title was opened.
#[derive(Clone, Debug)]
pub(crate) enum KeyTrouble {
    /// The vault has no such key for the title.
    Missing(KeyId),
    /// The vault can not be asked.
    Failed(String),
}

/// Keys for the sources of one title.
#[derive(Clone)]
pub(crate) struct TitleKeyring {
    keyring: SourceKeyring,
    media_id: String,
    trouble: Arc<OnceLock<KeyTrouble>>,
}

impl TitleKeyring {
    fn title(&self) -> Result<Option<Arc<OpenTitle>>, String> {
        let Some(vault) = &self.keyring.vault else {
            return Ok(None);
        };
        vault.title(&self.media_id).map_err(|error| error.to_string())
    }

    /// The first thing that went wrong with keys of a vault.
    pub(crate) fn trouble(&self) -> Option<&KeyTrouble> {
        self.trouble.get()
    }

    /// Whether whoever gave the key allows that what it opens is served in the clear.
    fn may_be_clear(&self, key_id: KeyId) -> bool {
        if self.keyring.named.contains_key(&key_id) {
            return true;
        }
        let title = self.title().ok().flatten();
        title.is_some_and(|title| title.key(key_id).is_some_and(|key| key.scheme == SOURCE_CLEAR_SCHEME))
    }
}

impl SourceKeys for TitleKeyring {
    fn key(&self, key_id: KeyId) -> Result<Option<ContentKey>, String> {
        if let Some(key) = self.keyring.named.get(&key_id) {
            return Ok(Some(key.clone()));
        }
        let title = self.title().inspect_err(|reason| {
            self.trouble.get_or_init(|| KeyTrouble::Failed(reason.clone()));
        })?;
        let key = title.and_then(|title| title.key(key_id).map(|key| key.key.clone()));
        if key.is_none() && self.keyring.vault.is_some() {
            self.trouble.get_or_init(|| KeyTrouble::Missing(key_id));
        }
        Ok(key)
    }
}

/// What decrypts the samples of one file.
pub(crate) struct SourceCipher {
    samples: Arc<EncryptedSamples>,
    keys: TitleKeyring,
}

impl std::fmt::Debug for SourceCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceCipher").finish_non_exhaustive()
    }
}

impl SourceCipher {
    pub(crate) fn new(samples: Arc<EncryptedSamples>, keys: TitleKeyring) -> SourceCipher {
        SourceCipher { samples, keys }
    }

    /// Memory that it holds, in bytes.
    pub(crate) fn weight_bytes(&self) -> usize {
        self.samples.weight_bytes()
    }

    /// Whether what it opens may be served in the clear.
    pub(crate) fn may_be_clear(&self) -> bool {
        let ids = self.samples.key_ids();
        ids.into_iter().all(|key_id| self.keys.may_be_clear(key_id))
    }

    /// Decrypts samples `range` of `index`, which `media` holds one after the other. Blocking.
    pub(crate) fn decrypt(&self, index: &TrackIndex, range: Range<u32>, media: &mut [u8]) -> Result<(), ServeError> {
        let places = index.samples(range).map(|sample| (sample.offset, sample.size));
        let done = self.samples.decrypt(&self.keys, places, media);
        done.map_err(|error| match error {
            DecryptError::MissingKey { key_id } => ServeError::MissingKey {
                what: format!("{}: source key {key_id}", self.keys.media_id),
            },
            DecryptError::Keys { reason } => ServeError::Keys { what: reason },
            error => ServeError::Damaged {
                what: format!("{}: {error}", self.keys.media_id),
            },
        })
    }
}
