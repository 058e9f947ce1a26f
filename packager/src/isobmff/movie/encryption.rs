//! How the samples of an encrypted track are protected: `senc`, or `saiz` with `saio`, and `seig` sample groups
//! (ISO/IEC 23001-7:2023 6 and 7, ISO/IEC 14496-12:2022 8.7.8, 8.7.9 and 8.9).

use super::header::TrackHeader;
use crate::codec::MediaKind;
use crate::crypto::ProtectionScheme;
use crate::crypto::source::{EncryptedSamples, SampleIv, SampleProtection};
use crate::isobmff::sample_entry::{EntryProtection, SourceEntry, read_seig};
use crate::isobmff::{BoxError, BoxReader, FourCc};
use crate::limits::{AUXILIARY_READ_SIZE_BYTES_MAX, SAMPLE_PROTECTION_COUNT_MAX};
use crate::source::ReadAt;

/// `seig` group descriptions of a fragment are numbered from here (ISO/IEC 14496-12:2022 8.9.4).
const FRAGMENT_GROUP_BASE: u32 = 0x1_0000;

/// What a track's sample entries say of protection, and what was found of its samples so far.
#[derive(Debug)]
pub(super) struct TrackEncryption<'a> {
    /// By sample entry; an error says why samples of it can not be decrypted.
    entries: Vec<Result<Option<EntryProtection>, String>>,
    scheme: ProtectionScheme,
    /// `seig` groups of the header: `None` are clear samples.
    groups: Vec<Option<SampleProtection>>,
    header: Boxes<'a>,
    pub samples: EncryptedSamples,
}

/// The boxes of a `stbl` or `traf` that tell of protection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Boxes<'a> {
    senc: Option<BoxReader<'a>>,
    saiz: Option<BoxReader<'a>>,
    saio: Option<BoxReader<'a>>,
    groups: Option<BoxReader<'a>>,
    group_runs: Option<BoxReader<'a>>,
}

impl<'a> Boxes<'a> {
    /// Those among the children of `parent`, for samples of `scheme`.
    fn parse(mut parent: BoxReader<'a>, scheme: ProtectionScheme) -> Result<Boxes<'a>, BoxError> {
        let mut boxes = Boxes::default();
        while let Some(child) = parent.child()? {
            let slot = match &child.fourcc.0 {
                b"senc" => &mut boxes.senc,
                b"saiz" if is_of_scheme(child, scheme)? => &mut boxes.saiz,
                b"saio" if is_of_scheme(child, scheme)? => &mut boxes.saio,
                b"sgpd" if is_seig(child)? => &mut boxes.groups,
                b"sbgp" if is_seig(child)? => &mut boxes.group_runs,
                b"csgp" if is_seig(child)? => return Err(child.invalid("compact groups of keys")),
                _ => continue,
            };
            if slot.replace(child).is_some() {
                return Err(child.invalid("a second one"));
            }
        }
        Ok(boxes)
    }
}

/// Whether a `saiz` or `saio` is about protection: it names the scheme, or nothing.
fn is_of_scheme(mut reader: BoxReader<'_>, scheme: ProtectionScheme) -> Result<bool, BoxError> {
    let (_, flags) = reader.version_and_flags()?;
    Ok(flags & 1 == 0 || reader.fourcc()?.0 == scheme.fourcc())
}

fn is_seig(mut reader: BoxReader<'_>) -> Result<bool, BoxError> {
    reader.version_and_flags()?;
    Ok(&reader.fourcc()?.0 == b"seig")
}

impl<'a> TrackEncryption<'a> {
    /// What `entries` (those of `stsd`) say; `None` when no sample can be protected.
    pub(super) fn parse(
        header: &TrackHeader<'a>,
        entries: &[BoxReader<'_>],
        kind: MediaKind,
    ) -> Result<Option<TrackEncryption<'a>>, String> {
        let parsed: Vec<Result<Option<EntryProtection>, String>> = entries
            .iter()
            .map(|entry| match &entry.fourcc.0 {
                b"encv" | b"enca" => match SourceEntry::parse(*entry, kind, None) {
                    Ok(entry) => Ok(entry.protection().copied()),
                    Err(error) => Err(error.to_string()),
                },
                _ => Ok(None),
            })
            .collect();
        let mut schemes = parsed
            .iter()
            .filter_map(|entry| Some(entry.as_ref().ok()?.as_ref()?.scheme));
        let Some(scheme) = schemes.next() else {
            return Ok(None);
        };
        if schemes.any(|other| other != scheme) {
            return Err("encrypted in two schemes".to_owned());
        }
        let stbl = header.sample_table.ok_or("no sample table (stbl)")?;
        let boxes = Boxes::parse(stbl, scheme).map_err(|error| error.to_string())?;
        let groups = read_groups(boxes.groups, scheme).map_err(|error| error.to_string())?;
        if groups.default > 0 {
            return Err("a default group of keys".to_owned());
        }
        Ok(Some(TrackEncryption {
            entries: parsed,
            scheme,
            groups: groups.descriptions,
            header: boxes,
            samples: EncryptedSamples::default(),
        }))
    }

