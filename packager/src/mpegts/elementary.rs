//! Elementary streams: samples as CMAF stores them, turned into the byte streams that MPEG-TS and packed audio carry.
//!
//! A sample is never copied here: [`Form::write`] hands out pieces of it, with what belongs between them.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use bytes::Bytes;

use super::SampleFault;
use super::adts::AdtsTemplate;
use crate::codec::aac::adts::{FRAME_SIZE_BYTES_MAX, HEADER_SIZE_BYTES};
use crate::codec::bits::nal_units;
use crate::codec::{Codec, CodecError, avc, hevc};
use crate::track::{AudioDescription, TrackDescription, VideoDescription};

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// How the samples of a track become an elementary stream.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// Length-prefixed NAL units to a byte stream (ITU-T H.264 and H.265 annex B).
    NalUnits {
        kind: NalKind,
        length_size: u8,
        parameter_sets: Bytes,
    },
    /// Raw AAC frames behind ADTS headers (ISO/IEC 14496-3 1.A.3.2).
    Adts(AdtsTemplate),
    /// Frames that carry their own sync word: MP3, AC-3, E-AC-3.
    Frames {
        /// PCM samples a sample of the track lasts.
        pcm_count: u32,
        sample_rate: u32,
    },
}

/// Which NAL unit header to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NalKind {
    Avc,
    Hevc,
}

/// One sample's place in the elementary stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes it takes there; zero for a sample that holds nothing.
    pub(super) size: usize,
    /// The track's parameter sets go before it.
    parameter_sets: bool,
}

impl Form {
    /// The form of a track, or why it has none.
    pub(super) fn of(description: &TrackDescription) -> Result<Form, &'static str> {
        match (description.codec, description.video(), description.audio()) {
            (Codec::Avc, Some(video), _) => Form::nal_units(NalKind::Avc, description, video),
            (Codec::Hevc, Some(video), _) => Form::nal_units(NalKind::Hevc, description, video),
            (Codec::Aac, _, Some(audio)) => AdtsTemplate::new(&audio.decoder_config).map(Form::Adts),
            (Codec::Mp3, _, Some(audio)) => {
                // MPEG-2 layer III, at the low sampling rates, has one granule instead of two.
                let pcm_count = if audio.sample_rate < 32_000 { 576 } else { 1_152 };
                Ok(Form::frames(pcm_count, audio))
            }
            (Codec::Ac3 | Codec::Eac3, _, Some(audio)) => Ok(Form::frames(1_536, audio)),
            (Codec::Av1 | Codec::Vp8 | Codec::Vp9, ..) => Err("no mapping of this video coding to MPEG-TS is in use"),
            (Codec::Ac4 | Codec::Opus | Codec::Flac, ..) => Err("HLS defines this audio coding in fMP4 only"),
            (Codec::Wvtt | Codec::Stpp | Codec::Tx3g, ..) => Err("timed text is not carried in MPEG-TS"),
            _ => Err("the description is not of this coding"),
        }
    }

    fn nal_units(
        kind: NalKind,
        description: &TrackDescription,
        video: &VideoDescription,
    ) -> Result<Form, &'static str> {
        if description.rfc6381.starts_with("dv") {
            return Err("Dolby Vision without a compatible base layer is carried in fMP4 only");
        }
        match video.nal_length_size {
            1 | 2 | 4 => Ok(Form::NalUnits {
                kind,
                length_size: video.nal_length_size,
                parameter_sets: video.parameter_sets.clone(),
            }),
            _ => Err("NAL unit lengths are neither 1, 2 nor 4 bytes"),
        }
    }

    fn frames(pcm_count: u32, audio: &AudioDescription) -> Form {
        Form::Frames {
            pcm_count,
            sample_rate: audio.sample_rate,
        }
    }

    pub(super) fn is_video(&self) -> bool {
        matches!(self, Form::NalUnits { .. })
    }

    /// MPEG-2 audio layer III: MP3 below 32 kHz.
    pub(super) fn is_low_sampling_rate(&self) -> bool {
        matches!(self, Form::Frames { pcm_count: 576, .. })
    }

    /// Ticks of 90 kHz that `count` samples of audio last, rounded to nearest; `None` for video.
    pub(super) fn frame_duration_90k(&self, count: u32) -> Option<i64> {
        let (pcm_count, sample_rate) = match self {
            Form::NalUnits { .. } => return None,
            Form::Adts(header) => (1_024, header.sample_rate),
            Form::Frames { pcm_count, sample_rate } => (*pcm_count, *sample_rate),
        };
        let rate = i64::from(sample_rate.max(1));
        let ticks = i64::from(count) * i64::from(pcm_count) * 90_000;
        Some((2 * ticks + rate).div_euclid(2 * rate))
    }

    /// Looks at a sample once before it is written: its size in the stream, or what is wrong with it.
    pub(super) fn layout(&self, sample: &[u8], sync: bool) -> Result<Layout, SampleFault> {
        let frame = |size| Layout {
            size,
            parameter_sets: false,
        };
        match self {
            _ if sample.is_empty() => Ok(frame(0)),
            Form::Frames { .. } => Ok(frame(sample.len())),
            Form::Adts(_) if sample.len() > FRAME_SIZE_BYTES_MAX - HEADER_SIZE_BYTES => Err(SampleFault::TooLarge {
                size: sample.len(),
                size_max: FRAME_SIZE_BYTES_MAX - HEADER_SIZE_BYTES,
            }),
            Form::Adts(_) => Ok(frame(sample.len() + HEADER_SIZE_BYTES)),
            Form::NalUnits {
                kind,
                length_size,
                parameter_sets,
            } => kind.layout(sample, *length_size, sync, parameter_sets),
        }
    }

    /// Hands the pieces of a sample to `write`, in order; together they are [`Layout::size`] bytes.
    pub(super) fn write(&self, sample: &[u8], layout: Layout, mut write: impl FnMut(&[u8])) {
        match self {
            _ if layout.size == 0 => {}
            Form::Frames { .. } => write(sample),
            Form::Adts(template) => {
                write(&template.header(layout.size));
                write(sample);
            }
            Form::NalUnits {
                kind,
                length_size,
                parameter_sets,
            } => {
                write(&START_CODE);
                write(kind.delimiter());
                if layout.parameter_sets {
                    write(parameter_sets);
                }
                for unit in nal_units(sample, *length_size).flatten() {
                    if !kind.drops(unit) {
                        write(&START_CODE);
                        write(unit);
                    }
                }
            }
        }
    }
}

