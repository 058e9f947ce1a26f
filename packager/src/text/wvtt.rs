//! `wvtt`: WebVTT cues as samples of an ISO BMFF track (ISO/IEC 14496-30:2018 clause 7).
//!
//! A sample's bytes show exactly the cues that are active throughout it, so a cue is repeated in every sample it spans.

use bytes::Bytes;

use super::join::PieceJoiner;
use super::{
    Cue, DropReason, Encoding, Parsed, TextError, TextSample, TextTrack, check_size, encoding, markup, times_fault,
    timestamp, webvtt,
};
use crate::isobmff::{BoxError, BoxReader, BoxWriter, FourCc};
use crate::limits::{SEGMENT_SAMPLE_COUNT_MAX, TEXT_SIZE_BYTES_MAX};

/// RFC 6381 string of the track.
pub const CODECS: &str = "wvtt";

/// Bytes all samples of one window may have.
const WINDOW_SIZE_BYTES_MAX: usize = TEXT_SIZE_BYTES_MAX as usize;

/// Header of a box whose size fits 32 bits.
const BOX_HEADER_SIZE_BYTES: usize = 8;

/// The content of the `vttC` box: what a WebVTT file holds before its first cue.
pub fn config(track: &TextTrack) -> String {
    webvtt::write_config(track)
}

/// The `wvtt` sample entry (ISO/IEC 14496-30:2018 7.5), data reference 1.
pub fn sample_entry(track: &TextTrack) -> Bytes {
    let mut out = BoxWriter::default();
    out.write_box(b"wvtt", |out| {
        out.zeros(6);
        out.u16(1);
        out.write_box(b"vttC", |out| out.bytes(config(track).as_bytes()));
    });
    out.finish().into()
}

/// The samples that show `start_ms..end_ms`, without a gap: one for every interval between edges of cues, `vtte` where
/// none shows. Empty for an empty window.
///
/// # Errors
/// [`TextError::WindowTooDense`] when cues overlap so much that the samples would be larger than a whole text may be.
pub fn samples(track: &TextTrack, start_ms: u64, end_ms: u64) -> Result<Vec<TextSample>, TextError> {
    if start_ms >= end_ms {
        return Ok(Vec::new());
    }
    let cues: Vec<&Cue> = track.window(start_ms, end_ms).collect();
    let mut edges: Vec<u64> = cues
        .iter()
        .flat_map(|cue| [cue.start_ms, cue.end_ms])
        .filter(|&edge| start_ms < edge && edge < end_ms)
        .chain([start_ms, end_ms])
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let too_dense = TextError::WindowTooDense {
        size_bytes_max: WINDOW_SIZE_BYTES_MAX,
        count_max: SEGMENT_SAMPLE_COUNT_MAX,
    };
    if edges.len() > SEGMENT_SAMPLE_COUNT_MAX {
        return Err(too_dense);
    }
    let mut samples = Vec::with_capacity(edges.len());
    let mut waiting = cues.into_iter().peekable();
    let mut active: Vec<&Cue> = Vec::new();
    let mut size_bytes = 0usize;
    for (&from_ms, &to_ms) in edges.iter().zip(edges.iter().skip(1)) {
        active.retain(|cue| cue.end_ms > from_ms);
        while let Some(cue) = waiting.next_if(|cue| cue.start_ms <= from_ms) {
            active.push(cue);
        }
        let sample_size_bytes = active
            .iter()
            .fold(0usize, |size, cue| size.saturating_add(vttc_size_bytes_max(cue)));
        size_bytes = size_bytes.saturating_add(sample_size_bytes);
        if size_bytes > WINDOW_SIZE_BYTES_MAX {
            return Err(too_dense);
        }
        let bytes = write_sample(&active, from_ms, to_ms, sample_size_bytes);
        samples.push(TextSample {
            start_ms: from_ms,
            duration_ms: to_ms - from_ms,
            bytes,
        });
    }
    Ok(samples)
}

