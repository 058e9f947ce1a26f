//! Geometry: how large tiles are, how many there are and how far apart, from the film's picture and duration.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde::{Deserialize, Serialize};

use crate::limits::THUMBNAIL_COUNT_MAX;
use crate::time::{MediaTime, Rounding, Timescale};
use crate::track::VideoDescription;

/// Tiles in a row and rows on a sheet. Five by five of the tiles below make sheets of up to 960 pixels, which the weaker
/// devices still take (they are told to expect no more than 1,080), and of some 100 kB, so that the first picture under
/// the pointer is soon there.
const SIDE_COUNT: u32 = 5;
/// A tile fits into a square of this side: 192×108 for 16:9, 108×192 for 9:16.
const TILE_SIDE_MAX: u32 = 192;
/// Poster width and height are at most this.
const POSTER_SIDE_MAX: u32 = 1_280;
/// Tiles are this far apart in films that are long enough.
const INTERVAL_MS: u64 = 10_000;
/// Shorter films have about this many tiles, at least a second apart.
const COUNT_WANTED: u64 = 100;

/// What is to be made of a film.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Tiles in a row of a sheet.
    pub columns: u32,
    /// Rows of a sheet.
    pub rows: u32,
    /// Width of a tile in pixels, even.
    pub tile_width: u32,
    /// Height of a tile in pixels, even.
    pub tile_height: u32,
    /// From one tile to the next, in milliseconds.
    pub interval_ms: u32,
    /// Tiles in all, 1 to 3,600.
    pub count: u32,
    /// Width of the poster in pixels, even.
    pub poster_width: u32,
    /// Height of the poster in pixels, even.
    pub poster_height: u32,
    /// What the film lasts, in milliseconds.
    pub duration_ms: u64,
}

impl Plan {
    /// Plans thumbnails of `video` in a presentation of `duration`; `None` when one of them has no extent.
    pub fn of(video: &VideoDescription, duration: MediaTime) -> Option<Plan> {
        let (width, height) = shown_size(video);
        if width == 0 || height == 0 {
            return None;
        }
        let micros = u64::try_from(duration.to_scale(Timescale::MICROS, Rounding::Nearest)).ok()?;
        if micros == 0 {
            return None;
        }
        let duration_ms = micros.div_ceil(1_000);
        let spread = duration_ms.div_ceil(COUNT_WANTED).div_ceil(1_000).saturating_mul(1_000);
        let bounded = duration_ms
            .div_ceil(THUMBNAIL_COUNT_MAX.into())
            .div_ceil(1_000)
            .saturating_mul(1_000);
        let interval = spread.min(INTERVAL_MS).max(bounded);
        let interval_ms = u32::try_from(interval).ok()?;
        let count = u32::try_from(micros.div_ceil(interval.saturating_mul(1_000))).ok()?;
        let (tile_width, tile_height) = fit_within(width, height, TILE_SIDE_MAX);
        // Nothing is gained by a poster larger than the film.
        let (poster_width, poster_height) = fit_within(width, height, POSTER_SIDE_MAX.min(width.max(height)));
        Some(Plan {
            columns: SIDE_COUNT,
            rows: SIDE_COUNT,
            tile_width,
            tile_height,
            interval_ms,
            count,
            poster_width,
            poster_height,
            duration_ms,
        })
    }

    /// Sheets that the tiles fill.
    pub fn sheet_count(&self) -> u32 {
        self.count.div_ceil(self.columns.saturating_mul(self.rows).max(1))
    }
}

/// Size as shown: square samples, and turned when the track's matrix turns by a quarter (ISO/IEC 14496-12 8.3.2).
fn shown_size(video: &VideoDescription) -> (u32, u32) {
    let (width, height) = video.display_size();
    match video.matrix {
        Some([a, b, _, c, d, ..]) if a == 0 && d == 0 && b != 0 && c != 0 => (height, width),
        _ => (width, height),
    }
}

