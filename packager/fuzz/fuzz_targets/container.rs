//! Finds out what any bytes are, reads Matroska and elementary streams, and serves what they hold.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use packager::container::{HEAD_SIZE_BYTES, Indexed, recognise};

fuzz_target!(|data: &[u8]| {
    let source = Bytes::copy_from_slice(data);
    let Some(container) = recognise(&data[..data.len().min(HEAD_SIZE_BYTES)]) else {
        return;
    };
    // What is not read in place has targets of its own.
    if let Indexed::InPlace(Ok(found)) = container.index(&source) {
        packager_fuzz::presentation::check(&source, found);
    }
});
