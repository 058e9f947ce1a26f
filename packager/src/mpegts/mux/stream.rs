//! One track of a segment as an elementary stream: its entry in the program map, and its samples grouped into PES
//! packets (ISO/IEC 13818-1 2.4.3.6).

use std::borrow::Cow;
use std::ops::Range;

use super::super::elementary::{Form, Layout};
use super::super::psi::{self, StreamEntry, stream_type};
use super::super::{PAYLOAD_SIZE, SampleFault, sample_aes, wrapped};
use super::packet::{Marks, PesPackets, packet_count_min};
use super::{FIRST_ELEMENTARY_PID, MuxError, MuxSample, MuxTrack, PCR_DELAY_90K};
use crate::codec::{Codec, MediaKind};
use crate::track::TrackDescription;

/// Audio frames share a PES packet up to this span, so that headers and stuffing do not outweigh them.
pub(super) const AUDIO_SPAN_MAX_90K: i64 = 15_000;

/// The same where audio carries the clock, which is sent at least every 100 ms (ISO/IEC 13818-1 2.7.2) with a PES packet.
const CLOCK_SPAN_MAX_90K: i64 = 9_000;

/// `PES_packet_length` has 16 bits, and only video may leave it at zero.
const AUDIO_SIZE_MAX: usize = 60_000;

/// Start code, stream id, length, flags and header length.
const PES_FIXED_SIZE: usize = 9;

const STREAM_ID_PRIVATE: u8 = 0xbd;
const STREAM_ID_AUDIO: u8 = 0xc0;
const STREAM_ID_VIDEO: u8 = 0xe0;

/// Whether samples come encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    Clear,
    SampleAes,
}

/// A track of the program. It holds nothing of the samples.
#[derive(Clone)]
pub(super) struct Stream {
    track: usize,
    form: Form,
    stream_id: u8,
    pub(super) pid: u16,
    /// Carries the program clock.
    pub(super) clock: bool,
}

/// A sample that has bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Bytes it has where it is stored.
    pub(super) stored_size: usize,
    layout: Layout,
}

/// One PES packet to be: a picture, or some audio frames.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) track: usize,
    /// 0-based among those of the track.
    pub(super) samples: Range<usize>,
    /// Those of the samples that have bytes, among those of the track.
    pub(super) frames: Range<usize>,
    presentation_time_90k: i64,
    pub(super) decode_time_90k: i64,
    marks: Marks,
    /// Bytes after the PES header.
    data_size: usize,
    pub(super) packet_count: usize,
}

impl Unit {
    fn header_size(&self) -> usize {
        PES_FIXED_SIZE + if self.has_decode_time() { 10 } else { 5 }
    }

    fn has_decode_time(&self) -> bool {
        self.decode_time_90k != self.presentation_time_90k
    }

    fn size(&self) -> usize {
        self.header_size() + self.data_size
    }

    /// The program clock this unit carries, if it does.
    pub(super) fn pcr_90k(&self) -> Option<i64> {
        self.marks.pcr_90k
    }
}

impl Stream {
    pub(super) fn new(
        track: usize,
        description: &TrackDescription,
        mut form: Form,
        clock: bool,
        protection: Protection,
    ) -> Stream {
        if let (Form::NalUnits { length_size, .. }, Protection::SampleAes) = (&mut form, protection) {
            *length_size = sample_aes::NAL_LENGTH_SIZE;
        }
        let stream_id = match description.codec {
            Codec::Ac3 | Codec::Eac3 => STREAM_ID_PRIVATE,
            _ if form.is_video() => STREAM_ID_VIDEO,
            _ => STREAM_ID_AUDIO,
        };
        Stream {
            track,
            form,
            stream_id,
            // The program map has no room for so many tracks that this would leave the range of PIDs.
            pid: FIRST_ELEMENTARY_PID.saturating_add(track.min(0xfff) as u16),
            clock,
        }
    }

