-- Accounts: tenants, people, how they sign in, their keys, profiles and devices.

create extension if not exists pg_trgm;

-- Raises the version that ETags are made of.
create function touch_row() returns trigger language plpgsql as $$
begin
  new.row_version := old.row_version + 1;
  new.updated_at := date_trunc('milliseconds', clock_timestamp());
  return new;
end $$;

create table tenants (
  id uuid primary key,
  slug text not null unique,
  name text not null,
  domains text[] not null default '{}',
  status text not null default 'active' check (status in ('active', 'suspended')),
  storage_quota_bytes bigint,
  storage_used_bytes bigint not null default 0,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1
);
create index tenants_domains on tenants using gin (domains);
create trigger tenants_touch before update on tenants for each row execute function touch_row();

-- The default tenant is the platform's, too.
insert into tenants (id, slug, name) values ('00000000-0000-7000-8000-000000000001', 'default', 'Default');

create table settings (
  tenant_id uuid primary key references tenants on delete cascade,
  version bigint not null default 1,
  doc jsonb not null default '{}',
  secrets_encrypted bytea,
  catalogue_epoch bigint not null default 1
);
insert into settings (tenant_id) values ('00000000-0000-7000-8000-000000000001');

create table users (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  name text not null,
  email text not null,
  email_lower text not null,
  password_hash text,
  role text not null default 'user' check (role in ('user', 'moderator', 'admin')),
  status text not null default 'active' check (status in ('active', 'suspended', 'banned')),
  email_verified_at timestamptz,
  can_upload boolean not null default true,
  remote_download_enabled boolean not null default true,
  storage_quota_bytes bigint,
  storage_used_bytes bigint not null default 0,
  token_epoch integer not null default 0,
  last_login_at timestamptz,
  settings jsonb not null default '{}',
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1,
  constraint users_email unique (tenant_id, email_lower)
);
create index users_role on users (tenant_id, role);
create index users_status on users (tenant_id, status);
create index users_created on users (tenant_id, created_at, id);
create index users_search on users using gin ((name || ' ' || email) gin_trgm_ops);
create trigger users_touch before update on users for each row execute function touch_row();

create table user_identities (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  user_id uuid not null references users on delete cascade,
  issuer text not null,
  subject text not null,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  constraint user_identities_subject unique (tenant_id, issuer, subject)
);
create index user_identities_user on user_identities (user_id);

-- A sign-in: the family of refresh tokens that follow one another.
create table auth_sessions (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  user_id uuid not null references users on delete cascade,
  family_started_at timestamptz not null,
  revoked_at timestamptz,
  user_agent text,
  ip text,
  client_id text,
  scope text,
  created_at timestamptz not null default date_trunc('milliseconds', now())
);
create index auth_sessions_user on auth_sessions (user_id) where revoked_at is null;

create table refresh_tokens (
  id uuid primary key,
  session_id uuid not null references auth_sessions on delete cascade,
  token_sha256 bytea not null constraint refresh_tokens_token unique,
  rotated_at timestamptz,
  expires_at timestamptz not null
);
create index refresh_tokens_session on refresh_tokens (session_id);
create index refresh_tokens_expiry on refresh_tokens (expires_at);

create table action_tokens (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  user_id uuid not null references users on delete cascade,
  purpose text not null check (purpose in ('verify_email', 'reset_password')),
  token_sha256 bytea not null unique,
  expires_at timestamptz not null,
  used_at timestamptz
);
create index action_tokens_expiry on action_tokens (expires_at);

-- Mail that is to be sent; whoever sends it deletes the row. The body is encrypted, for it holds a token.
create table mail_queue (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  user_id uuid references users on delete cascade,
  recipient text not null,
  template text not null,
  sealed bytea not null,
  attempt_count integer not null default 0,
  next_attempt_at timestamptz not null default now(),
  created_at timestamptz not null default date_trunc('milliseconds', now())
);
create index mail_queue_next on mail_queue (next_attempt_at);

create table oauth_codes (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  user_id uuid not null references users on delete cascade,
  client_id text not null,
  code_sha256 bytea not null unique,
  challenge text not null,
  redirect_uri text not null,
  scope text,
  nonce text,
  expires_at timestamptz not null,
  used_at timestamptz,
  session_id uuid references auth_sessions on delete cascade
);
create index oauth_codes_expiry on oauth_codes (expires_at);

create table signing_keys (
  id uuid primary key,
  kid text not null,
  purpose text not null check (purpose in ('jwt', 'media', 'upload', 'captcha')),
  alg text not null,
  private_encrypted bytea not null,
  public bytea,
  active_from timestamptz not null,
  retire_at timestamptz,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  constraint signing_keys_kid unique (purpose, kid)
);
create index signing_keys_active on signing_keys (purpose, active_from);

create table api_keys (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  user_id uuid not null references users on delete cascade,
  name text not null,
  prefix text not null,
  key_sha256 bytea not null constraint api_keys_key unique,
  scopes text[] not null,
  access text not null default 'own' check (access in ('own', 'tenant')),
  last_used_at timestamptz,
  expires_at timestamptz,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  constraint api_keys_name unique (user_id, name)
);
create index api_keys_user on api_keys (user_id);

create table api_key_requests (
  key_id uuid not null references api_keys on delete cascade,
  at timestamptz not null,
  method text not null,
  path text not null,
  status integer not null,
  duration_ms integer not null,
  ip text,
  user_agent text,
  request_id uuid not null
);
create index api_key_requests_at on api_key_requests (key_id, at desc);

create table profiles (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  user_id uuid not null references users on delete cascade,
  name text not null,
  avatar_url text,
  is_kids boolean not null default false,
  max_content_rating text,
  language text,
  is_default boolean not null default false,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1
);
create unique index profiles_name on profiles (user_id, lower(name));
create unique index profiles_default on profiles (user_id) where is_default;
create trigger profiles_touch before update on profiles for each row execute function touch_row();

create table devices (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  user_id uuid not null references users on delete cascade,
  name text not null,
  device_type text not null,
  platform text,
  os_version text,
  app_version text,
  fingerprint_hmac bytea not null,
  is_trusted boolean not null default false,
  last_active_at timestamptz,
  removed_at timestamptz,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1
);
create unique index devices_fingerprint on devices (user_id, fingerprint_hmac) where removed_at is null;
create index devices_user on devices (user_id) where removed_at is null;
create trigger devices_touch before update on devices for each row execute function touch_row();
