//! The routes over loopback: who gets a licence, for which keys, and what refusals look like.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use control_api::key_exchange::content_key_api::SigningKey;
use control_api::license::clear_key::ClearKey;
use control_api::license::fairplay_ksm::FairPlayKsm;
use control_api::license::playready_http::{Entitlement, PlayReadyHttp};
use control_api::license::widevine_cloud::{KeyOwner, WidevineCloud};
use control_api::license::{
    Desk, Gate, Issuer, LicensePolicy, LicensedKey, Licensing, Title, TitleError, Titles, router,
};
use control_api::outbound::{Outbound, Reach, check_url};
use packager::crypto::vault::TrackClass;
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};
use packager::grant::{Grant, GrantKey, GrantKeys, GrantScheme};
use serde_json::{Value, json};

use crate::upstream::Upstream;
use crate::vendors::{CERTIFICATE_HASH, header_4_0, soap, spc};

const AUDIO: KeyId = KeyId([1; 16]);
const HD: KeyId = KeyId([2; 16]);
const UHD: KeyId = KeyId([3; 16]);
const CENC: KeyId = KeyId([4; 16]);

struct Memory;

impl Titles for Memory {
    fn title(&self, content_id: &str) -> Result<Option<Title>, TitleError> {
        let key = |key_id: KeyId, scheme, track| LicensedKey {
            key_id,
            key: ContentKey::new([key_id.0[0] | 0xf0; 16]),
            scheme,
            track,
        };
        match content_id {
            "damaged" => Err(TitleError),
            "film-1" | "film-2" => Ok(Some(Title {
                tenant: "acme".to_owned(),
                keys: vec![
                    key(AUDIO, ProtectionScheme::Cbcs, TrackClass::Audio),
                    key(HD, ProtectionScheme::Cbcs, TrackClass::Hd),
                    key(UHD, ProtectionScheme::Cbcs, TrackClass::Uhd1),
                    key(CENC, ProtectionScheme::Cenc, TrackClass::Hd),
                ],
            })),
            _ => Ok(None),
        }
    }

    fn kept(&self, content_id: &str) -> Option<Title> {
        // One of them as if it had been asked for before.
        (content_id == "film-2")
            .then(|| self.title(content_id).ok().flatten())
            .flatten()
    }
}

fn grant_keys() -> GrantKeys {
    GrantKeys::new(GrantKey::unnamed([7; 32]), None).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(change: impl FnOnce(&mut Grant)) -> String {
    let mut grant = Grant::new("/vod/film-1/", now() + 300);
    change(&mut grant);
    grant.mint(&grant_keys()).unwrap().expose().to_owned()
}

struct Server {
    address: SocketAddr,
    widevine: Upstream,
    playready: Upstream,
    fairplay: Upstream,
    _runtime: tokio::runtime::Runtime,
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Server {
    fn start() -> Server {
        Server::with(vec![Box::new(|server: &Server| {
            let outbound = || {
                let roots = include_bytes!("../fixtures/cpix-recipient.cert.pem");
                Some(Outbound::new(Reach::Public, Some(roots), None).unwrap())
            };
            let url = |upstream: &Upstream| check_url(&upstream.url("/x"), Reach::Public).unwrap();
            let widevine = WidevineCloud {
                url: url(&server.widevine),
                provider: "p".to_owned(),
                key: SigningKey::aes([1; 32], [2; 16]),
                owner: KeyOwner::Us,
                policy: None,
                renewal_url: None,
                statuses: BTreeMap::new(),
            };
            let playready = PlayReadyHttp {
                url: url(&server.playready),
                entitlement: Entitlement::None,
            };
            let fairplay = FairPlayKsm {
                url: url(&server.fairplay),
                certificate: Some(b"a certificate".to_vec()),
                uri_template: "skd://{kid}".to_owned(),
            };
            vec![
                Issuer::new(Box::new(ClearKey), None),
                Issuer::new(Box::new(widevine), outbound()),
                Issuer::new(Box::new(playready), outbound()),
                Issuer::new(Box::new(fairplay), outbound()),
            ]
        })])
    }

    #[allow(clippy::type_complexity)]
    fn with(issuers: Vec<Box<dyn Fn(&Server) -> Vec<Issuer>>>) -> Server {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let ckc = json!({ "fairplay-streaming-response": { "streaming-keys": [{ "ckc": STANDARD.encode(b"ckc") }] } });
        let server = Server {
            address: listener.local_addr().unwrap(),
            widevine: Upstream::reply(200, br#"{"status":"OK","license":"bGljZW5jZQ=="}"#),
            playready: Upstream::reply(200, "<licence/>"),
            fairplay: Upstream::reply(200, ckc.to_string()),
            _runtime: runtime,
        };
        let licensing = Licensing {
            gate: Gate::new(grant_keys(), |session| session == b"ended"),
            desk: Desk {
                titles: Arc::new(Memory),
                policy: LicensePolicy::default(),
                issuers: issuers.iter().flat_map(|make| make(&server)).collect(),
            },
        };
        server._runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router(licensing)).await
        });
        server
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..at].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let answer = Answer {
            status,
            head,
            body: answer[at + 4..].to_vec(),
        };
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
        answer
    }

    /// A player's request, with the grant in a header.
    fn raw(&self, system: &str, query: &str, token: &str, body: &[u8]) -> Answer {
        let bearer = format!("Bearer {token}");
        let path = format!("/api/v1/drm/{system}/license?{query}");
        self.send("POST", &path, &[("Authorization", &bearer)], body)
    }
}

fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (status, Some(code)),
        "{}",
        answer.json()
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    let json = answer.json();
    assert_eq!(answer.header("x-request-id"), json["request_id"].as_str());
    let members: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(members, ["code", "message", "request_id"]);
}

fn clear_key_request(key_ids: &[KeyId]) -> Vec<u8> {
    let kids: Vec<String> = key_ids.iter().map(|id| URL_SAFE_NO_PAD.encode(id.0)).collect();
    json!({ "kids": kids, "type": "temporary" }).to_string().into_bytes()
}

/// Key ids of a Clear Key licence.
fn licensed(answer: &Answer) -> Vec<u8> {
    assert_eq!(answer.status, 200, "{}", answer.json());
    let json = answer.json();
    let keys = json["keys"].as_array().unwrap().iter();
    keys.map(|key| URL_SAFE_NO_PAD.decode(key["kid"].as_str().unwrap()).unwrap()[0])
        .collect()
}

#[test]
fn only_holders_of_a_grant_get_in() {
    let server = Server::start();
    let body = clear_key_request(&[HD]);
    let good = token(|_| {});
    let path = "/api/v1/drm/clearkey/license?content_id=film-1";
    let cookie = format!("a=b; headwater_media={good}");
    let answer = server.send("POST", path, &[("Cookie", &cookie)], &body);
    assert_eq!(licensed(&answer), [2]);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let in_path = format!("/vod/film-1/~{good}/license/clearkey");
    assert_eq!(licensed(&server.send("POST", &in_path, &[], &body)), [2]);
    assert_eq!(
        licensed(&server.raw("clearkey", "content_id=film-1", &good, &body)),
        [2]
    );

    assert_refused(&server.send("POST", path, &[], &body), 401, "MEDIA_TOKEN_REQUIRED");
    let in_query = format!("{path}&token={good}");
    assert_refused(&server.send("POST", &in_query, &[], &body), 401, "MEDIA_TOKEN_REQUIRED");
    let plain = format!("/vod/film-1/{good}/license/clearkey");
    assert_refused(&server.send("POST", &plain, &[], &body), 401, "MEDIA_TOKEN_REQUIRED");
    assert_refused(
        &server.raw("clearkey", "content_id=film-1", "", &body),
        401,
        "MEDIA_TOKEN_REQUIRED",
    );
    let other = GrantKeys::new(GrantKey::unnamed([8; 32]), None).unwrap();
    let foreign = Grant::new("/vod/film-1/", now() + 300).mint(&other).unwrap();
    let refused = [
        ("x", "film-1"),
        (foreign.expose(), "film-1"),
        (&good[..good.len() - 1], "film-1"),
        (&good, "film-2"),
        (&good, "film-9"),
        (&token(|grant| grant.expires = now()), "film-1"),
        (&token(|grant| grant.not_before = Some(now() + 60)), "film-1"),
        (&token(|grant| grant.session = Some(b"ended".to_vec())), "film-1"),
        (&token(|grant| grant.tenant = Some("other".to_owned())), "film-1"),
        (&token(|grant| grant.methods = Some(vec!["HEAD".to_owned()])), "film-1"),
    ];
    for (token, title) in refused {
        let answer = server.raw("clearkey", &format!("content_id={title}"), token, &body);
        assert_refused(&answer, 403, "MEDIA_TOKEN_INVALID");
    }
    let any = token(|grant| grant.uri[0].value = "/vod/".to_owned());
    let check = |title: &str, status, code| {
        let answer = server.raw("clearkey", &format!("content_id={title}"), &any, &body);
        assert_refused(&answer, status, code);
    };
    check("film-9", 404, "NOT_FOUND");
    check("damaged", 500, "INTERNAL_ERROR");
    check("..", 404, "NOT_FOUND");
    check("", 404, "NOT_FOUND");
    check("film-1&content_id=film-2", 400, "INVALID_PARAMETER");
    check("film-1&key_id=x", 400, "INVALID_PARAMETER");
    check("film-1&scheme=x", 400, "INVALID_PARAMETER");
    check("film-1&x=y", 400, "INVALID_PARAMETER");
    let answer = server.raw("other", "content_id=film-1", &good, &body);
    assert_refused(&answer, 404, "NOT_FOUND");
}

