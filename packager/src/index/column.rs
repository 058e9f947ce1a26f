//! A column of 32-bit numbers in blocks of 64: each block keeps its smallest value and as many bits as its spread needs, where
//! up to three great values (sizes of key frames) lie aside when that is less.
//!
//! Constant columns (sample durations, most composition offsets) take one block's header; sizes take what they vary by.
//! Stored as: packed size in bytes u64, of which bit 63 says that one header stands for every block; then 9 bytes a block
//! (base u32, first byte u32, form u8); then what is packed, each block on a whole byte, padded so that an 8-byte read at any
//! value is inside. A form has the values' width in its lower six bits and the number of values aside in the upper two. A block
//! is packed as: which values lie aside, a byte each; these values, u32 each; then all, of which those aside mean nothing. All
//! little-endian.

use bytes::Bytes;

use super::{IndexError, u32_at, u64_at};

/// Values in a block.
pub(super) const BLOCK: usize = 64;
const BLOCK_HEADER_SIZE: usize = 9;
const PADDING: usize = 8;
/// The most that is looked at of a block's values.
const UNPACKED_SIZE: usize = BLOCK * size_of::<u32>() + PADDING;
/// In the packed size: one header stands for all blocks.
const CONSTANT: u64 = 1 << 63;
/// Of a form: bits of a value.
const WIDTH_MASK: u8 = 0x3f;
/// Of a form: where the number of values aside begins.
const ASIDE_SHIFT: u32 = 6;
/// Values of a block that may lie aside.
const ASIDE_MAX: usize = 3;
/// Bytes of a value aside: which it is, and the value.
const ASIDE_SIZE: usize = 5;
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
    /// So many values came before all else, and all are `even`.
    even_count: u32,
    even: u32,
}

impl Default for ColumnWriter {
    fn default() -> ColumnWriter {
        ColumnWriter {
            headers: Vec::new(),
            packed: Vec::new(),
            block: [0; BLOCK],
            filled: 0,
            even_count: 0,
            even: 0,
        }
    }
}

impl ColumnWriter {
    /// Makes room for `count` values of 16 bits.
    pub(super) fn reserve(&mut self, count: u32) {
        self.headers
            .reserve((count as usize).div_ceil(BLOCK) * BLOCK_HEADER_SIZE);
        self.packed.reserve(count as usize * size_of::<u16>());
    }

    pub(super) fn push(&mut self, value: u32) {
        self.end_even();
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
        for listed in values.chunks(BLOCK) {
            let mut read = [0; BLOCK];
            for (slot, value) in read.iter_mut().zip(listed) {
                *slot = u32::from_be_bytes(*value);
                greatest = greatest.max(*slot);
            }
            self.push_slice(&read[..listed.len()]);
        }
        greatest
    }

    /// Pushes all of `values`.
    pub(super) fn push_slice(&mut self, values: &[u32]) {
        self.end_even();
        let mut rest = values;
        while !rest.is_empty() {
            if self.filled == 0
                && let Some((block, later)) = rest.split_first_chunk()
            {
                self.write_block(block, BLOCK);
                rest = later;
                continue;
            }
            let room = self.block.split_at_mut(self.filled % BLOCK).1;
            let (now, later) = rest.split_at(room.len().min(rest.len()));
            for (slot, value) in room.iter_mut().zip(now) {
                *slot = *value;
            }
            rest = later;
            self.filled += now.len();
            if self.filled == BLOCK {
                self.close_block();
            }
        }
    }

    /// Pushes `value` so many times.
    pub(super) fn push_run(&mut self, value: u32, count: u32) {
        let is_first = self.even_count == 0 && self.filled == 0 && self.headers.is_empty();
        if is_first || self.even_count > 0 && self.even == value {
            self.even = value;
            self.even_count += count;
            return;
        }
        self.end_even();
        self.write_run(value, count);
    }

    /// Something else follows what was even so far.
    #[inline]
    fn end_even(&mut self) {
        if self.even_count > 0 {
            let count = std::mem::take(&mut self.even_count);
            self.write_run(self.even, count);
        }
    }

    fn write_run(&mut self, value: u32, count: u32) {
        let mut left = count;
        while left > 0 && self.filled > 0 {
            self.push_slice(&[value]);
            left -= 1;
        }
        let header = self.header(value, 0, 0);
        let start = self.headers.len();
        let block_count = left as usize / BLOCK;
        self.headers.resize(start + block_count * BLOCK_HEADER_SIZE, 0);
        let (slots, _) = self.headers.split_at_mut(start).1.as_chunks_mut();
        slots.fill(header);
        self.push_slice(&[value; BLOCK][..left as usize % BLOCK]);
    }

