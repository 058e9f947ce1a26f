//! Rows of assets: the library, with what was made of each.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::call::TenantId;
use crate::page::PageRequest;

/// An asset as it is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Asset {
    /// Which.
    pub id: Uuid,
    /// Whose.
    pub owner_id: Uuid,
    /// `video_master`, …
    pub r#type: String,
    /// Its title.
    pub title: String,
    /// As it was uploaded.
    pub filename: Option<String>,
    /// As it was uploaded.
    pub content_type: Option<String>,
    /// Size of the source.
    pub size_bytes: Option<i64>,
    /// Hash of the source.
    pub sha256: Option<Vec<u8>>,
    /// State.
    pub status: String,
    /// Whether a rendition is ready.
    pub playable: bool,
    /// Whether it is for others.
    pub published: bool,
    /// When it first was, and ready.
    pub first_published_at: Option<DateTime<Utc>>,
    /// When it was last.
    pub published_at: Option<DateTime<Utc>>,
    /// How long it plays.
    pub duration_seconds: Option<f64>,
    /// Of the best rendition.
    pub width: Option<i32>,
    /// Of the best rendition.
    pub height: Option<i32>,
    /// Who may have its media.
    pub delivery_policy: String,
    /// Its folder in the library.
    pub folder_id: Option<Uuid>,
    /// Its source.
    pub source_blob: Option<Uuid>,
    /// What it is attached to.
    pub target_type: Option<String>,
    /// Which.
    pub target_id: Option<Uuid>,
    /// Language, where it is sound or text.
    pub target_language: Option<String>,
    /// Purpose, where it is sound or text.
    pub target_kind: Option<String>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    pub updated_at: DateTime<Utc>,
    /// Of the row.
    pub row_version: i64,
    /// Its renditions.
    pub renditions: Value,
    /// Its sound and text.
    pub tracks: Value,
    /// How far its running job is.
    pub progress_permille: Option<i32>,
}

const COLUMNS: &str = "t.id, t.owner_id, t.type, t.title, t.filename, t.content_type, t.size_bytes, t.sha256, t.status, t.playable,
  t.published, t.first_published_at, t.published_at, t.duration_seconds, t.width, t.height, t.delivery_policy, t.folder_id,
  t.source_blob, t.target_type, t.target_id, t.target_language, t.target_kind, t.error_message, t.created_at, t.updated_at,
  t.row_version,
  coalesce((select jsonb_agg(jsonb_build_object('id', r.id, 'profile', r.profile, 'width', r.width, 'height', r.height,
              'bitrate_bps', r.bitrate_bps, 'video_codec', r.codec, 'preset', r.preset, 'status', r.status,
              'size_bytes', r.size_bytes, 'created_at', r.created_at) order by r.height desc nulls last, r.profile)
            from renditions r where r.asset_id = t.id), '[]'::jsonb) as renditions,
  coalesce((select jsonb_agg(jsonb_build_object('id', k.id, 'kind', k.kind, 'language', k.language, 'label', k.label,
              'codec', k.codec, 'channels', k.channels, 'use', k.use, 'format', k.format, 'is_default', k.is_default)
              order by k.created_at, k.id)
            from asset_tracks k where k.asset_id = t.id), '[]'::jsonb) as tracks,
  (select j.progress_permille from encoding_jobs j where j.asset_id = t.id and j.status in ('queued', 'running')
   order by j.created_at desc limit 1) as progress_permille";

/// One asset of a tenant.
pub async fn get(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: Uuid,
    lock: super::Lock,
) -> Result<Option<Asset>, sqlx::Error> {
    let mut query = QueryBuilder::new(format!("select {COLUMNS} from assets t where t.tenant_id = "));
    query.push_bind(tenant.0).push(" and t.id = ").push_bind(id);
    if lock == super::Lock::Change {
        query.push(" for update of t");
    }
    query.build_query_as().fetch_optional(connection).await
}

/// Which assets are asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Whose; everybody's in the tenant without.
    pub owner: Option<Uuid>,
    /// Type.
    pub r#type: Option<String>,
    /// State.
    pub status: Option<String>,
    /// Folder; `Some(None)` for those in none.
    pub folder: Option<Option<Uuid>>,
    /// Whether published.
    pub published: Option<bool>,
    /// Whether attached to nothing.
    pub unattached: Option<bool>,
    /// Words.
    pub q: Option<String>,
}

