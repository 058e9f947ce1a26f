//! The AdaptationSets of one Period, and what is in them.

use super::mpd::{Addressing, Options, TextCoding};
use super::span::Span;
use super::timeline;
use super::xml::{StartTag, XmlWriter};
use crate::codec::{Codec, MediaKind};
use crate::crypto::KeyId;
use crate::form::Form;
use crate::isobmff::on_demand;
use crate::presentation::{Bandwidth, Presentation, Representation, Role};
use crate::protection::{Protection, SegmentList, TrackProtection};
use crate::time::Timescale;
use crate::track::AudioDescription;

const ROLE: &str = "urn:mpeg:dash:role:2011";
const SET_SWITCHING: &str = "urn:mpeg:dash:adaptation-set-switching:2016";
/// Names the Period that an AdaptationSet goes on from without a seam (ISO/IEC 23009-1 5.3.2.4).
const PERIOD_CONTINUITY: &str = "urn:mpeg:dash:period-continuity:2015";

/// The lowest version of HDCP that a device has to ask of its display (ISO/IEC 23009-1 5.8.5.14).
const HDCP: &str = "urn:mpeg:dash:output-protection:hdcp:2020";

/// Writes AdaptationSets and numbers them.
pub(super) struct Sets<'a> {
    next_id: u64,
    base: &'a str,
    options: Options,
    /// Duration of the period, as it is written.
    period_micros: u64,
    span: Span<'a>,
}

