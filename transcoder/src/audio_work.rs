//! Sound of a source, coded in one go from beginning to end, so that nothing has to be joined.
//!
//! Where the source leaves gaps, silence is coded; where it overlaps itself, the overlap goes. After that, time is counted
//! in samples alone.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::graph::Element;
use crate::loudness::Meter;
use crate::order::{AudioRendition, AudioWork, Coded, Progress};
use crate::pipeline::{Decoding, PipelineError, Running, Watched, append, lock, stream_time, take};
use crate::sink::TrackSink;
use crate::video_work::hexadecimal;

/// Bytes of a sample of one channel between converter and encoder: a 32-bit float.
const SAMPLE_SIZE_BYTES: u64 = 4;
/// A hole shorter than this is jitter of the container.
const JITTER_NS: u64 = 40_000_000;

/// What makes one rendition of sound.
pub fn rendition_chain(rendition: &AudioRendition) -> Vec<Element> {
    // Front left, right, centre, LFE, back left, right: configuration 6 of ISO/IEC 14496-3 table 1.19.
    let layout = match rendition.channels {
        6 => ",channel-mask=(bitmask)0x3f",
        2 => ",channel-mask=(bitmask)0x3",
        _ => "",
    };
    vec![
        Element::new("queue")
            .with("max-size-buffers", 0)
            .with("max-size-bytes", 0)
            .with("max-size-time", 1_000_000_000),
        Element::new("audioconvert"),
        Element::new("audioresample").with("quality", 6),
        Element::caps(format_args!(
            "audio/x-raw,format=F32LE,layout=interleaved,rate={},channels={}{layout}",
            rendition.sample_rate, rendition.channels
        )),
        Element::new("audiorate")
            .with("skip-to-first", "true")
            .with("tolerance", JITTER_NS),
        Element::new("avenc_aac").with("bitrate", rendition.bitrate_bps),
        Element::caps("audio/mpeg,mpegversion=4,stream-format=raw"),
    ]
}

/// Samples of a frame: the encoder is given whole ones, for it swallows the end of what is less.
const FRAME_SAMPLES: u64 = 1_024;

/// What went into an encoder.
#[derive(Default)]
struct Input {
    segment: gst::FormattedSegment<gst::ClockTime>,
    start_ns: Option<i64>,
    sample_count: u64,
    /// When the last buffer ended.
    end: Option<gst::ClockTime>,
    meter: Option<Meter>,
    /// What comes now fills up the last frame and does not count.
    filling: bool,
}

/// Encodes what `work` says into `folder`; renditions are numbered stream by stream.
pub(crate) fn run(
    source: &Path,
    folder: &Path,
    work: &AudioWork,
    say: &mut dyn FnMut(Progress),
) -> Result<Vec<Coded>, PipelineError> {
    let mut branches: Vec<(String, AudioRendition, TrackSink, Arc<Mutex<Input>>)> = Vec::new();
    for (stream, renditions) in &work.streams {
        for rendition in renditions {
            let sink = TrackSink::create(folder, branches.len(), None)?;
            branches.push((stream.stream_id.clone(), *rendition, sink, Arc::default()));
        }
    }
    let decoding = {
        let branches = branches.clone();
        Decoding::of(
            source,
            |caps| caps.starts_with("audio/"),
            Box::new(move |pipeline, pad| {
                let id = pad.stream_id();
                let mine: Vec<_> = branches
                    .iter()
                    .filter(|(stream, ..)| id.as_ref().is_some_and(|id| id == stream))
                    .collect();
                if mine.is_empty() {
                    return Ok(false);
                }
                let before = pipeline.children();
                let tee = gst::ElementFactory::make("tee").build()?;
                pipeline.add(&tee)?;
                for (_, rendition, sink, input) in mine {
                    let last = append(pipeline, &tee, &rendition_chain(rendition))?;
                    pipeline.add(&sink.element)?;
                    last.link(&sink.element)?;
                    count_input(&last, rendition, input)?;
                }
                let mut added: Vec<gst::Element> = pipeline
                    .children()
                    .into_iter()
                    .filter(|element| !before.contains(element))
                    .collect();
                let place = added.iter().position(|element| *element == tee).unwrap_or(0);
                added.swap(0, place);
                take(pad, &added)?;
                Ok(true)
            }),
        )?
    };
    let result = (|| {
        let mut running = Running::start(&decoding.pipeline, gst::State::Playing)?;
        let watched: Vec<TrackSink> = branches.iter().map(|(_, _, sink, _)| sink.clone()).collect();
        let mut said = Instant::now();
        running.wait(|| {
            let count: u64 = watched.iter().map(|sink| sink.progress().0).sum();
            let time_ns = watched.iter().map(|sink| sink.progress().1).min().unwrap_or(0);
            if said.elapsed() > Duration::from_millis(200) {
                said = Instant::now();
                say(Progress {
                    time_ms: u64::try_from(time_ns / 1_000_000).unwrap_or(0),
                    frame_count: count,
                });
            }
            Watched::Moving(count)
        })
    })();
    if let Err(error) = result {
        let better = branches
            .iter()
            .find_map(|(_, _, sink, _)| sink.failed())
            .or(decoding.failed());
        return Err(better.unwrap_or(error));
    }
    let mut coded = Vec::with_capacity(branches.len());
    for (_, _, sink, input) in &branches {
        let (codec_data, sample_count) = sink.finish()?;
        let input = lock(input);
        coded.push(Coded {
            codec_data: hexadecimal(&codec_data),
            start_ns: input.start_ns,
            input_sample_count: input.sample_count,
            loudness: input.meter.as_ref().map(Meter::finish),
            sample_count,
        });
    }
    Ok(coded)
}

