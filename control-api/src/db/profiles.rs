//! Rows of profiles and devices: what an account has a limited number of.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::call::TenantId;
use crate::config::DefaultLimits;

/// What an account may have, by its plan or by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Limits {
    /// Devices.
    pub max_devices: i32,
    /// Profiles.
    pub max_profiles: i32,
    /// Streams at once.
    pub max_concurrent_streams: i32,
    /// Requests a minute of its API keys, where the plan says so.
    pub rate_limit_per_minute: Option<i32>,
}

/// The limits of an account.
pub async fn limits(connection: &mut PgConnection, user: Uuid, default: &DefaultLimits) -> Result<Limits, sqlx::Error> {
    let row: Option<(i32, i32, i32, Option<i32>)> = sqlx::query_as(
        "select p.max_devices, p.max_profiles, p.max_concurrent_streams, p.rate_limit_per_minute
         from subscriptions s join plans p on p.id = s.plan_id
         where s.user_id = $1 and s.status in ('active', 'trialing', 'past_due')",
    )
    .bind(user)
    .fetch_optional(connection)
    .await?;
    let (max_devices, max_profiles, max_concurrent_streams, rate_limit_per_minute) = row.unwrap_or((
        default.max_devices,
        default.max_profiles,
        default.max_concurrent_streams,
        None,
    ));
    Ok(Limits {
        max_devices,
        max_profiles,
        max_concurrent_streams,
        rate_limit_per_minute,
    })
}

/// A profile.
#[derive(Clone, Debug, serde::Serialize, sqlx::FromRow)]
pub struct Profile {
    /// Which.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its picture.
    pub avatar_url: Option<String>,
    /// Whether it is a child's.
    pub is_kids: bool,
    /// The highest rating that it sees.
    pub max_content_rating: Option<String>,
    /// Its language.
    pub language: Option<String>,
    /// Whether it counts where none is named.
    pub is_default: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    pub updated_at: DateTime<Utc>,
    /// Of the row.
    #[serde(skip)]
    pub row_version: i64,
}

const PROFILE: &str =
    "id, name, avatar_url, is_kids, max_content_rating, language, is_default, created_at, updated_at, row_version";

fn profiles(end: &str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!(
        "select {PROFILE} from profiles where tenant_id = $1 and user_id = $2 {end}"
    ))
}

/// All profiles of an account.
pub async fn list(connection: &mut PgConnection, tenant: TenantId, user: Uuid) -> Result<Vec<Profile>, sqlx::Error> {
    sqlx::query_as(profiles("order by is_default desc, created_at, id"))
        .bind(tenant.0)
        .bind(user)
        .fetch_all(connection)
        .await
}

/// One profile of an account; the default one without an id.
pub async fn get(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: Uuid,
    id: Option<Uuid>,
) -> Result<Option<Profile>, sqlx::Error> {
    sqlx::query_as(profiles("and (id = $3 or ($3 is null and is_default)) for share"))
        .bind(tenant.0)
        .bind(user)
        .bind(id)
        .fetch_optional(connection)
        .await
}

/// Lets one request at a time count what an account has, until the transaction ends.
pub async fn lock_account(connection: &mut PgConnection, user: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("select 1 from users where id = $1 for update")
        .bind(user)
        .execute(connection)
        .await?;
    Ok(())
}

/// Stores a profile. The constraint `profiles_name` says that its name is taken.
pub async fn insert(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: Uuid,
    profile: &Profile,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into profiles (id, tenant_id, user_id, name, avatar_url, is_kids, max_content_rating, language, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
    )
    .bind(profile.id)
    .bind(tenant.0)
    .bind(user)
    .bind(&profile.name)
    .bind(&profile.avatar_url)
    .bind(profile.is_kids)
    .bind(&profile.max_content_rating)
    .bind(&profile.language)
    .bind(profile.created_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes a profile's writable fields.
pub async fn update(connection: &mut PgConnection, tenant: TenantId, profile: &Profile) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update profiles set name = $3, avatar_url = $4, is_kids = $5, max_content_rating = $6, language = $7
         where tenant_id = $1 and id = $2",
    )
    .bind(tenant.0)
    .bind(profile.id)
    .bind(&profile.name)
    .bind(&profile.avatar_url)
    .bind(profile.is_kids)
    .bind(&profile.max_content_rating)
    .bind(&profile.language)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes a profile and what is its own.
pub async fn delete(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("delete from profiles where tenant_id = $1 and id = $2")
        .bind(tenant.0)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}