impl<'a> Sets<'a> {
    pub(super) fn new(base: &'a str, options: Options, period_micros: u64, span: Span<'a>) -> Sets<'a> {
        Sets {
            next_id: 1,
            base,
            options,
            period_micros,
            span,
        }
    }

    pub(super) fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn open<'w>(
        &self,
        w: &'w mut XmlWriter,
        id: u64,
        content_type: &str,
        mime_type: &str,
        sap_type: u8,
    ) -> StartTag<'w> {
        let tag = w
            .element("AdaptationSet")
            .number("id", id)
            .attribute("contentType", content_type);
        let tag = tag.attribute("mimeType", mime_type);
        match self.options.addressing {
            Addressing::OnDemand => tag
                .attribute("subsegmentAlignment", "true")
                .number("subsegmentStartsWithSAP", sap_type.into()),
            _ => tag
                .attribute("segmentAlignment", "true")
                .number("startWithSAP", sap_type.into()),
        }
    }

    /// What served bytes are.
    fn form(&self) -> Form {
        self.span.protection.map_or(Form::Cmaf, Protection::form)
    }

    /// How `rep` is protected in this Period.
    fn track(&self, rep: &Representation) -> Option<&'a TrackProtection> {
        self.span.protection?.period(self.span.period).track(rep)
    }

    /// The key that tells sets apart; in a clear Period the next one's, so that the sets of all Periods are alike.
    fn key_of(&self, rep: &Representation) -> Option<KeyId> {
        let protection = self.span.protection?;
        let mut later = (self.span.period..protection.period_count()).map(|period| protection.period(period));
        later.find_map(|period| period.track(rep)).map(|track| track.key_id)
    }

    /// What of `set` this Period has segments of.
    fn present<'r>(&self, set: &[&'r Representation], list: SegmentList) -> Vec<&'r Representation> {
        let here = set.iter().copied();
        here.filter(|rep| !self.span.numbers(rep, list).is_empty()).collect()
    }

    fn write_continuity(&self, w: &mut XmlWriter, set: &[&Representation]) {
        if !set.is_empty() && set.iter().all(|rep| self.span.goes_on(rep)) {
            descriptor(
                w,
                "SupplementalProperty",
                PERIOD_CONTINUITY,
                &self.span.period.to_string(),
            );
        }
    }

    /// ContentProtection descriptors of a set, all of which is under one key.
    fn write_protection(&self, w: &mut XmlWriter, set: &[&Representation]) {
        let track = set.first().and_then(|first| self.track(first));
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
        // The rule goes with the class of keys, so one of the set speaks for all.
        let rule = set.first().filter(|first| self.track(first).is_some());
        let rule = rule.and_then(|first| self.span.protection?.output(first));
        if let Some(version) = rule.and_then(|rule| rule.hdcp_level?.version_min()) {
            descriptor(w, "OutputProtection", HDCP, version);
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

    pub(super) fn write_video(&mut self, w: &mut XmlWriter, presentation: &Presentation) {
        let mut main_sets = Vec::new();
        for set in presentation.video_sets(self.form()) {
            let parts = self.split_by_key(set);
            let first_id = self.next_id;
            self.next_id += parts.len() as u64;
            let ids: Vec<u64> = (first_id..self.next_id).collect();
            let parts = ids.into_iter().zip(parts);
            let parts: Vec<_> = parts
                .map(|(id, part)| (id, self.present(&part, SegmentList::Media)))
                .filter(|(_, part)| !part.is_empty())
                .collect();
            for (id, part) in &parts {
                let others = parts.iter().map(|(other, _)| other).filter(|other| *other != id);
                let others = others.map(u64::to_string).collect::<Vec<_>>().join(",");
                self.write_video_set(w, *id, part, &others);
            }
            main_sets.extend(parts);
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
        let sap_type = set.iter().map(|rep| rep.sap_type()).max().unwrap_or(1);
        let mut tag = self.open(w, id, "video", "video/mp4", sap_type);
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
            self.write_continuity(w, set);
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
        if set.iter().all(|rep| rep.trick_bandwidth(self.form()).is_none()) {
            return;
        }
        let id = self.take_id();
        let set = self.present(set, SegmentList::Trick);
        if set.is_empty() {
            return;
        }
        let tag = self.open(w, id, "video", "video/mp4", 1);
        tag.attribute("codingDependency", "false").children(|w| {
            self.write_protection(w, &set);
            descriptor(
                w,
                "EssentialProperty",
                "http://dashif.org/guidelines/trickmode",
                &main_id.to_string(),
            );
            self.write_continuity(w, &set);
            for rep in &set {
                let Some(bandwidth) = rep.trick_bandwidth(self.form()) else {
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
                let numbers = self.span.numbers(rep, SegmentList::Trick);
                let frames = self.span.frames(rep);
                tag.attribute("maxPlayoutRate", "16").children(|w| {
                    let header = self.span.header_name(rep);
                    self.open_template(w, rep)
                        .number("startNumber", numbers.start.into())
                        .attribute("initialization", &format!("{}{}/{header}", self.base, rep.id))
                        .attribute("media", &format!("{}{}/iframe-$Number$.m4s", self.base, rep.id))
                        .children(|w| timeline::write(w, frames.iter().map(|frame| (frame.start, frame.duration))));
                });
            }
        });
    }

    pub(super) fn write_audio(&mut self, w: &mut XmlWriter, presentation: &Presentation) {
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
            let id = self.take_id();
            let set = self.present(&set, SegmentList::Media);
            let Some(first) = set.first() else { continue };
            let even = self.is_even(&set);
            let tag = language(self.open(w, id, "audio", "audio/mp4", 1), first);
            tag.children(|w| {
                // The order is the schema's (ISO/IEC 23009-1 5.3.7.3, 5.3.3.3).
                self.write_protection(w, &set);
                self.write_continuity(w, &set);
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

    pub(super) fn write_text(&mut self, w: &mut XmlWriter, text: &Representation) {
        let id = self.take_id();
        if self.present(&[text], SegmentList::Media).is_empty() && !self.span.is_only {
            return;
        }
        let whole = self.options.text == TextCoding::WebVtt;
        let mime_type = if whole { "text/vtt" } else { "application/mp4" };
        let tag = match whole {
            true => w
                .element("AdaptationSet")
                .number("id", id)
                .attribute("contentType", "text")
                .attribute("mimeType", mime_type),
            false => self.open(w, id, "text", mime_type, 1),
        };
        language(tag, text).children(|w| {
            self.write_continuity(w, &[text]);
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
                        if self.span.period > 0 {
                            // The file's times are those of the whole presentation.
                            w.element("SegmentBase")
                                .number("timescale", Timescale::MILLIS.get().into())
                                .number("presentationTimeOffset", self.span.offset(Timescale::MILLIS))
                                .empty();
                        }
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
        let offset = self.span.offset(rep.segments.timescale());
        let segments = self.span.segments(rep).iter();
        let rows: Vec<_> = segments
            .map(|segment| (segment.start.saturating_sub(offset), segment.duration))
            .collect();
        timeline::nominal_duration(&rows, rep.segments.timescale(), self.period_micros)
    }

    /// Whether one duration will do in all of an AdaptationSet, which has to keep to one way of addressing.
    fn is_even(&self, set: &[&Representation]) -> bool {
        set.iter().all(|rep| self.nominal_duration(rep).is_some())
    }

    /// A SegmentTemplate with the scale of its times, and where on their line the Period begins.
    fn open_template<'w>(&self, w: &'w mut XmlWriter, rep: &Representation) -> StartTag<'w> {
        let scale = rep.segments.timescale();
        let tag = w.element("SegmentTemplate").number("timescale", scale.get().into());
        match self.span.offset(scale) {
            0 => tag,
            offset => tag.number("presentationTimeOffset", offset),
        }
    }

    fn write_segment_template(&self, w: &mut XmlWriter, rep: &Representation, id: &str, even: bool) {
        let rows = || {
            self.span
                .segments(rep)
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
        let tag = self.open_template(w, rep);
        let tag = match nominal {
            Some(duration) => tag.number("duration", duration),
            None => tag,
        };
        let header = self.span.header_name(rep);
        let tag = tag
            .number(
                "startNumber",
                self.span.numbers(rep, SegmentList::Media).start.max(1).into(),
            )
            .attribute("initialization", &format!("{}{id}/{header}", self.base));
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
