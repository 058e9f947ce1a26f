//! CPIX document: content keys, what DRM systems say of them, and which key is for which track (DASH-IF CPIX 2.3, 2.4).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use packager::crypto::pssh::SystemId;
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};

pub use super::cpix_read::{CpixError, read};
pub use super::cpix_write::write;
use super::delivery::{self, DeliveryError, DeliveryKey, DocumentKey, EncryptedValue, Recipient};
use super::{Key, KeySet, TrackType};

/// Keys of a document.
pub const KEY_COUNT_MAX: usize = 256;
/// `DRMSystem` elements of a document.
pub const SYSTEM_COUNT_MAX: usize = 1_024;
/// Key periods of a document.
pub const PERIOD_COUNT_MAX: usize = 256;
/// Usage rules of a document.
pub const RULE_COUNT_MAX: usize = 512;
/// Filters of a rule.
pub const FILTER_COUNT_MAX: usize = 32;
/// Recipients of a document.
pub const DELIVERY_COUNT_MAX: usize = 16;

/// Which edition of the text a document is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// What SPEKE 1 carries: `CPIX@id`, no `@version`, `URIExtXKey`.
    Speke1,
    /// 2.3
    V2_3,
    /// 2.4
    V2_4,
}

impl Version {
    /// The value of `CPIX@version`.
    pub fn text(self) -> Option<&'static str> {
        match self {
            Version::Speke1 => None,
            Version::V2_3 => Some("2.3"),
            Version::V2_4 => Some("2.4"),
        }
    }
}

/// A CPIX document.
#[derive(Default)]
pub struct Document {
    /// `CPIX@id`: the title, in SPEKE 1.
    pub id: Option<String>,
    /// `CPIX@contentId`
    pub content_id: Option<String>,
    /// `CPIX@version`, as it stands there.
    pub version: Option<String>,
    /// Who may read the keys.
    pub deliveries: Vec<Delivery>,
    /// The keys.
    pub keys: Vec<KeyElement>,
    /// What DRM systems say of keys.
    pub systems: Vec<DrmSystem>,
    /// Key periods.
    pub periods: Vec<KeyPeriod>,
    /// Which key is for which track.
    pub rules: Vec<UsageRule>,
}

/// `DeliveryData`: a recipient, and the document key encrypted to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The first `X509Certificate` of the `DeliveryKey`, DER.
    pub certificate: Vec<u8>,
    /// The key that content keys are encrypted with; absent where a document asks for encryption.
    pub document_key: Option<EncryptedValue>,
    /// The key of `ValueMAC`s.
    pub mac_key: Option<EncryptedValue>,
    /// `MACMethod@Algorithm`
    pub mac_algorithm: Option<String>,
}

/// A `ContentKey`.
pub struct KeyElement {
    /// `@kid`
    pub key_id: KeyId,
    /// `@commonEncryptionScheme`
    pub scheme: Option<ProtectionScheme>,
    /// `@explicitIV`
    pub iv: Option<[u8; 16]>,
    /// `HDCPData`
    pub hdcp: Option<Hdcp>,
    /// `Data/Secret`
    pub value: KeyValue,
}

/// Where the 16 bytes of a key are.
pub enum KeyValue {
    /// Nowhere: the document asks for them.
    Absent,
    /// `PlainValue`
    Plain(ContentKey),
    /// `EncryptedValue` and `ValueMAC`.
    Encrypted(EncryptedValue),
}

/// `HDCPData`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hdcp {
    /// `@HLSHDCPLevel`, as `TYPE-1`.
    pub hls_level: Option<String>,
    /// `HDCPOutputProtectionData`: an XML fragment for DASH, base64.
    pub output_protection: Option<String>,
}

