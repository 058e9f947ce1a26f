//! A video file, asked for single pictures: GStreamer finds the demuxer and the decoder.

use std::path::Path;
use std::time::{Duration, Instant};

use gstreamer::prelude::*;
use gstreamer::{self as gst, ClockTime, SeekFlags};
use gstreamer_app::AppSink;
use gstreamer_video::prelude::*;
use gstreamer_video::{VideoFrameRef, VideoInfo};

use crate::picture::Picture;
use crate::thumbnails::ThumbnailError;

/// A picture that does not come within this time never will.
const PICTURE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often errors are looked for while waiting.
const POLL: ClockTime = ClockTime::from_mseconds(100);

/// How far a picture may be from the time it was asked for, before the exact one is decoded instead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance(pub(crate) Duration);

/// An opened video; pictures come out upright, with square samples, in the size it was opened with.
pub(crate) struct Video {
    pipeline: gst::Pipeline,
    sink: AppSink,
}

impl Video {
    /// Opens the only video track of a file; its pictures are scaled to `width × height`.
    pub(crate) fn open(path: &Path, width: u32, height: u32) -> Result<Video, ThumbnailError> {
        // Scaled before it is converted, as there is less to convert then; bilinear2 takes all pixels into account.
        let pipeline = gst::parse::launch(&format!(
            "filesrc name=file ! decodebin ! videoflip video-direction=auto \
             ! videoscale add-borders=false method=bilinear2 ! videoconvert \
             ! video/x-raw,format=RGB,width={width},height={height},pixel-aspect-ratio=1/1 \
             ! appsink name=pictures sync=false max-buffers=2"
        ))?;
        let pipeline = pipeline
            .downcast::<gst::Pipeline>()
            .map_err(|_| ThumbnailError::Pipeline("no pipeline was built".into()))?;
        let file = pipeline.by_name("file");
        let sink = pipeline
            .by_name("pictures")
            .and_then(|sink| sink.downcast::<AppSink>().ok());
        let (Some(file), Some(sink)) = (file, sink) else {
            return Err(ThumbnailError::Pipeline("the pipeline is not as described".into()));
        };
        file.set_property("location", path);
        let video = Video { pipeline, sink };
        video.pipeline.set_state(gst::State::Paused)?;
        video.settle()?;
        Ok(video)
    }

    /// The picture shown at `time`, or a key frame no further from it than `tolerance`; `None` past the end, and
    /// where nothing is shown.
    pub(crate) fn at(&self, time: Duration, tolerance: Tolerance) -> Result<Option<Picture>, ThumbnailError> {
        let found = self.seek(time, SeekFlags::FLUSH | SeekFlags::KEY_UNIT | SeekFlags::SNAP_NEAREST)?;
        if let Some((at, picture)) = found
            && at.is_some_and(|at| at.abs_diff(time) <= tolerance.0)
        {
            return Ok(Some(picture));
        }
        let exact = self.seek(time, SeekFlags::FLUSH | SeekFlags::ACCURATE)?;
        Ok(exact.map(|(_, picture)| picture))
    }

    fn seek(&self, time: Duration, flags: SeekFlags) -> Result<Option<(Option<Duration>, Picture)>, ThumbnailError> {
        let position = ClockTime::from_nseconds(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1));
        self.pipeline
            .seek_simple(flags, position)
            .map_err(|_| ThumbnailError::Seek(time))?;
        let Some(sample) = self.wait_for_preroll()? else {
            return Ok(None);
        };
        Ok(Some((presentation_time(&sample), picture(&sample)?)))
    }

    /// The picture that waits in the sink; `None` at the end of the film, and where an empty edit shows nothing.
    fn wait_for_preroll(&self) -> Result<Option<gst::Sample>, ThumbnailError> {
        self.settle()?;
        Ok(self.sink.try_pull_preroll(POLL))
    }

    /// Waits until the pipeline has come to rest after a start or a seek: at a picture, a gap or the end.
    fn settle(&self) -> Result<(), ThumbnailError> {
        let begun = Instant::now();
        loop {
            let (change, ..) = self.pipeline.state(POLL);
            if let Some(error) = self.error() {
                return Err(error);
            }
            match change? {
                gst::StateChangeSuccess::Async => {}
                _ => return Ok(()),
            }
            if begun.elapsed() > PICTURE_TIMEOUT {
                return Err(ThumbnailError::Stuck);
            }
        }
    }

    /// Plays from the start and hands out each picture with its time, until `take` has had enough: for files in which
    /// nothing can be sought.
    pub(crate) fn each(
        self,
        mut take: impl FnMut(Duration, Picture) -> Result<bool, ThumbnailError>,
    ) -> Result<(), ThumbnailError> {
        self.pipeline.set_state(gst::State::Playing)?;
        let mut waiting_since = Instant::now();
        loop {
            match self.sink.try_pull_sample(POLL) {
                Some(sample) => {
                    waiting_since = Instant::now();
                    let Some(at) = presentation_time(&sample) else { continue };
                    if !take(at, picture(&sample)?)? {
                        return Ok(());
                    }
                }
                None if self.sink.is_eos() => return Ok(()),
                None => {
                    if let Some(error) = self.error() {
                        return Err(error);
                    }
                    if waiting_since.elapsed() > PICTURE_TIMEOUT {
                        return Err(ThumbnailError::Stuck);
                    }
                }
            }
        }
    }

    fn error(&self) -> Option<ThumbnailError> {
        let message = self.pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(ThumbnailError::Pipeline(error.error().to_string())),
            _ => None,
        }
    }
}

impl Drop for Video {
    fn drop(&mut self) {
        // Nothing is left to be done about a pipeline that can not be stopped: the process ends soon.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// When a sample is shown, on the film's own timeline: edit lists are in the segment.
fn presentation_time(sample: &gst::Sample) -> Option<Duration> {
    let time = sample.buffer()?.pts()?;
    let segment = sample.segment()?.downcast_ref::<ClockTime>()?;
    Some(Duration::from_nanos(segment.to_stream_time(time)?.nseconds()))
}

fn picture(sample: &gst::Sample) -> Result<Picture, ThumbnailError> {
    let wrong = |what: &str| ThumbnailError::Pipeline(format!("a picture {what}"));
    let caps = sample.caps().ok_or_else(|| wrong("of unknown format"))?;
    let info = VideoInfo::from_caps(caps).map_err(|_| wrong("of unknown format"))?;
    let buffer = sample.buffer().ok_or_else(|| wrong("without data"))?;
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &info).map_err(|_| wrong("that can not be read"))?;
    let rows = frame.plane_data(0).map_err(|_| wrong("without a plane"))?;
    let stride = frame
        .plane_stride()
        .first()
        .and_then(|stride| usize::try_from(*stride).ok())
        .ok_or_else(|| wrong("with its rows upside down"))?;
    Picture::from_rows(rows, stride, frame.width() as usize, frame.height() as usize)
        .ok_or_else(|| wrong("shorter than its size"))
}
