//! The library: assets, who may see and change them, signed addresses, encoding anew (ME, DL).

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{playback, tracks};
use crate::app::App;
use crate::call::Call;
use crate::db;
use crate::db::Lock;
use crate::db::assets::{self, Asset, Filter};
use crate::encoding::{self, PROFILE_NAMES, PROFILES};
use crate::entitlement::Quality;
use crate::error::{ApiError, Code};
use crate::import;
use crate::operation::{Answer, Caller, Endpoint, delete, get, patch, post};
use crate::page::{CREATED, PageQuery, SortField};
use crate::reply::{Reply, project};
use crate::schema::{
    Schema, absent, array, data, date_time, integer, list as any_list, object, optional, page, read_only, required,
    text, uri, uuid,
};
use crate::upload::{ASSET_TYPES, is_video};
use crate::work::Work;

const STATUSES: &[&str] = &["awaiting_source", "uploaded", "transcoding", "ready", "failed"];
const POLICIES: &[&str] = &["public", "cookie", "signed", "session"];
const QUALITIES: &[&str] = &["SD", "HD", "FHD", "UHD"];
const KINDS: &[&str] = &["subtitles", "captions", "forced", "main", "commentary", "description"];

const fn sort(name: &'static str, sql: &'static str, kind: &'static str) -> SortField {
    SortField { name, sql, kind }
}

const SORTS: PageQuery = PageQuery {
    sorts: &[
        CREATED,
        sort("title", "t.title", "text"),
        sort("size_bytes", "coalesce(t.size_bytes, 0)", "bigint"),
        sort(
            "duration_seconds",
            "coalesce(t.duration_seconds, 0)::numeric",
            "numeric",
        ),
    ],
    aliases: &[],
    default: "-created_at",
};

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    let profile = object([
        required("name", text(1, 20)),
        required("width", integer(1, 8192)),
        required("height", integer(1, 8192)),
        required("bitrate_bps", integer(1, i64::MAX)),
        required("preset", text(1, 20)),
        required("enabled", Schema::Bool),
    ]);
    let signed = object([
        required("hls_url", uri()),
        required("dash_url", uri()),
        required("expires_at", date_time()),
    ]);
    vec![
        get("media.list", "/media", Caller::Any, list)
            .summary("Assets of the caller's library")
            .list()
            .sort()
            .fields()
            .query("q", text(1, 200))
            .query("type", Schema::Enum(ASSET_TYPES))
            .query("status", Schema::Enum(STATUSES))
            .query("folder_id", text(1, 36))
            .query("tag", array(text(1, 50), 1, 20))
            .query("published", Schema::Bool)
            .query("owner_id", uuid())
            .query("unattached", Schema::Bool)
            .reply(200, page(schema().partial()))
            .rules("ME-1"),
        get("media.get", "/media/{media_id}", Caller::Any, one)
            .summary("An asset")
            .fields()
            .reply(200, schema().partial())
            .errors(&[Code::InvalidFields])
            .etag()
            .rules("ME-1"),
        patch("media.update", "/media/{media_id}", Caller::Any, update)
            .summary("Change an asset")
            .json(changeable())
            .reply(200, schema())
            .errors(&[Code::MediaInUse])
            .if_match()
            .rules("ME-1, ME-4"),
        delete("media.delete", "/media/{media_id}", Caller::Any, remove)
            .summary("Delete an asset with all that was made of it, for ever")
            .empty(204)
            .errors(&[Code::MediaInUse])
            .rules("DL-9, DL-10"),
        post("media.sign", "/media/{media_id}/sign", Caller::Any, sign)
            .summary("Addresses that whoever has them may play")
            .optional_json(object([
                absent("ttl_seconds", integer(60, 86_400)),
                absent("max_quality", Schema::Enum(QUALITIES)),
            ]))
            .reply(200, signed)
            .errors(&[Code::MediaNotReady])
            .idempotent()
            .cache_control("no-store"),
        post("media.transcode", "/media/{media_id}/transcode", Caller::Any, transcode)
            .summary("Encode anew, or more steps of the ladder")
            .optional_json(object([
                absent("profiles", array(Schema::Enum(PROFILE_NAMES), 1, PROFILE_NAMES.len())),
                absent("force", Schema::Bool),
            ]))
            .reply(202, schema())
            .errors(&[Code::InvalidStateTransition])
            .idempotent()
            .rules("UP-11"),
        get("transcode.profiles", "/transcode/profiles", Caller::Any, profiles)
            .summary("Steps of the ladder")
            .reply(200, data(profile.named("TranscodeProfile")))
            .rules("UP-11"),
    ]
}

