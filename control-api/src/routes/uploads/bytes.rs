//! Bytes without tus: a signed address that takes PUT, in parts or whole, and forms (UP-1, UP-5, UP-14).

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use serde_json::Value;

use super::{
    Announced, Bounds, announce, check_target, check_there, complete_by_itself, end_max, path_of, schema, shown,
    size_max, url_place,
};
use crate::app::App;
use crate::call::{Call, TenantId};
use crate::db;
use crate::db::uploads::Upload;
use crate::error::{ApiError, Code};
use crate::import;
use crate::operation::{Answer, Caller, Endpoint, post, put};
use crate::reply::Reply;
use crate::schema::{integer, text};
use crate::secrets::unhex;
use crate::upload::store::{self, Receiving};
use crate::upload::{ASSET_TYPES, ContentRange, SIZE_BYTES_MAX, Status};
use crate::work::{Actor, Work};

/// Longest field of a form beside the file.
const FIELD_SIZE_BYTES_MAX: u64 = 16 << 10;
/// Fields of a form.
const FIELD_COUNT_MAX: usize = 20;
/// What a form takes around its file.
const FORM_SIZE_BYTES: i64 = 1 << 20;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        put("uploads.put", "/uploads/{upload_id}/data", Caller::Signed, receive)
            .summary("Bytes of an upload: all, or from Content-Range on")
            .stream()
            .query_required("exp", integer(0, i64::MAX))
            .query_required("sig", text(1, 128))
            .header("Content-Range", text(1, 100))
            .empty(200)
            .empty(308)
            .errors(&[
                Code::SignatureInvalid,
                Code::UploadOffsetMismatch,
                Code::FileTooLarge,
                Code::UploadGone,
                Code::UploadLocked,
                Code::StorageQuotaExceeded,
            ])
            .cache_control("no-store")
            .rules("UP-1, UP-8, UP-14, UP-15"),
        post("uploads.direct", "/uploads/direct", Caller::Any, direct)
            .summary("A whole file in one form")
            .stream()
            .reply(202, schema())
            .errors(&[
                Code::FileTooLarge,
                Code::InvalidMedia,
                Code::StorageQuotaExceeded,
                Code::UploadNotAllowed,
            ])
            .cache_control("no-store")
            .rules("UP-3, UP-5"),
    ]
}

/// How far a PUT is: all of it, or up to here.
fn stand(offset: i64, whole: bool) -> Answer {
    match (whole, offset) {
        (true, _) => Ok(Reply::empty(200)),
        (false, 0) => Ok(Reply::empty(308)),
        (false, offset) => Reply::empty(308).with(RANGE, &format!("bytes=0-{}", offset - 1)),
    }
}

