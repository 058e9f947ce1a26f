//! Sample entries as source files have them: ISO and QuickTime forms, read into what the builders need.

use bytes::Bytes;

use super::encrypted::{self, EntryProtection};
use super::{SampleEntryError, TrackFacts, VideoFacts, audio, unusable};
use crate::codec::aac::AudioSpecificConfig;
use crate::codec::aac::esds::Esds;
use crate::codec::ac3::{AccessUnit, Dac3, Dec3, SyncFrame};
use crate::codec::av1::{self, Av1Config, ObuType};
use crate::codec::avc::{self, AvcConfig};
use crate::codec::hevc::{self, HevcConfig};
use crate::codec::vp9::{FrameHeader, VpConfig};
use crate::codec::{ColorInfo, MediaKind, bits};
use crate::isobmff::{BoxError, BoxReader, FourCc};
use crate::limits::SAMPLE_ENTRY_SIZE_BYTES_MAX;
use crate::source::ReadError;
use crate::track::TrackDescription;

/// Bytes of a first sample looked at for parameter sets, which stand in front, or for a frame and its dependents.
const FIRST_SAMPLE_READ_SIZE_BYTES: usize = 16 << 10;

/// Bytes of a first sample looked at for the header of its frame.
const FRAME_HEADER_READ_SIZE_BYTES: usize = 64;

/// A source's sample entry, read but not yet completed from the samples.
#[derive(Clone, Debug)]
pub struct SourceEntry {
    coding: Coding,
    video: VideoFacts,
    protection: Option<EntryProtection>,
}

/// How the samples are coded, with the configuration as found.
#[derive(Clone, Debug)]
enum Coding {
    Avc(Vec<u8>),
    Hevc(Vec<u8>),
    Av1(Vec<u8>),
    Vp9(Vec<u8>),
    Vp8,
    Aac(Vec<u8>),
    MpegAudio,
    /// `None`: only the frames tell.
    Ac3(Option<Vec<u8>>),
    Eac3(Option<Vec<u8>>),
    Ac4(Vec<u8>),
    Opus(Vec<u8>),
    Flac(Vec<u8>),
    Wvtt(String),
    Stpp([String; 3]),
    Tx3g,
}

/// Boxes inside an entry, by name; of two with one name the first counts.
#[derive(Default)]
struct Children<'a>(Vec<BoxReader<'a>>);

/// Boxes of one entry that are looked at.
const CHILD_COUNT_MAX: usize = 64;

impl<'a> Children<'a> {
    /// Reads up to the end or to the first thing that is no box: QuickTime entries end in padding of several kinds.
    fn parse(mut entry: BoxReader<'a>) -> Children<'a> {
        let mut children = Children::default();
        while let Ok(Some(child)) = entry.child()
            && children.0.len() < CHILD_COUNT_MAX
        {
            children.0.push(child);
        }
        children
    }

    fn find(&self, name: &[u8; 4]) -> Option<&BoxReader<'a>> {
        self.0.iter().find(|child| &child.fourcc.0 == name)
    }

    fn payload(&self, name: &[u8; 4]) -> Option<Vec<u8>> {
        self.find(name).map(|child| child.remaining().to_vec())
    }

    fn require(&self, name: &[u8; 4]) -> Result<Vec<u8>, SampleEntryError> {
        self.payload(name)
            .ok_or_else(|| unusable(format!("no {} in its sample entry", FourCc(*name))))
    }
}

impl SourceEntry {
    /// Reads one entry of `stsd`. `matrix` is that of `tkhd`. Fails, with a reason for people, for what is of no served
    /// coding or damaged, or encrypted otherwise than by Common Encryption. An entry of protected samples says so by
    /// [`SourceEntry::protection`] and describes what they are once decrypted.
    pub fn parse(
        mut entry: BoxReader<'_>,
        kind: MediaKind,
        matrix: Option<[i32; 9]>,
    ) -> Result<SourceEntry, SampleEntryError> {
        let size = entry.remaining().len();
        if size > SAMPLE_ENTRY_SIZE_BYTES_MAX {
            return Err(unusable(format!("a sample entry of {size} bytes")));
        }
        entry.skip(6 + 2)?;
        let mut source = SourceEntry {
            coding: Coding::Vp8,
            video: VideoFacts {
                matrix,
                ..VideoFacts::default()
            },
            protection: None,
        };
        source.coding = match kind {
            MediaKind::Video => source.video(entry)?,
            MediaKind::Audio => source.audio(entry)?,
            MediaKind::Text => text_coding(entry)?,
        };
        Ok(source)
    }

