//! Pictures of a source, or of a chunk of it, coded as all renditions: one decoder feeds all encoders.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks};
use gstreamer_video::{VideoFormat, VideoFrameRef, VideoInfo};
use packager::codec::VideoRange;
use packager::codec::av1::{self, Av1Config, ObuType};
use packager::isobmff::sample_entry::{TrackFacts, VideoFacts};
use packager::time::Timescale;

use crate::captions;
use crate::encoder::{self, HdrSignal};
use crate::fields;
use crate::gate::{Entry, Gate, ORIGIN_NS};
use crate::graph::Element;
use crate::input::IndexedTrack;
use crate::key_distance;
use crate::ladder::{Rendition, VideoCodec};
use crate::order::{Coded, Progress, VideoWork};
use crate::pipeline::{DROPPED, Decoding, PipelineError, Running, STUCK_AFTER, Take, Watched, append, lock, take};
use crate::publish::describe_video;
use crate::sink::{Shape, Shaped, TrackSink, shaped};
use crate::source::VideoSource;
use crate::tone::{self, ToneMap};
use crate::worker::Source;

/// Decoded pictures that wait for one encoder while another is busy.
const WAITING_PICTURE_COUNT: u32 = 6;
/// A rate for encoders that count pictures when the source states none.
const FRAME_RATE_DEFAULT: (u32, u32) = (30, 1);
/// A chunk is entered this much early: times of key frames are rounded in some containers.
const ENTRY_EARLY_NS: i64 = 20_000_000;

/// What all pictures pass before they are scaled.
pub fn common_chain(video: &VideoSource) -> Result<Vec<Element>, PipelineError> {
    let mut chain = Vec::new();
    if video.interlaced {
        chain.push(fields::element()?);
    }
    if let Some(direction) = video.orientation.direction() {
        chain.push(Element::new("videoflip").with("video-direction", direction));
    }
    Ok(chain)
}

/// What makes one rendition of pictures: a queue, a scaler, an encoder.
pub fn rendition_chain(
    video: &VideoSource,
    rendition: &Rendition,
    factory: &str,
    gop_duration_ms: u32,
) -> Result<Vec<Element>, PipelineError> {
    let encoder = encoder::by_factory(factory)
        .ok_or_else(|| PipelineError::Unexpected(format!("{factory} is not an encoder known here")))?;
    let format = match rendition.bit_depth {
        8 => "I420",
        _ => "I420_10LE",
    };
    let (numerator, denominator) = video.frame_rate.unwrap_or(FRAME_RATE_DEFAULT);
    let gop = u64::from(gop_duration_ms) * u64::from(numerator) / (u64::from(denominator.max(1)) * 1_000);
    let hdr = HdrSignal::from_caps(video.mastering_display.as_deref(), video.content_light_level.as_deref());
    let mut chain = vec![
        Element::new("queue")
            .with("max-size-buffers", WAITING_PICTURE_COUNT)
            .with("max-size-bytes", 0)
            .with("max-size-time", 0),
        // Three lobes, a little sharper than as they come: nearest to the source when seen in its size again.
        Element::new("videoconvertscale")
            .with("add-borders", "false")
            .with("method", "lanczos")
            .with("envelope", "3")
            .with("sharpness", "1.2"),
    ];
    let size = format!(
        "width={},height={},pixel-aspect-ratio=1/1",
        rendition.width, rendition.height
    );
    if rendition.maps_tones {
        // Components of light one by one, which are mapped where caps are set anew.
        chain.extend([
            Element::caps(format_args!("video/x-raw,format=GBR_10LE,{size}")),
            Element::new(TONE_FACTORY).with("caps", "video/x-raw,colorimetry=1:1:5:1"),
            Element::new("videoconvert"),
        ]);
    }
    chain.push(Element::caps(format_args!(
        "video/x-raw,format={format},{size},colorimetry={}",
        colorimetry(video, rendition),
    )));
    chain.extend(encoder::chain(
        &encoder,
        rendition,
        u32::try_from(gop).unwrap_or(u32::MAX).max(1),
        (video.video_range != VideoRange::Sdr && !rendition.maps_tones).then_some(&hdr),
    ));
    Ok(chain)
}

/// Colours as the source has them, where players know them; all renditions alike.
fn colorimetry<'a>(video: &'a VideoSource, rendition: &Rendition) -> &'a str {
    let known = matches!(
        video.colorimetry.as_str(),
        "bt601" | "bt709" | "smpte240m" | "bt2020" | "bt2020-10" | "2:3:7:1" | "2:4:5:4" | "2:4:16:2"
    );
    match () {
        () if rendition.maps_tones => "bt709",
        () if known || video.video_range != VideoRange::Sdr => &video.colorimetry,
        () if rendition.height.min(rendition.width) > 576 => "bt709",
        () if video.height > 576 => "bt709",
        () => "bt601",
    }
}

