//! The AdaptationSet of thumbnails (DASH-IF IOP 4.3 6.2.6, tiled).

use super::xml::XmlWriter;
use crate::images::{ImageTrack, REPRESENTATION_ID};
use crate::time::Timescale;

/// The guidelines' scheme: a segment is a grid of pictures, columns × rows.
const THUMBNAIL_TILE: &str = "http://dashif.org/guidelines/thumbnail_tile";

/// Writes the set with identifier `id`; `base` leads from the MPD to the folder of the CMAF representations.
pub(super) fn write(w: &mut XmlWriter, id: u64, base: &str, track: &ImageTrack) {
    let (width, height) = track.sheet_size();
    w.element("AdaptationSet")
        .number("id", id)
        .attribute("contentType", "image")
        .attribute("mimeType", "image/jpeg")
        .children(|w| {
            w.element("Representation")
                .attribute("id", REPRESENTATION_ID)
                .number("bandwidth", track.bandwidth_bps())
                .number("width", width.into())
                .number("height", height.into())
                .children(|w| {
                    w.element("EssentialProperty")
                        .attribute("schemeIdUri", THUMBNAIL_TILE)
                        .attribute("value", &format!("{}x{}", track.columns, track.rows))
                        .empty();
                    w.element("SegmentTemplate")
                        .number("timescale", Timescale::MILLIS.get().into())
                        .number("duration", track.sheet_duration_ms())
                        .number("startNumber", 1)
                        .attribute("media", &format!("{base}{REPRESENTATION_ID}/$Number$.jpg"))
                        .empty();
                });
        });
}
