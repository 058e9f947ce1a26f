//! `headwater licences`: players' licence requests, answered for holders of a grant.

mod section;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use control_api::license::clear_key::ClearKey;
use control_api::license::{
    Desk, Gate, Issuer, LicensePolicy, LicensedKey, Licensing, Title, TitleError, Titles, router,
};
use origin::access::EndedSessions;
use origin::keys::{KeyStore, OpenTitle};
use packager::crypto::ProtectionScheme;

use crate::cli::{LicencesArguments, LicencesCommand};
use crate::keys::kek;
use crate::{config, grant, listener};

pub use self::section::Section;

/// Runs one of its commands.
pub fn run(arguments: LicencesArguments) -> anyhow::Result<ExitCode> {
    let LicencesCommand::Serve { config: path, listen } = arguments.command;
    let named = || path.display().to_string();
    let section = config::read(&path)?.control.and_then(|control| control.licences);
    let mut section = section.with_context(|| format!("{}: has no [control.licences]", path.display()))?;
    section.listen = listen.unwrap_or(section.listen);
    let licensing = licensing(&section).with_context(named)?;
    let offered: Vec<&str> = licensing
        .desk
        .issuers
        .iter()
        .map(|issuer| issuer.backend().name())
        .collect();
    let offered = offered.join(", ");
    listener::serve(&section.listen, router(licensing), |address| {
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "licences cross the network without TLS");
        }
        tracing::info!(%address, offered, "serving licences");
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that licences are made with. What can not work is said now, not to the first player.
fn licensing(section: &Section) -> anyhow::Result<Licensing> {
    let keys = grant::read_keys(&section.grant_keys)?;
    let ended = EndedSessions::open(section.revoked.as_deref())?;
    let mut issuers = section.issuers()?;
    if section.clear_key {
        issuers.push(clear_key());
    }
    anyhow::ensure!(!issuers.is_empty(), "[control.licences] offers no system");
    Ok(Licensing {
        gate: Gate::new(keys, move |session| ended.has(session)),
        desk: desk(&section.vault, &section.kek, section.policy()?, issuers)?,
    })
}

/// The checks of both who make licences by this section: the API, and `licences serve`. What the API makes them with.
pub fn check(section: &Section) -> anyhow::Result<Desk> {
    let named = "[control.licences]";
    grant::read_keys(&section.grant_keys).context(named)?;
    EndedSessions::open(section.revoked.as_deref()).context(named)?;
    if !section.clear_key && section.issuers().context(named)?.is_empty() {
        // The API may add Clear Key by its own settings.
        tracing::warn!("[control.licences] offers no system: `licences serve` would not start");
    }
    api_desk(section).context(named)
}

/// What the API makes licences with. Whether Clear Key may be had is said by its own settings.
pub fn api_desk(section: &Section) -> anyhow::Result<Desk> {
    let mut issuers = section.issuers()?;
    issuers.push(clear_key());
    desk(&section.vault, &section.kek, section.policy()?, issuers)
}

/// The same for work on one's own machine: Clear Key alone.
pub fn dev_desk(vault: &Path, kek: &Path) -> anyhow::Result<Desk> {
    desk(vault, kek, LicensePolicy::default(), vec![clear_key()])
}

fn clear_key() -> Issuer {
    Issuer::new(Box::new(ClearKey), None)
}

fn desk(vault: &Path, kek: &Path, policy: LicensePolicy, issuers: Vec<Issuer>) -> anyhow::Result<Desk> {
    let store = KeyStore::with_provider(vault, kek::open(kek))?;
    Ok(Desk {
        titles: Arc::new(VaultTitles(store)),
        policy,
        issuers,
    })
}

/// A vault on disk, seen through the origin's eyes: changes are noticed within seconds.
struct VaultTitles(KeyStore);

impl Titles for VaultTitles {
    fn title(&self, content_id: &str) -> Result<Option<Title>, TitleError> {
        let title = self.0.title(content_id).map_err(|error| {
            tracing::error!("key vault: {error}");
            TitleError
        })?;
        Ok(title.map(|title| licensed(&title)))
    }

    fn kept(&self, content_id: &str) -> Option<Title> {
        self.0.kept(content_id).map(|title| licensed(&title))
    }
}

fn licensed(title: &OpenTitle) -> Title {
    let keys = ProtectionScheme::ALL.into_iter().flat_map(|scheme| {
        title.keys(scheme.name()).map(move |key| LicensedKey {
            key_id: key.key_id,
            key: key.key.clone(),
            scheme,
            track: key.track,
        })
    });
    Title {
        keys: keys.collect(),
        tenant: title.tenant().to_owned(),
    }
}
