//! What the origin answers to each kind of grant, whoever carries it how, and which keys a grant opens.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use site::{PICTURES, Row, Site, unhex};

fn licence_id(row: &Row) -> String {
    URL_SAFE_NO_PAD.encode(unhex(&row.key_id.replace('-', "")))
}

fn request_of(rows: &[&Row]) -> String {
    json!({"kids": rows.iter().map(|row| licence_id(row)).collect::<Vec<_>>(), "type": "temporary"}).to_string()
}

/// The keys of a licence by their ids.
fn licensed(body: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let licence: Value = serde_json::from_slice(body).unwrap();
    let keys = licence["keys"].as_array().unwrap().iter().map(|key| {
        let key_bytes = URL_SAFE_NO_PAD.decode(key["k"].as_str().unwrap()).unwrap();
        (key["kid"].as_str().unwrap().to_owned(), key_bytes)
    });
    keys.collect()
}

#[test]
fn a_grant_opens_the_keys_of_its_heights_and_schemes_alone() {
    let Some(mut site) = Site::make("heights") else { return };
    site.done(&format!("keys create vault {}", site.media_id));
    site.start("info");
    let keys = site.keys();
    assert_eq!(keys.len(), 4 * 5);
    let version = site.version(&site.grant(""));
    let check = |arguments: &str, opens: &dyn Fn(&Row) -> bool| {
        let token = site.grant(arguments);
        let licence = site.path(&token, "license/clearkey");
        let (open, shut): (Vec<&Row>, Vec<&Row>) = keys.iter().partition(|row| opens(row));
        for row in &keys {
            let at = format!("{arguments}: {} {}", row.scheme, row.track);
            let reply = site.get(&site.path(&token, &format!("{version}/key/{}", row.key_id)));
            let (status, body) = if opens(row) {
                (200, &row.key[..])
            } else {
                (404, &[][..])
            };
            assert_eq!(reply.status, status, "{at}");
            if status == 200 {
                assert_eq!(reply.body, body, "{at}");
                assert!(reply.head.contains("no-store"), "{at}: {}", reply.head);
            }
            let reply = site.ask("POST", &licence, &[], &request_of(&[row]));
            assert_eq!(reply.status, status, "{at}: licence");
            if status == 200 {
                assert_eq!(
                    licensed(&reply.body),
                    BTreeMap::from([(licence_id(row), row.key.clone())]),
                    "{at}"
                );
            }
        }
        if !open.is_empty() {
            let reply = site.ask("POST", &licence, &[], &request_of(&open));
            let expected = open.iter().map(|row| (licence_id(row), row.key.clone())).collect();
            assert_eq!(licensed(&reply.body), expected, "{arguments}");
        }
        // Of several, those that are opened are given.
        if let (Some(open), Some(shut)) = (open.first(), shut.first()) {
            let reply = site.ask("POST", &licence, &[], &request_of(&[open, shut]));
            assert_eq!(reply.status, 200, "{arguments}");
            let expected = BTreeMap::from([(licence_id(open), open.key.clone())]);
            assert_eq!(licensed(&reply.body), expected, "{arguments}");
        }
    };
    let up_to = |height_max: u32| {
        move |row: &Row| {
            let mut pictures = PICTURES.iter().filter(|(_, height, _)| *height <= height_max);
            row.track == "AUDIO" || pictures.any(|(.., class)| *class == row.track)
        }
    };
    check("", &|_| true);
    for height_max in [180, 719, 720, 1440, 2879, 2880] {
        check(&format!("--height-max {height_max}"), &up_to(height_max));
    }
    for (name, scheme) in [
        ("cbcs", "cbcs"),
        ("cenc", "cenc"),
        ("aes-128", "aes128"),
        ("sample-aes", "sampleaes"),
    ] {
        check(&format!("--scheme {name}"), &|row| row.scheme == scheme);
    }
    check("--scheme clear", &|_| false);
    check("--scheme cbcs --height-max 720", &|row| {
        row.scheme == "cbcs" && up_to(720)(row)
    });

    // What the keys are for is hidden too: neither playlists nor segments of other heights are there.
    let capped = site.grant("--height-max 720");
    for scheme in ["cbcs", "cenc", "aes128", "sampleaes"] {
        let all = site.files(&site.grant(""), scheme);
        let seen = site.files(&capped, scheme);
        assert!(seen.len() < all.len(), "{scheme}");
        for file in all.iter().filter(|file| !file.contains('?') && !seen.contains(file)) {
            // Segments of the other heights may be served: they are of no use without their keys.
            let reply = site.get(&site.path(&capped, file));
            assert!([200, 404].contains(&reply.status), "{file}: {}", reply.status);
        }
    }
}