fn push_filter(query: &mut QueryBuilder<Postgres>, tenant: TenantId, filter: &Filter) {
    query.push(" from assets t where t.tenant_id = ").push_bind(tenant.0);
    if let Some(owner) = filter.owner {
        query.push(" and t.owner_id = ").push_bind(owner);
    }
    if let Some(kind) = &filter.r#type {
        query.push(" and t.type = ").push_bind(kind.clone());
    }
    if let Some(status) = &filter.status {
        query.push(" and t.status = ").push_bind(status.clone());
    }
    if let Some(folder) = filter.folder {
        query.push(" and t.folder_id is not distinct from ").push_bind(folder);
    }
    if let Some(published) = filter.published {
        query.push(" and t.published = ").push_bind(published);
    }
    if let Some(unattached) = filter.unattached {
        query.push(" and (t.target_id is null) = ").push_bind(unattached);
    }
    if let Some(words) = &filter.q {
        query
            .push(" and t.search @@ websearch_to_tsquery('simple', ")
            .push_bind(words.clone())
            .push(")");
    }
}

/// A page of assets.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    filter: &Filter,
    page: &PageRequest,
) -> Result<super::Rows<Asset>, sqlx::Error> {
    super::page(connection, COLUMNS, page, |query| push_filter(query, tenant, filter)).await
}

/// A new asset and its source.
#[derive(Debug)]
pub struct NewAsset<'a> {
    /// Which.
    pub id: Uuid,
    /// Of which upload.
    pub upload: &'a super::uploads::Upload,
    /// Its title.
    pub title: &'a str,
    /// Hash of the source, where it is known.
    pub sha256: Option<[u8; 32]>,
    /// State.
    pub status: &'a str,
    /// Who may have its media.
    pub delivery_policy: &'a str,
    /// How long it plays, where that is known.
    pub duration_seconds: Option<f64>,
    /// Its pictures.
    pub dimensions: Option<(i32, i32)>,
    /// When.
    pub now: DateTime<Utc>,
}

/// Stores a new asset and its source.
pub async fn insert(connection: &mut PgConnection, asset: &NewAsset<'_>) -> Result<(), sqlx::Error> {
    let upload = asset.upload;
    let blob = Uuid::now_v7();
    sqlx::query(
        "insert into blobs (id, tenant_id, sha256, size_bytes, storage_path, created_at)
         values ($1, $2, case when exists (select 1 from blobs where tenant_id = $2 and sha256 = $3) then null else $3 end,
           $4, $5, $6)",
    )
    .bind(blob)
    .bind(upload.tenant_id)
    .bind(asset.sha256.map(|hash| hash.to_vec()))
    .bind(upload.offset_bytes)
    .bind(&upload.storage_path)
    .bind(asset.now)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "insert into assets (id, tenant_id, owner_id, type, title, filename, content_type, size_bytes, sha256, status,
           delivery_policy, source_blob, target_type, target_id, target_language, target_kind, created_at, updated_at,
           duration_seconds, width, height)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17, $18, $19, $20)",
    )
    .bind(asset.id)
    .bind(upload.tenant_id)
    .bind(upload.owner_id)
    .bind(&upload.asset_type)
    .bind(asset.title)
    .bind(&upload.filename)
    .bind(&upload.content_type)
    .bind(upload.offset_bytes)
    .bind(asset.sha256.map(|hash| hash.to_vec()))
    .bind(asset.status)
    .bind(asset.delivery_policy)
    .bind(blob)
    .bind(&upload.target_type)
    .bind(upload.target_id)
    .bind(&upload.target_language)
    .bind(&upload.target_kind)
    .bind(asset.now)
    .bind(asset.duration_seconds)
    .bind(asset.dimensions.map(|(width, _)| width))
    .bind(asset.dimensions.map(|(_, height)| height))
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes what may be changed of an asset.
pub async fn update(connection: &mut PgConnection, asset: &Asset) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update assets set title = $2, folder_id = $3, published = $4, published_at = $5, first_published_at = $6,
           delivery_policy = $7, target_type = $8, target_id = $9, target_language = $10, target_kind = $11
         where id = $1",
    )
    .bind(asset.id)
    .bind(&asset.title)
    .bind(asset.folder_id)
    .bind(asset.published)
    .bind(asset.published_at)
    .bind(asset.first_published_at)
    .bind(&asset.delivery_policy)
    .bind(&asset.target_type)
    .bind(asset.target_id)
    .bind(&asset.target_language)
    .bind(&asset.target_kind)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether the title that an asset is attached to is published or will be. The title is kept from changing meanwhile.
