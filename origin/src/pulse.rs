//! A connection's pulse: what it did lately, noted in passing by whoever serves it and judged by a sweep of its thread.
//!
//! One sweep judges ten thousand connections in a fraction of a millisecond; a timer each would cost every request.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::config::Config;
use crate::limits::{CANCEL_COUNT_MAX, CROWDED_KEEP_ALIVE, RETIRE_TIMEOUT, STILL_MAX};
use crate::tray::Tray;

/// Why a connection was ended that did not end itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The TLS handshake took too long.
    SlowHandshake,
    /// The request head took too long.
    SlowHead,
    /// The answer was read too slowly or not at all.
    SlowReader,
    /// Nothing was asked, and a polite end was not taken.
    Idle,
    /// Answers were asked for and given up, again and again.
    Resets,
}

impl Ended {
    /// All of them, in the order of metrics.
    pub const ALL: [Ended; 5] = [
        Ended::SlowHandshake,
        Ended::SlowHead,
        Ended::SlowReader,
        Ended::Idle,
        Ended::Resets,
    ];

    /// As it stands in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Ended::SlowHandshake => "slow_handshake",
            Ended::SlowHead => "slow_head",
            Ended::SlowReader => "slow_reader",
            Ended::Idle => "idle",
            Ended::Resets => "resets",
        }
    }
}

/// What a connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    GoOn,
    /// End politely: what runs may end, nothing new begins.
    Retire,
    End(Ended),
}

/// Whom a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Handshake,
    /// For the client to finish a request head, or to send its first.
    Head,
    /// For the client to ask again, if it likes to.
    Idle,
    /// For files, keys or memory: ours to be quick about.
    Ours,
    /// For the client to read.
    Reading,
}

/// What the last sweep saw.
#[derive(Clone, Copy, Debug)]
struct Notes {
    doing: Doing,
    requests: u64,
    since: Instant,
    written: u64,
}

/// How long connections may take for what.
#[derive(Clone, Debug)]
pub struct Patience {
    handshake: Duration,
    head: Duration,
    keep_alive: Duration,
    stall: Duration,
    stall_size_bytes_min: u64,
}

impl Patience {
    /// As the settings have it.
    pub fn new(config: &Config) -> Patience {
        Patience {
            handshake: config.limits.handshake_timeout,
            head: config.header_timeout,
            keep_alive: config.limits.keep_alive_timeout,
            stall: config.limits.send_stall_timeout,
            stall_size_bytes_min: config.limits.send_size_bytes_min,
        }
    }
}

/// The pulse of one connection. Everything about it happens on one thread.
#[derive(Debug)]
pub struct Pulse {
    handshaking: Cell<bool>,
    http2: Cell<bool>,
    read: Cell<u64>,
    /// `read` when the latest request began.
    read_at_request: Cell<u64>,
    written: Cell<u64>,
    blocked: Cell<bool>,
    requests: Cell<u64>,
    running: Cell<u32>,
    ours: Cell<u32>,
    /// Answers given up since the last sweep that a second ended in.
    cancelled: Cell<u32>,
    order: Cell<Order>,
    notes: Cell<Notes>,
    /// What was written when the socket last took something, and when that was seen.
    moved: Cell<(u64, Instant)>,
    waker: RefCell<Option<Waker>>,
    tray: Rc<Tray>,
}

impl Pulse {
    /// Of a connection accepted now; `handshaking` with TLS.
    pub fn new(now: Instant, handshaking: bool) -> Pulse {
        Pulse {
            handshaking: Cell::new(handshaking),
            http2: Cell::new(false),
            read: Cell::new(0),
            read_at_request: Cell::new(0),
            written: Cell::new(0),
            blocked: Cell::new(false),
            requests: Cell::new(0),
            running: Cell::new(0),
            ours: Cell::new(0),
            cancelled: Cell::new(0),
            order: Cell::new(Order::GoOn),
            notes: Cell::new(Notes {
                doing: if handshaking { Doing::Handshake } else { Doing::Head },
                requests: 0,
                since: now,
                written: 0,
            }),
            moved: Cell::new((0, now)),
            waker: RefCell::default(),
            tray: Rc::default(),
        }
    }

