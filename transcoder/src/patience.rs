//! How long to wait for what does not move.

use std::time::{Duration, Instant};

/// The longest time between two looks that counts: whoever looks less often was stopped itself.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// Counts the time in which nothing moved while this process ran: one that was stopped for a while, with all that it watches,
/// has not waited.
pub(crate) struct Patience {
    idle: Duration,
    looked: Instant,
}

impl Patience {
    pub(crate) fn new(now: Instant) -> Patience {
        Patience {
            idle: Duration::ZERO,
            looked: now,
        }
    }

    /// Something has moved.
    pub(crate) fn renew(&mut self, now: Instant) {
        *self = Patience::new(now);
    }

    /// How long nothing has moved. To be asked several times a second.
    pub(crate) fn look(&mut self, now: Instant) -> Duration {
        self.idle += now.saturating_duration_since(self.looked).min(LOOK_MAX);
        self.looked = now;
        self.idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_that_was_watched_counts() {
        let begun = Instant::now();
        let at = |milliseconds| begun + Duration::from_millis(milliseconds);
        let mut patience = Patience::new(begun);
        let check = |patience: &mut Patience, now, expected| {
            assert_eq!(patience.look(at(now)), Duration::from_millis(expected), "{now}");
        };
        check(&mut patience, 100, 100);
        check(&mut patience, 900, 900);
        // Five minutes in which nobody ran.
        check(&mut patience, 300_900, 1_900);
        check(&mut patience, 301_000, 2_000);
        patience.renew(at(301_500));
        check(&mut patience, 301_600, 100);
        check(&mut patience, 301_500, 100);
    }
}
