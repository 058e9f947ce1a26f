//! Real media, and tools that read what we write.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Path of a file of the media folder, if it is there.
pub(crate) fn media(file: &str) -> Option<PathBuf> {
    let root = std::env::var_os("HEADWATER_MEDIA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/media")),
        PathBuf::from,
    );
    let path = root.join(file);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// Output and messages of a tool fed with `input`; `None` when it is not installed.
pub(crate) fn run(tool: &str, arguments: &[&str], input: &[u8]) -> Option<(String, String)> {
    use std::io::Write;
    let child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("SKIPPED: {tool} is not installed");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    Some((
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}
