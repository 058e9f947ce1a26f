//! The demuxer: a transport stream taken apart into samples as CMAF stores them (ISO/IEC 13818-1).
//!
//! Bytes go through four rooms: [`framing`] finds packets, [`tables`] knows which program they belong to, [`pes`] reads
//! time stamps, and [`video`] or [`audio`] cuts the elementary stream into samples. [`timeline`] turns 33-bit time stamps
//! into times that never wrap and never run back, for all tracks of the program together.
//!
//! One program is served: the first whose map names a stream with a known coding. What is left out is told by
//! [`Demuxer::refused`], once the stream has ended also what was damaged or not decodable.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod audio;
mod byte_stream;
mod coding;
mod frames;
mod framing;
mod nal;
mod packet;
mod parameter_sets;
mod pes;
mod section;
mod tables;
mod timeline;
mod video;

use std::collections::BTreeMap;

use self::audio::AudioTrack;
use self::coding::Coding;
use self::framing::Framing;
use self::packet::{Continuity, TransportPacket};
use self::pes::{Pes, PesEvent};
use self::section::SectionReader;
use self::tables::{MapStream, ProgramMap, Tables};
use self::timeline::{Stamp, Timeline};
use self::video::VideoTrack;
use super::{PACKET_SIZE, SYNC_BYTE, psi};
use crate::codec::MediaKind;
use crate::demux::{DemuxError, DemuxedTrack, Demuxer, Packet};
use crate::isobmff::sample_entry::TrackFacts;
use crate::limits::{TRACK_COUNT_MAX, TS_HELD_SIZE_BYTES_MAX, TS_MAP_SEARCH_SIZE_BYTES_MAX};
use crate::source::Refusal;
use crate::time::Timescale;
use crate::track::TrackDescription;

/// Takes MPEG-2 transport streams apart: packets of 188 bytes, also with the 4-byte time code of M2TS before them (192)
/// or 16 bytes of Reed-Solomon code behind them (204).
pub struct TsDemuxer {
    framing: Framing,
    tables: Tables,
    /// What each PID carries, as far as anybody asked.
    pids: BTreeMap<u16, Pid>,
    streams: Vec<Stream>,
    timeline: Timeline,
    tracks: Vec<DemuxedTrack>,
    refused: Vec<Refusal>,
    /// Source bytes before the packet under way.
    offset: u64,
}

/// What is done with the packets of a PID.
enum Pid {
    /// Program association.
    Association(SectionReader, Continuity),
    /// Maps of one or more programs.
    Map(SectionReader, Continuity),
    /// Index into the streams.
    Stream(usize),
}

/// An elementary stream that is served; its index is that of its track.
struct Stream {
    pid: u16,
    coding: Coding,
    continuity: Continuity,
    pes: Pes,
    samples: Samples,
    /// Packets were missing, and how often.
    gap_count: u64,
    /// The stream is not served any longer.
    closed: bool,
}

/// Cuts an elementary stream into samples.
enum Samples {
    Video(Box<VideoTrack>),
    Audio(Box<AudioTrack>),
}

/// A sample before it knows its track's number.
struct Sample {
    presentation_time: i64,
    decode_time: i64,
    duration: Option<u32>,
    sync: bool,
    data: Vec<u8>,
}

/// Why a track is not served (any longer), for people.
type Reason = String;

impl Samples {
    fn new(coding: Coding, facts: TrackFacts) -> Samples {
        match coding.kind() {
            MediaKind::Video => Samples::Video(Box::new(VideoTrack::new(coding, facts))),
            _ => Samples::Audio(Box::new(AudioTrack::new(coding, facts))),
        }
    }

    /// The stamp of a PES packet whose data comes next.
    fn stamp(&mut self, stamp: Stamp) {
        match self {
            Samples::Video(track) => track.stamp(stamp),
            Samples::Audio(track) => track.stamp(stamp),
        }
    }

    fn data(&mut self, bytes: &[u8], samples: &mut Vec<Sample>) -> Result<(), Reason> {
        match self {
            Samples::Video(track) => track.data(bytes, samples),
            Samples::Audio(track) => track.data(bytes, samples),
        }
    }

    /// Data was lost after what came so far.
    fn gap(&mut self, samples: &mut Vec<Sample>) -> Result<(), Reason> {
        match self {
            Samples::Video(track) => track.gap(samples),
            Samples::Audio(track) => track.gap(samples),
        }
    }

