//! The one function that every request passes through from top to bottom, and what a thread has to answer with.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version, header};

use packager::crypto::clear_key::{self, LicenceRequest, SessionType};
use packager::limits::LICENCE_REQUEST_SIZE_BYTES_MAX;

use crate::Origin;
use crate::access::{Policy, Ticket};
use crate::body::{Body, Delivery, READ_SIZE_BYTES, STREAM_FIRST_READ_SIZE_BYTES, STREAM_READ_SIZE_BYTES};
use crate::error::{Blame, ServeError};
use crate::load::{Counted, CountedBody, Load};
use crate::metrics::Counters;
use crate::pulse::Pulse;
use crate::recent::Recent;
use crate::respond::Prepared;
use crate::route::{self, RepresentationFile, Route, VodResource};
use crate::vod::{Answer, CachePolicy};
use crate::{page, respond};

/// The label of media, which costs far more than the refusal of it.
const SEGMENT: &str = "segment";

/// What one serving thread has for itself.
pub struct Worker {
    origin: Arc<Origin>,
    /// Counts what the thread does.
    pub counters: Arc<Counters>,
    /// What it has to do.
    pub load: Rc<Load>,
    /// True when every HTTP/1.1 answer is to be its connection's last.
    pub closing: Cell<bool>,
    /// For HTTP/1 over our own transports.
    by_slices: Arc<Delivery>,
    /// For HTTP/2, which looks into what it sends.
    by_bytes: Arc<Delivery>,
    recent: RefCell<Recent>,
}

impl Worker {
    /// For one more thread of `origin`.
    pub fn new(origin: Arc<Origin>) -> Worker {
        let counters = origin.metrics.thread();
        let by_bytes = Delivery {
            sendfile_size_bytes_min: None,
            read_size_bytes: STREAM_READ_SIZE_BYTES,
            first_read_size_bytes: STREAM_FIRST_READ_SIZE_BYTES,
            one_read_at_a_time: true,
            gate: origin.gate.clone(),
            counters: counters.clone(),
        };
        let by_slices = Delivery {
            sendfile_size_bytes_min: origin.config().sendfile_size_bytes_min,
            read_size_bytes: READ_SIZE_BYTES,
            first_read_size_bytes: READ_SIZE_BYTES,
            one_read_at_a_time: false,
            ..by_bytes.clone()
        };
        let limits = origin.config().limits.clone();
        Worker {
            origin,
            load: Rc::new(Load::new(limits, counters.clone())),
            closing: Cell::new(false),
            counters,
            by_slices: Arc::new(by_slices),
            by_bytes: Arc::new(by_bytes),
            recent: RefCell::default(),
        }
    }

    /// Whether a recent answer may be given again. What it is refused for is found out, and said, on the long way.
    fn may_send(&self, label: &'static str, answer: &Prepared) -> bool {
        self.load.admit(label == SEGMENT).is_ok() && (!answer.is_made() || self.origin.has_room_for_building())
    }

    fn count(&self, resource: &'static str, response: &Response<Body>) {
        if response.status().is_success() || response.status().is_redirection() {
            self.counters.count_ok(resource);
        }
        let size = http_body::Body::size_hint(response.body()).exact();
        self.counters.answer_bytes.add(size.unwrap_or(0));
    }

    fn wanted<'a>(&'a self, request: &'a Request<Incoming>) -> respond::Request<'a> {
        respond::Request {
            method: request.method(),
            headers: request.headers(),
            delivery: self.delivery(request.version()),
        }
    }

    fn wanted_of<'a>(&'a self, request: &'a Parts) -> respond::Request<'a> {
        respond::Request {
            method: &request.method,
            headers: &request.headers,
            delivery: self.delivery(request.version),
        }
    }

    fn delivery(&self, version: Version) -> &Arc<Delivery> {
        match version {
            Version::HTTP_10 | Version::HTTP_11 => &self.by_slices,
            _ => &self.by_bytes,
        }
    }
}

/// Every request of the connection that `pulse` is of: counted, answered, and its body sent.
pub async fn handle(
    worker: Rc<Worker>,
    pulse: Rc<Pulse>,
    request: Request<Incoming>,
) -> Result<Response<CountedBody>, Infallible> {
    let counted = Counted::begin(&pulse, &worker.load);
    let mut response = answer(&worker, request).await;
    if worker.closing.get() && !pulse.is_http2() {
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| CountedBody::new(body, counted)))
}

