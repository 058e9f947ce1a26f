//! Ciphers against vectors of others, and against a reference that takes one block after the other.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use aes::Aes128;
use aes::cipher::array::Array;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use packager::crypto::aes128::{self, WholeSegment};
use packager::crypto::cenc::{CipherError, SampleCipher, SampleRange};
use packager::crypto::{ContentKey, Pattern, ProtectionScheme, Subsample, wrap};
use proptest::prelude::*;
use serde_json::Value;

const SCHEMES: [ProtectionScheme; 4] = [
    ProtectionScheme::Cenc,
    ProtectionScheme::Cens,
    ProtectionScheme::Cbc1,
    ProtectionScheme::Cbcs,
];

const KEY: [u8; 16] = *b"sixteen byte key";
const IV: [u8; 16] = [
    0xa0, 1, 2, 3, 4, 5, 6, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
];

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let found: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let vectors = found["vectors"].as_array().unwrap().clone();
    assert!(!vectors.is_empty());
    vectors
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn hex(value: &Value) -> Vec<u8> {
    unhex(value.as_str().unwrap())
}

fn key(bytes: &[u8]) -> ContentKey {
    ContentKey::new(bytes.try_into().unwrap())
}

fn padded(iv: &[u8]) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[..iv.len()].copy_from_slice(iv);
    padded
}

fn scheme(name: &str) -> ProtectionScheme {
    SCHEMES.into_iter().find(|scheme| scheme.name() == name).unwrap()
}

fn noise(size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
}

#[test]
fn samples_of_another_packager_come_out_byte_for_byte() {
    for vector in vectors("cenc_samples.json") {
        let at = format!("{} {} {}", vector["scheme"], vector["media"], vector["sample_index"]);
        let pattern = Pattern {
            crypt: vector["tenc"]["crypt"].as_u64().unwrap() as u8,
            skip: vector["tenc"]["skip"].as_u64().unwrap() as u8,
        };
        let scheme = scheme(vector["scheme"].as_str().unwrap());
        let cipher = SampleCipher::new(scheme, pattern, &key(&hex(&vector["key_hex"]))).unwrap();
        let iv = padded(&hex(&vector["iv_hex"]));
        let subsamples: Vec<Subsample> = vector["subsamples_clear_protected"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|pair| Subsample {
                clear: pair[0].as_u64().unwrap() as u16,
                protected: pair[1].as_u64().unwrap() as u32,
            })
            .collect();
        let clear = STANDARD.decode(vector["clear_b64"].as_str().unwrap()).unwrap();
        let encrypted = STANDARD.decode(vector["encrypted_b64"].as_str().unwrap()).unwrap();
        assert_ne!(clear, encrypted, "{at}");

        let mut bytes = clear.clone();
        cipher.encrypt(&iv, &subsamples, &mut bytes).unwrap();
        assert_eq!(bytes, encrypted, "{at}");
        cipher.decrypt(&iv, &subsamples, &mut bytes).unwrap();
        assert_eq!(bytes, clear, "{at}");
        let sample = SampleRange {
            iv,
            subsamples: &subsamples,
            bytes: 3..3 + clear.len(),
        };
        let mut segment = [b"abc", clear.as_slice(), b"de"].concat();
        cipher.encrypt_segment(&[sample], &mut segment).unwrap();
        assert_eq!(segment, [b"abc", encrypted.as_slice(), b"de"].concat(), "{at}");

        // No changed byte of key, IV, clear or encrypted sample leads there.
        let key_bytes = hex(&vector["key_hex"]);
        let leads_there = |key_bytes: &[u8], iv: &[u8; 16], clear: &[u8], encrypted: &[u8]| {
            let cipher = SampleCipher::new(scheme, pattern, &key(key_bytes)).unwrap();
            let mut bytes = clear.to_vec();
            cipher.encrypt(iv, &subsamples, &mut bytes).unwrap();
            bytes == encrypted
        };
        assert!(leads_there(&key_bytes, &iv, &clear, &encrypted), "{at}");
        for changed in flips(&key_bytes) {
            assert!(!leads_there(&changed, &iv, &clear, &encrypted), "{at}: key");
        }
        for changed in flips(&hex(&vector["iv_hex"])) {
            assert!(
                !leads_there(&key_bytes, &padded(&changed), &clear, &encrypted),
                "{at}: IV"
            );
        }
        for changed in flips(&clear) {
            assert!(!leads_there(&key_bytes, &iv, &changed, &encrypted), "{at}: clear");
        }
        for mut changed in flips(&encrypted) {
            cipher.decrypt(&iv, &subsamples, &mut changed).unwrap();
            assert_ne!(changed, clear, "{at}: encrypted");
        }
    }
}

