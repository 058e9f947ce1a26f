//! The state that every handler gets: pool, caches, keys, limits.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use chrono::{DateTime, TimeDelta, Utc};
use packager::grant::GrantKeys;
use sqlx::PgPool;
use uuid::Uuid;

use crate::batch::Batches;
use crate::billing::payment::{Manual, PaymentProvider};
use crate::cache::{CacheEvent, Caches};
use crate::config::{Config, Settings};
use crate::db;
use crate::db::licences::{NewLicence, Playing, Sought};
use crate::db::streams::{Facts, Question, Start, Started};
use crate::device_log::DeviceLog;
use crate::error::ApiError;
use crate::issuer::keys::Issuers;
use crate::key_log::KeyLog;
use crate::lanes::Lanes;
use crate::license::Desk;
use crate::live::LiveSessions;
use crate::login_guard::LoginGuard;
use crate::metrics::Metrics;
use crate::operation::Endpoint;
use crate::password::Passwords;
use crate::pulse::Pulse;
use crate::rate_limit::RateLimiter;
use crate::secrets::SecretBox;
use crate::source::{HeadProbe, Probe};
use crate::token::{SigningKey, TokenKeys};
use crate::upload::store::Writers;
use crate::webhook::Sender;

/// What the API is called in `X-Api-Version`.
pub const API_VERSION: &str = "1.0";
/// Where a signing key is sealed.
fn key_place(kid: &str) -> String {
    format!("signing_key:{kid}")
}

/// Everything shared, built once.
pub struct App {
    /// The configuration.
    pub config: Config,
    /// Connections to the database.
    pub db: PgPool,
    /// Seals what is secret in rows.
    pub secrets: SecretBox,
    /// What is kept in memory of rows.
    pub caches: Caches,
    /// Keys that access tokens are signed and verified with.
    pub token_keys: ArcSwap<TokenKeys>,
    /// Whose tokens are taken beside our own.
    pub issuers: Issuers,
    /// Keys that grants are signed with.
    pub grant_keys: Option<GrantKeys>,
    /// Sends webhooks.
    pub webhooks: Sender,
    /// Who takes the money.
    pub payments: Vec<Arc<dyn PaymentProvider>>,
    /// Who makes licences, where some are given.
    pub desk: Option<Desk>,
    /// Requests a minute.
    pub limits: RateLimiter,
    /// Failed logins.
    pub logins: LoginGuard,
    /// Hashes passwords.
    pub passwords: Passwords,
    /// What keys asked for, on its way to the database.
    pub key_log: KeyLog,
    /// Devices that were heard of, on their way to the database.
    pub device_log: DeviceLog,
    /// Sessions that beat here.
    pub live: LiveSessions,
    /// Accounts whose starts wait for one another here.
    pub lanes: Lanes,
    /// What is asked of the database together.
    pub together: Together,
    /// Whether the database answers.
    pub pulse: Arc<Pulse>,
    /// Who writes bytes of uploads here.
    pub writers: Writers,
    /// Looks into films.
    probe: OnceLock<Box<dyn Probe>>,
    /// Counters.
    pub metrics: Metrics,
    /// What can be asked.
    pub endpoints: Vec<Endpoint>,
    /// The document of it.
    pub openapi: Arc<serde_json::Value>,
    /// This process.
    pub node: Uuid,
    /// When it began.
    pub started: DateTime<Utc>,
    /// What tests add to the clock.
    shift_ms: AtomicI64,
}

impl std::fmt::Debug for App {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("App")
    }
}

/// What requests ask of the database in batches.
#[derive(Debug, Default)]
pub struct Together {
    /// What starts and licences need to know.
    pub facts: Arc<Batches<Question, Facts>>,
    /// Starts.
    pub starts: Arc<Batches<Start, Started>>,
    /// Sessions that licences are for.
    pub playing: Arc<Batches<Sought, Vec<Playing>>>,
    /// Licences that are given.
    pub licences: Arc<Batches<NewLicence, bool>>,
}

/// What the API has besides its database.
#[derive(Default)]
pub struct Means {
    /// Keys that grants are signed with; without them nothing plays.
    pub grant_keys: Option<GrantKeys>,
    /// What sends webhooks; to the whole internet without.
    pub webhooks: Option<Sender>,
    /// Who takes the money, besides nobody.
    pub payments: Vec<Arc<dyn PaymentProvider>>,
    /// Who makes licences; without one there are none.
    pub desk: Option<Desk>,
    /// What the pool of the database knows of whether it answers.
    pub pulse: Arc<Pulse>,
}

impl App {
    /// Builds it on a migrated database.
    pub async fn new(config: Config, db: PgPool, secrets: SecretBox, means: Means) -> Result<Arc<App>, ApiError> {
        let endpoints = crate::router::endpoints();
        let openapi = Arc::new(crate::openapi::document(&endpoints, &config.section.public_url));
        let now = Utc::now();
        db::system::make_partitions(&db, now).await?;
        let token_keys = load_token_keys(&db, &secrets, now).await?;
        let webhooks = match means.webhooks {
            Some(sender) => sender,
            None => Sender::new().map_err(ApiError::internal)?,
        };
        let mut payments = means.payments;
        payments.push(Arc::new(Manual));
        let wanted = &config.section.settings.billing.provider;
        if !payments.iter().any(|provider| provider.name() == wanted.as_str()) {
            return Err(ApiError::internal(format!(
                "control.settings.billing.provider: there is no {wanted}"
            )));
        }
        let section = &config.section;
        let trusted = &section.settings.auth.trusted_issuers;
        let app = App {
            issuers: Issuers::new(trusted, &section.public_url).map_err(ApiError::internal)?,
            passwords: Passwords::new(section.password_memory_kib, section.password_count_max),
            token_keys: ArcSwap::from_pointee(token_keys),
            caches: Caches::default(),
            limits: RateLimiter::default(),
            logins: LoginGuard::default(),
            key_log: KeyLog::default(),
            device_log: DeviceLog::default(),
            live: LiveSessions::default(),
            lanes: Lanes::default(),
            together: Together::default(),
            pulse: means.pulse,
            writers: Writers::default(),
            probe: OnceLock::new(),
            metrics: Metrics::new().map_err(ApiError::internal)?,
            node: Uuid::now_v7(),
            started: now,
            shift_ms: AtomicI64::new(0),
            endpoints,
            openapi,
            secrets,
            grant_keys: means.grant_keys,
            desk: means.desk,
            webhooks,
            payments,
            db,
            config,
        };
        let hour_ago = now - TimeDelta::hours(25);
        for (session, at) in db::sessions::revoked_since(&app.db, hour_ago).await? {
            app.caches.revoke(session, at + TimeDelta::days(1));
        }
        Ok(Arc::new(app))
    }

