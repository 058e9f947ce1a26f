//! The folder in which a job is made, hidden in the library: pieces that outlive a crash, and what is published in the end.
//!
//! Its name is a hash of everything that decides the result, so a job that is run again finds what it had finished, and
//! two that would make the same never write into one another's files: the second finds the lock held.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::track_file::{TrackError, io, sync_folder};

/// Where all jobs of a library are made. The dot hides it from the library.
pub const FOLDER_NAME: &str = ".headwater-transcode";
/// Beside a job's pieces: the name in the library under which it will be published.
const TARGET_NAME: &str = "target";
/// What the name of a piece's folder ends in while it is made.
const PARTIAL_SUFFIX: &str = ".partial";
/// What the name of a folder ends in that nobody needs any more.
const GONE_SUFFIX: &str = ".gone";
/// Parts of a source that are looked at for its fingerprint, and how large they are.
const PROBE_COUNT: u64 = 64;
const PROBE_SIZE_BYTES: u64 = 64 << 10;

/// Why a job has no folder.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// A file could not be made.
    #[error(transparent)]
    File(#[from] TrackError),
    /// Another process makes the same.
    #[error("another process is transcoding the same: {0} is locked")]
    Busy(PathBuf),
    /// The place is taken.
    #[error("{0} exists already")]
    Exists(PathBuf),
}

/// A job's folder, locked. It goes when it is dropped, unless it is kept for a later run.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    library: PathBuf,
    leaving: Leaving,
    _lock: File,
}

/// What becomes of a job's folder when nobody works in it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    Removed,
    Kept,
}

impl Staging {
    /// Opens or makes the folder of the job named `key` in `library`, for what will be called `target` there.
    pub fn open(library: &Path, key: &str, target: &str) -> Result<Staging, StagingError> {
        let folder = library.join(FOLDER_NAME).join(key);
        let lock = loop {
            std::fs::create_dir_all(&folder).map_err(io(&folder))?;
            match lock(&folder) {
                Ok(Some(lock)) => break lock,
                // Whoever had it before has just removed it.
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        };
        let path = folder.join(TARGET_NAME);
        std::fs::write(&path, target).map_err(io(&path))?;
        Ok(Staging {
            folder,
            library: library.to_owned(),
            leaving: Leaving::Removed,
            _lock: lock,
        })
    }

    /// Where the piece `name` lies when it is finished.
    pub fn piece(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where the piece `name` lies until then.
    fn partial(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{PARTIAL_SUFFIX}"))
    }

    /// An empty folder in which the piece `name` is made.
    pub fn begin(&self, name: &str) -> Result<PathBuf, StagingError> {
        let folder = self.partial(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(io(&folder))?;
        }
        std::fs::create_dir(&folder).map_err(io(&folder))?;
        Ok(folder)
    }

    /// The piece `name` is finished: from now on it is found again.
    pub fn finish(&self, name: &str) -> Result<(), StagingError> {
        let partial = self.partial(name);
        sync_folder(&partial)?;
        std::fs::rename(&partial, self.piece(name)).map_err(io(&partial))?;
        Ok(sync_folder(&self.folder)?)
    }

    /// Moves the piece `name` to its final place in the library: from one instant to the next all of it is there.
    pub fn publish(self, name: &str, target: &Path) -> Result<(), StagingError> {
        let from = self.partial(name);
        sync_folder(&from)?;
        // A rename would replace an empty folder.
        if target.exists() {
            return Err(StagingError::Exists(target.to_owned()));
        }
        match std::fs::rename(&from, target) {
            Ok(()) => {}
            Err(_) if target.exists() => return Err(StagingError::Exists(target.to_owned())),
            Err(error) => return Err(io(target)(error).into()),
        }
        Ok(sync_folder(&self.library)?)
    }

    /// Leaves finished pieces to a run that goes on with them and gives their folder; without any all of it goes.
    pub fn keep(mut self) -> Option<PathBuf> {
        let mut kept = None;
        for path in std::fs::read_dir(&self.folder)
            .ok()?
            .flatten()
            .map(|entry| entry.path())
        {
            match path.to_string_lossy().ends_with(PARTIAL_SUFFIX) {
                // What is half made only takes room; it is made from its beginning again.
                true => drop(std::fs::remove_dir_all(&path)),
                false if path.is_dir() => {
                    self.leaving = Leaving::Kept;
                    kept = Some(self.folder.clone());
                }
                false => {}
            }
        }
        kept
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.leaving == Leaving::Kept {
            return;
        }
        // What can not be removed is removed by the next job; the parent goes when it is empty.
        remove(&self.folder);
        let _ = std::fs::remove_dir(self.library.join(FOLDER_NAME));
    }
}

/// The lock of a job's folder; `None` where the folder went away meanwhile.
fn lock(folder: &Path) -> Result<Option<File>, StagingError> {
    let path = folder.join("lock");
    let lock = match File::options().create(true).truncate(false).write(true).open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(&path)(error).into()),
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StagingError::Busy(folder.to_owned())),
        Err(TryLockError::Error(error)) => return Err(io(&path)(error).into()),
    }
    // Whoever had it before may just have removed it: then this lock holds a file that nobody sees.
    let locked = lock.metadata().map_err(io(&path))?.ino();
    Ok(std::fs::metadata(&path)
        .is_ok_and(|seen| seen.ino() == locked)
        .then_some(lock))
}

