//! Made-up streams, and hostile ones. Real ones are in [`films`].

mod films;
mod hostile;
mod streams;

use proptest::prelude::*;

use super::*;
use crate::codec::{Codec, VideoRange};
use crate::mpegts::mux::{MuxSample, MuxTrack, Segment};
use crate::mpegts::{PACKET_SIZE, TIMESTAMP_WRAP};
use crate::time::{Rounding, rescale};
use crate::track::{AudioDescription, MediaDescription, VideoDescription};

fn demux(bytes: &[u8], piece: usize) -> Result<(TsDemuxer, Vec<Packet>), DemuxError> {
    let mut demuxer = TsDemuxer::new();
    let mut packets = Vec::new();
    for piece in bytes.chunks(piece) {
        demuxer.push(piece, &mut packets)?;
    }
    demuxer.finish(&mut packets)?;
    Ok((demuxer, packets))
}

fn described(codec: Codec, media: MediaDescription) -> TrackDescription {
    TrackDescription {
        source_track_id: 1,
        codec,
        rfc6381: String::new(),
        timescale: Timescale::MPEG_TS,
        language: "de-AT".to_owned(),
        label: None,
        sample_entry: bytes::Bytes::new(),
        media,
    }
}

/// AVC, 400x300, Main.
#[rustfmt::skip]
const SPS: [u8; 20] = [
    0x27, 0x4d, 0x40, 0x15, 0xa9, 0x18, 0x32, 0x13, 0xfd, 0xe0, 0x0d, 0x41, 0x80, 0x41, 0xad, 0xb0, 0xad, 0x7b, 0xdf, 0x01,
];
const PPS: [u8; 4] = [0x28, 0xde, 0x09, 0x88];
const IDR: [u8; 8] = [0x65, 0x88, 0x84, 1, 2, 3, 4, 5];
/// First macroblock 0, a P slice.
const SLICE: [u8; 6] = [0x41, 0x9a, 1, 2, 3, 4];

fn picture_track() -> TrackDescription {
    let sets = [&[0, 0, 0, 1], SPS.as_slice(), &[0, 0, 0, 1], &PPS].concat();
    described(
        Codec::Avc,
        MediaDescription::Video(VideoDescription {
            width: 400,
            height: 300,
            sample_aspect_ratio: (1, 1),
            matrix: None,
            color: None,
            video_range: VideoRange::Sdr,
            nal_length_size: 4,
            parameter_sets: sets.into(),
            supplemental_codecs: None,
        }),
    )
}

fn sound_track() -> TrackDescription {
    described(
        Codec::Aac,
        MediaDescription::Audio(AudioDescription {
            sample_rate: 48_000,
            channel_count: 2,
            joc_complexity: None,
            decoder_config: bytes::Bytes::from_static(&[0x11, 0x90]),
        }),
    )
}

/// A NAL unit behind its length.
fn sample_of(unit: &[u8]) -> Vec<u8> {
    [&(unit.len() as u32).to_be_bytes(), unit].concat()
}

/// (presentation, decode) of pictures, presentation of audio frames.
struct Times {
    pictures: Vec<(i64, i64)>,
    frames: Vec<i64>,
}

/// A segment with an IDR picture first.
fn segment(number: u64, times: &Times) -> Vec<u8> {
    let (picture, sound) = (picture_track(), sound_track());
    let (idr, slice) = (sample_of(&IDR), sample_of(&SLICE));
    let pictures: Vec<MuxSample<'_>> = times
        .pictures
        .iter()
        .enumerate()
        .map(|(at, (presentation_time_90k, decode_time_90k))| MuxSample {
            presentation_time_90k: *presentation_time_90k,
            decode_time_90k: *decode_time_90k,
            sync: at == 0,
            data: if at == 0 { &idr } else { &slice },
        })
        .collect();
    let frames: Vec<MuxSample<'_>> = times
        .frames
        .iter()
        .map(|time| MuxSample {
            presentation_time_90k: *time,
            decode_time_90k: *time,
            sync: true,
            data: &[0x21; 40],
        })
        .collect();
    let tracks = [
        MuxTrack {
            description: &picture,
            samples: &pictures,
        },
        MuxTrack {
            description: &sound,
            samples: &frames,
        },
    ];
    Segment {
        number,
        tracks: &tracks,
    }
    .write()
    .unwrap()
}

/// Times of both tracks, in ticks of 90 kHz.
fn times(packets: &[Packet]) -> Times {
    let of = |track| packets.iter().filter(move |packet| packet.track == track);
    let on_90k = |time| {
        rescale(
            time,
            Timescale::new(48_000).unwrap(),
            Timescale::MPEG_TS,
            Rounding::Nearest,
        )
    };
    Times {
        pictures: of(0)
            .map(|packet| (packet.presentation_time, packet.decode_time))
            .collect(),
        frames: of(1).map(|packet| on_90k(packet.presentation_time)).collect(),
    }
}

