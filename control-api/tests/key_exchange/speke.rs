//! SPEKE: what AWS's verification suite asserts of a server, its error texts, encrypted delivery, and our own client.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control_api::key_exchange::cpix::{self, DrmSystem, Playlist};
use control_api::key_exchange::delivery::{DeliveryKey, Recipient};
use control_api::key_exchange::speke::{
    DeliveryPolicy, Fetched, KeyOrder, SpekeError, SpekeRequest, SpekeVersion, read_request,
};
use control_api::key_exchange::{Demand, KeySet, KeySource, KeySourceError, Signals, TrackType};
use packager::crypto::playready;
use packager::crypto::pssh::{Pssh, SystemId};
use packager::crypto::widevine::WidevineData;
use packager::crypto::{KeyId, ProtectionScheme};

use crate::source::{Memory, wanted};

pub const VIDEO: &str = "0f083e4e-b831-4a3d-917e-ce78076e54aa";
pub const AUDIO: &str = "041fdd3a-7f5e-4848-a7cb-65e97758e9a0";
pub const WIDEVINE: &str = "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed";
const PLAYREADY: &str = "9a04f079-9840-4286-ab92-e65be0885f95";
const FAIRPLAY: &str = "94ce86fb-07ff-4f43-adb8-93d2fa968ca2";

pub const CERTIFICATE: &str = include_str!("../fixtures/cpix-recipient.cert.pem");
pub const PRIVATE_KEY: &str = include_str!("../fixtures/cpix-recipient.key.pem");

/// A request of version 2 for a video and an audio key.
pub fn request(version: &str, scheme: &str, systems: &[&str]) -> String {
    let multivariant = if version == "2.4" { "multiVariant" } else { "master" };
    let mut list = String::new();
    for system in systems {
        for kid in [VIDEO, AUDIO] {
            list += &format!(
                "<cpix:DRMSystem kid=\"{kid}\" systemId=\"{system}\"><cpix:PSSH/><cpix:ContentProtectionData/>\
                 <cpix:HLSSignalingData playlist=\"media\"/><cpix:HLSSignalingData playlist=\"{multivariant}\"/>\
                 </cpix:DRMSystem>"
            );
        }
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<cpix:CPIX contentId=\"film-1\" version=\"{version}\" \
         xmlns:cpix=\"urn:dashif:org:cpix\" xmlns:pskc=\"urn:ietf:params:xml:ns:keyprov:pskc\">\
         <cpix:ContentKeyList><cpix:ContentKey kid=\"{VIDEO}\" commonEncryptionScheme=\"{scheme}\"></cpix:ContentKey>\
         <cpix:ContentKey kid=\"{AUDIO}\" commonEncryptionScheme=\"{scheme}\"></cpix:ContentKey></cpix:ContentKeyList>\
         <cpix:DRMSystemList>{list}</cpix:DRMSystemList><cpix:ContentKeyUsageRuleList>\
         <cpix:ContentKeyUsageRule kid=\"{VIDEO}\" intendedTrackType=\"VIDEO\"><cpix:VideoFilter/></cpix:ContentKeyUsageRule>\
         <cpix:ContentKeyUsageRule kid=\"{AUDIO}\" intendedTrackType=\"AUDIO\"><cpix:AudioFilter/></cpix:ContentKeyUsageRule>\
         </cpix:ContentKeyUsageRuleList></cpix:CPIX>"
    )
}

fn clear() -> DeliveryPolicy {
    DeliveryPolicy {
        clear_keys: true,
        recipients: Vec::new(),
    }
}

fn answer(memory: &Memory, request: SpekeRequest) -> Result<String, SpekeError> {
    request.check_delivery(&Signals::all(), &clear())?;
    let keys = memory.keys(&request.contract)?;
    let response = request.respond(&keys, &Signals::all(), &clear())?;
    Ok(response.to_string())
}

fn serve(version: SpekeVersion, body: &str) -> Result<String, SpekeError> {
    answer(&Memory::default(), read_request(version, body.as_bytes(), "acme")?)
}

