//! Video: sizes, profiles, colour and key pictures as ffprobe has them.

use super::{Packet, Report, Stream};
use packager::codec::bits::{annex_b_units, nal_units};
use packager::codec::{ColorInfo, av1, avc, hevc, vp8, vp9};

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

pub(super) fn check_avc(stream: &Stream, report: &mut Report) {
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

pub(super) fn check_hevc(stream: &Stream, report: &mut Report) {
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

pub(super) fn check_av1(stream: &Stream, report: &mut Report) {
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

pub(super) fn check_vp9(stream: &Stream, report: &mut Report) {
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

pub(super) fn check_vp8(stream: &Stream, report: &mut Report) {
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
