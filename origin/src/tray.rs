//! What one connection is about to send and could have again: put down while its client does not read, read or made again
//! when it does.
//!
//! hyper takes a part of an answer and keeps it until the socket has taken the last of it. For a client that does not read
//! that may be half a minute, and 128 KiB; ten thousand such clients would hold a gigabyte, and everybody else would be
//! refused. So hyper is given a name ([`crate::arena`]) instead of the bytes, and the bytes stay here. The transport looks
//! them up when the socket takes some. Where the socket takes none for [`crate::limits::STILL_MAX`], the sweep lets go of
//! them.

use std::cell::RefCell;
use std::future::Future;
use std::io::{Error, IoSlice, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

use crate::arena::{Name, TRAY_PLACE_COUNT, TrayName, arena};
use crate::body::{Chunk, Delivery};
use crate::content::{LetGo, Reading};
use crate::fetch;

/// What one connection is about to send.
#[derive(Default)]
pub struct Tray {
    places: RefCell<Vec<Option<Laid>>>,
    /// Bytes of answers that are ready and were not come to yet.
    ready: RefCell<Vec<LetGo>>,
}

/// Something that lies on a tray.
struct Laid {
    reading: Reading,
    size: usize,
    delivery: Arc<Delivery>,
    state: State,
}

enum State {
    Here(Bytes),
    PutDown,
    Coming(Pin<Box<dyn Future<Output = Result<Bytes>>>>),
}

impl Tray {
    /// Lays `bytes`, which `reading` came to, on the tray, and returns what stands for them; the bytes themselves where they
    /// can not have a name.
    pub fn lay(
        self: &Rc<Self>,
        delivery: &Arc<Delivery>,
        reading: Reading,
        bytes: Bytes,
    ) -> std::result::Result<Chunk, Bytes> {
        let mut places = self.places.borrow_mut();
        let free = places.iter().position(Option::is_none).unwrap_or(places.len());
        let name = TrayName::new(free, bytes.len()).filter(|_| free < TRAY_PLACE_COUNT);
        let Some(name) = name else { return Err(bytes) };
        let laid = Laid {
            reading,
            size: bytes.len(),
            delivery: delivery.clone(),
            state: State::Here(bytes),
        };
        match places.get_mut(free) {
            Some(place) => *place = Some(laid),
            None => places.push(Some(laid)),
        }
        Ok(Chunk::Tray(TraySlice {
            name,
            place: free,
            tray: self.clone(),
        }))
    }

    /// Lets go of `ready` too when the connection stands still.
    pub fn watch(&self, ready: impl IntoIterator<Item = LetGo>) {
        let mut ready = ready.into_iter().peekable();
        if ready.peek().is_some() {
            let mut all = self.ready.borrow_mut();
            all.retain(LetGo::is_wanted);
            all.extend(ready);
        }
    }

    /// Lets go of all bytes that can be had again.
    pub fn put_down(&self) {
        for laid in self.places.borrow_mut().iter_mut().flatten() {
            if let State::Here(bytes) = &laid.state {
                laid.delivery.counters.put_down_bytes.add(bytes.len() as u64);
                laid.state = State::PutDown;
            }
        }
        for ready in self.ready.take() {
            ready.now();
        }
    }

    /// Has `send` send `slices`, with bytes in place of the names that stand for them: all in front of the first that were
    /// put down. Where those come first, they are waited for.
    pub fn poll_send<R>(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        send: impl FnOnce(&mut Context<'_>, &[IoSlice<'_>]) -> R,
    ) -> Poll<Result<R>> {
        let mut places = self.places.borrow_mut();
        let Some(arena) = arena().filter(|_| places.iter().any(Option::is_some)) else {
            return Poll::Ready(Ok(send(cx, slices)));
        };
        let first = slices.iter().find(|slice| !slice.is_empty());
        if let Some(Name::Tray { place, .. }) = first.and_then(|first| arena.lookup(first))
            && let Some(Some(laid)) = places.get_mut(place)
        {
            ready!(laid.poll_here(cx))?;
        }
        let here = slices.iter().map_while(|slice| match arena.lookup(slice) {
            Some(Name::Tray { place, offset }) => match places.get(place)? {
                Some(Laid {
                    state: State::Here(bytes),
                    ..
                }) => bytes.get(offset..offset.saturating_add(slice.len())).map(IoSlice::new),
                _ => None,
            },
            _ => Some(*slice),
        });
        let here: Vec<IoSlice<'_>> = here.collect();
        Poll::Ready(Ok(send(cx, &here)))
    }
}

