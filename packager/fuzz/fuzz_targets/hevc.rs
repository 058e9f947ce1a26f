//! Reads any bytes as HEVC: as an Annex B stream, as a sample, as `hvcC`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packager::codec::bits::{annex_b_units, nal_units};
use packager::codec::hevc::{self, HevcConfig, Pps, Sps, Vps};
use packager_fuzz::check_written;

fuzz_target!(|data: &[u8]| {
    let units: Vec<&[u8]> = annex_b_units(data).collect();
    for unit in &units {
        read_unit(unit);
    }
    let _ = hevc::picture_type(units.iter().copied());
    for nal_length_size in [1, 2, 4] {
        nal_units(data, nal_length_size)
            .map_while(Result::ok)
            .for_each(read_unit);
    }

    for config in [HevcConfig::build(&units), HevcConfig::parse(data)]
        .into_iter()
        .flatten()
    {
        let _ = config.rfc6381("hvc1");
        if let Ok(payload) = config.serialise() {
            check_written(&payload, HevcConfig::parse, |config| {
                config.serialise().expect("as large as before")
            });
        }
    }
});

fn read_unit(unit: &[u8]) {
    if let Ok(sps) = Sps::parse(unit) {
        let _ = sps.profile.rfc6381("hev1");
        let _ = sps.picture_size_ctbs();
    }
    if let Ok(pps) = Pps::parse(unit) {
        let _ = pps.parallelism_type();
    }
    let _ = (Vps::parse(unit), hevc::is_first_slice(unit));
}
