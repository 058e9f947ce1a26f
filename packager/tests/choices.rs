//! Clips, segment lengths and selections: B8 and B9 of other packagers, at every 100 ms of a film with irregular GOPs.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use packager::dash::mpd;
use packager::form::Form;
use packager::hls;
use packager::index::{IndexWriter, NewSample, TrackIndex};
use packager::isobmff::fragment::{self, SegmentPosition};
use packager::isobmff::on_demand::{self, TextSamples};
use packager::isobmff::sample_entry::{self, TrackFacts, VideoFacts};
use packager::presentation::choice::{Choice, MediaChoice};
use packager::presentation::{
    Content, HlsDescription, NewPresentation, NewRepresentation, Presentation, Representation, Start, clip,
};
use packager::segment::SegmentTarget;
use packager::text::{Cue, TextTrack};
use packager::time::{MediaTime, Rounding, Timescale};
use packager::track::{Track, TrackDescription};
use proptest::prelude::*;

/// High profile, level 4.0, 1920×1080.
const AVCC: [u8; 44] = [
    0x01, 0x64, 0x00, 0x28, 0xff, 0xe1, 0x00, 0x1b, 0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5,
    0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60, 0xc6, 0x58, 0x01, 0x00, 0x06,
    0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0,
];

fn facts(timescale: u32) -> TrackFacts {
    TrackFacts {
        source_track_id: 1,
        timescale: Timescale::new(timescale).unwrap(),
        language: "en".into(),
        label: None,
    }
}

fn index(timescale: u32, samples: impl IntoIterator<Item = (u32, i32, bool)>, edit_offset: i64) -> TrackIndex {
    let mut writer = IndexWriter::new(Timescale::new(timescale).unwrap());
    for (at, (duration, composition_offset, sync)) in (0u64..).zip(samples) {
        let sample = NewSample {
            offset: at * 10,
            size: 10,
            duration,
            composition_offset,
            sync,
        };
        writer.push(sample).unwrap();
    }
    writer.finish(edit_offset).unwrap()
}

/// GOPs of `lengths` pictures, decoded I P B B P B B …: an edit list of one picture makes the first shown at zero.
fn reordered(timescale: u32, duration: u32, lengths: &[u32]) -> TrackIndex {
    let mut rows = Vec::new();
    for length in lengths {
        for at in 0..*length {
            let shown = match (at % 3, at) {
                (0, 0) => 0,
                (1, at) if at + 2 < *length => at + 2,
                (2 | 0, at) if (at - 1) / 3 * 3 + 3 < *length => at - 1,
                _ => at,
            };
            let offset = (shown as i32 - at as i32 + 1) * duration as i32;
            rows.push((duration, offset, at == 0));
        }
    }
    index(timescale, rows, i64::from(duration))
}

fn cue(start_ms: u64, end_ms: u64) -> Cue {
    Cue {
        start_ms,
        end_ms,
        id: String::new(),
        settings: String::new(),
        payload: format!("{start_ms}"),
    }
}

struct Tracks(Vec<NewRepresentation>);

impl Tracks {
    fn add(mut self, language: &str, content: Content) -> Tracks {
        self.0.push(NewRepresentation {
            source: self.0.len(),
            content,
            language: language.into(),
            label: None,
            roles: Vec::new(),
            default: false,
        });
        self
    }

    fn samples(self, language: &str, description: TrackDescription, index: TrackIndex) -> Tracks {
        self.add(language, Content::Samples(Track { description, index }))
    }

    fn video(self, height: u32, timescale: u32, index: TrackIndex) -> Tracks {
        let mut description = sample_entry::avc(&facts(timescale), &AVCC, &VideoFacts::default()).unwrap();
        if let packager::track::MediaDescription::Video(video) = &mut description.media {
            (video.width, video.height) = (height * 16 / 9, height);
        }
        self.samples("und", description, index)
    }

    /// `frames` of AAC, the first of which is priming.
    fn audio(self, language: &str, frames: u32) -> Tracks {
        let description = sample_entry::aac(&facts(48_000), &[0x11, 0x90]).unwrap();
        self.samples(
            language,
            description,
            index(48_000, (0..frames).map(|_| (1024, 0, true)), 1024),
        )
    }

    fn presentation(self, hls: HlsDescription) -> Presentation {
        Presentation::assemble(NewPresentation {
            title: "t".into(),
            tracks: self.0,
            refused: Vec::new(),
            target: SegmentTarget::DEFAULT,
            hls,
        })
        .unwrap()
    }
}

