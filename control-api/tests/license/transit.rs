//! A key service by its contract: what it is asked, and every way in which its answer can be wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control_api::kek::KekError;
use control_api::kek::transit::TransitKey;
use control_api::outbound::{Outbound, Reach, check_url};
use packager::crypto::wrap::{Secret32, WrapError};
use serde_json::json;

use crate::upstream::Upstream;

fn key(upstream: &Upstream, mount: &str, name: &str) -> Result<TransitKey, KekError> {
    let roots = include_bytes!("../fixtures/cpix-recipient.cert.pem");
    let outbound = Outbound::new(Reach::Public, Some(roots), None).unwrap();
    let url = check_url(&upstream.url("/"), Reach::Public).unwrap();
    TransitKey::new(url, mount, name, "s.token".to_owned().into(), outbound)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

#[test]
fn keys_are_wrapped_and_opened_by_the_service() {
    let upstream = Upstream::reply(
        200,
        json!({ "data": { "ciphertext": "vault:v1:AbC+/=", "key_version": 1 } }).to_string(),
    );
    let wrapped = wait(
        key(&upstream, "kv/transit", "headwater")
            .unwrap()
            .wrap(&Secret32::new([7; 32])),
    )
    .unwrap();
    assert_eq!(wrapped, b"vault:v1:AbC+/=");
    let seen = upstream.only();
    assert_eq!(seen.line, "POST /v1/kv/transit/encrypt/headwater HTTP/1.1");
    assert_eq!(seen.header("x-vault-token"), Some("s.token"));
    assert_eq!(
        seen.names(),
        ["content-length", "content-type", "host", "x-vault-token"]
    );
    let expected = format!("{{\"plaintext\":\"{}\"}}", STANDARD.encode([7; 32]));
    assert_eq!(String::from_utf8(seen.body).unwrap(), expected);

    let upstream = Upstream::reply(
        200,
        json!({ "data": { "plaintext": STANDARD.encode([7; 32]) } }).to_string(),
    );
    let opened = wait(key(&upstream, "transit", "headwater").unwrap().unwrap(&wrapped))
        .unwrap()
        .unwrap();
    assert_eq!(opened.expose(), &[7; 32]);
    let seen = upstream.only();
    assert_eq!(seen.line, "POST /v1/transit/decrypt/headwater HTTP/1.1");
    assert_eq!(seen.body, br#"{"ciphertext":"vault:v1:AbC+/="}"#);
}

#[test]
fn answers_that_are_none_open_nothing() {
    let check = |status, body: &str, expected: Result<WrapError, KekError>| {
        let upstream = Upstream::reply(status, body);
        let opened = wait(key(&upstream, "transit", "headwater").unwrap().unwrap(b"vault:v1:x"));
        assert_eq!(opened.map(|inner| inner.err().unwrap()), expected, "{status} {body}");
    };
    let not_one = Err(KekError::Unavailable(
        "answers with something else than its contract says",
    ));
    check(200, "", not_one);
    check(200, "{}", not_one);
    check(200, r#"{"data":{"plaintext":"*"}}"#, not_one);
    check(200, r#"{"data":{"plaintext":"AAAA"}}"#, Ok(WrapError::Size { size: 3 }));
    check(
        400,
        r#"{"errors":["cipher: message authentication failed"]}"#,
        Ok(WrapError::Integrity),
    );
    check(403, "", Err(KekError::Refused(403)));
    check(301, "", Err(KekError::Refused(301)));
    check(200, &"x".repeat(70_000), Err(KekError::Unavailable("does not answer")));
    let upstream = Upstream::reply(200, r#"{"data":{"ciphertext":""}}"#);
    let wrapped = wait(
        key(&upstream, "transit", "headwater")
            .unwrap()
            .wrap(&Secret32::new([7; 32])),
    );
    assert_eq!(wrapped, not_one.map(|_: WrapError| Vec::new()));
    // What is no text of the service's is not sent.
    for wrong in [b"\xff".as_slice(), b"a\"b", b"a\\b", b"a b", b"a\n"] {
        let opened = wait(key(&upstream, "transit", "headwater").unwrap().unwrap(wrong)).unwrap();
        assert_eq!(opened.err(), Some(WrapError::Integrity));
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn keys_go_by_where_they_are() {
    let upstream = Upstream::reply(200, "");
    let id = |mount, name| key(&upstream, mount, name).map(|key| key.kek_id());
    let one = id("transit", "a").unwrap();
    assert_eq!((one.len(), id("transit", "a").unwrap() == one), (16, true));
    assert!(id("transit", "b").unwrap() != one && id("other", "a").unwrap() != one);
    for (mount, name) in [
        ("", "a"),
        ("a//b", "a"),
        ("..", "a"),
        ("a", ""),
        ("a", "b/c"),
        ("a", "b?c"),
        ("a", ".."),
    ] {
        assert!(id(mount, name).is_err(), "{mount} {name}");
    }
}
