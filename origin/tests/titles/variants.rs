//! Watermark variants: one playlist, one header, and segments that the pattern in the grant chooses.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use origin::asset::Asset;
use origin::error::ServeError;
use origin::protect::{Protector, Titles};
use packager::crypto::ContentKey;

use super::{House, OWN_KEY, OWN_KID, get, id_of, samples, text, version, whole};

/// Twelve seconds of pictures, with a key frame each `gop`; `None`, loudly, where ffmpeg can not make them.
fn film(path: &Path, source: &str, gop: &str) -> Option<()> {
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i"])
        .arg(format!("{source}=size=320x180:rate=25:duration=12"))
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-pix_fmt",
            "yuv420p",
            "-sc_threshold",
            "0",
            "-g",
            gop,
        ])
        .arg(path)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: ffmpeg is not installed or can not encode H.264");
        return None;
    }
    Some(())
}

/// A house with one title in two variants.
fn house(name: &str, gop_of_b: &str) -> Option<House> {
    let house = House::new(name, Titles::Keyed);
    let ladder = house.folder.join("library/film");
    std::fs::create_dir_all(&ladder).unwrap();
    film(&ladder.join("a.mp4"), "testsrc2", "50")?;
    film(&ladder.join("b.mp4"), "testsrc", gop_of_b)?;
    let text = "title = \"Film\"\n[[track]]\nfile = \"a.mp4\"\nvariant = \"a\"\n[[track]]\nfile = \"b.mp4\"\nvariant = \"b\"\n";
    std::fs::write(ladder.join("ladder.toml"), text).unwrap();
    Some(house)
}

const A: Option<&[u8]> = Some(&[0x00]);
const B: Option<&[u8]> = Some(&[0xff]);
/// The second segment alone is of variant b.
const SECOND: Option<&[u8]> = Some(&[0x40]);

fn segment(
    protector: &Protector,
    asset: &Arc<Asset>,
    base: &str,
    number: u32,
    pattern: Option<&[u8]>,
) -> (Vec<u8>, String) {
    get(protector, asset, &format!("{base}/{number}.m4s"), pattern).unwrap()
}

#[test]
fn segments_are_those_that_the_pattern_chooses() {
    let Some(house) = house("variants", "50") else { return };
    let (store, protector) = house.open();
    let asset = store.open(&id_of(&store)).unwrap();
    let base = format!("v{}/cmaf/v1", asset.presentation.version);
    let of = |number, pattern| segment(&protector, &asset, &base, number, pattern);
    for number in 1..=3 {
        let (one, other) = (of(number, A), of(number, B));
        assert_ne!(one.0, other.0, "segment {number}");
        assert_ne!(one.1, other.1, "validators of segment {number}");
        let expected = if number == 2 { other } else { one };
        assert_eq!(of(number, SECOND), expected, "segment {number}");
    }
    // Whoever has no pattern gets what is the same for all, and no segment.
    for path in ["index.m3u8", "init.mp4"] {
        let path = format!("{base}/{path}");
        let (none, one) = (get(&protector, &asset, &path, None), get(&protector, &asset, &path, B));
        assert_eq!(none.unwrap().0, one.unwrap().0, "{path}");
    }
    for path in ["1.m4s", "iframe-1.m4s", "../../ts/v1/1.ts"] {
        let path = format!("{base}/{path}").replace("/cmaf/v1/../../ts", "/ts");
        for pattern in [None, Some(&[][..])] {
            let error = get(&protector, &asset, &path, pattern).unwrap_err();
            assert!(
                matches!(error, ServeError::GrantRefused { reason: "watermark" }),
                "{path}: {error}"
            );
        }
        assert_ne!(
            get(&protector, &asset, &path, A).unwrap().0,
            get(&protector, &asset, &path, B).unwrap().0,
            "{path}"
        );
    }
    // No file for everybody, and no other segments.
    for path in ["media.mp4", "~s2000/cmaf/v1/1.m4s"] {
        let path = format!("{base}/{path}").replace("/cmaf/v1/~", "~");
        assert!(
            matches!(get(&protector, &asset, &path, A), Err(ServeError::NotFound)),
            "{path}"
        );
    }
    let master = text(&protector, &asset, "master.m3u8");
    assert_eq!(master.matches("#EXT-X-STREAM-INF").count(), 1, "{master}");
}

#[test]
fn variants_never_meet_in_a_counter() {
    let Some(house) = house("counters", "50") else { return };
    let id = id_of(&house.open().0);
    house.keys(&id, &[(OWN_KID.0, OWN_KEY, "cenc"), ([0x78; 16], OWN_KEY, "cbcs")]);
    let (store, protector) = house.open();
    let asset = store.open(&id).unwrap();
    let files = ["a.mp4", "b.mp4"].map(|name| super::load(&house.folder.join("library/film").join(name)));
    let none = BTreeMap::new();
    let keys = BTreeMap::from([
        (OWN_KID, ContentKey::new(OWN_KEY)),
        (packager::crypto::KeyId([0x78; 16]), ContentKey::new(OWN_KEY)),
    ]);
    // The default form, and the one that counts.
    let cbcs = version(&protector, &asset);
    let cenc = text(&protector, &asset, "master.m3u8?scheme=cenc");
    let cenc = cenc.split_once("\nv").unwrap().1.split('/').next().unwrap().to_owned();
    for (form, version) in [("cmaf-cbcs", cbcs), ("cmaf-cenc", cenc)] {
        let served = [A, B].map(|pattern| whole(&protector, &asset, &version, form, pattern).unwrap());
        for (served, original) in served.iter().zip(&files) {
            assert_eq!(samples(served, &keys), samples(original, &none), "{form}");
        }
        let ivs = served.map(|file| ivs(&file));
        let shared = ivs[0].iter().any(|iv| ivs[1].contains(iv));
        assert!(!shared, "{form}: an IV of both variants");
    }
}

/// Initialisation vectors of all samples, where each has its own (eight bytes).
fn ivs(file: &[u8]) -> Vec<Vec<u8>> {
    let at = |position: usize| u32::from_be_bytes(file[position..position + 4].try_into().unwrap()) as usize;
    let mut found = Vec::new();
    for (position, _) in file.windows(4).enumerate().filter(|(_, name)| name == b"senc") {
        let (flags, mut row) = (at(position + 4), position + 12);
        // Without IVs a row begins with its count of subsamples.
        let own = file.windows(4).any(|name| name == b"cenc") as usize * 8;
        for _ in 0..at(position + 8) {
            if own > 0 {
                found.push(file[row..row + own].to_vec());
            }
            let count = u16::from_be_bytes([file[row + own], file[row + own + 1]]) as usize;
            assert_eq!(flags, 2);
            row += own + 2 + count * 6;
        }
    }
    found
}

#[test]
fn variants_cut_apart_are_refused_by_name() {
    let Some(house) = house("apart", "36") else { return };
    let (store, _) = house.open();
    let error = store.open(&id_of(&store)).unwrap_err().to_string();
    assert!(error.contains("v1: segment 1 of variant a is 0 + "), "{error}");
    std::fs::remove_file(house.folder.join("library/film/b.mp4")).unwrap();
    let text = "title = \"Film\"\n[[track]]\nfile = \"a.mp4\"\nvariant = \"a\"\n";
    std::fs::write(house.folder.join("library/film/ladder.toml"), text).unwrap();
    let (store, _) = house.open();
    let error = store.open(&id_of(&store)).unwrap_err().to_string();
    assert!(error.contains("1 files of variant a, 0 of variant b"), "{error}");
}
