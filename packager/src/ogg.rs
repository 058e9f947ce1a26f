//! Ogg (RFC 3533) taken apart: the first Opus (RFC 7845) or FLAC (RFC 9639 10.1) stream of a file.
//!
//! Time is counted in samples from the first packet; granule positions tell where pages were lost (time goes on behind
//! the gap) and where the last packet ends. Opus says in its header how many samples precede the first to be heard.
//! Other streams, and files put behind the first one (chains), are refused.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod page;

use bytes::Bytes;

use self::page::{Found, PAGE_SIZE_MAX, Page};
use crate::codec::flac::{self, StreamInfo};
use crate::codec::opus::{self, OpusConfig};
use crate::demux::{DemuxError, DemuxedTrack, Demuxer, Packet};
use crate::isobmff::sample_entry::{self, TrackFacts};
use crate::source::Refusal;
use crate::time::Timescale;
use crate::track::TrackDescription;

/// Longest packet kept; an Opus packet of 120 ms in 255 streams would be rejected, uncompressed FLAC of 8 channels passes.
const PACKET_SIZE_BYTES_MAX: usize = 4 << 20;

/// Bytes at the start in which the first page must be found.
const JUNK_SIZE_BYTES_MAX: u64 = 64 << 10;

/// Streams of which each is told that it is not served.
const REFUSED_COUNT_MAX: usize = 64;

/// Longest gap that granule positions are believed, in seconds.
const GAP_S_MAX: i64 = 3_600;

/// Whether the first bytes of a file are those of an Ogg page.
pub fn recognises(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(b"OggS\0")
}

/// Takes Ogg files apart.
#[derive(Debug, Default)]
pub struct OggDemuxer {
    /// Bytes that are not a whole page yet.
    buffer: Vec<u8>,
    /// Where `buffer` starts in the source.
    offset: u64,
    page_count: u64,
    /// Bytes between pages.
    junk_size: u64,
    stream: Option<Stream>,
    /// A page of a stream that is not its first has been seen: further first pages begin a new chain link.
    headers_done: bool,
    /// The rest of the source is not looked at.
    done: bool,
    tracks: Vec<DemuxedTrack>,
    refused: Vec<Refusal>,
}

/// Coding of the served stream.
#[derive(Clone, Copy, Debug)]
enum Coding {
    Opus,
    Flac(StreamInfo),
}

impl Coding {
    /// Samples of a packet, or `None` when it is no sound.
    fn samples(&self, packet: &[u8]) -> Option<u32> {
        match self {
            Coding::Opus => opus::packet_samples(packet).ok(),
            Coding::Flac(info) => {
                let header = flac::FrameHeader::parse(packet).ok()?;
                header.fits(info).then_some(header.block_samples)
            }
        }
    }

    /// Samples a second.
    fn rate(&self) -> u32 {
        match self {
            Coding::Opus => opus::SAMPLING_RATE,
            Coding::Flac(info) => info.sampling_rate,
        }
    }
}

/// The stream that is served.
#[derive(Debug)]
struct Stream {
    serial: u32,
    coding: Coding,
    /// Number of the page that must come next.
    sequence: u32,
    /// Header packets that are still to come; FLAC ones are told by their content.
    header_count: u32,
    /// A packet that goes on on the next page.
    partial: Option<Vec<u8>>,
    /// The packet in progress began on a page that is lost, or is too long.
    skipping: bool,
    /// Samples since the first packet.
    position: i64,
    /// Granule position less `position` at the end of the first page with sound.
    granule_base: Option<i64>,
    bad_packet_count: usize,
    gap_count: usize,
}

impl OggDemuxer {
    /// A demuxer that has seen nothing.
    pub fn new() -> OggDemuxer {
        OggDemuxer::default()
    }

