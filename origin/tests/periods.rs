//! A title whose keys change, asked for over a loopback socket: what is listed, under which key it is, and who gets it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use origin::Origin;
use origin::config::{AccessSection, Config, ProtectionSection, Section};
use origin::keys::{HEAD_NAME, TITLES_NAME};
use origin::protect::Protector;
use origin::route::{Addressing, VodResource};
use origin::vod::listing;
use packager::crypto::vault::{self, NewKey, TitleKeys, TrackClass, VaultHead};
use packager::crypto::wrap::Secret32;
use packager::crypto::{ContentKey, KeyId, ProtectionScheme, aes128};
use packager::form::Form;
use packager::grant::{Grant, GrantKey, GrantKeys, TimeWindow};
use packager::presentation::choice::Choice;
use tokio::sync::watch;

const SCHEMES: [&str; 4] = ["cbcs", "cenc", "aes128", "sampleaes"];
const STARTS_MS: [u64; 3] = [0, 7_000, 15_500];
/// The film has a key frame every two seconds: segments of four.
const BOUNDARIES_S: [u64; 3] = [0, 8, 16];

/// A running origin; stops when dropped.
struct House {
    origin: Arc<Origin>,
    config: Config,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl House {
    fn open(section: Section) -> House {
        let config = section.check().unwrap();
        let origin = Origin::new(config.clone()).unwrap();
        let (stop, stopped) = watch::channel(false);
        let (tell, told) = mpsc::channel();
        let serving = origin.clone();
        let thread = std::thread::spawn(move || serving.serve(stopped, |address| tell.send(address).unwrap()).unwrap());
        let address = told.recv_timeout(Duration::from_secs(10)).unwrap();
        House {
            origin,
            config,
            address,
            stop,
            thread: Some(thread),
        }
    }

    fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        let end = reply.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let body = reply.split_off(end);
        let head = String::from_utf8(reply).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    fn text(&self, path: &str) -> String {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}");
        String::from_utf8(body).unwrap()
    }
}

