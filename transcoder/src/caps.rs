//! What GStreamer calls a coding: caps of the samples of a track as the packager describes it. Pure.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use packager::codec::Codec;
use packager::codec::opus::OpusConfig;
use packager::isobmff::{BoxReader, FourCc};
use packager::track::{MediaDescription, TrackDescription};

/// Bytes of a visual sample entry before its boxes, header included (ISO/IEC 14496-12:2022 12.1.3).
const VISUAL_ENTRY_SIZE: usize = 86;

/// Caps of the samples of a track; `None` for what no decoder here takes.
pub(crate) fn of(description: &TrackDescription) -> Option<String> {
    let child = |name: &[u8; 4]| child(&description.sample_entry, name);
    let mut caps = match description.codec {
        Codec::Avc => format!(
            "video/x-h264,stream-format=avc,alignment=au,codec_data=(buffer){}",
            hexadecimal(child(b"avcC")?)
        ),
        Codec::Hevc => format!(
            "video/x-h265,stream-format=hvc1,alignment=au,codec_data=(buffer){}",
            hexadecimal(child(b"hvcC")?)
        ),
        Codec::Av1 => format!(
            "video/x-av1,stream-format=obu-stream,alignment=tu,codec_data=(buffer){}",
            hexadecimal(child(b"av1C")?)
        ),
        Codec::Vp9 => "video/x-vp9".into(),
        Codec::Vp8 => "video/x-vp8".into(),
        Codec::Aac => format!(
            "audio/mpeg,mpegversion=4,framed=true,stream-format=raw,codec_data=(buffer){}",
            hexadecimal(&description.audio()?.decoder_config)
        ),
        Codec::Mp3 => "audio/mpeg,mpegversion=1,layer=3".into(),
        Codec::Ac3 => "audio/x-ac3".into(),
        Codec::Eac3 => "audio/x-eac3".into(),
        Codec::Opus => opus(&description.audio()?.decoder_config)?,
        Codec::Flac => flac(&description.audio()?.decoder_config)?,
        Codec::Ac4 | Codec::Wvtt | Codec::Stpp | Codec::Tx3g => return None,
    };
    if let MediaDescription::Video(video) = &description.media {
        let (horizontal, vertical) = video.sample_aspect_ratio;
        if horizontal > 0 && vertical > 0 && horizontal <= MAX && vertical <= MAX {
            caps.push_str(&format!(",pixel-aspect-ratio=(fraction){horizontal}/{vertical}"));
        }
        // Codings without a sequence header have their size from the container alone.
        if matches!(description.codec, Codec::Vp8 | Codec::Vp9) && video.width <= MAX && video.height <= MAX {
            caps.push_str(&format!(",width={},height={}", video.width, video.height));
        }
        if let Some(mdcv) = child(b"mdcv").and_then(mastering_display) {
            caps.push_str(&format!(",mastering-display-info=(string)\"{mdcv}\""));
        }
        if let Some([a, b, c, d]) = child(b"clli").and_then(|clli| clli.first_chunk::<4>()) {
            let (greatest, average) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            caps.push_str(&format!(",content-light-level=(string)\"{greatest}:{average}\""));
        }
    }
    Some(caps)
}

/// Numbers in caps are signed.
const MAX: u32 = i32::MAX as u32;

/// What a decoder of pictures is set up with: the payload of `avcC`, `hvcC` or `av1C`.
pub(crate) fn configuration(description: &TrackDescription) -> Option<&[u8]> {
    child(
        &description.sample_entry,
        match description.codec {
            Codec::Avc => b"avcC",
            Codec::Hevc => b"hvcC",
            Codec::Av1 => b"av1C",
            _ => return None,
        },
    )
}

/// The payload of a box in a visual sample entry.
fn child<'a>(entry: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    let boxes = entry.get(VISUAL_ENTRY_SIZE..)?;
    let mut reader = BoxReader::new(FourCc(*b"stsd"), 0, VISUAL_ENTRY_SIZE as u64, boxes);
    while let Ok(Some(found)) = reader.child() {
        if found.fourcc == FourCc(*name) {
            return Some(found.remaining());
        }
    }
    None
}

/// The payload of `dOps`. The pre-skip is left out: it is in the times already.
fn opus(payload: &[u8]) -> Option<String> {
    let config = OpusConfig::parse_dops(payload).ok()?;
    let channels = config.channels;
    let (streams, coupled, mapping) = match &config.mapping {
        None => (1, u8::from(channels > 1), (0..channels).collect()),
        Some(mapping) => (mapping.stream_count, mapping.coupled_count, mapping.mapping.clone()),
    };
    // Ambisonics have no speakers to be mapped to.
    if !matches!(config.mapping_family, 0 | 1 | 255) || mapping.len() != usize::from(channels) {
        return None;
    }
    let rows: Vec<String> = mapping.iter().map(u8::to_string).collect();
    let mapped = match config.mapping_family {
        0 => String::new(),
        _ => format!(",channel-mapping=(int)<{}>", rows.join(",")),
    };
    Some(format!(
        "audio/x-opus,rate=48000,channels={channels},channel-mapping-family={},stream-count={streams},\
         coupled-count={coupled}{mapped}",
        config.mapping_family
    ))
}

