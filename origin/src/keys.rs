//! The key vault's reading side: titles' content keys, opened in memory for as long as their files stay as they are.
//!
//! A vault is a folder with `vault.json` and `titles/{media id}.json` ([`packager::crypto::vault`]); `headwater keys`
//! writes it. What opens it comes from a [`KekProvider`]: a file here, a key service elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use packager::crypto::KeyId;
use packager::crypto::vault::{self, OpenKey, TitleKeys, TrackClass, VaultError, VaultHead};
use packager::crypto::wrap::{self, Secret32, WrapError};
use packager::limits;
use zeroize::Zeroizing;

use crate::read::Fingerprint;

/// The vault's first file.
pub const HEAD_NAME: &str = "vault.json";
/// The folder of titles' files.
pub const TITLES_NAME: &str = "titles";

/// A title's files are looked at again when it is asked for, but not more often than this: so long may a revoked key
/// still be given out.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Opened keys that are kept; a title without any counts as one.
const OPEN_KEY_COUNT_MAX: u64 = 65_536;
/// Titles whose last sequence number is remembered; 100 bytes each.
const SEQUENCE_COUNT_MAX: usize = 1 << 20;
/// Longest key file: a key and white space.
const KEK_FILE_SIZE_BYTES_MAX: u64 = 1_024;

