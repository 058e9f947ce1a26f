//! Fetching keys: asks a key server for a title's keys and keeps them in the vault.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use control_api::key_exchange::client::{ClientProof, KeyServer};
use control_api::key_exchange::content_key_api::{ContentKeyRequest, Signer, Track};
use control_api::key_exchange::speke::{KeyOrder, SpekeVersion};
use control_api::key_exchange::{KeySet, TrackType, WantedKey};
use packager::crypto::ProtectionScheme;
use packager::crypto::pssh::SystemId;
use packager::crypto::vault::{NewKey, TrackClass, is_name};
use serde::Deserialize;

use super::credentials::{Secret, read_delivery_key, read_recipient, read_secret, signing_key, without_secrets};
use super::disk::{Vault, kek_of, random};
use super::{check_scheme, check_tenant, now, random_key_id, starts_ms, title_of};
use crate::cli::FetchKeysArguments;
use crate::print;
use crate::remote::Remote;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Protocol {
    #[serde(rename = "speke-1")]
    Speke1,
    #[serde(rename = "speke-2.0")]
    Speke2_0,
    #[serde(rename = "speke-2.1")]
    Speke2_1,
    #[serde(rename = "getcontentkey")]
    GetContentKey,
}

/// A key server, as written by people.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerFile {
    protocol: Protocol,
    url: String,
    #[serde(default)]
    private_network: bool,
    ca: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    api_key: Option<Secret>,
    user: Option<String>,
    password: Option<Secret>,
    /// Widevine's key API: who signs, with what, and for which policy.
    signer: Option<String>,
    aes_key: Option<Secret>,
    aes_iv: Option<Secret>,
    #[serde(default)]
    policy: String,
    /// SPEKE: keys shall come encrypted to this certificate, whose private key is here.
    certificate: Option<PathBuf>,
    private_key: Option<PathBuf>,
    /// SPEKE: for which systems keys are asked; a server refuses those that it does not offer.
    #[serde(default = "systems")]
    systems: Vec<System>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum System {
    Widevine,
    PlayReady,
    FairPlay,
    ClearKey,
}

fn systems() -> Vec<System> {
    vec![System::Widevine]
}

impl System {
    fn id(self) -> SystemId {
        match self {
            System::Widevine => SystemId::WIDEVINE,
            System::PlayReady => SystemId::PLAYREADY,
            System::FairPlay => SystemId::FAIRPLAY,
            System::ClearKey => SystemId::CLEAR_KEY,
        }
    }
}

/// What is asked for.
struct Order<'a> {
    content_id: &'a str,
    /// `None` for AES-128 and SAMPLE-AES, which the server is not told of.
    scheme: Option<ProtectionScheme>,
    tracks: Vec<TrackClass>,
    period: u64,
}

/// Asks for the keys that the vault has not, and keeps all of them or none.
pub fn run(arguments: &FetchKeysArguments) -> anyhow::Result<()> {
    let id = &arguments.media_id;
    ensure!(is_name(id), "{id}: not a media id");
    check_scheme(&arguments.scheme)?;
    check_tenant(&arguments.tenant)?;
    let starts_ms = starts_ms(arguments.period, arguments.starts)?;
    let mut tracks = Vec::new();
    for name in &arguments.track {
        let track = TrackClass::from_name(name);
        tracks.push(track.with_context(|| format!("{name}: a track is one of AUDIO, SD, HD, UHD1, UHD2"))?);
    }
    let path = &arguments.from;
    let named = || path.display().to_string();
    let text = read_secret(path).with_context(named)?;
    let server: ServerFile = toml::from_str(&text)
        .map_err(|error| without_secrets(&text, &error))
        .with_context(named)?;
    let folder = path.parent().unwrap_or(Path::new(""));

    // The vault is let go of while the server is asked.
    let (kek, folder_of_vault) = (kek_of(&arguments.vault), &arguments.vault.vault);
    {
        let vault = Vault::open(folder_of_vault)?;
        let tenant_key = vault.tenant_key_or_new(&kek, &arguments.tenant)?;
        let title = title_of(&vault, id, &arguments.tenant, &tenant_key)?;
        tracks.retain(|track| title.find(&arguments.scheme, *track, arguments.period).is_none());
    }
    let kept = arguments.track.len() - tracks.len();
    let order = Order {
        content_id: arguments.content_id.as_deref().unwrap_or(id),
        scheme: ProtectionScheme::from_name(&arguments.scheme),
        tracks,
        period: arguments.period,
    };
    let fetched = match order.tracks.is_empty() {
        true => KeySet::default(),
        false => server.fetch(folder, &order).with_context(named)?,
    };

    let vault = Vault::open(folder_of_vault)?;
    let tenant_key = vault.tenant_key_or_new(&kek, &arguments.tenant)?;
    let mut title = title_of(&vault, id, &arguments.tenant, &tenant_key)?;
    for (key, track) in fetched.keys.iter().zip(&order.tracks) {
        let new = NewKey {
            key_id: key.key_id,
            key: &key.key,
            scheme: &arguments.scheme,
            track: *track,
            period: arguments.period,
            starts_ms,
            created: now()?,
            nonce: random()?,
        };
        title.seal_new(&tenant_key, &new).with_context(|| id.clone())?;
    }
    if !fetched.keys.is_empty() {
        vault.save_title(&mut title, &tenant_key)?;
    }
    writeln!(print::out(), "{id}: {} fetched, {kept} kept", fetched.keys.len())?;
    Ok(())
}

