//! Why a request was not served, whose doing it was, and its one mapping to status, log level and metric label.

use hyper::StatusCode;
use packager::presentation::choice::ChoiceError;

/// A request that is not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No such path, presentation, representation, segment or version; also what a form can not carry.
    #[error("no such resource")]
    NotFound,
    /// The parameters of the request make no sense, or none of this presentation.
    #[error("{0}")]
    Choice(ChoiceError),
    /// The method is none of those that the resource has.
    #[error("method not allowed; {allowed} are")]
    MethodNotAllowed {
        /// As `Allow` has them.
        allowed: &'static str,
    },
    /// What the request goes on with is not what is here any more.
    #[error("this is not the version that was asked for any more")]
    Changed,
    /// The source exists but can not be played; the reason is the library's to tell.
    #[error("{media} can not be played: {reason}")]
    Unplayable {
        /// Media id.
        media: String,
        /// Why.
        reason: String,
    },
    /// A file could not be read.
    #[error("storage: {what}")]
    Storage {
        /// File and reason.
        what: String,
    },
    /// Stored samples are not what their index says, so a segment can not be built.
    #[error("damaged media: {what}")]
    Damaged {
        /// What and where.
        what: String,
    },
    /// Too much is asked at once.
    #[error("overloaded: {what}")]
    Overloaded {
        /// What is full.
        what: &'static str,
    },
    /// A key that media is or would be under is not to be had: never clear bytes instead.
    #[error("no key: {what}")]
    MissingKey {
        /// Of what.
        what: String,
    },
    /// The vault can not be read, or a key in it does not open.
    #[error("keys: {what}")]
    Keys {
        /// What is wrong; says nothing of the keys.
        what: String,
    },
    /// The title is for holders of a grant, and none came.
    #[error("a grant is required")]
    GrantRequired,
    /// The grant that came does not open this.
    #[error("the grant does not open this")]
    GrantRefused {
        /// For the log and the metrics alone.
        reason: &'static str,
    },
    /// What was sent can not be read.
    #[error("{what}")]
    BadRequest {
        /// What is wrong with it.
        what: &'static str,
    },
    /// What was to be sent did not come.
    #[error("the request body took too long")]
    SlowBody,
    /// The player library has not been installed.
    #[error("the player is not installed: start headwater with --player DIR (./dev demo does it)")]
    NoPlayer,
}

/// Whose doing a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client asked for what is not there.
    Client,
    /// The machine is short of something; waiting helps.
    Capacity,
    /// Someone must act.
    Us,
}

impl ServeError {
    /// Status, blame and the label in metrics, in one place.
    pub fn outcome(&self) -> (StatusCode, Blame, &'static str) {
        match self {
            ServeError::NotFound => (StatusCode::NOT_FOUND, Blame::Client, "not_found"),
            ServeError::Choice(_) => (StatusCode::BAD_REQUEST, Blame::Client, "parameters"),
            ServeError::Changed => (StatusCode::PRECONDITION_FAILED, Blame::Client, "changed"),
            ServeError::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, Blame::Client, "method"),
            ServeError::Unplayable { .. } => (StatusCode::UNPROCESSABLE_ENTITY, Blame::Client, "unplayable"),
            ServeError::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, Blame::Capacity, "overloaded"),
            ServeError::NoPlayer => (StatusCode::SERVICE_UNAVAILABLE, Blame::Us, "no_player"),
            ServeError::MissingKey { .. } => (StatusCode::NOT_FOUND, Blame::Us, "no_key"),
            ServeError::Keys { .. } => (StatusCode::INTERNAL_SERVER_ERROR, Blame::Us, "keys"),
            ServeError::GrantRequired => (StatusCode::UNAUTHORIZED, Blame::Client, "grant_required"),
            ServeError::GrantRefused { reason } => (StatusCode::FORBIDDEN, Blame::Client, reason),
            ServeError::BadRequest { .. } => (StatusCode::BAD_REQUEST, Blame::Client, "bad_request"),
            ServeError::SlowBody => (StatusCode::REQUEST_TIMEOUT, Blame::Client, "slow_body"),
            ServeError::Storage { .. } => (StatusCode::INTERNAL_SERVER_ERROR, Blame::Us, "storage"),
            ServeError::Damaged { .. } => (StatusCode::INTERNAL_SERVER_ERROR, Blame::Us, "damaged"),
        }
    }

    /// Code in the JSON body.
    pub fn code(&self) -> &'static str {
        match self {
            ServeError::NotFound => "NOT_FOUND",
            ServeError::Choice(_) => "INVALID_PARAMETER",
            ServeError::Changed => "PRECONDITION_FAILED",
            ServeError::MethodNotAllowed { .. } => "METHOD_NOT_ALLOWED",
            ServeError::Unplayable { .. } => "UNPLAYABLE",
            ServeError::Overloaded { .. } => "OVERLOADED",
            ServeError::NoPlayer => "PLAYER_NOT_INSTALLED",
            ServeError::MissingKey { .. } => "NOT_FOUND",
            ServeError::Keys { .. } => "KEYS",
            ServeError::GrantRequired => "MEDIA_TOKEN_REQUIRED",
            ServeError::GrantRefused { .. } => "MEDIA_TOKEN_INVALID",
            ServeError::BadRequest { .. } => "INVALID_REQUEST",
            ServeError::SlowBody => "REQUEST_TIMEOUT",
            ServeError::Storage { .. } => "STORAGE",
            ServeError::Damaged { .. } => "DAMAGED_MEDIA",
        }
    }
}

impl From<ChoiceError> for ServeError {
    fn from(error: ChoiceError) -> ServeError {
        match error {
            ChoiceError::Index(error) => ServeError::Damaged {
                what: error.to_string(),
            },
            error => ServeError::Choice(error),
        }
    }
}
