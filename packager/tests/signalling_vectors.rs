//! DRM signalling held against boxes, headers, keys and licences that others published.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use packager::crypto::clear_key::{self, LicenceRequest, SessionType};
use packager::crypto::fairplay;
use packager::crypto::playready::{self, KeySeed, SignalledKey};
use packager::crypto::pssh::{Pssh, SystemId};
use packager::crypto::signal::{
    ClearKey, ClearKeyTag, ContentProtection, DrmSystems, FairPlay, KeyTag, KeyTagName, PlayReady, SignalError,
    Widevine, write_key_tags,
};
use packager::crypto::widevine::WidevineData;
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn base64(value: &Value, name: &str) -> Vec<u8> {
    STANDARD.decode(text(value, name)).unwrap()
}

fn key_id(text: &str) -> KeyId {
    KeyId::parse(text).unwrap()
}

fn content_key(bytes: &[u8]) -> ContentKey {
    ContentKey::new(bytes.try_into().unwrap())
}

fn kids(values: &Value) -> Vec<KeyId> {
    let list = values.as_array().unwrap();
    list.iter().map(|kid| key_id(kid.as_str().unwrap())).collect()
}

/// No changed byte goes unnoticed: what is read differs, or is refused. Cut anywhere, it is refused.
fn check_every_byte<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Result<T, E>,
) {
    let good = parse(bytes).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        if let Ok(read) = parse(&changed) {
            assert_ne!(read, good, "byte {at}");
        }
        assert!(parse(&bytes[..at]).is_err(), "cut at {at}");
    }
}

/// Version, flags and all: a box that says the same is the same bytes.
fn check_box(bytes: &[u8]) -> Pssh {
    let pssh = Pssh::parse(bytes).unwrap();
    assert_eq!(pssh.serialise(), bytes);
    check_every_byte(bytes, |bytes| {
        let pssh = Pssh::parse(bytes).map_err(|error| error.to_string())?;
        match pssh.serialise() == bytes {
            true => Ok(pssh),
            false => Err("flags".to_owned()),
        }
    });
    pssh
}

#[test]
fn boxes_are_those_of_other_packagers() {
    let file = json(include_str!("vectors/pssh_boxes.json"));
    for vector in file["vectors"].as_array().unwrap() {
        let bytes = base64(vector, "pssh_b64");
        let pssh = check_box(&bytes);
        assert_eq!(pssh.system_id.to_string(), text(vector, "system_id"));
        assert_eq!(u64::from(pssh.key_ids.is_some()), vector["version"].as_u64().unwrap());
        let made = match pssh.system_id {
            SystemId::COMMON => Pssh::common(&kids(&vector["kids"])),
            SystemId::WIDEVINE => WidevineData {
                key_ids: kids(&vector["data_kids"]),
                protection_scheme: vector["protection_scheme"].as_str().map(|_| ProtectionScheme::Cbcs),
                ..WidevineData::default()
            }
            .pssh(),
            _ => playready_box(text(vector, "kid"), vector["key"].as_str()),
        };
        assert_eq!(made.serialise(), bytes, "{}", vector["name"]);
    }
}

#[test]
fn boxes_are_those_of_a_packager_run() {
    let file = json(include_str!("vectors/pssh_boxes.json"));
    for row in file["packager_golden"]["rows"].as_array().unwrap() {
        let bytes = base64(row, "pssh_b64");
        let pssh = check_box(&bytes);
        let kid = key_id(text(row, "default_kid"));
        let made = match pssh.system_id {
            SystemId::COMMON => Pssh::common(&pssh.key_ids.clone().unwrap()),
            SystemId::WIDEVINE => WidevineData {
                key_ids: vec![kid],
                ..WidevineData::default()
            }
            .pssh(),
            _ => {
                let key = (row["scheme"] == "cenc").then(|| text(row, "content_key_hex"));
                let made = playready_box(text(row, "default_kid"), key);
                assert_eq!(made.data, base64(row, "mspr_pro_b64"));
                made
            }
        };
        assert_eq!(made.serialise(), bytes, "{row}");
    }
}

