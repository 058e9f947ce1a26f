//! Coded samples as a track of the stored form: media file and index, joined from as many pieces as were made.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use packager::index::{IndexWriter, NewSample};
use packager::isobmff::stored as media_file;
use packager::time::Timescale;
use packager::track::TrackDescription;

use crate::table::{self, CodedSample, TableError};
use crate::timing::SampleTime;

/// Why a track could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TrackError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A worker's table is damaged.
    #[error("{path}: {source}")]
    Table {
        /// The table.
        path: PathBuf,
        /// What is wrong.
        source: TableError,
    },
    /// Samples or times that no index takes.
    #[error(transparent)]
    Index(#[from] packager::index::IndexError),
}

pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> TrackError + '_ {
    move |source| TrackError::Io {
        path: path.to_owned(),
        source,
    }
}

/// The longest table that is read: a day at 120 pictures a second.
const TABLE_SIZE_BYTES_MAX: u64 = 300 << 20;

/// Reads the table at `table`, which describes the samples at `samples`.
pub fn read_table(table: &Path, samples: &Path) -> Result<Vec<CodedSample>, TrackError> {
    let size = std::fs::metadata(table).map_err(io(table))?.len();
    let damaged = |source| TrackError::Table {
        path: table.to_owned(),
        source,
    };
    if size > TABLE_SIZE_BYTES_MAX {
        return Err(damaged(TableError::Size(usize::try_from(size).unwrap_or(usize::MAX))));
    }
    let bytes = std::fs::read(table).map_err(io(table))?;
    let data_size_bytes = std::fs::metadata(samples).map_err(io(samples))?.len();
    table::read(&bytes, data_size_bytes).map_err(damaged)
}

/// One sample of a track that is written.
#[derive(Clone, Copy, Debug)]
pub struct TrackSample {
    /// Bytes.
    pub size: u32,
    /// Decoding can start here.
    pub sync: bool,
    /// When.
    pub time: SampleTime,
}

/// Writes `path` and the index beside it, from the files in `pieces` one after the other. `edit_offset` is taken from
/// composition times to get presentation times.
pub fn write(
    path: &Path,
    description: &TrackDescription,
    timescale: Timescale,
    edit_offset: i64,
    samples: impl Iterator<Item = TrackSample>,
    pieces: &[PathBuf],
) -> Result<(), TrackError> {
    let mut index = IndexWriter::new(timescale);
    let mut size_bytes = 0u64;
    for sample in samples {
        index.push(NewSample {
            offset: media_file::MEDIA_OFFSET + size_bytes,
            size: sample.size,
            duration: sample.time.duration,
            composition_offset: sample.time.composition_offset,
            sync: sample.sync,
        })?;
        size_bytes += u64::from(sample.size);
    }
    let index = index.finish(edit_offset)?;
    let mut out = File::create_new(path).map_err(io(path))?;
    out.write_all(&media_file::opening(size_bytes)).map_err(io(path))?;
    for piece in pieces {
        let mut file = File::open(piece).map_err(io(piece))?;
        // The kernel copies, without a way through memory, where the file system lets it.
        std::io::copy(&mut file, &mut out).map_err(io(path))?;
    }
    let end = out.seek(SeekFrom::End(0)).map_err(io(path))?;
    if end != media_file::MEDIA_OFFSET + size_bytes {
        return Err(io(path)(std::io::Error::other(
            "samples and their table differ in size",
        )));
    }
    let mut out = BufWriter::new(out);
    out.write_all(&media_file::closing_moov(description, &index))
        .map_err(io(path))?;
    let out = out.into_inner().map_err(|error| io(path)(error.into_error()))?;
    out.sync_all().map_err(io(path))?;
    write_synced(&path.with_extension("idx"), &index.to_stored()?)
}

/// Writes a new file that lasts.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), TrackError> {
    let mut file = File::create_new(path).map_err(io(path))?;
    file.write_all(bytes).map_err(io(path))?;
    file.sync_all().map_err(io(path))
}

/// Makes a folder's names last as long as its files do.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), TrackError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io(folder))
}
