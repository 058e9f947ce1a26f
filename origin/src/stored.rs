//! The stored form on disk: a folder with `presentation.json`, and for each track a media file with an index beside it.
//!
//! Written by `headwater import`, and by the origin itself for sources whose samples are scattered. A folder appears
//! whole or not at all: it is built beside its place and renamed.

mod cache;
pub(crate) mod kept_index;

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use cache::import_cached;
use packager::demux::{DemuxedTrack, Demuxer, Packet};
use packager::index::{IndexWriter, NewSample, TrackIndex};
use packager::isobmff::stored as media_file;
use packager::presentation::stored::{FORMAT, Manifest, ManifestRefusal, ManifestTrack};
use packager::presentation::{Content, HlsDescription, Representation, Role};
use packager::segment::SegmentTarget;
use packager::source::{ReadAt, Refusal};
use packager::text::webvtt;
use packager::time::Timescale;
use packager::track::{Track, TrackDescription};

use crate::asset::Asset;
use crate::library::STORED_NAME;
use crate::open::OpenError;
use crate::read::SourceFile;

const MANIFEST_SIZE_BYTES_MAX: u64 = 4 << 20;
const INDEX_SIZE_BYTES_MAX: u64 = 1 << 30;
/// Bytes of samples copied at once.
const COPY_SIZE_BYTES: usize = 1 << 20;

/// A track of a stored presentation.
#[derive(Debug)]
pub struct StoredTrack {
    /// Samples or cues.
    pub content: Content,
    /// BCP 47 tag.
    pub language: String,
    /// Name for people.
    pub label: Option<String>,
    /// Purposes.
    pub roles: Vec<Role>,
    /// Chosen when the viewer has no preference.
    pub default: bool,
    /// The media file.
    pub file: Arc<SourceFile>,
    /// Its name within the folder.
    pub file_name: String,
}

/// A stored presentation as it was found.
#[derive(Debug)]
pub struct StoredPresentation {
    /// Name for people.
    pub title: String,
    /// Wanted segment duration.
    pub target: SegmentTarget,
    /// Additions to the HLS multivariant playlist.
    pub hls: HlsDescription,
    /// Its tracks.
    pub tracks: Vec<StoredTrack>,
    /// What was left out when it was made.
    pub refused: Vec<Refusal>,
}

