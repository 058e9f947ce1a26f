//! Import: an upload whose bytes are all there becomes an asset, and a job that makes its ladder (UP-2, UP-3).

use std::path::Path;
use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::app::App;
use crate::call::TenantId;
use crate::db;
use crate::db::uploads::Upload;
use crate::encoding::{changed, source_path};
use crate::error::{ApiError, Code};
use crate::upload::{self, Status, store};
use crate::work::{Actor, Work};
use crate::{encoding, source};

/// Whoever began an import and did not end it by then will not.
const IMPORT_TIME_MAX: TimeDelta = TimeDelta::minutes(2);
/// Sources up to this size are hashed at once, larger ones by the worker that encodes them.
const HASHED_SIZE_BYTES_MAX: i64 = 256 << 20;

/// Completes an upload: the first who asks does it, all others get what came of it. `sha256` is what the client says that
/// the bytes are.
pub async fn complete(
    app: &Arc<App>,
    id: Uuid,
    sha256: Option<[u8; 32]>,
    actor: Actor,
) -> Result<(Upload, bool), ApiError> {
    let mut connection = app.db.acquire().await?;
    let is_mine = db::uploads::complete(&mut connection, id).await?;
    let found = db::uploads::get(&mut connection, None, id)
        .await?
        .ok_or(Code::UploadGone)?;
    drop(connection);
    if !is_mine {
        return match Status::of(&found.status).complete(found.offset_bytes, found.size_bytes)? {
            false => Ok((found, false)),
            // Somebody completed and failed in between.
            true => Err(Code::UploadIncomplete.into()),
        };
    }
    // Whoever asks may go away; what was begun is ended.
    let task = tokio::spawn({
        let app = Arc::clone(app);
        async move { import(&app, found, sha256, actor).await }
    });
    Ok((task.await.map_err(ApiError::internal)??, true))
}

/// Hash of a file. Blocking.
pub fn hash_file(path: &Path, stop: &dyn Fn() -> bool) -> std::io::Result<Option<[u8; 32]>> {
    use std::io::Read as _;
    let mut file = std::fs::File::open(path)?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut buffer)?;
        match buffer.get(..count) {
            Some([]) | None => return Ok(Some(digest.finalize().into())),
            Some(bytes) => digest.update(bytes),
        }
        if stop() {
            return Ok(None);
        }
    }
}

/// Looks at the bytes: what they are, or why they are no good.
async fn look(app: &Arc<App>, upload: &Upload, said: Option<[u8; 32]>) -> Result<Looked, ApiError> {
    let path = source_path(app, &upload.storage_path);
    let (asset_type, content_type) = (upload.asset_type.clone(), upload.content_type.clone());
    let hashes = said.is_some() || upload.offset_bytes <= HASHED_SIZE_BYTES_MAX;
    let app = Arc::clone(app);
    let looked = tokio::task::spawn_blocking(move || {
        let sha256 = match hashes {
            true => hash_file(&path, &|| false)?,
            false => None,
        };
        if said.is_some() && said != sha256 {
            return Ok::<_, std::io::Error>(Err("its SHA-256 is not what was said".to_owned()));
        }
        let facts = source::check(&path, &asset_type, &content_type, app.probe());
        Ok(facts.map(|facts| (facts, sha256)))
    });
    looked.await.map_err(ApiError::internal)?.map_err(ApiError::unavailable)
}

type Looked = Result<(source::Facts, Option<[u8; 32]>), String>;

