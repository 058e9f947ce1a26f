//! What clients may cost: slow ones, greedy ones, idle ones, slow disks, many titles, and a change of guard.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shared;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use origin::config::Section;
use origin::{Inherited, Origin};

use shared::{FRAGMENTED, LARGE_SEGMENTS, Running};

/// Some megabytes in one range a segment, made once; `None`, loudly, without ffmpeg.
fn film() -> Option<&'static Path> {
    static FILM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = FILM.get_or_init(|| {
        let noise = shared::noise(12);
        let arguments = [&["-f", "lavfi", "-i", &noise][..], &LARGE_SEGMENTS, &FRAGMENTED].concat();
        shared::film("front-film.mp4", &arguments)
    });
    made.as_deref()
}

/// A running origin; stops and removes everything when dropped.
struct House {
    folder: PathBuf,
    origin: Arc<Origin>,
    running: Running,
}

impl House {
    fn open(name: &str, files: &[(&str, &Path)], settings: impl FnOnce(&mut Section)) -> House {
        let folder = std::env::temp_dir().join(format!("headwater-front-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("library")).unwrap();
        for (name, from) in files {
            std::fs::copy(from, folder.join("library").join(name)).unwrap();
        }
        let mut section = section(&folder);
        settings(&mut section);
        let origin = Origin::new(section.check().unwrap()).unwrap();
        House {
            running: Running::start(&origin, None),
            folder,
            origin,
        }
    }

    fn connect(&self) -> TcpStream {
        connect(self.running.addresses.plain.unwrap())
    }

    fn metric(&self, name: &str) -> u64 {
        let text = get(&mut self.connect(), "/metrics").1;
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    fn ended(&self, reason: &str) -> u64 {
        self.metric(&format!(
            "headwater_origin_ended_connections_total{{reason=\"{reason}\"}}"
        ))
    }

    /// URLs of every video segment of the title whose file is `name`.
    fn segments(&self, name: &str) -> Vec<String> {
        let entries = self.origin.store().scan().unwrap();
        let mut ids = entries.iter().filter(|(_, entry)| format!("{entry:?}").contains(name));
        let id = ids.next().unwrap().0;
        let asset = self.origin.store().open(id).unwrap();
        let presentation = &asset.presentation;
        let representation = &presentation.representations[0];
        let folder = format!("/vod/{id}/v{}/cmaf/{}", presentation.version, representation.id);
        (1..=representation.segments.segments().len())
            .map(|n| format!("{folder}/{n}.m4s"))
            .collect()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.running.end();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn section(folder: &Path) -> Section {
    Section {
        library: Some(folder.join("library")),
        listen: "127.0.0.1:0".into(),
        drain_timeout_s: 5,
        threads: 1,
        segment_duration_ms: 2_000,
        ..Section::default()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn get(stream: &mut TcpStream, path: &str) -> (u16, Vec<u8>) {
    try_get(stream, path).unwrap().0
}

/// Status and body, and whether the connection stays open.
fn try_get(stream: &mut TcpStream, path: &str) -> std::io::Result<((u16, Vec<u8>), bool)> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())?;
    read_answer(stream)
}

/// The same of what was asked for before.
fn read_answer(stream: &mut TcpStream) -> std::io::Result<((u16, Vec<u8>), bool)> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let size = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut body = vec![0; size.parse().unwrap()];
    stream.read_exact(&mut body)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(((status, body), !head.contains("connection: close")))
}

/// Waits until `what` is so.
fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "not so after a minute: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn slow_and_idle_clients_are_let_go_of() {
    let Some(film) = film() else { return };
    let house = House::open("slow", &[("film.mp4", film)], |section| {
        section.header_timeout_s = 1;
        section.limits.keep_alive_timeout_s = 2;
        section.limits.send_stall_timeout_s = 1;
    });
    let url = house.segments("film").remove(0);
    // More is asked for than the kernel's buffers take.
    let mut reader = house.connect();
    let ask = format!("GET {url} HTTP/1.1\r\nhost: a\r\n\r\n");
    reader.write_all(ask.repeat(40).as_bytes()).unwrap();
    let mut slow_head = house.connect();
    slow_head.write_all(b"GET /healthz HTTP/1.1\r\nx: ").unwrap();
    let mut idle = house.connect();
    assert_eq!(get(&mut idle, "/healthz").0, 200);
    wait_for("the reader has ended", || house.ended("slow_reader") == 1);
    wait_for("the slow head has ended", || house.ended("slow_head") == 1);
    // What the kernel still had for it is thrown away.
    let reset = std::io::copy(&mut reader, &mut std::io::sink()).unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(slow_head.read(&mut [0; 10]).unwrap_or(0), 0);
    assert_eq!(idle.read(&mut [0; 10]).unwrap(), 0, "a polite end");
    assert_eq!(house.ended("idle"), 0);
    // A viewer that reads what it asks for is none of them.
    let mut viewer = house.connect();
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(900));
        assert_eq!(get(&mut viewer, &url).0, 200);
    }
}

#[test]
fn readers_that_stand_still_hold_nothing_and_miss_nothing() {
    let Some(film) = film() else { return };
    let house = House::open("still", &[("film.mp4", film)], |section| section.sendfile = false);
    let cmaf = house.segments("film");
    let ts: Vec<String> = cmaf
        .iter()
        .map(|url| url.replace("/cmaf/", "/ts/").replace(".m4s", ".ts"))
        .collect();
    // Read as they are, made for the second who asks, and made for the first: that one has all of it at first.
    for (urls, known) in [(&cmaf[..3], false), (&ts[..3], true), (&ts[3..], false)] {
        let whole = |url: &String| get(&mut house.connect(), url).1;
        let want: Vec<Vec<u8>> = urls.iter().filter(|_| known).map(whole).collect();
        let before = house.metric("headwater_origin_put_down_bytes_total");
        let mut still: Vec<TcpStream> = urls.iter().map(|_| house.connect()).collect();
        for (stream, url) in still.iter_mut().zip(urls) {
            stream
                .write_all(format!("GET {url} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())
                .unwrap();
        }
        let least = urls.len() as u64 * (32 << 10);
        wait_for("what they do not read is put down", || {
            house.metric("headwater_origin_put_down_bytes_total") >= before + least
        });
        let got = still.iter_mut().map(|stream| read_answer(stream).unwrap().0.1);
        let got: Vec<Vec<u8>> = got.collect();
        let want = if known { want } else { urls.iter().map(whole).collect() };
        assert!(got == want, "{urls:?}");
        assert!(want.iter().all(|segment| segment.len() > 1 << 20));
    }
    assert_eq!(house.ended("slow_reader"), 0);
}

#[test]
fn what_was_put_down_and_is_gone_ends_its_answer_alone() {
    let Some(film) = film() else { return };
    let house = House::open("gone", &[("film.mp4", film)], |section| section.sendfile = false);
    let url = house.segments("film").remove(0);
    let mut still = house.connect();
    still
        .write_all(format!("GET {url} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())
        .unwrap();
    wait_for("it is put down", || {
        house.metric("headwater_origin_put_down_bytes_total") > 0
    });
    let file = house.folder.join("library/film.mp4");
    std::fs::OpenOptions::new()
        .write(true)
        .open(file)
        .unwrap()
        .set_len(100)
        .unwrap();
    assert!(read_answer(&mut still).is_err());
    wait_for("it is counted", || {
        house.metric("headwater_origin_cut_short_answers_total") == 1
    });
    assert_eq!(get(&mut house.connect(), "/healthz").0, 200);
}

#[test]
fn a_client_gets_only_so_many_connections() {
    let house = House::open("greedy", &[], |section| section.limits.connections_per_client_max = 3);
    let mut held: Vec<TcpStream> = (0..3).map(|_| house.connect()).collect();
    for stream in &mut held {
        assert_eq!(get(stream, "/healthz").0, 200);
    }
    let mut fourth = house.connect();
    assert!(try_get(&mut fourth, "/healthz").is_err());
    drop(held.pop());
    wait_for("there is room again", || {
        try_get(&mut house.connect(), "/healthz").is_ok()
    });
}

#[test]
fn a_flood_of_resets_ends_its_connection_alone() {
    let house = House::open("resets", &[], |_| {});
    let mut viewer = house.connect();
    let mut bad = house.connect();
    bad.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    let block = b"\x82\x86\x04\x08/healthz\x01\x01a";
    let mut stream = 1_u32;
    let deadline = Instant::now() + Duration::from_secs(30);
    let ended = loop {
        assert!(Instant::now() < deadline, "{stream} streams were reset");
        let mut bytes = vec![0, 0, block.len() as u8, 1, 5];
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(block);
        bytes.extend_from_slice(&[0, 0, 4, 3, 0]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 8]);
        if bad.write_all(&bytes).is_err() {
            break stream / 2;
        }
        stream += 2;
    };
    assert!(ended < 50_000, "{ended} streams");
    assert_eq!(get(&mut viewer, "/healthz").0, 200);
}

#[test]
fn a_change_of_guard_fails_no_request() {
    let Some(film) = film() else { return };
    let house = House::open("guard", &[("film.mp4", film)], |_| {});
    let urls = house.segments("film");
    let want: Vec<Vec<u8>> = urls.iter().map(|url| get(&mut house.connect(), url).1).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let next = || {
        let origin = Origin::new(section(&house.folder).check().unwrap()).unwrap();
        let plain = Some(listener.try_clone().unwrap());
        Running::start(&origin, Some(Inherited { plain, tls: None }))
    };
    let mut guard = next();
    let address = guard.addresses.plain.unwrap();
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (over, count, urls, want) = (&over, &count, &urls, &want);
            scope.spawn(move || {
                let (mut stream, mut number) = (connect(address), client);
                while !over.load(Ordering::Relaxed) {
                    let at = number % urls.len();
                    // No second try: an answer that is its connection's last says so.
                    let ((status, body), stays) = try_get(&mut stream, &urls[at]).unwrap();
                    assert!((status, &body) == (200, &want[at]), "{status}");
                    if !stays {
                        stream = connect(address);
                    }
                    number += 1;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..5 {
            let before = count.load(Ordering::Relaxed);
            wait_for("requests go on", || count.load(Ordering::Relaxed) > before + 20);
            // As a service manager does it: the old one ends, what comes meanwhile waits in the socket.
            guard.end();
            guard = next();
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_slow_disk_delays_nobody_else() {
    let Some(film) = film() else { return };
    let files = [("cold.mp4", film), ("warm.mp4", film)];
    let house = House::open("disk", &files, |section| {
        section.fill = origin::paging::Fill::Pool;
        section.limits.keep_alive_timeout_s = 600;
    });
    let (warm, cold) = (house.segments("warm"), house.segments("cold"));
    let (mut viewer, mut other) = (house.connect(), house.connect());
    for url in &warm {
        assert_eq!(get(&mut viewer, url).0, 200);
    }
    // The 99th of a hundred latencies, in microseconds.
    let mut p99 = || {
        let mut all: Vec<u128> = (0..100)
            .map(|number| {
                let begun = Instant::now();
                assert_eq!(get(&mut viewer, &warm[number % warm.len()]).0, 200);
                begun.elapsed().as_micros()
            })
            .collect();
        all.sort_unstable();
        all[98]
    };
    house.origin.delay_cold_reads(Duration::from_millis(500));
    let mut differences = Vec::new();
    // A machine that does other things too may spoil a round; a thread that waits for the disk spoils them all.
    for round in 0..10 {
        let alone = p99();
        let file = std::fs::File::open(house.folder.join("library/cold.mp4")).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let url = &cold[round % cold.len()];
        let (begun, over) = (Instant::now(), AtomicBool::new(false));
        let (beside, took) = std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                assert_eq!(get(&mut other, url).0, 200);
                over.store(true, Ordering::Relaxed);
                begun.elapsed()
            });
            let mut worst = 0;
            while !over.load(Ordering::Relaxed) {
                worst = worst.max(p99());
            }
            (worst, reading.join().unwrap())
        });
        if took < Duration::from_millis(500) {
            eprintln!("SKIPPED: this file system keeps its pages in memory");
            return;
        }
        differences.push(beside.saturating_sub(alone));
        if beside < alone + 2_000 {
            return;
        }
    }
    panic!("p99 of warm requests rises by {differences:?} µs while a cold one waits");
}

#[test]
fn opened_titles_stay_within_their_bound() {
    let picture = "color=black:size=32x32:rate=30:duration=24";
    let encode = [
        "-f",
        "lavfi",
        "-i",
        picture,
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        "60",
    ];
    let encode = [&encode[..], &FRAGMENTED].concat();
    let Some(short) = shared::film("front-short.mp4", &encode) else {
        return;
    };
    let looped = [
        &["-stream_loop", "299", "-i", short.to_str().unwrap(), "-c", "copy"][..],
        &FRAGMENTED,
    ]
    .concat();
    let Some(long) = shared::film("front-two-hours.mp4", &looped) else {
        return;
    };
    let (bound, count) = (16 << 20, 96_u64);
    let house = House::open("titles", &[], |section| section.index_memory_bytes_max = bound);
    for number in 0..count {
        std::fs::hard_link(&long, house.folder.join(format!("library/{number}.mp4")))
            .or_else(|_| std::fs::copy(&long, house.folder.join(format!("library/{number}.mp4"))).map(drop))
            .unwrap();
    }
    let entries = house.origin.store().scan().unwrap();
    assert_eq!(entries.len() as u64, count);
    let mut heaviest = 0_u64;
    for id in entries.keys() {
        let asset = house.origin.store().open(id).unwrap();
        let duration_ms = asset.presentation.duration.to_millis(packager::time::Rounding::Nearest);
        assert!(duration_ms >= 7_190_000, "{duration_ms}");
        heaviest = heaviest.max(asset.weight_bytes());
        let (memory, _) = house.origin.store().usage();
        assert!(memory <= bound, "{memory} bytes are held");
    }
    let (memory, opened) = house.origin.store().usage();
    assert!(
        opened < count && memory > bound / 2,
        "{opened} titles of {memory} bytes are held"
    );
    // A thousand such titles, were all of them kept.
    assert!(
        heaviest * 1_000 <= 1_500_000_000,
        "{heaviest} bytes for a title of two hours"
    );
    eprintln!("{heaviest} bytes a title of two hours; {opened} of {count} are held in {memory} bytes");
}

#[test]
fn opened_titles_leave_descriptors_for_others() {
    let encode = "-f lavfi -i color=black:size=32x32:rate=30:duration=2 -c:v libx264 -preset ultrafast";
    let encode: Vec<&str> = encode.split(' ').collect();
    let Some(short) = shared::film("front-tiny.mp4", &encode) else {
        return;
    };
    // Of all the descriptors there are, whatever they are here.
    let all = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let count = all.unwrap_or(u64::MAX).min(20_000) + 200;
    if count > 10_000 {
        eprintln!("SKIPPED: this process may have more descriptors than titles can be made for");
        return;
    }
    let house = House::open("many", &[], |_| {});
    for number in 0..count {
        let name = house.folder.join(format!("library/{number}.mp4"));
        std::fs::hard_link(&short, &name)
            .or_else(|_| std::fs::copy(&short, &name).map(drop))
            .unwrap();
    }
    let entries = house.origin.store().scan().unwrap();
    assert_eq!(entries.len() as u64, count);
    for id in entries.keys() {
        house.origin.store().open(id).unwrap();
    }
    let (_, opened) = house.origin.store().usage();
    assert!(opened <= count / 4, "{opened} of {count} are open");
    assert_eq!(get(&mut house.connect(), "/healthz").0, 200);
}

#[test]
fn idle_connections_cost_little() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    // Ten thousand, or as many as this process may have: both ends are in it, and other tests beside.
    let count = limit
        .maximum
        .map_or(10_000, |most| (most.saturating_sub(500) / 2).min(10_000)) as usize;
    let house = House::open("idle", &[], |section| {
        section.connection_count_max = count * 2;
        section.limits.connections_per_client_max = 0;
        section.limits.keep_alive_timeout_s = 3_600;
    });
    let anonymous = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    };
    assert_eq!(get(&mut house.connect(), "/healthz").0, 200);
    let before = anonymous();
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = house.connect();
        assert_eq!(get(&mut stream, "/healthz").0, 200);
        held.push(stream);
    }
    let grown = anonymous() - before;
    let each = grown / count as u64;
    eprintln!("{each} bytes for each of {count} idle connections");
    // Without optimisation futures keep copies of what they hand on.
    let most = if cfg!(debug_assertions) {
        270_000_000
    } else {
        250_000_000
    };
    assert!(each * 10_000 <= most, "{each} bytes for an idle connection");
    assert_eq!(house.metric("headwater_origin_connections"), count as u64 + 1);
}
