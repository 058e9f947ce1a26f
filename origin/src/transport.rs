//! A plain TCP connection under hyper that sends file slices by `sendfile`: their bytes never enter this process.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::arena::{Arena, Place, arena};
use crate::metrics::Counters;

/// Most bytes of one `sendfile`, and of one connection before others get their turn: a few tens of microseconds.
const TURN_SIZE_BYTES: usize = 1 << 20;
/// Bytes read at once where there is no `sendfile`.
const COPY_SIZE_BYTES: usize = 128 << 10;

/// The connection.
pub struct ZcIo {
    inner: TokioIo<TcpStream>,
    arena: Option<&'static Arena>,
    counters: Arc<Counters>,
    /// Bytes sent since the thread's other connections last had a turn.
    turn: usize,
}

impl ZcIo {
    /// `stream`, counting into `counters`.
    pub fn new(stream: TcpStream, counters: Arc<Counters>) -> ZcIo {
        ZcIo {
            inner: TokioIo::new(stream),
            arena: arena(),
            counters,
            turn: 0,
        }
    }

    fn place<'a>(&self, slice: &'a [u8]) -> Option<(&'static Arena, Place<'a>)> {
        let arena = self.arena?;
        Some((arena, arena.lookup(slice)?))
    }

    /// Sends as much of `slices` as goes without waiting; not 0 unless they are empty.
    fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize> {
        let memory = slices.iter().take_while(|slice| self.place(slice).is_none()).count();
        let (memory, rest) = slices.split_at(memory);
        let sent = match memory {
            [] => 0,
            memory => {
                let sent = self.send_memory(memory, !rest.is_empty())?;
                // What the socket did not take now waits for its next turn.
                if sent < memory.iter().map(|slice| slice.len()).sum() {
                    return Ok(sent);
                }
                sent
            }
        };
        match rest.first().and_then(|slice| Some((slice, self.place(slice)?))) {
            None => Ok(sent),
            Some((slice, (arena, place))) => match self.send_file(arena, place, slice) {
                Ok(count) => Ok(sent + count),
                // What was sent counts; the error comes again with the next call.
                Err(_) if sent > 0 => Ok(sent),
                Err(error) => Err(error),
            },
        }
    }

    fn send_memory(&self, slices: &[IoSlice<'_>], more: bool) -> Result<usize> {
        let mut flags = SendFlags::NOSIGNAL;
        flags.set(SendFlags::MORE, more);
        let mut control = SendAncillaryBuffer::default();
        let sent = rustix::net::sendmsg(self.inner.inner().as_fd(), slices, &mut control, flags)?;
        self.counters.sent_memory_bytes.add(sent as u64);
        Ok(sent)
    }

    fn send_file(&self, arena: &Arena, place: Place<'_>, slice: &[u8]) -> Result<usize> {
        let want = slice.len().min(TURN_SIZE_BYTES);
        if !place.refused {
            let mut offset = place.offset;
            match rustix::fs::sendfile(self.inner.inner().as_fd(), place.file, Some(&mut offset), want) {
                // The length was promised: all that is left is to end the connection early.
                Ok(0) => {
                    return Err(Error::new(
                        ErrorKind::UnexpectedEof,
                        "the file was cut short while it was sent",
                    ));
                }
                Ok(sent) => {
                    self.counters.sent_file_bytes.add(sent as u64);
                    return Ok(sent);
                }
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    tracing::debug!("the file system has no sendfile: copying");
                    arena.refuse(slice);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut copy = vec![0; want.min(COPY_SIZE_BYTES)];
        let read = rustix::io::pread(place.file, &mut copy, place.offset)?;
        let (copy, _) = copy.split_at(read.min(want));
        if copy.is_empty() {
            return Err(Error::new(
                ErrorKind::UnexpectedEof,
                "the file was cut short while it was sent",
            ));
        }
        let sent = rustix::net::send(self.inner.inner().as_fd(), copy, SendFlags::NOSIGNAL)?;
        self.counters.sent_copied_bytes.add(sent as u64);
        Ok(sent)
    }
}

impl Write for ZcIo {
    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        if this.turn >= TURN_SIZE_BYTES {
            this.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let stream = this.inner.inner();
            if stream.poll_write_ready(cx)?.is_pending() {
                this.turn = 0;
                return Poll::Pending;
            }
            // A short count leaves readiness as it is: the socket may be full, but the file may also have ended, and then
            // no event would ever come. The next call tells.
            match stream.try_io(Interest::WRITABLE, || this.send(slices)) {
                Ok(sent) => {
                    this.turn += sent;
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}

impl Read for ZcIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<Result<()>> {
        // Small answers end here: the next request starts a new turn.
        self.turn = 0;
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}
