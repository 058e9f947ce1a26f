//! Tests across formats: real files, other people's readers, random tracks, broken input.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::text::webvtt::TimestampMap;

/// A file of the media folder; `None`, said aloud, when the folder is not there.
#[allow(clippy::disallowed_methods)]
fn media(name: &str) -> Option<Vec<u8>> {
    let root = std::env::var("HEADWATER_MEDIA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/media").to_owned());
    let path = PathBuf::from(root).join("subs").join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            eprintln!("SKIPPED: {}: {error}", path.display());
            None
        }
    }
}

/// Times of the cues ffmpeg reads, in milliseconds; `None`, said aloud, when there is no ffmpeg.
fn ffmpeg_times(input: &[u8], format: &str, options: &[&str]) -> Option<Vec<(u64, u64)>> {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "error", "-f", format])
        .args(options)
        .args(["-i", "pipe:0", "-f", "webvtt", "pipe:1"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!("SKIPPED: ffmpeg: {error}");
            return None;
        }
    };
    // Inputs are smaller than what ffmpeg reads before it writes.
    child.stdin.take().unwrap().write_all(input).unwrap();
    let parsed = webvtt::parse(&child.wait_with_output().unwrap().stdout).expect("ffmpeg writes WebVTT");
    Some(times(&parsed))
}

fn times(parsed: &Parsed) -> Vec<(u64, u64)> {
    parsed
        .track
        .cues()
        .iter()
        .map(|cue| (cue.start_ms, cue.end_ms))
        .collect()
}

fn read_any(name: &str, bytes: &[u8]) -> Result<Parsed, TextError> {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("srt") => srt::parse(bytes),
        Some("ttml" | "xml") => ttml::parse(bytes),
        _ => webvtt::parse(bytes),
    }
}

/// Name, cues, pieces left out, and whether ffmpeg reads the same.
const FILES: [(&str, usize, usize, bool); 17] = [
    ("androidx__typical", 2, 0, true),
    // ffmpeg takes the block of a comment with a cue right below it for a comment as a whole.
    ("gpac__comments.vtt", 13, 0, false),
    ("gpac__elephants-dream-subtitles-en.vtt", 89, 0, true),
    ("gpac__empty.vtt", 0, 0, true),
    // The standard lets a cue follow the signature without an empty line; ffmpeg does not.
    ("gpac__invalid1.vtt", 1, 0, false),
    ("gpac__invalid2.vtt", 0, 0, true),
    ("gpac__overlapping.vtt", 6, 0, true),
    ("gpac__spec-example-basic.vtt", 13, 0, true),
    ("gpac__spec-example-voice.vtt", 4, 0, true),
    // ffmpeg gives the cue that ends before it starts an end of its own.
    ("gpac__timestamps-invalid.vtt", 2, 1, false),
    ("mp4parser__Tears_Of_Steel_nld.vtt", 76, 0, true),
    ("gpac__subtitle.srt", 5, 0, true),
    // ffmpeg knows no SRT without hours.
    ("gpac__counter.srt", 600, 0, false),
    ("androidx__simple.xml", 3, 0, false),
    ("androidx__frame_rate.xml", 2, 0, false),
    ("gpac__ebu-ttd_sample.ttml", 13, 0, false),
    ("gpac__ebu-ttd_timing_overlapping.ttml", 4, 0, false),
];

#[test]
fn real_files_are_read_as_others_read_them() {
    for (name, cue_count, dropped_count, as_ffmpeg) in FILES {
        let Some(bytes) = media(name) else { continue };
        let parsed = read_any(name, &bytes).unwrap();
        assert_eq!(
            (parsed.track.cues().len(), parsed.dropped_count),
            (cue_count, dropped_count),
            "{name}"
        );
        let charset: &[&str] = if parsed.encoding == Encoding::Windows1252Guessed {
            &["-sub_charenc", "cp1252"]
        } else {
            &[]
        };
        let format = if name.ends_with(".srt") { "srt" } else { "webvtt" };
        if as_ffmpeg && let Some(found) = ffmpeg_times(&bytes, format, charset) {
            assert_eq!(times(&parsed), found, "{name}");
        }
        let written = webvtt::write(&parsed.track);
        assert_eq!(webvtt::parse(&written).unwrap().track, parsed.track, "{name}");
        let segment = webvtt::segment(&parsed.track, 0, u64::MAX, MAP);
        for written in [written, segment] {
            if let Some(found) = ffmpeg_times(&written, "webvtt", &[]) {
                assert_eq!(times(&parsed), found, "{name}, as we write it");
            }
        }
    }
}

