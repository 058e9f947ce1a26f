//! Uploads: announced, listed, completed, cancelled (UP). How their bytes come is told apart: `tus`, `bytes`.

mod bytes;
mod tus;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::call::Call;
use crate::db;
use crate::db::uploads::{Filter, Upload};
use crate::encoding::source_path;
use crate::error::{ApiError, Code, breaks};
use crate::import;
use crate::operation::{Answer, Caller, Endpoint, delete, get, post};
use crate::page::NEWEST;
use crate::reply::Reply;
use crate::schema::{
    Format, Schema, absent, date_time, formatted, integer, object, optional, page, read_only, required, text, uuid,
};
use crate::upload::{self, ASSET_TYPES, SIZE_BYTES_MAX, Status};
use crate::work::{Actor, Work};

const STATUSES: &[&str] = &[
    "awaiting_upload",
    "uploading",
    "uploaded",
    "processing",
    "completed",
    "failed",
    "canceled",
];
const TRANSCODE_STATUSES: &[&str] = &[
    "pending",
    "queued",
    "running",
    "completed",
    "failed",
    "canceled",
    "not_required",
];
const TRANSPORTS: &[&str] = &["put", "tus", "direct"];

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    let mut endpoints = vec![
        post("uploads.create", "/uploads", Caller::Any, create)
            .summary("Announce an upload")
            .json(writable())
            .reply(201, schema())
            .errors(&[
                Code::UploadNotAllowed,
                Code::StorageQuotaExceeded,
                Code::FileTooLarge,
                Code::Conflict,
            ])
            .idempotent()
            .cache_control("no-store")
            .rules("UP-1, UP-5, UP-8, UP-10, UP-14, UP-15"),
        get("uploads.list", "/uploads", Caller::Any, list)
            .summary("Uploads of the caller")
            .list()
            .query("status", Schema::Enum(STATUSES))
            .query("active", Schema::Bool)
            .query("client_upload_uuid", text(1, 64))
            .reply(200, page(schema()))
            .cache_control("no-store")
            .rules("UP-13"),
        get("uploads.get", "/uploads/{upload_id}", Caller::Any, one)
            .summary("An upload, with a signed address that is good again")
            .reply(200, schema())
            .errors(&[Code::UploadGone])
            .cache_control("no-store")
            .rules("UP-14"),
        delete("uploads.cancel", "/uploads/{upload_id}", Caller::Any, cancel)
            .summary("Cancel an upload")
            .empty(204)
            .errors(&[Code::UploadNotCancellable, Code::MediaInUse, Code::UploadGone])
            .rules("UP-4, DL-10"),
        post(
            "uploads.complete",
            "/uploads/{upload_id}/complete",
            Caller::Any,
            complete,
        )
        .summary("Say that all bytes are there")
        .optional_json(object([optional("sha256", formatted(Format::Hex, 64, 64))]))
        .reply(202, schema())
        .reply(200, schema())
        .errors(&[Code::UploadIncomplete, Code::InvalidMedia, Code::UploadGone])
        .idempotent()
        .cache_control("no-store")
        .rules("UP-2, UP-3, UP-9"),
    ];
    endpoints.extend(bytes::endpoints());
    endpoints.extend(tus::endpoints());
    endpoints
}

fn target() -> Schema {
    object([
        required(
            "content_type",
            Schema::Enum(&["movie", "episode", "show", "channel", "media"]),
        ),
        required("content_id", uuid()),
        optional("language", formatted(Format::Language, 2, 35)),
        optional(
            "kind",
            Schema::Enum(&["subtitles", "captions", "forced", "main", "commentary", "description"]),
        ),
    ])
}

fn writable() -> Schema {
    let ignored = [
        "id",
        "upload_url",
        "upload_url_expires_at",
        "offset_bytes",
        "status",
        "transcode_status",
        "progress_percent",
        "asset_id",
        "error_message",
        "links",
        "created_at",
        "updated_at",
        "expires_at",
    ];
    let fields = vec![
        required("asset_type", Schema::Enum(ASSET_TYPES)),
        required("filename", text(1, 255)),
        required("content_type", text(1, 255)),
        optional("size_bytes", integer(1, SIZE_BYTES_MAX)),
        optional("title", text(1, 255)),
        optional("target", target()),
        absent("transport", Schema::Enum(&["put", "tus"])),
        optional("folder_id", uuid()),
        optional("client_upload_uuid", text(1, 64)),
        optional("auto_complete", Schema::Bool),
        optional("auto_publish", Schema::Bool),
    ];
    object(
        fields
            .into_iter()
            .chain(ignored.map(|name| read_only(name, Schema::Any))),
    )
}

