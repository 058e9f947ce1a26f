//! One thread's latest answers by URL: for what many viewers ask for at once, nothing is parsed, looked up, locked or
//! rendered again. Answers depend on the URL alone; whatever will depend on who asks must be decided before.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hyper::Uri;

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
}

struct Kept {
    label: &'static str,
    answer: Prepared,
    made: Instant,
}

impl Recent {
    /// The answer to `uri` and the label it is counted under.
    pub fn find(&self, uri: &Uri) -> Option<(&'static str, &Prepared)> {
        let kept = self.answers.get(key(uri)?)?;
        (kept.made.elapsed() < LIFETIME).then_some((kept.label, &kept.answer))
    }

    /// Keeps `answer` for the next who ask for `uri`.
    pub fn keep(&mut self, uri: &Uri, label: &'static str, answer: Prepared) {
        let Some(key) = key(uri) else { return };
        let weight = answer.weight_bytes() + key.len();
        if weight > ANSWER_WEIGHT_BYTES_MAX {
            return;
        }
        if self.weight_bytes + weight > WEIGHT_BYTES_MAX {
            // What is still wanted comes back with its next request.
            self.answers.clear();
            self.weight_bytes = 0;
        }
        self.weight_bytes += weight;
        let made = Instant::now();
        let kept = Kept { label, answer, made };
        if let Some(old) = self.answers.insert(key.into(), kept) {
            self.weight_bytes -= (old.answer.weight_bytes() + key.len()).min(self.weight_bytes);
        }
    }
}

fn key(uri: &Uri) -> Option<&str> {
    uri.path_and_query().map(hyper::http::uri::PathAndQuery::as_str)
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
        let uri = |number: usize| format!("/vod/a/{number}").parse::<Uri>().unwrap();
        for number in 0..1_000 {
            recent.keep(&uri(number), "segment", answer(100_000));
            recent.keep(&uri(number), "segment", answer(100_000));
            let weight = recent
                .answers
                .iter()
                .map(|(key, kept)| kept.answer.weight_bytes() + key.len());
            assert_eq!(recent.weight_bytes, weight.sum::<usize>());
            assert!(recent.weight_bytes <= WEIGHT_BYTES_MAX);
        }
        assert!(recent.find(&uri(999)).is_some());
        assert!(recent.find(&uri(0)).is_none());
        recent.keep(&uri(0), "segment", answer(ANSWER_WEIGHT_BYTES_MAX));
        assert!(recent.find(&uri(0)).is_none());
        assert!(recent.find(&"/vod/a/999?x=1".parse().unwrap()).is_none());
    }
}
