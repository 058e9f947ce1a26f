//! Connections: HTTP/1.1 on sockets, with bounds on their number, on heads, and on how long clients may keep still.
//!
//! TLS and HTTP/2 are a proxy's, who asks in HTTP/1.1. An answer that runs is never cut for the time it takes; whoever does
//! not read it is let go.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tower_service::Service as _;

use crate::config::Config;
use crate::rate_limit::Counted;

/// Bytes of a request's head: tokens of other issuers are the longest part of it, some KiB.
const HEAD_SIZE_BYTES_MAX: usize = 32 << 10;
/// Header fields of a request: browsers send about twenty, proxies add a few.
const HEADER_COUNT_MAX: usize = 100;
/// Pause after a connection could not be accepted: of file descriptors there are more soon, or never.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What clients may take.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Connections at once; more wait to be accepted.
    pub connection_count_max: usize,
    /// Connections of one client (an IPv4 address, an IPv6 /64) at once; more are closed. `None` for no such bound.
    pub connections_per_client_max: Option<u32>,
    /// Proxies: of their connections any number is taken.
    pub trusted_proxies: Vec<IpAddr>,
    /// Longest from the opening of a connection until its first head is there.
    pub header_timeout: Duration,
    /// Longest from an answer until the next head is there.
    pub keep_alive_timeout: Duration,
    /// Longest that a client may take none of what is sent to it.
    pub send_stall_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            connection_count_max: 10_000,
            connections_per_client_max: Some(1_000),
            trusted_proxies: Vec::new(),
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            send_stall_timeout: Duration::from_secs(30),
        }
    }
}

impl Bounds {
    /// As the settings have them.
    pub fn new(config: &Config) -> Bounds {
        let section = &config.section;
        Bounds {
            connection_count_max: section.connection_count_max,
            connections_per_client_max: Some(section.connections_per_client_max).filter(|most| *most > 0),
            trusted_proxies: section.trusted_proxies.clone(),
            header_timeout: Duration::from_secs(section.header_timeout_s),
            keep_alive_timeout: Duration::from_secs(section.keep_alive_timeout_s),
            ..Bounds::default()
        }
    }
}

