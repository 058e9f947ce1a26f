//! A small muxer, so that a test can say what a file holds in a line.

use bytes::Bytes;

use super::super::read;
use crate::isobmff::BoxWriter;
use crate::source::SourceTracks;

/// Duration, composition offset, sync; the size comes from the sample's place.
pub type Row = (u32, i32, bool);

/// Duration in movie ticks, media time, rate.
pub type EditRow = (u64, i64, i32);

pub const PLAY: i32 = 0x1_0000;

/// How the tables are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub moov_first: bool,
    /// Chunk offsets of 64 bits.
    pub long_offsets: bool,
    /// Sizes in so many bits; 32 is `stsz`.
    pub size_bits: u32,
    /// Samples in each chunk.
    pub chunk: usize,
    pub mdat: Mdat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mdat {
    Plain,
    /// A 64-bit size.
    Large,
    /// Size 0: to the end of the file.
    ToEnd,
    /// QuickTime's placeholder in front.
    Wide,
}

impl Default for Form {
    fn default() -> Form {
        Form {
            moov_first: true,
            long_offsets: false,
            size_bits: 32,
            chunk: 3,
            mdat: Mdat::Plain,
        }
    }
}

#[derive(Clone)]
pub struct Spec {
    pub id: u32,
    pub handler: [u8; 4],
    pub entries: Vec<Vec<u8>>,
    pub timescale: u32,
    pub rows: Vec<Row>,
    pub edits: Vec<EditRow>,
    /// `stsc` uses this entry from the second chunk on.
    pub second_description: u32,
}

fn entry(name: &[u8; 4], fill: impl FnOnce(&mut BoxWriter)) -> Vec<u8> {
    let mut w = BoxWriter::default();
    w.write_box(name, |w| {
        w.zeros(7);
        w.u8(1);
        fill(w);
    });
    w.finish()
}

/// VP8 pictures: a coding whose entry needs nothing more.
pub fn vp8(width: u16) -> Vec<u8> {
    entry(b"vp08", |w| {
        w.zeros(16);
        w.u16(width);
        w.u16(180);
        w.zeros(50);
    })
}

pub fn opus() -> Vec<u8> {
    entry(b"Opus", |w| {
        w.zeros(8);
        w.u16(2);
        w.u16(16);
        w.zeros(4);
        w.u32(48_000 << 16);
        w.write_box(b"dOps", |w| w.bytes(&[0, 2, 1, 56, 0, 0, 0xbb, 0x80, 0, 0, 0]));
    })
}

pub fn wvtt() -> Vec<u8> {
    entry(b"wvtt", |w| w.write_box(b"vttC", |w| w.bytes(b"WEBVTT")))
}

/// Pictures at 1,000 ticks a second.
pub fn video(rows: &[Row], edits: &[EditRow]) -> Spec {
    Spec {
        id: 1,
        handler: *b"vide",
        entries: vec![vp8(320)],
        timescale: 1_000,
        rows: rows.to_vec(),
        edits: edits.to_vec(),
        second_description: 1,
    }
}

/// Sound in frames of 20 ms at 48,000 ticks a second.
pub fn audio(frame_count: usize, edits: &[EditRow]) -> Spec {
    Spec {
        id: 2,
        handler: *b"soun",
        entries: vec![opus()],
        timescale: 48_000,
        rows: vec![(960, 0, true); frame_count],
        edits: edits.to_vec(),
        second_description: 1,
    }
}

pub fn size_of(sample_index: usize) -> u32 {
    1 + (sample_index as u32 * 7) % 13
}

/// Writes a `trak`; `offset` is where its samples lie.
pub fn write_trak(w: &mut BoxWriter, spec: &Spec, form: Form, offset: u64) {
    w.write_box(b"trak", |w| {
        w.write_full_box(b"tkhd", 0, 3, |w| {
            w.zeros(8);
            w.u32(spec.id);
            w.zeros(24);
            for value in [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000] {
                w.u32(value);
            }
            w.zeros(8);
        });
        if !spec.edits.is_empty() {
            w.write_box(b"edts", |w| {
                w.write_full_box(b"elst", 1, 0, |w| {
                    w.u32(spec.edits.len() as u32);
                    for (duration, media_time, rate) in &spec.edits {
                        w.u64(*duration);
                        w.u64(*media_time as u64);
                        w.i32(*rate);
                    }
                });
            });
        }
        w.write_box(b"mdia", |w| {
            w.write_full_box(b"mdhd", 0, 0, |w| {
                w.zeros(8);
                w.u32(spec.timescale);
                w.u32(0);
                w.u16(0x15c7);
                w.u16(0);
            });
            w.write_full_box(b"hdlr", 0, 0, |w| {
                w.zeros(4);
                w.bytes(&spec.handler);
                w.zeros(12);
                w.bytes(b"VideoHandler\0");
            });
            w.write_box(b"minf", |w| {
                w.write_box(b"stbl", |w| write_tables(w, spec, form, offset));
            });
        });
    });
}

