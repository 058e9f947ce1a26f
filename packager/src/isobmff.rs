//! Boxes of the ISO base media file format (ISO/IEC 14496-12): a reader that believes nothing, a writer that knows sizes.

pub mod movie;
pub mod sample_entry;

mod brand;
pub mod fragment;
pub mod init;
pub(crate) mod language;
pub mod on_demand;
pub mod protection;
pub mod sidx;
pub mod stored;
mod trak;

pub(crate) use brand::visual_config;

#[cfg(test)]
pub(crate) mod fixture;

use std::fmt;

/// Four bytes that name a box, brand or handler.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FourCc(pub [u8; 4]);

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            match byte {
                b' '..=b'~' => write!(f, "{}", char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is wrong with a box, and where in the source it lies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoxError {
    /// The box, or a field of it, reaches past the bytes that hold it.
    #[error("{fourcc} at {offset}: wants {want} bytes, has {have}")]
    Truncated {
        /// The box.
        fourcc: FourCc,
        /// Where the box (not the field) starts in the source.
        offset: u64,
        /// Bytes the field or box claims.
        want: u64,
        /// Bytes there are.
        have: u64,
    },
    /// A size field is smaller than the header that holds it.
    #[error("{fourcc} at {offset}: size {size} is smaller than its header")]
    SizeTooSmall {
        /// The box.
        fourcc: FourCc,
        /// Where it starts.
        offset: u64,
        /// The size it claims.
        size: u64,
    },
    /// A field has a value that the format forbids or that exceeds our bounds.
    #[error("{fourcc} at {offset}: {what}")]
    Invalid {
        /// The box.
        fourcc: FourCc,
        /// Where it starts.
        offset: u64,
        /// What is wrong, with the value.
        what: String,
    },
}

/// Size and kind of a box, read from its first 8 or 16 bytes (ISO/IEC 14496-12:2022 4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoxHeader {
    /// What the box is.
    pub fourcc: FourCc,
    /// Header and payload; `None` when the box runs to the end of what holds it (size field 0).
    pub size: Option<u64>,
    /// 8, or 16 with a 64-bit size.
    pub header_size: u8,
}

impl BoxHeader {
    /// Reads a header at source offset `offset` from at least 8 (16 for a large size) bytes.
    pub fn parse(bytes: &[u8], offset: u64) -> Result<BoxHeader, BoxError> {
        let truncated = |want: u64| BoxError::Truncated {
            fourcc: FourCc(*b"????"),
            offset,
            want,
            have: bytes.len() as u64,
        };
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| truncated(8))?;
        let (name, rest) = rest.split_first_chunk::<4>().ok_or_else(|| truncated(8))?;
        let fourcc = FourCc(*name);
        let (size, header_size) = match u32::from_be_bytes(*size) {
            0 => (None, 8),
            1 => {
                let (large, _) = rest.split_first_chunk::<8>().ok_or_else(|| truncated(16))?;
                (Some(u64::from_be_bytes(*large)), 16)
            }
            small => (Some(u64::from(small)), 8),
        };
        match size {
            Some(size) if size < u64::from(header_size) => Err(BoxError::SizeTooSmall { fourcc, offset, size }),
            _ => Ok(BoxHeader {
                fourcc,
                size,
                header_size,
            }),
        }
    }
}

/// One box in memory: its kind, where it lies in the source, and a cursor over its payload.
///
/// Reads take from the front; every read is checked against the bytes left and fails with the box's name and offset.
#[derive(Clone, Copy, Debug)]
pub struct BoxReader<'a> {
    /// What the box is.
    pub fourcc: FourCc,
    /// Where the box starts in the source, for messages and offsets.
    pub offset: u64,
    payload_offset: u64,
    payload: &'a [u8],
}

