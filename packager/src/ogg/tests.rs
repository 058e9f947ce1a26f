//! Ogg files made here, page by page, and damaged in every way.

use super::page::write;
use super::*;

const FIRST: u8 = 2;
const LAST: u8 = 4;

/// Mono, 312 samples of pre-skip.
const OPUS_HEAD: &[u8] = b"OpusHead\x01\x01\x38\x01\x80\xbb\0\0\0\0\0";

/// 20 ms.
const PACKET: &[u8] = &[0x78, 1, 2, 3];

fn headers() -> Vec<u8> {
    [
        write(FIRST, 0, 7, 0, &[OPUS_HEAD], false),
        write(0, 0, 7, 1, &[b"OpusTags\0\0\0\0\0\0\0\0"], false),
    ]
    .concat()
}

/// Everything a demuxer makes of `source`, pushed in pieces of `push_size` bytes.
fn demux(source: &[u8], push_size: usize) -> (OggDemuxer, Vec<Packet>, Result<(), DemuxError>) {
    let mut demuxer = OggDemuxer::new();
    let mut packets = Vec::new();
    let mut result = Ok(());
    for bytes in source.chunks(push_size) {
        result = result.and_then(|()| demuxer.push(bytes, &mut packets));
    }
    result = result.and_then(|()| demuxer.finish(&mut packets));
    (demuxer, packets, result)
}

/// Checks (decode time, duration, bytes) of every packet, and what is refused.
fn check(pages: &[Vec<u8>], expected: &[(i64, u32, usize)], refused: &[&str]) {
    let source = pages.concat();
    for push_size in [1, 50, source.len()] {
        let (demuxer, packets, result) = demux(&source, push_size);
        result.unwrap();
        let found: Vec<_> = packets
            .iter()
            .map(|packet| (packet.decode_time, packet.duration.unwrap(), packet.data.len()))
            .collect();
        assert_eq!(found, expected);
        let reasons: Vec<_> = demuxer
            .refused()
            .iter()
            .map(|refusal| format!("{}: {}", refusal.what, refusal.why))
            .collect();
        assert_eq!(reasons, refused);
    }
}

#[test]
fn packets_of_opus() {
    let pages = [
        headers(),
        write(0, 1_920, 7, 2, &[PACKET; 2], false),
        write(LAST, 2_880, 7, 3, &[PACKET], false),
    ];
    check(&pages, &[(0, 960, 4), (960, 960, 4), (1_920, 960, 4)], &[]);
    let (demuxer, _, _) = demux(&pages.concat(), 1_000);
    let [track] = demuxer.tracks() else { panic!() };
    assert_eq!(track.media_time, 312);
    let description = track.description.as_ref().unwrap();
    assert_eq!(
        (description.timescale.get(), description.rfc6381.as_str()),
        (48_000, "opus")
    );
}

#[test]
fn packets_go_on_across_pages() {
    let long = [&[0x78], [9; 300].as_slice()].concat();
    let (begin, end) = long.split_at(255);
    let pages = [
        headers(),
        write(0, 960, 7, 2, &[PACKET, begin], true),
        write(1 | LAST, 1_920, 7, 3, &[end], false),
    ];
    check(&pages, &[(0, 960, 4), (960, 960, 301)], &[]);
    // The page with the beginning is lost.
    let pages = [headers(), write(1 | LAST, 1_920, 7, 3, &[end, PACKET], false)];
    check(&pages, &[(0, 960, 4)], &["1 packets: they are damaged or cut off"]);
    // The page with the end is.
    let pages = [
        headers(),
        write(0, 960, 7, 2, &[PACKET, begin], true),
        write(0, 2_880, 7, 4, &[PACKET], false),
    ];
    check(
        &pages,
        &[(0, 960, 4), (1_920, 960, 4)],
        &[
            "1 packets: they are damaged or cut off",
            "1 gaps: sound is missing; the times behind it are kept",
        ],
    );
}

#[test]
fn the_last_page_tells_where_sound_ends() {
    let end = |granule| {
        [
            headers(),
            write(0, 1_920, 7, 2, &[PACKET; 2], false),
            write(LAST, granule, 7, 3, &[PACKET; 2], false),
        ]
    };
    let cut = |third, fourth| [(0, 960, 4), (960, 960, 4), (1_920, third, 4), (2_880, fourth, 4)];
    check(&end(3_840), &cut(960, 960), &[]);
    check(&end(3_400), &cut(960, 520), &[]);
    check(&end(2_400), &cut(479, 1), &[]);
    check(&end(i64::MIN), &cut(1, 1), &[]);
    // A whole file in one page.
    check(
        &[headers(), write(LAST, 1_000, 7, 2, &[PACKET; 2], false)],
        &[(0, 960, 4), (960, 40, 4)],
        &[],
    );
    // A recording that began long ago.
    let late = [
        headers(),
        write(0, 99_960, 7, 2, &[PACKET], false),
        write(LAST, 100_500, 7, 3, &[PACKET], false),
    ];
    check(&late, &[(0, 960, 4), (960, 540, 4)], &[]);
}

