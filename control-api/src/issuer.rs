//! Issuer: tokens that others make and that are taken here (AU-12): their keys as JWK sets (RFC 7517), what their tokens say
//! (RFC 7519), and what of it counts.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod keys;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use crate::auth::Role;
use crate::config::TrustedIssuer;
use crate::token::TOKEN_SIZE_BYTES_MAX;

/// Keys of a set that are looked at.
const KEY_COUNT_MAX: usize = 64;
/// How far the clocks of two machines may be apart, in seconds, where a token begins. Its end is its end.
const SKEW_S: i64 = 60;
/// Longest subject.
const SUBJECT_SIZE_BYTES_MAX: usize = 255;
/// Largest RSA modulus and exponent, in bytes.
const RSA_SIZE_BYTES_MAX: usize = 1024;

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its key is not in the set that is known; a newer one may have it.
    #[error("signed with a key that is not known")]
    UnknownKey,
    /// Form, algorithm, signature, issuer, audience or beginning.
    #[error("not a token that is taken")]
    Invalid,
    /// It was one.
    #[error("the token has expired")]
    Expired,
}

/// What a token of another issuer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Who, among the issuer's.
    pub subject: String,
    /// The first second in which it holds no more, since the Unix epoch.
    pub expires_at: i64,
    /// Their e-mail.
    pub email: Option<String>,
    /// Whether the issuer vouches for it.
    pub email_verified: bool,
    /// Their name.
    pub name: Option<String>,
    /// The most that they may be here (AU-12: more than a user by an explicit mapping alone).
    pub role: Role,
}

/// Public keys of an issuer.
#[derive(Debug, Default)]
pub struct JwkSet {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    kid: String,
    algorithm: &'static str,
    public: Public,
}

#[derive(Debug)]
enum Public {
    /// A point of a curve, as its algorithm takes it.
    Point(&'static dyn VerificationAlgorithm, Vec<u8>),
    /// Modulus and exponent.
    Rsa(Vec<u8>, Vec<u8>),
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

fn bytes(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

impl Jwk {
    /// A key that verifies, with the one algorithm that it is for. Others are left out, secret ones above all.
    fn key(&self) -> Option<Key> {
        let verifies = self
            .key_ops
            .as_ref()
            .is_none_or(|uses| uses.iter().any(|one| one == "verify"));
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") || !verifies {
            return None;
        }
        let point = |size: usize| {
            let (x, y) = (bytes(self.x.as_ref())?, bytes(self.y.as_ref())?);
            // Uncompressed: 4, x, y (SEC 1 2.3.3).
            (x.len() == size && y.len() == size).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
        };
        let (algorithm, public) = match (self.kty.as_str(), self.crv.as_deref(), self.alg.as_deref()) {
            ("EC", Some("P-256"), None | Some("ES256")) => {
                ("ES256", Public::Point(&ECDSA_P256_SHA256_FIXED, point(32)?))
            }
            ("EC", Some("P-384"), None | Some("ES384")) => {
                ("ES384", Public::Point(&ECDSA_P384_SHA384_FIXED, point(48)?))
            }
            ("OKP", Some("Ed25519"), None | Some("EdDSA")) => {
                let x = bytes(self.x.as_ref()).filter(|x| x.len() == 32)?;
                ("EdDSA", Public::Point(&ED25519, x))
            }
            ("RSA", None, algorithm @ (None | Some("RS256" | "PS256"))) => {
                let (n, e) = (bytes(self.n.as_ref())?, bytes(self.e.as_ref())?);
                if n.len() > RSA_SIZE_BYTES_MAX || e.len() > RSA_SIZE_BYTES_MAX {
                    return None;
                }
                let name = if algorithm == Some("PS256") { "PS256" } else { "RS256" };
                (name, Public::Rsa(n, e))
            }
            _ => return None,
        };
        Some(Key {
            kid: self.kid.clone()?,
            algorithm,
            public,
        })
    }
}

impl Key {
    fn has_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.public {
            Public::Point(algorithm, point) => UnparsedPublicKey::new(*algorithm, point).verify(signed, signature),
            Public::Rsa(n, e) => {
                let parameters = match self.algorithm {
                    "PS256" => &RSA_PSS_2048_8192_SHA256,
                    _ => &RSA_PKCS1_2048_8192_SHA256,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature)
            }
        };
        verified.is_ok()
    }
}

impl JwkSet {
    /// Reads a set; keys of kinds that are not known are left out. `None` when it is none.
    pub fn read(text: &[u8]) -> Option<JwkSet> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(text).ok()?;
        let read = |value| serde_json::from_value::<Jwk>(value).ok()?.key();
        let keys = set.keys.into_iter().take(KEY_COUNT_MAX).filter_map(read).collect();
        Some(JwkSet { keys })
    }

