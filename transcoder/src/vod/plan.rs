//! The plan of a job: what its source holds, and what is made of it, decided once, before anything is encoded.

use packager::codec::VideoRange;

use super::pieces::PASS_NAME;
use super::{Context, JobError, TranscodeJob, probe, reasons};
use crate::child::ChildError;
use crate::encoder;
use crate::input::{IndexedTrack, Input, silence_end_ns};
use crate::ladder::Rendition;
use crate::machine::Found;
use crate::order::AudioRendition;
use crate::pass;
use crate::sound;
use crate::source::{AudioSource, Refused, SourceInfo};
use crate::staging::Staging;

/// Chunks are about this long: long enough that entering and leaving them costs little.
const CHUNK_DURATION_MS: u64 = 60_000;
/// Chunks of one film.
const CHUNK_COUNT_MAX: u64 = 10_000;

/// What is made of a source: decided once, before anything is encoded.
pub(crate) struct Plan {
    pub(crate) source: SourceInfo,
    pub(crate) input: Input,
    pub(crate) renditions: Vec<(Rendition, String)>,
    /// Why each of them is coded anew.
    pub(crate) why_not_passed: Vec<String>,
    pub(crate) passed: Vec<Pass>,
    pub(crate) audio: Vec<(AudioSource, Vec<AudioRendition>)>,
    pub(crate) refused: Vec<Refused>,
    pub(crate) encoders: Vec<String>,
    pub(crate) chunks: Vec<Chunk>,
}

/// A track of the source that is taken over as it is: samples and table `n` of the piece [`PASS_NAME`], by its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// What the stream is called.
    pub(crate) stream_id: String,
    /// What it stands for; `None` for sound.
    pub(crate) rendition: Option<Rendition>,
}

/// A part of the film; without bounds it is all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) start_ms: Option<u64>,
    pub(crate) end_ms: Option<u64>,
}

/// What the source holds, and how it is read: by its index wherever that knows of everything that can be decoded.
fn look(job: &TranscodeJob, context: &Context<'_>) -> Result<(SourceInfo, Input), JobError> {
    let look = |input: &Input| probe(input, &job.known.tracks, context.program, context.cancel);
    let file = Input::File(job.source.clone());
    if job.known.tracks.is_empty() {
        return Ok((look(&file)?, file));
    }
    let inputs = job.known.tracks.iter().map(|track| track.input.clone());
    let tracks = Input::Tracks(inputs.collect());
    let mut source = look(&tracks)?;
    source.container.clone_from(&job.known.container);
    if source.stream_count() == 0 || !job.known.left_out.is_empty() {
        match look(&file) {
            Ok(seen) if seen.stream_count() > source.stream_count() => return Ok((seen, file)),
            Err(JobError::Cancelled) => return Err(JobError::Cancelled),
            // What can not be read that way has no more than what is known.
            Ok(_) | Err(_) => {}
        }
    }
    Ok((source, tracks))
}

