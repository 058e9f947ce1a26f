//! A presentation: everything playable under one id and version, with its representations cut into segments.

mod bandwidth;
pub mod choice;
pub mod clip;
mod cut;
mod description;
mod span;
pub mod stored;
pub mod variant;

use sha2::{Digest, Sha256};

pub use self::bandwidth::Bandwidth;
use self::bandwidth::Bandwidths;
pub(crate) use self::cut::begins_open;
use self::cut::{Named, cut};
pub use self::description::{Define, HlsDescription, LadderDescription, LadderTrack, Role, SessionData, Start};
use crate::codec::{Codec, MediaKind, VideoRange};
use crate::form::Form;
use crate::images::{ImageError, ImageTrack};
use crate::index::{IndexError, TrackIndex};
use crate::segment::{Segment, SegmentTable, SegmentTarget, TrickFrame};
use crate::source::Refusal;
use crate::text::TextTrack;
use crate::time::{MediaTime, Rounding};
use crate::track::{Track, VideoDescription};

/// What a representation is made of.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a presentation has a few dozen of these")]
pub enum Content {
    /// Samples of a source file.
    Samples(Track),
    /// Cues held in memory; samples and WebVTT segments are made of them on request.
    Cues(TextTrack),
}

/// One track as it goes into a presentation: its content and what is said about it.
#[derive(Clone, Debug)]
pub struct NewRepresentation {
    /// Which of the presentation's source files holds the samples.
    pub source: usize,
    /// Samples or cues.
    pub content: Content,
    /// BCP 47 tag, `und` when unknown.
    pub language: String,
    /// Name for people; made from the language when there is none.
    pub label: Option<String>,
    /// Purposes of the track; empty means `main`.
    pub roles: Vec<Role>,
    /// Chosen when the viewer has no preference.
    pub default: bool,
}

/// One existing encoding of one component of a presentation.
#[derive(Clone, Debug)]
pub struct Representation {
    /// Name in URLs: `v1`, `a1`, `t1`, …
    pub id: String,
    /// Which of the presentation's source files holds the samples.
    pub source: usize,
    /// Samples or cues.
    pub content: Content,
    /// BCP 47 tag.
    pub language: String,
    /// Name for people, unique among the presentation's tracks of one kind and language.
    pub label: String,
    /// Purposes of the track; never empty.
    pub roles: Vec<Role>,
    /// Chosen when the viewer has no preference; exactly one of each audio set.
    pub default: bool,
    /// Where it is cut.
    pub segments: SegmentTable,
    /// Which sample of the source's track its first sample is: zero unless it is a clip.
    pub first_source_sample: u32,
    /// Frames of the trick-play track; empty unless video.
    pub trick_frames: Vec<TrickFrame>,
    /// Its HLS playlists tell at which instant it begins, for the tracks of its presentation do not begin together.
    pub(crate) dated: bool,
    /// Some of its segments begin with pictures that may refer to the segment before.
    has_open_groups: bool,
    /// Measured once: every playlist and MPD asks.
    bandwidths: Bandwidths,
}

impl Representation {
    /// Video, audio or text.
    pub fn kind(&self) -> MediaKind {
        match &self.content {
            Content::Samples(track) => track.description.kind(),
            Content::Cues(_) => MediaKind::Text,
        }
    }

    /// The track, unless it is text.
    pub fn track(&self) -> Option<&Track> {
        match &self.content {
            Content::Samples(track) => Some(track),
            Content::Cues(_) => None,
        }
    }

    /// The video facts of a video track.
    pub fn video(&self) -> Option<&VideoDescription> {
        self.track().and_then(|track| track.description.video())
    }

    /// Coding in CMAF.
    pub fn codec(&self) -> Codec {
        match &self.content {
            Content::Samples(track) => track.description.codec,
            Content::Cues(_) => Codec::Wvtt,
        }
    }

    /// `CODECS` value in CMAF.
    pub fn rfc6381(&self) -> &str {
        match &self.content {
            Content::Samples(track) => &track.description.rfc6381,
            Content::Cues(_) => "wvtt",
        }
    }

