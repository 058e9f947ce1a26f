//! Sequence header OBU of AV1 (AV1 specification 5.5).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::codec::bits::BitReader;
use crate::codec::vui::FrameRate;
use crate::codec::{CodecError, ColorInfo};

/// Sequence header: what stays the same over a coded video sequence, and what frame headers depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceHeader {
    /// `seq_profile`: 0 Main, 1 High, 2 Professional.
    pub profile: u8,
    /// `still_picture`.
    pub still_picture: bool,
    /// `reduced_still_picture_header`.
    pub reduced_still_picture_header: bool,
    /// From `timing_info()`; `fixed` when `equal_picture_interval` is set. Without it the rate is not known and `None`.
    pub frame_rate: Option<FrameRate>,
    /// `equal_picture_interval`: no presentation times in frame headers.
    pub equal_picture_interval: bool,
    /// `decoder_model_info()`, when present.
    pub decoder_model: Option<DecoderModel>,
    /// Operating points, the first being the one to decode by default; 1 to 32.
    pub operating_points: Vec<OperatingPoint>,
    /// `frame_width_bits_minus_1` + 1.
    pub frame_width_bits: u8,
    /// `frame_height_bits_minus_1` + 1.
    pub frame_height_bits: u8,
    /// `max_frame_width_minus_1` + 1, luma samples.
    pub width: u32,
    /// `max_frame_height_minus_1` + 1, luma samples.
    pub height: u32,
    /// Bits of `delta_frame_id_minus_1` and of `current_frame_id`; `None` without frame ids.
    pub frame_id_bits: Option<(u8, u8)>,
    /// `use_128x128_superblock`.
    pub use_128x128_superblock: bool,
    /// `enable_filter_intra`.
    pub filter_intra: bool,
    /// `enable_intra_edge_filter`.
    pub intra_edge_filter: bool,
    /// `enable_interintra_compound`.
    pub interintra_compound: bool,
    /// `enable_masked_compound`.
    pub masked_compound: bool,
    /// `enable_warped_motion`.
    pub warped_motion: bool,
    /// `enable_dual_filter`.
    pub dual_filter: bool,
    /// `enable_jnt_comp`.
    pub jnt_comp: bool,
    /// `enable_ref_frame_mvs`.
    pub ref_frame_mvs: bool,
    /// `seq_force_screen_content_tools`: 0, 1, or 2 when each frame says.
    pub force_screen_content_tools: u8,
    /// `seq_force_integer_mv`: 0, 1, or 2 when each frame says.
    pub force_integer_mv: u8,
    /// `OrderHintBits`, 0 without order hints.
    pub order_hint_bits: u8,
    /// `enable_superres`.
    pub superres: bool,
    /// `enable_cdef`.
    pub cdef: bool,
    /// `enable_restoration`.
    pub restoration: bool,
    /// Bits per sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// `mono_chrome`.
    pub monochrome: bool,
    /// Colour description; code points 2 when the sequence header has none.
    pub color: ColorInfo,
    /// `subsampling_x`.
    pub subsampling_x: bool,
    /// `subsampling_y`.
    pub subsampling_y: bool,
    /// `chroma_sample_position`: 0 unknown, 1 vertical, 2 co-located.
    pub chroma_sample_position: u8,
    /// `separate_uv_delta_q`.
    pub separate_uv_delta_q: bool,
    /// `film_grain_params_present`.
    pub film_grain_params_present: bool,
}

/// `decoder_model_info()`, the field sizes that frame headers depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderModel {
    /// Bits of buffer delays, 1 to 32.
    pub buffer_delay_bits: u8,
    /// Bits of `buffer_removal_time`, 1 to 32.
    pub buffer_removal_time_bits: u8,
    /// Bits of `frame_presentation_time`, 1 to 32.
    pub frame_presentation_time_bits: u8,
}

/// One operating point of scalable video; video without layers has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatingPoint {
    /// `operating_point_idc`: layers that are decoded, 0 when there are none.
    pub idc: u16,
    /// `seq_level_idx`, 0 to 31.
    pub level: u8,
    /// `seq_tier`: high tier.
    pub high_tier: bool,
    /// `decoder_model_present_for_this_op`.
    pub decoder_model_present: bool,
}

