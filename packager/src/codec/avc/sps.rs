//! Sequence parameter set of AVC (ISO/IEC 14496-10 7.3.2.1.1, VUI in E.1.1).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::codec::bits::{BitReader, unescape_rbsp};
use crate::codec::vui::{FrameRate, SampleAspectRatio, read_video_signal_type};
use crate::codec::{CodecError, ColorInfo};

/// 65,536 luma samples: no level allows a fifth of it, and products of two sides stay within 32 bits.
const SIDE_MBS_MAX: u32 = 4_096;

/// Sequence parameter set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sps {
    /// `profile_idc`.
    pub profile: u8,
    /// `constraint_set0_flag` (most significant bit) to `constraint_set5_flag` and two reserved bits.
    pub constraints: u8,
    /// `level_idc`: ten times the level; 11 with `constraint_set3_flag` may mean 1b.
    pub level: u8,
    /// `seq_parameter_set_id`, 0 to 31.
    pub id: u8,
    /// `chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// `separate_colour_plane_flag`.
    pub separate_colour_plane: bool,
    /// Bits per luma sample, 8 to 14.
    pub bit_depth_luma: u8,
    /// Bits per chroma sample, 8 to 14.
    pub bit_depth_chroma: u8,
    /// Bits of `frame_num` in slice headers, 4 to 16.
    pub log2_max_frame_num: u8,
    /// Picture order count type and what it adds to slice headers.
    pub pic_order_cnt: PicOrderCnt,
    /// `max_num_ref_frames`.
    pub ref_frame_count_max: u32,
    /// Coded width in macroblocks.
    pub width_mbs: u32,
    /// Coded height of a frame in macroblocks (field pairs counted whole).
    pub height_mbs: u32,
    /// `frame_mbs_only_flag`: no field or MBAFF coding.
    pub frame_mbs_only: bool,
    /// Luma samples per row after cropping.
    pub width: u32,
    /// Luma rows per frame after cropping.
    pub height: u32,
    /// Sample aspect ratio; `None` when unspecified.
    pub sar: Option<SampleAspectRatio>,
    /// Colour description; `None` when the VUI has none.
    pub color: Option<ColorInfo>,
    /// From the VUI's timing information: `time_scale / (2 * num_units_in_tick)`.
    pub frame_rate: Option<FrameRate>,
    /// `pic_struct_present_flag`: picture timing SEI tells fields from frames.
    pub pic_struct_present: bool,
    /// Hypothetical reference decoder parameters are present, and so removal delays in picture timing SEI.
    pub hrd_delay_bits: Option<HrdDelayBits>,
    /// `max_num_reorder_frames`; `None` when the VUI does not restrict it.
    pub reorder_frame_count_max: Option<u8>,
}

/// Field sizes in picture timing SEI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HrdDelayBits {
    /// Bits of `cpb_removal_delay`, 1 to 32.
    pub cpb_removal: u8,
    /// Bits of `dpb_output_delay`, 1 to 32.
    pub dpb_output: u8,
}

/// `pic_order_cnt_type` and its slice header fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PicOrderCnt {
    /// Type 0: slices carry `pic_order_cnt_lsb` of this many bits (4 to 16).
    Lsb {
        /// `log2_max_pic_order_cnt_lsb`.
        log2_max: u8,
    },
    /// Type 1: slices carry deltas unless the flag says they are always zero.
    Cycle {
        /// `delta_pic_order_always_zero_flag`.
        delta_always_zero: bool,
    },
    /// Type 2: output order is decoding order.
    DecodingOrder,
}

