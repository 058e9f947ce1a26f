//! Where protection begins in real samples, held against the header fields that FFmpeg's `trace_headers` prints.
//!
//! Skips loudly when ffmpeg, an encoder or the media folder is absent. The folder is `HEADWATER_MEDIA`, or `shared/media`
//! beside the repository.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    missing_docs
)]

#[path = "subsamples/encodes.rs"]
mod encodes;
#[path = "subsamples/trace.rs"]
mod trace;

use bytes::Bytes;
use packager::codec::bits::nal_units;
use packager::codec::{Codec, av1, hevc, vp9};
use packager::crypto::subsample::SubsampleScanner;
use packager::crypto::{ProtectionScheme, Subsample};
use packager::track::Track;
use std::path::{Path, PathBuf};
use std::process::Command;
use trace::Header;

/// Samples of one video track, and what became of them.
struct Scanned {
    codec: Codec,
    nal_length_size: u8,
    samples: Vec<Sample>,
    /// No sample was refused.
    whole: bool,
}

struct Sample {
    data: Bytes,
    /// Entries under `cbcs`, whose protected ranges begin right after a header (VP9: of whole blocks, ending with the frame).
    entries: Vec<Subsample>,
}

fn ffmpeg_is_here() -> bool {
    let here = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !here {
        eprintln!("SKIPPED: ffmpeg is not installed");
    }
    here
}

fn media() -> Option<PathBuf> {
    let folder = std::env::var("HEADWATER_MEDIA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/media").to_owned());
    let folder = PathBuf::from(folder);
    if !folder.is_dir() {
        eprintln!("SKIPPED: no media in {}", folder.display());
        return None;
    }
    Some(folder)
}

/// The first video track of an MP4 file, each sample under each scheme.
fn scan(file: &Path) -> Option<Scanned> {
    let source = Bytes::from(std::fs::read(file).expect("readable"));
    let tracks = packager::isobmff::movie::read(&source).ok()?.tracks;
    let track = tracks.into_iter().find(|track| track.description.video().is_some())?;
    let samples = scan_track(&track, &source, file);
    Some(Scanned {
        codec: track.description.codec,
        nal_length_size: track.description.video()?.nal_length_size,
        whole: samples.len() == track.index.sample_count() as usize,
        samples,
    })
}

fn scan_track(track: &Track, source: &Bytes, file: &Path) -> Vec<Sample> {
    if let Err(error) = SubsampleScanner::new(&track.description) {
        eprintln!("REFUSED: {}: {error}", file.display());
        return Vec::new();
    }
    let new = || SubsampleScanner::new(&track.description).expect("a description");
    // `cbc1` rounds as `cenc` does and has room for less.
    let mut scanners = [ProtectionScheme::Cenc, ProtectionScheme::Cbcs].map(|scheme| (scheme, new()));
    let mut samples = Vec::new();
    for sample in track.index.iter() {
        let start = usize::try_from(sample.offset).expect("in memory");
        let data = source.slice(start..start + sample.size as usize);
        let mut entries = Vec::new();
        for (scheme, scanner) in &mut scanners {
            entries.clear();
            let number = samples.len();
            if let Err(error) = scanner.append(*scheme, &data, &mut entries) {
                // Not damaged, but encrypted already or cut off.
                eprintln!("REFUSED: {} sample {number}: {error}", file.display());
                return samples;
            }
            check_entries(*scheme, &data, &entries, &format!("{} sample {number}", file.display()));
        }
        samples.push(Sample { data, entries });
    }
    samples
}

/// What holds for any sample of video.
fn check_entries(scheme: ProtectionScheme, data: &[u8], entries: &[Subsample], what: &str) {
    let total: u64 = entries
        .iter()
        .map(|entry| u64::from(entry.clear) + u64::from(entry.protected))
        .sum();
    assert_eq!(total, data.len() as u64, "{what}: entries account for all bytes");
    for (position, entry) in entries.iter().enumerate() {
        if scheme != ProtectionScheme::Cbcs {
            assert_eq!(entry.protected % 16, 0, "{what}: whole blocks");
        }
        if entry.protected == 0 {
            let last = position + 1 == entries.len();
            assert!(last || entry.clear == u16::MAX, "{what}: a clear entry in the middle");
        }
    }
}