#[test]
fn other_streams_are_refused() {
    let vorbis = write(FIRST, 0, 1, 0, &[b"\x01vorbis"], false);
    let theora = write(FIRST, 0, 2, 0, &[b"\x80theora"], false);
    let second = write(FIRST, 0, 3, 0, &[OPUS_HEAD], false);
    let pages = [
        vorbis.clone(),
        theora,
        headers(),
        write(LAST, 960, 7, 2, &[PACKET], false),
    ];
    let reasons = [
        "stream 00000001: Vorbis has no place in CMAF",
        "stream 00000002: Theora is not served",
    ];
    check(&pages, &[(0, 960, 4)], &reasons);
    let head = headers();
    let (first, tags) = head.split_at(head.len() - write(0, 0, 7, 1, &[b"OpusTags\0\0\0\0\0\0\0\0"], false).len());
    let pages = [
        first.to_vec(),
        second,
        tags.to_vec(),
        write(LAST, 960, 7, 2, &[PACKET], false),
    ];
    check(
        &pages,
        &[(0, 960, 4)],
        &["stream 00000003: one stream of sound is served, the first"],
    );
    check(&[vorbis], &[], &["stream 00000001: Vorbis has no place in CMAF"]);
    let chain = [headers(), write(LAST, 960, 7, 2, &[PACKET], false), headers()];
    let size = chain[0].len() + chain[1].len();
    let reason = format!("everything from byte {size} on: another file is put behind the first (a chained stream)");
    check(&chain, &[(0, 960, 4)], &[&reason]);
}

#[test]
fn junk_between_pages_is_jumped_over() {
    let mut bad = write(0, 1_920, 7, 3, &[PACKET], false);
    *bad.last_mut().unwrap() ^= 1;
    let size = bad.len() + 5;
    let pages = [
        headers(),
        write(0, 960, 7, 2, &[PACKET], false),
        b"OggSx".to_vec(),
        bad,
        write(LAST, 2_880, 7, 4, &[PACKET], false),
    ];
    let junk = format!("{size} bytes: they are no whole Ogg pages");
    check(
        &pages,
        &[(0, 960, 4), (1_920, 960, 4)],
        &[&junk, "1 gaps: sound is missing; the times behind it are kept"],
    );
    let (_, _, result) = demux(&[0; 70_000], 1_000);
    assert_eq!(result.unwrap_err().to_string(), "at 0: no Ogg page");
    let (_, _, result) = demux(b"", 1);
    assert_eq!(result.unwrap_err().to_string(), "at 0: no Ogg page");
}

#[test]
fn flac_in_ogg() {
    // 44.1 kHz, mono, 16 bits, blocks of 4096.
    let mut head = b"\x7fFLAC\x01\0\0\x01fLaC\0\0\0\x22".to_vec();
    head.extend([0x10, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0xc4, 0x40, 0xf0, 0, 0, 0, 0]);
    head.extend([0; 16]);
    let comment = [0x84, 0, 0, 0];
    // Block of 4096 by code 12, rate and depth of STREAMINFO, frame 0.
    let frame = [0xff, 0xf8, 0xc0, 0x00, 0x00, 0x07, 1, 2, 3];
    assert_eq!(flac::FrameHeader::parse(&frame).unwrap().block_samples, 4_096);
    let pages = [
        write(FIRST, 0, 7, 0, &[&head], false),
        write(0, 0, 7, 1, &[&comment], false),
        write(LAST, 4_096, 7, 2, &[&frame], false),
    ];
    check(&pages, &[(0, 4_096, 9)], &[]);
}

fn everything() -> Vec<u8> {
    let long = [&[0x78], [9; 300].as_slice()].concat();
    let (begin, end) = long.split_at(255);
    [
        write(FIRST, 0, 1, 0, &[b"\x01vorbis"], false),
        headers(),
        write(0, 1_920, 7, 2, &[PACKET, PACKET, begin], true),
        write(0, 5, 1, 1, &[b"vorbis"], false),
        write(1, 3_840, 7, 3, &[end, PACKET], false),
        write(LAST, 4_500, 7, 4, &[PACKET], false),
    ]
    .concat()
}

fn check_order(packets: &[Packet]) {
    for pair in packets.windows(2) {
        assert!(pair[1].decode_time > pair[0].decode_time, "{pair:?}");
    }
}

#[test]
fn a_file_cut_anywhere_is_served_as_far_as_it_goes() {
    let whole = everything();
    let mut count = 0;
    for size in 0..=whole.len() {
        let (_, packets, _) = demux(&whole[..size], 64);
        check_order(&packets);
        assert!(packets.len() >= count);
        count = packets.len();
    }
    assert_eq!(count, 5);
}

#[test]
fn damaged_bytes_never_panic() {
    let whole = everything();
    let mut seed = 0x4f67_6753_4f67_6753u64;
    for round in 0..20_000 {
        let mut bad = whole.clone();
        for _ in 0..3 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = (seed >> 33) as usize % bad.len();
            bad[at] = (seed >> 25) as u8;
        }
        // Checksums put right, so that what lies behind them is reached.
        if round % 2 == 0 {
            page::repair(&mut bad);
        }
        let (_, packets, _) = demux(&bad, 200);
        check_order(&packets);
    }
}
