//! Damaged files: those that broke others, and real ones damaged here. Whatever is read, nothing panics or hangs, and
//! what is served lies in the file.
//!
//! Needs the collection of real files (`HEADWATER_MEDIA`, else `shared/media` beside the repository); says so loudly and
//! passes where it is missing.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use packager::demux::Demuxer;
use packager::elementary::{ac3, adts, flac, mpeg_audio};
use packager::matroska;
use packager::ogg::OggDemuxer;
use packager::source::SourceTracks;

/// Longest any one file may take; the largest has 0.3 MB.
const READ_TIME_MAX: Duration = Duration::from_secs(5);

fn media() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/media");
    let folder = std::env::var_os("HEADWATER_MEDIA").map_or_else(|| PathBuf::from(default), PathBuf::from);
    if !folder.is_dir() {
        eprintln!("SKIPPED: no media at {}; set HEADWATER_MEDIA", folder.display());
        return None;
    }
    Some(folder)
}

fn load(path: &Path) -> Bytes {
    Bytes::from(std::fs::read(path).unwrap())
}

fn check_served(source: &Bytes, read: &SourceTracks) {
    for track in &read.tracks {
        for sample in track.index.iter() {
            assert!(sample.offset + u64::from(sample.size) <= source.len() as u64);
        }
    }
}

/// Reads `source` in every way there is; how many samples were found in all.
fn read_all(source: &Bytes) -> usize {
    let started = Instant::now();
    let mut found = 0;
    let head = &source[..source.len().min(4096)];
    for recognises in [
        matroska::recognises,
        adts::recognises,
        mpeg_audio::recognises,
        ac3::recognises,
        flac::recognises,
    ] {
        recognises(head);
    }
    let mut take = |read: Option<SourceTracks>| {
        if let Some(read) = read {
            check_served(source, &read);
            found += read
                .tracks
                .iter()
                .map(|track| track.index.sample_count() as usize)
                .sum::<usize>();
        }
    };
    take(matroska::read(source).ok());
    take(adts::read(source).ok());
    take(mpeg_audio::read(source).ok());
    take(ac3::read(source).ok());
    take(flac::read(source).ok());
    for entry in matroska::text_entries(source).unwrap_or_default() {
        found += matroska::read_text(source, entry.number).map_or(0, |track| track.cues().len());
    }
    let mut demuxer = OggDemuxer::new();
    let mut packets = Vec::new();
    let mut good = source
        .chunks(4096)
        .all(|bytes| demuxer.push(bytes, &mut packets).is_ok());
    good &= demuxer.finish(&mut packets).is_ok();
    assert!(
        packets.windows(2).all(|pair| pair[0].decode_time < pair[1].decode_time),
        "{good}"
    );
    assert!(started.elapsed() < READ_TIME_MAX, "{:?}", started.elapsed());
    found + packets.len()
}

#[test]
fn files_that_broke_others_are_read_or_refused() {
    let Some(media) = media() else { return };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(media.join("corrupt"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        let source = load(&path);
        let found = read_all(&source);
        let refused = matroska::read(&source).map(|read| read.refused);
        eprintln!("{}: {found} samples; as Matroska: {refused:?}", path.display());
    }
}

#[test]
fn small_files_cut_at_every_byte() {
    let Some(media) = media() else { return };
    for name in [
        "mkv-webm/androidx__sample_with_opus_audio.mkv",
        "mkv-webm/androidx__sample_av1.mkv",
    ] {
        let whole = load(&media.join(name));
        for size in 0..whole.len() {
            read_all(&whole.slice(..size));
        }
    }
}

#[test]
fn real_files_with_bytes_changed() {
    let Some(media) = media() else { return };
    type Read = fn(&Bytes) -> Option<SourceTracks>;
    let matroska: Read = |source| matroska::read(source).ok();
    let names: [(&str, usize, Read); 5] = [
        ("mkv-webm/androidx__sample_with_opus_audio.mkv", 20_000, matroska),
        ("mkv-webm/androidx__sample_av1.mkv", 20_000, matroska),
        ("mkv-webm/androidx__full_blocks.mkv", 5_000, matroska),
        ("audio-raw/gecko__adts.aac", 2_000, |source| adts::read(source).ok()),
        ("audio-raw/gecko__sin-441-1s-44100-lame.mp3", 2_000, |source| {
            mpeg_audio::read(source).ok()
        }),
    ];
    let mut seed = 0x6865_6164_7761_7465u64;
    for (name, rounds, read) in names {
        let whole = load(&media.join(name));
        for _ in 0..rounds {
            let mut bad = whole.to_vec();
            for _ in 0..4 {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                // Headers lie at the start; half of the damage goes there.
                let within = if seed & 1 == 0 { bad.len() } else { bad.len().min(600) };
                let at = (seed >> 33) as usize % within;
                bad[at] = if seed & 6 == 0 { 0xff } else { (seed >> 25) as u8 };
            }
            let bad = Bytes::from(bad);
            if let Some(read) = read(&bad) {
                check_served(&bad, &read);
            }
        }
    }
}
