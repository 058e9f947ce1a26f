//! The library: a folder of files and ladder folders, each with a stable media id.
//!
//! An id is made of the path below the library alone, so it is the same on every machine that holds the same tree, and
//! no URL ever carries a path.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use packager::presentation::LadderDescription;
use packager::source::ReadAt;
use sha2::{Digest, Sha256};

use crate::read::SourceFile;

/// Entries kept of one library.
const ENTRY_COUNT_MAX: usize = 200_000;
/// Nesting of folders that is walked.
const DEPTH_MAX: usize = 12;
/// Longest `ladder.toml` or `ladder.json` that is read.
const DESCRIPTION_SIZE_BYTES_MAX: u64 = 1 << 20;

/// Names of files that make their folder one presentation.
const LADDER_NAMES: [&str; 2] = ["ladder.toml", "ladder.json"];
pub use packager::presentation::stored::FILE_NAME as STORED_NAME;

const MEDIA_EXTENSIONS: [&str; 40] = [
    "mp4", "m4v", "m4a", "mov", "qt", "cmfv", "cmfa", "cmft", "ismv", "isma", "m4s", "3gp", "3g2", "f4v", "mkv",
    "webm", "mka", "ts", "m2ts", "mts", "trp", "aac", "adts", "mp3", "mp2", "ac3", "ec3", "eac3", "flac", "ogg",
    "opus", "oga", "ogv", "ac4", "mpg", "mpeg", "avi", "mxf", "bmff", "wav",
];
const TEXT_EXTENSIONS: [&str; 6] = ["vtt", "webvtt", "srt", "ttml", "dfxp", "xml"];

/// Something in the library that becomes one presentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// One media file, with the subtitle files that share its stem.
    File {
        /// Path below the library.
        path: PathBuf,
        /// `film.en.vtt` beside `film.mp4`: path and language tag.
        sidecars: Vec<(PathBuf, Option<String>)>,
    },
    /// A folder with a ladder description.
    Ladder {
        /// Path of the description below the library.
        path: PathBuf,
    },
    /// A folder in the stored form.
    Stored {
        /// Path of the folder below the library.
        path: PathBuf,
    },
}

impl Entry {
    /// The path that names the entry: the file, or the folder of a ladder or stored presentation.
    pub fn path(&self) -> &Path {
        match self {
            Entry::File { path, .. } | Entry::Stored { path } => path,
            Entry::Ladder { path } => path.parent().unwrap_or(path),
        }
    }

    /// Title for people when nothing better is known.
    pub fn title(&self) -> String {
        let name = match self {
            Entry::File { path, .. } => path.file_stem(),
            _ => self.path().file_name(),
        };
        let name = name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let words: Vec<&str> = name.split(['_', ' ']).filter(|word| !word.is_empty()).collect();
        let name = words.join(" ");
        if name.is_empty() { "untitled".to_owned() } else { name }
    }

    /// The entry's name in URLs: readable, and unique by eight hexadecimal digits of its path's hash. A stored presentation
    /// whose folder lies in the library itself and is named by a UUID, as the control plane names its assets, has that name.
    pub fn media_id(&self) -> String {
        if let Entry::Stored { path } = self
            && let Some(name) = path.to_str().filter(|name| is_uuid(name))
        {
            return name.to_owned();
        }
        let path = self.path().to_string_lossy();
        let stem = match self {
            Entry::File { path, .. } => path.with_extension("").to_string_lossy().into_owned(),
            _ => path.clone().into_owned(),
        };
        let mut slug = String::new();
        for character in stem.chars() {
            match character.to_ascii_lowercase() {
                plain @ ('a'..='z' | '0'..='9') => slug.push(plain),
                _ if slug.is_empty() || slug.ends_with('-') => {}
                _ => slug.push('-'),
            }
            if slug.len() >= 64 {
                break;
            }
        }
        let hash: String = Sha256::digest(path.as_bytes())
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        match slug.trim_end_matches('-') {
            "" => hash,
            slug => format!("{slug}-{hash}"),
        }
    }
}

/// Whether `name` is a UUID as RFC 9562 4 writes it, in small letters.
pub fn is_uuid(name: &str) -> bool {
    name.len() == 36
        && name.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Why a library or a description in it could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A folder or file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A ladder description is not one.
    #[error("{path}: {reason}")]
    Description {
        /// The description.
        path: PathBuf,
        /// What is wrong, with its line.
        reason: String,
    },
}

