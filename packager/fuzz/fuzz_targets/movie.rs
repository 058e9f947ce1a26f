//! Reads any bytes as an MP4 or QuickTime file, decrypts what is encrypted with any key, and serves what it holds.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use packager::crypto::source::SourceKeys;
use packager::crypto::{ContentKey, KeyId};
use packager::isobmff::movie;

/// Opens whatever is encrypted, to noise.
struct AnyKey;

impl SourceKeys for AnyKey {
    fn key(&self, _: KeyId) -> Result<Option<ContentKey>, String> {
        Ok(Some(ContentKey::new([7; 16])))
    }
}

fuzz_target!(|data: &[u8]| {
    let source = Bytes::copy_from_slice(data);
    if let Ok(found) = movie::read_encrypted(&source, &AnyKey) {
        for track in found.tracks.iter().filter(|_| found.encryption.is_some()) {
            for sample in track.index.iter() {
                let mut bytes = source.slice(sample.offset as usize..).to_vec();
                bytes.truncate(sample.size as usize);
                // Samples that lie in one another may contradict each other: an error, never a panic.
                if let Some(encryption) = &found.encryption {
                    let _ = encryption.decrypt(&AnyKey, [(sample.offset, sample.size)], &mut bytes);
                }
            }
        }
        packager_fuzz::presentation::check(&source, found);
    }
});
