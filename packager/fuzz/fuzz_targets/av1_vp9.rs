//! Reads any bytes as AV1 and VP9: samples, sequence headers, `av1C` and `vpcC`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packager::codec::ColorInfo;
use packager::codec::av1::{self, Av1Config, SequenceHeader, TemporalUnit};
use packager::codec::vp9::{self, FrameHeader, VpConfig};
use packager_fuzz::check_written;

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = SequenceHeader::parse(data) {
        let _ = header.rfc6381();
        let _ = header.level();
    }
    if let Ok(unit) = TemporalUnit::parse(data, None) {
        let _ = TemporalUnit::parse(data, unit.sequence_header.as_ref());
    }
    check_ranges(data, av1::sample_ranges(data).unwrap_or_default());
    for config in [Av1Config::build(data), Av1Config::parse(data)].into_iter().flatten() {
        let _ = config.rfc6381(ColorInfo::UNSPECIFIED);
        let _ = config.sequence_header();
        check_written(&config.serialise(), Av1Config::parse, Av1Config::serialise);
    }

    check_ranges(data, vp9::frames(data).unwrap_or_default());
    let _ = (FrameHeader::parse(data), vp9::is_key_frame(data));
    for config in [VpConfig::build(data, 30_000, 1_001), VpConfig::parse(data)]
        .into_iter()
        .flatten()
    {
        let config = config.complete(u32::MAX, u32::MAX, u64::MAX, 1);
        let _ = config.rfc6381("vp09");
        check_written(&config.serialise(), VpConfig::parse, VpConfig::serialise);
    }
});

/// Ranges lie inside the data, one after the other.
fn check_ranges(data: &[u8], ranges: Vec<std::ops::Range<usize>>) {
    let mut end = 0;
    for range in ranges {
        assert!(end <= range.start && range.start < range.end && range.end <= data.len());
        end = range.end;
    }
}
