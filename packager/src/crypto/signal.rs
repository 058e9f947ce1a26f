//! Signalling: what manifests and headers say of the keys that a player needs, for every DRM system that is on.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::fairplay::{self, TemplateError};
use super::playready::{self, PlayReadyError, SignalledKey};
use super::pssh::{Pssh, SystemId};
use super::widevine::WidevineData;
use super::{KeyId, ProtectionScheme};
use crate::limits;

/// Which DRM systems a title is offered to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrmSystems {
    /// Widevine is on.
    pub widevine: Option<Widevine>,
    /// PlayReady is on.
    pub playready: Option<PlayReady>,
    /// FairPlay is on; it takes `cbcs` in HLS alone.
    pub fairplay: Option<FairPlay>,
    /// Clear Key is on. DASH-IF IOP wants it in a manifest of its own; headwater leaves that to whoever sets this.
    pub clear_key: Option<ClearKey>,
}

/// Widevine's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Widevine {
    /// `provider` of the `pssh` data.
    pub provider: Option<String>,
    /// `content_id` of the `pssh` data.
    pub content_id: Option<String>,
}

/// PlayReady's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlayReady {
    /// `LA_URL` of the header: where licences are acquired.
    pub la_url: Option<String>,
}

/// FairPlay's settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FairPlay {
    /// Key URI with `{kid}`, `{kid_hex}`, `{kid_base64}` or `{iv}` in it; begins with `skd://`.
    pub uri_template: String,
}

impl Default for FairPlay {
    fn default() -> FairPlay {
        FairPlay {
            uri_template: fairplay::TEMPLATE.to_owned(),
        }
    }
}

/// Clear Key's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClearKey {
    /// Where [`super::clear_key`] licences are asked for; DASH names it in the MPD.
    pub licence_url: Option<String>,
    /// Where the 16 bytes of a key are, with `{kid}` or `{kid_hex}` in it; an `identity` tag of HLS names it.
    pub key_url: Option<String>,
    /// Which tag HLS gets for `cbcs`.
    pub cbcs_tag: ClearKeyTag,
}

/// How a Clear Key is named in HLS. Players take one of them each: hls.js the first, shaka-player the second. For `cenc`
/// both are written. For `cbcs` hls.js would take `identity` as sample encryption of MPEG-TS and fail, so there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClearKeyTag {
    /// `KEYFORMAT="org.w3.clearkey"`: the key's name; the player has a licence URL.
    #[default]
    Licence,
    /// `KEYFORMAT="identity"`: the key's URL.
    Identity,
}

/// Why nothing can be signalled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// No key, or more than [`limits::SIGNALLED_KEY_COUNT_MAX`].
    #[error("{0} keys to signal, 1 to {max} can be", max = limits::SIGNALLED_KEY_COUNT_MAX)]
    KeyCount(usize),
    /// HLS has no METHOD for it.
    #[error("HLS can not carry {}", .0.name())]
    Scheme(ProtectionScheme),
    /// PlayReady's object can not be made.
    #[error(transparent)]
    PlayReady(#[from] PlayReadyError),
    /// A URI template is wrong.
    #[error("{system}: {error}")]
    Template {
        /// Whose template.
        system: &'static str,
        /// What is wrong.
        error: TemplateError,
    },
    /// A URI of the wrong kind.
    #[error("{0}")]
    Uri(&'static str),
}

/// A `ContentProtection` descriptor of an MPD (ISO/IEC 23009-1 5.8.4.1; ISO/IEC 23001-7:2023 11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentProtection {
    /// Attributes in order. `cenc:default_KID` and the children's names need [`NAMESPACES`] on the `MPD`.
    pub attributes: Vec<(&'static str, String)>,
    /// Children in order.
    pub children: Vec<ProtectionElement>,
}

/// An element of text inside a [`ContentProtection`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectionElement {
    /// Name with prefix.
    pub name: &'static str,
    /// Attributes in order.
    pub attributes: Vec<(&'static str, String)>,
    /// Its text.
    pub text: String,
}

/// Attributes that an `MPD` with [`ContentProtection`] in it needs.
pub const NAMESPACES: [(&str, &str); 2] = [
    ("xmlns:cenc", "urn:mpeg:cenc:2013"),
    ("xmlns:mspr", "urn:microsoft:playready"),
];

/// The tags that [`KeyTag::write`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTagName {
    /// In a media playlist.
    Key,
    /// In a multivariant playlist.
    SessionKey,
}

