//! A column of 32-bit numbers in blocks of 64: each block keeps its smallest value and as many bits as its spread needs.
//!
//! Constant columns (sample durations, most composition offsets) take 9 bytes a block; sizes take what they vary by.
//! Stored as: bit count u64, then 9 bytes a block (base u32, first bit u32, width u8), then the packed bits, padded so
//! that an 8-byte read at any bit is inside. All little-endian.

use bytes::Bytes;

use super::{IndexError, u32_at, u64_at};

const BLOCK: usize = 64;
const BLOCK_HEADER_SIZE: usize = 9;
const PADDING: usize = 8;

/// Collects the values of a column.
#[derive(Debug, Default)]
pub(super) struct ColumnWriter {
    headers: Vec<u8>,
    bits: Vec<u8>,
    bit_count: u64,
    block: Vec<u32>,
}

impl ColumnWriter {
    pub(super) fn push(&mut self, value: u32) {
        self.block.push(value);
        if self.block.len() == BLOCK {
            let block = std::mem::take(&mut self.block);
            self.bit_count = pack(&block, &mut self.headers, &mut self.bits, self.bit_count);
            self.block = block;
            self.block.clear();
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (mut headers, mut bits, mut bit_count) = (Vec::new(), Vec::new(), self.bit_count);
        if !self.block.is_empty() {
            // The unfinished block is packed on the side: it may share its first byte with what is packed already.
            if let Some(last) = self.bits.last().filter(|_| bit_count % 8 != 0) {
                bits.push(*last);
            }
            let base = bit_count - bit_count % 8;
            let end = pack_from(&self.block, &mut headers, &mut bits, bit_count, base);
            bit_count = end;
        }
        out.extend_from_slice(&bit_count.to_le_bytes());
        out.extend_from_slice(&self.headers);
        out.extend_from_slice(&headers);
        let shared = usize::from(!self.block.is_empty() && !self.bit_count.is_multiple_of(8));
        out.extend_from_slice(&self.bits[..self.bits.len() - shared]);
        out.extend_from_slice(&bits);
        out.extend_from_slice(&[0; PADDING]);
    }
}

fn pack(block: &[u32], headers: &mut Vec<u8>, bits: &mut Vec<u8>, bit_count: u64) -> u64 {
    pack_from(block, headers, bits, bit_count, 0)
}

/// Appends a block whose first bit is `bit_count`; `bits` starts at bit `base`.
fn pack_from(block: &[u32], headers: &mut Vec<u8>, bits: &mut Vec<u8>, bit_count: u64, base: u64) -> u64 {
    let low = block.iter().copied().min().unwrap_or(0);
    let high = block.iter().copied().max().unwrap_or(0);
    let width = 32 - (high - low).leading_zeros();
    headers.extend_from_slice(&low.to_le_bytes());
    headers.extend_from_slice(&(bit_count as u32).to_le_bytes());
    headers.push(width as u8);
    let mut at = bit_count - base;
    for value in block {
        let mut rest = u64::from(value - low);
        let mut left = width;
        while left > 0 {
            let byte = (at / 8) as usize;
            if byte == bits.len() {
                bits.push(0);
            }
            let free = 8 - (at % 8) as u32;
            let take = free.min(left);
            bits[byte] |= ((rest & ((1 << take) - 1)) << (at % 8)) as u8;
            rest >>= take;
            left -= take;
            at += u64::from(take);
        }
    }
    at + base
}

/// A column inside an index.
#[derive(Clone, Debug)]
pub(super) struct Column {
    bytes: Bytes,
    bits_at: usize,
}

impl Column {
    /// The column of `count` values at `position` of `bytes`, and where it ends.
    pub(super) fn open(bytes: &Bytes, position: usize, count: usize) -> Result<(Column, usize), IndexError> {
        let damaged = |offset, what| IndexError::Damaged { offset, what };
        let headers_at = position + 8;
        let block_count = count.div_ceil(BLOCK);
        let bits_at = headers_at + block_count * BLOCK_HEADER_SIZE;
        if bits_at > bytes.len() {
            return Err(damaged(position, "column reaches past the end"));
        }
        let bit_count = u64_at(bytes, position);
        // First bits are stored in 32 bits; 50 million samples of 32 bits stay below.
        if bit_count > u64::from(u32::MAX) {
            return Err(damaged(position, "column too long"));
        }
        let end = bits_at + (bit_count as usize).div_ceil(8) + PADDING;
        if end > bytes.len() {
            return Err(damaged(position, "column reaches past the end"));
        }
        for block_index in 0..block_count {
            let header_at = headers_at + block_index * BLOCK_HEADER_SIZE;
            let first_bit = u64::from(u32_at(bytes, header_at + 4));
            let width = u64::from(bytes[header_at + 8]);
            let values = BLOCK.min(count - block_index * BLOCK) as u64;
            if width > 32 || first_bit + width * values > bit_count {
                return Err(damaged(header_at, "block reaches past its column"));
            }
        }
        Ok((
            Column {
                bytes: bytes.slice(headers_at..end),
                bits_at: bits_at - headers_at,
            },
            end,
        ))
    }

    /// Value `at`, which is below the column's count.
    pub(super) fn get(&self, at: u32) -> u32 {
        let header_at = at as usize / BLOCK * BLOCK_HEADER_SIZE;
        let base = u32_at(&self.bytes, header_at);
        let width = self.bytes[header_at + 8];
        if width == 0 {
            return base;
        }
        let bit = u64::from(u32_at(&self.bytes, header_at + 4)) + u64::from(width) * (u64::from(at) % BLOCK as u64);
        let word = u64_at(&self.bytes, self.bits_at + (bit / 8) as usize);
        let value = word >> (bit % 8) & ((1 << width) - 1);
        base.wrapping_add(value as u32)
    }

    /// The smallest value, or 0 of no values.
    pub(super) fn min(&self) -> u32 {
        let headers = self.bytes[..self.bits_at].chunks_exact(BLOCK_HEADER_SIZE);
        headers.map(|header| u32_at(header, 0)).min().unwrap_or(0)
    }

    /// Values `from..to`.
    pub(super) fn iter(&self, from: u32, to: u32) -> impl Iterator<Item = u32> + '_ {
        (from..to).map(|at| self.get(at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_survive(values in prop::collection::vec(prop_oneof![any::<u32>(), 0u32..4, Just(1024u32)], 1..400)) {
            let mut writer = ColumnWriter::default();
            for value in &values {
                writer.push(*value);
            }
            let mut bytes = vec![0xaa; 5];
            writer.write(&mut bytes);
            let bytes = Bytes::from(bytes);
            let (column, end) = Column::open(&bytes, 5, values.len()).unwrap();
            prop_assert_eq!(end, bytes.len());
            prop_assert_eq!(Some(column.min()), values.iter().copied().min());
            prop_assert_eq!(column.iter(0, values.len() as u32).collect::<Vec<_>>(), values);
        }
    }
}
