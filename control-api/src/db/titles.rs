//! What rows of movies and shows have in common: names, filters, genres, cast, country rules; and who looks at them.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

use super::{Lock, Rows};
use crate::call::TenantId;
use crate::page::PageRequest;

/// From where somebody looks.
#[derive(Clone, Debug)]
pub struct Place {
    /// Country, where it is known.
    pub country: Option<String>,
    /// Whether unknown ones count as blocked.
    pub unknown_blocked: bool,
}

fn push_geo(query: &mut QueryBuilder<Postgres>, place: Option<&Place>) {
    match place {
        None => {
            query.push("true");
        }
        Some(place) => {
            query
                .push("geo_allows(t.id, null, ")
                .push_bind(place.country.clone())
                .push(", ");
            query.push_bind(place.unknown_blocked).push(")");
        }
    }
}

/// How a title is named.
#[derive(Clone, Debug)]
pub enum Name {
    /// By id.
    Id(Uuid),
    /// By slug.
    Slug(String),
}

/// The table of a kind of titles.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// What is read of a row of it called `t`, save whether a country may see it.
    pub columns: &'static str,
}

impl Table {
    /// One title, seen from `place`; from nowhere in particular without. `lock` keeps others from changing it.
    pub async fn get<T>(
        self,
        connection: &mut PgConnection,
        tenant: TenantId,
        name: &Name,
        place: Option<&Place>,
        lock: Lock,
    ) -> Result<Option<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut query = QueryBuilder::new(format!("select {}, ", self.columns));
        push_geo(&mut query, place);
        let from = format!(" as geo_allowed from {} t where t.tenant_id = ", self.name);
        query.push(from).push_bind(tenant.0);
        match name {
            Name::Id(id) => query.push(" and t.id = ").push_bind(*id),
            Name::Slug(slug) => query.push(" and t.slug = ").push_bind(slug.clone()),
        };
        if lock == Lock::Change {
            query.push(" for update of t");
        }
        query.build_query_as().fetch_optional(connection).await
    }

    /// A page of titles that `filter` leaves, and `own` conditions of their kind.
    pub async fn list<T>(
        self,
        connection: &mut PgConnection,
        tenant: TenantId,
        filter: &Filter,
        page: &PageRequest,
        own: impl Fn(&mut QueryBuilder<Postgres>),
    ) -> Result<Rows<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow>,
    {
        let columns = format!("{}, true as geo_allowed", self.columns);
        let conditions = |query: &mut QueryBuilder<Postgres>| {
            query
                .push(format!(" from {} t where t.tenant_id = ", self.name))
                .push_bind(tenant.0);
            filter.push(query);
            own(query);
        };
        super::page(connection, &columns, page, conditions).await
    }

    /// Keeps others from choosing slugs of a tenant's titles, until this is committed.
    pub async fn lock_slugs(self, connection: &mut PgConnection, tenant: TenantId) -> Result<(), sqlx::Error> {
        sqlx::query("select pg_advisory_xact_lock(hashtextextended($1 || $2::text, 3))")
            .bind(self.name)
            .bind(tenant.0)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Slugs that begin like this one.
    pub async fn slugs_like(
        self,
        connection: &mut PgConnection,
        tenant: TenantId,
        slug: &str,
    ) -> Result<Vec<String>, sqlx::Error> {
        let mut query = QueryBuilder::new(format!("select slug from {} where tenant_id = ", self.name));
        query
            .push_bind(tenant.0)
            .push(" and (slug = ")
            .push_bind(slug.to_owned());
        query
            .push(" or starts_with(slug, ")
            .push_bind(format!("{slug}-"))
            .push("))");
        query.build_query_scalar().fetch_all(connection).await
    }
}

/// Which titles are asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Slug of a genre.
    pub genre: Option<String>,
    /// Rating.
    pub content_rating: Option<String>,
    /// Who is in it.
    pub cast_id: Option<Uuid>,
    /// Whether it is premium.
    pub is_premium: Option<bool>,
    /// Words.
    pub q: Option<String>,
    /// What viewers see alone: now, from where, for which ages.
    pub viewer: Option<Viewer>,
}

