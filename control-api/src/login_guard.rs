//! Failed logins: after ten in a quarter of an hour, one waits as long (AU-6). Also small buckets for what sends mail.

use std::time::{Duration, Instant};

use moka::sync::Cache;

/// Failures after which logins pause.
const FAILURE_COUNT_MAX: u32 = 10;
/// How long failures count, and how long the pause is.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// Counts failures by name and address, in memory.
#[derive(Debug)]
pub struct LoginGuard {
    failures: Cache<(String, String), (u32, Instant)>,
}

impl Default for LoginGuard {
    fn default() -> LoginGuard {
        LoginGuard {
            failures: Cache::builder().max_capacity(100_000).time_to_live(WINDOW).build(),
        }
    }
}

impl LoginGuard {
    /// Seconds to wait before another try, if one must.
    pub fn pause_s(&self, name: &str, ip: &str) -> Option<u32> {
        let (count, last) = self.failures.get(&key(name, ip))?;
        let left = WINDOW.saturating_sub(last.elapsed());
        (count >= FAILURE_COUNT_MAX && !left.is_zero())
            .then(|| u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1))
    }

    /// Counts a failure.
    pub fn failed(&self, name: &str, ip: &str) {
        let entry = self.failures.entry(key(name, ip));
        entry.and_upsert_with(|before| match before {
            Some(before) => (before.into_value().0.saturating_add(1), Instant::now()),
            None => (1, Instant::now()),
        });
    }

    /// Forgets failures after a success.
    pub fn succeeded(&self, name: &str, ip: &str) {
        self.failures.invalidate(&key(name, ip));
    }
}

fn key(name: &str, ip: &str) -> (String, String) {
    (name.to_lowercase(), ip.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn au_6_ten_failures_pause_one_name_at_one_address() {
        let guard = LoginGuard::default();
        for _ in 0..9 {
            guard.failed("A@b.c", "192.0.2.1");
        }
        assert_eq!(guard.pause_s("a@b.c", "192.0.2.1"), None);
        guard.failed("a@B.c", "192.0.2.1");
        assert!(
            guard
                .pause_s("a@b.c", "192.0.2.1")
                .is_some_and(|seconds| (890..=900).contains(&seconds))
        );
        assert_eq!(guard.pause_s("a@b.c", "192.0.2.2"), None);
        assert_eq!(guard.pause_s("d@b.c", "192.0.2.1"), None);
        guard.succeeded("a@b.c", "192.0.2.1");
        assert_eq!(guard.pause_s("a@b.c", "192.0.2.1"), None);
    }
}
