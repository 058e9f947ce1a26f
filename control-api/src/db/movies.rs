//! Rows of movies, with their genres, cast and country rule.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

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

/// From where somebody looks.
#[derive(Clone, Debug)]
pub struct Place {
    /// Country, where it is known.
    pub country: Option<String>,
    /// Whether unknown ones count as blocked.
    pub unknown_blocked: bool,
}

pub(super) fn push_geo(query: &mut QueryBuilder<Postgres>, place: Option<&Place>) {
    match place {
        None => {
            query.push("true");
        }
        Some(place) => {
            query
                .push("geo_allows(t.id, null, ")
                .push_bind(place.country.clone())
                .push(", ");
            query.push_bind(place.unknown_blocked).push(")");
        }
    }
}

/// How a movie is named.
#[derive(Clone, Debug)]
pub enum Name {
    /// By id.
    Id(Uuid),
    /// By slug.
    Slug(String),
}

/// One movie, seen from `place`; from nowhere in particular without. `lock` keeps others from changing it.
pub async fn get(
    connection: &mut PgConnection,
    tenant: TenantId,
    name: &Name,
    place: Option<&Place>,
    lock: Lock,
) -> Result<Option<Movie>, sqlx::Error> {
    let mut query = QueryBuilder::new(format!("select {COLUMNS}, "));
    push_geo(&mut query, place);
    query
        .push(" as geo_allowed from movies t where t.tenant_id = ")
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

/// Whether a row is read to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// It is not.
    Read,
    /// It is.
    Change,
}

/// Which movies are asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// State.
    pub status: Option<String>,
    /// Slug of a genre.
    pub genre: Option<String>,
    /// Year.
    pub release_year: Option<i32>,
    /// Rating.
    pub content_rating: Option<String>,
    /// Spoken language.
    pub language: Option<String>,
    /// Who is in it.
    pub cast_id: Option<Uuid>,
    /// Whether it is premium.
    pub is_premium: Option<bool>,
    /// Words.
    pub q: Option<String>,
    /// What viewers see alone: now, from where, for which ages.
    pub viewer: Option<Viewer>,
}

/// Who looks at the catalogue.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// When.
    pub now: DateTime<Utc>,
    /// From where.
    pub place: Place,
    /// Ratings that they see; all without. Titles without a rating are for grown-ups.
    pub ratings: Option<Vec<String>>,
}

fn push_filter(query: &mut QueryBuilder<Postgres>, tenant: TenantId, filter: &Filter) {
    query.push(" from movies t where t.tenant_id = ").push_bind(tenant.0);
    if let Some(status) = &filter.status {
        query.push(" and t.status = ").push_bind(status.clone());
    }
    if let Some(genre) = &filter.genre {
        query.push(" and exists (select 1 from content_genres c join genres g on g.id = c.genre_id where c.content_id = t.id and g.slug = ");
        query.push_bind(genre.clone()).push(")");
    }
    if let Some(year) = filter.release_year {
        query.push(" and t.release_year = ").push_bind(year);
    }
    if let Some(rating) = &filter.content_rating {
        query.push(" and t.content_rating = ").push_bind(rating.clone());
    }
    if let Some(language) = &filter.language {
        query
            .push(" and t.audio_languages @> array[")
            .push_bind(language.clone())
            .push("]");
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
        query.push(" and t.status = 'published' and (t.available_from is null or t.available_from <= ");
        query
            .push_bind(viewer.now)
            .push(") and (t.available_until is null or t.available_until > ");
        query.push_bind(viewer.now).push(") and ");
        push_geo(query, Some(&viewer.place));
        if let Some(ratings) = &viewer.ratings {
            query
                .push(" and t.content_rating = any (")
                .push_bind(ratings.clone())
                .push(")");
        }
    }
}

