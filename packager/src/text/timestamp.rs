//! Timestamp: the WebVTT spelling of a time.

use std::fmt::Write;

/// Appends `HH:MM:SS.mmm`; hours take as many digits as they need, at least two (WebVTT 4.3, "WebVTT timestamp").
pub(crate) fn write(out: &mut String, time_ms: u64) {
    let (hours, minutes) = (time_ms / 3_600_000, time_ms / 60_000 % 60);
    let (seconds, millis) = (time_ms / 1_000 % 60, time_ms % 1_000);
    // Writing to a String cannot fail.
    let _ = write!(out, "{hours:02}:{minutes:02}:{seconds:02}.{millis:03}");
}

/// Reads a timestamp at the start of `text`; gives milliseconds and what follows (WebVTT 6.3, "collect a WebVTT
/// timestamp").
pub(super) fn read(text: &str) -> Option<(u64, &str)> {
    let (first, rest) = digits(text)?;
    let (second, rest) = digits(rest.strip_prefix(':')?)?;
    let first_value: u64 = first.parse().ok()?;
    let hours_first = first.len() != 2 || first_value > 59 || rest.starts_with(':');
    let (hours, minutes, seconds, rest) = if hours_first {
        let (third, rest) = digits(rest.strip_prefix(':')?)?;
        (first_value, two(second)?, two(third)?, rest)
    } else {
        (0, first_value, two(second)?, rest)
    };
    let (fraction, rest) = digits(rest.strip_prefix('.')?)?;
    if fraction.len() != 3 || minutes > 59 || seconds > 59 {
        return None;
    }
    let millis: u64 = fraction.parse().ok()?;
    let time_ms = hours
        .checked_mul(3_600_000)?
        .checked_add(minutes * 60_000 + seconds * 1_000 + millis)?;
    Some((time_ms, rest))
}

/// The digits `text` starts with, at least one, and what follows.
pub(super) fn digits(text: &str) -> Option<(&str, &str)> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    if count == 0 { None } else { text.split_at_checked(count) }
}

fn two(digits: &str) -> Option<u64> {
    if digits.len() == 2 { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_webvtt_reads_them() {
        let check = |text: &str, expected: Option<(u64, &str)>| assert_eq!(read(text), expected, "{text}");
        check("00:00.000", Some((0, "")));
        check("00:01.234 x", Some((1_234, " x")));
        check("01:00:00.000", Some((3_600_000, "")));
        check("1:00:00.000", Some((3_600_000, "")));
        check("60:00:00.000", Some((216_000_000, "")));
        check("123456:00:00.001", Some((123_456 * 3_600_000 + 1, "")));
        check("00:00.0000", None);
        check("00:00,000", None);
        check("60:00.000", None);
        check("0:00.000", None);
        check("00:60.000", None);
        check("00:60:00.000", None);
        check("00:00:60.000", None);
        check("00:0.000", None);
        check("00:00", None);
        check("00:00.00", None);
        check(":00.000", None);
        check("99999999999999999999:00:00.000", None);
        check("9999999999999999:00:00.000", None);
    }

    #[test]
    fn what_is_written_is_read() {
        for time_ms in [
            0,
            1,
            999,
            59_999,
            3_599_999,
            3_600_000,
            360_000_000,
            super::super::TIME_MS_MAX,
            u64::MAX,
        ] {
            let mut text = String::new();
            write(&mut text, time_ms);
            assert_eq!(read(&text), Some((time_ms, "")), "{text}");
        }
    }
}