/// Protected ranges of a sample.
fn protected_ranges(entries: &[Subsample]) -> Vec<std::ops::Range<usize>> {
    let mut end = 0;
    let mut ranges = Vec::new();
    for entry in entries {
        let start = end + usize::from(entry.clear);
        end = start + entry.protected as usize;
        if entry.protected > 0 {
            ranges.push(start..end);
        }
    }
    ranges
}

/// A unit of picture data as the scanner found it.
struct Unit {
    /// Bytes before the first that is protected, without emulation prevention; all where none is.
    clear_bytes: usize,
    size_bytes: usize,
}

fn units(scanned: &Scanned, sample: &Sample) -> Vec<Unit> {
    let ranges = protected_ranges(&sample.entries);
    let in_unit = |unit: std::ops::Range<usize>| {
        let first = ranges.iter().find(|range| unit.contains(&range.start));
        Unit {
            clear_bytes: first.map_or(unit.len(), |range| range.start - unit.start),
            size_bytes: unit.len(),
        }
    };
    let data = &sample.data;
    let mut found = Vec::new();
    match scanned.codec {
        Codec::Avc | Codec::Hevc => {
            let mut units = nal_units(data, scanned.nal_length_size);
            while let Some(nal) = units.next() {
                let nal = nal.expect("whole");
                let is_slice = match scanned.codec {
                    Codec::Avc => matches!(nal[0] & 0x1f, 1 | 5),
                    _ => nal[0] >> 1 & 0x3f < 32 && hevc::layer_id(nal) == Some(0),
                };
                if is_slice {
                    let mut unit = in_unit(units.offset_bytes() - nal.len()..units.offset_bytes());
                    unit.clear_bytes -= emulation_prevention_count(&nal[..unit.clear_bytes]);
                    found.push(unit);
                }
            }
        }
        Codec::Av1 => {
            for obu in av1::obus(data) {
                let obu = obu.expect("whole");
                if matches!(obu.obu_type, av1::ObuType::FRAME | av1::ObuType::TILE_GROUP) {
                    found.push(in_unit(obu.range));
                }
            }
        }
        _ => found.extend(vp9::frames(data).expect("an index").into_iter().map(in_unit)),
    }
    found
}

fn emulation_prevention_count(bytes: &[u8]) -> usize {
    let (mut count, mut zeros) = (0, 0);
    for &byte in bytes {
        if zeros >= 2 && byte == 3 {
            count += 1;
            zeros = 0;
        } else {
            zeros = if byte == 0 { zeros + 1 } else { 0 };
        }
    }
    count
}

/// Compares each header; says how many there were.
fn compare(what: &str, scanned: &Scanned, traced: Vec<Header>) -> usize {
    let traced = trace::pictures(scanned.codec, traced);
    let found: Vec<Unit> = scanned
        .samples
        .iter()
        .flat_map(|sample| units(scanned, sample))
        .collect();
    if scanned.whole {
        assert_eq!(found.len(), traced.len(), "{what}: headers");
    }
    for (number, (unit, header)) in found.iter().zip(&traced).enumerate() {
        let mut expected = header.size_bytes();
        if scanned.codec == Codec::Vp9 {
            expected += (unit.size_bytes - expected) % 16;
        }
        assert_eq!(unit.clear_bytes, expected, "{what}: header {number}, {header:?}");
    }
    found.len()
}

