//! Opens a library entry: finds out what its files are, indexes them where they lie or stores them anew, and puts the
//! tracks together. Blocking; knows no HTTP.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use packager::codec::Codec;
use packager::container::{self, Container};
use packager::crypto::KeyId;
use packager::limits::TEXT_SIZE_BYTES_MAX;
use packager::matroska;
use packager::presentation::variant::{self, Variant};
use packager::presentation::{Content, HlsDescription, NewPresentation, NewRepresentation, Presentation, Role};
use packager::segment::SegmentTarget;
use packager::source::{ReadAt, Refusal, SourceTracks};
use packager::text::{self, TextSample, TextTrack};
use packager::time::Rounding;
use packager::track::{MediaDescription, Track};

use crate::asset::{Asset, Variants};
use crate::config::Config;
use crate::library::{self, Entry};
use crate::read::{Fingerprint, SourceFile};
use crate::source_keys::{KeyTrouble, SourceCipher, SourceKeyring, TitleKeyring};
use crate::stored::kept_index;
use crate::{stored, thumbnails};

/// Why an entry could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file could not be read.
    #[error("{path}: {reason}")]
    Storage {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file was there when the library was scanned, and is not now.
    #[error("no longer in the library")]
    Gone,
    /// A source is encrypted, and the vault has not the key.
    #[error("{media}: no key {key_id} for its encrypted source")]
    MissingKey {
        /// Media id.
        media: String,
        /// The key's name.
        key_id: KeyId,
    },
    /// A source is encrypted, and the vault can not be asked for its keys.
    #[error("{media}: {reason}")]
    Keys {
        /// Media id.
        media: String,
        /// Why.
        reason: String,
    },
    /// Nothing in it can be served.
    #[error("{reason}")]
    Unplayable {
        /// What is wrong, where.
        reason: String,
    },
}

impl OpenError {
    fn unplayable(path: &Path, reason: impl std::fmt::Display) -> OpenError {
        OpenError::Unplayable {
            reason: format!("{}: {reason}", path.display()),
        }
    }

    fn io(path: &Path, error: &std::io::Error) -> OpenError {
        match error.kind() {
            std::io::ErrorKind::NotFound => OpenError::Gone,
            _ => OpenError::Storage {
                path: path.to_owned(),
                reason: error.to_string(),
            },
        }
    }
}

/// What one file contributes: tracks to be served, and what was left out.
#[derive(Debug, Default)]
pub struct OpenedFile {
    /// Tracks with the language and name that the file itself gives them.
    pub tracks: Vec<OpenedTrack>,
    /// What was left out.
    pub refused: Vec<Refusal>,
}

/// One track of a file.
#[derive(Debug)]
pub struct OpenedTrack {
    /// Samples of [`OpenedTrack::file`], or cues.
    pub content: Content,
    /// BCP 47 tag, `und` when the file says nothing.
    pub language: String,
    /// Name for people, if the file has one.
    pub label: Option<String>,
    /// Purposes, as far as the file says.
    pub roles: Vec<Role>,
    /// The file asks for it to be chosen.
    pub default: bool,
    /// The file that holds the samples: the source itself, or what was stored of it.
    pub file: Arc<SourceFile>,
}

