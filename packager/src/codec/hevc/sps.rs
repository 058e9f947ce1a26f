//! Video and sequence parameter sets of HEVC (ISO/IEC 23008-2 7.3.2.1, 7.3.2.2; VUI and HRD in annex E).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{NalType, ProfileTierLevel, ShortTermRefPicSet, parameter_set};
use crate::codec::bits::BitReader;
use crate::codec::vui::{FrameRate, SampleAspectRatio, read_video_signal_type};
use crate::codec::{CodecError, ColorInfo};

/// No level allows more than 16,888 luma samples on a side (level 6.2); this leaves room and keeps products in 32 bits.
const SIDE_SAMPLES_MAX: u32 = 65_535;

/// Video parameter set, its first fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vps {
    /// `vps_video_parameter_set_id`, 0 to 15.
    pub id: u8,
    /// `vps_max_layers_minus1` + 1.
    pub layer_count: u8,
    /// `vps_max_sub_layers_minus1` + 1.
    pub temporal_layer_count: u8,
    /// `vps_temporal_id_nesting_flag`.
    pub temporal_id_nesting: bool,
    /// General profile, tier and level.
    pub profile: ProfileTierLevel,
}

impl Vps {
    /// Reads a VPS NAL unit, header included.
    pub fn parse(nal: &[u8]) -> Result<Self, CodecError> {
        let what = "hevc vps";
        let rbsp = parameter_set(nal, NalType::VPS, what)?;
        let mut reader = BitReader::new(&rbsp, what);
        let id = reader.read_u8(4)?;
        reader.skip(2)?; // vps_base_layer_internal_flag, vps_base_layer_available_flag
        let layer_count = reader.read_u8(6)? + 1;
        let sub_layers_minus1 = read_sub_layers_minus1(&mut reader)?;
        let temporal_id_nesting = reader.flag()?;
        reader.skip(16)?; // vps_reserved_0xffff_16bits
        let profile = ProfileTierLevel::read(&mut reader, sub_layers_minus1)?;
        Ok(Vps {
            id,
            layer_count,
            temporal_layer_count: sub_layers_minus1 + 1,
            temporal_id_nesting,
            profile,
        })
    }
}

/// Sequence parameter set of the base layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sps {
    /// `sps_video_parameter_set_id`, 0 to 15.
    pub vps_id: u8,
    /// `sps_seq_parameter_set_id`, 0 to 15.
    pub id: u8,
    /// `sps_max_sub_layers_minus1` + 1.
    pub temporal_layer_count: u8,
    /// `sps_temporal_id_nesting_flag`.
    pub temporal_id_nesting: bool,
    /// General profile, tier and level.
    pub profile: ProfileTierLevel,
    /// `chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// `separate_colour_plane_flag`.
    pub separate_colour_plane: bool,
    /// `pic_width_in_luma_samples`.
    pub coded_width: u32,
    /// `pic_height_in_luma_samples`.
    pub coded_height: u32,
    /// Luma samples per row inside the conformance window.
    pub width: u32,
    /// Luma rows inside the conformance window.
    pub height: u32,
    /// Bits per luma sample, 8 to 16.
    pub bit_depth_luma: u8,
    /// Bits per chroma sample, 8 to 16.
    pub bit_depth_chroma: u8,
    /// Bits of `slice_pic_order_cnt_lsb`, 4 to 16.
    pub log2_max_pic_order_cnt_lsb: u8,
    /// `sps_max_num_reorder_pics` of the highest temporal layer, 0 to 16.
    pub reorder_picture_count_max: u8,
    /// `sps_max_dec_pic_buffering_minus1` + 1 of the highest temporal layer.
    pub dec_pic_buffering_max: u8,
    /// log2 of the coding tree block's side, 4 to 6.
    pub log2_ctb_size: u8,
    /// `sample_adaptive_offset_enabled_flag`.
    pub sample_adaptive_offset: bool,
    /// `st_ref_pic_set(i)` of the SPS, at most 64.
    pub short_term_ref_pic_sets: Vec<ShortTermRefPicSet>,
    /// `long_term_ref_pics_present_flag`.
    pub long_term_ref_pics_present: bool,
    /// `used_by_curr_pic_lt_sps_flag` of each long-term picture the SPS lists, at most 32.
    pub long_term_used_by_curr: Vec<bool>,
    /// `sps_temporal_mvp_enabled_flag`.
    pub temporal_mvp: bool,
    /// Sample aspect ratio; `None` when unspecified.
    pub sar: Option<SampleAspectRatio>,
    /// Colour description; `None` when the VUI has none.
    pub color: Option<ColorInfo>,
    /// `field_seq_flag`: every picture is a field.
    pub field_seq: bool,
    /// `frame_field_info_present_flag`: picture timing SEI carries `pic_struct`.
    pub frame_field_info_present: bool,
    /// From the VUI's timing information; counts frames also where pictures are fields.
    pub frame_rate: Option<FrameRate>,
    /// `min_spatial_segmentation_idc`, 0 when absent.
    pub min_spatial_segmentation: u16,
    /// `motion_vector_resolution_control_idc` of the screen content extension, 0 when absent.
    pub motion_vector_resolution_control: u8,
    /// `sps_curr_pic_ref_enabled_flag` of the screen content extension.
    pub curr_pic_ref: bool,
}

