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
/// So few values are looked up one by one rather than as a block.
const FEW: usize = 4;

/// Collects the values of a column.
#[derive(Debug)]
pub(super) struct ColumnWriter {
    headers: Vec<u8>,
    packed: Vec<u8>,
    block: [u32; BLOCK],
    /// Values in `block`.
    filled: usize,
}

impl Default for ColumnWriter {
    fn default() -> ColumnWriter {
        ColumnWriter {
            headers: Vec::new(),
            packed: Vec::new(),
            block: [0; BLOCK],
            filled: 0,
        }
    }
}

impl ColumnWriter {
    pub(super) fn push(&mut self, value: u32) {
        self.block[self.filled % BLOCK] = value;
        self.filled += 1;
        if self.filled == BLOCK {
            self.close_block();
        }
    }

    /// Pushes big-endian values; returns the greatest.
    pub(super) fn push_listed(&mut self, values: &[[u8; 4]]) -> u32 {
        self.headers.reserve(values.len() / BLOCK * BLOCK_HEADER_SIZE);
        let mut greatest = 0;
        let mut rest = values;
        while !rest.is_empty() {
            let room = self.block.split_at_mut(self.filled % BLOCK).1;
            let (now, later) = rest.split_at(room.len().min(rest.len()));
            for (slot, value) in room.iter_mut().zip(now) {
                let value = u32::from_be_bytes(*value);
                greatest = greatest.max(value);
                *slot = value;
            }
            rest = later;
            self.filled += now.len();
            if self.filled == BLOCK {
                self.close_block();
            }
        }
        greatest
    }

    /// Pushes `value` so many times.
    pub(super) fn push_run(&mut self, value: u32, count: u32) {
        let mut left = count;
        while left > 0 && self.filled > 0 {
            self.push(value);
            left -= 1;
        }
        while left >= BLOCK as u32 {
            self.write_header(value, 0);
            left -= BLOCK as u32;
        }
        for _ in 0..left {
            self.push(value);
        }
    }

    /// Bytes that [`ColumnWriter::write`] writes, at most.
    pub(super) fn size_bytes(&self) -> usize {
        let open = BLOCK_HEADER_SIZE + BLOCK * size_of::<u32>();
        size_of::<u64>() + self.headers.len() + self.packed.len() + open + PADDING
    }