    /// Bytes that [`ColumnWriter::write`] writes, at most.
    pub(super) fn size_bytes(&self) -> usize {
        let open = 2 * BLOCK_HEADER_SIZE + BLOCK * size_of::<u32>();
        size_of::<u64>() + self.headers.len() + self.packed.len() + open + PADDING
    }

    pub(super) fn write(mut self, out: &mut Vec<u8>) {
        if self.even_count > 0 {
            self.write_header(self.even, 0, 0);
        }
        if self.filled > 0 {
            self.close_block();
        }
        let (blocks, _) = self.headers.as_chunks::<BLOCK_HEADER_SIZE>();
        let constant = self.packed.is_empty() && blocks.windows(2).all(|pair| pair[0] == pair[1]);
        let (flag, headers) = match blocks.first() {
            Some(first) if constant => (CONSTANT, first.as_slice()),
            _ => (0, self.headers.as_slice()),
        };
        out.extend_from_slice(&(self.packed.len() as u64 | flag).to_le_bytes());
        out.extend_from_slice(headers);
        out.extend_from_slice(&self.packed);
        out.extend_from_slice(&[0; PADDING]);
    }

    /// Of a block that is packed next.
    fn header(&self, low: u32, width: u32, aside_count: usize) -> [u8; BLOCK_HEADER_SIZE] {
        // 50 million samples of 4 bytes stay below 4 GiB.
        let first_byte = self.packed.len() as u32;
        let form = width as u8 | (aside_count as u8) << ASIDE_SHIFT;
        let ([a, b, c, d], [e, f, g, h]) = (low.to_le_bytes(), first_byte.to_le_bytes());
        [a, b, c, d, e, f, g, h, form]
    }

    fn write_header(&mut self, low: u32, width: u32, aside_count: usize) {
        let header = self.header(low, width, aside_count);
        self.headers.extend_from_slice(&header);
    }

    fn close_block(&mut self) {
        let count = self.filled.min(BLOCK);
        self.filled = 0;
        let mut block = self.block;
        let low = block[..count].iter().fold(u32::MAX, |low, value| low.min(*value));
        block[count..].fill(low);
        self.write_block(&block, count);
    }

    /// Packs the first `count` values of `block`; the others equal the least of these.
    fn write_block(&mut self, block: &[u32; BLOCK], count: usize) {
        let low = block.iter().fold(u32::MAX, |low, value| low.min(*value));
        let (mut above, mut bits) = ([0; BLOCK], 0);
        for (above, value) in above.iter_mut().zip(block) {
            *above = value.wrapping_sub(low);
            bits |= *above;
        }
        if bits == 0 {
            return self.write_header(low, 0, 0);
        }
        let mut width = 32 - bits.leading_zeros();
        let size_of_packed = |width: u32| (count * width as usize).div_ceil(8);
        let (mut aside_count, mut narrower) = (0, width);
        while narrower > 0 {
            narrower -= 1;
            let limit = 1u32 << narrower;
            // A small sum; wrapping ones are what the compiler can do many of at once.
            let beyond = above
                .iter()
                .fold(0u32, |sum, value| sum.wrapping_add(u32::from(*value >= limit)));
            let beyond = beyond as usize;
            if beyond > ASIDE_MAX {
                break;
            }
            if size_of_packed(narrower) + beyond * ASIDE_SIZE < size_of_packed(width) + aside_count * ASIDE_SIZE {
                (aside_count, width) = (beyond, narrower);
            }
        }
        self.write_header(low, width, aside_count);
        if aside_count > 0 {
            let limit = 1u64 << width;
            let mut aside = [(0u8, 0u32); ASIDE_MAX];
            let great = (0u8..).zip(&above).filter(|(_, value)| u64::from(**value) >= limit);
            for (slot, (at, value)) in aside.iter_mut().zip(great) {
                *slot = (at, value.wrapping_add(low));
            }
            let aside = &aside[..aside_count];
            self.packed.extend(aside.iter().map(|(at, _)| at));
            aside
                .iter()
                .for_each(|(_, value)| self.packed.extend_from_slice(&value.to_le_bytes()));
        }
        let bytes = pack(&above, width).map(u64::to_le_bytes);
        let size = size_of_packed(width);
        self.packed.extend_from_slice(&bytes.as_flattened()[..size]);
    }
}