/// Opens the stored presentation in `folder` below `root`: three small reads a track, no media is touched.
pub fn open(root: &Path, folder: &Path) -> Result<StoredPresentation, OpenError> {
    let manifest_path = folder.join(STORED_NAME);
    let wrong = |path: &Path, reason: String| OpenError::Unplayable {
        reason: format!("{}: {reason}", path.display()),
    };
    let text = read_whole(root, &manifest_path, MANIFEST_SIZE_BYTES_MAX)?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| wrong(&manifest_path, error.to_string()))?;
    if manifest.format != FORMAT {
        return Err(wrong(
            &manifest_path,
            format!("format \"{}\", this version reads \"{FORMAT}\"", manifest.format),
        ));
    }
    let target = SegmentTarget::from_millis(manifest.segment_duration_ms).ok_or_else(|| {
        wrong(
            &manifest_path,
            format!(
                "segment_duration_ms {} is outside 1000 to 20000",
                manifest.segment_duration_ms
            ),
        )
    })?;
    let mut tracks = Vec::with_capacity(manifest.tracks.len());
    for track in manifest.tracks {
        let plain = !track.file.contains('/') && track.file != "..";
        if !plain {
            return Err(wrong(
                &manifest_path,
                format!("track file \"{}\" is not a plain name", track.file),
            ));
        }
        let path = folder.join(&track.file);
        let file = SourceFile::open_beneath(root, &path).map_err(|error| OpenError::Storage {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let content = match track.description {
            None => {
                let bytes = read_whole(root, &path, packager::limits::TEXT_SIZE_BYTES_MAX)?;
                let parsed = webvtt::parse(&bytes).map_err(|error| wrong(&path, error.to_string()))?;
                Content::Cues(parsed.track)
            }
            Some(description) => {
                let index_path = path.with_extension("idx");
                let bytes = read_whole(root, &index_path, INDEX_SIZE_BYTES_MAX)?;
                let index = TrackIndex::open(bytes).map_err(|error| wrong(&index_path, error.to_string()))?;
                Content::Samples(Track { description, index })
            }
        };
        tracks.push(StoredTrack {
            content,
            language: track.language,
            label: track.label,
            roles: track.roles,
            default: track.default,
            file: Arc::new(file),
            file_name: track.file,
        });
    }
    let refused = manifest
        .refused
        .into_iter()
        .map(|row| Refusal {
            what: row.what,
            why: row.why,
        })
        .collect();
    Ok(StoredPresentation {
        title: manifest.title,
        target,
        hls: manifest.hls,
        tracks,
        refused,
    })
}

fn read_whole(root: &Path, path: &Path, size_max: u64) -> Result<bytes::Bytes, OpenError> {
    let storage = |reason: String| OpenError::Storage {
        path: path.to_owned(),
        reason,
    };
    let file = SourceFile::open_beneath(root, path).map_err(|error| storage(error.to_string()))?;
    if file.size() > size_max {
        return Err(storage(format!("{} bytes, at most {size_max} are read", file.size())));
    }
    file.read_at(0, file.size() as usize)
        .map_err(|error| storage(error.to_string()))
}

/// A failure to write a stored presentation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file could not be written or read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The source is not what it seemed.
    #[error("{0}")]
    Source(String),
    /// The place is taken.
    #[error("{0} exists already")]
    Exists(PathBuf),
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> StoreError + '_ {
    move |source| StoreError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Writes `asset` to the new folder `target`, samples as they are, or decrypted where its source is encrypted.
pub fn write(asset: &Asset, target: &Path) -> Result<(), StoreError> {
    write_with(asset, target, |_| Ok(()))
}

/// As [`write()`]; `add` may put more beside the tracks before the folder appears.
pub fn write_with(
    asset: &Asset,
    target: &Path,
    add: impl FnOnce(&Path) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if asset.variants.is_some() {
        return Err(StoreError::Source("watermark variants have no stored form".into()));
    }
    let staging = Staging::beside(target)?;
    let mut tracks = Vec::new();
    for representation in &asset.presentation.representations {
        tracks.push(write_representation(asset, representation, &staging.folder)?);
    }
    add(&staging.folder)?;
    let presentation = &asset.presentation;
    let manifest = Manifest {
        format: FORMAT.into(),
        title: presentation.title.clone(),
        segment_duration_ms: presentation.target.millis(),
        hls: presentation.hls.clone(),
        tracks,
        refused: manifest_refused(&presentation.refused),
    };
    staging.publish(STORED_NAME, &manifest)
}

fn manifest_refused(refused: &[Refusal]) -> Vec<ManifestRefusal> {
    refused
        .iter()
        .map(|refusal| ManifestRefusal {
            what: refusal.what.clone(),
            why: refusal.why.clone(),
        })
        .collect()
}

fn write_representation(
    asset: &Asset,
    representation: &Representation,
    folder: &Path,
) -> Result<ManifestTrack, StoreError> {
    let entry = |file: String, description: Option<TrackDescription>| ManifestTrack {
        file,
        language: representation.language.clone(),
        label: Some(representation.label.clone()),
        roles: representation.roles.clone(),
        default: representation.default,
        description,
    };
    match &representation.content {
        Content::Cues(text) => {
            let name = format!("{}.vtt", representation.id);
            let path = folder.join(&name);
            write_synced(&path, &webvtt::write(text))?;
            Ok(entry(name, None))
        }
        Content::Samples(track) => {
            let name = format!("{}.mp4", representation.id);
            let source = asset
                .file(representation)
                .ok_or_else(|| StoreError::Source(format!("{}: no source file", representation.id)))?;
            let mut writer = TrackWriter::create(folder.join(&name), track.index.timescale())?;
            let mut buffer = Vec::new();
            for (number, sample) in (0u32..).zip(track.index.iter()) {
                buffer.resize(sample.size as usize, 0);
                source.read_exact_at(&mut buffer, sample.offset).map_err(|error| {
                    StoreError::Source(format!("{} bytes at {}: {error}", sample.size, sample.offset))
                })?;
                if let Some(cipher) = source.cipher() {
                    cipher
                        .decrypt(&track.index, number..number + 1, &mut buffer)
                        .map_err(|error| StoreError::Source(format!("{}: {error}", representation.id)))?;
                }
                writer.push(&buffer, sample.duration, sample.composition_offset, sample.sync)?;
            }
            // The index's times are folded already; folding them again must change nothing.
            let edit_offset = track.index.media_time() as i64 - track.index.first_decode_time() as i64;
            writer.finish(&track.description, edit_offset)?;
            Ok(entry(name, Some(track.description.clone())))
        }
    }
}

/// Takes a scattered source apart and writes it to the new folder `target`.
pub fn write_demuxed(
    source: &SourceFile,
    mut demuxer: Box<dyn Demuxer>,
    title: &str,
    segment_duration: SegmentTarget,
    target: &Path,
) -> Result<(), StoreError> {
    let staging = Staging::beside(target)?;
    let mut writers: Vec<Option<PacketWriter>> = Vec::new();
    let mut packets = Vec::new();
    let mut offset = 0;
    let wrong = |error: packager::demux::DemuxError| StoreError::Source(error.to_string());
    while offset < source.size() {
        let size = (source.size() - offset).min(COPY_SIZE_BYTES as u64) as usize;
        let bytes = source
            .read_at(offset, size)
            .map_err(|error| StoreError::Source(error.to_string()))?;
        demuxer.push(&bytes, &mut packets).map_err(wrong)?;
        offset += size as u64;
        take_packets(&mut packets, &mut writers, &staging.folder)?;
    }
    demuxer.finish(&mut packets).map_err(wrong)?;
    take_packets(&mut packets, &mut writers, &staging.folder)?;
    let mut refused = manifest_refused(demuxer.refused());
    let zero = zero_of(demuxer.tracks(), &writers);
    let mut tracks = Vec::new();
    for (number, (track, writer)) in demuxer
        .tracks()
        .iter()
        .zip(writers.into_iter().chain(std::iter::repeat_with(|| None)))
        .enumerate()
    {
        match (&track.description, writer) {
            (Some(description), Some(writer)) => {
                let file = format!("{number}.mp4");
                writer.finish(description, track.media_time, zero)?;
                tracks.push(ManifestTrack {
                    file,
                    language: description.language.clone(),
                    label: description.label.clone(),
                    roles: Vec::new(),
                    default: false,
                    description: Some(description.clone()),
                });
            }
            (Some(description), None) => refused.push(ManifestRefusal {
                what: format!("{} {number}", description.codec.name()),
                why: "no complete sample in it".into(),
            }),
            // The demuxer has said why itself.
            (None, _) => {}
        }
    }
    let manifest = Manifest {
        format: FORMAT.into(),
        title: title.to_owned(),
        segment_duration_ms: segment_duration.millis(),
        hls: HlsDescription::default(),
        tracks,
        refused,
    };
    staging.publish(STORED_NAME, &manifest)
}

/// The presentation time that becomes zero: the earliest of any track.
fn zero_of(tracks: &[DemuxedTrack], writers: &[Option<PacketWriter>]) -> Option<packager::time::MediaTime> {
    let starts = tracks.iter().zip(writers).filter_map(|(track, writer)| {
        let description = track.description.as_ref()?;
        Some(packager::time::MediaTime::new(
            writer.as_ref()?.presentation_min,
            description.timescale,
        ))
    });
    starts.min()
}

fn take_packets(
    packets: &mut Vec<Packet>,
    writers: &mut Vec<Option<PacketWriter>>,
    folder: &Path,
) -> Result<(), StoreError> {
    for packet in packets.drain(..) {
        if packet.track >= packager::limits::TRACK_COUNT_MAX {
            return Err(StoreError::Source(format!(
                "more than {} tracks",
                packager::limits::TRACK_COUNT_MAX
            )));
        }
        if writers.len() <= packet.track {
            writers.resize_with(packet.track + 1, || None);
        }
        let Some(slot) = writers.get_mut(packet.track) else {
            continue;
        };
        match slot {
            Some(writer) => writer.push(packet)?,
            None => {
                *slot = Some(PacketWriter::create(
                    folder.join(format!("{}.mp4", packet.track)),
                    packet,
                )?)
            }
        }
    }
    Ok(())
}

/// Writes demuxed packets: a packet's duration is known when the next one comes.
struct PacketWriter {
    writer: TrackWriter,
    held: Packet,
    first_decode_time: i64,
    presentation_min: i64,
    last_duration: u32,
}

impl PacketWriter {
    fn create(path: PathBuf, first: Packet) -> Result<PacketWriter, StoreError> {
        // The track's scale is known at the end; until then ticks are ticks.
        let scale = Timescale::MPEG_TS;
        Ok(PacketWriter {
            writer: TrackWriter::create(path, scale)?,
            first_decode_time: first.decode_time,
            presentation_min: first.presentation_time,
            last_duration: 0,
            held: first,
        })
    }

    fn push(&mut self, packet: Packet) -> Result<(), StoreError> {
        let until_next = packet.decode_time.saturating_sub(self.held.decode_time);
        let duration = u32::try_from(until_next.max(0))
            .map_err(|_| StoreError::Source(format!("a gap of {until_next} ticks at {}", packet.decode_time)))?;
        self.presentation_min = self.presentation_min.min(packet.presentation_time);
        let held = std::mem::replace(&mut self.held, packet);
        self.last_duration = duration;
        self.write(&held, duration)
    }

    fn write(&mut self, packet: &Packet, duration: u32) -> Result<(), StoreError> {
        let offset = packet.presentation_time.saturating_sub(packet.decode_time);
        let offset = i32::try_from(offset)
            .map_err(|_| StoreError::Source(format!("composition offset of {offset} at {}", packet.decode_time)))?;
        self.writer.push(&packet.data, duration, offset, packet.sync)
    }

    fn finish(
        mut self,
        description: &TrackDescription,
        media_time: i64,
        zero: Option<packager::time::MediaTime>,
    ) -> Result<(), StoreError> {
        // One picture alone says nothing of how long it is shown.
        let last_duration = match self.last_duration {
            0 => description.timescale.get() / PICTURES_A_SECOND,
            duration => duration,
        };
        let duration = self.held.duration.unwrap_or(last_duration).max(1);
        let held = self.held.clone();
        self.write(&held, duration)?;
        let zero = zero.map_or(0, |zero| {
            zero.to_scale(description.timescale, packager::time::Rounding::Nearest)
        });
        // Presentation = (decode - first decode) + offset - edit; it must be packet presentation - media time - zero.
        let edit_offset = media_time + zero - self.first_decode_time;
        self.writer.set_timescale(description.timescale);
        self.writer.finish(description, edit_offset)
    }
}

/// How long a picture is shown of which nothing else is known.
const PICTURES_A_SECOND: u32 = 25;

/// Writes one track: media file and index.
struct TrackWriter {
    path: PathBuf,
    out: BufWriter<File>,
    index: IndexWriter,
    size: u64,
}

impl TrackWriter {
    fn create(path: PathBuf, timescale: Timescale) -> Result<TrackWriter, StoreError> {
        let mut out = BufWriter::with_capacity(COPY_SIZE_BYTES, File::create_new(&path).map_err(io(&path))?);
        out.write_all(&media_file::opening(0)).map_err(io(&path))?;
        Ok(TrackWriter {
            path,
            out,
            index: IndexWriter::new(timescale),
            size: 0,
        })
    }

    fn set_timescale(&mut self, timescale: Timescale) {
        self.index.set_timescale(timescale);
    }

    fn push(&mut self, data: &[u8], duration: u32, composition_offset: i32, sync: bool) -> Result<(), StoreError> {
        let size = u32::try_from(data.len()).map_err(|_| StoreError::Source("a sample of over 4 GiB".into()))?;
        let offset = media_file::MEDIA_OFFSET + self.size;
        self.index
            .push(NewSample {
                offset,
                size,
                duration,
                composition_offset,
                sync,
            })
            .map_err(|error| StoreError::Source(error.to_string()))?;
        self.out.write_all(data).map_err(io(&self.path))?;
        self.size += u64::from(size);
        Ok(())
    }

    fn finish(self, description: &TrackDescription, edit_offset: i64) -> Result<(), StoreError> {
        let TrackWriter {
            path,
            mut out,
            index,
            size,
        } = self;
        let index = index
            .finish(edit_offset)
            .map_err(|error| StoreError::Source(error.to_string()))?;
        out.write_all(&media_file::closing_moov(description, &index))
            .map_err(io(&path))?;
        let mut file = out.into_inner().map_err(|error| io(&path)(error.into_error()))?;
        file.seek(SeekFrom::Start(media_file::MDAT_SIZE_OFFSET))
            .map_err(io(&path))?;
        file.write_all(&media_file::mdat_size_field(size)).map_err(io(&path))?;
        file.sync_all().map_err(io(&path))?;
        let stored = index
            .to_stored()
            .map_err(|error| StoreError::Source(error.to_string()))?;
        write_synced(&path.with_extension("idx"), &stored)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = File::create_new(path).map_err(io(path))?;
    file.write_all(bytes).map_err(io(path))?;
    file.sync_all().map_err(io(path))
}

/// A folder under construction beside its final place; removed again unless published.
struct Staging {
    folder: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Staging {
    fn beside(target: &Path) -> Result<Staging, StoreError> {
        if target.exists() {
            return Err(StoreError::Exists(target.to_owned()));
        }
        let parent = target.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(io(parent))?;
        let name = target
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        // A name of this process, so that two never write into the same folder; the dot hides it from the library.
        let unique = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let folder = parent.join(format!(".{name}.{}-{unique}.partial", std::process::id()));
        std::fs::create_dir(&folder).map_err(io(&folder))?;
        Ok(Staging {
            folder,
            target: target.to_owned(),
            published: false,
        })
    }

    /// Lets the folder appear, with what is in it as file `name`.
    fn publish(mut self, name: &str, manifest: &impl serde::Serialize) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        let text = serde_json::to_vec_pretty(manifest).map_err(|error| StoreError::Source(error.to_string()))?;
        write_synced(&path, &text)?;
        let sync_folder = |folder: &Path| {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(io(folder))
        };
        sync_folder(&self.folder)?;
        std::fs::rename(&self.folder, &self.target).map_err(io(&self.target))?;
        self.published = true;
        sync_folder(self.target.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = std::fs::remove_dir_all(&self.folder)
        {
            tracing::warn!(folder = %self.folder.display(), %error, "a half-written presentation could not be removed");
        }
    }
}
