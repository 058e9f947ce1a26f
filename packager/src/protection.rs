//! A presentation's protection in one form: which key each representation is under, and what manifests, headers and
//! ciphers have to know of it.
//!
//! Everything but the keys themselves. Text stays clear in every form: players decrypt sound and pictures alone.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::codec::MediaKind;
use crate::crypto::playready::SignalledKey;
use crate::crypto::signal::{ContentProtection, DrmSystems, KeyTag, SignalError};
use crate::crypto::{IvSeed, KeyId};
use crate::form::{Form, SegmentFormat};
use crate::isobmff::protection::TrackEncryption;
use crate::presentation::{Presentation, Representation};

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
    /// Its keys can not be told to players.
    #[error(transparent)]
    Signal(#[from] SignalError),
}

/// How one representation is protected.
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

    /// Tags for the head of its playlists.
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

/// How a presentation is protected in one form.
#[derive(Clone, Debug)]
pub struct Protection {
    form: Form,
    tracks: BTreeMap<String, TrackProtection>,
    session_tags: Vec<KeyTag>,
    pssh: Vec<Bytes>,
}

impl Protection {
    /// The protection of `presentation` in `form`; `key_of` names the key of a representation. Every representation of
    /// sound and pictures that the form carries must have one.
    pub fn new(
        presentation: &Presentation,
        form: Form,
        systems: &DrmSystems,
        key_of: impl Fn(&Representation) -> Option<SignalledKey>,
    ) -> Result<Protection, ProtectionError> {
        let Some(_) = form.key_scheme() else {
            return Err(ProtectionError::Clear(form));
        };
        let carried = [MediaKind::Video, MediaKind::Audio]
            .into_iter()
            .flat_map(|kind| presentation.carried(form, kind));
        let mut keys = Vec::new();
        for representation in carried {
            let key = key_of(representation).ok_or_else(|| ProtectionError::MissingKey {
                representation: representation.id.clone(),
                form,
            })?;
            keys.push((representation, key));
        }
        let mut all: Vec<SignalledKey> = Vec::new();
        for (_, key) in &keys {
            if !all.iter().any(|known| known.key_id == key.key_id) {
                all.push(*key);
            }
        }
        let mut protection = Protection {
            form,
            tracks: BTreeMap::new(),
            session_tags: Vec::new(),
            pssh: Vec::new(),
        };
        for (representation, key) in keys {
            let track = protect(presentation, form, systems, representation, key, &all)?;
            protection.tracks.insert(representation.id.clone(), track);
        }
        if let Form::CmafProtected(scheme) = form {
            let in_hls = !matches!(
                scheme,
                crate::crypto::ProtectionScheme::Cens | crate::crypto::ProtectionScheme::Cbc1
            );
            if in_hls {
                protection.session_tags = systems.session_key_tags(scheme, &all, None)?;
            }
            let boxes = systems.pssh_boxes(scheme, &all)?;
            protection.pssh = boxes.iter().map(|pssh| Bytes::from(pssh.serialise())).collect();
        }
        Ok(protection)
    }

    /// The same for a part of the presentation, whose version names the part too. A part's fragments are encrypted as in
    /// the whole, because its samples keep their numbers; segments of MPEG-TS are others, so they get other vectors.
    pub fn of_part(&self, version: &str) -> Protection {
        let mut part = self.clone();
        for (id, track) in &mut part.tracks {
            if self.form.format() == SegmentFormat::Ts {
                track.seed = IvSeed::new(version, id, self.form.name(), track.key_id);
                track.tags = head_tags(self.form, track.key_id, track.seed);
            }
        }
        part
    }

    /// The form.
    pub fn form(&self) -> Form {
        self.form
    }

    /// How `representation` is protected; `None` for text.
    pub fn track(&self, representation: &Representation) -> Option<&TrackProtection> {
        self.tracks.get(&representation.id)
    }

    /// Whole `pssh` boxes for a CMAF header.
    pub fn pssh(&self) -> &[Bytes] {
        &self.pssh
    }

    /// Tags for the multivariant playlist.
    pub fn session_tags(&self) -> &[KeyTag] {
        &self.session_tags
    }
}

fn protect(
    presentation: &Presentation,
    form: Form,
    systems: &DrmSystems,
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
            use crate::crypto::ProtectionScheme::{Cbc1, Cbcs, Cenc, Cens};
            let is_video = representation.kind() == MediaKind::Video;
            let encryption = TrackEncryption {
                scheme,
                pattern: scheme.pattern(is_video),
                key_id: key.key_id,
                seed,
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
