//! `[control.licences]` of the configuration file: who issues licences of which system, and on what terms.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use control_api::license::fairplay_ksm::FairPlayKsm;
use control_api::license::multidrm::MultiDrm;
use control_api::license::playready_http::{Entitlement, PlayReadyHttp};
use control_api::license::token::{Carrier, Maker, Place};
use control_api::license::widevine_cloud::{KeyOwner, StatusMeaning, WidevineCloud};
use control_api::license::{Hdcp, Issuer, LicenseBackend, LicensePolicy, LicenseSystem, RenewalTerms, TrackTerms};
use packager::crypto::KeyId;
use packager::crypto::fairplay;
use packager::crypto::vault::TrackClass;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::keys::credentials::{Secret, read_secret, signing_key, without_secrets};
use crate::remote::{Remote, read_public};

/// Longest licence: what is longer is not noticed to have ended.
const DURATION_S_MAX: u64 = 30 * 86_400;

/// `[control.licences]` as written by people.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Address and port to listen on.
    #[serde(default = "listen")]
    pub listen: String,
    /// Folder of the key vault.
    pub vault: PathBuf,
    /// File of the key encryption key.
    pub kek: PathBuf,
    /// File with the keys that grants are verified with.
    pub grant_keys: PathBuf,
    /// File with the ids of ended sessions.
    pub revoked: Option<PathBuf>,
    /// Clear Key licences are handed out: not DRM.
    #[serde(default)]
    pub clear_key: bool,
    /// How long a licence holds.
    #[serde(default = "duration_s")]
    duration_s: u64,
    /// How long from the first picture on.
    playback_duration_s: Option<u64>,
    /// How licences are renewed.
    renewal: Option<RenewalTerms>,
    /// Demands on players, by class of tracks.
    #[serde(default)]
    tracks: BTreeMap<TrackClass, TrackSection>,
    widevine: Option<ServiceSection>,
    playready: Option<ServiceSection>,
    fairplay: Option<ServiceSection>,
}

fn listen() -> String {
    "127.0.0.1:8091".to_owned()
}