    /// Verifies a token of `issuer` at `now` (seconds since the Unix epoch). The algorithm is the key's, never the
    /// token's wish.
    pub fn verify(&self, token: &str, issuer: &TrustedIssuer, now: i64) -> Result<Foreign, Refusal> {
        let parts = parts(token).ok_or(Refusal::Invalid)?;
        let header: Header = serde_json::from_slice(&parts.header).map_err(|_| Refusal::Invalid)?;
        let is_kind = |kind: &str| {
            let kind = kind.to_ascii_lowercase();
            ["jwt", "at+jwt", "application/at+jwt"].contains(&kind.as_str())
        };
        // Tokens for other uses (log-out, proof of possession) say so.
        if header.crit.is_some() || header.typ.as_deref().is_some_and(|kind| !is_kind(kind)) {
            return Err(Refusal::Invalid);
        }
        let kid = header.kid.ok_or(Refusal::Invalid)?;
        let mut named = self.keys.iter().filter(|key| key.kid == kid).peekable();
        if named.peek().is_none() {
            return Err(Refusal::UnknownKey);
        }
        let key = named.find(|key| key.algorithm == header.alg).ok_or(Refusal::Invalid)?;
        if !key.has_signed(parts.signed.as_bytes(), &parts.signature) {
            return Err(Refusal::Invalid);
        }
        let claims: Value = serde_json::from_slice(&parts.claims).map_err(|_| Refusal::Invalid)?;
        let foreign = read_claims(&claims, issuer, now).ok_or(Refusal::Invalid)?;
        match foreign.expires_at > now {
            true => Ok(foreign),
            false => Err(Refusal::Expired),
        }
    }
}

/// A token taken apart, unverified.
struct Parts<'t> {
    signed: &'t str,
    signature: Vec<u8>,
    header: Vec<u8>,
    claims: Vec<u8>,
}

fn parts(token: &str) -> Option<Parts<'_>> {
    if token.len() > TOKEN_SIZE_BYTES_MAX {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    Some(Parts {
        signed,
        signature: decode(signature)?,
        header: decode(header)?,
        claims: decode(claims)?,
    })
}

/// Who a token says it is of, unverified: which keys to verify it with.
pub fn named_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        iss: String,
    }
    Some(serde_json::from_slice::<Named>(&parts(token)?.claims).ok()?.iss)
}

fn read_claims(claims: &Value, issuer: &TrustedIssuer, now: i64) -> Option<Foreign> {
    let text = |name: &str| claims.get(name)?.as_str();
    // RFC 7519 2: seconds, which may have a fraction.
    let time = |name: &str| {
        let value = claims.get(name)?;
        value.as_i64().or_else(|| Some(value.as_f64()?.floor() as i64))
    };
    if text("iss")? != issuer.issuer {
        return None;
    }
    let audience = claims.get("aud")?;
    let is_ours = |value: &Value| value.as_str() == Some(&issuer.audience);
    if !is_ours(audience) && !audience.as_array().is_some_and(|some| some.iter().any(is_ours)) {
        return None;
    }
    if claims.get("nbf").is_some() && time("nbf")? > now.saturating_add(SKEW_S) {
        return None;
    }
    let subject = text("sub").filter(|subject| (1..=SUBJECT_SIZE_BYTES_MAX).contains(&subject.len()))?;
    Some(Foreign {
        subject: subject.to_owned(),
        expires_at: time("exp")?,
        email: text("email").map(str::to_owned),
        email_verified: claims.get("email_verified").and_then(Value::as_bool) == Some(true),
        name: text("name").map(str::to_owned),
        role: mapped(claims, issuer),
    })
}

