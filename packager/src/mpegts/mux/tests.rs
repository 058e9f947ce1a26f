//! What the muxer writes, byte by byte.

mod films;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::layout::MAP_PID;
use super::*;
use crate::codec::{Codec, VideoRange};
use crate::crypto::ContentKey;
use crate::mpegts::PACKET_SIZE;
use crate::mpegts::TIMESTAMP_WRAP;
use crate::time::Timescale;
use crate::track::{AudioDescription, MediaDescription, VideoDescription};

fn description(codec: Codec, rfc6381: &str, media: MediaDescription) -> TrackDescription {
    TrackDescription {
        source_track_id: 1,
        codec,
        rfc6381: rfc6381.to_owned(),
        timescale: Timescale::MPEG_TS,
        language: "deu".to_owned(),
        label: None,
        sample_entry: Bytes::new(),
        media,
    }
}

fn video(codec: Codec, nal_length_size: u8, parameter_sets: &[u8]) -> TrackDescription {
    let media = MediaDescription::Video(VideoDescription {
        width: 16,
        height: 16,
        sample_aspect_ratio: (1, 1),
        matrix: None,
        color: None,
        video_range: VideoRange::Sdr,
        nal_length_size,
        parameter_sets: Bytes::copy_from_slice(parameter_sets),
        supplemental_codecs: None,
    });
    description(codec, "avc1.64001F", media)
}

fn audio(codec: Codec, sample_rate: u32, decoder_config: &[u8]) -> TrackDescription {
    let media = MediaDescription::Audio(AudioDescription {
        sample_rate,
        channel_count: 2,
        joc_complexity: None,
        decoder_config: Bytes::copy_from_slice(decoder_config),
    });
    description(codec, "mp4a.40.2", media)
}

/// AAC-LC, 48 kHz, stereo.
const AAC_CONFIG: [u8; 2] = [0x11, 0x90];

fn sample(presentation_time_90k: i64, decode_time_90k: i64, sync: bool, data: &[u8]) -> MuxSample<'_> {
    MuxSample {
        presentation_time_90k,
        decode_time_90k,
        sync,
        data,
    }
}

/// (PID, payload unit start, counter, has payload) of each packet.
fn packets(segment: &[u8]) -> Vec<(u16, bool, u8, bool)> {
    assert_eq!(segment.len() % PACKET_SIZE, 0);
    segment
        .chunks_exact(PACKET_SIZE)
        .map(|packet| {
            assert_eq!(packet[0], 0x47);
            let pid = u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff;
            (pid, packet[1] & 0x40 != 0, packet[3] & 15, packet[3] & 0x10 != 0)
        })
        .collect()
}

/// Payload bytes of one PID, PES headers included.
fn payload(segment: &[u8], wanted: u16) -> Vec<u8> {
    let mut out = Vec::new();
    for packet in segment.chunks_exact(PACKET_SIZE) {
        if u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff == wanted && packet[3] & 0x10 != 0 {
            let skip = if packet[3] & 0x20 != 0 {
                5 + usize::from(packet[4])
            } else {
                4
            };
            out.extend_from_slice(&packet[skip..]);
        }
    }
    out
}

