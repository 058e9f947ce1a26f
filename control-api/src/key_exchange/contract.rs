//! Contract: which keys an encryptor asks for, and whoever has them.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt;

use packager::crypto::vault::TrackClass;
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};

/// What a key is for, by name: `AUDIO`, `SD`, `HD`, `UHD1`, `UHD2`, or another that encryptor and server agreed upon.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackType(String);

/// Bytes of a track type's name.
const TRACK_TYPE_SIZE_BYTES_MAX: usize = 32;

impl TrackType {
    /// Every track: the type of a title that has one key.
    pub const ALL: &'static str = "ALL";

    /// A name of at most 32 letters, digits, `_`, `+` and `-`.
    pub fn parse(name: &str) -> Option<TrackType> {
        let fits = !name.is_empty() && name.len() <= TRACK_TYPE_SIZE_BYTES_MAX;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-');
        (fits && name.bytes().all(plain)).then(|| TrackType(name.to_owned()))
    }

    /// [`TrackType::ALL`].
    pub fn all() -> TrackType {
        TrackType(TrackType::ALL.to_owned())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The classes of tracks that lie in a type of Widevine's or of SPEKE's, whole or in part. None for other names.
    pub fn classes(&self) -> &'static [TrackClass] {
        use TrackClass::{Audio, Hd, Sd, Uhd1, Uhd2};
        match self.name() {
            TrackType::ALL => &TrackClass::ALL,
            "VIDEO" => &[Sd, Hd, Uhd1, Uhd2],
            "SD" => &[Sd],
            "SD+HD1" => &[Sd, Hd],
            "HD" | "HD1" | "HD2" => &[Hd],
            "UHD" => &[Uhd1, Uhd2],
            "UHD1" => &[Uhd1],
            "UHD2" => &[Uhd2],
            "AUDIO" | "STEREO_AUDIO" | "MULTICHANNEL_AUDIO" | "MULTICHANNEL_AUDIO_3_6" | "MULTICHANNEL_AUDIO_7" => {
                &[Audio]
            }
            _ => &[],
        }
    }
}

impl fmt::Display for TrackType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which keys of which title are asked for, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Whose title it is: the tenant that the asker's credential belongs to, never something the asker says.
    pub tenant: String,
    /// The asker's name for the title. Bytes that are no text are written `hex-` and their digits.
    pub content_id: String,
    /// Which of its keys.
    pub wanted: Wanted,
}

/// Which keys of a title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All that there are; none is made.
    Existing,
    /// These, in this order; those that there are not yet are made.
    Keys(Vec<WantedKey>),
}

/// One key that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedKey {
    /// Its name where the asker gives it one. Otherwise the source does, once for each scheme, track type and period.
    pub key_id: Option<KeyId>,
    /// Where the asker says it. A key must never serve counter and chained schemes both.
    pub scheme: Option<ProtectionScheme>,
    /// What it is for.
    pub track_type: TrackType,
    /// Key period (crypto period), 0 where keys do not rotate.
    pub period: u64,
    /// The constant IV that the asker will use, to be stored with the key.
    pub iv: Option<[u8; 16]>,
}

/// Keys, in the order of what was wanted.
#[derive(Clone, Default)]
pub struct KeySet {
    /// The keys.
    pub keys: Vec<Key>,
}

/// A content key and what it is for.
#[derive(Clone)]
pub struct Key {
    /// Its public name.
    pub key_id: KeyId,
    /// The key.
    pub key: ContentKey,
    /// The scheme it is bound to, if it is.
    pub scheme: Option<ProtectionScheme>,
    /// What it is for.
    pub track_type: TrackType,
    /// Key period, 0 where keys do not rotate.
    pub period: u64,
    /// The constant IV of `cbcs`.
    pub iv: Option<[u8; 16]>,
}

/// Why a source gives no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySourceError {
    /// There is no such title, or none of its keys may be given.
    #[error("the title has no keys")]
    NoKeys,
    /// The key serves another scheme, track type or period, or was revoked.
    #[error("key {0} is in other use")]
    KeyInUse(KeyId),
    /// Keys can be read here, not brought.
    #[error("this source stores no keys")]
    ReadOnly,
    /// Nothing can be said now; the same may work later.
    #[error("the key source is not available")]
    Unavailable,
}

/// Whoever has the keys: a vault, another key server, a map in a test.
pub trait KeySource: Send + Sync + 'static {
    /// The keys of `contract`. The same tenant, title, key id and period give the same key, always; so do the same
    /// tenant, title, scheme, track type and period where the asker leaves the name open. New ones are made at random.
    /// May block.
    fn keys(&self, contract: &Contract) -> Result<KeySet, KeySourceError>;

    /// Takes keys that were made elsewhere: all of them or none. One that is there already with another value is
    /// refused. May block.
    fn store(&self, tenant: &str, content_id: &str, keys: &KeySet) -> Result<(), KeySourceError> {
        let _ = (tenant, content_id, keys);
        Err(KeySourceError::ReadOnly)
    }
}

impl KeySet {
    /// Whether these are answers to `wanted`: as many, by the names and schemes asked for, each for the period it was
    /// asked for.
    pub(crate) fn answers(&self, wanted: &[WantedKey]) -> bool {
        self.keys.len() == wanted.len()
            && self.keys.iter().zip(wanted).all(|(key, wanted)| {
                wanted.key_id.is_none_or(|id| id == key.key_id)
                    && (wanted.scheme.is_none() || key.scheme.is_none() || wanted.scheme == key.scheme)
                    && wanted.period == key.period
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn track_types_are_names_of_classes_and_others() {
        let check = |name: &str, expected: Option<&str>| {
            let classes = |track_type: TrackType| {
                let names: Vec<&str> = track_type.classes().iter().map(|class| class.name()).collect();
                names.join(" ")
            };
            assert_eq!(TrackType::parse(name).map(classes).as_deref(), expected, "{name}");
        };
        for class in TrackClass::ALL {
            check(class.name(), Some(class.name()));
        }
        check("ALL", Some("AUDIO SD HD UHD1 UHD2"));
        check("SD+HD1", Some("SD HD"));
        check("MULTICHANNEL_AUDIO_3_6", Some("AUDIO"));
        check("commentary-2", Some(""));
        check("", None);
        check("a b", None);
        check("a|b", None);
        check(&"a".repeat(33), None);
    }
}