fn base64(text: &Option<String>) -> Vec<u8> {
    STANDARD.decode(text.as_deref().unwrap()).unwrap()
}

fn signal(system: &DrmSystem, playlist: Playlist) -> String {
    let signal = system.hls.iter().find(|signal| signal.playlist == playlist).unwrap();
    String::from_utf8(STANDARD.decode(&signal.text).unwrap()).unwrap()
}

#[test]
fn a_response_has_what_the_suite_asserts() {
    for (version, text, multivariant) in [
        (SpekeVersion::V2_0, "2.3", Playlist::Master),
        (SpekeVersion::V2_1, "2.4", Playlist::MultiVariant),
    ] {
        let memory = Memory::default();
        let body = request(text, "cbcs", &[WIDEVINE, PLAYREADY, FAIRPLAY]);
        let read = || read_request(version, body.as_bytes(), "acme").unwrap();
        let response = answer(&memory, read()).unwrap();
        assert_eq!(
            response,
            answer(&memory, read()).unwrap(),
            "the same request gives the same keys"
        );
        let document = cpix::read(response.as_bytes()).unwrap();
        assert_eq!((document.id, document.version.as_deref()), (None, Some(text)));
        assert_eq!(document.content_id.as_deref(), Some("film-1"));
        assert!(response.contains("xmlns:pskc=\"urn:ietf:params:xml:ns:keyprov:pskc\""));
        let ids: Vec<String> = document.keys.iter().map(|key| key.key_id.to_string()).collect();
        assert_eq!(ids, [VIDEO, AUDIO]);
        assert_eq!(response.matches("<pskc:PlainValue>").count(), 2);
        let types: Vec<_> = document
            .rules
            .iter()
            .map(|rule| rule.track_type.as_ref().unwrap().name())
            .collect();
        assert_eq!(types, ["VIDEO", "AUDIO"]);
        assert_eq!(document.systems.len(), 6);
        for system in &document.systems {
            let media = signal(system, Playlist::Media);
            let session = signal(system, multivariant);
            // Attributes of a session key are those of the media playlist's key.
            let attributes = media.strip_prefix("#EXT-X-KEY:").unwrap();
            assert_eq!(session.strip_prefix("#EXT-X-SESSION-KEY:"), Some(attributes));
            assert!(attributes.starts_with("METHOD=SAMPLE-AES,URI="), "{attributes}");
            if system.system_id == SystemId::FAIRPLAY {
                assert_eq!((&system.pssh, &system.content_protection), (&None, &None));
                assert!(attributes.contains("KEYFORMAT=\"com.apple.streamingkeydelivery\""));
                continue;
            }
            let pssh = Pssh::parse(&base64(&system.pssh)).unwrap();
            assert_eq!(pssh.system_id, system.system_id);
            let inner = String::from_utf8(base64(&system.content_protection)).unwrap();
            let same = format!(
                "<cenc:pssh xmlns:cenc=\"urn:mpeg:cenc:2013\">{}</cenc:pssh>",
                system.pssh.as_deref().unwrap()
            );
            if system.system_id == SystemId::WIDEVINE {
                assert_eq!(inner, same);
                assert_eq!(WidevineData::parse(&pssh.data).unwrap().key_ids, [system.key_id]);
            } else {
                assert!(
                    inner.starts_with(&same) && inner.contains("<mspr:pro xmlns:mspr=\"urn:microsoft:playready\">")
                );
                assert!(attributes.contains("KEYFORMAT=\"com.microsoft.playready\""));
                let kid = STANDARD.encode(playready::guid(system.key_id));
                assert!(playready::parse_object(&pssh.data).unwrap().contains(&kid));
            }
        }
    }
}

