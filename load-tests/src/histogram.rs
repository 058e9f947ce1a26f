//! A histogram of latencies: counts in buckets that are never wider than a 32nd of what they hold.

use std::time::Duration;

/// Latencies in microseconds below this have a bucket each.
const FINE: u64 = 64;
/// Up to 2^36 µs, which is 19 hours.
const BUCKET_COUNT: usize = 64 * 32;

/// Latencies, to the microsecond below 64 µs and to 3 % above.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: vec![0; BUCKET_COUNT],
            total: 0,
            max_us: 0,
        }
    }
}

fn bucket(us: u64) -> usize {
    // Values below FINE have a bucket each; after that each doubling has half as many.
    let doubling = u64::from(us.max(1).ilog2()).saturating_sub(u64::from(FINE.ilog2()) - 1);
    let bucket = match doubling {
        0 => us,
        _ => FINE + (doubling - 1) * (FINE / 2) + (us >> doubling) - FINE / 2,
    };
    (bucket as usize).min(BUCKET_COUNT - 1)
}

/// Highest value of a bucket.
fn upper_us(bucket: usize) -> u64 {
    let (bucket, half) = (bucket as u64, FINE / 2);
    if bucket < FINE {
        return bucket;
    }
    let doubling = bucket / half - 1;
    let within = bucket % half + half;
    ((within + 1) << doubling) - 1
}

impl Histogram {
    /// Counts one latency.
    pub fn add(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(us)) {
            *count += 1;
        }
        self.total += 1;
        self.max_us = self.max_us.max(us);
    }

    /// The latency in milliseconds that `share` (0 to 1) of all do not exceed; 0 when there are none.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_us(bucket).min(self.max_us) as f64 / 1_000.0;
            }
        }
        0.0
    }

    /// The longest latency in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_are_narrow() {
        let mut last = 0;
        for us in 0..3_000_000_u64 {
            let now = bucket(us);
            assert!(now == last || now == last + 1, "{us}");
            last = now;
            let upper = upper_us(now);
            assert!(upper >= us && upper - us <= us / 32, "{us} in a bucket up to {upper}");
        }
        assert!(bucket(u64::MAX) < BUCKET_COUNT);
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_ms(0.5), 0.0);
        for us in 1..=100_000 {
            histogram.add(Duration::from_micros(us));
        }
        for share in [0.001, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let (found, wanted) = (histogram.quantile_ms(share), share * 100.0);
            assert!(
                found >= wanted && found <= wanted * 1.04,
                "{share}: {found} for {wanted}"
            );
        }
        assert_eq!(histogram.max_ms(), 100.0);
    }
}
