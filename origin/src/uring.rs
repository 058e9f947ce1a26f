//! Cold file ranges read by io_uring: one thread keeps many reads going instead of one blocked thread each.
//!
//! Container sandboxes commonly forbid io_uring, so it is tried when the origin starts, and the pool does the same job.

use std::io::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::paging::FILL_SIZE_BYTES;
use crate::read::SourceFile;

/// One range to be read into the page cache.
struct Job {
    file: Arc<SourceFile>,
    range: Range<u64>,
    turn: OwnedSemaphorePermit,
    done: oneshot::Sender<Result<()>>,
}

/// The thread with the ring; it ends when this is dropped.
#[derive(Debug)]
pub struct Ring {
    jobs: mpsc::Sender<Job>,
}

impl Ring {
    /// Starts the thread for at most `job_count_max` jobs at once; `None` where io_uring is not to be had.
    pub fn start(job_count_max: usize) -> Option<Ring> {
        let (jobs, mut wanted) = mpsc::channel::<Job>(job_count_max);
        let (tell, told) = std::sync::mpsc::channel();
        let work = move || {
            let runtime = match tokio_uring::Runtime::new(&tokio_uring::builder()) {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _gone = tell.send(Err(error));
                    return;
                }
            };
            let serving = async move {
                let _gone = tell.send(try_out().await);
                while let Some(job) = wanted.recv().await {
                    tokio_uring::spawn(async move {
                        let read = read_through(&job.file, job.range).await;
                        drop(job.turn);
                        // Whoever asked may have gone meanwhile.
                        let _gone = job.done.send(read);
                    });
                }
            };
            runtime.block_on(serving);
        };
        let started = std::thread::Builder::new().name("origin-uring".into()).spawn(work);
        match started.and_then(|_| {
            told.recv()
                .unwrap_or_else(|_| Err(Error::other("the ring's thread ended")))
        }) {
            Ok(()) => Some(Ring { jobs }),
            Err(error) => {
                tracing::info!(%error, "no io_uring: cold files are read by the blocking pool");
                None
            }
        }
    }

    /// Reads `range` of `file` into the page cache; holds `turn` meanwhile.
    pub async fn fill(&self, file: Arc<SourceFile>, range: Range<u64>, turn: OwnedSemaphorePermit) -> Result<()> {
        let (done, finished) = oneshot::channel();
        let job = Job {
            file,
            range,
            turn,
            done,
        };
        let ended = || Error::other("the ring's thread ended");
        self.jobs.send(job).await.map_err(|_| ended())?;
        finished.await.map_err(|_| ended())?
    }
}

/// A ring may be made and its operations still be refused.
async fn try_out() -> Result<()> {
    let file = tokio_uring::fs::File::from_std(std::fs::File::open("/proc/self/exe")?);
    let (read, _) = file.read_at(vec![0; 16], 0).await;
    read?;
    file.close().await
}

async fn read_through(file: &SourceFile, range: Range<u64>) -> Result<()> {
    let file = tokio_uring::fs::File::from_std(file.file().try_clone()?);
    let mut buffer = Vec::with_capacity(FILL_SIZE_BYTES);
    let mut offset = range.start;
    while offset < range.end {
        buffer.clear();
        let (read, used) = file.read_at(buffer, offset).await;
        buffer = used;
        match read? {
            // The file was cut short meanwhile; whoever sends it finds out.
            0 => break,
            count => offset += count as u64,
        }
    }
    file.close().await
}
