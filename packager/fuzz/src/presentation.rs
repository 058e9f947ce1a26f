//! Everything that is served of a source once it has been read: what the reader lets pass must survive it all.

use bytes::Bytes;
use packager::codec::MediaKind;
use packager::form::{Form, SegmentFormat};
use packager::hls;
use packager::index::Sample;
use packager::isobmff::fragment::{self, SegmentPosition};
use packager::isobmff::init::{self, InitFacts};
use packager::isobmff::{movie, sidx};
use packager::mpegts::{mux, packed_audio};
use packager::presentation::{Content, HlsDescription, NewPresentation, NewRepresentation, Presentation};
use packager::segment::SegmentTarget;
use packager::source::{ReadAt, SourceTracks};
use packager::text::{Cue, TextTrack};
use packager::time::{Rounding, Timescale, rescale};
use packager::track::Track;

/// Segments looked at from either end of a track.
const SEGMENT_COUNT_LOOKED_AT: usize = 4;

/// Samples of a track that is written as a whole and read again.
const REREAD_SAMPLE_COUNT_MAX: u32 = 512;

/// Bytes of such a track, and of a transport stream segment that is built.
const BUILT_SIZE_BYTES_MAX: u64 = 1 << 20;

/// Makes a presentation of what was found in `source`, and all that is served of it.
pub fn check(source: &Bytes, found: SourceTracks) {
    for track in &found.tracks {
        let packed = track.index.pack().expect("what is listed can be packed");
        assert!(packed.is_packed() && packed.iter().eq(track.index.iter()));
        check_reread(source, track);
    }
    let mut tracks: Vec<NewRepresentation> = found.tracks.into_iter().map(representation).collect();
    tracks.push(subtitles());
    let new = NewPresentation {
        title: "fuzz".into(),
        tracks,
        refused: found.refused,
        target: SegmentTarget::from_millis(4_000).expect("in range"),
        hls: HlsDescription::default(),
    };
    let Ok(presentation) = Presentation::assemble(new) else {
        return;
    };
    for form in Form::CLEAR {
        hls::multivariant::render(&presentation, form, "/");
        presentation.left_out(form);
        for kind in [MediaKind::Video, MediaKind::Audio, MediaKind::Text] {
            for representation in presentation.carried(form, kind) {
                hls::media::render(representation, form);
                if kind == MediaKind::Video {
                    hls::media::render_trick(representation, form);
                }
                if let Some(track) = representation.track() {
                    check_segments(source, track, representation.segments.segments(), form);
                }
            }
        }
    }
    for representation in &presentation.representations {
        if let Some(track) = representation.track() {
            let _ = sidx::of_segments(&track.index, &representation.segments);
            for frame in representation.trick_frames.iter().take(SEGMENT_COUNT_LOOKED_AT) {
                fragment::trick_play_header(&track.index, frame, 1, SegmentPosition::Inner);
            }
        }
    }
}

fn representation(track: Track) -> NewRepresentation {
    NewRepresentation {
        source: 0,
        language: track.description.language.clone(),
        label: track.description.label.clone(),
        content: Content::Samples(track),
        roles: Vec::new(),
        default: false,
    }
}

fn subtitles() -> NewRepresentation {
    let cue = Cue {
        start_ms: 1_000,
        end_ms: 9_000,
        id: String::new(),
        settings: String::new(),
        payload: "one".into(),
    };
    NewRepresentation {
        source: 1,
        content: Content::Cues(TextTrack::new(Vec::new(), vec![cue])),
        language: "en".into(),
        label: None,
        roles: Vec::new(),
        default: false,
    }
}