/// The bytes with each of them changed in turn.
fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len()).map(|at| {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 8);
        changed
    })
}

#[test]
fn whole_segments_come_out_as_published() {
    let check = |key_bytes: &[u8], iv: &[u8], clear: &[u8], encrypted: &[u8]| {
        let (key, iv) = (key(key_bytes), padded(iv));
        let mut many = [clear.to_vec(), clear.to_vec()];
        let mut segments: Vec<WholeSegment<'_>> = many.iter_mut().map(|bytes| WholeSegment { iv, bytes }).collect();
        aes128::encrypt_many(&key, &mut segments);
        let [mut out, second] = many;
        assert_eq!(out[..encrypted.len()], *encrypted);
        assert_eq!(out.len() as u64, aes128::encrypted_size(clear.len() as u64).unwrap());
        assert_eq!(second, out);
        // No changed byte of segment, IV or key leads to what was published, nor to the clear bytes.
        for mut changed in flips(&out) {
            if aes128::decrypt(&key, iv, &mut changed).is_ok() {
                assert_ne!(changed, clear);
            }
        }
        let others = flips(&iv).map(|iv| (key_bytes.to_vec(), iv));
        for (key_bytes, iv) in others.chain(flips(key_bytes).map(|key_bytes| (key_bytes, iv.to_vec()))) {
            let (key, iv) = (self::key(&key_bytes), padded(&iv));
            let mut bytes = clear.to_vec();
            aes128::encrypt_many(&key, &mut [WholeSegment { iv, bytes: &mut bytes }]);
            assert_ne!(bytes[..encrypted.len()], *encrypted);
            let mut bytes = out.clone();
            if aes128::decrypt(&key, iv, &mut bytes).is_ok() {
                assert_ne!(bytes, clear);
            }
        }
        aes128::decrypt(&key, iv, &mut out).unwrap();
        assert_eq!(out, clear);
    };
    for vector in vectors("hls_aes128.json") {
        let iv = hex(&vector["iv_hex"]);
        assert_eq!(iv[8..], vector["media_sequence"].as_u64().unwrap().to_be_bytes());
        let encrypted = STANDARD.decode(vector["ciphertext_b64"].as_str().unwrap()).unwrap();
        let clear = vector["plaintext_utf8"].as_str().unwrap().as_bytes();
        check(&hex(&vector["key_hex"]), &iv, clear, &encrypted);
    }
    // NIST SP 800-38A F.2.1, which knows no padding: its four blocks come first.
    check(
        &unhex("2b7e151628aed2a6abf7158809cf4f3c"),
        &unhex("000102030405060708090a0b0c0d0e0f"),
        &unhex(concat!(
            "6bc1bee22e409f96e93d7e117393172a",
            "ae2d8a571e03ac9c9eb76fac45af8e51",
            "30c81c46a35ce411e5fbc1191a0a52ef",
            "f69f2445df4f9b17ad2b417be66c3710",
        )),
        &unhex(concat!(
            "7649abac8119b246cee98e9b12e9197d",
            "5086cb9b507219ee95db113a917678b2",
            "73bed6b8e3c1743b7116e69e22229516",
            "3ff1caa1681fac09120eca307586e1a7",
        )),
    );
}

#[test]
fn wrapped_keys_come_out_as_published() {
    for vector in vectors("aes_kw_rfc3394.json") {
        let (kek, key, wrapped) = (hex(&vector["kek"]), hex(&vector["key"]), hex(&vector["wrapped"]));
        assert_eq!(wrap::wrap(&kek, &key).unwrap(), wrapped, "{}", vector["section"]);
        assert_eq!(*wrap::unwrap(&kek, &wrapped).unwrap(), key, "{}", vector["section"]);
        for damaged in flips(&wrapped) {
            assert_eq!(wrap::unwrap(&kek, &damaged).unwrap_err(), wrap::WrapError::Integrity);
        }
        for other in flips(&kek) {
            assert_eq!(wrap::unwrap(&other, &wrapped).unwrap_err(), wrap::WrapError::Integrity);
        }
        for other in flips(&key) {
            assert_ne!(wrap::wrap(&kek, &other).unwrap(), wrapped, "{}", vector["section"]);
        }
    }
}