/// A `DRMSystem`. A field that is `Some("")` is asked for; text is as it stands in the document, mostly base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrmSystem {
    /// `@kid`
    pub key_id: KeyId,
    /// `@systemId`
    pub system_id: SystemId,
    /// `@name`
    pub name: Option<String>,
    /// `@HLSAllowedCPC` (2.4)
    pub allowed_cpc: Option<String>,
    /// `PSSH`
    pub pssh: Option<String>,
    /// `ContentProtectionData`
    pub content_protection: Option<String>,
    /// `ContentProtectionData@robustness` (2.4)
    pub robustness: Option<String>,
    /// `HLSSignalingData`, at most one for each playlist.
    pub hls: Vec<HlsSignal>,
    /// `SmoothStreamingProtectionHeaderData`
    pub smooth: Option<String>,
    /// `URIExtXKey` (SPEKE 1)
    pub key_uri: Option<String>,
    /// `speke:KeyFormat` (SPEKE 1)
    pub key_format: Option<String>,
    /// `speke:KeyFormatVersions` (SPEKE 1)
    pub key_format_versions: Option<String>,
    /// `speke:ProtectionHeader` (SPEKE 1)
    pub protection_header: Option<String>,
}

impl DrmSystem {
    /// One that says nothing and asks for nothing.
    pub fn new(key_id: KeyId, system_id: SystemId) -> DrmSystem {
        DrmSystem {
            key_id,
            system_id,
            name: None,
            allowed_cpc: None,
            pssh: None,
            content_protection: None,
            robustness: None,
            hls: Vec::new(),
            smooth: None,
            key_uri: None,
            key_format: None,
            key_format_versions: None,
            protection_header: None,
        }
    }
}

/// `HLSSignalingData`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HlsSignal {
    /// `@playlist`
    pub playlist: Playlist,
    /// Tags, base64.
    pub text: String,
}

/// Which playlist tags are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Playlist {
    /// `media`, which is also meant without the attribute.
    Media,
    /// The multivariant playlist by its name in 2.3, `master`. Encryptors send it in SPEKE 2.1 too.
    Master,
    /// The multivariant playlist by its name in 2.4, `multiVariant`.
    MultiVariant,
}

impl Playlist {
    /// The value of `@playlist`.
    pub fn name(self) -> &'static str {
        match self {
            Playlist::Media => "media",
            Playlist::Master => "master",
            Playlist::MultiVariant => "multiVariant",
        }
    }
}

/// `ContentKeyPeriod`. Times are as they stand in the document: `xs:dateTime` and `xs:duration`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPeriod {
    /// `@id`
    pub id: String,
    /// `@index`
    pub index: Option<u64>,
    /// `@label`
    pub label: Option<String>,
    /// `@start`, wall clock.
    pub start: Option<String>,
    /// `@end`, wall clock.
    pub end: Option<String>,
    /// `@startOffset` (2.4)
    pub start_offset: Option<String>,
    /// `@endOffset` (2.4)
    pub end_offset: Option<String>,
    /// `@duration` (2.4)
    pub duration: Option<String>,
}

/// `ContentKeyUsageRule`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRule {
    /// `@kid`
    pub key_id: KeyId,
    /// `@intendedTrackType`
    pub track_type: Option<TrackType>,
    /// What the rule is restricted to.
    pub filters: Vec<Filter>,
}

/// A filter of a usage rule. Bounds are inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// `KeyPeriodFilter@periodId`
    KeyPeriod(String),
    /// `LabelFilter@label`
    Label(String),
    /// `VideoFilter`
    Video {
        /// `@minPixels` and `@maxPixels`: width times height.
        pixels: Bounds,
        /// `@minFps` (exclusive in the text) and `@maxFps`, frames a second.
        frames_per_second: Bounds,
        /// `@hdr`
        hdr: Option<bool>,
        /// `@wcg`
        wide_colour: Option<bool>,
    },
    /// `AudioFilter`
    Audio {
        /// `@minChannels` and `@maxChannels`
        channels: Bounds,
    },
    /// `BitrateFilter`, bits a second.
    Bitrate(Bounds),
}

