//! What is done from the command line of the machine, without an account.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::app::App;
use crate::auth::Role;
use crate::db::users::NewUser;
use crate::db::{DEFAULT_TENANT, taxonomy};
use crate::error::{ApiError, Code};
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

/// Genres and country rules in a file, for as long as no operation makes them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fixture {
    /// Genres, parents before their children.
    pub genre: Vec<Genre>,
    /// Country rules.
    pub geo_rule: Vec<GeoRule>,
}

/// A genre of a [`Fixture`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genre {
    /// What titles call it.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// `movie`, `show`; both unless said.
    #[serde(default = "both")]
    pub content_types: Vec<String>,
    /// The slug of the genre that it is a kind of.
    pub parent: Option<String>,
}

fn both() -> Vec<String> {
    ["movie", "show"].map(str::to_owned).to_vec()
}

/// A country rule of a [`Fixture`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeoRule {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// `allow_list` or `block_list`.
    pub policy: String,
    /// Countries (ISO 3166-1 alpha-2).
    pub territories: Vec<String>,
    /// Movies and shows that it is attached to, besides those that it is attached to already.
    #[serde(default)]
    pub applies_to: Vec<Uuid>,
}

/// Loads genres and country rules; what is there already by its slug or name is changed. Names and ids of the rules.
pub async fn load(app: &Arc<App>, fixture: &Fixture) -> Result<Vec<(String, Uuid)>, ApiError> {
    let mut work = Work::begin_as(app, DEFAULT_TENANT, Actor::system()).await?;
    for genre in &fixture.genre {
        put_genre(&mut work, genre).await?;
    }
    let mut rules = Vec::new();
    for rule in &fixture.geo_rule {
        rules.push((rule.name.clone(), put_rule(&mut work, rule).await?));
    }
    // Which titles they open or close is not told one by one.
    work.invalidate("geo", "", 0).await?;
    work.raise_catalogue().await?;
    work.commit().await?;
    Ok(rules)
}

fn bound(holds: bool, named: &str, what: &str) -> Result<(), ApiError> {
    match holds {
        true => Ok(()),
        false => Err(ApiError::with(Code::ValidationError, format!("{named}: {what}"))),
    }
}

async fn put_genre(work: &mut Work, genre: &Genre) -> Result<(), ApiError> {
    let named = format!("genre {}", genre.slug);
    let is_length = |text: &str| (1..=100).contains(&text.chars().count());
    let is_known = |kind: &String| ["movie", "show"].contains(&kind.as_str());
    bound(
        Format::Slug.holds(&genre.slug) && is_length(&genre.slug),
        &named,
        "slug: a-z, 0-9 and -",
    )?;
    bound(is_length(&genre.name), &named, "name: 1 to 100 characters")?;
    let types = &genre.content_types;
    bound(
        !types.is_empty() && types.iter().all(is_known),
        &named,
        "content_types: movie, show",
    )?;
    let tenant = work.tenant;
    let id = taxonomy::put_genre(work.connection(), tenant, &genre.slug, &genre.name, types).await?;
    let is_placed = taxonomy::set_parent(work.connection(), tenant, id, genre.parent.as_deref()).await?;
    bound(is_placed, &named, "parent: no such genre, or one below it")?;
    let metadata = json!({ "slug": genre.slug, "by": "command line" });
    work.audit("genre.loaded", "genre", Some(id), metadata).await
}

async fn put_rule(work: &mut Work, rule: &GeoRule) -> Result<Uuid, ApiError> {
    let named = format!("geo_rule {}", rule.name);
    let is_policy = ["allow_list", "block_list"].contains(&rule.policy.as_str());
    bound(
        (1..=100).contains(&rule.name.chars().count()),
        &named,
        "name: 1 to 100 characters",
    )?;
    bound(is_policy, &named, "policy: allow_list or block_list")?;
    let is_country = |code: &String| Format::Country.holds(code);
    let are_countries = !rule.territories.is_empty() && rule.territories.iter().all(is_country);
    bound(are_countries, &named, "territories: countries of two letters")?;
    let territories: Vec<String> = rule.territories.iter().map(|code| code.to_ascii_uppercase()).collect();
    let row = taxonomy::Rule {
        name: &rule.name,
        description: rule.description.as_deref(),
        policy: &rule.policy,
        territories: &territories,
    };
    let tenant = work.tenant;
    let id = taxonomy::put_rule(work.connection(), tenant, &row).await?;
    for content in &rule.applies_to {
        let is_there = taxonomy::attach_rule(work.connection(), tenant, id, *content).await?;
        bound(
            is_there,
            &named,
            &format!("applies_to: {content} is no movie and no show"),
        )?;
    }
    let metadata = json!({ "name": rule.name, "policy": rule.policy, "by": "command line" });
    work.audit("geo_rule.loaded", "geo_rule", Some(id), metadata).await?;
    Ok(id)
}
