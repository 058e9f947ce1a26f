//! Slice segment header of HEVC (ISO/IEC 23008-2 7.3.6): read to its end, for what matters is where that is.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{NalType, Pps, ShortTermRefPicSet, Sps, layer_id};
use crate::codec::CodecError;
use crate::codec::bits::{BitReader, read_escaped};
use std::collections::BTreeMap;

const WHAT: &str = "hevc slice segment header";

/// `num_ref_idx_l0_active_minus1` and its sister are at most 14 (7.4.7.1).
const REF_IDX_MINUS1_MAX: u32 = 14;

/// More long-term pictures than the decoded picture buffer holds can not be named (7.4.7.1).
const LONG_TERM_COUNT_MAX: u32 = 32;

/// `num_entry_point_offsets` of a picture with the most tiles and rows that its 16 bits on a side allow: 20 columns of
/// tiles in level 6.2, each with its rows of 16 samples.
const ENTRY_POINT_COUNT_MAX: u32 = 20 * 4_096;

/// The base layer's parameter sets in force, by their ids: at most 16 and 64.
#[derive(Debug, Clone, Default)]
pub struct ParameterSets {
    sps: BTreeMap<u8, Sps>,
    pps: BTreeMap<u8, Pps>,
}

impl ParameterSets {
    /// Takes a base layer's sequence or picture parameter set NAL unit in, in place of an older one of its id; passes
    /// over all others.
    pub fn insert(&mut self, nal: &[u8]) -> Result<(), CodecError> {
        if layer_id(nal) != Some(0) {
            return Ok(());
        }
        match NalType::of(nal) {
            Some(NalType::SPS) => {
                let sps = Sps::parse(nal)?;
                self.sps.insert(sps.id, sps);
            }
            Some(NalType::PPS) => {
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

/// Header of a base layer's slice segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceSegmentHeader {
    /// `first_slice_segment_in_pic_flag`.
    pub first_in_picture: bool,
    /// `dependent_slice_segment_flag`: most fields are those of the slice segment before.
    pub dependent: bool,
    /// `slice_pic_parameter_set_id`.
    pub pps_id: u8,
    /// Bytes of the NAL unit up to the header's end, which is its `byte_alignment()`; NAL unit header and emulation
    /// prevention included.
    pub size_bytes: usize,
}

impl SliceSegmentHeader {
    /// Reads the header of a base layer's slice segment NAL unit (types 0 to 9 and 16 to 21).
    pub fn parse(nal: &[u8], sets: &ParameterSets) -> Result<Self, CodecError> {
        let (header, size_bytes) = read_escaped(nal, WHAT, |reader| Self::read(reader, sets))?;
        Ok(SliceSegmentHeader { size_bytes, ..header })
    }

    fn read(reader: &mut BitReader<'_>, sets: &ParameterSets) -> Result<Self, CodecError> {
        reader.skip(1)?; // forbidden_zero_bit
        let nal_type = NalType(reader.read_u8(6)?);
        if !matches!(nal_type.0, 0..=9 | 16..=21) {
            return Err(reader.invalid("nal_unit_type", u64::from(nal_type.0)));
        }
        let layer = reader.read(6)?;
        if layer != 0 {
            return Err(reader.invalid("nuh_layer_id", u64::from(layer)));
        }
        reader.skip(3)?; // nuh_temporal_id_plus1
        let first_in_picture = reader.flag()?;
        if nal_type.is_irap() {
            reader.skip(1)?; // no_output_of_prior_pics_flag
        }
        let pps_id = reader.ue_max("slice_pic_parameter_set_id", 63)? as u8;
        let (sps, pps) = sets.of_slice(pps_id)?;
        let mut dependent = false;
        if !first_in_picture {
            dependent = pps.dependent_slice_segments && reader.flag()?;
            reader.skip(ceil_log2(u64::from(sps.picture_size_ctbs())))?; // slice_segment_address
        }
        if !dependent {
            IndependentPart { sps, pps, nal_type }.skip(reader)?;
        }
        if pps.tiles || pps.entropy_coding_sync {
            skip_entry_points(reader)?;
        }
        if pps.slice_header_extension_present {
            let size_bytes = reader.ue_max("slice_segment_header_extension_length", 256)?;
            reader.skip(u64::from(size_bytes) * 8)?;
        }
        if !reader.flag()? {
            return Err(reader.invalid("alignment_bit_equal_to_one", 0));
        }
        reader.align()?;
        Ok(SliceSegmentHeader {
            first_in_picture,
            dependent,
            pps_id,
            size_bytes: 0,
        })
    }
}

/// Bits of a field that tells `count` values apart.
fn ceil_log2(count: u64) -> u64 {
    u64::from(u64::BITS - count.saturating_sub(1).leading_zeros())
}

fn skip_entry_points(reader: &mut BitReader<'_>) -> Result<(), CodecError> {
    let count = reader.ue_max("num_entry_point_offsets", ENTRY_POINT_COUNT_MAX)?;
    if count > 0 {
        let bits = u64::from(reader.ue_max("offset_len_minus1", 31)?) + 1;
        reader.skip(u64::from(count) * bits)?; // entry_point_offset_minus1
    }
    Ok(())
}

/// What a dependent slice segment takes over from the segment before: `slice_reserved_flag` to
/// `slice_loop_filter_across_slices_enabled_flag`.
struct IndependentPart<'a> {
    sps: &'a Sps,
    pps: &'a Pps,
    nal_type: NalType,
}

/// What the fields before a P or B slice's own say of references.
struct References {
    /// `NumPicTotalCurr` (7-55).
    current_count: usize,
    /// `slice_temporal_mvp_enabled_flag`.
    temporal_mvp: bool,
}

impl IndependentPart<'_> {
    fn skip(&self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        let (sps, pps) = (self.sps, self.pps);
        let chroma = sps.chroma_array_type() != 0;
        reader.skip(u64::from(pps.extra_slice_header_bits))?; // slice_reserved_flag
        let slice_type = reader.ue_max("slice_type", 2)?;
        if pps.output_flag_present {
            reader.skip(1)?; // pic_output_flag
        }
        if sps.separate_colour_plane {
            reader.skip(2)?; // colour_plane_id
        }
        let references = self.read_references(reader)?;
        let mut in_loop_filter = false;
        if sps.sample_adaptive_offset {
            in_loop_filter |= reader.flag()?; // slice_sao_luma_flag
            in_loop_filter |= chroma && reader.flag()?; // slice_sao_chroma_flag
        }
        match slice_type {
            0 => self.skip_prediction(reader, &references, true)?,
            1 => self.skip_prediction(reader, &references, false)?,
            _ => {}
        }
        reader.se()?; // slice_qp_delta
        if pps.slice_chroma_qp_offsets_present {
            reader.se()?; // slice_cb_qp_offset
            reader.se()?; // slice_cr_qp_offset
        }
        if pps.slice_act_qp_offsets_present {
            for _ in 0..3 {
                reader.se()?; // slice_act_y_qp_offset, then Cb and Cr
            }
        }
        if pps.chroma_qp_offset_list {
            reader.skip(1)?; // cu_chroma_qp_offset_enabled_flag
        }
        let mut deblocking_disabled = pps.deblocking_disabled;
        if pps.deblocking_override && reader.flag()? {
            deblocking_disabled = reader.flag()?;
            if !deblocking_disabled {
                reader.se()?; // slice_beta_offset_div2
                reader.se()?; // slice_tc_offset_div2
            }
        }
        in_loop_filter |= !deblocking_disabled;
        if pps.loop_filter_across_slices && in_loop_filter {
            reader.skip(1)?; // slice_loop_filter_across_slices_enabled_flag
        }
        Ok(())
    }

    /// From `slice_pic_order_cnt_lsb` to `slice_temporal_mvp_enabled_flag`.
    fn read_references(&self, reader: &mut BitReader<'_>) -> Result<References, CodecError> {
        let mut references = References {
            // The current picture may refer to itself.
            current_count: usize::from(self.pps.curr_pic_ref),
            temporal_mvp: false,
        };
        if self.nal_type.is_idr() {
            return Ok(references);
        }
        reader.skip(u64::from(self.sps.log2_max_pic_order_cnt_lsb))?; // slice_pic_order_cnt_lsb
        let sets = &self.sps.short_term_ref_pic_sets;
        references.current_count += if reader.flag()? {
            let index = reader.read(ceil_log2(sets.len() as u64) as u32)?;
            let set = sets.get(index as usize);
            let set = set.ok_or_else(|| reader.invalid("short_term_ref_pic_set_idx", u64::from(index)))?;
            set.used_count()
        } else {
            ShortTermRefPicSet::read_in_slice(reader, sets)?.used_count()
        };
        if self.sps.long_term_ref_pics_present {
            references.current_count += self.read_long_term(reader)?;
        }
        references.temporal_mvp = self.sps.temporal_mvp && reader.flag()?;
        Ok(references)
    }

    /// Long-term pictures that the current one may refer to.
    fn read_long_term(&self, reader: &mut BitReader<'_>) -> Result<usize, CodecError> {
        let listed = &self.sps.long_term_used_by_curr;
        let mut from_sps_count = 0;
        if !listed.is_empty() {
            from_sps_count = reader.ue_max("num_long_term_sps", listed.len() as u32)?;
        }
        let own_count = reader.ue_max("num_long_term_pics", LONG_TERM_COUNT_MAX)?;
        let mut used_count = 0;
        for position in 0..from_sps_count + own_count {
            let used = if position < from_sps_count {
                let index = reader.read(ceil_log2(listed.len() as u64) as u32)?;
                let used = listed.get(index as usize);
                *used.ok_or_else(|| reader.invalid("lt_idx_sps", u64::from(index)))?
            } else {
                reader.skip(u64::from(self.sps.log2_max_pic_order_cnt_lsb))?; // poc_lsb_lt
                reader.flag()?
            };
            used_count += usize::from(used);
            if reader.flag()? {
                reader.ue()?; // delta_poc_msb_cycle_lt
            }
        }
        Ok(used_count)
    }

    /// What only P and B slices have.
    fn skip_prediction(
        &self,
        reader: &mut BitReader<'_>,
        references: &References,
        bipredicted: bool,
    ) -> Result<(), CodecError> {
        let (sps, pps) = (self.sps, self.pps);
        let list_count = if bipredicted { 2 } else { 1 };
        let mut counts = [pps.ref_idx_l0_default_count, pps.ref_idx_l1_default_count];
        if reader.flag()? {
            for count in counts.iter_mut().take(list_count) {
                *count = reader.ue_max("num_ref_idx_active_minus1", REF_IDX_MINUS1_MAX)? as u8 + 1;
            }
        }
        let mut lists = Vec::with_capacity(list_count);
        for (list, count) in counts.into_iter().take(list_count).enumerate() {
            lists.push(self.read_list(reader, references.current_count, count, list == 0)?);
        }
        if bipredicted {
            reader.skip(1)?; // mvd_l1_zero_flag
        }
        if pps.cabac_init_present {
            reader.skip(1)?; // cabac_init_flag
        }
        if references.temporal_mvp {
            // collocated_from_l0_flag is inferred to be one.
            let from_l0 = !bipredicted || reader.flag()?;
            let [l0_count, l1_count] = counts;
            if if from_l0 { l0_count } else { l1_count } > 1 {
                reader.ue()?; // collocated_ref_idx
            }
        }
        if if bipredicted {
            pps.weighted_bipred
        } else {
            pps.weighted_pred
        } {
            let chroma = sps.chroma_array_type() != 0;
            reader.ue()?; // luma_log2_weight_denom
            if chroma {
                reader.se()?; // delta_chroma_log2_weight_denom
            }
            for list in &lists {
                skip_weights(reader, list, chroma)?;
            }
        }
        reader.ue()?; // five_minus_max_num_merge_cand
        if sps.motion_vector_resolution_control == 2 {
            reader.skip(1)?; // use_integer_mv_flag
        }
        Ok(())
    }

    /// One list's part of `ref_pic_lists_modification()` (7.3.6.2). Says for each entry whether it is another picture than
    /// the current one, for those alone have weights; the current one is the last of the initial list's pictures (8.3.4).
    fn read_list(
        &self,
        reader: &mut BitReader<'_>,
        current_count: usize,
        count: u8,
        first_list: bool,
    ) -> Result<Vec<bool>, CodecError> {
        let count = usize::from(count);
        let modified = self.pps.lists_modification_present && current_count > 1 && reader.flag()?;
        let mut entries: Vec<usize> = (0..count).collect();
        if modified {
            for entry in &mut entries {
                *entry = reader.read(ceil_log2(current_count as u64) as u32)? as usize; // list_entry
            }
        }
        let is_current = |entry: usize| entry.checked_rem(current_count) == current_count.checked_sub(1);
        let mut others: Vec<bool> = entries
            .into_iter()
            .map(|entry| !(self.pps.curr_pic_ref && is_current(entry)))
            .collect();
        if self.pps.curr_pic_ref && first_list && !modified && current_count > count {
            others.pop();
            others.push(false);
        }
        Ok(others)
    }
}

/// One list's part of `pred_weight_table()` (7.3.6.3).
fn skip_weights(reader: &mut BitReader<'_>, others: &[bool], chroma: bool) -> Result<(), CodecError> {
    let mut read_flags = |present: bool| -> Result<Vec<bool>, CodecError> {
        let flags = others.iter().map(|&other| Ok(present && other && reader.flag()?));
        flags.collect()
    };
    let luma_flags = read_flags(true)?;
    let chroma_flags = read_flags(chroma)?;
    for (luma, chroma) in luma_flags.into_iter().zip(chroma_flags) {
        let codes = if luma { 2 } else { 0 } + if chroma { 4 } else { 0 };
        for _ in 0..codes {
            reader.se()?; // weight and offset, of luma and of each chroma component
        }
    }
    Ok(())
}
