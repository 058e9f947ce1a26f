//! Access tokens: JSON Web Tokens (RFC 7519) signed by ES256, and the keys that others verify them with (RFC 7517).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// Longest token that is looked at.
pub const TOKEN_SIZE_BYTES_MAX: usize = 4096;
/// `aud` of our access tokens.
pub const AUDIENCE: &str = "headwater-api";

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who made it.
    pub iss: String,
    /// Whom it is for.
    pub aud: String,
    /// The user.
    pub sub: Uuid,
    /// The tenant.
    pub tid: Uuid,
    /// The role, as it was then; what counts is the user's record.
    pub role: String,
    /// The sign-in that it belongs to.
    pub sid: Uuid,
    /// When it was made, in seconds since the Unix epoch.
    pub iat: i64,
    /// The first second in which it holds no more.
    pub exp: i64,
    /// Its own id.
    pub jti: Uuid,
}

/// A token that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of ours: form, algorithm, key, signature, issuer or audience.
    #[error("not a token of this service")]
    Invalid,
    /// It was one.
    #[error("the token has expired")]
    Expired,
}

/// A key that tokens are signed with.
pub struct SigningKey {
    kid: String,
    pair: EcdsaKeyPair,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SigningKey({})", self.kid)
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that must be understood; none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<Value>,
}

impl SigningKey {
    /// A new key as PKCS #8.
    pub fn generate() -> Option<Vec<u8>> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).ok()?;
        Some(document.as_ref().to_vec())
    }

    /// Reads a key.
    pub fn from_pkcs8(kid: &str, pkcs8: &[u8]) -> Option<SigningKey> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok()?;
        Some(SigningKey {
            kid: kid.to_owned(),
            pair,
        })
    }

    /// The point that others verify with, uncompressed.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// Its public name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Signs any claims.
    pub fn sign(&self, claims: &impl Serialize) -> Option<String> {
        let header = Header {
            alg: "ES256".to_owned(),
            typ: Some("JWT".to_owned()),
            kid: Some(self.kid.clone()),
            crit: None,
        };
        let mut text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).ok()?);
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).ok()?));
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).ok()?;
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(signature.as_ref()));
        Some(text)
    }
}

/// The keys in force: one signs, all verify.
#[derive(Debug)]
pub struct TokenKeys {
    /// Newest first; the first signs.
    keys: Vec<SigningKey>,
}

impl TokenKeys {
    /// Of keys, the one that signs first. `None` without any.
    pub fn new(keys: Vec<SigningKey>) -> Option<TokenKeys> {
        (!keys.is_empty()).then_some(TokenKeys { keys })
    }

    /// The key that signs.
    pub fn current(&self) -> Option<&SigningKey> {
        self.keys.first()
    }

    /// Verifies a token at `now` (seconds since the Unix epoch). The algorithm is the key's, never the token's wish.
    pub fn verify(&self, token: &str, issuer: &str, now: i64) -> Result<Claims, TokenError> {
        let claims = self.verify_any_time(token, issuer)?;
        match claims.exp > now {
            true => Ok(claims),
            false => Err(TokenError::Expired),
        }
    }

