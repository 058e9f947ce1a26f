//! A checker of MPDs against what ISO/IEC 23009-1 says of the elements this crate writes: which attributes an element
//! may and must have and of which type, which children in which order; and that segments are where the presentation
//! has them.
//!
//! The standard's own schema is not part of this repository (its licence does not let it be), so this is written from
//! the tables of the standard. An element or attribute that is not listed is a fault: who writes a new one lists it here.

use packager::dash::mpd::Addressing;
use packager::images::ImageTrack;
use packager::presentation::{Presentation, Representation};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Type of an attribute's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    /// `xs:unsignedInt`.
    U32,
    /// `xs:unsignedLong`.
    U64,
    Duration,
    Language,
    /// Two numbers around a colon.
    Ratio,
    /// A number, or two around a slash.
    FrameRate,
    /// First and last byte.
    Range,
    /// A word without spaces.
    Word,
    /// An absolute URI, of the characters that identifiers of schemes have.
    Uri,
    /// Identifiers as RFC 6381 writes them, with commas between them.
    Codecs,
    /// One of these.
    OneOf(&'static [&'static str]),
}
use Kind::*;

/// Attributes of an element: name, whether it is required, type.
type Attributes = &'static [(&'static str, bool, Kind)];
/// Children of an element in their order.
type Children = &'static [&'static str];

const BOOL: Kind = OneOf(&["true", "false"]);
const SAP: Kind = OneOf(&["0", "1", "2", "3", "4", "5", "6"]);
const DESCRIPTOR: Attributes = &[("schemeIdUri", true, Uri), ("value", false, Any), ("id", false, Any)];

/// 5.3.1 to 5.3.9, 5.8, 5.10; `None` for an element that is not known.
fn rules(element: &str) -> Option<(Attributes, Children)> {
    Some(match element {
        "MPD" => (
            &[
                ("xmlns", true, OneOf(&["urn:mpeg:dash:schema:mpd:2011"])),
                ("xmlns:scte214", false, OneOf(&["urn:scte:dash:scte214-extensions"])),
                ("profiles", true, Word),
                ("type", false, OneOf(&["static"])),
                // Required of static presentations whose last period does not say how long it is.
                ("mediaPresentationDuration", true, Duration),
                ("minBufferTime", true, Duration),
                ("maxSegmentDuration", false, Duration),
            ],
            &["ProgramInformation", "BaseURL", "Period"],
        ),
        "ProgramInformation" => (&[("lang", false, Language)], &["Title", "Source", "Copyright"]),
        "Period" => (
            &[
                ("id", true, Word),
                ("start", false, Duration),
                ("duration", false, Duration),
            ],
            &["BaseURL", "AdaptationSet"],
        ),
        "AdaptationSet" => (
            &[
                ("id", true, U32),
                ("contentType", true, OneOf(&["video", "audio", "text", "image"])),
                ("mimeType", true, Word),
                ("lang", false, Language),
                ("par", false, Ratio),
                ("maxWidth", false, U32),
                ("maxHeight", false, U32),
                ("maxFrameRate", false, FrameRate),
                ("segmentAlignment", false, BOOL),
                ("startWithSAP", false, SAP),
                ("subsegmentAlignment", false, BOOL),
                ("subsegmentStartsWithSAP", false, SAP),
                ("codingDependency", false, BOOL),
            ],
            &[
                "AudioChannelConfiguration",
                "EssentialProperty",
                "SupplementalProperty",
                "Label",
                "Accessibility",
                "Role",
                "Representation",
            ],
        ),
        "Representation" => (
            &[
                ("id", true, Word),
                ("bandwidth", true, U32),
                ("codecs", false, Codecs),
                ("width", false, U32),
                ("height", false, U32),
                ("sar", false, Ratio),
                ("frameRate", false, FrameRate),
                ("audioSamplingRate", false, U32),
                ("maxPlayoutRate", false, U32),
                ("scte214:supplementalCodecs", false, Word),
                ("scte214:supplementalProfiles", false, Word),
            ],
            &[
                "AudioChannelConfiguration",
                "EssentialProperty",
                "SupplementalProperty",
                "BaseURL",
                "SegmentBase",
                "SegmentTemplate",
            ],
        ),
        "SegmentTemplate" => (
            &[
                ("timescale", true, U32),
                ("duration", false, U32),
                ("startNumber", true, U32),
                ("initialization", false, Word),
                ("media", true, Word),
            ],
            &["SegmentTimeline"],
        ),
        "SegmentBase" => (
            &[
                ("timescale", true, U32),
                ("indexRange", true, Range),
                ("indexRangeExact", true, BOOL),
            ],
            &["Initialization"],
        ),
        "Initialization" => (&[("range", true, Range)], &[]),
        "SegmentTimeline" => (&[], &["S"]),
        "S" => (&[("t", false, U64), ("d", true, U64), ("r", false, U32)], &[]),
        "Title" | "Label" | "BaseURL" => (&[], &[]),
        "AudioChannelConfiguration" | "EssentialProperty" | "SupplementalProperty" | "Accessibility" | "Role" => {
            (DESCRIPTOR, &[])
        }
        _ => return None,
    })
}

