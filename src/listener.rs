//! A listener for a few routes: of keys and of licences, each a command of its own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use control_api::connection::{self, Bounds, stopped};
use tokio::net::TcpListener;

use crate::shutdown;

/// How long running answers may take once it is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves `router` on `listen` until told to stop; `ready` hears the address.
pub fn serve(listen: &str, router: Router, ready: impl FnOnce(SocketAddr)) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let stop = shutdown::watch_signals(None)?;
    runtime.block_on(async {
        let listening = || format!("listen {listen}");
        let listener = TcpListener::bind(listen).await.with_context(listening)?;
        ready(listener.local_addr().with_context(listening)?);
        let late = async {
            stopped(stop.clone()).await;
            tokio::time::sleep(DRAIN_TIMEOUT).await;
        };
        // Who asks are servers of others and proxies: there are few of them, with many connections.
        let bounds = Bounds {
            connections_per_client_max: None,
            ..Bounds::default()
        };
        tokio::select! {
            () = connection::serve(listener, router, stop.clone(), bounds) => {}
            () = late => {}
        }
        Ok(())
    })
}
