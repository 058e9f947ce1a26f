//! What a stream of a program map holds: a coding that is served, or the reason why not.

use super::super::psi::stream_type;
use super::tables::MapStream;
use crate::codec::MediaKind;

/// Descriptors of DVB (ETSI EN 300 468 table 12) that say what a private stream holds.
mod dvb {
    pub(super) const TELETEXT: u8 = 0x56;
    pub(super) const SUBTITLING: u8 = 0x59;
    pub(super) const AC3: u8 = 0x6a;
    pub(super) const EAC3: u8 = 0x7a;
    pub(super) const DTS: u8 = 0x7b;
    pub(super) const AAC: u8 = 0x7c;
}

/// Codings that are taken out of transport streams, by how their frames are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Avc,
    Hevc,
    /// AAC in ADTS.
    Adts,
    /// AAC in LATM, in LOAS.
    Loas,
    /// MPEG audio; layer III is served, which shows in the frames.
    MpegAudio,
    /// AC-3 or E-AC-3, which shows in the frames.
    Dolby,
}

impl Coding {
    pub(super) fn kind(self) -> MediaKind {
        match self {
            Coding::Avc | Coding::Hevc => MediaKind::Video,
            _ => MediaKind::Audio,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Coding::Avc => "AVC",
            Coding::Hevc => "HEVC",
            Coding::Adts | Coding::Loas => "AAC",
            Coding::MpegAudio => "MPEG audio",
            Coding::Dolby => "AC-3 or E-AC-3",
        }
    }

    /// The coding of a stream, or what it is instead, for people.
    pub(super) fn of(stream: &MapStream) -> Result<Coding, String> {
        let registration = stream.registration();
        match (stream.stream_type, registration.as_ref()) {
            (stream_type::AVC, _) => Ok(Coding::Avc),
            (stream_type::HEVC, _) => Ok(Coding::Hevc),
            (stream_type::AAC_ADTS, _) => Ok(Coding::Adts),
            (stream_type::AAC_LATM, _) => Ok(Coding::Loas),
            (stream_type::MPEG1_AUDIO | stream_type::MPEG2_AUDIO, _) => Ok(Coding::MpegAudio),
            (stream_type::AC3 | stream_type::EAC3, _) => Ok(Coding::Dolby),
            (stream_type::PRIVATE_PES, Some(b"AC-3" | b"EAC3")) => Ok(Coding::Dolby),
            (stream_type::PRIVATE_PES, Some(b"HEVC")) => Ok(Coding::Hevc),
            (stream_type::PRIVATE_PES, _) => private(stream),
            (0x01 | 0x02, _) => Err("MPEG-1 and MPEG-2 video are not served".to_owned()),
            (0x05, _) => Err("private sections are not served".to_owned()),
            (0x0b..=0x0d, _) => Err("data carousels are not served".to_owned()),
            (0x10, _) => Err("MPEG-4 part 2 video is not served".to_owned()),
            (0x15, _) => Err("timed metadata (ID3) is not served".to_owned()),
            (0x1c | 0x2d | 0x2e, _) => Err("this audio coding is not served from transport streams".to_owned()),
            (0x20, _) => Err("the second view of stereoscopic video is not served".to_owned()),
            (0x33, _) => Err("VVC is not served".to_owned()),
            (0x82 | 0x85 | 0x8a, Some(b"DTS1" | b"DTS2" | b"DTS3")) => Err("DTS audio is not served".to_owned()),
            (0x83, _) => Err("Dolby TrueHD audio is not served".to_owned()),
            (0x86, _) => Err("SCTE-35 cues are not served".to_owned()),
            (0xdb | 0xcf | 0xc1 | 0xc2, _) => Err("it is encrypted (HLS SAMPLE-AES)".to_owned()),
            (other, _) => Err(format!("stream type 0x{other:02x} is not served")),
        }
    }
}

/// A private stream, which its descriptors tell.
fn private(stream: &MapStream) -> Result<Coding, String> {
    let has = |tag| stream.descriptor(tag).is_some();
    match stream.registration() {
        _ if has(dvb::AC3) || has(dvb::EAC3) => Ok(Coding::Dolby),
        _ if has(dvb::SUBTITLING) => Err("DVB subtitles are pictures and are not served".to_owned()),
        _ if has(dvb::TELETEXT) => Err("teletext is not served".to_owned()),
        _ if has(dvb::DTS) => Err("DTS audio is not served".to_owned()),
        _ if has(dvb::AAC) => Err("AAC in private streams is not served".to_owned()),
        Some(name) => Err(format!("private stream {} is not served", name.escape_ascii())),
        None => Err("it is a private stream of unknown content".to_owned()),
    }
}
