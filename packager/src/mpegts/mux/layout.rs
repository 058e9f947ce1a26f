//! A segment laid out: every packet has its place, while the media lies where it was.
//!
//! What a transport stream costs before its first byte can be sent is to look into all samples. That is done once; after
//! that any part of the segment can be written from its own samples alone, in any order, for anybody.

use std::borrow::Cow;
use std::ops::Range;

use super::super::psi::{self, PAT_PID, StreamEntry};
use super::super::sample_aes::SampleCoding;
use super::super::{PACKET_SIZE, PAYLOAD_SIZE, SampleFault, sample_aes};
use super::packet::{write_clock, write_table};
use super::schedule::{Emission, schedule};
use super::stream::{Frame, Protection, Stream, Unit};
use super::{Form, MuxError, MuxSample, MuxTrack, Segment, carries_encrypted};
use crate::crypto::sample_aes::SampleAes;
use crate::limits::SEGMENT_SIZE_BYTES_MAX;

const PROGRAM_NUMBER: u16 = 1;
pub(super) const MAP_PID: u16 = 0x1000;

/// PAT and PMT.
type Tables = (Vec<u8>, Vec<u8>);

/// One segment of which all is known but the bytes of its samples.
#[derive(Clone)]
pub struct SegmentLayout {
    tables: Tables,
    table_counter: u8,
    streams: Vec<Stream>,
    /// By track.
    frames: Vec<Vec<Frame>>,
    schedule: Vec<Emission>,
    /// The last one is the end.
    parts: Vec<Part>,
    /// What encrypts the samples, and what they are, by track.
    cipher: Option<(SampleAes, Vec<SampleCoding>)>,
}

/// Where a part begins.
#[derive(Clone, Debug, Default)]
struct Part {
    /// In the schedule.
    emission: usize,
    /// In the segment, in bytes.
    start: u64,
    /// By track.
    cursors: Vec<Cursor>,
}

/// How far a track has got.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    sample: usize,
    /// Bytes of its samples before this one.
    media_size: u64,
    /// Of the next packet with payload.
    counter: u8,
}

impl SegmentLayout {
    pub(super) fn of(
        segment: &Segment<'_>,
        cipher: Option<&SampleAes>,
        part_size: usize,
    ) -> Result<SegmentLayout, MuxError> {
        let codings: Vec<SampleCoding> = segment
            .tracks
            .iter()
            .map(|track| SampleCoding::of(track.description))
            .collect();
        let protection = match cipher {
            Some(_) => Protection::SampleAes,
            None => Protection::Clear,
        };
        let streams = streams(segment, protection)?;
        let lines = streams.iter().zip(segment.tracks);
        let tables = tables(
            &streams,
            lines.map(|(stream, of)| stream.entry(of, protection)).collect(),
        )?;
        let sizes = segment.tracks.iter().flat_map(|track| track.samples);
        too_large(sizes.map(|sample| sample.data.len() as u64).sum())?;
        let (mut units, mut frames) = (Vec::new(), Vec::new());
        for (track, ((of, stream), coding)) in segment.tracks.iter().zip(&streams).zip(&codings).enumerate() {
            let stored_sizes = of.samples.iter().map(|sample| sample.data.len());
            let (of_track, frames_of_track) = match cipher {
                None => stream.units(of.samples, stored_sizes)?,
                Some(cipher) => {
                    let encrypted = encrypted(cipher, *coding, track, of.samples)?;
                    let samples = of.samples.iter().zip(&encrypted);
                    let samples: Vec<MuxSample<'_>> =
                        samples.map(|(sample, data)| MuxSample { data, ..*sample }).collect();
                    stream.units(&samples, stored_sizes)?
                }
            };
            units.push(of_track);
            frames.push(frames_of_track);
        }
        let ends = segment.tracks.iter().map(|track| {
            let sizes = track.samples.iter().map(|sample| sample.data.len() as u64);
            (track.samples.len(), sizes.sum())
        });
        let ends: Vec<(usize, u64)> = ends.collect();
        let schedule = schedule(units);
        let parts = parts(&schedule, &frames, &ends, part_size);
        too_large(parts.last().map_or(0, |end| end.start))?;
        Ok(SegmentLayout {
            tables,
            table_counter: (segment.number % 16) as u8,
            streams,
            frames,
            schedule,
            parts,
            cipher: cipher.map(|cipher| (cipher.clone(), codings)),
        })
    }

    /// Bytes of the whole segment.
    pub fn size(&self) -> u64 {
        self.parts.last().map_or(0, |end| end.start)
    }

