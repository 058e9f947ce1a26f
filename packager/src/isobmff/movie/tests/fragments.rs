//! Movie fragments: where data lies, when it is decoded, and what joins the pieces.

use bytes::Bytes;

use super::fixture::*;
use crate::isobmff::BoxWriter;

const NON_SYNC: u32 = 0x1_0000;

/// One `trun`: where its data starts relative to the base (`None`: not said), and its samples.
#[derive(Clone)]
struct Run {
    data_offset: Option<i32>,
    rows: Vec<Row>,
    first_flags: Option<u32>,
}

#[derive(Clone)]
struct Traf {
    id: u32,
    /// Absolute, or none.
    base_offset: Option<u64>,
    base_is_moof: bool,
    decode_time: Option<u64>,
    runs: Vec<Run>,
}

fn run(rows: &[Row]) -> Run {
    Run {
        data_offset: None,
        rows: rows.to_vec(),
        first_flags: None,
    }
}

fn traf(id: u32, decode_time: u64, rows: &[Row]) -> Traf {
    Traf {
        id,
        base_offset: None,
        base_is_moof: true,
        decode_time: Some(decode_time),
        runs: vec![run(rows)],
    }
}

fn write_moof(w: &mut BoxWriter, trafs: &[Traf]) {
    w.write_box(b"moof", |w| {
        w.write_full_box(b"mfhd", 0, 0, |w| w.u32(1));
        for traf in trafs {
            w.write_box(b"traf", |w| {
                let flags = u32::from(traf.base_offset.is_some()) | u32::from(traf.base_is_moof) << 17;
                w.write_full_box(b"tfhd", 0, flags, |w| {
                    w.u32(traf.id);
                    if let Some(offset) = traf.base_offset {
                        w.u64(offset);
                    }
                });
                if let Some(decode_time) = traf.decode_time {
                    w.write_full_box(b"tfdt", 1, 0, |w| w.u64(decode_time));
                }
                for run in &traf.runs {
                    let flags = u32::from(run.data_offset.is_some()) | u32::from(run.first_flags.is_some()) << 2;
                    let per_sample = if run.first_flags.is_some() { 0xb00 } else { 0xf00 };
                    w.write_full_box(b"trun", 1, flags | per_sample, |w| {
                        w.u32(run.rows.len() as u32);
                        if let Some(offset) = run.data_offset {
                            w.i32(offset);
                        }
                        if let Some(flags) = run.first_flags {
                            w.u32(flags);
                        }
                        for (sample_index, (duration, composition_offset, sync)) in run.rows.iter().enumerate() {
                            w.u32(*duration);
                            w.u32(size_of(sample_index));
                            if run.first_flags.is_none() {
                                w.u32(if *sync { 0 } else { NON_SYNC });
                            }
                            w.i32(*composition_offset);
                        }
                    });
                }
            });
        }
    });
}

fn header(specs: &[Spec], default_flags: u32) -> BoxWriter {
    let mut w = BoxWriter::default();
    w.write_box(b"ftyp", |w| w.bytes(b"iso6\0\0\0\0iso6"));
    w.write_box(b"moov", |w| {
        write_mvhd(w);
        for spec in specs {
            write_trak(w, spec, Form::default(), 0);
        }
        w.write_box(b"mvex", |w| {
            for spec in specs {
                w.write_full_box(b"trex", 0, 0, |w| {
                    w.u32(spec.id);
                    w.u32(1);
                    w.u32(0);
                    w.u32(0);
                    w.u32(default_flags);
                });
            }
        });
    });
    w
}

/// A header, then for each group of `traf`s a `moof` and 100 bytes of media.
fn fragmented(specs: &[Spec], moofs: &[Vec<Traf>]) -> Bytes {
    let mut w = header(specs, NON_SYNC);
    for trafs in moofs {
        write_moof(&mut w, trafs);
        w.write_box(b"mdat", |w| w.zeros(100));
    }
    Bytes::from(w.finish())
}

const GROUP: &[Row] = &[(100, 0, true), (100, 0, false), (100, 0, false)];

fn offsets(source: &Bytes) -> Vec<Vec<u64>> {
    let tracks = super::super::read(source).unwrap();
    tracks
        .tracks
        .iter()
        .map(|track| track.index.iter().map(|sample| sample.offset).collect())
        .collect()
}

#[test]
fn fragments_follow_one_another() {
    let source = fragmented(
        &[video(&[], &[])],
        &[vec![traf(1, 0, GROUP)], vec![traf(1, 300, GROUP)]],
    );
    check(&source, &["1 +0 -0: 0! 100 200 300! 400 500"]);
}

#[test]
fn a_missing_decode_time_continues() {
    let mut second = traf(1, 0, GROUP);
    second.decode_time = None;
    let source = fragmented(&[video(&[], &[])], &[vec![traf(1, 0, GROUP)], vec![second]]);
    check(&source, &["1 +0 -0: 0! 100 200 300! 400 500"]);
}

#[test]
fn gaps_lengthen_and_small_overlaps_shorten_the_sample_before() {
    let with = |decode_time| {
        fragmented(
            &[video(&[], &[])],
            &[vec![traf(1, 0, GROUP)], vec![traf(1, decode_time, GROUP)]],
        )
    };
    check(&with(350), &["1 +0 -0: 0! 100 200 350! 450 550"]);
    check(&with(201), &["1 +0 -0: 0! 100 200 201! 301 401"]);
    let refused = "track 1 (video, vp08): a fragment at decode time 200 starts 100 ticks before the one in front ends";
    check(&with(200), &[refused]);
    check(
        &with(1 << 40),
        &["track 1 (video, vp08): a gap of 1099511627576 ticks in front of decode time 1099511627776"],
    );
    check(
        &with(u64::MAX),
        &["track 1 (video, vp08): decode time 18446744073709551615 is out of range"],
    );
}

