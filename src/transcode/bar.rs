//! The progress of a job on a terminal: a line a rendition, drawn over and over; elsewhere a line every few seconds.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use transcoder::vod::JobProgress;

/// How often lines are drawn on a terminal, and written elsewhere.
const DRAW_EVERY: Duration = Duration::from_millis(200);
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// Characters of the bar itself.
const WIDTH: usize = 24;

/// A bar on standard error.
pub struct Bar {
    is_terminal: bool,
    shown: Option<Instant>,
    line_count: usize,
}

impl Bar {
    /// Nothing is drawn yet.
    pub fn new() -> Bar {
        Bar {
            is_terminal: std::io::stderr().is_terminal(),
            shown: None,
            line_count: 0,
        }
    }

    /// Draws `progress`, unless it has just drawn.
    pub fn show(&mut self, progress: &JobProgress) {
        let every = if self.is_terminal { DRAW_EVERY } else { WRITE_EVERY };
        if self.shown.is_some_and(|shown| shown.elapsed() < every) {
            return;
        }
        self.shown = Some(Instant::now());
        let mut out = std::io::stderr().lock();
        let state = state(progress);
        // Whoever no longer reads it does not miss it.
        let _ = match self.is_terminal {
            false => writeln!(out, "{state}"),
            true => {
                let mut text = match self.line_count {
                    0 => String::new(),
                    count => format!("\x1b[{count}A"),
                };
                for name in &progress.renditions {
                    text.push_str(&format!("\r\x1b[K{name:<14} {} {state}\n", drawn(progress)));
                }
                self.line_count = progress.renditions.len();
                out.write_all(text.as_bytes())
            }
        };
    }

    /// What comes next begins on a line of its own.
    pub fn end(&mut self) {
        self.line_count = 0;
    }
}

fn drawn(progress: &JobProgress) -> String {
    let full = progress.done_permille.unwrap_or(0) as usize * WIDTH / 1_000;
    format!(
        "[{}{}]",
        "=".repeat(full.min(WIDTH)),
        " ".repeat(WIDTH - full.min(WIDTH))
    )
}

/// Percent, pictures a second, speed, time left.
fn state(progress: &JobProgress) -> String {
    let milliseconds = progress.elapsed.as_millis().max(1) as u64;
    let hundredths = progress.coded_ms * 100 / milliseconds;
    let rate = progress.frame_count * 1_000 / milliseconds;
    let pace = format!("{rate} fps  {}.{:02}x", hundredths / 100, hundredths % 100);
    let Some(permille) = progress.done_permille else {
        return format!("{} s coded  {pace}", progress.coded_ms / 1_000);
    };
    let left = match permille {
        0 => "?".to_owned(),
        permille => {
            let seconds = milliseconds * u64::from(1_000 - permille.min(1_000)) / u64::from(permille) / 1_000;
            format!("{}:{:02}", seconds / 60, seconds % 60)
        }
    };
    format!("{:>3}.{} %  {pace}  {left} left", permille / 10, permille % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_said_in_numbers() {
        let check = |done_permille, coded_ms, elapsed_ms, frame_count, expected: &str| {
            let progress = JobProgress {
                renditions: vec!["720p AVC".into()],
                done_permille,
                coded_ms,
                duration_ms: None,
                frame_count,
                pieces: (0, 1),
                elapsed: Duration::from_millis(elapsed_ms),
            };
            assert_eq!(state(&progress), expected);
        };
        check(Some(250), 30_000, 20_000, 900, " 25.0 %  45 fps  1.50x  1:00 left");
        check(Some(0), 0, 0, 0, "  0.0 %  0 fps  0.00x  ? left");
        check(Some(1_000), 60_000, 60_000, 1_500, "100.0 %  25 fps  1.00x  0:00 left");
        check(None, 5_500, 11_000, 110, "5 s coded  10 fps  0.50x");
    }
}
