-- Who an account is to a payment provider: made once, however often they subscribe.
create table billing_customers (
  user_id uuid not null references users on delete cascade,
  provider text not null,
  customer_ref text not null,
  created_at timestamptz not null default date_trunc('milliseconds', now()),
  primary key (user_id, provider)
);
