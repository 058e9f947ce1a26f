//! The header of a movie fragment: `styp`, `moof` and the head of `mdat`, up to where the first sample starts.
//!
//! ISO/IEC 14496-12:2022 8.8 as ISO/IEC 23000-19:2024 7.3.2.3 narrows it: one `traf` with one `trun`, data addressed
//! from the `moof`, every default in `tfhd`. Samples lie in decode order behind the header, so a segment is
//! `header.len() + sum of sample sizes` bytes.

use std::ops::Range;

use bytes::Bytes;

use super::BoxWriter;
use super::protection::SampleAuxiliary;
use super::trak::TRACK_ID;
use crate::index::{Sample, Span, TrackIndex};
use crate::limits::SAMPLE_COUNT_MAX;
use crate::segment::TrickFrame;

/// One sample of a fragment; its bytes follow those of the sample before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentSample {
    /// Bytes.
    pub size: u32,
    /// Ticks until the next sample is decoded.
    pub duration: u32,
    /// Composition time minus decode time, in ticks.
    pub composition_offset: i32,
    /// Decoding can start here.
    pub sync: bool,
}

impl From<Sample> for FragmentSample {
    fn from(sample: Sample) -> FragmentSample {
        FragmentSample {
            size: sample.size,
            duration: sample.duration,
            composition_offset: sample.composition_offset,
            sync: sample.sync,
        }
    }
}

/// Where a fragment stands, which its `styp` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentPosition {
    /// Starts a segment, and others follow it.
    Inner,
    /// Starts the last segment of its track (`lmsg`).
    Last,
    /// Goes on with a segment that has begun: a further CMAF chunk, without `styp`.
    Continuation,
}

/// Header of the fragment that holds samples `range` of `index`; a range past the end is cut.
///
/// `sequence_number` is the fragment's number in its track, from 1.
pub fn header(index: &TrackIndex, range: Range<u32>, sequence_number: u32, position: SegmentPosition) -> Bytes {
    let (base_decode_time, samples) = collect(index, range);
    from_samples(sequence_number, base_decode_time, &samples, position)
}

/// [`header`] of samples that are encrypted: with what `auxiliary` says of each of them.
pub fn protected_header(
    index: &TrackIndex,
    range: Range<u32>,
    sequence_number: u32,
    position: SegmentPosition,
    auxiliary: &SampleAuxiliary,
) -> Bytes {
    let (base_decode_time, samples) = collect(index, range);
    write(sequence_number, base_decode_time, &samples, position, auxiliary)
}

/// Bytes of [`header`] of the same samples; with [`TrackIndex::size_bytes`] the size of the segment.
pub fn header_size(index: &TrackIndex, range: Range<u32>, position: SegmentPosition) -> usize {
    let count = range.end.min(index.sample_count()).saturating_sub(range.start);
    span_header_size(&index.span(range), count, position)
}

/// [`header_size`] of `count` samples with `span` in common.
pub(crate) fn span_header_size(span: &Span, count: u32, position: SegmentPosition) -> usize {
    let common = Common {
        sample_count: count,
        first_size: span.first_size,
        first_duration: span.first_duration,
        first_is_sync: span.first_is_sync,
        sizes_differ: span.sizes_differ,
        durations_differ: span.durations_differ,
        has_offset: count > 0 && span.composition_offsets != (0, 0),
        has_negative_offset: span.composition_offsets.0 < 0,
        sync_count: span.sync_count,
        payload_size: span.size_bytes,
    };
    Layout::of(&common, span.base_decode_time, position).header_size()
}

/// Bytes of [`trick_play_header`] in front of a picture of `payload_size` bytes.
pub fn trick_play_header_size(index: &TrackIndex, frame: &TrickFrame, payload_size: u32) -> usize {
    let (shown, base_decode_time) = trick_play_sample(index, frame, payload_size);
    size_from_samples(base_decode_time, &[shown], SegmentPosition::Inner)
}