    fn verify_any_time(&self, token: &str, issuer: &str) -> Result<Claims, TokenError> {
        let read = || {
            if token.len() > TOKEN_SIZE_BYTES_MAX {
                return None;
            }
            let (signed, signature) = token.rsplit_once('.')?;
            let (header, claims) = signed.split_once('.')?;
            if claims.contains('.') {
                return None;
            }
            let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
            if header.alg != "ES256" || header.crit.is_some() {
                return None;
            }
            let kid = header.kid?;
            let key = self.keys.iter().find(|key| key.kid == kid)?;
            let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public())
                .verify(signed.as_bytes(), &signature)
                .ok()?;
            let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
            (claims.iss == issuer && claims.aud == AUDIENCE).then_some(claims)
        };
        read().ok_or(TokenError::Invalid)
    }

    /// The public halves as a JWK set.
    pub fn jwks(&self) -> Value {
        let keys = self.keys.iter().filter_map(|key| {
            // Uncompressed: 4, x, y (SEC 1 2.3.3).
            let (x, y) = key.public().strip_prefix(&[4])?.split_at_checked(32)?;
            Some(json!({
                "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": key.kid,
                "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
            }))
        });
        json!({ "keys": keys.collect::<Vec<Value>>() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://api.example";

    fn key(kid: &str) -> SigningKey {
        SigningKey::from_pkcs8(kid, &SigningKey::generate().unwrap()).unwrap()
    }

    fn claims() -> Claims {
        Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: Uuid::from_u128(1),
            tid: Uuid::from_u128(2),
            role: "user".to_owned(),
            sid: Uuid::from_u128(3),
            iat: 1_000,
            exp: 4_600,
            jti: Uuid::from_u128(4),
        }
    }

    fn token_of(header: Value, claims: &Value, key: &SigningKey) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = key.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    #[test]
    fn au_4_tokens_hold_until_they_expire() {
        let keys = TokenKeys::new(vec![key("a")]).unwrap();
        let token = keys.current().unwrap().sign(&claims()).unwrap();
        assert_eq!(keys.verify(&token, ISSUER, 4_599), Ok(claims()));
        assert_eq!(keys.verify(&token, ISSUER, 4_600), Err(TokenError::Expired));
        assert_eq!(
            keys.verify(&token, "https://other.example", 0),
            Err(TokenError::Invalid)
        );
    }

    #[test]
    fn au_4_two_keys_verify_while_they_change() {
        let old = SigningKey::generate().unwrap();
        let before = TokenKeys::new(vec![SigningKey::from_pkcs8("old", &old).unwrap()]).unwrap();
        let token = before.current().unwrap().sign(&claims()).unwrap();
        let during = TokenKeys::new(vec![key("new"), SigningKey::from_pkcs8("old", &old).unwrap()]).unwrap();
        assert!(during.verify(&token, ISSUER, 0).is_ok());
        assert_eq!(during.jwks()["keys"].as_array().unwrap().len(), 2);
        let after = TokenKeys::new(vec![key("new")]).unwrap();
        assert_eq!(after.verify(&token, ISSUER, 0), Err(TokenError::Invalid));
    }

    #[test]
    fn confused_headers_are_refused() {
        let ours = key("a");
        let body = serde_json::to_value(claims()).unwrap();
        let keys = TokenKeys::new(vec![SigningKey {
            kid: "a".to_owned(),
            pair: key("x").pair,
        }])
        .unwrap();
        let good = TokenKeys::new(vec![ours]).unwrap();
        let ours = good.current().unwrap();
        let cases = [
            (json!({ "alg": "ES256", "kid": "a" }), true),
            (json!({ "alg": "none", "kid": "a" }), false),
            (json!({ "alg": "None", "kid": "a" }), false),
            (json!({ "alg": "HS256", "kid": "a" }), false),
            (json!({ "alg": "RS256", "kid": "a" }), false),
            (json!({ "alg": "ES384", "kid": "a" }), false),
            (json!({ "alg": "es256", "kid": "a" }), false),
            (json!({ "alg": "ES256" }), false),
            (json!({ "alg": "ES256", "kid": "b" }), false),
            (json!({ "alg": "ES256", "kid": "../a" }), false),
            (json!({ "alg": "ES256", "kid": "a' or 1=1 --" }), false),
            (json!({ "alg": "ES256", "kid": ["a"] }), false),
            (json!({ "alg": "ES256", "kid": "a", "crit": ["exp"] }), false),
            (json!({ "kid": "a" }), false),
        ];
        for (header, expected) in cases {
            let token = token_of(header.clone(), &body, ours);
            assert_eq!(good.verify(&token, ISSUER, 0).is_ok(), expected, "{header}");
            // Signed by somebody else under the same name.
            assert!(keys.verify(&token, ISSUER, 0).is_err(), "{header}");
        }
        for name in ["iss", "aud", "sub", "tid", "sid", "exp", "iat", "jti", "role"] {
            let mut less = body.clone();
            less.as_object_mut().unwrap().remove(name);
            let token = token_of(json!({ "alg": "ES256", "kid": "a" }), &less, ours);
            assert_eq!(
                good.verify(&token, ISSUER, 0),
                Err(TokenError::Invalid),
                "without {name}"
            );
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let keys = TokenKeys::new(vec![key("a")]).unwrap();
        let token = keys.current().unwrap().sign(&claims()).unwrap();
        for end in 0..token.len() {
            assert!(keys.verify(&token[..end], ISSUER, 0).is_err(), "{end}");
        }
        for at in (0..token.len()).filter(|at| token.as_bytes()[*at] != b'.') {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'g' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(keys.verify(&changed, ISSUER, 0).is_err(), "{at}");
        }
        assert!(keys.verify(&"a".repeat(TOKEN_SIZE_BYTES_MAX + 1), ISSUER, 0).is_err());
    }
}
