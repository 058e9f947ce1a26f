//! Bits and NAL units: reading, writing, unescaping and splitting byte slices.
//!
//! A reader never looks past its slice; every read that would is an error that says where.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::CodecError;
use std::borrow::Cow;

/// Reads big-endian bit fields from a slice.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    data: &'a [u8],
    position_bits: u64,
    what: &'static str,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit of `data`; `what` names the structure in errors.
    #[must_use]
    pub fn new(data: &'a [u8], what: &'static str) -> Self {
        BitReader {
            data,
            position_bits: 0,
            what,
        }
    }

    /// Bits read or skipped so far.
    #[must_use]
    pub fn position_bits(&self) -> u64 {
        self.position_bits
    }

    /// Bits not yet read.
    #[must_use]
    pub fn bits_left(&self) -> u64 {
        (self.data.len() as u64)
            .saturating_mul(8)
            .saturating_sub(self.position_bits)
    }

    /// An error for a forbidden `value` of `field`, at the present position.
    #[must_use]
    pub fn invalid(&self, field: &'static str, value: u64) -> CodecError {
        CodecError::Invalid {
            what: self.what,
            field,
            offset_bits: self.position_bits,
            value,
        }
    }

    fn truncated(&self, want_bits: u64) -> CodecError {
        CodecError::Truncated {
            what: self.what,
            offset_bits: self.position_bits,
            want_bits,
            have_bits: self.bits_left(),
        }
    }

    /// The next `count` bits (0 to 32) as an unsigned number.
    pub fn read(&mut self, count: u32) -> Result<u32, CodecError> {
        debug_assert!(count <= 32, "a read is at most 32 bits");
        let want = u64::from(count);
        if want > self.bits_left() {
            return Err(self.truncated(want));
        }
        let mut value: u64 = 0;
        let mut left = count;
        while left > 0 {
            let index = usize::try_from(self.position_bits / 8).map_err(|_| self.truncated(want))?;
            let byte = *self.data.get(index).ok_or_else(|| self.truncated(want))?;
            let in_byte = 8 - (self.position_bits % 8) as u32;
            let take = in_byte.min(left);
            let chunk = (u32::from(byte) >> (in_byte - take)) & ((1 << take) - 1);
            value = (value << take) | u64::from(chunk);
            self.position_bits += u64::from(take);
            left -= take;
        }
        Ok(value as u32)
    }

    /// The next `count` bits (0 to 64).
    pub fn read_u64(&mut self, count: u32) -> Result<u64, CodecError> {
        if count <= 32 {
            return self.read(count).map(u64::from);
        }
        if u64::from(count) > self.bits_left() {
            return Err(self.truncated(u64::from(count)));
        }
        let high = self.read(count - 32)?;
        let low = self.read(32)?;
        Ok((u64::from(high) << 32) | u64::from(low))
    }

    /// The next `count` bits (0 to 8).
    pub fn read_u8(&mut self, count: u32) -> Result<u8, CodecError> {
        debug_assert!(count <= 8, "fits a byte");
        self.read(count).map(|value| value as u8)
    }

    /// The next `count` bits (0 to 16).
    pub fn read_u16(&mut self, count: u32) -> Result<u16, CodecError> {
        debug_assert!(count <= 16, "fits two bytes");
        self.read(count).map(|value| value as u16)
    }

    /// The next bit.
    pub fn flag(&mut self) -> Result<bool, CodecError> {
        self.read(1).map(|bit| bit == 1)
    }

    /// Passes over `count` bits.
    pub fn skip(&mut self, count: u64) -> Result<(), CodecError> {
        if count > self.bits_left() {
            return Err(self.truncated(count));
        }
        self.position_bits += count;
        Ok(())
    }

    /// Moves to the next byte boundary of the slice.
    pub fn align(&mut self) -> Result<(), CodecError> {
        self.skip((8 - self.position_bits % 8) % 8)
    }

    /// The next `count` bytes; the reader must stand on a byte boundary.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        if !self.position_bits.is_multiple_of(8) {
            return Err(self.invalid("alignment", self.position_bits % 8));
        }
        let want = (count as u64).saturating_mul(8);
        let start = usize::try_from(self.position_bits / 8).map_err(|_| self.truncated(want))?;
        let end = start.checked_add(count).ok_or_else(|| self.truncated(want))?;
        let bytes = self.data.get(start..end).ok_or_else(|| self.truncated(want))?;
        self.position_bits += want;
        Ok(bytes)
    }

    /// All whole bytes that are left; the reader must stand on a byte boundary.
    pub fn rest(&mut self) -> Result<&'a [u8], CodecError> {
        let count = usize::try_from(self.bits_left() / 8).unwrap_or(usize::MAX);
        self.bytes(count)
    }

    /// Unsigned Exp-Golomb code `ue(v)`, 0 to 2^32-2 (ISO/IEC 14496-10 9.1).
    pub fn ue(&mut self) -> Result<u32, CodecError> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return Err(self.invalid("ue(v) leading zero bits", zeros));
            }
        }
        let suffix = self.read(zeros as u32)?;
        Ok(((1_u64 << zeros) - 1 + u64::from(suffix)) as u32)
    }

    /// `ue(v)` that must not exceed `max`.
    pub fn ue_max(&mut self, field: &'static str, max: u32) -> Result<u32, CodecError> {
        let value = self.ue()?;
        if value > max {
            return Err(self.invalid(field, u64::from(value)));
        }
        Ok(value)
    }

    /// Signed Exp-Golomb code `se(v)` (ISO/IEC 14496-10 9.1.1).
    pub fn se(&mut self) -> Result<i32, CodecError> {
        let code = i64::from(self.ue()?);
        let magnitude = (code + 1) / 2;
        let value = if code % 2 == 1 { magnitude } else { -magnitude };
        i32::try_from(value).map_err(|_| self.invalid("se(v)", code as u64))
    }

    /// Whether more RBSP data precedes the stop bit (`more_rbsp_data()`, ISO/IEC 14496-10 7.2).
    #[must_use]
    pub fn more_rbsp_data(&self) -> bool {
        let Some(last) = self.data.iter().rposition(|&byte| byte != 0) else {
            return false;
        };
        let Some(&byte) = self.data.get(last) else {
            return false;
        };
        let stop_bit = last as u64 * 8 + u64::from(7 - byte.trailing_zeros());
        self.position_bits < stop_bit
    }

    /// The bits from `start_bits` to the present position, shifted to a byte boundary and padded with zero bits.
    #[must_use]
    pub fn copy_since(&self, start_bits: u64) -> Vec<u8> {
        let mut reader = BitReader {
            data: self.data,
            position_bits: start_bits,
            what: self.what,
        };
        let mut writer = BitWriter::new();
        let mut left = self.position_bits.saturating_sub(start_bits);
        while left > 0 {
            let take = left.min(8) as u32;
            let Ok(bits) = reader.read(take) else { break };
            writer.write(u64::from(bits), take);
            left -= u64::from(take);
        }
        writer.into_bytes()
    }
}

