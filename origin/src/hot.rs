//! Built segments that many want: all of their bytes, once, where sending costs least.
//!
//! Building into memory that is kept costs several times what a buffer costs that is used again and again, so it pays
//! only for a segment that goes out some more times. Large ones lie in a file in memory and leave by `sendfile`.

use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use packager::source::ReadAt;

use crate::content::{Content, Piece};
use crate::read::SourceFile;
use crate::vod::parts::Parts;

/// Below this, `sendfile` out of a file of its own costs more than a copy, and a descriptor besides.
const FILE_SIZE_BYTES_MIN: usize = 192 << 10;
/// What is known of segments is forgotten when nobody has asked for so long: most were of use once.
const KNOWN_IDLE: Duration = Duration::from_secs(60);
/// And what is kept of them.
const KEPT_IDLE: Duration = Duration::from_secs(300);
/// Memory of what is known of segments: some ten thousand of them.
const KNOWN_BYTES_MAX: u64 = 64 << 20;

/// All bytes of one segment, while they are kept, and how many have asked for it.
#[derive(Clone, Default)]
pub struct Hot(Arc<Demand>);

#[derive(Default)]
struct Demand {
    kept: RwLock<Option<Piece>>,
    viewers: AtomicU32,
}

impl Hot {
    /// The pieces of `range` of it; `None` while it is not kept.
    pub fn pieces(&self, range: Range<u64>) -> Option<Vec<Piece>> {
        let whole = self.whole().filter(|whole| range.end <= whole.size())?;
        Some(vec![whole.slice(range)])
    }

    /// Counts one who begins to receive it.
    pub fn count_viewer(&self) {
        self.0.viewers.fetch_add(1, Ordering::Relaxed);
    }

