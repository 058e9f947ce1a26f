//! `tx3g`: 3GPP timed text (3GPP TS 26.245, "mov_text") as samples of an ISO BMFF or QuickTime track, in.
//!
//! A sample is one text that shows as long as the sample does; an empty one is a pause. Of the styles, bold, italic and
//! underlined are kept; places, colours and fonts are left out.

use super::times_fault;
use super::{Cue, DropReason, Parsed, TextError, TextSample, TextTrack, check_size, encoding, markup, push_cue};
use crate::isobmff::{BoxError, BoxReader, FourCc};

/// Face flags of a style record (5.16.1.2), each with its WebVTT tag, outermost first.
const FACES: [(u8, &str); 3] = [(1, "b"), (2, "i"), (4, "u")];

/// Bytes of a style record.
const STYLE_SIZE_BYTES: usize = 12;

/// Reads consecutive samples as cues.
///
/// # Errors
/// [`TextError::TooLarge`] and [`TextError::TooManyCues`]. What is wrong with one sample drops that sample alone.
pub fn parse(samples: &[TextSample]) -> Result<Parsed, TextError> {
    let mut parsed = Parsed::default();
    let mut cues = Vec::new();
    for (sample, number) in samples.iter().zip(1u64..) {
        check_size(&sample.bytes)?;
        let payload = match payload(&sample.bytes) {
            Ok(Some(payload)) => payload,
            Ok(None) => continue,
            Err(reason) => {
                parsed.drop_at(number, reason);
                continue;
            }
        };
        if let Some(reason) = times_fault(sample.start_ms, sample.end_ms()) {
            parsed.drop_at(number, reason);
            continue;
        }
        push_cue(
            &mut cues,
            Cue {
                start_ms: sample.start_ms,
                end_ms: sample.end_ms(),
                id: String::new(),
                settings: String::new(),
                payload,
            },
        )?;
    }
    parsed.track = TextTrack::new(Vec::new(), cues);
    Ok(parsed)
}

