//! Audio frames in an elementary stream: where one starts and ends, what it holds, how the track is described.

use super::Reason;
use super::coding::Coding;
use crate::codec::aac::adts::AdtsHeader;
use crate::codec::aac::latm::{LatmReader, SYNC_HEADER_SIZE_BYTES, parse_sync_header};
use crate::codec::ac3::{AccessUnit, Dac3, Dec3, SyncFrame};
use crate::codec::mpeg_audio::FrameHeader;
use crate::codec::{Codec, CodecError};
use crate::isobmff::sample_entry::{self, TrackFacts};
use crate::track::TrackDescription;

/// What must not change within a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    codec: Codec,
    /// Of the core coder, in Hz; ticks of the track.
    pub(super) sampling_rate: u32,
    /// The coding's own number for object type and channel layout.
    layout: u32,
}

/// One sample.
pub(super) struct Frame {
    pub(super) format: Format,
    /// In ticks of the sampling rate.
    pub(super) duration: u32,
    pub(super) data: Vec<u8>,
}

/// What is at the start of some bytes.
pub(super) enum Found {
    /// A frame (E-AC-3: an access unit) of so many bytes.
    Frame(usize),
    /// So many bytes that are no frame.
    Nothing(usize),
    /// More bytes are needed to say.
    Short,
}

/// Finds and reads the frames of one stream.
pub(super) struct FrameReader {
    coding: Coding,
    latm: LatmReader,
    /// Configuration of the first frame, as its sample entry wants it.
    setup: Option<Setup>,
}

/// What a description is made of.
enum Setup {
    Aac(Vec<u8>),
    Mp3 { sampling_rate: u32, channels: u8 },
    Ac3(Vec<u8>),
    Eac3(Vec<u8>),
}

impl FrameReader {
    pub(super) fn new(coding: Coding) -> FrameReader {
        FrameReader {
            coding,
            latm: LatmReader::new(),
            setup: None,
        }
    }

    /// Looks for a frame at the start of `bytes`. Unless `locked`, a header is believed only with another one behind its
    /// frame: four bytes that look like one come up by chance.
    pub(super) fn find(&self, bytes: &[u8], locked: bool, at_end: bool) -> Found {
        let size = match self.size(bytes, at_end) {
            Ok(Some(size)) if size <= bytes.len() => size,
            Ok(_) | Err(CodecError::Truncated { .. }) if !at_end => return Found::Short,
            _ => return Found::Nothing(self.next_sync(bytes)),
        };
        if locked {
            return Found::Frame(size);
        }
        match self.size(bytes.get(size..).unwrap_or_default(), true) {
            Ok(_) => Found::Frame(size),
            Err(CodecError::Truncated { .. }) if at_end => Found::Frame(size),
            Err(CodecError::Truncated { .. }) => Found::Short,
            Err(_) => Found::Nothing(self.next_sync(bytes)),
        }
    }

    /// Bytes of the frame at the start of `bytes`, which may hold fewer; `None` where only what follows tells.
    fn size(&self, bytes: &[u8], at_end: bool) -> Result<Option<usize>, CodecError> {
        match self.coding {
            Coding::Adts => AdtsHeader::parse(bytes).map(|header| Some(header.frame_size_bytes)),
            Coding::Loas => parse_sync_header(bytes).map(|size| Some(SYNC_HEADER_SIZE_BYTES + size)),
            Coding::MpegAudio => FrameHeader::parse(bytes).map(|header| Some(header.frame_size_bytes)),
            _ => {
                let frame = SyncFrame::parse(bytes)?;
                if !frame.is_enhanced() {
                    return Ok(Some(frame.frame_size_bytes));
                }
                let unit = AccessUnit::parse(bytes)?;
                Ok(unit.filter(|unit| unit.is_closed || at_end).map(|unit| unit.size_bytes))
            }
        }
    }

    /// Bytes up to the next that may start a frame, at least one.
    fn next_sync(&self, bytes: &[u8]) -> usize {
        let first = match self.coding {
            Coding::Adts | Coding::MpegAudio => 0xff,
            Coding::Loas => 0x56,
            _ => 0x0b,
        };
        let after = bytes.iter().skip(1).position(|byte| *byte == first);
        after.map_or(bytes.len(), |after| after + 1)
    }