#[test]
fn real_text_is_kept() {
    let check = |name: &str, index: usize, settings: &str, payload: &str| {
        let Some(bytes) = media(name) else { return };
        let parsed = read_any(name, &bytes).unwrap();
        let cue = &parsed.track.cues()[index];
        assert_eq!(
            (cue.settings.as_str(), cue.payload.as_str()),
            (settings, payload),
            "{name} {index}"
        );
    };
    check(
        "gpac__comments.vtt",
        0,
        "",
        "<v Roger Bingham>We are in New York City\nNOTE comment just after a cue",
    );
    check(
        "gpac__elephants-dream-subtitles-en.vtt",
        2,
        "",
        "<v Proog>...the <c.highlight>head-snarlers</c></v>",
    );
    check("gpac__subtitle.srt", 2, "", "<b><c.cyan>and</c> also bold</b>");
    check("gpac__subtitle.srt", 4, "", "and unicode: é ï ö Ä");
    check("gpac__ebu-ttd_sample.ttml", 0, "", "00:00:00.000\n00:00:01.400");
    check(
        "androidx__multiple_regions.xml",
        0,
        "line:10% position:10% size:20% align:start",
        "lorem",
    );
    check(
        "androidx__multiple_regions.xml",
        4,
        "line:45% position:45% size:35% align:start",
        "They first said this",
    );
    let ruby = [
        "Cue with <ruby>annotated<rt>1st rubies</rt></ruby> <ruby>text<rt>2nd rubies</rt></ruby>.",
        "Cue with <ruby>annotated<rt>rubies</rt></ruby> text.",
        "Cue with <ruby>annotated<rt>rubies</rt></ruby> text.",
        "Cue with annotated text.",
        "Cue with text.",
        "Cue with annotated text.",
    ];
    for (payload, index) in ruby.into_iter().zip(0..) {
        check("androidx__rubies.xml", index, "", payload);
    }
    let Some(bytes) = media("androidx__frame_rate.xml") else {
        return;
    };
    // 50 * 1000/1001 frames and 100 ticks a second.
    assert_eq!(
        times(&ttml::parse(&bytes).unwrap()),
        [(1_000, 1_010), (1_001_000, 2_002_000)]
    );
}

#[test]
fn invalid_files_are_refused_clearly() {
    let check = |name: &str, read: fn(&[u8]) -> Result<Parsed, TextError>, expected: &str| {
        let Some(bytes) = media(name) else { return };
        assert_eq!(read(&bytes).unwrap_err().to_string(), expected, "{name}");
    };
    check(
        "gpac__ebu-ttd_sample_invalid_root.ttml",
        ttml::parse,
        "ttml at offset 39: root is not the tt element of TTML",
    );
    check(
        "gpac__overlapping.vtt",
        ttml::parse,
        "xml at offset 0: text outside the root element",
    );
    check("gpac__subtitle.srt", webvtt::parse, "line 1 is not a WEBVTT signature");
    check(
        "gpac__ebu-ttd_sample.ttml",
        webvtt::parse,
        "line 1 is not a WEBVTT signature",
    );
    check(
        "gpac__ebu-ttd_sample.ttml",
        srt::parse,
        "no cue times in 39 lines, not a SubRip file",
    );
}

/// Samples as the file's index has them: start, end, offset and size.
fn samples_of(bytes: &[u8], index: &[(u64, u64, usize, usize)]) -> Vec<TextSample> {
    let sample = |&(start_ms, end_ms, offset, size): &(u64, u64, usize, usize)| TextSample {
        start_ms,
        duration_ms: end_ms - start_ms,
        bytes: Bytes::copy_from_slice(&bytes[offset..offset + size]),
    };
    index.iter().map(sample).collect()
}