/// Writes big-endian bit fields.
#[derive(Debug, Clone, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Bits used in the last byte of `bytes`, 0 when it is full (or there is none).
    used_bits: u32,
}

impl BitWriter {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        BitWriter::default()
    }

    /// Appends the low `count` bits (0 to 64) of `value`.
    pub fn write(&mut self, value: u64, count: u32) {
        debug_assert!(count <= 64, "a write is at most 64 bits");
        debug_assert!(count == 64 || value >> count == 0, "value fits its field");
        for bit in (0..count).rev() {
            if self.used_bits == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= (((value >> bit) & 1) as u8) << (7 - self.used_bits);
            }
            self.used_bits = (self.used_bits + 1) % 8;
        }
    }

    /// Appends one bit.
    pub fn flag(&mut self, value: bool) {
        self.write(u64::from(value), 1);
    }

    /// Pads with zero bits to a byte boundary.
    pub fn align(&mut self) {
        self.used_bits = 0;
    }

    /// Pads with zero bits to a byte boundary, then appends `bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.align();
        self.bytes.extend_from_slice(bytes);
    }

    /// What was written, the last byte padded with zero bits.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The RBSP of a NAL unit: `data` without its emulation prevention bytes (ISO/IEC 14496-10 7.4.1.1). Borrows when