const GOPS: [u32; 9] = [60, 17, 44, 100, 3, 31, 60, 60, 25];

/// 400 pictures of 30000/1001 a second in two sizes, 13.4 s of sound, text.
fn film() -> Presentation {
    let text = TextTrack::new(
        Vec::new(),
        vec![cue(500, 2_500), cue(4_000, 9_000), cue(12_000, 13_000)],
    );
    Tracks(Vec::new())
        .video(720, 30_000, reordered(30_000, 1_001, &GOPS))
        .video(360, 90_000, reordered(90_000, 3_003, &GOPS))
        .audio("en", 630)
        .add("en", Content::Cues(text))
        .presentation(HlsDescription::default())
}

fn chosen(
    presentation: &Presentation,
    form: Form,
    start_ms: u64,
    end_ms: Option<u64>,
    segment_s: Option<u32>,
) -> Presentation {
    let choice = MediaChoice {
        start_ms,
        end_ms,
        segment_s,
    };
    let choice = choice.canonical(presentation).unwrap();
    clip::derive(presentation, &choice, form).unwrap()
}

fn find<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    let Some((name, deeper)) = path.split_first() else {
        return Some(bytes);
    };
    let mut rest = bytes;
    while rest.len() >= 8 {
        let size = word(rest, 0) as usize;
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

/// Decode time and (duration, composition offset) of each sample of a fragment, read without the crate's own reader.
fn read_fragment(header: &[u8]) -> (i64, Vec<(i64, i64)>) {
    let traf = find(header, &[b"moof", b"traf"]).unwrap();
    let (tfhd, tfdt, trun) = (
        find(traf, &[b"tfhd"]).unwrap(),
        find(traf, &[b"tfdt"]).unwrap(),
        find(traf, &[b"trun"]).unwrap(),
    );
    let default_duration = (word(tfhd, 0) & 8 != 0).then(|| word(tfhd, 8));
    let flags = word(trun, 0) & 0xff_ffff;
    let mut at = 12 + if flags & 4 != 0 { 4 } else { 0 };
    let rows = (0..word(trun, 4)).map(|_| {
        let mut take = |flag: u32| {
            let present = flags & flag != 0;
            at += if present { 4 } else { 0 };
            present.then(|| word(trun, at - 4))
        };
        let duration = take(0x100).or(default_duration).unwrap();
        take(0x200);
        take(0x400);
        (i64::from(duration), i64::from(take(0x800).unwrap_or(0) as i32))
    });
    assert_eq!(tfdt[0], 0);
    (i64::from(word(tfdt, 4)), rows.collect())
}

fn edit_media_time(init: &[u8]) -> i64 {
    find(init, &[b"moov", b"trak", b"edts", b"elst"]).map_or(0, |elst| i64::from(word(elst, 12)))
}

/// EXTINF values in microseconds.
fn extinfs(playlist: &[u8]) -> Vec<i64> {
    let text = std::str::from_utf8(playlist).unwrap();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("#EXTINF:")?.strip_suffix(','));
    lines.map(|seconds| seconds.replace('.', "").parse().unwrap()).collect()
}

/// B8: what playlist and segment table say is, to the tick, what the bytes of the segments and the header add up to.
fn check_agreement(rep: &Representation, what: &str) {
    let track = rep.track().unwrap();
    let edit = edit_media_time(&on_demand::header(rep, TextSamples::Wvtt));
    let mut decode_time = None;
    let mut spans = Vec::new();
    let mut duration_sum = 0;
    for (segment, number) in rep.segments.segments().iter().zip(1..) {
        let header = fragment::header(&track.index, segment.samples.clone(), number, SegmentPosition::Inner);
        let (first, rows) = read_fragment(&header);
        assert_eq!(*decode_time.get_or_insert(first), first, "{what}: tfdt");
        let (mut at, mut start, mut end) = (first, i64::MAX, i64::MIN);
        for (duration, offset) in rows {
            start = start.min(at + offset - edit);
            end = end.max(at + offset - edit + duration);
            at += duration;
            duration_sum += duration;
        }
        decode_time = Some(at);
        spans.push((start.max(0), end));
    }
    let end = spans.iter().map(|span| span.1).max().unwrap();
    let table: Vec<(i64, i64)> = rep
        .segments
        .segments()
        .iter()
        .map(|s| (s.start as i64, s.end() as i64))
        .collect();
    let ends = spans.iter().skip(1).map(|span| span.0).chain([end]);
    let said: Vec<(i64, i64)> = spans.iter().zip(ends).map(|(span, end)| (span.0, end)).collect();
    assert_eq!(table, said, "{what}");
    assert_eq!(end - said[0].0, duration_sum - edit, "{what}: sum of sample durations");
    let listed: i64 = extinfs(&hls::media::render(rep, Form::Cmaf)).iter().sum();
    let micros = MediaTime::new(end, track.index.timescale()).to_scale(Timescale::MICROS, Rounding::Nearest)
        - MediaTime::new(said[0].0, track.index.timescale()).to_scale(Timescale::MICROS, Rounding::Nearest);
    assert_eq!(listed, micros, "{what}: EXTINF");
}

