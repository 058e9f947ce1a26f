//! What the codec room reads from real files, held against what ffprobe says of them.
//!
//! Skips loudly when ffprobe or the media folder is absent. The folder is `HEADWATER_MEDIA`, or `shared/media` beside the
//! repository.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use packager::codec::aac::adts::AdtsHeader;
use packager::codec::aac::esds::Esds;
use packager::codec::aac::latm::{LatmReader, SYNC_HEADER_SIZE_BYTES, parse_sync_header};
use packager::codec::aac::{AudioSpecificConfig, object_type};
use packager::codec::bits::{annex_b_units, nal_units};
use packager::codec::{ColorInfo, ac3, av1, avc, flac, hevc, mpeg_audio, opus, vp8, vp9};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packets asked of each file, of all its streams together.
const PACKET_COUNT_MAX: usize = 40;

/// One stream as ffprobe sees it.
struct Stream {
    facts: Value,
    extradata: Vec<u8>,
    packets: Vec<Packet>,
}

struct Packet {
    data: Vec<u8>,
    key: bool,
    duration: Option<u64>,
}

impl Stream {
    fn text(&self, field: &str) -> &str {
        self.facts[field].as_str().unwrap_or("")
    }

    /// Numbers come bare or quoted.
    fn number(&self, field: &str) -> i64 {
        let value = &self.facts[field];
        value
            .as_i64()
            .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
            .unwrap_or(-1)
    }
}

fn media() -> Option<PathBuf> {
    let folder = std::env::var("HEADWATER_MEDIA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/media").to_owned());
    let folder = PathBuf::from(folder);
    if !folder.is_dir() {
        eprintln!("SKIPPED: no media in {}", folder.display());
        return None;
    }
    if Command::new("ffprobe").arg("-version").output().is_err() {
        eprintln!("SKIPPED: ffprobe is not installed");
        return None;
    }
    Some(folder)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// What ffprobe says of each file, in order; asked four at a time, for starting it takes longest.
fn probe_all(paths: &[PathBuf]) -> Vec<Vec<Stream>> {
    let workers = 4;
    let mut probed: Vec<Vec<Stream>> = Vec::new();
    std::thread::scope(|scope| {
        let chunks = paths.chunks(paths.len().div_ceil(workers).max(1));
        let running: Vec<_> = chunks
            .map(|chunk| scope.spawn(move || chunk.iter().map(|path| probe(path)).collect::<Vec<_>>()))
            .collect();
        for worker in running {
            probed.extend(worker.join().expect("probing does not panic"));
        }
    });
    probed
}

fn probe(file: &Path) -> Vec<Stream> {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-show_streams",
            "-show_packets",
            "-show_data",
            "-of",
            "json",
            "-read_intervals",
        ])
        .arg(format!("%+#{PACKET_COUNT_MAX}"))
        .arg(file)
        .output()
        .expect("ffprobe runs");
    let Ok(found) = serde_json::from_slice::<Value>(&output.stdout) else {
        return Vec::new();
    };
    let empty = Vec::new();
    let mut streams: Vec<Stream> = found["streams"]
        .as_array()
        .unwrap_or(&empty)
        .iter()
        .map(|facts| Stream {
            facts: facts.clone(),
            extradata: dump(&facts["extradata"]),
            packets: Vec::new(),
        })
        .collect();
    for packet in found["packets"].as_array().unwrap_or(&empty) {
        let index = packet["stream_index"].as_u64().unwrap_or(u64::MAX) as usize;
        let Some(stream) = streams.get_mut(index) else { continue };
        stream.packets.push(Packet {
            data: dump(&packet["data"]),
            key: packet["flags"].as_str().is_some_and(|flags| flags.starts_with('K')),
            duration: packet["duration"].as_u64(),
        });
    }
    streams
}

/// Bytes of ffprobe's dump: an address, eight groups of two bytes, then characters.
fn dump(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in value.as_str().unwrap_or("").lines() {
        let Some(groups) = line.as_bytes().get(10..) else {
            continue;
        };
        for digits in groups[..groups.len().min(40)]
            .chunks(5)
            .flat_map(|group| group[..4.min(group.len())].chunks(2))
        {
            if let Some(byte) = std::str::from_utf8(digits)
                .ok()
                .and_then(|text| u8::from_str_radix(text, 16).ok())
            {
                bytes.push(byte);
            }
        }
    }
    bytes
}

