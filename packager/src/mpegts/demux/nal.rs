//! NAL units as a transport stream has them: where access units begin, what a picture is, what is kept in a sample.

use std::collections::BTreeMap;

use super::Reason;
use super::coding::Coding;
use super::parameter_sets::ParameterSets;
use crate::codec::CodecError;
use crate::codec::avc::{self, AvcConfig, SliceStart, SliceType};
use crate::codec::bits::{BitReader, unescape_rbsp};
use crate::codec::hevc::{self, HevcConfig};
use crate::isobmff::sample_entry::{self, TrackFacts, VideoFacts};
use crate::track::TrackDescription;

/// What the NAL units of an access unit say of it.
#[derive(Default)]
pub(super) struct Picture {
    /// A slice has come.
    pub(super) coded: bool,
    /// Decoding can start here, and nothing after refers to anything before.
    pub(super) refresh: bool,
    /// Decoding can start here.
    random_access: bool,
    pub(super) leading: Leading,
    intra: bool,
    recovery_point: bool,
    sequence_parameters: bool,
    pub(super) field: Option<Field>,
}

/// Whether a picture that is decoded after a random access point and shown before it can do without what was before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Leading {
    /// The coding does not say.
    #[default]
    Unknown,
    Decodable,
    Skipped,
}

/// Which field of which frame a picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    frame_num: u32,
    bottom: bool,
}

impl Field {
    /// Whether two pictures, one right after the other, make a frame.
    pub(super) fn pairs_with(self, second: Field) -> bool {
        self.frame_num == second.frame_num && self.bottom != second.bottom
    }
}

impl Picture {
    /// Whether decoding can start here. An I picture counts where the stream says so, in the picture or in the transport
    /// packet, and brings its parameter sets.
    pub(super) fn is_sync(&self, random_access_indicator: bool) -> bool {
        let announced = self.recovery_point || random_access_indicator;
        self.random_access || (self.intra && self.sequence_parameters && announced)
    }
}

/// Reads the NAL units of one stream in order.
pub(super) enum NalReader {
    Avc(Avc),
    Hevc(ParameterSets),
}

/// What slices of AVC can not be read without.
#[derive(Default)]
pub(super) struct Avc {
    sets: ParameterSets,
    sequences: BTreeMap<u8, FieldSyntax>,
    /// Sequence parameter set of each picture parameter set.
    pictures: BTreeMap<u8, u8>,
}

/// How a slice header says which field it is of.
#[derive(Clone, Copy)]
struct FieldSyntax {
    frames_only: bool,
    separate_colour_plane: bool,
    frame_num_bits: u32,
}

impl NalReader {
    pub(super) fn new(coding: Coding) -> NalReader {
        match coding {
            Coding::Hevc => NalReader::Hevc(ParameterSets::default()),
            _ => NalReader::Avc(Avc::default()),
        }
    }

    pub(super) fn sets(&self) -> &ParameterSets {
        match self {
            NalReader::Avc(avc) => &avc.sets,
            NalReader::Hevc(sets) => sets,
        }
    }

    /// Whether a NAL unit begins another access unit than that of `picture`.
    pub(super) fn begins(&self, unit: &[u8], picture: &Picture) -> bool {
        picture.coded
            && match self {
                NalReader::Avc(_) => avc_begins(unit),
                NalReader::Hevc(_) => hevc_begins(unit),
            }
    }

    /// Notes what a NAL unit says of its picture, and returns whether it belongs into the sample.
    pub(super) fn read(&mut self, unit: &[u8], picture: &mut Picture) -> Result<bool, Reason> {
        match self {
            NalReader::Avc(avc) => avc.read(unit, picture),
            NalReader::Hevc(sets) => hevc_read(sets, unit, picture),
        }
    }

    /// The track's description from the parameter sets so far, `None` while some are missing. Later ones do not change
    /// it.
    pub(super) fn describe(&mut self, facts: &TrackFacts) -> Result<Option<TrackDescription>, Reason> {
        let sets = self.sets();
        let description = match self {
            NalReader::Avc(_) => AvcConfig::build(&sets.of_kind(AVC_SPS), &sets.of_kind(AVC_PPS))
                .and_then(|config| config.serialise())
                .map(|avcc| sample_entry::avc(facts, &avcc, &VideoFacts::default())),
            NalReader::Hevc(_) => HevcConfig::build(&sets.all())
                .and_then(|config| config.serialise())
                .map(|hvcc| sample_entry::hevc(facts, &hvcc, &VideoFacts::default())),
        };
        let description = match description {
            Err(CodecError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error.to_string()),
            Ok(Err(error)) => return Err(error.to_string()),
            Ok(Ok(description)) => description,
        };
        match self {
            NalReader::Avc(avc) => avc.sets.fix(),
            NalReader::Hevc(sets) => sets.fix(),
        }
        Ok(Some(description))
    }
}

const AVC_SPS: u8 = 0;
const AVC_PPS: u8 = 1;

