-- Playback: who watches now, who watched, and the transaction that carries the number of streams.

-- Live ones only. No index on `expires_at`, and room in the pages: beats update rows in place.
create table stream_sessions (
  id uuid primary key,
  tenant_id uuid not null,
  user_id uuid not null references users on delete cascade,
  profile_id uuid,
  device_id uuid not null constraint stream_sessions_device unique,
  kind text not null check (kind in ('vod', 'live', 'catchup', 'startover', 'recording')),
  content_type text not null,
  content_id uuid not null,
  asset_id uuid not null,
  title text not null,
  window_start timestamptz,
  window_end timestamptz,
  max_height integer,
  started_at timestamptz not null,
  last_heartbeat_at timestamptz not null,
  expires_at timestamptz not null,
  position_seconds double precision not null default 0,
  is_paused boolean not null default false,
  urls_expire_at timestamptz not null,
  country text,
  plan_id uuid
) with (fillfactor = 70);
create index stream_sessions_user on stream_sessions (user_id);

create table stream_session_log (
  id uuid not null,
  tenant_id uuid not null,
  user_id uuid not null,
  profile_id uuid,
  device_id uuid not null,
  kind text not null,
  content_type text not null,
  content_id uuid not null,
  asset_id uuid not null,
  started_at timestamptz not null,
  last_heartbeat_at timestamptz not null,
  position_seconds double precision not null,
  urls_expire_at timestamptz not null,
  country text,
  plan_id uuid,
  ended_at timestamptz not null,
  end_reason text not null,
  primary key (started_at, id)
) partition by range (started_at);
create index stream_session_log_id on stream_session_log (id);
create index stream_session_log_content on stream_session_log (content_id, started_at);
create index stream_session_log_user on stream_session_log (user_id, started_at);
create index stream_session_log_ended on stream_session_log (ended_at);

create table drm_licences (
  id uuid primary key,
  tenant_id uuid not null,
  session_id uuid,
  download_id uuid,
  user_id uuid not null,
  device_id uuid not null,
  content_id uuid not null,
  drm_system text not null,
  issued_at timestamptz not null,
  expires_at timestamptz not null
);
create index drm_licences_device on drm_licences (device_id);
create index drm_licences_content on drm_licences (content_id, issued_at);

-- Partitions from this month (day) on, some ahead; drops events older than 30 days.
create function make_partitions(p_now timestamptz) returns void language plpgsql as $$
declare
  first date;
  name text;
  parent text;
begin
  perform pg_advisory_xact_lock(7402110);
  foreach parent in array array['audit_log', 'stream_session_log'] loop
    for ahead in -1..2 loop
      first := (date_trunc('month', p_now at time zone 'utc') + make_interval(months => ahead))::date;
      name := parent || '_' || to_char(first, 'YYYYMM');
      if to_regclass(name) is null then
        execute format('create table %I partition of %I for values from (%L) to (%L)', name, parent,
          first::text || ' 00:00+00', (first + interval '1 month')::date::text || ' 00:00+00');
      end if;
    end loop;
  end loop;
  for ahead in -1..4 loop
    first := (date_trunc('day', p_now at time zone 'utc') + make_interval(days => ahead))::date;
    name := 'outbox_events_' || to_char(first, 'YYYYMMDD');
    if to_regclass(name) is null then
      execute format('create table %I partition of outbox_events for values from (%L) to (%L)', name,
        first::text || ' 00:00+00', (first + 1)::text || ' 00:00+00');
    end if;
  end loop;
  for name in
    select child.relname from pg_inherits
    join pg_class child on child.oid = inhrelid
    where inhparent = 'outbox_events'::regclass
      and child.relname < 'outbox_events_' || to_char((p_now at time zone 'utc') - interval '31 days', 'YYYYMMDD')
  loop
    execute format('drop table %I', name);
  end loop;
end $$;
-- What is outside of them (clocks that jump) is kept, too.
create table audit_log_other partition of audit_log default;
create table stream_session_log_other partition of stream_session_log default;
create table outbox_events_other partition of outbox_events default;

