//! A title whose source lies encrypted: served under keys of its own, in the clear only where its key says so, and not at
//! all without its key.
//!
//! `HEADWATER_MEDIA` names the folder of test media.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use origin::asset::Asset;
use origin::config::Section;
use origin::content::Piece;
use origin::error::ServeError;
use origin::keys::{HEAD_NAME, TITLES_NAME};
use origin::protect::{ProtectConfig, Protector, Titles};
use origin::route::{self, Route};
use origin::source_keys::SourceKeyring;
use origin::store::Store;
use origin::vod::{self, Planned};
use packager::crypto::signal::DrmSystems;
use packager::crypto::vault::{self, KeyState, NewKey, TitleKeys, TrackClass, VaultHead};
use packager::crypto::wrap::Secret32;
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};
use packager::form::Form;
use packager::isobmff::movie;
use packager::source::ReadAt;

const FILM: &str = "sets/enc-wpt-cenc/wpt__video_512x288_h264-360k_enc_dashinit.mp4";
const CLEAR: &str = "sets/enc-wpt-cenc/wpt__video_512x288_h264-360k_clear_dashinit.mp4";
const SOURCE_KID: &str = "ad13f9ea2be698b875f504a8e3ccea64";
const SOURCE_KEY: &str = "be7df8a3667a6a8fd564d0ed81339a95";
const OWN_KID: KeyId = KeyId([0x77; 16]);
const OWN_KEY: [u8; 16] = [0x31; 16];

fn tenant_key() -> Secret32 {
    Secret32::new([8; 32])
}

fn sixteen(text: &str) -> [u8; 16] {
    KeyId::parse(text).unwrap().0
}

