//! Thumbnails: sheets of small pictures of the film at even times, and a poster.
//!
//! A sheet is a JPEG of `columns × rows` tiles in reading order; tile n of the track shows the film at n intervals. Sheets
//! are segments of a representation of their own: DASH-IF IOP 4.3 6.2.6 (tiled thumbnails), and the image media playlist
//! of HLS that players read though RFC 8216bis does not have it.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod geometry;

use serde::{Deserialize, Serialize};

pub use self::geometry::{Plan, fit_within};
use crate::limits::{SHEET_SIDE_MAX, SHEET_SIZE_BYTES_MAX, THUMBNAIL_COUNT_MAX, THUMBNAILS_SIZE_BYTES_MAX};
use crate::text::push_timestamp;
use crate::time::{MediaTime, Rounding, Timescale};

/// Name of the representation in URLs.
pub const REPRESENTATION_ID: &str = "i1";

/// What `thumbnails.json` begins with.
const FORMAT: &str = "headwater-thumbnails-1";

/// One JPEG file and what tells it from any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// Bytes of the file, at least one.
    pub size_bytes: u64,
    /// SHA-256 of the file, 64 lower-case hexadecimal digits: part of the presentation's version.
    pub sha256: String,
}

/// The poster, one larger picture: `poster.jpg`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poster {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The file.
    pub file: ImageFile,
}

/// A thumbnail track, as `thumbnails.json` beside its sheets (`1.jpg`, `2.jpg`, …) says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTrack {
    format: String,
    /// Tiles in a row of a sheet, at least 1.
    pub columns: u32,
    /// Rows of a sheet, at least 1.
    pub rows: u32,
    /// Width of a tile in pixels.
    pub tile_width: u32,
    /// Height of a tile in pixels.
    pub tile_height: u32,
    /// From one tile to the next, in milliseconds, at least 1.
    pub interval_ms: u32,
    /// Tiles in all sheets, 1 to 3,600.
    pub count: u32,
    /// The sheets, `1.jpg` first. All are of the same size in pixels; the last may have empty tiles at its end.
    pub sheets: Vec<ImageFile>,
    /// `poster.jpg`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poster: Option<Poster>,
}

/// Why a thumbnail track is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The description is too long to be read.
    #[error("{size_bytes} bytes, at most {THUMBNAILS_SIZE_BYTES_MAX} are read")]
    TooLong {
        /// Its size.
        size_bytes: u64,
    },
    /// The description is no JSON of the expected shape.
    #[error("{0}")]
    Syntax(String),
    /// A number is out of its range, or does not fit the others.
    #[error("{what} {value} is not {expected}")]
    Number {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: u64,
        /// What it should be.
        expected: String,
    },
    /// A hash is not 64 lower-case hexadecimal digits.
    #[error("sha256 of {0} is not 64 lower-case hexadecimal digits")]
    Hash(String),
    /// The sheets are not as many as the presentation lasts.
    #[error("{sheets} sheets of {per_sheet_ms} ms, where the presentation lasts {duration_ms} ms")]
    Duration {
        /// How many there are.
        sheets: usize,
        /// What one covers.
        per_sheet_ms: u64,
        /// Duration of the presentation.
        duration_ms: i64,
    },
}

impl ImageTrack {
    /// The track of `plan` with its files; the caller has as many sheets as the plan says.
    pub fn new(plan: &Plan, sheets: Vec<ImageFile>, poster: Option<Poster>) -> Result<ImageTrack, ImageError> {
        let track = ImageTrack {
            format: FORMAT.into(),
            columns: plan.columns,
            rows: plan.rows,
            tile_width: plan.tile_width,
            tile_height: plan.tile_height,
            interval_ms: plan.interval_ms,
            count: plan.count,
            sheets,
            poster,
        };
        track.check()?;
        Ok(track)
    }

    /// Reads `thumbnails.json`.
    pub fn read(json: &[u8]) -> Result<ImageTrack, ImageError> {
        let size_bytes = json.len() as u64;
        if size_bytes > THUMBNAILS_SIZE_BYTES_MAX {
            return Err(ImageError::TooLong { size_bytes });
        }
        let track: ImageTrack = serde_json::from_slice(json).map_err(|error| ImageError::Syntax(error.to_string()))?;
        track.check()?;
        Ok(track)
    }

    /// Writes `thumbnails.json`.
    pub fn write(&self) -> Result<Vec<u8>, ImageError> {
        serde_json::to_vec_pretty(self).map_err(|error| ImageError::Syntax(error.to_string()))
    }