    /// Takes whole pages from the front of the buffer.
    fn take_pages(&mut self, packets: &mut Vec<Packet>, at_end: bool) -> Result<(), DemuxError> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        while !self.done && !rest.is_empty() {
            let taken = match Page::find(rest) {
                Found::Page(page, size) => {
                    self.page_count += 1;
                    self.take_page(page, packets);
                    size
                }
                Found::Junk(size) => self.skip_junk(size),
                // A whole page would be longer than what is left: the pattern was chance.
                Found::Incomplete if at_end || rest.len() >= PAGE_SIZE_MAX => self.skip_junk(1),
                Found::Incomplete => break,
            };
            self.offset += taken as u64;
            rest = rest.get(taken..).unwrap_or_default();
            if self.page_count == 0 && self.junk_size > JUNK_SIZE_BYTES_MAX {
                return Err(DemuxError {
                    offset: 0,
                    what: "no Ogg page".to_owned(),
                });
            }
        }
        if !self.done {
            self.buffer = rest.to_vec();
        }
        Ok(())
    }

    fn skip_junk(&mut self, size: usize) -> usize {
        self.junk_size += size as u64;
        size
    }

    fn take_page(&mut self, page: Page<'_>, packets: &mut Vec<Packet>) {
        if page.first {
            if self.headers_done {
                self.refuse(
                    format!("everything from byte {} on", self.offset),
                    "another file is put behind the first (a chained stream)",
                );
                self.done = true;
                return;
            }
            self.begin_stream(page);
            return;
        }
        self.headers_done = true;
        if let Some(stream) = self.stream.as_mut().filter(|stream| stream.serial == page.serial) {
            stream.take_page(page, packets);
        }
    }

    fn refuse(&mut self, what: String, why: impl Into<String>) {
        if self.refused.len() < REFUSED_COUNT_MAX {
            self.refused.push(Refusal { what, why: why.into() });
        }
    }

    /// Serves the stream that begins with this page, or says why not.
    fn begin_stream(&mut self, page: Page<'_>) {
        let head = page.pieces().next().map(|(piece, _)| piece).unwrap_or_default();
        let what = format!("stream {:08x}", page.serial);
        let described = match head {
            [b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', ..] => describe_opus(head),
            [0x7f, b'F', b'L', b'A', b'C', ..] => describe_flac(head),
            [b'f', b'i', b's', b'h', b'e', b'a', b'd', ..] => return,
            [1, b'v', b'o', b'r', b'b', b'i', b's', ..] => Err("Vorbis has no place in CMAF".to_owned()),
            [0x80, b't', b'h', b'e', b'o', b'r', b'a', ..] => Err("Theora is not served".to_owned()),
            [b'S', b'p', b'e', b'e', b'x', ..] => Err("Speex is not served".to_owned()),
            _ => Err("its coding is not served".to_owned()),
        };
        match described {
            Ok(_) if self.stream.is_some() => self.refuse(what, "one stream of sound is served, the first"),
            Ok(begun) => {
                self.tracks.push(DemuxedTrack {
                    description: Some(begun.description),
                    media_time: i64::from(begun.pre_skip),
                });
                self.stream = Some(Stream {
                    serial: page.serial,
                    coding: begun.coding,
                    sequence: page.sequence.wrapping_add(1),
                    header_count: begun.header_count,
                    partial: None,
                    skipping: false,
                    position: 0,
                    granule_base: None,
                    bad_packet_count: 0,
                    gap_count: 0,
                });
            }
            Err(why) => self.refuse(what, why),
        }
    }
}

/// What the first packet of a served stream says.
struct Begun {
    description: TrackDescription,
    coding: Coding,
    pre_skip: u16,
    /// Packets that follow before the sound.
    header_count: u32,
}

fn facts(rate: u32) -> Result<TrackFacts, String> {
    Ok(TrackFacts {
        source_track_id: 1,
        timescale: Timescale::new(rate).ok_or("its sampling rate is zero")?,
        language: "und".to_owned(),
        label: None,
    })
}

fn describe_opus(head: &[u8]) -> Result<Begun, String> {
    let config = OpusConfig::parse_head(head).map_err(|error| error.to_string())?;
    let description = sample_entry::opus(&facts(opus::SAMPLING_RATE)?, &config.serialise_dops());
    Ok(Begun {
        description: description.map_err(|error| error.to_string())?,
        coding: Coding::Opus,
        pre_skip: config.pre_skip,
        header_count: 1,
    })
}

/// `0x7f FLAC`, version (2 bytes), number of header packets (2 bytes), `fLaC`, STREAMINFO with its block header.
fn describe_flac(head: &[u8]) -> Result<Begun, String> {
    let block = head.get(17..).unwrap_or_default();
    let info = StreamInfo::parse(block).map_err(|error| error.to_string())?;
    let description = sample_entry::flac(&facts(info.sampling_rate)?, &info.serialise_dfla());
    Ok(Begun {
        description: description.map_err(|error| error.to_string())?,
        coding: Coding::Flac(info),
        pre_skip: 0,
        header_count: 0,
    })
}

impl Stream {
    fn take_page(&mut self, page: Page<'_>, packets: &mut Vec<Packet>) {
        let lost = page.sequence != self.sequence;
        self.sequence = page.sequence.wrapping_add(1);
        if lost || !page.continued {
            // What began before goes on nowhere.
            self.bad_packet_count += usize::from(self.partial.take().is_some());
            self.skipping = false;
        }
        if page.continued && self.partial.is_none() && !self.skipping {
            self.skipping = true;
            self.bad_packet_count += 1;
        }
        let first_index = packets.len();
        let start = self.position;
        for (piece, ends) in page.pieces() {
            self.take_piece(piece, ends, packets);
        }
        let found = packets.get_mut(first_index..).unwrap_or_default();
        if let Some(granule) = page.granule_position
            && !found.is_empty()
        {
            self.follow_granule(granule, start, page.last, found);
        }
    }

