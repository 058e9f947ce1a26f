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
    _lock: File,
}

impl Staging {
    /// Opens or makes the folder of the job named `key` in `library`.
    pub fn open(library: &Path, key: &str) -> Result<Staging, StagingError> {
        let folder = library.join(FOLDER_NAME).join(key);
        let path = folder.join("lock");
        loop {
            std::fs::create_dir_all(&folder).map_err(io(&folder))?;
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(io(&path))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(StagingError::Busy(folder)),
                Err(TryLockError::Error(error)) => return Err(io(&path)(error).into()),
            }
            // Whoever had it before may just have removed it: then this lock holds a file that nobody sees.
            let locked = lock.metadata().map_err(io(&path))?.ino();
            if std::fs::metadata(&path).is_ok_and(|seen| seen.ino() == locked) {
                return Ok(Staging {
                    folder,
                    library: library.to_owned(),
                    _lock: lock,
                });
            }
        }
    }

    /// Where the piece `name` lies when it is finished.
    pub fn piece(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An empty folder in which the piece `name` is made.
    pub fn begin(&self, name: &str) -> Result<PathBuf, StagingError> {
        let folder = self.folder.join(format!("{name}.partial"));
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(io(&folder))?;
        }
        std::fs::create_dir(&folder).map_err(io(&folder))?;
        Ok(folder)
    }

    /// The piece `name` is finished: from now on it is found again.
    pub fn finish(&self, name: &str) -> Result<(), StagingError> {
        let partial = self.folder.join(format!("{name}.partial"));
        sync_folder(&partial)?;
        std::fs::rename(&partial, self.piece(name)).map_err(io(&partial))?;
        Ok(sync_folder(&self.folder)?)
    }

    /// Moves the piece `name` to its final place in the library: from one instant to the next all of it is there.
    pub fn publish(self, name: &str, target: &Path) -> Result<(), StagingError> {
        let from = self.folder.join(format!("{name}.partial"));
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
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What can not be removed is removed by the next job of the same name; the parent goes when it is empty.
        let _ = std::fs::remove_dir_all(&self.folder);
        let _ = std::fs::remove_dir(self.library.join(FOLDER_NAME));
    }
}

/// What tells a source from another of the same name: size, time of change, and a hash of parts spread over all of it.
/// Reading all of a film would take as long as decoding some of it.
pub fn fingerprint(source: &Path) -> Result<String, TrackError> {
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
        let staging = Staging::open(&library, "job").unwrap();
        assert!(matches!(Staging::open(&library, "job"), Err(StagingError::Busy(_))));
        let partial = staging.begin("c1").unwrap();
        std::fs::write(partial.join("r0"), b"samples").unwrap();
        assert!(!staging.piece("c1").exists());
        staging.finish("c1").unwrap();
        assert!(staging.piece("c1").join("r0").exists());
        // A crash: nothing is dropped, the lock goes with the process.
        let Staging { _lock, .. } = &staging;
        _lock.unlock().unwrap();
        std::mem::forget(staging);
        let again = Staging::open(&library, "job").unwrap();
        assert!(again.piece("c1").join("r0").exists());
        std::fs::write(again.begin("film").unwrap().join("v1.mp4"), b"film").unwrap();
        let target = library.join("film");
        again.publish("film", &target).unwrap();
        assert!(target.join("v1.mp4").exists());
        let taken = Staging::open(&library, "job").unwrap();
        assert!(!taken.piece("c1").exists());
        taken.begin("film").unwrap();
        assert!(matches!(taken.publish("film", &target), Err(StagingError::Exists(_))));
        let left: Vec<_> = std::fs::read_dir(&library)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["film"]);
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
    }
}
