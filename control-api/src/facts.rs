//! Facts: what is known of a viewer and of a title when one wants to watch the other, kept in memory.
//!
//! What is kept only ever hastens a yes: whoever would refuse because of it reads anew first, and starts and licences are
//! carried out by statements that look at the rows again. What those do not look at, as a plan's number of streams or a rule
//! of countries, counts as it was until word of a change comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use uuid::Uuid;

use crate::app::App;
use crate::cache::CacheEvent;
use crate::call::TenantId;
use crate::db::streams::{self, Facts, ProfileFacts, Question, Subscription, Title};
use crate::error::ApiError;

/// How long a title's facts count.
const TITLE_AGE: Duration = Duration::from_secs(60);
/// How long a viewer's do.
const VIEWER_AGE: Duration = Duration::from_secs(300);
/// How long both do while other nodes can not be heard.
const DEAF_AGE: Duration = Duration::from_secs(2);
const TITLE_COUNT_MAX: u64 = 50_000;
const VIEWER_COUNT_MAX: u64 = 200_000;
/// Rows share stamps; the more there are, the seldomer one is taken for another. A power of two.
const STAMP_COUNT: usize = 1 << 16;

/// What a start needs to know, as it is kept; read anew where it is not, or where one would have to refuse because of it.
pub async fn unless(
    app: &Arc<App>,
    question: Question,
    is_refused: impl Fn(&Facts) -> bool,
) -> Result<Facts, ApiError> {
    let kept = app.caches.facts.answer(&question, app.caches.is_deaf());
    match kept.filter(|facts| !is_refused(facts)) {
        Some(facts) => Ok(facts),
        None => now(app, question).await,
    }
}

/// What a start needs to know, read together with what others need.
pub async fn now(app: &Arc<App>, question: Question) -> Result<Facts, ApiError> {
    let (stamp, asked) = (app.caches.facts.stamp(), question.clone());
    let with = Arc::clone(app);
    let read = move |questions: Vec<Question>| {
        let app = Arc::clone(&with);
        async move {
            let asking = async { streams::facts_of(&mut *app.db.acquire().await?, &questions).await };
            app.pulse.asked(asking).await
        }
    };
    let facts = app.together.facts.ask(question, read).await?;
    app.caches.facts.keep(&asked, &facts, stamp);
    Ok(facts)
}

