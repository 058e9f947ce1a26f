//! Files made here, element by element, and damaged in every way.

use bytes::Bytes;

use super::*;
use crate::index::Sample;
use crate::text::Cue;

/// An element of known size.
fn el(id: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(id);
    bytes.extend((payload.len() as u64 | 1 << 56).to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A master element that does not say how long it is.
fn open(id: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(id);
    bytes.extend(u64::MAX.wrapping_shr(7).to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn head(id: u32) -> Vec<u8> {
    id.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

fn uint(id: u32, value: u64) -> Vec<u8> {
    el(id, &value.to_be_bytes())
}

fn ebml() -> Vec<u8> {
    el(id::EBML, &el(id::DOC_TYPE, b"webm"))
}

fn track(number: u64, track_type: u64, codec: &str, more: &[u8]) -> Vec<u8> {
    let facts = [
        uint(id::TRACK_NUMBER, number),
        uint(id::TRACK_TYPE, track_type),
        el(id::CODEC_ID, codec.as_bytes()),
        more.to_vec(),
    ];
    el(id::TRACK_ENTRY, &facts.concat())
}

fn vp8(number: u64, more: &[u8]) -> Vec<u8> {
    let video = [uint(id::PIXEL_WIDTH, 64), uint(id::PIXEL_HEIGHT, 36)].concat();
    track(number, 1, "V_VP8", &[el(id::VIDEO, &video), more.to_vec()].concat())
}

/// AAC LC, 48 kHz, stereo.
fn aac(number: u64, more: &[u8]) -> Vec<u8> {
    let private = el(id::CODEC_PRIVATE, &[0x11, 0x90]);
    track(number, 2, "A_AAC", &[private, more.to_vec()].concat())
}

fn opus(number: u64, more: &[u8]) -> Vec<u8> {
    let private = el(id::CODEC_PRIVATE, b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0");
    track(number, 2, "A_OPUS", &[private, more.to_vec()].concat())
}

fn simple(track: u8, timestamp: i16, flags: u8, payload: &[u8]) -> Vec<u8> {
    el(id::SIMPLE_BLOCK, &block_payload(track, timestamp, flags, payload))
}

fn block_payload(track: u8, timestamp: i16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = timestamp.to_be_bytes();
    [[0x80 | track, high, low, flags].as_slice(), payload].concat()
}

fn cluster(timestamp: u64, blocks: &[Vec<u8>]) -> Vec<u8> {
    el(id::CLUSTER, &[uint(id::TIMESTAMP, timestamp), blocks.concat()].concat())
}

fn file(tracks: &[Vec<u8>], clusters: &[Vec<u8>]) -> Bytes {
    let content = [el(id::TRACKS, &tracks.concat()), clusters.concat()].concat();
    Bytes::from([ebml(), el(id::SEGMENT, &content)].concat())
}

/// One block a frame, at these milliseconds; the first is a key frame.
fn blocks(track: u8, timestamps: &[i16]) -> Vec<Vec<u8>> {
    let block = |(at, timestamp): (usize, &i16)| {
        let flags = if at == 0 || track != 1 { 0x80 } else { 0 };
        // 0x7c: an Opus packet of 20 ms; nothing in particular for others.
        simple(track, *timestamp, flags, &[0x7c, at as u8, 3])
    };
    timestamps.iter().enumerate().map(block).collect()
}

fn only(read: &SourceTracks) -> &Track {
    assert_eq!(read.tracks.len(), 1, "{:?}", read.refused);
    &read.tracks[0]
}

fn samples(track: &Track) -> Vec<Sample> {
    track.index.iter().collect()
}

fn reasons(read: &SourceTracks) -> Vec<String> {
    let reason = |refusal: &Refusal| format!("{}: {}", refusal.what, refusal.why);
    read.refused.iter().map(reason).collect()
}

/// Checks timescale, (presentation time, duration) of each picture in decode order, and notes.
fn check_video(more: &[u8], timestamps: &[i16], timescale: u32, expected: &[(i64, u32)], notes: &[&str]) {
    let read = read(&file(&[vp8(1, more)], &[cluster(0, &blocks(1, timestamps))])).unwrap();
    let track = only(&read);
    let found: Vec<_> = samples(track)
        .iter()
        .map(|sample| (track.index.presentation_time(sample), sample.duration))
        .collect();
    assert_eq!(track.index.timescale().get(), timescale);
    assert_eq!(found, expected);
    assert_eq!(reasons(&read), notes);
}

#[test]
fn pictures_at_a_steady_rate_are_put_on_it() {
    let film = uint(id::DEFAULT_DURATION, 41_708_333);
    let steady = |count: i64, frame: i64| (0..count).map(|at| (at * frame, frame as u32)).collect::<Vec<_>>();
    check_video(&film, &[0, 42, 83, 125, 167, 209], 24_000, &steady(6, 1_001), &[]);
    check_video(&[], &[0, 40, 80, 120], 25_000, &steady(4, 1_000), &[]);
    // Rounded down, as some muxers do.
    check_video(&[], &[0, 33, 66, 100, 133, 166, 200], 30_000, &steady(7, 1_000), &[]);
    check_video(
        &[],
        &[100, 116, 133, 150, 166, 183, 200],
        60_000,
        &steady(7, 1_000),
        &[],
    );
    // A picture is missing: its place stays empty.
    check_video(
        &film,
        &[0, 42, 125, 167],
        24_000,
        &[(0, 1_001), (1_001, 2_002), (3_003, 1_001), (4_004, 1_001)],
        &[],
    );
}

#[test]
fn other_pictures_keep_their_ticks() {
    check_video(
        &[],
        &[0, 10, 100, 120, 300],
        1_000,
        &[(0, 10), (10, 90), (100, 20), (120, 180), (300, 180)],
        &[],
    );
    check_video(&[], &[7], 1_000, &[(0, 41)], &[]);
    let lie = uint(id::DEFAULT_DURATION, 40_000_000);
    check_video(
        &lie,
        &[0, 30, 100, 101],
        1_000,
        &[(0, 30), (30, 70), (100, 1), (101, 40)],
        &[],
    );
}

#[test]
fn pictures_out_of_order_are_decoded_in_the_order_of_the_file() {
    let shown = [(0, 1_000), (3_000, 1_000), (1_000, 1_000), (2_000, 1_000)];
    check_video(&[], &[0, 120, 40, 80], 25_000, &shown, &[]);
    let read = read(&file(&[vp8(1, &[])], &[cluster(0, &blocks(1, &[0, 120, 40, 80]))])).unwrap();
    let index = &only(&read).index;
    let decode: Vec<_> = index
        .iter()
        .map(|sample| (sample.decode_time, sample.composition_offset))
        .collect();
    assert_eq!(decode, [(0, 0), (1_000, 2_000), (2_000, -1_000), (3_000, -1_000)]);
    assert_eq!((index.first_decode_time(), index.media_time()), (0, 0));
    assert_eq!(index.sync_samples().collect::<Vec<_>>(), [0]);
}

#[test]
fn equal_timestamps_are_moved_apart() {
    let note = "track 1 (V_VP8): 1 pictures share a timestamp and were moved apart by one tick";
    check_video(
        &[],
        &[0, 50, 50, 200],
        1_000,
        &[(0, 50), (50, 1), (51, 149), (200, 149)],
        &[note],
    );
}

#[test]
fn a_timeline_that_starts_over_is_refused() {
    let read = read(&file(&[vp8(1, &[])], &[cluster(0, &blocks(1, &[0, 30_000, 0]))])).unwrap();
    assert_eq!(reasons(&read), ["track 1 (V_VP8): timestamps start over at sample 2"]);
}

/// Checks durations of AAC frames at these milliseconds, and the notes.
fn check_sound(timestamps: &[i16], expected: &[u32], notes: &[&str]) {
    let read = read(&file(&[aac(2, &[])], &[cluster(0, &blocks(2, timestamps))])).unwrap();
    let track = only(&read);
    assert_eq!(track.index.timescale().get(), 48_000);
    let found: Vec<_> = samples(track).iter().map(|sample| sample.duration).collect();
    assert_eq!(found, expected);
    assert_eq!(reasons(&read), notes);
    assert!(track.index.all_sync());
}

#[test]
fn sound_counts_samples_between_real_gaps() {
    check_sound(&[0, 21, 43, 64, 85], &[1_024; 5], &[]);
    // Within two ticks and half a frame of where counting stands.
    check_sound(&[0, 25, 40, 70, 85], &[1_024; 5], &[]);
    check_sound(
        &[0, 21, 1_021, 1_043],
        &[1_024, 47_984, 1_024, 1_024],
        &["track 2 (A_AAC): 1 gaps in the sound; the frame before each is lengthened"],
    );
    check_sound(
        &[0, 21, 43, 47, 68],
        &[1_024, 1_024, 208, 1_024, 1_024],
        &["track 2 (A_AAC): 1 overlaps in the sound; frames before them are shortened"],
    );
    check_sound(
        &[5_000, 5_021, 0, 21],
        &[1_024; 4],
        &["track 2 (A_AAC): timestamps of the sound jump back 1 times; it is played on without a gap"],
    );
}

#[test]
fn priming_and_padding_of_opus() {
    let delay = uint(id::CODEC_DELAY, 6_500_000);
    let group = |padding: i64| {
        let content = [
            el(id::BLOCK, &block_payload(2, 40, 0, &[0x7c, 0, 0])),
            el(id::DISCARD_PADDING, &padding.to_be_bytes()),
        ];
        el(id::BLOCK_GROUP, &content.concat())
    };
    let check = |more: &[u8], padding: i64, media_time: u64, last: u32| {
        let blocks = [blocks(2, &[0, 20]), vec![group(padding)]].concat();
        let read = read(&file(&[opus(2, more)], &[cluster(0, &blocks)])).unwrap();
        let index = &only(&read).index;
        assert_eq!((index.media_time(), index.first_decode_time()), (media_time, 0));
        let durations: Vec<_> = index.iter().map(|sample| sample.duration).collect();
        assert_eq!(durations, [960, 960, last]);
    };
    check(&delay, 0, 312, 960);
    check(&delay, 10_000_000, 312, 480);
    check(&delay, i64::MAX, 312, 1);
    check(&delay, -5, 312, 960);
    // OpusHead says it too, for muxers that forget CodecDelay.
    check(&[], 0, 312, 960);
}

#[test]
fn tracks_share_one_zero() {
    let delay = uint(id::CODEC_DELAY, 6_500_000);
    let all = [blocks(1, &[100, 140, 180]), blocks(2, &[95, 115, 135])].concat();
    let read = read(&file(&[vp8(1, &[]), opus(2, &delay)], &[cluster(3_000, &all)])).unwrap();
    let [video, sound] = read.tracks.as_slice() else {
        panic!("{:?}", read.refused)
    };
    assert_eq!((video.index.first_decode_time(), video.index.media_time()), (125, 0));
    assert_eq!((sound.index.first_decode_time(), sound.index.media_time()), (0, 312));
}

#[test]
fn open_segments_and_clusters_read_like_closed_ones() {
    let tracks = el(id::TRACKS, &vp8(1, &[]));
    let content = |element: fn(u32, &[u8]) -> Vec<u8>| {
        let cluster = |timestamp, first: bool| {
            let flags = if first { 0x80 } else { 0 };
            let blocks = [simple(1, 0, flags, b"abc"), simple(1, 40, 0, b"defg")].concat();
            element(id::CLUSTER, &[uint(id::TIMESTAMP, timestamp), blocks].concat())
        };
        let parts = [
            tracks.clone(),
            el(id::VOID, &[0; 9]),
            cluster(0, true),
            el(id::CUES, &[]),
            cluster(80, false),
        ];
        Bytes::from([ebml(), element(id::SEGMENT, &parts.concat())].concat())
    };
    let (closed, live) = (read(&content(el)).unwrap(), read(&content(open)).unwrap());
    assert_eq!(closed.refused, []);
    assert_eq!(live.refused, []);
    assert_eq!(samples(only(&closed)), samples(only(&live)));
    assert_eq!(samples(only(&live)).len(), 4);
}

#[test]
fn laced_frames_are_samples_of_their_own() {
    let frames = [[0x7c; 5].as_slice(), &[0x7c; 300], &[0x7c; 5], &[0x7c; 5]];
    let laced = |flags: u8, sizes: &[u8], frames: &[&[u8]]| {
        let payload = [sizes, &frames.concat()].concat();
        let source = file(&[opus(2, &[])], &[cluster(0, &[simple(2, 0, 0x80 | flags, &payload)])]);
        let read = read(&source).unwrap();
        let found = samples(only(&read));
        let data: Vec<_> = found
            .iter()
            .map(|sample| &source[sample.offset as usize..][..sample.size as usize])
            .collect();
        assert_eq!(data, frames, "{flags:#x}");
        let times: Vec<_> = found.iter().map(|sample| sample.decode_time).collect();
        assert_eq!(times, [0, 960, 1_920, 2_880][..frames.len()]);
    };
    laced(0x02, &[3, 5, 255, 45, 5], &frames);
    laced(0x06, &[3, 0x85, 0x61, 0x26, 0x5e, 0xd8], &frames);
    laced(0x04, &[2], &[[0x7c; 7].as_slice(); 3]);
}

#[test]
fn what_can_not_be_served_is_refused_with_its_reason() {
    let encoding = |content: Vec<u8>| el(id::CONTENT_ENCODINGS, &el(id::CONTENT_ENCODING, &content));
    let compression = |algorithm| el(id::CONTENT_COMPRESSION, &uint(id::CONTENT_COMP_ALGO, algorithm));
    let check = |track: Vec<u8>, expected: &str| {
        let read = read(&file(&[track], &[cluster(0, &blocks(1, &[0, 40]))])).unwrap();
        assert_eq!((read.tracks.len(), reasons(&read)), (0, vec![expected.to_owned()]));
    };
    let stripping = [uint(id::CONTENT_COMP_ALGO, 3), el(id::CONTENT_COMP_SETTINGS, &[1])].concat();
    check(
        vp8(1, &encoding(el(id::CONTENT_COMPRESSION, &stripping))),
        "track 1 (V_VP8): its frames are stored without their first bytes (header stripping), so they can not be \
         served in place",
    );
    check(
        vp8(1, &encoding(compression(0))),
        "track 1 (V_VP8): its frames are compressed again (zlib), so they can not be served in place",
    );
    check(
        vp8(1, &encoding(compression(1))),
        "track 1 (V_VP8): its frames are compressed by algorithm 1",
    );
    check(
        vp8(1, &encoding(el(id::CONTENT_ENCRYPTION, &[]))),
        "track 1 (V_VP8): its frames are encrypted",
    );
    check(
        track(1, 2, "A_VORBIS", &[]),
        "track 1 (A_VORBIS): Vorbis has no place in CMAF",
    );
    check(
        track(1, 2, "A_DTS/LOSSLESS", &[]),
        "track 1 (A_DTS/LOSSLESS): DTS is not served",
    );
    check(
        track(1, 17, "S_HDMV/PGS", &encoding(compression(0))),
        "track 1 (S_HDMV/PGS): bitmap subtitles",
    );
    check(
        track(1, 1, "V_MPEG4/ISO/AVC", &[]),
        "track 1 (V_MPEG4/ISO/AVC): its parameter sets (CodecPrivate) are missing",
    );
    check(vp8(3, &[]), "track 3 (V_VP8): it has no frames");
    // Stripping nothing is no encoding.
    let nothing = el(id::CONTENT_COMPRESSION, &uint(id::CONTENT_COMP_ALGO, 3));
    let read = read(&file(
        &[vp8(1, &encoding(nothing))],
        &[cluster(0, &blocks(1, &[0, 40]))],
    ))
    .unwrap();
    assert_eq!(read.tracks.len(), 1);
}

#[test]
fn pictures_before_the_first_key_frame_are_left_out() {
    let all = [simple(1, 0, 0, b"a"), simple(1, 40, 0x80, b"b"), simple(1, 80, 0, b"c")];
    let read = read(&file(&[vp8(1, &[])], &[cluster(0, &all)])).unwrap();
    assert_eq!(samples(only(&read)).len(), 2);
    assert_eq!(
        reasons(&read),
        ["track 1 (V_VP8): 1 pictures before the first key frame are left out"]
    );
    let none = super::read(&file(&[vp8(1, &[])], &[cluster(0, &[simple(1, 0, 0, b"a")])])).unwrap();
    assert_eq!(
        reasons(&none),
        ["track 1 (V_VP8): none of its 1 pictures is a key frame"]
    );
}

#[test]
fn names_and_languages() {
    let check = |more: &[Vec<u8>], expected: (&str, Option<&str>)| {
        let read = read(&file(&[vp8(1, &more.concat())], &[cluster(0, &blocks(1, &[0]))])).unwrap();
        let description = &only(&read).description;
        assert_eq!((description.language.as_str(), description.label.as_deref()), expected);
    };
    let language = |code: &str| el(id::LANGUAGE, code.as_bytes());
    check(&[], ("en", None));
    check(
        &[language("ger"), el(id::NAME, "Kinofassung".as_bytes())],
        ("de", Some("Kinofassung")),
    );
    check(&[language("und")], ("und", None));
    check(&[language("ger"), el(id::LANGUAGE_BCP47, b"de-CH")], ("de-CH", None));
    check(&[language("!")], ("und", None));
}

#[test]
fn tracks_behind_the_clusters_are_found() {
    let tracks = el(id::TRACKS, &vp8(1, &[]));
    let clusters = cluster(0, &blocks(1, &[0, 40]));
    let seek = |position: u64| {
        let entry = [el(id::SEEK_ID, &head(id::TRACKS)), uint(id::SEEK_POSITION, position)].concat();
        el(id::SEEK_HEAD, &el(id::SEEK, &entry))
    };
    let seek_size = seek(0).len();
    for parts in [
        [
            seek((seek_size + clusters.len()) as u64),
            clusters.clone(),
            tracks.clone(),
        ],
        [seek(3), clusters.clone(), tracks.clone()],
        [Vec::new(), clusters.clone(), tracks.clone()],
    ] {
        let source = Bytes::from([ebml(), el(id::SEGMENT, &parts.concat())].concat());
        assert_eq!(samples(only(&read(&source).unwrap())).len(), 2);
    }
}

#[test]
fn files_that_are_none_are_refused() {
    let check = |source: &[u8], expected: &str| {
        let error = read(&Bytes::copy_from_slice(source)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(b"", "not a Matroska file");
    check(b"RIFFxxxxAVI LIST", "not a Matroska file");
    check(
        &el(id::EBML, &el(id::DOC_TYPE, b"mdoc")),
        "EBML document type \"mdoc\" is not served",
    );
    check(&ebml(), "no Matroska segment at 26");
    check(
        &[ebml(), el(id::SEGMENT, &cluster(0, &[]))].concat(),
        "no track is described",
    );
    let wide = [el(id::DOC_TYPE, b"webm"), uint(id::EBML_MAX_ID_LENGTH, 5)].concat();
    check(
        &el(id::EBML, &wide),
        "element 42f2 at 26: ids of 5 bytes, Matroska has at most 4",
    );
    let stopped = [uint(id::TIMESTAMP_SCALE, 0)].concat();
    let source = [el(id::INFO, &stopped), el(id::TRACKS, &vp8(1, &[]))].concat();
    check(
        &[ebml(), el(id::SEGMENT, &source)].concat(),
        "element 2ad7b1 at 50: a tick of 0 nanoseconds",
    );
    let many = vp8(1, &[]).repeat(65);
    let error = read(&file(&[many], &[])).unwrap_err().to_string();
    assert!(error.ends_with("more than 64 tracks"), "{error}");
}

#[test]
fn damage_costs_one_cluster() {
    let clusters: Vec<_> = (0..3u64)
        .map(|at| {
            let flags = if at == 0 { 0x80 } else { 0 };
            cluster(at * 80, &[simple(1, 0, flags, b"abc"), simple(1, 40, 0, b"def")])
        })
        .collect();
    let whole = file(&[vp8(1, &[])], &clusters);
    let second = whole
        .windows(4)
        .enumerate()
        .filter(|(_, four)| *four == id::CLUSTER.to_be_bytes())
        .nth(1)
        .unwrap()
        .0;
    let mut bad = whole.to_vec();
    let block = second + 12 + uint(id::TIMESTAMP, 0).len();
    bad[block] = 0;
    let read_bad = read(&Bytes::from(bad.clone())).unwrap();
    assert_eq!(samples(only(&read_bad)).len(), 4);
    let size = clusters[1].len() - (block - second);
    let expected = format!("{size} bytes at {block}: damaged: at {block}: what stands here is no element");
    assert_eq!(reasons(&read_bad), [expected]);
    // The cluster's own size is wrong too: the next one is looked for.
    bad[second + 4..second + 12].copy_from_slice(&(1u64 << 56 | 7).to_be_bytes());
    let lost = read(&Bytes::from(bad)).unwrap();
    assert_eq!(samples(only(&lost)).len(), 4);
}

#[test]
fn a_second_file_behind_the_first_is_told() {
    let live = |flags| {
        let content = [el(id::TRACKS, &vp8(1, &[])), cluster(0, &[simple(1, 0, flags, b"abc")])].concat();
        [ebml(), open(id::SEGMENT, &content)].concat()
    };
    let first = live(0x80);
    let read = read(&Bytes::from([first.clone(), live(0x80)].concat())).unwrap();
    assert_eq!(samples(only(&read)).len(), 1);
    let expected = format!(
        "everything from byte {} on: a second Matroska file starts there",
        first.len()
    );
    assert_eq!(reasons(&read), [expected]);
}

fn text_file(codec: &str, more: &[u8], content: &[u8], additions: &[u8]) -> Bytes {
    let group = [
        el(id::BLOCK, &block_payload(2, 500, 0, content)),
        uint(id::BLOCK_DURATION, 1_500),
        additions.to_vec(),
    ];
    let all = [blocks(1, &[100, 140]), vec![el(id::BLOCK_GROUP, &group.concat())]].concat();
    file(&[vp8(1, &[]), track(2, 17, codec, more)], &[cluster(0, &all)])
}

#[test]
fn text_becomes_cues_on_the_shared_timeline() {
    let cue = |id: &str, settings: &str, payload: &str| Cue {
        start_ms: 400,
        end_ms: 1_900,
        id: id.to_owned(),
        settings: settings.to_owned(),
        payload: payload.to_owned(),
    };
    let check = |codec: &str, more: &[u8], content: &str, additions: &[u8], expected: Cue| {
        let source = text_file(codec, more, content.as_bytes(), additions);
        assert_eq!(read_text(&source, 2).unwrap().cues(), [expected], "{codec}");
        let read = read(&source).unwrap();
        assert_eq!((read.tracks.len(), read.refused.len()), (1, 0));
    };
    check(
        "S_TEXT/UTF8",
        &[],
        "<i>a</i>\r\nb & c",
        &[],
        cue("", "", "<i>a</i>\nb &amp; c"),
    );
    check(
        "S_TEXT/ASS",
        &[],
        "0,0,Default,,0,0,0,,{\\an8}a, b",
        &[],
        cue("", "line:0", "a, b"),
    );
    let more = el(id::BLOCK_MORE, &el(id::BLOCK_ADDITIONAL, b"line:10%\nname"));
    check(
        "S_TEXT/WEBVTT",
        &[],
        "<b>a</b>",
        &el(id::BLOCK_ADDITIONS, &more),
        cue("name", "line:10%", "<b>a</b>"),
    );
    check(
        "D_WEBVTT/SUBTITLES",
        &[],
        "name\nline:10%\na\nb",
        &[],
        cue("name", "line:10%", "a\nb"),
    );
    let stripping = [uint(id::CONTENT_COMP_ALGO, 3), el(id::CONTENT_COMP_SETTINGS, b"he")].concat();
    let encoding = el(
        id::CONTENT_ENCODINGS,
        &el(id::CONTENT_ENCODING, &el(id::CONTENT_COMPRESSION, &stripping)),
    );
    check("S_TEXT/UTF8", &encoding, "llo", &[], cue("", "", "hello"));
    let source = text_file("S_TEXT/UTF8", &[], b"a", &[]);
    assert_eq!(read_text(&source, 1).unwrap_err().to_string(), "no text track 1");
    let forced = text_file("S_TEXT/UTF8", &uint(id::FLAG_FORCED, 1), b"a", &[]);
    let entries = text_entries(&forced).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (entries[0].number, entries[0].format, entries[0].is_forced),
        (2, "SubRip", true)
    );
}

#[test]
fn cues_without_duration_show_until_the_next() {
    let text = |timestamp, text: &str| simple(2, timestamp, 0x80, text.as_bytes());
    let all = [text(0, "a"), text(1_000, "b"), text(1_000, "c")];
    let source = file(&[track(2, 17, "S_TEXT/UTF8", &[])], &[cluster(0, &all)]);
    let track = read_text(&source, 2).unwrap();
    let times: Vec<_> = track.cues().iter().map(|cue| (cue.start_ms, cue.end_ms)).collect();
    assert_eq!(times, [(0, 1_000), (1_000, 6_000), (1_000, 6_000)]);
}

#[test]
fn colour_of_the_container_is_read() {
    let float = |id, value: f32| el(id, &value.to_be_bytes());
    let mastering: Vec<u8> = [0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 1000.0, 0.0001]
        .into_iter()
        .zip(id::PRIMARY_R_CHROMATICITY_X..)
        .flat_map(|(value, id)| float(id, value))
        .collect();
    let colour = [
        uint(id::MATRIX_COEFFICIENTS, 9),
        uint(id::TRANSFER_CHARACTERISTICS, 16),
        uint(id::PRIMARIES, 9),
        uint(id::RANGE, 2),
        uint(id::MAX_CLL, 1_000),
        uint(id::MAX_FALL, 400),
        el(id::MASTERING_METADATA, &mastering),
    ];
    let video = [uint(id::PIXEL_WIDTH, 64), el(id::COLOUR, &colour.concat())].concat();
    let tracks = el(id::TRACKS, &track(1, 1, "V_VP8", &el(id::VIDEO, &video)));
    let source = Bytes::from([ebml(), el(id::SEGMENT, &tracks)].concat());
    let header = header::read(&mut Window::new(&source, 1024)).unwrap();
    let video = &header.entries[0].video;
    let color = video.color.unwrap();
    assert_eq!(
        (color.primaries, color.transfer, color.matrix, color.full_range),
        (9, 16, 9, true)
    );
    assert_eq!(video.content_light_level, Some([3, 0xe8, 1, 0x90]));
    let mdcv = video.mastering_display.unwrap();
    // Green first, as HEVC has them: 0.265 is 13250.
    assert_eq!(mdcv[..4], [0x33, 0xc2, 0x86, 0xc4]);
    assert_eq!(mdcv[16..], [0, 0x98, 0x96, 0x80, 0, 0, 0, 1]);
}

/// A file with a bit of everything.
fn everything() -> Bytes {
    let text = [
        el(id::BLOCK, &block_payload(3, 20, 0, b"words")),
        uint(id::BLOCK_DURATION, 20),
    ]
    .concat();
    let laced = [0x7c, 1, 2, 0x7c, 3, 4, 0x7c, 5, 6];
    let first = [
        simple(1, 0, 0x80, b"picture"),
        simple(2, 0, 0x86, &[[2, 0x83, 0xbf].as_slice(), &laced].concat()),
        simple(1, 80, 0, b"p"),
        simple(1, 40, 0, b"b"),
        el(id::BLOCK_GROUP, &text),
    ];
    let second = [
        simple(1, 0, 0x80, b"key"),
        simple(2, -60, 0x82, &[[2, 3, 3].as_slice(), &laced].concat()),
    ];
    let tracks = [
        vp8(1, &uint(id::DEFAULT_DURATION, 40_000_000)),
        opus(2, &[]),
        track(3, 17, "S_TEXT/UTF8", &[]),
    ];
    let info = el(id::INFO, &uint(id::TIMESTAMP_SCALE, 1_000_000));
    let content = [
        info,
        el(id::TRACKS, &tracks.concat()),
        cluster(0, &first),
        cluster(120, &second),
    ]
    .concat();
    Bytes::from([ebml(), el(id::SEGMENT, &content)].concat())
}

/// Reads what may be damaged in every way there is; whatever is served lies in the file.
fn read_all(source: &Bytes) {
    let _ = recognises(source);
    let _ = text_entries(source);
    let _ = read_text(source, 3);
    if let Ok(read) = read(source) {
        for track in &read.tracks {
            let end = track
                .index
                .iter()
                .map(|sample| sample.offset + u64::from(sample.size))
                .max();
            assert!(end.unwrap() <= source.len() as u64);
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_served_as_far_as_it_goes() {
    let whole = everything();
    let full = read(&whole).unwrap();
    assert_eq!((full.tracks.len(), full.refused.len()), (2, 0), "{:?}", full.refused);
    let mut counts = vec![0; 2];
    for size in 0..whole.len() {
        let source = whole.slice(..size);
        read_all(&source);
        let Ok(read) = read(&source) else { continue };
        assert!(!read.refused.is_empty(), "{size}");
        for track in &read.tracks {
            let at = track.description.source_track_id as usize - 1;
            let count = samples(track).len();
            assert!(count >= counts[at], "{size}");
            counts[at] = count;
        }
    }
    assert_eq!(counts, [4, 3], "all but the last block");
}

#[test]
fn damaged_bytes_never_panic() {
    let whole = everything();
    let mut seed = 0x4d61_7472_6f73_6b61u64;
    for _ in 0..20_000 {
        let mut bad = whole.to_vec();
        for _ in 0..3 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = (seed >> 33) as usize % bad.len();
            bad[at] = match seed >> 20 & 3 {
                0 => 0xff,
                1 => 0,
                _ => (seed >> 25) as u8,
            };
        }
        read_all(&Bytes::from(bad));
    }
}