fn schema() -> Schema {
    object([
        required("id", uuid()),
        required("asset_type", Schema::Enum(ASSET_TYPES)),
        required("filename", text(1, 255)),
        required("content_type", text(1, 255)),
        required("size_bytes", integer(0, i64::MAX).or_null()),
        required("title", text(0, 255).or_null()),
        required("target", Schema::Any),
        required("transport", Schema::Enum(TRANSPORTS)),
        required("folder_id", uuid().or_null()),
        required("client_upload_uuid", text(0, 64).or_null()),
        required("auto_complete", Schema::Bool),
        required("auto_publish", Schema::Bool),
        required("upload_url", text(1, 2048).or_null()),
        required("upload_url_expires_at", date_time().or_null()),
        required("offset_bytes", integer(0, i64::MAX)),
        required("status", Schema::Enum(STATUSES)),
        required("transcode_status", Schema::Enum(TRANSCODE_STATUSES)),
        required("progress_percent", Schema::Number { min: 0.0, max: 100.0 }.or_null()),
        required("asset_id", uuid().or_null()),
        required("error_message", text(0, 2000).or_null()),
        required("links", Schema::Any),
        required("created_at", date_time()),
        required("updated_at", date_time()),
        required("expires_at", date_time()),
    ])
    .named("Upload")
}

/// Where a signed upload is sealed.
fn url_place(id: Uuid) -> String {
    format!("upload_url:{id}")
}

/// Where bytes are sent, and until when that holds.
fn upload_url(app: &App, upload: &Upload, now: DateTime<Utc>) -> Option<(String, DateTime<Utc>)> {
    let base = app.config.section.public_url.trim_end_matches('/');
    if !Status::of(&upload.status).is_open() || upload.expires_at <= now {
        return None;
    }
    match upload.transport.as_str() {
        "tus" => Some((format!("{base}/api/v1/uploads/tus/{}", upload.id), upload.expires_at)),
        "put" => {
            let expires_at = now + upload::URL_TTL;
            let seconds = expires_at.timestamp();
            let sig = app
                .secrets
                .keyed_hash(&url_place(upload.id), seconds.to_string().as_bytes());
            let sig = crate::secrets::hex(&sig);
            let expires_at = DateTime::from_timestamp(seconds, 0).unwrap_or(expires_at);
            let url = format!("{base}/api/v1/uploads/{}/data?exp={seconds}&sig={sig}", upload.id);
            Some((url, expires_at))
        }
        _ => None,
    }
}

/// An upload as it is shown.
fn shown(app: &App, upload: &Upload, now: DateTime<Utc>) -> Value {
    let url = upload_url(app, upload, now);
    let target = upload.target_id.map(|id| {
        json!({ "content_type": upload.target_type, "content_id": id, "language": upload.target_language,
            "kind": upload.target_kind })
    });
    let base = app.config.section.delivery_url.trim_end_matches('/');
    let links = upload
        .asset_id
        .map(|id| json!({ "player_url": format!("{base}/v/{id}"), "embed_url": format!("{base}/embed/{id}") }));
    let progress = upload.progress_permille.map(|permille| f64::from(permille) / 10.0);
    json!({
        "id": upload.id, "asset_type": upload.asset_type, "filename": upload.filename,
        "content_type": upload.content_type, "size_bytes": upload.size_bytes, "title": upload.title, "target": target,
        "transport": upload.transport, "folder_id": null, "client_upload_uuid": upload.client_upload_uuid,
        "auto_complete": upload.auto_complete, "auto_publish": upload.auto_publish,
        "upload_url": url.as_ref().map(|(url, _)| url), "upload_url_expires_at": url.as_ref().map(|(_, at)| at),
        "offset_bytes": upload.offset_bytes, "status": upload.status, "transcode_status": upload.transcode_status,
        "progress_percent": progress, "asset_id": upload.asset_id, "error_message": upload.error_message, "links": links,
        "created_at": upload.created_at, "updated_at": upload.updated_at, "expires_at": upload.expires_at,
    })
}

