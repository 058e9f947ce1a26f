//! What tests of a running origin share: films that ffmpeg makes once, and the origin's thread.
#![allow(clippy::unwrap_used, missing_docs)]
#![allow(dead_code, reason = "each test takes what it needs")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use origin::{Addresses, Inherited, Origin};
use tokio::sync::watch;

/// Arguments that encode a small picture at a bit rate that makes segments of megabytes.
pub const LARGE_SEGMENTS: [&str; 8] = ["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "12M", "-g", "50"];
/// Two seconds of each track at a time: one range a segment.
pub const FRAGMENTED: [&str; 2] = ["-movflags", "+frag_keyframe+empty_moov+default_base_moof"];

/// Noise, which takes the bits that it is given, as ffmpeg's input.
pub fn noise(seconds: u32) -> String {
    format!("testsrc2=size=640x360:rate=25:duration={seconds},noise=alls=60:allf=t")
}

/// A tone, as ffmpeg's input.
pub fn tone(seconds: u32) -> String {
    format!("sine=frequency=440:sample_rate=48000:duration={seconds}")
}

/// A film so long that its tables are left as they lie until media is asked for: 35,000 small pictures, B-frames among
/// them, and 65,625 frames of sound, in turn.
pub fn long_film() -> Option<&'static Path> {
    static FILM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = FILM.get_or_init(|| {
        let (pictures, sound) = ("testsrc2=size=128x72:rate=25:duration=14", tone(14));
        let input = ["-f", "lavfi", "-i", pictures, "-f", "lavfi", "-i", &sound];
        let coding = "-c:v libx264 -preset ultrafast -bf 2 -g 50 -c:a aac -b:a 32k";
        let coding: Vec<&str> = coding.split(' ').collect();
        let short = film("long-part.mp4", &[&input[..], &coding].concat())?;
        let again = ["-stream_loop", "99", "-i", short.to_str()?];
        film(
            "long.mp4",
            &[&again[..], &["-c", "copy", "-movflags", "+faststart"]].concat(),
        )
    });
    made.as_deref()
}

/// What ffmpeg makes by `arguments`, as a file kept for the next run; `None`, loudly, where it can not.
pub fn film(name: &str, arguments: &[&str]) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if path.exists() {
        return Some(path);
    }
    let part = path.with_extension(format!("{}.part.mp4", std::process::id()));
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(arguments)
        .arg(&part)
        .status();
    if !done.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: ffmpeg is not installed or can not encode H.264 and AAC");
        return None;
    }
    std::fs::rename(part, &path).unwrap();
    Some(path)
}

/// An origin that serves in a thread of its own, until it is dropped.
pub struct Running {
    pub addresses: Addresses,
    pub stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    pub fn start(origin: &Arc<Origin>, inherited: Option<Inherited>) -> Running {
        let (stop, stopped) = watch::channel(false);
        let (tell, told) = mpsc::channel();
        let origin = origin.clone();
        let thread = std::thread::spawn(move || {
            let started = |addresses| tell.send(addresses).unwrap();
            origin.serve_at(inherited, stopped, started).unwrap();
        });
        Running {
            addresses: told.recv_timeout(Duration::from_secs(10)).unwrap(),
            stop,
            thread: Some(thread),
        }
    }

    /// Tells it to stop, and waits until it has.
    pub fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
