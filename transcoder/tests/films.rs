//! Whole jobs over films that ffmpeg makes, judged by ffprobe and ffmpeg.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can not go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use transcoder::child::Program;
use transcoder::encoder::Preference;
use transcoder::ladder::{Ladder, Preset, Step};
use transcoder::vod::{self, Context, JobError, Known, Published, TranscodeJob};

/// A folder of this test alone, which goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    /// `None`, loudly, where ffmpeg is missing.
    fn new(name: &str) -> Option<Scratch> {
        if Command::new("ffmpeg").arg("-version").output().is_err() {
            eprintln!("SKIPPED {name}: there is no ffmpeg");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("headwater-films-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        Some(Scratch(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the film `name` with ffmpeg.
    fn film(&self, name: &str, arguments: &str) -> PathBuf {
        let path = self.path(name);
        let made = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-y"])
            .args(arguments.split_whitespace())
            .arg(&path)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The worker that cargo builds beside this test.
fn worker() -> Program {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/worker");
    assert!(
        path.exists(),
        "no {}: cargo build -p transcoder --example worker",
        path.display()
    );
    Program {
        path,
        arguments: Vec::new(),
    }
}

fn ladder(heights: &[u32]) -> Ladder {
    let step = |height: &u32| Step {
        height: *height,
        bitrate_kbps: 300,
        preset: Preset::Ultrafast,
        codec: None,
        quality: None,
    };
    Ladder {
        steps: heights.iter().map(step).collect(),
        ..Ladder::default()
    }
}

fn job(scratch: &Scratch, source: PathBuf, heights: &[u32]) -> TranscodeJob {
    TranscodeJob {
        source,
        title: "Film".into(),
        library: scratch.path("library"),
        name: "film".into(),
        ladder: ladder(heights),
        preference: Preference::Cpu,
        segment_duration_ms: 4_000,
        worker_count: Some(2),
        chunk_duration_ms: None,
        known: Known::default(),
    }
}

fn run(job: &TranscodeJob, program: &Program) -> Result<Published, JobError> {
    let done = vod::run_job(
        job,
        &mut Context {
            program,
            cancel: &AtomicBool::new(false),
            progress: &mut |_| {},
            add: &mut |_| Ok(()),
        },
    );
    // Whatever becomes of it, only what is published is left.
    let left: Vec<_> = std::fs::read_dir(&job.library)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "film")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    done
}

/// What ffprobe says of one file, one line a frame or stream.
fn ffprobe(path: &Path, arguments: &str) -> Vec<String> {
    let said = Command::new("ffprobe")
        .args(["-v", "error", "-of", "csv=p=0"])
        .args(arguments.split_whitespace())
        .arg(path)
        .output()
        .unwrap();
    assert!(
        said.stderr.is_empty(),
        "{}: {}",
        path.display(),
        String::from_utf8_lossy(&said.stderr)
    );
    String::from_utf8(said.stdout)
        .unwrap()
        .lines()
        .map(|line| line.trim_end_matches(',').to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

fn frame_times(path: &Path) -> Vec<f64> {
    let lines = ffprobe(path, "-select_streams v:0 -show_entries frame=pts_time");
    lines
        .iter()
        .map(|line| line.split(',').next().unwrap().parse().unwrap())
        .collect()
}

fn key_times(path: &Path) -> Vec<String> {
    ffprobe(
        path,
        "-select_streams v:0 -skip_frame nokey -show_entries frame=pts_time",
    )
    .iter()
    .map(|line| line.split(',').next().unwrap().to_owned())
    .collect()
}

/// First instant at which the sound is loud, in seconds.
fn beep(path: &Path) -> f64 {
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:a:0", "-ac", "1", "-ar", "48000", "-f", "s16le", "-"])
        .output()
        .unwrap();
    let samples = decoded.stdout.as_chunks::<2>().0;
    let at = samples
        .iter()
        .position(|sample| i16::from_le_bytes(*sample).unsigned_abs() > 4_000)
        .expect("a beep");
    let start: f64 = ffprobe(path, "-select_streams a:0 -show_entries stream=start_time")[0]
        .parse()
        .unwrap();
    at as f64 / 48_000.0 + start.max(0.0)
}

/// First instant at which the picture is bright, in seconds.
fn flash(path: &Path) -> f64 {
    let lines = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-of",
            "csv=p=0",
            "-f",
            "lavfi",
            "-show_entries",
            "frame=pts_time:frame_tags=lavfi.signalstats.YAVG",
        ])
        .arg(format!("movie={},signalstats", path.display()))
        .output()
        .unwrap();
    let text = String::from_utf8(lines.stdout).unwrap();
    let bright = text.lines().find_map(|line| {
        let (time, luma) = line.trim_end_matches(',').split_once(',')?;
        (luma.parse::<f64>().ok()? > 120.0).then(|| time.parse::<f64>().ok())?
    });
    bright.expect("a flash")
}

/// Black and silent, but for a flash and a beep from `at` to `at + 0.2` s.
fn flash_and_beep(rate: &str, seconds: u32, at: &str) -> String {
    format!(
        "-f lavfi -i color=black:s=320x180:r={rate}:d={seconds},drawbox=c=white:t=fill:enable=between(t\\,{at}\\,{at}+0.2) \
         -f lavfi -i sine=f=1000:r=48000:d={seconds},volume=between(t\\,{at}\\,{at}+0.2):eval=frame"
    )
}

#[test]
fn all_renditions_have_the_sources_pictures_and_key_frames_at_the_same_instants() {
    let Some(scratch) = Scratch::new("aligned") else { return };
    let check = |name: &str, arguments: &str, chunk_s: Option<u64>, expected_keys: &[&str]| {
        let source = scratch.film(name, arguments);
        let mut job = job(&scratch, source.clone(), &[180, 120, 90]);
        job.chunk_duration_ms = chunk_s.map(|seconds| seconds * 1_000);
        let published = run(&job, &worker()).unwrap();
        let count = frame_times(&source).len();
        let first = frame_times(&published.folder.join("v1.mp4"));
        for (file, size) in [("v1.mp4", "320,180"), ("v2.mp4", "214,120"), ("v3.mp4", "160,90")] {
            let path = published.folder.join(file);
            assert_eq!(ffprobe(&path, "-show_entries stream=width,height"), [size], "{name}");
            let times = frame_times(&path);
            assert_eq!((times.len(), &times), (count, &first), "{name} {file}");
            assert_eq!(key_times(&path), expected_keys, "{name} {file}");
        }
        let offset = flash(&published.folder.join("v1.mp4")) - beep(&published.folder.join("a1.mp4"));
        let before = flash(&source) - beep(&source);
        assert!(
            (offset - before).abs() < 0.022,
            "{name}: {before} before, {offset} after"
        );
        std::fs::remove_dir_all(job.library).unwrap();
    };
    let coded = "-c:v libx264 -preset ultrafast -bf 2 -pix_fmt yuv420p -c:a aac -shortest";
    let film = |rate| format!("{} {coded}", flash_and_beep(rate, 7, "3.2"));
    check(
        "whole.mp4",
        &film("25"),
        None,
        &["0.000000", "2.000000", "4.000000", "6.000000"],
    );
    check(
        "chunks.mp4",
        &film("25"),
        Some(2),
        &["0.000000", "2.000000", "4.000000", "6.000000"],
    );
    check(
        "ntsc.mp4",
        &film("30000/1001"),
        Some(2),
        &["0.000000", "2.002000", "4.004000", "6.006000"],
    );
}

#[test]
fn what_can_not_be_made_says_why_and_leaves_nothing() {
    let Some(scratch) = Scratch::new("refused") else { return };
    let film = scratch.film(
        "film.mp4",
        "-f lavfi -i testsrc2=s=320x180:r=25:d=8 -c:v libx264 -preset ultrafast -g 25 -movflags +faststart",
    );
    let bytes = std::fs::read(&film).unwrap();
    let check = |source: PathBuf, program: &Program, expected: &str| {
        let error = run(&job(&scratch, source, &[90]), program).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!scratch.path("library/film").exists());
    };
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(scratch.path(name), bytes).unwrap();
        scratch.path(name)
    };
    check(write("cut.mp4", &bytes[..bytes.len() / 2]), &worker(), "cut off");
    check(
        write("head.mp4", &bytes[..600]),
        &worker(),
        "the source can not be read",
    );
    check(
        write("noise.mp4", &vec![0x5a; 100_000]),
        &worker(),
        "the source can not be read",
    );
    check(write("empty.mp4", b""), &worker(), "the source can not be read");
    // A worker that is killed again and again, and one that is killed once.
    let killed = |script: &str| Program {
        path: "/bin/sh".into(),
        arguments: vec![
            "-c".into(),
            script.replace("WORKER", &worker().path.to_string_lossy()).into(),
        ],
    };
    let order = r#"order=$(cat); case $order in *Video*)"#;
    check(
        film.clone(),
        &killed(&format!("{order} kill -9 $$;; esac; printf %s \"$order\" | WORKER")),
        "signal: 9",
    );
    let once = format!(
        "{order} mkdir {} 2>/dev/null && kill -9 $$;; esac; printf %s \"$order\" | WORKER",
        scratch.path("killed").display()
    );
    let made = run(&job(&scratch, film, &[90]), &killed(&once)).unwrap();
    assert!(scratch.path("killed").exists());
    assert_eq!(frame_times(&made.folder.join("v1.mp4")).len(), 200);
}