/// Differences found, and streams looked at by codec.
#[derive(Default)]
struct Report {
    differences: Vec<String>,
    streams: BTreeMap<String, usize>,
    stream: String,
    /// Whether the file may begin and end inside a picture or frame.
    cut: bool,
}

impl Report {
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, ours: T, theirs: T) {
        if ours != theirs {
            self.differences
                .push(format!("{}: {what}: ours {ours:?}, ffprobe {theirs:?}", self.stream));
        }
    }

    fn fail(&mut self, what: String) {
        self.differences.push(format!("{}: {what}", self.stream));
    }
}

#[test]
fn real_files_agree_with_ffprobe() {
    let Some(folder) = media() else { return };
    let mut paths = Vec::new();
    files(&folder, &mut paths);
    paths.sort();
    // Damaged files have no truth to compare with, encrypted samples no readable headers, text nothing of this room.
    let text = ["tsv", "md", "vtt", "srt", "xml", "dtd", "ttml"];
    paths.retain(|path| {
        let name = path.strip_prefix(&folder).expect("inside").display().to_string();
        let is_text = path
            .extension()
            .is_some_and(|extension| text.iter().any(|text| extension == *text));
        !is_text && !name.starts_with("corrupt/") && !name.contains("/enc-") && !name.contains("fragmented_uuid")
    });
    let mut report = Report::default();
    for (path, streams) in paths.iter().zip(probe_all(&paths)) {
        let name = path.strip_prefix(&folder).expect("inside").display().to_string();
        // A capture begins and ends anywhere.
        report.cut = name.starts_with("ts/");
        for (index, stream) in streams.iter().enumerate() {
            let codec = stream.text("codec_name").to_owned();
            report.stream = format!("{name}#{index} {codec}");
            match codec.as_str() {
                "h264" => check_avc(stream, &mut report),
                "hevc" => check_hevc(stream, &mut report),
                "av1" => check_av1(stream, &mut report),
                "vp9" => check_vp9(stream, &mut report),
                "vp8" => check_vp8(stream, &mut report),
                "aac" => check_aac(stream, &mut report),
                "aac_latm" => check_latm(stream, &mut report),
                "mp1" | "mp2" | "mp3" => check_mpeg_audio(stream, &mut report),
                "ac3" | "eac3" => check_ac3(stream, &mut report),
                "opus" => check_opus(stream, &mut report),
                "flac" => check_flac(stream, &mut report),
                _ => continue,
            }
            *report.streams.entry(codec).or_default() += 1;
        }
    }
    eprintln!("{:?}", report.streams);
    assert!(report.differences.is_empty(), "{}", report.differences.join("\n"));
    for (codec, least) in [
        ("h264", 40),
        ("hevc", 8),
        ("av1", 5),
        ("vp9", 4),
        ("aac", 30),
        ("ac3", 5),
        ("opus", 4),
    ] {
        assert!(
            report.streams.get(codec).is_some_and(|&count| count >= least),
            "too few {codec} streams"
        );
    }
}

fn color_name(points: [&[&str]; 1], code: u8) -> Option<String> {
    let name = points[0].get(usize::from(code))?;
    (!name.is_empty()).then(|| (*name).to_owned())
}

/// libavutil's names by code point.
const PRIMARIES: &[&str] = &[
    "",
    "bt709",
    "",
    "",
    "bt470m",
    "bt470bg",
    "smpte170m",
    "smpte240m",
    "film",
    "bt2020",
    "smpte428",
    "smpte431",
    "smpte432",
];
const TRANSFER: &[&str] = &[
    "",
    "bt709",
    "",
    "",
    "bt470m",
    "bt470bg",
    "smpte170m",
    "smpte240m",
    "linear",
    "log100",
    "log316",
    "iec61966-2-4",
    "bt1361e",
    "iec61966-2-1",
    "bt2020-10",
    "bt2020-12",
    "smpte2084",
    "smpte428",
    "arib-std-b67",
];
const MATRIX: &[&str] = &[
    "gbr",
    "bt709",
    "",
    "",
    "fcc",
    "bt470bg",
    "smpte170m",
    "smpte240m",
    "ycgco",
    "bt2020nc",
    "bt2020c",
];