impl ServerFile {
    /// A key for each track, in their order.
    fn fetch(&self, folder: &Path, order: &Order<'_>) -> anyhow::Result<KeySet> {
        let beside = |path: &Option<PathBuf>| path.as_ref().map(|path| folder.join(path));
        let (ca, chain, key) = (
            beside(&self.ca),
            beside(&self.client_certificate),
            beside(&self.client_key),
        );
        let remote = Remote {
            url: &self.url,
            private_network: self.private_network,
            ca: ca.as_deref(),
            client_certificate: chain.as_deref(),
            client_key: key.as_deref(),
        };
        let (url, outbound) = remote.open()?;
        let proof = match (&self.api_key, &self.user, &self.password) {
            (None, None, None) => ClientProof::Nothing,
            (Some(key), None, None) => ClientProof::ApiKey(key.0.clone()),
            (None, Some(user), Some(password)) => ClientProof::Basic {
                user: user.clone(),
                password: password.0.clone(),
            },
            _ => bail!("has either api_key or user and password"),
        };
        // What goes wrong on the way says neither where to nor what; of a URL, the rest may be a secret.
        let place = url.authority().map(ToString::to_string).unwrap_or_default();
        let server = KeyServer { url, proof, outbound };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let version = match self.protocol {
            Protocol::GetContentKey => {
                let (request, signer) = self.content_key_request(order)?;
                return runtime.block_on(server.content_keys(&request, &signer)).context(place);
            }
            Protocol::Speke1 => SpekeVersion::V1,
            Protocol::Speke2_0 => SpekeVersion::V2_0,
            Protocol::Speke2_1 => SpekeVersion::V2_1,
        };
        let delivery_key = beside(&self.private_key)
            .map(|path| read_delivery_key(&path))
            .transpose()?;
        let recipient = beside(&self.certificate)
            .map(|path| read_recipient(&path))
            .transpose()?;
        ensure!(
            recipient.is_some() == delivery_key.is_some(),
            "certificate and private_key go together"
        );
        let keys = order.tracks.iter().map(|track| {
            Ok(WantedKey {
                key_id: Some(random_key_id()?),
                scheme: order.scheme,
                track_type: track_type(*track)?,
                period: order.period,
                iv: None,
            })
        });
        let order = KeyOrder {
            version,
            content_id: order.content_id.to_owned(),
            keys: keys.collect::<anyhow::Result<_>>()?,
            systems: self.systems.iter().map(|system| system.id()).collect(),
            recipient,
        };
        let answer = runtime.block_on(server.speke(&order, delivery_key.as_ref()));
        Ok(answer.context(place)?.keys)
    }

    fn content_key_request(&self, order: &Order<'_>) -> anyhow::Result<(ContentKeyRequest, Signer)> {
        let (key, iv) = self
            .aes_key
            .as_ref()
            .zip(self.aes_iv.as_ref())
            .context("has no aes_key and aes_iv")?;
        let signer = Signer {
            name: self.signer.clone().context("has no signer")?,
            tenant: String::new(),
            key: signing_key(key, iv)?,
            policies: Vec::new(),
        };
        let scheme = order
            .scheme
            .context("--scheme: the key API knows cbcs, cenc, cens and cbc1 alone")?;
        let period = match order.period {
            0 => None,
            period => Some(u32::try_from(period).context("--period: too large for the key API")?),
        };
        let track = |track: &TrackClass| Track {
            track_type: track.name().to_owned(),
        };
        let request = ContentKeyRequest {
            policy: self.policy.clone(),
            tracks: order.tracks.iter().map(track).collect(),
            drm_types: vec!["WIDEVINE".to_owned()],
            first_crypto_period_index: period,
            crypto_period_count: period.map(|_| 1),
            protection_scheme: Some(scheme.name().to_ascii_uppercase()),
            ..ContentKeyRequest::of_title(order.content_id)
        };
        Ok((request, signer))
    }
}

fn track_type(track: TrackClass) -> anyhow::Result<TrackType> {
    TrackType::parse(track.name()).context("a track without a name")
}