    fn finish(&mut self, samples: &mut Vec<Sample>) -> Result<(), Reason> {
        match self {
            Samples::Video(track) => track.finish(samples),
            Samples::Audio(track) => track.finish(samples),
        }
    }

    /// The description, when it has just become known.
    fn take_description(&mut self) -> Option<TrackDescription> {
        match self {
            Samples::Video(track) => track.take_description(),
            Samples::Audio(track) => track.take_description(),
        }
    }

    /// Where the samples so far end, if they say how long they last.
    fn end_90k(&self) -> Option<i64> {
        match self {
            Samples::Video(_) => None,
            Samples::Audio(track) => track.end_90k(),
        }
    }

    fn held_size(&self) -> usize {
        match self {
            Samples::Video(track) => track.held_size(),
            Samples::Audio(track) => track.held_size(),
        }
    }

    /// What was left out on the way, for people.
    fn notes(&self) -> Vec<String> {
        match self {
            Samples::Video(track) => track.notes(),
            Samples::Audio(track) => track.notes(),
        }
    }
}

impl Stream {
    fn name(&self) -> String {
        format!("PID {} ({})", self.pid, self.coding.name())
    }
}

impl Default for TsDemuxer {
    fn default() -> TsDemuxer {
        TsDemuxer::new()
    }
}

impl TsDemuxer {
    /// A demuxer that has seen nothing.
    pub fn new() -> TsDemuxer {
        let association = Pid::Association(SectionReader::default(), Continuity::default());
        TsDemuxer {
            framing: Framing::default(),
            tables: Tables::default(),
            pids: BTreeMap::from([(psi::PAT_PID, association)]),
            streams: Vec::new(),
            timeline: Timeline::default(),
            tracks: Vec::new(),
            refused: Vec::new(),
            offset: 0,
        }
    }

    fn error(&self, what: impl Into<String>) -> DemuxError {
        DemuxError {
            offset: self.offset,
            what: what.into(),
        }
    }

    fn refuse(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let refusal = Refusal {
            what: what.into(),
            why: why.into(),
        };
        if self.refused.len() < REFUSAL_COUNT_MAX && !self.refused.contains(&refusal) {
            self.refused.push(refusal);
        }
    }

    fn packet(&mut self, bytes: &[u8], packets: &mut Vec<Packet>) -> Result<(), DemuxError> {
        let Some(packet) = TransportPacket::parse(bytes) else {
            return Ok(());
        };
        match self.pids.get_mut(&packet.pid) {
            None => Ok(()),
            Some(Pid::Association(reader, continuity)) => {
                for section in sections(reader, continuity, &packet) {
                    self.association(&section);
                }
                Ok(())
            }
            Some(Pid::Map(reader, continuity)) => {
                for section in sections(reader, continuity, &packet) {
                    self.map(&section);
                }
                Ok(())
            }
            Some(Pid::Stream(index)) => {
                let index = *index;
                self.stream_packet(index, &packet, packets)
            }
        }
    }

    fn association(&mut self, section: &[u8]) {
        for pid in self.tables.association(section) {
            self.pids
                .entry(pid)
                .or_insert_with(|| Pid::Map(SectionReader::default(), Continuity::default()));
        }
    }

    fn map(&mut self, section: &[u8]) {
        let Some(map) = ProgramMap::parse(section) else {
            return;
        };
        if !self.tables.knows(map.program_number) {
            return;
        }
        let has_media = map.streams.iter().any(|stream| Coding::of(stream).is_ok());
        match self.tables.selected {
            Some(selected) if selected != map.program_number => {
                let what = format!("program {}", map.program_number);
                return self.refuse(what, format!("one program is served, and {selected} comes first"));
            }
            None if !has_media => {
                for stream in &map.streams {
                    self.refuse_stream(stream);
                }
                return;
            }
            _ => self.tables.selected = Some(map.program_number),
        }
        self.timeline.clock_pid = map.clock_pid;
        for stream in &map.streams {
            self.add_stream(stream);
        }
    }

    fn refuse_stream(&mut self, stream: &MapStream) {
        if let Err(reason) = Coding::of(stream) {
            self.refuse(format!("PID {}", stream.pid), reason);
        }
    }