/// How a token travels.
const CARRIERS: [&str; 3] = ["path", "bearer", "cookie"];

fn carried(site: &Site, carrier: &str, token: &str, room: &str, file: &str) -> (String, Vec<String>) {
    let media_id = &site.media_id;
    match carrier {
        "path" => (format!("/{room}/{media_id}/~{token}/{file}"), Vec::new()),
        _ => {
            let path = format!("/{room}/{media_id}/{file}").trim_end_matches('/').to_owned();
            let header = match carrier {
                "bearer" => format!("authorization: Bearer {token}"),
                _ => format!("cookie: other=1; headwater_media={token}"),
            };
            (path, vec![header])
        }
    }
}

#[test]
fn every_carrier_of_a_grant_is_answered_alike() {
    let Some(mut site) = Site::make("carriers") else { return };
    site.done(&format!("keys create vault {}", site.media_id));
    let short_lived = site.grant("--expires 1s");
    let made = Instant::now();
    site.start("info");
    let good = site.grant("--session going-on");
    let keys = site.keys();
    let licence = request_of(&[keys.iter().find(|row| row.scheme == "cbcs").unwrap()]);
    let version = site.version(&good);
    let mut files = vec!["manifest.mpd".to_owned(), "manifest.mpd?scheme=cenc".to_owned()];
    for scheme in ["cbcs", "cenc", "aes128", "sampleaes"] {
        let found = site.files(&good, scheme);
        assert!(found.len() > 8, "{scheme}: {found:?}");
        for ending in ["?scheme=", "index.m3u8", "init.mp4", "/1.m4s", "/1.ts"] {
            files.extend(found.iter().find(|file| file.contains(ending)).cloned());
        }
        let key = keys.iter().find(|row| row.scheme == scheme).unwrap();
        files.push(format!("{version}/key/{}", key.key_id));
    }

    let changed = |at: usize| {
        let other = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &good[..at], &good[at + 1..])
    };
    let refused = BTreeMap::from([
        ("expired", short_lived),
        ("not yet valid", site.grant("--not-before 30m")),
        ("of a foreign key", site.grant_for(&site.media_id, "foreign.key", "")),
        ("for another title", site.grant_for("another-title", "grant.key", "")),
        (
            "for a longer name",
            site.grant_for(&format!("{}0", site.media_id), "grant.key", ""),
        ),
        ("of an ended session", site.grant("--session ended")),
        ("changed in its head", changed(6)),
        ("changed in its claims", changed(good.len() / 2)),
        ("changed in its signature", changed(good.len() - 9)),
        ("cut", good[..good.len() - 4].to_owned()),
        ("lengthened", format!("{good}AAAA")),
        ("of no shape", "grant".to_owned()),
        ("empty", String::new()),
    ]);
    while made.elapsed() < Duration::from_millis(2500) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let ask = |carrier: &str, token: &str, room: &str, file: &str| {
        let (path, headers) = carried(&site, carrier, token, room, file);
        match file {
            "license/clearkey" => site.ask("POST", &path, &headers, &licence),
            _ => site.ask("GET", &path, &headers, ""),
        }
    };
    let below_vod = files
        .iter()
        .map(String::as_str)
        .chain(["license/clearkey"])
        .map(|file| ("vod", file));
    let rooms: Vec<(&str, &str)> = below_vod.chain([("v", ""), ("embed", "")]).collect();
    for (room, file) in &rooms {
        let reply = match *file {
            "license/clearkey" => site.ask("POST", &format!("/vod/{}/{file}", site.media_id), &[], &licence),
            _ => site.get(format!("/{room}/{}/{file}", site.media_id).trim_end_matches('/')),
        };
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (401, "MEDIA_TOKEN_REQUIRED"),
            "{room} {file}"
        );
        assert!(reply.head.contains("no-store"), "{room} {file}: {}", reply.head);
        for carrier in CARRIERS {
            let reply = ask(carrier, &good, room, file);
            // A page needs a player, which this origin has not.
            let expected = if *room == "vod" { 200 } else { 503 };
            assert_eq!(reply.status, expected, "{carrier} {room} {file}: {}", reply.head);
            if carrier != "path" {
                let is_private = reply.head.contains("private") || reply.head.contains("no-store");
                assert!(is_private, "{carrier} {file}: {}", reply.head);
            }
            for (kind, token) in &refused {
                let at = format!("{kind} in {carrier}: {room} {file}");
                let reply = ask(carrier, token, room, file);
                let found = (reply.status, reply.code());
                // An empty header is none.
                let is_absent =
                    token.is_empty() && carrier != "path" && found == (401, "MEDIA_TOKEN_REQUIRED".to_owned());
                assert!(
                    is_absent || found == (403, "MEDIA_TOKEN_INVALID".to_owned()),
                    "{at}: {found:?}"
                );
                assert!(reply.head.contains("no-store"), "{at}: {}", reply.head);
                assert!(!String::from_utf8_lossy(&reply.body).contains(&good), "{at}");
            }
        }
    }
    // The query is no carrier; the path's token comes first, whatever else is there.
    let entry = format!("/vod/{}/master.m3u8", site.media_id);
    for query in ["token", "~", "access_token", "headwater_media", "CAT"] {
        assert_eq!(site.get(&format!("{entry}?{query}={good}")).status, 401, "{query}");
    }
    assert_eq!(site.get(&format!("{entry}?~{good}")).status, 401);
    let both = |path: &str, header: &str| {
        let headers = [format!("authorization: Bearer {header}")];
        site.ask("GET", &site.path(path, "master.m3u8"), &headers, "").status
    };
    let bad = &refused["of a foreign key"];
    assert_eq!(both(&good, bad), 200);
    assert_eq!(both(bad, &good), 403);
    // Methods that a grant knows nothing of.
    for method in ["PUT", "DELETE", "POST"] {
        let reply = site.ask(method, &site.path(&good, "master.m3u8"), &[], "");
        assert_eq!(reply.status, 405, "{method}");
    }
    assert_eq!(site.ask("HEAD", &site.path(bad, "master.m3u8"), &[], "").status, 403);
}

