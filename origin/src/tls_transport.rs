//! A TLS connection under hyper: the handshake, after which the kernel goes on where it can (`ktls_transport`). Else it is
//! sealed here: file slices are read straight into what is sealed, one pass over media, and a slow client holds no more than
//! [`TLS_BUFFER_SIZE_BYTES_MAX`] of ciphertext.

use std::cell::RefCell;
use std::io::{BufRead, Error, ErrorKind, IoSlice, Result, Write as _};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::arena::{Arena, arena};
use crate::ktls::{self, Kernel};
use crate::ktls_transport::KernelIo;
use crate::limits::{TLS_BUFFER_SIZE_BYTES_MAX, TLS_FIRST_BUFFER_SIZE_BYTES_MAX, TLS_PROVEN_SIZE_BYTES};
use crate::metrics::Counters;
use crate::pulse::Pulse;
use crate::transport::Socket;

/// Plaintext of a TLS record (RFC 8446 5.1).
pub(crate) const RECORD_SIZE_BYTES: usize = 16 << 10;
/// Header of a TLS record, of which the last two bytes say how long the rest is.
const RECORD_HEADER_SIZE_BYTES: usize = 5;
/// Bytes that a connection may send before others get their turn: a few tens of microseconds of sealing.
const TURN_SIZE_BYTES: usize = 256 << 10;

thread_local! {
    /// Where plaintext is gathered, as much as is sent at once; only within one call. It stays in the core's own cache between
    /// being read and being sealed.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; TLS_BUFFER_SIZE_BYTES_MAX]);
}

/// A connection that is sealed here.
pub struct TlsIo {
    socket: Socket,
    tls: ServerConnection,
    arena: Option<&'static Arena>,
    counters: Arc<Counters>,
    turn: usize,
    closing: bool,
}

/// What came out of a handshake.
pub enum Shaken {
    /// Sealed by the kernel.
    Kernel(KernelIo),
    /// Sealed here.
    Here(Box<TlsIo>),
}

/// The socket as rustls wants it: an error where it would wait.
struct Wire<'a>(&'a TcpStream);

impl std::io::Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.try_read(buffer)
    }
}

/// The same, one record at a time: what comes behind the handshake is left for the kernel.
struct WireByRecord<'a> {
    stream: &'a TcpStream,
    at: &'a mut RecordPosition,
}

/// Where in a record a reader is.
#[derive(Default)]
struct RecordPosition {
    header: [u8; RECORD_HEADER_SIZE_BYTES],
    header_filled: usize,
    /// Bytes of the record that come yet.
    left: usize,
}

impl RecordPosition {
    /// Bytes that may be read now.
    fn room(&self) -> usize {
        match self.left {
            0 => RECORD_HEADER_SIZE_BYTES - self.header_filled,
            left => left,
        }
    }

    /// Notes that `bytes` were read, no more than there is room for.
    fn advance(&mut self, bytes: &[u8]) {
        if self.left > 0 {
            self.left = self.left.saturating_sub(bytes.len());
            return;
        }
        for (slot, byte) in self.header.iter_mut().skip(self.header_filled).zip(bytes) {
            *slot = *byte;
            self.header_filled += 1;
        }
        if self.header_filled == RECORD_HEADER_SIZE_BYTES {
            let [.., high, low] = self.header;
            (self.left, self.header_filled) = (usize::from(u16::from_be_bytes([high, low])), 0);
        }
    }

    fn is_between(&self) -> bool {
        self.left == 0 && self.header_filled == 0
    }
}

