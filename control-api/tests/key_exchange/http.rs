//! The routes over loopback: who gets in, what is answered, and what is not said.

use control_api::key_exchange::delivery::{DeliveryKey, Recipient};
use control_api::key_exchange::speke::DeliveryPolicy;
use control_api::key_exchange::{Client, ClientSecret, Credentials, Signals, cpix};
use packager::crypto::{KeyId, ProtectionScheme};
use serde_json::Value;

use crate::content_key_api::signer;
use crate::source::{Answer, Server};
use crate::speke::{CERTIFICATE, PRIVATE_KEY, VIDEO, WIDEVINE, request};

const API_KEY: (&str, &str) = ("X-Api-Key", "an-api-key-of-acme");
const OTHER_KEY: (&str, &str) = ("X-Api-Key", "an-api-key-of-other");
const STRICT_KEY: (&str, &str) = ("X-Api-Key", "an-api-key-of-strict");
const XML: (&str, &str) = ("Content-Type", "application/xml");
const SPEKE: &str = "/v1/keys/speke";

fn credentials() -> Credentials {
    let client = |name: &str, secret, clear_keys, recipients| Client {
        name: name.to_owned(),
        tenant: name.to_owned(),
        secret,
        delivery: DeliveryPolicy { clear_keys, recipients },
        signals: Signals::all(),
        may_import: clear_keys,
    };
    let recipient = Recipient::from_pem(CERTIFICATE).unwrap();
    let strict = Client {
        may_import: true,
        ..client(
            "strict",
            ClientSecret::api_key(STRICT_KEY.1),
            false,
            vec![recipient.clone()],
        )
    };
    Credentials {
        clients: vec![
            strict,
            client("empty", ClientSecret::api_key(""), true, Vec::new()),
            client("acme", ClientSecret::api_key(API_KEY.1), true, vec![recipient]),
            client("other", ClientSecret::api_key(OTHER_KEY.1), false, Vec::new()),
            client("basic", ClientSecret::basic("aladdin", "open sesame"), true, Vec::new()),
        ],
        signers: vec![signer()],
        delivery_key: Some(DeliveryKey::from_pem(PRIVATE_KEY).unwrap()),
    }
}

/// An error in the form of RFC 9457, with this detail.
fn assert_problem(answer: &Answer, status: u16, detail: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["detail"], detail);
    assert!(problem["title"].is_string() && problem["type"].is_string());
}

#[test]
fn nobody_gets_in_without_a_credential() {
    let server = Server::start(credentials());
    let body = request("2.3", "cenc", &[WIDEVINE]);
    let version = ("X-Speke-Version", "2.0");
    let check = |header: (&str, &str), expected: u16| {
        let answer = server.send("POST", SPEKE, &[header, version, XML], body.as_bytes());
        assert_eq!(answer.status, expected, "{header:?}");
        if expected == 401 {
            assert_problem(&answer, 401, "an API key or Basic credentials are needed");
            assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"keys\""));
        }
    };
    check(API_KEY, 200);
    check(("Authorization", "Bearer an-api-key-of-acme"), 200);
    check(("Authorization", "Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ=="), 200);
    check(("Authorization", "Basic YWxhZGRpbjpvcGVuIHNlc2FtZX=="), 401);
    check(("Authorization", "Basic an-api-key-of-acme"), 401);
    check(("Authorization", "Bearer aladdin:open sesame"), 401);
    check(("Authorization", "Bearer "), 401);
    check(("Authorization", "x"), 401);
    check(("X-Api-Key", "an-api-key-of-acm"), 401);
    check(("X-Api-Key", ""), 401);
    check(("X-Other", ""), 401);
    for (method, path) in [("GET", "/v1/keys/cpix/film-1"), ("POST", "/v1/keys/cpix/film-1")] {
        assert_eq!(server.send(method, path, &[], b"").status, 401);
    }
    assert_eq!(server.send("GET", SPEKE, &[API_KEY], b"").status, 405);
    assert_eq!(server.send("GET", "/v1/keys", &[API_KEY], b"").status, 404);
}