    /// What samples of this sample description (1-based) are protected by; an index of nothing means the only entry.
    fn entry(&self, description: u32) -> Result<Option<EntryProtection>, String> {
        let own = (description as usize)
            .checked_sub(1)
            .and_then(|index| self.entries.get(index));
        match (own, self.entries.as_slice()) {
            (Some(entry), _) => entry.clone(),
            (None, [only]) => only.clone(),
            (None, _) => Err(format!("sample description {description} of {}", self.entries.len())),
        }
    }

    /// Takes in the samples of the header's tables, all of one of `descriptions`: where each starts and its size.
    /// `chunks` are samples in each chunk.
    pub(super) fn header_samples(
        &mut self,
        descriptions: &[u32],
        samples: impl Iterator<Item = (u64, u32)>,
        chunks: impl Iterator<Item = u32>,
        source: &dyn ReadAt,
    ) -> Result<(), String> {
        let mut entries = descriptions.iter().map(|description| self.entry(*description));
        let entry = entries.next().unwrap_or_else(|| self.entry(1))?;
        for other in entries {
            if other? != entry {
                return Err("its encryption changes on the way".to_owned());
            }
        }
        let boxes = self.header;
        self.read(&boxes, &[], entry, samples, chunks, 0, source)
    }

    /// Takes in the samples of one `traf`, which are of `description`. `runs` are samples in each `trun`, `base_offset` is
    /// where the fragment counts from.
    pub(super) fn fragment_samples(
        &mut self,
        traf: BoxReader<'_>,
        description: u32,
        samples: &[(u64, u32)],
        runs: &[u32],
        base_offset: u64,
        source: &dyn ReadAt,
    ) -> Result<(), String> {
        let entry = self.entry(description)?;
        let boxes = Boxes::parse(traf, self.scheme).map_err(|error| error.to_string())?;
        let groups = read_groups(boxes.groups, self.scheme).map_err(|error| error.to_string())?;
        if groups.default > 0 {
            return Err("a default group of keys".to_owned());
        }
        let samples = samples.iter().copied();
        let runs = runs.iter().copied();
        self.read(&boxes, &groups.descriptions, entry, samples, runs, base_offset, source)
    }

