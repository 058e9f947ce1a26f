//! Credentials: which encryptors there are, what proves them, and what each may have.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Signals;
use super::content_key_api::Signer;
use super::delivery::DeliveryKey;
use super::speke::DeliveryPolicy;

/// Everybody who may exchange keys.
#[derive(Default)]
pub struct Credentials {
    /// Clients of SPEKE and CPIX.
    pub clients: Vec<Client>,
    /// Signers of Widevine's key API, which proves its requests by signature alone.
    pub signers: Vec<Signer>,
    /// The private key that documents brought to us are encrypted to.
    pub delivery_key: Option<DeliveryKey>,
}

/// A client of SPEKE and CPIX.
pub struct Client {
    /// What it is called in logs.
    pub name: String,
    /// Whose titles it may ask for.
    pub tenant: String,
    /// What proves it.
    pub secret: ClientSecret,
    /// To whom keys may be handed that it asks for.
    pub delivery: DeliveryPolicy,
    /// What it is told of keys.
    pub signals: Signals,
    /// Whether it may bring keys.
    pub may_import: bool,
}

/// What proves a client, as a hash. Secrets are random and long, so the hash is a fast one.
pub struct ClientSecret {
    kind: Kind,
    digest: [u8; 32],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ApiKey,
    Basic,
}

impl ClientSecret {
    /// An API key, sent as `X-Api-Key` or as a Bearer token.
    pub fn api_key(key: &str) -> ClientSecret {
        ClientSecret {
            kind: Kind::ApiKey,
            digest: Sha256::digest(key).into(),
        }
    }

    /// A name and a password, sent as HTTP Basic.
    pub fn basic(user: &str, password: &str) -> ClientSecret {
        let pair = Zeroizing::new(format!("{user}:{password}"));
        ClientSecret {
            kind: Kind::Basic,
            digest: Sha256::digest(pair.as_bytes()).into(),
        }
    }
}

impl Credentials {
    /// The client that the headers `X-Api-Key` and `Authorization` prove. Takes as long whoever it is.
    pub(crate) fn client(&self, api_key: Option<&str>, authorization: Option<&str>) -> Option<&Client> {
        // Nothing proves nobody, whatever was configured.
        let (kind, presented) = presented(api_key, authorization).filter(|(_, presented)| !presented.is_empty())?;
        let digest: [u8; 32] = Sha256::digest(presented.as_slice()).into();
        let mut found = None;
        for client in &self.clients {
            let same = bool::from(client.secret.digest.ct_eq(&digest)) & (client.secret.kind == kind);
            found = if same { Some(client) } else { found };
        }
        found
    }
}

fn presented(api_key: Option<&str>, authorization: Option<&str>) -> Option<(Kind, Zeroizing<Vec<u8>>)> {
    if let Some(key) = api_key {
        return Some((Kind::ApiKey, Zeroizing::new(key.as_bytes().to_vec())));
    }
    let (method, value) = authorization?.split_once(' ')?;
    let value = value.trim();
    if method.eq_ignore_ascii_case("bearer") {
        return Some((Kind::ApiKey, Zeroizing::new(value.as_bytes().to_vec())));
    }
    let pair = method
        .eq_ignore_ascii_case("basic")
        .then(|| STANDARD.decode(value).ok())??;
    Some((Kind::Basic, Zeroizing::new(pair)))
}
