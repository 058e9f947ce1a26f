//! Clips: a presentation of its own made of a part of another, and of its tracks cut anew.
//!
//! A clip shares the samples and the ids of what it is a part of. Every track moves back by the same instant, so tracks
//! keep their distance to within rounding to their own ticks (packaging bug B9), and everything that is written of the
//! clip follows from its own index (B8).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::choice::{ChoiceError, MediaChoice};
use super::cut::{Named, cut};
use super::{Content, HlsDescription, NewRepresentation, Presentation, Start, choose_defaults};
use crate::codec::MediaKind;
use crate::form::{Form, SegmentFormat};
use crate::index::{IndexError, IndexWriter, NewSample, Sample, TrackIndex};
use crate::segment::sync_times;
use crate::text::{Cue, TextTrack};
use crate::time::{MediaTime, Rounding, Timescale, rescale};
use crate::track::Track;

/// No decoder holds back more pictures than this, so none further on is shown earlier.
const REORDERED_SAMPLE_COUNT_MAX: u32 = 64;

/// What is cut out, on the timeline of the source.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Becomes zero.
    start: MediaTime,
    /// First instant outside.
    end: Option<MediaTime>,
    /// A key frame that is so much later than the start is meant by it, in microseconds.
    tolerance_us: i64,
}

/// Starts are whole milliseconds, so a key frame is at most this far from the one that names it.
const START_TOLERANCE_US: i64 = 500;
/// Key frames of different videos this near to each other are the same instant.
const SHARED_TOLERANCE_US: i64 = 4_000;

/// The presentation that `choice`, which must be [`MediaChoice::canonical`], makes of `presentation` in `form`.
///
/// CMAF shows the clip from its very start: tracks begin at the sync sample at or before it, and the edit list in the
/// header takes away what lies before. MPEG-TS has no edit list: there the clip starts at the last key frame (one that
/// all video has) at or before the start, for every track.
///
/// The end is exact for sound and text. Video ends with the last picture before the end, and with those that are
/// needed so that no picture is missing in between: a few more where pictures are reordered.
pub fn derive(presentation: &Presentation, choice: &MediaChoice, form: Form) -> Result<Presentation, ChoiceError> {
    let end_ms = choice.end_ms.map(|end_ms| i64::try_from(end_ms).unwrap_or(i64::MAX));
    let window = Window {
        start: beginning(presentation, choice.start_ms, form),
        end: end_ms.map(MediaTime::from_millis),
        tolerance_us: match form.format() {
            SegmentFormat::Ts => SHARED_TOLERANCE_US,
            SegmentFormat::Cmaf => START_TOLERANCE_US,
        },
    };
    let is_clipped = choice.start_ms > 0 || window.end.is_some();
    let mut tracks = Vec::with_capacity(presentation.representations.len());
    for rep in &presentation.representations {
        let content = match &rep.content {
            content if !is_clipped => Some((content.clone(), 0)),
            Content::Samples(track) => {
                clip_track(track, window)?.map(|(track, first)| (Content::Samples(track), first))
            }
            Content::Cues(text) => Some((Content::Cues(clip_cues(text, window)), 0)),
        };
        let Some((content, first_sample)) = content else {
            continue;
        };
        tracks.push(Named {
            id: rep.id.clone(),
            first_source_sample: rep.first_source_sample.saturating_add(first_sample),
            new: NewRepresentation {
                source: rep.source,
                content,
                language: rep.language.clone(),
                label: Some(rep.label.clone()),
                roles: rep.roles.clone(),
                default: rep.default,
            },
        });
    }
    if tracks
        .iter()
        .all(|named| super::kind_of(&named.new.content) == MediaKind::Text)
    {
        return Err(ChoiceError::EmptyClip);
    }
    let target = choice.target(presentation.target);
    let (mut representations, refusal, duration) = cut(tracks, target);
    choose_defaults(&mut representations);
    let mut refused = presentation.refused.clone();
    refused.extend(refusal.filter(|refusal| !presentation.refused.contains(refusal)));
    Ok(Presentation {
        title: presentation.title.clone(),
        representations,
        target,
        duration,
        version: format!("{}{}", presentation.version, choice.name()),
        hls: HlsDescription {
            start: presentation
                .hls
                .start
                .and_then(|at| clip_start(at, presentation.duration, window)),
            ..presentation.hls.clone()
        },
        refused,
        sound_apart: presentation.sound_apart,
        // Sheets show the whole film at its own times.
        images: presentation.images.clone().filter(|_| !is_clipped),
    })
}

/// Where the time zero of a clip from `start_ms` in `form` lies on the timeline of `presentation`.
pub fn beginning(presentation: &Presentation, start_ms: u64, form: Form) -> MediaTime {
    let start = MediaTime::from_millis(i64::try_from(start_ms).unwrap_or(i64::MAX));
    match form.format() {
        SegmentFormat::Ts => key_frame_before(presentation, form, start).unwrap_or(start),
        SegmentFormat::Cmaf => start,
    }
}

fn micros(micros: i64, scale: Timescale) -> i64 {
    rescale(micros, Timescale::MICROS, scale, Rounding::Ceil)
}

