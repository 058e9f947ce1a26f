//! Samples on their way from the page cache into buffers; what is not there is fetched by somebody who may wait.

use std::io::IoSliceMut;
use std::ops::Range;
use std::sync::Arc;

use packager::index::Extent;
use packager::source::ReadAt;

use crate::body::{Delivery, WINDOW_SIZE_BYTES};
use crate::pool::Buffer;
use crate::read::SourceFile;

/// What lies between ranges that are read together is read too, up to so much: a call costs more.
const GAP_SIZE_BYTES_MAX: u64 = 4 << 10;
/// Ranges read by one call; the kernel takes 1,024 of them, gaps and all.
const GROUP_COUNT_MAX: usize = 256;

/// A file, and what of it is wanted.
pub type Source<'a> = (&'a Arc<SourceFile>, &'a [Extent]);

/// Reads `sources`, one after the other, as far as the page cache has them: a buffer for all, and how many bytes are in it.
pub fn cached_of(sources: &[Source<'_>]) -> (Buffer, usize) {
    let mut buffer = Buffer::filled(sources.iter().map(|(_, extents)| size(extents)).sum());
    let mut filled = 0;
    for (file, extents) in sources {
        let end = filled + size(extents);
        filled += cached(file, extents, buffer.get_mut(filled..end).unwrap_or_default());
        if filled < end {
            break;
        }
    }
    (buffer, filled)
}

/// The same as [`Wanted`], each fetched with what is within `reach` behind it.
pub fn wanted(sources: &[Source<'_>], reach: u64) -> Vec<Wanted> {
    let wanted = sources.iter().map(|(file, extents)| Wanted {
        file: (*file).clone(),
        extents: extents.to_vec(),
        window: span(extents, reach, file),
    });
    wanted.collect()
}

/// Reads `extents`, one after the other, as far as the page cache has them. Returns how many bytes that is.
pub fn cached(file: &SourceFile, extents: &[Extent], buffer: &mut [u8]) -> usize {
    let (mut filled, mut left) = (0_usize, extents);
    while !left.is_empty() {
        let (group, later) = left.split_at(near(left));
        let want = size(group);
        let Some(part) = buffer.get_mut(filled..filled.saturating_add(want)) else {
            break;
        };
        let read = cached_group(file, group, part);
        filled += read;
        if read < want {
            break;
        }
        left = later;
    }
    filled
}

/// How many of `extents`, which are not empty, lie so near one behind the other that one call reads them.
fn near(extents: &[Extent]) -> usize {
    let pairs = extents.iter().zip(extents.iter().skip(1)).take(GROUP_COUNT_MAX - 1);
    let near = pairs.take_while(|(one, next)| {
        let gap = next.offset.checked_sub(one.offset.saturating_add(one.size));
        gap.is_some_and(|gap| gap <= GAP_SIZE_BYTES_MAX)
    });
    1 + near.count()
}

/// The same for extents that are [`near`], in one call.
fn cached_group(file: &SourceFile, extents: &[Extent], buffer: &mut [u8]) -> usize {
    let Some(first) = extents.first() else { return 0 };
    let gaps = extents.iter().zip(extents.iter().skip(1));
    let gaps: Vec<usize> = gaps
        .map(|(one, next)| (next.offset - one.offset - one.size) as usize)
        .collect();
    let mut between = match gaps.iter().sum() {
        0 => Buffer::default(),
        size => Buffer::filled(size),
    };
    let (mut media, mut between): (&mut [u8], &mut [u8]) = (buffer, &mut between);
    let mut parts = Vec::with_capacity(2 * extents.len());
    for (extent, gap) in extents.iter().zip(gaps.iter().chain([&0])) {
        let extent = media.split_off_mut(..extent.size as usize).unwrap_or_default();
        parts.push(IoSliceMut::new(extent));
        if *gap > 0 {
            parts.push(IoSliceMut::new(between.split_off_mut(..*gap).unwrap_or_default()));
        }
    }
    // An error is found again by whoever waits for the rest.
    let mut read = file.read_cached(&mut parts, first.offset).unwrap_or(0);
    let mut filled = 0;
    for (extent, gap) in extents.iter().zip(gaps.iter().chain([&0])) {
        let of_extent = read.min(extent.size as usize);
        filled += of_extent;
        read -= of_extent;
        read -= read.min(*gap);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_are_read_together_are_the_ranges() {
        let path = std::env::temp_dir().join(format!("headwater-fetch-{}", std::process::id()));
        let bytes: Vec<u8> = (0..300_000_u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = SourceFile::open(&path).unwrap();
        let extents = |ranges: &[(u64, u64)]| -> Vec<Extent> {
            ranges
                .iter()
                .map(|(offset, size)| Extent {
                    offset: *offset,
                    size: *size,
                })
                .collect()
        };
        let many: Vec<(u64, u64)> = (0..700).map(|at| (at * 400, 390 + at % 11)).collect();
        for (ranges, calls) in [
            (vec![], vec![]),
            (vec![(7, 1_000)], vec![1]),
            // One behind the other, with a small gap, with one too large, and backwards.
            (vec![(0, 10), (10, 20), (35, 5), (4_137, 1), (0, 3)], vec![3, 1, 1]),
            (vec![(0, 10), (4_106, 10), (9_000, 10)], vec![2, 1]),
            // Into each other.
            (vec![(0, 100), (50, 100)], vec![1, 1]),
            (many, vec![256, 256, 188]),
        ] {
            let extents = extents(&ranges);
            let mut left = extents.as_slice();
            let mut counts = Vec::new();
            while !left.is_empty() {
                counts.push(near(left));
                left = &left[near(left)..];
            }
            assert_eq!(counts, calls, "{ranges:?}");
            let mut got = buffer(&extents);
            let expected: Vec<u8> = ranges
                .iter()
                .flat_map(|(offset, size)| &bytes[*offset as usize..(*offset + *size) as usize])
                .copied()
                .collect();
            assert_eq!(cached(&file, &extents, &mut got), expected.len(), "{ranges:?}");
            assert!(got[..] == expected[..], "{ranges:?}");
        }
        // The file ends within a gap, and within a range.
        for (ranges, there) in [
            ([(299_000, 500), (299_600, 600)], 900),
            ([(299_900, 90), (300_010, 5)], 90),
        ] {
            let extents = extents(&ranges);
            let mut got = buffer(&extents);
            assert_eq!(cached(&file, &extents, &mut got), there);
        }
        std::fs::remove_file(&path).unwrap();
    }
}
