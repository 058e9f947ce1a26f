//! MPEG-TS and packed-audio segments.
//!
//! How long each packet's payload is follows from all samples, so that all are looked into before the first byte can be
//! sent, and the whole is built in the same pass. After that each part is made of its own samples. A segment that is
//! encrypted as one chain (AES-128) is gone through once; blocks of it then let each part be encrypted alone.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use packager::codec::MediaKind;
use packager::crypto::ContentKey;
use packager::crypto::aes128::{self, SegmentCipher, SegmentParts};
use packager::crypto::sample_aes::SampleAes;
use packager::form::Form;
use packager::hls::muxed_audio;
use packager::index::{Extent, Sample, TrackIndex};
use packager::limits::SEGMENT_SIZE_BYTES_MAX;
use packager::mpegts::mux::{self, MuxSample, MuxTrack, SegmentLayout};
use packager::mpegts::packed_audio::{self, PackedAudioError};
use packager::presentation::Representation;
use packager::protection::SegmentList;
use packager::time::{MediaTime, Rounding, Timescale, rescale};
use packager::track::{Track, TrackDescription};

use super::parts::{Parts, Recipe, Source};
use super::{Answer, At, Building, Planned};
use crate::error::ServeError;
use crate::hot::Hot;
use crate::pool::Buffer;
use crate::read::SourceFile;

/// Presentation time zero on the transport stream's 90 kHz clock: 10 s, so that priming and decode times before zero
/// stay positive.
pub(super) const TIME_BASE_90K: i64 = 900_000;

pub(super) fn segment(at: At, number: u32) -> Result<Planned, ServeError> {
    let representation = at.representation()?;
    let segment = representation.segments.get(number).ok_or(ServeError::NotFound)?;
    let mut tracks = vec![(at.id.clone(), segment.samples.clone())];
    let list = match representation.kind() {
        MediaKind::Video => {
            if let Some(audio) = muxed_audio(&at.asset.presentation, at.form) {
                tracks.push((audio.id.clone(), audio_range(representation, audio, number)));
            }
            List::Media
        }
        MediaKind::Audio => List::PackedAudio,
        MediaKind::Text => return Err(ServeError::NotFound),
    };
    Ok(Planned::Segment(Building::Mux(Muxing {
        at,
        number,
        list,
        tracks,
    })))
}

pub(super) fn trick_frame(at: At, number: u32) -> Result<Planned, ServeError> {
    let position = number.checked_sub(1).ok_or(ServeError::NotFound)? as usize;
    let frames = &at.representation()?.trick_frames;
    let first = frames.get(position).ok_or(ServeError::NotFound)?.sample_index;
    Ok(Planned::Segment(Building::Mux(Muxing {
        tracks: vec![(at.id.clone(), first..first.saturating_add(1))],
        list: List::Trick,
        number,
        at,
    })))
}

fn damaged<E: std::error::Error>(at: &At) -> impl Fn(E) -> ServeError + '_ {
    move |error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        ServeError::Damaged {
            what: format!("{} of {}: {error}{cause}", at.id, at.asset.media_id),
        }
    }
}

/// A file, and what must be read of it.
type Media = (Arc<SourceFile>, Vec<Extent>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Media,
    Trick,
    PackedAudio,
}

/// A segment that somebody wants.
#[derive(Clone)]
pub struct Muxing {
    at: At,
    number: u32,
    list: List,
    /// Representations and their samples.
    tracks: Vec<(String, Range<u32>)>,
}

/// How long one may go on without letting others have their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// To the end.
    Through,
    /// A part at most: some 50 microseconds.
    Steps,
}

impl Pace {
    async fn pause(self) {
        if self == Pace::Steps {
            tokio::task::yield_now().await;
        }
    }
}

impl Muxing {
    /// Names the segment among all there are.
    pub fn key(&self) -> Result<String, ServeError> {
        Ok(format!("{}/{}", self.at.asset.media_id, self.at.etag(&self.name()?)))
    }

    fn name(&self) -> Result<String, ServeError> {
        let number = self.number;
        Ok(match self.list {
            List::Media => format!("{number}.ts"),
            List::Trick => format!("iframe-{number}.ts"),
            List::PackedAudio => format!("{number}.{}", self.extension()?),
        })
    }