/// Compares what the bit stream describes; where it says nothing ffprobe may have the container's word.
fn check_color(stream: &Stream, color: Option<ColorInfo>, report: &mut Report) {
    let Some(color) = color else { return };
    for (field, points, code) in [
        ("color_primaries", PRIMARIES, color.primaries),
        ("color_transfer", TRANSFER, color.transfer),
        ("color_space", MATRIX, color.matrix),
    ] {
        if let Some(ours) = color_name([points], code) {
            report.same(field, ours.as_str(), stream.text(field));
        }
    }
    let range = if color.full_range { "pc" } else { "tv" };
    report.same("color_range", range, stream.text("color_range"));
}

fn pixel_format(chroma: u8, depth: u8, full_range: bool) -> String {
    let base = match chroma {
        0 => "gray",
        1 => "yuv420p",
        2 => "yuv422p",
        _ => "yuv444p",
    };
    match depth {
        8 if full_range && chroma > 0 => base.replace("yuv", "yuvj"),
        8 => base.to_owned(),
        depth => format!("{base}{depth}le"),
    }
}

fn check_size(stream: &Stream, width: u32, height: u32, report: &mut Report) {
    report.same(
        "size",
        (i64::from(width), i64::from(height)),
        (stream.number("width"), stream.number("height")),
    );
}

/// NAL units of a packet, by whether the stream has length prefixes.
fn units(packet: &Packet, nal_length_size: Option<u8>) -> Vec<&[u8]> {
    match nal_length_size {
        Some(size) => nal_units(&packet.data, size).filter_map(Result::ok).collect(),
        None => annex_b_units(&packet.data).collect(),
    }
}

fn check_avc(stream: &Stream, report: &mut Report) {
    let mut parameter_sets: Vec<Vec<u8>> = Vec::new();
    let mut nal_length_size = None;
    if stream.extradata.first() == Some(&1) {
        let config = match avc::AvcConfig::parse(&stream.extradata) {
            Ok(config) => config,
            Err(error) => return report.fail(error.to_string()),
        };
        nal_length_size = Some(config.nal_length_size);
        report.same(
            "nal_length_size",
            i64::from(config.nal_length_size),
            stream.number("nal_length_size"),
        );
        parameter_sets.extend(config.sps.iter().chain(&config.pps).cloned());
        match config.serialise() {
            Ok(written) if stream.extradata.starts_with(&written) || written.starts_with(&stream.extradata) => {}
            other => report.fail(format!("avcC comes back as {other:x?}")),
        }
    } else {
        parameter_sets.extend(annex_b_units(&stream.extradata).map(<[u8]>::to_vec));
    }
    for packet in &stream.packets {
        let units = units(packet, nal_length_size);
        if nal_length_size.is_some_and(|size| nal_units(&packet.data, size).any(|unit| unit.is_err())) {
            report.fail("a sample does not split into NAL units".to_owned());
        }
        let access = avc::random_access(units.iter().copied());
        if access == avc::RandomAccess::Idr && !packet.key {
            report.fail("IDR picture in a packet that is not a key packet".to_owned());
        }
        if packet.key && access == avc::RandomAccess::None {
            let intra = units
                .iter()
                .filter(|nal| avc::NalType::of(nal).is_some_and(avc::NalType::is_vcl))
                .all(|nal| avc::SliceStart::parse(nal).is_ok_and(|slice| slice.slice_type == avc::SliceType::I));
            if !intra {
                report.fail("key packet without IDR, recovery point or I slices".to_owned());
            }
        }
    }
    // Streams that carry their parameter sets in band show the last ones to the decoder.
    let in_band = stream
        .packets
        .first()
        .map(|packet| units(packet, nal_length_size))
        .unwrap_or_default();
    let is_sps = |nal: &&[u8]| avc::NalType::of(nal) == Some(avc::NalType::Sps);
    let Some(nal) = in_band
        .iter()
        .copied()
        .find(is_sps)
        .or_else(|| parameter_sets.iter().map(Vec::as_slice).find(is_sps))
    else {
        return;
    };
    let sps = match avc::Sps::parse(nal) {
        Ok(sps) => sps,
        Err(error) => return report.fail(error.to_string()),
    };
    check_size(stream, sps.width, sps.height, report);
    if stream.packets.is_empty() {
        return; // what ffprobe says further of an initialisation segment is its defaults
    }
    report.same("level", i64::from(sps.level), stream.number("level"));
    let profile = match sps.profile {
        66 if sps.constraints & 0x40 != 0 => "Constrained Baseline",
        66 => "Baseline",
        77 => "Main",
        100 => "High",
        110 => "High 10",
        122 => "High 4:2:2",
        244 => "High 4:4:4 Predictive",
        _ => "?",
    };
    if !stream.text("profile").is_empty() {
        report.same("profile", profile, stream.text("profile"));
    }
    let full_range = sps.color.is_some_and(|color| color.full_range);
    if !stream.text("pix_fmt").is_empty() {
        report.same(
            "pix_fmt",
            pixel_format(sps.chroma_format, sps.bit_depth_luma, full_range).as_str(),
            stream.text("pix_fmt"),
        );
    }
    check_color(stream, sps.color, report);
    // This file's pasp overrules its bit stream.
    if let Some(sar) = sps.sar.filter(|_| !report.stream.contains("sef_slow_motion")) {
        report.same(
            "sar",
            format!("{}:{}", sar.width, sar.height).as_str(),
            stream.text("sample_aspect_ratio"),
        );
    }
    if let Some(reorder) = sps.reorder_frame_count_max {
        report.same("has_b_frames", i64::from(reorder), stream.number("has_b_frames"));
    } else if stream.number("has_b_frames") > i64::from(sps.reorder_frames_max()) {
        report.fail("more reordering than inferred".to_owned());
    }
    for nal in parameter_sets
        .iter()
        .filter(|nal| avc::NalType::of(nal) == Some(avc::NalType::Pps))
    {
        if let Err(error) = avc::Pps::parse(nal) {
            report.fail(error.to_string());
        }
    }
}

