//! The database: the only files with SQL. Rows in, domain types out; every question names its tenant.

pub mod assets;
pub mod audit;
pub mod coupons;
pub mod devices;
pub mod encodings;
pub mod events;
pub mod idempotency;
pub mod keys;
pub mod licences;
pub mod movies;
pub mod plans;
pub mod profiles;
pub mod sessions;
pub mod shows;
pub mod streams;
pub mod subscriptions;
pub mod system;
pub mod taxonomy;
pub mod titles;
pub mod uploads;
pub mod users;
pub mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, FromRow, PgConnection, PgPool, Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

use crate::call::{Call, TenantId};
use crate::error::{ApiError, Code};
use crate::page::PageRequest;
use crate::pulse::Pulse;

/// The tenant that there always is; the platform's own.
pub const DEFAULT_TENANT: TenantId = TenantId(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));

/// The schema, step by step: a step first adds, and a later one takes away what nobody uses any more.
pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Least version of Postgres.
pub const VERSION_MIN: i32 = 140_000;

/// A connection that was idle for so long is asked whether it is one before it is used.
const IDLE_TRUSTED: Duration = Duration::from_secs(1);

/// Connects, a few connections at most.
pub async fn connect(options: PgConnectOptions, count_max: u32) -> Result<PgPool, sqlx::Error> {
    connect_felt(options, count_max, &Arc::default()).await
}

/// Connects, a few connections at most. Those from before the database was away are not used again.
pub async fn connect_felt(
    options: PgConnectOptions,
    count_max: u32,
    pulse: &Arc<Pulse>,
) -> Result<PgPool, sqlx::Error> {
    let options = options.application_name("headwater").options([("timezone", "UTC")]);
    let (acquiring, releasing) = (Arc::clone(pulse), Arc::clone(pulse));
    PgPoolOptions::new()
        .max_connections(count_max)
        // Waiting longer would only pile up requests: 503 says come again.
        .acquire_timeout(Duration::from_millis(900))
        // Asking each time would be a trip to the database for each that is needed.
        .test_before_acquire(false)
        .before_acquire(move |connection, meta| {
            let trusted = acquiring.trusts(meta.age);
            let used = meta.idle_for < IDLE_TRUSTED;
            Box::pin(async move { Ok(trusted && (used || connection.ping().await.is_ok())) })
        })
        // One on which somebody waited in vain is not waited for again, but closed.
        .after_release(move |_, meta| {
            let trusted = releasing.trusts(meta.age);
            Box::pin(async move { Ok(trusted) })
        })
        .connect_with(options)
        .await
}

/// Brings the schema up to date. Several nodes may do so at once.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    MIGRATIONS.run(pool).await
}

/// Why a row of `table` was not found: another tenant has it, or nobody (1.9). Strangers do not learn which.
pub async fn missing(connection: &mut PgConnection, table: &'static str, id: Uuid, call: &Call) -> ApiError {
    if call.principal.is_none() {
        return Code::NotFound.into();
    }
    let sql = format!("select tenant_id from {table} where id = $1");
    let found: Result<Option<Uuid>, sqlx::Error> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(id)
        .fetch_optional(connection)
        .await;
    match found {
        Ok(Some(tenant)) if tenant != call.tenant.0 => Code::WrongTenant.into(),
        Ok(_) => Code::NotFound.into(),
        Err(error) => error.into(),
    }
}

/// Whether a row is read to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// It is not.
    Read,
    /// It is.
    Change,
}

/// Rows of a page, each with its sort key and its id, and how many there are in all where that was asked.
pub type Rows<T> = (Vec<(T, String, Uuid)>, Option<i64>);

/// A page of rows of a table called `t`, of which `columns` are read. `conditions` says from where, and which of them.
pub async fn page<T>(
    connection: &mut PgConnection,
    columns: &str,
    page: &PageRequest,
    conditions: impl Fn(&mut QueryBuilder<Postgres>),
) -> Result<Rows<T>, sqlx::Error>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let mut query = QueryBuilder::new(format!("select {columns}, {}", page.key_sql()));
    conditions(&mut query);
    page.push(&mut query);
    let rows = query.build().fetch_all(&mut *connection).await?;
    let keyed = |row: &PgRow| Ok((T::from_row(row)?, row.try_get("sort_key")?, row.try_get("id")?));
    let rows = rows.iter().map(keyed).collect::<Result<_, sqlx::Error>>()?;
    if !page.include_total {
        return Ok((rows, None));
    }
    let mut query = QueryBuilder::new("select count(*)");
    conditions(&mut query);
    let total = query.build_query_scalar().fetch_one(connection).await?;
    Ok((rows, Some(total)))
}
