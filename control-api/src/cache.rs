//! Caches: what every request reads, kept in memory. Each says which event empties it.

use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use moka::sync::Cache;
use uuid::Uuid;

use crate::auth::{Account, KeyRecord};
use crate::call::TenantId;
use crate::db::titles::Coverage;
use crate::error::{ApiError, Code};
use crate::facts::KeptFacts;
use crate::pages::Pages;
use crate::secrets::sha256;
use crate::token::{Claims, TokenError};

/// How old entries may be while other nodes can not be heard.
const SAFE_AGE: Duration = Duration::from_secs(2);

/// How old an account's record may be.
const ACCOUNT_AGE: Duration = Duration::from_secs(300);
/// How old an API key's record may be.
const KEY_AGE: Duration = Duration::from_secs(60);
/// How long records are kept: while the database is away, those that are too old count still.
const KEPT_S: u64 = 1_200;

/// Something read, and when.
#[derive(Clone, Debug)]
struct Read<T> {
    value: T,
    at: Instant,
}

/// What a cache event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEvent {
    /// `user`, `api_key`, `session`, `plan`, `subscription`, `content`, `device`, `signing_key`, …
    pub kind: String,
    /// Whose.
    pub tenant: TenantId,
    /// The row.
    pub reference: String,
    /// Its version.
    pub version: i64,
}

impl CacheEvent {
    /// Reads what the database sends: `seq:kind:tenant:ref:version`.
    pub fn parse(text: &str) -> Option<(i64, CacheEvent)> {
        let mut parts = text.splitn(5, ':');
        let seq = parts.next()?.parse().ok()?;
        let event = CacheEvent {
            kind: parts.next()?.to_owned(),
            tenant: TenantId(Uuid::try_parse(parts.next()?).ok()?),
            reference: parts.next()?.to_owned(),
            version: parts.next()?.parse().ok()?,
        };
        Some((seq, event))
    }
}

/// All of them.
#[derive(Debug)]
pub struct Caches {
    accounts: Cache<Uuid, Read<Option<Account>>>,
    keys: Cache<[u8; 32], Read<Option<KeyRecord>>>,
    coverages: Cache<(Uuid, Option<Uuid>), Read<Option<Coverage>>>,
    claims: Cache<[u8; 32], Claims>,
    revoked: DashMap<Uuid, DateTime<Utc>>,
    hosts: Cache<String, TenantId>,
    /// Whether other nodes can not be heard.
    deaf: AtomicBool,
    /// Pages of the catalogue.
    pub pages: Pages,
    /// What starts and licences ask.
    pub facts: KeptFacts,
    /// Raised by every event; what was read before it must not be kept after it.
    epoch: AtomicU64,
}

impl Default for Caches {
    fn default() -> Caches {
        Caches {
            accounts: cache_of(100_000, KEPT_S),
            keys: cache_of(20_000, KEPT_S),
            coverages: cache_of(100_000, KEPT_S),
            claims: cache_of(100_000, 600),
            revoked: DashMap::new(),
            hosts: cache_of(10_000, 60),
            deaf: AtomicBool::new(false),
            pages: Pages::default(),
            facts: KeptFacts::default(),
            epoch: AtomicU64::new(0),
        }
    }
}

fn cache_of<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static>(
    count: u64,
    seconds: u64,
) -> Cache<K, V> {
    Cache::builder()
        .max_capacity(count)
        .support_invalidation_closures()
        .time_to_live(Duration::from_secs(seconds))
        .build()
}

impl Caches {
    /// A user's record. Emptied by `user`, `subscription` and `plan`.
    pub async fn account<F>(&self, user_id: Uuid, read: impl FnOnce() -> F) -> Result<Option<Account>, ApiError>
    where
        F: Future<Output = Result<Option<Account>, sqlx::Error>>,
    {
        self.kept(&self.accounts, &user_id, ACCOUNT_AGE, read).await
    }

    /// An API key's record, by the hash of the key. Emptied by `api_key`.
    pub async fn api_key<F>(&self, hash: [u8; 32], read: impl FnOnce() -> F) -> Result<Option<KeyRecord>, ApiError>
    where
        F: Future<Output = Result<Option<KeyRecord>, sqlx::Error>>,
    {
        self.kept(&self.keys, &hash, KEY_AGE, read).await
    }

    /// What a viewer is covered for, with this profile. Emptied by `user`, `subscription`, `plan` and `profile`.
    pub async fn coverage<F>(
        &self,
        user_id: Uuid,
        profile: Option<Uuid>,
        read: impl FnOnce() -> F,
    ) -> Result<Option<Coverage>, ApiError>
    where
        F: Future<Output = Result<Option<Coverage>, sqlx::Error>>,
    {
        self.kept(&self.coverages, &(user_id, profile), ACCOUNT_AGE, read).await
    }