/// A folder with a film of 22 s and a vault with keys of three periods; goes when dropped.
struct Place {
    folder: PathBuf,
    id: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn grant_keys() -> GrantKeys {
    GrantKeys::new(GrantKey::unnamed([3; 32]), None).unwrap()
}

/// The number of a key's name tells scheme, class and period.
fn key_id(scheme: usize, track: TrackClass, period: usize) -> KeyId {
    KeyId([(scheme * 64 + track as usize * 8 + period + 1) as u8; 16])
}

impl Place {
    /// `None`, loudly, where ffmpeg can not make the film.
    fn new(name: &str) -> Option<Place> {
        let folder = std::env::temp_dir().join(format!("headwater-periods-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("library")).unwrap();
        std::fs::create_dir_all(folder.join("vault").join(TITLES_NAME)).unwrap();
        let made = Command::new("ffmpeg")
            .args("-v error -y -f lavfi -i testsrc2=size=320x180:rate=25:duration=22".split(' '))
            .args("-f lavfi -i sine=frequency=440:sample_rate=48000:duration=22".split(' '))
            .args("-c:v libx264 -preset veryfast -g 50 -bf 2 -c:a aac -shortest".split(' '))
            .arg(folder.join("library/film.mp4"))
            .status();
        let mut place = Place {
            folder,
            id: String::new(),
        };
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED {name}: ffmpeg is not installed or can not encode H.264 and AAC");
            return None;
        }
        std::fs::write(
            place.folder.join("library/film.en.vtt"),
            "WEBVTT\n\n00:01.000 --> 00:19.000\nhello\n",
        )
        .unwrap();
        let entries = origin::library::scan(&place.folder.join("library")).unwrap();
        place.id = entries.into_keys().next().unwrap();
        place.make_keys();
        private(&place.folder.join("grant.key"), &"03".repeat(32));
        Some(place)
    }

    fn make_keys(&self) {
        let (kek, tenant_key) = (Secret32::new([1; 32]), Secret32::new([2; 32]));
        let mut head = VaultHead::new(&vault::kek_id(&kek)).unwrap();
        head.wrap_tenant(&kek, "acme", &tenant_key).unwrap();
        let vault = self.folder.join("vault");
        private(&vault.join(HEAD_NAME), &head.to_json());
        private(&self.folder.join("kek"), &vault::kek_text(&kek));
        let mut title = TitleKeys::new("acme", &self.id).unwrap();
        for (scheme, name) in SCHEMES.iter().enumerate() {
            for track in TrackClass::ALL {
                for (period, starts_ms) in STARTS_MS.iter().enumerate() {
                    let key_id = key_id(scheme, track, period);
                    let new = NewKey {
                        key_id,
                        key: &ContentKey::new([key_id.0[0] ^ 0xff; 16]),
                        scheme: name,
                        track,
                        period: period as u64,
                        starts_ms: (period > 0).then_some(*starts_ms),
                        created: 0,
                        nonce: [key_id.0[0]; 12],
                    };
                    title.seal_new(&tenant_key, &new).unwrap();
                }
            }
        }
        private(
            &vault.join(TITLES_NAME).join(format!("{}.json", self.id)),
            &title.write(&tenant_key, 0).unwrap(),
        );
    }

    fn section(&self) -> Section {
        Section {
            library: Some(self.folder.join("library")),
            listen: "127.0.0.1:0".into(),
            threads: 1,
            ..Section::default()
        }
    }

    fn protected(&self, clear_lead_s: u32) -> House {
        let text = format!(
            "vault = {:?}\nkek = {:?}\nclear_lead_s = {clear_lead_s}\n[systems.clear_key]\n",
            self.folder.join("vault"),
            self.folder.join("kek")
        );
        let protection: ProtectionSection = toml::from_str(&text).unwrap();
        House::open(Section {
            protection: Some(protection),
            access: Some(AccessSection {
                grant_keys: self.folder.join("grant.key"),
                revoked: None,
            }),
            ..self.section()
        })
    }

    fn base(&self, window: Option<TimeWindow>) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let grant = Grant {
            window,
            ..Grant::new(&format!("/vod/{}/", self.id), now + 3_600)
        };
        format!("/vod/{}/~{}/", self.id, grant.mint(&grant_keys()).unwrap().expose())
    }
}

/// A media playlist as (key's tag, header, URI) of each segment.
fn rows(text: &str) -> Vec<(String, String, String)> {
    let (mut keys, mut header, mut fresh) = (String::new(), String::new(), true);
    let mut rows = Vec::new();
    for line in text.lines() {
        if line.starts_with("#EXT-X-KEY") {
            keys = if fresh {
                line.to_owned()
            } else {
                format!("{keys}\n{line}")
            };
            fresh = false;
        } else if let Some(map) = line.strip_prefix("#EXT-X-MAP:URI=\"") {
            header = map.trim_end_matches('"').to_owned();
        } else if !line.starts_with('#') {
            fresh = true;
            rows.push((keys.clone(), header.clone(), line.to_owned()));
        }
    }
    rows
}

fn folder_of(path: &str) -> &str {
    &path[..path.rfind('/').unwrap() + 1]
}

fn playlists(house: &House, entry: &str) -> Vec<String> {
    let text = house.text(entry);
    let base = folder_of(entry.split('?').next().unwrap()).to_owned();
    let quoted = text
        .lines()
        .filter_map(|line| line.split(",URI=\"").nth(1)?.split('"').next());
    let plain = text.lines().filter(|line| !line.starts_with('#'));
    let links: BTreeSet<&str> = quoted.chain(plain).filter(|link| link.ends_with(".m3u8")).collect();
    links
        .into_iter()
        .map(|link| match link.strip_prefix("../") {
            Some(rest) => format!("{}{rest}", folder_of(base.trim_end_matches('/'))),
            None => format!("{base}{link}"),
        })
        .collect()
}

#[test]
fn a_rotated_title_is_listed_keyed_and_served() {
    let Some(place) = Place::new("walk") else { return };
    let (clear, house) = (House::open(place.section()), place.protected(0));
    let base = place.base(None);

    // Whole segments: every one opens with the key and vector of its tag, and the keys change at the boundaries.
    let entry = format!("{base}ts/master.m3u8?scheme=aes128");
    let clear_version = clear.text(&format!("/vod/{}/ts/master.m3u8", place.id));
    let clear_version = clear_version.split("../v").nth(1).unwrap()[..16].to_owned();
    let mut seen = BTreeMap::new();
    for playlist in playlists(&house, &entry) {
        let rep = playlist.rsplit('/').nth(1).unwrap().to_owned();
        for (tag, _, uri) in rows(&house.text(&playlist)) {
            if rep.starts_with('t') {
                assert_eq!(tag, "");
                continue;
            }
            let key = tag.split("URI=\"../../key/").nth(1).unwrap().split('"').next().unwrap();
            let iv = KeyId::parse(tag.split("IV=0x").nth(1).unwrap()).unwrap().0;
            let key_url = format!(
                "{}key/{key}",
                folder_of(folder_of(folder_of(&playlist).trim_end_matches('/')).trim_end_matches('/'))
            );
            let (status, secret) = house.get(&key_url);
            assert_eq!((status, secret.len()), (200, 16), "{key_url}");
            let key_id = KeyId::parse(key).unwrap();
            assert_eq!(secret[0], key_id.0[0] ^ 0xff);
            let (_, mut bytes) = house.get(&format!("{}{uri}", folder_of(&playlist)));
            aes128::decrypt(&ContentKey::new(secret.try_into().unwrap()), iv, &mut bytes).unwrap();
            let clear_url = format!("/vod/{}/v{clear_version}/ts/{rep}/{uri}", place.id);
            assert_eq!(clear.get(&clear_url), (200, bytes), "{uri}");
            seen.insert((rep.clone(), uri), key_id);
            assert!(playlist.contains("/v") && iv != [0; 16]);
        }
    }
    for number in 1..=6 {
        let period = match number {
            1 | 2 => 0,
            3 | 4 => 1,
            _ => 2,
        };
        let expected = key_id(2, TrackClass::Sd, period);
        assert_eq!(
            seen.get(&("v1".into(), format!("{number}.ts"))),
            Some(&expected),
            "{number}"
        );
        let frame = format!("iframe-{}.ts", number * 2 - 1);
        assert_eq!(seen.get(&("v1".into(), frame)), Some(&expected), "{number}");
    }

    // Fragments: header and tag name the key of the period, at the same boundary in pictures and sound.
    for (at, scheme) in ["cbcs", "cenc"].into_iter().enumerate() {
        for playlist in playlists(&house, &format!("{base}master.m3u8?scheme={scheme}")) {
            let rep = playlist.rsplit('/').nth(1).unwrap();
            let class = match &rep[..1] {
                "v" => TrackClass::Sd,
                "a" => TrackClass::Audio,
                _ => continue,
            };
            let mut periods = Vec::new();
            for (tag, header, uri) in rows(&house.text(&playlist)) {
                let (status, header) = house.get(&format!("{}{header}", folder_of(&playlist)));
                assert_eq!(status, 200);
                let tenc = header.windows(4).position(|four| four == b"tenc").unwrap();
                let named = KeyId(header[tenc + 12..tenc + 28].try_into().unwrap());
                assert!(
                    tag.contains(&format!("KEYID=0x{}", named.hex().to_uppercase())),
                    "{tag}"
                );
                let period = (0..3).find(|period| key_id(at, class, *period) == named).unwrap();
                // All keys of the period, and no other's, are in its boxes.
                for other in 0..3 {
                    let name = key_id(at, TrackClass::Audio, other).0;
                    let found = header.windows(16).any(|sixteen| sixteen == name);
                    assert_eq!(found, other == period, "{rep} {period} {other}");
                }
                assert_eq!(house.get(&format!("{}{uri}", folder_of(&playlist))).0, 200);
                periods.push(period);
            }
            match playlist.ends_with("iframes.m3u8") {
                true => assert_eq!(periods, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2], "{scheme} {rep}"),
                false => assert_eq!(periods, [0, 0, 1, 1, 2, 2], "{scheme} {rep}"),
            }
        }
    }
    let mpd = house.text(&format!("{base}manifest.mpd"));
    for (period, start) in BOUNDARIES_S.iter().enumerate() {
        let start = if *start == 0 {
            "PT0S".into()
        } else {
            format!("PT{start}.000000S")
        };
        let tag = format!("<Period id=\"{}\" start=\"{start}\"", period + 1);
        assert!(mpd.contains(&tag), "{tag} not in {mpd}");
        let name = key_id(0, TrackClass::Sd, period).to_string();
        assert!(mpd.contains(&format!("cenc:default_KID=\"{name}\"")), "{name}");
    }

