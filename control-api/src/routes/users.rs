//! Users, as administrators see and change them (AU-7 to AU-10), and the audit log (AD).

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::account::{change_user, erase, guard_last_admin, set_password, user_schema};
use super::auth::{end_sign_ins, make_user, password_schema, send_action_token};
use crate::app::App;
use crate::auth::Role;
use crate::call::Call;
use crate::db;
use crate::db::sessions::{Purpose, Which};
use crate::db::users::{self, Filter, NewUser, UserChange, UserRow};
use crate::db::{audit, streams};
use crate::error::{ApiError, Code};
use crate::operation::{Answer, Caller, Endpoint, delete, get, patch, post};
use crate::page::{CREATED, NEWEST, PageQuery, SortField};
use crate::reply::Reply;
use crate::schema::{
    Format, Schema, absent, date_time, formatted, integer, object, optional, page, read_only, required, text, uuid,
};
use crate::work::Work;

const ROLES: &[&str] = &["user", "moderator", "admin"];
const STATUSES: &[&str] = &["active", "suspended", "banned"];

const SORTS: PageQuery = PageQuery {
    sorts: &[
        CREATED,
        SortField {
            name: "name",
            sql: "t.name",
            kind: "text",
        },
        SortField {
            name: "email",
            sql: "t.email_lower",
            kind: "text",
        },
        SortField {
            name: "last_login_at",
            sql: "coalesce(t.last_login_at, 'epoch'::timestamptz)",
            kind: "timestamptz",
        },
    ],
    aliases: &[],
    default: "-created_at",
};

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        get("users.list", "/admin/users", Caller::Admin, list)
            .summary("Users of the tenant")
            .list()
            .sort()
            .query("role", Schema::Enum(ROLES))
            .query("status", Schema::Enum(STATUSES))
            .query("search", text(1, 200))
            .query("plan_id", uuid())
            .reply(200, page(user_schema()))
            .rules("AU-8, AU-9"),
        post("users.create", "/admin/users", Caller::Admin, create)
            .summary("Make an account, with a password or an invitation")
            .json(object(writable().into_iter().chain([
                required("name", text(1, 200)),
                required("email", formatted(Format::Email, 3, 254)),
                absent("password", password_schema()),
                absent("invite", Schema::Bool),
            ])))
            .reply(201, user_schema())
            .errors(&[Code::EmailTaken])
            .idempotent(),
        get("users.get", "/admin/users/{user_id}", Caller::Admin, one)
            .summary("A user")
            .reply(200, user_schema())
            .etag(),
        patch("users.update", "/admin/users/{user_id}", Caller::Admin, update)
            .summary("Change a user")
            .json(object(writable().into_iter().chain([
                absent("name", text(1, 200)),
                absent("email", formatted(Format::Email, 3, 254)),
            ])))
            .reply(200, user_schema())
            .errors(&[Code::EmailTaken, Code::LastAdmin])
            .if_match()
            .rules("AU-7, AU-8, AU-10"),
        delete("users.delete", "/admin/users/{user_id}", Caller::Admin, remove)
            .summary("Delete a user, giving their library to another or deleting it")
            .query("transfer_to", uuid())
            .empty(204)
            .errors(&[Code::LastAdmin, Code::MediaInUse])
            .if_match()
            .rules("AU-10"),
        post(
            "users.password",
            "/admin/users/{user_id}/password",
            Caller::Admin,
            password,
        )
        .summary("Set a password, or mail a link to choose one")
        .optional_json(object([absent("password", password_schema())]))
        .empty(204)
        .idempotent()
        .rules("AU-13"),
        get("audit.list", "/admin/audit-logs", Caller::Admin, audit_list)
            .summary("What was done, newest first")
            .list()
            .query("sort", text(0, 50))
            .errors(&[Code::InvalidSort])
            .query("actor_id", uuid())
            .query("action", text(1, 100))
            .query("resource_type", text(1, 100))
            .query("resource_id", uuid())
            .query("from", date_time())
            .query("to", date_time())
            .reply(200, page(audit_schema()))
            .rules("AD-1, AD-2"),
        get("audit.get", "/admin/audit-logs/{log_id}", Caller::Admin, audit_one)
            .summary("A row of the audit log")
            .reply(200, audit_schema())
            .rules("AD-1"),
    ]
}

