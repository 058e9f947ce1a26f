//! `headwater transcode`: makes ladders of files and publishes them.

mod bar;
#[cfg(feature = "control")]
pub mod queue;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use origin::config::Section;
use origin::library::Entry;
use origin::read::SourceFile;
use origin::source_keys::SourceKeyring;
use packager::codec::MediaKind;
use packager::container;
use packager::presentation::Content;
use packager::source::ReadAt;
use transcoder::child::Program;
use transcoder::encoder::Preference;
use transcoder::input::IndexedTrack;
use transcoder::ladder::VideoCodec;
use transcoder::source::Refused;
use transcoder::staging::{self, Staging};
use transcoder::vod::{self, JobError, Known, KnownAudio, KnownText, TrackSaid, TranscodeJob, Unfinished};

use crate::cli::{CodecName, DeviceName, TranscodeArguments};
use crate::sources::Named;
use crate::thumbnails::{self, Wanted};
use crate::{config, print, shutdown};

/// What a job is ended by Ctrl-C with, as shells expect it.
const CANCELLED_CODE: u8 = 130;

/// This program as a worker.
pub fn program() -> anyhow::Result<Program> {
    Ok(Program {
        path: std::env::current_exe().context("where this program lies")?,
        arguments: vec!["worker".into(), "transcode".into()],
    })
}

