//! What movies and shows have in common: how callers see the catalogue, members of their bodies, what hangs on them.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::profiles::RATINGS;
use crate::app::App;
use crate::call::Call;
use crate::catalog;
use crate::config::EntitlementMode;
use crate::db::streams::ProfileFacts;
use crate::db::titles::{self, Coverage, Filter, Name, Place, Table, Viewer};
use crate::entitlement;
use crate::error::{ApiError, Code};
use crate::page::SortField;
use crate::reply::project;
use crate::schema::{
    Field, Format, Schema, formatted, list as any_list, object, optional, read_only, required, text, uuid,
};
use crate::work::Work;

/// For whom a title is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Subscribers.
    Subscriber,
    /// Authors.
    Admin,
}

/// A name to sort by.
pub const fn sort(name: &'static str, sql: &'static str, kind: &'static str) -> SortField {
    SortField { name, sql, kind }
}

/// Pictures of a title.
pub fn image_set() -> Schema {
    let names = ["poster", "backdrop", "banner", "thumbnail", "logo", "still"];
    object(names.map(|name| optional(name, formatted(Format::HttpsUri, 1, 2048))))
}

/// Somebody in the cast, as it is written.
pub fn cast_member_writable() -> Schema {
    object([
        required("name", text(1, 200)),
        optional("role", text(0, 100)),
        optional("character", text(0, 200)),
        optional("image_url", formatted(Format::HttpsUri, 1, 2048)),
        read_only("id", uuid()),
    ])
}

/// Somebody in the cast.
pub fn cast_member() -> Schema {
    object([
        required("id", uuid()),
        required("name", text(1, 200)),
        required("role", text(0, 100).or_null()),
        required("character", text(0, 200).or_null()),
        required("image_url", text(0, 2048).or_null()),
    ])
}

/// The country rule of a title, as it is written.
pub fn geo_writable() -> Schema {
    object([
        optional("rule_id", uuid()),
        read_only("policy", Schema::Any),
        read_only("territories", Schema::Any),
    ])
}

/// The country rule of a title.
pub fn geo() -> Schema {
    object([
        required("rule_id", uuid()),
        required("policy", Schema::Enum(&["allow_list", "block_list"])),
        required("territories", any_list(text(2, 2))),
    ])
}

/// What a viewer's subscription covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covered {
    /// Nothing.
    Nothing,
    /// What is not premium.
    Standard,
    /// All.
    Everything,
}

impl Covered {
    /// Whether it covers a title.
    pub fn covers(self, is_premium: bool) -> bool {
        match self {
            Covered::Nothing => false,
            Covered::Standard => !is_premium,
            Covered::Everything => true,
        }
    }
}

/// How a caller sees the catalogue.
pub struct Sight {
    /// What their subscription covers.
    pub covered: Covered,
    /// The highest age that the profile sees; none for no limit.
    pub age: Option<u8>,
    /// From where they look.
    pub place: Place,
}

impl Sight {
    /// All of it, and whether somebody is known at all, as one text: whoever has the same sees the same.
    pub fn name(&self, call: &Call) -> String {
        let Sight { covered, age, place } = self;
        let country = place.country.as_deref().unwrap_or_default();
        let (known, blocked) = (call.principal.is_some(), place.unknown_blocked);
        format!("{known} {covered:?} {age:?} {country} {blocked}")
    }
}

/// Finds out how the caller sees the catalogue.
pub async fn sight(app: &App, call: &Call) -> Result<Sight, ApiError> {
    let settings = app.settings();
    let place = Place {
        country: call.peer.country.clone(),
        unknown_blocked: settings.geo.unknown_blocked,
    };
    let Some(principal) = &call.principal else {
        let (covered, age) = (Covered::Nothing, None);
        return Ok(Sight { covered, age, place });
    };
    let profile = match call.header("x-profile-id") {
        None => None,
        Some(text) => Some(Uuid::try_parse(text).map_err(|_| Code::InvalidProfile)?),
    };
    let user = principal.user_id;
    let read = || {
        app.pulse.asked(async {
            let mut connection = app.db.acquire().await?;
            titles::coverage(&mut connection, user, profile).await.map(Some)
        })
    };
    let found = app.caches.coverage(user, profile, read).await?;
    let found = found.ok_or_else(|| ApiError::internal("a viewer without a row"))?;
    if profile.is_some() && found.profile.is_none() {
        return Err(Code::InvalidProfile.into());
    }
    let limit = found.profile.map(|id| {
        entitlement::age_limit(&ProfileFacts {
            id,
            is_kids: found.is_kids.unwrap_or(false),
            max_content_rating: found.max_content_rating.clone(),
        })
    });
    Ok(Sight {
        covered: covered(app, &found, call.now),
        age: limit.filter(|age| *age < 18),
        place,
    })
}

fn covered(app: &App, found: &Coverage, now: DateTime<Utc>) -> Covered {
    let settings = app.settings();
    if settings.entitlement.mode == EntitlementMode::Open {
        return Covered::Everything;
    }
    let grace = TimeDelta::days(settings.billing.grace_days);
    let live = match found.status.as_deref() {
        Some("past_due") => found.period_end.is_some_and(|end| now < end + grace),
        Some(_) => true,
        None => false,
    };
    match live {
        false => Covered::Nothing,
        true if found.tier.unwrap_or(0) >= settings.billing.premium_tier => Covered::Everything,
        true => Covered::Standard,
    }
}

/// What the query asks of any title.
pub fn filter_of(call: &Call) -> Filter {
    let text = |name: &str| call.query_text(name).map(str::to_owned);
    Filter {
        genre: text("genre"),
        content_rating: text("content_rating"),
        cast_id: call.query_id("cast_id"),
        is_premium: call.query_flag("is_premium"),
        q: text("q"),
        viewer: None,
    }
}

