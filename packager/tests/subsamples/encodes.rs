//! Small films whose headers differ in as many ways as encoders offer.

use crate::trace::{self, Header};
use std::fmt;
use std::path::Path;

/// One way of encoding a few pictures.
pub(crate) struct Encode {
    source: &'static str,
    options: String,
}

impl fmt::Display for Encode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.options, self.source)
    }
}

impl Encode {
    /// Writes the film and returns the headers in it; `None` when ffmpeg does not.
    pub(crate) fn run(&self, file: &Path) -> Option<Vec<Header>> {
        let output = trace::ffmpeg()
            .args([
                "-threads",
                "1",
                "-nostats",
                "-hide_banner",
                "-y",
                "-f",
                "lavfi",
                "-i",
                self.source,
            ])
            .args(self.options.split(' '))
            .args(["-strict", "-2", "-bsf:v", "trace_headers"])
            .arg(file)
            .output()
            .expect("ffmpeg runs");
        trace::of_output(&output)
    }
}

const MOVING: &str = "testsrc2=s=128x96:r=25:d=0.32";
const FADING: &str = "testsrc2=s=128x96:r=25:d=0.4,fade=in:0:10";
const LARGE: &str = "testsrc2=s=512x256:r=25:d=0.2";

/// Every encode that is tried.
pub(crate) fn all() -> Vec<Encode> {
    let mut encodes = Vec::new();
    let mut add = |coder: &str, source: &'static str, options: &[&str]| {
        encodes.extend(options.iter().map(|options| Encode {
            source,
            options: format!("{coder}{options}"),
        }));
    };
    add("-c:v libx264 -pix_fmt yuv420p -x264-params ", MOVING, AVC);
    add("-c:v libx264 -pix_fmt yuv420p -x264-params ", FADING, AVC_WEIGHTED);
    add(
        "-c:v libx264 -pix_fmt yuv444p -x264-params ",
        MOVING,
        &["keyint=5:qp=0"],
    );
    let hevc = "-c:v libx265 -pix_fmt yuv420p -x265-params log-level=none:pools=1:frame-threads=1:";
    add(hevc, MOVING, HEVC);
    add(hevc, FADING, HEVC_WEIGHTED);
    add(hevc, LARGE, &["slices=3:wpp=1:ctu=16:bframes=2"]);
    add("-c:v libvpx-vp9 -deadline realtime -cpu-used 8 ", LARGE, VP9);
    add("-c:v libaom-av1 -cpu-used 8 ", LARGE, AV1);
    add("-c:v libsvtav1 -preset 10 -svtav1-params ", MOVING, AV1_SVT);
    encodes
}

const AVC: &[&str] = &[
    "bframes=8:b-pyramid=normal:b-adapt=0:ref=16",
    "slices=4:bframes=3",
    "slice-max-size=300:qp=10",
    "cabac=0:bframes=0:slices=3",
    "interlaced=1:ref=5",
    "bff=1:slices=2:bframes=3",
    "no-deblock=1:keyint=1",
    "open-gop=1:keyint=6:bframes=3:aud=1",
    "direct=temporal:bframes=4:b-adapt=0",
];

const AVC_WEIGHTED: &[&str] = &[
    "weightp=2:ref=6",
    "weightp=2:bframes=4:weightb=1:b-adapt=0",
    "weightp=2:slices=3:interlaced=1:ref=5",
];

const HEVC: &[&str] = &[
    "keyint=5:no-wpp=1",
    "bframes=8:b-adapt=0:ref=6",
    "ref=8:bframes=0:no-temporal-mvp=1",
    "wpp=1:ctu=16:no-sao=1",
    "deblock=-2,2:tskip=1",
    "lossless=1:cu-lossless=1",
    "open-gop=1:keyint=6:bframes=3",
    "temporal-layers=2:bframes=4:b-adapt=0",
];

const HEVC_WEIGHTED: &[&str] = &["weightp=1:ref=5:bframes=0", "weightb=1:bframes=4:ref=5:b-adapt=0"];

const VP9: &[&str] = &[
    "-pix_fmt yuv420p -tile-columns 2 -tile-rows 1 -error-resilient 1",
    "-pix_fmt yuv420p -frame-parallel 1 -aq-mode 3 -lossless 1",
    "-pix_fmt yuv420p -auto-alt-ref 1 -lag-in-frames 10 -deadline good",
    "-pix_fmt yuv444p -sharpness 4",
];

const AV1: &[&str] = &[
    "-usage realtime -tiles 4x2 -aq-mode 3",
    "-usage realtime -tiles 4x2 -aom-params num-tile-groups=3:error-resilient=1",
    "-lag-in-frames 8 -aom-params reduced-reference-set=1:sb-size=128:lossless=1:tune-content=screen",
    "-lag-in-frames 8 -aom-params film-grain-test=2",
];

const AV1_SVT: &[&str] = &["film-grain=8:superres-mode=1:superres-denom=12", "tile-columns=1"];