/// Serves until `stop` turns true and every connection has ended. Connections that still are there when this is dropped
/// end with it.
pub async fn serve(listener: TcpListener, router: Router, stop: watch::Receiver<bool>, bounds: Bounds) {
    let places = Arc::new(Semaphore::new(bounds.connection_count_max));
    let clients = Clients::new(&bounds);
    let mut connections = JoinSet::new();
    let stopped = stopped(stop.clone());
    tokio::pin!(stopped);
    loop {
        let next = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            () = &mut stopped => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(entry) = clients.enter(peer.ip()) else {
            tracing::debug!(%peer, "a client has enough connections");
            continue;
        };
        let served = converse(socket, peer, router.clone(), stop.clone(), bounds.clone());
        connections.spawn(async move {
            served.await;
            drop((place, entry));
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection, until it ends.
async fn converse(socket: TcpStream, peer: SocketAddr, router: Router, stop: watch::Receiver<bool>, bounds: Bounds) {
    // Replies are written whole; without it the last part of each waits for the client's acknowledgement.
    let _ = socket.set_nodelay(true);
    let asked = AtomicBool::new(false);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        answer(router.clone(), request, peer)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Hyper counts from the moment that it waits for a head.
        .header_read_timeout(bounds.keep_alive_timeout)
        .max_headers(HEADER_COUNT_MAX)
        .max_header_size(HEAD_SIZE_BYTES_MAX)
        .serve_connection(TokioIo::new(Stalling::new(socket, bounds.send_stall_timeout)), service);
    let (late, stopped) = (tokio::time::sleep(bounds.header_timeout), stopped(stop));
    tokio::pin!(connection, late, stopped);
    let (mut is_first, mut goes_on) = (true, true);
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "a connection ended badly");
                }
                return;
            }
            () = &mut late, if is_first => {
                is_first = false;
                if !asked.load(Ordering::Relaxed) {
                    tracing::debug!(%peer, "a connection asked nothing");
                    return;
                }
            }
            () = &mut stopped, if goes_on => {
                goes_on = false;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(
    mut router: Router,
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
) -> Result<axum::response::Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    router.call(request).await
}

/// Waits until told to stop. A watcher that is gone will never say so; nor should its end be taken for it.
pub async fn stopped(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How many connections each client has: none may have them all.
struct Clients {
    count_max: Option<u32>,
    trusted: Vec<IpAddr>,
    counts: Mutex<HashMap<Counted, u32>>,
}

impl Clients {
    fn new(bounds: &Bounds) -> Arc<Clients> {
        Arc::new(Clients {
            count_max: bounds.connections_per_client_max,
            trusted: bounds.trusted_proxies.iter().map(IpAddr::to_canonical).collect(),
            counts: Mutex::default(),
        })
    }

    /// The right to one more connection; `None`: it has enough.
    fn enter(self: &Arc<Clients>, address: IpAddr) -> Option<Entry> {
        let address = address.to_canonical();
        let bound = self.count_max.filter(|_| !self.trusted.contains(&address));
        let Some(most) = bound else {
            return Some(Entry(None));
        };
        let client = Counted::address(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Entry(Some((Arc::clone(self), client))))
    }
}

/// A client's right to a connection, given back when dropped.
struct Entry(Option<(Arc<Clients>, Counted)>);

impl Drop for Entry {
    fn drop(&mut self) {
        let Some((clients, client)) = self.0.take() else {
            return;
        };
        let mut counts = clients.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = counts.get_mut(&client) else {
            return;
        };
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&client);
        }
    }
}

/// A socket that fails once its client took nothing of what is sent to it for so long.
struct Stalling {
    socket: TcpStream,
    patience: Duration,
    /// Since the socket takes no more.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Stalling {
    fn new(socket: TcpStream, patience: Duration) -> Stalling {
        Stalling {
            socket,
            patience,
            waiting: None,
        }
    }

    fn wait<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.patience;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
        // What it did not read is not kept for it; the kernel would, for minutes.
        let _ = self.socket.set_zero_linger();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stalling {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

impl AsyncWrite for Stalling {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.wait(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, pieces);
        self.wait(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Instant;

    use axum::routing::{get, post};
    use futures_util::stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Longer than any bound that the tests set.
    const PATIENCE: Duration = Duration::from_secs(10);
    const CLOSE: &str = "connection: close\r\n";

    struct Server {
        address: SocketAddr,
        stop: watch::Sender<bool>,
        ended: tokio::task::JoinHandle<()>,
    }

    /// Ten parts of a body, `pause` apart.
    fn parts(pause: Duration) -> Body {
        Body::from_stream(stream::unfold(0, move |at| async move {
            tokio::time::sleep(pause).await;
            (at < 10).then_some((Ok::<_, Infallible>("part "), at + 1))
        }))
    }

    async fn server(bounds: Bounds) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let who = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
        let router = Router::new()
            .route("/", get(who))
            .route("/slow", get(|| async { parts(Duration::from_millis(100)) }))
            .route("/large", get(|| async { vec![b'a'; 64 << 20] }))
            .route("/count", post(|body: String| async move { body.len().to_string() }));
        let (stop, stopping) = watch::channel(false);
        let ended = tokio::spawn(serve(listener, router, stopping, bounds));
        Server { address, stop, ended }
    }

    /// What comes until the connection ends; `None`: it does not.
    async fn rest(stream: &mut TcpStream) -> Option<String> {
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        // A reset is an end, too.
        ended.is_ok().then(|| String::from_utf8_lossy(&answer).into_owned())
    }

    impl Server {
        async fn open(&self, bytes: &[u8]) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            // It may be refused before it is all there.
            let _ = stream.write_all(bytes).await;
            stream
        }

        async fn tell(&self, bytes: &[u8]) -> String {
            rest(&mut self.open(bytes).await).await.unwrap()
        }

        async fn status(&self, head: &str) -> String {
            let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{head}\r\n");
            let answer = self.tell(text.as_bytes()).await;
            answer.split(' ').nth(1).unwrap_or("none").to_owned()
        }
    }

    /// Asks on a connection that stays open; whether it is answered.
    async fn is_answered(stream: &mut TcpStream) -> bool {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut answer = [0; 256];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await;
        read.is_ok_and(|read| read.is_ok()) && answer.starts_with(b"HTTP/1.1 200")
    }

    fn short() -> Bounds {
        Bounds {
            header_timeout: Duration::from_millis(300),
            keep_alive_timeout: Duration::from_millis(600),
            send_stall_timeout: Duration::from_millis(400),
            ..Bounds::default()
        }
    }

    #[tokio::test]
    async fn heads_are_bounded() {
        let server = server(Bounds::default()).await;
        let whole = server
            .tell(format!("GET / HTTP/1.1\r\nhost: a\r\n{CLOSE}\r\n").as_bytes())
            .await;
        assert!(
            whole.starts_with("HTTP/1.1 200") && whole.ends_with("127.0.0.1"),
            "{whole}"
        );
        let long = |size: usize| format!("x: {}\r\n{CLOSE}", "a".repeat(size));
        let many = |count: usize| (0..count).map(|at| format!("x-{at}: 1\r\n")).collect::<String>() + CLOSE;
        for (head, expected) in [
            (long(HEAD_SIZE_BYTES_MAX - 200), "200"),
            (long(HEAD_SIZE_BYTES_MAX), "431"),
            (many(HEADER_COUNT_MAX - 2), "200"),
            (many(HEADER_COUNT_MAX), "431"),
            ("no colon\r\n".to_owned(), "400"),
        ] {
            let shown: String = head.chars().take(20).collect();
            assert_eq!(server.status(&head).await, expected, "{shown}…, {} bytes", head.len());
        }
        let path = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(80 << 10));
        let answer = server.tell(path.as_bytes()).await;
        let refused = ["HTTP/1.1 414", "HTTP/1.1 431"];
        assert!(refused.iter().any(|status| answer.starts_with(status)), "{answer}");
        // HTTP/2 is the proxy's.
        assert!(!server.tell(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.contains("200"));
    }

    #[tokio::test]
    async fn silent_slow_and_idle_connections_end() {
        let hour = Duration::from_secs(3_600);
        let first = Bounds {
            keep_alive_timeout: hour,
            ..short()
        };
        let next = Bounds {
            header_timeout: hour,
            ..short()
        };
        // What it begins with, what then comes every 50 ms, and which bound ends it.
        for (bytes, drip, bounds, earliest) in [
            (&b""[..], &b""[..], &first, first.header_timeout),
            (b"GET / HTTP/1.1\r\nhost: ", b"a", &first, first.header_timeout),
            (b"PRI * HTTP", b"", &first, first.header_timeout),
            (
                b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
                b"",
                &next,
                next.keep_alive_timeout,
            ),
            (
                b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: ",
                b"a",
                &next,
                next.keep_alive_timeout,
            ),
        ] {
            let server = server(bounds.clone()).await;
            let shown = String::from_utf8_lossy(bytes);
            let begun = Instant::now();
            let mut stream = server.open(bytes).await;
            let (mut reading, mut writing) = stream.split();
            let dripping = async {
                while writing.write_all(drip).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let mut answer = Vec::new();
            let ended = tokio::select! {
                _ = reading.read_to_end(&mut answer) => true,
                () = dripping => true,
                () = tokio::time::sleep(PATIENCE) => false,
            };
            assert!(ended, "{shown:?} is still there");
            let took = begun.elapsed();
            assert!(took >= earliest, "{shown:?} ended after {took:?}");
        }
    }

    #[tokio::test]
    async fn answers_and_bodies_that_run_are_not_cut() {
        let server = server(short()).await;
        let ask = format!("GET /slow HTTP/1.1\r\nhost: a\r\n{CLOSE}\r\n");
        let answer = server.tell(ask.as_bytes()).await;
        assert_eq!(answer.matches("part ").count(), 10, "{answer}");
        let head = format!("POST /count HTTP/1.1\r\nhost: a\r\n{CLOSE}content-length: 10\r\n\r\n");
        let mut stream = server.open(head.as_bytes()).await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.write_all(b"a").await.unwrap();
        }
        let answer = rest(&mut stream).await.unwrap();
        assert!(answer.ends_with("\r\n\r\n10"), "{answer}");
    }

    #[tokio::test]
    async fn clients_that_do_not_read_are_let_go() {
        let bounds = Bounds {
            connection_count_max: 1,
            ..short()
        };
        let server = server(bounds).await;
        let ask = format!("GET /large HTTP/1.1\r\nhost: a\r\n{CLOSE}\r\n");
        let mut stream = server.open(ask.as_bytes()).await;
        // Whoever reads gets all of it, in however many steps.
        let mut part = vec![0; 8 << 20];
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            stream.read_exact(&mut part).await.unwrap();
        }
        assert!(rest(&mut stream).await.is_some());
        let _still = server.open(ask.as_bytes()).await;
        // There is one place, and the client that takes nothing had it.
        assert_eq!(server.status(CLOSE).await, "200");
    }

    #[tokio::test]
    async fn connections_are_counted() {
        let bounds = Bounds {
            connection_count_max: 1,
            ..Bounds::default()
        };
        let server = server(bounds).await;
        let mut first = server.open(b"").await;
        assert!(is_answered(&mut first).await);
        let second = server.status(CLOSE);
        tokio::pin!(second);
        let waits = tokio::time::timeout(Duration::from_millis(300), &mut second).await;
        assert!(waits.is_err(), "two have the only place");
        drop(first);
        assert_eq!(second.await, "200");
    }

    #[tokio::test]
    async fn connections_of_one_client_are_counted() {
        let bounds = Bounds {
            connections_per_client_max: Some(2),
            ..Bounds::default()
        };
        let server = server(bounds.clone()).await;
        let (mut first, mut second) = (server.open(b"").await, server.open(b"").await);
        assert!(is_answered(&mut first).await && is_answered(&mut second).await);
        assert_eq!(server.status(CLOSE).await, "none");
        assert!(is_answered(&mut first).await, "those that are there stay");
        drop(second);
        let begun = Instant::now();
        while server.status(CLOSE).await != "200" {
            assert!(begun.elapsed() < PATIENCE, "places are not given back");
        }
    }

    #[tokio::test]
    async fn proxies_may_have_any_number() {
        let bounds = Bounds {
            connections_per_client_max: Some(1),
            trusted_proxies: vec!["::ffff:127.0.0.1".parse().unwrap()],
            ..Bounds::default()
        };
        let server = server(bounds).await;
        let mut streams = Vec::new();
        for _ in 0..5 {
            let mut stream = server.open(b"").await;
            assert!(is_answered(&mut stream).await);
            streams.push(stream);
        }
    }

    #[test]
    fn clients_are_addresses_and_networks() {
        let bounds = Bounds {
            connections_per_client_max: Some(1),
            ..Bounds::default()
        };
        let clients = Clients::new(&bounds);
        let enter = |text: &str| clients.enter(text.parse().unwrap());
        let first = enter("2001:db8::1");
        assert!(first.is_some() && enter("2001:db8::2").is_none());
        assert!(enter("2001:db8:0:1::1").is_some() && enter("192.0.2.1").is_some());
        drop(first);
        assert!(enter("2001:db8::2").is_some());
        assert!(clients.counts.lock().unwrap().is_empty(), "nobody is left");
    }

    #[tokio::test]
    async fn a_stop_ends_idle_connections_and_waits_for_answers() {
        let server = server(Bounds::default()).await;
        let (mut idle, mut silent) = (server.open(b"").await, server.open(b"").await);
        assert!(is_answered(&mut idle).await);
        let mut running = server.open(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut begun = [0; 12];
        running.read_exact(&mut begun).await.unwrap();
        server.stop.send(true).unwrap();
        assert_eq!(rest(&mut idle).await.as_deref(), Some(""));
        assert_eq!(rest(&mut silent).await.as_deref(), Some(""));
        assert!(!server.ended.is_finished(), "an answer still runs");
        let answer = rest(&mut running).await.unwrap();
        assert_eq!(answer.matches("part ").count(), 10, "{answer}");
        let ended = tokio::time::timeout(PATIENCE, server.ended).await;
        assert!(ended.is_ok(), "it waits for nobody");
        assert!(TcpStream::connect(server.address).await.is_err());
    }

    #[tokio::test]
    async fn connections_end_with_who_serves_them() {
        let server = server(Bounds::default()).await;
        let mut running = server.open(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut begun = [0; 12];
        running.read_exact(&mut begun).await.unwrap();
        server.stop.send(true).unwrap();
        server.ended.abort();
        let answer = rest(&mut running).await.unwrap();
        assert!(answer.matches("part ").count() < 10, "{answer}");
    }
}
