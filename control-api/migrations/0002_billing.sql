-- Billing: plans, coupons, subscriptions, and what payment providers reported.

create table plans (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  name text not null,
  description text,
  price numeric(12,2) not null check (price >= 0),
  currency text not null,
  billing_cycle text not null check (billing_cycle in ('monthly', 'quarterly', 'semi_annual', 'annual')),
  max_profiles integer not null check (max_profiles >= 1),
  max_concurrent_streams integer not null check (max_concurrent_streams >= 1),
  max_devices integer not null check (max_devices >= 1),
  max_quality text not null check (max_quality in ('SD', 'HD', 'FHD', 'UHD')),
  has_downloads boolean not null,
  allow_download_count integer not null default 0,
  has_ads boolean not null default false,
  has_hdr boolean not null default false,
  has_dolby_atmos boolean not null default false,
  trial_days integer not null default 0,
  is_active boolean not null default true,
  features text[] not null default '{}',
  tier integer not null check (tier between 0 and 9),
  rate_limit_per_minute integer,
  sort_order integer not null default 0,
  max_dvr_hours integer,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1,
  constraint plans_name unique (tenant_id, name, currency, billing_cycle)
);
create index plans_active on plans (tenant_id, is_active, sort_order);
create trigger plans_touch before update on plans for each row execute function touch_row();

create table coupons (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  code text not null,
  percent_off integer check (percent_off between 1 and 100),
  amount_off numeric(12,2) check (amount_off > 0),
  currency text,
  plan_ids uuid[] not null default '{}',
  duration_cycles integer,
  max_redemptions integer,
  redeemed_count integer not null default 0,
  valid_until timestamptz,
  is_active boolean not null default true,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1,
  constraint coupons_code unique (tenant_id, code),
  check ((percent_off is null) <> (amount_off is null))
);
create trigger coupons_touch before update on coupons for each row execute function touch_row();

create table subscriptions (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  user_id uuid not null references users on delete cascade,
  plan_id uuid not null references plans,
  status text not null
    check (status in ('incomplete', 'active', 'trialing', 'past_due', 'canceled', 'expired')),
  provider text not null,
  provider_ref text,
  current_period_start timestamptz not null,
  current_period_end timestamptz not null,
  cancel_at_period_end boolean not null default false,
  trial_end timestamptz,
  trial_ending_told boolean not null default false,
  past_due_since timestamptz,
  -- No reference: what was redeemed stays in force when the coupon is deleted.
  coupon_id uuid,
  coupon_code text,
  coupon_cycles_left integer,
  canceled_at timestamptz,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  updated_at timestamptz not null default date_trunc('milliseconds', now()),
  row_version bigint not null default 1
);
create unique index subscriptions_live on subscriptions (user_id)
  where status in ('incomplete', 'active', 'trialing', 'past_due');
create unique index subscriptions_provider on subscriptions (provider, provider_ref) where provider_ref is not null;
create index subscriptions_status on subscriptions (tenant_id, status);
create index subscriptions_plan on subscriptions (plan_id);
create index subscriptions_period on subscriptions (current_period_end);
create trigger subscriptions_touch before update on subscriptions for each row execute function touch_row();

create table billing_events (
  id uuid primary key,
  tenant_id uuid references tenants,
  provider text not null,
  provider_event_id text not null,
  type text not null,
  payload jsonb not null,
  processed_at timestamptz,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  constraint billing_events_provider unique (provider, provider_event_id)
);