    /// How samples are protected; `None` when they are clear.
    pub fn protection(&self) -> Option<&EntryProtection> {
        self.protection.as_ref()
    }

    /// The coding's name: that of the entry, or the one that a protected entry hides.
    fn coding_name(&mut self, fourcc: FourCc, children: &Children<'_>) -> Result<FourCc, SampleEntryError> {
        if !matches!(&fourcc.0, b"encv" | b"enca") {
            return Ok(fourcc);
        }
        let (original, protection) = encrypted::unprotect(children.find(b"sinf").copied())?;
        self.protection = Some(protection);
        Ok(original)
    }

    /// Whether the configuration of this coding may lack a level that follows from the frame rate.
    pub fn needs_frame_rate(&self) -> bool {
        matches!(self.coding, Coding::Vp8 | Coding::Vp9(_))
    }

    /// Frames in so many seconds; see [`VideoFacts::frame_rate`].
    pub fn set_frame_rate(&mut self, frame_rate: Option<(u64, u64)>) {
        self.video.frame_rate = frame_rate;
    }

    fn video(&mut self, mut entry: BoxReader<'_>) -> Result<Coding, SampleEntryError> {
        entry.skip(16)?;
        let (width, height) = (u32::from(entry.u16()?), u32::from(entry.u16()?));
        self.video.size = (width > 0 && height > 0).then_some((width, height));
        entry.skip(14 + 32 + 4)?;
        let children = Children::parse(entry);
        self.pictures(&children)?;
        let fourcc = self.coding_name(entry.fourcc, &children)?;
        Ok(match &fourcc.0 {
            b"avc1" | b"avc2" | b"avc3" | b"avc4" | b"dva1" | b"dvav" => Coding::Avc(children.require(b"avcC")?),
            b"hvc1" | b"hev1" | b"hvc2" | b"hev2" | b"dvh1" | b"dvhe" => Coding::Hevc(children.require(b"hvcC")?),
            b"av01" | b"dav1" => Coding::Av1(children.require(b"av1C")?),
            b"vp09" => Coding::Vp9(children.require(b"vpcC")?),
            b"vp08" => Coding::Vp8,
            _ => return Err(refusal(fourcc, &children)),
        })
    }

    fn audio(&mut self, entry: BoxReader<'_>) -> Result<Coding, SampleEntryError> {
        let entry = after_sound_fields(entry)?;
        let mut children = Children::parse(entry);
        // QuickTime wraps what the decoder needs.
        if let Some(wave) = children.find(b"wave").copied() {
            children.0.extend(Children::parse(wave).0);
        }
        let fourcc = self.coding_name(entry.fourcc, &children)?;
        Ok(match &fourcc.0 {
            b"mp4a" => {
                let esds = Esds::parse(&children.require(b"esds")?)?;
                match esds.object_type_indication {
                    0x40 | 0x66..=0x68 => match esds.decoder_specific_info {
                        config if config.is_empty() => return Err(unusable("AAC without its configuration")),
                        config => match AudioSpecificConfig::parse(&config) {
                            Ok(parsed) if matches!(parsed.object_type, 32..=34) => Coding::MpegAudio,
                            _ => Coding::Aac(config),
                        },
                    },
                    0x69 | 0x6b => Coding::MpegAudio,
                    0xa5 => Coding::Ac3(None),
                    0xa6 => Coding::Eac3(None),
                    other => return Err(unusable(format!("{} is not served", object_type_name(other)))),
                }
            }
            b".mp3" | b"ms\0U" => Coding::MpegAudio,
            b"ac-3" | b"sac3" => Coding::Ac3(children.payload(b"dac3")),
            b"ec-3" => Coding::Eac3(children.payload(b"dec3")),
            b"ac-4" => Coding::Ac4(children.require(b"dac4")?),
            b"Opus" => Coding::Opus(children.require(b"dOps")?),
            b"fLaC" => Coding::Flac(children.require(b"dfLa")?),
            _ => return Err(refusal(fourcc, &children)),
        })
    }