impl SequenceHeader {
    /// Reads the payload of a sequence header OBU.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(payload, "av1 sequence header");
        let profile = reader.read_u8(3)?;
        if profile > 2 {
            return Err(reader.invalid("seq_profile", u64::from(profile)));
        }
        let still_picture = reader.flag()?;
        let reduced = reader.flag()?;
        let (mut frame_rate, mut equal_picture_interval, mut decoder_model) = (None, false, None);
        let mut operating_points = Vec::new();
        if reduced {
            let level = reader.read_u8(5)?;
            operating_points.push(OperatingPoint {
                idc: 0,
                level,
                high_tier: false,
                decoder_model_present: false,
            });
        } else {
            if reader.flag()? {
                (frame_rate, equal_picture_interval) = read_timing_info(&mut reader)?;
                if reader.flag()? {
                    decoder_model = Some(DecoderModel::read(&mut reader)?);
                }
            }
            let display_delay_present = reader.flag()?;
            for _ in 0..=reader.read(5)? {
                operating_points.push(OperatingPoint::read(&mut reader, decoder_model, display_delay_present)?);
            }
        }
        let frame_width_bits = reader.read_u8(4)? + 1;
        let frame_height_bits = reader.read_u8(4)? + 1;
        let width = reader.read(u32::from(frame_width_bits))? + 1;
        let height = reader.read(u32::from(frame_height_bits))? + 1;
        let mut frame_id_bits = None;
        if !reduced && reader.flag()? {
            let delta_bits = reader.read_u8(4)? + 2;
            frame_id_bits = Some((delta_bits, reader.read_u8(3)? + delta_bits + 1));
        }
        let mut header = SequenceHeader {
            profile,
            still_picture,
            reduced_still_picture_header: reduced,
            frame_rate,
            equal_picture_interval,
            decoder_model,
            operating_points,
            frame_width_bits,
            frame_height_bits,
            width,
            height,
            frame_id_bits,
            use_128x128_superblock: reader.flag()?,
            filter_intra: reader.flag()?,
            intra_edge_filter: reader.flag()?,
            interintra_compound: false,
            masked_compound: false,
            warped_motion: false,
            dual_filter: false,
            jnt_comp: false,
            ref_frame_mvs: false,
            force_screen_content_tools: 2,
            force_integer_mv: 2,
            order_hint_bits: 0,
            superres: false,
            cdef: false,
            restoration: false,
            bit_depth: 8,
            monochrome: false,
            color: ColorInfo::UNSPECIFIED,
            subsampling_x: true,
            subsampling_y: true,
            chroma_sample_position: 0,
            separate_uv_delta_q: false,
            film_grain_params_present: false,
        };
        if !reduced {
            header.read_inter_tools(&mut reader)?;
        }
        header.superres = reader.flag()?;
        header.cdef = reader.flag()?;
        header.restoration = reader.flag()?;
        header.read_color_config(&mut reader)?;
        header.film_grain_params_present = reader.flag()?;
        Ok(header)
    }

    fn read_inter_tools(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        self.interintra_compound = reader.flag()?;
        self.masked_compound = reader.flag()?;
        self.warped_motion = reader.flag()?;
        self.dual_filter = reader.flag()?;
        let order_hint = reader.flag()?;
        if order_hint {
            self.jnt_comp = reader.flag()?;
            self.ref_frame_mvs = reader.flag()?;
        }
        if !reader.flag()? {
            self.force_screen_content_tools = reader.read_u8(1)?;
        }
        if self.force_screen_content_tools > 0 && !reader.flag()? {
            self.force_integer_mv = reader.read_u8(1)?;
        }
        if order_hint {
            self.order_hint_bits = reader.read_u8(3)? + 1;
        }
        Ok(())
    }

    /// `color_config()` (5.5.2).
    fn read_color_config(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        let high_bit_depth = reader.flag()?;
        self.bit_depth = match (high_bit_depth, self.profile) {
            (true, 2) if reader.flag()? => 12,
            (true, _) => 10,
            (false, _) => 8,
        };
        self.monochrome = self.profile != 1 && reader.flag()?;
        if reader.flag()? {
            self.color.primaries = reader.read_u8(8)?;
            self.color.transfer = reader.read_u8(8)?;
            self.color.matrix = reader.read_u8(8)?;
        }
        if self.monochrome {
            self.color.full_range = reader.flag()?;
            return Ok(());
        }
        let srgb = ColorInfo {
            primaries: 1,
            transfer: 13,
            matrix: 0,
            full_range: false,
        };
        if self.color == srgb {
            self.color.full_range = true;
            (self.subsampling_x, self.subsampling_y) = (false, false);
        } else {
            self.color.full_range = reader.flag()?;
            (self.subsampling_x, self.subsampling_y) = match self.profile {
                0 => (true, true),
                1 => (false, false),
                _ if self.bit_depth == 12 => {
                    let x = reader.flag()?;
                    (x, x && reader.flag()?)
                }
                _ => (true, false),
            };
            if self.subsampling_x && self.subsampling_y {
                self.chroma_sample_position = reader.read_u8(2)?;
            }
        }
        self.separate_uv_delta_q = reader.flag()?;
        Ok(())
    }

    /// `seq_level_idx[0]`.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.operating_points.first().map_or(31, |point| point.level)
    }

    /// `seq_tier[0]`.
    #[must_use]
    pub fn high_tier(&self) -> bool {
        self.operating_points.first().is_some_and(|point| point.high_tier)
    }

    /// RFC 6381 string `av01...`.
    #[must_use]
    pub fn rfc6381(&self) -> String {
        let chroma = (self.subsampling_x, self.subsampling_y, self.chroma_sample_position);
        let (level, high_tier) = (self.level(), self.high_tier());
        super::rfc6381(
            self.profile,
            level,
            high_tier,
            self.bit_depth,
            self.monochrome,
            chroma,
            self.color,
        )
    }
}

