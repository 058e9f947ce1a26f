//! CPIX reader: a document from XML.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use packager::crypto::pssh::SystemId;
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};

use super::TrackType;
use super::cpix::{
    Bounds, DELIVERY_COUNT_MAX, Delivery, Document, DrmSystem, FILTER_COUNT_MAX, Filter, Hdcp, HlsSignal,
    KEY_COUNT_MAX, KeyElement, KeyPeriod, KeyValue, PERIOD_COUNT_MAX, Playlist, RULE_COUNT_MAX, SYSTEM_COUNT_MAX,
    UsageRule,
};
use super::delivery::{CERTIFICATE_SIZE_BYTES_MAX, EncryptedValue};
use super::xml::{self, Element, XmlError};

pub(crate) const CPIX: &str = "urn:dashif:org:cpix";
pub(crate) const PSKC: &str = "urn:ietf:params:xml:ns:keyprov:pskc";
pub(crate) const DS: &str = "http://www.w3.org/2000/09/xmldsig#";
pub(crate) const ENC: &str = "http://www.w3.org/2001/04/xmlenc#";
pub(crate) const SPEKE: &str = "urn:aws:amazon:com:speke";

/// Bytes of an attribute's value, or of a text that is kept as it stands.
const TEXT_SIZE_BYTES_MAX: usize = 65_536;
/// Bytes of a title's name.
const CONTENT_ID_SIZE_BYTES_MAX: usize = 512;
/// Bytes of something encrypted: an RSA block of 8,192 bits.
const CIPHER_SIZE_BYTES_MAX: usize = 1_024;

/// Why a document is not read. Tells what is wrong with it and nothing of what it holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpixError {
    /// Not a document that is read at all.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// The root is not `CPIX`.
    #[error("not a CPIX document")]
    NotCpix,
    /// Something that must be there is not.
    #[error("Missing {0}")]
    Missing(&'static str),
    /// Something has a value that it can not have.
    #[error("Invalid {0}")]
    Invalid(&'static str),
    /// More of something than is read.
    #[error("Too many {0}")]
    TooMany(&'static str),
    /// A rule with a filter that is not known: whom it is for can not be told.
    #[error("Unknown filter in ContentKeyUsageRule for KID {0}")]
    UnknownFilter(KeyId),
}

/// Reads a document of any version.
pub fn read(bytes: &[u8]) -> Result<Document, CpixError> {
    let root = xml::read(bytes)?;
    if !root.is(CPIX, "CPIX") {
        return Err(CpixError::NotCpix);
    }
    let mut document = Document {
        id: content_id(root.attribute("id"), "CPIX@id")?,
        content_id: content_id(root.attribute("contentId"), "CPIX@contentId")?,
        version: root.attribute("version").map(|version| version.trim().to_owned()),
        ..Document::default()
    };
    for list in root.children.iter().filter(|list| list.namespace == CPIX) {
        let (name, max) = match list.name.as_str() {
            "DeliveryDataList" => ("DeliveryData", DELIVERY_COUNT_MAX),
            "ContentKeyList" => ("ContentKey", KEY_COUNT_MAX),
            "DRMSystemList" => ("DRMSystem", SYSTEM_COUNT_MAX),
            "ContentKeyPeriodList" => ("ContentKeyPeriod", PERIOD_COUNT_MAX),
            "ContentKeyUsageRuleList" => ("ContentKeyUsageRule", RULE_COUNT_MAX),
            _ => continue,
        };
        let elements = || list.children.iter().filter(|child| child.is(CPIX, name));
        if elements().count() > max {
            return Err(CpixError::TooMany(name));
        }
        for element in elements() {
            match name {
                "DeliveryData" => document.deliveries.push(delivery(element)?),
                "ContentKey" => document.keys.push(key(element)?),
                "DRMSystem" => document.systems.push(system(element)?),
                "ContentKeyPeriod" => document.periods.push(period(element)?),
                _ => document.rules.push(rule(element)?),
            }
        }
    }
    for (at, key) in document.keys.iter().enumerate() {
        if document.keys.iter().take(at).any(|other| other.key_id == key.key_id) {
            return Err(CpixError::Invalid("ContentKey@kid: it comes twice"));
        }
    }
    Ok(document)
}

fn content_id(value: Option<&str>, name: &'static str) -> Result<Option<String>, CpixError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match value.len() <= CONTENT_ID_SIZE_BYTES_MAX && !value.chars().any(char::is_control) {
        true => Ok(Some(value.to_owned())),
        false => Err(CpixError::Invalid(name)),
    }
}

fn key_id(element: &Element, name: &'static str) -> Result<KeyId, CpixError> {
    let value = element.attribute("kid").ok_or(CpixError::Missing(name))?;
    KeyId::parse(value.trim()).ok_or(CpixError::Invalid(name))
}

/// Base64 as XML Schema has it: white space anywhere.
fn base64(text: &str, size_max: usize, name: &'static str) -> Result<Vec<u8>, CpixError> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if digits.len() / 4 * 3 > size_max + 3 {
        return Err(CpixError::TooMany(name));
    }
    STANDARD.decode(digits).map_err(|_| CpixError::Invalid(name))
}

