//! CMAF files of a representation: header, segments, trick-play frames, and all of it as one virtual file.

use std::sync::Arc;

use bytes::Bytes;
use packager::codec::MediaKind;
use packager::index::TrackIndex;
use packager::isobmff::fragment::{self, SegmentPosition};
use packager::isobmff::init::{self, InitFacts};
use packager::isobmff::on_demand::{self, OnDemandLayout, TextSamples};
use packager::presentation::{Content as RepresentationContent, Representation};
use packager::protection::SegmentList;
use packager::segment::Segment;

use super::sealed::Sealing;
use super::{Answer, At, Building, CachePolicy, Planned, RenderKey, rendering};
use crate::content::{Content, Layout, Piece};
use crate::error::ServeError;
use crate::pool::Buffer;
use crate::read::SourceFile;
use crate::route::{RepresentationFile, TextCoding};

pub(super) fn plan(at: At, file: RepresentationFile) -> Result<Planned, ServeError> {
    match file {
        RepresentationFile::Init => header(at, None),
        RepresentationFile::PeriodInit { period } => header(at, Some(period)),
        RepresentationFile::Segment { number, .. } => segment(&at, number, &format!("{number}.m4s")),
        RepresentationFile::SegmentAt { time } => {
            let number = at
                .representation()?
                .segments
                .number_at(time)
                .ok_or(ServeError::NotFound)?;
            segment(&at, number, &format!("t{time}.m4s"))
        }
        RepresentationFile::TrickFrame { number, .. } => trick_frame(&at, number),
        RepresentationFile::OnDemand => on_demand_file(at),
        _ => Err(ServeError::NotFound),
    }
}

/// The header of the first key period, or of the one that `number` counts from 1.
fn header(at: At, number: Option<u32>) -> Result<Planned, ServeError> {
    let representation = at.representation()?;
    let headers = match &at.asset.protected {
        Some(protected) => protected.protection.headers(representation),
        None => vec![0],
    };
    let period = match number {
        None => headers.first().copied(),
        // A header has one name.
        Some(number) => headers
            .into_iter()
            .skip(1)
            .find(|period| u32::try_from(*period).is_ok_and(|period| period.checked_add(1) == Some(number))),
    };
    let period = period.ok_or(ServeError::NotFound)?;
    let text = if at.text == TextCoding::Stpp { "-stpp" } else { "" };
    let key = RenderKey::Init(format!("{}{text}", at.id), period);
    let content_type = content_type(representation.kind());
    Ok(rendering(key, content_type, false, move || {
        let representation = at.representation()?;
        let period = at
            .asset
            .protected
            .as_ref()
            .map(|protected| protected.protection.period(period));
        let track = period.and_then(|period| Some((period, period.track(representation)?.encryption?)));
        match (track, representation.track()) {
            (Some((period, encryption)), Some(track)) => Ok(init::protected_header(
                &track.description,
                InitFacts::of(&track.index),
                &encryption,
                period.pssh(),
            )),
            _ => Ok(on_demand::header(representation, text_samples(&at))),
        }
    }))
}

pub(super) fn content_type(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Video => "video/mp4",
        MediaKind::Audio => "audio/mp4",
        MediaKind::Text => "application/mp4",
    }
}

fn text_samples(at: &At) -> TextSamples {
    match at.text {
        TextCoding::Stpp => TextSamples::Stpp,
        TextCoding::Wvtt | TextCoding::WebVtt => TextSamples::Wvtt,
    }
}

fn answer(at: &At, content: Content, name: &str) -> Result<Planned, ServeError> {
    Ok(Planned::Ready(Answer {
        content,
        content_type: content_type(at.representation()?.kind()),
        etag: at.etag(name),
        cache: CachePolicy::Immutable,
        gzip: None,
    }))
}

fn segment(at: &At, number: u32, name: &str) -> Result<Planned, ServeError> {
    let representation = at.representation()?;
    let segment = representation.segments.get(number).ok_or(ServeError::NotFound)?;
    if at.protection(SegmentList::Media, number)?.is_some() {
        let samples = segment.samples.clone();
        return Ok(Planned::Segment(Building::Seal(Sealing::segment(
            at, samples, number, name,
        ))));
    }
    let pieces = match &representation.content {
        RepresentationContent::Samples(track) => {
            let file = at.asset.file(representation).ok_or(ServeError::NotFound)?;
            if file.cipher().is_some() {
                let (at, range, name) = (at.clone(), segment.samples.clone(), name.to_owned());
                return Ok(Planned::Build(Box::new(move || {
                    decrypted_segment(&at, range, number, &name)
                })));
            }
            sample_pieces(
                &track.index,
                file,
                segment,
                number,
                on_demand::position(representation, number),
            )
        }
        RepresentationContent::Cues(text) => {
            let fragment = on_demand::text_fragment(representation, text, text_samples(at), segment, number);
            let damaged = |error| ServeError::Damaged {
                what: format!("{}: {error}", at.id),
            };
            vec![Piece::Memory(fragment.map_err(damaged)?)]
        }
    };
    answer(at, Content::Pieces(pieces), name)
}