/// The lower `width` bits of each value, one behind the other: 64 values of w bits are w words of 64 bits.
fn pack(values: &[u32; BLOCK], width: u32) -> [u64; BLOCK / 2] {
    let mask = (1u64 << width) - 1;
    let (pairs, _) = values.as_chunks::<2>();
    let pair = |[one, other]: &[u32; 2]| u64::from(*one) & mask | (u64::from(*other) & mask) << width;
    let mut packer = Packer::default();
    if width > 16 {
        pairs.iter().for_each(|values| packer.push(pair(values), 2 * width));
    } else {
        let (quads, _) = pairs.as_chunks::<2>();
        for [one, other] in quads {
            packer.push(pair(one) | pair(other) << (2 * width), 4 * width);
        }
    }
    packer.words
}

/// Bits on their way into words.
#[derive(Default)]
struct Packer {
    words: [u64; BLOCK / 2],
    /// Words that are full.
    full: usize,
    word: u64,
    used: u32,
}

impl Packer {
    /// Appends `bits`, of which there are `count`, at most 64.
    #[inline]
    fn push(&mut self, bits: u64, count: u32) {
        self.word |= bits << self.used;
        self.used += count;
        if self.used >= 64 {
            self.words[self.full % (BLOCK / 2)] = self.word;
            self.full += 1;
            self.used -= 64;
            // What did not fit: fewer bits than were pushed, in two steps because it may be none of 64.
            self.word = match count {
                0 => 0,
                _ => bits >> (count - self.used - 1) >> 1,
            };
        }
    }
}

/// Values that are unpacked together: as many bytes as a value has bits.
const GROUP: usize = 8;
/// The most that is looked at of a group.
const GROUP_SIZE: usize = GROUP * size_of::<u32>() + PADDING;

/// Unpacks a block whose values have `WIDTH` bits, at most 32, above `base`. The shift of each is known when this is compiled.
fn unpack<const WIDTH: usize>(packed: &[u8; UNPACKED_SIZE], base: u32, values: &mut [u32; BLOCK]) {
    let mask = (1u64 << WIDTH) - 1;
    for (number, group) in values.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let behind = packed
            .get(number * WIDTH..)
            .and_then(|behind| behind.first_chunk::<GROUP_SIZE>());
        let Some(bytes) = behind else { return };
        for (place, value) in group.iter_mut().enumerate() {
            let bit = place * WIDTH;
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[bit / 8..bit / 8 + 8]);
            *value = base.wrapping_add((u64::from_le_bytes(word) >> (bit % 8) & mask) as u32);
        }
    }
}

type Unpack = fn(&[u8; UNPACKED_SIZE], u32, &mut [u32; BLOCK]);

/// For each width.
#[rustfmt::skip]
const UNPACK: [Unpack; 33] = [
    unpack::<0>, unpack::<1>, unpack::<2>, unpack::<3>, unpack::<4>, unpack::<5>, unpack::<6>, unpack::<7>,
    unpack::<8>, unpack::<9>, unpack::<10>, unpack::<11>, unpack::<12>, unpack::<13>, unpack::<14>, unpack::<15>,
    unpack::<16>, unpack::<17>, unpack::<18>, unpack::<19>, unpack::<20>, unpack::<21>, unpack::<22>, unpack::<23>,
    unpack::<24>, unpack::<25>, unpack::<26>, unpack::<27>, unpack::<28>, unpack::<29>, unpack::<30>, unpack::<31>,
    unpack::<32>,
];

/// A column inside an index.
#[derive(Clone, Debug)]
pub(super) struct Column {
    bytes: Bytes,
    packed_at: usize,
    /// From one block's header to the next: none where one stands for all.
    stride: usize,
}

/// Goes through a column: what was unpacked of a block is at hand for the next values.
pub(super) struct Cursor<'a> {
    column: &'a Column,
    block: usize,
    values: [u32; BLOCK],
}

impl Cursor<'_> {
    /// Value `at`, which exists.
    #[inline]
    pub(super) fn value(&mut self, at: u32) -> u32 {
        let block = at as usize / BLOCK;
        if block != self.block {
            self.column.block(block, &mut self.values);
            self.block = block;
        }
        self.values[at as usize % BLOCK]
    }
}

/// One block of a column.
#[derive(Clone, Copy)]
struct Block {
    base: u32,
    width: usize,
    /// Where the numbers of values aside begin.
    aside_at: usize,
    aside_count: usize,
}

impl Block {
    /// Where all values begin.
    fn values_at(self) -> usize {
        self.aside_at + self.aside_count * ASIDE_SIZE
    }
}