/// What somebody announces.
struct Announced {
    asset_type: String,
    filename: String,
    content_type: String,
    size: Option<i64>,
    title: Option<String>,
    target: Option<Value>,
    transport: &'static str,
    folder: Option<String>,
    client_upload_uuid: Option<String>,
    auto_complete: Option<bool>,
    auto_publish: Option<bool>,
}

/// The largest file that a caller may upload in this way (UP-5).
fn size_max(app: &App, call: &Call, transport: &str) -> i64 {
    let media = &app.settings().media;
    let by_key = call.is_by_key();
    let most = match (transport, by_key) {
        ("direct", false) => Some(media.upload_max_bytes_panel),
        (_, true) => media.upload_max_bytes_api,
        _ => None,
    };
    most.and_then(|most| i64::try_from(most).ok())
        .map_or(SIZE_BYTES_MAX, |most| most.min(SIZE_BYTES_MAX))
}

/// Reads and checks what an upload is attached to (UP-10).
async fn check_target(
    work: &mut Work,
    call: &Call,
    target: Option<&Value>,
) -> Result<Option<(String, Uuid, Option<String>, Option<String>)>, ApiError> {
    let Some(target) = target.filter(|target| !target.is_null()) else {
        return Ok(None);
    };
    if !call.moderates() {
        return Err(ApiError::with(
            Code::UploadNotAllowed,
            "a target needs the moderator role",
        ));
    }
    let text = |name: &str| target.get(name).and_then(Value::as_str).map(str::to_owned);
    let content_type = text("content_type").unwrap_or_default();
    let id = text("content_id").and_then(|text| Uuid::try_parse(&text).ok());
    let id = id.ok_or_else(|| ApiError::invalid("target.content_id", "must be a UUID"))?;
    match db::uploads::has_target(work.connection(), call.tenant, &content_type, id).await? {
        true => Ok(Some((content_type, id, text("language"), text("kind")))),
        false => Err(ApiError::invalid("target.content_id", "names nothing")),
    }
}

/// Makes the row of an upload, if its owner may.
async fn announce(app: &App, work: &mut Work, call: &Call, said: Announced) -> Result<Upload, ApiError> {
    let owner = call.user_id()?;
    let target = check_target(work, call, said.target.as_ref()).await?;
    let may = db::uploads::uploader(work.connection(), call.tenant, owner, None).await?;
    if !may.can_upload {
        return Err(ApiError::with(
            Code::UploadNotAllowed,
            "uploads are off for this account",
        ));
    }
    let most = size_max(app, call, said.transport);
    if said.size.is_some_and(|size| size > most) {
        return Err(Code::FileTooLarge.into());
    }
    if may.room().is_some_and(|room| said.size.unwrap_or(1) > room) {
        return Err(Code::StorageQuotaExceeded.into());
    }
    if said.folder.is_some() {
        return Err(ApiError::invalid("folder_id", "names no folder"));
    }
    let filename =
        upload::filename(&said.filename).ok_or_else(|| ApiError::invalid("filename", "is no name of a file"))?;
    let id = Uuid::now_v7();
    let (target_type, target_id, target_language, target_kind) = match target {
        Some((content_type, id, language, kind)) => (Some(content_type), Some(id), language, kind),
        None => (None, None, None, None),
    };
    let by_key = call.is_by_key();
    let upload = Upload {
        id,
        tenant_id: call.tenant.0,
        owner_id: owner,
        asset_type: said.asset_type,
        title: Some(said.title.unwrap_or_else(|| upload::title_of(&filename))),
        filename,
        content_type: said.content_type,
        size_bytes: said.size,
        target_type,
        target_id,
        target_language,
        target_kind,
        transport: said.transport.to_owned(),
        client_upload_uuid: said.client_upload_uuid,
        auto_complete: said.auto_complete.unwrap_or(by_key && said.transport == "put"),
        auto_publish: said.auto_publish.unwrap_or(app.settings().media.auto_publish),
        storage_path: id.to_string(),
        offset_bytes: 0,
        status: "awaiting_upload".to_owned(),
        transcode_status: "pending".to_owned(),
        asset_id: None,
        error_message: None,
        expires_at: call.now + upload::IDLE,
        created_at: call.now,
        updated_at: call.now,
        progress_permille: None,
    };
    match db::uploads::insert(work.connection(), &upload).await {
        Ok(()) => {}
        Err(error) if breaks(&error, "uploads_client") => {
            let message = "an unfinished upload of this client_upload_uuid is there already";
            return Err(ApiError::with(Code::Conflict, message));
        }
        Err(error) => return Err(error.into()),
    }
    let metadata = json!({ "filename": upload.filename, "type": upload.asset_type, "target_id": upload.target_id });
    work.audit("upload.created", "upload", Some(id), metadata).await?;
    Ok(upload)
}