fn check_hevc(stream: &Stream, report: &mut Report) {
    let mut parameter_sets: Vec<Vec<u8>> = Vec::new();
    let mut nal_length_size = None;
    if stream.extradata.first() == Some(&1) {
        let config = match hevc::HevcConfig::parse(&stream.extradata) {
            Ok(config) => config,
            Err(error) => return report.fail(error.to_string()),
        };
        nal_length_size = Some(config.nal_length_size);
        parameter_sets.extend(config.arrays.iter().flat_map(|array| array.units.iter().cloned()));
        let again = config.serialise().and_then(|written| hevc::HevcConfig::parse(&written));
        report.same("hvcC written again", again, Ok(config));
    } else {
        parameter_sets.extend(annex_b_units(&stream.extradata).map(<[u8]>::to_vec));
    }
    for packet in &stream.packets {
        let picture = hevc::picture_type(units(packet, nal_length_size));
        match picture {
            Some(picture) if picture.is_irap() != packet.key => {
                report.fail(format!(
                    "picture of type {picture:?} in a packet with key {}",
                    packet.key
                ));
            }
            None if !report.cut => report.fail("packet without picture".to_owned()),
            _ => {}
        }
    }
    let units: Vec<&[u8]> = parameter_sets.iter().map(Vec::as_slice).collect();
    if units.is_empty() {
        return;
    }
    let built = match hevc::HevcConfig::build(&units) {
        Ok(built) => built,
        Err(error) => return report.fail(error.to_string()),
    };
    let sps = hevc::Sps::parse(built.units(hevc::NalType::SPS).next().unwrap()).unwrap();
    check_size(stream, sps.width, sps.height, report);
    report.same("level", i64::from(built.profile.level), stream.number("level"));
    let profile = match built.profile.profile {
        1 => "Main",
        2 => "Main 10",
        3 => "Main Still Picture",
        4 => "Rext",
        _ => "?",
    };
    report.same("profile", profile, stream.text("profile"));
    let full_range = sps.color.is_some_and(|color| color.full_range);
    report.same(
        "pix_fmt",
        pixel_format(sps.chroma_format, sps.bit_depth_luma, full_range).as_str(),
        stream.text("pix_fmt"),
    );
    check_color(stream, sps.color, report);
    if let Some(sar) = sps.sar {
        report.same(
            "sar",
            format!("{}:{}", sar.width, sar.height).as_str(),
            stream.text("sample_aspect_ratio"),
        );
    }
    report.same(
        "has_b_frames",
        i64::from(sps.reorder_picture_count_max),
        stream.number("has_b_frames"),
    );
}