    fn extension(&self) -> Result<&'static str, ServeError> {
        Ok(packed_audio::extension(self.at.representation()?.codec()).unwrap_or("aac"))
    }

    fn content_type(&self) -> Result<&'static str, ServeError> {
        if self.list != List::PackedAudio {
            return Ok("video/mp2t");
        }
        Ok(match self.extension()? {
            "mp3" => "audio/mpeg",
            "ac3" => "audio/ac3",
            "ec3" => "audio/eac3",
            _ => "audio/aac",
        })
    }

    fn representations(&self) -> impl Iterator<Item = Result<(&Representation, Range<u32>), ServeError>> {
        self.tracks.iter().map(|(id, samples)| {
            let found = self.at.asset.presentation.representation(id);
            Ok((found.ok_or(ServeError::NotFound)?, samples.clone()))
        })
    }

    /// The files and ranges that each of its tracks must be read from.
    pub fn sources(&self) -> Result<Vec<Media>, ServeError> {
        self.representations()
            .map(|found| {
                let (representation, samples) = found?;
                let track = representation.track().ok_or(ServeError::NotFound)?;
                let file = self.at.asset.file(representation).ok_or(ServeError::NotFound)?;
                let size = track.index.size_bytes(samples.clone());
                if size > SEGMENT_SIZE_BYTES_MAX {
                    return Err(ServeError::Damaged {
                        what: format!("segment of {size} bytes, at most {SEGMENT_SIZE_BYTES_MAX}"),
                    });
                }
                Ok((file.clone(), track.index.extents(samples)))
            })
            .collect()
    }

    /// Builds the segment of what was read of its sources, in their order. All but the encryption of a whole segment,
    /// which [`Muxing::whole_key`] tells of.
    pub async fn build(&self, sources: &[Buffer], pace: Pace) -> Result<Build, ServeError> {
        let at = &self.at;
        let mut samples = Vec::with_capacity(self.tracks.len());
        for (found, bytes) in self.representations().zip(sources) {
            let (representation, range) = found?;
            samples.push(Samples::new(representation, range, bytes)?);
        }
        let first = samples.first().ok_or(ServeError::NotFound)?;
        let cipher = self.sample_cipher()?;
        if self.list == List::PackedAudio {
            let time = first.times.first();
            let packing = Packing {
                description: first.track.description.clone(),
                time_90k: time.map_or(TIME_BASE_90K, |times| times.presentation_90k),
                sizes: first.samples.iter().map(|sample| sample.size as usize).collect(),
                cipher,
            };
            let bytes = packing.write(first.bytes).map_err(damaged(at))?;
            return Ok(Build {
                starts: vec![0, bytes.len() as u64],
                made: vec![Buffer::from(bytes)],
                writing: Writing::Packed(packing),
            });
        }
        let muxed: Vec<Vec<MuxSample<'_>>> = samples.iter().map(Samples::muxed).collect();
        let tracks: Vec<MuxTrack<'_>> = std::iter::zip(&samples, &muxed)
            .map(|(samples, muxed)| MuxTrack {
                description: &samples.track.description,
                samples: muxed,
            })
            .collect();
        let segment = mux::Segment {
            number: u64::from(self.number),
            tracks: &tracks,
        };
        let layout = match &cipher {
            Some(cipher) => segment.lay_out_encrypted(cipher, PART_SIZE_BYTES),
            None => segment.lay_out(PART_SIZE_BYTES),
        };
        let layout = layout.map_err(damaged(at))?;
        let starts: Vec<u64> = layout.starts().collect();
        // What is encrypted as a whole is written in one piece.
        let together = self.at.form == Form::TsAes128;
        let mut made: Vec<Buffer> = Vec::new();
        for part in 0..layout.part_count() {
            let media = samples.iter().enumerate().map(|(track, samples)| {
                let media = layout.media(part, track);
                let bytes = samples.bytes.get(media.start as usize..media.end as usize);
                bytes.unwrap_or_default()
            });
            let media: Vec<&[u8]> = media.collect();
            if made.is_empty() || !together {
                let size = match together {
                    true => layout.size(),
                    false => part_size(&starts, part),
                };
                made.push(Buffer::empty(size as usize + PADDING_SIZE_BYTES_MAX));
            }
            let out = made.last_mut().ok_or(ServeError::NotFound)?;
            layout.write(part, &media, out.vec()).map_err(damaged(at))?;
            pace.pause().await;
        }
        Ok(Build {
            writing: Writing::Muxed(layout),
            starts,
            made,
        })
    }

    /// What is known of the segment once it was built, and its bytes. All of it may come to lie in `hot`.
    pub fn finish(&self, build: Build, chain: Option<Chain>, hot: Hot) -> Result<(Parts, Vec<Bytes>), ServeError> {
        let Build { writing, starts, made } = build;
        let parts = 0..starts.len().saturating_sub(1);
        let mut sources = Vec::with_capacity(self.tracks.len());
        for (track, found) in self.representations().enumerate() {
            let (representation, samples) = found?;
            let index = &representation.track().ok_or(ServeError::NotFound)?.index;
            let file = self.at.asset.file(representation).ok_or(ServeError::NotFound)?.clone();
            let extents = |part| {
                let range = match &writing {
                    Writing::Packed(_) => samples.clone(),
                    Writing::Muxed(layout) => {
                        let of_part = layout.samples(part, track);
                        samples.start + of_part.start as u32..samples.start + of_part.end as u32
                    }
                };
                index.extents(range)
            };
            sources.push(Source::new(file, parts.clone().map(extents)));
        }
        let starts = match &chain {
            None => starts,
            Some(chain) => (0..starts.len()).map(|part| chain.parts.range(part).start).collect(),
        };
        let parts = Parts {
            head: Bytes::new(),
            recipe: Box::new(TsRecipe {
                writing,
                sizes: (0..starts.len()).map(|part| part_size(&starts, part)).collect(),
                chain,
            }),
            starts,
            sources,
            content_type: self.content_type()?,
            etag: self.at.etag(&self.name()?),
            what: format!("{} of {}", self.at.id, self.at.asset.media_id),
            hot,
        };
        Ok((parts, made.into_iter().map(Buffer::into_bytes).collect()))
    }

    /// True when building takes long where it can not be interrupted.
    pub fn is_long(&self) -> bool {
        self.at.form == Form::TsSampleAes
    }

    /// True when some of its samples lie encrypted in their source: their keys are asked for each time.
    pub fn has_encrypted_source(&self) -> Result<bool, ServeError> {
        Ok(self.sources()?.iter().any(|(file, _)| file.cipher().is_some()))
    }

    fn segment_list(&self) -> SegmentList {
        match self.list {
            List::Trick => SegmentList::Trick,
            List::Media | List::PackedAudio => SegmentList::Media,
        }
    }

    /// The key and initialisation vector of all of the segment, where its form is AES-128.
    pub fn whole_key(&self) -> Result<Option<(ContentKey, [u8; 16])>, ServeError> {
        let list = self.segment_list();
        let protection = self.at.protection(list, self.number)?;
        protection
            .filter(|_| self.at.form == Form::TsAes128)
            .map(|(protected, track)| Ok((protected.key(track)?.clone(), track.segment_iv(list, self.number))))
            .transpose()
    }

    /// What encrypts samples in SAMPLE-AES.
    fn sample_cipher(&self) -> Result<Option<SampleAes>, ServeError> {
        let protection = self.at.protection(self.segment_list(), self.number)?;
        protection
            .filter(|_| self.at.form == Form::TsSampleAes)
            .map(|(protected, track)| Ok(SampleAes::new(protected.key(track)?, track.seed.constant())))
            .transpose()
    }

    /// The answer, built at once. Blocking.
    pub fn answer_blocking(&self) -> Result<Answer, ServeError> {
        let (parts, made) = self.build_blocking(Hot::default())?;
        Ok(parts.answer_made(made))
    }

    /// All of it. Blocking.
    pub fn build_blocking(&self, hot: Hot) -> Result<(Parts, Vec<Bytes>), ServeError> {
        let mut sources = Vec::with_capacity(self.tracks.len());
        for found in self.representations() {
            let (representation, samples) = found?;
            let track = representation.track().ok_or(ServeError::NotFound)?;
            let file = self.at.asset.file(representation).ok_or(ServeError::NotFound)?;
            sources.push(Buffer::from(read_samples(file, &track.index, samples)?));
        }
        // Going through, it never waits.
        let building = std::pin::pin!(self.build(&sources, Pace::Through));
        let Poll::Ready(built) = building.poll(&mut Context::from_waker(Waker::noop())) else {
            return Err(ServeError::Storage {
                what: "building stopped on its way".into(),
            });
        };
        let mut build = built?;
        let chain = match (self.whole_key()?, build.made.first_mut()) {
            (Some((key, iv)), Some(whole)) => {
                let chain = Chain::begin(&key, &build.starts, whole);
                aes128::encrypt_many(&key, &mut [aes128::WholeSegment { iv, bytes: whole.vec() }]);
                Some(chain.learn(iv, whole))
            }
            _ => None,
        };
        self.finish(build, chain, hot)
    }
}