/// A range of numbers, inclusive; an end that is absent is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The smallest.
    pub min: Option<u64>,
    /// The largest.
    pub max: Option<u64>,
}

impl Bounds {
    fn holds(self, value: u64) -> bool {
        self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }
}

/// Samples that a key is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackContext {
    /// `@id` of the key period they lie in.
    pub period_id: Option<String>,
    /// Labels they go by.
    pub labels: Vec<String>,
    /// What they are.
    pub media: Media,
    /// Bits a second, nominal.
    pub bitrate_bps: u64,
}

/// What samples are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Media {
    /// Pictures.
    Video {
        /// Width times height.
        pixels: u64,
        /// Frames a second, rounded up.
        frames_per_second: u64,
        /// High dynamic range.
        hdr: bool,
        /// Wide colour gamut.
        wide_colour: bool,
    },
    /// Sound.
    Audio {
        /// Channels.
        channels: u64,
    },
    /// Anything else.
    #[default]
    Other,
}

/// More than one key is for the same samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage rules give the same samples key {0} and key {1}")]
pub struct Ambiguous(pub KeyId, pub KeyId);

impl Document {
    /// The key for some samples: none, or one. Filters of one type are alternatives, types must all match; video and
    /// audio filters count as one type, or a rule with both, which SPEKE writes for `ALL`, would match nothing.
    pub fn key_for(&self, context: &TrackContext) -> Result<Option<KeyId>, Ambiguous> {
        let mut found = None;
        for rule in self.rules.iter().filter(|rule| rule.matches(context)) {
            match found {
                Some(other) if other != rule.key_id => return Err(Ambiguous(other, rule.key_id)),
                _ => found = Some(rule.key_id),
            }
        }
        Ok(found)
    }

    /// The track type and the period index that rules give a key: the first of its types, the first of its periods.
    pub fn use_of(&self, key_id: KeyId) -> (Option<&TrackType>, u64) {
        let rules = || self.rules.iter().filter(move |rule| rule.key_id == key_id);
        let track_type = rules().find_map(|rule| rule.track_type.as_ref());
        let period = rules().flat_map(|rule| &rule.filters).find_map(|filter| match filter {
            Filter::KeyPeriod(id) => self.periods.iter().find(|period| period.id == *id)?.index,
            _ => None,
        });
        (track_type, period.unwrap_or(0))
    }

    /// Keys of a title as a document to hand to `recipients`; without any, keys stand in it in the clear.
    pub fn export(
        version: Version,
        content_id: &str,
        keys: &KeySet,
        recipients: &[Recipient],
    ) -> Result<Document, DeliveryError> {
        let mut document = Document {
            content_id: Some(content_id.to_owned()),
            version: version.text().map(str::to_owned),
            ..Document::default()
        };
        let mut indices: Vec<u64> = keys.keys.iter().map(|key| key.period).collect();
        indices.sort_unstable();
        indices.dedup();
        let rotates = indices.iter().any(|index| *index != 0);
        let period_id = |index: u64| format!("period-{index}");
        if rotates {
            let period = |index: &u64| KeyPeriod {
                id: period_id(*index),
                index: Some(*index),
                ..KeyPeriod::default()
            };
            document.periods = indices.iter().map(period).collect();
        }
        for key in &keys.keys {
            document.keys.push(KeyElement {
                key_id: key.key_id,
                scheme: key.scheme,
                iv: key.iv,
                hdcp: None,
                value: KeyValue::Plain(key.key.clone()),
            });
            document.rules.push(UsageRule {
                key_id: key.key_id,
                track_type: Some(key.track_type.clone()),
                filters: filters_of(&key.track_type, rotates.then(|| period_id(key.period))),
            });
        }
        document.encrypt(recipients)?;
        Ok(document)
    }