    /// Where its parts begin, in bytes, and its end.
    pub fn starts(&self) -> impl ExactSizeIterator<Item = u64> {
        self.parts.iter().map(|part| part.start)
    }

    /// How many parts there are; at least one.
    pub fn part_count(&self) -> usize {
        self.parts.len().saturating_sub(1)
    }

    /// How many tracks it has.
    pub fn track_count(&self) -> usize {
        self.streams.len()
    }

    /// The samples of `track` that part `part` is written of, 0-based among those of the segment.
    pub fn samples(&self, part: usize, track: usize) -> Range<usize> {
        self.cursors(part, track)
            .map_or(0..0, |(from, to)| from.sample..to.sample)
    }

    /// The bytes of them, in all that the segment has of the track.
    pub fn media(&self, part: usize, track: usize) -> Range<u64> {
        let found = self.cursors(part, track);
        found.map_or(0..0, |(from, to)| from.media_size..to.media_size)
    }

    fn cursors(&self, part: usize, track: usize) -> Option<(&Cursor, &Cursor)> {
        let (part, next) = (self.parts.get(part)?, self.parts.get(part.checked_add(1)?)?);
        Some((part.cursors.get(track)?, next.cursors.get(track)?))
    }

    /// Memory it takes, in bytes.
    pub fn weight_bytes(&self) -> usize {
        let frames: usize = self.frames.iter().map(|frames| size_of_val(frames.as_slice())).sum();
        let parts = self.parts.len() * (size_of::<Part>() + self.streams.len() * size_of::<Cursor>());
        // A stream has its parameter sets, a cipher its expanded key.
        size_of_val(self.schedule.as_slice()) + frames + parts + self.streams.len() * 512 + 1_024
    }

    /// Appends part `part` to `out`. `media` has the bytes of [`SegmentLayout::media`] of each track. What was appended is
    /// of no use after an error.
    pub fn write(&self, part: usize, media: &[&[u8]], out: &mut Vec<u8>) -> Result<(), MuxError> {
        let (Some(part), Some(next)) = (self.parts.get(part), self.parts.get(part.saturating_add(1))) else {
            return Err(MuxError::Changed);
        };
        let mut counters: Vec<u8> = part.cursors.iter().map(|cursor| cursor.counter).collect();
        let mut media = media.to_vec();
        let begun = out.len();
        if part.emission == 0 {
            let (association, map) = &self.tables;
            write_table(PAT_PID, self.table_counter, association, out);
            write_table(MAP_PID, self.table_counter, map, out);
        }
        for emission in self.schedule.get(part.emission..next.emission).unwrap_or_default() {
            let track = emission.track();
            let (Some(stream), Some(counter)) = (self.streams.get(track), counters.get_mut(track)) else {
                return Err(MuxError::Changed);
            };
            match emission {
                Emission::Clock { pcr_90k, .. } => write_clock(stream.pid, *counter, *pcr_90k, out),
                Emission::Unit(unit) => {
                    let rest = media.get_mut(track).ok_or(MuxError::Changed)?;
                    let next = |frame: &Frame| self.next(track, unit, frame, rest);
                    if !stream.write(unit, self.frames_of(unit), next, counter, out)? {
                        return Err(MuxError::Changed);
                    }
                }
            }
        }
        let whole = (out.len() - begun) as u64 == next.start - part.start;
        match whole && media.iter().all(|rest| rest.is_empty()) {
            true => Ok(()),
            false => Err(MuxError::Changed),
        }
    }

    /// The next sample of what is left of a track's media, as it is sent.
    fn next<'s>(
        &self,
        track: usize,
        unit: &Unit,
        frame: &Frame,
        rest: &mut &'s [u8],
    ) -> Result<Cow<'s, [u8]>, MuxError> {
        let sample = rest.split_off(..frame.stored_size).ok_or(MuxError::Changed)?;
        let Some((cipher, codings)) = &self.cipher else {
            return Ok(Cow::Borrowed(sample));
        };
        let coding = codings.get(track).ok_or(MuxError::Changed)?;
        let encrypted = sample_aes::encrypted(cipher, *coding, sample);
        let fault = |fault| sample_fault(track, unit.samples.start, fault);
        encrypted.map(Cow::Owned).map_err(fault)
    }

    fn frames_of(&self, unit: &Unit) -> &[Frame] {
        let frames = self.frames.get(unit.track);
        frames
            .and_then(|frames| frames.get(unit.frames.clone()))
            .unwrap_or_default()
    }

    /// All of `segment`, which was laid out in one part.
    pub(super) fn write_all(&self, segment: &Segment<'_>) -> Result<Vec<u8>, MuxError> {
        let of = |track: &MuxTrack<'_>| {
            track
                .samples
                .iter()
                .map(|sample| sample.data)
                .collect::<Vec<_>>()
                .concat()
        };
        let media: Vec<Vec<u8>> = segment.tracks.iter().map(of).collect();
        let media: Vec<&[u8]> = media.iter().map(Vec::as_slice).collect();
        let mut out = Vec::with_capacity(self.size() as usize);
        self.write(0, &media, &mut out)?;
        Ok(out)
    }
}

