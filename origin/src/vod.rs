//! Answers for stored presentations: playlists, MPDs, headers, segments.
//!
//! What can be said without reading media is said at once ([`Planned::Ready`]); what must be built from samples
//! (encrypted fragments, MPEG-TS, packed audio) is handed back as work in steps. The commands that package ahead of time
//! run the very same functions.

pub mod choice;
mod cmaf;
mod images;
pub mod listing;
pub(crate) mod parts;
pub(crate) mod sealed;
pub(crate) mod ts;
pub mod variant;

use std::sync::Arc;

use bytes::Bytes;
use packager::codec::MediaKind;
use packager::form::{Form, SegmentFormat};
use packager::presentation::choice::{Selection, TrackChoice};
use packager::presentation::{Content as RepresentationContent, Representation};
use packager::protection::{SegmentList, TrackProtection};
use packager::{dash, hls};
use sha2::{Digest, Sha256};

use self::sealed::Sealing;
use self::ts::Muxing;
use crate::asset::Asset;
use crate::content::Content;
use crate::error::ServeError;
use crate::protect::Protected;
use crate::route::{Addressing, RepresentationFile, TextCoding, VodResource};

/// How long caches may keep an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachePolicy {
    /// The URL carries the version: the bytes never change.
    Immutable,
    /// An entry point, which a new version of the media replaces.
    Entry,
    /// Not to be kept.
    NoStore,
}

/// Something a client may have.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The bytes.
    pub content: Content,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Strong validator, without quotes; empty for none.
    pub etag: String,
    /// How long caches may keep it.
    pub cache: CachePolicy,
    /// The bytes with gzip, where that is worth it.
    pub gzip: Option<Bytes>,
}

/// An answer, or the work that leads to it.
pub enum Planned {
    /// Known without reading media.
    Ready(Answer),
    /// Text or a header to be rendered once and kept: the key's last part, and the work.
    Render(Rendering),
    /// Must read a file: run it where blocking is allowed.
    Build(Box<dyn FnOnce() -> Result<Answer, ServeError> + Send>),
    /// A segment of samples that must be looked into.
    Segment(Building),
}

/// A segment that must be built.
pub enum Building {
    /// A fragment to be encrypted.
    Seal(Sealing),
    /// MPEG-TS or packed audio.
    Mux(Muxing),
}

impl Building {
    /// Names the segment among all there are.
    pub fn key(&self) -> Result<String, ServeError> {
        match self {
            Building::Seal(sealing) => Ok(sealing.key()),
            Building::Mux(muxing) => muxing.key(),
        }
    }

    /// True when some of its samples lie encrypted in their source: their keys are asked for each time.
    pub fn has_encrypted_source(&self) -> Result<bool, ServeError> {
        match self {
            Building::Seal(sealing) => sealing.has_encrypted_source(),
            Building::Mux(muxing) => muxing.has_encrypted_source(),
        }
    }

    /// All of it at once. Blocking.
    pub fn answer_blocking(self) -> Result<Answer, ServeError> {
        match self {
            Building::Seal(sealing) => sealing.answer_blocking(),
            Building::Mux(muxing) => muxing.answer_blocking(),
        }
    }
}

/// Text or a header that is rendered once and kept.
pub struct Rendering {
    /// What it is, unique within one version of one presentation.
    pub key: RenderKey,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// How long caches may keep it.
    pub cache: CachePolicy,
    /// Worth compressing.
    pub compress: bool,
    /// Makes the bytes.
    pub render: Box<dyn FnOnce() -> Result<Bytes, ServeError> + Send>,
}

/// Names a rendering within a presentation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RenderKey {
    /// Multivariant playlist of a selection of tracks.
    Multivariant(Form, Selection),
    /// MPD of a selection of tracks.
    Mpd(Addressing, TextCoding, Selection),
    /// Media playlist of a representation.
    MediaPlaylist(Form, String),
    /// I-frame playlist of a representation.
    TrickPlaylist(Form, String),
    /// CMAF header of a representation, for segments of a key period.
    Init(String, usize),
    /// Whole WebVTT file of a representation.
    WholeText(Form, String),
    /// Where thumbnails are on their sheets.
    Thumbs,
}

const HLS: &str = "application/vnd.apple.mpegurl";
const DASH: &str = "application/dash+xml";