    /// What stands beside the codec configuration of pictures.
    fn pictures(&mut self, children: &Children<'_>) -> Result<(), BoxError> {
        if let Some(mut pasp) = children.find(b"pasp").copied() {
            self.video.sample_aspect_ratio = Some((pasp.u32()?, pasp.u32()?));
        }
        for mut colr in children.0.iter().filter(|child| &child.fourcc.0 == b"colr").copied() {
            let kind = colr.fourcc()?;
            if !matches!(&kind.0, b"nclx" | b"nclc") {
                continue;
            }
            let point = |value: u16| u8::try_from(value).unwrap_or(2);
            self.video.color = Some(ColorInfo {
                primaries: point(colr.u16()?),
                transfer: point(colr.u16()?),
                matrix: point(colr.u16()?),
                full_range: &kind.0 == b"nclx" && colr.u8()? & 0x80 != 0,
            });
        }
        let fixed = |name| children.find(name).map(|child: &BoxReader<'_>| child.remaining());
        self.video.mastering_display = fixed(b"mdcv")
            .and_then(|payload| payload.first_chunk::<24>())
            .copied()
            .or(children.find(b"SmDm").copied().and_then(mastering_display));
        self.video.content_light_level = fixed(b"clli")
            .or(fixed(b"CoLL").and_then(|payload| payload.get(4..)))
            .and_then(|payload| payload.first_chunk::<4>())
            .copied();
        self.video.dolby_vision = [b"dvcC", b"dvvC", b"dvwC"]
            .into_iter()
            .find_map(|name| children.payload(name))
            .map(Bytes::from);
        Ok(())
    }
}

/// VP9's own `SmDm` (VP Codec ISO Media File Format Binding 1.0) as an `mdcv` payload: chromaticities from 0.16 fixed
/// point to steps of 0.00002 in the order green, blue, red; luminances from 24.8 and 18.14 to 0.0001 cd/m2.
fn mastering_display(mut smdm: BoxReader<'_>) -> Option<[u8; 24]> {
    smdm.version_and_flags().ok()?;
    let mut chromaticities = [0u16; 8];
    for value in &mut chromaticities {
        *value = ((u32::from(smdm.u16().ok()?) * 50_000 + 0x8000) >> 16) as u16;
    }
    let [rx, ry, gx, gy, bx, by, wx, wy] = chromaticities;
    let scaled = |value: u32, bits: u32| (u64::from(value) * 10_000) >> bits;
    let greatest = u32::try_from(scaled(smdm.u32().ok()?, 8)).ok()?;
    let least = u32::try_from(scaled(smdm.u32().ok()?, 14)).ok()?;
    let mut payload = Vec::with_capacity(24);
    for value in [gx, gy, bx, by, rx, ry, wx, wy] {
        payload.extend_from_slice(&value.to_be_bytes());
    }
    payload.extend_from_slice(&greatest.to_be_bytes());
    payload.extend_from_slice(&least.to_be_bytes());
    payload.try_into().ok()
}

/// Whether a box header seems to stand at the front of `bytes`.
fn begins_with_box(bytes: &[u8]) -> bool {
    let Some((size, rest)) = bytes.split_first_chunk::<4>() else {
        return false;
    };
    let size = u32::from_be_bytes(*size) as usize;
    (8..=bytes.len()).contains(&size)
        && rest
            .first_chunk::<4>()
            .is_some_and(|name| name.iter().all(|byte| matches!(byte, b' '..=b'~' | 0xa9)))
}

/// Fields of a video entry in front of its boxes, those of every entry included.
const VISUAL_FIELDS_SIZE_BYTES: usize = 6 + 2 + 16 + 4 + 14 + 32 + 4;

/// The boxes of an audio entry, `entry` without the fields of every entry.
fn after_sound_fields(mut entry: BoxReader<'_>) -> Result<BoxReader<'_>, BoxError> {
    let version = entry.u16()?;
    entry.skip(18)?;
    // Version 1 means four more fields in a QuickTime file and none in an ISO one: what stands there tells.
    let more = match version {
        1 if !begins_with_box(entry.remaining()) => 16,
        2 => 36,
        _ => 0,
    };
    entry.skip(more)?;
    Ok(entry)
}

fn object_type_name(object_type_indication: u8) -> String {
    let name = match object_type_indication {
        0xa9..=0xac => "DTS audio",
        0xad => "Opus audio in MPEG-4 systems form",
        0xdd | 0xde => "Vorbis audio",
        0xe1 => "QCELP audio",
        other => return format!("audio of MPEG-4 object type {other:#04x}"),
    };
    name.to_owned()
}

fn text_coding(mut entry: BoxReader<'_>) -> Result<Coding, SampleEntryError> {
    let fourcc = entry.fourcc;
    match &fourcc.0 {
        b"wvtt" => {
            let header = Children::parse(entry).payload(b"vttC").unwrap_or_default();
            Ok(Coding::Wvtt(String::from_utf8_lossy(&header).into_owned()))
        }
        b"stpp" => {
            let mut fields = [String::new(), String::new(), String::new()];
            for field in &mut fields {
                let size = entry.remaining().iter().position(|byte| *byte == 0);
                let text = entry.bytes(size.unwrap_or(entry.remaining().len()))?;
                *field = String::from_utf8_lossy(text).into_owned();
                if size.is_some() {
                    entry.skip(1)?;
                }
            }
            Ok(Coding::Stpp(fields))
        }
        // QuickTime's own has samples of the same form.
        b"tx3g" | b"text" => Ok(Coding::Tx3g),
        _ => Err(refusal(fourcc, &Children::parse(entry))),
    }
}

/// Why a coding is not served.
fn refusal(fourcc: FourCc, children: &Children<'_>) -> SampleEntryError {
    let name = match &fourcc.0 {
        b"enct" | b"encs" | b"encm" => {
            return match encrypted::unprotect(children.find(b"sinf").copied()) {
                Ok((original, protection)) => unusable(format!("encrypted ({}) {original}", protection.scheme.name())),
                Err(error) => error,
            };
        }
        b"drms" | b"drmi" | b"drmt" => return unusable("encrypted (FairPlay)"),
        b"alac" => "ALAC audio",
        b"dtsc" | b"dtsh" | b"dtsl" | b"dtse" | b"dtsx" | b"dtsy" | b"DTS " => "DTS audio",
        b"mlpa" => "Dolby TrueHD audio",
        b"mha1" | b"mha2" | b"mhm1" | b"mhm2" => "MPEG-H audio",
        b"iamf" => "IAMF audio",
        b"samr" | b"sawb" | b"sawp" => "AMR audio",
        b"lpcm" | b"sowt" | b"twos" | b"raw " | b"NONE" | b"in24" | b"in32" | b"fl32" | b"fl64" | b"ipcm" | b"fpcm"
        | b"ulaw" | b"alaw" => "uncompressed (PCM) audio",
        b"ima4" | b"ms\0\x02" | b"ms\0\x11" => "ADPCM audio",
        b"QDM2" | b"QDMC" | b"Qclp" | b"MAC3" | b"MAC6" => "an old QuickTime audio coding",
        b"mp4v" => "MPEG-4 Visual or MPEG-1/2 video",
        b"s263" | b"h263" | b"H263" => "H.263 video",
        b"apcn" | b"apch" | b"apcs" | b"apco" | b"ap4h" | b"ap4x" => "ProRes video",
        b"vvc1" | b"vvi1" => "VVC video",
        b"AVdn" | b"AVdh" => "DNxHD video",
        b"mjp2" | b"jpeg" | b"mjpa" | b"mjpb" | b"png " => "a picture coding used as video",
        b"SVQ1" | b"SVQ3" | b"cvid" | b"rle " => "an old QuickTime video coding",
        b"c608" | b"c708" => return unusable("closed captions in a track of their own (c608), not served"),
        b"sbtt" | b"stxt" => "text of a MIME type",
        b"mp4s" => return unusable("MPEG-4 systems stream, not media"),
        b"tmcd" => return unusable("timecode, not media"),
        b"mebx" | b"mett" | b"metx" | b"urim" | b"gpmd" => return unusable("timed metadata, not media"),
        _ => return unusable(format!("coding {fourcc} is not served")),
    };
    unusable(format!("{name} is not served"))
}

/// Coding and content of an entry as it would be without protection: to compare entries by.
pub fn clear_form(entry: &BoxReader<'_>, kind: MediaKind) -> (FourCc, Vec<u8>) {
    let payload = entry.remaining();
    let as_it_is = || (entry.fourcc, payload.to_vec());
    if !matches!(&entry.fourcc.0, b"encv" | b"enca") {
        return as_it_is();
    }
    let mut fields = *entry;
    let children = match kind {
        MediaKind::Video => fields.skip(VISUAL_FIELDS_SIZE_BYTES).map(|()| fields),
        _ => fields.skip(6 + 2).and_then(|()| after_sound_fields(fields)),
    };
    let sinf = children.ok().and_then(|children| {
        let sinf = *Children::parse(children).find(b"sinf")?;
        Some((encrypted::unprotect(Some(sinf)).ok()?.0, sinf))
    });
    let Some((original, sinf)) = sinf else {
        return as_it_is();
    };
    let end = (sinf.position() - entry.position()) as usize + sinf.remaining().len();
    let start = (sinf.offset - entry.position()) as usize;
    let parts = [payload.get(..start), payload.get(end..)];
    (original, parts.map(Option::unwrap_or_default).concat())
}

/// Completes an entry, from the first sync sample where the entry leaves something out, and describes the track.
/// `first_sample` reads that sample, cut to the given number of bytes.
pub fn describe(
    track: &TrackFacts,
    entry: &SourceEntry,
    first_sample: &dyn Fn(usize) -> Result<Bytes, ReadError>,
) -> Result<TrackDescription, SampleEntryError> {
    let sample = || first_sample(FIRST_SAMPLE_READ_SIZE_BYTES);
    let frame_header = || first_sample(FRAME_HEADER_READ_SIZE_BYTES);
    let video = &entry.video;
    match &entry.coding {
        Coding::Avc(config) => super::avc(track, &complete_avc(config, &sample)?, video),
        Coding::Hevc(config) => super::hevc(track, &complete_hevc(config, &sample)?, video),
        Coding::Av1(config) => super::av1(track, &complete_av1(config, &sample)?, video),
        Coding::Vp9(config) => {
            let mut video = video.clone();
            let config = complete_vp9(config, &mut video, &frame_header)?;
            super::vp9(track, &config, &video)
        }
        Coding::Vp8 => super::vp8(track, video),
        Coding::Aac(config) => super::aac(track, config),
        Coding::MpegAudio => audio::mpeg_audio(track, &frame_header()?),
        Coding::Ac3(Some(config)) => super::ac3(track, config),
        Coding::Ac3(None) => super::ac3(track, &Dac3::build(&SyncFrame::parse(&frame_header()?)?)?.serialise()),
        Coding::Eac3(Some(config)) => match Dec3::parse(config)? {
            // The object extension is younger than some writers: the frames tell whether it was left out.
            parsed if parsed.joc_complexity.is_none() => {
                let built = access_unit(&sample()?).and_then(|unit| Dec3::build(&unit).ok());
                match built.filter(|built| built.joc_complexity.is_some()) {
                    Some(built) => {
                        let joc_complexity = built.joc_complexity;
                        super::eac3(
                            track,
                            &Dec3 {
                                joc_complexity,
                                ..parsed
                            }
                            .serialise()?,
                        )
                    }
                    None => super::eac3(track, config),
                }
            }
            _ => super::eac3(track, config),
        },
        Coding::Eac3(None) => {
            let unit = access_unit(&sample()?).ok_or_else(|| unusable("E-AC-3 without a whole first frame"))?;
            super::eac3(track, &Dec3::build(&unit)?.serialise()?)
        }
        Coding::Ac4(config) => super::ac4(track, config),
        Coding::Opus(config) => super::opus(track, config),
        Coding::Flac(config) => super::flac(track, config),
        Coding::Wvtt(header) => super::wvtt(track, header),
        Coding::Stpp([namespace, schema_location, mime_types]) => {
            super::stpp(track, namespace, schema_location, mime_types)
        }
        Coding::Tx3g => super::tx3g(track),
    }
}

fn access_unit(sample: &[u8]) -> Option<AccessUnit> {
    AccessUnit::parse(sample).ok().flatten()
}

/// The record with parameter sets of the first sample, if it has none of its own.
fn complete_avc(config: &[u8], sample: &dyn Fn() -> Result<Bytes, ReadError>) -> Result<Vec<u8>, SampleEntryError> {
    let parsed = AvcConfig::parse(config)?;
    if !parsed.sps.is_empty() && !parsed.pps.is_empty() {
        return Ok(config.to_vec());
    }
    let sample = sample()?;
    let units: Vec<&[u8]> = bits::nal_units(&sample, parsed.nal_length_size)
        .map_while(Result::ok)
        .collect();
    let of_type = |wanted| {
        units
            .iter()
            .copied()
            .filter(move |unit| avc::NalType::of(unit) == Some(wanted))
    };
    let sps: Vec<&[u8]> = of_type(avc::NalType::Sps).collect();
    let pps: Vec<&[u8]> = of_type(avc::NalType::Pps).collect();
    match AvcConfig::build(&sps, &pps) {
        Ok(built) => Ok(AvcConfig {
            nal_length_size: parsed.nal_length_size,
            ..built
        }
        .serialise()?),
        Err(_) => Ok(config.to_vec()),
    }
}

/// The record with parameter sets of the first sample, if it lacks some.
fn complete_hevc(config: &[u8], sample: &dyn Fn() -> Result<Bytes, ReadError>) -> Result<Vec<u8>, SampleEntryError> {
    let parsed = HevcConfig::parse(config)?;
    let types = [hevc::NalType::VPS, hevc::NalType::SPS, hevc::NalType::PPS];
    if types.into_iter().all(|kind| parsed.units(kind).next().is_some()) {
        return Ok(config.to_vec());
    }
    let sample = sample()?;
    let own = types.into_iter().flat_map(|kind| parsed.units(kind));
    let units: Vec<&[u8]> = own
        .chain(bits::nal_units(&sample, parsed.nal_length_size).map_while(Result::ok))
        .collect();
    match HevcConfig::build(&units) {
        Ok(built) => Ok(HevcConfig {
            nal_length_size: parsed.nal_length_size,
            ..built
        }
        .serialise()?),
        Err(_) => Ok(config.to_vec()),
    }
}

/// The record with the first sample's sequence header, if it has none of its own.
fn complete_av1(config: &[u8], sample: &dyn Fn() -> Result<Bytes, ReadError>) -> Result<Vec<u8>, SampleEntryError> {
    let parsed = Av1Config::parse(config)?;
    if parsed.sequence_header()?.is_some() {
        return Ok(config.to_vec());
    }
    let sample = sample()?;
    let header = av1::obus(&sample)
        .map_while(Result::ok)
        .find(|obu| obu.obu_type == ObuType::SEQUENCE_HEADER)
        .and_then(|obu| sample.get(obu.range));
    match header.map(Av1Config::build) {
        Some(Ok(mut built)) => {
            built.initial_presentation_delay_minus_one = parsed.initial_presentation_delay_minus_one;
            built.config_obus.extend_from_slice(&parsed.config_obus);
            Ok(built.serialise())
        }
        _ => Ok(config.to_vec()),
    }
}

/// The record with what the first frame knows better, if it has no level: then its writer did not look.
fn complete_vp9(
    config: &[u8],
    video: &mut VideoFacts,
    sample: &dyn Fn() -> Result<Bytes, ReadError>,
) -> Result<Vec<u8>, SampleEntryError> {
    let mut parsed = match VpConfig::parse(config) {
        Ok(parsed) if parsed.level > 0 => return Ok(config.to_vec()),
        parsed => parsed,
    };
    let sample = sample()?;
    if let Ok(header) = FrameHeader::parse(&sample)
        && let Some(format) = header.format
    {
        video.size = Some((format.width, format.height));
        if parsed.is_err() {
            let (count, seconds) = video.frame_rate.unwrap_or((30, 1));
            parsed = VpConfig::build(&sample, count, seconds);
        }
    }
    Ok(parsed?.serialise())
}
