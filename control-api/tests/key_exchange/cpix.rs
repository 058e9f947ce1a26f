//! CPIX: what we export, as an independent program read it; what we import; every way in which that is refused.
//!
//! `cpix-export.xml` was written by the first test and decrypted by `cpix-export-check.py` (Python's `cryptography` and
//! `lxml`), which gave `cpix-export.keys`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control_api::key_exchange::cpix::{Document, KeyValue, Version, read, write};
use control_api::key_exchange::delivery::{DeliveryError, DeliveryKey, Recipient};
use control_api::key_exchange::{Key, KeySet, TrackType};
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};

use crate::speke::{CERTIFICATE, PRIVATE_KEY};

/// Something done to a `CipherValue` and its `ValueMAC`.
type Change<'a> = dyn Fn(&mut Vec<u8>, &mut Option<Vec<u8>>) + 'a;

const EXPORT: &str = include_str!("../fixtures/cpix-export.xml");
const EXPORT_KEYS: &str = include_str!("../fixtures/cpix-export.keys");

fn title() -> KeySet {
    let key = |n: u8, track_type: &str, period| Key {
        key_id: KeyId([n; 16]),
        key: ContentKey::new([0xa0 | n; 16]),
        scheme: Some(ProtectionScheme::Cbcs),
        track_type: TrackType::parse(track_type).unwrap(),
        period,
        iv: (n == 1).then_some([0x11; 16]),
    };
    KeySet {
        keys: vec![
            key(1, "AUDIO", 0),
            key(2, "SD", 0),
            key(3, "HD", 0),
            key(4, "UHD1", 1),
            key(5, "HD2", 1),
        ],
    }
}

fn export(version: Version, recipients: &[Recipient]) -> String {
    write(
        &Document::export(version, "film & <1>", &title(), recipients).unwrap(),
        version,
    )
}

fn recipient() -> Recipient {
    Recipient::from_pem(CERTIFICATE).unwrap()
}

fn delivery_key() -> DeliveryKey {
    DeliveryKey::from_pem(PRIVATE_KEY).unwrap()
}

fn assert_title(set: &KeySet) {
    assert_eq!(set.keys.len(), 5);
    for (key, expected) in set.keys.iter().zip(&title().keys) {
        assert_eq!(
            (key.key_id, key.key.expose(), key.iv),
            (expected.key_id, expected.key.expose(), expected.iv)
        );
        assert_eq!(
            (key.scheme, &key.track_type, key.period),
            (expected.scheme, &expected.track_type, expected.period)
        );
    }
}

#[test]
fn what_is_exported_is_imported() {
    let (recipient, key) = (recipient(), delivery_key());
    for version in [Version::V2_3, Version::V2_4] {
        for recipients in [
            &[][..],
            &[recipient.clone(), recipient.clone()],
            std::slice::from_ref(&recipient),
        ] {
            let text = export(version, recipients);
            let document = read(text.as_bytes()).unwrap();
            assert_eq!(
                (document.version.as_deref(), document.content_id.as_deref()),
                (version.text(), Some("film & <1>"))
            );
            assert_eq!(text.contains("PlainValue"), recipients.is_empty());
            assert_title(&document.key_set(Some(&key)).unwrap());
            if recipients.is_empty() {
                assert_title(&document.key_set(None).unwrap());
            } else {
                assert_eq!(document.key_set(None).err(), Some(DeliveryError::NoKey));
            }
        }
    }
    if let Some(folder) = std::env::var_os("HEADWATER_WRITE_CPIX") {
        std::fs::write(
            std::path::Path::new(&folder).join("cpix-export.xml"),
            export(Version::V2_4, &[recipient]),
        )
        .unwrap();
    }
}

#[test]
fn an_independent_program_found_the_keys() {
    let expected: String = title()
        .keys
        .iter()
        .map(|key| format!("{} {}\n", key.key_id, KeyId(*key.key.expose()).hex()))
        .collect();
    assert_eq!(EXPORT_KEYS, expected);
    assert_title(&read(EXPORT.as_bytes()).unwrap().key_set(Some(&delivery_key())).unwrap());
}

#[test]
fn a_mac_key_is_found_wherever_it_is_put() {
    let key = delivery_key();
    let check = |from: &str, to: &str| {
        let text = EXPORT.replace(from, to);
        assert_ne!(text, EXPORT);
        assert_title(&read(text.as_bytes()).unwrap().key_set(Some(&key)).unwrap());
    };
    check("cpix:Key>", "pskc:MACKey>");
    let (before, after) = EXPORT.split_once("<cpix:Key>").unwrap();
    let after = after
        .replacen("<pskc:EncryptedValue>", "", 1)
        .replacen("</pskc:EncryptedValue>", "", 1);
    let text = format!("{before}<cpix:Key>{after}");
    assert_title(&read(text.as_bytes()).unwrap().key_set(Some(&key)).unwrap());
}

