//! The CMAF header (initialization segment): `ftyp` and `moov` of one track, without media.
//!
//! ISO/IEC 23000-19:2024 7.3.2.1. Every duration is zero; a length, when known, stands in `mehd`.

use bytes::Bytes;

use super::BoxWriter;
pub use super::brand::FrameRate;
use super::brand::{self, Brands};
use super::protection::{TrackEncryption, protected_sample_entry};
use super::trak::{self, Durations, Edit, EditStart, TRACK_ID};
use crate::codec::MediaKind;
use crate::index::TrackIndex;
use crate::track::TrackDescription;

/// Boxes around the sample entry take less.
const FIXED_SIZE_BYTES: usize = 1024;

/// What a header says of the samples that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitFacts {
    /// Ticks that an edit list takes from every composition time ([`TrackIndex::media_time`]); zero writes none.
    pub media_time: u64,
    /// Ticks from time zero to the end of the track; `None` while it still grows.
    pub duration: Option<u64>,
    /// `None` when it is not known: the header then claims no media profile that bounds it.
    pub frame_rate: Option<FrameRate>,
}

/// The last pictures shown are among so many decoded last: more than any decoder may hold back.
const REORDERED_SAMPLE_COUNT_MAX: u32 = 64;

impl InitFacts {
    /// The facts of a complete track.
    pub fn of(index: &TrackIndex) -> InitFacts {
        let count = index.sample_count();
        let last = index.samples(count.saturating_sub(REORDERED_SAMPLE_COUNT_MAX)..count);
        let end = last
            .map(|sample| {
                index
                    .presentation_time(&sample)
                    .saturating_add(i64::from(sample.duration))
            })
            .max();
        InitFacts {
            media_time: index.media_time(),
            duration: Some(end.unwrap_or(0).max(0).unsigned_abs()),
            frame_rate: Some(FrameRate {
                pictures: u64::from(count),
                ticks: index.duration().ticks.unsigned_abs(),
            }),
        }
    }
}

/// The header of `description`: the same facts give the same bytes.
pub fn header(description: &TrackDescription, facts: InitFacts) -> Bytes {
    write(description, facts, &[])
}

/// The header of a track whose samples are encrypted as `encryption` says; `pssh` are whole boxes for the DRM systems.
pub fn protected_header(
    description: &TrackDescription,
    facts: InitFacts,
    encryption: &TrackEncryption,
    pssh: &[Bytes],
) -> Bytes {
    let is_video = description.kind() == MediaKind::Video;
    let mut protected = description.clone();
    protected.sample_entry = protected_sample_entry(&description.sample_entry, is_video, encryption);
    write(&protected, facts, pssh)
}

fn write(description: &TrackDescription, facts: InitFacts, pssh: &[Bytes]) -> Bytes {
    let mut w = BoxWriter::with_capacity(FIXED_SIZE_BYTES + description.sample_entry.len());
    write_ftyp(
        &mut w,
        &brand::of_header(description, facts.media_time, facts.frame_rate),
    );
    let edit = Edit {
        segment_duration: 0,
        start: EditStart::MediaTime(facts.media_time),
    };
    let edits = if facts.media_time > 0 { &[edit][..] } else { &[] };
    w.write_box(b"moov", |w| {
        trak::write_mvhd(w, description.timescale, 0);
        trak::write_trak(w, description, Durations::default(), edits, |w| {
            w.write_full_box(b"stts", 0, 0, |w| w.u32(0));
            w.write_full_box(b"stsc", 0, 0, |w| w.u32(0));
            w.write_full_box(b"stsz", 0, 0, |w| w.zeros(8));
            w.write_full_box(b"stco", 0, 0, |w| w.u32(0));
        });
        write_mvex(w, facts.duration);
        for pssh in pssh {
            w.bytes(pssh);
        }
    });
    Bytes::from(w.finish())
}

/// ISO/IEC 14496-12:2022 4.3 (`ftyp`).
fn write_ftyp(w: &mut BoxWriter, brands: &Brands) {
    w.write_box(b"ftyp", |w| {
        w.bytes(&brands.major);
        w.u32(0); // minor_version
        for brand in &brands.compatible {
            w.bytes(brand);
        }
    });
}

