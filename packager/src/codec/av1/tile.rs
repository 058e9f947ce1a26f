//! Tiles of AV1: `tile_info()` of frame headers (5.9.15) and tile group OBUs (5.11.1).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::codec::CodecError;
use crate::codec::bits::BitReader;
use std::ops::Range;

/// How a frame is cut into tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileGrid {
    /// Tiles of the frame, 1 to 4,096.
    pub count: u32,
    /// Bits of a tile's number: `TileColsLog2 + TileRowsLog2`.
    number_bits: u32,
    /// `TileSizeBytes`, 1 to 4.
    size_bytes: usize,
}

/// `tile_log2()`: smallest power of two by which `block` reaches `target`.
fn tile_log2(block: u32, target: u32) -> u32 {
    (0..31).find(|&log2| block << log2 >= target).unwrap_or(31)
}

/// `ns(n)` (4.10.7): a number below `count`, which is at least one.
pub(super) fn read_ns(reader: &mut BitReader<'_>, count: u32) -> Result<u32, CodecError> {
    let width = u32::BITS - count.leading_zeros();
    let short_count = (1_u32 << width) - count;
    let value = reader.read(width.saturating_sub(1))?;
    if value < short_count {
        return Ok(value);
    }
    Ok((value << 1) - short_count + reader.read(1)?)
}

impl TileGrid {
    /// Reads `tile_info()` of a frame of so many luma samples, before its width is scaled up.
    pub(super) fn read(reader: &mut BitReader<'_>, width: u32, height: u32, large: bool) -> Result<Self, CodecError> {
        let superblock_log2 = if large { 7 } else { 6 };
        // In units of 8 samples first, as the modes are.
        let superblocks = |side: u32| (side.div_ceil(8) * 8).div_ceil(1 << superblock_log2);
        let (columns, rows) = (superblocks(width), superblocks(height));
        let width_max = 4_096_u32 >> superblock_log2;
        let area_max = (4_096_u32 * 2_304) >> (2 * superblock_log2);
        let min_columns_log2 = tile_log2(width_max, columns);
        let min_log2 = min_columns_log2.max(tile_log2(area_max, columns * rows));
        let (column_count, columns_log2, row_count, rows_log2);
        if reader.flag()? {
            let max_columns_log2 = tile_log2(1, columns.min(64));
            columns_log2 = read_log2(reader, min_columns_log2, max_columns_log2)?;
            column_count = uniform_count(columns, columns_log2);
            let max_rows_log2 = tile_log2(1, rows.min(64));
            rows_log2 = read_log2(reader, min_log2.saturating_sub(columns_log2), max_rows_log2)?;
            row_count = uniform_count(rows, rows_log2);
        } else {
            let widest;
            (column_count, widest) = read_sizes(reader, columns, width_max)?;
            columns_log2 = tile_log2(1, column_count);
            let area = if min_log2 > 0 {
                (columns * rows) >> (min_log2 + 1)
            } else {
                columns * rows
            };
            (row_count, _) = read_sizes(reader, rows, (area / widest.max(1)).max(1))?;
            rows_log2 = tile_log2(1, row_count);
        }
        let number_bits = columns_log2 + rows_log2;
        let mut size_bytes = 4;
        if number_bits > 0 {
            reader.skip(u64::from(number_bits))?; // context_update_tile_id
            size_bytes = reader.read(2)? as usize + 1;
        }
        Ok(TileGrid {
            count: column_count * row_count,
            number_bits,
            size_bytes,
        })
    }

    /// Where the tiles of a tile group are, in the payload that `reader` reads, and whether it ends its frame. `found` gets
    /// each tile's bytes, without its size.
    pub fn read_group(
        &self,
        reader: &mut BitReader<'_>,
        mut found: impl FnMut(Range<usize>),
    ) -> Result<bool, CodecError> {
        let (mut start, mut end) = (0, self.count.saturating_sub(1));
        if self.count > 1 && reader.flag()? {
            start = reader.read(self.number_bits)?;
            end = reader.read(self.number_bits)?;
            if end < start || end >= self.count {
                return Err(reader.invalid("tg_end", u64::from(end)));
            }
        }
        reader.align()?;
        for number in start..=end {
            let size_bytes = if number == end {
                usize::try_from(reader.bits_left() / 8).unwrap_or(usize::MAX)
            } else {
                let size = reader.bytes(self.size_bytes)?;
                let size = size
                    .iter()
                    .rev()
                    .fold(0_usize, |size, &byte| size << 8 | usize::from(byte));
                size.saturating_add(1)
            };
            let offset = usize::try_from(reader.position_bits() / 8).unwrap_or(usize::MAX);
            found(offset..offset.saturating_add(reader.bytes(size_bytes)?.len()));
        }
        Ok(end + 1 >= self.count)
    }
}

fn read_log2(reader: &mut BitReader<'_>, min: u32, max: u32) -> Result<u32, CodecError> {
    let mut log2 = min;
    while log2 < max && reader.flag()? {
        log2 += 1;
    }
    Ok(log2)
}

/// Tiles of even size that a side has.
fn uniform_count(superblocks: u32, log2: u32) -> u32 {
    let size = superblocks.div_ceil(1 << log2).max(1);
    superblocks.div_ceil(size)
}

/// Tiles of a side that tells each size, and the largest.
fn read_sizes(reader: &mut BitReader<'_>, superblocks: u32, size_max: u32) -> Result<(u32, u32), CodecError> {
    let (mut start, mut count, mut largest) = (0, 0, 0);
    while start < superblocks {
        let size = read_ns(reader, size_max.min(superblocks - start))? + 1;
        largest = largest.max(size);
        start += size;
        count += 1;
    }
    if count > 64 {
        return Err(reader.invalid("tile columns or rows", u64::from(count)));
    }
    Ok((count, largest))
}