/// ISO/IEC 23001-7 read literally: byte by byte for the counter, block by block for the rest.
fn reference(scheme: ProtectionScheme, pattern: Pattern, iv: &[u8; 16], subsamples: &[Subsample], sample: &mut [u8]) {
    let aes = Aes128::new(&Array(KEY));
    let mut ranges = Vec::new();
    let mut at = 0;
    for subsample in subsamples {
        at += usize::from(subsample.clear);
        ranges.push(at..at + subsample.protected as usize);
        at += subsample.protected as usize;
    }
    if subsamples.is_empty() {
        ranges.push(0..sample.len());
    }
    let mut chain = *iv;
    let mut count = 0_u64;
    for range in ranges {
        if scheme == ProtectionScheme::Cbcs {
            chain = *iv;
        }
        if scheme == ProtectionScheme::Cenc {
            for byte in &mut sample[range] {
                *byte ^= key_byte(&aes, iv, count);
                count += 1;
            }
            continue;
        }
        let period = u64::from(pattern.crypt) + u64::from(pattern.skip);
        for (number, block) in sample[range].chunks_exact_mut(16).enumerate() {
            if period > 0 && number as u64 % period >= u64::from(pattern.crypt) {
                continue;
            }
            if scheme == ProtectionScheme::Cens {
                for byte in block {
                    *byte ^= key_byte(&aes, iv, count);
                    count += 1;
                }
                continue;
            }
            for (chained, byte) in chain.iter_mut().zip(block.iter()) {
                *chained ^= byte;
            }
            let mut out = Array(chain);
            aes.encrypt_block(&mut out);
            chain = out.0;
            block.copy_from_slice(&chain);
        }
    }
}

/// Byte `at` of the keystream: the counter is the last eight bytes and wraps without a carry.
fn key_byte(aes: &Aes128, iv: &[u8; 16], at: u64) -> u8 {
    let counter = u64::from_be_bytes(iv[8..].try_into().unwrap()).wrapping_add(at / 16);
    let mut block = Array(*iv);
    block[8..].copy_from_slice(&counter.to_be_bytes());
    aes.encrypt_block(&mut block);
    block[at as usize % 16]
}

fn patterns(scheme: ProtectionScheme) -> Vec<Pattern> {
    let mut patterns = vec![Pattern::NONE];
    if matches!(scheme, ProtectionScheme::Cens | ProtectionScheme::Cbcs) {
        patterns.extend((1..=15).flat_map(|crypt| (0..=15).map(move |skip| Pattern { crypt, skip })));
    }
    patterns
}

fn check(scheme: ProtectionScheme, pattern: Pattern, iv: [u8; 16], subsamples: &[Subsample], size: usize) {
    let cipher = SampleCipher::new(scheme, pattern, &key(&KEY)).unwrap();
    let clear = noise(size);
    let mut expected = clear.clone();
    reference(scheme, pattern, &iv, subsamples, &mut expected);
    let mut bytes = clear.clone();
    cipher.encrypt(&iv, subsamples, &mut bytes).unwrap();
    assert_eq!(bytes, expected, "{} {pattern:?} {subsamples:?} {size}", scheme.name());
    cipher.decrypt(&iv, subsamples, &mut bytes).unwrap();
    assert_eq!(bytes, clear, "{} {pattern:?} {subsamples:?} {size}", scheme.name());
}

#[test]
fn every_pattern_and_tail_is_as_the_reference_says() {
    for scheme in SCHEMES {
        for pattern in patterns(scheme) {
            for size in [0, 1, 15, 16, 17, 31, 32, 33, 16 * 31, 16 * 31 + 9] {
                check(scheme, pattern, IV, &[], size);
            }
            let map = [(7, 16 * 33), (0, 0), (65_535, 0), (1, 160), (90, 16 * 3)].map(subsample);
            check(scheme, pattern, IV, &map, 7 + 16 * 33 + 65_535 + 161 + 90 + 48);
        }
        let video = scheme.pattern(true);
        for tail in 0..16 {
            for blocks in [0, 1, 10, 11, 40] {
                check(scheme, video, IV, &[], blocks * 16 + tail);
                if scheme != ProtectionScheme::Cbc1 {
                    let protected = (blocks * 16 + tail) as u32;
                    let map = [(5, protected), (0, protected), (2, 0)].map(subsample);
                    check(scheme, video, IV, &map, 7 + 2 * protected as usize);
                }
            }
        }
    }
}

fn subsample((clear, protected): (u16, u32)) -> Subsample {
    Subsample { clear, protected }
}

