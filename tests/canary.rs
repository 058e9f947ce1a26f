//! Keys that are known beforehand are looked for wherever an origin writes: files, logs, metrics, answers, in every way
//! that a key may be written.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use packager::crypto::KeyId;
use packager::crypto::playready;
use site::{Row, Site, hex, unhex};

const SCHEMES: [&str; 4] = ["cbcs", "cenc", "aes128", "sampleaes"];
const TRACKS: [&str; 5] = ["AUDIO", "SD", "HD", "UHD1", "UHD2"];

/// A key as nobody draws it by chance: every byte of it tells of its scheme and track.
fn planted(scheme: usize, track: usize) -> [u8; 16] {
    std::array::from_fn(|at| (0x3b + 61 * at + 17 * scheme + 101 * track) as u8 ^ 0xa5)
}

/// The ways to write a key that are looked for, the key itself first.
fn shapes(key: &[u8; 16]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    // As it is, and in the order of a GUID's bytes.
    for bytes in [*key, playready::guid(KeyId(*key))] {
        found.push(bytes.to_vec());
        let digits = hex(&bytes);
        let pairs: Vec<&str> = (0..16).map(|at| &digits[2 * at..2 * at + 2]).collect();
        let uuid = KeyId(bytes).to_string();
        let mut texts = vec![digits.clone(), uuid];
        texts.extend([":", "-", " ", ", 0x", ",0x"].map(|between| pairs.join(between)));
        // Percent signs, and the escapes of byte strings.
        texts.extend(["%", "\\x"].map(|before| format!("{before}{}", pairs.join(before))));
        texts.push(pairs.join("\\u00"));
        for text in texts {
            found.push(text.to_uppercase().into_bytes());
            found.push(text.into_bytes());
        }
        // Alone, and inside of something longer, at each of its three places.
        for engine in [&STANDARD, &URL_SAFE] {
            for before in 0..3_usize {
                let inside = [&[0; 2][..before], &bytes[..]].concat();
                let text = engine.encode(&inside);
                // Characters that its neighbours have no part in.
                let (start, end) = ((before * 8).div_ceil(6), (before + 16) * 8 / 6);
                found.push(text.as_bytes()[start..end].to_vec());
            }
        }
        // Lists of numbers, text of one character a byte, and both as JSON and Rust escape them.
        let numbers = format!("{bytes:?}");
        let numbers = numbers.trim_matches(['[', ']']).to_owned();
        found.push(numbers.replace(' ', "").into_bytes());
        found.push(numbers.into_bytes());
        let characters: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        for text in [
            serde_json::to_string(&characters).unwrap().trim_matches('"').to_owned(),
            bytes.escape_ascii().to_string(),
            characters.escape_debug().to_string(),
            characters.escape_default().to_string(),
            characters,
        ] {
            found.push(text.into_bytes());
        }
    }
    found
}

/// Looks for all shapes of all keys at once: by their first two bytes, then whole.
struct Needles(Vec<Vec<Vec<u8>>>);

impl Needles {
    fn new(keys: &[[u8; 16]]) -> Needles {
        let mut by_start = vec![Vec::new(); 1 << 16];
        let needles: BTreeSet<Vec<u8>> = keys.iter().flat_map(shapes).collect();
        for needle in needles {
            by_start[usize::from(u16::from_be_bytes([needle[0], needle[1]]))].push(needle);
        }
        Needles(by_start)
    }

    /// The place of the first planted key.
    fn find(&self, text: &[u8]) -> Option<usize> {
        let starts_here = |at: usize| {
            let needles = &self.0[usize::from(u16::from_be_bytes([text[at], text[at + 1]]))];
            needles.iter().any(|needle| text[at..].starts_with(needle))
        };
        (0..text.len().saturating_sub(1)).find(|at| starts_here(*at))
    }

    fn check(&self, what: &str, text: &[u8]) {
        if let Some(at) = self.find(text) {
            let near = &text[at.saturating_sub(60)..text.len().min(at + 20)];
            assert_eq!(near.escape_ascii().to_string(), "", "a planted key in {what}, at {at}");
        }
    }
}

