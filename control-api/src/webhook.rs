//! Webhooks: what is sent of an event, how it is signed, when it is tried again, and the jobs that do so.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::{API_VERSION, App};
use crate::db::webhooks::{self, Claimed, Outcome};
use crate::error::ApiError;
use crate::outbound::{Ask, Outbound, Reach, Repeat, Reply, TlsError, Url, check_url, is_public};
use crate::secrets::hex;

/// Events that webhooks can be told of.
pub const EVENTS: &[&str] = &[
    "subscription.created",
    "subscription.updated",
    "subscription.canceled",
    "subscription.payment_failed",
    "subscription.trial_ending",
    "user.created",
    "user.deleted",
    "user.suspended",
    "user.email_verified",
    "user.registered",
    "device.registered",
    "device.removed",
    "content.published",
    "content.unpublished",
    "profile.created",
    "profile.deleted",
    "stream.started",
    "stream.ended",
    "stream.concurrency_exceeded",
    "media.uploaded",
    "media.transcoded",
    "media.published",
    "media.failed",
    "media.deleted",
    "collection.created",
];
/// The event of tests.
pub const PING: &str = "ping";
/// Pauses between attempts, in seconds.
const PAUSES_S: [i64; 7] = [30, 120, 600, 3_600, 10_800, 21_600, 43_200];
/// Events in a row that could not be delivered until an endpoint is disabled.
pub const FAILED_MAX: i32 = 50;
/// How long deliveries are kept.
pub const KEPT: TimeDelta = TimeDelta::days(30);
/// Bytes of an answer that are kept.
const SNIPPET_SIZE_BYTES_MAX: usize = 512;
/// Longest answer that is read.
const REPLY_SIZE_BYTES_MAX: usize = 64 << 10;
/// Deliveries under way at once.
const UNDER_WAY_COUNT_MAX: usize = 64;
/// How long an attempt is this node's alone; attempts end before.
const LEASE: TimeDelta = TimeDelta::seconds(30);
/// How long is waited for a name when an endpoint is made.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// When the next attempt is, after so many: never again after the eighth.
pub fn next_attempt(attempts: i32, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let pause = usize::try_from(attempts.saturating_sub(1)).ok();
    let pause = pause.and_then(|index| PAUSES_S.get(index))?;
    Some(now + TimeDelta::seconds(*pause))
}

/// What is stored of an event for one endpoint.
pub fn body(event: Uuid, kind: &str, tenant: Uuid, data: &Value) -> Vec<u8> {
    let body = json!({ "id": event, "event": kind, "tenant_id": tenant, "api_version": API_VERSION, "data": data });
    body.to_string().into_bytes()
}

/// What is sent: with the time of this attempt, by which receivers know what is played back to them.
fn stamped(body: &[u8], at: &str) -> Vec<u8> {
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) if value.is_object() => {
            value["timestamp"] = json!(at);
            value.to_string().into_bytes()
        }
        _ => body.to_vec(),
    }
}

/// `sha256=…`, as receivers compute it over the raw body.
pub fn signature(secret: &[u8], body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("sha256={}", hex(hmac::sign(&key, body).as_ref()))
}

/// Why a URL is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefusal {
    /// No TLS.
    #[error("must be https")]
    NotHttps,
    /// It is not one, or leads where nothing may be sent.
    #[error("leads where nothing may be sent: {0}")]
    NotAllowed(&'static str),
}

/// Sends webhooks.
pub struct Sender {
    outbound: Outbound,
    reach: Reach,
    under_way: Arc<Semaphore>,
}

impl Sender {
    /// To the whole internet, and nowhere else.
    pub fn new() -> Result<Sender, TlsError> {
        Sender::reaching(Reach::Public, Outbound::new(Reach::Public, None, None)?)
    }

    /// To wherever `outbound`, which must reach the same, may.
    pub fn reaching(reach: Reach, outbound: Outbound) -> Result<Sender, TlsError> {
        Ok(Sender {
            outbound,
            reach,
            under_way: Arc::new(Semaphore::new(UNDER_WAY_COUNT_MAX)),
        })
    }

