//! Encoders: which element codes a rendition, and with what properties. Pure, over what a [`Registry`] says.
//!
//! Hardware is asked first, the processor last. An element that is installed but does not open (no driver, no device, all
//! sessions taken) is passed over with its reason.

use serde::{Deserialize, Serialize};

use crate::graph::Element;
use crate::ladder::{Preset, Rendition, VideoCodec};

/// What does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// NVIDIA's encoder.
    Nvenc,
    /// Intel's and AMD's, by VA-API.
    Va,
    /// Intel's, by its own library.
    Qsv,
    /// What small boards have.
    V4l2,
    /// The processor.
    Cpu,
}

impl Device {
    /// Every device there is, the fastest first.
    pub const ALL: [Device; 5] = [Device::Nvenc, Device::Va, Device::Qsv, Device::V4l2, Device::Cpu];

    /// Name for people and configurations.
    pub fn name(self) -> &'static str {
        match self {
            Device::Nvenc => "nvenc",
            Device::Va => "va",
            Device::Qsv => "qsv",
            Device::V4l2 => "v4l2",
            Device::Cpu => "cpu",
        }
    }
}

/// An element that encodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoder {
    /// What it writes.
    pub codec: VideoCodec,
    /// What does the work.
    pub device: Device,
    /// Name of its factory.
    pub factory: &'static str,
    /// Takes ten bits.
    pub ten_bits: bool,
}

const fn encoder(codec: VideoCodec, device: Device, factory: &'static str, ten_bits: bool) -> Encoder {
    Encoder {
        codec,
        device,
        factory,
        ten_bits,
    }
}

/// Every encoder known here; of one coding, those that come first are taken first.
pub const ENCODERS: [Encoder; 16] = [
    encoder(VideoCodec::Avc, Device::Nvenc, "nvh264enc", false),
    encoder(VideoCodec::Avc, Device::Va, "vah264enc", false),
    encoder(VideoCodec::Avc, Device::Va, "vaapih264enc", false),
    encoder(VideoCodec::Avc, Device::Qsv, "qsvh264enc", false),
    encoder(VideoCodec::Avc, Device::V4l2, "v4l2h264enc", false),
    encoder(VideoCodec::Avc, Device::Cpu, "x264enc", false),
    encoder(VideoCodec::Hevc, Device::Nvenc, "nvh265enc", true),
    encoder(VideoCodec::Hevc, Device::Va, "vah265enc", true),
    encoder(VideoCodec::Hevc, Device::Va, "vaapih265enc", true),
    encoder(VideoCodec::Hevc, Device::Qsv, "qsvh265enc", true),
    encoder(VideoCodec::Hevc, Device::V4l2, "v4l2h265enc", false),
    encoder(VideoCodec::Hevc, Device::Cpu, "x265enc", true),
    encoder(VideoCodec::Av1, Device::Va, "vaav1enc", true),
    encoder(VideoCodec::Av1, Device::Qsv, "qsvav1enc", true),
    encoder(VideoCodec::Av1, Device::Cpu, "svtav1enc", true),
    // Takes more bits from GStreamer 1.26 on, not before.
    encoder(VideoCodec::Av1, Device::Cpu, "av1enc", false),
];

/// The encoder with this factory.
pub fn by_factory(factory: &str) -> Option<Encoder> {
    ENCODERS.into_iter().find(|encoder| encoder.factory == factory)
}

/// What a machine offers.
pub trait Registry {
    /// Whether there is such an element.
    fn has(&self, factory: &str) -> bool;

    /// Opens the element once; else why it does not open.
    fn open(&self, factory: &str) -> Result<(), String>;
}

/// Which devices may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preference {
    /// The fastest that opens.
    #[default]
    Auto,
    /// The processor alone: the same bits everywhere.
    Cpu,
}

/// The encoder taken for a coding, and why not another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The one; `None` when none opens.
    pub encoder: Option<Encoder>,
    /// Those before it, and why they were passed over.
    pub passed_over: Vec<(Encoder, String)>,
}

impl Chosen {
    /// Why it was taken, in words.
    pub fn why(&self) -> String {
        let passed: Vec<String> = self
            .passed_over
            .iter()
            .map(|(encoder, why)| format!("{} {why}", encoder.factory))
            .collect();
        let passed = match passed.is_empty() {
            true => "first choice".to_owned(),
            false => passed.join("; "),
        };
        match self.encoder {
            Some(encoder) => format!("{} on {}: {passed}", encoder.factory, encoder.device.name()),
            None => format!("no encoder: {passed}"),
        }
    }
}