#[test]
fn real_wvtt_samples_are_read() {
    if let Some(bytes) = media("androidx__webvtt-in-mp4_sample.text.mp4") {
        let index = [
            (0, 234, 903, 43),
            (234, 345, 946, 8),
            (345, 456, 954, 44),
            (456, 6_000, 998, 8),
        ];
        let parsed = wvtt::parse("WEBVTT", &samples_of(&bytes, &index)).unwrap();
        let found: Vec<_> = parsed.track.cues().iter().map(|cue| cue.payload.as_str()).collect();
        assert_eq!(found, ["This is the first subtitle.", "This is the second subtitle."]);
        assert_eq!(times(&parsed), [(0, 234), (345, 456)]);
        // Written again, the samples are those the other packager made.
        assert_eq!(
            wvtt::samples(&parsed.track, 0, 6_000).unwrap(),
            samples_of(&bytes, &index)
        );
    }
    if let Some(bytes) = media("mp4ff__multi_vttc.mp4") {
        let parsed = wvtt::parse("", &samples_of(&bytes, &[(0, 2_560, 188, 230)])).unwrap();
        let found: Vec<_> = parsed
            .track
            .cues()
            .iter()
            .map(|cue| (cue.settings.as_str(), cue.payload.as_str()))
            .collect();
        let expected = [
            (
                "align:middle line:61%,end position:49%",
                "<c.white.bg_black>dans \"mulot\". Bravo, Agathe !</c>",
            ),
            (
                "align:middle line:68%,end position:49%",
                "<c.white.bg_black>Ouais ! Belle gosse ! Voici 2 M !</c>",
            ),
        ];
        assert_eq!(found, expected);
    }
}

#[test]
fn real_stpp_samples_are_read() {
    let check = |name: &str, index: &[(u64, u64, usize, usize)], expected: &[(u64, u64, &str, &str)]| {
        let Some(bytes) = media(name) else { return };
        let parsed = stpp::parse(&samples_of(&bytes, index)).unwrap();
        let cues = parsed.track.cues().iter();
        let found: Vec<_> = cues
            .map(|c| (c.start_ms, c.end_ms, c.settings.as_str(), c.payload.as_str()))
            .collect();
        assert_eq!(found, expected, "{name}");
    };
    check(
        "androidx__sample.text.mp4",
        &[(0, 500, 918, 337), (500, 700, 1_255, 79), (700, 950, 1_334, 227)],
        &[
            (20, 500, "", "First Subtitle after 20ms of silence"),
            (250, 400, "", "Second Subtitle overlaps with first"),
            (700, 950, "", "Last subtitle\nAnd More"),
        ],
    );
    check(
        "mp4ff__stpp_prog.mp4",
        &[(0, 6_000, 581, 1_592)],
        &[
            (
                2_520,
                4_120,
                "line:70% position:90% size:80% align:right",
                "-Pourquoi ?",
            ),
            (2_520, 4_120, "line:84%", "-J'ai..."),
            (4_520, 6_600, "line:70%", "J'ai un tas de trucs à faire."),
            (4_520, 6_600, "line:84%", "-Non !"),
        ],
    );
    let speaker = "line:90%,center";
    check(
        "gpac__subs.ismt",
        &[(0, 80_000, 3_887, 1_017)],
        &[
            (1_000, 10_000, speaker, "C'est un test"),
            (50_000, 80_000, speaker, "Certains plus de texte"),
        ],
    );
}

/// Cue text with markup, escapes and what must be cleaned.
fn payload() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{1,12}",
        "(a|b|<i>|</i>|<c.red>|</c>|<00:00:01.000>|&amp;|&|<|>|-->|\n|\r|\t|é|\u{a0}){0,12}",
        any::<String>(),
    ]
}

/// Tracks of cues that can be told apart by their payload.
fn track() -> impl Strategy<Value = TextTrack> {
    let settings = prop_oneof![
        Just("".to_owned()),
        Just("line:0 align:start".to_owned()),
        any::<String>()
    ];
    let id = prop_oneof![
        Just("".to_owned()),
        Just("STYLE".to_owned()),
        Just("NOTE x".to_owned()),
        any::<String>()
    ];
    let cue = (0u64..20_000, 1u64..8_000, id, settings, payload());
    let block = prop_oneof![
        any::<String>().prop_map(HeaderBlock::Style),
        any::<String>().prop_map(HeaderBlock::Region)
    ];
    (prop::collection::vec(cue, 0..12), prop::collection::vec(block, 0..3)).prop_map(|(cues, header)| {
        let cue =
            |(index, (start_ms, length_ms, id, settings, payload)): (usize, (u64, u64, String, String, String))| Cue {
                start_ms,
                end_ms: start_ms + length_ms,
                id,
                settings,
                payload: format!("{index} {payload}"),
            };
        TextTrack::new(header, cues.into_iter().enumerate().map(cue).collect())
    })
}

/// Borders of adjoining windows that cover everything, in order.
fn borders() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::btree_set(1u64..30_000, 0..12).prop_map(|inner| {
        let mut borders = vec![0];
        borders.extend(inner);
        borders.push(30_000);
        borders
    })
}

const MAP: TimestampMap = TimestampMap {
    mpegts: 900_000,
    local_ms: 0,
};

