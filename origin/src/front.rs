//! The front of one serving thread: its listeners, its connections, the sweep that judges them, and a clean end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::rt::{Read, Write};
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::Origin;
use crate::clients::Clients;
use crate::limits;
use crate::pool;
use crate::pulse::{self, Patience, Pulse};
use crate::server::{self, Worker};
use crate::tls::{self, Tls};
use crate::tls_transport::{Shaken, TlsIo};
use crate::transport::ZcIo;

/// Connections the kernel holds for us before they are accepted.
const LISTEN_BACKLOG: i32 = 4_096;
/// After an accept failed, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a thread gives buffers that it did not use back to the system.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// A listening socket, and what is spoken there.
#[derive(Debug)]
pub struct Door {
    /// The socket; does not block.
    pub listener: std::net::TcpListener,
    /// TLS, else plain HTTP.
    pub tls: bool,
}

impl Door {
    /// The first door at `address`, where nobody else listens: two servers that share it by mistake would each get a part of
    /// the requests.
    pub fn open(address: SocketAddr, tls: bool) -> std::io::Result<Door> {
        let alone = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        alone.set_reuse_address(true)?;
        alone.bind(&address.into())?;
        drop(alone);
        Door::open_beside(address, tls)
    }

    /// A socket of its own at `address`: the kernel spreads connections over all that share it.
    fn open_beside(address: SocketAddr, tls: bool) -> std::io::Result<Door> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        Door::of(socket.into(), tls)
    }

    /// The door that `listener` is.
    pub fn of(listener: std::net::TcpListener, tls: bool) -> std::io::Result<Door> {
        listener.set_nonblocking(true)?;
        // Accepted sockets have it from here.
        SockRef::from(&listener).set_tcp_notsent_lowat(limits::UNSENT_SIZE_BYTES_MAX)?;
        Ok(Door { listener, tls })
    }

    /// The same door for another thread: a socket of its own where we made it, else the same one.
    pub fn another(&self, inherited: bool) -> std::io::Result<Door> {
        match inherited {
            true => Ok(Door {
                listener: self.listener.try_clone()?,
                tls: self.tls,
            }),
            false => Door::open_beside(self.listener.local_addr()?, self.tls),
        }
    }
}

/// Accepts and serves connections on this thread's runtime until `shutdown` turns true, then lets running answers end.
pub async fn serve(
    origin: Arc<Origin>,
    doors: Vec<Door>,
    shutdown: watch::Receiver<bool>,
    number: usize,
) -> std::io::Result<()> {
    let front = Rc::new(Front::new(&origin));
    let measuring = front.clone();
    tokio::task::spawn_local(async move { measuring.worker.load.measure().await });
    let sweeping = tokio::task::spawn_local(front.clone().sweep());
    if let (0, Some(tls)) = (number, origin.tls.clone()) {
        tokio::task::spawn_local(watch_certificate(tls));
    }
    let mut accepting = tokio::task::JoinSet::new();
    for door in doors {
        accepting.spawn_local(front.clone().accept(door, shutdown.clone()));
    }
    while let Some(ended) = accepting.join_next().await {
        ended.map_err(std::io::Error::other)??;
    }
    front.drain().await;
    sweeping.abort();
    Ok(())
}

async fn watch_certificate(tls: Arc<Tls>) {
    loop {
        tokio::time::sleep(tls::CHECK_INTERVAL).await;
        let tls = tls.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || tls.reload_if_changed()).await {
            tracing::error!(%error, "the certificate could not be looked at");
        }
    }
}

/// What the connections of one thread share.
struct Front {
    origin: Arc<Origin>,
    worker: Rc<Worker>,
    builder: auto::Builder<LocalExecutor>,
    clients: Arc<Clients>,
    patience: Patience,
    connections: RefCell<HashMap<u64, Rc<Pulse>>>,
    next_number: Cell<u64>,
    /// Told when the last connection ends.
    empty: Notify,
}

