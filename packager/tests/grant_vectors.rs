//! Grants held against tokens of another implementation, and against every change of a byte.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use packager::crypto::ProtectionScheme;
use packager::grant::{
    Carried, Grant, GrantKey, GrantKeyError, GrantKeys, GrantMintError, GrantRefusal, GrantRequest, GrantScheme,
    Renewal, RenewalKind, TimeWindow, UriMatch, UriPart, UriRule,
};
use proptest::prelude::*;
use serde_json::Value;

const NOW: u64 = 1_800_000_000;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn key(kid: &str, hex: &str) -> GrantKey {
    GrantKey::new(kid.as_bytes(), unhex(hex).try_into().unwrap()).unwrap()
}

fn keys(kid: &str, hex: &str) -> GrantKeys {
    GrantKeys::new(key(kid, hex), None).ok().unwrap()
}

fn our_keys() -> GrantKeys {
    GrantKeys::new(
        GrantKey::new(b"new", [7; 32]).unwrap(),
        Some(GrantKey::new(b"old", [9; 32]).unwrap()),
    )
    .ok()
    .unwrap()
}

fn get(path: &str) -> GrantRequest<'_> {
    GrantRequest {
        method: "GET",
        scheme: Some("https"),
        host: Some("media.example"),
        path,
        audience: Some("cdn"),
        issuer: None,
        now: NOW,
    }
}

