//! Calls: one request after it was authenticated and checked, as handlers see it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::auth::{Principal, Role, Via};
use crate::error::{ApiError, Code};
use crate::operation::Operation;
use crate::page::{PageQuery, PageRequest};
use crate::reply::ByteStream;

/// Whose rows are meant. Every function that asks the database takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub Uuid);

/// Where a request comes from.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Address of the client, as far as trusted proxies tell.
    pub ip: IpAddr,
    /// Its country, where it is known: two letters, capitals.
    pub country: Option<String>,
    /// `User-Agent`, cut to 512 characters.
    pub user_agent: Option<String>,
}

/// What came in the body.
#[derive(Debug)]
pub enum Content {
    /// Nothing that the operation takes.
    None,
    /// JSON or a form, as the operation's schema has it.
    Json(Value),
    /// Bytes read whole.
    Bytes(Bytes),
    /// Bytes as they come.
    Stream(ByteStream),
}

/// One request, checked.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub operation: Arc<Operation>,
    /// Its id in the log, the reply and the audit row.
    pub request_id: Uuid,
    /// When it came.
    pub now: DateTime<Utc>,
    /// Whose rows are meant.
    pub tenant: TenantId,
    /// Who asks; nobody known otherwise.
    pub principal: Option<Principal>,
    /// From where.
    pub peer: Peer,
    /// Headers.
    pub headers: HeaderMap,
    /// The path as it was asked for.
    pub target: String,
    /// Parameters of the path.
    pub path: Vec<(String, String)>,
    /// Parameters of the query that the operation knows.
    pub query: Map<String, Value>,
    /// The body.
    pub content: Content,
    /// Sealed under this idempotency key, where one was given.
    pub idempotency: Option<crate::idempotency::Ticket>,
}

impl Call {
    /// A parameter of the path.
    pub fn path_text(&self, name: &str) -> Result<&str, ApiError> {
        let found = self.path.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| Code::NotFound.into())
    }

    /// An id in the path. What is none names nothing.
    pub fn path_id(&self, name: &str) -> Result<Uuid, ApiError> {
        let text = self.path_text(name)?;
        match (text.len(), Uuid::try_parse(text)) {
            (36, Ok(id)) => Ok(id),
            _ => Err(Code::NotFound.into()),
        }
    }

    /// A text in the query.
    pub fn query_text(&self, name: &str) -> Option<&str> {
        self.query.get(name).and_then(Value::as_str)
    }

    /// A switch in the query.
    pub fn query_flag(&self, name: &str) -> Option<bool> {
        self.query.get(name).and_then(Value::as_bool)
    }

    /// A number in the query.
    pub fn query_number(&self, name: &str) -> Option<i64> {
        self.query.get(name).and_then(Value::as_i64)
    }

    /// An id in the query.
    pub fn query_id(&self, name: &str) -> Option<Uuid> {
        self.query_text(name).and_then(|text| Uuid::try_parse(text).ok())
    }

    /// An instant in the query.
    pub fn query_time(&self, name: &str) -> Option<DateTime<Utc>> {
        let text = self.query_text(name)?;
        DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
    }

    /// A header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON; an empty object where there was none.
    pub fn json(&self) -> Value {
        match &self.content {
            Content::Json(value) => value.clone(),
            _ => Value::Object(Map::new()),
        }
    }

    /// The body as a type. What the schema let through and the type refuses is still the caller's fault.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let read = match &self.content {
            Content::Json(value) => T::deserialize(value),
            _ => T::deserialize(&Value::Object(Map::new())),
        };
        read.map_err(|error| ApiError::invalid("", error.to_string()))
    }

    /// The body as it comes, the first time that it is asked for.
    pub fn stream(&self) -> Option<Body> {
        match &self.content {
            Content::Stream(stream) => stream.take(),
            _ => None,
        }
    }

    /// Members of the body, for changes of some fields.
    pub fn members(&self) -> Map<String, Value> {
        match &self.content {
            Content::Json(Value::Object(members)) => members.clone(),
            _ => Map::new(),
        }
    }

    /// Who asks. The pipeline lets nobody through whom the operation does not allow.
    pub fn principal(&self) -> Result<&Principal, ApiError> {
        self.principal.as_ref().ok_or_else(|| Code::Unauthorized.into())
    }

    /// The asking user's id.
    pub fn user_id(&self) -> Result<Uuid, ApiError> {
        self.principal().map(|principal| principal.user_id)
    }

    /// The sign-in that the caller's token belongs to.
    pub fn session_id(&self) -> Option<Uuid> {
        match self.principal.as_ref()?.via {
            Via::Token { session_id, .. } => Some(session_id),
            Via::Key { .. } => None,
        }
    }

    /// Whether the caller moderates (by token: keys act as users).
    pub fn moderates(&self) -> bool {
        self.has_role(Role::Moderator)
    }

    /// Whether the caller administrates.
    pub fn administrates(&self) -> bool {
        self.has_role(Role::Admin)
    }

    fn has_role(&self, role: Role) -> bool {
        let by_token = |principal: &&Principal| matches!(principal.via, Via::Token { .. });
        self.principal
            .as_ref()
            .filter(by_token)
            .is_some_and(|principal| principal.role >= role)
    }

    /// Whether the caller holds an API key.
    pub fn is_by_key(&self) -> bool {
        matches!(
            self.principal.as_ref().map(|principal| &principal.via),
            Some(Via::Key(_))
        )
    }

    /// Whether the caller reaches every library item of the tenant (AK-8): a moderator, or a key made for that.
    pub fn reaches_all(&self) -> bool {
        let by_key = |principal: &Principal| matches!(&principal.via, Via::Key(key) if key.tenant_access);
        self.moderates() || self.principal.as_ref().is_some_and(by_key)
    }

    /// Whether the caller reaches the library items of `owner` (ME-1).
    pub fn reaches(&self, owner: Uuid) -> bool {
        self.reaches_all()
            || self
                .principal
                .as_ref()
                .is_some_and(|principal| principal.user_id == owner)
    }

    /// Refuses API keys where only some uses of an operation are closed to them.
    pub fn refuse_key(&self) -> Result<(), ApiError> {
        match self.principal()?.via {
            Via::Key { .. } => Err(Code::ApiKeyNotAllowed.into()),
            Via::Token { .. } => Ok(()),
        }
    }

    /// Checks `If-Match` against a row's version.
    pub fn check_version(&self, version: i64) -> Result<(), ApiError> {
        let Some(header) = self.headers.get(axum::http::header::IF_MATCH) else {
            return Ok(());
        };
        let text = header.to_str().unwrap_or_default();
        match crate::reply::if_match(text, version) {
            true => Ok(()),
            false => Err(Code::PreconditionFailed.into()),
        }
    }

    /// What page of a list is asked for. `scope` is all else that its rows depend on.
    pub fn page(&self, query: &PageQuery, scope: &str) -> Result<PageRequest, ApiError> {
        query.read(&self.query, scope)
    }
}
