//! Codec ids (RFC 9559 27.1 and the codec mappings it refers to): which are served, how long their frames last, and what
//! they say of themselves.

use bytes::Bytes;

use super::MatroskaError;
use super::cluster::Walk;
use super::header::{Encoding, TrackEntry, TrackType, VideoSettings};
use crate::codec::aac::{AudioSpecificConfig, object_type};
use crate::codec::ac3::{AccessUnit, Dac3, Dec3, SyncFrame, sync_frames};
use crate::codec::av1::{self, Av1Config, ObuType};
use crate::codec::flac::{self, StreamInfo};
use crate::codec::opus::{self, OpusConfig};
use crate::codec::vp9::{self, VpConfig};
use crate::codec::{CodecError, MediaKind, mpeg_audio};
use crate::index::TrackIndex;
use crate::isobmff::sample_entry::{self, SampleEntryError, TrackFacts, VideoFacts};
use crate::track::TrackDescription;

/// Longest CodecDelay believed, in nanoseconds; encoders need less than half a second.
const CODEC_DELAY_NS_MAX: u64 = 10_000_000_000;

/// Longest header of a frame that says how long it lasts: FLAC's.
const FRAME_HEADER_SIZE_MAX: usize = 16;

/// Bytes of an AC-3 syncframe that hold its header; joint object coding is told near its end.
const SYNC_FRAME_HEADER_SIZE_MAX: u64 = 512;

/// A coding that is served, with what its CodecPrivate says of frame lengths.
#[derive(Clone, Debug)]
pub(super) enum Coding {
    Avc,
    Hevc,
    Av1,
    Vp9,
    Vp8,
    Aac { config: AudioSpecificConfig, bytes: Bytes },
    Mp3,
    Ac3,
    Eac3,
    Opus(OpusConfig),
    Flac(StreamInfo),
}

impl Coding {
    /// The coding of a track, or why it is not served.
    pub(super) fn of(entry: &TrackEntry) -> Result<Coding, String> {
        if entry.track_type == TrackType::Subtitle {
            refuse_subtitle(&entry.codec_id)?;
        }
        check_encodings(entry)?;
        if entry.scaled {
            return Err("its timestamps run at a speed of their own (TrackTimestampScale)".to_owned());
        }
        if u32::try_from(entry.number).is_err() || entry.number == 0 {
            return Err("its track number is out of range".to_owned());
        }
        if !entry.enabled {
            return Err("it is marked as not to be used (FlagEnabled)".to_owned());
        }
        match entry.track_type {
            TrackType::Video => Coding::of_video(entry),
            TrackType::Audio => Coding::of_audio(entry),
            TrackType::Subtitle => Err("its text format is not served".to_owned()),
            TrackType::Other(other) => Err(format!("tracks of type {other} are not served")),
        }
    }

    fn of_video(entry: &TrackEntry) -> Result<Coding, String> {
        let coding = match entry.codec_id.as_str() {
            "V_MPEG4/ISO/AVC" => Coding::Avc,
            "V_MPEGH/ISO/HEVC" => Coding::Hevc,
            "V_AV1" => Coding::Av1,
            "V_VP9" => Coding::Vp9,
            "V_VP8" => Coding::Vp8,
            "V_MS/VFW/FOURCC" => return Err("video in the manner of AVI is not served".to_owned()),
            "V_MPEG1" | "V_MPEG2" => return Err("MPEG-1 and MPEG-2 video are not served".to_owned()),
            id if id.starts_with("V_MPEG4/") => return Err("MPEG-4 part 2 video is not served".to_owned()),
            _ => return Err("its video coding is not served".to_owned()),
        };
        if matches!(coding, Coding::Avc | Coding::Hevc) && entry.codec_private.is_empty() {
            return Err("its parameter sets (CodecPrivate) are missing".to_owned());
        }
        Ok(coding)
    }

    fn of_audio(entry: &TrackEntry) -> Result<Coding, String> {
        let private = &entry.codec_private;
        Ok(match entry.codec_id.as_str() {
            "A_AAC" => Coding::Aac {
                config: AudioSpecificConfig::parse(private).map_err(|error| error.to_string())?,
                bytes: private.clone(),
            },
            id if id.starts_with("A_AAC/") => old_aac(entry)?,
            "A_MPEG/L3" => Coding::Mp3,
            "A_AC3" | "A_AC3/BSID9" | "A_AC3/BSID10" => Coding::Ac3,
            "A_EAC3" => Coding::Eac3,
            "A_OPUS" => Coding::Opus(OpusConfig::parse_head(private).map_err(|error| error.to_string())?),
            "A_FLAC" => Coding::Flac(StreamInfo::parse_file(private).map_err(|error| error.to_string())?.0),
            "A_VORBIS" => return Err("Vorbis has no place in CMAF".to_owned()),
            "A_MPEG/L1" | "A_MPEG/L2" => return Err("MPEG audio of layers I and II is not served".to_owned()),
            id if id.starts_with("A_DTS") => return Err("DTS is not served".to_owned()),
            id if id.starts_with("A_PCM") => return Err("uncompressed sound is not served".to_owned()),
            "A_TRUEHD" | "A_MLP" => return Err("TrueHD is not served".to_owned()),
            _ => return Err("its sound coding is not served".to_owned()),
        })
    }

