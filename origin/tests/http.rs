//! The origin over a loopback socket, asked in raw HTTP bytes.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shared;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use origin::Origin;
use origin::config::Section;

use shared::Running;

/// A running origin over a library of its own; stops and removes everything when dropped.
struct House {
    folder: PathBuf,
    address: SocketAddr,
    running: Running,
}

impl House {
    /// `None`, loudly, where ffmpeg can not make the film.
    fn open(name: &str) -> Option<House> {
        let folder = std::env::temp_dir().join(format!("headwater-http-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("library")).unwrap();
        if !make_film(&folder.join("library/film.mp4"), 12) {
            eprintln!("SKIPPED {name}: ffmpeg is not installed or can not encode H.264 and AAC");
            std::fs::remove_dir_all(&folder).unwrap();
            return None;
        }
        std::fs::write(
            folder.join("library/film.en.vtt"),
            "WEBVTT\n\n00:01.000 --> 00:09.000\nhello\n",
        )
        .unwrap();
        std::fs::write(folder.join("secret.mp4"), "secret").unwrap();
        let section = Section {
            library: Some(folder.join("library")),
            listen: "127.0.0.1:0".into(),
            header_timeout_s: 1,
            drain_timeout_s: 5,
            threads: 2,
            ..Section::default()
        };
        let origin = Origin::new(section.check().unwrap()).unwrap();
        let running = Running::start(&origin, None);
        Some(House {
            folder,
            address: running.addresses.plain.unwrap(),
            running,
        })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Reply {
        let mut stream = self.connect();
        ask_on(&mut stream, method, path, headers)
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[])
    }

    fn media(&self) -> String {
        format!("/vod/{}", self.id())
    }

    /// Waits until `path` is answered so by every thread, each of which keeps its latest answers for a while.
    fn settles(&self, path: &str, expected: impl Fn(&Reply) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut in_a_row = 0;
        while in_a_row < 50 {
            assert!(Instant::now() < deadline, "{path} is still answered as before");
            in_a_row = if expected(&self.get(path)) { in_a_row + 1 } else { 0 };
        }
    }

    fn id(&self) -> String {
        let entries = origin::library::scan(&self.folder.join("library")).unwrap();
        entries.into_keys().next().unwrap()
    }

    /// Every URL that the playlists of `entry` lead to.
    fn listed(&self, entry: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut wanted = vec![entry.to_owned()];
        while let Some(path) = wanted.pop() {
            let reply = self.get(&path);
            assert_eq!(reply.status, 200, "{path}");
            let folder = &path[..path.rfind('/').unwrap() + 1];
            let text = String::from_utf8(reply.body).unwrap();
            let quoted = text
                .lines()
                .filter_map(|line| line.split("URI=\"").nth(1)?.split('"').next());
            let plain = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
            for uri in quoted.chain(plain) {
                let url = resolve(folder, uri);
                if url.ends_with(".m3u8") {
                    wanted.push(url)
                } else {
                    found.push(url)
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.running.end();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn resolve(folder: &str, uri: &str) -> String {
    let mut parts: Vec<&str> = folder.trim_end_matches('/').split('/').collect();
    for part in uri.split('/') {
        match part {
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

fn make_film(path: &Path, seconds: u32) -> bool {
    let made = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            &format!("testsrc2=size=320x180:rate=25:duration={seconds}"),
        ])
        .args([
            "-f",
            "lavfi",
            "-i",
            &format!("sine=frequency=440:sample_rate=48000:duration={seconds}"),
        ])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-g",
            "50",
            "-bf",
            "2",
            "-c:a",
            "aac",
            "-shortest",
        ])
        .arg(path)
        .status();
    made.is_ok_and(|status| status.success())
}

struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

fn ask_on(stream: &mut TcpStream, method: &str, path: &str, headers: &[&str]) -> Reply {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    read_reply(stream, method == "HEAD")
}

fn read_reply(stream: &mut TcpStream, head_only: bool) -> Reply {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(
            stream.read(&mut byte).unwrap(),
            1,
            "closed after {:?}",
            String::from_utf8_lossy(&head)
        );
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let bodyless = head_only || status == 304 || status == 204;
    let size = headers.get("content-length").map_or(0, |size| size.parse().unwrap());
    let mut body = vec![0; if bodyless { 0 } else { size }];
    stream.read_exact(&mut body).unwrap();
    Reply { status, headers, body }
}

#[test]
fn every_listed_url_answers_with_exact_length_range_and_validator() {
    let Some(house) = House::open("listed") else { return };
    let media = house.media();
    let mut urls = house.listed(&format!("{media}/master.m3u8"));
    urls.extend(house.listed(&format!("{media}/ts/master.m3u8")));
    assert!(urls.len() > 20, "{urls:?}");
    let mut seed = 7u64;
    for url in &urls {
        let whole = house.get(url);
        assert_eq!(whole.status, 200, "{url}");
        assert!(!whole.body.is_empty(), "{url}");
        assert!(whole.header("cache-control").contains("immutable"), "{url}");
        assert_eq!(whole.header("access-control-allow-origin"), "*");
        let head = house.ask("HEAD", url, &[]);
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, whole.body.len().to_string().as_str()),
            "{url}"
        );
        let etag = format!("if-none-match: {}", whole.header("etag"));
        assert_eq!(house.ask("GET", url, &[&etag]).status, 304, "{url}");
        for _ in 0..4 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            let start = (seed >> 33) as usize % whole.body.len();
            let end = (start + (seed >> 20) as usize % 4000).min(whole.body.len() - 1);
            let part = house.ask("GET", url, &[&format!("range: bytes={start}-{end}")]);
            assert_eq!(part.status, 206, "{url}");
            assert_eq!(part.body, whole.body[start..=end], "{url} {start}-{end}");
            assert_eq!(
                part.header("content-range"),
                format!("bytes {start}-{end}/{}", whole.body.len())
            );
        }
        let past = house.ask("GET", url, &[&format!("range: bytes={}-", whole.body.len())]);
        assert_eq!(
            (past.status, past.header("content-range")),
            (416, format!("bytes */{}", whole.body.len()).as_str())
        );
    }
}

/// The number behind `name` in a line of attributes.
fn attribute(line: &str, name: &str) -> f64 {
    let attributes = line.split_once(':').unwrap().1.split(',');
    let mut values = attributes.filter_map(|attribute| attribute.strip_prefix(name)?.strip_prefix('='));
    values.next().unwrap().parse().unwrap()
}

/// RFC 8216bis 4.4.6.2: a declared rate is not below the one that is sent, and not far above.
#[test]
fn declared_bit_rates_are_those_of_the_bytes() {
    let Some(house) = House::open("rates") else { return };
    for entry in ["ts/master.m3u8", "master.m3u8"] {
        let master = format!("{}/{entry}", house.media());
        let folder = &master[..master.rfind('/').unwrap() + 1];
        let text = String::from_utf8(house.get(&master).body).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let mut compared = 0;
        for (at, line) in lines.iter().enumerate() {
            let uri = match () {
                // Sound of CMAF comes from another playlist.
                () if line.starts_with("#EXT-X-STREAM-INF") && entry.starts_with("ts") => lines[at + 1],
                () if line.starts_with("#EXT-X-I-FRAME-STREAM-INF") => {
                    line.split("URI=\"").nth(1).unwrap().split('"').next().unwrap()
                }
                () => continue,
            };
            let url = resolve(folder, uri);
            let list = String::from_utf8(house.get(&url).body).unwrap();
            let inner = &url[..url.rfind('/').unwrap() + 1];
            let (mut peak, mut bits, mut seconds, mut duration) = (0.0_f64, 0.0, 0.0, 0.0);
            for line in list.lines() {
                if let Some(value) = line.strip_prefix("#EXTINF:") {
                    duration = value.split(',').next().unwrap().parse().unwrap();
                } else if !line.starts_with('#') && !line.is_empty() {
                    let size = house.get(&resolve(inner, line)).body.len() as f64 * 8.0;
                    (bits, seconds) = (bits + size, seconds + duration);
                    peak = peak.max(size / duration);
                }
            }
            let average = attribute(line, "AVERAGE-BANDWIDTH") / (bits / seconds);
            assert!(
                (0.995..1.03).contains(&average),
                "{line}: {average} of {}",
                bits / seconds
            );
            let (declared, average) = (attribute(line, "BANDWIDTH"), bits / seconds);
            // Short segments are taken together for a peak, so that it may be below that of one of them.
            assert!(declared >= average * 0.995 && declared <= peak * 1.1, "{line}: {peak}");
            if line.starts_with("#EXT-X-STREAM-INF") {
                assert!(declared >= peak * 0.995, "{line}: {peak}");
            }
            compared += 1;
        }
        assert!(compared > 0, "{text}");
    }
}

/// One picture alone, one picture and long sound, and a fragment for each frame: what playlists promise lasts as long.
#[test]
fn odd_films_last_as_long_as_they_say() {
    let Some(house) = House::open("odd") else { return };
    let picture = "-f lavfi -i testsrc2=size=64x64:rate=25";
    let sound = "-f lavfi -i sine=frequency=440:sample_rate=48000";
    let coding = "-c:v libx264 -preset ultrafast -bf 2 -g 50 -c:a aac";
    let films = [
        ("one.ts", format!("{picture} -frames:v 1 {coding}")),
        (
            "still.mp4",
            format!("{picture} {sound} -vf trim=end_frame=1 -t 8 {coding}"),
        ),
        (
            "frames.mp4",
            format!("{picture} {sound} -t 4 {coding} -movflags +frag_every_frame+empty_moov+default_base_moof"),
        ),
    ];
    for (name, arguments) in &films {
        let made = Command::new("ffmpeg")
            .args(["-v", "error", "-y"])
            .args(arguments.split(' '))
            .arg(house.folder.join("library").join(name))
            .status();
        assert!(made.unwrap().success(), "{name}");
    }
    let entries = origin::library::scan(&house.folder.join("library")).unwrap();
    let length = |name: &str, playlist: &str| {
        let entry = entries
            .iter()
            .find(|(_, entry)| format!("{entry:?}").contains(name))
            .unwrap();
        let master = format!("/vod/{}/{playlist}", entry.0);
        house.settles(&master, |reply| reply.status == 200);
        let text = String::from_utf8(house.get(&master).body).unwrap();
        let folder = &master[..master.rfind('/').unwrap() + 1];
        let lists = text.lines().filter_map(|line| match line.split_once("URI=\"") {
            Some((_, uri)) if line.starts_with("#EXT-X-MEDIA") => uri.split('"').next(),
            None if line.ends_with("index.m3u8") => Some(line),
            _ => None,
        });
        let mut lengths: Vec<i64> = lists
            .map(|list| {
                let list = String::from_utf8(house.get(&resolve(folder, list)).body).unwrap();
                let rows = list.lines().filter_map(|line| line.strip_prefix("#EXTINF:"));
                let seconds = rows.map(|row| row.trim_end_matches(',').parse::<f64>().unwrap());
                (seconds.sum::<f64>() * 1_000.0).round() as i64
            })
            .collect();
        lengths.sort_unstable();
        lengths
    };
    assert_eq!(length("one.ts", "ts/master.m3u8"), [40]);
    assert_eq!(length("one.ts", "master.m3u8"), [40]);
    // Sound that outlasts the pictures has a playlist of its own, in MPEG-TS too.
    for playlist in ["master.m3u8", "ts/master.m3u8"] {
        let [pictures, sound] = length("still.mp4", playlist)[..] else {
            panic!("two lists")
        };
        assert!(pictures == 40 && (7_950..8_060).contains(&sound), "{playlist}: {sound}");
    }
    let [pictures, sound] = length("frames.mp4", "master.m3u8")[..] else {
        panic!("sound is there too")
    };
    assert!(
        (3_990..4_100).contains(&pictures) && (3_990..4_100).contains(&sound),
        "{pictures}, {sound}"
    );
}

#[test]
fn the_virtual_file_is_header_index_and_segments() {
    let Some(house) = House::open("ondemand") else { return };
    let media = house.media();
    let urls = house.listed(&format!("{media}/master.m3u8"));
    let of_video = |name: &str| {
        urls.iter()
            .find(|url| url.ends_with(name) && url.contains("/v1/"))
            .unwrap()
            .clone()
    };
    let init_url = of_video("init.mp4");
    let folder = init_url.trim_end_matches("init.mp4").to_owned();
    let file = house.get(&format!("{folder}media.mp4")).body;
    let init = house.get(&init_url).body;
    assert_eq!(file[..init.len()], init);
    let sidx_size = u32::from_be_bytes(file[init.len()..init.len() + 4].try_into().unwrap()) as usize;
    assert_eq!(&file[init.len() + 4..init.len() + 8], b"sidx");
    let mut segments = Vec::new();
    for number in 1.. {
        let reply = house.get(&format!("{folder}{number}.m4s"));
        if reply.status == 404 {
            break;
        }
        segments.extend(reply.body);
    }
    assert!(
        file[init.len() + sidx_size..] == segments,
        "segments differ from the virtual file"
    );
    let mpd = String::from_utf8(house.get(&format!("{media}/manifest.mpd?addressing=ondemand")).body).unwrap();
    let range = format!("indexRange=\"{}-{}\"", init.len(), init.len() + sidx_size - 1);
    assert!(mpd.contains(&range), "{range} not in {mpd}");
    for (start, size) in [
        (0, 10),
        (init.len() - 3, 40),
        (file.len() - 100, 100),
        (file.len() / 2, 300_000),
    ] {
        let end = (start + size).min(file.len()) - 1;
        let part = house.ask(
            "GET",
            &format!("{folder}media.mp4"),
            &[&format!("range: bytes={start}-{end}")],
        );
        assert!(part.body == file[start..=end], "{start}-{end}");
    }
}

#[test]
fn text_is_compressed_for_those_who_ask() {
    let Some(house) = House::open("gzip") else { return };
    // Two packets and one.
    let url = format!("{}/manifest.mpd", house.media());
    let small = house.ask(
        "GET",
        &format!("{}/master.m3u8", house.media()),
        &["accept-encoding: gzip"],
    );
    assert!(small.body.len() < 1_024 && small.header("content-encoding").is_empty());
    let plain = house.get(&url);
    assert!(plain.body.len() >= 1_024);
    let packed = house.ask("GET", &url, &["accept-encoding: gzip"]);
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert_eq!(packed.header("vary"), "accept-encoding");
    assert_ne!(packed.header("etag"), plain.header("etag"));
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(packed.body.as_slice())
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain.body);
}

#[test]
fn requests_in_a_row_on_one_connection_are_answered_in_order() {
    let Some(house) = House::open("pipeline") else { return };
    let urls = house.listed(&format!("{}/master.m3u8", house.media()));
    let alone: Vec<Vec<u8>> = urls.iter().map(|url| house.get(url).body).collect();
    let mut stream = house.connect();
    let all: String = urls
        .iter()
        .map(|url| format!("GET {url} HTTP/1.1\r\nhost: test\r\n\r\n"))
        .collect();
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(all.as_bytes()).unwrap());
    for (url, body) in urls.iter().zip(alone) {
        assert!(read_reply(&mut stream, false).body == body, "{url}");
    }
    writing.join().unwrap();
}

#[test]
fn what_is_not_there_is_refused_with_a_reason() {
    let Some(house) = House::open("refused") else { return };
    let media = house.media();
    let version = house.listed(&format!("{media}/master.m3u8"))[0]
        .split('/')
        .nth(3)
        .unwrap()
        .to_owned();
    let check = |method: &str, path: &str, status: u16| {
        let reply = house.ask(method, path, &[]);
        assert_eq!(reply.status, status, "{method} {path}");
        if status >= 400 {
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            assert!(
                body["error"]["code"].is_string() && body["error"]["message"].is_string(),
                "{body}"
            );
            assert_eq!(reply.header("cache-control"), "no-store");
        }
    };
    check("GET", "/vod/absent/master.m3u8", 404);
    check("GET", &format!("{media}/{version}/cmaf/v1/0.m4s"), 404);
    check("GET", &format!("{media}/{version}/cmaf/v1/9999.m4s"), 404);
    check("GET", &format!("{media}/{version}/cmaf/v9/1.m4s"), 404);
    check("GET", &format!("{media}/v0000000000000000/cmaf/v1/1.m4s"), 404);
    check("GET", &format!("{media}/{version}/cmaf/t1/1.ts"), 404);
    check("POST", &format!("{media}/master.m3u8"), 405);
    check("DELETE", "/", 405);
    check("OPTIONS", "/anything", 204);
    check("GET", &format!("/v/{}", house.id()), 503);
    let steps = [
        "..",
        "%2e%2e",
        "..%2f",
        "%2e%2e%2f",
        "....//",
        "..;",
        "%252e%252e",
        "..%5c",
        "%c0%ae%c0%ae",
        ".%00.",
    ];
    for step in steps {
        for depth in 1..7 {
            for tail in ["secret.mp4", "etc/passwd", "library/film.mp4"] {
                let path = format!("/vod/{}{tail}", format!("{step}/").repeat(depth));
                let reply = house.get(&path);
                assert!(matches!(reply.status, 400 | 404), "{path}: {}", reply.status);
                assert!(!reply.body.windows(6).any(|window| window == b"secret"), "{path}");
            }
        }
    }
}

#[test]
fn conditions_and_methods_are_heeded() {
    let Some(house) = House::open("conditions") else { return };
    let master = format!("{}/master.m3u8", house.media());
    let whole = house.get(&master);
    let etag = whole.header("etag").to_owned();
    let check = |method: &str, headers: &[&str], status: u16| {
        let reply = house.ask(method, &master, headers);
        assert_eq!(reply.status, status, "{method} {headers:?}");
        reply
    };
    // A range is of GET alone.
    let head = check("HEAD", &["range: bytes=0-1"], 200);
    assert_eq!(head.header("content-length"), whole.header("content-length"));
    check("GET", &["range: bytes=0-1"], 206);
    check("GET", &[&format!("if-match: {etag}")], 200);
    check("GET", &["if-match: *"], 200);
    check("GET", &[&format!("if-match: \"x\", {etag}"), "range: bytes=0-1"], 206);
    check("GET", &["if-match: \"x\"", "range: bytes=0-1"], 412);
    check("GET", &[&format!("if-match: W/{etag}")], 412);
    check("HEAD", &["if-match: \"x\""], 412);
    check("GET", &[&format!("if-none-match: {etag}")], 304);
    check("GET", &["if-match: \"x\"", &format!("if-none-match: {etag}")], 412);
    let refused = check("DELETE", &[], 405);
    assert_eq!(refused.header("allow"), "GET, HEAD, OPTIONS");
    let license = format!("{}/license/clearkey", house.media());
    let refused = house.ask("GET", &license, &[]);
    assert_eq!((refused.status, refused.header("allow")), (405, "POST, OPTIONS"));
}

#[test]
fn a_request_names_one_host() {
    let Some(house) = House::open("hosts") else { return };
    for (head, expected) in [
        ("GET /healthz HTTP/1.1\r\nhost: a\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nhost: [::1]:8080\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nhost:\r\n", 200),
        ("GET http://b/healthz HTTP/1.1\r\nhost: a\r\n", 200),
        ("GET /healthz HTTP/1.0\r\n", 200),
        ("GET /healthz HTTP/1.1\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nhost: a\r\nhost: a\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n", 400),
        ("GET /healthz HTTP/1.0\r\nhost: a\r\nhost: b\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nhost: a b\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nhost: a/b\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nhost: u@a\r\n", 400),
        ("OPTIONS /healthz HTTP/1.1\r\n", 400),
    ] {
        let mut stream = house.connect();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(b"connection: close\r\n\r\n").unwrap();
        let mut out = String::new();
        stream.read_to_string(&mut out).unwrap();
        assert_eq!(out.split(' ').nth(1), Some(&*expected.to_string()), "{head}: {out}");
    }
}

#[test]
fn malformed_requests_end_their_connection_and_nothing_else() {
    let Some(house) = House::open("malformed") else { return };
    let cases: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: a\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ];
    for case in cases {
        let mut stream = house.connect();
        stream.write_all(case).unwrap();
        let mut out = Vec::new();
        let started = Instant::now();
        // An answer or a reset, but within the header timeout, and never two answers to one request.
        let _ = stream.read_to_end(&mut out);
        assert!(
            started.elapsed() < Duration::from_secs(8),
            "{:?}",
            String::from_utf8_lossy(case)
        );
        let text = String::from_utf8_lossy(&out);
        assert!(
            text.matches("HTTP/1.1 200").count() <= 1,
            "{:?}: {text}",
            String::from_utf8_lossy(case)
        );
        assert!(!text.contains("HTTP/1.1 5"), "{text}");
        assert_eq!(house.get("/healthz").status, 200);
    }
}

