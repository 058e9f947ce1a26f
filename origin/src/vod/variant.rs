//! Watermark variants: which of two a viewer's segment is of, told by the pattern in the grant and by nothing in the URL.

use std::sync::Arc;

use packager::presentation::Representation;
use packager::presentation::variant::Variant;

use crate::asset::Asset;
use crate::error::ServeError;
use crate::route::{RepresentationFile, VodResource};

/// The variant of `asset` that `resource` is to be answered from, for a grant with `pattern`. Whoever has none gets no
/// segment that there are two of; headers and playlists are the same for both.
pub fn choose(asset: &Arc<Asset>, resource: &VodResource, pattern: Option<&[u8]>) -> Result<Arc<Asset>, ServeError> {
    let (
        Some(variants),
        VodResource::File {
            representation, file, ..
        },
    ) = (&asset.variants, resource)
    else {
        return Ok(asset.clone());
    };
    let Some(found) = asset
        .presentation
        .representation(representation)
        .filter(|found| variants.ids.contains(&found.id))
    else {
        return Ok(asset.clone());
    };
    let Some(number) = segment_of(found, file)? else {
        return Ok(asset.clone());
    };
    match pattern.and_then(|pattern| Variant::of_segment(pattern, number)) {
        Some(Variant::A) => Ok(asset.clone()),
        Some(Variant::B) => Ok(variants.other.clone()),
        None => Err(ServeError::GrantRefused { reason: "watermark" }),
    }
}

/// The segment whose samples `file` has; `None` for what has no samples.
fn segment_of(representation: &Representation, file: &RepresentationFile) -> Result<Option<u32>, ServeError> {
    match file {
        RepresentationFile::Segment { number, .. } => Ok(Some(*number)),
        RepresentationFile::SegmentAt { time } => Ok(representation.segments.number_at(*time)),
        RepresentationFile::TrickFrame { number, .. } => {
            let position = number.checked_sub(1).ok_or(ServeError::NotFound)? as usize;
            let frame = representation.trick_frames.get(position).ok_or(ServeError::NotFound)?;
            let segments = representation.segments.segments().iter().zip(1..);
            let mut holding = segments.filter(|(segment, _)| segment.samples.contains(&frame.sample_index));
            Ok(holding.next().map(|(_, number)| number))
        }
        RepresentationFile::OnDemand => Err(ServeError::NotFound),
        _ => Ok(None),
    }
}
