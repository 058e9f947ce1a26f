//! The presentations whose manifests are tested.

use packager::images::{ImageFile, ImageTrack, Plan};
use packager::index::{IndexWriter, NewSample, TrackIndex};
use packager::isobmff::sample_entry::{self, TrackFacts, VideoFacts};
use packager::presentation::{Content, Define, HlsDescription, NewPresentation, NewRepresentation, Presentation, Role};
use packager::segment::SegmentTarget;
use packager::text::{Cue, TextTrack};
use packager::time::Timescale;
use packager::track::{Track, TrackDescription};

/// `avcC`: High profile, level 4.0, 1920×1080.
const AVCC_HIGH: [u8; 44] = [
    0x01, 0x64, 0x00, 0x28, 0xff, 0xe1, 0x00, 0x1b, 0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5,
    0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60, 0xc6, 0x58, 0x01, 0x00, 0x06,
    0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0,
];
/// `avcC`: High profile, level 3.1.
const AVCC_MIDDLE: [u8; 42] = [
    0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x19, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x44, 0x05, 0xbe, 0x5f,
    0x01, 0x10, 0x00, 0x00, 0x3e, 0x90, 0x00, 0x0e, 0xa6, 0x00, 0xf1, 0x83, 0x19, 0x60, 0x01, 0x00, 0x06, 0x68, 0xeb,
    0xe3, 0xcb, 0x22, 0xc0,
];
/// `avcC`: High profile, level 3.0.
const AVCC_LOW: [u8; 41] = [
    0x01, 0x64, 0x00, 0x1e, 0xff, 0xe1, 0x00, 0x18, 0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x41, 0xe0, 0xbf, 0xe5, 0xc0,
    0x44, 0x00, 0x00, 0x0f, 0xa0, 0x00, 0x03, 0xa6, 0xe8, 0x3c, 0x58, 0xb6, 0x58, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3,
    0xcb, 0x22, 0xc0,
];
/// `hvcC`: Main 10 profile, level 5.0, BT.2020 with PQ.
const HVCC: [u8; 110] = [
    0x01, 0x02, 0x20, 0x00, 0x00, 0x00, 0xb0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x96, 0xf0, 0x00, 0xfc, 0xfd, 0xfa, 0xfa,
    0x00, 0x00, 0x03, 0x03, 0xa0, 0x00, 0x01, 0x00, 0x17, 0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x02, 0x20, 0x00, 0x00,
    0x03, 0x00, 0xb0, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x96, 0xac, 0x09, 0xa1, 0x00, 0x01, 0x00, 0x27, 0x42,
    0x01, 0x01, 0x02, 0x20, 0x00, 0x00, 0x03, 0x00, 0xb0, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x96, 0xa0, 0x03,
    0xc0, 0x80, 0x11, 0x07, 0xca, 0xd9, 0x6b, 0xb9, 0x32, 0x4b, 0xa9, 0x48, 0x48, 0x80, 0x48, 0x17, 0x68, 0x50, 0x94,
    0xa2, 0x00, 0x01, 0x00, 0x0a, 0x44, 0x01, 0xc0, 0xe3, 0x0f, 0x09, 0x41, 0xef, 0x61, 0x08,
];
/// `dvvC`: profile 8, level 4, base layer with RPU, compatible with HDR10.
const DVVC: [u8; 24] = [
    0x01, 0x00, 0x10, 0x25, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

const FILM_SCALE: u32 = 24_000;
const FRAME: u32 = 1_001;

fn facts(timescale: u32) -> TrackFacts {
    TrackFacts {
        source_track_id: 1,
        timescale: Timescale::new(timescale).unwrap(),
        language: "und".into(),
        label: None,
    }
}

/// Twenty groups of 48 pictures at 24000/1001 Hz, with one picture of reordering delay that an edit list takes back.
fn pictures(key_size_bytes: u32) -> TrackIndex {
    let mut writer = IndexWriter::new(Timescale::new(FILM_SCALE).unwrap());
    let mut offset = 0;
    for picture in 0..20 * 48 {
        let sync = picture % 48 == 0;
        // The groups are of unequal size, so that peak and average bit rate differ.
        let size = match sync {
            true => key_size_bytes,
            false => key_size_bytes / 10 + picture / 48 * 16,
        };
        writer
            .push(NewSample {
                offset,
                size,
                duration: FRAME,
                composition_offset: FRAME as i32,
                sync,
            })
            .unwrap();
        offset += u64::from(size);
    }
    writer.finish(i64::from(FRAME)).unwrap()
}

/// Frames of 1024 samples at 48 kHz, as many as the pictures last.
fn frames(duration: u32, size_bytes: u32) -> TrackIndex {
    let mut writer = IndexWriter::new(Timescale::new(48_000).unwrap());
    let frames = (20 * 48 * FRAME * 2).div_ceil(duration);
    for frame in 0..frames {
        writer
            .push(NewSample {
                offset: u64::from(frame) * u64::from(size_bytes),
                size: size_bytes,
                duration,
                composition_offset: 0,
                sync: true,
            })
            .unwrap();
    }
    writer.finish(0).unwrap()
}

fn samples(description: TrackDescription, index: TrackIndex) -> Content {
    Content::Samples(Track { description, index })
}

fn avc(avcc: &[u8], key_size_bytes: u32) -> Content {
    let description = sample_entry::avc(&facts(FILM_SCALE), avcc, &VideoFacts::default()).unwrap();
    samples(description, pictures(key_size_bytes))
}

fn hevc(video: &VideoFacts) -> Content {
    let description = sample_entry::hevc(&facts(FILM_SCALE), &HVCC, video).unwrap();
    samples(description, pictures(400_000))
}

fn stereo() -> Content {
    samples(
        sample_entry::aac(&facts(48_000), &[0x11, 0x90]).unwrap(),
        frames(1_024, 341),
    )
}

fn subtitles() -> Content {
    let cue = |start_ms, payload: &str| Cue {
        start_ms,
        end_ms: start_ms + 1_500,
        id: String::new(),
        settings: String::new(),
        payload: payload.into(),
    };
    Content::Cues(TextTrack::new(
        Vec::new(),
        vec![cue(1_000, "One."), cue(7_000, "Two."), cue(30_250, "Three.")],
    ))
}

fn track(content: Content, language: &str, roles: &[Role]) -> NewRepresentation {
    NewRepresentation {
        source: 0,
        content,
        language: language.into(),
        label: None,
        roles: roles.to_vec(),
        default: false,
    }
}

fn assemble(title: &str, tracks: Vec<NewRepresentation>, hls: HlsDescription) -> Presentation {
    Presentation::assemble(NewPresentation {
        title: title.into(),
        tracks,
        refused: Vec::new(),
        target: SegmentTarget::from_millis(4_000).unwrap(),
        hls,
    })
    .unwrap()
}

/// Three rungs of AVC, two languages, an audio description, subtitles in two languages, one of them captions.
pub fn film() -> Presentation {
    let tracks = vec![
        track(avc(&AVCC_HIGH, 180_000), "und", &[]),
        track(avc(&AVCC_MIDDLE, 90_000), "und", &[]),
        track(avc(&AVCC_LOW, 20_000), "und", &[]),
        track(stereo(), "en", &[]),
        track(stereo(), "de", &[Role::Dub]),
        track(stereo(), "en", &[Role::Description]),
        track(subtitles(), "en", &[Role::Caption]),
        track(subtitles(), "de", &[]),
    ];
    assemble("Film & \"more\"", tracks, HlsDescription::default())
}

/// The film with thumbnails: forty-one pictures a second apart, on two sheets.
pub fn thumbnails() -> Presentation {
    let mut film = film();
    let video = film.representations[0].video().unwrap();
    let plan = Plan::of(video, film.duration).unwrap();
    let sheet = |number: u32| ImageFile {
        size_bytes: 80_000 + u64::from(number),
        sha256: format!("{number:064x}"),
    };
    let sheets = (1..=plan.sheet_count()).map(sheet).collect();
    film.attach_images(ImageTrack::new(&plan, sheets, None).unwrap())
        .unwrap();
    film
}

/// One piece of music, and what a description may add to its multivariant playlist.
pub fn audio_only() -> Presentation {
    let hls = HlsDescription {
        define: vec![
            Define::Value {
                name: "label".into(),
                value: "x".into(),
            },
            Define::QueryParameter {
                query_parameter: "token".into(),
            },
        ],
        ..HlsDescription::default()
    };
    assemble("Music", vec![track(stereo(), "und", &[])], hls)
}

/// HEVC with HDR10.
pub fn hdr10() -> Presentation {
    let tracks = vec![
        track(hevc(&VideoFacts::default()), "und", &[]),
        track(stereo(), "en", &[]),
    ];
    assemble("HDR10", tracks, HlsDescription::default())
}

/// Dolby Vision 8.1 over the same.
pub fn dolby_vision() -> Presentation {
    let video = VideoFacts {
        dolby_vision: Some(DVVC.to_vec().into()),
        ..VideoFacts::default()
    };
    let tracks = vec![track(hevc(&video), "und", &[]), track(stereo(), "en", &[])];
    assemble("Dolby Vision", tracks, HlsDescription::default())
}

/// Two rungs cut at nearly the same times: one duration would do for the first, and misses the second by 4 ms.
pub fn nearly_even() -> Presentation {
    let rung = |avcc: &[u8], last_of_first_group_ms| {
        let mut writer = IndexWriter::new(Timescale::MILLIS);
        for picture in 0..200 {
            let duration = if picture == 49 { last_of_first_group_ms } else { 40 };
            writer
                .push(NewSample {
                    offset: picture * 100,
                    size: 100,
                    duration,
                    composition_offset: 0,
                    sync: picture == 0 || picture == 50,
                })
                .unwrap();
        }
        let description = sample_entry::avc(&facts(1_000), avcc, &VideoFacts::default()).unwrap();
        track(samples(description, writer.finish(0).unwrap()), "und", &[])
    };
    let tracks = vec![rung(&AVCC_HIGH, 40), rung(&AVCC_MIDDLE, 36)];
    assemble("Nearly even", tracks, HlsDescription::default())
}

/// A single picture that lasts a quarter of a microsecond: more bits a second than the numbers of an MPD hold.
pub fn instant() -> Presentation {
    let scale = 4_000_000_000;
    let mut writer = IndexWriter::new(Timescale::new(scale).unwrap());
    writer
        .push(NewSample {
            offset: 0,
            size: 1_000_000,
            duration: 1_000,
            composition_offset: 0,
            sync: true,
        })
        .unwrap();
    let description = sample_entry::avc(&facts(scale), &AVCC_HIGH, &VideoFacts::default()).unwrap();
    let video = samples(description, writer.finish(0).unwrap());
    assemble("Instant", vec![track(video, "und", &[])], HlsDescription::default())
}

/// Every case by its name.
pub fn all() -> [(&'static str, Presentation); 5] {
    [
        ("film", film()),
        ("audio-only", audio_only()),
        ("hdr10", hdr10()),
        ("dolby-vision", dolby_vision()),
        ("thumbnails", thumbnails()),
    ]
}
