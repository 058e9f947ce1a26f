//! What a worker reads: a file that GStreamer takes apart, or tracks of which place and time of every sample are known.
//!
//! Whatever the packager can read goes the second way. Demuxers differ in what they make of edit lists, late pictures and
//! damage; an index says it once, in integers, and the same for what is transcoded as for what is served as it is.

use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use packager::codec::MediaKind;
use packager::index::{IndexError, TrackIndex};
use packager::time::Timescale;
use packager::track::TrackDescription;
use serde::{Deserialize, Serialize};

use crate::order::Order;
use crate::timing;

/// Longest order that is read, without the indexes after it.
const ORDER_SIZE_BYTES_MAX: u64 = 1 << 20;
/// The largest index: far more than the longest track that the packager reads has.
const INDEX_SIZE_BYTES_MAX: u64 = 1 << 30;

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// A file as it is.
    File(PathBuf),
    /// Samples of these tracks; the index of each follows the order.
    Tracks(Vec<TrackInput>),
}

impl Input {
    /// Every file that is read.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Input::File(path) => vec![path],
            Input::Tracks(tracks) => tracks.iter().map(|track| track.path.as_path()).collect(),
        }
    }
}

/// Where samples lie, and how they are coded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackInput {
    /// What the stream is called; no other one of the source is called so.
    pub stream_id: String,
    /// The file that holds its samples.
    pub path: PathBuf,
    /// How they are coded.
    pub description: TrackDescription,
    /// Bytes of its index.
    pub index_size_bytes: u64,
}

/// A track and its index.
#[derive(Clone, Debug)]
pub struct IndexedTrack {
    /// Where samples lie, and how they are coded.
    pub input: TrackInput,
    /// When they are shown.
    pub index: TrackIndex,
}

impl IndexedTrack {
    /// The track called `stream_id`, whose samples lie in `path`.
    pub fn new(
        stream_id: String,
        path: PathBuf,
        description: TrackDescription,
        index: &TrackIndex,
    ) -> Result<IndexedTrack, IndexError> {
        let index = index.pack()?;
        Ok(IndexedTrack {
            input: TrackInput {
                stream_id,
                path,
                description,
                index_size_bytes: index.memory_bytes() as u64,
            },
            index,
        })
    }

    /// Pictures or sound.
    pub fn kind(&self) -> MediaKind {
        self.input.description.kind()
    }

    /// Nanoseconds that are added to all times so that none is below zero: the first picture is decoded before it is shown,
    /// sound may have priming, and pictures may be decoded that are not shown.
    pub fn shift_ns(&self) -> i64 {
        nanoseconds(
            self.decode_ticks(self.index.first_decode_time()).min(0),
            self.index.timescale(),
        )
        .saturating_neg()
    }

    /// When a sample is decoded, in ticks, before it is shown: `decode_time` is that of the index.
    pub fn decode_ticks(&self, decode_time: u64) -> i64 {
        let ticks = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        ticks(decode_time).saturating_sub(ticks(self.index.decode_delay()))
    }

    /// When the first sample is shown or heard, in nanoseconds; what an edit cuts begins at zero.
    pub fn begin_ns(&self) -> i64 {
        let shown = self.index.iter().map(|sample| self.index.presentation_time(&sample));
        nanoseconds(shown.min().unwrap_or(0).max(0), self.index.timescale())
    }

    /// When the last sample ends, in nanoseconds.
    pub fn end_ns(&self) -> i64 {
        nanoseconds(self.index.presentation_end(), self.index.timescale())
    }

    /// The sync sample from which everything can be decoded that is shown at `start_ns` or later.
    pub fn entry(&self, start_ns: i64) -> u32 {
        let shown = |sample_index: &u32| {
            let time = self.index.presentation_time_of(*sample_index).unwrap_or(0);
            nanoseconds(time, self.index.timescale()) <= start_ns
        };
        self.index.sync_samples().take_while(shown).last().unwrap_or(0)
    }