    /// What the connection is about to send.
    pub fn tray(&self) -> &Rc<Tray> {
        &self.tray
    }

    /// The handshake is over.
    pub fn shaken(&self) {
        self.handshaking.set(false);
    }

    /// `bytes` of HTTP came in.
    pub fn read(&self, bytes: &[u8]) {
        // RFC 9113 3.4: nothing else begins like the connection preface.
        if self.read.get() == 0 && bytes.starts_with(b"PRI") {
            self.http2.set(true);
        }
        self.read.set(self.read.get().wrapping_add(bytes.len() as u64));
    }

    /// So many bytes were taken by the socket.
    pub fn wrote(&self, count: usize) {
        self.written.set(self.written.get().wrapping_add(count as u64));
        self.blocked.set(false);
    }

    /// Bytes that the socket took so far.
    pub fn written(&self) -> u64 {
        self.written.get()
    }

    /// The socket takes no more for now.
    pub fn blocked(&self) {
        self.blocked.set(true);
    }

    /// True where the client speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2.get()
    }

    /// Ends the connection politely.
    pub fn retire(&self) {
        if self.order.get() == Order::GoOn {
            self.order.set(Order::Retire);
            self.wake();
        }
    }

    fn end(&self, why: Ended) {
        self.order.set(Order::End(why));
        self.wake();
    }

    /// What becomes of `stream` when it is closed: who was ended for not reading gets no more of what waits for them. The
    /// kernel would keep it for minutes.
    pub fn part_with(&self, stream: &impl AsFd) {
        if self.order.get() != Order::End(Ended::SlowReader) {
            return;
        }
        if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a connection could not be reset");
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn doing(&self) -> Doing {
        let running = self.running.get() > 0;
        match () {
            () if self.handshaking.get() => Doing::Handshake,
            () if self.ours.get() > 0 => Doing::Ours,
            () if running || self.blocked.get() => Doing::Reading,
            () if self.requests.get() == 0 => Doing::Head,
            // Frames that keep an HTTP/2 connection alive are no request.
            () if !self.http2.get() && self.read.get() != self.read_at_request.get() => Doing::Head,
            () => Doing::Idle,
        }
    }

    /// Tells the connection to end if its patience is over at `now`, and to put down what it has if it stands still. `crowded` when connections are nearly used up.
    pub fn judge(&self, now: Instant, patience: &Patience, crowded: bool) {
        let (written, since) = self.moved.get();
        if written != self.written.get() {
            self.moved.set((self.written.get(), now));
        } else if now.saturating_duration_since(since) >= STILL_MAX {
            self.tray.put_down();
        }
        let doing = self.doing();
        let notes = self.notes.get();
        let fresh = Notes {
            doing,
            requests: self.requests.get(),
            since: now,
            written: self.written.get(),
        };
        // Another request of a reader is no progress.
        let same = notes.doing == doing && (notes.requests == fresh.requests || doing == Doing::Reading);
        if !same {
            self.notes.set(fresh);
            return;
        }
        let lasted = now.saturating_duration_since(notes.since);
        match doing {
            Doing::Ours => {}
            Doing::Handshake if lasted >= patience.handshake => self.end(Ended::SlowHandshake),
            Doing::Head if lasted >= patience.head => self.end(Ended::SlowHead),
            Doing::Reading if lasted >= patience.stall => {
                match fresh.written.wrapping_sub(notes.written) < patience.stall_size_bytes_min {
                    true => self.end(Ended::SlowReader),
                    false => self.notes.set(fresh),
                }
            }
            Doing::Idle => {
                let keep_alive = if crowded {
                    patience.keep_alive.min(CROWDED_KEEP_ALIVE)
                } else {
                    patience.keep_alive
                };
                if lasted >= keep_alive.saturating_add(RETIRE_TIMEOUT) {
                    self.end(Ended::Idle);
                } else if lasted >= keep_alive {
                    self.retire();
                }
            }
            Doing::Handshake | Doing::Head | Doing::Reading => {}
        }
    }

    /// Forgets answers given up: a second is over.
    pub fn forgive(&self) {
        self.cancelled.set(0);
    }
}

