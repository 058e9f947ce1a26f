//! Exact media time: ticks with their scale, and the named roundings between scales.
//!
//! A tick count without its scale is not a time. All arithmetic is in integers; decimals appear only where text is
//! rendered.

use std::fmt;
use std::num::NonZeroU32;

/// Ticks per second, 1 to 2^32-1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timescale(NonZeroU32);

impl Timescale {
    /// One tick per microsecond: the finest that manifests are written in.
    pub const MICROS: Timescale = Timescale(NonZeroU32::new(1_000_000).expect("1000000 is not zero"));
    /// One tick per millisecond: the scale of timed text.
    pub const MILLIS: Timescale = Timescale(NonZeroU32::new(1_000).expect("1000 is not zero"));
    /// The MPEG-2 systems clock, divided by 300 (ISO/IEC 13818-1 2.4.2.1).
    pub const MPEG_TS: Timescale = Timescale(NonZeroU32::new(90_000).expect("90000 is not zero"));

    /// `None` when `ticks_per_second` is zero: such a file has no time at all.
    pub const fn new(ticks_per_second: u32) -> Option<Timescale> {
        match NonZeroU32::new(ticks_per_second) {
            Some(scale) => Some(Timescale(scale)),
            None => None,
        }
    }

    /// Ticks per second.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Debug for Timescale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

/// How a time is brought to a coarser or unrelated scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Towards minus infinity.
    Floor,
    /// Towards plus infinity.
    Ceil,
    /// To the nearest tick; halves go up.
    Nearest,
}

/// Rescales `ticks` from one scale to another; saturates at the ends of `i64`.
pub fn rescale(ticks: i64, from: Timescale, to: Timescale, rounding: Rounding) -> i64 {
    if from == to {
        return ticks;
    }
    let product = i128::from(ticks) * i128::from(to.get());
    let divisor = i128::from(from.get());
    let floor = product.div_euclid(divisor);
    let rest = product.rem_euclid(divisor);
    let rounded = match rounding {
        Rounding::Floor => floor,
        Rounding::Ceil => floor + i128::from(rest != 0),
        Rounding::Nearest => floor + i128::from(rest * 2 >= divisor),
    };
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}

/// A point or span on a track's presentation timeline: ticks and what they count.
///
/// Comparison is exact across scales (cross-multiplied in 128 bits); equality of unequal scales compares the instant.
#[derive(Clone, Copy)]
pub struct MediaTime {
    /// Ticks of `scale`; negative before the start of the presentation (priming, pre-roll).
    pub ticks: i64,
    /// What a tick is.
    pub scale: Timescale,
}

impl MediaTime {
    /// `ticks` of `scale`.
    pub const fn new(ticks: i64, scale: Timescale) -> MediaTime {
        MediaTime { ticks, scale }
    }

    /// Whole milliseconds as a time.
    pub const fn from_millis(millis: i64) -> MediaTime {
        MediaTime {
            ticks: millis,
            scale: Timescale::MILLIS,
        }
    }

    /// This instant in ticks of `scale`.
    pub fn to_scale(self, scale: Timescale, rounding: Rounding) -> i64 {
        rescale(self.ticks, self.scale, scale, rounding)
    }

    /// This instant in milliseconds.
    pub fn to_millis(self, rounding: Rounding) -> i64 {
        self.to_scale(Timescale::MILLIS, rounding)
    }

    /// Seconds with `decimals` digits after the point, rounded to nearest, as players read them in text.
    pub fn display_seconds(self, decimals: u32) -> DisplaySeconds {
        DisplaySeconds {
            time: self,
            decimals: decimals.min(9),
        }
    }
}

impl PartialEq for MediaTime {
    fn eq(&self, other: &MediaTime) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for MediaTime {}

impl PartialOrd for MediaTime {
    fn partial_cmp(&self, other: &MediaTime) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MediaTime {
    fn cmp(&self, other: &MediaTime) -> std::cmp::Ordering {
        let left = i128::from(self.ticks) * i128::from(other.scale.get());
        let right = i128::from(other.ticks) * i128::from(self.scale.get());
        left.cmp(&right)
    }
}

impl fmt::Debug for MediaTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ticks, self.scale.get())
    }
}

/// Seconds as decimal text; see [`MediaTime::display_seconds`].
#[derive(Clone, Copy, Debug)]
pub struct DisplaySeconds {
    time: MediaTime,
    decimals: u32,
}

impl fmt::Display for DisplaySeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10_i128.pow(self.decimals);
        let product = i128::from(self.time.ticks) * unit;
        let divisor = i128::from(self.time.scale.get());
        let rounded = (product * 2 + divisor).div_euclid(divisor * 2);
        let sign = if rounded < 0 { "-" } else { "" };
        let magnitude = rounded.unsigned_abs();
        let unit = unit.unsigned_abs();
        match self.decimals {
            0 => write!(f, "{sign}{magnitude}"),
            digits => write!(
                f,
                "{sign}{}.{:0width$}",
                magnitude / unit,
                magnitude % unit,
                width = digits as usize
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(ticks: u32) -> Timescale {
        Timescale::new(ticks).unwrap()
    }

    #[test]
    fn rescale_rounds_as_named() {
        let check = |ticks, from, to, expected: [i64; 3]| {
            let got = [Rounding::Floor, Rounding::Ceil, Rounding::Nearest]
                .map(|rounding| rescale(ticks, scale(from), scale(to), rounding));
            assert_eq!(got, expected, "{ticks} from {from} to {to}");
        };
        check(1, 3, 1000, [333, 334, 333]);
        check(2, 3, 1000, [666, 667, 667]);
        check(-1, 3, 1000, [-334, -333, -333]);
        check(1, 2, 1, [0, 1, 1]);
        check(-1, 2, 1, [-1, 0, 0]);
        check(i64::MAX, 1, u32::MAX, [i64::MAX; 3]);
        check(i64::MIN, 1, u32::MAX, [i64::MIN; 3]);
    }

    #[test]
    fn times_compare_across_scales() {
        assert_eq!(MediaTime::new(1, scale(3)), MediaTime::new(30_000, scale(90_000)));
        assert!(MediaTime::new(1_001, scale(30_000)) > MediaTime::from_millis(33));
        assert!(MediaTime::new(-1, scale(48_000)) < MediaTime::from_millis(0));
    }

    #[test]
    fn seconds_are_rendered_exactly() {
        let check = |ticks, per_second, decimals, expected: &str| {
            let text = MediaTime::new(ticks, scale(per_second))
                .display_seconds(decimals)
                .to_string();
            assert_eq!(text, expected);
        };
        check(1_001, 30_000, 6, "0.033367");
        check(180_180, 30_000, 5, "6.00600");
        check(-1_024, 48_000, 6, "-0.021333");
        check(5, 2, 0, "3");
        check(i64::MAX, 1, 3, "9223372036854775807.000");
    }
}