fn writable() -> Vec<crate::schema::Field> {
    let mut fields = vec![
        absent("role", Schema::Enum(ROLES)),
        absent("status", Schema::Enum(STATUSES)),
        absent("can_upload", Schema::Bool),
        absent("remote_download_enabled", Schema::Bool),
        optional("storage_quota_bytes", integer(0, i64::MAX)),
    ];
    let ignored = [
        "id",
        "plan",
        "email_verified",
        "storage_used_bytes",
        "created_at",
        "updated_at",
        "last_login_at",
    ];
    fields.extend(ignored.map(|name| read_only(name, Schema::Any)));
    fields
}

fn audit_schema() -> Schema {
    object([
        required("id", uuid()),
        required("action", text(1, 100)),
        required("actor_id", uuid().or_null()),
        required(
            "actor_role",
            Schema::Enum(&["user", "moderator", "admin", "api_key", "system"]),
        ),
        required("resource_type", text(1, 100)),
        required("resource_id", uuid().or_null()),
        required("ip_address", text(0, 64).or_null()),
        required("user_agent", text(0, 512).or_null()),
        required("request_id", uuid().or_null()),
        required("metadata", Schema::Any),
        required("created_at", date_time()),
    ])
    .named("AuditEntry")
}

async fn list(app: Arc<App>, call: Call) -> Answer {
    let filter = Filter {
        role: call.query_text("role").map(str::to_owned),
        status: call.query_text("status").map(str::to_owned),
        search: call.query_text("search").map(str::to_owned),
        plan_id: call.query_id("plan_id"),
    };
    let page = call.page(&SORTS, &format!("users {filter:?}"))?;
    let mut connection = app.db.acquire().await?;
    let (rows, total) = users::list(&mut connection, call.tenant, &filter, &page).await?;
    let rows = rows
        .into_iter()
        .map(|(row, key, id)| (row.to_json(), key, id))
        .collect();
    page.answer(rows, total, &call.target)
}

/// The fields of a change that only admins make.
fn change_of(members: &serde_json::Map<String, Value>) -> UserChange {
    let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
    UserChange {
        name: text("name"),
        email: text("email"),
        role: text("role"),
        status: text("status"),
        can_upload: members.get("can_upload").and_then(Value::as_bool),
        remote_download_enabled: members.get("remote_download_enabled").and_then(Value::as_bool),
        storage_quota_bytes: members.get("storage_quota_bytes").map(Value::as_i64),
    }
}

async fn create(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    let change = change_of(&members);
    let invite = members.get("invite").and_then(Value::as_bool).unwrap_or(false);
    let password = match (members.get("password").and_then(Value::as_str), invite) {
        (Some(password), false) => Some(app.passwords.hash(password).await?),
        (None, true) => None,
        _ => {
            return Err(ApiError::invalid(
                "password",
                "either password or invite=true must be there",
            ));
        }
    };
    let user = NewUser {
        id: Uuid::now_v7(),
        name: change.name.clone().unwrap_or_default(),
        email: change.email.clone().unwrap_or_default(),
        password_hash: password,
        role: Role::of(change.role.as_deref().unwrap_or_default()),
        email_verified_at: None,
        now: call.now,
    };
    let mut work = Work::begin(&app, &call).await?;
    make_user(&mut work, &user).await?;
    let rest = UserChange { email: None, ..change };
    change_user(&mut work, user.id, &rest).await?;
    if invite {
        let ttl = chrono::TimeDelta::days(7);
        send_action_token(&app, &mut work, user.id, &user.email, Purpose::ResetPassword, ttl).await?;
    }
    work.emit(
        "user.created",
        Some(user.id),
        json!({ "id": user.id, "name": user.name, "email": user.email }),
    )
    .await?;
    work.audit("user.created", "user", Some(user.id), json!({ "role": user.role }))
        .await?;
    let row = users::get(work.connection(), call.tenant, user.id).await?;
    let row = row.ok_or_else(|| ApiError::internal("a new user is not there"))?;
    let reply =
        Reply::created(&format!("/api/v1/admin/users/{}", user.id), &row.to_json())?.version(row.row_version, None)?;
    work.finish(reply).await
}

async fn find(connection: &mut sqlx::PgConnection, call: &Call) -> Result<UserRow, ApiError> {
    let id = call.path_id("user_id")?;
    match users::get(connection, call.tenant, id).await? {
        Some(user) => Ok(user),
        None => Err(db::missing(connection, "users", id, call).await),
    }
}