impl Filter {
    fn push(&self, query: &mut QueryBuilder<Postgres>) {
        if let Some(genre) = &self.genre {
            query.push(" and exists (select 1 from content_genres c join genres g on g.id = c.genre_id where c.content_id = t.id and g.slug = ");
            query.push_bind(genre.clone()).push(")");
        }
        if let Some(rating) = &self.content_rating {
            query.push(" and t.content_rating = ").push_bind(rating.clone());
        }
        if let Some(person) = self.cast_id {
            query.push(" and exists (select 1 from content_cast c where c.content_id = t.id and c.person_id = ");
            query.push_bind(person).push(")");
        }
        if let Some(premium) = self.is_premium {
            query.push(" and t.is_premium = ").push_bind(premium);
        }
        if let Some(words) = &self.q {
            query
                .push(" and t.search @@ websearch_to_tsquery('simple', ")
                .push_bind(words.clone())
                .push(")");
        }
        if let Some(viewer) = &self.viewer {
            query.push(" and ");
            push_geo(query, Some(&viewer.place));
            if let Some(ratings) = &viewer.ratings {
                query
                    .push(" and t.content_rating = any (")
                    .push_bind(ratings.clone())
                    .push(")");
            }
        }
    }
}

/// Who looks at the catalogue.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// When.
    pub now: DateTime<Utc>,
    /// From where.
    pub place: Place,
    /// Ratings that they see; all without. Titles without a rating are for grown-ups.
    pub ratings: Option<Vec<String>>,
}

/// Sets the genres of a title; those that are not known.
pub async fn set_genres(
    connection: &mut PgConnection,
    tenant: TenantId,
    content: Uuid,
    content_type: &str,
    slugs: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    // Key-shared, so that none of them is deleted meanwhile.
    let known: Vec<(Uuid, String)> =
        sqlx::query_as("select id, slug from genres where tenant_id = $1 and slug = any ($2) for key share")
            .bind(tenant.0)
            .bind(slugs)
            .fetch_all(&mut *connection)
            .await?;
    let unknown: Vec<String> = slugs
        .iter()
        .filter(|slug| !known.iter().any(|(_, known)| known == *slug))
        .cloned()
        .collect();
    if !unknown.is_empty() {
        return Ok(unknown);
    }
    sqlx::query("delete from content_genres where content_id = $1")
        .bind(content)
        .execute(&mut *connection)
        .await?;
    for (position, slug) in (0_i32..).zip(slugs) {
        let Some((id, _)) = known.iter().find(|(_, known)| known == slug) else {
            continue;
        };
        sqlx::query("insert into content_genres (content_id, content_type, genre_id, position) values ($1, $2, $3, $4) on conflict do nothing")
            .bind(content)
            .bind(content_type)
            .bind(id)
            .bind(position)
            .execute(&mut *connection)
            .await?;
    }
    Ok(unknown)
}