/// Reads consecutive samples back into cues; `config` is the content of `vttC` (may be empty).
///
/// A cue goes on in the next sample when that begins where this one ends and repeats its identifier, settings, payload
/// and source id. Packagers that write no source id are met by treating its absence in both as equal; two cues that
/// touch and read the same are then one.
///
/// # Errors
/// [`TextError::Sample`] for boxes that do not fit their sample, [`TextError::NoSignature`] for a bad `config`.
pub fn parse(config: &str, samples: &[TextSample]) -> Result<Parsed, TextError> {
    let mut parsed = if config.is_empty() {
        Parsed::default()
    } else {
        webvtt::parse(config.as_bytes())?
    };
    let mut joiner = PieceJoiner::default();
    let mut size_bytes = 0u64;
    for (sample, number) in samples.iter().zip(1u64..) {
        size_bytes = size_bytes.saturating_add(sample.bytes.len() as u64);
        if size_bytes > TEXT_SIZE_BYTES_MAX {
            return Err(TextError::TooLarge { size_bytes });
        }
        let pieces = parse_sample(sample, number, &mut parsed)?;
        joiner.sample(sample.start_ms, sample.end_ms(), pieces)?;
    }
    parsed.track = TextTrack::new(parsed.track.header().to_vec(), joiner.finish());
    Ok(parsed)
}

/// Upper bound of a cue's `vttc`: six box headers, a source id and a timestamp beside its strings.
fn vttc_size_bytes_max(cue: &Cue) -> usize {
    let strings = cue
        .id
        .len()
        .saturating_add(cue.settings.len())
        .saturating_add(cue.payload.len());
    strings.saturating_add(6 * BOX_HEADER_SIZE_BYTES + 4 + 32)
}

fn write_sample(active: &[&Cue], from_ms: u64, to_ms: u64, size_bytes_max: usize) -> Bytes {
    let mut out = BoxWriter::with_capacity(size_bytes_max.max(BOX_HEADER_SIZE_BYTES));
    for cue in active {
        out.write_box(b"vttc", |out| write_vttc(out, cue, from_ms, to_ms));
    }
    if active.is_empty() {
        out.write_box(b"vtte", |_| {});
    }
    out.finish().into()
}

/// ISO/IEC 14496-30:2018 7.4 (VTTCueBox).
fn write_vttc(out: &mut BoxWriter, cue: &Cue, from_ms: u64, to_ms: u64) {
    let spans_several_samples = cue.start_ms < from_ms || cue.end_ms > to_ms;
    if spans_several_samples {
        out.write_box(b"vsid", |out| out.u32(source_id(cue)));
    }
    if !cue.id.is_empty() {
        out.write_box(b"iden", |out| out.bytes(cue.id.as_bytes()));
    }
    // Timestamps inside the payload mean nothing to a reader that knows only the sample's own time.
    if markup::has_timestamps(&cue.payload) {
        let mut time = String::new();
        timestamp::write(&mut time, from_ms);
        out.write_box(b"ctim", |out| out.bytes(time.as_bytes()));
    }
    if !cue.settings.is_empty() {
        out.write_box(b"sttg", |out| out.bytes(cue.settings.as_bytes()));
    }
    out.write_box(b"payl", |out| out.bytes(cue.payload.as_bytes()));
}

