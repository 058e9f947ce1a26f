//! Files that a person names on the command line, opened as the library would open them.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use origin::asset::Asset;
use origin::config::{Config, Section};
use origin::library::{self, Entry};
use origin::source_keys::SourceKeyring;
use packager::crypto::vault::parse_content_key;
use packager::crypto::{ContentKey, KeyId};
use zeroize::Zeroizing;

use crate::cli::SourceKeyArguments;

/// A file of source keys: some thousand lines.
const KEYS_SIZE_BYTES_MAX: u64 = 1 << 20;

/// A named file or folder, and the settings to open it with.
pub struct Named {
    /// Its folder as a library.
    pub config: Config,
    /// What it is there.
    pub entry: Entry,
    /// Holds what is made of a scattered source, as long as it is needed.
    _cache: Scratch,
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

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
        let full = path.canonicalize().with_context(|| path.display().to_string())?;
        let parent = full.parent().unwrap_or(Path::new("/")).to_owned();
        let name = PathBuf::from(
            full.file_name()
                .with_context(|| format!("{}: has no name", path.display()))?,
        );
        let entry = match full.is_dir() {
            false => Entry::File {
                path: name,
                sidecars: Vec::new(),
            },
            true => library::folder_entry(&parent, &name).with_context(|| {
                format!(
                    "{}: a folder without ladder.toml, ladder.json or presentation.json",
                    path.display()
                )
            })?,
        };
        let scratch = std::env::temp_dir().join(format!("headwater-{}", std::process::id()));
        let section = Section {
            library: Some(parent),
            cache: Some(scratch.clone()),
            segment_duration_ms,
            ..Section::default()
        };
        Ok(Named {
            config: section.check()?,
            entry,
            _cache: Scratch(scratch),
        })
    }

    /// Opens it, with `keyring` for what is encrypted.
    pub fn open(&self, keyring: &SourceKeyring) -> Result<Asset, origin::open::OpenError> {
        origin::open::open_packed(&self.config, keyring, &self.entry.media_id(), &self.entry)
    }
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
