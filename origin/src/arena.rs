//! File ranges in the shape of memory: an address names a byte of an open file, and nothing is ever mapped there.
//!
//! hyper takes a body as memory slices and hands the very same slices to the transport (`poll_write_vectored`). So a
//! slice can stand for bytes that are not in memory: a stretch of address space is reserved without any right to touch
//! it, every open source file gets a part of it, and the transport turns an address back into (file, offset) and lets
//! the kernel send the bytes (`sendfile`).
//!
//! Why names and not mappings of the files: source files belong to other people, who may truncate them at any time.
//! Reading a mapping past the new end kills the process (SIGBUS); a `sendfile` past it just comes back short, which
//! ends that one connection. Nothing of headwater or hyper looks into these slices:
//!
//! - hyper's HTTP/1 writer pushes body buffers into its queue uncopied as long as the transport is vectored and
//!   `pipeline_flush` is off (`WriteStrategy::Queue`), whatever their size; encoders only count bytes;
//! - HTTP/2 copies small chunks: such connections never get a file slice (`body::Delivery`). Where TLS is sealed in this
//!   process, its transport looks the slices up and reads the files itself.
//!
//! A part of the reservation names no file but what a connection has on its [`crate::tray`], by the same rules.
//!
//! Were both wrong one day, the read faults at once and loudly instead of sending wrong bytes to a cache that keeps
//! them for a year; a kernel call that is handed such a slice answers `EFAULT`. The tests send every kind of answer.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Buf;
use rustix::mm::{MapFlags, ProtFlags};

use crate::read::SourceFile;

/// Address space is given out in pieces of this size: 64 MiB, so that a small file costs little of it.
const GRANULE_SHIFT: u32 = 26;
const GRANULE_SIZE: usize = 1 << GRANULE_SHIFT;
/// Wanted and least address space: 16 TiB holds 260,000 small files or 16 TiB of large ones, all open at once.
const RESERVATION_SIZES: std::ops::RangeInclusive<u32> = 36..=44;
/// Of a table entry: the file system has no `sendfile`.
const REFUSED: u64 = 1 << 63;
/// Of a table entry, in place of a descriptor + 1: bytes on a tray. No process has so many descriptors.
const TRAY: u64 = (1 << 31) - 1;
/// Things on one tray that have names at once. hyper queues 16 buffers.
pub const TRAY_PLACE_COUNT: usize = 16;

/// The process's reservation of address space.
pub struct Arena {
    base: usize,
    /// For each granule 0, or (descriptor + 1) << 32 | which granule of its file this is, with [`REFUSED`].
    granules: Vec<AtomicU64>,
    /// Free granules: first → count.
    free: Mutex<BTreeMap<usize, usize>>,
    /// Names of what lies on trays: all connections use the same ones, each for what is its own.
    tray: OnceLock<Option<Region>>,
}

/// The reservation, made when first asked for; `None` where the system does not give address space away.
pub fn arena() -> Option<&'static Arena> {
    static ARENA: OnceLock<Option<Arena>> = OnceLock::new();
    ARENA.get_or_init(Arena::reserve).as_ref()
}

