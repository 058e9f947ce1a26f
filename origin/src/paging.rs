//! The page cache's gate: a serving thread sends only what is in memory, so that one cold file stops nobody.
//!
//! `sendfile` of a page that is not in the page cache waits for the disk, and with it every connection of the thread. So
//! each range is looked up first, and what is missing is read by somebody who may wait: the blocking pool, or io_uring.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use packager::source::ReadAt;
use rustix::fs::Advice;
use tokio::sync::Semaphore;

use crate::cachestat;
use crate::read::SourceFile;

/// A cold range is read in steps of this size into a buffer that nobody looks at.
pub(crate) const FILL_SIZE_BYTES: usize = 256 << 10;
/// Where only single bytes can be asked for, one in so many stands for its neighbours: half the kernel's read-ahead.
const PROBE_STRIDE_BYTES: usize = 64 << 10;

/// How the page cache is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// `cachestat(2)`, exact; Linux 6.5. Falls back to `Nowait` by itself.
    Cachestat,
    /// `preadv2(RWF_NOWAIT)` of single bytes.
    Nowait,
    /// Not at all: every range is read ahead by somebody who may wait.
    Never,
}

/// How cold ranges are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fill {
    /// By io_uring where it is built in and allowed, else by the pool.
    Uring,
    /// By the blocking pool.
    Pool,
}

/// Asks the page cache, and has cold ranges read. One an origin.
#[derive(Debug)]
pub struct Gate {
    probe: AtomicU8,
    filling: Arc<Semaphore>,
    /// Milliseconds that every cold read takes longer: a slow disk, for tests.
    delay_ms: AtomicU32,
    #[cfg(feature = "uring")]
    uring: Option<crate::uring::Ring>,
}

impl Gate {
    /// A gate that asks by `probe`, and has at most `fill_count_max` ranges read at once by `fill`.
    pub fn new(probe: Probe, fill: Fill, fill_count_max: usize) -> Gate {
        Gate {
            probe: AtomicU8::new(probe as u8),
            filling: Arc::new(Semaphore::new(fill_count_max)),
            delay_ms: AtomicU32::new(0),
            #[cfg(feature = "uring")]
            uring: match fill {
                Fill::Uring => crate::uring::Ring::start(fill_count_max),
                Fill::Pool => None,
            },
        }
        .settled(fill)
    }

    /// Asks once what the kernel has, so that the log can say it.
    fn settled(self, _fill: Fill) -> Gate {
        if self.probe() == Probe::Cachestat
            && let Ok(file) = std::fs::File::open("/proc/self/exe")
            && let Err(error) = cachestat::cached_pages(&file, 0, 1)
            && error.raw_os_error() == Some(libc::ENOSYS)
        {
            self.probe.store(Probe::Nowait as u8, Ordering::Relaxed);
        }
        self
    }

    /// Makes every cold read take `delay` longer, as on a slow disk.
    pub fn set_delay(&self, delay: Duration) {
        let delay_ms = u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
        self.delay_ms.store(delay_ms, Ordering::Relaxed);
    }

    /// How the page cache is asked.
    pub fn probe(&self) -> Probe {
        let probe = self.probe.load(Ordering::Relaxed);
        [Probe::Cachestat, Probe::Nowait]
            .into_iter()
            .find(|known| *known as u8 == probe)
            .unwrap_or(Probe::Never)
    }

    /// How cold ranges are read.
    pub fn fill_by(&self) -> Fill {
        #[cfg(feature = "uring")]
        if self.uring.is_some() {
            return Fill::Uring;
        }
        Fill::Pool
    }

    /// True when all of `range` is in memory, as far as the kernel tells or told this thread a moment ago: what many ask
    /// for is in use, and stays.
    pub fn is_resident(&self, file: &SourceFile, range: &Range<u64>) -> bool {
        let place = Seen::place(file, range);
        let seen = SEEN.with_borrow(|seen| seen.get(place.slot()).is_some_and(|last| last.holds(&place)));
        if seen {
            return true;
        }
        let resident = self.ask(file, range);
        if resident {
            SEEN.with_borrow_mut(|seen| {
                let slot = place.slot();
                if let Some(last) = seen.get_mut(slot) {
                    *last = place;
                }
            });
        }
        resident
    }

    fn ask(&self, file: &SourceFile, range: &Range<u64>) -> bool {
        match self.probe() {
            Probe::Cachestat if !file.paging.cachestat_refused.load(Ordering::Relaxed) => {
                let size = range.end - range.start;
                match cachestat::cached_pages(file.file(), range.start, size) {
                    Ok(cached) => cached >= pages(range),
                    Err(_) => {
                        // Not this file (the kernel tells only owners and writers), or never (a sandbox).
                        file.paging.cachestat_refused.store(true, Ordering::Relaxed);
                        probe_bytes(file, range)
                    }
                }
            }
            Probe::Cachestat | Probe::Nowait => probe_bytes(file, range),
            Probe::Never => false,
        }
    }

