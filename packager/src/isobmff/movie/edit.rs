//! Edit lists: which samples of a track are served, and when on the movie's timeline they are shown.
//!
//! Empty edits delay a track, the first normal edit's start leaves pre-roll in front of zero, an edit's end drops what
//! is shown after it, further edits append samples again. Every edit's place comes from the sum of movie ticks before
//! it, so that roundings do not add up.

use crate::codec::MediaKind;
use crate::index::{IndexError, IndexWriter, NewSample};
use crate::limits::SAMPLE_COUNT_MAX;
use crate::time::{Rounding, Timescale, rescale};

use super::header::Edit;
use super::samples::RawSamples;
use super::table::SampleTable;

/// Beyond this, a time in ticks is not a time but damage.
pub(super) const TIME_MAX: i64 = i64::MAX / 16;

/// A track whose samples are chosen and written, but whose place on the common timeline is not settled yet.
#[derive(Debug)]
pub(super) struct EditedTrack {
    pub writer: IndexWriter,
    /// For [`IndexWriter::finish`], before the common shift of all tracks.
    pub edit_offset: i64,
    /// When the first thing is shown, in track ticks on the movie's timeline.
    pub start: i64,
    /// Samples left out because nothing can be decoded before the first sync sample.
    pub undecodable_count: u32,
    /// All samples that the file promises are there.
    pub complete: bool,
}

/// A stretch of media at a place of the timeline, in track ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    at: i64,
    media_start: i64,
    /// `i64::MAX`: to the end.
    media_end: i64,
}

/// Scales and kind of the track whose edits are applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct EditContext {
    pub movie_timescale: Option<Timescale>,
    pub timescale: Timescale,
    pub kind: MediaKind,
    /// Samples come in fragments: durations in the header were written before the end was known, and do not cut.
    pub fragmented: bool,
}

/// The stretches that `edits` show; `Err` says why they can not be shown.
fn parts(edits: &[Edit], context: &EditContext) -> Result<Vec<Part>, String> {
    let duration_max = TIME_MAX as u64;
    let timed = edits.iter().any(|edit| edit.duration > 0);
    let movie_timescale = match context.movie_timescale {
        Some(movie_timescale) => movie_timescale,
        None if timed => return Err("edit list in a movie without a timescale".to_owned()),
        None => context.timescale,
    };
    let to_track = |ticks: u64, rounding| {
        let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
        rescale(ticks, movie_timescale, context.timescale, rounding).min(TIME_MAX)
    };
    let last_normal = edits.iter().rposition(|edit| edit.media_time != -1);
    let slack = to_track(1, Rounding::Ceil);
    let mut parts: Vec<Part> = Vec::new();
    let mut movie_time = 0u64;
    for (edit_index, edit) in edits.iter().enumerate() {
        let at = to_track(movie_time, Rounding::Nearest);
        let endless = edit.duration == 0 || edit.duration >= u64::from(u32::MAX) && edit.duration > duration_max;
        if edit.media_time == -1 {
            if edit.duration > duration_max {
                return Err(format!("edit {edit_index} shows nothing for {} ticks", edit.duration));
            }
            movie_time = movie_time.saturating_add(edit.duration).min(duration_max);
            continue;
        }
        let is_last = last_normal == Some(edit_index);
        if edit.duration == 0 && !is_last {
            continue;
        }
        if !(0..=TIME_MAX).contains(&edit.media_time) {
            return Err(format!("edit {edit_index} starts at media time {}", edit.media_time));
        }
        if edit.rate != 0x1_0000 {
            let thousandths = i64::from(edit.rate) * 1000 / 0x1_0000;
            return Err(format!("edit {edit_index} plays at rate {thousandths}/1000"));
        }
        let media_end = match endless || context.fragmented && is_last {
            true => i64::MAX,
            false => edit.media_time + to_track(edit.duration, Rounding::Ceil),
        };
        match parts.last_mut() {
            Some(last)
                if (last.media_end.saturating_sub(edit.media_time)).abs() <= slack
                    && (at - last.at - (last.media_end - last.media_start)).abs() <= slack =>
            {
                last.media_end = media_end;
            }
            _ => parts.push(Part {
                at,
                media_start: edit.media_time,
                media_end,
            }),
        }
        movie_time = movie_time.saturating_add(edit.duration).min(duration_max);
    }
    if parts.is_empty() {
        // Only empty edits: a delay, then everything.
        parts.push(Part {
            at: to_track(movie_time, Rounding::Nearest),
            media_start: 0,
            media_end: i64::MAX,
        });
    }
    Ok(parts)
}

/// Samples `first..end` of a track; the first is decoded at `decode_time` of the media timeline.
#[derive(Clone, Copy, Debug)]
struct Choice {
    first: u32,
    end: u32,
    decode_time: i64,
    undecodable_count: u32,
}

/// Audio frames kept in front of an edit's start, so that the decoder has settled: all of them when the start lies
/// within the first second, else at least this part of a second and two frames.
const PRIMING_DIVISOR: i64 = 10;

