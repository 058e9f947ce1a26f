//! The MPD of a stored presentation (`@type="static"`), in four addressing modes.
//!
//! Segment URLs are those of HLS wherever the addressing allows, so that caches hold each byte once. Every `S@t` and
//! `S@d` is the segment table's own number: what an MPD says is exactly what `tfdt` and edit list add up to.

use super::xml::{StartTag, XmlWriter};
use super::{images, timeline};
use crate::codec::{Codec, MediaKind};
use crate::crypto::KeyId;
use crate::crypto::signal::NAMESPACES;
use crate::form::Form;
use crate::isobmff::on_demand;
use crate::presentation::{Bandwidth, Presentation, Representation, Role};
use crate::protection::{Protection, TrackProtection};
use crate::time::{MediaTime, Rounding, Timescale};
use crate::track::AudioDescription;

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

const ROLE: &str = "urn:mpeg:dash:role:2011";
const SET_SWITCHING: &str = "urn:mpeg:dash:adaptation-set-switching:2016";

/// The MPD of `presentation`. `base` is what leads from it to the folder of its CMAF representations, with a trailing
/// slash: `v0123456789abcdef/cmaf/`.
pub fn render(presentation: &Presentation, base: &str, options: &Options) -> Vec<u8> {
    write(presentation, base, options, None)
}

/// The same of a protected presentation, with ContentProtection descriptors. Representations under different keys are in
/// AdaptationSets of their own, between which players may switch (ISO/IEC 23009-1 5.3.3.5).
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
    root.attribute("profiles", profiles)
        .attribute("type", "static")
        .attribute("mediaPresentationDuration", &duration(presentation.duration))
        .attribute("minBufferTime", &format!("PT{buffer}S"))
        .children(|w| {
            w.element("ProgramInformation")
                .children(|w| w.element("Title").text(&presentation.title));
            let period = w.element("Period").attribute("id", "1").attribute("start", "PT0S");
            period
                .attribute("duration", &duration(presentation.duration))
                .children(|w| {
                    let mut sets = Sets {
                        next_id: 1,
                        base,
                        options: *options,
                        period_micros: rounded_micros(presentation.duration),
                        protection,
                    };
                    sets.write_video(w, presentation);
                    sets.write_audio(w, presentation);
                    for text in presentation.texts() {
                        sets.write_text(w, text);
                    }
                    // The on-demand profile knows no segments but those of a SegmentBase (ISO/IEC 23009-1 8.3).
                    if let Some(track) = presentation.images()
                        && options.addressing != Addressing::OnDemand
                    {
                        images::write(w, sets.take_id(), base, track);
                    }
                });
        });
    w.finish()
}

/// `xs:duration` in seconds with microseconds, rounded to nearest.
fn duration(time: MediaTime) -> String {
    format!("PT{}S", time.display_seconds(6))
}

/// What [`duration`] writes, in microseconds.
fn rounded_micros(time: MediaTime) -> u64 {
    u64::try_from(time.to_scale(Timescale::MICROS, Rounding::Nearest)).unwrap_or(0)
}

/// Writes AdaptationSets and numbers them.
struct Sets<'a> {
    next_id: u64,
    base: &'a str,
    options: Options,
    /// Duration of the period, as it is written.
    period_micros: u64,
    protection: Option<&'a Protection>,
}

