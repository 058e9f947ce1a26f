//! Movies: the subscribers' catalogue (VS) and its authoring (PB, DL).

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::profiles::RATINGS;
use crate::app::App;
use crate::call::{Call, TenantId};
use crate::catalog::{self, Readiness, Status};
use crate::config::EntitlementMode;
use crate::db;
use crate::db::movies::{self, AssetFate, Coverage, Filter, Lock, Movie, Name, Place, Viewer};
use crate::db::streams::ProfileFacts;
use crate::entitlement;
use crate::error::{ApiError, Code};
use crate::operation::{Answer, Caller, Endpoint, delete, get, post, profile_header, put};
use crate::page::{CREATED, PageQuery, SortField};
use crate::reply::{Reply, project};
use crate::schema::{
    Field, Format, Schema, absent, array, data, date_time, formatted, integer, list as any_list, object, optional,
    page, read_only, required, text, uuid,
};
use crate::work::{Actor, Work};

const STATUSES: &[&str] = &["draft", "published", "scheduled", "unpublished"];

pub(super) const fn sort(name: &'static str, sql: &'static str, kind: &'static str) -> SortField {
    SortField { name, sql, kind }
}

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
        get("admin.movies.list", "/admin/movies", Caller::Moderator, admin_list)
            .summary("Movies of every state")
            .list()
            .sort()
            .fields()
            .query("q", text(1, 200))
            .query("status", Schema::Enum(STATUSES))
            .query("genre", text(1, 100))
            .reply(200, page(schema(View::Admin).partial()))
            .rules("VS-2"),
        post("admin.movies.create", "/admin/movies", Caller::Moderator, create)
            .summary("Make a movie")
            .json(writable())
            .reply(201, schema(View::Admin))
            .errors(publishing)
            .idempotent()
            .rules("PB-8"),
        get(
            "admin.movies.get",
            "/admin/movies/{movie_id}",
            Caller::Moderator,
            admin_one,
        )
        .summary("A movie")
        .reply(200, schema(View::Admin))
        .etag(),
        put(
            "admin.movies.update",
            "/admin/movies/{movie_id}",
            Caller::Moderator,
            update,
        )
        .summary("Replace a movie")
        .json(writable())
        .reply(200, schema(View::Admin))
        .errors(publishing)
        .if_match()
        .rules("PB-8"),
        delete("admin.movies.delete", "/admin/movies/{movie_id}", Caller::Admin, remove)
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
            publish,
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
            unpublish,
        )
        .summary("Take a movie out of the catalogue")
        .reply(200, schema(View::Admin))
        .errors(&[Code::InvalidStateTransition])
        .idempotent()
        .if_match()
        .rules("PB-4"),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    Subscriber,
    Admin,
}

pub(super) fn image_set() -> Schema {
    let names = ["poster", "backdrop", "banner", "thumbnail", "logo", "still"];
    object(names.map(|name| optional(name, formatted(Format::HttpsUri, 1, 2048))))
}

pub(super) fn cast_member_writable() -> Schema {
    object([
        required("name", text(1, 200)),
        optional("role", text(0, 100)),
        optional("character", text(0, 200)),
        optional("image_url", formatted(Format::HttpsUri, 1, 2048)),
        read_only("id", uuid()),
    ])
}

pub(super) fn cast_member() -> Schema {
    object([
        required("id", uuid()),
        required("name", text(1, 200)),
        required("role", text(0, 100).or_null()),
        required("character", text(0, 200).or_null()),
        required("image_url", text(0, 2048).or_null()),
    ])
}

pub(super) fn geo_writable() -> Schema {
    object([
        optional("rule_id", uuid()),
        read_only("policy", Schema::Any),
        read_only("territories", Schema::Any),
    ])
}

pub(super) fn geo() -> Schema {
    object([
        required("rule_id", uuid()),
        required("policy", Schema::Enum(&["allow_list", "block_list"])),
        required("territories", any_list(text(2, 2))),
    ])
}

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

fn writable() -> Schema {
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

fn for_admin(movie: &Movie) -> Result<Value, ApiError> {
    let mut body = serde_json::to_value(movie).map_err(ApiError::internal)?;
    body["license_duration_seconds"] = json!(movie.license_duration_seconds);
    body["assets"] = movie.assets.clone();
    Ok(body)
}

fn for_viewer(movie: &Movie, covered: Covered) -> Result<Value, ApiError> {
    let mut body = serde_json::to_value(movie).map_err(ApiError::internal)?;
    body["entitled"] = json!(covered.covers(movie.is_premium));
    Ok(body)
}

/// What a viewer's subscription covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Covered {
    Nothing,
    Standard,
    Everything,
}

impl Covered {
    pub(super) fn covers(self, is_premium: bool) -> bool {
        match self {
            Covered::Nothing => false,
            Covered::Standard => !is_premium,
            Covered::Everything => true,
        }
    }
}

