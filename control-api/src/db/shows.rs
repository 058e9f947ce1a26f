//! Rows of shows.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::titles::{self, Name, Place, Table};
use super::{Lock, Rows};
use crate::call::TenantId;
use crate::page::PageRequest;

/// A show as it is stored.
#[derive(Clone, Debug, serde::Serialize, sqlx::FromRow)]
pub struct Show {
    /// Which.
    pub id: Uuid,
    /// Its title.
    pub title: String,
    /// Where it was made.
    pub original_title: Option<String>,
    /// Its name in addresses.
    pub slug: String,
    /// What it is about.
    pub synopsis: Option<String>,
    /// For whom.
    pub content_rating: Option<String>,
    /// Slugs of its genres.
    pub genres: Vec<String>,
    /// Countries.
    pub country_of_origin: Vec<String>,
    /// Who shows it first.
    pub network: Option<String>,
    /// Spoken.
    pub language: Option<String>,
    /// When its first episode was shown.
    pub first_air_date: Option<NaiveDate>,
    /// When its last one was.
    pub last_air_date: Option<NaiveDate>,
    /// Seasons that the asker sees.
    pub total_seasons: i64,
    /// Episodes that the asker sees.
    pub total_episodes: i64,
    /// Who is in it, by billing order.
    #[sqlx(rename = "cast_members")]
    #[serde(rename = "cast")]
    pub cast: Value,
    /// Pictures.
    pub images: Value,
    /// Average of ratings.
    pub average_rating: f64,
    /// How many there are.
    pub rating_count: i32,
    /// Somebody else's rating.
    pub imdb_rating: Option<f64>,
    /// Whether it needs a premium plan.
    pub is_premium: bool,
    /// What is shown of the two facts below (PB-7).
    pub status: String,
    /// Whether it is published.
    #[serde(skip)]
    pub published: bool,
    /// `ongoing`, `ended`, `canceled`.
    #[serde(skip)]
    pub airing: Option<String>,
    /// Where it may be seen.
    pub geo_restrictions: Option<Value>,
    /// Whether it plays with a licence alone.
    pub drm_required: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    pub updated_at: DateTime<Utc>,
    /// When it was published last.
    pub published_at: Option<DateTime<Utc>>,
    /// How often it was seen.
    pub view_count: i64,
    /// How long licences last; for admins.
    #[serde(skip)]
    pub license_duration_seconds: Option<i32>,
    /// Whether a country may see it.
    #[serde(skip)]
    pub geo_allowed: bool,
    /// Of the row.
    #[serde(skip)]
    pub row_version: i64,
}

/// Columns of [`Show`], save whether a country may see it.
const COLUMNS: &str = "t.id, t.title, t.original_title, t.slug, t.synopsis, t.content_rating,
  array(select g.slug from content_genres c join genres g on g.id = c.genre_id where c.content_id = t.id
        order by c.position, g.slug) as genres,
  t.country_of_origin, t.network, t.language, t.first_air_date, t.last_air_date,
  0::bigint as total_seasons, 0::bigint as total_episodes,
  coalesce((select jsonb_agg(jsonb_build_object('id', p.id, 'name', p.name, 'role', c.role, 'character', c.character,
              'image_url', p.image_url) order by c.position)
            from content_cast c join people p on p.id = c.person_id where c.content_id = t.id), '[]'::jsonb) as cast_members,
  t.images, t.average_rating::float8 as average_rating, t.rating_count, t.imdb_rating::float8 as imdb_rating, t.is_premium,
  case when t.published then coalesce(t.airing, 'published') else 'draft' end as status, t.published, t.airing,
  (select jsonb_build_object('rule_id', g.id, 'policy', g.policy, 'territories', g.territories)
   from geo_rule_targets x join geo_rules g on g.id = x.rule_id where x.content_id = t.id order by g.id limit 1)
    as geo_restrictions,
  t.drm_required, t.created_at, t.updated_at, t.published_at, t.view_count, t.license_duration_seconds, t.row_version";

/// The table of shows.
pub const SHOWS: Table = Table {
    name: "shows",
    columns: COLUMNS,
};

/// Which shows are asked for, beside what is asked of any title.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// What is asked of any title.
    pub title: titles::Filter,
    /// What is shown of their state.
    pub status: Option<String>,
}

impl Filter {
    fn push(&self, query: &mut QueryBuilder<Postgres>) {
        if let Some(status) = &self.status {
            query.push(" and case when t.published then coalesce(t.airing, 'published') else 'draft' end = ");
            query.push_bind(status.clone());
        }
        if self.title.viewer.is_some() {
            query.push(" and t.published");
        }
    }
}

/// One show, seen from `place`; from nowhere in particular without. `lock` keeps others from changing it.
pub async fn get(
    connection: &mut PgConnection,
    tenant: TenantId,
    name: &Name,
    place: Option<&Place>,
    lock: Lock,
) -> Result<Option<Show>, sqlx::Error> {
    SHOWS.get(connection, tenant, name, place, lock).await
}

/// A page of shows, and how many there are where that is asked.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    filter: &Filter,
    page: &PageRequest,
) -> Result<Rows<Show>, sqlx::Error> {
    let own = |query: &mut QueryBuilder<Postgres>| filter.push(query);
    SHOWS.list(connection, tenant, &filter.title, page, own).await
}

/// Stores a new show. The constraint `shows_slug` says that the slug is taken.
pub async fn insert(connection: &mut PgConnection, tenant: TenantId, show: &Show) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into shows (id, tenant_id, title, slug, drm_required, created_at) values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(show.id)
    .bind(tenant.0)
    .bind(&show.title)
    .bind(&show.slug)
    .bind(show.drm_required)
    .bind(show.created_at)
    .execute(&mut *connection)
    .await?;
    update(connection, tenant, show).await
}

/// Writes all fields of a show, save its slug.
pub async fn update(connection: &mut PgConnection, tenant: TenantId, show: &Show) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update shows set title = $3, original_title = $4, synopsis = $5, content_rating = $6, country_of_origin = $7,
           network = $8, language = $9, first_air_date = $10, last_air_date = $11, images = $12,
           imdb_rating = $13::float8::numeric, is_premium = $14, published = $15, airing = $16, drm_required = $17,
           license_duration_seconds = $18, published_at = $19, first_published_at = coalesce(first_published_at, $19)
         where tenant_id = $1 and id = $2",
    )
    .bind(tenant.0)
    .bind(show.id)
    .bind(&show.title)
    .bind(&show.original_title)
    .bind(&show.synopsis)
    .bind(&show.content_rating)
    .bind(&show.country_of_origin)
    .bind(&show.network)
    .bind(&show.language)
    .bind(show.first_air_date)
    .bind(show.last_air_date)
    .bind(&show.images)
    .bind(show.imdb_rating)
    .bind(show.is_premium)
    .bind(show.published)
    .bind(&show.airing)
    .bind(show.drm_required)
    .bind(show.license_duration_seconds)
    .bind(show.published_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes a show's row.
pub async fn delete(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("delete from shows where tenant_id = $1 and id = $2")
        .bind(tenant.0)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}