impl Front {
    fn new(origin: &Arc<Origin>) -> Front {
        Front {
            worker: Rc::new(Worker::new(origin.clone())),
            builder: builder(),
            clients: origin.clients.clone(),
            patience: Patience::new(origin.config()),
            origin: origin.clone(),
            connections: RefCell::default(),
            next_number: Cell::new(0),
            empty: Notify::new(),
        }
    }

    async fn accept(self: Rc<Front>, door: Door, mut shutdown: watch::Receiver<bool>) -> std::io::Result<()> {
        let listener = TcpListener::from_std(door.listener)?;
        loop {
            let permit = tokio::select! {
                permit = self.origin.connections.clone().acquire_owned() => permit.map_err(std::io::Error::other)?,
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or a client that is gone already: neither is a reason to stop listening.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let front = self.clone();
            let connection = front.connection(stream, peer.ip(), door.tls, permit);
            tokio::task::spawn_local(connection);
        }
    }

    /// One connection, from its first byte to its end.
    async fn connection<P>(self: Rc<Front>, stream: TcpStream, peer: IpAddr, tls: bool, permit: P) {
        let counters = &self.worker.counters;
        let Some(_place) = self.clients.enter(peer) else {
            counters.turned_away.add(1);
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        counters.accepted.add(1);
        let pulse = Rc::new(Pulse::new(Instant::now(), tls));
        let number = self.next_number.get();
        self.next_number.set(number.wrapping_add(1));
        self.connections.borrow_mut().insert(number, pulse.clone());
        match self.origin.tls.as_ref().filter(|_| tls) {
            None => {
                let io = ZcIo::new(stream, counters.clone(), pulse.clone());
                self.speak(io, &pulse).await;
            }
            Some(tls) => {
                counters.tls.add(1);
                let shaking = TlsIo::accept(stream, tls.current(), tls.kernel(), counters.clone(), pulse.clone());
                match pulse::drive(&pulse, Box::pin(shaking), |_| {}).await {
                    Ok(Ok(Shaken::Kernel(io))) => Box::pin(self.speak(io, &pulse)).await,
                    Ok(Ok(Shaken::Here(io))) => Box::pin(self.speak(*io, &pulse)).await,
                    Ok(Err(error)) => {
                        counters.tls_failed.add(1);
                        tracing::debug!(%error, "no TLS handshake");
                    }
                    Err(why) => {
                        counters.tls_failed.add(1);
                        counters.count_ended(why);
                    }
                }
            }
        }
        counters.closed.add(1);
        drop(permit);
        let mut connections = self.connections.borrow_mut();
        connections.remove(&number);
        if connections.is_empty() {
            self.empty.notify_one();
        }
    }

    /// HTTP over `io`, whichever version the client chooses.
    async fn speak<I: Read + Write + Unpin + 'static>(&self, io: I, pulse: &Rc<Pulse>) {
        let (worker, of_request) = (self.worker.clone(), pulse.clone());
        let service =
            hyper::service::service_fn(move |request| server::handle(worker.clone(), of_request.clone(), request));
        // In one place: a future keeps a copy of what it hands on, and there are thousands of these.
        let connection = Box::pin(self.builder.serve_connection(io, service));
        match pulse::drive(pulse, connection, |connection| {
            connection.get_mut().as_mut().graceful_shutdown();
        })
        .await
        {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "connection ended early"),
            Err(why) => {
                self.worker.counters.count_ended(why);
                tracing::debug!(why = why.name(), "connection ended");
            }
        }
    }

