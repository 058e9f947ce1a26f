//! Clear Key: the one system whose licences are made here (Encrypted Media Extensions, 9.1). Not DRM.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use packager::crypto::clear_key::{LicenceRequest, SessionType, licence};
use packager::crypto::{ContentKey, KeyId};

use super::{IssueRequest, Keep, License, LicenseBackend, LicenseError, LicenseSystem, Named, Step};
use crate::outbound::Reply;

/// Answers with the keys themselves. To be had only where the operator wants it.
pub struct ClearKey;

const JSON: &str = "application/json";

impl LicenseBackend for ClearKey {
    fn system(&self) -> LicenseSystem {
        LicenseSystem::ClearKey
    }

    fn name(&self) -> &'static str {
        "clear-key"
    }

    fn inspect(&self, challenge: &[u8]) -> Result<Named, LicenseError> {
        Ok(Named::Any(parse(challenge)?.key_ids))
    }

    fn begin(&self, request: &IssueRequest<'_>) -> Result<Step, LicenseError> {
        let asked = parse(request.challenge)?;
        let session_type = match (asked.session_type, request.terms.keep) {
            // Such a player would keep what it may not.
            (SessionType::PersistentLicense, Keep::Session) => return Err(LicenseError::NotEntitled),
            (session_type, _) => session_type,
        };
        let keys = request.keys.iter().filter(|key| asked.key_ids.contains(&key.key_id));
        let keys: Vec<(KeyId, ContentKey)> = keys.map(|key| (key.key_id, key.key.clone())).collect();
        if keys.is_empty() {
            return Err(LicenseError::NotEntitled);
        }
        Ok(Step::Issued(License {
            bytes: licence(&keys, session_type),
            content_type: JSON,
        }))
    }

    fn read(&self, _request: &IssueRequest<'_>, _reply: &Reply) -> Result<License, LicenseError> {
        Err(LicenseError::Upstream("was asked nothing"))
    }
}

fn parse(challenge: &[u8]) -> Result<LicenceRequest, LicenseError> {
    LicenceRequest::parse(challenge).map_err(|_| LicenseError::Challenge("not the JSON of a Clear Key request"))
}
