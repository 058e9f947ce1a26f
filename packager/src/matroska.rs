//! Matroska and WebM (RFC 9559), indexed where they lie: every frame becomes a byte range of the file.
//!
//! Only headers are read, in windows that jump over payloads; Cues are not needed and not looked at. Files that a live
//! muxer left open (clusters and segments of unknown size), that end early or that are damaged in places are served as
//! far as they go, and what is left out is told. How times are rebuilt is written in `timeline`.
//!
//! All tracks share one timeline: its zero is the smallest block timestamp of any served track. What CodecDelay says is
//! decoded before the first sound lies before a track's start, so in a file that starts with it, before zero.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod block;
mod cluster;
mod coding;
mod ebml;
mod header;
mod id;
mod text;
mod timeline;

use self::block::Block;
use self::cluster::Walk;
use self::coding::Coding;
use self::header::{Header, TrackEntry, TrackType};
use self::timeline::{AudioClock, Clock, RawFrame, Timeline};
use crate::codec::MediaKind;
use crate::limits::{FILE_SAMPLE_COUNT_MAX, SAMPLE_COUNT_MAX, SAMPLE_SIZE_BYTES_MAX};
use crate::source::{ReadAt, ReadError, Refusal, SourceTracks};
use crate::time::Timescale;
use crate::track::Track;
use crate::window::Window;

pub use self::text::{TextEntry, read_text, text_entries};

/// Largest read while going over blocks.
const WINDOW_SIZE_BYTES: usize = 64 << 10;