impl Sets<'_> {
    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn open<'w>(&self, w: &'w mut XmlWriter, id: u64, content_type: &str, mime_type: &str) -> StartTag<'w> {
        let tag = w
            .element("AdaptationSet")
            .number("id", id)
            .attribute("contentType", content_type);
        let tag = tag.attribute("mimeType", mime_type);
        match self.options.addressing {
            Addressing::OnDemand => tag
                .attribute("subsegmentAlignment", "true")
                .number("subsegmentStartsWithSAP", 1),
            _ => tag.attribute("segmentAlignment", "true").number("startWithSAP", 1),
        }
    }

    /// What served bytes are.
    fn form(&self) -> Form {
        self.protection.map_or(Form::Cmaf, Protection::form)
    }

    fn key_of(&self, representation: &Representation) -> Option<KeyId> {
        Some(self.protection?.track(representation)?.key_id)
    }

    /// ContentProtection descriptors of a set, all of which is under one key.
    fn write_protection(&self, w: &mut XmlWriter, set: &[&Representation]) {
        let track = set.first().and_then(|first| self.protection?.track(first));
        for descriptor in track.map(TrackProtection::descriptors).unwrap_or_default() {
            let tag = attributes(w.element("ContentProtection"), &descriptor.attributes);
            if descriptor.children.is_empty() {
                tag.empty();
                continue;
            }
            tag.children(|w| {
                for child in &descriptor.children {
                    attributes(w.element(child.name), &child.attributes).text(&child.text);
                }
            });
        }
    }

    /// The parts of `set` that are under one key each, in order.
    fn split_by_key<'r>(&self, set: Vec<&'r Representation>) -> Vec<Vec<&'r Representation>> {
        let mut parts: Vec<Vec<&Representation>> = Vec::new();
        for representation in set {
            let key = self.key_of(representation);
            match parts
                .iter_mut()
                .find(|part| part.first().is_some_and(|first| self.key_of(first) == key))
            {
                Some(part) => part.push(representation),
                None => parts.push(vec![representation]),
            }
        }
        parts
    }

    fn write_video(&mut self, w: &mut XmlWriter, presentation: &Presentation) {
        let mut main_sets = Vec::new();
        for set in presentation.video_sets(self.form()) {
            let parts = self.split_by_key(set);
            let first_id = self.next_id;
            self.next_id += parts.len() as u64;
            let ids: Vec<u64> = (first_id..self.next_id).collect();
            for (id, part) in ids.iter().copied().zip(parts) {
                let others = ids.iter().filter(|other| **other != id).map(u64::to_string);
                let others = others.collect::<Vec<_>>().join(",");
                self.write_video_set(w, id, &part, &others);
                main_sets.push((id, part));
            }
        }
        if matches!(
            self.options.addressing,
            Addressing::TimelineNumber | Addressing::TimelineTime
        ) {
            for (main_id, set) in main_sets {
                self.write_trick(w, main_id, &set);
            }
        }
    }

    /// One set of video under one key; `others` names the sets that players may switch to.
    fn write_video_set(&self, w: &mut XmlWriter, id: u64, set: &[&Representation], others: &str) {
        let even = self.is_even(set);
        let sizes = || {
            set.iter()
                .filter_map(|rep| rep.video().map(|video| (video.width, video.height)))
        };
        let mut tag = self.open(w, id, "video", "video/mp4");
        tag = tag.number("maxWidth", sizes().map(|size| size.0).max().unwrap_or(0).into());
        tag = tag.number("maxHeight", sizes().map(|size| size.1).max().unwrap_or(0).into());
        if let Some((width, height)) = set
            .first()
            .and_then(|rep| rep.video())
            .map(|video| video.display_size())
        {
            let divisor = greatest_common_divisor(width, height).max(1);
            tag = tag.attribute("par", &format!("{}:{}", width / divisor, height / divisor));
        }
        let fastest = set
            .iter()
            .filter_map(|rep| rep.frame_rate())
            .max_by_key(|(n, d)| u64::from(*n) * 1001 / u64::from(*d));
        if let Some((numerator, denominator)) = fastest {
            tag = frame_rate(tag, "maxFrameRate", numerator, denominator);
        }
        tag.children(|w| {
            self.write_protection(w, set);
            if let Some(color) = set.first().and_then(|rep| rep.video()).and_then(|video| video.color) {
                // Players that do not know a transfer function must not take HDR for SDR.
                let essential = if matches!(color.transfer, 16 | 18) {
                    "EssentialProperty"
                } else {
                    "SupplementalProperty"
                };
                for (scheme, value) in [
                    ("urn:mpeg:mpegB:cicp:ColourPrimaries", color.primaries),
                    ("urn:mpeg:mpegB:cicp:TransferCharacteristics", color.transfer),
                    ("urn:mpeg:mpegB:cicp:MatrixCoefficients", color.matrix),
                ] {
                    if value != 2 {
                        descriptor(w, essential, scheme, &value.to_string());
                    }
                }
            }
            if !others.is_empty() {
                descriptor(w, "SupplementalProperty", SET_SWITCHING, others);
            }
            descriptor(w, "Role", ROLE, "main");
            for rep in set {
                self.write_representation(w, rep, even, |tag| video_attributes(tag, rep), |_| {});
            }
        });
    }

    /// Trick-play frames of a set (DASH-IF IOP, trick mode): only sync samples, one a segment.
    fn write_trick(&mut self, w: &mut XmlWriter, main_id: u64, set: &[&Representation]) {
        if set.iter().all(|rep| rep.trick_bandwidth().is_none()) {
            return;
        }
        let id = self.take_id();
        let tag = self.open(w, id, "video", "video/mp4");
        tag.attribute("codingDependency", "false").children(|w| {
            self.write_protection(w, set);
            descriptor(
                w,
                "EssentialProperty",
                "http://dashif.org/guidelines/trickmode",
                &main_id.to_string(),
            );
            for rep in set {
                let Some(bandwidth) = rep.trick_bandwidth() else {
                    continue;
                };
                let tag = w
                    .element("Representation")
                    .attribute("id", &format!("{}-iframes", rep.id));
                let tag = video_attributes(
                    tag.number("bandwidth", bandwidth_bps(bandwidth))
                        .attribute("codecs", rep.rfc6381()),
                    rep,
                );
                tag.attribute("maxPlayoutRate", "16").children(|w| {
                    w.element("SegmentTemplate")
                        .number("timescale", rep.segments.timescale().get().into())
                        .number("startNumber", 1)
                        .attribute("initialization", &format!("{}{}/init.mp4", self.base, rep.id))
                        .attribute("media", &format!("{}{}/iframe-$Number$.m4s", self.base, rep.id))
                        .children(|w| {
                            timeline::write(w, rep.trick_frames.iter().map(|frame| (frame.start, frame.duration)))
                        });
                });
            }
        });
    }

    fn write_audio(&mut self, w: &mut XmlWriter, presentation: &Presentation) {
        let mut sets: Vec<Vec<&Representation>> = Vec::new();
        for rep in presentation.audio_groups(self.form()).into_iter().flatten() {
            let facts = |rep: &'_ Representation| (rep.codec(), channel_count(rep), self.key_of(rep));
            let same = |first: &Representation| {
                facts(first) == facts(rep)
                    && (&first.language, &first.roles, &first.label) == (&rep.language, &rep.roles, &rep.label)
            };
            match sets.iter_mut().find(|set| set.first().is_some_and(|first| same(first))) {
                Some(set) => set.push(rep),
                None => sets.push(vec![rep]),
            }
        }
        for set in sets {
            let Some(first) = set.first() else { continue };
            let id = self.take_id();
            let even = self.is_even(&set);
            let tag = language(self.open(w, id, "audio", "audio/mp4"), first);
            tag.children(|w| {
                // The order is the schema's (ISO/IEC 23009-1 5.3.7.3, 5.3.3.3).
                self.write_protection(w, &set);
                label(w, first);
                accessibility(w, first);
                roles(w, first);
                for rep in &set {
                    let Some(audio) = rep.track().and_then(|track| track.description.audio()) else {
                        continue;
                    };
                    self.write_representation(
                        w,
                        rep,
                        even,
                        |tag| tag.number("audioSamplingRate", audio.sample_rate.into()),
                        |w| audio_channels(w, rep.codec(), audio),
                    );
                }
            });
        }
    }

    fn write_text(&mut self, w: &mut XmlWriter, text: &Representation) {
        let id = self.take_id();
        let whole = self.options.text == TextCoding::WebVtt;
        let mime_type = if whole { "text/vtt" } else { "application/mp4" };
        let tag = match whole {
            true => w
                .element("AdaptationSet")
                .number("id", id)
                .attribute("contentType", "text")
                .attribute("mimeType", mime_type),
            false => self.open(w, id, "text", mime_type),
        };
        language(tag, text).children(|w| {
            label(w, text);
            accessibility(w, text);
            roles(w, text);
            if whole {
                let bandwidth = bandwidth_bps(text.bandwidth(self.form()));
                w.element("Representation")
                    .attribute("id", &text.id)
                    .number("bandwidth", bandwidth)
                    .children(|w| {
                        w.element("BaseURL").text(&format!("{}{}/text.vtt", self.base, text.id));
                    });
            } else {
                self.write_representation(w, text, self.is_even(&[text]), |tag| tag, |_| {});
            }
        });
    }

    fn write_representation(
        &self,
        w: &mut XmlWriter,
        rep: &Representation,
        even: bool,
        attributes: impl for<'t> FnOnce(StartTag<'t>) -> StartTag<'t>,
        descriptors: impl FnOnce(&mut XmlWriter),
    ) {
        let stpp = rep.kind() == MediaKind::Text && self.options.text == TextCoding::Stpp;
        let id = if stpp {
            format!("{}-stpp", rep.id)
        } else {
            rep.id.clone()
        };
        let codecs = if stpp { "stpp.ttml.im1t" } else { rep.rfc6381() };
        let tag = w.element("Representation").attribute("id", &id);
        let tag = tag
            .number("bandwidth", bandwidth_bps(rep.bandwidth(self.form())))
            .attribute("codecs", codecs);
        let supplemental = rep.video().and_then(|video| video.supplemental_codecs.as_ref());
        let tag = tag.optional("scte214:supplementalCodecs", supplemental.map(|s| s.rfc6381.as_str()));
        let tag = tag.optional("scte214:supplementalProfiles", supplemental.map(|s| s.brand.as_str()));
        attributes(tag).children(|w| {
            descriptors(w);
            match self.options.addressing {
                Addressing::OnDemand => self.write_segment_base(w, rep, &id),
                _ => self.write_segment_template(w, rep, &id, even),
            }
        });
    }

    /// The one duration of a representation's segments, where it is asked for and exists.
    fn nominal_duration(&self, rep: &Representation) -> Option<u64> {
        if self.options.addressing != Addressing::Number {
            return None;
        }
        let segments = rep.segments.segments().iter();
        let rows: Vec<_> = segments.map(|segment| (segment.start, segment.duration)).collect();
        timeline::nominal_duration(&rows, rep.segments.timescale(), self.period_micros)
    }

    /// Whether one duration will do in all of an AdaptationSet, which has to keep to one way of addressing.
    fn is_even(&self, set: &[&Representation]) -> bool {
        set.iter().all(|rep| self.nominal_duration(rep).is_some())
    }

    fn write_segment_template(&self, w: &mut XmlWriter, rep: &Representation, id: &str, even: bool) {
        let rows = || {
            rep.segments
                .segments()
                .iter()
                .map(|segment| (segment.start, segment.duration))
        };
        let nominal = self.nominal_duration(rep).filter(|_| even);
        if self.options.addressing == Addressing::Number && nominal.is_none() {
            w.comment("segments too uneven for one @duration (ISO/IEC 23009-1 7.2.1): a timeline instead");
        }
        let media = match self.options.addressing {
            Addressing::TimelineTime => format!("{}{id}/t$Time$.m4s", self.base),
            _ => format!("{}{id}/$Number$.m4s", self.base),
        };
        let tag = w
            .element("SegmentTemplate")
            .number("timescale", rep.segments.timescale().get().into());
        let tag = match nominal {
            Some(duration) => tag.number("duration", duration),
            None => tag,
        };
        let tag = tag
            .number("startNumber", 1)
            .attribute("initialization", &format!("{}{id}/init.mp4", self.base));
        let tag = tag.attribute("media", &media);
        match nominal {
            Some(_) => tag.empty(),
            None => tag.children(|w| timeline::write(w, rows())),
        }
    }

    fn write_segment_base(&self, w: &mut XmlWriter, rep: &Representation, id: &str) {
        let (header, index) = on_demand::head_sizes(rep, text_samples(self.options.text));
        w.element("BaseURL").text(&format!("{}{id}/media.mp4", self.base));
        w.element("SegmentBase")
            .number("timescale", rep.segments.timescale().get().into())
            .pair("indexRange", (header, b'-', (header + index).saturating_sub(1)))
            .attribute("indexRangeExact", "true")
            .children(|w| {
                w.element("Initialization")
                    .pair("range", (0, b'-', header.saturating_sub(1)))
                    .empty()
            });
    }
}

