//! Widevine's key API: signatures of Google's packager, every way to be refused, and our client against our server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control_api::key_exchange::content_key_api::{
    ContentKeyRequest, ResponseError, Signer, SigningKey, Status, Track, open, read_response, refuse,
};
use control_api::key_exchange::{KeySource, Wanted};
use packager::crypto::ProtectionScheme;
use packager::crypto::pssh::Pssh;
use packager::crypto::widevine::WidevineData;
use serde_json::{Value, json};

use crate::source::Memory;

const VECTORS: &str = include_str!("../fixtures/widevine-request-signing.json");

fn hex<const SIZE: usize>(text: &str) -> [u8; SIZE] {
    let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
    std::array::from_fn(byte)
}

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

/// The credential that Google publishes for development.
pub fn signer() -> Signer {
    let credential = &vectors()["credential"];
    let text = |name: &str| credential[name].as_str().unwrap().to_owned();
    Signer {
        name: text("signer"),
        tenant: "acme".to_owned(),
        key: SigningKey::aes(hex(&text("aes_signing_key")), hex(&text("aes_signing_iv"))),
        policies: vec!["gold".to_owned()],
    }
}

fn envelope(request: &[u8], signature: &str, signer: &str) -> Vec<u8> {
    json!({"request": STANDARD.encode(request), "signature": signature, "signer": signer})
        .to_string()
        .into_bytes()
}

fn signed(request: &Value) -> Vec<u8> {
    let request = request.to_string();
    let signature = signer().key.sign(request.as_bytes()).unwrap();
    envelope(request.as_bytes(), &STANDARD.encode(signature), "widevine_test")
}

#[test]
fn signatures_are_those_of_googles_packager() {
    let vectors = vectors();
    let signers = [signer()];
    for vector in vectors["aes"].as_array().unwrap() {
        let message = vector["message_utf8"].as_str().unwrap();
        let signature = vector["signature_b64"].as_str().unwrap();
        let own = signers[0].key.sign(message.as_bytes()).unwrap();
        assert_eq!(STANDARD.encode(own), signature);
        open(
            &envelope(message.as_bytes(), signature, "widevine_test"),
            "widevine_test",
            &signers,
        )
        .unwrap();
    }
}

#[test]
fn a_request_of_ours_is_byte_for_byte_that_of_googles_packager() {
    let vectors = vectors();
    let track = |name: &str| Track {
        track_type: name.to_owned(),
    };
    let mut request = ContentKeyRequest {
        content_id: STANDARD.encode("test content id"),
        tracks: ["SD", "HD", "UHD1", "UHD2", "AUDIO"].map(track).to_vec(),
        drm_types: vec!["WIDEVINE".to_owned()],
        protection_scheme: Some("CENC".to_owned()),
        ..ContentKeyRequest::default()
    };
    for (at, first) in [None, Some(0), Some(10), Some(20), Some(30)].into_iter().enumerate() {
        request.first_crypto_period_index = first;
        request.crypto_period_count = first.map(|_| 10);
        request.crypto_period_seconds = first.map(|_| 4);
        let envelope: Value = serde_json::from_slice(&request.sign(&signer()).unwrap()).unwrap();
        let vector = &vectors["aes"][at];
        assert_eq!(
            envelope["request"],
            STANDARD.encode(vector["message_utf8"].as_str().unwrap())
        );
        assert_eq!(envelope["signature"], vector["signature_b64"]);
    }
}

#[test]
fn rsa_signatures_are_verified() {
    let vectors = vectors();
    let rsa = &vectors["rsa"];
    let request = STANDARD.decode(rsa["request_b64"].as_str().unwrap()).unwrap();
    let signature = rsa["signature_b64"].as_str().unwrap();
    let signers = [Signer {
        key: SigningKey::rsa(rsa["public_key_pem"].as_str().unwrap()).unwrap(),
        ..signer()
    }];
    let check = |request: &[u8], signature: &str| {
        open(
            &envelope(request, signature, "widevine_test"),
            "widevine_test",
            &signers,
        )
        .map(drop)
    };
    assert_eq!(check(&request, signature), Ok(()));
    let mut other = request.clone();
    other[20] ^= 1;
    assert_eq!(check(&other, signature), Err(Status::SignatureFailed));
    let mut other = STANDARD.decode(signature).unwrap();
    for at in [0, 100, 255] {
        other[at] ^= 1;
        assert_eq!(check(&request, &STANDARD.encode(&other)), Err(Status::SignatureFailed));
    }
    assert_eq!(check(&request, ""), Err(Status::SignatureFailed));
    assert!(signers[0].key.sign(&request).is_none());
    assert!(SigningKey::rsa("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").is_none());
}

