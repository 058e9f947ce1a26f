//! A job from end to end: look, choose, encode piece by piece in processes of their own, join, publish.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use packager::codec::VideoRange;
use packager::presentation::Role;
use packager::text::TextTrack;

use crate::child::{self, ChildError, Program};
use crate::encoder::{self, Preference};
use crate::input::{IndexedTrack, Input};
use crate::ladder::{Ladder, LadderError, Rendition};
use crate::machine::Found;
use crate::order::{AudioRendition, AudioWork, Coded, Limits, Order, Progress, Said, VideoWork, Work};
use crate::pass;
use crate::pipeline::lock;
use crate::publish;
use crate::sound;
use crate::source::{AudioSource, Refused, SourceInfo};
use crate::staging::{self, Staging, StagingError};
use crate::timing::TimingError;
use crate::track_file::TrackError;

/// Changes whenever pieces of an older version must not be used.
const PIECES_VERSION: &[u8] = b"headwater-pieces-3";
/// Chunks are about this long: long enough that entering and leaving them costs little.
const CHUNK_DURATION_MS: u64 = 60_000;
/// Chunks of one film.
const CHUNK_COUNT_MAX: u64 = 10_000;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct TranscodeJob {
    /// The source.
    pub source: PathBuf,
    /// Name for people.
    pub title: String,
    /// Where it is published.
    pub library: PathBuf,
    /// Name of its folder there.
    pub name: String,
    /// The rules.
    pub ladder: Ladder,
    /// Which devices may encode.
    pub preference: Preference,
    /// Wanted segment duration.
    pub segment_duration_ms: u32,
    /// Pieces encoded at once; `None` as many as there are cores for.
    pub worker_count: Option<usize>,
    /// Length of a chunk; `None` the usual one.
    pub chunk_duration_ms: Option<u64>,
    /// What is known of the source's tracks besides what a decoder sees.
    pub known: Known,
}

/// What a reader of the source's container knows, which GStreamer does not say.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Text tracks, as cues.
    pub texts: Vec<KnownText>,
    /// Sound tracks.
    pub audio: Vec<KnownAudio>,
    /// Text that can not be carried over, and why.
    pub refused: Vec<Refused>,
    /// What the container is, for people.
    pub container: String,
    /// Pictures and sound of which every sample is known.
    pub tracks: Vec<IndexedTrack>,
    /// What of the source is neither in `tracks` nor in `texts`, and why.
    pub left_out: Vec<Refused>,
}

/// A text track.
#[derive(Clone, Debug)]
pub struct KnownText {
    /// Its cues.
    pub text: TextTrack,
    /// What is said of it.
    pub said: TrackSaid,
}

/// A sound track.
#[derive(Clone, Debug)]
pub struct KnownAudio {
    /// Its number in the source's container.
    pub track_id: u32,
    /// What it is called in [`Known::tracks`].
    pub stream_id: String,
    /// What is said of it.
    pub said: TrackSaid,
}

/// What is said of a track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackSaid {
    /// BCP 47 tag.
    pub language: String,
    /// Name for people.
    pub label: Option<String>,
    /// Purposes.
    pub roles: Vec<Role>,
    /// Chosen when the viewer has no preference.
    pub default: bool,
}

