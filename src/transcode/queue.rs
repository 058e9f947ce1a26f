//! `headwater transcode --worker`: takes jobs of the control plane one after the other and puts ladders into the library.
//!
//! A ladder is made beside the library's titles, hidden, and takes its place there in one step. Each step can be done
//! again: a worker that dies leaves a job that the next one takes up where it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use control_api::app::App;
use control_api::db::encodings::Claimed;
use control_api::encoding::{self, Fault, Made, MadeRendition, MadeTrack};
use control_api::source::{Facts, Probe};
use origin::asset::Asset;
use packager::codec::MediaKind;
use packager::form::Form;
use packager::presentation::Role;
use packager::time::Rounding;
use tokio::sync::{oneshot, watch};
use transcoder::child::{ChildError, Program};
use transcoder::encoder::Preference;
use transcoder::ladder::Ladder;
use transcoder::staging::{self, Staging};
use transcoder::vod::{self, JobError, TranscodeJob};

use super::{add, known, open_made};
use crate::sources::Named;
use crate::thumbnails::Wanted;

/// Where ladders are until they take their place. The dot hides it from the library.
const MADE_NAME: &str = ".headwater-made";
/// Which job made a ladder: beside its tracks.
const JOB_NAME: &str = ".job";
/// Segments as long as the origin's usual ones.
pub const SEGMENT_DURATION_MS: u32 = 4_000;
/// Without work, the queue is looked at so often.
const IDLE: Duration = Duration::from_secs(1);
/// After a fault of the database, so much later.
const PAUSE: Duration = Duration::from_secs(3);

/// How a worker makes ladders.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where they are published.
    pub library: PathBuf,
    /// The rules.
    pub ladder: Ladder,
    /// Which devices may encode.
    pub preference: Preference,
    /// Wanted segment duration.
    pub segment_duration_ms: u32,
    /// Pieces encoded at once.
    pub worker_count: Option<usize>,
    /// Length of the pieces.
    pub chunk_duration_ms: Option<u64>,
    /// This program as a worker of a worker.
    pub program: Program,
}

/// Works until told to stop. The job in hand is given back then; what is finished of it is used by whoever takes it next.
pub async fn serve(app: Arc<App>, settings: Settings, mut stop: watch::Receiver<bool>) {
    let settings = Arc::new(settings);
    let name = name();
    tracing::info!(worker = name, library = %settings.library.display(), "waiting for films");
    loop {
        let rest = match encoding::claim(&app, &name).await {
            Ok(Some(job)) => {
                if work(&app, job, &settings, &mut stop).await {
                    return;
                }
                continue;
            }
            Ok(None) => {
                remove_ladders(&app, &settings.library).await;
                IDLE
            }
            Err(error) => {
                tracing::warn!(code = error.code.name(), cause = ?error.cause, "the queue was not read");
                PAUSE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            true = told(&mut stop) => return,
        }
    }
}

/// Waits until told to stop; false when nobody is left who could.
async fn told(stop: &mut watch::Receiver<bool>) -> bool {
    // The guard of the value must not be kept across a wait.
    stop.wait_for(|stop| *stop).await.is_ok()
}

fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}

/// What the thread that encodes and the task that tells of it share.
#[derive(Default)]
struct Shared {
    cancel: AtomicBool,
    permille: AtomicU32,
}

