//! Live sessions in memory: beats are answered from here and written some seconds later in one statement.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use uuid::Uuid;

use crate::app::App;
use crate::cache::CacheEvent;
use crate::db::licences::Playing;
use crate::db::{self, streams};
use crate::slots::{Beat, Beaten, GRACE_S, LiveSession};

/// Beats in one statement.
const BEAT_COUNT_MAX: usize = 10_000;
/// Sessions in one message to the other nodes.
const NOTICE_COUNT_MAX: usize = 200;

/// Sessions that beat here.
#[derive(Debug, Default)]
pub struct LiveSessions {
    sessions: DashMap<Uuid, LiveSession>,
    /// Sessions that ended here, of which the other nodes do not know yet.
    ended: Mutex<Vec<Uuid>>,
    /// Whether sessions ended, here or elsewhere, since the origin was told.
    feed_is_old: AtomicBool,
}

/// What a beat found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Nothing here: ask the database.
    Unknown,
    /// Somebody else's.
    Foreign,
    /// It is the account's.
    Own(Beaten, LiveSession),
}

impl LiveSessions {
    /// Knows a session from now on.
    pub fn insert(&self, session: LiveSession) {
        self.sessions.insert(session.id, session);
    }

    /// A beat of `user`.
    pub fn beat(&self, id: Uuid, user: Uuid, position_s: f64, is_paused: bool, now: DateTime<Utc>) -> Found {
        let Some(mut session) = self.sessions.get_mut(&id) else {
            return Found::Unknown;
        };
        if session.user_id != user {
            return Found::Foreign;
        }
        let beaten = session.beat(position_s, is_paused, now);
        Found::Own(beaten, session.clone())
    }

    /// What `user` plays of a title on a device in this session, as far as is known here.
    pub fn playing(
        &self,
        id: Uuid,
        user: Uuid,
        device: Uuid,
        content: Uuid,
        alive_after: DateTime<Utc>,
    ) -> Option<Playing> {
        let session = self.sessions.get(&id)?;
        let is_it = session.user_id == user && session.device_id == device && session.content_id == content;
        (is_it && session.expires_at > alive_after).then(|| Playing {
            session: id,
            device,
            asset: session.asset_id,
            height_max: session.height_max,
        })
    }

    /// Writes when a session's URLs end now.
    pub fn renewed(&self, id: Uuid, urls_expire_at: DateTime<Utc>) {
        if let Some(mut session) = self.sessions.get_mut(&id) {
            session.urls_expire_at = urls_expire_at;
            session.unwritten = true;
        }
    }

    /// Forgets sessions that ended, and remembers to tell the other nodes.
    pub fn end(&self, ids: &[Uuid]) {
        for id in ids {
            self.sessions.remove(id);
        }
        if ids.is_empty() {
            return;
        }
        self.keep_ended(ids.to_vec());
        self.feed_is_old.store(true, Ordering::Release);
    }

    /// Forgets sessions that ended elsewhere: ids with commas between them.
    pub fn ended_elsewhere(&self, ids: &str) {
        for id in ids.split(',').filter_map(|id| Uuid::try_parse(id).ok()) {
            self.sessions.remove(&id);
        }
        self.feed_is_old.store(true, Ordering::Release);
    }

    /// Whether the origin should be told of ended sessions at once; asked once for each time that some ended.
    pub fn take_feed_is_old(&self) -> bool {
        self.feed_is_old.swap(false, Ordering::AcqRel)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    fn keep_ended(&self, ids: Vec<Uuid>) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.extend(ids);
    }

    fn take_ended(&self) -> Vec<Uuid> {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_unwritten(&self) -> Vec<Beat> {
        self.sessions
            .iter_mut()
            .filter_map(|mut session| session.take_unwritten())
            .collect()
    }
}

/// Beats on their way to the database. Those that did not get there wait again.
struct Unwritten<'a> {
    live: &'a LiveSessions,
    beats: &'a [Beat],
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        for beat in self.beats {
            if let Some(mut session) = self.live.sessions.get_mut(&beat.id) {
                session.unwritten = true;
            }
        }
    }
}

/// Writes beats. Sessions that are gone in the database are forgotten here; if it is away, the beats wait.
pub async fn flush(app: &App) -> Result<(), sqlx::Error> {
    app.pulse.unless_away(flush_all(app)).await
}

/// Writes beats, whatever is known of the database.
pub async fn flush_all(app: &App) -> Result<(), sqlx::Error> {
    let beats = app.live.take_unwritten();
    let mut unwritten = Unwritten {
        live: &app.live,
        beats: &beats,
    };
    for beats in beats.chunks(BEAT_COUNT_MAX) {
        let alive = streams::write_beats(&app.db, beats).await?;
        unwritten.beats = unwritten.beats.get(beats.len()..).unwrap_or_default();
        let alive: std::collections::HashSet<Uuid> = alive.into_iter().collect();
        for beat in beats.iter().filter(|beat| !alive.contains(&beat.id)) {
            app.live.sessions.remove(&beat.id);
        }
    }
    Ok(())
}

/// Ends sessions that were silent for too long, on whichever node.
pub async fn sweep(app: &App) -> Result<(), sqlx::Error> {
    let ended = streams::sweep(&app.db, app.now(), GRACE_S).await?;
    let ids: Vec<Uuid> = ended.into_iter().map(|(session, _)| session).collect();
    app.live.end(&ids);
    Ok(())
}

/// Ends sessions of titles whose window ended since then (PL-3), on whichever node.
pub async fn close_windows(app: &App, since: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let ended = streams::close_windows(&app.db, since, app.now()).await?;
    let ids: Vec<Uuid> = ended.into_iter().map(|(session, _)| session).collect();
    app.live.end(&ids);
    Ok(())
}

/// Tells the other nodes which sessions ended here; those that could not be told wait.
pub async fn tell(app: &App) -> Result<(), sqlx::Error> {
    let ended = app.live.take_ended();
    if ended.is_empty() {
        return Ok(());
    }
    let told = app.pulse.unless_away(tell_all(app, &ended)).await;
    if told.is_err() {
        app.live.keep_ended(ended);
    }
    told
}

async fn tell_all(app: &App, ended: &[Uuid]) -> Result<(), sqlx::Error> {
    let mut connection = app.db.acquire().await?;
    for ids in ended.chunks(NOTICE_COUNT_MAX) {
        let event = CacheEvent {
            kind: "stream".to_owned(),
            tenant: db::DEFAULT_TENANT,
            reference: ids.iter().map(Uuid::to_string).collect::<Vec<_>>().join(","),
            version: 0,
        };
        db::events::tell_caches(&mut connection, &event).await?;
    }
    Ok(())
}

/// Writes the file of ended sessions that the origin reads, if it changed: their ids in hexadecimal digits, one a line.
pub async fn write_revoked(app: &App, before: &mut Option<String>) -> Result<(), String> {
    let Some(path) = app.config.section.revoked.clone() else {
        return Ok(());
    };
    let ids = streams::revoked(&app.db, app.now())
        .await
        .map_err(|error| error.to_string())?;
    let text: String = ids.iter().map(|id| format!("{}\n", id.simple())).collect();
    if before.as_ref() == Some(&text) {
        return Ok(());
    }
    // Renamed into place: a reader sees the old one or the new one, never a half.
    let new = path.with_extension("new");
    tokio::fs::write(&new, &text)
        .await
        .map_err(|error| format!("{}: {error}", new.display()))?;
    tokio::fs::rename(&new, &path)
        .await
        .map_err(|error| format!("{}: {error}", path.display()))?;
    *before = Some(text);
    Ok(())
}