/// The samples that the first part needs, from the last sync sample at or before its start; and where the last picture
/// or frame of the track ends on the media timeline.
fn choose_first(samples: &RawSamples<'_>, part: &Part, trimmed: bool, context: &EditContext) -> (Choice, i64) {
    let second = i64::from(context.timescale.get());
    let mut media_end = i64::MIN;
    let mut first_sync = None;
    let mut start = None;
    let mut choice = Choice {
        first: 0,
        end: 0,
        decode_time: samples.first_decode_time(),
        undecodable_count: 0,
    };
    let mut decode_time = choice.decode_time;
    for (sample_index, sample) in (0u32..).zip(samples.iter()) {
        let composition_time = decode_time + i64::from(sample.composition_offset);
        if sample.sync {
            first_sync = first_sync.or(Some((sample_index, decode_time)));
            let priming = match context.kind {
                MediaKind::Audio => (second / PRIMING_DIVISOR).max(i64::from(sample.duration) * 2),
                _ => 0,
            };
            let keeps_all = !trimmed || context.kind == MediaKind::Audio && part.media_start < second;
            if !keeps_all && composition_time <= part.media_start - priming {
                start = Some((sample_index, decode_time));
            }
        }
        if composition_time < part.media_end {
            choice.end = sample_index + 1;
        }
        media_end = media_end.max(composition_time + i64::from(sample.duration));
        decode_time += i64::from(sample.duration);
    }
    if let Some((first, decode_time)) = start.or(first_sync) {
        choice.first = first;
        choice.decode_time = decode_time;
        choice.undecodable_count = first_sync.map_or(0, |(first, _)| first);
    }
    (choice, media_end)
}

/// The samples of a part that follows another: it must start with a frame that can be decoded by itself.
fn choose_further(samples: &RawSamples<'_>, part: &Part, slack: i64, kind: MediaKind) -> Option<Choice> {
    let mut choice = None;
    let mut end = 0;
    let mut decode_time = samples.first_decode_time();
    for (sample_index, sample) in (0u32..).zip(samples.iter()) {
        let composition_time = decode_time + i64::from(sample.composition_offset);
        let away = composition_time - part.media_start;
        let starts = match kind {
            MediaKind::Audio => choice.is_none() && away >= -i64::from(sample.duration / 2),
            _ => sample.sync && away.abs() <= slack,
        };
        if starts {
            choice = Some((sample_index, decode_time));
        }
        if composition_time < part.media_end {
            end = sample_index + 1;
        }
        decode_time += i64::from(sample.duration);
    }
    let (first, decode_time) = choice?;
    (first < end).then_some(Choice {
        first,
        end,
        decode_time,
        undecodable_count: 0,
    })
}

/// Samples on their way into the index: one is held back, for what follows may change how long it lasts.
struct Assembly {
    writer: IndexWriter,
    pending: Option<NewSample>,
    /// Decode time of the next sample, where the first is decoded at zero.
    next_decode_time: i64,
}

impl Assembly {
    fn push(&mut self, sample: NewSample) -> Result<(), String> {
        self.next_decode_time += i64::from(sample.duration);
        match self.pending.replace(sample) {
            Some(before) => self.writer.push(before).map_err(reason),
            None => Ok(()),
        }
    }

    /// Makes the sample held back last longer; `false` when there is none.
    fn lengthen(&mut self, ticks: i64) -> Result<bool, String> {
        let Some(pending) = &mut self.pending else {
            return Ok(false);
        };
        let duration = i64::from(pending.duration) + ticks;
        pending.duration = u32::try_from(duration).map_err(|_| format!("a sample would last {duration} ticks"))?;
        self.next_decode_time += ticks;
        Ok(true)
    }

    /// Lets the next sample be decoded at `decode_time`, or as soon after the sample held back as there is a tick for
    /// it; returns when.
    fn seek(&mut self, decode_time: i64) -> Result<i64, String> {
        if let Some(pending) = self.pending {
            let earliest = self.next_decode_time - i64::from(pending.duration) + 1;
            self.lengthen(decode_time.max(earliest) - self.next_decode_time)?;
        }
        Ok(self.next_decode_time)
    }

    fn finish(mut self) -> Result<IndexWriter, String> {
        if let Some(last) = self.pending.take() {
            self.writer.push(last).map_err(reason)?;
        }
        Ok(self.writer)
    }
}

fn reason(error: IndexError) -> String {
    error.to_string()
}