    /// Video or audio.
    pub(super) fn kind(&self) -> MediaKind {
        match self {
            Coding::Avc | Coding::Hevc | Coding::Av1 | Coding::Vp9 | Coding::Vp8 => MediaKind::Video,
            _ => MediaKind::Audio,
        }
    }

    /// Bytes at the start of a frame that a sample of CMAF does not have: a temporal delimiter, which Matroska forbids
    /// but early muxers wrote (AV1 in ISOBMFF 2.4).
    pub(super) fn surplus_size(&self, walk: &mut Walk<'_, '_>, offset: u64) -> Result<u32, MatroskaError> {
        match self {
            Coding::Av1 if walk.peek(offset, 2)? == [0x12, 0x00] => Ok(2),
            _ => Ok(0),
        }
    }

    /// Samples a sound frame lasts, or `None` when its header can not be read.
    pub(super) fn frame_duration(
        &self,
        walk: &mut Walk<'_, '_>,
        offset: u64,
        size: u32,
    ) -> Result<Option<u32>, MatroskaError> {
        let given = FRAME_HEADER_SIZE_MAX.min(size as usize);
        Ok(match self {
            Coding::Aac { config, .. } => Some(config.output_frame_length()).filter(|samples| *samples > 0),
            Coding::Mp3 => {
                let header = mpeg_audio::FrameHeader::parse(walk.peek(offset, given)?).ok();
                header.map(|header| u32::from(header.sample_count))
            }
            Coding::Ac3 => Some(1_536),
            Coding::Eac3 => eac3_duration(walk, offset, size)?,
            Coding::Opus(_) => opus::packet_samples(walk.peek(offset, given)?).ok(),
            Coding::Flac(_) => {
                let header = flac::FrameHeader::parse(walk.peek(offset, given)?).ok();
                header.map(|header| header.block_samples)
            }
            _ => None,
        })
    }

    /// What a frame lasts when not even the first one says so.
    pub(super) fn usual_frame_duration(&self) -> u32 {
        match self {
            Coding::Opus(_) => 960,
            Coding::Mp3 => 1_152,
            Coding::Ac3 | Coding::Eac3 => 1_536,
            Coding::Flac(info) => u32::from(info.block_samples_max),
            _ => 1_024,
        }
    }

    /// Ticks a second of a sound track.
    pub(super) fn sampling_rate(&self, first_frame: &[u8]) -> Result<u32, String> {
        let rate = match self {
            Coding::Aac { config, .. } => config.output_sampling_rate(),
            Coding::Mp3 => {
                mpeg_audio::FrameHeader::parse(first_frame)
                    .map_err(|error| error.to_string())?
                    .sampling_rate
            }
            Coding::Ac3 | Coding::Eac3 => {
                SyncFrame::parse(first_frame)
                    .map_err(|error| error.to_string())?
                    .sampling_rate
            }
            Coding::Opus(_) => opus::SAMPLING_RATE,
            Coding::Flac(info) => info.sampling_rate,
            _ => 0,
        };
        match rate {
            0 => Err("its sampling rate is not known".to_owned()),
            rate => Ok(rate),
        }
    }

    /// Samples that are decoded before the first to be heard: CodecDelay, to the nearest, else what Opus says itself.
    pub(super) fn delay(&self, entry: &TrackEntry, sampling_rate: u32) -> u32 {
        let delay_ns = Some(entry.codec_delay).filter(|delay| (1..=CODEC_DELAY_NS_MAX).contains(delay));
        match (delay_ns, self) {
            (Some(delay_ns), _) => {
                let samples = (delay_ns * u64::from(sampling_rate) + 500_000_000) / 1_000_000_000;
                u32::try_from(samples).unwrap_or(0)
            }
            (None, Coding::Opus(config)) => u32::from(config.pre_skip),
            (None, _) => 0,
        }
    }