/// How a caller sees the catalogue.
pub(super) struct Sight {
    /// What their subscription covers.
    pub(super) covered: Covered,
    /// The highest age that the profile sees; none for no limit.
    pub(super) age: Option<u8>,
    /// From where they look.
    pub(super) place: Place,
}

/// Finds out how the caller sees the catalogue.
pub(super) async fn sight(app: &App, call: &Call, connection: &mut sqlx::PgConnection) -> Result<Sight, ApiError> {
    let settings = app.settings();
    let place = Place {
        country: call.peer.country.clone(),
        unknown_blocked: settings.geo.unknown_blocked,
    };
    let Some(principal) = &call.principal else {
        let (covered, age) = (Covered::Nothing, None);
        return Ok(Sight { covered, age, place });
    };
    let profile = match call.header("x-profile-id") {
        None => None,
        Some(text) => Some(Uuid::try_parse(text).map_err(|_| Code::InvalidProfile)?),
    };
    let found = movies::coverage(connection, principal.user_id, profile).await?;
    if profile.is_some() && found.profile.is_none() {
        return Err(Code::InvalidProfile.into());
    }
    let limit = found.profile.map(|id| {
        entitlement::age_limit(&ProfileFacts {
            id,
            is_kids: found.is_kids.unwrap_or(false),
            max_content_rating: found.max_content_rating.clone(),
        })
    });
    Ok(Sight {
        covered: covered(app, &found, call.now),
        age: limit.filter(|age| *age < 18),
        place,
    })
}

fn covered(app: &App, found: &Coverage, now: DateTime<Utc>) -> Covered {
    let settings = app.settings();
    if settings.entitlement.mode == EntitlementMode::Open {
        return Covered::Everything;
    }
    let grace = TimeDelta::days(settings.billing.grace_days);
    let live = match found.status.as_deref() {
        Some("past_due") => found.period_end.is_some_and(|end| now < end + grace),
        Some(_) => true,
        None => false,
    };
    match live {
        false => Covered::Nothing,
        true if found.tier.unwrap_or(0) >= settings.billing.premium_tier => Covered::Everything,
        true => Covered::Standard,
    }
}

fn filter_of(call: &Call) -> Filter {
    let text = |name: &str| call.query_text(name).map(str::to_owned);
    Filter {
        status: text("status"),
        genre: text("genre"),
        release_year: call
            .query_number("release_year")
            .and_then(|year| i32::try_from(year).ok()),
        content_rating: text("content_rating"),
        language: text("language"),
        cast_id: call.query_id("cast_id"),
        is_premium: call.query_flag("is_premium"),
        q: text("q"),
        viewer: None,
    }
}

/// Keeps the members that `fields` names.
pub(super) fn fields(call: &Call, body: Value, known: &[Field]) -> Result<Value, ApiError> {
    match call.query_text("fields") {
        None => Ok(body),
        Some(fields) => project(body, fields, known).ok_or_else(|| Code::InvalidFields.into()),
    }
}

/// Ratings that people of this age see.
pub(super) fn ratings_seen(age: u8) -> Vec<String> {
    let seen = RATINGS.iter().filter(|rating| entitlement::age_of(Some(rating)) <= age);
    seen.map(|rating| (*rating).to_owned()).collect()
}

async fn list(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let sight = sight(&app, &call, &mut connection).await?;
    let mut filter = filter_of(&call);
    let everything = call.query_flag("entitled") == Some(false) || call.principal.is_none();
    let ages = sight.age.map(ratings_seen);
    let scope = format!(
        "movies {filter:?} {everything} {:?} {:?} {:?}",
        sight.covered, ages, sight.place
    );
    let page = call.page(&SORTS, &scope)?;
    filter.viewer = Some(Viewer {
        now: call.now,
        place: sight.place,
        ratings: ages,
    });
    match (everything, sight.covered) {
        (true, _) | (false, Covered::Everything) => {}
        (false, Covered::Standard) if filter.is_premium == Some(true) => {
            return page.answer::<Value>(Vec::new(), None, &call.target);
        }
        (false, Covered::Standard) => filter.is_premium = Some(false),
        (false, Covered::Nothing) => return page.answer::<Value>(Vec::new(), None, &call.target)?.weak(),
    }
    let (rows, total) = movies::list(&mut connection, call.tenant, &filter, &page).await?;
    let known = schema(View::Subscriber);
    let rows = rows.into_iter().map(|(movie, key, id)| {
        let body = fields(&call, for_viewer(&movie, sight.covered)?, known.fields())?;
        Ok((body, key, id))
    });
    let rows = rows.collect::<Result<Vec<(Value, String, Uuid)>, ApiError>>()?;
    page.answer(rows, total, &call.target)?.weak()
}

/// How the path names a movie.
fn name(call: &Call) -> Result<Name, ApiError> {
    let text = call.path_text("movie_id")?;
    match text.strip_prefix("slug:") {
        Some(slug) => Ok(Name::Slug(slug.to_owned())),
        None => call.path_id("movie_id").map(Name::Id),
    }
}

