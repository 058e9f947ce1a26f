//! Indexes of long files that are served where they lie, kept in the cache: after a restart or an eviction only the beginning
//! of such a file is read for its playlists, from which its container is told, and the text of Matroska.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use packager::index::TrackIndex;
use packager::presentation::Content;
use packager::presentation::stored::ManifestRefusal;
use packager::source::{Refusal, SourceTracks};
use packager::track::{Track, TrackDescription};
use serde::{Deserialize, Serialize};

use super::cache::{make_room, name_of};
use super::{INDEX_SIZE_BYTES_MAX, MANIFEST_SIZE_BYTES_MAX, Staging, StoreError, io, manifest_refused, read_whole};
use crate::asset::Asset;
use crate::config::Config;
use crate::open::OpenError;
use crate::read::SourceFile;

/// Files with fewer samples are read again as fast.
const KEPT_SAMPLE_COUNT_MIN: u64 = 1 << 15;
const FILE_NAME: &str = "index.json";
/// Room is made each time that so many bytes of indexes were written: looking through a cache of thousands takes its time.
const SWEEP_BYTES: u64 = 64 << 20;
/// Bytes of indexes that this process has written.
static WRITTEN_BYTES: AtomicU64 = AtomicU64::new(0);

/// `index.json`: what was found in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    /// Each with its index beside it, `{number}.idx`.
    tracks: Vec<TrackDescription>,
    refused: Vec<ManifestRefusal>,
}

/// What was found in a file, until it is kept.
#[derive(Debug)]
pub struct Unkept {
    folder: PathBuf,
    /// In the order of the file. The index of one that is not packed yet is an opened title's by then.
    tracks: Vec<(TrackDescription, Option<TrackIndex>)>,
    refused: Vec<Refusal>,
}

/// Size and time of this program: another one may find something else in a file.
fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let found = std::env::current_exe().and_then(std::fs::metadata);
        let modified = found.as_ref().ok().and_then(|found| found.modified().ok());
        format!("{:?} {modified:?}", found.as_ref().ok().map(std::fs::Metadata::len))
    })
}

fn folder_of(config: &Config, path: &Path, file: &SourceFile) -> PathBuf {
    config.cache.join(name_of(&format!("index {}", program()), path, file))
}

/// What was kept of `file`, which lies at `path`; `None` where nothing was. An error is one of the cache, not of the file.
pub fn find(config: &Config, path: &Path, file: &SourceFile) -> Result<Option<SourceTracks>, OpenError> {
    let folder = folder_of(config, path, file);
    let Some(name) = folder.file_name().filter(|_| folder.exists()) else {
        return Ok(None);
    };
    let damaged = |what: &str, reason: String| OpenError::Storage {
        path: folder.join(what),
        reason,
    };
    let text = read_whole(&config.cache, &Path::new(name).join(FILE_NAME), MANIFEST_SIZE_BYTES_MAX)?;
    let found: Found = serde_json::from_slice(&text).map_err(|error| damaged(FILE_NAME, error.to_string()))?;
    let mut tracks = Vec::with_capacity(found.tracks.len());
    for (number, description) in found.tracks.into_iter().enumerate() {
        let index_name = index_name(number);
        let bytes = read_whole(&config.cache, &Path::new(name).join(&index_name), INDEX_SIZE_BYTES_MAX)?;
        let index = TrackIndex::open(bytes).map_err(|error| damaged(&index_name, error.to_string()))?;
        tracks.push(Track { description, index });
    }
    let refused = found.refused.into_iter();
    Ok(Some(SourceTracks {
        tracks,
        refused: refused
            .map(|row| Refusal {
                what: row.what,
                why: row.why,
            })
            .collect(),
        ..SourceTracks::default()
    }))
}

/// Removes what was kept of `file` and can not be used.
pub fn remove(config: &Config, path: &Path, file: &SourceFile) -> std::io::Result<()> {
    std::fs::remove_dir_all(folder_of(config, path, file))
}

fn index_name(number: usize) -> String {
    format!("{number}.idx")
}

/// What of `found` in `file` is to be kept once all of it is packed; `None` where that is not worth it, and where what is
/// found depends on keys.
pub fn unkept(config: &Config, path: &Path, file: &SourceFile, found: &SourceTracks) -> Option<Unkept> {
    let count = found.tracks.iter().map(|track| u64::from(track.index.sample_count()));
    if count.sum::<u64>() < KEPT_SAMPLE_COUNT_MIN || found.has_encrypted {
        return None;
    }
    let tracks = found.tracks.iter().map(|track| {
        let index = Some(&track.index).filter(|index| index.is_packed());
        (track.description.clone(), index.cloned())
    });
    Some(Unkept {
        folder: folder_of(config, path, file),
        tracks: tracks.collect(),
        refused: found.refused.clone(),
    })
}

