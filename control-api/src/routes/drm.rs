//! Licences: given to the device that plays, for as long as it may (DR).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use packager::grant::Grant;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::app::App;
use crate::call::Call;
use crate::db;
use crate::db::licences::{self, NewLicence, Playing, Sought};
use crate::db::streams::{Facts, Question};
use crate::entitlement;
use crate::error::{ApiError, Code};
use crate::facts;
use crate::license::{
    CHALLENGE_SIZE_BYTES_MAX, Desk, DeskError, Issued, LicenseError, LicensePolicy, LicenseSystem, Wish,
};
use crate::operation::{Answer, Caller, Endpoint, device_header, post};
use crate::reply::Reply;
use crate::routes::playback::{terms, viewer};
use crate::schema::{Format, Schema, date_time, formatted, object, optional, required, uuid};
use crate::slots::GRACE_S;
use crate::work::Actor;

const SYSTEMS: &[&str] = &["widevine", "fairplay", "playready", "clearkey"];
/// Characters of the longest challenge in base64.
const CHALLENGE_TEXT_SIZE_MAX: usize = CHALLENGE_SIZE_BYTES_MAX.div_ceil(3) * 4;

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    let licence = object([
        required("license_bytes", formatted(Format::Base64, 1, usize::MAX)),
        required("drm_system", Schema::Enum(SYSTEMS)),
        required("expires_at", date_time()),
        required("offline_enabled", Schema::Bool),
        required("renewal_before", date_time()),
    ]);
    vec![
        post("drm.license", "/drm/license", Caller::Any, license)
            .summary("Get a licence for what plays on this device")
            .header("X-Device-Id", device_header())
            .json(
                object([
                    required("content_id", uuid()),
                    required("content_type", Schema::Enum(&["movie", "episode", "channel"])),
                    required("drm_system", Schema::Enum(SYSTEMS)),
                    required(
                        "license_request_bytes",
                        formatted(Format::Base64, 1, CHALLENGE_TEXT_SIZE_MAX),
                    ),
                    optional("session_id", uuid()),
                ])
                .named("LicenceRequest"),
            )
            .reply(200, licence.named("Licence"))
            .idempotent()
            .errors(&[
                Code::DeviceIdRequired,
                Code::DeviceNotRegistered,
                Code::DeviceMismatch,
                Code::NoActiveSession,
                Code::GeoRestricted,
                Code::AvailabilityEnded,
                Code::SubscriptionRequired,
                Code::InvalidLicenseRequest,
                Code::UpstreamError,
            ])
            .cache_control("no-store")
            .rules("DR-2, DR-3, DR-4, DR-5, DR-6, DR-7, DR-8"),
    ]
}

#[derive(Deserialize)]
struct Asked {
    content_id: Uuid,
    content_type: String,
    drm_system: LicenseSystem,
    license_request_bytes: String,
    session_id: Option<Uuid>,
}

async fn license(app: Arc<App>, call: Call) -> Answer {
    let (user, device) = (call.user_id()?, viewer(&call)?.0.ok_or(Code::DeviceIdRequired)?);
    let asked: Asked = call.body()?;
    let desk = offering(&app, asked.drm_system)?;
    let challenge = challenge(&asked.license_request_bytes)?;
    let facts = known(&app, &call, user, device, &asked).await?;
    let request = Request {
        app: &app,
        call: &call,
        asked: &asked,
        desk,
        challenge: &challenge,
        facts: &facts,
        alive_after: call.now - TimeDelta::seconds(GRACE_S.into()),
    };
    let refusal = refusal(&app, &facts, call.now);
    // What is kept of a session is as good as any: the row itself is looked at when the licence is written down. While that
    // can not be, no service is asked for what can not be given.
    let kept = |id| {
        app.live
            .playing(id, user, device, asked.content_id, request.alive_after)
    };
    let kept = asked.session_id.filter(|_| !app.pulse.is_away()).and_then(kept);
    if let (None, Some(kept)) = (refusal, kept)
        && let Some(reply) = request.grant(user, kept).await?
    {
        return Ok(reply);
    }
    let playing = request.playing(user, device).await?;
    if let Some(code) = refusal {
        return Err(code.into());
    }
    let reply = request.grant(user, playing).await?;
    reply.ok_or_else(|| Code::NoActiveSession.into())
}

/// A request for a licence that was understood.
struct Request<'a> {
    app: &'a Arc<App>,
    call: &'a Call,
    asked: &'a Asked,
    desk: &'a Desk,
    challenge: &'a [u8],
    facts: &'a Facts,
    /// Sessions that end before it have ended.
    alive_after: DateTime<Utc>,
}

