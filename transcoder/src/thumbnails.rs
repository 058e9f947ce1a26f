//! Thumbnails and poster of one video file: [`make`], and the order that says what to make.
//!
//! Only key frames are decoded where the film has them near enough; HDR pictures are shown by their code values, flatter
//! than they are, because nothing here knows the screen they were graded for.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gstreamer::glib;
use packager::images::{ImageError, ImageFile, ImageTrack, Plan, Poster};
use packager::limits::SHEET_SIZE_BYTES_MAX;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::jpeg;
use crate::picture::Picture;
use crate::poster::{CANDIDATES_PERMILLE, Choice};
use crate::video::{Tolerance, Video};

/// Name of the description among the sheets.
pub const DESCRIPTION_NAME: &str = "thumbnails.json";

/// What to make of which file, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// A file with one video track.
    pub video: PathBuf,
    /// An empty folder, for `1.jpg`, …, `poster.jpg` and `thumbnails.json`.
    pub folder: PathBuf,
    /// How many, how large, how far apart.
    pub plan: Plan,
}

/// Why no thumbnails were made.
#[derive(Debug, thiserror::Error)]
pub enum ThumbnailError {
    /// GStreamer or one of its elements failed.
    #[error("{0}")]
    Pipeline(String),
    /// The file could not be moved to a time.
    #[error("can not seek to {0:?}")]
    Seek(Duration),
    /// No picture came, and no error either.
    #[error("no picture within 30 s")]
    Stuck,
    /// The file holds no picture.
    #[error("not one picture in it")]
    Empty,
    /// A file could not be written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What was made does not fit its description.
    #[error(transparent)]
    Description(#[from] ImageError),
}

impl From<glib::Error> for ThumbnailError {
    fn from(error: glib::Error) -> ThumbnailError {
        ThumbnailError::Pipeline(error.to_string())
    }
}

impl From<gstreamer::StateChangeError> for ThumbnailError {
    fn from(error: gstreamer::StateChangeError) -> ThumbnailError {
        ThumbnailError::Pipeline(error.to_string())
    }
}

/// Makes what `order` says. Blocking, and as slow as the decoder: run it in a process of its own.
pub fn make(order: &Order) -> Result<ImageTrack, ThumbnailError> {
    gstreamer::init()?;
    let plan = &order.plan;
    let mut sheets = Sheets::new(order);
    match tiles_by_seeking(order, &mut sheets) {
        Ok(()) => {}
        // What was made so far is of no use: times could not be told.
        Err(ThumbnailError::Seek(_)) if sheets.count == 0 => tiles_by_playing(order, &mut sheets)?,
        Err(error) => return Err(error),
    }
    let sheets = sheets.finish()?;
    let poster = poster(order)?;
    let track = ImageTrack::new(plan, sheets, poster)?;
    write(&order.folder.join(DESCRIPTION_NAME), &track.write()?)?;
    Ok(track)
}

fn time_of(plan: &Plan, tile: u32) -> Duration {
    Duration::from_millis(u64::from(plan.interval_ms) * u64::from(tile))
}

fn tiles_by_seeking(order: &Order, sheets: &mut Sheets<'_>) -> Result<(), ThumbnailError> {
    let plan = &order.plan;
    let video = Video::open(&order.video, plan.tile_width, plan.tile_height)?;
    let tolerance = Tolerance(Duration::from_millis(u64::from(plan.interval_ms) / 2));
    for tile in 0..plan.count {
        // Sound may start before pictures do, and last longer: it is black then, or the last one stays.
        let picture = video.at(time_of(plan, tile), tolerance)?;
        sheets.push(picture)?;
    }
    Ok(())
}

fn tiles_by_playing(order: &Order, sheets: &mut Sheets<'_>) -> Result<(), ThumbnailError> {
    let plan = &order.plan;
    let video = Video::open(&order.video, plan.tile_width, plan.tile_height)?;
    video.each(|at, picture| {
        while sheets.count < plan.count && at >= time_of(plan, sheets.count) {
            sheets.push(Some(picture.clone()))?;
        }
        Ok(sheets.count < plan.count)
    })?;
    while sheets.count < plan.count {
        sheets.push(None)?;
    }
    Ok(())
}

fn poster(order: &Order) -> Result<Option<Poster>, ThumbnailError> {
    let plan = &order.plan;
    let video = Video::open(&order.video, plan.poster_width, plan.poster_height)?;
    let mut choice = Choice::default();
    for permille in CANDIDATES_PERMILLE {
        let time = Duration::from_millis(plan.duration_ms.saturating_mul(permille) / 1_000);
        // Any key frame around there will do.
        let tolerance = Tolerance(Duration::from_millis(plan.duration_ms / 20));
        if let Some(picture) = video.at(time, tolerance)?
            && choice.offer(picture)
        {
            break;
        }
    }
    let Some(picture) = choice.take() else {
        return Ok(None);
    };
    Ok(Some(Poster {
        width: plan.poster_width,
        height: plan.poster_height,
        file: write_jpeg(&order.folder.join("poster.jpg"), &picture)?,
    }))
}

/// Sheets as tiles come.
struct Sheets<'a> {
    order: &'a Order,
    /// Tiles so far.
    count: u32,
    sheet: Picture,
    last: Option<Picture>,
    written: Vec<ImageFile>,
}

