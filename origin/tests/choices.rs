//! Choices of entry URLs end to end: what is refused, what is the same, and clips as ffprobe sees them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use origin::Origin;
use origin::asset::Asset;
use origin::config::Section;
use origin::error::ServeError;
use origin::route::{self, Route};
use packager::form::Form;
use packager::presentation::choice::Choice;
use packager::time::{Rounding, Timescale, rescale};

/// An origin over a library of one film, asked without a socket.
struct House {
    folder: PathBuf,
    origin: Arc<Origin>,
    asset: Arc<Asset>,
}

impl House {
    fn over(name: &str, film: &Path) -> House {
        let folder = folder(name);
        let library = folder.join("library");
        std::fs::create_dir_all(&library).unwrap();
        std::fs::copy(film, library.join("film.mp4")).unwrap();
        let section = Section {
            library: Some(library),
            ..Section::default()
        };
        let origin = Origin::new(section.check().unwrap()).unwrap();
        let id = origin.store().entries().unwrap().keys().next().unwrap().clone();
        let asset = origin.store().open(&id).unwrap();
        House { folder, origin, asset }
    }

    /// A film of 12 s with a key frame each 37 pictures, B-frames and sound; `None`, loudly, where ffmpeg can not make it.
    fn open(name: &str) -> Option<House> {
        let film = folder(&format!("{name}-film")).with_extension("mp4");
        let made = Command::new("ffmpeg")
            .args([
                "-v",
                "error",
                "-y",
                "-f",
                "lavfi",
                "-i",
                "testsrc2=size=320x180:rate=30000/1001:duration=12",
            ])
            .args(["-f", "lavfi", "-i", "anoisesrc=sample_rate=48000:duration=12:seed=1"])
            .args([
                "-c:v",
                "libx264",
                "-preset",
                "veryfast",
                "-g",
                "37",
                "-bf",
                "2",
                "-c:a",
                "aac",
                "-shortest",
            ])
            .arg(&film)
            .status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED {name}: ffmpeg is not installed or can not encode H.264 and AAC");
            return None;
        }
        let house = House::over(name, &film);
        std::fs::remove_file(film).unwrap();
        Some(house)
    }

    /// Bytes and validator of `path` below `/vod/{id}/`, or why not.
    fn get(&self, path: &str) -> Result<(Vec<u8>, String), ServeError> {
        let url = format!("/vod/{}/{path}", self.asset.media_id);
        let (path, query) = url
            .split_once('?')
            .map_or((url.as_str(), None), |(path, query)| (path, Some(query)));
        let resource = match route::parse(path, query) {
            Some(Route::Vod { resource, .. }) => resource,
            Some(Route::Refused { error }) => return Err(error.into()),
            _ => return Err(ServeError::NotFound),
        };
        let answer = self.origin.answer_blocking(&self.asset, resource)?;
        let size = answer.content.size();
        let mut bytes = Vec::new();
        for piece in answer.content.range(0..size) {
            bytes.extend_from_slice(&piece.read().unwrap());
        }
        Ok((bytes, answer.etag))
    }

    fn text(&self, path: &str) -> String {
        let (bytes, _) = self.get(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        String::from_utf8(bytes).unwrap()
    }

    fn version(&self) -> &str {
        &self.asset.presentation.version
    }

    /// All of a representation as one file, as its media playlist has it.
    fn whole(&self, base: &str, extension: &str) -> PathBuf {
        let playlist = self.text(&format!("{base}index.m3u8"));
        let mut bytes = Vec::new();
        if playlist.contains("init.mp4") {
            bytes = self.get(&format!("{base}init.mp4")).unwrap().0;
        }
        for segment in playlist.lines().filter(|line| !line.starts_with('#')) {
            bytes.extend(self.get(&format!("{base}{segment}")).unwrap().0);
        }
        let path = self.folder.join(format!("whole.{extension}"));
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("headwater-choices-{name}-{}", std::process::id()))
}

#[test]
fn nonsense_is_refused_with_its_reason() {
    let Some(house) = House::open("nonsense") else { return };
    let check = |query: &str, expected: &str| {
        for entry in ["master.m3u8", "ts/master.m3u8", "manifest.mpd"] {
            let error = house.get(&format!("{entry}?{query}")).unwrap_err();
            assert_eq!(
                (error.outcome().0.as_u16(), error.to_string()),
                (400, expected.to_owned()),
                "{query}"
            );
        }
    };
    check(
        "start=x",
        "start: \"x\" is not a number of seconds with at most 3 decimals",
    );
    check("start=5&end=5", "start: 5.000 s is not before end, 5.000 s");
    check("start=5&end=2", "start: 5.000 s is not before end, 2.000 s");
    check("end=900", "end: 900.000 s lies beyond the end, 12.012 s");
    check("start=12.012", "start: 12.012 s lies beyond the end, 12.012 s");
    check("start=1&end=1.05", "end: a clip of 0.050 s; the shortest is 0.100 s");
    check("segment=3", "segment: \"3\" is not 2, 4, 6, 8 or 10");
    check("segment=2&segment=4", "segment: given more than once");
    check("tracks=v7", "tracks: there is no v7; there are v1, a1");
    check("languages=tlh", "languages: none of tlh; there are und");
    check("max_height=-1", "max_height: \"-1\" is not a number of picture lines");
}

