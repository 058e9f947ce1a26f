//! Grants: what lets a viewer have a title's manifests, segments and keys.
//!
//! A grant is a Common Access Token (CTA-5007-B): a CBOR Web Token (RFC 8392) in a COSE_Mac0 with HMAC-SHA-256, written in
//! base64url without padding. Whoever holds one of the two keys verifies it without asking anyone. It travels as the path
//! segment `~{token}` right after the media id, so that relative URLs inherit it. Whether its session was ended since is
//! the caller's question: nothing here remembers.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod cbor;
mod claims;
mod cose;
mod key;
mod uri;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub use self::key::{GrantKey, GrantKeyError, GrantKeys};
pub use self::uri::{UriMatch, UriPart, UriRule};
use crate::crypto::ProtectionScheme;
use crate::limits;

/// What a viewer may have. Times are seconds since the Unix epoch, as in every CWT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// `iss`: who made it.
    pub issuer: Option<String>,
    /// `aud`: whom it is for; empty for everyone.
    pub audience: Vec<String>,
    /// `cti`: the session, or the signed link, that it belongs to.
    pub session: Option<Vec<u8>>,
    /// `catu`: all of these hold of a request's URI without the token's segment. One must tell where the path begins.
    pub uri: Vec<UriRule>,
    /// `catm`: allowed methods; `None` allows all.
    pub methods: Option<Vec<String>>,
    /// `iat`: when it was made.
    pub issued: Option<u64>,
    /// `nbf`: the first second in which it holds.
    pub not_before: Option<u64>,
    /// `exp`: the first second in which it holds no more.
    pub expires: u64,
    /// Whose title it is.
    pub tenant: Option<String>,
    /// Highest picture it opens, in pixels.
    pub height_max: Option<u32>,
    /// Protections it opens; `None` opens all.
    pub schemes: Option<Vec<GrantScheme>>,
    /// Part of the title or channel that it opens.
    pub window: Option<TimeWindow>,
    /// `catr`: how it may be exchanged for a later one.
    pub renewal: Option<Renewal>,
    /// Which variants of A/B watermarked segments this viewer gets; opaque here.
    pub watermark: Option<Vec<u8>>,
}

/// A way to protect segments that a grant can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GrantScheme {
    /// Not protected.
    Clear,
    /// Common Encryption.
    Common(ProtectionScheme),
    /// HLS whole-segment encryption.
    Aes128,
    /// HLS sample encryption in MPEG-TS.
    SampleAes,
}

impl GrantScheme {
    /// All of them.
    pub const ALL: [GrantScheme; 7] = [
        GrantScheme::Clear,
        GrantScheme::Common(ProtectionScheme::Cenc),
        GrantScheme::Common(ProtectionScheme::Cens),
        GrantScheme::Common(ProtectionScheme::Cbc1),
        GrantScheme::Common(ProtectionScheme::Cbcs),
        GrantScheme::Aes128,
        GrantScheme::SampleAes,
    ];

    /// As claims spell it: `clear`, `cenc`, `cens`, `cbc1`, `cbcs`, `aes-128`, `sample-aes`.
    pub fn name(self) -> &'static str {
        match self {
            GrantScheme::Clear => "clear",
            GrantScheme::Common(scheme) => scheme.name(),
            GrantScheme::Aes128 => "aes-128",
            GrantScheme::SampleAes => "sample-aes",
        }
    }

    /// What [`GrantScheme::name`] wrote.
    pub fn parse(name: &str) -> Option<GrantScheme> {
        GrantScheme::ALL.into_iter().find(|scheme| scheme.name() == name)
    }
}

/// A part of a title (milliseconds of presentation time) or of a channel (milliseconds since the Unix epoch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWindow {
    /// First instant.
    pub start_ms: u64,
    /// First instant that is out again; `None` for an open end.
    pub end_ms: Option<u64>,
}

impl TimeWindow {
    /// No instant lies in it.
    pub fn is_empty(&self) -> bool {
        self.end_ms.is_some_and(|end| end <= self.start_ms)
    }

