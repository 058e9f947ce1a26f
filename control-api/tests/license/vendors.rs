//! Each vendor's contract: the request that a fake of it sees, and every way in which its reply can be wrong.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use control_api::key_exchange::content_key_api::SigningKey;
use control_api::license::fairplay_ksm::FairPlayKsm;
use control_api::license::multidrm::MultiDrm;
use control_api::license::playready_http::{Entitlement, PlayReadyHttp};
use control_api::license::token::{Carrier, Maker, Place};
use control_api::license::widevine_cloud::{KeyOwner, StatusMeaning, WidevineCloud};
use control_api::license::{
    Hdcp, IssueRequest, Issuer, Keep, LicenseBackend, LicenseError, LicenseSystem, LicensedKey, Named, RenewalTerms,
    Terms, TrackTerms,
};
use control_api::outbound::{Outbound, Reach, check_url};
use packager::crypto::vault::TrackClass;
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};
use serde_json::{Value, json};

use crate::upstream::{Say, Upstream};

const CHALLENGE: &[u8] = b"\x08\x01 opaque \xff";
const AUDIO: KeyId = KeyId([0x11; 16]);
const HD: KeyId = KeyId([0x22; 16]);

fn keys() -> Vec<LicensedKey> {
    let key = |key_id, track, byte| LicensedKey {
        key_id,
        key: ContentKey::new([byte; 16]),
        scheme: ProtectionScheme::Cbcs,
        track,
    };
    vec![key(AUDIO, TrackClass::Audio, 0xaa), key(HD, TrackClass::Hd, 0xbb)]
}

fn terms() -> Terms {
    Terms {
        expires: 1_795_329_600,
        duration_s: 600,
        playback_duration_s: Some(300),
        keep: Keep::Session,
        renewal: Some(RenewalTerms {
            delay_s: 240,
            retry_s: 10,
            recovery_s: 60,
        }),
        tracks: vec![TrackTerms {
            track: TrackClass::Hd,
            widevine_level: 5,
            playready_level: 3_000,
            hdcp: Hdcp::V2_2,
        }],
    }
}

/// Asks a backend for a licence, over the network.
fn issue(backend: impl LicenseBackend, challenge: &[u8], keys: &[LicensedKey]) -> Result<Vec<u8>, LicenseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        // No certificate is checked on the way to a fake, but somebody must be trusted.
        let roots = include_bytes!("../fixtures/cpix-recipient.cert.pem");
        let outbound = Outbound::new(Reach::Public, Some(roots), None).unwrap();
        let issuer = Issuer::new(Box::new(backend), Some(outbound));
        let request = IssueRequest {
            content_id: "film-1",
            tenant: "acme",
            session: Some("5e55"),
            request_id: "00000000-0000-4000-8000-000000000001",
            challenge,
            keys,
            terms: &terms(),
            now: 1_795_329_000,
        };
        issuer.issue(&request).await.map(|license| license.bytes.to_vec())
    })
}

fn url(upstream: &Upstream, path: &str) -> hyper::Uri {
    check_url(&upstream.url(path), Reach::Public).unwrap()
}

/// Google's published credential for development.
fn widevine(upstream: &Upstream, owner: KeyOwner) -> WidevineCloud {
    let file: Value = serde_json::from_str(include_str!("../fixtures/widevine-request-signing.json")).unwrap();
    let bytes = |name: &str| {
        let text = file["credential"][name].as_str().unwrap();
        let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digits).collect::<Vec<u8>>()
    };
    WidevineCloud {
        url: url(upstream, "/cenc/getlicense/widevine_test"),
        provider: "widevine_test".to_owned(),
        key: SigningKey::aes(
            bytes("aes_signing_key").try_into().unwrap(),
            bytes("aes_signing_iv").try_into().unwrap(),
        ),
        owner,
        policy: None,
        renewal_url: Some("https://license.example/renew".to_owned()),
        statuses: BTreeMap::from([("DEVICE_REVOKED".to_owned(), StatusMeaning::Denied)]),
    }
}