fn outcome(token: &str, keys: &GrantKeys, request: &GrantRequest<'_>) -> &'static str {
    Grant::verify(token, keys, request).map_or_else(|refusal| refusal.label(), |_| "allowed")
}

/// Changed in one byte, a token opens nothing; read under its other spellings it does not either.
fn check_every_byte(token: &str, keys: &GrantKeys, request: &GrantRequest<'_>) {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let bytes = engine.decode(token).unwrap();
    for at in 0..bytes.len() {
        for flip in [1u8, 0x20, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            assert_ne!(outcome(&engine.encode(&changed), keys, request), "allowed", "byte {at}");
        }
        assert_eq!(
            outcome(&engine.encode(&bytes[..at]), keys, request),
            "malformed",
            "cut at {at}"
        );
    }
    for at in 0..token.len() {
        let mut changed = token.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_ne!(outcome(&changed, keys, request), "allowed", "character {at}");
    }
    for spelling in [
        format!("{token}="),
        format!("{token}A"),
        format!(" {token}"),
        String::new(),
        "A".repeat(1025),
    ] {
        assert_eq!(outcome(&spelling, keys, request), "malformed");
    }
}

#[test]
fn the_collected_vector_is_read() {
    let file = json(include_str!("vectors/cat.json"));
    let vector = &file["vectors"][0];
    let keys = keys(vector["kid"].as_str().unwrap(), vector["key_hex"].as_str().unwrap());
    let token = vector["token_b64url"].as_str().unwrap();
    let path = |url: &Value| url.as_str().unwrap().strip_prefix("https://x").unwrap().to_owned();
    for url in vector["accept"].as_array().unwrap() {
        assert_eq!(outcome(token, &keys, &get(&path(url))), "allowed", "{url}");
    }
    for url in vector["reject"].as_array().unwrap() {
        assert_eq!(outcome(token, &keys, &get(&path(url))), "wrong_path", "{url}");
    }
    let grant = Grant::verify(token, &keys, &get("/live/a.m4s")).unwrap();
    let claims = &vector["claims"];
    assert_eq!(grant.issuer.as_deref(), claims["iss"].as_str());
    assert_eq!(Some(grant.expires), claims["exp"].as_u64());
    assert_eq!(grant.issued, claims["iat"].as_u64());
    assert_eq!(grant.audience, ["cdn"]);
    assert_eq!(grant.methods.as_deref().unwrap(), ["GET", "HEAD"]);
    check_every_byte(token, &keys, &get("/live/a.m4s"));
}

#[test]
fn tokens_of_another_implementation_are_read() {
    let file = json(include_str!("vectors/cat_eyevinn.json"));
    let keys = keys(file["kid"].as_str().unwrap(), file["key_hex"].as_str().unwrap());
    let check = |name: &str, path: &str, expected: &str| {
        let vectors = file["vectors"].as_array().unwrap();
        let vector = vectors.iter().find(|vector| vector["name"] == name).unwrap();
        let token = vector["token_b64url"].as_str().unwrap();
        assert_eq!(outcome(token, &keys, &get(path)), expected, "{name}: {path}");
        if expected == "allowed" {
            check_every_byte(token, &keys, &get(path));
        }
        Grant::verify(token, &keys, &get(path)).ok()
    };
    let full = check("full", "/vod/f1/v1/cmaf/v/1.m4s", "allowed").unwrap();
    assert_eq!(
        full.session.as_deref(),
        Some(&unhex("00112233445566778899aabbccddeeff")[..])
    );
    let renewal = full.renewal.as_ref().unwrap();
    assert_eq!(
        (renewal.kind, renewal.add_seconds, renewal.deadline),
        (RenewalKind::Header, 120, Some(60))
    );
    assert_eq!(renewal.header_name.as_deref(), Some("cta-common-access-token"));
    check("full", "/vod/f1/master.m3u8", "wrong_path");
    check("full", "/vod/f2/v1/cmaf/v/1.m4s", "wrong_path");

    let private = check("private", "/vod/f1/master.m3u8", "allowed").unwrap();
    assert_eq!(private.tenant.as_deref(), Some("acme"));
    assert_eq!(private.height_max, Some(720));
    assert!(private.allows_height(720) && !private.allows_height(721));
    assert!(private.allows_scheme(GrantScheme::Aes128) && !private.allows_scheme(GrantScheme::Clear));
    let window = private.window.unwrap();
    assert_eq!((window.start_ms, window.end_ms), (60_000, Some(120_000)));
    assert!(window.overlaps(0, 60_001) && !window.overlaps(0, 60_000));
    assert!(window.overlaps(119_999, 130_000) && !window.overlaps(120_000, 130_000));

    check("contains", "/vod/f1/master.m3u8", "allowed");
    check("contains", "/vod/f1/manifest.mpd", "wrong_path");
    check("contains", "/vod/f2/master.m3u8", "wrong_path");
    check("allow replay", "/vod/f1/master.m3u8", "allowed");
    for name in [
        "refuse catnip",
        "refuse regex",
        "refuse replay",
        "refuse unknown private",
        "refuse geo",
        "refuse version",
    ] {
        check(name, "/vod/f1/master.m3u8", "unknown_claim");
    }
    check("refuse float exp", "/vod/f1/master.m3u8", "malformed");
}

/// The very bytes that the other implementation read and allowed (`cat_ours.json`).
#[test]
fn tokens_are_what_another_implementation_read() {
    let file = json(include_str!("vectors/cat_ours.json"));
    let keys = keys(file["kid"].as_str().unwrap(), file["key_hex"].as_str().unwrap());
    for (grant, vector) in interchanged().iter().zip(file["vectors"].as_array().unwrap()) {
        let token = grant.mint(&keys).unwrap();
        assert_eq!(
            token.expose(),
            vector["token_b64url"].as_str().unwrap(),
            "{}",
            vector["name"]
        );
    }
}

/// Grants that `cat_ours.json` holds as tokens.
fn interchanged() -> Vec<Grant> {
    let plain = Grant {
        issuer: Some("origin".to_owned()),
        session: Some(unhex("00112233445566778899aabbccddeeff")),
        issued: Some(1_795_296_915),
        not_before: Some(1_795_000_000),
        ..Grant::new("/vod/f1/", 4_102_444_800)
    };
    let full = Grant {
        audience: vec!["cdn".to_owned(), "edge".to_owned()],
        uri: vec![
            rule(UriPart::Scheme, UriMatch::Exact, "https"),
            rule(UriPart::Host, UriMatch::Suffix, ".example"),
            rule(UriPart::Path, UriMatch::Prefix, "/vod/f1/"),
            rule(UriPart::Filename, UriMatch::Contains, "mas"),
            rule(UriPart::Extension, UriMatch::Exact, ".m3u8"),
        ],
        tenant: Some("acme".to_owned()),
        height_max: Some(1080),
        schemes: Some(vec![
            GrantScheme::Common(ProtectionScheme::Cbcs),
            GrantScheme::SampleAes,
        ]),
        window: Some(TimeWindow {
            start_ms: 1_795_296_915_000,
            end_ms: None,
        }),
        renewal: Some(Renewal {
            kind: RenewalKind::Cookie,
            add_seconds: 600,
            deadline: Some(60),
            cookie_name: Some("media".to_owned()),
            header_name: None,
            cookie_parameters: vec!["HttpOnly".to_owned(), "Secure".to_owned()],
            header_parameters: Vec::new(),
            code: None,
        }),
        watermark: Some(vec![0xa5; 8]),
        ..plain.clone()
    };
    vec![plain, full]
}

fn rule(part: UriPart, way: UriMatch, value: &str) -> UriRule {
    UriRule {
        part,
        way,
        value: value.to_owned(),
    }
}

#[test]
fn a_changed_token_opens_nothing() {
    for grant in interchanged() {
        let token = grant.mint(&our_keys()).unwrap();
        let request = get("/vod/f1/master.m3u8");
        assert_eq!(Grant::verify(token.expose(), &our_keys(), &request).unwrap(), grant);
        check_every_byte(token.expose(), &our_keys(), &request);
    }
}

#[test]
fn times_have_no_leeway() {
    let grant = Grant {
        not_before: Some(NOW - 10),
        ..Grant::new("/vod/f1/", NOW + 10)
    };
    let token = grant.mint(&our_keys()).unwrap();
    let check = |now: u64, expected: &str| {
        let request = GrantRequest {
            now,
            ..get("/vod/f1/a")
        };
        assert_eq!(outcome(token.expose(), &our_keys(), &request), expected, "{now}");
    };
    check(NOW - 11, "not_yet_valid");
    check(NOW - 10, "allowed");
    check(NOW + 9, "allowed");
    check(NOW + 10, "expired");
    check(u64::MAX, "expired");
}

#[test]
fn requests_are_held_against_every_claim() {
    let grant = Grant {
        issuer: Some("me".to_owned()),
        audience: vec!["cdn".to_owned()],
        ..Grant::new("/vod/f1/", NOW + 10)
    };
    let token = grant.mint(&our_keys()).unwrap();
    let check = |request: GrantRequest<'_>, expected: &str| {
        assert_eq!(outcome(token.expose(), &our_keys(), &request), expected, "{request:?}");
    };
    let good = get("/vod/f1/master.m3u8");
    check(good, "allowed");
    check(GrantRequest { method: "HEAD", ..good }, "allowed");
    for method in ["POST", "get", ""] {
        check(GrantRequest { method, ..good }, "wrong_method");
    }
    for path in [
        "/vod/f12/master.m3u8",
        "/vod/f1",
        "/vod/f2/a",
        "/live/f1/a",
        "vod/f1/a",
        "",
        "/",
        "/vod/f1/../f2/a",
        "/vod/f1/./a",
        "/vod/f1/..",
        "/vod/f1/%2e%2e/f2/a",
        "/vod/f1/..%2ff2/a",
        "/vod/f1/..\\f2/a",
        "/vod/f1/a?x",
        "/VOD/f1/a",
    ] {
        check(GrantRequest { path, ..good }, "wrong_path");
    }
    let others = [None, Some("other"), Some("")];
    for audience in others {
        check(GrantRequest { audience, ..good }, "wrong_audience");
    }
    check(
        GrantRequest {
            issuer: Some("me"),
            ..good
        },
        "allowed",
    );
    check(
        GrantRequest {
            issuer: Some("you"),
            ..good
        },
        "wrong_audience",
    );
}

