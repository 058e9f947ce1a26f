//! Issuer: asks a backend, sends what it asks, and hands it the reply.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::{IssueRequest, License, LicenseBackend, LicenseError, Step};
use crate::outbound::{Outbound, OutboundError};

/// Licences of one system that may be under way: a service that hangs must not hold everything.
const UNDER_WAY_COUNT_MAX: usize = 256;
/// Times that a service may ask for another try.
const TRY_COUNT_MAX: usize = 3;
/// Pause before the second try; doubled for each further one.
const TRY_PAUSE: Duration = Duration::from_millis(200);

/// A backend and what sends for it.
pub struct Issuer {
    backend: Box<dyn LicenseBackend>,
    outbound: Option<Outbound>,
    under_way: Semaphore,
}

impl Issuer {
    /// `outbound` is needed by backends that ask somebody else.
    pub fn new(backend: Box<dyn LicenseBackend>, outbound: Option<Outbound>) -> Issuer {
        Issuer {
            backend,
            outbound,
            under_way: Semaphore::new(UNDER_WAY_COUNT_MAX),
        }
    }

    /// The backend.
    pub fn backend(&self) -> &dyn LicenseBackend {
        self.backend.as_ref()
    }

    /// Gets the licence.
    pub async fn issue(&self, request: &IssueRequest<'_>) -> Result<License, LicenseError> {
        let _under_way = self.under_way.try_acquire().map_err(|_| LicenseError::Unavailable)?;
        let mut pause = TRY_PAUSE;
        for _ in 1..TRY_COUNT_MAX {
            match self.once(request).await {
                Err(LicenseError::Again) => sleep(pause).await,
                done => return done,
            }
            pause *= 2;
        }
        self.once(request).await
    }

    async fn once(&self, request: &IssueRequest<'_>) -> Result<License, LicenseError> {
        let ask = match self.backend.begin(request)? {
            Step::Issued(license) => return Ok(license),
            Step::Ask(ask) => ask,
        };
        let outbound = self.outbound.as_ref();
        let outbound = outbound.ok_or(LicenseError::Upstream("has nothing to be asked by"))?;
        let reply = outbound.send(&ask).await.map_err(|error| match error {
            OutboundError::Connect | OutboundError::Timeout | OutboundError::Transport => LicenseError::Unavailable,
            OutboundError::Address => LicenseError::Upstream("its name leads where nothing may be asked"),
            OutboundError::Size(_) => LicenseError::Upstream("answered with too much"),
            OutboundError::Request => LicenseError::Upstream("can not be asked"),
        })?;
        self.backend.read(request, &reply)
    }
}
