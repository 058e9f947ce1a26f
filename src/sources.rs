//! Files that a person names on the command line, opened as the library would open them.

use std::path::{Path, PathBuf};

use anyhow::Context;
use origin::asset::Asset;
use origin::config::{Config, Section};
use origin::library::{self, Entry};

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

    /// Opens it.
    pub fn open(&self) -> Result<Asset, origin::open::OpenError> {
        origin::open::open(&self.config, &self.entry.media_id(), &self.entry)
    }
}