#[test]
fn licences_hold_what_grant_and_challenge_have_in_common() {
    let server = Server::start();
    let all = [AUDIO, HD, UHD, CENC, KeyId([9; 16])];
    let check = |query: &str, change: &dyn Fn(&mut Grant), asked: &[KeyId], expected: &[u8]| {
        let token = token(change);
        let answer = server.raw(
            "clearkey",
            &format!("content_id=film-1{query}"),
            &token,
            &clear_key_request(asked),
        );
        match expected {
            [] => assert_refused(&answer, 403, "FORBIDDEN"),
            expected => assert_eq!(licensed(&answer), expected, "{query}"),
        }
    };
    let open: &dyn Fn(&mut Grant) = &|_| {};
    check("", open, &all, &[1, 2, 3, 4]);
    check("", open, &[HD], &[2]);
    check("&scheme=cenc", open, &all, &[4]);
    check("&key_id=01010101-0101-0101-0101-010101010101", open, &all, &[1]);
    check("&key_id=01010101-0101-0101-0101-010101010101", open, &[HD], &[]);
    check("", &|grant| grant.height_max = Some(1080), &all, &[1, 2, 4]);
    check("", &|grant| grant.height_max = Some(1080), &[UHD], &[]);
    let cbcs = Some(vec![GrantScheme::Common(ProtectionScheme::Cbcs)]);
    check("", &|grant| grant.schemes.clone_from(&cbcs), &all, &[1, 2, 3]);
    check("", &|grant| grant.schemes = Some(vec![GrantScheme::Aes128]), &all, &[]);
    check("", open, &[KeyId([9; 16])], &[]);

    // PlayReady's challenges are answered as a whole, so all of it must be open.
    let playready = |token: &str, key_id| {
        let challenge = soap(&header_4_0(key_id));
        server.raw("playready", "content_id=film-1", token, challenge.as_bytes())
    };
    let answer = playready(&token(open), HD);
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"<licence/>".as_slice()));
    assert_eq!(answer.header("content-type"), Some("text/xml; charset=utf-8"));
    assert_refused(
        &playready(&token(|grant| grant.height_max = Some(1080)), UHD),
        403,
        "FORBIDDEN",
    );
    assert_refused(&playready(&token(open), KeyId([9; 16])), 403, "FORBIDDEN");
    assert_eq!(server.playready.seen().len(), 1);
}