#[test]
fn what_is_wrong_is_said_in_the_protocols_words() {
    let good = request("2.3", "cenc", &[WIDEVINE]);
    assert!(serve(SpekeVersion::V2_0, &good).is_ok());
    let check = |version, from: &str, to: &str, expected: &str| {
        let body = good.replace(from, to);
        assert_ne!(body, good, "{from}");
        let error = serve(version, &body).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(expected), "{from} -> {to}");
    };
    let v2 = SpekeVersion::V2_0;
    let scheme = " commonEncryptionScheme=\"cenc\"";
    let filters = "<cpix:VideoFilter/>";
    check(v2, " contentId=\"film-1\"", "", "Missing CPIX@contentId");
    check(v2, "contentId=\"film-1\"", "contentId=\"\"", "Missing CPIX@contentId");
    check(v2, " version=\"2.3\"", "", "Missing CPIX@version");
    check(v2, "version=\"2.3\"", "version=\"4.0\"", "Unsupported CPIX@version");
    check(v2, "version=\"2.3\"", "version=\"2.4\"", "Unsupported CPIX@version");
    let missing = format!("Missing ContentKey@commonEncryptionScheme for KID {VIDEO}");
    check(v2, scheme, "", &missing);
    check(
        v2,
        &format!("{AUDIO}\"{scheme}"),
        &format!("{AUDIO}\" commonEncryptionScheme=\"cbcs\""),
        "Non compliant ContentKey@commonEncryptionScheme combination",
    );
    check(v2, "\"cenc\"", "\"rot13\"", "Invalid ContentKey@commonEncryptionScheme");
    check(v2, "cpix:ContentKeyList", "cpix:Other", "Missing ContentKey");
    check(v2, "cpix:DRMSystemList", "cpix:Other", "Missing DRMSystem");
    check(
        v2,
        "cpix:ContentKeyUsageRuleList",
        "cpix:Other",
        "Missing ContentKeyUsageRule",
    );
    check(
        v2,
        &format!("<cpix:ContentKey kid=\"{VIDEO}\""),
        "<cpix:ContentKey",
        "Missing ContentKey@kid",
    );
    check(
        v2,
        &format!("DRMSystem kid=\"{VIDEO}\""),
        "DRMSystem",
        "Missing DRMSystem@kid",
    );
    check(v2, " systemId=", " other=", "Missing DRMSystem@systemId");
    check(
        v2,
        WIDEVINE,
        FAIRPLAY,
        "FairPlay needs ContentKey@commonEncryptionScheme cbcs",
    );
    check(v2, WIDEVINE, VIDEO, &format!("Unsupported DRMSystem@systemId {VIDEO}"));
    check(
        v2,
        &format!("Rule kid=\"{VIDEO}\""),
        "Rule",
        "Missing ContentKeyUsageRule@kid",
    );
    check(
        v2,
        " intendedTrackType=\"VIDEO\"",
        "",
        "Missing ContentKeyUsageRule@intendedTrackType",
    );
    check(
        v2,
        "\"VIDEO\"",
        "\"ALL\"",
        "intendedTrackType ALL can not be combined with others",
    );
    check(
        v2,
        "\"VIDEO\"",
        "\"AUDIO\"",
        "intendedTrackType AUDIO is given two keys",
    );
    let unknown = format!("Unknown filter in ContentKeyUsageRule for KID {VIDEO}");
    check(v2, filters, "<cpix:MoonFilter/>", &unknown);
    check(v2, filters, "<cpix:VideoFilter phase=\"full\"/>", &unknown);
    check(v2, filters, "<x:VideoFilter xmlns:x=\"urn:x\"/>", &unknown);
    check(v2, filters, "<cpix:VideoFilter minPixels=\"-1\"/>", "Invalid minPixels");
    let period = "<cpix:KeyPeriodFilter periodId=\"p\"/>";
    check(
        v2,
        filters,
        period,
        "KeyPeriodFilter@periodId refers to no ContentKeyPeriod",
    );
    check(
        v2,
        &format!("Rule kid=\"{VIDEO}\""),
        &format!("Rule kid=\"{WIDEVINE}\""),
        &format!("ContentKeyUsageRule refers to KID {WIDEVINE}, which is not asked for"),
    );
    check(
        v2,
        &format!("System kid=\"{AUDIO}\""),
        &format!("System kid=\"{VIDEO}\""),
        &format!("Missing DRMSystem for KID {AUDIO}"),
    );
    check(
        v2,
        &format!("ContentKey kid=\"{AUDIO}\""),
        &format!("ContentKey kid=\"{VIDEO}\""),
        "Invalid ContentKey@kid: it comes twice",
    );
    check(
        v2,
        "playlist=\"master\"",
        "playlist=\"multiVariant\"",
        "Invalid HLSSignalingData@playlist",
    );
    check(
        v2,
        "playlist=\"master\"",
        "playlist=\"media\"",
        "Invalid HLSSignalingData@playlist: it comes twice",
    );
    check(
        v2,
        "<cpix:ContentKeyList>",
        "<!DOCTYPE a><cpix:ContentKeyList>",
        "document types are refused",
    );
    check(v2, "urn:dashif:org:cpix", "urn:dashif:org:other", "not a CPIX document");
    check(SpekeVersion::V1, "\"cenc\"", "\"cbcs\"", "Missing CPIX@id");
    for value in ["", "1.0", "3.0", "2"] {
        let error = SpekeVersion::from_header(Some(value)).unwrap_err();
        assert_eq!(error.to_string(), "Unsupported SPEKE version");
    }
}