    /// A URL that may be sent to. A host in digits is looked at here, since no name is resolved for it.
    fn check(&self, text: &str) -> Result<Url, UrlRefusal> {
        let url = check_url(text, self.reach).map_err(|_| UrlRefusal::NotAllowed("not a public URL"))?;
        match literal(&url) {
            Some(address) if self.reach == Reach::Public && !is_public(address) => {
                Err(UrlRefusal::NotAllowed("a private address"))
            }
            _ => Ok(url),
        }
    }

    /// Whether an endpoint may be made of this URL, as far as it can be known now. `own` are URLs of this very deployment.
    /// What a name leads to is looked at again for each connection.
    pub async fn admit(&self, text: &str, own: [&str; 2]) -> Result<(), UrlRefusal> {
        let url: Url = text.parse().map_err(|_| UrlRefusal::NotAllowed("not a URL"))?;
        if url.scheme_str() != Some("https") {
            return Err(UrlRefusal::NotHttps);
        }
        let url = self.check(text)?;
        let host = url.host().unwrap_or_default().trim_end_matches('.').to_lowercase();
        let is_own = |own: &str| {
            own.parse::<Url>()
                .ok()
                .and_then(|own| own.host().map(str::to_lowercase))
                == Some(host.clone())
        };
        if own.into_iter().any(is_own) {
            return Err(UrlRefusal::NotAllowed("this very deployment"));
        }
        if literal(&url).is_some() || self.reach == Reach::Private {
            return Ok(());
        }
        let looked_up = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host.as_str(), 443))).await;
        let is_private = match looked_up {
            Ok(Ok(mut addresses)) => addresses.any(|address| !is_public(address.ip())),
            // What can not be found now is looked for again at each delivery.
            Ok(Err(_)) | Err(_) => false,
        };
        match is_private {
            true => Err(UrlRefusal::NotAllowed("a name of a private address")),
            false => Ok(()),
        }
    }

    async fn send(&self, claimed: &Claimed, secret: &[u8], now: DateTime<Utc>) -> Result<Reply, String> {
        let url = self.check(&claimed.url).map_err(|refusal| refusal.to_string())?;
        let at = now.to_rfc3339_opts(SecondsFormat::Millis, true);
        let body = stamped(&claimed.body, &at);
        let tag = signature(secret, &body);
        let mut ask = Ask::post(url, Zeroizing::new(body), Repeat::Never);
        ask.reply_size_max = REPLY_SIZE_BYTES_MAX;
        ask.header("content-type", "application/json; charset=utf-8");
        ask.header("user-agent", "headwater");
        let id = claimed.event_id.to_string();
        let headers = [
            ("x-signature-256", tag.as_str()),
            ("x-webhook-id", &id),
            ("x-webhook-event", &claimed.event_type),
            ("x-webhook-timestamp", &at),
        ];
        for (name, value) in headers {
            ask.secret_header(name, value).ok_or("a header can not be written")?;
        }
        self.outbound.send(&ask).await.map_err(|error| error.to_string())
    }
}

fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host()?;
    let digits = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    digits.unwrap_or(host).parse().ok()
}

/// Where a webhook's secret is sealed.
pub fn place(webhook: Uuid) -> String {
    format!("webhook:{webhook}")
}

/// Sends one claimed delivery; what came of it.
pub async fn attempt(app: &App, claimed: &Claimed, is_test: bool) -> Result<Outcome, ApiError> {
    let secret = app
        .secrets
        .open(&place(claimed.endpoint_id), &claimed.secret_encrypted)
        .map_err(ApiError::internal)?;
    let now = app.now();
    let sent = app.webhooks.send(claimed, &secret, now).await;
    let attempts = claimed.attempt_count.saturating_add(1);
    let (http_status, snippet, is_good) = match &sent {
        Ok(reply) => (
            Some(i32::from(reply.status)),
            snippet(&reply.body),
            (200..300).contains(&reply.status),
        ),
        Err(error) => (None, error.clone(), false),
    };
    let next_retry_at = match is_good || is_test {
        true => None,
        false => next_attempt(attempts, now),
    };
    Ok(Outcome {
        status: match (is_good, next_retry_at) {
            (true, _) => "delivered",
            (false, Some(_)) => "retrying",
            (false, None) => "failed",
        },
        http_status,
        snippet: Some(snippet).filter(|text| !text.is_empty()),
        attempts,
        next_retry_at,
        at: app.now(),
    })
}

