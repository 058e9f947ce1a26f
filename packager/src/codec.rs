//! What a coded bit stream says of itself: parameter sets, headers, RFC 6381 strings.

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
}

impl Codec {
    /// Video, audio or text.
    pub fn kind(self) -> MediaKind {
        match self {
            Codec::Avc | Codec::Hevc | Codec::Av1 | Codec::Vp9 | Codec::Vp8 => MediaKind::Video,
            Codec::Wvtt | Codec::Stpp => MediaKind::Text,
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
        }
    }
}

/// Dynamic range of a video, the value of HLS `VIDEO-RANGE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VideoRange {
    /// Standard.
    Sdr,
    /// Hybrid log-gamma (transfer characteristics 18).
    Hlg,
    /// Perceptual quantiser, SMPTE ST 2084 (transfer characteristics 16).
    Pq,
}

/// Colour description with the code points of ITU-T H.273.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl ColorInfo {
    /// What HLS calls this transfer function.
    pub fn video_range(&self) -> VideoRange {
        match self.transfer {
            16 => VideoRange::Pq,
            18 => VideoRange::Hlg,
            _ => VideoRange::Sdr,
        }
    }
}
