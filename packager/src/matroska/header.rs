//! What stands before the clusters: the EBML header, Info and Tracks (RFC 9559 5.1.2, 5.1.4).

use bytes::Bytes;

use super::ebml::{Element, HEAD_SIZE_MAX, Head};
use super::{MatroskaError, id};
use crate::codec::ColorInfo;
use crate::isobmff::movie::language;
use crate::limits::{MOOV_SIZE_BYTES_MAX, TRACK_COUNT_MAX};
use crate::window::Window;

/// TimestampScale when Info has none: a tick is a millisecond.
const TIMESTAMP_SCALE_DEFAULT: u64 = 1_000_000;

/// Greatest TimestampScale, an hour: keeps products with it inside 128 bits.
const TIMESTAMP_SCALE_MAX: u64 = 3_600_000_000_000;

/// Largest EBML header, SeekHead or Info: each holds a few short values (Info may hold a title and family ids).
const SMALL_MASTER_SIZE_MAX: u64 = 1 << 20;

/// Entries of SeekHeads that are followed.
const SEEK_COUNT_MAX: usize = 256;

/// What the file says before its first block.
#[derive(Debug)]
pub(super) struct Header {
    /// Nanoseconds a tick of cluster and block timestamps.
    pub timestamp_scale: u64,
    /// In the order of the file.
    pub entries: Vec<TrackEntry>,
    /// First byte of the Segment's content.
    pub segment_start: u64,
    /// Byte after the Segment, as far as it says; the end of the source when it does not.
    pub segment_end: u64,
}

/// Kind of a track (RFC 9559 5.1.4.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrackType {
    Video,
    Audio,
    Subtitle,
    Other(u64),
}

/// One TrackEntry (RFC 9559 5.1.4.1).
#[derive(Clone, Debug)]
pub(super) struct TrackEntry {
    pub number: u64,
    pub track_type: TrackType,
    pub enabled: bool,
    /// FlagDefault, FlagForced and FlagHearingImpaired.
    pub flags: Flags,
    pub codec_id: String,
    pub codec_private: Bytes,
    /// Nanoseconds a frame lasts.
    pub default_duration: Option<u64>,
    /// BCP 47 tag of LanguageBCP47, else of Language, else of its default.
    pub language: String,
    pub name: Option<String>,
    /// Nanoseconds of what is decoded before the first sample to be heard.
    pub codec_delay: u64,
    /// TrackTimestampScale other than 1 (deprecated).
    pub scaled: bool,
    pub video: VideoSettings,
    pub audio: AudioSettings,
    /// How frames or CodecPrivate are changed, in the order they must be undone.
    pub encodings: Vec<Encoding>,
    /// Payload of `dvcC` or `dvvC` in a BlockAdditionMapping.
    pub dolby_vision: Option<Bytes>,
}

/// What a track is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    pub default: bool,
    pub forced: bool,
    pub hearing_impaired: bool,
}

/// The Video element.
#[derive(Clone, Debug, Default)]
pub(super) struct VideoSettings {
    pub pixel_width: u32,
    pub pixel_height: u32,
    /// Left, right, top, bottom.
    pub crop: [u32; 4],
    pub display_width: u32,
    pub display_height: u32,
    /// 0 pixels, 1 centimetres, 2 inches, 3 aspect ratio.
    pub display_unit: u64,
    pub color: Option<ColorInfo>,
    pub mastering_display: Option<[u8; 24]>,
    pub content_light_level: Option<[u8; 4]>,
}

/// The Audio element.
#[derive(Clone, Debug, Default)]
pub(super) struct AudioSettings {
    /// Hz, to the nearest; 8000 when absent, as RFC 9559 wants.
    pub sampling_frequency: u32,
    pub channels: u64,
}

/// A ContentEncoding that changes bytes (RFC 9559 5.1.4.1.31).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Bytes that every frame starts with are not stored.
    HeaderStripping(Bytes),
    Zlib,
    Encrypted,
    /// Another compression, by its number.
    Unknown(u64),
}