    /// Whether something that lasts from `start_ms` until before `end_ms` touches it.
    pub fn overlaps(&self, start_ms: u64, end_ms: u64) -> bool {
        end_ms > self.start_ms && self.end_ms.is_none_or(|end| start_ms < end)
    }
}

/// `catr`: how a client gets a later token (CTA-5007-B 4.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Where the new token goes.
    pub kind: RenewalKind,
    /// `expadd`: seconds from renewal to the new expiry.
    pub add_seconds: u64,
    /// `deadline`, as written; carried and not acted upon, for issuers differ in what they count it from.
    pub deadline: Option<u64>,
    /// `cookie-name`
    pub cookie_name: Option<String>,
    /// `header-name`
    pub header_name: Option<String>,
    /// `cookie-params`
    pub cookie_parameters: Vec<String>,
    /// `header-params`
    pub header_parameters: Vec<String>,
    /// `code`: status of a redirect.
    pub code: Option<u16>,
}

/// `type` of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalKind {
    /// The server chooses.
    Automatic,
    /// In a cookie.
    Cookie,
    /// In a response header.
    Header,
    /// By a redirect.
    Redirect,
}

impl RenewalKind {
    fn label(self) -> u64 {
        match self {
            RenewalKind::Automatic => 0,
            RenewalKind::Cookie => 1,
            RenewalKind::Header => 2,
            RenewalKind::Redirect => 3,
        }
    }

    fn from_label(label: u64) -> Option<RenewalKind> {
        let kinds = [
            RenewalKind::Automatic,
            RenewalKind::Cookie,
            RenewalKind::Header,
            RenewalKind::Redirect,
        ];
        kinds.into_iter().find(|kind| kind.label() == label)
    }
}

/// What a grant is held against.
#[derive(Clone, Copy, Debug)]
pub struct GrantRequest<'a> {
    /// HTTP method, in capitals.
    pub method: &'a str,
    /// `http` or `https`, where the caller knows; a grant that asks for it is refused where not.
    pub scheme: Option<&'a str>,
    /// Host name without port, where the caller knows.
    pub host: Option<&'a str>,
    /// Path without the token's segment and without query: see [`Carried`].
    pub path: &'a str,
    /// The name by which this verifier goes in `aud`; a grant with another `aud` is refused.
    pub audience: Option<&'a str>,
    /// The only issuer taken; `None` takes every holder of a key.
    pub issuer: Option<&'a str>,
    /// Seconds since the Unix epoch.
    pub now: u64,
}

/// Why a token opens nothing. Bytes that were not proved by a key are never told apart further than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantRefusal {
    /// Not a token, or not one in the one form that is read.
    #[error("malformed grant: {0}")]
    Malformed(&'static str),
    /// Made with another key than it names, or changed.
    #[error("the grant's signature is wrong")]
    BadSignature,
    /// Names no key, or one that is not in force.
    #[error("the grant names no key in force")]
    UnknownKey,
    /// `exp` has come.
    #[error("the grant has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("the grant is not valid yet")]
    NotYetValid,
    /// `catu` does not open this URI.
    #[error("the grant is for another path")]
    WrongPath,
    /// `catm` does not name this method.
    #[error("the grant does not allow this method")]
    WrongMethod,
    /// `aud` or `iss` name others.
    #[error("the grant is for another audience or of another issuer")]
    WrongAudience,
    /// Holds a condition that can not be evaluated here.
    #[error("the grant has a claim that is not understood")]
    UnknownClaim,
}

impl GrantRefusal {
    /// For metrics.
    pub fn label(self) -> &'static str {
        match self {
            GrantRefusal::Malformed(_) => "malformed",
            GrantRefusal::BadSignature => "bad_signature",
            GrantRefusal::UnknownKey => "unknown_key",
            GrantRefusal::Expired => "expired",
            GrantRefusal::NotYetValid => "not_yet_valid",
            GrantRefusal::WrongPath => "wrong_path",
            GrantRefusal::WrongMethod => "wrong_method",
            GrantRefusal::WrongAudience => "wrong_audience",
            GrantRefusal::UnknownClaim => "unknown_claim",
        }
    }
}

