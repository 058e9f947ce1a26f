//! Rate limits: two buckets a caller, one a minute and one a second. Buckets are pure; the table of them is in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dashmap::DashMap;

/// Buckets that nobody used for so long are dropped.
const IDLE_S: f64 = 120.0;
/// Callers after which idle buckets are looked for.
const SWEEP_COUNT: usize = 10_000;
/// Not more often than this: a look at all of them takes its time.
const SWEEP_S: u64 = 10;

/// Who is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// A stranger's address; of IPv6 the first 64 bits.
    Address([u8; 16]),
    /// A user or an API key.
    Principal(uuid::Uuid),
}

/// Allowances of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Requests a minute.
    pub per_minute: u32,
    /// Requests at once, refilled in a second; 0 for no such bucket.
    pub burst: u32,
}

/// What the buckets say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Requests a minute.
    pub limit: u32,
    /// What is left of them.
    pub remaining: u32,
    /// Seconds until all are there again.
    pub reset_s: u32,
    /// Seconds until one more is allowed, where none is now.
    pub retry_s: u32,
}

/// The two buckets of a caller.
#[derive(Clone, Copy, Debug)]
pub struct Buckets {
    minute: f64,
    second: f64,
    at_s: f64,
}

impl Buckets {
    /// Full ones.
    pub fn new(allowance: Allowance, now_s: f64) -> Buckets {
        Buckets {
            minute: f64::from(allowance.per_minute),
            second: f64::from(allowance.burst),
            at_s: now_s,
        }
    }

    /// Takes one of each, if both have one.
    pub fn take(&mut self, allowance: Allowance, now_s: f64) -> Standing {
        let (minute_max, second_max) = (f64::from(allowance.per_minute), f64::from(allowance.burst));
        let passed = (now_s - self.at_s).max(0.0);
        self.at_s = self.at_s.max(now_s);
        self.minute = (self.minute + passed * minute_max / 60.0).min(minute_max);
        self.second = (self.second + passed * second_max).min(second_max);
        let bursting = allowance.burst > 0;
        let allowed = self.minute >= 1.0 && (!bursting || self.second >= 1.0);
        if allowed {
            self.minute -= 1.0;
            self.second -= 1.0;
        }
        let lacking = |have: f64, rate: f64| {
            if have >= 1.0 {
                0.0
            } else {
                (1.0 - have) / rate.max(1e-9)
            }
        };
        let retry = match allowed {
            true => 0.0,
            false => lacking(self.minute, minute_max / 60.0).max(if bursting {
                lacking(self.second, second_max)
            } else {
                0.0
            }),
        };
        Standing {
            allowed,
            limit: allowance.per_minute,
            remaining: self.minute.max(0.0) as u32,
            reset_s: ((minute_max - self.minute) * 60.0 / minute_max.max(1.0)).ceil() as u32,
            retry_s: (retry.ceil() as u32).max(u32::from(!allowed)),
        }
    }
}

/// The buckets of all callers.
#[derive(Debug)]
pub struct RateLimiter {
    buckets: DashMap<Counted, Buckets>,
    begun: Instant,
    /// When idle buckets may be looked for again, in seconds since `begun`.
    next_sweep_s: AtomicU64,
}

impl Default for RateLimiter {
    fn default() -> RateLimiter {
        RateLimiter {
            buckets: DashMap::new(),
            begun: Instant::now(),
            next_sweep_s: AtomicU64::new(0),
        }
    }
}

impl RateLimiter {
    /// Counts a request.
    pub fn take(&self, who: Counted, allowance: Allowance) -> Standing {
        let now_s = self.begun.elapsed().as_secs_f64();
        if let Some(mut buckets) = self.buckets.get_mut(&who) {
            return buckets.take(allowance, now_s);
        }
        self.sweep(now_s);
        let mut buckets = self
            .buckets
            .entry(who)
            .or_insert_with(|| Buckets::new(allowance, now_s));
        buckets.take(allowance, now_s)
    }

    /// Drops idle buckets, if there are many and nobody did lately.
    fn sweep(&self, now_s: f64) {
        let (now, next) = (now_s as u64, self.next_sweep_s.load(Ordering::Relaxed));
        let is_due = now >= next && self.buckets.len() >= SWEEP_COUNT;
        let swap = |now: u64| {
            self.next_sweep_s
                .compare_exchange(next, now + SWEEP_S, Ordering::Relaxed, Ordering::Relaxed)
        };
        if is_due && swap(now).is_ok() {
            self.buckets.retain(|_, buckets| now_s - buckets.at_s < IDLE_S);
        }
    }
}

impl Counted {
    /// A stranger.
    pub fn address(ip: std::net::IpAddr) -> Counted {
        let mut bytes = match ip {
            std::net::IpAddr::V4(ip) => return Counted::Address(ip.to_ipv6_mapped().octets()),
            std::net::IpAddr::V6(ip) => ip.octets(),
        };
        for byte in bytes.iter_mut().skip(8) {
            *byte = 0;
        }
        Counted::Address(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCE: Allowance = Allowance {
        per_minute: 60,
        burst: 3,
    };

    #[test]
    fn both_buckets_must_allow() {
        let mut buckets = Buckets::new(ALLOWANCE, 0.0);
        let taken: Vec<bool> = (0..4).map(|_| buckets.take(ALLOWANCE, 0.0).allowed).collect();
        assert_eq!(taken, [true, true, true, false]);
        let standing = buckets.take(ALLOWANCE, 0.0);
        assert_eq!((standing.remaining, standing.retry_s, standing.limit), (57, 1, 60));
        assert!(buckets.take(ALLOWANCE, 0.4).allowed);
        // 60 in the first minute and what flows in meanwhile, never more.
        let mut count = 4;
        for step in 0..1_000 {
            count += u32::from(buckets.take(ALLOWANCE, 0.4 + f64::from(step) * 0.06).allowed);
        }
        assert!((110..=120).contains(&count), "{count}");
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let mut buckets = Buckets::new(ALLOWANCE, 100.0);
        for _ in 0..3 {
            assert!(buckets.take(ALLOWANCE, 100.0).allowed);
        }
        assert!(!buckets.take(ALLOWANCE, 0.0).allowed);
        assert!(!buckets.take(ALLOWANCE, 100.0).allowed);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let of = |text: &str| Counted::address(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
