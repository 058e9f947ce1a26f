//! What a source holds, as far as the transcoder needs to know: plain facts, found by `probe`.

use packager::codec::VideoRange;
use serde::{Deserialize, Serialize};

/// A source and its streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// Caps of the container, for people: `video/quicktime`.
    pub container: String,
    /// What the container says it lasts; `None` where it says nothing.
    pub duration_ms: Option<u64>,
    /// Whether it can be entered at a time exactly, so that chunks of it can be made apart.
    pub seekable: bool,
    /// The picture that is transcoded.
    pub video: Option<VideoSource>,
    /// Sound, in the order of the source.
    pub audio: Vec<AudioSource>,
    /// What is left out, and why.
    pub refused: Vec<Refused>,
}

impl SourceInfo {
    /// Streams that can be transcoded.
    pub fn stream_count(&self) -> usize {
        usize::from(self.video.is_some()) + self.audio.len()
    }
}

/// Something that is left out, and why; for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What it is.
    pub what: String,
    /// The reason.
    pub why: String,
}

/// A video stream, as its decoder gives it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoSource {
    /// GStreamer's name of the stream, the same each time the source is opened.
    pub stream_id: String,
    /// Coding, for people: `video/x-h264`.
    pub coding: String,
    /// Coded width in samples.
    pub width: u32,
    /// Coded height in samples.
    pub height: u32,
    /// Sample aspect ratio.
    pub sample_aspect_ratio: (u32, u32),
    /// How pictures must be turned to stand upright.
    pub orientation: Orientation,
    /// Pictures a second, where the stream says so; a variable rate says nothing, or what it is on average.
    pub frame_rate: Option<(u32, u32)>,
    /// Some or all pictures are two fields.
    pub interlaced: bool,
    /// Bits of a sample: 8, 10, 12.
    pub bit_depth: u32,
    /// SDR, HLG or PQ.
    pub video_range: VideoRange,
    /// GStreamer's colorimetry: `bt709`, `bt2100-pq`, `2:4:5:4`.
    pub colorimetry: String,
    /// `mastering-display-info` of the caps.
    pub mastering_display: Option<String>,
    /// `content-light-level` of the caps.
    pub content_light_level: Option<String>,
}

/// A sound stream, as its decoder gives it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioSource {
    /// GStreamer's name of the stream, the same each time the source is opened.
    pub stream_id: String,
    /// Coding, for people: `audio/mpeg`.
    pub coding: String,
    /// Channels, LFE included.
    pub channels: u32,
    /// Samples a second.
    pub sample_rate: u32,
    /// What the source says of its language, ISO 639 or BCP 47.
    pub language: Option<String>,
    /// Name for people.
    pub title: Option<String>,
}

/// How a decoded picture must be turned and mirrored to stand upright: the values of GStreamer's `image-orientation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Orientation {
    /// It stands upright.
    #[default]
    Rotate0,
    /// Turned clockwise by 90°.
    Rotate90,
    /// Turned by 180°.
    Rotate180,
    /// Turned counterclockwise by 90°.
    Rotate270,
    /// Mirrored left to right.
    FlipRotate0,
    /// Mirrored left to right, then turned clockwise by 90°.
    FlipRotate90,
    /// Mirrored top to bottom.
    FlipRotate180,
    /// Mirrored left to right, then turned counterclockwise by 90°.
    FlipRotate270,
}

impl Orientation {
    /// From the value of an `image-orientation` tag.
    pub fn from_tag(tag: &str) -> Option<Orientation> {
        Some(match tag {
            "rotate-0" => Orientation::Rotate0,
            "rotate-90" => Orientation::Rotate90,
            "rotate-180" => Orientation::Rotate180,
            "rotate-270" => Orientation::Rotate270,
            "flip-rotate-0" => Orientation::FlipRotate0,
            "flip-rotate-90" => Orientation::FlipRotate90,
            "flip-rotate-180" => Orientation::FlipRotate180,
            "flip-rotate-270" => Orientation::FlipRotate270,
            _ => return None,
        })
    }

    /// From the matrix of a `tkhd` (ISO/IEC 14496-12:2022 6.2.2); `None` for what is not turned, or not by right angles.
    pub fn from_matrix(matrix: &[i32; 9]) -> Option<Orientation> {
        let [a, b, _, c, d, ..] = matrix.map(i32::signum);
        Some(match (a, b, c, d) {
            (0, 1, -1, 0) => Orientation::Rotate90,
            (-1, 0, 0, -1) => Orientation::Rotate180,
            (0, -1, 1, 0) => Orientation::Rotate270,
            (-1, 0, 0, 1) => Orientation::FlipRotate0,
            (0, -1, -1, 0) => Orientation::FlipRotate90,
            (1, 0, 0, -1) => Orientation::FlipRotate180,
            (0, 1, 1, 0) => Orientation::FlipRotate270,
            _ => return None,
        })
    }