async fn create(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
    let flag = |name: &str| members.get(name).and_then(Value::as_bool);
    let is_tus = text("transport").as_deref() == Some("tus");
    let size = members
        .get("size_bytes")
        .and_then(Value::as_f64)
        .map(|size| size as i64);
    if is_tus && size.is_none() {
        return Err(ApiError::invalid("size_bytes", "must be there"));
    }
    let said = Announced {
        asset_type: text("asset_type").unwrap_or_default(),
        filename: text("filename").unwrap_or_default(),
        content_type: text("content_type").unwrap_or_default(),
        size,
        title: text("title"),
        target: members.get("target").cloned(),
        transport: if is_tus { "tus" } else { "put" },
        folder: text("folder_id"),
        client_upload_uuid: text("client_upload_uuid"),
        auto_complete: flag("auto_complete"),
        auto_publish: flag("auto_publish"),
    };
    let mut work = Work::begin(&app, &call).await?;
    let upload = announce(&app, &mut work, &call, said).await?;
    let reply = Reply::created(
        &format!("/api/v1/uploads/{}", upload.id),
        &shown(&app, &upload, call.now),
    )?;
    work.finish(reply).await
}

async fn list(app: Arc<App>, call: Call) -> Answer {
    let filter = Filter {
        owner: match call.reaches_all() {
            true => None,
            false => Some(call.user_id()?),
        },
        status: call.query_text("status").map(str::to_owned),
        active: call.query_flag("active") == Some(true),
        client_upload_uuid: call.query_text("client_upload_uuid").map(str::to_owned),
        now: call.now,
    };
    let scope = format!(
        "uploads {:?} {:?} {} {:?}",
        filter.owner, filter.status, filter.active, filter.client_upload_uuid
    );
    let page = call.page(&NEWEST, &scope)?;
    let mut connection = app.db.acquire().await?;
    let (rows, total) = db::uploads::list(&mut connection, call.tenant, &filter, &page).await?;
    let rows = rows
        .into_iter()
        .map(|(row, key, id)| (shown(&app, &row, call.now), key, id));
    page.answer(rows.collect(), total, &call.target)
}

/// The upload that the path names, if it is the caller's. What has ended is gone.
async fn find(app: &App, call: &Call) -> Result<Upload, ApiError> {
    let id = call.path_id("upload_id")?;
    let mut connection = app.db.acquire().await?;
    let Some(upload) = db::uploads::get(&mut connection, Some(call.tenant), id).await? else {
        return Err(db::missing(&mut connection, "uploads", id, call).await);
    };
    if !call.reaches(upload.owner_id) {
        return Err(Code::NotFound.into());
    }
    check_there(&upload, call.now)?;
    Ok(upload)
}

fn check_there(upload: &Upload, now: DateTime<Utc>) -> Result<(), ApiError> {
    let status = Status::of(&upload.status);
    match status == Status::Canceled || (status.is_open() && upload.expires_at <= now) {
        true => Err(Code::UploadGone.into()),
        false => Ok(()),
    }
}

async fn one(app: Arc<App>, call: Call) -> Answer {
    let upload = find(&app, &call).await?;
    Reply::json(200, &shown(&app, &upload, call.now))
}

