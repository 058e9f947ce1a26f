//! Streams built packet by packet, for what real ones seldom show.

use super::*;
use crate::mpegts::psi::{StreamEntry, program_association, program_map};

/// A stream under construction: one program, maps at PID 0x20.
#[derive(Default)]
struct Builder {
    bytes: Vec<u8>,
    counters: BTreeMap<u16, u8>,
}

const MAP: u16 = 0x20;
const VIDEO: u16 = 0x100;
const AUDIO: u16 = 0x101;

impl Builder {
    /// A stream with a program of (stream type, PID, descriptors).
    fn new(streams: &[(u8, u16, &[u8])]) -> Builder {
        let mut builder = Builder::default();
        builder.section(0, &program_association(1, MAP));
        builder.section(MAP, &map(1, streams));
        builder
    }

    fn section(&mut self, pid: u16, section: &[u8]) {
        let mut payload = vec![0];
        payload.extend_from_slice(section);
        self.unit(pid, &payload, Unit::Section);
    }

    /// A PES packet with PTS and DTS, cut anywhere.
    fn pes(&mut self, pid: u16, times: Option<(u64, u64)>, data: &[u8]) {
        self.unit(pid, &pes(times, data), Unit::Pes);
    }

    fn unit(&mut self, pid: u16, payload: &[u8], unit: Unit) {
        for (at, piece) in payload.chunks(184).enumerate() {
            let start = if at == 0 { 0x40 } else { 0 };
            let counter = self.counters.entry(pid).or_default();
            let control = (if piece.len() < 184 && unit == Unit::Pes {
                0x30
            } else {
                0x10
            }) | *counter;
            *counter = (*counter + 1) % 16;
            let [high, low] = pid.to_be_bytes();
            self.bytes.extend_from_slice(&[0x47, start | high, low, control]);
            let stuffing = 184 - piece.len();
            if unit == Unit::Pes && stuffing > 0 {
                self.bytes.push((stuffing - 1) as u8);
                if stuffing > 1 {
                    self.bytes.push(0);
                    self.bytes.resize(self.bytes.len() + stuffing - 2, 0xff);
                }
            }
            self.bytes.extend_from_slice(piece);
            if unit == Unit::Section {
                self.bytes.resize(self.bytes.len() + stuffing, 0xff);
            }
        }
    }

    fn demux(&self) -> (TsDemuxer, Vec<Packet>) {
        demux(&self.bytes, 1_000).unwrap()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Section,
    Pes,
}

fn map(program_number: u16, streams: &[(u8, u16, &[u8])]) -> Vec<u8> {
    let entries: Vec<StreamEntry> = streams
        .iter()
        .map(|(stream_type, pid, descriptors)| StreamEntry {
            stream_type: *stream_type,
            pid: *pid,
            descriptors: descriptors.to_vec(),
        })
        .collect();
    program_map(program_number, VIDEO, &entries)
}

fn stamp(prefix: u8, time: u64) -> [u8; 5] {
    [
        prefix << 4 | (time >> 29) as u8 & 14 | 1,
        (time >> 22) as u8,
        (time >> 14) as u8 | 1,
        (time >> 7) as u8,
        (time << 1) as u8 | 1,
    ]
}

fn pes(times: Option<(u64, u64)>, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 1, 0xe0, 0, 0, 0x80];
    match times {
        Some((presentation, decode)) => {
            bytes.extend_from_slice(&[0xc0, 10]);
            bytes.extend_from_slice(&stamp(3, presentation));
            bytes.extend_from_slice(&stamp(1, decode));
        }
        None => bytes.extend_from_slice(&[0, 0]),
    }
    bytes.extend_from_slice(data);
    bytes
}

/// NAL units behind start codes.
fn byte_stream(units: &[&[u8]]) -> Vec<u8> {
    units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect()
}

const AUD: [u8; 2] = [9, 0xf0];
/// A slice that is not the first of its picture.
const SECOND_SLICE: [u8; 5] = [0x41, 0x40, 9, 9, 9];

fn start() -> Vec<u8> {
    byte_stream(&[&AUD, &SPS, &PPS, &IDR])
}