    fn check(&self) -> Result<(), ImageError> {
        if self.format != FORMAT {
            return Err(ImageError::Syntax(format!(
                "format \"{}\", this version reads \"{FORMAT}\"",
                self.format
            )));
        }
        let within = |what, value: u64, max: u64| match (1..=max).contains(&value) {
            true => Ok(()),
            false => Err(ImageError::Number {
                what,
                value,
                expected: format!("1 to {max}"),
            }),
        };
        let side = u64::from(SHEET_SIDE_MAX);
        within("columns", self.columns.into(), side)?;
        within("rows", self.rows.into(), side)?;
        within("tile_width", self.tile_width.into(), side / u64::from(self.columns))?;
        within("tile_height", self.tile_height.into(), side / u64::from(self.rows))?;
        within("interval_ms", self.interval_ms.into(), u32::MAX.into())?;
        // DASH writes it as 32 bits.
        within("the duration of a sheet", self.sheet_duration_ms(), u32::MAX.into())?;
        within("count", self.count.into(), THUMBNAIL_COUNT_MAX.into())?;
        let expected = u64::from(self.count).div_ceil(self.tiles_per_sheet());
        if self.sheets.len() as u64 != expected {
            return Err(ImageError::Number {
                what: "the number of sheets",
                value: self.sheets.len() as u64,
                expected: format!("{expected}, which {} tiles need", self.count),
            });
        }
        for (sheet, number) in self.sheets.iter().zip(1u32..) {
            within("size_bytes", sheet.size_bytes, SHEET_SIZE_BYTES_MAX)?;
            check_hash(&sheet.sha256, || format!("{number}.jpg"))?;
        }
        if let Some(poster) = &self.poster {
            within("width of the poster", poster.width.into(), side)?;
            within("height of the poster", poster.height.into(), side)?;
            within("size_bytes", poster.file.size_bytes, SHEET_SIZE_BYTES_MAX)?;
            check_hash(&poster.file.sha256, || "poster.jpg".into())?;
        }
        Ok(())
    }

    /// Tiles on one sheet.
    pub fn tiles_per_sheet(&self) -> u64 {
        u64::from(self.columns) * u64::from(self.rows)
    }

    /// What a full sheet covers, in milliseconds.
    pub fn sheet_duration_ms(&self) -> u64 {
        self.tiles_per_sheet().saturating_mul(self.interval_ms.into())
    }

    /// Width and height of a sheet in pixels.
    pub fn sheet_size(&self) -> (u32, u32) {
        (
            self.columns.saturating_mul(self.tile_width),
            self.rows.saturating_mul(self.tile_height),
        )
    }

    /// Sheet `number`, counted from 1.
    pub fn sheet(&self, number: u32) -> Option<&ImageFile> {
        self.sheets.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    /// Whether players that count sheets by the duration of the presentation, as DASH has it (ISO/IEC 23009-1 5.3.9.5.3),
    /// find every sheet and ask for none that is not there.
    pub fn fits(&self, duration: MediaTime) -> Result<(), ImageError> {
        let micros = u64::try_from(duration.to_scale(Timescale::MICROS, Rounding::Nearest)).unwrap_or(0);
        let per_sheet = self.sheet_duration_ms().saturating_mul(1_000);
        if micros.div_ceil(per_sheet.max(1)) == self.sheets.len() as u64 {
            return Ok(());
        }
        Err(ImageError::Duration {
            sheets: self.sheets.len(),
            per_sheet_ms: self.sheet_duration_ms(),
            duration_ms: duration.to_millis(Rounding::Nearest),
        })
    }

    /// When each sheet starts and ends, in milliseconds; the last ends with its last tile.
    pub fn spans_ms(&self) -> impl Iterator<Item = (u64, u64)> {
        let (per_sheet, interval) = (self.tiles_per_sheet(), u64::from(self.interval_ms));
        let count = u64::from(self.count);
        (0..self.sheets.len() as u64).map(move |sheet| {
            let first = sheet.saturating_mul(per_sheet);
            let end = first.saturating_add(per_sheet).min(count);
            (first.saturating_mul(interval), end.saturating_mul(interval))
        })
    }

    /// Bits per second of the largest sheet over what it covers, at least 1.
    pub fn bandwidth_bps(&self) -> u64 {
        let rates = self.spans_ms().zip(&self.sheets).map(|((start, end), sheet)| {
            let bits = sheet.size_bytes.saturating_mul(8_000);
            bits.div_ceil(end.saturating_sub(start).max(1))
        });
        rates.max().unwrap_or(1).max(1)
    }

    /// `thumbs.vtt`: a cue a tile, whose text is the sheet's URL with the tile's place on it as a spatial media fragment
    /// (Media Fragments URI 1.0 4.2.2). `base` leads from the file to the folder of the sheets, with a trailing slash.
    pub fn thumbs_vtt(&self, base: &str, duration: MediaTime) -> Vec<u8> {
        use std::fmt::Write;
        let mut out = String::with_capacity(16 + self.count as usize * (64 + base.len()));
        out.push_str("WEBVTT\n");
        let (per_sheet, interval) = (self.tiles_per_sheet().max(1), u64::from(self.interval_ms));
        let end_ms = u64::try_from(duration.to_millis(Rounding::Ceil)).unwrap_or(0);
        for tile in 0..u64::from(self.count) {
            let start = tile.saturating_mul(interval);
            let end = match tile + 1 == u64::from(self.count) {
                true => end_ms.max(start.saturating_add(1)),
                false => start.saturating_add(interval),
            };
            out.push('\n');
            push_timestamp(&mut out, start);
            out.push_str(" --> ");
            push_timestamp(&mut out, end);
            let place = tile % per_sheet;
            let columns = u64::from(self.columns.max(1));
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "\n{base}{}.jpg#xywh={},{},{},{}",
                tile / per_sheet + 1,
                place % columns * u64::from(self.tile_width),
                place / columns * u64::from(self.tile_height),
                self.tile_width,
                self.tile_height
            );
        }
        out.into_bytes()
    }

    /// Everything of the track that decides served bytes, for the version.
    pub(crate) fn identity(&self) -> String {
        format!("{self:?}")
    }
}

fn check_hash(hash: &str, of: impl Fn() -> String) -> Result<(), ImageError> {
    let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match hash.len() == 64 && hash.bytes().all(digits) {
        true => Ok(()),
        false => Err(ImageError::Hash(of())),
    }
}

#[cfg(test)]
mod tests;