fn sample_pieces(
    index: &TrackIndex,
    file: &Arc<SourceFile>,
    segment: &Segment,
    number: u32,
    position: SegmentPosition,
) -> Vec<Piece> {
    let header = fragment::header(index, segment.samples.clone(), number, position);
    let extents = index.extents(segment.samples.clone());
    let media = extents.iter().map(|extent| Piece::File {
        file: file.clone(),
        offset: extent.offset,
        size: extent.size,
    });
    std::iter::once(Piece::Memory(header)).chain(media).collect()
}

fn trick_frame(at: &At, number: u32) -> Result<Planned, ServeError> {
    let representation = at.representation()?;
    let track = representation.track().ok_or(ServeError::NotFound)?;
    let file = at.asset.file(representation).ok_or(ServeError::NotFound)?;
    let frames = &representation.trick_frames;
    let at_index = number.checked_sub(1).ok_or(ServeError::NotFound)? as usize;
    let frame = frames.get(at_index).ok_or(ServeError::NotFound)?;
    let position = if at_index + 1 == frames.len() {
        SegmentPosition::Last
    } else {
        SegmentPosition::Inner
    };
    if at.protection(SegmentList::Trick, number)?.is_some() {
        return Ok(Planned::Segment(Building::Seal(Sealing::trick_frame(
            at, *frame, number, position,
        ))));
    }
    let header = fragment::trick_play_header(&track.index, frame, number, position);
    if file.cipher().is_some() {
        let (at, range) = (at.clone(), frame.sample_index..frame.sample_index + 1);
        return Ok(Planned::Build(Box::new(move || {
            let media = decrypted(&at, at.representation()?, range)?;
            built(&at, header, media, &format!("iframe-{number}.m4s"))
        })));
    }
    let extents = track.index.extents(frame.sample_index..frame.sample_index + 1);
    let media = extents.iter().map(|extent| Piece::File {
        file: file.clone(),
        offset: extent.offset,
        size: extent.size,
    });
    let pieces = std::iter::once(Piece::Memory(header)).chain(media).collect();
    answer(at, Content::Pieces(pieces), &format!("iframe-{number}.m4s"))
}

/// The virtual file; its segments are made when an answer gets to them.
struct OnDemand {
    at: At,
    layout: OnDemandLayout,
}

/// Samples `range` of a representation whose source is encrypted, for a clear form.
fn decrypted(at: &At, representation: &Representation, range: std::ops::Range<u32>) -> Result<Bytes, ServeError> {
    let track = representation.track().ok_or(ServeError::NotFound)?;
    let file = at.asset.file(representation).ok_or(ServeError::NotFound)?;
    Ok(Buffer::from(super::ts::read_samples(file, &track.index, range)?).into_bytes())
}

fn decrypted_segment(at: &At, range: std::ops::Range<u32>, number: u32, name: &str) -> Result<Answer, ServeError> {
    let representation = at.representation()?;
    let track = representation.track().ok_or(ServeError::NotFound)?;
    let media = decrypted(at, representation, range.clone())?;
    let header = fragment::header(&track.index, range, number, on_demand::position(representation, number));
    built(at, header, media, name)
}

fn built(at: &At, header: Bytes, media: Bytes, name: &str) -> Result<Answer, ServeError> {
    Ok(Answer {
        content: Content::Pieces(vec![Piece::Memory(header), Piece::Memory(media)]),
        content_type: content_type(at.representation()?.kind()),
        etag: at.etag(name),
        cache: CachePolicy::Immutable,
        gzip: None,
    })
}

fn on_demand_file(at: At) -> Result<Planned, ServeError> {
    // Its layout would take reading all of its samples, or differ among viewers.
    if at.form.is_protected() || !at.asset.is_served_as_it_lies() {
        return Err(ServeError::NotFound);
    }
    let layout = on_demand::layout(at.representation()?, text_samples(&at)).map_err(|error| ServeError::Damaged {
        what: format!("{}: {error}", at.id),
    })?;
    let content = Content::Virtual(Arc::new(OnDemand { at: at.clone(), layout }));
    answer(&at, content, "media.mp4")
}

impl Layout for OnDemand {
    fn size(&self) -> u64 {
        self.layout.starts.last().copied().unwrap_or(0)
    }

    fn section_count(&self) -> usize {
        self.layout.starts.len()
    }

    fn section_at(&self, offset: u64) -> (usize, u64) {
        match self.layout.starts.partition_point(|start| *start <= offset) {
            0 => (0, 0),
            section => (section, self.layout.starts.get(section - 1).copied().unwrap_or(0)),
        }
    }

    fn section(self: Arc<Self>, section: usize) -> Vec<Piece> {
        let Some(number) = u32::try_from(section).ok().filter(|number| *number > 0) else {
            return vec![Piece::Memory(self.layout.head.clone())];
        };
        // The representation was there when the layout was made, and assets never change.
        match segment(&self.at, number, "") {
            Ok(Planned::Ready(Answer {
                content: Content::Pieces(pieces),
                ..
            })) => pieces,
            _ => Vec::new(),
        }
    }
}
