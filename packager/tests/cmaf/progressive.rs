//! A plain reader of movies without fragments, independent of the packager's own: one track at a time, no mercy.

use bytes::Bytes;
use packager::codec::{Codec, VideoRange};
use packager::index::{IndexWriter, NewSample};
use packager::time::Timescale;
use packager::track::{AudioDescription, MediaDescription, TextDescription, Track, TrackDescription, VideoDescription};

/// Payload of the first box at `path` (`moov/trak`), `None` when there is none.
pub fn find<'a>(bytes: &'a [u8], path: &str) -> Option<&'a [u8]> {
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    let found = boxes(bytes).find(|(fourcc, _)| *fourcc == name.as_bytes())?.1;
    if rest.is_empty() {
        Some(found)
    } else {
        find(found, rest)
    }
}

/// Names and payloads of all boxes.
pub fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        if bytes.len() < 8 {
            return None;
        }
        let (size, header_size) = match u32_at(bytes, 0) {
            0 => (bytes.len(), 8),
            1 => (u64_at(bytes, 8) as usize, 16),
            size => (size as usize, 8),
        };
        let (whole, rest) = bytes.split_at(size);
        bytes = rest;
        Some((&whole[4..8], &whole[header_size..]))
    })
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn rows(table: &[u8], width: usize) -> impl Iterator<Item = &[u8]> {
    let count = u32_at(table, 4) as usize;
    (0..count).map(move |at| &table[8 + at * width..8 + (at + 1) * width])
}

/// Repeats the second word of each row as often as the first says.
fn runs(table: &[u8]) -> Vec<u32> {
    rows(table, 8)
        .flat_map(|row| std::iter::repeat_n(u32_at(row, 4), u32_at(row, 0) as usize))
        .collect()
}

/// The first track of a movie whose handler is `handler`.
pub fn track(file: &[u8], handler: &[u8; 4]) -> Option<Track> {
    let moov = find(file, "moov")?;
    let movie_timescale = timescale(find(moov, "mvhd")?);
    let trak = boxes(moov)
        .filter(|(fourcc, _)| fourcc == b"trak")
        .find(|(_, trak)| find(trak, "mdia/hdlr").is_some_and(|hdlr| hdlr[8..12] == *handler))?
        .1;
    let timescale = timescale(find(trak, "mdia/mdhd")?);
    let stbl = find(trak, "mdia/minf/stbl")?;
    let entry = find(stbl, "stsd").map(|stsd| Bytes::copy_from_slice(&stsd[8..]))?;
    let mut writer = IndexWriter::new(Timescale::new(timescale)?);
    for sample in samples(stbl) {
        writer.push(sample).unwrap();
    }
    let edit_offset = find(trak, "edts/elst").map_or(0, |elst| edit_offset(elst, movie_timescale, timescale));
    Some(Track {
        description: describe(entry, handler, Timescale::new(timescale)?),
        index: writer.finish(edit_offset).unwrap(),
    })
}

fn timescale(header: &[u8]) -> u32 {
    u32_at(header, if header[0] == 1 { 20 } else { 12 })
}

/// What the first edit with media takes from composition times, less the empty edits before it.
fn edit_offset(elst: &[u8], movie_timescale: u32, timescale: u32) -> i64 {
    let version = elst[0];
    let mut delay = 0;
    for row in rows(elst, if version == 1 { 20 } else { 12 }) {
        let (duration, media_time) = match version {
            1 => (u64_at(row, 0), u64_at(row, 8) as i64),
            _ => (u64::from(u32_at(row, 0)), i64::from(u32_at(row, 4) as i32)),
        };
        if media_time >= 0 {
            return media_time - delay;
        }
        delay += (duration * u64::from(timescale) / u64::from(movie_timescale)) as i64;
    }
    0
}

fn samples(stbl: &[u8]) -> Vec<NewSample> {
    let durations = runs(find(stbl, "stts").unwrap());
    let composition_offsets = find(stbl, "ctts").map(runs);
    let sync: Option<Vec<u32>> = find(stbl, "stss").map(|table| rows(table, 4).map(|row| u32_at(row, 0)).collect());
    let stsz = find(stbl, "stsz").unwrap();
    let size_of = |at: usize| match u32_at(stsz, 4) {
        0 => u32_at(stsz, 12 + at * 4),
        size => size,
    };
    let chunk_offsets: Vec<u64> = match find(stbl, "co64") {
        Some(table) => rows(table, 8).map(|row| u64_at(row, 0)).collect(),
        None => rows(find(stbl, "stco").unwrap(), 4)
            .map(|row| u64::from(u32_at(row, 0)))
            .collect(),
    };
    let stsc: Vec<(u32, u32)> = rows(find(stbl, "stsc").unwrap(), 12)
        .map(|row| (u32_at(row, 0), u32_at(row, 4)))
        .collect();
    let mut samples = Vec::new();
    for (chunk_offset, chunk_number) in chunk_offsets.iter().zip(1..) {
        let mut offset = *chunk_offset;
        let in_chunk = stsc.iter().rev().find(|(first, _)| *first <= chunk_number).unwrap().1;
        for _ in 0..in_chunk {
            let at = samples.len();
            samples.push(NewSample {
                offset,
                size: size_of(at),
                duration: durations[at],
                composition_offset: composition_offsets.as_ref().map_or(0, |offsets| offsets[at] as i32),
                sync: sync
                    .as_ref()
                    .is_none_or(|sync| sync.binary_search(&(at as u32 + 1)).is_ok()),
            });
            offset += u64::from(size_of(at));
        }
    }
    assert_eq!(samples.len(), u32_at(stsz, 8) as usize);
    assert_eq!(samples.len(), durations.len());
    samples
}

/// Enough of a description to write headers with the sample entry as it is.
fn describe(sample_entry: Bytes, handler: &[u8; 4], timescale: Timescale) -> TrackDescription {
    let word = |at: usize| u32::from(u16::from_be_bytes(sample_entry[at..at + 2].try_into().unwrap()));
    let codec = match &sample_entry[4..8] {
        b"avc1" => Codec::Avc,
        b"hvc1" | b"hev1" => Codec::Hevc,
        b"av01" => Codec::Av1,
        b"vp09" => Codec::Vp9,
        b"mp4a" => Codec::Aac,
        b"ac-3" => Codec::Ac3,
        b"ec-3" => Codec::Eac3,
        b"Opus" => Codec::Opus,
        b"fLaC" => Codec::Flac,
        b"wvtt" => Codec::Wvtt,
        other => panic!("sample entry {}", other.escape_ascii()),
    };
    let media = match handler {
        b"vide" => MediaDescription::Video(VideoDescription {
            width: word(32),
            height: word(34),
            sample_aspect_ratio: (1, 1),
            matrix: None,
            color: None,
            video_range: VideoRange::Sdr,
            nal_length_size: 4,
            parameter_sets: Bytes::new(),
            supplemental_codecs: None,
        }),
        b"soun" => MediaDescription::Audio(AudioDescription {
            sample_rate: word(32),
            channel_count: word(24) as u16,
            joc_complexity: None,
            decoder_config: Bytes::new(),
        }),
        _ => MediaDescription::Text(TextDescription { config: String::new() }),
    };
    TrackDescription {
        source_track_id: 1,
        codec,
        rfc6381: String::new(),
        timescale,
        language: "en-GB".into(),
        label: None,
        sample_entry,
        media,
    }
}
