//! The cut of a presentation: its tracks in segments, at boundaries that all of them share.

use super::bandwidth::Bandwidths;
use super::{Content, NewRepresentation, Representation, default_role, language_name, video_index};
use crate::codec::MediaKind;
use crate::index::TrackIndex;
use crate::segment::{
    Alignment, Cut, Segment, SegmentTable, SegmentTarget, TrickFrame, choose_boundaries, trick_frames,
};
use crate::source::Refusal;
use crate::time::{MediaTime, Rounding, Timescale};

/// A track with its name in URLs.
pub(super) struct Named {
    pub(super) id: String,
    /// See [`Representation::first_source_sample`].
    pub(super) first_source_sample: u32,
    pub(super) new: NewRepresentation,
}

/// Cuts tracks, which are in a presentation's order, at boundaries that all of them share. Also what is to be said of the
/// ladder, and when the last track ends.
pub(super) fn cut(tracks: Vec<Named>, target: SegmentTarget) -> (Vec<Representation>, Option<Refusal>, MediaTime) {
    let videos: Vec<_> = tracks
        .iter()
        .filter_map(|named| video_index(&named.new.content))
        .collect();
    let (boundaries, refusal) = match choose_boundaries(&videos, target) {
        Alignment::Aligned(boundaries) => (boundaries, None),
        Alignment::Unaligned { track, first } => {
            let refusal = Refusal {
                what: format!("switching to video {}", track + 1),
                why: "its key frames are not at the times of the first video's, so segments do not line up".into(),
            };
            (first, Some(refusal))
        }
    };
    // The first video decides: what it can not be cut at, nothing is. Sync samples line up with sync samples; sound and
    // text with what is shown, which in open GOPs starts before the sync sample.
    let reference = videos.first().map(|index| Cut::of_video(index, &boundaries));
    let (mut reference, sync_boundaries) = reference.unzip();
    let sync_boundaries = sync_boundaries.unwrap_or_default();
    let boundaries = match &reference {
        Some(cut) => cut.table.boundaries(),
        None => boundaries,
    };
    let has_video = !videos.is_empty();
    let mut representations = Vec::with_capacity(tracks.len());
    let mut cues = Vec::new();
    for named in tracks {
        match &named.new.content {
            Content::Samples(track) => {
                let is_video = track.description.kind() == MediaKind::Video;
                let (cut, trick) = match is_video {
                    // The first video comes first.
                    true => (
                        (reference.take()).unwrap_or_else(|| Cut::of_video(&track.index, &sync_boundaries).0),
                        trick_frames(&track.index),
                    ),
                    false => (Cut::of_audio(&track.index, &boundaries, target), Vec::new()),
                };
                representations.push(representation(named, cut, trick));
            }
            Content::Cues(_) => cues.push(named),
        }
    }
    let zero = MediaTime::new(0, Timescale::MILLIS);
    let duration = representations
        .iter()
        .map(|rep| rep.segments.end())
        .max()
        .unwrap_or(zero);
    let cue_boundaries = match has_video {
        true => boundaries,
        false => representations
            .first()
            .map(|rep| rep.segments.boundaries())
            .unwrap_or_default(),
    };
    for named in cues {
        let segments = SegmentTable::of_cues(&cue_boundaries, duration, target);
        let cut = Cut {
            table: segments,
            spans: Vec::new(),
        };
        representations.push(representation(named, cut, Vec::new()));
    }
    let dated = begin_apart(&representations);
    representations.iter_mut().for_each(|rep| rep.dated = dated);
    (representations, refusal, duration)
}

/// What ear and eye take for together, and less than a frame.
const TOGETHER_MILLIS: i64 = 5;

/// Whether sound and pictures begin at different instants.
fn begin_apart(representations: &[Representation]) -> bool {
    let starts = representations.iter().filter(|rep| rep.kind() != MediaKind::Text);
    let starts = starts.filter_map(|rep| {
        let first = rep.segments.segments().first()?;
        let start = MediaTime::new(i64::try_from(first.start).ok()?, rep.segments.timescale());
        Some(start.to_millis(Rounding::Nearest))
    });
    let (least, most) = starts.fold((i64::MAX, i64::MIN), |(least, most), start| {
        (least.min(start), most.max(start))
    });
    most.saturating_sub(least) > TOGETHER_MILLIS
}

