//! Rows of stream sessions: the transaction that starts one, what beats write, how they end.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Postgres, Row as _, Transaction};
use uuid::Uuid;

use crate::call::TenantId;
use crate::slots::{Beat, LiveSession};

/// What a stream start needs to know, read at once.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The title, if there is one.
    pub title: Option<Title>,
    /// The subscription that counts, if there is one.
    pub subscription: Option<Subscription>,
    /// Whether the title's rules allow the caller's country.
    pub geo_allowed: bool,
    /// The profile, if it is the account's.
    pub profile: Option<ProfileFacts>,
    /// Whether the device is registered to the account.
    pub device_known: bool,
}

/// What a start needs of a title.
#[derive(Clone, Debug)]
pub struct Title {
    /// `movie`, `episode`, `channel`, `recording`.
    pub content_type: String,
    /// Whether it is published.
    pub visible: bool,
    /// Whether it will be.
    pub scheduled: bool,
    /// When it begins.
    pub available_from: Option<DateTime<Utc>>,
    /// When it ends.
    pub available_until: Option<DateTime<Utc>>,
    /// Whether it needs a premium plan.
    pub is_premium: bool,
    /// Whether it plays with a licence alone.
    pub drm_required: bool,
    /// How old one must be.
    pub content_rating: Option<String>,
    /// What plays.
    pub asset_id: Option<Uuid>,
    /// Whether that is ready.
    pub asset_playable: bool,
    /// How long licences of it last, in seconds.
    pub license_duration_s: Option<i32>,
    /// Of the row.
    pub version: i64,
}

/// What a start needs of a subscription and its plan.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Which.
    pub id: Uuid,
    /// `active`, `trialing`, `past_due`.
    pub status: String,
    /// When the paid period ends.
    pub period_end: DateTime<Utc>,
    /// Of the row.
    pub version: i64,
    /// The plan.
    pub plan_id: Uuid,
    /// Its tier.
    pub tier: i32,
    /// Its best quality.
    pub max_quality: String,
    /// Its streams at once.
    pub streams_max: i32,
    /// Whether it has downloads.
    pub has_downloads: bool,
}

/// What a start needs of a profile.
#[derive(Clone, Debug)]
pub struct ProfileFacts {
    /// Which.
    pub id: Uuid,
    /// Whether it is a child's.
    pub is_kids: bool,
    /// The highest rating that it sees.
    pub max_content_rating: Option<String>,
}

/// Who asks for what.
#[derive(Clone, Debug)]
pub struct Question {
    /// Whose rows.
    pub tenant: TenantId,
    /// Who.
    pub user: Uuid,
    /// What.
    pub content: Uuid,
    /// Of which type.
    pub content_type: String,
    /// On which device.
    pub device: Option<Uuid>,
    /// For which profile; the default one without.
    pub profile: Option<Uuid>,
    /// From where.
    pub country: Option<String>,
    /// Whether unknown countries count as blocked.
    pub unknown_blocked: bool,
}

/// Reads what a start needs in one statement.
pub async fn facts(connection: &mut PgConnection, question: &Question) -> Result<Facts, sqlx::Error> {
    let found = facts_of(connection, std::slice::from_ref(question)).await?;
    found.into_iter().next().ok_or(sqlx::Error::RowNotFound)
}