/// Bytes of media that are made at once, unless one picture has more: what is made of them fits half of a small core's own
/// cache, and a buffer of that size.
const PART_SIZE_BYTES: usize = 120_000;
/// Of a whole segment (RFC 5652 6.3).
const PADDING_SIZE_BYTES_MAX: usize = 16;

fn part_size(starts: &[u64], part: usize) -> u64 {
    let ends = starts.get(part).zip(starts.get(part + 1));
    ends.map_or(0, |(start, end)| end - start)
}

/// A segment that was built for the first time.
pub struct Build {
    writing: Writing,
    /// Where its clear parts begin, and the end.
    pub starts: Vec<u64>,
    /// Its bytes, part by part, or all of them in one where they are to be encrypted as a whole.
    pub made: Vec<Buffer>,
}

/// What turns samples into clear parts.
enum Writing {
    Muxed(SegmentLayout),
    Packed(Packing),
}

/// Packed audio, in one part.
struct Packing {
    description: TrackDescription,
    time_90k: i64,
    /// Of the samples.
    sizes: Vec<usize>,
    cipher: Option<SampleAes>,
}

impl Packing {
    fn write(&self, mut media: &[u8]) -> Result<Vec<u8>, PackedAudioError> {
        let payloads = self
            .sizes
            .iter()
            .map(|size| media.split_off(..*size).unwrap_or_default());
        let payloads: Vec<&[u8]> = payloads.collect();
        match &self.cipher {
            Some(cipher) => packed_audio::segment_encrypted(&self.description, self.time_90k, &payloads, cipher),
            None => packed_audio::segment(&self.description, self.time_90k, &payloads),
        }
    }
}