impl Sps {
    /// Reads a base-layer SPS NAL unit, header included.
    pub fn parse(nal: &[u8]) -> Result<Self, CodecError> {
        let what = "hevc sps";
        let rbsp = parameter_set(nal, NalType::SPS, what)?;
        let mut reader = BitReader::new(&rbsp, what);
        let vps_id = reader.read_u8(4)?;
        let sub_layers_minus1 = read_sub_layers_minus1(&mut reader)?;
        let temporal_id_nesting = reader.flag()?;
        let profile = ProfileTierLevel::read(&mut reader, sub_layers_minus1)?;
        let id = reader.ue_max("sps_seq_parameter_set_id", 15)? as u8;
        let chroma_format = reader.ue_max("chroma_format_idc", 3)? as u8;
        let separate_colour_plane = chroma_format == 3 && reader.flag()?;
        let coded_width = read_side(&mut reader, "pic_width_in_luma_samples")?;
        let coded_height = read_side(&mut reader, "pic_height_in_luma_samples")?;
        let (mut width, mut height) = (coded_width, coded_height);
        if reader.flag()? {
            let unit_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
            let unit_y = if chroma_format == 1 { 2 } else { 1 };
            width = crop(&mut reader, width, unit_x)?;
            height = crop(&mut reader, height, unit_y)?;
        }
        let bit_depth_luma = reader.ue_max("bit_depth_luma_minus8", 8)? as u8 + 8;
        let bit_depth_chroma = reader.ue_max("bit_depth_chroma_minus8", 8)? as u8 + 8;
        let log2_max_pic_order_cnt_lsb = reader.ue_max("log2_max_pic_order_cnt_lsb_minus4", 12)? as u8 + 4;
        let first_layer = if reader.flag()? { 0 } else { sub_layers_minus1 };
        let (mut dec_pic_buffering_max, mut reorder_picture_count_max) = (1, 0);
        for _ in first_layer..=sub_layers_minus1 {
            dec_pic_buffering_max = reader.ue_max("sps_max_dec_pic_buffering_minus1", 15)? as u8 + 1;
            reorder_picture_count_max = reader.ue_max("sps_max_num_reorder_pics", 15)? as u8;
            reader.ue()?; // sps_max_latency_increase_plus1
        }
        let log2_min_cb_size = reader.ue_max("log2_min_luma_coding_block_size_minus3", 3)? as u8 + 3;
        let log2_ctb_size = log2_min_cb_size + reader.ue_max("log2_diff_max_min_luma_coding_block_size", 3)? as u8;
        if !(4..=6).contains(&log2_ctb_size) {
            return Err(reader.invalid("CtbLog2SizeY", u64::from(log2_ctb_size)));
        }
        for _ in 0..4 {
            reader.ue()?; // two transform block sizes, two hierarchy depths
        }
        if reader.flag()? && reader.flag()? {
            skip_scaling_list_data(&mut reader)?;
        }
        reader.skip(1)?; // amp_enabled_flag
        let sample_adaptive_offset = reader.flag()?;
        if reader.flag()? {
            reader.skip(8)?; // PCM bit depths
            reader.ue()?; // log2_min_pcm_luma_coding_block_size_minus3
            reader.ue()?; // log2_diff_max_min_pcm_luma_coding_block_size
            reader.skip(1)?; // pcm_loop_filter_disabled_flag
        }
        let set_count = reader.ue_max("num_short_term_ref_pic_sets", 64)?;
        let mut short_term_ref_pic_sets = Vec::new();
        for _ in 0..set_count {
            let set = ShortTermRefPicSet::read_in_sps(&mut reader, &short_term_ref_pic_sets)?;
            short_term_ref_pic_sets.push(set);
        }
        let long_term_ref_pics_present = reader.flag()?;
        let mut long_term_used_by_curr = Vec::new();
        if long_term_ref_pics_present {
            for _ in 0..reader.ue_max("num_long_term_ref_pics_sps", 32)? {
                reader.skip(u64::from(log2_max_pic_order_cnt_lsb))?; // lt_ref_pic_poc_lsb_sps
                long_term_used_by_curr.push(reader.flag()?);
            }
        }
        let temporal_mvp = reader.flag()?;
        reader.skip(1)?; // strong_intra_smoothing_enabled_flag
        let mut sps = Sps {
            vps_id,
            id,
            temporal_layer_count: sub_layers_minus1 + 1,
            temporal_id_nesting,
            profile,
            chroma_format,
            separate_colour_plane,
            coded_width,
            coded_height,
            width,
            height,
            bit_depth_luma,
            bit_depth_chroma,
            log2_max_pic_order_cnt_lsb,
            reorder_picture_count_max,
            dec_pic_buffering_max,
            log2_ctb_size,
            sample_adaptive_offset,
            short_term_ref_pic_sets,
            long_term_ref_pics_present,
            long_term_used_by_curr,
            temporal_mvp,
            sar: None,
            color: None,
            field_seq: false,
            frame_field_info_present: false,
            frame_rate: None,
            min_spatial_segmentation: 0,
            motion_vector_resolution_control: 0,
            curr_pic_ref: false,
        };
        if reader.flag()? {
            sps.read_vui(&mut reader, sub_layers_minus1)?;
        }
        if reader.flag()? {
            sps.read_extensions(&mut reader)?;
        }
        Ok(sps)
    }

