//! What the codec room reads from real files, held against what ffprobe says of them.
//!
//! Skips loudly when ffprobe or the media folder is absent. The folder is `HEADWATER_MEDIA`, or `shared/media` beside the
//! repository.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

#[path = "codec_media/audio.rs"]
mod audio;
#[path = "codec_media/video.rs"]
mod video;

use packager::codec::aac::AudioSpecificConfig;
use packager::codec::aac::adts::AdtsHeader;
use packager::codec::aac::esds::Esds;
use packager::codec::aac::latm::LatmReader;
use packager::codec::bits::{annex_b_units, nal_units};
use packager::codec::{ac3, av1, avc, flac, hevc, mpeg_audio, opus, vp8, vp9};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packets asked of each file, of all its streams together.
const PACKET_COUNT_MAX: usize = 40;

/// One stream as ffprobe sees it.
struct Stream {
    facts: Value,
    extradata: Vec<u8>,
    packets: Vec<Packet>,
}

struct Packet {
    data: Vec<u8>,
    key: bool,
    duration: Option<u64>,
}

impl Stream {
    fn text(&self, field: &str) -> &str {
        self.facts[field].as_str().unwrap_or("")
    }

    /// Numbers come bare or quoted.
    fn number(&self, field: &str) -> i64 {
        let value = &self.facts[field];
        value
            .as_i64()
            .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
            .unwrap_or(-1)
    }
}

fn media() -> Option<PathBuf> {
    let folder = std::env::var("HEADWATER_MEDIA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/media").to_owned());
    let folder = PathBuf::from(folder);
    if !folder.is_dir() {
        eprintln!("SKIPPED: no media in {}", folder.display());
        return None;
    }
    if Command::new("ffprobe").arg("-version").output().is_err() {
        eprintln!("SKIPPED: ffprobe is not installed");
        return None;
    }
    Some(folder)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// What ffprobe says of each file, in order; asked four at a time, for starting it takes longest.
fn probe_all(paths: &[PathBuf]) -> Vec<Vec<Stream>> {
    let workers = 4;
    let mut probed: Vec<Vec<Stream>> = Vec::new();
    std::thread::scope(|scope| {
        let chunks = paths.chunks(paths.len().div_ceil(workers).max(1));
        let running: Vec<_> = chunks
            .map(|chunk| scope.spawn(move || chunk.iter().map(|path| probe(path)).collect::<Vec<_>>()))
            .collect();
        for worker in running {
            probed.extend(worker.join().expect("probing does not panic"));
        }
    });
    probed
}

fn probe(file: &Path) -> Vec<Stream> {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-show_streams",
            "-show_packets",
            "-show_data",
            "-of",
            "json",
            "-read_intervals",
        ])
        .arg(format!("%+#{PACKET_COUNT_MAX}"))
        .arg(file)
        .output()
        .expect("ffprobe runs");
    let Ok(found) = serde_json::from_slice::<Value>(&output.stdout) else {
        return Vec::new();
    };
    let empty = Vec::new();
    let mut streams: Vec<Stream> = found["streams"]
        .as_array()
        .unwrap_or(&empty)
        .iter()
        .map(|facts| Stream {
            facts: facts.clone(),
            extradata: dump(&facts["extradata"]),
            packets: Vec::new(),
        })
        .collect();
    for packet in found["packets"].as_array().unwrap_or(&empty) {
        let index = packet["stream_index"].as_u64().unwrap_or(u64::MAX) as usize;
        let Some(stream) = streams.get_mut(index) else { continue };
        stream.packets.push(Packet {
            data: dump(&packet["data"]),
            key: packet["flags"].as_str().is_some_and(|flags| flags.starts_with('K')),
            duration: packet["duration"].as_u64(),
        });
    }
    streams
}

/// Bytes of ffprobe's dump: an address, eight groups of two bytes, then characters.
fn dump(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in value.as_str().unwrap_or("").lines() {
        let Some(groups) = line.as_bytes().get(10..) else {
            continue;
        };
        for digits in groups[..groups.len().min(40)]
            .chunks(5)
            .flat_map(|group| group[..4.min(group.len())].chunks(2))
        {
            if let Some(byte) = std::str::from_utf8(digits)
                .ok()
                .and_then(|text| u8::from_str_radix(text, 16).ok())
            {
                bytes.push(byte);
            }
        }
    }
    bytes
}

/// Differences found, and streams looked at by codec.
#[derive(Default)]
struct Report {
    differences: Vec<String>,
    streams: BTreeMap<String, usize>,
    stream: String,
    /// Whether the file may begin and end inside a picture or frame.
    cut: bool,
}