async fn receive(app: Arc<App>, call: Call) -> Answer {
    let id = call.path_id("upload_id")?;
    let expires = call.query_number("exp").unwrap_or(0);
    let sig = call
        .query_text("sig")
        .and_then(unhex::<32>)
        .ok_or(Code::SignatureInvalid)?;
    let holds = app.secrets.verify(&url_place(id), expires.to_string().as_bytes(), &sig);
    if !holds || expires <= call.now.timestamp() {
        return Err(Code::SignatureInvalid.into());
    }
    let mut connection = app.db.acquire().await?;
    let upload = db::uploads::get(&mut connection, None, id)
        .await?
        .ok_or(Code::UploadGone)?;
    drop(connection);
    check_there(&upload, call.now)?;
    let header = call
        .headers
        .get(CONTENT_RANGE)
        .map(|value| value.to_str().unwrap_or_default());
    let range = match header {
        None => None,
        Some(text) => {
            Some(ContentRange::parse(text).ok_or_else(|| ApiError::parameter("Content-Range", "can not be read"))?)
        }
    };
    let is_open = Status::of(&upload.status).is_open();
    let settled = !is_open || app.writers.settle(id).await;
    let mut connection = app.db.acquire().await?;
    let upload = db::uploads::get(&mut connection, None, id)
        .await?
        .ok_or(Code::UploadGone)?;
    drop(connection);
    let is_whole = |upload: &Upload, offset: i64| upload.size_bytes == Some(offset);
    if !is_open {
        return stand(upload.offset_bytes, true);
    }
    if let Some(ContentRange::Asked { .. }) = range {
        return stand(upload.offset_bytes, is_whole(&upload, upload.offset_bytes));
    }
    if !settled {
        return Err(Code::UploadLocked.into());
    }
    let length = call.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|text| text.parse::<i64>().ok());
    // Without a range it is all of the file, from the beginning on.
    let (first, announced, total) = match range {
        Some(ContentRange::Bytes { first, size, total }) => (first, Some(size), total),
        _ => (0, length, length),
    };
    if upload
        .size_bytes
        .is_some_and(|size| total.is_some_and(|total| total != size))
    {
        return Err(ApiError::parameter(
            "Content-Range",
            "names another size than was announced",
        ));
    }
    if range.is_none() && upload.offset_bytes > 0 {
        let mut connection = app.db.acquire().await?;
        db::uploads::advance(&mut connection, id, 0, None, call.now).await?;
    } else if first != upload.offset_bytes {
        return Err(Code::UploadOffsetMismatch.into());
    }
    let most = app
        .settings()
        .media
        .upload_max_bytes_api
        .and_then(|most| i64::try_from(most).ok());
    let bounds = end_max(&app, &upload, most.unwrap_or(SIZE_BYTES_MAX)).await?;
    let end = announced.and_then(|count| first.checked_add(count));
    if end.or(total).is_some_and(|end| end > bounds.end_max()) {
        return Err(bounds.excess().into());
    }
    let received = store::receive(
        &app,
        Receiving {
            upload: id,
            path: path_of(&app, &upload),
            offset: first,
            end_max: end.unwrap_or(bounds.end_max()).min(bounds.end_max()),
            size: total.filter(|_| upload.size_bytes.is_none()),
            checksum: None,
            body: call.stream().unwrap_or_else(Body::empty),
        },
    )
    .await?;
    if received.excess {
        return Err(bounds.excess().into());
    }
    if received.broken {
        return Err(ApiError::with(Code::BadRequest, "the body broke off"));
    }
    let mut size = upload.size_bytes.or(total);
    // Of a body in chunks without a range, the end tells the size.
    if size.is_none() && range.is_none() {
        let mut connection = app.db.acquire().await?;
        db::uploads::advance(&mut connection, id, received.offset, Some(received.offset), app.now()).await?;
        size = Some(received.offset);
    }
    let whole = size == Some(received.offset);
    if whole {
        let owner = Actor {
            id: Some(upload.owner_id),
            ..Actor::of(&call)
        };
        complete_by_itself(&app, &upload, received.offset, owner).await?;
    }
    stand(received.offset, whole)
}

/// Fields of a form beside the file.
#[derive(Default)]
struct Fields {
    title: Option<String>,
    asset_type: Option<String>,
    folder: Option<String>,
    target: Option<Value>,
}

impl Fields {
    fn set(&mut self, name: &str, value: String) -> Result<(), ApiError> {
        if value.contains('\0') {
            return Err(ApiError::invalid(name, "must not contain NUL"));
        }
        match name {
            "title" if !(1..=255).contains(&value.chars().count()) => {
                return Err(ApiError::invalid("title", "must have 1 to 255 characters"));
            }
            "title" => self.title = Some(value),
            "asset_type" if !ASSET_TYPES.contains(&value.as_str()) => {
                return Err(ApiError::invalid("asset_type", "is no type of asset"));
            }
            "asset_type" => self.asset_type = Some(value),
            "folder_id" => self.folder = Some(value),
            "target" => {
                let target = serde_json::from_str(&value);
                self.target = Some(target.map_err(|_| ApiError::invalid("target", "must be JSON"))?);
            }
            _ => return Err(ApiError::invalid(name, "is no known field")),
        }
        Ok(())
    }
}

fn broken(error: &multer::Error) -> ApiError {
    ApiError::with(Code::BadRequest, format!("the form can not be read: {error}"))
}

