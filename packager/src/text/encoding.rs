//! Encoding: the bytes of a text file as characters, and which encoding that took.

use super::TextError;

/// How bytes were read as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    #[default]
    Utf8,
    /// UTF-8 with bytes that had to be replaced by U+FFFD, as WebVTT demands.
    Utf8Replaced,
    /// UTF-16, little endian, told by its byte order mark.
    Utf16Le,
    /// UTF-16, big endian, told by its byte order mark.
    Utf16Be,
    /// Not UTF-8 and without a byte order mark, so guessed: letters may be wrong.
    Windows1252Guessed,
}

/// UTF-8 with every bad byte replaced, without the byte order mark (WebVTT 6.1, "UTF-8 decode").
pub(super) fn utf8_replaced(bytes: &[u8]) -> (String, Encoding) {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), Encoding::Utf8),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Encoding::Utf8Replaced),
    }
}

/// UTF-8, or UTF-16 with a byte order mark, as XML allows without a declaration.
pub(super) fn unicode(bytes: &[u8]) -> Result<(String, Encoding), TextError> {
    if let Some(rest) = bytes.strip_prefix(b"\xFF\xFE") {
        return utf16(rest, u16::from_le_bytes, "UTF-16LE").map(|text| (text, Encoding::Utf16Le));
    }
    if let Some(rest) = bytes.strip_prefix(b"\xFE\xFF") {
        return utf16(rest, u16::from_be_bytes, "UTF-16BE").map(|text| (text, Encoding::Utf16Be));
    }
    let rest = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    match std::str::from_utf8(rest) {
        Ok(text) => Ok((text.to_owned(), Encoding::Utf8)),
        Err(error) => {
            let offset = (bytes.len() - rest.len() + error.valid_up_to()) as u64;
            Err(TextError::BadEncoding {
                encoding: "UTF-8",
                offset,
            })
        }
    }
}

/// As [`unicode`], but bytes that are no UTF-8 are taken for Windows-1252, which has a character for every byte.
pub(super) fn unicode_or_windows_1252(bytes: &[u8]) -> Result<(String, Encoding), TextError> {
    match unicode(bytes) {
        Err(TextError::BadEncoding { encoding: "UTF-8", .. }) => Ok((
            bytes.iter().map(|&byte| windows_1252(byte)).collect(),
            Encoding::Windows1252Guessed,
        )),
        other => other,
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16, encoding: &'static str) -> Result<String, TextError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(TextError::BadEncoding {
            encoding,
            offset: bytes.len() as u64 + 1,
        });
    }
    let mut text = String::with_capacity(bytes.len());
    // Offsets count the two bytes of the byte order mark.
    let mut offset = 2;
    for decoded in char::decode_utf16(pairs.iter().map(|&pair| unit(pair))) {
        let c = decoded.map_err(|_| TextError::BadEncoding { encoding, offset })?;
        offset += 2 * c.len_utf16() as u64;
        text.push(c);
    }
    Ok(text)
}

/// WHATWG Encoding Standard, index windows-1252: 0x80 to 0x9F differ from Latin-1.
fn windows_1252(byte: u8) -> char {
    const C1: [char; 32] = [
        '\u{20AC}', '\u{81}', '\u{201A}', '\u{192}', '\u{201E}', '\u{2026}', '\u{2020}', '\u{2021}', '\u{2C6}',
        '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8D}', '\u{17D}', '\u{8F}', '\u{90}', '\u{2018}', '\u{2019}',
        '\u{201C}', '\u{201D}', '\u{2022}', '\u{2013}', '\u{2014}', '\u{2DC}', '\u{2122}', '\u{161}', '\u{203A}',
        '\u{153}', '\u{9D}', '\u{17E}', '\u{178}',
    ];
    byte.checked_sub(0x80)
        .and_then(|index| C1.get(usize::from(index)).copied())
        .unwrap_or(char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_told_apart() {
        let check = |bytes: &[u8], expected: Result<(&str, Encoding), TextError>| {
            assert_eq!(
                unicode_or_windows_1252(bytes),
                expected.map(|(text, encoding)| (text.to_owned(), encoding))
            );
        };
        check(b"", Ok(("", Encoding::Utf8)));
        check(b"\xEF\xBB\xBFa", Ok(("a", Encoding::Utf8)));
        check("é".as_bytes(), Ok(("é", Encoding::Utf8)));
        check(b"\xE9\x80\x9F", Ok(("速", Encoding::Utf8)));
        check(
            b"\xE9 \x80 \x9F \x81 \xA0",
            Ok(("é € Ÿ \u{81} \u{A0}", Encoding::Windows1252Guessed)),
        );
        check(b"\xFF\xFEa\0=\xD8\x00\xDE", Ok(("a😀", Encoding::Utf16Le)));
        check(b"\xFE\xFF\0a\xD8=\xDE\x00", Ok(("a😀", Encoding::Utf16Be)));
        check(
            b"\xFF\xFEa\0b",
            Err(TextError::BadEncoding {
                encoding: "UTF-16LE",
                offset: 4,
            }),
        );
        check(
            b"\xFE\xFF\0a\xD8=",
            Err(TextError::BadEncoding {
                encoding: "UTF-16BE",
                offset: 4,
            }),
        );
    }

    #[test]
    fn bad_utf8_is_replaced_or_named() {
        assert_eq!(
            utf8_replaced(b"a\xFFb"),
            ("a\u{FFFD}b".to_owned(), Encoding::Utf8Replaced)
        );
        assert_eq!(
            unicode(b"\xEF\xBB\xBFa\xFF"),
            Err(TextError::BadEncoding {
                encoding: "UTF-8",
                offset: 4
            })
        );
    }
}
