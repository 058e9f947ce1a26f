//! Rows of uploads: what was announced, how much of it came, what became of it.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::call::TenantId;
use crate::page::PageRequest;
use crate::upload;

/// An upload as it is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Upload {
    /// Which.
    pub id: Uuid,
    /// Whose tenant's.
    pub tenant_id: Uuid,
    /// Whose.
    pub owner_id: Uuid,
    /// What it will be.
    pub asset_type: String,
    /// As the client calls it.
    pub filename: String,
    /// As the client says.
    pub content_type: String,
    /// How large it will be, where that is known.
    pub size_bytes: Option<i64>,
    /// Of the asset.
    pub title: Option<String>,
    /// What it is attached to: `movie`, …
    pub target_type: Option<String>,
    /// Which.
    pub target_id: Option<Uuid>,
    /// Language of subtitles and sound.
    pub target_language: Option<String>,
    /// Their purpose.
    pub target_kind: Option<String>,
    /// How bytes come.
    pub transport: String,
    /// The client's own name.
    pub client_upload_uuid: Option<String>,
    /// Whether the last byte completes it.
    pub auto_complete: bool,
    /// Whether the asset is published once it is ready.
    pub auto_publish: bool,
    /// Name of its file; empty once that is gone.
    pub storage_path: String,
    /// How much is stored.
    pub offset_bytes: i64,
    /// State.
    pub status: String,
    /// State of its ladder.
    pub transcode_status: String,
    /// What it became.
    pub asset_id: Option<Uuid>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// When it ends unless bytes come.
    pub expires_at: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    pub updated_at: DateTime<Utc>,
    /// How far its ladder is.
    pub progress_permille: Option<i32>,
}

const COLUMNS: &str = "t.id, t.tenant_id, t.owner_id, t.asset_type, t.filename, t.content_type, t.size_bytes, t.title,
  t.target_type, t.target_id, t.target_language, t.target_kind, t.transport, t.client_upload_uuid, t.auto_complete,
  t.auto_publish, t.storage_path, t.offset_bytes, t.status, t.transcode_status, t.asset_id, t.error_message, t.expires_at,
  t.created_at, t.updated_at,
  (select j.progress_permille from encoding_jobs j where j.asset_id = t.asset_id order by j.created_at desc limit 1)
    as progress_permille";

/// Stores a new one. The constraint `uploads_client` says that the client's name is taken.
pub async fn insert(connection: &mut PgConnection, upload: &Upload) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into uploads (id, tenant_id, owner_id, asset_type, filename, content_type, size_bytes, title, target_type,
           target_id, target_language, target_kind, transport, client_upload_uuid, auto_complete, auto_publish, storage_path,
           expires_at, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $19)",
    )
    .bind(upload.id)
    .bind(upload.tenant_id)
    .bind(upload.owner_id)
    .bind(&upload.asset_type)
    .bind(&upload.filename)
    .bind(&upload.content_type)
    .bind(upload.size_bytes)
    .bind(&upload.title)
    .bind(&upload.target_type)
    .bind(upload.target_id)
    .bind(&upload.target_language)
    .bind(&upload.target_kind)
    .bind(&upload.transport)
    .bind(&upload.client_upload_uuid)
    .bind(upload.auto_complete)
    .bind(upload.auto_publish)
    .bind(&upload.storage_path)
    .bind(upload.expires_at)
    .bind(upload.created_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// One upload of a tenant; of whichever without.
pub async fn get(
    connection: &mut PgConnection,
    tenant: Option<TenantId>,
    id: Uuid,
) -> Result<Option<Upload>, sqlx::Error> {
    let mut query = QueryBuilder::new(format!("select {COLUMNS} from uploads t where t.id = "));
    query.push_bind(id);
    if let Some(tenant) = tenant {
        query.push(" and t.tenant_id = ").push_bind(tenant.0);
    }
    query.build_query_as().fetch_optional(connection).await
}

/// The same, kept from changing.
pub async fn lock(connection: &mut PgConnection, id: Uuid) -> Result<Option<Upload>, sqlx::Error> {
    let mut query = QueryBuilder::new(format!("select {COLUMNS} from uploads t where t.id = "));
    query.push_bind(id).push(" for update of t");
    query.build_query_as().fetch_optional(connection).await
}

/// Which uploads are asked for.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Whose; everybody's in the tenant without.
    pub owner: Option<Uuid>,
    /// State.
    pub status: Option<String>,
    /// Unfinished ones alone.
    pub active: bool,
    /// The client's own name.
    pub client_upload_uuid: Option<String>,
    /// Now: what has ended is not unfinished.
    pub now: DateTime<Utc>,
}