/// What encrypts parts of a whole segment.
pub struct Chain {
    cipher: SegmentCipher,
    parts: SegmentParts,
}

impl Chain {
    /// For a segment whose parts begin at `starts`, while it is still clear.
    pub fn begin(key: &ContentKey, starts: &[u64], clear: &[u8]) -> Chain {
        let starts = starts.get(..starts.len().saturating_sub(1)).unwrap_or_default();
        Chain {
            cipher: SegmentCipher::new(key),
            parts: SegmentParts::new(starts, clear),
        }
    }

    /// Takes what must be known from the encrypted segment.
    pub fn learn(mut self, iv: [u8; 16], encrypted: &[u8]) -> Chain {
        self.parts.learn(iv, encrypted);
        self
    }
}

/// Builds parts of a segment of which all is known but the media.
struct TsRecipe {
    writing: Writing,
    /// Bytes of the parts, as they are sent.
    sizes: Vec<u64>,
    chain: Option<Chain>,
}

impl Recipe for TsRecipe {
    fn make(&self, part: usize, media: Buffer) -> Result<Buffer, String> {
        let size = self.sizes.get(part).copied().unwrap_or(0) as usize;
        let mut out = Buffer::empty(size + PADDING_SIZE_BYTES_MAX);
        if let Some(chain) = &self.chain {
            chain.parts.begin(part, out.vec());
        }
        match &self.writing {
            Writing::Packed(packing) => {
                out.vec()
                    .extend(packing.write(&media).map_err(|error| error.to_string())?);
            }
            Writing::Muxed(layout) => {
                let mut rest: &[u8] = &media;
                let of_track = |track| {
                    let size = layout.media(part, track).count();
                    rest.split_off(..size).unwrap_or_default()
                };
                let media: Vec<&[u8]> = (0..layout.track_count()).map(of_track).collect();
                layout
                    .write(part, &media, out.vec())
                    .map_err(|error| error.to_string())?;
            }
        }
        let whole = match &self.chain {
            Some(chain) => chain.parts.encrypt(&chain.cipher, part, out.vec()),
            None => true,
        };
        match whole && out.len() == size {
            true => Ok(out),
            false => Err("the samples are not those that the segment was built of".into()),
        }
    }

    fn weight_bytes(&self) -> usize {
        let chain = self.chain.as_ref().map_or(0, |chain| chain.parts.weight_bytes() + 512);
        let writing = match &self.writing {
            Writing::Packed(packing) => size_of_val(packing.sizes.as_slice()) + 1_024,
            Writing::Muxed(layout) => layout.weight_bytes(),
        };
        size_of_val(self.sizes.as_slice()) + chain + writing
    }
}

