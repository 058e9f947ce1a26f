//! A representation as one virtual file: header, `sidx`, then every segment as it is served alone
//! (ISO/IEC 23009-1 8.3, on-demand profile).

use bytes::Bytes;

use super::fragment::{self, FragmentSample, SegmentPosition};
use super::init::{self, InitFacts};
use super::sidx::{self, Reference, SidxError, StartsWith};
use crate::codec::Codec;
use crate::presentation::{Content, Representation};
use crate::segment::Segment;
use crate::text::{TextError, TextTrack, stpp, wvtt};
use crate::track::{MediaDescription, TextDescription, TrackDescription};

/// How a track made of cues is carried in CMAF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TextSamples {
    /// WebVTT.
    Wvtt,
    /// TTML.
    Stpp,
}

/// Why a virtual file could not be laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnDemandError {
    /// Its segments can not be listed.
    #[error(transparent)]
    Index(SidxError),
    /// Its text can not be written.
    #[error(transparent)]
    Text(TextError),
}

/// Where everything in a virtual file is.
#[derive(Clone, Debug)]
pub struct OnDemandLayout {
    /// Header and `sidx`.
    pub head: Bytes,
    /// Bytes of the header alone.
    pub header_size: u64,
    /// Where each segment starts, and the end of the last.
    pub starts: Vec<u64>,
}

/// What position a segment has in its track, as its `styp` says.
pub fn position(representation: &Representation, number: u32) -> SegmentPosition {
    match number as usize == representation.segments.segments().len() {
        true => SegmentPosition::Last,
        false => SegmentPosition::Inner,
    }
}

/// The CMAF header of `representation`; `text` says how cues are carried.
pub fn header(representation: &Representation, text: TextSamples) -> Bytes {
    match &representation.content {
        Content::Samples(track) => init::header(&track.description, InitFacts::of(&track.index)),
        Content::Cues(cues) => {
            let facts = InitFacts {
                media_time: 0,
                duration: Some(representation.segments.segments().last().map_or(0, Segment::end)),
                frame_rate: None,
            };
            init::header(&text_description(representation, cues, text), facts)
        }
    }
}

/// What a track made of cues says of itself.
fn text_description(representation: &Representation, cues: &TextTrack, text: TextSamples) -> TrackDescription {
    let (codec, rfc6381, sample_entry, config) = match text {
        TextSamples::Stpp => (
            Codec::Stpp,
            stpp::CODECS,
            stpp::sample_entry(),
            stpp::NAMESPACE.to_owned(),
        ),
        TextSamples::Wvtt => (Codec::Wvtt, "wvtt", wvtt::sample_entry(cues), wvtt::config(cues)),
    };
    TrackDescription {
        source_track_id: 1,
        codec,
        rfc6381: rfc6381.into(),
        timescale: representation.segments.timescale(),
        language: representation.language.clone(),
        label: Some(representation.label.clone()),
        sample_entry,
        media: MediaDescription::Text(TextDescription { config }),
    }
}

/// One CMAF fragment of cues: a sample for each stretch with the same cues, or one document.
pub fn text_fragment(
    representation: &Representation,
    cues: &TextTrack,
    text: TextSamples,
    segment: &Segment,
    number: u32,
) -> Result<Bytes, TextError> {
    let samples = match text {
        TextSamples::Stpp => vec![stpp::sample(
            cues,
            segment.start,
            segment.end(),
            &representation.language,
        )],
        TextSamples::Wvtt => wvtt::samples(cues, segment.start, segment.end())?,
    };
    let sizes: Vec<FragmentSample> = samples
        .iter()
        .map(|sample| FragmentSample {
            size: sample.bytes.len() as u32,
            duration: sample.duration_ms as u32,
            composition_offset: 0,
            sync: true,
        })
        .collect();
    let header = fragment::from_samples(number, segment.start, &sizes, position(representation, number));
    let mut bytes = Vec::with_capacity(header.len() + samples.iter().map(|sample| sample.bytes.len()).sum::<usize>());
    bytes.extend_from_slice(&header);
    for sample in &samples {
        bytes.extend_from_slice(&sample.bytes);
    }
    Ok(bytes.into())
}

/// Sizes of header and `sidx`, in bytes: all that an MPD needs to know.
pub fn head_sizes(representation: &Representation, text: TextSamples) -> (u64, u64) {
    let header_size = header(representation, text).len() as u64;
    let segments = representation.segments.segments();
    let earliest = segments.first().map_or(0, |segment| segment.start);
    (header_size, sidx::size_bytes(earliest, segments.len()) as u64)
}

/// Lays out the virtual file of `representation`.
pub fn layout(representation: &Representation, text: TextSamples) -> Result<OnDemandLayout, OnDemandError> {
    let segments = representation.segments.segments();
    let numbered = || segments.iter().zip(1u32..);
    let mut sizes = Vec::with_capacity(segments.len());
    let index = match &representation.content {
        Content::Samples(track) => {
            for (segment, number) in numbered() {
                let position = position(representation, number);
                let header = fragment::header_size(&track.index, segment.samples.clone(), position) as u64;
                sizes.push(header + track.index.size_bytes(segment.samples.clone()));
            }
            sidx::of_segments(&track.index, &representation.segments).map_err(OnDemandError::Index)?
        }
        Content::Cues(cues) => {
            for (segment, number) in numbered() {
                let fragment =
                    text_fragment(representation, cues, text, segment, number).map_err(OnDemandError::Text)?;
                sizes.push(fragment.len() as u64);
            }
            let references: Vec<Reference> = segments
                .iter()
                .zip(&sizes)
                .map(|(segment, size)| Reference {
                    size: *size,
                    duration: segment.duration,
                    starts_with: StartsWith::SapType1,
                })
                .collect();
            sidx::build(representation.segments.timescale(), 0, &references).map_err(OnDemandError::Index)?
        }
    };
    let header = header(representation, text);
    let header_size = header.len() as u64;
    let mut starts = vec![header_size + index.len() as u64];
    for size in sizes {
        starts.push(starts.last().copied().unwrap_or(0) + size);
    }
    Ok(OnDemandLayout {
        head: [header, index].concat().into(),
        header_size,
        starts,
    })
}
