//! Real streams: ffprobe must find in them what we do, and ffmpeg must decode what we make of them.

use super::*;
use crate::mpegts::testing::{media, run};

/// Packets of a stream as ffprobe sees them: presentation time, decode time, key.
type Probed = (Option<i64>, Option<i64>, bool);

fn probed(bytes: &[u8], pid: u32) -> Option<Vec<Probed>> {
    let selected = format!("i:{pid}");
    let entries = "packet=pts,dts,flags";
    let arguments = [
        "-v",
        "quiet",
        "-select_streams",
        &selected,
        "-show_entries",
        entries,
        "-of",
        "csv=p=0",
        "-",
    ];
    let (output, _) = run("ffprobe", &arguments, bytes)?;
    let lines = output.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let lines = lines.filter(|fields| fields.len() >= 3);
    Some(
        lines
            .map(|fields| (fields[0].parse().ok(), fields[1].parse().ok(), fields[2].contains('K')))
            .collect(),
    )
}

/// Our packets are ffprobe's, in order, and of those as many are missing as expected.
fn check(file: &str, missing: &[usize]) {
    let Some(path) = media(&format!("ts/{file}")) else {
        return;
    };
    let bytes = std::fs::read(path).unwrap();
    let (demuxer, packets) = demux(&bytes, 1 << 16).unwrap();
    for (index, missing) in missing.iter().enumerate() {
        let description = demuxer.tracks()[index].description.as_ref().expect(file);
        let Some(theirs) = probed(&bytes, description.source_track_id) else {
            return;
        };
        let ours: Vec<&Packet> = packets.iter().filter(|packet| packet.track == index).collect();
        let on_90k = |time| rescale(time, description.timescale, Timescale::MPEG_TS, Rounding::Nearest);
        // ffprobe counts audio frames on from the PES packet in rounded ticks.
        let tolerance = if description.video().is_some() { 0 } else { 16 };
        let near = |time: i64, theirs: i64| (time - theirs + tolerance).rem_euclid(TIMESTAMP_WRAP) <= 2 * tolerance;
        let mut rest = theirs.iter();
        for (at, packet) in ours.iter().enumerate() {
            let (presentation, decode) = (on_90k(packet.presentation_time), on_90k(packet.decode_time));
            let same = rest.any(|(their_presentation, their_decode, key)| {
                // Without a DTS ffprobe makes one up by its own rules.
                their_presentation.is_none_or(|theirs| near(presentation, theirs))
                    && (decode == presentation || their_decode.is_none_or(|theirs| near(decode, theirs)))
                    && *key == packet.sync
            });
            assert!(
                same,
                "{file}, track {index}: no packet of ffprobe's is our {at} at {presentation}"
            );
        }
        assert_eq!(theirs.len() - ours.len(), *missing, "{file}, track {index}");
    }
}

#[test]
fn ffprobe_sees_the_same_packets() {
    // Frames that are cut off at either end of the file, which ffprobe counts.
    check("androidx__sample_ac3.ts", &[2]);
    // It counts every block, we access units of six.
    check("androidx__sample_eac3.ts", &[45]);
    check("androidx__sample_h264.ts", &[0]);
    check("androidx__sample_h264_mpeg_audio.ts", &[0]);
    check("androidx__sample_h264_no_access_unit_delimiters.ts", &[0]);
    check("androidx__sample_h265.ts", &[0]);
    check("androidx__sample_latm.ts", &[0]);
    check("androidx__sd-hls0000000000.ts", &[0, 0]);
    check("gecko__400x300_seg0.ts", &[0, 0]);
    // It starts inside a group of pictures.
    check("gecko__400x300_seg1.ts", &[13, 0]);
    check("shaka__360p30_h264_48k_160_aac_ts-0000000024.ts", &[0, 0]);
    check("shaka__audio.ts", &[0]);
    check("shaka__captions-test.ts", &[0]);
    check("shaka__fileSequence0.ts", &[0]);
    check("shaka__fileSequence1.ts", &[0]);
    check("shaka__media_w239891843_1.ts", &[0]);
    check("shaka__segment_0.ts", &[0]);
    check("shaka__segment_1.ts", &[0]);
    // Broadcast: starts anywhere, pictures in fields, of which we make frames.
    check("tsduck__test-026.ts", &[43, 1, 1, 1]);
    check("tsduck__test-100.1.ts", &[1]);
    check("tsduck__test-137.ts", &[26]);
}