/// Header of a fragment that holds the picture of `frame` alone: one entry of a trick-play track, which shares the
/// header of the whole track.
///
/// It is decoded when it is shown, and lasts until the next such picture, so decode times add up over the trick-play
/// track; a frame past the end of `index` is empty.
pub fn trick_play_header(
    index: &TrackIndex,
    frame: &TrickFrame,
    sequence_number: u32,
    position: SegmentPosition,
) -> Bytes {
    let size = index.sample(frame.sample_index).map_or(0, |sample| sample.size);
    let (shown, base_decode_time) = trick_play_sample(index, frame, size);
    from_samples(sequence_number, base_decode_time, &[shown], position)
}

/// [`trick_play_header`] of an encrypted picture.
pub fn protected_trick_play_header(
    index: &TrackIndex,
    frame: &TrickFrame,
    sequence_number: u32,
    position: SegmentPosition,
    auxiliary: &SampleAuxiliary,
) -> Bytes {
    let size = index.sample(frame.sample_index).map_or(0, |sample| sample.size);
    let (shown, base_decode_time) = trick_play_sample(index, frame, size);
    write(sequence_number, base_decode_time, &[shown], position, auxiliary)
}

/// The one sample of a trick-play fragment, and when it is decoded.
fn trick_play_sample(index: &TrackIndex, frame: &TrickFrame, size: u32) -> (FragmentSample, u64) {
    let shown = FragmentSample {
        size,
        duration: u32::try_from(frame.duration).unwrap_or(u32::MAX),
        composition_offset: 0,
        sync: true,
    };
    // The edit list of the header takes `media_time` away again.
    (shown, frame.start.saturating_add(index.media_time()))
}

/// Header of a fragment that holds `samples`, the first of which is decoded at `base_decode_time` (ticks).
///
/// At most [`SAMPLE_COUNT_MAX`] samples, as many as a track may have.
pub fn from_samples(
    sequence_number: u32,
    base_decode_time: u64,
    samples: &[FragmentSample],
    position: SegmentPosition,
) -> Bytes {
    write(
        sequence_number,
        base_decode_time,
        samples,
        position,
        &SampleAuxiliary::default(),
    )
}

fn write(
    sequence_number: u32,
    base_decode_time: u64,
    samples: &[FragmentSample],
    position: SegmentPosition,
    auxiliary: &SampleAuxiliary,
) -> Bytes {
    let mut layout = Layout::of(&Common::of(samples), base_decode_time, position);
    layout.auxiliary_size = auxiliary.size();
    let mut w = BoxWriter::with_capacity(layout.header_size());
    w.bytes(layout.styp);
    w.write_box(b"moof", |w| {
        w.write_full_box(b"mfhd", 0, 0, |w| w.u32(sequence_number));
        w.write_box(b"traf", |w| {
            layout.write_tfhd(w);
            layout.write_tfdt(w, base_decode_time);
            layout.write_trun(w, samples);
            auxiliary.write(w, layout.moof_size() - layout.auxiliary_size);
        });
    });
    layout.write_mdat_header(&mut w);
    debug_assert_eq!(w.len(), layout.header_size());
    Bytes::from(w.finish())
}

/// Bytes of [`from_samples`] of the same samples.
pub fn size_from_samples(base_decode_time: u64, samples: &[FragmentSample], position: SegmentPosition) -> usize {
    Layout::of(&Common::of(samples), base_decode_time, position).header_size()
}

fn collect(index: &TrackIndex, range: Range<u32>) -> (u64, Vec<FragmentSample>) {
    let mut samples = index.samples(range).peekable();
    let base_decode_time = samples.peek().map_or(0, |sample| sample.decode_time);
    (base_decode_time, samples.map(FragmentSample::from).collect())
}

const STYP_INNER: &[u8] = b"\0\0\0\x20stypcmfs\0\0\0\0cmfscmffcmflmsdh";
const STYP_LAST: &[u8] = b"\0\0\0\x24stypcmfs\0\0\0\0cmfscmffcmflmsdhlmsg";

