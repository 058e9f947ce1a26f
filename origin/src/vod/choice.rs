//! Choices in requests: read from the query of an entry point or the version of a file, and made a presentation of.

use std::sync::Arc;

use packager::form::Form;
use packager::presentation::choice::{Choice, ChoiceError, MediaChoice};
use packager::presentation::clip;
use packager::time::Rounding;

use crate::asset::Asset;
use crate::error::ServeError;
use crate::route::VodResource;

/// The choice that a query string makes. Parameters that are none of ours do not matter.
pub fn from_query(query: &str) -> Result<Choice, ChoiceError> {
    let mut choice = Choice::default();
    let mut given: Vec<&str> = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // What is not even text is taken as it stands, and refused as such.
        let value = decoded(value).unwrap_or_else(|| value.to_owned());
        if !choice.set(name, &value)? {
            continue;
        }
        if given.contains(&name) {
            let parameter = packager::presentation::choice::PARAMETERS
                .into_iter()
                .find(|parameter| *parameter == name);
            return Err(ChoiceError::Repeated {
                parameter: parameter.unwrap_or_default(),
            });
        }
        given.push(name);
    }
    Ok(choice)
}

/// Text without its percent-encoding (RFC 3986 2.1); browsers encode the commas of a list.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let hexadecimal = |digit: Option<u8>| char::from(digit?).to_digit(16);
        bytes.push(match byte {
            b'%' => (hexadecimal(rest.next())? << 4 | hexadecimal(rest.next())?) as u8,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A part of an asset, or the asset with other segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derivation {
    /// Canonical, not the default.
    choice: MediaChoice,
    /// Clips of MPEG-TS start elsewhere than those of CMAF.
    form: Form,
}

/// What has to be made of `asset` before `resource` can be planned; `None` when the asset itself answers.
pub fn derivation(asset: &Asset, resource: &VodResource) -> Result<Option<Derivation>, ServeError> {
    let presentation = &asset.presentation;
    let (choice, form) = match resource {
        VodResource::Multivariant { form, choice, .. } => (choice.media.canonical(presentation)?, *form),
        VodResource::Thumbs | VodResource::Poster => return Ok(None),
        VodResource::Mpd { choice, form, .. } => (choice.media.canonical(presentation)?, *form),
        VodResource::File { version, form, .. } => {
            let name = version.strip_prefix(presentation.version.as_str());
            let choice = name.and_then(MediaChoice::from_name).ok_or(ServeError::NotFound)?;
            // A file has one URL.
            match choice.canonical(presentation) {
                Ok(canonical) if canonical == choice => (choice, *form),
                _ => return Err(ServeError::NotFound),
            }
        }
    };
    // Other segments would mix what a pattern tells apart.
    if asset.variants.is_some() && !choice.is_default() {
        return Err(ServeError::NotFound);
    }
    Ok((!choice.is_default()).then_some(Derivation { choice, form }))
}

impl Derivation {
    /// Names it among all derivations of all assets.
    pub fn key(&self, asset: &Asset) -> (String, String, Form) {
        let version = format!("{}{}", asset.presentation.version, self.choice.name());
        (asset.media_id.clone(), version, self.form)
    }

    /// Makes it. Looks at every sample of the clip.
    pub fn make(&self, asset: &Asset) -> Result<Arc<Asset>, ServeError> {
        let presentation = clip::derive(&asset.presentation, &self.choice, self.form)?;
        let begins = clip::beginning(&asset.presentation, self.choice.start_ms, self.form);
        let begins_ms = begins.to_millis(Rounding::Nearest).max(0).unsigned_abs();
        let protected = asset
            .protected
            .as_ref()
            .map(|protected| protected.of_part(&presentation, begins_ms));
        Ok(Arc::new(Asset {
            media_id: asset.media_id.clone(),
            presentation,
            protected: protected.map(Arc::new),
            files: asset.files.clone(),
            made_of: asset.made_of.clone(),
            thumbnails: asset.thumbnails.clone(),
            variants: None,
            variant: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_one_way() {
        let check = |query: &str, same_as: &str| assert_eq!(from_query(query), from_query(same_as), "{query}");
        check("tracks=a1,v1&start=1.50", "start=1.5&CMCD=x&tracks=v1%2Ca1&_HLS_x=%zz");
        check("", "x&y=1&=&starts=-1");
        check("languages=de%2C%65n", "languages=en,de,en");
        for (query, message) in [
            ("start=1&start=1", "start: given more than once"),
            (
                "start",
                "start: \"\" is not a number of seconds with at most 3 decimals",
            ),
            ("end=%", "end: \"%\" is not a number of seconds with at most 3 decimals"),
            (
                "end=%ff",
                "end: \"%ff\" is not a number of seconds with at most 3 decimals",
            ),
            (
                "tracks=v1/../x",
                "tracks: \"v1/../x\" is not a list of track ids such as v1,a1",
            ),
        ] {
            assert_eq!(
                from_query(query).map_err(|error| error.to_string()),
                Err(message.into())
            );
        }
    }
}
