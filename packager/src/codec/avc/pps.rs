//! Picture parameter set of AVC (ISO/IEC 14496-10 7.3.2.2): what slice headers depend on.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::codec::CodecError;
use crate::codec::bits::{BitReader, unescape_rbsp};

/// Picture parameter set, as far as slice headers need it; what follows `redundant_pic_cnt_present_flag` is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pps {
    /// `pic_parameter_set_id`, 0 to 255.
    pub id: u8,
    /// `seq_parameter_set_id`, 0 to 31.
    pub sps_id: u8,
    /// `entropy_coding_mode_flag`: CABAC, else CAVLC.
    pub cabac: bool,
    /// `bottom_field_pic_order_in_frame_present_flag`.
    pub bottom_field_pic_order_present: bool,
    /// `num_slice_groups_minus1` + 1, 1 to 8.
    pub slice_group_count: u8,
    /// `slice_group_map_type`, 0 to 6; meaningful when there is more than one group.
    pub slice_group_map_type: u8,
    /// `slice_group_change_rate_minus1` + 1 of map types 3 to 5, else 0.
    pub slice_group_change_rate: u32,
    /// Default number of reference pictures in list 0, 1 to 32.
    pub ref_idx_l0_default_count: u8,
    /// Default number of reference pictures in list 1, 1 to 32.
    pub ref_idx_l1_default_count: u8,
    /// `weighted_pred_flag`.
    pub weighted_pred: bool,
    /// `weighted_bipred_idc`, 0 to 2.
    pub weighted_bipred_idc: u8,
    /// `deblocking_filter_control_present_flag`.
    pub deblocking_control_present: bool,
    /// `redundant_pic_cnt_present_flag`.
    pub redundant_pic_cnt_present: bool,
}

impl Pps {
    /// Reads a PPS NAL unit, header byte included.
    pub fn parse(nal: &[u8]) -> Result<Self, CodecError> {
        let rbsp = unescape_rbsp(nal);
        let mut reader = BitReader::new(&rbsp, "avc pps");
        let header = reader.read_u8(8)?;
        if header & 0x1f != 8 {
            return Err(reader.invalid("nal_unit_type", u64::from(header & 0x1f)));
        }
        let id = reader.ue_max("pic_parameter_set_id", 255)? as u8;
        let sps_id = reader.ue_max("seq_parameter_set_id", 31)? as u8;
        let cabac = reader.flag()?;
        let bottom_field_pic_order_present = reader.flag()?;
        let slice_group_count = reader.ue_max("num_slice_groups_minus1", 7)? as u8 + 1;
        let (mut slice_group_map_type, mut slice_group_change_rate) = (0, 0);
        if slice_group_count > 1 {
            slice_group_map_type = reader.ue_max("slice_group_map_type", 6)? as u8;
            slice_group_change_rate = read_slice_groups(&mut reader, slice_group_count, slice_group_map_type)?;
        }
        let ref_idx_l0_default_count = reader.ue_max("num_ref_idx_l0_default_active_minus1", 31)? as u8 + 1;
        let ref_idx_l1_default_count = reader.ue_max("num_ref_idx_l1_default_active_minus1", 31)? as u8 + 1;
        let weighted_pred = reader.flag()?;
        let weighted_bipred_idc = reader.read_u8(2)?;
        if weighted_bipred_idc > 2 {
            return Err(reader.invalid("weighted_bipred_idc", u64::from(weighted_bipred_idc)));
        }
        reader.se()?; // pic_init_qp_minus26
        reader.se()?; // pic_init_qs_minus26
        reader.se()?; // chroma_qp_index_offset
        Ok(Pps {
            id,
            sps_id,
            cabac,
            bottom_field_pic_order_present,
            slice_group_count,
            slice_group_map_type,
            slice_group_change_rate,
            ref_idx_l0_default_count,
            ref_idx_l1_default_count,
            weighted_pred,
            weighted_bipred_idc,
            deblocking_control_present: reader.flag()?,
            // constrained_intra_pred_flag stands between.
            redundant_pic_cnt_present: {
                reader.skip(1)?;
                reader.flag()?
            },
        })
    }
}

/// Passes over the map and returns `SliceGroupChangeRate`, 0 for types that have none.
fn read_slice_groups(reader: &mut BitReader<'_>, group_count: u8, map_type: u8) -> Result<u32, CodecError> {
    match map_type {
        0 => {
            for _ in 0..group_count {
                reader.ue()?; // run_length_minus1
            }
        }
        2 => {
            for _ in 1..group_count {
                reader.ue()?; // top_left
                reader.ue()?; // bottom_right
            }
        }
        3..=5 => {
            reader.skip(1)?; // slice_group_change_direction_flag
            let rate = reader.ue()?;
            return rate
                .checked_add(1)
                .ok_or_else(|| reader.invalid("slice_group_change_rate", u64::from(rate)));
        }
        6 => {
            let count = u64::from(reader.ue()?) + 1;
            // Ceil(Log2(group_count)) bits each.
            let bits = u64::from(u8::BITS - (group_count - 1).leading_zeros());
            reader.skip(count * bits)?;
        }
        _ => {}
    }
    Ok(0)
}
