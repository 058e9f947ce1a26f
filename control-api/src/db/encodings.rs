//! Rows of encoding jobs: the queue that workers take from.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::encoding::{ATTEMPT_COUNT_MAX, Made};

/// A job in a worker's hands.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Claimed {
    /// Which.
    pub id: Uuid,
    /// Of which tenant.
    pub tenant_id: Uuid,
    /// What is encoded.
    pub asset_id: Uuid,
    /// Proof that it is this worker's.
    pub ticket: Uuid,
    /// Steps that are wanted; none for all that are enabled.
    pub profiles: Vec<String>,
    /// How often it was begun, this time included.
    pub attempt: i32,
    /// Its title.
    pub title: String,
    /// Name of the source's file.
    pub storage_path: String,
    /// Whether the source's hash is known.
    pub has_sha256: bool,
}

/// Puts a job into the queue; false if one of the asset waits or runs already.
pub async fn insert(
    connection: &mut PgConnection,
    tenant: Uuid,
    asset: Uuid,
    profiles: &[String],
    priority: i32,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "insert into encoding_jobs (id, tenant_id, asset_id, profile, kind, profiles, priority, run_after, created_at)
         values ($1, $2, $3, 'ladder', 'video', $4, $5, $6, $6)
         on conflict (asset_id, kind, profile) where status in ('queued', 'running') do nothing",
    )
    .bind(Uuid::now_v7())
    .bind(tenant)
    .bind(asset)
    .bind(profiles)
    .bind(priority)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Takes the next job: the highest priority first; among equals the tenant with the fewest running jobs, then the one
/// served longest ago, then the oldest job. A job whose worker went silent is taken over. `now` is the database's unless
/// a test says otherwise.
pub async fn claim(
    connection: &mut PgConnection,
    worker: &str,
    lease: TimeDelta,
    now: Option<DateTime<Utc>>,
) -> Result<Option<Claimed>, sqlx::Error> {
    sqlx::query_as(
        "with clock as (select coalesce($3, clock_timestamp()) as now),
         waiting as materialized (
           select j.id, j.tenant_id from encoding_jobs j, clock
           where ((j.status = 'queued' and j.run_after <= clock.now)
               or (j.status = 'running' and j.lease_until < clock.now)) and j.attempt < $4
         ), served as materialized (
           select t.tenant_id,
             (select count(*) from encoding_jobs r, clock
              where r.tenant_id = t.tenant_id and r.status = 'running' and r.lease_until >= clock.now) as running,
             (select max(r.started_at) from encoding_jobs r where r.tenant_id = t.tenant_id) as last
           from (select distinct tenant_id from waiting) t
         ), next as (
           select j.id from encoding_jobs j join waiting w on w.id = j.id join served s on s.tenant_id = j.tenant_id, clock
           where (j.status = 'queued' and j.run_after <= clock.now) or (j.status = 'running' and j.lease_until < clock.now)
           order by j.priority desc, s.running, s.last nulls first, j.created_at, j.id
           limit 1 for update of j skip locked
         )
         update encoding_jobs j set status = 'running', attempt = j.attempt + 1, worker = $1, ticket = gen_random_uuid(),
           lease_until = clock.now + $2, started_at = clock.now, progress = 0, progress_permille = 0
         from next, clock, assets a join blobs b on b.id = a.source_blob
         where j.id = next.id and a.id = j.asset_id
         returning j.id, j.tenant_id, j.asset_id, j.ticket, j.profiles, j.attempt, a.title, b.storage_path,
           a.sha256 is not null as has_sha256",
    )
    .bind(worker)
    .bind(lease)
    .bind(now)
    .bind(ATTEMPT_COUNT_MAX)
    .fetch_optional(connection)
    .await
}

/// Says that a worker is still at it; whether the job is still its own.
pub async fn beat(
    connection: &mut PgConnection,
    job: &Claimed,
    lease: TimeDelta,
    permille: i32,
    now: Option<DateTime<Utc>>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "update encoding_jobs set lease_until = coalesce($5, clock_timestamp()) + $3, progress = $4 / 10, progress_permille = $4
         where id = $1 and ticket = $2 and status = 'running'",
    )
    .bind(job.id)
    .bind(job.ticket)
    .bind(lease)
    .bind(permille)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Ends a job well; whether it was still this worker's to end.
pub async fn finish(connection: &mut PgConnection, job: &Claimed, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "update encoding_jobs set status = 'completed', progress = 100, progress_permille = 1000, lease_until = null,
           error = null, finished_at = $3
         where id = $1 and ticket = $2 and status = 'running'",
    )
    .bind(job.id)
    .bind(job.ticket)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Puts a failed job back to be tried again at `again`, or ends it there; whether it was still this worker's.
pub async fn fail(
    connection: &mut PgConnection,
    job: &Claimed,
    error: &str,
    again: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "update encoding_jobs set status = case when $4::timestamptz is null then 'failed' else 'queued' end,
           run_after = coalesce($4, run_after), lease_until = null, ticket = null, error = $3,
           finished_at = case when $4::timestamptz is null then $5 end
         where id = $1 and ticket = $2 and status = 'running'",
    )
    .bind(job.id)
    .bind(job.ticket)
    .bind(error)
    .bind(again)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Gives a job back untouched, as if it had not been begun: its worker has to stop.
