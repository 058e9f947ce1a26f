//! Encoding: the ladder's steps, when a failed job is tried again, and the queue as workers see it.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::app::App;
use crate::call::TenantId;
use crate::db;
use crate::db::encodings::Claimed;
use crate::error::ApiError;
use crate::upload::store;
use crate::work::{Actor, Work};

/// How often a job is begun before it is given up.
pub const ATTEMPT_COUNT_MAX: i32 = 5;
/// A worker that is silent for so long has lost its job.
pub const LEASE: TimeDelta = TimeDelta::seconds(30);
/// How often a worker says that it is still there.
pub const BEAT: std::time::Duration = std::time::Duration::from_secs(5);

/// A step of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// Width of a picture of 16:9.
    pub width: i32,
    /// Height.
    pub height: i32,
    /// Highest rate.
    pub bitrate_bps: i64,
    /// How much work goes into it.
    pub preset: &'static str,
}

const fn profile(name: &'static str, width: i32, height: i32, bitrate_bps: i64, preset: &'static str) -> Profile {
    Profile {
        name,
        width,
        height,
        bitrate_bps,
        preset,
    }
}

/// The ladder, largest first.
pub const PROFILES: [Profile; 6] = [
    profile("8K", 7680, 4320, 40_000_000, "slow"),
    profile("4K", 3840, 2160, 18_000_000, "slow"),
    profile("1080p", 1920, 1080, 5_000_000, "fast"),
    profile("720p", 1280, 720, 2_500_000, "fast"),
    profile("480p", 854, 480, 1_200_000, "fast"),
    profile("360p", 640, 360, 600_000, "fast"),
];

/// Names of [`PROFILES`].
pub const PROFILE_NAMES: &[&str] = &["8K", "4K", "1080p", "720p", "480p", "360p"];

/// What a rendition of this many lines is called: the step's name, or its lines where it lies between steps (UP-11).
pub fn profile_name(lines: i32) -> String {
    let known = PROFILES.iter().find(|profile| profile.height == lines);
    known.map_or_else(|| format!("{lines}p"), |profile| profile.name.to_owned())
}

/// When a job that failed on this attempt is begun again; never after the last.
pub fn retry_at(attempt: i32, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let wait = match attempt {
        ..=1 => TimeDelta::seconds(30),
        2 => TimeDelta::minutes(2),
        3 => TimeDelta::minutes(10),
        4 => TimeDelta::minutes(30),
        _ => return None,
    };
    Some(now + wait)
}

/// What was made of a source.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// How long it plays.
    pub duration_seconds: f64,
    /// The version that is served.
    pub version: String,
    /// Pictures.
    pub renditions: Vec<MadeRendition>,
    /// Sound and text.
    pub tracks: Vec<MadeTrack>,
}

/// A rendition that is ready.
#[derive(Clone, Debug)]
pub struct MadeRendition {
    /// Step.
    pub profile: String,
    /// Width.
    pub width: Option<i32>,
    /// Height.
    pub height: Option<i32>,
    /// Rate.
    pub bitrate_bps: i64,
    /// Coding.
    pub codec: String,
}

/// A track that is ready.
#[derive(Clone, Debug)]
pub struct MadeTrack {
    /// `audio` or `subtitle`.
    pub kind: &'static str,
    /// BCP 47 tag.
    pub language: String,
    /// Name for people.
    pub label: String,
    /// Coding.
    pub codec: String,
    /// Channels of sound.
    pub channels: Option<i32>,
    /// `main`, `commentary`, `description`; `subtitles`, `captions`, `forced`.
    pub purpose: &'static str,
    /// Chosen when the viewer has no preference.
    pub is_default: bool,
}

/// Why a job failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The source is no good: trying again would not help.
    Source,
    /// Something here had a bad moment.
    Passing,
}

fn now(app: &App) -> Option<DateTime<Utc>> {
    (!app.is_on_time()).then(|| app.now())
}

/// A file of the data folder, by its name in a row. Names are made here alone, never by clients.
pub fn source_path(app: &App, storage_path: &str) -> PathBuf {
    store::folder(&app.config.section.data).join(storage_path)
}

/// Takes the next job for a worker of this name.
pub async fn claim(app: &Arc<App>, worker: &str) -> Result<Option<Claimed>, ApiError> {
    let mut transaction = app.db.begin().await?;
    let claimed = db::encodings::claim(&mut transaction, worker, LEASE, now(app)).await?;
    if let Some(job) = &claimed {
        db::encodings::begun(&mut transaction, job.asset_id).await?;
    }
    transaction.commit().await?;
    Ok(claimed)
}

/// Says how far a job is. False: it is not this worker's any more, and what it makes is not wanted.
pub async fn beat(app: &Arc<App>, job: &Claimed, permille: u32) -> Result<bool, ApiError> {
    let permille = i32::try_from(permille).unwrap_or(0).clamp(0, 1000);
    let mut connection = app.db.acquire().await?;
    Ok(db::encodings::beat(&mut connection, job, LEASE, permille, now(app)).await?)
}

