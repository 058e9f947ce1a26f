//! A job from end to end: look, choose, encode piece by piece in processes of their own, join, publish.

pub(crate) mod pieces;
pub(crate) mod plan;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use packager::presentation::Role;
use packager::text::TextTrack;

use crate::child::{self, ChildError, Program};
use crate::encoder::Preference;
use crate::input::{IndexedTrack, Input};
use crate::ladder::{Ladder, LadderError};
use crate::order::{Fault, Limits, Order, Said, Work};
use crate::publish;
use crate::source::{Refused, SourceInfo};
use crate::staging::{self, Staging, StagingError};
use crate::timing::TimingError;
use crate::track_file::TrackError;
use plan::Plan;

/// Changes whenever pieces of an older version must not be used.
const PIECES_VERSION: &[u8] = b"headwater-pieces-4";
/// Name of what is published, while it is put together.
const RESULT_NAME: &str = "result";

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

/// Why a job failed. Nothing of it is seen in the library.
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

/// A job that did not come to its end.
#[derive(Debug)]
pub struct Unfinished {
    /// Why.
    pub error: JobError,
    /// Where what is done of it lies, for the next run of it to go on with; `None` where nothing is, or it is of no use.
    pub kept: Option<PathBuf>,
}

impl From<JobError> for Unfinished {
    fn from(error: JobError) -> Unfinished {
        Unfinished { error, kept: None }
    }
}

impl JobError {
    /// Whether running the job again as it is can not go better: what is done of it is of no use then.
    fn is_final(&self) -> bool {
        match self {
            JobError::Probe(_)
            | JobError::Empty(_)
            | JobError::Ladder(_)
            | JobError::NoEncoder(_)
            | JobError::Mismatch(_)
            | JobError::Timing(_)
            | JobError::Staging(StagingError::Exists(_))
            | JobError::Track(TrackError::Table { .. } | TrackError::Index(_)) => true,
            // Who died can not say whose fault it was.
            JobError::Piece { why, .. } => match why {
                ChildError::Failed { status, fault, .. } => status.code().is_some() && *fault != Some(Fault::Machine),
                _ => false,
            },
            // Thumbnails find a disk full as others do, and do not say it apart.
            JobError::Extra(_) => false,
            JobError::Staging(_) | JobError::Track(TrackError::Io { .. }) | JobError::Cancelled => false,
        }
    }
}

/// Runs a job to its end; what is not published goes, whatever the reason. Blocking.
pub fn run_job(job: &TranscodeJob, context: &mut Context<'_>) -> Result<Published, JobError> {
    let (plan, staging) = begin(job, context)?;
    make(job, &plan, &staging, context)?;
    publish(job, plan, staging)
}

/// Runs a job to its end, or to where it is broken off: then what is done stays for the next run. Blocking.
pub fn run_or_keep(job: &TranscodeJob, context: &mut Context<'_>) -> Result<Published, Unfinished> {
    let (plan, staging) = begin(job, context)?;
    if let Err(error) = make(job, &plan, &staging, context) {
        let kept = match error.is_final() {
            true => None,
            false => staging.keep(),
        };
        return Err(Unfinished { error, kept });
    }
    Ok(publish(job, plan, staging)?)
}

/// Decides what is made, and opens the folder in which it is.
fn begin(job: &TranscodeJob, context: &mut Context<'_>) -> Result<(Plan, Staging), JobError> {
    let target = job.library.join(&job.name);
    staging::sweep(&job.library);
    if target.exists() {
        return Err(StagingError::Exists(target).into());
    }
    let fingerprint = staging::fingerprint(&job.source)?;
    let plan = plan::plan(job, context)?;
    let key = staging::key(&[
        PIECES_VERSION,
        fingerprint.as_bytes(),
        format!("{:?} {:?} {:?}", plan.renditions, plan.audio, plan.chunks).as_bytes(),
        format!("{:?}", plan.passed).as_bytes(),
        format!("{} {}", job.ladder.gop_duration_ms, job.name).as_bytes(),
    ]);
    std::fs::create_dir_all(&job.library).map_err(crate::track_file::io(&job.library))?;
    let staging = Staging::open(&job.library, &key, &job.name)?;
    Ok((plan, staging))
}

/// Makes all that will be published, piece by piece, and puts it together.
fn make(job: &TranscodeJob, plan: &Plan, staging: &Staging, context: &mut Context<'_>) -> Result<(), JobError> {
    plan::take_over(job, plan, staging)?;
    pieces::encode(job, plan, staging, context)?;
    let folder = staging.begin(RESULT_NAME)?;
    publish::assemble(job, plan, staging, &folder)?;
    (context.add)(&folder).map_err(JobError::Extra)?;
    match context.cancel.load(Ordering::Relaxed) {
        true => Err(JobError::Cancelled),
        false => Ok(()),
    }
}

fn publish(job: &TranscodeJob, plan: Plan, staging: Staging) -> Result<Published, JobError> {
    let target = job.library.join(&job.name);
    staging.publish(RESULT_NAME, &target)?;
    Ok(Published {
        folder: target,
        refused: plan.refused,
        encoders: plan.encoders,
    })
}

/// What a file holds as GStreamer reads it, looked at by a worker.
pub fn probe_file(source: &Path, program: &Program, cancel: &AtomicBool) -> Result<SourceInfo, JobError> {
    staging::check_regular(source)?;
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