/// Opens `entry` of the library. `media_id` names it in URLs; `keyring` has the keys of encrypted sources.
pub fn open(config: &Config, keyring: &SourceKeyring, media_id: &str, entry: &Entry) -> Result<Asset, OpenError> {
    let mut assembly = Assembly::new(config, keyring.of(media_id));
    let mut title = entry.title();
    let mut target = config.target;
    let mut hls = HlsDescription::default();
    let mut thumbnails = None;
    let mut ladder = Vec::new();
    match entry {
        Entry::File { path, sidecars } => {
            assembly.add(path, Said::default())?;
            for (path, language) in sidecars {
                // A subtitle file that can not be read is left out with its reason; the film still plays.
                let said = Said {
                    language: language.clone(),
                    ..Said::default()
                };
                if let Err(error) = assembly.add(path, said) {
                    let what = path.display().to_string();
                    assembly.refused.push(Refusal {
                        what,
                        why: error.to_string(),
                    });
                }
            }
        }
        Entry::Ladder { path } => {
            let description =
                library::read_description(&config.library, path).map_err(|error| OpenError::Unplayable {
                    reason: error.to_string(),
                })?;
            assembly.made_of(path)?;
            thumbnails = Some(path.with_file_name(thumbnails::FOLDER_NAME));
            if let Some(millis) = description.segment_duration_ms {
                target = SegmentTarget::from_millis(millis).ok_or_else(|| {
                    OpenError::unplayable(path, format!("segment_duration_ms {millis} is outside 1000 to 20000"))
                })?;
            }
            title = description.title.clone().unwrap_or(title);
            hls = description.hls.clone();
            for track in &description.tracks {
                let before = assembly.tracks.len();
                let said = Said {
                    language: track.language.clone(),
                    label: track.label.clone(),
                    roles: track.all_roles(),
                    default: track.default,
                };
                assembly.add(&path.with_file_name(&track.file), said)?;
                ladder.push((track.variant, before..assembly.tracks.len()));
            }
        }
        Entry::Stored { path } => {
            let opened = stored::open(&config.library, path)?;
            thumbnails = Some(path.join(thumbnails::FOLDER_NAME));
            title = opened.title;
            target = opened.target;
            hls = opened.hls;
            assembly.take_stored(path, opened.tracks, opened.refused)?;
        }
    }
    // A title with half of its tracks is none: somebody must bring the key.
    let media = media_id.to_owned();
    match assembly.keys.trouble().cloned() {
        Some(KeyTrouble::Missing(key_id)) => return Err(OpenError::MissingKey { media, key_id }),
        Some(KeyTrouble::Failed(reason)) => return Err(OpenError::Keys { media, reason }),
        None => {}
    }
    let wrong = |error: &dyn std::fmt::Display| OpenError::unplayable(entry.path(), error);
    let other = match variant_tracks(&ladder, &assembly.tracks).map_err(|error| wrong(&error))? {
        None => None,
        Some((tracks, other)) => {
            assembly.tracks = tracks;
            let other = NewPresentation {
                title: title.clone(),
                tracks: other,
                refused: Vec::new(),
                target,
                hls: hls.clone(),
            };
            Some(Presentation::assemble(other).map_err(|error| wrong(&error))?)
        }
    };
    let new = NewPresentation {
        title,
        tracks: assembly.tracks,
        refused: assembly.refused,
        target,
        hls,
    };
    let mut presentation = Presentation::assemble(new).map_err(|error| wrong(&error))?;
    let variants = match other {
        None => None,
        Some(mut other) => {
            variant::pair(&mut presentation, &mut other).map_err(|error| wrong(&error))?;
            let pairs = presentation.representations.iter().zip(&other.representations);
            let ids = pairs
                .filter(|(one, other)| one.source != other.source)
                .map(|(one, _)| one.id.clone());
            Some(Variants {
                ids: ids.collect(),
                other: Arc::new(Asset {
                    protected: None,
                    variants: None,
                    variant: Some(Variant::B),
                    media_id: media_id.to_owned(),
                    presentation: other,
                    files: assembly.files.clone(),
                    thumbnails: None,
                    made_of: Vec::new(),
                }),
            })
        }
    };
    let thumbnails = thumbnails
        .and_then(|folder| thumbnails::attach(&config.library, folder, &mut presentation, &mut assembly.made_of));
    Ok(Asset {
        protected: None,
        variant: variants.as_ref().map(|_| Variant::A),
        variants,
        media_id: media_id.to_owned(),
        presentation,
        files: assembly.files,
        thumbnails,
        made_of: assembly.made_of,
    })
}

/// As [`open`], with all indexes packed: for those who go through all samples.
pub fn open_packed(
    config: &Config,
    keyring: &SourceKeyring,
    media_id: &str,
    entry: &Entry,
) -> Result<Asset, OpenError> {
    let asset = open(config, keyring, media_id, entry)?;
    asset
        .packed()
        .map_err(|error| OpenError::unplayable(entry.path(), error))
}