/// (presentation time in the source, presentation time in the clip, duration) of every sample of the clip, in ticks.
fn moved(source: &Presentation, rep: &Representation) -> Vec<(i64, i64, i64)> {
    let (own, original) = (
        &rep.track().unwrap().index,
        &source.representation(&rep.id).unwrap().track().unwrap().index,
    );
    let range = rep.first_source_sample..rep.first_source_sample + own.sample_count();
    let pairs = own.iter().zip(original.samples(range));
    let rows: Vec<_> = pairs
        .map(|(sample, source)| {
            assert_eq!((sample.offset, sample.size), (source.offset, source.size));
            (
                original.presentation_time(&source),
                own.presentation_time(&sample),
                i64::from(sample.duration),
            )
        })
        .collect();
    assert_eq!(rows.len(), own.sample_count() as usize);
    rows
}

fn in_ticks(millis: u64, rep: &Representation) -> i64 {
    MediaTime::from_millis(millis as i64).to_scale(rep.track().unwrap().index.timescale(), Rounding::Nearest)
}

#[test]
fn clips_of_every_start_agree_and_keep_step() {
    let film = film();
    let duration_ms = film.duration.to_millis(Rounding::Ceil) as u64;
    for start_ms in (0..duration_ms - 100).step_by(100) {
        for (end_ms, segment_s) in [(None, None), (Some((start_ms + 2_345).min(duration_ms)), Some(2))] {
            for form in [Form::Cmaf, Form::Ts] {
                let what = format!("{start_ms} to {end_ms:?} in {}", form.name());
                let clip = chosen(&film, form, start_ms, end_ms, segment_s);
                let mut starts_us = Vec::new();
                for rep in clip.representations.iter().filter(|rep| rep.track().is_some()) {
                    let what = format!("{} of {what}", rep.id);
                    check_agreement(rep, &what);
                    let rows = moved(&film, rep);
                    let shift = rows[0].0 - rows[0].1;
                    assert!(rows.iter().all(|row| row.0 - row.1 == shift), "{what}: moved unevenly");
                    let scale = rep.track().unwrap().index.timescale();
                    starts_us.push((MediaTime::new(shift, scale), scale));
                    let first_shown = rows
                        .iter()
                        .filter(|row| row.1 + row.2 > 0)
                        .map(|row| row.1)
                        .min()
                        .unwrap();
                    assert!(first_shown <= 0, "{what}: begins with a hole of {first_shown}");
                    check_end(&film, rep, &rows, end_ms, &what);
                    if form == Form::Cmaf {
                        assert_eq!(shift, in_ticks(start_ms, rep), "{what}: not at the start");
                    }
                }
                // B9: sound and pictures moved by the same time, to within a tick of either.
                for (shift, scale) in &starts_us {
                    let micros = |time: &MediaTime| time.to_scale(Timescale::MICROS, Rounding::Nearest);
                    let apart = (micros(shift) - micros(&starts_us[0].0)).abs();
                    let tick = 1_000_000 / i64::from(scale.get().min(starts_us[0].1.get())) + 1;
                    assert!(apart <= tick, "{what}: {apart} µs apart");
                }
                if form == Form::Ts {
                    let video = clip.representation("v1").unwrap().track().unwrap();
                    let first = video.index.sample(0).unwrap();
                    assert!(first.sync, "{what}");
                    assert_eq!(
                        video.index.presentation_time(&first),
                        0,
                        "{what}: not from the key frame"
                    );
                }
            }
        }
    }
}

