//! ISO base media and QuickTime files as sources: `moov`, edit lists and fragments become indexed tracks.
//!
//! Reads box headers, the whole `moov` in one read and every `moof`; media bytes only where a sample entry leaves out
//! what describes its samples. A damaged, encrypted or unknown track is refused by itself, with a reason.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod edit;
mod encryption;
mod fragment;
mod header;
mod key_fit;
pub(crate) mod language;
mod samples;
mod table;
mod walk;

use std::sync::Arc;

use bytes::Bytes;

use self::edit::{EditContext, EditedTrack};
use self::encryption::TrackEncryption;
use self::fragment::{FragmentedTrack, Fragments, NO_SAMPLE_PRESENT};
use self::header::{MovieHeader, TrackHeader};
use self::samples::RawSamples;
use self::table::SampleTable;
use self::walk::Walk;
use super::sample_entry::{self, SourceEntry, TrackFacts};
use super::{BoxError, BoxReader, FourCc};
use crate::codec::MediaKind;
use crate::crypto::source::{EncryptedSamples, NoKeys, SourceKeys};
use crate::limits::{FILE_SAMPLE_COUNT_MAX, FRAGMENT_COUNT_MAX, TOP_LEVEL_BOX_COUNT_MAX};
use crate::source::{ReadAt, ReadError, Refusal, SourceTracks};
use crate::time::{MediaTime, Rounding, Timescale};
use crate::track::{Track, TrackDescription};

/// Why a file can not be served at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MovieError {
    /// The source could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file's structure is damaged.
    #[error(transparent)]
    Box(#[from] BoxError),
    /// A header box is larger than what is read into memory.
    #[error("{fourcc} at {offset} has {size} bytes, at most {size_max} are read")]
    TooLarge {
        /// `moov` or `moof`.
        fourcc: FourCc,
        /// Where it starts.
        offset: u64,
        /// Its size.
        size: u64,
        /// The bound.
        size_max: u64,
    },
    /// More boxes than any real file has.
    #[error("more than {TOP_LEVEL_BOX_COUNT_MAX} boxes in front of {offset}")]
    TooManyBoxes {
        /// Where the walk was given up.
        offset: u64,
    },
    /// The file has no header, and is not a media segment either.
    #[error("no moov: not an MP4 or QuickTime file, or one cut off before its header")]
    NoMovie,
    /// Fragments without the header they belong to.
    #[error("no moov (a media segment without its header)")]
    SegmentWithoutHeader,
}

/// Reads an ISO base media or QuickTime file. Encrypted tracks are refused.
pub fn read(source: &dyn ReadAt) -> Result<SourceTracks, MovieError> {
    read_encrypted(source, &NoKeys)
}

/// As [`read`], with encrypted tracks whose keys are among `keys` and fit.
pub fn read_encrypted(source: &dyn ReadAt, keys: &dyn SourceKeys) -> Result<SourceTracks, MovieError> {
    let mut walk = Walk::new(source);
    let (moov, payload) = find_movie(&mut walk)?;
    let mut movie = MovieHeader::parse(walk::reader(&moov, &payload));
    let mut reader = Reader {
        source,
        payload: &payload,
        keys,
        movie_timescale: movie.timescale,
        fragmented: movie.fragmented,
        refused: std::mem::take(&mut movie.refused),
        samples_left: FILE_SAMPLE_COUNT_MAX,
        has_encrypted: false,
    };
    let chapters: Vec<u32> = movie
        .tracks
        .iter()
        .flat_map(|track| track.chapter_tracks.clone())
        .collect();
    let candidates: Vec<Candidate<'_>> = movie
        .tracks
        .drain(..)
        .filter_map(|header| reader.candidate(header, &movie.track_extends, &chapters))
        .collect();
    let chosen: Vec<Chosen> = match movie.fragmented {
        true => {
            let mut fragments = Fragments::new(source);
            let mut rest = Vec::new();
            for mut candidate in candidates {
                let extends = movie
                    .track_extends
                    .get(&candidate.header.id)
                    .copied()
                    .unwrap_or_default();
                let track = FragmentedTrack::new(
                    candidate.timescale,
                    candidate.kind,
                    extends,
                    &candidate.table,
                    candidate.encryption.take(),
                    source,
                );
                fragments.tracks.insert(candidate.header.id, track);
                candidate.descriptions.clear();
                rest.push(candidate);
            }
            reader.fragments(&mut walk, &mut fragments)?;
            rest.into_iter()
                .filter_map(|candidate| reader.choose_gathered(candidate, &mut fragments))
                .collect()
        }
        false => candidates
            .into_iter()
            .filter_map(|candidate| reader.choose(candidate))
            .collect(),
    };
    Ok(reader.finish(chosen))
}