/// Tracks of one variant, and of the other.
type VariantTracks = (Vec<NewRepresentation>, Vec<NewRepresentation>);

/// The tracks of each of two watermark variants, in the order of variant `a`; `None` where the ladder has none. `ladder`
/// says which of `tracks` each of its files brought.
fn variant_tracks(
    ladder: &[(Option<Variant>, Range<usize>)],
    tracks: &[NewRepresentation],
) -> Result<Option<VariantTracks>, String> {
    let of = |wanted: Variant| ladder.iter().filter(move |(variant, _)| *variant == Some(wanted));
    let (count, other_count) = (of(Variant::A).count(), of(Variant::B).count());
    if count != other_count {
        return Err(format!("{count} files of variant a, {other_count} of variant b"));
    }
    if count == 0 {
        return Ok(None);
    }
    let brought = |range: &Range<usize>| tracks.get(range.clone()).unwrap_or_default().iter().cloned();
    let (mut one, mut other) = (Vec::new(), Vec::new());
    let mut partners = of(Variant::B);
    for (variant, range) in ladder {
        match variant {
            None => other.extend(brought(range)),
            Some(Variant::A) => other.extend(partners.next().into_iter().flat_map(|(_, range)| brought(range))),
            Some(Variant::B) => continue,
        }
        one.extend(brought(range));
    }
    Ok(Some((one, other)))
}

/// What a description says of a file's tracks, over what the file says itself.
#[derive(Clone, Debug, Default)]
struct Said {
    language: Option<String>,
    label: Option<String>,
    roles: Vec<Role>,
    default: bool,
}

struct Assembly<'a> {
    config: &'a Config,
    keys: TitleKeyring,
    tracks: Vec<NewRepresentation>,
    refused: Vec<Refusal>,
    files: Vec<Arc<SourceFile>>,
    made_of: Vec<(PathBuf, Fingerprint)>,
}

