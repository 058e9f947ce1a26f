//! Rows of shows, with their genres, cast and country rule.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

use super::movies::{Lock, Name, Place, Viewer, push_geo};
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

/// One show, seen from `place`; from nowhere in particular without. `lock` keeps others from changing it.
pub async fn get(
    connection: &mut PgConnection,
    tenant: TenantId,
    name: &Name,
    place: Option<&Place>,
    lock: Lock,
) -> Result<Option<Show>, sqlx::Error> {
    let mut query = QueryBuilder::new(format!("select {COLUMNS}, "));
    push_geo(&mut query, place);
    query
        .push(" as geo_allowed from shows t where t.tenant_id = ")
        .push_bind(tenant.0);
    match name {
        Name::Id(id) => query.push(" and t.id = ").push_bind(*id),
        Name::Slug(slug) => query.push(" and t.slug = ").push_bind(slug.clone()),
    };
    if lock == Lock::Change {
        query.push(" for update of t");
    }
    query.build_query_as().fetch_optional(connection).await
}

/// Which shows are asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// What is shown of their state.
    pub status: Option<String>,
    /// Slug of a genre.
    pub genre: Option<String>,
    /// Rating.
    pub content_rating: Option<String>,
    /// Who is in it.
    pub cast_id: Option<Uuid>,
    /// Whether it is premium.
    pub is_premium: Option<bool>,
    /// Words.
    pub q: Option<String>,
    /// What viewers see alone.
    pub viewer: Option<Viewer>,
}

fn push_filter(query: &mut QueryBuilder<Postgres>, tenant: TenantId, filter: &Filter) {
    query.push(" from shows t where t.tenant_id = ").push_bind(tenant.0);
    if let Some(status) = &filter.status {
        query.push(" and case when t.published then coalesce(t.airing, 'published') else 'draft' end = ");
        query.push_bind(status.clone());
    }
    if let Some(genre) = &filter.genre {
        query.push(" and exists (select 1 from content_genres c join genres g on g.id = c.genre_id where c.content_id = t.id and g.slug = ");
        query.push_bind(genre.clone()).push(")");
    }
    if let Some(rating) = &filter.content_rating {
        query.push(" and t.content_rating = ").push_bind(rating.clone());
    }
    if let Some(person) = filter.cast_id {
        query.push(" and exists (select 1 from content_cast c where c.content_id = t.id and c.person_id = ");
        query.push_bind(person).push(")");
    }
    if let Some(premium) = filter.is_premium {
        query.push(" and t.is_premium = ").push_bind(premium);
    }
    if let Some(words) = &filter.q {
        query
            .push(" and t.search @@ websearch_to_tsquery('simple', ")
            .push_bind(words.clone())
            .push(")");
    }
    if let Some(viewer) = &filter.viewer {
        query.push(" and t.published and ");
        push_geo(query, Some(&viewer.place));
        if let Some(ratings) = &viewer.ratings {
            query
                .push(" and t.content_rating = any (")
                .push_bind(ratings.clone())
                .push(")");
        }
    }
}

/// A page of shows, and how many there are where that is asked.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    filter: &Filter,
    page: &PageRequest,
) -> Result<(Vec<(Show, String, Uuid)>, Option<i64>), sqlx::Error> {
    let mut query = QueryBuilder::new(format!("select {COLUMNS}, true as geo_allowed, {}", page.key_sql()));
    push_filter(&mut query, tenant, filter);
    page.push(&mut query);
    let rows = query.build().fetch_all(&mut *connection).await?;
    let rows = rows.iter().map(super::keyed).collect::<Result<_, _>>()?;
    if !page.include_total {
        return Ok((rows, None));
    }
    let mut query = QueryBuilder::new("select count(*)");
    push_filter(&mut query, tenant, filter);
    let total = query.build().fetch_one(connection).await?.try_get(0)?;
    Ok((rows, Some(total)))
}

/// Slugs that begin like this one.
pub async fn slugs_like(
    connection: &mut PgConnection,
    tenant: TenantId,
    slug: &str,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("select slug from shows where tenant_id = $1 and (slug = $2 or starts_with(slug, $2 || '-'))")
        .bind(tenant.0)
        .bind(slug)
        .fetch_all(connection)
        .await
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