/// What is to be listed, once [`Listing::narrow`] knows who looks.
#[derive(Debug)]
pub struct Listing {
    /// What a cursor of the list is bound to.
    pub scope: String,
    /// Whether anything can be left.
    pub is_empty: bool,
}

impl Listing {
    /// Narrows `filter` to what a caller who has `sight` sees, and may play unless they ask for everything (VS-1).
    pub fn narrow(call: &Call, sight: &Sight, filter: &mut Filter) -> Listing {
        let everything = call.query_flag("entitled") == Some(false) || call.principal.is_none();
        let ratings = sight.age.map(ratings_seen);
        let scope = format!(
            "{filter:?} {everything} {:?} {ratings:?} {:?}",
            sight.covered, sight.place
        );
        filter.viewer = Some(Viewer {
            now: call.now,
            place: sight.place.clone(),
            ratings,
        });
        let is_empty = match (everything, sight.covered) {
            (true, _) | (false, Covered::Everything) => false,
            (false, Covered::Standard) if filter.is_premium != Some(true) => {
                filter.is_premium = Some(false);
                false
            }
            (false, _) => true,
        };
        Listing { scope, is_empty }
    }
}

/// Keeps the members that `fields` names.
pub fn fields(call: &Call, body: Value, known: &[Field]) -> Result<Value, ApiError> {
    match call.query_text("fields") {
        None => Ok(body),
        Some(fields) => project(body, fields, known).ok_or_else(|| Code::InvalidFields.into()),
    }
}

/// Ratings that people of this age see.
fn ratings_seen(age: u8) -> Vec<String> {
    let seen = RATINGS.iter().filter(|rating| entitlement::age_of(Some(rating)) <= age);
    seen.map(|rating| (*rating).to_owned()).collect()
}

/// How the member `parameter` of the path names a title.
pub fn name(call: &Call, parameter: &str) -> Result<Name, ApiError> {
    let text = call.path_text(parameter)?;
    match text.strip_prefix("slug:") {
        Some(slug) => Ok(Name::Slug(slug.to_owned())),
        None => call.path_id(parameter).map(Name::Id),
    }
}

/// Why there is no such title.
pub async fn absent(connection: &mut PgConnection, table: Table, name: &Name, call: &Call) -> ApiError {
    match name {
        Name::Id(id) => crate::db::missing(connection, table.name, *id, call).await,
        Name::Slug(_) => Code::NotFound.into(),
    }
}

/// Refuses a title that the caller's country or profile does not see (VS-6).
pub fn check_seen(sight: &Sight, geo_allowed: bool, content_rating: Option<&str>) -> Result<(), ApiError> {
    if !geo_allowed {
        return Err(Code::GeoRestricted.into());
    }
    match sight.age {
        Some(limit) if entitlement::age_of(content_rating) > limit => Err(Code::ProfileRestricted.into()),
        _ => Ok(()),
    }
}

/// Countries of a body, in capitals.
pub fn countries(value: Option<&Value>) -> Vec<String> {
    let codes = value.and_then(Value::as_array).into_iter().flatten();
    codes.filter_map(Value::as_str).map(str::to_ascii_uppercase).collect()
}

/// Images of a body, without those that are null.
pub fn images_of(value: Option<&Value>) -> Value {
    let images = value.and_then(Value::as_object).into_iter().flatten();
    let there = images.filter(|(_, uri)| !uri.is_null());
    Value::Object(there.map(|(name, uri)| (name.clone(), uri.clone())).collect())
}

/// A rating of a body, to one decimal.
pub fn rating_of(value: Option<&Value>) -> Option<f64> {
    let rating = value.and_then(Value::as_f64);
    rating.map(|rating| (rating * 10.0).round() / 10.0)
}

/// A slug that no other title of the table has, nor gets before this is committed.
pub async fn free_slug(work: &mut Work, table: Table, title: &str) -> Result<String, ApiError> {
    let (tenant, slug) = (work.tenant, catalog::slug(title));
    table.lock_slugs(work.connection(), tenant).await?;
    let taken = table.slugs_like(work.connection(), tenant, &slug).await?;
    catalog::free_slug(slug, &taken).ok_or_else(|| ApiError::internal("no slug is free"))
}

/// What hangs on a title.
pub struct Hanging<'a> {
    /// Slugs of its genres.
    pub genres: &'a [String],
    /// Its cast.
    pub cast: &'a Value,
    /// Its country rule.
    pub geo: Option<&'a Value>,
}

impl Hanging<'_> {
    /// Writes it for the title `id`; refuses genres and rules that are not known.
    pub async fn store(&self, work: &mut Work, content_type: &str, id: Uuid) -> Result<(), ApiError> {
        let tenant = work.tenant;
        let unknown = titles::set_genres(work.connection(), tenant, id, content_type, self.genres).await?;
        if let Some(slug) = unknown.first() {
            return Err(ApiError::invalid("genres", format!("\"{slug}\" is no genre")));
        }
        let cast = self.cast.as_array().map(Vec::as_slice).unwrap_or_default();
        titles::set_cast(work.connection(), tenant, id, content_type, cast).await?;
        let rule = self.geo.and_then(|geo| geo.get("rule_id")).and_then(Value::as_str);
        let rule = rule.and_then(|text| Uuid::try_parse(text).ok());
        if !titles::set_geo(work.connection(), tenant, id, rule).await? {
            return Err(ApiError::invalid("geo_restrictions.rule_id", "names no rule"));
        }
        Ok(())
    }
}