    #[expect(clippy::too_many_arguments, reason = "what header and fragments have in common")]
    fn read(
        &mut self,
        boxes: &Boxes<'_>,
        own_groups: &[Option<SampleProtection>],
        entry: Option<EntryProtection>,
        samples: impl Iterator<Item = (u64, u32)>,
        runs: impl Iterator<Item = u32>,
        base_offset: u64,
        source: &dyn ReadAt,
    ) -> Result<(), String> {
        let wrong = |error: BoxError| error.to_string();
        let mut members = GroupRuns::parse(boxes.group_runs).map_err(wrong)?;
        let mut rows = match entry {
            Some(_) => Rows::parse(boxes, runs, base_offset, source)?,
            None => Rows::None,
        };
        for (offset, size) in samples {
            let protection = match (entry, members.next()) {
                (None, _) => None,
                (Some(entry), 0) => entry.default,
                (Some(_), group) => {
                    let groups = match group.checked_sub(FRAGMENT_GROUP_BASE) {
                        Some(number) if number > 0 => own_groups.get(number as usize - 1),
                        _ => self.groups.get(group as usize - 1),
                    };
                    *groups
                        .ok_or_else(|| format!("the sample at byte {offset} is in group {group}, which is nowhere"))?
                }
            };
            let auxiliary = rows.next(protection.as_ref(), offset)?;
            self.samples
                .push(offset, size, protection.as_ref(), &auxiliary)
                .map_err(|error| error.to_string())?;
        }
        rows.finish()
    }
}

/// `sgpd`: descriptions, and the group of samples that are in none.
#[derive(Debug, Default)]
struct Groups {
    descriptions: Vec<Option<SampleProtection>>,
    default: u32,
}

fn read_groups(sgpd: Option<BoxReader<'_>>, scheme: ProtectionScheme) -> Result<Groups, BoxError> {
    let mut groups = Groups::default();
    let Some(mut sgpd) = sgpd else {
        return Ok(groups);
    };
    // isProtected, its neighbours and the key id: no description is shorter.
    const SIZE_MIN: usize = 20;
    let (version, _) = sgpd.version_and_flags()?;
    sgpd.skip(4)?;
    let constant_size = if version >= 1 { sgpd.u32()? as usize } else { 0 };
    if version >= 2 {
        groups.default = sgpd.u32()?;
    }
    let count = sgpd.entry_count(SIZE_MIN, SAMPLE_PROTECTION_COUNT_MAX)?;
    for _ in 0..count {
        let size = match (version, constant_size) {
            // Without a length, an entry is as long as it says.
            (0, _) => {
                let entry = sgpd.remaining();
                match (entry.get(2), entry.get(3), entry.get(SIZE_MIN)) {
                    (Some(1), Some(0), Some(iv_size)) => SIZE_MIN + 1 + usize::from(*iv_size),
                    _ => SIZE_MIN,
                }
            }
            (_, 0) => sgpd.u32()? as usize,
            (_, size) => size,
        };
        let position = sgpd.position();
        let entry = sgpd.bytes(size)?;
        let entry = BoxReader::new(FourCc(*b"seig"), position, position, entry);
        groups.descriptions.push(read_seig(entry, scheme)?);
    }
    Ok(groups)
}

/// `sbgp`: the group of each sample in turn, zero for those in none.
struct GroupRuns<'a> {
    entries: BoxReader<'a>,
    entries_left: usize,
    samples_left: u32,
    group: u32,
}

impl<'a> GroupRuns<'a> {
    fn parse(sbgp: Option<BoxReader<'a>>) -> Result<GroupRuns<'a>, BoxError> {
        let mut runs = GroupRuns {
            entries: BoxReader::new(FourCc(*b"sbgp"), 0, 0, &[]),
            entries_left: 0,
            samples_left: 0,
            group: 0,
        };
        if let Some(mut sbgp) = sbgp {
            let (version, _) = sbgp.version_and_flags()?;
            sbgp.skip(if version == 1 { 8 } else { 4 })?;
            runs.entries_left = sbgp.entry_count(8, usize::MAX)?;
            runs.entries = sbgp;
        }
        Ok(runs)
    }

    fn next(&mut self) -> u32 {
        while self.samples_left == 0 {
            if self.entries_left == 0 {
                return 0;
            }
            self.entries_left -= 1;
            match (self.entries.u32(), self.entries.u32()) {
                (Ok(count), Ok(group)) => (self.samples_left, self.group) = (count, group),
                // Their count was checked: they are there.
                _ => return 0,
            }
        }
        self.samples_left -= 1;
        self.group
    }
}

/// Auxiliary information, row by row.
enum Rows<'a> {
    None,
    /// `senc`: rows follow each other, as long as they say.
    Box {
        senc: BoxReader<'a>,
        left: u32,
        has_subsamples: bool,
    },
    /// `saiz` and `saio`: rows of known sizes.
    Sized {
        sizes: Sizes<'a>,
        bytes: Vec<u8>,
        at: usize,
        sample_index: u32,
    },
}