#[test]
fn what_is_not_signed_by_its_signer_is_refused() {
    let signers = [signer()];
    let message = br#"{"content_id":"YQ==","tracks":[{"type":"SD"}]}"#;
    let signature = STANDARD.encode(signers[0].key.sign(message).unwrap());
    let check = |body: &[u8], url: &str, expected: Result<(), Status>| {
        assert_eq!(open(body, url, &signers).map(drop), expected);
    };
    check(&envelope(message, &signature, "widevine_test"), "widevine_test", Ok(()));
    check(&envelope(message, &signature, ""), "widevine_test", Ok(()));
    check(
        &envelope(message, &signature, "other"),
        "widevine_test",
        Err(Status::SignatureFailed),
    );
    check(
        &envelope(message, &signature, "widevine_test"),
        "other",
        Err(Status::SignatureFailed),
    );
    check(
        &envelope(message, "", "widevine_test"),
        "widevine_test",
        Err(Status::SignatureFailed),
    );
    check(
        &envelope(message, "?", "widevine_test"),
        "widevine_test",
        Err(Status::SignatureFailed),
    );
    check(
        &envelope(b"{}", &signature, "widevine_test"),
        "widevine_test",
        Err(Status::SignatureFailed),
    );
    let whole = envelope(message, &signature, "widevine_test");
    for end in 0..whole.len() {
        check(&whole[..end], "widevine_test", Err(Status::MalformedRequest));
    }
    check(&vec![b' '; 100_000], "widevine_test", Err(Status::MalformedRequest));
    check(&signed(&json!([1])), "widevine_test", Err(Status::MalformedRequest));
    check(
        &signed(&json!({"content_id": 1})),
        "widevine_test",
        Err(Status::MalformedRequest),
    );
}

#[test]
fn every_request_gets_the_status_it_deserves() {
    let check = |change: Value, expected: Status| {
        let mut request = json!({
            "content_id": "YQ==", "policy": "", "tracks": [{"type": "SD"}, {"type": "AUDIO"}],
            "drm_types": ["WIDEVINE"], "protection_scheme": "CENC",
        });
        for (key, value) in change.as_object().unwrap() {
            request[key] = value.clone();
        }
        let signers = [signer()];
        let status = open(&signed(&request), "widevine_test", &signers)
            .and_then(|(signer, request)| request.order(signer))
            .map_or_else(|status| status, |_| Status::Ok);
        assert_eq!(status, expected, "{change}");
    };
    check(json!({}), Status::Ok);
    check(json!({"policy": "gold"}), Status::Ok);
    check(json!({"unheard_of": 1}), Status::Ok);
    check(json!({"drm_types": ["WIDEVINE", "PLAYREADY"]}), Status::Ok);
    check(
        json!({"first_crypto_period_index": 4_294_967_285u32, "crypto_period_count": 10}),
        Status::Ok,
    );
    check(json!({"content_id": ""}), Status::ContentIdMissing);
    check(json!({"content_id": "?"}), Status::MalformedRequest);
    check(
        json!({"content_id": STANDARD.encode([7; 257])}),
        Status::ContentIdMissing,
    );
    check(json!({"policy": "platinum"}), Status::PolicyUnknown);
    check(json!({"tracks": []}), Status::TrackTypeMissing);
    check(json!({"tracks": [{"type": "UHD3"}]}), Status::TrackTypeUnknown);
    check(json!({"tracks": [{}]}), Status::TrackTypeUnknown);
    check(
        json!({"tracks": vec![json!({"type": "SD"}); 17]}),
        Status::MalformedRequest,
    );
    check(json!({"protection_scheme": "ROT13"}), Status::MalformedRequest);
    check(json!({"drm_types": ["FAIRPLAY"]}), Status::MalformedRequest);
    check(json!({"enable_entitlement_license": true}), Status::MalformedRequest);
    check(json!({"pssh_data": "YQ=="}), Status::TooManyContentSpecifiers);
    check(json!({"content_id": "", "asset_id": 7}), Status::AssetNotFound);
    check(
        json!({"first_crypto_period_index": 0, "crypto_period_count": 0}),
        Status::NoRequestedCryptoPeriods,
    );
    check(
        json!({"first_crypto_period_index": 0, "crypto_period_count": 101}),
        Status::MalformedRequest,
    );
    check(
        json!({"first_crypto_period_index": u32::MAX, "crypto_period_count": 2}),
        Status::MalformedRequest,
    );
    let rotating = json!({"first_crypto_period_index": 0, "drm_types": ["PLAYREADY"]});
    check(rotating, Status::KeyRotationWithUnsupportedDrmType);
}

#[test]
fn statuses_go_by_the_protocols_names() {
    let names = [
        "OK",
        "SIGNATURE_FAILED",
        "CONTENT_ID_MISSING",
        "POLICY_UNKNOWN",
        "TRACK_TYPE_MISSING",
        "TRACK_TYPE_UNKNOWN",
        "MALFORMED_REQUEST",
        "ACCESS_DENIED",
        "INTERNAL_ERROR",
        "INVALID_WIDEVINE_PSSH",
        "TOO_MANY_CONTENT_SPECIFIERS",
        "ASSET_NOT_FOUND",
        "ASSET_MISSING_KEY",
        "CONTENT_ID_MISMATCH",
        "KEY_ID_MISMATCH",
        "INVALID_GROUP_TRACK_TYPE",
        "KEY_ROTATION_WITH_UNSUPPORTED_DRM_TYPE",
        "NO_REQUESTED_CRYPTO_PERIODS",
    ];
    for name in names {
        let status: Status = serde_json::from_value(json!(name)).unwrap();
        assert_eq!(status.to_string(), name);
        let body: Value = serde_json::from_slice(&refuse(status)).unwrap();
        let response = STANDARD.decode(body["response"].as_str().unwrap()).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&response).unwrap(),
            json!({"status": name})
        );
        assert_eq!(status.is_retryable(), name == "INTERNAL_ERROR");
    }
}