    /// `video-direction` of `videoflip`; `None` for what stands upright.
    pub fn direction(self) -> Option<&'static str> {
        Some(match self {
            Orientation::Rotate0 => return None,
            Orientation::Rotate90 => "90r",
            Orientation::Rotate180 => "180",
            Orientation::Rotate270 => "90l",
            Orientation::FlipRotate0 => "horiz",
            Orientation::FlipRotate90 => "ur-ll",
            Orientation::FlipRotate180 => "vert",
            Orientation::FlipRotate270 => "ul-lr",
        })
    }

    /// Whether width and height change places.
    pub fn swaps_sides(self) -> bool {
        matches!(
            self,
            Orientation::Rotate90 | Orientation::Rotate270 | Orientation::FlipRotate90 | Orientation::FlipRotate270
        )
    }
}

impl VideoSource {
    /// Size in which pictures are seen: upright, with square samples. The side that has fewer samples than it should is
    /// stretched, so that nothing that was coded is lost.
    pub fn display_size(&self) -> (u32, u32) {
        let (width, height) = (u128::from(self.width), u128::from(self.height));
        let (horizontal, vertical) = self.sample_aspect_ratio;
        let (horizontal, vertical) = match (horizontal, vertical) {
            (0, _) | (_, 0) => (1, 1),
            (horizontal, vertical) => (u128::from(horizontal), u128::from(vertical)),
        };
        let stretched = |side: u128, by: u128, over: u128| (side * by * 2).div_ceil(over).div_ceil(2).max(1);
        let (width, height) = match horizontal >= vertical {
            true => (stretched(width, horizontal, vertical), height),
            false => (width, stretched(height, vertical, horizontal)),
        };
        let (width, height) = (narrow(width), narrow(height));
        match self.orientation.swaps_sides() {
            true => (height, width),
            false => (width, height),
        }
    }
}

fn narrow(side: u128) -> u32 {
    u32::try_from(side).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn video(width: u32, height: u32) -> VideoSource {
        VideoSource {
            stream_id: "1".into(),
            coding: "video/x-h264".into(),
            width,
            height,
            sample_aspect_ratio: (1, 1),
            orientation: Orientation::Rotate0,
            frame_rate: Some((25, 1)),
            interlaced: false,
            bit_depth: 8,
            video_range: VideoRange::Sdr,
            colorimetry: "bt709".into(),
            mastering_display: None,
            content_light_level: None,
        }
    }

    #[test]
    fn pictures_are_seen_upright_with_square_samples() {
        let check = |size: (u32, u32), sample_aspect_ratio, orientation, expected| {
            let source = VideoSource {
                sample_aspect_ratio,
                orientation,
                ..video(size.0, size.1)
            };
            assert_eq!(
                source.display_size(),
                expected,
                "{size:?} {sample_aspect_ratio:?} {orientation:?}"
            );
        };
        check((1920, 1080), (1, 1), Orientation::Rotate0, (1920, 1080));
        check((1440, 1080), (4, 3), Orientation::Rotate0, (1920, 1080));
        check((720, 576), (64, 45), Orientation::Rotate0, (1024, 576));
        check((720, 480), (8, 9), Orientation::Rotate0, (720, 540));
        check((1920, 1080), (1, 1), Orientation::Rotate90, (1080, 1920));
        check((1440, 1080), (4, 3), Orientation::FlipRotate270, (1080, 1920));
        check((1920, 1080), (1, 1), Orientation::FlipRotate180, (1920, 1080));
        check((64, 64), (0, 7), Orientation::Rotate0, (64, 64));
        check((u32::MAX, 2), (u32::MAX, 1), Orientation::Rotate0, (u32::MAX, 2));
    }

    #[test]
    fn every_tag_has_a_direction_of_its_own() {
        let tags = ["rotate-0", "rotate-90", "rotate-180", "rotate-270"];
        let all: Vec<_> = tags
            .iter()
            .flat_map(|tag| [(*tag).to_owned(), format!("flip-{tag}")])
            .map(|tag| Orientation::from_tag(&tag).unwrap().direction())
            .collect();
        for (at, direction) in all.iter().enumerate() {
            assert!(!all[..at].contains(direction), "{direction:?}");
        }
        assert_eq!(Orientation::from_tag("upside-down"), None);
        let matrices = [
            (0, 1, -1, 0),
            (-1, 0, 0, -1),
            (0, -1, 1, 0),
            (-1, 0, 0, 1),
            (0, -1, -1, 0),
            (1, 0, 0, -1),
            (0, 1, 1, 0),
        ];
        let turned = |(a, b, c, d): (i32, i32, i32, i32)| {
            Orientation::from_matrix(&[a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30])
        };
        let tags = [
            "rotate-90",
            "rotate-180",
            "rotate-270",
            "flip-rotate-0",
            "flip-rotate-90",
            "flip-rotate-180",
        ];
        for (matrix, tag) in matrices.iter().zip(tags.iter().chain(&["flip-rotate-270"])) {
            assert_eq!(turned(*matrix), Orientation::from_tag(tag), "{tag}");
        }
        assert_eq!(turned((1, 0, 0, 1)), None);
        assert_eq!(turned((1, 1, -1, 1)), None);
    }
}