impl<'a> Assembly<'a> {
    fn new(config: &'a Config, keys: TitleKeyring) -> Assembly<'a> {
        Assembly {
            config,
            keys,
            tracks: Vec::new(),
            refused: Vec::new(),
            files: Vec::new(),
            made_of: Vec::new(),
        }
    }

    fn open_source(&mut self, path: &Path) -> Result<Arc<SourceFile>, OpenError> {
        let file = SourceFile::open_beneath(&self.config.library, path).map_err(|error| OpenError::io(path, &error))?;
        self.made_of.push((self.config.library.join(path), file.fingerprint()));
        Ok(Arc::new(file))
    }

    fn made_of(&mut self, path: &Path) -> Result<(), OpenError> {
        self.open_source(path).map(|_| ())
    }

    fn add(&mut self, path: &Path, said: Said) -> Result<(), OpenError> {
        let file = self.open_source(path)?;
        let opened = open_with_keys(self.config, &self.keys, path, &file)?;
        let several_files = !self.tracks.is_empty();
        for refusal in opened.refused {
            let what = if several_files {
                format!("{}: {}", path.display(), refusal.what)
            } else {
                refusal.what
            };
            self.refused.push(Refusal { what, ..refusal });
        }
        for track in opened.tracks {
            let new = NewRepresentation {
                source: self.source_of(&track.file),
                content: track.content,
                language: said.language.clone().unwrap_or(track.language),
                label: said.label.clone().or(track.label),
                roles: if said.roles.is_empty() {
                    track.roles
                } else {
                    said.roles.clone()
                },
                default: said.default || track.default,
            };
            self.tracks.push(new);
        }
        Ok(())
    }

    fn take_stored(
        &mut self,
        path: &Path,
        tracks: Vec<stored::StoredTrack>,
        refused: Vec<Refusal>,
    ) -> Result<(), OpenError> {
        self.made_of(&path.join(library::STORED_NAME))?;
        self.refused.extend(refused);
        for track in tracks {
            self.made_of.push((
                self.config.library.join(path).join(&track.file_name),
                track.file.fingerprint(),
            ));
            let new = NewRepresentation {
                source: self.source_of(&track.file),
                content: track.content,
                language: track.language,
                label: track.label,
                roles: track.roles,
                default: track.default,
            };
            self.tracks.push(new);
        }
        Ok(())
    }

    fn source_of(&mut self, file: &Arc<SourceFile>) -> usize {
        match self.files.iter().position(|known| Arc::ptr_eq(known, file)) {
            Some(position) => position,
            None => {
                self.files.push(file.clone());
                self.files.len() - 1
            }
        }
    }
}

/// Opens one media or text file, whose encrypted tracks are left out.
pub fn open_file(config: &Config, path: &Path, file: &Arc<SourceFile>) -> Result<OpenedFile, OpenError> {
    open_with_keys(config, &SourceKeyring::default().of(""), path, file)
}

/// Opens one media or text file with the keys of its title.
fn open_with_keys(
    config: &Config,
    keys: &TitleKeyring,
    path: &Path,
    file: &Arc<SourceFile>,
) -> Result<OpenedFile, OpenError> {
    let wrong = |error: &dyn std::fmt::Display| OpenError::unplayable(path, error);
    let head_size = file.size().min(container::HEAD_SIZE_BYTES as u64) as usize;
    let head = file.read_at(0, head_size).map_err(|error| wrong(&error))?;
    let container = container::recognise(&head).ok_or_else(|| wrong(&"not a media file that is known here"))?;
    let kept = kept_index::find(config, path, file).unwrap_or_else(|error| {
        tracing::warn!(%error, "a kept index can not be used, and is made anew");
        if let Err(error) = kept_index::remove(config, path, file) {
            tracing::warn!(%error, file = %path.display(), "nor can it be removed");
        }
        None
    });
    let is_kept = kept.is_some();
    let indexed = match kept {
        Some(kept) => container::Indexed::InPlace(Ok(kept)),
        None => container.index_encrypted(file.as_ref(), keys),
    };
    let opened = match indexed {
        container::Indexed::InPlace(tracks) => {
            let tracks = tracks.map_err(|error| wrong(&error))?;
            if !is_kept {
                file.set_unkept(kept_index::unkept(config, path, file, &tracks));
            }
            if let Some(samples) = &tracks.encryption {
                file.set_cipher(SourceCipher::new(samples.clone(), keys.clone()));
            }
            from_tracks(path, file, tracks)
        }
        container::Indexed::Text(coding) => from_text(path, file, coding),
        container::Indexed::Streamed(demuxer) => {
            let stored = stored::import_cached(config, path, file, demuxer)?;
            Ok(OpenedFile {
                tracks: stored
                    .tracks
                    .into_iter()
                    .map(|track| OpenedTrack {
                        content: track.content,
                        language: track.language,
                        label: track.label,
                        roles: track.roles,
                        default: track.default,
                        file: track.file,
                    })
                    .collect(),
                refused: stored.refused,
            })
        }
    }?;
    add_embedded_text(path, file, container, opened)
}

fn from_tracks(path: &Path, file: &Arc<SourceFile>, found: SourceTracks) -> Result<OpenedFile, OpenError> {
    let mut opened = OpenedFile {
        tracks: Vec::new(),
        refused: found.refused,
    };
    for track in found.tracks {
        let what = format!(
            "track {} ({})",
            track.description.source_track_id,
            track.description.codec.name()
        );
        let language = track.description.language.clone();
        let label = track.description.label.clone();
        let content = match track.description.codec {
            Codec::Wvtt | Codec::Stpp | Codec::Tx3g => match read_text_track(file, &track) {
                Ok(cues) => Content::Cues(cues),
                Err(why) => {
                    opened.refused.push(Refusal {
                        what,
                        why: format!("{}: {why}", path.display()),
                    });
                    continue;
                }
            },
            _ => Content::Samples(track),
        };
        opened.tracks.push(OpenedTrack {
            content,
            language,
            label,
            roles: Vec::new(),
            default: false,
            file: file.clone(),
        });
    }
    Ok(opened)
}

/// Text samples of a track as cues.
fn read_text_track(file: &SourceFile, track: &Track) -> Result<TextTrack, String> {
    let index = &track.index;
    if index.size_bytes(0..u32::MAX) > TEXT_SIZE_BYTES_MAX {
        return Err(format!("more than {TEXT_SIZE_BYTES_MAX} bytes of text"));
    }
    let mut samples = Vec::with_capacity(index.sample_count() as usize);
    for sample in index.iter() {
        let bytes = file
            .read_at(sample.offset, sample.size as usize)
            .map_err(|error| error.to_string())?;
        let start = index.presentation_time(&sample);
        let millis = |ticks| {
            packager::time::MediaTime::new(ticks, index.timescale())
                .to_millis(Rounding::Nearest)
                .max(0)
        };
        let (start_ms, end_ms) = (millis(start) as u64, millis(start + i64::from(sample.duration)) as u64);
        samples.push(TextSample {
            start_ms,
            duration_ms: end_ms.saturating_sub(start_ms),
            bytes,
        });
    }
    let parsed = match (&track.description.media, track.description.codec) {
        (MediaDescription::Text(description), Codec::Wvtt) => text::wvtt::parse(&description.config, &samples),
        (_, Codec::Tx3g) => text::tx3g::parse(&samples),
        _ => text::stpp::parse(&samples),
    };
    parsed.map(|parsed| parsed.track).map_err(|error| error.to_string())
}

fn from_text(path: &Path, file: &Arc<SourceFile>, coding: container::TextFile) -> Result<OpenedFile, OpenError> {
    let wrong = |error: &dyn std::fmt::Display| OpenError::unplayable(path, error);
    if file.size() > TEXT_SIZE_BYTES_MAX {
        return Err(wrong(&format!(
            "{} bytes of text, at most {TEXT_SIZE_BYTES_MAX} are read",
            file.size()
        )));
    }
    let bytes = file.read_at(0, file.size() as usize).map_err(|error| wrong(&error))?;
    let parsed = match coding {
        container::TextFile::WebVtt => text::webvtt::parse(&bytes),
        container::TextFile::Srt => text::srt::parse(&bytes),
        container::TextFile::Ttml => text::ttml::parse(&bytes),
    };
    let parsed = parsed.map_err(|error| wrong(&error))?;
    let mut refused = Vec::new();
    if let Some(first) = parsed.dropped.first() {
        refused.push(Refusal {
            what: format!("{} cues of {}", parsed.dropped_count, path.display()),
            why: format!("the first at line {}: {}", first.line, first.reason),
        });
    }
    let track = OpenedTrack {
        content: Content::Cues(parsed.track),
        language: parsed.language.unwrap_or_else(|| "und".into()),
        label: None,
        roles: Vec::new(),
        default: false,
        file: file.clone(),
    };
    Ok(OpenedFile {
        tracks: vec![track],
        refused,
    })
}

/// Text that a container holds beside its media.
fn add_embedded_text(
    path: &Path,
    file: &Arc<SourceFile>,
    container: Container,
    mut opened: OpenedFile,
) -> Result<OpenedFile, OpenError> {
    if container != Container::Matroska {
        return Ok(opened);
    }
    let wrong = |error: matroska::MatroskaError| OpenError::unplayable(path, error);
    for entry in matroska::text_entries(file.as_ref()).map_err(wrong)? {
        match matroska::read_text(file.as_ref(), entry.number) {
            Ok(cues) => opened.tracks.push(OpenedTrack {
                content: Content::Cues(cues),
                language: entry.language,
                label: entry.label,
                roles: match (entry.is_forced, entry.is_hearing_impaired) {
                    (true, _) => vec![Role::ForcedSubtitle],
                    (false, true) => vec![Role::Caption],
                    (false, false) => Vec::new(),
                },
                default: entry.is_default,
                file: file.clone(),
            }),
            Err(error) => opened.refused.push(Refusal {
                what: format!("track {} ({})", entry.number, entry.format),
                why: error.to_string(),
            }),
        }
    }
    Ok(opened)
}
