//! The segment index of a track served as one file: `ftyp`, `moov`, `sidx`, then its fragments.
//!
//! ISO/IEC 14496-12:2022 8.16.3; one reference for each fragment (ISO/IEC 23000-19:2024 7.3.3.3).

use bytes::Bytes;

use super::BoxWriter;
use super::fragment::{self, SegmentPosition};
use super::trak::TRACK_ID;
use crate::index::TrackIndex;
use crate::presentation::begins_open;
use crate::segment::{Segment, SegmentTable};
use crate::time::Timescale;

/// A reference counts in 16 bits; 65,535 segments of two seconds are 36 hours.
pub const REFERENCE_COUNT_MAX: usize = u16::MAX as usize;

/// A referenced size has 31 bits.
pub const REFERENCED_SIZE_BYTES_MAX: u32 = u32::MAX >> 1;

/// Why a track has no segment index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SidxError {
    /// More than [`REFERENCE_COUNT_MAX`].
    #[error("{count} segments, an index holds {REFERENCE_COUNT_MAX}")]
    TooManyReferences {
        /// Segments.
        count: usize,
    },
    /// Larger than [`REFERENCED_SIZE_BYTES_MAX`].
    #[error("segment {reference_index} has {size} bytes, a reference holds {REFERENCED_SIZE_BYTES_MAX}")]
    SegmentTooLarge {
        /// 0-based.
        reference_index: usize,
        /// Bytes.
        size: u64,
    },
    /// Longer than 32 bits of ticks.
    #[error("segment {reference_index} lasts {duration} ticks, a reference holds 32 bits")]
    SegmentTooLong {
        /// 0-based.
        reference_index: usize,
        /// Ticks.
        duration: u64,
    },
}

/// How a segment starts (stream access points, ISO/IEC 14496-12:2022 annex I).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartsWith {
    /// Nothing at which decoding can start.
    NoSap,
    /// All samples from the first on can be decoded, in decode order and in presentation order.
    SapType1,
    /// The first sample presented is not the first decoded.
    SapType2,
    /// Decoding can start, but leading pictures are lost.
    SapType3,
}

impl StartsWith {
    fn bits(self) -> u32 {
        let (starts_with_sap, sap_type) = match self {
            StartsWith::NoSap => (0, 0),
            StartsWith::SapType1 => (1, 1),
            StartsWith::SapType2 => (1, 2),
            StartsWith::SapType3 => (1, 3),
        };
        starts_with_sap << 31 | sap_type << 28
    }
}

/// One segment of the indexed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Bytes, `styp` to the end of `mdat`.
    pub size: u64,
    /// Ticks from its earliest presentation time to that of the next segment, or to the end.
    pub duration: u64,
    /// How it starts.
    pub starts_with: StartsWith,
}

/// Bytes of [`build`] of the same references.
pub fn size_bytes(earliest_presentation_time: u64, reference_count: usize) -> usize {
    let times_size = match version_for(earliest_presentation_time) {
        0 => 8,
        _ => 16,
    };
    12 + 8 + times_size + 4 + reference_count * 12
}

/// The index of `references`, the first of which starts right behind it. `timescale` is that of `mdhd`,
/// `earliest_presentation_time` is in its ticks, edits applied.
pub fn build(
    timescale: Timescale,
    earliest_presentation_time: u64,
    references: &[Reference],
) -> Result<Bytes, SidxError> {
    let reference_count = u16::try_from(references.len()).map_err(|_| SidxError::TooManyReferences {
        count: references.len(),
    })?;
    let mut rows = Vec::with_capacity(references.len());
    for (reference_index, reference) in references.iter().enumerate() {
        let size = u32::try_from(reference.size)
            .ok()
            .filter(|size| *size <= REFERENCED_SIZE_BYTES_MAX)
            .ok_or(SidxError::SegmentTooLarge {
                reference_index,
                size: reference.size,
            })?;
        let duration = u32::try_from(reference.duration).map_err(|_| SidxError::SegmentTooLong {
            reference_index,
            duration: reference.duration,
        })?;
        rows.push([size, duration, reference.starts_with.bits()]);
    }
    let version = version_for(earliest_presentation_time);
    let mut w = BoxWriter::with_capacity(size_bytes(earliest_presentation_time, references.len()));
    w.write_full_box(b"sidx", version, 0, |w| {
        w.u32(TRACK_ID);
        w.u32(timescale.get());
        match version {
            0 => {
                w.u32(earliest_presentation_time as u32);
                w.u32(0); // first_offset
            }
            _ => {
                w.u64(earliest_presentation_time);
                w.u64(0);
            }
        }
        w.u16(0);
        w.u16(reference_count);
        for field in rows.iter().flatten() {
            w.u32(*field);
        }
    });
    Ok(Bytes::from(w.finish()))
}

