//! Edit lists, alone and combined with composition offsets.

use super::fixture::*;

/// Two groups of pictures, 100 ticks each, the first with a delay of one picture for reordering.
const REORDERED: &[Row] = &[
    (100, 100, true),
    (100, 200, false),
    (100, 0, false),
    (100, 100, true),
    (100, 200, false),
    (100, 0, false),
];

fn check_video(rows: &[Row], edits: &[EditRow], expected: &str) {
    check(&movie(&[video(rows, edits)], Form::default()), &[expected]);
}

fn check_audio(frame_count: usize, edits: &[EditRow], expected: &str) {
    // Video at zero keeps the timeline where the edits put it.
    let source = movie(
        &[video(&[(1_000, 0, true)], &[]), audio(frame_count, edits)],
        Form::default(),
    );
    check(&source, &["1 +0 -0: 0!", expected]);
}

#[test]
fn video_without_edits_starts_at_zero() {
    check_video(REORDERED, &[], "1 +0 -0: 0! 200 100 300! 500 400");
}

#[test]
fn an_edit_takes_the_reordering_delay_away() {
    check_video(REORDERED, &[(360, 100, PLAY)], "1 +0 -0: 0! 200 100 300! 500 400");
    check_video(REORDERED, &[(0, 100, PLAY)], "1 +0 -0: 0! 200 100 300! 500 400");
}

#[test]
fn pre_roll_stays_from_the_last_sync_sample() {
    check_video(REORDERED, &[(0, 200, PLAY)], "1 +0 -100: -100! 100 0 200! 400 300");
    check_video(REORDERED, &[(0, 400, PLAY)], "1 +0 -0: 0! 200 100");
    check_video(REORDERED, &[(0, 450, PLAY)], "1 +0 -50: -50! 150 50");
}

#[test]
fn an_edits_end_drops_what_follows_it() {
    // 180/600 s is 300 ticks: the pictures at 0, 100 and 200 are shown.
    check_video(REORDERED, &[(180, 100, PLAY)], "1 +0 -0: 0! 200 100");
    // Decoded before a picture that is shown, so it stays.
    check_video(REORDERED, &[(120, 100, PLAY)], "1 +0 -0: 0! 200 100");
    check_video(REORDERED, &[(60, 100, PLAY)], "1 +0 -0: 0!");
    check_video(REORDERED, &[(181, 100, PLAY)], "1 +0 -0: 0! 200 100 300!");
}

#[test]
fn empty_edits_delay_a_track() {
    let source = movie(
        &[
            video(REORDERED, &[(60, -1, PLAY), (0, 100, PLAY)]),
            audio(2, &[(0, 0, PLAY)]),
        ],
        Form::default(),
    );
    check(&source, &["1 +100 -0: 100! 300 200 400! 600 500", "2 +0 -0: 0! 960!"]);
    // Two of them, and nothing behind.
    let source = movie(
        &[video(REORDERED, &[(30, -1, PLAY), (30, -1, PLAY)]), audio(1, &[])],
        Form::default(),
    );
    check(&source, &["1 +200 -0: 200! 400 300 500! 700 600", "2 +0 -0: 0!"]);
}

#[test]
fn the_earliest_track_starts_at_zero() {
    let source = movie(
        &[
            video(REORDERED, &[(600, -1, PLAY), (0, 100, PLAY)]),
            audio(1, &[(900, -1, PLAY), (0, 0, PLAY)]),
        ],
        Form::default(),
    );
    check(&source, &["1 +0 -0: 0! 200 100 300! 500 400", "2 +24000 -0: 24000!"]);
}

#[test]
fn audio_keeps_its_priming() {
    check_audio(3, &[(0, 312, PLAY)], "2 +0 -312: -312! 648! 1608!");
    check_audio(3, &[(15, 312, PLAY)], "2 +0 -312: -312! 648!");
    // An edit that starts later keeps a tenth of a second in front.
    let mut times: Vec<String> = (0..5).map(|frame| format!("{}!", (frame - 5) * 960)).collect();
    times.extend((0..5).map(|frame| format!("{}!", frame * 960)));
    check_audio(65, &[(0, 60 * 960, PLAY)], &format!("2 +0 -4800: {}", times.join(" ")));
}