    fn read_vui(&mut self, reader: &mut BitReader<'_>, sub_layers_minus1: u8) -> Result<(), CodecError> {
        self.sar = SampleAspectRatio::read(reader)?;
        if reader.flag()? {
            reader.skip(1)?; // overscan_appropriate_flag
        }
        self.color = read_video_signal_type(reader)?;
        if reader.flag()? {
            reader.ue()?; // chroma_sample_loc_type_top_field
            reader.ue()?; // chroma_sample_loc_type_bottom_field
        }
        reader.skip(1)?; // neutral_chroma_indication_flag
        self.field_seq = reader.flag()?;
        self.frame_field_info_present = reader.flag()?;
        if reader.flag()? {
            for _ in 0..4 {
                reader.ue()?; // default display window: advice to the display, not the picture's size
            }
        }
        if reader.flag()? {
            let units_in_tick = reader.read_u64(32)?;
            let time_scale = reader.read_u64(32)?;
            if reader.flag()? {
                reader.ue()?; // vui_num_ticks_poc_diff_one_minus1
            }
            let fixed = reader.flag()? && read_hrd(reader, sub_layers_minus1)?;
            let pictures_per_frame = if self.field_seq { 2 } else { 1 };
            self.frame_rate = FrameRate::new(time_scale, units_in_tick * pictures_per_frame, fixed);
        }
        if reader.flag()? {
            reader.skip(3)?; // tiles fixed, vectors over boundaries, restricted lists
            self.min_spatial_segmentation = reader.ue_max("min_spatial_segmentation_idc", 4_095)? as u16;
            for _ in 0..4 {
                reader.ue()?; // bytes per picture, bits per unit, two vector lengths
            }
        }
        Ok(())
    }

    /// Of the extensions, only screen content coding changes slice headers of the base layer.
    fn read_extensions(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        let range = reader.flag()?;
        let multilayer = reader.flag()?;
        let three_d = reader.flag()?;
        let screen_content = reader.flag()?;
        reader.skip(4)?; // sps_extension_4bits
        if range {
            reader.skip(9)?;
        }
        if multilayer {
            reader.skip(1)?; // inter_view_mv_vert_constraint_flag
        }
        if three_d || !screen_content {
            // 3D extensions belong to layers above the base; nothing that follows is needed here.
            return Ok(());
        }
        self.curr_pic_ref = reader.flag()?;
        if reader.flag()? {
            reader.ue()?; // palette_max_size
            reader.ue()?; // delta_palette_max_predictor_size
            if reader.flag()? {
                let count = u64::from(reader.ue_max("sps_num_palette_predictor_initializers_minus1", 4_095)?) + 1;
                let chroma_components = if self.chroma_format == 0 { 0 } else { 2 };
                let bits = u64::from(self.bit_depth_luma) + chroma_components * u64::from(self.bit_depth_chroma);
                reader.skip(count * bits)?;
            }
        }
        self.motion_vector_resolution_control = reader.read_u8(2)?;
        Ok(())
    }