fn push_filter(query: &mut QueryBuilder<Postgres>, tenant: TenantId, filter: &Filter) {
    query.push(" from uploads t where t.tenant_id = ").push_bind(tenant.0);
    if let Some(owner) = filter.owner {
        query.push(" and t.owner_id = ").push_bind(owner);
    }
    if let Some(status) = &filter.status {
        query.push(" and t.status = ").push_bind(status.clone());
    }
    if filter.active {
        query.push(" and t.status in ('awaiting_upload', 'uploading') and t.expires_at > ");
        query.push_bind(filter.now);
    }
    if let Some(name) = &filter.client_upload_uuid {
        query.push(" and t.client_upload_uuid = ").push_bind(name.clone());
    }
}

/// A page of uploads.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    filter: &Filter,
    page: &PageRequest,
) -> Result<super::Rows<Upload>, sqlx::Error> {
    super::page(connection, COLUMNS, page, |query| push_filter(query, tenant, filter)).await
}

/// How much of an upload is stored, while bytes may come.
pub async fn offset(connection: &mut PgConnection, id: Uuid) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("select offset_bytes from uploads where id = $1 and status in ('awaiting_upload', 'uploading')")
        .bind(id)
        .fetch_optional(connection)
        .await
}

/// Says how much is stored now; whether bytes were still welcome. `size` is taken where none was known.
pub async fn advance(
    connection: &mut PgConnection,
    id: Uuid,
    offset: i64,
    size: Option<i64>,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "update uploads set offset_bytes = $2, size_bytes = coalesce(size_bytes, $3), last_byte_at = $4, expires_at = $5,
           status = case when $2 > 0 then 'uploading' else status end
         where id = $1 and status in ('awaiting_upload', 'uploading')",
    )
    .bind(id)
    .bind(offset)
    .bind(size)
    .bind(now)
    .bind(now + upload::IDLE)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Ends the coming of bytes if all are there (UP-2): true for the one who does it.
pub async fn complete(connection: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "update uploads set status = 'uploaded' where id = $1 and status in ('awaiting_upload', 'uploading')
           and offset_bytes = size_bytes",
    )
    .bind(id)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Moves an upload on.
pub async fn set_status(
    connection: &mut PgConnection,
    id: Uuid,
    status: &str,
    transcode_status: &str,
    asset: Option<Uuid>,
    error: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update uploads set status = $2, transcode_status = $3, asset_id = coalesce($4, asset_id), error_message = $5
         where id = $1",
    )
    .bind(id)
    .bind(status)
    .bind(transcode_status)
    .bind(asset)
    .bind(error)
    .execute(connection)
    .await?;
    Ok(())
}

/// Uploads whose bytes are all there and whose import somebody began and did not end.
pub async fn stuck(pool: &PgPool, before: DateTime<Utc>) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select id from uploads where status = 'uploaded' and updated_at < $1 order by updated_at limit 20",
    )
    .bind(before)
    .fetch_all(pool)
    .await
}

/// Ends unfinished uploads to which nothing came for too long (UP-13).
pub async fn expire(pool: &PgPool, now: DateTime<Utc>) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "update uploads set status = 'canceled', transcode_status = 'canceled', error_message = 'expired'
         where status in ('awaiting_upload', 'uploading') and expires_at <= $1 returning id",
    )
    .bind(now)
    .fetch_all(pool)
    .await
}

/// Files that nobody needs any more.
pub async fn removable(pool: &PgPool) -> Result<Vec<(Uuid, String)>, sqlx::Error> {
    sqlx::query_as(
        "select id, storage_path from uploads where status in ('canceled', 'failed') and storage_path <> ''
           and not exists (select 1 from blobs b where b.storage_path = uploads.storage_path) limit 100",
    )
    .fetch_all(pool)
    .await
}

/// Says that a file is gone.
pub async fn removed(pool: &PgPool, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("update uploads set storage_path = '' where id = $1")
        .bind(id)
        .execute(pool)
        .await?;
    Ok(())
}