/// Removes a job's folder. It gets another name first: whoever is killed on the way leaves what is known not to be needed.
fn remove(folder: &Path) {
    let mut gone = folder.as_os_str().to_owned();
    gone.push(GONE_SUFFIX);
    // One of this name is from a removal that was cut short.
    let _ = std::fs::remove_dir_all(&gone);
    if std::fs::rename(folder, &gone).is_ok() {
        let _ = std::fs::remove_dir_all(&gone);
    }
}

/// Removes what killed jobs left in `library` and no job will ask for: folders whose removal was cut short, and those of
/// jobs whose result is published. What a job that is run again can still use stays.
pub fn sweep(library: &Path) {
    let parent = library.join(FOLDER_NAME);
    // What can not be read or removed now is looked at by the next job.
    let Ok(entries) = std::fs::read_dir(&parent) else {
        return;
    };
    for folder in entries.flatten().map(|entry| entry.path()) {
        if folder.to_string_lossy().ends_with(GONE_SUFFIX) {
            let _ = std::fs::remove_dir_all(&folder);
            continue;
        }
        let is_published = || {
            let target = std::fs::read_to_string(folder.join(TARGET_NAME)).ok()?;
            Some(is_name(&target) && library.join(target).exists())
        };
        if is_published() == Some(true)
            && let Ok(Some(_lock)) = lock(&folder)
            && is_published() == Some(true)
        {
            remove(&folder);
        }
    }
    let _ = std::fs::remove_dir(&parent);
}

/// Whether `target` is the name of something that lies in the library itself.
fn is_name(target: &str) -> bool {
    !target.is_empty() && Path::new(target).file_name() == Some(target.as_ref())
}

/// Refuses what is not a file: whoever opens a pipe waits until somebody writes into it.
pub(crate) fn check_regular(source: &Path) -> Result<(), TrackError> {
    match std::fs::metadata(source).map_err(io(source))?.is_file() {
        true => Ok(()),
        false => Err(io(source)(std::io::Error::other("not a regular file"))),
    }
}

/// What tells a source from another of the same name: size, time of change, and a hash of parts spread over all of it.
/// Reading all of a film would take as long as decoding some of it.
pub fn fingerprint(source: &Path) -> Result<String, TrackError> {
    check_regular(source)?;
    let mut file = File::open(source).map_err(io(source))?;
    let metadata = file.metadata().map_err(io(source))?;
    let size = metadata.len();
    let mut hash = Sha256::new();
    hash.update(size.to_le_bytes());
    hash.update(metadata.mtime().to_le_bytes());
    hash.update(metadata.mtime_nsec().to_le_bytes());
    let step = (size / PROBE_COUNT).max(PROBE_SIZE_BYTES);
    let mut offset = 0;
    while offset < size {
        file.seek(SeekFrom::Start(offset)).map_err(io(source))?;
        let mut part = Vec::new();
        (&mut file)
            .take(PROBE_SIZE_BYTES)
            .read_to_end(&mut part)
            .map_err(io(source))?;
        hash.update(&part);
        offset = offset.saturating_add(step);
    }
    Ok(hexadecimal(&hash.finalize()))
}

