//! A title whose source lies encrypted: served under keys of its own, in the clear only where its key says so, and not at
//! all without its key.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use origin::error::ServeError;
use origin::protect::Titles;
use packager::crypto::vault::KeyState;
use packager::crypto::{ContentKey, KeyId};

use super::{House, OWN_KEY, OWN_KID, get, id_of, load, samples, sixteen, text, version, whole};

const FILM: &str = "sets/enc-wpt-cenc/wpt__video_512x288_h264-360k_enc_dashinit.mp4";
const CLEAR: &str = "sets/enc-wpt-cenc/wpt__video_512x288_h264-360k_clear_dashinit.mp4";
const SOURCE_KID: &str = "ad13f9ea2be698b875f504a8e3ccea64";
const SOURCE_KEY: &str = "be7df8a3667a6a8fd564d0ed81339a95";

/// A house with the encrypted film, and where its clear original is.
fn house(name: &str, titles: Titles) -> Option<(House, PathBuf)> {
    let Some(media) = std::env::var_os("HEADWATER_MEDIA").map(PathBuf::from) else {
        eprintln!("SKIPPED {name}: HEADWATER_MEDIA is not set");
        return None;
    };
    let mut house = House::new(name, titles);
    // Of a source that came encrypted nothing is left clear all the same.
    house.clear_lead_ms = 2_000;
    std::fs::copy(media.join(FILM), house.folder.join("library/film.mp4")).unwrap();
    Some((house, media.join(CLEAR)))
}

#[test]
fn an_encrypted_source_is_served_under_other_keys_alone() {
    let Some((house, original)) = house("other-keys", Titles::Keyed) else {
        return;
    };
    let (store, protector) = house.open();
    let id = id_of(&store);
    // Without the key the title can not be opened, and somebody must look.
    let error = store.open(&id).unwrap_err();
    assert!(matches!(&error, ServeError::MissingKey { .. }), "{error}");
    assert!(error.to_string().contains("ad13f9ea-2be6"), "{error}");

    let source = (sixteen(SOURCE_KID), sixteen(SOURCE_KEY), "source");
    let mut title = house.keys(&id, &[source, (OWN_KID.0, OWN_KEY, "cbcs")]);
    let (store, protector) = {
        drop((store, protector));
        house.open()
    };
    let asset = store.open(&id).unwrap();
    assert!(asset.has_encrypted_source() && !asset.may_be_clear());
    let clear_version = asset.presentation.version.clone();
    // Nothing clear, and nothing under the source's key.
    for path in ["master.m3u8", "manifest.mpd"] {
        let text = text(&protector, &asset, path);
        assert!(
            text.contains("cmaf-cbcs/") && !text.contains("/cmaf/"),
            "{path}: {text}"
        );
    }
    for form in ["cmaf", "ts", "cmaf-cenc"] {
        let error = whole(&protector, &asset, &clear_version, form, None).unwrap_err();
        assert!(
            matches!(error, ServeError::NotFound | ServeError::MissingKey { .. }),
            "{form}: {error}"
        );
    }
    let version = version(&protector, &asset);
    let served = whole(&protector, &asset, &version, "cmaf-cbcs", None).unwrap();
    let keys = BTreeMap::from([(OWN_KID, ContentKey::new(OWN_KEY))]);
    assert_eq!(samples(&served, &keys), samples(&load(&original), &BTreeMap::new()));

    // A source key that was revoked opens nothing from the next look at the vault on.
    title.set_state(KeyId(sixteen(SOURCE_KID)), KeyState::Revoked).unwrap();
    house.put_title(&id, &mut title);
    let begun = Instant::now();
    let error = loop {
        match get(&protector, &asset, &format!("v{version}/cmaf-cbcs/v1/1.m4s"), None) {
            Err(error) => break error,
            Ok(_) => assert!(begun.elapsed() < Duration::from_secs(30), "the revoked key still opens"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(matches!(&error, ServeError::MissingKey { .. }), "{error}");
}

#[test]
fn a_source_may_be_served_clear_where_its_key_says_so() {
    let Some((house, original)) = house("clear", Titles::Keyed) else {
        return;
    };
    let id = id_of(&house.open().0);
    house.keys(&id, &[(sixteen(SOURCE_KID), sixteen(SOURCE_KEY), "source-clear")]);
    let (store, protector) = house.open();
    let asset = store.open(&id).unwrap();
    assert!(asset.may_be_clear());
    let served = whole(&protector, &asset, &asset.presentation.version, "cmaf", None).unwrap();
    let none = BTreeMap::new();
    assert_eq!(samples(&served, &none), samples(&load(&original), &none));
    let version = &asset.presentation.version;
    let (frame, _) = get(&protector, &asset, &format!("v{version}/cmaf/v1/iframe-1.m4s"), None).unwrap();
    assert!(frame.windows(4).any(|name| name == b"mdat"));
    let (segment, _) = get(&protector, &asset, &format!("v{version}/ts/v1/1.ts"), None).unwrap();
    assert_eq!(segment.first(), Some(&0x47));

    // A key of another kind makes the title a protected one, and revoked it does not make it clear again.
    let source = (sixteen(SOURCE_KID), sixteen(SOURCE_KEY), "source-clear");
    let mut title = house.keys(&id, &[source, (OWN_KID.0, OWN_KEY, "cbcs")]);
    for state in [KeyState::Active, KeyState::Revoked] {
        title.set_state(OWN_KID, state).unwrap();
        house.put_title(&id, &mut title);
        let (store, protector) = house.open();
        let asset = store.open(&id).unwrap();
        let error = whole(&protector, &asset, version, "cmaf", None).unwrap_err();
        assert!(matches!(error, ServeError::NotFound), "{state:?}: {error}");
        let master = get(&protector, &asset, "master.m3u8", None);
        assert_eq!(master.is_ok(), state == KeyState::Active, "{state:?}");
    }
}

#[test]
fn a_key_that_does_not_open_is_a_named_refusal() {
    let Some((house, _)) = house("wrong", Titles::All) else {
        return;
    };
    let id = id_of(&house.open().0);
    house.keys(&id, &[([1; 16], sixteen(SOURCE_KEY), "source")]);
    let (store, _) = house.open();
    let error = store.open(&id).unwrap_err();
    assert!(matches!(&error, ServeError::MissingKey { .. }), "{error}");
}
