//! Reads any bytes as WebVTT.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packager::text::webvtt;

fuzz_target!(|data: &[u8]| {
    if let Ok(parsed) = webvtt::parse(data) {
        packager_fuzz::text::check(&parsed.track);
    }
});
