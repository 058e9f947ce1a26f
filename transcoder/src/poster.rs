//! The poster: which of a few pictures of a film stands for it.

use crate::picture::Picture;

/// Where pictures are taken from, in thousandths of the film, the best place first.
pub(crate) const CANDIDATES_PERMILLE: [u64; 7] = [100, 150, 70, 200, 300, 500, 20];

/// Luma below or above which a picture is all but black or white.
const MEAN_MIN: u64 = 24;
const MEAN_MAX: u64 = 232;
/// Luma variance of a picture in which something is to be seen; black with a title has less.
const VARIANCE_MIN: u64 = 400;

/// Takes the first candidate in which something is to be seen, else the one in which most is.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    best: Option<(u64, Picture)>,
}

impl Choice {
    /// Looks at the next candidate; true when no other is needed.
    pub(crate) fn offer(&mut self, picture: Picture) -> bool {
        let (mean, variance) = picture.luma_statistics();
        let good = (MEAN_MIN..=MEAN_MAX).contains(&mean) && variance >= VARIANCE_MIN;
        let score = if good { u64::MAX } else { variance };
        if self.best.as_ref().is_none_or(|(best, _)| score > *best) {
            self.best = Some((score, picture));
        }
        good
    }

    /// The picture chosen.
    pub(crate) fn take(self) -> Option<Picture> {
        self.best.map(|(_, picture)| picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripes(dark: u8, bright: u8) -> Picture {
        let mut picture = Picture::black(16, 16);
        for (at, pixel) in picture.rgb.chunks_exact_mut(3).enumerate() {
            pixel.fill(if at % 2 == 0 { dark } else { bright });
        }
        picture
    }

    #[test]
    fn a_picture_with_something_in_it_is_taken() {
        let check = |offered: &[Picture], needed: usize, expected: usize| {
            let mut choice = Choice::default();
            let mut looked_at = 0;
            for picture in offered {
                looked_at += 1;
                if choice.offer(picture.clone()) {
                    break;
                }
            }
            assert_eq!(looked_at, needed);
            assert_eq!(choice.take().unwrap(), offered[expected]);
        };
        let (black, white, dim, good) = (stripes(0, 0), stripes(255, 255), stripes(8, 20), stripes(40, 200));
        check(&[good.clone(), black.clone()], 1, 0);
        check(&[black.clone(), white.clone(), good.clone(), dim.clone()], 3, 2);
        check(&[black.clone(), dim.clone(), white], 3, 1);
        check(&[black], 1, 0);
        assert_eq!(Choice::default().take(), None);
    }
}