    // A header has one name, and there are no others.
    let version = mpd
        .split("initialization=\"")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    for (name, status) in [("init.mp4", 200), ("init-2.mp4", 200), ("init-3.mp4", 200)] {
        assert_eq!(
            house.get(&format!("{base}{version}/cmaf-cbcs/a1/{name}")).0,
            status,
            "{name}"
        );
    }
    for name in [
        "init-0.mp4",
        "init-1.mp4",
        "init-4.mp4",
        "init-02.mp4",
        "init-2.m4s",
        "init-.mp4",
    ] {
        assert_eq!(
            house.get(&format!("{base}{version}/cmaf-cbcs/v1/{name}")).0,
            404,
            "{name}"
        );
    }
    assert_eq!(house.get(&format!("{base}{version}/cmaf-cbcs/t1/init-2.mp4")).0, 404);
}

#[test]
fn what_is_packaged_is_what_is_served() {
    let Some(place) = Place::new("package") else { return };
    let house = place.protected(3);
    let base = place.base(None);
    let protector = Protector::open(house.config.protection.clone().unwrap()).unwrap();
    let asset = house.origin.store().open(&place.id).unwrap();
    for form in [
        Form::CmafProtected(ProtectionScheme::Cbcs),
        Form::TsAes128,
        Form::TsSampleAes,
    ] {
        let entry = VodResource::Multivariant {
            form,
            choice: Choice::default(),
            clear_key: None,
        };
        let asset = protector.protect(&asset, &entry).unwrap();
        let listed = listing::list(&asset, &[form], Addressing::TimelineNumber);
        let headers = listed.iter().filter(|listed| listed.path.contains("/v1/init"));
        let count = if form == Form::CmafProtected(ProtectionScheme::Cbcs) {
            4
        } else {
            0
        };
        assert_eq!(headers.count(), count);
        for listed in listed {
            let query = match (listed.path.as_str(), form) {
                ("ts/master.m3u8", Form::TsSampleAes) => "?scheme=sampleaes",
                _ => "",
            };
            let answer = house.origin.answer_blocking(&asset, listed.resource).unwrap();
            let mut bytes = Vec::new();
            let size = answer.content.size();
            for piece in answer.content.range(0..size) {
                bytes.extend_from_slice(&piece.read().unwrap());
            }
            let served = house.get(&format!("{base}{}{query}", listed.path));
            assert_eq!((served.0, served.1 == bytes), (200, true), "{}", listed.path);
        }
    }
}