impl Report {
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, ours: T, theirs: T) {
        if ours != theirs {
            self.differences
                .push(format!("{}: {what}: ours {ours:?}, ffprobe {theirs:?}", self.stream));
        }
    }

    fn fail(&mut self, what: String) {
        self.differences.push(format!("{}: {what}", self.stream));
    }
}

#[test]
fn real_files_agree_with_ffprobe() {
    let Some(folder) = media() else { return };
    let mut paths = Vec::new();
    files(&folder, &mut paths);
    paths.sort();
    // Damaged files have no truth to compare with, encrypted samples no readable headers, text nothing of this room.
    let text = ["tsv", "md", "vtt", "srt", "xml", "dtd", "ttml"];
    paths.retain(|path| {
        let name = path.strip_prefix(&folder).expect("inside").display().to_string();
        let is_text = path
            .extension()
            .is_some_and(|extension| text.iter().any(|text| extension == *text));
        !is_text && !name.starts_with("corrupt/") && !name.contains("/enc-") && !name.contains("fragmented_uuid")
    });
    let mut report = Report::default();
    for (path, streams) in paths.iter().zip(probe_all(&paths)) {
        let name = path.strip_prefix(&folder).expect("inside").display().to_string();
        // A capture begins and ends anywhere.
        report.cut = name.starts_with("ts/");
        for (index, stream) in streams.iter().enumerate() {
            let codec = stream.text("codec_name").to_owned();
            report.stream = format!("{name}#{index} {codec}");
            match codec.as_str() {
                "h264" => video::check_avc(stream, &mut report),
                "hevc" => video::check_hevc(stream, &mut report),
                "av1" => video::check_av1(stream, &mut report),
                "vp9" => video::check_vp9(stream, &mut report),
                "vp8" => video::check_vp8(stream, &mut report),
                "aac" => audio::check_aac(stream, &mut report),
                "aac_latm" => audio::check_latm(stream, &mut report),
                "mp1" | "mp2" | "mp3" => audio::check_mpeg_audio(stream, &mut report),
                "ac3" | "eac3" => audio::check_ac3(stream, &mut report),
                "opus" => audio::check_opus(stream, &mut report),
                "flac" => audio::check_flac(stream, &mut report),
                _ => continue,
            }
            *report.streams.entry(codec).or_default() += 1;
        }
    }
    eprintln!("{:?}", report.streams);
    assert!(report.differences.is_empty(), "{}", report.differences.join("\n"));
    for (codec, least) in [
        ("h264", 40),
        ("hevc", 8),
        ("av1", 5),
        ("vp9", 4),
        ("aac", 30),
        ("ac3", 5),
        ("opus", 4),
    ] {
        assert!(
            report.streams.get(codec).is_some_and(|&count| count >= least),
            "too few {codec} streams"
        );
    }
}

/// Every byte of every file, damaged ones included, through everything that reads bytes. Nothing to compare: it must
/// come back.
#[test]
fn damaged_files_never_panic() {
    let Some(folder) = media() else { return };
    let mut paths = Vec::new();
    files(&folder.join("corrupt"), &mut paths);
    let mut streams = 0;
    for probed in probe_all(&paths) {
        for stream in probed {
            streams += 1;
            for data in stream
                .packets
                .iter()
                .map(|packet| &packet.data)
                .chain([&stream.extradata])
            {
                read_everything(data);
            }
        }
    }
    eprintln!("{streams} streams of {} damaged files", paths.len());
}

fn read_everything(data: &[u8]) {
    for size in 1..=4 {
        for unit in nal_units(data, size).flatten().chain(annex_b_units(data)) {
            let _ = (
                avc::Sps::parse(unit),
                avc::Pps::parse(unit),
                avc::SliceStart::parse(unit),
            );
            let _ = (
                avc::is_recovery_point(unit),
                hevc::Sps::parse(unit),
                hevc::Pps::parse(unit),
            );
            let _ = hevc::Vps::parse(unit);
        }
    }
    let _ = (
        avc::AvcConfig::parse(data),
        hevc::HevcConfig::parse(data),
        av1::Av1Config::parse(data),
    );
    let _ = (
        av1::TemporalUnit::parse(data, None),
        av1::sample_ranges(data),
        vp8::FrameHeader::parse(data),
    );
    let _ = (
        vp9::is_key_frame(data),
        vp9::VpConfig::parse(data),
        AudioSpecificConfig::parse(data),
    );
    let _ = (
        AdtsHeader::parse(data),
        Esds::parse(data),
        LatmReader::new().frames(data),
    );
    let _ = (
        mpeg_audio::FrameHeader::parse(data),
        ac3::AccessUnit::parse(data),
        opus::packet_samples(data),
    );
    let _ = (
        opus::OpusConfig::parse_head(data),
        flac::StreamInfo::parse_file(data),
        flac::FrameHeader::parse(data),
    );
}
