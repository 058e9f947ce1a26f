//! Frame headers of AV1 (5.9 of the specification): read to their end, for the tiles behind them.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod coding;

use super::SequenceHeader;
use super::tile::TileGrid;
use crate::codec::CodecError;
use crate::codec::bits::BitReader;

const WHAT: &str = "av1 frame header";

/// `alt_q` of each segment, where it is set.
type SegmentQuantizers = [Option<i32>; 8];

/// What later frame headers depend on of a frame that was kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Reference {
    upscaled_width: u32,
    height: u32,
    key_frame: bool,
    order_hint: u32,
    segments: SegmentQuantizers,
}

/// The eight reference frames, as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct References([Option<Reference>; 8]);

/// Where a frame's tiles are, as its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Tiles of the frame; `None` when a frame is only shown again.
    pub tiles: Option<TileGrid>,
}

impl FrameHeader {
    /// Reads `uncompressed_header()`. `layer` is the `temporal_id` and `spatial_id` of the OBU it is in. `references` are
    /// those before the frame, and those after it when the header is whole.
    pub fn read(
        reader: &mut BitReader<'_>,
        sequence: &SequenceHeader,
        layer: (u8, u8),
        references: &mut References,
    ) -> Result<FrameHeader, CodecError> {
        let mut header = Reading {
            sequence,
            layer,
            references: *references,
            frame_type: FrameType::Key,
            show_frame: true,
            showable_frame: false,
            error_resilient: true,
            screen_content: false,
            integer_mv: false,
            size_override: false,
            order_hint: 0,
            primary: None,
            refreshed: 0xff,
            upscaled_width: 0,
            width: 0,
            height: 0,
            intra_block_copy: false,
            high_precision: false,
            reference_select: false,
            chosen: [0; 7],
            base_q: 0,
            deltas_zero: true,
            segments: SegmentQuantizers::default(),
        };
        let tiles = header.read(reader)?;
        *references = header.references;
        Ok(FrameHeader { tiles })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameType {
    Key,
    Inter,
    IntraOnly,
    Switch,
}

/// A header while it is read.
struct Reading<'a> {
    sequence: &'a SequenceHeader,
    layer: (u8, u8),
    references: References,
    frame_type: FrameType,
    show_frame: bool,
    showable_frame: bool,
    error_resilient: bool,
    screen_content: bool,
    integer_mv: bool,
    size_override: bool,
    order_hint: u32,
    /// `primary_ref_frame`, unless it is none.
    primary: Option<u8>,
    refreshed: u32,
    upscaled_width: u32,
    width: u32,
    height: u32,
    intra_block_copy: bool,
    high_precision: bool,
    reference_select: bool,
    /// `ref_frame_idx`.
    chosen: [u8; 7],
    base_q: u32,
    deltas_zero: bool,
    segments: SegmentQuantizers,
}

impl Reading<'_> {
    fn read(&mut self, reader: &mut BitReader<'_>) -> Result<Option<TileGrid>, CodecError> {
        let sequence = self.sequence;
        if !sequence.reduced_still_picture_header {
            if reader.flag()? {
                self.show_existing(reader)?;
                return Ok(None);
            }
            self.read_type(reader)?;
        }
        if self.frame_type == FrameType::Key && self.show_frame {
            self.references = References::default();
        }
        let disable_cdf_update = reader.flag()?;
        self.screen_content = choose(reader, sequence.force_screen_content_tools)?;
        if self.screen_content {
            self.integer_mv = choose(reader, sequence.force_integer_mv)?;
        }
        if let Some((_, id_bits)) = sequence.frame_id_bits {
            reader.skip(u64::from(id_bits))?; // current_frame_id
        }
        self.size_override = match self.frame_type {
            FrameType::Switch => true,
            _ => !sequence.reduced_still_picture_header && reader.flag()?,
        };
        self.order_hint = reader.read(u32::from(sequence.order_hint_bits))?;
        if !self.is_intra() && !self.error_resilient {
            self.primary = Some(reader.read_u8(3)?).filter(|&index| index != 7);
        }
        self.skip_buffer_removal_times(reader)?;
        let refreshes_all = self.frame_type == FrameType::Switch || self.is_shown_key();
        if !refreshes_all {
            self.refreshed = reader.read(8)?;
        }
        if (!self.is_intra() || self.refreshed != 0xff) && self.error_resilient && sequence.order_hint_bits > 0 {
            self.read_ref_order_hints(reader)?;
        }
        if self.is_intra() {
            self.read_frame_size(reader)?;
            self.intra_block_copy = self.screen_content && self.upscaled_width == self.width && reader.flag()?;
        } else {
            self.read_inter(reader)?;
        }
        if !sequence.reduced_still_picture_header && !disable_cdf_update {
            reader.skip(1)?; // disable_frame_end_update_cdf
        }
        let tiles = TileGrid::read(reader, self.width, self.height, sequence.use_128x128_superblock)?;
        self.skip_coding(reader)?;
        let kept = Reference {
            upscaled_width: self.upscaled_width,
            height: self.height,
            key_frame: self.frame_type == FrameType::Key,
            order_hint: self.order_hint,
            segments: self.segments,
        };
        self.keep(kept);
        Ok(Some(tiles))
    }

