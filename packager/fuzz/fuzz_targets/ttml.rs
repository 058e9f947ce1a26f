//! Reads any bytes as TTML.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packager::text::{stpp, ttml};

fuzz_target!(|data: &[u8]| {
    if let Ok(parsed) = ttml::parse(data) {
        packager_fuzz::text::check(&parsed.track);
        let sample = stpp::sample(&parsed.track, 0, parsed.track.end_ms().max(1), "en");
        stpp::parse(&[sample]).expect("what is written can be read");
    }
});
