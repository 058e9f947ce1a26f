//! The table of encrypted samples: what goes in comes out, and what does not fit is an error.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

const CONSTANT: SampleProtection = SampleProtection {
    scheme: ProtectionScheme::Cbcs,
    pattern: Pattern { crypt: 1, skip: 9 },
    key_id: KeyId([1; 16]),
    iv: SampleIv::Constant([3; 16]),
};
const COUNTED: SampleProtection = SampleProtection {
    scheme: ProtectionScheme::Cenc,
    pattern: Pattern::NONE,
    key_id: KeyId([2; 16]),
    iv: SampleIv::PerSample(8),
};

fn keys() -> BTreeMap<KeyId, ContentKey> {
    [1, 2]
        .map(|id| (KeyId([id; 16]), ContentKey::new([id + 40; 16])))
        .into()
}

fn entry(clear: u16, protected: u32) -> Vec<u8> {
    [&clear.to_be_bytes()[..], &protected.to_be_bytes()].concat()
}

#[test]
fn samples_are_found_by_where_they_lie() {
    let clear: Vec<u8> = (0..100).collect();
    let mut media = clear.clone();
    let key = |id: u8| ContentKey::new([id + 40; 16]);
    let cbcs = SampleCipher::new(ProtectionScheme::Cbcs, CONSTANT.pattern, &key(1)).unwrap();
    let cenc = SampleCipher::new(ProtectionScheme::Cenc, Pattern::NONE, &key(2)).unwrap();
    cbcs.encrypt(&[3; 16], &[], &mut media[..40]).unwrap();
    let map = [Subsample {
        clear: 4,
        protected: 26,
    }];
    let mut iv = [0; 16];
    iv[..8].copy_from_slice(&[7; 8]);
    cenc.encrypt(&iv, &map, &mut media[50..80]).unwrap();

    let mut table = EncryptedSamples::default();
    // Not in the order of the file, and one of them twice.
    table
        .push(1050, 30, Some(&COUNTED), &[vec![7; 8], entry(4, 26)].concat())
        .unwrap();
    table.push(1000, 40, Some(&CONSTANT), &[]).unwrap();
    table.push(1040, 10, None, &[]).unwrap();
    table.push(1000, 40, Some(&CONSTANT), &[]).unwrap();
    table.push(1000, 0, Some(&COUNTED), &[]).unwrap();
    let mut whole = EncryptedSamples::default();
    whole.push(990, 10, None, &[]).unwrap();
    whole.append(table).unwrap();
    whole.finish().unwrap();
    assert_eq!(whole.key_ids(), [KeyId([1; 16]), KeyId([2; 16])]);
    assert_eq!(whole.protection(1050), Some(&COUNTED));
    assert_eq!(whole.protection(1040), None);

    // Where nothing is known of a sample it is clear: the last 20 bytes.
    let places = [(1000, 40), (1040, 10), (1050, 30), (1080, 20)];
    let mut read = media.clone();
    whole.decrypt(&keys(), places, &mut read).unwrap();
    assert_eq!(read, clear);

    let check = |keys: &dyn SourceKeys, places: &[(u64, u32)], size: usize, expected: DecryptError| {
        let mut read = media[..size].to_vec();
        assert_eq!(whole.decrypt(keys, places.iter().copied(), &mut read), Err(expected));
    };
    let key_id = KeyId([1; 16]);
    check(&NoKeys, &places, 100, DecryptError::MissingKey { key_id });
    check(&keys(), &places, 99, DecryptError::Size { given: 99 });
    check(&keys(), &places[..3], 100, DecryptError::Size { given: 100 });
    let error = CipherError::Map { mapped: 30, size: 31 };
    check(&keys(), &[(1050, 31)], 31, DecryptError::Cipher { offset: 1050, error });
}

#[test]
fn what_does_not_fit_is_an_error() {
    let check = |size: u32, protection: &SampleProtection, auxiliary: Vec<u8>, fits: bool| {
        let pushed = EncryptedSamples::default().push(5, size, Some(protection), &auxiliary);
        assert_eq!(pushed.is_ok(), fits, "{size} {auxiliary:?}: {pushed:?}");
    };
    let counted = |entries: Vec<u8>| [vec![0; 8], entries].concat();
    check(10, &COUNTED, counted(Vec::new()), true);
    check(10, &COUNTED, counted(entry(3, 7)), true);
    check(10, &COUNTED, counted(entry(3, 8)), false);
    check(10, &COUNTED, counted(entry(3, u32::MAX)), false);
    check(10, &COUNTED, counted(vec![0; 5]), false);
    check(10, &COUNTED, vec![0; 7], false);
    check(10, &COUNTED, Vec::new(), false);
    check(10, &CONSTANT, entry(0, 10), true);
    check(10, &CONSTANT, vec![0; 8], false);
    let chained = SampleProtection {
        scheme: ProtectionScheme::Cbc1,
        iv: SampleIv::Constant([0; 16]),
        pattern: Pattern::NONE,
        ..CONSTANT
    };
    check(20, &chained, entry(4, 16), true);
    check(20, &chained, entry(3, 17), false);

    let mut table = EncryptedSamples::default();
    table.push(9, 10, Some(&COUNTED), &[1; 8]).unwrap();
    table.push(9, 10, Some(&COUNTED), &[2; 8]).unwrap();
    assert_eq!(table.finish(), Err(SourceEncryptionError::Ambiguous { offset: 9 }));
}
