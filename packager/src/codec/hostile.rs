//! Damaged input for every reader of the codec room: cut at every byte, and mutated with a fixed seed. Readers must
//! come back without panic or overflow, and what they accept must survive being written and read again.
#![allow(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

use super::aac::adts::AdtsHeader;
use super::aac::esds::Esds;
use super::aac::latm::{LatmReader, parse_sync_header};
use super::aac::{AudioSpecificConfig, object_type};
use super::tests::hex;
use super::*;

/// Whole, valid structures of every kind, most from real files.
const SEEDS: &[&str] = &[
    // avcC, SPS, PPS, SEI with recovery point.
    "0164000affe1001c6764000aacd95f8888c05a848804a0000003002000000641e244b2c001000668ebe3cb22c0fdf8f800",
    "6764001facd9404405be5f011000003e90000ea600f18319",
    "274d4015a9183213fde00d418041adb0ad7bdf01",
    "67640029ad84010c20086100430802184010c200843b502802dd8088000003000800000301e42000",
    "68ebe3cb22c0",
    "0600018006 01c480",
    "658884000aff",
    // hvcC, VPS, SPS, PPS.
    "010220000000b0000000000078f000fcfdfafa00000b04a00001001840010c01ffff022000000300b0000003000003007815c090a1000100\
     24420101022000000300b00000030000030078a003c0801107cad8815ee45954d424482402a2000100084401c02cb86414c9a70001000d4e\
     019408002fe9a03d13404280",
    "40010c01ffff016000000300900000030000030078959809",
    "420101016000000300900000030000030078a002d08010e596566924cafff0005000268080000003008000000c8422",
    "42010101600000030090000003000003003fa00462014165959a4932bc05a808080f08000003000800000300f04022",
    "4401c172b46240",
    // av1C, temporal unit, vpcC, VP9 and VP8 key frames, superframe.
    "81094c000a0e0000004aabbfc3776fe342440241",
    "12000a0b0000002d4c37b3dfff98047a0200003203100000",
    "010000000200a20910090000",
    "824983424013f00ef0",
    "502b009d012a4001f040",
    "0102030405c10302c1",
    // AudioSpecificConfig, esds, ADTS, LATM.
    "eb098800",
    "138856e5a54880",
    "f94824211cc0185000200097084730b0",
    "000000000380808025000200048080801740150000000000bc930000bc930580808005119056e500068080800102",
    "fff150802e7ffc",
    "56e00c2000121000ff0040012345",
    // MPEG audio, AC-3, E-AC-3 boxes, AC-4.
    "fffb9064",
    "0b77000014404100",
    "0b77001f3f8600aaffffffffffffffffff",
    "0c3dc0",
    "1400200f000110",
    "20a402400000001fffffffe00212f880000042000002501000000310995ba0800112f880000042000002501000000310995b8080",
    // dOps, OpusHead, dfLa, FLAC frame header, Dolby Vision.
    "000401380000bb80000002040000010203",
    "4f707573486561640102380180bb0000000000",
    "0000000080000022100010000024a000600c0bb8037001b4dbf03ee54c7da568b20fbdd5d6b1a1423919",
    "fff97da0febfbfbfbfbfbf0fffac44b1",
    "010010254000000000000000000000000000000000000000",
];

fn seeds() -> impl Iterator<Item = Vec<u8>> {
    SEEDS.iter().map(|seed| hex(&seed.replace(' ', "")))
}

/// Marsaglia's xorshift: the same sequence everywhere.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// One to four small injuries.
    fn injure(&mut self, data: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(data.len());
            match self.below(6) {
                0 => data.truncate(at),
                1 => data.insert(at, self.next() as u8),
                2 => data.extend((0..self.below(9)).map(|_| 0xff)),
                _ if data.is_empty() => {}
                3 => data[at] ^= 1 << self.below(8),
                4 => data[at] = [0, 0xff, 0x80, 0x7f][self.below(4)],
                _ => data[at] = self.next() as u8,
            }
        }
    }
}

#[test]
fn cut_at_every_byte() {
    for seed in seeds() {
        for cut in 0..=seed.len() {
            read_everything(&seed[..cut]);
        }
    }
}

#[test]
fn mutated_with_a_fixed_seed() {
    let mut random = Xorshift(0x2545_f491_4f6c_dd1d);
    for seed in seeds() {
        for _ in 0..4_000 {
            let mut data = seed.clone();
            random.injure(&mut data);
            read_everything(&data);
        }
    }
}

#[test]
fn noise() {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let size = random.below(200);
        let data: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
        read_everything(&data);
    }
}

/// Gives the bytes to every reader, and what they accept to its writer and reader again.
fn read_everything(data: &[u8]) {
    read_video(data);
    read_audio(data);
}

/// What was accepted and written is read as the same again.
fn survives<T: PartialEq + std::fmt::Debug>(
    value: &T,
    written: Result<Vec<u8>, CodecError>,
    parse: impl Fn(&[u8]) -> Result<T, CodecError>,
) {
    let written = written.expect("what was read can be written");
    assert_eq!(parse(&written).as_ref(), Ok(value), "{written:x?}");
}