#[test]
fn a_choice_has_one_answer_however_it_is_spelt() {
    let Some(house) = House::open("same") else { return };
    let same = |left: &str, right: &str| {
        for entry in ["master.m3u8", "ts/master.m3u8", "manifest.mpd"] {
            let (left, right) = (
                house.get(&format!("{entry}{left}")),
                house.get(&format!("{entry}{right}")),
            );
            assert_eq!(left.unwrap(), right.unwrap());
        }
    };
    same("", "?CMCD=bl%3D1&_hls=x&utm=%");
    same("", "?start=0&segment=4&max_height=2160&tracks=a1%2Cv1&end=12.012");
    same("?start=2.5&end=8", "?x=1&end=8.000&start=02.50");
    same("?max_height=180", "?max_height=1");
    let differ = |left: &str, right: &str| {
        assert_ne!(house.get(left).unwrap(), house.get(right).unwrap(), "{left} {right}");
    };
    differ("master.m3u8", "master.m3u8?start=1");
    differ("master.m3u8?start=1", "master.m3u8?start=1&segment=2");
    differ("master.m3u8", "master.m3u8?tracks=v1");
    // A selection leads to the files that everybody has; a clip to its own.
    let version = house.version();
    assert!(
        house
            .text("master.m3u8?tracks=v1")
            .contains(&format!("v{version}/cmaf/v1/index.m3u8"))
    );
    let clip = house.text("master.m3u8?start=2.5&end=8&segment=2");
    assert!(
        clip.contains(&format!("v{version}~s2500~e8000~d2/cmaf/v1/index.m3u8")),
        "{clip}"
    );
    let clip = house.text("ts/master.m3u8?segment=2");
    assert!(clip.contains(&format!("../v{version}~d2/ts/v1/index.m3u8")), "{clip}");
    // A file has one name, and a validator of its own.
    let file = |choice: &str| house.get(&format!("v{version}{choice}/cmaf/v1/1.m4s"));
    let (whole, clip, cut) = (file("").unwrap(), file("~s2500").unwrap(), file("~d2").unwrap());
    assert!(whole.1 != clip.1 && whole.1 != cut.1 && clip.1 != cut.1);
    for other in [
        "~s0",
        "~d4",
        "~s02500",
        "~e12012",
        "~e99999",
        "~s99999",
        "~d2~s2500",
        "~s5000~e5000",
        "~",
    ] {
        assert!(matches!(file(other), Err(ServeError::NotFound)), "{other}");
    }
}

/// (kind, hash of the bytes) → presentation time in microseconds of every packet, as ffprobe says.
fn packets(path: &Path) -> BTreeMap<(String, String), i64> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_data_hash", "md5", "-of", "json"])
        .args(["-show_entries", "packet=codec_type,pts_time,data_hash"])
        .arg(path)
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut found = BTreeMap::new();
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for packet in said["packets"].as_array().unwrap() {
        let field = |name: &str| packet[name].as_str();
        let (Some(kind), Some(time), Some(hash)) = (field("codec_type"), field("pts_time"), field("data_hash")) else {
            continue;
        };
        let (seconds, micros) = time.split_once('.').unwrap();
        let negative = seconds.starts_with('-');
        let micros =
            seconds.trim_start_matches('-').parse::<i64>().unwrap() * 1_000_000 + micros.parse::<i64>().unwrap();
        // Equal packets (silence) tell no time.
        let time = if negative { -micros } else { micros };
        found
            .entry((kind.to_owned(), hash.to_owned()))
            .and_modify(|at| *at = i64::MIN)
            .or_insert(time);
    }
    found.retain(|_, time| *time != i64::MIN);
    found
}

/// By how much every packet of `part` comes earlier than in `whole`: least and greatest, in microseconds.
fn shifts(whole: &BTreeMap<(String, String), i64>, part: &BTreeMap<(String, String), i64>, kind: &str) -> (i64, i64) {
    let rows = part.iter().filter(|(key, _)| key.0 == kind);
    let shifts: Vec<i64> = rows.filter_map(|(key, time)| Some(whole.get(key)? - time)).collect();
    assert!(shifts.len() > 3, "{kind}: only {} packets are in both", shifts.len());
    (*shifts.iter().min().unwrap(), *shifts.iter().max().unwrap())
}