#[test]
fn every_shape_of_a_key_is_found() {
    let key = planted(1, 2);
    let needles = Needles::new(&[key, planted(3, 4)]);
    let check = |text: &[u8], expected: bool| {
        assert_eq!(needles.find(text).is_some(), expected, "{}", text.escape_ascii());
    };
    for shape in shapes(&key) {
        check(&shape, true);
        check(&[b"before ", &shape[..], b" behind"].concat(), true);
        check(&shape[1..], false);
        check(&shape[..shape.len() - 1], false);
    }
    // Written by others than `shapes`.
    let uuid = KeyId(key).to_string();
    check(format!("{{\"key\":\"{}\"}}", STANDARD.encode(key)).as_bytes(), true);
    check(
        format!("<pro>{}</pro>", STANDARD.encode([&[1; 7], &key[..], &[2; 9]].concat())).as_bytes(),
        true,
    );
    check(format!("key {} of", uuid.to_uppercase()).as_bytes(), true);
    check(format!("{key:?}").as_bytes(), true);
    check(format!("{key:02x?}").replace(", ", ":").as_bytes(), true);
    check(serde_json::to_string(&key).unwrap().as_bytes(), true);
    check(b"", false);
    check(STANDARD.encode(planted(1, 3)).as_bytes(), false);
}

#[test]
fn a_planted_key_is_nowhere_but_where_it_is_asked_for() {
    let Some(mut site) = Site::make("canary") else { return };
    let mut lines = String::new();
    let mut keys = Vec::new();
    for (scheme_at, scheme) in SCHEMES.iter().enumerate() {
        for (track_at, track) in TRACKS.iter().enumerate() {
            let key = planted(scheme_at, track_at);
            let key_id = format!("{:032x}", 0x1000 + scheme_at * 16 + track_at);
            lines += &format!("{key_id}:{}:{scheme}:{track}\n", hex(&key));
            keys.push(key);
        }
    }
    let needles = Needles::new(&keys);
    site.write_secret("planted", &lines);
    let mut said = site.said(&format!("keys import vault {} --key-file planted", site.media_id));
    fs::remove_file(site.folder.join("planted")).unwrap();
    for line in [
        "keys list vault".to_owned(),
        "keys list vault --json".to_owned(),
        format!("keys list vault {} --kek missing", site.media_id),
        format!("keys create vault {}", site.media_id),
        "check-config missing.toml".to_owned(),
    ] {
        said.extend(site.said(&line));
    }
    needles.check("what commands say", &said);

    // Where a key belongs it is found: the search can fail.
    let shown = site.said("keys list vault --show-secrets --json");
    assert!(needles.find(&shown).is_some());
    let rows = site.keys();
    assert!(rows.iter().all(|row| keys.iter().any(|key| key[..] == row.key)));
    site.start("trace");
    let token = site.grant("");
    let version = site.version(&token);
    let licence = site.path(&token, "license/clearkey");
    for row in &rows {
        let reply = site.get(&site.path(&token, &format!("{version}/key/{}", row.key_id)));
        assert_eq!((reply.status, &reply.body), (200, &row.key), "{row:?}");
        assert!(needles.find(&reply.body).is_some());
        needles.check("the head of a key", reply.head.as_bytes());
        let reply = site.ask("POST", &licence, &[], &request_of(row));
        assert_eq!(reply.status, 200, "{row:?}");
        assert!(needles.find(&reply.body).is_some());
        needles.check("the head of a licence", reply.head.as_bytes());
    }

    answers(&site, &needles, &token, &version, &rows);
    damage(&site, &needles, &token);
    needles.check("the metrics", &site.get("/metrics").body);
    site.stop();
    let log = fs::read(site.folder.join("origin.log")).unwrap();
    assert!(
        log.windows(7).any(|word| word == b"\"DEBUG\""),
        "the log tells all there is"
    );
    let files = files(&site.folder);
    for place in ["vault", "origin.log", "library"] {
        assert!(
            files.iter().any(|file| file.starts_with(site.folder.join(place))),
            "{place}"
        );
    }
    for file in files {
        needles.check(&file.display().to_string(), &fs::read(&file).unwrap());
    }
}

