//! Opened presentations by media id: scanned from the library, opened once however many ask, kept within a weight.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use packager::form::Form;

use crate::asset::Asset;
use crate::config::Config;
use crate::descriptors;
use crate::error::ServeError;
use crate::library::{self, Entry, LibraryError};
use crate::open::{self, OpenError};
use crate::rendered;
use crate::source_keys::SourceKeyring;
use crate::stored::kept_index;
use crate::vod::choice::Derivation;

/// A request for an unknown id looks at the folder again, but not more often than this.
const RESCAN_INTERVAL: Duration = Duration::from_secs(2);
/// An opened presentation's files are looked at again when it is asked for, but not more often than this.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Clips and other derived presentations take one part in so many of `index_memory_bytes_max`, on top of it.
const DERIVED_MEMORY_SHARE: u64 = 4;

/// A kept presentation, and when its files were last looked at.
struct Kept {
    asset: Arc<Asset>,
    memory_bytes: u64,
    checked: Mutex<Instant>,
    packing: Mutex<()>,
}

impl Kept {
    /// `asset`, whose files were looked at when it was `checked`.
    fn new(asset: Asset, checked: Instant) -> Arc<Kept> {
        Arc::new(Kept {
            memory_bytes: asset.weight_bytes(),
            asset: Arc::new(asset),
            checked: Mutex::new(checked),
            packing: Mutex::default(),
        })
    }

