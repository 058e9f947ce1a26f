-- Starts and ends of streams in fewer and cheaper statements. What they do is as before.

-- Ends sessions: row to log, event to outbox. Returns those that were live. One by one: a statement for all of them would be
-- planned once while the table is small, and read the whole of it ever after.
create or replace function stream_end(p_ids uuid[], p_reason text, p_now timestamptz)
returns table (session_id uuid, owner_id uuid) language plpgsql as $$
declare
  one uuid;
  gone stream_sessions%rowtype;
begin
  foreach one in array p_ids loop
    delete from stream_sessions where id = one returning * into gone;
    continue when not found;
    insert into stream_session_log (id, tenant_id, user_id, profile_id, device_id, kind, content_type, content_id,
      asset_id, started_at, last_heartbeat_at, position_seconds, urls_expire_at, country, plan_id, ended_at, end_reason)
    values (gone.id, gone.tenant_id, gone.user_id, gone.profile_id, gone.device_id, gone.kind, gone.content_type,
      gone.content_id, gone.asset_id, gone.started_at, gone.last_heartbeat_at, gone.position_seconds, gone.urls_expire_at,
      gone.country, gone.plan_id, p_now, p_reason);
    insert into outbox_events (id, tenant_id, event_type, subject_user_id, payload, created_at)
    values (uuid_v7(), gone.tenant_id, 'stream.ended', gone.user_id, jsonb_build_object('id', gone.id,
      'user_id', gone.user_id, 'device_id', gone.device_id, 'content_type', gone.content_type,
      'content_id', gone.content_id, 'reason', p_reason, 'position_seconds', gone.position_seconds), p_now);
    session_id := gone.id;
    owner_id := gone.user_id;
    return next;
  end loop;
end $$;

-- Starts a session if everything is still as it was when it was decided on (versions), and if one of the account's streams
-- is free. Starts of one account are serial. `p_now` is the clock of tests; otherwise it is the database's.
create or replace function stream_start(
  p_session uuid, p_tenant uuid, p_user uuid, p_profile uuid, p_device uuid, p_content uuid, p_asset uuid,
  p_playable_version bigint, p_subscription uuid, p_subscription_version bigint, p_plan uuid, p_kind text,
  p_streams_max integer, p_height_max integer, p_country text, p_ttl_s integer, p_grace_s integer,
  p_url_ttl_s integer, p_now timestamptz
) returns table (outcome text, superseded uuid, live integer, instant timestamptz, urls_expire timestamptz)
language plpgsql as $$
declare
  holds boolean;
  type_of text;
  title_of text;
  until timestamptz;
begin
  perform pg_advisory_xact_lock(hashtextextended(p_user::text, 1));
  -- Not before the lock is had: it may have taken a while.
  instant := date_trunc('milliseconds', coalesce(p_now, clock_timestamp()));
  live := 0;
  urls_expire := instant;
  select p.content_type, p.title, p.available_until,
    p.row_version = p_playable_version
      and exists (select 1 from users u where u.id = p_user and u.tenant_id = p_tenant and u.status = 'active')
      and exists (select 1 from devices d where d.id = p_device and d.user_id = p_user and d.removed_at is null)
      and (p_subscription is null or exists (
        select 1 from subscriptions s where s.id = p_subscription and s.user_id = p_user
          and s.row_version = p_subscription_version))
  into type_of, title_of, until, holds
  from playables p where p.content_id = p_content and p.tenant_id = p_tenant;
  if holds is not true then
    outcome := 'stale';
    return next;
    return;
  end if;
  -- A device has one account, and so has its session.
  select count(*) filter (where s.device_id <> p_device and s.expires_at > instant - make_interval(secs => p_grace_s)),
    (array_agg(s.id) filter (where s.device_id = p_device))[1]
  into live, superseded
  from stream_sessions s where s.user_id = p_user;
  if live >= p_streams_max then
    insert into outbox_events (id, tenant_id, event_type, subject_user_id, payload, created_at)
    values (uuid_v7(), p_tenant, 'stream.concurrency_exceeded', p_user, jsonb_build_object('id', p_user,
      'user_id', p_user, 'device_id', p_device, 'content_id', p_content, 'limit', p_streams_max, 'live', live), instant);
    outcome := 'full';
    superseded := null;
    return next;
    return;
  end if;
  if superseded is not null then
    perform stream_end(array[superseded], 'superseded', instant);
  end if;
  urls_expire := least(instant + make_interval(secs => p_url_ttl_s), until);
  insert into stream_sessions (id, tenant_id, user_id, profile_id, device_id, kind, content_type, content_id, asset_id,
    title, max_height, started_at, last_heartbeat_at, expires_at, urls_expire_at, country, plan_id)
  values (p_session, p_tenant, p_user, p_profile, p_device, p_kind, type_of, p_content, p_asset,
    title_of, p_height_max, instant, instant, instant + make_interval(secs => p_ttl_s), urls_expire, p_country, p_plan);
  insert into outbox_events (id, tenant_id, event_type, subject_user_id, payload, created_at)
  values (uuid_v7(), p_tenant, 'stream.started', p_user, jsonb_build_object('id', p_session, 'user_id', p_user,
    'device_id', p_device, 'content_type', type_of, 'content_id', p_content), instant);
  live := live + 1;
  outcome := 'started';
  return next;
end $$;