#[test]
fn a_request_cut_anywhere_is_refused() {
    let good = request("2.3", "cenc", &[WIDEVINE]);
    for end in 0..good.len() {
        assert!(serve(SpekeVersion::V2_0, &good[..end]).is_err(), "{end}");
    }
}

#[test]
fn a_request_changed_anywhere_is_answered_or_refused() {
    let good = request("2.3", "cenc", &[WIDEVINE]);
    for at in 0..good.len() {
        for byte in [0, b'"', b'<', b'>', b'&', b'/', b'9', 0xff] {
            let mut body = good.clone().into_bytes();
            body[at] = byte;
            let read = read_request(SpekeVersion::V2_0, &body, "acme");
            if let Ok(request) = read {
                answer(&Memory::default(), request).ok();
            }
        }
    }
}

#[test]
fn rules_of_different_periods_do_not_meet() {
    let good = request("2.3", "cenc", &[WIDEVINE]);
    let periods = "<cpix:ContentKeyPeriodList><cpix:ContentKeyPeriod id=\"p1\" index=\"1\"/>\
                   <cpix:ContentKeyPeriod id=\"p2\" index=\"2\"/></cpix:ContentKeyPeriodList><cpix:ContentKeyUsageRuleList>";
    let rotating = good
        .replace("<cpix:ContentKeyUsageRuleList>", periods)
        .replace("\"VIDEO\"", "\"ALL\"")
        .replace("\"AUDIO\"", "\"ALL\"")
        .replace("<cpix:VideoFilter/>", "<cpix:KeyPeriodFilter periodId=\"p1\"/>")
        .replace("<cpix:AudioFilter/>", "<cpix:KeyPeriodFilter periodId=\"p2\"/>");
    let request = read_request(SpekeVersion::V2_0, rotating.as_bytes(), "acme").unwrap();
    let wanted = match &request.contract.wanted {
        control_api::key_exchange::Wanted::Keys(wanted) => wanted.iter().map(|key| key.period).collect(),
        _ => Vec::new(),
    };
    assert_eq!(wanted, [1, 2]);
    let same = rotating.replace("periodId=\"p2\"", "periodId=\"p1\"");
    assert_eq!(serve(SpekeVersion::V2_0, &same).unwrap_err(), SpekeError::AllCombined);
}

#[test]
fn times_of_periods_come_back_as_they_were() {
    let periods = "<cpix:ContentKeyPeriodList><cpix:ContentKeyPeriod id=\"p1\" index=\"1\" \
                   start=\"2026-01-01T00:00:00Z\" end=\"2026-01-01T00:00:06+00:00\" startOffset=\"PT0S\"/></cpix:ContentKeyPeriodList>";
    let list = "<cpix:ContentKeyUsageRuleList>";
    let body = request("2.4", "cenc", &[WIDEVINE]).replace(list, &format!("{periods}{list}"));
    let response = serve(SpekeVersion::V2_1, &body).unwrap();
    assert!(response.contains(&periods.replace("  ", "")), "{response}");
    // Encryptors use the old name of the multivariant playlist in version 2.1 too.
    let response = serve(SpekeVersion::V2_1, &body.replace("multiVariant", "master")).unwrap();
    assert!(response.contains("playlist=\"master\"") && !response.contains("multiVariant"));
}