/// Keeps what was found in the files of `asset`, whose indexes are packed. Blocking.
pub fn keep(config: &Config, asset: &Asset) -> Result<(), StoreError> {
    for (source, file) in asset.files.iter().enumerate() {
        let Some(unkept) = file.take_unkept() else { continue };
        let packed = |wanted: &TrackDescription| {
            let mut representations = asset.presentation.representations.iter();
            representations.find_map(|representation| match &representation.content {
                Content::Samples(track) if representation.source == source && track.description == *wanted => {
                    Some(&track.index)
                }
                _ => None,
            })
        };
        let indexes = unkept.tracks.iter();
        let indexes = indexes.map(|(description, index)| index.as_ref().or_else(|| packed(description)));
        // A track that the presentation left out is not packed: then nothing is kept.
        let Some(indexes) = indexes.collect::<Option<Vec<_>>>() else {
            continue;
        };
        write(config, &unkept, &indexes)?;
    }
    Ok(())
}

fn write(config: &Config, unkept: &Unkept, indexes: &[&TrackIndex]) -> Result<(), StoreError> {
    let wrong = |error: packager::index::IndexError| StoreError::Source(error.to_string());
    let stored: Vec<_> = indexes
        .iter()
        .map(|index| index.to_stored())
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    let size: usize = stored.iter().map(bytes::Bytes::len).sum();
    std::fs::create_dir_all(&config.cache).map_err(io(&config.cache))?;
    let written = WRITTEN_BYTES.fetch_add(size as u64, Ordering::Relaxed);
    if written == 0 || written / SWEEP_BYTES != (written + size as u64) / SWEEP_BYTES {
        let room = config.cache_size_bytes_max.saturating_sub(size as u64);
        make_room(&config.cache, room).map_err(io(&config.cache))?;
    }
    let staging = match Staging::beside(&unkept.folder) {
        // Somebody else was faster; what they kept is the same.
        Err(StoreError::Exists(_)) => return Ok(()),
        staging => staging?,
    };
    for (number, bytes) in stored.iter().enumerate() {
        super::write_synced(&staging.folder.join(index_name(number)), bytes)?;
    }
    let found = Found {
        tracks: unkept
            .tracks
            .iter()
            .map(|(description, _)| description.clone())
            .collect(),
        refused: manifest_refused(&unkept.refused),
    };
    match staging.publish(FILE_NAME, &found) {
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        published => published,
    }
}

#[cfg(test)]
mod tests {
    use packager::index::{IndexWriter, NewSample};
    use packager::isobmff::sample_entry::{self, TrackFacts};
    use packager::time::Timescale;

    use super::*;
    use crate::config::Section;

    fn config() -> Config {
        let section = Section {
            library: Some(std::env::temp_dir()),
            ..Section::default()
        };
        section.check().unwrap()
    }

    fn found(sample_count: u64, has_encrypted: bool) -> SourceTracks {
        let facts = TrackFacts {
            source_track_id: 1,
            timescale: Timescale::MILLIS,
            language: "und".into(),
            label: None,
        };
        let mut writer = IndexWriter::new(Timescale::MILLIS);
        for at in 0..sample_count {
            let sample = NewSample {
                offset: at * 9,
                size: 9,
                duration: 21,
                composition_offset: 0,
                sync: true,
            };
            writer.push(sample).unwrap();
        }
        let track = Track {
            // AAC-LC, 48 kHz, stereo.
            description: sample_entry::aac(&facts, &[0x11, 0x90]).unwrap(),
            index: writer.finish(0).unwrap(),
        };
        SourceTracks {
            tracks: vec![track],
            has_encrypted,
            ..SourceTracks::default()
        }
    }

    #[test]
    fn short_files_and_those_with_something_encrypted_are_not_kept() {
        let config = config();
        let path = std::env::current_exe().unwrap();
        let file = SourceFile::open(&path).unwrap();
        let is_kept = |found: &SourceTracks| unkept(&config, &path, &file, found).is_some();
        assert!(is_kept(&found(KEPT_SAMPLE_COUNT_MIN, false)));
        assert!(!is_kept(&found(KEPT_SAMPLE_COUNT_MIN - 1, false)));
        assert!(!is_kept(&found(KEPT_SAMPLE_COUNT_MIN, true)));
    }

    /// Whatever tells one file from another tells what was kept of it.
    #[test]
    fn another_file_is_kept_elsewhere() {
        let config = config();
        let path = std::env::temp_dir().join(format!("headwater-kept-index-{}", std::process::id()));
        let folder = |bytes: &[u8], path_within: &str| {
            std::fs::write(&path, bytes).unwrap();
            folder_of(&config, Path::new(path_within), &SourceFile::open(&path).unwrap())
        };
        let one = folder(b"one", "a.mp4");
        assert_ne!(folder(b"two and more", "a.mp4"), one);
        assert_ne!(folder(b"one", "b.mp4"), one);
        std::fs::remove_file(&path).unwrap();
    }
}