impl<'a> Rows<'a> {
    /// `runs` are samples in each chunk or `trun`: their rows may lie apart.
    fn parse(
        boxes: &Boxes<'a>,
        runs: impl Iterator<Item = u32>,
        base_offset: u64,
        source: &dyn ReadAt,
    ) -> Result<Rows<'a>, String> {
        let wrong = |error: BoxError| error.to_string();
        if let Some(mut senc) = boxes.senc {
            const OVERRIDE: u32 = 1;
            const SUBSAMPLES: u32 = 2;
            let (version, flags) = senc.version_and_flags().map_err(wrong)?;
            if version != 0 || flags & OVERRIDE != 0 {
                return Err(senc.invalid(format!("version {version}, flags {flags:#x}")).to_string());
            }
            return Ok(Rows::Box {
                left: senc.u32().map_err(wrong)?,
                has_subsamples: flags & SUBSAMPLES != 0,
                senc,
            });
        }
        let (saiz, saio) = match (boxes.saiz, boxes.saio) {
            (Some(saiz), Some(saio)) => (saiz, saio),
            (None, None) => return Ok(Rows::None),
            (Some(_), None) => return Err("saiz without saio".to_owned()),
            (None, Some(_)) => return Err("saio without saiz".to_owned()),
        };
        let sizes = Sizes::parse(saiz).map_err(wrong)?;
        let bytes = read_rows(&sizes, saio, runs, base_offset, source)?;
        Ok(Rows::Sized {
            sizes,
            bytes,
            at: 0,
            sample_index: 0,
        })
    }

    /// Rows that were read as longer or shorter ones than they are would leave something over.
    fn finish(&self) -> Result<(), String> {
        match self {
            Rows::Box { senc, left: 0, .. } if !senc.is_empty() => Err(senc
                .invalid(format!("{} bytes behind the last row", senc.remaining().len()))
                .to_string()),
            _ => Ok(()),
        }
    }

    /// The next sample's IV, if it has one of its own, and its subsamples without their count.
    fn next(&mut self, protection: Option<&SampleProtection>, offset: u64) -> Result<Vec<u8>, String> {
        let iv_size = match protection.map(|protection| protection.iv) {
            Some(SampleIv::PerSample(size)) => usize::from(size),
            _ => 0,
        };
        let missing = || format!("no auxiliary information (senc, saiz) for the sample at byte {offset}");
        match self {
            Rows::None if iv_size > 0 => Err(missing()),
            Rows::None => Ok(Vec::new()),
            Rows::Box {
                senc,
                left,
                has_subsamples,
            } => {
                *left = left.checked_sub(1).ok_or_else(missing)?;
                let wrong = |error: BoxError| error.to_string();
                let mut row = senc.bytes(iv_size).map_err(wrong)?.to_vec();
                if *has_subsamples {
                    let count = usize::from(senc.u16().map_err(wrong)?);
                    row.extend_from_slice(senc.bytes(count * 6).map_err(wrong)?);
                }
                Ok(row)
            }
            Rows::Sized {
                sizes,
                bytes,
                at,
                sample_index,
            } => {
                let size = sizes.get(*sample_index).ok_or_else(missing)?;
                let end = at.saturating_add(usize::from(size));
                let row = bytes.get(*at..end).ok_or_else(missing)?;
                *at = end;
                *sample_index = sample_index.saturating_add(1);
                let (iv, rest) = row.split_at_checked(iv_size).ok_or_else(missing)?;
                let Some((count, entries)) = rest.split_first_chunk::<2>() else {
                    return match rest.is_empty() {
                        true => Ok(iv.to_vec()),
                        false => Err(format!("a row of {size} bytes for the sample at byte {offset}")),
                    };
                };
                if entries.len() != usize::from(u16::from_be_bytes(*count)) * 6 {
                    return Err(format!("a row of {size} bytes for the sample at byte {offset}"));
                }
                Ok([iv, entries].concat())
            }
        }
    }
}