/// (presentation, decode, sync, NAL unit sizes) of each packet of a track.
fn pictures(packets: &[Packet]) -> Vec<(i64, i64, bool, Vec<usize>)> {
    let own = packets.iter().filter(|packet| packet.track == 0);
    own.map(|packet| {
        let units = crate::codec::bits::nal_units(&packet.data, 4);
        let sizes = units.map(|unit| unit.unwrap().len()).collect();
        (packet.presentation_time, packet.decode_time, packet.sync, sizes)
    })
    .collect()
}

#[test]
fn pictures_do_not_care_where_pes_packets_are_cut() {
    // Two pictures in one PES packet, the second without a time stamp of its own; then one in three PES packets.
    let mut builder = Builder::new(&[(0x1b, VIDEO, &[])]);
    let two = [start(), byte_stream(&[&AUD, &SLICE])].concat();
    builder.pes(VIDEO, Some((9_000, 9_000)), &two);
    let third = byte_stream(&[&AUD, &SLICE, &SECOND_SLICE, &SECOND_SLICE]);
    builder.pes(VIDEO, Some((18_000, 18_000)), &third[..9]);
    builder.pes(VIDEO, None, &third[9..20]);
    builder.pes(VIDEO, Some((20_000, 20_000)), &third[20..]);
    builder.pes(VIDEO, Some((21_600, 21_600)), &byte_stream(&[&AUD, &SLICE]));
    let expected = [
        (9_000, 9_000, true, vec![IDR.len()]),
        (12_600, 12_600, false, vec![SLICE.len()]),
        (
            18_000,
            18_000,
            false,
            vec![SLICE.len(), SECOND_SLICE.len(), SECOND_SLICE.len()],
        ),
        (21_600, 21_600, false, vec![SLICE.len()]),
    ];
    assert_eq!(pictures(&builder.demux().1), expected);
}

#[test]
fn a_start_code_may_lie_across_packets() {
    let data = [start(), byte_stream(&[&SLICE])].concat();
    for cut in 1..data.len() {
        let mut builder = Builder::new(&[(0x1b, VIDEO, &[])]);
        builder.pes(VIDEO, Some((9_000, 9_000)), &data[..cut]);
        builder.pes(VIDEO, None, &data[cut..]);
        let units: Vec<_> = pictures(&builder.demux().1)
            .into_iter()
            .map(|picture| picture.3)
            .collect();
        assert_eq!(units, [vec![IDR.len()], vec![SLICE.len()]], "cut at {cut}");
    }
}

#[test]
fn pictures_without_delimiters_begin_with_their_first_slice() {
    let mut builder = Builder::new(&[(0x1b, VIDEO, &[])]);
    builder.pes(
        VIDEO,
        Some((3_600, 3_600)),
        &byte_stream(&[&SPS, &PPS, &IDR, &SECOND_SLICE]),
    );
    builder.pes(VIDEO, Some((7_200, 7_200)), &byte_stream(&[&SLICE, &SECOND_SLICE]));
    builder.pes(VIDEO, Some((10_800, 10_800)), &byte_stream(&[&SLICE]));
    let sizes: Vec<usize> = pictures(&builder.demux().1)
        .iter()
        .map(|picture| picture.3.len())
        .collect();
    assert_eq!(sizes, [2, 2, 1]);
}

#[test]
fn what_comes_before_the_first_sync_sample_is_left_out() {
    let mut builder = Builder::new(&[(0x1b, VIDEO, &[])]);
    builder.pes(VIDEO, Some((3_600, 3_600)), &byte_stream(&[&AUD, &SLICE]));
    // Parameter sets are missing.
    builder.pes(VIDEO, Some((7_200, 7_200)), &byte_stream(&[&AUD, &IDR]));
    builder.pes(VIDEO, Some((10_800, 10_800)), &start());
    let (demuxer, packets) = builder.demux();
    assert_eq!(pictures(&packets), [(10_800, 10_800, true, vec![IDR.len()])]);
    let [note] = demuxer.refused() else {
        panic!("{:?}", demuxer.refused())
    };
    assert_eq!(note.what, "PID 256 (AVC)");
    assert_eq!(
        note.why,
        "2 pictures before the first at which decoding can start are left out"
    );
}

