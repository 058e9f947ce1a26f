//! Movies as their authors make them: drafts, publishing, deletion (PB, DL).

use std::sync::Arc;

use chrono::DateTime;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{STATUSES, schema};
use crate::app::App;
use crate::call::{Call, TenantId};
use crate::catalog::{self, Readiness, Status};
use crate::db;
use crate::db::Lock;
use crate::db::movies::{self, MOVIES, Movie};
use crate::db::titles::{AssetFate, Name};
use crate::error::{ApiError, Code};
use crate::operation::Answer;
use crate::reply::Reply;
use crate::routes::profiles::RATINGS;
use crate::routes::titles::{
    self, Hanging, View, cast_member_writable, countries, fields, geo_writable, image_set, images_of, rating_of,
};
use crate::schema::{
    Field, Format, Schema, absent, array, date_time, formatted, integer, object, optional, read_only, required, text,
};
use crate::work::{Actor, Work};

fn writable_fields() -> Vec<Field> {
    let languages = || array(formatted(Format::Language, 2, 35), 0, 50);
    vec![
        required("title", text(1, 255)),
        optional("original_title", text(0, 255)),
        optional("synopsis", text(0, 5000)),
        optional("tagline", text(0, 300)),
        optional("release_year", integer(1888, 2100)),
        optional("runtime_minutes", integer(1, 100_000)),
        optional("content_rating", Schema::Enum(RATINGS)),
        absent("genres", array(formatted(Format::Slug, 1, 100), 0, 20)),
        absent("country_of_origin", array(formatted(Format::Country, 2, 2), 0, 50)),
        optional("studio", text(0, 200)),
        absent("audio_languages", languages()),
        absent("subtitle_languages", languages()),
        absent("cast", array(cast_member_writable(), 0, 200)),
        absent("images", image_set()),
        optional("imdb_rating", Schema::Number { min: 0.0, max: 10.0 }),
        absent("is_premium", Schema::Bool),
        required("status", Schema::Enum(STATUSES)),
        optional("geo_restrictions", geo_writable()),
        required("drm_required", Schema::Bool),
        optional("available_from", date_time()),
        optional("available_until", date_time()),
        optional("license_duration_seconds", integer(60, 2_592_000)),
    ]
}

pub(super) fn writable() -> Schema {
    let ignored = [
        "id",
        "slug",
        "average_rating",
        "rating_count",
        "quality",
        "created_at",
        "updated_at",
        "published_at",
        "view_count",
        "entitled",
        "assets",
    ];
    let fields = writable_fields().into_iter();
    object(fields.chain(ignored.map(|name| read_only(name, Schema::Any))))
}

fn for_admin(movie: &Movie) -> Result<Value, ApiError> {
    let mut body = serde_json::to_value(movie).map_err(ApiError::internal)?;
    body["license_duration_seconds"] = json!(movie.license_duration_seconds);
    body["assets"] = movie.assets.clone();
    Ok(body)
}

pub(super) async fn list(app: Arc<App>, call: Call) -> Answer {
    let filter = super::filter_of(&call);
    let page = call.page(&super::SORTS, &format!("admin movies {filter:?}"))?;
    let mut connection = app.db.acquire().await?;
    let (rows, total) = movies::list(&mut connection, call.tenant, &filter, &page).await?;
    let known = schema(View::Admin);
    let rows = rows
        .into_iter()
        .map(|(movie, key, id)| Ok((fields(&call, for_admin(&movie)?, known.fields())?, key, id)));
    let rows = rows.collect::<Result<Vec<(Value, String, Uuid)>, ApiError>>()?;
    page.answer(rows, total, &call.target)
}

async fn find(connection: &mut sqlx::PgConnection, call: &Call, lock: Lock) -> Result<Movie, ApiError> {
    let name = Name::Id(call.path_id("movie_id")?);
    match movies::get(connection, call.tenant, &name, None, lock).await? {
        Some(movie) => Ok(movie),
        None => Err(titles::absent(connection, MOVIES, &name, call).await),
    }
}