    /// Average frame rate of a video as a fraction of frames per second: sample count over duration, snapped to the
    /// usual rates when within 0.1 %.
    pub fn frame_rate(&self) -> Option<(u32, u32)> {
        let track = self.track()?;
        track.description.video()?;
        let ticks = u64::try_from(track.index.duration().ticks)
            .ok()
            .filter(|ticks| *ticks > 0)?;
        let frames = u64::from(track.index.sample_count());
        let scale = u64::from(track.index.timescale().get());
        const USUAL: [(u32, u32); 11] = [
            (24_000, 1_001),
            (24, 1),
            (25, 1),
            (30_000, 1_001),
            (30, 1),
            (48, 1),
            (50, 1),
            (60_000, 1_001),
            (60, 1),
            (100, 1),
            (120, 1),
        ];
        for (numerator, denominator) in USUAL {
            // |frames * scale / ticks - n / d| <= n / d / 1000
            let measured = u128::from(frames) * u128::from(scale) * u128::from(denominator) * 1_000;
            let usual = u128::from(numerator) * u128::from(ticks) * 1_000;
            if measured.abs_diff(usual) * 1_000 <= usual {
                return Some((numerator, denominator));
            }
        }
        let millihertz = (u128::from(frames) * u128::from(scale) * 1_000 / u128::from(ticks)).min(1_000_000) as u32;
        (millihertz > 0).then_some((millihertz, 1_000))
    }

    /// Measured peak and average bit rate as served in `form`.
    pub fn bandwidth(&self, form: Form) -> Bandwidth {
        self.bandwidths.of(form)
    }

    /// Whether each segment can be decoded without any other (RFC 8216bis 4.4.2.1).
    pub fn has_independent_segments(&self) -> bool {
        !self.has_open_groups
    }

    /// How its segments start at the least (stream access points, ISO/IEC 14496-12:2022 annex I): 1, or 3 where pictures that
    /// are shown before the first may be lost.
    pub fn sap_type(&self) -> u8 {
        if self.has_open_groups { 3 } else { 1 }
    }

    /// The same of sound that travels in the segments of the pictures ([`crate::hls::muxed_audio`]).
    pub fn muxed_bandwidth(&self, form: Form) -> Bandwidth {
        self.bandwidths.muxed(form)
    }

    /// Peak and average bit rate of the trick-play frames, as served in `form`; `None` without any.
    pub fn trick_bandwidth(&self, form: Form) -> Option<Bandwidth> {
        self.bandwidths.trick(form)
    }
}

/// Everything playable under one id and version.
#[derive(Clone, Debug)]
pub struct Presentation {
    /// Name for people.
    pub title: String,
    /// Video, then audio, then text; video by falling quality.
    pub representations: Vec<Representation>,
    /// Wanted segment duration.
    pub target: SegmentTarget,
    /// When the last track ends.
    pub duration: MediaTime,
    /// Hash of everything that decides served bytes: equal on every machine, 16 hexadecimal digits. Part of every
    /// segment URL, so that segments never change. A clip's is followed by the name of its choice.
    pub version: String,
    /// Additions to the HLS multivariant playlist.
    pub hls: HlsDescription,
    /// What was left out of every form, and why.
    pub refused: Vec<Refusal>,
    /// Sound never travels in MPEG-TS segments of video, even where one audio track is left of several: segments are
    /// the same whichever tracks were chosen.
    pub sound_apart: bool,
    /// Thumbnails and poster.
    images: Option<ImageTrack>,
}

/// What a presentation is made of.
#[derive(Clone, Debug)]
pub struct NewPresentation {
    /// Name for people.
    pub title: String,
    /// At least one video or audio track.
    pub tracks: Vec<NewRepresentation>,
    /// What was left out already, and why.
    pub refused: Vec<Refusal>,
    /// Wanted segment duration.
    pub target: SegmentTarget,
    /// Additions to the HLS multivariant playlist.
    pub hls: HlsDescription,
}

/// Why no presentation could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PresentationError {
    /// Nothing to play.
    #[error("nothing in it can be played{}", reasons(.refused))]
    Empty {
        /// What was found and left out.
        refused: Vec<Refusal>,
    },
}

fn reasons(refused: &[Refusal]) -> String {
    let list: Vec<String> = refused
        .iter()
        .map(|refusal| format!("{}: {}", refusal.what, refusal.why))
        .collect();
    if list.is_empty() {
        String::new()
    } else {
        format!(" ({})", list.join("; "))
    }
}