/// Does one job; whether it has to stop.
async fn work(app: &Arc<App>, job: Claimed, settings: &Arc<Settings>, stop: &mut watch::Receiver<bool>) -> bool {
    tracing::info!(job.id = %job.id, asset.id = %job.asset_id, attempt = job.attempt, "encoding");
    let shared = Arc::new(Shared::default());
    let (sender, mut done) = oneshot::channel();
    let task = Task {
        source: encoding::source_path(app, &job.storage_path),
        enabled: app.settings().transcode.enabled_profiles.clone(),
        job: job.clone(),
        settings: Arc::clone(settings),
        shared: Arc::clone(&shared),
    };
    // A thread of its own, which nobody waits for at the end of the process.
    let spawned = std::thread::Builder::new().name("encode".into()).spawn(move || {
        // Nobody hears it after a stop.
        let _ = sender.send(task.run());
    });
    if let Err(error) = spawned {
        report(encoding::fail(app, &job, Fault::Passing, &error.to_string()).await);
        return false;
    }
    let mut beats = tokio::time::interval(encoding::BEAT);
    loop {
        tokio::select! {
            made = &mut done => {
                end(app, &job, made.unwrap_or_else(|_| Err((Fault::Passing, "the encoding thread ended badly".into())))).await;
                return false;
            }
            _ = beats.tick() => {
                let permille = shared.permille.load(Ordering::Relaxed);
                match encoding::beat(app, &job, permille).await {
                    Ok(true) => {}
                    Ok(false) => shared.cancel.store(true, Ordering::Relaxed),
                    // The lease is longer than a moment without a database.
                    Err(error) => tracing::warn!(code = error.code.name(), cause = ?error.cause, "the queue does not hear us"),
                }
            }
            true = told(stop) => {
                report(encoding::release(app, &job).await);
                return true;
            }
        }
    }
}

fn report(done: Result<(), control_api::error::ApiError>) {
    if let Err(error) = done {
        tracing::warn!(code = error.code.name(), cause = ?error.cause, "the queue was not told; the job's lease will end");
    }
}

