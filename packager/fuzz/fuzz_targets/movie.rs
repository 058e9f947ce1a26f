//! Reads any bytes as an MP4 or QuickTime file, and serves what it holds.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use packager::isobmff::movie;

fuzz_target!(|data: &[u8]| {
    let source = Bytes::copy_from_slice(data);
    if let Ok(found) = movie::read(&source) {
        packager_fuzz::presentation::check(&source, found);
    }
});
