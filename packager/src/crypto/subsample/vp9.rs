//! Subsamples of VP9: what follows a frame's uncompressed header is protected (VP Codec ISO Media File Format Binding 1.0).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{Entries, SubsampleError};
use crate::codec::vp9::{ReferenceSizes, frames, uncompressed_header_size};

/// Follows the sizes of a track's reference frames.
#[derive(Debug, Clone, Default)]
pub(super) struct Scanner {
    sizes: ReferenceSizes,
}

impl Scanner {
    /// One entry for each frame, of whole blocks in each scheme; a superframe's index stays clear.
    pub(super) fn scan(&mut self, sample: &[u8], entries: &mut Entries<'_>) -> Result<(), SubsampleError> {
        for range in frames(sample).map_err(SubsampleError::unit(0))? {
            let frame = sample.get(range.clone()).unwrap_or_default();
            let header_size_bytes =
                uncompressed_header_size(frame, &mut self.sizes).map_err(SubsampleError::unit(range.start))?;
            entries.protect_blocks(range.start + header_size_bytes, range.end)?;
        }
        Ok(())
    }
}
