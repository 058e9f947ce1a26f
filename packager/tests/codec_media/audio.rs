//! Audio: rates, channels and frame sizes as ffprobe has them.

use super::{Report, Stream};
use packager::codec::aac::adts::AdtsHeader;
use packager::codec::aac::latm::{LatmReader, SYNC_HEADER_SIZE_BYTES, parse_sync_header};
use packager::codec::aac::{AudioSpecificConfig, object_type};
use packager::codec::{ac3, flac, mpeg_audio, opus};

pub(super) fn check_aac(stream: &Stream, report: &mut Report) {
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

pub(super) fn check_latm(stream: &Stream, report: &mut Report) {
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

pub(super) fn check_mpeg_audio(stream: &Stream, report: &mut Report) {
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

pub(super) fn check_ac3(stream: &Stream, report: &mut Report) {
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

pub(super) fn check_opus(stream: &Stream, report: &mut Report) {
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

pub(super) fn check_flac(stream: &Stream, report: &mut Report) {
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
