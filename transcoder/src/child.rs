//! Runs one order in a process of its own and listens to it. Whatever happens to that process is an error here.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::input::{IndexedTrack, write_order};
use crate::order::{Fault, Order, Said};
use crate::patience::Patience;

/// What is started: the program and its first arguments, which make a worker of it.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// `worker transcode`.
    pub arguments: Vec<OsString>,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The process could not be started or told what to do.
    #[error("worker: {0}")]
    Start(#[from] std::io::Error),
    /// It ended with an error, or a signal ended it.
    #[error("{}", said_of(.status, .complaint))]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// Its last words.
        complaint: String,
        /// Whose fault it is, where it said so.
        fault: Option<Fault>,
    },
    /// It said nothing new for so long, and was ended.
    #[error("the worker has not moved for {} s", .0.as_secs())]
    Stuck(Duration),
    /// What it said makes no sense.
    #[error("the worker said what is not understood: {0}")]
    Garbled(String),
    /// Whoever asked no longer wants it.
    #[error("cancelled")]
    Cancelled,
}

fn said_of(status: &ExitStatus, complaint: &str) -> String {
    let complaint = complaint.trim();
    match complaint.is_empty() {
        true => format!("the worker ended with {status}"),
        false if status.code().is_some() => complaint.to_owned(),
        false => format!("the worker ended with {status}: {complaint}"),
    }
}

/// The most of a worker's complaint that is kept.
const COMPLAINT_SIZE_BYTES_MAX: usize = 2_000;
/// The longest line a worker says: a source with many streams.
const LINE_SIZE_BYTES_MAX: u64 = 1 << 20;
/// A worker that says nothing new for this long has hung; it looks at itself too, a little sooner.
const STUCK_AFTER: Duration = Duration::from_secs(180);
/// How often a running worker is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Ends a child, and what it started itself, however its user leaves.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Its group bears its number until it has been waited for; afterwards another's might.
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            if let Err(error) = kill_process_group(Pid::from_child(&self.0), Signal::KILL) {
                tracing::warn!("a worker's processes were not ended: {error}");
            }
            let _ = self.0.wait();
        }
    }
}

/// Carries out `order` on `tracks`, where it names tracks; what the worker says on its way goes to `hear`, its last word
/// comes back.
pub fn run(
    program: &Program,
    order: &Order,
    tracks: &[IndexedTrack],
    cancel: &AtomicBool,
    mut hear: impl FnMut(Said),
) -> Result<Said, ChildError> {
    let mut child = Ended(
        Command::new(&program.path)
            .args(&program.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A terminal's Ctrl-C is for whoever started the worker, who then ends it.
            .process_group(0)
            .spawn()?,
    );
    let complaint = child.0.stderr.take().map(keep_end);
    // A worker that died already says why by its exit code.
    let sent = child
        .0
        .stdin
        .take()
        .map(|mut stdin| write_order(order, tracks, &mut stdin));
    let (said, hearing) = sync_channel::<Result<Said, String>>(64);
    let speaking = child.0.stdout.take().map(|stdout| {
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout);
            let mut line = Vec::new();
            while let Ok(size @ 1..) = (&mut lines).take(LINE_SIZE_BYTES_MAX).read_until(b'\n', &mut line) {
                let parsed = serde_json::from_slice(&line).map_err(|_| {
                    let start = line.get(..size.min(100)).unwrap_or_default();
                    String::from_utf8_lossy(start).into_owned()
                });
                line.clear();
                if said.send(parsed).is_err() {
                    break;
                }
            }
        })
    });
    let mut last = None;
    let mut patience = Patience::new(Instant::now());
    let mut seen = None;
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(ChildError::Cancelled);
        }
        match hearing.recv_timeout(POLL) {
            Ok(Ok(said)) => {
                if let Said::Progress(progress) = &said {
                    if seen != Some(*progress) {
                        seen = Some(*progress);
                        patience.renew(Instant::now());
                    }
                    hear(said);
                } else {
                    last = Some(said);
                }
            }
            Ok(Err(line)) => return Err(ChildError::Garbled(line)),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if patience.look(Instant::now()) > STUCK_AFTER {
            return Err(ChildError::Stuck(STUCK_AFTER));
        }
    }
    // Its output has ended, so it is about to.
    patience.renew(Instant::now());
    let status = loop {
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
        if patience.look(Instant::now()) > STUCK_AFTER {
            return Err(ChildError::Stuck(STUCK_AFTER));
        }
        std::thread::sleep(POLL);
    };
    if let Some(speaking) = speaking {
        let _ = speaking.join();
    }
    let complaint = complaint.and_then(|thread| thread.join().ok()).unwrap_or_default();
    if !status.success() {
        let fault = match last {
            Some(Said::Failed(fault)) => Some(fault),
            _ => None,
        };
        return Err(ChildError::Failed {
            status,
            complaint,
            fault,
        });
    }
    // Whoever knew what to say without having heard all of the order is taken at its word.
    drop(sent);
    last.ok_or_else(|| ChildError::Garbled("nothing".into()))
}

