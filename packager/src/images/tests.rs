#![allow(clippy::indexing_slicing)]
use super::*;

fn file(number: u8) -> ImageFile {
    ImageFile {
        size_bytes: 1_000 * u64::from(number),
        sha256: format!("{number:02x}").repeat(32),
    }
}

fn track(count: u32, sheets: u8) -> ImageTrack {
    ImageTrack {
        format: FORMAT.into(),
        columns: 2,
        rows: 2,
        tile_width: 192,
        tile_height: 108,
        interval_ms: 10_000,
        count,
        sheets: (1..=sheets).map(file).collect(),
        poster: Some(Poster {
            width: 1280,
            height: 720,
            file: file(9),
        }),
    }
}

#[test]
fn what_is_written_is_read() {
    let track = track(5, 2);
    let json = track.write().unwrap();
    assert_eq!(ImageTrack::read(&json), Ok(track));
    for end in 0..json.len() {
        assert!(ImageTrack::read(&json[..end]).is_err(), "{end} bytes");
    }
}

#[test]
fn wrong_descriptions_are_refused() {
    let json = String::from_utf8(track(5, 2).write().unwrap()).unwrap();
    let check = |from: &str, to: &str, expected: &str| {
        assert!(json.contains(from), "{from} is not in {json}");
        let error = ImageTrack::read(json.replacen(from, to, 1).as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{from} → {to}: {error}");
    };
    check("thumbnails-1", "thumbnails-2", "format");
    check("\"columns\": 2", "\"columns\": 0", "columns 0");
    check("\"rows\": 2", "\"rows\": 4294967295", "rows 4294967295");
    check("\"tile_width\": 192", "\"tile_width\": 40000", "tile_width");
    check("\"tile_height\": 108", "\"tile_height\": 0", "tile_height");
    check("\"interval_ms\": 10000", "\"interval_ms\": 0", "interval_ms");
    check("\"count\": 5", "\"count\": 4000000000", "count");
    check("\"count\": 5", "\"count\": 9", "number of sheets 2 is not 3");
    check("\"count\": 5", "\"count\": 4", "number of sheets");
    check("\"size_bytes\": 1000", "\"size_bytes\": 0", "size_bytes");
    check("\"size_bytes\": 1000", "\"size_bytes\": 99999999999", "size_bytes");
    check("0101", "01G1", "1.jpg");
    check("0909", "", "poster.jpg");
    check("\"count\"", "\"counts\"", "counts");
    let long = vec![b' '; THUMBNAILS_SIZE_BYTES_MAX as usize + 1];
    assert!(matches!(ImageTrack::read(&long), Err(ImageError::TooLong { .. })));
}

#[test]
fn sheets_cover_the_presentation_exactly() {
    let check = |count, sheets, duration_ms, expected| {
        let fits = track(count, sheets).fits(MediaTime::from_millis(duration_ms)).is_ok();
        assert_eq!(fits, expected, "{count} tiles, {duration_ms} ms");
    };
    check(5, 2, 50_000, true);
    check(5, 2, 40_001, true);
    check(5, 2, 80_000, true);
    check(5, 2, 40_000, false);
    check(5, 2, 80_001, false);
    check(1, 1, 0, false);
}

#[test]
fn times_and_rates_are_those_of_the_tiles() {
    let track = track(5, 2);
    assert_eq!(track.spans_ms().collect::<Vec<_>>(), [(0, 40_000), (40_000, 50_000)]);
    assert_eq!(track.sheet_size(), (384, 216));
    // 1,000 bytes in 40 s, 2,000 bytes in 10 s.
    assert_eq!(track.bandwidth_bps(), 1_600);
    assert_eq!(track.sheet(1), Some(&file(1)));
    assert_eq!(track.sheet(2), Some(&file(2)));
    assert_eq!(track.sheet(0), None);
    assert_eq!(track.sheet(3), None);
}

#[test]
fn a_cue_names_its_tile() {
    let text = String::from_utf8(track(5, 2).thumbs_vtt("v1/", MediaTime::from_millis(45_500))).unwrap();
    let expected = "WEBVTT\n\n00:00:00.000 --> 00:00:10.000\nv1/1.jpg#xywh=0,0,192,108\n\n\
        00:00:10.000 --> 00:00:20.000\nv1/1.jpg#xywh=192,0,192,108\n\n\
        00:00:20.000 --> 00:00:30.000\nv1/1.jpg#xywh=0,108,192,108\n\n\
        00:00:30.000 --> 00:00:40.000\nv1/1.jpg#xywh=192,108,192,108\n\n\
        00:00:40.000 --> 00:00:45.500\nv1/2.jpg#xywh=0,0,192,108\n";
    assert_eq!(text, expected);
    let parsed = crate::text::webvtt::parse(text.as_bytes()).unwrap();
    assert_eq!(parsed.track.cues().len(), 5);
    assert_eq!(parsed.dropped_count, 0);
}