async fn one(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let user = find(&mut connection, &call).await?;
    let view = user.plan.clone().unwrap_or_default();
    Reply::json(200, &user.to_json())?.version(user.row_version, Some(&view))
}

/// The user in the path, locked, as the caller thinks they are.
async fn locked(connection: &mut sqlx::PgConnection, call: &Call) -> Result<UserRow, ApiError> {
    let id = call.path_id("user_id")?;
    let Some(user) = users::lock(connection, call.tenant, id).await? else {
        return Err(db::missing(connection, "users", id, call).await);
    };
    call.check_version(user.row_version)?;
    Ok(user)
}

async fn update(app: Arc<App>, call: Call) -> Answer {
    let change = change_of(&call.members());
    let mut work = Work::begin(&app, &call).await?;
    let before = locked(work.connection(), &call).await?;
    let id = before.id;
    let demoted = change.role.as_deref().is_some_and(|role| role != "admin");
    let stopped = change.status.as_deref().is_some_and(|status| status != "active");
    if demoted || stopped {
        guard_last_admin(&mut work, &before).await?;
    }
    change_user(&mut work, id, &change).await?;
    let after = find(work.connection(), &call).await?;
    if stopped && before.status != after.status {
        end_sign_ins(&mut work, id, Which::All).await?;
        let live = streams::of_user(work.connection(), id).await?;
        work.end_streams(&live, "account_suspended").await?;
        work.emit("user.suspended", Some(id), json!({ "id": id, "status": after.status }))
            .await?;
    }
    work.invalidate("user", id, after.row_version).await?;
    let changed: Vec<String> = call.members().keys().cloned().collect();
    let metadata = json!({ "changed": changed, "role": after.role, "status": after.status });
    work.audit("user.updated", "user", Some(id), metadata).await?;
    let view = after.plan.clone().unwrap_or_default();
    let reply = Reply::json(200, &after.to_json())?.version(after.row_version, Some(&view))?;
    work.finish(reply).await
}

async fn remove(app: Arc<App>, call: Call) -> Answer {
    let mut work = Work::begin(&app, &call).await?;
    let user = locked(work.connection(), &call).await?;
    let heir = match call.query_id("transfer_to") {
        None => None,
        Some(id) => match users::get(work.connection(), call.tenant, id).await? {
            Some(heir) if heir.id != user.id => Some(heir.id),
            _ => return Err(ApiError::parameter("transfer_to", "names no other user")),
        },
    };
    erase(&mut work, &user, heir).await?;
    work.finish(Reply::empty(204)).await
}

async fn password(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    let hash = match members.get("password").and_then(Value::as_str) {
        Some(password) => Some(app.passwords.hash(password).await?),
        None => None,
    };
    let mut work = Work::begin(&app, &call).await?;
    let user = find(work.connection(), &call).await?;
    match hash {
        Some(hash) => set_password(&mut work, user.id, &hash).await?,
        None => {
            let ttl = chrono::TimeDelta::hours(1);
            send_action_token(&app, &mut work, user.id, &user.email, Purpose::ResetPassword, ttl).await?;
            work.audit("user.password_link", "user", Some(user.id), json!({}))
                .await?;
        }
    }
    work.finish(Reply::empty(204)).await
}

async fn audit_list(app: Arc<App>, call: Call) -> Answer {
    if call.query.contains_key("sort") {
        return Err(ApiError::with(
            Code::InvalidSort,
            "the audit log is always newest first",
        ));
    }
    let filter = audit::Filter {
        actor_id: call.query_id("actor_id"),
        action: call.query_text("action").map(str::to_owned),
        resource_type: call.query_text("resource_type").map(str::to_owned),
        resource_id: call.query_id("resource_id"),
        from: call.query_time("from"),
        to: call.query_time("to"),
    };
    let page = call.page(&NEWEST, &format!("audit {filter:?}"))?;
    let mut connection = app.db.acquire().await?;
    let (rows, total) = audit::list(&mut connection, call.tenant, &filter, &page).await?;
    page.answer(rows, total, &call.target)
}

async fn audit_one(app: Arc<App>, call: Call) -> Answer {
    let id = call.path_id("log_id")?;
    let mut connection = app.db.acquire().await?;
    match audit::get(&mut connection, call.tenant, id).await? {
        Some(entry) => Reply::json(200, &entry),
        None => Err(db::missing(&mut connection, "audit_log", id, &call).await),
    }
}
