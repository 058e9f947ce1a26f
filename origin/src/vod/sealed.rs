//! Encrypted fragments: what must be known of their samples is found once; their bytes are made for each who asks.
//!
//! A fragment's header tells which bytes of each sample are clear, so all samples are looked into before its first byte
//! can be sent. The first time they are encrypted in the same pass. After that the header and the map of its samples
//! are there, and the media is read, encrypted and sent part by part: a slow reader holds one part, not a segment.

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

use super::{Answer, At, CachePolicy};
use crate::content::{Content, Layout, Made, Maker, Piece};
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
        let (sealed, made) = discovery.finish(Hot::default())?;
        Ok(sealed.answer_made(made))
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
    pub fn finish(self, hot: Hot) -> Result<(Sealed, Vec<Bytes>), ServeError> {
        let Sealing {
            at,
            samples,
            kind,
            name,
        } = self.sealing;
        let auxiliary = self.fragment.into_auxiliary();
        let representation = at.representation()?;
        let track = representation.track().ok_or(ServeError::NotFound)?;
        let header = match &kind {
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
        let mut parts = Vec::with_capacity(self.made.len() + 1);
        let mut extents = Vec::new();
        let mut start = header.len() as u64;
        for (made, first) in self.made.iter().zip(&self.starts) {
            parts.push(Part {
                start,
                position: first.saturating_sub(samples.start) as usize,
                extent: extents.len(),
            });
            start += made.len() as u64;
            let next = self.starts.get(parts.len()).copied().unwrap_or(samples.end);
            extents.extend(track.index.extents(*first..next));
        }
        parts.push(Part {
            start,
            position: samples.len(),
            extent: extents.len(),
        });
        let sealed = Sealed {
            cipher: self.cipher,
            auxiliary,
            header,
            source_sample: representation.first_source_sample.saturating_add(samples.start),
            sizes: track.index.sizes(samples).collect(),
            parts,
            extents,
            content_type: super::cmaf::content_type(representation.kind()),
            etag: at.etag(&name),
            what: format!("{} of {}", at.id, at.asset.media_id),
            file: self.file,
            hot,
        };
        Ok((sealed, self.made))
    }
}

fn describe(at: &At, error: &EncryptError) -> String {
    format!("{} of {}: {error}", at.id, at.asset.media_id)
}

/// An encrypted fragment of which all is known but the media itself. It holds nothing of its title but the open file.
pub struct Sealed {
    file: Arc<SourceFile>,
    cipher: FragmentCipher,
    auxiliary: SampleAuxiliary,
    header: Bytes,
    /// Number of its first sample in the source.
    source_sample: u32,
    /// Bytes of each sample.
    sizes: Vec<u32>,
    /// The last one is the end.
    parts: Vec<Part>,
    /// Where the media is, part by part.
    extents: Vec<Extent>,
    content_type: &'static str,
    etag: String,
    /// For the log.
    what: String,
    /// All of it, while many want it.
    hot: Hot,
}

/// Samples that are made at once.
struct Part {
    /// First byte in the fragment.
    start: u64,
    /// First sample, 0-based in the fragment.
    position: usize,
    /// First of its extents.
    extent: usize,
}

impl Sealed {
    /// The answer that makes it.
    pub fn answer(self: &Arc<Self>) -> Answer {
        self.answer_of(Content::Virtual(self.clone()))
    }

    /// The answer with its bytes, for the one for whom they were made first.
    pub fn answer_made(&self, made: Vec<Bytes>) -> Answer {
        let pieces = std::iter::once(self.header.clone()).chain(made);
        self.answer_of(Content::Pieces(pieces.map(Piece::Memory).collect()))
    }

    fn answer_of(&self, content: Content) -> Answer {
        Answer {
            content,
            content_type: self.content_type,
            etag: self.etag.clone(),
            cache: CachePolicy::Immutable,
            gzip: None,
        }
    }

    /// Memory that is taken by what is known, in bytes.
    pub fn weight_bytes(&self) -> usize {
        // The cipher with its scanner has some hundred bytes, and the parameter sets.
        let cipher = 2_048;
        let tables = size_of_val(self.parts.as_slice())
            + size_of_val(self.extents.as_slice())
            + size_of_val(self.sizes.as_slice());
        self.header.len() + self.auxiliary.weight_bytes() + tables + cipher
    }

    fn part(&self, part: usize) -> Option<(&Part, &Part)> {
        Some((self.parts.get(part)?, self.parts.get(part + 1)?))
    }
}

/// Section 0 is the header; section `n` is part `n - 1`.
impl Layout for Sealed {
    fn size(&self) -> u64 {
        self.parts.last().map_or(0, |end| end.start)
    }

    fn section_count(&self) -> usize {
        self.parts.len()
    }

    fn section_at(&self, offset: u64) -> (usize, u64) {
        match self.parts.partition_point(|part| part.start <= offset) {
            0 => (0, 0),
            section => (section, self.parts.get(section - 1).map_or(0, |part| part.start)),
        }
    }

    fn section(self: Arc<Self>, section: usize) -> Vec<Piece> {
        let part = section.checked_sub(1);
        let start = part.and_then(|part| self.parts.get(part)).map_or(0, |part| part.start);
        // Where all of it is at hand, what follows comes with it.
        if let Some(pieces) = self.hot.pieces(start..self.size()) {
            return pieces;
        }
        if section == 0 {
            self.hot.count_viewer();
        }
        let Some(part) = part else {
            return vec![Piece::Memory(self.header.clone())];
        };
        let end = self.parts.get(section).map_or(start, |part| part.start);
        vec![Piece::Made(Made {
            maker: self,
            part,
            range: 0..end - start,
        })]
    }

    fn is_made(&self) -> bool {
        !self.hot.is_kept()
    }

    fn memory_size(&self) -> usize {
        self.weight_bytes()
    }
}

impl Maker for Sealed {
    fn file(&self) -> &Arc<SourceFile> {
        &self.file
    }

    fn extents(&self, part: usize) -> &[Extent] {
        let extents = self
            .part(part)
            .and_then(|(part, next)| self.extents.get(part.extent..next.extent));
        extents.unwrap_or_default()
    }

    fn make(&self, part: usize, bytes: &mut [u8]) -> std::io::Result<()> {
        let found = self.part(part).and_then(|(part, next)| {
            let sizes = self.sizes.get(part.position..next.position)?;
            Some((part.position, u32::try_from(part.position).ok()?, sizes))
        });
        let (position, number, sizes) = found.ok_or_else(|| std::io::Error::other("no such part"))?;
        let number = self.source_sample.saturating_add(number);
        self.cipher
            .encrypt_again(&self.auxiliary, position, number, sizes, bytes)
            .map_err(|error| std::io::Error::other(format!("{}: {error}", self.what)))
    }
}