/// The last instant at or before `start` at which every video of `form` has a sync sample; of the first video alone
/// where there is no such instant.
fn key_frame_before(presentation: &Presentation, form: Form, start: MediaTime) -> Option<MediaTime> {
    let mut videos = presentation
        .carried(form, MediaKind::Video)
        .filter_map(|rep| rep.track());
    let reference = &videos.next()?.index;
    let scale = reference.timescale();
    let last = start
        .to_scale(scale, Rounding::Nearest)
        .saturating_add(micros(START_TOLERANCE_US, scale));
    let mut own: Vec<i64> = sync_times(reference).into_iter().map(|(_, time)| time).collect();
    own.retain(|time| *time <= last);
    own.sort_unstable();
    let alone = own.last().copied();
    for other in videos {
        let other = &other.index;
        let mut times: Vec<i64> = sync_times(other)
            .into_iter()
            .map(|(_, time)| rescale(time, other.timescale(), scale, Rounding::Nearest))
            .collect();
        times.sort_unstable();
        let tolerance = micros(SHARED_TOLERANCE_US, scale);
        own.retain(|time| {
            let at = times.partition_point(|other| *other < time.saturating_sub(tolerance));
            times
                .get(at)
                .is_some_and(|other| other.abs_diff(*time) <= tolerance.unsigned_abs())
        });
    }
    let shared = own.last().copied().or(alone)?;
    // A first key frame that is shown before zero is where the presentation starts.
    Some(MediaTime::new(shared.max(0), scale))
}

/// The samples of `window` with their times, and the first of them; `None` when nothing of the track is shown there.
fn clip_track(track: &Track, window: Window) -> Result<Option<(Track, u32)>, IndexError> {
    let index = &track.index;
    let scale = index.timescale();
    let start = window.start.to_scale(scale, Rounding::Nearest);
    let end = window
        .end
        .map_or(i64::MAX, |end| end.to_scale(scale, Rounding::Nearest));
    let tolerance = match track.description.kind() {
        MediaKind::Video => micros(window.tolerance_us, scale),
        _ => 0,
    };
    let first = first_sample(index, start, tolerance);
    let samples = first..last_sample(index, first, end);
    let Some(first_decode_time) = index.sample(first).map(|sample| sample.decode_time) else {
        return Ok(None);
    };
    let mut writer = IndexWriter::new(scale);
    let mut shown_until = i64::MIN;
    for sample in index.samples(samples) {
        shown_until = shown_until.max(
            index
                .presentation_time(&sample)
                .saturating_add(i64::from(sample.duration)),
        );
        writer.push(NewSample {
            offset: sample.offset,
            size: sample.size,
            duration: sample.duration,
            composition_offset: sample.composition_offset,
            sync: sample.sync,
        })?;
    }
    if shown_until <= start {
        return Ok(None);
    }
    // presentation = decode + offset - media_time in the source; `start` less in the clip, whose decode times begin
    // with the first sample's.
    let edit_offset = start
        .saturating_add_unsigned(index.media_time())
        .saturating_sub_unsigned(first_decode_time);
    let clipped = Track {
        description: track.description.clone(),
        index: writer.finish(edit_offset)?,
    };
    Ok(Some((clipped, first)))
}

/// The last sync sample that is shown at or before `start`, or at most `tolerance` later. From zero on nothing is taken
/// away: what lies before is priming that the decoder needs.
fn first_sample(index: &TrackIndex, start: i64, tolerance: i64) -> u32 {
    if start <= 0 {
        return 0;
    }
    let is_before = |sample: &Sample| index.presentation_time(sample) <= start.saturating_add(tolerance);
    let found = match index.all_sync() {
        true => (0u32..)
            .zip(index.iter())
            .filter(|(_, sample)| is_before(sample))
            .last()
            .map(|found| found.0),
        false => index
            .sync_samples()
            .filter(|at| index.sample(*at).is_some_and(|sample| is_before(&sample)))
            .last(),
    };
    found.unwrap_or(0)
}

/// One past the last sample that is needed to show everything before `end` without a gap: whatever follows is shown
/// later than all of it.
fn last_sample(index: &TrackIndex, first: u32, end: i64) -> u32 {
    let (mut last, mut needed_until, mut latest) = (first, i64::MIN, i64::MIN);
    for (sample_index, sample) in (first..).zip(index.samples(first..u32::MAX)) {
        let time = index.presentation_time(&sample);
        latest = latest.max(time);
        if time < end || time < needed_until {
            last = sample_index.saturating_add(1);
            needed_until = latest;
        }
        if sample_index.saturating_sub(last) > REORDERED_SAMPLE_COUNT_MAX {
            break;
        }
    }
    last
}

fn clip_cues(text: &TextTrack, window: Window) -> TextTrack {
    let millis = |time: MediaTime| time.to_millis(Rounding::Nearest).max(0).unsigned_abs();
    let start_ms = millis(window.start);
    let end_ms = window.end.map_or(u64::MAX, millis);
    let cues = text.window(start_ms, end_ms).map(|cue| Cue {
        start_ms: cue.start_ms.saturating_sub(start_ms),
        end_ms: cue.end_ms.min(end_ms).saturating_sub(start_ms),
        ..cue.clone()
    });
    TextTrack::new(text.header().to_vec(), cues.collect())
}

/// The same instant in the clip (RFC 8216bis 4.4.2.2: negative offsets count from the end), if it lies there.
fn clip_start(at: Start, duration: MediaTime, window: Window) -> Option<Start> {
    let duration_ms = duration.to_millis(Rounding::Nearest);
    let start_ms = window.start.to_millis(Rounding::Nearest);
    let end_ms = window.end.map_or(duration_ms, |end| end.to_millis(Rounding::Nearest));
    let from_end = at.offset_ms < 0;
    let instant_ms = at.offset_ms.saturating_add(if from_end { duration_ms } else { 0 });
    let offset_ms = instant_ms.saturating_sub(if from_end { end_ms } else { start_ms });
    (start_ms..end_ms)
        .contains(&instant_ms)
        .then_some(Start { offset_ms, ..at })
}