/// The highest role that a claim is mapped to; that of users without.
fn mapped(claims: &Value, issuer: &TrustedIssuer) -> Role {
    let claim = issuer.role_claim.as_ref().and_then(|name| claims.get(name));
    let values = match claim {
        Some(Value::Array(values)) => values.iter().collect(),
        Some(value) => vec![value],
        None => Vec::new(),
    };
    let roles = values.into_iter().filter_map(|value| issuer.roles.get(value.as_str()?));
    roles.map(|name| Role::of(name)).max().unwrap_or(Role::User)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
        RsaKeyPair,
    };
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_000_000;

    fn issuer() -> TrustedIssuer {
        TrustedIssuer {
            issuer: "https://id.example".to_owned(),
            audience: "headwater".to_owned(),
            role_claim: Some("groups".to_owned()),
            roles: [("editors", "moderator"), ("owners", "admin")]
                .map(|(claim, role)| (claim.to_owned(), role.to_owned()))
                .into(),
            ..TrustedIssuer::default()
        }
    }

    fn claims() -> Value {
        json!({ "iss": "https://id.example", "aud": "headwater", "sub": "ada", "exp": NOW + 60, "email": "a@example.org" })
    }

    enum Pair {
        Point(EcdsaKeyPair),
        Edwards(Ed25519KeyPair),
        Rsa(RsaKeyPair),
    }

    impl Pair {
        fn new(kty: &str) -> Pair {
            match kty {
                "EC" => Pair::Point(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
                "OKP" => Pair::Edwards(Ed25519KeyPair::generate().unwrap()),
                _ => Pair::Rsa(RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap()),
            }
        }

        fn jwk(&self, kid: &str) -> Value {
            let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            match self {
                Pair::Point(pair) => {
                    let point = &pair.public_key().as_ref()[1..];
                    json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": text(&point[..32]), "y": text(&point[32..]) })
                }
                Pair::Edwards(pair) => {
                    json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": text(pair.public_key().as_ref()) })
                }
                Pair::Rsa(pair) => {
                    // RSAPublicKey (RFC 8017 A.1.1): a sequence of two integers, 256 and 3 bytes here.
                    let der = pair.public_key().as_ref();
                    let (n, e) = der[9..].split_at(256);
                    json!({ "kty": "RSA", "kid": kid, "n": text(n), "e": text(&e[2..]) })
                }
            }
        }

        fn token(&self, header: Value, claims: &Value) -> String {
            let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let signed = format!("{}.{}", text(&header), text(claims));
            let random = SystemRandom::new();
            let signature = match self {
                Pair::Point(pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
                Pair::Edwards(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
                Pair::Rsa(pair) => {
                    let mut signature = vec![0; pair.public_modulus_len()];
                    let padding: &dyn aws_lc_rs::signature::RsaEncoding = match header["alg"].as_str() {
                        Some("PS256") => &RSA_PSS_SHA256,
                        _ => &RSA_PKCS1_SHA256,
                    };
                    pair.sign(padding, &random, signed.as_bytes(), &mut signature).unwrap();
                    signature
                }
            };
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    fn set(keys: &[Value]) -> JwkSet {
        JwkSet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn au_12_the_algorithm_is_the_key_s() {
        let (point, edwards, rsa) = (Pair::new("EC"), Pair::new("OKP"), Pair::new("RSA"));
        let mut for_pss = rsa.jwk("pss");
        for_pss["alg"] = json!("PS256");
        let keys = set(&[point.jwk("ec"), edwards.jwk("ed"), rsa.jwk("rsa"), for_pss]);
        let header = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid, "typ": "JWT" });
        for (pair, alg, kid, expected) in [
            (&point, "ES256", "ec", None),
            (&edwards, "EdDSA", "ed", None),
            (&rsa, "RS256", "rsa", None),
            (&rsa, "PS256", "pss", None),
            (&rsa, "RS256", "pss", Some(Refusal::Invalid)),
            (&rsa, "PS256", "rsa", Some(Refusal::Invalid)),
            (&point, "ES384", "ec", Some(Refusal::Invalid)),
            (&point, "none", "ec", Some(Refusal::Invalid)),
            (&point, "HS256", "ec", Some(Refusal::Invalid)),
            (&point, "ES256", "rsa", Some(Refusal::Invalid)),
            (&edwards, "ES256", "ec", Some(Refusal::Invalid)),
            (&point, "ES256", "other", Some(Refusal::UnknownKey)),
        ] {
            let found = keys
                .verify(&pair.token(header(alg, kid), &claims()), &issuer(), NOW)
                .err();
            assert_eq!(found, expected, "{alg} {kid}");
        }
        for header in [
            json!({ "alg": "ES256" }),
            json!({ "alg": "ES256", "kid": "ec", "crit": ["b64"] }),
            json!({ "alg": "ES256", "kid": "ec", "typ": "logout+jwt" }),
        ] {
            let found = keys.verify(&point.token(header.clone(), &claims()), &issuer(), NOW);
            assert_eq!(found, Err(Refusal::Invalid), "{header}");
        }
    }

    #[test]
    fn au_12_a_public_key_is_no_secret() {
        let rsa = Pair::new("RSA");
        let keys = set(&[rsa.jwk("a")]);
        let secret = rsa.jwk("a").to_string();
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"a"}"#),
            URL_SAFE_NO_PAD.encode(claims().to_string())
        );
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(keys.verify(&token, &issuer(), NOW), Err(Refusal::Invalid));
    }

    #[test]
    fn au_12_claims_are_checked() {
        let pair = Pair::new("EC");
        let keys = set(&[pair.jwk("a")]);
        let check = |change: Value, expected: Result<Role, Refusal>| {
            let mut claims = claims();
            for (name, value) in change.as_object().unwrap() {
                claims[name] = value.clone();
            }
            let token = pair.token(json!({ "alg": "ES256", "kid": "a" }), &claims);
            let found = keys.verify(&token, &issuer(), NOW).map(|foreign| foreign.role);
            assert_eq!(found, expected, "{change}");
        };
        check(json!({}), Ok(Role::User));
        check(json!({ "exp": NOW + 1 }), Ok(Role::User));
        check(json!({ "exp": NOW as f64 + 1.5 }), Ok(Role::User));
        check(json!({ "exp": NOW }), Err(Refusal::Expired));
        check(json!({ "exp": "soon" }), Err(Refusal::Invalid));
        check(json!({ "exp": null }), Err(Refusal::Invalid));
        check(json!({ "nbf": NOW + 60 }), Ok(Role::User));
        check(json!({ "nbf": NOW + 61 }), Err(Refusal::Invalid));
        check(json!({ "iss": "https://id.example/" }), Err(Refusal::Invalid));
        check(json!({ "aud": "other" }), Err(Refusal::Invalid));
        check(json!({ "aud": ["other", "headwater"] }), Ok(Role::User));
        check(json!({ "aud": [] }), Err(Refusal::Invalid));
        check(json!({ "sub": "" }), Err(Refusal::Invalid));
        check(json!({ "sub": "a".repeat(256) }), Err(Refusal::Invalid));
        check(json!({ "role": "admin" }), Ok(Role::User));
        check(json!({ "groups": "admin" }), Ok(Role::User));
        check(json!({ "groups": "owners" }), Ok(Role::Admin));
        check(json!({ "groups": ["x", "editors", 1] }), Ok(Role::Moderator));
    }

    #[test]
    fn keys_that_can_not_verify_are_left_out() {
        let good = Pair::new("EC").jwk("a");
        let check = |name: &str, value: Value, expected: usize| {
            let mut key = good.clone();
            key[name] = value;
            assert_eq!(set(&[key.clone()]).keys.len(), expected, "{key}");
        };
        check("use", json!("sig"), 1);
        check("use", json!("enc"), 0);
        check("key_ops", json!(["verify"]), 1);
        check("key_ops", json!(["encrypt"]), 0);
        check("kid", Value::Null, 0);
        check("alg", json!("ES384"), 0);
        check("crv", json!("P-521"), 0);
        check("x", json!("AA"), 0);
        check("y", json!("*"), 0);
        assert_eq!(
            set(&[json!({ "kty": "oct", "kid": "a", "k": "AAAA", "alg": "HS256" })])
                .keys
                .len(),
            0
        );
        assert_eq!(set(&vec![good; 100]).keys.len(), KEY_COUNT_MAX);
        for text in ["", "[]", "{}", r#"{"keys":{}}"#] {
            assert!(JwkSet::read(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let pair = Pair::new("EC");
        let keys = set(&[pair.jwk("a")]);
        let token = pair.token(json!({ "alg": "ES256", "kid": "a" }), &claims());
        assert_eq!(named_issuer(&token).as_deref(), Some("https://id.example"));
        for end in 0..token.len() {
            assert!(keys.verify(&token[..end], &issuer(), NOW).is_err(), "{end}");
        }
        for at in (0..token.len()).filter(|at| token.as_bytes()[*at] != b'.') {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'g' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(keys.verify(&changed, &issuer(), NOW).is_err(), "{at}");
        }
        let long = format!("{token}{}", "A".repeat(TOKEN_SIZE_BYTES_MAX));
        assert_eq!(keys.verify(&long, &issuer(), NOW), Err(Refusal::Invalid));
    }
}
