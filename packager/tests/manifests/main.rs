//! Manifests of named presentations: golden files, playlists read again by another parser, the structure of MPDs.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod cases;
mod published;
mod schema;

use std::path::Path;
use std::{env, fs};

use m3u8_rs::{AlternativeMediaType, MasterPlaylist, MediaPlaylist, MediaPlaylistType};
use packager::codec::MediaKind;
use packager::dash::mpd::{self, Addressing, Options, TextCoding};
use packager::form::Form;
use packager::hls;
use packager::hls::muxed_audio;
use packager::presentation::{Presentation, Representation};

const ADDRESSINGS: [(&str, Addressing); 4] = [
    ("timeline-number", Addressing::TimelineNumber),
    ("timeline-time", Addressing::TimelineTime),
    ("number", Addressing::Number),
    ("on-demand", Addressing::OnDemand),
];
const TEXTS: [(&str, TextCoding); 3] = [
    ("wvtt", TextCoding::Wvtt),
    ("stpp", TextCoding::Stpp),
    ("webvtt", TextCoding::WebVtt),
];

fn base(form: Form) -> String {
    format!("v0123456789abcdef/{}/", form.name())
}

fn render_mpd(presentation: &Presentation, addressing: Addressing, text: TextCoding) -> String {
    let bytes = mpd::render(presentation, &base(Form::Cmaf), &Options { addressing, text });
    String::from_utf8(bytes).unwrap()
}

/// Compares with the file of that name, or with `UPDATE=1` in the environment writes it.
fn check_golden(case: &str, name: &str, found: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(case)
        .join(name);
    if env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, found).unwrap();
        return;
    }
    let found = std::str::from_utf8(found).unwrap();
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if found != expected {
        let line = found.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
        panic!(
            "{} differs at line {}:\n  was {:?}\n  now {:?}\nUPDATE=1 writes what is now",
            path.display(),
            line + 1,
            expected.lines().nth(line),
            found.lines().nth(line),
        );
    }
}

/// Compares the manifests of a case: every playlist of its representations in `ids`, the MPD in `addressings`.
fn check_case(case: &str, presentation: &Presentation, ids: &[&str], addressings: &[usize]) {
    for form in Form::CLEAR {
        let name = form.name();
        let multivariant = hls::multivariant::render(presentation, form, &base(form));
        check_golden(case, &format!("multivariant.{name}.m3u8"), &multivariant);
        for id in ids {
            let Some(rep) = presentation.representation(id) else {
                panic!("{case} has no {id}")
            };
            if !presentation
                .carried(form, rep.kind())
                .any(|carried| carried.id == rep.id)
            {
                continue;
            }
            check_golden(case, &format!("{id}.{name}.m3u8"), &hls::media::render(rep, form));
            if rep.kind() == MediaKind::Video {
                let trick = hls::media::render_trick(rep, form);
                check_golden(case, &format!("{id}.iframes.{name}.m3u8"), &trick);
            }
        }
    }
    for at in addressings {
        let (name, addressing) = ADDRESSINGS[*at];
        let mpd = render_mpd(presentation, addressing, TextCoding::Wvtt);
        check_golden(case, &format!("{name}.mpd"), mpd.as_bytes());
    }
}

#[test]
fn film_is_as_it_was() {
    let film = cases::film();
    check_case("film", &film, &["v1", "a1", "t1"], &[0, 1, 2, 3]);
    for (name, text) in &TEXTS[1..] {
        let mpd = render_mpd(&film, Addressing::TimelineNumber, *text);
        check_golden("film", &format!("{name}.mpd"), mpd.as_bytes());
    }
}

#[test]
fn audio_only_is_as_it_was() {
    check_case("audio-only", &cases::audio_only(), &["a1"], &[0, 2]);
}

#[test]
fn hdr10_is_as_it_was() {
    check_case("hdr10", &cases::hdr10(), &["v1"], &[0]);
}

#[test]
fn dolby_vision_is_as_it_was() {
    check_case("dolby-vision", &cases::dolby_vision(), &[], &[0, 3]);
}

#[test]
fn thumbnails_are_as_they_were() {
    let film = cases::thumbnails();
    check_case("thumbnails", &film, &[], &[0, 2]);
    let images = film.images().unwrap();
    check_golden("thumbnails", "i1.m3u8", &hls::images::render(images));
    check_golden("thumbnails", "thumbs.vtt", &images.thumbs_vtt("i1/", film.duration));
}