/// Gives a job back because its worker has to stop.
pub async fn release(app: &Arc<App>, job: &Claimed) -> Result<(), ApiError> {
    let mut connection = app.db.acquire().await?;
    Ok(db::encodings::release(&mut connection, job).await?)
}

/// Keeps the hash of a job's source.
pub async fn hashed(app: &Arc<App>, job: &Claimed, sha256: &[u8; 32]) -> Result<(), ApiError> {
    let mut connection = app.db.acquire().await?;
    Ok(db::encodings::set_sha256(&mut connection, job.asset_id, sha256).await?)
}

/// Ends a job well: the ladder is in the library, and from here on the asset plays. False if it was not this worker's any
/// more. Whoever asks twice gets the same.
pub async fn finish(app: &Arc<App>, job: &Claimed, made: &Made) -> Result<bool, ApiError> {
    let mut work = Work::begin_as(app, TenantId(job.tenant_id), Actor::system()).await?;
    let now = work.now;
    if !db::encodings::finish(work.connection(), job, now).await? {
        return Ok(false);
    }
    let publish = db::encodings::made(work.connection(), job.asset_id, made, now).await?;
    let lock = db::Lock::Change;
    let asset = db::assets::get(work.connection(), TenantId(job.tenant_id), job.asset_id, lock).await?;
    let Some(mut asset) = asset else { return Ok(false) };
    let payload = json!({ "id": asset.id, "type": asset.r#type, "title": asset.title, "target_id": asset.target_id });
    work.emit("media.transcoded", Some(asset.owner_id), payload.clone())
        .await?;
    asset.published |= publish;
    if asset.published && asset.first_published_at.is_none() {
        asset.first_published_at = Some(now);
        asset.published_at = Some(now);
        db::assets::update(work.connection(), &asset).await?;
        work.emit("media.published", Some(asset.owner_id), payload).await?;
    }
    changed(&mut work, asset.id, asset.target_id).await?;
    work.commit().await?;
    Ok(true)
}

/// Tells caches that an asset is another than before.
pub async fn changed(work: &mut Work, asset: Uuid, target: Option<Uuid>) -> Result<(), ApiError> {
    work.invalidate("asset", asset, 0).await?;
    if let Some(target) = target {
        work.invalidate("content", target, 0).await?;
        work.raise_catalogue().await?;
    }
    Ok(())
}

/// Ends a job badly, or puts it back to be tried again.
pub async fn fail(app: &Arc<App>, job: &Claimed, fault: Fault, error: &str) -> Result<(), ApiError> {
    let mut work = Work::begin_as(app, TenantId(job.tenant_id), Actor::system()).await?;
    let now = work.now;
    let again = match fault {
        Fault::Source => None,
        Fault::Passing => retry_at(job.attempt, now),
    };
    let error: String = error.chars().take(1000).collect();
    if db::encodings::fail(work.connection(), job, &error, again, now).await? && again.is_none() {
        unmade(&mut work, job.asset_id, &error).await?;
    }
    work.commit().await
}

async fn unmade(work: &mut Work, asset: Uuid, error: &str) -> Result<(), ApiError> {
    db::encodings::unmade(work.connection(), asset, error).await?;
    let tenant = work.tenant;
    let row = db::assets::get(work.connection(), tenant, asset, db::Lock::Read).await?;
    let Some(row) = row else { return Ok(()) };
    let payload = json!({ "id": asset, "type": row.r#type, "title": row.title, "error_message": error });
    work.emit("media.failed", Some(row.owner_id), payload).await?;
    changed(work, asset, row.target_id).await
}

/// Gives up jobs whose workers went silent too often.
pub async fn give_up(app: &Arc<App>) -> Result<(), ApiError> {
    for (tenant, asset) in db::encodings::give_up(&app.db, now(app)).await? {
        let mut work = Work::begin_as(app, TenantId(tenant), Actor::system()).await?;
        unmade(&mut work, asset, "encoding ended without a word too often").await?;
        work.commit().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_11_steps_have_names() {
        for (lines, expected) in [
            (4320, "8K"),
            (2160, "4K"),
            (1080, "1080p"),
            (816, "816p"),
            (360, "360p"),
            (90, "90p"),
        ] {
            assert_eq!(profile_name(lines), expected);
        }
        let names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
        assert_eq!(names, PROFILE_NAMES);
    }

    #[test]
    fn retries_wait_longer_each_time_and_end() {
        let now = DateTime::from_timestamp(0, 0).unwrap();
        let waits: Vec<Option<i64>> = (1..=5)
            .map(|attempt| retry_at(attempt, now).map(|at| at.timestamp()))
            .collect();
        assert_eq!(waits, [Some(30), Some(120), Some(600), Some(1800), None]);
        assert_eq!(retry_at(ATTEMPT_COUNT_MAX, now), None);
        assert!(retry_at(ATTEMPT_COUNT_MAX - 1, now).is_some());
    }
}