/// For `cenc` with the key, for `cbcs` without.
fn playready_box(kid: &str, key: Option<&str>) -> Pssh {
    let kid = key_id(kid);
    let (scheme, signalled) = match key {
        Some(key) => (
            ProtectionScheme::Cenc,
            SignalledKey::new(kid, &content_key(&key_id(key).0)),
        ),
        None => (ProtectionScheme::Cbcs, SignalledKey::unchecked(kid)),
    };
    let header = playready::header(scheme, &[signalled], None).unwrap();
    playready::pssh(playready::object(&header).unwrap())
}

#[test]
fn widevine_data_is_read_as_written() {
    let data = WidevineData {
        key_ids: vec![KeyId([1; 16]), KeyId([2; 16])],
        provider: Some("widevine_test".to_owned()),
        content_id: Some(b"film".to_vec()),
        crypto_period_index: Some(300),
        protection_scheme: Some(ProtectionScheme::Cbcs),
    };
    let bytes = data.serialise();
    assert!(bytes.ends_with(&[0x48, 0xf3, 0xc6, 0x89, 0x9b, 0x06]));
    assert_eq!(WidevineData::parse(&bytes).unwrap(), data);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert_ne!(WidevineData::parse(&changed).ok(), Some(data.clone()), "byte {at}");
        assert_ne!(
            WidevineData::parse(&bytes[..at]).ok(),
            Some(data.clone()),
            "cut at {at}"
        );
    }
    let refuse = |bytes: &[u8]| assert!(WidevineData::parse(bytes).is_err(), "{bytes:x?}");
    refuse(&[0x12, 0x0f, 0, 0]);
    refuse(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    refuse(&[0x48, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    refuse(&[0x48, 0x01]);
    refuse(&[0x00, 0x00]);
    refuse(&[0x0b]);
    refuse(&[&[0x12u8, 0x10][..], &[0; 16]].concat().repeat(65));
    // Fields of later versions are passed over.
    let later = WidevineData::parse(&[
        0x08, 1, 0x32, 2, b'H', b'D', 0x5d, 0, 0, 0, 0, 0x61, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    assert_eq!(later.unwrap(), WidevineData::default());
}

#[test]
fn hostile_boxes_are_refused() {
    let good = Pssh::common(&[KeyId([1; 16])]).serialise();
    let refuse = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        assert!(Pssh::parse(&changed).is_err(), "{at}: {bytes:x?}");
    };
    refuse(8, &[2]);
    refuse(28, &[0xff, 0xff, 0xff, 0xff]);
    refuse(28, &[0, 0, 0, 0]);
    refuse(48, &[0, 0, 0, 1]);
    refuse(48, &[0xff, 0xff, 0xff, 0xff]);
    refuse(4, b"free");
    assert!(Pssh::parse(&good.repeat(2)).is_err());
    assert_eq!(Pssh::parse_all(&good.repeat(2)).unwrap().len(), 2);
    assert!(Pssh::parse_all(&good.repeat(65)).is_err());
    assert_eq!(Pssh::parse_all(&[]).unwrap(), []);
    assert!(Pssh::parse(&[]).is_err());
    let many = Pssh::common(&vec![KeyId([1; 16]); 65]).serialise();
    assert!(Pssh::parse(&many).is_err());
}

/// What a header holds beyond what is written here.
fn without(xml: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    match (xml.find(&open), xml.find(&close)) {
        (Some(start), Some(end)) => format!("{}{}", &xml[..start], &xml[end + close.len()..]),
        _ => xml.to_owned(),
    }
}

/// The text between two others, from the first place on.
fn between<'a>(xml: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let start = xml.find(before)? + before.len();
    xml[start..].split_once(after).map(|(found, _)| found)
}

fn decoded<const N: usize>(base64: &str) -> [u8; N] {
    STANDARD.decode(base64).unwrap().try_into().unwrap()
}

/// A GUID's order is its own inverse.
fn signalled(kid: &str, checksum: Option<&str>) -> SignalledKey {
    SignalledKey {
        key_id: KeyId(playready::guid(KeyId(decoded(kid)))),
        checksum: checksum.map(decoded),
    }
}

#[test]
fn objects_of_others_are_read_and_rebuilt() {
    let file = json(include_str!("vectors/playready_pro.json"));
    let mut rebuilt = 0;
    for vector in file["vectors"].as_array().unwrap() {
        let object = base64(vector, "pro_b64");
        let header = playready::parse_object(&object).unwrap();
        assert_eq!(header, text(vector, "wrmheader_xml"));
        assert_eq!(playready::object(&header).unwrap(), object);
        check_every_byte(&object, playready::parse_object);
        if vector["version"] == "4.0.0.0" {
            let kid = between(&header, "<KID>", "</KID>").unwrap();
            let key = signalled(kid, between(&header, "<CHECKSUM>", "</CHECKSUM>"));
            assert_eq!(key.key_id.to_string(), text(vector, "kid"));
            let url = between(&header, "<LA_URL>", "</LA_URL>").map(|url| url.replace("&amp;", "&"));
            let made = playready::header(ProtectionScheme::Cenc, &[key], url.as_deref()).unwrap();
            assert_eq!(made, without(&without(&header, "CUSTOMATTRIBUTES"), "DS_ID"));
            rebuilt += 1;
        }
        if let Some(key) = vector["content_key_b64"].as_str() {
            let made = SignalledKey::new(key_id(text(vector, "kid")), &content_key(&decoded::<16>(key)));
            assert_eq!(STANDARD.encode(made.checksum.unwrap()), text(vector, "checksum_b64"));
        }
    }
    assert_eq!(rebuilt, 7);
}

#[test]
fn headers_of_several_keys_are_those_of_the_specification() {
    let file = json(include_str!("vectors/playready_pro.json"));
    let examples = file["header_xml_examples"].as_array().unwrap();
    let check = |version: &str, scheme: ProtectionScheme| {
        let example = examples
            .iter()
            .map(|example| example.as_str().unwrap())
            .find(|example| example.contains(version) && example.contains("ALGID=") && example.contains("LA_URL"))
            .unwrap();
        let keys: Vec<SignalledKey> = example
            .split("<KID ")
            .skip(1)
            .map(|kid| {
                let checksum = between(kid, "CHECKSUM=\"", "\"");
                signalled(between(kid, "VALUE=\"", "\"").unwrap(), checksum)
            })
            .collect();
        assert_eq!(keys.len(), 2, "{example}");
        let url = between(example, "<LA_URL>", "</LA_URL>");
        let made = playready::header(scheme, &keys, url).unwrap();
        assert_eq!(made, without(example, "DS_ID"));
    };
    check("version=\"4.2.0.0\"", ProtectionScheme::Cenc);
    check("version=\"4.3.0.0\"", ProtectionScheme::Cbcs);
    let key = signalled("AAAAEAAQABAQABAAAAAAAQ==", Some("5TzIYQ2hrOY="));
    let chained = playready::header(ProtectionScheme::Cbcs, &[key], None).unwrap();
    assert!(!chained.contains("CHECKSUM"), "{chained}");
    let url = "https://a/?x=<1>&y=\"2\"\n";
    let escaped = playready::header(ProtectionScheme::Cbcs, &[key], Some(url)).unwrap();
    assert!(
        escaped.contains("<LA_URL>https://a/?x=&lt;1&gt;&amp;y=\"2\"</LA_URL>"),
        "{escaped}"
    );
    assert!(playready::header(ProtectionScheme::Cenc, &[], None).is_err());
    assert!(playready::object(&"x".repeat(7675)).is_ok());
    assert!(playready::object(&"x".repeat(7676)).is_err());
}

#[test]
fn keys_follow_from_the_seed() {
    let file = json(include_str!("vectors/playready_keyseed.json"));
    let seed = base64(&file, "test_key_seed_b64");
    for vector in file["vectors"].as_array().unwrap() {
        let kid = key_id(text(vector, "kid"));
        let expected = base64(vector, "content_key_b64");
        let key = content_key(&expected);
        if vector["not_seed_derived"] != true {
            assert_eq!(
                KeySeed::new(&seed).unwrap().content_key(kid).expose()[..],
                expected,
                "{vector}"
            );
            for at in 0..30 {
                let mut changed = seed.clone();
                changed[at] ^= 1;
                assert_ne!(KeySeed::new(&changed).unwrap().content_key(kid).expose()[..], expected);
            }
        }
        let checksum = SignalledKey::new(kid, &key).checksum.unwrap();
        assert_eq!(STANDARD.encode(checksum), text(vector, "checksum_aesctr_b64"));
        for at in 0..16 {
            let mut changed = expected.clone();
            changed[at] ^= 1;
            assert_ne!(SignalledKey::new(kid, &content_key(&changed)).checksum, Some(checksum));
        }
    }
    assert!(KeySeed::new(&seed[..29]).is_none());
}

#[test]
fn licences_are_those_of_the_standard() {
    let file = json(include_str!("vectors/clearkey.json"));
    let vector = |name: &str| {
        let vectors = file["vectors"].as_array().unwrap();
        vectors.iter().find(|vector| vector["name"] == name).unwrap()
    };
    let request = vector("request");
    let bytes = serde_json::to_vec(&request["json"]).unwrap();
    let expected = LicenceRequest {
        key_ids: kids(&request["kids_hex"]),
        session_type: SessionType::Temporary,
    };
    assert_eq!(LicenceRequest::parse(&bytes).unwrap(), expected);
    // A byte inside a name of a member hides it, which only the optional one survives.
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let member = at > bytes.len() - b"\"type\":\"temporary\"}".len() && at < bytes.len() - b":\"temporary\"}".len();
        assert!(
            member || LicenceRequest::parse(&changed).ok() != Some(expected.clone()),
            "byte {at}"
        );
        assert!(LicenceRequest::parse(&bytes[..at]).is_err(), "cut at {at}");
    }

    let licence = vector("license");
    let kid = expected.key_ids[0];
    let key = key_id(text(licence, "key_hex"));
    let made = clear_key::licence(&[(kid, content_key(&key.0))], SessionType::Temporary);
    assert_eq!(json(std::str::from_utf8(&made).unwrap()), licence["json"]);
    let mut other = key.0;
    other[15] ^= 1;
    let made = clear_key::licence(&[(kid, content_key(&other))], SessionType::Temporary);
    assert_ne!(json(std::str::from_utf8(&made).unwrap()), licence["json"]);
    let two = [
        (KeyId([1; 16]), content_key(&[2; 16])),
        (KeyId([3; 16]), content_key(&[4; 16])),
    ];
    let made = json(std::str::from_utf8(&clear_key::licence(&two, SessionType::PersistentLicense)).unwrap());
    assert_eq!(made["keys"][1]["k"], URL_SAFE_NO_PAD.encode([4; 16]));
    assert_eq!(made["type"], "persistent-license");
}

#[test]
fn licence_requests_are_bounded() {
    let kid = URL_SAFE_NO_PAD.encode([7; 16]);
    let check = |json: String, expected: Option<usize>| {
        let found = LicenceRequest::parse(json.as_bytes()).ok();
        assert_eq!(found.map(|request| request.key_ids.len()), expected, "{json}");
    };
    check(format!("{{\"kids\":[\"{kid}\"]}}"), Some(1));
    check(format!("{{\"kids\":[\"{kid}\",\"{kid}\"],\"more\":{{}}}}"), Some(1));
    check(
        format!("{{\"kids\":[\"{kid}\"],\"type\":\"persistent-license\"}}"),
        Some(1),
    );
    check(format!("{{\"kids\":[\"{kid}\"],\"type\":\"other\"}}"), None);
    check(format!("{{\"kids\":[\"{kid}==\"]}}"), None);
    check(format!("{{\"kids\":[\"{}\"]}}", &kid[1..]), None);
    check("{\"kids\":[]}".to_owned(), None);
    check("{}".to_owned(), None);
    check("[".repeat(10_000), None);
    check(
        format!("{{\"kids\":[{}]}}", vec![format!("\"{kid}\""); 65].join(",")),
        None,
    );
    check(format!("{{\"kids\":[\"{kid}\"]{}}}", " ".repeat(16 << 10)), None);
}

fn everything() -> DrmSystems {
    DrmSystems {
        widevine: Some(Widevine {
            provider: Some("acme".to_owned()),
            content_id: None,
        }),
        playready: Some(PlayReady {
            la_url: Some("https://pr.example/?a=1&b=2".to_owned()),
        }),
        fairplay: Some(FairPlay::default()),
        clear_key: Some(ClearKey {
            licence_url: Some("/licence".to_owned()),
            key_url: Some("key/{kid_hex}".to_owned()),
            cbcs_tag: ClearKeyTag::Licence,
        }),
    }
}

fn two_keys() -> [SignalledKey; 2] {
    [1, 2].map(|byte| SignalledKey::new(KeyId([byte; 16]), &content_key(&[byte ^ 0xff; 16])))
}

fn formats(tags: &[KeyTag]) -> Vec<&str> {
    tags.iter().map(|tag| tag.key_format.unwrap()).collect()
}

const WIDEVINE_FORMAT: &str = "urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed";
const PLAYREADY_FORMAT: &str = "com.microsoft.playready";
const FAIRPLAY_FORMAT: &str = "com.apple.streamingkeydelivery";
const CLEAR_KEY_FORMAT: &str = "org.w3.clearkey";

#[test]
fn descriptors_name_the_scheme_then_the_systems() {
    let [key, _] = two_keys();
    let list = everything().content_protection(ProtectionScheme::Cbcs, &[key]).unwrap();
    let attribute = |descriptor: &ContentProtection, name: &str| {
        let found = descriptor.attributes.iter().find(|attribute| attribute.0 == name);
        found.map(|attribute| attribute.1.clone())
    };
    let systems: Vec<String> = list
        .iter()
        .map(|descriptor| attribute(descriptor, "schemeIdUri").unwrap())
        .collect();
    assert_eq!(
        systems,
        [
            "urn:mpeg:dash:mp4protection:2011",
            "urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed",
            "urn:uuid:9a04f079-9840-4286-ab92-e65be0885f95",
            "urn:uuid:e2719d58-a985-b3c9-781a-b030af78d30e",
        ]
    );
    assert_eq!(attribute(&list[0], "value").as_deref(), Some("cbcs"));
    assert_eq!(
        attribute(&list[0], "cenc:default_KID").as_deref(),
        Some("01010101-0101-0101-0101-010101010101")
    );
    let names = |at: usize| -> Vec<&str> { list[at].children.iter().map(|child| child.name).collect() };
    assert_eq!(names(1), ["cenc:pssh"]);
    assert_eq!(names(2), ["cenc:pssh", "mspr:pro"]);
    assert_eq!(names(3), ["dashif:Laurl"]);
    let widevine = Pssh::parse(&STANDARD.decode(&list[1].children[0].text).unwrap()).unwrap();
    let widevine = WidevineData::parse(&widevine.data).unwrap();
    assert_eq!(
        (widevine.key_ids, widevine.provider),
        (vec![key.key_id], Some("acme".to_owned()))
    );
    assert_eq!(widevine.protection_scheme, Some(ProtectionScheme::Cbcs));
    let playready = Pssh::parse(&STANDARD.decode(&list[2].children[0].text).unwrap()).unwrap();
    assert_eq!(STANDARD.encode(&playready.data), list[2].children[1].text);
    assert!(
        playready::parse_object(&playready.data)
            .unwrap()
            .contains("?a=1&amp;b=2</LA_URL>")
    );
    assert_eq!(attribute(&list[3], "value").as_deref(), Some("ClearKey1.0"));
    let url = &list[3].children[0];
    assert_eq!(url.text, "/licence");
    assert_eq!(
        url.attributes,
        [
            ("xmlns:dashif", "https://dashif.org/CPS".to_owned()),
            ("licenseType", "EME-1.0".to_owned())
        ]
    );
}

#[test]
fn key_tags_are_what_players_take() {
    let keys = two_keys();
    let iv = Some([0xab; 16]);
    let systems = everything();
    let counter = systems.key_tags(ProtectionScheme::Cenc, &keys[..1], None).unwrap();
    assert_eq!(
        formats(&counter),
        [WIDEVINE_FORMAT, PLAYREADY_FORMAT, CLEAR_KEY_FORMAT, "identity"]
    );
    assert!(
        counter
            .iter()
            .all(|tag| tag.method == "SAMPLE-AES-CTR" && tag.iv.is_none())
    );
    let chained = systems.key_tags(ProtectionScheme::Cbcs, &keys[..1], iv).unwrap();
    assert_eq!(
        formats(&chained),
        [WIDEVINE_FORMAT, PLAYREADY_FORMAT, FAIRPLAY_FORMAT, CLEAR_KEY_FORMAT]
    );
    assert!(chained.iter().all(|tag| tag.method == "SAMPLE-AES" && tag.iv == iv));
    let mut other = systems.clone();
    other.clear_key.as_mut().unwrap().cbcs_tag = ClearKeyTag::Identity;
    let chained = other.key_tags(ProtectionScheme::Cbcs, &keys[..1], iv).unwrap();
    assert_eq!(formats(&chained)[3..], ["identity"]);
    let mut out = Vec::new();
    write_key_tags(&mut out, KeyTagName::Key, &chained[2..]);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://01010101-0101-0101-0101-010101010101\",\
         KEYFORMAT=\"com.apple.streamingkeydelivery\",KEYFORMATVERSIONS=\"1\",IV=0xABABABABABABABABABABABABABABABAB\n\
         #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"key/01010101010101010101010101010101\",KEYFORMAT=\"identity\",\
         KEYFORMATVERSIONS=\"1\",IV=0xABABABABABABABABABABABABABABABAB\n"
    );
    // hls.js takes the data for the key's name.
    let mut out = Vec::new();
    counter[2].write(&mut out, KeyTagName::Key);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "#EXT-X-KEY:METHOD=SAMPLE-AES-CTR,URI=\"data:text/plain;base64,AQEBAQEBAQEBAQEBAQEBAQ==\",\
         KEYFORMAT=\"org.w3.clearkey\",KEYFORMATVERSIONS=\"1\",KEYID=0x01010101010101010101010101010101\n"
    );
    assert_eq!(
        systems.key_tags(ProtectionScheme::Cens, &keys, None).err(),
        Some(SignalError::Scheme(ProtectionScheme::Cens))
    );
}