/// Walks to `moov` and reads it.
fn find_movie(walk: &mut Walk<'_>) -> Result<(walk::TopBox, Bytes), MovieError> {
    let mut has_fragments = false;
    while let Some(found) = walk.next()? {
        match &found.fourcc.0 {
            b"moov" => {
                let payload = walk.payload(&found)?;
                return Ok((found, payload));
            }
            b"moof" | b"styp" | b"sidx" => has_fragments = true,
            _ => {}
        }
    }
    Err(if has_fragments {
        MovieError::SegmentWithoutHeader
    } else {
        MovieError::NoMovie
    })
}

/// A track whose header can be served, before its samples are looked at.
struct Candidate<'a> {
    header: TrackHeader<'a>,
    timescale: Timescale,
    kind: MediaKind,
    table: SampleTable<'a>,
    entries: Vec<BoxReader<'a>>,
    /// Sample description indexes in use.
    descriptions: Vec<u32>,
    /// `None` where no sample can be encrypted.
    encryption: Option<TrackEncryption<'a>>,
}

/// A track with its samples chosen.
struct Chosen {
    description: TrackDescription,
    edited: EditedTrack,
    encrypted: Option<EncryptedSamples>,
}

/// The reading of one file.
struct Reader<'s> {
    source: &'s dyn ReadAt,
    /// Of `moov`.
    payload: &'s Bytes,
    keys: &'s dyn SourceKeys,
    movie_timescale: Option<Timescale>,
    fragmented: bool,
    refused: Vec<Refusal>,
    samples_left: usize,
    has_encrypted: bool,
}

/// Sample entries of one `stsd` that are looked at.
const ENTRY_COUNT_MAX: usize = 64;

/// What people call a track that is refused: its number, kind and coding.
fn track_name(header: &TrackHeader<'_>, entries: &[BoxReader<'_>]) -> String {
    let kind = match &header.handler.0 {
        b"vide" => "video",
        b"soun" => "audio",
        b"text" | b"subt" | b"sbtl" | b"clcp" => "text",
        b"tmcd" => "timecode",
        b"hint" => "hint",
        b"meta" => "metadata",
        _ => "unknown",
    };
    match entries.first() {
        Some(entry) => format!("track {} ({kind}, {})", header.id, entry.fourcc.to_string().trim_end()),
        None => format!("track {} ({kind})", header.id),
    }
}

impl<'s> Reader<'s> {
    fn refuse(&mut self, what: String, why: impl std::fmt::Display) {
        self.refused.push(Refusal {
            what,
            why: why.to_string(),
        });
    }