impl NalKind {
    fn delimiter(self) -> &'static [u8] {
        match self {
            NalKind::Avc => &avc::ACCESS_UNIT_DELIMITER,
            NalKind::Hevc => &hevc::ACCESS_UNIT_DELIMITER,
        }
    }

    /// Empty units, and access unit delimiters: every access unit gets ours, at its start, where HLS wants one.
    fn drops(self, unit: &[u8]) -> bool {
        match self {
            NalKind::Avc => matches!(avc::NalType::of(unit), None | Some(avc::NalType::AccessUnitDelimiter)),
            NalKind::Hevc => matches!(
                hevc::NalType::of(unit),
                None | Some(hevc::NalType::ACCESS_UNIT_DELIMITER)
            ),
        }
    }

    /// A bit for each kind of parameter set; together [`NalKind::all_parameter_sets`].
    fn parameter_set_bit(self, unit: &[u8]) -> u8 {
        match self {
            NalKind::Avc => match avc::NalType::of(unit) {
                Some(avc::NalType::Sps) => 1,
                Some(avc::NalType::Pps) => 2,
                _ => 0,
            },
            NalKind::Hevc => match hevc::NalType::of(unit) {
                Some(hevc::NalType::VPS) => 1,
                Some(hevc::NalType::SPS) => 2,
                Some(hevc::NalType::PPS) => 4,
                _ => 0,
            },
        }
    }

    fn all_parameter_sets(self) -> u8 {
        match self {
            NalKind::Avc => 0b11,
            NalKind::Hevc => 0b111,
        }
    }

    fn layout(self, sample: &[u8], length_size: u8, sync: bool, parameter_sets: &[u8]) -> Result<Layout, SampleFault> {
        let mut size = START_CODE.len() + self.delimiter().len();
        let mut in_band = 0;
        for unit in nal_units(sample, length_size) {
            let unit = unit.map_err(nal_fault)?;
            if !self.drops(unit) {
                size += START_CODE.len() + unit.len();
                in_band |= self.parameter_set_bit(unit);
            }
        }
        // Ours go first, so that a parameter set in band still has the last word.
        let parameter_sets_missing = sync && in_band != self.all_parameter_sets();
        if parameter_sets_missing {
            size += parameter_sets.len();
        }
        Ok(Layout {
            size,
            parameter_sets: parameter_sets_missing,
        })
    }
}

/// What `nal_units` found wrong, which is always a length.
pub(super) fn nal_fault(error: CodecError) -> SampleFault {
    let (offset_bits, want_bits, have_bits) = match error {
        CodecError::Truncated {
            offset_bits,
            want_bits,
            have_bits,
            ..
        } => (offset_bits, want_bits, have_bits),
        _ => (0, 0, 0),
    };
    SampleFault::NalLength {
        offset: (offset_bits / 8) as usize,
        want: (want_bits / 8) as usize,
        have: (have_bits / 8) as usize,
    }
}
