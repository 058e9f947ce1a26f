//! Watermark variants: two presentations that differ in some samples alone, and which of them a viewer's segment is of
//! (A/B watermarking, ETSI TS 104 002).
//!
//! What a pattern means is its issuer's business. Here it is a row of bits: one for each segment, over and over.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Content, Presentation, Representation, hexadecimal};
use crate::segment::Segment;

/// One of two variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// A bit of zero.
    A,
    /// A bit of one.
    B,
}

impl Variant {
    /// What `pattern` says of segment `number` (from 1): its bits from the highest of its first byte on, over and over.
    /// `None` where it has none.
    pub fn of_segment(pattern: &[u8], number: u32) -> Option<Variant> {
        let position = usize::try_from(number.checked_sub(1)?).ok()?;
        let bit = position.checked_rem(pattern.len().checked_mul(8)?)?;
        let byte = pattern.get(bit / 8)?;
        Some(match byte >> (7 - bit % 8) & 1 {
            0 => Variant::A,
            _ => Variant::B,
        })
    }
}

/// Why two presentations are no variants of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariantError {
    /// One has a track that the other has not.
    #[error("variant a has tracks {a}, variant b has {b}")]
    Tracks {
        /// Ids of the tracks of one.
        a: String,
        /// And of the other.
        b: String,
    },
    /// Two tracks are decoded differently: one header must do for both.
    #[error("{id}: variants differ in {what}")]
    Coding {
        /// The track.
        id: String,
        /// In what.
        what: &'static str,
    },
    /// Two tracks are cut at different instants.
    #[error("{id}: segment {number} of variant a is {a}, of variant b {b}")]
    Boundaries {
        /// The track.
        id: String,
        /// The first segment that differs.
        number: usize,
        /// Start and duration in ticks, samples; or that there is none.
        a: String,
        /// The same of the other.
        b: String,
    },
}

/// Makes `a` and `b` variants of one presentation, described by the same manifests: both get a version that covers both,
/// and the greater bit rate. Fails unless tracks, headers and all boundaries are the same.
pub fn pair(a: &mut Presentation, b: &mut Presentation) -> Result<(), VariantError> {
    let ids = |presentation: &Presentation| -> Vec<String> {
        let all = presentation.representations.iter();
        all.map(|representation| format!("{} ({})", representation.id, representation.codec().name()))
            .collect()
    };
    if ids(a) != ids(b) {
        return Err(VariantError::Tracks {
            a: ids(a).join(", "),
            b: ids(b).join(", "),
        });
    }
    for (one, other) in a.representations.iter().zip(&b.representations) {
        check(one, other)?;
    }
    for (one, other) in a.representations.iter_mut().zip(&mut b.representations) {
        one.bandwidths = one.bandwidths.greatest(&other.bandwidths);
        other.bandwidths = one.bandwidths;
    }
    let mut hash = Sha256::new();
    hash.update(format!("headwater variants 1\n{}\n{}\n", a.version, b.version));
    a.version = hexadecimal(hash.finalize());
    b.version.clone_from(&a.version);
    Ok(())
}

fn check(a: &Representation, b: &Representation) -> Result<(), VariantError> {
    let differ = |what| Err(VariantError::Coding { id: a.id.clone(), what });
    let (one, other) = match (&a.content, &b.content) {
        (Content::Samples(one), Content::Samples(other)) => (one, other),
        (Content::Cues(one), Content::Cues(other)) if one == other => return Ok(()),
        _ => return differ("their text"),
    };
    if one.description.sample_entry != other.description.sample_entry
        || one.description.media != other.description.media
    {
        return differ("their sample entries");
    }
    if one.index.timescale() != other.index.timescale()
        || one.index.media_time() != other.index.media_time()
        || one.index.decode_delay() != other.index.decode_delay()
    {
        return differ("timescale or edit");
    }
    let row = |segment: Option<&Segment>| match segment {
        Some(segment) => format!(
            "{} + {}, {} samples",
            segment.start,
            segment.duration,
            segment.samples.len()
        ),
        None => "missing".to_owned(),
    };
    let (own, others) = (a.segments.segments(), b.segments.segments());
    let first = (0..own.len().max(others.len())).find(|at| own.get(*at) != others.get(*at));
    if let Some(at) = first {
        return Err(VariantError::Boundaries {
            id: a.id.clone(),
            number: at + 1,
            a: row(own.get(at)),
            b: row(others.get(at)),
        });
    }
    if a.trick_frames != b.trick_frames {
        return differ("key frames");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_go_from_the_highest_bit_and_repeat() {
        let check = |pattern: &[u8], numbers: std::ops::RangeInclusive<u32>, expected: &str| {
            let found: String = numbers
                .map(|number| match Variant::of_segment(pattern, number) {
                    Some(Variant::A) => 'a',
                    Some(Variant::B) => 'b',
                    None => '-',
                })
                .collect();
            assert_eq!(found, expected, "{pattern:x?}");
        };
        check(&[0b1010_0001], 1..=10, "babaaaabba");
        check(&[0x00, 0xff], 1..=18, "aaaaaaaabbbbbbbbaa");
        check(&[0x80], 0..=1, "-b");
        check(&[], 1..=3, "---");
        check(&[0x01], u32::MAX..=u32::MAX, "a");
    }
}
