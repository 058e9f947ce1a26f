//! Errors: every code of the API with its one status, and the body in which it is told.

use std::borrow::Cow;
use std::fmt;

use axum::http::StatusCode;
use serde_json::{Value, json};

/// Declares [`Code`] from rows of `Name = status "CODE" "meaning"`.
macro_rules! codes {
    ($($name:ident = $status:literal $text:literal $meaning:literal,)*) => {
        /// What can go wrong, as clients know it. A code has one status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $meaning] $name,)*
        }

        impl Code {
            /// All of them, by status.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// As it is written in bodies.
            pub fn name(self) -> &'static str {
                match self { $(Code::$name => $text),* }
            }

            /// The HTTP status it always comes with.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status),* }
            }

            /// What it means, for people.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => $meaning),* }
            }
        }
    };
}

codes! {
    BadRequest = 400 "BAD_REQUEST" "Body is not JSON, or the query cannot be parsed.",
    InvalidParameter = 400 "INVALID_PARAMETER" "A query or header parameter is out of range or contradicts another.",
    InvalidCursor = 400 "INVALID_CURSOR" "Cursor malformed or made for other filters.",
    InvalidSort = 400 "INVALID_SORT" "Sort field not allowed on this list.",
    InvalidFields = 400 "INVALID_FIELDS" "Unknown name in fields or include.",
    DeviceIdRequired = 400 "DEVICE_ID_REQUIRED" "X-Device-Id missing where required, or longer than 128.",
    Unauthorized = 401 "UNAUTHORIZED" "No credentials, or token or key invalid, revoked or of an untrusted issuer.",
    TokenExpired = 401 "TOKEN_EXPIRED" "Access token expired; refresh it.",
    InvalidCredentials = 401 "INVALID_CREDENTIALS" "Wrong e-mail or password (one message for both).",
    RefreshTokenInvalid = 401 "REFRESH_TOKEN_INVALID" "Refresh token unknown, expired or revoked.",
    RefreshTokenReused = 401 "REFRESH_TOKEN_REUSED" "A rotated refresh token came back; its whole family is revoked.",
    SignatureInvalid = 401 "SIGNATURE_INVALID" "Signature of a payment-provider callback or an upload URL is wrong or expired.",
    MediaTokenRequired = 401 "MEDIA_TOKEN_REQUIRED" "Media route without path token or cookie.",
    PaymentFailed = 402 "PAYMENT_FAILED" "Provider declined.",
    Forbidden = 403 "FORBIDDEN" "Role or ownership does not allow this.",
    ApiKeyNotAllowed = 403 "API_KEY_NOT_ALLOWED" "Operation closed to API keys.",
    InsufficientScope = 403 "INSUFFICIENT_SCOPE" "API key lacks the scope.",
    WrongTenant = 403 "WRONG_TENANT" "Resource belongs to another tenant.",
    AccountSuspended = 403 "ACCOUNT_SUSPENDED" "Account status is suspended.",
    AccountBanned = 403 "ACCOUNT_BANNED" "Account status is banned.",
    EmailNotVerified = 403 "EMAIL_NOT_VERIFIED" "Setting requires a verified e-mail.",
    RegistrationDisabled = 403 "REGISTRATION_DISABLED" "Self-registration is off.",
    CaptchaRequired = 403 "CAPTCHA_REQUIRED" "A solved challenge is needed.",
    HttpsRequired = 403 "HTTPS_REQUIRED" "Plain HTTP refused.",
    InvalidProfile = 403 "INVALID_PROFILE" "X-Profile-Id is not a profile of this account.",
    ProfileRestricted = 403 "PROFILE_RESTRICTED" "Title exceeds the profile's maturity limit.",
    DeviceNotRegistered = 403 "DEVICE_NOT_REGISTERED" "Device unknown, removed or of another account.",
    DeviceMismatch = 403 "DEVICE_MISMATCH" "Session, licence or download belongs to another device.",
    SubscriptionRequired = 403 "SUBSCRIPTION_REQUIRED" "No active subscription.",
    PlanUpgradeRequired = 403 "PLAN_UPGRADE_REQUIRED" "Active subscription does not cover this title or feature.",
    QualityNotEntitled = 403 "QUALITY_NOT_ENTITLED" "Requested quality above max_quality.",
    DownloadNotEntitled = 403 "DOWNLOAD_NOT_ENTITLED" "Plan has no downloads.",
    GeoRestricted = 403 "GEO_RESTRICTED" "Caller's territory is not allowed.",
    NotYetAvailable = 403 "NOT_YET_AVAILABLE" "Before available_from or status scheduled.",
    AvailabilityEnded = 403 "AVAILABILITY_ENDED" "After available_until.",
    CatchupNotAvailable = 403 "CATCHUP_NOT_AVAILABLE" "Channel or programme has no catch-up.",
    NoActiveSession = 403 "NO_ACTIVE_SESSION" "Licence asked without a live stream session or valid download.",
    MediaTokenInvalid = 403 "MEDIA_TOKEN_INVALID" "Media token expired, revoked, or for another item.",
    RemoteDownloadDisabled = 403 "REMOTE_DOWNLOAD_DISABLED" "Off globally or for this user.",
    UploadNotAllowed = 403 "UPLOAD_NOT_ALLOWED" "Uploads are off for this user, or a target needs the moderator role.",
    StorageQuotaExceeded = 403 "STORAGE_QUOTA_EXCEEDED" "Tenant, user or download storage quota is used up.",
    NotFound = 404 "NOT_FOUND" "No such resource, or not visible to this caller.",
    SessionNotFound = 404 "SESSION_NOT_FOUND" "No such stream session for this account.",
    NoCurrentProgram = 404 "NO_CURRENT_PROGRAM" "No programme airing on the channel now.",
    NoActiveSubscription = 404 "NO_ACTIVE_SUBSCRIPTION" "The account has no current subscription.",
    MethodNotAllowed = 405 "METHOD_NOT_ALLOWED" "Wrong method for the path.",
    Conflict = 409 "CONFLICT" "Generic state conflict.",
    EmailTaken = 409 "EMAIL_TAKEN" "E-mail already used in this tenant.",
    SlugTaken = 409 "SLUG_TAKEN" "Slug already used.",
    NameTaken = 409 "NAME_TAKEN" "Name already used in this scope.",
    InvalidStateTransition = 409 "INVALID_STATE_TRANSITION" "Not allowed from the present status.",
    ContentNotDeletable = 409 "CONTENT_NOT_DELETABLE" "Status does not permit deletion.",
    SeasonExists = 409 "SEASON_EXISTS" "Season number already present in the show.",
    EpisodeExists = 409 "EPISODE_EXISTS" "Episode number already present in the season.",
    SeasonHasPublishedEpisodes = 409 "SEASON_HAS_PUBLISHED_EPISODES" "At least one episode was published at some time.",
    ChannelNumberTaken = 409 "CHANNEL_NUMBER_TAKEN" "LCN already used in the tenant.",
    ProgramOverlap = 409 "PROGRAM_OVERLAP" "Overlaps another programme of the channel.",
    ProgramNotAired = 409 "PROGRAM_NOT_AIRED" "Catch-up asked for a programme that has not ended.",
    StartoverUnavailable = 409 "STARTOVER_UNAVAILABLE" "Live buffer no longer reaches the programme's start.",
    ChannelOffline = 409 "CHANNEL_OFFLINE" "Channel is not live.",
    GenreInUse = 409 "GENRE_IN_USE" "Published content uses the genre.",
    GenreHasChildren = 409 "GENRE_HAS_CHILDREN" "Genre has child genres.",
    GeoRuleInUse = 409 "GEO_RULE_IN_USE" "Rule still attached to content.",
    MediaInUse = 409 "MEDIA_IN_USE" "Asset is attached to published content.",
    MediaNotReady = 409 "MEDIA_NOT_READY" "No playable rendition yet.",
    UploadIncomplete = 409 "UPLOAD_INCOMPLETE" "Completion before all bytes arrived.",
    UploadNotCancellable = 409 "UPLOAD_NOT_CANCELLABLE" "Transcode already completed.",
    UploadOffsetMismatch = 409 "UPLOAD_OFFSET_MISMATCH" "Chunk does not start at the current offset.",
    RemoteDownloadState = 409 "REMOTE_DOWNLOAD_STATE" "Status does not permit this action.",
    FolderNotEmpty = 409 "FOLDER_NOT_EMPTY" "Folder has content and recursive is false.",
    FolderCycle = 409 "FOLDER_CYCLE" "Folder would become its own ancestor.",
    DeviceLimitReached = 409 "DEVICE_LIMIT_REACHED" "Plan's max_devices reached.",
    ProfileLimitReached = 409 "PROFILE_LIMIT_REACHED" "Plan's max_profiles reached.",
    LastProfile = 409 "LAST_PROFILE" "The default profile cannot be deleted.",
    LastAdmin = 409 "LAST_ADMIN" "The tenant's last active admin cannot be removed or demoted.",
    ConcurrencyLimitReached = 409 "CONCURRENCY_LIMIT_REACHED" "Plan's max_concurrent_streams reached.",
    DownloadQuotaExceeded = 409 "DOWNLOAD_QUOTA_EXCEEDED" "allow_download_count reached.",
    RecordingQuotaExceeded = 409 "RECORDING_QUOTA_EXCEEDED" "DVR quota reached.",
    SubscriptionExists = 409 "SUBSCRIPTION_EXISTS" "Account already has a live subscription.",
    PlanInUse = 409 "PLAN_IN_USE" "Plan has live subscriptions; retire it instead.",
    DeliveryNotFailed = 409 "DELIVERY_NOT_FAILED" "Only failed deliveries can be redelivered.",
    IdempotencyInProgress = 409 "IDEMPOTENCY_IN_PROGRESS" "First call with this key still running.",
    SessionEnded = 410 "SESSION_ENDED" "Stream session is over; details[0].message carries the reason.",
    CatchupExpired = 410 "CATCHUP_EXPIRED" "Catch-up window of the programme has passed.",
    UploadGone = 410 "UPLOAD_GONE" "Upload was cancelled or expired.",
    PreconditionFailed = 412 "PRECONDITION_FAILED" "If-Match does not match.",
    TusVersionUnsupported = 412 "TUS_VERSION_UNSUPPORTED" "Tus-Resumable is not 1.0.0.",
    BodyTooLarge = 413 "BODY_TOO_LARGE" "JSON body too large.",
    FileTooLarge = 413 "FILE_TOO_LARGE" "File above the limit of this transport.",
    UnsupportedMediaType = 415 "UNSUPPORTED_MEDIA_TYPE" "Content type not accepted here.",
    ValidationError = 422 "VALIDATION_ERROR" "Field validation; see details.",
    PublishValidationFailed = 422 "PUBLISH_VALIDATION_FAILED" "Required-before-publishing fields missing; one detail per field.",
    IdempotencyKeyReused = 422 "IDEMPOTENCY_KEY_REUSED" "Key used with another request.",
    EpgWindowTooLarge = 422 "EPG_WINDOW_TOO_LARGE" "More than 7 days.",
    UrlNotAllowed = 422 "URL_NOT_ALLOWED" "URL scheme, host or resolved address refused (SSRF guard).",
    SourceUrlNotAllowed = 422 "SOURCE_URL_NOT_ALLOWED" "EPG feed host not on the allow-list.",
    WebhookUrlNotHttps = 422 "WEBHOOK_URL_NOT_HTTPS" "Webhook URL must be HTTPS.",
    RawDeviceIdentifier = 422 "RAW_DEVICE_IDENTIFIER" "Fingerprint is not a digest.",
    InvalidMedia = 422 "INVALID_MEDIA" "File failed import validation.",
    CouponInvalid = 422 "COUPON_INVALID" "Coupon unknown, expired, exhausted or not for this plan.",
    ConfirmationRequired = 422 "CONFIRMATION_REQUIRED" "Confirmation string missing or wrong.",
    InvalidCollectionQuery = 422 "INVALID_COLLECTION_QUERY" "Dynamic query does not parse.",
    CaptchaInvalid = 422 "CAPTCHA_INVALID" "Challenge answer wrong, expired or already used.",
    ActionTokenInvalid = 422 "ACTION_TOKEN_INVALID" "E-mail verification or password-reset token wrong or expired.",
    InvalidLicenseRequest = 422 "INVALID_LICENSE_REQUEST" "CDM challenge cannot be parsed.",
    UploadLocked = 423 "UPLOAD_LOCKED" "Another request writes to this upload.",
    PreconditionRequired = 428 "PRECONDITION_REQUIRED" "If-Match is mandatory on this deployment.",
    RateLimited = 429 "RATE_LIMITED" "Rate limit; Retry-After present.",
    TooManyAttempts = 429 "TOO_MANY_ATTEMPTS" "Login or challenge attempts exhausted for a while.",
    RedeliveryRateLimited = 429 "REDELIVERY_RATE_LIMITED" "Redelivery too soon.",
    UploadChecksumMismatch = 460 "UPLOAD_CHECKSUM_MISMATCH" "tus checksum extension: chunk digest differs.",
    InternalError = 500 "INTERNAL_ERROR" "Unexpected.",
    UpstreamError = 502 "UPSTREAM_ERROR" "Payment, DRM or object-store provider failed.",
    ServiceUnavailable = 503 "SERVICE_UNAVAILABLE" "A needed dependency is down.",
    Maintenance = 503 "MAINTENANCE" "Maintenance mode; admins pass.",
}