#[test]
fn challenges_come_and_licences_go_in_the_players_form() {
    let server = Server::start();
    let token = token(|_| {});
    let answer = server.raw("widevine", "content_id=film-1", &token, b"\x08\x04");
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"licence".as_slice()));
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));

    let spc = spc(1, CERTIFICATE_HASH, b"payload");
    let key = "content_id=film-1&key_id=02020202-0202-0202-0202-020202020202";
    let send = |query: &str, kind: &str, body: &[u8]| {
        let bearer = format!("Bearer {token}");
        let path = format!("/api/v1/drm/fairplay/license?{query}");
        server.send(
            "POST",
            &path,
            &[("Authorization", &bearer), ("Content-Type", kind)],
            body,
        )
    };
    let answer = send(key, "application/octet-stream", &spc);
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"ckc".as_slice()));
    let form = format!("x=y&spc={}", STANDARD.encode(&spc).replace('=', "%3D"));
    let answer = send(key, "application/x-www-form-urlencoded; charset=utf-8", form.as_bytes());
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, b"<ckc>Y2tj</ckc>".as_slice())
    );
    let json = json!({ "spc": STANDARD.encode(&spc) }).to_string();
    let answer = send(key, "application/json", json.as_bytes());
    let expected = json!({ "fairplay-streaming-response": { "streaming-keys": [{ "id": 1, "ckc": "Y2tj" }] } });
    assert_eq!(answer.json(), expected);
    let keys = json!([{ "id": 1, "uri": "skd://02020202-0202-0202-0202-020202020202", "spc": STANDARD.encode(&spc) }]);
    let json = json!({ "fairplay-streaming-request": { "version": 1, "streaming-keys": keys } }).to_string();
    assert_eq!(
        send("content_id=film-1", "application/json", json.as_bytes()).json(),
        expected
    );
    // The module is asked for the key of our own vault, and told its name by us.
    for seen in server.fairplay.seen() {
        let json: Value = serde_json::from_slice(&seen.body).unwrap();
        let key = &json["fairplay-streaming-request"]["streaming-keys"][0];
        assert_eq!(key["uri"], "skd://02020202-0202-0202-0202-020202020202");
        assert_eq!(key["spc"], STANDARD.encode(&spc));
    }
    let count = server.fairplay.seen().len();
    let refused =
        |query: &str, kind: &str, body: &[u8], status, code| assert_refused(&send(query, kind, body), status, code);
    refused(
        "content_id=film-1",
        "application/octet-stream",
        &spc,
        422,
        "INVALID_LICENSE_REQUEST",
    );
    refused(
        "content_id=film-1&key_id=04040404040404040404040404040404",
        "application/octet-stream",
        &spc,
        403,
        "FORBIDDEN",
    );
    refused(
        key,
        "application/octet-stream",
        b"\x30\x82\x04\xd3",
        422,
        "INVALID_LICENSE_REQUEST",
    );
    refused(
        key,
        "application/x-www-form-urlencoded",
        b"spc=%zz",
        422,
        "INVALID_LICENSE_REQUEST",
    );
    refused(
        key,
        "application/x-www-form-urlencoded",
        b"cps=1",
        422,
        "INVALID_LICENSE_REQUEST",
    );
    refused(key, "application/json", b"{", 422, "INVALID_LICENSE_REQUEST");
    refused(key, "image/png", &spc, 415, "UNSUPPORTED_MEDIA_TYPE");
    assert_eq!(server.fairplay.seen().len(), count);

    let answer = server.send("GET", "/api/v1/drm/fairplay/certificate", &[], b"");
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, b"a certificate".as_slice())
    );
    let tag = answer.header("etag").unwrap().to_owned();
    let answer = server.send(
        "GET",
        "/api/v1/drm/fairplay/certificate",
        &[("If-None-Match", &tag)],
        b"",
    );
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    let none = server.send("GET", "/api/v1/drm/widevine/certificate", &[], b"");
    assert_refused(&none, 404, "NOT_FOUND");
    let answer = server.send("OPTIONS", "/api/v1/drm/license", &[], b"");
    assert_eq!(answer.status, 204);
    assert!(
        answer
            .header("access-control-allow-headers")
            .unwrap()
            .contains("authorization")
    );
}

