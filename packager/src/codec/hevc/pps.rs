//! Picture parameter set of HEVC (ISO/IEC 23008-2 7.3.2.3): what slice headers depend on.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::sps::skip_scaling_list_data;
use super::{NalType, parameter_set};
use crate::codec::CodecError;
use crate::codec::bits::BitReader;

/// Picture parameter set of the base layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pps {
    /// `pps_pic_parameter_set_id`, 0 to 63.
    pub id: u8,
    /// `pps_seq_parameter_set_id`, 0 to 15.
    pub sps_id: u8,
    /// `dependent_slice_segments_enabled_flag`.
    pub dependent_slice_segments: bool,
    /// `output_flag_present_flag`.
    pub output_flag_present: bool,
    /// `num_extra_slice_header_bits`, 0 to 7.
    pub extra_slice_header_bits: u8,
    /// `cabac_init_present_flag`.
    pub cabac_init_present: bool,
    /// Default number of reference pictures in list 0, 1 to 15.
    pub ref_idx_l0_default_count: u8,
    /// Default number of reference pictures in list 1, 1 to 15.
    pub ref_idx_l1_default_count: u8,
    /// `pps_slice_chroma_qp_offsets_present_flag`.
    pub slice_chroma_qp_offsets_present: bool,
    /// `weighted_pred_flag`.
    pub weighted_pred: bool,
    /// `weighted_bipred_flag`.
    pub weighted_bipred: bool,
    /// `tiles_enabled_flag`.
    pub tiles: bool,
    /// `entropy_coding_sync_enabled_flag`: wavefront.
    pub entropy_coding_sync: bool,
    /// `pps_loop_filter_across_slices_enabled_flag`.
    pub loop_filter_across_slices: bool,
    /// `deblocking_filter_override_enabled_flag`.
    pub deblocking_override: bool,
    /// `pps_deblocking_filter_disabled_flag`.
    pub deblocking_disabled: bool,
    /// `lists_modification_present_flag`.
    pub lists_modification_present: bool,
    /// `slice_segment_header_extension_present_flag`.
    pub slice_header_extension_present: bool,
    /// `chroma_qp_offset_list_enabled_flag` of the range extension.
    pub chroma_qp_offset_list: bool,
    /// `pps_curr_pic_ref_enabled_flag` of the screen content extension.
    pub curr_pic_ref: bool,
    /// `pps_slice_act_qp_offsets_present_flag` of the screen content extension.
    pub slice_act_qp_offsets_present: bool,
}

