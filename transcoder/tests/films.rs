//! Whole jobs over films that ffmpeg makes, judged by ffprobe and ffmpeg.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can not go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use transcoder::child::Program;
use transcoder::encoder::{ENCODERS, Preference, Registry};
use transcoder::ladder::{Ladder, Preset, Step, VideoCodec};
use transcoder::machine::{self, Found};
use transcoder::vod::{self, Context, JobError, Known, Published, TranscodeJob, Unfinished};

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

/// How near the pictures of `made` are to those of the ffmpeg filter `source`, in decibels (PSNR of luma and chroma).
fn nearness(made: &Path, source: &str) -> f64 {
    let said = Command::new("ffmpeg")
        .args(["-v", "info", "-nostdin", "-i"])
        .arg(made)
        .args(["-f", "lavfi", "-i", source])
        .args([
            "-lavfi",
            "[0]settb=1/25,setpts=N[a];[1]settb=1/25,setpts=N[b];[a][b]psnr",
            "-f",
            "null",
            "-",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    let average = text
        .rsplit_once("average:")
        .and_then(|(_, rest)| rest.split_whitespace().next());
    average
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{text}"))
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

#[test]
fn fields_become_the_pictures_they_were_taken_from() {
    let Some(scratch) = Scratch::new("interlaced") else {
        return;
    };
    let check = |width: u32, height: u32, (interleave, first): (&str, &str), seconds: u32| {
        let pictures = format!("testsrc2=s={width}x{height}:r=50:d={seconds},format=yuv420p");
        let source = scratch.film(
            "film.mp4",
            &format!(
                "-f lavfi -i {pictures} -vf tinterlace={interleave},setfield={first} -c:v libx264 -preset ultrafast -qp 10 -g 25 \
                 -flags +ildct+ilme -x264opts {first}=1"
            ),
        );
        let mut job = job(&scratch, source, &[height]);
        job.chunk_duration_ms = Some(2_000);
        for step in &mut job.ladder.steps {
            (step.bitrate_kbps, step.quality) = (20_000, Some(10));
        }
        let made = run(&job, &worker()).unwrap().folder.join("v1.mp4");
        let expected: Vec<f64> = (0..seconds * 25).map(|frame| f64::from(frame * 4) / 100.0).collect();
        assert_eq!(frame_times(&made), expected, "{width}x{height} {first}");
        let nearness = nearness(&made, &format!("{pictures},select=not(mod(n\\,2))"));
        // Lines between those of a field are guessed; noise has less than 10.
        assert!(nearness > 25.0, "{width}x{height} {first}: {nearness} dB");
        eprintln!("{width}x{height} {first}: {nearness} dB");
        std::fs::remove_dir_all(job.library).unwrap();
    };
    let (top, bottom) = (("interleave_top", "tff"), ("interleave_bottom", "bff"));
    // Rows that decoders make longer than pictures are wide, and one that they do not.
    check(720, 576, top, 1);
    check(720, 576, bottom, 1);
    check(360, 288, top, 5);
    check(360, 288, bottom, 5);
    check(640, 480, top, 1);
}

#[test]
fn av1_is_published_and_decoded_by_others() {
    let Some(scratch) = Scratch::new("av1") else { return };
    let pictures = "testsrc2=s=128x72:r=25:d=5,format=yuv420p";
    let source = scratch.film(
        "film.mp4",
        &format!("-f lavfi -i {pictures} -c:v libx264 -preset ultrafast -qp 10"),
    );
    let mut job = job(&scratch, source, &[72]);
    job.ladder.steps[0].codec = Some(VideoCodec::Av1);
    job.chunk_duration_ms = Some(2_000);
    let made = run(&job, &worker()).unwrap().folder.join("v1.mp4");
    assert_eq!(
        ffprobe(&made, "-show_entries stream=codec_name,codec_tag_string,width,height"),
        ["av1,av01,128,72"]
    );
    assert_eq!(frame_times(&made).len(), 125);
    // What ffprobe has for AV1 decodes all frames, asked for key frames or not.
    let packets = ffprobe(&made, "-show_entries packet=pts_time,flags");
    let keys: Vec<&String> = packets.iter().filter(|packet| packet.contains(",K")).collect();
    assert_eq!(keys, ["0.000000,K_", "2.000000,K_", "4.000000,K_"]);
    let nearness = nearness(&made, pictures);
    assert!(nearness > 25.0, "{nearness} dB");
}

#[test]
fn what_the_processor_encodes_can_be_published() {
    let never = AtomicBool::new(false);
    let found = Found::ask(&worker(), &never).unwrap();
    assert!(found.has("x264enc") && found.has("av1enc"), "{found:?}");
    for encoder in ENCODERS.iter().filter(|encoder| found.open(encoder.factory).is_ok()) {
        let (count, _) =
            machine::self_test(encoder, &worker(), &never).unwrap_or_else(|error| panic!("{encoder:?}: {error}"));
        assert_eq!(count, 30, "{encoder:?}");
    }
}

#[test]
fn what_is_broken_off_goes_on_and_what_is_of_no_use_goes() {
    let Some(scratch) = Scratch::new("broken-off") else {
        return;
    };
    let film = scratch.film(
        "film.mp4",
        "-f lavfi -i testsrc2=s=320x180:r=25:d=8 -c:v libx264 -preset ultrafast -g 25",
    );
    let mut job = job(&scratch, film, &[90]);
    (job.chunk_duration_ms, job.worker_count) = (Some(2_000), Some(1));
    // Writes down which chunks are begun, and does `then` instead of the third.
    let (begun, said) = (scratch.path("begun"), scratch.path("said"));
    let program = |then: &str| {
        Program {
        path: "/bin/sh".into(),
        arguments: vec![
            "-c".into(),
            format!(
                r#"order=$(cat); case $order in *Video*) echo x >>{begun}; [ $(wc -l <{begun}) != 3 ] || {{ {then}; }};; esac
                   printf '%s\n' "$order" | {worker} 2>>{said}"#,
                begun = begun.display(),
                said = said.display(),
                worker = worker().path.display(),
            )
            .into(),
        ],
    }
    };
    let cancel = AtomicBool::new(false);
    let run = |job: &TranscodeJob, program: &Program| {
        let _ = std::fs::remove_file(&begun);
        cancel.store(false, Ordering::Relaxed);
        vod::run_or_keep(
            job,
            &mut Context {
                program,
                cancel: &cancel,
                progress: &mut |progress| {
                    let waits = std::fs::read_to_string(scratch.path("waits")).is_ok();
                    cancel.fetch_or(waits && progress.pieces.0 == 2, Ordering::Relaxed);
                },
                add: &mut |_| Ok(()),
            },
        )
    };
    let begun_count = || std::fs::read_to_string(&begun).unwrap().lines().count();
    let staging = scratch.path("library/.headwater-transcode");
    let kept = |done: Result<Published, Unfinished>, expected: &str| {
        let Unfinished { error, kept } = done.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        let folder = kept.unwrap_or_else(|| panic!("nothing is kept: {error}"));
        assert_eq!(folder.parent().unwrap(), staging);
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["c00000", "c00001", "lock", "target"]);
    };
    let full = "echo '{\"Failed\":\"Machine\"}'; echo 'No space left on device' >&2; exit 1";
    kept(run(&job, &program(full)), "No space left");
    assert_eq!(begun_count(), 3);
    let made = run(&job, &program("true")).unwrap();
    assert_eq!(begun_count(), 2, "finished chunks are not made again");
    assert_eq!(frame_times(&made.folder.join("v1.mp4")).len(), 200);
    assert!(!staging.exists());
    // Pictures before and after a chunk are dropped, and nobody complains of that.
    assert_eq!(std::fs::read_to_string(&said).unwrap(), "");
    std::fs::remove_dir_all(&job.library).unwrap();

    kept(
        run(
            &job,
            &program(&format!("touch {}; sleep 100", scratch.path("waits").display())),
        ),
        "cancelled",
    );
    std::fs::remove_file(scratch.path("waits")).unwrap();
    // The same chunks are at hand, and one is found to be damaged for good.
    let Unfinished { error, kept } = run(
        &job,
        &Program {
            path: "/bin/sh".into(),
            arguments: vec![
                "-c".into(),
                format!(
                    r#"order=$(cat); case $order in *Video*) echo 'it is damaged' >&2; exit 1;; esac; printf '%s\n' "$order" | {}"#,
                    worker().path.display()
                )
                .into(),
            ],
        },
    )
    .unwrap_err();
    assert!(error.to_string().contains("it is damaged"), "{error}");
    assert_eq!(kept, None);
    assert!(!staging.exists());
}
