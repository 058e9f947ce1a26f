//! Reads any bytes as a grant: as a token, as a path that carries one, and as claims under a key that is known here.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use libfuzzer_sys::fuzz_target;
use packager::grant::{Carried, Grant, GrantKey, GrantKeys, GrantRequest};
use packager_fuzz as _;

fuzz_target!(|data: &[u8]| {
    let keys = keys();
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = GrantKeys::parse(text).is_ok();
        let carried = Carried::split(text);
        let _ = Grant::verify(carried.token.unwrap_or(text), &keys, &request(&carried.path));
    }
    if let Ok(grant) = Grant::verify(&signed(data), &keys, &request("/vod/f1/master.m3u8")) {
        check_minted(&grant, &keys);
    }
});

const SECRET: [u8; 32] = [7; 32];

fn keys() -> GrantKeys {
    let key = GrantKey::new(b"k", SECRET).expect("a name of one byte");
    GrantKeys::new(key, None).expect("one key")
}

fn request(path: &str) -> GrantRequest<'_> {
    GrantRequest {
        method: "GET",
        scheme: Some("https"),
        host: Some("media.example"),
        path,
        audience: Some("cdn"),
        issuer: None,
        now: 1_800_000_000,
    }
}

/// What was read says the same once it is written again, if it is of a kind that is minted.
fn check_minted(grant: &Grant, keys: &GrantKeys) {
    let Ok(token) = grant.mint(keys) else { return };
    let mut again =
        Grant::verify(token.expose(), keys, &request("/vod/f1/master.m3u8")).expect("what is minted can be read");
    let mut grant = grant.clone();
    grant.uri.sort();
    again.uri.sort();
    assert_eq!(again, grant);
}

/// A COSE_Mac0 over claims that are any bytes.
fn signed(claims: &[u8]) -> String {
    let mut payload = match u8::try_from(claims.len()) {
        Ok(size @ ..24) => vec![0x40 | size],
        Ok(size) => vec![0x58, size],
        Err(_) => [&[0x59], &(claims.len() as u16).to_be_bytes()[..]].concat(),
    };
    payload.extend_from_slice(claims);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&SECRET).expect("keys of any size will do");
    mac.update(b"\x84\x64MAC0\x43\xa1\x01\x05\x40");
    mac.update(&payload);
    let message = [
        b"\xd1\x84\x43\xa1\x01\x05\xa1\x04\x41k".as_slice(),
        &payload,
        b"\x58\x20",
        &mac.finalize().into_bytes(),
    ];
    URL_SAFE_NO_PAD.encode(message.concat())
}