#[test]
fn widevine_is_asked_in_a_signed_envelope() {
    let reply = json!({ "status": "OK", "license": STANDARD.encode(b"licence"), "make": "x" }).to_string();
    let upstream = Upstream::reply(200, reply);
    let license = issue(widevine(&upstream, KeyOwner::Us), CHALLENGE, &keys()).unwrap();
    assert_eq!(license, b"licence");
    let seen = upstream.only();
    assert_eq!(seen.line, "POST /cenc/getlicense/widevine_test HTTP/1.1");
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.names(), ["content-length", "content-type", "host"]);
    let envelope: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(envelope["signer"], "widevine_test");
    let message = STANDARD.decode(envelope["request"].as_str().unwrap()).unwrap();
    let expected = concat!(
        r#"{"payload":"CAEgb3BhcXVlIP8=","content_id":"ZmlsbS0x","provider":"widevine_test","content_key_specs":["#,
        r#"{"track_type":"AUDIO","key_id":"EREREREREREREREREREREQ==","key":"qqqqqqqqqqqqqqqqqqqqqg==","#,
        r#""security_level":1,"required_output_protection":{"hdcp":"HDCP_NONE"}},"#,
        r#"{"track_type":"HD","key_id":"IiIiIiIiIiIiIiIiIiIiIg==","key":"u7u7u7u7u7u7u7u7u7u7uw==","#,
        r#""security_level":5,"required_output_protection":{"hdcp":"HDCP_V2_2"}}],"#,
        r#""policy_overrides":{"can_play":true,"can_persist":false,"can_renew":true,"license_duration_seconds":600,"#,
        r#""playback_duration_seconds":300,"renewal_server_url":"https://license.example/renew","#,
        r#""renewal_delay_seconds":240,"renewal_retry_interval_seconds":10,"renewal_recovery_duration_seconds":60},"#,
        r#""use_policy_overrides_exclusively":true}"#,
    );
    assert_eq!(String::from_utf8(message).unwrap(), expected);
    // By openssl: SHA-1 of the message, padded, under AES-256-CBC with the published key and vector.
    assert_eq!(envelope["signature"], "8Zgn+b1OFpc02Bsum0RiE4vpwTFB2cu5XQRNl5Ctf3c=");

    let upstream = Upstream::reply(200, json!({ "status": "OK", "license": "bA==" }).to_string());
    issue(widevine(&upstream, KeyOwner::Service), CHALLENGE, &keys()).unwrap();
    let envelope: Value = serde_json::from_slice(&upstream.only().body).unwrap();
    let message = STANDARD.decode(envelope["request"].as_str().unwrap()).unwrap();
    let text = String::from_utf8(message).unwrap();
    assert!(
        !text.contains("\"key") && text.contains("\"track_type\":\"HD\""),
        "{text}"
    );
}

#[test]
fn widevine_replies_are_believed_for_our_title_and_keys_alone() {
    let check = |owner, reply: Value, expected: Result<&[u8], LicenseError>| {
        let text = reply.to_string();
        let upstream = Upstream::reply(200, text.clone());
        let result = issue(widevine(&upstream, owner), CHALLENGE, &keys());
        assert_eq!(result, expected.map(<[u8]>::to_vec), "{text}");
    };
    let ok = |more: Value| {
        let mut reply = json!({ "status": "OK", "license": STANDARD.encode(b"l") });
        reply.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        reply
    };
    let upstream = |reason| Err(LicenseError::Upstream(reason));
    let tracks = |id: KeyId| json!({ "supported_tracks": [{ "type": "HD", "key_id": STANDARD.encode(id.0) }] });
    check(KeyOwner::Us, ok(tracks(HD)), Ok(b"l"));
    check(
        KeyOwner::Us,
        ok(tracks(KeyId([9; 16]))),
        upstream("answered for another key"),
    );
    check(KeyOwner::Service, ok(tracks(KeyId([9; 16]))), Ok(b"l"));
    let title = |id: &str| json!({ "license_metadata": { "content_id": STANDARD.encode(id) } });
    check(KeyOwner::Us, ok(title("film-1")), Ok(b"l"));
    check(
        KeyOwner::Us,
        ok(title("film-2")),
        upstream("answered for another title"),
    );
    let not_one = "answered with something else than a licence";
    for wrong in [
        json!({}),
        json!([]),
        json!({ "status": "OK" }),
        json!({ "status": "OK", "license": "" }),
    ] {
        check(KeyOwner::Us, wrong, upstream(not_one));
    }
    check(
        KeyOwner::Us,
        json!({ "status": "OK", "license": "*" }),
        upstream(not_one),
    );
    let status = |name: &str| json!({ "status": name, "license": "bA==" });
    check(KeyOwner::Us, status("SIGNATURE_FAILED"), Err(LicenseError::Credentials));
    check(KeyOwner::Us, status("ACCESS_DENIED"), Err(LicenseError::Denied));
    check(KeyOwner::Us, status("DEVICE_REVOKED"), Err(LicenseError::Denied));
    check(
        KeyOwner::Us,
        status("MALFORMED_REQUEST"),
        Err(LicenseError::Challenge("the licence service can not read it")),
    );
    check(
        KeyOwner::Us,
        status("SOMETHING"),
        upstream("answered with a status that is not known here"),
    );
}