/// Reads what many starts need in one statement, each in its place.
pub async fn facts_of(connection: &mut PgConnection, questions: &[Question]) -> Result<Vec<Facts>, sqlx::Error> {
    let ids = |of: fn(&Question) -> Uuid| questions.iter().map(of).collect::<Vec<Uuid>>();
    let maybe = |of: fn(&Question) -> Option<Uuid>| questions.iter().map(of).collect::<Vec<Option<Uuid>>>();
    let rows = sqlx::query(
        "select p.content_type, p.status_visible, p.scheduled, p.available_from, p.available_until, p.is_premium,
           p.drm_required, p.content_rating, p.primary_asset_id, p.license_duration_seconds,
           coalesce(a.playable, false) as playable, p.row_version,
           s.id as s_id, s.status as s_status, s.current_period_end, s.row_version as s_version, s.plan_id, pl.tier,
           pl.max_quality, pl.max_concurrent_streams, pl.has_downloads,
           geo_allows(q.content, coalesce(p.show_id, p.channel_id), q.country, q.blocked) as geo_allowed,
           pr.id as pr_id, pr.is_kids, pr.max_content_rating,
           exists (select 1 from devices d where d.id = q.device and d.user_id = q.asking and d.removed_at is null)
             as device_known
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::boolean[], $8::text[])
           with ordinality as q (tenant, asking, content, profile, device, country, blocked, kind, place)
         left join playables p on p.content_id = q.content and p.tenant_id = q.tenant and p.content_type = q.kind
         left join assets a on a.id = p.primary_asset_id
         left join subscriptions s on s.user_id = q.asking and s.status in ('active', 'trialing', 'past_due')
         left join plans pl on pl.id = s.plan_id
         left join profiles pr on pr.user_id = q.asking and (pr.id = q.profile or (q.profile is null and pr.is_default))
         order by q.place",
    )
    .bind(ids(|question| question.tenant.0))
    .bind(ids(|question| question.user))
    .bind(ids(|question| question.content))
    .bind(maybe(|question| question.profile))
    .bind(maybe(|question| question.device))
    .bind(
        questions
            .iter()
            .map(|question| question.country.as_deref())
            .collect::<Vec<_>>(),
    )
    .bind(
        questions
            .iter()
            .map(|question| question.unknown_blocked)
            .collect::<Vec<_>>(),
    )
    .bind(
        questions
            .iter()
            .map(|question| question.content_type.as_str())
            .collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(facts_in).collect()
}

fn facts_in(row: &PgRow) -> Result<Facts, sqlx::Error> {
    let title = row.try_get::<Option<i64>, _>("row_version")?;
    let title = title.map(|version| {
        Ok::<Title, sqlx::Error>(Title {
            content_type: row.try_get("content_type")?,
            visible: row.try_get("status_visible")?,
            scheduled: row.try_get("scheduled")?,
            available_from: row.try_get("available_from")?,
            available_until: row.try_get("available_until")?,
            is_premium: row.try_get("is_premium")?,
            drm_required: row.try_get("drm_required")?,
            content_rating: row.try_get("content_rating")?,
            asset_id: row.try_get("primary_asset_id")?,
            asset_playable: row.try_get("playable")?,
            license_duration_s: row.try_get("license_duration_seconds")?,
            version,
        })
    });
    let subscription = row.try_get::<Option<Uuid>, _>("s_id")?;
    let subscription = subscription.map(|id| {
        Ok::<Subscription, sqlx::Error>(Subscription {
            id,
            status: row.try_get("s_status")?,
            period_end: row.try_get("current_period_end")?,
            version: row.try_get("s_version")?,
            plan_id: row.try_get("plan_id")?,
            tier: row.try_get("tier")?,
            max_quality: row.try_get("max_quality")?,
            streams_max: row.try_get("max_concurrent_streams")?,
            has_downloads: row.try_get("has_downloads")?,
        })
    });
    let profile = row.try_get::<Option<Uuid>, _>("pr_id")?;
    let profile = profile.map(|id| {
        Ok::<ProfileFacts, sqlx::Error>(ProfileFacts {
            id,
            is_kids: row.try_get("is_kids")?,
            max_content_rating: row.try_get("max_content_rating")?,
        })
    });
    Ok(Facts {
        title: title.transpose()?,
        subscription: subscription.transpose()?,
        geo_allowed: row.try_get("geo_allowed")?,
        profile: profile.transpose()?,
        device_known: row.try_get("device_known")?,
    })
}

/// A start that was decided on.
#[derive(Clone, Debug)]
pub struct Start {
    /// Whose rows.
    pub tenant: TenantId,
    /// Its id.
    pub session: Uuid,
    /// Who.
    pub user: Uuid,
    /// For which profile.
    pub profile: Uuid,
    /// On which device.
    pub device: Uuid,
    /// What.
    pub content: Uuid,
    /// What plays.
    pub asset: Uuid,
    /// The title's version when it was decided.
    pub title_version: i64,
    /// The subscription and its version when it was decided, and the plan.
    pub subscription: Option<(Uuid, i64, Uuid)>,
    /// What kind of session.
    pub kind: &'static str,
    /// Streams at once.
    pub streams_max: i32,
    /// Highest picture.
    pub height_max: Option<i32>,
    /// From where.
    pub country: Option<String>,
    /// Life without a beat.
    pub ttl_s: i32,
    /// How much longer a silent one still counts.
    pub grace_s: i32,
    /// Life of the URLs.
    pub url_ttl_s: i32,
    /// The clock of tests; the database's otherwise.
    pub now: Option<DateTime<Utc>>,
}

