//! Profiles: the people who share an account (PD-1, PD-5).

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::call::Call;
use crate::db;
use crate::db::profiles::{self, Profile};
use crate::error::{ApiError, Code, breaks};
use crate::operation::{Answer, Caller, Endpoint, delete, get, patch, post};
use crate::reply::Reply;
use crate::schema::{
    Format, Schema, absent, date_time, formatted, integer, list, object, optional, read_only, required, text, uri, uuid,
};
use crate::work::Work;

/// Ratings that content can have.
pub const RATINGS: &[&str] = &[
    "G", "PG", "PG-13", "R", "NC-17", "TV-Y", "TV-G", "TV-PG", "TV-14", "TV-MA", "UNRATED",
];

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        get("profiles.list", "/profiles", Caller::Any, list_all)
            .summary("All profiles of the account, and how many it may have")
            .reply(
                200,
                object([
                    required("data", list(schema())),
                    required("limit", integer(0, i64::MAX)),
                ]),
            )
            .rules("PD-5"),
        post("profiles.create", "/profiles", Caller::Jwt, create)
            .summary("Make a profile")
            .json(writable(true))
            .reply(201, schema())
            .errors(&[Code::ProfileLimitReached, Code::NameTaken])
            .idempotent()
            .rules("PD-5"),
        get("profiles.get", "/profiles/{profile}", Caller::Any, one)
            .summary("A profile; `default` is the default one")
            .reply(200, schema())
            .etag()
            .rules("PD-1"),
        patch("profiles.update", "/profiles/{profile}", Caller::Jwt, update)
            .summary("Change a profile")
            .json(writable(false))
            .reply(200, schema())
            .errors(&[Code::NameTaken])
            .if_match(),
        delete("profiles.delete", "/profiles/{profile}", Caller::Jwt, remove)
            .summary("Delete a profile and all that is its own")
            .empty(204)
            .errors(&[Code::LastProfile])
            .rules("PD-5"),
    ]
}

fn writable(is_new: bool) -> Schema {
    let name = if is_new {
        required("name", text(1, 50))
    } else {
        absent("name", text(1, 50))
    };
    object([
        name,
        optional("avatar_url", uri()),
        absent("is_kids", Schema::Bool),
        optional("max_content_rating", Schema::Enum(RATINGS)),
        optional("language", formatted(Format::Language, 2, 35)),
        read_only("id", uuid()),
        read_only("is_default", Schema::Bool),
        read_only("created_at", date_time()),
        read_only("updated_at", date_time()),
    ])
}

fn schema() -> Schema {
    object([
        required("id", uuid()),
        required("name", text(1, 50)),
        required("avatar_url", uri().or_null()),
        required("is_kids", Schema::Bool),
        required("max_content_rating", Schema::Enum(RATINGS).or_null()),
        required("language", text(2, 35).or_null()),
        required("is_default", Schema::Bool),
        required("created_at", date_time()),
        required("updated_at", date_time()),
    ])
    .named("Profile")
}

async fn list_all(app: Arc<App>, call: Call) -> Answer {
    let user = call.user_id()?;
    let mut connection = app.db.acquire().await?;
    let limits = profiles::limits(&mut connection, user, &app.settings().default_limits).await?;
    let rows = profiles::list(&mut connection, call.tenant, user).await?;
    Reply::json(200, &json!({ "data": rows, "limit": limits.max_profiles }))
}

/// Sets what `members` has, `null` clearing what may be empty.
fn apply(profile: &mut Profile, members: &serde_json::Map<String, Value>) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    for (name, value) in members {
        match name.as_str() {
            "name" => profile.name = text(value).unwrap_or_default(),
            "avatar_url" => profile.avatar_url = text(value),
            "is_kids" => profile.is_kids = value.as_bool().unwrap_or_default(),
            "max_content_rating" => profile.max_content_rating = text(value),
            "language" => profile.language = text(value),
            _ => {}
        }
    }
}

fn named(result: Result<(), sqlx::Error>) -> Result<(), ApiError> {
    match result {
        Err(error) if breaks(&error, "profiles_name") => Err(Code::NameTaken.into()),
        other => Ok(other?),
    }
}

async fn create(app: Arc<App>, call: Call) -> Answer {
    let user = call.user_id()?;
    let mut profile = Profile {
        id: Uuid::now_v7(),
        name: String::new(),
        avatar_url: None,
        is_kids: false,
        max_content_rating: None,
        language: None,
        is_default: false,
        created_at: call.now,
        updated_at: call.now,
        row_version: 1,
    };
    apply(&mut profile, &call.members());
    let mut work = Work::begin(&app, &call).await?;
    profiles::lock_account(work.connection(), user).await?;
    let limits = profiles::limits(work.connection(), user, &app.settings().default_limits).await?;
    let count = profiles::list(work.connection(), call.tenant, user).await?.len();
    if count >= usize::try_from(limits.max_profiles).unwrap_or(0) {
        return Err(Code::ProfileLimitReached.into());
    }
    named(profiles::insert(work.connection(), call.tenant, user, &profile).await)?;
    work.emit(
        "profile.created",
        Some(user),
        json!({ "id": profile.id, "user_id": user, "name": profile.name }),
    )
    .await?;
    let reply = Reply::created(&format!("/api/v1/profiles/{}", profile.id), &profile)?.version(1, None)?;
    work.finish(reply).await
}

/// The profile in the path.
async fn find(connection: &mut sqlx::PgConnection, call: &Call) -> Result<Profile, ApiError> {
    let id = match call.path_text("profile")? {
        "default" => None,
        _ => Some(call.path_id("profile")?),
    };
    match (profiles::get(connection, call.tenant, call.user_id()?, id).await?, id) {
        (Some(profile), _) => Ok(profile),
        (None, Some(id)) => Err(db::missing(connection, "profiles", id, call).await),
        (None, None) => Err(Code::NotFound.into()),
    }
}

async fn one(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let profile = find(&mut connection, &call).await?;
    Reply::json(200, &profile)?.version(profile.row_version, None)
}

async fn update(app: Arc<App>, call: Call) -> Answer {
    let mut work = Work::begin(&app, &call).await?;
    profiles::lock_account(work.connection(), call.user_id()?).await?;
    let mut profile = find(work.connection(), &call).await?;
    call.check_version(profile.row_version)?;
    apply(&mut profile, &call.members());
    named(profiles::update(work.connection(), call.tenant, &profile).await)?;
    let profile = find(work.connection(), &call).await?;
    work.invalidate("profile", profile.id, profile.row_version).await?;
    let reply = Reply::json(200, &profile)?.version(profile.row_version, None)?;
    work.finish(reply).await
}

async fn remove(app: Arc<App>, call: Call) -> Answer {
    let user = call.user_id()?;
    let mut work = Work::begin(&app, &call).await?;
    profiles::lock_account(work.connection(), user).await?;
    let profile = find(work.connection(), &call).await?;
    if profile.is_default {
        return Err(Code::LastProfile.into());
    }
    profiles::delete(work.connection(), call.tenant, profile.id).await?;
    work.invalidate("profile", profile.id, profile.row_version + 1).await?;
    work.emit(
        "profile.deleted",
        Some(user),
        json!({ "id": profile.id, "user_id": user }),
    )
    .await?;
    work.finish(Reply::empty(204)).await
}
