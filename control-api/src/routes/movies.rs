//! Movies: the subscribers' catalogue (VS), and their operations.

mod authoring;

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::{Value, json};
use uuid::Uuid;

pub use self::authoring::publish_due;
use super::profiles::RATINGS;
use super::titles::{self, Covered, Listing, Sight, View, cast_member, fields, geo, image_set, sight, sort};
use crate::app::App;
use crate::call::Call;
use crate::catalog::Status;
use crate::db;
use crate::db::Lock;
use crate::db::movies::{self, Filter, MOVIES, Movie};
use crate::error::{ApiError, Code};
use crate::operation::{Answer, Caller, Endpoint, delete, get, post, profile_header, put};
use crate::page::{CREATED, PageQuery};
use crate::reply::Reply;
use crate::schema::{
    Format, Schema, data, date_time, formatted, integer, list as any_list, object, optional, page, required, text, uuid,
};

const STATUSES: &[&str] = &["draft", "published", "scheduled", "unpublished"];

const SORTS: PageQuery = PageQuery {
    sorts: &[
        CREATED,
        sort("title", "t.title", "text"),
        sort("release_year", "coalesce(t.release_year, 0)", "integer"),
        sort(
            "release_date",
            "coalesce(make_timestamptz(t.release_year, 1, 1, 0, 0, 0, 'UTC'), t.available_from, 'epoch'::timestamptz)",
            "timestamptz",
        ),
        sort("average_rating", "t.average_rating", "numeric"),
        sort("imdb_rating", "coalesce(t.imdb_rating, 0)", "numeric"),
        sort("view_count", "t.view_count", "bigint"),
        sort(
            "published_at",
            "coalesce(t.published_at, 'epoch'::timestamptz)",
            "timestamptz",
        ),
        sort("runtime_minutes", "coalesce(t.runtime_minutes, 0)", "integer"),
    ],
    aliases: &[
        ("newest", "-published_at"),
        ("top_rated", "-average_rating"),
        ("most_viewed", "-view_count"),
    ],
    default: "-created_at",
};

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    let publishing: &[Code] = &[Code::PublishValidationFailed, Code::InvalidStateTransition];
    vec![
        get("movies.list", "/movies", Caller::Catalogue, list)
            .summary("Movies that the caller may watch")
            .list()
            .sort()
            .fields()
            .query("q", text(1, 200))
            .query("genre", text(1, 100))
            .query("release_year", integer(1888, 2100))
            .query("content_rating", Schema::Enum(RATINGS))
            .query("language", formatted(Format::Language, 2, 35))
            .query("cast_id", uuid())
            .query("is_premium", Schema::Bool)
            .query("entitled", Schema::Bool)
            .header("X-Profile-Id", profile_header())
            .reply(200, page(schema(View::Subscriber).partial()))
            .errors(&[Code::InvalidProfile])
            .etag()
            .rules("VS-1, VS-6, GE-4"),
        get("movies.get", "/movies/{movie_id}", Caller::Catalogue, one)
            .summary("A movie, by id or slug:…")
            .fields()
            .header("X-Profile-Id", profile_header())
            .reply(200, schema(View::Subscriber).partial())
            .errors(&[Code::GeoRestricted, Code::ProfileRestricted, Code::InvalidProfile])
            .etag()
            .rules("VS-3, VS-6"),
        get("movies.tracks", "/movies/{movie_id}/tracks", Caller::Catalogue, tracks)
            .summary("Sound and text of a movie")
            .header("X-Profile-Id", profile_header())
            .reply(
                200,
                object([
                    required("subtitles", any_list(super::tracks::subtitle())),
                    required("audio", any_list(super::tracks::audio())),
                ]),
            )
            .errors(&[Code::GeoRestricted, Code::ProfileRestricted, Code::InvalidProfile])
            .rules("VS-3, VS-6"),
        get(
            "movies.trailers",
            "/movies/{movie_id}/trailers",
            Caller::Catalogue,
            trailers,
        )
        .summary("Trailers of a movie, which play without a session")
        .header("X-Profile-Id", profile_header())
        .reply(200, data(super::tracks::trailer()))
        .errors(&[Code::GeoRestricted, Code::ProfileRestricted, Code::InvalidProfile])
        .cache_control("no-store")
        .rules("VS-3, VS-6"),
        get("admin.movies.list", "/admin/movies", Caller::Moderator, authoring::list)
            .summary("Movies of every state")
            .list()
            .sort()
            .fields()
            .query("q", text(1, 200))
            .query("status", Schema::Enum(STATUSES))
            .query("genre", text(1, 100))
            .reply(200, page(schema(View::Admin).partial()))
            .rules("VS-2"),
        post(
            "admin.movies.create",
            "/admin/movies",
            Caller::Moderator,
            authoring::create,
        )
        .summary("Make a movie")
        .json(authoring::writable())
        .reply(201, schema(View::Admin))
        .errors(publishing)
        .idempotent()
        .rules("PB-8"),
        get(
            "admin.movies.get",
            "/admin/movies/{movie_id}",
            Caller::Moderator,
            authoring::one,
        )
        .summary("A movie")
        .reply(200, schema(View::Admin))
        .etag(),
        put(
            "admin.movies.update",
            "/admin/movies/{movie_id}",
            Caller::Moderator,
            authoring::update,
        )
        .summary("Replace a movie")
        .json(authoring::writable())
        .reply(200, schema(View::Admin))
        .errors(publishing)
        .if_match()
        .rules("PB-8"),
        delete(
            "admin.movies.delete",
            "/admin/movies/{movie_id}",
            Caller::Admin,
            authoring::remove,
        )
        .summary("Delete a movie, for ever")
        .query("delete_assets", Schema::Bool)
        .empty(204)
        .errors(&[Code::ContentNotDeletable])
        .if_match()
        .rules("DL-1, DL-11"),
        post(
            "admin.movies.publish",
            "/admin/movies/{movie_id}/publish",
            Caller::Moderator,
            authoring::publish,
        )
        .summary("Publish a movie, now or later")
        .optional_json(object([optional("available_from", date_time())]))
        .reply(200, schema(View::Admin))
        .errors(publishing)
        .idempotent()
        .if_match()
        .rules("PB-1, PB-2, PB-3"),
        post(
            "admin.movies.unpublish",
            "/admin/movies/{movie_id}/unpublish",
            Caller::Moderator,
            authoring::unpublish,
        )
        .summary("Take a movie out of the catalogue")
        .reply(200, schema(View::Admin))
        .errors(&[Code::InvalidStateTransition])
        .idempotent()
        .if_match()
        .rules("PB-4"),
    ]
}

