//! Pass-through: whether a source already is what a rendition would be, and its samples taken over as they are. The decision
//! is pure.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use packager::codec::Codec;
use packager::limits::SAMPLE_SIZE_BYTES_MAX;

use crate::caps;
use crate::input::{IndexedTrack, nanoseconds};
use crate::ladder::Rendition;
use crate::order::{samples_name, table_name};
use crate::source::{Orientation, VideoSource};
use crate::table::CodedSample;
use crate::track_file::{TrackError, io};

const NS_PER_MS: i64 = 1_000_000;

/// Why `track` can not be taken over as `rendition`, in words; `None` where it can. Key frames of the other renditions are at
/// the first picture of every `gop_duration_ms`.
pub(crate) fn why_not(
    video: &VideoSource,
    track: Option<&IndexedTrack>,
    rendition: &Rendition,
    gop_duration_ms: u32,
) -> Option<String> {
    let Some(track) = track else {
        return Some("its samples are not indexed here".into());
    };
    let description = &track.input.description;
    let wanted = rendition.codec.codec();
    if description.codec != wanted {
        return Some(format!(
            "the source is {}, not {}",
            description.codec.name(),
            wanted.name()
        ));
    }
    if !caps::configuration(description).is_some_and(|configuration| is_main(description.codec, configuration)) {
        return Some("the source is of a profile that few players know".into());
    }
    if video.orientation != Orientation::Rotate0 {
        return Some("the source is turned".into());
    }
    let (horizontal, vertical) = video.sample_aspect_ratio;
    if horizontal != vertical {
        return Some(format!("the source's samples are {horizontal}:{vertical}, not square"));
    }
    if (video.width, video.height) != (rendition.width, rendition.height) {
        return Some(format!(
            "the source is of {}x{}, not {}x{}",
            video.width, video.height, rendition.width, rendition.height
        ));
    }
    if video.interlaced {
        return Some("the source is made of fields".into());
    }
    if video.bit_depth != rendition.bit_depth || rendition.maps_tones {
        return Some(format!(
            "the source is of {} bits, not {}",
            video.bit_depth, rendition.bit_depth
        ));
    }
    let rows = rows(track);
    unfit(&rows, gop_duration_ms, rendition.bitrate_kbps, rendition.buffer_ms)
}

/// Profiles that every player of a coding knows: eight bits (ten in HEVC and AV1), chroma at half the size.
fn is_main(codec: Codec, configuration: &[u8]) -> bool {
    let Some(byte) = configuration.get(1).copied() else {
        return false;
    };
    match codec {
        Codec::Avc => matches!(byte, 66 | 77 | 100),
        Codec::Hevc => matches!(byte & 0x1f, 1 | 2),
        Codec::Av1 => byte >> 5 == 0,
        _ => false,
    }
}

/// The samples of a track as a worker would have written them.
pub(crate) fn rows(track: &IndexedTrack) -> Vec<CodedSample> {
    let index = &track.index;
    let scale = index.timescale();
    index
        .iter()
        .map(|sample| CodedSample {
            presentation_ns: nanoseconds(index.presentation_time(&sample), scale),
            duration_ns: nanoseconds(sample.duration.into(), scale).unsigned_abs(),
            size: sample.size,
            sync: sample.sync,
        })
        .collect()
}