/// Two seconds of 25 pictures a second with B-frames, and of audio, from `start` on.
fn two_seconds(start: i64) -> Times {
    let reorder = [2, 0, 1, 4, 3];
    Times {
        pictures: (0..50)
            .map(|at| {
                let shown = at / 5 * 5 + reorder[(at % 5) as usize];
                (start + (shown + 3) * 3_600, start + at * 3_600)
            })
            .collect(),
        frames: (0..94).map(|at| start + 10_800 + at * 1_920).collect(),
    }
}

fn moved(times: &Times, by: i64) -> Times {
    Times {
        pictures: times
            .pictures
            .iter()
            .map(|(presentation, decode)| (presentation + by, decode + by))
            .collect(),
        frames: times.frames.iter().map(|time| time + by).collect(),
    }
}

fn joined(first: &Times, second: &Times) -> Times {
    Times {
        pictures: [first.pictures.clone(), second.pictures.clone()].concat(),
        frames: [first.frames.clone(), second.frames.clone()].concat(),
    }
}

/// Audio may be a tick off: 90 kHz and 48 kHz share every 15th.
fn near(found: &[i64], expected: &[i64]) -> bool {
    found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(found, expected)| found.abs_diff(*expected) <= 1)
}

#[test]
fn what_was_muxed_comes_out_again() {
    let times_in = two_seconds(126_000);
    let stream = segment(0, &times_in);
    let (demuxer, packets) = demux(&stream, 4_096).unwrap();
    let found = times(&packets);
    assert_eq!((found.pictures, found.frames), (times_in.pictures, times_in.frames));
    assert_eq!(demuxer.refused(), []);
    let [picture, sound] = demuxer.tracks() else {
        panic!("two tracks")
    };
    let picture = picture.description.as_ref().unwrap();
    assert_eq!(
        (picture.rfc6381.as_str(), picture.source_track_id),
        ("avc1.4D4015", 256)
    );
    assert_eq!(
        picture.video().unwrap().parameter_sets,
        picture_track().video().unwrap().parameter_sets
    );
    let sound = sound.description.as_ref().unwrap();
    assert_eq!((sound.rfc6381.as_str(), sound.language.as_str()), ("mp4a.40.2", "de"));
    assert_eq!(
        (sound.timescale.get(), sound.audio().unwrap().channel_count),
        (48_000, 2)
    );
    let first = &packets.iter().find(|packet| packet.track == 0).unwrap();
    assert_eq!((first.sync, &first.data[..]), (true, &sample_of(&IDR)[..]));
    let frame = &packets.iter().find(|packet| packet.track == 1).unwrap();
    assert_eq!((frame.duration, &frame.data[..]), (Some(1_024), &[0x21; 40][..]));
}

#[test]
fn pieces_and_packet_sizes_do_not_matter() {
    let stream = segment(0, &two_seconds(126_000));
    let (_, expected) = demux(&stream, stream.len()).unwrap();
    for piece in [1, 7, 187, 188, 189, 1_000] {
        assert_eq!(demux(&stream, piece).unwrap().1, expected, "pieces of {piece}");
    }
    let mut with_time_code = Vec::new();
    let mut with_parity = b"no packet".to_vec();
    for (at, packet) in stream.chunks(PACKET_SIZE).enumerate() {
        with_time_code.extend_from_slice(&[0x12, 0x47, at as u8, 0x40 | at as u8 & 7]);
        with_time_code.extend_from_slice(packet);
        with_parity.extend_from_slice(packet);
        with_parity.extend_from_slice(&[at as u8; 16]);
    }
    assert_eq!(demux(&with_time_code, 999).unwrap().1, expected);
    assert_eq!(demux(&with_parity, 999).unwrap().1, expected);
    // Junk between packets is passed over.
    let mut with_junk = stream[..PACKET_SIZE * 40].to_vec();
    with_junk.extend_from_slice(&[0x47, 0, 0x47, 1, 2, 3]);
    with_junk.extend_from_slice(&stream[PACKET_SIZE * 40..]);
    assert_eq!(demux(&with_junk, 999).unwrap().1, expected);
}

