//! Slice header of AVC (ISO/IEC 14496-10 7.3.3): read to its end, for what matters is where that is.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{NalType, PicOrderCnt, Pps, SliceType, Sps};
use crate::codec::CodecError;
use crate::codec::bits::{BitReader, read_escaped};
use std::collections::BTreeMap;

const WHAT: &str = "avc slice header";

/// References that one slice may have in a list: 16 frames or 32 fields (7.4.3).
const REF_IDX_COUNT_MAX: u32 = 32;

/// The parameter sets in force, by their ids: at most 32 and 256.
#[derive(Debug, Clone, Default)]
pub struct ParameterSets {
    sps: BTreeMap<u8, Sps>,
    pps: BTreeMap<u8, Pps>,
}

impl ParameterSets {
    /// Takes a sequence or picture parameter set NAL unit in, in place of an older one of its id; passes over all others.
    pub fn insert(&mut self, nal: &[u8]) -> Result<(), CodecError> {
        match NalType::of(nal) {
            Some(NalType::Sps) => {
                let sps = Sps::parse(nal)?;
                self.sps.insert(sps.id, sps);
            }
            Some(NalType::Pps) => {
                let pps = Pps::parse(nal)?;
                self.pps.insert(pps.id, pps);
            }
            _ => {}
        }
        Ok(())
    }

    fn of_slice(&self, pps_id: u8) -> Result<(&Sps, &Pps), CodecError> {
        let missing = |field| CodecError::Missing { what: WHAT, field };
        let pps = self.pps.get(&pps_id).ok_or(missing("its picture parameter set"))?;
        let sps = self.sps.get(&pps.sps_id).ok_or(missing("its sequence parameter set"))?;
        Ok((sps, pps))
    }
}

/// Slice header of a base view's slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceHeader {
    /// `first_mb_in_slice`.
    pub first_mb: u32,
    /// What the slice may refer to.
    pub slice_type: SliceType,
    /// `pic_parameter_set_id`.
    pub pps_id: u8,
    /// Bytes of the NAL unit up to the one with the header's last bit, NAL unit header and emulation prevention included.
    /// What CABAC aligns with belongs to the slice data, but to the same byte.
    pub size_bytes: usize,
}

impl SliceHeader {
    /// Reads the header of a slice NAL unit (types 1 and 5).
    pub fn parse(nal: &[u8], sets: &ParameterSets) -> Result<Self, CodecError> {
        let (header, size_bytes) = read_escaped(nal, WHAT, |reader| Self::read(reader, sets))?;
        Ok(SliceHeader { size_bytes, ..header })
    }

    fn read(reader: &mut BitReader<'_>, sets: &ParameterSets) -> Result<Self, CodecError> {
        reader.skip(1)?; // forbidden_zero_bit
        let reference = reader.read(2)? != 0;
        let idr = match reader.read(5)? {
            1 => false,
            5 => true,
            other => return Err(reader.invalid("nal_unit_type", u64::from(other))),
        };
        let first_mb = reader.ue()?;
        let slice_type = match reader.ue_max("slice_type", 9)? % 5 {
            0 => SliceType::P,
            1 => SliceType::B,
            2 => SliceType::I,
            3 => SliceType::Sp,
            _ => SliceType::Si,
        };
        let pps_id = reader.ue_max("pic_parameter_set_id", 255)? as u8;
        let (sps, pps) = sets.of_slice(pps_id)?;
        let header = SliceHeader {
            first_mb,
            slice_type,
            pps_id,
            size_bytes: 0,
        };
        if sps.separate_colour_plane {
            reader.skip(2)?; // colour_plane_id
        }
        reader.skip(u64::from(sps.log2_max_frame_num))?; // frame_num
        let field = !sps.frame_mbs_only && reader.flag()?;
        if field {
            reader.skip(1)?; // bottom_field_flag
        }
        if idr {
            reader.ue()?; // idr_pic_id
        }
        skip_pic_order_cnt(reader, sps, pps.bottom_field_pic_order_present && !field)?;
        if pps.redundant_pic_cnt_present {
            reader.ue()?; // redundant_pic_cnt
        }
        header.skip_prediction(reader, sps, pps)?;
        if reference {
            skip_dec_ref_pic_marking(reader, idr)?;
        }
        header.skip_coding(reader, sps, pps)?;
        Ok(header)
    }

    fn is_intra(&self) -> bool {
        matches!(self.slice_type, SliceType::I | SliceType::Si)
    }

    /// From `direct_spatial_mv_pred_flag` to `pred_weight_table()`.
    fn skip_prediction(&self, reader: &mut BitReader<'_>, sps: &Sps, pps: &Pps) -> Result<(), CodecError> {
        if self.is_intra() {
            return Ok(());
        }
        let bipredicted = self.slice_type == SliceType::B;
        if bipredicted {
            reader.skip(1)?; // direct_spatial_mv_pred_flag
        }
        let mut counts = [
            u32::from(pps.ref_idx_l0_default_count),
            u32::from(pps.ref_idx_l1_default_count),
        ];
        let list_count = if bipredicted { 2 } else { 1 };
        if reader.flag()? {
            for count in counts.iter_mut().take(list_count) {
                *count = reader.ue_max("num_ref_idx_active_minus1", REF_IDX_COUNT_MAX - 1)? + 1;
            }
        }
        for _ in 0..list_count {
            if reader.flag()? {
                skip_ref_pic_list_modification(reader)?;
            }
        }
        let weighted = match self.slice_type {
            SliceType::B => pps.weighted_bipred_idc == 1,
            _ => pps.weighted_pred,
        };
        if weighted {
            let chroma = sps.chroma_array_type() != 0;
            reader.ue()?; // luma_log2_weight_denom
            if chroma {
                reader.ue()?; // chroma_log2_weight_denom
            }
            for count in counts.into_iter().take(list_count) {
                skip_weights(reader, count, chroma)?;
            }
        }
        Ok(())
    }

