//! `headwater licences`: players' licence requests, answered for holders of a grant.

mod section;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use control_api::license::clear_key::ClearKey;
use control_api::license::{Gate, Issuer, LicensedKey, Licensing, Title, TitleError, Titles, router};
use origin::access::EndedSessions;
use origin::keys::KeyStore;
use packager::crypto::ProtectionScheme;

use crate::cli::{LicencesArguments, LicencesCommand};
use crate::keys::kek;
use crate::{config, control, grant};

pub use self::section::Section;

/// Runs one of its commands.
pub fn run(arguments: LicencesArguments) -> anyhow::Result<ExitCode> {
    let LicencesCommand::Serve { config: path, listen } = arguments.command;
    let named = || path.display().to_string();
    let section = config::read(&path)?.control.licences;
    let mut section = section.with_context(|| format!("{}: has no [control.licences]", path.display()))?;
    section.listen = listen.unwrap_or(section.listen);
    let licensing = licensing(&section).with_context(named)?;
    let offered: Vec<&str> = licensing.issuers.iter().map(|issuer| issuer.backend().name()).collect();
    let offered = offered.join(", ");
    control::serve(&section.listen, router(licensing), |address| {
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
    let store = KeyStore::with_provider(&section.vault, kek::open(&section.kek))?;
    let mut issuers = section.issuers()?;
    if section.clear_key {
        issuers.push(Issuer::new(Box::new(ClearKey), None));
    }
    anyhow::ensure!(!issuers.is_empty(), "[control.licences] offers no system");
    Ok(Licensing {
        gate: Gate::new(keys, move |session| ended.has(session)),
        titles: Arc::new(VaultTitles(store)),
        policy: section.policy()?,
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
        Ok(title.map(|title| {
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
        }))
    }
}