/// Takes the first encoder of `codec` that opens; with `bit_depth` above eight only those that take it.
pub fn choose(codec: VideoCodec, bit_depth: u32, preference: Preference, registry: &dyn Registry) -> Chosen {
    let mut passed_over = Vec::new();
    for encoder in ENCODERS.into_iter().filter(|encoder| encoder.codec == codec) {
        let why = match () {
            () if preference == Preference::Cpu && encoder.device != Device::Cpu => "is not asked for".to_owned(),
            () if !registry.has(encoder.factory) => "is not installed".to_owned(),
            () if bit_depth > 8 && !encoder.ten_bits => format!("takes no {bit_depth} bits"),
            () => match registry.open(encoder.factory) {
                Ok(()) => {
                    return Chosen {
                        encoder: Some(encoder),
                        passed_over,
                    };
                }
                Err(why) => format!("does not open: {why}"),
            },
        };
        passed_over.push((encoder, why));
    }
    Chosen {
        encoder: None,
        passed_over,
    }
}

/// Far beyond any film: key frames come where they are asked for, and nowhere else.
const FRAME_COUNT_NEVER: u32 = 1 << 30;

/// libaom's encoder, and what of it says how many pictures later the next key frame is at most (see `key_distance`).
pub(crate) const AOM_FACTORY: &str = "av1enc";
pub(crate) const AOM_KEY_DISTANCE: &str = "keyframe-max-dist";
pub(crate) const AOM_KEY_DISTANCE_MAX: i32 = 9_999;

/// The elements that make coded samples of scaled pictures: encoder, parser, what the packager wants to have.
///
/// Key frames are asked for from outside, at the same picture in every rendition. Scene cuts get pictures without
/// reference, which are no key frames, so that segments stay aligned.
pub fn chain(encoder: &Encoder, rendition: &Rendition, gop_frame_count: u32, hdr: Option<&HdrSignal>) -> Vec<Element> {
    let rate = rendition.bitrate_kbps;
    let buffer_kbit = u64::from(rate) * u64::from(rendition.buffer_ms) / 1_000;
    // Hardware aims at a rate; what is usual for films is two thirds of the cap.
    let average = rate * 2 / 3;
    let element = Element::new(encoder.factory);
    let element = match encoder.factory {
        "x264enc" => element
            .with("speed-preset", rendition.preset.name())
            .with("pass", "qual")
            .with("quantizer", rendition.quality)
            .with("bitrate", rate)
            .with("vbv-buf-capacity", rendition.buffer_ms)
            .with("key-int-max", FRAME_COUNT_NEVER)
            .with("aud", "false")
            .with("option-string", format!("min-keyint={}:open-gop=0", FRAME_COUNT_NEVER / 2)),
        "x265enc" => element.with("speed-preset", rendition.preset.name()).with("tune", "No tunning").with(
            "option-string",
            format!(
                "crf={}:vbv-maxrate={rate}:vbv-bufsize={buffer_kbit}:keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0\
                 :repeat-headers=0:info=0{}",
                rendition.quality,
                hdr.map(HdrSignal::x265).unwrap_or_default(),
                gop = gop_frame_count,
            ),
        ),
        "svtav1enc" => element
            .with("preset", svt_preset(rendition.preset))
            .with("target-bitrate", average)
            .with("max-bitrate", rate)
            .with("intra-period-length", gop_frame_count),
        "av1enc" => element
            .with("end-usage", "vbr")
            .with("target-bitrate", average)
            .with("buf-sz", rendition.buffer_ms)
            .with("cpu-used", aom_speed(rendition.preset))
            .with("keyframe-mode", "disabled")
            .with(AOM_KEY_DISTANCE, AOM_KEY_DISTANCE_MAX)
            // What is said at one picture holds for the next one then.
            .with("lag-in-frames", 0)
            .with("threads", 0)
            .with("row-mt", "true"),
        "nvh264enc" | "nvh265enc" => element
            .with("preset", "hq")
            .with("rc-mode", "vbr-hq")
            .with("bitrate", average)
            .with("max-bitrate", rate)
            .with("vbv-buffer-size", buffer_kbit)
            .with("gop-size", -1),
        "vah264enc" | "vah265enc" | "vaav1enc" => element
            .with("rate-control", "vbr")
            .with("bitrate", rate)
            .with("target-percentage", 66)
            .with("cpb-size", buffer_kbit)
            .with("key-int-max", 1_024),
        "vaapih264enc" | "vaapih265enc" => element
            .with("rate-control", "vbr")
            .with("bitrate", rate)
            .with("target-percentage", 66)
            .with("cpb-length", rendition.buffer_ms)
            .with("keyframe-period", 0),
        "qsvh264enc" | "qsvh265enc" | "qsvav1enc" => element
            .with("rate-control", "vbr")
            .with("bitrate", average)
            .with("max-bitrate", rate)
            .with("gop-size", 0),
        // v4l2h264enc, v4l2h265enc: the driver's names for the same.
        _ => element.with(
            "extra-controls",
            format!(
                "controls,video_bitrate_mode=0,video_bitrate={},video_bitrate_peak={}",
                u64::from(average) * 1_000,
                u64::from(rate) * 1_000
            ),
        ),
    };
    let (parser, caps) = match encoder.codec {
        VideoCodec::Avc => ("h264parse", "video/x-h264,stream-format=avc,alignment=au"),
        VideoCodec::Hevc => ("h265parse", "video/x-h265,stream-format=hvc1,alignment=au"),
        VideoCodec::Av1 => ("av1parse", "video/x-av1,stream-format=obu-stream,alignment=tu"),
    };
    match encoder.factory {
        // Writes just that by itself; a parser would only look at every byte once more.
        "x264enc" => vec![element, Element::caps(caps)],
        _ => vec![element, Element::new(parser), Element::caps(caps)],
    }
}