/// Counts what goes into the encoder at the end of a chain, and notes when it begins.
fn count_input(
    last: &gst::Element,
    rendition: &AudioRendition,
    input: &Arc<Mutex<Input>>,
) -> Result<(), PipelineError> {
    let missing = || PipelineError::Element("the encoder has no pad".into());
    let encoder = last
        .static_pad("sink")
        .and_then(|pad| pad.peer())
        .and_then(|pad| pad.parent_element())
        .ok_or_else(missing)?;
    let pad = encoder.static_pad("sink").ok_or_else(missing)?;
    let frame_size_bytes = u64::from(rendition.channels) * SAMPLE_SIZE_BYTES;
    let sample_rate = u64::from(rendition.sample_rate.max(1));
    lock(input).meter = Some(Meter::new(rendition.channels, rendition.sample_rate));
    let input = input.clone();
    pad.add_probe(
        gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM,
        move |pad, info| {
            let mut rest = None;
            {
                let mut input = lock(&input);
                match info.event().map(|event| event.view()) {
                    Some(gst::EventView::Segment(event)) => {
                        if let Some(segment) = event.segment().downcast_ref::<gst::ClockTime>() {
                            input.segment = segment.clone();
                        }
                    }
                    Some(gst::EventView::Eos(_)) => {
                        let missing = input.sample_count.next_multiple_of(FRAME_SAMPLES) - input.sample_count;
                        rest = input.end.filter(|_| missing > 0).map(|end| (end, missing));
                        input.filling = rest.is_some();
                    }
                    _ => {}
                }
                if let Some(buffer) = info.buffer().filter(|_| !input.filling) {
                    if input.start_ns.is_none() {
                        input.start_ns = buffer.pts().and_then(|time| stream_time(&input.segment, time));
                    }
                    let count = buffer.size() as u64 / frame_size_bytes;
                    input.sample_count += count;
                    input.end = buffer
                        .pts()
                        .map(|time| time + gst::ClockTime::from_nseconds(count * 1_000_000_000 / sample_rate));
                    if let (Some(meter), Ok(map)) = (&mut input.meter, buffer.map_readable()) {
                        meter.push(&map);
                    }
                }
            }
            if let Some((end, count)) = rest {
                // What is refused here was refused before: the end of the stream says so.
                let _ = pad.chain(silence(end, count, frame_size_bytes, sample_rate));
            }
            gst::PadProbeReturn::Ok
        },
    );
    Ok(())
}

/// `count` samples of silence from `start` on.
fn silence(start: gst::ClockTime, count: u64, frame_size_bytes: u64, sample_rate: u64) -> gst::Buffer {
    let size = usize::try_from(count * frame_size_bytes).unwrap_or(0);
    let mut buffer = gst::Buffer::from_mut_slice(vec![0; size]);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(start);
        buffer.set_duration(gst::ClockTime::from_nseconds(count * 1_000_000_000 / sample_rate));
    }
    buffer
}
