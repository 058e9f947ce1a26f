//! The body of an answer under hyper: pieces in order, file ranges read ahead of the socket by one buffer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::content::{Piece, Pieces};
use crate::read::SourceFile;

/// Bytes read at once: small enough that a slow reader holds little, large enough that a read costs less than its call.
const READ_SIZE_BYTES: u64 = 256 << 10;

/// An answer's body. Its length is exact from the start.
pub struct Body {
    pieces: Pieces,
    current: Option<Piece>,
    reading: Option<JoinHandle<std::io::Result<Bytes>>>,
    remaining: u64,
}

impl Body {
    /// A body of `pieces`.
    pub fn new(pieces: Pieces) -> Body {
        Body {
            remaining: pieces.remaining(),
            pieces,
            current: None,
            reading: None,
        }
    }

    /// A body held in memory.
    pub fn memory(bytes: Bytes) -> Body {
        let size = bytes.len() as u64;
        Body::new(crate::content::Content::from(bytes).range(0..size))
    }

    /// No bytes at all.
    pub fn empty() -> Body {
        Body::memory(Bytes::new())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(reading) = &mut this.reading {
                let read = std::task::ready!(Pin::new(reading).poll(cx));
                this.reading = None;
                let bytes = read.map_err(std::io::Error::other).flatten();
                return Poll::Ready(Some(bytes.map(|bytes| {
                    this.remaining -= bytes.len() as u64;
                    Frame::data(bytes)
                })));
            }
            match this.current.take().or_else(|| this.pieces.next()) {
                None => return Poll::Ready(None),
                Some(Piece::Memory(bytes)) if bytes.is_empty() => {}
                Some(Piece::Memory(bytes)) => {
                    this.remaining -= bytes.len() as u64;
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Piece::File { file, offset, size }) => {
                    let now = size.min(READ_SIZE_BYTES);
                    if size > now {
                        this.current = Some(Piece::File {
                            file: file.clone(),
                            offset: offset + now,
                            size: size - now,
                        });
                    }
                    this.reading = Some(tokio::task::spawn_blocking(move || read(&file, offset, now as usize)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

fn read(file: &Arc<SourceFile>, offset: u64, size: usize) -> std::io::Result<Bytes> {
    let mut buffer = vec![0; size];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(Bytes::from(buffer))
}