/// The cue text of a sample; `None` for a pause.
fn payload(bytes: &[u8]) -> Result<Option<String>, DropReason> {
    let mut reader = BoxReader::new(FourCc(*b"tx3g"), 0, 0, bytes);
    // QuickTime writes samples without a byte for pauses.
    if reader.remaining().is_empty() {
        return Ok(None);
    }
    let cut_off = |_| DropReason::CutOff;
    let size = usize::from(reader.u16().map_err(cut_off)?);
    let text = reader.bytes(size).map_err(cut_off)?;
    // UTF-8, or UTF-16 with a byte order mark (5.17).
    let text = match text {
        [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => encoding::unicode(text).map_err(|_| DropReason::BadEncoding)?.0,
        _ => encoding::utf8_replaced(text).0,
    };
    let mut styles = Vec::new();
    // Boxes behind the text only decorate it: what can not be read of them is left out.
    while let Ok(Some(mut child)) = reader.child() {
        if child.fourcc == FourCc(*b"styl") {
            styles = style_records(&mut child).unwrap_or_default();
        }
    }
    let marked = marked(&text, &styles);
    Ok((!text.trim().is_empty()).then_some(marked))
}

/// First character, first character no longer in it, and how it is set.
struct Style {
    start: usize,
    end: usize,
    faces: u8,
}

fn style_records(styl: &mut BoxReader<'_>) -> Result<Vec<Style>, BoxError> {
    let count = usize::from(styl.u16()?).min(styl.remaining().len() / STYLE_SIZE_BYTES);
    let mut styles = Vec::with_capacity(count);
    for _ in 0..count {
        let (start, end) = (usize::from(styl.u16()?), usize::from(styl.u16()?));
        styl.skip(2)?;
        let faces = styl.u8()?;
        styl.skip(1 + 4)?;
        styles.push(Style { start, end, faces });
    }
    Ok(styles)
}

/// Text as cue text, in which the first style that names a character counts. Tags do not cross line ends.
fn marked(text: &str, styles: &[Style]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut open = 0;
    let mut styles = styles.iter().filter(|style| style.start < style.end).peekable();
    let mut run = String::new();
    for (at, c) in text.chars().enumerate() {
        // Records are in order and do not overlap (5.17.1.1).
        while styles.next_if(|style| style.end <= at).is_some() {}
        let faces = match (c, styles.peek()) {
            ('\n' | '\r', _) => 0,
            (_, Some(style)) if style.start <= at => style.faces & 7,
            _ => 0,
        };
        if faces != open {
            markup::escape_into(&mut out, &run);
            run.clear();
            turn(&mut out, open, faces);
            open = faces;
        }
        run.push(c);
    }
    markup::escape_into(&mut out, &run);
    turn(&mut out, open, 0);
    out
}

/// Closes what is open and opens what comes.
fn turn(out: &mut String, open: u8, faces: u8) {
    for (_, tag) in FACES.iter().rev().filter(|(flag, _)| open & flag != 0) {
        out.push_str("</");
        out.push_str(tag);
        out.push('>');
    }
    for (_, tag) in FACES.iter().filter(|(flag, _)| faces & flag != 0) {
        out.push('<');
        out.push_str(tag);
        out.push('>');
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn sample(start_ms: u64, duration_ms: u64, bytes: &[u8]) -> TextSample {
        TextSample {
            start_ms,
            duration_ms,
            bytes: Bytes::copy_from_slice(bytes),
        }
    }

    fn text(text: &[u8], boxes: &[u8]) -> Vec<u8> {
        [&(text.len() as u16).to_be_bytes(), text, boxes].concat()
    }

    fn styl(records: &[(u16, u16, u8)]) -> Vec<u8> {
        let mut bytes = (10 + records.len() as u32 * 12).to_be_bytes().to_vec();
        bytes.extend_from_slice(b"styl");
        bytes.extend_from_slice(&(records.len() as u16).to_be_bytes());
        for (start, end, faces) in records {
            bytes.extend_from_slice(&start.to_be_bytes());
            bytes.extend_from_slice(&end.to_be_bytes());
            bytes.extend_from_slice(&[0, 1, *faces, 18, 255, 255, 255, 255]);
        }
        bytes
    }

    fn check(bytes: &[u8], expected: Option<&str>) {
        let parsed = parse(&[sample(500, 1_000, bytes)]).unwrap();
        let cues: Vec<_> = parsed
            .track
            .cues()
            .iter()
            .map(|cue| (cue.start_ms, cue.end_ms, cue.payload.as_str()))
            .collect();
        let expected: Vec<_> = expected.map(|text| (500, 1_500, text)).into_iter().collect();
        assert_eq!(cues, expected, "{bytes:02x?}");
    }

    #[test]
    fn samples_become_cues_with_their_faces() {
        check(&text(b"plain", &[]), Some("plain"));
        check(&text(b"a < b & c\nnext", &[]), Some("a &lt; b &amp; c\nnext"));
        check(&text(b"", &[]), None);
        check(&[], None);
        check(&text(b" \n", &[]), None);
        check(&text(b"\xfe\xff\0h\0i", &[]), Some("hi"));
        check(
            &text("\u{e9}t\u{e9}".as_bytes(), &styl(&[(0, 1, 2)])),
            Some("<i>\u{e9}</i>t\u{e9}"),
        );
        check(
            &text(b"one two\nsix", &styl(&[(0, 3, 1), (4, 9, 6), (10, 90, 0)])),
            Some("<b>one</b> <i><u>two</u></i>\n<i><u>s</u></i>ix"),
        );
        // Backwards, beyond the end, and a box that is cut off.
        check(&text(b"word", &styl(&[(3, 1, 1), (50, 60, 1)])), Some("word"));
        check(&text(b"word", &styl(&[(0, 4, 1)])[..15]), Some("word"));
    }

    #[test]
    fn hostile_samples_lose_no_more_than_themselves() {
        let whole = text(b"one two", &styl(&[(0, 3, 1)]));
        for end in 0..whole.len() {
            let parsed = parse(&[sample(0, 10, &whole[..end]), sample(10, 10, &text(b"kept", &[]))]).unwrap();
            assert_eq!(parsed.track.cues().last().unwrap().payload, "kept", "{end}");
        }
        let many = [&[0, 1][..], b"x", &[0, 0, 0, 10], b"styl", &[0xff, 0xff]].concat();
        check(&many, Some("x"));
        let parsed = parse(&[sample(0, 0, &text(b"never", &[])), sample(0, 9, &[0, 9, b'x'])]).unwrap();
        assert_eq!((parsed.track.cues().len(), parsed.dropped_count), (0, 2));
        // Half of a surrogate pair is no text, and no pause either.
        let parsed = parse(&[sample(0, 9, &text(b"\xfe\xff\xd8\0", &[]))]).unwrap();
        assert_eq!((parsed.track.cues().len(), parsed.dropped_count), (0, 1));
    }
}