#[test]
fn an_open_group_of_pictures_may_start_a_stream() {
    // Recovery point SEI, exact match.
    const RECOVERY: [u8; 5] = [6, 6, 1, 0xc4, 0x80];
    const I_SLICE: [u8; 4] = [0x61, 0x88, 0x84, 7];
    let open = byte_stream(&[&AUD, &SPS, &PPS, &RECOVERY, &I_SLICE]);
    let mut builder = Builder::new(&[(0x1b, VIDEO, &[])]);
    builder.pes(VIDEO, Some((18_000, 9_000)), &open);
    builder.pes(VIDEO, Some((14_400, 12_600)), &byte_stream(&[&AUD, &SLICE]));
    builder.pes(VIDEO, Some((21_600, 16_200)), &byte_stream(&[&AUD, &SLICE]));
    builder.pes(VIDEO, Some((28_800, 19_800)), &open);
    builder.pes(VIDEO, Some((25_200, 23_400)), &byte_stream(&[&AUD, &SLICE]));
    let (demuxer, packets) = builder.demux();
    let shown: Vec<_> = pictures(&packets)
        .into_iter()
        .map(|picture| (picture.0, picture.2))
        .collect();
    // The picture shown before the first one is lost, the one before the second is not.
    assert_eq!(
        shown,
        [(18_000, true), (21_600, false), (28_800, true), (25_200, false)]
    );
    assert_eq!(
        demuxer.refused()[0].why,
        "1 pictures that refer to before the start are left out"
    );
}

#[test]
fn changed_parameter_sets_stay_in_band() {
    const OTHER_PPS: [u8; 4] = [0x28, 0xde, 0x0b, 0x88];
    let with = |pps: &[u8]| byte_stream(&[&AUD, &SPS, pps, &IDR]);
    let mut builder = Builder::new(&[(0x1b, VIDEO, &[])]);
    for (at, pps) in [PPS, PPS, OTHER_PPS, OTHER_PPS, PPS].iter().enumerate() {
        let time = 9_000 + at as u64 * 3_600;
        builder.pes(VIDEO, Some((time, time)), &with(pps));
    }
    let (demuxer, packets) = builder.demux();
    let kept: Vec<usize> = pictures(&packets).iter().map(|picture| picture.3.len()).collect();
    // Back at the first, it has to be said again; and from then on all are, for one holds as the others were when it came.
    assert_eq!(kept, [1, 1, 2, 3, 3]);
    assert_eq!(
        demuxer.refused()[0].why,
        "1 parameter sets change midway, and stay in band"
    );
    let description = demuxer.tracks()[0].description.as_ref().unwrap();
    assert!(description.video().unwrap().parameter_sets.ends_with(&PPS));
}

fn adts(size: usize) -> Vec<u8> {
    let config = crate::codec::aac::AudioSpecificConfig::parse(&[0x11, 0x90]).unwrap();
    let header = crate::codec::aac::adts::AdtsHeader::write(&config, size).unwrap();
    [&header[..], &vec![0x21; size]].concat()
}

#[test]
fn audio_frames_do_not_care_where_pes_packets_are_cut() {
    let frames: Vec<Vec<u8>> = (0..9).map(|at| adts(100 + at)).collect();
    let stream = frames.concat();
    for cut in [1, 50, 107, 108, 300, 650] {
        let mut builder = Builder::new(&[(0x0f, AUDIO, b"\x0a\x04ger\0")]);
        builder.pes(AUDIO, Some((90_000, 90_000)), &stream[..cut]);
        // The time stamp is that of the first frame that begins in the packet.
        let begun = (0..9).find(|at| frames[..*at].concat().len() >= cut).unwrap() as u64;
        let time = 90_000 + begun * 1_920;
        builder.pes(AUDIO, Some((time, time)), &stream[cut..]);
        let (demuxer, packets) = builder.demux();
        let times: Vec<i64> = packets.iter().map(|packet| packet.presentation_time).collect();
        assert_eq!(
            times,
            (0..9).map(|at| 48_000 + at * 1_024).collect::<Vec<_>>(),
            "cut at {cut}"
        );
        assert_eq!(demuxer.tracks()[0].description.as_ref().unwrap().language, "de");
        assert_eq!(demuxer.refused(), []);
    }
}

