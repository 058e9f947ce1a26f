//! Account: what people see and change of their own account (AU-8, AU-13).

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::auth::{end_sign_ins, password_schema, send_action_token};
use crate::app::App;
use crate::auth::Role;
use crate::call::Call;
use crate::db;
use crate::db::sessions::{Purpose, Which};
use crate::db::users::{self, UserChange, UserRow, email_key};
use crate::db::{profiles, streams};
use crate::error::{ApiError, Code, breaks};
use crate::operation::{Answer, Caller, Endpoint, delete, get, patch, post};
use crate::password::Verdict;
use crate::reply::Reply;
use crate::routes::subscriptions;
use crate::schema::{Format, Schema, absent, date_time, formatted, integer, object, optional, required, text, uuid};
use crate::work::Work;

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    let secret = || formatted(Format::Secret, 1, 256);
    vec![
        get("account.get", "/account", Caller::Any, one)
            .summary("One's own account")
            .reply(200, account_schema())
            .etag(),
        patch("account.update", "/account", Caller::Any, update)
            .summary("Change name or e-mail")
            .json(object(account_schema().besides(&["name", "email"]).into_iter().chain(
                [
                    absent("name", text(1, 200)),
                    absent("email", formatted(Format::Email, 3, 254)),
                    absent("current_password", secret()),
                ],
            )))
            .reply(200, user_schema())
            .errors(&[Code::EmailTaken, Code::InvalidCredentials])
            .rules("AU-8, AK-2"),
        delete("account.delete", "/account", Caller::Jwt, remove)
            .summary("Delete one's own account, for ever")
            .json(object([
                required("current_password", secret()),
                absent("confirmation", text(0, 100)),
            ]))
            .empty(204)
            .errors(&[
                Code::ConfirmationRequired,
                Code::InvalidCredentials,
                Code::LastAdmin,
                Code::MediaInUse,
            ])
            .rules("AU-10"),
        post("account.password", "/account/password", Caller::Jwt, password)
            .summary("Choose a new password")
            .json(object([
                required("current_password", secret()),
                required("new_password", password_schema()),
            ]))
            .empty(204)
            .errors(&[Code::InvalidCredentials])
            .idempotent()
            .rules("AU-13, AK-2"),
    ]
}

/// A user, as admins and themselves see them.
pub fn user_schema() -> Schema {
    object(user_fields()).named("User")
}

fn user_fields() -> Vec<crate::schema::Field> {
    vec![
        required("id", uuid()),
        required("name", text(1, 200)),
        required("email", text(1, 254)),
        required("role", Schema::Enum(&["user", "moderator", "admin"])),
        required("status", Schema::Enum(&["active", "suspended", "banned"])),
        required("plan", text(0, 100).or_null()),
        required("email_verified", Schema::Bool),
        required("can_upload", Schema::Bool),
        required("remote_download_enabled", Schema::Bool),
        required("storage_quota_bytes", integer(0, i64::MAX).or_null()),
        required("storage_used_bytes", integer(0, i64::MAX)),
        required("created_at", date_time()),
        required("updated_at", date_time()),
        required("last_login_at", date_time().or_null()),
    ]
}

fn account_schema() -> Schema {
    let limits = object([
        required("max_devices", integer(0, i64::MAX)),
        required("max_profiles", integer(0, i64::MAX)),
        required("max_concurrent_streams", integer(0, i64::MAX)),
        required("rate_limit_per_minute", integer(0, i64::MAX).or_null()),
    ]);
    let mut fields = user_fields();
    fields.push(optional("subscription", subscriptions::schema()));
    fields.push(required("limits", limits));
    object(fields).named("Account")
}

/// The caller's row.
async fn own(connection: &mut sqlx::PgConnection, call: &Call) -> Result<UserRow, ApiError> {
    let user = users::get(connection, call.tenant, call.user_id()?).await?;
    user.ok_or_else(|| Code::Unauthorized.into())
}

async fn one(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let user = own(&mut connection, &call).await?;
    let limits = profiles::limits(&mut connection, user.id, &app.settings().default_limits).await?;
    let mut body = user.to_json();
    body["limits"] = json!(limits);
    body["subscription"] = json!(db::subscriptions::current(&mut connection, user.id).await?);
    let view = format!("{} {}", body["limits"], body["subscription"]);
    Reply::json(200, &body)?.version(user.row_version, Some(&view))
}

#[derive(Deserialize)]
struct Change {
    name: Option<String>,
    email: Option<String>,
    current_password: Option<String>,
}

/// Refuses who does not know the account's password.
async fn check_password(app: &App, user: &UserRow, password: &str) -> Result<(), ApiError> {
    match app.passwords.verify(password, user.password_hash.as_deref()).await? {
        Verdict::Wrong => Err(Code::InvalidCredentials.into()),
        Verdict::Right | Verdict::RightButWeak => Ok(()),
    }
}

