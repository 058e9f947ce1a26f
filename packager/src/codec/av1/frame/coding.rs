//! Second half of AV1 frame headers: from `quantization_params()` (5.9.12) to `film_grain_params()` (5.9.30).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::super::tile::read_ns;
use super::{FrameType, Reading};
use crate::codec::CodecError;
use crate::codec::bits::BitReader;

impl Reading<'_> {
    /// From `quantization_params()` to the end.
    pub(super) fn skip_coding(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        self.read_quantization(reader)?;
        self.read_segmentation(reader)?;
        let delta_q = self.base_q > 0 && reader.flag()?;
        if delta_q {
            reader.skip(2)?; // delta_q_res
            if !self.intra_block_copy && reader.flag()? {
                reader.skip(3)?; // delta_lf_res, delta_lf_multi
            }
        }
        let lossless = self.is_lossless();
        if !lossless && !self.intra_block_copy {
            self.skip_loop_filter(reader)?;
            self.skip_cdef(reader)?;
        }
        if !(self.intra_block_copy || lossless && self.width == self.upscaled_width) {
            self.skip_restoration(reader)?;
        }
        if !lossless {
            reader.skip(1)?; // tx_mode_select
        }
        if !self.is_intra() {
            self.reference_select = reader.flag()?;
            if self.skip_mode_allowed()? {
                reader.skip(1)?; // skip_mode_present
            }
            if !self.error_resilient && self.sequence.warped_motion {
                reader.skip(1)?; // allow_warped_motion
            }
        }
        reader.skip(1)?; // reduced_tx_set
        if !self.is_intra() {
            for _ in 0..self.chosen.len() {
                self.skip_global_motion(reader)?;
            }
        }
        self.skip_film_grain(reader)
    }

    fn read_quantization(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        self.base_q = reader.read(8)?;
        self.deltas_zero = read_delta_q(reader)?;
        if self.plane_count() > 1 {
            let differ = self.sequence.separate_uv_delta_q && reader.flag()?;
            for _ in 0..if differ { 4 } else { 2 } {
                self.deltas_zero &= read_delta_q(reader)?;
            }
        }
        if reader.flag()? {
            reader.skip(8)?; // qm_y, qm_u
            if self.sequence.separate_uv_delta_q {
                reader.skip(4)?; // qm_v
            }
        }
        Ok(())
    }

    fn read_segmentation(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        if !reader.flag()? {
            return Ok(());
        }
        let mut update_data = true;
        if let Some(primary) = self.primary {
            if reader.flag()? {
                reader.skip(1)?; // segmentation_temporal_update
            }
            update_data = reader.flag()?;
            if !update_data {
                let index = self.chosen.get(usize::from(primary)).copied().unwrap_or(0);
                self.segments = self.reference(index)?.segments;
            }
        }
        if !update_data {
            return Ok(());
        }
        for segment in &mut self.segments {
            *segment = None;
            if reader.flag()? {
                // Nine bits in two's complement.
                let value = reader.read(9)? as i32;
                *segment = Some(if value >= 256 { value - 512 } else { value });
            }
            // The filter levels, the reference frame, and two features that are flags alone.
            for bits in [7, 7, 7, 7, 3, 0, 0] {
                if reader.flag()? {
                    reader.skip(bits)?;
                }
            }
        }
        Ok(())
    }

    /// `CodedLossless`.
    fn is_lossless(&self) -> bool {
        let base = self.base_q as i32;
        let lossless = |segment: &Option<i32>| base + segment.unwrap_or(0) <= 0;
        self.deltas_zero && self.segments.iter().all(lossless)
    }

    fn skip_loop_filter(&self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        let levels = reader.read(12)?; // loop_filter_level[0] and [1]
        if self.plane_count() > 1 && levels != 0 {
            reader.skip(12)?; // loop_filter_level[2] and [3]
        }
        reader.skip(3)?; // loop_filter_sharpness
        if reader.flag()? && reader.flag()? {
            for _ in 0..10 {
                if reader.flag()? {
                    reader.skip(7)?; // loop_filter_ref_deltas, loop_filter_mode_deltas
                }
            }
        }
        Ok(())
    }

    fn skip_cdef(&self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        if !self.sequence.cdef {
            return Ok(());
        }
        reader.skip(2)?; // cdef_damping_minus_3
        let count = 1_u64 << reader.read(2)?;
        reader.skip(count * if self.plane_count() > 1 { 12 } else { 6 })
    }

    fn skip_restoration(&self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        if !self.sequence.restoration {
            return Ok(());
        }
        let (mut luma, mut chroma) = (false, false);
        for plane in 0..self.plane_count() {
            let restored = reader.read(2)? != 0; // lr_type
            luma |= restored;
            chroma |= restored && plane > 0;
        }
        if luma {
            // lr_unit_shift; small superblocks may add lr_unit_extra_shift.
            if reader.flag()? && !self.sequence.use_128x128_superblock {
                reader.skip(1)?;
            }
            if self.sequence.subsampling_x && self.sequence.subsampling_y && chroma {
                reader.skip(1)?; // lr_uv_shift
            }
        }
        Ok(())
    }

    /// `skipModeAllowed` (5.9.22): the nearest frames before and after, or the two nearest before.
    fn skip_mode_allowed(&self) -> Result<bool, CodecError> {
        if !self.reference_select || self.sequence.order_hint_bits == 0 {
            return Ok(false);
        }
        let mut hints = [0; 7];
        for (hint, index) in hints.iter_mut().zip(self.chosen) {
            *hint = self.reference(index)?.order_hint;
        }
        let before = |than: u32| {
            let earlier = hints.into_iter().filter(move |&hint| self.distance(hint, than) < 0);
            earlier.reduce(|best, hint| if self.distance(hint, best) > 0 { hint } else { best })
        };
        let Some(forward) = before(self.order_hint) else {
            return Ok(false);
        };
        let backward = hints.iter().any(|&hint| self.distance(hint, self.order_hint) > 0);
        Ok(backward || before(forward).is_some())
    }

    /// One reference's part of `global_motion_params()`; how many bits a parameter takes depends on no earlier one.
    fn skip_global_motion(&self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        if !reader.flag()? {
            return Ok(());
        }
        let rotation_zoom = reader.flag()?;
        let translation = !rotation_zoom && reader.flag()?;
        if !translation {
            for _ in 0..if rotation_zoom { 2 } else { 4 } {
                skip_subexp(reader, 12)?;
            }
        }
        let bits = match (translation, self.high_precision) {
            (false, _) => 12,
            (true, true) => 9,
            (true, false) => 8,
        };
        skip_subexp(reader, bits)?;
        skip_subexp(reader, bits)
    }

    fn skip_film_grain(&self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        let sequence = self.sequence;
        if !sequence.film_grain_params_present || !(self.show_frame || self.showable_frame) || !reader.flag()? {
            return Ok(());
        }
        reader.skip(16)?; // grain_seed
        if self.frame_type == FrameType::Inter && !reader.flag()? {
            return reader.skip(3); // film_grain_params_ref_idx
        }
        let luma_count = reader.read(4)?;
        reader.skip(u64::from(luma_count) * 16)?; // point_y_value, point_y_scaling
        let from_luma = !sequence.monochrome && reader.flag()?;
        let mut chroma_counts = [0_u32; 2];
        let halved = sequence.subsampling_x && sequence.subsampling_y;
        if !(sequence.monochrome || from_luma || halved && luma_count == 0) {
            for count in &mut chroma_counts {
                *count = reader.read(4)?;
                reader.skip(u64::from(*count) * 16)?; // point_cb_value, point_cb_scaling and their sisters
            }
        }
        reader.skip(2)?; // grain_scaling_minus_8
        let lag = u64::from(reader.read(2)?);
        let positions = 2 * lag * (lag + 1);
        let mut chroma_positions = positions;
        if luma_count > 0 {
            chroma_positions += 1;
            reader.skip(positions * 8)?; // ar_coeffs_y_plus_128
        }
        for count in chroma_counts {
            if from_luma || count > 0 {
                reader.skip(chroma_positions * 8)?; // ar_coeffs_cb_plus_128, ar_coeffs_cr_plus_128
            }
        }
        reader.skip(4)?; // ar_coeff_shift_minus_6, grain_scale_shift
        for count in chroma_counts {
            if count > 0 {
                reader.skip(25)?; // two multipliers and an offset
            }
        }
        reader.skip(2) // overlap_flag, clip_to_restricted_range
    }
}

/// `read_delta_q()`: whether it is zero.
fn read_delta_q(reader: &mut BitReader<'_>) -> Result<bool, CodecError> {
    Ok(!reader.flag()? || reader.read(7)? == 0)
}

/// `decode_subexp()` of a parameter between minus and plus two to the `bits`.
fn skip_subexp(reader: &mut BitReader<'_>, bits: u32) -> Result<(), CodecError> {
    let symbol_count = (2_u32 << bits) + 1;
    let (mut low, mut width) = (0_u32, 3_u32);
    let mut first = true;
    loop {
        let step = 1_u32 << width;
        if symbol_count <= low + 3 * step {
            read_ns(reader, symbol_count - low)?; // subexp_final_bits
            return Ok(());
        }
        if !reader.flag()? {
            return reader.skip(u64::from(width)); // subexp_bits
        }
        low += step;
        if !first {
            width += 1;
        }
        first = false;
    }
}
