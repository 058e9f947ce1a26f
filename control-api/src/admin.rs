//! What is done from the command line of the machine, without an account.

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use crate::app::App;
use crate::auth::Role;
use crate::db::DEFAULT_TENANT;
use crate::db::users::NewUser;
use crate::error::ApiError;
use crate::routes::auth::make_user;
use crate::schema::Format;
use crate::work::{Actor, Work};

/// Makes an admin of the default tenant, whose e-mail counts as verified.
pub async fn create(app: &Arc<App>, name: &str, email: &str, password: &str) -> Result<Uuid, ApiError> {
    if !Format::Email.holds(email) || email.len() > 254 {
        return Err(ApiError::invalid("email", "must be an e-mail address"));
    }
    let user = NewUser {
        id: Uuid::now_v7(),
        name: name.to_owned(),
        email: email.to_owned(),
        password_hash: Some(app.passwords.hash(password).await?),
        role: Role::Admin,
        email_verified_at: Some(app.now()),
        now: app.now(),
    };
    let mut work = Work::begin_as(app, DEFAULT_TENANT, Actor::system()).await?;
    make_user(&mut work, &user).await?;
    work.emit(
        "user.created",
        Some(user.id),
        json!({ "id": user.id, "name": user.name, "email": user.email }),
    )
    .await?;
    work.audit(
        "user.created",
        "user",
        Some(user.id),
        json!({ "role": "admin", "by": "command line" }),
    )
    .await?;
    work.commit().await?;
    Ok(user.id)
}