/// Refuses what could be taken in two ways on its way here (RFC 9112 3.2): no host in HTTP/1.1, several, or none that is one.
fn check_host(request: &Request<Incoming>) -> Result<(), &'static str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let first = hosts.next();
    if first.is_none() && request.version() == Version::HTTP_11 {
        return Err("the request has no Host");
    }
    if hosts.next().is_some() {
        return Err("the request has several Hosts");
    }
    // RFC 3986 3.2.2 and 3.2.3; without user information, which a Host never has.
    let is_of_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    match first.is_none_or(|host| host.as_bytes().iter().all(is_of_host)) {
        true => Ok(()),
        false => Err("the Host of the request is not one"),
    }
}

/// `path` without grants, for the log.
fn without_grants(path: &str) -> Cow<'_, str> {
    if !path.contains("/~") {
        return Cow::Borrowed(path);
    }
    let segments = path.split('/');
    let cut = segments.map(|segment| if segment.starts_with('~') { "~…" } else { segment });
    Cow::Owned(cut.collect::<Vec<_>>().join("/"))
}

/// Every request, from top to bottom.
async fn answer(worker: &Worker, request: Request<Incoming>) -> Response<Body> {
    let origin = &worker.origin;
    let method = request.method().clone();
    if let Err(what) = check_host(&request) {
        let error = ServeError::BadRequest { what };
        origin.metrics.count_failure("unknown", error.outcome().2);
        return respond::failure(&method, &error);
    }
    if method == Method::OPTIONS {
        let path = Ticket::take(request.uri().path(), request.headers()).path;
        return respond::preflight(methods_of(route::parse(&path, None).as_ref()));
    }
    let reads = method == Method::GET || method == Method::HEAD;
    // Where everything may be had by everybody, the URL alone decides what is answered.
    if origin.access.is_none()
        && reads
        && let Some(url) = request.uri().path_and_query()
        && let Some((label, answer)) = worker.recent.borrow().find(url.as_str(), &Policy::default())
        && worker.may_send(label, answer)
    {
        let response = respond::answer(worker.wanted(&request), answer);
        worker.count(label, &response);
        return response;
    }
    let (parts, body) = request.into_parts();
    let ticket = Ticket::take(parts.uri.path(), &parts.headers);
    // Else it does together with what the grant opens, which is verified first.
    if origin.access.is_some()
        && reads
        && ticket.is_held()
        && ticket.path.starts_with("/vod/")
        && let Ok(policy) = admit(origin, &ticket, "", method == Method::HEAD)
        && let Some((label, answer)) = worker
            .recent
            .borrow()
            .find(&url_of(&ticket, parts.uri.query()), &policy)
        && worker.may_send(label, answer)
    {
        let mut response = respond::answer(worker.wanted_of(&parts), answer);
        if ticket.private {
            respond::make_private(response.headers_mut());
        }
        worker.count(label, &response);
        return response;
    }
    let parsed = route::parse(&ticket.path, parts.uri.query());
    let resource = parsed.as_ref().map_or("unknown", resource_label);
    let admitted = match resource {
        "health" | "metrics" => Ok(()),
        resource => worker.load.admit(resource == SEGMENT),
    };
    let served = match (&method, parsed) {
        _ if admitted.is_err() => admitted.and(Err(ServeError::NotFound)),
        (&Method::POST, Some(Route::License { media })) => Box::pin(license(origin, &ticket, &media, body)).await,
        (_, route @ Some(Route::License { .. })) => Err(ServeError::MethodNotAllowed {
            allowed: methods_of(route.as_ref()),
        }),
        // In a place of its own: every connection keeps room for the largest that may run on it.
        (&Method::GET | &Method::HEAD, Some(route)) => Box::pin(serve_route(worker, &parts, &ticket, route)).await,
        (&Method::GET | &Method::HEAD, None) => Err(ServeError::NotFound),
        (_, route) => Err(ServeError::MethodNotAllowed {
            allowed: methods_of(route.as_ref()),
        }),
    };
    let mut response = served.unwrap_or_else(|error| {
        let (status, blame, outcome) = error.outcome();
        origin.metrics.count_failure(resource, outcome);
        let path = &*without_grants(&ticket.path);
        match blame {
            Blame::Client => tracing::debug!(status = status.as_u16(), path, %error, "refused"),
            // `load` says once when it begins and ends.
            Blame::Capacity => tracing::debug!(status = status.as_u16(), path, %error, "overloaded"),
            Blame::Us => tracing::error!(status = status.as_u16(), path, %error, "failed"),
        }
        respond::failure(&method, &error)
    });
    if ticket.private && origin.access.is_some() {
        respond::make_private(response.headers_mut());
    }
    worker.count(resource, &response);
    response
}

