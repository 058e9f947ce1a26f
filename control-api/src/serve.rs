//! Serving: a database, the state on it, the listeners, and their end.

use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use packager::grant::GrantKeys;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::{App, Means};
use crate::config::Config;
use crate::connection::{self, Bounds, stopped};
use crate::postgres::{Cluster, Durability, PostgresError};
use crate::secrets::{SecretBox, SecretError};
use crate::{db, jobs, pulse, router, routes};

/// How long a database may take to answer for the first time.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// How long background jobs, and then connections to the database, may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Why it can not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The embedded database.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The database.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// It does not answer.
    #[error("the database \"{name}\" at {host}:{port}: {why}")]
    Unreachable {
        /// Which database.
        name: String,
        /// Where.
        host: String,
        /// At which port.
        port: u16,
        /// What came instead of an answer.
        why: String,
    },
    /// DATABASE_URL is none.
    #[error("DATABASE_URL: {0}")]
    Url(#[source] sqlx::Error),
    /// Its schema.
    #[error("the database's schema: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// It is too old.
    #[error("the database is Postgres {0}; 14 or newer is needed")]
    TooOld(i32),
    /// The key for secrets.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The state.
    #[error("{0}")]
    App(String),
    /// A listener.
    #[error("listen {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
}

/// A database in use, and the state on it.
pub struct Opened {
    /// The state.
    pub app: Arc<App>,
    cluster: Option<Arc<Cluster>>,
}

/// Opens the database (`database_url`, or the embedded one), brings its schema up to date and builds the state.
pub async fn open(config: Config, database_url: Option<&str>, means: Means) -> Result<Opened, ServeError> {
    let section = &config.section;
    let secret_key = section
        .secret_key
        .clone()
        .unwrap_or_else(|| section.data.join("secret.key"));
    let folder = secret_key.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).map_err(|error| SecretError::File(folder.display().to_string(), error))?;
    }
    let secrets = SecretBox::open_file(&secret_key)?;
    let (options, cluster) = match database_url {
        Some(url) => {
            let options = PgConnectOptions::from_str(url).map_err(ServeError::Url)?;
            reach(&options).await?;
            (options, None)
        }
        None => {
            let (folder, user) = (section.data.join("postgres"), section.database_user.clone());
            let started = tokio::task::spawn_blocking(move || Cluster::start(&folder, &user, Durability::Full)).await;
            let cluster = started.map_err(|error| ServeError::App(error.to_string()))??;
            cluster.make_database().await?;
            (cluster.options(), Some(cluster))
        }
    };
    let opened = build(config, options, secrets, means).await;
    match opened {
        Ok(app) => Ok(Opened {
            app,
            cluster: cluster.map(Arc::new),
        }),
        Err(error) => {
            if let Some(cluster) = cluster {
                stop_cluster(cluster).await;
            }
            Err(error)
        }
    }
}

/// Asks a database for the first time: a pool would only say that there is no connection, and not why.
async fn reach(options: &PgConnectOptions) -> Result<(), ServeError> {
    let why = match tokio::time::timeout(FIRST_ANSWER, options.connect()).await {
        Ok(Ok(connection)) => return Ok(connection.close().await?),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {} s", FIRST_ANSWER.as_secs()),
    };
    Err(ServeError::Unreachable {
        name: options.get_database().unwrap_or(options.get_username()).to_owned(),
        host: options.get_host().to_owned(),
        port: options.get_port(),
        why,
    })
}

async fn build(
    config: Config,
    options: PgConnectOptions,
    secrets: SecretBox,
    means: Means,
) -> Result<Arc<App>, ServeError> {
    let count_max = config.section.database_connection_count_max;
    let pool = db::connect_felt(options, count_max, &means.pulse).await?;
    let version = db::system::version(&pool).await?;
    if version < db::VERSION_MIN {
        return Err(ServeError::TooOld(version / 10_000));
    }
    db::migrate(&pool).await?;
    let app = App::new(config, pool, secrets, means).await;
    app.map_err(|error| ServeError::App(error.cause.unwrap_or_else(|| error.message.into_owned())))
}

