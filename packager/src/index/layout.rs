//! Sizes of samples and where they lie: packed into columns and extents, or listed as in the source.

use bytes::Bytes;

use super::column::{BLOCK, Column};
use super::extent::{Extents, Place};
use super::listed::Listed;
use super::{ANCHOR_SAMPLE_COUNT, IndexError};

/// Sizes and places of an index.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    /// As stored.
    Packed(Packed),
    /// As the source has them.
    Listed(Listed),
}

/// Sizes and places as stored.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub(super) sizes: Column,
    /// A [`Place`] for each 256th sample.
    pub(super) places: Bytes,
    pub(super) extents: Extents,
}

/// Samples one behind the other in the source, from one of them on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Where that one begins.
    pub(super) offset: u64,
    /// First sample behind the stretch.
    pub(super) end: u32,
    /// Which extent it is, or which chunk.
    pub(super) number: u32,
    /// Entry of `stsc`; zero for an extent.
    pub(super) run: u32,
}

impl Stretch {
    /// Where no sample is.
    pub(super) const BEHIND_ALL: Stretch = Stretch {
        offset: u64::MAX,
        end: u32::MAX,
        number: u32::MAX,
        run: 0,
    };
}

impl Layout {
    /// Size of sample `at`, which exists.
    pub(super) fn size(&self, at: u32) -> u32 {
        match self {
            Layout::Packed(packed) => packed.sizes.value(at),
            Layout::Listed(listed) => listed.size(at),
        }
    }

    /// The size of all samples of block `block`, which exists, where that is known without looking at each.
    #[inline]
    pub(super) fn constant_size(&self, block: usize) -> Option<u32> {
        match self {
            Layout::Packed(packed) => packed.sizes.constant(block),
            Layout::Listed(_) => None,
        }
    }

    /// Sizes of block `block`, which exists; those past the last sample are meaningless.
    #[inline]
    pub(super) fn sizes(&self, block: usize, values: &mut [u32; BLOCK]) {
        match self {
            Layout::Packed(packed) => packed.sizes.block(block, values),
            Layout::Listed(listed) => listed.block(block, values),
        }
    }

    /// Bytes of samples `from..to`, which exist.
    pub(super) fn sum(&self, from: u32, to: u32) -> u64 {
        match self {
            Layout::Packed(packed) => packed.sizes.sum(from, to),
            Layout::Listed(listed) => listed.sum(from, to),
        }
    }

    /// Where sample `sample_index`, which exists, lies.
    pub(super) fn stretch(&self, sample_index: u32) -> Stretch {
        match self {
            Layout::Packed(packed) => packed.stretch(sample_index),
            Layout::Listed(listed) => listed.stretch(sample_index),
        }
    }

    /// The stretch behind `stretch`, whose last byte lies before `end_offset`.
    #[inline]
    pub(super) fn stretch_behind(&self, stretch: &Stretch, end_offset: u64) -> Stretch {
        match self {
            Layout::Packed(packed) => packed.stretch_behind(stretch, end_offset),
            Layout::Listed(listed) => listed.stretch_behind(stretch),
        }
    }
}

impl Packed {
    /// Looks at what lies between the sample and the anchor before it, at most 256 samples.
    fn stretch(&self, sample_index: u32) -> Stretch {
        let anchor = sample_index / ANCHOR_SAMPLE_COUNT;
        let mut place = Place::at(&self.places, anchor as usize * Place::SIZE);
        let before = self.sizes.sum(anchor * ANCHOR_SAMPLE_COUNT, sample_index);
        place.offset = place.offset.wrapping_add(before);
        loop {
            let sample_count = self.extents.sample_count(place.extent_index);
            let end = place.extent_first.saturating_add(sample_count);
            if end > sample_index {
                return Stretch {
                    offset: place.offset,
                    end,
                    number: place.extent_index,
                    run: 0,
                };
            }
            place.extent_index += 1;
            place.extent_first = end;
            place.offset = place.offset.wrapping_add(self.extents.gap(place.extent_index));
        }
    }

    #[inline]
    fn stretch_behind(&self, stretch: &Stretch, end_offset: u64) -> Stretch {
        let number = stretch.number + 1;
        Stretch {
            offset: end_offset.wrapping_add(self.extents.gap(number)),
            end: stretch.end.saturating_add(self.extents.sample_count(number)),
            number,
            run: 0,
        }
    }

    /// Every one of `sample_count` samples is in an extent, and every place that is stored is that of its sample.
    /// `places_at` is where places are stored, for errors.
    pub(super) fn check(&self, sample_count: u32, places_at: usize) -> Result<(), IndexError> {
        let damaged = |offset, what| Err(IndexError::Damaged { offset, what });
        let mut offset = Place::at(&self.places, 0).offset;
        let mut sizes = self.sizes.cursor();
        let mut at = 0;
        for (extent_index, (extent_sample_count, gap)) in (0u32..).zip(self.extents.iter()) {
            let extent_first = at;
            if extent_sample_count == 0 || extent_sample_count > sample_count - at {
                return damaged(places_at, "extents are not those of the samples");
            }
            if extent_index > 0 {
                offset = offset.wrapping_add(gap);
            }
            for sample_index in at..at + extent_sample_count {
                let place_at = (sample_index / ANCHOR_SAMPLE_COUNT) as usize * Place::SIZE;
                if sample_index.is_multiple_of(ANCHOR_SAMPLE_COUNT) {
                    let place = Place {
                        offset,
                        extent_index,
                        extent_first,
                    };
                    if Place::at(&self.places, place_at) != place {
                        return damaged(places_at + place_at, "place of another sample");
                    }
                }
                // A size has 32 bits: the sum does not overflow as long as it was in the lower half of the range.
                offset = match offset <= u64::MAX / 2 {
                    true => offset + u64::from(sizes.value(sample_index)),
                    false => return damaged(places_at + place_at, "offset out of range"),
                };
            }
            at += extent_sample_count;
        }
        match at == sample_count {
            true => Ok(()),
            false => damaged(places_at, "extents are not those of the samples"),
        }
    }
}