/// One request of a connection, from its head to the last byte handed over.
#[derive(Debug)]
pub struct Running {
    pulse: Rc<Pulse>,
    waits_for_us: bool,
    whole: bool,
}

impl Running {
    /// A request that has just been read; it waits for us.
    pub fn begin(pulse: &Rc<Pulse>) -> Running {
        pulse.requests.set(pulse.requests.get().wrapping_add(1));
        pulse.running.set(pulse.running.get().saturating_add(1));
        pulse.ours.set(pulse.ours.get().saturating_add(1));
        pulse.read_at_request.set(pulse.read.get());
        Running {
            pulse: pulse.clone(),
            waits_for_us: true,
            whole: false,
        }
    }

    /// What its connection is about to send.
    pub fn tray(&self) -> &Rc<Tray> {
        self.pulse.tray()
    }

    /// Whether it waits for us now. True when that has changed.
    pub fn set_waits_for_us(&mut self, waits: bool) -> bool {
        let changed = self.waits_for_us != waits;
        if changed {
            self.waits_for_us = waits;
            let ours = self.pulse.ours.get();
            let ours = if waits {
                ours.saturating_add(1)
            } else {
                ours.saturating_sub(1)
            };
            self.pulse.ours.set(ours);
        }
        changed
    }

    /// Every byte of its answer was handed over.
    pub fn complete(&mut self) {
        self.whole = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.set_waits_for_us(false);
        let pulse = &self.pulse;
        pulse.running.set(pulse.running.get().saturating_sub(1));
        if !self.whole && pulse.is_http2() {
            pulse.cancelled.set(pulse.cancelled.get().saturating_add(1));
            if pulse.cancelled.get() > CANCEL_COUNT_MAX {
                pulse.end(Ended::Resets);
            }
        }
    }
}