async fn stop_cluster(cluster: Cluster) {
    match tokio::task::spawn_blocking(move || cluster.stop()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the embedded database was not stopped"),
        Err(error) => tracing::error!(%error, "the embedded database was not stopped"),
    }
}

impl Opened {
    /// Closes the connections, and stops the embedded database unless others use it.
    pub async fn close(self) {
        // Whoever still waits for an answer holds a connection, and a database that stands still never gives one.
        if tokio::time::timeout(END_TIMEOUT, self.app.db.close()).await.is_err() {
            tracing::warn!("connections to the database were left: it does not answer");
        }
        let Some(cluster) = self.cluster else { return };
        // What feels its pulse has ended, unless it is starting it again at this moment.
        match Arc::into_inner(cluster) {
            Some(cluster) => stop_cluster(cluster).await,
            None => tracing::error!("the embedded database was not stopped: it is being started again"),
        }
    }

    /// Serves until `stop` turns true, then lets running answers end. `ready` is told the address.
    pub async fn serve(self, stop: watch::Receiver<bool>, ready: impl FnOnce(SocketAddr)) -> Result<(), ServeError> {
        let served = serve(&self.app, self.cluster.clone(), stop, ready).await;
        self.close().await;
        served
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let fails = |error| ServeError::Listen(address, error);
    let listener = TcpListener::bind(address).await.map_err(fails)?;
    let bound = listener.local_addr().map_err(fails)?;
    Ok((listener, bound))
}

async fn serve(
    app: &Arc<App>,
    cluster: Option<Arc<Cluster>>,
    stop: watch::Receiver<bool>,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    let config = &app.config;
    let (listener, address) = bind(config.listen).await?;
    let metrics = match config.metrics_listen {
        Some(address) => Some(bind(address).await?.0),
        None => None,
    };
    let (ended, end) = watch::channel(false);
    let felt = tokio::spawn(pulse::run(Arc::clone(app), cluster, end.clone()));
    let background = tokio::spawn(jobs::run(Arc::clone(app), end));
    if let Some(listener) = metrics {
        let (router, stop) = (metrics_router(app), stop.clone());
        tokio::spawn(connection::serve(listener, router, stop, Bounds::new(config)));
    }
    let drain = Duration::from_secs(config.section.drain_timeout_s);
    let late = stopped(stop.clone());
    ready(address);
    tokio::select! {
        () = connection::serve(listener, router::router(app), stop, Bounds::new(config)) => {}
        () = async { late.await; tokio::time::sleep(drain).await } => {}
    }
    // The receivers may be gone already, then there is nothing left to end.
    let _ = ended.send(true);
    let deadline = Instant::now() + END_TIMEOUT;
    for mut task in [background, felt] {
        match tokio::time::timeout_at(deadline, &mut task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "background jobs ended badly"),
            Err(_) => {
                tracing::warn!("background jobs were cut short, as by a crash: they go on after the next start");
                task.abort();
                // It is gone once this returns, and with it what it holds; that it was aborted is known.
                let _ = task.await;
            }
        }
    }
    Ok(())
}

/// `/metrics` alone, for an address of its own.
fn metrics_router(app: &Arc<App>) -> Router {
    let app = Arc::clone(app);
    let metrics = move || {
        let text = routes::system::metrics(&app);
        async move { text.map_err(|error| (error.status(), "metrics failed\n")) }
    };
    Router::new().route("/metrics", get(metrics))
}

/// Reads a file of grant keys: up to two lines of `name:digits`, the current key first.
pub fn parse_grant_keys(text: &str, path: &Path) -> Result<GrantKeys, ServeError> {
    GrantKeys::parse(text).map_err(|error| ServeError::App(format!("{}: {error}", path.display())))
}
