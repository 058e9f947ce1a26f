//! Bytes on the wire, whichever way they took: `sendfile`, reads, fallbacks; under slow, hasty and vanishing clients.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shared;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use origin::Origin;
use origin::config::Section;
use origin::paging::{Fill, Probe};
use origin::route::{self, Route};

use shared::{LARGE_SEGMENTS, Running};

/// How a film's samples lie in their file.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// Frame by frame, picture and sound in turn: hundreds of short ranges a segment.
    Interleaved,
    /// Two seconds of each track at a time: one range a segment.
    Fragmented,
}

/// A film whose 2 s video segments exceed the threshold of `sendfile`, made once; `None` without ffmpeg.
fn film(lie: Lie) -> Option<&'static Path> {
    static FILMS: [OnceLock<Option<PathBuf>>; 2] = [OnceLock::new(), OnceLock::new()];
    let flags = match lie {
        Lie::Interleaved => "+faststart",
        Lie::Fragmented => "+frag_keyframe+empty_moov+default_base_moof",
    };
    let made = FILMS[lie as usize].get_or_init(|| {
        let (noise, tone) = (shared::noise(16), shared::tone(16));
        let inputs = ["-f", "lavfi", "-i", &noise, "-f", "lavfi", "-i", &tone];
        let rate = ["-maxrate", "14M", "-bufsize", "6M"];
        let rest = ["-c:a", "aac", "-shortest", "-movflags", flags];
        let arguments = [&inputs[..], &LARGE_SEGMENTS, &rate, &rest].concat();
        shared::film(&format!("zerocopy-{lie:?}.mp4"), &arguments)
    });
    made.as_deref()
}

struct House {
    folder: PathBuf,
    origin: Arc<Origin>,
    address: SocketAddr,
    running: Running,
}