/// Everything below `root`, by media id. Symbolic links are never followed, names that begin with a dot are skipped.
pub fn scan(root: &Path) -> Result<BTreeMap<String, Entry>, LibraryError> {
    let mut entries = BTreeMap::new();
    let mut folders = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let path = root.join(&folder);
        let io = |source| LibraryError::Io {
            path: path.clone(),
            source,
        };
        let mut names: Vec<(PathBuf, bool)> = Vec::new();
        let items = match std::fs::read_dir(&path) {
            // One folder that is not ours to read, like `lost+found`, or that has gone meanwhile, does not take the others away.
            Err(error) if depth > 0 && error.kind() == ErrorKind::NotFound => continue,
            Err(error) if depth > 0 && error.kind() == ErrorKind::PermissionDenied => {
                tracing::debug!(path = %path.display(), %error, "a folder of the library is left out");
                continue;
            }
            items => items.map_err(io)?,
        };
        for item in items {
            let item = item.map_err(io)?;
            let kind = item.file_type().map_err(io)?;
            if item.file_name().to_string_lossy().starts_with('.') || !(kind.is_dir() || kind.is_file()) {
                continue;
            }
            names.push((folder.join(item.file_name()), kind.is_dir()));
        }
        names.sort();
        let files: Vec<&PathBuf> = names
            .iter()
            .filter(|(_, is_folder)| !is_folder)
            .map(|(path, _)| path)
            .collect();
        let named = |name: &str| {
            files
                .iter()
                .find(|path| path.file_name().is_some_and(|file| file == name))
        };
        if named(STORED_NAME).is_some() {
            insert(&mut entries, Entry::Stored { path: folder });
            continue;
        }
        if let Some(description) = LADDER_NAMES.iter().find_map(|name| named(name)) {
            insert(
                &mut entries,
                Entry::Ladder {
                    path: (*description).clone(),
                },
            );
            continue;
        }
        for path in &files {
            if has_extension(path, &MEDIA_EXTENSIONS) {
                insert(
                    &mut entries,
                    Entry::File {
                        path: (*path).clone(),
                        sidecars: sidecars(path, &files),
                    },
                );
            }
        }
        if depth < DEPTH_MAX {
            folders.extend(
                names
                    .into_iter()
                    .filter(|(_, is_folder)| *is_folder)
                    .map(|(path, _)| (path, depth + 1)),
            );
        }
        if entries.len() >= ENTRY_COUNT_MAX {
            tracing::warn!(
                count = ENTRY_COUNT_MAX,
                "library holds more entries than are kept; the rest is not served"
            );
            break;
        }
    }
    Ok(entries)
}

/// What the folder `name` below `root` is as a whole: a ladder or a stored presentation, or `None`.
pub fn folder_entry(root: &Path, name: &Path) -> Option<Entry> {
    let has = |file: &str| root.join(name).join(file).is_file();
    if has(STORED_NAME) {
        return Some(Entry::Stored { path: name.to_owned() });
    }
    let description = LADDER_NAMES.into_iter().find(|file| has(file))?;
    Some(Entry::Ladder {
        path: name.join(description),
    })
}

fn insert(entries: &mut BTreeMap<String, Entry>, entry: Entry) {
    entries.insert(entry.media_id(), entry);
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|extension| extensions.contains(&extension.as_str()))
}

/// The file at `path` below `root`, with the text files beside it that a library takes with it, whatever it is called itself
/// and whatever else its folder is.
pub fn file_entry(root: &Path, path: &Path) -> Result<Entry, LibraryError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let full = root.join(folder);
    let io = |source| LibraryError::Io {
        path: full.clone(),
        source,
    };
    let mut files = Vec::new();
    for item in std::fs::read_dir(&full).map_err(io)? {
        let item = item.map_err(io)?;
        if item.file_type().map_err(io)?.is_file() {
            files.push(folder.join(item.file_name()));
        }
    }
    files.sort();
    Ok(Entry::File {
        sidecars: sidecars(path, &files.iter().collect::<Vec<_>>()),
        path: path.to_owned(),
    })
}

/// Text files whose name is the media file's stem, optionally followed by a language tag: `film.vtt`, `film.pt-BR.srt`.
fn sidecars(media: &Path, files: &[&PathBuf]) -> Vec<(PathBuf, Option<String>)> {
    let Some(stem) = media.file_stem().map(|stem| stem.to_string_lossy().into_owned()) else {
        return Vec::new();
    };
    let texts = files.iter().filter(|path| has_extension(path, &TEXT_EXTENSIONS));
    texts
        .filter_map(|path| {
            let name = path.file_stem()?.to_string_lossy().into_owned();
            let rest = name.strip_prefix(&stem)?;
            match rest.strip_prefix('.') {
                None => rest.is_empty().then(|| ((*path).clone(), None)),
                Some(tag) => {
                    let plain =
                        (2..=16).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                    plain.then(|| ((*path).clone(), Some(tag.to_owned())))
                }
            }
        })
        .collect()
}

