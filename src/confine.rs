//! Takes from this process what its work does not need: all files but a few, all networks, all other programs.
//!
//! By Landlock and seccomp, as far as the kernel has them. A decoder that is taken over by the film it decodes finds that
//! film to read, one folder to write, and nobody to talk to.

use std::path::Path;

use anyhow::Context;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    path_beneath_rules,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Where programs, their plugins and their settings lie, and what tells of processors.
const READABLE: [&str; 9] = [
    "/usr",
    "/lib",
    "/lib64",
    "/etc",
    "/opt",
    "/proc",
    "/sys/devices",
    "/sys/dev",
    "/dev/urandom",
];
/// Devices that encode; nothing is written there but to them.
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/dri",
    "/dev/nvidia0",
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-modeset",
    "/dev/video11",
    "/dev/video12",
];
/// What no decoder asks the kernel for.
const REFUSED: [libc::c_long; 11] = [
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_io_uring_setup,
    libc::SYS_mount,
];

/// From now on `readable` can be read and `writable`, a folder, be written, besides what every decoder needs. Threads
/// that run already keep what they have: call it while there are none.
pub fn confine(readable: &[&Path], writable: Option<&Path>) -> anyhow::Result<()> {
    let abi = ABI::V5;
    // Whoever reads what the worker leaves behind is not confined: no links to elsewhere, nothing that never ends.
    let not_made =
        AccessFs::MakeSym | AccessFs::MakeFifo | AccessFs::MakeSock | AccessFs::MakeChar | AccessFs::MakeBlock;
    let read = READABLE.iter().map(Path::new).chain(readable.iter().copied());
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(read, AccessFs::from_read(abi)))?
        .add_rules(path_beneath_rules(DEVICES, AccessFs::from_all(abi)))?
        .add_rules(path_beneath_rules(writable, AccessFs::from_all(abi) & !not_made))?
        .restrict_self()
        .context("landlock")?;
    if status.ruleset == RulesetStatus::NotEnforced {
        tracing::warn!("this kernel has no Landlock: the worker can read and write what its user can");
    }
    let rules = REFUSED.into_iter().map(|number| (number, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into().context("seccomp")?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture).context("seccomp")?;
    let program: BpfProgram = filter.try_into().context("seccomp")?;
    seccompiler::apply_filter_all_threads(&program).context("seccomp")
}