fn attributes<'t>(tag: StartTag<'t>, pairs: &[(&'static str, String)]) -> StartTag<'t> {
    pairs.iter().fold(tag, |tag, (name, value)| tag.attribute(name, value))
}

/// What `@bandwidth` can say, which is an `xs:unsignedInt` (ISO/IEC 23009-1 5.3.5.3): what lasts next to nothing has more
/// bits a second than that.
fn bandwidth_bps(measured: Bandwidth) -> u64 {
    measured.peak_bps.min(u32::MAX.into())
}

fn descriptor(w: &mut XmlWriter, element: &'static str, scheme: &str, value: &str) {
    w.element(element)
        .attribute("schemeIdUri", scheme)
        .attribute("value", value)
        .empty();
}

fn video_attributes<'t>(tag: StartTag<'t>, rep: &Representation) -> StartTag<'t> {
    let Some(video) = rep.video() else { return tag };
    let tag = tag
        .number("width", video.width.into())
        .number("height", video.height.into());
    let (horizontal, vertical) = video.sample_aspect_ratio;
    let tag = tag.pair("sar", (horizontal.into(), b':', vertical.into()));
    match rep.frame_rate() {
        Some((numerator, denominator)) => frame_rate(tag, "frameRate", numerator, denominator),
        None => tag,
    }
}

