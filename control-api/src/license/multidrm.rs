//! A multi-DRM vendor: the challenge as it is, the entitlement as a token of the vendor's own beside it.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use hyper::Uri;

use super::token::Carrier;
use super::{
    IssueRequest, LICENSE_SIZE_BYTES_MAX, License, LicenseBackend, LicenseError, LicenseSystem, Named, Step,
    check_status, fairplay_ksm, playready_http, whole_body,
};
use crate::outbound::{Ask, Repeat, Reply};

const BYTES: &str = "application/octet-stream";

/// One of a vendor's licence URLs: each system has one.
pub struct MultiDrm {
    /// Which system is asked for there.
    pub system: LicenseSystem,
    /// The URL.
    pub url: Uri,
    /// The entitlement, and where it stands.
    pub entitlement: Carrier,
    /// The application certificate of FairPlay.
    pub certificate: Option<Vec<u8>>,
}

impl LicenseBackend for MultiDrm {
    fn system(&self) -> LicenseSystem {
        self.system
    }

    fn name(&self) -> &'static str {
        "multidrm-http"
    }

    fn inspect(&self, challenge: &[u8]) -> Result<Named, LicenseError> {
        match self.system {
            LicenseSystem::PlayReady => playready_http::key_ids(challenge).map(Named::All),
            LicenseSystem::FairPlay => {
                fairplay_ksm::check_spc(challenge, self.certificate.as_deref())?;
                Ok(Named::Opaque)
            }
            _ if challenge.is_empty() => Err(LicenseError::Challenge("empty")),
            _ => Ok(Named::Opaque),
        }
    }

    fn begin(&self, request: &IssueRequest<'_>) -> Result<Step, LicenseError> {
        // Tokens are good for one use, so a request that was sent is not sent again.
        let mut ask = Ask::post(self.url.clone(), request.challenge.to_vec().into(), Repeat::WhenUnsent);
        match self.system {
            LicenseSystem::PlayReady => {
                ask.header("content-type", playready_http::CONTENT_TYPE);
                ask.header("soapaction", playready_http::SOAP_ACTION);
            }
            _ => ask.header("content-type", BYTES),
        }
        ask.reply_size_max = LICENSE_SIZE_BYTES_MAX;
        self.entitlement.put(&mut ask, request, self.system)?;
        Ok(Step::Ask(Box::new(ask)))
    }

    fn read(&self, _request: &IssueRequest<'_>, reply: &Reply) -> Result<License, LicenseError> {
        let content_type = match self.system {
            LicenseSystem::PlayReady => {
                if let Some(fault) = playready_http::fault(reply) {
                    return Err(fault);
                }
                playready_http::CONTENT_TYPE
            }
            _ => BYTES,
        };
        check_status(reply)?;
        whole_body(reply, content_type)
    }

    fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }
}
