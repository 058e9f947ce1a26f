//! Movie fragments: the samples of a `moof`, handed to the tracks they belong to (ISO/IEC 14496-12:2022 8.8).

use std::collections::BTreeMap;

use crate::codec::MediaKind;
use crate::crypto::source::EncryptedSamples;
use crate::index::NewSample;
use crate::isobmff::{BoxError, BoxReader};
use crate::limits::{FILE_SAMPLE_COUNT_MAX, FRAGMENT_ENCRYPTED_SAMPLE_COUNT_MAX};
use crate::source::ReadAt;
use crate::time::Timescale;

use super::encryption::TrackEncryption;
use super::header::TrackExtends;
use super::samples::{Gatherer, RawSamples};
use super::table::SampleTable;

/// Why a track is refused whose tables name samples, none of which is there.
pub(super) const NO_SAMPLE_PRESENT: &str = "truncated: none of its samples lies in the file";

/// Descriptions beyond this many are not told apart.
const DESCRIPTION_COUNT_MAX: usize = 16;

/// One track of a fragmented movie while its fragments are read.
#[derive(Debug)]
pub(super) struct FragmentedTrack<'a> {
    gatherer: Gatherer,
    kind: MediaKind,
    extends: TrackExtends,
    /// Sample description indexes in use, ascending.
    descriptions: Vec<u32>,
    missing_count: u64,
    ended: bool,
    refused: Option<String>,
    bytes_left: u64,
    encryption: Option<TrackEncryption<'a>>,
    /// Of an encrypted track's fragment: where its samples start and their sizes, and how many each `trun` has.
    placed: Vec<(u64, u32)>,
    runs: Vec<u32>,
}

/// What the fragments left of a track.
#[derive(Debug)]
pub(super) struct Gathered {
    pub samples: RawSamples<'static>,
    pub descriptions: Vec<u32>,
    pub missing_count: u64,
    /// `None` where no sample can be encrypted.
    pub encrypted: Option<EncryptedSamples>,
}

impl<'a> FragmentedTrack<'a> {
    /// A track that starts with the samples of the header's tables, if there are any.
    pub(super) fn new(
        timescale: Timescale,
        kind: MediaKind,
        extends: TrackExtends,
        table: &SampleTable<'_>,
        encryption: Option<TrackEncryption<'a>>,
        source: &dyn ReadAt,
    ) -> FragmentedTrack<'a> {
        let mut track = FragmentedTrack {
            gatherer: Gatherer::new(timescale),
            kind,
            extends,
            descriptions: Vec::new(),
            missing_count: 0,
            ended: false,
            refused: None,
            bytes_left: source.size().saturating_mul(4),
            encryption,
            placed: Vec::new(),
            runs: Vec::new(),
        };
        if table.sample_count() > 0 {
            for description in table.description_indexes() {
                track.uses(description);
            }
            let mut count = 0;
            for sample in table.iter() {
                count += 1;
                track.push(sample);
            }
            track.missing_count = u64::from(table.sample_count() - count);
            track.ended |= track.missing_count > 0;
            if let Some(encryption) = &mut track.encryption {
                let samples = table.iter().map(|sample| (sample.offset, sample.size));
                let chunks = table.samples_per_chunk();
                if let Err(why) = encryption.header_samples(&track.descriptions, samples, chunks, source) {
                    track.refuse(why);
                }
            }
        }
        track
    }

    /// Finds out how the samples of `traf` are protected, which were just read.
    fn decipher(&mut self, traf: BoxReader<'_>, description: u32, base_offset: u64, source: &dyn ReadAt) {
        if let Some(encryption) = &mut self.encryption
            && self.refused.is_none()
        {
            let found = encryption.fragment_samples(traf, description, &self.placed, &self.runs, base_offset, source);
            if let Err(why) = found {
                self.refuse(format!("fragment at byte {}: {why}", traf.offset));
            }
        }
        self.placed.clear();
        self.runs.clear();
    }

    fn uses(&mut self, description: u32) {
        if let Err(at) = self.descriptions.binary_search(&description)
            && self.descriptions.len() < DESCRIPTION_COUNT_MAX
        {
            self.descriptions.insert(at, description);
        }
    }

    fn push(&mut self, sample: NewSample) {
        if self.ended {
            self.missing_count += 1;
            return;
        }
        if let Err(error) = self.gatherer.push(sample) {
            self.refuse(error.to_string());
        }
    }

    fn refuse(&mut self, why: String) {
        self.ended = true;
        self.refused.get_or_insert(why);
    }

    /// The samples; `Err` says why the track can not be served.
    pub(super) fn finish(self) -> Result<Gathered, String> {
        if let Some(why) = self.refused {
            return Err(why);
        }
        if self.gatherer.is_empty() {
            return Err(match self.missing_count {
                0 => "no samples".to_owned(),
                _ => NO_SAMPLE_PRESENT.to_owned(),
            });
        }
        Ok(Gathered {
            samples: self.gatherer.finish().map_err(|error| error.to_string())?,
            descriptions: self.descriptions,
            missing_count: self.missing_count,
            encrypted: self.encryption.map(|encryption| encryption.samples),
        })
    }
}