impl Column {
    /// The column of `count` values at `position` of `bytes`, and where it ends.
    pub(super) fn open(bytes: &Bytes, position: usize, count: usize) -> Result<(Column, usize), IndexError> {
        let damaged = |offset, what| IndexError::Damaged { offset, what };
        let headers_at = position + 8;
        if headers_at > bytes.len() {
            return Err(damaged(position, "column reaches past the end"));
        }
        let block_count = count.div_ceil(BLOCK);
        let packed_size = u64_at(bytes, position);
        let (stride, header_count, packed_size) = match packed_size & CONSTANT {
            0 => (BLOCK_HEADER_SIZE, block_count, packed_size),
            _ => (0, block_count.min(1), packed_size & !CONSTANT),
        };
        let packed_at = headers_at + header_count * BLOCK_HEADER_SIZE;
        if packed_at > bytes.len() {
            return Err(damaged(position, "column reaches past the end"));
        }
        let room = (bytes.len() - packed_at) as u64;
        if packed_size > room || packed_size + PADDING as u64 > room {
            return Err(damaged(position, "column reaches past the end"));
        }
        for block_index in 0..header_count {
            let header_at = headers_at + block_index * BLOCK_HEADER_SIZE;
            let first_byte = u64::from(u32_at(bytes, header_at + 4));
            let form = bytes[header_at + 8];
            let (width, aside_count) = (u64::from(form & WIDTH_MASK), u64::from(form >> ASIDE_SHIFT));
            let values = BLOCK.min(count - block_index * BLOCK) as u64;
            let size = aside_count * ASIDE_SIZE as u64 + (width * values).div_ceil(8);
            if width > 32 || first_byte + size > packed_size {
                return Err(damaged(header_at, "block reaches past its column"));
            }
            if stride == 0 && form != 0 {
                return Err(damaged(header_at, "one block stands for all and is not constant"));
            }
        }
        let end = packed_at + packed_size as usize + PADDING;
        let packed_at = packed_at - headers_at;
        Ok((
            Column {
                bytes: bytes.slice(headers_at..end),
                packed_at,
                stride,
            },
            end,
        ))
    }

