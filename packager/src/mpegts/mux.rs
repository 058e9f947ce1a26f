//! The muxer: one HLS segment of MPEG-2 transport stream from samples (RFC 8216bis 3.1.1, ISO/IEC 13818-1).
//!
//! Segments are built one by one, in any order, by any process, and must still play as one stream when a player reads
//! them in turn. Continuity counters are where that goes wrong: starting from zero makes ffmpeg mark the first picture
//! of each segment as corrupt, and GStreamer drop data. Two ways out were rejected. A `discontinuity_indicator` on the
//! PID of the PCR announces a new system clock (ISO/IEC 13818-1 2.4.3.5), which there is not, and receivers restart
//! theirs. Packets that hold an adaptation field alone do not count (2.4.3.3), so they cannot fill up a counter. What
//! works: every elementary PID sends a multiple of 16 packets with payload in a segment, so that each segment starts and
//! ends at zero, whichever came before. The packets that are missing from a multiple of 16 are gained by spreading the
//! end of a PES packet over more of them, 1.4 kB a track on average. PAT and PMT are one packet a segment; they count
//! segments.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod packet;
mod schedule;
mod stream;

use self::packet::{write_clock, write_table};
use self::schedule::{Emission, schedule};
use self::stream::{Protection, Stream};
use super::elementary::Form;
use super::psi::{self, PAT_PID, StreamEntry};
use super::{PACKET_SIZE, PAYLOAD_SIZE, SampleFault, sample_aes};
use crate::crypto::sample_aes::SampleAes;
use crate::limits::SEGMENT_SIZE_BYTES_MAX;
use crate::track::TrackDescription;

/// How far the program clock runs behind decode times: half a second, which is time enough for any picture to arrive.
/// Decode times below this make a clock that wraps at the start of the presentation, which players take badly.
pub const PCR_DELAY_90K: i64 = 45_000;

const PROGRAM_NUMBER: u16 = 1;
const MAP_PID: u16 = 0x1000;
const FIRST_ELEMENTARY_PID: u16 = 0x100;

/// A sample of a segment.
#[derive(Clone, Copy, Debug)]
pub struct MuxSample<'a> {
    /// When it is shown, in ticks of 90 kHz on the transport stream's timeline; written modulo 2^33.
    pub presentation_time_90k: i64,
    /// When it is decoded, at most `presentation_time_90k`. Where composition offsets are negative, the caller has moved
    /// all decode times of the track back by [`crate::index::TrackIndex::decode_delay`].
    pub decode_time_90k: i64,
    /// Decoding can start here.
    pub sync: bool,
    /// The sample as CMAF stores it.
    pub data: &'a [u8],
}

/// A track's part of a segment.
#[derive(Clone, Copy, Debug)]
pub struct MuxTrack<'a> {
    /// What the samples are.
    pub description: &'a TrackDescription,
    /// In decode order.
    pub samples: &'a [MuxSample<'a>],
}

/// One segment to build. A single sync sample of a video track makes an I-frame segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Number of the segment in its presentation; neighbours differ by one.
    pub number: u64,
    /// Tracks of the program, the same in every segment. The first video track carries the clock, or the first track.
    pub tracks: &'a [MuxTrack<'a>],
}

/// Why a segment was not built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MuxError {
    /// The track's coding does not go into this container.
    #[error("track {track}: {reason}")]
    NotCarried {
        /// 0-based, as given.
        track: usize,
        /// For people.
        reason: &'static str,
    },
    /// A sample can not be written.
    #[error("track {track}, sample {sample}")]
    Sample {
        /// 0-based, as given.
        track: usize,
        /// 0-based in the segment.
        sample: usize,
        /// What is wrong with it.
        #[source]
        fault: SampleFault,
    },
    /// The program map does not fit its packet.
    #[error("{count} tracks do not fit the program map")]
    TooManyTracks {
        /// How many there are.
        count: usize,
    },
    /// More than [`SEGMENT_SIZE_BYTES_MAX`].
    #[error("segment of {size_bytes} bytes, at most {SEGMENT_SIZE_BYTES_MAX} are built")]
    TooLarge {
        /// Bytes it would have.
        size_bytes: u64,
    },
}

/// Whether the muxer takes a track, or the reason it does not, for people.
pub fn carries(description: &TrackDescription) -> Result<(), &'static str> {
    Form::of(description).map(|_| ())
}

/// Whether the muxer can encrypt a track, or the reason it can not, for people.
pub fn carries_encrypted(description: &TrackDescription) -> Result<(), &'static str> {
    carries(description).and_then(|()| sample_aes::carries(description))
}

impl<'a> Segment<'a> {
    /// The segment's bytes: PAT, PMT, then PES packets of all tracks in order of decode time.
    pub fn write(&self) -> Result<Vec<u8>, MuxError> {
        self.write_streams(self.streams(Protection::Clear)?)
    }