fn text(value: &str, name: &'static str) -> Result<String, CpixError> {
    match value.len() <= TEXT_SIZE_BYTES_MAX {
        true => Ok(value.trim().to_owned()),
        false => Err(CpixError::TooMany(name)),
    }
}

fn attribute(element: &Element, name: &'static str) -> Result<Option<String>, CpixError> {
    element.attribute(name).map(|value| text(value, name)).transpose()
}

fn number(element: &Element, name: &'static str) -> Result<Option<u64>, CpixError> {
    let value = element.attribute(name).map(|value| value.trim().parse());
    value.transpose().map_err(|_| CpixError::Invalid(name))
}

fn flag(element: &Element, name: &'static str) -> Result<Option<bool>, CpixError> {
    match element.attribute(name).map(str::trim) {
        None => Ok(None),
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(_) => Err(CpixError::Invalid(name)),
    }
}

fn delivery(element: &Element) -> Result<Delivery, CpixError> {
    let certificate = element
        .child(CPIX, "DeliveryKey")
        .and_then(|key| key.descendant(DS, "X509Certificate"))
        .ok_or(CpixError::Missing("DeliveryKey/X509Data/X509Certificate"))?;
    let document_key = element.child(CPIX, "DocumentKey");
    let mac = element.child(CPIX, "MACMethod");
    Ok(Delivery {
        certificate: base64(&certificate.text, CERTIFICATE_SIZE_BYTES_MAX, "X509Certificate")?,
        document_key: document_key.map(encrypted_value).transpose()?.flatten(),
        // Documents put it into pskc:MACKey, cpix:Key, or an EncryptedValue inside that.
        mac_key: mac.map(encrypted_value).transpose()?.flatten(),
        mac_algorithm: mac.map(|mac| attribute(mac, "Algorithm")).transpose()?.flatten(),
    })
}

/// What is encrypted somewhere inside `element`.
fn encrypted_value(element: &Element) -> Result<Option<EncryptedValue>, CpixError> {
    let Some(cipher) = element.descendant(ENC, "CipherValue") else {
        return Ok(None);
    };
    let method = element.descendant(ENC, "EncryptionMethod");
    let mac = element.descendant(PSKC, "ValueMAC");
    Ok(Some(EncryptedValue {
        algorithm: method
            .map(|method| attribute(method, "Algorithm"))
            .transpose()?
            .flatten()
            .unwrap_or_default(),
        bytes: base64(&cipher.text, CIPHER_SIZE_BYTES_MAX, "CipherValue")?,
        mac: mac
            .map(|mac| base64(&mac.text, CIPHER_SIZE_BYTES_MAX, "ValueMAC"))
            .transpose()?,
    }))
}