/// What is asked for, without the grant.
fn url_of<'a>(ticket: &'a Ticket<'_>, query: Option<&str>) -> Cow<'a, str> {
    match query {
        None => Cow::Borrowed(&*ticket.path),
        Some(query) => Cow::Owned(format!("{}?{query}", ticket.path)),
    }
}

/// What the request may have of `media`, whose path it names without the grant.
fn admit(origin: &Origin, ticket: &Ticket<'_>, media: &str, head: bool) -> Result<Policy, ServeError> {
    let Some(access) = &origin.access else {
        return Ok(Policy::default());
    };
    // A page is opened by the grant of what it shows.
    match ticket.path.starts_with("/vod/") {
        true => access.admit(ticket, &ticket.path, head),
        false => access.admit(ticket, &format!("/vod/{media}/"), head),
    }
}

/// A Clear Key licence: the keys that are asked for and that the title has.
async fn license(
    origin: &Arc<Origin>,
    ticket: &Ticket<'_>,
    media: &str,
    body: Incoming,
) -> Result<Response<Body>, ServeError> {
    let policy = admit(origin, ticket, media, false)?;
    let systems = origin.protector.as_ref().map(crate::protect::Protector::systems);
    if systems.is_none_or(|systems| systems.clear_key.is_none()) {
        return Err(ServeError::NotFound);
    }
    let too_large = |_| ServeError::BadRequest {
        what: "a licence request of too many bytes, or one cut short",
    };
    let body = Limited::new(body, LICENCE_REQUEST_SIZE_BYTES_MAX).collect();
    let body = tokio::time::timeout(origin.config().limits.body_timeout, body).await;
    let body = body.map_err(|_| ServeError::SlowBody)?.map_err(too_large)?.to_bytes();
    let wanted = LicenceRequest::parse(&body).map_err(|_| ServeError::BadRequest {
        what: "not a Clear Key licence request",
    })?;
    // A licence must not outlive the grant.
    if wanted.session_type != SessionType::Temporary {
        return Err(ServeError::GrantRefused { reason: "persistent" });
    }
    let asset = origin.open(media).await?;
    let origin = origin.clone();
    let written = blocking(move || {
        let Some(protector) = &origin.protector else {
            return Err(ServeError::NotFound);
        };
        let mut keys = Vec::new();
        for key_id in &wanted.key_ids {
            // Players ask for all that a header names; who has some of them gets those.
            if let Some(key) = protector.license(&asset, *key_id, &policy)? {
                keys.push((*key_id, key));
            }
        }
        if keys.is_empty() {
            return Err(ServeError::NotFound);
        }
        Ok(clear_key::licence(&keys, wanted.session_type))
    });
    let written = written.await?;
    Ok(respond::text(
        &Method::GET,
        StatusCode::OK,
        "application/json",
        bytes::Bytes::copy_from_slice(&written),
    ))
}

/// What may be done with a resource, as `Allow` has it.
fn methods_of(route: Option<&Route>) -> &'static str {
    match route {
        Some(Route::License { .. }) => "POST, OPTIONS",
        _ => "GET, HEAD, OPTIONS",
    }
}

fn resource_label(route: &Route) -> &'static str {
    match route {
        Route::Health | Route::Ready => "health",
        Route::Metrics => "metrics",
        Route::Index | Route::Page { .. } | Route::Embed { .. } => "page",
        Route::PlayerFile { .. } => "player_file",
        Route::Refused { .. } => "refused",
        Route::Key { .. } => "key",
        Route::License { .. } => "license",
        Route::Vod { resource, .. } => vod_label(resource),
    }
}

fn vod_label(resource: &VodResource) -> &'static str {
    match resource {
        VodResource::Multivariant { .. } => "multivariant",
        VodResource::Mpd { .. } => "mpd",
        VodResource::Thumbs | VodResource::Poster => "image",
        VodResource::File { file, .. } => match file {
            RepresentationFile::MediaPlaylist | RepresentationFile::TrickPlaylist => "media_playlist",
            RepresentationFile::Init | RepresentationFile::PeriodInit { .. } => "init",
            RepresentationFile::Image { .. } => "image",
            _ => SEGMENT,
        },
    }
}

