//! MPEG-TS and packed-audio segments, built from samples per request.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use packager::codec::MediaKind;
use packager::crypto::aes128::Aes128Segment;
use packager::crypto::sample_aes::SampleAes;
use packager::form::Form;
use packager::hls::muxed_audio;
use packager::index::{Sample, TrackIndex};
use packager::limits::SEGMENT_SIZE_BYTES_MAX;
use packager::mpegts::mux::{self, MuxSample, MuxTrack};
use packager::mpegts::packed_audio;
use packager::presentation::Representation;
use packager::protection::SegmentList;
use packager::time::{MediaTime, Rounding, Timescale, rescale};
use packager::track::Track;

use super::{Answer, At, CachePolicy, Planned};
use crate::content::Content;
use crate::error::ServeError;
use crate::read::SourceFile;

/// Presentation time zero on the transport stream's 90 kHz clock: 10 s, so that priming and decode times before zero
/// stay positive.
pub(super) const TIME_BASE_90K: i64 = 900_000;

pub(super) fn segment(at: At, number: u32) -> Result<Planned, ServeError> {
    let representation = at.representation()?;
    let segment = representation.segments.get(number).ok_or(ServeError::NotFound)?;
    let samples = segment.samples.clone();
    match representation.kind() {
        MediaKind::Video => Ok(Planned::Build(Box::new(move || video_segment(&at, number, samples)))),
        MediaKind::Audio => Ok(Planned::Build(Box::new(move || audio_segment(&at, number, samples)))),
        MediaKind::Text => Err(ServeError::NotFound),
    }
}

pub(super) fn trick_frame(at: At, number: u32) -> Result<Planned, ServeError> {
    let position = number.checked_sub(1).ok_or(ServeError::NotFound)? as usize;
    let frame = *at
        .representation()?
        .trick_frames
        .get(position)
        .ok_or(ServeError::NotFound)?;
    Ok(Planned::Build(Box::new(move || {
        let representation = at.representation()?;
        let samples = Samples::read(&at, representation, frame.sample_index..frame.sample_index + 1)?;
        let muxed_samples = samples.muxed();
        let tracks = [MuxTrack {
            description: &samples.track.description,
            samples: &muxed_samples,
        }];
        let segment = mux::Segment {
            number: u64::from(number),
            tracks: &tracks,
        };
        let bytes = muxed(&at, SegmentList::Trick, number, &segment)?;
        Ok(answer(&at, bytes, "video/mp2t", &format!("iframe-{number}.ts")))
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

fn answer(at: &At, bytes: Vec<u8>, content_type: &'static str, name: &str) -> Answer {
    Answer {
        content: Content::from(Bytes::from(bytes)),
        content_type,
        etag: at.etag(name),
        cache: CachePolicy::Immutable,
        gzip: None,
    }
}

fn video_segment(at: &At, number: u32, range: Range<u32>) -> Result<Answer, ServeError> {
    let representation = at.representation()?;
    let video = Samples::read(at, representation, range)?;
    let audio = match muxed_audio(&at.asset.presentation, at.form) {
        Some(audio) => Some(Samples::read(at, audio, audio_range(representation, audio, number))?),
        None => None,
    };
    let muxed_video = video.muxed();
    let muxed_audio = audio.as_ref().map(Samples::muxed).unwrap_or_default();
    let mut tracks = vec![MuxTrack {
        description: &video.track.description,
        samples: &muxed_video,
    }];
    if let Some(audio) = &audio {
        tracks.push(MuxTrack {
            description: &audio.track.description,
            samples: &muxed_audio,
        });
    }
    let segment = mux::Segment {
        number: u64::from(number),
        tracks: &tracks,
    };
    let bytes = muxed(at, SegmentList::Media, number, &segment)?;
    Ok(answer(at, bytes, "video/mp2t", &format!("{number}.ts")))
}

/// A segment as the asset's form has it: clear, its samples encrypted, or all of it.
fn muxed(at: &At, list: SegmentList, number: u32, segment: &mux::Segment<'_>) -> Result<Vec<u8>, ServeError> {
    match sample_cipher(at, list, number)? {
        Some(cipher) => segment.write_encrypted(&cipher).map_err(damaged(at)),
        None => whole(at, list, number, segment.write().map_err(damaged(at))?),
    }
}

/// What encrypts samples in SAMPLE-AES.
fn sample_cipher(at: &At, list: SegmentList, number: u32) -> Result<Option<SampleAes>, ServeError> {
    let protection = at.protection(list, number)?.filter(|_| at.form == Form::TsSampleAes);
    protection
        .map(|(protected, track)| Ok(SampleAes::new(protected.key(track)?, track.seed.constant())))
        .transpose()
}

/// `clear`, encrypted as a whole where the form is AES-128.
fn whole(at: &At, list: SegmentList, number: u32, clear: Vec<u8>) -> Result<Vec<u8>, ServeError> {
    let Some((protected, track)) = at.protection(list, number)?.filter(|_| at.form == Form::TsAes128) else {
        return Ok(clear);
    };
    let mut cipher = Aes128Segment::new(protected.key(track)?, track.segment_iv(list, number));
    let mut out = Vec::with_capacity(clear.len() + 16);
    cipher.update(&clear, &mut out);
    cipher.finish(&mut out);
    Ok(out)
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

fn audio_segment(at: &At, number: u32, range: Range<u32>) -> Result<Answer, ServeError> {
    let representation = at.representation()?;
    let samples = Samples::read(at, representation, range)?;
    let first = samples
        .times
        .first()
        .map_or(TIME_BASE_90K, |times| times.presentation_90k);
    let payloads: Vec<&[u8]> = samples.payloads().collect();
    let description = &samples.track.description;
    let bytes = match sample_cipher(at, SegmentList::Media, number)? {
        Some(cipher) => packed_audio::segment_encrypted(description, first, &payloads, &cipher).map_err(damaged(at))?,
        None => {
            let clear = packed_audio::segment(description, first, &payloads).map_err(damaged(at))?;
            whole(at, SegmentList::Media, number, clear)?
        }
    };
    let extension = packed_audio::extension(representation.codec()).unwrap_or("aac");
    let content_type = match extension {
        "mp3" => "audio/mpeg",
        "ac3" => "audio/ac3",
        "ec3" => "audio/eac3",
        _ => "audio/aac",
    };
    Ok(answer(at, bytes, content_type, &format!("{number}.{extension}")))
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
    bytes: Bytes,
}

impl<'a> Samples<'a> {
    /// Reads samples `range` with one read for each extent.
    fn read(at: &At, representation: &'a Representation, range: Range<u32>) -> Result<Samples<'a>, ServeError> {
        let track = representation.track().ok_or(ServeError::NotFound)?;
        let file = at.asset.file(representation).ok_or(ServeError::NotFound)?;
        let bytes = Bytes::from(read_samples(file, &track.index, range.clone())?);
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
