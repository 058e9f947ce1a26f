//! Rows of the audit log.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::call::TenantId;
use crate::page::PageRequest;
use crate::work::Actor;

/// A row to write.
#[derive(Debug)]
pub struct NewEntry<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// What was done: `content.published`.
    pub action: &'a str,
    /// By whom.
    pub actor: &'a Actor,
    /// To what kind of thing.
    pub resource: &'a str,
    /// To which.
    pub resource_id: Option<Uuid>,
    /// More about it, without secrets.
    pub metadata: Value,
    /// When.
    pub at: DateTime<Utc>,
}

/// Writes a row.
pub async fn insert(connection: &mut PgConnection, entry: &NewEntry<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into audit_log (id, tenant_id, action, actor_id, actor_role, resource_type, resource_id, ip_address,
           user_agent, request_id, metadata, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(Uuid::now_v7())
    .bind(entry.tenant.0)
    .bind(entry.action)
    .bind(entry.actor.id)
    .bind(entry.actor.role)
    .bind(entry.resource)
    .bind(entry.resource_id)
    .bind(&entry.actor.ip)
    .bind(&entry.actor.user_agent)
    .bind(entry.actor.request_id)
    .bind(&entry.metadata)
    .bind(entry.at)
    .execute(connection)
    .await?;
    Ok(())
}

/// A row as it is shown.
#[derive(Debug, serde::Serialize, sqlx::FromRow)]
pub struct Entry {
    /// Its id.
    pub id: Uuid,
    /// What was done.
    pub action: String,
    /// By whom.
    pub actor_id: Option<Uuid>,
    /// As what.
    pub actor_role: String,
    /// To what kind of thing.
    pub resource_type: String,
    /// To which.
    pub resource_id: Option<Uuid>,
    /// From where.
    pub ip_address: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
    /// In which request.
    pub request_id: Option<Uuid>,
    /// More about it.
    pub metadata: Value,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// Which rows are asked for.
#[derive(Debug, Default)]
pub struct Filter {
    /// By whom.
    pub actor_id: Option<Uuid>,
    /// What the action begins with.
    pub action: Option<String>,
    /// To what kind of thing.
    pub resource_type: Option<String>,
    /// To which.
    pub resource_id: Option<Uuid>,
    /// Not before.
    pub from: Option<DateTime<Utc>>,
    /// Before.
    pub to: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "t.id, t.action, t.actor_id, t.actor_role, t.resource_type, t.resource_id, t.ip_address,
  t.user_agent, t.request_id, t.metadata, t.created_at";

fn push_filter(query: &mut QueryBuilder<Postgres>, tenant: TenantId, filter: &Filter) {
    query.push(" from audit_log t where t.tenant_id = ").push_bind(tenant.0);
    if let Some(id) = filter.actor_id {
        query.push(" and t.actor_id = ").push_bind(id);
    }
    if let Some(action) = &filter.action {
        query
            .push(" and starts_with(t.action, ")
            .push_bind(action.clone())
            .push(")");
    }
    if let Some(kind) = &filter.resource_type {
        query.push(" and t.resource_type = ").push_bind(kind.clone());
    }
    if let Some(id) = filter.resource_id {
        query.push(" and t.resource_id = ").push_bind(id);
    }
    if let Some(from) = filter.from {
        query.push(" and t.created_at >= ").push_bind(from);
    }
    if let Some(to) = filter.to {
        query.push(" and t.created_at < ").push_bind(to);
    }
}

/// A page of rows, and how many there are where that is asked.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    filter: &Filter,
    page: &PageRequest,
) -> Result<super::Rows<Entry>, sqlx::Error> {
    super::page(connection, COLUMNS, page, |query| push_filter(query, tenant, filter)).await
}

/// One row.
pub async fn get(connection: &mut PgConnection, tenant: TenantId, id: Uuid) -> Result<Option<Entry>, sqlx::Error> {
    let mut query = QueryBuilder::new(format!("select {COLUMNS} from audit_log t where t.tenant_id = "));
    query.push_bind(tenant.0).push(" and t.id = ").push_bind(id);
    query.build_query_as().fetch_optional(connection).await
}

/// Whether something was written of a thing since a time.
pub async fn has(
    connection: &mut PgConnection,
    tenant: TenantId,
    action: &str,
    id: Uuid,
    since: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select 1 from audit_log where tenant_id = $1 and action = $2 and resource_id = $3 and created_at >= $4)",
    )
    .bind(tenant.0)
    .bind(action)
    .bind(id)
    .bind(since)
    .fetch_one(connection)
    .await
}
