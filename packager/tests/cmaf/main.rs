//! What the CMAF writers make is read by others: ffprobe and ffmpeg play it, mp4-atom and mp4 take it apart.
//!
//! Real tracks come from the media folder (`HEADWATER_MEDIA`); without it, or without ffmpeg, those tests say so and
//! pass.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::panic
)]

mod progressive;

use std::path::{Path, PathBuf};
use std::process::Command;

use mp4_atom::{Decode, DecodeMaybe};
use packager::codec::Codec;
use packager::index::{IndexWriter, NewSample, TrackIndex};
use packager::isobmff::fragment::{self, FragmentSample, SegmentPosition};
use packager::isobmff::init::{self, InitFacts};
use packager::isobmff::{sidx, stored};
use packager::segment::{self, SegmentTable, SegmentTarget};
use packager::time::Timescale;
use packager::track::{MediaDescription, TextDescription, Track, TrackDescription};
use proptest::prelude::*;

/// Tracks of every kind.
const TRACKS: &[(&str, &[u8; 4])] = &[
    ("avc/mp4ff__bbb_prog_10s.mp4", b"vide"),
    ("avc/mp4ff__bbb_prog_10s.mp4", b"soun"),
    ("avc/gecko__frame_order.mp4", b"vide"),
    ("avc/gecko__bipbop-lateaudio.mp4", b"soun"),
    ("avc/gecko__bipbop.mp4", b"vide"),
    ("avc/androidx__edit_list_positive_shift.mp4", b"vide"),
    ("hevc/mp4parser__foreman-hevc-384.mp4", b"vide"),
    ("hevc/androidx__h265_bframes.mp4", b"vide"),
    ("av1/gecko__av1-yuv420p.mp4", b"vide"),
    ("vp9-mp4/androidx__bbb_800x640_768kbps_30fps_vp9.mp4", b"vide"),
    ("audio-mp4/androidx__bbb_1ch_16kHz_aac.mp4", b"soun"),
    ("audio-mp4/bento4__audio-aac-001.mp4", b"soun"),
    ("audio-mp4/androidx__sample_opus.mp4", b"soun"),
    ("audio-mp4/androidx__sample_eac3.mp4", b"soun"),
    ("audio-mp4/androidx__sample_ac3.mp4", b"soun"),
    ("audio-mp4/gecko__flac-sample.mp4", b"soun"),
];

fn media_folder() -> Option<PathBuf> {
    let folder = match std::env::var_os("HEADWATER_MEDIA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/media"),
    };
    if !folder.is_dir() {
        eprintln!("SKIPPED: no media folder at {}", folder.display());
        return None;
    }
    if Command::new("ffprobe").arg("-version").output().is_err() {
        eprintln!("SKIPPED: no ffprobe");
        return None;
    }
    Some(folder)
}

/// Runs `check` on each of [`TRACKS`].
fn for_each_track(check: impl Fn(&Case)) {
    let Some(folder) = media_folder() else { return };
    for (name, handler) in TRACKS {
        let path = folder.join(name);
        let file = std::fs::read(&path).unwrap();
        let track = progressive::track(&file, handler).unwrap();
        check(&Case {
            name: format!("{name} {}", handler.escape_ascii()),
            is_video: *handler == b"vide",
            path,
            file,
            track,
        });
    }
}

struct Case {
    name: String,
    is_video: bool,
    path: PathBuf,
    file: Vec<u8>,
    track: Track,
}

impl Case {
    fn selector(&self) -> &'static str {
        if self.is_video { "v:0" } else { "a:0" }
    }

    fn payload(&self, range: std::ops::Range<u32>) -> Vec<u8> {
        let extents = self.track.index.extents(range);
        let slices = extents
            .iter()
            .map(|extent| &self.file[extent.offset as usize..(extent.offset + extent.size) as usize]);
        slices.collect::<Vec<_>>().concat()
    }

    fn segments(&self) -> SegmentTable {
        let index = &self.track.index;
        let target = SegmentTarget::from_millis(2_000).unwrap();
        if self.is_video {
            let boundaries = match segment::choose_boundaries(&[index], target) {
                segment::Alignment::Aligned(boundaries) => boundaries,
                other => panic!("{}: {other:?}", self.name),
            };
            SegmentTable::of_video(index, &boundaries)
        } else {
            SegmentTable::of_audio(index, &[], target)
        }
    }

    fn header(&self) -> Vec<u8> {
        init::header(&self.track.description, InitFacts::of(&self.track.index)).to_vec()
    }

    /// Segments with their headers.
    fn media_segments(&self) -> Vec<Vec<u8>> {
        let table = self.segments();
        let index = &self.track.index;
        let count = table.segments().len();
        std::iter::zip(table.segments(), 1..)
            .map(|(segment, number)| {
                let position = match number as usize == count {
                    true => SegmentPosition::Last,
                    false => SegmentPosition::Inner,
                };
                let mut bytes = fragment::header(index, segment.samples.clone(), number, position).to_vec();
                bytes.extend(self.payload(segment.samples.clone()));
                bytes
            })
            .collect()
    }
}