/// `saiz` (ISO/IEC 14496-12:2022 8.7.8).
enum Sizes<'a> {
    Constant { size: u8, count: u32 },
    Table(&'a [u8]),
}

impl<'a> Sizes<'a> {
    fn parse(mut saiz: BoxReader<'a>) -> Result<Sizes<'a>, BoxError> {
        let (_, flags) = saiz.version_and_flags()?;
        saiz.skip(if flags & 1 != 0 { 8 } else { 0 })?;
        match saiz.u8()? {
            0 => {
                let count = saiz.entry_count(1, usize::MAX)?;
                Ok(Sizes::Table(saiz.bytes(count)?))
            }
            size => Ok(Sizes::Constant {
                size,
                count: saiz.u32()?,
            }),
        }
    }

    fn get(&self, sample_index: u32) -> Option<u8> {
        match self {
            Sizes::Constant { size, count } => (sample_index < *count).then_some(*size),
            Sizes::Table(table) => table.get(sample_index as usize).copied(),
        }
    }

    /// Bytes of the rows of `count` samples from `first` on; rows that are not there have none.
    fn total(&self, first: u64, count: u64) -> u64 {
        match self {
            Sizes::Constant { size, count: known } => {
                u64::from(*size) * first.saturating_add(count).min(u64::from(*known)).saturating_sub(first)
            }
            Sizes::Table(table) => {
                let start = usize::try_from(first).unwrap_or(usize::MAX).min(table.len());
                let end = usize::try_from(first.saturating_add(count))
                    .unwrap_or(usize::MAX)
                    .min(table.len());
                table
                    .get(start..end)
                    .unwrap_or_default()
                    .iter()
                    .map(|size| u64::from(*size))
                    .sum()
            }
        }
    }
}

/// Reads what `saio` (ISO/IEC 14496-12:2022 8.7.9) points at: all rows in one piece, or those of each run by itself.
fn read_rows(
    sizes: &Sizes<'_>,
    mut saio: BoxReader<'_>,
    mut runs: impl Iterator<Item = u32>,
    base_offset: u64,
    source: &dyn ReadAt,
) -> Result<Vec<u8>, String> {
    let wrong = |error: BoxError| error.to_string();
    let (version, flags) = saio.version_and_flags().map_err(wrong)?;
    saio.skip(if flags & 1 != 0 { 8 } else { 0 }).map_err(wrong)?;
    let entry_size = if version == 0 { 4 } else { 8 };
    let count = saio.entry_count(entry_size, usize::MAX).map_err(wrong)?;
    let mut bytes = Vec::new();
    let mut first = 0;
    for _ in 0..count {
        let offset = match version {
            0 => u64::from(saio.u32().map_err(wrong)?),
            _ => saio.u64().map_err(wrong)?,
        };
        let samples = match count {
            1 => u64::MAX,
            _ => u64::from(
                runs.next()
                    .ok_or("saio has more entries than there are runs of samples")?,
            ),
        };
        let size = sizes.total(first, samples);
        first = first.saturating_add(samples);
        if size + bytes.len() as u64 > AUXILIARY_READ_SIZE_BYTES_MAX {
            return Err(format!(
                "more than {AUXILIARY_READ_SIZE_BYTES_MAX} bytes of auxiliary information"
            ));
        }
        let start = base_offset.checked_add(offset).ok_or("saio points out of the file")?;
        // The bound above makes it fit.
        let rows = source
            .read_at(start, size as usize)
            .map_err(|error| error.to_string())?;
        bytes.extend_from_slice(&rows);
    }
    Ok(bytes)
}
