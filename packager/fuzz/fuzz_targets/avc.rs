//! Reads any bytes as AVC: as an Annex B stream, as a sample, as `avcC`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packager::codec::avc::{self, AvcConfig, NalType, Pps, SliceStart, Sps};
use packager::codec::bits::{annex_b_units, nal_units};
use packager_fuzz::check_written;

fuzz_target!(|data: &[u8]| {
    let units: Vec<&[u8]> = annex_b_units(data).collect();
    for unit in &units {
        read_unit(unit);
    }
    let _ = avc::random_access(units.iter().copied());
    for nal_length_size in [1, 2, 4] {
        nal_units(data, nal_length_size)
            .map_while(Result::ok)
            .for_each(read_unit);
    }

    let of_type = |wanted| {
        units
            .iter()
            .copied()
            .filter(move |unit| NalType::of(unit) == Some(wanted))
    };
    let (sps, pps): (Vec<_>, Vec<_>) = (of_type(NalType::Sps).collect(), of_type(NalType::Pps).collect());
    let built = AvcConfig::build(&sps, &pps);
    for config in [built, AvcConfig::parse(data)].into_iter().flatten() {
        let _ = config.rfc6381("avc1");
        if let Ok(payload) = config.serialise() {
            check_written(&payload, AvcConfig::parse, |config| {
                config.serialise().expect("as large as before")
            });
        }
    }
});

fn read_unit(unit: &[u8]) {
    if let Ok(sps) = Sps::parse(unit) {
        let _ = sps.rfc6381("avc3");
        let _ = sps.reorder_frames_max();
    }
    let _ = (Pps::parse(unit), SliceStart::parse(unit), avc::recovery_point(unit));
}