fn schema(view: View) -> Schema {
    let number = |max: f64| Schema::Number { min: 0.0, max };
    let mut fields = vec![
        required("id", uuid()),
        required("title", text(1, 255)),
        required("original_title", text(0, 255).or_null()),
        required("slug", formatted(Format::Slug, 1, 255)),
        required("synopsis", text(0, 5000).or_null()),
        required("tagline", text(0, 300).or_null()),
        required("release_year", integer(1888, 2100).or_null()),
        required("runtime_minutes", integer(1, 100_000).or_null()),
        required("content_rating", Schema::Enum(RATINGS).or_null()),
        required("genres", any_list(text(1, 100))),
        required("country_of_origin", any_list(text(2, 2))),
        required("studio", text(0, 200).or_null()),
        required("audio_languages", any_list(text(2, 35))),
        required("subtitle_languages", any_list(text(2, 35))),
        required("cast", any_list(cast_member())),
        required("images", image_set()),
        required("average_rating", number(5.0)),
        required("rating_count", integer(0, i64::MAX)),
        required("imdb_rating", number(10.0).or_null()),
        required("quality", Schema::Enum(&["SD", "HD", "FHD", "UHD"]).or_null()),
        required("is_premium", Schema::Bool),
        required("status", Schema::Enum(STATUSES)),
        required("geo_restrictions", geo().or_null()),
        required("drm_required", Schema::Bool),
        required("available_from", date_time().or_null()),
        required("available_until", date_time().or_null()),
        required("created_at", date_time()),
        required("updated_at", date_time()),
        required("published_at", date_time().or_null()),
        required("view_count", integer(0, i64::MAX)),
    ];
    match view {
        View::Subscriber => {
            fields.push(required("entitled", Schema::Bool));
            object(fields).named("Movie")
        }
        View::Admin => {
            let asset = object([
                required("asset_id", uuid()),
                required("type", text(1, 30)),
                required("status", text(1, 30)),
            ]);
            fields.push(required("license_duration_seconds", integer(60, 2_592_000).or_null()));
            fields.push(required("assets", any_list(asset)));
            object(fields).named("AdminMovie")
        }
    }
}

fn for_viewer(movie: &Movie, covered: Covered) -> Result<Value, ApiError> {
    let mut body = serde_json::to_value(movie).map_err(ApiError::internal)?;
    body["entitled"] = json!(covered.covers(movie.is_premium));
    Ok(body)
}

fn filter_of(call: &Call) -> Filter {
    let text = |name: &str| call.query_text(name).map(str::to_owned);
    let year = call.query_number("release_year");
    Filter {
        title: titles::filter_of(call),
        status: text("status"),
        release_year: year.and_then(|year| i32::try_from(year).ok()),
        language: text("language"),
    }
}

