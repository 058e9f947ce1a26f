//! SPEKE: encryptors ask a key server for keys and signalling with CPIX documents (AWS, versions 1, 2.0 and 2.1).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use packager::crypto::pssh::SystemId;
use packager::crypto::{KeyId, ProtectionScheme};
use zeroize::Zeroizing;

use super::cpix::{
    self, CpixError, Delivery, Document, DrmSystem, Filter, HlsSignal, KeyElement, KeyPeriod, KeyValue, Playlist,
    UsageRule, Version,
};
use super::delivery::{DeliveryError, DeliveryKey, Recipient};
use super::signalling::{SignallingError, Signals};
use super::{Contract, KeySet, KeySourceError, TrackType, Wanted, WantedKey};

/// Bytes of a request's or a response's body.
pub const BODY_SIZE_BYTES_MAX: usize = super::xml::DOCUMENT_SIZE_BYTES_MAX;

/// Header that names the version, of requests and responses of version 2.
pub const VERSION_HEADER: &str = "x-speke-version";

/// What the server calls itself in `Speke-User-Agent` (1) and `X-Speke-User-Agent` (2).
pub const USER_AGENT: &str = concat!("headwater/", env!("CARGO_PKG_VERSION"));

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpekeVersion {
    /// 1
    V1,
    /// 2.0, over CPIX 2.3.
    V2_0,
    /// 2.1, over CPIX 2.4.
    V2_1,
}

impl SpekeVersion {
    /// From the value of [`VERSION_HEADER`]: without the header it is version 1.
    pub fn from_header(value: Option<&str>) -> Result<SpekeVersion, SpekeError> {
        match value.map(str::trim) {
            None => Ok(SpekeVersion::V1),
            Some("2.0") => Ok(SpekeVersion::V2_0),
            Some("2.1") => Ok(SpekeVersion::V2_1),
            Some(_) => Err(SpekeError::SpekeVersion),
        }
    }

    /// The value of [`VERSION_HEADER`].
    pub fn header(self) -> Option<&'static str> {
        match self {
            SpekeVersion::V1 => None,
            SpekeVersion::V2_0 => Some("2.0"),
            SpekeVersion::V2_1 => Some("2.1"),
        }
    }

    /// The header that a response names its server in.
    pub fn user_agent_header(self) -> &'static str {
        match self {
            SpekeVersion::V1 => "speke-user-agent",
            SpekeVersion::V2_0 | SpekeVersion::V2_1 => "x-speke-user-agent",
        }
    }

    /// The version of its documents.
    pub fn cpix(self) -> Version {
        match self {
            SpekeVersion::V1 => Version::Speke1,
            SpekeVersion::V2_0 => Version::V2_3,
            SpekeVersion::V2_1 => Version::V2_4,
        }
    }
}