fn check_av1(stream: &Stream, report: &mut Report) {
    let mut header = None;
    if stream.extradata.first() == Some(&0x81) {
        match av1::Av1Config::parse(&stream.extradata) {
            Ok(config) => {
                report.same("av1C written again", config.serialise(), stream.extradata.clone());
                header = config.sequence_header().expect("valid");
            }
            Err(error) => return report.fail(error.to_string()),
        }
    }
    for packet in &stream.packets {
        match av1::TemporalUnit::parse(&packet.data, header.as_ref()) {
            Ok(unit) => {
                report.same("key", unit.shown_key_frame, packet.key);
                header = unit.sequence_header.or(header);
            }
            Err(error) => report.fail(error.to_string()),
        }
        match av1::sample_ranges(&packet.data) {
            Ok(ranges) => report.same("bytes kept", ranges.len(), 1),
            Err(error) => report.fail(error.to_string()),
        }
    }
    let Some(header) = header else {
        return report.fail("no sequence header".to_owned());
    };
    check_size(stream, header.width, header.height, report);
    report.same("level", i64::from(header.level()), stream.number("level"));
    report.same(
        "profile",
        ["Main", "High", "Professional"][usize::from(header.profile)],
        stream.text("profile"),
    );
    let chroma = match (header.monochrome, header.subsampling_x, header.subsampling_y) {
        (true, ..) => 0,
        (_, true, true) => 1,
        (_, true, false) => 2,
        _ => 3,
    };
    report.same(
        "pix_fmt",
        pixel_format(chroma, header.bit_depth, false).as_str(),
        stream.text("pix_fmt"),
    );
    check_color(stream, Some(header.color).filter(|color| color.is_described()), report);
}

fn check_vp9(stream: &Stream, report: &mut Report) {
    if stream.packets.is_empty() {
        return; // a file cut behind its header
    }
    let mut format = None;
    for packet in &stream.packets {
        let first = vp9::frames(&packet.data)
            .ok()
            .and_then(|frames| frames.first().cloned());
        let Some(first) = first else {
            return report.fail("no frame".to_owned());
        };
        match vp9::FrameHeader::parse(&packet.data[first]) {
            Ok(header) => {
                report.same("key", header.key_frame, packet.key);
                format = format.or(header.format.map(|format| (header.profile, format)));
            }
            Err(error) => return report.fail(error.to_string()),
        }
    }
    let Some((profile, format)) = format else {
        return report.fail("no key frame".to_owned());
    };
    check_size(stream, format.width, format.height, report);
    report.same("profile", format!("Profile {profile}").as_str(), stream.text("profile"));
    let chroma = if format.subsampling_y { 1 } else { 3 };
    report.same(
        "pix_fmt",
        pixel_format(chroma, format.bit_depth, false).as_str(),
        stream.text("pix_fmt"),
    );
}

fn check_vp8(stream: &Stream, report: &mut Report) {
    for packet in &stream.packets {
        match vp8::FrameHeader::parse(&packet.data) {
            Ok(header) => {
                report.same("key", header.is_key_frame(), packet.key);
                if let Some((width, height)) = header.key_frame_size {
                    check_size(stream, u32::from(width), u32::from(height), report);
                }
            }
            Err(error) => report.fail(error.to_string()),
        }
    }
}

fn check_aac(stream: &Stream, report: &mut Report) {
    let theirs = (stream.number("sample_rate"), stream.number("channels"));
    let mut config = None;
    if !stream.extradata.is_empty() {
        match AudioSpecificConfig::parse(&stream.extradata) {
            Ok(parsed) => config = Some(parsed),
            Err(error) => return report.fail(error.to_string()),
        }
    } else {
        for packet in &stream.packets {
            match AdtsHeader::parse(&packet.data) {
                Ok(header) => {
                    report.same("frame size", header.frame_size_bytes, packet.data.len());
                    config = Some(header.audio_specific_config().expect("channels stated"));
                }
                Err(error) => return report.fail(error.to_string()),
            }
        }
    }
    // Broadcast captures announce streams they hold nothing of.
    let Some(config) = config.filter(|_| theirs.0 > 0) else {
        return;
    };
    let ours = (
        i64::from(config.output_sampling_rate()),
        i64::from(config.output_channels()),
    );
    let profile = stream.text("profile");
    match (config.sbr, profile) {
        // Implicit band replication: the frames tell ffprobe what the configuration does not say.
        (None, "HE-AAC") => report.same("rate and channels", (ours.0 * 2, ours.1), theirs),
        (None, "HE-AACv2") => report.same("rate and channels", (ours.0 * 2, 2), theirs),
        _ => report.same("rate and channels", ours, theirs),
    }
    let expected = match (config.signalled_object_type(), profile) {
        (object_type::LC, "HE-AAC" | "HE-AACv2") if config.sbr.is_none() => profile,
        (object_type::MAIN, _) => "Main",
        (object_type::LC, _) => "LC",
        (object_type::SBR, _) => "HE-AAC",
        (object_type::PS, _) => "HE-AACv2",
        // What this ffprobe calls xHE-AAC depends on its age.
        (object_type::USAC, _) => profile,
        _ => "?",
    };
    if !profile.is_empty() && profile != "-1" {
        report.same("profile", expected, profile);
    }
    if config.channel_configuration > 0 && config.serialise().is_some() && config.sbr != Some(false) {
        let written = config.serialise().expect("checked");
        let again = AudioSpecificConfig::parse(&written).expect("ours");
        report.same("configuration written again", again.rfc6381(), config.rfc6381());
    }
}

