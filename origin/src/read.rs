//! Source files: opened beneath the library's root, read in ranges, never written.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use memmap2::{Advice, MmapMut};
use packager::source::{ReadAt, ReadError};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use crate::arena::Region;
use crate::hot::Held;
use crate::source_keys::SourceCipher;
use crate::stored::kept_index::Unkept;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Fingerprint {
    /// Of an open file's or a path's metadata.
    pub fn of(metadata: &std::fs::Metadata) -> Fingerprint {
        Fingerprint {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        }
    }
}

/// What is read at once and has so many bytes, the `moov` of a film, is read into huge pages. Touching fresh memory 4 KiB
/// at a time takes three times as long as reading it from the page cache.
const LARGE_SIZE_BYTES: usize = 2 << 20;

/// Memory that `size` bytes take which were read at once.
pub(crate) fn memory_bytes(size: usize) -> usize {
    match size >= LARGE_SIZE_BYTES {
        true => size.next_multiple_of(LARGE_SIZE_BYTES),
        false => size,
    }
}

/// An open source file of known size. Blocking: callers read on the blocking pool.
#[derive(Debug)]
pub struct SourceFile {
    /// Before `file`, so that its addresses are given back before the descriptor is closed.
    region: OnceLock<Option<Region>>,
    file: File,
    size: u64,
    fingerprint: Fingerprint,
    pub(crate) paging: Paging,
    /// What its samples are encrypted with, once that is known.
    cipher: OnceLock<SourceCipher>,
    /// What was found in it, where that is to be kept on disk and is not yet.
    unkept: Mutex<Option<Unkept>>,
    /// Counts its memory, where it is a file in memory.
    _held: Option<Held>,
}

/// What was learnt of a file's place in the page cache.
#[derive(Debug, Default)]
pub(crate) struct Paging {
    /// `cachestat` is not allowed for this file: the kernel wants its owner or a writer.
    pub cachestat_refused: AtomicBool,
    /// Where the last range ends that the kernel was asked to read ahead.
    pub advised_to: AtomicU64,
    /// Its file system is one in memory; looked up where that does not say by itself whether a read would wait.
    in_memory: OnceLock<bool>,
}

/// File systems that are memory themselves (`statfs(2)`): tmpfs with memory files, and ramfs.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Whether `file` lies in memory rather than on a disk.
fn lies_in_memory(file: &File) -> bool {
    // Of the type's numbers none is negative; how wide it is differs.
    rustix::fs::fstatfs(file).is_ok_and(|found| MEMORY_FILE_SYSTEMS.contains(&(found.f_type as u64 & 0xffff_ffff)))
}

impl SourceFile {
    /// Opens a regular file below `root`. `relative` is resolved by the kernel beneath `root` without following any
    /// symbolic link, so a link planted in the library leads nowhere.
    pub fn open_beneath(root: &Path, relative: &Path) -> std::io::Result<SourceFile> {
        use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
        let directory = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = File::from(openat2(directory, relative, flags, Mode::empty(), resolve)?);
        SourceFile::from_file(file)
    }

    /// Opens a regular file by its path, for commands that a person gives a path to.
    pub fn open(path: &Path) -> std::io::Result<SourceFile> {
        SourceFile::from_file(File::open(path)?)
    }