/// What came of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// It lives.
    Live {
        /// The one on the same device before it, which ended.
        superseded: Option<Uuid>,
        /// When it began.
        at: DateTime<Utc>,
        /// When its URLs end.
        urls_expire_at: DateTime<Utc>,
    },
    /// All streams of the account are in use.
    Full,
    /// Something changed since it was decided.
    Stale,
}

/// Starts a session: one statement, one transaction.
pub async fn start(connection: &mut PgConnection, start: &Start) -> Result<Started, sqlx::Error> {
    let started = start_all(connection, std::slice::from_ref(start)).await?;
    started.into_iter().next().ok_or(sqlx::Error::RowNotFound)
}

/// Starts sessions, one after the other: one statement, one transaction. What came of each, in its place.
pub async fn start_all(connection: &mut PgConnection, starts: &[Start]) -> Result<Vec<Started>, sqlx::Error> {
    let ids = |of: fn(&Start) -> Uuid| starts.iter().map(of).collect::<Vec<Uuid>>();
    let maybe = |of: fn(&Start) -> Option<Uuid>| starts.iter().map(of).collect::<Vec<Option<Uuid>>>();
    let numbers = |of: fn(&Start) -> i32| starts.iter().map(of).collect::<Vec<i32>>();
    // Accounts are locked in the order of their ids by everybody, so that nobody waits in a circle.
    let rows = sqlx::query(
        "select q.place, s.outcome, s.superseded, s.instant, s.urls_expire
         from (
           select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[],
             $8::bigint[], $9::uuid[], $10::bigint[], $11::uuid[], $12::text[], $13::integer[], $14::integer[],
             $15::text[], $16::integer[], $17::integer[], $18::integer[], $19::timestamptz[])
             with ordinality as q (session, tenant, asking, profile, device, content, asset, title_version, subscription,
               subscription_version, plan, kind, streams_max, height_max, country, ttl_s, grace_s, url_ttl_s, at, place)
           order by q.asking, q.place offset 0
         ) q
         cross join lateral stream_start(q.session, q.tenant, q.asking, q.profile, q.device, q.content, q.asset,
           q.title_version, q.subscription, q.subscription_version, q.plan, q.kind, q.streams_max, q.height_max, q.country,
           q.ttl_s, q.grace_s, q.url_ttl_s, q.at) s",
    )
    .bind(ids(|start| start.session))
    .bind(ids(|start| start.tenant.0))
    .bind(ids(|start| start.user))
    .bind(ids(|start| start.profile))
    .bind(ids(|start| start.device))
    .bind(ids(|start| start.content))
    .bind(ids(|start| start.asset))
    .bind(starts.iter().map(|start| start.title_version).collect::<Vec<_>>())
    .bind(maybe(|start| start.subscription.map(|(id, _, _)| id)))
    .bind(
        starts
            .iter()
            .map(|start| start.subscription.map(|(_, version, _)| version))
            .collect::<Vec<_>>(),
    )
    .bind(maybe(|start| start.subscription.map(|(_, _, plan)| plan)))
    .bind(starts.iter().map(|start| start.kind).collect::<Vec<_>>())
    .bind(numbers(|start| start.streams_max))
    .bind(starts.iter().map(|start| start.height_max).collect::<Vec<_>>())
    .bind(starts.iter().map(|start| start.country.as_deref()).collect::<Vec<_>>())
    .bind(numbers(|start| start.ttl_s))
    .bind(numbers(|start| start.grace_s))
    .bind(numbers(|start| start.url_ttl_s))
    .bind(starts.iter().map(|start| start.now).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut started = vec![Started::Stale; starts.len()];
    for row in &rows {
        let place = usize::try_from(row.try_get::<i64, _>("place")?).unwrap_or(0);
        let Some(slot) = place.checked_sub(1).and_then(|at| started.get_mut(at)) else {
            continue;
        };
        *slot = match row.try_get::<&str, _>("outcome")? {
            "started" => Started::Live {
                superseded: row.try_get("superseded")?,
                at: row.try_get("instant")?,
                urls_expire_at: row.try_get("urls_expire")?,
            },
            "full" => Started::Full,
            _ => Started::Stale,
        };
    }
    Ok(started)
}