#[test]
fn widevine_is_asked_again_when_it_asks_for_it() {
    let again = Say::Reply(200, br#"{"status":"INTERNAL_ERROR"}"#.to_vec());
    let ok = Say::Reply(200, br#"{"status":"OK","license":"bA=="}"#.to_vec());
    let upstream = Upstream::start(vec![again.clone(), again.clone(), ok]);
    assert_eq!(
        issue(widevine(&upstream, KeyOwner::Us), CHALLENGE, &keys()),
        Ok(b"l".to_vec())
    );
    assert_eq!(upstream.seen().len(), 3);
    let upstream = Upstream::start(vec![again]);
    let result = issue(widevine(&upstream, KeyOwner::Us), CHALLENGE, &keys());
    assert_eq!((result, upstream.seen().len()), (Err(LicenseError::Again), 3));
}

/// A challenge with these headers, as a client of PlayReady wraps them.
pub fn soap(headers: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\">\
         <soap:Body><AcquireLicense xmlns=\"http://schemas.microsoft.com/DRM/2007/03/protocols\"><challenge>\
         <Challenge xmlns=\"http://schemas.microsoft.com/DRM/2007/03/protocols/messages\">\
         <LA xmlns=\"http://schemas.microsoft.com/DRM/2007/03/protocols\" Id=\"SignedData\" xml:space=\"preserve\">\
         <Version>1</Version><ContentHeader>{headers}</ContentHeader></LA></Challenge></challenge></AcquireLicense>\
         </soap:Body></soap:Envelope>"
    )
}

const WRM: &str = "http://schemas.microsoft.com/DRM/2007/03/PlayReadyHeader";

/// GUIDs of one byte read the same in either order.
fn guid(key_id: KeyId) -> String {
    STANDARD.encode(key_id.0)
}

pub fn header_4_0(key_id: KeyId) -> String {
    format!(
        "<WRMHEADER xmlns=\"{WRM}\" version=\"4.0.0.0\"><DATA><PROTECTINFO><KEYLEN>16</KEYLEN><ALGID>AESCTR</ALGID>\
         </PROTECTINFO><KID>{}</KID></DATA></WRMHEADER>",
        guid(key_id)
    )
}

fn header_4_3(key_ids: &[KeyId]) -> String {
    let kids: String = key_ids
        .iter()
        .map(|id| format!("<KID ALGID=\"AESCBC\" VALUE=\"{}\"></KID>", guid(*id)))
        .collect();
    format!(
        "<WRMHEADER xmlns=\"{WRM}\" version=\"4.3.0.0\"><DATA><PROTECTINFO><KIDS>{kids}</KIDS></PROTECTINFO></DATA></WRMHEADER>"
    )
}

fn playready(upstream: &Upstream, entitlement: Entitlement) -> PlayReadyHttp {
    PlayReadyHttp {
        url: url(upstream, "/rightsmanager.asmx"),
        entitlement,
    }
}

#[test]
fn playready_challenges_go_as_they_are() {
    let challenge = soap(&header_4_0(HD));
    let upstream = Upstream::reply(200, "<licence/>");
    let license = issue(playready(&upstream, Entitlement::None), challenge.as_bytes(), &keys()).unwrap();
    assert_eq!(license, b"<licence/>");
    let seen = upstream.only();
    assert_eq!(seen.line, "POST /rightsmanager.asmx HTTP/1.1");
    assert_eq!(seen.body, challenge.as_bytes());
    assert_eq!(seen.header("content-type"), Some("text/xml; charset=utf-8"));
    assert_eq!(
        seen.header("soapaction"),
        Some("\"http://schemas.microsoft.com/DRM/2007/03/protocols/AcquireLicense\"")
    );
    assert_eq!(seen.names(), ["content-length", "content-type", "host", "soapaction"]);

    let upstream = Upstream::reply(200, "<licence/>");
    issue(
        playready(&upstream, Entitlement::TestServer),
        challenge.as_bytes(),
        &keys(),
    )
    .unwrap();
    assert_eq!(
        upstream.only().line,
        "POST /rightsmanager.asmx?cfg=(kid:11111111-1111-1111-1111-111111111111,contentkey:qqqqqqqqqqqqqqqqqqqqqg%3D%3D,\
         sl:2000,ckt:aes128bitcbc,persist:false),(kid:22222222-2222-2222-2222-222222222222,\
         contentkey:u7u7u7u7u7u7u7u7u7u7uw%3D%3D,sl:3000,ckt:aes128bitcbc,persist:false) HTTP/1.1"
    );
}

#[test]
fn playready_challenges_say_which_keys_they_are_for() {
    let upstream = Upstream::reply(200, "x");
    let backend = playready(&upstream, Entitlement::None);
    let check = |challenge: &str, expected: Result<&[KeyId], &'static str>| {
        let expected = match expected {
            Ok(ids) => Ok(Named::All(ids.to_vec())),
            Err(reason) => Err(LicenseError::Challenge(reason)),
        };
        assert_eq!(backend.inspect(challenge.as_bytes()), expected, "{challenge}");
    };
    check(&soap(&header_4_0(HD)), Ok(&[HD]));
    check(&soap(&header_4_3(&[AUDIO, HD])), Ok(&[AUDIO, HD]));
    // A second header, wherever it stands, counts too.
    check(&soap(&(header_4_0(HD) + &header_4_0(AUDIO))), Ok(&[HD, AUDIO]));
    let outside = soap(&header_4_0(HD)).replace(
        "<soap:Body>",
        &format!("<soap:Header>{}</soap:Header><soap:Body>", header_4_0(AUDIO)),
    );
    check(&outside, Ok(&[AUDIO, HD]));
    check(&soap(""), Err("names no key"));
    check(
        &soap(&header_4_0(HD).replace("IiIi", "Ii")),
        Err("names a key that is no GUID"),
    );
    let many: Vec<KeyId> = (0..65).map(|n| KeyId([n; 16])).collect();
    check(&soap(&header_4_3(&many)), Err("names too many keys"));
    let not_one = "not a SOAP message that acquires a licence";
    for wrong in ["", "x", "<a/>", "<!DOCTYPE a><a/>"] {
        check(wrong, Err(not_one));
    }
    check(&soap("").replace("AcquireLicense", "Other"), Err(not_one));
    let whole = soap(&header_4_0(HD));
    for end in 0..whole.len() - 1 {
        assert!(backend.inspect(&whole.as_bytes()[..end]).is_err(), "{end}");
    }
    // The order of bytes in a GUID, as in Microsoft's description of it.
    let kid = header_4_0(HD).replace(&guid(HD), "jADgM0TEcEeYmaMh4HndNg==");
    let expected = KeyId::parse("33e0008c-c444-4770-9899-a321e079dd36").unwrap();
    check(&soap(&kid), Ok(&[expected]));
}