/// What answers `resource` of `asset`.
pub fn plan(asset: &Arc<Asset>, resource: VodResource) -> Result<Planned, ServeError> {
    match resource {
        VodResource::Multivariant { form, choice, .. } => multivariant(asset, asset.form(form), &choice.tracks),
        VodResource::Mpd {
            form: _,
            addressing,
            text,
            choice,
        } => mpd(asset, addressing, text, &choice.tracks),
        VodResource::Thumbs => images::thumbs(asset),
        VodResource::Poster => images::poster(asset),
        VodResource::File {
            version,
            form,
            representation,
            file,
        } => {
            if version != asset.presentation.version {
                return Err(ServeError::NotFound);
            }
            // A protected presentation has one form, and a clear one no protected form.
            if representation != packager::images::REPRESENTATION_ID && form != asset.form(form) {
                return Err(ServeError::NotFound);
            }
            if representation == packager::images::REPRESENTATION_ID {
                return images::plan(asset, form, file);
            }
            // `t1-stpp` is text track `t1` in its other coding.
            let (id, text) = match representation.strip_suffix("-stpp") {
                Some(id) => (id, TextCoding::Stpp),
                None => (representation.as_str(), TextCoding::Wvtt),
            };
            let found = asset
                .presentation
                .representation(id)
                .filter(|found| carried(found, form));
            let found = found.filter(|found| text == TextCoding::Wvtt || found.kind() == MediaKind::Text);
            let at = found.map(|found| At {
                asset: asset.clone(),
                id: found.id.clone(),
                form,
                text,
            });
            representation_file(at.ok_or(ServeError::NotFound)?, file)
        }
    }
}

fn carried(representation: &Representation, form: Form) -> bool {
    representation
        .track()
        .is_none_or(|track| form.carries(&track.description).is_ok())
}

/// A representation of an asset, in a form.
#[derive(Clone)]
struct At {
    asset: Arc<Asset>,
    id: String,
    form: Form,
    text: TextCoding,
}

impl At {
    fn representation(&self) -> Result<&Representation, ServeError> {
        self.asset
            .presentation
            .representation(&self.id)
            .ok_or(ServeError::NotFound)
    }

    /// How segment `number` of `list` is protected, and what has the keys; `None` where it is clear.
    fn protection(&self, list: SegmentList, number: u32) -> Result<Option<(&Protected, &TrackProtection)>, ServeError> {
        let Some(protected) = &self.asset.protected else {
            return Ok(None);
        };
        let track = protected
            .protection
            .track_at(self.representation()?, list, number)
            .map_err(|error| ServeError::MissingKey {
                what: format!("{}: {error}", self.asset.media_id),
            })?;
        Ok(track.map(|track| (protected.as_ref(), track)))
    }

    /// The validator of one of its files: everything that decides the bytes is in the name.
    fn etag(&self, file: &str) -> String {
        let text = if self.text == TextCoding::Stpp { "-stpp" } else { "" };
        // Variants have one URL and different bytes; which it is is not for the eye.
        let variant = self.asset.variant.map_or(String::new(), |variant| {
            let named = format!("{variant:?} {} {file}", self.asset.presentation.version);
            format!("-{}", etag_of(named.as_bytes()))
        });
        format!(
            "{}-{}-{}{text}-{file}{variant}",
            self.asset.presentation.version,
            self.form.name(),
            self.id
        )
    }
}

fn multivariant(asset: &Arc<Asset>, form: Form, tracks: &TrackChoice) -> Result<Planned, ServeError> {
    if !asset.presentation.playable_in(form) {
        return Err(ServeError::NotFound);
    }
    let selection = tracks.select(&asset.presentation, form)?;
    let asset = asset.clone();
    Ok(Planned::Render(Rendering {
        key: RenderKey::Multivariant(form, selection.clone()),
        content_type: HLS,
        cache: CachePolicy::Entry,
        compress: true,
        render: Box::new(move || {
            let version = &asset.presentation.version;
            let base = match form.format() {
                SegmentFormat::Cmaf => format!("v{version}/{}/", form.name()),
                SegmentFormat::Ts => format!("../v{version}/{}/", form.name()),
            };
            let presentation = selection.of(&asset.presentation, form);
            Ok(match &asset.protected {
                Some(protected) => hls::multivariant::render_protected(&presentation, &protected.protection, &base),
                None => hls::multivariant::render(&presentation, form, &base),
            }
            .into())
        }),
    }))
}