#[test]
fn demands_on_players_are_said_in_version_2_1() {
    let mut signals = Signals::all();
    signals.demands.push(Demand {
        track_type: TrackType::parse("VIDEO").unwrap(),
        hdcp_level: Some("TYPE-1".to_owned()),
        robustness: vec![(SystemId::WIDEVINE, "HW_SECURE_ALL".to_owned())],
        allowed_cpc: vec![(SystemId::PLAYREADY, "SL3000".to_owned())],
    });
    let serve = |version: SpekeVersion| {
        let body = request(version.cpix().text().unwrap(), "cenc", &[WIDEVINE, PLAYREADY]);
        let request = read_request(version, body.as_bytes(), "acme").unwrap();
        let keys = Memory::default().keys(&request.contract).unwrap();
        let response = request.respond(&keys, &signals, &clear()).unwrap();
        cpix::read(response.as_bytes()).unwrap()
    };
    let document = serve(SpekeVersion::V2_1);
    let levels: Vec<_> = document
        .keys
        .iter()
        .map(|key| key.hdcp.as_ref()?.hls_level.as_deref())
        .collect();
    assert_eq!(levels, [Some("TYPE-1"), None]);
    let said = |system: &DrmSystem| (system.robustness.clone(), system.allowed_cpc.clone());
    let said: Vec<_> = document.systems.iter().map(said).collect();
    let (robust, allowed) = (Some("HW_SECURE_ALL".to_owned()), Some("SL3000".to_owned()));
    assert_eq!(said, [(robust, None), (None, None), (None, allowed), (None, None)]);
    // CPIX 2.3 has no place for them.
    let document = serve(SpekeVersion::V2_0);
    assert!(document.keys.iter().all(|key| key.hdcp.is_none()));
    assert!(
        document
            .systems
            .iter()
            .all(|system| (&system.robustness, &system.allowed_cpc) == (&None, &None))
    );
}