const BOX_HEADER_SIZE: usize = 8;
const FULL_BOX_HEADER_SIZE: usize = 12;
const FIELD_SIZE: usize = 4;

/// `tfhd` flags (8.8.7).
const DEFAULT_SAMPLE_DURATION: u32 = 0x00_0008;
const DEFAULT_SAMPLE_SIZE: u32 = 0x00_0010;
const DEFAULT_SAMPLE_FLAGS: u32 = 0x00_0020;
const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;

/// `trun` flags (8.8.8).
const DATA_OFFSET: u32 = 0x001;
const FIRST_SAMPLE_FLAGS: u32 = 0x004;
const SAMPLE_DURATION: u32 = 0x100;
const SAMPLE_SIZE: u32 = 0x200;
const SAMPLE_FLAGS: u32 = 0x400;
const SAMPLE_COMPOSITION_TIME_OFFSET: u32 = 0x800;

/// Sample flags (8.8.3.1): depends on no other sample.
const SYNC: u32 = 0x0200_0000;
/// Sample flags: depends on others, is no sync sample.
const NON_SYNC: u32 = 0x0101_0000;

fn sample_flags(sync: bool) -> u32 {
    if sync { SYNC } else { NON_SYNC }
}

/// What is written once for all samples and what for each: decides every size before a byte is written.
struct Layout {
    styp: &'static [u8],
    sample_count: u32,
    /// Flags, and the value of each default that they announce.
    tfhd_flags: u32,
    default_duration: u32,
    default_size: u32,
    default_sample_flags: u32,
    tfdt_version: u8,
    trun_version: u8,
    trun_flags: u32,
    payload_size: u64,
    /// Bytes of `saiz`, `saio` and `senc`.
    auxiliary_size: usize,
}

/// What the samples of a fragment have in common.
struct Common {
    sample_count: u32,
    first_size: u32,
    first_duration: u32,
    first_is_sync: bool,
    sizes_differ: bool,
    durations_differ: bool,
    has_offset: bool,
    has_negative_offset: bool,
    sync_count: u32,
    payload_size: u64,
}

impl Common {
    fn of(samples: &[FragmentSample]) -> Common {
        debug_assert!(samples.len() <= SAMPLE_COUNT_MAX);
        let first = samples.first().copied().unwrap_or(FragmentSample {
            size: 0,
            duration: 0,
            composition_offset: 0,
            sync: true,
        });
        // One pass without branches, overflow checks included: 32-bit sizes of as many samples as there may be add up
        // in 64 bits. What is or-ed together is zero when all of it is, and negative when any of it is.
        let (mut size_difference, mut duration_difference, mut offsets, mut payload_size) = (0, 0, 0, 0u64);
        let mut sync_count = 0u32;
        for sample in samples {
            size_difference |= sample.size ^ first.size;
            duration_difference |= sample.duration ^ first.duration;
            offsets |= sample.composition_offset;
            payload_size = payload_size.wrapping_add(u64::from(sample.size));
            sync_count = sync_count.wrapping_add(u32::from(sample.sync));
        }
        Common {
            sample_count: samples.len() as u32,
            first_size: first.size,
            first_duration: first.duration,
            first_is_sync: first.sync,
            sizes_differ: size_difference != 0,
            durations_differ: duration_difference != 0,
            has_offset: offsets != 0,
            has_negative_offset: offsets < 0,
            sync_count,
            payload_size,
        }
    }
}

