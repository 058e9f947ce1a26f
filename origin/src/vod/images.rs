//! Thumbnails: their playlist, their sheets, `thumbs.vtt` and the poster.

use std::sync::Arc;

use packager::form::Form;
use packager::hls;
use packager::images::{ImageFile, ImageTrack, REPRESENTATION_ID};

use super::{Answer, CachePolicy, HLS, Planned, RenderKey, Rendering, rendering};
use crate::asset::Asset;
use crate::error::ServeError;
use crate::route::RepresentationFile;
use crate::thumbnails::{self, POSTER_NAME};

fn track(asset: &Asset) -> Result<&ImageTrack, ServeError> {
    asset.presentation.images().ok_or(ServeError::NotFound)
}

/// What answers a file of the representation of thumbnails in `form`.
pub(super) fn plan(asset: &Arc<Asset>, form: Form, file: RepresentationFile) -> Result<Planned, ServeError> {
    let images = track(asset)?;
    if !asset.presentation.playable_in(form) {
        return Err(ServeError::NotFound);
    }
    match file {
        RepresentationFile::MediaPlaylist => {
            let key = RenderKey::MediaPlaylist(form, REPRESENTATION_ID.into());
            let asset = asset.clone();
            Ok(rendering(key, HLS, true, move || {
                Ok(hls::images::render(track(&asset)?).into())
            }))
        }
        RepresentationFile::Image { number } => {
            let sheet = images.sheet(number).ok_or(ServeError::NotFound)?;
            Ok(picture(asset, format!("{number}.jpg"), sheet, CachePolicy::Immutable))
        }
        _ => Err(ServeError::NotFound),
    }
}

/// `thumbs.vtt`.
pub(super) fn thumbs(asset: &Arc<Asset>) -> Result<Planned, ServeError> {
    track(asset)?;
    let form = Form::CLEAR
        .into_iter()
        .find(|form| asset.presentation.playable_in(*form));
    let form = form.ok_or(ServeError::NotFound)?;
    let asset = asset.clone();
    Ok(Planned::Render(Rendering {
        key: RenderKey::Thumbs,
        content_type: "text/vtt; charset=utf-8",
        cache: CachePolicy::Entry,
        compress: true,
        render: Box::new(move || {
            let presentation = &asset.presentation;
            let base = format!("v{}/{}/{REPRESENTATION_ID}/", presentation.version, form.name());
            Ok(track(&asset)?.thumbs_vtt(&base, presentation.duration).into())
        }),
    }))
}

/// `poster.jpg`.
pub(super) fn poster(asset: &Arc<Asset>) -> Result<Planned, ServeError> {
    let poster = track(asset)?.poster.as_ref().ok_or(ServeError::NotFound)?;
    Ok(picture(asset, POSTER_NAME.into(), &poster.file, CachePolicy::Entry))
}

fn picture(asset: &Arc<Asset>, name: String, file: &ImageFile, cache: CachePolicy) -> Planned {
    let (asset, file) = (asset.clone(), file.clone());
    Planned::Build(Box::new(move || {
        Ok(Answer {
            content: thumbnails::picture(&asset, &name, &file)?.into(),
            content_type: "image/jpeg",
            // The hash is checked to be all hexadecimal digits.
            etag: file.sha256.chars().take(16).collect(),
            cache,
            gzip: None,
        })
    }))
}
