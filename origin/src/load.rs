//! A thread's load: what waits and what is being sent, and whether requests stand too long before anybody looks.
//!
//! Beyond what a thread can do, refusing quickly keeps what it can: served requests stay as many as at its peak. Only
//! media is refused for delay, because a playlist costs no more than its refusal.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http_body::{Frame, SizeHint};

use crate::body::{Body, Chunk};
use crate::error::ServeError;
use crate::limits::Limits;
use crate::metrics::Counters;
use crate::pulse::{Pulse, Running};

/// How often the delay is measured.
const MEASURE_INTERVAL: Duration = Duration::from_millis(50);
/// Measurements in a row that must be late: one long turn, or a machine that was asleep, is not overload.
const LATE_COUNT_MIN: u32 = 4;

/// The load of one thread.
#[derive(Debug)]
pub struct Load {
    limits: Limits,
    counters: Arc<Counters>,
    work: Cell<usize>,
    answers: Cell<usize>,
    late_count: Cell<u32>,
}

impl Load {
    /// None yet.
    pub fn new(limits: Limits, counters: Arc<Counters>) -> Load {
        Load {
            limits,
            counters,
            work: Cell::new(0),
            answers: Cell::new(0),
            late_count: Cell::new(0),
        }
    }

    /// Whether one more request may be begun; `media` for those that cost far more than their refusal.
    pub fn admit(&self, media: bool) -> Result<(), ServeError> {
        let refused = |what| {
            self.counters.refused.add(1);
            Err(ServeError::Overloaded { what })
        };
        if self.answers.get() > self.limits.answer_count_max {
            return refused("too many answers are being sent");
        }
        if self.work.get() > self.limits.work_count_max {
            return refused("too many requests are waiting");
        }
        if media && self.is_late() {
            return refused("requests stand too long");
        }
        Ok(())
    }

    fn is_late(&self) -> bool {
        self.late_count.get() >= LATE_COUNT_MIN
    }

    /// Notes that requests stood for `delay`.
    fn note_delay(&self, delay: Duration) {
        let was_late = self.is_late();
        let late = self.limits.delay_max.is_some_and(|most| delay > most);
        self.late_count.set(if late {
            self.late_count.get().saturating_add(1)
        } else {
            0
        });
        match (was_late, self.is_late()) {
            (false, true) => tracing::warn!(delay_ms = delay.as_millis() as u64, "overloaded: media is refused"),
            (true, false) => tracing::info!("no longer overloaded"),
            _ => {}
        }
    }

    /// Measures the delay for ever: how late a timer is, and how long a turn of the thread takes.
    pub async fn measure(&self) {
        loop {
            let due = Instant::now() + MEASURE_INTERVAL;
            tokio::time::sleep(MEASURE_INTERVAL).await;
            // Behind everything that is ready now.
            tokio::task::yield_now().await;
            // Timers tick in milliseconds.
            self.note_delay(Instant::now().saturating_duration_since(due));
        }
    }
}

/// A request that runs, counted in its connection's pulse and its thread's load.
pub struct Counted {
    running: Running,
    load: Rc<Load>,
}

impl Counted {
    /// A request that has just been read.
    pub fn begin(pulse: &Rc<Pulse>, load: &Rc<Load>) -> Counted {
        load.work.set(load.work.get().saturating_add(1));
        load.answers.set(load.answers.get().saturating_add(1));
        Counted {
            running: Running::begin(pulse),
            load: load.clone(),
        }
    }