/// Why a job failed. Nothing is left in the library.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The source could not be looked into.
    #[error("the source can not be read: {0}")]
    Probe(ChildError),
    /// There is nothing in it.
    #[error("nothing in the source can be transcoded{}", reasons(.0))]
    Empty(Vec<Refused>),
    /// The ladder makes nothing of it.
    #[error(transparent)]
    Ladder(#[from] LadderError),
    /// No encoder.
    #[error("{0}")]
    NoEncoder(String),
    /// A piece failed.
    #[error("{piece}: {why}")]
    Piece {
        /// Which.
        piece: String,
        /// Why.
        why: ChildError,
    },
    /// What workers made does not fit together.
    #[error("{0}")]
    Mismatch(String),
    /// Times that make no sense.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The job's folder.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// A file.
    #[error(transparent)]
    Track(#[from] TrackError),
    /// What is put beside the tracks.
    #[error("{0}")]
    Extra(String),
    /// Whoever asked no longer wants it.
    #[error("cancelled")]
    Cancelled,
}

fn reasons(refused: &[Refused]) -> String {
    let list: Vec<String> = refused.iter().map(|row| format!("{}: {}", row.what, row.why)).collect();
    match list.is_empty() {
        true => String::new(),
        false => format!(" ({})", list.join("; ")),
    }
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobProgress {
    /// Names of what is made.
    pub renditions: Vec<String>,
    /// Share of the work done, in thousandths; `None` while the source's length is not known.
    pub done_permille: Option<u32>,
    /// Film coded, in milliseconds.
    pub coded_ms: u64,
    /// Film in all.
    pub duration_ms: Option<u64>,
    /// Pictures coded, of each rendition.
    pub frame_count: u64,
    /// Pieces finished, and pieces in all.
    pub pieces: (usize, usize),
    /// Since encoding began.
    pub elapsed: Duration,
}

/// What became of a job.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its folder.
    pub folder: PathBuf,
    /// What was left out, and why.
    pub refused: Vec<Refused>,
    /// Which encoder was taken for each coding, and why.
    pub encoders: Vec<String>,
}

/// What a job uses and answers to.
pub struct Context<'a> {
    /// Becomes a worker.
    pub program: &'a Program,
    /// Set by whoever no longer wants it.
    pub cancel: &'a AtomicBool,
    /// Hears how it goes, several times a second.
    pub progress: &'a mut dyn FnMut(&JobProgress),
    /// May put more into the folder before it is published.
    pub add: &'a mut dyn FnMut(&Path) -> Result<(), String>,
}

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

/// Name of the finished piece of chunk `number`, and of the sound.
pub(crate) fn chunk_name(number: usize) -> String {
    format!("c{number:05}")
}

pub(crate) const AUDIO_NAME: &str = "audio";
pub(crate) const PASS_NAME: &str = "pass";
/// What a worker said at its end, kept with its piece.
pub(crate) const CODED_NAME: &str = "coded.json";
const RESULT_NAME: &str = "result";

/// Runs a job to its end. Blocking.
pub fn run_job(job: &TranscodeJob, context: &mut Context<'_>) -> Result<Published, JobError> {
    let target = job.library.join(&job.name);
    staging::sweep(&job.library);
    if target.exists() {
        return Err(StagingError::Exists(target).into());
    }
    let plan = plan(job, context)?;
    let key = staging::key(&[
        PIECES_VERSION,
        staging::fingerprint(&job.source)?.as_bytes(),
        format!("{:?} {:?} {:?}", plan.renditions, plan.audio, plan.chunks).as_bytes(),
        format!("{:?}", plan.passed).as_bytes(),
        format!("{} {}", job.ladder.gop_duration_ms, job.name).as_bytes(),
    ]);
    std::fs::create_dir_all(&job.library).map_err(crate::track_file::io(&job.library))?;
    let staging = Staging::open(&job.library, &key, &job.name)?;
    take_over(job, &plan, &staging)?;
    encode(job, &plan, &staging, context)?;
    let folder = staging.begin(RESULT_NAME)?;
    publish::assemble(job, &plan, &staging, &folder)?;
    (context.add)(&folder).map_err(JobError::Extra)?;
    if context.cancel.load(Ordering::Relaxed) {
        return Err(JobError::Cancelled);
    }
    staging.publish(RESULT_NAME, &target)?;
    Ok(Published {
        folder: target,
        refused: plan.refused,
        encoders: plan.encoders,
    })
}