fn check_latm(stream: &Stream, report: &mut Report) {
    let mut reader = LatmReader::new();
    let mut frames = 0;
    for packet in &stream.packets {
        match parse_sync_header(&packet.data) {
            Ok(size) => report.same("element size", size + SYNC_HEADER_SIZE_BYTES, packet.data.len()),
            Err(error) => return report.fail(error.to_string()),
        }
        match reader.frames(&packet.data[SYNC_HEADER_SIZE_BYTES..]) {
            Ok(found) => frames += found.len(),
            Err(error) => report.fail(error.to_string()),
        }
    }
    let Some(config) = reader.config() else {
        return report.fail("no configuration".to_owned());
    };
    report.same("frames", frames, stream.packets.len());
    let scale = if config.sbr.is_none() && stream.text("profile") == "HE-AAC" {
        2
    } else {
        1
    };
    report.same(
        "rate",
        i64::from(config.output_sampling_rate()) * scale,
        stream.number("sample_rate"),
    );
    // A mono core may turn out to be parametric stereo; this configuration does not say.
    let channels = if config.ps.is_none() && config.channels == 1 {
        2
    } else {
        config.output_channels()
    };
    report.same("channels", i64::from(channels), stream.number("channels"));
}

fn check_mpeg_audio(stream: &Stream, report: &mut Report) {
    for packet in &stream.packets {
        match mpeg_audio::FrameHeader::parse(&packet.data) {
            Ok(header) => {
                report.same("frame size", header.frame_size_bytes, packet.data.len());
                report.same("rate", i64::from(header.sampling_rate), stream.number("sample_rate"));
                report.same("channels", i64::from(header.channels), stream.number("channels"));
                // In MP4 one object type indication stands for all layers, and ffprobe takes it for MP3.
                if stream.text("codec_tag_string") != "mp4a" {
                    report.same(
                        "layer",
                        format!("mp{}", header.layer).as_str(),
                        stream.text("codec_name"),
                    );
                }
            }
            // A capture or a stream cut by size may end inside a frame.
            Err(_) if packet.data.len() < 4 => {}
            Err(error) => report.fail(error.to_string()),
        }
    }
}

fn check_ac3(stream: &Stream, report: &mut Report) {
    for packet in &stream.packets {
        if report.cut && ac3::sync_frames(&packet.data).any(|frame| frame.is_err()) {
            continue;
        }
        let mut channels = 0;
        for frame in ac3::sync_frames(&packet.data) {
            match frame {
                Ok((frame, _)) => {
                    report.same("rate", i64::from(frame.sampling_rate), stream.number("sample_rate"));
                    report.same("enhanced", frame.is_enhanced(), stream.text("codec_name") == "eac3");
                    channels = i64::from(frame.channels()).max(channels);
                }
                Err(error) => report.fail(error.to_string()),
            }
        }
        report.same("channels", channels, stream.number("channels"));
        if let Ok(Some(unit)) = ac3::AccessUnit::parse(&packet.data) {
            report.same("access unit", unit.size_bytes, packet.data.len());
            if stream.text("codec_name") == "eac3" {
                let dec3 = ac3::Dec3::build(&unit).expect("complete");
                report.same("dec3 channels", i64::from(dec3.channels()), stream.number("channels"));
                // Frames differ by a word where the rate is no whole number of words.
                let excess = i64::from(dec3.data_rate_kbps) * 1_000 - stream.number("bit_rate");
                report.same("dec3 rate", (-1_000..2_000).contains(&excess), true);
            } else {
                let dac3 = ac3::Dac3::build(&unit.frames[0]).expect("AC-3");
                report.same(
                    "dac3 rate",
                    dac3.bitrate_bps().map(i64::from),
                    Some(stream.number("bit_rate")),
                );
            }
        }
    }
}