pub(super) async fn one(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let movie = find(&mut connection, &call, Lock::Read).await?;
    let body = for_admin(&movie)?;
    let view = movie.assets.to_string() + movie.quality.as_deref().unwrap_or_default();
    Reply::json(200, &body)?.version(movie.row_version, Some(&view))
}

/// Writes the whole writable object over `movie`: what is missing becomes empty.
fn apply(movie: &mut Movie, members: &Map<String, Value>) -> Result<(), ApiError> {
    let value = |name: &str| members.get(name).filter(|value| !value.is_null());
    let text = |name: &str| value(name).and_then(Value::as_str).map(str::to_owned);
    let whole = |name: &str| value(name).and_then(Value::as_f64).map(|number| number as i32);
    let time = |name: &str| {
        text(name)
            .and_then(|text| DateTime::parse_from_rfc3339(&text).ok())
            .map(|time| time.to_utc())
    };
    let texts = |name: &str| -> Vec<String> {
        let items = value(name).and_then(Value::as_array);
        let items = items.into_iter().flatten().filter_map(Value::as_str);
        items.map(str::to_owned).collect()
    };
    movie.title = text("title").unwrap_or_default();
    movie.original_title = text("original_title");
    movie.synopsis = text("synopsis");
    movie.tagline = text("tagline");
    movie.release_year = whole("release_year");
    movie.runtime_minutes = whole("runtime_minutes");
    movie.content_rating = text("content_rating");
    movie.genres = texts("genres");
    movie.country_of_origin = countries(value("country_of_origin"));
    movie.studio = text("studio");
    movie.audio_languages = texts("audio_languages");
    movie.subtitle_languages = texts("subtitle_languages");
    movie.cast = value("cast").cloned().unwrap_or_else(|| json!([]));
    movie.images = images_of(value("images"));
    movie.imdb_rating = rating_of(value("imdb_rating"));
    movie.is_premium = value("is_premium").and_then(Value::as_bool).unwrap_or(false);
    movie.drm_required = value("drm_required").and_then(Value::as_bool).unwrap_or(false);
    movie.available_from = time("available_from");
    movie.available_until = time("available_until");
    movie.license_duration_seconds = whole("license_duration_seconds");
    movie.geo_restrictions = value("geo_restrictions").cloned();
    match (movie.available_from, movie.available_until) {
        (Some(from), Some(until)) if until <= from => {
            Err(ApiError::invalid("available_until", "must be after available_from"))
        }
        _ => Ok(()),
    }
}

/// Moves `movie` to a state, if it has what that needs (PB-1).
async fn move_to(work: &mut Work, movie: &mut Movie, to: Status) -> Result<(), ApiError> {
    let (has_video, video_plays) = movies::videos(work.connection(), movie.id).await?;
    let readiness = Readiness {
        has_runtime: movie.runtime_minutes.is_some(),
        has_rating: movie.content_rating.is_some(),
        has_video,
        video_plays,
    };
    let details = catalog::missing(readiness, to);
    if !details.is_empty() {
        return Err(ApiError {
            details,
            ..ApiError::new(Code::PublishValidationFailed)
        });
    }
    if to == Status::Published && Status::of(&movie.status) != Status::Published {
        movie.published_at = Some(work.now);
        // Languages that nobody named are those of its sound and text.
        let (audio, subtitles) = db::assets::languages_of(work.connection(), movie.id).await?;
        if movie.audio_languages.is_empty() {
            movie.audio_languages = audio;
        }
        if movie.subtitle_languages.is_empty() {
            movie.subtitle_languages = subtitles;
        }
    }
    movie.status = to.name().to_owned();
    Ok(())
}

/// Writes a movie with all that hangs on it; tells who must know.
async fn store(work: &mut Work, movie: &Movie, before: Option<Status>) -> Result<Movie, ApiError> {
    let tenant = work.tenant;
    match before {
        Some(_) => movies::update(work.connection(), tenant, movie).await?,
        None => movies::insert(work.connection(), tenant, movie).await?,
    }
    let hanging = Hanging {
        genres: &movie.genres,
        cast: &movie.cast,
        geo: movie.geo_restrictions.as_ref(),
    };
    hanging.store(work, "movie", movie.id).await?;
    tell(work, movie, before).await
}

