//! A TLS connection under hyper. File slices are read straight into what is sealed: one pass over media, and a slow
//! client holds no more than [`TLS_BUFFER_SIZE_BYTES_MAX`] of ciphertext.

use std::cell::RefCell;
use std::io::{BufRead, Error, ErrorKind, IoSlice, Result, Write as _};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use rustls::{ServerConfig, ServerConnection};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::arena::{Arena, arena};
use crate::limits::TLS_BUFFER_SIZE_BYTES_MAX;
use crate::metrics::Counters;
use crate::pulse::Pulse;

/// Plaintext of a TLS record (RFC 8446 5.1), and of one step: it stays in the core's nearest cache between being read
/// and being sealed.
const RECORD_SIZE_BYTES: usize = 16 << 10;
/// Bytes that a connection may send before others get their turn: a few tens of microseconds of sealing.
const TURN_SIZE_BYTES: usize = 256 << 10;

thread_local! {
    /// Where plaintext is gathered; only within one call.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; RECORD_SIZE_BYTES]);
}

/// The connection.
pub struct TlsIo {
    stream: TcpStream,
    tls: ServerConnection,
    arena: Option<&'static Arena>,
    counters: Arc<Counters>,
    pulse: Rc<Pulse>,
    turn: usize,
    closing: bool,
}

/// The socket as rustls wants it: an error where it would wait.
struct Socket<'a>(&'a TcpStream);

impl std::io::Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.try_read(buffer)
    }
}

impl std::io::Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Drop for TlsIo {
    fn drop(&mut self) {
        self.pulse.part_with(&self.stream);
    }
}

impl TlsIo {
    /// Shakes hands over `stream` as `config` says. Never ends by itself when the client sends nothing.
    pub async fn accept(
        stream: TcpStream,
        config: Arc<ServerConfig>,
        counters: Arc<Counters>,
        pulse: Rc<Pulse>,
    ) -> Result<TlsIo> {
        let mut tls = ServerConnection::new(config).map_err(Error::other)?;
        // Bounded by whoever writes: rustls would cut records to fit its own limit.
        tls.set_buffer_limit(None);
        let mut io = TlsIo {
            stream,
            tls,
            arena: arena(),
            counters,
            pulse,
            turn: 0,
            closing: false,
        };
        while io.tls.is_handshaking() {
            std::future::poll_fn(|cx| io.poll_send(cx)).await?;
            if io.tls.is_handshaking() && std::future::poll_fn(|cx| io.poll_receive(cx)).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        // Tickets go with the first answer if the socket is full now.
        io.send_now()?;
        io.pulse.shaken();
        Ok(io)
    }

    /// Sends what is sealed, until all of it is gone or the socket is full.
    fn send_now(&mut self) -> Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Socket(&self.stream)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => self.pulse.wrote(sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while !self.send_now()? {
            if self.stream.poll_write_ready(cx)?.is_pending() {
                self.pulse.blocked();
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Receives and opens what is there; 0 at the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        loop {
            match self.tls.read_tls(&mut Socket(&self.stream)) {
                Ok(count) => {
                    if let Err(error) = self.tls.process_new_packets() {
                        // The alert says why; whether it arrives is all the same.
                        let _told = self.send_now();
                        return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, error)));
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready!(self.stream.poll_read_ready(cx))?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Seals the front of `slices`, which is not empty, `room` at most; how much of them, never 0.
    fn seal(&mut self, slices: &[IoSlice<'_>], room: usize) -> Result<usize> {
        // A long piece of memory need not be copied.
        if let Some(first) = slices.first().filter(|first| first.len() >= RECORD_SIZE_BYTES)
            && self.arena.is_none_or(|arena| arena.lookup(first).is_none())
        {
            let (first, _) = first.split_at(first.len().min(room));
            let sealed = self.tls.writer().write(first)?;
            self.counters.sent_memory_bytes.add(sealed as u64);
            return Ok(sealed);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let (mut filled, mut of_files) = (0, 0);
            for slice in slices {
                let Some(room) = scratch.get_mut(filled..).filter(|room| !room.is_empty()) else {
                    break;
                };
                let size = slice.len().min(room.len());
                let (room, _) = room.split_at_mut(size);
                match self.arena.and_then(|arena| arena.lookup(slice)) {
                    Some(place) => {
                        let read = rustix::io::pread(place.file, &mut *room, place.offset)?;
                        if read == 0 && size > 0 {
                            if filled > 0 {
                                break;
                            }
                            return Err(Error::new(
                                ErrorKind::UnexpectedEof,
                                "the file was cut short while it was sent",
                            ));
                        }
                        (filled, of_files) = (filled + read, of_files + read);
                        if read < size {
                            break;
                        }
                    }
                    None => {
                        let (now, _) = slice.split_at(size);
                        room.copy_from_slice(now);
                        filled += size;
                    }
                }
            }
            let (plain, _) = scratch.split_at(filled);
            let sealed = self.tls.writer().write(plain)?;
            // Both kinds are counted by what they are mostly.
            let tally = if of_files * 2 > filled {
                &self.counters.sent_copied_bytes
            } else {
                &self.counters.sent_memory_bytes
            };
            tally.add(sealed as u64);
            Ok(sealed)
        })
    }
}

impl Write for TlsIo {
    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        if this.turn >= TURN_SIZE_BYTES {
            this.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut slices = slices.to_vec();
        let mut rest = slices.as_mut_slice();
        let mut taken = 0;
        let mut failed = None;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() && taken < TURN_SIZE_BYTES && failed.is_none() {
            // What was sealed before goes first, so that no more than one buffer of it is ever held.
            if !this.send_now()? {
                if taken > 0 {
                    break;
                }
                ready!(this.poll_send(cx))?;
            }
            let mut room = TLS_BUFFER_SIZE_BYTES_MAX;
            while room > 0 && !rest.is_empty() {
                match this.seal(rest, room) {
                    Ok(sealed) => {
                        IoSlice::advance_slices(&mut rest, sealed);
                        taken += sealed;
                        room = room.saturating_sub(sealed);
                    }
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
        }
        // What was taken counts; the error comes again with the next call.
        if let Some(error) = failed.filter(|_| taken == 0) {
            this.counters.note_failed_send(&error);
            return Poll::Ready(Err(error));
        }
        this.turn += taken;
        Poll::Ready(Ok(taken))
    }

    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if !this.closing {
            this.closing = true;
            this.tls.send_close_notify();
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

impl Read for TlsIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        this.turn = 0;
        loop {
            let mut reader = this.tls.reader();
            match reader.fill_buf() {
                Ok(plain) => {
                    let (plain, _) = plain.split_at(plain.len().min(buffer.remaining()));
                    this.pulse.read(plain);
                    buffer.put_slice(plain);
                    let count = plain.len();
                    reader.consume(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // HTTP says itself where its messages end: a missing close_notify hides nothing.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(this.poll_receive(cx))?;
            // Answers of TLS itself (a new key, an alert).
            if this.tls.wants_write() {
                this.send_now()?;
            }
        }
    }
}
