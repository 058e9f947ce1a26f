//! EBML elements (RFC 8794): variable-size integers, element heads, and a reader over a master element in memory.

use super::MatroskaError;

/// Longest element head: 4 bytes of id, 8 of size.
pub(super) const HEAD_SIZE_MAX: usize = 12;

/// Id and size of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// With its length marker, as RFC 9559 prints it.
    pub id: u32,
    /// Bytes of payload; `None` for an unknown size (RFC 8794 6.2).
    pub size: Option<u64>,
    /// Bytes of the head itself.
    pub head_size: u8,
}

impl Head {
    /// Reads a head from up to [`HEAD_SIZE_MAX`] bytes; `None` when they are too few or no head.
    pub(super) fn parse(bytes: &[u8]) -> Option<Head> {
        let first = *bytes.first()?;
        let id_size = first.leading_zeros() as usize + 1;
        if id_size > 4 {
            return None;
        }
        let id = bytes
            .get(..id_size)?
            .iter()
            .fold(0u32, |id, byte| id << 8 | u32::from(*byte));
        let (size, size_size) = vint(bytes.get(id_size..)?)?;
        Some(Head {
            id,
            size,
            head_size: (id_size + size_size) as u8,
        })
    }
}

/// A variable-size integer without its marker and the bytes it takes; all value bits set mean unknown (`None`).
pub(super) fn vint(bytes: &[u8]) -> Option<(Option<u64>, usize)> {
    let first = *bytes.first()?;
    let size = first.leading_zeros() as usize + 1;
    if size > 8 {
        return None;
    }
    let value_bits = 7 * size as u32;
    let mask = (1u64 << value_bits) - 1;
    let value = bytes
        .get(..size)?
        .iter()
        .fold(0u64, |value, byte| value << 8 | u64::from(*byte))
        & mask;
    Some(((value != mask).then_some(value), size))
}

/// An element in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    /// With its length marker.
    pub id: u32,
    /// Where the element starts in the source.
    pub offset: u64,
    /// Where its payload starts in the source.
    pub payload_offset: u64,
    /// Its content.
    pub payload: &'a [u8],
}

impl<'a> Element<'a> {
    fn malformed(&self, what: impl Into<String>) -> MatroskaError {
        MatroskaError::Malformed {
            id: self.id,
            offset: self.offset,
            what: what.into(),
        }
    }

    /// An unsigned integer; an empty payload is zero (RFC 8794 7.2).
    pub(super) fn uint(&self) -> Result<u64, MatroskaError> {
        match self.payload.len() {
            0..=8 => Ok(self.payload.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))),
            size => Err(self.malformed(format!("an unsigned integer of {size} bytes"))),
        }
    }

    /// A signed integer, two's complement.
    pub(super) fn int(&self) -> Result<i64, MatroskaError> {
        let unsigned = self.uint()?;
        let unused_bits = 64 - 8 * self.payload.len() as u32;
        Ok(match unused_bits {
            64 => 0,
            bits => ((unsigned << bits) as i64) >> bits,
        })
    }

    /// A float of 0, 4 or 8 bytes.
    pub(super) fn float(&self) -> Result<f64, MatroskaError> {
        if self.payload.is_empty() {
            return Ok(0.0);
        }
        if let Ok(bytes) = <[u8; 4]>::try_from(self.payload) {
            return Ok(f64::from(f32::from_be_bytes(bytes)));
        }
        match <[u8; 8]>::try_from(self.payload) {
            Ok(bytes) => Ok(f64::from_be_bytes(bytes)),
            Err(_) => Err(self.malformed(format!("a float of {} bytes", self.payload.len()))),
        }
    }

    /// A string up to its first zero byte; what is not UTF-8 is replaced.
    pub(super) fn string(&self) -> String {
        let text = self.payload.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    /// The elements inside.
    pub(super) fn children(&self) -> Elements<'a> {
        Elements {
            parent: self.id,
            bytes: self.payload,
            offset: self.payload_offset,
        }
    }
}

/// The elements of a master element in memory, in order.
#[derive(Clone, Debug)]
pub(super) struct Elements<'a> {
    parent: u32,
    bytes: &'a [u8],
    offset: u64,
}