    fn checked(&self) -> Instant {
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the library held when it was last looked at.
#[derive(Clone, Default)]
struct Scanned {
    entries: Arc<BTreeMap<String, Entry>>,
    at: Option<Instant>,
}

impl Scanned {
    fn is_fresh(&self) -> bool {
        self.at.is_some_and(|at| at.elapsed() < RESCAN_INTERVAL)
    }
}

/// The library's presentations.
pub struct Store {
    config: Config,
    keyring: SourceKeyring,
    scanned: RwLock<Scanned>,
    scanning: Mutex<()>,
    kept: Cache<String, Arc<Kept>>,
    /// By media id, version with choice, and form.
    derived: Cache<(String, String, Form), Arc<Asset>>,
    /// It was said that indexes can not be kept on disk.
    said_unkept: AtomicBool,
}

impl Store {
    /// An empty store over the library of `config`; the first question scans it.
    pub fn new(config: Config) -> Store {
        Store::with_keys(config, SourceKeyring::default())
    }

    /// The same with keys for encrypted sources.
    pub fn with_keys(config: Config, keyring: SourceKeyring) -> Store {
        // What is kept has two bounds, memory and open files, and the cache knows one: a file weighs as much as makes both full
        // together.
        let file_bytes = config.index_memory_bytes_max / descriptors::title_file_count_max();
        let weight = move |kept: &Kept| {
            kept.memory_bytes
                .max(kept.asset.file_count().saturating_mul(file_bytes))
        };
        let kept = Cache::builder()
            .max_capacity(config.index_memory_bytes_max)
            .weigher(move |_, kept: &Arc<Kept>| u32::try_from(weight(kept)).unwrap_or(u32::MAX))
            .build();
        // Whatever is let go of is made again in milliseconds.
        let derived = Cache::builder()
            .max_capacity(config.index_memory_bytes_max / DERIVED_MEMORY_SHARE)
            .weigher(|_, asset: &Arc<Asset>| u32::try_from(asset.weight_bytes()).unwrap_or(u32::MAX))
            .build();
        Store {
            config,
            keyring,
            derived,
            scanned: RwLock::default(),
            scanning: Mutex::new(()),
            said_unkept: AtomicBool::new(false),
            kept,
        }
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Memory held by opened presentations, in bytes, and how many there are.
    pub fn usage(&self) -> (u64, u64) {
        self.kept.run_pending_tasks();
        let memory_bytes = self.kept.iter().map(|(_, kept)| kept.memory_bytes).sum();
        (memory_bytes, self.kept.entry_count())
    }

    /// Looks at the library folder now. Blocking.
    pub fn scan(&self) -> Result<Arc<BTreeMap<String, Entry>>, LibraryError> {
        let entries = Arc::new(library::scan(&self.config.library)?);
        let mut scanned = self.scanned.write().unwrap_or_else(PoisonError::into_inner);
        *scanned = Scanned {
            entries: entries.clone(),
            at: Some(Instant::now()),
        };
        Ok(entries)
    }

    fn scanned(&self) -> Scanned {
        self.scanned.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the library holds, as of at most [`RESCAN_INTERVAL`] ago. Blocking.
    pub fn entries(&self) -> Result<Arc<BTreeMap<String, Entry>>, LibraryError> {
        let scanned = self.scanned();
        if scanned.is_fresh() {
            return Ok(scanned.entries);
        }
        // One scans, the others take what it found.
        let _scanning = self.scanning.lock().unwrap_or_else(PoisonError::into_inner);
        let scanned = self.scanned();
        match scanned.is_fresh() {
            true => Ok(scanned.entries),
            false => self.scan(),
        }
    }

    fn entry(&self, media_id: &str) -> Result<Entry, ServeError> {
        if let Some(entry) = self.scanned().entries.get(media_id) {
            return Ok(entry.clone());
        }
        // Published a moment ago: no need to look through all of the library.
        if library::is_uuid(media_id)
            && let Some(entry @ Entry::Stored { .. }) = library::folder_entry(&self.config.library, Path::new(media_id))
        {
            return Ok(entry);
        }
        let entries = self.entries().map_err(|error| ServeError::Storage {
            what: error.to_string(),
        })?;
        entries.get(media_id).cloned().ok_or(ServeError::NotFound)
    }

    /// The presentation `media_id` if it is open and its files were looked at lately: an answer without any I/O.
    pub fn opened(&self, media_id: &str) -> Option<Arc<Asset>> {
        let kept = self.kept.get(media_id)?;
        // Somebody who looks at the files now may wait for a disk.
        let checked = *kept.checked.try_lock().ok()?;
        (checked.elapsed() < CHECK_INTERVAL).then(|| kept.asset.clone())
    }

    /// The presentation `media_id`, opened now if need be. Blocking; one opens, the others wait.
    pub fn open(&self, media_id: &str) -> Result<Arc<Asset>, ServeError> {
        if let Some(kept) = self.kept.get(media_id) {
            let mut checked = kept.checked.lock().unwrap_or_else(PoisonError::into_inner);
            if checked.elapsed() < CHECK_INTERVAL {
                return Ok(kept.asset.clone());
            }
            if kept.asset.is_current() {
                *checked = Instant::now();
                return Ok(kept.asset.clone());
            }
            drop(checked);
            self.kept.invalidate(media_id);
        }
        let entry = self.entry(media_id)?;
        let opened = self.kept.try_get_with(media_id.to_owned(), || {
            let started = Instant::now();
            let asset = open::open(&self.config, &self.keyring, media_id, &entry)?;
            tracing::debug!(
                media.id = media_id,
                duration_ms = started.elapsed().as_millis() as u64,
                "opened"
            );
            Ok(Kept::new(asset, started))
        });
        match opened {
            Ok(kept) => Ok(kept.asset.clone()),
            Err(error) => Err(self.refusal(media_id, &error)),
        }
    }

    /// Keeps what was found in the files of `asset` on disk, where that is worth it, so that they are not looked at again after a
    /// restart or an eviction. Blocking.
    pub fn keep_index(&self, asset: &Asset) {
        if !asset.is_packed() {
            return;
        }
        if let Err(error) = kept_index::keep(&self.config, asset)
            && !self.said_unkept.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "indexes are not kept on disk: long files are looked at again after a restart (said once)");
        }
    }

    /// The presentation `media_id` with its indexes packed, as those want it who ask for media: a long film's are left as
    /// `moov` has them until then. Blocking; one packs, the others wait.
    pub fn open_packed(&self, media_id: &str) -> Result<Arc<Asset>, ServeError> {
        let asset = self.open(media_id)?;
        if asset.is_packed() {
            return Ok(asset);
        }
        let kept = self.kept.get(media_id);
        let _packing = kept
            .as_ref()
            .map(|kept| kept.packing.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(kept) = self.kept.get(media_id).filter(|kept| kept.asset.is_packed()) {
            return Ok(kept.asset.clone());
        }
        let packed = asset.packed().map_err(|error| ServeError::Damaged {
            what: format!("{media_id}: {error}"),
        })?;
        // One that was not kept, because its tables were too large, is kept from now on.
        let packed = Kept::new(packed, kept.as_ref().map_or_else(Instant::now, |kept| kept.checked()));
        self.kept.insert(media_id.to_owned(), packed.clone());
        Ok(packed.asset.clone())
    }

    /// What `derivation` makes of `asset`, if it is kept.
    pub fn derived(&self, asset: &Asset, derivation: Derivation) -> Option<Arc<Asset>> {
        let kept = self.derived.get(&derivation.key(asset))?;
        (!kept.is_left_behind(asset)).then_some(kept)
    }

    /// What `derivation` makes of `asset`, made now if need be; one makes it, the others wait.
    pub fn derive(&self, asset: &Asset, derivation: Derivation) -> Result<Arc<Asset>, ServeError> {
        let key = derivation.key(asset);
        if self.derived.get(&key).is_some_and(|kept| kept.is_left_behind(asset)) {
            self.derived.invalidate(&key);
        }
        let made = self.derived.try_get_with(key, || derivation.make(asset));
        made.map_err(|error| rendered::copy(&error))
    }

    fn refusal(&self, media_id: &str, error: &OpenError) -> ServeError {
        match error {
            OpenError::Storage { .. } => ServeError::Storage {
                what: error.to_string(),
            },
            OpenError::Gone => ServeError::NotFound,
            OpenError::MissingKey { .. } => ServeError::MissingKey {
                what: error.to_string(),
            },
            OpenError::Keys { .. } => ServeError::Keys {
                what: error.to_string(),
            },
            OpenError::Unplayable { reason } => ServeError::Unplayable {
                media: media_id.to_owned(),
                reason: reason.clone(),
            },
        }
    }
}