fn check_segments(source: &Bytes, track: &Track, segments: &[packager::segment::Segment], form: Form) {
    let mut next = 0;
    for segment in segments {
        assert_eq!(segment.samples.start, next, "every sample is in one segment");
        next = segment.samples.end;
    }
    assert_eq!(next, track.index.sample_count());

    let last = segments.len().saturating_sub(SEGMENT_COUNT_LOOKED_AT);
    for (position, segment) in segments.iter().enumerate() {
        if position >= SEGMENT_COUNT_LOOKED_AT && position < last {
            continue;
        }
        let samples = segment.samples.clone();
        match form.format() {
            SegmentFormat::Cmaf => {
                let header = fragment::header(&track.index, samples.clone(), 1, SegmentPosition::Last);
                let size = fragment::header_size(&track.index, samples, SegmentPosition::Last);
                assert_eq!(header.len(), size);
            }
            SegmentFormat::Ts if track.index.size_bytes(samples.clone()) <= BUILT_SIZE_BYTES_MAX => {
                check_transport_stream(source, track, position as u64, track.index.samples(samples).collect());
            }
            SegmentFormat::Ts => {}
        }
    }
}

fn check_transport_stream(source: &Bytes, track: &Track, number: u64, samples: Vec<Sample>) {
    let Some(data) = read_samples(source, &samples) else {
        return;
    };
    let index = &track.index;
    let to_90k = |ticks| rescale(ticks, index.timescale(), Timescale::MPEG_TS, Rounding::Floor);
    let delay = index.decode_delay() as i64;
    let mux_samples: Vec<mux::MuxSample<'_>> = samples
        .iter()
        .zip(&data)
        .map(|(sample, data)| mux::MuxSample {
            presentation_time_90k: to_90k(index.presentation_time(sample)),
            decode_time_90k: to_90k((sample.decode_time as i64).saturating_sub(delay)),
            sync: sample.sync,
            data,
        })
        .collect();
    let muxed = mux::MuxTrack {
        description: &track.description,
        samples: &mux_samples,
    };
    let segment = mux::Segment {
        number,
        tracks: &[muxed],
    };
    if let Ok(bytes) = segment.write() {
        assert_eq!(bytes.len() % 188, 0);
        assert!(bytes.chunks(188).all(|packet| packet[0] == 0x47));
    }
    if track.description.kind() == MediaKind::Audio {
        let data: Vec<&[u8]> = data.iter().map(|data| &data[..]).collect();
        let _ = packed_audio::segment(&track.description, 0, &data);
    }
}

/// The samples' bytes, if all of them lie in the source.
fn read_samples(source: &Bytes, samples: &[Sample]) -> Option<Vec<Bytes>> {
    samples
        .iter()
        .map(|sample| source.read_at(sample.offset, sample.size as usize).ok())
        .collect()
}

/// A track written as CMAF is read as the same samples at the same times.
fn check_reread(source: &Bytes, track: &Track) {
    let index = &track.index;
    let count = index.sample_count();
    let facts = InitFacts::of(index);
    // A track that is all priming has nothing to show, and is refused when it is read.
    let shown = facts.duration.is_some_and(|duration| duration > 0);
    if !shown || count > REREAD_SAMPLE_COUNT_MAX || index.size_bytes(0..count) > BUILT_SIZE_BYTES_MAX {
        return;
    }
    let Some(data) = read_samples(source, &index.iter().collect::<Vec<_>>()) else {
        return;
    };
    let mut file = init::header(&track.description, facts).to_vec();
    file.extend_from_slice(&fragment::header(index, 0..count, 1, SegmentPosition::Last));
    file.extend(data.iter().flatten());
    let again = movie::read(&Bytes::from(file)).expect("what is written can be read");
    let [again] = &again.tracks[..] else {
        panic!("one track was written: {:?}", again.refused);
    };
    assert_eq!(times(again), times(track));
    assert_eq!(again.description.codec, track.description.codec);
    // What a sample entry says of sound may be looked up in another frame than the first.
    if track.description.kind() == MediaKind::Video {
        assert_eq!(again.description.sample_entry, track.description.sample_entry);
    }
}

/// Presentation time since the first sample's, duration, size and sync of every sample. What starts late starts at zero
/// when it is alone, and no sync flag of sound in fragments is believed.
fn times(track: &Track) -> Vec<(i64, u32, u32, bool)> {
    let all_sync = track.description.kind() != MediaKind::Video;
    let index = &track.index;
    let first = index.sample(0).map_or(0, |sample| index.presentation_time(&sample));
    index
        .iter()
        .map(|sample| {
            let time = index.presentation_time(&sample) - first;
            (time, sample.duration, sample.size, sample.sync || all_sync)
        })
        .collect()
}
