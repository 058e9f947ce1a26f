//! One thread's latest answers by URL: for what many viewers ask for at once, nothing is parsed, looked up, locked or
//! rendered again. An answer depends on the URL and on what its viewer may have, which is found out before.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::access::Policy;
use crate::respond::Prepared;

/// An answer is made anew after this time, so that a replaced file is noticed.
const LIFETIME: Duration = Duration::from_secs(2);
/// All of one thread's answers: some thousand segments' boxes.
const WEIGHT_BYTES_MAX: usize = 8 << 20;
/// Larger answers are not kept: built segments would push out all others.
const ANSWER_WEIGHT_BYTES_MAX: usize = 256 << 10;

/// The answers.
#[derive(Default)]
pub struct Recent {
    answers: HashMap<Box<str>, Kept>,
    weight_bytes: usize,
    swept: Option<Instant>,
}

struct Kept {
    label: &'static str,
    /// What those may have whom it was made for.
    policy: Policy,
    answer: Prepared,
    weight_bytes: usize,
    made: Instant,
}

impl Recent {
    /// The answer to `url` (path and query) for those who may have what `policy` says, and the label it is counted under.
    pub fn find(&self, url: &str, policy: &Policy) -> Option<(&'static str, &Prepared)> {
        let kept = self.answers.get(url)?;
        (kept.made.elapsed() < LIFETIME && kept.policy == *policy).then_some((kept.label, &kept.answer))
    }

    /// Keeps `answer` for the next who ask for `url` and may have as much.
    pub fn keep(&mut self, url: &str, policy: Policy, label: &'static str, answer: Prepared) {
        let weight = answer.weight_bytes() + url.len();
        if weight > ANSWER_WEIGHT_BYTES_MAX {
            return;
        }
        let made = Instant::now();
        self.sweep(made);
        if self.weight_bytes + weight > WEIGHT_BYTES_MAX {
            // What is still wanted comes back with its next request.
            self.answers.clear();
            self.weight_bytes = 0;
        }
        self.weight_bytes += weight;
        let kept = Kept {
            label,
            policy,
            answer,
            weight_bytes: weight,
            made,
        };
        if let Some(old) = self.answers.insert(url.into(), kept) {
            self.weight_bytes -= old.weight_bytes.min(self.weight_bytes);
        }
    }

    /// Lets go of what is too old to be given: segments that are not kept any more among them.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.duration_since(swept) < LIFETIME) {
            return;
        }
        self.swept = Some(now);
        self.answers.retain(|_, kept| now.duration_since(kept.made) < LIFETIME);
        self.weight_bytes = self.answers.values().map(|kept| kept.weight_bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vod::{Answer, CachePolicy};

    fn answer(size: usize) -> Prepared {
        Prepared::new(Answer {
            content: bytes::Bytes::from(vec![0; size]).into(),
            content_type: "video/mp4",
            etag: "e".into(),
            cache: CachePolicy::Immutable,
            gzip: None,
        })
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent = Recent::default();
        let open = Policy::default();
        let url = |number: usize| format!("/vod/a/{number}");
        for number in 0..1_000 {
            recent.keep(&url(number), open.clone(), "segment", answer(100_000));
            recent.keep(&url(number), open.clone(), "segment", answer(100_000));
            let weight = recent
                .answers
                .iter()
                .map(|(key, kept)| kept.answer.weight_bytes() + key.len());
            assert_eq!(recent.weight_bytes, weight.sum::<usize>());
            assert!(recent.weight_bytes <= WEIGHT_BYTES_MAX);
        }
        assert!(recent.find(&url(999), &open).is_some());
        assert!(recent.find(&url(0), &open).is_none());
        recent.keep(&url(0), open.clone(), "segment", answer(ANSWER_WEIGHT_BYTES_MAX));
        assert!(recent.find(&url(0), &open).is_none());
        assert!(recent.find("/vod/a/999?x=1", &open).is_none());
    }

    #[test]
    fn what_is_too_old_is_let_go() {
        let mut recent = Recent::default();
        let open = Policy::default();
        recent.keep("/vod/a/1", open.clone(), "segment", answer(1_000));
        let Some(later) = Instant::now().checked_add(LIFETIME) else {
            return;
        };
        recent.sweep(later);
        assert_eq!((recent.answers.len(), recent.weight_bytes), (0, 0));
    }

    #[test]
    fn answers_are_for_those_who_may_have_as_much() {
        let mut recent = Recent::default();
        let (open, low) = (Policy::default(), Policy::up_to_height(480));
        recent.keep("/vod/a/1", low.clone(), "segment", answer(1));
        assert!(recent.find("/vod/a/1", &low).is_some());
        assert!(recent.find("/vod/a/1", &open).is_none());
        assert!(recent.find("/vod/a/1", &Policy::up_to_height(481)).is_none());
        recent.keep("/vod/a/1", open.clone(), "segment", answer(1));
        assert!(recent.find("/vod/a/1", &open).is_some());
        assert!(recent.find("/vod/a/1", &low).is_none());
    }
}
