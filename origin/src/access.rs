//! Who may have what: finds the grant of a request, verifies it, and says what it opens.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::{HeaderMap, header};
use packager::crypto::ProtectionScheme;
use packager::form::Form;
use packager::grant::{Carried, Grant, GrantKeys, GrantRefusal, GrantRequest, GrantScheme, TimeWindow};
use packager::presentation::choice::{Choice, TrackChoice};
use packager::presentation::{Presentation, Representation};

use crate::error::ServeError;
use crate::read::Fingerprint;
use crate::route::VodResource;

/// Name of the cookie that carries a grant.
const COOKIE: &str = "headwater_media";
/// The file of ended sessions is looked at again after this time.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Ended sessions that are remembered; 64 bytes each.
const REVOKED_COUNT_MAX: usize = 1 << 20;

/// The settings of access, checked.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// File with one or two keys that grants are verified with.
    pub grant_keys: PathBuf,
    /// File with the ids of ended sessions, one a line in hexadecimal digits.
    pub revoked: Option<PathBuf>,
}

/// What a viewer may have. Without grants everybody may have everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Highest picture, in pixels.
    height_max: Option<u32>,
    /// Names of the protections it opens; `None` opens all.
    schemes: Option<BTreeSet<&'static str>>,
    /// Start and end of the part that it opens, in milliseconds.
    window: Option<(u64, Option<u64>)>,
    /// Which watermark variants the viewer gets.
    watermark: Option<Vec<u8>>,
}

/// The grant that came with a request, taken out of it.
pub struct Ticket<'a> {
    token: Option<Cow<'a, str>>,
    /// The path without the token.
    pub path: Cow<'a, str>,
    /// The token came in a header: what is answered must not be kept for others.
    pub private: bool,
}

