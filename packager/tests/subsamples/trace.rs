//! What FFmpeg's `trace_headers` prints: each field of each header, with the bit it begins at.

use std::path::Path;
use std::process::{Command, Output};

/// A slice, frame or tile group header.
#[derive(Debug, Default, Clone)]
pub(crate) struct Header {
    /// First bit after the last field, from the unit's first bit on; emulation prevention left out.
    end_bits: usize,
    /// `nal_unit_type` or `obu_type`.
    unit_type: Option<u32>,
    /// The unit has a field of this name, so it is a header of VP9.
    frame_marker: bool,
    /// Bytes of the size field before the first tile.
    tile_size_bytes: usize,
}

impl Header {
    /// Bytes up to the first that may be protected.
    pub(crate) fn size_bytes(&self) -> usize {
        self.end_bits.div_ceil(8) + self.tile_size_bytes
    }
}

/// FFmpeg, given half a minute.
pub(crate) fn ffmpeg() -> Command {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "30", "ffmpeg", "-nostdin"]);
    command
}

/// Headers of picture data in the first video stream of a file; `None` when ffmpeg does not read it.
pub(crate) fn of_file(file: &Path) -> Option<Vec<Header>> {
    let output = ffmpeg()
        .args(["-nostats", "-hide_banner", "-ignore_editlist", "1", "-i"])
        .arg(file)
        .args([
            "-map",
            "0:v:0",
            "-c",
            "copy",
            "-bsf:v",
            "trace_headers",
            "-f",
            "null",
            "-",
        ])
        .output()
        .expect("ffmpeg runs");
    of_output(&output)
}

/// The headers among what a run of ffmpeg said; `None` when it failed.
pub(crate) fn of_output(output: &Output) -> Option<Vec<Header>> {
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let mut units: Vec<Header> = Vec::new();
    // AV1: bytes of the sizes before the tiles of the frame at hand, 0 when it has one tile; first tile of a group.
    let (mut tile_size_bytes, mut first_tile) = (0, None);
    for line in text.lines() {
        let Some((_, line)) = line
            .split_once("[trace_headers @ ")
            .and_then(|(_, rest)| rest.split_once("] "))
        else {
            continue;
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let [position, name, bits, "=", value] = words[..] else {
            continue;
        };
        let (Ok(position), Ok(value)) = (position.parse::<usize>(), value.parse::<i64>()) else {
            continue;
        };
        if position == 0 {
            units.push(Header::default());
        }
        let Some(unit) = units.last_mut() else { continue };
        unit.end_bits = position + bits.len();
        match name {
            "nal_unit_type" | "obu_type" => unit.unit_type = u32::try_from(value).ok(),
            "frame_marker" => unit.frame_marker = true,
            "uniform_tile_spacing_flag" => tile_size_bytes = 0,
            "tile_size_bytes_minus1" => tile_size_bytes = usize::try_from(value).unwrap_or(0) + 1,
            "tile_start_and_end_present_flag" => first_tile = None,
            "tg_start" => first_tile = Some(value),
            _ => {}
        }
        // The last tile of a group has no size.
        unit.tile_size_bytes = match name {
            "tg_end" if first_tile == Some(value) => 0,
            _ => tile_size_bytes,
        };
    }
    Some(units)
}

/// Leaves only the units that hold picture data.
pub(crate) fn pictures(codec: packager::codec::Codec, units: Vec<Header>) -> Vec<Header> {
    use packager::codec::Codec;
    let mut units = units;
    units.retain(|unit| match codec {
        Codec::Avc => matches!(unit.unit_type, Some(1 | 5)),
        Codec::Hevc => matches!(unit.unit_type, Some(0..=31)),
        Codec::Av1 => matches!(unit.unit_type, Some(4 | 6)),
        _ => unit.frame_marker,
    });
    if codec != Codec::Av1 {
        units.iter_mut().for_each(|unit| unit.tile_size_bytes = 0);
    }
    units
}