#[test]
fn version_1_fills_in_its_own_elements() {
    let body = format!(
        "<CPIX id=\"film-1\" xmlns=\"urn:dashif:org:cpix\" xmlns:speke=\"urn:aws:amazon:com:speke\"><ContentKeyList>\
         <ContentKey kid=\"{VIDEO}\"/></ContentKeyList><DRMSystemList><DRMSystem kid=\"{VIDEO}\" systemId=\"{FAIRPLAY}\">\
         <ContentProtectionData/><speke:KeyFormat/><speke:KeyFormatVersions/><speke:ProtectionHeader/><PSSH/><URIExtXKey/>\
         </DRMSystem></DRMSystemList><ContentKeyPeriodList><ContentKeyPeriod id=\"p\" index=\"11425\"/></ContentKeyPeriodList>\
         <ContentKeyUsageRuleList><ContentKeyUsageRule kid=\"{VIDEO}\"><KeyPeriodFilter periodId=\"p\"/></ContentKeyUsageRule>\
         </ContentKeyUsageRuleList></CPIX>"
    );
    let one = |body: &str| {
        let response = serve(SpekeVersion::V1, body).unwrap();
        let document = cpix::read(response.as_bytes()).unwrap();
        assert_eq!((document.id.as_deref(), document.version), (Some("film-1"), None));
        assert!(response.contains("<pskc:PlainValue>"));
        let [system] = document.systems.as_slice() else {
            panic!("{response}")
        };
        system.clone()
    };
    let system = one(&body);
    assert_eq!(base64(&system.key_uri), format!("skd://{VIDEO}").as_bytes());
    assert_eq!(base64(&system.key_format), b"com.apple.streamingkeydelivery");
    assert_eq!(base64(&system.key_format_versions), b"1");
    assert_eq!((system.pssh, system.protection_header), (None, None));
    let system = one(&body.replace(FAIRPLAY, PLAYREADY));
    assert_eq!(
        Pssh::parse(&base64(&system.pssh)).unwrap().data,
        base64(&system.protection_header)
    );
    let system = one(&body.replace(FAIRPLAY, WIDEVINE));
    assert!(system.pssh.is_some() && system.protection_header.is_none());
    // One key for FairPlay and Widevine is a key for cbcs, whatever was not said.
    let (start, end) = (
        body.find("<DRMSystem ").unwrap(),
        body.find("</DRMSystemList>").unwrap(),
    );
    let both = body[..end].to_owned() + &body[start..end].replace(FAIRPLAY, WIDEVINE) + &body[end..];
    let response = serve(SpekeVersion::V1, &both).unwrap();
    let document = cpix::read(response.as_bytes()).unwrap();
    let pssh = Pssh::parse(&base64(&document.systems[1].pssh)).unwrap();
    let scheme = WidevineData::parse(&pssh.data).unwrap().protection_scheme;
    assert_eq!(scheme, Some(ProtectionScheme::Cbcs));
    // A key at a URL is on offer where there is a URL.
    let identity = body.replace(FAIRPLAY, "81376844-f976-481e-a84e-cc25d39b0b33");
    assert!(matches!(
        serve(SpekeVersion::V1, &identity),
        Err(SpekeError::Signalling(_))
    ));
    let mut signals = Signals::all();
    signals.systems.clear_key = Some(packager::crypto::signal::ClearKey {
        key_url: Some("https://keys.example/{kid}".to_owned()),
        ..Default::default()
    });
    let request = read_request(SpekeVersion::V1, identity.as_bytes(), "acme").unwrap();
    request.check_delivery(&signals, &clear()).unwrap();
    let keys = Memory::default().keys(&request.contract).unwrap();
    let response = request.respond(&keys, &signals, &clear()).unwrap();
    let document = cpix::read(response.as_bytes()).unwrap();
    assert_eq!(
        base64(&document.systems[0].key_uri),
        format!("https://keys.example/{VIDEO}").as_bytes()
    );
    assert_eq!(base64(&document.systems[0].key_format), b"identity");
}

fn order(version: SpekeVersion, recipient: Option<Recipient>) -> KeyOrder {
    KeyOrder {
        version,
        content_id: "film & 1".to_owned(),
        keys: vec![
            wanted(KeyId([1; 16]), ProtectionScheme::Cbcs, "HD", 3),
            wanted(KeyId([2; 16]), ProtectionScheme::Cbcs, "STEREO_AUDIO", 3),
            wanted(KeyId([3; 16]), ProtectionScheme::Cbcs, "HD", 4),
        ],
        systems: vec![SystemId::WIDEVINE, SystemId::FAIRPLAY],
        recipient,
    }
}

#[test]
fn our_client_reads_what_our_server_writes() {
    let recipient = Recipient::from_pem(CERTIFICATE).unwrap();
    let key = DeliveryKey::from_pem(PRIVATE_KEY).unwrap();
    for version in [SpekeVersion::V1, SpekeVersion::V2_0, SpekeVersion::V2_1] {
        for recipient in [None, Some(recipient.clone())] {
            let order = order(version, recipient.clone());
            let memory = Memory::default();
            let request = read_request(version, order.write().unwrap().as_bytes(), "acme").unwrap();
            let response = answer(&memory, request).unwrap();
            let fetched = order
                .read_response(200, version.header(), response.as_bytes(), Some(&key))
                .unwrap();
            let stored = memory.existing("acme", "film & 1");
            assert_eq!(fetched.systems.len(), 6);
            for ((key, stored), wanted) in fetched.keys.keys.iter().zip(&stored).zip(&order.keys) {
                assert_eq!((key.key_id, key.key.expose()), (stored.key_id, stored.key.expose()));
                assert_eq!((&key.track_type, key.period), (&wanted.track_type, wanted.period));
            }
            assert_eq!(response.contains("PlainValue"), recipient.is_none());
            for stored in &stored {
                let plain = STANDARD.encode(stored.key.expose());
                assert_eq!(response.contains(&plain), recipient.is_none());
            }
        }
    }
}

