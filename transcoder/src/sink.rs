//! Where coded samples leave GStreamer: an appsink, whose samples become two files and some facts.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use gstreamer as gst;
use gstreamer_app::{AppSink, AppSinkCallbacks};
use packager::limits::SAMPLE_SIZE_BYTES_MAX;

use crate::order::{samples_name, table_name};
use crate::pipeline::{PipelineError, lock, stream_time};
use crate::table::CodedSample;

/// Bytes gathered before they are written.
const WRITE_SIZE_BYTES: usize = 1 << 20;

/// What becomes of a sample's bytes before they are written.
pub(crate) type Shape = fn(&[u8]) -> Result<Shaped, String>;

/// A sample as it is written.
pub(crate) struct Shaped {
    pub(crate) bytes: Vec<u8>,
    /// What decoders are set up with, where the sample says so.
    pub(crate) configuration: Option<Vec<u8>>,
}

/// What an encoder gave, as it is written. Without a shape caps say how decoders are set up.
pub(crate) fn shaped(sample: &gst::Sample, shape: Option<Shape>) -> Result<Shaped, PipelineError> {
    let buffer = sample
        .buffer()
        .ok_or_else(|| PipelineError::Unexpected("the encoder gave a sample without data".into()))?;
    let map = buffer.map_readable()?;
    if let Some(shape) = shape {
        return shape(map.as_slice()).map_err(PipelineError::Unexpected);
    }
    let configuration = sample
        .caps()
        .and_then(|caps| caps.structure(0))
        .and_then(|first| first.get::<gst::Buffer>("codec_data").ok())
        .and_then(|data| data.map_readable().ok().map(|map| map.to_vec()));
    Ok(Shaped {
        bytes: map.to_vec(),
        configuration,
    })
}

/// One rendition's samples.
#[derive(Clone)]
pub(crate) struct TrackSink {
    pub(crate) element: AppSink,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    samples: BufWriter<File>,
    table: BufWriter<File>,
    codec_data: Option<Vec<u8>>,
    count: u64,
    time_ns: i64,
    shape: Option<Shape>,
    shift_ns: i64,
    failed: Option<PipelineError>,
}

impl TrackSink {
    /// A sink that writes `r{number}.samples` and `r{number}.table` into `folder`. What comes has the source's times, to
    /// which `shift_ns` was added.
    pub(crate) fn create(
        folder: &Path,
        number: usize,
        shape: Option<Shape>,
        shift_ns: i64,
    ) -> Result<TrackSink, PipelineError> {
        let create = |name| -> std::io::Result<BufWriter<File>> {
            Ok(BufWriter::with_capacity(
                WRITE_SIZE_BYTES,
                File::create_new(folder.join(name))?,
            ))
        };
        let inner = Arc::new(Mutex::new(Inner {
            samples: create(samples_name(number))?,
            table: create(table_name(number))?,
            codec_data: None,
            count: 0,
            time_ns: 0,
            shape,
            shift_ns,
            failed: None,
        }));
        let element = AppSink::builder().sync(false).max_buffers(16).build();
        let taking = inner.clone();
        element.set_callbacks(
            AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    let mut inner = lock(&taking);
                    inner.push(&sample).map_err(|error| {
                        gst::element_error!(sink, gst::ResourceError::Write, ("{error}"));
                        inner.failed.get_or_insert(error);
                        gst::FlowError::Error
                    })?;
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        Ok(TrackSink { element, inner })
    }

    /// Samples so far, and the time on the source's timeline of the last one.
    pub(crate) fn progress(&self) -> (u64, i64) {
        let inner = lock(&self.inner);
        (inner.count, inner.time_ns)
    }

    /// What went wrong here.
    pub(crate) fn failed(&self) -> Option<PipelineError> {
        lock(&self.inner).failed.take()
    }

    /// Makes the files last; gives configuration and sample count.
    pub(crate) fn finish(&self) -> Result<(Vec<u8>, u64), PipelineError> {
        let mut inner = lock(&self.inner);
        let Inner { samples, table, .. } = &mut *inner;
        for file in [samples, table] {
            file.flush()?;
            file.get_ref().sync_all()?;
        }
        let codec_data = inner.codec_data.take().unwrap_or_default();
        Ok((codec_data, inner.count))
    }
}

impl Inner {
    fn push(&mut self, sample: &gst::Sample) -> Result<(), PipelineError> {
        let unexpected = |what: &str| PipelineError::Unexpected(format!("the encoder gave a sample {what}"));
        let buffer = sample.buffer().ok_or_else(|| unexpected("without data"))?;
        if buffer.flags().contains(gst::BufferFlags::HEADER) && buffer.pts().is_none() {
            return Ok(());
        }
        let Shaped { bytes, configuration } = shaped(sample, self.shape)?;
        match (&self.codec_data, configuration) {
            (None, Some(new)) => self.codec_data = Some(new),
            (Some(old), Some(new)) if *old != new => {
                return Err(unexpected("with another configuration than the first"));
            }
            _ => {}
        }
        let size = u32::try_from(bytes.len())
            .ok()
            .filter(|size| (1..=SAMPLE_SIZE_BYTES_MAX).contains(size))
            .ok_or_else(|| unexpected(&format!("of {} bytes", bytes.len())))?;
        let time = buffer.pts().ok_or_else(|| unexpected("without a time"))?;
        let segment = sample
            .segment()
            .and_then(|segment| segment.downcast_ref::<gst::ClockTime>())
            .ok_or_else(|| unexpected("outside of time"))?;
        let presentation_ns = stream_time(segment, time).ok_or_else(|| unexpected("outside of the film"))?;
        let presentation_ns = presentation_ns.saturating_sub(self.shift_ns);
        let row = CodedSample {
            presentation_ns,
            duration_ns: buffer.duration().map_or(0, gst::ClockTime::nseconds),
            size,
            sync: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
        };
        self.samples.write_all(&bytes)?;
        self.table.write_all(&row.to_row())?;
        self.count += 1;
        self.time_ns = self.time_ns.max(presentation_ns);
        Ok(())
    }
}
