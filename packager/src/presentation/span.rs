//! Tracks whose span makes no sense: shown before zero only, or lasting longer than anything does, which would be cut
//! into more segments than memory holds.

use super::{Content, NewRepresentation};
use crate::index::TrackIndex;
use crate::limits::PRESENTATION_DURATION_SECONDS_MAX;
use crate::source::Refusal;
use crate::time::{Rounding, Timescale, rescale};

const SECONDS: Timescale = Timescale::new(1).expect("1 is not zero");

/// Takes out what ends at zero or later than [`PRESENTATION_DURATION_SECONDS_MAX`]. Cues last no longer than the rest.
pub(super) fn refuse(tracks: Vec<NewRepresentation>, refused: &mut Vec<Refusal>) -> Vec<NewRepresentation> {
    let mut kept = Vec::with_capacity(tracks.len());
    for new in tracks {
        let why = match &new.content {
            Content::Samples(track) => why_not(&track.index),
            Content::Cues(_) => None,
        };
        match (why, &new.content) {
            (Some(why), Content::Samples(track)) => {
                let description = &track.description;
                let what = format!("track {} ({})", description.source_track_id, description.codec.name());
                refused.push(Refusal { what, why });
            }
            _ => kept.push(new),
        }
    }
    kept
}

fn why_not(index: &TrackIndex) -> Option<String> {
    let end = index.presentation_end();
    if end <= 0 {
        return Some("all of it is trimmed away".into());
    }
    let seconds = rescale(end, index.timescale(), SECONDS, Rounding::Floor);
    (seconds > PRESENTATION_DURATION_SECONDS_MAX as i64)
        .then(|| format!("ends after {seconds} s, at most {PRESENTATION_DURATION_SECONDS_MAX} s are served"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::Codec;
    use crate::index::{IndexWriter, NewSample};
    use crate::presentation::{HlsDescription, NewPresentation, Presentation};
    use crate::segment::SegmentTarget;
    use crate::text::{Cue, TextTrack};
    use crate::track::{AudioDescription, MediaDescription, Track, TrackDescription};

    fn track(durations: &[u32]) -> NewRepresentation {
        let mut writer = IndexWriter::new(SECONDS);
        for &duration in durations {
            writer
                .push(NewSample {
                    offset: 0,
                    size: 1,
                    duration,
                    composition_offset: 0,
                    sync: true,
                })
                .unwrap();
        }
        new(Content::Samples(Track {
            description: TrackDescription {
                source_track_id: 3,
                codec: Codec::Flac,
                rfc6381: "fLaC".into(),
                timescale: SECONDS,
                language: "und".into(),
                label: None,
                sample_entry: Bytes::new(),
                media: MediaDescription::Audio(AudioDescription {
                    sample_rate: 48_000,
                    channel_count: 2,
                    joc_complexity: None,
                    decoder_config: Bytes::new(),
                }),
            },
            index: writer.finish(0).unwrap(),
        }))
    }

    fn cues() -> NewRepresentation {
        let cue = Cue {
            start_ms: 0,
            end_ms: crate::text::TIME_MS_MAX,
            id: String::new(),
            settings: String::new(),
            payload: "x".into(),
        };
        new(Content::Cues(TextTrack::new(Vec::new(), vec![cue])))
    }

    fn new(content: Content) -> NewRepresentation {
        NewRepresentation {
            source: 0,
            content,
            language: "und".into(),
            label: None,
            roles: Vec::new(),
            default: false,
        }
    }

    #[test]
    fn what_never_ends_is_left_out() {
        let check = |durations: &[u32], expected: Option<&str>| {
            let presentation = Presentation::assemble(NewPresentation {
                title: String::new(),
                tracks: vec![track(&[2]), track(durations), cues()],
                refused: Vec::new(),
                target: SegmentTarget::from_millis(4_000).unwrap(),
                hls: HlsDescription::default(),
            });
            let refused = presentation.unwrap().refused;
            let reasons: Vec<String> = refused.iter().map(|r| format!("{}: {}", r.what, r.why)).collect();
            assert_eq!(reasons, Vec::from_iter(expected));
        };
        check(&[302_400, 302_400], None);
        check(
            &[302_400, 302_401],
            Some("track 3 (FLAC): ends after 604801 s, at most 604800 s are served"),
        );
        check(
            &[u32::MAX],
            Some("track 3 (FLAC): ends after 4294967295 s, at most 604800 s are served"),
        );
    }
}
