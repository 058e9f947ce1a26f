//! Bytes of uploads on their way to disk: one writer a file, synchronised before anybody is told that they are there.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use dashmap::DashMap;
use http_body_util::BodyExt as _;
use sha2::Digest as _;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Algorithm, Checksum};
use crate::app::App;
use crate::db;
use crate::error::{ApiError, Code};

/// A writer that hears nothing for so long is as good as gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// One that hears nothing for so long must make room for a newcomer.
const STALE_MS: i64 = 2_000;
/// How long a newcomer waits for that.
const HANDOVER: Duration = Duration::from_secs(3);
/// Bytes that may be lost by a crash.
const STEP_SIZE_BYTES: u64 = 32 << 20;
/// Bytes written at once.
const WRITE_SIZE_BYTES: usize = 1 << 20;

/// Where sources are in the data folder.
pub fn folder(data: &Path) -> PathBuf {
    data.join("sources")
}

/// Who writes now, in this process.
#[derive(Debug, Default)]
pub struct Writers {
    running: DashMap<Uuid, Arc<Writer>>,
}

#[derive(Debug, Default)]
struct Writer {
    /// When it heard something, in milliseconds since [`Writers`] began to count.
    heard_ms: AtomicI64,
    stopping: AtomicBool,
    stop: Notify,
    gone: Notify,
}

/// The right to write, until it is dropped.
struct Turn {
    app: Arc<App>,
    upload: Uuid,
    writer: Arc<Writer>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.app.writers.running.remove(&self.upload);
        self.writer.gone.notify_waiters();
    }
}

fn now_ms() -> i64 {
    use std::sync::OnceLock;
    static BEGUN: OnceLock<std::time::Instant> = OnceLock::new();
    i64::try_from(BEGUN.get_or_init(std::time::Instant::now).elapsed().as_millis()).unwrap_or(i64::MAX)
}

impl Writers {
    /// Waits until the running writer, if it hears nothing any more, has stored what it has. Whether nobody writes now.
    pub async fn settle(&self, upload: Uuid) -> bool {
        let Some(writer) = self.running.get(&upload).map(|entry| Arc::clone(&entry)) else {
            return true;
        };
        if now_ms() - writer.heard_ms.load(Ordering::Relaxed) < STALE_MS && !writer.stopping.load(Ordering::Relaxed) {
            return false;
        }
        self.stop_and_wait(upload, &writer).await
    }

    /// Stops the running writer, whatever it hears.
    pub async fn stop(&self, upload: Uuid) {
        let writer = self.running.get(&upload).map(|entry| Arc::clone(&entry));
        if let Some(writer) = writer {
            self.stop_and_wait(upload, &writer).await;
        }
    }

    async fn stop_and_wait(&self, upload: Uuid, writer: &Arc<Writer>) -> bool {
        let gone = writer.gone.notified();
        tokio::pin!(gone);
        gone.as_mut().enable();
        writer.stopping.store(true, Ordering::Relaxed);
        writer.stop.notify_one();
        // It may have gone before it could tell.
        if !self.running.contains_key(&upload) {
            return true;
        }
        tokio::time::timeout(HANDOVER, gone).await.is_ok()
    }
}

/// Bytes that are to be written.
pub struct Receiving {
    /// Of which upload.
    pub upload: Uuid,
    /// Where to.
    pub path: PathBuf,
    /// Where they begin: what is stored already.
    pub offset: i64,
    /// Where they must have ended.
    pub end_max: i64,
    /// The size of the whole file, if this request tells it first.
    pub size: Option<i64>,
    /// What they must amount to.
    pub checksum: Option<Checksum>,
    /// The bytes.
    pub body: Body,
}

/// How bytes came to an end.
#[derive(Debug)]
pub struct Received {
    /// What is stored now.
    pub offset: i64,
    /// Whether more came than may be there.
    pub excess: bool,
    /// Whether the connection broke.
    pub broken: bool,
}

/// Writes bytes and makes them last. It goes on to do so if whoever waits for it goes away: a broken connection loses
/// nothing that came over it.
pub async fn receive(app: &Arc<App>, receiving: Receiving) -> Result<Received, ApiError> {
    let app = Arc::clone(app);
    let task = tokio::spawn(async move { write(&app, receiving).await });
    task.await.map_err(ApiError::internal)?
}

async fn take_turn(app: &Arc<App>, upload: Uuid) -> Result<Turn, ApiError> {
    if !app.writers.settle(upload).await {
        return Err(Code::UploadLocked.into());
    }
    let writer = Arc::new(Writer::default());
    writer.heard_ms.store(now_ms(), Ordering::Relaxed);
    match app.writers.running.entry(upload) {
        dashmap::Entry::Occupied(_) => Err(Code::UploadLocked.into()),
        dashmap::Entry::Vacant(entry) => {
            entry.insert(Arc::clone(&writer));
            let app = Arc::clone(app);
            Ok(Turn { app, upload, writer })
        }
    }
}

/// Opens the file, and keeps other processes from writing to it.
async fn open(path: PathBuf, offset: i64) -> Result<std::fs::File, ApiError> {
    let opened = tokio::task::spawn_blocking(move || {
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        let is_new = !path.exists();
        if is_new {
            std::fs::create_dir_all(&folder)?;
        }
        let file = std::fs::File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)?;
        if is_new {
            std::fs::File::open(&folder)?.sync_all()?;
        }
        Ok::<_, std::io::Error>(file)
    });
    let file = opened
        .await
        .map_err(ApiError::internal)?
        .map_err(ApiError::unavailable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(Code::UploadLocked.into()),
        Err(std::fs::TryLockError::Error(error)) => return Err(ApiError::unavailable(error)),
    }
    let there = file.metadata().map_err(ApiError::unavailable)?.len();
    match i64::try_from(there).is_ok_and(|there| there >= offset) {
        true => Ok(file),
        false => Err(ApiError::internal("stored bytes of an upload are not there any more")),
    }
}