    fn take_piece(&mut self, piece: &[u8], ends: bool, packets: &mut Vec<Packet>) {
        if self.skipping {
            self.skipping = !ends;
            return;
        }
        if self.header_count > 0 {
            // Comments may hold pictures; none of it is needed.
            self.header_count -= u32::from(ends);
            self.partial = (!ends).then(Vec::new);
            return;
        }
        let size = self.partial.as_ref().map_or(0, Vec::len) + piece.len();
        if size > PACKET_SIZE_BYTES_MAX {
            self.partial = None;
            self.skipping = !ends;
            self.bad_packet_count += 1;
            return;
        }
        if !ends {
            self.partial.get_or_insert_default().extend_from_slice(piece);
            return;
        }
        let data = match self.partial.take() {
            Some(mut begun) => {
                begun.extend_from_slice(piece);
                Bytes::from(begun)
            }
            None => Bytes::copy_from_slice(piece),
        };
        self.take_packet(data, packets);
    }

    fn take_packet(&mut self, data: Bytes, packets: &mut Vec<Packet>) {
        let is_flac_header = matches!(self.coding, Coding::Flac(_)) && data.first() != Some(&0xff);
        if is_flac_header {
            return;
        }
        let Some(samples) = self.coding.samples(&data).filter(|samples| *samples > 0) else {
            self.bad_packet_count += 1;
            return;
        };
        packets.push(Packet {
            track: 0,
            presentation_time: self.position,
            decode_time: self.position,
            duration: Some(samples),
            sync: true,
            data,
        });
        self.position = self.position.saturating_add(i64::from(samples));
    }

    /// Holds the counted position against the page's: sound that is missing before the page moves it, sound to be cut
    /// at the very end shortens its last packets (RFC 7845 4.4). `start` is the position before the page.
    fn follow_granule(&mut self, granule: i64, start: i64, last: bool, found: &mut [Packet]) {
        let Some(base) = self.granule_base else {
            // The first page may begin anywhere; if it is the last too and says less than it holds, that is the end.
            let short = last && granule < self.position;
            self.granule_base = Some(if short {
                0
            } else {
                granule.saturating_sub(self.position)
            });
            if short {
                self.cut_end(self.position.saturating_sub(granule), found);
            }
            return;
        };
        let off = granule.saturating_sub(base).saturating_sub(self.position);
        if off > 0 && start > 0 && off <= GAP_S_MAX * i64::from(self.coding.rate()) {
            self.gap_count += 1;
            self.position = self.position.saturating_add(off);
            for packet in found {
                packet.presentation_time = packet.presentation_time.saturating_add(off);
                packet.decode_time = packet.presentation_time;
            }
        } else if off < 0 && last {
            self.cut_end(off.saturating_neg(), found);
        } else if off != 0 {
            // A position that can not be: what follows is measured against it.
            self.granule_base = Some(granule.saturating_sub(self.position));
        }
    }

    /// Shortens packets from the last on by `samples`; each keeps one.
    fn cut_end(&mut self, mut samples: i64, found: &mut [Packet]) {
        for packet in found.iter_mut().rev() {
            let duration = packet.duration.unwrap_or(1);
            let cut = u32::try_from(samples)
                .unwrap_or(u32::MAX)
                .min(duration.saturating_sub(1));
            packet.duration = Some(duration - cut);
            samples -= i64::from(cut);
            if cut < duration.saturating_sub(1) {
                break;
            }
        }
    }
}

impl Demuxer for OggDemuxer {
    fn push(&mut self, bytes: &[u8], packets: &mut Vec<Packet>) -> Result<(), DemuxError> {
        if self.done {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        self.take_pages(packets, false)
    }

    fn finish(&mut self, packets: &mut Vec<Packet>) -> Result<(), DemuxError> {
        self.take_pages(packets, true)?;
        self.buffer = Vec::new();
        if self.page_count == 0 {
            return Err(DemuxError {
                offset: 0,
                what: "no Ogg page".to_owned(),
            });
        }
        let junk_size = std::mem::take(&mut self.junk_size);
        if junk_size > 0 {
            self.refuse(format!("{junk_size} bytes"), "they are no whole Ogg pages");
        }
        if let Some(mut stream) = self.stream.take() {
            stream.bad_packet_count += usize::from(stream.partial.is_some());
            if stream.bad_packet_count > 0 {
                self.refuse(
                    format!("{} packets", stream.bad_packet_count),
                    "they are damaged or cut off",
                );
            }
            if stream.gap_count > 0 {
                self.refuse(
                    format!("{} gaps", stream.gap_count),
                    "sound is missing; the times behind it are kept",
                );
            }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