/// Why samples in decode order can not stand beside others that have key frames every `gop_duration_ms` and never exceed
/// `bitrate_kbps` for longer than a buffer of `buffer_ms` lasts.
fn unfit(rows: &[CodedSample], gop_duration_ms: u32, bitrate_kbps: u32, buffer_ms: u32) -> Option<String> {
    let seconds = |ns: i64| format!("{}.{:03} s", ns / 1_000_000_000, ns / NS_PER_MS % 1_000);
    if rows.iter().any(|row| row.size == 0 || row.size > SAMPLE_SIZE_BYTES_MAX) {
        return Some("the source has samples without a picture".into());
    }
    if let Some(row) = rows.iter().find(|row| row.presentation_ns < 0) {
        let hidden = row.presentation_ns.saturating_neg();
        return Some(format!("an edit hides {} of the source", seconds(hidden)));
    }
    // Pictures decoded after a key frame and shown before it need what came before it.
    let mut key_ns = None;
    for row in rows {
        match row.sync {
            true => key_ns = Some(row.presentation_ns),
            false if key_ns.is_none() => return Some("the source does not begin with a key frame".into()),
            false if key_ns > Some(row.presentation_ns) => {
                return Some(format!(
                    "the picture at {} needs others than from its key frame on",
                    seconds(row.presentation_ns)
                ));
            }
            false => {}
        }
    }
    let mut shown: Vec<(i64, bool, u32)> = rows
        .iter()
        .map(|row| (row.presentation_ns, row.sync, row.size))
        .collect();
    shown.sort_unstable();
    let twice = shown.iter().zip(shown.iter().skip(1)).find(|(a, b)| a.0 == b.0);
    if let Some((row, _)) = twice {
        return Some(format!("two pictures of the source are shown at {}", seconds(row.0)));
    }
    let gop_ns = i64::from(gop_duration_ms.max(1)) * NS_PER_MS;
    let mut next_key_ns = None;
    // Bits that wait in a buffer which is emptied at the cap; looked at wherever a key frame is due.
    let mut gop_bits = 0i128;
    let mut waiting = 0i128;
    let cap = |ns: i64| i128::from(ns) * i128::from(bitrate_kbps) / i128::from(NS_PER_MS);
    let room = cap(i64::from(buffer_ms) * NS_PER_MS);
    let Some(mut begun_ns) = shown.first().map(|row| row.0) else {
        return Some("the source has no picture".into());
    };
    let ends = rows
        .iter()
        .map(|row| row.presentation_ns.saturating_add_unsigned(row.duration_ns));
    let end_ns = ends.max().unwrap_or(begun_ns);
    let too_much = |waiting: i128, at: i64| {
        (waiting > room).then(|| {
            format!(
                "the source's bit rate before {} is above {bitrate_kbps} kb/s",
                seconds(at)
            )
        })
    };
    for (time_ns, sync, size) in shown {
        if next_key_ns.is_none_or(|next| time_ns >= next) {
            if !sync {
                return Some(format!("the source has no key frame at {}", seconds(time_ns)));
            }
            next_key_ns = Some((time_ns.div_euclid(gop_ns) + 1) * gop_ns);
            waiting = (waiting + gop_bits - cap(time_ns - begun_ns)).max(0);
            if let Some(why) = too_much(waiting, time_ns) {
                return Some(why);
            }
            (gop_bits, begun_ns) = (0, time_ns);
        }
        gop_bits += i128::from(size) * 8;
    }
    too_much(waiting + gop_bits - cap(end_ns - begun_ns), end_ns)
}