async fn direct(app: Arc<App>, call: Call) -> Answer {
    let content_type = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(content_type.unwrap_or_default())
        .map_err(|_| ApiError::with(Code::UnsupportedMediaType, "Content-Type must be multipart/form-data"))?;
    let most = size_max(&app, &call, "direct");
    let length = call.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    if length > most.saturating_add(FORM_SIZE_BYTES) {
        return Err(Code::FileTooLarge.into());
    }
    let body = call.stream().unwrap_or_else(Body::empty);
    let limits = multer::SizeLimit::new().per_field(u64::try_from(SIZE_BYTES_MAX).unwrap_or(u64::MAX));
    let constraints = multer::Constraints::new().size_limit(limits);
    let mut form = multer::Multipart::with_constraints(body.into_data_stream(), boundary, constraints);
    let mut fields = Fields::default();
    let mut stored: Option<Upload> = None;
    let mut count = 0;
    let read = async {
        while let Some(mut field) = form.next_field().await.map_err(|error| broken(&error))? {
            count += 1;
            if count > FIELD_COUNT_MAX {
                return Err(ApiError::with(Code::BadRequest, "the form has too many fields"));
            }
            let name = field.name().unwrap_or_default().to_owned();
            if name == "file" && stored.is_none() {
                let upload = begin(&app, &call, &field, &fields).await?;
                stored = Some(upload.clone());
                let bounds = end_max(&app, &upload, most).await?;
                let offset = store_field(&app, &upload, &bounds, field).await?;
                let mut connection = app.db.acquire().await?;
                db::uploads::advance(&mut connection, upload.id, offset, Some(offset), app.now()).await?;
                continue;
            }
            let mut value = Vec::new();
            while let Some(bytes) = field.chunk().await.map_err(|error| broken(&error))? {
                value.extend_from_slice(&bytes);
                if value.len() as u64 > FIELD_SIZE_BYTES_MAX {
                    return Err(ApiError::invalid(&name, "is too long"));
                }
            }
            let value = String::from_utf8(value).map_err(|_| ApiError::invalid(&name, "must be UTF-8"))?;
            fields.set(&name, value)?;
        }
        Ok(())
    };
    let done = match read.await {
        Ok(()) => amend(&app, &call, stored.as_ref(), &fields).await,
        Err(error) => Err(error),
    };
    let Some(upload) = stored else {
        done?;
        return Err(ApiError::invalid("file", "must be there"));
    };
    if let Err(error) = done {
        // Nothing is kept of a form that was refused.
        let mut connection = app.db.acquire().await?;
        db::uploads::set_status(&mut connection, upload.id, "canceled", "canceled", None, None).await?;
        drop(connection);
        import::remove_files(&app).await;
        return Err(error);
    }
    let (upload, _) = import::complete(&app, upload.id, None, Actor::of(&call)).await?;
    Reply::json(202, &shown(&app, &upload, call.now))
}

async fn begin(app: &Arc<App>, call: &Call, field: &multer::Field<'_>, fields: &Fields) -> Result<Upload, ApiError> {
    let said = Announced {
        asset_type: fields.asset_type.clone().unwrap_or_else(|| "video_master".to_owned()),
        filename: field.file_name().unwrap_or("upload").to_owned(),
        content_type: field
            .content_type()
            .map_or_else(|| "application/octet-stream".to_owned(), ToString::to_string)
            .chars()
            .take(255)
            .collect(),
        size: None,
        title: fields.title.clone(),
        target: fields.target.clone(),
        transport: "direct",
        folder: fields.folder.clone(),
        client_upload_uuid: None,
        auto_complete: Some(true),
        auto_publish: None,
    };
    let mut work = Work::begin(app, call).await?;
    let upload = announce(app, &mut work, call, said).await?;
    work.commit().await?;
    Ok(upload)
}

async fn store_field(
    app: &Arc<App>,
    upload: &Upload,
    bounds: &Bounds,
    field: multer::Field<'static>,
) -> Result<i64, ApiError> {
    let received = store::receive(
        app,
        Receiving {
            upload: upload.id,
            path: path_of(app, upload),
            offset: 0,
            end_max: bounds.end_max(),
            size: None,
            checksum: None,
            body: Body::from_stream(field),
        },
    )
    .await?;
    match received {
        received if received.excess => Err(bounds.excess().into()),
        received if received.broken => Err(ApiError::with(Code::BadRequest, "the body broke off")),
        received if received.offset == 0 => Err(ApiError::invalid("file", "is empty")),
        received => Ok(received.offset),
    }
}

/// Takes into account what came after the file.
async fn amend(app: &Arc<App>, call: &Call, upload: Option<&Upload>, fields: &Fields) -> Result<(), ApiError> {
    let Some(upload) = upload else { return Ok(()) };
    if fields.folder.is_some() {
        return Err(ApiError::invalid("folder_id", "names no folder"));
    }
    let mut work = Work::begin(app, call).await?;
    work.tenant = TenantId(upload.tenant_id);
    let target = check_target(&mut work, call, fields.target.as_ref()).await?;
    let amended = Upload {
        title: fields.title.clone().or_else(|| upload.title.clone()),
        asset_type: fields.asset_type.clone().unwrap_or_else(|| upload.asset_type.clone()),
        target_type: target.as_ref().map(|target| target.0.clone()),
        target_id: target.as_ref().map(|target| target.1),
        target_language: target.as_ref().and_then(|target| target.2.clone()),
        target_kind: target.as_ref().and_then(|target| target.3.clone()),
        ..upload.clone()
    };
    db::uploads::amend(work.connection(), &amended).await?;
    work.commit().await
}