/// ITU-T H.264 7.4.1.2.3, after the last slice of a picture. Slices that begin one are known by their first macroblock:
/// arbitrary slice order is for profiles that nobody broadcasts.
fn avc_begins(unit: &[u8]) -> bool {
    use avc::NalType;
    match NalType::of(unit) {
        Some(NalType::Sei | NalType::Sps | NalType::Pps | NalType::AccessUnitDelimiter | NalType::SpsExtension) => true,
        Some(NalType::Other(16..=18)) => true,
        Some(NalType::Slice | NalType::Idr) => SliceStart::parse(unit).is_ok_and(|slice| slice.first_mb == 0),
        // Partition A alone has a slice header.
        Some(NalType::Partition) => {
            unit.first().is_some_and(|header| header & 0x1f == 2)
                && SliceStart::parse(unit).is_ok_and(|slice| slice.first_mb == 0)
        }
        _ => false,
    }
}

impl Avc {
    fn read(&mut self, unit: &[u8], picture: &mut Picture) -> Result<bool, Reason> {
        use avc::NalType;
        match NalType::of(unit) {
            Some(NalType::Slice | NalType::Partition | NalType::Idr) => {
                self.slice(unit, picture);
                Ok(true)
            }
            Some(NalType::Sei) => {
                picture.recovery_point |= avc::is_recovery_point(unit);
                Ok(true)
            }
            Some(NalType::Sps) => {
                // What can not be read here is left where it is.
                let Ok(sps) = avc::Sps::parse(unit) else {
                    return Ok(true);
                };
                picture.sequence_parameters = true;
                let syntax = FieldSyntax {
                    frames_only: sps.frame_mbs_only,
                    separate_colour_plane: sps.separate_colour_plane,
                    frame_num_bits: u32::from(sps.log2_max_frame_num),
                };
                self.sequences.insert(sps.id, syntax);
                self.sets.offer(AVC_SPS, sps.id, unit)
            }
            Some(NalType::Pps) => {
                let Ok(pps) = avc::Pps::parse(unit) else {
                    return Ok(true);
                };
                self.pictures.insert(pps.id, pps.sps_id);
                self.sets.offer(AVC_PPS, pps.id, unit)
            }
            Some(NalType::EndOfSequence) => Ok(true),
            // Delimiters and filler say nothing; extensions of SVC and MVC are no part of an `avc1` track; what is
            // unspecified nobody could read.
            _ => Ok(false),
        }
    }

    fn slice(&self, unit: &[u8], picture: &mut Picture) {
        if picture.coded {
            return;
        }
        picture.coded = true;
        picture.refresh = avc::is_idr(unit);
        picture.random_access = picture.refresh;
        if let Ok(slice) = SliceStart::parse(unit) {
            picture.intra = slice.slice_type == SliceType::I;
            let sequence = self
                .pictures
                .get(&slice.pps_id)
                .and_then(|sps_id| self.sequences.get(sps_id));
            picture.field = sequence.and_then(|syntax| syntax.field(unit));
        }
    }
}

impl FieldSyntax {
    /// Which field a slice is of; `None` for frames, and for headers that end early.
    fn field(self, slice: &[u8]) -> Option<Field> {
        if self.frames_only {
            return None;
        }
        // Up to the flags a slice header has at most 24 bytes, some more with emulation prevention.
        let head = unescape_rbsp(slice.get(1..slice.len().min(48))?);
        let mut reader = BitReader::new(&head, "avc slice header");
        for _ in 0..3 {
            reader.ue().ok()?; // first_mb_in_slice, slice_type, pic_parameter_set_id
        }
        if self.separate_colour_plane {
            reader.skip(2).ok()?;
        }
        let frame_num = reader.read(self.frame_num_bits).ok()?;
        let is_field = reader.flag().ok()?;
        let bottom = is_field && reader.flag().ok()?;
        is_field.then_some(Field { frame_num, bottom })
    }
}

/// ITU-T H.265 7.4.2.4.4, after the last slice segment of a picture.
fn hevc_begins(unit: &[u8]) -> bool {
    hevc::layer_id(unit) == Some(0)
        && match hevc::NalType::of(unit) {
            Some(hevc::NalType(32..=35 | 39 | 41..=44 | 48..=55)) => true,
            _ => hevc::is_first_slice(unit),
        }
}

fn hevc_read(sets: &mut ParameterSets, unit: &[u8], picture: &mut Picture) -> Result<bool, Reason> {
    use hevc::NalType;
    // Layers above the base are no part of an `hvc1` track.
    let Some(nal_type) = NalType::of(unit).filter(|_| hevc::layer_id(unit) == Some(0)) else {
        return Ok(false);
    };
    let id = match nal_type {
        NalType::VPS => hevc::Vps::parse(unit).map(|vps| vps.id),
        NalType::SPS => hevc::Sps::parse(unit).map(|sps| sps.id),
        NalType::PPS => hevc::Pps::parse(unit).map(|pps| pps.id),
        // Suffix and prefix SEI, end of sequence, Dolby Vision metadata.
        NalType::PREFIX_SEI | NalType::SUFFIX_SEI | NalType(36) | NalType::DOLBY_VISION_RPU => return Ok(true),
        _ if nal_type.is_vcl() => {
            if !picture.coded {
                picture.coded = true;
                picture.refresh = nal_type.is_idr();
                picture.random_access = nal_type.is_irap();
                picture.leading = match nal_type.is_rasl() {
                    true => Leading::Skipped,
                    false => Leading::Decodable,
                };
            }
            return Ok(true);
        }
        _ => return Ok(false),
    };
    match id {
        Ok(id) => sets.offer(nal_type.0, id, unit),
        Err(_) => Ok(true),
    }
}
