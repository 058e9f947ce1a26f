//! Does one order in this process and says how it goes: what `headwater worker transcode` runs.

use std::io::Write;
use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::encoder::{ENCODERS, Registry};
use crate::input::{IndexedTrack, Input};
use crate::order::{Order, Said, Work};
use crate::pipeline::PipelineError;
use crate::{audio_work, probe, video_work};

/// Loads GStreamer, with all that it reads of itself.
pub fn prepare() -> Result<(), PipelineError> {
    Ok(gst::init()?)
}

/// What is read: see [`Input`].
pub(crate) enum Source<'a> {
    File(&'a Path),
    Tracks(&'a [IndexedTrack]),
}

impl Source<'_> {
    /// The track called `stream_id`, where tracks are read.
    pub(crate) fn track(&self, stream_id: &str) -> Option<&IndexedTrack> {
        match self {
            Source::File(_) => None,
            Source::Tracks(tracks) => tracks.iter().find(|track| track.input.stream_id == stream_id),
        }
    }
}

/// Does what `order` says with the `tracks` that came with it; every line goes to `out`. Blocking, and only for a process
/// of its own.
pub fn run(order: &Order, tracks: &[IndexedTrack], out: &mut dyn Write) -> Result<(), PipelineError> {
    let done = work(order, tracks, out);
    if let Err(error) = &done {
        // Whoever does not hear it sees how the process ends.
        let _ = say(out, &Said::Failed(error.fault()));
    }
    done
}

fn say(out: &mut dyn Write, said: &Said) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

fn work(order: &Order, tracks: &[IndexedTrack], out: &mut dyn Write) -> Result<(), PipelineError> {
    prepare()?;
    let missing = |what: &str| PipelineError::Unexpected(format!("the order names no {what}"));
    let source = || match &order.input {
        Some(Input::File(path)) => Ok(Source::File(path)),
        Some(Input::Tracks(_)) => Ok(Source::Tracks(tracks)),
        None => Err(missing("source")),
    };
    let folder = || order.folder.as_deref().ok_or_else(|| missing("folder"));
    let last = {
        // Whoever no longer listens has ended the work: the next line fails too, and the last one is checked.
        let mut progress = |progress| {
            let _ = say(out, &Said::Progress(progress));
        };
        match &order.work {
            Work::Probe => Said::Source(Box::new(probe::run(&source()?)?)),
            Work::Video(work) => Said::Coded(video_work::run(&source()?, folder()?, work, &mut progress)?),
            Work::Audio(work) => Said::Coded(audio_work::run(&source()?, folder()?, work, &mut progress)?),
            Work::SelfTest(rendition, factory) => {
                let (count, milliseconds) = video_work::self_test(rendition, factory)?;
                Said::Tested(count, milliseconds)
            }
            Work::Encoders => Said::Encoders(installed()),
        }
    };
    Ok(say(out, &last)?)
}

/// What GStreamer has here.
struct Installed;

impl Registry for Installed {
    fn has(&self, factory: &str) -> bool {
        gst::ElementFactory::find(factory).is_some()
    }

    fn open(&self, factory: &str) -> Result<(), String> {
        let element = gst::ElementFactory::make(factory)
            .build()
            .map_err(|error| error.to_string())?;
        let opened = element.set_state(gst::State::Ready);
        let closed = element.set_state(gst::State::Null);
        opened.and(closed).map(|_| ()).map_err(|error| error.to_string())
    }
}

fn installed() -> Vec<(String, Option<String>)> {
    ENCODERS
        .iter()
        .filter(|encoder| Installed.has(encoder.factory))
        .map(|encoder| (encoder.factory.to_owned(), Installed.open(encoder.factory).err()))
        .collect()
}