/// The version covers every sheet and the poster: their URLs are cached for ever.
#[test]
fn thumbnails_change_the_version() {
    let film = cases::film();
    let with = cases::thumbnails();
    assert_ne!(film.version, with.version);
    let mut other = film.clone();
    let mut images = with.images().unwrap().clone();
    other.attach_images(images.clone()).unwrap();
    assert_eq!(other.version, with.version);
    images.sheets[1].sha256 = "f".repeat(64);
    let mut other = film.clone();
    other.attach_images(images.clone()).unwrap();
    assert_ne!(other.version, with.version);
    // Made of another, shorter film.
    images.count = 25;
    images.sheets.truncate(1);
    let mut other = film.clone();
    assert!(other.attach_images(images).is_err());
    assert_eq!(other.version, film.version);
}

/// Sheets beyond the last would be asked for, and not be there; the profile for one file a representation has none.
#[test]
fn thumbnails_stand_where_the_profile_has_them() {
    let film = cases::thumbnails();
    for (_, addressing) in ADDRESSINGS {
        let mpd = render_mpd(&film, addressing, TextCoding::Wvtt);
        let expected = addressing != Addressing::OnDemand;
        assert_eq!(mpd.contains("contentType=\"image\""), expected, "{addressing:?}");
    }
}

fn read_multivariant(presentation: &Presentation, form: Form) -> MasterPlaylist {
    let bytes = hls::multivariant::render(presentation, form, &base(form));
    m3u8_rs::parse_master_playlist_res(&bytes).unwrap()
}

fn read_media(bytes: &[u8]) -> MediaPlaylist {
    m3u8_rs::parse_media_playlist_res(bytes).unwrap()
}

/// Another parser finds as many renditions and variants as there are, at the URLs and with the numbers meant.
#[test]
fn multivariant_playlists_read_again() {
    for (case, presentation) in cases::all() {
        for form in Form::CLEAR {
            let playlist = read_multivariant(&presentation, form);
            let carried = |kind| presentation.carried(form, kind).collect::<Vec<_>>();
            let (videos, audios) = (carried(MediaKind::Video), carried(MediaKind::Audio));
            let context = format!("{case} in {}", form.name());
            assert!(playlist.independent_segments, "{context}");
            let of = |wanted| {
                let renditions = playlist.alternatives.iter();
                renditions
                    .filter(|rendition| rendition.media_type == wanted)
                    .collect::<Vec<_>>()
            };
            let muxed = hls::muxed_audio(&presentation, form).is_some();
            let sounds = of(AlternativeMediaType::Audio);
            assert_eq!(sounds.len(), if muxed { 0 } else { audios.len() }, "{context}");
            assert_eq!(
                of(AlternativeMediaType::Subtitles).len(),
                presentation.texts().count(),
                "{context}"
            );
            for rendition in &playlist.alternatives {
                let same = |other: &&m3u8_rs::AlternativeMedia| {
                    other.media_type == rendition.media_type && other.group_id == rendition.group_id
                };
                let group: Vec<_> = playlist.alternatives.iter().filter(same).collect();
                let named = group.iter().filter(|other| other.name == rendition.name).count();
                assert_eq!(named, 1, "{context}: NAME {:?}", rendition.name);
                assert!(group.iter().filter(|other| other.default).count() <= 1, "{context}");
                assert!(rendition.autoselect || !rendition.default, "{context}: {rendition:?}");
            }
            let (tricks, variants): (Vec<_>, Vec<_>) = playlist.variants.iter().partition(|variant| variant.is_i_frame);
            assert_eq!(variants.len(), videos.len().max(1), "{context}");
            assert_eq!(tricks.len(), videos.len(), "{context}");
            for variant in &variants {
                let average = variant.average_bandwidth.unwrap();
                assert!(0 < average && average <= variant.bandwidth, "{context}: {variant:?}");
                assert!(variant.codecs.is_some(), "{context}: {variant:?}");
                let group = variant.audio.as_ref();
                assert_eq!(group.is_some(), !sounds.is_empty(), "{context}");
                assert!(
                    group.is_none_or(|id| sounds.iter().any(|sound| sound.group_id == *id)),
                    "{context}: {group:?}"
                );
            }
            for (video, trick) in videos.iter().zip(&tricks) {
                let uri = format!("{}{}/iframes.m3u8", base(form), video.id);
                assert_eq!(trick.uri, uri, "{context}");
                assert_eq!(trick.codecs.as_deref(), Some(video.rfc6381()), "{context}");
                let uri = format!("{}{}/index.m3u8", base(form), video.id);
                let variant = variants.iter().find(|variant| variant.uri == uri).unwrap();
                let size = video.video().unwrap().display_size();
                let resolution = variant.resolution.as_ref().unwrap();
                assert_eq!(
                    (resolution.width, resolution.height),
                    (size.0.into(), size.1.into()),
                    "{context}"
                );
                assert_eq!(variant.frame_rate, Some(23.976), "{context}");
                let own = video.bandwidth(form).peak_bps;
                let muxed = muxed_audio(&presentation, form).is_some();
                let sound = audios
                    .iter()
                    .map(|audio| match muxed {
                        true => audio.muxed_bandwidth(form).peak_bps,
                        false => audio.bandwidth(form).peak_bps,
                    })
                    .max()
                    .unwrap_or(0);
                assert_eq!(variant.bandwidth, own + sound, "{context}");
            }
        }
    }
}