    /// Encrypts every key that stands in the document under one new document key, and that to each recipient.
    pub fn encrypt(&mut self, recipients: &[Recipient]) -> Result<(), DeliveryError> {
        if recipients.is_empty() {
            return Ok(());
        }
        let document_key = DocumentKey::generate()?;
        for element in &mut self.keys {
            if let KeyValue::Plain(key) = &element.value {
                element.value = KeyValue::Encrypted(document_key.encrypt(key)?);
            }
        }
        self.deliveries = recipients
            .iter()
            .map(|recipient| document_key.deliver(recipient))
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    /// The keys that the document holds, decrypted with `delivery_key` where they are encrypted.
    pub fn key_set(&self, delivery_key: Option<&DeliveryKey>) -> Result<KeySet, DeliveryError> {
        let encrypted = |element: &KeyElement| matches!(element.value, KeyValue::Encrypted(_));
        let document_key = match self.keys.iter().any(encrypted) {
            true => Some(delivery::open(
                &self.deliveries,
                delivery_key.ok_or(DeliveryError::NoKey)?,
            )?),
            false => None,
        };
        let mut set = KeySet::default();
        for element in &self.keys {
            let key = match (&element.value, &document_key) {
                (KeyValue::Plain(key), _) => key.clone(),
                (KeyValue::Encrypted(value), Some(document_key)) => document_key.decrypt(value)?,
                _ => return Err(DeliveryError::Absent(element.key_id)),
            };
            let (track_type, period) = self.use_of(element.key_id);
            set.keys.push(Key {
                key_id: element.key_id,
                key,
                scheme: element.scheme,
                track_type: track_type.cloned().unwrap_or_else(TrackType::all),
                period,
                iv: element.iv,
            });
        }
        Ok(set)
    }
}

impl UsageRule {
    fn matches(&self, context: &TrackContext) -> bool {
        let types: [fn(&Filter) -> bool; 4] = [
            |filter| matches!(filter, Filter::KeyPeriod(_)),
            |filter| matches!(filter, Filter::Label(_)),
            |filter| matches!(filter, Filter::Video { .. } | Filter::Audio { .. }),
            |filter| matches!(filter, Filter::Bitrate(_)),
        ];
        types.into_iter().all(|of_type| {
            let mut filters = self.filters.iter().filter(|filter| of_type(filter)).peekable();
            filters.peek().is_none() || filters.any(|filter| filter.matches(context))
        })
    }
}

impl Filter {
    /// The key period it names, if it is one of those.
    pub(crate) fn period_id(&self) -> Option<&str> {
        match self {
            Filter::KeyPeriod(id) => Some(id),
            _ => None,
        }
    }