impl Pps {
    /// Reads a base-layer PPS NAL unit, header included.
    pub fn parse(nal: &[u8]) -> Result<Self, CodecError> {
        let what = "hevc pps";
        let rbsp = parameter_set(nal, NalType::PPS, what)?;
        let mut reader = BitReader::new(&rbsp, what);
        let id = reader.ue_max("pps_pic_parameter_set_id", 63)? as u8;
        let sps_id = reader.ue_max("pps_seq_parameter_set_id", 15)? as u8;
        let dependent_slice_segments = reader.flag()?;
        let output_flag_present = reader.flag()?;
        let extra_slice_header_bits = reader.read_u8(3)?;
        reader.skip(1)?; // sign_data_hiding_enabled_flag
        let cabac_init_present = reader.flag()?;
        let ref_idx_l0_default_count = reader.ue_max("num_ref_idx_l0_default_active_minus1", 14)? as u8 + 1;
        let ref_idx_l1_default_count = reader.ue_max("num_ref_idx_l1_default_active_minus1", 14)? as u8 + 1;
        reader.se()?; // init_qp_minus26
        reader.skip(1)?; // constrained_intra_pred_flag
        let transform_skip = reader.flag()?;
        if reader.flag()? {
            reader.ue()?; // diff_cu_qp_delta_depth
        }
        reader.se()?; // pps_cb_qp_offset
        reader.se()?; // pps_cr_qp_offset
        let slice_chroma_qp_offsets_present = reader.flag()?;
        let weighted_pred = reader.flag()?;
        let weighted_bipred = reader.flag()?;
        reader.skip(1)?; // transquant_bypass_enabled_flag
        let tiles = reader.flag()?;
        let entropy_coding_sync = reader.flag()?;
        if tiles {
            read_tiles(&mut reader)?;
        }
        let loop_filter_across_slices = reader.flag()?;
        let (mut deblocking_override, mut deblocking_disabled) = (false, false);
        if reader.flag()? {
            deblocking_override = reader.flag()?;
            deblocking_disabled = reader.flag()?;
            if !deblocking_disabled {
                reader.se()?; // pps_beta_offset_div2
                reader.se()?; // pps_tc_offset_div2
            }
        }
        if reader.flag()? {
            skip_scaling_list_data(&mut reader)?;
        }
        let lists_modification_present = reader.flag()?;
        reader.ue()?; // log2_parallel_merge_level_minus2
        let slice_header_extension_present = reader.flag()?;
        let mut pps = Pps {
            id,
            sps_id,
            dependent_slice_segments,
            output_flag_present,
            extra_slice_header_bits,
            cabac_init_present,
            ref_idx_l0_default_count,
            ref_idx_l1_default_count,
            slice_chroma_qp_offsets_present,
            weighted_pred,
            weighted_bipred,
            tiles,
            entropy_coding_sync,
            loop_filter_across_slices,
            deblocking_override,
            deblocking_disabled,
            lists_modification_present,
            slice_header_extension_present,
            chroma_qp_offset_list: false,
            curr_pic_ref: false,
            slice_act_qp_offsets_present: false,
        };
        if reader.flag()? {
            pps.read_extensions(&mut reader, transform_skip)?;
        }
        Ok(pps)
    }

    fn read_extensions(&mut self, reader: &mut BitReader<'_>, transform_skip: bool) -> Result<(), CodecError> {
        let range = reader.flag()?;
        let multilayer = reader.flag()?;
        let three_d = reader.flag()?;
        let screen_content = reader.flag()?;
        reader.skip(4)?; // pps_extension_4bits
        if range {
            if transform_skip {
                reader.ue()?; // log2_max_transform_skip_block_size_minus2
            }
            reader.skip(1)?; // cross_component_prediction_enabled_flag
            self.chroma_qp_offset_list = reader.flag()?;
            if self.chroma_qp_offset_list {
                reader.ue()?; // diff_cu_chroma_qp_offset_depth
                for _ in 0..=reader.ue_max("chroma_qp_offset_list_len_minus1", 5)? {
                    reader.se()?; // cb_qp_offset_list
                    reader.se()?; // cr_qp_offset_list
                }
            }
            reader.ue()?; // log2_sao_offset_scale_luma
            reader.ue()?; // log2_sao_offset_scale_chroma
        }
        if multilayer || three_d || !screen_content {
            // The first two belong to layers above the base; nothing that follows them is needed here.
            return Ok(());
        }
        self.curr_pic_ref = reader.flag()?;
        if reader.flag()? {
            self.slice_act_qp_offsets_present = reader.flag()?;
        }
        Ok(())
    }

    /// `parallelismType` of `hvcC` for pictures that use this set (ISO/IEC 14496-15 8.3.3.1.3).
    #[must_use]
    pub fn parallelism_type(&self) -> u8 {
        match (self.tiles, self.entropy_coding_sync) {
            (true, true) => 0,
            (false, true) => 3,
            (true, false) => 2,
            (false, false) => 1,
        }
    }
}

/// Passes over the tile grid. Table A.8 allows 20 columns and 22 rows at most; the fields' own bound is the picture.
fn read_tiles(reader: &mut BitReader<'_>) -> Result<(), CodecError> {
    let columns_minus1 = reader.ue_max("num_tile_columns_minus1", 4_095)?;
    let rows_minus1 = reader.ue_max("num_tile_rows_minus1", 4_095)?;
    if !reader.flag()? {
        for _ in 0..columns_minus1 + rows_minus1 {
            reader.ue()?; // column widths, row heights
        }
    }
    reader.skip(1)?; // loop_filter_across_tiles_enabled_flag
    Ok(())
}