/// Whether `first_bytes` start a Matroska or WebM file.
pub(super) fn recognises(first_bytes: &[u8]) -> bool {
    let Some(head) = Head::parse(first_bytes).filter(|head| head.id == id::EBML) else {
        return false;
    };
    let payload = first_bytes.get(usize::from(head.head_size)..).unwrap_or_default();
    let size = head.size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
    let element = Element {
        id: head.id,
        offset: 0,
        payload_offset: u64::from(head.head_size),
        payload: payload.get(..size).unwrap_or(payload),
    };
    let doc_type = element.children().flatten().find(|child| child.id == id::DOC_TYPE);
    doc_type.is_some_and(|doc_type| is_matroska(&doc_type.string()))
}

fn is_matroska(doc_type: &str) -> bool {
    matches!(doc_type, "matroska" | "webm")
}

/// A master element read into memory.
struct Master {
    head: Head,
    offset: u64,
    payload: Bytes,
}

impl Master {
    fn read(window: &mut Window<'_>, head: Head, offset: u64, size_max: u64) -> Result<Master, MatroskaError> {
        let malformed = |what| MatroskaError::Malformed {
            id: head.id,
            offset,
            what,
        };
        let size = head
            .size
            .ok_or_else(|| malformed("unknown size where a size is needed".to_owned()))?;
        if size > size_max {
            return Err(malformed(format!("{size} bytes, at most {size_max} are read")));
        }
        let payload_offset = offset + u64::from(head.head_size);
        let payload = Bytes::copy_from_slice(window.peek(payload_offset, size as usize)?);
        if (payload.len() as u64) < size {
            return Err(malformed(format!("wants {size} bytes, has {}", payload.len())));
        }
        Ok(Master { head, offset, payload })
    }

    fn element(&self) -> Element<'_> {
        Element {
            id: self.head.id,
            offset: self.offset,
            payload_offset: self.offset + u64::from(self.head.head_size),
            payload: &self.payload,
        }
    }
}

/// The element head at `offset`, or `None` at the end of the source or where there is none.
fn head_at(window: &mut Window<'_>, offset: u64) -> Result<Option<Head>, MatroskaError> {
    Ok(Head::parse(window.peek(offset, HEAD_SIZE_MAX)?))
}

/// Byte after an element; `None` for an unknown size or one that leaves 63 bits.
fn end_of(head: Head, offset: u64) -> Option<u64> {
    let start = offset.checked_add(u64::from(head.head_size))?;
    start.checked_add(head.size?).filter(|end| *end <= i64::MAX as u64)
}

/// Reads everything that must be known before the first block.
pub(super) fn read(window: &mut Window<'_>) -> Result<Header, MatroskaError> {
    let ebml = head_at(window, 0)?
        .filter(|head| head.id == id::EBML)
        .ok_or(MatroskaError::NotMatroska)?;
    let ebml = Master::read(window, ebml, 0, SMALL_MASTER_SIZE_MAX)?;
    check_ebml_header(ebml.element())?;
    let (segment_start, segment_end) = find_segment(window, ebml.element().payload_offset + ebml.payload.len() as u64)?;
    let mut found = Found::default();
    found.walk(window, segment_start, segment_end)?;
    found.follow_seek_heads(window, segment_start, segment_end)?;
    let tracks = found.tracks.ok_or(MatroskaError::NoTracks)?;
    let timestamp_scale = match found.info {
        Some(info) => timestamp_scale(info.element())?,
        None => TIMESTAMP_SCALE_DEFAULT,
    };
    Ok(Header {
        timestamp_scale,
        entries: track_entries(tracks.element())?,
        segment_start,
        segment_end,
    })
}