#[test]
fn playready_faults_are_passed_on() {
    let fault = "<soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body><soap:Fault>\
                 <faultcode>soap:Server</faultcode></soap:Fault></soap:Body></soap:Envelope>";
    let challenge = soap(&header_4_0(HD));
    let check = |status, body: &str, expected: LicenseError| {
        let upstream = Upstream::reply(status, body);
        let result = issue(playready(&upstream, Entitlement::None), challenge.as_bytes(), &keys());
        assert_eq!(result, Err(expected));
        assert_eq!(
            upstream.seen().len(),
            1,
            "a licence that was asked for is not asked for again"
        );
    };
    check(500, fault, LicenseError::Fault(fault.as_bytes().to_vec()));
    check(500, "<html/>", LicenseError::Upstream("answered with an error"));
    check(500, "", LicenseError::Upstream("answered with an error"));
    check(200, "", LicenseError::Upstream("answered with nothing"));
    check(302, "", LicenseError::Upstream("redirects, which are not followed"));
    check(401, "", LicenseError::Credentials);
    check(403, fault, LicenseError::Credentials);
    check(400, "", LicenseError::Challenge("the licence service can not read it"));
    check(503, "", LicenseError::Unavailable);
    check(429, "", LicenseError::Unavailable);
}

/// An SPC by its outside.
pub fn spc(version: u32, certificate_hash: [u8; 20], payload: &[u8]) -> Vec<u8> {
    let mut spc = version.to_be_bytes().to_vec();
    spc.extend([0; 4 + 16 + 128]);
    spc.extend(certificate_hash);
    spc.extend((payload.len() as u32).to_be_bytes());
    spc.extend(payload);
    spc
}