#[test]
fn nal_units_become_a_byte_stream() {
    let check = |codec, length_size: u8, sync, units: &[&[u8]], expected: &[u8]| {
        let description = video(codec, length_size, b"\0\0\0\x01SETS");
        let mut data = Vec::new();
        for unit in units {
            data.extend_from_slice(&(unit.len() as u32).to_be_bytes()[4 - usize::from(length_size)..]);
            data.extend_from_slice(unit);
        }
        let samples = [sample(90_000, 90_000, sync, &data)];
        let tracks = [MuxTrack {
            description: &description,
            samples: &samples,
        }];
        let segment = Segment {
            number: 0,
            tracks: &tracks,
        }
        .write()
        .unwrap();
        assert_eq!(payload(&segment, 0x100)[14..], *expected);
    };
    let start: &[u8] = b"\0\0\0\x01";
    let aud: &[u8] = b"\0\0\0\x01\x09\xf0";
    let slice: &[u8] = &[0x41, 1, 2, 3];
    for length_size in [1, 2, 4] {
        check(Codec::Avc, length_size, false, &[slice], &[aud, start, slice].concat());
    }
    let idr: &[u8] = &[0x65; 500];
    check(Codec::Avc, 4, true, &[idr], &[aud, start, b"SETS", start, idr].concat());
    // A delimiter in the sample is replaced, empty units are dropped.
    check(
        Codec::Avc,
        4,
        false,
        &[b"\x09\x10".as_slice(), b"", slice],
        &[aud, start, slice].concat(),
    );
    // Parameter sets in band: both, or one and ours before it.
    check(
        Codec::Avc,
        2,
        true,
        &[b"\x67S".as_slice(), b"\x68P", idr],
        &[aud, start, b"\x67S", start, b"\x68P", start, idr].concat(),
    );
    check(
        Codec::Avc,
        2,
        true,
        &[b"\x68P".as_slice(), idr],
        &[aud, start, b"SETS", start, b"\x68P", start, idr].concat(),
    );
    let hevc_aud: &[u8] = b"\0\0\0\x01\x46\x01\x50";
    let irap: &[u8] = &[0x26, 1, 9];
    check(
        Codec::Hevc,
        4,
        true,
        &[&[0x46, 1, 0x10][..], irap],
        &[hevc_aud, start, b"SETS", start, irap].concat(),
    );
    check(
        Codec::Hevc,
        4,
        true,
        &[b"\x40\x01v".as_slice(), b"\x42\x01s", b"\x44\x01p", irap],
        &[
            hevc_aud,
            start,
            b"\x40\x01v",
            start,
            b"\x42\x01s",
            start,
            b"\x44\x01p",
            start,
            irap,
        ]
        .concat(),
    );
}

#[test]
fn a_bad_sample_is_named() {
    let check = |data: &[u8], times: (i64, i64), expected: &str| {
        let description = video(Codec::Avc, 4, b"");
        let good = [0, 0, 0, 1, 0x41];
        let samples = [sample(0, 0, true, &good), sample(times.0, times.1, false, data)];
        let tracks = [MuxTrack {
            description: &description,
            samples: &samples,
        }];
        let error = Segment {
            number: 0,
            tracks: &tracks,
        }
        .write()
        .unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(format!("{error}: {source}"), format!("track 0, sample 1: {expected}"));
    };
    check(&[0, 0, 0, 2, 1], (9, 9), "NAL unit at byte 4 wants 2 bytes, has 1");
    check(
        &[0, 0, 0, 1, 1, 0, 0],
        (9, 9),
        "NAL unit at byte 5 wants 4 bytes, has 2",
    );
    check(&[0xff; 9], (9, 9), "NAL unit at byte 4 wants 4294967295 bytes, has 5");
    check(
        &[0, 0, 0, 1, 1],
        (9, 12),
        "presented 3 ticks of 90 kHz before it is decoded",
    );
    let description = audio(Codec::Aac, 48_000, &AAC_CONFIG);
    let data = vec![0; 8_185];
    let samples = [sample(0, 0, true, &data)];
    let tracks = [MuxTrack {
        description: &description,
        samples: &samples,
    }];
    assert_eq!(
        Segment {
            number: 0,
            tracks: &tracks
        }
        .write(),
        Err(MuxError::Sample {
            track: 0,
            sample: 0,
            fault: SampleFault::TooLarge {
                size: 8_185,
                size_max: 8_184
            }
        })
    );
}

