//! HLS playlists (RFC 8216bis) written from a presentation: bytes appended once, no intermediate strings.

pub mod images;
pub mod media;
pub mod multivariant;

use std::ops::Range;

use crate::codec::MediaKind;
use crate::form::{Form, SegmentFormat};
use crate::presentation::{Presentation, Representation};
use crate::time::{MediaTime, Rounding, Timescale};

/// Highest feature used: EXT-X-MAP without I-FRAMES-ONLY needs 6, EXT-X-DEFINE 8, its QUERYPARAM 11 (RFC 8216bis 8).
const VERSION: u32 = 6;
const VERSION_WITH_DEFINE: u32 = 8;
const VERSION_WITH_QUERY_PARAMETER: u32 = 11;

/// Sound may begin so much before pictures, or end so much after them, and still travel in their segments.
const SOUND_BEYOND_PICTURES_MS_MAX: i64 = 500;

/// The audio that travels inside a form's video segments: MPEG-TS carries the only audio track itself, which is what
/// old players expect; with several tracks, and in CMAF, audio is a rendition of its own. So it is where it begins before the
/// pictures or ends after them, for no segment of theirs has its time.
pub fn muxed_audio(presentation: &Presentation, form: Form) -> Option<&Representation> {
    if form.format() != SegmentFormat::Ts
        || presentation.sound_apart
        || presentation.carried(form, MediaKind::Video).next().is_none()
    {
        return None;
    }
    let mut audio = presentation.carried(form, MediaKind::Audio);
    let only = audio.next().filter(|_| audio.next().is_none())?;
    let mut video = presentation.carried(form, MediaKind::Video);
    let fits = |video: &Representation| {
        let (pictures, sound) = (span_ms(video), span_ms(only));
        sound.start >= pictures.start - SOUND_BEYOND_PICTURES_MS_MAX
            && sound.end <= pictures.end + SOUND_BEYOND_PICTURES_MS_MAX
    };
    video.all(fits).then_some(only)
}

/// When a representation's segments begin and end, in milliseconds.
fn span_ms(representation: &Representation) -> Range<i64> {
    let table = &representation.segments;
    let millis = |ticks: u64| {
        let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
        MediaTime::new(ticks, table.timescale()).to_millis(Rounding::Nearest)
    };
    let segments = table.segments();
    let start = segments.first().map_or(0, |first| millis(first.start));
    start..segments.last().map_or(0, |last| millis(last.end()))
}

/// File extension of a representation's media segments in `form`.
pub fn segment_extension(representation: &Representation, form: Form) -> &'static str {
    match (representation.kind(), form.format()) {
        (MediaKind::Text, _) => "vtt",
        (_, SegmentFormat::Cmaf) => "m4s",
        (MediaKind::Video, SegmentFormat::Ts) => "ts",
        // The form carries nothing that has no packed form, so the fallback names no URL.
        (MediaKind::Audio, SegmentFormat::Ts) => {
            crate::mpegts::packed_audio::extension(representation.codec()).unwrap_or("ts")
        }
    }
}

/// Appends `ticks` of `scale` as seconds with six decimals.
fn push_seconds(out: &mut Vec<u8>, micros: u64) {
    push_number(out, micros / 1_000_000);
    let mut digits = [b'0'; 7];
    digits[0] = b'.';
    let mut rest = micros % 1_000_000;
    for digit in digits[1..].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits);
}

/// The instant in microseconds, rounded to nearest. Durations are differences of such instants, so that their sum is
/// never more than half a microsecond from the truth, however long the playlist.
fn micros(ticks: u64, scale: Timescale) -> u64 {
    let scale = u64::from(scale.get());
    match ticks
        .checked_mul(1_000_000)
        .and_then(|product| product.checked_add(scale / 2))
    {
        Some(product) => product / scale,
        None => {
            let product = u128::from(ticks) * 1_000_000 + u128::from(scale / 2);
            u64::try_from(product / u128::from(scale)).unwrap_or(u64::MAX)
        }
    }
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a quoted string. Quotes and line breaks can not be expressed in one (RFC 8216bis 4.2) and become their
/// nearest harmless neighbours.
fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice("\u{2033}".as_bytes()),
            '\r' | '\n' => out.push(b' '),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_six_decimals() {
        let check = |micros, expected: &str| {
            let mut out = Vec::new();
            push_seconds(&mut out, micros);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(4_004_000, "4.004000");
        check(1, "0.000001");
        check(3_600_000_000 * 60, "216000.000000");
    }

    #[test]
    fn rounded_instants_do_not_drift() {
        let scale = Timescale::new(30_000).unwrap();
        let total: u64 = (0..10_000u64)
            .map(|at| micros((at + 1) * 1001, scale) - micros(at * 1001, scale))
            .sum();
        assert_eq!(total, micros(10_010_000, scale));
        // Beyond what a product of 64 bits holds; beyond what a result of 64 bits holds.
        assert_eq!(micros(u64::MAX / 40, Timescale::MPEG_TS), 5_124_095_576_030_431_000);
        assert_eq!(micros(u64::MAX / 4, Timescale::MPEG_TS), u64::MAX);
    }

    #[test]
    fn quotes_and_line_breaks_can_not_leave_a_string() {
        let mut out = Vec::new();
        push_quoted(&mut out, "a\"b\n#EXT-X-KEY");
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\u{2033}b #EXT-X-KEY\"");
    }
}