/// Transcodes one file after the other; each appears in the library whole or not at all.
pub fn run(arguments: TranscodeArguments) -> anyhow::Result<ExitCode> {
    let section = match &arguments.config {
        Some(path) => config::read(path)?.transcode,
        None => Default::default(),
    };
    section.check()?;
    let mut ladder = section.ladder(&arguments.ladder)?;
    if let Some(codec) = arguments.codec {
        let codec = match codec {
            CodecName::Avc => VideoCodec::Avc,
            CodecName::Hevc => VideoCodec::Hevc,
            CodecName::Av1 => VideoCodec::Av1,
        };
        ladder.steps.iter_mut().for_each(|step| step.codec = Some(codec));
    }
    let program = program()?;
    if arguments.worker {
        return work(&arguments, &section, ladder, program);
    }
    let cancel = Arc::new(AtomicBool::new(false));
    watch(cancel.clone())?;
    for path in &arguments.files {
        let mut named = Named::find(path, arguments.segment_duration_ms)?;
        if !matches!(named.entry, Entry::File { .. }) {
            bail!("{}: only files are transcoded", path.display());
        }
        let (title, name) = (named.entry.title(), named.published_name()?);
        let source = path.canonicalize().with_context(|| path.display().to_string())?;
        // What has no index is stored anew where the job is made: there is room, and it goes with the job.
        let fingerprint = staging::fingerprint(&source)?;
        let key = staging::key(&[b"source", fingerprint.as_bytes(), title.as_bytes()]);
        std::fs::create_dir_all(&arguments.output).with_context(|| arguments.output.display().to_string())?;
        let kept = Staging::open(&arguments.output, &key, &name)?;
        named.config.cache = kept.begin("source")?;
        let job = TranscodeJob {
            source,
            name,
            title,
            library: arguments.output.clone(),
            ladder: ladder.clone(),
            preference: preference(arguments.device, &section),
            segment_duration_ms: named.config.target.millis(),
            worker_count: arguments.workers.map(usize::from).or(section.workers),
            chunk_duration_ms: arguments.chunk.map(|seconds| seconds * 1_000),
            known: known(&named),
        };
        let wanted = match arguments.no_thumbnails {
            true => Wanted::No,
            false => Wanted::Yes,
        };
        let mut bar = bar::Bar::new();
        let done = vod::run_or_keep(
            &job,
            &mut vod::Context {
                program: &program,
                cancel: &cancel,
                progress: &mut |progress| bar.show(progress),
                add: &mut |folder| add(folder, wanted).map_err(|error| format!("{error:#}")),
            },
        );
        bar.end();
        match done {
            Ok(published) => {
                for encoder in &published.encoders {
                    print::remark(format_args!("{}: {encoder}", path.display()));
                }
                for row in &published.refused {
                    print::remark(format_args!("{}: left out {}: {}", path.display(), row.what, row.why));
                }
                writeln!(print::out(), "{}", published.folder.display())?;
            }
            Err(Unfinished { error, kept }) => {
                if let Some(folder) = kept {
                    print::remark(format_args!(
                        "{}: what is done of it is kept in {}; the same command goes on from there",
                        path.display(),
                        folder.display()
                    ));
                }
                if matches!(error, JobError::Cancelled) {
                    print::remark(format_args!("{}: cancelled", path.display()));
                    return Ok(ExitCode::from(CANCELLED_CODE));
                }
                return Err(anyhow::Error::new(error).context(path.display().to_string()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn preference(device: DeviceName, section: &transcoder::config::Section) -> Preference {
    match device {
        DeviceName::Cpu => Preference::Cpu,
        DeviceName::Auto => section.device,
    }
}

/// Takes jobs of the control plane until told to stop.
#[cfg(feature = "control")]
fn work(
    arguments: &TranscodeArguments,
    section: &transcoder::config::Section,
    ladder: transcoder::ladder::Ladder,
    program: Program,
) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&arguments.output).with_context(|| arguments.output.display().to_string())?;
    let settings = queue::Settings {
        library: arguments.output.clone(),
        ladder,
        preference: preference(arguments.device, section),
        segment_duration_ms: arguments.segment_duration_ms,
        worker_count: arguments.workers.map(usize::from).or(section.workers),
        chunk_duration_ms: arguments.chunk.map(|seconds| seconds * 1_000),
        program,
    };
    let place = crate::cli::ControlPlace {
        config: arguments.config.clone(),
        data: arguments.data.clone(),
    };
    let control = crate::control::control(&place)?.api.check()?;
    let stop = shutdown::watch_signals(None)?;
    let runtime = crate::control::runtime()?;
    runtime.block_on(async {
        let opened = crate::control::open(control, None).await?;
        crate::service::tell("READY=1");
        queue::serve(opened.app.clone(), settings, stop).await;
        opened.close().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// A program without the control plane has no queue.
#[cfg(not(feature = "control"))]
fn work(
    _: &TranscodeArguments,
    _: &transcoder::config::Section,
    _: transcoder::ladder::Ladder,
    _: Program,
) -> anyhow::Result<ExitCode> {
    bail!("--worker: this program was built without the control plane")
}

/// Sets `cancel` at the first stop signal.
fn watch(cancel: Arc<AtomicBool>) -> anyhow::Result<()> {
    let mut stopped = shutdown::watch_signals(None)?;
    std::thread::Builder::new().name("cancel".into()).spawn(move || {
        let waited = tokio::runtime::Builder::new_current_thread()
            .build()
            .map(|runtime| runtime.block_on(async { stopped.wait_for(|stopped| *stopped).await.is_ok() }));
        if matches!(waited, Ok(true)) {
            cancel.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(())
}

/// What the packager's readers know of the source, and of the subtitle files beside it.
fn known(named: &Named) -> Known {
    let mut known = known_inside(named);
    let Entry::File { sidecars, .. } = &named.entry else {
        return known;
    };
    for (path, language) in sidecars {
        // One that can not be read is left out with its reason, as where the film is served as it is.
        if let Err(error) = add_sidecar(&mut known, named, path, language.as_deref()) {
            refuse(&mut known, path.display().to_string(), format!("{error:#}"));
        }
    }
    known
}

/// Adds what the text file `path` holds, in `language` where its name says one.
fn add_sidecar(known: &mut Known, named: &Named, path: &Path, language: Option<&str>) -> anyhow::Result<()> {
    let file = Arc::new(SourceFile::open_beneath(&named.config.library, path)?);
    let opened = origin::open::open_file(&named.config, path, &file)?;
    for row in opened.refused {
        refuse(known, format!("{}: {}", path.display(), row.what), row.why);
    }
    for track in opened.tracks {
        let said = TrackSaid {
            language: language.map_or(track.language, str::to_owned),
            label: track.label,
            roles: track.roles,
            default: track.default,
        };
        match track.content {
            Content::Cues(text) => known.texts.push(KnownText { text, said }),
            Content::Samples(_) => refuse(known, path.display().to_string(), "is no text".to_owned()),
        }
    }
    Ok(())
}

/// Says that a text can not be carried over. Which of the two lists is told depends on how the source is read.
fn refuse(known: &mut Known, what: String, why: String) {
    let row = Refused { what, why };
    known.refused.push(row.clone());
    known.left_out.push(row);
}

/// What the packager's readers know of the source: text, what is said of tracks, and where every sample is. They know fewer
/// containers and codings than GStreamer does: what they can not read, GStreamer takes apart.
fn known_inside(named: &Named) -> Known {
    let path = named.entry.path();
    let unknown = |why: &dyn std::fmt::Display| Known {
        refused: vec![Refused {
            what: "text, and what tracks are called".into(),
            why: why.to_string(),
        }],
        ..Known::default()
    };
    let file = match SourceFile::open_beneath(&named.config.library, path) {
        Ok(file) => Arc::new(file),
        Err(error) => return unknown(&error),
    };
    let head_size = file.size().min(container::HEAD_SIZE_BYTES as u64) as usize;
    let container = match file.read_at(0, head_size) {
        Ok(head) => container::recognise(&head),
        Err(error) => return unknown(&error),
    };
    let Some(container) = container else {
        return Known::default();
    };
    let opened = match origin::open::open_file(&named.config, path, &file) {
        Ok(opened) => opened,
        Err(error) => return unknown(&error),
    };
    let mut known = Known {
        container: format!("{container:?}"),
        ..Known::default()
    };
    for (number, track) in opened.tracks.into_iter().enumerate() {
        let said = TrackSaid {
            language: track.language,
            label: track.label,
            roles: track.roles,
            default: track.default,
        };
        let samples = match track.content {
            Content::Cues(text) => {
                known.texts.push(KnownText { text, said });
                continue;
            }
            Content::Samples(samples) => samples,
        };
        let stream_id = format!("track {}", number + 1);
        if samples.description.kind() == MediaKind::Audio {
            known.audio.push(KnownAudio {
                track_id: samples.description.source_track_id,
                stream_id: stream_id.clone(),
                said,
            });
        }
        let path = track.file.path().map_err(|error| error.to_string());
        let indexed = path.and_then(|path| {
            IndexedTrack::new(stream_id.clone(), path, samples.description, &samples.index)
                .map_err(|error| error.to_string())
        });
        match indexed {
            Ok(track) => known.tracks.push(track),
            Err(why) => known.left_out.push(Refused { what: stream_id, why }),
        }
    }
    let is_text = |row: &Refused| {
        let named = |name: &&str| row.what.contains(*name) || row.why.contains(*name);
        ["tx3g", "c608", "text", "VobSub", "PGS"].iter().any(named)
    };
    known.left_out.extend(opened.refused.into_iter().map(|row| Refused {
        what: row.what,
        why: row.why,
    }));
    known.refused = known.left_out.iter().filter(|row| is_text(row)).cloned().collect();
    known
}

/// Opens what was made as the origin will, which finds what does not fit together, and puts thumbnails beside it.
fn add(folder: &Path, wanted: Wanted) -> anyhow::Result<()> {
    let asset = open_made(folder)?;
    if let Some(row) = asset
        .presentation
        .refused
        .iter()
        .find(|row| row.what.starts_with("switching"))
    {
        bail!("{}: {}", row.what, row.why);
    }
    Ok(thumbnails::add(&asset, folder, wanted)?)
}

/// Opens what was made as the origin will.
fn open_made(folder: &Path) -> anyhow::Result<origin::asset::Asset> {
    let library = folder.parent().context("a folder without a parent")?;
    let name = folder.file_name().context("a folder without a name")?;
    let config = Section {
        library: Some(library.to_owned()),
        ..Section::default()
    }
    .check()?;
    let entry = Entry::Stored { path: name.into() };
    origin::open::open(&config, &SourceKeyring::default(), &entry.media_id(), &entry).context("what was made")
}
