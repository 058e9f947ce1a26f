//! Puts pieces together: tracks, their descriptions, the manifest.

use std::path::{Path, PathBuf};

use packager::isobmff::sample_entry::{self, SampleEntryError, TrackFacts, VideoFacts};
use packager::presentation::stored::{FILE_NAME, FORMAT, Manifest, ManifestRefusal, ManifestTrack};
use packager::presentation::{HlsDescription, Role};
use packager::text::webvtt;
use packager::time::Timescale;
use packager::track::TrackDescription;

use crate::encoder::HdrSignal;
use crate::input::{IndexedTrack, Input, TOGETHER_NS, beginning_ns, nanoseconds};
use crate::ladder::{Rendition, VideoCodec};
use crate::order::{AudioRendition, Coded, samples_name, table_name};
use crate::report::{self, AudioReport, Report, VideoReport};
use crate::source::VideoSource;
use crate::staging::Staging;
use crate::table::CodedSample;
use crate::timing::{self, SampleTime, TrackTimes};
use crate::track_file::{self, TrackSample, read_table, write_synced};
use crate::vod::pieces::{AUDIO_NAME, PASS_NAME, chunk_name, read_coded};
use crate::vod::plan::{Pass, Plan};
use crate::vod::{JobError, KnownText, TrackSaid, TranscodeJob};
use crate::{caps, captions};

/// Samples of an AAC-LC frame.
const AAC_FRAME_SAMPLES: u32 = 1_024;
/// Samples that the AAC encoder puts before the first.
const AAC_PRIMING_SAMPLES: i64 = 1_024;
/// A film that ends this much before its container says so was cut off.
const CUT_OFF_MS: i64 = 2_000;

/// Writes everything but thumbnails into `folder`.
pub(crate) fn assemble(job: &TranscodeJob, plan: &Plan, staging: &Staging, folder: &Path) -> Result<(), JobError> {
    let mut tracks = Vec::new();
    let mut end_ms = 0;
    let zero_ns = zero_ns(plan, staging)?;
    let mut report = Report {
        source: plan.source.clone(),
        refused: plan.refused.clone(),
        encoders: plan.encoders.clone(),
        video: Vec::new(),
        audio: Vec::new(),
    };
    if let Some(video) = &plan.source.video {
        let (made, video_end_ms) = videos(job, plan, video, zero_ns, staging, folder, &mut report.video)?;
        tracks.extend(made);
        end_ms = video_end_ms;
    }
    if !plan.audio.is_empty() {
        let (made, audio_end_ms) = sounds(job, plan, zero_ns, staging, folder, &mut report.audio)?;
        tracks.extend(made);
        end_ms = end_ms.max(audio_end_ms);
    }
    if let Some(duration_ms) = plan.source.duration_ms.and_then(|ms| i64::try_from(ms).ok())
        && end_ms + CUT_OFF_MS.max(duration_ms / 100) < duration_ms
    {
        return Err(JobError::Mismatch(format!(
            "the source says that it lasts {}.{:03} s and ends after {}.{:03} s: it was cut off or is damaged",
            duration_ms / 1_000,
            duration_ms % 1_000,
            end_ms / 1_000,
            end_ms % 1_000
        )));
    }
    let captions = captions(plan, zero_ns, end_ms, staging)?;
    for (number, known) in job.known.texts.iter().chain(&captions).enumerate() {
        let file = format!("t{}.vtt", number + 1);
        write_synced(&folder.join(&file), &webvtt::write(&known.text))?;
        tracks.push(entry(file, &known.said, None));
    }
    let manifest = Manifest {
        format: FORMAT.into(),
        title: job.title.clone(),
        segment_duration_ms: job.segment_duration_ms,
        hls: HlsDescription::default(),
        tracks,
        refused: plan
            .refused
            .iter()
            .map(|row| ManifestRefusal {
                what: row.what.clone(),
                why: row.why.clone(),
            })
            .collect(),
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| JobError::Mismatch(error.to_string()))?;
    write_synced(&folder.join(FILE_NAME), &text)?;
    let text = serde_json::to_vec_pretty(&report).map_err(|error| JobError::Mismatch(error.to_string()))?;
    Ok(write_synced(&folder.join(report::FILE_NAME), &text)?)
}