/// Sets caps anew; pictures are mapped before they come to it.
const TONE_FACTORY: &str = "capssetter";

/// Maps the tones of all pictures that come to `element`.
fn map_tones(element: &gst::Element, map: Arc<ToneMap>) -> Result<(), PipelineError> {
    let pad = element
        .static_pad("sink")
        .ok_or_else(|| PipelineError::Element(format!("{TONE_FACTORY} has no pad")))?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data else {
            return gst::PadProbeReturn::Ok;
        };
        let info = pad.current_caps().and_then(|caps| VideoInfo::from_caps(&caps).ok());
        let Some(info) = info.filter(|info| info.format() == VideoFormat::Gbr10le) else {
            return DROPPED;
        };
        let Ok(mut frame) = VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), &info) else {
            return DROPPED;
        };
        match frame.planes_data_mut() {
            [green, blue, red, _] => map.map_rows(green, blue, red),
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// Encodes what `work` says into `folder`.
pub(crate) fn run(
    source: &Source<'_>,
    folder: &Path,
    work: &VideoWork,
    say: &mut dyn FnMut(Progress),
) -> Result<Vec<Coded>, PipelineError> {
    let track = source.track(&work.video.stream_id);
    let shift_ns = track.map_or(0, IndexedTrack::shift_ns);
    let mut sinks = Vec::with_capacity(work.renditions.len());
    for (number, (rendition, _)) in work.renditions.iter().enumerate() {
        sinks.push(TrackSink::create(folder, number, shape(rendition.codec), ORIGIN_NS)?);
    }
    let ns = |ms: u64| {
        i64::try_from(ms)
            .unwrap_or(i64::MAX / 2_000_000)
            .saturating_mul(1_000_000)
    };
    let gate = Gate::new(
        work.start_ms.map(ns),
        work.end_ms.map(ns),
        i64::from(work.gop_duration_ms) * 1_000_000,
        shift_ns,
    );
    let taken = Arc::new(Mutex::new(false));
    let decoding = {
        let (work, sinks, gate, taken) = (work.clone(), sinks.clone(), gate.clone(), taken.clone());
        let frame_rate = work.video.frame_rate;
        let start_ns = lock(&gate).start_ns;
        let entry = match start_ns.is_some() && track.is_none() {
            true => Entry::Closed,
            false => Entry::Open,
        };
        let attach: Take = Box::new(move |pipeline, pad, id| {
            if id != work.video.stream_id || *lock(&taken) {
                return Ok(false);
            }
            *lock(&taken) = true;
            attach(pipeline, pad, &work, &sinks, &gate, entry)?;
            Ok(true)
        });
        match (source, track) {
            (Source::File(path), _) => Decoding::of_file(
                path,
                |caps| caps.starts_with("video/") || caps.starts_with("image/"),
                attach,
            )?,
            (Source::Tracks(_), Some(track)) => {
                let first = start_ns.map_or(0, |start| track.entry(start));
                Decoding::of_tracks(&[(track, first)], frame_rate, attach)?
            }
            (Source::Tracks(_), None) => {
                return Err(PipelineError::Unexpected("the picture's track is missing".into()));
            }
        }
    };
    let result = (|| {
        let mut running = Running::start(&decoding.pipeline, gst::State::Playing)?;
        let start_ns = lock(&gate).start_ns;
        if let Some(start_ns) = start_ns.filter(|_| track.is_none()) {
            enter(&mut running, &gate, start_ns)?;
        }
        let watched = sinks.clone();
        let mut said = Instant::now();
        let gate_watched = gate.clone();
        running.wait(|| {
            Gate::tell_end(&gate_watched);
            let progress = watched.iter().map(TrackSink::progress);
            let (count, time_ns) = progress.min().unwrap_or_default();
            if said.elapsed() > Duration::from_millis(200) {
                said = Instant::now();
                say(Progress {
                    time_ms: u64::try_from(time_ns / 1_000_000).unwrap_or(0),
                    taken_ms: u64::try_from(lock(&gate_watched).kept_ns / 1_000_000).unwrap_or(0),
                    frame_count: count,
                });
            }
            Watched::Moving(count + lock(&gate_watched).seen)
        })
    })();
    if let Err(error) = result {
        let better = sinks.iter().find_map(TrackSink::failed).or(decoding.failed());
        return Err(better.unwrap_or(error));
    }
    if !*lock(&taken) {
        return Err(PipelineError::Unexpected(
            "the source no longer offers its picture".into(),
        ));
    }
    let (kept, pairs) = {
        let mut gate = lock(&gate);
        (gate.kept, std::mem::take(&mut gate.captions))
    };
    if !pairs.is_empty() {
        std::fs::write(folder.join(captions::FILE_NAME), pairs)?;
    }
    let mut coded = Vec::with_capacity(sinks.len());
    for ((rendition, _), sink) in work.renditions.iter().zip(&sinks) {
        let (codec_data, sample_count) = sink.finish()?;
        if sample_count != kept {
            return Err(PipelineError::Unexpected(format!(
                "{}: {kept} pictures went in and {sample_count} came out",
                rendition.name
            )));
        }
        if codec_data.is_empty() && sample_count > 0 {
            return Err(PipelineError::Unexpected(format!(
                "{}: the encoder does not say how decoders are set up",
                rendition.name
            )));
        }
        coded.push(Coded {
            codec_data: hexadecimal(&codec_data),
            start_ns: None,
            input_sample_count: kept,
            silent_sample_counts: (0, 0),
            loudness: None,
            sample_count,
        });
    }
    Ok(coded)
}

/// Builds what comes after the decoder and links it.
fn attach(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    work: &VideoWork,
    sinks: &[TrackSink],
    gate: &Arc<Mutex<Gate>>,
    entry: Entry,
) -> Result<(), PipelineError> {
    let before = pipeline.children();
    let head = gst::ElementFactory::make("queue")
        .property("max-size-buffers", WAITING_PICTURE_COUNT)
        .property("max-size-bytes", 0u32)
        .property("max-size-time", 0u64)
        .build()?;
    pipeline.add(&head)?;
    let last = append(pipeline, &head, &common_chain(&work.video)?)?;
    fields::keep_times(&pipeline.children())?;
    let tee = gst::ElementFactory::make("tee").build()?;
    pipeline.add(&tee)?;
    last.link(&tee)?;
    let tee_pad = tee
        .static_pad("sink")
        .ok_or_else(|| PipelineError::Element("tee has no pad".into()))?;
    Gate::install(gate, &tee_pad, entry);
    let tones = Arc::new(ToneMap::new(
        work.video.video_range,
        tone::peak(
            work.video.mastering_display.as_deref(),
            work.video.content_light_level.as_deref(),
        ),
    ));
    for ((rendition, factory), sink) in work.renditions.iter().zip(sinks) {
        let chain = rendition_chain(&work.video, rendition, factory, work.gop_duration_ms)?;
        let there = pipeline.children();
        let last = append(pipeline, &tee, &chain)?;
        let added = |name: &str| {
            let is_it = |element: &gst::Element| element.factory().is_some_and(|made| made.name() == name);
            let mut children = pipeline.children().into_iter();
            children
                .find(|element| is_it(element) && !there.contains(element))
                .ok_or_else(|| PipelineError::Element(format!("no {name}")))
        };
        if rendition.maps_tones {
            map_tones(&added(TONE_FACTORY)?, tones.clone())?;
        }
        if factory == encoder::AOM_FACTORY {
            let frame_rate = work.video.frame_rate.unwrap_or(FRAME_RATE_DEFAULT);
            key_distance::tell(&added(factory)?, frame_rate, work.gop_duration_ms, ORIGIN_NS)?;
        }
        pipeline.add(&sink.element)?;
        last.link(&sink.element)?;
    }
    // The newest element is the first of the list; those of this stream start from the end.
    let mut added: Vec<gst::Element> = pipeline
        .children()
        .into_iter()
        .filter(|element| !before.contains(element))
        .collect();
    let place = added.iter().position(|element| *element == head).unwrap_or(0);
    added.swap(0, place);
    take(pad, &added)
}

/// Waits until the decoder gives pictures, then moves it to the key frame at or before `start_ns`. The gate is closed until
/// then, so no encoder sees what came before.
fn enter(running: &mut Running<'_>, gate: &Arc<Mutex<Gate>>, start_ns: i64) -> Result<(), PipelineError> {
    let begun = Instant::now();
    let mut first = false;
    running.wait(|| {
        first = lock(gate).seen > 0;
        match first || begun.elapsed() > STUCK_AFTER {
            true => Watched::Enough,
            false => Watched::Moving(0),
        }
    })?;
    if !first {
        return Err(PipelineError::Unexpected("no picture before the chunk".into()));
    }
    let to = u64::try_from(start_ns - ENTRY_EARLY_NS).unwrap_or(0);
    running
        .pipeline
        .seek_simple(
            gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT | gst::SeekFlags::SNAP_BEFORE,
            gst::ClockTime::from_nseconds(to),
        )
        .map_err(|_| PipelineError::Element(format!("can not seek to {} ms", to / 1_000_000)))?;
    Gate::open(gate);
    Ok(())
}

/// What becomes of samples of `codec` before they are stored.
fn shape(codec: VideoCodec) -> Option<Shape> {
    match codec {
        VideoCodec::Av1 => Some(av1_sample),
        VideoCodec::Avc | VideoCodec::Hevc => None,
    }
}

/// A temporal unit as ISO BMFF stores it (AV1-ISOBMFF 2.4): without temporal delimiters. The configuration is made of its
/// sequence header, for `av1parse` puts none into the caps of `obu-stream` (GStreamer 1.22).
fn av1_sample(unit: &[u8]) -> Result<Shaped, String> {
    let ranges = av1::sample_ranges(unit).map_err(|error| error.to_string())?;
    let mut bytes = Vec::with_capacity(unit.len());
    for range in ranges {
        bytes.extend_from_slice(unit.get(range).ok_or("an OBU outside of its unit")?);
    }
    let mut obus = av1::obus(&bytes).map_while(Result::ok);
    let header = obus.find(|obu| obu.obu_type == ObuType::SEQUENCE_HEADER);
    let header = header.and_then(|obu| bytes.get(obu.range));
    let configuration = match header.map(Av1Config::build) {
        None => None,
        Some(Ok(config)) => Some(config.serialise()),
        Some(Err(error)) => return Err(error.to_string()),
    };
    Ok(Shaped { bytes, configuration })
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Encodes a second of test pictures and describes them as they would be published; gives how many there were and how many
/// milliseconds it took.
pub(crate) fn self_test(rendition: &Rendition, factory: &str) -> Result<(u32, u64), PipelineError> {
    const FRAME_COUNT: u32 = 30;
    let encoder = encoder::by_factory(factory)
        .ok_or_else(|| PipelineError::Unexpected(format!("{factory} is not an encoder known here")))?;
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("videotestsrc")
        .property("num-buffers", FRAME_COUNT as i32)
        .build()?;
    pipeline.add(&source)?;
    let mut chain = vec![
        Element::new("videoconvert"),
        Element::caps(format_args!(
            "video/x-raw,format={},width={},height={},framerate=30/1",
            if encoder.device == encoder::Device::Cpu {
                "I420"
            } else {
                "NV12"
            },
            rendition.width,
            rendition.height
        )),
    ];
    chain.extend(encoder::chain(&encoder, rendition, FRAME_COUNT, None));
    let last = append(&pipeline, &source, &chain)?;
    let sink = AppSink::builder().sync(false).build();
    pipeline.add(&sink)?;
    last.link(&sink)?;
    let taken = Arc::new(Mutex::new(Tested::default()));
    let taking = taken.clone();
    let shape = shape(encoder.codec);
    sink.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let mut taken = lock(&taking);
                match shaped(&sample, shape) {
                    Ok(shaped) => {
                        taken.count += 1;
                        taken.configuration = taken.configuration.take().or(shaped.configuration);
                    }
                    Err(error) => taken.failed = Some(error),
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    let begun = Instant::now();
    let mut running = Running::start(&pipeline, gst::State::Playing)?;
    running.wait(|| Watched::Moving(u64::from(lock(&taken).count)))?;
    let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let Tested {
        count,
        configuration,
        failed,
    } = std::mem::take(&mut *lock(&taken));
    if let Some(error) = failed {
        return Err(error);
    }
    if count != FRAME_COUNT {
        return Err(PipelineError::Unexpected(format!(
            "{FRAME_COUNT} pictures went in and {count} came out"
        )));
    }
    let facts = TrackFacts {
        source_track_id: 1,
        timescale: Timescale::MILLIS,
        language: "und".into(),
        label: None,
    };
    let shown = VideoFacts {
        size: Some((rendition.width, rendition.height)),
        ..VideoFacts::default()
    };
    describe_video(encoder.codec, &facts, &configuration.unwrap_or_default(), &shown)
        .map_err(|error| PipelineError::Unexpected(format!("what it makes can not be published: {error}")))?;
    Ok((count, took))
}

/// What came of a test.
#[derive(Default)]
struct Tested {
    count: u32,
    configuration: Option<Vec<u8>>,
    failed: Option<PipelineError>,
}