/// The audio samples that travel with video segment `number`: whole audio segments that start (to within 100 ms) in its
/// time; the first video segment takes what is earlier, the last what is later.
fn audio_range(video: &Representation, audio: &Representation, number: u32) -> Range<u32> {
    let tolerance = 100;
    let millis = |ticks: u64, scale: Timescale| MediaTime::new(ticks as i64, scale).to_millis(Rounding::Nearest);
    let table = &audio.segments;
    let first_from = |video_number: u32| -> u32 {
        let end = table.segments().last().map_or(0, |segment| segment.samples.end);
        match video.segments.get(video_number) {
            None => end,
            Some(_) if video_number <= 1 => 0,
            Some(segment) => {
                let start = millis(segment.start, video.segments.timescale()) - tolerance;
                let found = table
                    .segments()
                    .iter()
                    .find(|other| millis(other.start, table.timescale()) >= start);
                found.map_or(end, |other| other.samples.start)
            }
        }
    };
    first_from(number)..first_from(number.saturating_add(1))
}

/// Times of a sample on the transport stream's clock.
struct Times {
    presentation_90k: i64,
    decode_90k: i64,
}

/// Samples of one track in memory.
struct Samples<'a> {
    track: &'a Track,
    samples: Vec<Sample>,
    times: Vec<Times>,
    bytes: &'a [u8],
}

impl<'a> Samples<'a> {
    /// Samples `range`, which lie in `bytes` one after the other.
    fn new(representation: &'a Representation, range: Range<u32>, bytes: &'a [u8]) -> Result<Samples<'a>, ServeError> {
        let track = representation.track().ok_or(ServeError::NotFound)?;
        let samples: Vec<Sample> = track.index.samples(range).collect();
        let scale = track.index.timescale();
        // Where composition offsets are negative, decode times move back so that no sample is shown before it is decoded.
        let delay = track.index.decode_delay() as i64;
        let to_90k = |ticks| rescale(ticks, scale, Timescale::MPEG_TS, Rounding::Nearest) + TIME_BASE_90K;
        let times = samples
            .iter()
            .map(|sample| {
                let presentation_90k = to_90k(track.index.presentation_time(sample));
                let decode_90k = to_90k(sample.decode_time as i64 - delay).min(presentation_90k);
                Times {
                    presentation_90k,
                    decode_90k,
                }
            })
            .collect();
        Ok(Samples {
            track,
            samples,
            times,
            bytes,
        })
    }

    fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        self.samples.iter().map(move |sample| {
            let start = at;
            at += sample.size as usize;
            self.bytes.get(start..at).unwrap_or_default()
        })
    }

    fn muxed(&self) -> Vec<MuxSample<'_>> {
        let rows = self.payloads().zip(&self.times).zip(&self.samples);
        rows.map(|((data, times), sample)| MuxSample {
            presentation_time_90k: times.presentation_90k,
            decode_time_90k: times.decode_90k,
            sync: sample.sync,
            data,
        })
        .collect()
    }
}

/// The bytes of samples `range`, one after the other, decrypted where the source is encrypted.
pub(super) fn read_samples(
    file: &Arc<SourceFile>,
    index: &TrackIndex,
    range: Range<u32>,
) -> Result<Vec<u8>, ServeError> {
    let size = index.size_bytes(range.clone());
    if size > SEGMENT_SIZE_BYTES_MAX {
        return Err(ServeError::Damaged {
            what: format!("segment of {size} bytes, at most {SEGMENT_SIZE_BYTES_MAX}"),
        });
    }
    let mut buffer = vec![0; size as usize];
    let mut rest = buffer.as_mut_slice();
    for extent in index.extents(range.clone()) {
        let Some((now, later)) = rest.split_at_mut_checked(extent.size as usize) else {
            return Err(ServeError::Damaged {
                what: "extents exceed the samples".into(),
            });
        };
        file.read_exact_at(now, extent.offset)
            .map_err(|error| ServeError::Storage {
                what: format!("{} bytes at {}: {error}", now.len(), extent.offset),
            })?;
        rest = later;
    }
    if let Some(cipher) = file.cipher() {
        cipher.decrypt(index, range, &mut buffer)?;
    }
    Ok(buffer)
}