impl Laid {
    /// Has the bytes again if they were put down.
    fn poll_here(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if matches!(self.state, State::PutDown) {
            let again = again(self.delivery.clone(), self.reading.clone());
            self.state = State::Coming(Box::pin(again));
        }
        if let State::Coming(coming) = &mut self.state {
            let came = ready!(coming.as_mut().poll(cx)).and_then(|bytes| match bytes.len() == self.size {
                true => Ok(bytes),
                false => Err(Error::other("media has changed while it was sent")),
            });
            match came {
                Ok(bytes) => self.state = State::Here(bytes),
                Err(error) => {
                    self.state = State::PutDown;
                    self.delivery.counters.note_cut_short(&error);
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What `reading` comes to, again.
async fn again(delivery: Arc<Delivery>, reading: Reading) -> Result<Bytes> {
    let sources = reading.sources();
    let (mut buffer, filled) = fetch::cached_of(&sources);
    delivery.counters.read_bytes.add(filled as u64);
    if filled < buffer.len() {
        let wanted = fetch::wanted(&sources, 0);
        buffer = fetch::waiting(delivery, wanted, filled, buffer).await?;
    }
    reading.finish(buffer)
}

/// What stands for bytes on a tray while hyper has them.
pub struct TraySlice {
    name: TrayName,
    place: usize,
    tray: Rc<Tray>,
}

impl Buf for TraySlice {
    fn remaining(&self) -> usize {
        self.name.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.name.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.name.advance(count);
    }
}

impl Drop for TraySlice {
    fn drop(&mut self) {
        if let Some(place) = self.tray.places.borrow_mut().get_mut(self.place) {
            *place = None;
        }
    }
}

impl std::fmt::Debug for Tray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tray({} places)", self.places.borrow().len())
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::task::Waker;

    use packager::index::Extent;

    use super::*;
    use crate::body::tests::delivery;
    use crate::read::SourceFile;

    fn file(bytes: &[u8]) -> Arc<SourceFile> {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("headwater-tray-{number}-{}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let file = SourceFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        Arc::new(file)
    }

    fn reading(file: &Arc<SourceFile>, offset: u64, size: u64) -> Reading {
        Reading::Ranges {
            file: file.clone(),
            extents: vec![Extent { offset, size }],
        }
    }

    /// What a send of `slices` is given.
    fn sent(tray: &Tray, slices: &[&[u8]]) -> Poll<Result<Vec<u8>>> {
        let slices: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut cx = Context::from_waker(Waker::noop());
        tray.poll_send(&mut cx, &slices, |_, slices| {
            slices.iter().flat_map(|slice| slice.to_vec()).collect()
        })
    }

    fn lay(tray: &Rc<Tray>, delivery: &Arc<Delivery>, file: &Arc<SourceFile>, bytes: &[u8], offset: u64) -> Chunk {
        let size = bytes.len() as u64;
        let bytes = Bytes::copy_from_slice(bytes);
        tray.lay(delivery, reading(file, offset, size), bytes).unwrap()
    }

    #[tokio::test]
    async fn names_stand_for_bytes_that_come_and_go() {
        let tray = Rc::new(Tray::default());
        let delivery = delivery(1 << 20, 1 << 20);
        let whole: Vec<u8> = (0..100_000_u32).map(|at| ((at * 7) >> 3) as u8).collect();
        let file = file(&whole);
        let mut one = lay(&tray, &delivery, &file, &whole[10..50_000], 10);
        let two = lay(&tray, &delivery, &file, &whole[60_000..60_100], 60_000);
        for still in [false, true, true] {
            if still {
                tray.put_down();
            }
            // A head in front goes alone where what follows was put down; then that is had again.
            let head: &[u8] = b"head";
            let Poll::Ready(Ok(first)) = sent(&tray, &[head, one.chunk(), two.chunk()]) else {
                panic!("a head can always be sent");
            };
            match still {
                true => assert_eq!(first, b"head"),
                false => assert!(first == [head, &whole[10..50_000], &whole[60_000..60_100]].concat()),
            }
            one.advance(5);
            let mut all = Vec::new();
            for chunk in [&one, &two] {
                let Poll::Ready(Ok(bytes)) = sent(&tray, &[chunk.chunk()]) else {
                    panic!("the file is in memory");
                };
                all.extend(bytes);
            }
            let start = 50_000 - one.remaining();
            assert!(
                all == [&whole[start..50_000], &whole[60_000..60_100]].concat(),
                "still: {still}"
            );
        }
        let put_down = delivery.counters.put_down_bytes.get();
        assert_eq!(put_down, 2 * (49_990 + 100));
        // Places are free again when nobody holds a name.
        drop((one, two));
        tray.put_down();
        assert_eq!(delivery.counters.put_down_bytes.get(), put_down);
        let all: Vec<Chunk> = (0..TRAY_PLACE_COUNT)
            .map(|_| lay(&tray, &delivery, &file, &whole[..9], 0))
            .collect();
        let more = tray.lay(&delivery, reading(&file, 0, 9), Bytes::from_static(b"no room"));
        assert_eq!(more.err().unwrap(), b"no room"[..]);
        drop(all);
        assert_eq!(tray.places.borrow().len(), TRAY_PLACE_COUNT);
    }

    #[tokio::test]
    async fn what_can_not_be_had_again_is_an_error() {
        let tray = Rc::new(Tray::default());
        let delivery = delivery(1 << 20, 1 << 20);
        let whole = [7; 1_000];
        let file = file(&whole);
        // Beyond the end of the file by now.
        let laid = lay(&tray, &delivery, &file, &whole[..100], 950);
        tray.put_down();
        let error = loop {
            match sent(&tray, &[laid.chunk()]) {
                Poll::Ready(sent) => break sent.unwrap_err(),
                Poll::Pending => tokio::task::yield_now().await,
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        assert_eq!(delivery.counters.cut_short.get(), 1);
    }

    #[test]
    fn names_are_not_files() {
        let tray = Rc::new(Tray::default());
        let delivery = delivery(1 << 20, 1 << 20);
        let file = file(&[7; 100]);
        let laid = lay(&tray, &delivery, &file, &[7; 100], 0);
        assert!(arena().unwrap().file(laid.chunk()).is_none());
        let name = arena().unwrap().lookup(laid.chunk());
        assert!(matches!(name, Some(Name::Tray { place: 0, offset: 0 })));
    }
}
