//! Encrypted sources of other people's making, decrypted and compared sample by sample with their clear originals.
//!
//! `HEADWATER_MEDIA` names the folder of test media, whose `KEYS.tsv` tells the keys.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test reads files and fails by panicking"
)]

mod outsiders;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use packager::crypto::source::NoKeys;
use packager::crypto::{ContentKey, KeyId};
use packager::isobmff::movie;
use packager::source::{ReadAt, SourceTracks};
use packager::track::Track;

type Keys = BTreeMap<KeyId, ContentKey>;

fn media() -> Option<PathBuf> {
    let folder = std::env::var_os("HEADWATER_MEDIA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED: HEADWATER_MEDIA is not set");
    }
    folder
}

fn key(text: &str) -> (KeyId, ContentKey) {
    let (id, key) = text.split_once(':').expect("KID:KEY");
    let key = KeyId::parse(key).expect("a key has the form of a key id").0;
    (KeyId::parse(id).expect("a key id"), ContentKey::new(key))
}

/// The keys of `name` in `KEYS.tsv`.
fn keys(media: &Path, name: &str) -> Keys {
    let text = std::fs::read_to_string(media.join("KEYS.tsv")).expect("KEYS.tsv");
    let row = text.lines().find(|line| line.split('\t').next() == Some(name));
    let cell = row.and_then(|row| row.split('\t').nth(2)).expect("a row with keys");
    cell.split(';').filter(|text| text.contains(':')).map(key).collect()
}

fn load(path: &Path) -> Bytes {
    Bytes::from(std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// All samples of a track, decrypted.
fn samples(file: &Bytes, found: &SourceTracks, track: &Track, keys: &Keys) -> Vec<Vec<u8>> {
    track
        .index
        .iter()
        .map(|sample| {
            let mut bytes = file.read_at(sample.offset, sample.size as usize).unwrap().to_vec();
            if let Some(encryption) = &found.encryption {
                encryption
                    .decrypt(keys, [(sample.offset, sample.size)], &mut bytes)
                    .unwrap();
            }
            bytes
        })
        .collect()
}

#[test]
fn samples_are_those_of_the_clear_original() {
    let Some(media) = media() else { return };
    // Encrypted, clear.
    let pairs = [
        (
            "sets/enc-wpt-cenc/wpt__audio_aac-lc_128k_enc_dashinit.mp4",
            "sets/enc-wpt-cenc/wpt__audio_aac-lc_128k_dashinit.mp4",
        ),
        (
            "sets/enc-wpt-cenc/wpt__video_512x288_h264-360k_enc_dashinit.mp4",
            "sets/enc-wpt-cenc/wpt__video_512x288_h264-360k_clear_dashinit.mp4",
        ),
        (
            "sets/enc-misc/mp4ff__prog_8s_enc_dashinit.mp4",
            "sets/enc-misc/mp4ff__prog_8s_dec_dashinit.mp4",
        ),
        ("sets/enc-misc/mp4ff__cbcs.mp4", "sets/enc-misc/mp4ff__cbcsdec.mp4"),
    ];
    for (encrypted, clear) in pairs {
        let keys = keys(&media, encrypted);
        let (file, original) = (load(&media.join(encrypted)), load(&media.join(clear)));
        let found = movie::read_encrypted(&file, &keys).unwrap();
        let wanted = movie::read(&original).unwrap();
        assert!(!found.tracks.is_empty(), "{encrypted}: {:?}", found.refused);
        assert_eq!(found.tracks.len(), wanted.tracks.len(), "{encrypted}");
        for (track, other) in found.tracks.iter().zip(&wanted.tracks) {
            assert_eq!(track.description.rfc6381, other.description.rfc6381, "{encrypted}");
            let (ours, theirs) = (
                samples(&file, &found, track, &keys),
                samples(&original, &wanted, other, &keys),
            );
            assert_eq!(ours.len(), theirs.len(), "{encrypted}");
            let wrong = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
            assert_eq!(wrong, None, "{encrypted}: first sample that differs");
        }
    }
}

/// Files whose keys are known: tracks that must come out, and how many of them must not with a wrong key. A few pictures
/// of AVC do not show it.
const KEYED: &[(&str, usize, usize)] = &[
    (
        "sets/enc-key-rotation-gecko-bear/gecko__bear-640x360-a_frag-cenc-key_rotation.mp4",
        1,
        1,
    ),
    (
        "sets/enc-key-rotation-gecko-bear/gecko__bear-640x360-v_frag-cenc-key_rotation.mp4",
        1,
        0,
    ),
    ("sets/enc-misc/androidx__sample_fragmented_clearkey.mp4", 2, 0),
    ("sets/enc-misc/gecko__bipbop-cenc-video-10s.mp4", 1, 1),
    ("sets/enc-misc/gecko__gizmo-frag.mp4", 2, 1),
    ("sets/enc-misc/gecko__opus-sample-cenc.mp4", 1, 1),
    ("sets/enc-misc/gecko__short-cenc.mp4", 2, 1),
    ("sets/enc-misc/mp4ff__cbcs.mp4", 1, 0),
    ("sets/enc-misc/mp4ff__prog_8s_enc_dashinit.mp4", 2, 0),
    ("sets/enc-wpt-cenc/wpt__audio_aac-lc_128k_enc_dashinit.mp4", 1, 1),
    ("sets/enc-wpt-cenc/wpt__video_512x288_h264-360k_enc_dashinit.mp4", 1, 0),
];

#[test]
fn encrypted_tracks_need_keys_that_fit() {
    let Some(media) = media() else { return };
    for (name, track_count, noticed_count) in KEYED {
        let right = keys(&media, name);
        let file = load(&media.join(name));
        let found = movie::read_encrypted(&file, &right).unwrap();
        assert_eq!(found.tracks.len(), *track_count, "{name}: {:?}", found.refused);

        let without = movie::read_encrypted(&file, &NoKeys).unwrap();
        assert!(without.tracks.len() < *track_count, "{name}");
        assert!(
            without.refused.iter().any(|refusal| refusal.why.ends_with(": no key")),
            "{name}"
        );

        let wrong: Keys = right.keys().map(|id| (*id, ContentKey::new([0x5a; 16]))).collect();
        let refused = movie::read_encrypted(&file, &wrong).unwrap();
        let noticed = refused
            .refused
            .iter()
            .filter(|refusal| refusal.why.ends_with("the key does not fit"));
        assert!(noticed.count() >= *noticed_count, "{name}: {:?}", refused.refused);
    }
}
