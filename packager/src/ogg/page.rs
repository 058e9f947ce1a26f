//! Ogg pages (RFC 3533 6): found by their capture pattern, believed by their checksum.

/// Longest page: header, 255 lacing values, 255 segments of 255 bytes.
pub(super) const PAGE_SIZE_MAX: usize = 27 + 255 + 255 * 255;

const HEADER_SIZE: usize = 27;
const CAPTURE_PATTERN: &[u8] = b"OggS";

/// A page whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page<'a> {
    /// The first packet began on an earlier page.
    pub continued: bool,
    /// First page of its stream.
    pub first: bool,
    /// Last page of its stream.
    pub last: bool,
    /// End of the last packet that ends here, in the codec's terms; `None` when none ends here.
    pub granule_position: Option<i64>,
    pub serial: u32,
    pub sequence: u32,
    lacing: &'a [u8],
    body: &'a [u8],
}

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A page and the bytes it takes.
    Page(Page<'a>, usize),
    /// Maybe a page, but not all of it is there.
    Incomplete,
    /// No page starts within this many bytes.
    Junk(usize),
}

impl<'a> Page<'a> {
    /// Looks at the start of `bytes`.
    pub(super) fn find(bytes: &'a [u8]) -> Found<'a> {
        if !bytes.starts_with(CAPTURE_PATTERN) {
            let pattern = bytes.windows(4).position(|window| window == CAPTURE_PATTERN);
            // A pattern may lie across the end.
            return match pattern.unwrap_or(bytes.len().saturating_sub(3)) {
                0 => Found::Incomplete,
                junk_size => Found::Junk(junk_size),
            };
        }
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_SIZE>() else {
            return Found::Incomplete;
        };
        let [
            _,
            _,
            _,
            _,
            version,
            flags,
            granule @ ..,
            s0,
            s1,
            s2,
            s3,
            n0,
            n1,
            n2,
            n3,
            c0,
            c1,
            c2,
            c3,
            count,
        ] = header;
        if *version != 0 {
            return Found::Junk(1);
        }
        let Some((lacing, rest)) = rest.split_at_checked(usize::from(*count)) else {
            return Found::Incomplete;
        };
        let body_size: usize = lacing.iter().map(|size| usize::from(*size)).sum();
        let Some(body) = rest.get(..body_size) else {
            return Found::Incomplete;
        };
        let head = header.get(..22).unwrap_or_default();
        let parts = [head, &[0; 4], &[*count], lacing, body];
        if parts.into_iter().fold(0, checksum) != u32::from_le_bytes([*c0, *c1, *c2, *c3]) {
            return Found::Junk(1);
        }
        let granule = i64::from_le_bytes(*granule);
        let page = Page {
            continued: flags & 1 != 0,
            first: flags & 2 != 0,
            last: flags & 4 != 0,
            granule_position: (granule != -1).then_some(granule),
            serial: u32::from_le_bytes([*s0, *s1, *s2, *s3]),
            sequence: u32::from_le_bytes([*n0, *n1, *n2, *n3]),
            lacing,
            body,
        };
        Found::Page(page, HEADER_SIZE + lacing.len() + body_size)
    }

    /// The pieces of packets on this page, in order, and whether the packet ends with the piece.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (&'a [u8], bool)> {
        let (mut lacing, mut body) = (self.lacing, self.body);
        std::iter::from_fn(move || {
            if lacing.is_empty() {
                return None;
            }
            let end = lacing.iter().position(|size| *size < 255);
            let segment_count = end.map_or(lacing.len(), |end| end + 1);
            let (segments, later) = lacing.split_at_checked(segment_count)?;
            let size = segments.iter().map(|size| usize::from(*size)).sum();
            let (piece, rest) = body.split_at_checked(size)?;
            (lacing, body) = (later, rest);
            Some((piece, end.is_some()))
        })
    }
}

/// CRC-32 with polynomial 0x04c11db7, most significant bit first, from zero (RFC 3533 6, field 7).
#[expect(clippy::indexing_slicing, reason = "an index past the end would not compile")]
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = (at as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 << 31 != 0 {
                crc << 1 ^ 0x04c1_1db7
            } else {
                crc << 1
            };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

fn checksum(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        let at = usize::from((crc >> 24) as u8 ^ byte);
        crc << 8 ^ TABLE.get(at).copied().unwrap_or(0)
    })
}

/// Writes a page, for tests.
#[cfg(test)]
pub(super) fn write(flags: u8, granule: i64, serial: u32, sequence: u32, packets: &[&[u8]], open: bool) -> Vec<u8> {
    let mut lacing = Vec::new();
    for packet in packets {
        lacing.extend(std::iter::repeat_n(255, packet.len() / 255));
        lacing.push((packet.len() % 255) as u8);
    }
    if open {
        lacing.pop();
    }
    let mut page = CAPTURE_PATTERN.to_vec();
    page.extend([0, flags]);
    page.extend(granule.to_le_bytes());
    page.extend(serial.to_le_bytes());
    page.extend(sequence.to_le_bytes());
    page.extend([0; 4]);
    page.push(lacing.len() as u8);
    page.extend(lacing);
    page.extend(packets.concat());
    let crc = checksum(0, &page);
    page.splice(22..26, crc.to_le_bytes());
    page
}

/// Puts the checksum of every page right that still has its pattern and fits, for tests.
#[cfg(test)]
pub(super) fn repair(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(skip) = bytes
        .get(at..)
        .and_then(|rest| rest.windows(4).position(|four| four == CAPTURE_PATTERN))
    {
        at += skip;
        let Some(lacing_size) = bytes.get(at + 26).copied().map(usize::from) else {
            return;
        };
        let Some(lacing) = bytes.get(at + 27..at + 27 + lacing_size) else {
            return;
        };
        let size = 27 + lacing_size + lacing.iter().map(|size| usize::from(*size)).sum::<usize>();
        let Some(page) = bytes.get_mut(at..at + size) else {
            at += 4;
            continue;
        };
        if let Some(crc) = page.get_mut(22..26) {
            crc.fill(0);
        }
        let crc = checksum(0, page);
        if let Some(stored) = page.get_mut(22..26) {
            stored.copy_from_slice(&crc.to_le_bytes());
        }
        at += size;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_packets_and_pieces() {
        let long = vec![7; 510];
        let bytes = write(1, -1, 9, 3, &[b"abc", &[], &long], true);
        let Found::Page(page, size) = Page::find(&bytes) else {
            panic!("{:?}", Page::find(&bytes))
        };
        assert_eq!(size, bytes.len());
        assert!(page.continued && !page.first && !page.last);
        assert_eq!((page.granule_position, page.serial, page.sequence), (None, 9, 3));
        let pieces: Vec<_> = page.pieces().map(|(piece, ends)| (piece.len(), ends)).collect();
        assert_eq!(pieces, [(3, true), (0, true), (510, false)]);
    }

    #[test]
    fn what_is_no_page_is_told() {
        let page = write(6, 960, 1, 0, &[b"packet"], false);
        for size in 0..page.len() {
            assert_eq!(Page::find(&page[..size]), Found::Incomplete, "{size}");
        }
        let behind = [b"junk!".as_slice(), &page].concat();
        assert_eq!(Page::find(&behind), Found::Junk(5));
        assert_eq!(Page::find(b"no page at all Og"), Found::Junk(14));
        for at in 4..page.len() {
            let mut bad = page.clone();
            bad[at] ^= 0x40;
            assert!(!matches!(Page::find(&bad), Found::Page(..)), "{at}");
        }
    }
}
