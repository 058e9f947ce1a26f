//! Short-term reference picture sets of HEVC (ISO/IEC 23008-2 7.3.7 and 7.4.8).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::codec::CodecError;
use crate::codec::bits::BitReader;

/// Pictures a short-term set may name; `sps_max_dec_pic_buffering_minus1` never exceeds 15.
const PICTURES_MAX: u32 = 16;

/// `st_ref_pic_set()`, its predicted form resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShortTermRefPicSet {
    /// `DeltaPocS0` and `UsedByCurrPicS0`: pictures before, nearest first.
    pub negative: Vec<(i32, bool)>,
    /// `DeltaPocS1` and `UsedByCurrPicS1`: pictures after, nearest first.
    pub positive: Vec<(i32, bool)>,
}

impl ShortTermRefPicSet {
    /// Reads the set of index `sets.len()` of an SPS; only its predecessor may predict it.
    pub fn read_in_sps(reader: &mut BitReader<'_>, sets: &[ShortTermRefPicSet]) -> Result<Self, CodecError> {
        match sets.last() {
            Some(reference) if reader.flag()? => Self::read_predicted(reader, reference),
            _ => Self::read_explicit(reader),
        }
    }

    /// Reads the set that a slice header carries itself; any of the SPS's `sets` may predict it.
    pub fn read_in_slice(reader: &mut BitReader<'_>, sets: &[ShortTermRefPicSet]) -> Result<Self, CodecError> {
        if sets.is_empty() || !reader.flag()? {
            return Self::read_explicit(reader);
        }
        let back = reader.ue()?;
        let reference = sets.iter().rev().nth(back as usize);
        let reference = reference.ok_or_else(|| reader.invalid("delta_idx_minus1", u64::from(back)))?;
        Self::read_predicted(reader, reference)
    }

    fn read_explicit(reader: &mut BitReader<'_>) -> Result<Self, CodecError> {
        let negative_count = reader.ue_max("num_negative_pics", PICTURES_MAX)?;
        let positive_count = reader.ue_max("num_positive_pics", PICTURES_MAX - negative_count)?;
        let mut read_side = |count: u32, sign: i32| -> Result<Vec<(i32, bool)>, CodecError> {
            let mut delta = 0_i32;
            (0..count)
                .map(|_| {
                    delta += sign * (reader.ue_max("delta_poc_minus1", 0x7fff)? as i32 + 1);
                    Ok((delta, reader.flag()?))
                })
                .collect()
        };
        Ok(ShortTermRefPicSet {
            negative: read_side(negative_count, -1)?,
            positive: read_side(positive_count, 1)?,
        })
    }

    /// Inter prediction from `reference`, equations 7-61 and 7-62.
    fn read_predicted(reader: &mut BitReader<'_>, reference: &ShortTermRefPicSet) -> Result<Self, CodecError> {
        let sign = if reader.flag()? { -1 } else { 1 };
        let delta_rps = sign * (reader.ue_max("abs_delta_rps_minus1", 0x7fff)? as i32 + 1);
        // One pair of used_by_curr_pic_flag and use_delta_flag per picture of the reference set, in its order, and one
        // for the reference picture itself; what is not to be used drops out here.
        let mut read_entry = |delta: i32| -> Result<Option<(i32, bool)>, CodecError> {
            let used = reader.flag()?;
            Ok((used || reader.flag()?).then_some((delta + delta_rps, used)))
        };
        let mut read_side = |side: &[(i32, bool)]| -> Result<Vec<(i32, bool)>, CodecError> {
            side.iter()
                .filter_map(|&(delta, _)| read_entry(delta).transpose())
                .collect()
        };
        let negative = read_side(&reference.negative)?;
        let positive = read_side(&reference.positive)?;
        let own = read_entry(0)?;
        let before = positive.iter().rev().chain(&own).chain(&negative);
        let after = negative.iter().rev().chain(&own).chain(&positive);
        let set = ShortTermRefPicSet {
            negative: before.filter(|(delta, _)| *delta < 0).copied().collect(),
            positive: after.filter(|(delta, _)| *delta > 0).copied().collect(),
        };
        if set.picture_count() > PICTURES_MAX as usize {
            return Err(reader.invalid("NumDeltaPocs", set.picture_count() as u64));
        }
        Ok(set)
    }

    /// `NumDeltaPocs`.
    #[must_use]
    pub fn picture_count(&self) -> usize {
        self.negative.len() + self.positive.len()
    }

    /// Pictures of the set that the current picture may refer to; part of `NumPicTotalCurr`.
    #[must_use]
    pub fn used_count(&self) -> usize {
        self.negative
            .iter()
            .chain(&self.positive)
            .filter(|(_, used)| *used)
            .count()
    }
}