impl Request<'_> {
    /// A licence for what plays, written down. None where the session is not as it was taken for.
    async fn grant(&self, user: Uuid, playing: Playing) -> Result<Option<Reply>, ApiError> {
        let Request { call, asked, .. } = *self;
        let title = self.facts.title.as_ref();
        let seconds = title.and_then(|title| title.license_duration_s);
        let duration_s = seconds.map_or(self.app.settings().drm.license_duration_seconds, i64::from);
        let end = call.now + TimeDelta::seconds(duration_s);
        let end = title
            .and_then(|title| title.available_until)
            .map_or(end, |until| until.min(end));
        let issued = issue(self.desk, call, asked, self.challenge, &playing, end).await?;
        let expires_at = instant(issued.terms.expires);
        let left = TimeDelta::seconds(i64::try_from(issued.terms.duration_s / 10).unwrap_or(0));
        let row = NewLicence {
            id: Uuid::now_v7(),
            tenant: call.tenant,
            user,
            playing,
            alive_after: self.alive_after,
            content: asked.content_id,
            content_type: asked.content_type.clone(),
            system: asked.drm_system.name(),
            at: call.now,
            expires_at,
            actor: Actor::of(call),
        };
        if !written(self.app, row).await? {
            return Ok(None);
        }
        let body = json!({
            "license_bytes": STANDARD.encode(&issued.license.bytes), "drm_system": asked.drm_system.name(),
            "expires_at": expires_at, "offline_enabled": false, "renewal_before": expires_at - left,
        });
        Reply::json(200, &body).map(Some)
    }

    /// The session that the licence is for, on this very device (DR-2, DR-3).
    async fn playing(&self, user: Uuid, device: Uuid) -> Result<Playing, ApiError> {
        let app = self.app;
        let sought = Sought {
            tenant: self.call.tenant,
            user,
            content: self.asked.content_id,
            content_type: self.asked.content_type.clone(),
            session: self.asked.session_id,
            alive_after: self.alive_after,
        };
        let with = Arc::clone(app);
        let seek = move |sought: Vec<Sought>| {
            let app = Arc::clone(&with);
            async move {
                let asking = async { licences::playing(&mut *app.db.acquire().await?, &sought).await };
                app.pulse.asked(asking).await
            }
        };
        let found = app.together.playing.ask(sought, seek).await?;
        let is_elsewhere = !found.is_empty();
        match found.into_iter().find(|playing| playing.device == device) {
            Some(playing) => Ok(playing),
            None if is_elsewhere => Err(Code::DeviceMismatch.into()),
            None => Err(Code::NoActiveSession.into()),
        }
    }
}

/// Writes a licence down, together with others; whether its session lives.
async fn written(app: &Arc<App>, licence: NewLicence) -> Result<bool, ApiError> {
    let with = Arc::clone(app);
    let write = move |new: Vec<NewLicence>| {
        let app = Arc::clone(&with);
        async move {
            let asking = async { licences::insert(&mut *app.db.acquire().await?, &new).await };
            app.pulse.asked(asking).await
        }
    };
    app.together.licences.ask(licence, write).await
}

/// Systems that licences are given for, by name.
pub fn offered(app: &App) -> Vec<&'static str> {
    let offered = LicenseSystem::ALL
        .into_iter()
        .filter(|system| offering(app, *system).is_ok());
    offered.map(LicenseSystem::name).collect()
}

/// The desk, if it has licences of this system. Clear Key shows the keys to whoever asks: only where that is wanted.
fn offering(app: &App, system: LicenseSystem) -> Result<&Desk, ApiError> {
    let is_allowed = system != LicenseSystem::ClearKey || app.settings().drm.allow_clearkey;
    let desk = app
        .desk
        .as_ref()
        .filter(|desk| is_allowed && desk.issuer(system).is_some());
    desk.ok_or_else(|| ApiError::invalid("drm_system", format!("{system} is not offered here")))
}

fn challenge(text: &str) -> Result<Vec<u8>, ApiError> {
    let bytes = STANDARD.decode(text);
    let bytes = bytes.map_err(|_| ApiError::with(Code::InvalidLicenseRequest, "The challenge is not base64."))?;
    match bytes.len() {
        1..=CHALLENGE_SIZE_BYTES_MAX => Ok(bytes),
        _ => Err(ApiError::with(
            Code::InvalidLicenseRequest,
            format!("A challenge has 1 to {CHALLENGE_SIZE_BYTES_MAX} bytes."),
        )),
    }
}