/// A packet as ffprobe lists it; whether one before zero is to be thrown away is the player's choice, and durations are
/// guesses at the end of a fragment.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    pts: i64,
    size: u32,
    key: bool,
    md5: String,
}

fn packets(path: &Path, selector: &str) -> Vec<Packet> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", selector, "-show_data_hash", "MD5"])
        .args(["-show_entries", "packet=pts,size,flags,data_hash", "-of", "compact=p=0"])
        .arg(path)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && errors.is_empty(),
        "{}: {errors}",
        path.display()
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    let packet = |line: &str| {
        let field = |name: &str| line.split('|').find_map(|field| field.strip_prefix(name));
        Some(Packet {
            pts: field("pts=")?.parse().unwrap(),
            size: field("size=")?.parse().unwrap(),
            key: field("flags=")?.starts_with('K'),
            md5: field("data_hash=MD5:")?.to_owned(),
        })
    };
    lines.lines().filter_map(packet).collect()
}

/// MD5 of every picture or sound frame that ffmpeg.
fn decoded(path: &Path, selector: &str) -> Vec<String> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args([
            "-map",
            &format!("0:{selector}"),
            "-fps_mode",
            "passthrough",
            "-f",
            "framemd5",
            "-",
        ])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", path.display());
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit(',').next().unwrap().trim().to_owned())
        .collect()
}

/// A file in the build's own temporary folder, named for the test.
fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name + ".mp4");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Without packets before zero: ffmpeg lists those of a file of fragments, but not those of another.
fn presented(packets: Vec<Packet>) -> Vec<Packet> {
    packets.into_iter().filter(|packet| packet.pts >= 0).collect()
}

fn assert_same(name: &str, got: &[Packet], want: &[Packet]) {
    for (at, (got, want)) in std::iter::zip(got, want).enumerate() {
        assert_eq!(got, want, "{name}: packet {at}");
    }
    assert_eq!(got.len(), want.len(), "{name}: packets");
}

/// Packets of a file of fragments, with the times that the standard gives them: ffmpeg moves every packet that follows
/// a negative composition offset later by the most negative one it has seen.
fn fragmented_packets(case: &Case, path: &Path) -> Vec<Packet> {
    let index = &case.track.index;
    let mut packets = packets(path, case.selector());
    let mut shift = 0;
    let mut next = packets.iter_mut();
    for segment in case.segments().segments() {
        let offsets = index
            .samples(segment.samples.clone())
            .map(|sample| i64::from(-sample.composition_offset));
        shift = offsets.max().unwrap_or(0).max(shift);
        for packet in next.by_ref().take(segment.samples.len()) {
            packet.pts -= shift;
        }
    }
    packets
}

#[test]
fn ffprobe_reads_the_same_packets_from_segments() {
    for_each_track(|case| {
        let bytes = [case.header(), case.media_segments().concat()].concat();
        let path = written(&format!("segments {}", case.name), &bytes);
        let want = presented(packets(&case.path, case.selector()));
        assert_same(&case.name, &presented(fragmented_packets(case, &path)), &want);
    });
}

#[test]
fn ffprobe_reads_the_same_packets_from_the_indexed_file() {
    for_each_track(|case| {
        let index = sidx::of_segments(&case.track.index, &case.segments()).unwrap();
        let media = case.media_segments();
        let references = &index[index.len() - media.len() * 12..];
        for (segment, reference) in media.iter().zip(references.chunks_exact(12)) {
            assert_eq!(progressive::u32_at(reference, 0) as usize, segment.len());
        }
        let bytes = [case.header(), index.to_vec(), media.concat()].concat();
        let path = written(&format!("indexed {}", case.name), &bytes);
        let want = presented(packets(&case.path, case.selector()));
        assert_same(&case.name, &presented(fragmented_packets(case, &path)), &want);
    });
}