#[test]
fn what_has_no_mapping_is_refused() {
    let check = |description: TrackDescription, expected: Result<(), &str>| {
        assert_eq!(
            carries(&description).map_err(|why| why.to_owned()),
            expected.map_err(str::to_owned)
        );
    };
    check(audio(Codec::Aac, 48_000, &AAC_CONFIG), Ok(()));
    // HE-AAC, explicit: 24 kHz core, 48 kHz output.
    check(audio(Codec::Aac, 48_000, &[0x2b, 0x11, 0x88, 0x00]), Ok(()));
    check(
        audio(Codec::Aac, 48_000, &[0x11]),
        Err("the AAC configuration is damaged"),
    );
    check(audio(Codec::Aac, 48_000, &[]), Err("the AAC configuration is damaged"));
    check(
        audio(Codec::Aac, 48_000, &[0x11, 0xe0]),
        Err("this AAC channel configuration cannot be carried in ADTS"),
    );
    check(
        audio(Codec::Aac, 48_000, &[0x11, 0x94]),
        Err("AAC frames of 960 samples cannot be carried in ADTS"),
    );
    check(
        audio(Codec::Aac, 48_000, &[0x89, 0x90, 0x00]),
        Err("this AAC object type cannot be carried in ADTS"),
    );
    check(
        audio(Codec::Opus, 48_000, &[]),
        Err("HLS defines this audio coding in fMP4 only"),
    );
    check(
        video(Codec::Av1, 0, b""),
        Err("no mapping of this video coding to MPEG-TS is in use"),
    );
    check(
        video(Codec::Avc, 3, b""),
        Err("NAL unit lengths are neither 1, 2 nor 4 bytes"),
    );
    let mut vision = video(Codec::Hevc, 4, b"");
    vision.rfc6381 = "dvh1.05.06".to_owned();
    check(
        vision,
        Err("Dolby Vision without a compatible base layer is carried in fMP4 only"),
    );
    let description = audio(Codec::Opus, 48_000, &[]);
    let tracks = [MuxTrack {
        description: &description,
        samples: &[],
    }];
    let error = Segment {
        number: 0,
        tracks: &tracks,
    }
    .write()
    .unwrap_err();
    assert_eq!(error.to_string(), "track 0: HLS defines this audio coding in fMP4 only");
}

/// Each PID's packets with payload count on, and come to a multiple of 16; others repeat the last counter.
fn check_counters(segment: &[u8], number: u64) {
    let mut counts: BTreeMap<u16, u8> = BTreeMap::new();
    for (pid, _, counter, payload) in packets(segment) {
        let start = if pid == 0 || pid == MAP_PID {
            (number % 16) as u8
        } else {
            0
        };
        let next = counts.entry(pid).or_insert(start);
        match payload {
            true => {
                assert_eq!(counter, *next, "PID {pid}");
                *next = (*next + 1) % 16;
            }
            false => assert_eq!(counter, next.wrapping_sub(1) % 16, "PID {pid}"),
        }
    }
    for (pid, next) in counts {
        let end = if pid == 0 || pid == MAP_PID {
            (number + 1) % 16
        } else {
            0
        };
        assert_eq!(u64::from(next), end, "PID {pid}");
    }
}

#[test]
fn counters_go_on_from_segment_to_segment_at_any_size() {
    let picture = video(Codec::Avc, 4, b"");
    let sound = audio(Codec::Aac, 48_000, &AAC_CONFIG);
    for size in (10..400).chain(2_900..3_200) {
        let mut nal = (size as u32).to_be_bytes().to_vec();
        nal.resize(size + 4, 0x41);
        let frame = vec![0x21; size / 3];
        let pictures: Vec<_> = (0..3).map(|at| sample(at * 3_600, at * 3_600, at == 0, &nal)).collect();
        let frames: Vec<_> = (0..5).map(|at| sample(at * 1_920, at * 1_920, true, &frame)).collect();
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
        let number = size as u64;
        let segment = Segment {
            number,
            tracks: &tracks,
        }
        .write()
        .unwrap();
        check_counters(&segment, number);
        let mut expected = Vec::new();
        for picture in &pictures {
            expected.extend_from_slice(b"\0\0\0\x01\x09\xf0\0\0\0\x01");
            expected.extend_from_slice(&picture.data[4..]);
        }
        assert_eq!(pes_data(&payload(&segment, 0x100)), expected);
    }
}

/// The data of PES packets back to back; relies on the start code prefix not appearing in it but at starts.
fn pes_data(stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        assert_eq!(rest[..3], [0, 0, 1]);
        let end = rest[4..]
            .windows(4)
            .position(|at| at == [0, 0, 1, 0xe0])
            .map_or(rest.len(), |at| at + 4);
        out.extend_from_slice(&rest[9 + usize::from(rest[8])..end]);
        rest = &rest[end..];
    }
    out
}