    /// An open file.
    pub(crate) fn from_file(file: File) -> std::io::Result<SourceFile> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(SourceFile {
            size: metadata.len(),
            fingerprint: Fingerprint::of(&metadata),
            region: OnceLock::new(),
            paging: Paging::default(),
            cipher: OnceLock::new(),
            unkept: Mutex::default(),
            _held: None,
            file,
        })
    }

    /// A file in memory, which `held` counts until nobody is sent it any more.
    pub(crate) fn in_memory(file: File, held: Held) -> std::io::Result<SourceFile> {
        Ok(SourceFile {
            _held: Some(held),
            ..SourceFile::from_file(file)?
        })
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Its descriptor.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The addresses that stand for the file's bytes; `None` where the system gives none away.
    pub(crate) fn region(&self) -> Option<&Region> {
        self.region.get_or_init(|| Region::new(&self.file, self.size)).as_ref()
    }

    /// Fills the start of `parts`, one after the other, with what the page cache holds from `offset`, without waiting for a
    /// disk. A short count means that the rest must be read where blocking is allowed; so does an error.
    pub(crate) fn read_cached(&self, parts: &mut [std::io::IoSliceMut<'_>], offset: u64) -> std::io::Result<usize> {
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        match rustix::io::preadv2(&self.file, parts, offset, flags) {
            // Of what lies in memory anyway, such as segments that many want, the kernel promises nothing.
            Err(Errno::OPNOTSUPP) if *self.paging.in_memory.get_or_init(|| lies_in_memory(&self.file)) => {
                Ok(rustix::io::preadv(&self.file, parts, offset)?)
            }
            read => Ok(read?),
        }
    }

    /// Says that samples of it are encrypted. What was said first holds.
    pub(crate) fn set_cipher(&self, cipher: SourceCipher) {
        self.cipher.get_or_init(|| cipher);
    }

    /// What its samples are encrypted with; `None` when all are clear. Whoever reads samples must ask.
    pub(crate) fn cipher(&self) -> Option<&SourceCipher> {
        self.cipher.get()
    }

    /// Leaves what was found in it for whoever keeps it.
    pub(crate) fn set_unkept(&self, unkept: Option<Unkept>) {
        *self.unkept.lock().unwrap_or_else(PoisonError::into_inner) = unkept;
    }

    /// Whether something that was found in it is to be kept.
    pub(crate) fn has_unkept(&self) -> bool {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// What was found in it and is to be kept, once.
    pub(crate) fn take_unkept(&self) -> Option<Unkept> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Where the kernel says that it lies now.
    pub fn path(&self) -> std::io::Result<std::path::PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// What the file was when it was opened.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// `size` bytes at `offset`, in huge pages; `None` where the system has none to give.
    fn read_large(&self, offset: u64, size: usize) -> std::io::Result<Option<Bytes>> {
        // As much more as it may begin in front of a huge page; what is not touched is not there.
        let Ok(mut memory) = MmapMut::map_anon(memory_bytes(size).saturating_add(LARGE_SIZE_BYTES)) else {
            return Ok(None);
        };
        if memory.advise(Advice::HugePage).is_err() {
            return Ok(None);
        }
        let start = memory.as_ptr().align_offset(LARGE_SIZE_BYTES);
        let Some(aligned) = memory.get_mut(start..).and_then(|aligned| aligned.get_mut(..size)) else {
            return Ok(None);
        };
        self.read_exact_at(aligned, offset)?;
        Ok(Some(Bytes::from_owner(memory).slice(start..start + size)))
    }

    /// Fills `buffer` from `offset`.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

impl ReadAt for SourceFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, size: usize) -> Result<Bytes, ReadError> {
        let want = size as u64;
        if offset.checked_add(want).is_none_or(|end| end > self.size) {
            return Err(ReadError::PastEnd {
                offset,
                want,
                size: self.size,
            });
        }
        let storage = |error: std::io::Error| ReadError::Storage {
            offset,
            want,
            reason: error.to_string(),
        };
        if size >= LARGE_SIZE_BYTES
            && let Some(large) = self.read_large(offset, size).map_err(storage)?
        {
            return Ok(large);
        }
        // Not filled with zeros first.
        let mut buffer = Vec::with_capacity(size);
        while buffer.len() < size {
            let at = offset + buffer.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut buffer), at) {
                Ok(0) => return Err(storage(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(storage(error.into())),
            }
        }
        // There may have been room for more.
        buffer.truncate(size);
        Ok(Bytes::from(buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_from_disks() {
        let memory = rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert!(lies_in_memory(&memory.into()));
        assert!(!lies_in_memory(&File::open("/proc/self/stat").unwrap()));
        let here = std::env::current_exe().unwrap();
        let said = std::process::Command::new("stat")
            .args(["-f", "-c", "%T"])
            .arg(&here)
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let expected = ["tmpfs", "ramfs"].contains(&said.trim());
        assert_eq!(lies_in_memory(&File::open(here).unwrap()), expected, "{said}");
    }

    #[test]
    fn memory_is_read_without_waiting() {
        use std::io::{IoSliceMut, Write};
        let memory = rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut file = File::from(memory);
        file.write_all(b"kept").unwrap();
        let file = SourceFile::from_file(file).unwrap();
        let mut read = [0; 4];
        assert_eq!(file.read_cached(&mut [IoSliceMut::new(&mut read)], 0).unwrap(), 4);
        assert_eq!(&read, b"kept");
    }

    #[test]
    fn what_is_large_is_read_whole() {
        let path = std::env::temp_dir().join(format!("headwater-large-{}", std::process::id()));
        let bytes: Vec<u8> = (0u32..)
            .flat_map(u32::to_le_bytes)
            .take(2 * LARGE_SIZE_BYTES + 5)
            .collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = SourceFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        for (offset, size) in [
            (0, bytes.len()),
            (5, LARGE_SIZE_BYTES),
            (1, LARGE_SIZE_BYTES - 1),
            (3, LARGE_SIZE_BYTES + 1),
        ] {
            let got = file.read_at(offset as u64, size).unwrap();
            assert!(got == bytes[offset..offset + size], "{size} bytes at {offset}");
        }
        // Somebody cuts it while it is open.
        let cut = std::fs::File::options()
            .write(true)
            .open(format!("/proc/self/fd/{}", file.file.as_raw_fd()));
        cut.unwrap().set_len(LARGE_SIZE_BYTES as u64).unwrap();
        let error = file.read_at(0, bytes.len()).unwrap_err();
        assert!(matches!(error, ReadError::Storage { .. }), "{error}");
    }

    #[test]
    fn nothing_outside_the_root_opens() {
        let root = std::env::temp_dir().join(format!("headwater-read-{}", std::process::id()));
        std::fs::create_dir_all(root.join("library/sub")).unwrap();
        std::fs::write(root.join("secret"), b"secret").unwrap();
        std::fs::write(root.join("library/sub/film"), b"film").unwrap();
        std::os::unix::fs::symlink(root.join("secret"), root.join("library/link")).unwrap();
        std::os::unix::fs::symlink("sub", root.join("library/inner")).unwrap();
        let library = root.join("library");
        let check = |relative: &str, opens: bool| {
            assert_eq!(
                SourceFile::open_beneath(&library, Path::new(relative)).is_ok(),
                opens,
                "{relative}"
            );
        };
        check("sub/film", true);
        check("link", false);
        check("inner/film", false);
        check("../secret", false);
        check("sub/../../secret", false);
        check("/etc/passwd", false);
        check("sub", false);
        check("absent", false);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
