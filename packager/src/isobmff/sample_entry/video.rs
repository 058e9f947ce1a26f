//! Sample entries of pictures.

use bytes::Bytes;

use super::dolby_vision::DolbyVision;
use super::{SampleEntryError, TrackFacts, VideoFacts, unusable, write_entry};
use crate::codec::av1::Av1Config;
use crate::codec::avc::{self, AvcConfig};
use crate::codec::hevc::{self, HevcConfig, NalType};
use crate::codec::vp9::{VpConfig, level_for};
use crate::codec::vui::SampleAspectRatio;
use crate::codec::{Codec, ColorInfo, VideoRange};
use crate::isobmff::BoxWriter;
use crate::track::{MediaDescription, TrackDescription, VideoDescription};

/// Frames a second assumed for a level when nothing tells.
const FRAME_RATE_DEFAULT: (u64, u64) = (30, 1);

/// Longest side of a picture that the entry can state.
const SIDE_MAX: u32 = u16::MAX as u32;

/// What is written for a kind of video.
struct Entry<'a> {
    codec: Codec,
    fourcc: &'a [u8; 4],
    rfc6381: String,
    /// What the bit stream says.
    size: Option<(u32, u32)>,
    sample_aspect_ratio: Option<SampleAspectRatio>,
    color: Option<ColorInfo>,
    config_fourcc: &'a [u8; 4],
    /// Payload of the configuration box.
    config: &'a [u8],
    nal_length_size: u8,
    parameter_sets: Bytes,
    /// Dolby Vision, and the sample entry by which its codec string calls it.
    dolby_vision: Option<(DolbyVision, &'static str)>,
}

/// The code points of the bit stream, each that it leaves unspecified (2) taken from the container.
fn merge(bit_stream: Option<ColorInfo>, container: Option<ColorInfo>) -> Option<ColorInfo> {
    let merged = match (bit_stream, container) {
        (Some(bit_stream), Some(container)) => {
            let or = |own: u8, other: u8| if own == 2 { other } else { own };
            ColorInfo {
                primaries: or(bit_stream.primaries, container.primaries),
                transfer: or(bit_stream.transfer, container.transfer),
                matrix: or(bit_stream.matrix, container.matrix),
                full_range: bit_stream.full_range,
            }
        }
        (color, None) | (None, color) => color?,
    };
    (merged.is_described() || merged.full_range).then_some(merged)
}

impl Entry<'_> {
    /// `VisualSampleEntry` (ISO/IEC 14496-12:2022 12.1.3) with configuration, `colr`, `pasp` and HDR boxes.
    fn describe(self, track: &TrackFacts, facts: &VideoFacts) -> Result<TrackDescription, SampleEntryError> {
        let name = self.codec.name();
        let (width, height) = self
            .size
            .or(facts.size)
            .ok_or_else(|| unusable(format!("{name} without a picture size")))?;
        if !(1..=SIDE_MAX).contains(&width) || !(1..=SIDE_MAX).contains(&height) {
            return Err(unusable(format!("{name} pictures of {width}x{height}")));
        }
        let color = merge(self.color, facts.color);
        let coded_aspect_ratio = self
            .sample_aspect_ratio
            .map_or((1, 1), |ratio| (u32::from(ratio.width), u32::from(ratio.height)));
        let sample_aspect_ratio = facts
            .sample_aspect_ratio
            .filter(|(horizontal, vertical)| *horizontal > 0 && *vertical > 0)
            .unwrap_or(coded_aspect_ratio);
        let base_range = color.map_or(VideoRange::Sdr, |color| color.video_range());
        let dolby_vision = self.dolby_vision.as_ref();
        let entry = write_entry(self.fourcc, |w| {
            w.zeros(16);
            w.u16(width as u16);
            w.u16(height as u16);
            w.u32(0x48_0000); // 72 dpi, twice: a constant of the format
            w.u32(0x48_0000);
            w.zeros(4);
            w.u16(1); // frames a sample
            w.zeros(32); // compressor name
            w.u16(0x18); // colour without alpha
            w.u16(0xffff);
            w.write_box(self.config_fourcc, |w| w.bytes(self.config));
            if let Some((dolby_vision, _)) = dolby_vision {
                w.write_box(dolby_vision.box_name(), |w| w.bytes(&dolby_vision.payload));
            }
            if let Some(color) = color {
                write_color(w, color);
            }
            // Square samples need no word, unless the bit stream says otherwise.
            if [sample_aspect_ratio, coded_aspect_ratio]
                .iter()
                .any(|ratio| ratio.0 != ratio.1)
            {
                w.write_box(b"pasp", |w| {
                    w.u32(sample_aspect_ratio.0);
                    w.u32(sample_aspect_ratio.1);
                });
            }
            if let Some(payload) = &facts.mastering_display {
                w.write_box(b"mdcv", |w| w.bytes(payload));
            }
            if let Some(payload) = &facts.content_light_level {
                w.write_box(b"clli", |w| w.bytes(payload));
            }
        });
        let media = MediaDescription::Video(VideoDescription {
            width,
            height,
            sample_aspect_ratio,
            matrix: facts.matrix,
            color,
            video_range: dolby_vision.map_or(base_range, |(dolby_vision, _)| dolby_vision.video_range(base_range)),
            nal_length_size: self.nal_length_size,
            parameter_sets: self.parameter_sets,
            supplemental_codecs: dolby_vision.and_then(|(dolby_vision, sample_entry)| {
                dolby_vision.supplemental(sample_entry, color.map(|color| color.transfer))
            }),
        });
        Ok(track.describe(self.codec, self.rfc6381, entry, media))
    }
}