#[test]
fn session_keys_name_every_key() {
    let keys = two_keys();
    let tags = everything()
        .session_key_tags(ProtectionScheme::Cenc, &keys, None)
        .unwrap();
    assert_eq!(
        formats(&tags),
        [
            WIDEVINE_FORMAT,
            WIDEVINE_FORMAT,
            PLAYREADY_FORMAT,
            CLEAR_KEY_FORMAT,
            CLEAR_KEY_FORMAT
        ]
    );
    assert_eq!(tags[1].key_id, Some(keys[1].key_id));
    let object = tags[2]
        .uri
        .strip_prefix("data:text/plain;charset=UTF-16;base64,")
        .unwrap();
    let header = playready::parse_object(&STANDARD.decode(object).unwrap()).unwrap();
    assert!(header.contains("version=\"4.2.0.0\""), "{header}");
    assert_eq!(header.matches("CHECKSUM=").count(), 2);
    let tags = everything()
        .session_key_tags(ProtectionScheme::Cbcs, &keys, None)
        .unwrap();
    assert_eq!(formats(&tags)[3..5], [FAIRPLAY_FORMAT, FAIRPLAY_FORMAT]);
    let mut out = Vec::new();
    tags[3].write(&mut out, KeyTagName::SessionKey);
    assert!(out.starts_with(b"#EXT-X-SESSION-KEY:METHOD=SAMPLE-AES,URI=\"skd://"));
    let boxes = everything().pssh_boxes(ProtectionScheme::Cenc, &keys).unwrap();
    let systems: Vec<SystemId> = boxes.iter().map(|pssh| pssh.system_id).collect();
    assert_eq!(systems, [SystemId::WIDEVINE, SystemId::PLAYREADY, SystemId::COMMON]);
}