impl<'a> Ticket<'a> {
    /// Finds the grant: in the path, else in `Authorization: Bearer`, else in the cookie. Never in the query.
    pub fn take(path: &'a str, headers: &'a HeaderMap) -> Ticket<'a> {
        let Carried { token, path } = Carried::split(path);
        if let Some(token) = token {
            return Ticket {
                token: Some(Cow::Borrowed(token)),
                path,
                private: false,
            };
        }
        let token = bearer(headers).or_else(|| cookie(headers));
        Ticket {
            private: token.is_some(),
            token: token.map(Cow::Borrowed),
            path,
        }
    }

    /// True when a token came.
    pub fn is_held(&self) -> bool {
        self.token.is_some()
    }

    /// The token as it stood in the path, with its slash, for links of a page.
    pub fn path_segment(&self) -> String {
        match (&self.token, self.private) {
            (Some(token), false) => format!("~{token}/"),
            _ => String::new(),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(header::COOKIE).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// The ids of ended sessions as they were last read.
struct Revoked {
    sessions: Arc<BTreeSet<Vec<u8>>>,
    fingerprint: Option<Fingerprint>,
    checked: Instant,
}

/// Sessions that were ended before their grants.
pub struct EndedSessions {
    file: Option<PathBuf>,
    revoked: Mutex<Revoked>,
}

/// Verifies grants.
pub struct Access {
    keys: GrantKeys,
    ended: EndedSessions,
}

/// Why grants can not be verified.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others may read the keys.
    #[error("{path}: others may read it; chmod 600 it")]
    Mode {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no keys.
    #[error("{path}: {reason}")]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; says nothing of the keys.
        reason: String,
    },
    /// More ended sessions than are remembered; those left out would be let in again.
    #[error("{path}, line {line}: more than {REVOKED_COUNT_MAX} ended sessions")]
    TooMany {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
    },
    /// A line of the ended sessions is not one.
    #[error("{path}, line {line}: not a session id in hexadecimal digits")]
    Session {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
    },
}

impl Access {
    /// Reads the keys and the ended sessions.
    pub fn open(config: &AccessConfig) -> Result<Access, AccessError> {
        use std::os::unix::fs::PermissionsExt;
        let path = &config.grant_keys;
        let failed = |source| AccessError::Read {
            path: path.clone(),
            source,
        };
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(AccessError::Mode { path: path.clone() });
        }
        let text = zeroize::Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
        let keys = GrantKeys::parse(&text).map_err(|error| AccessError::Keys {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        Ok(Access {
            keys,
            ended: EndedSessions::open(config.revoked.as_deref())?,
        })
    }

    /// What the holder of `ticket` may have below `path`. Asking for a licence counts as GET.
    pub fn admit(&self, ticket: &Ticket<'_>, path: &str, head: bool) -> Result<Policy, ServeError> {
        let token = ticket.token.as_deref().ok_or(ServeError::GrantRequired)?;
        // By a clock from before 1970 nothing holds any more.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(u64::MAX, |now| now.as_secs());
        let request = GrantRequest {
            method: if head { "HEAD" } else { "GET" },
            scheme: None,
            host: None,
            path,
            audience: None,
            issuer: None,
            now,
        };
        let refused = |refusal: GrantRefusal| ServeError::GrantRefused {
            reason: refusal.label(),
        };
        let grant = Grant::verify(token, &self.keys, &request).map_err(refused)?;
        if let Some(session) = &grant.session
            && self.ended.has(session)
        {
            return Err(ServeError::GrantRefused { reason: "revoked" });
        }
        Ok(Policy {
            height_max: grant.height_max,
            schemes: grant
                .schemes
                .map(|schemes| schemes.into_iter().map(GrantScheme::name).collect()),
            window: grant.window.map(|TimeWindow { start_ms, end_ms }| (start_ms, end_ms)),
            watermark: grant.watermark,
        })
    }
}

impl EndedSessions {
    /// Reads the file, if there is one.
    pub fn open(file: Option<&Path>) -> Result<EndedSessions, AccessError> {
        let revoked = match file {
            Some(path) => read_revoked(path)?,
            None => Revoked {
                sessions: Arc::default(),
                fingerprint: None,
                checked: Instant::now(),
            },
        };
        Ok(EndedSessions {
            file: file.map(Path::to_owned),
            revoked: Mutex::new(revoked),
        })
    }

    /// Whether the session with this id has ended.
    pub fn has(&self, session: &[u8]) -> bool {
        self.sessions().contains(session)
    }

    /// The ended sessions, read again when their file is another. A file that can not be read leaves the last ones.
    fn sessions(&self) -> Arc<BTreeSet<Vec<u8>>> {
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = revoked.checked.elapsed() > CHECK_INTERVAL;
        if let Some(path) = self.file.as_ref().filter(|_| due) {
            revoked.checked = Instant::now();
            let fingerprint = std::fs::metadata(path).map(|metadata| Fingerprint::of(&metadata)).ok();
            if fingerprint != revoked.fingerprint {
                match read_revoked(path) {
                    Ok(read) => *revoked = read,
                    Err(error) => tracing::error!(%error, "ended sessions could not be read; going on with the last"),
                }
            }
        }
        revoked.sessions.clone()
    }
}

fn read_revoked(path: &Path) -> Result<Revoked, AccessError> {
    let failed = |source| AccessError::Read {
        path: path.to_owned(),
        source,
    };
    let fingerprint = Fingerprint::of(&std::fs::metadata(path).map_err(failed)?);
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let mut sessions = BTreeSet::new();
    for (line, at) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let session = hexadecimal(line).ok_or_else(|| AccessError::Session {
            path: path.to_owned(),
            line: at,
        })?;
        sessions.insert(session);
        if sessions.len() > REVOKED_COUNT_MAX {
            return Err(AccessError::TooMany {
                path: path.to_owned(),
                line: at,
            });
        }
    }
    Ok(Revoked {
        sessions: Arc::new(sessions),
        fingerprint: Some(fingerprint),
        checked: Instant::now(),
    })
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some((digit(*high)? * 16 + digit(*low)?) as u8));
    bytes.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())
}

/// As a grant names what protects `form`.
fn scheme_of(form: Form) -> &'static str {
    let scheme = match form {
        Form::Cmaf | Form::Ts => GrantScheme::Clear,
        Form::CmafProtected(ProtectionScheme::Cenc) => GrantScheme::Common(ProtectionScheme::Cenc),
        Form::CmafProtected(scheme) => GrantScheme::Common(scheme),
        Form::TsAes128 => GrantScheme::Aes128,
        Form::TsSampleAes => GrantScheme::SampleAes,
    };
    scheme.name()
}

impl Policy {
    /// Which watermark variants the viewer gets ([`packager::presentation::variant`]).
    pub fn watermark(&self) -> Option<&[u8]> {
        self.watermark.as_deref()
    }

    /// Everything may be had.
    pub fn is_open(&self) -> bool {
        *self == Policy::default()
    }

    /// Everything with pictures of at most `height_max`.
    #[cfg(test)]
    pub(crate) fn up_to_height(height_max: u32) -> Policy {
        Policy {
            height_max: Some(height_max),
            ..Policy::default()
        }
    }

    /// Whether `form` may be had.
    pub fn allows(&self, form: Form) -> bool {
        self.schemes
            .as_ref()
            .is_none_or(|schemes| schemes.contains(scheme_of(form)))
    }

    /// Start and end of the part that may be had, in milliseconds; `None` for all.
    pub fn window(&self) -> Option<(u64, Option<u64>)> {
        self.window
    }