fn write_tables(w: &mut BoxWriter, spec: &Spec, form: Form, offset: u64) {
    w.write_full_box(b"stsd", 0, 0, |w| {
        w.u32(spec.entries.len() as u32);
        for entry in &spec.entries {
            w.bytes(entry);
        }
    });
    w.write_full_box(b"stts", 0, 0, |w| {
        w.u32(spec.rows.len() as u32);
        for (duration, _, _) in &spec.rows {
            w.u32(1);
            w.u32(*duration);
        }
    });
    if spec.rows.iter().any(|row| row.1 != 0) {
        w.write_full_box(b"ctts", 0, 0, |w| {
            w.u32(spec.rows.len() as u32);
            for (_, composition_offset, _) in &spec.rows {
                w.u32(1);
                w.i32(*composition_offset);
            }
        });
    }
    if spec.rows.iter().any(|row| !row.2) {
        let sync: Vec<u32> = (1u32..)
            .zip(&spec.rows)
            .filter(|(_, row)| row.2)
            .map(|(number, _)| number)
            .collect();
        w.write_full_box(b"stss", 0, 0, |w| {
            w.u32(sync.len() as u32);
            for number in &sync {
                w.u32(*number);
            }
        });
    }
    let chunks: Vec<&[Row]> = spec.rows.chunks(form.chunk).collect();
    w.write_full_box(b"stsc", 0, 0, |w| {
        w.u32(chunks.len() as u32);
        for (number, chunk) in (1u32..).zip(&chunks) {
            w.u32(number);
            w.u32(chunk.len() as u32);
            w.u32(if number > 1 { spec.second_description } else { 1 });
        }
    });
    let sizes: Vec<u32> = (0..spec.rows.len()).map(size_of).collect();
    match form.size_bits {
        32 => w.write_full_box(b"stsz", 0, 0, |w| {
            w.u32(0);
            w.u32(sizes.len() as u32);
            for size in &sizes {
                w.u32(*size);
            }
        }),
        bits => w.write_full_box(b"stz2", 0, 0, |w| {
            w.u32(bits);
            w.u32(sizes.len() as u32);
            for pair in sizes.chunks(2) {
                match bits {
                    4 => w.u8((pair[0] as u8) << 4 | pair.get(1).map_or(0, |size| *size as u8)),
                    8 => pair.iter().for_each(|size| w.u8(*size as u8)),
                    _ => pair.iter().for_each(|size| w.u16(*size as u16)),
                }
            }
        }),
    }
    let mut chunk_offset = offset;
    let mut sample_index = 0;
    let name = if form.long_offsets { b"co64" } else { b"stco" };
    w.write_full_box(name, 0, 0, |w| {
        w.u32(chunks.len() as u32);
        for chunk in &chunks {
            match form.long_offsets {
                true => w.u64(chunk_offset),
                false => w.u32(chunk_offset as u32),
            }
            for _ in *chunk {
                chunk_offset += u64::from(size_of(sample_index));
                sample_index += 1;
            }
        }
    });
}

fn data_size(spec: &Spec) -> u64 {
    (0..spec.rows.len())
        .map(|sample_index| u64::from(size_of(sample_index)))
        .sum()
}

pub fn write_mvhd(w: &mut BoxWriter) {
    w.write_full_box(b"mvhd", 0, 0, |w| {
        w.zeros(8);
        w.u32(600);
        w.zeros(84);
    });
}

/// A file of `ftyp`, `moov` and `mdat`, the movie at 600 ticks a second, each track's samples one behind the other.
pub fn movie(specs: &[Spec], form: Form) -> Bytes {
    let moov = |mut offset: u64| {
        let mut w = BoxWriter::default();
        w.write_box(b"moov", |w| {
            write_mvhd(w);
            for spec in specs {
                write_trak(w, spec, form, offset);
                offset += data_size(spec);
            }
        });
        w.finish()
    };
    let mut file = BoxWriter::default();
    file.write_box(b"ftyp", |w| w.bytes(b"isom\0\0\0\0isom"));
    let size: u64 = specs.iter().map(data_size).sum();
    if form.moov_first {
        let header_size = if form.mdat == Mdat::Large || form.mdat == Mdat::Wide {
            16
        } else {
            8
        };
        let offset = file.len() as u64 + moov(0).len() as u64 + header_size;
        file.bytes(&moov(offset));
    }
    match form.mdat {
        Mdat::Wide => file.write_box(b"wide", |_| ()),
        Mdat::Large => {
            file.u32(1);
            file.bytes(b"mdat");
            file.u64(16 + size);
        }
        _ => {}
    }
    match form.mdat {
        Mdat::Large => {}
        Mdat::ToEnd => {
            file.u32(0);
            file.bytes(b"mdat");
        }
        _ => {
            file.u32(8 + size as u32);
            file.bytes(b"mdat");
        }
    }
    let offset = file.len() as u64;
    file.bytes(&(0..size).map(|byte| byte as u8).collect::<Vec<_>>());
    if !form.moov_first {
        file.bytes(&moov(offset));
    }
    Bytes::from(file.finish())
}

/// A file read, as lines: for each track its number, first decode time and media time, then the presentation time of
/// every sample with `!` behind sync samples; then what is refused.
pub fn lines(source: &Bytes) -> Vec<String> {
    match read(source) {
        Ok(tracks) => lines_of(&tracks),
        Err(error) => vec![format!("error: {error}")],
    }
}

pub fn lines_of(tracks: &SourceTracks) -> Vec<String> {
    let track_lines = tracks.tracks.iter().map(|track| {
        let times: Vec<String> = track
            .index
            .iter()
            .map(|sample| {
                let sync = if sample.sync { "!" } else { "" };
                format!("{}{sync}", track.index.presentation_time(&sample))
            })
            .collect();
        let id = track.description.source_track_id;
        format!(
            "{id} +{} -{}: {}",
            track.index.first_decode_time(),
            track.index.media_time(),
            times.join(" ")
        )
    });
    let refused = tracks
        .refused
        .iter()
        .map(|refusal| format!("{}: {}", refusal.what, refusal.why));
    track_lines.chain(refused).collect()
}

pub fn check(source: &Bytes, expected: &[&str]) {
    assert_eq!(lines(source), expected);
}