/// The stored file of a track, and its index there.
fn stored_file(case: &Case) -> (Vec<u8>, TrackIndex) {
    let index = &case.track.index;
    let mut writer = IndexWriter::new(index.timescale());
    let mut offset = stored::MEDIA_OFFSET;
    for sample in index.iter() {
        writer
            .push(NewSample {
                offset,
                size: sample.size,
                duration: sample.duration,
                composition_offset: sample.composition_offset,
                sync: sample.sync,
            })
            .unwrap();
        offset += u64::from(sample.size);
    }
    let edit_offset = index.media_time() as i64 - index.first_decode_time() as i64;
    let index = writer.finish(edit_offset).unwrap();
    let samples = case.payload(0..u32::MAX);
    let mut file = stored::opening(0).to_vec();
    assert_eq!(file.len() as u64, stored::MEDIA_OFFSET);
    file.extend(&samples);
    file.extend(&stored::closing_moov(&case.track.description, &index));
    let at = stored::MDAT_SIZE_OFFSET as usize;
    file[at..at + 8].copy_from_slice(&stored::mdat_size_field(samples.len() as u64));
    (file, index)
}

#[test]
fn ffprobe_reads_the_same_packets_from_the_stored_file() {
    for_each_track(|case| {
        let (file, _) = stored_file(case);
        let path = written(&format!("stored {}", case.name), &file);
        let want = packets(&case.path, case.selector());
        assert_same(&case.name, &packets(&path, case.selector()), &want);
    });
}

#[test]
fn ffmpeg_decodes_the_same_frames() {
    for_each_track(|case| {
        // Short ones; what Opus decodes to depends on where its decoder was started.
        if case.file.len() > 500_000 || case.track.description.codec == Codec::Opus {
            return;
        }
        let want = decoded(&case.path, case.selector());
        let fragmented = [case.header(), case.media_segments().concat()].concat();
        for (form, bytes) in [("segments", fragmented), ("stored", stored_file(case).0)] {
            let path = written(&format!("decode {form} {}", case.name), &bytes);
            let got = decoded(&path, case.selector());
            // A source's edit list may leave out frames at both ends; what is left out at the end is served, and of a
            // file of fragments ffmpeg decodes what is left out at the start.
            let is_inside = got.windows(want.len()).any(|window| window == want);
            assert!(
                is_inside,
                "{} {form}: {} frames of {}",
                case.name,
                got.len(),
                want.len()
            );
            assert!(!case.is_video || got.len() - want.len() <= 1, "{} {form}", case.name);
        }
    });
}

/// Each trick-play picture is shown when it is in the whole track.
#[test]
fn ffprobe_reads_trick_play() {
    for_each_track(|case| {
        if !case.is_video {
            return;
        }
        let index = &case.track.index;
        let frames = segment::trick_frames(index);
        let mut bytes = case.header();
        for (frame, number) in frames.iter().zip(1..) {
            bytes.extend(fragment::trick_play_header(
                index,
                frame,
                number,
                SegmentPosition::Inner,
            ));
            bytes.extend(case.payload(frame.sample_index..frame.sample_index + 1));
        }
        let path = written(&format!("trick {}", case.name), &bytes);
        let want: Vec<_> = frames
            .iter()
            .map(|frame| (frame.start as i64, index.sample(frame.sample_index).unwrap().size, true))
            .collect();
        let got: Vec<_> = packets(&path, "v:0")
            .iter()
            .map(|packet| (packet.pts, packet.size, packet.key))
            .collect();
        assert_eq!(got, want, "{}", case.name);
    });
}

