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
use crate::input::{IndexedTrack, TOGETHER_NS, beginning_ns, silence_end_ns};
use crate::loudness::Meter;
use crate::order::{AudioRendition, AudioWork, Coded, Progress};
use crate::pipeline::{DROPPED, Decoding, PipelineError, Running, Take, Watched, append, lock, stream_time, take};
use crate::sink::TrackSink;
use crate::video_work::hexadecimal;
use crate::worker::Source;

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

/// Silence after a sound, at most: a day of 48 kHz.
const SILENT_SAMPLE_COUNT_MAX: u64 = 24 * 3_600 * 48_000;
/// Silence is given to the encoder in parts of this many samples, some ten seconds.
const SILENT_PART_SAMPLES: u64 = 512 * FRAME_SAMPLES;

/// What of a stream is heard.
#[derive(Clone, Copy, Default)]
struct Shown {
    /// Added to its times.
    shift_ns: i64,
    /// Where it ends.
    end_ns: Option<i64>,
    /// Where silence begins before it, on the source's timeline, and to where it follows.
    silence_begin_ns: Option<i64>,
    silence_end_ns: Option<i64>,
}

impl Shown {
    fn of(track: &IndexedTrack, tracks: &[IndexedTrack]) -> Shown {
        // Some containers do not say how long the last sample is.
        let last = track.index.sample(track.index.sample_count().saturating_sub(1));
        Shown {
            shift_ns: track.shift_ns(),
            end_ns: last.filter(|last| last.duration > 1).map(|_| track.end_ns()),
            silence_begin_ns: beginning_ns(tracks),
            silence_end_ns: silence_end_ns(track, tracks),
        }
    }
}

/// What went into an encoder.
#[derive(Default)]
struct Input {
    shown: Shown,
    segment: gst::FormattedSegment<gst::ClockTime>,
    start_ns: Option<i64>,
    sample_count: u64,
    /// When the last buffer ended.
    end: Option<gst::ClockTime>,
    meter: Option<Meter>,
    /// What comes now is silence that is put before or after the source's own sound; it is counted already.
    filling: bool,
    /// Samples of silence before and after it.
    silent: (u64, u64),
}

impl Input {
    /// Notes that the sound begins at `start_ns`; silence that the encoder is given before it, in samples.
    fn begin(&mut self, start_ns: i64, sample_rate: u64) -> u64 {
        let late_ns = start_ns.saturating_sub(self.shown.silence_begin_ns.unwrap_or(start_ns));
        let count = match late_ns > TOGETHER_NS {
            true => silent_sample_count(late_ns, sample_rate),
            false => 0,
        };
        let silence_ns = i64::try_from(u128::from(count) * 1_000_000_000 / u128::from(sample_rate)).unwrap_or(0);
        self.start_ns = Some(start_ns - silence_ns);
        self.sample_count = count;
        self.silent.0 = count;
        count
    }

    /// Counts a buffer of the sound; where silence begins that comes before it, if some does, and how much in samples.
    fn take(
        &mut self,
        buffer: &gst::BufferRef,
        sample_rate: u64,
        frame_size_bytes: u64,
    ) -> Option<(gst::ClockTime, u64)> {
        let time = buffer.pts();
        let mut silent = None;
        if self.start_ns.is_none()
            && let Some(time) = time
            && let Some(start_ns) = stream_time(&self.segment, time)
        {
            let count = self.begin(start_ns.saturating_sub(self.shown.shift_ns), sample_rate);
            silent = Some((time.saturating_sub(duration_of(count, sample_rate)), count));
        }
        let count = buffer.size() as u64 / frame_size_bytes;
        self.sample_count += count;
        self.end = time.map(|time| time + duration_of(count, sample_rate));
        if let (Some(meter), Ok(map)) = (&mut self.meter, buffer.map_readable()) {
            meter.push(&map);
        }
        silent
    }

