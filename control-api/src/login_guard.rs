//! Failed logins: after ten in a quarter of an hour, one waits as long (AU-6). Also small buckets for what sends mail.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use moka::ops::compute::Op;
use moka::sync::Cache;

use crate::db::users::email_key;
use crate::rate_limit::Counted;

/// Failures after which logins pause.
const FAILURE_COUNT_MAX: u32 = 10;
/// How long failures count, and how long the pause is.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// A name at an address; of IPv6 the first 64 bits, as everywhere else where callers are counted.
type Who = (String, Counted);

/// What was tried under one name from one address.
#[derive(Clone, Copy, Debug)]
struct Tries {
    failed_count: u32,
    /// Not known yet how they end.
    pending_count: u32,
    /// When the last one began.
    last: Instant,
}

/// Counts failures by name and address, in memory.
#[derive(Debug)]
pub struct LoginGuard {
    tries: Cache<Who, Tries>,
}

/// A try that was counted before anybody knows how it ends. One that nobody says anything of has failed: whoever goes away
/// before the answer does not try for nothing.
#[derive(Debug)]
#[must_use]
pub struct Attempt<'a> {
    guard: &'a LoginGuard,
    who: Option<Who>,
}

impl Default for LoginGuard {
    fn default() -> LoginGuard {
        LoginGuard {
            tries: Cache::builder().max_capacity(100_000).time_to_live(WINDOW).build(),
        }
    }
}

impl LoginGuard {
    /// Counts a try before it is made, or says after how many seconds one may be. Those under way count like failures, so
    /// that many at once are no more than ten.
    pub fn attempt(&self, name: &str, ip: IpAddr) -> Result<Attempt<'_>, u32> {
        let who = (email_key(name), Counted::address(ip));
        let mut wait_s = None;
        self.tries.entry(who.clone()).and_compute_with(|entry| {
            let before = entry.map(|entry| entry.into_value());
            let recent = before.filter(|tries| tries.last.elapsed() < WINDOW);
            let tries = recent.unwrap_or(Tries {
                failed_count: 0,
                pending_count: 0,
                last: Instant::now(),
            });
            wait_s = tries.wait_s();
            match wait_s {
                Some(_) => Op::Nop,
                None => Op::Put(Tries {
                    pending_count: tries.pending_count + 1,
                    last: Instant::now(),
                    ..tries
                }),
            }
        });
        match wait_s {
            Some(seconds) => Err(seconds),
            None => Ok(Attempt {
                guard: self,
                who: Some(who),
            }),
        }
    }

    fn settle(&self, who: Who, end: impl FnOnce(Tries) -> Tries) {
        self.tries.entry(who).and_compute_with(|entry| {
            // Dropped meanwhile, a quarter of an hour has passed.
            let Some(tries) = entry.map(|entry| entry.into_value()) else {
                return Op::Nop;
            };
            let pending_count = tries.pending_count.saturating_sub(1);
            match end(Tries { pending_count, ..tries }) {
                Tries {
                    failed_count: 0,
                    pending_count: 0,
                    ..
                } => Op::Remove,
                tries => Op::Put(tries),
            }
        });
    }
}

impl Tries {
    fn wait_s(&self) -> Option<u32> {
        let left = WINDOW.saturating_sub(self.last.elapsed());
        if self.failed_count >= FAILURE_COUNT_MAX {
            return Some(u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1));
        }
        // Those under way may all succeed.
        (self.failed_count + self.pending_count >= FAILURE_COUNT_MAX).then_some(1)
    }
}

impl Attempt<'_> {
    /// It succeeded: failures before it are forgotten.
    pub fn succeeded(mut self) {
        if let Some(who) = self.who.take() {
            self.guard.settle(who, |tries| Tries {
                failed_count: 0,
                ..tries
            });
        }
    }

    /// It was not made after all.
    pub fn give_back(mut self) {
        if let Some(who) = self.who.take() {
            self.guard.settle(who, |tries| tries);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(who) = self.who.take() {
            self.guard.settle(who, |tries| Tries {
                failed_count: tries.failed_count.saturating_add(1),
                ..tries
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn au_6_ten_failures_pause_one_name_at_one_address() {
        let guard = LoginGuard::default();
        let here = ip("192.0.2.1");
        for _ in 0..10 {
            drop(guard.attempt("A@b.c", here).unwrap());
        }
        let wait_s = guard.attempt("a@B.c", here).unwrap_err();
        assert!((890..=900).contains(&wait_s), "{wait_s}");
        guard.attempt("a@b.c", ip("192.0.2.2")).unwrap().give_back();
        guard.attempt("d@b.c", here).unwrap().give_back();
        // A success in between begins anew.
        for _ in 0..9 {
            drop(guard.attempt("e@b.c", here).unwrap());
        }
        guard.attempt("e@b.c", here).unwrap().succeeded();
        for _ in 0..10 {
            drop(guard.attempt("e@b.c", here).unwrap());
        }
        assert!(guard.attempt("e@b.c", here).is_err());
    }

    #[test]
    fn au_6_tries_under_way_count() {
        let guard = LoginGuard::default();
        let here = ip("192.0.2.1");
        let mut pending: Vec<_> = (0..10).map(|_| guard.attempt("a@b.c", here).unwrap()).collect();
        assert_eq!(guard.attempt("a@b.c", here).unwrap_err(), 1);
        // What succeeds or was not made makes room, what fails does not.
        pending.pop().unwrap().give_back();
        guard.attempt("a@b.c", here).unwrap().succeeded();
        drop(pending);
        guard.attempt("a@b.c", here).unwrap().give_back();
        drop(guard.attempt("a@b.c", here).unwrap());
        assert!(guard.attempt("a@b.c", here).unwrap_err() > 800);
    }

    #[test]
    fn au_6_a_network_of_ipv6_is_one_address() {
        let guard = LoginGuard::default();
        for number in 0..10 {
            drop(guard.attempt("a@b.c", ip(&format!("2001:db8::{number}:1"))).unwrap());
        }
        assert!(guard.attempt("a@b.c", ip("2001:db8::ffff:2")).is_err());
        guard.attempt("a@b.c", ip("2001:db8:0:1::1")).unwrap().give_back();
    }
}
