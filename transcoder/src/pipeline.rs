//! GStreamer pipelines: built from their description, run to their end, watched. What has element names is here, in
//! `probe` and, as data, in `encoder`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gstreamer::prelude::*;
use gstreamer::{self as gst, ClockTime, glib};

use crate::feed;
use crate::graph::Element;
use crate::input::IndexedTrack;
use crate::order::Fault;
use crate::patience::Patience;

/// Why a pipeline failed.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// GStreamer, or one of its elements, said so.
    #[error("{0}")]
    Element(String),
    /// Nothing moved for so long.
    #[error("nothing moved for {} s", .0.as_secs())]
    Stuck(Duration),
    /// No thread of it is at work any more, and none said why.
    #[error("GStreamer gave up without a word")]
    GivenUp,
    /// A file could not be written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// What came out is not what was asked for.
    #[error("{0}")]
    Unexpected(String),
}

impl PipelineError {
    /// Whose fault it is.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            PipelineError::Io(_) => Fault::Machine,
            PipelineError::Element(_)
            | PipelineError::Stuck(_)
            | PipelineError::GivenUp
            | PipelineError::Unexpected(_) => Fault::Work,
        }
    }
}

impl From<glib::BoolError> for PipelineError {
    fn from(error: glib::BoolError) -> PipelineError {
        PipelineError::Element(error.to_string())
    }
}

impl From<glib::Error> for PipelineError {
    fn from(error: glib::Error) -> PipelineError {
        PipelineError::Element(error.to_string())
    }
}

impl From<gst::StateChangeError> for PipelineError {
    fn from(error: gst::StateChangeError) -> PipelineError {
        PipelineError::Element(error.to_string())
    }
}

/// A pipeline in which nothing moves for this long has hung. Encoders look ahead some hundred pictures, which takes a
/// while at 8K.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(120);
/// How often the bus is looked at.
const POLL: ClockTime = ClockTime::from_mseconds(100);
/// Damage that decoders complain of is counted; so many complaints are kept.
const WARNING_COUNT_MAX: usize = 20;

/// What a probe answers that keeps a buffer from going on. The buffer is dropped with what the probe was given: of `Drop`,
/// GStreamer 1.22 releases it once more and complains.
pub(crate) const DROPPED: gst::PadProbeReturn = gst::PadProbeReturn::Handled;

/// A value shared with streaming threads, which never panic while they hold it.
pub(crate) fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes one element as described; fails where it has no such property or the property no such value.
pub(crate) fn make(element: &Element) -> Result<gst::Element, PipelineError> {
    let made = gst::ElementFactory::make(&element.factory).build()?;
    for (name, value) in &element.properties {
        let wrong = |what: &str| PipelineError::Element(format!("{}: {name}={value}: {what}", element.factory));
        let property = made.find_property(name).ok_or_else(|| wrong("no such property"))?;
        let value = glib::Value::deserialize_with_pspec(value, &property).map_err(|_| wrong("no such value"))?;
        made.set_property_from_value(name, &value);
    }
    Ok(made)
}

/// Makes a chain of elements inside `pipeline`, after `first`; the last one comes back.
pub(crate) fn append(
    pipeline: &gst::Pipeline,
    first: &gst::Element,
    chain: &[Element],
) -> Result<gst::Element, PipelineError> {
    let mut last = first.clone();
    for element in chain {
        let next = make(element)?;
        pipeline.add(&next)?;
        last.link(&next)?;
        last = next;
    }
    Ok(last)
}

/// Runs a pipeline to its end and stops it, however that comes about.
pub(crate) struct Running<'a> {
    pub(crate) pipeline: &'a gst::Pipeline,
    warnings: Vec<String>,
}

/// What a watcher of a pipeline wants.
pub(crate) enum Watched {
    /// It goes on; the number changes whenever something has moved.
    Moving(u64),
    /// It has what it came for.
    Enough,
    /// Nothing is at work any more.
    Still,
}

/// Whether a thread of `pipeline` is at work, or waits for one that is.
pub(crate) fn is_at_work(pipeline: &gst::Pipeline) -> bool {
    let mut at_work = false;
    let looked = pipeline.iterate_recurse().foreach(|element| {
        let mut pads = element.pads().into_iter();
        at_work |= pads.any(|pad| pad.task_state() == gst::TaskState::Started);
    });
    // Elements that come or go are somebody's work.
    at_work || looked.is_err()
}

