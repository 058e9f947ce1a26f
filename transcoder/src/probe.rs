//! Looks into a source: opens it, decodes the first of everything, reads off what it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video::{VideoColorRange, VideoInfo, VideoInterlaceMode, VideoTransferFunction};
use packager::codec::{MediaKind, VideoRange};

use crate::caps;
use crate::input::IndexedTrack;
use crate::pipeline::{Decoding, PipelineError, Running, Take, Watched, is_at_work, lock, take};
use crate::source::{AudioSource, Orientation, Refused, SourceInfo, VideoSource};
use crate::worker::Source;

/// Streams of a source that are looked at.
const STREAM_COUNT_MAX: usize = 64;
/// A source that has not shown what it holds after this long never will.
const LOOK_TIMEOUT: Duration = Duration::from_secs(60);
/// After so long without a stream it is looked whether anything is at work still. decodebin loses the error of a demuxer that
/// fails at once: one that comes between the demuxer's start and the end of decodebin's own care for its errors.
const STILL_AFTER: Duration = Duration::from_millis(300);
/// Looks at a source whose errors get lost: on a busy machine one of twenty does.
const LOOK_COUNT_MAX: usize = 5;
/// Containers in which every time can be entered exactly.
const SEEKABLE: [&str; 4] = ["video/quicktime", "video/x-matroska", "video/webm", "audio/x-m4a"];
/// Raw audio beyond this is not film sound.
const CHANNEL_COUNT_MAX: i32 = 16;

/// A stream as it shows itself bit by bit.
#[derive(Default)]
struct Stream {
    caps: Option<gst::Caps>,
    coding: Option<String>,
    language: Option<String>,
    title: Option<String>,
    orientation: Option<Orientation>,
    frame_rate: Option<(u32, u32)>,
    started: bool,
}

/// What has shown itself so far; streams in the order in which they were offered.
#[derive(Default)]
struct Seen {
    streams: Vec<(String, Stream)>,
    refused: Vec<Refused>,
    container: Option<String>,
    codings: BTreeMap<String, String>,
    complete: bool,
}

/// Opens `source` and says what is in it.
pub(crate) fn run(source: &Source<'_>) -> Result<SourceInfo, PipelineError> {
    match source {
        Source::File(path) => {
            let open = |take| {
                let wanted = |caps: &str| ["video/", "audio/", "image/"].iter().any(|kind| caps.starts_with(kind));
                Decoding::of_file(path, wanted, take)
            };
            let (seen, duration_ms, seekable) = look_into(open)?;
            Ok(describe(seen, duration_ms, seekable))
        }
        Source::Tracks(tracks) => Ok(of_tracks(tracks)),
    }
}

/// Looks into one track after the other, so that one that can not be decoded does not hide the others.
fn of_tracks(tracks: &[IndexedTrack]) -> SourceInfo {
    let mut all = Seen::default();
    let mut end_ns = 0;
    for track in tracks {
        let frame_rate = match track.kind() {
            MediaKind::Video => track.frame_rate(),
            _ => None,
        };
        let looked = look_into(|take| Decoding::of_tracks(&[(track, 0)], frame_rate, take));
        let description = &track.input.description;
        let name = || format!("track {} ({})", description.source_track_id, description.codec.name());
        match looked {
            Ok((seen, ..)) => {
                all.refused.extend(seen.refused);
                end_ns = end_ns.max(track.end_ns());
                for (id, mut stream) in seen.streams {
                    let matrix = description.video().and_then(|video| video.matrix);
                    stream.orientation = matrix.and_then(|matrix| Orientation::from_matrix(&matrix));
                    stream.frame_rate = frame_rate;
                    let caps = caps::of(description).unwrap_or_default();
                    all.codings
                        .insert(id.clone(), caps.split(',').next().unwrap_or_default().to_owned());
                    all.streams.push((id, stream));
                }
            }
            Err(error) => all.refused.push(Refused {
                what: name(),
                why: error.to_string(),
            }),
        }
    }
    let mut info = describe(all, u64::try_from(end_ns / 1_000_000).ok(), true);
    info.seekable = true;
    info
}

/// What was seen of a source, how long it lasts in milliseconds, and whether it can be sought in.
type Look = (Seen, Option<u64>, bool);