#[test]
fn audio_gaps_stay_and_overlaps_go() {
    let play = |second: u64| {
        let mut builder = Builder::new(&[(0x0f, AUDIO, &[])]);
        builder.pes(AUDIO, Some((90_000, 90_000)), &[adts(50), adts(50)].concat());
        builder.pes(AUDIO, Some((second, second)), &[adts(60), adts(60), adts(60)].concat());
        let (demuxer, packets) = builder.demux();
        let times: Vec<i64> = packets.iter().map(|packet| packet.presentation_time).collect();
        (times, demuxer.refused().first().map(|note| note.why.clone()))
    };
    let (a, b) = (48_000, 49_024);
    // Expected, and a little off: frames follow each other.
    assert_eq!(play(93_840), (vec![a, b, 50_048, 51_072, 52_096], None));
    assert_eq!(play(93_840 + 300), (vec![a, b, 50_048, 51_072, 52_096], None));
    assert_eq!(play(93_840 - 300), (vec![a, b, 50_048, 51_072, 52_096], None));
    assert_eq!(play(97_680), (vec![a, b, 52_096, 53_120, 54_144], None));
    let note = Some("1 frames overlap with what came before, and are left out".to_owned());
    assert_eq!(play(91_920), (vec![a, b, 50_048, 51_072], note));
}

#[test]
fn refusals_name_what_it_is() {
    let check = |stream_type: u8, descriptors: &[u8], expected: &str| {
        let mut builder = Builder::new(&[(0x0f, AUDIO, &[]), (stream_type, 0x200, descriptors)]);
        builder.pes(AUDIO, Some((0, 0)), &[adts(9), adts(9)].concat());
        let (demuxer, _) = builder.demux();
        assert_eq!(demuxer.tracks().len(), 1);
        let [refusal] = demuxer.refused() else {
            panic!("{:?}", demuxer.refused())
        };
        assert_eq!((refusal.what.as_str(), refusal.why.as_str()), ("PID 512", expected));
    };
    check(0x02, &[], "MPEG-1 and MPEG-2 video are not served");
    check(0x15, &[], "timed metadata (ID3) is not served");
    check(0x86, b"\x05\x04CUEI", "SCTE-35 cues are not served");
    check(0xdb, &[], "it is encrypted (HLS SAMPLE-AES)");
    check(0x06, &[0x59, 0], "DVB subtitles are pictures and are not served");
    check(0x06, &[0x0a, 4, b'e', b'n', b'g', 0, 0x56, 0], "teletext is not served");
    check(0x06, b"\x05\x04Opus", "private stream Opus is not served");
    check(0x06, &[], "it is a private stream of unknown content");
    check(0x99, &[], "stream type 0x99 is not served");
}

#[test]
fn dolby_in_private_streams_is_known_by_its_descriptor() {
    for descriptors in [&[0x6a, 1, 0][..], &[0x7a, 1, 0], b"\x05\x04AC-3", b"\x05\x04EAC3"] {
        let builder = Builder::new(&[(0x06, AUDIO, descriptors)]);
        let (demuxer, _) = builder.demux();
        assert_eq!(demuxer.tracks().len(), 1);
        assert_eq!(demuxer.refused()[0].what, "PID 257 (AC-3 or E-AC-3)");
    }
}

#[test]
fn scrambled_streams_are_refused() {
    let mut builder = Builder::new(&[(0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])]);
    let at = builder.bytes.len();
    builder.pes(VIDEO, Some((0, 0)), &start());
    builder.bytes[at + 3] |= 0x80;
    let mut scrambled = pes(Some((0, 0)), &adts(9));
    scrambled[6] |= 0x10;
    builder.unit(AUDIO, &scrambled, Unit::Pes);
    let (demuxer, packets) = builder.demux();
    assert_eq!(packets, []);
    let reasons: Vec<&str> = demuxer.refused().iter().map(|refusal| refusal.why.as_str()).collect();
    assert_eq!(reasons, ["its packets are scrambled", "its PES packets are scrambled"]);
}