#[test]
fn slow_and_vanishing_clients_hold_nothing() {
    let Some(house) = House::open("slow") else { return };
    let mut slow: Vec<TcpStream> = (0..100).map(|_| house.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nx: ").unwrap();
    }
    let segment = house
        .listed(&format!("{}/master.m3u8", house.media()))
        .into_iter()
        .find(|url| url.contains("/v1/") && url.ends_with("/1.m4s"))
        .unwrap();
    for _ in 0..50 {
        // Asks for a segment and leaves without reading it.
        let mut stream = house.connect();
        stream
            .write_all(format!("GET {segment} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())
            .unwrap();
    }
    assert_eq!(house.get("/healthz").status, 200);
    for stream in &mut slow {
        let started = Instant::now();
        let mut out = Vec::new();
        let _ = stream.read_to_end(&mut out);
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "a client without a request head was kept"
        );
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let metrics = String::from_utf8(house.get("/metrics").body).unwrap();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("headwater_origin_connections "))
            .unwrap()
            .to_owned();
        // The one that asks is a connection too; its predecessor may not have been counted out yet.
        if line.split(' ').nth(1).unwrap().parse::<u32>().unwrap() <= 2 {
            break;
        }
        assert!(Instant::now() < deadline, "{line}");
        std::thread::yield_now();
    }
}

