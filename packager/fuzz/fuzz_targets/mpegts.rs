//! Takes any bytes apart as an MPEG transport stream, and serves what it holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packager::mpegts::demux::TsDemuxer;

fuzz_target!(|data: &[u8]| packager_fuzz::demux::check(TsDemuxer::new, data));