#[test]
fn the_clock_is_sent_ten_times_a_second() {
    let picture = video(Codec::Avc, 4, b"");
    let sound = audio(Codec::Aac, 48_000, &AAC_CONFIG);
    let nal = [0, 0, 0, 30].iter().copied().chain([0x41; 30]).collect::<Vec<u8>>();
    let slow: Vec<_> = (0..4)
        .map(|at| sample(90_000 * (at + 1), 90_000 * (at + 1), true, &nal))
        .collect();
    let frames: Vec<_> = (0..180)
        .map(|at| sample(89_000 + at * 1_920, 89_000 + at * 1_920, true, &nal))
        .collect();
    let check = |tracks: &[MuxTrack<'_>]| {
        let segment = Segment { number: 3, tracks }.write().unwrap();
        check_counters(&segment, 3);
        let mut clocks = Vec::new();
        for packet in segment.chunks_exact(PACKET_SIZE) {
            if packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x10 != 0 {
                assert_eq!(u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff, 0x100);
                let field = packet[6..12]
                    .iter()
                    .fold(0_i64, |field, byte| field << 8 | i64::from(*byte));
                assert_eq!(field & 0x7fff, 0x7e00);
                clocks.push(field >> 15);
            }
        }
        assert!(clocks.is_sorted());
        assert!(clocks.windows(2).all(|pair| pair[1] - pair[0] <= 9_000), "{clocks:?}");
        (clocks[0], clocks[clocks.len() - 1])
    };
    let pictures = MuxTrack {
        description: &picture,
        samples: &slow,
    };
    let sounds = MuxTrack {
        description: &sound,
        samples: &frames,
    };
    assert_eq!(check(&[pictures]), (45_000, 315_000));
    assert_eq!(check(&[pictures, sounds]), (45_000, 315_000));
    assert_eq!(check(&[sounds]).0, 44_000);
    // Pictures that start two seconds late.
    let late: Vec<_> = slow
        .iter()
        .map(|one| MuxSample {
            presentation_time_90k: one.presentation_time_90k + 180_000,
            decode_time_90k: one.decode_time_90k + 180_000,
            ..*one
        })
        .collect();
    assert_eq!(
        check(&[
            MuxTrack {
                samples: &late,
                ..pictures
            },
            sounds
        ])
        .0,
        44_000
    );
}

#[test]
fn gaps_and_ends_of_time_are_survived() {
    let picture = video(Codec::Avc, 4, b"");
    let nal = [0, 0, 0, 1, 0x41];
    for times in [[i64::MIN, i64::MAX], [i64::MAX, i64::MIN], [0, i64::MAX], [-5, -5]] {
        let samples = times.map(|time| sample(time, time, true, &nal));
        let tracks = [MuxTrack {
            description: &picture,
            samples: &samples,
        }];
        let segment = Segment {
            number: u64::MAX,
            tracks: &tracks,
        }
        .write()
        .unwrap();
        assert!(segment.len() < 40 * PACKET_SIZE);
    }
    let none = Segment { number: 0, tracks: &[] }.write().unwrap();
    assert_eq!(packets(&none).len(), 2);
}

#[test]
fn time_stamps_wrap_at_33_bits() {
    let picture = video(Codec::Avc, 4, b"");
    let nal = [0, 0, 0, 1, 0x41];
    for shift in -4..4 {
        // 60 hours on, and each way of lying across the wrap.
        for base in [TIMESTAMP_WRAP, 60 * 3_600 * 90_000] {
            let (dts, pts) = (base + shift, base + shift + 3);
            let samples = [sample(pts, dts, true, &nal)];
            let tracks = [MuxTrack {
                description: &picture,
                samples: &samples,
            }];
            let segment = Segment {
                number: 0,
                tracks: &tracks,
            }
            .write()
            .unwrap();
            let pes = payload(&segment, 0x100);
            let read = |at: usize| {
                let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|byte| i64::from(pes[at + byte]));
                assert_eq!((a & 1, c & 1, e & 1), (1, 1, 1));
                ((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1, a >> 4)
            };
            assert_eq!(read(9), (pts.rem_euclid(TIMESTAMP_WRAP), 3));
            assert_eq!(read(14), (dts.rem_euclid(TIMESTAMP_WRAP), 1));
        }
    }
}

