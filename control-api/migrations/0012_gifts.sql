-- What admins gave ends when they said: it is told apart from what people chose themselves.

alter table subscriptions add column is_gift boolean not null default false;
update subscriptions s set is_gift = true
where s.provider = 'manual' and exists (
  select 1 from audit_log a
  where a.resource_type = 'subscription' and a.resource_id = s.id and a.action = 'subscription.created'
    and a.actor_id is distinct from s.user_id);

-- Titles whose window ends are looked for every second.
create index playables_until on playables (available_until) where available_until is not null;
