//! Rows of genres and country rules, as the command line loads them.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::call::TenantId;

/// Makes a genre, or gives the one with this slug another name; its id.
pub async fn put_genre(
    connection: &mut PgConnection,
    tenant: TenantId,
    slug: &str,
    name: &str,
    content_types: &[String],
) -> Result<Uuid, sqlx::Error> {
    sqlx::query_scalar(
        "insert into genres (id, tenant_id, slug, name, content_types) values ($1, $2, $3, $4, $5)
         on conflict (tenant_id, slug) do update set name = excluded.name, content_types = excluded.content_types
         returning id",
    )
    .bind(Uuid::now_v7())
    .bind(tenant.0)
    .bind(slug)
    .bind(name)
    .bind(content_types)
    .fetch_one(connection)
    .await
}

/// Puts a genre below another one, or at the top. False: there is no such one, or it is below this one itself (DL-7).
pub async fn set_parent(
    connection: &mut PgConnection,
    tenant: TenantId,
    genre: Uuid,
    parent: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "with recursive above as (
           select id, parent_id from genres where tenant_id = $1 and slug = $3
           union select g.id, g.parent_id from genres g join above a on g.id = a.parent_id)
         update genres set parent_id = (select id from genres where tenant_id = $1 and slug = $3)
         where id = $2 and ($3::text is null or exists (select 1 from above))
           and not exists (select 1 from above where id = $2)",
    )
    .bind(tenant.0)
    .bind(genre)
    .bind(parent)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A country rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Its name.
    pub name: &'a str,
    /// For people.
    pub description: Option<&'a str>,
    /// `allow_list` or `block_list`.
    pub policy: &'a str,
    /// Countries, in capitals.
    pub territories: &'a [String],
}

/// Makes a country rule, or changes the one of this name; its id.
pub async fn put_rule(connection: &mut PgConnection, tenant: TenantId, rule: &Rule<'_>) -> Result<Uuid, sqlx::Error> {
    sqlx::query_scalar(
        "insert into geo_rules (id, tenant_id, name, description, policy, territories) values ($1, $2, $3, $4, $5, $6)
         on conflict (tenant_id, name) do update set description = excluded.description, policy = excluded.policy,
           territories = excluded.territories
         returning id",
    )
    .bind(Uuid::now_v7())
    .bind(tenant.0)
    .bind(rule.name)
    .bind(rule.description)
    .bind(rule.policy)
    .bind(rule.territories)
    .fetch_one(connection)
    .await
}

/// Attaches a country rule to a movie or show. False: there is none.
pub async fn attach_rule(
    connection: &mut PgConnection,
    tenant: TenantId,
    rule: Uuid,
    content: Uuid,
) -> Result<bool, sqlx::Error> {
    let is_there: bool = sqlx::query_scalar(
        "select exists (select 1 from movies where tenant_id = $1 and id = $2)
           or exists (select 1 from shows where tenant_id = $1 and id = $2)",
    )
    .bind(tenant.0)
    .bind(content)
    .fetch_one(&mut *connection)
    .await?;
    if is_there {
        sqlx::query("insert into geo_rule_targets (rule_id, content_id) values ($1, $2) on conflict do nothing")
            .bind(rule)
            .bind(content)
            .execute(connection)
            .await?;
    }
    Ok(is_there)
}
