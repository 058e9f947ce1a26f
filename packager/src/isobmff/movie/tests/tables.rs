//! Sample tables and the layout of files.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::read;
use super::fixture::*;
use crate::isobmff::BoxWriter;

const ROWS: &[Row] = &[
    (100, 0, true),
    (100, 0, false),
    (100, 0, false),
    (100, 0, true),
    (100, 0, false),
];
const EXPECTED: &str = "1 +0 -0: 0! 100 200 300! 400";

#[test]
fn every_layout_gives_the_same_samples() {
    for moov_first in [true, false] {
        for long_offsets in [true, false] {
            for size_bits in [4, 8, 16, 32] {
                for mdat in [Mdat::Plain, Mdat::Large, Mdat::ToEnd, Mdat::Wide] {
                    for chunk in [1, 2, 100] {
                        if mdat == Mdat::ToEnd && !moov_first {
                            continue;
                        }
                        let form = Form {
                            moov_first,
                            long_offsets,
                            size_bits,
                            chunk,
                            mdat,
                        };
                        let source = movie(&[video(ROWS, &[]), audio(7, &[])], form);
                        assert_eq!(lines(&source)[0], EXPECTED, "{form:?}");
                        let tracks = read(&source).unwrap();
                        // The media is 0, 1, 2, … so that a byte tells where it lies.
                        let mut next = 0;
                        for (sample_index, sample) in tracks
                            .tracks
                            .iter()
                            .flat_map(|track| track.index.iter().enumerate().collect::<Vec<_>>())
                        {
                            assert_eq!(sample.size, size_of(sample_index), "{form:?}");
                            assert_eq!(source[sample.offset as usize], next, "{form:?}");
                            next += sample.size as u8;
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn junk_behind_the_end_is_passed_over() {
    let whole = movie(&[video(ROWS, &[])], Form::default());
    for junk in [
        &b"\0\0\0\0\0\0\0\0\0\0"[..],
        b"\xff\xff\xff\xffjunk",
        b"\0\0\0\x07free",
        b"abc",
    ] {
        check(&Bytes::from([&whole[..], junk].concat()), &[EXPECTED]);
    }
}

#[test]
fn a_file_cut_in_its_media_is_served_up_to_there() {
    let whole = movie(&[video(ROWS, &[])], Form::default());
    let media_size: usize = (0..ROWS.len()).map(|sample_index| size_of(sample_index) as usize).sum();
    let header_size = whole.len() - media_size;
    for end in 0..whole.len() {
        let got = lines(&whole.slice(..end));
        if end < header_size - 8 {
            assert!(got[0].starts_with("error: "), "{end}: {got:?}");
            continue;
        }
        let mut media_left = end.saturating_sub(header_size);
        let present = (0..ROWS.len())
            .take_while(|sample_index| {
                let size = size_of(*sample_index) as usize;
                let fits = size <= media_left;
                media_left = media_left.saturating_sub(size);
                fits
            })
            .count();
        match present {
            0 => assert_eq!(
                got,
                ["track 1 (video, vp08): truncated: none of its samples lies in the file"]
            ),
            _ => assert_eq!(
                got[1],
                format!(
                    "end of track 1 (video, vp08): truncated: last {} samples missing",
                    ROWS.len() - present
                )
            ),
        }
    }
}

#[test]
fn a_header_behind_four_gibibytes_is_found() {
    /// A file whose middle is not there.
    struct Sparse {
        head: Bytes,
        tail_offset: u64,
        tail: Bytes,
    }
    impl crate::source::ReadAt for Sparse {
        fn size(&self) -> u64 {
            self.tail_offset + self.tail.len() as u64
        }
        fn read_at(&self, offset: u64, size: usize) -> Result<Bytes, crate::source::ReadError> {
            let mut bytes = vec![0; size];
            for (at, byte) in bytes.iter_mut().enumerate() {
                let position = offset + at as u64;
                *byte = match position.checked_sub(self.tail_offset) {
                    Some(in_tail) => *self.tail.get(in_tail as usize).expect("inside"),
                    None => self.head.get(position as usize).copied().unwrap_or(0),
                };
            }
            Ok(Bytes::from(bytes))
        }
    }
    let tail_offset = 5 << 32;
    let mut head = BoxWriter::default();
    head.write_box(b"ftyp", |w| w.bytes(b"isom\0\0\0\0isom"));
    head.u32(1);
    head.bytes(b"mdat");
    head.u64(tail_offset - 20);
    let mut tail = BoxWriter::default();
    let form = Form {
        long_offsets: true,
        ..Form::default()
    };
    tail.write_box(b"moov", |w| {
        write_mvhd(w);
        write_trak(w, &video(ROWS, &[]), form, tail_offset - 1_000);
    });
    let source = Sparse {
        head: Bytes::from(head.finish()),
        tail_offset,
        tail: Bytes::from(tail.finish()),
    };
    let tracks = read(&source).unwrap();
    assert_eq!(lines_of(&tracks), [EXPECTED]);
    assert_eq!(
        tracks.tracks[0].index.iter().next().unwrap().offset,
        tail_offset - 1_000
    );
}

#[test]
fn several_sample_entries_need_to_agree() {
    let with = |entries: Vec<Vec<u8>>, second_description| {
        let spec = Spec {
            entries,
            second_description,
            ..video(ROWS, &[])
        };
        movie(&[spec], Form::default())
    };
    check(&with(vec![vp8(320), vp8(640)], 1), &[EXPECTED]);
    check(&with(vec![vp8(320), vp8(320)], 2), &[EXPECTED]);
    check(
        &with(vec![vp8(320), vp8(640)], 2),
        &["track 1 (video, vp08): its coding changes on the way (2 sample entries)"],
    );
    check(&with(vec![vp8(320)], 2), &[EXPECTED]);
    check(
        &with(vec![vp8(320), vp8(320)], 3),
        &["track 1 (video, vp08): sample description 3 of 2"],
    );
    check(&with(vec![], 1), &["track 1 (video): no sample entry (stsd)"]);
}

#[test]
fn tracks_that_are_no_media_are_refused_alone() {
    let check_handler = |handler: &[u8; 4], why: &str| {
        let other = Spec {
            id: 9,
            handler: *handler,
            ..video(ROWS, &[])
        };
        check(&movie(&[video(ROWS, &[]), other], Form::default()), &[EXPECTED, why]);
    };
    check_handler(b"tmcd", "track 9 (timecode, vp08): timecode, not media");
    check_handler(b"hint", "track 9 (hint, vp08): hints for streaming servers, not media");
    check_handler(b"meta", "track 9 (metadata, vp08): timed metadata, not media");
    check_handler(
        b"xxxx",
        "track 9 (unknown, vp08): handler xxxx: its media is of no known kind",
    );
    check_handler(b"soun", "track 9 (audio, vp08): coding vp08 is not served");
    let no_time = Spec {
        id: 9,
        timescale: 0,
        ..video(ROWS, &[])
    };
    check(
        &movie(&[no_time, video(ROWS, &[])], Form::default()),
        &[EXPECTED, "track 9 (video, vp08): timescale is zero"],
    );
    check(
        &movie(&[video(ROWS, &[]), video(ROWS, &[])], Form::default()),
        &[EXPECTED, "second track 1: track number used twice"],
    );
}

#[test]
fn text_samples_are_kept_as_they_are() {
    let text = Spec {
        handler: *b"text",
        entries: vec![wvtt()],
        ..video(&[(5, 0, true), (7, 0, true)], &[])
    };
    check(&movie(&[text], Form::default()), &["1 +0 -0: 0! 5!"]);
}

#[test]
fn a_claim_of_many_samples_costs_what_the_file_holds() {
    // 50 million samples of one byte, all of them in one chunk, in a file of some hundred bytes.
    let mut spec = video(&[(1, 0, true)], &[]);
    spec.id = 1;
    let source = movie(&[spec], Form::default());
    let position = source.windows(4).position(|name| name == b"stsz").unwrap();
    let mut bytes = source.to_vec();
    bytes[position + 8..position + 12].copy_from_slice(&1u32.to_be_bytes());
    bytes[position + 12..position + 16].copy_from_slice(&50_000_000u32.to_be_bytes());
    let position = source.windows(4).position(|name| name == b"stsc").unwrap();
    bytes[position + 16..position + 20].copy_from_slice(&u32::MAX.to_be_bytes());
    let tracks = read(&Bytes::from(bytes)).unwrap();
    assert_eq!(tracks.tracks[0].index.sample_count(), 1);
    assert!(
        tracks.refused[0].why.contains("49999999 samples missing"),
        "{:?}",
        tracks.refused
    );
}

#[test]
fn files_that_are_no_movies_are_refused() {
    check(
        &Bytes::new(),
        &["error: no moov: not an MP4 or QuickTime file, or one cut off before its header"],
    );
    check(
        &Bytes::from_static(b"\x1a\x45\xdf\xa3matroskamatroska"),
        &["error: no moov: not an MP4 or QuickTime file, or one cut off before its header"],
    );
    check(
        &Bytes::from_static(b"\0\0\0\x10styp\0\0\0\0\0\0\0\0\0\0\0\x08moof"),
        &["error: no moov (a media segment without its header)"],
    );
    check(
        &Bytes::from_static(b"\0\0\0\x01moov\xff\xff\xff\xff\xff\xff\xff\xff"),
        &["error: moov at 0: wants 18446744073709551615 bytes, has 16"],
    );
}

proptest! {
    /// Sizes of 16 bits are read sample by sample, those of 32 bits column by column.
    #[test]
    fn columns_are_the_samples_one_by_one(
        rows in prop::collection::vec((1u32..300, prop_oneof![Just(0i32), -300..900], any::<bool>()), 1..300),
        even in any::<bool>(),
        leads in any::<bool>(),
        chunk in 1usize..100,
        edits in prop::collection::vec((0u64..40_000, -1i64..3_000, Just(PLAY)), 0..2),
        frames in 1usize..200,
    ) {
        let mut rows = rows;
        rows[0].2 |= leads;
        if even {
            rows.iter_mut().for_each(|row| (row.0, row.1) = (40, 0));
        }
        let index_of = |size_bits| {
            let form = Form { moov_first: false, size_bits, chunk, ..Form::default() };
            let tracks = read(&movie(&[video(&rows, &edits), audio(frames, &edits)], form)).unwrap();
            let indexes: Vec<Bytes> = tracks.tracks.iter().map(|track| track.index.to_stored().unwrap()).collect();
            (indexes, tracks.refused)
        };
        prop_assert_eq!(index_of(32), index_of(16));
    }
}

/// A film of so many samples that its tables are left where they lie.
#[test]
fn tables_of_a_long_film_are_left_as_they_lie() {
    let rows: Vec<Row> = (0..33_000)
        .map(|at| (40, [80, 200, 80, 0, 40][at % 5], at % 50 == 0))
        .collect();
    let film = |form| movie(&[video(&rows, &[(0, 80, PLAY)]), audio(40_000, &[])], form);
    for (chunk, long_offsets) in [(1, false), (7, true)] {
        let form = Form {
            moov_first: false,
            long_offsets,
            chunk,
            ..Form::default()
        };
        let listed = read(&film(form)).unwrap();
        let copied = read(&film(Form { size_bits: 16, ..form })).unwrap();
        assert_eq!((listed.tracks.len(), listed.refused.len()), (2, 0));
        assert!(!listed.has_encrypted);
        for (listed, copied) in listed.tracks.iter().zip(&copied.tracks) {
            assert!(!listed.index.is_packed() && copied.index.is_packed());
            assert!(listed.index.iter().eq(copied.index.iter()));
            assert_eq!(listed.index.identity(), copied.index.identity());
            assert!(listed.index.to_stored() == copied.index.to_stored());
        }
        // The last byte is that of a sample: its track is looked at sample by sample, the other is not.
        let whole = film(Form {
            moov_first: true,
            ..form
        });
        let cut = read(&whole.slice(..whole.len() - 1)).unwrap();
        let packed: Vec<bool> = cut.tracks.iter().map(|track| track.index.is_packed()).collect();
        assert_eq!(packed, [false, true]);
        assert_eq!(cut.tracks[1].index.sample_count(), 39_999);
        assert_eq!(cut.refused.len(), 1);
        assert!(
            cut.refused[0].why.contains("last 1 samples missing"),
            "{:?}",
            cut.refused
        );
    }
}
