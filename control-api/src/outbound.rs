//! Outbound: requests to servers that the operator named, over TLS, bounded in time and size, and to nowhere else.
//!
//! URLs come from configuration alone, never from a client. A name is resolved once for each connection, the addresses
//! are checked, and those very addresses are connected to; redirects are replies like others. hyper with rustls: both are
//! here already as server and as primitives, and nothing in them follows, decompresses, keeps cookies or reads proxies
//! from the environment.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod address;
mod tls;

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

pub use address::{Reach, UrlError, check_url, is_public, with_query};
pub use hyper::Uri as Url;
pub use tls::{Identity, TlsError};

use address::Guard;

/// Longest that a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that one attempt may take, reply included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that all attempts may take: a player waits for them.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);
/// Pauses between attempts; each is lengthened by up to its half, at random.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];
/// How long a connection that is not in use is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that are kept for each server.
const IDLE_COUNT_MAX: usize = 8;
/// Bytes of a reply unless the asker says otherwise.
const REPLY_SIZE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a reply's head.
const HEAD_SIZE_BYTES_MAX: usize = 64 << 10;

/// When a request may be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Never: who asks has a schedule of their own.
    Never,
    /// When no connection could be made: it was not sent.
    WhenUnsent,
    /// Also when it was sent and no answer came, or one of 502, 503 and 504: asking twice does what asking once does.
    WhenUnanswered,
}

/// A request. It may hold keys and tokens, so it has no `Debug`.
pub struct Ask {
    /// Where to.
    pub url: Uri,
    method: Method,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
    repeat: Repeat,
    /// Most bytes that a reply may have.
    pub reply_size_max: usize,
}

impl Ask {
    /// A POST.
    pub fn post(url: Uri, body: Zeroizing<Vec<u8>>, repeat: Repeat) -> Ask {
        Ask {
            url,
            method: Method::POST,
            headers: HeaderMap::new(),
            body,
            repeat,
            reply_size_max: REPLY_SIZE_BYTES_MAX,
        }
    }

    /// A PATCH.
    pub fn patch(url: Uri, body: Zeroizing<Vec<u8>>, repeat: Repeat) -> Ask {
        Ask {
            method: Method::PATCH,
            ..Ask::post(url, body, repeat)
        }
    }

    /// A GET.
    pub fn get(url: Uri, repeat: Repeat) -> Ask {
        Ask::bare(Method::GET, url, repeat)
    }

    /// A DELETE.
    pub fn delete(url: Uri, repeat: Repeat) -> Ask {
        Ask::bare(Method::DELETE, url, repeat)
    }

    fn bare(method: Method, url: Uri, repeat: Repeat) -> Ask {
        Ask {
            method,
            ..Ask::post(url, Zeroizing::default(), repeat)
        }
    }

    /// A header with a value that everybody may know.
    pub fn header(&mut self, name: &'static str, value: &'static str) {
        self.headers
            .insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }

    /// A header with a secret; `None` when it can not be one.
    pub fn secret_header(&mut self, name: &str, value: &str) -> Option<()> {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        self.headers
            .insert(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
        Some(())
    }

    /// `Authorization: Bearer …`
    pub fn bearer(&mut self, token: &str) -> Option<()> {
        self.secret_header("authorization", &Zeroizing::new(format!("Bearer {token}")))
    }
}

/// A reply. It may hold keys, so it has no `Debug`.
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    headers: HeaderMap,
    /// The whole body.
    pub body: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// A reply without headers.
    pub fn new(status: u16, body: &[u8]) -> Reply {
        Reply {
            status,
            headers: HeaderMap::new(),
            body: Zeroizing::new(body.to_vec()),
        }
    }

    /// A header's value, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no reply. Says neither where to nor what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The request is not one.
    #[error("the request can not be written")]
    Request,
    /// No connection, or the server's certificate is not trusted.
    #[error("no connection")]
    Connect,
    /// The server's name leads to addresses that may not be reached.
    #[error("the name leads to an address that may not be reached")]
    Address,
    /// Nothing in time.
    #[error("no answer in time")]
    Timeout,
    /// Broken off, or not HTTP.
    #[error("the answer broke off or is not HTTP")]
    Transport,
    /// Longer than it may be.
    #[error("the answer is longer than {0} bytes")]
    Size(usize),
}

/// What sends.
pub struct Outbound {
    client: Client<HttpsConnector<HttpConnector<Guard>>, Full<Bytes>>,
}

impl Outbound {
    /// A sender that reaches addresses as `reach` says, trusts the system's certificate authorities, or those in `roots`
    /// alone (PEM), and proves itself by `identity`.
    pub fn new(reach: Reach, roots: Option<&[u8]>, identity: Option<&Identity>) -> Result<Outbound, TlsError> {
        let mut tcp = HttpConnector::new_with_resolver(Guard { reach });
        // Which URLs may be without TLS is found out when they are read.
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls::config(roots, identity)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_COUNT_MAX)
            .http1_max_buf_size(HEAD_SIZE_BYTES_MAX)
            // A kept connection that turns out to be closed carried nothing yet.
            .retry_canceled_requests(true)
            .build(https);
        Ok(Outbound { client })
    }

    /// Sends `ask`, more than once if that is all the same, and reads the whole reply.
    pub async fn send(&self, ask: &Ask) -> Result<Reply, OutboundError> {
        let attempts = timeout(TOTAL_TIMEOUT, self.attempts(ask)).await;
        attempts.unwrap_or(Err(OutboundError::Timeout))
    }

    async fn attempts(&self, ask: &Ask) -> Result<Reply, OutboundError> {
        let mut pauses = BACK_OFF.into_iter();
        loop {
            let result = timeout(ATTEMPT_TIMEOUT, self.attempt(ask)).await;
            let result = result.unwrap_or(Err(OutboundError::Timeout));
            let again = match (&result, ask.repeat) {
                (Err(OutboundError::Connect), Repeat::WhenUnsent | Repeat::WhenUnanswered) => true,
                (Err(OutboundError::Timeout | OutboundError::Transport), Repeat::WhenUnanswered) => true,
                (Ok(reply), Repeat::WhenUnanswered) => matches!(reply.status, 502..=504),
                _ => false,
            };
            match pauses.next().filter(|_| again) {
                Some(pause) => sleep(lengthened(pause)).await,
                None => return result,
            }
        }
    }

    async fn attempt(&self, ask: &Ask) -> Result<Reply, OutboundError> {
        let body = Full::new(Bytes::copy_from_slice(&ask.body));
        let mut request = Request::new(body);
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = ask.url.clone();
        *request.headers_mut() = ask.headers.clone();
        let response = self.client.request(request).await;
        let response = response.map_err(|error| match (error.is_connect(), is_refused_address(&error)) {
            (_, true) => OutboundError::Address,
            (true, _) => OutboundError::Connect,
            (false, _) => OutboundError::Transport,
        })?;
        let (head, body) = response.into_parts();
        let limited = Limited::new(body, ask.reply_size_max).collect().await;
        let collected = limited.map_err(|error| match error.is::<LengthLimitError>() {
            true => OutboundError::Size(ask.reply_size_max),
            false => OutboundError::Transport,
        })?;
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body: Zeroizing::new(collected.to_bytes().to_vec()),
        })
    }
}

/// Whether the guard refused, somewhere below.
fn is_refused_address(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Asked again, many would otherwise come at once.
fn lengthened(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness it is as long as it is.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    pause + pause * u32::from(byte[0]) / 512
}