    /// The description of a track with this index, which starts with `first_frame`.
    pub(super) fn describe(
        &self,
        entry: &TrackEntry,
        index: &TrackIndex,
        first_frame: &[u8],
    ) -> Result<TrackDescription, String> {
        let facts = TrackFacts {
            source_track_id: u32::try_from(entry.number).unwrap_or(1),
            timescale: index.timescale(),
            language: entry.language.clone(),
            label: entry.name.clone(),
        };
        let rate = frame_rate(index);
        let video = video_facts(entry, rate);
        let described = match self {
            Coding::Avc => sample_entry::avc(&facts, &entry.codec_private, &video),
            Coding::Hevc => sample_entry::hevc(&facts, &entry.codec_private, &video),
            Coding::Av1 => sample_entry::av1(&facts, &av1_config(entry, first_frame)?, &video),
            Coding::Vp9 => sample_entry::vp9(&facts, &vp9_config(entry, first_frame, rate)?, &video),
            Coding::Vp8 => sample_entry::vp8(&facts, &video),
            Coding::Aac { bytes, .. } => sample_entry::aac(&facts, bytes),
            Coding::Mp3 => {
                let header = mpeg_audio::FrameHeader::parse(first_frame).map_err(|error| error.to_string())?;
                match header.layer {
                    3 => sample_entry::mp3(&facts, header.sampling_rate, u16::from(header.channels)),
                    layer => return Err(format!("MPEG audio of layer {layer} is not served")),
                }
            }
            Coding::Ac3 => sample_entry::ac3(&facts, &dac3(first_frame).map_err(|error| error.to_string())?),
            Coding::Eac3 => sample_entry::eac3(&facts, &dec3(first_frame).map_err(|error| error.to_string())?),
            Coding::Opus(config) => sample_entry::opus(&facts, &config.serialise_dops()),
            Coding::Flac(info) => sample_entry::flac(&facts, &info.serialise_dfla()),
        };
        described.map_err(|error: SampleEntryError| error.to_string())
    }
}

/// Refuses a track whose frames are not in the file as they are decoded.
fn check_encodings(entry: &TrackEntry) -> Result<(), String> {
    match entry.encodings.first() {
        None => Ok(()),
        Some(Encoding::HeaderStripping(_)) => Err(
            "its frames are stored without their first bytes (header stripping), so they can not be served in place"
                .to_owned(),
        ),
        Some(Encoding::Zlib) => {
            Err("its frames are compressed again (zlib), so they can not be served in place".to_owned())
        }
        Some(Encoding::Encrypted) => Err("its frames are encrypted".to_owned()),
        Some(Encoding::Unknown(algorithm)) => Err(format!("its frames are compressed by algorithm {algorithm}")),
    }
}

/// Refuses subtitles that are not text, whatever else is said of them.
fn refuse_subtitle(codec_id: &str) -> Result<(), String> {
    match codec_id {
        "S_VOBSUB" | "S_HDMV/PGS" | "S_DVBSUB" | "S_IMAGE/BMP" => Err("bitmap subtitles".to_owned()),
        _ => Ok(()),
    }
}

/// AAC by an old codec id such as `A_AAC/MPEG4/LC/SBR`, without CodecPrivate.
fn old_aac(entry: &TrackEntry) -> Result<Coding, String> {
    let mut parts = entry.codec_id.split('/').skip(2);
    let object_type = match parts.next() {
        Some("MAIN") => object_type::MAIN,
        Some("LC") => object_type::LC,
        _ => return Err("its kind of AAC is not served".to_owned()),
    };
    let channel_configuration = match entry.audio.channels {
        8 => 7,
        channels @ 1..=6 => channels as u8,
        channels => return Err(format!("AAC of {channels} channels without a configuration")),
    };
    let rate = entry.audio.sampling_frequency;
    let mut config =
        AudioSpecificConfig::plain(object_type, rate, channel_configuration).map_err(|error| error.to_string())?;
    if parts.next() == Some("SBR") {
        config.sbr = Some(true);
        config.extension_sampling_rate = rate.checked_mul(2);
    }
    let bytes = config.serialise().ok_or("its AAC configuration can not be written")?;
    Ok(Coding::Aac {
        config,
        bytes: Bytes::from(bytes),
    })
}

/// Mean frame rate: pictures, in so many seconds.
fn frame_rate(index: &TrackIndex) -> (u64, u64) {
    let pictures = u64::from(index.sample_count()).saturating_mul(u64::from(index.timescale().get()));
    (pictures, u64::try_from(index.duration().ticks).unwrap_or(0).max(1))
}

fn video_facts(entry: &TrackEntry, frame_rate: (u64, u64)) -> VideoFacts {
    let video = &entry.video;
    VideoFacts {
        size: Some((video.pixel_width, video.pixel_height)).filter(|(width, height)| *width > 0 && *height > 0),
        frame_rate: Some(frame_rate),
        sample_aspect_ratio: sample_aspect_ratio(video),
        matrix: None,
        color: video.color,
        mastering_display: video.mastering_display,
        content_light_level: video.content_light_level,
        dolby_vision: entry.dolby_vision.clone(),
    }
}