/// Reads and checks a ladder description.
pub fn read_description(root: &Path, path: &Path) -> Result<LadderDescription, LibraryError> {
    let wrong = |reason: String| LibraryError::Description {
        path: path.to_owned(),
        reason,
    };
    let io = |source| LibraryError::Io {
        path: path.to_owned(),
        source,
    };
    // Through no link: what is wrong with a description is told, and may quote it.
    let file = SourceFile::open_beneath(root, path).map_err(io)?;
    let size = file.size();
    if size > DESCRIPTION_SIZE_BYTES_MAX {
        return Err(wrong(format!(
            "{size} bytes, at most {DESCRIPTION_SIZE_BYTES_MAX} are read"
        )));
    }
    let mut text = vec![0; size as usize];
    file.read_exact_at(&mut text, 0).map_err(io)?;
    let text = String::from_utf8(text).map_err(|_| wrong("not UTF-8".into()))?;
    let description: LadderDescription = match has_extension(path, &["json"]) {
        true => serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?,
        false => toml::from_str(&text).map_err(|error| wrong(error.to_string()))?,
    };
    if description.tracks.is_empty() {
        return Err(wrong("names no track".into()));
    }
    for track in &description.tracks {
        let mut parts = Path::new(&track.file).components();
        let plain = matches!(
            (parts.next(), parts.next()),
            (Some(std::path::Component::Normal(_)), None)
        );
        if !plain {
            return Err(wrong(format!(
                "track file \"{}\" must be a name in the same folder",
                track.file
            )));
        }
    }
    Ok(description)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_readable_and_unique() {
        let id = |path: &str| {
            Entry::File {
                path: path.into(),
                sidecars: Vec::new(),
            }
            .media_id()
        };
        assert!(id("films/Big Buck (2008).mp4").starts_with("films-big-buck-2008-"));
        assert_ne!(id("a/b.mp4"), id("a-b.mp4"));
        assert_ne!(id("a.mp4"), id("a.mkv"));
        assert_eq!(id("…….mp4").len(), 8);
    }

    #[test]
    fn assets_of_the_control_plane_keep_their_names() {
        let id = |path: &str| Entry::Stored { path: path.into() }.media_id();
        let name = "0190f0e4-1c2d-7a3b-8c4d-5e6f708192a3";
        assert_eq!(id(name), name);
        for other in [
            &name.to_uppercase(),
            &format!("deep/{name}"),
            &name.replace('-', "0"),
            &format!("{name}0"),
        ] {
            assert_ne!(&id(other), other);
        }
    }

    #[test]
    fn a_tree_becomes_entries() {
        let root = std::env::temp_dir().join(format!("headwater-library-{}", std::process::id()));
        for folder in ["ladder", "stored", ".hidden", "deep/er"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in [
            "film.mp4",
            "film.en.vtt",
            "film.srt",
            "film.x.y.vtt",
            "filmette.vtt",
            "notes.txt",
            "ladder/ladder.toml",
            "ladder/video.mp4",
            "stored/presentation.json",
            "stored/v1.mp4",
            ".hidden/film.mp4",
            "deep/er/a.MKV",
        ] {
            std::fs::write(root.join(file), b"").unwrap();
        }
        std::os::unix::fs::symlink("film.mp4", root.join("link.mp4")).unwrap();
        let entries: Vec<Entry> = scan(&root).unwrap().into_values().collect();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(entries.len(), 4, "{entries:?}");
        assert!(entries.contains(&Entry::Ladder {
            path: "ladder/ladder.toml".into()
        }));
        assert!(entries.contains(&Entry::Stored { path: "stored".into() }));
        assert!(entries.contains(&Entry::File {
            path: "deep/er/a.MKV".into(),
            sidecars: Vec::new()
        }));
        let sidecars = vec![("film.en.vtt".into(), Some("en".to_owned())), ("film.srt".into(), None)];
        assert!(entries.contains(&Entry::File {
            path: "film.mp4".into(),
            sidecars
        }));
    }

    #[test]
    fn a_description_is_read_through_no_link() {
        let root = std::env::temp_dir().join(format!("headwater-library-link-{}", std::process::id()));
        std::fs::create_dir_all(root.join("film")).unwrap();
        std::fs::write(root.join("secret"), "secret = of-nobody").unwrap();
        std::os::unix::fs::symlink(root.join("secret"), root.join("film/ladder.toml")).unwrap();
        let error = read_description(&root, Path::new("film/ladder.toml")).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("of-nobody"), "{error:?}");
        assert!(matches!(error, LibraryError::Io { .. }), "{error:?}");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
