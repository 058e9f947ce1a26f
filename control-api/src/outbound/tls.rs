//! TLS towards servers: whom to trust, and how to prove ourselves where they ask.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// A certificate chain and its private key. It has no `Debug`.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Why there is no TLS. Says nothing of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// Not certificates in PEM.
    #[error("no certificates in PEM")]
    Certificates,
    /// Not a private key in PEM.
    #[error("no private key in PEM")]
    Key,
    /// They do not go together, or are of a kind that is not known.
    #[error("certificate and private key do not go together")]
    Identity,
    /// The system has no certificate authorities.
    #[error("the system has no certificate authorities; install them, or name a file")]
    NoRoots,
    /// No version of TLS is left.
    #[error("TLS can not be set up")]
    SetUp,
}

impl Identity {
    /// From a certificate chain and a private key in PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Identity, TlsError> {
        Ok(Identity {
            chain: certificates(chain)?,
            key: PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?,
        })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|_| TlsError::Certificates)?;
    match read.is_empty() {
        true => Err(TlsError::Certificates),
        false => Ok(read),
    }
}

/// TLS 1.2 and 1.3 with the trust and the proof that are asked for.
pub(super) fn config(roots: Option<&[u8]>, identity: Option<&Identity>) -> Result<ClientConfig, TlsError> {
    let mut trusted = RootCertStore::empty();
    match roots {
        Some(pem) => {
            for certificate in certificates(pem)? {
                trusted.add(certificate).map_err(|_| TlsError::Certificates)?;
            }
        }
        None => {
            // Some of a system's certificates are often of kinds that nobody reads.
            let (added, _) = trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if added == 0 {
                return Err(TlsError::NoRoots);
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::SetUp)?
        .with_root_certificates(trusted);
    match identity {
        None => Ok(config.with_no_client_auth()),
        Some(identity) => config
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|_| TlsError::Identity),
    }
}
