//! Files that a person names on the command line, opened as the library would open them.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail, ensure};
use origin::asset::Asset;
use origin::config::{Config, Section};
use origin::library::{self, Entry};
use origin::open::OpenError;
use origin::source_keys::SourceKeyring;
use packager::crypto::vault::parse_content_key;
use packager::crypto::{ContentKey, KeyId};
use zeroize::Zeroizing;

use crate::cli::SourceKeyArguments;

/// A file of source keys: some thousand lines.
const KEYS_SIZE_BYTES_MAX: u64 = 1 << 20;

/// A named file or folder, and the settings to open it with.
pub struct Named {
    /// The library that it is in: the one that was named, or its folder.
    pub config: Config,
    /// What it is there.
    pub entry: Entry,
    /// Holds what is made of a scattered source, as long as it is needed.
    _cache: Scratch,
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    /// One that nobody else in this process has. It is not there yet.
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Scratch(std::env::temp_dir().join(format!("headwater-{}-{number}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.0)
        {
            tracing::warn!(folder = %self.0.display(), %error, "scratch folder could not be removed");
        }
    }
}

impl Named {
    /// Finds out what `path` names.
    pub fn find(path: &Path, segment_duration_ms: u32) -> anyhow::Result<Named> {
        let named = || path.display().to_string();
        let full = path.canonicalize().with_context(named)?;
        let folder = full.parent().unwrap_or(Path::new("/")).to_owned();
        let name = full.file_name().with_context(|| format!("{}: has no name", named()))?;
        let entry = match full.is_dir() {
            false => library::file_entry(&folder, Path::new(name)).with_context(named)?,
            true => folder_entry(&folder, Path::new(name), path)?,
        };
        Named::new(folder, entry, segment_duration_ms)
    }

    /// Finds out what `path` names in `library`: as it is, or below it. Its media id is the one it has there.
    pub fn find_in(library: &Path, path: &Path, segment_duration_ms: u32) -> anyhow::Result<Named> {
        let root = library.canonicalize().with_context(|| library.display().to_string())?;
        let full = match path.canonicalize() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => root.join(path).canonicalize(),
            found => found,
        };
        let full = full.with_context(|| path.display().to_string())?;
        let Ok(below) = full.strip_prefix(&root) else {
            bail!(
                "{}: does not lie in the library {}; name the one it lies in with --library, or none",
                path.display(),
                library.display()
            );
        };
        let entry = match full.is_dir() {
            false => library::scan(&root)?
                .into_values()
                .find(|entry| matches!(entry, Entry::File { path, .. } if path == below))
                .with_context(|| {
                    format!(
                        "{}: the library {} does not list it: its name begins with a dot or ends like no media file's, or it \
                         is part of a folder that is one presentation",
                        path.display(),
                        library.display()
                    )
                })?,
            true => folder_entry(&root, below, path)?,
        };
        Named::new(root, entry, segment_duration_ms)
    }

    /// Whether `path` lies in `library`.
    pub fn is_in(library: &Path, path: &Path) -> bool {
        let both = library.canonicalize().ok().zip(path.canonicalize().ok());
        both.is_some_and(|(library, path)| path.starts_with(library))
    }

    fn new(library: PathBuf, entry: Entry, segment_duration_ms: u32) -> anyhow::Result<Named> {
        let scratch = Scratch::new();
        let section = Section {
            library: Some(library),
            cache: Some(scratch.0.clone()),
            segment_duration_ms,
            ..Section::default()
        };
        Ok(Named {
            config: section.check()?,
            entry,
            _cache: scratch,
        })
    }

    /// Opens it, with `keyring` for what is encrypted.
    pub fn open(&self, keyring: &SourceKeyring) -> Result<Asset, OpenError> {
        let opened = origin::open::open_packed(&self.config, keyring, &self.entry.media_id(), &self.entry);
        opened.map_err(|error| match error {
            OpenError::Gone => self.absent(),
            error => error,
        })
    }

    /// Which file is not there. The library says only that something is gone since it was scanned; here it never was.
    fn absent(&self) -> OpenError {
        let is_there = |path: &Path| self.config.library.join(path).exists();
        let (path, reason) = match &self.entry {
            Entry::Ladder { path } => {
                let description = library::read_description(&self.config.library, path).ok();
                let tracks = description.into_iter().flat_map(|description| description.tracks);
                let mut files = tracks.map(|track| path.with_file_name(track.file));
                let absent = files.find(|file| !is_there(file));
                (
                    absent.unwrap_or(path.clone()),
                    format!("is not there, and {} names it", path.display()),
                )
            }
            entry => (entry.path().to_owned(), "is not there, or part of it".to_owned()),
        };
        OpenError::Storage { path, reason }
    }

    /// What it is called in a library that it is published to: the name of its folder there.
    pub fn published_name(&self) -> anyhow::Result<String> {
        let name = self.entry.title().replace(['/', ' '], "_");
        ensure!(
            !name.starts_with('.'),
            "{}: a library does not list what is called {name}, for the name begins with a dot; rename it",
            self.entry.path().display()
        );
        Ok(name)
    }
}

/// What the folder `name` below `root` is as a whole; `path` is what it was called.
fn folder_entry(root: &Path, name: &Path, path: &Path) -> anyhow::Result<Entry> {
    library::folder_entry(root, name).with_context(|| {
        format!(
            "{}: a folder without ladder.toml, ladder.json or presentation.json",
            path.display()
        )
    })
}

/// The keys that a person names.
pub fn source_keys(arguments: &SourceKeyArguments) -> anyhow::Result<SourceKeyring> {
    let Some(path) = &arguments.source_keys else {
        return Ok(SourceKeyring::default());
    };
    let named = || path.display().to_string();
    let mut text = Zeroizing::new(String::with_capacity(KEYS_SIZE_BYTES_MAX as usize + 1));
    if path.as_os_str() == "-" {
        let stdin = std::io::stdin().lock();
        stdin.take(KEYS_SIZE_BYTES_MAX + 1).read_to_string(&mut text)?;
    } else {
        let file = std::fs::File::open(path).with_context(named)?;
        let mode = file.metadata().with_context(named)?.mode() & 0o777;
        ensure!(
            mode & 0o077 == 0,
            "{}: mode {mode:03o} lets group or others at the keys; chmod 600 it",
            path.display()
        );
        let mut file = file.take(KEYS_SIZE_BYTES_MAX + 1);
        file.read_to_string(&mut text).with_context(named)?;
    }
    ensure!(
        text.len() as u64 <= KEYS_SIZE_BYTES_MAX,
        "{}: too large for a file of keys",
        path.display()
    );
    let lines = text
        .lines()
        .map(str::trim)
        .zip(1..)
        .filter(|(line, _)| !line.is_empty());
    let keys: anyhow::Result<BTreeMap<KeyId, ContentKey>> = lines
        .map(|(line, number)| parse_source_key(line).with_context(|| format!("{}: line {number}", path.display())))
        .collect();
    Ok(SourceKeyring::named(keys?))
}

/// Reads `KID:KEY`. What is wrong is named by its place, never repeated.
fn parse_source_key(line: &str) -> anyhow::Result<(KeyId, ContentKey)> {
    let (key_id, key) = line.split_once(':').context("is not KID:KEY")?;
    let key_id = KeyId::parse(key_id).context("KID is not 32 hexadecimal digits")?;
    let key = parse_content_key(key).context("KEY is not 32 hexadecimal digits")?;
    Ok((key_id, key))
}