/// Drives `connection` until it ends by itself (`Ok`) or is told to (`Err`); `retire` asks it for a polite end.
pub async fn drive<C: Future>(
    pulse: &Pulse,
    connection: C,
    mut retire: impl FnMut(Pin<&mut C>),
) -> Result<C::Output, Ended> {
    let mut connection = std::pin::pin!(connection);
    let mut retired = false;
    let turn = |cx: &mut Context<'_>| {
        match pulse.order.get() {
            Order::End(why) => return Poll::Ready(Err(why)),
            Order::Retire if !std::mem::replace(&mut retired, true) => retire(connection.as_mut()),
            Order::Retire | Order::GoOn => {}
        }
        if let Poll::Ready(output) = connection.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        // A request of this very turn may have been one too many.
        if let Order::End(why) = pulse.order.get() {
            return Poll::Ready(Err(why));
        }
        let mut waker = pulse.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    };
    std::future::poll_fn(turn).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        handshake: Duration::from_secs(5),
        head: Duration::from_secs(10),
        keep_alive: Duration::from_secs(60),
        stall: Duration::from_secs(30),
        stall_size_bytes_min: 30_000,
    };

    /// Second at which a connection on which `happens` runs before each sweep is told to end, and how.
    fn ends(tls: bool, crowded: bool, mut happens: impl FnMut(u64, &Rc<Pulse>)) -> Option<(u64, Order)> {
        let start = Instant::now();
        let pulse = Rc::new(Pulse::new(start, tls));
        for second in 0..200 {
            happens(second, &pulse);
            pulse.judge(start + Duration::from_secs(second), &PATIENCE, crowded);
            if pulse.order.get() != Order::GoOn {
                return Some((second, pulse.order.get()));
            }
        }
        None
    }

    #[test]
    fn each_phase_has_its_patience() {
        let end = |why| Order::End(why);
        assert_eq!(ends(true, false, |_, _| {}), Some((5, end(Ended::SlowHandshake))));
        assert_eq!(ends(false, false, |_, _| {}), Some((10, end(Ended::SlowHead))));
        // A byte a second is no request.
        assert_eq!(
            ends(false, false, |_, pulse| pulse.read(b"G")),
            Some((10, end(Ended::SlowHead)))
        );
        let once = |second, pulse: &Rc<Pulse>| {
            if second == 3 {
                drop(Running::begin(pulse));
            }
        };
        assert_eq!(ends(false, false, once), Some((63, Order::Retire)));
        assert_eq!(ends(false, true, once), Some((4, Order::Retire)));
        // Half a head after a whole request.
        let half = |second, pulse: &Rc<Pulse>| {
            once(second, pulse);
            if second == 7 {
                pulse.read(b"GET / HTT");
            }
        };
        assert_eq!(ends(false, false, half), Some((17, end(Ended::SlowHead))));
        let busy = |_, pulse: &Rc<Pulse>| drop(Running::begin(pulse));
        assert_eq!(ends(false, false, busy), None);
    }

    #[test]
    fn pings_do_not_keep_a_connection() {
        let pings = |second, pulse: &Rc<Pulse>| {
            pulse.read(if second == 0 { b"PRI * HTTP/2.0" } else { b"ping" });
            if second == 3 {
                drop(Running::begin(pulse));
                pulse.forgive();
            }
        };
        assert_eq!(ends(false, false, pings), Some((63, Order::Retire)));
    }

    #[test]
    fn readers_are_judged_by_what_they_take() {
        let mut running = None;
        let mut reads = |rate: usize, waits: bool| {
            running = None;
            ends(false, false, |second, pulse| {
                if second == 0 {
                    let mut begun = Running::begin(pulse);
                    begun.set_waits_for_us(waits);
                    running = Some(begun);
                }
                if second > 0 && rate > 0 {
                    pulse.wrote(rate);
                    pulse.blocked();
                }
            })
        };
        assert_eq!(reads(0, false), Some((30, Order::End(Ended::SlowReader))));
        assert_eq!(reads(999, false), Some((30, Order::End(Ended::SlowReader))));
        assert_eq!(reads(1_001, false), None);
        assert_eq!(reads(0, true), None, "the disk is slow, not the client");
        // Handed over, but not taken by the socket.
        let stuck = |second, pulse: &Rc<Pulse>| {
            if second == 0 {
                drop(Running::begin(pulse));
                pulse.blocked();
            }
        };
        assert_eq!(ends(false, false, stuck), Some((30, Order::End(Ended::SlowReader))));
    }

    #[test]
    fn giving_up_again_and_again_ends_it() {
        for (preface, expected) in [(&b"PRI *"[..], Order::End(Ended::Resets)), (b"GET /", Order::GoOn)] {
            let pulse = Rc::new(Pulse::new(Instant::now(), false));
            pulse.read(preface);
            for _ in 0..=CANCEL_COUNT_MAX {
                assert_eq!(pulse.order.get(), Order::GoOn);
                drop(Running::begin(&pulse));
            }
            assert_eq!(pulse.order.get(), expected);
        }
        let pulse = Rc::new(Pulse::new(Instant::now(), false));
        pulse.read(b"PRI *");
        for _ in 0..10 * CANCEL_COUNT_MAX {
            let mut running = Running::begin(&pulse);
            running.complete();
        }
        assert_eq!(pulse.order.get(), Order::GoOn);
    }
}