fn fairplay(upstream: &Upstream) -> FairPlayKsm {
    FairPlayKsm {
        url: url(upstream, "/ksm"),
        certificate: Some(b"a certificate".to_vec()),
        uri_template: "skd://{kid}".to_owned(),
    }
}

/// `printf 'a certificate' | sha1sum`
pub const CERTIFICATE_HASH: [u8; 20] = [
    0xbb, 0xb2, 0xb7, 0xb1, 0x4f, 0x22, 0x4f, 0xf6, 0xea, 0x38, 0x68, 0xf9, 0x80, 0x32, 0x40, 0x40, 0x67, 0x26, 0xb7,
    0x7c,
];

#[test]
fn fairplay_modules_are_asked_in_apples_json() {
    let spc = spc(1, CERTIFICATE_HASH, b"payload");
    let reply =
        json!({ "fairplay-streaming-response": { "streaming-keys": [{ "id": 1, "ckc": STANDARD.encode(b"ckc") }] } });
    let upstream = Upstream::reply(200, reply.to_string());
    assert_eq!(fairplay(&upstream).inspect(&spc), Ok(Named::Opaque));
    assert_eq!(issue(fairplay(&upstream), &spc, &keys()[1..]), Ok(b"ckc".to_vec()));
    let seen = upstream.only();
    assert_eq!(seen.line, "POST /ksm HTTP/1.1");
    assert_eq!(seen.names(), ["content-length", "content-type", "host"]);
    let expected = format!(
        "{{\"fairplay-streaming-request\":{{\"version\":1,\"streaming-keys\":[{{\"id\":1,\
         \"uri\":\"skd://22222222-2222-2222-2222-222222222222\",\"spc\":\"{}\"}}]}}}}",
        STANDARD.encode(&spc)
    );
    assert_eq!(String::from_utf8(seen.body).unwrap(), expected);
    let several = issue(fairplay(&upstream), &spc, &keys());
    assert_eq!(
        several,
        Err(LicenseError::Challenge("which key it is for is not said: key_id"))
    );

    let check = |keys: Value| {
        let reply = json!({ "fairplay-streaming-response": { "streaming-keys": keys } }).to_string();
        let upstream = Upstream::reply(200, reply.clone());
        let result = issue(fairplay(&upstream), &spc, &self::keys()[1..]);
        let expected = LicenseError::Upstream("answered with something else than a CKC");
        assert_eq!(result, Err(expected), "{reply}");
    };
    check(json!([]));
    check(json!([{ "id": 1 }]));
    check(json!([{ "id": 2, "ckc": "bA==" }]));
    check(json!([{ "id": 1, "ckc": "" }]));
    check(json!([{ "id": 1, "ckc": "*" }]));
    check(json!([{ "ckc": "bA==" }, { "ckc": "bA==" }]));
    check(json!({}));
}