/// All that is shown before the end is there, nothing is missing in between, and little is there beyond.
fn check_end(film: &Presentation, rep: &Representation, rows: &[(i64, i64, i64)], end_ms: Option<u64>, what: &str) {
    let original = &film.representation(&rep.id).unwrap().track().unwrap().index;
    let end = end_ms.map_or(i64::MAX, |end_ms| in_ticks(end_ms, rep));
    let mut shown: Vec<(i64, i64)> = rows.iter().map(|row| (row.0, row.0 + row.2)).collect();
    shown.sort_unstable();
    assert!(shown.windows(2).all(|pair| pair[0].1 == pair[1].0), "{what}: hole");
    let first = shown[0].0;
    let wanted = original.iter().map(|sample| original.presentation_time(&sample));
    let wanted: Vec<i64> = wanted.filter(|time| (first..end).contains(time)).collect();
    let surplus = shown.len() - wanted.len();
    let surplus_max = if rep.video().is_some() { 2 } else { 0 };
    assert!(surplus <= surplus_max, "{what}: {surplus} pictures too many");
    assert!(
        shown[shown.len() - 1].1 >= end.min(original.presentation_end()),
        "{what}: ends early"
    );
}

#[test]
fn a_clip_from_the_start_keeps_its_priming() {
    let film = film();
    let clip = chosen(&film, Form::Cmaf, 0, Some(5_000), None);
    for id in ["v1", "a1"] {
        let (own, source) = (clip.representation(id).unwrap(), film.representation(id).unwrap());
        let header = |rep: &Representation| edit_media_time(&on_demand::header(rep, TextSamples::Wvtt));
        assert_eq!(header(own), header(source), "{id}");
        assert_eq!(own.first_source_sample, 0);
    }
    assert_eq!(header_of_audio(&clip), 1024);
}

fn header_of_audio(presentation: &Presentation) -> i64 {
    let audio = presentation.representation("a1").unwrap();
    edit_media_time(&on_demand::header(audio, TextSamples::Wvtt))
}

#[test]
fn a_key_frame_named_to_the_millisecond_is_meant() {
    let film = film();
    // Picture 60 is shown at 2.002 s, picture 77 at 2.569233 s.
    for (start_ms, first_sample) in [
        (2_001, 0),
        (2_002, 60),
        (2_003, 60),
        (2_568, 60),
        (2_569, 77),
        (2_570, 77),
    ] {
        let clip = chosen(&film, Form::Cmaf, start_ms, None, None);
        assert_eq!(
            clip.representation("v1").unwrap().first_source_sample,
            first_sample,
            "{start_ms}"
        );
        assert_eq!(
            clip.representation("v2").unwrap().first_source_sample,
            first_sample,
            "{start_ms}"
        );
    }
}

#[test]
fn cues_are_cut_and_moved() {
    let check = |start_ms, end_ms, expected: &[(u64, u64, &str)]| {
        let clip = chosen(&film(), Form::Cmaf, start_ms, end_ms, None);
        let Content::Cues(text) = &clip.representation("t1").unwrap().content else {
            panic!("text is made of cues")
        };
        let cues: Vec<_> = text
            .cues()
            .iter()
            .map(|cue| (cue.start_ms, cue.end_ms, cue.payload.as_str()))
            .collect();
        assert_eq!(cues, expected);
    };
    check(1_000, Some(5_000), &[(0, 1_500, "500"), (3_000, 4_000, "4000")]);
    check(2_500, Some(4_000), &[]);
    check(8_999, None, &[(0, 1, "4000"), (3_001, 4_001, "12000")]);
}

#[test]
fn a_track_that_is_over_is_not_there() {
    let film = Tracks(Vec::new())
        .video(720, 30_000, reordered(30_000, 1_001, &GOPS))
        .audio("en", 100)
        .presentation(HlsDescription::default());
    let clip = chosen(&film, Form::Cmaf, 5_000, None, None);
    assert!(clip.representation("a1").is_none() && clip.representation("v1").is_some());
    let clip = chosen(&film, Form::Cmaf, 2_000, None, None);
    assert!(clip.representation("a1").is_some());
}

#[test]
fn a_segment_length_moves_cuts_and_nothing_else() {
    let film = film();
    let mut lengths = Vec::new();
    for seconds in [2, 6] {
        let derived = chosen(&film, Form::Cmaf, 0, None, Some(seconds));
        for rep in derived.representations.iter().filter(|rep| rep.track().is_some()) {
            check_agreement(rep, &format!("{} in {seconds} s", rep.id));
            let source = film.representation(&rep.id).unwrap().track().unwrap();
            assert_eq!(rep.track().unwrap().index.to_stored(), source.index.to_stored());
        }
        lengths.push(derived.representation("v1").unwrap().segments.segments().len());
        assert_eq!(derived.version, format!("{}~d{seconds}", film.version));
    }
    assert!(lengths[0] > lengths[1], "{lengths:?}");
}

