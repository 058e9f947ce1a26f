//! Scattered sources of the library, stored anew once and found again by what they were made of.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use packager::demux::Demuxer;
use sha2::{Digest, Sha256};

use super::{StoreError, StoredPresentation, write_demuxed};
use crate::config::Config;
use crate::open::OpenError;
use crate::read::SourceFile;

/// The stored form of `source`, made now unless the cache has it.
pub fn import_cached(
    config: &Config,
    path: &Path,
    source: &Arc<SourceFile>,
    demuxer: Box<dyn Demuxer>,
) -> Result<StoredPresentation, OpenError> {
    let storage = |reason: String| OpenError::Storage {
        path: path.to_owned(),
        reason,
    };
    let name = name_of("", path, source);
    std::fs::create_dir_all(&config.cache).map_err(|error| storage(format!("{}: {error}", config.cache.display())))?;
    let folder = config.cache.join(&name);
    if !folder.exists() {
        make_room(
            &config.cache,
            config
                .cache_size_bytes_max
                .saturating_sub(packager::source::ReadAt::size(source.as_ref())),
        )
        .map_err(|error| storage(error.to_string()))?;
        match write_demuxed(source, demuxer, "", config.target, &folder) {
            Ok(()) => {}
            // Somebody else was faster; what they stored is the same.
            Err(StoreError::Exists(_)) => {}
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            Err(StoreError::Source(reason)) => {
                return Err(OpenError::Unplayable {
                    reason: format!("{}: {reason}", path.display()),
                });
            }
            Err(error) => return Err(storage(error.to_string())),
        }
    }
    super::open(&config.cache, Path::new(&name))
}

/// Names what was made of `source`, which lies at `path`, by `how`. Nothing of the fingerprint may be forgotten: a file that
/// was replaced must be looked at again. So must what an older version stored in another format.
pub(super) fn name_of(how: &str, path: &Path, source: &SourceFile) -> String {
    let format = packager::index::MAGIC;
    let what = format!("{format:?}{how}\n{}\n{:?}", path.display(), source.fingerprint());
    let digest = Sha256::digest(what.as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Removes what was made longest ago until at most `size_bytes_max` are kept. Open files live on until closed.
pub(super) fn make_room(cache: &Path, size_bytes_max: u64) -> std::io::Result<()> {
    let mut kept: Vec<(std::time::SystemTime, u64, PathBuf)> = Vec::new();
    for folder in std::fs::read_dir(cache)? {
        let folder = folder?;
        if !folder.file_type()?.is_dir() || folder.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let mut size = 0;
        for file in std::fs::read_dir(folder.path())? {
            size += file?.metadata()?.len();
        }
        kept.push((folder.metadata()?.modified()?, size, folder.path()));
    }
    kept.sort();
    let mut total: u64 = kept.iter().map(|(_, size, _)| size).sum();
    for (_, size, folder) in kept {
        if total <= size_bytes_max {
            break;
        }
        std::fs::remove_dir_all(&folder)?;
        total -= size;
    }
    Ok(())
}
