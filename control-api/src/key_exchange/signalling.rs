//! Signalling that encryptors ask a key server for: what a DRM system says of a key, in the elements of CPIX.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use packager::crypto::ProtectionScheme;
use packager::crypto::fairplay;
use packager::crypto::playready::SignalledKey;
use packager::crypto::pssh::{Pssh, SystemId};
use packager::crypto::signal::{
    DrmSystems, FairPlay, KeyTagName, NAMESPACES, PlayReady, ProtectionElement, SignalError, Widevine, write_key_tags,
};

use super::cpix::{DrmSystem, Hdcp, Playlist};
use super::xml::escaped;
use super::{Key, TrackType};

/// The system id that SPEKE 1 has for keys fetched from a URL (AES-128 and SAMPLE-AES of HLS).
pub(crate) const HLS_IDENTITY: SystemId = SystemId(0x81376844_f976_481e_a84e_cc25d39b0b33_u128.to_be_bytes());

/// What a tenant's key server says of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Systems on offer, with their settings.
    pub systems: DrmSystems,
    /// What is demanded of players, by track type (SPEKE 2.1).
    pub demands: Vec<Demand>,
}

/// What is demanded of players for tracks of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Which tracks.
    pub track_type: TrackType,
    /// `HDCPData@HLSHDCPLevel`: `NONE`, `TYPE-0`, `TYPE-1`.
    pub hdcp_level: Option<String>,
    /// `ContentProtectionData@robustness`, in a system's own words.
    pub robustness: Vec<(SystemId, String)>,
    /// `DRMSystem@HLSAllowedCPC`, in a system's own words.
    pub allowed_cpc: Vec<(SystemId, String)>,
}

