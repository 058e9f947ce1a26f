//! Brands of a CMAF header and of its segments: what a track claims to be, only where it is.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{BoxReader, FourCc};
use crate::codec::{Codec, ColorInfo};
use crate::track::{AudioDescription, MediaDescription, TrackDescription, VideoDescription};

/// Fixed fields of a visual sample entry before its boxes (ISO/IEC 14496-12:2022 12.1.3).
const VISUAL_SAMPLE_ENTRY_FIELDS_SIZE: usize = 78;

/// Pictures counted over time; what media profiles bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    /// Pictures.
    pub pictures: u64,
    /// Ticks of the track's timescale in which they are shown.
    pub ticks: u64,
}

impl FrameRate {
    /// At most 60 pictures a second, the fraction that time stamps in milliseconds add left out.
    fn is_at_most_60(self, ticks_per_second: u32) -> bool {
        let per_second = u128::from(self.pictures) * u128::from(ticks_per_second);
        per_second
            .checked_div(u128::from(self.ticks))
            .is_some_and(|rate| rate <= 60)
    }
}

/// Major brand first, then all compatible brands, the major one among them.
pub(super) struct Brands {
    pub major: [u8; 4],
    pub compatible: Vec<[u8; 4]>,
}

/// Brands of the header of `description`.
///
/// `cmf2` is claimed for audio and text alone: it wants version 1 in every `trun` of a video track (ISO/IEC
/// 23000-19:2024 7.7.3), and runs without negative offsets are written in version 0. A video track that keeps an edit
/// list (a trimmed start) claims no CMAF brand: 7.5.13 allows it none but the one to the earliest picture.
pub(super) fn of_header(description: &TrackDescription, media_time: u64, frame_rate: Option<FrameRate>) -> Brands {
    let is_trimmed_video = description.video().is_some() && media_time > 0;
    let mut compatible: Vec<[u8; 4]> = match (&description.media, is_trimmed_video) {
        (_, true) => vec![*b"iso6"],
        (MediaDescription::Video(_), false) => vec![*b"cmfc", *b"iso6"],
        (MediaDescription::Audio(_) | MediaDescription::Text(_), false) => vec![*b"cmf2", *b"cmfc", *b"iso6"],
    };
    let major = compatible.first().copied().unwrap_or(*b"iso6");
    compatible.extend(match (&description.media, is_trimmed_video) {
        (_, true) => None,
        (MediaDescription::Video(video), false) => frame_rate
            .filter(|rate| rate.is_at_most_60(description.timescale.get()))
            .and_then(|_| video_profile(description, video)),
        (MediaDescription::Audio(audio), false) => audio_profile(description.codec, audio),
        (MediaDescription::Text(_), false) => text_profile(description),
    });
    if description.codec == Codec::Av1 {
        compatible.push(*b"av01");
    }
    if let Some(supplemental) = description.video().and_then(|video| video.supplemental_codecs.as_ref())
        && let Ok(brand) = <[u8; 4]>::try_from(supplemental.brand.as_bytes())
    {
        compatible.push(brand);
    }
    Brands { major, compatible }
}

/// Table A.1 and B.1 of ISO/IEC 23000-19:2024, the first (narrowest) row that holds.
fn video_profile(description: &TrackDescription, video: &VideoDescription) -> Option<[u8; 4]> {
    let fits = |width, height| video.width <= width && video.height <= height;
    let color = Color::of(video.color);
    match description.codec {
        Codec::Avc => {
            let level = avc_high_level(&description.sample_entry)?;
            match () {
                () if level <= 31 && fits(864, 576) && color.is_sd() => Some(*b"cfsd"),
                () if level <= 40 && fits(1920, 1080) && color.is_bt709() => Some(*b"cfhd"),
                () if level <= 42 && fits(1920, 1080) && color.is_bt709() => Some(*b"chdf"),
                () => None,
            }
        }
        Codec::Hevc => {
            let (profile, level) = hevc_main_tier_level(&description.sample_entry)?;
            let is_hd = level <= 123 && fits(1920, 1080) && color.is_bt709();
            let is_uhd = |level_max| level <= level_max && fits(3840, 2160);
            match profile {
                HevcProfile::Main if is_hd => Some(*b"chhd"),
                HevcProfile::Main if is_uhd(150) && color.is_bt709() => Some(*b"cud8"),
                HevcProfile::Main10 if is_hd => Some(*b"chh1"),
                HevcProfile::Main10 if is_uhd(153) && color.is_hdr10() => Some(*b"chd1"),
                HevcProfile::Main10 if is_uhd(153) && color.is_hlg() => Some(*b"clg1"),
                HevcProfile::Main10 if is_uhd(153) && color.is_uhd10() => Some(*b"cud1"),
                HevcProfile::Main | HevcProfile::Main10 => None,
            }
        }
        _ => None,
    }
}