impl Code {
    /// The code written `name`.
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.name() == name)
    }

    /// Codes that every operation may answer with.
    pub const STANDARD: &'static [Code] = &[
        Code::BadRequest,
        Code::InvalidParameter,
        Code::Unauthorized,
        Code::TokenExpired,
        Code::Forbidden,
        Code::ApiKeyNotAllowed,
        Code::InsufficientScope,
        Code::WrongTenant,
        Code::AccountSuspended,
        Code::AccountBanned,
        Code::HttpsRequired,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::BodyTooLarge,
        Code::UnsupportedMediaType,
        Code::ValidationError,
        Code::RateLimited,
        Code::InternalError,
        Code::ServiceUnavailable,
        Code::Maintenance,
    ];
}

/// One thing that is wrong, and where: `a.b[0]`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Detail {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// A refusal on its way to the caller.
#[derive(Debug)]
pub struct ApiError {
    /// What clients act upon.
    pub code: Code,
    /// For people; without secrets.
    pub message: Cow<'static, str>,
    /// One row a field, where that helps.
    pub details: Vec<Detail>,
    /// Seconds after which asking again makes sense.
    pub retry_after_s: Option<u32>,
    /// What the log is told and the caller is not.
    pub cause: Option<String>,
}

impl ApiError {
    /// `code` with its own meaning as message.
    pub fn new(code: Code) -> ApiError {
        ApiError {
            code,
            message: Cow::Borrowed(code.meaning()),
            details: Vec::new(),
            retry_after_s: None,
            cause: None,
        }
    }