    /// Pictures a second, where their times lie on the grid of a rate, or what they are on average.
    pub fn frame_rate(&self) -> Option<(u32, u32)> {
        let scale = self.index.timescale();
        let times: Vec<i64> = self
            .index
            .iter()
            .map(|sample| nanoseconds(self.index.presentation_time(&sample), scale))
            .collect();
        timing::rate_of(times)
    }
}

/// Until when silence follows `sound`, in nanoseconds on the source's timeline: to the end of the pictures among `tracks` where
/// it ends before they begin, as in a cut out of a broadcast of which no earlier picture can be decoded. Players that want
/// sound and pictures side by side begin nothing else.
pub(crate) fn silence_end_ns(sound: &IndexedTrack, tracks: &[IndexedTrack]) -> Option<i64> {
    let pictures = tracks.iter().find(|track| track.kind() == MediaKind::Video)?;
    (sound.end_ns() <= pictures.begin_ns()).then(|| pictures.end_ns())
}

/// What begins less apart, in nanoseconds, begins together for ear and eye.
pub(crate) const TOGETHER_NS: i64 = 5_000_000;

/// When sound and pictures of a title begin, in nanoseconds on the source's timeline: with the first of `tracks`. Silence comes
/// before sound that begins later, and the first picture is shown longer, for there are players that take what begins first
/// in each track for simultaneous.
pub(crate) fn beginning_ns(tracks: &[IndexedTrack]) -> Option<i64> {
    tracks.iter().map(IndexedTrack::begin_ns).min()
}

/// Ticks in nanoseconds, to the nearest.
pub(crate) fn nanoseconds(ticks: i64, timescale: Timescale) -> i64 {
    let scale = i128::from(timescale.get());
    let doubled = i128::from(ticks) * 2_000_000_000 + scale;
    i64::try_from(doubled.div_euclid(scale * 2)).unwrap_or(i64::MAX)
}

/// What a worker is told on its standard input: a line, then the indexes of its tracks.
pub fn write_order(order: &Order, tracks: &[IndexedTrack], out: &mut dyn Write) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    out.write_all(&line)?;
    if matches!(order.input, Some(Input::Tracks(_))) {
        tracks
            .iter()
            .try_for_each(|track| out.write_all(&track.index.to_stored().map_err(std::io::Error::other)?))?;
    }
    out.flush()
}

/// Reads what [`write_order`] wrote; what is not an order is an error of kind `InvalidData`.
pub fn read_order(input: &mut dyn BufRead) -> std::io::Result<(Order, Vec<IndexedTrack>)> {
    let wrong = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let mut line = Vec::new();
    (&mut *input).take(ORDER_SIZE_BYTES_MAX).read_until(b'\n', &mut line)?;
    let order: Order = serde_json::from_slice(&line)?;
    let mut tracks = Vec::new();
    if let Some(Input::Tracks(inputs)) = &order.input {
        for track in inputs {
            if track.index_size_bytes > INDEX_SIZE_BYTES_MAX {
                return Err(wrong(format!("an index of {} bytes", track.index_size_bytes)));
            }
            let mut bytes = Vec::new();
            (&mut *input).take(track.index_size_bytes).read_to_end(&mut bytes)?;
            let index = TrackIndex::open(Bytes::from(bytes)).map_err(|error| wrong(format!("index: {error}")))?;
            tracks.push(IndexedTrack {
                input: track.clone(),
                index,
            });
        }
    }
    Ok((order, tracks))
}

#[cfg(test)]
mod tests {
    use packager::index::{IndexWriter, NewSample};
    use packager::isobmff::sample_entry::{self, TrackFacts};

    use super::*;
    use crate::order::{Limits, Work};

