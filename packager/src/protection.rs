//! A presentation's protection in one form: which key each representation is under from when on, and what manifests,
//! headers and ciphers have to know of it.
//!
//! Everything but the keys themselves. Text stays clear in every form: players decrypt sound and pictures alone.

mod periods;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::periods::{Cut, Spans};
use crate::codec::MediaKind;
use crate::crypto::output::{OutputRule, OutputRules};
use crate::crypto::playready::SignalledKey;
use crate::crypto::signal::{ContentProtection, DrmSystems, KeyTag, SignalError};
use crate::crypto::vault::TrackClass;
use crate::crypto::{IvSeed, KeyId, ProtectionScheme};
use crate::form::{Form, SegmentFormat};
use crate::isobmff::protection::{KeyNaming, TrackEncryption};
use crate::limits::KEY_PERIOD_COUNT_MAX;
use crate::presentation::{Presentation, Representation};
use crate::time::MediaTime;

/// Where the 16 bytes of a key are, seen from a media playlist: behind the same grant.
const KEY_URL: &str = "../../key/";

/// Why a presentation can not be had in a protected form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtectionError {
    /// The form is a clear one.
    #[error("{} is not a protected form", .0.name())]
    Clear(Form),
    /// A representation has no key: it is never served clear instead.
    #[error("{representation} has no key for {}", .form.name())]
    MissingKey {
        /// Its name.
        representation: String,
        /// In which form.
        form: Form,
    },
    /// No key period, or more than [`KEY_PERIOD_COUNT_MAX`].
    #[error("{0} key periods, 1 to {KEY_PERIOD_COUNT_MAX} can be")]
    PeriodCount(usize),
    /// Its keys can not be told to players.
    #[error(transparent)]
    Signal(#[from] SignalError),
}

/// Which class of keys a representation is under; `None` for text.
pub fn class_of(representation: &Representation) -> Option<TrackClass> {
    match representation.kind() {
        MediaKind::Audio => Some(TrackClass::Audio),
        MediaKind::Video => {
            let video = representation.video()?;
            Some(TrackClass::of_picture(video.width, video.height))
        }
        MediaKind::Text => None,
    }
}

/// From when on which keys are to hold.
#[derive(Clone, Debug)]
pub struct NewKeyPeriod {
    /// Where it begins, in milliseconds on the timeline of the whole presentation. What is first begins at its beginning,
    /// whatever this says.
    pub starts_ms: u64,
    /// The key of each representation, by its id.
    pub keys: BTreeMap<String, SignalledKey>,
}

/// Which keys are to hold when, on the timeline of the whole presentation.
#[derive(Clone, Debug, Default)]
pub struct KeySchedule {
    /// At least one, by ascending starts.
    pub periods: Vec<NewKeyPeriod>,
    /// The beginning that is left clear, in milliseconds; zero for none. A presentation that has no boundary behind it has
    /// no clear beginning: nothing is ever left clear as a whole.
    pub clear_lead_ms: u64,
    /// Where fragments of CMAF have their key named.
    pub naming: KeyNaming,
}

/// How one representation is protected in one key period.
#[derive(Clone, Debug)]
pub struct TrackProtection {
    /// Name of its key.
    pub key_id: KeyId,
    /// Where its initialisation vectors come from.
    pub seed: IvSeed,
    /// As boxes say it; `None` in the forms of MPEG-TS.
    pub encryption: Option<TrackEncryption>,
    /// Tags for its playlists; empty where each segment has its own (AES-128).
    tags: Vec<KeyTag>,
    descriptors: Vec<ContentProtection>,
}

/// Which playlist of a representation: their segments are encrypted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentList {
    /// All samples.
    Media,
    /// I-frames alone.
    Trick,
}

impl TrackProtection {
    /// Descriptors for its AdaptationSet, in order.
    pub fn descriptors(&self) -> &[ContentProtection] {
        &self.descriptors
    }

    /// Tags for its playlists, in front of the first segment under its key.
    pub fn tags(&self) -> &[KeyTag] {
        &self.tags
    }

    /// Initialisation vector of segment `number` where segments are encrypted as a whole.
    pub fn segment_iv(&self, list: SegmentList, number: u32) -> [u8; 16] {
        // Segment numbers stay far below the bit that tells the lists apart.
        match list {
            SegmentList::Media => self.seed.numbered(number),
            SegmentList::Trick => self.seed.numbered(number | 1 << 31),
        }
    }

