//! Containers of others, read by us and by ffprobe: the same samples at the same times.
//!
//! Needs ffprobe and the collection of real files (`HEADWATER_MEDIA`, else `shared/media` beside the repository); says
//! so loudly and passes where either is missing.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use packager::codec::Codec;
use packager::demux::Demuxer;
use packager::elementary::{ElementaryError, ac3, adts, flac, mpeg_audio};
use packager::matroska;
use packager::ogg::OggDemuxer;
use packager::source::{ReadAt, SourceTracks};
use packager::time::{MediaTime, Rounding, Timescale};
use packager::track::Track;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The folder of real files, or `None` after having said that it is missing.
fn media() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/media");
    let folder = std::env::var_os("HEADWATER_MEDIA").map_or_else(|| PathBuf::from(default), PathBuf::from);
    if !folder.is_dir() {
        eprintln!("SKIPPED: no media at {}; set HEADWATER_MEDIA", folder.display());
        return None;
    }
    Some(folder)
}

/// Files of `folder` whose name ends in one of `endings`, sorted.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)))
        .collect();
    files.sort();
    files
}

fn load(path: &Path) -> Bytes {
    Bytes::from(std::fs::read(path).unwrap())
}

/// A packet as ffprobe sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Probed {
    /// Nanoseconds, when there is a time.
    presentation_ns: Option<i128>,
    key: bool,
    size: u32,
    sha256: String,
}

/// Codec name and packets by stream index.
type Streams = BTreeMap<u64, (String, Vec<Probed>)>;

/// ffprobe's packets by stream index with the codec's name, or `None` where there is no ffprobe.
fn probe(path: &Path) -> Option<Streams> {
    let entries = "stream=index,codec_name,time_base:packet=stream_index,pts,size,flags,data_hash";
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-show_data_hash",
            "sha256",
            "-show_entries",
            entries,
            "-of",
            "json",
        ])
        .arg(path)
        .output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: no ffprobe");
        return None;
    };
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut streams = Streams::new();
    let mut time_bases = BTreeMap::new();
    for stream in found["streams"].as_array().unwrap() {
        let index = stream["index"].as_u64().unwrap();
        let (numerator, denominator) = stream["time_base"].as_str().unwrap().split_once('/').unwrap();
        time_bases.insert(
            index,
            (numerator.parse::<i128>().unwrap(), denominator.parse::<i128>().unwrap()),
        );
        streams.insert(
            index,
            (stream["codec_name"].as_str().unwrap_or("").to_owned(), Vec::new()),
        );
    }
    for packet in found["packets"].as_array().unwrap() {
        let index = packet["stream_index"].as_u64().unwrap();
        let (numerator, denominator) = time_bases[&index];
        streams.get_mut(&index).unwrap().1.push(Probed {
            presentation_ns: packet["pts"]
                .as_i64()
                .map(|pts| i128::from(pts) * numerator * 1_000_000_000 / denominator),
            key: packet["flags"].as_str().unwrap().starts_with('K'),
            size: packet["size"].as_str().unwrap().parse().unwrap(),
            sha256: packet["data_hash"]
                .as_str()
                .unwrap()
                .split(':')
                .next_back()
                .unwrap()
                .to_lowercase(),
        });
    }
    Some(streams)
}

fn codec_of(name: &str) -> Option<Codec> {
    Some(match name {
        "h264" => Codec::Avc,
        "hevc" => Codec::Hevc,
        "av1" => Codec::Av1,
        "vp9" => Codec::Vp9,
        "vp8" => Codec::Vp8,
        "aac" => Codec::Aac,
        "mp3" => Codec::Mp3,
        "ac3" => Codec::Ac3,
        "eac3" => Codec::Eac3,
        "opus" => Codec::Opus,
        "flac" => Codec::Flac,
        _ => return None,
    })
}