/// The longest file of captions that is read: a day of two fields at 60 Hz.
const CAPTIONS_SIZE_BYTES_MAX: u64 = 128 << 20;

/// The captions that came with the pictures, channel by channel.
fn captions(plan: &Plan, zero_ns: i64, end_ms: i64, staging: &Staging) -> Result<Vec<KnownText>, JobError> {
    let mut pairs = Vec::new();
    for chunk in 0..plan.chunks.len() {
        let path = staging.piece(&chunk_name(chunk)).join(captions::FILE_NAME);
        match std::fs::metadata(&path) {
            Ok(found) if found.len() <= CAPTIONS_SIZE_BYTES_MAX => {
                let bytes = std::fs::read(&path).map_err(track_file::io(&path))?;
                pairs.extend(captions::read(&bytes));
            }
            // Most films have none.
            Ok(_) | Err(_) => {}
        }
    }
    let tracks = captions::tracks(&pairs, zero_ns, u64::try_from(end_ms).unwrap_or(0));
    let known = tracks.into_iter().map(|(name, text)| KnownText {
        text,
        said: TrackSaid {
            language: "und".into(),
            label: Some(name),
            roles: vec![Role::Caption],
            default: false,
        },
    });
    Ok(known.collect())
}

/// The instant of the source that becomes zero. Transport streams begin at any time: there it is the earliest of any
/// track. In other containers a late start is meant.
fn zero_ns(plan: &Plan, staging: &Staging) -> Result<i64, JobError> {
    // Indexes begin at zero.
    if !plan.source.container.starts_with("video/mpeg") || !matches!(plan.input, Input::File(_)) {
        return Ok(0);
    }
    let mut earliest = None;
    if !plan.audio.is_empty() {
        let coded = read_coded(&staging.piece(AUDIO_NAME))?;
        earliest = coded.iter().filter_map(|coded| coded.start_ns).min();
    }
    if !plan.chunks.is_empty() {
        let joined = join(plan, staging, 0)?;
        let shown = joined.samples.iter().map(|sample| sample.presentation_ns).min();
        earliest = earliest.into_iter().chain(shown).min();
    }
    Ok(earliest.unwrap_or(0))
}

fn entry(file: String, said: &TrackSaid, description: Option<TrackDescription>) -> ManifestTrack {
    ManifestTrack {
        file,
        language: said.language.clone(),
        label: said.label.clone(),
        roles: said.roles.clone(),
        default: said.default,
        description,
    }
}

/// One rendition's samples: from all chunks, or the source's.
struct Joined {
    /// Facts of the source's, where they are its samples.
    passed: Option<TrackDescription>,
    encoder: String,
    /// Why they are, or are not, the source's.
    why: String,
    samples: Vec<CodedSample>,
    pieces: Vec<PathBuf>,
    codec_data: Vec<u8>,
}

impl Joined {
    fn size_bytes(&self) -> u64 {
        self.samples.iter().map(|sample| u64::from(sample.size)).sum()
    }
}