    /// The tag of a segment that is encrypted as a whole.
    pub fn segment_tag(&self, list: SegmentList, number: u32) -> KeyTag {
        KeyTag::aes_128(&format!("{KEY_URL}{}", self.key_id), self.segment_iv(list, number))
    }
}

/// What holds from some instant on: a key of each representation.
#[derive(Clone, Debug)]
struct KeySet {
    starts_ms: u64,
    tracks: BTreeMap<String, TrackProtection>,
    session_tags: Vec<KeyTag>,
    pssh: Vec<Bytes>,
}

/// A key period of a presentation as it is cut: it begins with a segment of every representation.
#[derive(Clone, Copy, Debug)]
pub struct KeyPeriod<'a> {
    set: Option<&'a KeySet>,
    start: MediaTime,
}

impl<'a> KeyPeriod<'a> {
    /// Where it begins, on the presentation's timeline; zero for the first.
    pub fn start(&self) -> MediaTime {
        self.start
    }

    /// Whether it is left clear (the clear lead).
    pub fn is_clear(&self) -> bool {
        self.set.is_none()
    }

    /// How `representation` is protected; `None` for text, and for all that is clear.
    pub fn track(&self, representation: &Representation) -> Option<&'a TrackProtection> {
        self.set?.tracks.get(&representation.id)
    }

    /// Whole `pssh` boxes for its CMAF headers, which name its own keys: the next ones are in headers of their own.
    pub fn pssh(&self) -> &'a [Bytes] {
        self.set.map(|set| set.pssh.as_slice()).unwrap_or_default()
    }
}

/// How a presentation is protected in one form.
#[derive(Clone, Debug)]
pub struct Protection {
    form: Form,
    sets: Vec<KeySet>,
    clear_lead_ms: u64,
    outputs: OutputRules,
    /// Which of the sets hold from which boundary on.
    cut: Cut,
}

impl Protection {
    /// The protection of `presentation` in `form` by the keys of `schedule`. In every key period every representation of
    /// sound and pictures that the form carries must have one.
    pub fn new(
        presentation: &Presentation,
        form: Form,
        systems: &DrmSystems,
        schedule: &KeySchedule,
    ) -> Result<Protection, ProtectionError> {
        if form.key_scheme().is_none() {
            return Err(ProtectionError::Clear(form));
        }
        let count = schedule.periods.len();
        if !(1..=KEY_PERIOD_COUNT_MAX).contains(&count) {
            return Err(ProtectionError::PeriodCount(count));
        }
        let sets = schedule.periods.iter();
        let sets = sets
            .map(|period| key_set(presentation, form, systems, schedule.naming, period))
            .collect::<Result<Vec<KeySet>, ProtectionError>>()?;
        let mut protection = Protection {
            form,
            sets,
            clear_lead_ms: schedule.clear_lead_ms,
            outputs: OutputRules::default(),
            cut: Cut::default(),
        };
        protection.cut = protection.cut_of(presentation, 0);
        Ok(protection)
    }

    /// The same with rules for what devices have to guarantee, which manifests tell.
    pub fn with_outputs(mut self, outputs: OutputRules) -> Protection {
        self.outputs = outputs;
        self
    }

    /// What a device has to guarantee for `representation`.
    pub fn output(&self, representation: &Representation) -> Option<&OutputRule> {
        self.outputs.of(class_of(representation)?)
    }

    /// The same for a part of the presentation, whose version names the part too and whose time zero is `begins_ms` of the
    /// whole. A part's fragments are encrypted as in the whole, because its samples keep their numbers; segments of MPEG-TS
    /// are others, so they get other vectors.
    pub fn of_part(&self, part: &Presentation, begins_ms: u64) -> Protection {
        let mut protection = self.clone();
        for (id, track) in protection.sets.iter_mut().flat_map(|set| &mut set.tracks) {
            if self.form.format() == SegmentFormat::Ts {
                track.seed = IvSeed::new(&part.version, id, self.form.name(), track.key_id);
                track.tags = head_tags(self.form, track.key_id, track.seed);
            }
        }
        protection.cut = protection.cut_of(part, begins_ms);
        protection
    }

    fn cut_of(&self, presentation: &Presentation, begins_ms: u64) -> Cut {
        let starts: Vec<u64> = self.sets.iter().map(|set| set.starts_ms).collect();
        let key_of = |set: usize, id: &str| Some(self.sets.get(set)?.tracks.get(id)?.key_id);
        Cut::of(presentation, self.form, &starts, self.clear_lead_ms, begins_ms, key_of)
    }

