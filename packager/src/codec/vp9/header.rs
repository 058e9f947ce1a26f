//! Uncompressed header of VP9 (6.2 of the specification): read to its end, for what matters is where that is.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{FrameFormat, read_sync_code};
use crate::codec::CodecError;
use crate::codec::bits::BitReader;

const WHAT: &str = "vp9 uncompressed header";

/// Width and height of the eight reference frames, as far as they are known: what headers depend on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReferenceSizes([Option<(u32, u32)>; 8]);

/// Reads the uncompressed header of one frame (not of a superframe) and says how many bytes it takes. `sizes` are those
/// before the frame, and those after it when the header is whole.
pub fn uncompressed_header_size(frame: &[u8], sizes: &mut ReferenceSizes) -> Result<usize, CodecError> {
    let mut reader = BitReader::new(frame, WHAT);
    if let Some((refreshed, size)) = read(&mut reader, sizes)? {
        for (index, kept) in sizes.0.iter_mut().enumerate() {
            if refreshed >> index & 1 == 1 {
                *kept = Some(size);
            }
        }
    }
    reader.align()?;
    Ok(usize::try_from(reader.position_bits() / 8).unwrap_or(frame.len()))
}

/// `refresh_frame_flags`, and the width and height of the frame.
type Refreshed = (u32, (u32, u32));

/// `None` when a frame is only shown again.
fn read(reader: &mut BitReader<'_>, sizes: &ReferenceSizes) -> Result<Option<Refreshed>, CodecError> {
    let marker = reader.read(2)?;
    if marker != 2 {
        return Err(reader.invalid("frame_marker", u64::from(marker)));
    }
    let profile = reader.read_u8(1)? | (reader.read_u8(1)? << 1);
    if profile == 3 && reader.flag()? {
        return Err(reader.invalid("reserved_zero", 1));
    }
    if reader.flag()? {
        reader.skip(3)?; // frame_to_show_map_idx
        return Ok(None);
    }
    let key_frame = !reader.flag()?;
    let show_frame = reader.flag()?;
    let error_resilient = reader.flag()?;
    let (refreshed, size);
    if key_frame {
        read_sync_code(reader)?;
        FrameFormat::read_color_config(reader, profile)?;
        refreshed = 0xff;
        size = read_frame_size(reader)?;
        skip_render_size(reader)?;
    } else {
        let intra_only = !show_frame && reader.flag()?;
        if !error_resilient {
            reader.skip(2)?; // reset_frame_context
        }
        if intra_only {
            read_sync_code(reader)?;
            if profile > 0 {
                FrameFormat::read_color_config(reader, profile)?;
            }
            refreshed = reader.read(8)?;
            size = read_frame_size(reader)?;
            skip_render_size(reader)?;
        } else {
            refreshed = reader.read(8)?;
            size = read_size_with_references(reader, sizes)?;
            skip_render_size(reader)?;
            reader.skip(1)?; // allow_high_precision_mv
            if !reader.flag()? {
                reader.skip(2)?; // raw_interpolation_filter
            }
        }
    }
    if !error_resilient {
        reader.skip(2)?; // refresh_frame_context, frame_parallel_decoding_mode
    }
    reader.skip(2)?; // frame_context_idx
    skip_loop_filter(reader)?;
    reader.skip(8)?; // base_q_idx
    for _ in 0..3 {
        skip_if_present(reader, 5)?; // delta_q_y_dc, delta_q_uv_dc, delta_q_uv_ac
    }
    skip_segmentation(reader)?;
    skip_tile_info(reader, size.0)?;
    if reader.read(16)? == 0 {
        return Err(reader.invalid("header_size_in_bytes", 0));
    }
    Ok(Some((refreshed, size)))
}

fn skip_if_present(reader: &mut BitReader<'_>, bits: u64) -> Result<(), CodecError> {
    if reader.flag()? { reader.skip(bits) } else { Ok(()) }
}

fn read_frame_size(reader: &mut BitReader<'_>) -> Result<(u32, u32), CodecError> {
    Ok((reader.read(16)? + 1, reader.read(16)? + 1))
}

fn skip_render_size(reader: &mut BitReader<'_>) -> Result<(), CodecError> {
    skip_if_present(reader, 32)
}

/// The three references, then `frame_size_with_refs()` without its render size.
fn read_size_with_references(reader: &mut BitReader<'_>, sizes: &ReferenceSizes) -> Result<(u32, u32), CodecError> {
    let mut references = [0_u32; 3];
    for reference in &mut references {
        *reference = reader.read(3)?;
        reader.skip(1)?; // ref_frame_sign_bias
    }
    for reference in references {
        if reader.flag()? {
            let size = sizes.0.get(reference as usize).copied().flatten();
            return size.ok_or(CodecError::Missing {
                what: WHAT,
                field: "its reference frame",
            });
        }
    }
    read_frame_size(reader)
}

fn skip_loop_filter(reader: &mut BitReader<'_>) -> Result<(), CodecError> {
    reader.skip(9)?; // loop_filter_level, loop_filter_sharpness
    if reader.flag()? && reader.flag()? {
        for _ in 0..6 {
            skip_if_present(reader, 7)?; // four loop_filter_ref_deltas, two loop_filter_mode_deltas
        }
    }
    Ok(())
}

fn skip_segmentation(reader: &mut BitReader<'_>) -> Result<(), CodecError> {
    if !reader.flag()? {
        return Ok(());
    }
    if reader.flag()? {
        for _ in 0..7 {
            skip_if_present(reader, 8)?; // segmentation_tree_probs
        }
        if reader.flag()? {
            for _ in 0..3 {
                skip_if_present(reader, 8)?; // segmentation_pred_prob
            }
        }
    }
    if reader.flag()? {
        reader.skip(1)?; // segmentation_abs_or_delta_update
        for _ in 0..8 {
            for bits in [9, 7, 2, 0] {
                skip_if_present(reader, bits)?; // feature_value with its sign
            }
        }
    }
    Ok(())
}

fn skip_tile_info(reader: &mut BitReader<'_>, width: u32) -> Result<(), CodecError> {
    let superblocks = width.div_ceil(64);
    // A tile is 4 to 64 superblocks wide.
    let min_log2 = (0..).find(|log2| 64 << log2 >= superblocks).unwrap_or(0);
    let max_log2 = (1..).find(|log2| superblocks >> log2 < 4).unwrap_or(1) - 1;
    for _ in min_log2..max_log2 {
        if !reader.flag()? {
            break;
        }
    }
    skip_if_present(reader, 1) // tile_rows_log2
}