/// `colr` of type `nclx` (ISO/IEC 14496-12:2022 12.1.5).
fn write_color(w: &mut BoxWriter, color: ColorInfo) {
    w.write_box(b"colr", |w| {
        w.bytes(b"nclx");
        w.u16(u16::from(color.primaries));
        w.u16(u16::from(color.transfer));
        w.u16(u16::from(color.matrix));
        w.u8(u8::from(color.full_range) << 7);
    });
}

/// NAL units behind four-byte start codes.
fn annex_b<'a>(units: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut stream = Vec::new();
    for unit in units {
        stream.extend_from_slice(&[0, 0, 0, 1]);
        stream.extend_from_slice(unit);
    }
    Bytes::from(stream)
}

fn dolby_vision(facts: &VideoFacts) -> Option<DolbyVision> {
    DolbyVision::parse(facts.dolby_vision.as_ref()?).filter(DolbyVision::is_streamed)
}

/// AVC from the payload of `avcC`. Served as `avc1` when the record carries SPS and PPS, else as `avc3`.
pub fn avc(track: &TrackFacts, avcc: &[u8], video: &VideoFacts) -> Result<TrackDescription, SampleEntryError> {
    let mut config = AvcConfig::parse(avcc)?;
    let complete = !config.sps.is_empty() && !config.pps.is_empty();
    let fourcc = if complete { "avc1" } else { "avc3" };
    let mut sps = None;
    if let Some(first) = config.sps.first() {
        let parsed = avc::Sps::parse(first)?;
        // The record's own fields are a copy that some writers get wrong.
        (config.profile, config.constraints, config.level) = (parsed.profile, parsed.constraints, parsed.level);
        sps = Some(parsed);
    }
    let config_bytes = config.serialise()?;
    let sps_ext = config.high.iter().flat_map(|high| &high.sps_ext);
    Entry {
        codec: Codec::Avc,
        fourcc: if complete { b"avc1" } else { b"avc3" },
        rfc6381: config.rfc6381(fourcc),
        size: sps.as_ref().map(|sps| (sps.width, sps.height)),
        sample_aspect_ratio: sps.as_ref().and_then(|sps| sps.sar),
        color: sps.as_ref().and_then(|sps| sps.color),
        config_fourcc: b"avcC",
        config: &config_bytes,
        nal_length_size: config.nal_length_size,
        parameter_sets: annex_b(config.sps.iter().chain(sps_ext).chain(&config.pps).map(Vec::as_slice)),
        dolby_vision: dolby_vision(video)
            .filter(|dolby_vision| dolby_vision.profile == 9 && !dolby_vision.is_exclusive())
            .map(|dolby_vision| (dolby_vision, "dva1")),
    }
    .describe(track, video)
}

