//! Blocks (RFC 9559 10): track number, relative timestamp, flags, and where each laced frame lies.

use super::ebml::vint;

/// Longest run of bytes a block's own header takes: track number (8), timestamp and flags (3), lace count (1) and 255
/// sizes, each of which takes at most 8 bytes in EBML lacing or, in Xiph lacing, one byte for every 255 of a frame.
pub(super) const HEADER_SIZE_MAX: usize = 64 << 10;

/// Header bytes that are enough for any block without lacing, and for most with it.
pub(super) const HEADER_SIZE_USUAL: usize = 512;

/// One block: frames of one track that lie back to back in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub track_number: u64,
    /// Ticks of the file's TimestampScale.
    pub timestamp: i64,
    /// SimpleBlock: its flag; BlockGroup: no ReferenceBlock.
    pub keyframe: bool,
    /// Where each frame lies: offset in the source and bytes. Frames without bytes are left out.
    pub frames: Vec<(u64, u32)>,
    /// BlockDuration in ticks, for all frames together.
    pub duration: Option<u64>,
    /// Nanoseconds at the end of the last frame that are not to be heard.
    pub discard_padding: i64,
    /// Where the payload of BlockAdditions lies: offset in the source and bytes.
    pub additions: Option<(u64, u64)>,
}

/// Why a block's header could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockDamage {
    /// More of the header is needed than was given.
    Short,
    /// The header says what can not be.
    Invalid(&'static str),
}

/// How frames share a block (RFC 9559 10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacing {
    None,
    Xiph,
    Fixed,
    Ebml,
}

impl Block {
    /// Reads the header of a block whose payload starts at source offset `offset` and has `size` bytes, of which `bytes`
    /// are the first. The timestamp is the one relative to the cluster.
    ///
    /// Frames replace those of `self`, so that one block serves a whole walk.
    pub(super) fn read(&mut self, bytes: &[u8], offset: u64, size: u64) -> Result<(), BlockDamage> {
        self.frames.clear();
        self.duration = None;
        self.discard_padding = 0;
        self.additions = None;
        let mut cursor = Cursor { bytes, taken: 0 };
        self.track_number = cursor.vint()?.ok_or(BlockDamage::Invalid("track number is unknown"))?;
        let [high, low, flags] = [cursor.u8()?, cursor.u8()?, cursor.u8()?];
        self.timestamp = i64::from(i16::from_be_bytes([high, low]));
        self.keyframe = flags & 0x80 != 0;
        let lacing = match flags >> 1 & 3 {
            0 => Lacing::None,
            1 => Lacing::Xiph,
            2 => Lacing::Fixed,
            _ => Lacing::Ebml,
        };
        let frame_count = match lacing {
            Lacing::None => 1,
            _ => usize::from(cursor.u8()?) + 1,
        };
        let mut sizes = [0u64; 256];
        let (last, stated) = match sizes.get_mut(..frame_count).and_then(|sizes| sizes.split_last_mut()) {
            Some(split) => split,
            None => return Err(BlockDamage::Invalid("no frame")),
        };
        match lacing {
            Lacing::None => {}
            Lacing::Xiph => cursor.xiph_sizes(stated)?,
            Lacing::Ebml => cursor.ebml_sizes(stated)?,
            Lacing::Fixed => {
                let left = size.saturating_sub(cursor.taken as u64);
                if !left.is_multiple_of(frame_count as u64) {
                    return Err(BlockDamage::Invalid("fixed lacing does not divide the block"));
                }
                stated.fill(left / frame_count as u64);
            }
        }
        let header_size = cursor.taken as u64;
        let stated_size = stated.iter().try_fold(0u64, |sum, size| sum.checked_add(*size));
        *last = stated_size
            .and_then(|stated| size.checked_sub(header_size)?.checked_sub(stated))
            .ok_or(BlockDamage::Invalid("laced frames are larger than their block"))?;
        let mut frame_offset = offset + header_size;
        for frame_size in sizes.iter().take(frame_count) {
            let size = u32::try_from(*frame_size).map_err(|_| BlockDamage::Invalid("frame above 4 GiB"))?;
            if size > 0 {
                self.frames.push((frame_offset, size));
            }
            frame_offset += frame_size;
        }
        Ok(())
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    taken: usize,
}

impl Cursor<'_> {
    fn u8(&mut self) -> Result<u8, BlockDamage> {
        let byte = *self.bytes.get(self.taken).ok_or(BlockDamage::Short)?;
        self.taken += 1;
        Ok(byte)
    }