impl Presentation {
    /// Puts tracks together: chooses the boundaries all of them are cut at, names them, finds defaults.
    pub fn assemble(new: NewPresentation) -> Result<Presentation, PresentationError> {
        let NewPresentation {
            title,
            tracks,
            mut refused,
            target,
            hls,
        } = new;
        let tracks = span::refuse(tracks, &mut refused);
        let playable = tracks.iter().any(|new| kind_of(&new.content) != MediaKind::Text);
        if !playable {
            return Err(PresentationError::Empty { refused });
        }
        let mut tracks = tracks;
        tracks.sort_by_key(|new| (kind_of(&new.content), std::cmp::Reverse(pixels(&new.content))));
        for same in tracks.chunk_by_mut(|a, b| pixels(&a.content) == pixels(&b.content)) {
            // Adding up all sizes of a long film takes time: only where it decides.
            if same.len() > 1
                && same
                    .first()
                    .is_some_and(|new| kind_of(&new.content) == MediaKind::Video)
            {
                same.sort_by_cached_key(|new| std::cmp::Reverse(bytes(&new.content)));
            }
        }
        let mut counts = [0u32; 3];
        let named = tracks.into_iter().map(|new| {
            let (prefix, count) = match kind_of(&new.content) {
                MediaKind::Video => ('v', &mut counts[0]),
                MediaKind::Audio => ('a', &mut counts[1]),
                MediaKind::Text => ('t', &mut counts[2]),
            };
            *count += 1;
            Named {
                id: format!("{prefix}{count}"),
                first_source_sample: 0,
                new,
            }
        });
        let (mut representations, refusal, duration) = cut(named.collect(), target);
        refused.extend(refusal);
        make_labels_unique(&mut representations);
        choose_defaults(&mut representations);
        let version = version_of(&title, &representations, target, &hls);
        Ok(Presentation {
            title,
            representations,
            target,
            duration,
            version,
            hls,
            refused,
            sound_apart: false,
            images: None,
        })
    }

    /// Gives it thumbnails, unless they do not cover it; the version covers them from now on.
    pub fn attach_images(&mut self, images: ImageTrack) -> Result<(), ImageError> {
        images.fits(self.duration)?;
        self.version = hexadecimal(Sha256::digest(format!("{}\n{}", self.version, images.identity())));
        self.images = Some(images);
        Ok(())
    }

    /// Thumbnails and poster, where it has them.
    pub fn images(&self) -> Option<&ImageTrack> {
        self.images.as_ref()
    }

    /// Whether all its indexes are in their stored form; see [`TrackIndex::pack`].
    pub fn is_packed(&self) -> bool {
        let tracks = self.representations.iter().filter_map(Representation::track);
        tracks.map(|track| &track.index).all(TrackIndex::is_packed)
    }

    /// Brings all its indexes into their stored form. Nothing that is served changes.
    pub fn pack(&mut self) -> Result<(), IndexError> {
        for representation in &mut self.representations {
            if let Content::Samples(track) = &mut representation.content {
                track.index = track.index.pack()?;
            }
        }
        Ok(())
    }

    /// Representation `id`.
    pub fn representation(&self, id: &str) -> Option<&Representation> {
        self.representations
            .iter()
            .find(|representation| representation.id == id)
    }

    /// Representations of one kind that `form` carries.
    pub fn carried(&self, form: Form, kind: MediaKind) -> impl Iterator<Item = &Representation> {
        self.representations.iter().filter(move |representation| {
            representation.kind() == kind
                && representation
                    .track()
                    .is_none_or(|track| form.carries(&track.description).is_ok())
        })
    }

    /// What `form` leaves out, with reasons.
    pub fn left_out(&self, form: Form) -> Vec<Refusal> {
        let tracks = self
            .representations
            .iter()
            .filter_map(|rep| rep.track().map(|track| (rep, track)));
        tracks
            .filter_map(|(rep, track)| {
                let why = form.carries(&track.description).err()?;
                let what = format!("{} ({}) in {}", rep.id, track.description.codec.name(), form.name());
                Some(Refusal { what, why: why.into() })
            })
            .collect()
    }