/// Colour as the media profiles name it; a stream that says nothing is BT.709.
#[derive(Clone, Copy)]
struct Color {
    primaries: u8,
    transfer: u8,
    matrix: u8,
}

impl Color {
    fn of(color: Option<ColorInfo>) -> Color {
        /// ITU-T H.273: the value is not specified.
        const UNSPECIFIED: u8 = 2;
        let or_bt709 = |value: u8| if value == UNSPECIFIED { 1 } else { value };
        match color {
            None => Color {
                primaries: 1,
                transfer: 1,
                matrix: 1,
            },
            Some(color) => Color {
                primaries: or_bt709(color.primaries),
                transfer: or_bt709(color.transfer),
                matrix: or_bt709(color.matrix),
            },
        }
    }

    fn is_bt709(self) -> bool {
        (self.primaries, self.transfer, self.matrix) == (1, 1, 1)
    }

    fn is_sd(self) -> bool {
        matches!(self.primaries, 1 | 5 | 6) && matches!(self.transfer, 1 | 6) && matches!(self.matrix, 1 | 5 | 6)
    }

    fn is_uhd10(self) -> bool {
        matches!(self.primaries, 1 | 9) && matches!(self.transfer, 1 | 14 | 15) && matches!(self.matrix, 1 | 9 | 10)
    }

    fn is_hdr10(self) -> bool {
        self.primaries == 9 && self.transfer == 16 && matches!(self.matrix, 9 | 10)
    }

    fn is_hlg(self) -> bool {
        self.primaries == 9 && self.transfer == 18 && self.matrix == 9
    }
}

/// `AVCLevelIndication` of a stream that a High profile decoder plays (Constrained Baseline, Main or High).
fn avc_high_level(sample_entry: &[u8]) -> Option<u8> {
    /// Constraint set 1: a Baseline stream that obeys Main as well.
    const CONSTRAINT_SET1: u8 = 0x40;
    let mut config = visual_config(sample_entry, b"avcC")?;
    config.skip(1).ok()?;
    let (profile, constraints, level) = (config.u8().ok()?, config.u8().ok()?, config.u8().ok()?);
    let is_high = matches!(profile, 77 | 100) || profile == 66 && constraints & CONSTRAINT_SET1 != 0;
    is_high.then_some(level)
}

#[derive(Clone, Copy)]
enum HevcProfile {
    Main,
    Main10,
}

/// Profile and `general_level_idc` of a Main tier stream.
fn hevc_main_tier_level(sample_entry: &[u8]) -> Option<(HevcProfile, u8)> {
    let mut config = visual_config(sample_entry, b"hvcC")?;
    config.skip(1).ok()?;
    let space_tier_profile = config.u8().ok()?;
    let compatibility = config.u32().ok()?;
    config.skip(6).ok()?;
    let level = config.u8().ok()?;
    // Profile space 0, tier 0.
    if space_tier_profile >> 5 != 0 {
        return None;
    }
    let conforms_to = |profile: u8| space_tier_profile & 0x1f == profile || compatibility >> (31 - profile) & 1 == 1;
    match () {
        () if conforms_to(1) => Some((HevcProfile::Main, level)),
        () if conforms_to(2) => Some((HevcProfile::Main10, level)),
        () => None,
    }
}

/// The codec configuration box of a visual sample entry.
pub fn visual_config<'a>(sample_entry: &'a [u8], fourcc: &[u8; 4]) -> Option<BoxReader<'a>> {
    let mut entry = BoxReader::new(FourCc(*b"stsd"), 0, 0, sample_entry).child().ok()??;
    entry.skip(VISUAL_SAMPLE_ENTRY_FIELDS_SIZE).ok()?;
    while let Ok(Some(child)) = entry.child() {
        if child.fourcc.0 == *fourcc {
            return Some(child);
        }
    }
    None
}