#[test]
fn headers_of_encodes_end_where_ffmpeg_says() {
    if !ffmpeg_is_here() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("headwater-subsamples-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let queue = std::sync::Mutex::new(encodes::all().into_iter().enumerate());
    let work = || {
        let (mut file_count, mut header_count) = (0, 0);
        loop {
            let Some((number, encode)) = queue.lock().expect("no one panicked").next() else {
                return (file_count, header_count);
            };
            let file = folder.join(format!("{number}.mp4"));
            let Some(traced) = encode.run(&file) else {
                eprintln!("SKIPPED: ffmpeg does not make {encode}");
                continue;
            };
            let scanned = scan(&file).unwrap_or_else(|| panic!("{encode}: no video"));
            header_count += compare(&encode.to_string(), &scanned, traced);
            file_count += 1;
            std::fs::remove_file(&file).expect("it was there");
        }
    };
    let counts = std::thread::scope(|scope| [scope.spawn(work), scope.spawn(work)].map(|worker| worker.join()));
    std::fs::remove_dir_all(&folder).expect("it was there");
    for count in counts {
        let (file_count, header_count) = count.expect("as FFmpeg says");
        eprintln!("{file_count} encodes, {header_count} headers");
    }
}

#[test]
fn headers_of_real_files_end_where_ffmpeg_says() {
    let Some(media) = media().filter(|_| ffmpeg_is_here()) else {
        return;
    };
    let mut counts = std::collections::BTreeMap::<&str, (usize, usize, usize)>::new();
    let mut folders = vec![media];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.extend((!path.ends_with("corrupt")).then_some(path));
                continue;
            }
            let Some(scanned) = path
                .extension()
                .filter(|extension| ["mp4", "mov", "m4s"].iter().any(|known| extension == known))
                .and_then(|_| scan(&path))
            else {
                continue;
            };
            if scanned.codec == Codec::Vp8 || scanned.samples.is_empty() {
                continue;
            }
            let Some(traced) = trace::of_file(&path) else {
                eprintln!("SKIPPED: ffmpeg does not read {}", path.display());
                continue;
            };
            let count = counts.entry(scanned.codec.name()).or_default();
            count.0 += 1;
            count.1 += scanned.samples.len();
            count.2 += compare(&path.display().to_string(), &scanned, traced);
        }
    }
    for (codec, (file_count, sample_count, header_count)) in counts {
        eprintln!("{codec}: {file_count} files, {sample_count} samples, {header_count} headers");
    }
}

/// For `tests/oracle/subsamples.py`: one line of JSON for each video track and scheme of the files that
/// `HEADWATER_FILES` names, a line each.
#[test]
#[ignore = "prints for another program"]
fn print_entries() {
    let files = std::env::var("HEADWATER_FILES").expect("files");
    for file in files.lines() {
        let source = Bytes::from(std::fs::read(file).expect("readable"));
        let Some(container) = packager::container::recognise(&source) else {
            continue;
        };
        let tracks = match container {
            packager::container::Container::Matroska => {
                packager::matroska::read(&source).map(|tracks| tracks.tracks).ok()
            }
            _ => packager::isobmff::movie::read(&source).map(|tracks| tracks.tracks).ok(),
        };
        for track in tracks.into_iter().flatten() {
            if track.description.video().is_some() {
                print_track(file, &track, &source);
            }
        }
    }
}

fn print_track(file: &str, track: &Track, source: &Bytes) {
    let codec = track.description.codec.name();
    let id = track.description.source_track_id;
    for (name, scheme) in [("cenc", ProtectionScheme::Cenc), ("cbcs", ProtectionScheme::Cbcs)] {
        let mut samples = Vec::new();
        let mut error = String::new();
        match SubsampleScanner::new(&track.description) {
            Err(refused) => error = refused.to_string(),
            Ok(mut scanner) => {
                for sample in track.index.iter() {
                    let start = usize::try_from(sample.offset).expect("in memory");
                    let data = source.slice(start..start + sample.size as usize);
                    let mut entries = Vec::new();
                    if let Err(refused) = scanner.append(scheme, &data, &mut entries) {
                        error = format!("sample {}: {refused}", samples.len());
                        break;
                    }
                    let entries: Vec<String> = entries
                        .iter()
                        .map(|entry| format!("[{},{}]", entry.clear, entry.protected))
                        .collect();
                    samples.push(format!("[{},[{}]]", data.len(), entries.join(",")));
                }
            }
        }
        let samples = samples.join(",");
        println!(
            "ENTRIES {{\"file\":{file:?},\"track\":{id},\"codec\":{codec:?},\"scheme\":{name:?},\"error\":{error:?},\"samples\":[{samples}]}}"
        );
    }
}