fn representation(named: Named, cut: Cut, trick_frames: Vec<TrickFrame>) -> Representation {
    let Named {
        id,
        first_source_sample,
        new,
    } = named;
    let label = new.label.clone().unwrap_or_else(|| language_name(&new.language));
    let roles = if new.roles.is_empty() {
        vec![default_role(&new.content)]
    } else {
        new.roles
    };
    let bandwidths = Bandwidths::measure(&new.content, &cut, &trick_frames);
    let has_open_groups = match &new.content {
        Content::Samples(track) if track.description.video().is_some() => {
            let mut segments = cut.table.segments().iter();
            segments.any(|segment| begins_open(&track.index, segment))
        }
        _ => false,
    };
    Representation {
        id,
        source: new.source,
        content: new.content,
        language: new.language,
        label,
        roles,
        default: new.default,
        segments: cut.table,
        first_source_sample,
        trick_frames,
        dated: false,
        has_open_groups,
        bandwidths,
    }
}

/// Whether pictures are shown before the first of `segment`. Which of them can be decoded without what came before, only their
/// bits tell (HEVC: RADL); the usual encoders' can not.
pub(crate) fn begins_open(index: &TrackIndex, segment: &Segment) -> bool {
    let first = index.sample(segment.samples.start);
    first.is_some_and(|first| index.presentation_time(&first) > i64::try_from(segment.start).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::Form;
    use crate::index::{IndexWriter, NewSample};
    use crate::isobmff::fixture;
    use crate::presentation::{HlsDescription, NewPresentation, Presentation};
    use crate::track::{MediaDescription, Track};

    /// 30 s at 25 pictures a second. A sync sample is shown each second, and all but the first are followed by `leading`
    /// pictures that are shown before them.
    fn open_gops(height: u32, leading: i32) -> NewRepresentation {
        let mut description = fixture::video();
        if let MediaDescription::Video(video) = &mut description.media {
            (video.width, video.height) = (height * 16 / 9, height);
        }
        let mut writer = IndexWriter::new(Timescale::MPEG_TS);
        for at in 0..750 - leading {
            // As if the first group had pictures in front of it too.
            let (group, in_group) = match at {
                0 => (0, 0),
                _ => ((at + leading) / 25, (at + leading) % 25),
            };
            let shown = match in_group {
                0 => group * 25,
                _ if in_group <= leading => group * 25 - leading + in_group - 1,
                _ => group * 25 + in_group - leading,
            };
            writer
                .push(NewSample {
                    offset: at as u64 * 1_000,
                    size: 1_000,
                    duration: 3_600,
                    composition_offset: (shown - at) * 3_600,
                    sync: in_group == 0,
                })
                .unwrap();
        }
        let index = writer.finish(0).unwrap();
        NewRepresentation {
            source: 0,
            content: Content::Samples(Track { description, index }),
            language: "und".into(),
            label: None,
            roles: Vec::new(),
            default: false,
        }
    }

    #[test]
    fn open_gops_are_cut_as_often_as_closed_ones() {
        let check = |leading: &[i32]| {
            let tracks = (1..)
                .zip(leading)
                .map(|(at, leading)| open_gops(at * 180, *leading))
                .collect();
            let presentation = Presentation::assemble(NewPresentation {
                title: String::new(),
                tracks,
                refused: Vec::new(),
                target: SegmentTarget::DEFAULT,
                hls: HlsDescription::default(),
            });
            let presentation = presentation.unwrap();
            // The highest picture comes first.
            for (representation, leading) in presentation.representations.iter().zip(leading.iter().rev()) {
                let first = |number: i32| (number * 100 - leading).max(0) as u32;
                let firsts: Vec<u32> = representation
                    .segments
                    .segments()
                    .iter()
                    .map(|s| s.samples.start)
                    .collect();
                assert_eq!(firsts, Vec::from_iter((0..8).map(first)), "{leading} pictures");
                // What is shown before the key frame of its segment may need the segment before.
                let sap_type = if *leading > 0 { 3 } else { 1 };
                assert_eq!(representation.sap_type(), sap_type, "{leading} pictures");
                let playlist = crate::hls::media::render(representation, Form::Cmaf);
                let playlist = String::from_utf8(playlist).unwrap();
                let says = playlist.contains("EXT-X-INDEPENDENT-SEGMENTS");
                assert_eq!(says, *leading == 0, "{playlist}");
                let trick = crate::hls::media::render_trick(representation, Form::Cmaf);
                assert!(String::from_utf8(trick).unwrap().contains("EXT-X-INDEPENDENT-SEGMENTS"));
            }
            let master = crate::hls::multivariant::render(&presentation, Form::Cmaf, "v/");
            let says = String::from_utf8(master)
                .unwrap()
                .contains("EXT-X-INDEPENDENT-SEGMENTS");
            assert_eq!(says, leading.iter().all(|leading| *leading == 0));
            assert_eq!(
                presentation.video_sets(Form::Cmaf).len(),
                1,
                "{leading:?}: players may switch"
            );
        };
        check(&[0]);
        check(&[2]);
        check(&[2, 2]);
        check(&[2, 3, 0]);
    }
}
