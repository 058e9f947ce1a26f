//! Client of key servers: SPEKE and Widevine's key API over HTTP, from where keys are brought into a vault.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::KeySet;
use super::content_key_api::{self, ContentKeyRequest, RESPONSE_SIZE_BYTES_MAX, ResponseError, Signer};
use super::delivery::DeliveryKey;
use super::speke::{BODY_SIZE_BYTES_MAX, Fetched, KeyOrder, SpekeError, VERSION_HEADER};
use crate::outbound::{Ask, Outbound, OutboundError, Repeat};

/// Times that Widevine's key API is asked when it says that the same may work later.
const TRY_COUNT_MAX: usize = 3;
/// Pause before the second time; doubled for each further one.
const TRY_PAUSE: Duration = Duration::from_millis(300);

/// What proves us to a key server. It has no `Debug`.
pub enum ClientProof {
    /// Nothing but the certificate of the connection, or an allowed address.
    Nothing,
    /// `X-Api-Key`
    ApiKey(Zeroizing<String>),
    /// HTTP Basic.
    Basic {
        /// Name, without a colon.
        user: String,
        /// Password.
        password: Zeroizing<String>,
    },
}

/// A key server.
pub struct KeyServer {
    /// Where it listens.
    pub url: Uri,
    /// What proves us.
    pub proof: ClientProof,
    /// What sends.
    pub outbound: Outbound,
}

/// Why no keys came. Says nothing of keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No answer.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// The request can not be written, or the response is not one.
    #[error(transparent)]
    Speke(#[from] SpekeError),
    /// The response is not one, or says no.
    #[error(transparent)]
    ContentKey(#[from] ResponseError),
    /// The credentials can not be sent, or can not sign.
    #[error("the credentials can not be used")]
    Credentials,
    /// Widevine's key API answers with HTTP 200 whatever it says.
    #[error("the key server answers with HTTP status {0}")]
    Status(u16),
}

impl KeyServer {
    /// Keys and signalling by SPEKE. The same order gives the same keys, so it is sent again where no answer comes.
    pub async fn speke(&self, order: &KeyOrder, delivery_key: Option<&DeliveryKey>) -> Result<Fetched, FetchError> {
        let body = Zeroizing::new(order.write()?.into_bytes());
        let mut ask = Ask::post(self.url.clone(), body, Repeat::WhenUnanswered);
        ask.header("content-type", "application/xml");
        if let Some(version) = order.version.header() {
            ask.header(VERSION_HEADER, version);
        }
        ask.reply_size_max = BODY_SIZE_BYTES_MAX;
        self.prove(&mut ask).ok_or(FetchError::Credentials)?;
        let reply = self.outbound.send(&ask).await?;
        let version = reply.header(VERSION_HEADER);
        Ok(order.read_response(reply.status, version, &reply.body, delivery_key)?)
    }

    /// Keys by Widevine's key API, signed by `signer`.
    pub async fn content_keys(&self, request: &ContentKeyRequest, signer: &Signer) -> Result<KeySet, FetchError> {
        let body = request.sign(signer).ok_or(FetchError::Credentials)?;
        let mut ask = Ask::post(self.url.clone(), body.into(), Repeat::WhenUnanswered);
        ask.header("content-type", "application/json");
        ask.reply_size_max = RESPONSE_SIZE_BYTES_MAX;
        self.prove(&mut ask).ok_or(FetchError::Credentials)?;
        let mut pause = TRY_PAUSE;
        for _ in 1..TRY_COUNT_MAX {
            match self.once(&ask, request).await {
                Err(FetchError::ContentKey(ResponseError::Refused(status))) if status.is_retryable() => {
                    sleep(pause).await;
                }
                done => return done,
            }
            pause *= 2;
        }
        self.once(&ask, request).await
    }

    async fn once(&self, ask: &Ask, request: &ContentKeyRequest) -> Result<KeySet, FetchError> {
        let reply = self.outbound.send(ask).await?;
        match reply.status {
            200 => Ok(content_key_api::read_response(&reply.body, request)?),
            status => Err(FetchError::Status(status)),
        }
    }

    fn prove(&self, ask: &mut Ask) -> Option<()> {
        match &self.proof {
            ClientProof::Nothing => Some(()),
            ClientProof::ApiKey(key) => ask.secret_header("x-api-key", key),
            ClientProof::Basic { user, password } => {
                let pair = Zeroizing::new(format!("{user}:{}", **password));
                let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
                ask.secret_header("authorization", &value)
            }
        }
    }
}
