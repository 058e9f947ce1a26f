-- Library: uploads, stored bytes, assets and what was made of them.

create table uploads (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  owner_id uuid not null references users on delete cascade,
  asset_type text not null,
  filename text not null,
  content_type text not null,
  size_bytes bigint,
  title text,
  target_type text,
  target_id uuid,
  target_language text,
  target_kind text,
  transport text not null default 'put' check (transport in ('put', 'tus', 'direct')),
  folder_id uuid,
  client_upload_uuid text,
  auto_complete boolean not null default false,
  auto_publish boolean not null default true,
  storage_path text not null,
  offset_bytes bigint not null default 0,
  sha256 bytea,
  status text not null default 'awaiting_upload' check (status in
    ('awaiting_upload', 'uploading', 'uploaded', 'processing', 'completed', 'failed', 'canceled')),
  transcode_status text not null default 'pending' check (transcode_status in
    ('pending', 'queued', 'running', 'completed', 'failed', 'canceled', 'not_required')),
  asset_id uuid,
  error_message text,
  last_byte_at timestamptz,
  expires_at timestamptz not null,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1
);
create unique index uploads_client on uploads (owner_id, client_upload_uuid)
  where status in ('awaiting_upload', 'uploading');
create index uploads_owner on uploads (owner_id, status);
create index uploads_tenant on uploads (tenant_id, created_at desc, id);
create index uploads_last_byte on uploads (expires_at) where status in ('awaiting_upload', 'uploading');
create trigger uploads_touch before update on uploads for each row execute function touch_row();

create table blobs (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  sha256 bytea not null,
  size_bytes bigint not null,
  ref_count integer not null default 1,
  storage_path text not null,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  constraint blobs_sha256 unique (tenant_id, sha256)
);
create index blobs_unused on blobs (ref_count) where ref_count = 0;

create table assets (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  owner_id uuid not null references users,
  type text not null check (type in ('video_master', 'trailer', 'image', 'subtitle', 'audio_track')),
  title text not null,
  filename text,
  content_type text,
  size_bytes bigint,
  sha256 bytea,
  status text not null check (status in ('awaiting_source', 'uploaded', 'transcoding', 'ready', 'failed')),
  -- True as soon as one rendition is ready.
  playable boolean not null default false,
  published boolean not null default false,
  first_published_at timestamptz,
  published_at timestamptz,
  duration_seconds double precision,
  width integer,
  height integer,
  delivery_policy text not null default 'cookie' check (delivery_policy in ('public', 'cookie', 'signed', 'session')),
  -- What the origin knows it as, and the version that is served.
  media_version text,
  folder_id uuid,
  source_blob uuid references blobs,
  target_type text,
  target_id uuid,
  target_language text,
  target_kind text,
  error_message text,
  search tsvector generated always as (to_tsvector('simple', title || ' ' || coalesce(filename, ''))) stored,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1
);
create index assets_owner on assets (tenant_id, owner_id, created_at desc, id);
create index assets_folder on assets (folder_id);
create index assets_target on assets (target_id);
create index assets_search on assets using gin (search);
create index assets_status on assets (tenant_id, status);
create trigger assets_touch before update on assets for each row execute function touch_row();

-- The asset that a title plays: the playable video attached last, else the one attached last.
create function playable_asset(content uuid) returns uuid language sql stable as $$
  select id from assets
  where target_id = content and type = 'video_master' and status <> 'failed'
  order by playable desc, created_at desc, id desc
  limit 1
$$;

create function assets_to_playables() returns trigger language plpgsql as $$
begin
  if tg_op <> 'INSERT' and old.target_id is not null then
    update playables set primary_asset_id = playable_asset(old.target_id), row_version = row_version + 1
    where content_id = old.target_id;
  end if;
  if tg_op <> 'DELETE' and new.target_id is not null
     and (tg_op = 'INSERT' or new.target_id is distinct from old.target_id) then
    update playables set primary_asset_id = playable_asset(new.target_id), row_version = row_version + 1
    where content_id = new.target_id;
  end if;
  return null;
end $$;
create trigger assets_playable after insert or delete or update of target_id, status, playable, type on assets
  for each row execute function assets_to_playables();

create table renditions (
  id uuid primary key,
  asset_id uuid not null references assets on delete cascade,
  profile text not null,
  width integer,
  height integer,
  bitrate_bps bigint,
  codec text not null,
  preset text,
  status text not null check (status in ('queued', 'running', 'completed', 'failed', 'canceled')),
  storage_path text,
  size_bytes bigint,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  constraint renditions_step unique (asset_id, profile, codec)
);

create table asset_tracks (
  id uuid primary key,
  asset_id uuid not null references assets on delete cascade,
  kind text not null check (kind in ('audio', 'subtitle')),
  language text,
  label text,
  codec text,
  channels integer,
  use text,
  format text,
  is_default boolean not null default false,
  storage_path text,
  created_at timestamptz not null default date_trunc('milliseconds', now())
);
create index asset_tracks_kind on asset_tracks (asset_id, kind);

create table asset_keys (
  id uuid primary key,
  asset_id uuid references assets on delete cascade,
  channel_id uuid,
  key_id bytea not null,
  track_class text not null,
  period integer not null default 0,
  key_encrypted bytea not null,
  scheme text not null,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  constraint asset_keys_key unique (asset_id, key_id)
);

create table encoding_jobs (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  asset_id uuid not null references assets on delete cascade,
  profile text not null,
  kind text not null check (kind in ('video', 'audio', 'subtitle', 'thumbnail')),
  status text not null default 'queued' check (status in ('queued', 'running', 'completed', 'failed', 'canceled')),
  priority integer not null default 0,
  attempt integer not null default 0,
  worker text,
  lease_until timestamptz,
  progress integer not null default 0,
  error text,
  started_at timestamptz,
  finished_at timestamptz,
  created_at timestamptz not null default date_trunc('milliseconds', now())
);
create unique index encoding_jobs_active on encoding_jobs (asset_id, kind, profile) where status in ('queued', 'running');
create index encoding_jobs_next on encoding_jobs (status, priority desc, created_at);
create index encoding_jobs_asset on encoding_jobs (asset_id);
