//! The bug classes of other packagers that concern time, B1 to B14, each as a test that fails where the mistake is made.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use packager::dash::mpd;
use packager::demux::{Demuxer, Packet};
use packager::form::Form;
use packager::hls;
use packager::index::{IndexWriter, NewSample, TrackIndex};
use packager::isobmff::fragment::{self, SegmentPosition};
use packager::isobmff::init::{self, InitFacts};
use packager::isobmff::sample_entry::{self, TrackFacts, VideoFacts};
use packager::mpegts::demux::TsDemuxer;
use packager::mpegts::mux::{self, MuxSample, MuxTrack};
use packager::mpegts::packed_audio;
use packager::presentation::{
    Content, HlsDescription, NewPresentation, NewRepresentation, Presentation, Representation,
};
use packager::segment::SegmentTarget;
use packager::text::TextTrack;
use packager::time::{MediaTime, Rounding, Timescale, rescale};
use packager::track::{Track, TrackDescription};
use proptest::prelude::*;

/// High profile, level 4.0, 1920×1080.
const AVCC: [u8; 44] = [
    0x01, 0x64, 0x00, 0x28, 0xff, 0xe1, 0x00, 0x1b, 0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5,
    0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60, 0xc6, 0x58, 0x01, 0x00, 0x06,
    0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0,
];
const WRAP: i64 = 1 << 33;
const TS_BASE: i64 = 900_000;

fn facts(timescale: u32) -> TrackFacts {
    TrackFacts {
        source_track_id: 1,
        timescale: Timescale::new(timescale).unwrap(),
        language: "en".into(),
        label: None,
    }
}

fn avc(timescale: u32) -> TrackDescription {
    sample_entry::avc(&facts(timescale), &AVCC, &VideoFacts::default()).unwrap()
}

fn aac() -> TrackDescription {
    sample_entry::aac(&facts(48_000), &[0x11, 0x90]).unwrap()
}

/// (duration, composition offset, sync) of each sample; every sample has 10 bytes.
fn index(timescale: u32, samples: impl IntoIterator<Item = (u32, i32, bool)>, edit_offset: i64) -> TrackIndex {
    let mut writer = IndexWriter::new(Timescale::new(timescale).unwrap());
    for (at, (duration, composition_offset, sync)) in (0u64..).zip(samples) {
        writer
            .push(NewSample {
                offset: at * 10,
                size: 10,
                duration,
                composition_offset,
                sync,
            })
            .unwrap();
    }
    writer.finish(edit_offset).unwrap()
}

/// GOPs of `lengths` frames without reordering.
fn gops(timescale: u32, duration: u32, lengths: &[u32], edit_offset: i64) -> TrackIndex {
    let frames = lengths
        .iter()
        .flat_map(|length| (0..*length).map(|at| (duration, 0, at == 0)));
    index(timescale, frames, edit_offset)
}

fn audio(frames: u32, edit_offset: i64) -> TrackIndex {
    index(48_000, (0..frames).map(|_| (1024, 0, true)), edit_offset)
}

fn presentation(tracks: Vec<(TrackDescription, TrackIndex)>, texts: Vec<TextTrack>, millis: u32) -> Presentation {
    let new = |source, content| NewRepresentation {
        source,
        content,
        language: "en".into(),
        label: None,
        roles: Vec::new(),
        default: false,
    };
    let samples = tracks
        .into_iter()
        .map(|(description, index)| Content::Samples(Track { description, index }));
    let tracks = samples
        .chain(texts.into_iter().map(Content::Cues))
        .zip(0..)
        .map(|(content, at)| new(at, content));
    Presentation::assemble(NewPresentation {
        title: "t".into(),
        tracks: tracks.collect(),
        refused: Vec::new(),
        target: SegmentTarget::from_millis(millis).unwrap(),
        hls: HlsDescription::default(),
    })
    .unwrap()
}