/// Tells caches, webhooks and the audit log of a move; the movie as it is now.
async fn tell(work: &mut Work, movie: &Movie, before: Option<Status>) -> Result<Movie, ApiError> {
    let (tenant, id) = (work.tenant, movie.id);
    let name = Name::Id(id);
    let after = movies::get(work.connection(), tenant, &name, None, Lock::Read).await?;
    let after = after.ok_or_else(|| ApiError::internal("a stored movie is not there"))?;
    work.invalidate("content", id, after.row_version).await?;
    work.raise_catalogue().await?;
    let now = Status::of(&after.status);
    let payload = json!({ "id": id, "content_type": "movie", "title": after.title, "slug": after.slug });
    let action = match (before, now) {
        (None, _) => "content.created",
        (Some(before), now) if before == now => "content.updated",
        (_, Status::Published) => "content.published",
        (_, Status::Scheduled) => "content.scheduled",
        (_, Status::Unpublished) => "content.unpublished",
        (_, Status::Draft) => "content.updated",
    };
    if before != Some(now) && matches!(now, Status::Published | Status::Unpublished) {
        let event = if now == Status::Published {
            "content.published"
        } else {
            "content.unpublished"
        };
        work.emit(event, None, payload).await?;
    }
    work.audit(
        action,
        "movie",
        Some(id),
        json!({ "status": after.status, "title": after.title }),
    )
    .await?;
    Ok(after)
}

pub(super) async fn create(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    let mut work = Work::begin(&app, &call).await?;
    let mut movie = Movie {
        id: Uuid::now_v7(),
        title: String::new(),
        original_title: None,
        slug: String::new(),
        synopsis: None,
        tagline: None,
        release_year: None,
        runtime_minutes: None,
        content_rating: None,
        genres: Vec::new(),
        country_of_origin: Vec::new(),
        studio: None,
        audio_languages: Vec::new(),
        subtitle_languages: Vec::new(),
        cast: json!([]),
        images: json!({}),
        average_rating: 0.0,
        rating_count: 0,
        imdb_rating: None,
        quality: None,
        is_premium: false,
        status: Status::Draft.name().to_owned(),
        geo_restrictions: None,
        drm_required: false,
        available_from: None,
        available_until: None,
        created_at: call.now,
        updated_at: call.now,
        published_at: None,
        view_count: 0,
        license_duration_seconds: None,
        assets: json!([]),
        geo_allowed: true,
        row_version: 1,
    };
    apply(&mut movie, &members)?;
    let wanted = Status::of(members.get("status").and_then(Value::as_str).unwrap_or_default());
    let to = Status::Draft.request(wanted, movie.available_from, call.now)?;
    move_to(&mut work, &mut movie, to).await?;
    movie.slug = titles::free_slug(&mut work, MOVIES, &movie.title).await?;
    let movie = store(&mut work, &movie, None).await?;
    let reply = Reply::created(&format!("/api/v1/admin/movies/{}", movie.id), &for_admin(&movie)?)?;
    let reply = reply.version(movie.row_version, None)?;
    work.finish(reply).await
}

pub(super) async fn update(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    let mut work = Work::begin(&app, &call).await?;
    let mut movie = find(work.connection(), &call, Lock::Change).await?;
    call.check_version(movie.row_version)?;
    let before = Status::of(&movie.status);
    apply(&mut movie, &members)?;
    let wanted = Status::of(members.get("status").and_then(Value::as_str).unwrap_or_default());
    let to = before.request(wanted, movie.available_from, call.now)?;
    move_to(&mut work, &mut movie, to).await?;
    let movie = store(&mut work, &movie, Some(before)).await?;
    let reply = Reply::json(200, &for_admin(&movie)?)?.version(movie.row_version, None)?;
    work.finish(reply).await
}

