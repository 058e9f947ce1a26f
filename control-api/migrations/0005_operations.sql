-- Operations: audit, events and their deliveries, idempotency, caches of the nodes.

-- RFC 9562 5.7. Ids are made by the application, save those of rows that SQL itself writes.
create function uuid_v7() returns uuid language sql volatile as $$
  select encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
    placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6),
    52, 1), 53, 1), 'hex')::uuid
$$;

create table audit_log (
  id uuid not null,
  tenant_id uuid not null,
  action text not null,
  actor_id uuid,
  actor_role text not null check (actor_role in ('user', 'moderator', 'admin', 'api_key', 'system')),
  resource_type text not null,
  resource_id uuid,
  ip_address text,
  user_agent text,
  request_id uuid,
  metadata jsonb not null default '{}',
  created_at timestamptz not null,
  primary key (id, created_at)
) partition by range (created_at);
create index audit_log_tenant on audit_log (tenant_id, id desc);
create index audit_log_actor on audit_log (actor_id, id);
create index audit_log_resource on audit_log (resource_type, resource_id, id);
create index audit_log_action on audit_log (action text_pattern_ops, id);

create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% only grows', tg_table_name using errcode = 'insufficient_privilege';
end $$;
create trigger audit_log_grows before update or delete on audit_log for each row execute function refuse_change();
create trigger audit_log_kept before truncate on audit_log for each statement execute function refuse_change();

create table outbox_events (
  id uuid not null,
  tenant_id uuid not null,
  event_type text not null,
  subject_user_id uuid,
  payload jsonb not null,
  created_at timestamptz not null,
  seq bigserial not null,
  fanned_out_at timestamptz,
  primary key (created_at, seq)
) partition by range (created_at);
create index outbox_events_next on outbox_events (seq) where fanned_out_at is null;
create index outbox_events_id on outbox_events (id);

create function emit_event(p_id uuid, p_tenant uuid, p_type text, p_user uuid, p_payload jsonb, p_now timestamptz)
returns void language sql as $$
  insert into outbox_events (id, tenant_id, event_type, subject_user_id, payload, created_at)
  values (p_id, p_tenant, p_type, p_user, p_payload, p_now)
$$;

create table webhooks (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  owner_id uuid not null references users on delete cascade,
  scope text not null check (scope in ('own', 'tenant')),
  url text not null,
  description text,
  events text[] not null,
  status text not null default 'active' check (status in ('active', 'disabled')),
  secret_encrypted bytea not null,
  secret_hint text not null,
  failure_count integer not null default 0,
  last_delivery_at timestamptz,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1
);
create index webhooks_scope on webhooks (tenant_id, scope);
create index webhooks_owner on webhooks (owner_id);
create index webhooks_events on webhooks using gin (events);
create trigger webhooks_touch before update on webhooks for each row execute function touch_row();

create table webhook_deliveries (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  endpoint_id uuid not null references webhooks on delete cascade,
  event_id uuid not null,
  event_type text not null,
  -- What is sent, as it was when the event happened.
  body bytea not null,
  status text not null default 'pending' check (status in ('pending', 'delivered', 'failed', 'retrying')),
  http_status integer,
  response_snippet text,
  attempt_count integer not null default 0,
  next_retry_at timestamptz,
  lease_until timestamptz,
  delivered_at timestamptz,
  redelivered_at timestamptz,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  constraint webhook_deliveries_event unique (endpoint_id, event_id)
);
create index webhook_deliveries_next on webhook_deliveries (next_retry_at) where status in ('pending', 'retrying');
create index webhook_deliveries_endpoint on webhook_deliveries (endpoint_id, created_at desc, id);

create table idempotency_keys (
  tenant_id uuid not null,
  principal_id uuid not null,
  key text not null,
  method text not null,
  path text not null,
  body_sha256 bytea not null,
  state text not null check (state in ('running', 'done')),
  -- Who runs it: one taken over after its lease must not be finished by the first.
  ticket uuid not null,
  lease_until timestamptz not null,
  status integer,
  -- Headers and body, encrypted: some hold secrets that are shown once.
  sealed bytea,
  expires_at timestamptz not null,
  primary key (tenant_id, principal_id, key)
);
create index idempotency_keys_expiry on idempotency_keys (expires_at);

create table cache_events (
  seq bigserial primary key,
  at timestamptz not null default clock_timestamp(),
  kind text not null,
  tenant_id uuid not null,
  ref text not null,
  version bigint not null
);
create index cache_events_at on cache_events (at);

-- Tells every node at commit that what it keeps of `p_ref` is old.
create function tell_caches(p_kind text, p_tenant uuid, p_ref text, p_version bigint) returns void
language plpgsql as $$
declare
  number bigint;
begin
  insert into cache_events (kind, tenant_id, ref, version) values (p_kind, p_tenant, p_ref, p_version)
  returning seq into number;
  perform pg_notify('cache', number || ':' || p_kind || ':' || p_tenant || ':' || p_ref || ':' || p_version);
end $$;

-- Puts list pages made before out of reach.
create function raise_catalogue(p_tenant uuid) returns bigint language sql as $$
  insert into settings (tenant_id, catalogue_epoch) values (p_tenant, 2)
  on conflict (tenant_id) do update set catalogue_epoch = settings.catalogue_epoch + 1
  returning catalogue_epoch
$$;

create table nodes (
  node_id uuid primary key,
  started_at timestamptz not null,
  heartbeat_at timestamptz not null,
  version text not null,
  address text
);