    /// The program map's line for this stream of `of`.
    pub(super) fn entry(&self, of: &MuxTrack<'_>, protection: Protection) -> StreamEntry {
        let (stream_type, mut descriptors) = match protection {
            Protection::Clear => self.clear_signalling(of.description.codec),
            Protection::SampleAes => {
                let first = of.samples.iter().find(|sample| !sample.data.is_empty());
                sample_aes::signalling(of.description, first.map_or(&[], |sample| sample.data))
            }
        };
        if of.description.kind() == MediaKind::Audio
            && let Some(code) = psi::iso_639_2(&of.description.language)
        {
            descriptors.extend(psi::iso_639_language(code));
        }
        StreamEntry {
            stream_type,
            pid: self.pid,
            descriptors,
        }
    }

    fn clear_signalling(&self, codec: Codec) -> (u8, Vec<u8>) {
        let (stream_type, registration) = match codec {
            Codec::Avc => (stream_type::AVC, None),
            Codec::Hevc => (stream_type::HEVC, Some(b"HEVC")),
            Codec::Ac3 => (stream_type::AC3, Some(b"AC-3")),
            Codec::Eac3 => (stream_type::EAC3, Some(b"EAC3")),
            Codec::Mp3 if self.form.is_low_sampling_rate() => (stream_type::MPEG2_AUDIO, None),
            Codec::Mp3 => (stream_type::MPEG1_AUDIO, None),
            _ => (stream_type::AAC_ADTS, None),
        };
        (stream_type, registration.map(psi::registration).unwrap_or_default())
    }

    /// The stream's PES packets, in order, and their frames; together a multiple of 16 transport packets. `stored_sizes`
    /// are those of the samples, where they are stored otherwise than they are given.
    pub(super) fn units(
        &self,
        samples: &[MuxSample<'_>],
        stored_sizes: impl Iterator<Item = usize>,
    ) -> Result<(Vec<Unit>, Vec<Frame>), MuxError> {
        let mut units: Vec<Unit> = Vec::new();
        let mut frames: Vec<Frame> = Vec::with_capacity(samples.len());
        for (index, (sample, stored_size)) in samples.iter().zip(stored_sizes).enumerate() {
            let fault = |fault| MuxError::Sample {
                track: self.track,
                sample: index,
                fault,
            };
            let layout = self.layout(sample).map_err(fault)?;
            if layout.size == 0 {
                continue;
            }
            match units.last_mut() {
                Some(unit) if self.shares(unit, sample, layout) => {
                    unit.samples.end = index + 1;
                    unit.frames.end += 1;
                    unit.data_size += layout.size;
                }
                _ => units.push(self.unit(index, frames.len(), sample, layout)),
            }
            frames.push(Frame { stored_size, layout });
        }
        for unit in &mut units {
            unit.packet_count = packet_count_min(unit.size(), unit.marks);
        }
        fill_to_sixteen(&mut units);
        Ok((units, frames))
    }

    fn layout(&self, sample: &MuxSample<'_>) -> Result<Layout, SampleFault> {
        let layout = self.form.layout(sample.data, sample.sync)?;
        let late_90k = sample.decode_time_90k.saturating_sub(sample.presentation_time_90k);
        if self.form.is_video() {
            if late_90k > 0 {
                return Err(SampleFault::PresentedBeforeDecoded { ticks_90k: late_90k });
            }
        } else if layout.size > AUDIO_SIZE_MAX {
            return Err(SampleFault::TooLarge {
                size: sample.data.len(),
                size_max: AUDIO_SIZE_MAX,
            });
        }
        Ok(layout)
    }

    fn unit(&self, index: usize, frame: usize, sample: &MuxSample<'_>, layout: Layout) -> Unit {
        // Audio frames are decoded when they are shown, whatever a source's decode times say of priming.
        let decode_time_90k = if self.form.is_video() {
            sample.decode_time_90k
        } else {
            sample.presentation_time_90k
        };
        Unit {
            track: self.track,
            samples: index..index + 1,
            frames: frame..frame + 1,
            presentation_time_90k: sample.presentation_time_90k,
            decode_time_90k,
            marks: Marks {
                random_access: sample.sync && (self.form.is_video() || self.clock),
                pcr_90k: self.clock.then(|| decode_time_90k.saturating_sub(PCR_DELAY_90K)),
            },
            data_size: layout.size,
            packet_count: 0,
        }
    }

    /// Whether a sample may join a unit: a reader that counts frames on from the unit's time stamp must arrive at the
    /// sample's own, within the tick that rounding costs.
    fn shares(&self, unit: &Unit, sample: &MuxSample<'_>, layout: Layout) -> bool {
        let count = unit.frames.len() as u32;
        let span_max_90k = if self.clock {
            CLOCK_SPAN_MAX_90K
        } else {
            AUDIO_SPAN_MAX_90K
        };
        let (Some(before_90k), Some(after_90k)) = (
            self.form.frame_duration_90k(count),
            self.form.frame_duration_90k(count + 1),
        ) else {
            return false;
        };
        let expected_90k = unit.presentation_time_90k.saturating_add(before_90k);
        after_90k <= span_max_90k
            && sample.presentation_time_90k.abs_diff(expected_90k) <= 1
            && unit.data_size + layout.size <= AUDIO_SIZE_MAX
    }

    /// Appends the transport packets of a unit of this stream, whose samples `next` hands out in order. False where they
    /// are not what the unit was planned for.
    pub(super) fn write<'s, E>(
        &self,
        unit: &Unit,
        frames: &[Frame],
        mut next: impl FnMut(&Frame) -> Result<Cow<'s, [u8]>, E>,
        counter: &mut u8,
        out: &mut Vec<u8>,
    ) -> Result<bool, E> {
        let mut packets = PesPackets::start(self.pid, unit.marks, unit.size(), unit.packet_count, counter, out);
        self.write_header(unit, &mut packets);
        for frame in frames {
            let sample = next(frame)?;
            self.form.write(&sample, frame.layout, |piece| packets.write(piece));
        }
        Ok(packets.is_whole())
    }

