//! The MPD of a stored presentation (`@type="static"`), in four addressing modes.
//!
//! Segment URLs are those of HLS wherever the addressing allows, so that caches hold each byte once. Every `S@t` and
//! `S@d` is the segment table's own number: what an MPD says is exactly what `tfdt` and edit list add up to.

use super::images;
use super::sets::Sets;
use super::span::Span;
use super::xml::XmlWriter;
use crate::crypto::signal::NAMESPACES;
use crate::presentation::Presentation;
use crate::protection::Protection;
use crate::time::{MediaTime, Rounding, Timescale};

/// What an MPD is to look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How segments are named.
    pub addressing: Addressing,
    /// How text is carried.
    pub text: TextCoding,
}

/// How an MPD names segments (ISO/IEC 23009-1 5.3.9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Addressing {
    /// SegmentTimeline with `$Number$`.
    #[default]
    TimelineNumber,
    /// SegmentTimeline with `$Time$`.
    TimelineTime,
    /// `$Number$` with `@duration`, where the segments are even enough; a timeline where not.
    Number,
    /// SegmentBase over one virtual file a representation.
    OnDemand,
}

/// How an MPD carries text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TextCoding {
    /// WebVTT in CMAF (ISO/IEC 14496-30).
    #[default]
    Wvtt,
    /// TTML in CMAF (ISO/IEC 14496-30).
    Stpp,
    /// One whole WebVTT file.
    WebVtt,
}

/// DASH-IF's scheme for the name of an asset: Periods that bear the same one show the same film.
const ASSET_ID: &str = "urn:org:dashif:asset-id:2013";

/// The MPD of `presentation`. `base` is what leads from it to the folder of its CMAF representations, with a trailing
/// slash: `v0123456789abcdef/cmaf/`.
pub fn render(presentation: &Presentation, base: &str, options: &Options) -> Vec<u8> {
    write(presentation, base, options, None)
}

/// The same of a protected presentation, with ContentProtection descriptors. Representations under different keys are in
/// AdaptationSets of their own, between which players may switch (ISO/IEC 23009-1 5.3.3.5). Each key period is a Period;
/// all are there from the start, so a player knows every key before it is needed. Segments keep their URLs and numbers.
pub fn render_protected(
    presentation: &Presentation,
    base: &str,
    options: &Options,
    protection: &Protection,
) -> Vec<u8> {
    write(presentation, base, options, Some(protection))
}

fn write(presentation: &Presentation, base: &str, options: &Options, protection: Option<&Protection>) -> Vec<u8> {
    let mut w = XmlWriter::document(8192);
    let profiles = match options.addressing {
        Addressing::OnDemand => "urn:mpeg:dash:profile:isoff-on-demand:2011",
        _ => "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019",
    };
    let longest = presentation
        .representations
        .iter()
        .map(|rep| MediaTime::new(rep.segments.duration_max() as i64, rep.segments.timescale()))
        .max();
    let buffer = longest
        .map_or(2, |longest| longest.to_millis(Rounding::Ceil).max(0) as u64)
        .div_ceil(1000)
        .max(2);
    let mut root = w
        .element("MPD")
        .attribute("xmlns", "urn:mpeg:dash:schema:mpd:2011")
        .attribute("xmlns:scte214", "urn:scte:dash:scte214-extensions");
    if protection.is_some() {
        for (prefix, namespace) in NAMESPACES {
            root = root.attribute(prefix, namespace);
        }
    }
    let end_micros = rounded_micros(presentation.duration);
    root.attribute("profiles", profiles)
        .attribute("type", "static")
        .attribute("mediaPresentationDuration", &duration(end_micros))
        .attribute("minBufferTime", &format!("PT{buffer}S"))
        .children(|w| {
            w.element("ProgramInformation")
                .children(|w| w.element("Title").text(&presentation.title));
            let count = protection.map_or(1, Protection::period_count);
            for period in 0..count {
                let start = |period: usize| match protection.filter(|_| period < count) {
                    Some(protection) => protection.period(period).start(),
                    None if period == 0 => MediaTime::new(0, Timescale::MICROS),
                    None => presentation.duration,
                };
                let span = Span {
                    protection,
                    period,
                    start: start(period),
                    end: start(period + 1),
                    is_only: count == 1,
                };
                write_period(w, presentation, base, options, span);
            }
        });
    w.finish()
}

fn write_period(w: &mut XmlWriter, presentation: &Presentation, base: &str, options: &Options, span: Span<'_>) {
    let start_micros = rounded_micros(span.start);
    let period_micros = rounded_micros(span.end).saturating_sub(start_micros);
    let start = match start_micros {
        0 => "PT0S".to_owned(),
        micros => duration(micros),
    };
    w.element("Period")
        .attribute("id", &span.id())
        .attribute("start", &start)
        .attribute("duration", &duration(period_micros))
        .children(|w| {
            if !span.is_only {
                w.element("AssetIdentifier")
                    .attribute("schemeIdUri", ASSET_ID)
                    .attribute("value", &presentation.version)
                    .empty();
            }
            let mut sets = Sets::new(base, *options, period_micros, span);
            sets.write_video(w, presentation);
            sets.write_audio(w, presentation);
            for text in presentation.texts() {
                sets.write_text(w, text);
            }
            // The on-demand profile knows no segments but those of a SegmentBase (ISO/IEC 23009-1 8.3).
            if let Some(track) = presentation.images()
                && options.addressing != Addressing::OnDemand
            {
                let part = (!span.is_only).then_some((span.start, span.end));
                images::write(w, sets.take_id(), base, track, part);
            }
        });
}

/// `xs:duration` in seconds with microseconds.
fn duration(micros: u64) -> String {
    let time = MediaTime::new(i64::try_from(micros).unwrap_or(i64::MAX), Timescale::MICROS);
    format!("PT{}S", time.display_seconds(6))
}

/// Microseconds, rounded to nearest.
fn rounded_micros(time: MediaTime) -> u64 {
    u64::try_from(time.to_scale(Timescale::MICROS, Rounding::Nearest)).unwrap_or(0)
}
