//! Encrypted fragments.
//!
//! A fragment's header tells which bytes of each sample are clear, so all samples are looked into before its first byte
//! can be sent. The first time they are encrypted in the same pass. After that the header and the map of its samples
//! are there, and the media is read, encrypted and sent part by part.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use packager::index::{Extent, TrackIndex};
use packager::isobmff::fragment::{self, SegmentPosition};
use packager::isobmff::on_demand;
use packager::isobmff::protection::{EncryptError, FragmentCipher, FragmentSamples, SampleAuxiliary};
use packager::limits::SEGMENT_SIZE_BYTES_MAX;
use packager::protection::SegmentList;
use packager::segment::TrickFrame;

use super::parts::{Parts, Recipe, Source};
use super::{Answer, At};
use crate::error::ServeError;
use crate::hot::Hot;
use crate::pool::Buffer;
use crate::read::SourceFile;

/// Bytes of media that are made at once, unless one sample has more: half of a core's own cache on small machines, and
/// some 50 microseconds of work.
const PART_SIZE_BYTES: u64 = 128 << 10;

/// An encrypted fragment that somebody wants.
pub struct Sealing {
    at: At,
    samples: Range<u32>,
    kind: Kind,
    /// The file's name in the URL.
    name: String,
}

enum Kind {
    Segment {
        number: u32,
    },
    TrickFrame {
        frame: TrickFrame,
        number: u32,
        position: SegmentPosition,
    },
}

impl Sealing {
    pub(super) fn segment(at: &At, samples: Range<u32>, number: u32, name: &str) -> Sealing {
        Sealing {
            at: at.clone(),
            samples,
            kind: Kind::Segment { number },
            name: name.to_owned(),
        }
    }

    pub(super) fn trick_frame(at: &At, frame: TrickFrame, number: u32, position: SegmentPosition) -> Sealing {
        Sealing {
            at: at.clone(),
            samples: frame.sample_index..frame.sample_index.saturating_add(1),
            name: format!("iframe-{number}.m4s"),
            kind: Kind::TrickFrame {
                frame,
                number,
                position,
            },
        }
    }

    /// Names the fragment among all there are.
    pub fn key(&self) -> String {
        format!("{}/{}", self.at.asset.media_id, self.at.etag(&self.name))
    }

    /// True when its samples lie encrypted in their source: their keys are asked for each time.
    pub fn has_encrypted_source(&self) -> Result<bool, ServeError> {
        let file = self.at.asset.file(self.at.representation()?);
        Ok(file.is_some_and(|file| file.cipher().is_some()))
    }

    /// All of it at once. Blocking.
    pub fn answer_blocking(self) -> Result<Answer, ServeError> {
        let mut discovery = self.start()?;
        while let Some(buffer) = discovery.read()? {
            discovery.take(buffer)?;
        }
        let (parts, made) = discovery.finish(Hot::default())?;
        Ok(parts.answer_made(made))
    }

    /// Starts to look into its samples.
    pub fn start(self) -> Result<Discovery, ServeError> {
        let representation = self.at.representation()?;
        let track = representation.track().ok_or(ServeError::NotFound)?;
        let (list, number) = match &self.kind {
            Kind::Segment { number } => (SegmentList::Media, *number),
            Kind::TrickFrame { number, .. } => (SegmentList::Trick, *number),
        };
        let (protected, protection) = self.at.protection(list, number)?.ok_or(ServeError::NotFound)?;
        let cipher = protected.fragment_cipher(representation, protection)?;
        let file = self.at.asset.file(representation).ok_or(ServeError::NotFound)?.clone();
        let size = track.index.size_bytes(self.samples.clone());
        if size > SEGMENT_SIZE_BYTES_MAX {
            return Err(ServeError::Damaged {
                what: format!("segment of {size} bytes, at most {SEGMENT_SIZE_BYTES_MAX}"),
            });
        }
        let starts = parts(&track.index, self.samples.clone());
        Ok(Discovery {
            fragment: cipher.start(),
            cipher,
            file,
            starts,
            made: Vec::new(),
            sealing: self,
        })
    }
}

/// First samples of the parts of `samples`, and the end.
fn parts(index: &TrackIndex, samples: Range<u32>) -> Vec<u32> {
    let mut starts = vec![samples.start];
    let mut size_bytes = 0;
    for (sample_index, size) in samples.clone().zip(index.sizes(samples.clone())) {
        if size_bytes > 0 && size_bytes + u64::from(size) > PART_SIZE_BYTES {
            starts.push(sample_index);
            size_bytes = 0;
        }
        size_bytes += u64::from(size);
    }
    starts.push(samples.end);
    starts
}

/// A fragment whose samples are being looked into, part by part.
pub struct Discovery {
    sealing: Sealing,
    cipher: FragmentCipher,
    fragment: FragmentSamples,
    file: Arc<SourceFile>,
    starts: Vec<u32>,
    made: Vec<Bytes>,
}

