//! What a coded bit stream says of itself: parameter sets, headers, RFC 6381 strings.
//!
//! Every fact here is read from the bit stream or its configuration box; nothing is guessed from a file name or a
//! container field that could contradict it. Functions over byte slices: no state outlives a call except where a
//! format has state of its own (LATM). Box payloads are the bytes after size and type, so a full box's payload starts
//! with its version and flags.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod aac;
pub mod ac3;
pub mod ac4;
pub mod av1;
pub mod avc;
pub mod bits;
pub mod dolby_vision;
pub mod flac;
pub mod hevc;
pub mod mpeg_audio;
pub mod opus;
pub mod sei;
pub mod vp8;
pub mod vp9;
pub mod vui;

/// Pictures, sound or words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaKind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Timed text.
    Text,
}

/// Coding of a track's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Codec {
    /// ITU-T H.264.
    Avc,
    /// ITU-T H.265.
    Hevc,
    /// AOMedia AV1.
    Av1,
    /// VP9.
    Vp9,
    /// VP8.
    Vp8,
    /// MPEG-4 AAC in all its object types (LC, HE, HEv2, xHE).
    Aac,
    /// MPEG-1/2 audio layer III.
    Mp3,
    /// Dolby Digital.
    Ac3,
    /// Dolby Digital Plus.
    Eac3,
    /// Dolby AC-4.
    Ac4,
    /// Opus.
    Opus,
    /// FLAC.
    Flac,
    /// WebVTT in ISO BMFF (ISO/IEC 14496-30).
    Wvtt,
    /// TTML in ISO BMFF (ISO/IEC 14496-30).
    Stpp,
    /// 3GPP timed text (3GPP TS 26.245), also called `mov_text`, and QuickTime's; in sources alone.
    Tx3g,
}

impl Codec {
    /// Video, audio or text.
    pub fn kind(self) -> MediaKind {
        match self {
            Codec::Avc | Codec::Hevc | Codec::Av1 | Codec::Vp9 | Codec::Vp8 => MediaKind::Video,
            Codec::Wvtt | Codec::Stpp | Codec::Tx3g => MediaKind::Text,
            _ => MediaKind::Audio,
        }
    }

    /// The codec's usual name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Avc => "AVC",
            Codec::Hevc => "HEVC",
            Codec::Av1 => "AV1",
            Codec::Vp9 => "VP9",
            Codec::Vp8 => "VP8",
            Codec::Aac => "AAC",
            Codec::Mp3 => "MP3",
            Codec::Ac3 => "AC-3",
            Codec::Eac3 => "E-AC-3",
            Codec::Ac4 => "AC-4",
            Codec::Opus => "Opus",
            Codec::Flac => "FLAC",
            Codec::Wvtt => "WebVTT in MP4",
            Codec::Stpp => "TTML in MP4",
            Codec::Tx3g => "3GPP timed text",
        }
    }
}

/// Dynamic range of a video, the value of HLS `VIDEO-RANGE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum VideoRange {
    /// Standard.
    Sdr,
    /// Hybrid log-gamma (transfer characteristics 18).
    Hlg,
    /// Perceptual quantiser, SMPTE ST 2084 (transfer characteristics 16).
    Pq,
}

/// Colour description with the code points of ITU-T H.273.
///
/// 2 means unspecified in each of the first three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ColorInfo {
    /// Colour primaries.
    pub primaries: u8,
    /// Transfer characteristics.
    pub transfer: u8,
    /// Matrix coefficients.
    pub matrix: u8,
    /// Full range instead of limited.
    pub full_range: bool,
}

impl VideoRange {
    /// From transfer characteristics; 14 and 15 (BT.2020) are standard range.
    pub fn from_transfer(transfer: u8) -> Self {
        match transfer {
            16 => VideoRange::Pq,
            18 => VideoRange::Hlg,
            _ => VideoRange::Sdr,
        }
    }
}

impl ColorInfo {
    /// Nothing said: code point 2 three times, limited range.
    pub const UNSPECIFIED: ColorInfo = ColorInfo {
        primaries: 2,
        transfer: 2,
        matrix: 2,
        full_range: false,
    };

    /// What HLS calls this transfer function.
    pub fn video_range(&self) -> VideoRange {
        VideoRange::from_transfer(self.transfer)
    }

    /// Whether any of the three code points says something.
    pub fn is_described(&self) -> bool {
        self.primaries != 2 || self.transfer != 2 || self.matrix != 2
    }
}

/// Why a bit stream or configuration box was refused. `what` names the structure, offsets count from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The structure ends before a field does.
    #[error("{what} at bit {offset_bits}: wants {want_bits} bits, has {have_bits}")]
    Truncated {
        /// Structure being read.
        what: &'static str,
        /// Where the field starts.
        offset_bits: u64,
        /// Size of the field.
        want_bits: u64,
        /// Bits that are left.
        have_bits: u64,
    },
    /// A field holds a value its specification forbids.
    #[error("{what} at bit {offset_bits}: {field} must not be {value}")]
    Invalid {
        /// Structure being read or written.
        what: &'static str,
        /// Field by its specification's name.
        field: &'static str,
        /// Where reading stood.
        offset_bits: u64,
        /// The refused value.
        value: u64,
    },
    /// Allowed by the specification, but not something the packager reads.
    #[error("{what}: {feature} {value} is not supported")]
    Unsupported {
        /// Structure being read or written.
        what: &'static str,
        /// Feature by its specification's name.
        feature: &'static str,
        /// Its value.
        value: u64,
    },
    /// Something needed to build a structure was not given.
    #[error("{what} needs {field}")]
    Missing {
        /// Structure being built.
        what: &'static str,
        /// What is missing.
        field: &'static str,
    },
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::expect_used)]
pub(crate) mod tests {
    use super::*;

    /// Bytes of a hexadecimal string.
    pub(crate) fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
            .collect()
    }

    #[test]
    fn kinds_and_ranges() {
        assert_eq!(Codec::Hevc.kind(), MediaKind::Video);
        assert_eq!(Codec::Ac4.kind(), MediaKind::Audio);
        assert_eq!(Codec::Stpp.kind(), MediaKind::Text);
        use VideoRange::{Hlg, Pq, Sdr};
        for (transfer, range) in [
            (1, Sdr),
            (2, Sdr),
            (14, Sdr),
            (15, Sdr),
            (16, Pq),
            (18, Hlg),
            (255, Sdr),
        ] {
            assert_eq!(VideoRange::from_transfer(transfer), range, "{transfer}");
        }
    }
}