    /// For values in order.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor {
            column: self,
            block: usize::MAX,
            values: [0; BLOCK],
        }
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
    #[inline]
    pub(super) fn constant(&self, block: usize) -> Option<u32> {
        let header_at = block * self.stride;
        (self.bytes[header_at + 8] == 0).then(|| u32_at(&self.bytes, header_at))
    }

    #[inline]
    fn header(&self, block: usize) -> Block {
        let header_at = block * self.stride;
        let form = self.bytes[header_at + 8];
        Block {
            base: u32_at(&self.bytes, header_at),
            width: usize::from(form & WIDTH_MASK),
            aside_at: self.packed_at + u32_at(&self.bytes, header_at + 4) as usize,
            aside_count: usize::from(form >> ASIDE_SHIFT),
        }
    }

    /// Which values of `block` lie aside, and these.
    fn aside(&self, block: Block) -> impl Iterator<Item = (usize, u32)> + '_ {
        (0..block.aside_count).map(move |number| {
            let value_at = block.aside_at + block.aside_count + number * size_of::<u32>();
            (
                usize::from(self.bytes[block.aside_at + number]),
                u32_at(&self.bytes, value_at),
            )
        })
    }

    /// Value `at`, which exists.
    pub(super) fn value(&self, at: u32) -> u32 {
        let place = at as usize % BLOCK;
        if let Some(value) = self.constant(at as usize / BLOCK) {
            return value;
        }
        let block = self.header(at as usize / BLOCK);
        if let Some((_, value)) = self.aside(block).find(|(aside, _)| *aside == place) {
            return value;
        }
        let bit = place * block.width;
        let byte = block.values_at() + bit / 8;
        let word = self.bytes.get(byte..byte + 8).and_then(|word| word.try_into().ok());
        let word = u64::from_le_bytes(word.unwrap_or_default());
        block
            .base
            .wrapping_add((word >> (bit % 8) & ((1u64 << block.width) - 1)) as u32)
    }

    /// Values of block `block`, which exists; those past the column's count are meaningless.
    pub(super) fn block(&self, block: usize, values: &mut [u32; BLOCK]) {
        if let Some(value) = self.constant(block) {
            values.fill(value);
            return;
        }
        let block = self.header(block);
        let Block { base, width, .. } = block;
        // 64 values of w bits are 8w bytes; a value is at most 39 bits from the first bit of its first byte. Near the end of
        // the index there may be less behind them, and less of a last, partly filled block: that is never asked for.
        let behind = self.bytes.get(block.values_at()..).unwrap_or_default();
        let mut copied = [0; UNPACKED_SIZE];
        let packed = match behind.first_chunk() {
            Some(packed) => packed,
            None => {
                let size = behind.len().min(UNPACKED_SIZE);
                copied[..size].copy_from_slice(&behind[..size]);
                &copied
            }
        };
        // No wider ones pass [`Column::open`].
        if let Some(unpack) = UNPACK.get(width) {
            unpack(packed, base, values);
        }
        for (aside, value) in self.aside(block) {
            values[aside % BLOCK] = value;
        }
    }

    /// The value of all, where one header stands for them.
    #[inline]
    pub(super) fn constant_of_all(&self) -> Option<u32> {
        (self.stride == 0).then(|| u32_at(&self.bytes, 0))
    }

    /// Sum of values `from..to`, which exist.
    pub(super) fn sum(&self, from: u32, to: u32) -> u64 {
        if let Some(value) = self.constant_of_all() {
            return u64::from(value) * u64::from(to.saturating_sub(from));
        }
        let (mut at, to) = (from as usize, to as usize);
        if to.saturating_sub(at) <= FEW {
            return (from..to as u32).map(|at| u64::from(self.value(at))).sum();
        }
        let (mut sum, mut values) = (0, [0; BLOCK]);
        while at < to {
            let block = at / BLOCK;
            let end = to.min((block + 1) * BLOCK);
            if let Some(value) = self.constant(block) {
                sum += u64::from(value) * (end - at) as u64;
            } else {
                self.block(block, &mut values);
                // Wrapping, which the compiler can do many of at once; they fit.
                let values = &values[at % BLOCK..=(end - 1) % BLOCK];
                sum = values
                    .iter()
                    .fold(sum, |sum, value| sum.wrapping_add(u64::from(*value)));
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

    #[test]
    fn columns_take_what_their_values_vary_by() {
        let size = |values: &[u32]| {
            let mut writer = ColumnWriter::default();
            values.iter().for_each(|value| writer.push(*value));
            let mut bytes = Vec::new();
            let most = writer.size_bytes();
            writer.write(&mut bytes);
            assert!(bytes.len() <= most);
            bytes.len() - size_of::<u64>() - PADDING
        };
        assert_eq!(size(&[7; 1]), 9);
        assert_eq!(size(&[7; 1_000]), 9);
        let mut values = vec![7; 192];
        values[191] = 1_000_000;
        assert_eq!(size(&values), 3 * 9 + 5);
        // Four bits each, and a key frame, two, three, in each block; four are too many.
        for key_frames in 0..=4 {
            let pictures = (0..192).map(|at| match at % 64 / 16 < key_frames && at % 16 == 0 {
                true => 100_000,
                false => 9_000 + at % 16,
            });
            let each = if key_frames < 4 { 32 + 5 * key_frames } else { 17 * 8 };
            assert_eq!(
                size(&pictures.collect::<Vec<u32>>()),
                3 * (9 + each as usize),
                "{key_frames}"
            );
        }
    }

    #[test]
    fn every_width_survives() {
        for width in 0..=32 {
            let noise = (0..200u64).map(|at| (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32);
            let values: Vec<u32> = noise.map(|noise| (noise >> (32 - width)) as u32).collect();
            let mut writer = ColumnWriter::default();
            writer.push_slice(&values);
            let mut bytes = Vec::new();
            writer.write(&mut bytes);
            let (column, _) = Column::open(&bytes.into(), 0, values.len()).unwrap();
            let mut block = [0; BLOCK];
            for (number, expected) in values.chunks(BLOCK).enumerate() {
                assert_eq!(column.header(number).width as u64, width, "spread over all of it");
                column.block(number, &mut block);
                assert_eq!(block[..expected.len()], *expected, "{width} bits");
            }
        }
    }

    proptest! {
        #[test]
        fn values_survive(
            values in prop_oneof![
                prop::collection::vec(prop_oneof![any::<u32>(), 0u32..4, Just(1024u32)], 1..400),
                // Key frames among pictures; one sample that lasts longer; all alike.
                prop::collection::vec(prop_oneof![30 => 9_000u32..12_000, 1 => any::<u32>()], 1..400),
                prop::collection::vec(prop_oneof![60 => Just(1_024u32), 1 => any::<u32>()], 1..400),
                (any::<u32>(), 1usize..400).prop_map(|(value, count)| vec![value; count]),
            ],
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