fn duration_s() -> u64 {
    LicensePolicy::default().duration_s
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrackSection {
    widevine_level: Option<u8>,
    playready_level: Option<u16>,
    #[serde(default)]
    hdcp: Hdcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Adapter {
    WidevineCloud,
    PlayreadyHttp,
    FairplayKsm,
    MultidrmHttp,
}

/// A licence service. Which keys are needed depends on the adapter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceSection {
    adapter: Adapter,
    url: String,
    /// The service may be in a private network.
    #[serde(default)]
    private_network: bool,
    /// Certificate authorities (PEM) to trust in place of the system's.
    ca: Option<PathBuf>,
    /// What proves us (PEM).
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    /// File with secrets (TOML, mode 0600).
    secrets: Option<PathBuf>,
    provider: Option<String>,
    #[serde(default)]
    keys: KeyOwner,
    policy: Option<String>,
    renewal_url: Option<String>,
    #[serde(default)]
    statuses: BTreeMap<String, StatusMeaning>,
    /// FairPlay's application certificate (DER).
    certificate: Option<PathBuf>,
    uri_template: Option<String>,
    token: Option<TokenSection>,
    /// The entitlement goes as Microsoft's public test server reads it, keys in the clear.
    #[serde(default)]
    test_server: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TokenKind {
    Axinom,
    Doverunner,
    Jwt,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenSection {
    kind: TokenKind,
    /// Header that it stands in; `authorization` as a Bearer token.
    header: Option<String>,
    /// Or the name in the query.
    query: Option<String>,
    key_id: Option<String>,
    site_id: Option<String>,
    claims: Option<serde_json::Value>,
}

/// A service's secrets, in a file of their own.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Secrets {
    aes_key: Option<Secret>,
    aes_iv: Option<Secret>,
    /// Base64.
    key: Option<Secret>,
    site_key: Option<Secret>,
    access_key: Option<Secret>,
}

impl Section {
    /// The terms of every licence.
    pub fn policy(&self) -> anyhow::Result<LicensePolicy> {
        ensure!(
            (1..=DURATION_S_MAX).contains(&self.duration_s),
            "[control.licences] duration_s: {} is outside 1 to {DURATION_S_MAX}",
            self.duration_s
        );
        let tracks = self.tracks.iter().map(|(track, section)| {
            let least = TrackTerms::least(*track);
            let terms = TrackTerms {
                track: *track,
                widevine_level: section.widevine_level.unwrap_or(least.widevine_level),
                playready_level: section.playready_level.unwrap_or(least.playready_level),
                hdcp: section.hdcp,
            };
            let named = format!("[control.licences.tracks.{}]", track.name());
            ensure!(
                (1..=5).contains(&terms.widevine_level),
                "{named} widevine_level: 1 to 5"
            );
            let known = [150, 2_000, 3_000].contains(&terms.playready_level);
            ensure!(known, "{named} playready_level: 150, 2000 or 3000");
            let too_high = *track == TrackClass::Audio && terms.playready_level > 2_000;
            ensure!(!too_high, "{named} playready_level: sound is never above 2000");
            Ok(terms)
        });
        Ok(LicensePolicy {
            duration_s: self.duration_s,
            playback_duration_s: self.playback_duration_s,
            renewal: self.renewal,
            tracks: tracks.collect::<anyhow::Result<_>>()?,
        })
    }

    /// One for each system that is configured.
    pub fn issuers(&self) -> anyhow::Result<Vec<Issuer>> {
        let services = [
            (LicenseSystem::Widevine, &self.widevine),
            (LicenseSystem::PlayReady, &self.playready),
            (LicenseSystem::FairPlay, &self.fairplay),
        ];
        let configured = services
            .into_iter()
            .filter_map(|(system, section)| Some((system, section.as_ref()?)));
        let issuers = configured.map(|(system, section)| {
            let named = || format!("[control.licences.{system}]");
            section.issuer(system).with_context(named)
        });
        issuers.collect()
    }
}

impl ServiceSection {
    fn issuer(&self, system: LicenseSystem) -> anyhow::Result<Issuer> {
        let remote = Remote {
            url: &self.url,
            private_network: self.private_network,
            ca: self.ca.as_deref(),
            client_certificate: self.client_certificate.as_deref(),
            client_key: self.client_key.as_deref(),
        };
        let (url, outbound) = remote.open()?;
        let certificate = self.certificate.as_deref().map(read_public).transpose()?;
        let backend: Box<dyn LicenseBackend> = match (self.adapter, system) {
            (Adapter::WidevineCloud, LicenseSystem::Widevine) => {
                let secrets = self.secrets()?;
                let (key, iv) = secrets
                    .aes_key
                    .as_ref()
                    .zip(secrets.aes_iv.as_ref())
                    .context("secrets: aes_key and aes_iv")?;
                Box::new(WidevineCloud {
                    url,
                    provider: self.provider.clone().context("provider is not set")?,
                    key: signing_key(key, iv).context("secrets")?,
                    owner: self.keys,
                    policy: self.policy.clone(),
                    renewal_url: self.renewal_url.clone(),
                    statuses: self.statuses.clone(),
                })
            }
            (Adapter::PlayreadyHttp, LicenseSystem::PlayReady) => {
                let entitlement = match (&self.token, self.test_server) {
                    (None, false) => Entitlement::None,
                    (None, true) => Entitlement::TestServer,
                    (Some(token), false) => Entitlement::Token(self.carrier(token)?),
                    (Some(_), true) => bail!("token and test_server exclude each other"),
                };
                Box::new(PlayReadyHttp { url, entitlement })
            }
            (Adapter::FairplayKsm, LicenseSystem::FairPlay) => {
                let near = url.host().is_some_and(|host| host == "127.0.0.1" || host == "[::1]");
                ensure!(
                    near || self.client_key.is_some(),
                    "a module elsewhere needs client_certificate and client_key"
                );
                let uri_template = self
                    .uri_template
                    .clone()
                    .unwrap_or_else(|| fairplay::TEMPLATE.to_owned());
                fairplay::fill(&uri_template, KeyId([0; 16]), None).context("uri_template")?;
                Box::new(FairPlayKsm {
                    url,
                    certificate,
                    uri_template,
                })
            }
            (Adapter::MultidrmHttp, system) => {
                let token = self.token.as_ref().context("token is not set")?;
                Box::new(MultiDrm {
                    system,
                    url,
                    entitlement: self.carrier(token)?,
                    certificate,
                })
            }
            _ => bail!("adapter is not one of this system"),
        };
        Ok(Issuer::new(backend, Some(outbound)))
    }

    fn secrets(&self) -> anyhow::Result<Secrets> {
        let path = self
            .secrets
            .as_ref()
            .context("secrets is not set: a file with the service's secrets")?;
        let named = || path.display().to_string();
        let text = read_secret(path).with_context(named)?;
        toml::from_str(&text)
            .map_err(|error| without_secrets(&text, &error))
            .with_context(named)
    }

    fn carrier(&self, token: &TokenSection) -> anyhow::Result<Carrier> {
        let secrets = self.secrets()?;
        let place = match (&token.header, &token.query) {
            (Some(name), None) if name.eq_ignore_ascii_case("authorization") => Place::Bearer,
            (Some(name), None) => Place::Header(name.to_ascii_lowercase()),
            (None, Some(name)) => Place::Query(name.clone()),
            (None, None) => match token.kind {
                TokenKind::Axinom => Place::Header("x-axdrm-message".to_owned()),
                TokenKind::Doverunner => Place::Header("pallycon-customdata-v2".to_owned()),
                TokenKind::Jwt => bail!("token: header or query is not set"),
            },
            _ => bail!("token: header and query exclude each other"),
        };
        let key = || {
            let text = secrets.key.as_ref().context("secrets: key is not set")?;
            control_api::license::token::key_from_base64(&text.0).context("secrets: key is not base64")
        };
        let maker = match token.kind {
            TokenKind::Axinom => Maker::Axinom {
                key_id: token.key_id.clone().context("token: key_id is not set")?,
                key: key()?,
            },
            TokenKind::Jwt => Maker::Jwt {
                claims: token.claims.clone().context("token: claims is not set")?,
                key_id: token.key_id.clone(),
                key: key()?,
            },
            TokenKind::Doverunner => {
                let site_key = secrets.site_key.as_ref().map(|key| key.0.as_bytes());
                let site_key = site_key.and_then(|key| <[u8; 32]>::try_from(key).ok());
                let access_key = secrets.access_key.as_ref().context("secrets: access_key is not set")?;
                Maker::DoveRunner {
                    site_id: token.site_id.clone().context("token: site_id is not set")?,
                    site_key: Zeroizing::new(site_key.context("secrets: site_key is not of 32 characters")?),
                    access_key: access_key.0.clone(),
                }
            }
        };
        Ok(Carrier { maker, place })
    }
}
