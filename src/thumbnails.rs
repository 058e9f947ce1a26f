//! Thumbnails at import: chooses the picture to make them of, and has them made.

#[cfg(feature = "transcode")]
mod maker;

use std::io::Write;
use std::path::Path;

use origin::asset::Asset;
use origin::stored::StoreError;
use origin::thumbnails::{DESCRIPTION_NAME, FOLDER_NAME, POSTER_NAME};
use packager::codec::MediaKind;
use packager::images::ImageTrack;
use packager::presentation::Representation;

#[cfg(feature = "transcode")]
use self::maker::make;
use crate::print;

/// Whether thumbnails are to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Unless it is impossible.
    Yes,
    /// Not even when it is possible.
    No,
}

/// Puts thumbnails and a poster beside the tracks in `staging`. Without them a film plays just as well: what goes wrong
/// is said, and leaves nothing behind.
pub fn add(asset: &Asset, staging: &Path, wanted: Wanted) -> Result<(), StoreError> {
    let folder = staging.join(FOLDER_NAME);
    let video = best_source(asset);
    let done = match (asset.presentation.images(), video, wanted) {
        // The source brought its own.
        (Some(track), ..) => copy(asset, track, &folder),
        (None, _, Wanted::No) | (None, None, _) => return Ok(()),
        (None, Some(video), Wanted::Yes) => make(asset, video, staging, &folder),
    };
    if let Err(error) = done {
        print::remark(format_args!("{}: no thumbnails: {error:#}", asset.presentation.title));
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|source| StoreError::Io { path: folder, source })?;
        }
    }
    Ok(())
}

/// The smallest video that is large enough for a poster, else the largest; of one codec and range with the first, for
/// fewer codecs can be decoded than played.
fn best_source(asset: &Asset) -> Option<&Representation> {
    let videos = || {
        let all = asset.presentation.representations.iter();
        all.filter(|representation| representation.kind() == MediaKind::Video)
    };
    let area = |representation: &&Representation| {
        representation
            .video()
            .map_or(0, |video| u64::from(video.width) * u64::from(video.height))
    };
    let large_enough = |representation: &&Representation| {
        representation
            .video()
            .is_some_and(|video| video.width.max(video.height) >= 1_280)
    };
    videos()
        .filter(large_enough)
        .min_by_key(area)
        .or(videos().max_by_key(area))
}

fn copy(asset: &Asset, track: &ImageTrack, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(folder)?;
    let numbered = track.sheets.iter().zip(1u32..);
    let sheets = numbered.map(|(sheet, number)| (format!("{number}.jpg"), sheet));
    let poster = track.poster.iter().map(|poster| (POSTER_NAME.to_owned(), &poster.file));
    for (name, file) in sheets.chain(poster) {
        write(&folder.join(&name), &origin::thumbnails::picture(asset, &name, file)?)?;
    }
    write(&folder.join(DESCRIPTION_NAME), &track.write()?)?;
    sync(folder)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = std::fs::File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}

/// Makes a folder's names last as long as its files do.
fn sync(folder: &Path) -> anyhow::Result<()> {
    Ok(std::fs::File::open(folder)?.sync_all()?)
}

#[cfg(not(feature = "transcode"))]
fn make(_: &Asset, _: &Representation, _: &Path, _: &Path) -> anyhow::Result<()> {
    anyhow::bail!("this headwater was built without the feature transcode");
}