fn videos(
    job: &TranscodeJob,
    plan: &Plan,
    video: &VideoSource,
    zero_ns: i64,
    staging: &Staging,
    folder: &Path,
    reports: &mut Vec<VideoReport>,
) -> Result<(Vec<ManifestTrack>, i64), JobError> {
    let mut made: Vec<(&Rendition, Joined)> = Vec::with_capacity(plan.renditions.len());
    for (number, (rendition, encoder)) in plan.renditions.iter().enumerate() {
        let mut joined = join(plan, staging, number)?;
        joined.encoder.clone_from(encoder);
        joined.why = plan.why_not_passed.get(number).cloned().unwrap_or_default();
        made.push((rendition, joined));
    }
    for (number, passed) in plan.passed.iter().enumerate() {
        if let Some(rendition) = &passed.rendition {
            let track = passed_track(job, &passed.stream_id)?;
            let path = staging.piece(PASS_NAME).join(samples_name(number));
            let joined = Joined {
                passed: Some(track.input.description.clone()),
                encoder: "none".into(),
                why: "the source has its coding, size, key frames and rate".into(),
                samples: read_table(&staging.piece(PASS_NAME).join(table_name(number)), &path)?,
                pieces: vec![path],
                codec_data: caps::configuration(&track.input.description)
                    .unwrap_or_default()
                    .to_vec(),
            };
            made.push((rendition, joined));
        }
    }
    // Large before small, heavy before light: the order in which the origin names them.
    made.sort_by_key(|(rendition, joined)| {
        let area = u64::from(rendition.width) * u64::from(rendition.height);
        std::cmp::Reverse((area, joined.size_bytes()))
    });
    let mut tracks = Vec::with_capacity(made.len());
    let mut shown: Option<(Vec<i64>, Vec<i64>)> = None;
    let mut end_ms = 0;
    let coded = || made.iter().filter(|(_, joined)| joined.passed.is_none());
    for (rendition, joined) in coded().chain(made.iter().filter(|(_, joined)| joined.passed.is_some())) {
        check_alignment(rendition, joined, &mut shown)?;
    }
    for (number, (rendition, joined)) in made.into_iter().enumerate() {
        let mut times = timing::of_video(&joined.samples, video.frame_rate)?;
        let earlier_ms = show_first_earlier(job, plan, &mut times);
        let start = times.start - timing::ticks(zero_ns, times.timescale);
        let description = describe(rendition, video, &times, &joined)?;
        let file = format!("v{}.mp4", number + 1);
        let samples = joined
            .samples
            .iter()
            .zip(&times.samples)
            .map(|(sample, time)| TrackSample {
                size: sample.size,
                sync: sample.sync,
                time: *time,
            });
        track_file::write(
            &folder.join(&file),
            &description,
            times.timescale,
            -start,
            samples,
            &joined.pieces,
        )?;
        let ticks: i64 = times.samples.iter().map(|time| i64::from(time.duration)).sum();
        end_ms = (start + ticks) * 1_000 / i64::from(times.timescale.get());
        let said = TrackSaid {
            language: "und".into(),
            ..TrackSaid::default()
        };
        reports.push(VideoReport {
            file: file.clone(),
            rendition: rendition.clone(),
            frame_count: joined.samples.len() as u64,
            size_bytes: joined.size_bytes(),
            constant_rate: times.constant_rate,
            first_picture_earlier_ms: earlier_ms,
            passed_through: joined.passed.is_some(),
            passed_through_why: joined.why,
            encoder: joined.encoder,
        });
        tracks.push(entry(file, &said, Some(description)));
    }
    Ok((tracks, end_ms))
}

/// Shows the first picture from where sound begins, if that is less than a segment earlier; by how many milliseconds.
fn show_first_earlier(job: &TranscodeJob, plan: &Plan, times: &mut TrackTimes) -> u64 {
    let begin_ns = match plan.input {
        Input::File(_) => None,
        Input::Tracks(_) => beginning_ns(&job.known.tracks),
    };
    let Some(begin_ns) = begin_ns else { return 0 };
    let scale = times.timescale;
    let begin = timing::ticks(begin_ns, scale);
    let earlier_ns = nanoseconds(times.start - begin, scale);
    let most_ns = i64::from(job.segment_duration_ms) * 1_000_000;
    match (TOGETHER_NS..most_ns).contains(&earlier_ns) && times.begin_at(begin) {
        true => earlier_ns.unsigned_abs() / 1_000_000,
        false => 0,
    }
}

