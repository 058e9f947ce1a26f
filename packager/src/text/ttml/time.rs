//! Time expressions of TTML and the parameters they depend on (TTML2 8.3.1 and 7.2).

use super::super::timestamp::digits;

/// Nanoseconds in a second.
const SECOND_NS: u128 = 1_000_000_000;

/// Highest frame, sub-frame or tick rate that is believed; 10 MHz ticks are common.
const RATE_MAX: u64 = 1_000_000_000_000;

/// What time expressions of a document are measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    /// `ttp:frameRate`.
    frame_rate: u64,
    /// `ttp:frameRateMultiplier`: numerator and denominator.
    frame_rate_multiplier: (u64, u64),
    /// `ttp:subFrameRate`.
    sub_frame_rate: u64,
    /// `ttp:tickRate`.
    tick_rate: u64,
    /// Clock times count frames from the start, so that hours are as long as their frames take (`smpte`, non-drop).
    counts_frames: bool,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            frame_rate: 30,
            frame_rate_multiplier: (1, 1),
            sub_frame_rate: 1,
            tick_rate: 1,
            counts_frames: false,
        }
    }
}

impl Clock {
    /// Reads the timing parameters of `tt`.
    ///
    /// # Errors
    /// A parameter that is malformed, or a time base in which times of the presentation cannot be known.
    pub(super) fn new<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> Result<Self, &'static str> {
        let mut clock = Self::default();
        let rate = |name: &str| match parameter(name) {
            None => Ok(None),
            Some(text) => {
                let value = text.trim().parse().ok().filter(|value| (1..=RATE_MAX).contains(value));
                value
                    .map(Some)
                    .ok_or("frameRate, subFrameRate or tickRate is not a positive number")
            }
        };
        let frame_rate = rate("frameRate")?;
        clock.frame_rate = frame_rate.unwrap_or(clock.frame_rate);
        clock.sub_frame_rate = rate("subFrameRate")?.unwrap_or(clock.sub_frame_rate);
        if let Some(text) = parameter("frameRateMultiplier") {
            // "1000 1001"; early drafts wrote "1000:1001".
            let mut parts = text.split([' ', ':']).filter(|part| !part.is_empty());
            let mut part = || {
                parts
                    .next()
                    .and_then(|part| part.parse::<u64>().ok())
                    .filter(|n| (1..=RATE_MAX).contains(n))
            };
            let numerator = part().ok_or("frameRateMultiplier is not two positive numbers")?;
            clock.frame_rate_multiplier = (numerator, part().unwrap_or(1));
        }
        // TTML2 7.2.10: without tickRate, ticks are sub-frames when there is a frame rate, else seconds.
        let tick_rate_implied = match frame_rate {
            Some(frame_rate) => frame_rate.checked_mul(clock.sub_frame_rate).unwrap_or(RATE_MAX),
            None => 1,
        };
        clock.tick_rate = rate("tickRate")?.unwrap_or(tick_rate_implied);
        match parameter("timeBase").map(str::trim) {
            None | Some("media") => {}
            Some("smpte") => match parameter("dropMode").map(str::trim) {
                None | Some("nonDrop") => clock.counts_frames = true,
                Some(_) => return Err("timeBase smpte with drop frames is not supported"),
            },
            Some("clock") => return Err("timeBase clock is not supported: times are not of the presentation"),
            Some(_) => return Err("unknown timeBase"),
        }
        Ok(clock)
    }

    /// Nanoseconds of a clock time or offset time, rounded to nearest; `None` for anything else, wall clock times
    /// included.
    pub(super) fn parse(&self, text: &str) -> Option<u128> {
        let (first, rest) = digits(text.trim())?;
        match rest.strip_prefix(':') {
            Some(rest) => self.clock_time(first, rest),
            None => self.offset_time(first, rest),
        }
    }

    /// `hh:mm:ss`, then `.fraction`, `:frames` or `:frames.sub-frames`.
    fn clock_time(&self, hours: &str, rest: &str) -> Option<u128> {
        let (minutes, rest) = digits(rest)?;
        let (seconds, rest) = digits(rest.strip_prefix(':')?)?;
        let (hours, minutes, seconds): (u128, u128, u128) =
            (hours.parse().ok()?, minutes.parse().ok()?, seconds.parse().ok()?);
        if minutes > 59 || seconds > 60 {
            return None;
        }
        let whole_s = hours.checked_mul(3_600)?.checked_add(minutes * 60 + seconds)?;
        if let Some(fraction) = rest.strip_prefix('.') {
            let (fraction, rest) = digits(fraction)?;
            let (numerator, denominator) = decimal(0, fraction)?;
            let fraction_ns = numerator.checked_mul(SECOND_NS)? / denominator;
            return if rest.is_empty() {
                self.whole_ns(whole_s)?.checked_add(fraction_ns)
            } else {
                None
            };
        }
        let (frames, sub_frames) = match rest.strip_prefix(':') {
            None if rest.is_empty() => ("0", "0"),
            None => return None,
            Some(rest) => {
                let (frames, rest) = digits(rest)?;
                match rest.strip_prefix('.') {
                    None if rest.is_empty() => (frames, "0"),
                    None => return None,
                    Some(rest) => (frames, digits(rest).filter(|(_, rest)| rest.is_empty())?.0),
                }
            }
        };
        let sub_frame_rate = u128::from(self.sub_frame_rate);
        let sub_frame_count = frames
            .parse::<u128>()
            .ok()?
            .checked_mul(sub_frame_rate)?
            .checked_add(sub_frames.parse::<u128>().ok()?)?;
        self.whole_ns(whole_s)?
            .checked_add(self.frames_ns(sub_frame_count, sub_frame_rate)?)
    }

    /// How long the whole seconds of a clock time take.
    fn whole_ns(&self, whole_s: u128) -> Option<u128> {
        if self.counts_frames {
            self.frames_ns(whole_s.checked_mul(u128::from(self.frame_rate))?, 1)
        } else {
            whole_s.checked_mul(SECOND_NS)
        }
    }

    /// A decimal number and its metric.
    fn offset_time(&self, whole: &str, rest: &str) -> Option<u128> {
        let (fraction, metric) = match rest.strip_prefix('.') {
            Some(rest) => digits(rest)?,
            None => ("", rest),
        };
        let (numerator, denominator) = decimal(whole.parse().ok()?, fraction)?;
        let of_unit = |unit_ns: u128| Some(nearest(numerator.checked_mul(unit_ns)?, denominator));
        match metric {
            "h" => of_unit(3_600 * SECOND_NS),
            "m" => of_unit(60 * SECOND_NS),
            "s" => of_unit(SECOND_NS),
            "ms" => of_unit(SECOND_NS / 1_000),
            "f" => self.frames_ns(numerator, denominator),
            "t" => {
                let denominator = denominator.checked_mul(u128::from(self.tick_rate))?;
                Some(nearest(numerator.checked_mul(SECOND_NS)?, denominator))
            }
            _ => None,
        }
    }

    /// `count / parts` frames.
    fn frames_ns(&self, count: u128, parts: u128) -> Option<u128> {
        let (multiplier, divisor) = self.frame_rate_multiplier;
        let numerator = count.checked_mul(SECOND_NS)?.checked_mul(u128::from(divisor))?;
        let denominator = parts
            .checked_mul(u128::from(self.frame_rate))?
            .checked_mul(u128::from(multiplier))?;
        Some(nearest(numerator, denominator))
    }
}