fn svt_preset(preset: Preset) -> u32 {
    match preset {
        Preset::Ultrafast | Preset::Superfast => 12,
        Preset::Veryfast | Preset::Faster => 10,
        Preset::Fast => 8,
        Preset::Medium => 7,
        Preset::Slow => 5,
        Preset::Slower | Preset::Veryslow => 4,
    }
}

fn aom_speed(preset: Preset) -> u32 {
    match preset {
        Preset::Ultrafast | Preset::Superfast | Preset::Veryfast => 8,
        Preset::Faster => 7,
        Preset::Fast => 6,
        Preset::Medium => 5,
        Preset::Slow => 4,
        Preset::Slower | Preset::Veryslow => 3,
    }
}

/// What an HDR stream says of the screen it was graded on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HdrSignal {
    /// Payload of `mdcv`.
    pub mastering_display: Option<[u8; 24]>,
    /// Payload of `clli`.
    pub content_light_level: Option<[u8; 4]>,
}

impl HdrSignal {
    /// From what caps say: `x:y` of red, green, blue and white, greatest and least luminance; greatest and average light.
    pub fn from_caps(mastering_display: Option<&str>, content_light_level: Option<&str>) -> HdrSignal {
        HdrSignal {
            mastering_display: mastering_display.and_then(mdcv),
            content_light_level: content_light_level.and_then(clli),
        }
    }

    fn x265(&self) -> String {
        let mut options = String::new();
        if let Some(mdcv) = &self.mastering_display {
            let short = |at: usize| u16::from_be_bytes([mdcv[at], mdcv[at + 1]]);
            let long = |at: usize| u32::from_be_bytes([mdcv[at], mdcv[at + 1], mdcv[at + 2], mdcv[at + 3]]);
            options.push_str(&format!(
                ":master-display=G({},{})B({},{})R({},{})WP({},{})L({},{})",
                short(0),
                short(2),
                short(4),
                short(6),
                short(8),
                short(10),
                short(12),
                short(14),
                long(16),
                long(20)
            ));
        }
        if let Some([a, b, c, d]) = self.content_light_level {
            options.push_str(&format!(
                ":max-cll={},{}",
                u16::from_be_bytes([a, b]),
                u16::from_be_bytes([c, d])
            ));
        }
        options
    }
}

fn numbers(text: &str) -> Option<Vec<u32>> {
    text.split(':').map(|number| number.trim().parse().ok()).collect()
}

/// ISO/IEC 14496-12 12.1.6: green, blue, red, white.
fn mdcv(text: &str) -> Option<[u8; 24]> {
    let numbers = numbers(text)?;
    let [rx, ry, gx, gy, bx, by, wx, wy, max, min] = numbers[..] else {
        return None;
    };
    let mut payload = Vec::with_capacity(24);
    for number in [gx, gy, bx, by, rx, ry, wx, wy] {
        payload.extend_from_slice(&u16::try_from(number).ok()?.to_be_bytes());
    }
    payload.extend_from_slice(&max.to_be_bytes());
    payload.extend_from_slice(&min.to_be_bytes());
    payload.try_into().ok()
}