/// A page of movies, and how many there are where that is asked.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    filter: &Filter,
    page: &PageRequest,
) -> Result<(Vec<(Movie, String, Uuid)>, Option<i64>), sqlx::Error> {
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
    sqlx::query_scalar("select slug from movies where tenant_id = $1 and (slug = $2 or starts_with(slug, $2 || '-'))")
        .bind(tenant.0)
        .bind(slug)
        .fetch_all(connection)
        .await
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

/// Sets the genres of a title; those that are not known.
pub async fn set_genres(
    connection: &mut PgConnection,
    tenant: TenantId,
    content: Uuid,
    content_type: &str,
    slugs: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    // Key-shared, so that none of them is deleted meanwhile.
    let known: Vec<(Uuid, String)> =
        sqlx::query_as("select id, slug from genres where tenant_id = $1 and slug = any ($2) for key share")
            .bind(tenant.0)
            .bind(slugs)
            .fetch_all(&mut *connection)
            .await?;
    let unknown: Vec<String> = slugs
        .iter()
        .filter(|slug| !known.iter().any(|(_, known)| known == *slug))
        .cloned()
        .collect();
    if !unknown.is_empty() {
        return Ok(unknown);
    }
    sqlx::query("delete from content_genres where content_id = $1")
        .bind(content)
        .execute(&mut *connection)
        .await?;
    for (position, slug) in (0_i32..).zip(slugs) {
        let Some((id, _)) = known.iter().find(|(_, known)| known == slug) else {
            continue;
        };
        sqlx::query("insert into content_genres (content_id, content_type, genre_id, position) values ($1, $2, $3, $4) on conflict do nothing")
            .bind(content)
            .bind(content_type)
            .bind(id)
            .bind(position)
            .execute(&mut *connection)
            .await?;
    }
    Ok(unknown)
}

/// Sets the cast of a title, in order.
pub async fn set_cast(
    connection: &mut PgConnection,
    tenant: TenantId,
    content: Uuid,
    content_type: &str,
    cast: &[Value],
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from content_cast where content_id = $1")
        .bind(content)
        .execute(&mut *connection)
        .await?;
    for (position, member) in (0_i32..).zip(cast) {
        let text = |name: &str| member.get(name).and_then(Value::as_str);
        let person: Uuid = sqlx::query_scalar(
            "insert into people as p (id, tenant_id, name, image_url) values ($1, $2, $3, $4)
             on conflict (tenant_id, lower(name)) do update set image_url = coalesce(excluded.image_url, p.image_url)
             returning id",
        )
        .bind(Uuid::now_v7())
        .bind(tenant.0)
        .bind(text("name"))
        .bind(text("image_url"))
        .fetch_one(&mut *connection)
        .await?;
        sqlx::query("insert into content_cast (content_id, content_type, position, person_id, role, character) values ($1, $2, $3, $4, $5, $6)")
            .bind(content)
            .bind(content_type)
            .bind(position)
            .bind(person)
            .bind(text("role"))
            .bind(text("character"))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Attaches a title to one country rule or none; whether the rule is known.
pub async fn set_geo(
    connection: &mut PgConnection,
    tenant: TenantId,
    content: Uuid,
    rule: Option<Uuid>,
) -> Result<bool, sqlx::Error> {
    sqlx::query("delete from geo_rule_targets where content_id = $1")
        .bind(content)
        .execute(&mut *connection)
        .await?;
    let Some(rule) = rule else { return Ok(true) };
    let done = sqlx::query("insert into geo_rule_targets (rule_id, content_id) select id, $3 from geo_rules where tenant_id = $1 and id = $2")
        .bind(tenant.0)
        .bind(rule)
        .bind(content)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
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

/// Takes from a title all that hangs on it; its assets are detached, or deleted with it (DL-11).
pub async fn detach(connection: &mut PgConnection, title: Uuid, assets: AssetFate) -> Result<(), sqlx::Error> {
    for sql in [
        "delete from content_genres where content_id = $1",
        "delete from content_cast where content_id = $1",
        "delete from geo_rule_targets where content_id = $1",
        match assets {
            AssetFate::Deleted => {
                "with gone as (delete from assets where target_id = $1 returning id, owner_id, size_bytes, source_blob),
                   ladders as (insert into removed_media (id, kind) select id, 'ladder' from gone on conflict do nothing),
                   freed as (
                     update users u set storage_used_bytes = greatest(0, storage_used_bytes - g.size_bytes)
                     from (select owner_id, sum(size_bytes)::bigint as size_bytes from gone group by owner_id) g
                     where u.id = g.owner_id and g.size_bytes is not null
                   )
                 update blobs b set ref_count = b.ref_count - g.count
                 from (select source_blob, count(*)::integer as count from gone group by source_blob) g
                 where b.id = g.source_blob"
            }
            AssetFate::Kept => "update assets set target_id = null, target_type = null where target_id = $1",
        },
    ] {
        sqlx::query(sql).bind(title).execute(&mut *connection).await?;
    }
    Ok(())
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

/// What becomes of a deleted title's assets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssetFate {
    /// They stay in the library.
    Kept,
    /// They go with it.
    Deleted,
}

/// Movies whose time has come.
pub async fn due(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
    sqlx::query_as("select tenant_id, id from movies where status = 'scheduled' and available_from <= $1 order by available_from limit 100")
        .bind(now)
        .fetch_all(connection)
        .await
}

/// What a viewer is covered for, and their profile: read at once for lists.
pub async fn coverage(
    connection: &mut PgConnection,
    user: Uuid,
    profile: Option<Uuid>,
) -> Result<Coverage, sqlx::Error> {
    let row = sqlx::query(
        "select s.status, s.current_period_end, p.tier, pr.id as profile, pr.is_kids, pr.max_content_rating
         from (select 1) one
         left join subscriptions s on s.user_id = $1 and s.status in ('active', 'trialing', 'past_due')
         left join plans p on p.id = s.plan_id
         left join profiles pr on pr.user_id = $1 and (pr.id = $2 or ($2 is null and pr.is_default))",
    )
    .bind(user)
    .bind(profile)
    .fetch_one(connection)
    .await?;
    Ok(Coverage {
        status: row.try_get(0)?,
        period_end: row.try_get(1)?,
        tier: row.try_get(2)?,
        profile: row.try_get(3)?,
        is_kids: row.try_get(4)?,
        max_content_rating: row.try_get(5)?,
    })
}

/// What a viewer is covered for, and their profile.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// Of the subscription.
    pub status: Option<String>,
    /// When its paid period ends.
    pub period_end: Option<DateTime<Utc>>,
    /// Of its plan.
    pub tier: Option<i32>,
    /// The profile, if it is theirs.
    pub profile: Option<Uuid>,
    /// Whether it is a child's.
    pub is_kids: Option<bool>,
    /// The highest rating that it sees.
    pub max_content_rating: Option<String>,
}
