//! Times of samples that last equally long, many at once.

/// Beyond this, sums of 32 bits may overflow.
const OFFSET_MAX: i32 = 1 << 29;
/// A block of samples that last so long stays below half of the range too.
const DURATION_MAX: u32 = 1 << 22;

/// Least and greatest of some samples that last equally long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extremes {
    /// Composition offset.
    pub(super) offsets: [i32; 2],
    /// Composition time, where the first of them is decoded at zero.
    pub(super) shown: [i32; 2],
}

impl Extremes {
    /// Of at most a block of samples whose composition offsets `offset_of` tells of `stored`. `None` without any, and where
    /// they are not small enough for 32 bits, which the compiler can do many of at once.
    #[inline]
    pub(super) fn of_even<T: Copy>(duration: u32, stored: &[T], offset_of: impl Fn(T) -> i32) -> Option<Extremes> {
        let (mut least, mut greatest) = (i32::MAX, i32::MIN);
        let (mut earliest, mut latest) = (i32::MAX, i32::MIN);
        let mut decode_time = 0i32;
        for value in stored {
            let offset = offset_of(*value);
            let shown = offset.wrapping_add(decode_time);
            least = least.min(offset);
            greatest = greatest.max(offset);
            earliest = earliest.min(shown);
            latest = latest.max(shown);
            decode_time = decode_time.wrapping_add(duration as i32);
        }
        let has_some = !stored.is_empty();
        let is_small = has_some && duration <= DURATION_MAX && least >= -OFFSET_MAX && greatest <= OFFSET_MAX;
        is_small.then_some(Extremes {
            offsets: [least, greatest],
            shown: [earliest, latest],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn extremes_are_those_of_each(
            duration in prop_oneof![0u32..9_000, any::<u32>()],
            offsets in prop::collection::vec(prop_oneof![4 => -9_000i32..9_000, 1 => any::<i32>()], 1..=64),
        ) {
            let shown = |(at, offset): (i64, &i32)| at * i64::from(duration) + i64::from(*offset);
            let shown: Vec<i64> = (0..).zip(&offsets).map(shown).collect();
            let (least, greatest) = (*offsets.iter().min().unwrap(), *offsets.iter().max().unwrap());
            let is_small = duration <= 1 << 22 && least >= -(1 << 29) && greatest <= 1 << 29;
            match Extremes::of_even(duration, &offsets, |offset| offset) {
                None => prop_assert!(!is_small),
                Some(extremes) => {
                    prop_assert_eq!(extremes.offsets, [least, greatest]);
                    prop_assert_eq!(extremes.shown.map(i64::from), [*shown.iter().min().unwrap(), *shown.iter().max().unwrap()]);
                }
            }
        }
    }

    #[test]
    fn nothing_has_no_extremes() {
        assert_eq!(Extremes::of_even(40, &[], |offset| offset), None);
    }
}
