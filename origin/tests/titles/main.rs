//! Titles from the library to the bytes of segments, without a socket: encrypted sources, watermark variants.
//!
//! `HEADWATER_MEDIA` names the folder of test media.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod encrypted_source;
mod variants;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use origin::asset::Asset;
use origin::config::Section;
use origin::content::Piece;
use origin::error::ServeError;
use origin::keys::{FileKek, HEAD_NAME, TITLES_NAME};
use origin::protect::{ProtectConfig, Protector, Titles};
use origin::route::{self, Route};
use origin::source_keys::SourceKeyring;
use origin::store::Store;
use origin::vod::{self, Planned};
use packager::crypto::output::OutputRules;
use packager::crypto::signal::DrmSystems;
use packager::crypto::vault::{self, NewKey, TitleKeys, TrackClass, VaultHead};
use packager::crypto::wrap::Secret32;
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};
use packager::form::Form;
use packager::isobmff::movie;
use packager::isobmff::protection::KeyNaming;
use packager::source::ReadAt;

const OWN_KID: KeyId = KeyId([0x77; 16]);
const OWN_KEY: [u8; 16] = [0x31; 16];

fn tenant_key() -> Secret32 {
    Secret32::new([8; 32])
}

fn sixteen(text: &str) -> [u8; 16] {
    KeyId::parse(text).unwrap().0
}

/// A library, and a vault.
struct House {
    folder: PathBuf,
    titles: Titles,
    clear_lead_ms: u64,
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl House {
    fn new(name: &str, titles: Titles) -> House {
        let folder = std::env::temp_dir().join(format!("headwater-titles-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("library")).unwrap();
        std::fs::create_dir_all(folder.join(TITLES_NAME)).unwrap();
        let house = House {
            folder,
            titles,
            clear_lead_ms: 0,
        };
        let kek = Secret32::new([7; 32]);
        let mut head = VaultHead::new(&vault::kek_id(&kek)).unwrap();
        head.wrap_tenant(&kek, "acme", &tenant_key()).unwrap();
        house.put(HEAD_NAME, &head.to_json());
        house.put("kek", &vault::kek_text(&kek));
        house
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
        self.put_title(id, &mut title);
        title
    }

    fn put_title(&self, id: &str, title: &mut TitleKeys) {
        let text = title.write(&tenant_key(), 0).unwrap();
        self.put(&format!("{TITLES_NAME}/{id}.json"), &text);
    }

    fn open(&self) -> (Store, Protector) {
        let config = ProtectConfig {
            vault: self.folder.clone(),
            kek: self.folder.join("kek"),
            open_kek: |path| Box::new(FileKek::new(path)),
            titles: self.titles,
            scheme: ProtectionScheme::Cbcs,
            ts: Form::TsAes128,
            systems: DrmSystems::default(),
            clear_lead_ms: self.clear_lead_ms,
            naming: KeyNaming::default(),
            outputs: OutputRules::default(),
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

/// What the origin answers to `path` below `/vod/{id}/` of the clear `asset`, for a grant with `pattern`.
fn get(
    protector: &Protector,
    asset: &Arc<Asset>,
    path: &str,
    pattern: Option<&[u8]>,
) -> Result<(Vec<u8>, String), ServeError> {
    let url = format!("/vod/{}/{path}", asset.media_id);
    let (url, query) = url
        .split_once('?')
        .map_or((url.as_str(), None), |(url, query)| (url, Some(query)));
    let Some(Route::Vod { resource, .. }) = route::parse(url, query) else {
        return Err(ServeError::NotFound);
    };
    let asset = protector.protect(asset, &resource)?;
    if vod::choice::derivation(&asset, &resource)?.is_some() {
        return Err(ServeError::NotFound);
    }
    let asset = vod::variant::choose(&asset, &resource, pattern)?;
    let answer = match vod::plan(&asset, resource)? {
        Planned::Ready(answer) => answer,
        Planned::Render(rendering) => return Ok(((rendering.render)()?.to_vec(), String::new())),
        Planned::Build(build) => build()?,
        Planned::Segment(building) => building.answer_blocking()?,
    };
    let size = answer.content.size();
    let mut bytes = Vec::new();
    for piece in answer.content.range(0..size) {
        match piece {
            Piece::Memory(_) | Piece::Made(_) => bytes.extend_from_slice(&piece.read().unwrap()),
            Piece::File { file, offset, size } => {
                assert!(
                    !asset.has_encrypted_source(),
                    "{path}: bytes of an encrypted source as they lie"
                );
                let at = bytes.len();
                bytes.resize(at + size as usize, 0);
                file.read_exact_at(&mut bytes[at..], offset).unwrap();
            }
        }
    }
    Ok((bytes, answer.etag))
}

fn text(protector: &Protector, asset: &Arc<Asset>, path: &str) -> String {
    String::from_utf8(get(protector, asset, path, None).unwrap().0).unwrap()
}

/// The version that the multivariant playlist leads to.
fn version(protector: &Protector, asset: &Arc<Asset>) -> String {
    let master = text(protector, asset, "master.m3u8");
    let (_, rest) = master.split_once("\nv").unwrap();
    rest.split('/').next().unwrap().to_owned()
}

/// Header and all segments of the first picture track as one file.
fn whole(
    protector: &Protector,
    asset: &Arc<Asset>,
    version: &str,
    form: &str,
    pattern: Option<&[u8]>,
) -> Result<Bytes, ServeError> {
    let base = format!("v{version}/{form}/v1");
    let mut file = get(protector, asset, &format!("{base}/init.mp4"), pattern)?.0;
    for number in 1..=asset.presentation.representations[0].segments.segments().len() {
        file.extend(get(protector, asset, &format!("{base}/{number}.m4s"), pattern)?.0);
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
