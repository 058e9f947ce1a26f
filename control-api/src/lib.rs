//! The control plane: accounts, catalogue, uploads, entitlements, playback sessions, licences, and keys for encryptors.
//!
//! # How a request goes
//! [`router`] has every operation. [`pipeline`] walks each request through the same steps (who asks, rate limit, may they,
//! is it well formed, idempotency) before a handler of [`routes`] sees it as a [`call::Call`]; the handler returns a
//! [`reply::Reply`] or an [`error::ApiError`].
//!
//! # How to add an area
//! 1. **Operations**: `routes/AREA.rs` with `pub fn endpoints() -> Vec<Endpoint>`, one row an operation:
//!    `post("area.verb", "/path/{thing_id}", Caller::Any, handler).json(schema).reply(201, schema).errors(&[Code::…])
//!    .idempotent().rules("XX-1")`. Name it in `routes.rs` and in [`router::endpoints`]. That row is all: routing, checks of
//!    the body and query, the OpenAPI document and the sweeps of the tests follow from it. A schema
//!    ([`schema`]) is both what is enforced and what is documented; tests hold every reply against it.
//! 2. **Handlers** are thin: `async fn verb(app: Arc<App>, call: Call) -> Answer`. Read `call.path_id("thing_id")?`,
//!    `call.body::<T>()?`, `call.query_text("name")`, `call.user_id()?`; reads take `app.db.acquire()`, changes a
//!    [`work::Work`]: `let mut work = Work::begin(&app, &call).await?;` then statements on `work.connection()`,
//!    `work.audit(…)`, `work.emit(…)` (webhook events), `work.invalidate(kind, id, version)` (caches of all nodes), and at
//!    the end `work.finish(reply).await`, which commits all of it together with the reply under the idempotency key.
//! 3. **SQL** lives in `db/AREA.rs` and nowhere else. Every function takes `&mut PgConnection` and a
//!    [`call::TenantId`]; a row that is not found is told by [`db::missing`] (another tenant's is 403, nobody's 404).
//!    Lists take a [`page::PageRequest`]; [`db::page`] reads their rows and counts them, and `page.answer(rows, total,
//!    &call.target)` replies.
//!    `row_version` is raised by a trigger: reply with `.version(row.row_version, None)?`, and let a change
//!    `call.check_version(row.row_version)?` after it locked the row.
//! 4. **Decisions** go into a pure module of their own (no database, no clock: `now` is an argument), with its tests inside.
//! 5. **Migrations**: the next number in `migrations/`. A step that was merged is never edited; first add, a release later
//!    take away.
//! 6. **Tests**: `tests/api/AREA.rs`, named after the rules (`pl_9_…`). `Api::start().await` gives each test a database of
//!    its own; `api.admin().await.post("/path").json(…).expect(201).await` checks status and body against the table.
//!    Add the rows of `RULES.md`.
//! 7. **Work in the background**: a function called by [`jobs`], under an advisory lock or `for update skip locked`.
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod auth;
pub mod batch;
pub mod billing;
pub mod cache;
pub mod call;
pub mod catalog;
pub mod config;
pub mod connection;
pub mod db;
pub mod device_log;
pub mod encoding;
pub mod entitlement;
pub mod error;
pub mod facts;
pub mod idempotency;
pub mod import;
pub mod issuer;
pub mod jobs;
pub mod kek;
pub mod key_exchange;
pub mod key_log;
pub mod lanes;
pub mod license;
pub mod live;
mod login_guard;
pub mod metrics;
pub mod openapi;
pub mod operation;
pub mod outbound;
pub mod page;
pub mod pages;
pub mod password;
pub mod pipeline;
pub mod postgres;
pub mod pulse;
pub mod rate_limit;
pub mod reply;
pub mod router;
pub mod routes;
pub mod schema;
pub mod secrets;
pub mod serve;
pub mod slots;
pub mod source;
pub mod token;
pub mod upload;
pub mod webhook;
pub mod work;