/// Attributes of an EXT-X-KEY or EXT-X-SESSION-KEY (RFC 8216bis 4.4.4.4, 4.4.4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTag {
    /// `METHOD`
    pub method: &'static str,
    /// `URI`
    pub uri: String,
    /// `KEYFORMAT`; `None` means `identity`.
    pub key_format: Option<&'static str>,
    /// `KEYFORMATVERSIONS`
    pub key_format_versions: Option<&'static str>,
    /// `KEYID`
    pub key_id: Option<KeyId>,
    /// `IV`
    pub iv: Option<[u8; 16]>,
}

impl KeyTag {
    /// Whole segments under AES-128, which every player of HLS knows. The key is the 16 bytes at `uri`.
    pub fn aes_128(uri: &str, iv: [u8; 16]) -> KeyTag {
        KeyTag::identity("AES-128", uri, Some(iv))
    }

    /// Sample encryption in MPEG-TS with the 16 bytes at `uri` as key.
    pub fn sample_aes(uri: &str, iv: [u8; 16]) -> KeyTag {
        KeyTag::identity("SAMPLE-AES", uri, Some(iv))
    }

    fn identity(method: &'static str, uri: &str, iv: Option<[u8; 16]>) -> KeyTag {
        KeyTag {
            method,
            uri: uri.to_owned(),
            key_format: None,
            key_format_versions: None,
            key_id: None,
            iv,
        }
    }

    fn of(method: &'static str, key_format: &'static str, uri: String) -> KeyTag {
        KeyTag {
            method,
            uri,
            key_format: Some(key_format),
            key_format_versions: Some("1"),
            key_id: None,
            iv: None,
        }
    }

    /// Appends the tag's line.
    pub fn write(&self, out: &mut Vec<u8>, name: KeyTagName) {
        out.extend_from_slice(match name {
            KeyTagName::Key => b"#EXT-X-KEY:METHOD=".as_slice(),
            KeyTagName::SessionKey => b"#EXT-X-SESSION-KEY:METHOD=",
        });
        out.extend_from_slice(self.method.as_bytes());
        push_quoted(out, ",URI=", &self.uri);
        let formats = [
            (",KEYFORMAT=", self.key_format),
            (",KEYFORMATVERSIONS=", self.key_format_versions),
        ];
        for (attribute, value) in formats {
            if let Some(value) = value {
                push_quoted(out, attribute, value);
            }
        }
        let numbers = [(",KEYID=0x", self.key_id), (",IV=0x", self.iv.map(KeyId))];
        for (attribute, value) in numbers {
            if let Some(value) = value {
                out.extend_from_slice(attribute.as_bytes());
                out.extend_from_slice(value.hex().to_ascii_uppercase().as_bytes());
            }
        }
        out.push(b'\n');
    }
}

