//! Serving threads on cores of their own; those who wait for disks stay where the system wants them.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps this thread on the `number`th core it may use (around again when there are fewer). Helper threads of its
/// runtime keep all cores: they would inherit the one, and compete with the thread they are there to relieve.
pub fn pin_thread(number: usize, runtime: &mut tokio::runtime::Builder) {
    let pinned = sched_getaffinity(None).and_then(|all| {
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).collect();
        let Some(core) = cores.get(number % cores.len().max(1)) else {
            return Ok(());
        };
        let mut one = CpuSet::new();
        one.set(*core);
        sched_setaffinity(None, &one)?;
        runtime.on_thread_start(move || {
            if let Err(error) = sched_setaffinity(None, &all) {
                tracing::debug!(%error, "a helper thread stays on its parent's core");
            }
        });
        Ok(())
    });
    if let Err(error) = pinned {
        tracing::warn!(%error, "serving threads are not pinned");
    }
}