async fn serve_route(
    worker: &Worker,
    request: &Parts,
    ticket: &Ticket<'_>,
    route: Route,
) -> Result<Response<Body>, ServeError> {
    let origin = &worker.origin;
    let method = &request.method;
    let head = method == Method::HEAD;
    let wanted = worker.wanted_of(request);
    match route {
        Route::Refused { error } => Err(error.into()),
        Route::Health => Ok(respond::text(method, StatusCode::OK, "text/plain", "ok\n".into())),
        Route::Ready => {
            let store = origin.clone();
            let entries = blocking(move || {
                store.store.entries().map_err(|error| ServeError::Storage {
                    what: error.to_string(),
                })
            });
            match entries.await {
                Ok(_) => Ok(respond::text(method, StatusCode::OK, "text/plain", "ready\n".into())),
                Err(error) => {
                    tracing::error!(%error, "the library can not be read");
                    Err(ServeError::Overloaded {
                        what: "the library can not be read",
                    })
                }
            }
        }
        Route::Metrics => {
            let text = origin.metrics.render(origin.store.usage());
            let text = text.map_err(|error| ServeError::Storage {
                what: error.to_string(),
            })?;
            Ok(respond::text(
                method,
                StatusCode::OK,
                "text/plain; version=0.0.4",
                text.into(),
            ))
        }
        Route::Index => {
            let store = origin.clone();
            let entries = blocking(move || {
                store.store.entries().map_err(|error| ServeError::Storage {
                    what: error.to_string(),
                })
            });
            Ok(html(method, page::index(entries.await?.iter(), origin.player.as_ref())))
        }
        Route::Page { media } => {
            admit(origin, ticket, &media, head)?;
            let way = origin.way(ticket);
            let asset = origin.open(&media).await?;
            let library = origin.player.as_ref().ok_or(ServeError::NoPlayer)?;
            Ok(html(method, page::player(&asset, library, &way)))
        }
        Route::Embed { media } => {
            admit(origin, ticket, &media, head)?;
            let way = origin.way(ticket);
            let asset = origin.open(&media).await?;
            let library = origin.player.as_ref().ok_or(ServeError::NoPlayer)?;
            Ok(html(method, page::embed(&asset, library, &way)))
        }
        Route::PlayerFile { version, file } => {
            let library = origin.player.as_ref().ok_or(ServeError::NoPlayer)?;
            let (bytes, content_type) = library.file(&version, &file)?;
            let etag = format!("{version}-{file}");
            let cache = CachePolicy::Immutable;
            let answer = Answer {
                content: bytes.into(),
                content_type,
                etag,
                cache,
                gzip: None,
            };
            Ok(respond::answer(wanted, &Prepared::new(answer)))
        }
        Route::Key { media, key } => {
            let policy = admit(origin, ticket, &media, head)?;
            let asset = origin.open(&media).await?;
            let owner = origin.clone();
            let found = blocking(move || match &owner.protector {
                Some(protector) => protector.license(&asset, key, &policy)?.ok_or(ServeError::NotFound),
                None => Err(ServeError::NotFound),
            });
            let key = found.await?;
            let bytes = bytes::Bytes::copy_from_slice(key.expose());
            Ok(respond::text(method, StatusCode::OK, "application/octet-stream", bytes))
        }
        Route::License { .. } => Err(ServeError::MethodNotAllowed {
            allowed: methods_of(Some(&route)),
        }),
        Route::Vod { media, resource } => {
            // Posters and thumbnails are what a title is offered with.
            let policy = match resource.is_offer() {
                true => Policy::default(),
                false => admit(origin, ticket, &media, head)?,
            };
            let asset = origin.open_for(&media, &resource).await?;
            let label = vod_label(&resource);
            let answer = Prepared::new(origin.answer(&asset, resource, &policy, wanted.delivery).await?);
            let response = respond::answer(wanted, &answer);
            let url = url_of(ticket, request.uri.query());
            worker.recent.borrow_mut().keep(&url, policy, label, answer);
            Ok(response)
        }
    }
}

fn html(method: &Method, page: page::Page) -> Response<Body> {
    let mut response = respond::text(method, StatusCode::OK, "text/html; charset=utf-8", page.body);
    let headers = response.headers_mut();
    respond::set(headers, header::CONTENT_SECURITY_POLICY, &page.security_policy);
    respond::set(headers, header::REFERRER_POLICY, "same-origin");
    respond::set(headers, header::CACHE_CONTROL, "no-cache");
    response
}

/// Runs `work` where blocking is allowed.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServeError> + Send + 'static,
) -> Result<T, ServeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ServeError::Storage {
        what: format!("work was cut short: {error}"),
    })?
}