/// Appends `,NAME="value"`; what can not stand in a quoted string (RFC 8216bis 4.2) is escaped as in a URI.
fn push_quoted(out: &mut Vec<u8>, attribute: &str, value: &str) {
    out.extend_from_slice(attribute.as_bytes());
    out.push(b'"');
    for byte in value.bytes() {
        match byte {
            b'"' | 0..=0x1f | 0x7f => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Appends one tag a line.
pub fn write_key_tags(out: &mut Vec<u8>, name: KeyTagName, tags: &[KeyTag]) {
    tags.iter().for_each(|tag| tag.write(out, name));
}

impl DrmSystems {
    /// Whether no system is on.
    pub fn is_empty(&self) -> bool {
        *self == DrmSystems::default()
    }

    /// Finds out at start-up what would otherwise be wrong with the first manifest.
    pub fn check(&self) -> Result<(), SignalError> {
        let keys = [SignalledKey::unchecked(KeyId([0; 16]))];
        for scheme in [ProtectionScheme::Cenc, ProtectionScheme::Cbcs] {
            self.pssh_boxes(scheme, &keys)?;
            self.content_protection(scheme, &keys)?;
            self.key_tags(scheme, &keys, Some([0; 16]))?;
        }
        match &self.clear_key {
            Some(ClearKey {
                cbcs_tag: ClearKeyTag::Identity,
                key_url: None,
                ..
            }) => Err(SignalError::Uri("clear_key: an identity tag needs a key_url")),
            _ => Ok(()),
        }
    }

    /// Boxes for a CMAF header, which lists all `keys` of the title so that one licence opens every rendition.
    pub fn pssh_boxes(&self, scheme: ProtectionScheme, keys: &[SignalledKey]) -> Result<Vec<Pssh>, SignalError> {
        check_count(keys)?;
        let mut boxes = Vec::new();
        if let Some(widevine) = &self.widevine {
            boxes.push(widevine.pssh(scheme, keys));
        }
        if let Some(playready) = &self.playready {
            boxes.push(playready::pssh(playready.object(scheme, keys)?));
        }
        if self.clear_key.is_some() {
            let key_ids: Vec<KeyId> = keys.iter().map(|key| key.key_id).collect();
            boxes.push(Pssh::common(&key_ids));
        }
        Ok(boxes)
    }

    /// Descriptors of an AdaptationSet whose samples are encrypted under the first of `keys`, in order: the scheme, then
    /// each system. FairPlay has none.
    pub fn content_protection(
        &self,
        scheme: ProtectionScheme,
        keys: &[SignalledKey],
    ) -> Result<Vec<ContentProtection>, SignalError> {
        let first = check_count(keys)?;
        let mut descriptors = vec![ContentProtection {
            attributes: vec![
                ("schemeIdUri", "urn:mpeg:dash:mp4protection:2011".to_owned()),
                ("value", scheme.name().to_owned()),
                ("cenc:default_KID", first.key_id.to_string()),
            ],
            children: Vec::new(),
        }];
        if let Some(widevine) = &self.widevine {
            let pssh = pssh_element(&widevine.pssh(scheme, keys));
            descriptors.push(descriptor(SystemId::WIDEVINE, None, vec![pssh]));
        }
        if let Some(playready) = &self.playready {
            let object = playready.object(scheme, keys)?;
            let text = STANDARD.encode(&object);
            let pssh = pssh_element(&playready::pssh(object));
            let children = vec![pssh, element("mspr:pro", text)];
            descriptors.push(descriptor(SystemId::PLAYREADY, Some("MSPR 2.0"), children));
        }
        if let Some(clear_key) = &self.clear_key {
            // No cenc:pssh, and no descriptor of the common system: dash.js fails at either.
            let url = clear_key.licence_url.as_ref().map(|url| ProtectionElement {
                name: "dashif:Laurl",
                attributes: vec![
                    ("xmlns:dashif", "https://dashif.org/CPS".to_owned()),
                    ("licenseType", "EME-1.0".to_owned()),
                ],
                text: url.clone(),
            });
            let children = url.into_iter().collect();
            descriptors.push(descriptor(SystemId::CLEAR_KEY, Some("ClearKey1.0"), children));
        }
        Ok(descriptors)
    }

    /// Tags for the media playlist of fragments encrypted under the first of `keys`; PlayReady is told of all. `iv` is
    /// the constant IV of `cbcs`.
    pub fn key_tags(
        &self,
        scheme: ProtectionScheme,
        keys: &[SignalledKey],
        iv: Option<[u8; 16]>,
    ) -> Result<Vec<KeyTag>, SignalError> {
        let first = check_count(keys)?;
        let method = method(scheme)?;
        let mut tags = Vec::new();
        if let Some(widevine) = &self.widevine {
            tags.push(widevine.tag(scheme, method, first));
        }
        if let Some(playready) = &self.playready {
            tags.push(playready.tag(scheme, method, keys)?);
        }
        if let Some(fairplay) = self.fairplay.as_ref().filter(|_| scheme == ProtectionScheme::Cbcs) {
            tags.push(fairplay.tag(method, first.key_id, iv)?);
        }
        if let Some(clear_key) = &self.clear_key {
            let (licence, identity) = match (scheme.is_counter(), clear_key.cbcs_tag) {
                (true, _) => (true, true),
                (false, ClearKeyTag::Licence) => (true, false),
                (false, ClearKeyTag::Identity) => (false, true),
            };
            if licence {
                tags.push(clear_key_tag(method, first.key_id));
            }
            if let Some(template) = clear_key.key_url.as_deref().filter(|_| identity) {
                tags.push(identity_tag(method, template, first.key_id)?);
            }
        }
        for tag in tags.iter_mut().filter(|_| scheme == ProtectionScheme::Cbcs) {
            tag.iv = iv;
        }
        Ok(tags)
    }

    /// Tags for the multivariant playlist: PlayReady once with every key, which Windows and Xbox ask for, the others
    /// once a key. An `identity` key is left out: what names no key can not be fetched ahead of its playlist, and
    /// shaka-player takes it for key zero.
    pub fn session_key_tags(
        &self,
        scheme: ProtectionScheme,
        keys: &[SignalledKey],
        iv: Option<[u8; 16]>,
    ) -> Result<Vec<KeyTag>, SignalError> {
        check_count(keys)?;
        let method = method(scheme)?;
        let mut tags = Vec::new();
        if let Some(widevine) = &self.widevine {
            tags.extend(keys.iter().map(|key| widevine.tag(scheme, method, key)));
        }
        if let Some(playready) = &self.playready {
            tags.push(playready.tag(scheme, method, keys)?);
        }
        if let Some(fairplay) = self.fairplay.as_ref().filter(|_| scheme == ProtectionScheme::Cbcs) {
            for key in keys {
                tags.push(fairplay.tag(method, key.key_id, iv)?);
            }
        }
        if self
            .clear_key
            .as_ref()
            .is_some_and(|clear_key| scheme.is_counter() || clear_key.cbcs_tag == ClearKeyTag::Licence)
        {
            tags.extend(keys.iter().map(|key| clear_key_tag(method, key.key_id)));
        }
        Ok(tags)
    }
}

fn check_count(keys: &[SignalledKey]) -> Result<&SignalledKey, SignalError> {
    match keys {
        [first, ..] if keys.len() <= limits::SIGNALLED_KEY_COUNT_MAX => Ok(first),
        _ => Err(SignalError::KeyCount(keys.len())),
    }
}

/// `METHOD` for fragments: Apple's name of `cbcs` and of `cenc`.
fn method(scheme: ProtectionScheme) -> Result<&'static str, SignalError> {
    match scheme {
        ProtectionScheme::Cenc => Ok("SAMPLE-AES-CTR"),
        ProtectionScheme::Cbcs => Ok("SAMPLE-AES"),
        other => Err(SignalError::Scheme(other)),
    }
}

impl Widevine {
    fn pssh(&self, scheme: ProtectionScheme, keys: &[SignalledKey]) -> Pssh {
        let data = WidevineData {
            key_ids: keys.iter().map(|key| key.key_id).collect(),
            provider: self.provider.clone(),
            content_id: self.content_id.as_ref().map(|id| id.clone().into_bytes()),
            crypto_period_index: None,
            protection_scheme: (scheme != ProtectionScheme::Cenc).then_some(scheme),
        };
        data.pssh()
    }

    fn tag(&self, scheme: ProtectionScheme, method: &'static str, key: &SignalledKey) -> KeyTag {
        let pssh = self.pssh(scheme, std::slice::from_ref(key)).serialise();
        let uri = format!("data:text/plain;base64,{}", STANDARD.encode(pssh));
        KeyTag {
            key_id: Some(key.key_id),
            ..KeyTag::of(method, "urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed", uri)
        }
    }
}

impl PlayReady {
    fn object(&self, scheme: ProtectionScheme, keys: &[SignalledKey]) -> Result<Vec<u8>, PlayReadyError> {
        playready::object(&playready::header(scheme, keys, self.la_url.as_deref())?)
    }

    fn tag(
        &self,
        scheme: ProtectionScheme,
        method: &'static str,
        keys: &[SignalledKey],
    ) -> Result<KeyTag, PlayReadyError> {
        let object = STANDARD.encode(self.object(scheme, keys)?);
        let uri = format!("data:text/plain;charset=UTF-16;base64,{object}");
        Ok(KeyTag::of(method, "com.microsoft.playready", uri))
    }
}

impl FairPlay {
    fn tag(&self, method: &'static str, key_id: KeyId, iv: Option<[u8; 16]>) -> Result<KeyTag, SignalError> {
        let uri = fairplay::fill(&self.uri_template, key_id, iv).map_err(|error| SignalError::Template {
            system: "fairplay",
            error,
        })?;
        if !is_skd(&uri) {
            return Err(SignalError::Uri("fairplay: the key URI does not begin with skd://"));
        }
        Ok(KeyTag::of(method, "com.apple.streamingkeydelivery", uri))
    }
}

/// hls.js takes the first 16 bytes of the URI's data for the key's name, whatever `KEYID` says.
fn clear_key_tag(method: &'static str, key_id: KeyId) -> KeyTag {
    let uri = format!("data:text/plain;base64,{}", STANDARD.encode(key_id.0));
    KeyTag {
        key_id: Some(key_id),
        ..KeyTag::of(method, "org.w3.clearkey", uri)
    }
}

fn identity_tag(method: &'static str, template: &str, key_id: KeyId) -> Result<KeyTag, SignalError> {
    let uri = fairplay::fill(template, key_id, None).map_err(|error| SignalError::Template {
        system: "clear_key",
        error,
    })?;
    if is_skd(&uri) {
        return Err(SignalError::Uri(
            "clear_key: skd:// is FairPlay's, an identity key has a URL",
        ));
    }
    Ok(KeyTag::of(method, "identity", uri))
}

fn is_skd(uri: &str) -> bool {
    uri.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("skd:"))
}

fn descriptor(system: SystemId, value: Option<&str>, children: Vec<ProtectionElement>) -> ContentProtection {
    let mut attributes = vec![("schemeIdUri", system.urn())];
    attributes.extend(value.map(|value| ("value", value.to_owned())));
    ContentProtection { attributes, children }
}

fn element(name: &'static str, text: String) -> ProtectionElement {
    ProtectionElement {
        name,
        attributes: Vec::new(),
        text,
    }
}

fn pssh_element(pssh: &Pssh) -> ProtectionElement {
    element("cenc:pssh", STANDARD.encode(pssh.serialise()))
}