#[test]
fn a_clear_lead_is_the_clear_form() {
    let Some(place) = Place::new("lead") else { return };
    let (clear, house, without) = (House::open(place.section()), place.protected(5), place.protected(0));
    let base = place.base(None);
    let version = |text: String, form: &str| {
        let (before, _) = text.split_once(&format!("/{form}/")).unwrap();
        before.rsplit_once('v').unwrap().1.to_owned()
    };
    for (form, entry, extension) in [
        ("cmaf-cbcs", "master.m3u8", "m4s"),
        ("ts-aes128", "ts/master.m3u8", "ts"),
    ] {
        let clear_form = form.split('-').next().unwrap();
        let clear_version = version(clear.text(&format!("/vod/{}/{entry}", place.id)), clear_form);
        let own = version(house.text(&format!("{base}{entry}")), form);
        assert_ne!(
            own,
            version(without.text(&format!("{base}{entry}")), form),
            "other bytes, other URLs"
        );
        // The lead of 5 s ends with a segment at 8 s.
        for number in 1..=6 {
            let of = |version: &str, form: &str| format!("v{version}/{form}/v1/{number}.{extension}");
            let (_, expected) = clear.get(&format!("/vod/{}/{}", place.id, of(&clear_version, clear_form)));
            let (status, bytes) = house.get(&format!("{base}{}", of(&own, form)));
            assert_eq!((status, bytes == expected), (200, number <= 2), "{form} {number}");
        }
    }
    let mpd = house.text(&format!("{base}manifest.mpd"));
    let parts: Vec<&str> = mpd.split("<Period ").collect();
    assert_eq!(parts.len(), 4);
    assert!(!parts[1].contains("ContentProtection") && parts[2].contains("ContentProtection"));
    assert!(parts[2].contains("start=\"PT8.000000S\""), "{}", parts[2]);
    // It is for holders of a grant like all the rest.
    let own = version(house.text(&format!("{base}master.m3u8")), "cmaf-cbcs");
    assert_eq!(
        house.get(&format!("/vod/{}/v{own}/cmaf-cbcs/v1/1.m4s", place.id)).0,
        401
    );
}

#[test]
fn a_grant_of_a_part_opens_the_keys_of_that_part() {
    let Some(place) = Place::new("window") else { return };
    let house = place.protected(0);
    let check = |start_ms, end_ms, opened: [bool; 3]| {
        let base = place.base(Some(TimeWindow { start_ms, end_ms }));
        let entry = house.text(&format!("{base}ts/master.m3u8"));
        let version = entry.split("../v").nth(1).unwrap().split('/').next().unwrap();
        for (period, open) in opened.into_iter().enumerate() {
            let name = key_id(2, TrackClass::Sd, period);
            let status = house.get(&format!("{base}v{version}/key/{name}")).0;
            assert_eq!(status == 200, open, "{start_ms} {end_ms:?} {period}: {status}");
        }
        // Whatever the part's playlists name is among them.
        for playlist in playlists(&house, &format!("{base}ts/master.m3u8")) {
            for (tag, _, _) in rows(&house.text(&playlist)).into_iter().filter(|row| !row.0.is_empty()) {
                let key = tag.split("/key/").nth(1).unwrap().split('"').next().unwrap();
                assert_eq!(
                    house.get(&format!("{base}v{version}/key/{key}")).0,
                    200,
                    "{start_ms} {tag}"
                );
            }
        }
    };
    check(0, None, [true, true, true]);
    check(0, Some(6_000), [true, false, false]);
    check(0, Some(10_000), [true, true, false]);
    check(10_000, None, [false, true, true]);
    check(18_000, None, [false, false, true]);
}