#[test]
fn plain_tags_of_transport_streams() {
    let check = |tag: KeyTag, expected: &str| {
        let mut out = Vec::new();
        tag.write(&mut out, KeyTagName::Key);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    };
    check(
        KeyTag::aes_128("../key/1\"2\n", [1; 16]),
        "#EXT-X-KEY:METHOD=AES-128,URI=\"../key/1%222%0A\",IV=0x01010101010101010101010101010101\n",
    );
    check(
        KeyTag::sample_aes("k", [0xf0; 16]),
        "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\",IV=0xF0F0F0F0F0F0F0F0F0F0F0F0F0F0F0F0\n",
    );
}

#[test]
fn uris_come_from_templates() {
    let kid = key_id("00112233-4455-6677-8899-aabbccddeeff");
    let iv = Some([0xab; 16]);
    let check = |template: &str, expected: Option<&str>| {
        assert_eq!(
            fairplay::fill(template, kid, iv).ok().as_deref(),
            expected,
            "{template}"
        );
    };
    check("skd://{kid}", Some("skd://00112233-4455-6677-8899-aabbccddeeff"));
    check(
        "skd://{kid}:{iv}",
        Some("skd://00112233-4455-6677-8899-aabbccddeeff:ABABABABABABABABABABABABABABABAB"),
    );
    check("skd://{kid_base64}", Some("skd://ABEiM0RVZneImaq7zN3u/w=="));
    check("{kid_hex}", Some("00112233445566778899aabbccddeeff"));
    for wrong in ["{", "}", "{kid", "kid}", "{KID}", "{{kid}}", "a b", "a\"b", "a\nb"] {
        check(wrong, None);
    }
    assert!(fairplay::fill("{iv}", kid, None).is_err());
}

