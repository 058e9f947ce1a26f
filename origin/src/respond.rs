//! Turns answers and failures into responses: every response header is set here.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};

use crate::body::{Body, Delivery};
use crate::content::Content;
use crate::error::ServeError;
use crate::vod::{Answer, CachePolicy};

/// Clients may ask again for an entry point after 10 seconds.
const ENTRY_CACHE_CONTROL: &str = "public, max-age=10";

/// What of a request decides how its answer is sent.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// GET or HEAD.
    pub method: &'a Method,
    /// Its header fields.
    pub headers: &'a HeaderMap,
    /// How bodies go on its connection.
    pub delivery: &'a Arc<Delivery>,
}

/// An answer with its header fields as they go out, made once for however many requests.
#[derive(Clone)]
pub struct Prepared {
    plain: Variant,
    gzip: Option<Variant>,
}

/// One content coding of an answer.
#[derive(Clone)]
struct Variant {
    /// Of the whole answer.
    headers: HeaderMap,
    /// Without quotes; empty for none.
    etag: String,
    content: Content,
    size: u64,
}

impl Prepared {
    /// Sets the header fields of `answer`.
    pub fn new(answer: Answer) -> Prepared {
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        headers.insert(header::CACHE_CONTROL, cache_control(answer.cache));
        if answer.gzip.is_some() {
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        common(&mut headers);
        let gzip = answer.gzip.map(|bytes| {
            let mut headers = headers.clone();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Variant::new(headers, format!("{}-gzip", answer.etag), bytes.into())
        });
        Prepared {
            plain: Variant::new(headers, answer.etag, answer.content),
            gzip,
        }
    }

    /// True when sending it takes memory that it is made in.
    pub fn is_made(&self) -> bool {
        self.plain.content.is_made()
    }

    /// Bytes that the answer holds in memory, roughly.
    pub fn weight_bytes(&self) -> usize {
        let of = |variant: &Variant| variant.content.memory_size() + variant.etag.len() + 1_024;
        of(&self.plain) + self.gzip.as_ref().map_or(0, of)
    }
}

impl Variant {
    fn new(mut headers: HeaderMap, etag: String, content: Content) -> Variant {
        let size = content.size();
        headers.insert(header::CONTENT_LENGTH, size.into());
        if !etag.is_empty() {
            set(&mut headers, header::ETAG, &format!("\"{etag}\""));
        }
        Variant {
            headers,
            etag,
            content,
            size,
        }
    }
}

/// The response that carries an answer: whole, a range (RFC 9110 14), or 304.
pub fn answer(request: Request<'_>, answer: &Prepared) -> Response<Body> {
    let variant = match &answer.gzip {
        Some(gzip) if accepts_gzip(request.headers) => gzip,
        _ => &answer.plain,
    };
    let (etag, size) = (&variant.etag, variant.size);
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = variant.headers.clone();
    let headers = response.headers_mut();
    if !etag.is_empty() && is_matched(request.headers, etag) && none_match(request.headers, etag) {
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::ACCEPT_RANGES);
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    // RFC 9110 13.1.1: what somebody goes on with must be what they began with.
    if !etag.is_empty() && !is_matched(request.headers, etag) {
        let error = ServeError::Changed;
        return failure(request.method, &error);
    }
    // RFC 9110 14.2: a range of anything but GET is none.
    let wanted = match *request.method == Method::GET {
        true => wanted_range(request.headers, etag, size),
        false => Wanted::Whole,
    };
    let range = match wanted {
        Wanted::Whole => 0..size,
        Wanted::Range(range) => {
            let value = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            set(headers, header::CONTENT_RANGE, &value);
            headers.insert(header::CONTENT_LENGTH, (range.end - range.start).into());
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            range
        }
        Wanted::Unsatisfiable => {
            set(headers, header::CONTENT_RANGE, &format!("bytes */{size}"));
            headers.remove(header::CONTENT_ENCODING);
            headers.insert(header::CACHE_CONTROL, cache_control(CachePolicy::NoStore));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            return response;
        }
    };
    if request.method != Method::HEAD {
        *response.body_mut() = Body::new(variant.content.clone().range(range), request.delivery);
    }
    response
}

/// The response to a request that failed: status by blame, a JSON body that says what.
pub fn failure(method: &Method, error: &ServeError) -> Response<Body> {
    let (status, _, _) = error.outcome();
    // What is wrong inside is for the log; clients learn whose doing it was.
    let message = match error {
        ServeError::Storage { .. } => "the media could not be read".to_owned(),
        ServeError::Damaged { .. } => "the media is damaged".to_owned(),
        ServeError::MissingKey { .. } => ServeError::NotFound.to_string(),
        ServeError::Keys { .. } => "the keys could not be read".to_owned(),
        other => other.to_string(),
    };
    let body = serde_json::json!({ "error": { "code": error.code(), "message": message } }).to_string();
    let mut response = json(method, status, body.into());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        set(response.headers_mut(), header::RETRY_AFTER, "2");
    }
    if let ServeError::MethodNotAllowed { allowed } = error {
        set(response.headers_mut(), header::ALLOW, allowed);
    }
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 15.5.2, RFC 6750 3.
        set(response.headers_mut(), header::WWW_AUTHENTICATE, "Bearer");
    }
    response
}