/// Milliseconds, rounded to nearest; `None` when they do not fit.
pub(super) fn to_ms(time_ns: u128) -> Option<u64> {
    u64::try_from(nearest(time_ns, SECOND_NS / 1_000)).ok()
}

/// `numerator / denominator` rounded to nearest, halves up. The denominator is never 0 here: rates are positive.
fn nearest(numerator: u128, denominator: u128) -> u128 {
    let denominator = denominator.max(1);
    (numerator / denominator).saturating_add(u128::from(numerator % denominator >= denominator.div_ceil(2)))
}

/// A decimal number as a fraction; digits after the ninth of the fraction do not count.
fn decimal(whole: u128, fraction: &str) -> Option<(u128, u128)> {
    let fraction = fraction.get(..9).unwrap_or(fraction);
    let denominator = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    Some((whole.checked_mul(denominator)?.checked_add(fraction)?, denominator))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn clock(parameters: &[(&str, &'static str)]) -> Result<Clock, &'static str> {
        Clock::new(|name| parameters.iter().find(|(n, _)| *n == name).map(|(_, value)| *value))
    }

    fn check(parameters: &[(&str, &'static str)], text: &str, expected_ms: Option<u64>) {
        let found = clock(parameters).unwrap().parse(text).and_then(to_ms);
        assert_eq!(found, expected_ms, "{text} {parameters:?}");
    }

    #[test]
    fn clock_times_are_read() {
        check(&[], "00:00:01", Some(1_000));
        check(&[], "01:02:03.4567", Some(3_723_457));
        check(&[], " 100:00:00.0004999999999 ", Some(360_000_000));
        check(&[], "00:00:01:15", Some(1_500));
        check(&[("frameRate", "25")], "00:00:01:05", Some(1_200));
        check(
            &[("frameRate", "30"), ("frameRateMultiplier", "1000 1001")],
            "00:00:01:15",
            Some(1_501),
        );
        check(
            &[("frameRate", "25"), ("subFrameRate", "2")],
            "00:00:01:05.1",
            Some(1_220),
        );
        check(
            &[("timeBase", "smpte"), ("frameRate", "25")],
            "00:00:01:05",
            Some(1_200),
        );
        let ntsc = [
            ("timeBase", "smpte"),
            ("frameRate", "30"),
            ("frameRateMultiplier", "1000:1001"),
        ];
        check(&ntsc, "01:00:00:00", Some(3_603_600));
        for bad in [
            "",
            "1:2",
            "00:60:00",
            "00:00:61",
            "00:00:01;05",
            "00:00:01.",
            "00:00:01:",
            "00:00:01:1.",
            "x",
            "-1s",
        ] {
            check(&[], bad, None);
        }
        check(&[], "wallclock(2008-12-12T00:00:00)", None);
        check(&[], "99999999999999999999999999999999999999:00:00", None);
        check(&[], "999999999999999999999999999999999999999999:00:00", None);
    }

    #[test]
    fn offset_times_are_read() {
        check(&[], "1.5h", Some(5_400_000));
        check(&[], "2m", Some(120_000));
        check(&[], "1.2345s", Some(1_235));
        check(&[], "1.2344s", Some(1_234));
        check(&[], "20.5ms", Some(21));
        check(&[], "15f", Some(500));
        check(&[], "3t", Some(3_000));
        check(&[("frameRate", "25")], "50t", Some(2_000));
        check(&[("tickRate", "10000000")], "12345678t", Some(1_235));
        let android = [
            ("frameRate", "50"),
            ("frameRateMultiplier", "1000 1001"),
            ("tickRate", "100"),
        ];
        check(&android, "50000f", Some(1_001_000));
        check(&android, "101t", Some(1_010));
        for bad in ["1", "1x", "1.s", ".5s", "1 s", "1ss"] {
            check(&[], bad, None);
        }
    }

    #[test]
    fn parameters_that_cannot_be_are_refused() {
        for name in ["frameRate", "subFrameRate", "tickRate"] {
            for value in ["0", "-1", "", "x", "99999999999999999999"] {
                assert!(clock(&[(name, value)]).is_err(), "{name}={value}");
            }
        }
        assert!(clock(&[("frameRateMultiplier", "0 1")]).is_err());
        assert!(clock(&[("timeBase", "clock")]).is_err());
        assert!(clock(&[("timeBase", "smpte"), ("dropMode", "dropNTSC")]).is_err());
        assert!(clock(&[("timeBase", "smpte"), ("dropMode", "nonDrop")]).is_ok());
    }
}