fn target() -> Schema {
    object([
        required("content_type", Schema::Enum(&["movie", "episode", "show", "channel"])),
        required("content_id", uuid()),
        optional("language", text(2, 35)),
        optional("kind", Schema::Enum(KINDS)),
    ])
}

fn changeable() -> Schema {
    let ignored = [
        "id",
        "type",
        "filename",
        "content_type",
        "size_bytes",
        "sha256",
        "status",
        "playable",
        "duration_seconds",
        "width",
        "height",
        "resolution",
        "urls",
        "renditions",
        "audio_tracks",
        "subtitle_tracks",
        "progress_percent",
        "tags",
        "owner_id",
        "error_message",
        "created_at",
        "updated_at",
        "published_at",
    ];
    let fields = vec![
        absent("title", text(1, 255)),
        optional("folder_id", uuid()),
        absent("published", Schema::Bool),
        absent("delivery_policy", Schema::Enum(POLICIES)),
        optional("target", target()),
    ];
    object(
        fields
            .into_iter()
            .chain(ignored.map(|name| read_only(name, Schema::Any))),
    )
}

fn schema() -> Schema {
    let seconds = Schema::Number { min: 0.0, max: 1e9 };
    let percent = Schema::Number { min: 0.0, max: 100.0 };
    let side = || integer(0, i64::from(i32::MAX)).or_null();
    let urls = object(["player", "embed", "hls", "dash", "thumbnail"].map(|name| required(name, uri().or_null())));
    let rendition = object([
        required("id", uuid()),
        required("profile", text(1, 20)),
        required("width", side()),
        required("height", side()),
        required("bitrate_bps", integer(0, i64::MAX).or_null()),
        required("video_codec", text(1, 50)),
        required("preset", text(1, 20).or_null()),
        required(
            "status",
            Schema::Enum(&["queued", "running", "completed", "failed", "canceled"]),
        ),
        required("size_bytes", integer(0, i64::MAX).or_null()),
        required("created_at", date_time()),
    ]);
    object([
        required("id", uuid()),
        required("type", Schema::Enum(ASSET_TYPES)),
        required("title", text(1, 255)),
        required("filename", text(0, 255).or_null()),
        required("content_type", text(0, 255).or_null()),
        required("size_bytes", integer(0, i64::MAX).or_null()),
        required("sha256", text(64, 64).or_null()),
        required("status", Schema::Enum(STATUSES)),
        required("playable", Schema::Bool),
        required("published", Schema::Bool),
        required("duration_seconds", seconds.or_null()),
        required("width", side()),
        required("height", side()),
        required("resolution", text(3, 30).or_null()),
        required("urls", urls),
        required("delivery_policy", Schema::Enum(POLICIES)),
        required("renditions", any_list(rendition.named("Rendition"))),
        required("audio_tracks", any_list(tracks::audio())),
        required("subtitle_tracks", any_list(tracks::subtitle())),
        required("progress_percent", percent.or_null()),
        required("folder_id", uuid().or_null()),
        required("tags", any_list(text(1, 50))),
        required("target", target().or_null()),
        required("owner_id", uuid()),
        required("error_message", text(0, 2000).or_null()),
        required("created_at", date_time()),
        required("updated_at", date_time()),
        required("published_at", date_time().or_null()),
    ])
    .named("Asset")
}

/// What an asset is attached to, as it is shown.
fn target_of(asset: &Asset) -> Option<Value> {
    asset.target_id.map(|id| {
        json!({ "content_type": asset.target_type, "content_id": id, "language": asset.target_language,
            "kind": asset.target_kind })
    })
}