#[test]
fn speke_answers_with_its_headers_and_refuses_in_its_words() {
    let server = Server::start(credentials());
    for (speke, version) in [("2.0", "2.3"), ("2.1", "2.4")] {
        let body = request(version, "cenc", &[WIDEVINE]);
        let answer = server.send(
            "POST",
            SPEKE,
            &[API_KEY, ("x-speke-version", speke), XML],
            body.as_bytes(),
        );
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/xml"));
        assert_eq!(answer.header("x-speke-version"), Some(speke));
        assert!(
            answer
                .header("x-speke-user-agent")
                .is_some_and(|agent| agent.starts_with("headwater/"))
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(cpix::read(answer.body.as_bytes()).unwrap().key_set(None).is_ok());
    }
    let first = format!(
        "<CPIX id=\"film-1\" xmlns=\"urn:dashif:org:cpix\"><ContentKeyList><ContentKey kid=\"{VIDEO}\"/></ContentKeyList>\
         <DRMSystemList><DRMSystem kid=\"{VIDEO}\" systemId=\"{WIDEVINE}\"><PSSH/></DRMSystem></DRMSystemList></CPIX>"
    );
    let answer = server.send("POST", SPEKE, &[API_KEY, XML], first.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.header("speke-user-agent").is_some() && answer.header("x-speke-version").is_none());

    let good = request("2.3", "cenc", &[WIDEVINE]);
    let check = |speke: &str, body: &str, status: u16, detail: &str| {
        let answer = server.send("POST", SPEKE, &[API_KEY, ("X-Speke-Version", speke)], body.as_bytes());
        assert_problem(&answer, status, detail);
    };
    check("2.2", &good, 422, "Unsupported SPEKE version");
    check("2.1", &good, 422, "Unsupported CPIX@version");
    check(
        "2.0",
        &good.replace(" contentId=\"film-1\"", ""),
        422,
        "Missing CPIX@contentId",
    );
    check("2.0", "", 422, "not well-formed XML at byte 0");
    // The keys are cenc's since the first request.
    check(
        "2.0",
        &request("2.3", "cbcs", &[WIDEVINE]),
        409,
        &format!("key {VIDEO} is in other use"),
    );
    let large = vec![b' '; (2 << 20) + 1];
    let answer = server.send("POST", SPEKE, &[API_KEY], &large);
    assert_problem(&answer, 413, "a body of at most 2097152 bytes is read");
    // Another tenant has other keys, and this one may not have them in the clear.
    let answer = server.send("POST", SPEKE, &[OTHER_KEY, ("X-Speke-Version", "2.0")], good.as_bytes());
    assert_problem(&answer, 403, "keys are delivered to registered certificates alone");
    assert!(server.source.existing("other", "film-1").is_empty());
}

#[test]
fn cpix_goes_out_encrypted_and_comes_in() {
    let server = Server::start(credentials());
    let path = "/v1/keys/cpix/film-1";
    assert_problem(&server.send("GET", path, &[API_KEY], b""), 404, "the title has no keys");
    let body = request("2.3", "cenc", &[WIDEVINE]);
    assert_eq!(
        server
            .send("POST", SPEKE, &[API_KEY, ("X-Speke-Version", "2.0")], body.as_bytes())
            .status,
        200
    );
    let stored = server.source.existing("acme", "film-1");

    let exported = server.send("GET", path, &[API_KEY], b"");
    assert_eq!(
        (exported.status, exported.header("content-type")),
        (200, Some("application/xml"))
    );
    assert!(!exported.body.contains("PlainValue") && exported.body.contains("version=\"2.4\""));
    let key = DeliveryKey::from_pem(PRIVATE_KEY).unwrap();
    let opened = cpix::read(exported.body.as_bytes())
        .unwrap()
        .key_set(Some(&key))
        .unwrap();
    assert_eq!(opened.keys[0].key.expose(), stored[0].key.expose());
    let clear = server.send("GET", &format!("{path}?encrypted=false&version=2.3"), &[API_KEY], b"");
    assert!(clear.status == 200 && clear.body.contains("PlainValue") && clear.body.contains("version=\"2.3\""));
    assert_problem(
        &server.send("GET", &format!("{path}?x"), &[API_KEY], b""),
        400,
        "version=2.3|2.4, encrypted=true|false",
    );
    for query in ["", "?encrypted=false"] {
        let answer = server.send("GET", &format!("{path}{query}"), &[OTHER_KEY], b"");
        assert_problem(&answer, 403, "keys are delivered to registered certificates alone");
    }

    let send = |path: &str, key, body: &str| server.send("POST", path, &[key, XML], body.as_bytes());
    let other_title = send("/v1/keys/cpix/film-2", API_KEY, &exported.body);
    assert_problem(&other_title, 422, "the document is about another title");
    let renamed = exported.body.replace("contentId=\"film-1\"", "contentId=\"film 2\"");
    assert_eq!(send("/v1/keys/cpix/film%202", API_KEY, &renamed).status, 204);
    let imported = server.source.existing("acme", "film 2");
    assert_eq!(imported.len(), 2);
    for (key, stored) in imported.iter().zip(&stored) {
        assert_eq!((key.key_id, key.key.expose()), (stored.key_id, stored.key.expose()));
        assert_eq!(
            (key.scheme, &key.track_type),
            (Some(ProtectionScheme::Cenc), &stored.track_type)
        );
    }
    assert_eq!(send(path, API_KEY, &exported.body).status, 204, "the same keys again");
    let start = clear.body.find("PlainValue>").unwrap() + "PlainValue>".len();
    let mut conflict = clear.body.clone();
    conflict.replace_range(start..start + 4, "AAAA");
    assert_problem(
        &send(path, API_KEY, &conflict),
        409,
        &format!("key {VIDEO} is in other use"),
    );
    assert_problem(
        &send(path, OTHER_KEY, &exported.body),
        403,
        "this client may not bring keys",
    );
    let answer = send(path, STRICT_KEY, &clear.body);
    assert_problem(&answer, 403, "keys are delivered to registered certificates alone");
    assert_eq!(send(path, STRICT_KEY, &exported.body).status, 204);
    assert_eq!(server.source.existing("strict", "film-1").len(), 2);
    assert_eq!(server.send("GET", path, &[STRICT_KEY], b"").status, 200);
    assert_problem(&send(path, API_KEY, "<a/>"), 422, "not a CPIX document");
}

#[test]
fn the_key_api_needs_a_signature_and_no_other_credential() {
    let server = Server::start(credentials());
    let request = control_api::key_exchange::content_key_api::ContentKeyRequest {
        content_id: "YQ==".to_owned(),
        tracks: vec![control_api::key_exchange::content_key_api::Track {
            track_type: "SD".to_owned(),
        }],
        ..Default::default()
    };
    let body = request.sign(&signer()).unwrap();
    let path = "/v1/keys/cenc/getcontentkey/widevine_test";
    let answer = server.send("POST", path, &[], &body);
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/json"))
    );
    let read = |answer: &Answer| {
        control_api::key_exchange::content_key_api::read_response(answer.body.as_bytes(), &request)
            .map(|set| set.keys[0].key_id)
            .map_err(|error| error.to_string())
    };
    assert_eq!(read(&answer), Ok(server.source.existing("acme", "a")[0].key_id));
    let answer = server.send("POST", "/v1/keys/cenc/getcontentkey/other", &[], &body);
    assert_eq!(
        (answer.status, read(&answer)),
        (200, Err("the key server answered SIGNATURE_FAILED".to_owned()))
    );
    let answer = server.send("POST", path, &[], &vec![b' '; 65_537]);
    assert_problem(&answer, 413, "a body of at most 65536 bytes is read");
}