    pub(super) fn write(mut self, out: &mut Vec<u8>) {
        if self.filled > 0 {
            self.close_block();
        }
        out.extend_from_slice(&(self.packed.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.headers);
        out.extend_from_slice(&self.packed);
        out.extend_from_slice(&[0; PADDING]);
    }

    fn write_header(&mut self, low: u32, width: u32) {
        // 50 million samples of 4 bytes stay below 4 GiB.
        let first_byte = self.packed.len() as u32;
        let ([a, b, c, d], [e, f, g, h]) = (low.to_le_bytes(), first_byte.to_le_bytes());
        self.headers.extend_from_slice(&[a, b, c, d, e, f, g, h, width as u8]);
    }

    fn close_block(&mut self) {
        let block = &self.block[..self.filled.min(BLOCK)];
        let (mut low, mut high) = (u32::MAX, 0);
        for value in block {
            low = low.min(*value);
            high = high.max(*value);
        }
        let width = 32 - (high - low).leading_zeros();
        // A full block of 64 values of w bits is w words of 64 bits.
        let mut words = [0u64; BLOCK / 2];
        if width > 0 {
            let (mut word, mut used, mut at) = (0u64, 0, 0);
            for value in block {
                let bits = u64::from(value.wrapping_sub(low));
                word |= bits << used;
                used += width;
                if used >= 64 {
                    words[at % words.len()] = word;
                    at += 1;
                    used -= 64;
                    // What did not fit; a shift by the whole width leaves nothing of a value below 2^width.
                    word = bits >> (width - used);
                }
            }
            if used > 0 {
                words[at % words.len()] = word;
            }
        }
        let size = (block.len() * width as usize).div_ceil(8);
        self.filled = 0;
        self.write_header(low, width);
        let bytes = words.map(u64::to_le_bytes);
        self.packed.extend_from_slice(&bytes.as_flattened()[..size]);
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

    /// The value of all of block `block`, which exists, where they are equal.
    pub(super) fn constant(&self, block: usize) -> Option<u32> {
        let header_at = block * BLOCK_HEADER_SIZE;
        (self.bytes[header_at + 8] == 0).then(|| u32_at(&self.bytes, header_at))
    }

    /// Value `at`, which exists.
    pub(super) fn value(&self, at: u32) -> u32 {
        let block = at as usize / BLOCK;
        let header_at = block * BLOCK_HEADER_SIZE;
        let base = u32_at(&self.bytes, header_at);
        let width = usize::from(self.bytes[header_at + 8]);
        if width == 0 {
            return base;
        }
        let bit = at as usize % BLOCK * width;
        let byte = self.packed_at + u32_at(&self.bytes, header_at + 4) as usize + bit / 8;
        let word = self.bytes.get(byte..byte + 8).and_then(|word| word.try_into().ok());
        let word = u64::from_le_bytes(word.unwrap_or_default());
        base.wrapping_add((word >> (bit % 8) & ((1u64 << width) - 1)) as u32)
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
        // 64 values of w bits are 8w bytes; a value is at most 39 bits from the first bit of its first byte. Only a last,
        // partly filled block has less: what it lacks is never asked for.
        let mut packed = [0; BLOCK * size_of::<u32>() + PADDING];
        let behind = self.bytes.get(first_byte..).unwrap_or_default();
        let size = behind.len().min(width * BLOCK / 8 + PADDING).min(packed.len());
        packed[..size].copy_from_slice(&behind[..size]);
        let mask = (1u64 << width) - 1;
        let mut bit = 0;
        for value in values.iter_mut() {
            // Below 256 anyway, which is said here so that the compiler need not check it.
            let byte = bit / 8 % (BLOCK * size_of::<u32>());
            let mut word = [0; 8];
            word.copy_from_slice(&packed[byte..byte + 8]);
            *value = base.wrapping_add((u64::from_le_bytes(word) >> (bit % 8) & mask) as u32);
            bit += width;
        }
    }

    /// Sum of values `from..to`, which exist.
    pub(super) fn sum(&self, from: u32, to: u32) -> u64 {
        let (mut at, to) = (from as usize, to as usize);
        if to.saturating_sub(at) <= FEW {
            return (from..to as u32).map(|at| u64::from(self.value(at))).sum();
        }
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

    #[test]
    fn runs_are_many_values() {
        for (before, count) in [(0, 0), (0, 1), (0, 64), (3, 60), (3, 61), (3, 200), (63, 129), (64, 65)] {
            let (mut one_by_one, mut run) = (ColumnWriter::default(), ColumnWriter::default());
            for value in 0..before {
                one_by_one.push(value);
                run.push(value);
            }
            (0..count).for_each(|_| one_by_one.push(7));
            run.push_run(7, count);
            one_by_one.push(9);
            run.push(9);
            let (mut expected, mut got) = (Vec::new(), Vec::new());
            let size_max = run.size_bytes();
            one_by_one.write(&mut expected);
            run.write(&mut got);
            assert_eq!(got, expected, "{before} {count}");
            assert!(got.len() <= size_max);
        }
    }

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
                for (at, value) in expected.iter().enumerate() {
                    prop_assert_eq!(column.value((number * BLOCK + at) as u32), *value);
                }
            }
            let range = from.min(values.len())..(from + length).min(values.len());
            let sum: u64 = values[range.clone()].iter().map(|value| u64::from(*value)).sum();
            prop_assert_eq!(column.sum(range.start as u32, range.end as u32), sum);
        }
    }
}