/// An asset as it is shown.
fn shown(app: &App, asset: &Asset) -> Value {
    let base = app.config.section.delivery_url.trim_end_matches('/');
    let id = asset.id;
    let plays = is_video(&asset.r#type);
    let url = |path: String| plays.then(|| format!("{base}{path}"));
    let target = target_of(asset);
    let sides = asset.width.zip(asset.height);
    let rows = asset.tracks.as_array().map(Vec::as_slice).unwrap_or_default();
    json!({
        "id": id, "type": asset.r#type, "title": asset.title, "filename": asset.filename,
        "content_type": asset.content_type, "size_bytes": asset.size_bytes,
        "sha256": asset.sha256.as_deref().map(crate::secrets::hex), "status": asset.status, "playable": asset.playable,
        "published": asset.published, "duration_seconds": asset.duration_seconds, "width": asset.width,
        "height": asset.height, "resolution": sides.map(|(width, height)| format!("{width}x{height}")),
        "urls": {
            "player": url(format!("/v/{id}")), "embed": url(format!("/embed/{id}")),
            "hls": url(format!("/vod/{id}/master.m3u8")), "dash": url(format!("/vod/{id}/manifest.mpd")),
            "thumbnail": url(format!("/vod/{id}/poster.jpg")),
        },
        "delivery_policy": asset.delivery_policy, "renditions": asset.renditions,
        "audio_tracks": tracks::shown(rows, "audio"), "subtitle_tracks": tracks::shown(rows, "subtitle"),
        "progress_percent": asset.progress_permille.map(|permille| f64::from(permille) / 10.0),
        "folder_id": asset.folder_id, "tags": [], "target": target, "owner_id": asset.owner_id,
        "error_message": asset.error_message, "created_at": asset.created_at, "updated_at": asset.updated_at,
        "published_at": asset.published_at,
    })
}

fn fields(call: &Call, body: Value) -> Result<Value, ApiError> {
    match call.query_text("fields") {
        None => Ok(body),
        Some(fields) => project(body, fields, schema().fields()).ok_or_else(|| Code::InvalidFields.into()),
    }
}

async fn list(app: Arc<App>, call: Call) -> Answer {
    let text = |name: &str| call.query_text(name).map(str::to_owned);
    let folder = match call.query_text("folder_id") {
        None => None,
        Some("root") => Some(None),
        Some(text) => {
            Some(Some(Uuid::try_parse(text).map_err(|_| {
                ApiError::parameter("folder_id", "must be a UUID or root")
            })?))
        }
    };
    let filter = Filter {
        owner: match call.reaches_all() {
            true => call.query_id("owner_id"),
            false => Some(call.user_id()?),
        },
        r#type: text("type"),
        status: text("status"),
        folder,
        published: call.query_flag("published"),
        unattached: call.query_flag("unattached"),
        q: text("q"),
    };
    let page = call.page(&SORTS, &format!("media {filter:?} {:?}", call.query.get("tag")))?;
    // Nothing has tags yet.
    if call.query.contains_key("tag") {
        return page.answer::<Value>(Vec::new(), None, &call.target);
    }
    let mut connection = app.db.acquire().await?;
    let (rows, total) = assets::list(&mut connection, call.tenant, &filter, &page).await?;
    let rows = rows
        .into_iter()
        .map(|(row, key, id)| Ok((fields(&call, shown(&app, &row))?, key, id)));
    page.answer(rows.collect::<Result<Vec<_>, ApiError>>()?, total, &call.target)
}

/// The asset that the path names, if it is the caller's (ME-1).
async fn find(connection: &mut sqlx::PgConnection, call: &Call, lock: Lock) -> Result<Asset, ApiError> {
    let id = call.path_id("media_id")?;
    match assets::get(connection, call.tenant, id, lock).await? {
        Some(asset) if call.reaches(asset.owner_id) => Ok(asset),
        Some(_) => Err(Code::NotFound.into()),
        None => Err(db::missing(connection, "assets", id, call).await),
    }
}

async fn one(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let asset = find(&mut connection, &call, Lock::Read).await?;
    let view = format!(
        "{}{}{:?}{}",
        asset.renditions,
        asset.tracks,
        asset.progress_permille,
        call.query_text("fields").unwrap_or_default()
    );
    Reply::json(200, &fields(&call, shown(&app, &asset))?)?.version(asset.row_version, Some(&view))
}

/// Refuses to take from a title that is out its only video.
async fn check_detachable(work: &mut Work, asset: &Asset) -> Result<(), ApiError> {
    let Some(target) = asset.target_id.filter(|_| asset.r#type == "video_master") else {
        return Ok(());
    };
    let is_out = assets::target_is_out(work.connection(), target).await?;
    let playing = assets::playable_count(work.connection(), target).await?;
    match is_out && playing - i64::from(asset.playable) < 1 {
        true => Err(Code::MediaInUse.into()),
        false => Ok(()),
    }
}

async fn update(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    let mut work = Work::begin(&app, &call).await?;
    let mut asset = find(work.connection(), &call, Lock::Change).await?;
    call.check_version(asset.row_version)?;
    let before = asset.target_id;
    if let Some(title) = members.get("title").and_then(Value::as_str) {
        asset.title = title.to_owned();
    }
    if members.get("folder_id").is_some_and(|folder| !folder.is_null()) {
        return Err(ApiError::invalid("folder_id", "names no folder"));
    }
    // What was read and is sent back changes nothing.
    let target = members.get("target");
    if let Some(target) = target.filter(|target| **target != json!(target_of(&asset))) {
        if !call.moderates() {
            return Err(ApiError::with(Code::Forbidden, "a target needs the moderator role"));
        }
        retarget(&mut work, &mut asset, target, &app).await?;
    }
    if let Some(policy) = members.get("delivery_policy").and_then(Value::as_str) {
        if asset.target_id.is_some() && policy != "session" {
            let message = "must be session while the asset is attached to a title";
            return Err(ApiError::invalid("delivery_policy", message));
        }
        asset.delivery_policy = policy.to_owned();
    }
    let mut is_first = false;
    if let Some(published) = members.get("published").and_then(Value::as_bool) {
        is_first = published && asset.first_published_at.is_none() && asset.status == "ready";
        if published && !asset.published {
            asset.published_at = Some(work.now);
        }
        asset.published = published;
        asset.first_published_at = asset.first_published_at.or(is_first.then_some(work.now));
    }
    assets::update(work.connection(), &asset).await?;
    if is_first {
        let payload =
            json!({ "id": asset.id, "type": asset.r#type, "title": asset.title, "target_id": asset.target_id });
        work.emit("media.published", Some(asset.owner_id), payload).await?;
    }
    let metadata = json!({ "title": asset.title, "target_id": asset.target_id });
    work.audit("media.updated", "media", Some(asset.id), metadata).await?;
    encoding::changed(&mut work, asset.id, asset.target_id).await?;
    if let Some(before) = before.filter(|before| Some(*before) != asset.target_id) {
        work.invalidate("content", before, 0).await?;
        work.raise_catalogue().await?;
    }
    let asset = find(work.connection(), &call, Lock::Read).await?;
    let reply = Reply::json(200, &shown(&app, &asset))?.version(asset.row_version, None)?;
    work.finish(reply).await
}

/// Attaches an asset to another title, or to none.
async fn retarget(work: &mut Work, asset: &mut Asset, target: &Value, app: &App) -> Result<(), ApiError> {
    let text = |name: &str| target.get(name).and_then(Value::as_str).map(str::to_owned);
    let id = text("content_id").and_then(|text| Uuid::try_parse(&text).ok());
    if asset.target_id != id {
        check_detachable(work, asset).await?;
    }
    asset.target_language = text("language");
    asset.target_kind = text("kind");
    let Some(id) = id else {
        asset.target_type = None;
        asset.target_id = None;
        asset.delivery_policy = app.settings().media.default_delivery_policy.clone();
        return Ok(());
    };
    let content_type = text("content_type").unwrap_or_default();
    let tenant = work.tenant;
    if !db::uploads::has_target(work.connection(), tenant, &content_type, id).await? {
        return Err(ApiError::invalid("target.content_id", "names nothing"));
    }
    asset.target_type = Some(content_type);
    asset.target_id = Some(id);
    asset.delivery_policy = "session".to_owned();
    Ok(())
}

async fn remove(app: Arc<App>, call: Call) -> Answer {
    let mut work = Work::begin(&app, &call).await?;
    let asset = find(work.connection(), &call, Lock::Change).await?;
    if let Some(target) = asset.target_id
        && assets::target_is_out(work.connection(), target).await?
    {
        return Err(Code::MediaInUse.into());
    }
    assets::delete(work.connection(), &asset).await?;
    let bytes = asset.size_bytes.unwrap_or(0);
    db::uploads::use_storage(work.connection(), asset.owner_id, bytes.saturating_neg()).await?;
    let payload = json!({ "id": asset.id, "type": asset.r#type, "title": asset.title });
    work.emit("media.deleted", Some(asset.owner_id), payload).await?;
    let metadata = json!({ "title": asset.title });
    work.audit("media.deleted", "media", Some(asset.id), metadata).await?;
    encoding::changed(&mut work, asset.id, asset.target_id).await?;
    let reply = work.finish(Reply::empty(204)).await?;
    import::remove_files(&app).await;
    Ok(reply)
}

async fn sign(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let asset = find(&mut connection, &call, Lock::Read).await?;
    drop(connection);
    if asset.delivery_policy == "session" {
        let message = "what is attached to a title plays in sessions alone";
        return Err(ApiError::with(Code::Forbidden, message));
    }
    if !asset.playable {
        return Err(Code::MediaNotReady.into());
    }
    let members = call.members();
    let seconds = members.get("ttl_seconds").and_then(Value::as_f64).unwrap_or(600.0);
    let quality = members.get("max_quality").and_then(Value::as_str).and_then(Quality::of);
    let height_max = quality.and_then(Quality::height_max);
    let expires_at = call.now + TimeDelta::seconds(seconds as i64);
    let (hls, dash) = playback::link(&app, call.tenant, asset.id, height_max, expires_at, call.now)?;
    Reply::json(
        200,
        &json!({ "hls_url": hls, "dash_url": dash, "expires_at": expires_at }),
    )
}

async fn transcode(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    let asked = members.get("profiles").and_then(Value::as_array);
    let asked: Vec<&str> = asked.into_iter().flatten().filter_map(Value::as_str).collect();
    let force = members.get("force").and_then(Value::as_bool).unwrap_or(false);
    let mut work = Work::begin(&app, &call).await?;
    let asset = find(work.connection(), &call, Lock::Change).await?;
    let rows = asset.renditions.as_array().map(Vec::as_slice).unwrap_or_default();
    let made: Vec<&str> = rows.iter().filter_map(|row| row["profile"].as_str()).collect();
    let is_new = asked.iter().any(|name| !made.contains(name));
    let has_source = asset.source_blob.is_some() && is_video(&asset.r#type);
    // Of what is there already, only asking for more or insisting makes sense.
    if !has_source || (asset.status == "ready" && !force && !is_new) {
        return Err(Code::InvalidStateTransition.into());
    }
    let wanted = PROFILE_NAMES
        .iter()
        .filter(|name| asked.contains(name) || made.contains(name));
    let wanted: Vec<String> = match asked.is_empty() {
        true => Vec::new(),
        false => wanted.map(|name| (*name).to_owned()).collect(),
    };
    let (tenant, now) = (call.tenant.0, work.now);
    if !db::encodings::insert(work.connection(), tenant, asset.id, &wanted, 0, now).await? {
        let message = "it is being encoded already";
        return Err(ApiError::with(Code::InvalidStateTransition, message));
    }
    let metadata = json!({ "profiles": wanted, "force": force });
    work.audit("media.transcode", "media", Some(asset.id), metadata).await?;
    let asset = find(work.connection(), &call, Lock::Read).await?;
    let reply = Reply::json(202, &shown(&app, &asset))?;
    work.finish(reply).await
}

async fn profiles(app: Arc<App>, _call: Call) -> Answer {
    let enabled = &app.settings().transcode.enabled_profiles;
    let rows = PROFILES.iter().map(|profile| {
        json!({ "name": profile.name, "width": profile.width, "height": profile.height,
            "bitrate_bps": profile.bitrate_bps, "preset": profile.preset,
            "enabled": enabled.iter().any(|name| name == profile.name) })
    });
    Reply::json(200, &json!({ "data": rows.collect::<Vec<Value>>() }))
}
