//! Reads any bytes as sound: AAC (ADTS, LATM, `esds`), AC-3 and E-AC-3, FLAC, MPEG audio, Opus.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packager::codec::aac::AudioSpecificConfig;
use packager::codec::aac::adts::AdtsHeader;
use packager::codec::aac::esds::Esds;
use packager::codec::aac::latm::{self, LatmReader};
use packager::codec::ac3::{self, AccessUnit, Dac3, Dec3};
use packager::codec::flac::{self, StreamInfo};
use packager::codec::mpeg_audio::{self, StreamTable};
use packager::codec::opus::{self, OpusConfig};
use packager_fuzz::check_written;

fuzz_target!(|data: &[u8]| {
    read_aac(data);
    read_ac3(data);
    read_flac(data);
    if let Ok(header) = mpeg_audio::FrameHeader::parse(data) {
        let _ = (header.rfc6381(), StreamTable::find(data, &header));
    }
    for config in [OpusConfig::parse_dops(data), OpusConfig::parse_head(data)]
        .into_iter()
        .flatten()
    {
        check_written(
            &config.serialise_dops(),
            OpusConfig::parse_dops,
            OpusConfig::serialise_dops,
        );
        check_written(
            &config.serialise_head(),
            OpusConfig::parse_head,
            OpusConfig::serialise_head,
        );
    }
    let _ = opus::packet_samples(data);
});

fn read_aac(data: &[u8]) {
    if let Ok(config) = AudioSpecificConfig::parse(data) {
        let _ = (config.rfc6381(), config.output_frame_length(), config.output_channels());
        let _ = AdtsHeader::write(&config, data.len());
        if let Some(written) = config.serialise() {
            check_written(&written, AudioSpecificConfig::parse, |config| {
                config.serialise().expect("as before")
            });
        }
    }
    if let Ok(header) = AdtsHeader::parse(data) {
        let _ = header.audio_specific_config();
    }
    if let Ok(esds) = Esds::parse(data) {
        let _ = (esds.rfc6381(), esds.audio_specific_config());
        if let Ok(written) = esds.serialise() {
            check_written(&written, Esds::parse, |esds| {
                esds.serialise().expect("as large as before")
            });
        }
    }
    let mut reader = LatmReader::new();
    let mut rest = data;
    while let Ok(size_bytes) = latm::parse_sync_header(rest) {
        rest = &rest[latm::SYNC_HEADER_SIZE_BYTES..];
        let (element, after) = rest.split_at(size_bytes.min(rest.len()));
        let _ = reader.frames(element);
        rest = after;
    }
    let _ = LatmReader::new().frames(data);
}

fn read_ac3(data: &[u8]) {
    for (frame, bytes) in ac3::sync_frames(data).map_while(Result::ok) {
        assert_eq!(frame.frame_size_bytes, bytes.len());
        let _ = (frame.sample_count(), frame.channels());
        if let Ok(dac3) = Dac3::build(&frame) {
            check_written(&dac3.serialise(), Dac3::parse, Dac3::serialise);
        }
    }
    if let Ok(Some(unit)) = AccessUnit::parse(data) {
        assert!(unit.size_bytes <= data.len());
        if let Ok(payload) = Dec3::build(&unit).and_then(|dec3| dec3.serialise()) {
            check_written(&payload, Dec3::parse, |dec3| {
                dec3.serialise().expect("as large as before")
            });
        }
    }
    if let Ok(dac3) = Dac3::parse(data) {
        let _ = (dac3.channels(), dac3.bitrate_bps(), dac3.sampling_rate());
        check_written(&dac3.serialise(), Dac3::parse, Dac3::serialise);
    }
    if let Ok(dec3) = Dec3::parse(data) {
        let _ = (dec3.hls_channels(), dec3.sampling_rate());
        if let Ok(payload) = dec3.serialise() {
            check_written(&payload, Dec3::parse, |dec3| {
                dec3.serialise().expect("as large as before")
            });
        }
    }
}

fn read_flac(data: &[u8]) {
    if let Ok((info, first_frame)) = StreamInfo::parse_file(data) {
        assert!(first_frame <= data.len());
        let _ = flac::frame_size_bytes(&data[first_frame..], &info);
    }
    let _ = flac::FrameHeader::parse(data);
    if let Ok(info) = StreamInfo::parse(data) {
        let _ = flac::frame_size_bytes(data, &info);
        check_written(&info.serialise(), StreamInfo::parse, StreamInfo::serialise);
    }
    if let Ok(info) = StreamInfo::parse_dfla(data) {
        check_written(
            &info.serialise_dfla(),
            StreamInfo::parse_dfla,
            StreamInfo::serialise_dfla,
        );
    }
}