/// All chunks of rendition `number`, in order.
fn join(plan: &Plan, staging: &Staging, number: usize) -> Result<Joined, JobError> {
    let mut joined = Joined {
        passed: None,
        encoder: String::new(),
        why: String::new(),
        samples: Vec::new(),
        pieces: Vec::new(),
        codec_data: Vec::new(),
    };
    for chunk in 0..plan.chunks.len() {
        let name = chunk_name(chunk);
        let piece = staging.piece(&name);
        let wrong = |what: &str| JobError::Mismatch(format!("{name}: {what}"));
        let coded = read_coded(&piece)?;
        let coded: &Coded = coded.get(number).ok_or_else(|| wrong("a rendition is missing"))?;
        let path = piece.join(samples_name(number));
        let samples = read_table(&piece.join(table_name(number)), &path)?;
        if samples.len() as u64 != coded.sample_count {
            return Err(wrong("another number of samples than was said"));
        }
        let Some(first) = samples.first() else {
            // A gap in the film, or its end before the container's.
            continue;
        };
        if !first.sync {
            return Err(wrong("does not begin with a key frame"));
        }
        let codec_data = bytes_of(&coded.codec_data).ok_or_else(|| wrong("a damaged configuration"))?;
        match joined.codec_data.is_empty() {
            true => joined.codec_data = codec_data,
            false if joined.codec_data == codec_data => {}
            false => return Err(wrong("its configuration differs from that of the chunk before")),
        }
        let last = joined.samples.iter().map(|sample| sample.presentation_ns).max();
        if samples.iter().any(|sample| Some(sample.presentation_ns) <= last) {
            return Err(wrong("overlaps the chunk before"));
        }
        joined.samples.extend(samples);
        joined.pieces.push(path);
    }
    Ok(joined)
}

/// Every rendition must have the same pictures, and key frames at the same ones.
fn check_alignment(
    rendition: &Rendition,
    joined: &Joined,
    shown: &mut Option<(Vec<i64>, Vec<i64>)>,
) -> Result<(), JobError> {
    let mut times: Vec<i64> = joined.samples.iter().map(|sample| sample.presentation_ns).collect();
    times.sort_unstable();
    let keys: Vec<i64> = joined
        .samples
        .iter()
        .filter(|sample| sample.sync)
        .map(|sample| sample.presentation_ns)
        .collect();
    match shown {
        None => *shown = Some((times, keys)),
        Some((first, _)) if *first != times => {
            return Err(JobError::Mismatch(format!(
                "{}: its pictures differ from the others'",
                rendition.name
            )));
        }
        // The source may have more than are needed.
        Some((_, first)) if joined.passed.is_some() && first.iter().all(|key| keys.contains(key)) => {}
        Some((_, first)) if *first != keys => {
            return Err(JobError::Mismatch(format!(
                "{}: its key frames differ from the others'",
                rendition.name
            )));
        }
        Some(_) => {}
    }
    Ok(())
}

fn describe(
    rendition: &Rendition,
    video: &VideoSource,
    times: &TrackTimes,
    joined: &Joined,
) -> Result<TrackDescription, JobError> {
    let facts = TrackFacts {
        source_track_id: 1,
        timescale: times.timescale,
        language: "und".into(),
        label: None,
    };
    let hdr = HdrSignal::from_caps(video.mastering_display.as_deref(), video.content_light_level.as_deref());
    let shown = VideoFacts {
        size: Some((rendition.width, rendition.height)),
        sample_aspect_ratio: Some((1, 1)),
        mastering_display: hdr.mastering_display.filter(|_| rendition.bit_depth > 8),
        content_light_level: hdr.content_light_level.filter(|_| rendition.bit_depth > 8),
        color: joined.passed.as_ref().and_then(|source| source.video()?.color),
        ..VideoFacts::default()
    };
    describe_video(rendition.codec, &facts, &joined.codec_data, &shown)
        .map_err(|error| JobError::Mismatch(format!("{}: {error}", rendition.name)))
}

/// What is said of pictures whose decoder is set up with `configuration`.
pub(crate) fn describe_video(
    codec: VideoCodec,
    facts: &TrackFacts,
    configuration: &[u8],
    shown: &VideoFacts,
) -> Result<TrackDescription, SampleEntryError> {
    match codec {
        VideoCodec::Avc => sample_entry::avc(facts, configuration, shown),
        VideoCodec::Hevc => sample_entry::hevc(facts, configuration, shown),
        VideoCodec::Av1 => sample_entry::av1(facts, configuration, shown),
    }
}