/// Elements that hold text; there is none in any other.
const TEXTUAL: &[&str] = &["Title", "Label", "BaseURL"];

/// Children that stand once at most.
const SINGLE: &[&str] = &[
    "SegmentBase",
    "SegmentTemplate",
    "SegmentTimeline",
    "Initialization",
    "Title",
];

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_pair(text: &str, between: char) -> bool {
    text.split_once(between)
        .is_some_and(|(first, second)| is_number(first) && is_number(second))
}

fn fits(kind: Kind, value: &str) -> bool {
    match kind {
        Any => true,
        U32 => is_number(value) && value.parse::<u32>().is_ok(),
        U64 => is_number(value) && value.parse::<u64>().is_ok(),
        Duration => seconds_of(value).is_some(),
        Language => value.split('-').enumerate().all(|(at, part)| {
            let letters = |byte: u8| byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit();
            (1..=8).contains(&part.len()) && part.bytes().all(letters)
        }),
        Ratio => is_pair(value, ':'),
        FrameRate => is_number(value) || is_pair(value, '/') && !value.contains("/0"),
        Range => is_pair(value, '-'),
        Word => !value.is_empty() && !value.contains(char::is_whitespace),
        Uri => value.split_once(':').is_some_and(|(scheme, rest)| {
            let is_of = |text: &str, others: &[u8]| {
                let mut bytes = text.bytes();
                !text.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
            };
            let letter_first = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
            letter_first && is_of(scheme, b"+-.") && is_of(rest, b"-._~:/?#@!$&'()*+,;=")
        }),
        Codecs => value.split(',').all(|identifier| {
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~\\".contains(&byte);
            !identifier.is_empty() && identifier.bytes().all(is_token)
        }),
        OneOf(values) => values.contains(&value),
    }
}

/// The seconds of the one form of `xs:duration` in use.
fn seconds_of(duration: &str) -> Option<f64> {
    let seconds = duration.strip_prefix("PT")?.strip_suffix('S')?;
    let (whole, decimals) = seconds.split_once('.').unwrap_or((seconds, "0"));
    (is_number(whole) && is_number(decimals)).then(|| seconds.parse().ok())?
}

#[derive(Debug, Default)]
struct Node {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Node>,
    has_text: bool,
}

impl Node {
    fn get(&self, attribute: &str) -> Option<&str> {
        let mut found = self.attributes.iter().filter(|(name, _)| name == attribute);
        found.next().map(|(_, value)| value.as_str())
    }

    fn number(&self, attribute: &str) -> Option<u64> {
        self.get(attribute)?.parse().ok()
    }

    fn all<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'n Node> {
        self.children.iter().filter(move |child| child.name == name)
    }

    fn first(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.name == name)
    }
}