fn check_ebml_header(ebml: Element<'_>) -> Result<(), MatroskaError> {
    let mut doc_type = String::new();
    for child in ebml.children() {
        let child = child?;
        let unsupported = |what: String| MatroskaError::Malformed {
            id: child.id,
            offset: child.offset,
            what,
        };
        match child.id {
            id::DOC_TYPE => doc_type = child.string(),
            id::EBML_MAX_ID_LENGTH if child.uint()? > 4 => {
                return Err(unsupported(format!(
                    "ids of {} bytes, Matroska has at most 4",
                    child.uint()?
                )));
            }
            id::EBML_MAX_SIZE_LENGTH if child.uint()? > 8 => {
                return Err(unsupported(format!(
                    "sizes of {} bytes, Matroska has at most 8",
                    child.uint()?
                )));
            }
            _ => {}
        }
    }
    match is_matroska(&doc_type) {
        true => Ok(()),
        false => Err(MatroskaError::DocType {
            doc_type: doc_type.chars().take(32).collect(),
        }),
    }
}

/// Start and end of the first Segment's content; only void elements may stand before it.
fn find_segment(window: &mut Window<'_>, mut offset: u64) -> Result<(u64, u64), MatroskaError> {
    while let Some(head) = head_at(window, offset)? {
        match (head.id, end_of(head, offset)) {
            (id::SEGMENT, end) => {
                return Ok((offset + u64::from(head.head_size), end.unwrap_or(window.source_size())));
            }
            (id::VOID | id::CRC_32, Some(end)) => offset = end,
            _ => break,
        }
    }
    Err(MatroskaError::NoSegment { offset })
}

/// Info and Tracks, wherever they stand.
#[derive(Default)]
struct Found {
    info: Option<Master>,
    tracks: Option<Master>,
    /// Absolute positions that SeekHeads give for Info and Tracks.
    seeks: Vec<(u32, u64)>,
    /// They have been tried.
    seeks_followed: bool,
}

impl Found {
    fn is_complete(&self) -> bool {
        self.info.is_some() && self.tracks.is_some()
    }

    /// Goes over the Segment's children up to the first cluster, or past clusters of known size while no Tracks has
    /// been seen and no SeekHead says where it is.
    fn walk(&mut self, window: &mut Window<'_>, start: u64, end: u64) -> Result<(), MatroskaError> {
        let mut offset = start;
        while offset < end && !self.is_complete() {
            let Some(head) = head_at(window, offset)? else { break };
            let sought = !self.seeks_followed && self.seeks.iter().any(|(id, _)| *id == id::TRACKS);
            let seen_enough = self.tracks.is_some() || sought;
            match head.id {
                id::CLUSTER if seen_enough => break,
                id::INFO | id::TRACKS => self.take(window, head, offset)?,
                id::SEEK_HEAD => {
                    let seek_head = Master::read(window, head, offset, SMALL_MASTER_SIZE_MAX)?;
                    self.read_seek_head(seek_head.element(), start);
                }
                _ => {}
            }
            let Some(next) = end_of(head, offset) else { break };
            offset = next;
        }
        Ok(())
    }