/// The largest size of the same shape that fits into a square of `side`, both even and at least 2, for 4:2:0.
pub fn fit_within(width: u32, height: u32, side: u32) -> (u32, u32) {
    let longest = u64::from(width.max(height).max(1));
    let scaled = |length: u32| {
        let halves = (u64::from(length) * u64::from(side) + longest) / (longest * 2);
        u32::try_from(halves.max(1) * 2)
            .unwrap_or(u32::MAX)
            .min(side.max(2) & !1)
    };
    (scaled(width), scaled(height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::VideoRange;

    fn video(width: u32, height: u32, sample_aspect_ratio: (u32, u32), matrix: Option<[i32; 9]>) -> VideoDescription {
        VideoDescription {
            width,
            height,
            sample_aspect_ratio,
            matrix,
            color: None,
            video_range: VideoRange::Sdr,
            nal_length_size: 4,
            parameter_sets: bytes::Bytes::new(),
            supplemental_codecs: None,
        }
    }

    const QUARTER: [i32; 9] = [0, 1 << 16, 0, -(1 << 16), 0, 0, 1080 << 16, 0, 1 << 30];
    const HALF: [i32; 9] = [-(1 << 16), 0, 0, 0, -(1 << 16), 0, 0, 0, 1 << 30];

    #[test]
    fn tiles_have_the_shape_of_the_film() {
        let check = |video: VideoDescription, tile: (u32, u32), poster: (u32, u32)| {
            let plan = Plan::of(&video, MediaTime::from_millis(60_000)).unwrap();
            assert_eq!((plan.tile_width, plan.tile_height), tile, "{video:?}");
            assert_eq!((plan.poster_width, plan.poster_height), poster, "{video:?}");
        };
        check(video(1920, 1080, (1, 1), None), (192, 108), (1280, 720));
        check(video(960, 540, (1, 1), None), (192, 108), (960, 540));
        check(video(3840, 1600, (1, 1), None), (192, 80), (1280, 534));
        check(video(720, 576, (64, 45), None), (192, 108), (1024, 576));
        check(video(1440, 1080, (4, 3), None), (192, 108), (1280, 720));
        check(video(1920, 1080, (1, 1), Some(QUARTER)), (108, 192), (720, 1280));
        check(video(1920, 1080, (1, 1), Some(HALF)), (192, 108), (1280, 720));
        check(video(64_000, 2, (1, 1), None), (192, 2), (1280, 2));
        check(video(1, 1, (1, 1), None), (192, 192), (2, 2));
        check(video(u32::MAX, u32::MAX, (1, 1), None), (192, 192), (1280, 1280));
        assert_eq!(Plan::of(&video(0, 9, (1, 1), None), MediaTime::from_millis(1)), None);
        assert_eq!(Plan::of(&video(9, 9, (1, 1), None), MediaTime::from_millis(0)), None);
        assert_eq!(Plan::of(&video(9, 9, (1, 1), None), MediaTime::from_millis(-9)), None);
    }

    #[test]
    fn tiles_are_evenly_apart_and_bounded() {
        let check = |ticks: i64, per_second: u32, interval_ms: u32, count: u32, sheets: u32| {
            let duration = MediaTime::new(ticks, Timescale::new(per_second).unwrap());
            let plan = Plan::of(&video(16, 9, (1, 1), None), duration).unwrap();
            assert_eq!((plan.interval_ms, plan.count), (interval_ms, count), "{duration:?}");
            assert_eq!(plan.sheet_count(), sheets, "{duration:?}");
        };
        check(1, 1_000, 1_000, 1, 1);
        check(12, 1, 1_000, 12, 1);
        check(60, 1, 1_000, 60, 3);
        check(100, 1, 1_000, 100, 4);
        check(600, 1, 6_000, 100, 4);
        check(600_000_001, 1_000_000, 7_000, 86, 4);
        check(3_600, 1, 10_000, 360, 15);
        check(36_000, 1, 10_000, 3_600, 144);
        check(86_400, 1, 24_000, 3_600, 144);
        check(7 * 86_400, 1, 168_000, 3_600, 144);
        // Half a microsecond more is not another tile: durations are written to the microsecond.
        check(2_500_000_004, 10_000_000, 3_000, 84, 4);
    }
}