/// Decodes what `open` opens until it has shown what it is. Where an error got lost it is looked again.
fn look_into(open: impl Fn(Take) -> Result<Decoding, PipelineError>) -> Result<Look, PipelineError> {
    let mut look = 1;
    loop {
        match look_once(&open) {
            Err(PipelineError::GivenUp) if look < LOOK_COUNT_MAX => look += 1,
            looked => return looked,
        }
    }
}

fn look_once(open: impl Fn(Take) -> Result<Decoding, PipelineError>) -> Result<Look, PipelineError> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let taking = seen.clone();
    let decoding = open(Box::new(move |pipeline, pad, id| look(pipeline, pad, id, &taking)))?;
    let decoder = decoding
        .pipeline
        .children()
        .into_iter()
        .find(|element| element.factory().is_some_and(|factory| factory.name() == "decodebin"))
        .ok_or_else(|| PipelineError::Element("no decodebin".into()))?;
    watch(&decoder, &seen);
    let begun = Instant::now();
    // Streams may begin late: what is looked at flows on until all have begun.
    let mut running = Running::start(&decoding.pipeline, gst::State::Playing)?;
    let looked = running.wait(|| {
        let (stream_count, whole) = {
            let seen = lock(&seen);
            let whole = seen.complete && seen.streams.iter().all(|(_, stream)| stream.started);
            (seen.streams.len(), whole)
        };
        match begun.elapsed() {
            _ if whole => Watched::Enough,
            // What has shown itself until now is what there is.
            elapsed if elapsed > LOOK_TIMEOUT => Watched::Enough,
            elapsed if elapsed > STILL_AFTER && stream_count == 0 && !is_at_work(&decoding.pipeline) => Watched::Still,
            _ => Watched::Moving(stream_count as u64),
        }
    });
    if let Err(error) = looked {
        return Err(decoding.failed().unwrap_or(error));
    }
    let duration_ms = decoding
        .pipeline
        .query_duration::<gst::ClockTime>()
        .map(gst::ClockTime::mseconds);
    let mut query = gst::query::Seeking::new(gst::Format::Time);
    let seekable = decoding.pipeline.query(&mut query) && query.result().0;
    drop(running);
    let seen = std::mem::take(&mut *lock(&seen));
    let is_empty = seen.streams.is_empty() && seen.refused.is_empty();
    match is_empty && begun.elapsed() > LOOK_TIMEOUT {
        true => Err(PipelineError::Stuck(LOOK_TIMEOUT)),
        false => Ok((seen, duration_ms, seekable)),
    }
}

/// Hears what decodebin says of the source besides the streams it offers.
fn watch(decoder: &gst::Element, seen: &Arc<Mutex<Seen>>) {
    let heard = seen.clone();
    decoder.connect("unknown-type", false, move |arguments| {
        let caps = arguments.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
        let name = caps.and_then(|caps| caps.structure(0).map(|first| first.name().to_string()));
        let mut seen = lock(&heard);
        if seen.refused.len() < STREAM_COUNT_MAX {
            seen.refused.push(Refused {
                what: format!("stream of {}", name.as_deref().unwrap_or("unknown kind")),
                why: "no decoder for it is installed".into(),
            });
        }
        None
    });
    let heard = seen.clone();
    decoder.connect("autoplug-continue", false, move |arguments| {
        let pad = arguments.get(1).and_then(|pad| pad.get::<gst::Pad>().ok());
        let caps = arguments.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
        let name = caps.and_then(|caps| caps.structure(0).map(|first| first.name().to_string()));
        if let Some(name) = name {
            let mut seen = lock(&heard);
            if seen.container.is_none() {
                seen.container = Some(name.clone());
            }
            // What is coded so comes past before it is decoded: the last name before raw stays.
            if let Some(id) = pad.and_then(|pad| pad.stream_id())
                && seen.codings.len() < STREAM_COUNT_MAX
                && !name.ends_with("/x-raw")
            {
                seen.codings.insert(id.to_string(), name);
            }
        }
        Some(true.to_value())
    });
    let heard = seen.clone();
    decoder.connect("no-more-pads", false, move |_| {
        lock(&heard).complete = true;
        None
    });
}

