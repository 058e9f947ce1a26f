//! Samples of an indexed track as a source of GStreamer: an appsrc that is given one sample after the other.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::str::FromStr;

use gstreamer::{self as gst, ClockTime};
use gstreamer_app::{AppSrc, AppSrcCallbacks};
use gstreamer_video::{
    VideoColorMatrix, VideoColorPrimaries, VideoColorRange, VideoColorimetry, VideoTransferFunction,
};
use packager::codec::ColorInfo;
use packager::index::Sample;

use crate::caps;
use crate::input::{IndexedTrack, nanoseconds};
use crate::pipeline::PipelineError;

/// Samples looked up at once.
const LOOKED_UP_COUNT: u32 = 64;

/// A source of the samples of `track`, in decode order from `first` on. Its times are shifted by
/// [`IndexedTrack::shift_ns`].
pub(crate) fn source(
    track: &IndexedTrack,
    first: u32,
    frame_rate: Option<(u32, u32)>,
) -> Result<AppSrc, PipelineError> {
    let caps = caps_of(track, frame_rate)?;
    let source = AppSrc::builder()
        .caps(&caps)
        .format(gst::Format::Time)
        .is_live(false)
        .block(false)
        .build();
    let mut feed = Feed {
        file: File::open(&track.input.path)?,
        track: track.clone(),
        shift_ns: track.shift_ns(),
        next: first,
        waiting: VecDeque::new(),
    };
    source.set_callbacks(
        AppSrcCallbacks::builder()
            .need_data(move |source, _| {
                // What is refused is refused because the pipeline stops.
                let _ = match feed.next() {
                    Ok(Some(buffer)) => source.push_buffer(buffer),
                    Ok(None) => source.end_of_stream(),
                    Err(error) => {
                        gst::element_error!(source, gst::ResourceError::Read, ("{error}"));
                        source.end_of_stream()
                    }
                };
            })
            .build(),
    );
    Ok(source)
}

fn caps_of(track: &IndexedTrack, frame_rate: Option<(u32, u32)>) -> Result<gst::Caps, PipelineError> {
    let description = &track.input.description;
    let codec = description.codec.name();
    let text =
        caps::of(description).ok_or_else(|| PipelineError::Unexpected(format!("{codec} is not decoded here")))?;
    let mut caps =
        gst::Caps::from_str(&text).map_err(|_| PipelineError::Unexpected(format!("{codec}: no caps: {text}")))?;
    if let (Some(video), Some(fields)) = (
        description.video(),
        caps.get_mut().and_then(|caps| caps.structure_mut(0)),
    ) {
        let signed = |number: u32| i32::try_from(number).ok();
        if let Some((numerator, denominator)) = frame_rate
            && let (Some(numerator), Some(denominator)) = (signed(numerator), signed(denominator))
        {
            fields.set("framerate", gst::Fraction::new(numerator, denominator));
        }
        if let Some(color) = video.color.filter(ColorInfo::is_described) {
            fields.set("colorimetry", colorimetry(&color));
        }
    }
    Ok(caps)
}

fn colorimetry(color: &ColorInfo) -> String {
    let range = match color.full_range {
        true => VideoColorRange::Range0_255,
        false => VideoColorRange::Range16_235,
    };
    VideoColorimetry::new(
        range,
        VideoColorMatrix::from_iso(color.matrix.into()),
        VideoTransferFunction::from_iso(color.transfer.into()),
        VideoColorPrimaries::from_iso(color.primaries.into()),
    )
    .to_string()
}

struct Feed {
    file: File,
    track: IndexedTrack,
    shift_ns: i64,
    next: u32,
    waiting: VecDeque<Sample>,
}

impl Feed {
    /// The next sample with its times; `None` after the last.
    fn next(&mut self) -> std::io::Result<Option<gst::Buffer>> {
        if self.waiting.is_empty() {
            let end = self.next.saturating_add(LOOKED_UP_COUNT);
            self.waiting.extend(self.track.index.samples(self.next..end));
            self.next = end;
        }
        let Some(sample) = self.waiting.pop_front() else {
            return Ok(None);
        };
        let mut bytes = vec![0; sample.size as usize];
        self.file
            .read_exact_at(&mut bytes, sample.offset)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => std::io::Error::other(format!(
                    "the source ends before a sample at byte {}: it was cut off",
                    sample.offset
                )),
                _ => error,
            })?;
        let index = &self.track.index;
        let scale = index.timescale();
        let shown = self.time(index.presentation_time(&sample));
        let decoded = self.time(self.track.decode_ticks(sample.decode_time));
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(shown);
            buffer.set_dts(decoded.min(shown));
            buffer.set_duration(ClockTime::from_nseconds(
                nanoseconds(sample.duration.into(), scale).unsigned_abs(),
            ));
            if !sample.sync {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        Ok(Some(buffer))
    }

    fn time(&self, ticks: i64) -> Option<ClockTime> {
        let time = nanoseconds(ticks, self.track.index.timescale()).checked_add(self.shift_ns)?;
        u64::try_from(time).ok().map(ClockTime::from_nseconds)
    }
}