    fn matches(&self, context: &TrackContext) -> bool {
        match (self, context.media) {
            (Filter::KeyPeriod(id), _) => context.period_id.as_ref() == Some(id),
            (Filter::Label(label), _) => context.labels.contains(label),
            (Filter::Bitrate(bounds), _) => bounds.holds(context.bitrate_bps),
            (
                Filter::Video {
                    pixels,
                    frames_per_second,
                    hdr,
                    wide_colour,
                },
                Media::Video {
                    pixels: has_pixels,
                    frames_per_second: has_frames,
                    hdr: is_hdr,
                    wide_colour: is_wide,
                },
            ) => {
                pixels.holds(has_pixels)
                    && frames_per_second.max.is_none_or(|max| has_frames <= max)
                    && frames_per_second.min.is_none_or(|min| has_frames > min)
                    && hdr.is_none_or(|hdr| hdr == is_hdr)
                    && wide_colour.is_none_or(|wide| wide == is_wide)
            }
            (Filter::Audio { channels }, Media::Audio { channels: has }) => channels.holds(has),
            (Filter::Video { .. } | Filter::Audio { .. }, _) => false,
        }
    }
}

/// Pixels of the largest picture of a class of Widevine's track types.
const SD_PIXELS_MAX: u64 = 768 * 576;
const HD_PIXELS_MAX: u64 = 1_920 * 1_080;
const UHD1_PIXELS_MAX: u64 = 4_096 * 2_160;

/// What a track type says in filters; a type that is not Widevine's becomes a label.
pub(crate) fn filters_of(track_type: &TrackType, period_id: Option<String>) -> Vec<Filter> {
    let video = |min: Option<u64>, max| Filter::Video {
        pixels: Bounds {
            min: min.map(|min| min + 1),
            max,
        },
        frames_per_second: Bounds::default(),
        hdr: None,
        wide_colour: None,
    };
    let audio = Filter::Audio {
        channels: Bounds::default(),
    };
    let mut filters: Vec<Filter> = period_id.into_iter().map(Filter::KeyPeriod).collect();
    match track_type.name() {
        TrackType::ALL => filters.extend([video(None, None), audio]),
        "VIDEO" => filters.push(video(None, None)),
        "AUDIO" => filters.push(audio),
        "SD" => filters.push(video(None, Some(SD_PIXELS_MAX))),
        "HD" => filters.push(video(Some(SD_PIXELS_MAX), Some(HD_PIXELS_MAX))),
        "UHD1" => filters.push(video(Some(HD_PIXELS_MAX), Some(UHD1_PIXELS_MAX))),
        "UHD2" => filters.push(video(Some(UHD1_PIXELS_MAX), None)),
        name => filters.push(Filter::Label(name.to_owned())),
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(key: u8, filters: &[Filter]) -> UsageRule {
        UsageRule {
            key_id: KeyId([key; 16]),
            track_type: None,
            filters: filters.to_vec(),
        }
    }

    fn video(min: Option<u64>, max: Option<u64>) -> Filter {
        Filter::Video {
            pixels: Bounds { min, max },
            frames_per_second: Bounds::default(),
            hdr: None,
            wide_colour: None,
        }
    }

    #[test]
    fn one_type_is_alternatives_and_types_must_all_match() {
        let audio = Filter::Audio {
            channels: Bounds::default(),
        };
        let period = |id: &str| Filter::KeyPeriod(id.to_owned());
        let picture = |pixels| Media::Video {
            pixels,
            frames_per_second: 25,
            hdr: false,
            wide_colour: false,
        };
        let check = |rules: &[UsageRule], media, expected: Result<Option<u8>, (u8, u8)>| {
            let document = Document {
                rules: rules.to_vec(),
                ..Document::default()
            };
            let context = TrackContext {
                period_id: Some("p1".to_owned()),
                media,
                ..TrackContext::default()
            };
            let id = |key: u8| KeyId([key; 16]);
            let expected = expected
                .map(|key| key.map(id))
                .map_err(|(a, b)| Ambiguous(id(a), id(b)));
            assert_eq!(document.key_for(&context), expected, "{rules:?}");
        };
        let small = rule(1, &[video(None, Some(100))]);
        let large = rule(2, &[video(Some(101), None)]);
        check(&[small.clone(), large.clone()], picture(100), Ok(Some(1)));
        check(&[small.clone(), large.clone()], picture(101), Ok(Some(2)));
        check(&[small.clone(), large], Media::Audio { channels: 2 }, Ok(None));
        check(&[small, rule(3, &[video(Some(50), None)])], picture(60), Err((1, 3)));
        check(
            &[rule(1, &[video(None, None), audio.clone()])],
            Media::Audio { channels: 2 },
            Ok(Some(1)),
        );
        check(
            &[rule(1, &[period("p0"), audio.clone()])],
            Media::Audio { channels: 2 },
            Ok(None),
        );
        check(
            &[rule(1, &[period("p0"), period("p1"), audio])],
            Media::Audio { channels: 2 },
            Ok(Some(1)),
        );
        check(&[rule(1, &[])], Media::Other, Ok(Some(1)));
    }
}