    fn whole(&self) -> Option<Piece> {
        self.0.kept.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True while all of it is kept.
    pub fn is_kept(&self) -> bool {
        self.0.kept.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn set(&self, whole: Option<Piece>) {
        *self.0.kept.write().unwrap_or_else(PoisonError::into_inner) = whole;
    }
}

/// Memory of one kept segment: counted until the last who is being sent it is done, which may be long after it was let go.
#[derive(Debug)]
pub struct Held {
    all_bytes: Arc<AtomicU64>,
    size_bytes: u64,
}

impl Held {
    /// Counts `size_bytes` more in `all_bytes`; `None` where that would be more than `bytes_max`.
    fn new(all_bytes: &Arc<AtomicU64>, size_bytes: u64, bytes_max: u64) -> Option<Held> {
        let before = all_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        // Takes back what it counted when it is dropped, here too.
        let held = Held {
            all_bytes: all_bytes.clone(),
            size_bytes,
        };
        (before.saturating_add(size_bytes) <= bytes_max).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all_bytes.fetch_sub(self.size_bytes, Ordering::Relaxed);
    }
}

/// A small kept segment.
struct HeldBytes {
    bytes: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What is known of one segment.
#[derive(Default)]
pub struct Entry {
    /// What must be known to make it part by part.
    pub parts: OnceLock<Arc<Parts>>,
    /// Where it is kept while it is hot, and its viewers are counted.
    pub hot: Hot,
    /// One builds, the others wait.
    pub flight: tokio::sync::Mutex<()>,
    promoting: AtomicBool,
}

/// What is known of segments, and those that are kept.
pub struct Built {
    known: Cache<String, Arc<Entry>>,
    kept: Cache<String, (Hot, u32)>,
    kept_bytes_max: u64,
    /// Of all that was kept and is not gone.
    held_bytes: Arc<AtomicU64>,
    viewer_count_min: u32,
}

impl Built {
    /// Keeps up to `kept_bytes_max` of segments that `viewer_count_min` have asked for; none for zero. As much again may
    /// be held by those who are still being sent what was let go.
    pub fn new(kept_bytes_max: u64, viewer_count_min: u32) -> Built {
        let weight = |entry: &Arc<Entry>| entry.parts.get().map_or(0, |parts| parts.weight_bytes()) + 512;
        Built {
            known: Cache::builder()
                .max_capacity(KNOWN_BYTES_MAX)
                .weigher(move |_: &String, entry| u32::try_from(weight(entry)).unwrap_or(u32::MAX))
                .time_to_idle(KNOWN_IDLE)
                .build(),
            kept: Cache::builder()
                .max_capacity(kept_bytes_max)
                .weigher(|_: &String, (_, size): &(Hot, u32)| *size)
                .eviction_listener(|_, (hot, _), cause| match cause {
                    RemovalCause::Replaced => {}
                    _ => hot.set(None),
                })
                .time_to_idle(KEPT_IDLE)
                .build(),
            kept_bytes_max,
            held_bytes: Arc::default(),
            viewer_count_min,
        }
    }

    /// What is known of the segment `key`.
    pub fn entry(&self, key: &str) -> Arc<Entry> {
        match self.known.get(key) {
            Some(entry) => entry,
            // It may still be kept though nobody has asked for a while.
            None => self.known.get_with(key.to_owned(), || {
                let hot = self.kept.get(key).map(|(hot, _)| hot).unwrap_or_default();
                Arc::new(Entry {
                    hot,
                    ..Entry::default()
                })
            }),
        }
    }

    /// Counts what was found of a segment into the memory that is kept.
    pub fn weigh(&self, key: String, entry: &Arc<Entry>) {
        self.known.insert(key, entry.clone());
    }

    /// True once when so many have asked for the segment that it is to be kept.
    pub fn is_due(&self, key: &str, entry: &Entry) -> bool {
        // Counts for what is kept and what is let go, so that the wanted is neither idle nor refused.
        if self.kept_bytes_max == 0 || self.kept.get(key).is_some() || entry.hot.is_kept() {
            return false;
        }
        entry.hot.0.viewers.load(Ordering::Relaxed) >= self.viewer_count_min
            && !entry.promoting.swap(true, Ordering::Relaxed)
    }

    /// Keeps `content`, all of a segment. Blocking.
    pub fn keep(&self, key: String, entry: &Entry, content: &Content) {
        let hot = &entry.hot;
        let size = u32::try_from(content.size()).unwrap_or(u32::MAX);
        let room = self.kept_bytes_max.saturating_mul(2);
        if let Some(held) = Held::new(&self.held_bytes, size.into(), room) {
            match whole(content, held) {
                Ok(whole) => {
                    hot.set(Some(whole));
                    // What is refused or evicted is let go by the listener.
                    self.kept.insert(key, (hot.clone(), size));
                }
                Err(error) => tracing::warn!(%error, "a segment that many want could not be kept"),
            }
        }
        hot.0.viewers.store(0, Ordering::Relaxed);
        entry.promoting.store(false, Ordering::Relaxed);
    }
}

/// `content` in one piece of its own, which `held` counts.
fn whole(content: &Content, held: Held) -> std::io::Result<Piece> {
    let size = content.size();
    let pieces = content.clone().range(0..size);
    if (size as usize) < FILE_SIZE_BYTES_MIN {
        let mut bytes = Vec::with_capacity(size as usize);
        for piece in pieces {
            bytes.extend_from_slice(&piece.read()?);
        }
        whole_size(size, bytes.len() as u64)?;
        return Ok(Piece::Memory(Bytes::from_owner(HeldBytes { bytes, _held: held })));
    }
    let descriptor = rustix::fs::memfd_create("segment", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(descriptor);
    for piece in pieces {
        file.write_all(&piece.read()?)?;
    }
    let file = SourceFile::in_memory(file, held)?;
    whole_size(size, file.size())?;
    Ok(Piece::File {
        file: Arc::new(file),
        offset: 0,
        size,
    })
}

/// Fails unless all that was promised is there.
fn whole_size(promised: u64, found: u64) -> std::io::Result<()> {
    match found == promised {
        true => Ok(()),
        false => Err(std::io::Error::other(format!("{found} bytes of {promised}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(number: usize, size: usize) -> (Vec<u8>, Content) {
        let bytes: Vec<u8> = (0..size).map(|at| (at * 7 + number) as u8).collect();
        let (first, second) = bytes.split_at(size / 3);
        let pieces = [first, second].map(|part| Piece::Memory(Bytes::copy_from_slice(part)));
        (bytes, Content::Pieces(pieces.into()))
    }

    fn read(content: Content) -> Vec<u8> {
        let size = content.size();
        content.range(0..size).flat_map(|piece| piece.read().unwrap()).collect()
    }

    fn kept(entry: &Entry) -> Option<Content> {
        entry.hot.whole().map(|whole| Content::Pieces(vec![whole]))
    }

    fn ask(built: &Built, key: &str, content: &Content) -> Arc<Entry> {
        let entry = built.entry(key);
        entry.hot.count_viewer();
        if built.is_due(key, &entry) {
            built.keep(key.to_owned(), &entry, content);
        }
        entry
    }

    #[test]
    fn what_is_kept_is_what_was_built() {
        let built = Built::new(16 << 20, 3);
        for (number, size) in [0, 1, FILE_SIZE_BYTES_MIN - 1, FILE_SIZE_BYTES_MIN, 1 << 20]
            .into_iter()
            .enumerate()
        {
            let (bytes, content) = content(number, size);
            let key = format!("{number}");
            for viewer in 1..=4 {
                let entry = ask(&built, &key, &content);
                assert_eq!(entry.hot.is_kept(), viewer >= 3, "{size} bytes, viewer {viewer}");
            }
            let entry = built.entry(&key);
            assert!(read(kept(&entry).unwrap()) == bytes, "{size} bytes");
            for range in [0..size, size / 2..size, size / 3..size / 2] {
                let pieces = entry.hot.pieces(range.start as u64..range.end as u64).unwrap();
                let got: Vec<u8> = pieces.iter().flat_map(|piece| piece.read().unwrap()).collect();
                assert!(got == bytes[range], "{size} bytes");
            }
            assert!(entry.hot.pieces(0..size as u64 + 1).is_none());
        }
    }

    #[test]
    fn what_is_kept_is_found_again_when_nothing_else_is_known() {
        let built = Built::new(16 << 20, 1);
        let (bytes, content) = content(1, 300_000);
        ask(&built, "a", &content);
        built.known.invalidate_all();
        let entry = built.entry("a");
        assert!(read(kept(&entry).unwrap()) == bytes);
        assert!(!built.is_due("a", &entry));
    }

    #[test]
    fn memory_is_bounded_while_what_was_let_go_is_being_sent() {
        let built = Built::new(1 << 20, 1);
        let mut being_sent = Vec::new();
        for number in 0..40 {
            let (_, content) = content(number, 300_000);
            let entry = ask(&built, &format!("{number}"), &content);
            being_sent.extend(kept(&entry));
            built.kept.run_pending_tasks();
            assert!(built.held_bytes.load(Ordering::Relaxed) <= 2 << 20);
        }
        assert!(being_sent.len() >= 3);
        built.kept.invalidate_all();
        built.kept.run_pending_tasks();
        assert!(built.held_bytes.load(Ordering::Relaxed) > 0);
        drop(being_sent);
        assert_eq!(built.held_bytes.load(Ordering::Relaxed), 0);
        // There is room again.
        let (_, content) = content(0, 300_000);
        assert!(ask(&built, "another", &content).hot.is_kept());
        // Nothing at all is kept where nothing may be.
        let none = Built::new(0, 1);
        assert!(!ask(&none, "a", &content).hot.is_kept());
    }
}
