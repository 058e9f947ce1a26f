//! The ladder: which renditions are made of a source. Pure: facts and rules in, renditions out.
//!
//! A step's height is the shorter side of the picture as it is seen, so that an upright film has the same steps as a
//! wide one. Nothing is made larger than its source.

use packager::codec::{Codec, VideoRange};
use serde::{Deserialize, Serialize};

use crate::source::{Refused, VideoSource};

/// Steps of one ladder.
const STEP_COUNT_MAX: usize = 32;
/// The longest side that the codings here are used with.
const SIDE_MAX: u32 = 8_192;
/// The shortest side that every encoder takes.
const SIDE_MIN: u32 = 16;
/// The lowest rate that a rendition gets, however small: below it headers are most of the stream.
const BITRATE_KBPS_MIN: u32 = 80;
/// A step less than this far below the source's own height is replaced by it, in percent.
const STEP_APART_PERCENT_MIN: u32 = 6;

/// Coding of a rendition's pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoCodec {
    /// ITU-T H.264, eight bits.
    #[default]
    Avc,
    /// ITU-T H.265; ten bits where the source has them.
    Hevc,
    /// AOMedia AV1; ten bits where the source has them.
    Av1,
}

impl VideoCodec {
    /// Every coding there is.
    pub const ALL: [VideoCodec; 3] = [VideoCodec::Avc, VideoCodec::Hevc, VideoCodec::Av1];

    /// What the packager calls it.
    pub fn codec(self) -> Codec {
        match self {
            VideoCodec::Avc => Codec::Avc,
            VideoCodec::Hevc => Codec::Hevc,
            VideoCodec::Av1 => Codec::Av1,
        }
    }

    /// Quality that is aimed at below the rate cap, in the encoder's own measure.
    fn quality(self) -> u32 {
        match self {
            VideoCodec::Avc => 21,
            VideoCodec::Hevc => 23,
            VideoCodec::Av1 => 30,
        }
    }
}

/// How much work an encoder puts into a bit, in the terms of x264.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// For tests.
    Ultrafast,
    /// For haste.
    Superfast,
    /// For haste.
    Veryfast,
    /// Between `veryfast` and `fast`.
    Faster,
    /// The usual one up to 1080 lines.
    #[default]
    Fast,
    /// Between `fast` and `slow`.
    Medium,
    /// For pictures so large that bits cost more than work.
    Slow,
    /// For patience.
    Slower,
    /// For patience.
    Veryslow,
}

impl Preset {
    /// The name that x264 and x265 have for it.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Ultrafast => "ultrafast",
            Preset::Superfast => "superfast",
            Preset::Veryfast => "veryfast",
            Preset::Faster => "faster",
            Preset::Fast => "fast",
            Preset::Medium => "medium",
            Preset::Slow => "slow",
            Preset::Slower => "slower",
            Preset::Veryslow => "veryslow",
        }
    }
}

/// One step of a ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Shorter side of the picture.
    pub height: u32,
    /// The rate it never exceeds for long, in 1000 bits a second.
    pub bitrate_kbps: u32,
    /// How much work goes into it.
    #[serde(default)]
    pub preset: Preset,
    /// Coding; absent: AVC, and HEVC for HDR sources.
    #[serde(default)]
    pub codec: Option<VideoCodec>,
    /// Quality aimed at below the cap (CRF); absent: the coding's usual one.
    #[serde(default)]
    pub quality: Option<u32>,
}

/// The rules that renditions are chosen by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ladder {
    /// The steps, in any order.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
    /// From one key frame to the next, in milliseconds.
    #[serde(default = "gop_default")]
    pub gop_duration_ms: u32,
    /// Whether a source whose height lies between two steps gets a rendition of its own height.
    #[serde(default = "yes")]
    pub own_height: bool,
    /// Whether a rendition that the source already is gets the source's samples.
    #[serde(default = "yes")]
    pub pass_through: bool,
}

fn gop_default() -> u32 {
    2_000
}

fn yes() -> bool {
    true
}

impl Default for Ladder {
    fn default() -> Ladder {
        let step = |height, bitrate_kbps, preset| Step {
            height,
            bitrate_kbps,
            preset,
            codec: None,
            quality: None,
        };
        Ladder {
            steps: vec![
                step(4320, 40_000, Preset::Slow),
                step(2160, 18_000, Preset::Slow),
                step(1080, 5_000, Preset::Fast),
                step(720, 2_500, Preset::Fast),
                step(480, 1_200, Preset::Fast),
                step(360, 600, Preset::Fast),
            ],
            gop_duration_ms: gop_default(),
            own_height: true,
            pass_through: true,
        }
    }
}