/// Why a grant can not be minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantMintError {
    /// No rule says with what the path begins, or one says it without the slash that ends a name.
    #[error("a grant must say with what the path begins, up to a slash")]
    NoPath,
    /// Two rules compare one part in one way.
    #[error("a grant compares one part of the URI twice in one way")]
    RepeatedRule,
    /// It never holds, or opens no instant.
    #[error("a grant's times leave nothing between them")]
    Empty,
    /// A list is empty where it would allow nothing, or longer than [`limits::GRANT_LIST_COUNT_MAX`].
    #[error(
        "a list in a grant is empty or has more than {} entries",
        limits::GRANT_LIST_COUNT_MAX
    )]
    List,
    /// The token is longer than [`limits::GRANT_SIZE_BYTES_MAX`].
    #[error("the grant needs {size_bytes} characters, {max} are allowed", max = limits::GRANT_SIZE_BYTES_MAX)]
    TooLong {
        /// Characters it needs.
        size_bytes: usize,
    },
}

/// A minted token. Whoever has it has what it grants, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct GrantToken(String);

impl GrantToken {
    /// base64url, for a cookie or an `Authorization: Bearer` header.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `~{token}`, the segment that follows the media id in a path.
    pub fn path_segment(&self) -> String {
        format!("~{}", self.0)
    }
}

/// A request's path, taken apart from the token it carries.
#[derive(Clone, PartialEq, Eq)]
pub struct Carried<'a> {
    /// What follows `~`, not yet believed.
    pub token: Option<&'a str>,
    /// The path without that segment.
    pub path: Cow<'a, str>,
}