impl<'a> Sheets<'a> {
    fn new(order: &'a Order) -> Sheets<'a> {
        Sheets {
            order,
            count: 0,
            sheet: Sheets::empty(&order.plan),
            last: None,
            written: Vec::new(),
        }
    }

    fn empty(plan: &Plan) -> Picture {
        let side = |count: u32, size: u32| count as usize * size as usize;
        Picture::black(side(plan.columns, plan.tile_width), side(plan.rows, plan.tile_height))
    }

    /// Appends a tile; without a picture the last one once more, and before the first one black.
    fn push(&mut self, picture: Option<Picture>) -> Result<(), ThumbnailError> {
        let plan = &self.order.plan;
        let place = self.count % self.tiles_per_sheet();
        let (column, row) = (place % plan.columns, place / plan.columns);
        let (x, y) = (column * plan.tile_width, row * plan.tile_height);
        if let Some(picture) = picture.or(self.last.take()) {
            self.sheet.paste(&picture, x as usize, y as usize);
            self.last = Some(picture);
        }
        self.count += 1;
        if self.count.is_multiple_of(self.tiles_per_sheet()) {
            self.write_sheet()?;
        }
        Ok(())
    }

    fn tiles_per_sheet(&self) -> u32 {
        (self.order.plan.columns * self.order.plan.rows).max(1)
    }

    fn write_sheet(&mut self) -> Result<(), ThumbnailError> {
        let name = format!("{}.jpg", self.written.len() + 1);
        let file = write_jpeg(&self.order.folder.join(name), &self.sheet)?;
        self.written.push(file);
        self.sheet = Sheets::empty(&self.order.plan);
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<ImageFile>, ThumbnailError> {
        if self.last.is_none() {
            return Err(ThumbnailError::Empty);
        }
        if !self.count.is_multiple_of(self.tiles_per_sheet()) {
            self.write_sheet()?;
        }
        Ok(self.written)
    }
}

fn write_jpeg(path: &Path, picture: &Picture) -> Result<ImageFile, ThumbnailError> {
    let bytes = jpeg::encode(picture)?;
    if bytes.len() as u64 > SHEET_SIZE_BYTES_MAX {
        return Err(ThumbnailError::Pipeline(format!("JPEG: {} bytes", bytes.len())));
    }
    write(path, &bytes)?;
    Ok(ImageFile {
        size_bytes: bytes.len() as u64,
        sha256: Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ThumbnailError> {
    let io = |source| ThumbnailError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = File::create_new(path).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.sync_all().map_err(io)
}