fn sounds(
    job: &TranscodeJob,
    plan: &Plan,
    zero_ns: i64,
    staging: &Staging,
    folder: &Path,
    reports: &mut Vec<AudioReport>,
) -> Result<(Vec<ManifestTrack>, i64), JobError> {
    let piece = staging.piece(AUDIO_NAME);
    let coded = read_coded(&piece)?;
    let wanted = plan
        .audio
        .iter()
        .flat_map(|(stream, renditions)| renditions.iter().map(move |rendition| (stream, rendition)));
    let mut tracks = Vec::new();
    let mut end_ms = 0;
    for (number, (stream, rendition)) in wanted.enumerate() {
        let wrong = |what: &str| JobError::Mismatch(format!("sound {}: {what}", number + 1));
        let coded = coded.get(number).ok_or_else(|| wrong("a rendition is missing"))?;
        let path = piece.join(samples_name(number));
        let samples = read_table(&piece.join(table_name(number)), &path)?;
        if samples.is_empty() {
            return Err(wrong("not one sample in it"));
        }
        let timescale = Timescale::new(rendition.sample_rate).ok_or_else(|| wrong("no sampling rate"))?;
        let facts = TrackFacts {
            source_track_id: u32::try_from(number + 1).unwrap_or(u32::MAX),
            timescale,
            language: "und".into(),
            label: None,
        };
        let config = bytes_of(&coded.codec_data).ok_or_else(|| wrong("a damaged configuration"))?;
        let description = sample_entry::aac(&facts, &config).map_err(|error| wrong(&error.to_string()))?;
        let start = timing::ticks(coded.start_ns.unwrap_or(zero_ns) - zero_ns, timescale);
        // The last frame ends with the last sample that went in.
        let frames = samples.len() as u64;
        let whole = frames * u64::from(AAC_FRAME_SAMPLES);
        let heard = coded.input_sample_count + AAC_PRIMING_SAMPLES.unsigned_abs();
        let excess = u32::try_from(whole.saturating_sub(heard)).unwrap_or(u32::MAX);
        let last_duration = AAC_FRAME_SAMPLES.saturating_sub(excess).max(1);
        if whole + u64::from(AAC_FRAME_SAMPLES) < heard {
            return Err(wrong("fewer samples came out than went in"));
        }
        let rows = samples.iter().enumerate().map(|(at, sample)| TrackSample {
            size: sample.size,
            sync: true,
            time: SampleTime {
                duration: match at as u64 + 1 == frames {
                    true => last_duration,
                    false => AAC_FRAME_SAMPLES,
                },
                composition_offset: 0,
            },
        });
        let file = format!("a{}.mp4", number + 1);
        track_file::write(
            &folder.join(&file),
            &description,
            timescale,
            AAC_PRIMING_SAMPLES - start,
            rows,
            &[path],
        )?;
        let silence_ms = |count: u64| count.saturating_mul(1_000) / u64::from(timescale.get());
        let ticks = i64::try_from(coded.input_sample_count).unwrap_or(i64::MAX / 2_000);
        end_ms = end_ms.max((start + ticks) * 1_000 / i64::from(timescale.get()));
        reports.push(AudioReport {
            file: file.clone(),
            rendition: *rendition,
            loudness: coded.loudness,
            silence_before_ms: silence_ms(coded.silent_sample_counts.0),
            silence_after_ms: silence_ms(coded.silent_sample_counts.1),
            passed_through: false,
        });
        let said = said_of(
            job,
            &stream.stream_id,
            stream.language.as_deref(),
            stream.title.as_deref(),
        );
        tracks.push(entry(file, &said, Some(description)));
    }
    for (number, passed) in plan.passed.iter().enumerate() {
        if passed.rendition.is_some() {
            continue;
        }
        let file = format!("a{}.mp4", tracks.len() + 1);
        let (description, passed_end_ms, report) = passed_sound(job, staging, folder, (number, passed), &file)?;
        end_ms = end_ms.max(passed_end_ms);
        reports.push(report);
        let mut streams = plan.audio.iter().map(|(stream, _)| stream);
        let stream = streams.find(|stream| stream.stream_id == passed.stream_id);
        let said = said_of(
            job,
            &passed.stream_id,
            stream.and_then(|stream| stream.language.as_deref()),
            stream.and_then(|stream| stream.title.as_deref()),
        );
        tracks.push(entry(file, &said, Some(description)));
    }
    Ok((tracks, end_ms))
}