/// Text as it shows: markup and where lines break aside.
fn plain(payload: &str) -> String {
    let text: String = markup::tokens(payload)
        .filter_map(|token| match token {
            markup::Token::Text(text) => Some(text),
            _ => None,
        })
        .collect();
    text.chars()
        .filter(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '\u{fffd}'..='\u{ffff}'))
        .collect()
}

proptest! {
    // A failing case is printed; nothing is written beside the sources.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_written_file_is_read_back(track in track()) {
        let parsed = webvtt::parse(&webvtt::write(&track)).unwrap();
        prop_assert_eq!(&parsed.track, &track);
        prop_assert_eq!(parsed.dropped_count, 0);
    }

    #[test]
    fn segments_of_any_partition_hold_every_cue(track in track(), borders in borders()) {
        let mut joiner = join::DocumentJoiner::default();
        for window in borders.windows(2) {
            let parsed = webvtt::parse(&webvtt::segment(&track, window[0], window[1], MAP)).unwrap();
            prop_assert_eq!(parsed.track.header(), track.header());
            joiner.document(window[0], window[1], parsed.track.cues()).unwrap();
        }
        prop_assert_eq!(joiner.finish(), track.cues());
    }

    #[test]
    fn wvtt_samples_cover_every_window_and_hold_every_cue(track in track(), borders in borders()) {
        let mut all = Vec::new();
        for window in borders.windows(2) {
            let samples = wvtt::samples(&track, window[0], window[1]).unwrap();
            let mut at_ms = window[0];
            for sample in &samples {
                prop_assert_eq!(sample.start_ms, at_ms);
                prop_assert!(sample.duration_ms > 0);
                at_ms = sample.end_ms();
            }
            prop_assert_eq!(at_ms, window[1]);
            all.extend(samples);
        }
        let parsed = wvtt::parse(&wvtt::config(&track), &all).unwrap();
        prop_assert_eq!(parsed.track, track);
    }

    #[test]
    fn stpp_samples_of_any_partition_hold_every_cue(track in track(), borders in borders()) {
        let samples: Vec<_> = borders.windows(2).map(|w| stpp::sample(&track, w[0], w[1], "en")).collect();
        let parsed = stpp::parse(&samples).unwrap();
        prop_assert_eq!(parsed.dropped_count, 0);
        let whole = |track: &TextTrack| -> Vec<(u64, u64, String)> {
            let cues = track.cues().iter();
            cues.map(|cue| (cue.start_ms, cue.end_ms, plain(&cue.payload))).filter(|cue| !cue.2.is_empty()).collect()
        };
        prop_assert_eq!(whole(&parsed.track), whole(&track));
    }
}

/// Pseudo-random numbers, the same in every run.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Every reader, on bytes that may be anything: it returns, and what it returns can be written and read again.
fn read_with_all(bytes: &[u8]) {
    let sample = |bytes: &[u8]| TextSample {
        start_ms: 1_000,
        duration_ms: 2_000,
        bytes: Bytes::copy_from_slice(bytes),
    };
    let results = [
        webvtt::parse(bytes),
        srt::parse(bytes),
        ttml::parse(bytes),
        wvtt::parse("", &[sample(bytes), sample(bytes)]),
        stpp::parse(&[sample(bytes), sample(bytes)]),
    ];
    for parsed in results.into_iter().flatten() {
        assert!(parsed.track.cues().is_sorted_by_key(|cue| cue.start_ms));
        assert!(
            parsed
                .track
                .cues()
                .iter()
                .all(|cue| cue.start_ms < cue.end_ms && cue.end_ms <= TIME_MS_MAX)
        );
        assert_eq!(
            webvtt::parse(&webvtt::write(&parsed.track)).unwrap().track,
            parsed.track
        );
        stpp::parse(&[stpp::sample(&parsed.track, 0, 10_000, "und")]).unwrap();
        if let Ok(samples) = wvtt::samples(&parsed.track, 0, 10_000) {
            wvtt::parse(&wvtt::config(&parsed.track), &samples).unwrap();
        }
    }
}

