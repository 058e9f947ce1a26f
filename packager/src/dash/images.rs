//! The AdaptationSet of thumbnails (DASH-IF IOP 4.3 6.2.6, tiled).

use super::timeline;
use super::xml::XmlWriter;
use crate::images::{ImageTrack, REPRESENTATION_ID};
use crate::time::{MediaTime, Rounding, Timescale};

/// The guidelines' scheme: a segment is a grid of pictures, columns × rows.
const THUMBNAIL_TILE: &str = "http://dashif.org/guidelines/thumbnail_tile";

/// Writes the set with identifier `id`; `base` leads from the MPD to the folder of the CMAF representations. `part` is
/// what the Period shows of the presentation, where it does not show all: sheets go on over Periods, which one duration
/// can not say.
pub(super) fn write(w: &mut XmlWriter, id: u64, base: &str, track: &ImageTrack, part: Option<(MediaTime, MediaTime)>) {
    let sheet_ms = track.sheet_duration_ms();
    let part_ms = part.map(|(start, end)| {
        let millis = |time: MediaTime| u64::try_from(time.to_millis(Rounding::Nearest)).unwrap_or(0);
        (millis(start), millis(end))
    });
    let sheets = part_ms.map(|(start_ms, end_ms)| {
        let count = track.sheets.len() as u64;
        let first = (start_ms / sheet_ms.max(1)).min(count);
        (first, end_ms.div_ceil(sheet_ms.max(1)).min(count))
    });
    if sheets.is_some_and(|(first, end)| first >= end) {
        return;
    }
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
                    let tag = w
                        .element("SegmentTemplate")
                        .number("timescale", Timescale::MILLIS.get().into());
                    let media = format!("{base}{REPRESENTATION_ID}/$Number$.jpg");
                    match (part_ms, sheets) {
                        (Some((start_ms, _)), Some((first, end))) => tag
                            .number("presentationTimeOffset", start_ms)
                            .number("startNumber", first + 1)
                            .attribute("media", &media)
                            .children(|w| timeline::write(w, (first..end).map(|sheet| (sheet * sheet_ms, sheet_ms)))),
                        _ => tag
                            .number("duration", sheet_ms)
                            .number("startNumber", 1)
                            .attribute("media", &media)
                            .empty(),
                    }
                });
        });
}
