//! Opens damaged indexes: what `open` lets pass, every question answers. What `IndexWriter` takes, it gives back.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use packager::index::{IndexWriter, NewSample, TrackIndex};
use packager::time::Timescale;
use packager_fuzz as _;

/// An index may hold 50 million samples in few bytes; this many are looked at from either end.
const SAMPLE_COUNT_LOOKED_AT: u32 = 1024;

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        // Guessing an index from nothing takes long; most inputs are a true one with a few bytes changed.
        Some((&kind, rest)) if kind != 0 => {
            let (samples, changes) = rest.split_at(rest.len().min(usize::from(kind) * 8));
            if let Some(index) = written(samples) {
                ask(changed(index.to_stored().as_deref().unwrap_or_default(), changes));
            }
        }
        _ => ask(Bytes::copy_from_slice(data)),
    }
});

/// One sample for every eight bytes.
fn written(bytes: &[u8]) -> Option<TrackIndex> {
    let mut writer = IndexWriter::new(Timescale::new(90_000)?);
    let mut offset = 0;
    let mut samples = Vec::new();
    for &[gap, size_high, size_low, sync, duration, scale, composition, sign] in bytes.as_chunks().0 {
        offset += u64::from(gap);
        let sample = NewSample {
            offset,
            size: u32::from_be_bytes([0, 0, size_high, size_low]),
            duration: u32::from(duration) << (scale % 25),
            composition_offset: i32::from(composition as i8) << (sign % 25),
            sync: sync % 4 != 0,
        };
        writer.push(sample).ok()?;
        offset += u64::from(sample.size);
        samples.push(sample);
    }
    let index = writer.finish(0).ok()?;
    assert_eq!(index.sample_count() as usize, samples.len());
    for (got, put) in index.iter().zip(&samples) {
        assert_eq!((got.size, got.duration), (put.size, put.duration));
        assert!(got.size == 0 || got.offset == put.offset, "{got:?} was {put:?}");
    }
    Some(index)
}

/// `bytes` with one byte replaced for every three of `changes`: a position and the new value.
fn changed(bytes: &[u8], changes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for &[high, low, value] in changes.as_chunks().0 {
        let position = usize::from(u16::from_be_bytes([high, low]));
        if let Some(byte) = bytes.get_mut(position) {
            *byte = value;
        }
    }
    bytes.into()
}

fn ask(bytes: Bytes) {
    let Ok(index) = TrackIndex::open(bytes) else {
        return;
    };
    let count = index.sample_count();
    let _ = (index.duration(), index.sync_samples().take(1024).last());
    for first in [0, count / 2, count.saturating_sub(SAMPLE_COUNT_LOOKED_AT)] {
        let range = first..first.saturating_add(SAMPLE_COUNT_LOOKED_AT);
        for sample in index.samples(range.clone()) {
            index.presentation_time(&sample);
        }
        index.extents(range.clone());
        index.size_bytes(range);
    }
    assert!(index.sample(count).is_none());
}