/// there are none.
#[must_use]
pub fn unescape_rbsp(data: &[u8]) -> Cow<'_, [u8]> {
    if !data.windows(3).any(|three| matches!(three, [0, 0, 3])) {
        return Cow::Borrowed(data);
    }
    let mut rbsp = Vec::with_capacity(data.len());
    let mut zeros = 0;
    for &byte in data {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        rbsp.push(byte);
    }
    Cow::Owned(rbsp)
}

/// How many bytes of the escaped `data` hold its first `rbsp_size_bytes` RBSP bytes: an emulation prevention byte
/// counts when it stands before the last of them. Lets a header length found in the RBSP be cut from the NAL unit.
#[must_use]
pub fn escaped_size_bytes(data: &[u8], rbsp_size_bytes: usize) -> usize {
    let mut zeros = 0;
    let mut left = rbsp_size_bytes;
    for (index, &byte) in data.iter().enumerate() {
        if left == 0 {
            return index;
        }
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        left -= 1;
    }
    data.len()
}

/// Reads fields from the start of the escaped `data` and says how many bytes of it they take, the last one counted whole.
/// Only as much is unescaped as `read` asks for: it starts again with more when it ran out.
pub fn read_escaped<T>(
    data: &[u8],
    what: &'static str,
    read: impl Fn(&mut BitReader<'_>) -> Result<T, CodecError>,
) -> Result<(T, usize), CodecError> {
    let mut window_size_bytes = 64_usize;
    loop {
        let head = data.get(..window_size_bytes).unwrap_or(data);
        let rbsp = unescape_rbsp(head);
        let mut reader = BitReader::new(&rbsp, what);
        match read(&mut reader) {
            Ok(value) => {
                let rbsp_size_bytes = usize::try_from(reader.position_bits().div_ceil(8)).unwrap_or(rbsp.len());
                return Ok((value, escaped_size_bytes(head, rbsp_size_bytes)));
            }
            Err(CodecError::Truncated { .. }) if head.len() < data.len() => {
                window_size_bytes = window_size_bytes.saturating_mul(8);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The NAL units of a length-prefixed sample (ISO/IEC 14496-15 4.3.3). `nal_length_size` is 1, 2, 3 or 4 bytes. A unit of
/// length zero comes out as an empty slice. The first error ends the iteration.
#[must_use]
pub fn nal_units(data: &[u8], nal_length_size: u8) -> NalUnits<'_> {
    NalUnits {
        data,
        offset_bytes: 0,
        nal_length_size,
        failed: false,
    }
}

/// Iterator of [`nal_units`].
#[derive(Debug, Clone)]
pub struct NalUnits<'a> {
    data: &'a [u8],
    offset_bytes: usize,
    nal_length_size: u8,
    failed: bool,
}

impl<'a> NalUnits<'a> {
    const WHAT: &'static str = "length-prefixed NAL unit";

    /// Bytes of the sample consumed so far, length prefixes included.
    #[must_use]
    pub fn offset_bytes(&self) -> usize {
        self.offset_bytes
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let taken = self
            .offset_bytes
            .checked_add(count)
            .and_then(|end| self.data.get(self.offset_bytes..end));
        let taken = taken.ok_or(CodecError::Truncated {
            what: Self::WHAT,
            offset_bits: self.offset_bytes as u64 * 8,
            want_bits: count as u64 * 8,
            have_bits: self.data.len().saturating_sub(self.offset_bytes) as u64 * 8,
        })?;
        self.offset_bytes += count;
        Ok(taken)
    }

    fn unit(&mut self) -> Result<&'a [u8], CodecError> {
        if !(1..=4).contains(&self.nal_length_size) {
            return Err(CodecError::Invalid {
                what: Self::WHAT,
                field: "nal_length_size",
                offset_bits: 0,
                value: u64::from(self.nal_length_size),
            });
        }
        let prefix = self.take(usize::from(self.nal_length_size))?;
        let size = prefix
            .iter()
            .fold(0_usize, |size, &byte| (size << 8) | usize::from(byte));
        self.take(size)
    }
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = Result<&'a [u8], CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.offset_bytes >= self.data.len() {
            return None;
        }
        let unit = self.unit();
        self.failed = unit.is_err();
        Some(unit)
    }
}