fn nanoseconds(ticks: i64, scale: Timescale) -> i128 {
    i128::from(MediaTime::new(ticks, scale).to_scale(Timescale::new(1_000_000_000).unwrap(), Rounding::Nearest))
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Presentation time in nanoseconds, sync and bytes of every sample of `track`.
fn samples(track: &Track, source: &Bytes) -> Vec<Probed> {
    let index = &track.index;
    let sample = |sample: packager::index::Sample| {
        let bytes = &source[sample.offset as usize..][..sample.size as usize];
        Probed {
            presentation_ns: Some(nanoseconds(index.presentation_time(&sample), index.timescale())),
            key: sample.sync,
            size: sample.size,
            sha256: hash(bytes),
        }
    };
    index.iter().map(sample).collect()
}

/// Checks that the tracks are the streams ffprobe sees, sample by sample; times may differ by `tolerance_ns` and by one
/// offset that all tracks share.
fn check_tracks(path: &Path, source: &Bytes, read: &SourceTracks, tolerance_ns: i128) {
    let Some(streams) = probe(path) else { return };
    check_streams(path, source, read, &streams, tolerance_ns);
}

fn check_streams(path: &Path, source: &Bytes, read: &SourceTracks, streams: &Streams, tolerance_ns: i128) {
    let served: Vec<_> = streams.values().filter(|(name, _)| codec_of(name).is_some()).collect();
    let codecs: Vec<_> = read.tracks.iter().map(|track| track.description.codec).collect();
    let wanted: Vec<_> = served.iter().filter_map(|(name, _)| codec_of(name)).collect();
    assert_eq!(codecs, wanted, "{}: {:?}", path.display(), read.refused);
    let mut offset = None;
    for (track, (name, wanted)) in read.tracks.iter().zip(served) {
        let found = samples(track, source);
        let at = format!("{} {name}", path.display());
        assert_eq!(found.len(), wanted.len(), "{at}: {:?}", read.refused);
        let mut worst = 0;
        for (sample_index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
            if (found.size, &found.sha256) != (wanted.size, &wanted.sha256) {
                // ffprobe's ADTS packets begin with their header, which is no part of a sample.
                let sample = track.index.sample(sample_index as u32).unwrap();
                let header_size = wanted.size - found.size;
                assert!(matches!(header_size, 7 | 9), "{at} sample {sample_index}");
                let whole = &source[sample.offset as usize - header_size as usize..][..wanted.size as usize];
                assert_eq!(
                    (whole[0], hash(whole)),
                    (0xff, wanted.sha256.clone()),
                    "{at} sample {sample_index}"
                );
            }
            assert_eq!(found.key, wanted.key, "{at} sample {sample_index}");
            if let (Some(found), Some(wanted)) = (found.presentation_ns, wanted.presentation_ns) {
                let off = wanted - found - *offset.get_or_insert(wanted - found);
                worst = off.abs().max(worst);
                assert!(
                    off.abs() <= tolerance_ns,
                    "{at} sample {sample_index}: {found} for {wanted}, {off} off"
                );
            }
        }
        eprintln!(
            "{at}: {} samples at {:?}, worst {worst} ns",
            found.len(),
            track.index.timescale()
        );
    }
}

#[test]
fn matroska_agrees_with_ffprobe() {
    let Some(media) = media() else { return };
    for path in files(&media.join("mkv-webm"), &[".mkv", ".webm", ".mka"]) {
        let source = load(&path);
        assert!(matroska::recognises(&source[..source.len().min(4096)]));
        let read = matroska::read(&source).unwrap();
        // Two ticks of a millisecond: ffprobe rounds the codec delay to one as well.
        check_tracks(&path, &source, &read, 2_000_000);
        for refusal in &read.refused {
            eprintln!("{}: {}: {}", path.display(), refusal.what, refusal.why);
        }
    }
}

/// A reader of elementary streams, by what recognises its files.
type Reader = (
    fn(&[u8]) -> bool,
    fn(&dyn ReadAt) -> Result<SourceTracks, ElementaryError>,
);

const READERS: [Reader; 4] = [
    (adts::recognises, adts::read),
    (mpeg_audio::recognises, mpeg_audio::read),
    (ac3::recognises, ac3::read),
    (flac::recognises, flac::read),
];

/// Index in [`READERS`] of the one that recognises `source`; there is at most one.
fn recognised(source: &Bytes) -> Option<usize> {
    let head = &source[..source.len().min(4096)];
    let mut readers = (0..READERS.len()).filter(|at| READERS[*at].0(head));
    let first = readers.next();
    assert_eq!(readers.next(), None);
    first
}

#[test]
fn elementary_streams_agree_with_ffprobe() {
    let Some(media) = media() else { return };
    for path in files(&media.join("audio-raw"), &[".aac", ".adts", ".mp3", ".ac3", ".flac"]) {
        let source = load(&path);
        let Some(reader) = recognised(&source) else {
            panic!("{}: not recognised", path.display())
        };
        let read = READERS[reader].1(&source).unwrap();
        // ffprobe counts AC-3 in 90 kHz, each frame rounded down: a frame missed would be four times this.
        check_tracks(&path, &source, &read, 5_000_000);
        for refusal in &read.refused {
            eprintln!("{}: {}: {}", path.display(), refusal.what, refusal.why);
        }
    }
}

#[test]
fn ogg_agrees_with_ffprobe() {
    let Some(media) = media() else { return };
    for path in files(&media.join("audio-raw"), &[".opus", ".ogg"]) {
        let source = load(&path);
        let Some(streams) = probe(&path) else { return };
        let (name, wanted) = &streams[&0];
        for push_size in [1, 1000, source.len()] {
            let mut demuxer = OggDemuxer::new();
            let mut packets = Vec::new();
            for bytes in source.chunks(push_size) {
                demuxer.push(bytes, &mut packets).unwrap();
            }
            demuxer.finish(&mut packets).unwrap();
            assert_eq!(
                (demuxer.tracks().len(), name.as_str()),
                (1, "opus"),
                "{:?}",
                demuxer.refused()
            );
            let track = &demuxer.tracks()[0];
            let timescale = track.description.as_ref().unwrap().timescale;
            // ffprobe goes on into what is chained behind the first stream.
            let is_whole = packets.len() == wanted.len();
            let refused = demuxer.refused();
            assert!(
                packets.len() > 50 && is_whole == refused.is_empty(),
                "{}: {refused:?}",
                path.display()
            );
            for (index, (packet, wanted)) in packets.iter().zip(wanted).enumerate() {
                let presentation_ns = nanoseconds(packet.presentation_time - track.media_time, timescale);
                let at = format!("{} packet {index}", path.display());
                assert_eq!(hash(&packet.data), wanted.sha256, "{at}");
                let off = presentation_ns - wanted.presentation_ns.unwrap();
                assert!(off.abs() <= 1, "{at}: {off} off");
            }
        }
    }
}