#[test]
fn a_part_that_is_not_known_opens_nothing() {
    let grant = Grant {
        uri: vec![
            rule(UriPart::Host, UriMatch::Exact, "Media.Example"),
            rule(UriPart::Path, UriMatch::Prefix, "/vod/f1/"),
        ],
        ..Grant::new("/vod/f1/", NOW + 10)
    };
    let good = get("/vod/f1/a");
    assert_eq!(grant.allows(&good), Ok(()));
    for host in [None, Some("other.example"), Some("media.example.evil")] {
        assert_eq!(
            grant.allows(&GrantRequest { host, ..good }),
            Err(GrantRefusal::WrongPath)
        );
    }
}

#[test]
fn two_keys_live_while_they_are_exchanged() {
    let key = |kid: &[u8], fill: u8| GrantKey::new(kid, [fill; 32]).unwrap();
    let pair = |current, other| GrantKeys::new(current, other).ok().unwrap();
    let grant = Grant::new("/vod/f1/", NOW + 10);
    let old = grant.mint(&pair(key(b"old", 9), None)).unwrap();
    let new = grant.mint(&our_keys()).unwrap();
    let request = get("/vod/f1/a");
    let check = |keys: GrantKeys, expected: [&str; 2]| {
        let found = [&old, &new].map(|token| outcome(token.expose(), &keys, &request));
        assert_eq!(found, expected);
    };
    check(our_keys(), ["allowed", "allowed"]);
    check(pair(key(b"new", 7), None), ["unknown_key", "allowed"]);
    check(pair(key(b"old", 9), None), ["allowed", "unknown_key"]);
    // The same name, another secret.
    check(
        pair(key(b"new", 8), Some(key(b"old", 8))),
        ["bad_signature", "bad_signature"],
    );
}

