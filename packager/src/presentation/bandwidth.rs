//! Peak and average bit rate of a representation, measured from its index as each form carries it.

use std::ops::Range;

use super::Content;
use crate::form::{Form, SegmentFormat};
use crate::index::Span;
use crate::isobmff::fragment::{self, SegmentPosition};
use crate::mpegts::mux;
use crate::segment::{Cut, Segment, TrickFrame};
use crate::text::webvtt;
use crate::time::Timescale;
use crate::track::Track;

/// Bit rates of a representation in one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// Greatest bit rate of any run of segments between half and one and a half target durations long
    /// (RFC 8216bis 4.4.6.2, BANDWIDTH), in bits per second; never zero.
    pub peak_bps: u64,
    /// All bits over all time, in bits per second; never zero.
    pub average_bps: u64,
}

/// All bit rates of one representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bandwidths {
    cmaf: Bandwidth,
    /// By itself: pictures, or packed audio.
    ts: Bandwidth,
    /// In the segments of the pictures.
    ts_muxed: Bandwidth,
    trick: Option<Trick>,
    /// What protection adds.
    protection_bps: u64,
}

/// Of the trick-play frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trick {
    cmaf: Bandwidth,
    ts: Bandwidth,
    protection_bps: u64,
}

/// What protection adds to a sample at most, in bytes: a row of `senc` with two subsamples and its size in `saiz`, or
/// emulation prevention and padding in MPEG-TS.
const PROTECTION_SIZE_BYTES: u64 = 24;

impl Bandwidths {
    /// In `form`.
    pub(super) fn of(&self, form: Form) -> Bandwidth {
        self.as_in(
            form,
            match form.format() {
                SegmentFormat::Cmaf => self.cmaf,
                SegmentFormat::Ts => self.ts,
            },
        )
    }

    /// In the segments of the pictures, in `form`.
    pub(super) fn muxed(&self, form: Form) -> Bandwidth {
        self.as_in(form, self.ts_muxed)
    }

    /// Of the trick-play frames, in `form`.
    pub(super) fn trick(&self, form: Form) -> Option<Bandwidth> {
        self.trick.map(|trick| {
            let clear = match form.format() {
                SegmentFormat::Cmaf => trick.cmaf,
                SegmentFormat::Ts => trick.ts,
            };
            protected(form, clear, trick.protection_bps)
        })
    }

    fn as_in(&self, form: Form, clear: Bandwidth) -> Bandwidth {
        protected(form, clear, self.protection_bps)
    }

    /// The greater of each.
    pub(super) fn greatest(&self, other: &Bandwidths) -> Bandwidths {
        let greatest = |one: Bandwidth, other: Bandwidth| Bandwidth {
            peak_bps: one.peak_bps.max(other.peak_bps),
            average_bps: one.average_bps.max(other.average_bps),
        };
        Bandwidths {
            cmaf: greatest(self.cmaf, other.cmaf),
            ts: greatest(self.ts, other.ts),
            ts_muxed: greatest(self.ts_muxed, other.ts_muxed),
            trick: self.trick.zip(other.trick).map(|(one, other)| Trick {
                cmaf: greatest(one.cmaf, other.cmaf),
                ts: greatest(one.ts, other.ts),
                protection_bps: one.protection_bps.max(other.protection_bps),
            }),
            protection_bps: self.protection_bps.max(other.protection_bps),
        }
    }

    pub(super) fn measure(content: &Content, cut: &Cut, trick_frames: &[TrickFrame]) -> Bandwidths {
        let table = &cut.table;
        let carried = |carriage| {
            let segments = table.segments().iter();
            let rows: Vec<(u64, u64)> = match content {
                Content::Samples(track) => segments
                    .zip(&cut.spans)
                    .map(|(segment, span)| (segment.duration, segment_size_bytes(track, segment, span, carriage)))
                    .collect(),
                // As WebVTT, in every form.
                Content::Cues(text) => segments
                    .map(|segment| {
                        let map = webvtt::TimestampMap { mpegts: 0, local_ms: 0 };
                        let text = webvtt::segment(text, segment.start, segment.end(), map);
                        (segment.duration, text.len() as u64)
                    })
                    .collect(),
            };
            over_rows(&rows, table.timescale())
        };
        let trick = match content {
            Content::Samples(track) if !trick_frames.is_empty() => {
                let over = |size_bytes: fn(&Track, &TrickFrame) -> u64| {
                    let rows = trick_frames
                        .iter()
                        .map(|frame| (frame.duration, size_bytes(track, frame)));
                    over_rows(&rows.collect::<Vec<_>>(), table.timescale())
                };
                let ticks = trick_frames.iter().map(|frame| frame.duration).sum();
                Some(Trick {
                    protection_bps: protection_bps(trick_frames.len() as u64, ticks, table.timescale()),
                    cmaf: over(trick_size_bytes),
                    ts: over(ts_trick_size_bytes),
                })
            }
            _ => None,
        };
        let protection_bps = match content {
            Content::Samples(track) => {
                let ticks = track.index.duration().ticks.unsigned_abs();
                protection_bps(track.index.sample_count().into(), ticks, track.index.timescale())
            }
            Content::Cues(_) => 0,
        };
        Bandwidths {
            cmaf: carried(Carriage::Cmaf),
            ts: carried(Carriage::Ts),
            ts_muxed: match content {
                Content::Samples(track) if track.description.video().is_none() => carried(Carriage::TsMuxed),
                _ => carried(Carriage::Ts),
            },
            trick,
            protection_bps,
        }
    }
}