enum Digesting {
    Sha1(Box<sha1::Sha1>),
    Sha256(Box<sha2::Sha256>),
}

impl Digesting {
    fn new(algorithm: Algorithm) -> Digesting {
        match algorithm {
            Algorithm::Sha1 => Digesting::Sha1(Box::default()),
            Algorithm::Sha256 => Digesting::Sha256(Box::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Digesting::Sha1(digest) => digest.update(bytes),
            Digesting::Sha256(digest) => digest.update(bytes),
        }
    }

    fn end(self) -> Vec<u8> {
        match self {
            Digesting::Sha1(digest) => digest.finalize().to_vec(),
            Digesting::Sha256(digest) => digest.finalize().to_vec(),
        }
    }
}

async fn write(app: &Arc<App>, receiving: Receiving) -> Result<Received, ApiError> {
    let Receiving {
        upload,
        path,
        offset,
        end_max,
        size,
        checksum,
        mut body,
    } = receiving;
    let turn = take_turn(app, upload).await?;
    let file = open(path, offset).await?;
    let mut connection = app.db.acquire().await?;
    // Another process may have written between the caller's look and our lock.
    match db::uploads::offset(&mut connection, upload).await? {
        Some(known) if known == offset => {}
        Some(_) => return Err(Code::UploadOffsetMismatch.into()),
        None => return Err(Code::UploadGone.into()),
    }
    drop(connection);
    let mut file = tokio::fs::File::from_std(file);
    let start = u64::try_from(offset).unwrap_or(0);
    file.seek(SeekFrom::Start(start)).await.map_err(ApiError::unavailable)?;
    let mut digest = checksum.as_ref().map(|checksum| Digesting::new(checksum.algorithm));
    let mut waiting: Vec<u8> = Vec::with_capacity(WRITE_SIZE_BYTES);
    let (mut at, mut stored) = (offset, offset);
    let (mut excess, mut broken) = (false, false);
    loop {
        let bytes = match next(&mut body, &turn.writer).await {
            Next::Bytes(bytes) => bytes,
            Next::End => break,
            Next::Broken => {
                broken = true;
                break;
            }
        };
        let room = usize::try_from(end_max.saturating_sub(at)).unwrap_or(0);
        excess = bytes.len() > room;
        let bytes = bytes.slice(..bytes.len().min(room));
        if let Some(digest) = &mut digest {
            digest.update(&bytes);
        }
        at = at.saturating_add(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        waiting.extend_from_slice(&bytes);
        if waiting.len() >= WRITE_SIZE_BYTES {
            file.write_all(&waiting).await.map_err(ApiError::unavailable)?;
            waiting.clear();
        }
        if excess {
            break;
        }
        // Bytes whose digest is not known yet do not count.
        if digest.is_none() && at.abs_diff(stored) >= STEP_SIZE_BYTES {
            file.write_all(&waiting).await.map_err(ApiError::unavailable)?;
            waiting.clear();
            keep(app, upload, &mut file, at, size).await?;
            stored = at;
        }
    }
    file.write_all(&waiting).await.map_err(ApiError::unavailable)?;
    if let (Some(digest), Some(checksum)) = (digest, &checksum)
        && (broken || excess || digest.end() != checksum.digest)
    {
        return match broken {
            true => Ok(Received { offset, excess, broken }),
            false => Err(Code::UploadChecksumMismatch.into()),
        };
    }
    // What does not fit is not the file that was announced.
    if !excess && (at > offset || size.is_some()) {
        keep(app, upload, &mut file, at, size).await?;
        stored = at;
    }
    // The file's lock first: who gets the turn next must get that, too.
    drop(file);
    drop(turn);
    Ok(Received {
        offset: stored,
        excess,
        broken,
    })
}

enum Next {
    Bytes(Bytes),
    End,
    Broken,
}

async fn next(body: &mut Body, writer: &Writer) -> Next {
    loop {
        let frame = tokio::select! {
            frame = tokio::time::timeout(IDLE_TIMEOUT, body.frame()) => frame,
            () = writer.stop.notified() => return Next::Broken,
        };
        writer.heard_ms.store(now_ms(), Ordering::Relaxed);
        match frame {
            Ok(None) => return Next::End,
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) => return Next::Bytes(bytes),
                // Trailers.
                Err(_) => continue,
            },
            Ok(Some(Err(_))) | Err(_) => return Next::Broken,
        }
    }
}

/// Makes bytes up to `at` last, then says so in the row.
async fn keep(app: &App, upload: Uuid, file: &mut tokio::fs::File, at: i64, size: Option<i64>) -> Result<(), ApiError> {
    file.flush().await.map_err(ApiError::unavailable)?;
    file.sync_data().await.map_err(ApiError::unavailable)?;
    let mut connection = app.db.acquire().await?;
    match db::uploads::advance(&mut connection, upload, at, size, app.now()).await? {
        true => Ok(()),
        false => Err(Code::UploadGone.into()),
    }
}

/// Removes a file; one that is not there is removed already.
pub async fn remove(path: &Path) -> Result<(), std::io::Error> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