    /// `choice` of a presentation of `duration_ms` cut down to what may be had.
    pub fn narrow(&self, choice: &mut Choice, duration_ms: u64) {
        if let Some(height_max) = self.height_max {
            let wanted = choice.tracks.max_height.unwrap_or(height_max);
            choice.tracks.max_height = Some(wanted.min(height_max));
        }
        if let Some((start_ms, end_ms)) = self.window {
            // A window that ends later than the title ends nowhere.
            let end_ms = end_ms.filter(|end_ms| *end_ms < duration_ms);
            choice.media.start_ms = choice.media.start_ms.max(start_ms);
            choice.media.end_ms = match (choice.media.end_ms, end_ms) {
                (Some(wanted), Some(allowed)) => Some(wanted.min(allowed)),
                (wanted, allowed) => wanted.or(allowed),
            };
        }
    }

    /// Narrows what `resource` asks for; what a manifest hides, a URL hides too.
    pub fn apply(&self, resource: &mut VodResource, duration_ms: u64) -> Result<(), ServeError> {
        match resource {
            VodResource::Multivariant { choice, .. } | VodResource::Mpd { choice, .. } => {
                self.narrow(choice, duration_ms);
            }
            VodResource::File { version, .. } => {
                let Some((start_ms, end_ms)) = self.window else {
                    return Ok(());
                };
                let end_ms = end_ms.filter(|end_ms| *end_ms < duration_ms);
                let choice = version
                    .get(16..)
                    .and_then(packager::presentation::choice::MediaChoice::from_name);
                let choice = choice.ok_or(ServeError::NotFound)?;
                let ends = match (choice.end_ms, end_ms) {
                    (_, None) => true,
                    (Some(wanted), Some(allowed)) => wanted <= allowed,
                    (None, Some(_)) => false,
                };
                if choice.start_ms < start_ms || !ends {
                    return Err(ServeError::NotFound);
                }
            }
            VodResource::Thumbs | VodResource::Poster => {}
        }
        Ok(())
    }

    /// Whether some of the pictures of `presentation` are low enough. What a viewer wishes takes the lowest where all are too
    /// high; what a grant allows does not.
    pub fn opens_pictures(&self, presentation: &Presentation) -> bool {
        let videos = presentation.representations.iter().filter_map(Representation::video);
        let lowest = videos.map(|video| video.height).min();
        self.height_max.zip(lowest).is_none_or(|(most, lowest)| lowest <= most)
    }

    /// The tracks that may be had.
    pub fn tracks(&self) -> TrackChoice {
        TrackChoice {
            max_height: self.height_max,
            ..TrackChoice::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_found_where_they_may_be() {
        let check = |path: &str, headers: &[(header::HeaderName, &str)], expected: (Option<&str>, &str, bool)| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(name.clone(), value.parse().unwrap());
            }
            let ticket = Ticket::take(path, &map);
            assert_eq!(
                (ticket.token.as_deref(), &*ticket.path, ticket.private),
                expected,
                "{path}"
            );
        };
        let path = "/vod/film/master.m3u8";
        check(path, &[], (None, path, false));
        check("/vod/film/~tok/master.m3u8", &[], (Some("tok"), path, false));
        check(
            path,
            &[(header::AUTHORIZATION, "Bearer tok")],
            (Some("tok"), path, true),
        );
        check(path, &[(header::AUTHORIZATION, "Basic tok")], (None, path, false));
        check(
            path,
            &[(header::COOKIE, "a=b; headwater_media=tok")],
            (Some("tok"), path, true),
        );
        // The path's wins.
        check(
            "/vod/film/~one/master.m3u8",
            &[(header::COOKIE, "headwater_media=two")],
            (Some("one"), path, false),
        );
        check(
            "/vod/film/master.m3u8?~tok",
            &[],
            (None, "/vod/film/master.m3u8?~tok", false),
        );
    }

    #[test]
    fn choices_are_cut_down_to_the_window() {
        let policy = Policy {
            height_max: Some(720),
            schemes: None,
            window: Some((10_000, Some(60_000))),
            watermark: None,
        };
        let check = |given: (u64, Option<u64>, Option<u32>), expected: (u64, Option<u64>, Option<u32>)| {
            let mut choice = Choice::default();
            choice.media.start_ms = given.0;
            choice.media.end_ms = given.1;
            choice.tracks.max_height = given.2;
            policy.narrow(&mut choice, 100_000);
            let got = (choice.media.start_ms, choice.media.end_ms, choice.tracks.max_height);
            assert_eq!(got, expected);
        };
        check((0, None, None), (10_000, Some(60_000), Some(720)));
        check((20_000, Some(30_000), Some(480)), (20_000, Some(30_000), Some(480)));
        check((0, Some(90_000), Some(1080)), (10_000, Some(60_000), Some(720)));
    }

    #[test]
    fn session_ids_are_hexadecimal() {
        assert_eq!(hexadecimal("00fF"), Some(vec![0, 255]));
        assert_eq!(hexadecimal("0"), None);
        assert_eq!(hexadecimal("zz"), None);
    }
}