/// The name of a job: a hash of everything that decides its result.
pub fn key(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut name = hexadecimal(&hash.finalize());
    name.truncate(32);
    name
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_finds_its_pieces_again_and_leaves_nothing() {
        let library = std::env::temp_dir().join(format!("headwater-staging-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&library);
        std::fs::create_dir(&library).unwrap();
        let staging = Staging::open(&library, "job", "film").unwrap();
        assert!(matches!(
            Staging::open(&library, "job", "film"),
            Err(StagingError::Busy(_))
        ));
        let partial = staging.begin("c1").unwrap();
        std::fs::write(partial.join("r0"), b"samples").unwrap();
        assert!(!staging.piece("c1").exists());
        staging.finish("c1").unwrap();
        assert!(staging.piece("c1").join("r0").exists());
        // A crash: nothing is dropped, the lock goes with the process.
        let Staging { _lock, .. } = &staging;
        _lock.unlock().unwrap();
        std::mem::forget(staging);
        let again = Staging::open(&library, "job", "film").unwrap();
        assert!(again.piece("c1").join("r0").exists());
        // Broken off on purpose: what is finished is kept, what is not goes.
        again.begin("c2").unwrap();
        let kept = again.keep().unwrap();
        assert_eq!(kept, library.join(FOLDER_NAME).join("job"));
        assert!(!kept.join("c2.partial").exists());
        let again = Staging::open(&library, "job", "film").unwrap();
        assert!(again.piece("c1").join("r0").exists());
        std::fs::write(again.begin("film").unwrap().join("v1.mp4"), b"film").unwrap();
        let target = library.join("film");
        again.publish("film", &target).unwrap();
        assert!(target.join("v1.mp4").exists());
        let taken = Staging::open(&library, "job", "film").unwrap();
        assert!(!taken.piece("c1").exists());
        taken.begin("film").unwrap();
        assert!(matches!(taken.publish("film", &target), Err(StagingError::Exists(_))));
        // Nothing is finished, so nothing is kept.
        let begun = Staging::open(&library, "job", "film").unwrap();
        begun.begin("c1").unwrap();
        assert_eq!(begun.keep(), None);
        let left: Vec<_> = std::fs::read_dir(&library)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["film"]);
        std::fs::remove_dir_all(&library).unwrap();
    }

    #[test]
    fn what_killed_jobs_left_goes_unless_it_is_of_use() {
        let library = std::env::temp_dir().join(format!("headwater-sweep-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&library);
        std::fs::create_dir_all(library.join("film")).unwrap();
        let parent = library.join(FOLDER_NAME);
        let killed = |key: &str, target: &str| {
            let staging = Staging::open(&library, key, target).unwrap();
            std::fs::create_dir(staging.piece("c00000")).unwrap();
            staging._lock.unlock().unwrap();
            std::mem::forget(staging);
        };
        killed("published", "film");
        killed("unfinished", "other");
        killed("outside", "../film");
        killed("nameless", "");
        std::fs::create_dir_all(parent.join("removed.gone/c00000")).unwrap();
        let running = Staging::open(&library, "running", "film").unwrap();
        sweep(&library);
        let left = || {
            let entries = std::fs::read_dir(&parent).into_iter().flatten().flatten();
            let mut names: Vec<String> = entries
                .map(|entry| entry.file_name().to_string_lossy().into())
                .collect();
            names.sort();
            names
        };
        assert_eq!(left(), ["nameless", "outside", "running", "unfinished"]);
        assert!(parent.join("unfinished/c00000").exists());
        drop(running);
        for key in ["unfinished", "outside", "nameless"] {
            drop(Staging::open(&library, key, "other").unwrap());
        }
        killed("published", "film");
        sweep(&library);
        assert!(!parent.exists());
        sweep(&library);
        std::fs::remove_dir_all(&library).unwrap();
    }

    #[test]
    fn what_differs_has_another_name() {
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_eq!(key(&[b"ab"]).len(), 32);
        let path = std::env::temp_dir().join(format!("headwater-fingerprint-{}", std::process::id()));
        std::fs::write(&path, vec![1; 10_000_000]).unwrap();
        let one = fingerprint(&path).unwrap();
        std::fs::write(&path, vec![2; 10_000_000]).unwrap();
        assert_ne!(one, fingerprint(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        // One that waits for whoever writes into the pipe hangs here.
        for other in [path.as_path(), &std::env::temp_dir(), Path::new("/dev/zero")] {
            let error = fingerprint(other).unwrap_err().to_string();
            assert!(error.ends_with(": not a regular file"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