async fn update(app: Arc<App>, call: Call) -> Answer {
    let wanted: Change = call.body()?;
    let user = own(&mut *app.db.acquire().await?, &call).await?;
    // Sent back as they were read, they change nothing; changing them is for admins (AU-8).
    let members = call.members();
    let changes = |name: &str, now: &str| members.get(name).is_some_and(|wanted| *wanted != json!(now));
    if changes("role", &user.role) || changes("status", &user.status) {
        return Err(ApiError::with(Code::Forbidden, "role and status are set by admins"));
    }
    let email = wanted.email.filter(|email| *email != user.email);
    if email.is_some() {
        call.refuse_key()?;
        let password = wanted.current_password.as_deref();
        let password = password.ok_or_else(|| ApiError::invalid("current_password", "is missing"))?;
        check_password(&app, &user, password).await?;
    }
    let mut work = Work::begin(&app, &call).await?;
    let before = own(work.connection(), &call).await?;
    let change = UserChange {
        name: wanted.name,
        email,
        ..UserChange::default()
    };
    change_user(&mut work, before.id, &change).await?;
    let after = own(work.connection(), &call).await?;
    if email_key(&after.email) != email_key(&before.email) {
        let ttl = chrono::TimeDelta::days(2);
        send_action_token(&app, &mut work, after.id, &after.email, Purpose::VerifyEmail, ttl).await?;
        work.audit("account.email_changed", "user", Some(after.id), json!({}))
            .await?;
    }
    let reply = Reply::json(200, &after.to_json())?;
    work.finish(reply).await
}

/// Changes a user, or says that the e-mail is taken.
pub async fn change_user(work: &mut Work, id: Uuid, change: &UserChange) -> Result<(), ApiError> {
    let tenant = work.tenant;
    match users::update(work.connection(), tenant, id, change).await {
        Err(error) if breaks(&error, "users_email") => Err(Code::EmailTaken.into()),
        other => Ok(other?),
    }
}

async fn remove(app: Arc<App>, call: Call) -> Answer {
    let members = call.members();
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("confirmation") != "DELETE_ACCOUNT" {
        return Err(ApiError::new(Code::ConfirmationRequired).detail("confirmation", "must be DELETE_ACCOUNT"));
    }
    let user = own(&mut *app.db.acquire().await?, &call).await?;
    check_password(&app, &user, text("current_password")).await?;
    let mut work = Work::begin(&app, &call).await?;
    erase(&mut work, &user, None).await?;
    work.finish(Reply::empty(204)).await
}

/// Ends all that a user does and deletes them. Their library goes to `heir`, or with them.
pub async fn erase(work: &mut Work, user: &UserRow, heir: Option<Uuid>) -> Result<(), ApiError> {
    let tenant = work.tenant;
    guard_last_admin(work, user).await?;
    match heir {
        Some(heir) => users::transfer_library(work.connection(), user.id, heir).await?,
        None if users::owns_published(work.connection(), user.id).await? => return Err(Code::MediaInUse.into()),
        None => {
            let now = work.now;
            db::uploads::abandon(work.connection(), user.id, now).await?;
            users::delete_library(work.connection(), user.id).await?;
        }
    }
    end_sign_ins(work, user.id, Which::All).await?;
    let live = streams::of_user(work.connection(), user.id).await?;
    work.end_streams(&live, "admin").await?;
    if let Some(row) = db::subscriptions::current(work.connection(), user.id).await? {
        work.cancel_payment(&row);
        let payload = json!({ "id": row.id, "user_id": user.id, "plan_id": row.plan_id, "status": "canceled" });
        work.emit("subscription.canceled", Some(user.id), payload).await?;
    }
    users::delete(work.connection(), tenant, user.id).await?;
    work.invalidate("user", user.id, user.row_version + 1).await?;
    // The owner's keys went with them.
    work.invalidate("api_key", user.id, 0).await?;
    work.emit("user.deleted", Some(user.id), json!({ "id": user.id }))
        .await?;
    work.audit("user.deleted", "user", Some(user.id), json!({})).await
}

/// Refuses to take a tenant's last active admin away (AU-10).
pub async fn guard_last_admin(work: &mut Work, user: &UserRow) -> Result<(), ApiError> {
    let tenant = work.tenant;
    let is_active_admin = Role::of(&user.role) == Role::Admin && user.status == "active";
    if is_active_admin && !users::has_other_admin(work.connection(), tenant, user.id).await? {
        return Err(Code::LastAdmin.into());
    }
    Ok(())
}

#[derive(Deserialize)]
struct NewPassword {
    current_password: String,
    new_password: String,
}

async fn password(app: Arc<App>, call: Call) -> Answer {
    let wanted: NewPassword = call.body()?;
    let user = own(&mut *app.db.acquire().await?, &call).await?;
    check_password(&app, &user, &wanted.current_password).await?;
    let hash = app.passwords.hash(&wanted.new_password).await?;
    let mut work = Work::begin(&app, &call).await?;
    set_password(&mut work, user.id, &hash).await?;
    work.finish(Reply::empty(204)).await
}

/// Stores a new password and ends all sign-ins (AU-13).
pub async fn set_password(work: &mut Work, user: Uuid, hash: &str) -> Result<(), ApiError> {
    users::set_password(work.connection(), user, hash).await?;
    end_sign_ins(work, user, Which::All).await?;
    work.audit("account.password_changed", "user", Some(user), json!({}))
        .await
}
