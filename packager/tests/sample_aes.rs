//! Encrypted transport streams and packed audio, decrypted by ffmpeg: what comes out is what it reads of clear ones.
//!
//! Needs ffmpeg and the media folder (`HEADWATER_MEDIA`); says so loudly and passes where either is missing.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use packager::crypto::ContentKey;
use packager::crypto::sample_aes::SampleAes;
use packager::isobmff::movie;
use packager::mpegts::mux::{MuxSample, MuxTrack, Segment};
use packager::mpegts::{mux, packed_audio};
use packager::track::Track;

const KEY: [u8; 16] = *b"sixteen byte key";
const IV: [u8; 16] = [0xc1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// From segment to segment; longer than any film here.
const SEGMENT_90K: i64 = 60 * 90_000;

/// When the first one starts.
const BASE_90K: i64 = 900_000;

fn media_folder() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/media");
    let folder = std::env::var_os("HEADWATER_MEDIA").map_or_else(|| PathBuf::from(default), PathBuf::from);
    if !folder.is_dir() {
        eprintln!("SKIPPED: no media at {}; set HEADWATER_MEDIA", folder.display());
        return None;
    }
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        eprintln!("SKIPPED: no ffmpeg");
        return None;
    }
    Some(folder)
}

/// A film's bytes and its tracks.
struct Film {
    name: &'static str,
    file: Bytes,
    tracks: Vec<Track>,
}

impl Film {
    fn open(folder: &Path, name: &'static str) -> Film {
        let file = Bytes::from(std::fs::read(folder.join(name)).unwrap());
        let tracks = movie::read(&file).unwrap().tracks;
        assert!(!tracks.is_empty(), "{name}");
        Film { name, file, tracks }
    }

    fn samples(&self, track: &Track, base_90k: i64) -> Vec<MuxSample<'_>> {
        let index = &track.index;
        let on_90k = |ticks: i64| base_90k + (ticks * 90_000).div_euclid(i64::from(index.timescale().get()));
        index
            .iter()
            .map(|sample| MuxSample {
                presentation_time_90k: on_90k(sample.decode_time as i64 + i64::from(sample.composition_offset)),
                decode_time_90k: on_90k(sample.decode_time as i64 - index.decode_delay() as i64),
                sync: sample.sync,
                data: &self.file[sample.offset as usize..sample.offset as usize + sample.size as usize],
            })
            .collect()
    }
}

/// A folder that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("headwater-sample-aes-{}-{}", std::process::id(), name.replace('/', "-"));
        let path = std::env::temp_dir().join(name);
        // Whoever has it already would find our files among theirs.
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// (stream, size, hash) of each packet, or of each decoded frame, of a playlist.
fn read_by_ffmpeg(name: &str, segments: &[Vec<u8>], extension: &str, key: Option<[u8; 16]>, copy: bool) -> Vec<String> {
    let scratch = Scratch::new(&format!("{name}-{extension}-{}-{copy}", key.map_or(0, |key| key[0])));
    let write = |file: &str, bytes: &[u8]| std::fs::write(scratch.0.join(file), bytes).unwrap();
    let mut playlist = "#EXTM3U\n#EXT-X-VERSION:5\n#EXT-X-TARGETDURATION:60\n#EXT-X-PLAYLIST-TYPE:VOD\n".to_owned();
    if let Some(key) = key {
        write("key.bin", &key);
        let iv: String = IV.iter().map(|byte| format!("{byte:02x}")).collect();
        playlist += &format!("#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"key.bin\",IV=0x{iv}\n");
    }
    for (number, segment) in segments.iter().enumerate() {
        playlist += &format!("#EXTINF:60,\n{number}.{extension}\n");
        write(&format!("{number}.{extension}"), segment);
    }
    write("index.m3u8", (playlist + "#EXT-X-ENDLIST\n").as_bytes());
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-allowed_extensions", "ALL"]);
    ffmpeg.args(["-protocol_whitelist", "file,crypto,data", "-i"]);
    ffmpeg.arg(scratch.0.join("index.m3u8")).args(["-map", "0"]);
    if copy {
        ffmpeg.args(["-c", "copy"]);
    }
    let output = ffmpeg.args(["-f", "framemd5", "-"]).output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            format!("{} {} {}", fields[0], fields[4], fields[5])
        })
        .collect()
}

