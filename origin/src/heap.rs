//! What the system's allocator does with memory that is freed.
#![allow(unsafe_code)]

/// Blocks of at least this size are mapped by themselves, and go back to the system when they are freed: buffers of parts are
/// as large.
const MAPPED_SIZE_BYTES_MIN: libc::c_int = 128 << 10;
/// Of smaller blocks so much stays for the next, instead of going back and being asked for again with every answer.
const KEPT_SIZE_BYTES_MAX: libc::c_int = 32 << 20;

/// Has large blocks go back to the system when they are freed. Left alone, glibc raises its bound with every larger block
/// that it sees, up to 32 MiB, and keeps what a burst took.
pub fn give_back_what_is_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets two numbers of the allocator, behind its lock; no pointer is given.
    let set = unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_SIZE_BYTES_MIN) == 1
            && libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_SIZE_BYTES_MAX) == 1
    };
    #[cfg(target_env = "gnu")]
    if !set {
        tracing::warn!("the allocator can not be told to give memory back");
    }
}