/// Why a request is refused (HTTP 422), or a response. Texts of the first six are the protocol's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpekeError {
    /// A version 2 request without the title.
    #[error("Missing CPIX@contentId")]
    ContentIdMissing,
    /// A version 2 request without the document's version.
    #[error("Missing CPIX@version")]
    VersionMissing,
    /// Not the document version of this SPEKE version.
    #[error("Unsupported CPIX@version")]
    Version,
    /// A version 2 request with a key for any scheme.
    #[error("Missing ContentKey@commonEncryptionScheme for KID {0}")]
    SchemeMissing(KeyId),
    /// Schemes that do not go together.
    #[error("Non compliant ContentKey@commonEncryptionScheme combination")]
    MixedSchemes,
    /// A version that there is not.
    #[error("Unsupported SPEKE version")]
    SpekeVersion,
    /// Not a document.
    #[error(transparent)]
    Cpix(#[from] CpixError),
    /// Something the contract can not do without.
    #[error("Missing {0}")]
    Missing(&'static str),
    /// Elements that speak of each other and do not agree.
    #[error("{element} refers to KID {key_id}, which is not asked for")]
    UnknownKey {
        /// Which element.
        element: &'static str,
        /// What it names.
        key_id: KeyId,
    },
    /// A key without a rule or without a system.
    #[error("Missing {element} for KID {key_id}")]
    KeyWithout {
        /// What it has not.
        element: &'static str,
        /// Which key.
        key_id: KeyId,
    },
    /// A filter of a period that is not in the list.
    #[error("KeyPeriodFilter@periodId refers to no ContentKeyPeriod")]
    UnknownPeriod,
    /// `ALL` beside other track types.
    #[error("intendedTrackType ALL can not be combined with others")]
    AllCombined,
    /// Two keys for the same tracks.
    #[error("intendedTrackType {0} is given two keys")]
    TrackTypeTwice(TrackType),
    /// A playlist by the name of another version.
    #[error("Invalid HLSSignalingData@playlist")]
    Playlist,
    /// The server does not say what is asked of it.
    #[error(transparent)]
    Signalling(#[from] SignallingError),
    /// Keys can not be encrypted or decrypted.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The source has no keys.
    #[error(transparent)]
    Source(#[from] KeySourceError),
    /// Keys would have to be sent in the clear, or to somebody unknown.
    #[error("keys are delivered to registered certificates alone")]
    ClearDelivery,
    /// A response that is not a success.
    #[error("the key server answered with status {0}")]
    Status(u16),
    /// A response without a key that was asked for.
    #[error("the key server left out KID {0}")]
    KeyLeftOut(KeyId),
    /// A response, or a document that is brought, about another title than the one meant.
    #[error("the document is about another title")]
    OtherContent,
}

/// A request that was found right.
pub struct SpekeRequest {
    /// Its version.
    pub version: SpekeVersion,
    /// What to ask the source for.
    pub contract: Contract,
    document: Document,
}

/// Reads a request of `version` by a client of `tenant`.
pub fn read_request(version: SpekeVersion, body: &[u8], tenant: &str) -> Result<SpekeRequest, SpekeError> {
    let document = cpix::read(body)?;
    let content_id = check_head(version, &document)?;
    check_keys(version, &document)?;
    check_rules(version, &document)?;
    let wanted = document.keys.iter().map(|key| {
        let (track_type, period) = document.use_of(key.key_id);
        WantedKey {
            key_id: Some(key.key_id),
            scheme: key.scheme,
            track_type: track_type.cloned().unwrap_or_else(TrackType::all),
            period,
            iv: key.iv,
        }
    });
    let contract = Contract {
        tenant: tenant.to_owned(),
        content_id,
        wanted: Wanted::Keys(wanted.collect()),
    };
    Ok(SpekeRequest {
        version,
        contract,
        document,
    })
}

fn check_head(version: SpekeVersion, document: &Document) -> Result<String, SpekeError> {
    let Some(expected) = version.cpix().text() else {
        return document.id.clone().ok_or(SpekeError::Missing("CPIX@id"));
    };
    let content_id = document.content_id.clone().ok_or(SpekeError::ContentIdMissing)?;
    match document.version.as_deref() {
        None | Some("") => Err(SpekeError::VersionMissing),
        Some(found) if found != expected => Err(SpekeError::Version),
        Some(_) => Ok(content_id),
    }
}

fn check_keys(version: SpekeVersion, document: &Document) -> Result<(), SpekeError> {
    if document.keys.is_empty() {
        return Err(SpekeError::Missing("ContentKey"));
    }
    if document.systems.is_empty() {
        return Err(SpekeError::Missing("DRMSystem"));
    }
    let is_asked = |key_id| document.keys.iter().any(|key| key.key_id == key_id);
    for system in &document.systems {
        let key_id = system.key_id;
        if !is_asked(key_id) {
            let element = "DRMSystem";
            return Err(SpekeError::UnknownKey { element, key_id });
        }
        let known = |playlist| match version {
            SpekeVersion::V1 | SpekeVersion::V2_0 => playlist != Playlist::MultiVariant,
            SpekeVersion::V2_1 => true,
        };
        if !system.hls.iter().all(|signal| known(signal.playlist)) {
            return Err(SpekeError::Playlist);
        }
    }
    if version == SpekeVersion::V1 {
        return Ok(());
    }
    for key in &document.keys {
        if key.scheme.is_none() {
            return Err(SpekeError::SchemeMissing(key.key_id));
        }
        if !document.systems.iter().any(|system| system.key_id == key.key_id) {
            let element = "DRMSystem";
            return Err(SpekeError::KeyWithout {
                element,
                key_id: key.key_id,
            });
        }
    }
    let first = document.keys.first().and_then(|key| key.scheme);
    if document.keys.iter().any(|key| key.scheme != first) {
        return Err(SpekeError::MixedSchemes);
    }
    let fairplay = document
        .systems
        .iter()
        .any(|system| system.system_id == SystemId::FAIRPLAY);
    match fairplay && first != Some(ProtectionScheme::Cbcs) {
        true => Err(SignallingError::FairPlayScheme.into()),
        false => Ok(()),
    }
}

fn check_rules(version: SpekeVersion, document: &Document) -> Result<(), SpekeError> {
    let element = "ContentKeyUsageRule";
    for rule in &document.rules {
        let key_id = rule.key_id;
        if !document.keys.iter().any(|key| key.key_id == key_id) {
            return Err(SpekeError::UnknownKey { element, key_id });
        }
        for filter in &rule.filters {
            match filter {
                Filter::KeyPeriod(id) if !document.periods.iter().any(|period| period.id == *id) => {
                    return Err(SpekeError::UnknownPeriod);
                }
                _ => {}
            }
        }
    }
    if version == SpekeVersion::V1 {
        return Ok(());
    }
    if document.rules.is_empty() {
        return Err(SpekeError::Missing(element));
    }
    for key in &document.keys {
        if !document.rules.iter().any(|rule| rule.key_id == key.key_id) {
            return Err(SpekeError::KeyWithout {
                element,
                key_id: key.key_id,
            });
        }
    }
    for (at, rule) in document.rules.iter().enumerate() {
        let track_type = rule.track_type.as_ref();
        let track_type = track_type.ok_or(SpekeError::Missing("ContentKeyUsageRule@intendedTrackType"))?;
        let others = document
            .rules
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at)
            .map(|(_, other)| other);
        for other in others.filter(|other| share_period(rule, other)) {
            if track_type.name() == TrackType::ALL {
                return Err(SpekeError::AllCombined);
            }
            if rule.track_type == other.track_type && rule.key_id != other.key_id {
                return Err(SpekeError::TrackTypeTwice(track_type.clone()));
            }
        }
    }
    Ok(())
}

fn periods_of(rule: &UsageRule) -> Vec<&str> {
    rule.filters.iter().filter_map(Filter::period_id).collect()
}

/// Whether two rules can be about samples of the same time: of one period, or of any.
fn share_period(rule: &UsageRule, other: &UsageRule) -> bool {
    let (periods, others) = (periods_of(rule), periods_of(other));
    periods.is_empty() || others.is_empty() || periods.iter().any(|id| others.contains(id))
}

/// To whom keys may be handed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryPolicy {
    /// Keys may be sent in the clear, under the connection's protection alone, or to any certificate in a request.
    pub clear_keys: bool,
    /// Whose certificates keys may be encrypted to; documents that nobody asked a certificate for go to these.
    pub recipients: Vec<Recipient>,
}

impl DeliveryPolicy {
    /// The recipients that a request names, if keys may be handed to them.
    pub fn recipients(&self, asked: &[Delivery]) -> Result<Vec<Recipient>, SpekeError> {
        let known = |certificate: &[u8]| self.recipients.iter().any(|known| known.certificate() == certificate);
        let allowed = self.clear_keys || (!asked.is_empty() && asked.iter().all(|asked| known(&asked.certificate)));
        if !allowed {
            return Err(SpekeError::ClearDelivery);
        }
        let recipients = asked.iter().map(|asked| Recipient::from_der(&asked.certificate));
        Ok(recipients.collect::<Result<_, _>>()?)
    }
}

impl SpekeRequest {
    /// The response's body. [`SpekeRequest::check_delivery`] finds out before keys are made whether there can be one.
    pub fn respond(
        mut self,
        keys: &KeySet,
        signals: &Signals,
        policy: &DeliveryPolicy,
    ) -> Result<Zeroizing<String>, SpekeError> {
        let recipients = policy.recipients(&self.document.deliveries)?;
        match &self.contract.wanted {
            Wanted::Keys(wanted) if keys.answers(wanted) => {}
            _ => return Err(KeySourceError::Unavailable.into()),
        }
        let version = self.version.cpix();
        for (element, key) in self.document.keys.iter_mut().zip(&keys.keys) {
            element.value = KeyValue::Plain(key.key.clone());
            let chained = version == Version::Speke1 || element.scheme == Some(ProtectionScheme::Cbcs);
            element.iv = element.iv.or(key.iv.filter(|_| chained));
            element.hdcp = signals.hdcp(key);
        }
        let mut systems = Vec::with_capacity(self.document.systems.len());
        for asked in &self.document.systems {
            let element = "DRMSystem";
            let key_id = asked.key_id;
            let at = self.document.keys.iter().position(|key| key.key_id == key_id);
            let found = at.and_then(|at| Some((self.document.keys.get(at)?, keys.keys.get(at)?)));
            let (wanted, key) = found.ok_or(SpekeError::UnknownKey { element, key_id })?;
            // Version 1 does not say the scheme. A key that FairPlay is given is never signalled as a counter scheme's.
            let fairplay = (self.document.systems.iter())
                .any(|system| system.key_id == key_id && system.system_id == SystemId::FAIRPLAY);
            let mut key = key.clone();
            key.scheme = wanted
                .scheme
                .or(key.scheme)
                .or(fairplay.then_some(ProtectionScheme::Cbcs));
            key.iv = wanted.iv;
            systems.push(signals.fill(asked, &key)?);
        }
        self.document.systems = systems;
        self.document.encrypt(&recipients)?;
        Ok(Zeroizing::new(cpix::write(&self.document, version)))
    }

    /// Whether a response could be delivered at all: asked before the source makes keys.
    pub fn check_delivery(&self, signals: &Signals, policy: &DeliveryPolicy) -> Result<(), SpekeError> {
        policy.recipients(&self.document.deliveries)?;
        for system in &self.document.systems {
            signals.offers(system.system_id)?;
        }
        Ok(())
    }
}

/// What a client asks a key server for.
#[derive(Clone, Debug)]
pub struct KeyOrder {
    /// Its version. Version 1 has no place for schemes and track types: there, they are the asker's own affair.
    pub version: SpekeVersion,
    /// The title.
    pub content_id: String,
    /// Its keys, by names that the client made; all of one scheme.
    pub keys: Vec<WantedKey>,
    /// Systems to ask signalling for.
    pub systems: Vec<SystemId>,
    /// Whom the server shall encrypt the keys to.
    pub recipient: Option<Recipient>,
}

/// What a key server gave.
pub struct Fetched {
    /// The keys, in the order they were asked for.
    pub keys: KeySet,
    /// Its signalling.
    pub systems: Vec<DrmSystem>,
}

impl KeyOrder {
    /// The request's body. Its headers are `Content-Type: application/xml` and [`VERSION_HEADER`].
    pub fn write(&self) -> Result<String, SpekeError> {
        let document = self.document()?;
        // What the server would refuse is found here.
        check_head(self.version, &document)?;
        check_keys(self.version, &document)?;
        check_rules(self.version, &document)?;
        Ok(cpix::write(&document, self.version.cpix()))
    }

    fn document(&self) -> Result<Document, SpekeError> {
        let first = self.version == SpekeVersion::V1;
        let content_id = Some(self.content_id.clone());
        let mut document = Document {
            id: content_id.clone().filter(|_| first),
            content_id: content_id.filter(|_| !first),
            version: self.version.cpix().text().map(str::to_owned),
            ..Document::default()
        };
        document
            .deliveries
            .extend(self.recipient.as_ref().map(|recipient| Delivery {
                certificate: recipient.certificate().to_vec(),
                ..Delivery::default()
            }));
        let rotates = self.keys.iter().any(|key| key.period != 0);
        for wanted in &self.keys {
            let key_id = wanted.key_id.ok_or(SpekeError::Missing("ContentKey@kid"))?;
            document.keys.push(KeyElement {
                key_id,
                scheme: wanted.scheme.filter(|_| !first),
                iv: wanted.iv,
                hdcp: None,
                value: KeyValue::Absent,
            });
            let period_id = format!("keyPeriod_{}", wanted.period);
            let is_new = !document.periods.iter().any(|period| period.id == period_id);
            if rotates && is_new {
                document.periods.push(KeyPeriod {
                    id: period_id.clone(),
                    index: Some(wanted.period),
                    ..KeyPeriod::default()
                });
            }
            let period_id = rotates.then_some(period_id);
            document.rules.extend(match first {
                false => Some(UsageRule {
                    key_id,
                    track_type: Some(wanted.track_type.clone()),
                    filters: cpix::filters_of(&wanted.track_type, period_id),
                }),
                true => period_id.map(|id| UsageRule {
                    key_id,
                    track_type: None,
                    filters: vec![Filter::KeyPeriod(id)],
                }),
            });
            for system_id in &self.systems {
                document.systems.push(asked_of(self.version, *system_id, key_id));
            }
        }
        Ok(document)
    }

    /// Reads the response. A success without a key that was asked for, with one for another scheme, or for another
    /// title is refused; so is one of another version.
    pub fn read_response(
        &self,
        status: u16,
        version_header: Option<&str>,
        body: &[u8],
        delivery_key: Option<&DeliveryKey>,
    ) -> Result<Fetched, SpekeError> {
        if status != 200 {
            return Err(SpekeError::Status(status));
        }
        if SpekeVersion::from_header(version_header)? != self.version {
            return Err(SpekeError::SpekeVersion);
        }
        let document = cpix::read(body)?;
        if check_head(self.version, &document)? != self.content_id {
            return Err(SpekeError::OtherContent);
        }
        if self.recipient.is_some() && document.keys.iter().any(|key| matches!(key.value, KeyValue::Plain(_))) {
            return Err(SpekeError::ClearDelivery);
        }
        for wanted in &self.keys {
            let key_id = wanted.key_id.ok_or(SpekeError::Missing("ContentKey@kid"))?;
            let found = document.keys.iter().find(|key| key.key_id == key_id);
            match found {
                Some(key) if matches!(key.value, KeyValue::Absent) => return Err(SpekeError::KeyLeftOut(key_id)),
                Some(key) if self.version != SpekeVersion::V1 && key.scheme != wanted.scheme => {
                    return Err(SpekeError::MixedSchemes);
                }
                Some(_) => {}
                None => return Err(SpekeError::KeyLeftOut(key_id)),
            }
        }
        let given = document.key_set(delivery_key)?;
        let mut keys = KeySet::default();
        for wanted in &self.keys {
            let key_id = wanted.key_id.ok_or(SpekeError::Missing("ContentKey@kid"))?;
            let key = given.keys.iter().find(|key| key.key_id == key_id);
            let mut key = key.ok_or(SpekeError::KeyLeftOut(key_id))?.clone();
            key.scheme = wanted.scheme;
            key.track_type = wanted.track_type.clone();
            key.period = wanted.period;
            keys.keys.push(key);
        }
        Ok(Fetched {
            keys,
            systems: document.systems,
        })
    }
}

/// A `DRMSystem` that asks for everything a system has.
fn asked_of(version: SpekeVersion, system_id: SystemId, key_id: KeyId) -> DrmSystem {
    let mut asked = DrmSystem::new(key_id, system_id);
    if system_id != SystemId::FAIRPLAY {
        asked.pssh = Some(String::new());
        asked.content_protection = Some(String::new());
    }
    let multivariant = match version {
        SpekeVersion::V1 => {
            asked.key_uri = Some(String::new());
            asked.key_format = Some(String::new());
            asked.key_format_versions = Some(String::new());
            return asked;
        }
        SpekeVersion::V2_0 => Playlist::Master,
        SpekeVersion::V2_1 => Playlist::MultiVariant,
    };
    let signal = |playlist| HlsSignal {
        playlist,
        text: String::new(),
    };
    asked.hls = vec![signal(Playlist::Media), signal(multivariant)];
    asked
}
