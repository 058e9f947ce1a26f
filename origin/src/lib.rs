//! The data plane: hyper in front, file reads behind; every byte format comes from `packager`.
//!
//! Follow a request: `server` → `route` → `store` (opens an `asset` once) → `vod` (plans an answer) → `respond` → `body`.
//! Names neither the control plane nor the transcoder. Only `read`, `open`, `stored`, `library` and `page` touch files.
//! `unsafe` is denied but in `arena` (addresses that stand for file bytes) and `cachestat` (a system call without wrapper).

mod arena;
pub mod asset;
mod body;
mod cachestat;
pub mod config;
pub mod content;
pub mod error;
pub mod library;
mod metrics;
pub mod open;
mod page;
pub mod paging;
mod pin;
pub mod read;
mod recent;
mod rendered;
mod respond;
pub mod route;
mod server;
pub mod store;
pub mod stored;
pub mod thumbnails;
mod transport;
#[cfg(feature = "uring")]
mod uring;
pub mod vod;

use std::net::SocketAddr;
use std::sync::Arc;

use packager::form::Form;
use packager::presentation::choice::{Choice, Selection};
use tokio::sync::{Semaphore, watch};

use crate::asset::Asset;
use crate::config::Config;
use crate::error::ServeError;
use crate::metrics::Metrics;
use crate::page::PlayerLibrary;
use crate::paging::Gate;
use crate::rendered::RenderedCache;
use crate::route::VodResource;
use crate::store::Store;
use crate::vod::{Answer, Planned};

/// Everything the serving threads share, built once.
pub struct Origin {
    store: Store,
    rendered: RenderedCache,
    metrics: Metrics,
    gate: Arc<Gate>,
    connections: Arc<Semaphore>,
    player: Option<PlayerLibrary>,
}

