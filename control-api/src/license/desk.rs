//! Desk: gets licences of titles for whoever was let in, from whoever issues them.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use packager::crypto::{KeyId, ProtectionScheme};
use packager::grant::Grant;

use super::{
    IssueRequest, Issuer, License, LicenseError, LicensePolicy, LicenseSystem, LicensedKey, Named, Terms, entitled,
};

/// A title's keys, those that may be given to players.
pub struct Title {
    /// Whose title it is.
    pub tenant: String,
    /// Its keys.
    pub keys: Vec<LicensedKey>,
}

/// Why a title's keys can not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the keys are not available")]
pub struct TitleError;

/// Whoever has titles' keys.
pub trait Titles: Send + Sync + 'static {
    /// The keys of a title; `None` when it has none. What goes wrong is logged there. May block.
    fn title(&self, content_id: &str) -> Result<Option<Title>, TitleError>;

    /// The same where it is known without blocking.
    fn kept(&self, content_id: &str) -> Option<Title>;
}

/// Everything that licences are made with.
pub struct Desk {
    /// The keys.
    pub titles: Arc<dyn Titles>,
    /// On what terms.
    pub policy: LicensePolicy,
    /// One for each system that is offered.
    pub issuers: Vec<Issuer>,
}

/// What somebody who was let in asks for. It has no `Debug`: the challenge is secret.
pub struct Wish<'a> {
    /// Our name for the title.
    pub content_id: &'a str,
    /// Of which system.
    pub system: LicenseSystem,
    /// What the viewer may have.
    pub grant: &'a Grant,
    /// On what terms.
    pub policy: &'a LicensePolicy,
    /// What the player's module wrote.
    pub challenge: &'a [u8],
    /// These keys alone, where there are some.
    pub key_ids: &'a [KeyId],
    /// Keys of this scheme alone.
    pub scheme: Option<ProtectionScheme>,
    /// An id of this request alone.
    pub request_id: &'a str,
    /// Seconds since the Unix epoch.
    pub now: u64,
}

/// A licence and what else is known of it.
pub struct Issued {
    /// The licence.
    pub license: License,
    /// What was asked for.
    pub terms: Terms,
    /// The keys in it.
    pub key_ids: Vec<KeyId>,
}

/// Why there is no licence.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// Nobody issues licences of this system.
    #[error("no licences of this system are issued")]
    NotOffered,
    /// The title has no keys.
    #[error("the title has no keys")]
    NoTitle,
    /// The title is another tenant's than the grant.
    #[error("the title is another tenant's")]
    Foreign,
    /// The keys are not available.
    #[error(transparent)]
    Title(#[from] TitleError),
    /// Refused, by us or by the service.
    #[error(transparent)]
    License(#[from] LicenseError),
}

impl Desk {
    /// Who issues licences of `system`.
    pub fn issuer(&self, system: LicenseSystem) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| issuer.backend().system() == system)
    }

    /// Gets a licence. The order of it matters: what the viewer may have, what is asked for, and only then the service.
    pub async fn issue(&self, wish: &Wish<'_>) -> Result<Issued, DeskError> {
        let issuer = self.issuer(wish.system).ok_or(DeskError::NotOffered)?;
        let title = self.title(wish.content_id).await?.ok_or(DeskError::NoTitle)?;
        if wish.grant.tenant.as_ref().is_some_and(|tenant| *tenant != title.tenant) {
            return Err(DeskError::Foreign);
        }
        let open = entitled(title.keys, wish.grant, wish.system);
        let named = issuer.backend().inspect(wish.challenge)?;
        let keys = narrowed(open, &named, wish)?;
        let terms = wish.policy.terms(wish.grant, wish.now);
        let session = wish.grant.session.as_ref().map(|session| hex(session));
        let request = IssueRequest {
            content_id: wish.content_id,
            tenant: &title.tenant,
            session: session.as_deref(),
            request_id: wish.request_id,
            challenge: wish.challenge,
            keys: &keys,
            terms: &terms,
            now: wish.now,
        };
        let (system, adapter, content_id) = (wish.system, issuer.backend().name(), wish.content_id);
        let license = match issuer.issue(&request).await {
            Ok(license) => license,
            Err(error) => {
                match error {
                    LicenseError::Credentials => {
                        tracing::error!(%system, adapter, "licences: {error}");
                    }
                    _ => tracing::warn!(%system, adapter, content_id, "licences: {error}"),
                }
                return Err(error.into());
            }
        };
        // What is known of a licence that was issued, without a word of what is in it.
        tracing::info!(%system, adapter, content_id, session, keys = keys.len(), expires = terms.expires, "licence issued");
        Ok(Issued {
            license,
            terms,
            key_ids: keys.iter().map(|key| key.key_id).collect(),
        })
    }

    async fn title(&self, content_id: &str) -> Result<Option<Title>, TitleError> {
        if let Some(kept) = self.titles.kept(content_id) {
            return Ok(Some(kept));
        }
        let (titles, id) = (self.titles.clone(), content_id.to_owned());
        let found = tokio::task::spawn_blocking(move || titles.title(&id)).await;
        found.unwrap_or(Err(TitleError))
    }
}

/// The keys that are licensed: those that are open, cut down to what is asked for. A challenge for a key that is not open
/// is refused as a whole where the service would answer it as a whole.
fn narrowed(open: Vec<LicensedKey>, named: &Named, wish: &Wish<'_>) -> Result<Vec<LicensedKey>, LicenseError> {
    let is_open = |key_id: &KeyId| open.iter().any(|key| key.key_id == *key_id);
    if let Named::All(key_ids) = named
        && !key_ids.iter().all(is_open)
    {
        return Err(LicenseError::NotEntitled);
    }
    let wanted = |key: &LicensedKey| {
        let by_challenge = match named {
            Named::Opaque => true,
            Named::All(key_ids) | Named::Any(key_ids) => key_ids.contains(&key.key_id),
        };
        let by_name = wish.key_ids.is_empty() || wish.key_ids.contains(&key.key_id);
        by_challenge && by_name && wish.scheme.is_none_or(|scheme| scheme == key.scheme)
    };
    let keys: Vec<LicensedKey> = open.into_iter().filter(wanted).collect();
    match keys.is_empty() {
        true => Err(LicenseError::NotEntitled),
        false => Ok(keys),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |out, byte| out + &format!("{byte:02x}"))
}