    /// What is kept under `key`, or else what is read. If that fails because the database is away, what is kept counts
    /// however old it is: nobody could change it meanwhile.
    async fn kept<K, T, F>(
        &self,
        cache: &Cache<K, Read<Option<T>>>,
        key: &K,
        age_max: Duration,
        read: impl FnOnce() -> F,
    ) -> Result<Option<T>, ApiError>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Result<Option<T>, sqlx::Error>>,
    {
        let found = cache.get(key);
        if let Some(found) = &found
            && self.is_fresh(found.at, found.value.is_some(), age_max)
        {
            return Ok(found.value.clone());
        }
        let (epoch, at) = (self.epoch.load(Ordering::Acquire), Instant::now());
        let value = match (read().await.map_err(ApiError::from), found) {
            (Ok(value), _) => value,
            (Err(error), Some(found)) if error.code == Code::ServiceUnavailable && found.value.is_some() => {
                return Ok(found.value);
            }
            (Err(error), _) => return Err(error),
        };
        if self.epoch.load(Ordering::Acquire) == epoch {
            let value = value.clone();
            cache.insert(key.clone(), Read { value, at });
        }
        Ok(value)
    }

    /// What is not there is looked for again soon; what is, once other nodes can not be heard.
    fn is_fresh(&self, at: Instant, is_there: bool, age_max: Duration) -> bool {
        let age = at.elapsed();
        let deaf = self.deaf.load(Ordering::Relaxed);
        age < age_max && (!deaf || age < SAFE_AGE) && (is_there || age < Duration::from_secs(10))
    }

    /// What a token says, once its signature was verified. Time is the caller's to check.
    pub fn claims(
        &self,
        token: &str,
        verify: impl FnOnce() -> Result<Claims, TokenError>,
    ) -> Result<Claims, TokenError> {
        let hash = sha256(token.as_bytes());
        if let Some(claims) = self.claims.get(&hash) {
            return Ok(claims);
        }
        let claims = verify()?;
        self.claims.insert(hash, claims.clone());
        Ok(claims)
    }

    /// Whether a sign-in has ended.
    pub fn is_revoked(&self, session_id: Uuid) -> bool {
        self.revoked.contains_key(&session_id)
    }

    /// Remembers that a sign-in has ended, until its last access token has.
    pub fn revoke(&self, session_id: Uuid, until: DateTime<Utc>) {
        self.revoked.insert(session_id, until);
    }

    /// Forgets sign-ins whose tokens have all ended.
    pub fn forget_revoked(&self, now: DateTime<Utc>) {
        self.revoked.retain(|_, until| *until > now);
    }

    /// The tenant of a host name. Emptied by `tenant`.
    pub async fn tenant_of_host<F>(&self, host: &str, read: impl FnOnce() -> F) -> Result<TenantId, ApiError>
    where
        F: Future<Output = Result<TenantId, sqlx::Error>>,
    {
        if let Some(found) = self.hosts.get(host) {
            return Ok(found);
        }
        let tenant = read().await?;
        self.hosts.insert(host.to_owned(), tenant);
        Ok(tenant)
    }

    /// Drops what `event` says is old.
    pub fn apply(&self, event: &CacheEvent, now: DateTime<Utc>) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.pages.apply(event);
        self.facts.apply(event);
        let id = Uuid::try_parse(&event.reference).ok();
        match (event.kind.as_str(), id) {
            ("user" | "subscription", Some(id)) => {
                // Fails only where a cache was made without support for it.
                let _ = self.coverages.invalidate_entries_if(move |(user, _), _| *user == id);
            }
            ("user" | "subscription" | "plan" | "profile" | "tenant", _) => self.coverages.invalidate_all(),
            _ => {}
        }
        match (event.kind.as_str(), id) {
            ("user" | "subscription", Some(id)) => self.accounts.invalidate(&id),
            ("plan" | "user" | "subscription", _) => self.accounts.invalidate_all(),
            ("api_key", _) => self.keys.invalidate_all(),
            ("session", Some(id)) => self.revoke(id, now + chrono::TimeDelta::days(1)),
            ("signing_key", _) => self.claims.invalidate_all(),
            ("tenant", _) => {
                self.hosts.invalidate_all();
                self.accounts.invalidate_all();
            }
            _ => {}
        }
    }

    /// Drops everything that other nodes may have changed.
    pub fn clear(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.accounts.invalidate_all();
        self.keys.invalidate_all();
        self.hosts.invalidate_all();
        self.coverages.invalidate_all();
        self.pages.clear();
        self.facts.clear();
    }

    /// Whether other nodes can not be heard.
    pub fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    /// Says whether other nodes can be heard.
    pub fn set_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read() {
        let tenant = "00000000-0000-7000-8000-000000000001";
        let (seq, event) = CacheEvent::parse(&format!("7:user:{tenant}:abc:3")).unwrap();
        assert_eq!(
            (seq, event.kind.as_str(), event.reference.as_str(), event.version),
            (7, "user", "abc", 3)
        );
        for text in ["", "7", "7:user", "x:user:t:abc:3", &format!("7:user:{tenant}:abc:x")] {
            assert!(CacheEvent::parse(text).is_none(), "{text}");
        }
    }

    #[tokio::test]
    async fn what_was_read_before_an_event_is_not_kept() {
        let caches = Caches::default();
        let id = Uuid::from_u128(1);
        let event = CacheEvent {
            kind: "user".to_owned(),
            tenant: TenantId(Uuid::nil()),
            reference: id.to_string(),
            version: 1,
        };
        let mut reads = 0;
        for _ in 0..2 {
            reads += 1;
            let read = || async {
                caches.apply(&event, DateTime::UNIX_EPOCH);
                Ok(None)
            };
            caches.account(id, read).await.unwrap();
        }
        assert!(caches.accounts.get(&id).is_none(), "{reads}");
    }
}