    /// A track of pictures 40 ms long with these composition offsets; every fourth is a sync sample.
    fn track(edit_offset: i64, composition_offsets: &[i32]) -> IndexedTrack {
        let timescale = Timescale::new(1_000).unwrap();
        let mut writer = IndexWriter::new(timescale);
        for (at, composition_offset) in composition_offsets.iter().enumerate() {
            let sample = NewSample {
                offset: at as u64 * 10,
                size: 10,
                duration: 40,
                composition_offset: *composition_offset,
                sync: at.is_multiple_of(4),
            };
            writer.push(sample).unwrap();
        }
        let facts = TrackFacts {
            source_track_id: 1,
            timescale,
            language: "und".into(),
            label: None,
        };
        // AAC-LC, 48 kHz, stereo: an index knows nothing of codings.
        let description = sample_entry::aac(&facts, &[0x11, 0x90]).unwrap();
        IndexedTrack::new(
            "track 1".into(),
            "/film".into(),
            description,
            &writer.finish(edit_offset).unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn no_time_is_below_zero_and_chunks_begin_where_decoding_can() {
        let check = |edit_offset, offsets: &[i32], shift_ms: i64, end_ms: i64| {
            let track = track(edit_offset, offsets);
            assert_eq!(
                (track.shift_ns(), track.end_ns()),
                (shift_ms * 1_000_000, end_ms * 1_000_000),
                "{offsets:?}"
            );
            let decoded = track
                .index
                .iter()
                .map(|sample| track.decode_ticks(sample.decode_time) + shift_ms);
            let shown = track
                .index
                .iter()
                .map(|sample| track.index.presentation_time(&sample) + shift_ms);
            assert!(
                decoded
                    .zip(shown)
                    .all(|(decoded, shown)| 0 <= decoded && decoded <= shown)
            );
        };
        check(0, &[0, 0, 0, 0], 0, 160);
        // I0 P3 B1 B2, with the edit that hides the delay, and by negative offsets.
        check(40, &[40, 120, 0, 0], 40, 160);
        check(0, &[0, 80, -40, -40], 40, 160);
        // Two pictures are decoded and not shown; a late start.
        check(80, &[0, 0, 0, 0], 80, 80);
        check(-500, &[0, 0], 0, 580);
        for (edit_offset, offsets, begin_ms) in [(0, [0, 0, 0], 0), (40, [40, 120, 0], 0), (-500, [0, 80, 40], 500)] {
            assert_eq!(track(edit_offset, &offsets).begin_ns(), begin_ms * 1_000_000);
        }
        let tracks = [track(-500, &[0, 0]), track(-120, &[0]), track(-121, &[0])];
        assert_eq!((beginning_ns(&tracks), beginning_ns(&[])), (Some(120_000_000), None));
        // There are no pictures among them.
        assert_eq!(silence_end_ns(&tracks[1], &tracks), None);
        let long = track(0, &[0; 12]);
        for (start_ms, expected) in [(0, 0), (159, 0), (160, 4), (161, 4), (320, 8), (10_000, 8)] {
            assert_eq!(long.entry(start_ms * 1_000_000), expected, "{start_ms}");
        }
        assert_eq!(long.frame_rate(), Some((25, 1)));
    }

    #[test]
    fn an_order_arrives_with_its_indexes_and_not_without() {
        let tracks = [track(0, &[0, 0, 0]), track(40, &[40, 120, 0, 0])];
        let order = Order {
            input: Some(Input::Tracks(tracks.iter().map(|track| track.input.clone()).collect())),
            folder: None,
            limits: Limits {
                memory_bytes: 0,
                processor_s: 0,
                file_size_bytes: 0,
            },
            work: Work::Probe,
        };
        let mut bytes = Vec::new();
        write_order(&order, &tracks, &mut bytes).unwrap();
        let (read, indexed) = read_order(&mut bytes.as_slice()).unwrap();
        assert_eq!(read.input, order.input);
        let counts: Vec<_> = indexed.iter().map(|track| track.index.sample_count()).collect();
        assert_eq!(counts, [3, 4]);
        for end in 0..bytes.len() {
            assert!(read_order(&mut bytes.get(..end).unwrap()).is_err(), "{end}");
        }
    }
}