#[test]
fn no_answer_but_the_ones_meant_for_it_holds_a_key() {
    use base64::Engine as _;
    let server = Server::start(credentials());
    let body = request("2.3", "cenc", &[WIDEVINE]);
    let version = ("X-Speke-Version", "2.0");
    assert_eq!(
        server.send("POST", SPEKE, &[API_KEY, version], body.as_bytes()).status,
        200
    );
    let canaries: Vec<String> = server
        .source
        .existing("acme", "film-1")
        .iter()
        .flat_map(|key| {
            let bytes = *key.key.expose();
            let hex = KeyId(bytes).hex();
            let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
            [
                hex.to_ascii_uppercase(),
                hex,
                base64.trim_end_matches('=').to_owned(),
                format!("{bytes:?}"),
            ]
        })
        .collect();
    assert_eq!(canaries.len(), 8);
    let answers = [
        server.send("GET", "/v1/keys/cpix/film-1", &[API_KEY], b""),
        server.send("GET", "/v1/keys/cpix/film-1", &[OTHER_KEY], b""),
        server.send("POST", SPEKE, &[OTHER_KEY, version], body.as_bytes()),
        server.send(
            "POST",
            SPEKE,
            &[API_KEY, version],
            body.replace("cenc", "cbcs").as_bytes(),
        ),
        server.send("POST", SPEKE, &[version], body.as_bytes()),
    ];
    for answer in answers {
        for canary in &canaries {
            assert!(
                !answer.body.contains(canary) && !answer.head.contains(canary),
                "{}",
                answer.status
            );
        }
    }
}