    fn write_header(&self, unit: &Unit, packets: &mut PesPackets<'_>) {
        // What follows the length field. Zero, for video alone, is "until the next one starts".
        let length = u16::try_from(unit.size() - 6).unwrap_or(0);
        let [high, low] = length.to_be_bytes();
        let header_data_size = (unit.header_size() - PES_FIXED_SIZE) as u8;
        let (flags, first_prefix) = if unit.has_decode_time() { (0xc0, 3) } else { (0x80, 2) };
        // 0x84: no scrambling; data alignment, as a frame starts right after the header.
        packets.write(&[0, 0, 1, self.stream_id, high, low, 0x84, flags, header_data_size]);
        packets.write(&timestamp(first_prefix, unit.presentation_time_90k));
        if unit.has_decode_time() {
            packets.write(&timestamp(1, unit.decode_time_90k));
        }
    }
}

/// A PTS or DTS field: 4 bits of prefix, 33 bits of time, marker bits.
fn timestamp(prefix: u8, ticks_90k: i64) -> [u8; 5] {
    let ticks = wrapped(ticks_90k);
    [
        prefix << 4 | (ticks >> 29) as u8 & 0x0e | 1,
        (ticks >> 22) as u8,
        (ticks >> 14) as u8 | 1,
        (ticks >> 7) as u8,
        (ticks << 1) as u8 | 1,
    ]
}

/// Spreads data over more packets until there are a multiple of 16, from the last unit back. A segment too small for
/// that, with fewer than 16 bytes of data, stays as it is.
fn fill_to_sixteen(units: &mut [Unit]) {
    let packet_count: usize = units.iter().map(|unit| unit.packet_count).sum();
    let mut missing = packet_count.next_multiple_of(16) - packet_count;
    for unit in units.iter_mut().rev() {
        // Every packet keeps at least one byte of data, and the first one all of the header.
        let added = missing.min(unit.data_size.saturating_sub(unit.packet_count));
        unit.packet_count += added;
        missing -= added;
    }
}

const _: () = assert!(AUDIO_SIZE_MAX + PES_FIXED_SIZE + 10 < 1 << 16 && PAYLOAD_SIZE == 184);