#[test]
fn canonical_choices_leave_out_what_is_so_anyway() {
    let film = film();
    let duration_ms = film.duration.to_millis(Rounding::Ceil) as u64;
    let check = |start_ms, end_ms, segment_s, expected: Result<&str, &str>| {
        let choice = MediaChoice {
            start_ms,
            end_ms,
            segment_s,
        };
        let name = choice
            .canonical(&film)
            .map(|choice| choice.name())
            .map_err(|error| error.to_string());
        assert_eq!(name, expected.map(str::to_owned).map_err(str::to_owned));
    };
    check(0, None, None, Ok(""));
    check(0, Some(duration_ms), Some(4), Ok(""));
    check(
        1,
        Some(duration_ms - 1),
        Some(6),
        Ok(&format!("~s1~e{}~d6", duration_ms - 1)),
    );
    check(
        5_000,
        Some(5_000),
        None,
        Err("start: 5.000 s is not before end, 5.000 s"),
    );
    check(
        5_000,
        Some(4_000),
        None,
        Err("start: 5.000 s is not before end, 4.000 s"),
    );
    check(
        5_000,
        Some(5_099),
        None,
        Err("end: a clip of 0.099 s; the shortest is 0.100 s"),
    );
    check(
        0,
        Some(60_000),
        None,
        Err("end: 60.000 s lies beyond the end, 13.419 s"),
    );
    check(
        duration_ms,
        None,
        None,
        Err("start: 13.419 s lies beyond the end, 13.419 s"),
    );
}

#[test]
fn hls_start_moves_with_the_clip() {
    let check = |offset_ms, start_ms, end_ms, expected: Option<i64>| {
        let start = Start {
            offset_ms,
            precise: true,
        };
        let film = Tracks(Vec::new()).audio("en", 469).presentation(HlsDescription {
            start: Some(start),
            ..HlsDescription::default()
        });
        let clip = chosen(&film, Form::Cmaf, start_ms, end_ms, None);
        assert_eq!(clip.hls.start.map(|start| start.offset_ms), expected);
    };
    check(5_000, 2_000, None, Some(3_000));
    check(1_000, 2_000, None, None);
    check(-1_000, 2_000, None, Some(-1_000));
    check(-5_000, 2_000, Some(6_000), Some(-1_016));
    check(-1_000, 2_000, Some(6_000), None);
}

/// `query` in the words of a command line: `tracks=v1,a1 max_height=720`.
fn choice(words: &str) -> Choice {
    let mut choice = Choice::default();
    for (name, value) in words.split_whitespace().filter_map(|word| word.split_once('=')) {
        assert!(choice.set(name, value).unwrap());
    }
    choice
}

fn ladder() -> Presentation {
    let gops = reordered(30_000, 1_001, &GOPS);
    Tracks(Vec::new())
        .video(1080, 30_000, gops.clone())
        .video(720, 30_000, gops.clone())
        .video(360, 30_000, gops)
        .audio("en", 630)
        .audio("de-AT", 630)
        .add("de", Content::Cues(TextTrack::new(Vec::new(), vec![cue(0, 1_000)])))
        .add("fr", Content::Cues(TextTrack::new(Vec::new(), vec![cue(0, 1_000)])))
        .presentation(HlsDescription::default())
}