#[test]
fn what_was_changed_does_not_open() {
    let key = delivery_key();
    let check = |change: &dyn Fn(&mut Document), expected: DeliveryError| {
        let mut document = read(EXPORT.as_bytes()).unwrap();
        change(&mut document);
        assert_eq!(document.key_set(Some(&key)).err(), Some(expected));
    };
    let encrypted = |document: &mut Document, change: &Change<'_>| {
        let KeyValue::Encrypted(value) = &mut document.keys[2].value else {
            panic!("not encrypted")
        };
        change(&mut value.bytes, &mut value.mac);
    };
    for at in 0..48 {
        check(
            &|document| encrypted(document, &|bytes, _| bytes[at] ^= 1),
            DeliveryError::Integrity,
        );
        check(
            &|document| encrypted(document, &|bytes, _| bytes.truncate(at)),
            DeliveryError::Integrity,
        );
    }
    check(
        &|document| encrypted(document, &|_, mac| mac.as_mut().unwrap()[63] ^= 1),
        DeliveryError::Integrity,
    );
    check(
        &|document| encrypted(document, &|_, mac| mac.as_mut().unwrap().truncate(10)),
        DeliveryError::Integrity,
    );
    check(
        &|document| encrypted(document, &|_, mac| *mac = None),
        DeliveryError::NoMac,
    );
    check(&|document| document.deliveries[0].mac_key = None, DeliveryError::NoMac);
    check(
        &|document| document.deliveries[0].mac_algorithm = None,
        DeliveryError::NoMac,
    );
    check(
        &|document| document.deliveries[0].mac_algorithm = Some("x".to_owned()),
        DeliveryError::Algorithm,
    );
    check(
        &|document| document.deliveries[0].document_key = None,
        DeliveryError::NotDelivered,
    );
    check(&|document| document.deliveries.clear(), DeliveryError::NotDelivered);
    check(
        &|document| document.deliveries[0].document_key.as_mut().unwrap().bytes[100] ^= 1,
        DeliveryError::NotDelivered,
    );
    check(
        &|document| document.deliveries[0].document_key.as_mut().unwrap().algorithm.clear(),
        DeliveryError::Algorithm,
    );
    check(
        &|document| document.keys[0].value = KeyValue::Absent,
        DeliveryError::Absent(KeyId([1; 16])),
    );
    // The keys of two documents do not fit each other.
    let other = read(export(Version::V2_4, &[recipient()]).as_bytes()).unwrap();
    check(
        &|document| document.deliveries.clone_from(&other.deliveries),
        DeliveryError::Integrity,
    );
}

#[test]
fn a_document_cut_anywhere_is_refused() {
    let text = export(Version::V2_4, &[]);
    for end in 0..text.len() {
        assert!(read(&text.as_bytes()[..end]).is_err(), "{end}");
    }
}

#[test]
fn values_that_are_none_are_refused() {
    let text = export(Version::V2_4, &[]);
    let check = |from: &str, to: &str, expected: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert_eq!(
            read(changed.as_bytes()).err().map(|error| error.to_string()).as_deref(),
            Some(expected),
            "{to}"
        );
    };
    let plain = format!("<pskc:PlainValue>{}</pskc:PlainValue>", STANDARD.encode([0xa1; 16]));
    check(&plain, "<pskc:PlainValue>AAAA</pskc:PlainValue>", "Invalid PlainValue");
    check(&plain, "<pskc:PlainValue>?</pskc:PlainValue>", "Invalid PlainValue");
    check(
        &plain,
        &format!("<pskc:PlainValue>{}</pskc:PlainValue>", "A".repeat(9_000)),
        "Too many PlainValue",
    );
    check("explicitIV=\"", "explicitIV=\"A", "Invalid ContentKey@explicitIV");
    check("kid=\"01", "kid=\"0", "Invalid ContentKey@kid");
    check(
        "<cpix:ContentKey ",
        "<cpix:ContentKey dependsOnKey=\"x\" ",
        "Invalid ContentKey@dependsOnKey: key hierarchies are not read",
    );
    check("index=\"0\"", "index=\"-1\"", "Invalid index");
    let element = "<cpix:ContentKey kid=\"00000000-0000-0000-0000-000000000000\"/>";
    check(
        "<cpix:ContentKeyList>",
        &format!("<cpix:ContentKeyList>{}", element.repeat(300)),
        "Too many ContentKey",
    );
    check(
        "contentId=\"",
        &format!("contentId=\"{}", "x".repeat(600)),
        "Invalid CPIX@contentId",
    );
}

#[test]
fn certificates_and_keys_that_are_none_are_refused() {
    let der = recipient().certificate().to_vec();
    for end in 0..der.len() {
        assert_eq!(
            Recipient::from_der(&der[..end]).err(),
            Some(DeliveryError::Certificate),
            "{end}"
        );
    }
    for text in ["", "x", PRIVATE_KEY] {
        assert_eq!(Recipient::from_pem(text).err(), Some(DeliveryError::Certificate));
    }
    for text in [
        "",
        "x",
        CERTIFICATE,
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        assert_eq!(DeliveryKey::from_pem(text).err(), Some(DeliveryError::PrivateKey));
    }
}