pub(super) async fn publish(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    let asked = members.get("available_from").and_then(Value::as_str);
    let asked = asked
        .and_then(|text| DateTime::parse_from_rfc3339(text).ok())
        .map(|time| time.to_utc());
    let mut work = Work::begin(&app, &call).await?;
    let mut movie = find(work.connection(), &call, Lock::Change).await?;
    call.check_version(movie.row_version)?;
    let before = Status::of(&movie.status);
    let to = before.publish(asked, call.now)?;
    // Publishing now means now, whatever was planned.
    movie.available_from = match to {
        Status::Scheduled => asked,
        _ => movie.available_from.filter(|from| *from <= call.now).or(asked),
    };
    if let (Some(from), Some(until)) = (movie.available_from, movie.available_until)
        && until <= from
    {
        return Err(ApiError::invalid("available_from", "must be before available_until"));
    }
    move_to(&mut work, &mut movie, to).await?;
    let tenant = work.tenant;
    movies::update(work.connection(), tenant, &movie).await?;
    let movie = tell(&mut work, &movie, Some(before)).await?;
    let reply = Reply::json(200, &for_admin(&movie)?)?.version(movie.row_version, None)?;
    work.finish(reply).await
}

pub(super) async fn unpublish(app: Arc<App>, call: Call) -> Answer {
    let mut work = Work::begin(&app, &call).await?;
    let mut movie = find(work.connection(), &call, Lock::Change).await?;
    call.check_version(movie.row_version)?;
    let before = Status::of(&movie.status);
    movie.status = before.unpublish()?.name().to_owned();
    let tenant = work.tenant;
    movies::update(work.connection(), tenant, &movie).await?;
    let movie = tell(&mut work, &movie, Some(before)).await?;
    let reply = Reply::json(200, &for_admin(&movie)?)?.version(movie.row_version, None)?;
    work.finish(reply).await
}

pub(super) async fn remove(app: Arc<App>, call: Call) -> Answer {
    let mut work = Work::begin(&app, &call).await?;
    let movie = find(work.connection(), &call, Lock::Change).await?;
    call.check_version(movie.row_version)?;
    if !Status::of(&movie.status).is_deletable() {
        return Err(Code::ContentNotDeletable.into());
    }
    let fate = match call.query_flag("delete_assets") {
        Some(true) => AssetFate::Deleted,
        _ => AssetFate::Kept,
    };
    movies::delete(work.connection(), call.tenant, movie.id, fate).await?;
    work.invalidate("content", movie.id, movie.row_version + 1).await?;
    work.raise_catalogue().await?;
    work.audit(
        "content.deleted",
        "movie",
        Some(movie.id),
        json!({ "title": movie.title }),
    )
    .await?;
    work.finish(Reply::empty(204)).await
}

/// Publishes movies whose time has come (PB-3). One that lacks something stays scheduled, and the audit log says so once.
pub async fn publish_due(app: &Arc<App>) -> Result<(), ApiError> {
    let due = movies::due(&mut *app.db.acquire().await?, app.now()).await?;
    for (tenant, id) in due {
        let mut work = Work::begin_as(app, TenantId(tenant), Actor::system()).await?;
        let found = movies::get(work.connection(), TenantId(tenant), &Name::Id(id), None, Lock::Change).await?;
        let Some(mut movie) = found.filter(|movie| Status::of(&movie.status) == Status::Scheduled) else {
            continue;
        };
        match move_to(&mut work, &mut movie, Status::Published).await {
            Ok(()) => {
                movies::update(work.connection(), TenantId(tenant), &movie).await?;
                tell(&mut work, &movie, Some(Status::Scheduled)).await?;
            }
            Err(error) if error.code == Code::PublishValidationFailed => {
                if db::audit::has(
                    work.connection(),
                    TenantId(tenant),
                    "content.publish_failed",
                    id,
                    movie.updated_at,
                )
                .await?
                {
                    continue;
                }
                work.audit(
                    "content.publish_failed",
                    "movie",
                    Some(id),
                    json!({ "details": error.details }),
                )
                .await?;
            }
            Err(error) => return Err(error),
        }
        work.commit().await?;
    }
    Ok(())
}
