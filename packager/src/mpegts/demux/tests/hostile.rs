//! Damage and malice: nothing may panic, hang, or take more memory than its bounds.

use super::*;
use crate::mpegts::testing::media;

/// A small generator with a printed seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Whatever the bytes are: decode times grow within a track, and nothing is larger than the source.
fn survive(bytes: &[u8]) {
    let mut demuxer = TsDemuxer::new();
    let mut packets = Vec::new();
    for piece in bytes.chunks(5_000) {
        if demuxer.push(piece, &mut packets).is_err() {
            return;
        }
    }
    let _ = demuxer.finish(&mut packets);
    let mut last = BTreeMap::new();
    for packet in &packets {
        assert!(packet.data.len() <= bytes.len());
        assert!(packet.track < demuxer.tracks().len());
        if let Some(last) = last.insert(packet.track, packet.decode_time) {
            assert!(
                packet.decode_time > last,
                "decode times of track {} run back",
                packet.track
            );
        }
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(8) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = [0, 1, 0x47, 0x7f, 0x80, 0xff][random.below(6)],
            3 => {
                // Packets lost, or bytes.
                let size = [1, PACKET_SIZE, random.below(400)][random.below(3)];
                bytes.drain(at..bytes.len().min(at + size));
            }
            4 => {
                // Packets repeated, or moved.
                let size = PACKET_SIZE * (1 + random.below(4));
                let piece = bytes[at..bytes.len().min(at + size)].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => {
                // Headers: the first bytes of a packet.
                let packet = at / PACKET_SIZE * PACKET_SIZE;
                let at = (packet + random.below(24)).min(bytes.len() - 1);
                bytes[at] = random.next() as u8;
            }
        }
    }
}

#[test]
fn mutations_are_survived() {
    let small = segment(0, &two_seconds(TIMESTAMP_WRAP - 90_000));
    let mut sources = vec![small];
    for file in [
        "androidx__sample_latm.ts",
        "androidx__sample_ac3.ts",
        "androidx__sample_h264_mpeg_audio.ts",
    ] {
        if let Some(path) = media(&format!("ts/{file}")) {
            sources.push(std::fs::read(path).unwrap());
        }
    }
    let seed = 0x6865_6164_7761_7465;
    let mut random = Random(seed);
    for round in 0..24_000 {
        let mut bytes = sources[round % sources.len()].clone();
        mutate(&mut bytes, &mut random);
        survive(&bytes);
    }
}

#[test]
fn truncation_at_every_byte_is_survived() {
    let stream = segment(0, &two_seconds(126_000));
    for end in 0..stream.len().min(6_000) {
        survive(&stream[..end]);
        survive(&stream[end..stream.len().min(end + 6_000)]);
    }
}