/// The source's track called `stream_id`.
fn passed_track<'a>(job: &'a TranscodeJob, stream_id: &str) -> Result<&'a IndexedTrack, JobError> {
    let mut tracks = job.known.tracks.iter();
    tracks
        .find(|track| track.input.stream_id == stream_id)
        .ok_or_else(|| JobError::Mismatch(format!("{stream_id} is gone")))
}

/// Writes the sound that is piece `number` of what is taken over; gives what it is, when it ends in milliseconds, and what is
/// reported of it.
fn passed_sound(
    job: &TranscodeJob,
    staging: &Staging,
    folder: &Path,
    (number, passed): (usize, &Pass),
    file: &str,
) -> Result<(TrackDescription, i64, AudioReport), JobError> {
    let track = passed_track(job, &passed.stream_id)?;
    let index = &track.index;
    let path = staging.piece(PASS_NAME).join(samples_name(number));
    let description = TrackDescription {
        source_track_id: u32::try_from(number + 1).unwrap_or(u32::MAX),
        language: "und".into(),
        label: None,
        timescale: index.timescale(),
        ..track.input.description.clone()
    };
    let samples = index.iter().map(|sample| TrackSample {
        size: sample.size,
        sync: sample.sync,
        time: SampleTime {
            duration: sample.duration,
            composition_offset: 0,
        },
    });
    let start = index.presentation_time_of(0).unwrap_or(0);
    track_file::write(
        &folder.join(file),
        &description,
        index.timescale(),
        -start,
        samples,
        &[path],
    )?;
    let end_ms = index.presentation_end().saturating_mul(1_000) / i64::from(index.timescale().get());
    let duration_ms = (end_ms - start.saturating_mul(1_000) / i64::from(index.timescale().get())).max(1);
    let size_bytes: u64 = index.iter().map(|sample| u64::from(sample.size)).sum();
    let bits = size_bytes.saturating_mul(8_000) / duration_ms.unsigned_abs();
    let audio = description.audio();
    let report = AudioReport {
        file: file.to_owned(),
        rendition: AudioRendition {
            channels: audio.map_or(0, |audio| audio.channel_count.into()),
            sample_rate: audio.map_or(0, |audio| audio.sample_rate),
            bitrate_bps: u32::try_from(bits).unwrap_or(u32::MAX),
        },
        loudness: None,
        silence_before_ms: 0,
        silence_after_ms: 0,
        passed_through: true,
    };
    Ok((description, end_ms, report))
}

/// What the container says of a stream; GStreamer's names of streams end in the container's number.
fn said_of(job: &TranscodeJob, stream_id: &str, language: Option<&str>, title: Option<&str>) -> TrackSaid {
    let name = stream_id.rsplit('/').next().unwrap_or_default();
    let number = name.split(':').next().and_then(|number| number.parse::<u32>().ok());
    let mut known = job.known.audio.iter();
    let known = known.find(|known| known.stream_id == stream_id || Some(known.track_id) == number);
    let mut said = known.map(|known| known.said.clone()).unwrap_or_default();
    if said.language.is_empty() || said.language == "und" {
        said.language = language.filter(|tag| is_tag(tag)).unwrap_or("und").to_owned();
    }
    said.label = said.label.or(title.map(str::to_owned));
    said
}

fn is_tag(text: &str) -> bool {
    (2..=35).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn bytes_of(hexadecimal: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pairs = hexadecimal.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>().filter(|bytes| !bytes.is_empty())
}