pub async fn release(connection: &mut PgConnection, job: &Claimed) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update encoding_jobs set status = 'queued', attempt = attempt - 1, lease_until = null, ticket = null
         where id = $1 and ticket = $2 and status = 'running'",
    )
    .bind(job.id)
    .bind(job.ticket)
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends what waits or runs of an asset; its worker finds out at its next beat.
pub async fn cancel(connection: &mut PgConnection, asset: Uuid, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "update encoding_jobs set status = 'canceled', lease_until = null, finished_at = $2
         where asset_id = $1 and status in ('queued', 'running')",
    )
    .bind(asset)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Whether a job of an asset waits or runs.
pub async fn is_active(connection: &mut PgConnection, asset: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select 1 from encoding_jobs where asset_id = $1 and status in ('queued', 'running'))",
    )
    .bind(asset)
    .fetch_one(connection)
    .await
}

/// Jobs whose workers went silent once too often: each ends as failed.
pub async fn give_up(pool: &PgPool, now: Option<DateTime<Utc>>) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
    sqlx::query_as(
        "update encoding_jobs set status = 'failed', lease_until = null, finished_at = coalesce($2, clock_timestamp()),
           error = 'its worker ended without a word, ' || attempt || ' times'
         where status = 'running' and lease_until < coalesce($2, clock_timestamp()) and attempt >= $1
         returning tenant_id, asset_id",
    )
    .bind(ATTEMPT_COUNT_MAX)
    .bind(now)
    .fetch_all(pool)
    .await
}

/// Says that an asset's ladder is being made.
pub async fn begun(connection: &mut PgConnection, asset: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update assets set status = 'transcoding', error_message = null where id = $1 and status <> 'transcoding'",
    )
    .bind(asset)
    .execute(&mut *connection)
    .await?;
    sqlx::query("update uploads set transcode_status = 'running' where asset_id = $1 and status = 'processing'")
        .bind(asset)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes what was made of an asset: renditions, tracks, length. Whether uploads of it wanted it published.
pub async fn made(
    connection: &mut PgConnection,
    asset: Uuid,
    made: &Made,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    sqlx::query("delete from renditions where asset_id = $1")
        .bind(asset)
        .execute(&mut *connection)
        .await?;
    sqlx::query("delete from asset_tracks where asset_id = $1")
        .bind(asset)
        .execute(&mut *connection)
        .await?;
    for rendition in &made.renditions {
        sqlx::query(
            "insert into renditions (id, asset_id, profile, width, height, bitrate_bps, codec, status, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, 'completed', $8) on conflict on constraint renditions_step do nothing",
        )
        .bind(Uuid::now_v7())
        .bind(asset)
        .bind(&rendition.profile)
        .bind(rendition.width)
        .bind(rendition.height)
        .bind(rendition.bitrate_bps)
        .bind(&rendition.codec)
        .bind(now)
        .execute(&mut *connection)
        .await?;
    }
    for track in &made.tracks {
        sqlx::query(
            "insert into asset_tracks (id, asset_id, kind, language, label, codec, channels, use, is_default, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(Uuid::now_v7())
        .bind(asset)
        .bind(track.kind)
        .bind(&track.language)
        .bind(&track.label)
        .bind(&track.codec)
        .bind(track.channels)
        .bind(track.purpose)
        .bind(track.is_default)
        .bind(now)
        .execute(&mut *connection)
        .await?;
    }
    let best = made.renditions.iter().max_by_key(|rendition| rendition.height);
    sqlx::query(
        "update assets set status = 'ready', playable = true, duration_seconds = $2, width = $3, height = $4,
           media_version = $5, error_message = null
         where id = $1",
    )
    .bind(asset)
    .bind(made.duration_seconds)
    .bind(best.and_then(|rendition| rendition.width))
    .bind(best.and_then(|rendition| rendition.height))
    .bind(&made.version)
    .execute(&mut *connection)
    .await?;
    let publish: Option<bool> = sqlx::query_scalar(
        "update uploads set status = 'completed', transcode_status = 'completed', error_message = null
         where asset_id = $1 and status = 'processing' returning auto_publish",
    )
    .bind(asset)
    .fetch_optional(connection)
    .await?;
    Ok(publish.unwrap_or(false))
}

/// Says that nothing could be made of an asset. One that plays already goes on to do so.
pub async fn unmade(connection: &mut PgConnection, asset: Uuid, error: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update assets set status = case when playable then 'ready' else 'failed' end, error_message = $2 where id = $1",
    )
    .bind(asset)
    .bind(error)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "update uploads set status = 'failed', transcode_status = 'failed', error_message = $2
         where asset_id = $1 and status = 'processing'",
    )
    .bind(asset)
    .bind(error)
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps the hash of a source, once it was read.
pub async fn set_sha256(connection: &mut PgConnection, asset: Uuid, hash: &[u8; 32]) -> Result<(), sqlx::Error> {
    sqlx::query("update assets set sha256 = $2 where id = $1")
        .bind(asset)
        .bind(hash.as_slice())
        .execute(&mut *connection)
        .await?;
    // One of several equal sources bears the name.
    sqlx::query(
        "update blobs b set sha256 = $2 from assets a
         where a.id = $1 and b.id = a.source_blob and b.sha256 is null
           and not exists (select 1 from blobs o where o.tenant_id = b.tenant_id and o.sha256 = $2)",
    )
    .bind(asset)
    .bind(hash.as_slice())
    .execute(connection)
    .await?;
    Ok(())
}