fn frame_rate<'t>(tag: StartTag<'t>, name: &str, numerator: u32, denominator: u32) -> StartTag<'t> {
    match denominator {
        1 => tag.number(name, numerator.into()),
        _ => tag.pair(name, (numerator.into(), b'/', denominator.into())),
    }
}

fn language<'t>(tag: StartTag<'t>, rep: &Representation) -> StartTag<'t> {
    // What is no `xs:language` would make the whole document invalid.
    let is_part = |(at, part): (usize, &str)| {
        (1..=8).contains(&part.len())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit())
    };
    match rep.language.as_str() {
        "und" => tag,
        language if language.split('-').enumerate().all(is_part) => tag.attribute("lang", language),
        _ => tag,
    }
}

fn label(w: &mut XmlWriter, rep: &Representation) {
    w.element("Label").text(&rep.label);
}

fn roles(w: &mut XmlWriter, rep: &Representation) {
    for role in &rep.roles {
        descriptor(w, "Role", ROLE, role.name());
    }
    // The default of several languages is the one with the role main.
    if rep.default && rep.kind() == MediaKind::Text && !rep.roles.contains(&Role::Main) {
        descriptor(w, "Role", ROLE, Role::Main.name());
    }
}

/// The TV-Anytime audio purpose codes that DASH-IF uses for accessibility.
fn accessibility(w: &mut XmlWriter, rep: &Representation) {
    for role in &rep.roles {
        let value = match role {
            Role::Description => "1",
            Role::Caption => "2",
            Role::EnhancedAudioIntelligibility => "8",
            _ => continue,
        };
        descriptor(w, "Accessibility", "urn:tva:metadata:cs:AudioPurposeCS:2007", value);
    }
}