/// The NAL units of an Annex B byte stream (ISO/IEC 14496-10 annex B), without start codes and without the zero bytes
/// around them. Bytes before the first start code are passed over; empty units are not yielded.
#[must_use]
pub fn annex_b_units(data: &[u8]) -> AnnexBUnits<'_> {
    let rest = match start_code(data) {
        Some(at) => data.get(at + 3..).unwrap_or_default(),
        None => &[],
    };
    AnnexBUnits { rest }
}

/// Iterator of [`annex_b_units`].
#[derive(Debug, Clone)]
pub struct AnnexBUnits<'a> {
    /// Bytes after the last start code found.
    rest: &'a [u8],
}

impl<'a> Iterator for AnnexBUnits<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (unit, rest) = match start_code(self.rest) {
                Some(at) => (self.rest.get(..at), self.rest.get(at + 3..)),
                None => (Some(self.rest), None),
            };
            self.rest = rest.unwrap_or_default();
            let unit = unit.unwrap_or_default();
            // A NAL unit never ends in a zero byte (7.4.1), so these belong to the byte stream.
            let size = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            match unit.get(..size) {
                Some(unit) if !unit.is_empty() => return Some(unit),
                _ => {}
            }
        }
        None
    }
}

/// Offset of the next `00 00 01`.
fn start_code(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    // The third byte decides how far one can jump: above 1 no start code touches it.
    while let Some(&third) = data.get(at + 2) {
        match third {
            0 => at += 1,
            1 if data.get(at..at + 2) == Some(&[0, 0]) => return Some(at),
            _ => at += 3,
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn fields_cross_bytes() {
        let mut reader = BitReader::new(&[0b1010_1100, 0xff, 0x00, 0x12, 0x34, 0x56], "test");
        assert_eq!(reader.read(3), Ok(0b101));
        assert_eq!(reader.read(0), Ok(0));
        assert_eq!(reader.read(7), Ok(0b011_0011));
        assert_eq!(reader.bits_left(), 38);
        assert_eq!(reader.read(32), Ok(0b1111_1100_0000_0000_0100_1000_1101_0001));
        assert_eq!(
            reader.read(7),
            Err(CodecError::Truncated {
                what: "test",
                offset_bits: 42,
                want_bits: 7,
                have_bits: 6
            })
        );
        assert_eq!(reader.read(6), Ok(0b010110));
        assert!(reader.flag().is_err() && reader.skip(1).is_err() && reader.skip(0).is_ok());
    }

    #[test]
    fn exp_golomb_follows_table_9_2() {
        for (bits, count, ue, se) in [
            (0b1_u64, 1, 0, 0),
            (0b010, 3, 1, 1),
            (0b011, 3, 2, -1),
            (0b00100, 5, 3, 2),
            (0b00111, 5, 6, -3),
            (0b0001000, 7, 7, 4),
            (0x1_ffff_ffff >> 1, 63, u32::MAX - 1, -2_147_483_647),
        ] {
            let mut writer = BitWriter::new();
            writer.write(bits, count);
            let bytes = writer.into_bytes();
            assert_eq!(BitReader::new(&bytes, "t").ue(), Ok(ue));
            assert_eq!(BitReader::new(&bytes, "t").se(), Ok(se));
        }
        assert!(
            BitReader::new(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff], "t")
                .ue()
                .is_err()
        );
        assert!(BitReader::new(&[0], "t").ue().is_err());
    }

    #[test]
    fn more_rbsp_data_stops_at_the_stop_bit() {
        let mut reader = BitReader::new(&[0b1011_0000, 0], "t");
        for more in [true, true, true, false] {
            assert_eq!(reader.more_rbsp_data(), more);
            reader.skip(1).expect("inside");
        }
        assert!(!BitReader::new(&[0, 0], "t").more_rbsp_data());
    }

    #[test]
    fn unescaping_removes_prevention_bytes_only() {
        for (escaped, rbsp) in [
            (&[1, 0, 0, 3, 1][..], &[1, 0, 0, 1][..]),
            (&[0, 0, 3, 0, 0, 3], &[0, 0, 0, 0]),
            (&[0, 0, 0, 3], &[0, 0, 0]),
            (&[0, 3, 0, 3], &[0, 3, 0, 3]),
            (&[0, 0, 3, 3], &[0, 0, 3]),
            (&[], &[]),
        ] {
            assert_eq!(unescape_rbsp(escaped), rbsp);
        }
        let escaped = [9, 0, 0, 3, 1, 0, 0, 3, 2];
        assert_eq!(
            (0..8).map(|n| escaped_size_bytes(&escaped, n)).collect::<Vec<_>>(),
            [0, 1, 2, 3, 5, 6, 7, 9]
        );
    }

    #[test]
    fn length_prefixes_are_bounded_by_the_sample() {
        let sample = [0, 2, 7, 8, 0, 0, 0, 1, 9];
        let units: Vec<_> = nal_units(&sample, 2).collect::<Result<_, _>>().expect("whole");
        assert_eq!(units, [&[7, 8][..], &[], &[9]]);
        for cut in 1..sample.len() {
            let whole = nal_units(&sample[..cut], 2).all(|unit| unit.is_ok());
            assert_eq!(whole, [4, 6].contains(&cut), "{cut}");
        }
        assert!(nal_units(&[0xff; 8], 4).next().is_some_and(|unit| unit.is_err()));
        assert_eq!(nal_units(&[0xff; 8], 4).count(), 1);
        assert!(nal_units(&[1, 2], 0).next().is_some_and(|unit| unit.is_err()));
        assert!(nal_units(&[1, 2], 5).next().is_some_and(|unit| unit.is_err()));
    }

    #[test]
    fn annex_b_splits_at_both_start_codes() {
        for (stream, units) in [
            (
                &[0, 0, 0, 1, 5, 6, 0, 0, 1, 7, 0, 0, 0, 0, 1, 8, 0, 0][..],
                &[&[5_u8, 6][..], &[7], &[8]][..],
            ),
            (&[9, 9, 0, 0, 1, 1], &[&[1]]),
            (&[0, 0, 1, 0, 0, 1, 4], &[&[4]]),
            (&[0, 0, 1], &[]),
            (&[0, 0], &[]),
            (&[1, 2, 3], &[]),
            (&[0, 0, 1, 2, 0, 0, 3, 1], &[&[2, 0, 0, 3, 1]]),
            (&[0, 0, 0, 0, 0, 1, 2], &[&[2]]),
        ] {
            assert_eq!(annex_b_units(stream).collect::<Vec<_>>(), units, "{stream:?}");
        }
    }

    #[test]
    fn writer_is_the_reader_backwards() {
        let mut writer = BitWriter::new();
        writer.write(0b101, 3);
        writer.write(0x1_2345_6789, 33);
        writer.flag(true);
        writer.bytes(&[0xab]);
        let bytes = writer.into_bytes();
        let mut reader = BitReader::new(&bytes, "t");
        assert_eq!(
            (reader.read(3), reader.read_u64(33), reader.flag()),
            (Ok(0b101), Ok(0x1_2345_6789), Ok(true))
        );
        reader.align().expect("padding");
        assert_eq!(reader.copy_since(3), [0x91, 0xa2, 0xb3, 0xc4, 0xc0][..]);
        assert_eq!(reader.bytes(1), Ok(&[0xab][..]));
        assert!(reader.bytes(1).is_err());
    }
}