fn playlist(representation: &Representation, form: Form) -> String {
    String::from_utf8(hls::media::render(representation, form)).unwrap()
}

/// EXTINF values in microseconds.
fn extinfs(playlist: &str) -> Vec<u64> {
    let lines = playlist
        .lines()
        .filter_map(|line| line.strip_prefix("#EXTINF:")?.strip_suffix(','));
    lines.map(|seconds| seconds.replace('.', "").parse().unwrap()).collect()
}

fn target_duration(playlist: &str) -> u64 {
    playlist
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-TARGETDURATION:"))
        .unwrap()
        .parse()
        .unwrap()
}

fn check_playlist(playlist: &str) {
    let durations = extinfs(playlist);
    assert!(!durations.is_empty());
    for duration in &durations {
        assert!(*duration > 0, "empty segment in\n{playlist}");
        assert!(
            (duration + 500_000) / 1_000_000 <= target_duration(playlist),
            "{duration} µs in\n{playlist}"
        );
    }
}

/// What a fragment header says, read without the crate's own reader: first decode time and its version, and
/// (duration, size, composition offset) of each sample.
struct ReadFragment {
    decode_time: u64,
    tfdt_version: u8,
    trun_version: u8,
    samples: Vec<(u32, u32, i32)>,
}

fn find<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    let Some((name, deeper)) = path.split_first() else {
        return Some(bytes);
    };
    let mut rest = bytes;
    while rest.len() >= 8 {
        let size = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        if &rest[4..8] == name.as_slice() {
            return find(&rest[8..size.min(rest.len())], deeper);
        }
        rest = rest.get(size..)?;
    }
    None
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn read_fragment(header: &[u8]) -> ReadFragment {
    let tfhd = find(header, &[b"moof", b"traf", b"tfhd"]).unwrap();
    let tfdt = find(header, &[b"moof", b"traf", b"tfdt"]).unwrap();
    let trun = find(header, &[b"moof", b"traf", b"trun"]).unwrap();
    let (default_duration, default_size) = {
        let flags = word(tfhd, 0) & 0xff_ffff;
        let mut at = 8;
        let mut take = |flag: u32, size: usize| {
            let present = flags & flag != 0;
            at += if present { size } else { 0 };
            present.then(|| word(tfhd, at - size))
        };
        take(1, 8);
        take(2, 4);
        (take(8, 4), take(16, 4))
    };
    let flags = word(trun, 0) & 0xff_ffff;
    let count = word(trun, 4);
    let mut at = 8 + if flags & 1 != 0 { 4 } else { 0 } + if flags & 4 != 0 { 4 } else { 0 };
    let mut samples = Vec::new();
    for _ in 0..count {
        let mut take = |flag: u32| {
            let present = flags & flag != 0;
            at += if present { 4 } else { 0 };
            present.then(|| word(trun, at - 4))
        };
        let duration = take(0x100).or(default_duration).unwrap();
        let size = take(0x200).or(default_size).unwrap();
        take(0x400);
        let offset = take(0x800).unwrap_or(0) as i32;
        samples.push((duration, size, offset));
    }
    let decode_time = match tfdt[0] {
        0 => u64::from(word(tfdt, 4)),
        _ => u64::from(word(tfdt, 4)) << 32 | u64::from(word(tfdt, 8)),
    };
    ReadFragment {
        decode_time,
        tfdt_version: tfdt[0],
        trun_version: trun[0],
        samples,
    }
}

/// `media_time` of the edit list in a header, zero without one.
fn edit_media_time(init: &[u8]) -> i64 {
    find(init, &[b"moov", b"trak", b"edts", b"elst"]).map_or(0, |elst| match elst[0] {
        0 => i64::from(word(elst, 12) as i32),
        _ => (u64::from(word(elst, 16)) << 32 | u64::from(word(elst, 20))) as i64,
    })
}