/// HEVC from the payload of `hvcC`. Served as `hvc1` (Dolby Vision without a base layer of its own: `dvh1`) when the
/// record carries VPS, SPS and PPS, else as `hev1` (`dvhe`).
pub fn hevc(track: &TrackFacts, hvcc: &[u8], video: &VideoFacts) -> Result<TrackDescription, SampleEntryError> {
    let mut config = HevcConfig::parse(hvcc)?;
    let units: Vec<&[u8]> = [NalType::VPS, NalType::SPS, NalType::PPS]
        .into_iter()
        .flat_map(|kind| config.units(kind))
        .collect();
    let has = |kind: NalType| {
        units
            .iter()
            .any(|unit| NalType::of(unit) == Some(kind) && hevc::layer_id(unit) == Some(0))
    };
    let complete = has(NalType::VPS) && has(NalType::SPS) && has(NalType::PPS);
    let mut sps = None;
    if complete {
        let first = config.units(NalType::SPS).find(|unit| hevc::layer_id(unit) == Some(0));
        sps = first.map(hevc::Sps::parse).transpose()?;
        // Rebuilt from the parameter sets: profile and level are theirs, and the arrays are in order and complete, as
        // `hvc1` demands. SEI units for the whole stream stay.
        let mut rebuilt = HevcConfig::build(&units)?;
        rebuilt.nal_length_size = config.nal_length_size;
        rebuilt.avg_frame_rate = config.avg_frame_rate;
        rebuilt.constant_frame_rate = config.constant_frame_rate;
        let sei = std::mem::take(&mut config.arrays).into_iter();
        rebuilt
            .arrays
            .extend(sei.filter(|array| matches!(array.nal_type, NalType::PREFIX_SEI | NalType::SUFFIX_SEI)));
        config = rebuilt;
    }
    let config_bytes = config.serialise()?;
    let dolby_vision = dolby_vision(video);
    let exclusive = dolby_vision.as_ref().filter(|dolby_vision| dolby_vision.is_exclusive());
    let (fourcc, name): (&[u8; 4], &str) = match (exclusive.is_some(), complete) {
        (false, true) => (b"hvc1", "hvc1"),
        (false, false) => (b"hev1", "hev1"),
        (true, true) => (b"dvh1", "dvh1"),
        (true, false) => (b"dvhe", "dvhe"),
    };
    let parameter_sets = [NalType::VPS, NalType::SPS, NalType::PPS];
    Entry {
        codec: Codec::Hevc,
        fourcc,
        rfc6381: match exclusive {
            Some(dolby_vision) => dolby_vision.rfc6381(name),
            None => config.rfc6381(name),
        },
        size: sps.as_ref().map(|sps| (sps.width, sps.height)),
        sample_aspect_ratio: sps.as_ref().and_then(|sps| sps.sar),
        color: sps.as_ref().and_then(|sps| sps.color),
        config_fourcc: b"hvcC",
        config: &config_bytes,
        nal_length_size: config.nal_length_size,
        parameter_sets: annex_b(parameter_sets.into_iter().flat_map(|kind| config.units(kind))),
        dolby_vision: dolby_vision.map(|dolby_vision| (dolby_vision, "dvh1")),
    }
    .describe(track, video)
}

/// AV1 from the payload of `av1C`.
pub fn av1(track: &TrackFacts, av1c: &[u8], video: &VideoFacts) -> Result<TrackDescription, SampleEntryError> {
    let mut config = Av1Config::parse(av1c)?;
    let header = config.sequence_header()?;
    if let Some(header) = &header {
        config.profile = header.profile;
        config.level = header.level();
        config.high_tier = header.high_tier();
        config.bit_depth = header.bit_depth;
        config.monochrome = header.monochrome;
        config.subsampling_x = header.subsampling_x;
        config.subsampling_y = header.subsampling_y;
        config.chroma_sample_position = header.chroma_sample_position;
    }
    let config_bytes = config.serialise();
    let bit_stream = header.as_ref().map(|header| header.color);
    let dolby_vision = dolby_vision(video).filter(|dolby_vision| dolby_vision.profile == 10);
    let exclusive = dolby_vision.as_ref().filter(|dolby_vision| dolby_vision.is_exclusive());
    Entry {
        codec: Codec::Av1,
        fourcc: if exclusive.is_some() { b"dav1" } else { b"av01" },
        rfc6381: match exclusive {
            Some(dolby_vision) => dolby_vision.rfc6381("dav1"),
            None => config.rfc6381(merge(bit_stream, video.color).unwrap_or(ColorInfo::UNSPECIFIED)),
        },
        size: header.as_ref().map(|header| (header.width, header.height)),
        sample_aspect_ratio: None,
        color: bit_stream,
        config_fourcc: b"av1C",
        config: &config_bytes,
        nal_length_size: 0,
        parameter_sets: Bytes::new(),
        dolby_vision: dolby_vision.map(|dolby_vision| (dolby_vision, "dav1")),
    }
    .describe(track, video)
}