/// How often a film is put into a playlist. ffmpeg reads ahead, and what it gives out once it has read to the end of the
/// playlist it does not decrypt; so what is compared must not be near the end.
fn copies(film: &Film) -> i64 {
    (1_000_000 / film.file.len() as i64).clamp(4, 40)
}

fn check(name: &str, extension: &str, clear: &[Vec<u8>], encrypted: &[Vec<u8>]) {
    assert_ne!(clear, encrypted);
    for copy in [true, false] {
        let expected = read_by_ffmpeg(name, clear, extension, None, copy);
        let read = read_by_ffmpeg(name, encrypted, extension, Some(KEY), copy);
        let count = expected.len() / 2;
        assert!(count > 10, "{name}: {count} frames");
        let differs = (0..count).find(|at| read.get(*at) != expected.get(*at));
        assert_eq!(differs, None, "{name}, copy {copy}");
        // How many there are is not compared: what ffmpeg leaves encrypted at the end it may take for more frames or fewer.
    }
    let wrong = read_by_ffmpeg(name, encrypted, extension, Some([9; 16]), true);
    let right = read_by_ffmpeg(name, encrypted, extension, Some(KEY), true);
    let half = right.len() / 2;
    assert_ne!(wrong.get(..half), right.get(..half), "{name}");
}

// No film with several slices a picture: where only the first of them got emulation prevention, ffmpeg 5 puts the next
// one in the wrong place.
#[test]
fn ffmpeg_decrypts_transport_streams() {
    let Some(folder) = media_folder() else { return };
    for name in [
        "avc/mp4ff__bbb_prog_10s.mp4",
        "avc/androidx__sample_2_byte_NAL_length.mp4",
        "audio-mp4/bento4__audio-aac-001.mp4",
        "audio-mp4/androidx__sample_ac3.mp4",
        "audio-mp4/androidx__sample_eac3.mp4",
    ] {
        let film = Film::open(&folder, name);
        let (mut clear, mut encrypted) = (Vec::new(), Vec::new());
        for number in 0..copies(&film) {
            let carried = film
                .tracks
                .iter()
                .filter(|track| mux::carries_encrypted(&track.description).is_ok());
            let samples: Vec<_> = carried
                .map(|track| (track, film.samples(track, BASE_90K + number * SEGMENT_90K)))
                .collect();
            assert!(!samples.is_empty(), "{name}");
            let tracks: Vec<MuxTrack<'_>> = samples
                .iter()
                .map(|(track, samples)| MuxTrack {
                    description: &track.description,
                    samples,
                })
                .collect();
            let segment = Segment {
                number: number as u64,
                tracks: &tracks,
            };
            clear.push(segment.write().unwrap());
            encrypted.push(
                segment
                    .write_encrypted(&SampleAes::new(&ContentKey::new(KEY), IV))
                    .unwrap(),
            );
        }
        check(film.name, "ts", &clear, &encrypted);
    }
}

#[test]
fn ffmpeg_decrypts_packed_audio() {
    let Some(folder) = media_folder() else { return };
    for name in [
        "audio-mp4/bento4__audio-aac-001.mp4",
        "audio-mp4/androidx__sample_ac3.mp4",
        "audio-mp4/androidx__sample_eac3.mp4",
    ] {
        let film = Film::open(&folder, name);
        let track = &film.tracks[0];
        let cipher = SampleAes::new(&ContentKey::new(KEY), IV);
        let (mut clear, mut encrypted) = (Vec::new(), Vec::new());
        for number in 0..4 {
            let base_90k = BASE_90K + number * SEGMENT_90K;
            let samples = film.samples(track, base_90k);
            let data: Vec<&[u8]> = samples.iter().map(|sample| sample.data).collect();
            // Long enough that ffmpeg's reading ahead does not come to the end.
            let data = data.repeat(1 + 600_000 / film.file.len());
            clear.push(packed_audio::segment(&track.description, base_90k, &data).unwrap());
            encrypted.push(packed_audio::segment_encrypted(&track.description, base_90k, &data, &cipher).unwrap());
        }
        // ffmpeg 5 does not know the extension that HLS has for E-AC-3.
        let extension = match packed_audio::extension(track.description.codec).unwrap() {
            "ec3" => "eac3",
            other => other,
        };
        check(film.name, extension, &clear, &encrypted);
    }
}