fn request_of(row: &Row) -> String {
    let key_id = URL_SAFE.encode(unhex(&row.key_id.replace('-', "")));
    format!("{{\"kids\":[\"{}\"]}}", key_id.trim_end_matches('='))
}

/// Everything that is served, and every kind of refusal.
fn answers(site: &Site, needles: &Needles, token: &str, version: &str, rows: &[Row]) {
    let check = |method: &str, path: &str, headers: &[String], body: &str| {
        let reply = site.ask(method, path, headers, body);
        needles.check(
            &format!("{method} {path}"),
            &[reply.head.as_bytes(), &reply.body].concat(),
        );
        reply.status
    };
    for scheme in SCHEMES {
        for file in site.files(token, scheme) {
            assert_eq!(check("GET", &site.path(token, &file), &[], ""), 200, "{file}");
        }
    }
    for entry in [
        "manifest.mpd",
        "manifest.mpd?scheme=cenc",
        "master.m3u8?clear_key=identity",
        "master.m3u8?clear_key=licence",
    ] {
        assert_eq!(check("GET", &site.path(token, entry), &[], ""), 200, "{entry}");
    }
    for path in ["/", "/healthz", "/readyz", "/metrics", "/nothing"] {
        check("GET", path, &[], "");
    }
    let foreign = site.grant_for(&site.media_id, "foreign.key", "");
    let key = format!("{version}/key/{}", rows[0].key_id);
    let licence = "license/clearkey";
    let known = request_of(&rows[0]);
    for (method, token, file, body, status) in [
        ("GET", foreign.as_str(), key.as_str(), "", 403),
        ("POST", &foreign, licence, &known, 403),
        ("POST", token, licence, "{\"kids\":[", 400),
        ("POST", token, licence, "{\"kids\":[\"AAAAAAAAAAAAAAAAAAAAAA\"]}", 404),
        ("POST", token, licence, &" ".repeat(1 << 16), 400),
        ("GET", token, licence, "", 405),
        ("GET", token, &key[..key.len() - 1], "", 404),
        ("POST", token, &key, "", 405),
        ("GET", token, "v0000000000000000/cmaf-cbcs/v1/1.m4s", "", 404),
    ] {
        assert_eq!(
            check(method, &site.path(token, file), &[], body),
            status,
            "{method} {file}"
        );
    }
}

/// A vault whose title was damaged by hand: errors, in the log and the metrics, without what they are about.
fn damage(site: &Site, needles: &Needles, token: &str) {
    let path = site.folder.join("vault/titles").join(format!("{}.json", site.media_id));
    let good = fs::read_to_string(&path).unwrap();
    let mut statuses = BTreeSet::new();
    for damaged in [good[..good.len() / 2].to_owned(), "{}".to_owned(), flipped(&good)] {
        fs::write(&path, damaged).unwrap();
        // The vault is looked at again every few seconds.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let reply = site.get(&site.path(token, "master.m3u8"));
            needles.check(
                "the answer of a damaged vault",
                &[reply.head.as_bytes(), &reply.body].concat(),
            );
            statuses.insert(reply.status);
            if reply.status == 500 || std::time::Instant::now() > deadline {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
    fs::write(&path, good).unwrap();
    assert!(statuses.contains(&500), "{statuses:?}");
}

/// The sealed keys, each with a bit of it changed.
fn flipped(title: &str) -> String {
    let mut value: serde_json::Value = serde_json::from_str(title).unwrap();
    change_text(&mut value);
    value.to_string()
}

fn change_text(value: &mut serde_json::Value) {
    match value {
        // What is long and no name is a sealed key.
        serde_json::Value::String(text) if text.len() > 40 => {
            let changed = if text.starts_with('A') { "B" } else { "A" };
            text.replace_range(..1, changed);
        }
        serde_json::Value::Array(inner) => inner.iter_mut().for_each(change_text),
        serde_json::Value::Object(inner) => inner.values_mut().for_each(change_text),
        _ => {}
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}