    /// Silence that the encoder is given at the end, in samples: what follows the sound, which counts, and what fills up the
    /// last frame, which does not.
    fn end(&mut self, sample_rate: u64) -> u64 {
        let ends = self.start_ns.zip(self.shown.silence_end_ns);
        let wanted = ends.map_or(0, |(start_ns, end_ns)| {
            silent_sample_count(end_ns - start_ns, sample_rate)
        });
        let heard = self.sample_count;
        self.sample_count = heard.max(wanted);
        self.silent.1 = self.sample_count - heard;
        self.sample_count.next_multiple_of(FRAME_SAMPLES) - heard
    }
}

/// Samples of so long a silence.
fn silent_sample_count(duration_ns: i64, sample_rate: u64) -> u64 {
    let duration_ns = u128::try_from(duration_ns).unwrap_or(0);
    let count = duration_ns * u128::from(sample_rate) / 1_000_000_000;
    u64::try_from(count).unwrap_or(u64::MAX).min(SILENT_SAMPLE_COUNT_MAX)
}

/// Encodes what `work` says into `folder`; renditions are numbered stream by stream.
pub(crate) fn run(
    source: &Source<'_>,
    folder: &Path,
    work: &AudioWork,
    say: &mut dyn FnMut(Progress),
) -> Result<Vec<Coded>, PipelineError> {
    let mut branches: Vec<(String, AudioRendition, TrackSink, Arc<Mutex<Input>>)> = Vec::new();
    for (stream, renditions) in &work.streams {
        for rendition in renditions {
            let shown = match source {
                Source::File(_) => None,
                Source::Tracks(tracks) => source.track(&stream.stream_id).map(|track| Shown::of(track, tracks)),
            };
            let shown = shown.unwrap_or_default();
            let sink = TrackSink::create(folder, branches.len(), None, shown.shift_ns)?;
            let input = Input {
                shown,
                ..Input::default()
            };
            branches.push((stream.stream_id.clone(), *rendition, sink, Arc::new(Mutex::new(input))));
        }
    }
    let decoding = {
        let branches = branches.clone();
        let attach: Take = Box::new(move |pipeline, pad, id| {
            let mine: Vec<_> = branches.iter().filter(|(stream, ..)| id == stream).collect();
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
        });
        match source {
            Source::File(path) => Decoding::of_file(path, |caps| caps.starts_with("audio/"), attach)?,
            Source::Tracks(tracks) => {
                let wanted = |track: &&IndexedTrack| {
                    let mut streams = work.streams.iter();
                    streams.any(|(stream, _)| stream.stream_id == track.input.stream_id)
                };
                let tracks: Vec<_> = tracks.iter().filter(wanted).map(|track| (track, 0)).collect();
                Decoding::of_tracks(&tracks, None, attach)?
            }
        }
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
                let time_ms = u64::try_from(time_ns / 1_000_000).unwrap_or(0);
                say(Progress {
                    time_ms,
                    taken_ms: time_ms,
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
            silent_sample_counts: input.silent,
            loudness: input.meter.as_ref().map(Meter::finish),
            sample_count,
        });
    }
    Ok(coded)
}