/// Why a file can not be indexed at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatroskaError {
    /// The file does not start with an EBML header.
    #[error("not a Matroska file")]
    NotMatroska,
    /// EBML, but something else than Matroska.
    #[error("EBML document type {doc_type:?} is not served")]
    DocType {
        /// What the file says it is.
        doc_type: String,
    },
    /// No Segment follows the EBML header.
    #[error("no Matroska segment at {offset}")]
    NoSegment {
        /// Where one was looked for.
        offset: u64,
    },
    /// There is no Tracks element.
    #[error("no track is described")]
    NoTracks,
    /// The file has no such text track.
    #[error("no text track {number}")]
    NoTextTrack {
        /// Track number asked for.
        number: u64,
    },
    /// A header element is damaged or exceeds our bounds.
    #[error("element {id:x} at {offset}: {what}")]
    Malformed {
        /// EBML id.
        id: u32,
        /// Where the element starts.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// Bytes could not be had.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Whether `first_bytes` (the first 4 KiB of a file, or all of a shorter one) start a Matroska or WebM file.
pub fn recognises(first_bytes: &[u8]) -> bool {
    header::recognises(first_bytes)
}

/// Indexes a file where it lies.
///
/// Tracks that can not be served, and places that were left out, are in [`SourceTracks::refused`]. Text tracks are in
/// neither list: see [`text_entries`].
pub fn read(source: &dyn ReadAt) -> Result<SourceTracks, MatroskaError> {
    let mut window = Window::new(source, WINDOW_SIZE_BYTES);
    let header = header::read(&mut window)?;
    let mut refused = Vec::new();
    let mut collectors = collectors(&header, &mut refused);
    let mut walk = Walk::new(&mut window, header.segment_start, header.segment_end);
    collect(&mut walk, &header, &mut collectors)?;
    refused.extend(walk.into_notes());
    let zero = collectors
        .iter()
        .filter_map(Collector::first_timestamp)
        .min()
        .unwrap_or(0);
    let clock = Clock {
        timestamp_scale: header.timestamp_scale,
        zero,
    };
    let mut tracks = Vec::new();
    for collector in collectors {
        let name = collector.name.clone();
        match collector.finish(source, clock)? {
            Ok((track, notes)) => {
                tracks.push(track);
                refused.extend(notes.into_iter().map(|why| Refusal {
                    what: name.clone(),
                    why,
                }));
            }
            Err(why) => refused.push(Refusal { what: name, why }),
        }
    }
    Ok(SourceTracks {
        tracks,
        refused,
        encryption: None,
        has_encrypted: false,
    })
}

/// What a track is called in refusals.
fn name_of(entry: &TrackEntry) -> String {
    let codec: String = entry
        .codec_id
        .chars()
        .filter(|c| c.is_ascii_graphic())
        .take(32)
        .collect();
    format!("track {} ({codec})", entry.number)
}

/// A collector for every track whose coding is served; the others are refused, text aside.
fn collectors(header: &Header, refused: &mut Vec<Refusal>) -> Vec<Collector> {
    let mut collectors: Vec<Collector> = Vec::new();
    for entry in &header.entries {
        let name = name_of(entry);
        if entry.track_type == TrackType::Subtitle && text::Format::of(entry).is_some() {
            continue;
        }
        let used = collectors
            .iter()
            .any(|collector| collector.entry.number == entry.number);
        let coding = match used {
            true => Err("its track number is used twice".to_owned()),
            false => Coding::of(entry),
        };
        match coding {
            Ok(coding) => collectors.push(Collector::new(entry.clone(), coding, name)),
            Err(why) => refused.push(Refusal { what: name, why }),
        }
    }
    collectors
}

/// Hands every block to its track's collector.
fn collect(walk: &mut Walk<'_, '_>, header: &Header, collectors: &mut [Collector]) -> Result<(), MatroskaError> {
    let mut block = Block::default();
    let mut samples_left = FILE_SAMPLE_COUNT_MAX;
    while walk.next_block(&mut block)? {
        if let Some(collector) = collectors
            .iter_mut()
            .find(|collector| collector.entry.number == block.track_number)
        {
            collector.take(walk, header, &block, &mut samples_left)?;
        }
    }
    Ok(())
}

/// Frames of one track, as they are found.
struct Collector {
    entry: TrackEntry,
    coding: Coding,
    name: String,
    frames: Vec<RawFrame>,
    /// DiscardPadding of the last block, in nanoseconds.
    discard_padding: i64,
    /// Pictures before the first that decoding can start with.
    undecodable_count: usize,
    /// Frames whose own header could not be read for how long they last.
    unclear_count: usize,
    too_large_count: usize,
    full: bool,
}

impl Collector {
    fn new(entry: TrackEntry, coding: Coding, name: String) -> Collector {
        Collector {
            entry,
            coding,
            name,
            frames: Vec::new(),
            discard_padding: 0,
            undecodable_count: 0,
            unclear_count: 0,
            too_large_count: 0,
            full: false,
        }
    }

    /// Smallest timestamp of a frame.
    fn first_timestamp(&self) -> Option<i64> {
        let stated = self.frames.iter().map(|frame| frame.timestamp);
        stated.filter(|timestamp| *timestamp != RawFrame::NO_TIMESTAMP).min()
    }

    fn take(
        &mut self,
        walk: &mut Walk<'_, '_>,
        header: &Header,
        block: &Block,
        samples_left: &mut usize,
    ) -> Result<(), MatroskaError> {
        for (lace_index, (offset, size)) in block.frames.iter().copied().enumerate() {
            if size > SAMPLE_SIZE_BYTES_MAX {
                self.too_large_count += 1;
                continue;
            }
            if self.frames.len() >= SAMPLE_COUNT_MAX || *samples_left == 0 {
                self.full = true;
                return Ok(());
            }
            let frame = match self.coding.kind() {
                MediaKind::Video => {
                    if self.frames.is_empty() && !block.keyframe {
                        self.undecodable_count += 1;
                        continue;
                    }
                    let surplus = self.coding.surplus_size(walk, offset)?.min(size);
                    self.picture(header, block, lace_index, offset + u64::from(surplus), size - surplus)
                }
                _ => self.sound(walk, block, lace_index, offset, size)?,
            };
            self.frames.push(frame);
            *samples_left -= 1;
        }
        if !block.frames.is_empty() {
            self.discard_padding = block.discard_padding;
        }
        Ok(())
    }

    /// Laced pictures follow one another at the track's default duration.
    fn picture(&self, header: &Header, block: &Block, lace_index: usize, offset: u64, size: u32) -> RawFrame {
        let default_ticks = self.entry.default_duration.unwrap_or(0) / header.timestamp_scale.max(1);
        let later = (lace_index as u64).saturating_mul(default_ticks);
        let frame_count = block.frames.len().max(1) as u64;
        let duration = block.duration.unwrap_or(0) / frame_count;
        RawFrame {
            offset,
            timestamp: block.timestamp.saturating_add_unsigned(later),
            size,
            duration: u32::try_from(duration).unwrap_or(0),
            sync: block.keyframe,
        }
    }

    fn sound(
        &mut self,
        walk: &mut Walk<'_, '_>,
        block: &Block,
        lace_index: usize,
        offset: u64,
        size: u32,
    ) -> Result<RawFrame, MatroskaError> {
        let stated = self.coding.frame_duration(walk, offset, size)?;
        let duration = stated.unwrap_or_else(|| {
            self.unclear_count += 1;
            self.frames
                .last()
                .map_or(self.coding.usual_frame_duration(), |frame| frame.duration)
        });
        Ok(RawFrame {
            offset,
            timestamp: match lace_index {
                0 => block.timestamp,
                _ if self.frames.is_empty() => block.timestamp,
                _ => RawFrame::NO_TIMESTAMP,
            },
            size,
            duration,
            sync: true,
        })
    }

    /// The track and what is to be said of it, or why it is not served.
    #[allow(clippy::type_complexity)]
    fn finish(
        mut self,
        source: &dyn ReadAt,
        clock: Clock,
    ) -> Result<Result<(Track, Vec<String>), String>, MatroskaError> {
        let Some(first) = self.frames.first() else {
            return Ok(Err(match self.undecodable_count {
                0 => "it has no frames".to_owned(),
                count => format!("none of its {count} pictures is a key frame"),
            }));
        };
        let first_frame = source.read_at(first.offset, first.size as usize)?;
        let timeline = match self.timeline(clock, &first_frame) {
            Ok(timeline) => timeline,
            Err(why) => return Ok(Err(why)),
        };
        let Timeline { index, mut notes } = timeline;
        let description = match self.coding.describe(&self.entry, &index, &first_frame) {
            Ok(description) => description,
            Err(why) => return Ok(Err(why)),
        };
        let mut count = |count: usize, what: &str| {
            if count > 0 {
                notes.push(format!("{count} {what}"));
            }
        };
        count(
            self.undecodable_count,
            "pictures before the first key frame are left out",
        );
        count(self.too_large_count, "frames are too large and left out");
        count(
            self.unclear_count,
            "frames do not say how long they last; as long as the one before is assumed",
        );
        count(usize::from(self.full), "track too long: the rest of it is left out");
        Ok(Ok((Track { description, index }, notes)))
    }

    fn timeline(&mut self, clock: Clock, first_frame: &[u8]) -> Result<Timeline, String> {
        let timeline = match self.coding.kind() {
            MediaKind::Video => timeline::video(&self.frames, clock, self.entry.default_duration),
            _ => {
                let rate = self.coding.sampling_rate(first_frame)?;
                let timescale = Timescale::new(rate).ok_or("its sampling rate is zero")?;
                let audio = AudioClock {
                    timescale,
                    delay: self.coding.delay(&self.entry, rate),
                    discard_padding: u64::try_from(self.discard_padding).unwrap_or(0),
                };
                timeline::audio(&mut self.frames, clock, audio)
            }
        };
        timeline.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
