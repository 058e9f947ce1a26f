//! The stored form's media file, one track: `ftyp`, `mdat` with the samples in decode order, then `moov`.
//!
//! Plays in any tool. It is written front to back as samples come: [`opening`], the samples, [`closing_moov`]; at last
//! [`mdat_size_field`] goes to [`MDAT_SIZE_OFFSET`].

use bytes::Bytes;

use super::BoxWriter;
use super::trak::{self, Durations, Edit, EditStart};
use crate::index::TrackIndex;
use crate::track::TrackDescription;

const FTYP: &[u8; 28] = b"\0\0\0\x1cftypisom\0\0\x02\0isomiso4mp41";
const MDAT_HEADER_SIZE: u64 = 16;

/// Where the 64-bit size of `mdat` stands.
pub const MDAT_SIZE_OFFSET: u64 = FTYP.len() as u64 + 8;

/// Where the first sample starts.
pub const MEDIA_OFFSET: u64 = FTYP.len() as u64 + MDAT_HEADER_SIZE;

/// Samples that are described as one chunk, at most: a chunk is what tools read at once.
const CHUNK_SAMPLE_COUNT_MAX: u32 = 256;

/// What comes before `media_size` bytes of samples; [`MEDIA_OFFSET`] bytes. While the size is not known, write zero and
/// replace it in the end.
pub fn opening(media_size: u64) -> Bytes {
    let mut w = BoxWriter::with_capacity(MEDIA_OFFSET as usize);
    w.bytes(FTYP);
    w.u32(1);
    w.bytes(b"mdat");
    w.bytes(&mdat_size_field(media_size));
    Bytes::from(w.finish())
}

/// The field at [`MDAT_SIZE_OFFSET`] of a file with `media_size` bytes of samples.
pub fn mdat_size_field(media_size: u64) -> [u8; 8] {
    media_size.saturating_add(MDAT_HEADER_SIZE).to_be_bytes()
}

/// The `moov` that ends the file; sample offsets of `index` are those in the file.
pub fn closing_moov(description: &TrackDescription, index: &TrackIndex) -> Bytes {
    let tables = SampleTables::of(index);
    let edits = edits(index, &tables);
    let durations = Durations {
        presentation: tables.presentation_end,
        media: index.duration().ticks.unsigned_abs(),
    };
    let mut w = BoxWriter::with_capacity(tables.size_estimate() + description.sample_entry.len());
    w.write_box(b"moov", |w| {
        trak::write_mvhd(w, description.timescale, durations.presentation);
        trak::write_trak(w, description, durations, &edits, |w| tables.write(w));
    });
    Bytes::from(w.finish())
}

/// Decode times of a movie without fragments start at zero, so a late start is an empty edit; the bias that keeps
/// composition offsets positive is taken back together with what the track itself trims.
fn edits(index: &TrackIndex, tables: &SampleTables<'_>) -> Vec<Edit> {
    let delay = index.first_decode_time();
    let media_time = index.media_time() + tables.composition_bias;
    let mut edits = Vec::new();
    if delay > 0 {
        edits.push(Edit {
            segment_duration: delay,
            start: EditStart::Empty,
        });
    }
    if delay > 0 || media_time > 0 {
        edits.push(Edit {
            segment_duration: tables.presentation_end.saturating_sub(delay),
            start: EditStart::MediaTime(media_time),
        });
    }
    edits
}

/// How many samples in a row share a value.
#[derive(Clone, Copy)]
struct Run {
    count: u32,
    value: u32,
}

/// Appends one more of `value`.
fn extend_runs(runs: &mut Vec<Run>, value: u32) {
    match runs.last_mut() {
        Some(run) if run.value == value => run.count += 1,
        _ => runs.push(Run { count: 1, value }),
    }
}

/// Samples that lie together.
#[derive(Clone, Copy)]
struct Chunk {
    offset: u64,
    sample_count: u32,
}

struct SampleTables<'a> {
    index: &'a TrackIndex,
    durations: Vec<Run>,
    /// `composition_bias` added.
    composition_offsets: Vec<Run>,
    /// What makes the smallest composition offset zero, so that readers which know version 0 alone can follow.
    composition_bias: u64,
    /// Ticks from time zero to the end of the sample shown last.
    presentation_end: u64,
    chunks: Vec<Chunk>,
}

