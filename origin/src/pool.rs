//! Buffers that built media goes through: each thread keeps those that are given back to it, for the next to fill.
//!
//! Fresh memory costs more than what is done in it: the kernel clears every page first. What one request's answer was
//! built in is still in the core's cache when the next one's is. What nobody has filled for a while goes back to the system.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;

/// Capacities are powers of two from this one on.
const CAPACITY_MIN: usize = 4 << 10;
/// So many capacities are kept: up to 16 MiB. Larger buffers go back to the system.
const CLASS_COUNT: usize = 13;
/// Memory that one thread keeps for later.
pub const KEPT_BYTES_MAX: usize = 32 << 20;

/// Memory of all buffers in use, in bytes, in several places so that threads seldom touch the same one.
static IN_USE_BYTES: [Place; PLACE_COUNT] = [const { Place(AtomicU64::new(0)) }; PLACE_COUNT];
const PLACE_COUNT: usize = 16;
static NEXT_PLACE: AtomicUsize = AtomicUsize::new(0);

/// Alone in its cache line, and in the one that is fetched with it.
#[repr(align(128))]
struct Place(AtomicU64);

thread_local! {
    static STORE: RefCell<Store> = RefCell::default();
    static PLACE: usize = NEXT_PLACE.fetch_add(1, Ordering::Relaxed) % PLACE_COUNT;
}

/// What one thread keeps.
#[derive(Default)]
struct Store {
    /// By capacity.
    classes: [Class; CLASS_COUNT],
    kept_bytes: usize,
}

/// Buffers of one capacity.
#[derive(Default)]
struct Class {
    /// The one that was given back last is taken first.
    buffers: Vec<Vec<u8>>,
    /// Of them, those at the front that were not taken since the last [`trim`].
    idle_count: usize,
}

impl Class {
    fn take(&mut self) -> Option<Vec<u8>> {
        let taken = self.buffers.pop();
        self.idle_count = self.idle_count.min(self.buffers.len());
        taken
    }
}

/// Gives what this thread keeps and has not used since the last time back to the system.
pub fn trim() {
    STORE.with_borrow_mut(|store| {
        for class in &mut store.classes {
            let idle = class.buffers.drain(..class.idle_count);
            store.kept_bytes -= idle.map(|buffer| buffer.capacity()).sum::<usize>();
            class.idle_count = class.buffers.len();
        }
    });
}

/// A buffer in use. Given back to the thread that drops it.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    /// In use until it is dropped.
    _counted: Counted,
}

/// Bytes that were added to one place, until they are not in use any more.
#[derive(Debug, Default)]
struct Counted {
    bytes: u64,
    place: usize,
}