/// Sets the cast of a title, in order.
pub async fn set_cast(
    connection: &mut PgConnection,
    tenant: TenantId,
    content: Uuid,
    content_type: &str,
    cast: &[Value],
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from content_cast where content_id = $1")
        .bind(content)
        .execute(&mut *connection)
        .await?;
    for (position, member) in (0_i32..).zip(cast) {
        let text = |name: &str| member.get(name).and_then(Value::as_str);
        let person: Uuid = sqlx::query_scalar(
            "insert into people as p (id, tenant_id, name, image_url) values ($1, $2, $3, $4)
             on conflict (tenant_id, lower(name)) do update set image_url = coalesce(excluded.image_url, p.image_url)
             returning id",
        )
        .bind(Uuid::now_v7())
        .bind(tenant.0)
        .bind(text("name"))
        .bind(text("image_url"))
        .fetch_one(&mut *connection)
        .await?;
        sqlx::query("insert into content_cast (content_id, content_type, position, person_id, role, character) values ($1, $2, $3, $4, $5, $6)")
            .bind(content)
            .bind(content_type)
            .bind(position)
            .bind(person)
            .bind(text("role"))
            .bind(text("character"))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Attaches a title to one country rule or none; whether the rule is known.
pub async fn set_geo(
    connection: &mut PgConnection,
    tenant: TenantId,
    content: Uuid,
    rule: Option<Uuid>,
) -> Result<bool, sqlx::Error> {
    sqlx::query("delete from geo_rule_targets where content_id = $1")
        .bind(content)
        .execute(&mut *connection)
        .await?;
    let Some(rule) = rule else { return Ok(true) };
    let done = sqlx::query("insert into geo_rule_targets (rule_id, content_id) select id, $3 from geo_rules where tenant_id = $1 and id = $2")
        .bind(tenant.0)
        .bind(rule)
        .bind(content)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Takes from a title all that hangs on it; its assets are detached, or deleted with it (DL-11).
pub async fn detach(connection: &mut PgConnection, title: Uuid, assets: AssetFate) -> Result<(), sqlx::Error> {
    for sql in [
        "delete from content_genres where content_id = $1",
        "delete from content_cast where content_id = $1",
        "delete from geo_rule_targets where content_id = $1",
        match assets {
            AssetFate::Deleted => {
                "with gone as (delete from assets where target_id = $1 returning id, owner_id, size_bytes, source_blob),
                   ladders as (insert into removed_media (id, kind) select id, 'ladder' from gone on conflict do nothing),
                   freed as (
                     update users u set storage_used_bytes = greatest(0, storage_used_bytes - g.size_bytes)
                     from (select owner_id, sum(size_bytes)::bigint as size_bytes from gone group by owner_id) g
                     where u.id = g.owner_id and g.size_bytes is not null
                   )
                 update blobs b set ref_count = b.ref_count - g.count
                 from (select source_blob, count(*)::integer as count from gone group by source_blob) g
                 where b.id = g.source_blob"
            }
            AssetFate::Kept => "update assets set target_id = null, target_type = null where target_id = $1",
        },
    ] {
        sqlx::query(sql).bind(title).execute(&mut *connection).await?;
    }
    Ok(())
}

/// What becomes of a deleted title's assets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssetFate {
    /// They stay in the library.
    Kept,
    /// They go with it.
    Deleted,
}

/// What a viewer is covered for, and their profile: read at once for lists.
pub async fn coverage(
    connection: &mut PgConnection,
    user: Uuid,
    profile: Option<Uuid>,
) -> Result<Coverage, sqlx::Error> {
    let row = sqlx::query(
        "select s.status, s.current_period_end, p.tier, pr.id as profile, pr.is_kids, pr.max_content_rating
         from (select 1) one
         left join subscriptions s on s.user_id = $1 and s.status in ('active', 'trialing', 'past_due')
         left join plans p on p.id = s.plan_id
         left join profiles pr on pr.user_id = $1 and (pr.id = $2 or ($2 is null and pr.is_default))",
    )
    .bind(user)
    .bind(profile)
    .fetch_one(connection)
    .await?;
    Ok(Coverage {
        status: row.try_get(0)?,
        period_end: row.try_get(1)?,
        tier: row.try_get(2)?,
        profile: row.try_get(3)?,
        is_kids: row.try_get(4)?,
        max_content_rating: row.try_get(5)?,
    })
}

/// What a viewer is covered for, and their profile.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// Of the subscription.
    pub status: Option<String>,
    /// When its paid period ends.
    pub period_end: Option<DateTime<Utc>>,
    /// Of its plan.
    pub tier: Option<i32>,
    /// The profile, if it is theirs.
    pub profile: Option<Uuid>,
    /// Whether it is a child's.
    pub is_kids: Option<bool>,
    /// The highest rating that it sees.
    pub max_content_rating: Option<String>,
}
