//! Real films cut into segments: ffprobe must see what went in, ffmpeg must decode it in silence.

use bytes::Bytes;

use super::*;
use crate::mpegts::packed_audio;
use crate::mpegts::testing::{media, run};

/// A track of a film, as read by somebody else's MP4 reader.
struct FilmTrack {
    description: TrackDescription,
    /// (presentation, decode, sync, data)
    samples: Vec<(i64, i64, bool, Bytes)>,
}

impl FilmTrack {
    fn between(&self, from_90k: i64, to_90k: i64) -> Vec<MuxSample<'_>> {
        let inside = |time: i64| from_90k <= time && time < to_90k;
        let samples = self.samples.iter().filter(|(_, decode, ..)| inside(*decode));
        samples
            .map(|(presentation, decode, sync, data)| sample(*presentation, *decode, *sync, data))
            .collect()
    }
}

/// Tracks on a timeline that starts at `base_90k`.
fn film(file: &str, base_90k: i64) -> Option<Vec<FilmTrack>> {
    let bytes = std::fs::read(media(file)?).unwrap();
    let size = bytes.len() as u64;
    let mut reader = mp4::Mp4Reader::read_header(std::io::Cursor::new(bytes), size).unwrap();
    let mut ids: Vec<u32> = reader.tracks().keys().copied().collect();
    ids.sort_unstable();
    let mut tracks = Vec::new();
    for id in ids {
        let track = &reader.tracks()[&id];
        let scale = i64::from(track.timescale());
        let stsd = &track.trak.mdia.minf.stbl.stsd;
        let description = if let Some(entry) = &stsd.avc1 {
            let mut sets = Vec::new();
            for set in entry
                .avcc
                .sequence_parameter_sets
                .iter()
                .chain(&entry.avcc.picture_parameter_sets)
            {
                sets.extend_from_slice(&[0, 0, 0, 1]);
                sets.extend_from_slice(&set.bytes);
            }
            video(Codec::Avc, entry.avcc.length_size_minus_one + 1, &sets)
        } else if let Some(entry) = stsd.mp4a.as_ref().and_then(|entry| entry.esds.as_ref()) {
            let config = &entry.es_desc.dec_config.dec_specific;
            let bits =
                u16::from(config.profile) << 11 | u16::from(config.freq_index) << 7 | u16::from(config.chan_conf) << 3;
            audio(Codec::Aac, 48_000, &bits.to_be_bytes())
        } else {
            continue;
        };
        let mut samples = Vec::new();
        for number in 1..=reader.sample_count(id).unwrap() {
            let one = reader.read_sample(id, number).unwrap().unwrap();
            let decode = one.start_time as i64;
            let on_90k = |time: i64| base_90k + (time * 90_000).div_euclid(scale);
            samples.push((
                on_90k(decode + i64::from(one.rendering_offset)),
                on_90k(decode),
                one.is_sync,
                one.bytes,
            ));
        }
        let delay = samples.iter().map(|one| one.1 - one.0).max().unwrap().max(0);
        samples.iter_mut().for_each(|one| one.1 -= delay);
        tracks.push(FilmTrack { description, samples });
    }
    Some(tracks)
}

/// Cuts a film at every second sync sample of its first track, or at multiples of two seconds.
fn segments(tracks: &[FilmTrack]) -> Vec<Vec<u8>> {
    let mut cuts = vec![i64::MIN];
    let first = &tracks[0];
    if first.samples.iter().all(|one| one.2) {
        let start = first.samples[0].1;
        cuts.extend(
            (1..100)
                .map(|at| start + at * 180_000)
                .filter(|at| *at < first.samples.last().unwrap().1),
        );
    } else {
        let syncs: Vec<i64> = first.samples.iter().filter(|one| one.2).map(|one| one.1).collect();
        cuts.extend(syncs.iter().skip(1).step_by(2));
    }
    cuts.push(i64::MAX);
    let mut segments = Vec::new();
    for (number, cut) in cuts.windows(2).enumerate() {
        let samples: Vec<Vec<MuxSample<'_>>> = tracks.iter().map(|track| track.between(cut[0], cut[1])).collect();
        let tracks: Vec<MuxTrack<'_>> = tracks
            .iter()
            .zip(&samples)
            .map(|(track, samples)| MuxTrack {
                description: &track.description,
                samples,
            })
            .collect();
        let segment = Segment {
            number: number as u64,
            tracks: &tracks,
        }
        .write()
        .unwrap();
        check_counters(&segment, number as u64);
        segments.push(segment);
    }
    segments
}