/// A wanted encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendition {
    /// Name for people: `1080p AVC`.
    pub name: String,
    /// Width in square samples, even.
    pub width: u32,
    /// Height in square samples, even.
    pub height: u32,
    /// Coding.
    pub codec: VideoCodec,
    /// Bits of a sample, 8 or 10.
    pub bit_depth: u32,
    /// Quality aimed at below the cap (CRF).
    pub quality: u32,
    /// The cap, in 1000 bits a second.
    pub bitrate_kbps: u32,
    /// What a decoder's buffer holds, in milliseconds at the cap.
    pub buffer_ms: u32,
    /// How much work goes into it.
    pub preset: Preset,
    /// An HDR source is shown as SDR.
    #[serde(default)]
    pub maps_tones: bool,
}

/// What became of a ladder: what is made, and what is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What is made, largest first.
    pub renditions: Vec<Rendition>,
    /// What is not, and why.
    pub refused: Vec<Refused>,
}

/// Why nothing can be made by a ladder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LadderError {
    /// It has no step, or too many.
    #[error("a ladder has 1 to {STEP_COUNT_MAX} steps, not {0}")]
    StepCount(usize),
    /// A step asks for what can not be.
    #[error("step of {height} lines: {what}")]
    Step {
        /// Its height.
        height: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// Key frames too near or too far.
    #[error("gop_duration_ms {0} is outside 500 to 10000")]
    GopDuration(u32),
    /// The source's picture has no size that can be coded.
    #[error("pictures of {width}x{height} can not be coded")]
    Size {
        /// Width as seen.
        width: u32,
        /// Height as seen.
        height: u32,
    },
    /// Every step was refused.
    #[error("no rendition can be made: {}", reasons(.0))]
    Nothing(Vec<Refused>),
}

fn reasons(refused: &[Refused]) -> String {
    let list: Vec<String> = refused.iter().map(|row| format!("{}: {}", row.what, row.why)).collect();
    list.join("; ")
}

/// What a decoder's buffer holds, in milliseconds: with it a segment of 4 s stays below 1.25 times the cap.
const BUFFER_MS: u32 = 1_000;

impl Ladder {
    /// Checks what people may have written.
    pub fn check(&self) -> Result<(), LadderError> {
        if !(1..=STEP_COUNT_MAX).contains(&self.steps.len()) {
            return Err(LadderError::StepCount(self.steps.len()));
        }
        if !(500..=10_000).contains(&self.gop_duration_ms) {
            return Err(LadderError::GopDuration(self.gop_duration_ms));
        }
        for step in &self.steps {
            let wrong = |what| LadderError::Step {
                height: step.height,
                what,
            };
            if !(SIDE_MIN..=SIDE_MAX).contains(&step.height) {
                return Err(wrong("height is outside 16 to 8192"));
            }
            if !(BITRATE_KBPS_MIN..=400_000).contains(&step.bitrate_kbps) {
                return Err(wrong("bitrate_kbps is outside 80 to 400000"));
            }
            if step.quality.is_some_and(|quality| !(1..=63).contains(&quality)) {
                return Err(wrong("quality is outside 1 to 63"));
            }
        }
        Ok(())
    }

    /// The renditions of `source`.
    pub fn choose(&self, source: &VideoSource) -> Result<Choice, LadderError> {
        self.check()?;
        let (width, height) = source.display_size();
        let picture = Picture::of(width, height).ok_or(LadderError::Size { width, height })?;
        let mut steps = self.steps.clone();
        steps.sort_by_key(|step| std::cmp::Reverse((step.height, step.bitrate_kbps)));
        let mut refused = Vec::new();
        let mut chosen: Vec<Step> = Vec::new();
        for step in &steps {
            match step.height <= picture.lines {
                true => chosen.push(step.clone()),
                false => refused.push(Refused {
                    what: format!("{}p", step.height),
                    why: format!("the source has {} lines", picture.lines),
                }),
            }
        }
        if let Some(own) = self.own_step(&steps, picture.lines) {
            chosen.retain(|step| {
                let near =
                    u64::from(step.height) * 100 > u64::from(picture.lines) * u64::from(100 - STEP_APART_PERCENT_MIN);
                if near {
                    refused.push(Refused {
                        what: format!("{}p", step.height),
                        why: format!("the source's own {} lines stand for it", picture.lines),
                    });
                }
                !near
            });
            chosen.insert(0, own);
        }
        let mut renditions: Vec<Rendition> = Vec::with_capacity(chosen.len());
        for step in chosen {
            match rendition(&step, source, &picture) {
                Ok(rendition) => renditions.push(rendition),
                Err(row) => refused.push(row),
            }
        }
        match renditions.is_empty() {
            true => Err(LadderError::Nothing(refused)),
            false => Ok(Choice { renditions, refused }),
        }
    }