async fn end(app: &Arc<App>, job: &Claimed, made: Result<Outcome, (Fault, String)>) {
    match made {
        Ok(Outcome::Made { made, sha256 }) => {
            if let Some(sha256) = sha256
                && let Err(error) = encoding::hashed(app, job, &sha256).await
            {
                tracing::warn!(code = error.code.name(), cause = ?error.cause, "the source's hash was not kept");
            }
            // Until it is told, the film does not play: as often as it takes while the job is ours.
            loop {
                match encoding::finish(app, job, &made).await {
                    Ok(true) => return tracing::info!(job.id = %job.id, asset.id = %job.asset_id, "encoded"),
                    Ok(false) => return tracing::info!(job.id = %job.id, "encoded, and not wanted any more"),
                    Err(error) => {
                        tracing::warn!(code = error.code.name(), cause = ?error.cause, "the queue was not told yet");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
        Ok(Outcome::Unwanted) => tracing::info!(job.id = %job.id, "not wanted any more"),
        Err((fault, why)) => {
            tracing::warn!(job.id = %job.id, asset.id = %job.asset_id, why, ?fault, "not encoded");
            report(encoding::fail(app, job, fault, &why).await);
        }
    }
}

enum Outcome {
    Made { made: Made, sha256: Option<[u8; 32]> },
    Unwanted,
}

/// What the thread does.
struct Task {
    source: PathBuf,
    enabled: Vec<String>,
    job: Claimed,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
}

impl Task {
    fn run(&self) -> Result<Outcome, (Fault, String)> {
        let passing = |error: anyhow::Error| (Fault::Passing, format!("{error:#}"));
        let place = self.settings.library.join(self.job.asset_id.to_string());
        let made = self.settings.library.join(MADE_NAME).join(self.job.id.to_string());
        let sha256 = match self.job.has_sha256 {
            true => None,
            false => {
                let stop = || self.shared.cancel.load(Ordering::Relaxed);
                let hash = control_api::import::hash_file(&self.source, &stop);
                hash.context("the source").map_err(passing)?
            }
        };
        if !is_of(&place, &self.job) {
            if !is_of(&made, &self.job) {
                match self.encode(&made) {
                    Ok(()) => {}
                    Err(JobError::Cancelled) => return Ok(Outcome::Unwanted),
                    Err(error) => return Err((fault(&error), error.to_string())),
                }
            }
            install(&made, &place).map_err(passing)?;
        }
        let asset = open_made(&place).map_err(passing)?;
        let made = measure(&asset);
        Ok(Outcome::Made { made, sha256 })
    }

    fn encode(&self, made: &Path) -> Result<(), JobError> {
        let settings = &self.settings;
        let fails = |error: anyhow::Error| JobError::Extra(format!("{error:#}"));
        let folder = made.parent().unwrap_or(&settings.library);
        let mut named = Named::find(&self.source, settings.segment_duration_ms).map_err(fails)?;
        let source = self.source.canonicalize().context("the source").map_err(fails)?;
        // What has no index is stored anew beside the job, and goes with it.
        let key = staging::key(&[b"source", self.job.id.as_bytes()]);
        std::fs::create_dir_all(folder).context("the library").map_err(fails)?;
        let name = self.job.id.to_string();
        let kept = Staging::open(folder, &key, &name)?;
        named.config.cache = kept.begin("source")?;
        let job = TranscodeJob {
            source,
            title: self.job.title.clone(),
            library: folder.to_owned(),
            name,
            ladder: self.ladder()?,
            preference: settings.preference,
            segment_duration_ms: settings.segment_duration_ms,
            worker_count: settings.worker_count,
            chunk_duration_ms: settings.chunk_duration_ms,
            known: known(&named),
        };
        let id = self.job.id.to_string();
        let done = vod::run_job(
            &job,
            &mut vod::Context {
                program: &settings.program,
                cancel: &self.shared.cancel,
                progress: &mut |progress| {
                    // The last of it is what comes after encoding.
                    let permille = progress.done_permille.unwrap_or(0).min(990);
                    self.shared.permille.store(permille, Ordering::Relaxed);
                },
                add: &mut |folder| {
                    add(folder, Wanted::Yes).map_err(|error| format!("{error:#}"))?;
                    std::fs::write(folder.join(JOB_NAME), &id).map_err(|error| error.to_string())
                },
            },
        );
        let published = done?;
        for row in &published.refused {
            tracing::info!(job.id = %self.job.id, what = row.what, why = row.why, "left out");
        }
        Ok(())
    }

    /// The ladder with the steps that are wanted.
    fn ladder(&self) -> Result<Ladder, JobError> {
        let wanted = match self.job.profiles.is_empty() {
            true => &self.enabled,
            false => &self.job.profiles,
        };
        let mut ladder = self.settings.ladder.clone();
        ladder.steps.retain(|step| {
            let name = encoding::profile_name(i32::try_from(step.height).unwrap_or(i32::MAX));
            // Steps that the API has no name for are the operator's own.
            wanted.contains(&name) || !encoding::PROFILE_NAMES.contains(&name.as_str())
        });
        match ladder.steps.is_empty() {
            true => Err(JobError::Mismatch("no step of the ladder is wanted".into())),
            false => Ok(ladder),
        }
    }
}

/// Whether trying again can help.
fn fault(error: &JobError) -> Fault {
    match error {
        JobError::Empty(_) | JobError::Ladder(_) | JobError::Timing(_) | JobError::Mismatch(_) => Fault::Source,
        // It said so itself, and was not killed.
        JobError::Probe(ChildError::Failed { status, .. }) if status.code().is_some() => Fault::Source,
        _ => Fault::Passing,
    }
}

/// Whether `folder` is what `job` made, whole.
fn is_of(folder: &Path, job: &Claimed) -> bool {
    std::fs::read_to_string(folder.join(JOB_NAME)).is_ok_and(|id| id == job.id.to_string())
}

/// Puts a ladder in its place; what was there before goes.
fn install(made: &Path, place: &Path) -> anyhow::Result<()> {
    let library = place.parent().context("a place without a library")?;
    if place.exists() {
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            made,
            rustix::fs::CWD,
            place,
            rustix::fs::RenameFlags::EXCHANGE,
        )
        .with_context(|| place.display().to_string())?;
        std::fs::remove_dir_all(made).with_context(|| made.display().to_string())?;
    } else {
        std::fs::rename(made, place).with_context(|| place.display().to_string())?;
    }
    std::fs::File::open(library)?.sync_all()?;
    if let Some(folder) = made.parent() {
        // It goes when it is empty.
        let _ = std::fs::remove_dir(folder);
    }
    Ok(())
}

/// What the API tells of a ladder.
fn measure(asset: &Asset) -> Made {
    let presentation = &asset.presentation;
    let mut made = Made {
        duration_seconds: presentation.duration.to_millis(Rounding::Nearest) as f64 / 1_000.0,
        version: presentation.version.clone(),
        ..Made::default()
    };
    let whole = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    for representation in &presentation.representations {
        let has = |role: Role| representation.roles.contains(&role);
        match (representation.kind(), representation.video()) {
            (MediaKind::Video, Some(video)) => {
                let (width, height) = video.display_size();
                made.renditions.push(MadeRendition {
                    profile: encoding::profile_name(whole(width.min(height))),
                    width: Some(whole(width)),
                    height: Some(whole(height)),
                    bitrate_bps: i64::try_from(representation.bandwidth(Form::Cmaf).peak_bps).unwrap_or(i64::MAX),
                    codec: representation.codec().name().to_owned(),
                });
            }
            (kind, _) => {
                let is_audio = kind == MediaKind::Audio;
                let purpose = match is_audio {
                    true if has(Role::Commentary) => "commentary",
                    true if has(Role::Description) => "description",
                    true => "main",
                    false if has(Role::ForcedSubtitle) => "forced",
                    false if has(Role::Caption) => "captions",
                    false => "subtitles",
                };
                let audio = representation.track().and_then(|track| track.description.audio());
                made.tracks.push(MadeTrack {
                    kind: if is_audio { "audio" } else { "subtitle" },
                    language: representation.language.clone(),
                    label: representation.label.clone(),
                    codec: representation.rfc6381().to_owned(),
                    channels: audio.map(|audio| i32::from(audio.channel_count)),
                    purpose,
                    is_default: representation.default,
                });
            }
        }
    }
    made
}

/// Removes ladders whose assets were deleted. What fails is tried again.
async fn remove_ladders(app: &Arc<App>, library: &Path) {
    let Ok(removed) = control_api::db::assets::removed_ladders(&app.db).await else {
        return;
    };
    for asset in removed {
        let folder = library.join(asset.to_string());
        let gone = tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        });
        let done = match gone.await {
            Ok(Ok(())) => control_api::db::assets::forget_ladder(&app.db, asset)
                .await
                .map_err(anyhow::Error::new),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = done {
            tracing::warn!(asset.id = %asset, error = format!("{error:#}"), "the ladder of a deleted asset was not removed");
        }
    }
}

/// Whether the packager's readers find pictures in a file.
fn is_indexed(source: &Path) -> bool {
    let found = Named::find(source, SEGMENT_DURATION_MS).map(|named| known(&named));
    found.is_ok_and(|known| known.tracks.iter().any(|track| track.kind() == MediaKind::Video))
}

/// Looks into uploaded films, in a process of its own.
pub struct FilmProbe(pub Program);

impl Probe for FilmProbe {
    fn probe(&self, path: &Path) -> Result<Facts, String> {
        let source = path.canonicalize().map_err(|error| error.to_string())?;
        let seen = vod::probe_file(&source, &self.0, &AtomicBool::new(false));
        let info = match seen {
            Ok(info) => info,
            // What the packager knows every sample of is transcoded by its index.
            Err(_) if is_indexed(&source) => return Ok(Facts::default()),
            Err(error) => return Err(error.to_string()),
        };
        let video = info.video.ok_or("has no pictures that can be decoded")?;
        let whole = |side: u32| i32::try_from(side).unwrap_or(i32::MAX);
        Ok(Facts {
            duration_seconds: info.duration_ms.map(|ms| ms as f64 / 1_000.0),
            dimensions: Some((whole(video.width), whole(video.height))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_takes_its_place_and_the_one_before_goes() {
        let library = std::env::temp_dir().join(format!("headwater-install-{}", std::process::id()));
        let (made, place) = (library.join(MADE_NAME).join("job"), library.join("asset"));
        for content in ["one", "two"] {
            std::fs::create_dir_all(&made).unwrap();
            std::fs::write(made.join("film"), content).unwrap();
            install(&made, &place).unwrap();
            assert_eq!(std::fs::read_to_string(place.join("film")).unwrap(), content);
            assert!(!library.join(MADE_NAME).exists());
        }
        std::fs::remove_dir_all(&library).unwrap();
    }
}
