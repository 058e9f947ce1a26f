//! What kind of file a source is, told by its first bytes and never by its name.

use crate::crypto::source::{NoKeys, SourceKeys};
use crate::demux::Demuxer;
use crate::elementary::{ac3, adts, flac, mpeg_audio};
use crate::isobmff::movie;
use crate::mpegts::demux::TsDemuxer;
use crate::ogg::OggDemuxer;
use crate::source::{ReadAt, SourceTracks};
use crate::{matroska, ogg};

/// Bytes from the start of a file that [`recognise`] looks at.
pub const HEAD_SIZE_BYTES: usize = 64 << 10;

/// Kinds of files that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Container {
    /// MP4, MOV, CMAF: ISO/IEC 14496-12 and QuickTime.
    IsoBmff,
    /// Matroska and WebM.
    Matroska,
    /// MPEG-2 transport stream.
    MpegTs,
    /// Ogg.
    Ogg,
    /// AAC in ADTS.
    Adts,
    /// MPEG-1/2 audio.
    MpegAudio,
    /// AC-3 or E-AC-3 frames.
    Ac3,
    /// FLAC.
    Flac,
    /// Text of one coding.
    Text(TextFile),
}

/// Codings of text files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TextFile {
    /// WebVTT.
    WebVtt,
    /// SubRip.
    Srt,
    /// TTML in all its profiles.
    Ttml,
}

/// How a source becomes tracks.
pub enum Indexed {
    /// Its samples lie in one piece each: they are served from where they are. The error says what and where.
    InPlace(Result<SourceTracks, String>),
    /// Its samples are scattered: they must be stored anew.
    Streamed(Box<dyn Demuxer>),
    /// It is text, read whole.
    Text(TextFile),
}

/// The kind of a file that begins with `head` (up to [`HEAD_SIZE_BYTES`] of it), or `None`.
pub fn recognise(head: &[u8]) -> Option<Container> {
    const TOP_LEVEL: [&[u8; 4]; 12] = [
        b"ftyp", b"moov", b"moof", b"styp", b"sidx", b"mdat", b"free", b"skip", b"wide", b"pnot", b"emsg", b"uuid",
    ];
    let fourcc = head.get(4..8);
    if fourcc.is_some_and(|fourcc| TOP_LEVEL.iter().any(|known| known.as_slice() == fourcc)) {
        return Some(Container::IsoBmff);
    }
    if matroska::recognises(head) {
        return Some(Container::Matroska);
    }
    if ogg::recognises(head) {
        return Some(Container::Ogg);
    }
    if flac::recognises(head) {
        return Some(Container::Flac);
    }
    if let Some(text) = recognise_text(head) {
        return Some(Container::Text(text));
    }
    if crate::mpegts::demux::recognises(head) {
        return Some(Container::MpegTs);
    }
    if ac3::recognises(head) {
        return Some(Container::Ac3);
    }
    if adts::recognises(head) {
        return Some(Container::Adts);
    }
    mpeg_audio::recognises(head).then_some(Container::MpegAudio)
}

fn recognise_text(head: &[u8]) -> Option<TextFile> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    if head.starts_with(b"WEBVTT") {
        return Some(TextFile::WebVtt);
    }
    let start: String = match head {
        [0xff, 0xfe, rest @ ..] | [0xfe, 0xff, rest @ ..] => rest
            .iter()
            .filter(|byte| **byte != 0)
            .take(2048)
            .map(|byte| char::from(*byte))
            .collect(),
        _ => head.iter().take(2048).map(|byte| char::from(*byte)).collect(),
    };
    let trimmed = start.trim_start();
    if trimmed.starts_with('<') && (trimmed.contains("<tt") || trimmed.contains(":tt")) {
        return Some(TextFile::Ttml);
    }
    let arrow_early = trimmed.lines().take(8).any(|line| line.contains("-->"));
    arrow_early.then_some(TextFile::Srt)
}

impl Container {
    /// Starts reading `source`, which is of this kind. Encrypted tracks are refused.
    pub fn index(self, source: &dyn ReadAt) -> Indexed {
        self.index_encrypted(source, &NoKeys)
    }

    /// As [`Container::index`], with encrypted tracks whose keys are among `keys`.
    pub fn index_encrypted(self, source: &dyn ReadAt, keys: &dyn SourceKeys) -> Indexed {
        fn text<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, String> {
            result.map_err(|error| error.to_string())
        }
        match self {
            Container::IsoBmff => Indexed::InPlace(text(movie::read_encrypted(source, keys))),
            Container::Matroska => Indexed::InPlace(text(matroska::read(source))),
            Container::Adts => Indexed::InPlace(text(adts::read(source))),
            Container::MpegAudio => Indexed::InPlace(text(mpeg_audio::read(source))),
            Container::Ac3 => Indexed::InPlace(text(ac3::read(source))),
            Container::Flac => Indexed::InPlace(text(flac::read(source))),
            Container::MpegTs => Indexed::Streamed(Box::new(TsDemuxer::new())),
            Container::Ogg => Indexed::Streamed(Box::new(OggDemuxer::new())),
            Container::Text(coding) => Indexed::Text(coding),
        }
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Container::IsoBmff => "ISO base media file",
            Container::Matroska => "Matroska",
            Container::MpegTs => "MPEG transport stream",
            Container::Ogg => "Ogg",
            Container::Adts => "AAC (ADTS)",
            Container::MpegAudio => "MPEG audio",
            Container::Ac3 => "AC-3",
            Container::Flac => "FLAC",
            Container::Text(TextFile::WebVtt) => "WebVTT",
            Container::Text(TextFile::Srt) => "SubRip",
            Container::Text(TextFile::Ttml) => "TTML",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_bytes() {
        let check = |head: &[u8], expected: Option<Container>| assert_eq!(recognise(head), expected, "{head:?}");
        check(b"\0\0\0\x18ftypisom", Some(Container::IsoBmff));
        check(b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska", Some(Container::Matroska));
        check(b"fLaC\0\0\0\x22", Some(Container::Flac));
        check(b"\xef\xbb\xbfWEBVTT\n", Some(Container::Text(TextFile::WebVtt)));
        check(
            b"1\r\n00:00:01,000 --> 00:00:02,000\r\nhello",
            Some(Container::Text(TextFile::Srt)),
        );
        check(
            b"<?xml version=\"1.0\"?>\n<tt xmlns=\"http://www.w3.org/ns/ttml\">",
            Some(Container::Text(TextFile::Ttml)),
        );
        check(b"", None);
        check(b"PK\x03\x04", None);
        check(b"%PDF-1.4 this is a document without any media in it", None);
    }
}
