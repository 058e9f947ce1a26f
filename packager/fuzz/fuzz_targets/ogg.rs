//! Takes any bytes apart as an Ogg file, and serves what it holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packager::ogg::OggDemuxer;

fuzz_target!(|data: &[u8]| packager_fuzz::demux::check(OggDemuxer::new, data));