impl Arena {
    fn reserve() -> Option<Arena> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let reserved = RESERVATION_SIZES.rev().find_map(|shift| {
            let size = 1_usize.checked_shl(shift)?;
            // SAFETY: without MAP_FIXED the kernel picks addresses that nothing else uses; no memory is made accessible.
            let base = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), size, ProtFlags::empty(), flags) };
            Some((base.ok()?.expose_provenance(), size))
        });
        let (base, size) = reserved?;
        let count = size >> GRANULE_SHIFT;
        Some(Arena {
            base,
            granules: std::iter::repeat_with(AtomicU64::default).take(count).collect(),
            free: Mutex::new(BTreeMap::from([(0, count)])),
            tray: OnceLock::new(),
        })
    }

    /// Addresses for the first `size` bytes of the file `descriptor`, which stays open as long as the region lives.
    fn take(&'static self, descriptor: RawFd, size: u64) -> Option<Region> {
        let count = usize::try_from(size.div_ceil(GRANULE_SIZE as u64)).ok()?.max(1);
        let tag = u64::try_from(descriptor).ok()? + 1;
        if tag == TRAY {
            return None;
        }
        self.take_granules(tag, count)
    }

    /// `count` granules whose entries say `tag`.
    fn take_granules(&'static self, tag: u64, count: usize) -> Option<Region> {
        let first = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let (&first, &available) = free.iter().find(|(_, available)| **available >= count)?;
            free.remove(&first);
            if available > count {
                free.insert(first + count, available - count);
            }
            first
        };
        for (index, granule) in self.granules.get(first..first + count)?.iter().enumerate() {
            granule.store(tag << 32 | index as u64, Ordering::Release);
        }
        Some(Region {
            arena: self,
            first,
            count,
        })
    }

    fn entry(&self, address: usize) -> Option<&AtomicU64> {
        self.granules.get(address.wrapping_sub(self.base) >> GRANULE_SHIFT)
    }

    /// What `slice` stands for; `None` for plain memory.
    pub fn lookup<'a>(&self, slice: &'a [u8]) -> Option<Name<'a>> {
        let address = slice.as_ptr().addr();
        let entry = self.entry(address)?.load(Ordering::Acquire);
        let tag = (entry & !REFUSED) >> 32;
        let inner = address.wrapping_sub(self.base) & (GRANULE_SIZE - 1);
        if tag == TRAY {
            return Some(Name::Tray {
                place: (entry & u64::from(u32::MAX)) as usize,
                offset: inner,
            });
        }
        let descriptor = i32::try_from(tag).ok()?.checked_sub(1)?;
        if descriptor < 0 {
            return None;
        }
        // SAFETY: only `FileSlice::chunk` makes slices of the reservation, and a `FileSlice` keeps its file open; so the
        // descriptor is open as long as the slice is borrowed.
        let file = unsafe { BorrowedFd::borrow_raw(descriptor) };
        Some(Name::File(Place {
            file,
            offset: ((entry & u64::from(u32::MAX)) << GRANULE_SHIFT) + inner as u64,
            refused: entry & REFUSED != 0,
        }))
    }

    /// The file and offset that `slice` stands for; `None` for everything else.
    pub fn file<'a>(&self, slice: &'a [u8]) -> Option<Place<'a>> {
        match self.lookup(slice)? {
            Name::File(place) => Some(place),
            Name::Tray { .. } => None,
        }
    }

    /// Notes that the file under `slice` can not be sent by `sendfile`.
    pub fn refuse(&self, slice: &[u8]) {
        if let Some(entry) = self.entry(slice.as_ptr().addr()) {
            entry.fetch_or(REFUSED, Ordering::Relaxed);
        }
    }
}

/// What an address of the reservation stands for.
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    /// A byte of a file.
    File(Place<'a>),
    /// A byte of what lies on the tray of the connection that the slice is sent on.
    Tray {
        /// Which of its places.
        place: usize,
        /// The byte.
        offset: usize,
    },
}

/// A byte of a file.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The file.
    pub file: BorrowedFd<'a>,
    /// The byte of the file.
    pub offset: u64,
    /// True when `sendfile` was tried and is not supported.
    pub refused: bool,
}

/// The addresses of one open file. Dropped before the file is closed, when no slice of it is left.
#[derive(Debug)]
pub struct Region {
    arena: &'static Arena,
    first: usize,
    count: usize,
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arena({} granules at {:#x})", self.granules.len(), self.base)
    }
}

impl Region {
    /// Addresses for a file of `size` bytes; `None` when there is no reservation or it is used up.
    pub fn new(file: &std::fs::File, size: u64) -> Option<Region> {
        arena()?.take(file.as_raw_fd(), size)
    }

    fn address(&self, offset: u64) -> usize {
        self.arena.base + (self.first << GRANULE_SHIFT) + offset as usize
    }

    /// True when byte `offset` of the file can not be sent by `sendfile`.
    pub fn is_refused(&self, offset: u64) -> bool {
        let entry = self.arena.entry(self.address(offset));
        entry.is_none_or(|entry| entry.load(Ordering::Relaxed) & REFUSED != 0)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        for granule in self.arena.granules.iter().skip(self.first).take(self.count) {
            granule.store(0, Ordering::Release);
        }
        let mut free = self.arena.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut first, mut count) = (self.first, self.count);
        if let Some(after) = free.remove(&(first + count)) {
            count += after;
        }
        if let Some((&before, &length)) = free.range(..first).next_back()
            && before + length == first
        {
            free.remove(&before);
            first = before;
            count += length;
        }
        free.insert(first, count);
    }
}

/// The name of bytes that lie on a tray, as hyper carries it.
#[derive(Debug)]
pub struct TrayName {
    address: usize,
    size: usize,
}

impl TrayName {
    /// The name of all `size` bytes at `place` of a tray; `None` where there is none for so many.
    pub fn new(place: usize, size: usize) -> Option<TrayName> {
        let arena = arena()?;
        let region = arena.tray.get_or_init(|| arena.take_granules(TRAY, TRAY_PLACE_COUNT));
        let region = region.as_ref()?;
        (place < region.count && size <= GRANULE_SIZE).then(|| TrayName {
            address: region.address((place as u64) << GRANULE_SHIFT),
            size,
        })
    }
}

impl Buf for TrayName {
    fn remaining(&self) -> usize {
        self.size
    }

    fn chunk(&self) -> &[u8] {
        name(self.address, self.size)
    }

    fn advance(&mut self, count: usize) {
        let count = count.min(self.size);
        self.address += count;
        self.size -= count;
    }
}

