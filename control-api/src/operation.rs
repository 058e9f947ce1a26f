//! Operations: the one table that says what can be asked, by whom, and what may be answered.
//!
//! Routing, authorisation, checks of what comes in, the OpenAPI document and the sweeps of the tests all read it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::http::Method;

use crate::app::App;
use crate::call::Call;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::schema::{self, Format, Schema};

/// What a handler returns.
pub type Answer = Result<Reply, ApiError>;
type Future_ = Pin<Box<dyn Future<Output = Answer> + Send>>;
/// Answers calls of one operation.
pub type Handler = Arc<dyn Fn(Arc<App>, Call) -> Future_ + Send + Sync>;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// Everybody; credentials count where they are good.
    Public,
    /// As `Any`; also strangers where the tenant's catalogue is public.
    Catalogue,
    /// A user by token or API key.
    Any,
    /// A user by token.
    Jwt,
    /// A moderator or admin by token.
    Moderator,
    /// An admin by token.
    Admin,
    /// An admin of the platform's tenant by token.
    Platform,
    /// Whoever holds a signed URL; the handler checks it.
    Signed,
}

/// What comes in beside the path and the query.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Nothing.
    None,
    /// JSON that must be there.
    Json(Schema),
    /// JSON that may be left out; an empty object then.
    OptionalJson(Schema),
    /// `application/x-www-form-urlencoded`, as an object of texts.
    Form(Schema),
    /// Bytes of any type, up to so many, read whole.
    Bytes(usize),
    /// Bytes that the handler reads as they come.
    Stream,
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// After `?`.
    Query,
    /// In a header.
    Header,
    /// In the path.
    Path,
}

/// A parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// What it must be. A list is written with commas or repeated.
    pub schema: Schema,
    /// Whether it must be there.
    pub required: bool,
}

/// What can be asked, by whom, and what may be answered.
#[derive(Clone, Debug)]
pub struct Operation {
    /// `area.verb`
    pub id: &'static str,
    /// HTTP method.
    pub method: Method,
    /// Path from the root, `{name}` for parameters.
    pub path: String,
    /// Who may call.
    pub caller: Caller,
    /// One line for people.
    pub summary: &'static str,
    /// What comes in the body.
    pub payload: Payload,
    /// Parameters of the query and headers.
    pub parameters: Vec<Parameter>,
    /// Statuses of success, with what each has in its body.
    pub replies: Vec<(u16, Option<Schema>)>,
    /// Media type of replies that are not JSON.
    pub media_type: Option<&'static str>,
    /// What can go wrong, beside what can everywhere.
    pub errors: Vec<Code>,
    /// Whether `Idempotency-Key` is heard.
    pub idempotent: bool,
    /// Whether `If-Match` is heard.
    pub if_match: bool,
    /// Whether replies carry an `ETag` and `If-None-Match` is heard.
    pub etag: bool,
    /// `Cache-Control` of good replies.
    pub cache_control: &'static str,
    /// Whether its calls count against rate limits.
    pub metered: bool,
    /// Whether it is served on plain HTTP and in maintenance.
    pub bare: bool,
    /// Rules that it carries out, for people.
    pub rules: &'static str,
    /// Headers of all its replies, refusals too.
    pub headers: Vec<(&'static str, &'static str)>,
}

/// An operation and its handler.
#[derive(Clone)]
pub struct Endpoint {
    /// What it is.
    pub operation: Arc<Operation>,
    /// What answers.
    pub handler: Handler,
}

/// Where paths of the API begin.
pub const BASE: &str = "/api/v1";

