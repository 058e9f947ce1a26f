//! How fast each protection goes on one core, a line a case: name, and bytes in a second of CPU time. For comparison with
//! `openssl speed` by `dev.d/bench-ciphers.sh`.
//!
//! `cargo bench --bench ciphers -- [SECONDS]`

use std::hint::black_box;

use packager::crypto::aes128::{self, WholeSegment};
use packager::crypto::cenc::{SampleCipher, SampleRange};
use packager::crypto::{ContentKey, Pattern, ProtectionScheme, Subsample};

/// What `openssl speed` encrypts at once too.
const SAMPLE_SIZE: usize = 16 << 10;
/// As much as is built at once, and fits a core's own cache.
const PIECE_SIZE: usize = 256 << 10;
const IV: [u8; 16] = [7; 16];

fn main() {
    let seconds = std::env::args().filter_map(|argument| argument.parse().ok()).next();
    let seconds: f64 = seconds.unwrap_or(0.5);
    let key = ContentKey::new(*b"sixteen byte key");
    let whole = [Subsample {
        clear: 0,
        protected: SAMPLE_SIZE as u32,
    }];
    let mut piece = vec![0x55; PIECE_SIZE];
    let ranges: Vec<SampleRange<'_>> = (0..PIECE_SIZE / SAMPLE_SIZE)
        .map(|sample| SampleRange {
            iv: IV,
            subsamples: &whole,
            bytes: sample * SAMPLE_SIZE..(sample + 1) * SAMPLE_SIZE,
        })
        .collect();
    for (name, scheme, pattern) in [
        ("cenc", ProtectionScheme::Cenc, Pattern::NONE),
        ("cbcs-1:9", ProtectionScheme::Cbcs, Pattern { crypt: 1, skip: 9 }),
        ("cbcs-all", ProtectionScheme::Cbcs, Pattern::NONE),
    ] {
        let cipher = SampleCipher::new(scheme, pattern, &key).expect("a pattern of the scheme");
        measure(name, seconds, PIECE_SIZE, || {
            cipher
                .encrypt_segment(black_box(&ranges), &mut piece)
                .expect("maps that fit");
        });
    }
    for (name, count) in [("aes128-1", 1), ("aes128-2", 2), ("aes128-4", 4), ("aes128-8", 8)] {
        // Not at a power of two from each other: such places share a cache's sets.
        let mut many: Vec<Vec<u8>> = (0..count).map(|at| vec![0x55; PIECE_SIZE / count + 192 * at]).collect();
        let sizes: Vec<usize> = many.iter().map(Vec::len).collect();
        measure(name, seconds, sizes.iter().sum(), || {
            for (bytes, size) in many.iter_mut().zip(&sizes) {
                bytes.truncate(*size);
            }
            let mut segments: Vec<WholeSegment<'_>> =
                many.iter_mut().map(|bytes| WholeSegment { iv: IV, bytes }).collect();
            aes128::encrypt_many(&key, &mut segments);
        });
    }
}

/// CPU time of this process, in nanoseconds.
fn cpu_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat").expect("procfs");
    let first = schedstat.split(' ').next().expect("three numbers");
    first.parse().expect("a number")
}

fn measure(name: &str, seconds: f64, size: usize, mut work: impl FnMut()) {
    for _ in 0..20 {
        work();
    }
    let start_ns = cpu_ns();
    let end_ns = start_ns + (seconds * 1e9) as u64;
    let mut bytes = 0_u64;
    let now_ns = loop {
        for _ in 0..50 {
            work();
        }
        bytes += 50 * size as u64;
        let now_ns = cpu_ns();
        if now_ns >= end_ns {
            break now_ns;
        }
    };
    println!("{name} {:.0}", bytes as f64 / (now_ns - start_ns) as f64 * 1e9);
}