/// EXT-X-DEFINE needs protocol version 8, its QUERYPARAM 11 (RFC 8216bis 8).
#[test]
fn versions_are_as_high_as_features_need() {
    for (name, version) in [("film", 6), ("audio-only", 11), ("hdr10", 6), ("dolby-vision", 6)] {
        let (_, presentation) = cases::all().into_iter().find(|(case, _)| *case == name).unwrap();
        assert_eq!(
            read_multivariant(&presentation, Form::Cmaf).version,
            Some(version),
            "{name}"
        );
    }
}

fn check_durations(playlist: &MediaPlaylist, rows: &[(u64, u64)], scale: u32, context: &str) {
    assert_eq!(playlist.segments.len(), rows.len(), "{context}");
    assert!(playlist.end_list, "{context}");
    assert!(playlist.independent_segments, "{context}");
    assert_eq!(playlist.playlist_type, Some(MediaPlaylistType::Vod), "{context}");
    assert_eq!(playlist.media_sequence, 1, "{context}");
    for (segment, (_, duration)) in playlist.segments.iter().zip(rows) {
        let seconds = *duration as f64 / f64::from(scale);
        assert!(
            (f64::from(segment.duration) - seconds).abs() < 0.000_01,
            "{context}: {segment:?}"
        );
        assert!(
            segment.duration.round() as u64 <= playlist.target_duration,
            "{context}: {segment:?}"
        );
    }
}

fn check_media(rep: &Representation, form: Form, context: &str) {
    let scale = rep.segments.timescale().get();
    let segments = rep.segments.segments().iter();
    let rows: Vec<_> = segments.map(|segment| (segment.start, segment.duration)).collect();
    let playlist = read_media(&hls::media::render(rep, form));
    check_durations(&playlist, &rows, scale, context);
    assert!(!playlist.i_frames_only, "{context}");
    let extension = hls::segment_extension(rep, form);
    for (segment, number) in playlist.segments.iter().zip(1..) {
        assert_eq!(segment.uri, format!("{number}.{extension}"), "{context}");
    }
    let map = playlist.segments[0].map.as_ref().map(|map| map.uri.as_str());
    let expected = (extension == "m4s").then_some("init.mp4");
    assert_eq!(map, expected, "{context}");
    if rep.kind() != MediaKind::Video {
        return;
    }
    let rows: Vec<_> = rep
        .trick_frames
        .iter()
        .map(|frame| (frame.start, frame.duration))
        .collect();
    let playlist = read_media(&hls::media::render_trick(rep, form));
    check_durations(&playlist, &rows, scale, context);
    assert!(playlist.i_frames_only, "{context}");
}

#[test]
fn media_playlists_read_again() {
    for (case, presentation) in cases::all() {
        for form in Form::CLEAR {
            for kind in [MediaKind::Video, MediaKind::Audio, MediaKind::Text] {
                for rep in presentation.carried(form, kind) {
                    check_media(rep, form, &format!("{case}/{} in {}", rep.id, form.name()));
                }
            }
        }
    }
}

#[test]
fn mpds_keep_to_the_schema() {
    for (case, presentation) in cases::all() {
        for (addressing_name, addressing) in ADDRESSINGS {
            for (text_name, text) in TEXTS {
                let mpd = render_mpd(&presentation, addressing, text);
                let faults = schema::faults(&mpd, &presentation, addressing);
                assert!(
                    faults.is_empty(),
                    "{case}, {addressing_name}, {text_name}:\n{}\n{mpd}",
                    faults.join("\n")
                );
            }
        }
    }
}

/// An AdaptationSet keeps to one way of addressing, even when only one of its representations needs a timeline.
#[test]
fn a_set_is_addressed_in_one_way() {
    let presentation = cases::nearly_even();
    assert_eq!(presentation.video_sets(Form::Cmaf).len(), 1, "a single set");
    let mpd = render_mpd(&presentation, Addressing::Number, TextCoding::Wvtt);
    let faults = schema::faults(&mpd, &presentation, Addressing::Number);
    assert!(faults.is_empty(), "{}\n{mpd}", faults.join("\n"));
    assert_eq!(mpd.matches("<SegmentTimeline>").count(), 2, "{mpd}");
}

