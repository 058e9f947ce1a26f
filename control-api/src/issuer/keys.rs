//! Keys of trusted issuers: fetched when a token asks for them, kept for ten minutes, and who their subjects are here.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache;
use uuid::Uuid;

use super::{Foreign, JwkSet, Refusal, named_issuer};
use crate::config::TrustedIssuer;
use crate::error::ApiError;
use crate::outbound::{Ask, Outbound, Reach, Repeat, TlsError, Url, check_url};

/// How long keys are kept.
const KEPT: TimeDelta = TimeDelta::minutes(10);
/// Least time between two asks because of a key that is not known: anybody can name one.
const UNKNOWN_PAUSE: TimeDelta = TimeDelta::minutes(1);
/// Least time between two asks of an issuer that does not answer.
const FAILED_PAUSE: TimeDelta = TimeDelta::seconds(5);
/// Longest set of keys.
const SET_SIZE_BYTES_MAX: usize = 256 << 10;
/// Subjects whose user is remembered, and for how long.
const SUBJECT_COUNT_MAX: u64 = 100_000;
const SUBJECT_TTL: Duration = Duration::from_secs(60);

/// Why no issuers can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// A row of the configuration.
    #[error("control.settings.auth.trusted_issuers: {0}: {1}")]
    Row(String, &'static str),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// All of them.
#[derive(Default)]
pub struct Issuers {
    known: Vec<Known>,
    users: Option<Cache<(usize, String), Uuid>>,
}

struct Known {
    settings: TrustedIssuer,
    url: Url,
    outbound: Arc<Outbound>,
    kept: ArcSwap<Kept>,
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Kept {
    keys: Arc<JwkSet>,
    read_at: Option<DateTime<Utc>>,
    asked_at: Option<DateTime<Utc>>,
}

impl Kept {
    fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        self.read_at.is_some_and(|at| now < at + KEPT)
    }

    fn was_asked_within(&self, pause: TimeDelta, now: DateTime<Utc>) -> bool {
        self.asked_at.is_some_and(|at| now < at + pause)
    }
}

impl Issuers {
    /// Those that the configuration names. `own` is our own name as an issuer.
    pub fn new(settings: &[TrustedIssuer], own: &str) -> Result<Issuers, IssuerError> {
        let mut known: Vec<Known> = Vec::new();
        for row in settings {
            let refuse = |what| IssuerError::Row(row.issuer.clone(), what);
            if row.issuer.is_empty() || row.audience.is_empty() {
                return Err(refuse("needs issuer and audience"));
            }
            if row.issuer == own || known.iter().any(|other| other.settings.issuer == row.issuer) {
                return Err(refuse("is there twice"));
            }
            if row
                .roles
                .values()
                .any(|role| !["user", "moderator", "admin"].contains(&role.as_str()))
            {
                return Err(refuse("maps to a role that is none of user, moderator and admin"));
            }
            let reach = match row.private_network {
                true => Reach::Private,
                false => Reach::Public,
            };
            let url = check_url(&row.jwks_url, reach).map_err(|_| refuse("jwks_url is not a URL that may be asked"))?;
            known.push(Known {
                settings: row.clone(),
                url,
                outbound: Arc::new(Outbound::new(reach, None, None)?),
                kept: ArcSwap::default(),
                asking: tokio::sync::Mutex::default(),
            });
        }
        let cache = || {
            Cache::builder()
                .max_capacity(SUBJECT_COUNT_MAX)
                .time_to_live(SUBJECT_TTL)
                .build()
        };
        Ok(Issuers {
            users: (!known.is_empty()).then(cache),
            known,
        })
    }

    /// Which issuer a token says it is of, and what the configuration says of it. `None`: nobody's that is trusted.
    pub fn of(&self, token: &str) -> Option<(usize, &TrustedIssuer)> {
        if self.known.is_empty() {
            return None;
        }
        let name = named_issuer(token)?;
        let index = self.known.iter().position(|known| known.settings.issuer == name)?;
        Some((index, &self.known.get(index)?.settings))
    }

    /// Verifies a token of an issuer that [`Issuers::of`] named. The outer error: its keys can not be had.
    pub async fn verify(
        &self,
        index: usize,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<Result<Foreign, Refusal>, ApiError> {
        let Some(known) = self.known.get(index) else {
            return Ok(Err(Refusal::Invalid));
        };
        let verify = |keys: &JwkSet| keys.verify(token, &known.settings, now.timestamp());
        let kept = known.kept.load_full();
        let unknown = match kept.is_fresh(now) {
            true => match verify(&kept.keys) {
                Err(Refusal::UnknownKey) => true,
                other => return Ok(other),
            },
            false => false,
        };
        if unknown && kept.was_asked_within(UNKNOWN_PAUSE, now) {
            return Ok(Err(Refusal::UnknownKey));
        }
        Ok(verify(&*known.ask(kept.asked_at, now).await?))
    }

    /// The user of a subject, if remembered.
    pub fn user(&self, index: usize, subject: &str) -> Option<Uuid> {
        self.users.as_ref()?.get(&(index, subject.to_owned()))
    }

    /// Remembers the user of a subject.
    pub fn remember(&self, index: usize, subject: &str, user: Uuid) {
        if let Some(users) = &self.users {
            users.insert((index, subject.to_owned()), user);
        }
    }

    /// Forgets the user of a subject.
    pub fn forget(&self, index: usize, subject: &str) {
        if let Some(users) = &self.users {
            users.invalidate(&(index, subject.to_owned()));
        }
    }
}

impl Known {
    /// The keys, asked for anew unless somebody else just did. `before` is when they were asked for last, as the caller
    /// knows.
    async fn ask(&self, before: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<Arc<JwkSet>, ApiError> {
        let _turn = self.asking.lock().await;
        let kept = self.kept.load_full();
        if kept.asked_at != before && kept.is_fresh(now) {
            return Ok(Arc::clone(&kept.keys));
        }
        let again = || ApiError::unavailable(format!("the keys of {} can not be had", self.settings.issuer));
        if !kept.is_fresh(now) && kept.was_asked_within(FAILED_PAUSE, now) {
            return Err(again());
        }
        let mut ask = Ask::get(self.url.clone(), Repeat::WhenUnanswered);
        ask.header("accept", "application/json");
        ask.reply_size_max = SET_SIZE_BYTES_MAX;
        let answer = self.outbound.send(&ask).await;
        let keys = answer
            .ok()
            .filter(|reply| reply.status == 200)
            .and_then(|reply| JwkSet::read(&reply.body));
        let next = match keys {
            Some(keys) => Kept {
                keys: Arc::new(keys),
                read_at: Some(now),
                asked_at: Some(now),
            },
            None => Kept {
                asked_at: Some(now),
                ..Kept::clone(&kept)
            },
        };
        let (keys, is_fresh) = (Arc::clone(&next.keys), next.is_fresh(now));
        self.kept.store(Arc::new(next));
        // Keys that are still good outlast an issuer that does not answer.
        if is_fresh { Ok(keys) } else { Err(again()) }
    }
}