fn node(start: &BytesStart<'_>) -> Node {
    let attributes = start.attributes().map(|attribute| {
        let attribute = attribute.unwrap();
        let value = attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0).unwrap();
        (attribute.key.into_inner().to_owned(), value.into_owned())
    });
    Node {
        name: start.name().into_inner().to_owned(),
        attributes: attributes.collect(),
        ..Node::default()
    }
}

fn parse(text: &str) -> Node {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut open = vec![Node::default()];
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => open.push(node(&start)),
            Event::End(_) => {
                let closed = open.pop().unwrap();
                open.last_mut().unwrap().children.push(closed);
            }
            Event::Text(text) if text.chars().all(|character| character.is_ascii_whitespace()) => {}
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => open.last_mut().unwrap().has_text = true,
            Event::Eof => break,
            _ => {}
        }
    }
    open.pop().unwrap().children.pop().unwrap()
}

/// What is wrong with `mpd`, which renders `presentation` in `addressing`.
pub fn faults(mpd: &str, presentation: &Presentation, addressing: Addressing) -> Vec<String> {
    let root = parse(mpd);
    let mut faults = Vec::new();
    if root.name != "MPD" {
        faults.push(format!("the root is {}", root.name));
    }
    check_element(&root, &mut faults);
    if root.first("Period").is_none() {
        faults.push("there is no Period".into());
    }
    let duration = root.get("mediaPresentationDuration").and_then(seconds_of);
    for period in root.all("Period") {
        if period.get("duration").and_then(seconds_of) != duration {
            faults.push("duration of period and presentation differ".into());
        }
        check_period(period, presentation, addressing, &mut faults);
    }
    faults
}

fn check_element(node: &Node, faults: &mut Vec<String>) {
    let name = &node.name;
    let Some((attributes, children)) = rules(name) else {
        faults.push(format!("{name} is not known"));
        return;
    };
    for (attribute, value) in &node.attributes {
        match attributes.iter().find(|(known, ..)| known == attribute) {
            Some((_, _, kind)) if fits(*kind, value) => {}
            Some((_, _, kind)) => faults.push(format!("{name}@{attribute}=\"{value}\" is no {kind:?}")),
            None => faults.push(format!("{name} has no @{attribute}")),
        }
    }
    for (attribute, ..) in attributes.iter().filter(|(_, required, _)| *required) {
        if node.get(attribute).is_none() {
            faults.push(format!("{name} without @{attribute}"));
        }
    }
    if node.has_text && !TEXTUAL.contains(&name.as_str()) {
        faults.push(format!("text in {name}"));
    }
    let mut reached = 0;
    for child in &node.children {
        match children.iter().position(|known| *known == child.name) {
            Some(at) if at >= reached => reached = at,
            Some(_) => faults.push(format!("{} in {name} comes too late", child.name)),
            None => faults.push(format!("{} can not stand in {name}", child.name)),
        }
        if SINGLE.contains(&child.name.as_str()) && node.all(&child.name).count() > 1 {
            faults.push(format!("{} stands in {name} twice", child.name));
        }
        check_element(child, faults);
    }
}

fn check_unique<'n>(what: &str, ids: impl Iterator<Item = Option<&'n str>>, faults: &mut Vec<String>) {
    let mut seen = Vec::new();
    for id in ids.flatten() {
        if seen.contains(&id) {
            faults.push(format!("{what} {id} stands twice"));
        }
        seen.push(id);
    }
}

