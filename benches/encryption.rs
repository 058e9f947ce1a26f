//! What protection costs on a segment: 2 s of 5 Mb/s video in 60 samples, stereo audio, and whole segments.
//!
//! `cargo bench --bench encryption`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use packager::crypto::aes128::{self, WholeSegment};
use packager::crypto::cenc::{SampleCipher, SampleRange};
use packager::crypto::sample_aes::SampleAes;
use packager::crypto::{ContentKey, Pattern, ProtectionScheme, Subsample};

const SAMPLE_COUNT: usize = 60;
const SAMPLE_SIZE: usize = 20_800;
const SEGMENT_SIZE: usize = SAMPLE_COUNT * SAMPLE_SIZE;
const IV: [u8; 16] = [7; 16];

fn key() -> ContentKey {
    ContentKey::new(*b"sixteen byte key")
}

/// A sample is one slice with 96 clear bytes.
const MAP: [Subsample; 1] = [Subsample {
    clear: 96,
    protected: (SAMPLE_SIZE - 96) as u32,
}];

fn samples(c: &mut Criterion) {
    let mut group = c.benchmark_group("samples");
    group.throughput(Throughput::Bytes(SEGMENT_SIZE as u64));
    let ranges: Vec<SampleRange<'_>> = (0..SAMPLE_COUNT)
        .map(|sample| SampleRange {
            iv: IV,
            subsamples: &MAP,
            bytes: sample * SAMPLE_SIZE..(sample + 1) * SAMPLE_SIZE,
        })
        .collect();
    for (name, scheme, pattern) in [
        ("cenc", ProtectionScheme::Cenc, Pattern::NONE),
        ("cens 1:9", ProtectionScheme::Cens, Pattern { crypt: 1, skip: 9 }),
        ("cbc1", ProtectionScheme::Cbc1, Pattern::NONE),
        ("cbcs 1:9", ProtectionScheme::Cbcs, Pattern { crypt: 1, skip: 9 }),
        ("cbcs 0:0", ProtectionScheme::Cbcs, Pattern::NONE),
    ] {
        let cipher = SampleCipher::new(scheme, pattern, &key()).expect("a pattern of the scheme");
        let mut bytes = vec![0x55; SEGMENT_SIZE];
        group.bench_function(format!("{name}, one by one"), |b| {
            b.iter(|| {
                for sample in bytes.chunks_exact_mut(SAMPLE_SIZE) {
                    cipher.encrypt(&IV, &MAP, sample).expect("a map that fits");
                }
                black_box(&bytes);
            });
        });
        group.bench_function(format!("{name}, segment"), |b| {
            b.iter(|| {
                cipher
                    .encrypt_segment(black_box(&ranges), &mut bytes)
                    .expect("maps that fit")
            });
        });
    }
    group.finish();
}

fn segments(c: &mut Criterion) {
    let mut group = c.benchmark_group("AES-128");
    let clear = vec![0x55; SEGMENT_SIZE];
    for count in [1, 2, 4, 8] {
        group.throughput(Throughput::Bytes((count * SEGMENT_SIZE) as u64));
        group.bench_function(format!("{count} side by side"), |b| {
            let mut many = vec![clear.clone(); count];
            b.iter(|| {
                many.iter_mut().for_each(|bytes| bytes.truncate(SEGMENT_SIZE));
                let mut segments: Vec<WholeSegment<'_>> =
                    many.iter_mut().map(|bytes| WholeSegment { iv: IV, bytes }).collect();
                aes128::encrypt_many(&key(), &mut segments);
            });
        });
    }
    group.finish();
}

fn sample_aes(c: &mut Criterion) {
    let cipher = SampleAes::new(&key(), IV);
    let mut group = c.benchmark_group("SAMPLE-AES");
    let mut unit: Vec<u8> = (0..SAMPLE_SIZE).map(|at| (at * 7 % 251) as u8 | 1).collect();
    unit[0] = 0x41;
    group.throughput(Throughput::Bytes(SAMPLE_SIZE as u64));
    group.bench_function("NAL unit", |b| {
        let mut out = Vec::with_capacity(2 * SAMPLE_SIZE);
        b.iter(|| {
            out.clear();
            cipher.avc_nal_unit(black_box(&unit), &mut out);
        });
    });
    let mut frame = vec![0x55; 384];
    group.throughput(Throughput::Bytes(384));
    group.bench_function("audio frame", |b| b.iter(|| cipher.audio_frame(black_box(&mut frame))));
    group.finish();
}

criterion_group!(benches, samples, segments, sample_aes);
criterion_main!(benches);
