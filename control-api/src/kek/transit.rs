//! Transit: a key service that encrypts and decrypts and never lets its key go, by the HTTP contract of Vault's transit
//! engine: `POST {url}/v1/{mount}/encrypt/{key}` with `{"plaintext":…}` in base64, answered with
//! `{"data":{"ciphertext":"…"}}`; `…/decrypt/{key}` the other way round; `X-Vault-Token` proves us.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use packager::crypto::wrap::{Secret32, WrapError};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{KekError, Opened, id_of, secret_of};
use crate::key_exchange::content_key_api::LENIENT;
use crate::outbound::{Ask, Outbound, Repeat, Reply, Url};

/// Bytes of a reply.
const REPLY_SIZE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a name of a mount or a key.
const NAME_SIZE_BYTES_MAX: usize = 128;

/// A key in a key service.
pub struct TransitKey {
    url: Url,
    mount: String,
    key: String,
    token: Zeroizing<String>,
    outbound: Outbound,
}

#[derive(Deserialize)]
struct Encrypted {
    data: Ciphertext,
}

#[derive(Deserialize)]
struct Ciphertext {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    data: Plaintext,
}

#[derive(Deserialize)]
struct Plaintext {
    plaintext: String,
}

impl TransitKey {
    /// The key `key` of the engine at `mount`. Names are letters, digits, `-`, `_` and `.`; a mount may have slashes.
    pub fn new(
        url: Url,
        mount: &str,
        key: &str,
        token: Zeroizing<String>,
        outbound: Outbound,
    ) -> Result<TransitKey, KekError> {
        let is_name = |name: &str| {
            (1..=NAME_SIZE_BYTES_MAX).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
                && !name.starts_with('.')
        };
        match is_name(key) && mount.split('/').all(is_name) {
            true => Ok(TransitKey {
                url,
                mount: mount.to_owned(),
                key: key.to_owned(),
                token,
                outbound,
            }),
            false => Err(KekError::Unavailable("a mount or a key that is no name")),
        }
    }

    /// Public id: of where the key is and what it is called. The service's own versions of it are its own affair.
    pub fn kek_id(&self) -> String {
        id_of(&["transit", &self.url.to_string(), &self.mount, &self.key])
    }

    /// Has a tenant's key encrypted.
    pub async fn wrap(&self, tenant_key: &Secret32) -> Result<Vec<u8>, KekError> {
        let plain = Zeroizing::new(STANDARD.encode(tenant_key.expose()));
        let reply = self.ask("encrypt", "plaintext", &plain).await?;
        if reply.status != 200 {
            return Err(KekError::Refused(reply.status));
        }
        let read: Encrypted = serde_json::from_slice(&reply.body).map_err(|_| not_one())?;
        match read.data.ciphertext.is_empty() {
            true => Err(not_one()),
            false => Ok(read.data.ciphertext.into_bytes()),
        }
    }

    /// Has it decrypted. The inner error says that the service does not take it for one of its own.
    pub async fn unwrap(&self, wrapped: &[u8]) -> Result<Opened, KekError> {
        // It goes into JSON as it is.
        let text = std::str::from_utf8(wrapped).ok();
        let text = text.filter(|text| {
            text.bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
        });
        let Some(text) = text else {
            return Ok(Err(WrapError::Integrity));
        };
        let reply = self.ask("decrypt", "ciphertext", text).await?;
        match reply.status {
            200 => {}
            // By the contract: a ciphertext that is malformed, of another key or changed.
            400 => return Ok(Err(WrapError::Integrity)),
            status => return Err(KekError::Refused(status)),
        }
        let read: Decrypted = serde_json::from_slice(&reply.body).map_err(|_| not_one())?;
        let text = Zeroizing::new(read.data.plaintext);
        let plain = LENIENT
            .decode(text.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| not_one())?;
        Ok(secret_of(&plain))
    }

    /// `value` is base64 or the service's own text: nothing in it needs an escape.
    async fn ask(&self, operation: &str, member: &str, value: &str) -> Result<Reply, KekError> {
        let TransitKey { url, mount, key, .. } = self;
        let base = url.to_string();
        let target = format!("{}/v1/{mount}/{operation}/{key}", base.trim_end_matches('/'));
        let target: Url = target
            .parse()
            .map_err(|_| KekError::Unavailable("a URL that is none"))?;
        // Room for everything: growing would leave a copy behind.
        let mut body = Zeroizing::new(Vec::with_capacity(member.len() + value.len() + 8));
        for part in ["{\"", member, "\":\"", value, "\"}"] {
            body.extend_from_slice(part.as_bytes());
        }
        let mut ask = Ask::post(target, body, Repeat::WhenUnanswered);
        ask.header("content-type", "application/json");
        ask.reply_size_max = REPLY_SIZE_BYTES_MAX;
        let sent = ask.secret_header("x-vault-token", &self.token);
        sent.ok_or(KekError::Unavailable("a token that can not be sent"))?;
        let reply = self.outbound.send(&ask).await;
        reply.map_err(|_| KekError::Unavailable("does not answer"))
    }
}

fn not_one() -> KekError {
    KekError::Unavailable("answers with something else than its contract says")
}
