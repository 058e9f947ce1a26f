//! The origin behind TLS: both versions, both protocols, the same bytes as without.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shared;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use origin::Origin;
use origin::config::Section;
use origin::tls::TlsSection;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use shared::{FRAGMENTED, LARGE_SEGMENTS, Running};

/// A running origin; stops and removes everything when dropped.
struct House {
    folder: PathBuf,
    origin: Arc<Origin>,
    certificate: rcgen::Certificate,
    running: Running,
}

impl House {
    fn open(name: &str, settings: impl FnOnce(&mut Section)) -> House {
        let folder = std::env::temp_dir().join(format!("headwater-tls-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("library")).unwrap();
        let certificate = renew(&folder);
        let mut section = Section {
            library: Some(folder.join("library")),
            listen: "127.0.0.1:0".into(),
            drain_timeout_s: 5,
            threads: 2,
            tls: Some(TlsSection {
                listen: "127.0.0.1:0".into(),
                certificate: folder.join("cert.pem"),
                key: folder.join("key.pem"),
                kernel: true,
            }),
            ..Section::default()
        };
        settings(&mut section);
        let origin = Origin::new(section.check().unwrap()).unwrap();
        House {
            running: Running::start(&origin, None),
            folder,
            origin,
            certificate,
        }
    }

    fn plain(&self) -> TcpStream {
        connect(self.running.addresses.plain.unwrap())
    }

    fn secure(&self, versions: &[&'static SupportedProtocolVersion], protocols: &[&[u8]]) -> Secure {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(client, connect(self.running.addresses.tls.unwrap()))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.running.end();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A new certificate and key in `folder`.
fn renew(folder: &std::path::Path) -> rcgen::Certificate {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(folder.join("key.pem"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    made.cert
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Status and body of `path`, asked for on `stream`, which stays open.
fn get(stream: &mut (impl Read + Write), path: &str) -> (u16, Vec<u8>) {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    stream.flush().unwrap();
    read_answer(stream)
}

/// The same of what was asked for before.
fn read_answer(stream: &mut impl Read) -> (u16, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let size = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut body = vec![0; size.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (status, body)
}

#[test]
fn both_versions_are_spoken_and_early_ones_are_not() {
    let house = House::open("versions", |_| {});
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut stream = house.secure(&[version], &[b"http/1.1"]);
        for _ in 0..3 {
            assert_eq!(get(&mut stream, "/healthz"), (200, b"ok\n".to_vec()), "{version:?}");
        }
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
    // The hello of TLS 1.0, and plain HTTP: both are hung up on.
    for hello in [
        &b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"[..],
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = connect(house.running.addresses.tls.unwrap());
        stream.write_all(hello).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert_eq!(get(&mut house.plain(), "/healthz").0, 200);
}

#[test]
fn http_2_is_chosen_by_name() {
    let house = House::open("alpn", |_| {});
    let mut stream = house.secure(rustls::ALL_VERSIONS, &[b"h2", b"http/1.1"]);
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    // HEADERS on stream 1, whole: GET (2), https (7), /healthz (a literal name 4), localhost (a literal name 1).
    let block = b"\x82\x87\x04\x08/healthz\x01\x09localhost";
    let mut frame = vec![0, 0, block.len() as u8, 1, 0x5, 0, 0, 0, 1];
    frame.extend_from_slice(block);
    stream.write_all(&frame).unwrap();
    stream.flush().unwrap();
    let mut settings = Vec::new();
    let body = loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).unwrap();
        match head[3] {
            4 if payload.len() >= 6 => settings = payload,
            0 if !payload.is_empty() => break payload,
            7 => panic!("GOAWAY {payload:?}"),
            _ => {}
        }
    };
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(body, b"ok\n");
    let setting = |wanted: u16| {
        let mut all = settings.chunks(6);
        let found = all.find(|setting| setting[..2] == wanted.to_be_bytes());
        found.map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()))
    };
    assert_eq!(setting(3), Some(100), "streams at once");
    assert_eq!(setting(6), Some(16 << 10), "header list");
}

/// A film of some megabytes; `None`, loudly, without ffmpeg.
fn film() -> Option<PathBuf> {
    let (noise, tone) = (shared::noise(12), shared::tone(12));
    let inputs = ["-f", "lavfi", "-i", &noise, "-f", "lavfi", "-i", &tone];
    let arguments = [&inputs[..], &LARGE_SEGMENTS, &["-c:a", "aac", "-shortest"], &FRAGMENTED].concat();
    shared::film("tls-film.mp4", &arguments)
}

#[test]
fn bytes_are_the_same_with_and_without() {
    let Some(film) = film() else { return };
    for (sendfile, kernel) in [(true, true), (false, true), (true, false)] {
        let house = House::open(&format!("bytes-{sendfile}-{kernel}"), |section| {
            std::fs::copy(&film, section.library.as_ref().unwrap().join("film.mp4")).unwrap();
            section.sendfile = sendfile;
            section.tls.as_mut().unwrap().kernel = kernel;
            // Comparing megabytes without optimisation on a busy machine takes its time between two requests.
            section.limits.keep_alive_timeout_s = 3_600;
        });
        let entries = house.origin.store().scan().unwrap();
        let id = entries.keys().next().unwrap();
        let asset = house.origin.store().open(id).unwrap();
        let (mut plain, mut compared) = (house.plain(), 0);
        let mut secure = house.secure(&[&rustls::version::TLS13], &[b"http/1.1"]);
        let mut older = house.secure(&[&rustls::version::TLS12], &[b"http/1.1"]);
        // Takes little at a time: sends are cut everywhere. Not less than a few of loopback's segments of 64 KiB: below,
        // the kernel itself waits for seconds between them.
        let mut slow = house.secure(&[&rustls::version::TLS13], &[b"http/1.1"]);
        socket2::SockRef::from(&slow.sock)
            .set_recv_buffer_size(256 << 10)
            .unwrap();
        for representation in &asset.presentation.representations {
            let count = representation.segments.segments().len();
            for form in ["cmaf", "ts"] {
                let version = &asset.presentation.version;
                let folder = format!("/vod/{id}/v{version}/{form}/{}", representation.id);
                let segments =
                    (1..=count).map(|number| format!("{number}.{}", if form == "ts" { "ts" } else { "m4s" }));
                for name in segments.chain(["init.mp4".into(), "media.mp4".into(), "index.m3u8".into()]) {
                    let path = format!("{folder}/{name}");
                    let want = get(&mut plain, &path);
                    compared += usize::from(want.0 == 200);
                    assert!(get(&mut secure, &path) == want, "{path}");
                    assert!(get(&mut older, &path) == want, "{path} by TLS 1.2");
                    if name == "1.m4s" || name == "init.mp4" {
                        assert!(get(&mut slow, &path) == want, "{path} in small pieces");
                    }
                }
            }
        }
        assert!(compared > 10);
        let metrics = String::from_utf8(get(&mut plain, "/metrics").1).unwrap();
        let says = |line: &str| metrics.lines().any(|found| found == line);
        let by_kernel = says("headwater_origin_io_path{job=\"seal\",path=\"kernel\"} 1");
        assert!(by_kernel || says("headwater_origin_io_path{job=\"seal\",path=\"process\"} 1"));
        if kernel && !by_kernel {
            eprintln!("SKIPPED: the kernel seals no TLS (module tls): sealed here instead");
        }
        // The end is told, by both.
        secure.conn.send_close_notify();
        secure.flush().unwrap();
        assert_eq!(secure.read_to_end(&mut Vec::new()).unwrap(), 0);
        // Both of TLS 1.3.
        let count = if by_kernel { 2 } else { 0 };
        let counted = format!("headwater_origin_accepted_connections_total{{kind=\"tls_kernel\"}} {count}");
        assert!(says(&counted), "not {counted}");
        assert!(kernel || !by_kernel);
    }
}

#[test]
fn readers_that_stand_still_miss_nothing() {
    let Some(film) = film() else { return };
    let house = House::open("still", |section| {
        std::fs::copy(&film, section.library.as_ref().unwrap().join("film.mp4")).unwrap();
        section.sendfile = false;
        section.segment_duration_ms = 6_000;
    });
    let entries = house.origin.store().scan().unwrap();
    let id = entries.keys().next().unwrap();
    let presentation = &house.origin.store().open(id).unwrap().presentation;
    let track = &presentation.representations[0].id;
    let url = format!("/vod/{id}/v{}/cmaf/{track}/1.m4s", presentation.version);
    let put_down = || {
        let text = String::from_utf8(get(&mut house.plain(), "/metrics").1).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("headwater_origin_put_down_bytes_total "));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .unwrap()
    };
    for url in [url.replace("/cmaf/", "/ts/").replace(".m4s", ".ts"), url] {
        let before = put_down();
        let mut still = house.secure(rustls::ALL_VERSIONS, &[b"http/1.1"]);
        still
            .write_all(format!("GET {url} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while put_down() == before {
            assert!(Instant::now() < deadline, "nothing was put down in a minute");
            std::thread::sleep(Duration::from_millis(50));
        }
        let (status, got) = read_answer(&mut still);
        assert_eq!(status, 200);
        assert!(got == get(&mut house.plain(), &url).1, "{url}");
    }
}

#[test]
fn a_damaged_record_ends_its_connection_alone() {
    for kernel in [true, false] {
        let house = House::open(&format!("damaged-{kernel}"), |section| {
            section.tls.as_mut().unwrap().kernel = kernel;
        });
        let mut other = house.secure(&[&rustls::version::TLS13], &[b"http/1.1"]);
        assert_eq!(get(&mut other, "/healthz").0, 200);
        // Application data that no key opens, no type at all, and a length that nothing has.
        for head in [[23, 3, 3, 0, 40], [99, 3, 3, 0, 40], [23, 3, 3, 255, 255]] {
            let mut stream = house.secure(&[&rustls::version::TLS13], &[b"http/1.1"]);
            assert_eq!(get(&mut stream, "/healthz").0, 200);
            stream.sock.write_all(&head).unwrap();
            let _reset = stream.sock.write_all(&[7; 40]);
            let mut answer = Vec::new();
            // Reset or closed, and that before anybody's patience is over.
            let ended = stream.sock.read_to_end(&mut answer);
            let waited = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!waited, "{head:?}, kernel: {kernel}");
            assert_eq!(get(&mut other, "/healthz").0, 200, "{head:?}, kernel: {kernel}");
        }
    }
}

#[test]
fn a_new_key_is_taken_or_ends_the_connection() {
    for kernel in [true, false] {
        let house = House::open(&format!("new-key-{kernel}"), |section| {
            section.tls.as_mut().unwrap().kernel = kernel;
        });
        let metrics = String::from_utf8(get(&mut house.plain(), "/metrics").1).unwrap();
        let by_kernel = metrics.contains("{job=\"seal\",path=\"kernel\"} 1");
        let mut stream = house.secure(&[&rustls::version::TLS13], &[b"http/1.1"]);
        assert_eq!(get(&mut stream, "/healthz").0, 200);
        stream.conn.refresh_traffic_keys().unwrap();
        if by_kernel {
            let _reset = write!(stream, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
            let _reset = stream.flush();
            let mut answer = Vec::new();
            let _reset = stream.read_to_end(&mut answer);
            assert_eq!(answer, b"");
        } else {
            assert_eq!(get(&mut stream, "/healthz").0, 200);
        }
        assert_eq!(
            get(&mut house.secure(rustls::ALL_VERSIONS, &[b"http/1.1"]), "/healthz").0,
            200
        );
    }
}

#[test]
fn a_renewed_certificate_is_taken_without_a_restart() {
    let mut house = House::open("renewed", |_| {});
    let mut before = house.secure(rustls::ALL_VERSIONS, &[b"http/1.1"]);
    assert_eq!(get(&mut before, "/healthz").0, 200);
    house.certificate = renew(&house.folder);
    house.origin.reload();
    // The client trusts the new one alone.
    let mut after = house.secure(rustls::ALL_VERSIONS, &[b"http/1.1"]);
    assert_eq!(get(&mut after, "/healthz").0, 200);
    assert_eq!(get(&mut before, "/healthz").0, 200, "what is open goes on");
    // And without being told, within a few seconds.
    house.certificate = renew(&house.folder);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut stream = house.secure(rustls::ALL_VERSIONS, &[b"http/1.1"]);
        if stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .is_ok()
            && stream.flush().is_ok()
        {
            break;
        }
        assert!(Instant::now() < deadline, "the new certificate is not in force");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_handshake_that_does_not_come_is_not_waited_for() {
    let house = House::open("handshake", |section| section.limits.handshake_timeout_s = 1);
    let mut silent = connect(house.running.addresses.tls.unwrap());
    let begun = Instant::now();
    assert_eq!(silent.read(&mut [0; 10]).unwrap_or(0), 0, "hung up");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let metrics = String::from_utf8(get(&mut house.plain(), "/metrics").1).unwrap();
    assert!(
        metrics.contains("headwater_origin_ended_connections_total{reason=\"slow_handshake\"} 1"),
        "{metrics}"
    );
}