/// For every segment of a track: (earliest presentation time, end) as the bytes say it.
fn spans(representation: &Representation) -> Vec<(i64, i64)> {
    let track = representation.track().unwrap();
    let edit = edit_media_time(&init::header(&track.description, InitFacts::of(&track.index)));
    let mut expected_decode_time = None;
    let segments = representation.segments.segments().iter().zip(1..);
    segments
        .map(|(segment, number)| {
            let header = fragment::header(&track.index, segment.samples.clone(), number, SegmentPosition::Inner);
            let read = read_fragment(&header);
            assert!(
                expected_decode_time.is_none_or(|expected| expected == read.decode_time),
                "tfdt has a gap"
            );
            let mut decode_time = read.decode_time as i64;
            let (mut start, mut end) = (i64::MAX, i64::MIN);
            for (duration, _, offset) in &read.samples {
                start = start.min(decode_time + i64::from(*offset) - edit);
                end = end.max(decode_time + i64::from(*offset) - edit + i64::from(*duration));
                decode_time += i64::from(*duration);
            }
            expected_decode_time = Some(decode_time as u64);
            (start.max(0), end)
        })
        .collect()
}

/// Segment table, playlist and bytes agree to the tick (B8, B11).
fn check_agreement(representation: &Representation) {
    let table = representation.segments.segments();
    let spans = spans(representation);
    assert_eq!(spans.len(), table.len());
    let last_end = spans.iter().map(|span| span.1).max().unwrap();
    for (at, (segment, (start, _))) in table.iter().zip(&spans).enumerate() {
        assert_eq!(
            segment.start as i64,
            *start,
            "segment {} of {}",
            at + 1,
            representation.id
        );
        let end = spans.get(at + 1).map_or(last_end, |next| next.0);
        assert_eq!(segment.end() as i64, end, "segment {} of {}", at + 1, representation.id);
    }
    let mut total = 0;
    let scale = representation.segments.timescale();
    let first = table[0].start;
    for (duration, segment) in extinfs(&playlist(representation, Form::Cmaf)).iter().zip(table) {
        total += duration;
        let exact = rescale(
            (segment.end() - first) as i64,
            scale,
            Timescale::new(1_000_000).unwrap(),
            Rounding::Nearest,
        );
        assert!(
            (total as i64 - exact).abs() <= 1,
            "EXTINF drifts: {total} µs, not {exact} µs"
        );
    }
}

/// A NAL unit of `kind` as one sample.
fn picture(kind: u8, size: u32) -> Vec<u8> {
    let mut bytes = size.to_be_bytes().to_vec();
    bytes.push(kind);
    bytes.resize(4 + size as usize, 0x5a);
    bytes
}

/// Muxes pictures with these times and takes the stream apart again: (presentation, decode) of each.
fn through_ts(times: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let description = avc(90_000);
    let payloads: Vec<Vec<u8>> = (0..times.len())
        .map(|at| picture(if at == 0 { 0x65 } else { 0x41 }, 40))
        .collect();
    let samples: Vec<MuxSample<'_>> = times
        .iter()
        .zip(&payloads)
        .enumerate()
        .map(|(at, ((presentation, decode), data))| MuxSample {
            presentation_time_90k: *presentation,
            decode_time_90k: *decode,
            sync: at == 0,
            data,
        })
        .collect();
    let tracks = [MuxTrack {
        description: &description,
        samples: &samples,
    }];
    let stream = mux::Segment {
        number: 1,
        tracks: &tracks,
    }
    .write()
    .unwrap();
    let mut demuxer = TsDemuxer::new();
    let mut packets: Vec<Packet> = Vec::new();
    demuxer.push(&stream, &mut packets).unwrap();
    demuxer.finish(&mut packets).unwrap();
    packets
        .iter()
        .map(|packet| (packet.presentation_time, packet.decode_time))
        .collect()
}

