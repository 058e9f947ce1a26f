//! The body of an answer under hyper: pieces in order, file ranges as slices for `sendfile` or read ahead of the socket.

use std::convert::Infallible;
use std::future::Future;
use std::io::{ErrorKind, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use packager::index::Extent;
use packager::source::ReadAt;
use tokio::sync::oneshot;

use crate::arena::FileSlice;
use crate::content::{Made, Piece, Pieces, Reading};
use crate::fetch;
use crate::metrics::Counters;
use crate::paging::Gate;
use crate::read::SourceFile;
use crate::tray::{Tray, TraySlice};

/// Bytes read at once for HTTP/1: small enough that a slow reader holds little, large enough that a read costs less than
/// its call.
pub(crate) const READ_SIZE_BYTES: u64 = 256 << 10;
/// The same for HTTP/2: what one answer may have waiting for its client's window.
pub(crate) const STREAM_READ_SIZE_BYTES: u64 = 128 << 10;
/// What is read first for HTTP/2, and twice as much each time after: a client may ask for a hundred answers at once and
/// read none of them. A frame of the usual size.
pub(crate) const STREAM_FIRST_READ_SIZE_BYTES: u64 = 16 << 10;
/// Of a long file range so much is made sure to be in memory and sent before more is looked at.
pub(crate) const WINDOW_SIZE_BYTES: u64 = 4 << 20;

/// How bodies of one kind of connection are delivered.
#[derive(Clone)]
pub struct Delivery {
    /// File ranges of at least this size go by `sendfile`; `None` where bytes are looked at (HTTP/2).
    pub sendfile_size_bytes_min: Option<u64>,
    /// Bytes of file ranges that are read at once, at most.
    pub read_size_bytes: u64,
    /// Bytes that are read first of an answer, twice as many each time after.
    pub first_read_size_bytes: u64,
    /// Nothing is read while what was read before has not gone: of the many answers that a connection may have at once,
    /// each holds no more than it is about to send.
    pub one_read_at_a_time: bool,
    /// Keeps cold files from stopping the thread.
    pub gate: Arc<Gate>,
    /// Counts what is read.
    pub counters: Arc<Counters>,
}

/// Some bytes of a body.
pub enum Chunk {
    /// In memory.
    Memory(Bytes),
    /// In a file.
    File(FileSlice),
    /// On the connection's tray.
    Tray(TraySlice),
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        match self {
            Chunk::Memory(bytes) => bytes.len(),
            Chunk::File(slice) => slice.remaining(),
            Chunk::Tray(slice) => slice.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Chunk::Memory(bytes) => bytes,
            Chunk::File(slice) => slice.chunk(),
            Chunk::Tray(slice) => slice.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match slices.first_mut() {
            Some(first) if self.has_remaining() => {
                *first = IoSlice::new(self.chunk());
                1
            }
            _ => 0,
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Chunk::Memory(bytes) => bytes.advance(count.min(bytes.len())),
            Chunk::File(slice) => slice.advance(count),
            Chunk::Tray(slice) => slice.advance(count),
        }
    }
}

/// What was waited for.
enum Got {
    /// A file range that is in memory now.
    Resident(FileSlice),
    /// What was read.
    Read(Reading, Bytes),
}

/// Something that must be waited for before the next bytes can go.
type Waiting = Pin<Box<dyn Future<Output = std::io::Result<Got>> + Send>>;

/// Bytes that an answer read, as long as they have not gone.
struct Unsent {
    bytes: Bytes,
    _gone: oneshot::Sender<Infallible>,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An answer's body. Its length is exact from the start.
pub struct Body {
    pieces: Pieces,
    current: Option<Piece>,
    waiting: Option<Waiting>,
    /// Closed when what was read last has gone.
    going: Option<oneshot::Receiver<Infallible>>,
    /// File (its address) and range that were found or read into the page cache.
    resident: Option<(usize, Range<u64>)>,
    remaining: u64,
    /// Bytes to read next.
    read_size_bytes: u64,
    delivery: Option<Arc<Delivery>>,
    /// Of the connection that it goes out on.
    tray: Option<Rc<Tray>>,
}

impl Body {
    /// A body of `pieces`.
    pub fn new(pieces: Pieces, delivery: &Arc<Delivery>) -> Body {
        Body {
            remaining: pieces.remaining(),
            pieces,
            current: None,
            waiting: None,
            going: None,
            resident: None,
            read_size_bytes: delivery.first_read_size_bytes,
            delivery: Some(delivery.clone()),
            tray: None,
        }
    }

    /// Goes out on the connection of `tray`, which lets go of what is not sent.
    pub fn carry_on(&mut self, tray: &Rc<Tray>) {
        if self.delivery.is_some() {
            tray.watch(self.pieces.let_go());
            self.tray = Some(tray.clone());
        }
    }

    /// A body held in memory.
    pub fn memory(bytes: Bytes) -> Body {
        let size = bytes.len() as u64;
        let pieces = crate::content::Content::from(bytes).range(0..size);
        Body {
            remaining: size,
            pieces,
            current: None,
            waiting: None,
            going: None,
            resident: None,
            read_size_bytes: 0,
            delivery: None,
            tray: None,
        }
    }

    /// No bytes at all.
    pub fn empty() -> Body {
        Body::memory(Bytes::new())
    }

    /// True while files are read for what comes next. Else a body that is not ready waits for its client.
    pub fn is_reading(&self) -> bool {
        self.waiting.is_some()
    }

    /// Notes that the answer ends here, with `error`.
    fn cut_short(&self, error: std::io::Error) -> std::io::Error {
        if let Some(delivery) = &self.delivery {
            delivery.counters.note_cut_short(&error);
        }
        error
    }

    fn next_piece(&mut self) -> Option<Piece> {
        self.current.take().or_else(|| self.pieces.next())
    }

    /// The next bytes, if they are at hand; else starts waiting for them. `None` at the end.
    fn advance(&mut self) -> Option<Step> {
        loop {
            let (file, offset, size) = match self.next_piece()? {
                Piece::Memory(bytes) if bytes.is_empty() => continue,
                Piece::Memory(bytes) => return Some(Step::Chunk(Chunk::Memory(bytes))),
                Piece::Made(made) if made.range.is_empty() => continue,
                Piece::Made(made) => {
                    let delivery = self.delivery.clone()?;
                    return Some(match made.take_ready() {
                        Some(bytes) => Step::Chunk(self.chunk(&delivery, Reading::Made(made), bytes)),
                        None => self.read(delivery, Reading::Made(made)),
                    });
                }
                Piece::File { file, offset, size } => (file, offset, size),
            };
            // Only answers made of memory alone have no delivery.
            let delivery = self.delivery.clone()?;
            if delivery.sendfile_size_bytes_min.is_some_and(|least| size >= least) {
                let now = size.min(WINDOW_SIZE_BYTES);
                if let Some(slice) = FileSlice::new(&file, offset, now) {
                    self.keep_rest(&file, offset, size, now);
                    return Some(self.send(&delivery, slice, offset, now));
                }
            }
            let at_once = self.read_size_bytes;
            self.read_size_bytes = at_once.saturating_mul(2).min(delivery.read_size_bytes);
            let now = size.min(at_once);
            self.keep_rest(&file, offset, size, now);
            return Some(self.gather(delivery, file, offset, now, at_once));
        }
    }

    fn keep_rest(&mut self, file: &Arc<SourceFile>, offset: u64, size: u64, taken: u64) {
        if size > taken {
            self.current = Some(Piece::File {
                file: file.clone(),
                offset: offset + taken,
                size: size - taken,
            });
        }
    }

    /// Reads a file range that is too short for `sendfile`, and as many like it as follow, into one buffer of at most
    /// `at_once` bytes.
    fn gather(&mut self, delivery: Arc<Delivery>, file: Arc<SourceFile>, offset: u64, size: u64, at_once: u64) -> Step {
        let mut extents = vec![Extent { offset, size }];
        let mut total = size;
        let least = delivery.sendfile_size_bytes_min.unwrap_or(u64::MAX);
        while let Some(piece) = self.next_piece() {
            match piece {
                Piece::File { file: of, offset, size }
                    if Arc::ptr_eq(&of, &file) && size < least && total + size <= at_once =>
                {
                    total += size;
                    extents.push(Extent { offset, size });
                }
                piece => {
                    self.current = Some(piece);
                    break;
                }
            }
        }
        self.read(delivery, Reading::Ranges { file, extents })
    }

    /// Reads `reading` and makes of it what is sent, in one pass, while it is in the core's cache; waiting where it is cold.
    fn read(&mut self, delivery: Arc<Delivery>, reading: Reading) -> Step {
        let sources = reading.sources();
        let (buffer, filled) = fetch::cached_of(&sources);
        delivery.counters.read_bytes.add(filled as u64);
        let reach = self.remaining.min(WINDOW_SIZE_BYTES);
        // Where the first file is known to be in memory, so are the others.
        let known = sources.first().is_some_and(|(file, extents)| {
            let end = extents.iter().map(|extent| extent.offset + extent.size).max();
            let address = Arc::as_ptr(file).addr();
            let known = self.resident.as_ref();
            let known = known.is_some_and(|(file, range)| *file == address && end <= Some(range.end));
            if !known {
                self.resident = Some((address, fetch::span(extents, reach, file)));
            }
            known
        });
        if filled == buffer.len() {
            for (file, extents) in sources.iter().filter(|_| !known) {
                delivery.gate.advise_next(file, &fetch::span(extents, reach, file));
            }
            return match reading.finish(buffer) {
                Ok(bytes) => Step::Chunk(self.chunk(&delivery, reading, bytes)),
                Err(error) => Step::Failed(error),
            };
        }
        let wanted = fetch::wanted(&sources, reach);
        Step::Wait(Box::pin(async move {
            let gate = delivery.gate.clone();
            let windows: Vec<_> = wanted
                .iter()
                .map(|one| (one.file.clone(), one.window.clone()))
                .collect();
            let buffer = fetch::waiting(delivery, wanted, filled, buffer).await?;
            for (file, window) in windows {
                gate.advise_next(&file, &window);
            }
            let bytes = reading.finish(buffer)?;
            Ok(Got::Read(reading, bytes))
        }))
    }

    /// `bytes`, which `reading` came to, as they are handed over.
    fn chunk(&mut self, delivery: &Arc<Delivery>, reading: Reading, bytes: Bytes) -> Chunk {
        if !delivery.one_read_at_a_time {
            return match &self.tray {
                Some(tray) => tray.lay(delivery, reading, bytes).unwrap_or_else(Chunk::Memory),
                None => Chunk::Memory(bytes),
            };
        }
        let bytes = match reading {
            Reading::Made(made) => self.first_of(delivery, &made, bytes),
            Reading::Ranges { .. } => bytes,
        };
        let (gone, going) = oneshot::channel();
        self.going = Some(going);
        Chunk::Memory(Bytes::from_owner(Unsent { bytes, _gone: gone }))
    }

    /// So much of a part that an answer may hold by now, as bytes of their own; the rest is let go if it is not sent soon.
    fn first_of(&mut self, delivery: &Delivery, made: &Made, bytes: Bytes) -> Bytes {
        let at_once = self.read_size_bytes;
        self.read_size_bytes = at_once.saturating_mul(2).min(delivery.read_size_bytes);
        let now = usize::try_from(at_once).unwrap_or(usize::MAX);
        if at_once >= delivery.read_size_bytes || bytes.len() <= now {
            return bytes;
        }
        let first = Bytes::copy_from_slice(bytes.get(..now).unwrap_or_default());
        let rest = made.rest(at_once, bytes);
        if let Some(tray) = &self.tray {
            tray.watch(rest.ready.let_go());
        }
        self.current = Some(Piece::Made(rest));
        first
    }

    /// A file range for `sendfile`, once it is in memory.
    fn send(&mut self, delivery: &Arc<Delivery>, slice: FileSlice, offset: u64, size: u64) -> Step {
        let sure = self.resident.as_ref();
        let address = Arc::as_ptr(slice.file()).addr();
        if sure.is_some_and(|(file, range)| *file == address && range.start <= offset && offset + size <= range.end) {
            return Step::Chunk(Chunk::File(slice));
        }
        // Where samples of several tracks lie in turn, what follows is looked up together: the answer's own measure.
        let reach = self.remaining.clamp(size, WINDOW_SIZE_BYTES);
        let end = offset.saturating_add(reach).min(slice.file().size()).max(offset + size);
        let range = offset..end;
        self.resident = Some((address, range.clone()));
        let gate = &delivery.gate;
        if gate.is_resident(slice.file(), &range) {
            gate.advise_next(slice.file(), &range);
            return Step::Chunk(Chunk::File(slice));
        }
        delivery.counters.cold_bytes.add(range.end - range.start);
        let gate = gate.clone();
        Step::Wait(Box::pin(async move {
            let file = slice.file().clone();
            gate.fill(file.clone(), range.clone()).await?;
            gate.advise_next(&file, &range);
            Ok(Got::Resident(slice))
        }))
    }
}

enum Step {
    Chunk(Chunk),
    Wait(Waiting),
    Failed(std::io::Error),
}

impl http_body::Body for Body {
    type Data = Chunk;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, std::io::Error>>> {
        let this = self.get_mut();
        if this.waiting.is_none() {
            if let Some(going) = &mut this.going {
                // Nothing ever comes: it is over when the bytes are.
                let Err(_gone) = std::task::ready!(Pin::new(going).poll(cx));
                this.going = None;
            }
            match this.advance() {
                None if this.remaining == 0 => return Poll::Ready(None),
                // The length was promised: an end without an error would pass for a whole answer in HTTP/2.
                None => return Poll::Ready(Some(Err(this.cut_short(ErrorKind::UnexpectedEof.into())))),
                Some(Step::Chunk(chunk)) => {
                    this.remaining = this.remaining.saturating_sub(chunk.remaining() as u64);
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
                }
                Some(Step::Wait(waiting)) => this.waiting = Some(waiting),
                Some(Step::Failed(error)) => return Poll::Ready(Some(Err(this.cut_short(error)))),
            }
        }
        let Some(waiting) = &mut this.waiting else {
            return Poll::Ready(None);
        };
        let waited = std::task::ready!(waiting.as_mut().poll(cx));
        this.waiting = None;
        Poll::Ready(Some(match waited {
            Ok(got) => {
                let chunk = match (got, this.delivery.clone()) {
                    (Got::Resident(slice), _) => Chunk::File(slice),
                    (Got::Read(reading, bytes), Some(delivery)) => this.chunk(&delivery, reading, bytes),
                    (Got::Read(_, bytes), None) => Chunk::Memory(bytes),
                };
                this.remaining = this.remaining.saturating_sub(chunk.remaining() as u64);
                Ok(Frame::data(chunk))
            }
            Err(error) => Err(this.cut_short(error)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::task::Waker;

    use http_body::Body as _;
    use http_body_util::BodyExt;

    use super::*;
    use crate::content::{Content, Layout, Maker, Ready};
    use crate::paging::{Fill, Probe};
    use crate::pool::Buffer;

    /// A segment of three parts, of which one can not be had.
    struct Broken {
        file: Arc<SourceFile>,
        extents: Vec<Extent>,
        how: How,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum How {
        Not,
        Making,
        Missing,
        Reading,
    }

    impl Maker for Broken {
        fn source_count(&self) -> usize {
            1
        }
        fn source(&self, part: usize, _source: usize) -> Option<(&Arc<SourceFile>, &[Extent])> {
            Some((&self.file, self.extents.get(part..part + 1)?))
        }
        fn make(&self, part: usize, mut media: Buffer) -> std::io::Result<Buffer> {
            media.fill(part as u8);
            match self.how == How::Making && part == 1 {
                true => Err(std::io::Error::other("no such key")),
                false => Ok(media),
            }
        }
    }

    impl Layout for Broken {
        fn size(&self) -> u64 {
            3_000
        }
        fn section_count(&self) -> usize {
            3
        }
        fn section_at(&self, offset: u64) -> (usize, u64) {
            ((offset / 1_000) as usize, offset / 1_000 * 1_000)
        }
        fn section(self: Arc<Self>, part: usize) -> Vec<Piece> {
            if self.how == How::Missing && part == 1 {
                return Vec::new();
            }
            vec![Piece::Made(Made {
                maker: self,
                part,
                range: 0..1_000,
                ready: Ready::default(),
            })]
        }
    }

    pub(crate) fn delivery(first_read_size_bytes: u64, read_size_bytes: u64) -> Arc<Delivery> {
        Arc::new(Delivery {
            sendfile_size_bytes_min: None,
            read_size_bytes,
            first_read_size_bytes,
            one_read_at_a_time: first_read_size_bytes < read_size_bytes,
            gate: Arc::new(Gate::new(Probe::Cachestat, Fill::Pool, 4)),
            counters: Arc::default(),
        })
    }

    #[tokio::test]
    async fn what_ends_early_is_an_error_and_counted() {
        let path = std::env::temp_dir().join(format!("headwater-body-{}", std::process::id()));
        std::fs::write(&path, [7; 3_000]).unwrap();
        for how in [How::Not, How::Making, How::Missing, How::Reading] {
            let file = Arc::new(SourceFile::open(&path).unwrap());
            let extents = (0..3).map(|part| Extent {
                // A file that is shorter than it was.
                offset: if how == How::Reading {
                    part * 1_400
                } else {
                    part * 1_000
                },
                size: 1_000,
            });
            let broken = Arc::new(Broken {
                file,
                extents: extents.collect(),
                how,
            });
            let delivery = delivery(READ_SIZE_BYTES, READ_SIZE_BYTES);
            let mut body = Body::new(Content::Virtual(broken).range(500..2_900), &delivery);
            let (mut got, mut failed) = (Vec::new(), false);
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => got.extend_from_slice(frame.data_ref().unwrap().chunk()),
                    Err(_) => {
                        failed = true;
                        break;
                    }
                }
            }
            let mut whole = vec![0; 500];
            whole.extend([1; 1_000]);
            whole.extend([2; 900]);
            assert!(whole.starts_with(&got), "{how:?}");
            assert_eq!(failed, how != How::Not, "{how:?}");
            assert_eq!(failed, got.len() < whole.len(), "{how:?}");
            assert_eq!(delivery.counters.cut_short.get(), u64::from(failed), "{how:?}");
            assert_eq!(http_body::Body::is_end_stream(&body), !failed, "{how:?}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn parts_to_nobody_hold_little_and_are_made_again() {
        let path = std::env::temp_dir().join(format!("headwater-body-parts-{}", std::process::id()));
        let whole: Vec<u8> = (0u32..).flat_map(u32::to_le_bytes).take(300 << 10).collect();
        std::fs::write(&path, &whole).unwrap();
        let file = Arc::new(SourceFile::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        // Parts of 100 KiB, by HTTP/2.
        let maker = Arc::new(AsItIs(file));
        let piece = |part: usize| {
            Piece::Made(Made {
                maker: maker.clone(),
                part,
                range: 0..100 << 10,
                ready: Ready::default(),
            })
        };
        let delivery = delivery(STREAM_FIRST_READ_SIZE_BYTES, STREAM_READ_SIZE_BYTES);
        for stands_still in [false, true] {
            let tray = Rc::new(Tray::default());
            let mut body = Body::new(
                Content::Pieces((0..3).map(piece).collect()).range(0..300 << 10),
                &delivery,
            );
            body.carry_on(&tray);
            let (mut sizes, mut got) = (Vec::new(), Vec::new());
            let before = delivery.counters.read_bytes.get();
            while let Some(frame) = body.frame().await {
                let frame = frame.unwrap();
                if stands_still {
                    tray.put_down();
                }
                let chunk = frame.data_ref().unwrap().chunk();
                sizes.push(chunk.len() >> 10);
                got.extend_from_slice(chunk);
            }
            assert!(got == whole);
            assert_eq!(sizes, [16, 32, 52, 100, 100]);
            // The first part was made once, or once for each of its frames.
            let read = (delivery.counters.read_bytes.get() - before) >> 10;
            assert_eq!(read, if stands_still { 500 } else { 300 });
        }
    }

    /// Parts of 100 KiB, as they lie in the file.
    struct AsItIs(Arc<SourceFile>);

    impl Maker for AsItIs {
        fn source_count(&self) -> usize {
            1
        }
        fn source(&self, part: usize, _source: usize) -> Option<(&Arc<SourceFile>, &[Extent])> {
            const fn at(part: u64) -> Extent {
                Extent {
                    offset: part * (100 << 10),
                    size: 100 << 10,
                }
            }
            const PARTS: [Extent; 3] = [at(0), at(1), at(2)];
            Some((&self.0, PARTS.get(part..part + 1)?))
        }
        fn make(&self, _part: usize, media: Buffer) -> std::io::Result<Buffer> {
            Ok(media)
        }
    }

    #[tokio::test]
    async fn answers_to_nobody_hold_little() {
        let path = std::env::temp_dir().join(format!("headwater-body-first-{}", std::process::id()));
        let whole: Vec<u8> = (0u32..).flat_map(u32::to_le_bytes).take(200 << 10).collect();
        std::fs::write(&path, &whole).unwrap();
        let file = Arc::new(SourceFile::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        let delivery = delivery(STREAM_FIRST_READ_SIZE_BYTES, STREAM_READ_SIZE_BYTES);
        // In one piece, and in many small ones.
        for piece_size in [200_u64 << 10, 4 << 10] {
            let piece = |at| Piece::File {
                file: file.clone(),
                offset: at * piece_size,
                size: piece_size,
            };
            let pieces: Vec<Piece> = (0..(200 << 10) / piece_size).map(piece).collect();
            let mut body = Body::new(Content::Pieces(pieces).range(0..200 << 10), &delivery);
            let (mut sizes, mut got) = (Vec::new(), Vec::new());
            while let Some(frame) = body.frame().await {
                let frame = frame.unwrap();
                let mut cx = Context::from_waker(Waker::noop());
                assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
                assert!(!body.is_reading());
                let chunk = frame.data_ref().unwrap().chunk();
                sizes.push(chunk.len() >> 10);
                got.extend_from_slice(chunk);
            }
            assert_eq!(sizes, [16, 32, 64, 88], "pieces of {piece_size}");
            assert!(got == whole, "pieces of {piece_size}");
        }
    }
}