impl House {
    fn open(name: &str, lie: Lie, settings: impl FnOnce(&mut Section)) -> Option<House> {
        let film = film(lie)?;
        let folder = std::env::temp_dir().join(format!("headwater-zerocopy-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("library")).unwrap();
        std::fs::copy(film, folder.join("library/film.mp4")).unwrap();
        let mut section = Section {
            library: Some(folder.join("library")),
            listen: "127.0.0.1:0".into(),
            drain_timeout_s: 5,
            // Comparing megabytes without optimisation on a busy machine takes its time between two requests.
            header_timeout_s: 100,
            threads: 2,
            segment_duration_ms: 2_000,
            ..Section::default()
        };
        settings(&mut section);
        let origin = Origin::new(section.check().unwrap()).unwrap();
        let running = Running::start(&origin, None);
        Some(House {
            folder,
            origin,
            address: running.addresses.plain.unwrap(),
            running,
        })
    }

    fn id(&self) -> String {
        self.origin.store().scan().unwrap().keys().next().unwrap().clone()
    }

    /// `init`, segments and the virtual file of video and audio, with the bytes that they must have.
    fn expected(&self) -> BTreeMap<String, Vec<u8>> {
        let id = self.id();
        let asset = self.origin.store().open(&id).unwrap();
        let version = &asset.presentation.version;
        let mut found = BTreeMap::new();
        for representation in &asset.presentation.representations {
            let count = representation.segments.segments().len();
            let names = (1..=count).map(|number| format!("{number}.m4s"));
            for name in names.chain(["init.mp4".into(), "media.mp4".into()]) {
                let path = format!("/vod/{id}/v{version}/cmaf/{}/{name}", representation.id);
                let Some(Route::Vod { resource, .. }) = route::parse(&path, None) else {
                    panic!("{path}")
                };
                let content = self.origin.answer_blocking(&asset, resource).unwrap().content;
                let size = content.size();
                let mut bytes = Vec::new();
                for piece in content.range(0..size) {
                    bytes.extend_from_slice(&piece.read().unwrap());
                }
                found.insert(path, bytes);
            }
        }
        assert!(found.len() > 10);
        found
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// A client that takes little at a time: the server's sends are cut everywhere.
    fn connect_narrow(&self) -> TcpStream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&self.address.into()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.into()
    }

    fn get(&self, path: &str, headers: &str) -> Reply {
        ask(&mut self.connect(), "GET", path, headers)
    }

    fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(self.get("/metrics", "").body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    fn sent(&self, path: &str) -> u64 {
        self.metric(&format!("headwater_origin_sent_bytes_total{{path=\"{path}\"}}"))
    }

    /// The file system's pages are dropped, so that the next read is cold. (No effect on memory file systems.)
    fn make_cold(&self) {
        let file = std::fs::File::open(self.folder.join("library/film.mp4")).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.running.end();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

struct Reply {
    status: u16,
    size: usize,
    body: Vec<u8>,
}

fn write_request(stream: &mut TcpStream, method: &str, path: &str, headers: &str) {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
}

fn ask(stream: &mut TcpStream, method: &str, path: &str, headers: &str) -> Reply {
    write_request(stream, method, path, headers);
    read_reply(stream, method == "HEAD")
}

/// Status and `content-length`; the body is still to be read.
fn read_head(stream: &mut TcpStream) -> (u16, usize) {
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
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let size = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    (status, size.map_or(0, |size| size.parse().unwrap()))
}

fn read_reply(stream: &mut TcpStream, head_only: bool) -> Reply {
    let (status, size) = read_head(stream);
    let mut body = vec![0; if head_only { 0 } else { size }];
    stream.read_exact(&mut body).unwrap();
    Reply { status, size, body }
}

fn same(got: &[u8], want: &[u8], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    if got == want {
        return;
    }
    let differs = got.iter().zip(want).position(|(got, want)| got != want);
    assert_eq!(differs, None, "{what}: first differing byte");
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Everything there is, whole and in random ranges and by HEAD, on one connection.
fn check_all(house: &House, expected: &BTreeMap<String, Vec<u8>>, seed: u64) {
    let mut random = Random(seed);
    let stream = &mut house.connect();
    for (path, want) in expected {
        let whole = ask(stream, "GET", path, "");
        assert_eq!(whole.status, 200, "{path}");
        same(&whole.body, want, path);
        let head = ask(stream, "HEAD", path, "");
        assert_eq!((head.status, head.size), (200, want.len()), "{path}");
        for _ in 0..6 {
            let start = random.below(want.len());
            let reach = [1, 100, 70_000, 3_000_000][random.below(4)];
            let end = (start + random.below(reach)).min(want.len() - 1);
            let part = ask(stream, "GET", path, &format!("range: bytes={start}-{end}\r\n"));
            assert_eq!(part.status, 206, "{path}");
            same(&part.body, &want[start..=end], &format!("{path} {start}-{end}"));
        }
    }
}

#[test]
fn every_way_gives_the_same_bytes() {
    type Settings = fn(&mut Section);
    let ways: [(&str, Settings, &str); 8] = [
        ("default", |_| {}, "sendfile"),
        ("always", |section| section.sendfile_size_bytes_min = 0, "sendfile"),
        ("scattered", |section| section.sendfile_size_bytes_min = 0, "sendfile"),
        ("off", |section| section.sendfile = false, "memory"),
        ("nowait", |section| section.residency = Probe::Nowait, "sendfile"),
        (
            "never",
            |section| {
                section.residency = Probe::Never;
                section.fill = Fill::Pool;
            },
            "sendfile",
        ),
        ("pinned", |section| section.pin_cores = true, "sendfile"),
        (
            "one",
            |section| {
                section.threads = 1;
                section.cold_read_count_max = 1;
                section.residency = Probe::Never;
            },
            "sendfile",
        ),
    ];
    for (name, settings, path) in ways {
        let lie = if name == "scattered" {
            Lie::Interleaved
        } else {
            Lie::Fragmented
        };
        let Some(house) = House::open(name, lie, settings) else {
            return;
        };
        let expected = house.expected();
        check_all(&house, &expected, 11);
        let total: usize = expected.values().map(Vec::len).sum();
        let sent = house.sent(path);
        assert!(sent as usize > total / 2, "{name}: {sent} of {total} by {path}");
        if path != "sendfile" {
            assert_eq!(house.sent("sendfile"), 0, "{name}");
        }
        if name == "always" || name == "scattered" {
            // Nothing of the media was read: boxes and heads alone came from memory.
            assert_eq!(house.metric("headwater_origin_read_bytes_total{path=\"cached\"}"), 0);
            assert_eq!(house.metric("headwater_origin_read_bytes_total{path=\"waiting\"}"), 0);
        }
        assert_eq!(house.sent("copy"), 0, "{name}");
    }
}

#[test]
fn many_connections_at_once_get_their_own_bytes() {
    let Some(house) = House::open("parallel", Lie::Interleaved, |section| {
        section.sendfile_size_bytes_min = 0
    }) else {
        return;
    };
    let expected = &house.expected();
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let house = &house;
            scope.spawn(move || check_all(house, expected, seed));
        }
        // A narrow client makes the server stop everywhere; only a part, for it is slow.
        scope.spawn(|| {
            let mut random = Random(3);
            let mut stream = house.connect_narrow();
            for (path, want) in expected {
                let start = random.below(want.len());
                let end = (start + 400_000).min(want.len() - 1);
                let part = ask(&mut stream, "GET", path, &format!("range: bytes={start}-{end}\r\n"));
                same(&part.body, &want[start..=end], &format!("{path} {start}-{end}"));
            }
        });
    });
    assert!(house.sent("sendfile") > 0);
}

#[test]
fn ten_requests_ahead_are_answered_in_order() {
    let Some(house) = House::open("ahead", Lie::Interleaved, |section| section.sendfile_size_bytes_min = 0) else {
        return;
    };
    let expected: Vec<(String, Vec<u8>)> = house.expected().into_iter().collect();
    let mut stream = house.connect_narrow();
    for batch in expected.chunks(10) {
        for (path, _) in batch {
            write_request(&mut stream, "GET", path, "range: bytes=100-300099\r\n");
        }
        for (path, want) in batch {
            let reply = read_reply(&mut stream, false);
            same(&reply.body, &want[100..want.len().min(300_100)], path);
        }
    }
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let Some(house) = House::open("vanish", Lie::Fragmented, |_| {}) else {
        return;
    };
    let expected = house.expected();
    let (path, want) = expected
        .iter()
        .find(|(path, _)| path.ends_with("v1/media.mp4"))
        .unwrap();
    for number in 0..40 {
        let mut stream = house.connect();
        write_request(&mut stream, "GET", path, "");
        let mut some = vec![0; number * 5_000];
        stream.read_exact(&mut some).unwrap();
        if number % 2 == 0 {
            // A reset instead of a polite end.
            socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
    }
    same(&house.get(path, "").body, want, path);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while house.metric("headwater_origin_connections") > 1 {
        assert!(std::time::Instant::now() < deadline, "connections were not given up");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_file_cut_short_ends_its_connections_and_no_others() {
    for (name, least) in [("cut-sendfile", 0), ("cut-read", u64::MAX)] {
        let Some(house) = House::open(name, Lie::Fragmented, |section| section.sendfile_size_bytes_min = least) else {
            return;
        };
        std::fs::copy(film(Lie::Fragmented).unwrap(), house.folder.join("library/other.mp4")).unwrap();
        let expected = house.expected();
        let ids: Vec<String> = house.origin.store().scan().unwrap().keys().cloned().collect();
        let cut_id = ids.iter().find(|id| id.starts_with("film")).unwrap();
        let (path, want) = expected
            .iter()
            .find(|(path, _)| path.ends_with("v1/media.mp4") && path.contains(cut_id.as_str()))
            .unwrap();
        let mut stream = house.connect_narrow();
        write_request(&mut stream, "GET", path, "");
        let (status, size) = read_head(&mut stream);
        assert_eq!((status, size), (200, want.len()));
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(house.folder.join("library/film.mp4"))
            .unwrap();
        file.set_len(100_000).unwrap();
        let mut got = Vec::new();
        let ended = stream.read_to_end(&mut got);
        assert!(got.len() < want.len(), "{name}: {} of {}", got.len(), want.len());
        assert!(
            !matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
            "{name}: never ended"
        );
        assert_eq!(house.get("/healthz", "").status, 200);
        let other = ids.iter().find(|id| *id != cut_id).unwrap();
        assert_eq!(house.get(&format!("/vod/{other}/master.m3u8"), "").status, 200);
    }
}

#[test]
fn cold_files_are_read_first() {
    for (name, fill) in [("cold-pool", Fill::Pool), ("cold-uring", Fill::Uring)] {
        let Some(house) = House::open(name, Lie::Fragmented, |section| section.fill = fill) else {
            return;
        };
        let expected = house.expected();
        let (path, want) = expected
            .iter()
            .find(|(path, _)| path.ends_with("v1/media.mp4"))
            .unwrap();
        house.make_cold();
        let before = house.metric("headwater_origin_cold_bytes_total");
        let part = house.get(path, &format!("range: bytes=0-{}\r\n", want.len() - 1));
        same(&part.body, want, path);
        if house.metric("headwater_origin_cold_bytes_total") == before {
            eprintln!("NOT SHOWN: {name}: the file system keeps its pages, so nothing was cold");
        }
    }
}

#[test]
fn http2_gets_the_same_bytes_without_slices() {
    let Some(house) = House::open("h2", Lie::Interleaved, |section| section.sendfile_size_bytes_min = 0) else {
        return;
    };
    let features = Command::new("curl").arg("--version").output();
    if !features.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("HTTP2")) {
        eprintln!("SKIPPED: curl with HTTP/2 is not installed");
        return;
    }
    for (path, want) in house.expected() {
        let url = format!("http://{}{path}", house.address);
        let output = Command::new("curl")
            .args(["-sS", "--http2-prior-knowledge", &url])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{path}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        same(&output.stdout, &want, &path);
    }
    assert_eq!(house.sent("sendfile"), 0);
}