/// ISO/IEC 14496-12:2022 8.8.1 (`mvex`), 8.8.2 (`mehd`), 8.8.3 (`trex`): fragments follow and bring their own defaults.
fn write_mvex(w: &mut BoxWriter, duration: Option<u64>) {
    w.write_box(b"mvex", |w| {
        match duration.map(|ticks| (ticks, u32::try_from(ticks))) {
            Some((_, Ok(ticks))) => w.write_full_box(b"mehd", 0, 0, |w| w.u32(ticks)),
            Some((ticks, Err(_))) => w.write_full_box(b"mehd", 1, 0, |w| w.u64(ticks)),
            None => {}
        }
        w.write_full_box(b"trex", 0, 0, |w| {
            w.u32(TRACK_ID);
            w.u32(1); // default_sample_description_index
            w.zeros(12);
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::isobmff::{BoxReader, FourCc, fixture};
    use crate::track::MediaDescription;

    const GROWING: InitFacts = InitFacts {
        media_time: 0,
        duration: None,
        frame_rate: None,
    };

    /// The payload of the first box at `path`, as hex.
    fn payload<'a>(bytes: &'a [u8], path: &str) -> Option<&'a [u8]> {
        let mut holder = BoxReader::new(FourCc(*b"file"), 0, 0, bytes);
        for name in path.split('/') {
            loop {
                let child = holder.child().unwrap()?;
                if child.fourcc.to_string() == name {
                    holder = child;
                    break;
                }
            }
        }
        Some(holder.remaining())
    }

    /// All boxes but those of the sample entry, nested ones in brackets.
    fn tree(bytes: &[u8]) -> String {
        let mut reader = BoxReader::new(FourCc(*b"file"), 0, 0, bytes);
        let mut names = Vec::new();
        while let Some(child) = reader.child().unwrap() {
            let name = child.fourcc.to_string();
            names.push(match name.as_str() {
                "moov" | "trak" | "mdia" | "minf" | "stbl" | "mvex" | "edts" => {
                    format!("{name}[{}]", tree(child.remaining()))
                }
                _ => name,
            });
        }
        names.join(" ")
    }

    #[test]
    fn boxes_stand_in_order() {
        let check = |track, facts, edits: &str, elng: &str, media_header: &str, mehd: &str| {
            let expected = format!(
                "ftyp moov[mvhd trak[tkhd {edits}mdia[mdhd hdlr {elng}minf[{media_header} dinf \
                 stbl[stsd stts stsc stsz stco]]]] mvex[{mehd}trex]]"
            );
            assert_eq!(tree(&header(&track, facts)), expected);
        };
        let primed = InitFacts {
            media_time: 1024,
            duration: Some(48_000),
            ..GROWING
        };
        check(fixture::video(), GROWING, "", "", "vmhd", "");
        check(fixture::audio(), primed, "edts[elst] ", "elng ", "smhd", "mehd ");
        check(fixture::text(Codec::Wvtt, "wvtt"), GROWING, "", "elng ", "nmhd", "");
        check(fixture::text(Codec::Stpp, "stpp"), GROWING, "", "elng ", "sthd", "");
    }

    #[test]
    fn priming_is_edited_out() {
        let check = |media_time, expected: &[u8]| {
            let facts = InitFacts { media_time, ..GROWING };
            let bytes = header(&fixture::audio(), facts);
            assert_eq!(payload(&bytes, "moov/trak/edts/elst"), Some(expected));
        };
        check(1024, &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 1, 0, 0]);
        check(
            0x7fff_ffff,
            &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, 0, 0],
        );
        let wide = [
            1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 1, 0, 0,
        ];
        check(0x8000_0000, &wide);
    }

    #[test]
    fn facts_of_a_track_end_where_it_ends() {
        let check = |last_offset, edit_offset, expected: (u64, u64)| {
            let rows = [(10, 1000, 0, true), (10, 1000, last_offset, true), (10, 1000, 0, true)];
            let facts = InitFacts::of(&fixture::index(0, &rows, edit_offset));
            assert_eq!((facts.media_time, facts.duration), (expected.0, Some(expected.1)));
        };
        check(0, 0, (0, 3000));
        check(0, 500, (500, 2500));
        check(0, -500, (0, 3500));
        // The last picture shown is not the last decoded.
        check(1500, 0, (0, 3500));
        check(0, 5000, (5000, 0));
    }

    #[test]
    fn length_is_told_where_it_is_known() {
        let check = |duration, expected: Option<&[u8]>| {
            let facts = InitFacts { duration, ..GROWING };
            assert_eq!(payload(&header(&fixture::video(), facts), "moov/mvex/mehd"), expected);
        };
        check(None, None);
        check(Some(0xffff_ffff), Some(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
        check(Some(1 << 32), Some(&[1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]));
    }

    #[test]
    fn language_is_packed_and_whole() {
        let bytes = header(&fixture::audio(), GROWING);
        let mdhd = payload(&bytes, "moov/trak/mdia/mdhd").unwrap();
        // "por": 16, 15 and 18 in five bits each.
        assert_eq!(mdhd[20..22], [0x41, 0xf2]);
        assert_eq!(payload(&bytes, "moov/trak/mdia/elng"), Some(&b"\0\0\0\0pt-BR\0"[..]));
        let hostile = TrackDescription {
            language: "en\0evil".into(),
            ..fixture::audio()
        };
        assert_eq!(payload(&header(&hostile, GROWING), "moov/trak/mdia/elng"), None);
    }

    #[test]
    fn rotation_is_kept() {
        let mut track = fixture::video();
        let matrix = [0, 0x1_0000, 0, -0x1_0000, 0, 0, 720 << 16, 0, 0x4000_0000];
        if let MediaDescription::Video(video) = &mut track.media {
            video.matrix = Some(matrix);
        }
        let bytes = header(&track, GROWING);
        let tkhd = payload(&bytes, "moov/trak/tkhd").unwrap();
        let expected: Vec<u8> = matrix.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        assert_eq!(tkhd[40..76], expected);
        assert_eq!(tkhd[76..], [5, 0, 0, 0, 2, 0xd0, 0, 0]);
    }
}
