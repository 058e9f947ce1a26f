//! Streams made here, frame by frame, and damaged in every way.

use bytes::Bytes;

use super::*;
use crate::codec::aac::AudioSpecificConfig;
use crate::codec::aac::adts::AdtsHeader;
use crate::source::{ReadAt, SourceTracks};

type Read = fn(&dyn ReadAt) -> Result<SourceTracks, ElementaryError>;

/// AAC LC, 44.1 kHz, stereo; `size` bytes of payload.
fn adts_frame(size: usize) -> Vec<u8> {
    let config = AudioSpecificConfig::plain(2, 44_100, 2).unwrap();
    let header = AdtsHeader::write(&config, size).unwrap();
    [header.as_slice(), &vec![0x21; size]].concat()
}

/// Layer III, 128 kbit/s, 44.1 kHz, stereo: 417 bytes.
fn mp3_frame(fill: u8) -> Vec<u8> {
    let mut frame = vec![fill; 417];
    frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x00]);
    frame
}

/// The frame with a LAME tag: these samples of delay and padding.
fn lame_frame(delay: u32, padding: u32) -> Vec<u8> {
    let mut frame = mp3_frame(0);
    let packed = delay << 12 | padding;
    let tag = [
        b"Info\0\0\0\0LAME3.100".as_slice(),
        &[0; 12],
        &packed.to_be_bytes()[1..],
    ]
    .concat();
    frame[36..36 + tag.len()].copy_from_slice(&tag);
    frame
}

/// AC-3 at 48 kHz and 32 kbit/s: 128 bytes.
fn ac3_frame() -> Vec<u8> {
    let mut frame = vec![0; 128];
    // Sync word, CRC, 48 kHz with frame size code 0, version 8, one channel.
    frame[..7].copy_from_slice(&[0x0b, 0x77, 0, 0, 0x00, 0x40, 0x20]);
    frame
}

fn crc(bytes: &[u8], polynomial: u32, bits: u32) -> u32 {
    let (top, mask) = (1 << (bits - 1), (1 << bits) - 1);
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << (bits - 8), |crc, _| match crc & top {
            0 => crc << 1 & mask,
            _ => (crc << 1 ^ polynomial) & mask,
        })
    })
}

/// FLAC of 44.1 kHz, mono, 16 bits, 4096 samples a frame.
fn flac_frame(number: u8, fill: u8, size: usize) -> Vec<u8> {
    let mut frame = vec![0xff, 0xf8, 0xc0, 0x00, number];
    frame.push(crc(&frame, 0x07, 8) as u8);
    frame.resize(size, fill);
    let crc = crc(&frame, 0x8005, 16) as u16;
    frame.extend(crc.to_be_bytes());
    frame
}

fn flac_head() -> Vec<u8> {
    let mut head = b"fLaC\0\0\0\x22".to_vec();
    // Frames of up to 60,000 bytes.
    head.extend([
        0x10, 0, 0x10, 0, 0, 0, 0, 0, 0xea, 0x60, 0x0a, 0xc4, 0x40, 0xf0, 0, 0, 0, 0,
    ]);
    head.extend([0; 16]);
    head.extend([0x81, 0, 0, 3, 7, 7, 7]);
    head
}

fn id3(size: u8) -> Vec<u8> {
    [b"ID3\x04\0\0\0\0\0".as_slice(), &[size], &vec![b'x'; usize::from(size)]].concat()
}

/// Checks (offset, bytes, duration) of every sample, the samples to drop at the start, and what is left out.
fn check(read: Read, parts: &[Vec<u8>], expected: &[(u64, u32, u32)], media_time: u64, refused: &[&str]) {
    let read = read(&Bytes::from(parts.concat())).unwrap();
    let [track] = read.tracks.as_slice() else {
        panic!("{:?}", read.refused)
    };
    let found: Vec<_> = track
        .index
        .iter()
        .map(|sample| (sample.offset, sample.size, sample.duration))
        .collect();
    assert_eq!(found, expected);
    assert_eq!((track.index.media_time(), track.index.all_sync()), (media_time, true));
    let reasons: Vec<_> = read
        .refused
        .iter()
        .map(|refusal| format!("{}: {}", refusal.what, refusal.why))
        .collect();
    assert_eq!(reasons, refused);
}