fn key(element: &Element) -> Result<KeyElement, CpixError> {
    let key_id = key_id(element, "ContentKey@kid")?;
    if element.attribute("dependsOnKey").is_some() {
        return Err(CpixError::Invalid(
            "ContentKey@dependsOnKey: key hierarchies are not read",
        ));
    }
    let scheme = match element.attribute("commonEncryptionScheme").map(str::trim) {
        None => None,
        Some("cenc") => Some(ProtectionScheme::Cenc),
        Some("cens") => Some(ProtectionScheme::Cens),
        Some("cbc1") => Some(ProtectionScheme::Cbc1),
        Some("cbcs") => Some(ProtectionScheme::Cbcs),
        Some(_) => return Err(CpixError::Invalid("ContentKey@commonEncryptionScheme")),
    };
    let iv = match element.attribute("explicitIV").filter(|iv| !iv.trim().is_empty()) {
        None => None,
        Some(iv) => {
            let bytes = base64(iv, 16, "ContentKey@explicitIV")?;
            Some(
                bytes
                    .try_into()
                    .map_err(|_| CpixError::Invalid("ContentKey@explicitIV"))?,
            )
        }
    };
    let hdcp = element.child(CPIX, "HDCPData").map(|hdcp| {
        Ok::<_, CpixError>(Hdcp {
            hls_level: attribute(hdcp, "HLSHDCPLevel")?,
            output_protection: content(hdcp, CPIX, "HDCPOutputProtectionData")?,
        })
    });
    Ok(KeyElement {
        key_id,
        scheme,
        iv,
        hdcp: hdcp.transpose()?,
        value: key_value(element)?,
    })
}

fn key_value(element: &Element) -> Result<KeyValue, CpixError> {
    let secret = element.child(CPIX, "Data").and_then(|data| data.child(PSKC, "Secret"));
    let Some(secret) = secret else {
        return Ok(KeyValue::Absent);
    };
    if let Some(plain) = secret.child(PSKC, "PlainValue") {
        let bytes = zeroize::Zeroizing::new(base64(&plain.text, 16, "PlainValue")?);
        let key = <[u8; 16]>::try_from(bytes.as_slice()).map_err(|_| CpixError::Invalid("PlainValue"))?;
        return Ok(KeyValue::Plain(ContentKey::new(key)));
    }
    match encrypted_value(secret)? {
        Some(value) => Ok(KeyValue::Encrypted(value)),
        None => Ok(KeyValue::Absent),
    }
}

fn content(element: &Element, namespace: &str, name: &'static str) -> Result<Option<String>, CpixError> {
    let child = element.child(namespace, name);
    child.map(|child| text(&child.text, name)).transpose()
}

fn system(element: &Element) -> Result<DrmSystem, CpixError> {
    let system_id = element
        .attribute("systemId")
        .ok_or(CpixError::Missing("DRMSystem@systemId"))?;
    let system_id = KeyId::parse(system_id.trim()).ok_or(CpixError::Invalid("DRMSystem@systemId"))?;
    let mut hls: Vec<HlsSignal> = Vec::new();
    for signal in element
        .children
        .iter()
        .filter(|child| child.is(CPIX, "HLSSignalingData"))
    {
        let playlist = match signal.attribute("playlist").map(str::trim) {
            None | Some("media") => Playlist::Media,
            Some("master") => Playlist::Master,
            Some("multiVariant") => Playlist::MultiVariant,
            Some(_) => return Err(CpixError::Invalid("HLSSignalingData@playlist")),
        };
        let is_media = |playlist| playlist == Playlist::Media;
        if hls.iter().any(|other| is_media(other.playlist) == is_media(playlist)) {
            return Err(CpixError::Invalid("HLSSignalingData@playlist: it comes twice"));
        }
        hls.push(HlsSignal {
            playlist,
            text: text(&signal.text, "HLSSignalingData")?,
        });
    }
    let protection = element.child(CPIX, "ContentProtectionData");
    Ok(DrmSystem {
        key_id: key_id(element, "DRMSystem@kid")?,
        system_id: SystemId(system_id.0),
        name: attribute(element, "name")?,
        allowed_cpc: attribute(element, "HLSAllowedCPC")?,
        pssh: content(element, CPIX, "PSSH")?,
        content_protection: content(element, CPIX, "ContentProtectionData")?,
        robustness: protection
            .map(|data| attribute(data, "robustness"))
            .transpose()?
            .flatten(),
        hls,
        smooth: content(element, CPIX, "SmoothStreamingProtectionHeaderData")?,
        key_uri: content(element, CPIX, "URIExtXKey")?,
        key_format: content(element, SPEKE, "KeyFormat")?,
        key_format_versions: content(element, SPEKE, "KeyFormatVersions")?,
        protection_header: content(element, SPEKE, "ProtectionHeader")?,
    })
}

