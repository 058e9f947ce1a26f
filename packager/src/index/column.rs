//! A column of 32-bit numbers in blocks of 64: each block keeps its smallest value and as many bits as its spread needs.
//!
//! Constant columns (sample durations, most composition offsets) take 9 bytes a block; sizes take what they vary by.
//! Stored as: packed size in bytes u64, then 9 bytes a block (base u32, first byte u32, width u8), then the packed
//! values, each block on a whole byte, padded so that an 8-byte read at any value is inside. All little-endian.

use bytes::Bytes;

use super::{IndexError, u32_at, u64_at};

/// Values in a block.
pub(super) const BLOCK: usize = 64;
const BLOCK_HEADER_SIZE: usize = 9;
const PADDING: usize = 8;

/// Collects the values of a column.
#[derive(Debug, Default)]
pub(super) struct ColumnWriter {
    headers: Vec<u8>,
    packed: Vec<u8>,
    block: Vec<u32>,
}

impl ColumnWriter {
    pub(super) fn push(&mut self, value: u32) {
        self.block.push(value);
        if self.block.len() == BLOCK {
            pack(&self.block, &mut self.headers, &mut self.packed);
            self.block.clear();
        }
    }

    pub(super) fn write(mut self, out: &mut Vec<u8>) {
        if !self.block.is_empty() {
            pack(&self.block, &mut self.headers, &mut self.packed);
        }
        out.extend_from_slice(&(self.packed.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.headers);
        out.extend_from_slice(&self.packed);
        out.extend_from_slice(&[0; PADDING]);
    }
}

fn pack(block: &[u32], headers: &mut Vec<u8>, packed: &mut Vec<u8>) {
    let low = block.iter().copied().min().unwrap_or(0);
    let high = block.iter().copied().max().unwrap_or(0);
    let width = 32 - (high - low).leading_zeros();
    headers.extend_from_slice(&low.to_le_bytes());
    // 50 million samples of 4 bytes stay below 4 GiB.
    headers.extend_from_slice(&(packed.len() as u32).to_le_bytes());
    headers.push(width as u8);
    if width == 0 {
        return;
    }
    let (mut bits, mut bit_count) = (0u64, 0);
    for value in block {
        bits |= u64::from(value - low) << bit_count;
        bit_count += width;
        while bit_count >= 8 {
            packed.push(bits as u8);
            bits >>= 8;
            bit_count -= 8;
        }
    }
    if bit_count > 0 {
        packed.push(bits as u8);
    }
}

/// A column inside an index.
#[derive(Clone, Debug)]
pub(super) struct Column {
    bytes: Bytes,
    packed_at: usize,
}

impl Column {
    /// The column of `count` values at `position` of `bytes`, and where it ends.
    pub(super) fn open(bytes: &Bytes, position: usize, count: usize) -> Result<(Column, usize), IndexError> {
        let damaged = |offset, what| IndexError::Damaged { offset, what };
        let headers_at = position + 8;
        let block_count = count.div_ceil(BLOCK);
        let packed_at = headers_at + block_count * BLOCK_HEADER_SIZE;
        if packed_at > bytes.len() {
            return Err(damaged(position, "column reaches past the end"));
        }
        let packed_size = u64_at(bytes, position);
        let room = (bytes.len() - packed_at) as u64;
        if packed_size > room || packed_size + PADDING as u64 > room {
            return Err(damaged(position, "column reaches past the end"));
        }
        for block_index in 0..block_count {
            let header_at = headers_at + block_index * BLOCK_HEADER_SIZE;
            let first_byte = u64::from(u32_at(bytes, header_at + 4));
            let width = u64::from(bytes[header_at + 8]);
            let values = BLOCK.min(count - block_index * BLOCK) as u64;
            if width > 32 || first_byte + (width * values).div_ceil(8) > packed_size {
                return Err(damaged(header_at, "block reaches past its column"));
            }
        }
        let end = packed_at + packed_size as usize + PADDING;
        let packed_at = packed_at - headers_at;
        Ok((
            Column {
                bytes: bytes.slice(headers_at..end),
                packed_at,
            },
            end,
        ))
    }

    /// Smallest value.
    pub(super) fn min(&self) -> u32 {
        let headers = self.bytes.get(..self.packed_at).unwrap_or_default();
        headers
            .chunks_exact(BLOCK_HEADER_SIZE)
            .map(|header| u32_at(header, 0))
            .min()
            .unwrap_or(0)
    }

    /// Values of block `block`, which exists; those past the column's count are meaningless.
    pub(super) fn block(&self, block: usize, values: &mut [u32; BLOCK]) {
        let header_at = block * BLOCK_HEADER_SIZE;
        let base = u32_at(&self.bytes, header_at);
        let width = usize::from(self.bytes[header_at + 8]);
        if width == 0 {
            values.fill(base);
            return;
        }
        let first_byte = self.packed_at + u32_at(&self.bytes, header_at + 4) as usize;
        let packed = &self.bytes[first_byte..];
        let mask = (1u64 << width) - 1;
        for (at, value) in values.iter_mut().enumerate() {
            let bit = at * width;
            // Only a last, partly filled block can end here: what it lacks is never asked for.
            let Some(word) = packed.get(bit / 8..bit / 8 + 8) else {
                return;
            };
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            *value = base.wrapping_add((u64::from_le_bytes(bytes) >> (bit % 8) & mask) as u32);
        }
    }

    /// Sum of values `from..to`, which exist.
    pub(super) fn sum(&self, from: u32, to: u32) -> u64 {
        let (mut at, to) = (from as usize, to as usize);
        let (mut sum, mut values) = (0, [0; BLOCK]);
        while at < to {
            let block = at / BLOCK;
            let end = to.min((block + 1) * BLOCK);
            let header_at = block * BLOCK_HEADER_SIZE;
            if self.bytes[header_at + 8] == 0 {
                sum += u64::from(u32_at(&self.bytes, header_at)) * (end - at) as u64;
            } else {
                self.block(block, &mut values);
                sum += values[at % BLOCK..=(end - 1) % BLOCK]
                    .iter()
                    .map(|value| u64::from(*value))
                    .sum::<u64>();
            }
            at = end;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_survive(
            values in prop::collection::vec(prop_oneof![any::<u32>(), 0u32..4, Just(1024u32)], 1..400),
            from in 0usize..400,
            length in 0usize..400,
        ) {
            let mut writer = ColumnWriter::default();
            for value in &values {
                writer.push(*value);
            }
            let mut bytes = vec![0xaa; 5];
            writer.write(&mut bytes);
            let bytes = Bytes::from(bytes);
            let (column, end) = Column::open(&bytes, 5, values.len()).unwrap();
            prop_assert_eq!(end, bytes.len());
            let mut block = [0; BLOCK];
            for (number, expected) in values.chunks(BLOCK).enumerate() {
                column.block(number, &mut block);
                prop_assert_eq!(&block[..expected.len()], expected);
            }
            let range = from.min(values.len())..(from + length).min(values.len());
            let sum: u64 = values[range.clone()].iter().map(|value| u64::from(*value)).sum();
            prop_assert_eq!(column.sum(range.start as u32, range.end as u32), sum);
        }
    }
}