/// ffprobe sees the samples that went in, segment after segment in one stream, and ffmpeg decodes them without a word.
fn check_film(file: &str, tracks: &[FilmTrack]) {
    let segments = segments(tracks);
    let whole = segments.concat();
    let arguments = [
        "-v",
        "warning",
        "-show_entries",
        "packet=stream_index,pts,dts,flags",
        "-of",
        "csv=p=0",
        "-",
    ];
    let Some((output, messages)) = run("ffprobe", &arguments, &whole) else {
        return;
    };
    assert_eq!(messages, "", "{file}");
    let mut seen: Vec<Vec<(i64, i64, bool)>> = vec![Vec::new(); tracks.len()];
    for line in output.lines().filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |at: usize| fields[at].parse::<i64>().unwrap();
        seen[number(0) as usize].push((number(1), number(2), fields[3].starts_with('K')));
    }
    for (track, seen) in tracks.iter().zip(&seen) {
        assert_eq!(seen.len(), track.samples.len(), "{file}");
        for (at, (sample, seen)) in track.samples.iter().zip(seen).enumerate() {
            // Frames inside a PES packet get their times from ffmpeg, which loses up to a tick with each.
            let (expected, tolerance) = match track.description.video() {
                Some(_) => ((sample.0, sample.1, sample.2), 0),
                None => ((sample.0, sample.0, true), 8),
            };
            let near = |a: i64, b: i64| (a - b + tolerance).rem_euclid(TIMESTAMP_WRAP) <= 2 * tolerance;
            let near = near(seen.0, expected.0) && near(seen.1, expected.1) && seen.2 == expected.2;
            assert!(near, "{file}, sample {at}: {seen:?} for {expected:?}");
        }
    }
    for bytes in [&segments[segments.len() - 1], &whole] {
        let (_, messages) = run(
            "ffmpeg",
            &["-v", "warning", "-xerror", "-i", "-", "-f", "null", "-"],
            bytes,
        )
        .unwrap();
        assert_eq!(messages, "", "{file}");
    }
}

#[test]
fn films_pass_through_ffmpeg() {
    for file in [
        "avc/mp4ff__bbb_prog_10s.mp4",
        "avc/gecko__bipbop.mp4",
        "avc/androidx__sample_2_byte_NAL_length.mp4",
        "audio-mp4/bento4__audio-aac-001.mp4",
        "avc/gecko__gizmo.mp4",
    ] {
        for base_90k in [126_000, TIMESTAMP_WRAP - 200_000] {
            if let Some(tracks) = film(file, base_90k) {
                eprintln!("{file}: {} tracks", tracks.len());
                check_film(file, &tracks);
            }
        }
    }
}

#[test]
fn packed_audio_is_read_by_ffmpeg() {
    let Some(tracks) = film("audio-mp4/bento4__audio-aac-001.mp4", 0) else {
        return;
    };
    let track = &tracks[0];
    let samples: Vec<&[u8]> = track.samples.iter().map(|one| one.3.as_ref()).collect();
    let segment = packed_audio::segment(&track.description, 5, &samples).unwrap();
    let Some((output, messages)) = run(
        "ffprobe",
        &["-v", "warning", "-show_entries", "packet=size", "-of", "csv=p=0", "-"],
        &segment,
    ) else {
        return;
    };
    assert_eq!(messages, "");
    // ffmpeg counts the 7 bytes of the header.
    let sizes: Vec<usize> = output
        .lines()
        .map(|line| line.trim_end_matches(',').parse().unwrap())
        .collect();
    assert_eq!(sizes, samples.iter().map(|data| data.len() + 7).collect::<Vec<_>>());
    let (_, messages) = run(
        "ffmpeg",
        &["-v", "warning", "-xerror", "-i", "-", "-f", "null", "-"],
        &segment,
    )
    .unwrap();
    assert_eq!(messages, "");
}