/// Leaves what an account has on disk to the jobs that remove files, before its rows are deleted (DL-9). Whoever imports one
/// of its uploads is waited for.
pub async fn abandon(connection: &mut PgConnection, owner: Uuid, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query("select 1 from uploads where owner_id = $1 for update")
        .bind(owner)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "insert into blobs (id, tenant_id, size_bytes, storage_path, ref_count, created_at)
         select uuid_v7(), u.tenant_id, u.offset_bytes, u.storage_path, 0, $2 from uploads u
         where u.owner_id = $1 and u.storage_path <> ''
           and not exists (select 1 from blobs b where b.storage_path = u.storage_path)",
    )
    .bind(owner)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "insert into removed_media (id, kind) select id, 'ladder' from assets where owner_id = $1 on conflict do nothing",
    )
    .bind(owner)
    .execute(connection)
    .await?;
    Ok(())
}

/// What an uploader may do, and how much room there is.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct Uploader {
    /// Whether they may upload at all.
    pub can_upload: bool,
    /// Their quota.
    pub user_quota: Option<i64>,
    /// What they use, with all that is announced.
    pub user_used: i64,
    /// Their tenant's quota.
    pub tenant_quota: Option<i64>,
    /// What their tenant uses, with all that is announced.
    pub tenant_used: i64,
}

impl Uploader {
    /// Bytes that there is room for; none is no limit.
    pub fn room(&self) -> Option<i64> {
        let user = self.user_quota.map(|quota| quota.saturating_sub(self.user_used));
        let tenant = self.tenant_quota.map(|quota| quota.saturating_sub(self.tenant_used));
        [user, tenant].into_iter().flatten().min().map(|room| room.max(0))
    }
}

/// Reads what an uploader may do. Announced bytes count as used, those of `except` apart. Where there is a quota, the rows
/// it is of stay locked, so that two can not announce into the same room.
pub async fn uploader(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: Uuid,
    except: Option<Uuid>,
) -> Result<Uploader, sqlx::Error> {
    sqlx::query("select 1 from tenants where id = $1 and storage_quota_bytes is not null for update")
        .bind(tenant.0)
        .execute(&mut *connection)
        .await?;
    sqlx::query("select 1 from users where id = $1 and storage_quota_bytes is not null for update")
        .bind(user)
        .execute(&mut *connection)
        .await?;
    sqlx::query_as(
        "with announced as (
           select owner_id, coalesce(size_bytes, offset_bytes) as size_bytes from uploads
           where tenant_id = $1 and status in ('awaiting_upload', 'uploading', 'uploaded') and id is distinct from $3
         )
         select u.can_upload, u.storage_quota_bytes as user_quota,
           u.storage_used_bytes + coalesce((select sum(size_bytes) from announced where owner_id = u.id), 0)::bigint as user_used,
           t.storage_quota_bytes as tenant_quota,
           case when t.storage_quota_bytes is null then 0 else
             (coalesce((select sum(storage_used_bytes) from users where tenant_id = $1), 0)
               + coalesce((select sum(size_bytes) from announced), 0))::bigint end as tenant_used
         from users u join tenants t on t.id = u.tenant_id where u.id = $2",
    )
    .bind(tenant.0)
    .bind(user)
    .bind(except)
    .fetch_one(connection)
    .await
}

/// Counts bytes as used, or as free again.
pub async fn use_storage(connection: &mut PgConnection, user: Uuid, bytes: i64) -> Result<(), sqlx::Error> {
    sqlx::query("update users set storage_used_bytes = greatest(0, storage_used_bytes + $2) where id = $1")
        .bind(user)
        .bind(bytes)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether a tenant has a title of this type and id.
pub async fn has_target(
    connection: &mut PgConnection,
    tenant: TenantId,
    content_type: &str,
    id: Uuid,
) -> Result<bool, sqlx::Error> {
    let sql = match content_type {
        "movie" => "select exists (select 1 from movies where tenant_id = $1 and id = $2)",
        "show" => "select exists (select 1 from shows where tenant_id = $1 and id = $2)",
        _ => return Ok(false),
    };
    sqlx::query_scalar(sql)
        .bind(tenant.0)
        .bind(id)
        .fetch_one(connection)
        .await
}

/// Writes what a form said after its file.
pub async fn amend(connection: &mut PgConnection, upload: &Upload) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update uploads set title = $2, asset_type = $3, target_type = $4, target_id = $5, target_language = $6,
           target_kind = $7
         where id = $1",
    )
    .bind(upload.id)
    .bind(&upload.title)
    .bind(&upload.asset_type)
    .bind(&upload.target_type)
    .bind(upload.target_id)
    .bind(&upload.target_language)
    .bind(&upload.target_kind)
    .execute(connection)
    .await?;
    Ok(())
}