/// The index of a whole track cut as `table` says, each segment written by [`fragment::header`], the last of them as
/// [`SegmentPosition::Last`].
pub fn of_segments(index: &TrackIndex, table: &SegmentTable) -> Result<Bytes, SidxError> {
    let segments = table.segments();
    if segments.len() > REFERENCE_COUNT_MAX {
        return Err(SidxError::TooManyReferences { count: segments.len() });
    }
    let references: Vec<Reference> = segments
        .iter()
        .enumerate()
        .map(|(segment_index, segment)| {
            let position = match segment_index + 1 == segments.len() {
                true => SegmentPosition::Last,
                false => SegmentPosition::Inner,
            };
            let header_size = fragment::header_size(index, segment.samples.clone(), position) as u64;
            Reference {
                size: header_size + index.size_bytes(segment.samples.clone()),
                duration: segment.duration,
                starts_with: starts_with(index, segment),
            }
        })
        .collect();
    let earliest_presentation_time = segments.first().map_or(0, |segment| segment.start);
    build(index.timescale(), earliest_presentation_time, &references)
}

fn starts_with(index: &TrackIndex, segment: &Segment) -> StartsWith {
    if !index.sample(segment.samples.start).is_some_and(|first| first.sync) {
        return StartsWith::NoSap;
    }
    match begins_open(index, segment) {
        true => StartsWith::SapType3,
        false => StartsWith::SapType1,
    }
}

fn version_for(earliest_presentation_time: u64) -> u8 {
    u8::from(earliest_presentation_time > u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isobmff::fixture;
    use crate::time::MediaTime;

    fn reference(size: u64, duration: u64) -> Reference {
        Reference {
            size,
            duration,
            starts_with: StartsWith::SapType1,
        }
    }

    #[test]
    fn index_is_written_as_the_standard_says() {
        let check = |earliest, expected_times: &[u8]| {
            let bytes = build(fixture::scale(90_000), earliest, &[reference(0x1234, 0x5678)]).unwrap();
            assert_eq!(bytes.len(), size_bytes(earliest, 1));
            let (head, tail) = bytes.split_at(20);
            let (size, version) = (bytes.len() as u8, u8::from(expected_times.len() == 16));
            assert_eq!(head[..8], [0, 0, 0, size, b's', b'i', b'd', b'x']);
            assert_eq!(head[8..], [version, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0x5f, 0x90]);
            let (times, tail) = tail.split_at(expected_times.len());
            assert_eq!(times, expected_times);
            assert_eq!(tail, [0, 0, 0, 1, 0, 0, 0x12, 0x34, 0, 0, 0x56, 0x78, 0x90, 0, 0, 0]);
        };
        check(3000, &[0, 0, 0x0b, 0xb8, 0, 0, 0, 0]);
        check(0xffff_ffff, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        check(1 << 32, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let check = |references: &[Reference], expected: &str| {
            let error = build(fixture::scale(1), 0, references).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            &[reference(1 << 31, 0)],
            "segment 0 has 2147483648 bytes, a reference holds 2147483647",
        );
        check(
            &[reference(1, 1), reference(1, 1 << 32)],
            "segment 1 lasts 4294967296 ticks, a reference holds 32 bits",
        );
        check(&vec![reference(1, 1); 65_536], "65536 segments, an index holds 65535");
        assert!(
            build(
                fixture::scale(1),
                0,
                &vec![reference((1 << 31) - 1, 0xffff_ffff); 65_535]
            )
            .is_ok()
        );
    }

    /// Size, duration and SAP type of each reference.
    #[test]
    fn segments_of_a_track_are_referenced() {
        // The second group of pictures has a leading picture.
        let rows = [
            (50, 3000, 0, true),
            (5, 3000, 0, false),
            (60, 3000, 3000, true),
            (5, 3000, -3000, false),
        ];
        let index = fixture::index(44, &rows, 0);
        let table = SegmentTable::of_video(&index, &[MediaTime::new(9000, fixture::scale(90_000))]);
        let ranges: Vec<_> = table.segments().iter().map(|segment| segment.samples.clone()).collect();
        assert_eq!(ranges, [0..2, 2..4]);
        let bytes = of_segments(&index, &table).unwrap();
        let field = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((field(20), field(28)), (0, 2), "earliest presentation time, count");
        let sizes = [(0..2, SegmentPosition::Inner, 55), (2..4, SegmentPosition::Last, 65)]
            .map(|(range, position, payload)| fragment::header(&index, range, 1, position).len() as u32 + payload);
        assert_eq!([field(32), field(36), field(40) >> 28], [sizes[0], 6000, 0b1001]);
        assert_eq!([field(44), field(48), field(52) >> 28], [sizes[1], 6000, 0b1011]);
    }
}