#[test]
fn adjoining_edits_are_one() {
    check_video(
        REORDERED,
        &[(60, 100, PLAY), (60, 200, PLAY), (60, 300, PLAY)],
        "1 +0 -0: 0! 200 100",
    );
}

#[test]
fn further_edits_append_samples_again() {
    let intra = &[(100, 0, true); 5];
    check_video(intra, &[(120, 300, PLAY), (120, 0, PLAY)], "1 +0 -0: 0! 100! 200! 300!");
    // The same bytes are shown twice.
    let source = movie(
        &[video(intra, &[(60, 100, PLAY), (60, 100, PLAY), (60, 100, PLAY)])],
        Form::default(),
    );
    check(&source, &["1 +0 -0: 0! 100! 200!"]);
    let tracks = super::super::read(&source).unwrap();
    let offsets: Vec<u64> = tracks.tracks[0].index.iter().map(|sample| sample.offset).collect();
    assert!(offsets.iter().all(|offset| *offset == offsets[0]), "{offsets:?}");
    // A gap between two edits makes the picture before it last longer.
    check_video(
        intra,
        &[(60, 0, PLAY), (60, -1, PLAY), (60, 300, PLAY)],
        "1 +0 -0: 0! 200!",
    );
    // Reordered pictures join as long as groups stay whole.
    check_video(
        REORDERED,
        &[(180, 400, PLAY), (180, 100, PLAY)],
        "1 +0 -0: 0! 200 100 300! 500 400",
    );
    let source = movie(
        &[
            video(&[(1_000, 0, true)], &[]),
            audio(6, &[(12, 1_920, PLAY), (12, 0, PLAY)]),
        ],
        Form::default(),
    );
    check(&source, &["1 +0 -0: 0!", "2 +0 -1920: -1920! -960! 0! 960!"]);
}

#[test]
fn what_can_not_be_shown_is_refused_with_a_reason() {
    let check_refused = |edits: &[EditRow], why: &str| {
        let source = movie(&[video(REORDERED, edits)], Form::default());
        check(&source, &[&format!("track 1 (video, vp08): {why}")]);
    };
    check_refused(&[(0, 100, 0x8000)], "edit 0 plays at rate 500/1000");
    check_refused(&[(60, 100, 0)], "edit 0 plays at rate 0/1000");
    check_refused(&[(60, 100, PLAY), (0, -2, PLAY)], "edit 1 starts at media time -2");
    check_refused(&[(0, 700, PLAY)], "nothing is left of it by its edit list");
    check_refused(
        &[(60, i64::MAX, PLAY)],
        "edit 0 starts at media time 9223372036854775807",
    );
    check_refused(
        &[(60, 100, PLAY), (60, 500, PLAY)],
        "an edit starts where nothing can be decoded by itself",
    );
    check_refused(
        &[(u64::MAX, -1, PLAY), (60, 500, PLAY)],
        "edit 0 shows nothing for 18446744073709551615 ticks",
    );
    check_refused(
        &[(120, 100, PLAY), (60, 400, PLAY)],
        "an edit cuts between pictures that are not in display order",
    );
    check_refused(
        &[(0, 0, PLAY), (1, 99_999_999, PLAY)],
        "nothing is left of it by its edit list",
    );
}

#[test]
fn pictures_that_nothing_decodes_are_dropped() {
    let rows = &[(100, 0, false), (100, 0, false), (100, 0, true), (100, 0, false)];
    let source = movie(&[video(rows, &[])], Form::default());
    check(
        &source,
        &[
            "1 +0 -0: 0! 100",
            "start of track 1 (video, vp08): 2 samples in front of the first sync sample",
        ],
    );
    // Without any, the first has to do.
    let source = movie(&[video(&[(100, 0, false), (100, 0, false)], &[])], Form::default());
    check(&source, &["1 +0 -0: 0! 100"]);
}