#[test]
fn mp4_atom_reads_what_was_written() {
    for_each_track(|case| {
        let index = &case.track.index;
        let header = case.header();
        let mut cursor = std::io::Cursor::new(&header);
        let ftyp = mp4_atom::Ftyp::decode(&mut cursor).unwrap();
        assert!(ftyp.compatible_brands.contains(&ftyp.major_brand));
        let moov = mp4_atom::Moov::decode(&mut cursor).unwrap();
        assert_eq!(cursor.position(), header.len() as u64);
        assert_eq!(
            (moov.mvhd.duration, moov.trak.len(), moov.mvhd.next_track_id),
            (0, 1, 2)
        );
        let trak = &moov.trak[0];
        assert_eq!((trak.tkhd.track_id, trak.mdia.mdhd.duration), (1, 0));
        assert_eq!(trak.mdia.mdhd.timescale, index.timescale().get());
        assert_eq!(trak.mdia.mdhd.language, "eng");
        let edit = trak
            .edts
            .as_ref()
            .and_then(|edts| edts.elst.as_ref())
            .map(|elst| &elst.entries[..]);
        match (edit, index.media_time()) {
            (None, 0) => {}
            (Some([edit]), media_time) => {
                assert_eq!((edit.segment_duration, edit.media_time), (0, Some(media_time)));
            }
            other => panic!("{}: {other:?}", case.name),
        }
        let table = case.segments();
        for (segment, bytes) in table.segments().iter().zip(case.media_segments()) {
            check_moof(&case.name, index, segment.samples.clone(), &bytes);
        }
        let bytes = sidx::of_segments(index, &table).unwrap();
        let sidx = mp4_atom::Sidx::decode(&mut &bytes[..]).unwrap();
        assert_eq!((sidx.reference_id, sidx.first_offset), (1, 0));
        assert_eq!(sidx.earliest_presentation_time, table.segments()[0].start);
        let durations: u64 = sidx.references.iter().map(|r| u64::from(r.subsegment_duration)).sum();
        assert_eq!(sidx.earliest_presentation_time + durations, table.end().ticks as u64);
        assert!(
            sidx.references
                .iter()
                .all(|r| r.starts_with_sap && r.sap_delta_time == 0)
        );
    });
}

fn check_moof(name: &str, index: &TrackIndex, range: std::ops::Range<u32>, bytes: &[u8]) {
    let mut cursor = std::io::Cursor::new(bytes);
    mp4_atom::Styp::decode(&mut cursor).unwrap();
    let moof_at = cursor.position();
    let moof = mp4_atom::Moof::decode(&mut cursor).unwrap();
    let mdat = mp4_atom::Header::decode_maybe(&mut cursor).unwrap().unwrap();
    let [traf] = &moof.traf[..] else {
        panic!("{name}: one traf")
    };
    let [trun] = &traf.trun[..] else {
        panic!("{name}: one trun")
    };
    assert!(traf.tfhd.default_base_is_moof);
    assert_eq!(cursor.position() - moof_at, trun.data_offset.unwrap() as u64);
    assert_eq!(mdat.size, Some(bytes.len() - cursor.position() as usize));
    let samples: Vec<_> = index.samples(range).collect();
    assert_eq!(
        traf.tfdt.as_ref().unwrap().base_media_decode_time,
        samples[0].decode_time
    );
    assert_eq!(trun.samples.len(), samples.len(), "{name}");
    for (entry, sample) in trun.samples.iter().zip(&samples) {
        let duration = entry.duration.or(traf.tfhd.default_sample_duration).unwrap();
        let size = entry.size.or(traf.tfhd.default_sample_size).unwrap();
        assert_eq!(
            (size, duration, entry.cts.unwrap_or(0)),
            (sample.size, sample.duration, i64::from(sample.composition_offset)),
            "{name}"
        );
    }
}

#[test]
fn mp4_reads_the_stored_file() {
    for_each_track(|case| {
        // It knows few codings.
        if !matches!(&case.track.description.sample_entry[4..8], b"avc1" | b"mp4a") {
            return;
        }
        let (file, index) = stored_file(case);
        let size = file.len() as u64;
        let mut reader = mp4::Mp4Reader::read_header(std::io::Cursor::new(&file), size).unwrap();
        assert_eq!(reader.sample_count(1).unwrap(), index.sample_count());
        for (sample, sample_id) in index.iter().zip(1..) {
            let read = reader.read_sample(1, sample_id).unwrap().unwrap();
            let at = sample.offset as usize;
            assert_eq!(read.bytes[..], file[at..at + sample.size as usize]);
            assert_eq!(
                (read.start_time, read.duration, read.is_sync),
                (
                    sample.decode_time - index.first_decode_time(),
                    sample.duration,
                    sample.sync
                ),
                "{} sample {sample_id}",
                case.name
            );
        }
    });
}

