//! CBOR (RFC 8949) as grants use it: a reader that accepts preferred serialisation alone, a deterministic writer.
//!
//! Refused on reading: indefinite lengths, arguments longer than they need be, floating point, simple values, and counts
//! larger than the bytes left could hold. Nothing here recurses: whoever reads knows the shape.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::GrantRefusal;

/// Major types (RFC 8949 3.1).
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// Takes data items from the front of a buffer.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Nothing follows.
    pub(super) fn end(&self) -> Result<(), GrantRefusal> {
        match self.rest {
            [] => Ok(()),
            _ => Err(GrantRefusal::Malformed("bytes after the last data item")),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], GrantRefusal> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(GrantRefusal::Malformed("a data item is cut short"))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Major type and argument of the next data item.
    fn head(&mut self) -> Result<(u8, u64), GrantRefusal> {
        let [first] = self.take::<1>()?;
        let (argument, least) = match first & 31 {
            info @ 0..=23 => (u64::from(info), 0),
            24 => (u64::from(u8::from_be_bytes(self.take()?)), 24),
            25 => (u64::from(u16::from_be_bytes(self.take()?)), 1 << 8),
            26 => (u64::from(u32::from_be_bytes(self.take()?)), 1 << 16),
            27 => (u64::from_be_bytes(self.take()?), 1 << 32),
            _ => return Err(GrantRefusal::Malformed("an indefinite or reserved length")),
        };
        if argument < least {
            return Err(GrantRefusal::Malformed("an argument longer than it need be"));
        }
        Ok((first >> 5, argument))
    }

    fn expect(&mut self, major: u8, otherwise: &'static str) -> Result<u64, GrantRefusal> {
        match self.head()? {
            (found, argument) if found == major => Ok(argument),
            _ => Err(GrantRefusal::Malformed(otherwise)),
        }
    }

    /// How many items follow, each of at least `size_bytes_min`; they may not claim more bytes than there are.
    fn count(&self, count: u64, size_bytes_min: usize) -> Result<usize, GrantRefusal> {
        usize::try_from(count)
            .ok()
            .filter(|count| {
                count
                    .checked_mul(size_bytes_min)
                    .is_some_and(|size| size <= self.rest.len())
            })
            .ok_or(GrantRefusal::Malformed("a length or count beyond the end"))
    }

    /// Whether the next item is text.
    pub(super) fn at_text(&self) -> bool {
        self.rest.first().is_some_and(|first| first >> 5 == TEXT)
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, GrantRefusal> {
        self.expect(UNSIGNED, "not an unsigned integer")
    }

    pub(super) fn integer(&mut self) -> Result<i64, GrantRefusal> {
        let (major, argument) = self.head()?;
        let argument = i64::try_from(argument).map_err(|_| GrantRefusal::Malformed("an integer out of range"))?;
        match major {
            UNSIGNED => Ok(argument),
            NEGATIVE => Ok(-1 - argument),
            _ => Err(GrantRefusal::Malformed("not an integer")),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], GrantRefusal> {
        let size = self.expect(BYTES, "not a byte string")?;
        self.string(size)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, GrantRefusal> {
        let size = self.expect(TEXT, "not a text string")?;
        std::str::from_utf8(self.string(size)?).map_err(|_| GrantRefusal::Malformed("text that is not UTF-8"))
    }

    fn string(&mut self, size: u64) -> Result<&'a [u8], GrantRefusal> {
        let size = self.count(size, 1)?;
        let (taken, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or(GrantRefusal::Malformed("a string beyond the end"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Entries of the array that begins here.
    pub(super) fn array(&mut self) -> Result<usize, GrantRefusal> {
        let count = self.expect(ARRAY, "not an array")?;
        self.count(count, 1)
    }

    /// Pairs of the map that begins here.
    pub(super) fn map(&mut self) -> Result<usize, GrantRefusal> {
        let count = self.expect(MAP, "not a map")?;
        self.count(count, 2)
    }

    /// Takes tag `number` if it is what comes next.
    pub(super) fn tag(&mut self, number: u64) -> Result<bool, GrantRefusal> {
        if self.rest.first().is_none_or(|first| first >> 5 != TAG) {
            return Ok(false);
        }
        let before = self.rest;
        let (_, found) = self.head()?;
        if found != number {
            self.rest = before;
        }
        Ok(found == number)
    }
}

/// Appends data items in their shortest form. Maps are deterministic (RFC 8949 4.2.1) when their keys come in order.
#[derive(Default)]
pub(super) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Appends what another wrote.
    pub(super) fn append(&mut self, other: Writer) {
        self.out.extend_from_slice(&other.out);
    }

    fn head(&mut self, major: u8, argument: u64) {
        let major = major << 5;
        match argument {
            0..=23 => self.out.push(major | argument as u8),
            24..=0xff => self.out.extend_from_slice(&[major | 24, argument as u8]),
            0x100..=0xffff => {
                self.out.push(major | 25);
                self.out.extend_from_slice(&(argument as u16).to_be_bytes());
            }
            0x1_0000..=0xffff_ffff => {
                self.out.push(major | 26);
                self.out.extend_from_slice(&(argument as u32).to_be_bytes());
            }
            _ => {
                self.out.push(major | 27);
                self.out.extend_from_slice(&argument.to_be_bytes());
            }
        }
    }

    pub(super) fn unsigned(&mut self, value: u64) {
        self.head(UNSIGNED, value);
    }

    pub(super) fn integer(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.head(UNSIGNED, value),
            Err(_) => self.head(NEGATIVE, !value as u64),
        }
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.head(BYTES, value.len() as u64);
        self.out.extend_from_slice(value);
    }

    pub(super) fn text(&mut self, value: &str) {
        self.head(TEXT, value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    pub(super) fn array(&mut self, count: usize) {
        self.head(ARRAY, count as u64);
    }

    pub(super) fn map(&mut self, count: usize) {
        self.head(MAP, count as u64);
    }

    pub(super) fn tag(&mut self, number: u64) {
        self.head(TAG, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// RFC 8949 appendix A.
    #[test]
    fn integers_are_those_of_the_standard() {
        let check = |hex: &str, value: i64| {
            let bytes = unhex(hex);
            assert_eq!(Reader::new(&bytes).integer().unwrap(), value, "{hex}");
            let mut writer = Writer::default();
            writer.integer(value);
            assert_eq!(writer.finish(), bytes, "{value}");
        };
        check("00", 0);
        check("17", 23);
        check("1818", 24);
        check("1903e8", 1000);
        check("1a000f4240", 1_000_000);
        check("1b000000e8d4a51000", 1_000_000_000_000);
        check("20", -1);
        check("3863", -100);
        check("3903e7", -1000);
        check("3b7fffffffffffffff", i64::MIN);
    }

    #[test]
    fn what_is_not_strict_is_refused() {
        let refuse = |hex: &str, read: fn(&mut Reader<'_>) -> bool| {
            let bytes = unhex(hex);
            assert!(!read(&mut Reader::new(&bytes)), "{hex}");
        };
        let integer = |reader: &mut Reader<'_>| reader.integer().is_ok();
        for hex in [
            "",
            "18",
            "1817",
            "190017",
            "1a0000ffff",
            "1b00000000ffffffff",
            "1bffffffffffffffff",
            "1c",
            "1f",
            "f93c00",
            "f4",
            "f6",
        ] {
            refuse(hex, integer);
        }
        let bytes = |reader: &mut Reader<'_>| reader.bytes().is_ok();
        for hex in ["41", "5f4100ff", "5bffffffffffffffff00", "6161"] {
            refuse(hex, bytes);
        }
        let text = |reader: &mut Reader<'_>| reader.text().is_ok();
        for hex in ["61", "61ff", "62c328", "7f6161ff", "4161"] {
            refuse(hex, text);
        }
        let array = |reader: &mut Reader<'_>| reader.array().is_ok();
        for hex in ["81", "9bffffffffffffffff", "9f00ff", "9a0001000000"] {
            refuse(hex, array);
        }
        let map = |reader: &mut Reader<'_>| reader.map().is_ok();
        for hex in ["a100", "bbffffffffffffffff", "bf0000ff"] {
            refuse(hex, map);
        }
    }
}
