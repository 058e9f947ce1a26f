//! One track: what it holds and how it is coded (`TrackDescription`), and where its samples are (`TrackIndex`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{Codec, ColorInfo, MediaKind, VideoRange};
use crate::index::TrackIndex;
use crate::time::Timescale;

/// A track of a source: description and index. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Track {
    /// What the samples are.
    pub description: TrackDescription,
    /// Where and when the samples are.
    pub index: TrackIndex,
}

/// Facts about a track, read from its sample entry and bit stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackDescription {
    /// Number of the track in its source file; 1 where the format has none.
    pub source_track_id: u32,
    /// Coding of the samples.
    pub codec: Codec,
    /// `CODECS` value (RFC 6381) of the samples as served in CMAF.
    pub rfc6381: String,
    /// Ticks per second.
    pub timescale: Timescale,
    /// BCP 47 tag, `und` when the source says nothing.
    pub language: String,
    /// Name for people, if the source has one.
    pub label: Option<String>,
    /// The complete sample entry box as our `stsd` carries it: clear, with one codec configuration box and, for video,
    /// `colr`, `pasp`, Dolby Vision and HDR boxes.
    #[serde(with = "hexadecimal")]
    pub sample_entry: Bytes,
    /// What is particular to the kind of media.
    pub media: MediaDescription,
}

impl TrackDescription {
    /// Video, audio or text.
    pub fn kind(&self) -> MediaKind {
        self.codec.kind()
    }

    /// The video part, for a video track.
    pub fn video(&self) -> Option<&VideoDescription> {
        match &self.media {
            MediaDescription::Video(video) => Some(video),
            _ => None,
        }
    }

    /// The audio part, for an audio track.
    pub fn audio(&self) -> Option<&AudioDescription> {
        match &self.media {
            MediaDescription::Audio(audio) => Some(audio),
            _ => None,
        }
    }
}

/// What is particular to the kind of media.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaDescription {
    /// Pictures.
    Video(VideoDescription),
    /// Sound.
    Audio(AudioDescription),
    /// Timed text in samples (`wvtt`, `stpp`).
    Text(TextDescription),
}

/// A video track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoDescription {
    /// Visible picture width in luma samples (after cropping).
    pub width: u32,
    /// Visible picture height in luma samples.
    pub height: u32,
    /// Sample aspect ratio, 1:1 when the stream says nothing.
    pub sample_aspect_ratio: (u32, u32),
    /// `tkhd` matrix, when it is not the identity (rotated or mirrored pictures).
    pub matrix: Option<[i32; 9]>,
    /// Colour description of the bit stream or `colr nclx`.
    pub color: Option<ColorInfo>,
    /// SDR, HLG or PQ.
    pub video_range: VideoRange,
    /// Bytes of a NAL unit length (1, 2 or 4); 0 for codecs without NAL units.
    pub nal_length_size: u8,
    /// Parameter sets as an Annex B byte stream with 4-byte start codes (AVC: SPS, PPS; HEVC: VPS, SPS, PPS), for
    /// MPEG-TS; empty for other codecs.
    #[serde(with = "hexadecimal")]
    pub parameter_sets: Bytes,
    /// `SUPPLEMENTAL-CODECS` / `scte214:supplementalCodecs` value (Dolby Vision 8.x, 10.x over a base layer).
    pub supplemental_codecs: Option<SupplementalCodecs>,
}

impl VideoDescription {
    /// Picture size with square samples: the width is stretched by the sample aspect ratio, rounded to nearest.
    pub fn display_size(&self) -> (u32, u32) {
        let (horizontal, vertical) = self.sample_aspect_ratio;
        if horizontal == 0 || vertical == 0 {
            return (self.width, self.height);
        }
        let doubled = u64::from(self.width) * u64::from(horizontal) * 2 / u64::from(vertical);
        (u32::try_from(doubled.div_ceil(2)).unwrap_or(self.width), self.height)
    }
}

/// A second, optional reading of the same samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplementalCodecs {
    /// RFC 6381 string, for example `dvh1.08.07`.
    pub rfc6381: String,
    /// Compatibility brand, for example `db4h`.
    pub brand: String,
}

/// An audio track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioDescription {
    /// Output sampling rate in Hz (after SBR where it is signalled).
    pub sample_rate: u32,
    /// Output channels (after parametric stereo where it is signalled), LFE included.
    pub channel_count: u16,
    /// Dolby Atmos objects in E-AC-3 (the 16 of `CHANNELS="16/JOC"`); `None` without JOC.
    pub joc_complexity: Option<u8>,
    /// What the decoder is set up with: AudioSpecificConfig for AAC, the payload of `dac3`, `dec3`, `dac4`, `dOps`,
    /// `dfLa` for the others, empty for MP3.
    #[serde(with = "hexadecimal")]
    pub decoder_config: Bytes,
}

/// A text track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextDescription {
    /// `vttC` header of a `wvtt` track, or the namespace of an `stpp` one.
    pub config: String,
}

/// Bytes as hexadecimal text, as stored descriptions have them.
mod hexadecimal {
    use bytes::Bytes;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0'));
        serializer.serialize_str(&bytes.iter().flat_map(digits).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |digit: u8| {
            char::from(digit)
                .to_digit(16)
                .ok_or_else(|| D::Error::custom("not hexadecimal"))
        };
        let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Ok((digit(*high)? << 4 | digit(*low)?) as u8),
            _ => Err(D::Error::custom("odd number of hexadecimal digits")),
        });
        pairs.collect()
    }
}