    /// From `cabac_init_idc` to the end.
    fn skip_coding(&self, reader: &mut BitReader<'_>, sps: &Sps, pps: &Pps) -> Result<(), CodecError> {
        if pps.cabac && !self.is_intra() {
            reader.ue_max("cabac_init_idc", 2)?;
        }
        reader.se()?; // slice_qp_delta
        if self.slice_type == SliceType::Sp {
            reader.skip(1)?; // sp_for_switch_flag
        }
        if matches!(self.slice_type, SliceType::Sp | SliceType::Si) {
            reader.se()?; // slice_qs_delta
        }
        if pps.deblocking_control_present && reader.ue_max("disable_deblocking_filter_idc", 2)? != 1 {
            reader.se()?; // slice_alpha_c0_offset_div2
            reader.se()?; // slice_beta_offset_div2
        }
        if pps.slice_group_count > 1 && matches!(pps.slice_group_map_type, 3..=5) {
            reader.skip(slice_group_change_cycle_bits(sps, pps))?;
        }
        Ok(())
    }
}

fn skip_pic_order_cnt(reader: &mut BitReader<'_>, sps: &Sps, bottom_present: bool) -> Result<(), CodecError> {
    match sps.pic_order_cnt {
        PicOrderCnt::Lsb { log2_max } => {
            reader.skip(u64::from(log2_max))?; // pic_order_cnt_lsb
            if bottom_present {
                reader.se()?; // delta_pic_order_cnt_bottom
            }
        }
        PicOrderCnt::Cycle {
            delta_always_zero: false,
        } => {
            reader.se()?; // delta_pic_order_cnt[0]
            if bottom_present {
                reader.se()?; // delta_pic_order_cnt[1]
            }
        }
        PicOrderCnt::Cycle { .. } | PicOrderCnt::DecodingOrder => {}
    }
    Ok(())
}

/// One list's part of `ref_pic_list_modification()` (7.3.3.1), its flag read.
fn skip_ref_pic_list_modification(reader: &mut BitReader<'_>) -> Result<(), CodecError> {
    // There is at most one modification for each entry of the list, then the end.
    for _ in 0..=REF_IDX_COUNT_MAX {
        if reader.ue_max("modification_of_pic_nums_idc", 3)? == 3 {
            return Ok(());
        }
        reader.ue()?; // abs_diff_pic_num_minus1 or long_term_pic_num
    }
    Err(reader.invalid("modification_of_pic_nums_idc count", u64::from(REF_IDX_COUNT_MAX) + 1))
}

/// One list's part of `pred_weight_table()` (7.3.3.2).
fn skip_weights(reader: &mut BitReader<'_>, count: u32, chroma: bool) -> Result<(), CodecError> {
    for _ in 0..count {
        if reader.flag()? {
            reader.se()?; // luma_weight
            reader.se()?; // luma_offset
        }
        if chroma && reader.flag()? {
            for _ in 0..4 {
                reader.se()?; // chroma_weight and chroma_offset of Cb and Cr
            }
        }
    }
    Ok(())
}

/// `dec_ref_pic_marking()` (7.3.3.3).
fn skip_dec_ref_pic_marking(reader: &mut BitReader<'_>, idr: bool) -> Result<(), CodecError> {
    if idr {
        return reader.skip(2); // no_output_of_prior_pics_flag, long_term_reference_flag
    }
    if !reader.flag()? {
        return Ok(());
    }
    // Each round takes at least a bit.
    loop {
        match reader.ue_max("memory_management_control_operation", 6)? {
            0 => return Ok(()),
            3 => {
                reader.ue()?; // difference_of_pic_nums_minus1
                reader.ue()?; // long_term_frame_idx
            }
            5 => {}
            _ => {
                reader.ue()?; // a picture number, a frame index or their maximum
            }
        }
    }
}

/// `Ceil(Log2(PicSizeInMapUnits / SliceGroupChangeRate + 1))`, the division exact (7.4.3).
fn slice_group_change_cycle_bits(sps: &Sps, pps: &Pps) -> u64 {
    let height_map_units = sps.height_mbs / if sps.frame_mbs_only { 1 } else { 2 };
    let map_units = u64::from(sps.width_mbs) * u64::from(height_map_units);
    let cycles = map_units.div_ceil(u64::from(pps.slice_group_change_rate.max(1)));
    // Values from 0 to `cycles`: the logarithm of one more, rounded up.
    u64::from(u64::BITS - cycles.leading_zeros())
}