impl Counted {
    fn new(bytes: usize) -> Counted {
        let (bytes, place) = (bytes as u64, PLACE.try_with(|place| *place).unwrap_or(0));
        if let Some(place) = IN_USE_BYTES.get(place) {
            place.0.fetch_add(bytes, Ordering::Relaxed);
        }
        Counted { bytes, place }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(place) = IN_USE_BYTES.get(self.place) {
            place.0.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// Memory of all buffers that are in use now, in bytes.
pub fn in_use_bytes() -> u64 {
    IN_USE_BYTES.iter().map(|place| place.0.load(Ordering::Relaxed)).sum()
}

fn class(size: usize) -> usize {
    let capacity = size.max(CAPACITY_MIN).next_power_of_two();
    (capacity / CAPACITY_MIN).trailing_zeros() as usize
}

impl Buffer {
    /// A buffer of `size` bytes that hold whatever they last held.
    pub fn filled(size: usize) -> Buffer {
        let mut buffer = Buffer::take(size);
        // Only what this memory never held before is cleared.
        buffer.bytes.resize(size, 0);
        buffer
    }

    /// An empty buffer with room for `size` bytes.
    pub fn empty(size: usize) -> Buffer {
        let mut buffer = Buffer::take(size);
        buffer.bytes.clear();
        buffer
    }

    fn take(size: usize) -> Buffer {
        let class = class(size);
        let kept = STORE.try_with(|store| {
            let mut store = store.borrow_mut();
            let kept = store.classes.get_mut(class)?.take()?;
            store.kept_bytes -= kept.capacity();
            Some(kept)
        });
        let bytes = kept.ok().flatten().unwrap_or_else(|| {
            // From the system, where it is zero already.
            vec![0; size.max(CAPACITY_MIN).next_power_of_two()]
        });
        let counted = Counted::new(bytes.capacity());
        Buffer {
            bytes,
            _counted: counted,
        }
    }

    /// The bytes as a vector to append to.
    pub fn vec(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The bytes for reading by many; the memory comes back when the last of them is done.
    pub fn into_bytes(self) -> Bytes {
        match self.bytes.is_empty() {
            true => Bytes::new(),
            false => Bytes::from_owner(self),
        }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Buffer {
        let counted = Counted::new(bytes.capacity());
        Buffer {
            bytes,
            _counted: counted,
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let capacity = bytes.capacity();
        // When the thread ends, so does its store.
        let _ = STORE.try_with(|store| {
            let mut store = store.borrow_mut();
            // What grew or came from elsewhere has another capacity than its class.
            if capacity.is_power_of_two() && store.kept_bytes + capacity <= KEPT_BYTES_MAX {
                let kept = store
                    .classes
                    .get_mut(class(capacity))
                    .map(|class| class.buffers.push(bytes));
                if kept.is_some() {
                    store.kept_bytes += capacity;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_bytes() -> usize {
        STORE.with_borrow(|store| {
            let kept = store
                .classes
                .iter()
                .flat_map(|class| &class.buffers)
                .map(Vec::capacity)
                .sum();
            assert_eq!(store.kept_bytes, kept);
            kept
        })
    }

    #[test]
    fn memory_is_used_again() {
        let first = Buffer::filled(100_000);
        let place = first.as_ptr();
        assert_eq!((first.len(), first.bytes.capacity()), (100_000, 131_072));
        let bytes = first.into_bytes();
        let half = bytes.slice(50_000..);
        drop(bytes);
        assert_eq!(kept_bytes(), 0);
        drop(half);
        assert_eq!(kept_bytes(), 131_072);
        let mut second = Buffer::empty(70_000);
        assert_eq!((second.as_ptr(), second.len()), (place, 0));
        second.vec().extend_from_slice(&[7; 131_072]);
        assert_eq!(second.as_ptr(), place);
        drop(second);
        assert_eq!(Buffer::filled(131_072)[..], [7; 131_072]);
        // Outgrown, it is not of its class any more.
        let mut grown = Buffer::empty(70_000);
        grown.vec().extend_from_slice(&[7; 140_000]);
        grown.vec().shrink_to_fit();
        drop(grown);
        assert_eq!(kept_bytes(), 0);
    }

    #[test]
    fn what_is_not_used_goes_back() {
        let buffers = |count: usize| (0..count).map(|_| Buffer::filled(100_000)).collect::<Vec<_>>();
        drop(buffers(8));
        drop(Buffer::filled(5_000));
        assert_eq!(kept_bytes(), 8 * 131_072 + 8_192);
        // Since then all of them were given back.
        trim();
        assert_eq!(kept_bytes(), 8 * 131_072 + 8_192);
        drop(buffers(3));
        trim();
        assert_eq!(kept_bytes(), 3 * 131_072);
        let held = buffers(2);
        trim();
        // The third was idle.
        assert_eq!(kept_bytes(), 0);
        drop(held);
        trim();
        assert_eq!(kept_bytes(), 2 * 131_072);
        trim();
        assert_eq!(kept_bytes(), 0);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let many: Vec<Buffer> = (0..100).map(|_| Buffer::filled(1 << 20)).collect();
        assert!(in_use_bytes() >= 100 << 20);
        drop(many);
        assert_eq!(kept_bytes(), KEPT_BYTES_MAX);
        drop(Buffer::filled(32 << 20));
        assert_eq!(kept_bytes(), KEPT_BYTES_MAX);
        drop(Buffer::filled(0));
        assert_eq!(Buffer::filled(0).into_bytes().len(), 0);
    }
}