/// Cues in memory: a gap, then a cue, as WebVTT in CMAF has them (ISO/IEC 14496-30:2018 7.4).
#[test]
fn text_samples_are_read() {
    let samples: [&[u8]; 2] = [b"\0\0\0\x08vtte", b"\0\0\0\x15vttc\0\0\0\x0dpaylhello"];
    let description = text_description(Timescale::MILLIS);
    let facts = InitFacts {
        media_time: 0,
        duration: Some(10_000),
        frame_rate: None,
    };
    let header = init::header(&description, facts);
    let mut cursor = std::io::Cursor::new(&header);
    mp4_atom::Ftyp::decode(&mut cursor).unwrap();
    let moov = mp4_atom::Moov::decode(&mut cursor).unwrap();
    assert!(moov.trak[0].mdia.minf.nmhd.is_some());
    assert_eq!(moov.mvex.unwrap().mehd.unwrap().fragment_duration, 10_000);

    let fragment_samples = samples.map(|sample| FragmentSample {
        size: sample.len() as u32,
        duration: 2000,
        composition_offset: 0,
        sync: true,
    });
    let fragment = fragment::from_samples(1, 6000, &fragment_samples, SegmentPosition::Last);
    let file = [&header[..], &fragment, samples[0], samples[1]].concat();
    // ffprobe knows no WebVTT in MP4, but its box structure.
    if media_folder().is_some() {
        let path = written("text", &file);
        let got: Vec<_> = packets(&path, "d:0")
            .iter()
            .map(|packet| (packet.pts, packet.size, packet.key))
            .collect();
        assert_eq!(got, [(6000, 8, true), (8000, 21, true)]);
    }
}

proptest! {
    /// Whatever a track's times are, the stored file's tables give the index that they were made from.
    #[test]
    fn stored_tables_give_the_index_back(
        rows in prop::collection::vec(
            (0u32..3000, 1u32..4, -20i32..20, any::<bool>(), prop_oneof![Just(0u64), 0u64..50]), 1..700),
        base in prop_oneof![Just(44u64), Just(1 << 33)],
        edit_offset in -40i64..40,
        all_sync in any::<bool>(),
    ) {
        let timescale = Timescale::new(10).unwrap();
        let mut writer = IndexWriter::new(timescale);
        let mut offset = base;
        for (size, duration, composition_offset, sync, gap) in rows {
            let (size, duration, sync) = (size.max(1000), duration, sync || all_sync);
            writer.push(NewSample { offset, size, duration, composition_offset, sync }).unwrap();
            offset += u64::from(size) + gap;
        }
        let index = writer.finish(edit_offset).unwrap();
        let description = text_description(timescale);
        let moov = stored::closing_moov(&description, &index);
        let read = progressive::track(&moov, b"text").unwrap();
        prop_assert_eq!(read.index.sample_count(), index.sample_count());
        prop_assert_eq!(read.index.duration(), index.duration());
        prop_assert_eq!(read.index.media_time(), index.media_time());
        for (read_sample, sample) in read.index.iter().zip(index.iter()) {
            prop_assert_eq!(read_sample, sample);
        }
        prop_assert_eq!(read.description.sample_entry, description.sample_entry);
    }

    #[test]
    fn mp4_atom_reads_any_fragment(
        rows in prop::collection::vec((any::<u32>(), any::<u32>(), any::<i32>(), any::<bool>()), 1..200),
        base_decode_time in any::<u64>(),
        sequence_number in any::<u32>(),
    ) {
        let samples: Vec<FragmentSample> = rows.iter().map(|(size, duration, composition_offset, sync)| FragmentSample {
            size: *size, duration: *duration, composition_offset: *composition_offset, sync: *sync,
        }).collect();
        let header = fragment::from_samples(
            sequence_number, base_decode_time, &samples, SegmentPosition::Continuation);
        let moof = mp4_atom::Moof::decode(&mut &header[..]).unwrap();
        prop_assert_eq!(moof.mfhd.sequence_number, sequence_number);
        let traf = &moof.traf[0];
        prop_assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, base_decode_time);
        prop_assert_eq!(traf.trun[0].samples.len(), samples.len());
        for (at, (entry, sample)) in traf.trun[0].samples.iter().zip(&samples).enumerate() {
            prop_assert_eq!(entry.size.or(traf.tfhd.default_sample_size), Some(sample.size));
            prop_assert_eq!(entry.duration.or(traf.tfhd.default_sample_duration), Some(sample.duration));
            prop_assert_eq!(entry.cts.unwrap_or(0), i64::from(sample.composition_offset));
            let flags = entry.flags.or(traf.tfhd.default_sample_flags).unwrap();
            prop_assert_eq!(flags >> 16 & 1 == 0, sample.sync, "sample {}", at);
        }
    }
}

fn text_description(timescale: Timescale) -> TrackDescription {
    TrackDescription {
        source_track_id: 1,
        codec: Codec::Wvtt,
        rfc6381: "wvtt".into(),
        timescale,
        language: "und".into(),
        label: None,
        sample_entry: bytes::Bytes::from_static(b"\0\0\0\x1ewvtt\0\0\0\0\0\0\0\x01\0\0\0\x0evttCWEBVTT"),
        media: MediaDescription::Text(TextDescription { config: String::new() }),
    }
}