#[test]
fn maps_that_do_not_fit_touch_nothing() {
    let check = |scheme: ProtectionScheme, map: &[(u16, u32)], size: usize, expected: CipherError| {
        let cipher = SampleCipher::new(scheme, scheme.pattern(true), &key(&KEY)).unwrap();
        let map: Vec<Subsample> = map.iter().copied().map(subsample).collect();
        let mut bytes = noise(size);
        assert_eq!(cipher.encrypt(&IV, &map, &mut bytes), Err(expected));
        assert_eq!(cipher.decrypt(&IV, &map, &mut bytes), Err(expected));
        let good = SampleRange {
            iv: IV,
            subsamples: &[],
            bytes: 0..16,
        };
        let bad = SampleRange {
            iv: IV,
            subsamples: &map,
            bytes: 16..16 + size,
        };
        let mut segment = noise(16 + size);
        assert_eq!(cipher.encrypt_segment(&[good, bad], &mut segment), Err(expected));
        assert_eq!((bytes, segment), (noise(size), noise(16 + size)));
    };
    let error = |mapped, size| CipherError::Map { mapped, size };
    for scheme in SCHEMES {
        check(scheme, &[(4, 32)], 35, error(36, 35));
        check(scheme, &[(4, 32)], 37, error(36, 37));
        check(scheme, &[(0, 0)], 1, error(0, 1));
        let huge = [(u16::MAX, u32::MAX); 9];
        let mapped = 9 * (u64::from(u16::MAX) + u64::from(u32::MAX));
        check(scheme, &huge, 100, error(mapped, 100));
    }
    let partial = CipherError::PartialBlock {
        subsample: 1,
        protected: 17,
    };
    check(ProtectionScheme::Cbc1, &[(4, 32), (0, 17)], 53, partial);
}

#[test]
fn ranges_and_patterns_that_do_not_fit_are_refused() {
    let cipher = SampleCipher::new(ProtectionScheme::Cenc, Pattern::NONE, &key(&KEY)).unwrap();
    let range = |bytes| SampleRange {
        iv: IV,
        subsamples: &[],
        bytes,
    };
    #[allow(clippy::reversed_empty_ranges)]
    for (second, size) in [(9..20, 30), (10..31, 30), (12..11, 30), (0..0, 30)] {
        let mut bytes = noise(size);
        let expected = CipherError::Range {
            sample: 1,
            start: second.start,
            end: second.end,
            size,
        };
        let result = cipher.encrypt_segment(&[range(0..10), range(second)], &mut bytes);
        assert_eq!((result, bytes), (Err(expected), noise(size)));
    }
    for scheme in SCHEMES {
        for (crypt, skip) in [(0, 1), (0, 15), (16, 0), (1, 16), (255, 255)] {
            let expected = CipherError::Pattern {
                scheme: scheme.name(),
                crypt,
                skip,
            };
            let result = SampleCipher::new(scheme, Pattern { crypt, skip }, &key(&KEY));
            assert_eq!(result.err(), Some(expected));
        }
    }
    for scheme in [ProtectionScheme::Cenc, ProtectionScheme::Cbc1] {
        assert!(SampleCipher::new(scheme, Pattern { crypt: 1, skip: 9 }, &key(&KEY)).is_err());
    }
}

prop_compose! {
    /// A sample's map; in `cbc1` of whole blocks.
    fn map(whole_blocks: bool)(
        pairs in prop::collection::vec((0..40_u16, 0..700_u32), 0..12),
    ) -> Vec<Subsample> {
        let trim = |protected: u32| if whole_blocks { protected / 16 * 16 } else { protected };
        pairs.into_iter().map(|(clear, protected)| subsample((clear, trim(protected)))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn segments_are_encrypted_as_their_samples_are(
        (scheme, maps) in (0..4_usize).prop_flat_map(|scheme| {
            let map = map(SCHEMES[scheme] == ProtectionScheme::Cbc1);
            (Just(SCHEMES[scheme]), prop::collection::vec((map, 0..400_usize, any::<[u8; 16]>()), 0..20))
        }),
        crypt in 1..=15_u8,
        skip in 0..=15_u8,
    ) {
        let pattern = if scheme.pattern(true) == Pattern::NONE { Pattern::NONE } else { Pattern { crypt, skip } };
        let cipher = SampleCipher::new(scheme, pattern, &key(&KEY)).unwrap();
        let mut expected = b"lead".to_vec();
        let mut samples = Vec::new();
        for (subsamples, size, iv) in &maps {
            let mapped: usize = subsamples.iter().map(|one| usize::from(one.clear) + one.protected as usize).sum();
            let size = if subsamples.is_empty() { *size } else { mapped };
            let start = expected.len();
            expected.extend(noise(size));
            samples.push(SampleRange { iv: *iv, subsamples, bytes: start..start + size });
            expected.push(0x55);
        }
        let clear = expected.clone();
        let mut segment = clear.clone();
        cipher.encrypt_segment(&samples, &mut segment).unwrap();
        for sample in &samples {
            reference(scheme, pattern, &sample.iv, sample.subsamples, &mut expected[sample.bytes.clone()]);
        }
        prop_assert_eq!(&segment, &expected);
        for sample in &samples {
            cipher.decrypt(&sample.iv, sample.subsamples, &mut segment[sample.bytes.clone()]).unwrap();
        }
        prop_assert_eq!(segment, clear);
    }
}