#[test]
fn spcs_are_looked_at_from_outside() {
    let upstream = Upstream::reply(200, "");
    let backend = fairplay(&upstream);
    let check = |spc: &[u8], expected: Option<&'static str>| {
        let expected = expected.map_or(Ok(Named::Opaque), |reason| Err(LicenseError::Challenge(reason)));
        assert_eq!(backend.inspect(spc), expected);
    };
    let whole = spc(1, CERTIFICATE_HASH, b"payload");
    check(&whole, None);
    check(&spc(2, CERTIFICATE_HASH, b"payload"), None);
    check(&spc(3, [0; 20], b"payload"), None);
    check(&spc(1, [0; 20], b"payload"), Some("an SPC for another certificate"));
    check(&spc(2, [0; 20], b"payload"), Some("an SPC for another certificate"));
    check(
        &[0x30, 0x82, 0x04, 0xd3, 0x30],
        Some("a certificate in place of an SPC"),
    );
    check(&spc(4, CERTIFICATE_HASH, b""), Some("not an SPC of a known version"));
    check(&spc(0, CERTIFICATE_HASH, b""), Some("not an SPC of a known version"));
    for end in 0..whole.len() {
        assert!(backend.inspect(&whole[..end]).is_err(), "{end}");
    }
    let longer = [whole.as_slice(), b"x"].concat();
    check(&longer, Some("an SPC of another length than it says"));
}

fn multidrm(upstream: &Upstream, system: LicenseSystem, maker: Maker, place: Place) -> MultiDrm {
    MultiDrm {
        system,
        url: url(upstream, "/acquire?tenant=t"),
        entitlement: Carrier { maker, place },
        certificate: None,
    }
}