/// Tells a cue from the others of its track, the same in whatever window it is met (FNV-1a of all it says, 31 bits).
fn source_id(cue: &Cue) -> u32 {
    let times = [cue.start_ms.to_be_bytes(), cue.end_ms.to_be_bytes()];
    let strings = [&cue.id, &cue.settings, &cue.payload]
        .into_iter()
        .flat_map(|text| text.bytes().chain([0]));
    let hash = times
        .into_iter()
        .flatten()
        .chain(strings)
        .fold(0x811c_9dc5u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
    hash & 0x7fff_ffff
}

fn parse_sample(sample: &TextSample, number: u64, parsed: &mut Parsed) -> Result<Vec<(Option<u32>, Cue)>, TextError> {
    check_size(&sample.bytes)?;
    let fault = |source| TextError::Sample {
        sample_number: number,
        source,
    };
    let mut pieces = Vec::new();
    let mut boxes = BoxReader::new(FourCc(*b"wvtt"), 0, 0, &sample.bytes);
    while let Some(found) = boxes.child().map_err(fault)? {
        match &found.fourcc.0 {
            b"vttc" => match parse_vttc(found, number, parsed).map_err(fault)? {
                Some((source_id, cue)) => {
                    let (start_ms, end_ms) = (sample.start_ms, sample.end_ms());
                    match times_fault(start_ms, end_ms) {
                        Some(reason) => parsed.drop_at(number, reason),
                        None => pieces.push((
                            source_id,
                            Cue {
                                start_ms,
                                end_ms,
                                ..cue
                            },
                        )),
                    }
                }
                None => parsed.drop_at(number, DropReason::NoText),
            },
            // Empty intervals and comments say nothing.
            b"vtte" | b"vtta" => {}
            _ => parsed.drop_at(number, DropReason::UnknownBox),
        }
    }
    Ok(pieces)
}

/// Source id and cue of a `vttc`, its times not yet set; `None` without `payl`.
fn parse_vttc(
    mut vttc: BoxReader<'_>,
    number: u64,
    parsed: &mut Parsed,
) -> Result<Option<(Option<u32>, Cue)>, BoxError> {
    let mut cue = Cue {
        start_ms: 0,
        end_ms: 0,
        id: String::new(),
        settings: String::new(),
        payload: String::new(),
    };
    let (mut source_id, mut has_payload) = (None, false);
    while let Some(mut found) = vttc.child()? {
        match &found.fourcc.0 {
            b"vsid" => source_id = Some(found.u32()?),
            b"iden" => cue.id = string(found.remaining(), parsed),
            b"sttg" => cue.settings = string(found.remaining(), parsed),
            b"payl" => {
                cue.payload = string(found.remaining(), parsed);
                has_payload = true;
            }
            b"ctim" => {}
            _ => parsed.drop_at(number, DropReason::UnknownBox),
        }
    }
    Ok(has_payload.then_some((source_id, cue)))
}

/// The string that fills a box; some writers end it with NUL.
fn string(content: &[u8], parsed: &mut Parsed) -> String {
    let (text, encoding) = encoding::utf8_replaced(content);
    if encoding == Encoding::Utf8Replaced {
        parsed.encoding = encoding;
    }
    text.trim_end_matches('\0').to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cue(start_ms: u64, end_ms: u64, id: &str, settings: &str, payload: &str) -> Cue {
        Cue {
            start_ms,
            end_ms,
            id: id.into(),
            settings: settings.into(),
            payload: payload.into(),
        }
    }

    /// A box as text: type, then its content or the boxes in it.
    fn shown(bytes: &[u8]) -> String {
        let mut boxes = BoxReader::new(FourCc(*b"wvtt"), 0, 0, bytes);
        let mut out = Vec::new();
        while let Some(found) = boxes.child().unwrap() {
            let content = match &found.fourcc.0 {
                b"vttc" => shown(found.remaining()),
                b"vsid" => "*".into(),
                _ => String::from_utf8(found.remaining().to_vec()).unwrap(),
            };
            out.push(format!("{}({content})", found.fourcc));
        }
        out.join(" ")
    }

    fn check(cues: &[Cue], start_ms: u64, end_ms: u64, expected: &[(u64, u64, &str)]) {
        let track = TextTrack::new(Vec::new(), cues.to_vec());
        let samples = samples(&track, start_ms, end_ms).unwrap();
        let found: Vec<_> = samples
            .iter()
            .map(|s| (s.start_ms, s.duration_ms, shown(&s.bytes)))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|&(start, duration, text)| (start, duration, text.to_owned()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_window_without_cues_is_one_empty_sample() {
        check(&[], 1_000, 3_000, &[(1_000, 2_000, "vtte()")]);
        check(&[], 1_000, 1_000, &[]);
        check(&[], 3_000, 1_000, &[]);
    }

    #[test]
    fn samples_change_at_the_edges_of_cues() {
        let cues = [
            cue(1_000, 3_000, "a", "line:0", "x"),
            cue(2_000, 5_000, "", "", "y"),
            cue(6_000, 7_000, "", "", "z"),
        ];
        let (x, y) = ("vttc(vsid(*) iden(a) sttg(line:0) payl(x))", "vttc(vsid(*) payl(y))");
        let expected = [
            (0, 1_000, "vtte()"),
            (1_000, 1_000, x),
            (2_000, 1_000, &format!("{x} {y}")),
            (3_000, 2_000, y),
            (5_000, 1_000, "vtte()"),
            (6_000, 1_000, "vttc(payl(z))"),
            (7_000, 1_000, "vtte()"),
        ];
        check(&cues, 0, 8_000, &expected);
        check(&cues, 4_000, 5_000, &[(4_000, 1_000, y)]);
        check(&cues, 6_500, 6_600, &[(6_500, 100, "vttc(vsid(*) payl(z))")]);
    }

    #[test]
    fn inner_timestamps_need_the_time_of_the_sample() {
        let cues = [cue(1_000, 3_000, "", "", "a<00:00:02.000>b")];
        let expected = [(1_500, 1_500, "vttc(vsid(*) ctim(00:00:01.500) payl(a<00:00:02.000>b))")];
        check(&cues, 1_500, 3_000, &expected);
    }

    #[test]
    fn the_configuration_is_what_stands_before_the_cues() {
        let parsed = webvtt::parse(b"WEBVTT x\n\nSTYLE\na {}\n\n00:01.000 --> 00:02.000\na").unwrap();
        assert_eq!(config(&parsed.track), "WEBVTT\n\nSTYLE\na {}");
        let entry = sample_entry(&parsed.track);
        assert_eq!(
            entry,
            &b"\0\0\0*wvtt\0\0\0\0\0\0\0\x01\0\0\0\x1AvttCWEBVTT\n\nSTYLE\na {}"[..]
        );
        let read = parse(&config(&parsed.track), &samples(&parsed.track, 0, 5_000).unwrap()).unwrap();
        assert_eq!(read.track, parsed.track);
    }

    #[test]
    fn malformed_samples_are_refused_by_place() {
        let check = |bytes: &'static [u8], expected: &str| {
            let sample = TextSample {
                start_ms: 0,
                duration_ms: 1,
                bytes: Bytes::from_static(bytes),
            };
            let error = parse("", &[sample]).unwrap_err();
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert_eq!(
                (error.to_string().as_str(), source.as_str()),
                ("sample 1 cannot be read", expected)
            );
        };
        check(b"\0\0\0\x07vtte", "vtte at 0: size 7 is smaller than its header");
        check(b"\0\0\0\x09vtte", "vtte at 0: wants 9 bytes, has 8");
        check(
            b"\0\0\0\x08vtte\xFF\xFF\xFF\xFFvttc",
            "vttc at 8: wants 4294967295 bytes, has 8",
        );
        check(b"\0\0\0\x10vttc\0\0\0\x09payl", "payl at 8: wants 9 bytes, has 8");
        check(b"\0\0\0\x11vttc\0\0\0\x09vsid.", "vsid at 8: wants 4 bytes, has 1");
    }

    #[test]
    fn samples_without_source_ids_are_joined_too() {
        let piece = |start_ms, bytes: &'static [u8]| TextSample {
            start_ms,
            duration_ms: 1_000,
            bytes: Bytes::from_static(bytes),
        };
        let x = b"\0\0\0\x11vttc\0\0\0\x09paylx";
        let parsed = parse(
            "WEBVTT",
            &[piece(0, x), piece(1_000, x), piece(3_000, x), piece(4_000, b"")],
        )
        .unwrap();
        assert_eq!(
            parsed.track.cues(),
            [cue(0, 2_000, "", "", "x"), cue(3_000, 4_000, "", "", "x")]
        );
        let odd = b"\0\0\0\x08vttc\0\0\0\x08abcd\0\0\0\x08vtta";
        let parsed = parse("", &[piece(0, odd)]).unwrap();
        let reasons: Vec<_> = parsed.dropped.iter().map(|dropped| dropped.reason).collect();
        assert_eq!(reasons, [DropReason::NoText, DropReason::UnknownBox]);
    }

    #[test]
    fn cues_that_overlap_too_much_are_refused() {
        let cues: Vec<Cue> = (0..20_000u64)
            .map(|n| cue(n, 100_000 - n, "", "", "some text that is not short"))
            .collect();
        let track = TextTrack::new(Vec::new(), cues);
        assert!(matches!(
            samples(&track, 0, 100_000),
            Err(TextError::WindowTooDense { .. })
        ));
        assert!(samples(&track, 10, 20).is_ok());
    }
}