    /// Checks what a track's header says; a track that can not be served is refused here.
    fn candidate<'a>(
        &mut self,
        header: TrackHeader<'a>,
        extends: &std::collections::BTreeMap<u32, header::TrackExtends>,
        chapters: &[u32],
    ) -> Option<Candidate<'a>>
    where
        's: 'a,
    {
        let entries = header.sample_table.map(sample_entries).unwrap_or(Ok(Vec::new()));
        let name = track_name(&header, entries.as_deref().unwrap_or_default());
        let checked = entries.map_err(|error| error.to_string()).and_then(|entries| {
            let kind = media_kind(&header)?;
            if kind == MediaKind::Text && chapters.contains(&header.id) {
                return Err("names of chapters, not subtitles".to_owned());
            }
            let timescale = header.timescale.ok_or("timescale is zero")?;
            let stbl = header.sample_table.ok_or("no sample table (stbl)")?;
            let table =
                SampleTable::parse(stbl, self.payload, self.source.size()).map_err(|error| error.to_string())?;
            self.samples_left = self
                .samples_left
                .checked_sub(table.sample_count() as usize)
                .ok_or_else(|| format!("more than {FILE_SAMPLE_COUNT_MAX} samples in one file"))?;
            let fragmented = self.fragmented && extends.contains_key(&header.id);
            if table.sample_count() == 0 && !fragmented && !self.fragmented {
                return Err("no samples".to_owned());
            }
            let mut descriptions: Vec<u32> = table.description_indexes().take(ENTRY_COUNT_MAX).collect();
            descriptions.sort_unstable();
            descriptions.dedup();
            let encryption = TrackEncryption::parse(&header, &entries, kind)?;
            self.has_encrypted |= encryption.is_some();
            Ok((timescale, kind, table, entries, descriptions, encryption))
        });
        match checked {
            Ok((timescale, kind, table, entries, descriptions, encryption)) => Some(Candidate {
                header,
                timescale,
                kind,
                table,
                entries,
                descriptions,
                encryption,
            }),
            Err(why) => {
                self.refuse(name, why);
                None
            }
        }
    }

    /// Reads all fragments behind `moov`. A damaged one ends the walk: what came before it is served.
    fn fragments(&mut self, walk: &mut Walk<'_>, fragments: &mut Fragments<'_>) -> Result<(), MovieError> {
        let mut fragment_count = 0;
        loop {
            let found = match walk.next() {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(()),
                Err(MovieError::Read(error)) => return Err(error.into()),
                Err(error) => {
                    self.refuse("rest of the file".to_owned(), error);
                    return Ok(());
                }
            };
            if &found.fourcc.0 != b"moof" {
                continue;
            }
            fragment_count += 1;
            let read = match walk.payload(&found) {
                Ok(_) if fragment_count > FRAGMENT_COUNT_MAX => {
                    Err(format!("more than {FRAGMENT_COUNT_MAX} fragments"))
                }
                Ok(payload) => fragments
                    .read(walk::reader(&found, &payload))
                    .map_err(|error| error.to_string()),
                Err(MovieError::Read(error)) => return Err(error.into()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(why) = read {
                self.refuse(format!("everything from fragment {fragment_count} on"), why);
                return Ok(());
            }
        }
    }

    fn choose(&mut self, mut candidate: Candidate<'_>) -> Option<Chosen> {
        let table = candidate.table;
        let encrypted = candidate.encryption.take().map(|mut encryption| {
            let samples = table.iter().map(|sample| (sample.offset, sample.size));
            let chunks = table.samples_per_chunk();
            encryption
                .header_samples(&candidate.descriptions, samples, chunks, self.source)
                .map(|()| encryption.samples)
        });
        match encrypted.transpose() {
            Ok(encrypted) => {
                let promised = u64::from(table.sample_count());
                let missing_count = || promised - table.iter().count() as u64;
                self.choose_samples(&candidate, &RawSamples::Table(table), encrypted, missing_count)
            }
            Err(why) => {
                self.refuse(track_name(&candidate.header, &candidate.entries), why);
                None
            }
        }
    }

    fn choose_gathered(&mut self, mut candidate: Candidate<'_>, fragments: &mut Fragments<'_>) -> Option<Chosen> {
        let gathered = fragments.tracks.remove(&candidate.header.id)?.finish();
        match gathered {
            Ok(gathered) => {
                candidate.descriptions = gathered.descriptions;
                self.choose_samples(&candidate, &gathered.samples, gathered.encrypted, || {
                    gathered.missing_count
                })
            }
            Err(why) => {
                self.refuse(track_name(&candidate.header, &candidate.entries), why);
                None
            }
        }
    }

    fn choose_samples(
        &mut self,
        candidate: &Candidate<'_>,
        samples: &RawSamples<'_>,
        mut encrypted: Option<EncryptedSamples>,
        missing_count: impl Fn() -> u64,
    ) -> Option<Chosen> {
        let header = &candidate.header;
        let name = track_name(header, &candidate.entries);
        if samples.iter().next().is_none() {
            self.refuse(name, NO_SAMPLE_PRESENT);
            return None;
        }
        let described = self
            .check_keys(encrypted.as_mut())
            .and_then(|()| self.describe(candidate, samples, encrypted.as_ref()));
        let description = match described {
            Ok(description) => description,
            Err(why) => {
                self.refuse(name, why);
                return None;
            }
        };
        let context = EditContext {
            movie_timescale: self.movie_timescale,
            timescale: candidate.timescale,
            kind: candidate.kind,
            fragmented: self.fragmented,
        };
        match edit::apply(samples, &header.edits, &context) {
            Ok(edited) => {
                let missing_count = if edited.complete { 0 } else { missing_count() };
                if missing_count > 0 {
                    self.refuse(
                        format!("end of {name}"),
                        format!("truncated: last {missing_count} samples missing"),
                    );
                }
                if edited.undecodable_count > 0 {
                    let why = format!("{} samples in front of the first sync sample", edited.undecodable_count);
                    self.refuse(format!("start of {name}"), why);
                }
                Some(Chosen {
                    description,
                    edited,
                    encrypted,
                })
            }
            Err(why) => {
                self.refuse(name, why);
                None
            }
        }
    }

    /// Whether there are keys for all of a track's samples.
    fn check_keys(&self, encrypted: Option<&mut EncryptedSamples>) -> Result<(), String> {
        let Some(encrypted) = encrypted else { return Ok(()) };
        encrypted.finish().map_err(|error| error.to_string())?;
        for key_id in encrypted.key_ids() {
            let scheme = encrypted.scheme().map_or("", |scheme| scheme.name());
            let why = match self.keys.key(key_id) {
                Ok(Some(_)) => continue,
                Ok(None) => "no key".to_owned(),
                Err(reason) => reason,
            };
            return Err(format!("encrypted ({scheme}, KID {}): {why}", key_id.hex()));
        }
        Ok(())
    }

    /// Describes the track from its entry and, where need be, its first sample; with keys it is seen whether they fit.
    fn describe(
        &self,
        candidate: &Candidate<'_>,
        samples: &RawSamples<'_>,
        encrypted: Option<&EncryptedSamples>,
    ) -> Result<TrackDescription, String> {
        let header = &candidate.header;
        let entry = used_entry(&candidate.entries, &candidate.descriptions, candidate.kind)?;
        let track = TrackFacts {
            source_track_id: header.id,
            timescale: candidate.timescale,
            language: header.language.clone(),
            label: header.label.clone(),
        };
        let mut entry = SourceEntry::parse(entry, candidate.kind, header.matrix).map_err(|error| error.to_string())?;
        if entry.needs_frame_rate() {
            let (count, ticks) = samples.iter().fold((0u64, 0u64), |(count, ticks), sample| {
                (count + 1, ticks + u64::from(sample.duration))
            });
            let timescale = u64::from(candidate.timescale.get());
            entry.set_frame_rate((ticks > 0).then_some((count * timescale, ticks)));
        }
        let first_sample = |size_bytes_max: usize| -> Result<Bytes, ReadError> {
            let Some(sample) = samples.iter().find(|sample| sample.sync && sample.size > 0) else {
                return Ok(Bytes::new());
            };
            let size = (sample.size as usize).min(size_bytes_max);
            match encrypted {
                None => self.source.read_at(sample.offset, size),
                Some(encrypted) => {
                    let bytes = key_fit::read_sample(self.source, self.keys, encrypted, &sample)?;
                    Ok(bytes.slice(..size.min(bytes.len())))
                }
            }
        };
        let description = sample_entry::describe(&track, &entry, &first_sample).map_err(|error| error.to_string())?;
        if let Some(encrypted) = encrypted {
            key_fit::check(self.source, self.keys, encrypted, &description, samples.iter())?;
        }
        Ok(description)
    }

    /// Puts all tracks on one timeline, on which the first thing shown is shown at zero.
    fn finish(mut self, chosen: Vec<Chosen>) -> SourceTracks {
        let start = chosen
            .iter()
            .map(|track| MediaTime::new(track.edited.start, track.description.timescale))
            .min();
        let mut tracks = Vec::with_capacity(chosen.len());
        let mut encryption = EncryptedSamples::default();
        for Chosen {
            description,
            edited,
            encrypted,
        } in chosen
        {
            let what = format!("track {} ({})", description.source_track_id, description.codec.name());
            if let Some(encrypted) = encrypted
                && let Err(error) = encryption.append(encrypted)
            {
                self.refuse(what, error);
                continue;
            }
            let shift = start.map_or(0, |start| start.to_scale(description.timescale, Rounding::Nearest));
            match edited.writer.finish(edited.edit_offset.saturating_add(shift)) {
                Ok(index) => tracks.push(Track { description, index }),
                Err(error) => self.refuse(what, error),
            }
        }
        if let Err(error) = encryption.finish() {
            self.refuse("all tracks".to_owned(), error);
            tracks.clear();
        }
        SourceTracks {
            tracks,
            refused: self.refused,
            encryption: (!encryption.is_empty()).then(|| Arc::new(encryption)),
            has_encrypted: self.has_encrypted,
        }
    }
}

/// Whether a track is media, and of which kind, by its handler (`Err` says what it is instead).
fn media_kind(header: &TrackHeader<'_>) -> Result<MediaKind, String> {
    match &header.handler.0 {
        b"vide" => Ok(MediaKind::Video),
        b"soun" => Ok(MediaKind::Audio),
        b"text" | b"subt" | b"sbtl" | b"clcp" => Ok(MediaKind::Text),
        b"tmcd" => Err("timecode, not media".to_owned()),
        b"hint" => Err("hints for streaming servers, not media".to_owned()),
        b"meta" => Err("timed metadata, not media".to_owned()),
        b"odsm" | b"sdsm" => Err("MPEG-4 systems stream, not media".to_owned()),
        b"pict" | b"auxv" => Err("auxiliary pictures, not media".to_owned()),
        b"\0\0\0\0" => Err("no handler: its media is of no known kind".to_owned()),
        _ => Err(format!("handler {}: its media is of no known kind", header.handler)),
    }
}

/// The entries of a track's `stsd`.
fn sample_entries(mut stbl: BoxReader<'_>) -> Result<Vec<BoxReader<'_>>, BoxError> {
    let mut entries = Vec::new();
    while let Some(mut stsd) = stbl.child()? {
        if &stsd.fourcc.0 != b"stsd" {
            continue;
        }
        stsd.version_and_flags()?;
        // The smallest entry is 16 bytes: size, type, reserved, data reference.
        let count = stsd.entry_count(16, ENTRY_COUNT_MAX)?;
        while entries.len() < count {
            match stsd.child()? {
                Some(entry) => entries.push(entry),
                None => break,
            }
        }
        break;
    }
    Ok(entries)
}

/// The one sample entry that all samples use; entries that differ only in being written twice, or in whether samples are
/// protected, count as one.
fn used_entry<'a>(entries: &[BoxReader<'a>], descriptions: &[u32], kind: MediaKind) -> Result<BoxReader<'a>, String> {
    if entries.is_empty() {
        return Err("no sample entry (stsd)".to_owned());
    }
    let mut used: Option<BoxReader<'a>> = None;
    for index in descriptions {
        let entry = (*index as usize).checked_sub(1).and_then(|index| entries.get(index));
        // An index of nothing is a writer's slip as long as there is only one entry it can mean.
        let entry = match (entry, entries) {
            (Some(entry), _) => entry,
            (None, [only]) => only,
            (None, _) => return Err(format!("sample description {index} of {}", entries.len())),
        };
        match used {
            Some(other) if sample_entry::clear_form(&other, kind) != sample_entry::clear_form(entry, kind) => {
                return Err(format!(
                    "its coding changes on the way ({} sample entries)",
                    entries.len()
                ));
            }
            _ => used = Some(*entry),
        }
    }
    used.or(entries.first().copied())
        .ok_or_else(|| "no sample entry (stsd)".to_owned())
}

#[cfg(test)]
mod tests;