/// Claims of a JWT, whose signature is checked by `key`.
fn claims(token: &str, key: &[u8]) -> Value {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    let tag = URL_SAFE_NO_PAD.decode(signature).unwrap();
    aws_lc_rs::hmac::verify(&key, signed.as_bytes(), &tag).unwrap();
    let (_, payload) = signed.split_once('.').unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn brokers_get_the_challenge_and_their_token() {
    let axinom = Maker::Axinom {
        key_id: "c-1".to_owned(),
        key: b"communication key".to_vec().into(),
    };
    let upstream = Upstream::reply(200, "licence");
    let place = Place::Header("x-axdrm-message".to_owned());
    let backend = multidrm(&upstream, LicenseSystem::Widevine, axinom, place);
    assert_eq!(issue(backend, CHALLENGE, &keys()), Ok(b"licence".to_vec()));
    let seen = upstream.only();
    assert_eq!(
        (seen.line.as_str(), seen.body.as_slice()),
        ("POST /acquire?tenant=t HTTP/1.1", CHALLENGE)
    );
    assert_eq!(seen.header("content-type"), Some("application/octet-stream"));
    let message = claims(seen.header("x-axdrm-message").unwrap(), b"communication key");
    let expected = json!({
        "version": 1,
        "id": "00000000-0000-4000-8000-000000000001",
        "com_key_id": "c-1",
        "begin_date": "2026-11-22T06:30:00Z",
        "expiration_date": "2026-11-22T06:32:00Z",
        "message": {
            "type": "entitlement_message",
            "version": 2,
            "license": {
                "start_datetime": "2026-11-22T06:30:00Z",
                "expiration_datetime": "2026-11-22T06:40:00Z",
                "duration": 600,
                "allow_persistence": false,
            },
            "content_keys_source": { "inline": [{ "id": AUDIO.to_string() }, { "id": HD.to_string() }] },
        },
    });
    assert_eq!(message, expected);

    // A vendor of one's own choice, by a template.
    let template = json!({ "sub": "{session}", "cid": "{content_id}", "exp": "{token_expires}", "kids": "{key_ids}",
        "lic": [{ "end": "{expires}", "fixed": "{other}" }], "sys": "{system}" });
    let own = Maker::Jwt {
        claims: template,
        key_id: Some("k".to_owned()),
        key: b"secret".to_vec().into(),
    };
    let upstream = Upstream::reply(200, "licence");
    let challenge = soap(&header_4_0(HD));
    let backend = multidrm(&upstream, LicenseSystem::PlayReady, own, Place::Bearer);
    issue(backend, challenge.as_bytes(), &keys()).unwrap();
    let seen = upstream.only();
    assert!(seen.header("soapaction").is_some() && seen.body == challenge.as_bytes());
    let token = seen.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    let expected = json!({ "sub": "5e55", "cid": "film-1", "exp": 1_795_329_120, "kids": [AUDIO.to_string(), HD.to_string()],
        "lic": [{ "end": 1_795_329_600, "fixed": "{other}" }], "sys": "playready" });
    assert_eq!(claims(token, b"secret"), expected);
}

#[test]
fn dove_runners_token_is_the_one_of_its_samples() {
    let maker = Maker::DoveRunner {
        site_id: "TEST".to_owned(),
        site_key: (*b"0123456789abcdefghijklmnopqrstuv").into(),
        access_key: "access-key".to_owned().into(),
    };
    let upstream = Upstream::reply(200, "licence");
    let backend = multidrm(
        &upstream,
        LicenseSystem::FairPlay,
        maker,
        Place::Header("pallycon-customdata-v2".to_owned()),
    );
    issue(backend, &spc(3, [0; 20], b""), &keys()[..1]).unwrap();
    let seen = upstream.only();
    let token = STANDARD.decode(seen.header("pallycon-customdata-v2").unwrap()).unwrap();
    let token: Value = serde_json::from_slice(&token).unwrap();
    // By openssl and Python's hashlib, in the order of the vendor's published sample.
    let expected = json!({
        "drm_type": "FairPlay",
        "site_id": "TEST",
        "user_id": "5e55",
        "cid": "film-1",
        "policy": "O6FqbCMiOIiGMnIvK7BtDU1RYaHj1IFhjX5UeA7nqeYnFV8bKdfr7d7rRGPvzIOONZ5NcpAPivP+e+rdQ8ph1meUQW3QixOfd7bQ76NAzEAv9LferpJgseDVftoQ0CHVi6ZfxVdV74onmW9NDfLF4g==",
        "response_format": "original",
        "key_rotation": false,
        "timestamp": "2026-11-22T06:30:00Z",
        "hash": "MSHwMs0XNGeHSGHlxrMEpKVn+keOQQf0GKnLzBNl6FY=",
    });
    assert_eq!(token, expected);
}

#[test]
fn services_that_fail_are_given_up_in_time() {
    let ok = Say::Reply(200, br#"{"status":"OK","license":"bA=="}"#.to_vec());
    let check = |script: Vec<Say>, expected: Result<Vec<u8>, LicenseError>, count: usize| {
        let upstream = Upstream::start(script);
        let begun = Instant::now();
        let result = issue(widevine(&upstream, KeyOwner::Us), CHALLENGE, &keys());
        assert_eq!((result, upstream.seen().len()), (expected, count));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    };
    let status = |status| Say::Reply(status, Vec::new());
    check(vec![status(503), status(502), ok.clone()], Ok(b"l".to_vec()), 3);
    check(vec![status(503)], Err(LicenseError::Unavailable), 3);
    check(
        vec![status(500)],
        Err(LicenseError::Upstream("answered with an error")),
        1,
    );
    check(
        vec![
            Say::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx".to_vec()),
            ok.clone(),
        ],
        Ok(b"l".to_vec()),
        2,
    );
    check(
        vec![Say::Raw(b"not HTTP\r\n\r\n".to_vec())],
        Err(LicenseError::Unavailable),
        3,
    );
    check(
        vec![Say::Flood],
        Err(LicenseError::Upstream("answered with too much")),
        1,
    );
    check(
        vec![Say::Silence(Duration::from_secs(60))],
        Err(LicenseError::Unavailable),
        2,
    );
    // Nobody listens there any more.
    let gone = Upstream::reply(200, "");
    let mut backend = widevine(&gone, KeyOwner::Us);
    backend.url = check_url("http://127.0.0.1:9/x", Reach::Public).unwrap();
    assert_eq!(issue(backend, CHALLENGE, &keys()), Err(LicenseError::Unavailable));
    // A name that leads home.
    let mut backend = widevine(&gone, KeyOwner::Us);
    backend.url = check_url("https://localhost:9/x", Reach::Public).unwrap();
    let result = issue(backend, CHALLENGE, &keys());
    assert_eq!(
        result,
        Err(LicenseError::Upstream("its name leads where nothing may be asked"))
    );
}