impl<'a> BoxReader<'a> {
    /// A reader over `payload`, the content of a box `fourcc` that starts at `offset` and whose payload starts at
    /// `payload_offset` in the source.
    pub fn new(fourcc: FourCc, offset: u64, payload_offset: u64, payload: &'a [u8]) -> BoxReader<'a> {
        BoxReader {
            fourcc,
            offset,
            payload_offset,
            payload,
        }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> &'a [u8] {
        self.payload
    }

    /// Where the next byte to read lies in the source.
    pub fn position(&self) -> u64 {
        self.payload_offset
    }

    /// True when all is read.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// An error about this box.
    pub fn invalid(&self, what: impl Into<String>) -> BoxError {
        BoxError::Invalid {
            fourcc: self.fourcc,
            offset: self.offset,
            what: what.into(),
        }
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], BoxError> {
        let Some((head, tail)) = self.payload.split_at_checked(count) else {
            return Err(BoxError::Truncated {
                fourcc: self.fourcc,
                offset: self.offset,
                want: count as u64,
                have: self.payload.len() as u64,
            });
        };
        self.payload = tail;
        self.payload_offset += count as u64;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BoxError> {
        let bytes = self.bytes(N)?;
        bytes.try_into().map_err(|_| self.invalid("internal: short array"))
    }

    /// Skips `count` bytes.
    pub fn skip(&mut self, count: usize) -> Result<(), BoxError> {
        self.bytes(count).map(|_| ())
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, BoxError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Big-endian.
    pub fn u16(&mut self) -> Result<u16, BoxError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Big-endian.
    pub fn u24(&mut self) -> Result<u32, BoxError> {
        self.array::<3>().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Big-endian.
    pub fn u32(&mut self) -> Result<u32, BoxError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Big-endian, two's complement.
    pub fn i32(&mut self) -> Result<i32, BoxError> {
        self.array().map(i32::from_be_bytes)
    }

    /// Big-endian.
    pub fn u64(&mut self) -> Result<u64, BoxError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Four characters.
    pub fn fourcc(&mut self) -> Result<FourCc, BoxError> {
        self.array().map(FourCc)
    }

    /// Version and flags of a full box (ISO/IEC 14496-12:2022 4.2.2).
    pub fn version_and_flags(&mut self) -> Result<(u8, u32), BoxError> {
        let word = self.u32()?;
        Ok(((word >> 24) as u8, word & 0x00ff_ffff))
    }

    /// A 32-bit entry count, refused when `entry_size_bytes` times it exceeds the bytes left or when it exceeds
    /// `count_max`.
    pub fn entry_count(&mut self, entry_size_bytes: usize, count_max: usize) -> Result<usize, BoxError> {
        let count = self.u32()? as usize;
        let want = (count as u64).saturating_mul(entry_size_bytes as u64);
        if want > self.payload.len() as u64 {
            return Err(BoxError::Truncated {
                fourcc: self.fourcc,
                offset: self.offset,
                want,
                have: self.payload.len() as u64,
            });
        }
        if count > count_max {
            return Err(self.invalid(format!("{count} entries, at most {count_max} are read")));
        }
        Ok(count)
    }

    /// The next child box, or `None` at the end. Fewer than 8 trailing bytes (padding seen in the wild) end the walk.
    pub fn child(&mut self) -> Result<Option<BoxReader<'a>>, BoxError> {
        if self.payload.len() < 8 {
            return Ok(None);
        }
        let offset = self.payload_offset;
        let header = BoxHeader::parse(self.payload, offset)?;
        let have = self.payload.len() as u64;
        let size = header.size.unwrap_or(have);
        if size > have {
            return Err(BoxError::Truncated {
                fourcc: header.fourcc,
                offset,
                want: size,
                have,
            });
        }
        let whole = self.bytes(size as usize)?;
        let payload = whole.get(usize::from(header.header_size)..).unwrap_or_default();
        Ok(Some(BoxReader::new(
            header.fourcc,
            offset,
            offset + u64::from(header.header_size),
            payload,
        )))
    }
}

/// Appends boxes to a buffer; a box's size is patched when it is closed.
#[derive(Debug, Default)]
pub struct BoxWriter {
    buffer: Vec<u8>,
}

impl BoxWriter {
    /// An empty writer with room for `capacity_bytes`.
    pub fn with_capacity(capacity_bytes: usize) -> BoxWriter {
        BoxWriter {
            buffer: Vec::with_capacity(capacity_bytes),
        }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// True when nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Writes a box whose payload is what `fill` writes. Boxes made here stay below 4 GiB by the bounds in `limits`.
    pub fn write_box(&mut self, fourcc: &[u8; 4], fill: impl FnOnce(&mut BoxWriter)) {
        let start = self.buffer.len();
        self.u32(0);
        self.bytes(fourcc);
        fill(self);
        let size = (self.buffer.len() - start) as u32;
        self.patch_u32(start, size);
    }

    /// Writes a full box: version, 24 bits of flags, then what `fill` writes.
    pub fn write_full_box(&mut self, fourcc: &[u8; 4], version: u8, flags: u32, fill: impl FnOnce(&mut BoxWriter)) {
        self.write_box(fourcc, |w| {
            w.u32(u32::from(version) << 24 | flags & 0x00ff_ffff);
            fill(w);
        });
    }

    /// Replaces four bytes written earlier at `position`.
    pub fn patch_u32(&mut self, position: usize, value: u32) {
        self.buffer[position..position + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// As is.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// `count` zero bytes.
    pub fn zeros(&mut self, count: usize) {
        self.buffer.resize(self.buffer.len() + count, 0);
    }

    /// Appends `count` zero bytes and hands them out to be filled in.
    pub fn append_zeros(&mut self, count: usize) -> &mut [u8] {
        let start = self.buffer.len();
        self.zeros(count);
        &mut self.buffer[start..]
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.buffer.push(value);
    }

    /// Big-endian.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    /// Big-endian.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Big-endian, two's complement.
    pub fn i32(&mut self, value: i32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Big-endian.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// The bytes written.
    pub fn finish(self) -> Vec<u8> {
        self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_nest_and_read_back() {
        let mut writer = BoxWriter::default();
        writer.write_box(b"moov", |w| {
            w.write_full_box(b"mvhd", 1, 7, |w| w.u64(42));
            w.write_box(b"free", |w| w.zeros(3));
        });
        let bytes = writer.finish();
        let mut top = BoxReader::new(FourCc(*b"file"), 0, 100, &bytes);
        let mut moov = top.child().unwrap().unwrap();
        assert_eq!((moov.fourcc, moov.offset), (FourCc(*b"moov"), 100));
        let mut mvhd = moov.child().unwrap().unwrap();
        assert_eq!(mvhd.version_and_flags().unwrap(), (1, 7));
        assert_eq!(mvhd.u64().unwrap(), 42);
        assert_eq!(moov.child().unwrap().unwrap().remaining(), [0, 0, 0]);
        assert!(moov.child().unwrap().is_none());
    }

    #[test]
    fn hostile_sizes_are_refused_by_name() {
        let check = |bytes: &[u8], expected: &str| {
            let error = BoxReader::new(FourCc(*b"file"), 0, 0, bytes).child().unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(b"\0\0\0\x10moov", "moov at 0: wants 16 bytes, has 8");
        check(b"\0\0\0\x07moov", "moov at 0: size 7 is smaller than its header");
        check(b"\0\0\0\x01moov\0\0", "???? at 0: wants 16 bytes, has 10");
        check(
            b"\0\0\0\x01moov\xff\xff\xff\xff\xff\xff\xff\xff",
            "moov at 0: wants 18446744073709551615 bytes, has 16",
        );
    }

    #[test]
    fn entry_counts_never_exceed_the_bytes_left() {
        let payload = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        let mut reader = BoxReader::new(FourCc(*b"stts"), 9, 17, &payload);
        let error = reader.entry_count(8, usize::MAX).unwrap_err();
        assert_eq!(error.to_string(), "stts at 9: wants 34359738360 bytes, has 4");
    }
}