#[test]
fn applications_ask_in_json() {
    let server = Server::start();
    let token = token(|grant| grant.expires = now() + 100);
    let good = || {
        json!({ "content_id": "film-1", "content_type": "movie", "drm_system": "widevine",
            "license_request_bytes": STANDARD.encode(b"\x08\x01"), "session_id": "s" })
    };
    let send = |body: &str, kind: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", kind)];
        server.send("POST", "/api/v1/drm/license", &headers, body.as_bytes())
    };
    let before = now();
    let answer = send(&good().to_string(), "application/json; charset=utf-8");
    assert_eq!(answer.status, 200, "{}", answer.json());
    let json = answer.json();
    assert_eq!(json["license_bytes"], STANDARD.encode(b"licence"));
    assert_eq!(
        (&json["drm_system"], &json["offline_enabled"]),
        (&json!("widevine"), &json!(false))
    );
    assert_eq!(json["key_ids"].as_array().unwrap().len(), 4);
    // Never beyond the grant; renewed a tenth before the end.
    let instants: Vec<String> = (0..5)
        .map(|late| control_api::license::rfc3339(before + 100 + late))
        .collect();
    assert!(
        instants.contains(&json["expires_at"].as_str().unwrap().to_owned()),
        "{json}"
    );
    assert!(json["renewal_before"].as_str() < json["expires_at"].as_str());

    let refused = |change: &dyn Fn(&mut Value), status, code| {
        let mut json = good();
        change(&mut json);
        assert_refused(&send(&json.to_string(), "application/json"), status, code);
    };
    refused(&|json| json["x"] = json!(1), 422, "VALIDATION_ERROR");
    refused(&|json| json["content_type"] = json!("x"), 422, "VALIDATION_ERROR");
    refused(&|json| json["drm_system"] = json!("x"), 422, "VALIDATION_ERROR");
    refused(
        &|json| json["license_request_bytes"] = json!("*"),
        422,
        "INVALID_LICENSE_REQUEST",
    );
    refused(
        &|json| json["license_request_bytes"] = json!(""),
        422,
        "INVALID_LICENSE_REQUEST",
    );
    let large = STANDARD.encode(vec![0; (64 << 10) + 1]);
    refused(
        &|json| json["license_request_bytes"] = json!(large),
        413,
        "BODY_TOO_LARGE",
    );
    refused(&|json| json["content_id"] = json!("film-2"), 403, "MEDIA_TOKEN_INVALID");
    refused(&|json| json["key_ids"] = json!(["x"]), 400, "INVALID_PARAMETER");
    assert_refused(&send("{", "application/json"), 400, "BAD_REQUEST");
    assert_refused(&send(&good().to_string(), "text/plain"), 415, "UNSUPPORTED_MEDIA_TYPE");
    let answer = server.send(
        "POST",
        "/api/v1/drm/license",
        &[("Content-Type", "application/json")],
        b"{}",
    );
    assert_refused(&answer, 401, "MEDIA_TOKEN_REQUIRED");
    let answer = server.raw("widevine", "content_id=film-1", &token, &vec![8; (64 << 10) + 1]);
    assert_refused(&answer, 413, "BODY_TOO_LARGE");
    assert_eq!(
        server
            .raw("widevine", "content_id=film-1", &token, &vec![8; 64 << 10])
            .status,
        200
    );
}

#[test]
fn clear_key_is_off_where_nobody_turned_it_on() {
    let server = Server::with(Vec::new());
    let answer = server.raw(
        "clearkey",
        "content_id=film-1",
        &token(|_| {}),
        &clear_key_request(&[HD]),
    );
    assert_refused(&answer, 422, "VALIDATION_ERROR");
    let answer = server.raw("widevine", "content_id=film-1", &token(|_| {}), b"x");
    assert_refused(&answer, 404, "NOT_FOUND");
}