impl<'a> Elements<'a> {
    fn next_element(&mut self) -> Result<Element<'a>, MatroskaError> {
        let malformed = |id, what| MatroskaError::Malformed {
            id,
            offset: self.offset,
            what,
        };
        let head = Head::parse(self.bytes)
            .ok_or_else(|| malformed(self.parent, "holds something that is no element".to_owned()))?;
        let head_size = usize::from(head.head_size);
        let have = self.bytes.len() - head_size;
        let size = match head.size {
            Some(size) if size <= have as u64 => size as usize,
            Some(size) => return Err(malformed(head.id, format!("wants {size} bytes, has {have}"))),
            None => return Err(malformed(head.id, "unknown size where a size is needed".to_owned())),
        };
        let (whole, rest) = self.bytes.split_at(head_size + size);
        let element = Element {
            id: head.id,
            offset: self.offset,
            payload_offset: self.offset + head_size as u64,
            payload: whole.get(head_size..).unwrap_or_default(),
        };
        self.bytes = rest;
        self.offset += (head_size + size) as u64;
        Ok(element)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, MatroskaError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let element = self.next_element();
        if element.is_err() {
            self.bytes = &[];
        }
        Some(element)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn variable_size_integers() {
        let check = |bytes: &[u8], expected| assert_eq!(vint(bytes), expected, "{bytes:x?}");
        check(&[0x81], Some((Some(1), 1)));
        check(&[0xff], Some((None, 1)));
        check(&[0x40, 0x7f], Some((Some(127), 2)));
        check(&[0x7f, 0xff], Some((None, 2)));
        check(&[0x01, 0, 0, 0, 0, 0, 1, 0], Some((Some(256), 8)));
        check(&[0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Some((None, 8)));
        check(&[0x01, 0, 0], None);
        check(&[0x00, 0, 0, 0, 0, 0, 0, 0, 0], None);
        check(&[], None);
    }

    #[test]
    fn heads() {
        let check = |bytes: &[u8], expected: Option<(u32, Option<u64>, u8)>| {
            let head = Head::parse(bytes).map(|head| (head.id, head.size, head.head_size));
            assert_eq!(head, expected, "{bytes:x?}");
        };
        check(&[0xa3, 0x85], Some((0xa3, Some(5), 2)));
        check(&[0x1a, 0x45, 0xdf, 0xa3, 0xff], Some((0x1a45dfa3, None, 5)));
        check(&[0x08, 0, 0, 0, 0, 0x80], None);
        check(&[0x1a, 0x45, 0xdf], None);
        check(&[], None);
    }

    #[test]
    fn payloads_are_read_by_type() {
        let element = |payload: &'static [u8]| Element {
            id: 0x75a2,
            offset: 9,
            payload_offset: 12,
            payload,
        };
        assert_eq!(element(&[1, 0]).uint().unwrap(), 256);
        assert_eq!(element(&[]).uint().unwrap(), 0);
        assert_eq!(element(&[0xff, 0xfe]).int().unwrap(), -2);
        assert_eq!(element(&[]).int().unwrap(), 0);
        assert_eq!(element(&[0x80, 0, 0, 0, 0, 0, 0, 0]).int().unwrap(), i64::MIN);
        assert_eq!(element(&[0x47, 0x3b, 0x80, 0]).float().unwrap(), 48000.0);
        assert_eq!(element(b"und\0\0").string(), "und");
        let error = element(&[0; 9]).uint().unwrap_err();
        assert_eq!(error.to_string(), "element 75a2 at 9: an unsigned integer of 9 bytes");
        let error = element(&[0; 3]).float().unwrap_err();
        assert_eq!(error.to_string(), "element 75a2 at 9: a float of 3 bytes");
    }

    #[test]
    fn children_stop_at_the_first_damage() {
        let check = |payload: &[u8], ids: &[u32], error: Option<&str>| {
            let mut seen = Vec::new();
            let mut failed = None;
            let master = Element {
                id: 0xae,
                offset: 100,
                payload_offset: 102,
                payload,
            };
            for child in master.children() {
                match child {
                    Ok(child) => seen.push(child.id),
                    Err(error) => failed = Some(error.to_string()),
                }
            }
            assert_eq!((seen.as_slice(), failed.as_deref()), (ids, error));
        };
        check(&[0xd7, 0x81, 1, 0x83, 0x80], &[0xd7, 0x83], None);
        check(
            &[0xd7, 0x81, 1, 0x83, 0x82, 1],
            &[0xd7],
            Some("element 83 at 105: wants 2 bytes, has 1"),
        );
        check(
            &[0xd7, 0xff],
            &[],
            Some("element d7 at 102: unknown size where a size is needed"),
        );
        check(
            &[0, 0],
            &[],
            Some("element ae at 102: holds something that is no element"),
        );
    }
}