fn read_video(data: &[u8]) {
    if let Ok(config) = avc::AvcConfig::parse(data) {
        survives(&config, config.serialise(), avc::AvcConfig::parse);
        let _ = config.rfc6381("avc1");
    }
    if let Ok(mut config) = hevc::HevcConfig::parse(data) {
        // Writing puts the arrays in order.
        config.arrays.sort_by_key(|array| {
            if array.nal_type.is_parameter_set() {
                array.nal_type.0
            } else {
                255
            }
        });
        survives(&config, config.serialise(), hevc::HevcConfig::parse);
        let _ = config.rfc6381("hvc1");
    }
    if let Ok(config) = av1::Av1Config::parse(data) {
        survives(&config, Ok(config.serialise()), av1::Av1Config::parse);
        let _ = (config.sequence_header(), av1::Av1Config::build(&config.config_obus));
    }
    if let Ok(config) = vp9::VpConfig::parse(data) {
        survives(&config, Ok(config.serialise()), vp9::VpConfig::parse);
    }
    if let Ok(sps) = avc::Sps::parse(data) {
        assert!(sps.width > 0 && sps.height > 0 && sps.width <= 65_536 && sps.height <= 131_072);
        let _ = (
            sps.reorder_frames_max(),
            avc::AvcConfig::build(&[data], &[data]).map(|config| config.serialise()),
        );
    }
    if let Ok(sps) = hevc::Sps::parse(data) {
        assert!(sps.width > 0 && sps.height > 0);
        let _ = sps.picture_size_ctbs();
    }
    let _ = (
        avc::Pps::parse(data),
        avc::SliceStart::parse(data),
        avc::recovery_point(data),
    );
    let _ = (
        hevc::Pps::parse(data),
        hevc::Vps::parse(data),
        sei::mastering_display(data),
    );
    let _ = avc::random_access(bits::annex_b_units(data));
    let _ = hevc::picture_type(bits::nal_units(data, 4).flatten());
    if let Ok(header) = av1::SequenceHeader::parse(data) {
        let _ = header.rfc6381();
    }
    let _ = av1::TemporalUnit::parse(data, None);
    for range in av1::sample_ranges(data).unwrap_or_default() {
        assert!(range.end <= data.len() && range.start < range.end);
    }
    for range in vp9::frames(data).unwrap_or_default() {
        assert!(range.end <= data.len() && range.start < range.end);
    }
    let _ = (
        vp9::FrameHeader::parse(data),
        vp9::is_key_frame(data),
        vp9::VpConfig::build(data, 30, 1),
    );
    let _ = (vp8::FrameHeader::parse(data), vp8::config(data, 30_000, 1_001));
    if let Ok(config) = dolby_vision::DolbyVisionConfig::parse(data) {
        let _ = (
            config.rfc6381("dvh1"),
            config.supplemental_codecs(ColorInfo::UNSPECIFIED),
        );
    }
}

fn read_audio(data: &[u8]) {
    if let Ok(config) = AudioSpecificConfig::parse(data) {
        assert!(config.channels > 0 && config.sampling_rate > 0);
        let _ = (
            config.rfc6381(),
            config.output_frame_length(),
            AdtsHeader::write(&config, data.len()),
        );
        if let Some(written) = config.serialise() {
            let again = AudioSpecificConfig::parse(&written).expect("ours");
            assert_eq!(again.channels, config.channels);
            assert!(again.object_type != object_type::SBR);
        }
    }
    if let Ok(esds) = Esds::parse(data) {
        survives(&esds, esds.serialise(), Esds::parse);
        let _ = esds.rfc6381();
    }
    if let Ok(header) = AdtsHeader::parse(data) {
        assert!(header.header_size_bytes <= header.frame_size_bytes);
    }
    let _ = (
        parse_sync_header(data),
        LatmReader::new().frames(data),
        LatmReader::new().frames(data.get(3..).unwrap_or(&[])),
    );
    if let Ok(header) = mpeg_audio::FrameHeader::parse(data) {
        assert!(header.frame_size_bytes > 4);
        let _ = mpeg_audio::StreamTable::find(data, &header);
    }
    if let Ok(Some(unit)) = ac3::AccessUnit::parse(data) {
        assert!(unit.size_bytes <= data.len());
    }
    if let Ok(frame) = ac3::SyncFrame::parse(data) {
        assert!(frame.frame_size_bytes > 0 && frame.channels() > 0 || frame.channel_map == Some(0));
        let unit = ac3::AccessUnit {
            frames: vec![frame],
            size_bytes: data.len(),
            is_closed: false,
        };
        if let Ok(dec3) = ac3::Dec3::build(&unit) {
            survives(&dec3, dec3.serialise(), ac3::Dec3::parse);
        }
    }
    let _ = ac3::sync_frames(data).count();
    if let Ok(dac3) = ac3::Dac3::parse(data) {
        survives(&dac3, Ok(dac3.serialise()), ac3::Dac3::parse);
        let _ = (dac3.sampling_rate(), dac3.bitrate_bps(), dac3.channels());
    }
    if let Ok(dec3) = ac3::Dec3::parse(data) {
        survives(&dec3, dec3.serialise(), ac3::Dec3::parse);
        let _ = dec3.hls_channels();
    }
    if let Ok(dac4) = ac4::Dac4::parse(data) {
        let _ = (dac4.rfc6381(), dac4.channels());
    }
    if let Ok(config) = opus::OpusConfig::parse_dops(data) {
        let config = opus::OpusConfig {
            input_sampling_rate: opus::SAMPLING_RATE,
            ..config
        };
        survives(&config, Ok(config.serialise_dops()), opus::OpusConfig::parse_dops);
    }
    if let Ok(config) = opus::OpusConfig::parse_head(data) {
        survives(&config, Ok(config.serialise_head()), opus::OpusConfig::parse_head);
    }
    let _ = opus::packet_samples(data);
    if let Ok(info) = flac::StreamInfo::parse_dfla(data) {
        survives(&info, Ok(info.serialise_dfla()), flac::StreamInfo::parse_dfla);
    }
    if let Ok(info) = flac::StreamInfo::parse(data) {
        let _ = flac::frame_size_bytes(data, &info);
    }
    let _ = (flac::StreamInfo::parse_file(data), flac::FrameHeader::parse(data));
}