#[test]
fn up_12_one_film_as_cmaf_and_as_mpeg_ts_under_aes_128() {
    let Some(mut site) = Site::make("forms") else { return };
    site.done(&format!("keys create vault {}", site.media_id));
    site.start("info");
    let grant = site.grant("");
    let text = |file: &str| {
        let reply = site.get(&site.path(&grant, file));
        assert_eq!(reply.status, 200, "{file}: {}", reply.head);
        reply.text()
    };
    let heights = |entry: &str| -> Vec<String> {
        let resolutions = entry.split("RESOLUTION=").skip(1);
        let mut heights: Vec<String> = resolutions
            .map(|rest| rest.split([',', '\n']).next().unwrap().to_owned())
            .collect();
        heights.sort();
        heights.dedup();
        heights
    };
    // CMAF is what one gets without a wish, in both languages of manifests; MPEG-TS has the same renditions.
    let (hls, ts) = (text("master.m3u8"), text("ts/master.m3u8"));
    assert!(hls.contains("/cmaf-cbcs/"), "{hls}");
    assert!(text("manifest.mpd").contains("cmaf-cbcs/"));
    assert!(ts.contains("/ts-aes128/"), "{ts}");
    assert!(heights(&hls).len() > 1, "{hls}");
    assert_eq!(heights(&hls), heights(&ts));
    let files = site.files(&grant, "aes128");
    for playlist in files.iter().filter(|file| file.ends_with("index.m3u8")) {
        assert!(text(playlist).contains("#EXT-X-KEY:METHOD=AES-128,URI="), "{playlist}");
    }
    let segment = files.iter().find(|file| file.ends_with("/1.ts")).unwrap();
    let bytes = site.get(&site.path(&grant, segment)).body;
    // Whole blocks of a cipher, and no packet of MPEG-TS to be seen.
    assert!(bytes.len() % 16 == 0 && bytes.iter().step_by(188).any(|byte| *byte != 0x47));
}