fn too_large(size_bytes: u64) -> Result<(), MuxError> {
    match size_bytes > SEGMENT_SIZE_BYTES_MAX {
        true => Err(MuxError::TooLarge { size_bytes }),
        false => Ok(()),
    }
}

fn sample_fault(track: usize, sample: usize, fault: SampleFault) -> MuxError {
    MuxError::Sample { track, sample, fault }
}

/// Cuts a schedule into parts, so that each has `part_size` bytes of media or one picture. `ends` are the samples of each
/// track and their bytes.
fn parts(schedule: &[Emission], frames: &[Vec<Frame>], ends: &[(usize, u64)], part_size: usize) -> Vec<Part> {
    let mut at = Part {
        emission: 0,
        start: 0,
        cursors: vec![Cursor::default(); ends.len()],
    };
    let mut parts = vec![at.clone()];
    // PAT and PMT.
    at.start = 2 * PACKET_SIZE as u64;
    let mut size = 0_usize;
    for (emission, next) in schedule.iter().enumerate() {
        if let Emission::Unit(unit) = next {
            let of_track = frames
                .get(unit.track)
                .and_then(|frames| frames.get(unit.frames.clone()));
            let unit_size: usize = of_track.unwrap_or_default().iter().map(|frame| frame.stored_size).sum();
            if size > 0 && size.saturating_add(unit_size) > part_size {
                at.emission = emission;
                parts.push(at.clone());
                size = 0;
            }
            size += unit_size;
            if let Some(cursor) = at.cursors.get_mut(unit.track) {
                cursor.sample = unit.samples.end;
                cursor.media_size += unit_size as u64;
                cursor.counter = (cursor.counter + (unit.packet_count % 16) as u8) & 15;
            }
        }
        at.start += next.packet_count() * PACKET_SIZE as u64;
    }
    at.emission = schedule.len();
    for (cursor, (sample_count, media_size)) in at.cursors.iter_mut().zip(ends) {
        (cursor.sample, cursor.media_size) = (*sample_count, *media_size);
    }
    parts.push(at);
    parts
}

fn encrypted(
    cipher: &SampleAes,
    coding: SampleCoding,
    track: usize,
    samples: &[MuxSample<'_>],
) -> Result<Vec<Vec<u8>>, MuxError> {
    let samples = samples.iter().enumerate();
    let encrypted = samples.map(|(number, sample)| {
        let fault = |fault| sample_fault(track, number, fault);
        sample_aes::encrypted(cipher, coding, sample.data).map_err(fault)
    });
    encrypted.collect()
}

fn streams(segment: &Segment<'_>, protection: Protection) -> Result<Vec<Stream>, MuxError> {
    let clock = segment
        .tracks
        .iter()
        .position(|track| track.description.video().is_some());
    let clock = clock.unwrap_or(0);
    let stream = |(track, of): (usize, &MuxTrack<'_>)| {
        let refused = |reason| MuxError::NotCarried { track, reason };
        if protection == Protection::SampleAes {
            carries_encrypted(of.description).map_err(refused)?;
        }
        let form = Form::of(of.description).map_err(refused)?;
        Ok(Stream::new(track, of.description, form, track == clock, protection))
    };
    segment.tracks.iter().enumerate().map(stream).collect()
}

/// PAT and PMT, each in one packet behind its pointer field.
fn tables(streams: &[Stream], entries: Vec<StreamEntry>) -> Result<Tables, MuxError> {
    let clock_pid = streams.iter().find(|stream| stream.clock).map(|stream| stream.pid);
    // 0x1fff: no clock, for no tracks (ISO/IEC 13818-1 2.4.4.9).
    let map = psi::program_map(PROGRAM_NUMBER, clock_pid.unwrap_or(0x1fff), &entries);
    if map.len() >= PAYLOAD_SIZE {
        return Err(MuxError::TooManyTracks { count: streams.len() });
    }
    Ok((psi::program_association(PROGRAM_NUMBER, MAP_PID), map))
}
