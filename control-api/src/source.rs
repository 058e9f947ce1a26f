//! Sources: whether uploaded bytes are what they are said to be (UP-9).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Read as _;
use std::path::Path;

use packager::container;

/// Largest picture, in samples.
const IMAGE_SAMPLE_COUNT_MAX: u64 = 50_000_000;
/// Largest file of an image.
const IMAGE_SIZE_BYTES_MAX: u64 = 64 << 20;
/// Largest file of subtitles.
const SUBTITLE_SIZE_BYTES_MAX: u64 = 16 << 20;
/// As much of an image as its dimensions are found in: JPEG may have much before them.
const IMAGE_HEAD_SIZE_BYTES: u64 = 1 << 20;

/// What is known of a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// How long it plays.
    pub duration_seconds: Option<f64>,
    /// Its pictures.
    pub dimensions: Option<(i32, i32)>,
}

/// Looks into films, in a process that may crash. Blocking.
pub trait Probe: Send + Sync {
    /// What the film at `path` holds, or what is wrong with it.
    fn probe(&self, path: &Path) -> Result<Facts, String>;
}

/// Looks at the first bytes alone: for control planes without a transcoder beside them.
#[derive(Debug)]
pub struct HeadProbe;

impl Probe for HeadProbe {
    fn probe(&self, path: &Path) -> Result<Facts, String> {
        let head = head(path, container::HEAD_SIZE_BYTES as u64)?;
        match container::recognise(&head) {
            Some(_) => Ok(Facts::default()),
            None => Err("is in no container of films that is known here".to_owned()),
        }
    }
}

fn head(path: &Path, size: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(size).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Checks the file at `path`, of which it is said that it is `asset_type` and `content_type`. Blocking.
pub fn check(path: &Path, asset_type: &str, content_type: &str, probe: &dyn Probe) -> Result<Facts, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    let said = content_type.split(['/', ';']).next().unwrap_or_default().trim();
    let agrees = |kinds: &[&str]| match said == "application" || kinds.contains(&said) {
        true => Ok(()),
        false => Err(format!(
            "is said to be {content_type}, which is no {}",
            kinds.join(" or ")
        )),
    };
    match asset_type {
        "image" => {
            agrees(&["image"])?;
            if size > IMAGE_SIZE_BYTES_MAX {
                return Err(format!("is larger than {IMAGE_SIZE_BYTES_MAX} bytes"));
            }
            let bytes = head(path, IMAGE_HEAD_SIZE_BYTES)?;
            let (width, height) = image_dimensions(&bytes).ok_or("is neither PNG, JPEG, GIF nor WebP")?;
            if u64::from(width) * u64::from(height) > IMAGE_SAMPLE_COUNT_MAX || width == 0 || height == 0 {
                return Err(format!("is {width} x {height}; 50 megapixels are the most"));
            }
            let whole = |side: u32| i32::try_from(side).unwrap_or(i32::MAX);
            Ok(Facts {
                dimensions: Some((whole(width), whole(height))),
                duration_seconds: None,
            })
        }
        "subtitle" => {
            agrees(&["text"])?;
            if size > SUBTITLE_SIZE_BYTES_MAX {
                return Err(format!("is larger than {SUBTITLE_SIZE_BYTES_MAX} bytes"));
            }
            subtitles(&head(path, SUBTITLE_SIZE_BYTES_MAX)?)?;
            Ok(Facts::default())
        }
        "audio_track" => {
            agrees(&["audio", "video"])?;
            HeadProbe.probe(path)
        }
        _ => {
            agrees(&["video"])?;
            let facts = probe.probe(path)?;
            match facts.duration_seconds {
                Some(duration) if duration <= 0.0 => Err("lasts no time".to_owned()),
                _ => Ok(facts),
            }
        }
    }
}

