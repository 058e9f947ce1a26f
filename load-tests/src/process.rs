//! What a process holds, as the kernel tells it.

use anyhow::Context;

/// Memory and descriptors of a process.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Memory of its own that is in RAM: without shared pages of files.
    pub memory_bytes: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Held {
    /// What process `pid` holds now.
    pub fn by(pid: u32) -> anyhow::Result<Held> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib: u64 = line
            .and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
            .context("RssAnon")?;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).context("its descriptors")?;
        Ok(Held {
            memory_bytes: kib << 10,
            descriptors: descriptors.count() as u64,
        })
    }
}
