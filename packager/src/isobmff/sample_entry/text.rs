//! Sample entries of timed text (ISO/IEC 14496-30, 3GPP TS 26.245).

use super::{SampleEntryError, TrackFacts, unusable, write_entry};
use crate::codec::Codec;
use crate::limits::SAMPLE_ENTRY_SIZE_BYTES_MAX;
use crate::track::{MediaDescription, TextDescription, TrackDescription};

/// WebVTT from its header: `WEBVTT`, then whatever stands before the first cue.
pub fn wvtt(track: &TrackFacts, header: &str) -> Result<TrackDescription, SampleEntryError> {
    check_size(header)?;
    let header = if header.is_empty() { "WEBVTT" } else { header };
    let entry = write_entry(b"wvtt", |w| w.write_box(b"vttC", |w| w.bytes(header.as_bytes())));
    let media = MediaDescription::Text(TextDescription {
        config: header.to_owned(),
    });
    Ok(track.describe(Codec::Wvtt, "wvtt".to_owned(), entry, media))
}

/// TTML from the fields of its entry: namespaces, schema locations and the MIME types of other resources in its samples,
/// each list separated by spaces. Images make it the image profile of IMSC1, else the text profile is assumed.
pub fn stpp(
    track: &TrackFacts,
    namespace: &str,
    schema_location: &str,
    auxiliary_mime_types: &str,
) -> Result<TrackDescription, SampleEntryError> {
    let fields = [namespace, schema_location, auxiliary_mime_types];
    for field in fields {
        check_size(field)?;
    }
    let entry = write_entry(b"stpp", |w| {
        for field in fields {
            w.bytes(field.as_bytes());
            w.u8(0);
        }
    });
    let profile = if auxiliary_mime_types.contains("image/") {
        "im1i"
    } else {
        "im1t"
    };
    let media = MediaDescription::Text(TextDescription {
        config: namespace.to_owned(),
    });
    Ok(track.describe(Codec::Stpp, format!("stpp.ttml.{profile}"), entry, media))
}

/// 3GPP timed text, of which the bytes of samples alone are read: nothing of its entry is kept.
pub fn tx3g(track: &TrackFacts) -> Result<TrackDescription, SampleEntryError> {
    let media = MediaDescription::Text(TextDescription { config: String::new() });
    Ok(track.describe(Codec::Tx3g, "tx3g".to_owned(), write_entry(b"tx3g", |_| {}), media))
}

fn check_size(text: &str) -> Result<(), SampleEntryError> {
    match text.len() {
        size if size > SAMPLE_ENTRY_SIZE_BYTES_MAX / 4 => Err(unusable(format!("a text header of {size} bytes"))),
        _ => Ok(()),
    }
}