/// Samples of a file put into segments again, one for each sync sample.
fn remuxed(demuxer: &TsDemuxer, packets: &[Packet]) -> Vec<u8> {
    let tracks: Vec<(usize, &TrackDescription)> = demuxer
        .tracks()
        .iter()
        .enumerate()
        .filter_map(|(index, track)| Some((index, track.description.as_ref()?)))
        .collect();
    let start = packets.iter().map(|packet| packet.decode_time).min().unwrap_or(0);
    let samples: Vec<Vec<MuxSample<'_>>> = tracks
        .iter()
        .map(|(index, description)| {
            let own = packets.iter().filter(|packet| packet.track == *index);
            let on_90k = |time| rescale(time, description.timescale, Timescale::MPEG_TS, Rounding::Nearest);
            let late = own
                .clone()
                .map(|packet| packet.decode_time - packet.presentation_time)
                .max();
            let delay = late.unwrap_or(0).max(0) + start.min(0);
            own.map(|packet| MuxSample {
                presentation_time_90k: on_90k(packet.presentation_time),
                decode_time_90k: on_90k(packet.decode_time - delay),
                sync: packet.sync,
                data: &packet.data,
            })
            .collect()
        })
        .collect();
    let tracks: Vec<MuxTrack<'_>> = tracks
        .iter()
        .zip(&samples)
        .map(|((_, description), samples)| MuxTrack { description, samples })
        .collect();
    Segment {
        number: 0,
        tracks: &tracks,
    }
    .write()
    .unwrap()
}

/// What ffmpeg decodes: a checksum for each picture.
fn pictures(bytes: &[u8]) -> Option<(Vec<String>, String)> {
    let arguments = ["-v", "warning", "-i", "-", "-map", "0:v", "-f", "framecrc", "-"];
    let (output, messages) = run("ffmpeg", &arguments, bytes)?;
    let lines = output.lines().filter(|line| !line.starts_with('#'));
    Some((
        lines
            .map(|line| line.rsplit(", ").next().unwrap_or_default().to_owned())
            .collect(),
        messages,
    ))
}

#[test]
fn pictures_survive_demuxing_and_muxing() {
    for file in [
        "androidx__sample_h264.ts",
        "androidx__sample_h264_no_access_unit_delimiters.ts",
        "androidx__sample_h265.ts",
        "shaka__fileSequence0.ts",
        "shaka__360p30_h264_48k_160_aac_ts-0000000024.ts",
        "gecko__400x300_seg0.ts",
    ] {
        let Some(path) = media(&format!("ts/{file}")) else {
            return;
        };
        let bytes = std::fs::read(path).unwrap();
        let (demuxer, packets) = demux(&bytes, 1 << 16).unwrap();
        let again = remuxed(&demuxer, &packets);
        let (Some((before, _)), Some((after, messages))) = (pictures(&bytes), pictures(&again)) else {
            return;
        };
        assert!(!before.is_empty(), "{file}");
        assert_eq!(messages, "", "{file}");
        assert_eq!(after, before, "{file}");
        // Samples are the same after another turn.
        let (_, packets_again) = demux(&again, 1 << 16).unwrap();
        let data = |packets: &[Packet], track| -> Vec<bytes::Bytes> {
            packets
                .iter()
                .filter(|packet| packet.track == track)
                .map(|packet| packet.data.clone())
                .collect()
        };
        for track in 0..demuxer.tracks().len() {
            assert_eq!(
                data(&packets_again, track),
                data(&packets, track),
                "{file}, track {track}"
            );
        }
    }
}