fn check_error(read: Read, source: &[u8], expected: &str) {
    let error = read(&Bytes::copy_from_slice(source)).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn adts_samples_have_no_header() {
    let frames = [adts_frame(100), adts_frame(50), adts_frame(9)];
    check(
        adts::read,
        &frames,
        &[(7, 100, 1_024), (114, 50, 1_024), (171, 9, 1_024)],
        0,
        &[],
    );
    // Packed audio segments put end to end: a tag before each.
    let tagged = [id3(4), adts_frame(100), id3(20), adts_frame(50), adts_frame(50)];
    check(
        adts::read,
        &tagged,
        &[(21, 100, 1_024), (158, 50, 1_024), (215, 50, 1_024)],
        0,
        &[],
    );
}

#[test]
fn junk_is_jumped_over_and_told() {
    let junk = [
        b"junk".to_vec(),
        adts_frame(10),
        vec![0xff, 0xf1, 0, 0, 0],
        adts_frame(10),
        adts_frame(10),
    ];
    check(
        adts::read,
        &junk,
        &[(33, 10, 1_024), (50, 10, 1_024)],
        0,
        &["26 bytes: in 1 places, the first at 0, there are no frames"],
    );
    let cut = [adts_frame(10), adts_frame(10), adts_frame(100)[..60].to_vec()];
    check(
        adts::read,
        &cut,
        &[(7, 10, 1_024), (24, 10, 1_024)],
        0,
        &["60 bytes: the last frame is cut off"],
    );
    check_error(adts::read, b"nothing of the kind", "no ADTS frames");
    check_error(adts::read, b"", "no ADTS frames");
    check_error(adts::read, &vec![0; 3 << 20], "no ADTS frames");
}

#[test]
fn mp3_priming_and_tags() {
    let frames = [mp3_frame(1), mp3_frame(2)];
    check(mpeg_audio::read, &frames, &[(0, 417, 1_152), (417, 417, 1_152)], 0, &[]);
    let mut tail = b"TAG".to_vec();
    tail.extend([0; 125]);
    let lame = [id3(5), lame_frame(576, 1_000), mp3_frame(1), mp3_frame(2), tail];
    check(
        mpeg_audio::read,
        &lame,
        &[(432, 417, 1_152), (849, 417, 1_152 - 1_000 + 529)],
        576 + 529,
        &[],
    );
    let much = [lame_frame(576, 4_000), mp3_frame(1), mp3_frame(2)];
    check(
        mpeg_audio::read,
        &much,
        &[(417, 417, 1_152), (834, 417, 1)],
        576 + 529,
        &[],
    );
    // Layer II, 160 kbit/s.
    let mut second = vec![0; 522];
    second[..4].copy_from_slice(&[0xff, 0xfd, 0x90, 0x00]);
    check_error(
        mpeg_audio::read,
        &second.repeat(3),
        "MPEG audio of layer 2 is not served",
    );
    check_error(mpeg_audio::read, &lame_frame(576, 0), "track has no samples");
}

#[test]
fn ac3_frames() {
    check(
        ac3::read,
        &[ac3_frame(), ac3_frame()],
        &[(0, 128, 1_536), (128, 128, 1_536)],
        0,
        &[],
    );
    let swapped: Vec<u8> = ac3_frame()
        .repeat(2)
        .chunks(2)
        .flat_map(|pair| [pair[1], pair[0]])
        .collect();
    check_error(
        ac3::read,
        &swapped,
        "its bytes are swapped in pairs, which no player takes",
    );
    check_error(ac3::read, &[0x0b; 100], "no AC-3 frames");
}

#[test]
fn flac_frames_end_where_their_checksum_comes_out() {
    let frames = [
        flac_head(),
        flac_frame(0, 1, 100),
        flac_frame(1, 2, 50_000),
        flac_frame(2, 3, 20),
    ];
    let start = flac_head().len() as u64;
    let expected = [
        (start, 102, 4_096),
        (start + 102, 50_002, 4_096),
        (start + 50_104, 22, 4_096),
    ];
    check(flac::read, &frames, &expected, 0, &[]);
    // A header inside a frame, its CRC-8 right: the CRC-16 does not come out there.
    let mut tricky = flac_frame(0, 1, 60);
    tricky.truncate(60);
    tricky.extend(&flac_frame(1, 0, 6)[..6]);
    let check_sum = crc(&tricky, 0x8005, 16) as u16;
    tricky.extend(check_sum.to_be_bytes());
    let frames = [flac_head(), tricky, flac_frame(1, 3, 20)];
    check(
        flac::read,
        &frames,
        &[(start, 68, 4_096), (start + 68, 22, 4_096)],
        0,
        &[],
    );
}

#[test]
fn damaged_flac_frames_leave_a_gap() {
    let mut bad = flac_frame(1, 2, 50);
    bad[30] ^= 1;
    let frames = [
        flac_head(),
        flac_frame(0, 1, 100),
        bad,
        flac_frame(2, 3, 20),
        flac_frame(3, 3, 20),
    ];
    let start = flac_head().len() as u64;
    let places = (start + 102, start + 154);
    check(
        flac::read,
        &frames,
        &[(start, 102, 8_192), (places.1, 22, 4_096), (places.1 + 22, 22, 4_096)],
        0,
        &[
            &format!("52 bytes at {}: damaged", places.0),
            "4096 samples of sound: frame numbers tell that they are missing; the frames before them are lengthened",
        ],
    );
    check_error(flac::read, b"fLaC", "at 0: STREAMINFO at bit 0: wants 16 bits, has 0");
    check_error(flac::read, b"OggS", "no FLAC marker");
    check_error(flac::read, &flac_head(), "no FLAC frames");
}

#[test]
fn files_are_told_apart_by_their_first_bytes() {
    let check = |source: &[u8], expected: [bool; 4]| {
        let readers = [
            adts::recognises,
            mpeg_audio::recognises,
            ac3::recognises,
            flac::recognises,
        ];
        assert_eq!(readers.map(|recognises| recognises(source)), expected, "{source:x?}");
    };
    check(&adts_frame(100).repeat(2), [true, false, false, false]);
    check(&mp3_frame(0).repeat(2), [false, true, false, false]);
    check(&ac3_frame().repeat(2), [false, false, true, false]);
    check(&flac_head(), [false, false, false, true]);
    check(&[id3(20), adts_frame(100)].concat(), [true, false, false, false]);
    check(&[id3(20), flac_head()].concat(), [false, false, false, true]);
    check(&id3(100)[..60], [false, true, false, false]);
    check(&mp3_frame(0)[..100], [false, true, false, false]);
    check(&[mp3_frame(0), vec![0; 500]].concat(), [false; 4]);
    check(b"plain text", [false; 4]);
    check(b"", [false; 4]);
}

const READERS: [Read; 4] = [adts::read, mpeg_audio::read, ac3::read, flac::read];

fn streams() -> [Vec<u8>; 4] {
    [
        [id3(4), adts_frame(20), adts_frame(12), adts_frame(9)].concat(),
        [lame_frame(576, 600), mp3_frame(1), mp3_frame(2)].concat(),
        [ac3_frame(), ac3_frame(), ac3_frame()].concat(),
        [
            flac_head(),
            flac_frame(0, 1, 30),
            flac_frame(1, 2, 40),
            flac_frame(2, 2, 10),
        ]
        .concat(),
    ]
}

fn read_any(read: Read, source: &Bytes) -> usize {
    let Ok(read) = read(source) else { return 0 };
    let index = &read.tracks[0].index;
    let end = index.iter().map(|sample| sample.offset + u64::from(sample.size)).max();
    assert!(end.unwrap() <= source.len() as u64);
    index.sample_count() as usize
}

#[test]
fn files_cut_anywhere_are_served_as_far_as_they_go() {
    for (read, stream) in READERS.into_iter().zip(streams()) {
        let whole = Bytes::from(stream);
        let mut count = 0;
        for size in 0..=whole.len() {
            let found = read_any(read, &whole.slice(..size));
            // A frame that begins behind the last whole one may leave that unconfirmed.
            assert!(found + 1 >= count, "{size}: {found} after {count}");
            count = count.max(found);
        }
        assert!(count >= 2);
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let mut seed = 0x536f_756e_6453_6f75u64;
    for (read, stream) in READERS.into_iter().zip(streams()) {
        for _ in 0..20_000 {
            let mut bad = stream.clone();
            for _ in 0..2 {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let at = (seed >> 33) as usize % bad.len();
                bad[at] = (seed >> 25) as u8;
            }
            read_any(read, &Bytes::from(bad));
        }
    }
}