/// Links a decoded stream to a sink that shows what it is.
fn look(pipeline: &gst::Pipeline, pad: &gst::Pad, id: &str, seen: &Arc<Mutex<Seen>>) -> Result<bool, PipelineError> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let kind = caps
        .structure(0)
        .map(|first| first.name().to_string())
        .unwrap_or_default();
    let is_raw = kind == "video/x-raw" || kind == "audio/x-raw";
    let number = {
        let mut seen = lock(seen);
        if seen.streams.len() >= STREAM_COUNT_MAX {
            return Ok(false);
        }
        if !is_raw {
            // Text is taken over by the packager; what is neither is named.
            if !kind.starts_with("text/") && !kind.starts_with("application/") && !kind.starts_with("subpicture/") {
                seen.refused.push(Refused {
                    what: format!("stream of {kind}"),
                    why: "it is not decoded here".into(),
                });
            }
            return Ok(false);
        }
        let stream = Stream::default();
        seen.streams.push((id.to_owned(), stream));
        seen.streams.len() - 1
    };
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).build()?;
    pipeline.add(&sink)?;
    let shown = seen.clone();
    pad.add_probe(
        gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM,
        move |pad, info| {
            let mut seen = lock(&shown);
            let Some((_, stream)) = seen.streams.get_mut(number) else {
                return gst::PadProbeReturn::Ok;
            };
            if info.buffer().is_some() {
                stream.started = true;
                stream.caps = pad.current_caps();
            }
            match info.event().map(|event| event.view()) {
                Some(gst::EventView::Tag(event)) => note(stream, event.tag()),
                Some(gst::EventView::Eos(_)) => stream.started = true,
                _ => {}
            }
            gst::PadProbeReturn::Ok
        },
    );
    take(pad, &[sink])?;
    Ok(true)
}

fn note(stream: &mut Stream, tags: &gst::TagListRef) {
    if let Some(language) = tags.get::<gst::tags::LanguageCode>() {
        stream.language = Some(language.get().to_owned());
    }
    if let Some(title) = tags.get::<gst::tags::Title>()
        && tags.scope() == gst::TagScope::Stream
    {
        stream.title = Some(title.get().to_owned());
    }
    if let Some(orientation) = tags.get::<gst::tags::ImageOrientation>() {
        stream.orientation = Orientation::from_tag(orientation.get());
    }
}

fn describe(seen: Seen, duration_ms: Option<u64>, seekable: bool) -> SourceInfo {
    let Seen {
        streams,
        mut refused,
        container,
        codings,
        ..
    } = seen;
    let mut videos: Vec<(bool, VideoSource)> = Vec::new();
    let mut audio = Vec::new();
    for (id, mut stream) in streams {
        stream.coding = codings.get(&id).cloned();
        let name = stream.coding.clone().unwrap_or_else(|| "stream".into());
        let Some(caps) = stream.caps.clone() else {
            refused.push(Refused {
                what: name,
                why: "it holds nothing that can be decoded".into(),
            });
            continue;
        };
        match caps.structure(0).map(|first| first.name().as_str()) {
            Some("video/x-raw") => match video(&id, &stream, &caps) {
                Some(video) => videos.push((name.starts_with("image/"), video)),
                None => refused.push(Refused {
                    what: name,
                    why: "its pictures have no format that is known here".into(),
                }),
            },
            _ => match sound(&id, &stream, &caps) {
                Some(sound) => audio.push(sound),
                None => refused.push(Refused {
                    what: name,
                    why: "its channels or sampling rate are out of range".into(),
                }),
            },
        }
    }
    // The largest moving picture; covers and previews are smaller or do not move.
    let best = videos
        .iter()
        .enumerate()
        .max_by_key(|(at, (is_image, video))| {
            let area = u64::from(video.width) * u64::from(video.height);
            (!is_image, area, std::cmp::Reverse(*at))
        })
        .map(|(at, _)| at);
    let mut chosen = None;
    for (at, (_, video)) in videos.into_iter().enumerate() {
        match Some(at) == best {
            true => chosen = Some(video),
            false => refused.push(Refused {
                what: format!("{} of {}x{}", video.coding, video.width, video.height),
                why: "another picture is transcoded".into(),
            }),
        }
    }
    let container = container.unwrap_or_else(|| "unknown".into());
    SourceInfo {
        seekable: seekable && SEEKABLE.contains(&container.as_str()),
        container,
        duration_ms,
        video: chosen,
        audio,
        refused,
    }
}