/// What is known of the title and of the device that asks, if both may play (DR-2, DR-8).
async fn known(app: &Arc<App>, call: &Call, user: Uuid, device: Uuid, asked: &Asked) -> Result<Facts, ApiError> {
    let question = Question {
        tenant: call.tenant,
        user,
        content: asked.content_id,
        content_type: asked.content_type.clone(),
        device: Some(device),
        profile: None,
        country: call.peer.country.clone(),
        unknown_blocked: app.settings().geo.unknown_blocked,
    };
    let is_refused = |facts: &Facts| !facts.device_known || refusal(app, facts, call.now).is_some();
    let facts = facts::unless(app, question, is_refused).await?;
    if !facts.device_known {
        return Err(Code::DeviceNotRegistered.into());
    }
    match facts.title {
        Some(_) => Ok(facts),
        None => Err(unknown(app, call, asked).await),
    }
}

/// Why there is nothing of this type and id: what does not exist does not play either.
async fn unknown(app: &App, call: &Call, asked: &Asked) -> ApiError {
    if asked.content_type != "movie" {
        return Code::NoActiveSession.into();
    }
    let mut connection = match app.db.acquire().await {
        Ok(connection) => connection,
        Err(error) => return error.into(),
    };
    match db::missing(&mut connection, "movies", asked.content_id, call).await {
        error if error.code == Code::NotFound => Code::NoActiveSession.into(),
        error => error,
    }
}

/// Why the title may not be watched any more (DR-8). That it was unpublished meanwhile is no reason.
fn refusal(app: &App, facts: &Facts, now: DateTime<Utc>) -> Option<Code> {
    let title = facts.title.as_ref()?;
    if !facts.geo_allowed {
        return Some(Code::GeoRestricted);
    }
    if title.available_until.is_some_and(|until| now >= until) {
        return Some(Code::AvailabilityEnded);
    }
    let lapsed = entitlement::subscription_refusal(facts.subscription.as_ref(), title.is_premium, &terms(app), now);
    lapsed.map(|_| Code::SubscriptionRequired)
}

async fn issue(
    desk: &Desk,
    call: &Call,
    asked: &Asked,
    challenge: &[u8],
    playing: &Playing,
    end: DateTime<Utc>,
) -> Result<Issued, ApiError> {
    let seconds = |time: DateTime<Utc>| u64::try_from(time.timestamp()).unwrap_or(0);
    let (now, end) = (seconds(call.now), seconds(end));
    let asset = playing.asset.to_string();
    let grant = Grant {
        session: Some(playing.session.as_bytes().to_vec()),
        height_max: playing.height_max.and_then(|lines| u32::try_from(lines).ok()),
        ..Grant::new(&format!("/vod/{asset}/"), end)
    };
    // The title says how long, not what grants are usually given.
    let policy = LicensePolicy {
        duration_s: end.saturating_sub(now),
        ..desk.policy.clone()
    };
    let wish = Wish {
        content_id: &asset,
        system: asked.drm_system,
        grant: &grant,
        policy: &policy,
        challenge,
        key_ids: &[],
        scheme: None,
        request_id: &call.request_id.to_string(),
        now,
    };
    desk.issue(&wish).await.map_err(|error| match error {
        DeskError::License(error) => refused(error),
        DeskError::NotOffered => ApiError::invalid("drm_system", "is not offered here"),
        DeskError::NoTitle => ApiError::with(Code::Forbidden, "This title has no keys."),
        DeskError::Foreign | DeskError::Title(_) => ApiError::internal(error),
    })
}

fn refused(error: LicenseError) -> ApiError {
    match error {
        LicenseError::Challenge(reason) => ApiError::with(Code::InvalidLicenseRequest, reason),
        LicenseError::NotEntitled => ApiError::with(Code::Forbidden, "No licence for the keys that are asked for."),
        LicenseError::Denied => ApiError::with(Code::Forbidden, "The licence service refuses this player."),
        LicenseError::Unavailable | LicenseError::Again => ApiError::unavailable(error),
        LicenseError::Credentials | LicenseError::Upstream(_) | LicenseError::Fault(_) => ApiError {
            cause: Some(error.to_string()),
            ..ApiError::new(Code::UpstreamError)
        },
    }
}

fn instant(seconds: u64) -> DateTime<Utc> {
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    time.unwrap_or(DateTime::<Utc>::MAX_UTC)
}
