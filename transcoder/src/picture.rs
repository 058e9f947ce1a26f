//! A picture: RGB in memory, without gaps between rows.

/// Bytes of a pixel.
pub(crate) const PIXEL_SIZE_BYTES: usize = 3;

/// Red, green, blue, eight bits each, row after row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) rgb: Vec<u8>,
}

impl Picture {
    /// A black picture.
    pub(crate) fn black(width: usize, height: usize) -> Picture {
        Picture {
            width,
            height,
            rgb: vec![0; width * height * PIXEL_SIZE_BYTES],
        }
    }

    /// From rows that begin `stride` bytes apart; `None` when `bytes` does not hold them all.
    pub(crate) fn from_rows(bytes: &[u8], stride: usize, width: usize, height: usize) -> Option<Picture> {
        let row_size = width * PIXEL_SIZE_BYTES;
        let mut rgb = Vec::with_capacity(row_size * height);
        for row in 0..height {
            let start = row.checked_mul(stride)?;
            rgb.extend_from_slice(bytes.get(start..start.checked_add(row_size)?)?);
        }
        Some(Picture { width, height, rgb })
    }

    /// Copies `tile` to column `x` and row `y`; what would lie outside is left out.
    pub(crate) fn paste(&mut self, tile: &Picture, x: usize, y: usize) {
        let width = tile.width.min(self.width.saturating_sub(x)) * PIXEL_SIZE_BYTES;
        if width == 0 {
            return;
        }
        let rows = self
            .rgb
            .chunks_exact_mut(self.width * PIXEL_SIZE_BYTES)
            .skip(y)
            .zip(tile.rgb.chunks_exact(tile.width * PIXEL_SIZE_BYTES));
        for (to, from) in rows {
            let start = x * PIXEL_SIZE_BYTES;
            to[start..start + width].copy_from_slice(&from[..width]);
        }
    }

    /// Mean and variance of the luma (BT.601 weights), 0 to 255 and its square.
    pub(crate) fn luma_statistics(&self) -> (u64, u64) {
        let (mut count, mut sum, mut squares) = (0u64, 0u64, 0u64);
        for pixel in self.rgb.chunks_exact(PIXEL_SIZE_BYTES) {
            let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(u64::from);
            let luma = (299 * red + 587 * green + 114 * blue) / 1_000;
            count += 1;
            sum += luma;
            squares += luma * luma;
        }
        let count = count.max(1);
        let mean = sum / count;
        (mean, (squares / count).saturating_sub(mean * mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_land_where_they_belong() {
        let mut sheet = Picture::black(4, 4);
        let tile = Picture::from_rows(&[1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 9, 10, 11, 12, 0, 0], 8, 2, 2).unwrap();
        assert_eq!(tile.rgb, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        sheet.paste(&tile, 2, 2);
        assert_eq!(sheet.rgb[(2 * 4 + 2) * 3..][..6], [1, 2, 3, 4, 5, 6]);
        assert_eq!(sheet.rgb[(3 * 4 + 2) * 3..][..6], [7, 8, 9, 10, 11, 12]);
        assert_eq!(sheet.rgb.iter().filter(|byte| **byte != 0).count(), 12);
        // Partly and wholly outside.
        let before = sheet.clone();
        sheet.paste(&tile, 4, 0);
        sheet.paste(&tile, 0, 4);
        assert_eq!(sheet, before);
        sheet.paste(&tile, 3, 3);
        assert_eq!(sheet.rgb[(3 * 4 + 3) * 3..], [1, 2, 3]);
        assert_eq!(Picture::from_rows(&[0; 13], 8, 2, 2), None);
    }

    #[test]
    fn black_and_grey_have_no_variance() {
        assert_eq!(Picture::black(8, 8).luma_statistics(), (0, 0));
        let mut half = Picture::black(2, 1);
        half.rgb[3..].fill(200);
        assert_eq!(half.luma_statistics(), (100, 10_000));
    }
}