/// Why an origin did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The address can not be listened on.
    #[error("listening on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread or its runtime could not be made, or a listener failed.
    #[error("serving: {0}")]
    Serve(#[source] std::io::Error),
    /// The player library could not be read.
    #[error("player library: {0}")]
    Player(#[source] std::io::Error),
    /// The metrics could not be registered.
    #[error("metrics: {0}")]
    Metrics(#[source] prometheus::Error),
}

impl Origin {
    /// An origin over the library of `config`; nothing is opened yet.
    pub fn new(config: Config) -> Result<Arc<Origin>, OriginError> {
        let rendered = RenderedCache::new(config.rendered_memory_bytes_max);
        let connections = Arc::new(Semaphore::new(config.connection_count_max));
        let metrics = Metrics::new().map_err(OriginError::Metrics)?;
        let gate = Arc::new(Gate::new(config.residency, config.fill, config.cold_read_count_max));
        let sendfile = config.sendfile_size_bytes_min.is_some() && arena::arena().is_some();
        metrics.set_paths(sendfile, &gate);
        tracing::info!(
            sendfile,
            residency = metrics::probe_name(gate.probe()),
            fill = metrics::fill_name(gate.fill_by()),
            "how media is sent"
        );
        let player = config
            .player
            .as_deref()
            .map(PlayerLibrary::read)
            .transpose()
            .map_err(OriginError::Player)?;
        Ok(Arc::new(Origin {
            store: Store::new(config),
            rendered,
            metrics,
            gate,
            connections,
            player,
        }))
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        self.store.config()
    }

    /// The presentations.
    pub fn store(&self) -> &Store {
        &self.store
    }

    async fn open(self: &Arc<Origin>, media_id: &str) -> Result<Arc<Asset>, ServeError> {
        if let Some(asset) = self.store.opened(media_id) {
            return Ok(asset);
        }
        let (origin, media_id) = (self.clone(), media_id.to_owned());
        server::blocking(move || origin.store.open(&media_id)).await
    }

    /// The asset that answers `resource` of `asset`: itself, or what a choice makes of it.
    async fn chosen(self: &Arc<Origin>, asset: &Arc<Asset>, resource: &VodResource) -> Result<Arc<Asset>, ServeError> {
        let Some(derivation) = vod::choice::derivation(asset, resource)? else {
            return Ok(asset.clone());
        };
        if let Some(derived) = self.store.derived(asset, derivation) {
            return Ok(derived);
        }
        let (origin, asset) = (self.clone(), asset.clone());
        server::blocking(move || origin.store.derive(&asset, derivation)).await
    }

    async fn answer(self: &Arc<Origin>, asset: &Arc<Asset>, resource: VodResource) -> Result<Answer, ServeError> {
        let asset = &self.chosen(asset, &resource).await?;
        match vod::plan(asset, resource)? {
            Planned::Ready(answer) => Ok(answer),
            Planned::Render(rendering) => {
                let (origin, asset) = (self.clone(), asset.clone());
                server::blocking(move || {
                    origin
                        .rendered
                        .answer(&asset.media_id, &asset.presentation.version, rendering)
                })
                .await
            }
            Planned::Build(build) => server::blocking(build).await,
        }
    }

    /// The presentation that entry points of `form` show of `asset` when asked for `choice`, and which of its tracks.
    /// Blocking.
    pub fn choose_blocking(
        &self,
        asset: &Arc<Asset>,
        choice: &Choice,
        form: Form,
    ) -> Result<(Arc<Asset>, Selection), ServeError> {
        let entry = VodResource::Multivariant {
            form,
            choice: choice.clone(),
        };
        let chosen = match vod::choice::derivation(asset, &entry)? {
            Some(derivation) => self.store.derive(asset, derivation)?,
            None => asset.clone(),
        };
        let selection = choice.tracks.select(&chosen.presentation, form)?;
        Ok((chosen, selection))
    }

    /// What the origin would answer for `resource`, computed on this thread: for packaging ahead of time. Blocking.
    pub fn answer_blocking(&self, asset: &Arc<Asset>, resource: VodResource) -> Result<Answer, ServeError> {
        let derived = match vod::choice::derivation(asset, &resource)? {
            Some(derivation) => Some(self.store.derive(asset, derivation)?),
            None => None,
        };
        let asset = derived.as_ref().unwrap_or(asset);
        match vod::plan(asset, resource)? {
            Planned::Ready(answer) => Ok(answer),
            Planned::Render(rendering) => self
                .rendered
                .answer(&asset.media_id, &asset.presentation.version, rendering),
            Planned::Build(build) => build(),
        }
    }

    /// Serves until `shutdown` turns true: one thread with its own runtime and listener for each of `config.threads`.
    /// `started` is told the address once connections are accepted. Blocking.
    pub fn serve(
        self: &Arc<Origin>,
        shutdown: watch::Receiver<bool>,
        started: impl FnOnce(SocketAddr),
    ) -> Result<(), OriginError> {
        let wanted = self.config().listen;
        let listening = |source| OriginError::Listen {
            address: wanted,
            source,
        };
        let first = server::listen(wanted).map_err(listening)?;
        // Port 0 is chosen by the first socket; the others join it.
        let address = first.local_addr().map_err(listening)?;
        let mut listeners = vec![first];
        for _ in 1..self.config().threads {
            listeners.push(server::listen(address).map_err(listening)?);
        }
        let mut threads = Vec::with_capacity(listeners.len());
        for (number, listener) in listeners.into_iter().enumerate() {
            let (origin, shutdown) = (self.clone(), shutdown.clone());
            let pin = self.config().pin_cores;
            let serve = move || {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                builder.enable_all();
                if pin {
                    pin::pin_thread(number, &mut builder);
                }
                let runtime = builder.build()?;
                let tasks = tokio::task::LocalSet::new();
                runtime.block_on(tasks.run_until(server::serve(origin, listener, shutdown)))
            };
            let thread = std::thread::Builder::new()
                .name(format!("origin-{number}"))
                .spawn(serve);
            threads.push(thread.map_err(OriginError::Serve)?);
        }
        started(address);
        for thread in threads {
            let ended = thread
                .join()
                .map_err(|_| OriginError::Serve(std::io::Error::other("a serving thread panicked")));
            ended?.map_err(OriginError::Serve)?;
        }
        Ok(())
    }
}