#[test]
fn parts_are_the_whole() {
    let picture = video(Codec::Avc, 4, b"\0\0\0\x01SETS");
    let sound = audio(Codec::Aac, 48_000, &AAC_CONFIG);
    // Slices of many sizes, some of which SAMPLE-AES encrypts; every seventh sample holds nothing.
    let slice = |at: usize, size: usize| -> Vec<u8> {
        if at % 7 == 3 {
            return Vec::new();
        }
        let header = if at.is_multiple_of(12) { 0x65 } else { 0x41 };
        let unit = std::iter::once(header).chain((0..size).map(|byte| (byte * 7 + at) as u8 | 1));
        let unit: Vec<u8> = unit.collect();
        [(unit.len() as u32).to_be_bytes().as_slice(), &unit].concat()
    };
    let pictures: Vec<Vec<u8>> = (0..50).map(|at| slice(at, (at * 937) % 4_001)).collect();
    let frames: Vec<Vec<u8>> = (0..90).map(|at| vec![at as u8; (at * 53) % 400]).collect();
    let pictures: Vec<MuxSample<'_>> = pictures
        .iter()
        .zip(0..)
        .map(|(data, at)| sample(90_000 + at * 3_600, 90_000 + at * 3_600, at % 12 == 0, data))
        .collect();
    let frames: Vec<MuxSample<'_>> = frames
        .iter()
        .zip(0..)
        .map(|(data, at)| sample(89_000 + at * 1_920, 89_000 + at * 1_920, true, data))
        .collect();
    let track = |description, samples| MuxTrack { description, samples };
    let (picture, sound) = (track(&picture, &pictures), track(&sound, &frames));
    let cipher = SampleAes::new(&ContentKey::new([7; 16]), [9; 16]);
    for tracks in [
        [picture, sound].as_slice(),
        &[sound, picture],
        &[picture],
        &[sound],
        &[],
    ] {
        let segment = Segment { number: 5, tracks };
        for encrypted in [false, true] {
            let whole = match encrypted {
                true => segment.write_encrypted(&cipher).unwrap(),
                false => segment.write().unwrap(),
            };
            for part_size in [0, 1, 500, 4_000, 30_000, usize::MAX] {
                let layout = match encrypted {
                    true => segment.lay_out_encrypted(&cipher, part_size).unwrap(),
                    false => segment.lay_out(part_size).unwrap(),
                };
                assert_eq!(layout.size(), whole.len() as u64);
                let starts: Vec<u64> = layout.starts().collect();
                assert_eq!(starts.len(), layout.part_count() + 1);
                assert!(layout.part_count() > 1 || part_size > 4_000 || tracks.is_empty());
                // From the last to the first: none needs another.
                for part in (0..layout.part_count()).rev() {
                    let media: Vec<Vec<u8>> = tracks
                        .iter()
                        .enumerate()
                        .map(|(at, track)| {
                            let samples = &track.samples[layout.samples(part, at)];
                            let media: Vec<u8> = samples.iter().flat_map(|sample| sample.data).copied().collect();
                            assert_eq!(layout.media(part, at).count(), media.len());
                            media
                        })
                        .collect();
                    let slices: Vec<&[u8]> = media.iter().map(Vec::as_slice).collect();
                    let mut got = b"before".to_vec();
                    layout.write(part, &slices, &mut got).unwrap();
                    let expected = &whole[starts[part] as usize..starts[part + 1] as usize];
                    assert!(
                        got[6..] == *expected,
                        "part {part} of {part_size} bytes, {} tracks, {encrypted}",
                        tracks.len()
                    );
                }
            }
        }
    }
}

#[test]
fn media_that_changed_is_refused() {
    let picture = video(Codec::Avc, 4, b"");
    let nal = [[0, 0, 1, 0].as_slice(), &[0x41; 256]].concat();
    let samples = [sample(90_000, 90_000, false, &nal)];
    let tracks = [MuxTrack {
        description: &picture,
        samples: &samples,
    }];
    let layout = Segment {
        number: 0,
        tracks: &tracks,
    }
    .lay_out(1_000)
    .unwrap();
    let write = |media: &[&[u8]]| layout.write(0, media, &mut Vec::new());
    assert_eq!(write(&[&nal]), Ok(()));
    // A delimiter that is dropped where a unit was, and a unit that is cut short.
    let dropped = [[0, 0, 0, 126].as_slice(), &[0x41; 126], &[0, 0, 0, 126], &[0x09; 126]].concat();
    let shorter = [[0, 0, 0, 9].as_slice(), &[0x41; 9], &[0; 247]].concat();
    for bad in [&dropped, &shorter, &nal[1..].to_vec(), &[nal.as_slice(), &[0]].concat()] {
        assert_eq!(write(&[bad]), Err(MuxError::Changed), "{} bytes", bad.len());
    }
    assert_eq!(write(&[]), Err(MuxError::Changed));
    assert_eq!(layout.write(1, &[&[]], &mut Vec::new()), Err(MuxError::Changed));
}
