//! Protected titles on the wire: built in steps, made again for the next, kept while hot, cut to ranges; always the bytes
//! that packaging ahead of time writes.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shared;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use origin::Origin;
use origin::config::{AccessSection, ProtectionSection, Section};
use origin::keys::{HEAD_NAME, KeyStore, TITLES_NAME};
use origin::protect::{self, Protector};
use origin::route::{self, Addressing, Route};
use origin::vod::listing;
use packager::crypto::vault::{self, NewKey, TitleKeys, TrackClass, VaultHead};
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};
use packager::form::Form;
use packager::grant::{Grant, GrantKeys, GrantScheme};

use shared::{Running, tone};

const FORMS: [Form; 4] = [
    Form::CmafProtected(ProtectionScheme::Cenc),
    Form::CmafProtected(ProtectionScheme::Cbcs),
    Form::TsAes128,
    Form::TsSampleAes,
];

/// Picture and sound, frame by frame in turn, with pictures larger than a part.
fn film(duration_s: u32) -> Option<PathBuf> {
    let picture = format!("testsrc2=size=426x240:rate=25:duration={duration_s},noise=alls=30:allf=t");
    let arguments = ["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &tone(duration_s)];
    let coding = "-c:v libx264 -preset ultrafast -qp 22 -g 50 -c:a aac -shortest -movflags +faststart";
    let arguments: Vec<&str> = arguments.into_iter().chain(coding.split(' ')).collect();
    shared::film(&format!("protected-{duration_s}.mp4"), &arguments)
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn protection(folder: &Path) -> ProtectionSection {
    let vault = folder.join("vault");
    toml::from_str(&format!("vault = {vault:?}\nkek = {:?}\n", vault.join("kek"))).unwrap()
}

struct House {
    folder: PathBuf,
    origin: Arc<Origin>,
    id: String,
    running: Running,
    _alone: MutexGuard<'static, ()>,
}

impl House {
    fn open(name: &str, duration_s: u32, settings: impl FnOnce(&mut Section)) -> Option<House> {
        House::of(name, &film(duration_s)?, settings)
    }

    fn of(name: &str, film: &Path, settings: impl FnOnce(&mut Section)) -> Option<House> {
        // Memory in use is counted for the process.
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = std::env::temp_dir().join(format!("headwater-protected-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("library")).unwrap();
        std::fs::copy(film, folder.join("library/film.mp4")).unwrap();
        let id = origin::library::scan(&folder.join("library")).unwrap();
        let id = id.into_keys().next().unwrap();
        make_vault(&folder.join("vault"), &id);
        write_private(&folder.join("grant.key"), &"5a".repeat(32));
        std::fs::write(folder.join("ended"), "").unwrap();
        let mut section = Section {
            library: Some(folder.join("library")),
            listen: "127.0.0.1:0".into(),
            drain_timeout_s: 5,
            header_timeout_s: 100,
            threads: 2,
            segment_duration_ms: 2_000,
            protection: Some(protection(&folder)),
            access: Some(AccessSection {
                grant_keys: folder.join("grant.key"),
                revoked: Some(folder.join("ended")),
            }),
            ..Section::default()
        };
        // Without optimisation a cipher takes so long that everybody else's turn comes late.
        section.limits.delay_ms_max = 0;
        settings(&mut section);
        let origin = Origin::new(section.check().unwrap()).unwrap();
        Some(House {
            running: Running::start(&origin, None),
            folder,
            origin,
            id,
            _alone: alone,
        })
    }

    /// Every segment and trick-play frame of the title in `form`, built ahead of time.
    fn wanted(&self, form: Form) -> BTreeMap<String, Vec<u8>> {
        let store = KeyStore::open(&self.folder.join("vault"), &self.folder.join("vault/kek")).unwrap();
        let title = store.title(&self.id).unwrap().unwrap();
        let config = protection(&self.folder).check().unwrap();
        let asset = self.origin.store().open(&self.id).unwrap();
        let asset = Arc::new(protect::protected(&asset, form, &title, &config).unwrap());
        let mut found = BTreeMap::new();
        for listed in listing::list(&asset, &[form], Addressing::TimelineTime) {
            let path = format!("/vod/{}/{}", self.id, listed.path);
            if [".m4s", ".ts", ".aac"].iter().any(|end| path.ends_with(end)) {
                let content = self.origin.answer_blocking(&asset, listed.resource).unwrap().content;
                let size = content.size();
                let pieces = content.range(0..size);
                let bytes: Vec<u8> = pieces.flat_map(|piece| piece.read().unwrap()).collect();
                assert_eq!(bytes.len() as u64, size, "{path}");
                found.insert(path, bytes);
            }
        }
        assert!(found.len() > 3, "{form:?}: {found:?}", found = found.keys());
        found
    }

    fn token(&self, change: impl FnOnce(&mut Grant)) -> String {
        let keys = GrantKeys::parse(&"5a".repeat(32)).unwrap();
        let mut grant = Grant::new(&format!("/vod/{}/", self.id), u64::from(u32::MAX));
        change(&mut grant);
        grant.mint(&keys).unwrap().expose().to_owned()
    }

    fn metric(&self, name: &str) -> u64 {
        let metrics = ask(&mut self.connect(), "/metrics", &[]);
        let metrics = String::from_utf8(metrics.body).unwrap();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        value
            .unwrap_or_else(|| panic!("{name}: {metrics}"))
            .trim()
            .parse()
            .unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.running.addresses.plain.unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.running.end();
        let _gone = std::fs::remove_dir_all(&self.folder);
    }
}

fn make_vault(folder: &Path, media_id: &str) {
    std::fs::create_dir_all(folder.join(TITLES_NAME)).unwrap();
    let (kek, tenant_key) = (
        vault::parse_kek(&"07".repeat(32)).unwrap(),
        vault::parse_kek(&"08".repeat(32)).unwrap(),
    );
    let mut head = VaultHead::new(&vault::kek_id(&kek)).unwrap();
    head.wrap_tenant(&kek, "acme", &tenant_key).unwrap();
    write_private(&folder.join(HEAD_NAME), &head.to_json());
    write_private(&folder.join("kek"), &vault::kek_text(&kek));
    let mut title = TitleKeys::new("acme", media_id).unwrap();
    let mut number = 0;
    for scheme in FORMS.iter().filter_map(|form| form.key_scheme()) {
        for track in TrackClass::ALL {
            number += 1;
            let new = NewKey {
                key_id: KeyId([number; 16]),
                key: &ContentKey::new([number ^ 0xff; 16]),
                scheme,
                track,
                period: 0,
                starts_ms: None,
                created: 0,
                nonce: [number; 12],
            };
            title.seal_new(&tenant_key, &new).unwrap();
        }
    }
    write_private(
        &folder.join(TITLES_NAME).join(format!("{media_id}.json")),
        &title.write(&tenant_key, 0).unwrap(),
    );
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

fn ask(stream: &mut TcpStream, path: &str, headers: &[String]) -> Reply {
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let size = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut body = vec![0; size.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    Reply {
        status: head[9..12].parse().unwrap(),
        head,
        body,
    }
}

#[test]
fn whoever_asks_whenever_gets_the_same_bytes() {
    let Some(house) = House::open("same", 3, |section| section.hot_viewer_count_min = 4) else {
        return;
    };
    let bearer = format!("authorization: Bearer {}", house.token(|_| ()));
    for form in FORMS {
        let wanted = house.wanted(form);
        let sent_by_file = || house.metric("headwater_origin_sent_bytes_total{path=\"sendfile\"}");
        let before = sent_by_file();
        // The first time all is found out; then it is made again; then it is kept, on either thread.
        for round in 0..5 {
            let mut stream = house.connect();
            for (path, bytes) in &wanted {
                let reply = ask(&mut stream, path, std::slice::from_ref(&bearer));
                assert_eq!(reply.status, 200, "{path}");
                assert!(reply.head.contains("cache-control: private"), "{}", reply.head);
                assert!(reply.body == *bytes, "{path}, round {round}");
            }
        }
        // What is kept is written while others are answered: the largest leave by `sendfile` from then on.
        let (path, bytes) = wanted.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
        let begun = Instant::now();
        while sent_by_file() - before < bytes.len() as u64 {
            assert!(ask(&mut house.connect(), path, std::slice::from_ref(&bearer)).body == *bytes);
            assert!(begun.elapsed() < Duration::from_secs(60), "{path} is not kept");
        }
        let mut stream = house.connect();
        for (path, bytes) in &wanted {
            let size = bytes.len();
            for (first, last) in [
                (0, 0),
                (size / 3, size / 2),
                (size - 1, size - 1),
                (17, size - 18),
                (size / 2, size / 2),
            ] {
                let range = format!("range: bytes={first}-{last}");
                let reply = ask(&mut stream, path, &[bearer.clone(), range]);
                assert_eq!(reply.status, 206, "{path}");
                assert!(reply.body == bytes[first..=last], "{path} {first}-{last}");
            }
        }
    }
}

#[test]
fn many_at_once_get_the_same_bytes() {
    let Some(house) = House::open("many", 3, |section| section.hot_viewer_count_min = 1_000) else {
        return;
    };
    let token = house.token(|_| ());
    for form in FORMS {
        let wanted = house.wanted(form);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut stream = house.connect();
                    for (path, bytes) in &wanted {
                        let path = path.replacen("/v", &format!("/~{token}/v"), 2).replacen(
                            &format!("/~{token}/vod"),
                            "/vod",
                            1,
                        );
                        let reply = ask(&mut stream, &path, &[]);
                        assert_eq!(reply.status, 200, "{path}");
                        assert!(reply.body == *bytes, "{path}");
                    }
                });
            }
        });
    }
}

#[test]
fn what_was_just_answered_opens_nothing_to_others() {
    let Some(house) = House::open("others", 3, |section| section.hot_viewer_count_min = 2) else {
        return;
    };
    let bearer = |token: String| [format!("authorization: Bearer {token}")];
    let open = bearer(house.token(|_| ()));
    let other_form = bearer(house.token(|grant| grant.schemes = Some(vec![GrantScheme::Clear])));
    let expired = bearer(house.token(|grant| grant.expires = 1_000));
    let session = bearer(house.token(|grant| grant.session = Some(vec![0xab; 16])));
    let mut videos: Vec<(String, Vec<u8>)> = Vec::new();
    for form in FORMS {
        let wanted = house.wanted(form);
        videos.extend(wanted.into_iter().find(|(path, _)| path.contains("/v1/")));
    }
    assert_eq!(videos.len(), FORMS.len());
    let mut stream = house.connect();
    // Built, then recent, then kept: it is all the same.
    for _ in 0..6 {
        for (video, bytes) in &videos {
            assert!(ask(&mut stream, video, &open).body == *bytes);
            assert!(ask(&mut stream, video, &session).body == *bytes);
            assert_eq!(ask(&mut stream, video, &other_form).status, 404, "{video}");
            assert_eq!(ask(&mut stream, video, &expired).status, 403, "{video}");
            assert_eq!(ask(&mut stream, video, &[]).status, 401, "{video}");
        }
    }
    // From the moment that a session is known to have ended, nothing that was kept is given to it.
    std::fs::write(house.folder.join("ended"), "ab".repeat(16)).unwrap();
    let begun = Instant::now();
    let (first, _) = &videos[0];
    while ask(&mut stream, first, &session).status != 403 {
        assert_eq!(ask(&mut stream, first, &open).status, 200);
        assert!(begun.elapsed() < Duration::from_secs(60), "the session goes on");
    }
    for _ in 0..3 {
        for (video, bytes) in &videos {
            assert!(ask(&mut stream, video, &open).body == *bytes);
            assert_eq!(ask(&mut stream, video, &session).status, 403, "{video}");
        }
    }
}

#[test]
fn memory_for_building_is_bounded() {
    // Segments that no socket takes in whole.
    let long = |section: &mut Section| {
        section.segment_duration_ms = 6_000;
        section.limits.answer_memory_bytes_max = 16 << 20;
    };
    let Some(house) = House::open("bounded", 12, long) else {
        return;
    };
    let bearer = format!("authorization: Bearer {}", house.token(|_| ()));
    let wanted = house.wanted(Form::TsAes128);
    let large: Vec<&String> = wanted
        .iter()
        .filter(|(_, bytes)| bytes.len() > 1 << 20)
        .map(|(path, _)| path)
        .collect();
    assert!(!large.is_empty());
    // Viewers who ask and do not read: each holds the part that is being sent, or all of it if nobody asked before.
    let mut refused = 0;
    let mut held = Vec::new();
    for path in large.iter().cycle().take(300) {
        let mut stream = house.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n{bearer}\r\n\r\n").unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        match &status[9..] {
            b"200" => held.push(stream),
            b"503" => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(held.len() + refused, 300);
    assert!(refused > 0, "all are held");
    assert!(held.len() > 40, "{} are held: each holds a segment", held.len());
    assert!(house.metric("headwater_origin_built_memory_bytes") < 40 << 20);
    // They vanish in the middle of their answers, and there is room for others.
    drop(held);
    let begun = Instant::now();
    while house.metric("headwater_origin_built_memory_bytes") > 1 << 20 {
        assert!(begun.elapsed() < Duration::from_secs(60), "their memory is held");
    }
    for (path, bytes) in wanted.iter().take(3) {
        assert!(ask(&mut house.connect(), path, std::slice::from_ref(&bearer)).body == *bytes);
    }
}

/// What was made of a long film while its tables were listed gives way once they are packed.
#[test]
fn tables_of_a_long_film_are_let_go_of() {
    let Some(house) = shared::long_film().and_then(|film| House::of("long", film, |_| {})) else {
        return;
    };
    let store = house.origin.store();
    let listed = store.open(&house.id).unwrap();
    assert!(!listed.is_packed());
    let Some(Route::Vod { resource, .. }) = route::parse(&format!("/vod/{}/master.m3u8", house.id), None) else {
        panic!("no entry point");
    };
    let protector = Protector::open(protection(&house.folder).check().unwrap()).unwrap();
    let before = protector.protect(&listed, &resource).unwrap();
    assert!(!before.is_packed());
    assert!(protector.kept(&listed, &resource).is_some());
    let packed = store.open_packed(&house.id).unwrap();
    assert!(packed.is_packed());
    assert!(protector.kept(&packed, &resource).is_none());
    let made = protector.protect(&packed, &resource).unwrap();
    assert!(made.is_packed());
    assert_eq!(made.presentation.version, before.presentation.version);
    assert!(protector.kept(&packed, &resource).is_some_and(|kept| kept.is_packed()));
}