const BASE_DATA_OFFSET: u32 = 0x1;
const DESCRIPTION_INDEX: u32 = 0x2;
const DEFAULT_DURATION: u32 = 0x8;
const DEFAULT_SIZE: u32 = 0x10;
const DEFAULT_FLAGS: u32 = 0x20;
const DEFAULT_BASE_IS_MOOF: u32 = 0x2_0000;

const DATA_OFFSET: u32 = 0x1;
const FIRST_FLAGS: u32 = 0x4;
const SAMPLE_DURATION: u32 = 0x100;
const SAMPLE_SIZE: u32 = 0x200;
const SAMPLE_FLAGS: u32 = 0x400;
const SAMPLE_COMPOSITION: u32 = 0x800;

/// `sample_is_non_sync_sample`.
const NON_SYNC: u32 = 0x1_0000;
/// `sample_depends_on` says "on others": how some writers mark what is no sync sample.
const DEPENDS_MASK: u32 = 0x300_0000;
const DEPENDS_ON_OTHERS: u32 = 0x100_0000;

/// The tracks of a fragmented movie while its fragments are read.
pub(super) struct Fragments<'a> {
    pub tracks: BTreeMap<u32, FragmentedTrack<'a>>,
    source: &'a dyn ReadAt,
    /// Samples that may still come, of all tracks together.
    samples_left: usize,
}

