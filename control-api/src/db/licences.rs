//! Rows of licences, and the sessions that they are for.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::call::TenantId;

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

/// Sessions of an account that play this title, the youngest first; one of them where `session` names it.
pub async fn playing(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: Uuid,
    content: Uuid,
    session: Option<Uuid>,
    alive_after: DateTime<Utc>,
) -> Result<Vec<Playing>, sqlx::Error> {
    let rows = sqlx::query(
        "select id, device_id, asset_id, max_height from stream_sessions
         where tenant_id = $1 and user_id = $2 and content_id = $3 and ($4::uuid is null or id = $4) and expires_at > $5
         order by started_at desc, id desc",
    )
    .bind(tenant.0)
    .bind(user)
    .bind(content)
    .bind(session)
    .bind(alive_after)
    .fetch_all(connection)
    .await?;
    let playing = rows.iter().map(|row| {
        Ok(Playing {
            session: row.try_get(0)?,
            device: row.try_get(1)?,
            asset: row.try_get(2)?,
            height_max: row.try_get(3)?,
        })
    });
    playing.collect()
}

/// A licence that was made and is about to be given out.
#[derive(Clone, Debug)]
pub struct NewLicence<'a> {
    /// Its id.
    pub id: Uuid,
    /// For which session.
    pub session: Uuid,
    /// To whom.
    pub user: Uuid,
    /// On which device.
    pub device: Uuid,
    /// Of what.
    pub content: Uuid,
    /// Of which system.
    pub system: &'a str,
    /// When.
    pub at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// Writes one down, unless its session has ended meanwhile. Whether it was.
pub async fn insert(
    connection: &mut PgConnection,
    tenant: TenantId,
    licence: &NewLicence<'_>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "insert into drm_licences (id, tenant_id, session_id, user_id, device_id, content_id, drm_system, issued_at,
           expires_at)
         select $1, $2, s.id, $4, $5, $6, $7, $8, $9 from stream_sessions s where s.id = $3 for key share",
    )
    .bind(licence.id)
    .bind(tenant.0)
    .bind(licence.session)
    .bind(licence.user)
    .bind(licence.device)
    .bind(licence.content)
    .bind(licence.system)
    .bind(licence.at)
    .bind(licence.expires_at)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}