    /// The same for the other watermark variant of the representations `ids` of version `version`: their samples must not
    /// meet the counters of the first. Headers and playlists stay as they are, for both variants share them.
    pub fn of_other_variant(&self, version: &str, ids: &[String]) -> Protection {
        let mut other = self.clone();
        let tracks = other.sets.iter_mut().flat_map(|set| &mut set.tracks);
        for (id, track) in tracks.filter(|(id, _)| ids.contains(id)) {
            if let Some(encryption) = track.encryption.as_mut().filter(|encryption| encryption.iv_size() > 0) {
                // No representation has such an id.
                let id = format!("{id}~b");
                encryption.seed = IvSeed::new(version, &id, self.form.name(), track.key_id);
            }
        }
        other
    }

    /// The form.
    pub fn form(&self) -> Form {
        self.form
    }

    /// How many key periods there are; at least one.
    pub fn period_count(&self) -> usize {
        self.cut.periods.len()
    }

    /// Key period `period`, 0-based; the last one where there are fewer.
    pub fn period(&self, period: usize) -> KeyPeriod<'_> {
        let found = self.cut.periods.get(period).or(self.cut.periods.last());
        KeyPeriod {
            set: found.and_then(|found| self.sets.get(found.set?)),
            start: found.map_or(MediaTime::from_millis(0), |found| found.start),
        }
    }

    /// The key periods, in order.
    pub fn periods(&self) -> impl Iterator<Item = KeyPeriod<'_>> {
        (0..self.period_count()).map(|period| self.period(period))
    }

    /// The numbers of the segments of `list` that lie in key period `period`.
    pub fn segments(&self, representation: &Representation, list: SegmentList, period: usize) -> std::ops::Range<u32> {
        self.spans(representation, list).segments(period)
    }

    /// The key period that segment `number` of `list` lies in.
    pub fn period_of(&self, representation: &Representation, list: SegmentList, number: u32) -> usize {
        self.spans(representation, list).period_of(number)
    }

    /// How segment `number` of `list` is protected: `None` for text and the clear lead. A representation without a key is
    /// an error, so that it is never served clear instead.
    pub fn track_at(
        &self,
        representation: &Representation,
        list: SegmentList,
        number: u32,
    ) -> Result<Option<&TrackProtection>, ProtectionError> {
        let period = self.period(self.period_of(representation, list, number));
        match period.track(representation) {
            None if period.is_clear() || representation.kind() == MediaKind::Text => Ok(None),
            None => Err(ProtectionError::MissingKey {
                representation: representation.id.clone(),
                form: self.form,
            }),
            found => Ok(found),
        }
    }

    /// The key period whose CMAF header serves segments of `period`: the one in which the key that holds there, or being
    /// clear, began. Headers differ where this differs.
    pub fn header_period(&self, representation: &Representation, period: usize) -> usize {
        self.cut
            .spans
            .get(&representation.id)
            .and_then(|spans| spans.headers.get(period).copied())
            .unwrap_or(0)
    }

    /// The file name of the CMAF header of `representation` for segments of `period`: `init.mp4` of what comes first,
    /// else `init-{n}.mp4`, where n is the key period, counted from 1.
    pub fn header_name(&self, representation: &Representation, period: usize) -> String {
        match self.header_period(representation, period) {
            header if header == self.header_period(representation, self.first_period(representation)) => {
                "init.mp4".into()
            }
            header => format!("init-{}.mp4", header + 1),
        }
    }

    /// The key periods of which `representation` has headers: `init.mp4`, then those with a number in their name.
    pub fn headers(&self, representation: &Representation) -> Vec<usize> {
        let spans = self.spans(representation, SegmentList::Media);
        let mut headers: Vec<usize> = (0..self.period_count())
            .filter(|period| !spans.segments(*period).is_empty())
            .map(|period| self.header_period(representation, period))
            .collect();
        headers.dedup();
        headers
    }

    /// The key period that the first segment of `representation` lies in.
    pub fn first_period(&self, representation: &Representation) -> usize {
        self.period_of(representation, SegmentList::Media, 1)
    }

    /// Tags for the multivariant playlist, of the keys of all periods: so later ones are known long before they are needed.
    pub fn session_tags(&self) -> Vec<&KeyTag> {
        let mut tags: Vec<&KeyTag> = Vec::new();
        for set in self.periods().filter_map(|period| period.set) {
            for tag in &set.session_tags {
                // A key that goes on was named before.
                if !tags.contains(&tag) {
                    tags.push(tag);
                }
            }
        }
        tags
    }

    fn spans(&self, representation: &Representation, list: SegmentList) -> Spans {
        let first_numbers = self
            .cut
            .spans
            .get(&representation.id)
            .map(|spans| &spans.first_segments);
        let (first_numbers, count) = match list {
            SegmentList::Media => (
                first_numbers.cloned().unwrap_or_default(),
                representation.segments.segments().len(),
            ),
            SegmentList::Trick => {
                let frames = &representation.trick_frames;
                let numbers = first_numbers.map(|numbers| {
                    let numbers = numbers.iter().map(|number| {
                        let first = representation.segments.get(*number);
                        let first = first.map_or(u32::MAX, |segment| segment.samples.start);
                        frames.partition_point(|frame| frame.sample_index < first) as u32 + 1
                    });
                    numbers.collect()
                });
                (numbers.unwrap_or_default(), frames.len())
            }
        };
        Spans {
            first_numbers,
            count: u32::try_from(count).unwrap_or(u32::MAX),
        }
    }
}