/// Takes from what comes to `pad` what is not heard: priming before zero, and what fills up the last frame. Samples of all
/// channels at one instant have `frame_size_bytes`.
fn trim(pad: &gst::Pad, shown: Shown, sample_rate: u64, frame_size_bytes: u64) {
    let segment = Mutex::new(gst::FormattedSegment::<gst::ClockTime>::new());
    pad.add_probe(
        gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM,
        move |_, info| {
            if let Some(gst::EventView::Segment(event)) = info.event().map(|event| event.view())
                && let Some(new) = event.segment().downcast_ref::<gst::ClockTime>()
            {
                *lock(&segment) = new.clone();
            }
            let Some(buffer) = info.buffer() else {
                return gst::PadProbeReturn::Ok;
            };
            let Some(time) = buffer.pts() else {
                return gst::PadProbeReturn::Ok;
            };
            let Some(start_ns) = stream_time(&lock(&segment), time).map(|time| time.saturating_sub(shown.shift_ns))
            else {
                return gst::PadProbeReturn::Ok;
            };
            let count = buffer.size() as u64 / frame_size_bytes;
            let samples = |ns: i64| {
                let doubled = i128::from(ns) * i128::from(sample_rate) * 2 + 1_000_000_000;
                u64::try_from(doubled.div_euclid(2_000_000_000)).unwrap_or(0).min(count)
            };
            let first = samples(start_ns.saturating_neg());
            let end = shown.end_ns.map_or(count, |end| samples(end.saturating_sub(start_ns)));
            if first >= end {
                return DROPPED;
            }
            if (first, end) == (0, count) {
                return gst::PadProbeReturn::Ok;
            }
            let size = |samples: u64| usize::try_from(samples * frame_size_bytes).unwrap_or(usize::MAX);
            let after = |samples: u64| gst::ClockTime::from_nseconds(samples * 1_000_000_000 / sample_rate);
            if let Ok(mut kept) = buffer.copy_region(gst::BufferCopyFlags::all(), size(first)..size(end)) {
                if let Some(kept) = kept.get_mut() {
                    kept.set_pts(time + after(first));
                    kept.set_duration(after(end - first));
                }
                info.data = Some(gst::PadProbeData::Buffer(kept));
            }
            gst::PadProbeReturn::Ok
        },
    );
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
    let before = pad
        .peer()
        .and_then(|pad| pad.parent_element())
        .and_then(|filler| filler.static_pad("sink"))
        .ok_or_else(missing)?;
    let frame_size_bytes = u64::from(rendition.channels.max(1)) * SAMPLE_SIZE_BYTES;
    let sample_rate = u64::from(rendition.sample_rate.max(1));
    trim(&before, lock(input).shown, sample_rate, frame_size_bytes);
    lock(input).meter = Some(Meter::new(rendition.channels, rendition.sample_rate));
    let input = input.clone();
    pad.add_probe(
        gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM,
        move |pad, info| {
            let silent = {
                let mut input = lock(&input);
                match info.event().map(|event| event.view()) {
                    Some(gst::EventView::Segment(event)) => {
                        if let Some(segment) = event.segment().downcast_ref::<gst::ClockTime>() {
                            input.segment = segment.clone();
                        }
                        None
                    }
                    Some(gst::EventView::Eos(_)) => input.end.map(|end| (end, input.end(sample_rate))),
                    Some(_) => None,
                    None => info
                        .buffer()
                        .filter(|_| !input.filling)
                        .and_then(|buffer| input.take(buffer, sample_rate, frame_size_bytes)),
                }
            };
            if let Some((start, count)) = silent.filter(|(_, count)| *count > 0) {
                lock(&input).filling = true;
                for part in (0..count).step_by(SILENT_PART_SAMPLES as usize) {
                    let start = start + duration_of(part, sample_rate);
                    let count = (count - part).min(SILENT_PART_SAMPLES);
                    // What is refused here is refused again: what follows, or the end of the stream, says so.
                    if pad.chain(silence(start, count, frame_size_bytes, sample_rate)).is_err() {
                        break;
                    }
                }
                lock(&input).filling = false;
            }
            gst::PadProbeReturn::Ok
        },
    );
    Ok(())
}

/// How long `count` samples are.
fn duration_of(count: u64, sample_rate: u64) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(count * 1_000_000_000 / sample_rate)
}

/// `count` samples of silence from `start` on.
fn silence(start: gst::ClockTime, count: u64, frame_size_bytes: u64, sample_rate: u64) -> gst::Buffer {
    let size = usize::try_from(count * frame_size_bytes).unwrap_or(0);
    let mut buffer = gst::Buffer::from_mut_slice(vec![0; size]);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(start);
        buffer.set_duration(duration_of(count, sample_rate));
    }
    buffer
}