#[test]
fn one_program_is_served() {
    let mut builder = Builder::default();
    let mut association = program_association(1, MAP);
    association.truncate(association.len() - 4);
    association.extend_from_slice(&[0, 2, 0xe0, 0x21, 0, 3, 0xe0, 0x22]);
    association[2] += 8;
    let crc = psi::crc32(&association);
    association.extend_from_slice(&crc.to_be_bytes());
    builder.section(0, &association);
    builder.section(MAP, &map(1, &[(0x05, 0x300, &[])]));
    builder.section(0x21, &map(2, &[(0x0f, AUDIO, &[])]));
    builder.section(0x22, &map(3, &[(0x0f, 0x400, &[])]));
    // A program that the association does not name.
    builder.section(0x22, &map(4, &[(0x0f, 0x500, &[])]));
    builder.pes(AUDIO, Some((0, 0)), &[adts(9), adts(9)].concat());
    let (demuxer, packets) = builder.demux();
    assert_eq!((demuxer.tracks().len(), packets.len()), (1, 2));
    let refused: Vec<_> = demuxer
        .refused()
        .iter()
        .map(|one| (one.what.as_str(), one.why.as_str()))
        .collect();
    assert_eq!(
        refused,
        [
            ("PID 768", "private sections are not served"),
            ("program 3", "one program is served, and 2 comes first"),
        ]
    );
}

#[test]
fn a_map_may_span_packets_and_grow() {
    let long = vec![0xee; 240];
    let descriptors = [&[0xf0, 240], &long[..]].concat();
    let mut builder = Builder::new(&[(0x0f, AUDIO, &descriptors)]);
    builder.pes(AUDIO, Some((0, 0)), &[adts(9), adts(9)].concat());
    let mut later = map(1, &[(0x0f, AUDIO, &descriptors), (0x0f, 0x102, &[])]);
    later.truncate(later.len() - 4);
    later[5] = 0xc3;
    let crc = psi::crc32(&later);
    later.extend_from_slice(&crc.to_be_bytes());
    builder.section(MAP, &later);
    builder.pes(0x102, Some((3_840, 3_840)), &[adts(9), adts(9)].concat());
    let (demuxer, packets) = builder.demux();
    let tracks: Vec<usize> = packets.iter().map(|packet| packet.track).collect();
    assert_eq!((demuxer.tracks().len(), tracks), (2, vec![0, 0, 1, 1]));
    // A damaged map is not believed.
    let mut damaged = builder.bytes.clone();
    damaged[PACKET_SIZE + 60] ^= 1;
    let (demuxer, _) = demux(&damaged, 999).unwrap();
    let known: Vec<bool> = demuxer
        .tracks()
        .iter()
        .map(|track| track.description.is_some())
        .collect();
    assert_eq!(known, [false, true]);
}

#[test]
fn repeated_packets_count_once_and_missing_ones_are_told() {
    let mut builder = Builder::new(&[(0x1b, VIDEO, &[])]);
    let big = [&IDR[..], &[0x55; 1_000]].concat();
    for at in 0..4 {
        let time = 9_000 + at * 3_600;
        builder.pes(VIDEO, Some((time, time)), &byte_stream(&[&AUD, &SPS, &PPS, &big]));
    }
    let (_, expected) = builder.demux();
    let twice: Vec<u8> = builder
        .bytes
        .chunks(PACKET_SIZE)
        .flat_map(|packet| [packet, packet].concat())
        .collect();
    assert_eq!(demux(&twice, 999).unwrap().1, expected);
    // The third packet of the second picture is lost: it ends there, and the next one is whole.
    let mut lost = builder.bytes.clone();
    lost.drain(PACKET_SIZE * 10..PACKET_SIZE * 11);
    let (demuxer, packets) = demux(&lost, 999).unwrap();
    assert_eq!(packets.len(), 4);
    assert_eq!(
        (&packets[0], &packets[2], &packets[3]),
        (&expected[0], &expected[2], &expected[3])
    );
    assert!(packets[1].data.len() < expected[1].data.len());
    assert_eq!(demuxer.refused()[0].why, "packets are missing in 1 places");
}

#[test]
fn nothing_to_serve_is_an_error() {
    let check = |bytes: &[u8], expected: &str| {
        let Err(error) = demux(bytes, 4_096) else {
            panic!("taken")
        };
        assert_eq!(error.what, expected);
    };
    check(&[], "no program with video or audio");
    check(&[0x47; 100], "no program with video or audio");
    check(&vec![0x11; 3 << 20], "no transport packets in 1052672 bytes");
    check(
        &Builder::new(&[(0x02, VIDEO, &[])]).bytes,
        "no program with video or audio",
    );
    let null = [&[0x47, 0x1f, 0xff, 0x10][..], &[0xff; 184]].concat();
    check(&null.repeat(400_000), "no program with video or audio so far");
}
