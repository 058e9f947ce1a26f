//! A TLS connection that the kernel seals and opens: what leaves plain sockets leaves it the same way, files by `sendfile`.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::ktls::{self, Control};
use crate::metrics::Counters;
use crate::tls_transport::RECORD_SIZE_BYTES;
use crate::transport::{Socket, ZcIo};

/// With one key so many records at most are sealed, then the connection ends politely: half of what AES-GCM
/// may seal (RFC 8446 5.5), 130 GB of media.
const RECORD_COUNT_MAX: u64 = 1 << 23;

/// The connection.
pub struct KernelIo {
    io: ZcIo,
    /// Records that were sealed, or more.
    record_count: u64,
    closing: bool,
}

impl KernelIo {
    /// Over `socket`, which was handed over just now, counting into `counters`.
    pub(crate) fn over(socket: Socket, counters: Arc<Counters>) -> KernelIo {
        KernelIo {
            io: ZcIo::over(socket, counters),
            record_count: 0,
            closing: false,
        }
    }

    fn stream(&self) -> &TcpStream {
        &self.io.socket().stream
    }
}

impl Write for KernelIo {
    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let sent = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, slices))?;
        // Each slice may begin a record.
        this.record_count += (sent / RECORD_SIZE_BYTES + slices.len()) as u64;
        if this.record_count >= RECORD_COUNT_MAX {
            this.io.socket().pulse.retire();
        }
        Poll::Ready(Ok(sent))
    }

    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        while !this.closing {
            let stream = this.stream();
            match stream.try_io(Interest::WRITABLE, || ktls::send_close_notify(stream.as_fd())) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready!(stream.poll_write_ready(cx))?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                told => {
                    // HTTP says itself where its messages end: whether this arrives is all the same.
                    if let Err(error) = told {
                        tracing::debug!(%error, "the end of a connection could not be told");
                    }
                    this.closing = true;
                }
            }
        }
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl Read for KernelIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        match ready!(Pin::new(&mut this.io).poll_read(cx, buffer)) {
            // A record that is not data; nothing of it was read.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                match ktls::receive_control(this.stream().as_fd())? {
                    Control::Closed => Poll::Ready(Ok(())),
                    Control::Alert(alert) => {
                        let what = format!("the client gave up with alert {alert}");
                        Poll::Ready(Err(Error::new(ErrorKind::ConnectionAborted, what)))
                    }
                    Control::Other(kind) => {
                        let what = format!("a record of type {kind}, which the kernel can not answer");
                        Poll::Ready(Err(Error::new(ErrorKind::InvalidData, what)))
                    }
                }
            }
            read => Poll::Ready(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::pulse::Pulse;

    #[tokio::test]
    async fn a_key_seals_so_much_and_no_more() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, _client) = tokio::join!(listener.accept(), connecting);
        let pulse = Rc::new(Pulse::new(std::time::Instant::now(), false));
        let socket = Socket {
            stream: accepted.unwrap().0,
            pulse: pulse.clone(),
        };
        let mut io = KernelIo {
            io: ZcIo::over(socket, Arc::default()),
            record_count: RECORD_COUNT_MAX - 3,
            closing: false,
        };
        for expected in [false, false, true] {
            let mut retired = false;
            let mut written = false;
            // Looks for orders before it is polled again.
            let write = std::future::poll_fn(|cx| {
                if std::mem::replace(&mut written, true) {
                    return Poll::Ready(());
                }
                assert!(Pin::new(&mut io).poll_write(cx, b"a record").is_ready());
                cx.waker().wake_by_ref();
                Poll::Pending
            });
            let driven = crate::pulse::drive(&pulse, Box::pin(write), |_| retired = true).await;
            assert!(driven.is_ok());
            assert_eq!(retired, expected);
        }
    }
}
