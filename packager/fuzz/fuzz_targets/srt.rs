//! Reads any bytes as SubRip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packager::text::srt;

fuzz_target!(|data: &[u8]| {
    if let Ok(parsed) = srt::parse(data) {
        packager_fuzz::text::check(&parsed.track);
    }
});
