//! tus 1.0: creation, with bytes or without; termination, expiration, checksum (UP-6, UP-7).

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use uuid::Uuid;

use super::{Announced, announce, check_there, complete_by_itself, end, end_max, find, path_of, size_max};
use crate::app::App;
use crate::call::Call;
use crate::db::uploads::Upload;
use crate::error::{ApiError, Code};
use crate::operation::{Answer, Caller, Endpoint, delete, head, options, patch, post};
use crate::reply::Reply;
use crate::schema::text;
use crate::upload::store::{self, Receiving};
use crate::upload::{self, CHECKSUM_ALGORITHMS, Checksum, SIZE_BYTES_MAX, Status};
use crate::work::{Actor, Work};

const VERSION: &str = "1.0.0";
const OFFSET_TYPE: &str = "application/offset+octet-stream";
const EXTENSIONS: &str = "creation,creation-with-upload,termination,expiration,checksum";
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const RFC_9110_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

pub(super) fn endpoints() -> Vec<Endpoint> {
    let creation: &[Code] = &[
        Code::TusVersionUnsupported,
        Code::FileTooLarge,
        Code::StorageQuotaExceeded,
        Code::UploadNotAllowed,
        Code::Conflict,
        Code::UploadLocked,
        Code::UploadChecksumMismatch,
        Code::UploadOffsetMismatch,
        Code::UploadGone,
    ];
    let endpoints = vec![
        options("uploads.tus_options", "/uploads/tus", Caller::Public, ask)
            .summary("What of tus is spoken")
            .empty(204),
        post("uploads.tus_create", "/uploads/tus", Caller::Any, create)
            .summary("Announce an upload by tus, perhaps with its first bytes")
            .stream()
            .header("Upload-Length", text(1, 20))
            .header("Upload-Metadata", text(0, 16_384))
            .empty(201)
            .errors(creation)
            .rules("UP-6"),
        head("uploads.tus_head", "/uploads/tus/{upload_id}", Caller::Any, offset)
            .summary("How much of an upload is stored")
            .empty(200)
            .errors(&[Code::TusVersionUnsupported, Code::UploadGone])
            .unmetered()
            .rules("UP-6"),
        patch("uploads.tus_patch", "/uploads/tus/{upload_id}", Caller::Any, append)
            .summary("More bytes of an upload")
            .stream()
            .header("Upload-Offset", text(1, 20))
            .header("Upload-Checksum", text(1, 200))
            .empty(204)
            .errors(&[
                Code::TusVersionUnsupported,
                Code::UploadOffsetMismatch,
                Code::UnsupportedMediaType,
                Code::UploadLocked,
                Code::UploadGone,
                Code::UploadChecksumMismatch,
                Code::StorageQuotaExceeded,
                Code::FileTooLarge,
            ])
            .rules("UP-6, UP-8, UP-15"),
        delete("uploads.tus_delete", "/uploads/tus/{upload_id}", Caller::Any, remove)
            .summary("Give an upload up")
            .empty(204)
            .errors(&[
                Code::TusVersionUnsupported,
                Code::UploadNotCancellable,
                Code::MediaInUse,
                Code::UploadGone,
            ])
            .rules("UP-7"),
    ];
    let spoken = endpoints.into_iter().map(|endpoint| {
        endpoint
            .cache_control("no-store")
            .always("tus-resumable", VERSION)
            .always("tus-version", VERSION)
    });
    spoken.collect()
}

/// Every request but OPTIONS says which version it speaks.
fn check_version(call: &Call) -> Result<(), ApiError> {
    match call.header("tus-resumable") {
        Some(VERSION) => Ok(()),
        _ => Err(Code::TusVersionUnsupported.into()),
    }
}

async fn ask(app: Arc<App>, _call: Call) -> Answer {
    let most = app.settings().media.upload_max_bytes_api;
    let most = most.and_then(|most| i64::try_from(most).ok()).unwrap_or(SIZE_BYTES_MAX);
    Reply::empty(204)
        .with(HeaderName::from_static("tus-extension"), EXTENSIONS)?
        .with(
            HeaderName::from_static("tus-max-size"),
            &most.min(SIZE_BYTES_MAX).to_string(),
        )?
        .with(HeaderName::from_static("tus-checksum-algorithm"), CHECKSUM_ALGORITHMS)
}

fn number(call: &Call, name: &'static str) -> Result<i64, ApiError> {
    let text = call
        .header(name)
        .ok_or_else(|| ApiError::parameter(name, "is missing"))?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<i64>().ok().filter(|_| digits);
    number.ok_or_else(|| ApiError::parameter(name, "must be a whole number"))
}