#[test]
fn tracks_are_kept_as_chosen() {
    let ladder = ladder();
    let check = |words: &str, form, expected: Result<&str, &str>| {
        let kept = choice(words).tracks.select(&ladder, form).map(|selection| {
            let kept = ladder.representations.iter().filter(|rep| selection.keeps(&rep.id));
            kept.map(|rep| rep.id.as_str()).collect::<Vec<_>>().join(" ")
        });
        let kept = kept.map_err(|error| error.to_string());
        assert_eq!(kept, expected.map(str::to_owned).map_err(str::to_owned), "{words}");
    };
    check("", Form::Cmaf, Ok("v1 v2 v3 a1 a2 t1 t2"));
    check("max_height=720", Form::Cmaf, Ok("v2 v3 a1 a2 t1 t2"));
    check("max_height=100", Form::Cmaf, Ok("v3 a1 a2 t1 t2"));
    check("max_height=9999", Form::Cmaf, Ok("v1 v2 v3 a1 a2 t1 t2"));
    check("languages=de", Form::Ts, Ok("v1 v2 v3 a2 t1"));
    check("languages=de-at", Form::Cmaf, Ok("v1 v2 v3 a2"));
    check("languages=fr,en", Form::Cmaf, Ok("v1 v2 v3 a1 t2"));
    check(
        "languages=fr",
        Form::Cmaf,
        Err("languages: none of fr; there are en, de-AT, de, fr"),
    );
    check(
        "languages=d",
        Form::Cmaf,
        Err("languages: none of d; there are en, de-AT, de, fr"),
    );
    check("tracks=v1,a2", Form::Ts, Ok("v1 a2"));
    check("tracks=v1", Form::Ts, Ok("v1"));
    check("tracks=a1", Form::Ts, Ok("a1"));
    check("tracks=v1,v3,a1 max_height=500", Form::Cmaf, Ok("v3 a1"));
    check("tracks=v1,a1 max_height=500", Form::Cmaf, Ok("v1 a1"));
    check(
        "tracks=t1",
        Form::Cmaf,
        Err("tracks: neither picture nor sound is left that this form can carry"),
    );
    check(
        "tracks=v4",
        Form::Cmaf,
        Err("tracks: there is no v4; there are v1, v2, v3, a1, a2, t1, t2"),
    );
    let same = |left: &str, right: &str| {
        let select = |words| choice(words).tracks.select(&ladder, Form::Cmaf).unwrap();
        assert_eq!(select(left), select(right));
    };
    same("max_height=720", "max_height=1079");
    same("tracks=a1,v3,v2", "tracks=v2,v3,a1 languages=en");
    same("", "tracks=v1,v2,v3,a1,a2,t1,t2");
}

#[test]
fn a_selection_has_the_same_segments() {
    let ladder = ladder();
    // Two audio tracks are apart from the video in MPEG-TS, and stay so when one is left.
    let selection = choice("tracks=v2,a2").tracks.select(&ladder, Form::Ts).unwrap();
    let selected = selection.of(&ladder, Form::Ts);
    assert_eq!(hls::muxed_audio(&selected, Form::Ts).map(|rep| &rep.id), None);
    assert!(selected.representation("a2").unwrap().default);
    let text = String::from_utf8(hls::multivariant::render(&selected, Form::Ts, "b/")).unwrap();
    assert!(
        text.contains("b/a2/index.m3u8") && !text.contains("b/a1/") && !text.contains("b/v1/"),
        "{text}"
    );
    let text = mpd::render(&selected, "b/", &mpd::Options::default());
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("b/v2/") && !text.contains("b/v1/") && !text.contains("b/t1/"),
        "{text}"
    );
    // A film's only sound is in its pictures' segments.
    let film = film();
    let muted = choice("tracks=v1")
        .tracks
        .select(&film, Form::Ts)
        .map_err(|error| error.to_string());
    let expected = "tracks: in MPEG-TS a1 travels in the video's segments and can not be left out";
    assert_eq!(muted.map(|_| ()), Err(expected.into()));
    assert!(choice("tracks=v1").tracks.select(&film, Form::Cmaf).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    // One frame of sound is priming alone; of two, something is always shown.
    #[test]
    fn any_clip_of_any_track_agrees(
        lengths in prop::collection::vec(1u32..90, 1..8), frames in 2u32..700, late in -5_000i64..5_000,
        start_ms in 0u64..20_000, length_ms in 100u64..20_000, preset in 0usize..6,
    ) {
        let rows = lengths.iter().flat_map(|length| (0..*length).map(|at| (1_001, 0, at == 0)));
        let film = Tracks(Vec::new())
            .video(720, 30_000, index(30_000, rows, late))
            .audio("en", frames)
            .presentation(HlsDescription::default());
        let choice = MediaChoice {
            start_ms,
            end_ms: Some(start_ms + length_ms),
            segment_s: [2, 4, 6, 8, 10].get(preset).copied(),
        };
        for form in [Form::Cmaf, Form::Ts] {
            // Beyond the end is refused, and so is what has nothing in it; nothing else is.
            let Ok(choice) = choice.canonical(&film) else { continue };
            let Ok(clip) = clip::derive(&film, &choice, form) else { continue };
            for rep in &clip.representations {
                check_agreement(rep, &format!("{} of {choice:?} in {}", rep.id, form.name()));
            }
            prop_assert!(clip.duration <= film.duration);
        }
    }
}