/// The payload of `dfLa`: after version and flags, metadata blocks as at the start of a file.
fn flac(payload: &[u8]) -> Option<String> {
    let mut blocks = payload.get(4..)?;
    let mut headers = vec![format!("(buffer){}", hexadecimal(b"fLaC"))];
    while let Some([kind, a, b, c]) = blocks.first_chunk::<4>() {
        let size = u32::from_be_bytes([0, *a, *b, *c]) as usize + 4;
        headers.push(format!("(buffer){}", hexadecimal(blocks.get(..size)?)));
        blocks = blocks.get(size..)?;
        if kind & 0x80 != 0 {
            break;
        }
    }
    Some(format!("audio/x-flac,framed=true,streamheader=<{}>", headers.join(",")))
}

/// The payload of `mdcv` as caps have it: red, green, blue, white, luminance. The box begins with green.
fn mastering_display(payload: &[u8]) -> Option<String> {
    let [gx, gy, bx, by, rx, ry, wx, wy] = {
        let mut shorts = payload.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair));
        let mut next = || shorts.next();
        [next()?, next()?, next()?, next()?, next()?, next()?, next()?, next()?]
    };
    let mut longs = payload
        .get(16..24)?
        .as_chunks::<4>()
        .0
        .iter()
        .map(|long| u32::from_be_bytes(*long));
    let (greatest, least) = (longs.next()?, longs.next()?);
    Some(format!("{rx}:{ry}:{gx}:{gy}:{bx}:{by}:{wx}:{wy}:{greatest}:{least}"))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use packager::isobmff::sample_entry::{self, TrackFacts, VideoFacts};
    use packager::time::Timescale;

    use super::*;

    fn facts() -> TrackFacts {
        TrackFacts {
            source_track_id: 1,
            timescale: Timescale::new(1_000).unwrap(),
            language: "und".into(),
            label: None,
        }
    }

    #[test]
    fn codings_have_the_names_that_decoders_know() {
        let check = |description: TrackDescription, expected: &str| {
            assert_eq!(of(&description).unwrap(), expected);
        };
        check(
            sample_entry::aac(&facts(), &[0x11, 0x90]).unwrap(),
            "audio/mpeg,mpegversion=4,framed=true,stream-format=raw,codec_data=(buffer)1190",
        );
        let shown = VideoFacts {
            size: Some((64, 36)),
            sample_aspect_ratio: Some((4, 3)),
            mastering_display: Some([
                0x33, 0xc2, 0x86, 0xc4, 0x1d, 0x4c, 0x0b, 0xb8, 0x84, 0xd0, 0x3e, 0x80, 0x3d, 0x13, 0x40, 0x42, 0,
                0x98, 0x96, 0x80, 0, 0, 0, 50,
            ]),
            content_light_level: Some([3, 0xe8, 1, 0x90]),
            ..VideoFacts::default()
        };
        // VP9 profile 0, level 1, eight bits.
        let vpcc = [1, 0, 0, 0, 0, 10, 0x82, 2, 2, 2, 0, 0];
        check(
            sample_entry::vp9(&facts(), &vpcc, &shown).unwrap(),
            "video/x-vp9,pixel-aspect-ratio=(fraction)4/3,width=64,height=36,\
             mastering-display-info=(string)\"34000:16000:13250:34500:7500:3000:15635:16450:10000000:50\",\
             content-light-level=(string)\"1000:400\"",
        );
        assert_eq!(
            opus(&[0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0]).unwrap(),
            "audio/x-opus,rate=48000,channels=2,channel-mapping-family=0,stream-count=1,coupled-count=1"
        );
        assert_eq!(
            opus(&[0, 3, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 1, 2, 1, 0, 2, 1]).unwrap(),
            "audio/x-opus,rate=48000,channels=3,channel-mapping-family=1,stream-count=2,coupled-count=1,\
             channel-mapping=(int)<0,2,1>"
        );
        let block = [[0x80, 0, 0, 34].as_slice(), &[7; 34]].concat();
        let payload = [[0; 4].as_slice(), &block].concat();
        assert_eq!(
            flac(&payload).unwrap(),
            format!(
                "audio/x-flac,framed=true,streamheader=<(buffer)664c6143,(buffer){}>",
                hexadecimal(&block)
            )
        );
        for end in 0..payload.len() {
            assert!(flac(&payload[..end]).is_none_or(|caps| !caps.contains("0707")), "{end}");
        }
    }
}
