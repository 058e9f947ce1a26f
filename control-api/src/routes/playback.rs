//! Playback: starting a stream, beating, ending; whether one might (PL, EN).

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use packager::crypto::ProtectionScheme;
use packager::grant::{Grant, GrantScheme};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::call::{Call, TenantId};
use crate::db;
use crate::db::streams::{self, Facts, Question, Start, Started};
use crate::entitlement::{self, Quality, Terms};
use crate::error::{ApiError, Code};
use crate::facts;
use crate::live::Found;
use crate::operation::{Answer, Caller, Endpoint, delete, device_header, get, post, profile_header};
use crate::reply::Reply;
use crate::routes::drm;
use crate::schema::{Schema, absent, data, date_time, integer, list, object, optional, required, text, uri, uuid};
use crate::slots::{Beaten, GRACE_S, HEARTBEAT_INTERVAL_S, LiveSession, RENEWAL_S, SESSION_TTL_S};
use crate::work::Work;

/// How often a start is decided anew because something changed meanwhile.
const ATTEMPT_COUNT: usize = 5;
const QUALITIES: &[&str] = &["SD", "HD", "FHD", "UHD"];

/// What can go wrong at a start.
pub const START: &[Code] = &[
    Code::DeviceIdRequired,
    Code::DeviceNotRegistered,
    Code::InvalidProfile,
    Code::ProfileRestricted,
    Code::NotYetAvailable,
    Code::AvailabilityEnded,
    Code::GeoRestricted,
    Code::SubscriptionRequired,
    Code::PlanUpgradeRequired,
    Code::QualityNotEntitled,
    Code::MediaNotReady,
    Code::ConcurrencyLimitReached,
];

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    let seconds = || Schema::Number { min: 0.0, max: 1e9 };
    let entitlement = object([
        required("playable", Schema::Bool),
        required("reasons", list(text(1, 50))),
        required("plan_ids_covering", list(uuid())),
        required("max_quality", Schema::Enum(QUALITIES).or_null()),
        required("download_allowed", Schema::Bool),
    ]);
    vec![
        post("movies.stream", "/movies/{movie_id}/stream", Caller::Any, movie)
            .summary("Start playing a movie")
            .header("X-Device-Id", device_header())
            .header("X-Profile-Id", profile_header())
            .optional_json(object([absent("max_quality", Schema::Enum(QUALITIES))]))
            .reply(201, start_schema())
            .errors(START)
            .idempotent()
            .cache_control("no-store")
            .rules("PL-1, PL-2, PL-3, PL-4, PL-5, PL-6, PL-7, PL-8, PL-9, PL-10, PL-11"),
        post("playback.heartbeat", "/playback/heartbeat", Caller::Any, heartbeat)
            .summary("Say that a session plays on")
            .json(object([
                required("session_id", uuid()),
                required("position_seconds", seconds()),
                absent("is_paused", Schema::Bool),
            ]))
            .reply(
                200,
                object([
                    required("refreshed_urls", urls_schema().or_null()),
                    required("session_expires_at", date_time()),
                ]),
            )
            .errors(&[Code::SessionNotFound, Code::SessionEnded])
            .cache_control("no-store")
            .rules("PL-12, PL-13, PL-14, PL-15, PL-18"),
        delete("playback.end", "/playback/sessions/{session_id}", Caller::Any, end)
            .summary("End a session and free its slot")
            .query("position_seconds", seconds())
            .empty(204)
            .errors(&[Code::SessionNotFound])
            .rules("PL-15, PL-16"),
        get("playback.sessions", "/playback/sessions", Caller::Any, sessions)
            .summary("Live sessions of the account, on all devices")
            .reply(200, data(session_schema()))
            .cache_control("no-store")
            .rules("PL-17"),
        get(
            "entitlements.check",
            "/entitlements/{content_type}/{content_id}",
            Caller::Any,
            check,
        )
        .summary("Whether a title would play, and all reasons why not")
        .header("X-Device-Id", device_header())
        .header("X-Profile-Id", profile_header())
        .reply(200, entitlement.named("Entitlement"))
        .errors(&[Code::InvalidProfile])
        .cache_control("no-store")
        .rules("EN-1, EN-2, EN-3, EN-4"),
    ]
}

