//! The sample entries we write for real tracks, read by ffprobe: it finds in our header what it finds in the source.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    missing_docs
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use packager::isobmff::{init, movie};
use serde_json::Value;

/// What a player learns from a header.
const FACTS: &[&str] = &[
    "codec_name",
    "width",
    "height",
    "sample_aspect_ratio",
    "color_range",
    "color_space",
    "color_transfer",
    "color_primaries",
    "sample_rate",
    "channels",
];

const FOLDERS: &[&str] = &[
    "audio-mp4",
    "av1",
    "avc",
    "avc-fragmented",
    "derived",
    "hdr",
    "hevc",
    "vp9-mp4",
];

/// Where ffprobe says something else of our header, and rightly.
const JUSTIFIED: &[(&str, &str, &[&str])] = &[
    (
        "audio-mp4/gecko-mse__whitenoise-he-aac-5s.mp4",
        "band replication and parametric stereo that no configuration signals: ffprobe decodes frames to find them",
        &["1: sample_rate \"24000\" for \"48000\"", "1: channels \"1\" for \"2\""],
    ),
    (
        "avc-fragmented/androidx__sample_fragmented_uuid.mp4",
        "the source's entry says two channels, its AAC configuration one",
        &["2: channels \"1\" for \"2\""],
    ),
];

fn media() -> Option<PathBuf> {
    let folder = std::env::var_os("HEADWATER_MEDIA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/media")),
        PathBuf::from,
    );
    if folder.is_dir() && Command::new("ffprobe").arg("-version").output().is_ok() {
        return Some(folder);
    }
    eprintln!("SKIPPED: needs ffprobe and media files in {}", folder.display());
    None
}

fn streams(file: &Path) -> Vec<Value> {
    let output = Command::new("ffprobe")
        .args(["-v", "quiet", "-show_streams", "-of", "json"])
        .arg(file)
        .output()
        .unwrap();
    let probed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    probed["streams"].as_array().cloned().unwrap_or_default()
}

/// A fact as text; what ffprobe leaves out when it has its default counts as that.
fn fact(stream: &Value, name: &str) -> String {
    match &stream[name] {
        Value::String(text) if text != "unknown" && text != "N/A" => text.clone(),
        Value::Number(number) => number.to_string(),
        _ if name == "sample_aspect_ratio" => "1:1".to_owned(),
        _ => String::new(),
    }
}

fn compare(file: &Path, scratch: &Path) -> Vec<String> {
    let Ok(tracks) = movie::read(&Bytes::from(std::fs::read(file).unwrap())) else {
        return Vec::new();
    };
    let sources = streams(file);
    let mut found = Vec::new();
    for track in &tracks.tracks {
        let id = track.description.source_track_id;
        let Some(source) = sources
            .iter()
            .find(|stream| stream["id"] == format!("0x{id:x}").as_str())
        else {
            continue;
        };
        std::fs::write(
            scratch,
            init::header(&track.description, init::InitFacts::of(&track.index)),
        )
        .unwrap();
        let [ours] = &streams(scratch)[..] else {
            found.push(format!("{id}: ffprobe can not read our header"));
            continue;
        };
        for name in FACTS {
            let (ours, theirs) = (fact(ours, name), fact(source, name));
            if ours != theirs {
                found.push(format!("{id}: {name} {ours:?} for {theirs:?}"));
            }
        }
    }
    found
}

#[test]
fn headers_say_what_the_sources_say() {
    let Some(media) = media() else { return };
    let scratch = std::env::temp_dir().join(format!("headwater-sample-entry-{}.mp4", std::process::id()));
    let mut wrong = Vec::new();
    for folder in FOLDERS {
        for file in std::fs::read_dir(media.join(folder)).unwrap() {
            let file = file.unwrap().path();
            let name = file.strip_prefix(&media).unwrap().to_str().unwrap().to_owned();
            let found = compare(&file, &scratch);
            let expected = JUSTIFIED.iter().find(|(justified, ..)| *justified == name);
            if found != expected.map_or(&[][..], |(_, _, differences)| differences) {
                wrong.push(format!("{name}: {found:#?}"));
            }
        }
    }
    let _ = std::fs::remove_file(&scratch);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