fn check_period(period: &Node, presentation: &Presentation, addressing: Addressing, faults: &mut Vec<String>) {
    let sets = || period.all("AdaptationSet");
    check_unique("AdaptationSet", sets().map(|set| set.get("id")), faults);
    let reps = sets().flat_map(|set| set.all("Representation"));
    check_unique("Representation", reps.map(|rep| rep.get("id")), faults);
    for set in sets() {
        let mut modes = Vec::new();
        if set.first("Representation").is_none() {
            faults.push("AdaptationSet without a Representation".into());
        }
        let mut properties = set.all("EssentialProperty");
        let trick = properties.find(|property| {
            property
                .get("schemeIdUri")
                .is_some_and(|uri| uri.ends_with("/trickmode"))
        });
        if trick.is_some_and(|trick| !sets().any(|main| main.get("id") == trick.get("value"))) {
            faults.push("trickmode of a set that is not there".into());
        }
        for rep in set.all("Representation") {
            let id = rep.get("id").unwrap_or_default();
            check_representation(set, rep, faults);
            if let Some(images) = presentation
                .images()
                .filter(|_| set.get("contentType") == Some("image"))
            {
                check_images(rep, images, presentation, faults);
                continue;
            }
            let Some(source) = presentation.representation(id.split('-').next().unwrap_or_default()) else {
                faults.push(format!("Representation {id} is nowhere in the presentation"));
                continue;
            };
            if let Some(template) = rep.first("SegmentTemplate") {
                let timeline = template.first("SegmentTimeline").is_some();
                modes.push(timeline);
                let wanted = match addressing {
                    Addressing::TimelineTime if trick.is_none() => "$Time$.m4s",
                    _ => "$Number$.m4s",
                };
                if !template.get("media").is_some_and(|media| media.ends_with(wanted)) {
                    faults.push(format!("{id}: @media without {wanted}"));
                }
                check_template(template, source, trick.is_some(), faults);
            }
            if let Some(segment_base) = rep.first("SegmentBase") {
                check_segment_base(segment_base, source, faults);
            }
        }
        if modes.windows(2).any(|pair| pair[0] != pair[1]) {
            faults.push("two ways of addressing in one AdaptationSet".into());
        }
    }
}

/// Attributes that are required of a kind of content, by ISO/IEC 23009-1 or DASH-IF.
fn check_representation(set: &Node, rep: &Node, faults: &mut Vec<String>) {
    let content = set.get("contentType").unwrap_or_default();
    let whole = set.get("mimeType") == Some("text/vtt");
    let wanted: &[&str] = match content {
        "video" => &["codecs", "width", "height", "frameRate"],
        "audio" => &["codecs", "audioSamplingRate"],
        "image" => &["width", "height"],
        _ if whole => &[],
        _ => &["codecs"],
    };
    for attribute in wanted {
        if rep.get(attribute).is_none() {
            faults.push(format!("Representation of {content} without @{attribute}"));
        }
    }
    if rep.get("scte214:supplementalCodecs").is_some() != rep.get("scte214:supplementalProfiles").is_some() {
        faults.push("supplementalCodecs and supplementalProfiles go together".into());
    }
    let ways = ["SegmentBase", "SegmentTemplate"]
        .iter()
        .filter(|way| rep.first(way).is_some());
    if ways.count() != usize::from(!whole) {
        faults.push("Representation addressed in no way or in several".into());
    }
    if content == "audio" && rep.first("AudioChannelConfiguration").is_none() {
        faults.push("audio without AudioChannelConfiguration".into());
    }
}

/// Tiled thumbnails (DASH-IF IOP 4.3 6.2.6).
fn check_images(rep: &Node, images: &ImageTrack, presentation: &Presentation, faults: &mut Vec<String>) {
    let tile = rep
        .first("EssentialProperty")
        .filter(|property| property.get("schemeIdUri") == Some("http://dashif.org/guidelines/thumbnail_tile"));
    let grid = tile.and_then(|tile| tile.get("value")?.split_once('x'));
    let side = |digits: &str| digits.parse::<u64>().ok();
    let Some((columns, rows)) = grid.and_then(|(columns, rows)| Some((side(columns)?, side(rows)?))) else {
        faults.push("images without a thumbnail_tile of HxV".into());
        return;
    };
    let tile_size = (images.tile_width.into(), images.tile_height.into());
    let size = (
        rep.number("width").map(|width| width / columns),
        rep.number("height").map(|height| height / rows),
    );
    if size != (Some(tile_size.0), Some(tile_size.1)) {
        faults.push(format!("tiles of {size:?}, not {tile_size:?}"));
    }
    let Some(template) = rep.first("SegmentTemplate") else {
        return;
    };
    if !template
        .get("media")
        .is_some_and(|media| media.ends_with("/i1/$Number$.jpg"))
    {
        faults.push("images: @media without $Number$.jpg".into());
    }
    let seconds = presentation.duration.ticks as f64 / f64::from(presentation.duration.scale.get());
    let per_sheet = template.number("duration").unwrap_or(1) as f64 / template.number("timescale").unwrap_or(1) as f64;
    if (seconds / per_sheet).ceil() as usize != images.sheets.len() {
        faults.push("images: players would ask for too many sheets, or too few".into());
    }
    if per_sheet * 1000.0 != f64::from(images.interval_ms) * (columns * rows) as f64 {
        faults.push("images: a sheet lasts as long as its tiles".into());
    }
}

