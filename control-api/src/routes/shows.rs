//! Shows: the subscribers' catalogue (VS) and its authoring (PB, DL).

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::profiles::RATINGS;
use super::titles::{
    self, Covered, Hanging, Listing, Sight, View, cast_member, cast_member_writable, countries, fields, geo,
    geo_writable, image_set, images_of, rating_of, sight, sort,
};
use crate::app::App;
use crate::call::Call;
use crate::catalog::{self, Airing};
use crate::db::Lock;
use crate::db::shows::{self, Filter, SHOWS, Show};
use crate::db::titles::{AssetFate, Name, detach};
use crate::error::{ApiError, Code};
use crate::operation::{Answer, Caller, Endpoint, delete, get, post, profile_header, put};
use crate::page::{CREATED, PageQuery};
use crate::reply::Reply;
use crate::schema::{
    Field, Format, Schema, absent, array, date_time, formatted, integer, list as any_list, object, optional, page,
    read_only, required, text, uuid,
};
use crate::work::Work;

const STATUSES: &[&str] = &["draft", "published", "ongoing", "ended", "canceled"];
const FIRST_AIRED: &str = "coalesce(t.first_air_date, '0001-01-01'::date)";

const SORTS: PageQuery = PageQuery {
    sorts: &[
        CREATED,
        sort("title", "t.title", "text"),
        sort("first_air_date", FIRST_AIRED, "date"),
        sort("release_date", FIRST_AIRED, "date"),
        sort("last_air_date", "coalesce(t.last_air_date, '0001-01-01'::date)", "date"),
        sort("average_rating", "t.average_rating", "numeric"),
        sort("imdb_rating", "coalesce(t.imdb_rating, 0)", "numeric"),
        sort("view_count", "t.view_count", "bigint"),
        sort(
            "published_at",
            "coalesce(t.published_at, 'epoch'::timestamptz)",
            "timestamptz",
        ),
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
    let place = "/admin/shows/{show_id}";
    let (publish_at, unpublish_at) = (format!("{place}/publish"), format!("{place}/unpublish"));
    vec![
        get("shows.list", "/shows", Caller::Catalogue, list)
            .summary("Shows that the caller may watch")
            .list()
            .sort()
            .fields()
            .query("q", text(1, 200))
            .query("genre", text(1, 100))
            .query("status", Schema::Enum(catalog::AIRINGS))
            .query("content_rating", Schema::Enum(RATINGS))
            .query("is_premium", Schema::Bool)
            .query("cast_id", uuid())
            .query("entitled", Schema::Bool)
            .header("X-Profile-Id", profile_header())
            .reply(200, page(schema(View::Subscriber).partial()))
            .errors(&[Code::InvalidProfile])
            .etag()
            .rules("VS-1, VS-4, VS-6, GE-4"),
        get("shows.get", "/shows/{show_id}", Caller::Catalogue, one)
            .summary("A show, by id or slug:…")
            .fields()
            .query("include", text(1, 100))
            .header("X-Profile-Id", profile_header())
            .reply(200, schema(View::Subscriber).partial())
            .errors(&[Code::GeoRestricted, Code::ProfileRestricted, Code::InvalidProfile])
            .etag()
            .rules("VS-3, VS-4, VS-6"),
        get("admin.shows.list", "/admin/shows", Caller::Moderator, admin_list)
            .summary("Shows of every state")
            .list()
            .sort()
            .fields()
            .query("q", text(1, 200))
            .query("status", Schema::Enum(STATUSES))
            .reply(200, page(schema(View::Admin).partial()))
            .rules("VS-2"),
        post("admin.shows.create", "/admin/shows", Caller::Moderator, create)
            .summary("Make a show")
            .json(writable())
            .reply(201, schema(View::Admin))
            .errors(publishing)
            .idempotent()
            .rules("PB-6, PB-7, PB-8"),
        get("admin.shows.get", place, Caller::Moderator, admin_one)
            .summary("A show")
            .reply(200, schema(View::Admin))
            .etag(),
        put("admin.shows.update", place, Caller::Moderator, update)
            .summary("Replace a show")
            .json(writable())
            .reply(200, schema(View::Admin))
            .errors(publishing)
            .if_match()
            .rules("PB-6, PB-7, PB-8"),
        delete("admin.shows.delete", place, Caller::Admin, remove)
            .summary("Delete a show, for ever")
            .query("delete_assets", Schema::Bool)
            .empty(204)
            .errors(&[Code::ContentNotDeletable])
            .if_match()
            .rules("DL-2, DL-11"),
        post("admin.shows.publish", &publish_at, Caller::Moderator, publish)
            .summary("Publish a show")
            .reply(200, schema(View::Admin))
            .errors(publishing)
            .idempotent()
            .if_match()
            .rules("PB-6, PB-7"),
        post("admin.shows.unpublish", &unpublish_at, Caller::Moderator, unpublish)
            .summary("Take a show out of the catalogue")
            .reply(200, schema(View::Admin))
            .errors(&[Code::InvalidStateTransition])
            .idempotent()
            .if_match()
            .rules("PB-4, PB-7"),
    ]
}

fn date() -> Schema {
    formatted(Format::Date, 10, 10)
}

fn writable() -> Schema {
    let ignored = [
        "id",
        "slug",
        "average_rating",
        "rating_count",
        "total_seasons",
        "total_episodes",
        "created_at",
        "updated_at",
        "published_at",
        "view_count",
        "entitled",
        "seasons",
    ];
    let fields = vec![
        required("title", text(1, 255)),
        optional("original_title", text(0, 255)),
        optional("synopsis", text(0, 5000)),
        optional("content_rating", Schema::Enum(RATINGS)),
        absent("genres", array(formatted(Format::Slug, 1, 100), 0, 20)),
        absent("country_of_origin", array(formatted(Format::Country, 2, 2), 0, 50)),
        optional("network", text(0, 200)),
        optional("language", formatted(Format::Language, 2, 35)),
        optional("first_air_date", date()),
        optional("last_air_date", date()),
        absent("cast", array(cast_member_writable(), 0, 200)),
        absent("images", image_set()),
        optional("imdb_rating", Schema::Number { min: 0.0, max: 10.0 }),
        absent("is_premium", Schema::Bool),
        required("status", Schema::Enum(STATUSES)),
        optional("geo_restrictions", geo_writable()),
        required("drm_required", Schema::Bool),
        optional("license_duration_seconds", integer(60, 2_592_000)),
    ];
    object(
        fields
            .into_iter()
            .chain(ignored.map(|name| read_only(name, Schema::Any))),
    )
}

fn schema(view: View) -> Schema {
    let number = |max: f64| Schema::Number { min: 0.0, max };
    let count = || integer(0, i64::MAX);
    let mut fields: Vec<Field> = vec![
        required("id", uuid()),
        required("title", text(1, 255)),
        required("original_title", text(0, 255).or_null()),
        required("slug", formatted(Format::Slug, 1, 255)),
        required("synopsis", text(0, 5000).or_null()),
        required("content_rating", Schema::Enum(RATINGS).or_null()),
        required("genres", any_list(text(1, 100))),
        required("country_of_origin", any_list(text(2, 2))),
        required("network", text(0, 200).or_null()),
        required("language", text(2, 35).or_null()),
        required("first_air_date", date().or_null()),
        required("last_air_date", date().or_null()),
        required("total_seasons", count()),
        required("total_episodes", count()),
        required("cast", any_list(cast_member())),
        required("images", image_set()),
        required("average_rating", number(5.0)),
        required("rating_count", count()),
        required("imdb_rating", number(10.0).or_null()),
        required("is_premium", Schema::Bool),
        required("status", Schema::Enum(STATUSES)),
        required("geo_restrictions", geo().or_null()),
        required("drm_required", Schema::Bool),
        required("created_at", date_time()),
        required("updated_at", date_time()),
        required("published_at", date_time().or_null()),
        required("view_count", count()),
    ];
    match view {
        View::Subscriber => {
            fields.push(required("entitled", Schema::Bool));
            fields.push(absent("seasons", any_list(Schema::Any)));
            object(fields).named("Show")
        }
        View::Admin => {
            fields.push(required("license_duration_seconds", integer(60, 2_592_000).or_null()));
            object(fields).named("AdminShow")
        }
    }
}

fn for_admin(show: &Show) -> Result<Value, ApiError> {
    let mut body = serde_json::to_value(show).map_err(ApiError::internal)?;
    body["license_duration_seconds"] = json!(show.license_duration_seconds);
    Ok(body)
}

fn for_viewer(show: &Show, covered: Covered) -> Result<Value, ApiError> {
    let mut body = serde_json::to_value(show).map_err(ApiError::internal)?;
    body["entitled"] = json!(covered.covers(show.is_premium));
    Ok(body)
}

fn filter_of(call: &Call) -> Filter {
    Filter {
        title: titles::filter_of(call),
        status: call.query_text("status").map(str::to_owned),
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
    let listing = Listing::narrow(call, sight, &mut filter.title);
    let page = call.page(&SORTS, &format!("shows {:?} {}", filter.status, listing.scope))?;
    if listing.is_empty {
        return page.answer::<Value>(Vec::new(), None, &call.target)?.weak();
    }
    let (rows, total) = shows::list(&mut connection, call.tenant, &filter, &page).await?;
    let known = schema(View::Subscriber);
    let rows = rows.into_iter().map(|(show, key, id)| {
        let body = fields(call, for_viewer(&show, sight.covered)?, known.fields())?;
        Ok((body, key, id))
    });
    let rows = rows.collect::<Result<Vec<(Value, String, Uuid)>, ApiError>>()?;
    page.answer(rows, total, &call.target)?.weak()
}

/// Whether `include` asks for seasons.
fn includes_seasons(call: &Call) -> Result<bool, ApiError> {
    let Some(text) = call.query_text("include") else {
        return Ok(false);
    };
    let known = text
        .split(',')
        .all(|name| ["seasons", "episodes"].contains(&name.trim()));
    match known {
        true => Ok(true),
        false => Err(Code::InvalidFields.into()),
    }
}

async fn one(app: Arc<App>, call: Call) -> Answer {
    let name = titles::name(&call, "show_id")?;
    let with_seasons = includes_seasons(&call)?;
    let sight = sight(&app, &call).await?;
    let mut connection = app.db.acquire().await?;
    let found = shows::get(&mut connection, call.tenant, &name, Some(&sight.place), Lock::Read).await?;
    let Some(show) = found else {
        return Err(titles::absent(&mut connection, SHOWS, &name, &call).await);
    };
    if !show.published {
        return Err(Code::NotFound.into());
    }
    titles::check_seen(&sight, show.geo_allowed, show.content_rating.as_deref())?;
    let mut body = for_viewer(&show, sight.covered)?;
    if with_seasons {
        // No show has any yet.
        body["seasons"] = json!([]);
    }
    let body = fields(&call, body, schema(View::Subscriber).fields())?;
    let view = format!(
        "{:?}{}{}{with_seasons}",
        sight.covered,
        call.query_text("fields").unwrap_or_default(),
        show.view_count
    );
    Reply::json(200, &body)?.version(show.row_version, Some(&view))
}

async fn admin_list(app: Arc<App>, call: Call) -> Answer {
    let filter = filter_of(&call);
    let page = call.page(&SORTS, &format!("admin shows {filter:?}"))?;
    let mut connection = app.db.acquire().await?;
    let (rows, total) = shows::list(&mut connection, call.tenant, &filter, &page).await?;
    let known = schema(View::Admin);
    let rows = rows
        .into_iter()
        .map(|(show, key, id)| Ok((fields(&call, for_admin(&show)?, known.fields())?, key, id)));
    let rows = rows.collect::<Result<Vec<(Value, String, Uuid)>, ApiError>>()?;
    page.answer(rows, total, &call.target)
}

async fn find(connection: &mut sqlx::PgConnection, call: &Call, lock: Lock) -> Result<Show, ApiError> {
    let name = Name::Id(call.path_id("show_id")?);
    match shows::get(connection, call.tenant, &name, None, lock).await? {
        Some(show) => Ok(show),
        None => Err(titles::absent(connection, SHOWS, &name, call).await),
    }
}

async fn admin_one(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let show = find(&mut connection, &call, Lock::Read).await?;
    Reply::json(200, &for_admin(&show)?)?.version(show.row_version, Some(&show.view_count.to_string()))
}

/// Writes the whole writable object over `show`: what is missing becomes empty.
fn apply(show: &mut Show, members: &Map<String, Value>) -> Result<(), ApiError> {
    let value = |name: &str| members.get(name).filter(|value| !value.is_null());
    let text = |name: &str| value(name).and_then(Value::as_str).map(str::to_owned);
    let flag = |name: &str| value(name).and_then(Value::as_bool).unwrap_or(false);
    let whole = |name: &str| value(name).and_then(Value::as_f64).map(|number| number as i32);
    let date = |name: &str| text(name).and_then(|text| NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok());
    let genres = value("genres").and_then(Value::as_array).into_iter().flatten();
    show.title = text("title").unwrap_or_default();
    show.original_title = text("original_title");
    show.synopsis = text("synopsis");
    show.content_rating = text("content_rating");
    show.genres = genres.filter_map(Value::as_str).map(str::to_owned).collect();
    show.country_of_origin = countries(value("country_of_origin"));
    show.network = text("network");
    show.language = text("language");
    show.first_air_date = date("first_air_date");
    show.last_air_date = date("last_air_date");
    show.cast = value("cast").cloned().unwrap_or_else(|| json!([]));
    show.images = images_of(value("images"));
    show.imdb_rating = rating_of(value("imdb_rating"));
    show.is_premium = flag("is_premium");
    show.drm_required = flag("drm_required");
    show.license_duration_seconds = whole("license_duration_seconds");
    show.geo_restrictions = value("geo_restrictions").cloned();
    match (show.first_air_date, show.last_air_date) {
        (Some(first), Some(last)) if last < first => {
            Err(ApiError::invalid("last_air_date", "must not be before first_air_date"))
        }
        _ => Ok(()),
    }
}

/// What is stored of a show's two facts.
fn airing(show: &Show) -> Airing {
    Airing {
        published: show.published,
        airing: show.airing.as_deref().and_then(catalog::airing_of),
    }
}

/// Moves a show, if it has what that needs (PB-6).
fn move_to(show: &mut Show, to: Airing, now: DateTime<Utc>) -> Result<(), ApiError> {
    if to.published && show.content_rating.is_none() {
        return Err(ApiError::new(Code::PublishValidationFailed).detail("content_rating", "must be set"));
    }
    if to.published && !show.published {
        show.published_at = Some(now);
    }
    show.published = to.published;
    show.airing = to.airing.map(str::to_owned);
    Ok(())
}

/// Writes a show with all that hangs on it; tells who must know.
async fn store(work: &mut Work, show: &Show, before: Option<bool>) -> Result<Show, ApiError> {
    let tenant = work.tenant;
    match before {
        Some(_) => shows::update(work.connection(), tenant, show).await?,
        None => shows::insert(work.connection(), tenant, show).await?,
    }
    let hanging = Hanging {
        genres: &show.genres,
        cast: &show.cast,
        geo: show.geo_restrictions.as_ref(),
    };
    hanging.store(work, "show", show.id).await?;
    tell(work, show.id, before).await
}

/// Tells caches, webhooks and the audit log; the show as it is now.
async fn tell(work: &mut Work, id: Uuid, before: Option<bool>) -> Result<Show, ApiError> {
    let tenant = work.tenant;
    let after = shows::get(work.connection(), tenant, &Name::Id(id), None, Lock::Read).await?;
    let after = after.ok_or_else(|| ApiError::internal("a stored show is not there"))?;
    work.invalidate("content", id, after.row_version).await?;
    work.raise_catalogue().await?;
    let event = match (before.unwrap_or(false), after.published) {
        (false, true) => Some("content.published"),
        (true, false) => Some("content.unpublished"),
        _ => None,
    };
    if let Some(event) = event {
        let payload = json!({ "id": id, "content_type": "show", "title": after.title, "slug": after.slug });
        work.emit(event, None, payload).await?;
    }
    let action = match (before, event) {
        (None, _) => "content.created",
        (Some(_), Some(event)) => event,
        (Some(_), None) => "content.updated",
    };
    let metadata = json!({ "status": after.status, "title": after.title });
    work.audit(action, "show", Some(id), metadata).await?;
    Ok(after)
}

async fn create(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    let mut work = Work::begin(&app, &call).await?;
    let mut show = Show {
        id: Uuid::now_v7(),
        title: String::new(),
        original_title: None,
        slug: String::new(),
        synopsis: None,
        content_rating: None,
        genres: Vec::new(),
        country_of_origin: Vec::new(),
        network: None,
        language: None,
        first_air_date: None,
        last_air_date: None,
        total_seasons: 0,
        total_episodes: 0,
        cast: json!([]),
        images: json!({}),
        average_rating: 0.0,
        rating_count: 0,
        imdb_rating: None,
        is_premium: false,
        status: "draft".to_owned(),
        published: false,
        airing: None,
        geo_restrictions: None,
        drm_required: false,
        created_at: call.now,
        updated_at: call.now,
        published_at: None,
        view_count: 0,
        license_duration_seconds: None,
        geo_allowed: true,
        row_version: 1,
    };
    apply(&mut show, &members)?;
    let to = airing(&show).request(wanted(&members));
    move_to(&mut show, to, call.now)?;
    show.slug = titles::free_slug(&mut work, SHOWS, &show.title).await?;
    let show = store(&mut work, &show, None).await?;
    let place = format!("/api/v1/admin/shows/{}", show.id);
    let reply = Reply::created(&place, &for_admin(&show)?)?.version(show.row_version, None)?;
    work.finish(reply).await
}

fn wanted(members: &Map<String, Value>) -> &str {
    members.get("status").and_then(Value::as_str).unwrap_or_default()
}

async fn update(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    let mut work = Work::begin(&app, &call).await?;
    let mut show = find(work.connection(), &call, Lock::Change).await?;
    call.check_version(show.row_version)?;
    let before = show.published;
    apply(&mut show, &members)?;
    let to = airing(&show).request(wanted(&members));
    move_to(&mut show, to, call.now)?;
    let show = store(&mut work, &show, Some(before)).await?;
    let reply = Reply::json(200, &for_admin(&show)?)?.version(show.row_version, None)?;
    work.finish(reply).await
}

async fn publish(app: Arc<App>, call: Call) -> Answer {
    turn(app, call, Airing::publish).await
}

async fn unpublish(app: Arc<App>, call: Call) -> Answer {
    turn(app, call, Airing::unpublish).await
}

async fn turn(app: Arc<App>, call: Call, way: fn(Airing) -> Result<Airing, Code>) -> Answer {
    let mut work = Work::begin(&app, &call).await?;
    let mut show = find(work.connection(), &call, Lock::Change).await?;
    call.check_version(show.row_version)?;
    let before = show.published;
    let to = way(airing(&show))?;
    move_to(&mut show, to, call.now)?;
    let tenant = work.tenant;
    shows::update(work.connection(), tenant, &show).await?;
    let show = tell(&mut work, show.id, Some(before)).await?;
    let reply = Reply::json(200, &for_admin(&show)?)?.version(show.row_version, None)?;
    work.finish(reply).await
}

async fn remove(app: Arc<App>, call: Call) -> Answer {
    let mut work = Work::begin(&app, &call).await?;
    let show = find(work.connection(), &call, Lock::Change).await?;
    call.check_version(show.row_version)?;
    if show.published {
        return Err(Code::ContentNotDeletable.into());
    }
    let fate = match call.query_flag("delete_assets") {
        Some(true) => AssetFate::Deleted,
        _ => AssetFate::Kept,
    };
    detach(work.connection(), show.id, fate).await?;
    shows::delete(work.connection(), call.tenant, show.id).await?;
    work.invalidate("content", show.id, show.row_version + 1).await?;
    work.raise_catalogue().await?;
    let metadata = json!({ "title": show.title });
    work.audit("content.deleted", "show", Some(show.id), metadata).await?;
    work.finish(Reply::empty(204)).await
}