/// ISO/IEC 23000-19:2024 10.4 (`caac`), ETSI TS 102 366 (`ceac`).
fn audio_profile(codec: Codec, audio: &AudioDescription) -> Option<[u8; 4]> {
    match codec {
        Codec::Aac => {
            let object_type = audio.decoder_config.first()? >> 3;
            let is_core = matches!(object_type, 2 | 5 | 29)
                && matches!(audio.channel_count, 1 | 2)
                && (1..=48_000).contains(&audio.sample_rate);
            is_core.then_some(*b"caac")
        }
        Codec::Eac3 => Some(*b"ceac"),
        _ => None,
    }
}

/// ISO/IEC 23000-19:2024 11: WebVTT, and the IMSC profile that the track's `codecs` string names.
fn text_profile(description: &TrackDescription) -> Option<[u8; 4]> {
    match description.codec {
        Codec::Wvtt => Some(*b"cwvt"),
        Codec::Stpp => description.rfc6381.split(['.', '|', '+']).find_map(|part| match part {
            "im1t" => Some(*b"im1t"),
            "im1i" => Some(*b"im1i"),
            "im2t" => Some(*b"im2t"),
            "im2i" => Some(*b"im2i"),
            _ => None,
        }),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::isobmff::fixture;
    use crate::track::SupplementalCodecs;

    const AT_30: FrameRate = FrameRate {
        pictures: 30,
        ticks: 90_000,
    };
    const BT709: (u8, u8, u8) = (1, 1, 1);

    fn names(brands: &Brands) -> String {
        assert_eq!(brands.compatible.first(), Some(&brands.major));
        let names: Vec<_> = brands
            .compatible
            .iter()
            .map(|brand| FourCc(*brand).to_string())
            .collect();
        names.join(" ")
    }

    fn with_video(codec: Codec, sample_entry: bytes::Bytes, size: (u32, u32), color: (u8, u8, u8)) -> TrackDescription {
        TrackDescription {
            codec,
            sample_entry,
            media: MediaDescription::Video(VideoDescription {
                width: size.0,
                height: size.1,
                color: Some(ColorInfo {
                    primaries: color.0,
                    transfer: color.1,
                    matrix: color.2,
                    full_range: false,
                }),
                ..fixture::video_media()
            }),
            ..fixture::video()
        }
    }

    #[test]
    fn avc_profiles() {
        let check = |profile: [u8; 3], size, color, expected: &str| {
            let config = [1, profile[0], profile[1], profile[2], 0xff, 0xe0, 0];
            let entry = fixture::visual_entry(b"avc1", b"avcC", &config);
            let track = with_video(Codec::Avc, entry, size, color);
            assert_eq!(names(&of_header(&track, 0, Some(AT_30))), expected);
        };
        check([100, 0, 31], (864, 486), (1, 1, 1), "cmfc iso6 cfsd");
        check([77, 0, 30], (720, 576), (5, 6, 5), "cmfc iso6 cfsd");
        check([100, 0, 31], (1280, 720), BT709, "cmfc iso6 cfhd");
        check([100, 0, 40], (1920, 1080), (2, 2, 2), "cmfc iso6 cfhd");
        check([100, 0, 42], (1920, 1080), BT709, "cmfc iso6 chdf");
        check([100, 0, 51], (3840, 2160), BT709, "cmfc iso6");
        check([100, 0, 40], (1920, 1088), BT709, "cmfc iso6");
        check([110, 0, 40], (1920, 1080), BT709, "cmfc iso6");
        check([66, 0xc0, 30], (640, 360), BT709, "cmfc iso6 cfsd");
        check([66, 0x00, 30], (640, 360), BT709, "cmfc iso6");
    }

    #[test]
    fn hevc_profiles() {
        let check = |profile: u8, level, size, color, expected: &str| {
            let config = [1, profile, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, level];
            let entry = fixture::visual_entry(b"hvc1", b"hvcC", &config);
            let track = with_video(Codec::Hevc, entry, size, color);
            assert_eq!(names(&of_header(&track, 0, Some(AT_30))), expected);
        };
        check(1, 123, (1920, 1080), BT709, "cmfc iso6 chhd");
        check(1, 150, (3840, 2160), BT709, "cmfc iso6 cud8");
        check(2, 123, (1920, 1080), BT709, "cmfc iso6 chh1");
        check(2, 123, (1920, 1080), (9, 16, 9), "cmfc iso6 chd1");
        check(2, 153, (3840, 2160), (9, 18, 9), "cmfc iso6 clg1");
        check(2, 153, (3840, 2160), (9, 14, 9), "cmfc iso6 cud1");
        // High tier; range extensions; too high a level.
        check(0x21, 123, (1920, 1080), BT709, "cmfc iso6");
        check(4, 123, (1920, 1080), BT709, "cmfc iso6");
        check(2, 156, (3840, 2160), BT709, "cmfc iso6");
    }

    #[test]
    fn rate_must_be_known_and_at_most_60() {
        let check = |frame_rate, expected: &str| {
            assert_eq!(names(&of_header(&fixture::video(), 0, frame_rate)), expected);
        };
        let rate = |pictures, ticks| Some(FrameRate { pictures, ticks });
        check(rate(60_000, 1001 * 90_000), "cmfc iso6 cfhd");
        check(rate(60, 89_999), "cmfc iso6 cfhd");
        check(rate(120, 90_000), "cmfc iso6");
        check(rate(1, 0), "cmfc iso6");
        check(None, "cmfc iso6");
    }

    #[test]
    fn trimmed_video_claims_nothing_of_cmaf() {
        assert_eq!(names(&of_header(&fixture::video(), 1, Some(AT_30))), "iso6");
        assert_eq!(names(&of_header(&fixture::audio(), 1024, None)), "cmf2 cmfc iso6 caac");
    }

    #[test]
    fn other_media() {
        let check = |track: &TrackDescription, expected: &str| {
            assert_eq!(names(&of_header(track, 0, Some(AT_30))), expected);
        };
        let audio = |codec, channel_count, sample_rate, decoder_config: &'static [u8]| TrackDescription {
            codec,
            media: MediaDescription::Audio(AudioDescription {
                sample_rate,
                channel_count,
                joc_complexity: None,
                decoder_config: bytes::Bytes::from_static(decoder_config),
            }),
            ..fixture::audio()
        };
        check(&audio(Codec::Aac, 2, 48_000, &[0x2b, 0x8a]), "cmf2 cmfc iso6 caac");
        check(&audio(Codec::Aac, 6, 48_000, &[0x11, 0xb0]), "cmf2 cmfc iso6");
        check(&audio(Codec::Aac, 2, 96_000, &[0x10, 0x10]), "cmf2 cmfc iso6");
        check(&audio(Codec::Aac, 2, 48_000, &[]), "cmf2 cmfc iso6");
        check(&audio(Codec::Eac3, 6, 48_000, &[]), "cmf2 cmfc iso6 ceac");
        check(&audio(Codec::Opus, 2, 48_000, &[]), "cmf2 cmfc iso6");
        check(&fixture::text(Codec::Wvtt, "wvtt"), "cmf2 cmfc iso6 cwvt");
        check(&fixture::text(Codec::Stpp, "stpp.ttml.im1t"), "cmf2 cmfc iso6 im1t");
        check(
            &fixture::text(Codec::Stpp, "stpp.ttml.im2t|etd1"),
            "cmf2 cmfc iso6 im2t",
        );
        check(&fixture::text(Codec::Stpp, "stpp"), "cmf2 cmfc iso6");
        let av1 = with_video(Codec::Av1, bytes::Bytes::new(), (640, 360), BT709);
        check(&av1, "cmfc iso6 av01");
    }

    #[test]
    fn dolby_vision_brings_its_brand() {
        let mut track = with_video(Codec::Hevc, bytes::Bytes::new(), (640, 360), (9, 18, 9));
        if let MediaDescription::Video(video) = &mut track.media {
            video.supplemental_codecs = Some(SupplementalCodecs {
                rfc6381: "dvh1.08.07".into(),
                brand: "db4h".into(),
            });
        }
        assert_eq!(names(&of_header(&track, 0, Some(AT_30))), "cmfc iso6 db4h");
    }

    #[test]
    fn cut_sample_entry_claims_no_profile() {
        let whole = fixture::video();
        for end in 0..whole.sample_entry.len() {
            let track = TrackDescription {
                sample_entry: whole.sample_entry.slice(..end),
                ..whole.clone()
            };
            assert_eq!(names(&of_header(&track, 0, Some(AT_30))), "cmfc iso6", "cut at {end}");
        }
    }
}