fn endpoint<F, R>(method: Method, id: &'static str, path: &str, caller: Caller, handler: F) -> Endpoint
where
    F: Fn(Arc<App>, Call) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let path = match path.strip_prefix('/').is_some_and(|rest| rest.starts_with('/')) {
        true => path[1..].to_owned(),
        false => format!("{BASE}{path}"),
    };
    Endpoint {
        operation: Arc::new(Operation {
            id,
            idempotent: false,
            method,
            path,
            caller,
            summary: "",
            payload: Payload::None,
            parameters: Vec::new(),
            replies: Vec::new(),
            media_type: None,
            errors: Vec::new(),
            if_match: false,
            etag: false,
            cache_control: "private, no-cache",
            metered: true,
            bare: false,
            rules: "",
            headers: Vec::new(),
        }),
        handler: Arc::new(move |app, call| Box::pin(handler(app, call))),
    }
}

macro_rules! methods {
    ($($name:ident $method:ident $what:literal;)*) => {
        $(#[doc = $what]
        ///
        /// A path is below [`BASE`] unless it begins with `//`.
        pub fn $name<F, R>(id: &'static str, path: &str, caller: Caller, handler: F) -> Endpoint
        where
            F: Fn(Arc<App>, Call) -> R + Send + Sync + 'static,
            R: Future<Output = Answer> + Send + 'static,
        {
            endpoint(Method::$method, id, path, caller, handler)
        })*
    };
}

methods! {
    get GET "Reads.";
    post POST "Makes or does.";
    put PUT "Replaces.";
    patch PATCH "Changes.";
    delete DELETE "Removes.";
    head HEAD "Asks about.";
    options OPTIONS "Asks what is possible.";
}

impl Endpoint {
    fn edit(mut self, change: impl FnOnce(&mut Operation)) -> Endpoint {
        change(Arc::make_mut(&mut self.operation));
        self
    }

    /// One line for people.
    pub fn summary(self, summary: &'static str) -> Endpoint {
        self.edit(|operation| operation.summary = summary)
    }

    /// Takes a JSON body.
    pub fn json(self, schema: Schema) -> Endpoint {
        self.edit(|operation| operation.payload = Payload::Json(schema))
    }

    /// Takes a JSON body, or none.
    pub fn optional_json(self, schema: Schema) -> Endpoint {
        self.edit(|operation| operation.payload = Payload::OptionalJson(schema))
    }

    /// Takes a form.
    pub fn form(self, schema: Schema) -> Endpoint {
        self.edit(|operation| operation.payload = Payload::Form(schema))
    }

    /// Takes bytes.
    pub fn bytes(self, size_bytes_max: usize) -> Endpoint {
        self.edit(|operation| operation.payload = Payload::Bytes(size_bytes_max))
    }

    /// Takes bytes as they come; they are not counted against rate limits.
    pub fn stream(self) -> Endpoint {
        self.edit(|operation| operation.payload = Payload::Stream)
    }

    /// Answers with a body.
    pub fn reply(self, status: u16, schema: Schema) -> Endpoint {
        self.edit(|operation| operation.replies.push((status, Some(schema))))
    }

    /// Answers without a body.
    pub fn empty(self, status: u16) -> Endpoint {
        self.edit(|operation| operation.replies.push((status, None)))
    }

    /// Answers with a body that is not JSON.
    pub fn media_type(self, media_type: &'static str) -> Endpoint {
        self.edit(|operation| operation.media_type = Some(media_type))
    }

    /// What can go wrong.
    pub fn errors(self, codes: &[Code]) -> Endpoint {
        self.edit(|operation| operation.errors.extend_from_slice(codes))
    }

    /// Hears a parameter of the query.
    pub fn query(self, name: &'static str, schema: Schema) -> Endpoint {
        self.parameter(name, Place::Query, schema, false)
    }

    /// Needs a parameter of the query.
    pub fn query_required(self, name: &'static str, schema: Schema) -> Endpoint {
        self.parameter(name, Place::Query, schema, true)
    }

    /// Hears a header.
    pub fn header(self, name: &'static str, schema: Schema) -> Endpoint {
        self.parameter(name, Place::Header, schema, false)
    }

    fn parameter(self, name: &'static str, place: Place, schema: Schema, required: bool) -> Endpoint {
        self.edit(|operation| {
            if name == "X-Device-Id" && !operation.errors.contains(&Code::DeviceIdRequired) {
                operation.errors.push(Code::DeviceIdRequired);
            }
            operation.parameters.push(Parameter {
                name,
                place,
                schema,
                required,
            });
        })
    }

    /// Hears the parameters of lists: `limit, cursor, offset, include_total`.
    pub fn list(self) -> Endpoint {
        self.query("limit", schema::integer(1, 100))
            .query("cursor", schema::text(1, 4096))
            .query("offset", schema::integer(0, 10_000))
            .query("include_total", Schema::Bool)
            .errors(&[Code::InvalidCursor])
    }

    /// Hears `sort`.
    pub fn sort(self) -> Endpoint {
        self.query("sort", schema::text(1, 50)).errors(&[Code::InvalidSort])
    }

    /// Hears `fields`.
    pub fn fields(self) -> Endpoint {
        self.query("fields", schema::text(1, 1000))
            .errors(&[Code::InvalidFields])
    }

    /// Hears `Idempotency-Key`.
    pub fn idempotent(self) -> Endpoint {
        self.edit(|operation| {
            operation.idempotent = true;
            operation
                .errors
                .extend([Code::IdempotencyInProgress, Code::IdempotencyKeyReused]);
        })
    }

    /// Hears `If-Match`.
    pub fn if_match(self) -> Endpoint {
        self.edit(|operation| {
            operation.if_match = true;
            operation
                .errors
                .extend([Code::PreconditionFailed, Code::PreconditionRequired]);
        })
    }

    /// Replies with an `ETag` and hears `If-None-Match`.
    pub fn etag(self) -> Endpoint {
        self.edit(|operation| operation.etag = true)
    }

    /// How long good replies may be kept.
    pub fn cache_control(self, value: &'static str) -> Endpoint {
        self.edit(|operation| operation.cache_control = value)
    }

    /// Is not counted against rate limits.
    pub fn unmetered(self) -> Endpoint {
        self.edit(|operation| operation.metered = false)
    }

    /// Is served on plain HTTP and in maintenance, uncounted.
    pub fn bare(self) -> Endpoint {
        self.edit(|operation| {
            operation.bare = true;
            operation.metered = false;
        })
    }

    /// Says this header in every reply, refusals too. Its name is in small letters.
    pub fn always(self, name: &'static str, value: &'static str) -> Endpoint {
        self.edit(|operation| operation.headers.push((name, value)))
    }

    /// Rules that it carries out.
    pub fn rules(self, rules: &'static str) -> Endpoint {
        self.edit(|operation| operation.rules = rules)
    }
}

impl Operation {
    /// Names of the parameters in its path.
    pub fn path_names(&self) -> impl Iterator<Item = &str> {
        self.path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// Whether it takes bytes as they come.
    pub fn is_stream(&self) -> bool {
        matches!(self.payload, Payload::Stream)
    }

    /// Whether `fields` may name this: a member of what is answered, or of each item of a list.
    pub fn has_field(&self, name: &str) -> bool {
        let body = self.replies.first().and_then(|(_, schema)| schema.as_ref());
        let members = body.map_or(&[][..], Schema::fields);
        let items = members
            .iter()
            .find(|field| field.name == "data")
            .map(|field| &field.schema);
        let members = match items {
            Some(Schema::Array { items, .. }) => items.fields(),
            _ => members,
        };
        members.iter().any(|field| field.name == name)
    }

    /// Whether a reply of this status is as the table says.
    pub fn has_status(&self, status: u16) -> bool {
        let fails = |codes: &[Code]| codes.iter().any(|code| code.status() == status);
        self.replies.iter().any(|(known, _)| *known == status)
            || (status == 304 && self.etag)
            || fails(&self.errors)
            || fails(Code::STANDARD)
    }
}

/// Header of a device's id.
pub fn device_header() -> Schema {
    schema::text(1, 128)
}

/// Header of a profile's id.
pub fn profile_header() -> Schema {
    schema::formatted(Format::Free, 1, 64)
}