/// Whether the bytes are subtitles that become WebVTT.
fn subtitles(bytes: &[u8]) -> Result<(), String> {
    let trimmed = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let begins = trimmed.iter().position(|byte| !byte.is_ascii_whitespace());
    let first = begins.and_then(|at| trimmed.get(at..)).unwrap_or_default();
    let parsed = match first {
        [b'W', b'E', b'B', b'V', b'T', b'T', ..] => packager::text::webvtt::parse(bytes),
        [b'<', ..] => packager::text::ttml::parse(bytes),
        _ => packager::text::srt::parse(bytes),
    };
    let parsed = parsed.map_err(|error| error.to_string())?;
    match parsed.track.cues().is_empty() {
        true => Err("has no cues".to_owned()),
        false => Ok(()),
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

fn le(bytes: &[u8], at: usize, size: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

/// Width and height of an image.
pub fn image_dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.get(12..16)? == b"IHDR" {
        return Some((be32(bytes, 16)?, be32(bytes, 20)?));
    }
    if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        return Some((le(bytes, 6, 2)?, le(bytes, 8, 2)?));
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12)? == b"WEBP" {
        return match bytes.get(12..16)? {
            b"VP8X" => Some((le(bytes, 24, 3)? + 1, le(bytes, 27, 3)? + 1)),
            b"VP8L" => {
                let packed = le(bytes, 21, 4)?;
                Some(((packed & 0x3fff) + 1, (packed >> 14 & 0x3fff) + 1))
            }
            b"VP8 " => Some((le(bytes, 26, 2)? & 0x3fff, le(bytes, 28, 2)? & 0x3fff)),
            _ => None,
        };
    }
    bytes
        .starts_with(&[0xff, 0xd8])
        .then(|| jpeg_dimensions(bytes))
        .flatten()
}

/// From the frame header (ITU-T T.81 B.2.2).
fn jpeg_dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2_usize;
    loop {
        if *bytes.get(at)? != 0xff {
            return None;
        }
        let marker = *bytes.get(at.checked_add(1)?)?;
        match marker {
            0xff => at = at.checked_add(1)?,
            0x01 | 0xd0..=0xd7 => at = at.checked_add(2)?,
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Some((be16(bytes, at.checked_add(7)?)?, be16(bytes, at.checked_add(5)?)?));
            }
            0xd8..=0xda => return None,
            _ => {
                let size = usize::try_from(be16(bytes, at.checked_add(2)?)?).ok()?;
                at = at.checked_add(2)?.checked_add(size.max(2))?;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x03\x20\0\0\x02\x58\x08\x02\0\0\0";
    const JPEG: &[u8] = &[
        0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xc0, 0, 11, 8, 0x02, 0x58, 0x03, 0x20, 1, 1, 0x11, 0,
    ];
    const GIF: &[u8] = b"GIF89a\x20\x03\x58\x02\0\0\0";
    const WEBP: &[u8] = b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x1f\x03\0\x57\x02\0";

    #[test]
    fn up_9_images_tell_their_size() {
        for bytes in [PNG, JPEG, GIF, WEBP] {
            assert_eq!(image_dimensions(bytes), Some((800, 600)));
            for end in 0..bytes.len() {
                // Truncated anywhere, it is an answer or none, never a panic.
                let _ = image_dimensions(&bytes[..end]);
            }
        }
        assert_eq!(image_dimensions(b"<svg>"), None);
        assert_eq!(image_dimensions(&[0xff, 0xd8, 0, 0]), None);
    }

    #[test]
    fn up_9_sources_are_what_they_are_said_to_be() {
        let folder = std::env::temp_dir().join(format!("headwater-source-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("source");
        let vtt = b"WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n".as_slice();
        let srt = b"1\n00:00:01,000 --> 00:00:02,000\nHello\n".as_slice();
        let film = b"\0\0\0\x18ftypisom\0\0\0\0isommp42\0\0\0\x08free".as_slice();
        let large = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x01\0\0\0\x01\0\0\x08\x02\0\0\0".as_slice();
        let check = |bytes: &[u8], asset_type: &str, content_type: &str, good: bool| {
            std::fs::write(&path, bytes).unwrap();
            let found = check(&path, asset_type, content_type, &HeadProbe);
            assert_eq!(found.is_ok(), good, "{asset_type} {content_type}: {found:?}");
        };
        check(PNG, "image", "image/png", true);
        check(PNG, "image", "video/mp4", false);
        check(large, "image", "image/png", false);
        check(b"no image", "image", "image/png", false);
        check(vtt, "subtitle", "text/vtt", true);
        check(srt, "subtitle", "application/x-subrip", true);
        check(b"WEBVTT\n\n", "subtitle", "text/vtt", false);
        check(film, "video_master", "video/mp4", true);
        check(film, "video_master", "application/octet-stream", true);
        check(film, "video_master", "text/plain", false);
        check(b"MZ\x90\0 this is no film", "video_master", "video/mp4", false);
        check(b"", "trailer", "video/mp4", false);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