/// Writes the samples of `track` into `folder` as a worker writes rendition `number`; gives how many there are.
pub(crate) fn write(track: &IndexedTrack, folder: &Path, number: usize) -> Result<u64, TrackError> {
    let (samples, table) = (folder.join(samples_name(number)), folder.join(table_name(number)));
    let source = &track.input.path;
    let file = File::open(source).map_err(io(source))?;
    let mut out = BufWriter::with_capacity(1 << 20, File::create_new(&samples).map_err(io(&samples))?);
    let mut rows_out = BufWriter::new(File::create_new(&table).map_err(io(&table))?);
    let mut count = 0;
    let mut bytes = Vec::new();
    for (sample, row) in track.index.iter().zip(rows(track)) {
        bytes.resize(sample.size as usize, 0);
        file.read_exact_at(&mut bytes, sample.offset).map_err(io(source))?;
        out.write_all(&bytes).map_err(io(&samples))?;
        rows_out.write_all(&row.to_row()).map_err(io(&table))?;
        count += 1;
    }
    for (path, out) in [(&samples, out), (&table, rows_out)] {
        let out = out.into_inner().map_err(|error| io(path)(error.into_error()))?;
        out.sync_all().map_err(io(path))?;
    }
    Ok(count)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// Pictures 40 ms apart in decode order: place in the order of showing, key frame, bytes.
    fn check(pictures: &[(i64, bool, u32)], expected: Option<&str>) {
        let row = |(place, sync, size): &(i64, bool, u32)| CodedSample {
            presentation_ns: place * 40_000_000,
            duration_ns: 40_000_000,
            size: *size,
            sync: *sync,
        };
        let rows: Vec<CodedSample> = pictures.iter().map(row).collect();
        // Key frames every 160 ms; 100 kb/s, and a buffer of 1000 bits.
        let why = unfit(&rows, 160, 100, 10);
        assert_eq!(why.as_deref(), expected, "{pictures:?}");
    }

    #[test]
    fn what_fits_is_taken_over_and_the_rest_says_why_not() {
        let quiet = |keys: &[i64]| -> Vec<(i64, bool, u32)> {
            (0..12)
                .map(|at| (at, keys.contains(&at), if keys.contains(&at) { 700 } else { 300 }))
                .collect()
        };
        check(&quiet(&[0, 4, 8]), None);
        // More key frames than needed do not disturb.
        check(&quiet(&[0, 2, 4, 8, 9]), None);
        check(&quiet(&[0, 4]), Some("the source has no key frame at 0.320 s"));
        check(&quiet(&[0, 5, 9]), Some("the source has no key frame at 0.160 s"));
        check(&quiet(&[1, 4, 8]), Some("the source does not begin with a key frame"));
        // A late start is on the same grid.
        let late: Vec<_> = quiet(&[0, 2, 6, 10])
            .into_iter()
            .map(|(at, key, size)| (at + 2, key, size))
            .collect();
        check(&late, None);
        // B-frames, closed and open.
        check(
            &[(0, true, 9), (3, false, 9), (1, false, 9), (2, false, 9), (4, true, 9)],
            None,
        );
        check(
            &[(0, true, 9), (4, true, 9), (3, false, 9), (1, false, 9), (2, false, 9)],
            Some("the picture at 0.120 s needs others than from its key frame on"),
        );
        // 16000 bits in 160 ms are the cap; 1000 more fit the buffer, and have to be made up for.
        let sizes = |sizes: &[u32]| -> Vec<(i64, bool, u32)> {
            sizes
                .iter()
                .zip(0..)
                .map(|(size, at)| (at, at % 4 == 0, *size))
                .collect()
        };
        check(&sizes(&[500, 500, 500, 625, 500, 500, 500, 375]), None);
        check(
            &sizes(&[500, 500, 500, 626, 1]),
            Some("the source's bit rate before 0.160 s is above 100 kb/s"),
        );
        check(
            &sizes(&[500, 500, 500, 600, 500, 500, 500, 600]),
            Some("the source's bit rate before 0.320 s is above 100 kb/s"),
        );
        check(
            &[(0, true, 9), (-1, false, 9)],
            Some("an edit hides 0.040 s of the source"),
        );
        check(
            &[(0, true, 9), (1, false, 0)],
            Some("the source has samples without a picture"),
        );
        check(
            &[(0, true, 9), (1, false, 9), (1, false, 9)],
            Some("two pictures of the source are shown at 0.040 s"),
        );
        check(&[], Some("the source has no picture"));
    }

    #[test]
    fn profiles_that_few_know_are_coded_anew() {
        let check = |codec, configuration: &[u8], expected| {
            assert_eq!(is_main(codec, configuration), expected, "{configuration:02x?}");
        };
        check(Codec::Avc, &[1, 100, 0, 31], true);
        check(Codec::Avc, &[1, 110, 0, 31], false);
        check(Codec::Avc, &[1, 244, 0, 31], false);
        check(Codec::Hevc, &[1, 0x02], true);
        check(Codec::Hevc, &[1, 0x04], false);
        check(Codec::Av1, &[0x81, 0x08], true);
        check(Codec::Av1, &[0x81, 0x48], false);
        check(Codec::Avc, &[1], false);
    }
}