/// What protection adds to `sample_count` samples that last `ticks`, in bits per second.
fn protection_bps(sample_count: u64, ticks: u64, timescale: Timescale) -> u64 {
    let bits = u128::from(sample_count) * u128::from(PROTECTION_SIZE_BYTES * 8);
    let per_second = bits * u128::from(timescale.get()) / u128::from(ticks.max(1));
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

fn protected(form: Form, clear: Bandwidth, protection_bps: u64) -> Bandwidth {
    match form.is_protected() {
        true => Bandwidth {
            peak_bps: clear.peak_bps.saturating_add(protection_bps),
            average_bps: clear.average_bps.saturating_add(protection_bps),
        },
        false => clear,
    }
}

fn trick_size_bytes(track: &Track, frame: &TrickFrame) -> u64 {
    let size = track
        .index
        .sizes(frame.sample_index..frame.sample_index + 1)
        .next()
        .unwrap_or(0);
    fragment::trick_play_header_size(&track.index, frame, size) as u64 + u64::from(size)
}

/// Segments of one run that are looked at for a peak. Longer runs of half a target duration exist only where one segment
/// is hundreds of times longer than the others, and all of them together would be work without end.
const RUN_SEGMENT_COUNT_MAX: usize = 256;

/// Peak and average over (duration in ticks, bytes) rows.
fn over_rows(rows: &[(u64, u64)], timescale: Timescale) -> Bandwidth {
    let scale = u128::from(timescale.get());
    let bps = |bytes: u64, ticks: u64| {
        let bits = u128::from(bytes) * 8 * scale;
        u64::try_from(bits.div_ceil(u128::from(ticks.max(1))))
            .unwrap_or(u64::MAX)
            .max(1)
    };
    let total = rows
        .iter()
        .fold((0, 0), |(ticks, bytes), row| (ticks + row.0, bytes + row.1));
    let average_bps = bps(total.1, total.0);
    // TARGETDURATION is the longest segment rounded to seconds.
    let longest = rows.iter().map(|row| row.0).max().unwrap_or(0);
    let target = (u128::from(longest) * 2 + scale) / (scale * 2) * scale;
    let target = target.max(scale);
    let mut peak_bps = average_bps;
    for first in 0..rows.len() {
        let (mut ticks, mut bytes) = (0u64, 0u64);
        for (duration, size) in rows.iter().skip(first).take(RUN_SEGMENT_COUNT_MAX) {
            ticks += duration;
            bytes += size;
            if u128::from(ticks) * 2 > target * 3 {
                break;
            }
            if u128::from(ticks) * 2 >= target {
                peak_bps = peak_bps.max(bps(bytes, ticks));
            }
        }
    }
    Bandwidth { peak_bps, average_bps }
}

/// How a segment's samples travel.
#[derive(Clone, Copy, Debug)]
enum Carriage {
    Cmaf,
    /// Pictures in MPEG-TS, or packed audio.
    Ts,
    /// Sound in the MPEG-TS of pictures.
    TsMuxed,
}

fn segment_size_bytes(track: &Track, segment: &Segment, span: &Span, carriage: Carriage) -> u64 {
    match carriage {
        Carriage::Cmaf => {
            let count = segment.samples.len() as u32;
            fragment::span_header_size(span, count, SegmentPosition::Inner) as u64 + span.size_bytes
        }
        // Packed audio: frames with at most a 7-byte header each, and one ID3 tag.
        Carriage::Ts if track.description.video().is_none() => 75 + span.size_bytes + 7 * segment.samples.len() as u64,
        Carriage::Ts => ts_size_bytes(track, &segment.samples),
        Carriage::TsMuxed => {
            let timescale = track.index.timescale();
            mux::sound_size_bytes(
                segment.samples.len() as u64,
                span.size_bytes,
                segment.duration,
                timescale,
            )
        }
    }
}

fn ts_trick_size_bytes(track: &Track, frame: &TrickFrame) -> u64 {
    ts_size_bytes(track, &(frame.sample_index..frame.sample_index.saturating_add(1)))
}

/// Size of a transport stream segment of pictures without building it.
fn ts_size_bytes(track: &Track, samples: &Range<u32>) -> u64 {
    // No sample comes near 32 bits; what can not overflow is added many at once.
    let packets = track.index.fold_sizes(samples.clone(), 0u64, |packets, size| {
        packets.wrapping_add(u64::from(mux::picture_packet_count(size)))
    });
    mux::pictures_size_bytes(&track.description, packets)
}