#[test]
fn key_files_are_read() {
    let a = "11".repeat(32);
    let b = "Aa".repeat(32);
    let check = |text: String, expected: Result<usize, GrantKeyError>| {
        let found = GrantKeys::parse(&text).map(|keys| keys.current().kid().len());
        assert_eq!(found, expected, "{text}");
    };
    check(a.clone(), Ok(8));
    check(format!("# note\n\n  k1:{a}  \nk2:{b}\n"), Ok(2));
    check(format!("2026:a:{a}"), Ok(6));
    check(String::new(), Err(GrantKeyError::Count(0)));
    check(format!("{a}\n{b}\n{a}"), Err(GrantKeyError::Count(3)));
    check(format!("k:{a}\nk:{b}"), Err(GrantKeyError::SameName));
    check(format!("{a}\n{a}"), Err(GrantKeyError::SameName));
    check(format!("{a}0"), Err(GrantKeyError::Syntax(1)));
    check(format!("\n{}", &a[1..]), Err(GrantKeyError::Syntax(2)));
    check(format!(":{a}"), Err(GrantKeyError::Syntax(1)));
    check(format!("{}:{a}", "n".repeat(33)), Err(GrantKeyError::Syntax(1)));
    check("g".repeat(64), Err(GrantKeyError::Syntax(1)));
}

#[test]
fn tokens_are_taken_out_of_paths() {
    let check = |path: &str, token: Option<&str>, rest: &str| {
        let carried = Carried::split(path);
        assert_eq!((carried.token, carried.path.as_ref()), (token, rest), "{path}");
    };
    check("/vod/f1/~tok/master.m3u8", Some("tok"), "/vod/f1/master.m3u8");
    check("/vod/f1/~tok/v1/cmaf/v/1.m4s", Some("tok"), "/vod/f1/v1/cmaf/v/1.m4s");
    check("/live/c/~/a", Some(""), "/live/c/a");
    for path in [
        "/vod/f1/master.m3u8",
        "/vod/f1/v1/~tok/a",
        "/vod/~tok/f1/a",
        "/vod/f1/~tok",
        "vod/f1/~tok/a",
        "",
        "/",
    ] {
        check(path, None, path);
    }
    // One is taken, no more.
    check("/vod/f1/~a/~b/c", Some("a"), "/vod/f1/~b/c");
}

