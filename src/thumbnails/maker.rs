//! Makes thumbnails: starts a worker, and checks what it made.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use origin::asset::Asset;
use origin::thumbnails::DESCRIPTION_NAME;
use packager::images::{ImageTrack, Plan};
use packager::presentation::Representation;

use super::sync;

/// A worker has this long, and a quarter of what the film lasts.
const TIME_LIMIT_BASE: Duration = Duration::from_secs(120);
/// How often a running worker is looked at.
const POLL: Duration = Duration::from_millis(50);
/// The most of a worker's complaint that is shown.
const COMPLAINT_SIZE_BYTES_MAX: u64 = 2_000;

/// Makes thumbnails of `video`, whose file is in `staging`, into `folder`.
pub fn make(asset: &Asset, video: &Representation, staging: &Path, folder: &Path) -> anyhow::Result<()> {
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
