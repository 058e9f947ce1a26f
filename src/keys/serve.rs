//! `headwater keys serve`: keys for encryptors over HTTP, until told to stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use control_api::key_exchange::router;
use origin::keys::KekProvider;
use tokio::net::TcpListener;

use super::credentials;
use super::disk::{Vault, kek_of};
use super::source::VaultSource;
use crate::cli::ServeKeysArguments;
use crate::shutdown;

/// How long running answers may take once it is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let stop = shutdown::watch_signals(None)?;
    runtime.block_on(async {
        let listening = || format!("listen {}", arguments.listen);
        let listener = TcpListener::bind(&arguments.listen).await.with_context(listening)?;
        let address = listener.local_addr().with_context(listening)?;
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "keys cross the network without TLS");
        }
        tracing::info!(%address, vault = %arguments.vault.vault.display(), "serving keys");
        let (mut stopped, mut drained) = (stop.clone(), stop);
        // A watcher that is gone will never say stop; nor should its end be taken for one.
        let stopping = async move {
            if stopped.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let late = async move {
            if drained.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(DRAIN_TIMEOUT).await;
        };
        let served = axum::serve(listener, router).with_graceful_shutdown(stopping);
        tokio::select! {
            served = async { served.await } => served.context("serving keys"),
            () = late => Ok(()),
        }
    })
}