/// Presentation times that wrapped while decode times had not, and the other way round, at every position.
#[test]
fn b01_presentation_and_decode_times_wrap_apart() {
    let count = 12;
    for wrapping in -3..count + 3 {
        let first = WRAP - wrapping * 3_000;
        let times: Vec<(i64, i64)> = (0..count)
            .map(|at| {
                let decode = first + at * 3_000;
                let offset = if at == 0 {
                    6_000
                } else {
                    [12_000, 3_000, 3_000][at as usize % 3]
                };
                (decode + offset, decode)
            })
            .collect();
        let read = through_ts(&times);
        assert_eq!(read.len(), times.len(), "wrap at {wrapping}");
        let origin = (read[0].0 - times[0].0, read[0].1 - times[0].1);
        assert_eq!(origin.0, origin.1, "unrolled apart at {wrapping}");
        for (got, want) in read.iter().zip(&times) {
            assert_eq!((got.0 - origin.0, got.1 - origin.1), *want, "wrap at {wrapping}");
        }
    }
}

/// The timestamps that once gave a negative time: the second is more than half the counter ahead of the first.
#[test]
fn b02_a_leap_over_half_the_counter_gives_no_negative_time() {
    let read = through_ts(&[
        (126_000, 126_000),
        (6_195_904_302, 6_195_904_302),
        (6_195_907_302, 6_195_907_302),
    ]);
    assert!(read.len() >= 2, "{read:?}");
    for pair in read.windows(2) {
        assert!(pair[1].1 > pair[0].1, "time runs backwards: {read:?}");
    }
    assert!(
        read.iter()
            .all(|(presentation, decode)| *presentation >= 0 && *decode >= 0),
        "{read:?}"
    );
}