    /// `ChromaArrayType`: 0 also when the colour planes are coded separately.
    #[must_use]
    pub fn chroma_array_type(&self) -> u8 {
        if self.separate_colour_plane {
            0
        } else {
            self.chroma_format
        }
    }

    /// `PicSizeInCtbsY`; slice addresses take `Ceil(Log2())` bits of it.
    #[must_use]
    pub fn picture_size_ctbs(&self) -> u32 {
        let ctb_size = 1_u32 << self.log2_ctb_size;
        self.coded_width.div_ceil(ctb_size) * self.coded_height.div_ceil(ctb_size)
    }
}

fn read_sub_layers_minus1(reader: &mut BitReader<'_>) -> Result<u8, CodecError> {
    match reader.read_u8(3)? {
        7 => Err(reader.invalid("max_sub_layers_minus1", 7)),
        count => Ok(count),
    }
}

fn read_side(reader: &mut BitReader<'_>, field: &'static str) -> Result<u32, CodecError> {
    match reader.ue_max(field, SIDE_SAMPLES_MAX)? {
        0 => Err(reader.invalid(field, 0)),
        side => Ok(side),
    }
}

/// What is left of `size` after the two window offsets, which count in `unit` samples.
fn crop(reader: &mut BitReader<'_>, size: u32, unit: u32) -> Result<u32, CodecError> {
    let offsets = u64::from(reader.ue()?) + u64::from(reader.ue()?);
    let cropped = u64::from(size).checked_sub(offsets.saturating_mul(u64::from(unit)));
    cropped
        .filter(|&left| left > 0)
        .and_then(|left| u32::try_from(left).ok())
        .ok_or_else(|| reader.invalid("conf_win offset", offsets))
}

/// `scaling_list_data()` (7.3.4).
pub(super) fn skip_scaling_list_data(reader: &mut BitReader<'_>) -> Result<(), CodecError> {
    for size_id in 0..4 {
        let matrices = if size_id == 3 { 2 } else { 6 };
        for _ in 0..matrices {
            if !reader.flag()? {
                reader.ue()?; // scaling_list_pred_matrix_id_delta
                continue;
            }
            if size_id > 1 {
                reader.se()?; // scaling_list_dc_coef_minus8
            }
            for _ in 0..if size_id == 0 { 16 } else { 64 } {
                reader.se()?; // scaling_list_delta_coef
            }
        }
    }
    Ok(())
}

/// `hrd_parameters(1, sub_layers_minus1)` (E.2.2); returns `fixed_pic_rate_within_cvs_flag` of the highest layer.
fn read_hrd(reader: &mut BitReader<'_>, sub_layers_minus1: u8) -> Result<bool, CodecError> {
    let nal = reader.flag()?;
    let vcl = reader.flag()?;
    let mut sub_pic = false;
    if nal || vcl {
        sub_pic = reader.flag()?;
        if sub_pic {
            reader.skip(19)?; // tick divisor, increment length, SEI flag, output delay length
        }
        reader.skip(8)?; // bit_rate_scale, cpb_size_scale
        if sub_pic {
            reader.skip(4)?; // cpb_size_du_scale
        }
        reader.skip(15)?; // three delay lengths
    }
    let mut fixed = false;
    for _ in 0..=sub_layers_minus1 {
        fixed = reader.flag()? || reader.flag()?;
        let low_delay = if fixed {
            reader.ue()?; // elemental_duration_in_tc_minus1
            false
        } else {
            reader.flag()?
        };
        let cpb_count = if low_delay {
            1
        } else {
            reader.ue_max("cpb_cnt_minus1", 31)? + 1
        };
        for _ in 0..cpb_count * (u32::from(nal) + u32::from(vcl)) {
            for _ in 0..if sub_pic { 4 } else { 2 } {
                reader.ue()?; // bit rate and buffer size, again per decoding unit
            }
            reader.skip(1)?; // cbr_flag
        }
    }
    Ok(fixed)
}
