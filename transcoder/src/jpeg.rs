//! JPEG files of pictures.

use gstreamer::prelude::*;
use gstreamer::{self as gst, ClockTime};
use gstreamer_app::{AppSink, AppSrc};
use gstreamer_video::{VideoFormat, VideoInfo};

use crate::picture::{PIXEL_SIZE_BYTES, Picture};
use crate::thumbnails::ThumbnailError;

/// Of 100; at 80 the tiles of a film look as they do uncompressed.
const QUALITY: u32 = 80;
/// An encoder that takes longer is not coming back.
const TIMEOUT: ClockTime = ClockTime::from_seconds(30);

/// Encodes `picture`, whose sides are even.
pub(crate) fn encode(picture: &Picture) -> Result<Vec<u8>, ThumbnailError> {
    // JFIF is full-range BT.601 with its chroma halved; the encoder itself would take any range as it comes.
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=picture format=time ! videoconvert ! video/x-raw,format=I420,colorimetry=1:4:0:0 \
         ! jpegenc quality={QUALITY} ! appsink name=file sync=false"
    ))?;
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .map_err(|_| ThumbnailError::Pipeline("no pipeline was built".into()))?;
    let stopped = Stopped(&pipeline);
    let source = pipeline
        .by_name("picture")
        .and_then(|source| source.downcast::<AppSrc>().ok());
    let sink = pipeline
        .by_name("file")
        .and_then(|sink| sink.downcast::<AppSink>().ok());
    let (Some(source), Some(sink)) = (source, sink) else {
        return Err(ThumbnailError::Pipeline("the pipeline is not as described".into()));
    };
    let wrong = |what: &str| ThumbnailError::Pipeline(format!("JPEG: {what}"));
    let size = |length: usize| u32::try_from(length).map_err(|_| wrong("too large"));
    let info = VideoInfo::builder(VideoFormat::Rgb, size(picture.width)?, size(picture.height)?)
        .fps(gst::Fraction::new(0, 1))
        .build()
        .map_err(|_| wrong("a size that is not possible"))?;
    source.set_caps(Some(
        &info.to_caps().map_err(|_| wrong("a format that is not possible"))?,
    ));
    // GStreamer's rows begin at multiples of four bytes.
    let stride = info
        .stride()
        .first()
        .and_then(|stride| usize::try_from(*stride).ok())
        .ok_or_else(|| wrong("no rows"))?;
    let mut bytes = Vec::with_capacity(info.size());
    for row in picture.rgb.chunks_exact(picture.width * PIXEL_SIZE_BYTES) {
        bytes.extend_from_slice(row);
        bytes.resize(bytes.len() + stride - row.len(), 0);
    }
    bytes.resize(info.size(), 0);
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(ClockTime::ZERO);
    }
    pipeline.set_state(gst::State::Playing)?;
    source
        .push_buffer(buffer)
        .map_err(|_| wrong("the encoder takes no picture"))?;
    source.end_of_stream().map_err(|_| wrong("the encoder does not end"))?;
    let sample = sink
        .try_pull_sample(TIMEOUT)
        .ok_or_else(|| wrong("the encoder gives nothing"))?;
    let buffer = sample.buffer().ok_or_else(|| wrong("without data"))?;
    let map = buffer.map_readable().map_err(|_| wrong("unreadable"))?;
    let file = map.as_slice().to_vec();
    drop(stopped);
    Ok(file)
}

/// Stops a pipeline however its user leaves.
struct Stopped<'a>(&'a gst::Pipeline);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        // Nothing is left to be done about a pipeline that can not be stopped: the process ends soon.
        let _ = self.0.set_state(gst::State::Null);
    }
}