/// Shape of a luma sample from display and visible size (RFC 9559 5.1.4.1.28.14); `None` when the display size is
/// missing or says nothing about shape.
fn sample_aspect_ratio(video: &VideoSettings) -> Option<(u32, u32)> {
    let [left, right, top, bottom] = video.crop;
    let width = video.pixel_width.checked_sub(left)?.checked_sub(right)?;
    let height = video.pixel_height.checked_sub(top)?.checked_sub(bottom)?;
    if video.display_unit > 3 || [width, height, video.display_width, video.display_height].contains(&0) {
        return None;
    }
    let horizontal = u64::from(video.display_width) * u64::from(height);
    let vertical = u64::from(video.display_height) * u64::from(width);
    let divisor = greatest_common_divisor(horizontal, vertical);
    let ratio = (
        u32::try_from(horizontal / divisor).ok()?,
        u32::try_from(vertical / divisor).ok()?,
    );
    // Display sizes are whole pixels: what square samples and rounding explain is square.
    let off_by_rounding = horizontal.abs_diff(vertical) <= u64::from(width.max(height));
    Some(if off_by_rounding { (1, 1) } else { ratio })
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// `av1C` from CodecPrivate, else from the sequence header in the first frame.
fn av1_config(entry: &TrackEntry, first_frame: &[u8]) -> Result<Vec<u8>, String> {
    if let Ok(config) = Av1Config::parse(&entry.codec_private)
        && config.sequence_header().is_ok_and(|header| header.is_some())
    {
        return Ok(entry.codec_private.to_vec());
    }
    for obu in av1::obus(first_frame) {
        let obu = obu.map_err(|error| error.to_string())?;
        if obu.obu_type == ObuType::SEQUENCE_HEADER {
            let unit = first_frame.get(obu.range).unwrap_or_default();
            return Ok(Av1Config::build(unit).map_err(|error| error.to_string())?.serialise());
        }
    }
    Err("no sequence header in its CodecPrivate or first frame".to_owned())
}

/// `vpcC` from the first frame; the level from CodecPrivate where it has one (VP Codec ISO Media File Format Binding's
/// feature list: pairs of id and size, 2 is the level), colour from the container where the frame says nothing.
fn vp9_config(entry: &TrackEntry, first_frame: &[u8], (pictures, seconds): (u64, u64)) -> Result<Vec<u8>, String> {
    let frames = vp9::frames(first_frame).map_err(|error| error.to_string())?;
    let key_frame = frames
        .first()
        .and_then(|range| first_frame.get(range.clone()))
        .unwrap_or_default();
    let mut config = VpConfig::build(key_frame, pictures, seconds).map_err(|error| error.to_string())?;
    let mut features = entry.codec_private.as_ref();
    while let [id, size, rest @ ..] = features {
        let Some((value, rest)) = rest.split_at_checked(usize::from(*size)) else {
            break;
        };
        if let (2, [level @ 10..=62]) = (id, value) {
            config.level = *level;
        }
        features = rest;
    }
    if let Some(color) = entry.video.color {
        let said = |code_point: u8, other: u8| if code_point == 2 { other } else { code_point };
        config.color.primaries = said(config.color.primaries, color.primaries);
        config.color.transfer = said(config.color.transfer, color.transfer);
        config.color.matrix = said(config.color.matrix, color.matrix);
    }
    Ok(config.serialise())
}

/// Samples of an E-AC-3 block: those of its first substream, which may take several frames.
fn eac3_duration(walk: &mut Walk<'_, '_>, start: u64, size: u32) -> Result<Option<u32>, MatroskaError> {
    let end = start + u64::from(size);
    let (mut offset, mut samples) = (start, 0);
    while offset < end {
        let given = (end - offset).min(SYNC_FRAME_HEADER_SIZE_MAX) as usize;
        let Ok(frame) = SyncFrame::parse(walk.peek(offset, given)?) else {
            break;
        };
        if frame.begins_access_unit() {
            samples += frame.sample_count();
        }
        if samples >= 1_536 || frame.frame_size_bytes == 0 {
            break;
        }
        offset += frame.frame_size_bytes as u64;
    }
    Ok(Some(samples).filter(|samples| *samples > 0))
}

/// Payload of `dac3` from a syncframe.
fn dac3(first_frame: &[u8]) -> Result<Vec<u8>, CodecError> {
    Ok(Dac3::build(&SyncFrame::parse(first_frame)?)?.serialise())
}

/// Payload of `dec3` from the syncframes of a block, as many blocks of sound as they hold.
fn dec3(first_frame: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut unit = AccessUnit {
        frames: Vec::new(),
        size_bytes: 0,
        is_closed: true,
    };
    for frame in sync_frames(first_frame) {
        let (frame, bytes) = frame?;
        unit.frames.push(frame);
        unit.size_bytes += bytes.len();
    }
    Dec3::build(&unit)?.serialise()
}