-- Ends sessions: row to log, event to outbox. Returns those that were live.
create function stream_end(p_ids uuid[], p_reason text, p_now timestamptz)
returns table (session_id uuid, owner_id uuid) language plpgsql as $$
begin
  return query
  with gone as (
    delete from stream_sessions where id = any (p_ids) returning *
  ), logged as (
    insert into stream_session_log (id, tenant_id, user_id, profile_id, device_id, kind, content_type, content_id,
      asset_id, started_at, last_heartbeat_at, position_seconds, urls_expire_at, country, plan_id, ended_at, end_reason)
    select id, tenant_id, user_id, profile_id, device_id, kind, content_type, content_id, asset_id, started_at,
      last_heartbeat_at, position_seconds, urls_expire_at, country, plan_id, p_now, p_reason
    from gone
  ), told as (
    insert into outbox_events (id, tenant_id, event_type, subject_user_id, payload, created_at)
    select uuid_v7(), tenant_id, 'stream.ended', user_id, jsonb_build_object('id', id, 'user_id', user_id,
      'device_id', device_id, 'content_type', content_type, 'content_id', content_id, 'reason', p_reason,
      'position_seconds', position_seconds), p_now
    from gone
  )
  select id, user_id from gone;
end $$;

-- Starts a session if everything is still as it was when it was decided on (versions), and if one of the account's streams
-- is free. Starts of one account are serial. `p_now` is the clock of tests; otherwise it is the database's.
create function stream_start(
  p_session uuid, p_tenant uuid, p_user uuid, p_profile uuid, p_device uuid, p_content uuid, p_asset uuid,
  p_playable_version bigint, p_subscription uuid, p_subscription_version bigint, p_plan uuid, p_kind text,
  p_streams_max integer, p_height_max integer, p_country text, p_ttl_s integer, p_grace_s integer,
  p_url_ttl_s integer, p_now timestamptz
) returns table (outcome text, superseded uuid, live integer, instant timestamptz, urls_expire timestamptz)
language plpgsql as $$
declare
  at timestamptz;
  playable playables%rowtype;
  earlier uuid;
  taken integer;
  urls_end timestamptz;
begin
  perform pg_advisory_xact_lock(hashtextextended(p_user::text, 1));
  -- Not before the lock is had: it may have taken a while.
  at := date_trunc('milliseconds', coalesce(p_now, clock_timestamp()));
  select * into playable from playables where content_id = p_content and tenant_id = p_tenant;
  if playable.row_version is distinct from p_playable_version
     or not exists (select 1 from users where id = p_user and tenant_id = p_tenant and status = 'active')
     or not exists (select 1 from devices
                    where id = p_device and user_id = p_user and removed_at is null)
     or (p_subscription is not null and not exists (
       select 1 from subscriptions where id = p_subscription and user_id = p_user
         and row_version = p_subscription_version))
  then
    return query select 'stale'::text, null::uuid, 0, at, at;
    return;
  end if;
  select id into earlier from stream_sessions where device_id = p_device;
  select count(*) into taken from stream_sessions
  where user_id = p_user and device_id <> p_device and expires_at > at - make_interval(secs => p_grace_s);
  if taken >= p_streams_max then
    perform emit_event(uuid_v7(), p_tenant, 'stream.concurrency_exceeded', p_user, jsonb_build_object('id', p_user,
      'user_id', p_user, 'device_id', p_device, 'content_id', p_content, 'limit', p_streams_max, 'live', taken), at);
    return query select 'full'::text, null::uuid, taken, at, at;
    return;
  end if;
  if earlier is not null then
    perform stream_end(array[earlier], 'superseded', at);
  end if;
  urls_end := least(at + make_interval(secs => p_url_ttl_s), playable.available_until);
  insert into stream_sessions (id, tenant_id, user_id, profile_id, device_id, kind, content_type, content_id, asset_id,
    title, max_height, started_at, last_heartbeat_at, expires_at, urls_expire_at, country, plan_id)
  values (p_session, p_tenant, p_user, p_profile, p_device, p_kind, playable.content_type, p_content, p_asset,
    playable.title, p_height_max, at, at, at + make_interval(secs => p_ttl_s), urls_end, p_country, p_plan);
  perform emit_event(uuid_v7(), p_tenant, 'stream.started', p_user, jsonb_build_object('id', p_session,
    'user_id', p_user, 'device_id', p_device, 'content_type', playable.content_type, 'content_id', p_content), at);
  return query select 'started'::text, earlier, taken + 1, at, urls_end;
end $$;