/// Facts that were read.
#[derive(Debug)]
pub struct KeptFacts {
    stamps: Stamps,
    titles: Cache<TitleKey, Kept<TitleFacts>>,
    viewers: Cache<ViewerKey, Kept<ViewerFacts>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TitleKey {
    tenant: TenantId,
    content: Uuid,
    content_type: String,
    country: Option<String>,
    unknown_blocked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ViewerKey {
    tenant: TenantId,
    user: Uuid,
    device: Option<Uuid>,
    profile: Option<Uuid>,
}

#[derive(Clone, Debug)]
struct TitleFacts {
    title: Title,
    geo_allowed: bool,
}

#[derive(Clone, Debug)]
struct ViewerFacts {
    subscription: Option<Subscription>,
    profile: ProfileFacts,
    device_known: bool,
}

#[derive(Clone, Debug)]
struct Kept<T> {
    value: T,
    stamp: Stamp,
    at: Instant,
}

impl Default for KeptFacts {
    fn default() -> KeptFacts {
        KeptFacts {
            stamps: Stamps::default(),
            titles: Cache::builder()
                .max_capacity(TITLE_COUNT_MAX)
                .time_to_live(TITLE_AGE)
                .build(),
            viewers: Cache::builder()
                .max_capacity(VIEWER_COUNT_MAX)
                .time_to_live(VIEWER_AGE)
                .build(),
        }
    }
}

impl KeptFacts {
    /// The answer to `question`, if all of it is kept and nothing of it changed since.
    pub fn answer(&self, question: &Question, is_deaf: bool) -> Option<Facts> {
        let age_max = |age: Duration| if is_deaf { DEAF_AGE } else { age };
        let title = self.titles.get(&title_key(question))?;
        let viewer = self.viewers.get(&viewer_key(question))?;
        let is_young = title.at.elapsed() < age_max(TITLE_AGE) && viewer.at.elapsed() < age_max(VIEWER_AGE);
        let is_true = self.stamps.are_unchanged(title.stamp, &title.value.rows(question))
            && self.stamps.are_unchanged(viewer.stamp, &viewer.value.rows(question));
        (is_young && is_true).then_some(Facts {
            title: Some(title.value.title),
            geo_allowed: title.value.geo_allowed,
            subscription: viewer.value.subscription,
            profile: Some(viewer.value.profile),
            device_known: viewer.value.device_known,
        })
    }

    /// Now, in changes: to be asked for before anything is read that is to be kept.
    pub fn stamp(&self) -> Stamp {
        self.stamps.now()
    }

    /// Keeps what was read since `stamp` as the answer to `question`; what is not there is not kept.
    pub fn keep(&self, question: &Question, facts: &Facts, stamp: Stamp) {
        let at = Instant::now();
        if let Some(title) = &facts.title {
            let value = TitleFacts {
                title: title.clone(),
                geo_allowed: facts.geo_allowed,
            };
            self.titles.insert(title_key(question), Kept { value, stamp, at });
        }
        if let Some(profile) = &facts.profile {
            let value = ViewerFacts {
                subscription: facts.subscription.clone(),
                profile: profile.clone(),
                device_known: facts.device_known,
            };
            self.viewers.insert(viewer_key(question), Kept { value, stamp, at });
        }
    }

    /// Counts no more what `event` says is old.
    pub fn apply(&self, event: &CacheEvent) {
        match (event.kind.as_str(), Uuid::try_parse(&event.reference)) {
            // Of these nothing is kept here; what of the catalogue is, has events of its own.
            ("catalogue" | "session" | "api_key" | "signing_key" | "stream", _) => {}
            (_, Ok(row)) => self.stamps.change(row),
            (_, Err(_)) => self.stamps.change_all(),
        }
    }

    /// Counts nothing any more.
    pub fn clear(&self) {
        self.stamps.change_all();
    }
}

fn title_key(question: &Question) -> TitleKey {
    TitleKey {
        tenant: question.tenant,
        content: question.content,
        content_type: question.content_type.clone(),
        country: question.country.clone(),
        unknown_blocked: question.unknown_blocked,
    }
}

fn viewer_key(question: &Question) -> ViewerKey {
    ViewerKey {
        tenant: question.tenant,
        user: question.user,
        device: question.device,
        profile: question.profile,
    }
}

impl TitleFacts {
    /// Rows that it was read from.
    fn rows(&self, question: &Question) -> [Uuid; 3] {
        let content = question.content;
        [question.tenant.0, content, self.title.asset_id.unwrap_or(content)]
    }
}

impl ViewerFacts {
    /// Rows that it was read from.
    fn rows(&self, question: &Question) -> [Uuid; 5] {
        let user = question.user;
        [
            question.tenant.0,
            user,
            question.device.unwrap_or(user),
            self.profile.id,
            self.subscription.as_ref().map_or(user, |row| row.plan_id),
        ]
    }
}

/// A moment, counted in changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

/// When rows changed, as far as word of it came here: one step for a change, however much is kept of the row. Rows share
/// stamps, so one may seem to have changed that did not, never the other way round.
#[derive(Debug)]
struct Stamps {
    clock: AtomicU64,
    all: AtomicU64,
    rows: Box<[AtomicU64]>,
}

impl Default for Stamps {
    fn default() -> Stamps {
        Stamps {
            clock: AtomicU64::new(0),
            all: AtomicU64::new(0),
            rows: (0..STAMP_COUNT).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Stamps {
    fn now(&self) -> Stamp {
        Stamp(self.clock.load(Ordering::Acquire))
    }

    fn next(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn change(&self, row: Uuid) {
        if let Some(stamp) = self.rows.get(place(row)) {
            stamp.fetch_max(self.next(), Ordering::AcqRel);
        }
    }

    fn change_all(&self) {
        self.all.fetch_max(self.next(), Ordering::AcqRel);
    }

    fn are_unchanged(&self, since: Stamp, rows: &[Uuid]) -> bool {
        let is_unchanged = |stamp: &AtomicU64| stamp.load(Ordering::Acquire) <= since.0;
        is_unchanged(&self.all)
            && rows
                .iter()
                .all(|row| self.rows.get(place(*row)).is_some_and(is_unchanged))
    }
}

/// Where a row's stamp is. Ids of one moment differ in their low bits alone.
fn place(row: Uuid) -> usize {
    let (high, low) = row.as_u64_pair();
    let mixed = (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 48).unwrap_or(0) % STAMP_COUNT
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn question() -> Question {
        Question {
            tenant: TenantId(id(1)),
            user: id(2),
            content: id(3),
            content_type: "movie".to_owned(),
            device: Some(id(4)),
            profile: None,
            country: Some("DE".to_owned()),
            unknown_blocked: true,
        }
    }

    fn facts() -> Facts {
        Facts {
            title: Some(Title {
                content_type: "movie".to_owned(),
                visible: true,
                scheduled: false,
                available_from: None,
                available_until: None,
                is_premium: false,
                drm_required: true,
                content_rating: None,
                asset_id: Some(id(5)),
                asset_playable: true,
                license_duration_s: None,
                version: 7,
            }),
            subscription: Some(Subscription {
                id: id(8),
                status: "active".to_owned(),
                period_end: DateTime::UNIX_EPOCH,
                version: 1,
                plan_id: id(6),
                tier: 1,
                max_quality: "HD".to_owned(),
                streams_max: 2,
                has_downloads: false,
            }),
            geo_allowed: true,
            profile: Some(ProfileFacts {
                id: id(7),
                is_kids: false,
                max_content_rating: None,
            }),
            device_known: true,
        }
    }

    fn event(kind: &str, reference: &str) -> CacheEvent {
        CacheEvent {
            kind: kind.to_owned(),
            tenant: TenantId(id(1)),
            reference: reference.to_owned(),
            version: 0,
        }
    }

    fn kept() -> KeptFacts {
        let kept = KeptFacts::default();
        let stamp = kept.stamp();
        kept.keep(&question(), &facts(), stamp);
        kept
    }

    #[test]
    fn what_was_read_answers_the_same_question_alone() {
        let kept = kept();
        let answer = kept.answer(&question(), false).unwrap();
        assert_eq!(format!("{answer:?}"), format!("{:?}", facts()));
        let others: [fn(&mut Question); 7] = [
            |other| other.tenant = TenantId(id(9)),
            |other| other.user = id(9),
            |other| other.content = id(9),
            |other| other.content_type = "episode".to_owned(),
            |other| other.device = None,
            |other| other.profile = Some(id(7)),
            |other| other.country = None,
        ];
        for (at, change) in others.into_iter().enumerate() {
            let mut other = question();
            change(&mut other);
            assert!(kept.answer(&other, false).is_none(), "{at}");
        }
    }

    #[test]
    fn word_of_a_change_of_any_row_ends_it() {
        let rows = [
            ("tenant", id(1)),
            ("user", id(2)),
            ("subscription", id(2)),
            ("content", id(3)),
            ("device", id(4)),
            ("asset", id(5)),
            ("plan", id(6)),
            ("profile", id(7)),
        ];
        for (kind, row) in rows {
            let kept = kept();
            kept.apply(&event(kind, &id(0xffff).to_string()));
            assert!(kept.answer(&question(), false).is_some(), "another {kind}");
            kept.apply(&event(kind, &row.to_string()));
            assert!(kept.answer(&question(), false).is_none(), "{kind}");
        }
        for (kind, ends) in [("geo", true), ("catalogue", false), ("session", false)] {
            let kept = kept();
            kept.apply(&event(kind, ""));
            assert_eq!(kept.answer(&question(), false).is_none(), ends, "{kind}");
        }
        let kept = kept();
        kept.clear();
        assert!(kept.answer(&question(), false).is_none());
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let kept = KeptFacts::default();
        let stamp = kept.stamp();
        kept.apply(&event("content", &id(3).to_string()));
        kept.keep(&question(), &facts(), stamp);
        assert!(kept.answer(&question(), false).is_none());
    }

    #[test]
    fn what_is_not_there_is_not_kept() {
        let kept = KeptFacts::default();
        let nothing = Facts {
            title: None,
            profile: None,
            ..facts()
        };
        kept.keep(&question(), &nothing, kept.stamp());
        assert!(kept.answer(&question(), false).is_none());
    }
}
