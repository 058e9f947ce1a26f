//! Fields: pictures are made of them, one of each frame, shown when the frame is.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use gstreamer::prelude::*;
use gstreamer::{self as gst, glib};
use gstreamer_video::prelude::*;
use gstreamer_video::{VideoBufferFlags, VideoInfo, VideoInterlaceMode};

use crate::graph::Element;
use crate::pipeline::{DROPPED, PipelineError, lock};

/// What makes pictures of fields.
const FACTORY: &str = "deinterlace";
/// Ways of doing so, the best first. Those that are not here (`greedyh`, `tomsmocomp`) take the rows of a decoder's pictures
/// for as long as pictures are wide: GStreamer 1.22 makes noise of 720 samples in rows of 768.
const METHODS: [&str; 2] = ["yadif", "vfir"];
/// Times of frames that are remembered; the element looks four fields ahead.
const WAITING_COUNT_MAX: usize = 64;

/// The element, set to the best method that it has here.
pub(crate) fn element() -> Result<Element, PipelineError> {
    let made = gst::ElementFactory::make(FACTORY).build()?;
    let methods = made
        .find_property("method")
        .and_then(|property| glib::EnumClass::with_type(property.value_type()));
    let method = methods
        .and_then(|methods| METHODS.into_iter().find(|name| methods.value_by_nick(name).is_some()))
        .ok_or_else(|| PipelineError::Element(format!("{FACTORY}: no method that is known here")))?;
    Ok(Element::new(FACTORY)
        .with("mode", "auto")
        // One picture of every two fields: as many as the source has.
        .with("fields", "top")
        .with("method", method))
}

/// Sets pictures that come out of `elements`, if one of them is made by [`element`], right in time.
pub(crate) fn keep_times(elements: &[gst::Element]) -> Result<(), PipelineError> {
    let is_it = |element: &&gst::Element| element.factory().is_some_and(|made| made.name() == FACTORY);
    let Some(element) = elements.iter().find(is_it) else {
        return Ok(());
    };
    let pad = |name| {
        element
            .static_pad(name)
            .ok_or_else(|| PipelineError::Element(format!("{FACTORY} has no pad {name}")))
    };
    let times = Arc::new(Mutex::new(Times::default()));
    let coming = times.clone();
    let weak = element.downgrade();
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_FLUSH;
    let is_ordered = Mutex::new(false);
    pad("sink")?.add_probe(kinds, move |pad, info| {
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                lock(&coming).came(buffer.pts());
                let mut is_ordered = lock(&is_ordered);
                if !*is_ordered && is_of_fields(pad, buffer) {
                    *is_ordered = true;
                    // The field that comes first stands for the frame: of the other, the element makes more or fewer pictures.
                    let flags = buffer.video_flags();
                    if let Some(element) = weak.upgrade().filter(|_| !flags.contains(VideoBufferFlags::TFF)) {
                        element.set_property_from_str("fields", "bottom");
                    }
                }
            }
            Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::FlushStop => {
                *lock(&coming) = Times::default();
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
    pad("src")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data else {
            return gst::PadProbeReturn::Ok;
        };
        let Some(time) = buffer.pts() else {
            return gst::PadProbeReturn::Ok;
        };
        match lock(&times).goes(time) {
            None => return DROPPED,
            Some(right) if right != time => buffer.make_mut().set_pts(right),
            Some(_) => {}
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// Whether `buffer` on `pad` is a frame of two fields: all are, or those that say so.
fn is_of_fields(pad: &gst::Pad, buffer: &gst::BufferRef) -> bool {
    let info = pad.current_caps().and_then(|caps| VideoInfo::from_caps(&caps).ok());
    match info.map(|info| info.interlace_mode()) {
        Some(VideoInterlaceMode::Mixed) => buffer.video_flags().contains(VideoBufferFlags::INTERLACED),
        Some(mode) => mode != VideoInterlaceMode::Progressive,
        None => false,
    }
}

/// Times of frames that went in and of which no picture has come out. What comes first has a later frame's time, and what
/// comes last an earlier one's (GStreamer 1.22).
#[derive(Debug, Default)]
struct Times {
    waiting: BTreeSet<gst::ClockTime>,
    last: Option<gst::ClockTime>,
}

impl Times {
    /// A frame goes in.
    fn came(&mut self, time: Option<gst::ClockTime>) {
        self.waiting.extend(time);
        if self.waiting.len() > WAITING_COUNT_MAX {
            self.waiting.pop_first();
        }
    }

    /// When a picture is shown that comes out with `time`; `None` if it is one too many.
    fn goes(&mut self, time: gst::ClockTime) -> Option<gst::ClockTime> {
        let right = match self.last {
            None => self
                .waiting
                .first()
                .copied()
                .filter(|first| *first < time)
                .unwrap_or(time),
            Some(last) if last < time => time,
            // Of each frame one picture: the next frame's, if there is one.
            Some(_) => self.waiting.first().copied()?,
        };
        self.last = Some(right);
        self.waiting.retain(|waiting| *waiting > right);
        Some(right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_has_a_picture_at_its_time() {
        let ms = gst::ClockTime::from_mseconds;
        let check = |came: &[u64], ahead: usize, gone: &[u64], expected: &[u64]| {
            let mut times = Times::default();
            let mut came = came.iter();
            for time in came.by_ref().take(ahead) {
                times.came(Some(ms(*time)));
            }
            let shown: Vec<u64> = gone
                .iter()
                .filter_map(|time| {
                    let right = times.goes(ms(*time));
                    times.came(came.next().map(|time| ms(*time)));
                    right.map(gst::ClockTime::mseconds)
                })
                .collect();
            assert_eq!(shown, expected);
        };
        check(
            &[0, 40, 80, 120, 160],
            3,
            &[40, 40, 80, 120, 120],
            &[0, 40, 80, 120, 160],
        );
        check(&[0, 40, 80], 3, &[0, 40, 80], &[0, 40, 80]);
        // One too many at the end.
        check(&[0, 40, 80], 3, &[40, 40, 80, 80], &[0, 40, 80]);
        // What is repeated in the stream has times between those of frames.
        check(&[0, 50, 83], 2, &[0, 33, 66, 100], &[0, 33, 66, 100]);
    }
}