pub async fn target_is_out(connection: &mut PgConnection, target: Uuid) -> Result<bool, sqlx::Error> {
    let movie: Option<String> = sqlx::query_scalar("select status from movies where id = $1 for share")
        .bind(target)
        .fetch_optional(&mut *connection)
        .await?;
    let show: Option<bool> = sqlx::query_scalar("select published from shows where id = $1 for share")
        .bind(target)
        .fetch_optional(connection)
        .await?;
    let out = |status: String| status == "published" || status == "scheduled";
    Ok(movie.is_some_and(out) || show.unwrap_or(false))
}

/// Playable videos attached to a title.
pub async fn playable_count(connection: &mut PgConnection, target: Uuid) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from assets where target_id = $1 and type = 'video_master' and playable")
        .bind(target)
        .fetch_one(connection)
        .await
}

/// Deletes an asset; its source goes with the last reference (DL-9).
pub async fn delete(connection: &mut PgConnection, asset: &Asset) -> Result<(), sqlx::Error> {
    sqlx::query("insert into removed_media (id, kind) values ($1, 'ladder') on conflict do nothing")
        .bind(asset.id)
        .execute(&mut *connection)
        .await?;
    sqlx::query("delete from assets where id = $1")
        .bind(asset.id)
        .execute(&mut *connection)
        .await?;
    sqlx::query("update blobs set ref_count = ref_count - 1 where id = $1")
        .bind(asset.source_blob)
        .execute(connection)
        .await?;
    Ok(())
}

/// Sources that nobody refers to any more: their row and file.
pub async fn unused_sources(pool: &PgPool) -> Result<Vec<(Uuid, String)>, sqlx::Error> {
    sqlx::query_as("select id, storage_path from blobs where ref_count = 0 limit 100")
        .fetch_all(pool)
        .await
}

/// Forgets a source whose file is gone.
pub async fn forget_source(pool: &PgPool, blob: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("delete from blobs where id = $1 and ref_count = 0")
        .bind(blob)
        .execute(pool)
        .await?;
    Ok(())
}

/// Ladders of deleted assets.
pub async fn removed_ladders(pool: &PgPool) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select id from removed_media where kind = 'ladder' limit 100")
        .fetch_all(pool)
        .await
}

/// Forgets a ladder whose folder is gone.
pub async fn forget_ladder(pool: &PgPool, asset: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("delete from removed_media where id = $1")
        .bind(asset)
        .execute(pool)
        .await?;
    Ok(())
}

/// Tracks of the asset that a title plays, as [`Asset::tracks`] has them.
pub async fn tracks_of(connection: &mut PgConnection, title: Uuid) -> Result<Vec<Value>, sqlx::Error> {
    sqlx::query_scalar(
        "select jsonb_build_object('id', k.id, 'kind', k.kind, 'language', k.language, 'label', k.label, 'codec', k.codec,
           'channels', k.channels, 'use', k.use, 'is_default', k.is_default)
         from playables p join asset_tracks k on k.asset_id = p.primary_asset_id
         where p.content_id = $1 order by k.created_at, k.id",
    )
    .bind(title)
    .fetch_all(connection)
    .await
}

/// Languages of sound and of text of the asset that a title plays.
pub async fn languages_of(
    connection: &mut PgConnection,
    title: Uuid,
) -> Result<(Vec<String>, Vec<String>), sqlx::Error> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select k.kind, k.language from playables p join asset_tracks k on k.asset_id = p.primary_asset_id
         where p.content_id = $1 and k.language not in ('', 'und') group by k.kind, k.language order by min(k.created_at), min(k.id::text)",
    )
    .bind(title)
    .fetch_all(connection)
    .await?;
    let (audio, text): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(kind, _)| kind == "audio");
    let language = |(_, language)| language;
    Ok((
        audio.into_iter().map(language).collect(),
        text.into_iter().map(language).collect(),
    ))
}

/// Trailers of a title that play.
pub async fn trailers_of(connection: &mut PgConnection, title: Uuid) -> Result<Vec<Asset>, sqlx::Error> {
    let mut query = QueryBuilder::new(format!("select {COLUMNS} from assets t where t.target_id = "));
    query
        .push_bind(title)
        .push(" and t.type = 'trailer' and t.playable order by t.created_at, t.id");
    query.build_query_as().fetch_all(connection).await
}