    /// A step of the source's own height, where it has none and should have one. `steps` by falling height.
    fn own_step(&self, steps: &[Step], lines: u32) -> Option<Step> {
        let above = steps.iter().rev().find(|step| step.height >= lines);
        let below = steps.iter().find(|step| step.height <= lines);
        match (above, below) {
            (Some(above), Some(below)) if above.height != lines && below.height != lines => {
                self.own_height.then(|| Step {
                    height: lines,
                    bitrate_kbps: between(below, above, lines),
                    ..above.clone()
                })
            }
            // Smaller than every step: it is all there is.
            (Some(lowest), None) => {
                let area = |height: u32| u64::from(height) * u64::from(height);
                let rate = u64::from(lowest.bitrate_kbps) * area(lines) / area(lowest.height).max(1);
                Some(Step {
                    height: lines,
                    bitrate_kbps: (rate as u32).clamp(BITRATE_KBPS_MIN, lowest.bitrate_kbps.max(BITRATE_KBPS_MIN)),
                    ..lowest.clone()
                })
            }
            _ => None,
        }
    }
}

/// The rate for `lines` between two steps: it grows with the area.
fn between(below: &Step, above: &Step, lines: u32) -> u32 {
    let area = |height: u32| i64::from(height) * i64::from(height);
    let span = (area(above.height) - area(below.height)).max(1);
    let more =
        (i64::from(above.bitrate_kbps) - i64::from(below.bitrate_kbps)) * (area(lines) - area(below.height)) / span;
    u32::try_from(i64::from(below.bitrate_kbps) + more).unwrap_or(below.bitrate_kbps)
}

/// A picture as it is seen.
struct Picture {
    width: u32,
    height: u32,
    /// The shorter side, made even.
    lines: u32,
}

impl Picture {
    fn of(width: u32, height: u32) -> Option<Picture> {
        let lines = width.min(height) & !1;
        (lines >= SIDE_MIN && width.max(height) <= 1 << 16).then_some(Picture { width, height, lines })
    }

    /// Scaled to `lines`, both sides even and inside what can be coded.
    fn scaled(&self, lines: u32) -> Option<(u32, u32)> {
        let (short, long) = (self.width.min(self.height), self.width.max(self.height));
        let scaled = even(u64::from(long) * u64::from(lines) * 2, u64::from(short));
        let long = u32::try_from(scaled).ok().filter(|side| *side <= SIDE_MAX)?;
        Some(match self.width >= self.height {
            true => (long.max(lines), lines),
            false => (lines, long.max(lines)),
        })
    }
}

/// Half of `doubled / over`, to the nearest even number.
fn even(doubled: u64, over: u64) -> u64 {
    let over = over.max(1);
    (doubled + over * 2) / (over * 4) * 2
}

fn rendition(step: &Step, source: &VideoSource, picture: &Picture) -> Result<Rendition, Refused> {
    let is_hdr = source.video_range != VideoRange::Sdr;
    let codec = step.codec.unwrap_or(match is_hdr {
        true => VideoCodec::Hevc,
        false => VideoCodec::Avc,
    });
    let lines = step.height & !1;
    let name = format!("{lines}p {}", codec.codec().name());
    let refuse = |why: String| Refused {
        what: name.clone(),
        why,
    };
    let (width, height) = picture
        .scaled(lines)
        .ok_or_else(|| refuse(format!("its longer side would exceed {SIDE_MAX}")))?;
    Ok(Rendition {
        width,
        height,
        codec,
        bit_depth: match codec {
            VideoCodec::Avc => 8,
            _ if source.bit_depth > 8 => 10,
            _ => 8,
        },
        quality: step.quality.unwrap_or(codec.quality()),
        bitrate_kbps: step.bitrate_kbps,
        buffer_ms: BUFFER_MS,
        preset: step.preset,
        // AVC has eight bits, which are too few for HDR.
        maps_tones: is_hdr && codec == VideoCodec::Avc,
        name,
    })
}

#[cfg(test)]
mod tests;