/// `timing_info()` (5.5.3): frame rate and `equal_picture_interval`.
fn read_timing_info(reader: &mut BitReader<'_>) -> Result<(Option<FrameRate>, bool), CodecError> {
    let units_in_tick = reader.read_u64(32)?;
    let time_scale = reader.read_u64(32)?;
    if !reader.flag()? {
        // Without equal intervals a tick need not be a frame's time.
        return Ok((None, false));
    }
    let ticks_per_picture = u64::from(reader.ue()?) + 1;
    let den = units_in_tick.checked_mul(ticks_per_picture);
    let den = den.ok_or_else(|| reader.invalid("num_ticks_per_picture_minus_1", ticks_per_picture - 1))?;
    Ok((FrameRate::new(time_scale, den, true), true))
}

impl DecoderModel {
    fn read(reader: &mut BitReader<'_>) -> Result<Self, CodecError> {
        let buffer_delay_bits = reader.read_u8(5)? + 1;
        reader.skip(32)?; // num_units_in_decoding_tick
        Ok(DecoderModel {
            buffer_delay_bits,
            buffer_removal_time_bits: reader.read_u8(5)? + 1,
            frame_presentation_time_bits: reader.read_u8(5)? + 1,
        })
    }
}

impl OperatingPoint {
    fn read(
        reader: &mut BitReader<'_>,
        decoder_model: Option<DecoderModel>,
        display_delay_present: bool,
    ) -> Result<Self, CodecError> {
        let idc = reader.read_u16(12)?;
        let level = reader.read_u8(5)?;
        let high_tier = level > 7 && reader.flag()?;
        let mut decoder_model_present = false;
        if let Some(model) = decoder_model {
            decoder_model_present = reader.flag()?;
            if decoder_model_present {
                reader.skip(2 * u64::from(model.buffer_delay_bits) + 1)?;
            }
        }
        if display_delay_present && reader.flag()? {
            reader.skip(4)?; // initial_display_delay_minus_1
        }
        Ok(OperatingPoint {
            idc,
            level,
            high_tier,
            decoder_model_present,
        })
    }
}