    /// Reads `range` into the page cache. Waits its turn behind other cold ranges.
    pub async fn fill(&self, file: Arc<SourceFile>, range: Range<u64>) -> std::io::Result<()> {
        let turn = self.filling.clone().acquire_owned().await;
        let turn = turn.map_err(std::io::Error::other)?;
        #[cfg(feature = "uring")]
        if let Some(ring) = &self.uring {
            return ring.fill(file, range, turn).await;
        }
        let delay = Duration::from_millis(u64::from(self.delay_ms.load(Ordering::Relaxed)));
        let filled = tokio::task::spawn_blocking(move || {
            std::thread::sleep(delay);
            let filled = read_through(&file, range);
            drop(turn);
            filled
        });
        filled.await.map_err(std::io::Error::other)?
    }

    /// Has the kernel start reading what follows `range`, as much again, unless it is there or was asked for already:
    /// who wants this segment wants the next one in a few seconds.
    pub fn advise_next(&self, file: &Arc<SourceFile>, range: &Range<u64>) {
        let start = range.end;
        let end = range.end.saturating_add(range.end - range.start).min(file.size());
        if start >= end || file.paging.advised_to.load(Ordering::Relaxed) == end {
            return;
        }
        // The last page stands for the others: read-ahead goes from front to back.
        if self.is_resident(file, &(end - 1..end)) {
            return;
        }
        file.paging.advised_to.store(end, Ordering::Relaxed);
        let file = file.clone();
        // Submitting the reads takes its time too.
        tokio::task::spawn_blocking(move || {
            let size = std::num::NonZeroU64::new(end - start);
            if let Err(error) = rustix::fs::fadvise(file.descriptor(), start, size, Advice::WillNeed) {
                tracing::debug!(%error, "read-ahead advice was refused");
            }
        });
    }
}

/// A range that was found in memory.
#[derive(Clone, Debug)]
struct Seen {
    /// Address of the file's record; that of a closed one may come again, which does no harm for so short a time.
    file: usize,
    range: Range<u64>,
    at: Option<Instant>,
}

/// What was found in memory is taken to be there for so long.
const SEEN_LIFETIME: Duration = Duration::from_millis(500);
/// Ranges a thread remembers; 20 KiB.
const SEEN_COUNT: usize = 512;

thread_local! {
    static SEEN: RefCell<Vec<Seen>> = RefCell::new(vec![Seen { file: 0, range: 0..0, at: None }; SEEN_COUNT]);
}

impl Seen {
    fn place(file: &SourceFile, range: &Range<u64>) -> Seen {
        Seen {
            file: std::ptr::from_ref(file).addr(),
            range: range.clone(),
            at: Some(Instant::now()),
        }
    }

    fn slot(&self) -> usize {
        // Neighbouring segments fall into different places.
        let mixed =
            (self.file as u64 ^ self.range.start.rotate_left(20) ^ self.range.end).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 55) as usize % SEEN_COUNT
    }

    fn holds(&self, now: &Seen) -> bool {
        let age = self
            .at
            .zip(now.at)
            .map(|(then, now)| now.saturating_duration_since(then));
        self.file == now.file && self.range == now.range && age.is_some_and(|age| age < SEEN_LIFETIME)
    }
}

fn pages(range: &Range<u64>) -> u64 {
    let page = rustix::param::page_size() as u64;
    range.end.div_ceil(page) - range.start / page
}

/// True when single bytes of `range`, evenly spread and the last one, come without waiting.
fn probe_bytes(file: &SourceFile, range: &Range<u64>) -> bool {
    let mut byte = [0];
    let mut resident = |offset: u64| {
        matches!(
            file.read_cached(&mut [std::io::IoSliceMut::new(&mut byte)], offset),
            Ok(1)
        )
    };
    range.is_empty() || (range.clone().step_by(PROBE_STRIDE_BYTES).all(&mut resident) && resident(range.end - 1))
}

fn read_through(file: &SourceFile, range: Range<u64>) -> std::io::Result<()> {
    let mut scratch = vec![0; FILL_SIZE_BYTES];
    let mut offset = range.start;
    while offset < range.end {
        let want = (range.end - offset).min(FILL_SIZE_BYTES as u64) as usize;
        let (part, _) = scratch.split_at_mut(want);
        match file.file().read_at(part, offset) {
            // The file was cut short meanwhile; whoever sends it finds out.
            Ok(0) => break,
            Ok(count) => offset += count as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
