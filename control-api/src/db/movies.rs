//! Rows of movies.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::titles::{self, AssetFate, Name, Place, Table, detach};
use super::{Lock, Rows};
use crate::call::TenantId;
use crate::page::PageRequest;

/// A movie as it is stored.
#[derive(Clone, Debug, serde::Serialize, sqlx::FromRow)]
pub struct Movie {
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
    /// In one line.
    pub tagline: Option<String>,
    /// Year.
    pub release_year: Option<i32>,
    /// Length.
    pub runtime_minutes: Option<i32>,
    /// For whom.
    pub content_rating: Option<String>,
    /// Slugs of its genres.
    pub genres: Vec<String>,
    /// Countries.
    pub country_of_origin: Vec<String>,
    /// Studio.
    pub studio: Option<String>,
    /// Spoken.
    pub audio_languages: Vec<String>,
    /// Written.
    pub subtitle_languages: Vec<String>,
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
    /// Best picture that is ready.
    pub quality: Option<String>,
    /// Whether it needs a premium plan.
    pub is_premium: bool,
    /// State.
    pub status: String,
    /// Where it may be seen.
    pub geo_restrictions: Option<Value>,
    /// Whether it plays with a licence alone.
    pub drm_required: bool,
    /// From when.
    pub available_from: Option<DateTime<Utc>>,
    /// Until when.
    pub available_until: Option<DateTime<Utc>>,
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
    /// Its assets; for admins.
    #[serde(skip)]
    pub assets: Value,
    /// Whether a country may see it.
    #[serde(skip)]
    pub geo_allowed: bool,
    /// Of the row.
    #[serde(skip)]
    pub row_version: i64,
}

/// Columns of [`Movie`]; `country` and `unknown_blocked` are bound where `geo` is pushed.
const COLUMNS: &str = "t.id, t.title, t.original_title, t.slug, t.synopsis, t.tagline, t.release_year, t.runtime_minutes,
  t.content_rating,
  array(select g.slug from content_genres c join genres g on g.id = c.genre_id where c.content_id = t.id
        order by c.position, g.slug) as genres,
  t.country_of_origin, t.studio, t.audio_languages, t.subtitle_languages,
  coalesce((select jsonb_agg(jsonb_build_object('id', p.id, 'name', p.name, 'role', c.role, 'character', c.character,
              'image_url', p.image_url) order by c.position)
            from content_cast c join people p on p.id = c.person_id where c.content_id = t.id), '[]'::jsonb) as cast_members,
  t.images, t.average_rating::float8 as average_rating, t.rating_count, t.imdb_rating::float8 as imdb_rating,
  (select case when max(r.height) > 1080 then 'UHD' when max(r.height) > 720 then 'FHD' when max(r.height) > 576 then 'HD'
            when max(r.height) is not null then 'SD' end
   from playables pl join renditions r on r.asset_id = pl.primary_asset_id and r.status = 'completed'
   where pl.content_id = t.id) as quality,
  t.is_premium, t.status,
  (select jsonb_build_object('rule_id', g.id, 'policy', g.policy, 'territories', g.territories)
   from geo_rule_targets x join geo_rules g on g.id = x.rule_id where x.content_id = t.id order by g.id limit 1)
    as geo_restrictions,
  t.drm_required, t.available_from, t.available_until, t.created_at, t.updated_at, t.published_at, t.view_count,
  t.license_duration_seconds,
  coalesce((select jsonb_agg(jsonb_build_object('asset_id', a.id, 'type', a.type, 'status', a.status) order by a.created_at, a.id)
            from assets a where a.target_id = t.id), '[]'::jsonb) as assets,
  t.row_version";

/// The table of movies.
pub const MOVIES: Table = Table {
    name: "movies",
    columns: COLUMNS,
};

/// Which movies are asked for, beside what is asked of any title.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// What is asked of any title.
    pub title: titles::Filter,
    /// State.
    pub status: Option<String>,
    /// Year.
    pub release_year: Option<i32>,
    /// Spoken language.
    pub language: Option<String>,
}