impl<'a> Running<'a> {
    pub(crate) fn start(pipeline: &'a gst::Pipeline, state: gst::State) -> Result<Running<'a>, PipelineError> {
        let running = Running {
            pipeline,
            warnings: Vec::new(),
        };
        if pipeline.set_state(state).is_err() {
            // The bus knows more than the state change.
            return Err(running
                .error()
                .unwrap_or_else(|| PipelineError::Element("the pipeline does not start".into())));
        }
        Ok(running)
    }

    fn error(&self) -> Option<PipelineError> {
        let message = self.pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(said_by(error)),
            _ => None,
        }
    }

    /// Waits for the end of the stream, for an error, or until `watch` has enough.
    pub(crate) fn wait(&mut self, mut watch: impl FnMut() -> Watched) -> Result<(), PipelineError> {
        let bus = self
            .pipeline
            .bus()
            .ok_or_else(|| PipelineError::Element("a pipeline without a bus".into()))?;
        let mut mark = 0;
        let mut patience = Patience::new(Instant::now());
        loop {
            match watch() {
                Watched::Enough => return Ok(()),
                // Whoever ends says so first, if at all.
                Watched::Still => {
                    let last_word = bus.pop_filtered(&[gst::MessageType::Eos, gst::MessageType::Error]);
                    return match last_word.as_ref().map(|message| message.view()) {
                        Some(gst::MessageView::Eos(_)) => Ok(()),
                        Some(gst::MessageView::Error(error)) => Err(said_by(error)),
                        _ => Err(PipelineError::GivenUp),
                    };
                }
                Watched::Moving(moved) if moved != mark => {
                    mark = moved;
                    patience.renew(Instant::now());
                }
                Watched::Moving(_) if patience.look(Instant::now()) > STUCK_AFTER => {
                    return Err(PipelineError::Stuck(STUCK_AFTER));
                }
                Watched::Moving(_) => {}
            }
            let Some(message) = bus.timed_pop_filtered(
                POLL,
                &[
                    gst::MessageType::Eos,
                    gst::MessageType::Error,
                    gst::MessageType::Warning,
                    gst::MessageType::Latency,
                ],
            ) else {
                continue;
            };
            match message.view() {
                gst::MessageView::Eos(_) => return Ok(()),
                gst::MessageView::Error(error) => return Err(said_by(error)),
                gst::MessageView::Warning(warning) if self.warnings.len() < WARNING_COUNT_MAX => {
                    self.warnings.push(warning.error().to_string());
                }
                _ => {}
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Nothing is left to be done about a pipeline that can not be stopped: the process ends soon.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn said_by(error: &gst::message::Error) -> PipelineError {
    let element = error.src().map(|source| source.name().to_string()).unwrap_or_default();
    // The first line of the details often says more than the message; what follows are places in other people's code.
    let details = error.debug().map(|text| text.to_string()).unwrap_or_default();
    let detail = details.lines().nth(1).unwrap_or_default().trim();
    PipelineError::Element(match detail.is_empty() {
        true => format!("{element}: {}", error.error()),
        false => format!("{element}: {} ({detail})", error.error()),
    })
}

/// A source decoded: `filesrc ! decodebin`, which offers streams one by one, or for each track `appsrc ! decodebin`.
pub(crate) struct Decoding {
    pub(crate) pipeline: gst::Pipeline,
    /// Errors of callbacks that can not be returned there.
    failed: Arc<Mutex<Option<PipelineError>>>,
}

/// What becomes of a stream that a source offers: where it comes out, and what it is called.
pub(crate) type Take = Box<dyn Fn(&gst::Pipeline, &gst::Pad, &str) -> Result<bool, PipelineError> + Send + Sync>;

impl Decoding {
    /// Opens `path`. `decodes` says by their caps which streams are to be decoded at all; `take` links a decoded stream or
    /// says false.
    pub(crate) fn of_file(
        path: &Path,
        decodes: impl Fn(&str) -> bool + Send + Sync + 'static,
        take: Take,
    ) -> Result<Decoding, PipelineError> {
        let pipeline = gst::Pipeline::new();
        let source = gst::ElementFactory::make("filesrc").build()?;
        source.set_property("location", path);
        let decoder = gst::ElementFactory::make("decodebin").build()?;
        pipeline.add_many([&source, &decoder])?;
        source.link(&decoder)?;
        // What is not wanted is offered as it is coded, instead of being decoded for nothing.
        let results = glib::Type::from_name("GstAutoplugSelectResult").and_then(glib::EnumClass::with_type);
        if let Some(results) = results {
            decoder.connect("autoplug-select", false, move |arguments| {
                let caps = arguments.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
                let factory = arguments
                    .get(3)
                    .and_then(|factory| factory.get::<gst::ElementFactory>().ok());
                let is_decoder = factory.is_some_and(|factory| factory.has_type(gst::ElementFactoryType::DECODER));
                let name = caps.and_then(|caps| caps.structure(0).map(|first| first.name().to_string()));
                let wanted = !is_decoder || name.is_none_or(|name| decodes(&name));
                results.to_value_by_nick(if wanted { "try" } else { "expose" })
            });
        }
        let failed = Arc::default();
        offer(&pipeline, &decoder, None, &Arc::new(take), &failed);
        Ok(Decoding { pipeline, failed })
    }

    /// Opens `tracks`, each from the sample that is named with it on; `take` links a decoded stream or says false.
    /// `frame_rate` is that of pictures.
    pub(crate) fn of_tracks(
        tracks: &[(&IndexedTrack, u32)],
        frame_rate: Option<(u32, u32)>,
        take: Take,
    ) -> Result<Decoding, PipelineError> {
        let pipeline = gst::Pipeline::new();
        let failed = Arc::default();
        let take = Arc::new(take);
        for (track, first) in tracks {
            let source = feed::source(track, *first, frame_rate)?;
            let decoder = gst::ElementFactory::make("decodebin").build()?;
            pipeline.add_many([source.upcast_ref(), &decoder])?;
            source.link(&decoder)?;
            offer(&pipeline, &decoder, Some(&track.input.stream_id), &take, &failed);
        }
        Ok(Decoding { pipeline, failed })
    }

    /// What a callback had to complain of, which says more than what the bus made of it.
    pub(crate) fn failed(&self) -> Option<PipelineError> {
        lock(&self.failed).take()
    }
}

/// Has `take` hear of every stream that `decoder` offers; they are called `name`, or what GStreamer calls them.
fn offer(
    pipeline: &gst::Pipeline,
    decoder: &gst::Element,
    name: Option<&str>,
    take: &Arc<Take>,
    failed: &Arc<Mutex<Option<PipelineError>>>,
) {
    let (weak, kept, take) = (pipeline.downgrade(), failed.clone(), take.clone());
    let name = name.map(str::to_owned);
    decoder.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let given = || pad.stream_id().map(|id| id.to_string()).unwrap_or_default();
        let done = match take(&pipeline, pad, &name.clone().unwrap_or_else(given)) {
            Ok(true) => Ok(()),
            Ok(false) => discard(&pipeline, pad),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            gst::element_error!(pipeline, gst::CoreError::Failed, ("{error}"));
            *lock(&kept) = Some(error);
        }
    });
}

/// Links a stream that nobody wants to where it does not disturb.
fn discard(pipeline: &gst::Pipeline, pad: &gst::Pad) -> Result<(), PipelineError> {
    let sink = gst::ElementFactory::make("fakesink")
        .property("sync", false)
        .property("async", false)
        .build()?;
    pipeline.add(&sink)?;
    sink.sync_state_with_parent()?;
    let sink_pad = sink
        .static_pad("sink")
        .ok_or_else(|| PipelineError::Element("fakesink has no pad".into()))?;
    pad.link(&sink_pad)
        .map_err(|error| PipelineError::Element(format!("{}: {error}", pad.name())))?;
    Ok(())
}

/// Links `pad` to `element` and starts the elements that were added for it.
pub(crate) fn take(pad: &gst::Pad, added: &[gst::Element]) -> Result<(), PipelineError> {
    let first = added
        .first()
        .and_then(|element| element.static_pad("sink"))
        .ok_or_else(|| PipelineError::Element("nothing to link to".into()))?;
    // Sinks first, so that nothing arrives where nobody is ready.
    for element in added.iter().rev() {
        element.sync_state_with_parent()?;
    }
    pad.link(&first)
        .map_err(|error| PipelineError::Element(format!("{}: {error}", pad.name())))?;
    Ok(())
}

/// Where a buffer stands on the source's timeline, in nanoseconds: edit lists are in the segment.
pub(crate) fn stream_time(segment: &gst::FormattedSegment<ClockTime>, time: ClockTime) -> Option<i64> {
    let (sign, time) = match segment.to_stream_time_full(time)? {
        gst::Signed::Positive(time) => (1, time),
        gst::Signed::Negative(time) => (-1, time),
    };
    i64::try_from(time.nseconds()).ok().map(|ns| ns * sign)
}