    fn set_waits_for_us(&mut self, waits: bool) {
        if self.running.set_waits_for_us(waits) {
            let work = self.load.work.get();
            let work = if waits {
                work.saturating_add(1)
            } else {
                work.saturating_sub(1)
            };
            self.load.work.set(work);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set_waits_for_us(false);
        self.load.answers.set(self.load.answers.get().saturating_sub(1));
    }
}

/// The body of a counted request.
pub struct CountedBody {
    body: Body,
    counted: Counted,
}

impl CountedBody {
    /// `body` as the answer of `counted`, whose head is ready.
    pub fn new(mut body: Body, mut counted: Counted) -> CountedBody {
        body.carry_on(counted.running.tray());
        counted.set_waits_for_us(false);
        if http_body::Body::is_end_stream(&body) {
            counted.running.complete();
        }
        CountedBody { body, counted }
    }
}

impl http_body::Body for CountedBody {
    type Data = Chunk;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, std::io::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        this.counted
            .set_waits_for_us(polled.is_pending() && this.body.is_reading());
        let frame = ready!(polled);
        if http_body::Body::is_end_stream(&this.body) {
            this.counted.running.complete();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http_body::Body as _;
    use packager::source::ReadAt;

    use super::*;
    use crate::body::tests::delivery;
    use crate::content::{Content, Piece};
    use crate::limits::LimitsSection;
    use crate::read::SourceFile;

    fn load(change: impl FnOnce(&mut LimitsSection)) -> Rc<Load> {
        let mut section = LimitsSection::default();
        change(&mut section);
        Rc::new(Load::new(section.check().unwrap(), Arc::default()))
    }

    #[test]
    fn a_standing_delay_refuses_media_alone() {
        let load = load(|section| section.delay_ms_max = 100);
        let check = |delays_ms: &[u64], expected: bool| {
            for delay in delays_ms {
                load.note_delay(Duration::from_millis(*delay));
            }
            assert_eq!(load.admit(true).is_ok(), expected, "{delays_ms:?}");
            assert!(load.admit(false).is_ok());
        };
        check(&[], true);
        // A machine that slept for five minutes.
        check(&[300_000], true);
        check(&[0, 101, 101, 101], true);
        check(&[101], false);
        check(&[5_000, 200], false);
        check(&[99], true);
    }

    #[test]
    fn who_waits_for_the_client_is_not_work() {
        let load = load(|_| ());
        let pulse = Rc::new(Pulse::new(Instant::now(), false));
        let path = std::env::temp_dir().join(format!("headwater-load-{}", std::process::id()));
        std::fs::write(&path, [7; 40 << 10]).unwrap();
        let file = Arc::new(SourceFile::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        let size = file.size();
        let piece = Piece::File { file, offset: 0, size };
        let body = Body::new(
            Content::Pieces(vec![piece]).range(0..size),
            &delivery(16 << 10, 64 << 10),
        );
        let mut body = CountedBody::new(body, Counted::begin(&pulse, &load));
        let mut cx = Context::from_waker(Waker::noop());
        let mut poll = || {
            Pin::new(&mut body)
                .poll_frame(&mut cx)
                .map(|frame| frame.unwrap().unwrap())
        };
        let Poll::Ready(held) = poll() else {
            panic!("it lies in memory");
        };
        assert!(poll().is_pending());
        assert_eq!(load.work.get(), 0);
        drop(held);
        assert!(poll().is_ready());
    }

    #[test]
    fn waiting_work_and_answers_are_counted_apart() {
        let load = load(|section| {
            section.work_count_max = 2;
            section.answer_count_max = 4;
        });
        let pulse = Rc::new(Pulse::new(Instant::now(), false));
        let mut begun: Vec<Counted> = Vec::new();
        for _ in 0..2 {
            begun.push(Counted::begin(&pulse, &load));
            assert!(load.admit(false).is_ok());
        }
        begun.push(Counted::begin(&pulse, &load));
        assert!(load.admit(false).is_err(), "three wait");
        let sent: Vec<CountedBody> = begun
            .drain(..)
            .map(|one| CountedBody::new(Body::empty(), one))
            .collect();
        assert!(load.admit(false).is_ok(), "three are being sent");
        begun.push(Counted::begin(&pulse, &load));
        assert!(load.admit(false).is_ok());
        begun.push(Counted::begin(&pulse, &load));
        assert!(load.admit(false).is_err(), "five answers");
        drop(sent);
        assert!(load.admit(false).is_ok());
        drop(begun);
        assert_eq!((load.work.get(), load.answers.get()), (0, 0));
    }
}
