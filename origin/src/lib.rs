//! The data plane: hyper in front, file reads behind; every byte format comes from `packager`.
//!
//! Follow a request: `server` → `route` → `store` (opens an `asset` once) → `vod` (plans an answer) → `respond` → `body`.
//! Names neither the control plane nor the transcoder. Only `read`, `open`, `stored`, `library` and `page` touch files.
//! `unsafe` is denied but in `arena` (addresses that stand for file bytes), `cachestat`, `heap` and `ktls` (calls without wrapper).

pub mod access;
mod arena;
pub mod asset;
mod body;
mod build;
mod cachestat;
mod clients;
pub mod config;
pub mod content;
mod descriptors;
pub mod error;
mod fetch;
mod front;
mod heap;
mod hot;
pub mod keys;
mod ktls;
mod ktls_transport;
mod lanes;
pub mod library;
pub mod limits;
mod load;
mod metrics;
pub mod open;
mod page;
pub mod paging;
mod pin;
mod pool;
pub mod protect;
mod pulse;
pub mod read;
mod recent;
mod rendered;
mod respond;
pub mod route;
mod server;
pub mod source_keys;
pub mod store;
pub mod stored;
pub mod thumbnails;
pub mod tls;
mod tls_transport;
mod transport;
mod tray;
#[cfg(feature = "uring")]
mod uring;
pub mod vod;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use packager::form::Form;
use packager::presentation::choice::{Choice, Selection};
use packager::time::Rounding;
use tokio::sync::{Semaphore, watch};

use crate::access::{Access, AccessError, Policy, Ticket};
use crate::asset::Asset;
use crate::body::Delivery;
use crate::clients::Clients;
use crate::config::Config;
use crate::error::ServeError;
use crate::front::Door;
use crate::hot::Built;
use crate::keys::KeyStoreError;
use crate::metrics::Metrics;
use crate::page::PlayerLibrary;
use crate::paging::Gate;
use crate::protect::Protector;
use crate::rendered::RenderedCache;
use crate::route::VodResource;
use crate::source_keys::SourceKeyring;
use crate::store::Store;
use crate::tls::{Tls, TlsError};
use crate::vod::{Answer, Planned};

