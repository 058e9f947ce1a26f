//! Thumbnails at import: chooses the picture to make them of, starts a worker, checks what it made.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use origin::asset::Asset;
use origin::stored::StoreError;
use origin::thumbnails::{DESCRIPTION_NAME, FOLDER_NAME, POSTER_NAME};
use packager::codec::MediaKind;
use packager::images::{ImageTrack, Plan};
use packager::presentation::Representation;

/// Whether thumbnails are to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Unless it is impossible.
    Yes,
    /// Not even when it is possible.
    No,
}

/// A worker has this long, and a quarter of what the film lasts.
const TIME_LIMIT_BASE: Duration = Duration::from_secs(120);
/// How often a running worker is looked at.
const POLL: Duration = Duration::from_millis(50);
/// The most of a worker's complaint that is shown.
const COMPLAINT_SIZE_BYTES_MAX: u64 = 2_000;

/// Puts thumbnails and a poster beside the tracks in `staging`. Without them a film plays just as well: what goes wrong
/// is said, and leaves nothing behind.
pub fn add(asset: &Asset, staging: &Path, wanted: Wanted) -> Result<(), StoreError> {
    let folder = staging.join(FOLDER_NAME);
    let video = best_source(asset);
    let done = match (asset.presentation.images(), video, wanted) {
        // The source brought its own.
        (Some(track), ..) => copy(asset, track, &folder),
        (None, _, Wanted::No) | (None, None, _) => return Ok(()),
        (None, Some(video), Wanted::Yes) => make(asset, video, staging, &folder),
    };
    if let Err(error) = done {
        eprintln!("{}: no thumbnails: {error:#}", asset.presentation.title);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|source| StoreError::Io { path: folder, source })?;
        }
    }
    Ok(())
}

/// The smallest video that is large enough for a poster, else the largest; of one codec and range with the first, for
/// fewer codecs can be decoded than played.
fn best_source(asset: &Asset) -> Option<&Representation> {
    let videos = || {
        let all = asset.presentation.representations.iter();
        all.filter(|representation| representation.kind() == MediaKind::Video)
    };
    let area = |representation: &&Representation| {
        representation
            .video()
            .map_or(0, |video| u64::from(video.width) * u64::from(video.height))
    };
    let large_enough = |representation: &&Representation| {
        representation
            .video()
            .is_some_and(|video| video.width.max(video.height) >= 1_280)
    };
    videos()
        .filter(large_enough)
        .min_by_key(area)
        .or(videos().max_by_key(area))
}

fn copy(asset: &Asset, track: &ImageTrack, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(folder)?;
    let numbered = track.sheets.iter().zip(1u32..);
    let sheets = numbered.map(|(sheet, number)| (format!("{number}.jpg"), sheet));
    let poster = track.poster.iter().map(|poster| (POSTER_NAME.to_owned(), &poster.file));
    for (name, file) in sheets.chain(poster) {
        write(&folder.join(&name), &origin::thumbnails::picture(asset, &name, file)?)?;
    }
    write(&folder.join(DESCRIPTION_NAME), &track.write()?)?;
    sync(folder)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = std::fs::File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}

/// Makes a folder's names last as long as its files do.
fn sync(folder: &Path) -> anyhow::Result<()> {
    Ok(std::fs::File::open(folder)?.sync_all()?)
}

#[cfg(not(feature = "transcode"))]
fn make(_: &Asset, _: &Representation, _: &Path, _: &Path) -> anyhow::Result<()> {
    bail!("this headwater was built without the feature transcode");
}

#[cfg(feature = "transcode")]
fn make(asset: &Asset, video: &Representation, staging: &Path, folder: &Path) -> anyhow::Result<()> {
    let description = video.video().context("no picture")?;
    let plan = Plan::of(description, asset.presentation.duration).context("the picture has no size")?;
    std::fs::create_dir(folder)?;
    let order = transcoder::thumbnails::Order {
        video: staging.join(format!("{}.mp4", video.id)).canonicalize()?,
        folder: folder.canonicalize()?,
        plan,
    };
    let limit = TIME_LIMIT_BASE + Duration::from_millis(order.plan.duration_ms / 4);
    run_worker(&serde_json::to_vec(&order)?, limit)?;
    // Not taken on trust: whatever decoded the film may have written anything.
    let track = ImageTrack::read(&std::fs::read(folder.join(DESCRIPTION_NAME))?)?;
    track.fits(asset.presentation.duration)?;
    for (sheet, number) in track.sheets.iter().zip(1u32..) {
        let size = std::fs::symlink_metadata(folder.join(format!("{number}.jpg")))?.len();
        if size != sheet.size_bytes {
            bail!("{number}.jpg has {size} bytes");
        }
    }
    sync(folder)
}

/// Runs `headwater worker thumbnails` on `order`, at most for `limit`.
fn run_worker(order: &[u8], limit: Duration) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("where this program lies")?;
    let mut child = Command::new(program)
        .args(["worker", "thumbnails"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("worker")?;
    let complaint = child.stderr.take().map(read_complaint);
    // A worker that died already says why by its exit code.
    let sent = child.stdin.take().map(|mut stdin| stdin.write_all(order));
    let ended = wait(&mut child, limit);
    let complaint = complaint.and_then(|thread| thread.join().ok()).unwrap_or_default();
    let status = ended?;
    if !status.success() {
        bail!("the worker ended with {status}: {}", complaint.trim());
    }
    sent.transpose().context("order")?;
    Ok(())
}

/// Reads all that a worker says, and keeps the end of it, where the reason stands.
fn read_complaint(mut stderr: std::process::ChildStderr) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(size @ 1..) = stderr.read(&mut buffer) {
            kept.extend_from_slice(buffer.get(..size).unwrap_or_default());
            let excess = kept.len().saturating_sub(COMPLAINT_SIZE_BYTES_MAX as usize);
            kept.drain(..excess);
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
}

fn wait(child: &mut Child, limit: Duration) -> anyhow::Result<std::process::ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if begun.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("the worker took longer than {} s", limit.as_secs());
        }
        std::thread::sleep(POLL);
    }
}
