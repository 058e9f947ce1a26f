//! Replies: what a handler answers, and the validators (`ETag`) that go with it.

use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderName, LOCATION};
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::ApiError;

/// What a handler answers.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers of its own.
    pub headers: HeaderMap,
    /// What is in it.
    pub content: ReplyContent,
}

/// What is in a reply.
#[derive(Debug)]
pub enum ReplyContent {
    /// Nothing.
    Empty,
    /// Bytes, whose type is in the headers.
    Bytes(Bytes),
    /// Bytes as they come; never kept for idempotency.
    Stream(ByteStream),
}

/// A body that is read once. Several threads may know it, one takes it.
#[derive(Debug)]
pub struct ByteStream(Mutex<Option<Body>>);

impl ByteStream {
    /// Of a body.
    pub fn new(body: Body) -> ByteStream {
        ByteStream(Mutex::new(Some(body)))
    }

    /// The body, the first time.
    pub fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Reply {
    /// No body.
    pub fn empty(status: u16) -> Reply {
        Reply {
            status,
            headers: HeaderMap::new(),
            content: ReplyContent::Empty,
        }
    }

    /// JSON.
    pub fn json(status: u16, value: &impl Serialize) -> Result<Reply, ApiError> {
        let bytes = serde_json::to_vec(value).map_err(ApiError::internal)?;
        Ok(Reply::bytes(status, "application/json; charset=utf-8", bytes))
    }

    /// Bytes of a type.
    pub fn bytes(status: u16, media_type: &'static str, bytes: impl Into<Bytes>) -> Reply {
        let mut reply = Reply::empty(status);
        reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        reply.content = ReplyContent::Bytes(bytes.into());
        reply
    }

    /// A new thing and where it is.
    pub fn created(location: &str, value: &impl Serialize) -> Result<Reply, ApiError> {
        Reply::json(201, value)?.with(LOCATION, location)
    }

    /// Adds a header.
    pub fn with(mut self, name: HeaderName, value: &str) -> Result<Reply, ApiError> {
        let value = HeaderValue::from_str(value).map_err(ApiError::internal)?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// The strong validator of a row of this version, `view` being what else shapes it.
    pub fn version(self, version: i64, view: Option<&str>) -> Result<Reply, ApiError> {
        let tag = match view {
            Some(view) => format!("\"{version}-{}\"", digest(view.as_bytes(), 4)),
            None => format!("\"{version}\""),
        };
        self.with(ETAG, &tag)
    }

    /// The weak validator of what is in it.
    pub fn weak(self) -> Result<Reply, ApiError> {
        let tag = match &self.content {
            ReplyContent::Bytes(bytes) => format!("W/\"{}\"", digest(bytes, 8)),
            ReplyContent::Empty | ReplyContent::Stream(_) => return Ok(self),
        };
        self.with(ETAG, &tag)
    }
}

fn digest(bytes: &[u8], size: usize) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().take(size).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `If-Match: text` holds of a row of `version`. Only the version's part of a validator counts.
pub fn if_match(text: &str, version: i64) -> bool {
    text.split(',').map(str::trim).any(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        let part = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        let number = part.and_then(|part| part.split('-').next());
        tag == "*" || number.and_then(|number| number.parse::<i64>().ok()) == Some(version)
    })
}

/// Whether `If-None-Match: text` names `etag` (weak comparison, RFC 9110 8.8.3.2).
pub fn if_none_match(text: &str, etag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().strip_prefix("W/").unwrap_or(tag.trim()).to_owned();
    text.split(',')
        .any(|tag| tag.trim() == "*" || opaque(tag) == opaque(etag))
}

/// Keeps the members of `value` that `fields` names, and `id`. `None` for an unknown name.
pub fn project(value: Value, fields: &str, known: &[crate::schema::Field]) -> Option<Value> {
    let wanted: Vec<&str> = fields
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    if !wanted.iter().all(|name| known.iter().any(|field| field.name == *name)) {
        return None;
    }
    let Value::Object(members) = value else {
        return Some(value);
    };
    let kept = members
        .into_iter()
        .filter(|(name, _)| name == "id" || wanted.contains(&name.as_str()));
    Some(Value::Object(kept.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn if_match_compares_the_version() {
        let cases = [
            ("\"3\"", 3, true),
            ("\"3-0a1b2c3d\"", 3, true),
            ("W/\"3\"", 3, true),
            ("\"2\", \"3\"", 3, true),
            ("*", 3, true),
            ("\"33\"", 3, false),
            ("3", 3, false),
            ("\"\"", 3, false),
            ("", 3, false),
        ];
        for (text, version, expected) in cases {
            assert_eq!(if_match(text, version), expected, "{text}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        assert!(if_none_match("W/\"a\"", "\"a\""));
        assert!(if_none_match("\"b\", \"a\"", "W/\"a\""));
        assert!(!if_none_match("\"b\"", "\"a\""));
        assert!(if_none_match("*", "\"a\""));
    }

    #[test]
    fn fields_keep_the_id() {
        let schema = crate::schema::object([
            crate::schema::required("id", crate::schema::uuid()),
            crate::schema::required("a", crate::schema::Schema::Any),
            crate::schema::required("b", crate::schema::Schema::Any),
        ]);
        let value = json!({ "id": 1, "a": 2, "b": 3 });
        assert_eq!(
            project(value.clone(), "b", schema.fields()),
            Some(json!({ "id": 1, "b": 3 }))
        );
        assert_eq!(project(value, "c", schema.fields()), None);
    }
}