    /// `code` with a message for people.
    pub fn with(code: Code, message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError {
            message: message.into(),
            ..ApiError::new(code)
        }
    }

    /// A field that is not as it must be.
    pub fn invalid(field: &str, message: impl Into<String>) -> ApiError {
        ApiError::new(Code::ValidationError).detail(field, message)
    }

    /// A query parameter or header that is not as it must be.
    pub fn parameter(name: &str, message: impl Into<String>) -> ApiError {
        ApiError::new(Code::InvalidParameter).detail(name, message)
    }

    /// Adds where it is wrong.
    pub fn detail(mut self, field: &str, message: impl Into<String>) -> ApiError {
        self.details.push(Detail {
            field: field.to_owned(),
            message: message.into(),
        });
        self
    }

    /// Says when to come again.
    pub fn retry_after(mut self, seconds: u32) -> ApiError {
        self.retry_after_s = Some(seconds);
        self
    }

    /// A fault of ours: `cause` goes to the log alone.
    pub fn internal(cause: impl fmt::Display) -> ApiError {
        ApiError {
            cause: Some(cause.to_string()),
            ..ApiError::new(Code::InternalError)
        }
    }

    /// A dependency that does not answer: `cause` goes to the log alone.
    pub fn unavailable(cause: impl fmt::Display) -> ApiError {
        ApiError {
            cause: Some(cause.to_string()),
            retry_after_s: Some(2),
            ..ApiError::new(Code::ServiceUnavailable)
        }
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Its body.
    pub fn body(&self, request_id: &str) -> Value {
        let mut body = json!({ "code": self.code.name(), "message": self.message, "request_id": request_id });
        if !self.details.is_empty() {
            body["details"] = json!(self.details);
        }
        body
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> ApiError {
        ApiError::new(code)
    }
}

impl From<sqlx::Error> for ApiError {
    /// Whether the database is away (come again) or was asked wrongly (a fault of ours).
    fn from(error: sqlx::Error) -> ApiError {
        ApiError::of_database(&error)
    }
}

impl ApiError {
    /// What an error of the database is to the caller.
    pub fn of_database(error: &sqlx::Error) -> ApiError {
        use sqlx::Error::{Database, Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
        match error {
            Io(_) | PoolTimedOut | PoolClosed | Protocol(_) | Tls(_) | WorkerCrashed => ApiError::unavailable(error),
            // Classes of SQLSTATE: 08 connection, 53 resources, 57P shut down, 40 rolled back by the server.
            Database(database) => match database.code().as_deref() {
                Some(state) if ["08", "53", "57", "40"].iter().any(|class| state.starts_with(class)) => {
                    ApiError::unavailable(error)
                }
                _ => ApiError::internal(error),
            },
            _ => ApiError::internal(error),
        }
    }
}

/// Whether `error` is a broken unique constraint of this name.
pub fn breaks(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().and_then(|error| error.constraint()) == Some(constraint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_named_once() {
        for (at, code) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::from_name(code.name()), Some(*code));
            assert!(
                Code::ALL[at + 1..].iter().all(|other| other.name() != code.name()),
                "{code:?}"
            );
            let status = ApiError::new(*code).status();
            assert!(status.is_client_error() || status.is_server_error(), "{code:?}");
        }
    }

    #[test]
    fn body_has_details_only_where_there_are_some() {
        let body = ApiError::new(Code::NotFound).body("r");
        assert_eq!(
            body,
            json!({ "code": "NOT_FOUND", "message": Code::NotFound.meaning(), "request_id": "r" })
        );
        let body = ApiError::invalid("a.b[0]", "must be").body("r");
        assert_eq!(body["details"], json!([{ "field": "a.b[0]", "message": "must be" }]));
    }

    #[test]
    fn a_database_that_is_away_is_no_fault() {
        assert_eq!(ApiError::from(sqlx::Error::PoolTimedOut).code, Code::ServiceUnavailable);
        assert_eq!(ApiError::from(sqlx::Error::RowNotFound).code, Code::InternalError);
    }
}