/// Ends sessions; the ids of those that lived, with their owners.
pub async fn end(
    connection: &mut PgConnection,
    ids: &[Uuid],
    reason: &str,
    now: DateTime<Utc>,
) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
    sqlx::query_as("select session_id, owner_id from stream_end($1, $2, $3)")
        .bind(ids)
        .bind(reason)
        .bind(now)
        .fetch_all(connection)
        .await
}

/// Writes how far a session is.
pub async fn set_position(connection: &mut PgConnection, id: Uuid, position_s: f64) -> Result<(), sqlx::Error> {
    sqlx::query("update stream_sessions set position_seconds = $2 where id = $1")
        .bind(id)
        .bind(position_s)
        .execute(connection)
        .await?;
    Ok(())
}

/// Live sessions of an account.
pub async fn of_user(connection: &mut PgConnection, user: Uuid) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select id from stream_sessions where user_id = $1")
        .bind(user)
        .fetch_all(connection)
        .await
}

/// The live session of a device.
pub async fn of_device(connection: &mut PgConnection, device: Uuid) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select id from stream_sessions where device_id = $1")
        .bind(device)
        .fetch_all(connection)
        .await
}

/// A live session as it is in the database.
pub async fn live(pool: &PgPool, id: Uuid) -> Result<Option<LiveSession>, sqlx::Error> {
    let row = sqlx::query(
        "select tenant_id, user_id, device_id, asset_id, content_id, max_height, last_heartbeat_at, expires_at, position_seconds,
           is_paused, urls_expire_at from stream_sessions where id = $1",
    )
    .bind(id)
    .fetch_optional(pool)
    .await?;
    row.map(|row| {
        Ok(LiveSession {
            id,
            tenant: row.try_get("tenant_id")?,
            user_id: row.try_get("user_id")?,
            device_id: row.try_get("device_id")?,
            asset_id: row.try_get("asset_id")?,
            content_id: row.try_get("content_id")?,
            height_max: row.try_get("max_height")?,
            last_beat: row.try_get("last_heartbeat_at")?,
            expires_at: row.try_get("expires_at")?,
            position_s: row.try_get("position_seconds")?,
            is_paused: row.try_get("is_paused")?,
            urls_expire_at: row.try_get("urls_expire_at")?,
            unwritten: false,
        })
    })
    .transpose()
}

/// Whose a session was and why it ended.
pub async fn ended(pool: &PgPool, id: Uuid) -> Result<Option<(Uuid, String)>, sqlx::Error> {
    sqlx::query_as("select user_id, end_reason from stream_session_log where id = $1")
        .bind(id)
        .fetch_optional(pool)
        .await
}

/// Writes beats; sessions that ended meanwhile are not revived. Those that still live.
pub async fn write_beats(pool: &PgPool, beats: &[Beat]) -> Result<Vec<Uuid>, sqlx::Error> {
    let ids: Vec<Uuid> = beats.iter().map(|beat| beat.id).collect();
    let at: Vec<DateTime<Utc>> = beats.iter().map(|beat| beat.at).collect();
    let ends: Vec<DateTime<Utc>> = beats.iter().map(|beat| beat.expires_at).collect();
    let urls: Vec<DateTime<Utc>> = beats.iter().map(|beat| beat.urls_expire_at).collect();
    let positions: Vec<f64> = beats.iter().map(|beat| beat.position_s).collect();
    let paused: Vec<bool> = beats.iter().map(|beat| beat.is_paused).collect();
    sqlx::query_scalar(
        "update stream_sessions s set last_heartbeat_at = greatest(s.last_heartbeat_at, b.at),
           expires_at = greatest(s.expires_at, b.expires_at), urls_expire_at = greatest(s.urls_expire_at, b.urls),
           position_seconds = b.position, is_paused = b.paused
         from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::float8[], $6::boolean[])
           as b (id, at, expires_at, urls, position, paused)
         where s.id = b.id returning s.id",
    )
    .bind(&ids)
    .bind(&at)
    .bind(&ends)
    .bind(&urls)
    .bind(&positions)
    .bind(&paused)
    .fetch_all(pool)
    .await
}

