//! What packaging costs, on synthetic material with the shape of a real film: 1080p30 H.264 with B-frames, 2 s GOPs,
//! 5 Mb/s, and stereo AAC at 48 kHz.
//!
//! `cargo bench --bench packaging`

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use packager::dash;
use packager::form::Form;
use packager::hls;
use packager::index::{IndexWriter, NewSample, TrackIndex};
use packager::isobmff::fragment::{self, SegmentPosition};
use packager::isobmff::sample_entry::{self, TrackFacts, VideoFacts};
use packager::isobmff::{movie, stored};
use packager::mpegts::mux::{MuxSample, MuxTrack, Segment, SegmentLayout};
use packager::presentation::{Content, HlsDescription, NewPresentation, NewRepresentation, Presentation};
use packager::segment::SegmentTarget;
use packager::source::{ReadAt, ReadError};
use packager::time::Timescale;
use packager::track::{Track, TrackDescription};

/// A High profile, level 4.0, 1920×1080 configuration as x264 writes it.
const AVCC: [u8; 45] = [
    0x01, 0x64, 0x00, 0x28, 0xff, 0xe1, 0x00, 0x1b, 0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5,
    0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60, 0xc6, 0x58, 0x01, 0x00, 0x06,
    0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0x00,
];
const FRAME_TICKS: u32 = 3_000;

fn facts(timescale: u32) -> TrackFacts {
    let timescale = Timescale::new(timescale).expect("not zero");
    TrackFacts {
        source_track_id: 1,
        timescale,
        language: "en".into(),
        label: None,
    }
}

fn video_description() -> TrackDescription {
    sample_entry::avc(&facts(90_000), &AVCC[..44], &VideoFacts::default()).expect("a good configuration")
}

fn audio_description() -> TrackDescription {
    sample_entry::aac(&facts(48_000), &[0x11, 0x90]).expect("a good configuration")
}

/// Sizes that vary like a real encoder's, the same in every run.
fn noise(seed: &mut u32) -> u32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    *seed >> 16
}

fn video_index(seconds: u32) -> TrackIndex {
    let mut writer = IndexWriter::new(Timescale::MPEG_TS);
    let (mut seed, mut offset) = (1, stored::MEDIA_OFFSET);
    for frame in 0..seconds * 30 {
        let in_gop = frame % 60;
        let size = match in_gop {
            0 => 120_000 + noise(&mut seed) % 40_000,
            _ if in_gop % 3 == 0 => 25_000 + noise(&mut seed) % 20_000,
            _ => 8_000 + noise(&mut seed) % 12_000,
        };
        let composition_offset = [2, 3, 1][in_gop as usize % 3] * FRAME_TICKS as i32;
        let sample = NewSample {
            offset,
            size,
            duration: FRAME_TICKS,
            composition_offset,
            sync: in_gop == 0,
        };
        writer.push(sample).expect("within bounds");
        offset += u64::from(size);
    }
    writer.finish(2 * i64::from(FRAME_TICKS)).expect("samples")
}

fn audio_index(seconds: u32) -> TrackIndex {
    let mut writer = IndexWriter::new(Timescale::new(48_000).expect("not zero"));
    let (mut seed, mut offset) = (2, stored::MEDIA_OFFSET);
    for _ in 0..seconds * 48_000 / 1_024 {
        let size = 300 + noise(&mut seed) % 90;
        writer
            .push(NewSample {
                offset,
                size,
                duration: 1_024,
                composition_offset: 0,
                sync: true,
            })
            .expect("within bounds");
        offset += u64::from(size);
    }
    writer.finish(1_024).expect("samples")
}

/// Four pictures and one sound, ten minutes.
fn film() -> Presentation {
    let new = |description: TrackDescription, index: TrackIndex, source| NewRepresentation {
        source,
        content: Content::Samples(Track { description, index }),
        language: "en".into(),
        label: None,
        roles: Vec::new(),
        default: false,
    };
    let mut tracks: Vec<NewRepresentation> = (0..4)
        .map(|source| new(video_description(), video_index(600), source))
        .collect();
    tracks.push(new(audio_description(), audio_index(600), 4));
    let new = NewPresentation {
        title: "Film".into(),
        tracks,
        refused: Vec::new(),
        target: SegmentTarget::DEFAULT,
        hls: HlsDescription::default(),
    };
    Presentation::assemble(new).expect("playable")
}

/// A stored file whose samples are never looked at.
struct Hollow {
    opening: Bytes,
    moov_at: u64,
    moov: Bytes,
}

impl Hollow {
    fn of(description: &TrackDescription, index: &TrackIndex) -> Hollow {
        let media_size = index.size_bytes(0..u32::MAX);
        Hollow {
            opening: stored::opening(media_size),
            moov_at: stored::MEDIA_OFFSET + media_size,
            moov: stored::closing_moov(description, index),
        }
    }
}

impl ReadAt for Hollow {
    fn size(&self) -> u64 {
        self.moov_at + self.moov.len() as u64
    }

