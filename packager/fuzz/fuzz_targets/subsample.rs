//! Splits any bytes as samples of video into clear and protected ones: one sample, and several each behind its size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packager::codec::bits::annex_b_units;
use packager::codec::{Codec, VideoRange};
use packager::crypto::subsample::SubsampleScanner;
use packager::crypto::{ProtectionScheme, Subsample};
use packager::time::Timescale;
use packager::track::{MediaDescription, TrackDescription, VideoDescription};
use packager_fuzz as _;

fuzz_target!(|data: &[u8]| {
    for codec in [Codec::Av1, Codec::Vp9] {
        scan(codec, b"", &[data]);
        scan(codec, b"", &behind_sizes(data));
    }
    // Parameter sets from the stream itself, its units behind their lengths as one sample, and each as a sample.
    let units: Vec<Vec<u8>> = annex_b_units(data)
        .map(|unit| [&(unit.len() as u32).to_be_bytes(), unit].concat())
        .collect();
    let each: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
    for codec in [Codec::Avc, Codec::Hevc] {
        scan(codec, data, &[&units.concat()]);
        scan(codec, data, &each);
        scan(codec, data, &behind_sizes(data));
    }
});

fn behind_sizes(mut data: &[u8]) -> Vec<&[u8]> {
    let mut samples = Vec::new();
    while let Some((size, rest)) = data.split_first_chunk() {
        let (sample, rest) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*size))));
        samples.push(sample);
        data = rest;
    }
    samples
}

fn scan(codec: Codec, parameter_sets: &[u8], samples: &[&[u8]]) {
    let Ok(scanner) = SubsampleScanner::new(&description(codec, parameter_sets)) else {
        return;
    };
    use ProtectionScheme::{Cbc1, Cbcs, Cenc, Cens};
    for scheme in [Cenc, Cens, Cbc1, Cbcs] {
        let mut scanner = scanner.clone();
        let mut entries = Vec::new();
        for sample in samples {
            let before = entries.len();
            match scanner.append(scheme, sample, &mut entries) {
                Ok(()) => check(scheme, sample, &entries[before..]),
                Err(_) => assert_eq!(entries.len(), before),
            }
        }
    }
}

/// Entries account for each byte, and are not more than can be told.
fn check(scheme: ProtectionScheme, sample: &[u8], entries: &[Subsample]) {
    let sizes = entries
        .iter()
        .map(|entry| u64::from(entry.clear) + u64::from(entry.protected));
    assert_eq!(sizes.sum::<u64>(), sample.len() as u64);
    assert!(entries.len() <= scheme.subsample_count_max());
    assert!(scheme == ProtectionScheme::Cbcs || entries.iter().all(|entry| entry.protected % 16 == 0));
}

fn description(codec: Codec, parameter_sets: &[u8]) -> TrackDescription {
    TrackDescription {
        source_track_id: 1,
        codec,
        rfc6381: String::new(),
        timescale: Timescale::new(90_000).expect("not zero"),
        language: "und".to_owned(),
        label: None,
        sample_entry: bytes::Bytes::new(),
        media: MediaDescription::Video(VideoDescription {
            width: 1,
            height: 1,
            sample_aspect_ratio: (1, 1),
            matrix: None,
            color: None,
            video_range: VideoRange::Sdr,
            nal_length_size: 4,
            parameter_sets: bytes::Bytes::copy_from_slice(parameter_sets),
            supplemental_codecs: None,
        }),
    }
}
