-- Catalogue: titles, who is in them, where they may be seen, and the narrow row that a stream start reads.

create table people (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  name text not null,
  image_url text,
  created_at timestamptz not null default date_trunc('milliseconds', now())
);
create unique index people_name on people (tenant_id, lower(name));
create index people_search on people using gin (name gin_trgm_ops);

create table genres (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  name text not null,
  slug text not null,
  content_types text[] not null,
  parent_id uuid references genres,
  image_url text,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1,
  constraint genres_slug unique (tenant_id, slug)
);
create index genres_parent on genres (parent_id);
create trigger genres_touch before update on genres for each row execute function touch_row();

create table movies (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  title text not null,
  original_title text,
  slug text not null,
  synopsis text,
  tagline text,
  release_year integer,
  runtime_minutes integer,
  content_rating text,
  country_of_origin text[] not null default '{}',
  studio text,
  audio_languages text[] not null default '{}',
  subtitle_languages text[] not null default '{}',
  images jsonb not null default '{}',
  average_rating numeric(3,2) not null default 0,
  rating_count integer not null default 0,
  imdb_rating numeric(3,1),
  is_premium boolean not null default false,
  status text not null check (status in ('draft', 'published', 'scheduled', 'unpublished')),
  drm_required boolean not null,
  available_from timestamptz,
  available_until timestamptz,
  license_duration_seconds integer,
  first_published_at timestamptz,
  published_at timestamptz,
  view_count bigint not null default 0,
  search tsvector generated always as (
    setweight(to_tsvector('simple', title || ' ' || coalesce(original_title, '')), 'A')
      || setweight(to_tsvector('simple', coalesce(synopsis, '') || ' ' || coalesce(tagline, '')), 'B')
  ) stored,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1,
  constraint movies_slug unique (tenant_id, slug)
);
create index movies_published on movies (tenant_id, status, published_at desc, id);
create index movies_rating on movies (tenant_id, status, average_rating desc, id);
create index movies_views on movies (tenant_id, status, view_count desc, id);
create index movies_year on movies (tenant_id, release_year);
create index movies_search on movies using gin (search);
create index movies_audio on movies using gin (audio_languages);
create index movies_scheduled on movies (available_from) where status = 'scheduled';
create trigger movies_touch before update on movies for each row execute function touch_row();

create table shows (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  title text not null,
  original_title text,
  slug text not null,
  synopsis text,
  content_rating text,
  country_of_origin text[] not null default '{}',
  network text,
  language text,
  first_air_date date,
  last_air_date date,
  images jsonb not null default '{}',
  average_rating numeric(3,2) not null default 0,
  rating_count integer not null default 0,
  imdb_rating numeric(3,1),
  is_premium boolean not null default false,
  -- Publication and airing are two facts, shown as one value.
  published boolean not null default false,
  airing text check (airing in ('ongoing', 'ended', 'canceled')),
  drm_required boolean not null,
  license_duration_seconds integer,
  first_published_at timestamptz,
  published_at timestamptz,
  view_count bigint not null default 0,
  search tsvector generated always as (
    setweight(to_tsvector('simple', title || ' ' || coalesce(original_title, '')), 'A')
      || setweight(to_tsvector('simple', coalesce(synopsis, '')), 'B')
  ) stored,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1,
  constraint shows_slug unique (tenant_id, slug)
);
create index shows_published on shows (tenant_id, published, airing);
create index shows_aired on shows (tenant_id, first_air_date);
create index shows_search on shows using gin (search);
create trigger shows_touch before update on shows for each row execute function touch_row();

create table content_genres (
  content_id uuid not null,
  content_type text not null,
  genre_id uuid not null references genres,
  position integer not null default 0,
  primary key (content_id, genre_id)
);
create index content_genres_genre on content_genres (genre_id, content_type);

create table content_cast (
  content_id uuid not null,
  content_type text not null,
  position integer not null,
  person_id uuid not null references people,
  role text,
  character text,
  primary key (content_id, position)
);
create index content_cast_person on content_cast (person_id);

create table geo_rules (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  name text not null,
  description text,
  policy text not null check (policy in ('allow_list', 'block_list')),
  territories text[] not null,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1,
  constraint geo_rules_name unique (tenant_id, name)
);
create trigger geo_rules_touch before update on geo_rules for each row execute function touch_row();

create table geo_rule_targets (
  rule_id uuid not null references geo_rules on delete cascade,
  content_id uuid not null,
  primary key (rule_id, content_id)
);
create index geo_rule_targets_content on geo_rule_targets (content_id);

-- Whether content may be seen in a country (GE-1): in every allow-list, in no block-list. An unknown country (null) is in no
-- allow-list, and in every block-list if `unknown_blocked`. `parent` is the show of an episode, the channel of a programme.
create function geo_allows(content uuid, parent uuid, country text, unknown_blocked boolean)
returns boolean language sql stable as $$
  select not exists (
    select 1
    from geo_rule_targets target
    join geo_rules rule on rule.id = target.rule_id
    where (target.content_id = content or target.content_id = parent)
      and case rule.policy
        when 'allow_list' then coalesce(not country = any (rule.territories), true)
        else coalesce(country = any (rule.territories), unknown_blocked)
      end
  )
$$;

create table playables (
  content_id uuid primary key,
  tenant_id uuid not null references tenants,
  content_type text not null,
  title text not null,
  show_id uuid,
  channel_id uuid,
  status_visible boolean not null,
  scheduled boolean not null default false,
  available_from timestamptz,
  available_until timestamptz,
  is_premium boolean not null,
  drm_required boolean not null,
  content_rating text,
  license_duration_seconds integer,
  primary_asset_id uuid,
  row_version bigint not null default 1
);
create index playables_tenant on playables (tenant_id);

create function movies_to_playables() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    delete from playables where content_id = old.id;
    return old;
  end if;
  insert into playables (content_id, tenant_id, content_type, title, status_visible, scheduled, available_from,
    available_until, is_premium, drm_required, content_rating, license_duration_seconds)
  values (new.id, new.tenant_id, 'movie', new.title, new.status = 'published', new.status = 'scheduled',
    new.available_from, new.available_until, new.is_premium, new.drm_required, new.content_rating,
    new.license_duration_seconds)
  on conflict (content_id) do update set
    title = excluded.title, status_visible = excluded.status_visible, scheduled = excluded.scheduled,
    available_from = excluded.available_from, available_until = excluded.available_until,
    is_premium = excluded.is_premium, drm_required = excluded.drm_required,
    content_rating = excluded.content_rating, license_duration_seconds = excluded.license_duration_seconds,
    row_version = playables.row_version + 1;
  return new;
end $$;
create trigger movies_playable after insert or update or delete on movies
  for each row execute function movies_to_playables();