    /// A variable-size integer and the bytes it took.
    fn vint_sized(&mut self) -> Result<(Option<u64>, usize), BlockDamage> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        if rest.first() == Some(&0) {
            return Err(BlockDamage::Invalid("integer of more than 8 bytes"));
        }
        let (value, size) = vint(rest).ok_or(BlockDamage::Short)?;
        self.taken += size;
        Ok((value, size))
    }

    fn vint(&mut self) -> Result<Option<u64>, BlockDamage> {
        self.vint_sized().map(|(value, _)| value)
    }

    fn xiph_sizes(&mut self, sizes: &mut [u64]) -> Result<(), BlockDamage> {
        for size in sizes {
            loop {
                let byte = self.u8()?;
                *size += u64::from(byte);
                if byte < 255 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The first size as it is, each other as a signed difference to the one before (RFC 9559 10.3.3).
    fn ebml_sizes(&mut self, sizes: &mut [u64]) -> Result<(), BlockDamage> {
        let mut previous: Option<i64> = None;
        for size in sizes {
            let (value, value_size) = self.vint_sized()?;
            // All bits set is the largest value here, not an unknown size.
            let value = value.unwrap_or((1 << (7 * value_size)) - 1) as i64;
            let next = match previous {
                None => value,
                Some(previous) => previous + value - ((1 << (7 * value_size - 1)) - 1),
            };
            *size = u64::try_from(next).map_err(|_| BlockDamage::Invalid("laced frame of negative size"))?;
            previous = Some(next.min(i64::from(u32::MAX)));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn check(header: &[u8], size: u64, expected: Result<&[(u64, u32)], BlockDamage>) {
        let mut block = Block::default();
        let result = block.read(header, 1000, size).map(|()| block.frames.as_slice());
        assert_eq!(result, expected, "{header:x?}");
    }

    #[test]
    fn frames_lie_where_the_lacing_says() {
        check(&[0x81, 0, 5, 0x80], 104, Ok(&[(1004, 100)]));
        check(&[0x40, 0x81, 0, 5, 0x80], 105, Ok(&[(1005, 100)]));
        // Xiph: 800, 500, then the rest (RFC 9559 10.3.2).
        check(
            &[0x81, 0, 0, 0x02, 2, 255, 255, 255, 35, 255, 245],
            11 + 2300,
            Ok(&[(1011, 800), (1811, 500), (2311, 1000)]),
        );
        // EBML: 800, then 500 as -300, then the rest (RFC 9559 10.3.3).
        check(
            &[0x81, 0, 0, 0x06, 2, 0x43, 0x20, 0x5e, 0xd3],
            9 + 2300,
            Ok(&[(1009, 800), (1809, 500), (2309, 1000)]),
        );
        check(
            &[0x81, 0, 0, 0x04, 2],
            5 + 2400,
            Ok(&[(1005, 800), (1805, 800), (2605, 800)]),
        );
        // Empty frames hold nothing to serve.
        check(&[0x81, 0, 0, 0x04, 255], 5, Ok(&[]));
        check(&[0x81, 0, 0, 0x02, 1, 0], 6 + 10, Ok(&[(1006, 10)]));
    }

    #[test]
    fn damage_is_named() {
        use BlockDamage::{Invalid, Short};
        check(&[0x81, 0, 0], 3, Err(Short));
        check(&[], 0, Err(Short));
        check(&[0x81, 0, 0, 0x02, 1, 255, 255], 10_000, Err(Short));
        check(&[0, 1, 2, 3, 4, 5], 6, Err(Invalid("integer of more than 8 bytes")));
        check(&[0xff, 0, 0, 0], 6, Err(Invalid("track number is unknown")));
        check(
            &[0x81, 0, 0, 0x02, 1, 11],
            16,
            Err(Invalid("laced frames are larger than their block")),
        );
        check(
            &[0x81, 0, 0, 0x04, 2],
            5 + 100,
            Err(Invalid("fixed lacing does not divide the block")),
        );
        check(
            &[0x81, 0, 0, 0x06, 2, 0x81, 0x80],
            99,
            Err(Invalid("laced frame of negative size")),
        );
        check(&[0x81, 0, 0, 0], 1 << 33, Err(Invalid("frame above 4 GiB")));
        check(
            &[0x81, 0, 0, 0],
            2,
            Err(Invalid("laced frames are larger than their block")),
        );
    }

    #[test]
    fn timestamps_and_flags() {
        let mut block = Block::default();
        block.read(&[0x82, 0xff, 0xfe, 0x80, 1], 0, 5).unwrap();
        assert_eq!((block.track_number, block.timestamp, block.keyframe), (2, -2, true));
        block.read(&[0x82, 0x00, 0x7f, 0x00, 1], 0, 5).unwrap();
        assert_eq!((block.timestamp, block.keyframe), (127, false));
    }
}