/// `@bandwidth` is an `xs:unsignedInt`, however many bits a second are measured.
#[test]
fn bandwidths_are_of_their_type() {
    let presentation = cases::instant();
    let peak_bps = presentation.representations[0].bandwidth(Form::Cmaf).peak_bps;
    assert!(peak_bps > u32::MAX.into(), "{peak_bps}");
    for (name, addressing) in ADDRESSINGS {
        let mpd = render_mpd(&presentation, addressing, TextCoding::Wvtt);
        let faults = schema::faults(&mpd, &presentation, addressing);
        assert!(faults.is_empty(), "{name}: {}\n{mpd}", faults.join("\n"));
    }
}

/// What is no language tag does not get into the document.
#[test]
fn languages_are_language_tags() {
    for (language, shown) in [
        ("pt-BR", true),
        ("es-419", true),
        ("d_e", false),
        ("", false),
        ("deutschland", false),
    ] {
        let mut presentation = cases::audio_only();
        presentation.representations[0].language = language.into();
        let mpd = render_mpd(&presentation, Addressing::TimelineNumber, TextCoding::Wvtt);
        assert_eq!(mpd.contains(" lang="), shown, "{language:?}");
        let faults = schema::faults(&mpd, &presentation, Addressing::TimelineNumber);
        assert!(faults.is_empty(), "{faults:?}");
    }
}

/// The standard's own schema, where there is a copy of it, has nothing to say against any MPD here.
#[test]
fn mpds_keep_to_the_published_schema() {
    let Some(schema) = published::Schema::from_environment() else {
        return;
    };
    let more = [("nearly-even", cases::nearly_even()), ("instant", cases::instant())];
    let mut mpds = Vec::new();
    for (case, presentation) in cases::all().into_iter().chain(more) {
        for (addressing_name, addressing) in ADDRESSINGS {
            for (text_name, text) in TEXTS {
                let mpd = render_mpd(&presentation, addressing, text);
                mpds.push((format!("{case}.{addressing_name}.{text_name}.mpd"), mpd));
            }
        }
    }
    schema.check(&mpds);
}

/// What the checker is for, it finds.
#[test]
fn damaged_mpds_are_noticed() {
    let film = cases::film();
    let mpd = render_mpd(&film, Addressing::TimelineNumber, TextCoding::Wvtt);
    let check = |from: &str, to: &str, expected: &str| {
        assert!(mpd.contains(from), "{from} is not in\n{mpd}");
        let faults = schema::faults(&mpd.replacen(from, to, 1), &film, Addressing::TimelineNumber);
        assert!(
            faults.iter().any(|fault| fault.contains(expected)),
            "{from} → {to}: {faults:?}"
        );
    };
    check(" minBufferTime=", " minBufferTim=", "minBufferTime");
    check("\"PT", "\"P ", "duration");
    check("<Period ", "<Period xyz=\"1\" ", "xyz");
    check("<AdaptationSet id=\"1\"", "<AdaptationSet id=\"2\"", "twice");
    check(
        "<ProgramInformation>",
        "<BaseURL>x</BaseURL><ProgramInformation>",
        "ProgramInformation",
    );
    check(" timescale=\"24000\"", " timescale=\"48000\"", "timescale");
    check(" r=\"", " r=\"1", "timeline");
    check("$Number$", "$Time$", "media");
    check(" codecs=\"avc1", " codec=\"avc1", "codecs");
    check(" codecs=\"avc1.", " codecs=\"avc1 ", "codecs");
    check(" codecs=\"avc1.", " codecs=\",avc1.", "codecs");
    check(" frameRate=\"24000/", " frameRate=\"24000/0", "frameRate");
    check("<Period ", "stray<Period ", "text in MPD");
    check(
        " schemeIdUri=\"urn:mpeg:dash:role:2011\"",
        " schemeIdUri=\"%\"",
        "schemeIdUri",
    );
    check(" bandwidth=\"", " bandwidth=\"x", "bandwidth");
    check(" bandwidth=\"", " bandwidth=\"9999", "bandwidth");
    let (start, end) = (mpd.find(" <Period ").unwrap(), mpd.find("</MPD>").unwrap());
    check(&mpd[start..end], "", "no Period");
    check("trickmode\" value=\"1\"", "trickmode\" value=\"9\"", "trickmode");
    check(" lang=\"de\"", " lang=\"d_e\"", "lang");
    check(
        "<Role ",
        "<Label>x</Label><Accessibility schemeIdUri=\"x\"/><Label>y</Label><Role ",
        "Label",
    );
}
