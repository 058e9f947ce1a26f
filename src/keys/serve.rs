//! `headwater keys serve`: keys for encryptors over HTTP, until told to stop.

use std::sync::Arc;

use anyhow::{Context, bail};
use control_api::key_exchange::router;
use origin::keys::KekProvider;

use super::credentials;
use super::disk::{Vault, kek_of};
use super::source::VaultSource;
use crate::cli::ServeKeysArguments;
use crate::listener;

/// Serves the vault's keys.
pub fn run(arguments: &ServeKeysArguments) -> anyhow::Result<()> {
    let path = &arguments.credentials;
    let credentials = credentials::read(path).with_context(|| path.display().to_string())?;
    let kek = kek_of(&arguments.vault);
    // What can not work is said now, not to the first encryptor.
    let head = Vault::open(&arguments.vault.vault)?.head()?;
    let found = kek.kek_id()?;
    if head.kek_id() != found && head.previous_kek_id() != Some(found.as_str()) {
        bail!(
            "the vault is wrapped with key encryption key {}, not with {found}",
            head.kek_id()
        );
    }
    let source = VaultSource::new(&arguments.vault.vault, kek);
    let router = router(Arc::new(source), credentials);
    listener::serve(&arguments.listen, router, |address| {
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "keys cross the network without TLS");
        }
        tracing::info!(%address, vault = %arguments.vault.vault.display(), "serving keys");
    })
}