#[test]
fn a_replaced_file_is_a_new_version() {
    let Some(house) = House::open("replaced") else { return };
    let entry = format!("{}/master.m3u8", house.media());
    let old = house.listed(&entry);
    let before = house.get(&entry).body;
    let film = house.folder.join("library/film.mp4");
    let next = house.folder.join("next.mp4");
    assert!(make_film(&next, 6));
    std::fs::rename(&next, &film).unwrap();
    house.settles(&entry, |reply| reply.body != before);
    let new = house.listed(&entry);
    assert!(
        new.iter().all(|url| !old.contains(url)),
        "a URL was used again for other bytes"
    );
    assert_eq!(house.get(&old[0]).status, 404);
}

#[test]
fn many_who_ask_at_once_get_the_same_bytes() {
    let Some(house) = House::open("together") else { return };
    let url = format!("{}/master.m3u8", house.media());
    let bodies: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..40).map(|_| scope.spawn(|| house.get(&url).body)).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(bodies.iter().all(|body| *body == bodies[0] && !body.is_empty()));
}

#[test]
fn a_stop_lets_a_running_answer_end() {
    let Some(house) = House::open("drain") else { return };
    let urls = house.listed(&format!("{}/master.m3u8", house.media()));
    let url = urls
        .iter()
        .find(|url| url.contains("/v1/") && url.ends_with("/1.m4s"))
        .unwrap();
    let whole = house.get(url).body;
    let mut stream = house.connect();
    stream
        .write_all(format!("GET {url} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())
        .unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    house.running.stop.send(true).unwrap();
    let mut rest = first.to_vec();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&whole), "the answer was cut short");
}