#[test]
fn a_success_that_is_none_is_refused() {
    let order = order(SpekeVersion::V2_0, None);
    let request = read_request(SpekeVersion::V2_0, order.write().unwrap().as_bytes(), "acme").unwrap();
    let response = answer(&Memory::default(), request).unwrap();
    let read = |status, header, body: &str| -> Result<Fetched, SpekeError> {
        order.read_response(status, header, body.as_bytes(), None)
    };
    assert!(read(200, Some("2.0"), &response).is_ok());
    let check = |status, header, body: &str, expected: SpekeError| {
        assert_eq!(read(status, header, body).err(), Some(expected));
    };
    check(422, Some("2.0"), &response, SpekeError::Status(422));
    check(200, Some("2.1"), &response, SpekeError::SpekeVersion);
    check(200, None, &response, SpekeError::SpekeVersion);
    check(
        200,
        Some("2.0"),
        &response.replace("film &amp; 1", "film 2"),
        SpekeError::OtherContent,
    );
    let id = KeyId([2; 16]).to_string();
    let element = response.find(&format!("<cpix:ContentKey kid=\"{id}\"")).unwrap();
    let end = element + response[element..].find("</cpix:ContentKey>").unwrap() + "</cpix:ContentKey>".len();
    let without = response[..element].to_owned() + &response[end..];
    check(200, Some("2.0"), &without, SpekeError::KeyLeftOut(KeyId([2; 16])));
    let empty = response[..element].to_owned()
        + &format!("<cpix:ContentKey kid=\"{id}\" commonEncryptionScheme=\"cbcs\"/>")
        + &response[end..];
    check(200, Some("2.0"), &empty, SpekeError::KeyLeftOut(KeyId([2; 16])));
    check(
        200,
        Some("2.0"),
        &response.replace("\"cbcs\"", "\"cenc\""),
        SpekeError::MixedSchemes,
    );
    // Asked for encrypted keys, given clear ones.
    let order = self::order(SpekeVersion::V2_0, Some(Recipient::from_pem(CERTIFICATE).unwrap()));
    let read = order.read_response(200, Some("2.0"), response.as_bytes(), None);
    assert_eq!(read.err(), Some(SpekeError::ClearDelivery));
}

#[test]
fn a_source_that_answers_something_else_is_not_passed_on() {
    let body = request("2.3", "cenc", &[WIDEVINE]);
    let check = |change: &dyn Fn(&mut KeySet)| {
        let request = read_request(SpekeVersion::V2_0, body.as_bytes(), "acme").unwrap();
        let mut keys = Memory::default().keys(&request.contract).unwrap();
        change(&mut keys);
        let response = request.respond(&keys, &Signals::all(), &clear());
        assert_eq!(response.err(), Some(SpekeError::Source(KeySourceError::Unavailable)));
    };
    check(&|keys| keys.keys.reverse());
    check(&|keys| keys.keys.truncate(1));
    check(&|keys| keys.keys[1].period = 1);
    check(&|keys| keys.keys[1].scheme = Some(ProtectionScheme::Cbcs));
}

#[test]
fn keys_go_to_those_who_may_have_them() {
    let recipient = Recipient::from_pem(CERTIFICATE).unwrap();
    let check = |asked: Option<&Recipient>, policy: &DeliveryPolicy, allowed: bool| {
        let body = order(SpekeVersion::V2_0, asked.cloned()).write().unwrap();
        let request = read_request(SpekeVersion::V2_0, body.as_bytes(), "acme").unwrap();
        let expected = if allowed {
            Ok(())
        } else {
            Err(SpekeError::ClearDelivery)
        };
        assert_eq!(request.check_delivery(&Signals::all(), policy), expected);
    };
    let nobody = DeliveryPolicy::default();
    let registered = DeliveryPolicy {
        clear_keys: false,
        recipients: vec![recipient.clone()],
    };
    check(None, &clear(), true);
    check(Some(&recipient), &clear(), true);
    check(None, &nobody, false);
    check(Some(&recipient), &nobody, false);
    check(None, &registered, false);
    check(Some(&recipient), &registered, true);
}