    /// True when `form` carries something to play.
    pub fn playable_in(&self, form: Form) -> bool {
        [MediaKind::Video, MediaKind::Audio]
            .into_iter()
            .any(|kind| self.carried(form, kind).next().is_some())
    }

    /// Sets of video between which players may switch (same codec and dynamic range), in `form`.
    pub fn video_sets(&self, form: Form) -> Vec<Vec<&Representation>> {
        let key = |rep: &Representation| {
            (
                rep.codec(),
                rep.video().map_or(VideoRange::Sdr, |video| video.video_range),
            )
        };
        group_by(self.carried(form, MediaKind::Video), |a, b| {
            key(a) == key(b) && same_cuts(a, b)
        })
    }

    /// Audio in groups of the same codec and channel count, in `form`: within a group only language and role differ.
    pub fn audio_groups(&self, form: Form) -> Vec<Vec<&Representation>> {
        let key = |rep: &Representation| {
            (
                rep.codec(),
                rep.track()
                    .and_then(|track| track.description.audio())
                    .map(|audio| audio.channel_count),
            )
        };
        group_by(self.carried(form, MediaKind::Audio), |a, b| key(a) == key(b))
    }

    /// Text tracks.
    pub fn texts(&self) -> impl Iterator<Item = &Representation> {
        self.carried(Form::Cmaf, MediaKind::Text)
    }
}

fn default_role(content: &Content) -> Role {
    if kind_of(content) == MediaKind::Text {
        Role::Subtitle
    } else {
        Role::Main
    }
}

fn kind_of(content: &Content) -> MediaKind {
    match content {
        Content::Samples(track) => track.description.kind(),
        Content::Cues(_) => MediaKind::Text,
    }
}

fn video_index(content: &Content) -> Option<&TrackIndex> {
    match content {
        Content::Samples(track) if track.description.kind() == MediaKind::Video => Some(&track.index),
        _ => None,
    }
}

/// Orders video within a presentation, before its bytes do.
fn pixels(content: &Content) -> u64 {
    match content {
        Content::Samples(track) => {
            (track.description.video()).map_or(0, |video| u64::from(video.width) * u64::from(video.height))
        }
        Content::Cues(_) => 0,
    }
}

fn bytes(content: &Content) -> u64 {
    match content {
        Content::Samples(track) => track.index.size_bytes(0..u32::MAX),
        Content::Cues(_) => 0,
    }
}

/// Segments of both start at the same instants, or with key frames of the same instants: open GOPs may begin with
/// more pictures in the one than in the other.
fn same_cuts(a: &Representation, b: &Representation) -> bool {
    let near = |left: Option<MediaTime>, right: Option<MediaTime>| match (left, right) {
        (Some(left), Some(right)) => {
            (left.to_millis(Rounding::Nearest) - right.to_millis(Rounding::Nearest)).abs() <= 8
        }
        _ => false,
    };
    let start =
        |rep: &Representation, segment: &Segment| Some(MediaTime::new(segment.start as i64, rep.segments.timescale()));
    let key_frame = |rep: &Representation, segment: &Segment| {
        let time = video_index(&rep.content)?.presentation_time_of(segment.samples.start)?;
        Some(MediaTime::new(time, rep.segments.timescale()))
    };
    let (left, right) = (a.segments.segments(), b.segments.segments());
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(left, right)| near(start(a, left), start(b, right)) || near(key_frame(a, left), key_frame(b, right)))
}

fn group_by<'a>(
    representations: impl Iterator<Item = &'a Representation>,
    same: impl Fn(&Representation, &Representation) -> bool,
) -> Vec<Vec<&'a Representation>> {
    let mut groups: Vec<Vec<&Representation>> = Vec::new();
    for representation in representations {
        match groups
            .iter_mut()
            .find(|group| group.first().is_some_and(|first| same(first, representation)))
        {
            Some(group) => group.push(representation),
            None => groups.push(vec![representation]),
        }
    }
    groups
}