impl std::io::Read for WireByRecord<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let room = self.at.room().min(buffer.len());
        let (buffer, _) = buffer.split_at_mut(room);
        let count = self.stream.try_read(buffer)?;
        self.at.advance(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl std::io::Write for Wire<'_> {
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

impl TlsIo {
    /// Shakes hands over `stream` as `config` says, and hands the connection to `kernel` where that knows its cipher. Never
    /// ends by itself when the client sends nothing.
    pub async fn accept(
        stream: TcpStream,
        config: Arc<ServerConfig>,
        kernel: Option<&Kernel>,
        counters: Arc<Counters>,
        pulse: Rc<Pulse>,
    ) -> Result<Shaken> {
        let mut tls = ServerConnection::new(config).map_err(Error::other)?;
        // Bounded by whoever writes: rustls would cut records to fit its own limit.
        tls.set_buffer_limit(None);
        let mut io = TlsIo {
            socket: Socket { stream, pulse },
            tls,
            arena: arena(),
            counters,
            turn: 0,
            closing: false,
        };
        let mut position = kernel.map(|_| RecordPosition::default());
        while io.tls.is_handshaking() {
            std::future::poll_fn(|cx| io.poll_send(cx)).await?;
            if io.tls.is_handshaking() && std::future::poll_fn(|cx| io.poll_receive(cx, position.as_mut())).await? == 0
            {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        // Tickets go with the first answer if the socket is full now.
        let all_sent = io.send_now()?;
        io.socket.pulse.shaken();
        let between = position.is_some_and(|position| position.is_between());
        match kernel.filter(|kernel| all_sent && between && io.fits(kernel)) {
            Some(_) => io.hand_over(),
            None => Ok(Shaken::Here(Box::new(io))),
        }
    }

    fn fits(&self, kernel: &Kernel) -> bool {
        self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
            && self
                .tls
                .negotiated_cipher_suite()
                .is_some_and(|suite| kernel.knows(suite))
    }

    /// Lets the kernel go on. Where it does not take the socket at all, nothing has changed; after that there is no way back.
    fn hand_over(self) -> Result<Shaken> {
        if let Err(error) = ktls::attach(self.socket.stream.as_fd()) {
            tracing::debug!(%error, "the kernel does not take this connection");
            return Ok(Shaken::Here(Box::new(self)));
        }
        let TlsIo {
            socket, tls, counters, ..
        } = self;
        let secrets = tls.dangerous_extract_secrets().map_err(Error::other)?;
        ktls::hand_over(socket.stream.as_fd(), &secrets)?;
        counters.tls_kernel.add(1);
        Ok(Shaken::Kernel(KernelIo::over(socket, counters)))
    }

    /// Sends what is sealed, until all of it is gone or the socket is full.
    fn send_now(&mut self) -> Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Wire(&self.socket.stream)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => self.socket.pulse.wrote(sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while !self.send_now()? {
            if self.socket.stream.poll_write_ready(cx)?.is_pending() {
                self.socket.pulse.blocked();
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Receives and opens what is there; 0 at the end. One record at a time with its `position`.
    fn poll_receive(&mut self, cx: &mut Context<'_>, mut position: Option<&mut RecordPosition>) -> Poll<Result<usize>> {
        let stream = &self.socket.stream;
        loop {
            let read = match position.as_deref_mut() {
                Some(at) => self.tls.read_tls(&mut WireByRecord { stream, at }),
                None => self.tls.read_tls(&mut Wire(stream)),
            };
            match read {
                Ok(count) => {
                    if let Err(error) = self.tls.process_new_packets() {
                        // The alert says why; whether it arrives is all the same.
                        let _told = self.send_now();
                        return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, error)));
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready!(stream.poll_read_ready(cx))?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Seals the front of `slices`, which is not empty, `room` at most; how much of them, never 0.
    fn seal(&mut self, slices: &[IoSlice<'_>], room: usize) -> Result<usize> {
        // A long piece of memory need not be copied.
        if let Some(first) = slices.first().filter(|first| first.len() >= RECORD_SIZE_BYTES)
            && self.arena.is_none_or(|arena| arena.file(first).is_none())
        {
            let (first, _) = first.split_at(first.len().min(room));
            let sealed = self.tls.writer().write(first)?;
            self.counters.sent_memory_bytes.add(sealed as u64);
            return Ok(sealed);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let (scratch, _) = scratch.split_at_mut(room.min(TLS_BUFFER_SIZE_BYTES_MAX));
            let (mut filled, mut of_files) = (0, 0);
            for slice in slices {
                let Some(room) = scratch.get_mut(filled..).filter(|room| !room.is_empty()) else {
                    break;
                };
                let size = slice.len().min(room.len());
                let (room, _) = room.split_at_mut(size);
                match self.arena.and_then(|arena| arena.file(slice)) {
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

impl TlsIo {
    /// Seals and sends as much of `slices` as goes without waiting.
    fn poll_seal(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let mut slices = slices.to_vec();
        let mut rest = slices.as_mut_slice();
        let mut taken = 0;
        let mut failed = None;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() && taken < TURN_SIZE_BYTES && failed.is_none() {
            // What was sealed before goes first, so that no more than one buffer of it is ever held.
            if !self.send_now()? {
                if taken > 0 {
                    break;
                }
                ready!(self.poll_send(cx))?;
            }
            let mut room = match self.socket.pulse.written() < TLS_PROVEN_SIZE_BYTES {
                true => TLS_FIRST_BUFFER_SIZE_BYTES_MAX,
                false => TLS_BUFFER_SIZE_BYTES_MAX,
            };
            while room > 0 && !rest.is_empty() {
                match self.seal(rest, room) {
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
            self.counters.note_failed_send(&error);
            return Poll::Ready(Err(error));
        }
        self.turn += taken;
        Poll::Ready(Ok(taken))
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
        // Nothing is made for a socket that is full.
        ready!(this.poll_send(cx))?;
        let tray = this.socket.pulse.tray().clone();
        ready!(tray.poll_send(cx, slices, |cx, slices| this.poll_seal(cx, slices)))?
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
        Pin::new(&mut this.socket.stream).poll_shutdown(cx)
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
                    this.socket.pulse.read(plain);
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
            ready!(this.poll_receive(cx, None))?;
            // Answers of TLS itself (a new key, an alert).
            if this.tls.wants_write() {
                this.send_now()?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_reads_beyond_a_record() {
        let records: [&[u8]; 4] = [
            b"\x16\x03\x01\x00\x03abc",
            b"\x14\x03\x03\x00\x00",
            b"\x17\x03\x03\x01\x02",
            &[9; 258],
        ];
        let bytes = records.concat();
        for step in [1, 2, 3, 5, 1_000] {
            let (mut position, mut at, mut ends) = (RecordPosition::default(), 0, Vec::new());
            while at < bytes.len() {
                let size = position.room().min(step).min(bytes.len() - at);
                assert!(size > 0);
                position.advance(&bytes[at..at + size]);
                at += size;
                if position.is_between() {
                    ends.push(at);
                }
            }
            assert_eq!(ends, [8, 13, 276], "{step} at a time");
        }
    }
}