/// Each position of each time stamp relative to the wrap: shaka-packager#1049 unrolled PTS and DTS apart from another.
#[test]
fn every_way_across_the_wrap_gives_the_same_times() {
    let base = two_seconds(0);
    for step in -2..=54 {
        let start = TIMESTAMP_WRAP - step * 3_600 + 1;
        let times_in = moved(&base, start);
        let next = moved(&base, start + 180_000);
        let stream = [segment(0, &times_in), segment(1, &next)].concat();
        let (_, packets) = demux(&stream, 65_536).unwrap();
        let found = times(&packets);
        // Which turn of the counter is first is not told; after that nothing jumps.
        let turn = found.pictures[0].1 - times_in.pictures[0].1;
        assert!(turn == 0 || turn == -TIMESTAMP_WRAP, "{turn}");
        let expected = joined(&times_in, &next);
        assert_eq!(found.pictures, moved(&expected, turn).pictures);
        // 50 pictures are two seconds, 94 frames a little more: the overlap is left out.
        assert!(near(&found.frames[..94], &moved(&expected, turn).frames[..94]));
    }
}

proptest! {
    #[test]
    fn any_wrap_position_keeps_distances(start in 0..TIMESTAMP_WRAP, lead in 0_i64..180_000, audio in -90_000_i64..90_000) {
        let times_in = Times {
            pictures: (0..40).map(|at| (start + lead + at * 3_003, start + at * 3_003)).collect(),
            frames: (0..50).map(|at| start + 90_000 + audio + at * 1_920).collect(),
        };
        let (_, packets) = demux(&segment(7, &times_in), 65_536).unwrap();
        let found = times(&packets);
        let turn = found.pictures[0].1 - times_in.pictures[0].1;
        prop_assert_eq!(turn.rem_euclid(TIMESTAMP_WRAP), 0);
        prop_assert_eq!(&found.pictures, &moved(&times_in, turn).pictures);
        prop_assert!(near(&found.frames, &moved(&times_in, turn).frames));
    }
}

#[test]
fn edits_are_closed() {
    let base = two_seconds(126_000);
    let second = |start: i64| moved(&base, start - 126_000);
    // shaka-packager#1426 went to negative times here.
    for start in [
        6_195_904_302,
        0,
        126_000 + 20 * 90_000,
        126_000 + 180_000 + 11 * 90_000,
        TIMESTAMP_WRAP - 9,
    ] {
        let stream = [segment(0, &base), segment(1, &second(start))].concat();
        let (_, packets) = demux(&stream, 65_536).unwrap();
        let found = times(&packets);
        let expected = joined(&base, &second(126_000 + found.pictures[50].1 - 126_000));
        assert_eq!(found.pictures, expected.pictures, "{start}");
        assert!(near(&found.frames, &expected.frames), "{start}");
        // It goes on where the later track ended, the audio.
        assert_eq!(found.pictures[50].1, 126_000 + 10_800 + 94 * 1_920, "{start}");
    }
    // A gap of up to ten seconds stays one.
    let stream = [segment(0, &base), segment(1, &second(126_000 + 9 * 90_000))].concat();
    let (_, packets) = demux(&stream, 65_536).unwrap();
    assert_eq!(times(&packets).pictures[50].1, 126_000 + 9 * 90_000);
}

#[test]
fn an_announced_step_is_closed_too() {
    let base = two_seconds(126_000);
    let mut later = segment(1, &moved(&base, 4 * 90_000));
    // The first packet of the clock's PID: its adaptation field has flags already.
    let packet = later
        .chunks_mut(PACKET_SIZE)
        .find(|packet| packet[1..3] == [0x41, 0])
        .unwrap();
    packet[5] |= 0x80;
    let stream = [segment(0, &base), later].concat();
    let (_, packets) = demux(&stream, 65_536).unwrap();
    assert_eq!(times(&packets).pictures[50].1, 126_000 + 10_800 + 94 * 1_920);
}

#[test]
fn one_wrong_time_stamp_moves_nothing_else() {
    let times_in = two_seconds(126_000);
    let mut stream = segment(0, &times_in);
    let mut starts = stream
        .chunks_mut(PACKET_SIZE)
        .filter(|packet| packet[1..3] == [0x41, 0]);
    let wrong = starts.nth(20).unwrap();
    let fields = 4 + 1 + usize::from(wrong[4]) + 9;
    // PTS and DTS of 5,000,000,000 or so.
    wrong[fields] = 0x39;
    wrong[fields + 5] = 0x19;
    let (_, packets) = demux(&stream, 65_536).unwrap();
    let found = times(&packets);
    assert_eq!(found.frames, times_in.frames);
    assert_eq!(found.pictures[..20], times_in.pictures[..20]);
    // Decode times strictly grow: those after the wrong one are pushed until the stream has caught up.
    assert!(found.pictures.windows(2).all(|pair| pair[0].1 < pair[1].1));
    assert_eq!(found.pictures[40..], times_in.pictures[40..]);
}
