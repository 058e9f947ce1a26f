//! Rows of licences, and the sessions that they are for.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::call::TenantId;
use crate::work::Actor;

/// A session that plays a title now.
#[derive(Clone, Debug)]
pub struct Playing {
    /// Which.
    pub session: Uuid,
    /// On which device.
    pub device: Uuid,
    /// What plays.
    pub asset: Uuid,
    /// Highest picture.
    pub height_max: Option<i32>,
}

/// Whose sessions of which title are meant.
#[derive(Clone, Debug)]
pub struct Sought {
    /// Whose rows.
    pub tenant: TenantId,
    /// Who.
    pub user: Uuid,
    /// What plays.
    pub content: Uuid,
    /// Of which type that is.
    pub content_type: String,
    /// This one alone.
    pub session: Option<Uuid>,
    /// Heard of so that they end later than this.
    pub alive_after: DateTime<Utc>,
}

/// Sessions that are sought, the youngest first, for each that seeks in its place.
pub async fn playing(connection: &mut PgConnection, sought: &[Sought]) -> Result<Vec<Vec<Playing>>, sqlx::Error> {
    let ids = |of: fn(&Sought) -> Uuid| sought.iter().map(of).collect::<Vec<Uuid>>();
    let rows = sqlx::query(
        "select q.place, s.id, s.device_id, s.asset_id, s.max_height
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::text[])
           with ordinality as q (tenant, asking, content, session, alive_after, content_type, place)
         join stream_sessions s on s.user_id = q.asking and s.tenant_id = q.tenant and s.content_id = q.content
           and s.content_type = q.content_type
           and (q.session is null or s.id = q.session) and s.expires_at > q.alive_after
         order by q.place, s.started_at desc, s.id desc",
    )
    .bind(ids(|sought| sought.tenant.0))
    .bind(ids(|sought| sought.user))
    .bind(ids(|sought| sought.content))
    .bind(sought.iter().map(|sought| sought.session).collect::<Vec<_>>())
    .bind(sought.iter().map(|sought| sought.alive_after).collect::<Vec<_>>())
    .bind(
        sought
            .iter()
            .map(|sought| sought.content_type.as_str())
            .collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await?;
    let mut found = vec![Vec::new(); sought.len()];
    for row in &rows {
        let place = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
        if let Some(of) = place.checked_sub(1).and_then(|at| found.get_mut(at)) {
            of.push(Playing {
                session: row.try_get(1)?,
                device: row.try_get(2)?,
                asset: row.try_get(3)?,
                height_max: row.try_get(4)?,
            });
        }
    }
    Ok(found)
}

/// A licence that was made and is about to be given out.
#[derive(Clone, Debug)]
pub struct NewLicence {
    /// Its id.
    pub id: Uuid,
    /// Whose rows.
    pub tenant: TenantId,
    /// To whom.
    pub user: Uuid,
    /// For which session.
    pub playing: Playing,
    /// Of what.
    pub content: Uuid,
    /// Its session was heard of so that it ends later than this.
    pub alive_after: DateTime<Utc>,
    /// Of which type that is.
    pub content_type: String,
    /// Of which system.
    pub system: &'static str,
    /// When.
    pub at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// Who asked, for the audit log.
    pub actor: Actor,
}

/// Writes licences down, each with its row of the audit log (DR-6), if its session lives and is what it was taken for (DR-2,
/// DR-3). Whether it was, for each in its place. One statement, one transaction.
pub async fn insert(connection: &mut PgConnection, licences: &[NewLicence]) -> Result<Vec<bool>, sqlx::Error> {
    let ids = |of: fn(&NewLicence) -> Uuid| licences.iter().map(of).collect::<Vec<Uuid>>();
    let metadata = licences.iter().map(|licence| {
        serde_json::json!({
            "licence_id": licence.id, "session_id": licence.playing.session, "device_id": licence.playing.device,
            "drm_system": licence.system, "expires_at": licence.expires_at,
        })
    });
    let given: Vec<Uuid> = sqlx::query_scalar(
        "with asked as (
           select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[],
             $8::timestamptz[], $9::timestamptz[], $10::uuid[], $11::text[], $12::uuid[], $13::text[], $14::text[],
             $15::text[], $16::uuid[], $17::jsonb[], $18::uuid[], $19::integer[], $20::timestamptz[])
             as q (id, tenant, session, asking, device, content, system, at, ends, log_id, content_type, actor, role, ip,
               agent, request, metadata, asset, height_max, alive_after)
         ), given as (
           insert into drm_licences (id, tenant_id, session_id, user_id, device_id, content_id, drm_system, issued_at,
             expires_at)
           select q.id, q.tenant, s.id, q.asking, q.device, q.content, q.system, q.at, q.ends
           from asked q join stream_sessions s on s.id = q.session and s.tenant_id = q.tenant and s.user_id = q.asking
             and s.device_id = q.device and s.content_id = q.content and s.content_type = q.content_type
             and s.asset_id = q.asset
             and s.max_height is not distinct from q.height_max and s.expires_at > q.alive_after
           returning id
         ), logged as (
           insert into audit_log (id, tenant_id, action, actor_id, actor_role, resource_type, resource_id, ip_address,
             user_agent, request_id, metadata, created_at)
           select q.log_id, q.tenant, 'drm.license_issued', q.actor, q.role, q.content_type, q.content, q.ip, q.agent,
             q.request, q.metadata, q.at
           from asked q join given g on g.id = q.id
         )
         select id from given",
    )
    .bind(ids(|licence| licence.id))
    .bind(ids(|licence| licence.tenant.0))
    .bind(ids(|licence| licence.playing.session))
    .bind(ids(|licence| licence.user))
    .bind(ids(|licence| licence.playing.device))
    .bind(ids(|licence| licence.content))
    .bind(licences.iter().map(|licence| licence.system).collect::<Vec<_>>())
    .bind(licences.iter().map(|licence| licence.at).collect::<Vec<_>>())
    .bind(licences.iter().map(|licence| licence.expires_at).collect::<Vec<_>>())
    .bind(ids(|_| Uuid::now_v7()))
    .bind(licences.iter().map(|licence| licence.content_type.as_str()).collect::<Vec<_>>())
    .bind(licences.iter().map(|licence| licence.actor.id).collect::<Vec<_>>())
    .bind(licences.iter().map(|licence| licence.actor.role).collect::<Vec<_>>())
    .bind(licences.iter().map(|licence| licence.actor.ip.as_deref()).collect::<Vec<_>>())
    .bind(licences.iter().map(|licence| licence.actor.user_agent.as_deref()).collect::<Vec<_>>())
    .bind(licences.iter().map(|licence| licence.actor.request_id).collect::<Vec<_>>())
    .bind(metadata.collect::<Vec<_>>())
    .bind(ids(|licence| licence.playing.asset))
    .bind(licences.iter().map(|licence| licence.playing.height_max).collect::<Vec<_>>())
    .bind(licences.iter().map(|licence| licence.alive_after).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(licences.iter().map(|licence| given.contains(&licence.id)).collect())
}
