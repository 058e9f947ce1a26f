//! Tags that players of sound files expect before and after the frames: ID3v2, ID3v1 and APE.

use crate::source::ReadError;
use crate::window::Window;

/// Tags in a row that are jumped over.
const TAG_COUNT_MAX: usize = 16;

/// Bytes of an ID3v2 tag at the start of `bytes`, header and footer included; at least ten bytes are needed.
pub(super) fn id3v2_size(bytes: &[u8]) -> Option<u64> {
    let [b'I', b'D', b'3', version, revision, flags, sizes @ ..] = bytes else {
        return None;
    };
    let sizes = sizes.first_chunk::<4>()?;
    if *version == 0xff || *revision == 0xff || sizes.iter().any(|byte| byte & 0x80 != 0) {
        return None;
    }
    let size = sizes.iter().fold(0u64, |size, byte| size << 7 | u64::from(*byte));
    let footer = if flags & 0x10 != 0 { 10 } else { 0 };
    Some(10 + size + footer)
}

/// Where the frames may start: after the ID3v2 tags at the start of `bytes`; beyond `bytes` when a tag reaches there.
pub(super) fn skip_leading(bytes: &[u8]) -> u64 {
    let mut offset = 0;
    for _ in 0..TAG_COUNT_MAX {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get(offset..))
            .unwrap_or_default();
        match id3v2_size(rest) {
            Some(size) => offset += size,
            None => break,
        }
    }
    offset
}

/// First byte behind the ID3v2 tags at the start of a source.
pub(super) fn leading_end(window: &mut Window<'_>) -> Result<u64, ReadError> {
    let mut offset = 0;
    for _ in 0..TAG_COUNT_MAX {
        match id3v2_size(window.peek(offset, 10)?) {
            Some(size) => offset += size,
            None => break,
        }
    }
    Ok(offset.min(window.source_size()))
}

/// First byte of the tags at the end of a source, or its size.
pub(super) fn trailing_start(window: &mut Window<'_>) -> Result<u64, ReadError> {
    let mut end = window.source_size();
    for _ in 0..TAG_COUNT_MAX {
        let id3v1 = end.checked_sub(128);
        let footer = end.checked_sub(32);
        if let Some(start) = id3v1
            && window.peek(start, 3)? == b"TAG"
        {
            end = start;
        } else if let Some(start) = footer
            && let Some(size) = ape_size(window.peek(start, 32)?)
            && let Some(start) = end.checked_sub(size)
        {
            end = start;
        } else {
            break;
        }
    }
    Ok(end)
}

/// Bytes of an APE tag whose footer is `bytes`, its optional header included.
fn ape_size(footer: &[u8]) -> Option<u64> {
    let rest = footer.strip_prefix(b"APETAGEX")?;
    let word = |at: usize| {
        rest.get(at..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map(|word| u32::from_le_bytes(*word))
    };
    let size = u64::from(word(4)?);
    let has_header = word(12)? & 1 << 31 != 0;
    (size >= 32).then_some(size + if has_header { 32 } else { 0 })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn id3_sizes() {
        let check = |bytes: &[u8], expected| assert_eq!(id3v2_size(bytes), expected, "{bytes:x?}");
        check(b"ID3\x04\0\0\0\0\x02\x01", Some(10 + 257));
        check(b"ID3\x04\0\x10\0\0\0\x01", Some(21));
        check(b"ID3\x04\0\0\0\0\x80\x01", None);
        check(b"ID3\x04\0\0\0\0", None);
        check(b"", None);
    }

    #[test]
    fn tags_at_both_ends_are_left_out() {
        let id3 = b"ID3\x04\0\0\0\0\0\x01x";
        let ape = |flags: u32| {
            let mut footer = b"APETAGEX\xd0\x07\0\0\x28\0\0\0\x01\0\0\0".to_vec();
            footer.extend(flags.to_le_bytes());
            footer.extend([0; 8]);
            footer
        };
        let mut file = [id3.as_slice(), id3, &[7; 300]].concat();
        file.extend([1; 40]); // header of the APE tag and 8 bytes of items
        file.extend(ape(1 << 31));
        file.extend(b"TAG");
        file.extend([0; 125]);
        let file = Bytes::from(file);
        let mut window = Window::new(&file, 1000);
        assert_eq!(leading_end(&mut window).unwrap(), 22);
        assert_eq!(trailing_start(&mut window).unwrap(), 322);
        assert_eq!(skip_leading(&file), 22);
        let short = Bytes::from_static(b"TAG");
        assert_eq!(trailing_start(&mut Window::new(&short, 1000)).unwrap(), 3);
    }
}