/// What a timeline says, segment by segment.
fn expand(timeline: &Node, faults: &mut Vec<String>) -> Vec<(u64, u64)> {
    let mut rows: Vec<(u64, u64)> = Vec::new();
    let mut previous = None;
    for run in timeline.all("S") {
        let end = rows.last().map(|(start, duration)| start + duration);
        let duration = run.number("d").unwrap_or(0);
        let mut at = match (run.number("t"), end) {
            (Some(start), _) => start,
            (None, Some(end)) => end,
            (None, None) => {
                faults.push("the first S of a timeline has no @t".into());
                0
            }
        };
        if end.is_some_and(|end| at < end) {
            faults.push("segments of a timeline overlap".into());
        }
        if previous == Some(duration) && Some(at) == end {
            faults.push("equal neighbours in a timeline are not merged".into());
        }
        previous = Some(duration);
        for _ in 0..=run.number("r").unwrap_or(0) {
            rows.push((at, duration));
            at += duration;
        }
    }
    rows
}

fn check_template(template: &Node, source: &Representation, trick: bool, faults: &mut Vec<String>) {
    let id = &source.id;
    let scale = source.segments.timescale();
    if template.number("timescale") != Some(scale.get().into()) {
        faults.push(format!("{id}: timescale is not that of the track"));
    }
    // Only images do without.
    if template.get("initialization").is_none() {
        faults.push(format!("{id}: SegmentTemplate without @initialization"));
    }
    let rows: Vec<(u64, u64)> = match trick {
        true => source
            .trick_frames
            .iter()
            .map(|frame| (frame.start, frame.duration))
            .collect(),
        false => source
            .segments
            .segments()
            .iter()
            .map(|row| (row.start, row.duration))
            .collect(),
    };
    match (template.number("duration"), template.first("SegmentTimeline")) {
        (Some(duration), None) => {
            // 7.2.1: segments begin within half a segment of where the template has them.
            let far = (0..)
                .zip(&rows)
                .find(|(at, (start, _))| start.abs_diff(at * duration) * 2 > duration);
            if let Some((at, (start, _))) = far {
                faults.push(format!(
                    "{id}: segment {at} starts at {start}, far from the template's {duration}"
                ));
            }
        }
        (None, Some(timeline)) => {
            if expand(timeline, faults) != rows {
                faults.push(format!("{id}: timeline and segments differ"));
            }
        }
        _ => faults.push(format!("{id}: a template needs @duration or a timeline, not both")),
    }
}

fn check_segment_base(base: &Node, source: &Representation, faults: &mut Vec<String>) {
    let id = &source.id;
    let range = |text: Option<&str>| -> Option<(u64, u64)> {
        let (first, last) = text?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let header = base.first("Initialization").and_then(|init| range(init.get("range")));
    let index = range(base.get("indexRange"));
    match (header, index) {
        (Some((0, header_end)), Some((first, last))) if header_end + 1 == first && first < last => {}
        _ => faults.push(format!(
            "{id}: header {header:?} and index {index:?} do not follow each other"
        )),
    }
    if base.number("timescale") != Some(source.segments.timescale().get().into()) {
        faults.push(format!("{id}: timescale is not that of the track"));
    }
}