/// Reads all that a worker complains of and keeps the end of it, where the reason stands.
fn keep_end(mut stderr: std::process::ChildStderr) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(size @ 1..) = stderr.read(&mut buffer) {
            kept.extend_from_slice(buffer.get(..size).unwrap_or_default());
            let excess = kept.len().saturating_sub(COMPLAINT_SIZE_BYTES_MAX);
            kept.drain(..excess);
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Limits, Progress, Work};

    /// Has a shell play the worker.
    fn play(script: &str, cancel: bool) -> (Result<Said, ChildError>, Vec<u64>) {
        let program = Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
        };
        let order = Order {
            input: None,
            folder: None,
            limits: Limits {
                memory_bytes: 0,
                processor_s: 0,
                file_size_bytes: 0,
            },
            work: Work::Probe,
        };
        let mut heard = Vec::new();
        let done = run(&program, &order, &[], &AtomicBool::new(cancel), |said| {
            if let Said::Progress(Progress { time_ms, .. }) = said {
                heard.push(time_ms);
            }
        });
        (done, heard)
    }

    #[test]
    fn whatever_becomes_of_a_worker_is_said() {
        let (done, heard) = play(
            r#"cat >/dev/null; echo '{"Progress":{"time_ms":5,"taken_ms":9,"frame_count":1}}'; echo '{"Tested":[30,7]}'"#,
            false,
        );
        assert!(matches!(done, Ok(Said::Tested(30, 7))), "{done:?}");
        assert_eq!(heard, [5]);
        let check = |script: &str, expected: &str| {
            let error = play(script, false).0.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("echo 'it is broken' >&2; exit 1", "it is broken");
        check("kill -9 $$", "signal: 9");
        let full = r#"echo '{"Failed":"Machine"}'; echo 'No space left' >&2; exit 1"#;
        let error = play(full, false).0.unwrap_err();
        let fault = Some(Fault::Machine);
        assert!(
            matches!(&error, ChildError::Failed { fault: said, .. } if *said == fault),
            "{error:?}"
        );
        assert_eq!(error.to_string(), "No space left");
        check("exit 3", "the worker ended with exit status: 3");
        check("echo hello", "not understood: hello");
        check("true", "not understood: nothing");
        let begun = Instant::now();
        assert!(matches!(play("sleep 100", true).0, Err(ChildError::Cancelled)));
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_a_worker_started_ends_with_it() {
        let (done, _) = play("sleep 100 & echo $!,; wait", false);
        let Err(ChildError::Garbled(line)) = done else {
            panic!("{done:?}");
        };
        let pid: u32 = line.trim_end().trim_end_matches(',').parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        // Dead, it stays in the list until whoever inherited it has waited for it.
        while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "{pid} goes on");
            std::thread::yield_now();
        }
    }
}