impl Layout {
    fn of(common: &Common, base_decode_time: u64, position: SegmentPosition) -> Layout {
        let mut layout = Layout {
            styp: match position {
                SegmentPosition::Inner => STYP_INNER,
                SegmentPosition::Last => STYP_LAST,
                SegmentPosition::Continuation => &[],
            },
            sample_count: common.sample_count,
            tfhd_flags: DEFAULT_BASE_IS_MOOF,
            default_duration: common.first_duration,
            default_size: common.first_size,
            default_sample_flags: sample_flags(common.first_is_sync),
            tfdt_version: u8::from(base_decode_time > u64::from(u32::MAX)),
            trun_version: u8::from(common.has_negative_offset),
            trun_flags: DATA_OFFSET,
            payload_size: common.payload_size,
            auxiliary_size: 0,
        };
        match common.durations_differ {
            false => layout.tfhd_flags |= DEFAULT_SAMPLE_DURATION,
            true => layout.trun_flags |= SAMPLE_DURATION,
        }
        match common.sizes_differ {
            false => layout.tfhd_flags |= DEFAULT_SAMPLE_SIZE,
            true => layout.trun_flags |= SAMPLE_SIZE,
        }
        if common.has_offset {
            layout.trun_flags |= SAMPLE_COMPOSITION_TIME_OFFSET;
        }
        if common.sync_count == common.sample_count || common.sync_count == 0 {
            layout.tfhd_flags |= DEFAULT_SAMPLE_FLAGS;
        } else if common.sync_count == 1 && common.first_is_sync {
            layout.tfhd_flags |= DEFAULT_SAMPLE_FLAGS;
            layout.default_sample_flags = NON_SYNC;
            layout.trun_flags |= FIRST_SAMPLE_FLAGS;
        } else {
            layout.trun_flags |= SAMPLE_FLAGS;
        }
        layout
    }

    fn header_size(&self) -> usize {
        self.styp.len() + self.moof_size() + self.mdat_header_size()
    }

    fn moof_size(&self) -> usize {
        let mfhd_size = FULL_BOX_HEADER_SIZE + FIELD_SIZE;
        BOX_HEADER_SIZE + mfhd_size + self.traf_size()
    }

    fn traf_size(&self) -> usize {
        BOX_HEADER_SIZE + self.tfhd_size() + self.tfdt_size() + self.trun_size() + self.auxiliary_size
    }

    fn tfhd_size(&self) -> usize {
        let defaults = self.tfhd_flags & (DEFAULT_SAMPLE_DURATION | DEFAULT_SAMPLE_SIZE | DEFAULT_SAMPLE_FLAGS);
        FULL_BOX_HEADER_SIZE + FIELD_SIZE * (1 + defaults.count_ones() as usize)
    }

    fn tfdt_size(&self) -> usize {
        FULL_BOX_HEADER_SIZE + FIELD_SIZE * (1 + usize::from(self.tfdt_version))
    }

    fn trun_size(&self) -> usize {
        let fields = self.trun_flags & (DATA_OFFSET | FIRST_SAMPLE_FLAGS);
        let fixed_size = FULL_BOX_HEADER_SIZE + FIELD_SIZE * (1 + fields.count_ones() as usize);
        fixed_size + self.row_size() * self.sample_count as usize
    }

    /// Bytes that `trun` has for each sample.
    fn row_size(&self) -> usize {
        FIELD_SIZE * (self.trun_flags >> 8).count_ones() as usize
    }

    fn mdat_header_size(&self) -> usize {
        match u32::try_from(self.payload_size + BOX_HEADER_SIZE as u64) {
            Ok(_) => BOX_HEADER_SIZE,
            Err(_) => 2 * BOX_HEADER_SIZE,
        }
    }

    /// ISO/IEC 14496-12:2022 8.8.7 (`tfhd`).
    fn write_tfhd(&self, w: &mut BoxWriter) {
        w.write_full_box(b"tfhd", 0, self.tfhd_flags, |w| {
            w.u32(TRACK_ID);
            for (flag, value) in [
                (DEFAULT_SAMPLE_DURATION, self.default_duration),
                (DEFAULT_SAMPLE_SIZE, self.default_size),
                (DEFAULT_SAMPLE_FLAGS, self.default_sample_flags),
            ] {
                if self.tfhd_flags & flag != 0 {
                    w.u32(value);
                }
            }
        });
    }