fn period(element: &Element) -> Result<KeyPeriod, CpixError> {
    Ok(KeyPeriod {
        id: attribute(element, "id")?.ok_or(CpixError::Missing("ContentKeyPeriod@id"))?,
        index: number(element, "index")?,
        label: attribute(element, "label")?,
        start: attribute(element, "start")?,
        end: attribute(element, "end")?,
        start_offset: attribute(element, "startOffset")?,
        end_offset: attribute(element, "endOffset")?,
        duration: attribute(element, "duration")?,
    })
}

fn rule(element: &Element) -> Result<UsageRule, CpixError> {
    let key_id = key_id(element, "ContentKeyUsageRule@kid")?;
    let track_type = element
        .attribute("intendedTrackType")
        .map(|name| TrackType::parse(name.trim()).ok_or(CpixError::Invalid("ContentKeyUsageRule@intendedTrackType")));
    if element.children.len() > FILTER_COUNT_MAX {
        return Err(CpixError::TooMany("filters"));
    }
    let filters = element.children.iter().map(|child| filter(child, key_id));
    Ok(UsageRule {
        key_id,
        track_type: track_type.transpose()?,
        filters: filters.collect::<Result<_, _>>()?,
    })
}

fn filter(element: &Element, key_id: KeyId) -> Result<Filter, CpixError> {
    let unknown = CpixError::UnknownFilter(key_id);
    if element.namespace != CPIX {
        return Err(unknown);
    }
    let bounds = |min, max| {
        Ok::<_, CpixError>(Bounds {
            min: number(element, min)?,
            max: number(element, max)?,
        })
    };
    let (filter, known): (_, &[&str]) = match element.name.as_str() {
        "KeyPeriodFilter" => {
            let id = attribute(element, "periodId")?.ok_or(CpixError::Missing("KeyPeriodFilter@periodId"))?;
            (Filter::KeyPeriod(id), &["periodId"])
        }
        "LabelFilter" => {
            let label = attribute(element, "label")?.ok_or(CpixError::Missing("LabelFilter@label"))?;
            (Filter::Label(label), &["label"])
        }
        "VideoFilter" => (
            Filter::Video {
                pixels: bounds("minPixels", "maxPixels")?,
                frames_per_second: bounds("minFps", "maxFps")?,
                hdr: flag(element, "hdr")?,
                wide_colour: flag(element, "wcg")?,
            },
            &["minPixels", "maxPixels", "minFps", "maxFps", "hdr", "wcg"],
        ),
        "AudioFilter" => (
            Filter::Audio {
                channels: bounds("minChannels", "maxChannels")?,
            },
            &["minChannels", "maxChannels"],
        ),
        "BitrateFilter" => (
            Filter::Bitrate(bounds("minBitrate", "maxBitrate")?),
            &["minBitrate", "maxBitrate"],
        ),
        _ => return Err(unknown),
    };
    // A restriction that is not understood can not be kept either.
    match element
        .attributes
        .iter()
        .all(|(name, _)| known.contains(&name.as_str()))
    {
        true => Ok(filter),
        false => Err(unknown),
    }
}
