//! `headwater worker`: one job in a process of its own, with limits of its own.
//!
//! Decoders crash, and grow, on damaged input. Whoever started the job sees an exit code and goes on.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, Signal};

use crate::cli::{Job, WorkerArguments};

/// Longest order that is read.
const ORDER_SIZE_BYTES_MAX: u64 = 1 << 20;
/// Address space: a decoder's threads reserve far more than they use.
const ADDRESS_SPACE_SIZE_BYTES_MAX: u64 = 8 << 30;
/// Processor time in seconds, for all threads together: a day of film takes half an hour.
const PROCESSOR_TIME_S_MAX: u64 = 2 * 3600;
/// The largest file written; a sheet is never larger.
const FILE_SIZE_BYTES_MAX: u64 = 64 << 20;

/// Reads the order from standard input, does the job, ends.
pub fn run(arguments: WorkerArguments) -> anyhow::Result<ExitCode> {
    limit()?;
    let mut order = String::new();
    std::io::stdin()
        .take(ORDER_SIZE_BYTES_MAX)
        .read_to_string(&mut order)
        .context("order")?;
    match arguments.job {
        Job::Thumbnails => thumbnails(&order),
    }
}

/// Nothing the job does may outlive its parent, fill memory or disks, or leave a core dump.
fn limit() -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("death signal")?;
    for (resource, most) in [
        (Resource::As, ADDRESS_SPACE_SIZE_BYTES_MAX),
        (Resource::Cpu, PROCESSOR_TIME_S_MAX),
        (Resource::Fsize, FILE_SIZE_BYTES_MAX),
        (Resource::Core, 0),
    ] {
        let hard = rustix::process::getrlimit(resource).maximum;
        let most = hard.map_or(most, |hard| hard.min(most));
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        rustix::process::setrlimit(resource, limit).with_context(|| format!("limit of {resource:?}"))?;
    }
    Ok(())
}

#[cfg(feature = "transcode")]
fn thumbnails(order: &str) -> anyhow::Result<ExitCode> {
    let order = serde_json::from_str(order).context("order")?;
    match transcoder::thumbnails::make(&order) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => bail!(error),
    }
}

#[cfg(not(feature = "transcode"))]
fn thumbnails(_order: &str) -> anyhow::Result<ExitCode> {
    bail!("this headwater was built without the feature transcode");
}