fn video(id: &str, stream: &Stream, caps: &gst::Caps) -> Option<VideoSource> {
    let info = VideoInfo::from_caps(caps).ok()?;
    let first = caps.structure(0)?;
    let positive = |fraction: gst::Fraction| {
        let (numerator, denominator) = (u32::try_from(fraction.numer()), u32::try_from(fraction.denom()));
        numerator.ok().zip(denominator.ok()).filter(|(n, d)| *n > 0 && *d > 0)
    };
    let colorimetry = info.colorimetry();
    let video_range = match colorimetry.transfer() {
        VideoTransferFunction::Smpte2084 => VideoRange::Pq,
        VideoTransferFunction::AribStdB67 => VideoRange::Hlg,
        _ => VideoRange::Sdr,
    };
    let text = |name: &str| first.get::<String>(name).ok();
    Some(VideoSource {
        stream_id: id.to_owned(),
        coding: stream.coding.clone().unwrap_or_else(|| "video".into()),
        width: info.width(),
        height: info.height(),
        sample_aspect_ratio: positive(info.par()).unwrap_or((1, 1)),
        orientation: stream.orientation.unwrap_or_default(),
        // A rate of more than any screen shows is a clock, not a rate.
        frame_rate: stream.frame_rate.or(positive(info.fps())).filter(|(n, d)| n / d <= 480),
        interlaced: info.interlace_mode() != VideoInterlaceMode::Progressive,
        bit_depth: info.format_info().depth().first().copied().unwrap_or(8),
        video_range,
        colorimetry: match colorimetry.range() {
            VideoColorRange::Unknown => String::new(),
            _ => colorimetry.to_string(),
        },
        mastering_display: text("mastering-display-info"),
        content_light_level: text("content-light-level"),
    })
}

fn sound(id: &str, stream: &Stream, caps: &gst::Caps) -> Option<AudioSource> {
    let first = caps.structure(0)?;
    let channels = first.get::<i32>("channels").ok()?;
    let sample_rate = first.get::<i32>("rate").ok()?;
    if !(1..=CHANNEL_COUNT_MAX).contains(&channels) || !(1_000..=768_000).contains(&sample_rate) {
        return None;
    }
    Some(AudioSource {
        stream_id: id.to_owned(),
        coding: stream.coding.clone().unwrap_or_else(|| "audio".into()),
        channels: u32::try_from(channels).ok()?,
        sample_rate: u32::try_from(sample_rate).ok()?,
        language: stream.language.clone(),
        title: stream.title.clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What decodebin does by chance, when a demuxer fails sooner than decodebin expects.
    #[test]
    fn an_error_that_gets_lost_is_missed() {
        gst::init().unwrap();
        let path = std::env::temp_dir().join(format!("headwater-lost-error-{}.mp4", std::process::id()));
        // A header that is cut off.
        let film = [&b"\0\0\0\x10ftypisom\0\0\0\0\0\0\x10\0moov"[..], &[0; 500]].concat();
        std::fs::write(&path, film).unwrap();
        let look = |lost_count: usize| {
            let looks = Cell::new(0);
            let open = |take| {
                looks.set(looks.get() + 1);
                let decoding = Decoding::of_file(&path, |_| true, take)?;
                if let Some(bus) = decoding.pipeline.bus().filter(|_| looks.get() <= lost_count) {
                    bus.set_sync_handler(|_, message| match message.view() {
                        gst::MessageView::Error(_) => gst::BusSyncReply::Drop,
                        _ => gst::BusSyncReply::Pass,
                    });
                }
                Ok(decoding)
            };
            let error = look_into(open).err().unwrap();
            (error, looks.get())
        };
        let begun = Instant::now();
        // decodebin itself may lose one more.
        let (error, looks) = look(1);
        assert!(matches!(error, PipelineError::Element(_)) && looks > 1, "{error}");
        let (error, looks) = look(usize::MAX);
        assert!(matches!(error, PipelineError::GivenUp), "{error}");
        assert_eq!(looks, LOOK_COUNT_MAX);
        assert!(begun.elapsed() < LOOK_TIMEOUT / 2);
        std::fs::remove_file(&path).unwrap();
    }
}