/// A library of one film, and a vault.
struct House {
    folder: PathBuf,
    original: PathBuf,
    titles: Titles,
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl House {
    fn new(name: &str, titles: Titles) -> Option<House> {
        let Some(media) = std::env::var_os("HEADWATER_MEDIA").map(PathBuf::from) else {
            eprintln!("SKIPPED {name}: HEADWATER_MEDIA is not set");
            return None;
        };
        let folder = std::env::temp_dir().join(format!("headwater-encrypted-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("library")).unwrap();
        std::fs::create_dir_all(folder.join(TITLES_NAME)).unwrap();
        std::fs::copy(media.join(FILM), folder.join("library/film.mp4")).unwrap();
        let house = House {
            folder,
            original: media.join(CLEAR),
            titles,
        };
        let kek = Secret32::new([7; 32]);
        let mut head = VaultHead::new(&vault::kek_id(&kek)).unwrap();
        head.wrap_tenant(&kek, "acme", &tenant_key()).unwrap();
        house.put(HEAD_NAME, &head.to_json());
        house.put("kek", &vault::kek_text(&kek));
        Some(house)
    }

    fn put(&self, name: &str, text: &str) {
        let (path, new) = (self.folder.join(name), self.folder.join("new"));
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// Writes the title's keys: KID, key and scheme.
    fn keys(&self, id: &str, rows: &[([u8; 16], [u8; 16], &str)]) -> TitleKeys {
        let mut title = TitleKeys::new("acme", id).unwrap();
        for ((kid, key, scheme), number) in rows.iter().zip(1u8..) {
            let new = NewKey {
                key_id: KeyId(*kid),
                key: &ContentKey::new(*key),
                scheme,
                track: TrackClass::Sd,
                period: 0,
                starts_ms: None,
                created: 0,
                nonce: [number; 12],
            };
            title.seal_new(&tenant_key(), &new).unwrap();
        }
        self.put(&format!("{TITLES_NAME}/{id}.json"), &title.to_json());
        title
    }

    fn open(&self) -> (Store, Protector) {
        let config = ProtectConfig {
            vault: self.folder.clone(),
            kek: self.folder.join("kek"),
            titles: self.titles,
            scheme: ProtectionScheme::Cbcs,
            ts: Form::TsAes128,
            systems: DrmSystems::default(),
            clear_lead_ms: 0,
        };
        let protector = Protector::open(config).unwrap();
        let section = Section {
            library: Some(self.folder.join("library")),
            ..Section::default()
        };
        let keyring = SourceKeyring::default().and_vault(protector.key_store());
        (Store::with_keys(section.check().unwrap(), keyring), protector)
    }
}

fn id_of(store: &Store) -> String {
    store.entries().unwrap().keys().next().unwrap().clone()
}

/// What the origin answers to `path` below `/vod/{id}/` of the clear `asset`.
fn get(protector: &Protector, asset: &Arc<Asset>, path: &str) -> Result<Vec<u8>, ServeError> {
    let url = format!("/vod/{}/{path}", asset.media_id);
    let Some(Route::Vod { resource, .. }) = route::parse(&url, None) else {
        return Err(ServeError::NotFound);
    };
    let asset = protector.protect(asset, &resource)?;
    let answer = match vod::plan(&asset, resource)? {
        Planned::Ready(answer) => answer,
        Planned::Render(rendering) => return Ok((rendering.render)()?.to_vec()),
        Planned::Build(build) => build()?,
    };
    let size = answer.content.size();
    let mut bytes = Vec::new();
    for piece in answer.content.range(0..size) {
        match piece {
            Piece::Memory(memory) => bytes.extend_from_slice(&memory),
            Piece::File { .. } => panic!("{path}: bytes of the encrypted source as they lie"),
        }
    }
    Ok(bytes)
}

/// Header and all segments of the only track as one file.
fn whole(protector: &Protector, asset: &Arc<Asset>, version: &str, form: &str) -> Result<Bytes, ServeError> {
    let base = format!("v{version}/{form}/v1");
    let mut file = get(protector, asset, &format!("{base}/init.mp4"))?;
    for number in 1..=asset.presentation.representations[0].segments.segments().len() {
        file.extend(get(protector, asset, &format!("{base}/{number}.m4s"))?);
    }
    Ok(Bytes::from(file))
}

fn samples(file: &Bytes, keys: &BTreeMap<KeyId, ContentKey>) -> Vec<Vec<u8>> {
    let found = movie::read_encrypted(file, keys).unwrap();
    let track = found.tracks.first().unwrap_or_else(|| panic!("{:?}", found.refused));
    let read = track.index.iter().map(|sample| {
        let mut bytes = file.read_at(sample.offset, sample.size as usize).unwrap().to_vec();
        if let Some(encryption) = &found.encryption {
            encryption
                .decrypt(keys, [(sample.offset, sample.size)], &mut bytes)
                .unwrap();
        }
        bytes
    });
    read.collect()
}

fn load(path: &Path) -> Bytes {
    Bytes::from(std::fs::read(path).unwrap())
}

#[test]
fn an_encrypted_source_is_served_under_other_keys_alone() {
    let Some(house) = House::new("other-keys", Titles::Keyed) else {
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
        let text = String::from_utf8(get(&protector, &asset, path).unwrap()).unwrap();
        assert!(
            text.contains("cmaf-cbcs/") && !text.contains("/cmaf/"),
            "{path}: {text}"
        );
    }
    for form in ["cmaf", "ts", "cmaf-cenc"] {
        let error = whole(&protector, &asset, &clear_version, form).unwrap_err();
        assert!(
            matches!(error, ServeError::NotFound | ServeError::MissingKey { .. }),
            "{form}: {error}"
        );
    }
    let master = String::from_utf8(get(&protector, &asset, "master.m3u8").unwrap()).unwrap();
    let (_, rest) = master.split_once("v").and_then(|_| master.split_once("\nv")).unwrap();
    let version = rest.split('/').next().unwrap().to_owned();
    let served = whole(&protector, &asset, &version, "cmaf-cbcs").unwrap();
    let keys = BTreeMap::from([(OWN_KID, ContentKey::new(OWN_KEY))]);
    let original = samples(&load(&house.original), &BTreeMap::new());
    assert_eq!(samples(&served, &keys), original);

    // A source key that was revoked opens nothing from the next look at the vault on.
    title.set_state(KeyId(sixteen(SOURCE_KID)), KeyState::Revoked).unwrap();
    house.put(&format!("{TITLES_NAME}/{id}.json"), &title.to_json());
    let begun = Instant::now();
    let error = loop {
        match get(&protector, &asset, &format!("v{version}/cmaf-cbcs/v1/1.m4s")) {
            Err(error) => break error,
            Ok(_) => assert!(begun.elapsed() < Duration::from_secs(30), "the revoked key still opens"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(matches!(&error, ServeError::MissingKey { .. }), "{error}");
}

#[test]
fn a_source_may_be_served_clear_where_its_key_says_so() {
    let Some(house) = House::new("clear", Titles::Keyed) else {
        return;
    };
    let id = id_of(&house.open().0);
    house.keys(&id, &[(sixteen(SOURCE_KID), sixteen(SOURCE_KEY), "source-clear")]);
    let (store, protector) = house.open();
    let asset = store.open(&id).unwrap();
    assert!(asset.may_be_clear());
    let served = whole(&protector, &asset, &asset.presentation.version, "cmaf").unwrap();
    let none = BTreeMap::new();
    assert_eq!(samples(&served, &none), samples(&load(&house.original), &none));
    let frame = get(
        &protector,
        &asset,
        &format!("v{}/cmaf/v1/iframe-1.m4s", asset.presentation.version),
    )
    .unwrap();
    assert!(frame.windows(4).any(|name| name == b"mdat"));
    let segment = get(
        &protector,
        &asset,
        &format!("v{}/ts/v1/1.ts", asset.presentation.version),
    )
    .unwrap();
    assert_eq!(segment.first(), Some(&0x47));
}

#[test]
fn a_key_that_does_not_open_is_a_named_refusal() {
    let Some(house) = House::new("wrong", Titles::All) else {
        return;
    };
    let id = id_of(&house.open().0);
    house.keys(&id, &[([1; 16], sixteen(SOURCE_KEY), "source")]);
    let (store, _) = house.open();
    let error = store.open(&id).unwrap_err();
    assert!(matches!(&error, ServeError::MissingKey { .. }), "{error}");
}