#[test]
fn choices_are_served_and_nonsense_is_refused() {
    let Some(house) = House::open("choices") else { return };
    let media = house.media();
    for entry in ["master.m3u8", "ts/master.m3u8"] {
        let query = "start=3.3&end=7&segment=2&languages=und,en";
        let files = house.listed(&format!("{media}/{entry}?{query}"));
        assert!(files.len() > 5, "{files:?}");
        for file in files {
            let reply = house.get(&file);
            assert_eq!(reply.status, 200, "{file}");
            assert!(file.contains("~s3300~e7000~d2/"), "{file}");
            assert!(reply.header("cache-control").contains("immutable"), "{file}");
        }
    }
    let reply = house.get(&format!("{media}/manifest.mpd?start=7&end=3"));
    let body = String::from_utf8(reply.body.clone()).unwrap();
    assert_eq!((reply.status, reply.header("cache-control")), (400, "no-store"));
    assert!(body.contains("start: 7.000 s is not before end, 3.000 s"), "{body}");
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Thumbnails beside a ladder: signalled in every form, served under names that never change, and never other bytes.
#[test]
fn thumbnails_are_served_as_they_were_described() {
    let Some(house) = House::open("thumbnails") else { return };
    let ladder = house.folder.join("library/ladder");
    let folder = ladder.join("thumbnails");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(house.folder.join("library/film.mp4"), ladder.join("film.mp4")).unwrap();
    std::fs::write(ladder.join("ladder.toml"), "[[track]]\nfile = \"film.mp4\"\n").unwrap();
    let files: [(&str, &[u8]); 3] = [
        ("1.jpg", b"sheet 1"),
        ("2.jpg", b"sheet two"),
        ("poster.jpg", b"poster"),
    ];
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let file = |at: usize| serde_json::json!({ "size_bytes": files[at].1.len(), "sha256": sha256(files[at].1) });
    let mut description = serde_json::json!({
        "format": "headwater-thumbnails-1", "columns": 2, "rows": 2, "tile_width": 32, "tile_height": 18,
        "interval_ms": 2000, "count": 7, "sheets": [file(0), file(1)],
        "poster": { "width": 320, "height": 180, "file": file(2) },
    });
    let describe = |description: &serde_json::Value| {
        std::fs::write(folder.join("thumbnails.json"), description.to_string()).unwrap();
    };
    describe(&description);
    let entries = origin::library::scan(&house.folder.join("library")).unwrap();
    let media = entries.keys().find(|id| id.starts_with("ladder-")).unwrap();
    let media = format!("/vod/{media}");

    let mpd = String::from_utf8(house.get(&format!("{media}/manifest.mpd")).body).unwrap();
    assert!(
        mpd.contains("http://dashif.org/guidelines/thumbnail_tile\" value=\"2x2\""),
        "{mpd}"
    );
    for entry in ["master.m3u8", "ts/master.m3u8"] {
        let urls = house.listed(&format!("{media}/{entry}"));
        let sheets: Vec<&String> = urls.iter().filter(|url| url.ends_with(".jpg")).collect();
        assert_eq!(sheets.len(), 2, "{urls:?}");
        for (url, (_, bytes)) in sheets.iter().zip(files) {
            let reply = house.get(url);
            assert_eq!((reply.status, reply.body.as_slice()), (200, bytes), "{url}");
            assert_eq!(reply.header("content-type"), "image/jpeg");
            assert!(reply.header("cache-control").contains("immutable"), "{url}");
            let part = house.ask("GET", url, &["range: bytes=0-4"]);
            assert_eq!((part.status, part.body.as_slice()), (206, &bytes[..5]), "{url}");
        }
        let absent = sheets[1].replace("2.jpg", "3.jpg");
        assert_eq!(house.get(&absent).status, 404, "{absent}");
        let elsewhere = sheets[1].replace("/i1/", "/v1/");
        assert_eq!(house.get(&elsewhere).status, 404, "{elsewhere}");
    }
    let poster = house.get(&format!("{media}/poster.jpg"));
    assert_eq!((poster.status, poster.body.as_slice()), (200, files[2].1));
    assert_eq!(poster.header("cache-control"), "public, max-age=10");
    let thumbs = house.get(&format!("{media}/thumbs.vtt"));
    assert_eq!(
        (thumbs.status, thumbs.header("content-type")),
        (200, "text/vtt; charset=utf-8")
    );
    let thumbs = String::from_utf8(thumbs.body).unwrap();
    assert_eq!(thumbs.matches(" --> ").count(), 7, "{thumbs}");
    let sheet = thumbs
        .lines()
        .find(|line| line.ends_with("2.jpg#xywh=32,18,32,18") || line.ends_with("1.jpg#xywh=32,18,32,18"));
    let url = format!("{media}/{}", sheet.unwrap().split('#').next().unwrap());
    assert_eq!(house.get(&url).status, 200, "{url}");

    // A film without any.
    for name in ["poster.jpg", "thumbs.vtt"] {
        assert_eq!(house.get(&format!("{}/{name}", house.media())).status, 404, "{name}");
    }
    // Other bytes than described are an error, not an answer that caches keep for ever.
    // The last right answer may be given for two seconds more.
    std::fs::write(folder.join("1.jpg"), b"sheet X").unwrap();
    house.settles(&url, |reply| {
        assert!(reply.status == 500 || reply.body == files[0].1, "other bytes");
        reply.status == 500
    });
    std::fs::remove_file(folder.join("1.jpg")).unwrap();
    assert_eq!(house.get(&url).status, 500);
    // Another description is another version; one that does not fit is left out, and the film plays.
    let wait_for = |expected: &dyn Fn(&str) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let found = String::from_utf8(house.get(&format!("{media}/manifest.mpd")).body).unwrap();
            if expected(&found) {
                return;
            }
            assert!(Instant::now() < deadline, "{found}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    description["tile_width"] = 16.into();
    describe(&description);
    wait_for(&|mpd| mpd.contains(" width=\"32\" height=\"36\""));
    assert_eq!(house.get(&url).status, 404);
    description["interval_ms"] = 200_000.into();
    describe(&description);
    wait_for(&|mpd| mpd.contains("<AdaptationSet") && !mpd.contains("thumbnail_tile"));
}