#[test]
fn a_late_start_is_taken_from_all_tracks_alike() {
    // Video from 10 s, audio 20 ms later.
    let specs = [
        video(&[], &[]),
        Spec {
            rows: vec![],
            ..audio(0, &[])
        },
    ];
    let sound: Vec<Row> = vec![(960, 0, true); 2];
    let moof = vec![traf(1, 10_000, GROUP), traf(2, 480_960, &sound)];
    check(
        &fragmented(&specs, &[moof]),
        &["1 +0 -0: 0! 100 200", "2 +960 -0: 960! 1920!"],
    );
}

#[test]
fn edits_of_the_header_apply_but_do_not_cut() {
    let rows = &[(100, 100, true), (100, 100, false)];
    let source = fragmented(
        &[video(&[], &[(60, 100, PLAY)])],
        &[vec![traf(1, 0, rows)], vec![traf(1, 200, rows)]],
    );
    check(&source, &["1 +0 -0: 0! 100 200! 300"]);
}

#[test]
fn negative_offsets_need_no_edit() {
    let rows = &[(100, 0, true), (100, 100, false), (100, -100, false)];
    let source = fragmented(&[video(&[], &[])], &[vec![traf(1, 0, rows)]]);
    check(&source, &["1 +0 -0: 0! 200 100"]);
}

#[test]
fn data_lies_where_the_base_says() {
    let specs = [
        video(&[], &[]),
        Spec {
            id: 2,
            ..video(&[], &[])
        },
    ];
    let rows = &[(100, 0, true), (100, 0, false)];
    let two_runs = |id, base_offset, base_is_moof, offset| Traf {
        id,
        base_offset,
        base_is_moof,
        decode_time: Some(0),
        runs: vec![
            Run {
                data_offset: offset,
                ..run(rows)
            },
            run(rows),
        ],
    };
    let sizes = u64::from(size_of(0) + size_of(1));
    let spread = |start: u64| vec![start, start + 1, start + sizes, start + sizes + 1];
    let moof_offset = header(&specs, 0).len() as u64;
    // From the moof.
    let source = fragmented(
        &specs,
        &[vec![
            two_runs(1, None, true, Some(300)),
            two_runs(2, None, true, Some(330)),
        ]],
    );
    assert_eq!(offsets(&source), [spread(moof_offset + 300), spread(moof_offset + 330)]);
    // Nothing said: the second track follows the first.
    let source = fragmented(
        &specs,
        &[vec![
            two_runs(1, None, false, Some(300)),
            two_runs(2, None, false, None),
        ]],
    );
    assert_eq!(
        offsets(&source),
        [spread(moof_offset + 300), spread(moof_offset + 300 + 2 * sizes)]
    );
    // An absolute base, and one that is not even a number.
    let source = fragmented(
        &specs,
        &[vec![
            two_runs(1, Some(10), false, Some(-3)),
            two_runs(2, Some(1), true, None),
        ]],
    );
    assert_eq!(offsets(&source), [spread(7), spread(1)]);
    let source = fragmented(
        &specs,
        &[vec![
            two_runs(1, Some(u64::MAX), false, Some(1)),
            two_runs(2, Some(0), false, Some(-1)),
        ]],
    );
    check(
        &source,
        &[
            "track 1 (video, vp08): truncated: none of its samples lies in the file",
            "track 2 (video, vp08): truncated: none of its samples lies in the file",
        ],
    );
}

#[test]
fn flags_of_the_first_sample_stand_above_the_defaults() {
    let runs = vec![Run {
        first_flags: Some(0x200_0000),
        ..run(GROUP)
    }];
    let source = fragmented(
        &[video(&[], &[])],
        &[vec![Traf {
            runs,
            ..traf(1, 0, GROUP)
        }]],
    );
    check(&source, &["1 +0 -0: 0! 100 200"]);
    // "Depends on others" is no sync sample, whatever the other bit says.
    let runs = vec![
        run(GROUP),
        Run {
            first_flags: Some(0x100_0000),
            ..run(GROUP)
        },
    ];
    let source = fragmented(
        &[video(&[], &[])],
        &[vec![Traf {
            runs,
            ..traf(1, 0, GROUP)
        }]],
    );
    check(&source, &["1 +0 -0: 0! 100 200 300 400 500"]);
}

#[test]
fn samples_of_the_header_come_before_those_of_fragments() {
    let source = fragmented(&[video(GROUP, &[])], &[vec![traf(1, 300, GROUP)]]);
    check(&source, &["1 +0 -0: 0! 100 200 300! 400 500"]);
}

#[test]
fn a_cut_file_is_served_up_to_there() {
    let source = fragmented(
        &[video(&[], &[])],
        &[vec![traf(1, 0, GROUP)], vec![traf(1, 300, GROUP)]],
    );
    let header_size = header(&[video(&[], &[])], 0).len();
    for end in 0..source.len() {
        let got = lines(&source.slice(..end));
        match end {
            _ if end < header_size => assert!(got[0].starts_with("error: "), "{end}: {got:?}"),
            _ => assert!(!got[0].starts_with("error: "), "{end}: {got:?}"),
        }
    }
    // In the middle of the second fragment's header.
    let got = lines(&source.slice(..source.len() - 120));
    assert_eq!(got[0], "1 +0 -0: 0! 100 200");
    assert!(got[1].starts_with("everything from fragment 2 on: moof at "), "{got:?}");
}

#[test]
fn a_track_without_samples_in_any_fragment_is_refused() {
    let source = fragmented(&[video(&[], &[])], &[]);
    check(&source, &["track 1 (video, vp08): no samples"]);
}