    /// The samples in a frame that was found, mostly one. What is damaged inside is left out.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, Reason> {
        let frames = match self.coding {
            Coding::Adts => self.adts(bytes)?,
            Coding::Loas => self.loas(bytes)?,
            Coding::MpegAudio => self.mpeg_audio(bytes)?,
            _ => self.dolby(bytes)?,
        };
        Ok(frames)
    }

    fn adts(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, Reason> {
        let Ok(header) = AdtsHeader::parse(bytes) else {
            return Ok(Vec::new());
        };
        if header.raw_block_count != 1 {
            return Err("its ADTS frames hold several AAC frames each".to_owned());
        }
        let config = header.audio_specific_config().map_err(|error| error.to_string())?;
        let data = bytes.get(header.header_size_bytes..).unwrap_or_default();
        if self.setup.is_none() {
            self.setup = config.serialise().map(Setup::Aac);
        }
        let format = Format {
            codec: Codec::Aac,
            sampling_rate: header.sampling_rate,
            layout: u32::from(header.object_type) << 8 | u32::from(header.channel_configuration),
        };
        Ok(one(format, u32::from(config.frame_length), data))
    }

    fn loas(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, Reason> {
        let element = bytes.get(SYNC_HEADER_SIZE_BYTES..).unwrap_or_default();
        // A damaged element costs its frames; the next one may be whole.
        let frames = match self.latm.frames(element) {
            Ok(frames) => frames,
            Err(error @ CodecError::Unsupported { .. }) => return Err(error.to_string()),
            Err(_) => return Ok(Vec::new()),
        };
        let (Some(config), Some(config_bytes)) = (self.latm.config(), self.latm.config_bytes()) else {
            return Ok(Vec::new());
        };
        let format = Format {
            codec: Codec::Aac,
            sampling_rate: config.sampling_rate,
            layout: u32::from(config.object_type) << 8 | u32::from(config.channel_configuration),
        };
        let duration = u32::from(config.frame_length);
        if self.setup.is_none() {
            self.setup = Some(Setup::Aac(config_bytes.to_vec()));
        }
        let frames = frames.into_iter().filter(|data| !data.is_empty());
        Ok(frames.map(|data| Frame { format, duration, data }).collect())
    }

    fn mpeg_audio(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, Reason> {
        let Ok(header) = FrameHeader::parse(bytes) else {
            return Ok(Vec::new());
        };
        if header.layer != 3 {
            let layer = if header.layer == 1 { "I" } else { "II" };
            return Err(format!(
                "it is MPEG audio layer {layer}, and players take layer III (MP3)"
            ));
        }
        self.setup.get_or_insert(Setup::Mp3 {
            sampling_rate: header.sampling_rate,
            channels: header.channels,
        });
        let format = Format {
            codec: Codec::Mp3,
            sampling_rate: header.sampling_rate,
            layout: u32::from(header.channels),
        };
        Ok(one(format, u32::from(header.sample_count), bytes))
    }

    fn dolby(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, Reason> {
        let Ok(first) = SyncFrame::parse(bytes) else {
            return Ok(Vec::new());
        };
        let (codec, duration) = if first.is_enhanced() {
            let Ok(Some(unit)) = AccessUnit::parse(bytes) else {
                return Ok(Vec::new());
            };
            if self.setup.is_none() {
                let config = Dec3::build(&unit).and_then(|config| config.serialise());
                self.setup = Some(Setup::Eac3(config.map_err(|error| error.to_string())?));
            }
            (Codec::Eac3, unit.sample_count())
        } else {
            if self.setup.is_none() {
                let config = Dac3::build(&first).map_err(|error| error.to_string())?;
                self.setup = Some(Setup::Ac3(config.serialise()));
            }
            (Codec::Ac3, first.sample_count())
        };
        let format = Format {
            codec,
            sampling_rate: first.sampling_rate,
            layout: u32::from(first.acmod) << 1 | u32::from(first.lfe),
        };
        Ok(one(format, duration, bytes))
    }

    /// The description of the track by its first frame.
    pub(super) fn describe(&self, facts: &TrackFacts) -> Result<TrackDescription, Reason> {
        let description = match &self.setup {
            Some(Setup::Aac(config)) => sample_entry::aac(facts, config),
            Some(Setup::Mp3 {
                sampling_rate,
                channels,
            }) => sample_entry::mp3(facts, *sampling_rate, u16::from(*channels)),
            Some(Setup::Ac3(config)) => sample_entry::ac3(facts, config),
            Some(Setup::Eac3(config)) => sample_entry::eac3(facts, config),
            None => return Err("its configuration can not be written".to_owned()),
        };
        description.map_err(|error| error.to_string())
    }
}

fn one(format: Format, duration: u32, data: &[u8]) -> Vec<Frame> {
    // Copied out of the stream: this is the one copy a sample takes on its way to storage.
    vec![Frame {
        format,
        duration,
        data: data.to_vec(),
    }]
}