    /// ISO/IEC 14496-12:2022 8.8.12 (`tfdt`): the sum of all earlier durations, in 32 bits while it fits.
    fn write_tfdt(&self, w: &mut BoxWriter, base_decode_time: u64) {
        w.write_full_box(b"tfdt", self.tfdt_version, 0, |w| match self.tfdt_version {
            0 => w.u32(base_decode_time as u32),
            _ => w.u64(base_decode_time),
        });
    }

    /// ISO/IEC 14496-12:2022 8.8.8 (`trun`): version 1 only where an offset is negative.
    fn write_trun(&self, w: &mut BoxWriter, samples: &[FragmentSample]) {
        w.write_full_box(b"trun", self.trun_version, self.trun_flags, |w| {
            w.u32(self.sample_count);
            // Fits: the largest track has SAMPLE_COUNT_MAX rows of 16 bytes.
            w.u32((self.moof_size() + self.mdat_header_size()) as u32);
            if self.trun_flags & FIRST_SAMPLE_FLAGS != 0 {
                w.u32(SYNC);
            }
            self.write_rows(w, samples);
        });
    }

    /// Rows of a size that the compiler knows take two thirds of the time.
    fn write_rows(&self, w: &mut BoxWriter, samples: &[FragmentSample]) {
        match self.row_size() {
            4 => self.write_columns::<4>(w, samples),
            8 => self.write_columns::<8>(w, samples),
            12 => self.write_columns::<12>(w, samples),
            16 => self.write_columns::<16>(w, samples),
            _ => {}
        }
    }

    /// Column by column: which columns there are is decided once and not for each sample.
    fn write_columns<const ROW_SIZE: usize>(&self, w: &mut BoxWriter, samples: &[FragmentSample]) {
        let (rows, _) = w.append_zeros(ROW_SIZE * samples.len()).as_chunks_mut::<ROW_SIZE>();
        let mut column_at = 0;
        if self.trun_flags & SAMPLE_DURATION != 0 {
            write_column(rows, &mut column_at, samples, |sample| sample.duration);
        }
        if self.trun_flags & SAMPLE_SIZE != 0 {
            write_column(rows, &mut column_at, samples, |sample| sample.size);
        }
        if self.trun_flags & SAMPLE_FLAGS != 0 {
            write_column(rows, &mut column_at, samples, |sample| sample_flags(sample.sync));
        }
        if self.trun_flags & SAMPLE_COMPOSITION_TIME_OFFSET != 0 {
            write_column(rows, &mut column_at, samples, |sample| sample.composition_offset as u32);
        }
    }

    /// ISO/IEC 14496-12:2022 8.1.1 (`mdat`), with a 64-bit size from 4 GiB.
    fn write_mdat_header(&self, w: &mut BoxWriter) {
        match u32::try_from(self.payload_size + BOX_HEADER_SIZE as u64) {
            Ok(size) => {
                w.u32(size);
                w.bytes(b"mdat");
            }
            Err(_) => {
                w.u32(1);
                w.bytes(b"mdat");
                w.u64(self.payload_size + 2 * BOX_HEADER_SIZE as u64);
            }
        }
    }
}

