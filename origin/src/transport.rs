//! A plain TCP connection under hyper that sends file slices by `sendfile`: their bytes never enter this process.

use std::cell::Cell;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::arena::{Arena, Place, arena};
use crate::metrics::Counters;
use crate::pulse::Pulse;

/// Most bytes of one `sendfile`, and of one connection before others get their turn: a few tens of microseconds.
const TURN_SIZE_BYTES: usize = 1 << 20;
/// Bytes read at once where there is no `sendfile`.
const COPY_SIZE_BYTES: usize = 128 << 10;

/// The connection.
pub struct ZcIo {
    inner: TokioIo<Socket>,
    arena: Option<&'static Arena>,
    counters: Arc<Counters>,
    /// Bytes sent since the thread's other connections last had a turn.
    turn: usize,
    corked: Cell<bool>,
}

/// A socket whose reads are noted.
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    pub(crate) pulse: Rc<Pulse>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.pulse.part_with(&self.stream);
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        this.pulse.read(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl ZcIo {
    /// `stream`, counting into `counters` and noting in `pulse`.
    pub fn new(stream: TcpStream, counters: Arc<Counters>, pulse: Rc<Pulse>) -> ZcIo {
        ZcIo::over(Socket { stream, pulse }, counters)
    }

    /// Over `socket`, counting into `counters`.
    pub(crate) fn over(socket: Socket, counters: Arc<Counters>) -> ZcIo {
        ZcIo {
            inner: TokioIo::new(socket),
            arena: arena(),
            counters,
            turn: 0,
            corked: Cell::new(false),
        }
    }

    fn stream(&self) -> &TcpStream {
        &self.socket().stream
    }

    pub(crate) fn socket(&self) -> &Socket {
        self.inner.inner()
    }

    fn place<'a>(&self, slice: &'a [u8]) -> Option<(&'static Arena, Place<'a>)> {
        let arena = self.arena?;
        Some((arena, arena.file(slice)?))
    }

    /// Sends as much of `slices` as goes without waiting, about [`TURN_SIZE_BYTES`] at most; not 0 unless they are empty.
    fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize> {
        let (mut sent, mut rest) = (0, slices);
        while sent < TURN_SIZE_BYTES
            && let Some(first) = rest.first()
        {
            let (group, tried, count) = match self.place(first) {
                Some((arena, place)) => {
                    if rest.len() > 1 {
                        self.set_cork(true);
                    }
                    (1, self.send_file(arena, place, first), first.len())
                }
                None => {
                    let group = rest.iter().take_while(|slice| self.place(slice).is_none()).count();
                    let (memory, follows) = rest.split_at(group);
                    let count = memory.iter().map(|slice| slice.len()).sum();
                    (group, self.send_memory(memory, !follows.is_empty()), count)
                }
            };
            match tried {
                Ok(now) => sent += now,
                // What was sent counts; the error comes again with the next call.
                Err(_) if sent > 0 => return Ok(sent),
                Err(error) => return Err(error),
            }
            // What the socket did not take now waits for its next turn.
            if tried.is_ok_and(|now| now < count) {
                return Ok(sent);
            }
            rest = rest.get(group..).unwrap_or_default();
        }
        if rest.is_empty() {
            self.set_cork(false);
        }
        Ok(sent)
    }

    /// Whether the kernel holds back the last, partly filled packet. Without it every file slice would end in one.
    fn set_cork(&self, on: bool) {
        if self.corked.get() != on {
            self.corked.set(on);
            if let Err(error) = rustix::net::sockopt::set_tcp_cork(self.stream().as_fd(), on) {
                tracing::debug!(%error, "TCP_CORK could not be set");
            }
        }
    }

    fn send_memory(&self, slices: &[IoSlice<'_>], more: bool) -> Result<usize> {
        let mut flags = SendFlags::NOSIGNAL;
        flags.set(SendFlags::MORE, more);
        let mut control = SendAncillaryBuffer::default();
        let sent = rustix::net::sendmsg(self.stream().as_fd(), slices, &mut control, flags)?;
        self.counters.sent_memory_bytes.add(sent as u64);
        Ok(sent)
    }

    fn send_file(&self, arena: &Arena, place: Place<'_>, slice: &[u8]) -> Result<usize> {
        let want = slice.len().min(TURN_SIZE_BYTES);
        if !place.refused {
            let mut offset = place.offset;
            match rustix::fs::sendfile(self.stream().as_fd(), place.file, Some(&mut offset), want) {
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
        let sent = rustix::net::send(self.stream().as_fd(), copy, SendFlags::NOSIGNAL)?;
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
            let Socket { stream, pulse } = this.inner.inner();
            if stream.poll_write_ready(cx)?.is_pending() {
                pulse.blocked();
                this.turn = 0;
                return Poll::Pending;
            }
            // A short count leaves readiness as it is: the socket may be full, but the file may also have ended, and then
            // no event would ever come. The next call tells.
            let sent = pulse.tray().poll_send(cx, slices, |_, slices| {
                stream.try_io(Interest::WRITABLE, || this.send(slices))
            });
            match ready!(sent)? {
                Ok(sent) => {
                    pulse.wrote(sent);
                    this.turn += sent;
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    this.counters.note_failed_send(&error);
                    return Poll::Ready(Err(error));
                }
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
        Pin::new(&mut self.inner.inner_mut().stream).poll_shutdown(cx)
    }
}

impl Read for ZcIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<Result<()>> {
        // Small answers end here: the next request starts a new turn.
        self.turn = 0;
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Buf;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::arena::FileSlice;
    use crate::read::SourceFile;

    async fn pair() -> (ZcIo, TcpStream, Arc<Counters>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, connected) = tokio::join!(listener.accept(), connecting);
        let counters = Arc::new(Counters::default());
        (
            ZcIo::new(
                accepted.unwrap().0,
                counters.clone(),
                Rc::new(Pulse::new(std::time::Instant::now(), false)),
            ),
            connected.unwrap(),
            counters,
        )
    }

    fn file(name: &str, bytes: &[u8]) -> Arc<SourceFile> {
        let path = std::env::temp_dir().join(format!("headwater-transport-{name}-{}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let file = SourceFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        Arc::new(file)
    }

    /// Writes all of `slices`, as hyper does: the rest again after each count.
    async fn write_all(io: &mut ZcIo, slices: &mut Vec<FileSlice>, head: &mut &[u8]) -> Result<()> {
        while head.has_remaining() || !slices.is_empty() {
            let mut sent = std::future::poll_fn(|cx| {
                let heads = Some(*head).filter(|head| !head.is_empty()).into_iter();
                let vectors: Vec<_> = heads.chain(slices.iter().map(Buf::chunk)).map(IoSlice::new).collect();
                Pin::new(&mut *io).poll_write_vectored(cx, &vectors)
            })
            .await?;
            let of_head = sent.min(head.len());
            head.advance(of_head);
            sent -= of_head;
            while let Some(first) = slices.first_mut() {
                let of_first = sent.min(first.remaining());
                first.advance(of_first);
                sent -= of_first;
                if first.has_remaining() {
                    break;
                }
                slices.remove(0);
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn refused_files_are_copied() {
        let bytes: Vec<u8> = (0..3_000_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for refused in [false, true] {
            let (mut io, mut client, counters) = pair().await;
            let source = file(&format!("copied-{refused}"), &bytes);
            let mut slices: Vec<FileSlice> = [(5, 100_000), (1_000_001, 1_999_999), (0, 1)]
                .map(|(offset, size)| FileSlice::new(&source, offset, size).unwrap())
                .into();
            let mut want = b"head".to_vec();
            for (offset, size) in [(5, 100_000), (1_000_001, 1_999_999), (0, 1)] {
                want.extend_from_slice(&bytes[offset..offset + size]);
            }
            if refused {
                arena().unwrap().refuse(slices[0].chunk());
            }
            let writing = async {
                write_all(&mut io, &mut slices, &mut &b"head"[..]).await.unwrap();
                drop(io);
            };
            let mut got = Vec::new();
            let (_, read) = tokio::join!(writing, client.read_to_end(&mut got));
            read.unwrap();
            assert!(got == want, "refused: {refused}");
            let file_bytes = want.len() as u64 - 4;
            assert_eq!(counters.sent_memory_bytes.get(), 4);
            assert_eq!(counters.sent_file_bytes.get(), if refused { 0 } else { file_bytes });
            assert_eq!(counters.sent_copied_bytes.get(), if refused { file_bytes } else { 0 });
        }
    }

    #[tokio::test]
    async fn a_file_that_ended_is_an_error_not_a_wait() {
        for refused in [false, true] {
            let (mut io, _client, _) = pair().await;
            let source = file(&format!("ended-{refused}"), &[7; 1000]);
            let mut slices = vec![FileSlice::new(&source, 0, 1001).unwrap()];
            if refused {
                arena().unwrap().refuse(slices[0].chunk());
            }
            let error = write_all(&mut io, &mut slices, &mut &b"head"[..]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn a_file_without_a_name_in_memory_is_never_read_by_accident() {
        // A system call that is handed the bare slice refuses it: nothing is mapped there.
        let source = file("fault", &[7; 1000]);
        let slice = FileSlice::new(&source, 0, 1000).unwrap();
        let (_, client, _) = pair().await;
        let sent = rustix::net::send(&client, slice.chunk(), SendFlags::NOSIGNAL);
        assert_eq!(sent, Err(Errno::FAULT));
    }
}