impl Sps {
    /// Reads an SPS NAL unit, header byte included.
    pub fn parse(nal: &[u8]) -> Result<Self, CodecError> {
        let rbsp = unescape_rbsp(nal);
        let mut reader = BitReader::new(&rbsp, "avc sps");
        let header = reader.read_u8(8)?;
        if !matches!(header & 0x1f, 7 | 15) {
            return Err(reader.invalid("nal_unit_type", u64::from(header & 0x1f)));
        }
        let profile = reader.read_u8(8)?;
        let constraints = reader.read_u8(8)?;
        let level = reader.read_u8(8)?;
        let id = reader.ue_max("seq_parameter_set_id", 31)? as u8;
        let mut chroma_format = 1;
        let mut separate_colour_plane = false;
        let (mut bit_depth_luma, mut bit_depth_chroma) = (8, 8);
        if matches!(
            profile,
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
        ) {
            chroma_format = reader.ue_max("chroma_format_idc", 3)? as u8;
            if chroma_format == 3 {
                separate_colour_plane = reader.flag()?;
            }
            bit_depth_luma = reader.ue_max("bit_depth_luma_minus8", 6)? as u8 + 8;
            bit_depth_chroma = reader.ue_max("bit_depth_chroma_minus8", 6)? as u8 + 8;
            reader.skip(1)?; // qpprime_y_zero_transform_bypass_flag
            if reader.flag()? {
                let lists = if chroma_format == 3 { 12 } else { 8 };
                skip_scaling_lists(&mut reader, lists)?;
            }
        }
        let log2_max_frame_num = reader.ue_max("log2_max_frame_num_minus4", 12)? as u8 + 4;
        let pic_order_cnt = read_pic_order_cnt(&mut reader)?;
        let ref_frame_count_max = reader.ue()?;
        reader.skip(1)?; // gaps_in_frame_num_value_allowed_flag
        let width_mbs = reader.ue_max("pic_width_in_mbs_minus1", SIDE_MBS_MAX - 1)? + 1;
        let height_map_units = reader.ue_max("pic_height_in_map_units_minus1", SIDE_MBS_MAX - 1)? + 1;
        let frame_mbs_only = reader.flag()?;
        if !frame_mbs_only {
            reader.skip(1)?; // mb_adaptive_frame_field_flag
        }
        reader.skip(1)?; // direct_8x8_inference_flag
        let height_mbs = height_map_units * if frame_mbs_only { 1 } else { 2 };
        let chroma_array_type = if separate_colour_plane { 0 } else { chroma_format };
        let unit_x = if matches!(chroma_array_type, 1 | 2) { 2 } else { 1 };
        let unit_y = if chroma_array_type == 1 { 2 } else { 1 } * if frame_mbs_only { 1 } else { 2 };
        let (mut width, mut height) = (width_mbs * 16, height_mbs * 16);
        if reader.flag()? {
            width = crop(&mut reader, width, unit_x)?;
            height = crop(&mut reader, height, unit_y)?;
        }
        let mut sps = Sps {
            profile,
            constraints,
            level,
            id,
            chroma_format,
            separate_colour_plane,
            bit_depth_luma,
            bit_depth_chroma,
            log2_max_frame_num,
            pic_order_cnt,
            ref_frame_count_max,
            width_mbs,
            height_mbs,
            frame_mbs_only,
            width,
            height,
            sar: None,
            color: None,
            frame_rate: None,
            pic_struct_present: false,
            hrd_delay_bits: None,
            reorder_frame_count_max: None,
        };
        if reader.flag()? {
            sps.read_vui(&mut reader)?;
        }
        Ok(sps)
    }