/// Why keys can not be had. That a title has none is no error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyStoreError {
    /// A file of the vault, or the key file, can not be read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// There is no vault in the folder.
    #[error("{path}: no vault is here; `headwater keys init` makes one")]
    NoVault {
        /// The folder.
        path: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{path}: {source}")]
    Vault {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: VaultError,
    },
    /// Others than its owner have access to the key file.
    #[error("{path}: mode {mode:03o} lets group or others at the key; chmod 600 it")]
    Mode {
        /// The key file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file holds the keys of another title than its name says.
    #[error("{path}: holds the keys of another title")]
    Misplaced {
        /// The file.
        path: PathBuf,
    },
    /// The vault is well-formed and does not open: wrong key encryption key, or rows that were tampered with.
    #[error("{path}: {source}")]
    Unwrap {
        /// The file that does not open.
        path: PathBuf,
        /// What does not open in it.
        source: VaultError,
    },
    /// A title's file is older than one that was read before: somebody put it back.
    #[error("{path}: is an older file than the one before it")]
    RolledBack {
        /// The file.
        path: PathBuf,
    },
    /// The key encryption key can not be had, or what has it did not answer as it should.
    #[error("key encryption key: {reason}")]
    Provider {
        /// What happened, without secrets.
        reason: String,
    },
}

impl KeyStoreError {
    /// Whether keys were there and did not open: somebody must look.
    pub fn is_unwrap_failure(&self) -> bool {
        matches!(
            self,
            KeyStoreError::Unwrap { .. } | KeyStoreError::Misplaced { .. } | KeyStoreError::RolledBack { .. }
        )
    }
}

/// Where the key encryption key is: it wraps and unwraps tenants' keys and never leaves. Blocking.
pub trait KekProvider: Send + Sync {
    /// Public id of the key that wraps now: 16 lower-case hexadecimal digits.
    fn kek_id(&self) -> Result<String, KeyStoreError>;
    /// Wraps a tenant's key.
    fn wrap(&self, tenant_key: &Secret32) -> Result<Vec<u8>, KeyStoreError>;
    /// Undoes [`KekProvider::wrap`]; the inner error says that the bytes do not open.
    fn unwrap(&self, wrapped: &[u8]) -> Result<Result<Secret32, WrapError>, KeyStoreError>;
}

/// A key encryption key in a file of 64 hexadecimal digits and mode 0600. It is read each time: so the key is in memory
/// only while it is used, and one that was changed is seen.
#[derive(Clone, Debug)]
pub struct FileKek {
    path: PathBuf,
}

impl FileKek {
    /// The key in this file.
    pub fn new(path: &Path) -> FileKek {
        FileKek { path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the key. A file that group or others have access to is refused.
    pub fn read(&self) -> Result<Secret32, KeyStoreError> {
        let path = &self.path;
        let io = io(path);
        let file = File::open(path).map_err(&io)?;
        // Asked of the open file, so that it is the one that is read.
        let mode = file.metadata().map_err(&io)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = path.clone();
            return Err(KeyStoreError::Mode { path, mode });
        }
        let mut text = Zeroizing::new(Vec::with_capacity(KEK_FILE_SIZE_BYTES_MAX as usize + 1));
        file.take(KEK_FILE_SIZE_BYTES_MAX).read_to_end(&mut text).map_err(&io)?;
        let kek = std::str::from_utf8(&text).map_err(|_| VaultError::Kek);
        kek.and_then(vault::parse_kek).map_err(|source| KeyStoreError::Vault {
            path: path.clone(),
            source,
        })
    }
}

impl KekProvider for FileKek {
    fn kek_id(&self) -> Result<String, KeyStoreError> {
        Ok(vault::kek_id(&self.read()?))
    }

    fn wrap(&self, tenant_key: &Secret32) -> Result<Vec<u8>, KeyStoreError> {
        let wrapped = wrap::wrap_tenant_key(&self.read()?, tenant_key);
        let wrapped = wrapped.map_err(|error| KeyStoreError::Provider {
            reason: error.to_string(),
        })?;
        Ok(wrapped.to_vec())
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<Result<Secret32, WrapError>, KeyStoreError> {
        Ok(wrap::unwrap_tenant_key(&self.read()?, wrapped))
    }
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> KeyStoreError + '_ {
    |source| KeyStoreError::Io {
        path: path.to_owned(),
        source: Arc::new(source),
    }
}

/// Reads a file of at most `size_max` bytes, with what it was then; `None` when there is none.
fn read_file(path: &Path, size_max: usize) -> Result<Option<(Vec<u8>, Fingerprint)>, KeyStoreError> {
    let io = io(path);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let fingerprint = Fingerprint::of(&file.metadata().map_err(&io)?);
    let mut bytes = Vec::new();
    // One more than may be: the parser then sees that it is too large.
    file.take(size_max as u64 + 1).read_to_end(&mut bytes).map_err(&io)?;
    Ok(Some((bytes, fingerprint)))
}

/// Path of a title's file. `None` for what can be no media id.
pub fn title_path(vault: &Path, media_id: &str) -> Option<PathBuf> {
    vault::is_name(media_id).then(|| vault.join(TITLES_NAME).join(format!("{media_id}.json")))
}

/// Reads `vault.json` of the vault in this folder. Blocking.
pub fn read_head(vault: &Path) -> Result<VaultHead, KeyStoreError> {
    Ok(head_of(vault)?.0)
}

fn head_of(vault: &Path) -> Result<(VaultHead, Fingerprint), KeyStoreError> {
    let path = vault.join(HEAD_NAME);
    let read = read_file(&path, limits::VAULT_HEAD_SIZE_BYTES_MAX)?;
    let no_vault = || KeyStoreError::NoVault { path: vault.to_owned() };
    let (bytes, fingerprint) = read.ok_or_else(no_vault)?;
    match VaultHead::parse(&bytes) {
        Ok(head) => Ok((head, fingerprint)),
        Err(source) => Err(KeyStoreError::Vault { path, source }),
    }
}

/// Reads a title's sealed keys; `None` when it has none. Blocking.
pub fn read_title(vault: &Path, media_id: &str) -> Result<Option<TitleKeys>, KeyStoreError> {
    Ok(title_of(vault, media_id)?.map(|(title, _)| title))
}

fn title_of(vault: &Path, media_id: &str) -> Result<Option<(TitleKeys, Fingerprint)>, KeyStoreError> {
    let Some(path) = title_path(vault, media_id) else {
        return Ok(None);
    };
    let Some((bytes, fingerprint)) = read_file(&path, limits::TITLE_KEYS_SIZE_BYTES_MAX)? else {
        return Ok(None);
    };
    match TitleKeys::parse(&bytes) {
        Ok(title) if title.content() != media_id => Err(KeyStoreError::Misplaced { path }),
        Ok(title) => Ok(Some((title, fingerprint))),
        Err(source) => Err(KeyStoreError::Vault { path, source }),
    }
}

/// Opens a tenant's key. Blocking.
pub fn open_tenant(
    vault: &Path,
    head: &VaultHead,
    kek: &dyn KekProvider,
    tenant: &str,
) -> Result<Secret32, KeyStoreError> {
    let refused = |source| KeyStoreError::Unwrap {
        path: vault.join(HEAD_NAME),
        source,
    };
    let wrapped = head.wrapped(&kek.kek_id()?, tenant).map_err(refused)?;
    kek.unwrap(wrapped)?.map_err(|source| {
        refused(VaultError::Tenant {
            tenant: tenant.to_owned(),
            source,
        })
    })
}

/// A title's keys, opened: active ones, and retired ones for licences. It has no `Debug`: it can not reach a log.
pub struct OpenTitle {
    tenant: String,
    keys: Vec<OpenKey>,
    opens_clear_sources_alone: bool,
}

impl OpenTitle {
    /// Whose title it is.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Keys of a scheme ([`packager::form::Form::key_scheme`]), in the order they were made in. Those that do not
    /// [`OpenKey::encrypts`] are for licences alone.
    pub fn keys(&self, scheme: &str) -> impl Iterator<Item = &OpenKey> {
        self.keys.iter().filter(move |key| key.scheme == scheme)
    }

    /// The key of this name: for licences and key requests.
    pub fn key(&self, key_id: KeyId) -> Option<&OpenKey> {
        self.keys.iter().find(|key| key.key_id == key_id)
    }

    /// Whether the title never had any other keys than those of encrypted sources that may be served in the clear. One that
    /// was revoked counts: it does not make a title clear.
    pub fn opens_clear_sources_alone(&self) -> bool {
        self.opens_clear_sources_alone
    }

    /// The active key that a track is encrypted under at `time_ms` of presentation time: the one of the period that began
    /// last. Of periods that do not say where they begin, as encryptors elsewhere have them, the first is the beginning's
    /// and the others are for licences alone.
    pub fn active(&self, scheme: &str, track: TrackClass, time_ms: u64) -> Option<&OpenKey> {
        let order = |key: &OpenKey| match key.starts_ms {
            Some(starts_ms) => (starts_ms, 1, key.period),
            None => (0, 0, u64::MAX - key.period),
        };
        self.encrypting(scheme, track)
            .filter(|key| key.starts_ms.unwrap_or(0) <= time_ms)
            .max_by_key(|key| order(key))
    }

    /// Where key periods of these classes of tracks begin, in milliseconds of presentation time, ascending; zero is one.
    pub fn starts_ms(&self, scheme: &str, tracks: impl Iterator<Item = TrackClass>) -> BTreeSet<u64> {
        let starts = tracks.flat_map(|track| self.encrypting(scheme, track).filter_map(|key| key.starts_ms));
        starts.chain([0]).collect()
    }

    /// Where another key of the same use takes over from `key`; `None` where none does.
    pub fn ends_ms(&self, key: &OpenKey) -> Option<u64> {
        let later = self
            .encrypting(&key.scheme, key.track)
            .filter_map(|other| other.starts_ms);
        later.filter(|starts_ms| *starts_ms > key.starts_ms.unwrap_or(0)).min()
    }

    fn encrypting(&self, scheme: &str, track: TrackClass) -> impl Iterator<Item = &OpenKey> {
        self.keys(scheme)
            .filter(move |key| key.encrypts() && key.track == track)
    }
}

/// A kept title, what its files were, and when they were last looked at.
struct Kept {
    title: Option<Arc<OpenTitle>>,
    head: Fingerprint,
    file: Option<Fingerprint>,
    checked: Mutex<Instant>,
}

/// The keys of a library's titles.
pub struct KeyStore {
    vault: PathBuf,
    kek: Box<dyn KekProvider>,
    titles: Cache<String, Arc<Kept>>,
    /// The highest sequence number of each title that was opened since the start.
    sequences: Mutex<BTreeMap<String, u64>>,
    check_interval: Duration,
}

impl KeyStore {
    /// The vault in the folder `vault`, opened by the key in the file `kek`. That it does open is checked. Blocking.
    pub fn open(vault: &Path, kek: &Path) -> Result<KeyStore, KeyStoreError> {
        KeyStore::with_provider(vault, Box::new(FileKek::new(kek)))
    }

    /// The same with the key encryption key elsewhere. Blocking.
    pub fn with_provider(vault: &Path, kek: Box<dyn KekProvider>) -> Result<KeyStore, KeyStoreError> {
        let head = read_head(vault)?;
        let kek_id = kek.kek_id()?;
        if head.kek_id() != kek_id && head.previous_kek_id() != Some(kek_id.as_str()) {
            return Err(KeyStoreError::Unwrap {
                path: vault.join(HEAD_NAME),
                source: VaultError::OtherKek {
                    expected: head.kek_id().to_owned(),
                    found: kek_id,
                },
            });
        }
        let titles = Cache::builder()
            .max_capacity(OPEN_KEY_COUNT_MAX)
            .weigher(|_, kept: &Arc<Kept>| {
                let count = kept.title.as_ref().map_or(1, |title| title.keys.len().max(1));
                u32::try_from(count).unwrap_or(u32::MAX)
            })
            .build();
        Ok(KeyStore {
            vault: vault.to_owned(),
            kek,
            titles,
            sequences: Mutex::default(),
            check_interval: CHECK_INTERVAL,
        })
    }

    /// The keys of `media_id`, as of at most five seconds ago; `None` when it has none. Blocking; one opens, the others
    /// wait.
    pub fn title(&self, media_id: &str) -> Result<Option<Arc<OpenTitle>>, KeyStoreError> {
        let Some(path) = title_path(&self.vault, media_id) else {
            return Ok(None);
        };
        if let Some(kept) = self.titles.get(media_id) {
            let mut checked = kept.checked.lock().unwrap_or_else(PoisonError::into_inner);
            if checked.elapsed() < self.check_interval {
                return Ok(kept.title.clone());
            }
            let now = |path: &Path| std::fs::metadata(path).ok().map(|data| Fingerprint::of(&data));
            if now(&self.vault.join(HEAD_NAME)) == Some(kept.head) && now(&path) == kept.file {
                *checked = Instant::now();
                return Ok(kept.title.clone());
            }
            drop(checked);
            self.titles.invalidate(media_id);
        }
        let opened = self
            .titles
            .try_get_with(media_id.to_owned(), || self.open_title(media_id));
        opened.map(|kept| kept.title.clone()).map_err(|error| (*error).clone())
    }

    /// The keys of `media_id` where they are kept and were looked after less than five seconds ago. Does not block.
    pub fn kept(&self, media_id: &str) -> Option<Arc<OpenTitle>> {
        let kept = self.titles.get(media_id)?;
        // Who holds it looks after the files.
        let is_fresh = kept.checked.try_lock().ok()?.elapsed() < self.check_interval;
        kept.title.clone().filter(|_| is_fresh)
    }

    fn open_title(&self, media_id: &str) -> Result<Arc<Kept>, KeyStoreError> {
        let checked = Mutex::new(Instant::now());
        let (head, head_fingerprint) = head_of(&self.vault)?;
        let (title, file) = match title_of(&self.vault, media_id)? {
            None => (None, None),
            Some((sealed, fingerprint)) => {
                let opened = self.unseal(&head, &sealed)?;
                self.check_sequence(&sealed)?;
                (Some(opened), Some(fingerprint))
            }
        };
        Ok(Arc::new(Kept {
            title: title.map(Arc::new),
            head: head_fingerprint,
            file,
            checked,
        }))
    }

    /// Whoever can write the vault can put an older file back, whose MAC is right. It is noticed here for as long as this
    /// process runs.
    fn check_sequence(&self, sealed: &TitleKeys) -> Result<(), KeyStoreError> {
        let mut sequences = self.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        let (content, sequence) = (sealed.content(), sealed.sequence());
        if sequences.get(content).is_some_and(|seen| sequence < *seen) {
            return Err(KeyStoreError::RolledBack {
                path: title_path(&self.vault, content).unwrap_or_default(),
            });
        }
        // Of more titles than these nothing is remembered.
        if sequences.len() < SEQUENCE_COUNT_MAX || sequences.contains_key(content) {
            sequences.insert(content.to_owned(), sequence);
        }
        Ok(())
    }

    fn unseal(&self, head: &VaultHead, sealed: &TitleKeys) -> Result<OpenTitle, KeyStoreError> {
        let tenant_key = open_tenant(&self.vault, head, self.kek.as_ref(), sealed.tenant())?;
        let keys = sealed.open(&tenant_key).map_err(|source| KeyStoreError::Unwrap {
            path: title_path(&self.vault, sealed.content()).unwrap_or_default(),
            source,
        })?;
        let all = sealed.keys();
        Ok(OpenTitle {
            tenant: sealed.tenant().to_owned(),
            keys,
            opens_clear_sources_alone: !all.is_empty()
                && all.iter().all(|key| key.scheme == vault::SOURCE_CLEAR_SCHEME),
        })
    }
}

#[cfg(test)]
mod tests;