impl<'a> Fragments<'a> {
    pub(super) fn new(source: &'a dyn ReadAt) -> Fragments<'a> {
        Fragments {
            tracks: BTreeMap::new(),
            source,
            samples_left: FILE_SAMPLE_COUNT_MAX,
        }
    }

    /// Reads one `moof`, whose box starts at `moof.offset` of the source.
    pub(super) fn read(&mut self, mut moof: BoxReader<'_>) -> Result<(), BoxError> {
        let moof_offset = moof.offset;
        // Where data starts when nothing says: at the moof for the first track, behind the track before for others.
        let mut data_offset = moof_offset;
        while let Some(child) = moof.child()? {
            if &child.fourcc.0 == b"traf" {
                data_offset = self.track_fragment(child, moof_offset, data_offset)?;
            }
        }
        Ok(())
    }

    /// Reads one `traf` and returns where its data ends.
    fn track_fragment(&mut self, traf: BoxReader<'_>, moof_offset: u64, implied_offset: u64) -> Result<u64, BoxError> {
        let mut children = traf;
        let (mut tfhd, mut decode_time) = (None, None);
        while let Some(mut child) = children.child()? {
            match &child.fourcc.0 {
                b"tfhd" => tfhd = Some(child),
                b"tfdt" => {
                    let (version, _) = child.version_and_flags()?;
                    decode_time = Some(if version == 1 {
                        child.u64()?
                    } else {
                        u64::from(child.u32()?)
                    });
                }
                _ => {}
            }
        }
        let mut tfhd = tfhd.ok_or_else(|| traf.invalid("no tfhd"))?;
        let (_, flags) = tfhd.version_and_flags()?;
        let track_id = tfhd.u32()?;
        let mut track = self.tracks.get_mut(&track_id);
        let extends = track.as_ref().map_or_else(TrackExtends::default, |track| track.extends);
        let base_offset = match flags {
            flags if flags & BASE_DATA_OFFSET != 0 => tfhd.u64()?,
            flags if flags & DEFAULT_BASE_IS_MOOF != 0 => moof_offset,
            _ => implied_offset,
        };
        let mut optional = |bit: u32, otherwise: u32| if flags & bit != 0 { tfhd.u32() } else { Ok(otherwise) };
        let description = optional(DESCRIPTION_INDEX, extends.description_index)?;
        let defaults = Defaults {
            duration: optional(DEFAULT_DURATION, extends.duration)?,
            size: optional(DEFAULT_SIZE, extends.size)?,
            flags: optional(DEFAULT_FLAGS, extends.flags)?,
        };
        if let Some(track) = &mut track {
            track.uses(description);
            if let Some(decode_time) = decode_time
                && !track.ended
                && let Err(why) = track.gatherer.seek(decode_time)
            {
                track.refuse(why);
            }
        }
        let mut data_offset = base_offset;
        let mut children = traf;
        while let Some(child) = children.child()? {
            if &child.fourcc.0 == b"trun" {
                let run = Run {
                    base_offset,
                    implied_offset: data_offset,
                    source_size: self.source.size(),
                };
                data_offset = run.read(child, &defaults, track.as_deref_mut(), &mut self.samples_left)?;
            }
        }
        if let Some(track) = track {
            track.decipher(traf, description, base_offset, self.source);
        }
        Ok(data_offset)
    }
}

/// Defaults for the samples of one `traf`.
struct Defaults {
    duration: u32,
    size: u32,
    flags: u32,
}

/// Where the data of a `trun` may start, and where all data ends.
struct Run {
    base_offset: u64,
    implied_offset: u64,
    source_size: u64,
}

impl Run {
    /// Reads one `trun` and returns where its data ends. `track` is `None` for one that is not served.
    fn read(
        &self,
        mut trun: BoxReader<'_>,
        defaults: &Defaults,
        mut track: Option<&mut FragmentedTrack>,
        samples_left: &mut usize,
    ) -> Result<u64, BoxError> {
        let source_size = self.source_size;
        let (_, flags) = trun.version_and_flags()?;
        let per_sample = [SAMPLE_DURATION, SAMPLE_SIZE, SAMPLE_FLAGS, SAMPLE_COMPOSITION];
        let entry_size_bytes = per_sample.iter().filter(|bit| flags & **bit != 0).count() * 4;
        // The count stands before the optional fields, so the bytes left are counted too generously by at most eight here
        // and exactly by the reads below.
        let count = trun.entry_count(entry_size_bytes, *samples_left)?;
        if count > 0 && entry_size_bytes == 0 && defaults.size == 0 {
            return Err(trun.invalid(format!("{count} samples without a size")));
        }
        let mut offset = match flags & DATA_OFFSET {
            0 => Some(self.implied_offset),
            _ => self.base_offset.checked_add_signed(i64::from(trun.i32()?)),
        };
        if entry_size_bytes == 0 && track.is_none() {
            let size = (count as u64).saturating_mul(u64::from(defaults.size));
            return Ok(offset
                .and_then(|offset| offset.checked_add(size))
                .unwrap_or(source_size));
        }
        *samples_left -= count;
        if let Some(track) = track.as_deref_mut().filter(|track| track.encryption.is_some()) {
            track.runs.push(count as u32);
        }
        let first_flags = if flags & FIRST_FLAGS != 0 {
            Some(trun.u32()?)
        } else {
            None
        };
        for sample_index in 0..count {
            let mut optional = |bit: u32, otherwise: u32| if flags & bit != 0 { trun.u32() } else { Ok(otherwise) };
            let duration = optional(SAMPLE_DURATION, defaults.duration)?;
            let size = optional(SAMPLE_SIZE, defaults.size)?;
            let default_flags = first_flags.filter(|_| sample_index == 0).unwrap_or(defaults.flags);
            let mut sample_flags = optional(SAMPLE_FLAGS, default_flags)?;
            if let (0, Some(first_flags)) = (sample_index, first_flags) {
                sample_flags = first_flags;
            }
            // Unsigned in version 0, but writers put negative offsets there too.
            let composition_offset = optional(SAMPLE_COMPOSITION, 0)? as i32;
            let end = offset
                .and_then(|offset| offset.checked_add(u64::from(size)))
                .filter(|end| *end <= source_size);
            if let Some(track) = track.as_deref_mut() {
                let sync = track.kind != MediaKind::Video
                    || sample_flags & NON_SYNC == 0 && sample_flags & DEPENDS_MASK != DEPENDS_ON_OTHERS;
                match (offset, end, track.bytes_left.checked_sub(u64::from(size))) {
                    (Some(offset), Some(_), Some(bytes_left)) => {
                        track.bytes_left = bytes_left;
                        if track.encryption.is_some() && !track.ended {
                            if track.placed.len() >= FRAGMENT_ENCRYPTED_SAMPLE_COUNT_MAX {
                                let count_max = FRAGMENT_ENCRYPTED_SAMPLE_COUNT_MAX;
                                track.refuse(format!("more than {count_max} encrypted samples in one fragment"));
                            }
                            track.placed.push((offset, size));
                        }
                        track.push(NewSample {
                            offset,
                            size,
                            duration,
                            composition_offset,
                            sync,
                        });
                    }
                    _ => {
                        track.ended = true;
                        track.missing_count += 1;
                    }
                }
            }
            match end {
                Some(_) => offset = end,
                // Nothing behind this sample lies in the source either: the rest need not be gone through one by one.
                None => {
                    if let Some(track) = track.as_deref_mut() {
                        track.missing_count += (count - sample_index - 1) as u64;
                        track.ended = true;
                    }
                    return Ok(source_size);
                }
            }
        }
        Ok(offset.unwrap_or(source_size))
    }
}