async fn create(app: Arc<App>, call: Call) -> Answer {
    check_version(&call)?;
    if call.header("upload-defer-length").is_some() {
        return Err(ApiError::parameter("Upload-Defer-Length", "is not spoken here"));
    }
    let size = number(&call, "upload-length")?;
    if size < 1 {
        return Err(ApiError::invalid("Upload-Length", "must be at least 1"));
    }
    let metadata = upload::tus_metadata(call.header("upload-metadata").unwrap_or_default());
    let metadata = metadata.ok_or_else(|| ApiError::parameter("Upload-Metadata", "must be names with Base64"))?;
    let value = |names: &[&str]| {
        let found = metadata.iter().find(|(name, _)| names.contains(&name.as_str()));
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    let asset_type = value(&["asset_type"]).unwrap_or_else(|| "video_master".to_owned());
    if !upload::ASSET_TYPES.contains(&asset_type.as_str()) {
        return Err(ApiError::invalid("asset_type", "is no type of asset"));
    }
    let longest = |name: &'static str, text: Option<String>, most: usize| match text {
        Some(text) if text.chars().count() > most || text.contains('\0') => {
            Err(ApiError::invalid(name, format!("must have at most {most} characters")))
        }
        text => Ok(text),
    };
    let target = value(&["target"]).map(|text| serde_json::from_str(&text));
    let said = Announced {
        asset_type,
        filename: value(&["filename", "name"]).unwrap_or_else(|| "upload".to_owned()),
        content_type: longest("filetype", value(&["filetype", "content_type", "type"]), 255)?
            .unwrap_or_else(|| "application/octet-stream".to_owned()),
        size: Some(size),
        title: longest("title", value(&["title"]), 255)?,
        target: target
            .transpose()
            .map_err(|_| ApiError::invalid("target", "must be JSON"))?,
        transport: "tus",
        folder: value(&["parent_folder_id", "folder_id"]),
        client_upload_uuid: longest("client_upload_uuid", value(&["client_upload_uuid"]), 64)?,
        auto_complete: value(&["auto_complete"]).map(|text| text == "true" || text == "1"),
        auto_publish: value(&["auto_publish"]).map(|text| text == "true" || text == "1"),
    };
    let mut work = Work::begin(&app, &call).await?;
    let upload = announce(&app, &mut work, &call, said).await?;
    work.commit().await?;
    let mut expires_at = upload.expires_at;
    let location = format!("/api/v1/uploads/tus/{}", upload.id);
    let mut reply = Reply::empty(201).with(axum::http::header::LOCATION, &location)?;
    // Its type says that there are bytes.
    if check_type(&call).is_ok() {
        let offset = receive(&app, &call, &upload, 0).await?;
        expires_at = app.now() + upload::IDLE;
        reply = reply.with(UPLOAD_OFFSET, &offset.to_string())?;
    }
    reply.with(UPLOAD_EXPIRES, &expires_at.format(RFC_9110_DATE).to_string())
}

fn check_type(call: &Call) -> Result<(), ApiError> {
    let found = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match found.is_some_and(|found| found.eq_ignore_ascii_case(OFFSET_TYPE)) {
        true => Ok(()),
        false => Err(ApiError::with(
            Code::UnsupportedMediaType,
            format!("Content-Type must be {OFFSET_TYPE}"),
        )),
    }
}

async fn offset(app: Arc<App>, call: Call) -> Answer {
    check_version(&call)?;
    let mut upload = find(&app, &call).await?;
    // What a broken connection brought is being stored: who asks now wants to go on after it.
    if Status::of(&upload.status).is_open() {
        app.writers.settle(upload.id).await;
        upload = find(&app, &call).await?;
    }
    let mut reply = Reply::empty(200).with(UPLOAD_OFFSET, &upload.offset_bytes.to_string())?;
    if let Some(size) = upload.size_bytes {
        reply = reply.with(UPLOAD_LENGTH, &size.to_string())?;
    }
    reply.with(UPLOAD_EXPIRES, &upload.expires_at.format(RFC_9110_DATE).to_string())
}

async fn append(app: Arc<App>, call: Call) -> Answer {
    check_version(&call)?;
    check_type(&call)?;
    let offset = number(&call, "upload-offset")?;
    let upload = find(&app, &call).await?;
    let stored = receive(&app, &call, &upload, offset).await?;
    let expires_at = app.now() + upload::IDLE;
    Reply::empty(204)
        .with(UPLOAD_OFFSET, &stored.to_string())?
        .with(UPLOAD_EXPIRES, &expires_at.format(RFC_9110_DATE).to_string())
}

/// Stores the body from `offset` on; what is stored then.
async fn receive(app: &Arc<App>, call: &Call, upload: &Upload, offset: i64) -> Result<i64, ApiError> {
    check_there(upload, call.now)?;
    let checksum = call.header("upload-checksum").map(Checksum::parse).transpose()?;
    if upload.transport != "tus" || !Status::of(&upload.status).is_open() || offset != upload.offset_bytes {
        // Bytes may be on their way to disk still: then this is too early, not wrong.
        return match Status::of(&upload.status).is_open() && !app.writers.settle(upload.id).await {
            true => Err(Code::UploadLocked.into()),
            false => Err(Code::UploadOffsetMismatch.into()),
        };
    }
    let bounds = end_max(app, upload, size_max(app, call, "tus")).await?;
    let declared = call.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let declared = declared.and_then(|text| text.parse::<i64>().ok());
    if declared.is_some_and(|count| offset.saturating_add(count) > bounds.end_max()) {
        return Err(bounds.excess().into());
    }
    let body = call.stream().unwrap_or_else(Body::empty);
    let received = store::receive(
        app,
        Receiving {
            upload: upload.id,
            path: path_of(app, upload),
            offset,
            end_max: bounds.end_max(),
            size: None,
            checksum,
            body,
        },
    )
    .await?;
    if received.excess {
        return Err(bounds.excess().into());
    }
    if received.broken {
        return Err(ApiError::with(Code::BadRequest, "the body broke off"));
    }
    complete_by_itself(app, upload, received.offset, Actor::of(call)).await?;
    Ok(received.offset)
}

async fn remove(app: Arc<App>, call: Call) -> Answer {
    check_version(&call)?;
    let upload = find(&app, &call).await?;
    let id: Uuid = upload.id;
    match Status::of(&upload.status).is_open() {
        true => end(&app, &call, id).await?,
        false => return Err(Code::UploadNotCancellable.into()),
    }
    Ok(Reply::empty(204))
}