    /// The same with all samples encrypted, for HLS `METHOD=SAMPLE-AES`.
    pub fn write_encrypted(&self, cipher: &SampleAes) -> Result<Vec<u8>, MuxError> {
        let sizes = self.tracks.iter().flat_map(|track| track.samples);
        let size_bytes = sizes.map(|sample| sample.data.len() as u64).sum();
        if size_bytes > SEGMENT_SIZE_BYTES_MAX {
            return Err(MuxError::TooLarge { size_bytes });
        }
        let mut encrypted = Vec::with_capacity(self.tracks.len());
        for (track, of) in self.tracks.iter().enumerate() {
            carries_encrypted(of.description).map_err(|reason| MuxError::NotCarried { track, reason })?;
            let mut samples = Vec::with_capacity(of.samples.len());
            for (sample, clear) in of.samples.iter().enumerate() {
                let bytes = sample_aes::encrypted(cipher, of.description, clear.data)
                    .map_err(|fault| MuxError::Sample { track, sample, fault })?;
                samples.push(bytes);
            }
            encrypted.push(samples);
        }
        let samples: Vec<Vec<MuxSample<'_>>> = std::iter::zip(self.tracks, &encrypted)
            .map(|(track, data)| {
                let samples = std::iter::zip(track.samples, data);
                samples.map(|(sample, data)| MuxSample { data, ..*sample }).collect()
            })
            .collect();
        let tracks: Vec<MuxTrack<'_>> = std::iter::zip(self.tracks, &samples)
            .map(|(track, samples)| MuxTrack { samples, ..*track })
            .collect();
        let segment = Segment {
            number: self.number,
            tracks: &tracks,
        };
        segment.write_streams(segment.streams(Protection::SampleAes)?)
    }

    /// Lays the segment out, to be written piece by piece; together that is [`Segment::write`].
    pub fn writer(&self) -> Result<Writer<'a>, MuxError> {
        self.writer_of(self.streams(Protection::Clear)?)
    }

    fn write_streams(&self, streams: Vec<Stream<'a>>) -> Result<Vec<u8>, MuxError> {
        let mut writer = self.writer_of(streams)?;
        let mut out = Vec::with_capacity(writer.size_bytes);
        while writer.write(usize::MAX, &mut out) {}
        debug_assert_eq!(
            out.len(),
            writer.size_bytes,
            "the layout pass and the write pass disagree"
        );
        Ok(out)
    }

    fn writer_of(&self, streams: Vec<Stream<'a>>) -> Result<Writer<'a>, MuxError> {
        let tables = tables(&streams)?;
        let mut tracks = Vec::with_capacity(streams.len());
        for stream in &streams {
            tracks.push(stream.units()?);
        }
        let schedule = schedule(tracks);
        let size_bytes = (2 + schedule.iter().map(Emission::packet_count).sum::<u64>()) * PACKET_SIZE as u64;
        if size_bytes > SEGMENT_SIZE_BYTES_MAX {
            return Err(MuxError::TooLarge { size_bytes });
        }
        Ok(Writer {
            tables: Some((tables, (self.number % 16) as u8)),
            counters: vec![0; streams.len()],
            streams,
            schedule: schedule.into_iter(),
            size_bytes: size_bytes as usize,
        })
    }

    fn streams(&self, protection: Protection) -> Result<Vec<Stream<'a>>, MuxError> {
        let clock = self.tracks.iter().position(|track| track.description.video().is_some());
        let clock = clock.unwrap_or(0);
        let mut streams = Vec::with_capacity(self.tracks.len());
        for (index, track) in self.tracks.iter().enumerate() {
            let form = Form::of(track.description).map_err(|reason| MuxError::NotCarried { track: index, reason })?;
            streams.push(Stream::new(index, track, form, index == clock, protection));
        }
        Ok(streams)
    }
}

/// PAT and PMT.
type Tables = (Vec<u8>, Vec<u8>);

/// A segment that is laid out and written as far as its reader wants.
pub struct Writer<'a> {
    /// PAT and PMT with their counter, until they are written.
    tables: Option<(Tables, u8)>,
    streams: Vec<Stream<'a>>,
    counters: Vec<u8>,
    schedule: std::vec::IntoIter<Emission>,
    size_bytes: usize,
}

impl Writer<'_> {
    /// Bytes of the whole segment.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Appends whole PES packets to `out` until they are about `size_bytes` or more. False when nothing is left to write.
    pub fn write(&mut self, size_bytes: usize, out: &mut Vec<u8>) -> bool {
        let end = out.len().saturating_add(size_bytes);
        if let Some(((association, map), counter)) = self.tables.take() {
            write_table(PAT_PID, counter, &association, out);
            write_table(MAP_PID, counter, &map, out);
        }
        while out.len() < end {
            let Some(emission) = self.schedule.next() else {
                return false;
            };
            let track = emission.track();
            let (Some(stream), Some(counter)) = (self.streams.get(track), self.counters.get_mut(track)) else {
                continue;
            };
            match &emission {
                Emission::Clock { pcr_90k, .. } => write_clock(stream.pid, *counter, *pcr_90k, out),
                Emission::Unit(unit) => stream.write(unit, counter, out),
            }
        }
        true
    }
}

/// PAT and PMT, each in one packet behind its pointer field.
fn tables(streams: &[Stream<'_>]) -> Result<Tables, MuxError> {
    let clock_pid = streams.iter().find(|stream| stream.clock).map(|stream| stream.pid);
    let entries: Vec<StreamEntry> = streams.iter().map(Stream::entry).collect();
    // 0x1fff: no clock, for no tracks (ISO/IEC 13818-1 2.4.4.9).
    let map = psi::program_map(PROGRAM_NUMBER, clock_pid.unwrap_or(0x1fff), &entries);
    if map.len() >= PAYLOAD_SIZE {
        return Err(MuxError::TooManyTracks { count: streams.len() });
    }
    Ok((psi::program_association(PROGRAM_NUMBER, MAP_PID), map))
}

#[cfg(test)]
#[allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods
)]
mod tests;