fn urls_schema() -> Schema {
    object([
        required("dash_url", uri()),
        required("hls_url", uri()),
        required("expires_at", date_time()),
        required("token_refresh_before", date_time()),
    ])
}

fn start_schema() -> Schema {
    let drm = object([
        required("required", Schema::Bool),
        required("systems", list(text(1, 20))),
        required("license_url", text(1, 2048)),
    ]);
    object([
        required("session_id", uuid()),
        required("dash_url", uri()),
        required("hls_url", uri()),
        required("expires_at", date_time()),
        required("token_refresh_before", date_time()),
        required("session_expires_at", date_time()),
        required("heartbeat_interval_seconds", integer(1, 600)),
        required("drm", drm),
        required("max_quality", Schema::Enum(QUALITIES)),
    ])
    .named("StreamStart")
}

fn session_schema() -> Schema {
    object([
        required("session_id", uuid()),
        required(
            "kind",
            Schema::Enum(&["vod", "live", "catchup", "startover", "recording"]),
        ),
        required("content_type", text(1, 20)),
        required("content_id", uuid()),
        required("title", text(0, 255)),
        required("device_id", uuid()),
        required("device_name", text(0, 100).or_null()),
        optional("profile_id", uuid()),
        required("started_at", date_time()),
        required("last_heartbeat_at", date_time()),
        required(
            "position_seconds",
            Schema::Number {
                min: 0.0,
                max: f64::INFINITY,
            },
        ),
        required("is_paused", Schema::Bool),
        required("session_expires_at", date_time()),
    ])
    .named("StreamSession")
}

/// What of the settings counts for who may watch.
pub fn terms(app: &App) -> Terms {
    let settings = app.settings();
    Terms {
        mode: settings.entitlement.mode,
        premium_tier: settings.billing.premium_tier,
        grace: TimeDelta::days(settings.billing.grace_days),
        streams_max: settings.default_limits.max_concurrent_streams,
    }
}

/// Signed addresses of an asset.
struct Urls {
    hls: String,
    dash: String,
    expires_at: DateTime<Utc>,
}

impl Urls {
    fn to_json(&self) -> Value {
        json!({
            "hls_url": self.hls, "dash_url": self.dash, "expires_at": self.expires_at,
            "token_refresh_before": self.expires_at - TimeDelta::seconds(RENEWAL_S),
        })
    }
}

/// What a session's grant says.
struct Granted<'a> {
    session: Uuid,
    tenant: Uuid,
    asset: Uuid,
    height_max: Option<u32>,
    drm_required: bool,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
    app: &'a App,
}

fn mint(granted: &Granted<'_>) -> Result<Urls, ApiError> {
    let app = granted.app;
    let keys = app
        .grant_keys
        .as_ref()
        .ok_or_else(|| ApiError::unavailable("control.grant_keys is not set"))?;
    let seconds = |time: DateTime<Utc>| u64::try_from(time.timestamp()).unwrap_or(0);
    let protected = || {
        vec![
            GrantScheme::Common(ProtectionScheme::Cenc),
            GrantScheme::Common(ProtectionScheme::Cbcs),
        ]
    };
    let grant = Grant {
        issuer: Some(app.config.section.public_url.clone()),
        session: Some(granted.session.as_bytes().to_vec()),
        tenant: Some(granted.tenant.to_string()),
        issued: Some(seconds(granted.now)),
        height_max: granted.height_max,
        schemes: granted.drm_required.then(protected),
        ..Grant::new(&format!("/vod/{}/", granted.asset), seconds(granted.expires_at))
    };
    let token = grant.mint(keys).map_err(ApiError::internal)?;
    let base = app.config.section.delivery_url.trim_end_matches('/');
    let folder = format!("{base}/vod/{}/{}", granted.asset, token.path_segment());
    Ok(Urls {
        hls: format!("{folder}/master.m3u8"),
        dash: format!("{folder}/manifest.mpd"),
        expires_at: granted.expires_at,
    })
}