impl Discovery {
    fn part(&self) -> Option<Range<u32>> {
        let at = self.made.len();
        Some(*self.starts.get(at)?..*self.starts.get(at + 1)?)
    }

    /// What has to be read next, and how many bytes follow it; `None` when all parts are done.
    pub fn wanted(&self) -> Option<(&Arc<SourceFile>, Vec<Extent>, u64)> {
        let part = self.part()?;
        let index = &self.sealing.at.representation().ok()?.track()?.index;
        let follow = index.size_bytes(part.start..self.sealing.samples.end);
        Some((&self.file, index.extents(part), follow))
    }

    /// Reads what has to be read next, decrypted where the source is encrypted. Blocking.
    fn read(&self) -> Result<Option<Buffer>, ServeError> {
        let Some(part) = self.part() else { return Ok(None) };
        let track = self.sealing.at.representation()?.track().ok_or(ServeError::NotFound)?;
        let read = super::ts::read_samples(&self.file, &track.index, part)?;
        Ok(Some(Buffer::from(read)))
    }

    /// Takes in what was read.
    pub fn take(&mut self, mut buffer: Buffer) -> Result<(), ServeError> {
        let part = self.part().ok_or(ServeError::NotFound)?;
        let at = &self.sealing.at;
        let representation = at.representation()?;
        let track = representation.track().ok_or(ServeError::NotFound)?;
        let first = representation.first_source_sample;
        let encrypted = self
            .cipher
            .encrypt_next(&mut self.fragment, &track.index, part, first, &mut buffer);
        encrypted.map_err(|error| ServeError::Damaged {
            what: describe(at, &error),
        })?;
        self.made.push(buffer.into_bytes());
        Ok(())
    }

    /// What is known of the fragment now, and its encrypted bytes. All of it may come to lie in `hot`.
    pub fn finish(self, hot: Hot) -> Result<(Parts, Vec<Bytes>), ServeError> {
        let Sealing {
            at,
            samples,
            kind,
            name,
        } = self.sealing;
        let auxiliary = self.fragment.into_auxiliary();
        let representation = at.representation()?;
        let track = representation.track().ok_or(ServeError::NotFound)?;
        let head = match &kind {
            Kind::Segment { number } => {
                let position = on_demand::position(representation, *number);
                fragment::protected_header(&track.index, samples.clone(), *number, position, &auxiliary)
            }
            Kind::TrickFrame {
                frame,
                number,
                position,
            } => fragment::protected_trick_play_header(&track.index, frame, *number, *position, &auxiliary),
        };
        let mut starts = vec![head.len() as u64];
        for made in &self.made {
            starts.push(starts.last().copied().unwrap_or(0) + made.len() as u64);
        }
        let parts = self.starts.iter().zip(self.starts.iter().skip(1));
        let extents = parts.map(|(first, next)| track.index.extents(*first..*next));
        let recipe = Encryption {
            positions: self
                .starts
                .iter()
                .map(|first| first.saturating_sub(samples.start))
                .collect(),
            source_sample: representation.first_source_sample.saturating_add(samples.start),
            sizes: track.index.sizes(samples).collect(),
            cipher: self.cipher,
            auxiliary,
        };
        let parts = Parts {
            head,
            starts,
            sources: vec![Source::new(self.file, extents)],
            recipe: Box::new(recipe),
            content_type: super::cmaf::content_type(representation.kind()),
            etag: at.etag(&name),
            what: format!("{} of {}", at.id, at.asset.media_id),
            hot,
        };
        Ok((parts, self.made))
    }
}

fn describe(at: &At, error: &EncryptError) -> String {
    format!("{} of {}: {error}", at.id, at.asset.media_id)
}

/// Encrypts samples of which it is known what of them stays clear.
struct Encryption {
    cipher: FragmentCipher,
    auxiliary: SampleAuxiliary,
    /// Number of the first sample in the source.
    source_sample: u32,
    /// Bytes of each sample.
    sizes: Vec<u32>,
    /// First samples of the parts, 0-based in the fragment, and the end.
    positions: Vec<u32>,
}

impl Recipe for Encryption {
    fn make(&self, part: usize, mut media: Buffer) -> Result<Buffer, String> {
        let positions = self.positions.get(part).zip(self.positions.get(part + 1));
        let found = positions.and_then(|(first, end)| Some((*first, self.sizes.get(*first as usize..*end as usize)?)));
        let (first, sizes) = found.ok_or("no such part")?;
        let number = self.source_sample.saturating_add(first);
        let encrypted = self
            .cipher
            .encrypt_again(&self.auxiliary, first as usize, number, sizes, &mut media);
        encrypted.map_err(|error| error.to_string())?;
        Ok(media)
    }

    fn weight_bytes(&self) -> usize {
        // The cipher with its scanner has some hundred bytes, and the parameter sets.
        let cipher = 2_048;
        let tables = size_of_val(self.positions.as_slice()) + size_of_val(self.sizes.as_slice());
        self.auxiliary.weight_bytes() + tables + cipher
    }
}