fn channel_count(rep: &Representation) -> Option<u16> {
    rep.track()
        .and_then(|track| track.description.audio())
        .map(|audio| audio.channel_count)
}

fn audio_channels(w: &mut XmlWriter, codec: Codec, audio: &AudioDescription) {
    // ISO/IEC 23091-3 table 1 by channel count; the Dolby codings have a scheme of their own (bits from L to LFE,
    // ETSI TS 102 366 E.1.3.1.8).
    let dolby = match (codec, audio.channel_count) {
        (Codec::Ac3 | Codec::Eac3, 1) => Some("4000"),
        (Codec::Ac3 | Codec::Eac3, 2) => Some("A000"),
        (Codec::Ac3 | Codec::Eac3, 3) => Some("E000"),
        (Codec::Ac3 | Codec::Eac3, 5) => Some("F800"),
        (Codec::Ac3 | Codec::Eac3, 6) => Some("F801"),
        (Codec::Ac3 | Codec::Eac3, 8) => Some("FA01"),
        _ => None,
    };
    match dolby {
        Some(mask) => {
            descriptor(
                w,
                "AudioChannelConfiguration",
                "tag:dolby.com,2014:dash:audio_channel_configuration:2011",
                mask,
            );
        }
        None => {
            let configuration = match audio.channel_count {
                count @ 1..=6 => count,
                7 => 11,
                8 => 12,
                24 => 13,
                // Table 1 has no layout, or several, for so many.
                _ => 0,
            };
            let scheme = "urn:mpeg:mpegB:cicp:ChannelConfiguration";
            if configuration > 0 {
                descriptor(w, "AudioChannelConfiguration", scheme, &configuration.to_string());
            }
        }
    }
    if let Some(objects) = audio.joc_complexity {
        descriptor(
            w,
            "SupplementalProperty",
            "tag:dolby.com,2018:dash:EC3_ExtensionType:2018",
            "JOC",
        );
        let scheme = "tag:dolby.com,2018:dash:EC3_ExtensionComplexityIndex:2018";
        descriptor(w, "SupplementalProperty", scheme, &objects.to_string());
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn text_samples(coding: TextCoding) -> on_demand::TextSamples {
    match coding {
        TextCoding::Stpp => on_demand::TextSamples::Stpp,
        TextCoding::Wvtt | TextCoding::WebVtt => on_demand::TextSamples::Wvtt,
    }
}