/// Addresses of an asset that play without a session, in HLS and DASH.
pub(super) fn link(
    app: &App,
    tenant: TenantId,
    asset: Uuid,
    height_max: Option<u32>,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(String, String), ApiError> {
    let urls = mint(&Granted {
        session: Uuid::now_v7(),
        tenant: tenant.0,
        asset,
        height_max,
        drm_required: false,
        expires_at,
        now,
        app,
    })?;
    Ok((urls.hls, urls.dash))
}

/// The device and profile that the headers name. A device that is no id is registered to nobody.
pub fn viewer(call: &Call) -> Result<(Option<Uuid>, Option<Uuid>), ApiError> {
    let device = call
        .header("x-device-id")
        .map(|text| Uuid::try_parse(text).unwrap_or_else(|_| Uuid::nil()));
    let profile = match call.header("x-profile-id") {
        None => None,
        Some(text) => Some(Uuid::try_parse(text).map_err(|_| Code::InvalidProfile)?),
    };
    Ok((device, profile))
}

async fn movie(app: Arc<App>, call: Call) -> Answer {
    let id = call.path_id("movie_id")?;
    start(&app, &call, "movie", "movies", id).await
}

/// Starts a session of a title (PL-1). `table` is where the title is.
pub async fn start(app: &Arc<App>, call: &Call, content_type: &str, table: &'static str, content: Uuid) -> Answer {
    let user = call.user_id()?;
    let (device, profile) = viewer(call)?;
    let device = device.ok_or(Code::DeviceIdRequired)?;
    let wanted = call
        .members()
        .get("max_quality")
        .and_then(Value::as_str)
        .and_then(Quality::of);
    let settings = app.settings();
    let question = Question {
        tenant: call.tenant,
        user,
        content,
        content_type: content_type.to_owned(),
        device: Some(device),
        profile,
        country: call.peer.country.clone(),
        unknown_blocked: settings.geo.unknown_blocked,
    };
    let terms = terms(app);
    if app.grant_keys.is_none() {
        return Err(ApiError::unavailable("control.grant_keys is not set"));
    }
    // Before a connection is taken: in the database they would wait for each other with one in their hands.
    let _turn = app.lanes.enter(user).await?;
    let refusal = |facts: &Facts| {
        let is_above = || wanted.is_some_and(|wanted| wanted > entitlement::policy(facts, &terms).quality);
        let first = entitlement::refusals(facts, &terms, true, call.now).into_iter().next();
        first.or_else(|| is_above().then_some(Code::QualityNotEntitled))
    };
    for attempt in 0..ATTEMPT_COUNT {
        let facts = match attempt {
            0 => facts::unless(app, question.clone(), |facts| refusal(facts).is_some()).await?,
            // Something that was kept may have been old.
            _ => facts::now(app, question.clone()).await?,
        };
        if facts.title.is_none() {
            let mut connection = app.db.acquire().await?;
            return Err(db::missing(&mut connection, table, content, call).await);
        }
        if let Some(code) = refusal(&facts) {
            return Err(code.into());
        }
        let policy = entitlement::policy(&facts, &terms);
        let quality = wanted.unwrap_or(policy.quality);
        let (Some(title), Some(profile)) = (&facts.title, &facts.profile) else {
            return Err(ApiError::internal("a start without a title or profile"));
        };
        let asset = title.asset_id.ok_or(Code::MediaNotReady)?;
        let subscription = facts.subscription.as_ref();
        let height = quality.height_max();
        let wish = Start {
            tenant: call.tenant,
            session: Uuid::now_v7(),
            user,
            profile: profile.id,
            device,
            content,
            asset,
            title_version: title.version,
            subscription: subscription.map(|row| (row.id, row.version, row.plan_id)),
            kind: "vod",
            streams_max: policy.streams_max,
            height_max: height.and_then(|lines| i32::try_from(lines).ok()),
            country: call.peer.country.clone(),
            ttl_s: SESSION_TTL_S,
            grace_s: GRACE_S,
            url_ttl_s: i32::try_from(settings.delivery.url_ttl_seconds).unwrap_or(600),
            now: (!app.is_on_time()).then_some(call.now),
        };
        let start = Prepared {
            wish,
            height,
            quality,
            drm_required: title.drm_required,
        };
        match start.run(app, call).await? {
            Some(reply) => return Ok(reply),
            None => app.metrics.slot("stale"),
        }
    }
    Err(ApiError::unavailable(
        "a start was overtaken by changes again and again",
    ))
}

/// A start that was decided on.
struct Prepared {
    wish: Start,
    height: Option<u32>,
    quality: Quality,
    drm_required: bool,
}

impl Prepared {
    /// Starts it. Nothing where something changed since it was decided on.
    async fn run(self, app: &Arc<App>, call: &Call) -> Result<Option<Reply>, ApiError> {
        // The reply is kept in the same transaction under the request's key, where there is one.
        let (started, work) = match call.idempotency {
            Some(_) => {
                let mut work = Work::begin(app, call).await?;
                (streams::start(work.connection(), &self.wish).await?, Some(work))
            }
            None => (started(app, self.wish.clone()).await?, None),
        };
        match started {
            Started::Stale => Ok(None),
            Started::Full => {
                app.metrics.slot("full");
                if let Some(work) = work {
                    // The event that tells of it is kept.
                    work.commit().await?;
                }
                let message = format!("All {} streams of this account are in use.", self.wish.streams_max);
                Err(ApiError::with(Code::ConcurrencyLimitReached, message))
            }
            Started::Live {
                superseded,
                at,
                urls_expire_at,
            } => {
                let reply = self.reply(app, at, urls_expire_at)?;
                let reply = match work {
                    Some(work) => {
                        let reply = work.finish(reply).await?;
                        app.live.end(superseded.as_slice());
                        reply
                    }
                    None => reply,
                };
                app.metrics.slot("started");
                app.live.insert(self.live(at, urls_expire_at));
                Ok(Some(reply))
            }
        }
    }

    fn reply(&self, app: &App, at: DateTime<Utc>, urls_expire_at: DateTime<Utc>) -> Answer {
        let urls = mint(&Granted {
            session: self.wish.session,
            tenant: self.wish.tenant.0,
            asset: self.wish.asset,
            height_max: self.height,
            drm_required: self.drm_required,
            expires_at: urls_expire_at,
            now: at,
            app,
        })?;
        let mut body = urls.to_json();
        body["session_id"] = json!(self.wish.session);
        body["session_expires_at"] = json!(at + TimeDelta::seconds(SESSION_TTL_S.into()));
        body["heartbeat_interval_seconds"] = json!(HEARTBEAT_INTERVAL_S);
        body["drm"] = drm_of(app, self.drm_required);
        body["max_quality"] = json!(self.quality.name());
        let location = format!("/api/v1/playback/sessions/{}", self.wish.session);
        Reply::created(&location, &body)
    }

    fn live(&self, at: DateTime<Utc>, urls_expire_at: DateTime<Utc>) -> LiveSession {
        LiveSession {
            id: self.wish.session,
            tenant: self.wish.tenant.0,
            user_id: self.wish.user,
            device_id: self.wish.device,
            asset_id: self.wish.asset,
            content_id: self.wish.content,
            height_max: self.wish.height_max,
            last_beat: at,
            expires_at: at + TimeDelta::seconds(SESSION_TTL_S.into()),
            position_s: 0.0,
            is_paused: false,
            urls_expire_at,
            unwritten: false,
        }
    }
}

async fn started(app: &Arc<App>, wish: Start) -> Result<Started, ApiError> {
    let with = Arc::clone(app);
    let start = move |starts: Vec<Start>| {
        let app = Arc::clone(&with);
        async move {
            let asking = async { streams::start_all(&mut *app.db.acquire().await?, &starts).await };
            let started: Vec<Started> = app.pulse.asked(asking).await?;
            // Here, where it is done even if whoever asked has gone away.
            let superseded = started.iter().filter_map(|started| match started {
                Started::Live { superseded, .. } => *superseded,
                Started::Full | Started::Stale => None,
            });
            app.live.end(&superseded.collect::<Vec<Uuid>>());
            Ok(started)
        }
    };
    app.together.starts.ask(wish, start).await
}

fn drm_of(app: &App, is_required: bool) -> Value {
    let systems = if is_required { drm::offered(app) } else { Vec::new() };
    json!({ "required": is_required, "systems": systems, "license_url": "/api/v1/drm/license" })
}

#[derive(Deserialize)]
struct Heartbeat {
    session_id: Uuid,
    position_seconds: f64,
    #[serde(default)]
    is_paused: bool,
}

#[derive(Serialize)]
struct Heartbeaten {
    refreshed_urls: Option<Value>,
    session_expires_at: DateTime<Utc>,
}

fn ended(reason: &str) -> ApiError {
    ApiError::new(Code::SessionEnded).detail("reason", reason)
}

async fn heartbeat(app: Arc<App>, call: Call) -> Answer {
    let user = call.user_id()?;
    let beat: Heartbeat = call.body()?;
    let id = beat.session_id;
    let mut found = app.live.beat(id, user, beat.position_seconds, beat.is_paused, call.now);
    if found == Found::Unknown {
        match streams::live(&app.db, id).await? {
            Some(session) => app.live.insert(session),
            None => return Err(why_ended(&app, id, user).await),
        }
        found = app.live.beat(id, user, beat.position_seconds, beat.is_paused, call.now);
    }
    match found {
        Found::Unknown | Found::Foreign => Err(Code::SessionNotFound.into()),
        Found::Own(Beaten::TooLate, _) => {
            end_now(&app, &call, id, "timeout").await?;
            Err(ended("timeout"))
        }
        Found::Own(Beaten::Lives { renew }, session) => {
            let urls = match renew {
                true => Some(renewed(&app, &call, &session).await?.to_json()),
                false => None,
            };
            let beaten = Heartbeaten {
                refreshed_urls: urls,
                session_expires_at: session.expires_at,
            };
            Reply::json(200, &beaten)
        }
    }
}

/// Why a session is not there: it ended, or never was this account's.
async fn why_ended(app: &App, id: Uuid, user: Uuid) -> ApiError {
    match streams::ended(&app.db, id).await {
        Ok(Some((owner, reason))) if owner == user => ended(&reason),
        Ok(_) => Code::SessionNotFound.into(),
        Err(error) => error.into(),
    }
}

async fn end_now(app: &Arc<App>, call: &Call, id: Uuid, reason: &str) -> Result<(), ApiError> {
    let mut work = Work::begin(app, call).await?;
    work.end_streams(&[id], reason).await?;
    work.commit().await
}

/// New URLs, if the account still may (PL-18). If the database is away, viewers are not made to pay for it.
async fn renewed(app: &Arc<App>, call: &Call, session: &LiveSession) -> Result<Urls, ApiError> {
    let ttl = TimeDelta::seconds(app.settings().delivery.url_ttl_seconds);
    let mut expires_at = call.now + ttl;
    let mut drm_required = false;
    match app.pulse.asked(recheck(app, call, session)).await {
        Ok(facts) => {
            if let Some(reason) = facts.1 {
                end_now(app, call, session.id, reason).await?;
                return Err(ended(reason));
            }
            if let Some(title) = &facts.0.title {
                drm_required = title.drm_required;
                expires_at = title.available_until.map_or(expires_at, |until| until.min(expires_at));
            }
        }
        Err(error) if error.code == Code::ServiceUnavailable => {
            tracing::warn!(cause = ?error.cause, "URLs were renewed without a look at the subscription");
        }
        Err(error) => return Err(error),
    }
    let urls = mint(&Granted {
        session: session.id,
        tenant: session.tenant,
        asset: session.asset_id,
        height_max: session.height_max.and_then(|lines| u32::try_from(lines).ok()),
        drm_required,
        expires_at,
        now: call.now,
        app,
    })?;
    app.live.renewed(session.id, expires_at);
    Ok(urls)
}

async fn recheck(
    app: &Arc<App>,
    call: &Call,
    session: &LiveSession,
) -> Result<(Facts, Option<&'static str>), ApiError> {
    let question = Question {
        tenant: call.tenant,
        user: session.user_id,
        content: session.content_id,
        content_type: "movie".to_owned(),
        device: None,
        profile: None,
        country: call.peer.country.clone(),
        unknown_blocked: app.settings().geo.unknown_blocked,
    };
    let mut connection = app.db.acquire().await?;
    let facts = streams::facts(&mut connection, &question).await?;
    // Not whether it is published: what was begun may be seen to its end (PB-4).
    let is_premium = facts.title.as_ref().is_some_and(|title| title.is_premium);
    let lapsed = entitlement::subscription_refusal(facts.subscription.as_ref(), is_premium, &terms(app), call.now);
    let closed = facts
        .title
        .as_ref()
        .and_then(|title| title.available_until)
        .is_some_and(|until| call.now >= until);
    let reason = match (lapsed, closed) {
        (Some(_), _) => Some("subscription_ended"),
        (None, true) => Some("window_closed"),
        (None, false) => None,
    };
    Ok((facts, reason))
}

async fn end(app: Arc<App>, call: Call) -> Answer {
    let (user, id) = (call.user_id()?, call.path_id("session_id")?);
    match streams::live(&app.db, id).await? {
        Some(session) if session.user_id == user => {
            let mut work = Work::begin(&app, &call).await?;
            if let Some(position_s) = call.query.get("position_seconds").and_then(Value::as_f64) {
                streams::set_position(work.connection(), id, position_s).await?;
            }
            work.end_streams(&[id], "ended").await?;
            work.commit().await?;
        }
        Some(_) => return Err(Code::SessionNotFound.into()),
        None => match streams::ended(&app.db, id).await? {
            Some((owner, _)) if owner == user => {}
            _ => return Err(Code::SessionNotFound.into()),
        },
    }
    Ok(Reply::empty(204))
}

async fn sessions(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let rows = streams::list(&mut connection, call.tenant, call.user_id()?).await?;
    Reply::json(200, &json!({ "data": rows }))
}

async fn check(app: Arc<App>, call: Call) -> Answer {
    let user = call.user_id()?;
    let content = call.path_id("content_id")?;
    let content_type = call.path_text("content_type")?;
    let table = match content_type {
        "movie" => "movies",
        "show" => "shows",
        _ => return Err(Code::NotFound.into()),
    };
    let (device, profile) = viewer(&call)?;
    let question = Question {
        tenant: call.tenant,
        user,
        content,
        content_type: content_type.to_owned(),
        device,
        profile,
        country: call.peer.country.clone(),
        unknown_blocked: app.settings().geo.unknown_blocked,
    };
    let terms = terms(&app);
    let mut connection = app.db.acquire().await?;
    let facts = streams::facts(&mut connection, &question).await?;
    let Some(title) = &facts.title else {
        return Err(db::missing(&mut connection, table, content, &call).await);
    };
    let mut reasons = entitlement::refusals(&facts, &terms, device.is_some(), call.now);
    if reasons == [Code::NotFound] {
        return Err(Code::NotFound.into());
    }
    let policy = entitlement::policy(&facts, &terms);
    let least = if title.is_premium { terms.premium_tier } else { 0 };
    let plans = streams::plans_from(&mut connection, call.tenant, least).await?;
    reasons.dedup();
    let covered =
        entitlement::subscription_refusal(facts.subscription.as_ref(), title.is_premium, &terms, call.now).is_none();
    let body = json!({
        "playable": reasons.is_empty(), "reasons": reasons.iter().map(|code| code.name()).collect::<Vec<_>>(),
        "plan_ids_covering": plans, "max_quality": covered.then(|| policy.quality.name()),
        "download_allowed": covered && facts.subscription.as_ref().is_some_and(|row| row.has_downloads),
    });
    Reply::json(200, &body)
}