/// ffmpeg shows the pictures of a fragmented file later by the greatest negative composition offset in it.
fn unbiased(mut packets: BTreeMap<(String, String), i64>, asset: &Asset, id: &str) -> BTreeMap<(String, String), i64> {
    let index = &asset.presentation.representation(id).unwrap().track().unwrap().index;
    let least = index
        .iter()
        .map(|sample| i64::from(sample.composition_offset))
        .min()
        .unwrap()
        .min(0);
    let bias = rescale(least, index.timescale(), Timescale::MICROS, Rounding::Nearest);
    packets.values_mut().for_each(|time| *time += bias);
    packets
}

fn decodes(path: &Path) {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames"])
        .arg(path)
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Packets of a clip are those of the film, `start` earlier; in MPEG-TS, sound and pictures by the same time.
fn check_clips(house: &House, starts_ms: &[u64]) {
    let version = house.version().to_owned();
    let film = |id: &str| {
        let found = packets(&house.whole(&format!("v{version}/cmaf/{id}/"), "mp4"));
        unbiased(found, &house.asset, id)
    };
    let (video, audio) = (film("v1"), film("a1"));
    let in_ts = |base: &str| packets(&house.whole(&format!("{base}/ts/v1/"), "ts"));
    let muxed = in_ts(&format!("v{version}"));
    for start_ms in starts_ms {
        let clip = house.text(&format!("master.m3u8?start={}.{:03}", start_ms / 1000, start_ms % 1000));
        let base = format!("v{version}~s{start_ms}");
        assert!(clip.contains(&format!("{base}/cmaf/")), "{clip}");
        let mut choice = Choice::default();
        choice.media.start_ms = *start_ms;
        let derived = house
            .origin
            .choose_blocking(&house.asset, &choice, Form::Cmaf)
            .unwrap()
            .0;
        for (id, kind, whole) in [("v1", "video", &video), ("a1", "audio", &audio)] {
            let path = house.whole(&format!("{base}/cmaf/{id}/"), "mp4");
            let part = unbiased(packets(&path), &derived, id);
            let (least, greatest) = shifts(whole, &part, kind);
            let start_us = *start_ms as i64 * 1_000;
            // A tick of 44,100 Hz or of 24,000/s is 42 µs at most.
            assert!(
                (least - start_us).abs() <= 45 && (greatest - start_us).abs() <= 45,
                "{id} of {start_ms}: {least} to {greatest}"
            );
            // What is shown at the start is there, and all that follows. A key frame half a millisecond later counts.
            let shown = whole.values().filter(|time| **time <= start_us + 500).max();
            let wanted = whole.iter().filter(|(_, time)| match kind {
                "video" => Some(*time) >= shown,
                _ => **time > start_us - 20_000,
            });
            let missing: Vec<&i64> = wanted
                .filter(|(key, _)| !part.contains_key(key))
                .map(|row| row.1)
                .collect();
            assert!(missing.is_empty(), "{id} of {start_ms}: without {missing:?}");
            decodes(&path);
        }
        let part = in_ts(&base);
        let (video_least, video_greatest) = shifts(&muxed, &part, "video");
        let (audio_least, audio_greatest) = shifts(&muxed, &part, "audio");
        let all = [video_least, video_greatest, audio_least, audio_greatest];
        let (least, greatest) = (all.iter().min().unwrap(), all.iter().max().unwrap());
        assert!(greatest - least <= 45, "{start_ms} in MPEG-TS: {all:?}");
        assert!(
            *least <= *start_ms as i64 * 1_000 + 500,
            "{start_ms} in MPEG-TS: {least}"
        );
        let first = part
            .iter()
            .filter(|(key, _)| key.0 == "video")
            .map(|(_, time)| *time)
            .min()
            .unwrap();
        assert!(
            (9_900_000..=10_000_100).contains(&first),
            "{start_ms} in MPEG-TS: {first}"
        );
    }
}

#[test]
fn clips_are_the_film_from_their_start() {
    let Some(house) = House::open("clips") else { return };
    check_clips(&house, &[1, 1_234, 1_235, 2_469, 3_700, 5_001, 9_999]);
}

#[test]
fn clips_of_real_films_are_the_film_from_their_start() {
    let Some(media) = std::env::var_os("HEADWATER_MEDIA").map(PathBuf::from) else {
        return eprintln!("SKIPPED clips_of_real_films_are_the_film_from_their_start: HEADWATER_MEDIA is not set");
    };
    for (name, starts_ms) in FILMS {
        let film = media.join(name);
        match film.exists() {
            true => check_clips(&House::over("real", &film), starts_ms),
            false => eprintln!("SKIPPED {}: not there", film.display()),
        }
    }
}

/// Films, and where they are cut.
const FILMS: [(&str, &[u64]); 3] = [
    ("avc/gecko__bipbop.mp4", &[333, 2_717, 6_001]),
    ("avc/mp4ff__bbb_prog_10s.mp4", &[41, 1_003, 5_555]),
    ("avc/mp4ff__prog_8s.mp4", &[1_001, 4_321]),
];