    /// A stream of the served program: known already, a track from now on, or refused.
    fn add_stream(&mut self, stream: &MapStream) {
        let coding = match Coding::of(stream) {
            Ok(coding) => coding,
            Err(_) => return self.refuse_stream(stream),
        };
        match self.pids.get(&stream.pid) {
            Some(Pid::Stream(index)) => {
                let index = *index;
                let changed = self.streams.get(index).is_some_and(|known| known.coding != coding);
                if changed {
                    self.close(index, format!("its coding changes to {} midway", coding.name()));
                }
            }
            Some(_) => self.refuse(format!("PID {}", stream.pid), "it carries program tables too"),
            None if self.streams.len() >= TRACK_COUNT_MAX => {
                self.refuse(
                    format!("PID {}", stream.pid),
                    format!("at most {TRACK_COUNT_MAX} tracks are served"),
                );
            }
            None => {
                let facts = TrackFacts {
                    source_track_id: u32::from(stream.pid),
                    timescale: Timescale::MPEG_TS,
                    language: stream.language(),
                    label: None,
                };
                self.pids.insert(stream.pid, Pid::Stream(self.streams.len()));
                self.streams.push(Stream {
                    pid: stream.pid,
                    coding,
                    continuity: Continuity::default(),
                    pes: Pes::default(),
                    samples: Samples::new(coding, facts),
                    gap_count: 0,
                    closed: false,
                });
                self.tracks.push(DemuxedTrack {
                    description: None,
                    media_time: 0,
                });
            }
        }
    }

    /// Stops serving a track; what it gave so far stays.
    fn close(&mut self, index: usize, reason: Reason) {
        if let Some(stream) = self.streams.get_mut(index).filter(|stream| !stream.closed) {
            stream.closed = true;
            let name = stream.name();
            self.refuse(name, reason);
        }
    }

    fn stream_packet(
        &mut self,
        index: usize,
        packet: &TransportPacket<'_>,
        packets: &mut Vec<Packet>,
    ) -> Result<(), DemuxError> {
        if packet.discontinuity && self.timeline.clock_pid == packet.pid {
            self.timeline.announce();
        }
        let Some(stream) = self.streams.get_mut(index).filter(|stream| !stream.closed) else {
            return Ok(());
        };
        if packet.scrambled {
            self.close(index, "its packets are scrambled".to_owned());
            return Ok(());
        }
        let mut samples = Vec::new();
        let result = stream.take(index, packet, &mut self.timeline, &mut samples);
        self.deliver(index, result, samples, packets);
        if packet.unit_start {
            self.check_held()?;
        }
        Ok(())
    }

    /// Hands on what a stream gave.
    fn deliver(&mut self, index: usize, result: Result<(), Reason>, samples: Vec<Sample>, packets: &mut Vec<Packet>) {
        if let (Some(stream), Some(track)) = (self.streams.get_mut(index), self.tracks.get_mut(index))
            && let Some(description) = stream.samples.take_description()
        {
            track.description = Some(description);
        }
        packets.extend(samples.into_iter().map(|sample| Packet {
            track: index,
            presentation_time: sample.presentation_time,
            decode_time: sample.decode_time,
            duration: sample.duration,
            sync: sample.sync,
            data: sample.data.into(),
        }));
        if let Err(reason) = result {
            self.close(index, reason);
        }
    }

    fn check_held(&self) -> Result<(), DemuxError> {
        let held: usize = self.streams.iter().map(|stream| stream.samples.held_size()).sum();
        if held > TS_HELD_SIZE_BYTES_MAX {
            return Err(self.error(format!("{held} bytes of unfinished samples")));
        }
        Ok(())
    }

    fn check_map(&self) -> Result<(), DemuxError> {
        if self.tables.selected.is_none() && self.offset > TS_MAP_SEARCH_SIZE_BYTES_MAX {
            return Err(self.error("no program with video or audio so far"));
        }
        Ok(())
    }
}

/// Distinct refusals that are kept.
const REFUSAL_COUNT_MAX: usize = 256;

/// Sections that a packet completes.
fn sections(reader: &mut SectionReader, continuity: &mut Continuity, packet: &TransportPacket<'_>) -> Vec<Vec<u8>> {
    match continuity.follow(packet) {
        packet::Follows::Repeated => return Vec::new(),
        packet::Follows::Gap => reader.reset(),
        packet::Follows::Next => {}
    }
    if packet.scrambled {
        return Vec::new();
    }
    reader.push(packet.unit_start, packet.payload)
}

