//! The pieces of a job: each is made by a worker of its own, several at once, and kept if the job is killed.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::plan::Plan;
use super::{Context, JobError, JobProgress, TranscodeJob};
use crate::child::{self, ChildError, Program};
use crate::order::{AudioWork, Coded, Limits, Order, Progress, Said, VideoWork, Work};
use crate::pipeline::lock;
use crate::staging::Staging;

/// Name of the finished piece of chunk `number`.
pub(crate) fn chunk_name(number: usize) -> String {
    format!("c{number:05}")
}

/// Name of the finished piece of the sound.
pub(crate) const AUDIO_NAME: &str = "audio";
/// Name of the piece of what is taken over as it is.
pub(crate) const PASS_NAME: &str = "pass";
/// What a worker said at its end, kept with its piece.
pub(crate) const CODED_NAME: &str = "coded.json";

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

/// What of a piece is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Done {
    /// Of its weight.
    weight_ms: u64,
    coded_ms: u64,
    frame_count: u64,
}

impl Done {
    /// All of `piece`, whose pictures an earlier run has coded.
    fn all_of(piece: &Piece) -> Done {
        Done {
            weight_ms: piece.weight_ms,
            coded_ms: piece.weight_ms,
            frame_count: 0,
        }
    }

    /// Most of the work on a picture is done once its encoders have it: it is decoded and made small, and they look ahead some
    /// sixty pictures, a tenth of a short film, before they code it; what they still hold at the end comes quickly.
    fn so_far(piece: &Piece, progress: &Progress) -> Done {
        let share = |time_ms: u64| match &piece.work {
            Work::Video(work) => time_ms.saturating_sub(work.start_ms.unwrap_or(0)).min(piece.weight_ms),
            _ => (time_ms / AUDIO_PART).min(piece.weight_ms),
        };
        let coded_ms = share(progress.time_ms);
        Done {
            weight_ms: (coded_ms + 2 * share(progress.taken_ms).max(coded_ms)) / 3,
            coded_ms,
            frame_count: progress.frame_count,
        }
    }
}

/// How far each piece is.
struct State {
    waiting: VecDeque<usize>,
    done: Vec<Done>,
    finished: usize,
    running: usize,
    failed: Option<JobError>,
}

/// Makes every piece that is not there yet, several at once.
pub(super) fn encode(
    job: &TranscodeJob,
    plan: &Plan,
    staging: &Staging,
    context: &mut Context<'_>,
) -> Result<(), JobError> {
    let pieces = pieces(job, plan);
    let mut state = State {
        waiting: VecDeque::new(),
        done: vec![Done::default(); pieces.len()],
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
                    *done = Done::all_of(piece);
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
                            *done = Done::so_far(piece, &progress);
                        }
                    });
                    let mut state = lock(&state);
                    state.running -= 1;
                    match done {
                        Ok(()) => {
                            state.finished += 1;
                            if let Some(done) = state.done.get_mut(at) {
                                *done = Done {
                                    frame_count: done.frame_count,
                                    ..Done::all_of(piece)
                                };
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

fn progress(plan: &Plan, pieces: &[Piece], state: &State, begun: Instant) -> JobProgress {
    let total: u64 = pieces.iter().map(|piece| piece.weight_ms).sum();
    let done: u64 = state.done.iter().map(|done| done.weight_ms).sum();
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
        coded_ms: pictures.clone().map(|(_, done)| done.coded_ms).sum(),
        duration_ms: plan.source.duration_ms,
        frame_count: pictures.map(|(_, done)| done.frame_count).sum(),
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
            Err(ChildError::Failed { status, complaint, .. }) if status.code().is_none() && again => {
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
    use crate::source::tests::video;

    #[test]
    fn what_encoders_look_at_is_most_of_the_work() {
        let piece = |work, weight_ms| Piece {
            name: "c00001".into(),
            work,
            limits: Limits {
                memory_bytes: 0,
                processor_s: 0,
                file_size_bytes: 0,
            },
            weight_ms,
        };
        let check = |piece: &Piece, time_ms, taken_ms, weight_ms, coded_ms| {
            let progress = Progress {
                time_ms,
                taken_ms,
                frame_count: 7,
            };
            let expected = Done {
                weight_ms,
                coded_ms,
                frame_count: 7,
            };
            assert_eq!(Done::so_far(piece, &progress), expected, "{progress:?}");
        };
        let sound = piece(Work::Audio(AudioWork { streams: Vec::new() }), 1_000);
        check(&sound, 0, 0, 0, 0);
        check(&sound, 15_000, 15_000, 500, 500);
        check(&sound, 90_000, 90_000, 1_000, 1_000);
        let chunk = VideoWork {
            video: video(640, 360),
            renditions: Vec::new(),
            gop_duration_ms: 2_000,
            start_ms: Some(60_000),
            end_ms: Some(70_000),
        };
        let pictures = piece(Work::Video(chunk), 10_000);
        check(&pictures, 0, 0, 0, 0);
        check(&pictures, 0, 63_000, 2_000, 0);
        check(&pictures, 61_000, 64_000, 3_000, 1_000);
        check(&pictures, 67_000, 70_500, 9_000, 7_000);
        check(&pictures, 70_000, 0, 10_000, 10_000);
    }

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
}
