//! Long films: their tables are left as they lie for the first playlist, and packed when media is asked for.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shared;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use origin::Origin;
use origin::asset::Asset;
use origin::config::Section;
use origin::route::{self, Addressing, Route, VodResource};
use origin::store::Store;
use origin::vod::choice::derivation;
use origin::vod::listing;
use packager::form::Form;

use shared::Running;

struct House {
    folder: PathBuf,
    origin: Arc<Origin>,
    id: String,
    running: Running,
}

impl House {
    /// `None`, loudly, without ffmpeg.
    fn open(name: &str) -> Option<House> {
        let film = shared::long_film()?;
        let folder = std::env::temp_dir().join(format!("headwater-long-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("library")).unwrap();
        std::fs::copy(film, folder.join("library/film.mp4")).unwrap();
        let section = Section {
            library: Some(folder.join("library")),
            listen: "127.0.0.1:0".into(),
            threads: 1,
            ..Section::default()
        };
        let origin = Origin::new(section.check().unwrap()).unwrap();
        let id = origin.store().scan().unwrap().keys().next().unwrap().clone();
        Some(House {
            running: Running::start(&origin, None),
            folder,
            origin,
            id,
        })
    }

    /// Body of what has to be there.
    fn get(&self, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.running.addresses.plain.unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        assert!(
            reply.starts_with(b"HTTP/1.1 200 "),
            "{path}: {}",
            String::from_utf8_lossy(&reply)
        );
        let body = reply.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        reply.split_off(body)
    }

    fn is_packed(&self) -> bool {
        self.origin.store().open(&self.id).unwrap().is_packed()
    }

    fn bytes(&self, asset: &Arc<Asset>, resource: VodResource) -> Vec<u8> {
        let content = self.origin.answer_blocking(asset, resource).unwrap().content;
        let size = content.size();
        content.range(0..size).flat_map(|piece| piece.read().unwrap()).collect()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.running.end();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[test]
fn tables_are_packed_when_media_is_asked_for() {
    let Some(house) = House::open("asked") else { return };
    let store = house.origin.store();
    let master = String::from_utf8(house.get(&format!("/vod/{}/master.m3u8", house.id))).unwrap();
    let folder = format!(
        "/vod/{}/v{}/cmaf",
        house.id,
        store.open(&house.id).unwrap().presentation.version
    );
    assert!(master.contains("/cmaf/v1/index.m3u8"), "{master}");
    for path in [
        format!("/vod/{}/manifest.mpd", house.id),
        format!("{folder}/v1/index.m3u8"),
        format!("{folder}/a1/index.m3u8"),
        format!("{folder}/v1/iframes.m3u8"),
    ] {
        assert!(!house.get(&path).is_empty());
        assert!(!house.is_packed(), "{path} packed the index");
    }
    let listed = store.open(&house.id).unwrap();
    let before = store.usage().0;
    let Some(Route::Vod { resource, .. }) = route::parse(&format!("{folder}/v1/2.m4s"), None) else {
        panic!("no segment");
    };
    let expected = house.bytes(&listed, resource);
    assert!(expected.len() > 1_000);
    assert!(house.get(&format!("{folder}/v1/2.m4s")) == expected);
    assert!(house.is_packed());
    let after = store.usage().0;
    assert!(after * 2 < before, "{before} bytes, then {after}");
    assert_eq!(
        listed.presentation.version,
        store.open(&house.id).unwrap().presentation.version
    );
}

/// Whatever is served of a listed index is what is served of the packed one.
#[test]
fn nothing_that_is_served_changes() {
    let Some(house) = House::open("same") else { return };
    let listed = house.origin.store().open(&house.id).unwrap();
    let packed = Arc::new(listed.packed().unwrap());
    assert!(!listed.is_packed() && packed.is_packed());
    assert_eq!(listed.presentation.version, packed.presentation.version);
    let list = |asset: &Asset| listing::list(asset, &[Form::Cmaf, Form::Ts], Addressing::TimelineTime);
    let (of_listed, of_packed) = (list(&listed), list(&packed));
    assert_eq!(of_listed.len(), of_packed.len());
    let mut compared = 0;
    // All that is no segment, and segments here and there to the last.
    for (at, (one, other)) in of_listed.into_iter().rev().zip(of_packed.into_iter().rev()).enumerate() {
        assert_eq!(one.path, other.path);
        let is_segment = [".m4s", ".ts", ".aac", ".mp4"]
            .iter()
            .any(|end| one.path.ends_with(end));
        if is_segment && at % 23 != 0 {
            continue;
        }
        let (one_bytes, other_bytes) = (house.bytes(&listed, one.resource), house.bytes(&packed, other.resource));
        assert!(one_bytes == other_bytes, "{}", one.path);
        compared += usize::from(is_segment);
    }
    assert!(compared > 20, "{compared} segments");
}

/// A presentation with other segments is made again of packed tables.
#[test]
fn what_was_made_of_listed_tables_is_left_behind() {
    let Some(house) = House::open("choice") else { return };
    let store = house.origin.store();
    let listed = store.open(&house.id).unwrap();
    let path = format!("/vod/{}/master.m3u8", house.id);
    let Some(Route::Vod { resource, .. }) = route::parse(&path, Some("segment=8")) else {
        panic!("no entry point");
    };
    let other_cut = derivation(&listed, &resource).unwrap().unwrap();
    assert!(!store.derive(&listed, other_cut).unwrap().is_packed());
    assert!(store.derived(&listed, other_cut).is_some());
    let packed = store.open_packed(&house.id).unwrap();
    assert!(store.derived(&packed, other_cut).is_none());
    assert!(store.derive(&packed, other_cut).unwrap().is_packed());
    assert!(store.derived(&packed, other_cut).is_some());
}

/// Tables that there is no room for are packed all the same, and kept then.
#[test]
fn what_was_too_large_as_it_lay_is_kept_packed() {
    let Some(house) = House::open("narrow") else { return };
    let listed = house.origin.store().open(&house.id).unwrap().weight_bytes();
    let packed = house.origin.store().open_packed(&house.id).unwrap().weight_bytes();
    assert!(packed * 2 < listed);
    let mut config = house.origin.config().clone();
    config.index_memory_bytes_max = packed * 3 / 2;
    let store = Store::new(config);
    store.scan().unwrap();
    assert!(!store.open(&house.id).unwrap().is_packed());
    assert_eq!(store.usage().1, 0);
    let asset = store.open_packed(&house.id).unwrap();
    assert!(asset.is_packed());
    assert_eq!(store.usage(), (packed, 1));
    assert!(Arc::ptr_eq(&asset, &store.open(&house.id).unwrap()));
}

/// What was found in a long file is found again by a process that starts later: nothing of its header is read.
#[test]
fn after_a_restart_no_header_is_read() {
    let Some(house) = House::open("restart") else { return };
    let film = house.folder.join("library/film.mp4");
    let kept = || {
        std::fs::read_dir(house.folder.join("library/.headwater-cache"))
            .into_iter()
            .flatten()
            .count()
    };
    let segment = |asset: &Asset| format!("/vod/{}/v{}/cmaf/a1/9.m4s", house.id, asset.presentation.version);
    let before = house.origin.store().open(&house.id).unwrap();
    assert_eq!(kept(), 0);
    let expected = house.get(&segment(&before));
    // It is kept behind the answer.
    let deadline = Instant::now() + Duration::from_secs(20);
    while kept() == 0 {
        assert!(Instant::now() < deadline, "nothing was kept");
        std::thread::yield_now();
    }
    assert_eq!(kept(), 1);
    // The same file, as far as its metadata tells, without a header.
    let modified = std::fs::metadata(&film).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&film).unwrap();
    let moov = bytes.windows(4).position(|name| name == b"moov").unwrap();
    bytes[moov..moov + 1_000].fill(0);
    let file = std::fs::OpenOptions::new().write(true).open(&film).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    file.set_modified(modified).unwrap();
    let store = || {
        let store = Store::new(house.origin.config().clone());
        store.scan().unwrap();
        store
    };
    let after = store().open(&house.id).unwrap();
    assert!(after.is_packed());
    assert_eq!(after.presentation.version, before.presentation.version);
    let Some(Route::Vod { resource, .. }) = route::parse(&segment(&after), None) else {
        panic!("no segment");
    };
    assert!(house.bytes(&after, resource) == expected);
    // A damaged index is removed, and the file is looked at again; which is in vain here.
    let folder = std::fs::read_dir(house.folder.join("library/.headwater-cache")).unwrap();
    let folder = { folder }.next().unwrap().unwrap().path();
    let index = std::fs::read(folder.join("0.idx")).unwrap();
    std::fs::write(folder.join("0.idx"), &index[..index.len() / 2]).unwrap();
    let error = store().open(&house.id).unwrap_err().to_string();
    assert!(error.contains("moov") || error.contains("film.mp4"), "{error}");
    assert_eq!(kept(), 0);
}

/// What can not be kept is served all the same.
#[test]
fn an_index_without_a_place_is_not_missed() {
    let Some(house) = House::open("unwritable") else { return };
    let mut config = house.origin.config().clone();
    // A file where a folder is wanted.
    config.cache = house.folder.join("library/film.mp4");
    let store = Store::new(config);
    store.scan().unwrap();
    let asset = store.open_packed(&house.id).unwrap();
    store.keep_index(&asset);
    assert!(Arc::ptr_eq(&asset, &store.open(&house.id).unwrap()));
}