/// VP9 from the payload of `vpcC`, version and flags included. `video.size` is needed.
pub fn vp9(track: &TrackFacts, vpcc: &[u8], video: &VideoFacts) -> Result<TrackDescription, SampleEntryError> {
    let config = VpConfig::parse(vpcc)?;
    vp(track, Codec::Vp9, config, video)
}

/// VP8, whose configuration is always the same. `video.size` is needed.
pub fn vp8(track: &TrackFacts, video: &VideoFacts) -> Result<TrackDescription, SampleEntryError> {
    let config = VpConfig {
        profile: 0,
        level: 0,
        bit_depth: 8,
        chroma_subsampling: 0,
        color: ColorInfo::UNSPECIFIED,
    };
    vp(track, Codec::Vp8, config, video)
}

fn vp(
    track: &TrackFacts,
    codec: Codec,
    mut config: VpConfig,
    video: &VideoFacts,
) -> Result<TrackDescription, SampleEntryError> {
    let (width, height) = video
        .size
        .ok_or_else(|| unusable(format!("{} without a picture size", codec.name())))?;
    if config.level == 0 {
        let (count, seconds) = video.frame_rate.unwrap_or(FRAME_RATE_DEFAULT);
        config.level = level_for(width, height, count, seconds);
    }
    config.color = merge(Some(config.color), video.color).unwrap_or(ColorInfo::UNSPECIFIED);
    let (fourcc, name): (&[u8; 4], &str) = match codec {
        Codec::Vp8 => (b"vp08", "vp08"),
        _ => (b"vp09", "vp09"),
    };
    Entry {
        codec,
        fourcc,
        rfc6381: config.rfc6381(name),
        size: None,
        sample_aspect_ratio: None,
        color: Some(config.color),
        config_fourcc: b"vpcC",
        config: &config.serialise(),
        nal_length_size: 0,
        parameter_sets: Bytes::new(),
        dolby_vision: None,
    }
    .describe(track, video)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::time::Timescale;

    #[test]
    fn aspect_ratio_of_the_container_overrides_the_bit_stream() {
        // The SPS says 27:64.
        let avcc =
            b"\x01d\0\r\xff\xe1\0\x1dgd\0\r\xac\xd9AA\xfb\xff\0\x1b\0@\x10\0\0\x03\0\x10\0\0\x03\x03\xc0\xf1B\x99`\
            \x01\0\x06h\xeb\xe3\xcb\"\xc0";
        let check = |sample_aspect_ratio, expected: &[u8]| {
            let track = TrackFacts {
                source_track_id: 1,
                timescale: Timescale::MILLIS,
                language: "und".into(),
                label: None,
            };
            let video = VideoFacts {
                sample_aspect_ratio,
                ..VideoFacts::default()
            };
            let entry = avc(&track, avcc, &video).unwrap().sample_entry;
            assert!(entry.ends_with(expected), "{entry:?}");
        };
        check(None, b"\0\0\0\x10pasp\0\0\0\x1b\0\0\0\x40");
        check(Some((1, 1)), b"\0\0\0\x10pasp\0\0\0\x01\0\0\0\x01");
        check(Some((4, 3)), b"\0\0\0\x10pasp\0\0\0\x04\0\0\0\x03");
        check(Some((0, 3)), b"\0\0\0\x10pasp\0\0\0\x1b\0\0\0\x40");
    }
}
