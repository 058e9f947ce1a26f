//! Reads any bytes as samples of 3GPP timed text, each as long as the byte before it says.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use packager::text::{TextSample, tx3g};

fuzz_target!(|data: &[u8]| {
    let mut samples = Vec::new();
    let mut rest = data;
    while let Some((size, after)) = rest.split_first() {
        let (sample, after) = after.split_at((*size as usize).min(after.len()));
        samples.push(TextSample {
            start_ms: samples.len() as u64 * 1_000,
            duration_ms: 1_000,
            bytes: Bytes::copy_from_slice(sample),
        });
        rest = after;
    }
    if let Ok(parsed) = tx3g::parse(&samples) {
        packager_fuzz::text::check(&parsed.track);
    }
});