async fn list(app: Arc<App>, call: Call) -> Answer {
    let sight = sight(&app, &call).await?;
    let pages = &app.caches.pages;
    let made = || listed(&app, &call, &sight);
    pages.reply(&call, sight.name(&call), app.pulse.is_away(), made).await
}

async fn listed(app: &App, call: &Call, sight: &Sight) -> Answer {
    let mut connection = app.db.acquire().await?;
    let mut filter = filter_of(call);
    let asked = format!("{:?} {:?} {:?}", filter.status, filter.release_year, filter.language);
    let listing = Listing::narrow(call, sight, &mut filter.title);
    let page = call.page(&SORTS, &format!("movies {asked} {}", listing.scope))?;
    if listing.is_empty {
        return page.answer::<Value>(Vec::new(), None, &call.target)?.weak();
    }
    let (rows, total) = movies::list(&mut connection, call.tenant, &filter, &page).await?;
    let known = schema(View::Subscriber);
    let rows = rows.into_iter().map(|(movie, key, id)| {
        let body = fields(call, for_viewer(&movie, sight.covered)?, known.fields())?;
        Ok((body, key, id))
    });
    let rows = rows.collect::<Result<Vec<(Value, String, Uuid)>, ApiError>>()?;
    page.answer(rows, total, &call.target)?.weak()
}

/// The movie that the path names, if the caller sees it (VS-3, VS-6).
async fn seen(call: &Call, connection: &mut sqlx::PgConnection, sight: &Sight) -> Result<Movie, ApiError> {
    let name = titles::name(call, "movie_id")?;
    let Some(movie) = movies::get(connection, call.tenant, &name, Some(&sight.place), Lock::Read).await? else {
        return Err(titles::absent(connection, MOVIES, &name, call).await);
    };
    match Status::of(&movie.status) {
        Status::Draft | Status::Unpublished => return Err(Code::NotFound.into()),
        Status::Published | Status::Scheduled => {}
    }
    titles::check_seen(sight, movie.geo_allowed, movie.content_rating.as_deref())?;
    Ok(movie)
}

async fn tracks(app: Arc<App>, call: Call) -> Answer {
    let sight = sight(&app, &call).await?;
    let mut connection = app.db.acquire().await?;
    let movie = seen(&call, &mut connection, &sight).await?;
    let rows = db::assets::tracks_of(&mut connection, movie.id).await?;
    let shown = |kind| super::tracks::shown(&rows, kind);
    Reply::json(200, &json!({ "subtitles": shown("subtitle"), "audio": shown("audio") }))
}

async fn trailers(app: Arc<App>, call: Call) -> Answer {
    let sight = sight(&app, &call).await?;
    let mut connection = app.db.acquire().await?;
    let movie = seen(&call, &mut connection, &sight).await?;
    let rows = db::assets::trailers_of(&mut connection, movie.id).await?;
    let expires_at = call.now + TimeDelta::seconds(app.settings().delivery.url_ttl_seconds);
    let base = app.config.section.delivery_url.trim_end_matches('/');
    let shown = rows.iter().map(|asset| {
        let (hls, dash) = super::playback::link(&app, call.tenant, asset.id, None, expires_at, call.now)?;
        Ok(json!({
            "id": asset.id, "title": asset.title, "language": asset.target_language,
            "duration_seconds": asset.duration_seconds, "thumbnail_url": format!("{base}/vod/{}/poster.jpg", asset.id),
            "hls_url": hls, "dash_url": dash, "expires_at": expires_at,
        }))
    });
    let shown = shown.collect::<Result<Vec<Value>, ApiError>>()?;
    Reply::json(200, &json!({ "data": shown }))
}

async fn one(app: Arc<App>, call: Call) -> Answer {
    let sight = sight(&app, &call).await?;
    let pages = &app.caches.pages;
    let made = || shown(&app, &call, &sight);
    pages.reply(&call, sight.name(&call), app.pulse.is_away(), made).await
}

async fn shown(app: &App, call: &Call, sight: &Sight) -> Answer {
    let mut connection = app.db.acquire().await?;
    let movie = seen(call, &mut connection, sight).await?;
    let body = fields(
        call,
        for_viewer(&movie, sight.covered)?,
        schema(View::Subscriber).fields(),
    )?;
    let view = format!(
        "{:?}{}{}",
        sight.covered,
        call.query_text("fields").unwrap_or_default(),
        movie.view_count
    );
    Reply::json(200, &body)?.version(movie.row_version, Some(&view))
}