impl<'a> Carried<'a> {
    /// Takes the token out of `/{root}/{id}/~{token}/…`. Only there: elsewhere `~` is part of a name.
    pub fn split(path: &'a str) -> Carried<'a> {
        let found = Carried::find(path);
        found.unwrap_or(Carried {
            token: None,
            path: Cow::Borrowed(path),
        })
    }

    fn find(path: &'a str) -> Option<Carried<'a>> {
        let (root, rest) = path.strip_prefix('/')?.split_once('/')?;
        let (id, rest) = rest.split_once('/')?;
        let (token, rest) = rest.strip_prefix('~')?.split_once('/')?;
        Some(Carried {
            token: Some(token),
            path: Cow::Owned(format!("/{root}/{id}/{rest}")),
        })
    }
}

impl Grant {
    /// GET and HEAD of everything below `path_prefix` until `expires`. The prefix ends with a slash, or it would open
    /// `/vod/f12` to who may have `/vod/f1`.
    pub fn new(path_prefix: &str, expires: u64) -> Grant {
        Grant {
            issuer: None,
            audience: Vec::new(),
            session: None,
            uri: vec![UriRule {
                part: UriPart::Path,
                way: UriMatch::Prefix,
                value: path_prefix.to_owned(),
            }],
            methods: Some(vec!["GET".to_owned(), "HEAD".to_owned()]),
            issued: None,
            not_before: None,
            expires,
            tenant: None,
            height_max: None,
            schemes: None,
            window: None,
            renewal: None,
            watermark: None,
        }
    }

    /// Signs it with the current key.
    pub fn mint(&self, keys: &GrantKeys) -> Result<GrantToken, GrantMintError> {
        self.check_mintable()?;
        let token = URL_SAFE_NO_PAD.encode(cose::write(keys.current(), &claims::write(self)));
        match token.len() {
            size_bytes if size_bytes > limits::GRANT_SIZE_BYTES_MAX => Err(GrantMintError::TooLong { size_bytes }),
            _ => Ok(GrantToken(token)),
        }
    }

    fn check_mintable(&self) -> Result<(), GrantMintError> {
        let open_ended =
            |rule: &UriRule| (rule.part, rule.way) == (UriPart::Path, UriMatch::Prefix) && !rule.value.ends_with('/');
        if !uri::name_path(&self.uri) || self.uri.iter().any(open_ended) {
            return Err(GrantMintError::NoPath);
        }
        let mut ways: Vec<_> = self.uri.iter().map(|rule| (rule.part, rule.way)).collect();
        ways.sort();
        ways.dedup();
        if ways.len() != self.uri.len() {
            return Err(GrantMintError::RepeatedRule);
        }
        let never = self.not_before.is_some_and(|start| start >= self.expires);
        if never || self.window.as_ref().is_some_and(TimeWindow::is_empty) {
            return Err(GrantMintError::Empty);
        }
        let renewal = self.renewal.as_ref();
        let shortest = [self.methods.as_ref().map(Vec::len), self.schemes.as_ref().map(Vec::len)];
        let longest = [
            self.audience.len(),
            renewal.map_or(0, |renewal| renewal.cookie_parameters.len()),
            renewal.map_or(0, |renewal| renewal.header_parameters.len()),
        ];
        let counts = shortest.into_iter().flatten().chain(longest);
        if shortest.contains(&Some(0)) || counts.max() > Some(limits::GRANT_LIST_COUNT_MAX) {
            return Err(GrantMintError::List);
        }
        Ok(())
    }

    /// Reads `token`, proves it with the key it names and holds it against `request`.
    ///
    /// The signature is checked before any claim is read. A verifier that keeps verified grants must hold each further
    /// request against [`Grant::allows`].
    pub fn verify(token: &str, keys: &GrantKeys, request: &GrantRequest<'_>) -> Result<Grant, GrantRefusal> {
        if token.len() > limits::GRANT_SIZE_BYTES_MAX {
            return Err(GrantRefusal::Malformed("longer than grants are"));
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| GrantRefusal::Malformed("not base64url"))?;
        let message = cose::Mac0::read(&bytes)?;
        let key = keys.find(message.kid).ok_or(GrantRefusal::UnknownKey)?;
        let grant = claims::read(message.verify(key)?)?;
        grant.allows(request)?;
        Ok(grant)
    }

    /// Whether a grant that was proved before opens `request`. Neither `exp` nor `nbf` has leeway (CTA-5007-B 4.6.3,
    /// 4.6.4).
    pub fn allows(&self, request: &GrantRequest<'_>) -> Result<(), GrantRefusal> {
        if request.now >= self.expires {
            return Err(GrantRefusal::Expired);
        }
        if self.not_before.is_some_and(|start| request.now < start) {
            return Err(GrantRefusal::NotYetValid);
        }
        let heard =
            self.audience.is_empty() || self.audience.iter().any(|name| Some(name.as_str()) == request.audience);
        let known = request.issuer.is_none() || request.issuer == self.issuer.as_deref();
        if !heard || !known {
            return Err(GrantRefusal::WrongAudience);
        }
        if let Some(methods) = &self.methods
            && !methods.iter().any(|method| method == request.method)
        {
            return Err(GrantRefusal::WrongMethod);
        }
        uri::check(&self.uri, request)
    }

    /// Whether it opens pictures of `height` pixels.
    pub fn allows_height(&self, height: u32) -> bool {
        self.height_max.is_none_or(|most| height <= most)
    }

    /// Whether it opens segments that are protected like this.
    pub fn allows_scheme(&self, scheme: GrantScheme) -> bool {
        self.schemes.as_ref().is_none_or(|schemes| schemes.contains(&scheme))
    }

    /// The grant that replaces it at `now`, if it may be renewed and still holds: `expadd` later, never earlier than
    /// before.
    pub fn renewed(&self, now: u64) -> Option<Grant> {
        let renewal = self.renewal.as_ref().filter(|_| now < self.expires)?;
        Some(Grant {
            issued: Some(now),
            expires: now.saturating_add(renewal.add_seconds).max(self.expires),
            ..self.clone()
        })
    }
}