/// Applies `edits` to `samples`. `Err` says, for people, why the track can not be served.
pub(super) fn apply(samples: &RawSamples<'_>, edits: &[Edit], context: &EditContext) -> Result<EditedTrack, String> {
    let trimmed = edits.iter().any(|edit| edit.media_time != -1);
    let parts = parts(edits, context)?;
    let Some((first_part, further)) = parts.split_first() else {
        return Err("edit list shows nothing".to_owned());
    };
    if further.is_empty()
        && let RawSamples::Table(table) = samples
        && let Some(whole) = whole(table, first_part, trimmed, context)
    {
        return Ok(whole);
    }
    let work = parts.len() as u64 * u64::from(samples.sample_count_max());
    if !further.is_empty() && work > 4 * SAMPLE_COUNT_MAX as u64 {
        return Err(format!(
            "{} edits of {} samples",
            parts.len(),
            samples.sample_count_max()
        ));
    }
    let (choice, media_end) = choose_first(samples, first_part, trimmed, context);
    if choice.first >= choice.end || trimmed && media_end <= first_part.media_start {
        return Err("nothing is left of it by its edit list".to_owned());
    }

    let mut assembly = Assembly {
        writer: IndexWriter::new(context.timescale),
        pending: None,
        next_decode_time: 0,
    };
    let keeps_empty = context.kind == MediaKind::Text;
    let mut base_decode_time = choice.decode_time;
    let mut decode_time = choice.decode_time;
    let mut composition_min = i64::MAX;
    let mut cut_clean = true;
    for mut sample in samples.iter().take(choice.end as usize).skip(choice.first as usize) {
        let composition_time = decode_time + i64::from(sample.composition_offset);
        decode_time += i64::from(sample.duration);
        cut_clean &= composition_time < first_part.media_end;
        // A frame of no bytes repeats the one before it.
        if sample.size == 0 && !keeps_empty {
            if !assembly.lengthen(i64::from(sample.duration))? {
                base_decode_time = decode_time;
            }
            continue;
        }
        sample.sync |= assembly.pending.is_none();
        composition_min = composition_min.min(composition_time);
        assembly.push(sample)?;
    }
    if composition_min == i64::MAX {
        return Err("all its samples are empty".to_owned());
    }
    let edit_offset = first_part.media_start - first_part.at - base_decode_time;
    let start = match trimmed {
        true => first_part.at + (composition_min - first_part.media_start).max(0),
        false => first_part.at + composition_min,
    };

    let slack = context.movie_timescale.map_or(1, |movie_timescale| {
        rescale(1, movie_timescale, context.timescale, Rounding::Ceil)
    });
    for part in further {
        if !cut_clean && context.kind == MediaKind::Video {
            return Err("an edit cuts between pictures that are not in display order".to_owned());
        }
        let choice = choose_further(samples, part, slack, context.kind)
            .ok_or("an edit starts where nothing can be decoded by itself")?;
        let wanted = choice.decode_time + part.at - part.media_start + edit_offset;
        let late = assembly.seek(wanted)? - wanted;
        let late = i32::try_from(late).map_err(|_| "edits overlap".to_owned())?;
        let mut decode_time = choice.decode_time;
        let mut first_composition = None;
        cut_clean = true;
        for mut sample in samples.iter().take(choice.end as usize).skip(choice.first as usize) {
            let composition_time = decode_time + i64::from(sample.composition_offset);
            decode_time += i64::from(sample.duration);
            cut_clean &= composition_time < part.media_end;
            if composition_time < *first_composition.get_or_insert(composition_time) {
                return Err("an edit starts with pictures that need earlier ones".to_owned());
            }
            if sample.size == 0 && !keeps_empty {
                assembly.lengthen(i64::from(sample.duration))?;
                continue;
            }
            sample.composition_offset = sample
                .composition_offset
                .checked_sub(late)
                .ok_or_else(|| "edits overlap".to_owned())?;
            assembly.push(sample)?;
        }
    }
    Ok(EditedTrack {
        writer: assembly.finish()?,
        edit_offset,
        start,
        undecodable_count: choice.undecodable_count,
        complete: false,
    })
}

/// The usual track: `part` shows all of it, perhaps without some priming or pre-roll that stays in front of zero. `None`
/// where that is not so, or where the samples have to be looked at one by one.
fn whole(table: &SampleTable<'_>, part: &Part, trimmed: bool, context: &EditContext) -> Option<EditedTrack> {
    let mut writer = IndexWriter::new(context.timescale);
    let times = table.copy_columns(&mut writer)?;
    let keeps_all =
        !trimmed || context.kind == MediaKind::Audio && part.media_start < i64::from(context.timescale.get());
    let starts_later = !keeps_all && times.second_sync_min <= part.media_start;
    let audio_starts_later = !keeps_all && context.kind == MediaKind::Audio;
    let ends_earlier = times.last >= part.media_end;
    let is_empty = trimmed && writer.composition_end() <= part.media_start;
    if starts_later || audio_starts_later || ends_earlier || is_empty {
        return None;
    }
    let shown = match trimmed {
        true => (writer.composition_min() - part.media_start).max(0),
        false => writer.composition_min(),
    };
    Some(EditedTrack {
        writer,
        edit_offset: part.media_start - part.at,
        start: part.at + shown,
        undecodable_count: 0,
        complete: true,
    })
}