fn clli(text: &str) -> Option<[u8; 4]> {
    let numbers = numbers(text)?;
    let [most, average] = numbers[..] else { return None };
    let [a, b] = u16::try_from(most).ok()?.to_be_bytes();
    let [c, d] = u16::try_from(average).ok()?.to_be_bytes();
    Some([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::describe;

    /// A machine with these elements, of which some do not open.
    struct Fake(&'static [(&'static str, Result<(), &'static str>)]);

    impl Registry for Fake {
        fn has(&self, factory: &str) -> bool {
            self.0.iter().any(|(name, _)| *name == factory)
        }

        fn open(&self, factory: &str) -> Result<(), String> {
            let row = self.0.iter().find(|(name, _)| *name == factory).unwrap();
            row.1.map_err(str::to_owned)
        }
    }

    #[test]
    fn the_fastest_that_opens_is_taken() {
        const BARE: Fake = Fake(&[("x264enc", Ok(())), ("x265enc", Ok(())), ("av1enc", Ok(()))]);
        const NVIDIA: Fake = Fake(&[("nvh264enc", Ok(())), ("nvh265enc", Ok(())), ("x264enc", Ok(()))]);
        const BUSY: Fake = Fake(&[
            ("nvh264enc", Err("no session left")),
            ("vah264enc", Ok(())),
            ("x264enc", Ok(())),
        ]);
        const BOARD: Fake = Fake(&[("v4l2h265enc", Ok(())), ("x265enc", Ok(())), ("v4l2h264enc", Ok(()))]);
        let check = |codec, bit_depth, preference, registry: &Fake, expected: Option<&str>, why: &str| {
            let chosen = choose(codec, bit_depth, preference, registry);
            assert_eq!(chosen.encoder.map(|encoder| encoder.factory), expected);
            assert!(chosen.why().contains(why), "{}", chosen.why());
        };
        use Preference::{Auto, Cpu};
        use VideoCodec::{Av1, Avc, Hevc};
        check(Avc, 8, Auto, &BARE, Some("x264enc"), "nvh264enc is not installed");
        check(Av1, 8, Auto, &BARE, Some("av1enc"), "svtav1enc is not installed");
        check(
            Avc,
            8,
            Auto,
            &NVIDIA,
            Some("nvh264enc"),
            "nvh264enc on nvenc: first choice",
        );
        check(Avc, 8, Cpu, &NVIDIA, Some("x264enc"), "nvh264enc is not asked for");
        check(
            Avc,
            8,
            Auto,
            &BUSY,
            Some("vah264enc"),
            "nvh264enc does not open: no session left",
        );
        check(Hevc, 8, Auto, &BOARD, Some("v4l2h265enc"), "");
        check(Hevc, 10, Auto, &BOARD, Some("x265enc"), "v4l2h265enc takes no 10 bits");
        check(Av1, 8, Auto, &NVIDIA, None, "no encoder: vaav1enc is not installed");
    }

    fn rendition(codec: VideoCodec) -> Rendition {
        Rendition {
            name: "1080p".into(),
            width: 1920,
            height: 1080,
            codec,
            bit_depth: 8,
            quality: 21,
            bitrate_kbps: 5_000,
            buffer_ms: 1_000,
            preset: Preset::Fast,
            maps_tones: false,
        }
    }

    #[test]
    fn every_encoder_is_capped_and_leaves_key_frames_to_others() {
        for encoder in ENCODERS {
            let elements = chain(&encoder, &rendition(encoder.codec), 48, None);
            let text = describe(&elements);
            assert!(text.starts_with(encoder.factory), "{text}");
            let caps = elements.last().unwrap();
            assert_eq!(caps.factory, "capsfilter");
            // libaom has no cap in GStreamer 1.22; what it makes is measured like all else.
            assert!(text.contains("5000") || encoder.factory == "av1enc", "{text}");
            let names: Vec<_> = elements[0].properties.iter().map(|(name, _)| name).collect();
            assert!(
                names.iter().enumerate().all(|(at, name)| !names[..at].contains(name)),
                "{text}"
            );
        }
        let x264 = by_factory("x264enc").unwrap();
        assert_eq!(
            describe(&chain(&x264, &rendition(VideoCodec::Avc), 48, None)),
            "x264enc speed-preset=\"fast\" pass=\"qual\" quantizer=\"21\" bitrate=\"5000\" vbv-buf-capacity=\"1000\" \
             key-int-max=\"1073741824\" aud=\"false\" option-string=\"min-keyint=536870912:open-gop=0\" ! capsfilter \
             caps=\"video/x-h264,stream-format=avc,alignment=au\""
        );
    }

    #[test]
    fn hdr_signals_are_reordered() {
        let hdr = HdrSignal::from_caps(
            Some("34000:16000:13250:34500:7500:3000:15635:16450:10000000:50"),
            Some("1000:400"),
        );
        assert_eq!(
            hdr.x265(),
            ":master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
        );
        for wrong in ["", "1:2", "a:b:c:d:e:f:g:h:i:j", "99999:1:1:1:1:1:1:1:1:1"] {
            assert_eq!(HdrSignal::from_caps(Some(wrong), Some("1:2:3")).x265(), "", "{wrong}");
        }
    }
}