#[test]
fn settings_are_checked_at_start() {
    assert_eq!(everything().check(), Ok(()));
    assert_eq!(DrmSystems::default().check(), Ok(()));
    assert!(DrmSystems::default().is_empty() && !everything().is_empty());
    let refuse = |change: fn(&mut DrmSystems)| {
        let mut systems = everything();
        change(&mut systems);
        assert!(systems.check().is_err(), "{systems:?}");
    };
    refuse(|systems| systems.fairplay.as_mut().unwrap().uri_template = "https://{kid}".to_owned());
    refuse(|systems| systems.fairplay.as_mut().unwrap().uri_template = "skd://{id}".to_owned());
    refuse(|systems| systems.clear_key.as_mut().unwrap().key_url = Some("skd://{kid}".to_owned()));
    refuse(|systems| systems.clear_key.as_mut().unwrap().key_url = Some("SKD://{kid}".to_owned()));
    refuse(|systems| {
        let clear_key = systems.clear_key.as_mut().unwrap();
        (clear_key.key_url, clear_key.cbcs_tag) = (None, ClearKeyTag::Identity);
    });
    refuse(|systems| systems.playready.as_mut().unwrap().la_url = Some("x".repeat(8000)));
    let none: [SignalledKey; 0] = [];
    assert!(everything().content_protection(ProtectionScheme::Cenc, &none).is_err());
    let many = vec![two_keys()[0]; 65];
    assert!(everything().pssh_boxes(ProtectionScheme::Cenc, &many).is_err());
    let read: DrmSystems = serde_json::from_str(
        r#"{"widevine":{"provider":"p"},"fairplay":{},"clear_key":{"key_url":"k","cbcs_tag":"identity"}}"#,
    )
    .unwrap();
    assert_eq!(read.fairplay, Some(FairPlay::default()));
    assert_eq!(read.clear_key.unwrap().cbcs_tag, ClearKeyTag::Identity);
    assert!(serde_json::from_str::<DrmSystems>(r#"{"widewine":{}}"#).is_err());
}
