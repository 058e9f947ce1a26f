//! Gate: whose grant lets a player have licences of a title.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use packager::grant::{Grant, GrantKeys, GrantRefusal, GrantRequest};

use super::LicenseSystem;

/// Whether the session with this id has ended.
type Ended = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Verifies grants: the very tokens that open a title's manifests.
pub struct Gate {
    keys: GrantKeys,
    has_ended: Ended,
}

/// Why a grant lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateRefusal {
    /// It does not hold, or not for this title.
    #[error(transparent)]
    Grant(#[from] GrantRefusal),
    /// Its session has ended.
    #[error("the grant's session has ended")]
    Ended,
}

impl GateRefusal {
    /// For logs: says nothing of the token.
    pub fn label(self) -> &'static str {
        match self {
            GateRefusal::Grant(refusal) => refusal.label(),
            GateRefusal::Ended => "revoked",
        }
    }
}

impl Gate {
    /// Grants made with one of `keys`, unless `has_ended` says so of their session.
    pub fn new(keys: GrantKeys, has_ended: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Gate {
        Gate {
            keys,
            has_ended: Box::new(has_ended),
        }
    }

    /// The grant behind `token`, if it opens `content_id`. Asking for a licence counts as GET below the title's path, so
    /// whoever may play a title may ask for its licences.
    pub fn admit(&self, token: &str, content_id: &str, system: LicenseSystem, now: u64) -> Result<Grant, GateRefusal> {
        let path = format!("/vod/{content_id}/license/{system}");
        let request = GrantRequest {
            method: "GET",
            scheme: None,
            host: None,
            path: &path,
            audience: None,
            issuer: None,
            now,
        };
        let grant = Grant::verify(token, &self.keys, &request)?;
        match grant.session.as_ref().is_some_and(|session| (self.has_ended)(session)) {
            true => Err(GateRefusal::Ended),
            false => Ok(grant),
        }
    }
}
