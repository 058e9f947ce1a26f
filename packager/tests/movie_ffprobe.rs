//! Real MP4 and QuickTime files, read by us and by ffprobe: same samples, same bytes, same times.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    missing_docs
)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use packager::isobmff::movie;
use packager::source::{ReadAt, ReadError};
use packager::time::{MediaTime, Timescale};
use packager::track::Track;
use serde_json::Value;

fn media() -> Option<PathBuf> {
    let folder = std::env::var_os("HEADWATER_MEDIA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/media")),
        PathBuf::from,
    );
    if folder.is_dir() && Command::new("ffprobe").arg("-version").output().is_ok() {
        return Some(folder);
    }
    eprintln!("SKIPPED: needs ffprobe and media files in {}", folder.display());
    None
}

/// One packet as ffprobe lists it, in ticks of the stream's time base.
#[derive(Debug)]
struct Packet {
    pts: Option<i64>,
    dts: Option<i64>,
    size: u64,
    offset: Option<u64>,
    key: bool,
}

struct Stream {
    track_id: u32,
    timescale: Timescale,
    kind: String,
    packets: Vec<Packet>,
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn ffprobe(file: &Path) -> Vec<Stream> {
    let output = Command::new("ffprobe")
        .args(["-v", "quiet", "-show_streams", "-show_packets", "-of", "json"])
        .arg(file)
        .output()
        .unwrap();
    // Nothing at all comes from an ffprobe that does not know the coding.
    let probed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let mut streams = BTreeMap::new();
    for stream in probed["streams"].as_array().into_iter().flatten() {
        let id = stream["id"].as_str().unwrap_or("0x0").trim_start_matches("0x");
        let scale = stream["time_base"].as_str().unwrap().trim_start_matches("1/");
        streams.insert(
            number(&stream["index"]).unwrap(),
            Stream {
                track_id: u32::from_str_radix(id, 16).unwrap(),
                timescale: Timescale::new(scale.parse().unwrap()).unwrap(),
                kind: stream["codec_type"].as_str().unwrap_or("").to_owned(),
                packets: Vec::new(),
            },
        );
    }
    for packet in probed["packets"].as_array().into_iter().flatten() {
        let stream = streams.get_mut(&number(&packet["stream_index"]).unwrap()).unwrap();
        stream.packets.push(Packet {
            pts: number(&packet["pts"]),
            dts: number(&packet["dts"]),
            size: number(&packet["size"]).unwrap() as u64,
            offset: number(&packet["pos"]).map(|offset| offset as u64),
            key: packet["flags"].as_str().unwrap_or("").contains('K'),
        });
    }
    streams.into_values().collect()
}

/// Names what differs between a track and ffprobe's stream; the second part of the answer is how much later ffprobe
/// shows the track.
fn differences(track: &Track, stream: &Stream) -> (Vec<String>, Option<MediaTime>) {
    let mut found = Vec::new();
    let samples: Vec<_> = track.index.iter().collect();
    // Both drop samples at the front and at the end for edit lists; match them by where they lie.
    let first = samples.first().map(|sample| sample.offset);
    let skipped = stream
        .packets
        .iter()
        .take_while(|packet| packet.offset != first)
        .count();
    let packets = match skipped {
        all if all == stream.packets.len() => return (vec!["no packet at our first sample".to_owned()], None),
        0 => &stream.packets[..],
        _ => {
            found.push(format!("ffprobe has {skipped} packets in front"));
            &stream.packets[skipped..]
        }
    };
    if samples.len() != packets.len() {
        found.push(format!("{} samples, ffprobe {} packets", samples.len(), packets.len()));
    }
    let mut counts: BTreeMap<&str, (usize, usize, String)> = BTreeMap::new();
    let mut differ = |what, at: usize, ours: String, theirs: String| {
        let entry = counts.entry(what).or_insert((0, at, format!("{ours} for {theirs}")));
        entry.0 += 1;
    };
    let mut shift = None;
    let decode_zero = packets.first().and_then(|packet| packet.dts).unwrap_or(0);
    for (at, (sample, packet)) in samples.iter().zip(packets).enumerate() {
        if packet.offset.is_some_and(|offset| offset != sample.offset) {
            differ("offset", at, sample.offset.to_string(), format!("{:?}", packet.offset));
        }
        if packet.size != u64::from(sample.size) {
            differ("size", at, sample.size.to_string(), packet.size.to_string());
        }
        if packet.key != sample.sync {
            differ("key", at, sample.sync.to_string(), packet.key.to_string());
        }
        let decode_time = (sample.decode_time - track.index.first_decode_time()) as i64;
        if packet.dts.is_some_and(|dts| dts - decode_zero != decode_time) {
            differ(
                "dts",
                at,
                decode_time.to_string(),
                format!("{:?}", packet.dts.unwrap() - decode_zero),
            );
        }
        if let Some(pts) = packet.pts {
            let late = pts - track.index.presentation_time(sample);
            let shift = *shift.get_or_insert(late);
            if late != shift {
                differ("pts", at, shift.to_string(), late.to_string());
            }
        }
    }
    for (what, (count, at, example)) in counts {
        found.push(format!("{what} of {count} from {at}: {example}"));
    }
    if track.index.timescale() != stream.timescale {
        found.push(format!(
            "timescale {:?}, ffprobe {:?}",
            track.index.timescale(),
            stream.timescale
        ));
    }
    (found, shift.map(|shift| MediaTime::new(shift, stream.timescale)))
}

fn compare(file: &Path) -> Vec<String> {
    let bytes = Bytes::from(std::fs::read(file).unwrap());
    let streams = ffprobe(file);
    let ours = match movie::read(&bytes) {
        Ok(ours) => ours,
        Err(error) => return vec![format!("error: {error}")],
    };
    let mut found = Vec::new();
    let mut shifts = Vec::new();
    for track in &ours.tracks {
        let id = track.description.source_track_id;
        match streams.iter().find(|stream| stream.track_id == id) {
            None => found.push(format!("{id}: ffprobe has no such track")),
            Some(stream) => {
                let (track_differences, shift) = differences(track, stream);
                found.extend(
                    track_differences
                        .into_iter()
                        .map(|difference| format!("{id}: {difference}")),
                );
                shifts.extend(shift.map(|shift| (id, shift)));
            }
        }
    }
    for stream in &streams {
        if !ours
            .tracks
            .iter()
            .any(|track| track.description.source_track_id == stream.track_id)
        {
            found.push(format!("{}: ({}) is not served", stream.track_id, stream.kind));
        }
    }
    for (id, shift) in shifts {
        if shift.ticks != 0 {
            found.push(format!("{id}: shown {shift:?} later by ffprobe"));
        }
    }
    for refusal in ours.refused {
        found.push(format!("refused {}: {}", refusal.what, refusal.why));
    }
    found
}

/// Where ffprobe and we rightly differ; every other file must agree in full.
const JUSTIFIED: &[(&str, &str, &[&str])] = &[
    (
        "avc/androidx__iibbibb_editlist_videoonly.mp4",
        "the edit starts inside a picture: ffprobe moves the next one to zero, we show the rest of it first",
        &["1: shown -8192/16384 later by ffprobe"],
    ),
    (
        "avc/androidx__sample_edit_list.mp4",
        "as above; and metadata tracks",
        &[
            "3: (data) is not served",
            "4: (data) is not served",
            "1: shown -7/600 later by ffprobe",
            "refused track 3 (metadata, mebx): timed metadata, not media",
            "refused track 4 (metadata, mebx): timed metadata, not media",
        ],
    ),
    (
        "avc/androidx__sample_with_chapters.mp4",
        "chapter titles",
        &[
            "3: (data) is not served",
            "refused track 3 (text, text): names of chapters, not subtitles",
        ],
    ),
    (
        "avc/mp4parser__Tiny_Sample_-_NEW_-_Untouched.mp4",
        "ffprobe looks into the pictures and calls some sync samples that stss does not",
        &["1: key of 3 from 303: false for true"],
    ),
    (
        "avc/wpt__counting.mp4",
        "MPEG-4 Visual is not served",
        &[
            "1: (video) is not served",
            "2: (data) is not served",
            "3: (data) is not served",
            "refused track 2 (unknown, mp4s): MPEG-4 systems stream, not media",
            "refused track 3 (unknown, mp4s): MPEG-4 systems stream, not media",
            "refused track 1 (video, mp4v): MPEG-4 Visual or MPEG-1/2 video is not served",
        ],
    ),
    (
        "avc-fragmented/androidx__sample_fragmented_uuid.mp4",
        "no sample is marked as sync: decoding starts at the first one all the same",
        &["1: key of 1 from 0: true for false"],
    ),
    (
        "avc-fragmented/mp4ff__v300_multiple_segments.mp4",
        "starts late: we start at zero",
        &["2: shown 6000/90000 later by ffprobe"],
    ),
    (
        "avc-fragmented/shaka__cea608-track-segment.mp4",
        "a segment alone",
        &["error: no moov (a media segment without its header)"],
    ),
    (
        "hevc/androidx__h265_with_metadata_track.mp4",
        "a metadata track",
        &[
            "1: (data) is not served",
            "refused track 1 (metadata, mett): timed metadata, not media",
        ],
    ),
    (
        "av1/mp4atom__av1.mp4",
        "cut off; ffprobe does not say so",
        &["refused end of track 1 (video, av01): truncated: last 1 samples missing"],
    ),
    (
        "vp9-mp4/mp4atom__vp9.mp4",
        "cut off in front of its first picture",
        &[
            "1: (video) is not served",
            "refused track 1 (video, vp09): truncated: none of its samples lies in the file",
        ],
    ),
    (
        "audio-mp4/androidx__sample_alac.mp4",
        "ALAC is not served",
        &[
            "1: (audio) is not served",
            "refused track 1 (audio, alac): ALAC audio is not served",
        ],
    ),
    (
        "audio-mp4/androidx__sample_dts_express.mp4",
        "DTS is not served",
        &[
            "1: (audio) is not served",
            "refused track 1 (audio, mp4a): DTS audio is not served",
        ],
    ),
    (
        "audio-mp4/androidx__sample_mp2_audio.mp4",
        "MP2 is not served",
        &[
            "1: (audio) is not served",
            "refused track 1 (audio, mp4a): MPEG audio layer 2",
        ],
    ),
    (
        "audio-mp4/gecko__opus-mapping2.mp4",
        "starts late: we start at zero",
        &["1: shown 48/48000 later by ffprobe"],
    ),
    (
        "audio-mp4/mp4parse__sine-3s-xhe-aac-44khz-mono.mp4",
        "older ffprobe gives up on xHE-AAC",
        &["1: ffprobe has no such track"],
    ),
    (
        "audio-mp4/mp4parser__count-deutsch-audio.mp4",
        "starts late: we start at zero",
        &["1: shown 1024/22050 later by ffprobe"],
    ),
    (
        "audio-mp4/mp4parser__count-english-audio.mp4",
        "starts late: we start at zero",
        &["1: shown 1024/22050 later by ffprobe"],
    ),
    (
        "sets/enc-misc/androidx__sample_fragmented_clearkey.mp4",
        "ffprobe gives up on it",
        &[
            "2: ffprobe has no such track",
            "refused track 1 (video, encv): encrypted (cenc, KID cd7eb9ff88f34caeb06185b00024e4c2): no key",
        ],
    ),
    (
        "sets/enc-misc/androidx__sample_fragmented_widevine.mp4",
        "ffprobe gives up on it",
        &[
            "2: ffprobe has no such track",
            "refused track 1 (video, encv): encrypted (cenc, KID 10000000000000000000000000000001): no key",
        ],
    ),
    (
        "sets/enc-misc/gecko__gizmo-frag.mp4",
        "encrypted",
        &[
            "1: (video) is not served",
            "2: (audio) is not served",
            "refused track 1 (video, encv): encrypted (cenc, KID 7e571d037e571d037e571d037e571d03): no key",
            "refused track 2 (audio, enca): encrypted (cenc, KID 7e571d047e571d047e571d047e571d04): no key",
        ],
    ),
    (
        "sets/enc-misc/mp4ff__cbcs.mp4",
        "encrypted",
        &[
            "1: (video) is not served",
            "2: (subtitle) is not served",
            "refused track 1 (video, encv): encrypted (cbcs, KID 00000000000000000000000000000000): no key",
            "refused track 2 (text, c608): closed captions in a track of their own (c608), not served",
        ],
    ),
    (
        "sets/enc-misc/mp4ff__cbcsdec.mp4",
        "starts late: we start at zero",
        &[
            "2: (subtitle) is not served",
            "1: shown 241001/24000 later by ffprobe",
            "refused track 2 (text, c608): closed captions in a track of their own (c608), not served",
        ],
    ),
];

const FOLDERS: &[&str] = &[
    "audio-mp4",
    "av1",
    "avc",
    "avc-fragmented",
    "derived",
    "hdr",
    "hevc",
    "sets/enc-key-rotation-gecko-bear",
    "sets/enc-misc",
    "sets/enc-wpt-cenc",
    "vp9-mp4",
];

fn files(media: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = FOLDERS
        .iter()
        .flat_map(|folder| std::fs::read_dir(media.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn samples_are_those_that_ffprobe_finds() {
    let Some(media) = media() else { return };
    let mut wrong = Vec::new();
    for file in files(&media) {
        let name = file.strip_prefix(&media).unwrap().to_str().unwrap().to_owned();
        let found = compare(&file);
        // What is encrypted whole needs no line of its own.
        let encrypted = found.iter().any(|line| line.contains(": encrypted ("))
            && found
                .iter()
                .all(|line| line.contains(": encrypted (") || line.ends_with("is not served"));
        let expected = JUSTIFIED.iter().find(|(justified, ..)| *justified == name);
        let expected = expected.map_or(&[][..], |(_, _, differences)| differences);
        if found != expected && !(expected.is_empty() && encrypted) {
            wrong.push(format!("{name}: {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Counts what is read.
struct Counting {
    bytes: Bytes,
    read_size: Cell<u64>,
    read_count: Cell<u64>,
}

impl ReadAt for Counting {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn read_at(&self, offset: u64, size: usize) -> Result<Bytes, ReadError> {
        self.read_size.set(self.read_size.get() + size as u64);
        self.read_count.set(self.read_count.get() + 1);
        self.bytes.read_at(offset, size)
    }
}

/// Bytes of `moov` and `moof` boxes, how many of them, and the size of the last `moof`.
fn header_size(bytes: &[u8]) -> (u64, u64, u64) {
    let (mut at, mut size_sum, mut count, mut last) = (0, 0, 0, 0);
    while let Some(header) = bytes.get(at..at + 8) {
        let size = match u32::from_be_bytes(header[..4].try_into().unwrap()) {
            1 => u64::from_be_bytes(bytes[at + 8..at + 16].try_into().unwrap()) as usize,
            size => size as usize,
        };
        if matches!(&header[4..], b"moov" | b"moof") {
            size_sum += size as u64;
            count += 1;
        }
        if &header[4..] == b"moof" {
            last = size as u64;
        }
        if size < 8 {
            break;
        }
        at += size;
    }
    (size_sum, count, last)
}

#[test]
fn little_more_than_the_headers_is_read() {
    let Some(media) = media() else { return };
    for file in files(&media) {
        let source = Counting {
            bytes: Bytes::from(std::fs::read(&file).unwrap()),
            read_size: Cell::new(0),
            read_count: Cell::new(0),
        };
        let Ok(tracks) = movie::read(&source) else { continue };
        let (headers, header_count, last) = header_size(&source.bytes);
        // Beside a tenth: the few headers around them, a guess behind the last fragment that one more comes, and a first
        // sample where the sample entry leaves something out.
        let allowed = headers + headers / 10 + 256 + 320 * header_count + last;
        let probed = tracks.tracks.iter().filter(|track| {
            let known = ["ac-3", "avc1", "hvc1", "av01"];
            !known.iter().any(|known| track.description.rfc6381.starts_with(known))
        });
        let allowed = allowed + probed.count() as u64 * (16 << 10);
        let (read, count) = (source.read_size.get(), source.read_count.get());
        assert!(
            read <= allowed,
            "{}: {read} bytes read for {headers} of headers",
            file.display()
        );
        assert!(
            count <= 6 + 2 * header_count,
            "{}: {count} reads for {header_count} headers",
            file.display()
        );
    }
}