/// Ends sessions that were silent for too long. One node at a time does so; none if another does.
pub async fn sweep(pool: &PgPool, now: DateTime<Utc>, grace_s: i32) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    if !is_ours(&mut transaction).await? {
        return Ok(Vec::new());
    }
    let late = sqlx::query_scalar("select id from stream_sessions where expires_at < $1 - make_interval(secs => $2)")
        .bind(now)
        .bind(grace_s)
        .fetch_all(&mut *transaction)
        .await?;
    end_and_commit(transaction, late, "timeout", now).await
}

/// Ends sessions of titles whose window ended after `since` and is over (PL-3). One node at a time does so; none if another
/// does. Most of the time there is no such title, and the sessions are not looked at.
pub async fn close_windows(
    pool: &PgPool,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
    let closed: Vec<Uuid> =
        sqlx::query_scalar("select content_id from playables where available_until > $1 and available_until <= $2")
            .bind(since)
            .bind(now)
            .fetch_all(pool)
            .await?;
    if closed.is_empty() {
        return Ok(Vec::new());
    }
    let mut transaction = pool.begin().await?;
    if !is_ours(&mut transaction).await? {
        return Ok(Vec::new());
    }
    let late = sqlx::query_scalar("select id from stream_sessions where content_id = any ($1)")
        .bind(closed)
        .fetch_all(&mut *transaction)
        .await?;
    end_and_commit(transaction, late, "window_closed", now).await
}

/// Whether it is this node that ends sessions now.
async fn is_ours(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_xact_lock(7402112)")
        .fetch_one(connection)
        .await
}

async fn end_and_commit(
    mut transaction: Transaction<'_, Postgres>,
    ids: Vec<Uuid>,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
    let ended = match ids.is_empty() {
        true => Vec::new(),
        false => end(&mut transaction, &ids, reason, now).await?,
    };
    transaction.commit().await?;
    Ok(ended)
}

/// A session as its owner sees it.
#[derive(Clone, Debug, serde::Serialize, sqlx::FromRow)]
pub struct Shown {
    /// Which.
    pub session_id: Uuid,
    /// What kind.
    pub kind: String,
    /// Type of what plays.
    pub content_type: String,
    /// What plays.
    pub content_id: Uuid,
    /// Its title.
    pub title: String,
    /// Where.
    pub device_id: Uuid,
    /// Its name.
    pub device_name: Option<String>,
    /// For whom.
    pub profile_id: Option<Uuid>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it was last heard of.
    pub last_heartbeat_at: DateTime<Utc>,
    /// How far it is.
    pub position_seconds: f64,
    /// Whether it is paused.
    pub is_paused: bool,
    /// When it ends without a beat.
    pub session_expires_at: DateTime<Utc>,
}

/// Live sessions of an account, as they are shown.
pub async fn list(connection: &mut PgConnection, tenant: TenantId, user: Uuid) -> Result<Vec<Shown>, sqlx::Error> {
    sqlx::query_as(
        "select s.id as session_id, s.kind, s.content_type, s.content_id, s.title, s.device_id, d.name as device_name,
           s.profile_id, s.started_at, s.last_heartbeat_at, s.position_seconds, s.is_paused, s.expires_at as session_expires_at
         from stream_sessions s left join devices d on d.id = s.device_id
         where s.tenant_id = $1 and s.user_id = $2 order by s.started_at, s.id",
    )
    .bind(tenant.0)
    .bind(user)
    .fetch_all(connection)
    .await
}

/// Sessions that ended and whose URLs might still open something.
pub async fn revoked(pool: &PgPool, now: DateTime<Utc>) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select id from stream_session_log where ended_at > $1 - interval '5 hours' and urls_expire_at > $1 order by id")
        .bind(now)
        .fetch_all(pool)
        .await
}

/// Plans on offer of this tier or higher.
pub async fn plans_from(connection: &mut PgConnection, tenant: TenantId, tier: i32) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select id from plans where tenant_id = $1 and is_active and tier >= $2 order by sort_order, price, id",
    )
    .bind(tenant.0)
    .bind(tier)
    .fetch_all(connection)
    .await
}