impl Filter {
    fn push(&self, query: &mut QueryBuilder<Postgres>) {
        if let Some(status) = &self.status {
            query.push(" and t.status = ").push_bind(status.clone());
        }
        if let Some(year) = self.release_year {
            query.push(" and t.release_year = ").push_bind(year);
        }
        if let Some(language) = &self.language {
            query
                .push(" and t.audio_languages @> array[")
                .push_bind(language.clone())
                .push("]");
        }
        if let Some(viewer) = &self.title.viewer {
            query.push(" and t.status = 'published' and (t.available_from is null or t.available_from <= ");
            query
                .push_bind(viewer.now)
                .push(") and (t.available_until is null or t.available_until > ");
            query.push_bind(viewer.now).push(")");
        }
    }
}

/// One movie, seen from `place`; from nowhere in particular without. `lock` keeps others from changing it.
pub async fn get(
    connection: &mut PgConnection,
    tenant: TenantId,
    name: &Name,
    place: Option<&Place>,
    lock: Lock,
) -> Result<Option<Movie>, sqlx::Error> {
    MOVIES.get(connection, tenant, name, place, lock).await
}

/// A page of movies, and how many there are where that is asked.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    filter: &Filter,
    page: &PageRequest,
) -> Result<Rows<Movie>, sqlx::Error> {
    let own = |query: &mut QueryBuilder<Postgres>| filter.push(query);
    MOVIES.list(connection, tenant, &filter.title, page, own).await
}

/// Stores a new movie. The constraint `movies_slug` says that the slug is taken.
pub async fn insert(connection: &mut PgConnection, tenant: TenantId, movie: &Movie) -> Result<(), sqlx::Error> {
    sqlx::query("insert into movies (id, tenant_id, title, slug, status, drm_required, created_at) values ($1, $2, $3, $4, 'draft', $5, $6)")
        .bind(movie.id)
        .bind(tenant.0)
        .bind(&movie.title)
        .bind(&movie.slug)
        .bind(movie.drm_required)
        .bind(movie.created_at)
        .execute(&mut *connection)
        .await?;
    update(connection, tenant, movie).await
}

/// Writes all fields of a movie, save its slug.
pub async fn update(connection: &mut PgConnection, tenant: TenantId, movie: &Movie) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update movies set title = $3, original_title = $4, synopsis = $5, tagline = $6, release_year = $7,
           runtime_minutes = $8, content_rating = $9, country_of_origin = $10, studio = $11, audio_languages = $12,
           subtitle_languages = $13, images = $14, imdb_rating = $15::float8::numeric, is_premium = $16, status = $17,
           drm_required = $18, available_from = $19, available_until = $20, license_duration_seconds = $21,
           published_at = $22, first_published_at = coalesce(first_published_at, $22)
         where tenant_id = $1 and id = $2",
    )
    .bind(tenant.0)
    .bind(movie.id)
    .bind(&movie.title)
    .bind(&movie.original_title)
    .bind(&movie.synopsis)
    .bind(&movie.tagline)
    .bind(movie.release_year)
    .bind(movie.runtime_minutes)
    .bind(&movie.content_rating)
    .bind(&movie.country_of_origin)
    .bind(&movie.studio)
    .bind(&movie.audio_languages)
    .bind(&movie.subtitle_languages)
    .bind(&movie.images)
    .bind(movie.imdb_rating)
    .bind(movie.is_premium)
    .bind(&movie.status)
    .bind(movie.drm_required)
    .bind(movie.available_from)
    .bind(movie.available_until)
    .bind(movie.license_duration_seconds)
    .bind(movie.published_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether a video is attached that did not fail, and whether one plays.
pub async fn videos(connection: &mut PgConnection, content: Uuid) -> Result<(bool, bool), sqlx::Error> {
    sqlx::query_as(
        "select coalesce(bool_or(status <> 'failed'), false), coalesce(bool_or(playable), false)
         from assets where target_id = $1 and type = 'video_master'",
    )
    .bind(content)
    .fetch_one(connection)
    .await
}

/// Deletes a movie; its assets are detached, or deleted with it.
pub async fn delete(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: Uuid,
    with_assets: AssetFate,
) -> Result<(), sqlx::Error> {
    detach(connection, id, with_assets).await?;
    sqlx::query("delete from movies where tenant_id = $1 and id = $2")
        .bind(tenant.0)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Movies whose time has come.
pub async fn due(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
    sqlx::query_as("select tenant_id, id from movies where status = 'scheduled' and available_from <= $1 order by available_from limit 100")
        .bind(now)
        .fetch_all(connection)
        .await
}