#[test]
fn b03_sixty_hours_exceed_no_counter() {
    let hours = 60;
    let long = gops(90_000, 90_000, &vec![2; hours * 1800], 0);
    let film = presentation(vec![(avc(90_000), long)], Vec::new(), 4_000);
    let video = &film.representations[0];
    check_agreement(video);
    let last = video.segments.segments().last().unwrap();
    assert!(last.start > u64::from(u32::MAX));
    assert_eq!(
        video.segments.number_at(last.start),
        Some(video.segments.segments().len() as u32)
    );
    let options = mpd::Options {
        addressing: mpd::Addressing::TimelineTime,
        text: mpd::TextCoding::Wvtt,
    };
    let text = String::from_utf8(mpd::render(&film, "b/", &options)).unwrap();
    assert!(
        text.contains("mediaPresentationDuration=\"PT216000.000000S\""),
        "{text}"
    );
    let frame = [0x5a; 20];
    let time = WRAP + 12_345;
    let packed = packed_audio::segment(&aac(), time, &[&frame]).unwrap();
    let owner = b"com.apple.streaming.transportStreamTimestamp\0";
    let at = packed.windows(owner.len()).position(|window| window == owner).unwrap() + owner.len();
    assert_eq!(
        u64::from_be_bytes(packed[at..at + 8].try_into().unwrap()),
        12_345,
        "33 bits"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn b04_no_segment_exceeds_target_duration_or_is_empty(
        lengths in prop::collection::vec(1u32..200, 1..40),
        millis in 1_000u32..20_000,
        duration in prop::sample::select(vec![512u32, 1_001, 1_000, 480]),
    ) {
        let film = presentation(
            vec![(avc(12_800), gops(12_800, duration, &lengths, 0)), (aac(), audio(900, 1024))], Vec::new(), millis,
        );
        for representation in &film.representations {
            check_playlist(&playlist(representation, Form::Cmaf));
            check_playlist(&playlist(representation, Form::Ts));
        }
        let trick = String::from_utf8(hls::media::render_trick(&film.representations[0], Form::Cmaf)).unwrap();
        check_playlist(&trick);
    }

    #[test]
    fn b11_manifests_and_bytes_agree_for_any_track(
        lengths in prop::collection::vec(1u32..90, 1..20),
        reorder in 0i32..4,
        edit in -200_000i64..200_000,
        millis in 1_000u32..8_000,
    ) {
        let frames = lengths.iter().flat_map(|length| (0..*length).map(move |at| {
            let offset = if at == 0 { reorder } else if at % 2 == 1 && at + 1 < *length { reorder + 1 }
                else if at % 2 == 0 { reorder - 1 } else { reorder };
            (3_003, offset * 3_003, at == 0)
        }));
        let video = index(90_000, frames, edit);
        prop_assume!(video.presentation_end() > 0);
        let film = presentation(vec![(avc(90_000), video), (aac(), audio(500, edit / 2))], Vec::new(), millis);
        for representation in &film.representations {
            check_agreement(representation);
        }
    }

    #[test]
    fn b14_gops_of_any_arrival_and_size_never_overlap(
        rows in prop::collection::vec((1u32..400, prop::sample::select(vec![1u32, 40, 3_000, 90_000])), 1..30),
    ) {
        let frames = rows.iter().flat_map(|(length, duration)| (0..*length).map(move |at| (*duration, 0, at == 0)));
        let film = presentation(vec![(avc(90_000), index(90_000, frames, 0))], Vec::new(), 2_000);
        let video = &film.representations[0];
        check_agreement(video);
        for pair in video.segments.segments().windows(2) {
            prop_assert_eq!(pair[0].end(), pair[1].start);
        }
    }
}

#[test]
fn b05_target_duration_is_the_playlists_own() {
    let cue = packager::text::webvtt::parse(b"WEBVTT\n\n00:01.000 --> 00:02.000\nhello\n")
        .unwrap()
        .track;
    let film = presentation(
        vec![(avc(1_000), gops(1_000, 1_000, &[9, 3, 3], 0)), (aac(), audio(700, 0))],
        vec![cue],
        4_000,
    );
    let targets: Vec<u64> = film
        .representations
        .iter()
        .map(|representation| target_duration(&playlist(representation, Form::Cmaf)))
        .collect();
    for (representation, target) in film.representations.iter().zip(&targets) {
        let longest = extinfs(&playlist(representation, Form::Cmaf))
            .into_iter()
            .max()
            .unwrap();
        assert_eq!((longest + 500_000) / 1_000_000, *target, "{}", representation.id);
    }
    let trick = String::from_utf8(hls::media::render_trick(&film.representations[0], Form::Cmaf)).unwrap();
    assert_eq!(target_duration(&trick), 9);
}

#[test]
fn b06_a_tail_of_milliseconds_is_no_segment() {
    // 30.0005 s.
    let film = presentation(
        vec![(aac(), index(48_000, (0..60_001).map(|_| (24, 0, true)), 0))],
        Vec::new(),
        4_000,
    );
    let text = playlist(&film.representations[0], Form::Cmaf);
    check_playlist(&text);
    assert!(extinfs(&text).iter().all(|duration| *duration >= 500_000), "{text}");
}

#[test]
fn b07_target_duration_holds_for_halves() {
    // 4.5 s rounds to 5: a target of 4 would be too small.
    let film = presentation(vec![(avc(1_000), gops(1_000, 500, &[9, 9, 8], 0))], Vec::new(), 4_000);
    let text = playlist(&film.representations[0], Form::Cmaf);
    assert_eq!(
        (extinfs(&text), target_duration(&text)),
        (vec![4_500_000, 4_500_000, 4_000_000], 5)
    );
}

#[test]
fn b08_durations_listed_are_durations_served_whatever_is_trimmed() {
    for trimmed_ms in (0..6_000).step_by(100) {
        let video = gops(1_000, 40, &[50; 8], trimmed_ms);
        let film = presentation(
            vec![(avc(1_000), video), (aac(), audio(800, trimmed_ms * 48))],
            Vec::new(),
            4_000,
        );
        for representation in &film.representations {
            check_agreement(representation);
        }
    }
}

#[test]
fn b09_trimming_keeps_picture_and_sound_together() {
    for trimmed_ms in (0..3_000).step_by(100) {
        let video = gops(1_000, 40, &[50; 8], trimmed_ms);
        let sound = audio(800, trimmed_ms * 48);
        // The sample that was at 4 s is now at 4 s minus what was trimmed, on both tracks.
        let at = |index: &TrackIndex, sample: u32| {
            MediaTime::new(
                index.presentation_time(&index.sample(sample).unwrap()),
                index.timescale(),
            )
        };
        let shifted = |index: &TrackIndex, sample: u32, ticks: i64| {
            assert_eq!(
                at(index, sample),
                MediaTime::new(ticks, index.timescale()),
                "{trimmed_ms} ms"
            );
        };
        shifted(&video, 100, 4_000 - trimmed_ms);
        shifted(&sound, 375, 8 * 48_000 - trimmed_ms * 48);
    }
}

#[test]
fn b10_first_times_survive_into_every_form() {
    // B-frames that delay presentation by two frames, with the edit list that takes the delay back; priming on the sound.
    let frames = (0..100).map(|at| (3_000, [6_000, 12_000, 3_000, 3_000][at as usize % 4], at % 50 == 0));
    let video = index(90_000, frames, 6_000);
    let sound = audio(200, 1_024);
    let film = presentation(
        vec![(avc(90_000), video.clone()), (aac(), sound.clone())],
        Vec::new(),
        4_000,
    );
    assert_eq!(spans(&film.representations[0])[0].0, 0);
    assert_eq!(sound.presentation_time(&sound.sample(0).unwrap()), -1_024);
    assert_eq!(edit_media_time(&init::header(&aac(), InitFacts::of(&sound))), 1_024);
    // In MPEG-TS: decode times move back by the delay, presentation times stay.
    let first = video.sample(0).unwrap();
    let decode = first.decode_time as i64 - video.decode_delay() as i64;
    assert!(decode <= video.presentation_time(&first));
    for sample in video.iter() {
        assert!(sample.decode_time as i64 - video.decode_delay() as i64 <= video.presentation_time(&sample));
    }
    let read = through_ts(&[(TS_BASE, TS_BASE + decode)]);
    assert_eq!(read[0].0 - read[0].1, -decode);
}

/// Edit list × composition offsets × form.
#[test]
fn b12_edit_lists_mean_the_same_everywhere() {
    let composition: [(&str, [i32; 4]); 2] = [
        ("v0", [6_000, 12_000, 3_000, 3_000]),
        ("v1", [0, 6_000, -3_000, -3_000]),
    ];
    let edits: [(&str, i64); 4] = [
        ("none", 0),
        ("priming", 1_500),
        ("empty edit", -270_000),
        ("shift", 6_000),
    ];
    for (version, offsets) in composition {
        for (edit, edit_offset) in edits {
            let frames = || (0..200).map(|at| (3_000, offsets[at as usize % 4], at % 50 == 0));
            let video = index(90_000, frames(), edit_offset);
            // What the source says, independently: decode + offset - edit.
            let source: Vec<i64> = frames()
                .zip(0..)
                .map(|((_, offset, _), at)| at * 3_000 + i64::from(offset) - edit_offset)
                .collect();
            let name = format!("{version}, {edit}");
            let times: Vec<i64> = video.iter().map(|sample| video.presentation_time(&sample)).collect();
            assert_eq!(times, source, "{name}");
            let film = presentation(vec![(avc(90_000), video.clone())], Vec::new(), 2_000);
            let representation = &film.representations[0];
            check_agreement(representation);
            let start = source.iter().min().unwrap().max(&0);
            assert_eq!(representation.segments.segments()[0].start as i64, *start, "{name}");
            let mpd = String::from_utf8(mpd::render(&film, "b/", &mpd::Options::default())).unwrap();
            assert!(mpd.contains(&format!("<S t=\"{start}\"")), "{name}: {mpd}");
            let header = fragment::header(
                &video,
                representation.segments.segments()[0].samples.clone(),
                1,
                SegmentPosition::Inner,
            );
            let read = read_fragment(&header);
            let negative = read.samples.iter().any(|(_, _, offset)| *offset < 0);
            assert_eq!(
                read.trun_version == 1,
                negative,
                "{name}: version 1 exactly when an offset is negative"
            );
            // CMAF 9.2.1: version 1 or an edit list, not both, unless samples lie before zero.
            let edit_list = edit_media_time(&init::header(&avc(90_000), InitFacts::of(&video)));
            assert_eq!(edit_list, source.iter().min().unwrap().min(&0).abs(), "{name}");
            let delay = video.decode_delay() as i64 + video.media_time() as i64;
            for sample in video.iter() {
                assert!(
                    sample.decode_time as i64 - delay <= video.presentation_time(&sample),
                    "{name}: DTS after PTS"
                );
            }
        }
    }
}

#[test]
fn b13_tfdt_is_the_sum_of_durations_in_the_smallest_field() {
    let check = |prior: u64, version: u8| {
        // One long sample before the fragment under test.
        let long = index(
            90_000,
            [
                (u32::MAX, 0, true),
                ((prior - u64::from(u32::MAX)) as u32, 0, true),
                (3_000, 0, true),
            ],
            0,
        );
        let read = read_fragment(&fragment::header(&long, 2..3, 3, SegmentPosition::Inner));
        assert_eq!((read.decode_time, read.tfdt_version), (prior, version));
    };
    check(u64::from(u32::MAX), 0);
    check(u64::from(u32::MAX) + 1, 1);
    let first = read_fragment(&fragment::header(&audio(10, 0), 0..10, 1, SegmentPosition::Inner));
    assert_eq!((first.decode_time, first.tfdt_version), (0, 0));
    assert_eq!(first.samples, [(1_024, 10, 0); 10]);
}

/// Sound that begins after the pictures: shaka-player takes the first segments of undated HLS playlists for simultaneous.
#[test]
fn tracks_that_do_not_begin_together_are_dated() {
    let dates = |sound_offset: i64| -> Vec<Vec<String>> {
        let film = presentation(
            vec![
                (avc(1_000), gops(1_000, 40, &[50, 50, 50], 0)),
                (aac(), audio(280, sound_offset)),
            ],
            vec![],
            2_000,
        );
        let lists = film.representations.iter().flat_map(|rep| {
            let trick = String::from_utf8(hls::media::render_trick(rep, Form::Cmaf)).unwrap();
            [playlist(rep, Form::Cmaf), playlist(rep, Form::Ts), trick]
        });
        let lists = lists.filter(|list| list.contains("#EXTINF"));
        let dates = lists.map(|list| {
            let mut lines = list.lines();
            let dates = lines
                .clone()
                .filter(|line| line.starts_with("#EXT-X-PROGRAM-DATE-TIME"));
            let dates: Vec<String> = dates.map(str::to_owned).collect();
            // In front of the first segment.
            let before = lines.by_ref().take_while(|line| !line.starts_with("#EXTINF"));
            assert_eq!(before.filter(|line| line.contains("DATE-TIME")).count(), dates.len());
            dates
        });
        dates.collect()
    };
    let date = |time: &str| vec![format!("#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:{time}Z")];
    // 1.1 s late, and 61.0205 s.
    for (offset, time) in [(-52_800, "00:01.100"), (-2_928_984, "01:01.021")] {
        let zero = date("00:00.000");
        let sound = date(time);
        assert_eq!(
            dates(offset),
            [zero.clone(), zero.clone(), zero, sound.clone(), sound],
            "{offset}"
        );
    }
    // Within what is taken for together.
    for offset in [0, -200, 1_024] {
        assert_eq!(dates(offset), vec![Vec::<String>::new(); 5], "{offset}");
    }
}
