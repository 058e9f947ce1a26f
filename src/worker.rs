//! `headwater worker`: one job in a process of its own, with limits of its own.
//!
//! Decoders crash, and grow, on damaged input. Whoever started the job sees an exit code and goes on.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, Signal};
#[cfg(feature = "transcode")]
use transcoder::input::Input;

use crate::cli::{Job, WorkerArguments};
#[cfg(feature = "transcode")]
use crate::confine::confine;

/// Longest order that is read.
const ORDER_SIZE_BYTES_MAX: u64 = 1 << 20;
/// What a job may use up before the system ends it.
struct Limits {
    /// Address space: a decoder's threads reserve far more than they use.
    memory_bytes: u64,
    /// Processor time of all threads together.
    processor_s: u64,
    /// The largest file written.
    file_size_bytes: u64,
}

/// For thumbnails: a day of film takes half an hour, and a sheet is never larger than that.
const THUMBNAILS: Limits = Limits {
    memory_bytes: 8 << 30,
    processor_s: 2 * 3600,
    file_size_bytes: 64 << 20,
};

/// Reads the order from standard input, does the job, ends.
pub fn run(arguments: WorkerArguments) -> anyhow::Result<ExitCode> {
    match arguments.job {
        Job::Thumbnails => {
            let mut order = String::new();
            std::io::stdin()
                .take(ORDER_SIZE_BYTES_MAX)
                .read_to_string(&mut order)
                .context("order")?;
            limit(&THUMBNAILS)?;
            thumbnails(&order)
        }
        Job::Transcode => transcode(),
    }
}

/// Nothing the job does may outlive its parent, fill memory or disks, or leave a core dump.
fn limit(limits: &Limits) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("death signal")?;
    for (resource, most) in [
        (Resource::As, limits.memory_bytes),
        (Resource::Cpu, limits.processor_s),
        (Resource::Fsize, limits.file_size_bytes),
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
fn transcode() -> anyhow::Result<ExitCode> {
    let (order, tracks) = transcoder::input::read_order(&mut std::io::stdin().lock()).context("order")?;
    limit(&Limits {
        memory_bytes: order.limits.memory_bytes,
        processor_s: order.limits.processor_s,
        file_size_bytes: order.limits.file_size_bytes,
    })?;
    // What GStreamer writes of itself, it writes at its start.
    transcoder::worker::prepare()?;
    let readable = order.input.as_ref().map(Input::files).unwrap_or_default();
    confine(&readable, order.folder.as_deref())?;
    match transcoder::worker::run(&order, &tracks, &mut std::io::stdout()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => bail!(error),
    }
}

#[cfg(not(feature = "transcode"))]
fn transcode() -> anyhow::Result<ExitCode> {
    bail!("this headwater was built without the feature transcode");
}

#[cfg(feature = "transcode")]
fn thumbnails(order: &str) -> anyhow::Result<ExitCode> {
    let order: transcoder::thumbnails::Order = serde_json::from_str(order).context("order")?;
    transcoder::worker::prepare()?;
    confine(&[&order.video], Some(&order.folder))?;
    match transcoder::thumbnails::make(&order) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => bail!(error),
    }
}

#[cfg(not(feature = "transcode"))]
fn thumbnails(_order: &str) -> anyhow::Result<ExitCode> {
    bail!("this headwater was built without the feature transcode");
}