/// Decides what becomes of the source.
pub(super) fn plan(job: &TranscodeJob, context: &mut Context<'_>) -> Result<Plan, JobError> {
    let (source, input) = look(job, context)?;
    let mut refused = source.refused.clone();
    refused.extend(match input {
        Input::File(_) => job.known.refused.clone(),
        Input::Tracks(_) => job.known.left_out.clone(),
    });
    let mut renditions = Vec::new();
    let mut encoders = Vec::new();
    let mut passed = Vec::new();
    let mut why_not_passed = Vec::new();
    let track_of = |stream_id: &str| match input {
        Input::File(_) => None,
        Input::Tracks(_) => job.known.tracks.iter().find(|track| track.input.stream_id == stream_id),
    };
    if let Some(video) = &source.video {
        let choice = job.ladder.choose(video)?;
        refused.extend(choice.refused);
        let found = Found::ask(context.program, context.cancel).map_err(|error| match error {
            ChildError::Cancelled => JobError::Cancelled,
            error => JobError::NoEncoder(format!("encoders: {error}")),
        })?;
        for mut rendition in choice.renditions {
            let why_not = match job.ladder.pass_through {
                // One is enough: two steps of one height differ in their rate.
                true if !passed.is_empty() => Some("the source stands for another rendition".to_owned()),
                true => pass::why_not(
                    video,
                    track_of(&video.stream_id),
                    &rendition,
                    job.ladder.gop_duration_ms,
                ),
                false => Some("the ladder does not want it".to_owned()),
            };
            let Some(why_not) = why_not else {
                passed.push(Pass {
                    stream_id: video.stream_id.clone(),
                    rendition: Some(rendition),
                });
                continue;
            };
            let mut chosen = encoder::choose(rendition.codec, rendition.bit_depth, job.preference, &found);
            if chosen.encoder.is_none() && rendition.bit_depth > 8 && video.video_range == VideoRange::Sdr {
                rendition.bit_depth = 8;
                chosen = encoder::choose(rendition.codec, rendition.bit_depth, job.preference, &found);
            }
            let why = format!("{}: {}", rendition.codec.codec().name(), chosen.why());
            if !encoders.contains(&why) {
                encoders.push(why);
            }
            match chosen.encoder {
                Some(encoder) => {
                    renditions.push((rendition, encoder.factory.to_owned()));
                    why_not_passed.push(why_not);
                }
                None => refused.push(Refused {
                    what: rendition.name,
                    why: chosen.why(),
                }),
            }
        }
        if renditions.is_empty() && passed.is_empty() {
            return Err(JobError::NoEncoder(format!(
                "no picture can be encoded{}",
                reasons(&refused)
            )));
        }
    }
    let mono = source.audio.iter().all(|stream| stream.channels == 1);
    let audio: Vec<_> = source
        .audio
        .iter()
        .map(|stream| (stream.clone(), sound::choose(stream, mono)))
        .collect();
    if renditions.is_empty() && passed.is_empty() && audio.is_empty() {
        return Err(JobError::Empty(refused));
    }
    for stream in &source.audio {
        let track = track_of(&stream.stream_id);
        // What has to be followed by silence is coded.
        let kept = |track: &IndexedTrack| {
            sound::is_kept(track.input.description.codec) && silence_end_ns(track, &job.known.tracks).is_none()
        };
        if job.ladder.pass_through && track.is_some_and(kept) {
            passed.push(Pass {
                stream_id: stream.stream_id.clone(),
                rendition: None,
            });
        }
    }
    let chunks = match source.video {
        Some(_) if !renditions.is_empty() => cut(
            source.duration_ms.filter(|_| source.seekable),
            job.chunk_duration_ms.unwrap_or(CHUNK_DURATION_MS),
            u64::from(job.ladder.gop_duration_ms),
        ),
        _ => Vec::new(),
    };
    Ok(Plan {
        source,
        input,
        renditions,
        why_not_passed,
        passed,
        audio,
        refused,
        encoders,
        chunks,
    })
}

/// Copies what is taken over as it is, unless an earlier run has.
pub(super) fn take_over(job: &TranscodeJob, plan: &Plan, staging: &Staging) -> Result<(), JobError> {
    if plan.passed.is_empty() || staging.piece(PASS_NAME).exists() {
        return Ok(());
    }
    let folder = staging.begin(PASS_NAME)?;
    for (number, passed) in plan.passed.iter().enumerate() {
        let mut tracks = job.known.tracks.iter();
        let track = tracks.find(|track| track.input.stream_id == passed.stream_id);
        let track = track.ok_or_else(|| JobError::Mismatch(format!("{} is gone", passed.stream_id)))?;
        pass::write(track, &folder, number)?;
    }
    Ok(staging.finish(PASS_NAME)?)
}

/// Cuts a film of `duration_ms` at instants where key frames will be, into parts about `chunk_ms` long; a short rest stays
/// with the last one. Without a duration it stays whole.
fn cut(duration_ms: Option<u64>, chunk_ms: u64, gop_ms: u64) -> Vec<Chunk> {
    let gop_ms = gop_ms.max(1);
    let chunk_ms = chunk_ms.max(gop_ms).div_ceil(gop_ms) * gop_ms;
    let whole = Chunk {
        start_ms: None,
        end_ms: None,
    };
    let Some(duration_ms) = duration_ms.filter(|duration| *duration >= chunk_ms * 3 / 2) else {
        return vec![whole];
    };
    let count = (duration_ms / chunk_ms).clamp(1, CHUNK_COUNT_MAX);
    // Even parts, so that no worker idles while the last one is at work.
    let length = (duration_ms / count).div_ceil(gop_ms) * gop_ms;
    let mut chunks = vec![whole];
    let mut boundary = length;
    while boundary + length / 4 < duration_ms {
        if let Some(last) = chunks.last_mut() {
            last.end_ms = Some(boundary);
        }
        chunks.push(Chunk {
            start_ms: Some(boundary),
            end_ms: None,
        });
        boundary += length;
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn films_are_cut_where_key_frames_will_be() {
        let check = |duration_ms, expected: &[u64]| {
            let chunks = cut(duration_ms, 60_000, 2_000);
            let starts: Vec<u64> = chunks.iter().skip(1).map(|chunk| chunk.start_ms.unwrap()).collect();
            assert_eq!(starts, expected, "{duration_ms:?}");
            assert_eq!(chunks[0].start_ms, None);
            assert_eq!(chunks.last().unwrap().end_ms, None);
            for pair in chunks.windows(2) {
                assert_eq!(pair[0].end_ms, pair[1].start_ms);
            }
        };
        check(None, &[]);
        check(Some(0), &[]);
        check(Some(89_999), &[]);
        check(Some(90_000), &[]);
        check(Some(121_000), &[62_000]);
        check(Some(200_000), &[68_000, 136_000]);
    }
}