/// The keys of a period, told in every way.
fn key_set(
    presentation: &Presentation,
    form: Form,
    systems: &DrmSystems,
    naming: KeyNaming,
    period: &NewKeyPeriod,
) -> Result<KeySet, ProtectionError> {
    let carried = [MediaKind::Video, MediaKind::Audio]
        .into_iter()
        .flat_map(|kind| presentation.carried(form, kind));
    let mut keys = Vec::new();
    for representation in carried {
        let key = period.keys.get(&representation.id);
        let key = key.ok_or_else(|| ProtectionError::MissingKey {
            representation: representation.id.clone(),
            form,
        })?;
        keys.push((representation, *key));
    }
    let mut all: Vec<SignalledKey> = Vec::new();
    for (_, key) in &keys {
        if !all.iter().any(|known| known.key_id == key.key_id) {
            all.push(*key);
        }
    }
    let mut set = KeySet {
        starts_ms: period.starts_ms,
        tracks: BTreeMap::new(),
        session_tags: Vec::new(),
        pssh: Vec::new(),
    };
    for (representation, key) in keys {
        let track = protect(presentation, form, systems, naming, representation, key, &all)?;
        set.tracks.insert(representation.id.clone(), track);
    }
    if let Form::CmafProtected(scheme) = form {
        if !matches!(scheme, ProtectionScheme::Cens | ProtectionScheme::Cbc1) {
            set.session_tags = systems.session_key_tags(scheme, &all, None)?;
        }
        let boxes = systems.pssh_boxes(scheme, &all)?;
        set.pssh = boxes.iter().map(|pssh| Bytes::from(pssh.serialise())).collect();
    }
    Ok(set)
}

fn protect(
    presentation: &Presentation,
    form: Form,
    systems: &DrmSystems,
    naming: KeyNaming,
    representation: &Representation,
    key: SignalledKey,
    all: &[SignalledKey],
) -> Result<TrackProtection, ProtectionError> {
    let seed = IvSeed::new(&presentation.version, &representation.id, form.name(), key.key_id);
    let own_first: Vec<SignalledKey> = std::iter::once(key)
        .chain(all.iter().copied().filter(|other| other.key_id != key.key_id))
        .collect();
    let mut track = TrackProtection {
        key_id: key.key_id,
        seed,
        encryption: None,
        tags: Vec::new(),
        descriptors: Vec::new(),
    };
    match form {
        Form::CmafProtected(scheme) => {
            use ProtectionScheme::{Cbc1, Cbcs, Cenc, Cens};
            let is_video = representation.kind() == MediaKind::Video;
            let encryption = TrackEncryption {
                scheme,
                pattern: scheme.pattern(is_video),
                key_id: key.key_id,
                seed,
                naming,
            };
            track.encryption = Some(encryption);
            // HLS has names for two of the four (RFC 8216bis 4.4.4.4).
            track.tags = match scheme {
                Cbcs => systems.key_tags(scheme, &own_first, Some(seed.constant()))?,
                Cenc => systems.key_tags(scheme, &own_first, None)?,
                Cens | Cbc1 => Vec::new(),
            };
            track.descriptors = systems.content_protection(scheme, &own_first)?;
        }
        _ => track.tags = head_tags(form, key.key_id, seed),
    }
    Ok(track)
}

/// Tags for the head of a playlist of MPEG-TS: one where samples are encrypted, none where each segment has its own.
fn head_tags(form: Form, key_id: KeyId, seed: IvSeed) -> Vec<KeyTag> {
    match form {
        Form::TsSampleAes => vec![KeyTag::sample_aes(&format!("{KEY_URL}{key_id}"), seed.constant())],
        _ => Vec::new(),
    }
}