/// Small sources of every kind, as good as sources are.
fn seeds() -> Vec<Vec<u8>> {
    let vtt = "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:1,LOCAL:00:00:00.000\n\nSTYLE\n::cue {}\n\nNOTE x\n\nid\n00:01.000 --> 01:00:02.000 line:0\n<v A>a &amp; <i>b</i>\n<00:00:01.500>c\n\n00:02.000 --> 00:03.000\nd\n";
    let srt = "1\r\n00:00:01,000 --> 00:00:02,500 X1:1\r\n{\\an8}<i>a</i> <font color=\"#ff0000\">b</font>\r\n\r\n2\r\n00:00:03.000 --> 00:00:04.000\r\n& <3 \u{e9}\r\n";
    let ttml = "<?xml version=\"1.0\"?><tt xmlns=\"http://www.w3.org/ns/ttml\" xmlns:tts=\"http://www.w3.org/ns/ttml#styling\" xmlns:ttp=\"urn:p\" ttp:frameRate=\"25\" xml:lang=\"en\"><head><styling><style xml:id=\"s\" tts:color=\"#ff0000\"/></styling><layout><region xml:id=\"r\" tts:origin=\"10% 70%\" tts:extent=\"80% 20%\"/></layout></head><body><div timeContainer=\"seq\"><p begin=\"1s\" dur=\"25f\" region=\"r\">a<br/><span style=\"s\" begin=\"200ms\">b &amp; &#x41;</span><!-- c --><![CDATA[d]]></p><p end=\"00:00:01:10\"><span tts:ruby=\"container\"><span tts:ruby=\"base\">e</span><span tts:ruby=\"text\">f</span></span></p></div></body></tt>";
    let mut seeds: Vec<Vec<u8>> = [vtt, srt, ttml].iter().map(|text| text.as_bytes().to_vec()).collect();
    let track = webvtt::parse(vtt.as_bytes()).unwrap().track;
    seeds.extend(
        wvtt::samples(&track, 0, 4_000)
            .unwrap()
            .iter()
            .map(|sample| sample.bytes.to_vec()),
    );
    seeds.push(stpp::sample(&track, 0, 4_000, "en").bytes.to_vec());
    seeds
}

#[test]
fn sources_cut_at_any_byte_do_no_harm() {
    for seed in seeds() {
        for length in 0..=seed.len() {
            read_with_all(&seed[..length]);
        }
    }
}

#[test]
fn mutated_sources_do_no_harm() {
    let seeds = seeds();
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    for round in 0..6_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=random.below(6) {
            let at = random.below(bytes.len());
            let other = &seeds[random.below(seeds.len())];
            match random.below(5) {
                0 if !bytes.is_empty() => bytes[at] = random.next() as u8,
                1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
                2 if !bytes.is_empty() => drop(bytes.drain(at..(at + random.below(20)).min(bytes.len()))),
                3 => {
                    let from = random.below(other.len());
                    let piece = other[from..(from + random.below(40)).min(other.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    let piece = b"<>-\n\r&:.,;\"'0/= "[random.below(16)];
                    bytes.splice(at..at, std::iter::repeat_n(piece, random.below(4)));
                }
            }
        }
        read_with_all(&bytes);
    }
}

#[test]
fn too_much_is_refused() {
    let size_bytes = TEXT_SIZE_BYTES_MAX + 1;
    let bytes = vec![b' '; size_bytes as usize];
    for read in [webvtt::parse, srt::parse, ttml::parse] {
        assert_eq!(read(&bytes), Err(TextError::TooLarge { size_bytes }));
    }
    let cues = "\n\n00:01.000 --> 00:02.000\na".repeat(CUE_COUNT_MAX + 1);
    assert_eq!(
        webvtt::parse(format!("WEBVTT{cues}").as_bytes()),
        Err(TextError::TooManyCues)
    );
    assert_eq!(srt::parse(cues.as_bytes()), Err(TextError::TooManyCues));
    let cues = "<p end='1s'>a</p>".repeat(CUE_COUNT_MAX + 1);
    assert_eq!(
        ttml::parse(format!("<tt><body>{cues}</body></tt>").as_bytes()),
        Err(TextError::TooManyCues)
    );
}

/// Sources that would take minutes if any reader looked at its bytes more than a few times.
#[test]
fn hostile_repetition_stays_linear() {
    let size_bytes = 512 << 10;
    for piece in [
        "<",
        "{\\",
        "&",
        "-->",
        "\r",
        "\n",
        "<i>",
        "</i>",
        "<b><i></b>",
        "00:00:01,000 --> 00:00:02,000\n",
        "1\n",
        "\n\n",
        "STYLE\na\n\n",
        ":",
    ] {
        let body = piece.repeat(size_bytes / piece.len());
        for head in [
            "WEBVTT\n\n00:01.000 --> 00:02.000\n",
            "1\n00:00:01,000 --> 00:00:02,000\n",
            "<tt><body><p end='1s'>",
        ] {
            let text = format!("{head}{body}");
            let _ = (
                webvtt::parse(text.as_bytes()),
                srt::parse(text.as_bytes()),
                ttml::parse(text.as_bytes()),
            );
        }
    }
}
