//! Printing: what commands say on standard output and beside it, and what becomes of that when nobody takes it.

use std::fmt::Arguments;
use std::io::{ErrorKind, Result, StdoutLock, Write};

/// Standard output did not take what was printed.
#[derive(Debug, thiserror::Error)]
#[error("standard output: {0}")]
struct PrintError(#[source] std::io::Error);

/// Standard output. What goes wrong there says so, and is told from what goes wrong elsewhere.
pub struct Output(StdoutLock<'static>);

/// Where commands print. Unlike `println!`, it can fail without a panic.
pub fn out() -> Output {
    Output(std::io::stdout().lock())
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush().map_err(named)
    }
}

fn named(error: std::io::Error) -> std::io::Error {
    match error.kind() {
        // Whoever writes tries this one again.
        ErrorKind::Interrupted => error,
        kind => std::io::Error::new(kind, PrintError(error)),
    }
}

/// Whether `error` is that whoever read our output has seen enough (`headwater inspect … | head`). A connection that broke
/// is none of that.
pub fn was_seen_enough(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.any(|io| {
        let printing = io.get_ref().is_some_and(|inner| inner.is::<PrintError>());
        printing && io.kind() == ErrorKind::BrokenPipe
    })
}

/// A remark for people, on standard error. Where that takes nothing, there is nowhere left to say so.
pub fn remark(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_broke_is_told_from_a_connection() {
        let broken = || std::io::Error::from(ErrorKind::BrokenPipe);
        let check = |error: std::io::Error, expected: bool| {
            let error = anyhow::Error::new(error).context("somewhere");
            assert_eq!(was_seen_enough(&error), expected, "{error:#}");
        };
        check(named(broken()), true);
        check(broken(), false);
        check(named(ErrorKind::StorageFull.into()), false);
    }
}