fn mpd(
    asset: &Arc<Asset>,
    addressing: Addressing,
    text: TextCoding,
    tracks: &TrackChoice,
) -> Result<Planned, ServeError> {
    let form = asset.form(Form::Cmaf);
    if !asset.presentation.playable_in(form) || addressing == Addressing::OnDemand && !asset.is_served_as_it_lies() {
        return Err(ServeError::NotFound);
    }
    let selection = tracks.select(&asset.presentation, form)?;
    let asset = asset.clone();
    Ok(Planned::Render(Rendering {
        key: RenderKey::Mpd(addressing, text, selection.clone()),
        content_type: DASH,
        cache: CachePolicy::Entry,
        compress: true,
        render: Box::new(move || {
            let base = format!("v{}/{}/", asset.presentation.version, form.name());
            let options = dash::mpd::Options { addressing, text };
            let presentation = selection.of(&asset.presentation, form);
            Ok(match &asset.protected {
                Some(protected) => dash::mpd::render_protected(&presentation, &base, &options, &protected.protection),
                None => dash::mpd::render(&presentation, &base, &options),
            }
            .into())
        }),
    }))
}

fn representation_file(at: At, file: RepresentationFile) -> Result<Planned, ServeError> {
    let kind = at.representation()?.kind();
    let form = at.form;
    // One segment has one URL: its extension follows from form and coding.
    if let RepresentationFile::Segment { extension, .. } | RepresentationFile::TrickFrame { extension, .. } = file {
        let expected = match form.format() {
            SegmentFormat::Cmaf => "m4s",
            SegmentFormat::Ts => hls::segment_extension(at.representation()?, form),
        };
        if extension.name() != expected {
            return Err(ServeError::NotFound);
        }
    }
    match (file, form.format(), kind) {
        (RepresentationFile::MediaPlaylist, ..) => {
            let key = RenderKey::MediaPlaylist(form, at.id.clone());
            Ok(rendering(key, HLS, true, move || {
                let representation = at.representation()?;
                Ok(match &at.asset.protected {
                    Some(protected) => hls::media::render_protected(representation, &protected.protection),
                    None => hls::media::render(representation, form),
                }
                .into())
            }))
        }
        (RepresentationFile::TrickPlaylist, _, MediaKind::Video) => {
            let key = RenderKey::TrickPlaylist(form, at.id.clone());
            Ok(rendering(key, HLS, true, move || {
                let representation = at.representation()?;
                Ok(match &at.asset.protected {
                    Some(protected) => hls::media::render_protected_trick(representation, &protected.protection),
                    None => hls::media::render_trick(representation, form),
                }
                .into())
            }))
        }
        (RepresentationFile::TextSegment { number }, _, MediaKind::Text) => text_segment(&at, number),
        (RepresentationFile::WholeText, _, MediaKind::Text) => {
            let key = RenderKey::WholeText(form, at.id.clone());
            Ok(rendering(key, "text/vtt; charset=utf-8", true, move || {
                match &at.representation()?.content {
                    RepresentationContent::Cues(text) => Ok(packager::text::webvtt::write(text)),
                    RepresentationContent::Samples(_) => Err(ServeError::NotFound),
                }
            }))
        }
        (file, SegmentFormat::Cmaf, _) => cmaf::plan(at, file),
        (RepresentationFile::Segment { number, .. }, SegmentFormat::Ts, _) => ts::segment(at, number),
        (RepresentationFile::TrickFrame { number, .. }, SegmentFormat::Ts, MediaKind::Video) => {
            ts::trick_frame(at, number)
        }
        _ => Err(ServeError::NotFound),
    }
}

fn rendering(
    key: RenderKey,
    content_type: &'static str,
    compress: bool,
    render: impl FnOnce() -> Result<Bytes, ServeError> + Send + 'static,
) -> Planned {
    Planned::Render(Rendering {
        key,
        content_type,
        cache: CachePolicy::Immutable,
        compress,
        render: Box::new(render),
    })
}

fn text_segment(at: &At, number: u32) -> Result<Planned, ServeError> {
    use packager::text::webvtt;
    let representation = at.representation()?;
    let (RepresentationContent::Cues(text), Some(segment)) =
        (&representation.content, representation.segments.get(number))
    else {
        return Err(ServeError::NotFound);
    };
    let mpegts = match at.form.format() {
        SegmentFormat::Cmaf => 0,
        SegmentFormat::Ts => ts::TIME_BASE_90K as u64,
    };
    let map = webvtt::TimestampMap { mpegts, local_ms: 0 };
    Ok(Planned::Ready(Answer {
        content: webvtt::segment(text, segment.start, segment.end(), map).into(),
        content_type: "text/vtt; charset=utf-8",
        etag: at.etag(&format!("{number}.vtt")),
        cache: CachePolicy::Immutable,
        gzip: None,
    }))
}

/// A strong validator of bytes: the first 16 hexadecimal digits of their hash.
pub fn etag_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