    fn keep(&mut self, kept: Reference) {
        for (index, reference) in self.references.0.iter_mut().enumerate() {
            if self.refreshed >> index & 1 == 1 {
                *reference = Some(kept);
            }
        }
    }

    fn is_intra(&self) -> bool {
        matches!(self.frame_type, FrameType::Key | FrameType::IntraOnly)
    }

    fn is_shown_key(&self) -> bool {
        self.frame_type == FrameType::Key && self.show_frame
    }

    fn reference(&self, index: u8) -> Result<Reference, CodecError> {
        let reference = self.references.0.get(usize::from(index)).copied().flatten();
        reference.ok_or(CodecError::Missing {
            what: WHAT,
            field: "its reference frame",
        })
    }

    fn plane_count(&self) -> usize {
        if self.sequence.monochrome { 1 } else { 3 }
    }

    fn show_existing(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        let index = reader.read_u8(3)?;
        self.skip_presentation_time(reader)?;
        if let Some((_, id_bits)) = self.sequence.frame_id_bits {
            reader.skip(u64::from(id_bits))?; // display_frame_id
        }
        let shown = self.reference(index)?;
        if shown.key_frame {
            self.keep(shown);
        }
        Ok(())
    }

    /// `temporal_point_info()`.
    fn skip_presentation_time(&self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        match self.sequence.decoder_model {
            Some(model) if !self.sequence.equal_picture_interval => {
                reader.skip(u64::from(model.frame_presentation_time_bits))
            }
            _ => Ok(()),
        }
    }

    fn read_type(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        self.frame_type = match reader.read(2)? {
            0 => FrameType::Key,
            1 => FrameType::Inter,
            2 => FrameType::IntraOnly,
            _ => FrameType::Switch,
        };
        self.show_frame = reader.flag()?;
        if self.show_frame {
            self.skip_presentation_time(reader)?;
            self.showable_frame = self.frame_type != FrameType::Key;
        } else {
            self.showable_frame = reader.flag()?;
        }
        self.error_resilient = self.frame_type == FrameType::Switch || self.is_shown_key() || reader.flag()?;
        Ok(())
    }

    fn skip_buffer_removal_times(&self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        let Some(model) = self.sequence.decoder_model else {
            return Ok(());
        };
        if !reader.flag()? {
            return Ok(());
        }
        let (temporal_id, spatial_id) = self.layer;
        for point in &self.sequence.operating_points {
            let in_layers = point.idc >> temporal_id & 1 == 1 && point.idc >> (spatial_id + 8) & 1 == 1;
            if point.decoder_model_present && (point.idc == 0 || in_layers) {
                reader.skip(u64::from(model.buffer_removal_time_bits))?;
            }
        }
        Ok(())
    }

    fn read_ref_order_hints(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        for reference in &mut self.references.0 {
            let order_hint = reader.read(u32::from(self.sequence.order_hint_bits))?;
            // A frame that was lost: its order is known, its size is the sequence's.
            if reference.is_none_or(|known| known.order_hint != order_hint) {
                *reference = Some(Reference {
                    upscaled_width: self.sequence.width,
                    height: self.sequence.height,
                    order_hint,
                    ..Reference::default()
                });
            }
        }
        Ok(())
    }

    /// `frame_size()` and `render_size()`.
    fn read_frame_size(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        let sequence = self.sequence;
        (self.upscaled_width, self.height) = (sequence.width, sequence.height);
        if self.size_override {
            self.upscaled_width = reader.read(u32::from(sequence.frame_width_bits))? + 1;
            self.height = reader.read(u32::from(sequence.frame_height_bits))? + 1;
        }
        self.read_superres(reader)?;
        if reader.flag()? {
            reader.skip(32)?; // render_width_minus_1, render_height_minus_1
        }
        Ok(())
    }

    fn read_superres(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        self.width = self.upscaled_width;
        if self.sequence.superres && reader.flag()? {
            let denominator = reader.read(3)? + 9;
            self.width = (self.upscaled_width * 8 + denominator / 2) / denominator;
        }
        Ok(())
    }