/// Why nothing is said of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignallingError {
    /// Not on offer, or not known.
    #[error("Unsupported DRMSystem@systemId {0}")]
    System(SystemId),
    /// FairPlay has `cbcs` alone.
    #[error("FairPlay needs ContentKey@commonEncryptionScheme cbcs")]
    FairPlayScheme,
    /// Settings that do not give a value.
    #[error("{0}")]
    Signal(#[from] SignalError),
    /// A key URL that can not be made.
    #[error("{0}")]
    Template(#[from] fairplay::TemplateError),
}

impl Signals {
    /// Widevine, PlayReady and FairPlay, with nothing set.
    pub fn all() -> Signals {
        Signals {
            systems: DrmSystems {
                widevine: Some(Widevine::default()),
                playready: Some(PlayReady::default()),
                fairplay: Some(FairPlay::default()),
                clear_key: None,
            },
            demands: Vec::new(),
        }
    }

    fn demand(&self, key: &Key) -> Option<&Demand> {
        self.demands.iter().find(|demand| demand.track_type == key.track_type)
    }

    /// `HDCPData` of a key.
    pub(crate) fn hdcp(&self, key: &Key) -> Option<Hdcp> {
        let level = self.demand(key)?.hdcp_level.clone()?;
        Some(Hdcp {
            hls_level: Some(level),
            output_protection: None,
        })
    }

    /// Fills in what `asked` asks for. What the system does not have is taken out.
    pub(crate) fn fill(&self, asked: &DrmSystem, key: &Key) -> Result<DrmSystem, SignallingError> {
        let system_id = asked.system_id;
        if system_id == HLS_IDENTITY {
            return self.identity(asked);
        }
        let systems = self.only(system_id)?;
        let is_fairplay = system_id == SystemId::FAIRPLAY;
        let scheme = match key.scheme {
            Some(scheme) if is_fairplay && scheme != ProtectionScheme::Cbcs => {
                return Err(SignallingError::FairPlayScheme);
            }
            Some(scheme) => scheme,
            None if is_fairplay => ProtectionScheme::Cbcs,
            None => ProtectionScheme::Cenc,
        };
        let keys = [SignalledKey::new(key.key_id, &key.key)];
        let pssh = systems
            .pssh_boxes(scheme, &keys)?
            .into_iter()
            .find(|pssh| pssh.system_id == system_id);
        let descriptor = systems.content_protection(scheme, &keys)?;
        let descriptor = descriptor.get(1).map(|descriptor| children_of(&descriptor.children));
        let descriptor = match (descriptor, &pssh) {
            (None, Some(pssh)) if system_id == SystemId::COMMON => Some(pssh_element(pssh)),
            (descriptor, _) => descriptor.filter(|descriptor| !descriptor.is_empty()),
        };
        let demand = self.demand(key);
        let mut filled = DrmSystem::new(key.key_id, system_id);
        filled.name = asked.name.clone();
        if asked.pssh.is_some() {
            filled.pssh = pssh.as_ref().map(|pssh| STANDARD.encode(pssh.serialise()));
        }
        if asked.content_protection.is_some() {
            filled.content_protection = descriptor.map(|descriptor| STANDARD.encode(descriptor));
            filled.robustness = demand.and_then(|demand| of_system(&demand.robustness, system_id));
        }
        filled.allowed_cpc = demand.and_then(|demand| of_system(&demand.allowed_cpc, system_id));
        let object = pssh
            .filter(|_| system_id == SystemId::PLAYREADY)
            .map(|pssh| STANDARD.encode(pssh.data));
        filled.smooth = asked.smooth.as_ref().and(object.clone());
        filled.protection_header = asked.protection_header.as_ref().and(object);
        let wants_hls = !asked.hls.is_empty() || asked.key_uri.is_some() || asked.key_format.is_some();
        if wants_hls && system_id != SystemId::COMMON {
            fill_hls(&mut filled, asked, &systems, scheme, &keys, key.iv)?;
        }
        Ok(filled)
    }

    /// Whether a system is on offer.
    pub(crate) fn offers(&self, system_id: SystemId) -> Result<(), SignallingError> {
        let key_url = self
            .systems
            .clear_key
            .as_ref()
            .and_then(|clear_key| clear_key.key_url.as_ref());
        match system_id {
            HLS_IDENTITY if key_url.is_some() => Ok(()),
            _ => self.only(system_id).map(drop),
        }
    }

    /// The settings of one system alone.
    fn only(&self, system_id: SystemId) -> Result<DrmSystems, SignallingError> {
        let mut only = DrmSystems::default();
        match system_id {
            SystemId::WIDEVINE => only.widevine = self.systems.widevine.clone(),
            SystemId::PLAYREADY => only.playready = self.systems.playready.clone(),
            SystemId::FAIRPLAY => only.fairplay = self.systems.fairplay.clone(),
            SystemId::CLEAR_KEY | SystemId::COMMON => only.clear_key = self.systems.clear_key.clone(),
            _ => {}
        }
        match only.is_empty() {
            true => Err(SignallingError::System(system_id)),
            false => Ok(only),
        }
    }

    /// A key that players fetch from a URL.
    fn identity(&self, asked: &DrmSystem) -> Result<DrmSystem, SignallingError> {
        let clear_key = self.systems.clear_key.as_ref();
        let template = clear_key.and_then(|clear_key| clear_key.key_url.as_deref());
        let template = template.ok_or(SignallingError::System(HLS_IDENTITY))?;
        let uri = fairplay::fill(template, asked.key_id, None)?;
        let mut filled = DrmSystem::new(asked.key_id, HLS_IDENTITY);
        filled.key_uri = asked.key_uri.as_ref().map(|_| STANDARD.encode(uri));
        filled.key_format = asked.key_format.as_ref().map(|_| STANDARD.encode("identity"));
        filled.key_format_versions = asked.key_format_versions.as_ref().map(|_| STANDARD.encode("1"));
        Ok(filled)
    }
}

fn of_system(values: &[(SystemId, String)], system_id: SystemId) -> Option<String> {
    let found = values.iter().find(|(system, _)| *system == system_id);
    found.map(|(_, value)| value.clone())
}

fn fill_hls(
    filled: &mut DrmSystem,
    asked: &DrmSystem,
    systems: &DrmSystems,
    scheme: ProtectionScheme,
    keys: &[SignalledKey],
    iv: Option<[u8; 16]>,
) -> Result<(), SignallingError> {
    let tags = systems.key_tags(scheme, keys, iv)?;
    for signal in &asked.hls {
        let mut text = Vec::new();
        match signal.playlist {
            Playlist::Media => write_key_tags(&mut text, KeyTagName::Key, &tags),
            Playlist::Master | Playlist::MultiVariant => {
                let tags = systems.session_key_tags(scheme, keys, iv)?;
                write_key_tags(&mut text, KeyTagName::SessionKey, &tags);
            }
        }
        let mut signal = signal.clone();
        signal.text = STANDARD.encode(text.trim_ascii_end());
        filled.hls.push(signal);
    }
    if let Some(tag) = tags.first() {
        filled.key_uri = asked.key_uri.as_ref().map(|_| STANDARD.encode(&tag.uri));
        let format =
            |asked: &Option<String>, value: Option<&str>| asked.as_ref().and(value).map(|value| STANDARD.encode(value));
        filled.key_format = format(&asked.key_format, tag.key_format);
        filled.key_format_versions = format(&asked.key_format_versions, tag.key_format_versions);
    }
    Ok(())
}

/// The children of a `ContentProtection`, each with the namespace of its prefix.
fn children_of(children: &[ProtectionElement]) -> String {
    let mut out = String::new();
    for child in children {
        let prefix = child.name.split_once(':').map_or("", |(prefix, _)| prefix);
        out += &format!("<{}", child.name);
        let namespaces = NAMESPACES
            .iter()
            .filter(|(name, _)| name.strip_prefix("xmlns:") == Some(prefix));
        for (name, value) in namespaces {
            out += &format!(" {name}=\"{value}\"");
        }
        for (name, value) in &child.attributes {
            out += &format!(" {name}=\"{}\"", escaped(value));
        }
        out += &format!(">{}</{}>", escaped(&child.text), child.name);
    }
    out
}

fn pssh_element(pssh: &Pssh) -> String {
    children_of(&[ProtectionElement {
        name: "cenc:pssh",
        attributes: Vec::new(),
        text: STANDARD.encode(pssh.serialise()),
    }])
}