async fn cancel(app: Arc<App>, call: Call) -> Answer {
    let upload = find(&app, &call).await?;
    end(&app, &call, upload.id).await?;
    Ok(Reply::empty(204))
}

/// Cancels an upload: its bytes, and what was begun of it.
async fn end(app: &Arc<App>, call: &Call, id: Uuid) -> Result<(), ApiError> {
    let mut work = Work::begin(app, call).await?;
    let upload = db::uploads::lock(work.connection(), id)
        .await?
        .ok_or(Code::UploadGone)?;
    Status::of(&upload.status).cancel()?;
    if let Some(asset) = upload.asset_id {
        let now = work.now;
        let row = db::assets::get(work.connection(), call.tenant, asset, db::Lock::Change).await?;
        db::encodings::cancel(work.connection(), asset, now).await?;
        if let Some(row) = row {
            // As if it were deleted by its own name (DL-10).
            if let Some(target) = row.target_id
                && db::assets::target_is_out(work.connection(), target).await?
            {
                return Err(Code::MediaInUse.into());
            }
            db::assets::delete(work.connection(), &row).await?;
            let bytes = row.size_bytes.unwrap_or(0);
            db::uploads::use_storage(work.connection(), row.owner_id, -bytes).await?;
            crate::encoding::changed(&mut work, asset, row.target_id).await?;
        }
    }
    db::uploads::set_status(work.connection(), id, "canceled", "canceled", None, None).await?;
    work.audit(
        "upload.canceled",
        "upload",
        Some(id),
        json!({ "filename": upload.filename }),
    )
    .await?;
    work.commit().await?;
    app.writers.stop(id).await;
    import::remove_files(app).await;
    Ok(())
}

async fn complete(app: Arc<App>, call: Call) -> Answer {
    let upload = find(&app, &call).await?;
    let said = call
        .members()
        .get("sha256")
        .and_then(Value::as_str)
        .map(str::to_ascii_lowercase);
    let said = said.map(|text| {
        crate::secrets::unhex::<32>(&text).ok_or_else(|| ApiError::invalid("sha256", "must be 64 hexadecimal digits"))
    });
    let (upload, done) = import::complete(&app, upload.id, said.transpose()?, Actor::of(&call)).await?;
    Reply::json(if done { 202 } else { 200 }, &shown(&app, &upload, call.now))
}

/// Where the bytes of an upload are.
fn path_of(app: &App, upload: &Upload) -> std::path::PathBuf {
    source_path(app, &upload.storage_path)
}

/// Where an upload may end at most: its size, or what there is room for (UP-8).
async fn end_max(app: &App, upload: &Upload, most: i64) -> Result<Bounds, ApiError> {
    let mut connection = app.db.begin().await?;
    let tenant = crate::call::TenantId(upload.tenant_id);
    let may = db::uploads::uploader(&mut connection, tenant, upload.owner_id, Some(upload.id)).await?;
    connection.commit().await?;
    Ok(Bounds {
        size: upload.size_bytes.unwrap_or(most).min(most),
        room: may.room(),
    })
}

/// What bounds an upload.
struct Bounds {
    /// The file's size, or the largest there may be.
    size: i64,
    /// What the quotas have room for.
    room: Option<i64>,
}

impl Bounds {
    fn end_max(&self) -> i64 {
        self.room.map_or(self.size, |room| room.min(self.size))
    }

    /// Why more bytes than that are refused.
    fn excess(&self) -> Code {
        match self.room.is_some_and(|room| room < self.size) {
            true => Code::StorageQuotaExceeded,
            false => Code::FileTooLarge,
        }
    }
}

/// Completes an upload after its last byte if it is to complete by itself (UP-15). What is wrong with it then stands in it.
async fn complete_by_itself(app: &Arc<App>, upload: &Upload, offset: i64, actor: Actor) -> Result<(), ApiError> {
    if !upload.auto_complete || upload.size_bytes.is_some_and(|size| size != offset) {
        return Ok(());
    }
    match import::complete(app, upload.id, None, actor).await {
        Ok(_) => Ok(()),
        Err(error) if error.code.status() < 500 => Ok(()),
        Err(error) => {
            tracing::warn!(upload = %upload.id, cause = ?error.cause, "was not imported yet");
            Ok(())
        }
    }
}