async fn import(app: &Arc<App>, upload: Upload, said: Option<[u8; 32]>, actor: Actor) -> Result<Upload, ApiError> {
    let looked = look(app, &upload, said).await?;
    let mut work = Work::begin_as(app, TenantId(upload.tenant_id), actor).await?;
    // Whoever cancelled meanwhile was first.
    let Some(upload) = db::uploads::lock(work.connection(), upload.id).await? else {
        return Err(Code::UploadGone.into());
    };
    match Status::of(&upload.status) {
        Status::Uploaded => {}
        Status::Processing | Status::Completed => return Ok(upload),
        _ => return Err(Code::UploadGone.into()),
    }
    let (facts, sha256) = match looked {
        Ok(found) => found,
        Err(why) => {
            refuse(&mut work, &upload, &why).await?;
            work.commit().await?;
            remove_files(app).await;
            return Err(ApiError::with(Code::InvalidMedia, format!("the file {why}")));
        }
    };
    let asset = Uuid::now_v7();
    let is_video = upload::is_video(&upload.asset_type);
    let policy = match upload.target_id {
        Some(_) => "session",
        None => app.settings().media.default_delivery_policy.as_str(),
    };
    let row = db::assets::NewAsset {
        id: asset,
        upload: &upload,
        title: upload.title.as_deref().unwrap_or(&upload.filename),
        sha256,
        status: if is_video { "uploaded" } else { "ready" },
        delivery_policy: policy,
        duration_seconds: facts.duration_seconds,
        dimensions: facts.dimensions,
        now: work.now,
    };
    db::assets::insert(work.connection(), &row).await?;
    db::uploads::use_storage(work.connection(), upload.owner_id, upload.offset_bytes).await?;
    let now = work.now;
    let (status, transcode_status) = match is_video {
        true => {
            db::encodings::insert(work.connection(), upload.tenant_id, asset, &[], 0, now).await?;
            ("processing", "queued")
        }
        false => ("completed", "not_required"),
    };
    db::uploads::set_status(
        work.connection(),
        upload.id,
        status,
        transcode_status,
        Some(asset),
        None,
    )
    .await?;
    let payload = json!({ "id": asset, "type": upload.asset_type, "title": row.title, "upload_id": upload.id });
    work.emit("media.uploaded", Some(upload.owner_id), payload).await?;
    if !is_video && upload.auto_publish {
        publish(&mut work, asset).await?;
    }
    let metadata = json!({ "upload_id": upload.id, "type": upload.asset_type, "target_id": upload.target_id });
    work.audit("media.uploaded", "media", Some(asset), metadata).await?;
    changed(&mut work, asset, upload.target_id).await?;
    let done = db::uploads::get(work.connection(), None, upload.id).await?;
    work.commit().await?;
    done.ok_or_else(|| ApiError::internal("an imported upload is not there"))
}

async fn publish(work: &mut Work, asset: Uuid) -> Result<(), ApiError> {
    let (tenant, now) = (work.tenant, work.now);
    let row = db::assets::get(work.connection(), tenant, asset, db::Lock::Change).await?;
    let Some(mut row) = row else { return Ok(()) };
    row.published = true;
    row.published_at = Some(now);
    row.first_published_at = Some(now);
    db::assets::update(work.connection(), &row).await?;
    let payload = json!({ "id": row.id, "type": row.r#type, "title": row.title, "target_id": row.target_id });
    work.emit("media.published", Some(row.owner_id), payload).await
}

async fn refuse(work: &mut Work, upload: &Upload, why: &str) -> Result<(), ApiError> {
    db::uploads::set_status(work.connection(), upload.id, "failed", "not_required", None, Some(why)).await?;
    let payload = json!({ "upload_id": upload.id, "type": upload.asset_type, "error_message": why });
    work.emit("media.failed", Some(upload.owner_id), payload).await?;
    let metadata = json!({ "upload_id": upload.id, "error_message": why });
    work.audit("media.failed", "upload", Some(upload.id), metadata).await
}

/// Ends what somebody began and did not end, ends what nobody goes on with, removes the files of what is gone.
pub async fn tidy(app: &Arc<App>) -> Result<(), ApiError> {
    let now = app.now();
    for id in db::uploads::expire(&app.db, now).await? {
        app.writers.stop(id).await;
        tracing::debug!(upload = %id, "expired");
    }
    for id in db::uploads::stuck(&app.db, now - IMPORT_TIME_MAX).await? {
        let upload = db::uploads::get(&mut *app.db.acquire().await?, None, id).await?;
        let Some(upload) = upload else { continue };
        match import(app, upload, None, Actor::system()).await {
            Ok(_) => tracing::info!(upload = %id, "imported after its first import was broken off"),
            Err(error) => {
                tracing::warn!(upload = %id, code = error.code.name(), cause = ?error.cause, "was not imported")
            }
        }
    }
    encoding::give_up(app).await?;
    remove_files(app).await;
    Ok(())
}

/// Removes files that nobody needs any more. What fails is tried again later.
pub async fn remove_files(app: &Arc<App>) {
    let done = async {
        for (id, name) in db::uploads::removable(&app.db).await? {
            match store::remove(&source_path(app, &name)).await {
                Ok(()) => db::uploads::removed(&app.db, id).await?,
                Err(error) => tracing::warn!(%error, file = name, "was not removed"),
            }
        }
        for (blob, name) in db::assets::unused_sources(&app.db).await? {
            match store::remove(&source_path(app, &name)).await {
                Ok(()) => db::assets::forget_source(&app.db, blob).await?,
                Err(error) => tracing::warn!(%error, file = name, "was not removed"),
            }
        }
        Ok::<_, sqlx::Error>(())
    };
    if let Err(error) = done.await {
        tracing::warn!(%error, "files that nobody needs were not removed");
    }
}