impl Stream {
    fn take(
        &mut self,
        index: usize,
        packet: &TransportPacket<'_>,
        timeline: &mut Timeline,
        samples: &mut Vec<Sample>,
    ) -> Result<(), Reason> {
        match self.continuity.follow(packet) {
            packet::Follows::Repeated => return Ok(()),
            packet::Follows::Next => {}
            packet::Follows::Gap => {
                // Where a unit starts anew nothing may be missing: segments of other muxers begin so.
                if !packet.unit_start || self.pes.is_short() {
                    self.gap_count += 1;
                    self.samples.gap(samples)?;
                }
                self.pes.reset();
            }
        }
        self.pes.push(packet, |event| match event {
            PesEvent::Start(times) => {
                let stamp = timeline.stamp(index, times, packet.random_access);
                self.samples.stamp(stamp);
                Ok(())
            }
            PesEvent::Data(bytes) => self.samples.data(bytes, samples),
            PesEvent::Scrambled => Err("its PES packets are scrambled".to_owned()),
        })?;
        if let Some(end_90k) = self.samples.end_90k() {
            timeline.reached(index, end_90k);
        }
        Ok(())
    }
}

impl Demuxer for TsDemuxer {
    fn push(&mut self, bytes: &[u8], packets: &mut Vec<Packet>) -> Result<(), DemuxError> {
        self.framing.push(bytes);
        self.drain(false, packets)
    }

    fn finish(&mut self, packets: &mut Vec<Packet>) -> Result<(), DemuxError> {
        self.drain(true, packets)?;
        if self.tables.selected.is_none() {
            return Err(self.error("no program with video or audio"));
        }
        for index in 0..self.streams.len() {
            let Some(stream) = self.streams.get_mut(index) else {
                break;
            };
            let mut samples = Vec::new();
            let result = match stream.closed {
                true => Ok(()),
                false => stream.samples.finish(&mut samples),
            };
            self.deliver(index, result, samples, packets);
            self.note_what_is_missing(index);
        }
        Ok(())
    }

    fn tracks(&self) -> &[DemuxedTrack] {
        &self.tracks
    }

    fn refused(&self) -> &[Refusal] {
        &self.refused
    }
}

impl TsDemuxer {
    /// Takes the packets that are complete; at the end of the source also those at which nothing can be checked.
    fn drain(&mut self, at_end: bool, packets: &mut Vec<Packet>) -> Result<(), DemuxError> {
        let mut framing = std::mem::take(&mut self.framing);
        let result = loop {
            match framing.next(at_end) {
                Ok(Some(packet)) => {
                    self.offset = packet.offset;
                    if let Err(error) = self.packet(packet.bytes, packets) {
                        break Err(error);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        framing.compact();
        self.framing = framing;
        result?;
        self.check_map()
    }

    fn note_what_is_missing(&mut self, index: usize) {
        let Some(stream) = self.streams.get(index) else {
            return;
        };
        let name = stream.name();
        let mut notes = stream.samples.notes();
        if stream.gap_count > 0 {
            notes.push(format!("packets are missing in {} places", stream.gap_count));
        }
        let known = self.tracks.get(index).is_some_and(|track| track.description.is_some());
        if !known && !stream.closed {
            notes.push("nothing in it could be decoded".to_owned());
        }
        for note in notes {
            self.refuse(name.clone(), note);
        }
    }
}

/// Whether a file that begins with `first_bytes` is a transport stream: sync bytes stand at one of the usual distances
/// (188, M2TS's 192, 204 with error correction), from somewhere in the first packet on, as often as there is room for
/// up to eight.
pub fn recognises(first_bytes: &[u8]) -> bool {
    const COUNT: usize = 8;
    [PACKET_SIZE, 192, 204].into_iter().any(|distance| {
        (0..distance.min(first_bytes.len())).any(|start| {
            let mut at_each = first_bytes.iter().skip(start).step_by(distance).take(COUNT);
            let room = (first_bytes.len() - start).div_ceil(distance).min(COUNT);
            room >= 2 && at_each.all(|byte| *byte == SYNC_BYTE)
        })
    })
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