/// `size` bytes from `address` on, all of them in a region of the reservation, which nobody looks into.
fn name<'a>(address: usize, size: usize) -> &'a [u8] {
    let start: *const u8 = std::ptr::with_exposed_provenance(address);
    // SAFETY: whoever calls took the range from a region that stays reserved as long as they do: not null, one allocation,
    // below isize::MAX bytes. Nothing reads through the slice (module comment): it is a name that travels as a pointer.
    unsafe { std::slice::from_raw_parts(start, size) }
}

/// A range of an open file that hyper carries as if it were memory.
#[derive(Clone, Debug)]
pub struct FileSlice {
    file: Arc<SourceFile>,
    address: usize,
    size: usize,
}

impl FileSlice {
    /// `size` bytes of `file` from `offset`; `None` when they have no addresses or `sendfile` was refused for them.
    pub fn new(file: &Arc<SourceFile>, offset: u64, size: u64) -> Option<FileSlice> {
        let region = file.region()?;
        let end = offset.checked_add(size)?;
        let room = (region.count as u64) << GRANULE_SHIFT;
        if end > room || region.is_refused(offset) {
            return None;
        }
        Some(FileSlice {
            address: region.address(offset),
            size: usize::try_from(size).ok()?,
            file: file.clone(),
        })
    }

    /// The file.
    pub fn file(&self) -> &Arc<SourceFile> {
        &self.file
    }
}

impl Buf for FileSlice {
    fn remaining(&self) -> usize {
        self.size
    }

    fn chunk(&self) -> &[u8] {
        name(self.address, self.size)
    }

    fn advance(&mut self, count: usize) {
        let count = count.min(self.size);
        self.address += count;
        self.size -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64) -> Arc<SourceFile> {
        let path = std::env::temp_dir().join(format!("headwater-arena-{name}-{}", std::process::id()));
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        let file = SourceFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        Arc::new(file)
    }

    #[test]
    fn addresses_lead_back_to_files() {
        let large = file("large", 3 * GRANULE_SIZE as u64 + 5);
        let small = file("small", 10);
        let check = |of: &Arc<SourceFile>, offset: u64, size: u64| {
            let mut slice = FileSlice::new(of, offset, size).unwrap();
            let region = of.region().unwrap();
            let place = region.arena.file(slice.chunk()).unwrap();
            assert_eq!((place.offset, slice.remaining() as u64), (offset, size));
            let step = (size / 2) as usize;
            slice.advance(step);
            let place = region.arena.file(slice.chunk()).unwrap();
            assert_eq!(place.offset, offset + step as u64);
            assert_eq!(place.file.as_raw_fd(), of.descriptor().as_raw_fd());
        };
        check(&large, 0, 1);
        check(&large, GRANULE_SIZE as u64 - 1, 2);
        check(&large, 2 * GRANULE_SIZE as u64 + 7, GRANULE_SIZE as u64 - 2);
        check(&small, 0, 10);
        check(&small, 9, 1);
        assert!(FileSlice::new(&small, u64::MAX, 1).is_none());
        assert!(FileSlice::new(&small, 0, GRANULE_SIZE as u64 + 1).is_none());
    }

    #[test]
    fn memory_is_not_taken_for_a_file() {
        let _file = file("other", 10);
        let arena = arena().unwrap();
        for memory in [&b"bytes"[..], &[], &vec![0; 1 << 20]] {
            assert!(arena.lookup(memory).is_none());
        }
    }

    #[test]
    fn a_refusal_lasts_as_long_as_the_file() {
        let one = file("refused", 10);
        let slice = FileSlice::new(&one, 0, 10).unwrap();
        arena().unwrap().refuse(slice.chunk());
        assert!(FileSlice::new(&one, 0, 10).is_none());
        assert!(arena().unwrap().file(slice.chunk()).unwrap().refused);
    }

    #[test]
    fn addresses_are_used_again_and_never_twice() {
        // An arena of its own: the tests of this process share the other.
        let own: &'static Arena = Box::leak(Box::new(Arena {
            base: 1 << 40,
            granules: std::iter::repeat_with(AtomicU64::default).take(8).collect(),
            free: Mutex::new(BTreeMap::from([(0, 8)])),
            tray: OnceLock::new(),
        }));
        let granule = GRANULE_SIZE as u64;
        let first = own.take(3, 3 * granule).unwrap();
        let second = own.take(4, granule + 1).unwrap();
        let third = own.take(5, 0).unwrap();
        assert_eq!((first.first, second.first, third.first), (0, 3, 5));
        assert!(own.take(6, 3 * granule).is_none());
        drop(second);
        assert!(own.take(6, 3 * granule).is_none());
        drop(first);
        let joined = own.take(6, 5 * granule).unwrap();
        assert_eq!(joined.first, 0);
        drop((joined, third));
        assert_eq!(*own.free.lock().unwrap(), BTreeMap::from([(0, 8)]));
        assert!(own.granules.iter().all(|entry| entry.load(Ordering::Relaxed) == 0));
    }
}