    fn read_vui(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        self.sar = SampleAspectRatio::read(reader)?;
        if reader.flag()? {
            reader.skip(1)?; // overscan_appropriate_flag
        }
        self.color = read_video_signal_type(reader)?;
        if reader.flag()? {
            reader.ue()?; // chroma_sample_loc_type_top_field
            reader.ue()?; // chroma_sample_loc_type_bottom_field
        }
        if reader.flag()? {
            let units_in_tick = reader.read_u64(32)?;
            let time_scale = reader.read_u64(32)?;
            // A tick is a field's time, also in progressive streams.
            self.frame_rate = FrameRate::new(time_scale, 2 * units_in_tick, reader.flag()?);
        }
        let nal_hrd = if reader.flag()? { Some(read_hrd(reader)?) } else { None };
        let vcl_hrd = if reader.flag()? { Some(read_hrd(reader)?) } else { None };
        self.hrd_delay_bits = nal_hrd.or(vcl_hrd);
        if self.hrd_delay_bits.is_some() {
            reader.skip(1)?; // low_delay_hrd_flag
        }
        self.pic_struct_present = reader.flag()?;
        if reader.flag()? {
            reader.skip(1)?; // motion_vectors_over_pic_boundaries_flag
            for _ in 0..4 {
                reader.ue()?; // bytes per picture, bits per macroblock, two vector lengths
            }
            self.reorder_frame_count_max = Some(reader.ue_max("max_num_reorder_frames", 16)? as u8);
            reader.ue()?; // max_dec_frame_buffering
        }
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

    /// Most frames that may precede another in decoding order and follow it in output order, inferred as
    /// ISO/IEC 14496-10 E.2.1 says when the VUI is silent. Upper bound, not a count.
    #[must_use]
    pub fn reorder_frames_max(&self) -> u8 {
        if let Some(count) = self.reorder_frame_count_max {
            return count;
        }
        let intra_only = matches!(self.profile, 44 | 86 | 100 | 110 | 122 | 244) && self.constraints & 0x10 != 0;
        if intra_only || self.pic_order_cnt == PicOrderCnt::DecodingOrder {
            return 0;
        }
        // MaxDpbMbs of table A-1.
        let dpb_mbs_max = match self.level {
            0..=10 => 396,
            11 if self.constraints & 0x10 != 0 && matches!(self.profile, 77 | 88) => 396,
            11 => 900,
            12 | 13 | 20 => 2_376,
            21 => 4_752,
            22 | 30 => 8_100,
            31 => 18_000,
            32 => 20_480,
            40 | 41 => 32_768,
            42 => 34_816,
            50 => 110_400,
            51 | 52 => 184_320,
            _ => 696_320,
        };
        (dpb_mbs_max / (self.width_mbs * self.height_mbs).max(1)).min(16) as u8
    }

    /// RFC 6381 string for the given sample entry (`avc1` or `avc3`).
    #[must_use]
    pub fn rfc6381(&self, sample_entry: &str) -> String {
        super::rfc6381(sample_entry, self.profile, self.constraints, self.level)
    }
}

/// What is left of `size` after the two crop offsets, which count in `unit` samples.
fn crop(reader: &mut BitReader<'_>, size: u32, unit: u32) -> Result<u32, CodecError> {
    let offsets = u64::from(reader.ue()?) + u64::from(reader.ue()?);
    let cropped = u64::from(size).checked_sub(offsets.saturating_mul(u64::from(unit)));
    cropped
        .filter(|&left| left > 0)
        .and_then(|left| u32::try_from(left).ok())
        .ok_or_else(|| reader.invalid("frame_crop offset", offsets))
}

fn read_pic_order_cnt(reader: &mut BitReader<'_>) -> Result<PicOrderCnt, CodecError> {
    match reader.ue_max("pic_order_cnt_type", 2)? {
        0 => {
            let log2_max = reader.ue_max("log2_max_pic_order_cnt_lsb_minus4", 12)? as u8 + 4;
            Ok(PicOrderCnt::Lsb { log2_max })
        }
        1 => {
            let delta_always_zero = reader.flag()?;
            reader.se()?; // offset_for_non_ref_pic
            reader.se()?; // offset_for_top_to_bottom_field
            let cycle = reader.ue_max("num_ref_frames_in_pic_order_cnt_cycle", 255)?;
            for _ in 0..cycle {
                reader.se()?; // offset_for_ref_frame
            }
            Ok(PicOrderCnt::Cycle { delta_always_zero })
        }
        _ => Ok(PicOrderCnt::DecodingOrder),
    }
}

/// Passes over scaling lists (7.3.2.1.1.1); the first six have 16 entries, the others 64.
pub(super) fn skip_scaling_lists(reader: &mut BitReader<'_>, count: u32) -> Result<(), CodecError> {
    for list in 0..count {
        if !reader.flag()? {
            continue;
        }
        let (mut last, mut next) = (8_i32, 8_i32);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                let delta = reader.se()?;
                if !(-128..=127).contains(&delta) {
                    return Err(reader.invalid("delta_scale", u64::from(delta.unsigned_abs())));
                }
                next = (last + delta + 256) % 256;
            }
            last = if next == 0 { last } else { next };
        }
    }
    Ok(())
}

fn read_hrd(reader: &mut BitReader<'_>) -> Result<HrdDelayBits, CodecError> {
    let cpb_count = reader.ue_max("cpb_cnt_minus1", 31)? + 1;
    reader.skip(8)?; // bit_rate_scale, cpb_size_scale
    for _ in 0..cpb_count {
        reader.ue()?; // bit_rate_value_minus1
        reader.ue()?; // cpb_size_value_minus1
        reader.skip(1)?; // cbr_flag
    }
    reader.skip(5)?; // initial_cpb_removal_delay_length_minus1
    let cpb_removal = reader.read_u8(5)? + 1;
    let dpb_output = reader.read_u8(5)? + 1;
    reader.skip(5)?; // time_offset_length
    Ok(HrdDelayBits {
        cpb_removal,
        dpb_output,
    })
}