/// Fills in the field at `column_at` of every row and moves on to the next.
fn write_column<const ROW_SIZE: usize>(
    rows: &mut [[u8; ROW_SIZE]],
    column_at: &mut usize,
    samples: &[FragmentSample],
    value: impl Fn(&FragmentSample) -> u32,
) {
    let at = *column_at;
    for (row, sample) in rows.iter_mut().zip(samples) {
        row[at..at + FIELD_SIZE].copy_from_slice(&value(sample).to_be_bytes());
    }
    *column_at = at + FIELD_SIZE;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::isobmff::{BoxReader, FourCc, fixture};
    use crate::segment;

    fn sample(size: u32, duration: u32, composition_offset: i32, sync: bool) -> FragmentSample {
        FragmentSample {
            size,
            duration,
            composition_offset,
            sync,
        }
    }

    /// Hex digits, and names in quotes, between blanks.
    fn bytes(text: &str) -> Vec<u8> {
        let token = |token: &str| match token.strip_prefix('\'') {
            Some(name) => name.trim_end_matches('\'').as_bytes().to_vec(),
            None => (0..token.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&token[at..at + 2], 16).unwrap())
                .collect(),
        };
        text.split_whitespace().flat_map(token).collect()
    }

    /// What someone who reads a fragment sees.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Seen {
        sequence_number: u32,
        tfdt: (u8, u64),
        trun_version: u8,
        /// From the start of the `moof`.
        data_offset: u64,
        /// From the start of the `moof` to the payload of `mdat`.
        payload_at: u64,
        mdat_size: u64,
        samples: Vec<FragmentSample>,
    }

    /// Reads a header back as ISO/IEC 14496-12 says, defaults and all.
    fn read(header: &[u8]) -> Seen {
        let mut seen = Seen::default();
        let mut top = BoxReader::new(FourCc(*b"file"), 0, 0, header);
        let mut moof = loop {
            let child = top.child().unwrap().unwrap();
            if child.fourcc.0 == *b"moof" {
                break child;
            }
            assert_eq!((child.fourcc.0, child.offset), (*b"styp", 0));
        };
        let moof_at = moof.offset;
        let mut mfhd = moof.child().unwrap().unwrap();
        assert_eq!((mfhd.fourcc.0, mfhd.version_and_flags().unwrap()), (*b"mfhd", (0, 0)));
        seen.sequence_number = mfhd.u32().unwrap();
        let mut traf = moof.child().unwrap().unwrap();
        assert!(moof.child().unwrap().is_none());
        let [mut tfhd, mut tfdt, mut trun] = [(); 3].map(|()| traf.child().unwrap().unwrap());
        assert!(traf.child().unwrap().is_none());

        let (_, tf_flags) = tfhd.version_and_flags().unwrap();
        assert_eq!(tf_flags & !0x38, 0x2_0000, "default-base-is-moof, and nothing unread");
        assert_eq!(tfhd.u32().unwrap(), 1);
        let mut default = |flag| {
            if tf_flags & flag != 0 {
                tfhd.u32().unwrap()
            } else {
                0xdead
            }
        };
        let (duration, size, flags) = (default(8), default(16), default(32));
        assert!(tfhd.is_empty());

        let (tfdt_version, _) = tfdt.version_and_flags().unwrap();
        let time = match tfdt_version {
            0 => u64::from(tfdt.u32().unwrap()),
            _ => tfdt.u64().unwrap(),
        };
        seen.tfdt = (tfdt_version, time);

        let (trun_version, tr_flags) = trun.version_and_flags().unwrap();
        seen.trun_version = trun_version;
        let count = trun.u32().unwrap();
        assert_eq!(tr_flags & 1, 1);
        seen.data_offset = u64::from(trun.u32().unwrap());
        let first_flags = (tr_flags & 4 != 0).then(|| trun.u32().unwrap());
        for at in 0..count {
            let mut field = |flag, default| {
                if tr_flags & flag != 0 {
                    trun.u32().unwrap()
                } else {
                    default
                }
            };
            let (duration, size) = (field(0x100, duration), field(0x200, size));
            let flags = field(0x400, first_flags.filter(|_| at == 0).unwrap_or(flags));
            let composition_offset = field(0x800, 0) as i32;
            assert!(trun_version == 1 || composition_offset >= 0);
            assert!(flags == SYNC || flags == NON_SYNC, "{flags:x}");
            seen.samples
                .push(sample(size, duration, composition_offset, flags == SYNC));
        }
        assert!(trun.is_empty());

        let mdat_at = top.position();
        let mdat = top.remaining();
        let (mdat_size, header_size) = match u32::from_be_bytes(mdat[..4].try_into().unwrap()) {
            1 => (u64::from_be_bytes(mdat[8..16].try_into().unwrap()), 16),
            size => (u64::from(size), 8),
        };
        assert_eq!((&mdat[4..8], mdat.len()), (&b"mdat"[..], header_size));
        seen.mdat_size = mdat_size;
        seen.payload_at = mdat_at + header_size as u64 - moof_at;
        seen
    }

    #[test]
    fn audio_takes_one_column() {
        let samples = [sample(10, 1024, 0, true), sample(11, 1024, 0, true)];
        let header = from_samples(7, 2048, &samples, SegmentPosition::Inner);
        assert_eq!(
            header,
            bytes(
                "
                00000020 'styp' 'cmfs' 00000000 'cmfscmffcmflmsdh'
                00000064 'moof'
                00000010 'mfhd' 00000000 00000007
                0000004C 'traf'
                00000018 'tfhd' 00020028 00000001 00000400
                02000000
                00000010 'tfdt' 00000000 00000800
                0000001C 'trun' 00000201 00000002 0000006C
                0000000A
                0000000B
                0000001D 'mdat'
                "
            )
        );
    }

    #[test]
    fn video_with_reordering_flags_its_first_sample() {
        let samples = [
            sample(9, 3000, 0, true),
            sample(5, 3000, 3000, false),
            sample(5, 3000, -3000, false),
        ];
        let header = from_samples(1, 0, &samples, SegmentPosition::Last);
        assert_eq!(
            header,
            bytes(
                "
                00000024 'styp' 'cmfs' 00000000 'cmfscmffcmflmsdhlmsg'
                00000078 'moof'
                00000010 'mfhd' 00000000 00000001
                00000060 'traf'
                00000018 'tfhd' 00020028 00000001 00000BB8
                01010000
                00000010 'tfdt' 00000000 00000000
                00000030 'trun' 01000A05 00000003 00000080
                02000000
                00000009 00000000
                00000005 00000BB8
                00000005 FFFFF448
                0000001B 'mdat'
                "
            )
        );
    }

    #[test]
    fn constant_samples_take_no_column() {
        let samples = [sample(100, 20, 0, true); 3];
        let header = from_samples(1, 0, &samples, SegmentPosition::Continuation);
        assert!(header[4..8] == *b"moof", "a chunk has no styp");
        let trun_at = header.windows(4).position(|name| name == b"trun").unwrap();
        assert_eq!(header[trun_at - 4..trun_at], [0, 0, 0, 20]);
        assert_eq!(read(&header).samples, samples);
    }

    /// Version and time of `tfdt`, and whether the announced size is that of the header.
    #[test]
    fn decode_time_is_wide_from_two_to_the_32() {
        let check = |time: u64, expected_version| {
            let header = from_samples(1, time, &[sample(1, 1, 0, true)], SegmentPosition::Inner);
            assert_eq!(read(&header).tfdt, (expected_version, time));
        };
        check(0, 0);
        check((1 << 32) - 1, 0);
        check(1 << 32, 1);
        check(u64::MAX, 1);
    }

    #[test]
    fn run_is_signed_only_for_negative_offsets() {
        let check = |offsets: &[i32], expected_version| {
            let samples: Vec<_> = offsets.iter().map(|offset| sample(1, 1, *offset, true)).collect();
            let seen = read(&from_samples(1, 0, &samples, SegmentPosition::Inner));
            assert_eq!((seen.trun_version, seen.samples), (expected_version, samples));
        };
        check(&[0, 0], 0);
        check(&[1, i32::MAX], 0);
        check(&[0, -1], 1);
        check(&[i32::MIN, i32::MAX], 1);
    }

    #[test]
    fn payload_from_4_gib_has_a_wide_size() {
        let check = |last_size: u32, expected: (u64, u64)| {
            let samples = [sample(u32::MAX - 8 - 100, 1, 0, true), sample(last_size, 1, 0, true)];
            let seen = read(&from_samples(1, 0, &samples, SegmentPosition::Inner));
            assert_eq!((seen.mdat_size, seen.payload_at), expected);
            assert_eq!(seen.data_offset, seen.payload_at);
        };
        check(100, (u64::from(u32::MAX), 0x6c));
        check(101, (u64::from(u32::MAX) + 9, 0x74));
    }

    #[test]
    fn fragment_without_samples_is_whole() {
        let seen = read(&from_samples(3, 9, &[], SegmentPosition::Inner));
        assert_eq!((seen.tfdt, seen.samples, seen.mdat_size), ((0, 9), vec![], 8));
    }

    #[test]
    fn trick_play_decodes_when_it_shows() {
        // Two groups of pictures; the second starts with a picture that is decoded early.
        let rows = [
            (50, 45_000, 0, true),
            (5, 45_000, 45_000, false),
            (60, 45_000, 0, true),
            (5, 45_000, 0, false),
        ];
        let check = |edit_offset, expected: &[(u64, u32, u32)]| {
            let index = fixture::index(0, &rows, edit_offset);
            let seen: Vec<_> = segment::trick_frames(&index)
                .iter()
                .map(|frame| read(&trick_play_header(&index, frame, 1, SegmentPosition::Inner)))
                .map(|seen| (seen.tfdt.1, seen.samples[0].size, seen.samples[0].duration))
                .collect();
            assert_eq!(seen, expected);
        };
        check(0, &[(0, 50, 90_000), (90_000, 60, 90_000)]);
        // Trimmed: the header's edit list takes 30,000 ticks away; the first picture is shown from zero on.
        check(30_000, &[(30_000, 50, 60_000), (90_000, 60, 90_000)]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            rows in prop::collection::vec(
                (0u32..200_000, 1u32..5000, -9000i32..9000, any::<bool>()), 1..400),
            constant in (any::<bool>(), any::<bool>(), any::<bool>(), 0u8..4),
            cuts in prop::collection::vec(0u32..400, 0..5),
            late in prop_oneof![Just(0i64), Just(-(1i64 << 32)), -90_000i64..9000],
        ) {
            let rows: Vec<_> = rows.iter().enumerate().map(|(at, (size, duration, offset, sync))| (
                if constant.0 { 77 } else { *size },
                if constant.1 { 3000 } else { *duration },
                if constant.2 { 0 } else { *offset },
                match constant.3 { 0 => true, 1 => at == 0, 2 => at % 7 == 0, _ => *sync },
            )).collect();
            let index = fixture::index(1000, &rows, late);
            let mut cuts: Vec<u32> = cuts.into_iter().filter(|cut| *cut < rows.len() as u32).collect();
            cuts.extend([0, rows.len() as u32]);
            cuts.sort_unstable();
            cuts.dedup();
            let mut next_decode_time = index.first_decode_time();
            for (range, sequence_number) in cuts.windows(2).map(|pair| pair[0]..pair[1]).zip(1..) {
                let position = if sequence_number % 2 == 0 { SegmentPosition::Last } else { SegmentPosition::Inner };
                let header = header(&index, range.clone(), sequence_number, position);
                prop_assert_eq!(header.len(), header_size(&index, range.clone(), position));
                let seen = read(&header);
                let samples: Vec<_> = index.samples(range.clone()).map(FragmentSample::from).collect();
                prop_assert_eq!(seen.tfdt.1, next_decode_time);
                prop_assert_eq!(seen.sequence_number, sequence_number);
                prop_assert_eq!(seen.data_offset, seen.payload_at);
                prop_assert_eq!(seen.mdat_size, 8 + index.size_bytes(range));
                prop_assert_eq!(seen.trun_version == 1, samples.iter().any(|sample| sample.composition_offset < 0));
                prop_assert_eq!(&seen.samples, &samples);
                next_decode_time += seen.samples.iter().map(|sample| u64::from(sample.duration)).sum::<u64>();
            }
        }
    }
}