    /// What frames that refer to others have before `disable_frame_end_update_cdf`.
    fn read_inter(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        let short = self.sequence.order_hint_bits > 0 && reader.flag()?;
        if short {
            let (last, golden) = (reader.read_u8(3)?, reader.read_u8(3)?);
            self.choose_references(last, golden)?;
        }
        for position in 0..self.chosen.len() {
            if !short {
                let index = reader.read_u8(3)?;
                if let Some(chosen) = self.chosen.get_mut(position) {
                    *chosen = index;
                }
            }
            if let Some((delta_bits, _)) = self.sequence.frame_id_bits {
                reader.skip(u64::from(delta_bits))?; // delta_frame_id_minus_1
            }
        }
        if self.size_override && !self.error_resilient {
            self.read_size_with_references(reader)?;
        } else {
            self.read_frame_size(reader)?;
        }
        self.high_precision = !self.integer_mv && reader.flag()?;
        if !reader.flag()? {
            reader.skip(2)?; // interpolation_filter
        }
        reader.skip(1)?; // is_motion_mode_switchable
        if !self.error_resilient && self.sequence.ref_frame_mvs {
            reader.skip(1)?; // use_ref_frame_mvs
        }
        Ok(())
    }

    fn read_size_with_references(&mut self, reader: &mut BitReader<'_>) -> Result<(), CodecError> {
        for index in self.chosen {
            if reader.flag()? {
                let reference = self.reference(index)?;
                (self.upscaled_width, self.height) = (reference.upscaled_width, reference.height);
                return self.read_superres(reader);
            }
        }
        self.read_frame_size(reader)
    }

    /// `get_relative_dist()` (5.9.3).
    fn distance(&self, a: u32, b: u32) -> i32 {
        let Some(sign) = self.sequence.order_hint_bits.checked_sub(1) else {
            return 0;
        };
        let difference = a as i32 - b as i32;
        let sign = 1 << sign;
        (difference & (sign - 1)) - (difference & sign)
    }

    /// `set_frame_refs()` (7.8).
    fn choose_references(&mut self, last: u8, golden: u8) -> Result<(), CodecError> {
        let mut distances = [0; 8];
        for (index, distance) in (0..).zip(&mut distances) {
            *distance = self.distance(self.reference(index)?.order_hint, self.order_hint);
        }
        let mut picks = Picks {
            distances,
            used: [false; 8],
            chosen: [None; 7],
        };
        picks.take(0, Some(last));
        picks.take(3, Some(golden));
        picks.take(6, picks.latest(true));
        picks.take(4, picks.earliest_backward());
        picks.take(5, picks.earliest_backward());
        for position in [1, 2, 4, 5, 6] {
            picks.take(position, picks.latest(false));
        }
        let earliest = (0_u8..).zip(distances).min_by_key(|&(_, distance)| distance);
        let earliest = earliest.map_or(0, |(index, _)| index);
        self.chosen = picks.chosen.map(|index| index.unwrap_or(earliest));
        Ok(())
    }
}

/// `seq_force_screen_content_tools` and `seq_force_integer_mv`: 0, 1, or a flag.
fn choose(reader: &mut BitReader<'_>, forced: u8) -> Result<bool, CodecError> {
    if forced == 2 { reader.flag() } else { Ok(forced == 1) }
}

/// `set_frame_refs()` at work.
struct Picks {
    /// Of each reference frame from the current one, in output order.
    distances: [i32; 8],
    used: [bool; 8],
    chosen: [Option<u8>; 7],
}

impl Picks {
    fn take(&mut self, position: usize, found: Option<u8>) {
        let Some(chosen) = self.chosen.get_mut(position).filter(|chosen| chosen.is_none()) else {
            return;
        };
        *chosen = found;
        if let Some(used) = found.and_then(|index| self.used.get_mut(usize::from(index))) {
            *used = true;
        }
    }

    /// Frames not taken yet that come after the current one, or before it.
    fn free(&self, backward: bool) -> impl Iterator<Item = (u8, i32)> {
        let all = (0_u8..).zip(self.distances.into_iter().zip(self.used));
        all.filter(move |(_, (distance, used))| !used && (*distance >= 0) == backward)
            .map(|(index, (distance, _))| (index, distance))
    }

    /// Of equals the last.
    fn latest(&self, backward: bool) -> Option<u8> {
        self.free(backward)
            .max_by_key(|&(_, distance)| distance)
            .map(|(index, _)| index)
    }

    /// Of equals the first.
    fn earliest_backward(&self) -> Option<u8> {
        self.free(true)
            .min_by_key(|&(_, distance)| distance)
            .map(|(index, _)| index)
    }
}