/// Everything the serving threads share, built once.
pub struct Origin {
    store: Store,
    rendered: RenderedCache,
    metrics: Metrics,
    gate: Arc<Gate>,
    built: Built,
    /// `None`: every title is served clear.
    protector: Option<Protector>,
    /// `None`: everybody may have everything.
    access: Option<Access>,
    connections: Arc<Semaphore>,
    clients: Arc<Clients>,
    /// `None`: only plain HTTP is spoken.
    tls: Option<Arc<Tls>>,
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
    /// The key vault could not be opened.
    #[error("key vault: {0}")]
    Keys(#[source] KeyStoreError),
    /// Grants can not be verified.
    #[error("access: {0}")]
    Access(#[source] AccessError),
    /// The certificate or its key is no good.
    #[error("TLS: {0}")]
    Tls(#[source] TlsError),
    /// The metrics could not be registered.
    #[error("metrics: {0}")]
    Metrics(#[source] prometheus::Error),
}

impl Origin {
    /// An origin over the library of `config`; nothing is opened yet.
    pub fn new(config: Config) -> Result<Arc<Origin>, OriginError> {
        descriptors::raise_limit();
        let rendered = RenderedCache::new(config.rendered_memory_bytes_max);
        let connections = Arc::new(Semaphore::new(config.connection_count_max));
        let metrics = Metrics::new().map_err(OriginError::Metrics)?;
        let gate = Arc::new(Gate::new(config.residency, config.fill, config.cold_read_count_max));
        let sendfile = config.sendfile_size_bytes_min.is_some() && arena::arena().is_some();
        tracing::info!(
            sendfile,
            residency = metrics::probe_name(gate.probe()),
            fill = metrics::fill_name(gate.fill_by()),
            "how media is sent"
        );
        let built = Built::new(config.hot_memory_bytes_max, config.hot_viewer_count_min);
        let player = config
            .player
            .as_deref()
            .map(PlayerLibrary::read)
            .transpose()
            .map_err(OriginError::Player)?;
        let protector = config.protection.clone().map(Protector::open).transpose();
        let tls = config
            .tls
            .clone()
            .map(Tls::open)
            .transpose()
            .map_err(OriginError::Tls)?;
        let sealed_by_kernel = tls.as_ref().map(|tls| tls.kernel().is_some());
        metrics.set_paths(sendfile, &gate, sealed_by_kernel);
        let access = config.access.as_ref().map(Access::open).transpose();
        let protector = protector.map_err(OriginError::Keys)?;
        // Encrypted sources are opened by keys of the same vault.
        let keyring = protector.as_ref().map_or_else(SourceKeyring::default, |protector| {
            SourceKeyring::default().and_vault(protector.key_store())
        });
        Ok(Arc::new(Origin {
            protector,
            access: access.map_err(OriginError::Access)?,
            clients: Clients::new(config.limits.connections_per_client_max),
            tls: tls.map(Arc::new),
            store: Store::with_keys(config, keyring),
            rendered,
            metrics,
            gate,
            built,
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

    /// What a page has to know of who asks for it.
    fn way(&self, ticket: &Ticket<'_>) -> page::Way {
        let systems = self.protector.as_ref().map(Protector::systems);
        page::Way {
            grant: ticket.path_segment(),
            clear_key: systems.is_some_and(|systems| systems.clear_key.is_some()),
        }
    }

    async fn open(self: &Arc<Origin>, media_id: &str) -> Result<Arc<Asset>, ServeError> {
        if let Some(asset) = self.store.opened(media_id) {
            return Ok(asset);
        }
        let (origin, media_id) = (self.clone(), media_id.to_owned());
        let asset = server::blocking(move || origin.store.open(&media_id)).await?;
        self.keep_index(&asset);
        Ok(asset)
    }

    /// Keeps what was found in the files of `asset`, while it is served already.
    fn keep_index(self: &Arc<Origin>, asset: &Arc<Asset>) {
        if asset.is_packed() && asset.has_unkept() {
            let (origin, asset) = (self.clone(), asset.clone());
            tokio::task::spawn_blocking(move || origin.store.keep_index(&asset));
        }
    }

    /// The presentation as `resource` wants it.
    async fn open_for(self: &Arc<Origin>, media_id: &str, resource: &VodResource) -> Result<Arc<Asset>, ServeError> {
        if !resource.is_of_samples() {
            return self.open(media_id).await;
        }
        if let Some(asset) = self.store.opened(media_id).filter(|asset| asset.is_packed()) {
            return Ok(asset);
        }
        let (origin, media_id) = (self.clone(), media_id.to_owned());
        let asset = server::blocking(move || origin.store.open_packed(&media_id)).await?;
        self.keep_index(&asset);
        Ok(asset)
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

    /// The asset under keys where it is protected, else itself.
    async fn protected(
        self: &Arc<Origin>,
        asset: &Arc<Asset>,
        resource: &VodResource,
    ) -> Result<Arc<Asset>, ServeError> {
        let Some(protector) = &self.protector else {
            return match resource.form().is_some_and(Form::is_protected) {
                true => Err(ServeError::NotFound),
                false => Ok(asset.clone()),
            };
        };
        if let Some(kept) = protector.kept(asset, resource) {
            return Ok(kept);
        }
        let (origin, asset, resource) = (self.clone(), asset.clone(), resource.clone());
        server::blocking(move || match &origin.protector {
            Some(protector) => protector.protect(&asset, &resource),
            None => Ok(asset),
        })
        .await
    }

    async fn answer(
        self: &Arc<Origin>,
        asset: &Arc<Asset>,
        mut resource: VodResource,
        policy: &Policy,
        delivery: &Arc<Delivery>,
    ) -> Result<Answer, ServeError> {
        let asset = &self.protected(asset, &resource).await?;
        if resource.form().is_some_and(|form| !policy.allows(asset.form(form))) {
            return Err(ServeError::NotFound);
        }
        if !policy.opens_pictures(&asset.presentation) {
            return Err(ServeError::GrantRefused { reason: "height" });
        }
        let duration = asset.presentation.duration.to_millis(Rounding::Floor);
        policy.apply(&mut resource, u64::try_from(duration).unwrap_or(0))?;
        let asset = &self.chosen(asset, &resource).await?;
        if let VodResource::File {
            form, representation, ..
        } = &resource
            && !policy.is_open()
        {
            let id = representation.strip_suffix("-stpp").unwrap_or(representation);
            let selection = policy.tracks().select(&asset.presentation, *form)?;
            if !selection.keeps(id) && id != packager::images::REPRESENTATION_ID {
                return Err(ServeError::NotFound);
            }
        }
        let asset = &vod::variant::choose(asset, &resource, policy.watermark())?;
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
            Planned::Build(build) => {
                self.admit_building(delivery)?;
                server::blocking(build).await
            }
            Planned::Segment(building) => self.segment(building, delivery).await,
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
            clear_key: None,
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
        if asset.protected.is_none() && !asset.may_be_clear() {
            return Err(ServeError::MissingKey {
                what: format!(
                    "{}: its source is encrypted, and its key is for protected forms alone",
                    asset.media_id
                ),
            });
        }
        match vod::plan(asset, resource)? {
            Planned::Ready(answer) => Ok(answer),
            Planned::Render(rendering) => self
                .rendered
                .answer(&asset.media_id, &asset.presentation.version, rendering),
            Planned::Build(build) => build(),
            Planned::Segment(building) => building.answer_blocking(),
        }
    }

    /// Makes every cold read of the blocking pool take `delay` longer: what a slow disk does to others can be seen then.
    #[doc(hidden)]
    pub fn delay_cold_reads(&self, delay: std::time::Duration) {
        self.gate.set_delay(delay);
    }

    /// Reads certificate and key again. Blocking.
    pub fn reload(&self) {
        if let Some(tls) = &self.tls {
            tls.reload();
        }
    }

    /// Serves until `shutdown` turns true: one thread with its own runtime and listeners for each of `config.threads`.
    /// `started` is told an address once connections are accepted. Blocking.
    pub fn serve(
        self: &Arc<Origin>,
        shutdown: watch::Receiver<bool>,
        started: impl FnOnce(SocketAddr),
    ) -> Result<(), OriginError> {
        let told = |addresses: Addresses| {
            if let Some(address) = addresses.plain.or(addresses.tls) {
                started(address);
            }
        };
        self.serve_at(None, shutdown, told)
    }

    /// The same, and at sockets that listen already, where there are any: they are shared with the origin before and the
    /// one after, and what waits in their queues is lost by neither.
    pub fn serve_at(
        self: &Arc<Origin>,
        inherited: Option<Inherited>,
        shutdown: watch::Receiver<bool>,
        started: impl FnOnce(Addresses),
    ) -> Result<(), OriginError> {
        heap::give_back_what_is_freed();
        let shared = inherited.is_some();
        let doors = match inherited {
            Some(inherited) => self.inherited_doors(inherited)?,
            None => self.own_doors()?,
        };
        let mut addresses = Addresses::default();
        for door in &doors {
            let address = door.listener.local_addr().map_err(OriginError::Serve)?;
            let place = if door.tls {
                &mut addresses.tls
            } else {
                &mut addresses.plain
            };
            *place = Some(address);
        }
        let mut of_threads = Vec::new();
        for _ in 1..self.config().threads {
            let others: Result<Vec<Door>, _> = doors.iter().map(|door| door.another(shared)).collect();
            of_threads.push(others.map_err(OriginError::Serve)?);
        }
        of_threads.push(doors);
        let mut threads = Vec::with_capacity(of_threads.len());
        for (number, doors) in of_threads.into_iter().enumerate() {
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
                runtime.block_on(tasks.run_until(front::serve(origin, doors, shutdown, number)))
            };
            let thread = std::thread::Builder::new()
                .name(format!("origin-{number}"))
                .spawn(serve);
            threads.push(thread.map_err(OriginError::Serve)?);
        }
        started(addresses);
        for thread in threads {
            let ended = thread
                .join()
                .map_err(|_| OriginError::Serve(std::io::Error::other("a serving thread panicked")));
            ended?.map_err(OriginError::Serve)?;
        }
        Ok(())
    }

    fn own_doors(&self) -> Result<Vec<Door>, OriginError> {
        let plain = self.config().listen;
        let tls = self.config().tls.as_ref().map(|tls| tls.listen);
        // Where both name one port, TLS has it alone; port 0 is another one each time.
        let plain = (tls != Some(plain) || plain.port() == 0).then_some((plain, false));
        let wanted = plain.into_iter().chain(tls.map(|address| (address, true)));
        wanted
            .map(|(address, tls)| Door::open(address, tls).map_err(|source| OriginError::Listen { address, source }))
            .collect()
    }

    fn inherited_doors(&self, inherited: Inherited) -> Result<Vec<Door>, OriginError> {
        let wrong = |what| Err(OriginError::Serve(std::io::Error::other(what)));
        if inherited.tls.is_some() && self.tls.is_none() {
            return wrong("a socket for TLS was passed, but [origin.tls] is not set");
        }
        if inherited.plain.is_none() && inherited.tls.is_none() {
            return wrong("no socket was passed");
        }
        let plain = inherited.plain.map(|listener| (listener, false));
        let both = plain.into_iter().chain(inherited.tls.map(|listener| (listener, true)));
        both.map(|(listener, tls)| Door::of(listener, tls).map_err(OriginError::Serve))
            .collect()
    }
}

/// Sockets that listen already, opened by the service manager or by the origin before.
#[derive(Debug, Default)]
pub struct Inherited {
    /// For plain HTTP.
    pub plain: Option<TcpListener>,
    /// For TLS.
    pub tls: Option<TcpListener>,
}

/// Where an origin can be reached.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    /// By plain HTTP.
    pub plain: Option<SocketAddr>,
    /// By TLS.
    pub tls: Option<SocketAddr>,
}
