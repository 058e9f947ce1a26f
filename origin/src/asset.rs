//! An opened library entry: its presentation, and the open files that hold the samples.

use std::path::PathBuf;
use std::sync::Arc;

use packager::form::Form;
use packager::index::IndexError;
use packager::presentation::variant::Variant;
use packager::presentation::{Content, Presentation, Representation};

use crate::protect::Protected;
use crate::read::{self, Fingerprint, SourceFile};
use crate::thumbnails::ThumbnailFolder;

/// The second of two watermark variants.
#[derive(Clone, Debug)]
pub struct Variants {
    /// The title with the samples of variant `b`. It has no variants itself.
    pub other: Arc<Asset>,
    /// Representations whose samples differ.
    pub ids: Vec<String>,
}

/// A presentation ready to be served. Immutable: when a source changes, a new asset replaces it.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Name in URLs.
    pub media_id: String,
    /// What it is made of.
    pub presentation: Presentation,
    /// Source files, as representations refer to them.
    pub files: Vec<Arc<SourceFile>>,
    /// Where its thumbnails lie, when it has some.
    pub thumbnails: Option<ThumbnailFolder>,
    /// What its media is encrypted with; `None` for a clear one.
    pub protected: Option<Arc<Protected>>,
    /// The other variant of a watermarked title; manifests and headers are those of this one.
    pub variants: Option<Variants>,
    /// Which variant this is; `None` for a title without.
    pub variant: Option<Variant>,
    /// Paths that decided what the presentation is, and what they were when it was opened.
    pub made_of: Vec<(PathBuf, Fingerprint)>,
}

impl Asset {
    /// What it is served as where `wanted` is asked for: its own form when it is protected.
    pub fn form(&self, wanted: Form) -> Form {
        self.protected
            .as_ref()
            .map_or(wanted, |protected| protected.protection.form())
    }

    /// Whether all indexes are in their stored form; where not, places of samples are looked up in `moov`.
    pub fn is_packed(&self) -> bool {
        let other_is_packed = |variants: &Variants| variants.other.is_packed();
        self.presentation.is_packed() && self.variants.as_ref().is_none_or(other_is_packed)
    }

    /// The same with all indexes in their stored form.
    pub fn packed(&self) -> Result<Asset, IndexError> {
        let mut packed = self.clone();
        packed.presentation.pack()?;
        if let Some(variants) = &mut packed.variants {
            variants.other = Arc::new(variants.other.packed()?);
        }
        Ok(packed)
    }

    /// Whether something was found in its files that is to be kept on disk.
    pub(crate) fn has_unkept(&self) -> bool {
        self.files.iter().any(|file| file.has_unkept())
    }

    /// Whether it, which was made of `asset` as it was, holds tables that `asset` has let go of by now.
    pub fn is_left_behind(&self, asset: &Asset) -> bool {
        !self.is_packed() && asset.is_packed()
    }

    /// Files that it keeps open.
    pub fn file_count(&self) -> u64 {
        let other = self.variants.as_ref().map_or(0, |variants| variants.other.file_count());
        self.files.len() as u64 + other
    }

    /// Memory the asset holds, in bytes.
    pub fn weight_bytes(&self) -> u64 {
        let of = |representation: &Representation| {
            let content = match &representation.content {
                Content::Samples(track) => track.index.memory_bytes() + track.description.sample_entry.len(),
                Content::Cues(text) => text
                    .cues()
                    .iter()
                    .map(|cue| 96 + cue.payload.len() + cue.settings.len())
                    .sum(),
            };
            let tables =
                size_of_val(representation.segments.segments()) + size_of_val(representation.trick_frames.as_slice());
            (content + tables + 512) as u64
        };
        // Tracks of a file hold one header together.
        let mut headers: Vec<&[u8]> = Vec::new();
        for track in self
            .presentation
            .representations
            .iter()
            .filter_map(Representation::track)
        {
            if let Some(header) = track.index.header()
                && !headers.iter().any(|known| std::ptr::eq(*known, &header[..]))
            {
                headers.push(header);
            }
        }
        let headers: usize = headers.iter().map(|header| read::memory_bytes(header.len())).sum();
        let ciphers = self.files.iter().filter_map(|file| file.cipher());
        let ciphers: usize = ciphers.map(|cipher| cipher.weight_bytes()).sum();
        let other = self
            .variants
            .as_ref()
            .map_or(0, |variants| variants.other.weight_bytes());
        4096 + other + (headers + ciphers) as u64 + self.presentation.representations.iter().map(of).sum::<u64>()
    }

    /// The file that holds a representation's samples.
    pub fn file(&self, representation: &Representation) -> Option<&Arc<SourceFile>> {
        self.files.get(representation.source)
    }

    /// Whether samples of some source lie encrypted in it.
    pub fn has_encrypted_source(&self) -> bool {
        self.files.iter().any(|file| file.cipher().is_some())
    }

    /// Whether ranges of its files can be sent as they lie there, by one URL for everybody.
    pub fn is_served_as_it_lies(&self) -> bool {
        self.protected.is_none() && self.variants.is_none() && !self.has_encrypted_source()
    }

    /// Whether it may be served in the clear: what was encrypted before may not, unless who gave its key says so. Blocking
    /// where a source is encrypted.
    pub fn may_be_clear(&self) -> bool {
        let mut ciphers = self.files.iter().filter_map(|file| file.cipher());
        ciphers.all(|cipher| cipher.may_be_clear())
    }

    /// True when every file it was made of is still what it was.
    pub fn is_current(&self) -> bool {
        self.made_of.iter().all(|(path, fingerprint)| {
            std::fs::symlink_metadata(path).is_ok_and(|metadata| Fingerprint::of(&metadata) == *fingerprint)
        })
    }
}