/// What a file holds as GStreamer reads it, looked at by a worker.
pub fn probe_file(source: &Path, program: &Program, cancel: &AtomicBool) -> Result<SourceInfo, JobError> {
    probe(&Input::File(source.to_owned()), &[], program, cancel)
}

/// What a source holds, looked at by a worker; `tracks` belong to `input`.
fn probe(
    input: &Input,
    tracks: &[IndexedTrack],
    program: &Program,
    cancel: &AtomicBool,
) -> Result<SourceInfo, JobError> {
    let order = Order {
        input: Some(input.clone()),
        folder: None,
        limits: Limits {
            memory_bytes: 8 << 30,
            processor_s: 600,
            file_size_bytes: 1 << 20,
        },
        work: Work::Probe,
    };
    match child::run(program, &order, tracks, cancel, |_| {}) {
        Ok(Said::Source(source)) => Ok(*source),
        Ok(_) => Err(JobError::Probe(ChildError::Garbled("another answer".into()))),
        Err(ChildError::Cancelled) => Err(JobError::Cancelled),
        Err(error) => Err(JobError::Probe(error)),
    }
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

fn plan(job: &TranscodeJob, context: &mut Context<'_>) -> Result<Plan, JobError> {
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
        if job.ladder.pass_through && track.is_some_and(|track| sound::is_kept(track.input.description.codec)) {
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
fn take_over(job: &TranscodeJob, plan: &Plan, staging: &Staging) -> Result<(), JobError> {
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

/// One piece that is to be made.
struct Piece {
    name: String,
    work: Work,
    limits: Limits,
    /// Share of the whole work, in milliseconds of film with pictures.
    weight_ms: u64,
}

/// Sound costs this small a part of what pictures cost.
const AUDIO_PART: u64 = 30;
/// Thousandths of a job that are over once everything is encoded: joining, thumbnails and publishing are the rest.
const ENCODED_PERMILLE: u64 = 970;

/// How far a job is, in thousandths, when `done` of the `total` work of encoding is; `None` where nobody knows how much there
/// is.
fn permille(done: u64, total: u64) -> Option<u32> {
    let permille = u128::from(done.min(total)) * u128::from(ENCODED_PERMILLE);
    permille
        .checked_div(total.into())
        .and_then(|permille| u32::try_from(permille).ok())
}

fn pieces(job: &TranscodeJob, plan: &Plan) -> Vec<Piece> {
    let duration_ms = plan.source.duration_ms;
    let mut pieces = Vec::new();
    if !plan.audio.is_empty() {
        let seconds = duration_ms.map_or(24 * 3_600, |ms| ms / 1_000);
        let count: usize = plan.audio.iter().map(|(_, renditions)| renditions.len()).sum();
        pieces.push(Piece {
            name: AUDIO_NAME.into(),
            work: Work::Audio(AudioWork {
                streams: plan.audio.clone(),
            }),
            limits: Limits {
                memory_bytes: 8 << 30,
                processor_s: 300 + seconds * count as u64,
                // Twice the highest rate of AAC here.
                file_size_bytes: (64 << 20) + seconds * 96_000,
            },
            weight_ms: match plan.source.video {
                Some(_) => duration_ms.unwrap_or(0) / AUDIO_PART,
                None => duration_ms.unwrap_or(0),
            },
        });
    }
    let Some(video) = &plan.source.video else { return pieces };
    let pixels: u64 = plan
        .renditions
        .iter()
        .map(|(made, _)| u64::from(made.width) * u64::from(made.height))
        .sum::<u64>()
        + u64::from(video.width) * u64::from(video.height);
    let bitrate_kbps = plan
        .renditions
        .iter()
        .map(|(made, _)| u64::from(made.bitrate_kbps))
        .max();
    for (number, chunk) in plan.chunks.iter().enumerate() {
        let end_ms = chunk.end_ms.or(duration_ms);
        let length_ms = end_ms.map(|end| end.saturating_sub(chunk.start_ms.unwrap_or(0)));
        let seconds = length_ms.map_or(24 * 3_600, |ms| ms / 1_000);
        pieces.push(Piece {
            name: chunk_name(number),
            work: Work::Video(VideoWork {
                video: video.clone(),
                renditions: plan.renditions.clone(),
                gop_duration_ms: job.ladder.gop_duration_ms,
                start_ms: chunk.start_ms,
                end_ms: chunk.end_ms,
            }),
            limits: Limits {
                // Encoders look ahead some sixty pictures, and threads reserve far more than they use.
                memory_bytes: (8 << 30) + pixels * 400,
                // At the slowest preset, a minute of work for a second of 1080 lines.
                processor_s: 600 + seconds * (30 + pixels / 25_000),
                file_size_bytes: (64 << 20) + seconds * bitrate_kbps.unwrap_or(0) * 500,
            },
            weight_ms: length_ms.unwrap_or(0),
        });
    }
    pieces
}

/// How far each piece is.
struct State {
    waiting: VecDeque<usize>,
    /// Weight done, and pictures coded.
    done: Vec<(u64, u64)>,
    finished: usize,
    running: usize,
    failed: Option<JobError>,
}

/// Makes every piece that is not there yet, several at once.
fn encode(job: &TranscodeJob, plan: &Plan, staging: &Staging, context: &mut Context<'_>) -> Result<(), JobError> {
    let pieces = pieces(job, plan);
    let mut state = State {
        waiting: VecDeque::new(),
        done: vec![(0, 0); pieces.len()],
        finished: 0,
        running: 0,
        failed: None,
    };
    let mut known_frames = 0;
    for (at, piece) in pieces.iter().enumerate() {
        match staging.piece(&piece.name).join(CODED_NAME).exists() {
            true => {
                state.finished += 1;
                known_frames += 1;
                if let Some(done) = state.done.get_mut(at) {
                    done.0 = piece.weight_ms;
                }
            }
            false => state.waiting.push_back(at),
        }
    }
    if known_frames > 0 {
        tracing::info!(pieces = known_frames, "pieces of an earlier run are used");
    }
    let worker_count = job.worker_count.unwrap_or_else(worker_count).clamp(1, 64);
    let state = Mutex::new(state);
    let begun = Instant::now();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..worker_count {
            scope.spawn(|| {
                loop {
                    let next = {
                        let mut state = lock(&state);
                        let next = state.waiting.pop_front().filter(|_| state.failed.is_none());
                        state.running += usize::from(next.is_some());
                        next
                    };
                    let Some(at) = next else { break };
                    let Some(piece) = pieces.get(at) else { break };
                    let done = make(job, plan, piece, staging, context.program, &stop, |progress| {
                        if let Some(done) = lock(&state).done.get_mut(at) {
                            *done = (share(piece, &progress), progress.frame_count);
                        }
                    });
                    let mut state = lock(&state);
                    state.running -= 1;
                    match done {
                        Ok(()) => {
                            state.finished += 1;
                            if let Some(done) = state.done.get_mut(at) {
                                done.0 = piece.weight_ms;
                            }
                        }
                        Err(error) => {
                            stop.store(true, Ordering::Relaxed);
                            state.failed.get_or_insert(error);
                        }
                    }
                }
            });
        }
        loop {
            let (progress, over) = {
                let state = lock(&state);
                let over = state.running == 0 && (state.waiting.is_empty() || state.failed.is_some());
                (progress(plan, &pieces, &state, begun), over)
            };
            (context.progress)(&progress);
            if over {
                break;
            }
            if context.cancel.load(Ordering::Relaxed) {
                stop.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let failed = lock(&state).failed.take();
    match failed {
        _ if context.cancel.load(Ordering::Relaxed) => Err(JobError::Cancelled),
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Two at least, so that one decodes while another waits for its encoders; encoders have threads of their own.
fn worker_count() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    (cores / 4).max(2)
}

/// What of a piece is done.
fn share(piece: &Piece, progress: &Progress) -> u64 {
    match &piece.work {
        Work::Video(work) => progress
            .time_ms
            .saturating_sub(work.start_ms.unwrap_or(0))
            .min(piece.weight_ms),
        _ => (progress.time_ms / AUDIO_PART).min(piece.weight_ms),
    }
}

fn progress(plan: &Plan, pieces: &[Piece], state: &State, begun: Instant) -> JobProgress {
    let total: u64 = pieces.iter().map(|piece| piece.weight_ms).sum();
    let done: u64 = state.done.iter().map(|done| done.0).sum();
    let pictures = pieces
        .iter()
        .zip(&state.done)
        .filter(|(piece, _)| matches!(piece.work, Work::Video(_)) || plan.source.video.is_none());
    JobProgress {
        renditions: match plan.renditions.is_empty() {
            true => vec!["sound".into()],
            false => plan.renditions.iter().map(|(made, _)| made.name.clone()).collect(),
        },
        done_permille: permille(done, total),
        coded_ms: pictures.clone().map(|(_, done)| done.0).sum(),
        duration_ms: plan.source.duration_ms,
        frame_count: pictures.map(|(_, done)| done.1).sum(),
        pieces: (state.finished, pieces.len()),
        elapsed: begun.elapsed(),
    }
}

/// Has a worker make one piece; a crash is tried once more, for drivers and memory have bad moments.
fn make(
    job: &TranscodeJob,
    plan: &Plan,
    piece: &Piece,
    staging: &Staging,
    program: &Program,
    stop: &AtomicBool,
    mut hear: impl FnMut(Progress),
) -> Result<(), JobError> {
    let mut again = true;
    loop {
        let folder = staging.begin(&piece.name)?;
        let order = Order {
            input: Some(plan.input.clone()),
            folder: Some(folder.clone()),
            limits: piece.limits,
            work: piece.work.clone(),
        };
        let done = child::run(program, &order, &job.known.tracks, stop, |said| {
            if let Said::Progress(progress) = said {
                hear(progress);
            }
        });
        let error = match done {
            Ok(Said::Coded(coded)) => {
                write_coded(&folder, &coded)?;
                return Ok(staging.finish(&piece.name)?);
            }
            Ok(_) => ChildError::Garbled("another answer".into()),
            Err(ChildError::Cancelled) => return Err(JobError::Cancelled),
            Err(ChildError::Failed { status, complaint }) if status.code().is_none() && again => {
                tracing::warn!(piece = piece.name, %status, complaint, "a worker crashed; its piece is made again");
                again = false;
                continue;
            }
            Err(error) => error,
        };
        return Err(JobError::Piece {
            piece: piece.name.clone(),
            why: error,
        });
    }
}

fn write_coded(folder: &Path, coded: &[Coded]) -> Result<(), JobError> {
    let text = serde_json::to_vec(coded).map_err(|error| JobError::Mismatch(error.to_string()))?;
    Ok(crate::track_file::write_synced(&folder.join(CODED_NAME), &text)?)
}

/// What a worker said of its piece.
pub(crate) fn read_coded(piece: &Path) -> Result<Vec<Coded>, JobError> {
    let path = piece.join(CODED_NAME);
    let text = std::fs::read(&path).map_err(crate::track_file::io(&path))?;
    serde_json::from_slice(&text).map_err(|error| JobError::Mismatch(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_that_of_all_pieces_and_leaves_room_for_the_end() {
        let check = |done, total, expected| assert_eq!(permille(done, total), expected, "{done} of {total}");
        check(0, 0, None);
        check(5, 0, None);
        check(0, 60_000, Some(0));
        check(30_000, 60_000, Some(485));
        check(60_000, 60_000, Some(970));
        check(70_000, 60_000, Some(970));
        check(u64::MAX, u64::MAX, Some(970));
    }

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