#[test]
fn what_opens_nothing_or_too_much_is_not_minted() {
    let good = Grant::new("/vod/f1/", NOW);
    let check = |grant: Grant, expected: GrantMintError| {
        assert_eq!(grant.mint(&our_keys()).err(), Some(expected), "{grant:?}");
    };
    let uri = |uri: Vec<UriRule>| Grant { uri, ..good.clone() };
    check(uri(vec![]), GrantMintError::NoPath);
    check(
        uri(vec![rule(UriPart::Path, UriMatch::Suffix, "/a")]),
        GrantMintError::NoPath,
    );
    check(Grant::new("/vod/f1", NOW), GrantMintError::NoPath);
    let path = rule(UriPart::Path, UriMatch::Prefix, "/vod/f1/");
    check(uri(vec![path.clone(), path]), GrantMintError::RepeatedRule);
    let not_before = Some(NOW);
    check(
        Grant {
            not_before,
            ..good.clone()
        },
        GrantMintError::Empty,
    );
    let window = Some(TimeWindow {
        start_ms: 5,
        end_ms: Some(5),
    });
    check(Grant { window, ..good.clone() }, GrantMintError::Empty);
    let methods = Some(Vec::new());
    check(
        Grant {
            methods,
            ..good.clone()
        },
        GrantMintError::List,
    );
    let audience = vec!["a".to_owned(); 17];
    check(
        Grant {
            audience,
            ..good.clone()
        },
        GrantMintError::List,
    );
    let session = Some(vec![0; 1000]);
    let error = Grant {
        session,
        ..good.clone()
    }
    .mint(&our_keys())
    .err();
    assert!(
        matches!(error, Some(GrantMintError::TooLong { size_bytes: 1025.. })),
        "{error:?}"
    );
}

#[test]
fn a_renewed_grant_lasts_longer() {
    let [_, full] = <[Grant; 2]>::try_from(interchanged()).unwrap();
    let near = full.expires - 5;
    let renewed = full.renewed(near).unwrap();
    assert_eq!((renewed.expires, renewed.issued), (near + 600, Some(near)));
    assert_eq!(full.renewed(NOW).unwrap().expires, full.expires);
    assert_eq!(full.renewed(full.expires), None);
    assert_eq!(Grant::new("/vod/f1/", NOW).renewed(0), None);
}

prop_compose! {
    fn grants()(
        issuer in proptest::option::of("[a-z.]{0,20}"),
        audience in proptest::collection::vec("[a-z]{0,5}", 0..4),
        session in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..33)),
        methods in proptest::option::of(proptest::collection::vec("[A-Z]{1,6}", 1..4)),
        lifetime in (any::<u64>(), 1..u64::MAX),
        issued in proptest::option::of(any::<u64>()),
        tenant in proptest::option::of("\\PC{0,12}"),
        height_max in proptest::option::of(any::<u32>()),
        schemes in proptest::option::of(proptest::sample::subsequence(GrantScheme::ALL.to_vec(), 1..=7)),
        window in proptest::option::of((0..u64::MAX, proptest::option::of(1..1000u64))),
        watermark in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..33)),
        extension in proptest::option::of("[.a-z0-9]{0,4}"),
    ) -> Grant {
        let mut grant = Grant::new("/vod/f1/", lifetime.1);
        if let Some(value) = extension {
            grant.uri.push(rule(UriPart::Filename, UriMatch::Suffix, &value));
        }
        Grant {
            issuer, audience, session, methods, issued, tenant, height_max, schemes, watermark,
            not_before: (lifetime.0 < lifetime.1).then_some(lifetime.0),
            window: window.map(|(start_ms, length)| TimeWindow {
                start_ms,
                end_ms: length.map(|length| start_ms.saturating_add(length)),
            }),
            ..grant
        }
    }
}

proptest! {
    #[test]
    fn what_is_minted_is_verified(grant in grants()) {
        let token = grant.mint(&our_keys()).unwrap();
        let path = match grant.uri.get(1) {
            Some(rule) => format!("/vod/f1/x{}", rule.value),
            None => "/vod/f1/x".to_owned(),
        };
        let methods = grant.methods.clone().unwrap_or(vec!["PUT".to_owned()]);
        let request = GrantRequest {
            method: &methods[0],
            audience: grant.audience.first().map(String::as_str),
            issuer: grant.issuer.as_deref(),
            now: grant.expires - 1,
            ..get(&path)
        };
        prop_assert_eq!(Grant::verify(token.expose(), &our_keys(), &request), Ok(grant));
    }
}