    /// Judges every connection, again and again.
    async fn sweep(self: Rc<Front>) {
        let (mut forgiven, mut trimmed) = (Instant::now(), Instant::now());
        loop {
            tokio::time::sleep(limits::SWEEP_INTERVAL).await;
            let now = Instant::now();
            let forgive = now.saturating_duration_since(forgiven) >= Duration::from_secs(1);
            if forgive {
                forgiven = now;
            }
            if now.saturating_duration_since(trimmed) >= TRIM_INTERVAL {
                trimmed = now;
                pool::trim();
            }
            let free = self.origin.connections.available_permits();
            let crowded = free < self.origin.config().connection_count_max / 8;
            for pulse in self.connections.borrow().values() {
                pulse.judge(now, &self.patience, crowded);
                if forgive {
                    pulse.forgive();
                }
            }
        }
    }

    /// Lets connections end: those of HTTP/2 are told, those of HTTP/1.1 may ask once more.
    async fn drain(&self) {
        self.worker.closing.set(true);
        for pulse in self.connections.borrow().values().filter(|pulse| pulse.is_http2()) {
            pulse.retire();
        }
        let timeout = self.origin.config().drain_timeout;
        let deadline = Instant::now() + timeout;
        let grace = limits::LAST_REQUEST_GRACE.min(timeout / 2);
        if tokio::time::timeout(grace, self.emptied()).await.is_ok() {
            return;
        }
        for pulse in self.connections.borrow().values() {
            pulse.retire();
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if tokio::time::timeout(left, self.emptied()).await.is_err() {
            let count = self.connections.borrow().len();
            tracing::warn!(count, "connections were still open when the drain time ended");
        }
    }

    async fn emptied(&self) {
        while !self.connections.borrow().is_empty() {
            self.empty.notified().await;
        }
    }
}

fn builder() -> auto::Builder<LocalExecutor> {
    // `pipeline_flush` must stay off: it makes hyper copy bodies, and file slices can not be copied (`arena`).
    let mut builder = auto::Builder::new(LocalExecutor);
    builder
        .http1()
        .timer(TokioTimer::new())
        // The sweep does it, without a timer a connection.
        .header_read_timeout(None)
        .max_buf_size(limits::HEAD_SIZE_BYTES_MAX)
        .max_headers(limits::HEADER_COUNT_MAX)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAM_COUNT_MAX)
        .max_pending_accept_reset_streams(limits::PENDING_RESET_COUNT_MAX)
        .max_local_error_reset_streams(Some(limits::ERROR_RESET_COUNT_MAX))
        .max_header_list_size(limits::HEAD_SIZE_BYTES_MAX as u32)
        .max_send_buf_size(limits::STREAM_SEND_SIZE_BYTES_MAX)
        .initial_stream_window_size(limits::RECEIVE_WINDOW_BYTES)
        .initial_connection_window_size(limits::RECEIVE_WINDOW_BYTES)
        .keep_alive_interval(Some(limits::PING_INTERVAL))
        .keep_alive_timeout(limits::PING_TIMEOUT);
    builder
}

/// Spawns what hyper wants to spawn (HTTP/2 streams) on this thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nobody_shares_an_address_by_mistake() {
        let door = Door::open("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = door.listener.local_addr().unwrap();
        let taken = Door::open(address, false).unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
        let beside = door.another(false).unwrap();
        assert_eq!(beside.listener.local_addr().unwrap(), address);
        drop((door, beside));
        Door::open(address, false).unwrap();
    }

    #[test]
    fn no_client_fills_the_kernel() {
        let address = "127.0.0.1:0".parse().unwrap();
        let passed = std::net::TcpListener::bind(address).unwrap();
        for door in [Door::open(address, false).unwrap(), Door::of(passed, true).unwrap()] {
            let _client = std::net::TcpStream::connect(door.listener.local_addr().unwrap()).unwrap();
            door.listener.set_nonblocking(false).unwrap();
            let (accepted, _) = door.listener.accept().unwrap();
            let unsent = SockRef::from(&accepted).tcp_notsent_lowat().unwrap();
            assert_eq!(unsent, limits::UNSENT_SIZE_BYTES_MAX);
        }
    }
}