impl SampleTables<'_> {
    fn of(index: &TrackIndex) -> SampleTables<'_> {
        let lowest_offset = index.iter().map(|sample| sample.composition_offset).min().unwrap_or(0);
        let composition_bias = lowest_offset.min(0).unsigned_abs();
        let (mut durations, mut composition_offsets) = (Vec::new(), Vec::new());
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut next_offset = None;
        let mut presentation_end = 0;
        for sample in index.iter() {
            extend_runs(&mut durations, sample.duration);
            // The sum is not negative, by the choice of the bias, and below 2^32.
            extend_runs(
                &mut composition_offsets,
                composition_bias.wrapping_add_signed(sample.composition_offset),
            );
            match chunks.last_mut() {
                Some(chunk) if next_offset == Some(sample.offset) && chunk.sample_count < CHUNK_SAMPLE_COUNT_MAX => {
                    chunk.sample_count += 1;
                }
                _ => chunks.push(Chunk {
                    offset: sample.offset,
                    sample_count: 1,
                }),
            }
            next_offset = sample.offset.checked_add(u64::from(sample.size));
            let end = index
                .presentation_time(&sample)
                .saturating_add(i64::from(sample.duration));
            presentation_end = end.max(presentation_end);
        }
        SampleTables {
            index,
            durations,
            composition_offsets,
            composition_bias: u64::from(composition_bias),
            presentation_end: presentation_end.unsigned_abs(),
            chunks,
        }
    }

    fn size_estimate(&self) -> usize {
        let runs = self.durations.len() + self.composition_offsets.len();
        1024 + runs * 8 + self.chunks.len() * 20 + self.index.sample_count() as usize * 8
    }

    fn write(&self, w: &mut BoxWriter) {
        self.write_stts(w);
        self.write_ctts(w);
        self.write_stss(w);
        self.write_stsc(w);
        self.write_stsz(w);
        self.write_chunk_offsets(w);
    }

    /// ISO/IEC 14496-12:2022 8.6.1.2 (`stts`).
    fn write_stts(&self, w: &mut BoxWriter) {
        w.write_full_box(b"stts", 0, 0, |w| write_runs(w, &self.durations));
    }

    /// ISO/IEC 14496-12:2022 8.6.1.3 (`ctts`); none when every offset is zero.
    fn write_ctts(&self, w: &mut BoxWriter) {
        if self.composition_offsets.iter().any(|run| run.value != 0) {
            w.write_full_box(b"ctts", 0, 0, |w| write_runs(w, &self.composition_offsets));
        }
    }

    /// ISO/IEC 14496-12:2022 8.6.2 (`stss`), samples counted from 1; none when every sample is a sync sample.
    fn write_stss(&self, w: &mut BoxWriter) {
        if self.index.all_sync() {
            return;
        }
        w.write_full_box(b"stss", 0, 0, |w| {
            let count_at = w.len();
            w.u32(0);
            let mut count = 0;
            for sample_index in self.index.sync_samples() {
                w.u32(sample_index + 1);
                count += 1;
            }
            w.patch_u32(count_at, count);
        });
    }

    /// ISO/IEC 14496-12:2022 8.7.4 (`stsc`), chunks counted from 1.
    fn write_stsc(&self, w: &mut BoxWriter) {
        w.write_full_box(b"stsc", 0, 0, |w| {
            let count_at = w.len();
            w.u32(0);
            let (mut count, mut previous) = (0, None);
            for (chunk, chunk_number) in self.chunks.iter().zip(1..) {
                if previous != Some(chunk.sample_count) {
                    w.u32(chunk_number);
                    w.u32(chunk.sample_count);
                    w.u32(1); // sample_description_index
                    count += 1;
                }
                previous = Some(chunk.sample_count);
            }
            w.patch_u32(count_at, count);
        });
    }

    /// ISO/IEC 14496-12:2022 8.7.3.2 (`stsz`).
    fn write_stsz(&self, w: &mut BoxWriter) {
        let first_size = self.index.sample(0).map_or(0, |sample| sample.size);
        // Size 0 announces a table.
        let is_constant = first_size != 0 && self.index.iter().all(|sample| sample.size == first_size);
        w.write_full_box(b"stsz", 0, 0, |w| {
            w.u32(if is_constant { first_size } else { 0 });
            w.u32(self.index.sample_count());
            if !is_constant {
                for sample in self.index.iter() {
                    w.u32(sample.size);
                }
            }
        });
    }

    /// ISO/IEC 14496-12:2022 8.7.5 (`stco`, or `co64` when an offset needs more than 32 bits).
    fn write_chunk_offsets(&self, w: &mut BoxWriter) {
        let chunk_count = self.chunks.len() as u32;
        let is_wide = self.chunks.iter().any(|chunk| chunk.offset > u64::from(u32::MAX));
        let fourcc = if is_wide { b"co64" } else { b"stco" };
        w.write_full_box(fourcc, 0, 0, |w| {
            w.u32(chunk_count);
            for chunk in &self.chunks {
                match is_wide {
                    true => w.u64(chunk.offset),
                    false => w.u32(chunk.offset as u32),
                }
            }
        });
    }
}

fn write_runs(w: &mut BoxWriter, runs: &[Run]) {
    w.u32(runs.len() as u32);
    for run in runs {
        w.u32(run.count);
        w.u32(run.value);
    }
}
