//! Samples on their way from the page cache into buffers; what is not there is fetched by somebody who may wait.

use std::ops::Range;
use std::sync::Arc;

use packager::index::Extent;
use packager::source::ReadAt;

use crate::body::{Delivery, WINDOW_SIZE_BYTES};
use crate::pool::Buffer;
use crate::read::SourceFile;

/// Reads `extents`, one after the other, as far as the page cache has them. Returns how many bytes that is.
pub fn cached(file: &SourceFile, extents: &[Extent], buffer: &mut [u8]) -> usize {
    let mut filled = 0_usize;
    for extent in extents {
        let end = filled.saturating_add(extent.size as usize).min(buffer.len());
        let Some(part) = buffer.get_mut(filled..end) else {
            break;
        };
        let read = file.read_cached(part, extent.offset).unwrap_or(0);
        filled += read;
        if (read as u64) < extent.size {
            break;
        }
    }
    filled
}

/// Reads the rest of `extents`, of which the first `filled` bytes are in `buffer`. Blocking.
pub fn rest(file: &SourceFile, extents: &[Extent], filled: usize, buffer: &mut [u8]) -> std::io::Result<()> {
    let mut start = 0_usize;
    for extent in extents {
        let end = start.saturating_add(extent.size as usize);
        let done = filled.clamp(start, end) - start;
        if let Some(part) = buffer.get_mut(start + done..end.min(buffer.len())) {
            file.read_exact_at(part, extent.offset + done as u64)?;
        }
        start = end;
    }
    Ok(())
}

/// Ranges of a file that are to be read.
pub struct Wanted {
    /// The file.
    pub file: Arc<SourceFile>,
    /// The ranges, in order.
    pub extents: Vec<Extent>,
    /// What is fetched with them.
    pub window: Range<u64>,
}

/// Fills `buffer` with what is wanted, one file after the other, after it was found that only `filled` bytes of it are
/// cached.
pub async fn waiting(
    delivery: Arc<Delivery>,
    wanted: Vec<Wanted>,
    filled: usize,
    mut buffer: Buffer,
) -> std::io::Result<Buffer> {
    delivery.counters.read_waiting_bytes.add((buffer.len() - filled) as u64);
    let mut start = 0;
    for one in &wanted {
        start += size(&one.extents);
        if start > filled {
            delivery.gate.fill(one.file.clone(), one.window.clone()).await?;
        }
    }
    let work = move || {
        let (mut left, mut unread): (&mut [u8], usize) = (&mut buffer, filled);
        for one in &wanted {
            let of_file = left.split_off_mut(..size(&one.extents)).unwrap_or_default();
            let done = unread.min(of_file.len());
            unread -= done;
            rest(&one.file, &one.extents, done, of_file)?;
        }
        Ok(buffer)
    };
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// Bytes in `extents`.
pub fn size(extents: &[Extent]) -> usize {
    extents.iter().map(|extent| extent.size as usize).sum()
}

/// A buffer for `extents`.
pub fn buffer(extents: &[Extent]) -> Buffer {
    Buffer::filled(size(extents))
}

/// Reads `extents` into a buffer, waiting where they are cold; then `follow` bytes are fetched at once.
pub async fn read(
    delivery: &Arc<Delivery>,
    file: &Arc<SourceFile>,
    extents: Vec<Extent>,
    follow: u64,
) -> std::io::Result<Buffer> {
    let mut buffer = buffer(&extents);
    let filled = cached(file, &extents, &mut buffer);
    delivery.counters.read_bytes.add(filled as u64);
    if filled == buffer.len() {
        return Ok(buffer);
    }
    let window = span(&extents, follow.min(WINDOW_SIZE_BYTES), file);
    let file = file.clone();
    let wanted = Wanted { file, extents, window };
    waiting(delivery.clone(), vec![wanted], filled, buffer).await
}

/// From the first byte of `extents` to their last, and at least `reach` bytes, within the file.
pub fn span(extents: &[Extent], reach: u64, file: &SourceFile) -> Range<u64> {
    let start = extents.iter().map(|extent| extent.offset).min().unwrap_or(0);
    let end = extents.iter().map(|extent| extent.offset + extent.size).max();
    let end = end.unwrap_or(start);
    let reached = start.saturating_add(reach).min(file.size());
    start..end.max(reached)
}
