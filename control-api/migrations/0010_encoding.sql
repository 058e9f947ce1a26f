-- Uploads become sources at once, and jobs are claimed by workers.

-- The hash of large sources is found by the worker that reads them anyway.
alter table blobs alter column sha256 drop not null;

alter table encoding_jobs
  -- Steps of the ladder that are wanted; none for all that are enabled.
  add column profiles text[] not null default '{}',
  -- Not before: retries wait.
  add column run_after timestamptz not null default date_trunc('milliseconds', now()),
  -- Of who runs it: a worker that lost its lease must not finish it.
  add column ticket uuid,
  add column progress_permille integer not null default 0;
create index encoding_jobs_tenant on encoding_jobs (tenant_id, started_at desc) where started_at is not null;
create index encoding_jobs_leased on encoding_jobs (lease_until) where status = 'running';

create index uploads_asset on uploads (asset_id) where asset_id is not null;
create index uploads_imported on uploads (updated_at) where status = 'uploaded';
create index uploads_removed on uploads (id) where status in ('canceled', 'failed') and storage_path <> '';

-- Folders and files of what was deleted, until a worker has removed them.
create table removed_media (
  id uuid primary key,
  kind text not null,
  created_at timestamptz not null default date_trunc('milliseconds', now())
);