    /// Now, in whole milliseconds.
    pub fn now(&self) -> DateTime<Utc> {
        let ms = Utc::now()
            .timestamp_millis()
            .saturating_add(self.shift_ms.load(Ordering::Relaxed));
        DateTime::from_timestamp_millis(ms).unwrap_or_default()
    }

    /// Whether the clock is the system's, not a test's.
    pub fn is_on_time(&self) -> bool {
        self.shift_ms.load(Ordering::Relaxed) == 0
    }

    /// Sets the clock ahead, for tests of what happens later.
    pub fn advance(&self, by: TimeDelta) {
        self.shift_ms.fetch_add(by.num_milliseconds(), Ordering::Relaxed);
    }

    /// Looks into films with this from now on; without effect if something does already.
    pub fn set_probe(&self, probe: Box<dyn Probe>) {
        let _ = self.probe.set(probe);
    }

    /// What looks into films.
    pub fn probe(&self) -> &dyn Probe {
        self.probe.get().map_or(&HeadProbe, Box::as_ref)
    }

    /// What administrators may change.
    pub fn settings(&self) -> &Settings {
        &self.config.section.settings
    }

    /// Who takes the money, by name.
    pub fn payment(&self, name: &str) -> Option<Arc<dyn PaymentProvider>> {
        self.payments.iter().find(|provider| provider.name() == name).cloned()
    }

    /// Acts on a cache event, of this node or another.
    pub fn heard(&self, event: &CacheEvent) {
        match event.kind.as_str() {
            "stream" => self.live.ended_elsewhere(&event.reference),
            _ => self.caches.apply(event, self.now()),
        }
    }

    /// Reads the signing keys anew.
    pub async fn reload_token_keys(&self) -> Result<(), ApiError> {
        let keys = load_token_keys(&self.db, &self.secrets, self.now()).await?;
        self.token_keys.store(Arc::new(keys));
        Ok(())
    }

    /// Makes a new signing key. The one before verifies until its last token has ended.
    pub async fn rotate_token_keys(self: &Arc<App>) -> Result<(), ApiError> {
        let now = self.now();
        let mut transaction = self.db.begin().await?;
        let retire = now + TimeDelta::seconds(self.settings().auth.access_ttl_seconds.saturating_mul(2));
        add_token_key(&mut transaction, &self.secrets, now, retire).await?;
        let event = CacheEvent {
            kind: "signing_key".to_owned(),
            tenant: db::DEFAULT_TENANT,
            reference: String::new(),
            version: 0,
        };
        db::events::tell_caches(&mut transaction, &event).await?;
        transaction.commit().await?;
        self.reload_token_keys().await?;
        self.heard(&event);
        Ok(())
    }
}

async fn load_token_keys(pool: &PgPool, secrets: &SecretBox, now: DateTime<Utc>) -> Result<TokenKeys, ApiError> {
    let mut transaction = pool.begin().await?;
    db::keys::lock_signing_keys(&mut transaction).await?;
    let mut stored = db::keys::signing_keys(&mut transaction, "jwt", now).await?;
    if stored.is_empty() {
        add_token_key(&mut transaction, secrets, now, now).await?;
        stored = db::keys::signing_keys(&mut transaction, "jwt", now).await?;
    }
    transaction.commit().await?;
    let keys = stored.iter().map(|stored| {
        let pkcs8 = secrets
            .open(&key_place(&stored.kid), &stored.private_encrypted)
            .map_err(ApiError::internal)?;
        SigningKey::from_pkcs8(&stored.kid, &pkcs8).ok_or_else(|| ApiError::internal("a stored signing key is not one"))
    });
    let keys = keys.collect::<Result<Vec<SigningKey>, ApiError>>()?;
    TokenKeys::new(keys).ok_or_else(|| ApiError::internal("no signing key"))
}

async fn add_token_key(
    connection: &mut sqlx::PgConnection,
    secrets: &SecretBox,
    now: DateTime<Utc>,
    others_retire_at: DateTime<Utc>,
) -> Result<(), ApiError> {
    let pkcs8 = SigningKey::generate().ok_or_else(|| ApiError::internal("no signing key could be made"))?;
    let pkcs8 = zeroize::Zeroizing::new(pkcs8);
    let kid = Uuid::now_v7().to_string();
    let key = SigningKey::from_pkcs8(&kid, &pkcs8).ok_or_else(|| ApiError::internal("a new signing key is not one"))?;
    let stored = db::keys::StoredKey {
        private_encrypted: secrets.seal(&key_place(&kid), &pkcs8).map_err(ApiError::internal)?,
        active_from: now,
        kid,
    };
    db::keys::add_signing_key(connection, "jwt", "ES256", &stored, key.public(), others_retire_at).await?;
    Ok(())
}
