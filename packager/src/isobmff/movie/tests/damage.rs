//! Damaged files: nothing panics, nothing takes long, nothing grows beyond what the file holds.
#![expect(clippy::disallowed_methods, reason = "reads real files to damage them")]

use std::path::PathBuf;

use bytes::Bytes;

use super::super::read;
use super::fixture::*;

/// xorshift64*: the same damage in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound.max(1)
    }
}

/// Reads, and asks every served track for everything.
fn exercise(source: &Bytes) {
    if let Ok(tracks) = read(source) {
        for track in &tracks.tracks {
            let end = source.len() as u64;
            for sample in track.index.iter() {
                assert!(
                    sample.offset + u64::from(sample.size) <= end,
                    "a sample outside of the file"
                );
                let _ = track.index.presentation_time(&sample);
            }
        }
    }
}

fn mutate(bytes: &mut [u8], random: &mut Random) {
    const INTERESTING: [u32; 8] = [0, 1, 7, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000, 50_000_000];
    for _ in 0..1 + random.below(4) {
        match random.below(3) {
            0 => {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
            1 => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            _ => {
                let at = random.below(bytes.len().saturating_sub(4));
                let value = INTERESTING[random.below(INTERESTING.len())];
                if let Some(word) = bytes.get_mut(at..at + 4) {
                    word.copy_from_slice(&value.to_be_bytes());
                }
            }
        }
    }
}

/// Small files of every shape, made up and real.
fn seeds() -> Vec<Bytes> {
    let rows = &[(100, 100, true), (100, 200, false), (100, 0, false), (100, 100, true)];
    let edits = &[(30, -1, PLAY), (60, 100, PLAY), (60, 100, PLAY)];
    let mut seeds = vec![
        movie(&[video(rows, edits), audio(9, &[(100, 312, PLAY)])], Form::default()),
        movie(
            &[video(rows, &[])],
            Form {
                size_bits: 4,
                long_offsets: true,
                ..Form::default()
            },
        ),
    ];
    for name in [
        "avc/mp4parse__video_rotation_90.mp4",
        "avc-fragmented/androidx__sample_partially_fragmented.mp4",
        "audio-mp4/mp4atom__flac.mp4",
        "audio-mp4/androidx__sample_ac4.mp4",
        "audio-mp4/mp4parse__sine-3s-xhe-aac-44khz-mono.mp4",
        "hevc/mp4ff__stereo_spatial.mp4",
        "hevc/wpt__h265.mp4",
        "hdr/mp4parse__video_colr_nclx_hdr10.mp4",
        "av1/mp4atom__av1.mp4",
        "sets/enc-shaka-multidrm/shaka__multidrm-video-init.mp4",
    ] {
        if let Some(media) = media()
            && let Ok(bytes) = std::fs::read(media.join(name))
        {
            seeds.push(Bytes::from(bytes));
        }
    }
    seeds
}

fn media() -> Option<PathBuf> {
    let folder = std::env::var_os("HEADWATER_MEDIA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/media")),
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no media files in {}", folder.display());
    None
}

/// Where the boxes that are read lie: mutations of media bytes would find nothing.
fn header_ranges(source: &Bytes) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(header) = source.get(at..at + 8) {
        let size = u32::from_be_bytes(header[..4].try_into().unwrap()) as usize;
        let end = if size < 8 {
            source.len()
        } else {
            (at + size).min(source.len())
        };
        ranges.push(match &header[4..] {
            b"mdat" => at..at + 8,
            _ => at..end,
        });
        at = end;
    }
    ranges
}

#[test]
fn mutated_files_never_panic() {
    let seeds = seeds();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let ranges: Vec<Vec<_>> = seeds.iter().map(header_ranges).collect();
    for round in 0..60_000 {
        let seed = round % seeds.len();
        let mut bytes = seeds[seed].to_vec();
        // Mostly where structure is dense: the greatest range is moov or moof.
        let range = match random.below(4) {
            0 => ranges[seed][random.below(ranges[seed].len())].clone(),
            _ => ranges[seed].iter().max_by_key(|range| range.len()).unwrap().clone(),
        };
        mutate(&mut bytes[range], &mut random);
        if random.below(16) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        exercise(&Bytes::from(bytes));
    }
}

#[test]
fn damaged_files_of_others_are_survived() {
    let Some(media) = media() else { return };
    for folder in ["corrupt", "mkv-webm", "ts", "audio-raw", "subs"] {
        let Ok(files) = std::fs::read_dir(media.join(folder)) else {
            continue;
        };
        for file in files {
            let bytes = Bytes::from(std::fs::read(file.unwrap().path()).unwrap());
            exercise(&bytes);
        }
    }
}