#[test]
fn our_client_reads_what_our_server_writes() {
    let memory = Memory::default();
    let mut request = ContentKeyRequest {
        content_id: STANDARD.encode([0xff, 0]),
        tracks: ["AUDIO", "UHD2"]
            .map(|name| Track {
                track_type: name.to_owned(),
            })
            .to_vec(),
        drm_types: vec!["WIDEVINE".to_owned(), "PLAYREADY".to_owned()],
        protection_scheme: Some("CBCS".to_owned()),
        ..ContentKeyRequest::default()
    };
    let exchange = |request: &ContentKeyRequest| {
        let signers = [signer()];
        let (signer, read) = open(&request.sign(&signers[0]).unwrap(), "widevine_test", &signers).unwrap();
        assert_eq!(read, *request);
        let order = read.order(signer).unwrap();
        assert_eq!(order.contract.content_id, "hex-ff00");
        order.respond(&memory.keys(&order.contract).unwrap())
    };
    let body = exchange(&request);
    let set = read_response(&body, &request).unwrap();
    assert_eq!(set.keys.len(), 2);
    let stored = memory.existing("acme", "hex-ff00");
    for (key, stored) in set.keys.iter().zip(&stored) {
        assert_eq!((key.key_id, key.key.expose()), (stored.key_id, stored.key.expose()));
        assert_eq!((key.scheme, key.period), (Some(ProtectionScheme::Cbcs), 0));
    }
    assert_eq!(body, exchange(&request), "the same request gives the same keys");

    let body: Value = serde_json::from_slice(&body).unwrap();
    let response = STANDARD.decode(body["response"].as_str().unwrap()).unwrap();
    let response: Value = serde_json::from_slice(&response).unwrap();
    let pssh = &response["tracks"][0]["pssh"];
    let data = STANDARD.decode(pssh[0]["data"].as_str().unwrap()).unwrap();
    let data = WidevineData::parse(&data).unwrap();
    assert_eq!(
        (data.key_ids, data.content_id),
        (vec![stored[0].key_id], Some(vec![0xff, 0]))
    );
    assert_eq!(data.protection_scheme, Some(ProtectionScheme::Cbcs));
    let boxes = STANDARD.decode(pssh[1]["boxes"].as_str().unwrap()).unwrap();
    assert_eq!(
        STANDARD.encode(Pssh::parse(&boxes).unwrap().data),
        pssh[1]["data"].as_str().unwrap()
    );

    request.drm_types.pop();
    request.first_crypto_period_index = Some(7);
    request.crypto_period_count = Some(3);
    let set = read_response(&exchange(&request), &request).unwrap();
    let periods: Vec<u64> = set.keys.iter().map(|key| key.period).collect();
    assert_eq!(periods, [7, 7, 8, 8, 9, 9]);
    let mut ids: Vec<_> = set.keys.iter().map(|key| key.key_id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

#[test]
fn a_response_that_leaves_something_out_is_refused() {
    let request = ContentKeyRequest {
        content_id: STANDARD.encode("a"),
        tracks: vec![Track {
            track_type: "SD".to_owned(),
        }],
        ..ContentKeyRequest::default()
    };
    let check = |response: Value, expected: ResponseError| {
        let body = json!({"response": STANDARD.encode(response.to_string())}).to_string();
        assert_eq!(
            read_response(body.as_bytes(), &request).err(),
            Some(expected),
            "{response}"
        );
    };
    let sixteen = STANDARD.encode([1; 16]);
    check(
        json!({"status": "SIGNATURE_FAILED"}),
        ResponseError::Refused(Status::SignatureFailed),
    );
    check(json!({"status": "OK"}), ResponseError::Missing);
    check(json!({"status": "SUPER"}), ResponseError::Malformed);
    check(
        json!({"status": "OK", "tracks": [{"type": "HD", "key_id": sixteen, "key": sixteen}]}),
        ResponseError::Missing,
    );
    check(
        json!({"status": "OK", "tracks": [{"type": "SD", "key_id": sixteen, "key": "AAAA"}]}),
        ResponseError::Malformed,
    );
    assert_eq!(read_response(b"{}", &request).err(), Some(ResponseError::Malformed));
    let order = request.order(&signer()).unwrap();
    let Wanted::Keys(wanted) = &order.contract.wanted else {
        panic!("not keys")
    };
    assert_eq!(wanted.len(), 1);
    // A source that does not answer what it was asked is not passed on.
    let body = order.respond(&Default::default());
    assert_eq!(
        read_response(&body, &request).err(),
        Some(ResponseError::Refused(Status::InternalError))
    );
}