/// The beginning of an answer, as text that a database keeps.
fn snippet(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..SNIPPET_SIZE_BYTES_MAX).unwrap_or(body));
    text.replace('\0', "")
}

/// Turns events into deliveries to the endpoints that want them.
pub async fn fan_out(app: &App) -> Result<(), sqlx::Error> {
    while webhooks::fan_out(&app.db, app.now(), body).await? {}
    Ok(())
}

/// Begins the deliveries that are due, as many as may be under way.
pub async fn begin(app: &Arc<App>) -> Result<JoinSet<()>, sqlx::Error> {
    let mut begun = JoinSet::new();
    let free = app.webhooks.under_way.available_permits();
    if free == 0 {
        return Ok(begun);
    }
    let limit = i64::try_from(free).unwrap_or(1);
    for claimed in webhooks::claim(&app.db, app.now(), LEASE, limit).await? {
        let Ok(permit) = Arc::clone(&app.webhooks.under_way).try_acquire_owned() else {
            // Its lease ends, then somebody takes it up.
            break;
        };
        let app = Arc::clone(app);
        begun.spawn(async move {
            let _permit = permit;
            let done = async {
                let outcome = attempt(&app, &claimed, false).await?;
                webhooks::finish(&app.db, &claimed, &outcome, FAILED_MAX).await?;
                Ok::<(), ApiError>(())
            };
            if let Err(error) = done.await {
                tracing::warn!(cause = ?error.cause, "an attempt to deliver a webhook was not written down");
            }
        });
    }
    Ok(begun)
}

/// Both, for the background. What was begun goes on.
pub async fn run(app: &Arc<App>) -> Result<(), sqlx::Error> {
    fan_out(app).await?;
    begin(app).await?.detach_all();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wh_3_signatures_are_hmacs_of_the_raw_body() {
        // RFC 4231, test case 2.
        assert_eq!(
            signature(b"Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn wh_4_attempts_come_further_apart_and_end() {
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let after = |attempts| next_attempt(attempts, now).map(|next| (next - now).num_seconds());
        let all: Vec<Option<i64>> = (0..=9).map(after).collect();
        assert_eq!(
            all,
            [
                None,
                Some(30),
                Some(120),
                Some(600),
                Some(3_600),
                Some(10_800),
                Some(21_600),
                Some(43_200),
                None,
                None
            ]
        );
    }

    #[tokio::test]
    async fn wh_1_urls_that_lead_elsewhere_are_refused() {
        let sender = Sender::new().unwrap();
        let own = ["https://api.example.org", "http://127.0.0.1:8080"];
        let check = async |url: &str, expected: Option<UrlRefusal>| {
            let got = sender.admit(url, own).await.err();
            match (got, expected) {
                (Some(UrlRefusal::NotAllowed(_)), Some(UrlRefusal::NotAllowed(_))) => {}
                (got, expected) => assert_eq!(got, expected, "{url}"),
            }
        };
        let not_allowed = Some(UrlRefusal::NotAllowed(""));
        check("https://8.8.8.8/hook", None).await;
        check("http://8.8.8.8/hook", Some(UrlRefusal::NotHttps)).await;
        check("ftp://8.8.8.8/hook", Some(UrlRefusal::NotHttps)).await;
        for url in [
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://10.0.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1/",
            "https://192.168.1.1:8443/",
            "https://0.0.0.0/",
            "https://224.0.0.1/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://localhost/",
            "https://user:word@8.8.8.8/",
            "https://api.example.org/",
            "https://API.example.org./x",
            "https:///x",
            "nonsense",
        ] {
            let refused = sender.admit(url, own).await;
            assert!(refused.is_err(), "{url}");
        }
        check("https://10.0.0.1/", not_allowed).await;
    }

    #[test]
    fn answers_are_cut_to_what_a_database_keeps() {
        assert_eq!(snippet(b"a\0b"), "ab");
        assert_eq!(snippet(&[b'x'; 600]).len(), 512);
        assert_eq!(snippet(&[0xff, b'y']), "\u{fffd}y");
    }
}
