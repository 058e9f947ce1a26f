//! The folder of thumbnails beside a presentation: `thumbnails.json`, `1.jpg`, `2.jpg`, …, `poster.jpg`.
//!
//! Only the description is read when a presentation is opened. A sheet is opened when it is asked for, and compared with
//! its hash: its URL is cached for ever, so no other bytes may ever be answered under it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use packager::images::{ImageFile, ImageTrack};
use packager::limits::THUMBNAILS_SIZE_BYTES_MAX;
use packager::presentation::Presentation;
use packager::source::{ReadAt, Refusal};
use sha2::{Digest, Sha256};

use crate::asset::Asset;
use crate::error::ServeError;
use crate::read::{Fingerprint, SourceFile};

/// Name of the folder.
pub const FOLDER_NAME: &str = "thumbnails";
/// Name of the description in it.
pub const DESCRIPTION_NAME: &str = "thumbnails.json";
/// Name of the poster in it.
pub const POSTER_NAME: &str = "poster.jpg";

/// Where thumbnails lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThumbnailFolder {
    /// What the folder is looked for beneath.
    pub root: PathBuf,
    /// The folder, relative to it.
    pub folder: PathBuf,
}

/// Gives `presentation` the thumbnails in `folder` below `root`, if there are any. Ones that do not belong to it are left
/// out with the reason; the film still plays.
pub fn attach(
    root: &Path,
    folder: PathBuf,
    presentation: &mut Presentation,
    made_of: &mut Vec<(PathBuf, Fingerprint)>,
) -> Option<ThumbnailFolder> {
    let path = folder.join(DESCRIPTION_NAME);
    let file = match SourceFile::open_beneath(root, &path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        opened => opened.map_err(|error| error.to_string()),
    };
    let attached = file.and_then(|file| {
        made_of.push((root.join(&path), file.fingerprint()));
        let track = read(&file)?;
        presentation.attach_images(track).map_err(|error| error.to_string())
    });
    match attached {
        Ok(()) => Some(ThumbnailFolder {
            root: root.to_owned(),
            folder,
        }),
        Err(why) => {
            let what = path.display().to_string();
            presentation.refused.push(Refusal { what, why });
            None
        }
    }
}

fn read(file: &SourceFile) -> Result<ImageTrack, String> {
    let size = file.size();
    if size > THUMBNAILS_SIZE_BYTES_MAX {
        return Err(format!("{size} bytes, at most {THUMBNAILS_SIZE_BYTES_MAX} are read"));
    }
    let json = file.read_at(0, size as usize).map_err(|error| error.to_string())?;
    ImageTrack::read(&json).map_err(|error| error.to_string())
}

/// The bytes of one of an asset's pictures, which are those of `expected`. Blocking.
pub fn picture(asset: &Asset, name: &str, expected: &ImageFile) -> Result<Bytes, ServeError> {
    let place = asset.thumbnails.as_ref().ok_or(ServeError::NotFound)?;
    let path = place.folder.join(name);
    let storage = |reason: String| ServeError::Storage {
        what: format!("{}: {reason}", path.display()),
    };
    let file = SourceFile::open_beneath(&place.root, &path).map_err(|error| storage(error.to_string()))?;
    let damaged = || ServeError::Damaged {
        what: format!("{} is not what {DESCRIPTION_NAME} says", path.display()),
    };
    if file.size() != expected.size_bytes {
        return Err(damaged());
    }
    let bytes = file
        .read_at(0, expected.size_bytes as usize)
        .map_err(|error| storage(error.to_string()))?;
    let hash: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    match hash == expected.sha256 {
        true => Ok(bytes),
        false => Err(damaged()),
    }
}