/// Names must tell the tracks of one kind apart: players show them in menus, and HLS forbids equal NAMEs in a group.
fn make_labels_unique(representations: &mut [Representation]) {
    for at in 0..representations.len() {
        let (before, rest) = representations.split_at_mut(at);
        let Some(current) = rest.first_mut().filter(|current| current.kind() != MediaKind::Video) else {
            continue;
        };
        let taken = |label: &str| {
            before.iter().any(|other| {
                other.kind() == current.kind()
                    && other.codec() == current.codec()
                    && channels(other) == channels(current)
                    && other.label == label
            })
        };
        if taken(&current.label) {
            let unique = (2u32..)
                .map(|number| format!("{} {number}", current.label))
                .find(|label| !taken(label));
            current.label = unique.unwrap_or_default();
        }
    }
}

fn channels(representation: &Representation) -> Option<u16> {
    representation
        .track()
        .and_then(|track| track.description.audio())
        .map(|audio| audio.channel_count)
}

/// The first audio track is the default unless one says so itself. Text is never on by itself unless it asks to be.
fn choose_defaults(representations: &mut [Representation]) {
    let keys: Vec<(Codec, Option<u16>)> = representations.iter().map(|rep| (rep.codec(), channels(rep))).collect();
    let has_default: Vec<bool> = representations.iter().map(|rep| rep.default).collect();
    let kinds: Vec<MediaKind> = representations.iter().map(Representation::kind).collect();
    for at in 0..representations.len() {
        let same_group = |other: usize| kinds[other] == kinds[at] && keys[other] == keys[at];
        representations[at].default = match kinds[at] {
            MediaKind::Video => false,
            MediaKind::Audio => {
                let flagged = (0..representations.len()).find(|other| same_group(*other) && has_default[*other]);
                let first = (0..representations.len()).find(|other| same_group(*other));
                flagged.or(first) == Some(at)
            }
            MediaKind::Text => {
                has_default[at] && !(0..at).any(|other| kinds[other] == MediaKind::Text && has_default[other])
            }
        };
    }
}

/// Name of the usual languages in themselves; the tag for the others.
fn language_name(tag: &str) -> String {
    let primary = tag.split('-').next().unwrap_or(tag).to_ascii_lowercase();
    let name = match primary.as_str() {
        "en" => "English",
        "de" => "Deutsch",
        "fr" => "Français",
        "es" => "Español",
        "it" => "Italiano",
        "pt" => "Português",
        "nl" => "Nederlands",
        "sv" => "Svenska",
        "da" => "Dansk",
        "no" | "nb" => "Norsk",
        "fi" => "Suomi",
        "pl" => "Polski",
        "cs" => "Čeština",
        "tr" => "Türkçe",
        "ru" => "Русский",
        "uk" => "Українська",
        "el" => "Ελληνικά",
        "ar" => "العربية",
        "he" => "עברית",
        "hi" => "हिन्दी",
        "ja" => "日本語",
        "ko" => "한국어",
        "zh" => "中文",
        "und" => "Default",
        _ => return tag.to_owned(),
    };
    name.to_owned()
}

/// A length-prefixed hash, so that no two different presentations feed the same bytes.
fn version_of(title: &str, representations: &[Representation], target: SegmentTarget, hls: &HlsDescription) -> String {
    let mut hash = Sha256::new();
    let mut feed = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    feed(b"headwater presentation 3");
    feed(title.as_bytes());
    feed(&target.millis().to_le_bytes());
    feed(format!("{hls:?}").as_bytes());
    if representations.iter().any(|rep| rep.dated) {
        feed(b"dated");
    }
    for rep in representations {
        feed(rep.id.as_bytes());
        feed(rep.language.as_bytes());
        feed(rep.label.as_bytes());
        feed(&[u8::from(rep.default)]);
        for role in &rep.roles {
            feed(role.name().as_bytes());
        }
        match &rep.content {
            Content::Samples(track) => {
                feed(&track.description.sample_entry);
                feed(track.description.rfc6381.as_bytes());
                // An index has megabytes, and a version is needed before the first playlist: a hash ten times as fast
                // stands for it. It tells states of a file apart; it need not withstand anyone.
                feed(&track.index.identity().to_le_bytes());
            }
            Content::Cues(text) => feed(&crate::text::webvtt::write(text)),
        }
    }
    hexadecimal(hash.finalize())
}

/// The first 16 hexadecimal digits of a hash.
fn hexadecimal(hash: impl AsRef<[u8]>) -> String {
    let bytes = hash.as_ref().iter().take(8);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}