/// A short JSON answer that nobody keeps.
pub fn json(method: &Method, status: StatusCode, body: Bytes) -> Response<Body> {
    text(method, status, "application/json", body)
}

/// A short answer that nobody keeps.
pub fn text(method: &Method, status: StatusCode, content_type: &str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    set(headers, header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, cache_control(CachePolicy::NoStore));
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    common(headers);
    if method != Method::HEAD {
        *response.body_mut() = Body::memory(body);
    }
    response
}

/// Keeps shared caches from giving an answer to others: what opened it was in a header.
pub fn make_private(headers: &mut HeaderMap) {
    let kept = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok());
    if let Some(value) = kept.and_then(|value| value.strip_prefix("public")).map(str::to_owned) {
        set(headers, header::CACHE_CONTROL, &format!("private{value}"));
    }
    headers.append(header::VARY, HeaderValue::from_static("authorization, cookie"));
}

/// The answer to a CORS preflight, and what methods are `allowed`: everything here may be read by any page.
pub fn preflight(allowed: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    common(headers);
    set(headers, header::ALLOW, allowed);
    set(
        headers,
        header::ACCESS_CONTROL_ALLOW_METHODS,
        "GET, HEAD, OPTIONS, POST",
    );
    set(
        headers,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "range, if-match, if-none-match, if-range, authorization, content-type, cmcd-object, cmcd-request, cmcd-session, cmcd-status",
    );
    set(headers, header::ACCESS_CONTROL_MAX_AGE, "86400");
    response
}

/// Sets a header whose value is made here of visible characters.
pub fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn common(headers: &mut HeaderMap) {
    let fixed = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "date, content-length, content-range, etag, accept-ranges, retry-after",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("timing-allow-origin"), "*"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn cache_control(policy: CachePolicy) -> HeaderValue {
    HeaderValue::from_static(match policy {
        CachePolicy::Immutable => "public, max-age=31536000, immutable",
        CachePolicy::Entry => ENTRY_CACHE_CONTROL,
        CachePolicy::NoStore => "no-store",
    })
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    // What is said of gzip counts; what is said of all others only where nothing is (RFC 9110 12.5.3).
    let (mut gzip, mut others) = (None, None);
    for coding in values.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(|parameter| {
            let weight = parameter
                .split_once('=')
                .filter(|(name, _)| name.eq_ignore_ascii_case("q"));
            weight.is_some_and(|(_, weight)| weight.trim().parse() == Ok(0.0))
        });
        match name {
            "*" => others = Some(!refused),
            name if name.eq_ignore_ascii_case("gzip") => gzip = Some(!refused),
            _ => {}
        }
    }
    gzip.or(others).unwrap_or(false)
}

/// Whether `If-Match` lets the request through: it is not there, or names what is here (RFC 9110 13.1.1).
fn is_matched(headers: &HeaderMap, etag: &str) -> bool {
    let mut values = headers.get_all(header::IF_MATCH).iter().peekable();
    if values.peek().is_none() {
        return true;
    }
    let tags = values.filter_map(|value| value.to_str().ok());
    let mut tags = tags.flat_map(|value| value.split(',')).map(str::trim);
    // Strong comparison: a weak one matches nothing.
    tags.any(|tag| tag == "*" || (!tag.starts_with("W/") && tag.trim_matches('"') == etag))
}