    fn read_at(&self, offset: u64, size: usize) -> Result<Bytes, ReadError> {
        let end = offset + size as u64;
        let past_end = ReadError::PastEnd {
            offset,
            want: size as u64,
            size: self.size(),
        };
        if offset >= self.moov_at {
            return self.moov.read_at(offset - self.moov_at, size);
        }
        if end <= self.opening.len() as u64 {
            return self.opening.read_at(offset, size);
        }
        if end > self.size() {
            return Err(past_end);
        }
        let mut bytes = vec![0; size];
        for (at, byte) in (offset..end).zip(bytes.iter_mut()) {
            let from = match usize::try_from(at).ok().and_then(|at| self.opening.get(at)) {
                Some(known) => Some(known),
                None => at.checked_sub(self.moov_at).and_then(|at| self.moov.get(at as usize)),
            };
            *byte = from.copied().unwrap_or(0);
        }
        Ok(bytes.into())
    }
}

fn index(c: &mut Criterion) {
    let hour = video_index(3_600).memory_bytes() + audio_index(3_600).memory_bytes();
    println!("index memory: {hour} bytes for an hour of 1080p30 with sound");
    let mut group = c.benchmark_group("index");
    group.sample_size(20);
    group.throughput(Throughput::Elements(1_000_000));
    group.bench_function("build, 1,000,000 samples", |b| {
        b.iter(|| {
            let mut writer = IndexWriter::new(Timescale::MPEG_TS);
            let (mut seed, mut offset) = (1, 0);
            for at in 0..1_000_000u32 {
                let size = noise(&mut seed);
                let sample = NewSample {
                    offset,
                    size,
                    duration: 3_000,
                    composition_offset: 0,
                    sync: at % 60 == 0,
                };
                writer.push(sample).expect("within bounds");
                offset += u64::from(size);
            }
            writer.finish(0).expect("samples")
        });
    });
    let film = Hollow::of(&video_description(), &video_index(7_200));
    println!("moov of the 2 h film: {} bytes", film.moov.len());
    group.throughput(Throughput::Elements(2 * 3_600 * 30));
    group.bench_function("moov of a 2 h film to index", |b| {
        b.iter(|| movie::read(black_box(&film)).expect("readable"))
    });
    group.finish();
}

fn segment(c: &mut Criterion) {
    let index = video_index(7_200);
    let range = 100 * 120..101 * 120;
    c.bench_function("plan: source extents of a 4 s segment", |b| {
        b.iter(|| index.extents(black_box(range.clone())))
    });
    c.bench_function("CMAF header of a 4 s segment", |b| {
        b.iter(|| fragment::header(&index, black_box(range.clone()), 101, SegmentPosition::Inner));
    });
    let description = video_description();
    let samples: Vec<_> = index.samples(range).collect();
    let payloads: Vec<Vec<u8>> = samples
        .iter()
        .map(|sample| {
            let mut nal = vec![0x5a; sample.size as usize];
            let size = sample.size - 4;
            nal[..4].copy_from_slice(&size.to_be_bytes());
            nal[4] = if sample.sync { 0x65 } else { 0x41 };
            nal
        })
        .collect();
    let muxed: Vec<MuxSample<'_>> = samples
        .iter()
        .zip(&payloads)
        .map(|(sample, data)| MuxSample {
            presentation_time_90k: index.presentation_time(sample) + 900_000,
            decode_time_90k: sample.decode_time as i64 + 890_000,
            sync: sample.sync,
            data,
        })
        .collect();
    let tracks = [MuxTrack {
        description: &description,
        samples: &muxed,
    }];
    let mut group = c.benchmark_group("MPEG-TS");
    group.throughput(Throughput::Bytes(
        payloads.iter().map(|payload| payload.len() as u64).sum(),
    ));
    let segment = Segment {
        number: 101,
        tracks: &tracks,
    };
    // As the origin has it: all samples in one buffer, parts of 120 kB each into the same memory again and again.
    let media = payloads.concat();
    let mut out = Vec::new();
    let mut write = |layout: &SegmentLayout| {
        for part in 0..layout.part_count() {
            let bytes = layout.media(part, 0);
            out.clear();
            layout
                .write(part, &[&media[bytes.start as usize..bytes.end as usize]], &mut out)
                .expect("the same samples");
        }
    };
    group.bench_function("4 s segment, laid out", |b| {
        b.iter(|| black_box(segment).lay_out(120_000).expect("good"))
    });
    let layout = segment.lay_out(120_000).expect("good");
    group.bench_function("4 s segment, its parts", |b| b.iter(|| write(black_box(&layout))));
    group.bench_function("4 s segment", |b| {
        b.iter(|| write(&black_box(segment).lay_out(120_000).expect("good")))
    });
    group.finish();
}

fn text(c: &mut Criterion) {
    let film = film();
    let video = &film.representations[0];
    c.bench_function("HLS media playlist, 10 minutes", |b| {
        b.iter(|| hls::media::render(black_box(video), Form::Cmaf))
    });
    c.bench_function("HLS multivariant playlist, 4 pictures", |b| {
        b.iter(|| hls::multivariant::render(black_box(&film), Form::Cmaf, "v0123456789abcdef/cmaf/"));
    });
    let options = dash::mpd::Options::default();
    c.bench_function("MPD, 4 pictures, 10 minutes", |b| {
        b.iter(|| dash::mpd::render(black_box(&film), "v0123456789abcdef/cmaf/", &options));
    });
}

criterion_group!(benches, index, segment, text);
criterion_main!(benches);