fn check_opus(stream: &Stream, report: &mut Report) {
    match opus::OpusConfig::parse_head(&stream.extradata) {
        Ok(config) => {
            report.same("channels", i64::from(config.channels), stream.number("channels"));
            report.same("head written again", config.serialise_head(), stream.extradata.clone());
        }
        Err(error) => report.fail(error.to_string()),
    }
    let ticks_per_second: u64 = stream
        .text("time_base")
        .trim_start_matches("1/")
        .parse()
        .expect("whole ticks");
    for packet in &stream.packets {
        let samples = match opus::packet_samples(&packet.data) {
            Ok(samples) => samples,
            Err(error) => return report.fail(error.to_string()),
        };
        // The last packet may be trimmed by the container.
        let theirs = packet.duration.map(|ticks| ticks * 48_000 / ticks_per_second);
        if theirs.is_some_and(|theirs| theirs > u64::from(samples)) {
            report.same("duration", Some(u64::from(samples)), theirs);
        }
    }
}

fn check_flac(stream: &Stream, report: &mut Report) {
    let info = match flac::StreamInfo::parse(&stream.extradata) {
        Ok(info) => info,
        Err(error) => return report.fail(error.to_string()),
    };
    report.same("rate", i64::from(info.sampling_rate), stream.number("sample_rate"));
    report.same("channels", i64::from(info.channels), stream.number("channels"));
    report.same(
        "depth",
        i64::from(info.bits_per_sample),
        stream.number("bits_per_raw_sample"),
    );
    let joined: Vec<u8> = stream
        .packets
        .iter()
        .flat_map(|packet| packet.data.iter().copied())
        .collect();
    let mut rest = &joined[..];
    for packet in &stream.packets {
        let header = flac::FrameHeader::parse(&packet.data).expect("valid");
        assert!(header.fits(&info));
        let size = flac::frame_size_bytes(rest, &info);
        report.same("frame size", size, Some(packet.data.len()));
        rest = &rest[size.unwrap_or(rest.len())..];
    }
}

/// Every byte of every file, damaged ones included, through everything that reads bytes. Nothing to compare: it must
/// come back.
#[test]
fn damaged_files_never_panic() {
    let Some(folder) = media() else { return };
    let mut paths = Vec::new();
    files(&folder.join("corrupt"), &mut paths);
    let mut streams = 0;
    for probed in probe_all(&paths) {
        for stream in probed {
            streams += 1;
            for data in stream
                .packets
                .iter()
                .map(|packet| &packet.data)
                .chain([&stream.extradata])
            {
                read_everything(data);
            }
        }
    }
    eprintln!("{streams} streams of {} damaged files", paths.len());
}

fn read_everything(data: &[u8]) {
    for size in 1..=4 {
        for unit in nal_units(data, size).flatten().chain(annex_b_units(data)) {
            let _ = (
                avc::Sps::parse(unit),
                avc::Pps::parse(unit),
                avc::SliceStart::parse(unit),
            );
            let _ = (
                avc::is_recovery_point(unit),
                hevc::Sps::parse(unit),
                hevc::Pps::parse(unit),
            );
            let _ = hevc::Vps::parse(unit);
        }
    }
    let _ = (
        avc::AvcConfig::parse(data),
        hevc::HevcConfig::parse(data),
        av1::Av1Config::parse(data),
    );
    let _ = (
        av1::TemporalUnit::parse(data, None),
        av1::sample_ranges(data),
        vp8::FrameHeader::parse(data),
    );
    let _ = (
        vp9::is_key_frame(data),
        vp9::VpConfig::parse(data),
        AudioSpecificConfig::parse(data),
    );
    let _ = (
        AdtsHeader::parse(data),
        Esds::parse(data),
        LatmReader::new().frames(data),
    );
    let _ = (
        mpeg_audio::FrameHeader::parse(data),
        ac3::AccessUnit::parse(data),
        opus::packet_samples(data),
    );
    let _ = (
        opus::OpusConfig::parse_head(data),
        flac::StreamInfo::parse_file(data),
        flac::FrameHeader::parse(data),
    );
}