fn none_match(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"') == etag)
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Range(std::ops::Range<u64>),
    Unsatisfiable,
}

/// The range a request wants of `size` bytes (RFC 9110 14.2). Several ranges, other units and malformed ones are
/// answered whole, which the RFC allows; a stale `If-Range` too.
fn wanted_range(headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    let Some(value) = headers.get(header::RANGE) else {
        return Wanted::Whole;
    };
    if let Some(condition) = headers.get(header::IF_RANGE)
        && condition
            .to_str()
            .map(|tag| tag.trim_matches('"') != etag || tag.starts_with("W/"))
            .unwrap_or(true)
    {
        return Wanted::Whole;
    }
    let spec = value
        .to_str()
        .ok()
        .and_then(|value| value.trim().strip_prefix("bytes="));
    let Some((first, last)) = spec
        .filter(|spec| !spec.contains(','))
        .and_then(|spec| spec.trim().split_once('-'))
    else {
        return Wanted::Whole;
    };
    // A number beyond 64 bits is as good as infinite.
    let number = |digits: &str| match !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => Some(digits.parse().unwrap_or(u64::MAX)),
        false => None,
    };
    match (first, last) {
        ("", suffix) => match number(suffix) {
            None => Wanted::Whole,
            Some(0) => Wanted::Unsatisfiable,
            Some(_) if size == 0 => Wanted::Unsatisfiable,
            Some(count) => Wanted::Range(size.saturating_sub(count)..size),
        },
        (first, last) => {
            let end = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            match (number(first), end) {
                (Some(first), Some(last)) if first > last => Wanted::Whole,
                (Some(first), Some(_)) if first >= size => Wanted::Unsatisfiable,
                (Some(first), Some(last)) => Wanted::Range(first..last.saturating_add(1).min(size)),
                _ => Wanted::Whole,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(range: &str, if_range: Option<&str>, size: u64) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
        if let Some(tag) = if_range {
            headers.insert(header::IF_RANGE, HeaderValue::from_str(tag).unwrap());
        }
        wanted_range(&headers, "e1", size)
    }

    #[test]
    fn ranges_are_cut_to_what_there_is() {
        let check = |range: &str, expected: Wanted| assert_eq!(wanted(range, None, 100), expected, "{range}");
        check("bytes=0-0", Wanted::Range(0..1));
        check("bytes=10-19", Wanted::Range(10..20));
        check("bytes=90-", Wanted::Range(90..100));
        check("bytes=-10", Wanted::Range(90..100));
        check("bytes=-1000", Wanted::Range(0..100));
        check("bytes=50-18446744073709551615", Wanted::Range(50..100));
        check("bytes=50-99999999999999999999999", Wanted::Range(50..100));
        check("bytes=100-", Wanted::Unsatisfiable);
        check("bytes=99999999999999999999999-", Wanted::Unsatisfiable);
        check("bytes=-0", Wanted::Unsatisfiable);
        for whole in [
            "bytes=5-4",
            "bytes=a-b",
            "bytes=-",
            "bytes=",
            "items=0-1",
            "bytes=0-1,5-6",
            "bytes=--1",
            "bytes=+1-2",
        ] {
            check(whole, Wanted::Whole);
        }
        assert_eq!(wanted("bytes=-5", None, 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn if_range_must_match_strongly() {
        assert_eq!(wanted("bytes=0-1", Some("\"e1\""), 100), Wanted::Range(0..2));
        assert_eq!(wanted("bytes=0-1", Some("\"e2\""), 100), Wanted::Whole);
        assert_eq!(wanted("bytes=0-1", Some("W/\"e1\""), 100), Wanted::Whole);
    }

    #[test]
    fn gzip_is_negotiated() {
        let check = |value: &str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap());
            assert_eq!(accepts_gzip(&headers), expected, "{value}");
        };
        check("gzip, deflate, br", true);
        check("br;q=1.0, GZIP;q=0.8", true);
        check("*", true);
        check("gzip;q=0", false);
        check("gzip;q=0, *", false);
        check("gzip;Q=0.", false);
        check("gzip;q=0.001, *;q=0", true);
        check("*;q=0", false);
        check("identity", false);
    }
}