    fn take(&mut self, window: &mut Window<'_>, head: Head, offset: u64) -> Result<(), MatroskaError> {
        match head.id {
            id::INFO if self.info.is_none() => {
                self.info = Some(Master::read(window, head, offset, SMALL_MASTER_SIZE_MAX)?);
            }
            id::TRACKS if self.tracks.is_none() => {
                self.tracks = Some(Master::read(window, head, offset, MOOV_SIZE_BYTES_MAX)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// A SeekHead only saves reading, so a damaged one is not an error.
    fn read_seek_head(&mut self, seek_head: Element<'_>, segment_start: u64) {
        for seek in seek_head.children().flatten().filter(|seek| seek.id == id::SEEK) {
            let child = |wanted: u32| seek.children().flatten().find(|child| child.id == wanted);
            let sought = child(id::SEEK_ID).and_then(|sought| sought.uint().ok());
            let position = child(id::SEEK_POSITION).and_then(|position| position.uint().ok());
            if let (Some(sought), Some(position)) = (sought, position)
                && let Some(offset) = segment_start.checked_add(position)
                && [id::INFO, id::TRACKS].map(u64::from).contains(&sought)
                && self.seeks.len() < SEEK_COUNT_MAX
            {
                self.seeks.push((sought as u32, offset));
            }
        }
    }

    fn follow_seek_heads(&mut self, window: &mut Window<'_>, start: u64, end: u64) -> Result<(), MatroskaError> {
        for (sought, offset) in std::mem::take(&mut self.seeks) {
            let wanted = match sought {
                id::INFO => self.info.is_none(),
                _ => self.tracks.is_none(),
            };
            if wanted
                && (start..end).contains(&offset)
                && let Some(head) = head_at(window, offset)?.filter(|head| head.id == sought)
            {
                self.take(window, head, offset)?;
            }
        }
        self.seeks_followed = true;
        match self.tracks {
            Some(_) => Ok(()),
            // Its SeekHead lied: without entries to follow, the walk goes past the clusters.
            None => self.walk(window, start, end),
        }
    }
}

fn timestamp_scale(info: Element<'_>) -> Result<u64, MatroskaError> {
    for child in info.children() {
        let child = child?;
        if child.id == id::TIMESTAMP_SCALE {
            return match child.uint()? {
                scale @ 1..=TIMESTAMP_SCALE_MAX => Ok(scale),
                scale => Err(MatroskaError::Malformed {
                    id: child.id,
                    offset: child.offset,
                    what: format!("a tick of {scale} nanoseconds"),
                }),
            };
        }
    }
    Ok(TIMESTAMP_SCALE_DEFAULT)
}

fn track_entries(tracks: Element<'_>) -> Result<Vec<TrackEntry>, MatroskaError> {
    let mut entries = Vec::new();
    for child in tracks.children() {
        let child = child?;
        if child.id != id::TRACK_ENTRY {
            continue;
        }
        if entries.len() == TRACK_COUNT_MAX {
            return Err(MatroskaError::Malformed {
                id: child.id,
                offset: child.offset,
                what: format!("more than {TRACK_COUNT_MAX} tracks"),
            });
        }
        entries.push(track_entry(child)?);
    }
    Ok(entries)
}

fn track_entry(element: Element<'_>) -> Result<TrackEntry, MatroskaError> {
    let mut entry = TrackEntry {
        number: 0,
        track_type: TrackType::Other(0),
        enabled: true,
        flags: Flags {
            default: true,
            forced: false,
            hearing_impaired: false,
        },
        codec_id: String::new(),
        codec_private: Bytes::new(),
        default_duration: None,
        language: String::new(),
        name: None,
        codec_delay: 0,
        scaled: false,
        video: VideoSettings::default(),
        audio: AudioSettings {
            sampling_frequency: 8_000,
            channels: 1,
        },
        encodings: Vec::new(),
        dolby_vision: None,
    };
    let mut language = None;
    let mut bcp47 = None;
    for child in element.children() {
        let child = child?;
        match child.id {
            id::TRACK_NUMBER => entry.number = child.uint()?,
            id::TRACK_TYPE => {
                entry.track_type = match child.uint()? {
                    1 => TrackType::Video,
                    2 => TrackType::Audio,
                    17 => TrackType::Subtitle,
                    other => TrackType::Other(other),
                };
            }
            id::FLAG_ENABLED => entry.enabled = child.uint()? != 0,
            id::FLAG_DEFAULT => entry.flags.default = child.uint()? != 0,
            id::FLAG_FORCED => entry.flags.forced = child.uint()? != 0,
            id::FLAG_HEARING_IMPAIRED => entry.flags.hearing_impaired = child.uint()? != 0,
            id::DEFAULT_DURATION => entry.default_duration = Some(child.uint()?).filter(|duration| *duration > 0),
            id::TRACK_TIMESTAMP_SCALE => entry.scaled = child.float()? != 1.0,
            id::NAME => entry.name = Some(child.string()).filter(|name| !name.is_empty()),
            id::LANGUAGE => language = Some(child.string()),
            id::LANGUAGE_BCP47 => bcp47 = Some(child.string()),
            id::CODEC_ID => entry.codec_id = child.string(),
            id::CODEC_PRIVATE => entry.codec_private = Bytes::copy_from_slice(child.payload),
            id::CODEC_DELAY => entry.codec_delay = child.uint()?,
            id::VIDEO => entry.video = video_settings(child)?,
            id::AUDIO => entry.audio = audio_settings(child)?,
            id::CONTENT_ENCODINGS => entry.encodings = encodings(child)?,
            id::BLOCK_ADDITION_MAPPING => {
                if let Some(config) = dolby_vision(child)? {
                    entry.dolby_vision = Some(config);
                }
            }
            _ => {}
        }
    }
    // The default is English (RFC 9559 5.1.4.1.19); what is no tag says nothing.
    let said = bcp47.or(language).unwrap_or_else(|| "eng".to_owned());
    entry.language = language::from_tag(&said).unwrap_or_else(|| "und".to_owned());
    Ok(entry)
}

fn clamp_u32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn video_settings(element: Element<'_>) -> Result<VideoSettings, MatroskaError> {
    let mut video = VideoSettings::default();
    for child in element.children() {
        let child = child?;
        match child.id {
            id::PIXEL_WIDTH => video.pixel_width = clamp_u32(child.uint()?),
            id::PIXEL_HEIGHT => video.pixel_height = clamp_u32(child.uint()?),
            id::PIXEL_CROP_LEFT => video.crop[0] = clamp_u32(child.uint()?),
            id::PIXEL_CROP_RIGHT => video.crop[1] = clamp_u32(child.uint()?),
            id::PIXEL_CROP_TOP => video.crop[2] = clamp_u32(child.uint()?),
            id::PIXEL_CROP_BOTTOM => video.crop[3] = clamp_u32(child.uint()?),
            id::DISPLAY_WIDTH => video.display_width = clamp_u32(child.uint()?),
            id::DISPLAY_HEIGHT => video.display_height = clamp_u32(child.uint()?),
            id::DISPLAY_UNIT => video.display_unit = child.uint()?,
            id::COLOUR => colour(child, &mut video)?,
            _ => {}
        }
    }
    Ok(video)
}

fn colour(element: Element<'_>, video: &mut VideoSettings) -> Result<(), MatroskaError> {
    let mut color = ColorInfo {
        primaries: 2,
        transfer: 2,
        matrix: 2,
        full_range: false,
    };
    let mut light_level = [None; 2];
    for child in element.children() {
        let child = child?;
        let code_point = |value: u64| u8::try_from(value).unwrap_or(2);
        match child.id {
            id::MATRIX_COEFFICIENTS => color.matrix = code_point(child.uint()?),
            id::TRANSFER_CHARACTERISTICS => color.transfer = code_point(child.uint()?),
            id::PRIMARIES => color.primaries = code_point(child.uint()?),
            id::RANGE => color.full_range = child.uint()? == 2,
            id::MAX_CLL => light_level[0] = u16::try_from(child.uint()?).ok(),
            id::MAX_FALL => light_level[1] = u16::try_from(child.uint()?).ok(),
            id::MASTERING_METADATA => video.mastering_display = mastering_display(child)?,
            _ => {}
        }
    }
    if [color.primaries, color.transfer, color.matrix] != [2; 3] || color.full_range {
        video.color = Some(color);
    }
    if let [Some(max_cll), Some(max_fall)] = light_level.map(|level| level.map(u16::to_be_bytes)) {
        video.content_light_level = Some([max_cll[0], max_cll[1], max_fall[0], max_fall[1]]);
    }
    Ok(())
}

/// `mdcv` from MasteringMetadata, all ten values of it or nothing: chromaticities in 0.00002, luminances in 0.0001
/// candela per square metre, to the nearest (ISO/IEC 14496-12:2022 12.1.7).
fn mastering_display(element: Element<'_>) -> Result<Option<[u8; 24]>, MatroskaError> {
    let mut values = [None; 10];
    for child in element.children() {
        let child = child?;
        if !(id::PRIMARY_R_CHROMATICITY_X..=id::LUMINANCE_MIN).contains(&child.id) {
            continue;
        }
        if let Some(value) = values.get_mut((child.id - id::PRIMARY_R_CHROMATICITY_X) as usize) {
            *value = Some(child.float()?);
        }
    }
    let [
        Some(rx),
        Some(ry),
        Some(gx),
        Some(gy),
        Some(bx),
        Some(by),
        Some(wx),
        Some(wy),
        Some(max),
        Some(min),
    ] = values
    else {
        return Ok(None);
    };
    let mut mdcv = Vec::with_capacity(24);
    for chromaticity in [gx, gy, bx, by, rx, ry, wx, wy] {
        // A float cast saturates, so a value out of range becomes the nearest end.
        mdcv.extend_from_slice(&((chromaticity * 50_000.0).round() as u16).to_be_bytes());
    }
    for luminance in [max, min] {
        mdcv.extend_from_slice(&((luminance * 10_000.0).round() as u32).to_be_bytes());
    }
    Ok(mdcv.try_into().ok())
}

fn audio_settings(element: Element<'_>) -> Result<AudioSettings, MatroskaError> {
    let mut audio = AudioSettings {
        sampling_frequency: 8_000,
        channels: 1,
    };
    for child in element.children() {
        let child = child?;
        match child.id {
            id::SAMPLING_FREQUENCY => audio.sampling_frequency = child.float()?.round() as u32,
            id::CHANNELS => audio.channels = child.uint()?,
            _ => {}
        }
    }
    Ok(audio)
}

/// Encodings in the order of the file; one alone is usual and several are refused by the caller all the same.
fn encodings(element: Element<'_>) -> Result<Vec<Encoding>, MatroskaError> {
    let mut encodings = Vec::new();
    for child in element.children() {
        let child = child?;
        if child.id == id::CONTENT_ENCODING
            && let Some(encoding) = encoding(child)?
        {
            encodings.push(encoding);
        }
    }
    Ok(encodings)
}

fn encoding(element: Element<'_>) -> Result<Option<Encoding>, MatroskaError> {
    let mut scope = 1;
    let mut encoding = None;
    for child in element.children() {
        let child = child?;
        match child.id {
            id::CONTENT_ENCODING_SCOPE => scope = child.uint()?,
            id::CONTENT_ENCRYPTION => encoding = Some(Encoding::Encrypted),
            id::CONTENT_COMPRESSION => {
                let mut algorithm = 0;
                let mut settings = Bytes::new();
                for setting in child.children() {
                    let setting = setting?;
                    match setting.id {
                        id::CONTENT_COMP_ALGO => algorithm = setting.uint()?,
                        id::CONTENT_COMP_SETTINGS => settings = Bytes::copy_from_slice(setting.payload),
                        _ => {}
                    }
                }
                encoding = Some(match algorithm {
                    0 => Encoding::Zlib,
                    3 => Encoding::HeaderStripping(settings),
                    other => Encoding::Unknown(other),
                });
            }
            _ => {}
        }
    }
    // Stripping nothing changes nothing.
    let changes = scope != 0
        && encoding
            .as_ref()
            .is_none_or(|e| *e != Encoding::HeaderStripping(Bytes::new()));
    Ok(encoding.filter(|_| changes))
}

/// The Dolby Vision configuration of a BlockAdditionMapping, whose type is the name of the box that would hold it.
fn dolby_vision(element: Element<'_>) -> Result<Option<Bytes>, MatroskaError> {
    let mut addition_type = 0;
    let mut extra_data = Bytes::new();
    for child in element.children() {
        let child = child?;
        match child.id {
            id::BLOCK_ADD_ID_TYPE => addition_type = child.uint()?,
            id::BLOCK_ADD_ID_EXTRA_DATA => extra_data = Bytes::copy_from_slice(child.payload),
            _ => {}
        }
    }
    let is_dolby_vision = [b"dvcC", b"dvvC", b"dvwC"].map(|name| u64::from(u32::from_be_bytes(*name)));
    Ok(is_dolby_vision
        .contains(&addition_type)
        .then_some(extra_data)
        .filter(|config| !config.is_empty()))
}