async fn absent_movie(connection: &mut sqlx::PgConnection, name: &Name, call: &Call) -> ApiError {
    match name {
        Name::Id(id) => db::missing(connection, "movies", *id, call).await,
        Name::Slug(_) => Code::NotFound.into(),
    }
}

/// The movie that the path names, if the caller sees it (VS-3, VS-6), and how they see it.
async fn seen(app: &App, call: &Call, connection: &mut sqlx::PgConnection) -> Result<(Movie, Sight), ApiError> {
    let name = name(call)?;
    let sight = sight(app, call, connection).await?;
    let Some(movie) = movies::get(connection, call.tenant, &name, Some(&sight.place), Lock::Read).await? else {
        return Err(absent_movie(connection, &name, call).await);
    };
    match Status::of(&movie.status) {
        Status::Draft | Status::Unpublished => return Err(Code::NotFound.into()),
        Status::Published | Status::Scheduled if !movie.geo_allowed => return Err(Code::GeoRestricted.into()),
        Status::Published | Status::Scheduled => {}
    }
    if sight
        .age
        .is_some_and(|age| entitlement::age_of(movie.content_rating.as_deref()) > age)
    {
        return Err(Code::ProfileRestricted.into());
    }
    Ok((movie, sight))
}

async fn tracks(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let (movie, _) = seen(&app, &call, &mut connection).await?;
    let rows = db::assets::tracks_of(&mut connection, movie.id).await?;
    let shown = |kind| super::tracks::shown(&rows, kind);
    Reply::json(200, &json!({ "subtitles": shown("subtitle"), "audio": shown("audio") }))
}

async fn trailers(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let (movie, _) = seen(&app, &call, &mut connection).await?;
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
    let mut connection = app.db.acquire().await?;
    let (movie, sight) = seen(&app, &call, &mut connection).await?;
    let body = fields(
        &call,
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

async fn admin_list(app: Arc<App>, call: Call) -> Answer {
    let filter = filter_of(&call);
    let page = call.page(&SORTS, &format!("admin movies {filter:?}"))?;
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
        None => Err(absent_movie(connection, &name, call).await),
    }
}

async fn admin_one(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let movie = find(&mut connection, &call, Lock::Read).await?;
    let body = for_admin(&movie)?;
    let view = movie.assets.to_string() + movie.quality.as_deref().unwrap_or_default();
    Reply::json(200, &body)?.version(movie.row_version, Some(&view))
}

/// Countries of a body, in capitals.
pub(super) fn countries(value: Option<&Value>) -> Vec<String> {
    let codes = value.and_then(Value::as_array).into_iter().flatten();
    codes.filter_map(Value::as_str).map(str::to_ascii_uppercase).collect()
}

/// Images of a body, without those that are null.
pub(super) fn images_of(value: Option<&Value>) -> Value {
    let images = value.and_then(Value::as_object).into_iter().flatten();
    let there = images.filter(|(_, uri)| !uri.is_null());
    Value::Object(there.map(|(name, uri)| (name.clone(), uri.clone())).collect())
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
    movie.imdb_rating = value("imdb_rating")
        .and_then(Value::as_f64)
        .map(|rating| (rating * 10.0).round() / 10.0);
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
    let unknown = movies::set_genres(work.connection(), tenant, movie.id, "movie", &movie.genres).await?;
    if let Some(slug) = unknown.first() {
        return Err(ApiError::invalid("genres", format!("\"{slug}\" is no genre")));
    }
    let cast = movie.cast.as_array().cloned().unwrap_or_default();
    movies::set_cast(work.connection(), tenant, movie.id, "movie", &cast).await?;
    let rule = movie
        .geo_restrictions
        .as_ref()
        .and_then(|geo| geo.get("rule_id"))
        .and_then(Value::as_str);
    let rule = rule.and_then(|text| Uuid::try_parse(text).ok());
    if !movies::set_geo(work.connection(), tenant, movie.id, rule).await? {
        return Err(ApiError::invalid("geo_restrictions.rule_id", "names no rule"));
    }
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

async fn create(app: Arc<App>, call: Call) -> Answer {
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
    movie.slug = free_slug(&mut work, &movie.title).await?;
    let movie = store(&mut work, &movie, None).await?;
    let reply = Reply::created(&format!("/api/v1/admin/movies/{}", movie.id), &for_admin(&movie)?)?;
    let reply = reply.version(movie.row_version, None)?;
    work.finish(reply).await
}

/// A slug that no other movie has.
async fn free_slug(work: &mut Work, title: &str) -> Result<String, ApiError> {
    let (tenant, slug) = (work.tenant, catalog::slug(title));
    let taken = movies::slugs_like(work.connection(), tenant, &slug).await?;
    catalog::free_slug(slug, &taken).ok_or_else(|| ApiError::internal("no slug is free"))
}

async fn update(app: Arc<App>, call: Call) -> Answer {
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

async fn publish(app: Arc<App>, call: Call) -> Answer {
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

async fn unpublish(app: Arc<App>, call: Call) -> Answer {
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

async fn remove(app: Arc<App>, call: Call) -> Answer {
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
